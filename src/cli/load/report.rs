//! What came of it, for people and as JSON.
//!
//! The names of the JSON fields are part of the public interface: add, never rename.

mod text;

use std::collections::BTreeMap;

use clap::ValueEnum;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::args::{Funds, LoadArgs, Mode, Skew};
use super::cpu::CpuUsed;
use super::environment::Environment;
use super::flow::EXPECTED;
use super::probe::Probe;
use super::reading::Reading;
use super::refusals::RefusalsChecked;
use super::runner::Ran;
use super::series::Sample;
use super::tally::OrderCounts;
use super::verify::Verdict;

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// In which way the swaps were settled.
    pub(super) mode: Mode,
    /// Swaps sent and answered, in the end.
    pub(super) swaps_attempted: u64,
    /// Of these, those that happened.
    pub(super) swaps_settled: u64,
    /// Of these, those that were refused.
    pub(super) swaps_rejected: u64,
    /// The refusals by code.
    pub(super) rejects: BTreeMap<&'static str, u64>,
    /// Transactions that were refused as conflicts; in the other modes, requests that met another
    /// one in any way.
    pub(super) conflicts: u64,
    /// Transactions that were tried again after a conflict.
    pub(super) retries: u64,
    /// How often each may be.
    pub(super) retries_max: u32,
    /// Swaps that met a conflict every time; neither settled nor rejected.
    pub(super) gave_up: u64,
    /// Requests of each kind by outcome, as the engine counted them.
    pub(super) requests: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// How requests met others, as the engine counted it.
    pub(super) conflict_kinds: BTreeMap<&'static str, u64>,
    /// What became of orders; `null` where none are sent.
    pub(super) orders: Option<Orders>,
    /// Holds left open. Must be 0.
    pub(super) holds_open: i64,
    /// Swaps that waited for another one's decision.
    pub(super) waits: u64,
    /// From the first submission to the last answer.
    pub(super) seconds: f64,
    /// Over that time.
    pub(super) settled_per_second: f64,
    /// Settled swaps over the time until the version store had caught up.
    pub(super) drained_per_second: f64,
    /// That time.
    pub(super) drained_seconds: f64,
    /// Whether it was stopped before its end.
    pub(super) stopped_early: bool,
    /// From when a swap's first request was sent (in an open loop: due) to the last answer to it.
    pub(super) latency_ms: Latency,
    /// `sync` or `off`.
    pub(super) durability: &'static str,
    /// Swaps in a submission.
    pub(super) batch: usize,
    /// Independent callers.
    pub(super) clients: usize,
    /// Accounts.
    pub(super) accounts: u64,
    /// Assets.
    pub(super) assets: u32,
    /// Which accounts swapped.
    pub(super) skew: Skew,
    /// How much they had.
    pub(super) funds: Funds,
    /// Swaps due per second; `null` in a closed loop.
    pub(super) rate: Option<f64>,
    /// Seed of the workload.
    pub(super) seed: u64,
    /// Shard actors.
    pub(super) shards: usize,
    /// Share of the swaps whose parties live on two shards.
    pub(super) cross_shard_pct: f64,
    /// Mean time in each stage.
    pub(super) stage_seconds: BTreeMap<&'static str, f64>,
    /// Synced writes of the journal.
    pub(super) fsync_seconds: Fsync,
    /// Mean number of requests in a journal block.
    pub(super) group_size_mean: f64,
    /// CPU time until drained, by name of thread, and of the whole process (`total`).
    pub(super) cpu_seconds_per_million_swaps: BTreeMap<String, f64>,
    /// CPU time of everything else on the machine meanwhile, in percent of all cores.
    pub(super) other_cpu_pct: f64,
    /// Growth of the data directory until drained, over the swaps attempted. Negative where what
    /// the set-up left was compacted away.
    pub(super) disk_bytes_per_swap: f64,
    /// Bytes written to the disk meanwhile, over the swaps attempted.
    pub(super) disk_written_bytes_per_swap: f64,
    /// What the disk alone takes; `null` unless the batch is 1.
    pub(super) fsync_probe: Option<Probes>,
    /// What was refused for lack of funds, checked; `null` while funds are ample.
    pub(super) refusals_checked: Option<RefusalsChecked>,
    /// Refusals whose claim is not true, or that ample funds rule out. Must be 0.
    pub(super) false_refusals: u64,
    /// The verdict; `null` if it was not asked for.
    pub(super) verified: Option<bool>,
    /// What was verified, and what is wrong.
    pub(super) verification: Option<Verdict>,
    /// Latency by percentile, finer the rarer it gets.
    pub(super) latency_percentiles: Vec<Percentile>,
    /// How it went over time.
    pub(super) series: Vec<Sample>,
    /// The command that measured it.
    pub(super) command: String,
    /// Where it was measured.
    pub(super) environment: Environment,
}

/// One point of the distribution of latencies.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Percentile {
    /// That many of a hundred answers took at most so long.
    percentile: f64,
    /// How long.
    ms: f64,
}

/// What became of orders.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Orders {
    /// Markets.
    pub(super) markets: u32,
    /// What callers were told.
    #[serde(flatten)]
    pub(super) told: OrderCounts,
    /// Trades, as the engine counted them.
    pub(super) trades: u64,
    /// Orders that stand at the end, more than before.
    pub(super) open: i64,
}

/// Quantiles of a latency in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

/// Synced writes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Fsync {
    p50: f64,
    p99: f64,
    mean: f64,
    count: u64,
}

/// The disk alone, in the same run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Probes {
    /// Before the load.
    pub(super) before: Probe,
    /// After it.
    pub(super) after: Probe,
    /// The median latency of a swap, over the mean of the two medians.
    pub(super) p50_ratio: f64,
}

/// Everything that was measured, for [`Report::new`] to bring into shape.
pub(super) struct Measured<'a> {
    /// What was asked for.
    pub(super) args: &'a LoadArgs,
    /// What the clients saw.
    pub(super) ran: &'a Ran,
    /// From the first submission until the version store had caught up.
    pub(super) drained_seconds: f64,
    /// How it went over time.
    pub(super) series: Vec<Sample>,
    /// Growth of the metrics over the load.
    pub(super) metrics: &'a Reading,
    /// Growth of the number of open holds.
    pub(super) holds_open: i64,
    /// CPU time until drained.
    pub(super) cpu: &'a CpuUsed,
    /// Growth of the data directory, and what was written to the disk.
    pub(super) disk_bytes: [f64; 2],
    /// The disk alone, before and after.
    pub(super) probes: Option<[Probe; 2]>,
    /// Where it was measured.
    pub(super) environment: Environment,
}

/// Above this, others had enough of the machine to distort what was measured: an append and its
/// sync also wait for kernel threads, which then queue for a processor.
const BUSY_PCT: f64 = 10.0;
/// Kinds of requests that a load sends.
const KINDS: [&str; 7] = ["swap", "prepare", "commit", "transaction", "order", "amend", "cancel"];
const CONFLICTS: [&str; 6] =
    ["balance_wait", "lock_wait", "lock_timeout", "busy", "read_validation", "duplicate_request"];
const STAGES: [&str; 5] = ["queue", "prepare", "decide", "apply", "persist"];

impl Latency {
    fn of(nanos: &Histogram<u64>) -> Self {
        let millis = |nanos: u64| nanos as f64 / 1e6;
        let quantile = |quantile| millis(nanos.value_at_quantile(quantile));
        Self {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: millis(nanos.max()),
        }
    }
}

impl Fsync {
    fn of(metrics: &Reading) -> Self {
        let fsync = metrics.distribution("crosslatch_fsync_seconds", "");
        Self { p50: fsync.p50, p99: fsync.p99, mean: fsync.mean, count: fsync.count }
    }
}

impl Orders {
    fn of(told: OrderCounts, args: &LoadArgs, metrics: &Reading) -> Self {
        let trades = metrics.sum("crosslatch_trades_total", "") as u64;
        let open = metrics.sum("crosslatch_open_orders", "") as i64;
        Self { markets: args.markets(), told, trades, open }
    }
}

impl Report {
    /// Brings what was measured into shape. Nothing is verified yet.
    pub(super) fn new(measured: Measured<'_>) -> Self {
        let Measured { args, ran, metrics, cpu, environment, series, .. } = measured;
        let tally = &ran.tally;
        let attempted = tally.ended();
        let latency_ms = Latency::of(&tally.latency);
        let conflict_kinds = conflict_kinds(metrics);
        let conflicts = match args.mode {
            Mode::Transaction => tally.conflicts,
            _ => conflict_kinds.values().sum(),
        };
        let cores = environment.cores.max(1) as f64;
        let [kept, written] = measured.disk_bytes.map(|bytes| bytes / (attempted as f64).max(1.0));
        Self {
            mode: args.mode,
            swaps_attempted: attempted,
            swaps_settled: tally.settled,
            swaps_rejected: tally.rejected_sum(),
            rejects: tally.rejected.clone(),
            conflicts,
            retries: tally.retries,
            retries_max: if args.mode == Mode::Transaction { args.retries() } else { 0 },
            gave_up: tally.gave_up,
            requests: requests(metrics),
            waits: conflict_kinds["balance_wait"],
            conflict_kinds,
            orders: (args.mode == Mode::Orders).then(|| Orders::of(tally.orders, args, metrics)),
            holds_open: measured.holds_open,
            seconds: ran.seconds,
            settled_per_second: per(tally.settled, ran.seconds),
            drained_per_second: per(tally.settled, measured.drained_seconds),
            drained_seconds: measured.drained_seconds,
            stopped_early: ran.stopped_early,
            latency_ms,
            durability: durability_name(args),
            batch: args.batch,
            clients: args.clients(),
            accounts: args.accounts,
            assets: args.assets(),
            skew: args.skew,
            funds: args.funds,
            rate: args.rate,
            seed: args.seed,
            shards: args.shards,
            cross_shard_pct: 100.0 * per(tally.cross_shard, attempted as f64),
            stage_seconds: stages(metrics),
            fsync_seconds: Fsync::of(metrics),
            group_size_mean: metrics.distribution("crosslatch_commit_group_size", "").mean,
            cpu_seconds_per_million_swaps: cpu_per_million(cpu, attempted),
            other_cpu_pct: 100.0 * cpu.others.as_secs_f64()
                / (measured.drained_seconds * cores).max(1e-9),
            disk_bytes_per_swap: kept,
            disk_written_bytes_per_swap: written,
            fsync_probe: measured.probes.map(|[before, after]| Probes {
                before,
                after,
                p50_ratio: latency_ms.p50 / ((before.p50_ms + after.p50_ms) / 2.0),
            }),
            refusals_checked: None,
            false_refusals: unasked_refusals(ran, args),
            verified: None,
            verification: None,
            latency_percentiles: percentiles(&tally.latency),
            series,
            command: command(),
            environment,
        }
    }

    /// Adds what the check of the refusals found.
    pub(super) fn add_refusals(&mut self, checked: RefusalsChecked) {
        self.false_refusals += checked.wrong;
        self.refusals_checked = Some(checked);
    }

    /// Adds the verdict.
    pub(super) fn add_verdict(&mut self, verdict: Verdict) {
        self.verified = Some(verdict.is_verified());
        self.verification = Some(verdict);
    }

    /// Whether everything that was checked is as it must be.
    pub(super) fn is_sound(&self) -> bool {
        self.verified != Some(false) && self.false_refusals == 0 && self.holds_open == 0
    }
}

/// With ample funds every refusal is a false one; with tight funds, any but for lack of funds.
/// Of orders, those are that no market says.
fn unasked_refusals(ran: &Ran, args: &LoadArgs) -> u64 {
    let is_asked = |code: &str| match args.mode {
        Mode::Orders => EXPECTED.contains(&code),
        _ => args.funds == Funds::Tight && code == "insufficient_funds",
    };
    let rejected = ran.tally.rejected.iter();
    rejected.filter(|(code, _)| !is_asked(code)).map(|(_, count)| count).sum()
}

/// Half as far from 100% with each step, as far as there are answers to say so.
fn percentiles(nanos: &Histogram<u64>) -> Vec<Percentile> {
    if nanos.is_empty() {
        return Vec::new();
    }
    let point = |percentile: f64| {
        let ms = nanos.value_at_percentile(percentile) as f64 / 1e6;
        Percentile { percentile, ms }
    };
    let answers = nanos.len() as f64;
    let left = std::iter::successors(Some(1.0), |left| Some(left / 2.0));
    let steps = left.take_while(|left| left * answers >= 1.0).map(|left| 100.0 * (1.0 - left));
    steps.chain([100.0]).map(point).collect()
}

/// The command line of this process, as a shell would take it.
fn command() -> String {
    let plain = |word: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%".contains(c);
        if !word.is_empty() && word.chars().all(is_plain) {
            return word.to_owned();
        }
        format!("'{}'", word.replace('\'', "'\\''"))
    };
    let mut words = std::env::args().map(|word| plain(&word));
    // Where the binary lies is not part of what was measured.
    words.next();
    std::iter::once("crosslatch".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// As it is written on the command line.
fn mode_name(mode: Mode) -> String {
    let value = mode.to_possible_value();
    value.as_ref().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn durability_name(args: &LoadArgs) -> &'static str {
    match args.durability {
        crate::engine::Durability::Sync => "sync",
        crate::engine::Durability::Off => "off",
    }
}

/// Kinds that were not sent are left out.
fn requests(metrics: &Reading) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
    let of_kind = |kind| {
        let counted = |outcome| {
            let labels = format!("{{kind=\"{kind}\",outcome=\"{outcome}\"}}");
            (outcome, metrics.sum("crosslatch_requests_total", &labels) as u64)
        };
        (kind, BTreeMap::from(["settled", "rejected"].map(counted)))
    };
    let counted = KINDS.into_iter().map(of_kind);
    counted.filter(|(_, outcomes)| outcomes.values().any(|count| *count > 0)).collect()
}

fn conflict_kinds(metrics: &Reading) -> BTreeMap<&'static str, u64> {
    let counted = |kind| {
        let label = format!("kind=\"{kind}\"");
        (kind, metrics.sum("crosslatch_conflicts_total", &label) as u64)
    };
    CONFLICTS.into_iter().map(counted).collect()
}

fn stages(metrics: &Reading) -> BTreeMap<&'static str, f64> {
    let mean = |stage| {
        let label = format!("stage=\"{stage}\"");
        (stage, metrics.distribution("crosslatch_stage_seconds", &label).mean)
    };
    STAGES.into_iter().map(mean).collect()
}

fn cpu_per_million(cpu: &CpuUsed, swaps: u64) -> BTreeMap<String, f64> {
    let total = ("total".to_owned(), cpu.process);
    let threads = cpu.threads.iter().cloned().chain([total]);
    threads.map(|(name, time)| (name, time.as_secs_f64() * per(1_000_000, swaps as f64))).collect()
}

/// 0 of nothing.
fn per(count: u64, of: f64) -> f64 {
    if of > 0.0 { count as f64 / of } else { 0.0 }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests;
