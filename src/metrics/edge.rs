//! What the server's edge observes: connections, and who was turned away.

use std::sync::atomic::{AtomicUsize, Ordering};

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
    open: AtomicUsize,
    connections: Gauge,
    refused: Counter,
    handshakes_failed: Counter,
    turned_away: [Counter; table::TURNED_AWAY_REASONS.len()],
}

/// A connection, until it is dropped.
pub struct OpenConnection<'a>(&'a EdgeMetrics);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.count(|open| open.fetch_sub(1, Ordering::Relaxed) - 1);
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
            open: AtomicUsize::new(0),
            connections: gauge!(table::CONNECTIONS.name),
            refused: full,
            handshakes_failed: handshake,
            turned_away: table::TURNED_AWAY_REASONS
                .map(|reason| counter!(table::TURNED_AWAY.name, "reason" => reason)),
        }
    }

    /// A connection is open as long as that is kept.
    pub fn connection(&self) -> OpenConnection<'_> {
        self.count(|open| open.fetch_add(1, Ordering::Relaxed) + 1);
        OpenConnection(self)
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

    fn count(&self, change: impl FnOnce(&AtomicUsize) -> usize) {
        self.connections.set(change(&self.open) as f64);
    }
}
