//! What the server's edge observes: connections, calls, streams, and who was turned away.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::table;

/// Why somebody was turned away at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// Without a key, or with a wrong one.
    Unauthenticated,
    /// With a key that may not do that, or not from there.
    Forbidden,
    /// Too often.
    RateLimited,
}

/// In which of its languages the server was spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// HTTP with JSON, streams and WebSockets too.
    Http,
    /// gRPC.
    Grpc,
}

/// How a call was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// With what was asked for.
    Ok,
    /// With a no, which is the caller's to mend: wrong, forbidden, too often, not enough funds.
    Refused,
    /// Not now: too much at once, or the server is starting or stopping.
    PushedBack,
    /// Not at all, for reasons of the server.
    Failed,
}

impl Answered {
    /// What a status of HTTP says.
    pub fn http(status: u16) -> Self {
        match status {
            ..400 => Self::Ok,
            503 => Self::PushedBack,
            500.. => Self::Failed,
            _ => Self::Refused,
        }
    }

    /// What a status of gRPC says, by its number.
    pub fn grpc(code: u8) -> Self {
        match code {
            0 => Self::Ok,
            // Unavailable, and resource exhausted: the server is full, or will be back.
            8 | 14 => Self::PushedBack,
            // Unknown, internal, unimplemented, data loss.
            2 | 12 | 13 | 15 => Self::Failed,
            _ => Self::Refused,
        }
    }
}

/// What connections and the door observe.
pub struct EdgeMetrics {
    connections: Gauge,
    refused: Counter,
    handshakes_failed: Counter,
    turned_away: [Counter; table::TURNED_AWAY_REASONS.len()],
    /// By face, then by answer.
    answers: [[Counter; table::ANSWERS.len()]; table::FACES.len()],
    seconds: [Histogram; table::FACES.len()],
}

/// A connection, until it is dropped.
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// What a stream is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Everything durable.
    Events,
    /// Books and trades.
    MarketData,
}

/// What streams observe.
#[derive(Clone)]
pub struct StreamMetrics {
    open: Gauge,
    messages: Counter,
    dropped: Counter,
}

/// A stream, until it is dropped.
pub struct OpenStream(StreamMetrics);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.decrement(1.0);
    }
}

impl StreamMetrics {
    /// Looks up the handles.
    pub fn new(kind: StreamKind) -> Self {
        let kind = table::STREAM_KINDS[kind as usize];
        Self {
            open: gauge!(table::STREAMS.name, "kind" => kind),
            messages: counter!(table::STREAM_MESSAGES.name, "kind" => kind),
            dropped: counter!(table::STREAMS_DROPPED.name, "kind" => kind),
        }
    }

    /// A stream is open as long as that is kept.
    pub fn stream(&self) -> OpenStream {
        self.open.increment(1.0);
        OpenStream(self.clone())
    }
}

impl OpenStream {
    /// So many messages went out.
    pub fn sent(&self, messages: u64) {
        self.0.messages.increment(messages);
    }

    /// Its reader was too slow.
    pub fn dropped(&self) {
        self.0.dropped.increment(1);
    }
}

impl Default for EdgeMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl EdgeMetrics {
    /// Looks up the handles.
    pub fn new() -> Self {
        let [full, handshake] = table::CONNECTION_REFUSALS
            .map(|reason| counter!(table::CONNECTIONS_REFUSED.name, "reason" => reason));
        Self {
            connections: gauge!(table::CONNECTIONS.name),
            refused: full,
            handshakes_failed: handshake,
            turned_away: table::TURNED_AWAY_REASONS
                .map(|reason| counter!(table::TURNED_AWAY.name, "reason" => reason)),
            answers: table::FACES.map(|face| {
                table::ANSWERS.map(
                    |answer| counter!(table::API_REQUESTS.name, "face" => face, "answer" => answer),
                )
            }),
            seconds: table::FACES.map(|face| histogram!(table::API_SECONDS.name, "face" => face)),
        }
    }

    /// A connection is open as long as that is kept. Both faces count in one gauge.
    pub fn connection(&self) -> OpenConnection {
        self.connections.increment(1.0);
        OpenConnection(self.connections.clone())
    }

    /// The address has as many connections as it may.
    pub fn connection_refused(&self) {
        self.refused.increment(1);
    }

    /// A TLS handshake failed, or took too long.
    pub fn handshake_failed(&self) {
        self.handshakes_failed.increment(1);
    }

    /// A request was answered at the door.
    pub fn turned_away(&self, why: TurnedAway) {
        self.turned_away[why as usize].increment(1);
    }

    /// A call was answered `nanos` after its head had come.
    pub fn answered(&self, face: Face, how: Answered, nanos: u64) {
        self.answers[face as usize][how as usize].increment(1);
        self.seconds[face as usize].record(nanos as f64 / 1e9);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_apart_by_whose_doing_they_are() {
        use Answered::{Failed, Ok, PushedBack, Refused};
        let http = [101, 200, 308, 400, 404, 422, 429, 500, 503, 504].map(Answered::http);
        assert_eq!(
            http,
            [Ok, Ok, Ok, Refused, Refused, Refused, Refused, Failed, PushedBack, Failed]
        );
        let grpc = [0, 3, 5, 7, 8, 9, 13, 14, 16].map(Answered::grpc);
        assert_eq!(
            grpc,
            [Ok, Refused, Refused, Refused, PushedBack, Refused, Failed, PushedBack, Refused]
        );
    }
}
