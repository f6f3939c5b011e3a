//! Every limit of the engine, by name, with its unit last, checked once at the start.
//!
//! Limits that are part of a format or of the public interface are constants; what an operator
//! may turn is a field of [`Limits`]. [`Limits::validate`] asserts how they relate.

use serde::{Deserialize, Serialize};

use crate::error::Malformed;

/// Fewest legs of a swap.
pub const SWAP_LEGS_MIN: usize = 2;
/// Most legs of a swap.
pub const SWAP_LEGS_MAX: usize = 16;
/// Most requests in one submission, and in one batch between the actors.
pub const BATCH_REQUESTS_MAX: usize = 8_192;
/// The supply of an asset stays at or below this, so that no sum of balances can overflow.
pub const SUPPLY_MAX: u128 = u128::MAX / 2;
/// Most shards: a request's shards are a 64-bit mask.
pub const SHARDS_MAX: usize = 64;
/// Most assets.
pub const ASSETS_MAX: usize = 65_536;
/// Longest asset name.
pub const ASSET_NAME_BYTES_MAX: usize = 32;
/// Longest address of a chain of kind `other`, and longest token name.
pub const ADDRESS_BYTES_MAX: usize = 64;
/// Longest external reference of a deposit or withdrawal.
pub const REFERENCE_BYTES_MAX: usize = 128;
/// Most links that one request may add.
pub const LINKS_PER_REQUEST_MAX: usize = 64;
/// Longest key that a caller names.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Longest value under such a key.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Most keys and balances that one transaction reads, and most keys that it writes.
pub const TRANSACTION_KEYS_MAX: usize = 256;
/// Most transfers of one transaction.
pub const TRANSFERS_MAX: usize = SWAP_LEGS_MAX;
/// Most markets.
pub const MARKETS_MAX: usize = 4_096;
/// Longest name of its own that a caller gives an order.
pub const CLIENT_ORDER_ID_BYTES_MAX: usize = 64;
/// Longest that an order stands which ends by itself.
pub const GTD_MS_MAX: u64 = 366 * 24 * 3_600_000;
/// Most API keys, revoked ones included.
pub const KEYS_MAX: usize = 65_536;
/// Longest name of an API key.
pub const KEY_NAME_BYTES_MAX: usize = 64;
/// Most accounts that one API key is bound to by name.
pub const KEY_ACCOUNTS_MAX: usize = 1_024;
/// Most networks that one API key may be used from.
pub const KEY_NETWORKS_MAX: usize = 32;
/// Addresses remembered for their failed authentications (about 40 bytes each).
pub const FAILED_ADDRESSES_MAX: usize = 65_536;
/// A segment of the archive is closed once its blocks, unpacked, have so many bytes.
pub const ARCHIVE_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Most blocks of a segment of the archive.
pub const ARCHIVE_SEGMENT_BLOCKS_MAX: u64 = 65_536;
/// Segments of the archive that are kept open, with their indexes: 16 bytes for each 64 KiB.
pub const ARCHIVE_SEGMENTS_OPEN_MAX: usize = 8;
/// Longest age after which the journal is archived: a hundred years.
pub const ARCHIVE_AFTER_SECS_MAX: u64 = 100 * 366 * 24 * 3_600;
/// Longest body of an HTTP request.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bodies of signed requests, all together, that are read before their signatures can be judged; beyond
/// that, such requests are `overloaded`. Whoever has no key takes no more of the server's memory than this.
pub const UNPROVEN_BODIES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Holds that are looked at, at most, to tell which expire next.
pub const HOLDS_LOOKED_AT_MAX: usize = 4_096;
/// A request that takes as long is worth a line in the log, unless the operator says otherwise.
pub const SLOW_REQUEST_MS: u64 = 1_000;

/// Events, and bytes of journal, that one turn of a stream reads at most before others have theirs.
pub const STREAM_TURN_EVENTS_MAX: usize = 1_024;
/// See [`STREAM_TURN_EVENTS_MAX`].
pub const STREAM_TURN_BYTES_MAX: usize = 256 * 1024;
/// After so many events that its filter leaves out, a stream of events says how far it has come.
pub const STREAM_PROGRESS_EVENTS: u64 = 10_000;
/// How long a stream says nothing at most while there is nothing to say.
pub const STREAM_KEEP_ALIVE_MS: u64 = 15_000;
/// How long a client may take nothing of what a stream of events has for it.
pub const STREAM_STALL_MS_MAX: u64 = 75_000;
/// Bytes of events in one message over gRPC, unless one alone has more.
pub const STREAM_PAGE_BYTES: usize = 1024 * 1024;
/// How long a client may take to take one message of market data.
pub const STREAM_SEND_MS_MAX: u64 = 30_000;
/// How long a client that is told goodbye may take to say so itself.
pub const STREAM_CLOSE_MS_MAX: u64 = 500;
/// Longest message that a client of market data may send.
pub const STREAM_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Levels of both sides together that a snapshot has at most; deeper books are followed by `depth`.
pub const STREAM_SNAPSHOT_LEVELS_MAX: usize = 100_000;
/// Most levels a side of a book that is followed by `depth`.
pub const STREAM_DEPTH_MAX: u64 = 1_000;
/// Levels of a followed market that are remembered as changed, for those who are behind.
pub const STREAM_CHANGED_LEVELS_MAX: usize = 65_536;
/// How often a server looks at what it measures, to tell how it does.
pub const STATS_EVERY_MS: u64 = 1_000;
/// Looks that are remembered: those of five minutes (about 150 bytes each, and 8 an actor).
pub const STATS_SAMPLES_MAX: usize = 300;
/// Commits of each [`STATS_EVERY_MS`], the last ones, whose accounts are counted while somebody watches.
pub const HOT_COMMITS_PER_LOOK_MAX: usize = 1_024;
/// Accounts that are counted at once; any that has more than one part in so many is among them.
pub const HOT_ACCOUNTS_TRACKED: usize = 256;
/// Of these, so many are told.
pub const HOT_ACCOUNTS_TOLD_MAX: usize = 20;
/// After so long what was counted counts half.
pub const HOT_HALF_LIFE_MS: u64 = 20_000;
/// Who has not asked for so long watches no more.
pub const HOT_WATCHED_MS: u64 = 30_000;
/// Longest gRPC message, either way.
pub const GRPC_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Batches of one stream that may be taken and not yet answered; beyond that, the stream is not read.
pub const GRPC_BATCHES_IN_FLIGHT_MAX: usize = 16;
/// What a gRPC client may send on one call, and on one connection, before it is read, in bytes.
pub const GRPC_STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// See [`GRPC_STREAM_WINDOW_BYTES`].
pub const GRPC_CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// After what time of silence a gRPC connection is asked whether anybody is there, in milliseconds.
pub const GRPC_KEEPALIVE_MS: u64 = 20_000;
/// How long the answer to that may take, in milliseconds.
pub const GRPC_KEEPALIVE_WAIT_MS: u64 = 10_000;

/// Batches that a client of this crate has in flight on each of its connections.
pub const CLIENT_BATCHES_IN_FLIGHT_MAX: usize = 2;
/// How long such a client waits before it tries again, at first and at last, in milliseconds.
pub const CLIENT_BACKOFF_MS: (u64, u64) = (5, 1_000);

/// What an operator may turn. The defaults suit two cores and 24 GiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Shard actors, 1 to 64. Balances move freely when it changes between two starts.
    pub shards: usize,
    /// Requests accepted and not yet answered; beyond that, `overloaded`.
    pub requests_in_flight_max: usize,
    /// Reads accepted and not yet answered; beyond that, `overloaded`.
    pub reads_in_flight_max: usize,
    /// Batches whose first votes are outstanding; while that many are, requests gather into larger ones.
    pub batches_voting_max: usize,
    /// Messages that a shard's mailbox holds before the coordinator waits for it.
    pub shard_mailbox_messages_max: usize,
    /// Messages that the commit log's mailbox holds before the coordinator and the shards wait for it.
    pub log_mailbox_messages_max: usize,
    /// Requests in one journal block, at most; one decision may exceed it.
    pub commit_group_requests_max: usize,
    /// Requests that one fold of the version store takes in, at most.
    pub fold_requests_max: usize,
    /// Requests that may be durable and not yet folded; beyond that the commit log waits.
    pub unfolded_requests_max: usize,
    /// How far back a version-7 id's time may lie for the engine to know from memory that it is new.
    pub recent_ids_window_ms: u64,
    /// Request ids remembered for that, at most (about 28 bytes each).
    pub recent_ids_max: usize,
    /// How long a prepared swap stands if its caller does not say.
    pub hold_expiry_ms: u64,
    /// How long a prepared swap may stand at most.
    pub hold_expiry_max_ms: u64,
    /// Holds that are open at once, at most, of all accounts together (about 300 bytes each).
    pub holds_max: usize,
    /// Holds that are open at once, at most, in which one account has set something aside.
    pub holds_per_account_max: usize,
    /// How much of one balance may be set aside at most, in percent of available and held together
    /// when the amount is granted (a later debit that settles first may raise the share since).
    pub held_share_max_percent: u8,
    /// How long a request waits, at most, for the exclusive hold of another before it is refused.
    pub lock_wait_ms: u64,
    /// Requests that wait for exclusive holds at once, at most; beyond that, refused without a wait.
    pub parked_requests_max: usize,
    /// How often a transaction that met something undecided is sequenced before it is refused.
    pub transaction_attempts_max: u32,
    /// Market actors, 1 to 64; markets are dealt to them by number.
    pub market_actors: usize,
    /// Messages that a market actor's mailbox holds before the coordinator waits for it.
    pub market_mailbox_messages_max: usize,
    /// Orders that stand in one market at once, at most (about 250 bytes each).
    pub orders_per_market_max: u32,
    /// How far back the version store remembers, in hours; 0 for ever.
    pub history_retention_hours: u64,
    /// Streams of events open at once; beyond that, `overloaded`.
    pub event_streams_max: usize,
    /// Connections for market data open at once; beyond that, `overloaded`.
    pub market_streams_max: usize,
    /// Subscriptions of one such connection.
    pub market_subscriptions_max: usize,
    /// Trades of a followed market that are remembered for those who are behind (about 16 bytes each).
    pub market_trades_kept_max: usize,
    /// How old a block of the journal is, in seconds of logical time, before it is moved to the
    /// archive, where there is one.
    pub journal_archive_after_secs: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            shards: 2,
            requests_in_flight_max: 131_072,
            reads_in_flight_max: 16_384,
            batches_voting_max: 4,
            shard_mailbox_messages_max: 64,
            log_mailbox_messages_max: 1_024,
            commit_group_requests_max: 32_768,
            fold_requests_max: 1_000_000,
            unfolded_requests_max: 3_000_000,
            recent_ids_window_ms: 10_000,
            recent_ids_max: 20_000_000,
            hold_expiry_ms: 60_000,
            hold_expiry_max_ms: 24 * 3_600_000,
            holds_max: 1_000_000,
            holds_per_account_max: 10_000,
            held_share_max_percent: 100,
            lock_wait_ms: 5_000,
            parked_requests_max: 16_384,
            transaction_attempts_max: 4,
            market_actors: 1,
            market_mailbox_messages_max: 64,
            orders_per_market_max: 1_000_000,
            history_retention_hours: 7 * 24,
            event_streams_max: 256,
            market_streams_max: 1_024,
            market_subscriptions_max: 128,
            market_trades_kept_max: 131_072,
            journal_archive_after_secs: 30 * 24 * 3_600,
        }
    }
}

impl Limits {
    /// Checks every limit and how they relate.
    ///
    /// # Errors
    /// The first field that is out of its range, with the range.
    pub fn validate(&self) -> Result<(), Malformed> {
        let between = |field: &str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Malformed::new(field, format!("is {value}; give {low} to {high}")))
        };
        between("shards", self.shards, 1, SHARDS_MAX)?;
        between("requests_in_flight_max", self.requests_in_flight_max, 1, 1 << 24)?;
        between("reads_in_flight_max", self.reads_in_flight_max, 1, 1 << 20)?;
        between("batches_voting_max", self.batches_voting_max, 1, 64)?;
        between("shard_mailbox_messages_max", self.shard_mailbox_messages_max, 1, 1 << 16)?;
        between("log_mailbox_messages_max", self.log_mailbox_messages_max, 1, 1 << 20)?;
        between("commit_group_requests_max", self.commit_group_requests_max, 1, 1 << 20)?;
        between("fold_requests_max", self.fold_requests_max, 1, 1 << 28)?;
        between(
            "unfolded_requests_max",
            self.unfolded_requests_max,
            self.fold_requests_max,
            1 << 30,
        )?;
        // Of a longer window, ids could be forgotten before they are durable (`coordinator::ids`).
        let window = usize::try_from(self.recent_ids_window_ms).unwrap_or(usize::MAX);
        between("recent_ids_window_ms", window, 1_000, 3_600_000)?;
        between("recent_ids_max", self.recent_ids_max, 1_024, 1 << 32)?;
        self.validate_modes()
    }

    /// Holds, locks, transactions, history.
    fn validate_modes(&self) -> Result<(), Malformed> {
        let between = |field: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Malformed::new(field, format!("is {value}; give {low} to {high}")))
        };
        let year_ms = 366 * 24 * 3_600_000;
        between("hold_expiry_max_ms", self.hold_expiry_max_ms, 1, year_ms)?;
        between("hold_expiry_ms", self.hold_expiry_ms, 1, self.hold_expiry_max_ms)?;
        between("holds_max", self.holds_max as u64, 1, 1 << 28)?;
        between("holds_per_account_max", self.holds_per_account_max as u64, 1, 1 << 28)?;
        between("held_share_max_percent", self.held_share_max_percent.into(), 1, 100)?;
        between("lock_wait_ms", self.lock_wait_ms, 1, 3_600_000)?;
        between("parked_requests_max", self.parked_requests_max as u64, 1, 1 << 24)?;
        between("transaction_attempts_max", self.transaction_attempts_max.into(), 1, 64)?;
        between("market_actors", self.market_actors as u64, 1, SHARDS_MAX as u64)?;
        between(
            "market_mailbox_messages_max",
            self.market_mailbox_messages_max as u64,
            1,
            1 << 16,
        )?;
        between("orders_per_market_max", self.orders_per_market_max.into(), 1, 1 << 30)?;
        between("history_retention_hours", self.history_retention_hours, 0, 24 * 36_600)?;
        between("event_streams_max", self.event_streams_max as u64, 0, 1 << 20)?;
        between("market_streams_max", self.market_streams_max as u64, 0, 1 << 20)?;
        between("market_subscriptions_max", self.market_subscriptions_max as u64, 1, 1 << 13)?;
        between("market_trades_kept_max", self.market_trades_kept_max as u64, 1, 1 << 24)?;
        let after = self.journal_archive_after_secs;
        between("journal_archive_after_secs", after, 1, ARCHIVE_AFTER_SECS_MAX)
    }
}

/// What an operator may turn of the server's edge: connections, heads of requests, signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeLimits {
    /// Connections open at once; the next one waits to be accepted.
    pub connections_max: usize,
    /// Of these, from one address (of IPv6, from one network of 64 bits); the next one is closed.
    pub connections_per_address_max: usize,
    /// Longest head of a request: its line and its headers.
    pub head_bytes_max: usize,
    /// Most headers of a request.
    pub headers_max: usize,
    /// Requests at once on one connection of HTTP/2.
    pub streams_per_connection_max: u32,
    /// How long a request's head may take to arrive, and its connection may wait for it.
    pub head_wait_ms: u64,
    /// How long a TLS handshake may take.
    pub handshake_wait_ms: u64,
    /// How long nothing may move on a connection, be it between requests or within one.
    pub idle_ms: u64,
    /// How far a signature's time may be from the server's, before or after.
    pub signature_window_ms: u64,
    /// Failed authentications from one address in a burst; beyond it and
    /// [`EdgeLimits::failures_per_second_max`] they are answered `rate_limited`.
    pub failures_burst_max: u32,
    /// Failed authentications a second from one address.
    pub failures_per_second_max: u32,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            connections_per_address_max: 2_048,
            head_bytes_max: 32 * 1024,
            headers_max: 100,
            streams_per_connection_max: 256,
            head_wait_ms: 75_000,
            handshake_wait_ms: 10_000,
            idle_ms: 75_000,
            signature_window_ms: 5_000,
            failures_burst_max: 20,
            failures_per_second_max: 1,
        }
    }
}

impl EdgeLimits {
    /// Checks every limit and how they relate.
    ///
    /// # Errors
    /// The first field that is out of its range, with the range.
    pub fn validate(&self) -> Result<(), Malformed> {
        let between = |field: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Malformed::new(field, format!("is {value}; give {low} to {high}")))
        };
        let connections = self.connections_max as u64;
        between("connections_max", connections, 1, 1 << 20)?;
        let of_one = self.connections_per_address_max as u64;
        between("connections_per_address_max", of_one, 1, connections)?;
        // What hyper reads into is never smaller.
        between("head_bytes_max", self.head_bytes_max as u64, 8_192, 1 << 20)?;
        between("headers_max", self.headers_max as u64, 16, 1_024)?;
        between("streams_per_connection_max", self.streams_per_connection_max.into(), 1, 1 << 16)?;
        let hour_ms = 3_600_000;
        between("head_wait_ms", self.head_wait_ms, 100, hour_ms)?;
        between("handshake_wait_ms", self.handshake_wait_ms, 100, hour_ms)?;
        between("idle_ms", self.idle_ms, 100, hour_ms)?;
        between("signature_window_ms", self.signature_window_ms, 1, hour_ms)?;
        between("failures_burst_max", self.failures_burst_max.into(), 1, 1 << 20)?;
        between("failures_per_second_max", self.failures_per_second_max.into(), 1, 1 << 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Limits::default().validate(), Ok(()));
        assert_eq!(EdgeLimits::default().validate(), Ok(()));
    }

    #[test]
    fn a_limit_out_of_range_is_named() {
        let limits = Limits { shards: 65, ..Limits::default() };
        let error = limits.validate().expect_err("65 shards");
        assert_eq!(error.to_string(), "shards is 65; give 1 to 64");
        let limits = Limits { unfolded_requests_max: 5, ..Limits::default() };
        assert_eq!(limits.validate().expect_err("too few").field, "unfolded_requests_max");
    }
}
