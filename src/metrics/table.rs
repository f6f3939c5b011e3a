//! Every metric as data: what `/metrics` shows is exactly what stands here.
//!
//! The observers take their names and label values from these constants, the descriptions
//! (`HELP`) come from them, and `crosslatch metrics list` prints them. Labels are bounded sets:
//! never an account, a request or an order.
//!
//! Names carry their unit; counters end in `_total`. A metric that is renamed here breaks
//! dashboards and alerts, so names are as stable as error codes.

mod cardinality;
mod machine;

use std::fmt;

use serde::Serialize;

use crate::config::{MARKETS_MAX, SHARDS_MAX};
use crate::error::Reject;
use crate::request::Command;

pub(super) use machine::*;

/// One metric: a name with all its series.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Metric {
    /// The full name, unit included.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// What one unit of the value is: `seconds`, `bytes`, or what is counted.
    pub unit: &'static str,
    /// The labels that every series has, unless the label says otherwise.
    pub labels: &'static [Label],
    /// Upper bounds of a histogram's buckets, ascending, without +Inf; empty for other kinds.
    pub buckets: &'static [f64],
    /// What it measures, in one sentence.
    pub help: &'static str,
}

/// What a metric's value does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// A value as of now.
    Gauge,
    /// Observations counted in buckets, and their sum.
    Histogram,
}

impl fmt::Display for Kind {
    /// The word of Prometheus' `TYPE` line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// One label of a metric.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// The values it takes.
    pub values: Values,
}

/// The values that a label takes.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Values {
    /// Exactly these; each has a series from the start.
    Listed(&'static [&'static str]),
    /// Known only when the process runs.
    Open {
        /// What they are, in words.
        meaning: &'static str,
        /// Most of them.
        max: usize,
    },
}

impl Metric {
    /// Writes the `HELP` and `TYPE` lines.
    pub(super) fn write_header(&self, out: &mut String) {
        let Self { name, kind, help, .. } = self;
        out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }
}

type Labels = &'static [Label];

const fn counter(
    name: &'static str,
    unit: &'static str,
    labels: Labels,
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, unit, labels, buckets: &[], help }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    labels: Labels,
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, buckets: &[], help }
}

const fn histogram(
    name: &'static str,
    unit: &'static str,
    labels: Labels,
    buckets: &'static [f64],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Histogram, unit, labels, buckets, help }
}

const fn listed(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values: Values::Listed(values) }
}

const fn open(name: &'static str, meaning: &'static str, max: usize) -> Label {
    Label { name, values: Values::Open { meaning, max } }
}

/// Every `Command::kind`.
pub(super) const KINDS: [&str; Command::KINDS.len()] = Command::KINDS;
/// Settled, rejected, failed.
pub(super) const OUTCOMES: [&str; 3] = ["settled", "rejected", "failed"];
/// Queue, prepare, decide, apply, persist.
pub(super) const STAGES: [&str; 5] = ["queue", "prepare", "decide", "apply", "persist"];
/// In the order of the variants of [`super::Conflict`].
pub(super) const CONFLICTS: [&str; 6] =
    ["balance_wait", "lock_wait", "lock_timeout", "busy", "read_validation", "duplicate_request"];
/// In the order of `Vote`'s variants.
pub(super) const VOTES: [&str; 5] = ["yes", "no", "wait", "busy", "locked"];
/// Every name of a `Resolution`, in its order.
pub(super) const RESOLUTIONS: [&str; 3] = ["committed", "rolled_back", "expired"];
/// One shard, two, more.
pub(super) const SHARD_COUNTS: [&str; 3] = ["1", "2", "more"];
/// Actors with a mailbox. Only `shard` has a `shard` label.
pub(super) const ACTORS: [&str; 5] =
    ["coordinator", "shard", "market", "commit_log", "materializer"];
/// Sides of a book, in the order of `Side`'s variants.
pub(super) const SIDES: [&str; 2] = ["bid", "ask"];
/// What holds are for: swaps in two phases, and withdrawals.
pub(super) const HOLD_KINDS: [&str; 2] = ["prepared", "withdrawal"];
/// In the order of the variants of [`super::Face`].
pub(super) const FACES: [&str; 2] = ["http", "grpc"];
/// In the order of the variants of [`super::Answered`].
pub(super) const ANSWERS: [&str; 4] = ["ok", "refused", "pushed_back", "failed"];
/// Why connections are refused: the address has too many, the TLS handshake failed.
pub(super) const CONNECTION_REFUSALS: [&str; 2] = ["address_limit", "handshake"];
/// In the order of the variants of [`super::StreamKind`].
pub(super) const STREAM_KINDS: [&str; 2] = ["events", "market_data"];
/// In the order of the variants of [`super::TurnedAway`].
pub(super) const TURNED_AWAY_REASONS: [&str; 3] = ["unauthenticated", "forbidden", "rate_limited"];
/// Every code of a refusal: the durable ones, then those of requests without an answer.
pub(super) const REASONS: [&str; Reject::CODES.len() + 2] = {
    let mut reasons = [""; Reject::CODES.len() + 2];
    let mut index = 0;
    while index < Reject::CODES.len() {
        reasons[index] = Reject::CODES[index];
        index += 1;
    }
    reasons[index] = OVERLOADED;
    reasons[index + 1] = STOPPED;
    reasons
};
/// Reason: too much is in flight, nothing was taken.
pub(super) const OVERLOADED: &str = "overloaded";
/// Reason: the engine stopped before it could answer.
pub(super) const STOPPED: &str = "stopped";

/// 100 µs to 10 s in powers of about 2.
const SECONDS: &[f64] = &[
    0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0125, 0.025, 0.05, 0.1, 0.2, 0.4,
    0.8, 1.6, 3.2, 6.4, 10.0,
];
/// The same from 12.5 µs on, for what is often over in the time of a hop between threads.
const FINE_SECONDS: &[f64] = &[
    0.0000125, 0.000025, 0.00005, 0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0125,
    0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0,
];
/// 1 to 32,768 requests in powers of 2.
const GROUP_REQUESTS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0,
    16384.0, 32768.0,
];
/// 256 bytes to 64 MiB in powers of 4.
const GROUP_BYTES: &[f64] = &[
    256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0,
];
/// 1 to 16,777,216 requests in powers of 4.
const FOLD_REQUESTS: &[f64] = &[
    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0,
    16777216.0,
];

const KIND: Label = listed("kind", &KINDS);
const MARKET: Label = open("market", "the name of a market", MARKETS_MAX);
const SHARD: Label = open(
    "shard",
    "the number of a shard or of a market actor, on the series of those only",
    SHARDS_MAX,
);
const FAMILY: &[Label] =
    &[open("column_family", "the name of a RocksDB column family", COLUMN_FAMILIES_MAX)];
/// Column families that RocksDB is opened with, at most.
const COLUMN_FAMILIES_MAX: usize = 16;

pub(super) const REQUESTS: Metric = counter(
    "crosslatch_requests_total",
    "requests",
    &[KIND, listed("outcome", &OUTCOMES)],
    "Requests by how they ended: settled and rejected were answered, failed got no answer. Holds \
     that the engine itself ended count as settled, under the kind expire.",
);
pub(super) const REJECTS: Metric = counter(
    "crosslatch_rejects_total",
    "requests",
    &[listed("reason", &REASONS)],
    "Requests refused, by the code that the caller got.",
);
pub(super) const CONFLICT: Metric = counter(
    "crosslatch_conflicts_total",
    "requests",
    &[listed("kind", &CONFLICTS)],
    "Requests that met another one, once per request and kind of conflict.",
);
pub(super) const REQUEST_SECONDS: Metric = histogram(
    "crosslatch_request_seconds",
    "seconds",
    &[KIND],
    SECONDS,
    "Time from a request being accepted to its durable answer.",
);
pub(super) const STAGE_SECONDS: Metric = histogram(
    "crosslatch_stage_seconds",
    "seconds",
    &[listed("stage", &STAGES)],
    FINE_SECONDS,
    "Time that requests spend in each stage: queue (accepted to sequenced), prepare (to the last \
     vote), decide (to the decision sent), apply (to its rows at the log), persist (to durable).",
);
pub(super) const WAIT_SECONDS: Metric = histogram(
    "crosslatch_wait_seconds",
    "seconds",
    &[listed("kind", &CONFLICTS)],
    FINE_SECONDS,
    "Time that requests waited for another one, by kind of conflict.",
);
pub(super) const VOTE: Metric = counter(
    "crosslatch_votes_total",
    "votes",
    &[listed("vote", &VOTES)],
    "Votes of shards on requests; wait is followed by another vote. After busy (a transaction met \
     something undecided) and locked (an exclusive hold is in the way) a request is asked anew.",
);
pub(super) const CROSS_SHARD: Metric = counter(
    "crosslatch_cross_shard_total",
    "requests",
    &[listed("shards", &SHARD_COUNTS)],
    "Requests sequenced, by how many shards own their balances.",
);
pub(super) const MAILBOX: Metric = gauge(
    "crosslatch_mailbox_messages",
    "messages",
    &[listed("actor", &ACTORS), SHARD],
    "Messages waiting in an actor's mailbox when it last looked.",
);
pub(super) const IN_FLIGHT: Metric = gauge(
    "crosslatch_inflight_requests",
    "requests",
    &[],
    "Requests accepted and not yet answered.",
);
pub(super) const HOLDS: Metric = gauge(
    "crosslatch_holds",
    "holds",
    &[],
    "Open holds: prepared swaps and withdrawals that are neither resolved nor expired.",
);
pub(super) const OPEN_ORDERS: Metric = gauge(
    "crosslatch_open_orders",
    "orders",
    &[],
    "Orders that stand in a book, or are on their way there.",
);
pub(super) const TRADES: Metric = counter(
    "crosslatch_trades_total",
    "trades",
    &[MARKET],
    "Trades, counted when they are matched: microseconds before they are durable.",
);
pub(super) const BOOK_DEPTH: Metric =
    gauge("crosslatch_book_depth", "orders", &[MARKET], "Orders that stand in the market's book.");
pub(super) const BEST_PRICE: Metric = gauge(
    "crosslatch_book_best_price",
    "price",
    &[MARKET, listed("side", &SIDES)],
    "Best price that stands on a side of the market's book, in the quote asset's smallest units per lot; \
     NaN while nothing does.",
);
pub(super) const HOLDS_RESOLVED: Metric = counter(
    "crosslatch_holds_resolved_total",
    "holds",
    &[listed("how", &RESOLUTIONS)],
    "Holds ended, by what became of their amounts.",
);
pub(super) const OLDEST_HOLD: Metric = gauge(
    "crosslatch_oldest_hold_timestamp_seconds",
    "seconds",
    &[listed("kind", &HOLD_KINDS)],
    "When the oldest open hold was made, in seconds since the Unix epoch; 0 if none is open. A hold that a \
     start found counts from that start.",
);
pub(super) const OPERATION: Metric = gauge(
    "crosslatch_operation",
    "state",
    &[],
    "What the venue takes: 0 everything, 1 cancel_only, 2 withdraw_only, 3 halted (nothing).",
);
pub(super) const PARKED: Metric = gauge(
    "crosslatch_parked_requests",
    "requests",
    &[],
    "Requests that wait for the end of an exclusive hold; they hold nothing meanwhile.",
);
pub(super) const TRANSACTION_RETRIES: Metric = counter(
    "crosslatch_transaction_retries_total",
    "transactions",
    &[],
    "Transactions that were run again from their beginning after a conflict.",
);
pub(super) const GROUP_SIZE: Metric = histogram(
    "crosslatch_commit_group_size",
    "requests",
    &[],
    GROUP_REQUESTS,
    "Requests made durable by one journal block, refusals included.",
);
pub(super) const GROUP_SIZE_BYTES: Metric = histogram(
    "crosslatch_commit_group_bytes",
    "bytes",
    &[],
    GROUP_BYTES,
    "Size of one journal block.",
);
pub(super) const FSYNC_SECONDS: Metric = histogram(
    "crosslatch_fsync_seconds",
    "seconds",
    &[],
    FINE_SECONDS,
    "Time of one synced write of the journal.",
);
pub(super) const DECIDED_SEQ: Metric = gauge(
    "crosslatch_decided_seq",
    "commit_seq",
    &[],
    "Highest commit_seq that was decided; what is above the durable one is not answered yet.",
);
pub(super) const DURABLE_SEQ: Metric = gauge(
    "crosslatch_durable_seq",
    "commit_seq",
    &[],
    "Highest durable commit_seq: everything up to it survives a crash.",
);
pub(super) const APPLIED_SEQ: Metric = gauge(
    "crosslatch_applied_seq",
    "commit_seq",
    &[],
    "Highest commit_seq folded into the version store; it lags behind the durable one.",
);
pub(super) const HISTORY_HORIZON: Metric = gauge(
    "crosslatch_history_horizon_seq",
    "commit_seq",
    &[],
    "Oldest commit_seq as of which everything can still be read.",
);
pub(super) const ARCHIVED_BLOCKS: Metric = gauge(
    "crosslatch_archived_blocks",
    "blocks",
    &[],
    "Blocks of the journal that are in its archive.",
);
pub(super) const ARCHIVED_BYTES: Metric = counter(
    "crosslatch_archived_bytes_total",
    "bytes",
    &[],
    "Bytes that were added to the journal's archive.",
);
pub(super) const ARCHIVE_BEHIND: Metric = gauge(
    "crosslatch_archive_behind_seconds",
    "seconds",
    &[],
    "How much older than it should be the oldest block is that is not archived, in logical time.",
);
pub(super) const ARCHIVE_FAILURES: Metric = counter(
    "crosslatch_archive_failures_total",
    "failures",
    &[],
    "Attempts to archive that failed; the journal stays in the database and is tried again.",
);
pub(super) const FOLD_SECONDS: Metric = histogram(
    "crosslatch_fold_seconds",
    "seconds",
    &[],
    SECONDS,
    "Time of one fold of journal blocks into the version store.",
);
pub(super) const FOLD_SIZE: Metric = histogram(
    "crosslatch_fold_size",
    "requests",
    &[],
    FOLD_REQUESTS,
    "Requests folded into the version store at once.",
);
pub(super) const SUPPLY_VIOLATIONS: Metric = counter(
    "crosslatch_supply_violations_total",
    "groups",
    &[],
    "Commit groups stopped before the disk because they would create or destroy value. Must be 0.",
);
pub(super) const BUILD_INFO: Metric = gauge(
    "crosslatch_build_info",
    "builds",
    &[open("version", "the package's version", 1), listed("profile", &["debug", "release"])],
    "Always 1; its labels say which build runs.",
);

pub(super) const CONNECTIONS: Metric =
    gauge("crosslatch_connections", "connections", &[], "Connections that are open.");
pub(super) const CONNECTIONS_REFUSED: Metric = counter(
    "crosslatch_connections_refused_total",
    "connections",
    &[listed("reason", &CONNECTION_REFUSALS)],
    "Connections closed before a request: their address had as many as it may (address_limit), or the \
     TLS handshake failed or took too long (handshake).",
);
pub(super) const TURNED_AWAY: Metric = counter(
    "crosslatch_turned_away_total",
    "requests",
    &[listed("reason", &TURNED_AWAY_REASONS)],
    "Requests answered at the door: without a right key (unauthenticated), with one that may not \
     (forbidden), too often (rate_limited). The engine never saw them.",
);

pub(super) const STREAMS: Metric = gauge(
    "crosslatch_streams",
    "streams",
    &[listed("kind", &STREAM_KINDS)],
    "Streams that are open, over HTTP, WebSocket and gRPC together.",
);
pub(super) const STREAM_MESSAGES: Metric = counter(
    "crosslatch_stream_messages_total",
    "messages",
    &[listed("kind", &STREAM_KINDS)],
    "Messages that went out on streams: pieces of events, frames of market data.",
);
pub(super) const STREAMS_DROPPED: Metric = counter(
    "crosslatch_streams_dropped_total",
    "streams",
    &[listed("kind", &STREAM_KINDS)],
    "Streams that were cut because their reader was too slow: it took nothing for too long, or missed \
     trades.",
);

pub(super) const API_REQUESTS: Metric = counter(
    "crosslatch_api_requests_total",
    "requests",
    &[listed("face", &FACES), listed("answer", &ANSWERS)],
    "Calls of the API, reads included, by how they were answered: ok, refused (the caller's doing), \
     pushed_back (busy, recovering or stopping: later), failed (the server's doing). A gRPC stream is one call.",
);
pub(super) const API_SECONDS: Metric = histogram(
    "crosslatch_api_seconds",
    "seconds",
    &[listed("face", &FACES)],
    SECONDS,
    "Time from the head of a call to the head of its answer.",
);

/// Every metric that the engine and the server expose.
pub const METRICS: &[Metric] = &[
    REQUESTS,
    REJECTS,
    CONFLICT,
    REQUEST_SECONDS,
    STAGE_SECONDS,
    WAIT_SECONDS,
    VOTE,
    CROSS_SHARD,
    MAILBOX,
    IN_FLIGHT,
    HOLDS,
    OPEN_ORDERS,
    TRADES,
    BOOK_DEPTH,
    BEST_PRICE,
    HOLDS_RESOLVED,
    OLDEST_HOLD,
    PARKED,
    OPERATION,
    TRANSACTION_RETRIES,
    GROUP_SIZE,
    GROUP_SIZE_BYTES,
    FSYNC_SECONDS,
    DECIDED_SEQ,
    DURABLE_SEQ,
    APPLIED_SEQ,
    HISTORY_HORIZON,
    ARCHIVED_BLOCKS,
    ARCHIVED_BYTES,
    ARCHIVE_BEHIND,
    ARCHIVE_FAILURES,
    FOLD_SECONDS,
    FOLD_SIZE,
    SUPPLY_VIOLATIONS,
    WRITE_STOPPED,
    DELAYED_WRITE,
    BACKGROUND_ERRORS,
    RUNNING_COMPACTIONS,
    RUNNING_FLUSHES,
    BLOCK_CACHE,
    BLOCK_CACHE_CAPACITY,
    LIVE_SNAPSHOTS,
    PENDING_COMPACTION,
    MEMTABLES,
    IMMUTABLE_MEMTABLES,
    LEVEL0_FILES,
    SST_BYTES,
    ESTIMATED_KEYS,
    DISK_FREE,
    DISK_SIZE,
    API_REQUESTS,
    API_SECONDS,
    CONNECTIONS,
    CONNECTIONS_REFUSED,
    TURNED_AWAY,
    STREAMS,
    STREAM_MESSAGES,
    STREAMS_DROPPED,
    THREAD_CPU,
    PROCESS_CPU,
    PROCESS_RESIDENT,
    PROCESS_VIRTUAL,
    PROCESS_OPEN_FDS,
    PROCESS_MAX_FDS,
    PROCESS_START,
    PROCESS_THREADS,
    BUILD_INFO,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_carry_their_unit() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for Metric { name, kind, unit, .. } in METRICS {
            assert!(name.starts_with("crosslatch_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            if ["seconds", "bytes"].contains(unit) {
                assert!(name.trim_end_matches("_total").ends_with(unit), "{name} is in {unit}");
            }
        }
    }

    #[test]
    fn buckets_ascend_and_only_histograms_have_them() {
        for Metric { name, kind, buckets, .. } in METRICS {
            assert_eq!(buckets.is_empty(), *kind != Kind::Histogram, "{name}");
            assert!(buckets.is_sorted_by(|low, high| low < high), "{name}");
        }
    }

    #[test]
    fn help_is_one_plain_line() {
        for Metric { name, help, .. } in METRICS {
            assert!(help.ends_with('.') && !help.contains(['\n', '\\']), "{name}: {help}");
        }
    }
}
