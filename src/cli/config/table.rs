//! Every setting as data: its unit, the values that it takes, and what it is for.
//!
//! What `crosslatch config` says of settings is what stands here. Tests hold it against the settings
//! themselves: none is missing, and every range is the one that a start insists on.

use std::fmt;

use super::super::nearest::nearest;
use crate::config::ARCHIVE_AFTER_SECS_MAX;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    /// Its name in a file, as in `limits.shards`.
    pub(super) key: &'static str,
    /// What one of its value is; `-` where it has no unit.
    pub(super) unit: &'static str,
    /// The values that it takes.
    pub(super) range: Range,
    /// What it is for, in a sentence or two.
    pub(super) help: &'static str,
}

/// The values that a setting takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Range {
    /// In words.
    Words(&'static str),
    /// Whole numbers, both ends included.
    Whole(u64, u64),
    /// From what the named limit says.
    From(&'static str, u64),
    /// Up to what the named limit says.
    UpTo(u64, &'static str),
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(words) => f.write_str(words),
            Self::Whole(low, high) => write!(f, "{low} to {high}"),
            Self::From(other, high) => write!(f, "{other} to {high}"),
            Self::UpTo(low, other) => write!(f, "{low} to {other}"),
        }
    }
}

impl Range {
    /// What is wrong with a number, as far as that can be said without looking at another setting.
    pub(super) fn refuses(self, number: i128) -> bool {
        let (low, high) = match self {
            Self::Words(_) => return false,
            Self::Whole(low, high) => (low, high),
            Self::From(_, high) => (0, high),
            Self::UpTo(low, _) => (low, u64::MAX),
        };
        !(i128::from(low)..=i128::from(high)).contains(&number)
    }
}

impl Setting {
    /// Its name without the table that it is in.
    pub(super) fn name(&self) -> &'static str {
        self.key.rsplit('.').next().unwrap_or(self.key)
    }

    /// The variable that sets it.
    pub(super) fn variable(&self) -> String {
        format!("CROSSLATCH_{}", self.key.replace('.', "_").to_uppercase())
    }
}

const fn setting(
    key: &'static str,
    unit: &'static str,
    range: Range,
    help: &'static str,
) -> Setting {
    Setting { key, unit, range, help }
}

use Range::{From, UpTo, Whole, Words};

/// A hundred years.
const HOURS_MAX: u64 = 24 * 36_600;
const YEAR_MS: u64 = 366 * 24 * 3_600_000;
const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600_000;

/// Every setting: first those of the server, then the limits in the order in which they are declared.
pub(super) const SETTINGS: &[Setting] = &[
    setting("data", "path", Words("a directory"), "The data directory; created when missing."),
    setting(
        "listen",
        "IP:PORT",
        Words("an address of this machine; without keys, of its loopback"),
        "The address of the HTTP server; port 0 takes a free one.",
    ),
    setting(
        "grpc",
        "IP:PORT",
        Words("an address of this machine's loopback"),
        "The address of the gRPC server; port 0 takes a free one.",
    ),
    setting(
        "log_format",
        "-",
        Words("text, json"),
        "How log lines are written: for people, or one JSON object a line.",
    ),
    setting(
        "log_level",
        "-",
        Words("error, warn, info, debug, trace"),
        "How much is logged; where it is not said, RUST_LOG chooses, and else info.",
    ),
    setting(
        "slow_request_ms",
        "ms",
        Words("0 and more"),
        "A request that takes as long gets a line in the log; 0 for every request.",
    ),
    setting(
        "metrics_open",
        "-",
        Words("true, false"),
        "Whether anybody may read /metrics; else it needs a key.",
    ),
    setting(
        "journal_archive_dir",
        "path",
        Words("a directory"),
        "Where old blocks of the journal are moved; where it is not set they stay in the data \
         directory.",
    ),
    setting(
        "tls.cert",
        "path",
        Words("a file in PEM"),
        "The server's certificate, and those between it and its authority; where it is not set the \
         server speaks plain HTTP.",
    ),
    setting("tls.key", "path", Words("a file in PEM"), "The private key of tls.cert."),
    setting(
        "tls.client_ca",
        "path",
        Words("a file in PEM"),
        "The authority of clients' certificates; where it is set, clients need one.",
    ),
    setting(
        "limits.shards",
        "actors",
        Whole(1, 64),
        "Shard actors. Balances move freely when it changes between two starts.",
    ),
    setting(
        "limits.requests_in_flight_max",
        "requests",
        Whole(1, 1 << 24),
        "Requests accepted and not yet answered; beyond that, overloaded.",
    ),
    setting(
        "limits.reads_in_flight_max",
        "reads",
        Whole(1, 1 << 20),
        "Reads accepted and not yet answered; beyond that, overloaded.",
    ),
    setting(
        "limits.batches_voting_max",
        "batches",
        Whole(1, 64),
        "Batches whose first votes are outstanding; while that many are, requests gather into larger \
         ones.",
    ),
    setting(
        "limits.shard_mailbox_messages_max",
        "messages",
        Whole(1, 1 << 16),
        "Messages that a shard's mailbox holds before the coordinator waits for it.",
    ),
    setting(
        "limits.log_mailbox_messages_max",
        "messages",
        Whole(1, 1 << 20),
        "Messages that the commit log's mailbox holds before the coordinator and the shards wait.",
    ),
    setting(
        "limits.commit_group_requests_max",
        "requests",
        Whole(1, 1 << 20),
        "Requests in one journal block, at most; one decision may exceed it.",
    ),
    setting(
        "limits.fold_requests_max",
        "requests",
        Whole(1, 1 << 28),
        "Requests that one fold of the version store takes in, at most.",
    ),
    setting(
        "limits.unfolded_requests_max",
        "requests",
        From("fold_requests_max", 1 << 30),
        "Requests that may be durable and not yet folded; beyond that the commit log waits.",
    ),
    setting(
        "limits.recent_ids_window_ms",
        "ms",
        Whole(SECOND_MS, HOUR_MS),
        "How far back a version-7 id's time may lie for the engine to know from memory that it is new.",
    ),
    setting(
        "limits.recent_ids_max",
        "ids",
        Whole(1_024, 1 << 32),
        "Request ids remembered for that, at most (about 28 bytes each).",
    ),
    setting(
        "limits.hold_expiry_ms",
        "ms",
        UpTo(1, "hold_expiry_max_ms"),
        "How long a prepared swap stands if its caller does not say.",
    ),
    setting(
        "limits.hold_expiry_max_ms",
        "ms",
        Whole(1, YEAR_MS),
        "How long a prepared swap may stand at most.",
    ),
    setting(
        "limits.holds_max",
        "holds",
        Whole(1, 1 << 28),
        "Holds that are open at once, at most, of all accounts together (about 300 bytes each).",
    ),
    setting(
        "limits.holds_per_account_max",
        "holds",
        Whole(1, 1 << 28),
        "Holds that are open at once, at most, in which one account has set something aside.",
    ),
    setting(
        "limits.held_share_max_percent",
        "percent",
        Whole(1, 100),
        "How much of one balance may be set aside at most, of available and held together when the \
         amount is granted.",
    ),
    setting(
        "limits.lock_wait_ms",
        "ms",
        Whole(1, HOUR_MS),
        "How long a request waits, at most, for the exclusive hold of another before it is refused.",
    ),
    setting(
        "limits.parked_requests_max",
        "requests",
        Whole(1, 1 << 24),
        "Requests that wait for exclusive holds at once, at most; beyond that, refused without a wait.",
    ),
    setting(
        "limits.transaction_attempts_max",
        "attempts",
        Whole(1, 64),
        "How often a transaction that met something undecided is sequenced before it is refused.",
    ),
    setting(
        "limits.market_actors",
        "actors",
        Whole(1, 64),
        "Market actors; markets are dealt to them by number.",
    ),
    setting(
        "limits.market_mailbox_messages_max",
        "messages",
        Whole(1, 1 << 16),
        "Messages that a market actor's mailbox holds before the coordinator waits for it.",
    ),
    setting(
        "limits.orders_per_market_max",
        "orders",
        Whole(1, 1 << 30),
        "Orders that stand in one market at once, at most (about 250 bytes each).",
    ),
    setting(
        "limits.history_retention_hours",
        "hours",
        Whole(0, HOURS_MAX),
        "How far back the version store remembers; 0 for ever.",
    ),
    setting(
        "limits.event_streams_max",
        "streams",
        Whole(0, 1 << 20),
        "Streams of events open at once; beyond that, overloaded.",
    ),
    setting(
        "limits.market_streams_max",
        "connections",
        Whole(0, 1 << 20),
        "Connections for market data open at once; beyond that, overloaded.",
    ),
    setting(
        "limits.market_subscriptions_max",
        "subscriptions",
        Whole(1, 1 << 13),
        "Subscriptions of one such connection.",
    ),
    setting(
        "limits.market_trades_kept_max",
        "trades",
        Whole(1, 1 << 24),
        "Trades of a followed market that are remembered for those who are behind (about 16 bytes each).",
    ),
    setting(
        "limits.journal_archive_after_secs",
        "s",
        Whole(1, ARCHIVE_AFTER_SECS_MAX),
        "How old a block of the journal is, in logical time, before it is moved to the archive, where there is one.",
    ),
    setting(
        "edge.connections_max",
        "connections",
        Whole(1, 1 << 20),
        "Connections open at once; the next one waits to be accepted.",
    ),
    setting(
        "edge.connections_per_address_max",
        "connections",
        UpTo(1, "connections_max"),
        "Of these, from one address (of IPv6, from one network of 64 bits); the next one is closed.",
    ),
    setting(
        "edge.head_bytes_max",
        "bytes",
        Whole(8_192, 1 << 20),
        "Longest head of a request: its line and its headers.",
    ),
    setting("edge.headers_max", "headers", Whole(16, 1_024), "Most headers of a request."),
    setting(
        "edge.streams_per_connection_max",
        "requests",
        Whole(1, 1 << 16),
        "Requests at once on one connection of HTTP/2.",
    ),
    setting(
        "edge.head_wait_ms",
        "ms",
        Whole(100, HOUR_MS),
        "How long a request's head may take to arrive, and its connection may wait for it.",
    ),
    setting(
        "edge.handshake_wait_ms",
        "ms",
        Whole(100, HOUR_MS),
        "How long a TLS handshake may take.",
    ),
    setting(
        "edge.idle_ms",
        "ms",
        Whole(100, HOUR_MS),
        "How long nothing may move on a connection, be it between requests or within one; streams say something every 15 s.",
    ),
    setting(
        "edge.signature_window_ms",
        "ms",
        Whole(1, HOUR_MS),
        "How far a signature's time may be from the server's, before or after.",
    ),
    setting(
        "edge.failures_burst_max",
        "failures",
        Whole(1, 1 << 20),
        "Failed authentications from one address in a burst; beyond that they are answered rate_limited.",
    ),
    setting(
        "edge.failures_per_second_max",
        "failures/s",
        Whole(1, 1 << 20),
        "Failed authentications a second from one address.",
    ),
];

/// The setting of that name.
pub(super) fn named(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The setting of which that is a misspelling, most likely.
pub(super) fn meant_by(key: &str) -> Option<&'static str> {
    // Somebody may have forgotten the table that it is in, or put it into one.
    let name = key.rsplit('.').next().unwrap_or(key);
    if let Some(same) = SETTINGS.iter().find(|setting| setting.name() == name) {
        return Some(same.key);
    }
    let alike = nearest(name, SETTINGS.iter().map(Setting::name))?;
    SETTINGS.iter().find(|setting| setting.name() == alike).map(|setting| setting.key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::super::settings::Settings;
    use super::*;
    use crate::config::{EdgeLimits, Limits};
    use crate::server::tls::TlsFiles;

    /// The names of everything that can be set.
    fn keys() -> BTreeSet<String> {
        let set = Settings {
            log_level: Some(crate::cli::settings::LogLevel::Info),
            journal_archive_dir: Some("archive".into()),
            tls: Some(TlsFiles {
                cert: "server.pem".into(),
                key: "server.key".into(),
                client_ca: Some("clients.pem".into()),
            }),
            ..Settings::default()
        };
        let table = toml::Table::try_from(set).unwrap();
        let mut keys = BTreeSet::new();
        for (key, value) in &table {
            match value.as_table() {
                Some(inner) => keys.extend(inner.keys().map(|name| format!("{key}.{name}"))),
                None => {
                    keys.insert(key.clone());
                }
            }
        }
        keys
    }

    #[test]
    fn every_setting_is_here_and_nothing_else() {
        let here: BTreeSet<String> =
            SETTINGS.iter().map(|setting| setting.key.to_owned()).collect();
        assert_eq!(here, keys());
        assert_eq!(here.len(), SETTINGS.len());
    }

    /// What is wrong with the limits when that one has that value.
    fn refused(name: &str, value: u64) -> Option<String> {
        refused_of("limits", name, value)
    }

    fn refused_of(within: &str, name: &str, value: u64) -> Option<String> {
        let mut table = toml::Table::new();
        table.insert(name.into(), toml::Value::Integer(i64::try_from(value).unwrap()));
        let checked = match within {
            "edge" => table.try_into::<EdgeLimits>().map(|limits| limits.validate()),
            _ => table.try_into::<Limits>().map(|limits| limits.validate()),
        };
        match checked {
            Ok(checked) => checked.err().map(|malformed| malformed.field),
            Err(_) => Some(name.to_owned()),
        }
    }

    #[test]
    fn ranges_are_those_that_a_start_insists_on() {
        let tables =
            SETTINGS.iter().filter_map(|setting| Some((setting.key.split_once('.')?.0, setting)));
        for (within, setting) in tables.filter(|(within, _)| *within != "tls") {
            let name = setting.name();
            let wrong = |value| refused_of(within, name, value).as_deref() == Some(name);
            let (low, high) = match setting.range {
                Whole(low, high) => (Some(low), Some(high)),
                From(_, high) => (None, Some(high)),
                UpTo(low, _) => (Some(low), None),
                Words(_) => panic!("{name} is a number"),
            };
            if let Some(low) = low {
                assert!(!wrong(low), "{name}: {low}");
                assert!(low == 0 || wrong(low - 1), "{name}: below {low}");
            }
            if let Some(high) = high {
                assert!(!wrong(high), "{name}: {high}");
                assert!(wrong(high + 1), "{name}: above {high}");
            }
        }
        let Limits { fold_requests_max, hold_expiry_max_ms, .. } = Limits::default();
        let below = fold_requests_max as u64 - 1;
        assert_eq!(
            refused("unfolded_requests_max", below).as_deref(),
            Some("unfolded_requests_max")
        );
        let above = hold_expiry_max_ms + 1;
        assert_eq!(refused("hold_expiry_ms", above).as_deref(), Some("hold_expiry_ms"));
    }

    #[test]
    fn misspelt_names_are_understood() {
        for (wrong, meant) in [
            ("shards", Some("limits.shards")),
            ("limits.listen", Some("listen")),
            ("limits.shard", Some("limits.shards")),
            ("lisen", Some("listen")),
            ("limits.hold_expiry", Some("limits.hold_expiry_ms")),
            ("limits.colour", None),
        ] {
            assert_eq!(meant_by(wrong), meant, "{wrong}");
        }
    }
}
