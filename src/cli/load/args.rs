//! What `crosslatch load` can be asked for, and whether it can be done.
//!
//! The flags are the public interface. [`LoadArgs::check`] finds what no single flag can know:
//! combinations that make no sense, and what does not exist yet.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Serialize, Serializer};

use crate::cli::client::target::AccessArgs;
use crate::config::{ASSETS_MAX, BATCH_REQUESTS_MAX, Limits, MARKETS_MAX};
use crate::engine::Durability;

/// Swaps that are sent when neither a number nor a duration is given.
const SWAPS_DEFAULT: u64 = 3_000_000;
/// Requests that the default number of clients keeps in flight. Fewer leave stages idle where the
/// disk is slow; more raise the latency and nothing else.
const IN_FLIGHT_DEFAULT: usize = 16_384;
/// The default number of clients, whatever the batch: fewest and most.
const CLIENTS_DEFAULT: (usize, usize) = (4, 64);
/// How often a transaction that met a conflict is tried again, unless said otherwise.
const RETRIES_DEFAULT: u32 = 16;
/// Most callers: each is a task with a random generator of its own.
const CLIENTS_MAX: usize = 65_536;
/// Markets, unless said otherwise.
const MARKETS_DEFAULT: u32 = 16;
/// Assets, unless said otherwise; where orders are sent, each market has one of its own to sell.
const ASSETS_DEFAULT: u32 = 2;
/// Most accounts: their balances have to fit into memory.
const ACCOUNTS_MAX: u64 = 100_000_000;

/// Sends swaps to a fresh engine in this process, shows the rate live, and reports.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// In which way the swaps are settled; which swaps they are does not depend on it
    #[arg(long, value_enum, default_value_t = Mode::Swap)]
    pub mode: Mode,
    /// How often a transaction that met a conflict is tried again, with the next submission [default: 16]
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// Swaps to send [default: 3000000]
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    pub swaps: Option<u64>,
    /// Send for that long instead, as in 30s, 500ms or 2m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Open loop: swaps due per second; latency counts from when a submission was due
    #[arg(long, value_name = "N/s", value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Swaps in one submission
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub batch: usize,
    /// Independent callers, each with one submission in flight [default: 4 to 64, by the batch]
    #[arg(long, value_name = "N")]
    pub clients: Option<usize>,
    /// Accounts to create
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub accounts: u64,
    /// Assets to create, on two chains [default: 2; with --mode orders one more than markets]
    #[arg(long, value_name = "N")]
    pub assets: Option<u32>,
    /// Markets to create, with --mode orders [default: 16]
    #[arg(long, value_name = "N")]
    pub markets: Option<u32>,
    /// Which accounts swap: uniform, zipf:EXPONENT, or hot:K (one of K accounts is in every swap)
    #[arg(long, value_name = "SKEW", default_value = "uniform", value_parser = parse_skew)]
    pub skew: Skew,
    /// Percentage of swaps between accounts of two shards [default: as chance has it]
    #[arg(long, value_name = "PCT", value_parser = parse_percentage)]
    pub cross_shard: Option<f64>,
    /// Seed of everything that is random
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// ample: nothing is ever refused; tight: a tenth waits, a tenth is refused, and each refusal is checked
    #[arg(long, value_enum, default_value_t = Funds::Ample)]
    pub funds: Funds,
    /// Data directory [default: a temporary one in the current directory, removed afterwards]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Load a running server instead: grpc://HOST:PORT or http://HOST:PORT, or over TLS grpcs:// or https://
    #[arg(long, value_name = "URL", conflicts_with_all = ["data", "shards", "durability", "cross_shard"])]
    pub url: Option<String>,
    /// With --url: who asks, and whom to trust
    #[command(flatten)]
    pub access: AccessArgs,
    /// Shard actors
    #[arg(long, value_name = "N", default_value_t = Limits::default().shards)]
    pub shards: usize,
    /// sync: every answer follows an fsync; off: to measure what the disk costs, nothing else
    #[arg(long, value_name = "sync|off", default_value = "sync", value_parser = parse_durability)]
    pub durability: Durability,
    /// Afterwards stop, open the data again, and prove that nothing was lost
    #[arg(long)]
    pub verify: bool,
    /// Print the report as one JSON object, to standard output or to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-",
          overrides_with = "json")]
    pub json: Option<PathBuf>,
    /// Write the report as one page of HTML
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Find the knee: run closed, then at rising rates (5s each, or --duration), and print the table
    #[arg(long, conflicts_with_all = ["swaps", "rate", "report", "data", "metrics"])]
    pub sweep: bool,
    /// Run nothing: compare two kept reports (or arrays of them); the status is 3 if the second is worse
    #[arg(long, num_args = 2, value_names = ["BEFORE.json", "AFTER.json"],
          conflicts_with_all = ["url", "data", "swaps", "duration", "rate", "verify", "json", "report", "sweep"])]
    pub compare: Option<Vec<PathBuf>>,
    /// Serve /metrics on this address while it runs
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
}

/// In which way swaps are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One request a swap: both legs settle, or neither
    Swap,
    /// A submission of prepares, and when it is answered one of commits: two requests a swap, each durable
    TwoPhase,
    /// One read of all balances, then a transaction a swap that is refused if one of them has changed
    Transaction,
    /// Orders, amendments and cancellations, one request each: --swaps and --rate count requests
    Orders,
}

/// How much the accounts have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Funds {
    /// So much that nothing is ever refused.
    Ample,
    /// So little that at least a tenth of the swaps wait for another one, and a tenth are refused.
    Tight,
}

/// Which accounts swap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Skew {
    /// Every account alike.
    Uniform,
    /// By rank, with this exponent.
    Zipf(f64),
    /// One of this many accounts in every swap, the other one from the rest.
    Hot(u64),
}

impl std::fmt::Display for Skew {
    /// As it is written on the command line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(exponent) => write!(f, "zipf:{exponent}"),
            Self::Hot(accounts) => write!(f, "hot:{accounts}"),
        }
    }
}

impl Serialize for Skew {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// When the sending ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// After so many swaps.
    Swaps(u64),
    /// After so long.
    After(Duration),
}

impl LoadArgs {
    /// How many callers there are: as asked, or enough to keep the engine busy.
    pub(super) fn clients(&self) -> usize {
        let (fewest, most) = CLIENTS_DEFAULT;
        let enough = IN_FLIGHT_DEFAULT / self.batch.max(1);
        self.clients.unwrap_or_else(|| enough.clamp(fewest, most))
    }

    /// When the sending ends.
    pub(super) fn end(&self) -> End {
        match self.duration {
            Some(duration) => End::After(duration),
            None => End::Swaps(self.swaps.unwrap_or(SWAPS_DEFAULT)),
        }
    }

    /// Markets to create.
    pub(super) fn markets(&self) -> u32 {
        if self.mode == Mode::Orders { self.markets.unwrap_or(MARKETS_DEFAULT) } else { 0 }
    }

    /// Assets to create.
    pub(super) fn assets(&self) -> u32 {
        let default = ASSETS_DEFAULT.max(self.markets().saturating_add(1));
        self.assets.unwrap_or(default.min(ASSETS_MAX as u32))
    }

    /// How often a transaction that met a conflict is tried again.
    pub(super) fn retries(&self) -> u32 {
        self.retries.unwrap_or(RETRIES_DEFAULT)
    }

    /// The engine's limits, with room for everything that the clients may have in flight: one
    /// account may have part in all of it.
    pub(super) fn limits(&self) -> Limits {
        let defaults = Limits::default();
        let in_flight = self.clients() * self.batch;
        Limits {
            shards: self.shards,
            requests_in_flight_max: defaults.requests_in_flight_max.max(in_flight),
            reads_in_flight_max: defaults.reads_in_flight_max.max(self.clients()),
            holds_max: defaults.holds_max.max(in_flight),
            holds_per_account_max: defaults.holds_per_account_max.max(in_flight),
            ..defaults
        }
    }

    /// Finds what cannot be done.
    ///
    /// # Errors
    /// The flag at fault and what would be right, to be shown to whoever typed it.
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_mode()?;
        self.check_url()?;
        between("--swaps", self.swaps.unwrap_or(1), 1, u64::MAX)?;
        between("--batch", self.batch as u64, 1, BATCH_REQUESTS_MAX as u64)?;
        between("--clients", self.clients() as u64, 1, CLIENTS_MAX as u64)?;
        between("--accounts", self.accounts, 2, ACCOUNTS_MAX)?;
        between("--assets", u64::from(self.assets()), 2, ASSETS_MAX as u64)?;
        if let Skew::Hot(accounts) = self.skew {
            between("--skew hot:K", accounts, 1, self.accounts)?;
        }
        if self.shards == 1 && self.cross_shard.is_some_and(|share| share > 0.0) {
            return Err("--cross-shard needs at least --shards 2".into());
        }
        self.limits().validate().map_err(|malformed| malformed.to_string())
    }

    /// Finds what cannot be asked of a server.
    fn check_url(&self) -> Result<(), String> {
        let Some(url) = &self.url else { return Ok(()) };
        if self.mode == Mode::Orders && url.starts_with("http") {
            return Err("--mode orders goes to a server over grpc://".into());
        }
        Ok(())
    }

    /// Finds flags of another mode.
    fn check_mode(&self) -> Result<(), String> {
        if self.retries.is_some() && self.mode != Mode::Transaction {
            return Err("--retries is for --mode transaction: nothing else conflicts".into());
        }
        if self.mode != Mode::Orders {
            let none = self.markets.is_none();
            return none.then_some(()).ok_or("--markets is for --mode orders".into());
        }
        between("--markets", self.markets().into(), 1, MARKETS_MAX as u64)?;
        if self.funds == Funds::Tight {
            return Err("--funds tight is for swaps: orders are sent with ample funds".into());
        }
        if self.cross_shard.is_some() {
            return Err("--cross-shard is for swaps: whom an order meets, its market says".into());
        }
        Ok(())
    }
}

fn between(flag: &str, value: u64, low: u64, high: u64) -> Result<(), String> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(format!("{flag} is {value}; give {low} to {high}"))
}

fn parse_skew(text: &str) -> Result<Skew, String> {
    let (name, parameter) = text.split_once(':').unwrap_or((text, ""));
    match name {
        "uniform" if parameter.is_empty() => Ok(Skew::Uniform),
        "zipf" => match parameter.parse::<f64>() {
            Ok(exponent) if exponent > 0.0 && exponent.is_finite() => Ok(Skew::Zipf(exponent)),
            _ => Err("zipf takes an exponent above 0, as in zipf:1.07".into()),
        },
        "hot" => match parameter.parse() {
            Ok(accounts) if accounts > 0 => Ok(Skew::Hot(accounts)),
            _ => Err("hot takes a number of accounts, as in hot:1".into()),
        },
        _ => Err("give uniform, zipf:EXPONENT or hot:K".into()),
    }
}

fn parse_durability(text: &str) -> Result<Durability, String> {
    match text {
        "sync" => Ok(Durability::Sync),
        "off" => Ok(Durability::Off),
        _ => Err("give sync or off".into()),
    }
}

/// Swaps per second: `50000` or `50000/s`.
fn parse_rate(text: &str) -> Result<f64, String> {
    match text.strip_suffix("/s").unwrap_or(text).parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        _ => Err("give swaps per second, as in 50000/s".into()),
    }
}

fn parse_percentage(text: &str) -> Result<f64, String> {
    match text.strip_suffix('%').unwrap_or(text).parse::<f64>() {
        Ok(share) if (0.0..=100.0).contains(&share) => Ok(share),
        _ => Err("give a percentage from 0 to 100".into()),
    }
}

/// `30s`, `500ms`, `2m`, `1h`; a number alone is seconds.
pub(in crate::cli) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds_per_unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("give a time in ms, s, m or h, as in 30s".into()),
    };
    let seconds = digits.parse::<f64>().map(|number| number * seconds_per_unit);
    match seconds.map(Duration::try_from_secs_f64) {
        Ok(Ok(duration)) if !duration.is_zero() => Ok(duration),
        _ => Err("give a time above zero, as in 30s".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn parse(line: &str) -> Result<LoadArgs, String> {
        let words = std::iter::once("load").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.load.check().map(|()| line.load)
    }

    #[test]
    fn defaults_can_be_done() {
        let load = parse("").unwrap();
        assert_eq!(load.end(), End::Swaps(SWAPS_DEFAULT));
        assert_eq!((load.batch, load.clients(), load.shards), (4096, 4, 2));
        assert_eq!(load.durability, Durability::Sync);
        assert_eq!(load.json, None);
        assert_eq!(parse("--batch 1").unwrap().clients(), 64);
        assert_eq!(parse("--batch 8192").unwrap().clients(), 4);
    }

    #[test]
    fn values_are_read_with_their_units() {
        let load = parse("--duration 1500ms --rate 50000/s --skew zipf:1.07 --cross-shard 25%");
        let load = load.unwrap();
        assert_eq!(load.end(), End::After(Duration::from_millis(1_500)));
        assert_eq!((load.rate, load.cross_shard), (Some(50_000.0), Some(25.0)));
        assert_eq!(load.skew, Skew::Zipf(1.07));
        assert_eq!(load.skew.to_string(), "zipf:1.07");
        assert_eq!(parse("--duration 2m").unwrap().duration, Some(Duration::from_secs(120)));
        assert_eq!(parse("--skew hot:3").unwrap().skew, Skew::Hot(3));
    }

    #[test]
    fn json_goes_to_standard_output_or_to_a_file() {
        assert_eq!(parse("--json --verify").unwrap().json, Some("-".into()));
        assert_eq!(parse("--json out.json").unwrap().json, Some("out.json".into()));
    }

    #[test]
    fn transactions_say_how_often_they_try_again() {
        let load = parse("--mode transaction --retries 0").unwrap();
        assert_eq!((load.mode, load.retries()), (Mode::Transaction, 0));
        assert_eq!(parse("--mode transaction").unwrap().retries(), RETRIES_DEFAULT);
    }

    #[test]
    fn every_market_sells_an_asset_of_its_own() {
        assert_eq!((parse("").unwrap().assets(), parse("").unwrap().markets()), (2, 0));
        let orders = |line| parse(&format!("--mode orders {line}")).unwrap();
        assert_eq!((orders("").assets(), orders("").markets()), (17, 16));
        assert_eq!(orders("--markets 1").assets(), 2);
        let few = orders("--markets 5 --assets 3");
        assert_eq!((few.assets(), few.markets()), (3, 5));
    }

    #[test]
    fn many_clients_get_room_in_flight() {
        let load = parse("--clients 64 --batch 8192").unwrap();
        assert_eq!(load.limits().requests_in_flight_max, 64 * 8192);
        assert_eq!(load.limits().holds_per_account_max, 64 * 8192);
        let refused = parse("--clients 65536 --batch 8192").expect_err("too much");
        assert!(refused.contains("requests_in_flight_max"), "{refused}");
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (line, what) in [
            ("--markets 3", "--mode orders"),
            ("--mode orders --markets 0", "--markets is 0; give 1 to"),
            ("--mode orders --funds tight", "--funds tight is for swaps"),
            ("--mode orders --cross-shard 5", "--cross-shard is for swaps"),
            ("--mode orders --retries 3", "--mode transaction"),
            ("--retries 3", "--mode transaction"),
            ("--mode two-phase --retries 3", "--mode transaction"),
            ("--batch 8193", "--batch is 8193; give 1 to 8192"),
            ("--batch 0", "--batch is 0"),
            ("--clients 0", "--clients is 0"),
            ("--accounts 1", "--accounts is 1; give 2"),
            ("--assets 1", "--assets is 1; give 2"),
            ("--shards 65", "shards is 65"),
            ("--shards 1 --cross-shard 10", "--shards 2"),
            ("--skew hot:0", "hot:1"),
            ("--skew hot:200000", "--skew hot:K is 200000"),
            ("--skew zipf:x", "zipf:1.07"),
            ("--skew pareto", "uniform, zipf:EXPONENT or hot:K"),
            ("--cross-shard 101", "0 to 100"),
            ("--duration 5y", "ms, s, m or h"),
            ("--duration 0s", "above zero"),
            ("--rate 0", "50000/s"),
            ("--swaps 5 --duration 5s", "cannot be used with"),
        ] {
            let refused = parse(line).expect_err(line);
            assert!(refused.contains(what), "{line}: {refused}");
        }
    }
}
