//! What the server's edge observes: connections, streams, and who was turned away.

use metrics::{Counter, Gauge, counter, gauge};

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

/// What connections and the door observe.
pub struct EdgeMetrics {
    connections: Gauge,
    refused: Counter,
    handshakes_failed: Counter,
    turned_away: [Counter; table::TURNED_AWAY_REASONS.len()],
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
        }
    }

    /// A connection is open as long as that is kept.
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
}
