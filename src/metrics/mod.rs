//! Every metric: its name, its help, its buckets, and who records it.
//!
//! ```text
//! actor ── observer (handles kept) ── metrics facade ──► Recorder
//!                                                         ├─ counters, gauges ► the exporter
//!                                                         └─ our histograms   ► WeightedHistogram
//! /metrics ◄── Exporter::render: exporter, histograms, process
//! ```
//!
//! * [`METRICS`] is the whole list as data; nothing is exposed that it does not name.
//! * Observers such as [`CoordinatorMetrics`] are made once an actor and called once a batch.
//! * [`install`] makes this process record; without it observers cost next to nothing. A program
//!   that embeds the engine may install a recorder of its own instead: it gets every metric, but
//!   should override `HistogramFn::record_many`, as one call may stand for thousands of requests.
//! * A recorder belongs to a process, not to an engine: two engines in one process share series.
//!
//! ```
//! # fn main() -> Result<(), crosslatch::error::Error> {
//! use crosslatch::metrics::{self, CoordinatorMetrics};
//!
//! let exporter = metrics::install()?; // before the observers are made
//! CoordinatorMetrics::new().votes(3, 0, 0, 0, 0);
//! assert!(exporter.render().contains("crosslatch_votes_total{vote=\"yes\"} 3"));
//! # Ok(())
//! # }
//! ```

mod disk;
mod edge;
mod histogram;
mod observers;
mod process;
mod rocks;
mod table;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::error::{Error, Malformed};

pub use self::disk::DiskMetrics;
pub use self::edge::{
    Answered, EdgeMetrics, Face, OpenConnection, OpenStream, StreamKind, StreamMetrics, TurnedAway,
};
use self::histogram::Histograms;
pub use self::observers::{
    ArchiveMetrics, BookNow, Conflict, CoordinatorMetrics, EngineMetrics, LogMetrics,
    MatcherMetrics, MaterializerMetrics, RetentionMetrics, ShardMetrics,
};
pub use self::rocks::{FamilyProperty, RocksFamilyMetrics, RocksMetrics, RocksProperty};
pub use self::table::{Kind, Label, METRICS, Metric, Values};

/// How often the exporter tidies up what embedding programs record.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Reads what was recorded. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Exporter {
    prometheus: PrometheusHandle,
    histograms: Arc<Histograms>,
}

impl Exporter {
    /// Everything recorded so far as Prometheus text (version 0.0.4).
    pub fn render(&self) -> String {
        let mut out = self.prometheus.render();
        self.histograms.write(&mut out).expect("a string takes everything");
        process::write(&mut out);
        out
    }
}

/// Makes this process record its metrics. Call it before an engine starts; further calls return
/// the same exporter.
///
/// # Errors
/// [`Error::Config`] when the process has another recorder already, [`Error::Storage`] when the
/// operating system gives no thread. Further calls return the same error.
pub fn install() -> Result<Exporter, Error> {
    static INSTALLED: OnceLock<Result<Exporter, Error>> = OnceLock::new();
    INSTALLED.get_or_init(install_once).clone()
}

fn install_once() -> Result<Exporter, Error> {
    let (recorder, exporter) = build();
    metrics::set_global_recorder(recorder).map_err(|_| {
        let why = "cannot be installed: the process has another recorder";
        Error::Config(Malformed::new("metrics", why))
    })?;
    let handle = exporter.prometheus.clone();
    let upkeep = move || {
        for _ in &crossbeam::channel::tick(UPKEEP_EVERY) {
            handle.run_upkeep();
        }
    };
    std::thread::Builder::new()
        .name("metrics-upkeep".into())
        .spawn(upkeep)
        .map_err(|error| Error::Storage(format!("cannot start a thread: {error}")))?;
    Ok(exporter)
}

/// A recorder that knows the whole table, and what reads it.
fn build() -> (Recorder, Exporter) {
    let prometheus = PrometheusBuilder::new().build_recorder();
    let exporter =
        Exporter { prometheus: prometheus.handle(), histograms: Arc::new(Histograms::default()) };
    let recorder = Recorder { prometheus, histograms: Arc::clone(&exporter.histograms) };
    recorder.describe_all();
    metrics::with_local_recorder(&recorder, register_all);
    (recorder, exporter)
}

/// Makes every series whose labels are known beforehand, so that it shows 0 and not nothing:
/// an alert on something that never happened yet needs a series to look at.
fn register_all() {
    CoordinatorMetrics::new();
    LogMetrics::new();
    MaterializerMetrics::new();
    EngineMetrics::new();
    EdgeMetrics::new();
    StreamMetrics::new(StreamKind::Events);
    StreamMetrics::new(StreamKind::MarketData);
    RetentionMetrics::new();
    ArchiveMetrics::new();
    RocksMetrics::new();
    DiskMetrics::new();
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let version = env!("CARGO_PKG_VERSION");
    gauge!(table::BUILD_INFO.name, "version" => version, "profile" => profile).set(1.0);
}

/// The process's recorder: the exporter's, but for the histograms of the table.
#[derive(Debug)]
struct Recorder {
    prometheus: PrometheusRecorder,
    histograms: Arc<Histograms>,
}

impl Recorder {
    fn describe_all(&self) {
        use metrics::Recorder as _;
        for Metric { name, kind, unit, help, .. } in METRICS {
            let name = KeyName::from_const_str(name);
            let unit = Unit::from_string(unit);
            match kind {
                Kind::Counter => self.describe_counter(name, unit, (*help).into()),
                Kind::Gauge => self.describe_gauge(name, unit, (*help).into()),
                Kind::Histogram => self.describe_histogram(name, unit, (*help).into()),
            }
        }
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.prometheus.describe_counter(name, unit, help);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.prometheus.describe_gauge(name, unit, help);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.prometheus.describe_histogram(name, unit, help);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.prometheus.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.prometheus.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        match self.histograms.series(key) {
            Some(series) => Histogram::from_arc(series),
            None => self.prometheus.register_histogram(key, metadata),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::types::Operation;

    /// A recorder of the test's own in which every metric has something.
    fn everything_recorded() -> Exporter {
        let (recorder, exporter) = build();
        metrics::with_local_recorder(&recorder, record_everything);
        exporter
    }

    /// All of it as text, while a thread lives that has the name of an actor's.
    fn everything_shown() -> String {
        let exporter = everything_recorded();
        let (end, ended) = crossbeam::channel::bounded::<()>(0);
        let (begin, begun) = crossbeam::channel::bounded(0);
        let actor = std::thread::Builder::new().name("commit-log".into());
        // It has its name only once it runs.
        let live = move || begin.send(()).is_ok() && ended.recv().is_err();
        let actor = actor.spawn(live).expect("a thread");
        begun.recv().expect("it runs");
        let text = exporter.render();
        drop(end);
        assert!(actor.join().expect("it ends"), "nothing is sent");
        text
    }

    fn record_everything() {
        let coordinator = CoordinatorMetrics::new();
        coordinator.queue(20_000, 8);
        coordinator.prepare(150_000, 8);
        coordinator.decide(1, 8);
        coordinator.votes(9, 2, 1, 4, 3);
        coordinator.holds(6);
        coordinator.oldest_holds(1_700_000_000.5, 0.0);
        coordinator.decided_seq(9);
        coordinator.orders(5);
        coordinator.parked(2);
        coordinator.operation(Operation::Halted);
        coordinator.cross_shard(5, 2, 1);
        coordinator.conflict(Conflict::BalanceWait, 1);
        coordinator.waited(Conflict::BalanceWait, 90_000, 1);
        coordinator.mailbox(3);
        ShardMetrics::new(0).mailbox(1);
        ShardMetrics::new(1).mailbox(2);
        let mut matcher = MatcherMetrics::new(0);
        matcher.mailbox(4);
        matcher.market((0, "ETH-SOL"), 3, BookNow { standing: 8, best: [Some(20), None] });
        let log = LogMetrics::new();
        log.apply(30_000, 8);
        log.persist(700_000, 8);
        log.group(8, 2_000);
        log.fsync(200_000);
        log.durable_seq(7);
        log.answered("swap", true, 7);
        log.answered("swap", false, 1);
        log.answered("withdrawal_confirm", true, 1);
        log.rejected("insufficient_funds", 1);
        log.resolved("expired", 3);
        log.request("swap", 1_000_000, 8);
        log.mailbox(4);
        log.supply_violation();
        let materializer = MaterializerMetrics::new();
        materializer.applied_seq(5);
        materializer.fold(20_000_000, 5);
        materializer.mailbox(0);
        let engine = EngineMetrics::new();
        engine.in_flight(11);
        engine.malformed("deposit", 2);
        engine.failed("link", 1);
        engine.overloaded(64);
        engine.transact_retried();
        let edge = EdgeMetrics::new();
        drop(edge.connection());
        edge.connection_refused();
        edge.handshake_failed();
        edge.turned_away(TurnedAway::Forbidden);
        let streams = StreamMetrics::new(StreamKind::MarketData);
        drop(streams.stream());
        let stream = streams.stream();
        stream.sent(3);
        stream.dropped();
        std::mem::forget(stream);
        drop(StreamMetrics::new(StreamKind::Events).stream());
        edge.answered(Face::Http, Answered::PushedBack, 3_000_000);
        DiskMetrics::new().show(1_000, 4_000);
        RetentionMetrics::new().horizon_seq(4);
        let archive = ArchiveMetrics::new();
        archive.archived(9, 1_000);
        archive.behind_secs(7);
        archive.failed();
        let rocks = RocksMetrics::new();
        RocksProperty::ALL.iter().for_each(|property| rocks.set(*property, 1.0));
        let family = RocksFamilyMetrics::new("versions");
        FamilyProperty::ALL.iter().for_each(|property| family.set(*property, 1.0));
    }

    /// Name, labels, value of every sample. (Our label values hold neither commas nor quotes.)
    fn samples(text: &str) -> Vec<(String, BTreeMap<String, String>, f64)> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
            let label = |label: &str| {
                let (name, value) = label.split_once('=').expect("name=value");
                (name.to_owned(), value.trim_matches('"').to_owned())
            };
            (name.to_owned(), labels.map(label).collect(), value.parse().expect("a number"))
        };
        lines.map(sample).collect()
    }

    /// The metric to which a sample belongs: a histogram's have suffixes.
    fn metric_of(sample: &str) -> &'static Metric {
        let belongs = |metric: &&Metric| match metric.kind {
            Kind::Histogram => sample
                .strip_prefix(metric.name)
                .is_some_and(|suffix| ["_bucket", "_sum", "_count"].contains(&suffix)),
            Kind::Counter | Kind::Gauge => sample == metric.name,
        };
        METRICS.iter().find(belongs).unwrap_or_else(|| panic!("{sample} is not documented"))
    }

    fn value(text: &str, series: &str) -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().expect("a number")
    }

    #[test]
    fn exactly_the_table_is_shown() {
        let text = everything_shown();
        let typed: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let expected: BTreeSet<String> =
            METRICS.iter().map(|metric| format!("{} {}", metric.name, metric.kind)).collect();
        assert_eq!(typed.iter().map(|line| (*line).to_owned()).collect::<BTreeSet<_>>(), expected);
        assert_eq!(typed.len(), expected.len(), "a metric is shown twice");
        for Metric { name, help, .. } in METRICS {
            assert!(text.contains(&format!("# HELP {name} {help}\n")), "{name}");
        }
        let shown: BTreeSet<_> =
            samples(&text).iter().map(|(name, ..)| metric_of(name).name).collect();
        assert_eq!(shown.len(), METRICS.len());
    }

    #[test]
    fn labels_take_only_the_values_of_the_table() {
        for (name, mut labels, _) in samples(&everything_shown()) {
            let metric = metric_of(&name);
            assert_eq!(labels.remove("le").is_some(), name.ends_with("_bucket"), "{name}");
            for Label { name: label, values } in metric.labels {
                let value = labels.remove(*label);
                match (value, values) {
                    (Some(value), Values::Listed(listed)) => {
                        assert!(listed.contains(&&*value), "{name}: {label} is {value}");
                    }
                    (Some(_), Values::Open { .. }) => {}
                    (None, _) => {
                        let of_actors = [table::MAILBOX.name, table::THREAD_CPU.name];
                        assert!(of_actors.contains(&name.as_str()) && *label == "shard", "{name}");
                    }
                }
            }
            assert!(labels.is_empty(), "{name} has {labels:?}");
        }
    }

    #[test]
    fn every_listed_series_exists_from_the_start() {
        let (_recorder, exporter) = build();
        let samples = samples(&exporter.render());
        for metric in METRICS.iter().filter(|metric| !metric.name.starts_with("process_")) {
            let closed = metric.labels.iter().filter_map(|label| match label.values {
                Values::Listed(values) => Some(values.len()),
                Values::Open { .. } => None,
            });
            if closed.clone().count() < metric.labels.len() {
                continue;
            }
            let name = match metric.kind {
                Kind::Histogram => format!("{}_count", metric.name),
                Kind::Counter | Kind::Gauge => metric.name.to_owned(),
            };
            let found =
                samples.iter().filter(|(sample, _, value)| *sample == name && *value == 0.0);
            assert_eq!(found.count(), closed.product::<usize>(), "{name}");
        }
    }

    #[test]
    fn what_was_recorded_is_what_is_shown() {
        let text = everything_shown();
        for (series, expected) in [
            (r#"crosslatch_requests_total{kind="swap",outcome="settled"}"#, 7.0),
            (r#"crosslatch_requests_total{kind="deposit",outcome="rejected"}"#, 2.0),
            (r#"crosslatch_requests_total{kind="link",outcome="failed"}"#, 1.0),
            (r#"crosslatch_rejects_total{reason="insufficient_funds"}"#, 1.0),
            (r#"crosslatch_rejects_total{reason="malformed"}"#, 2.0),
            (r#"crosslatch_rejects_total{reason="overloaded"}"#, 64.0),
            (r#"crosslatch_rejects_total{reason="stopped"}"#, 1.0),
            (r#"crosslatch_votes_total{vote="yes"}"#, 9.0),
            (r#"crosslatch_votes_total{vote="busy"}"#, 4.0),
            (r#"crosslatch_votes_total{vote="locked"}"#, 3.0),
            ("crosslatch_holds", 6.0),
            ("crosslatch_open_orders", 5.0),
            (r#"crosslatch_trades_total{market="ETH-SOL"}"#, 3.0),
            (r#"crosslatch_book_depth{market="ETH-SOL"}"#, 8.0),
            (r#"crosslatch_book_best_price{market="ETH-SOL",side="bid"}"#, 20.0),
            (r#"crosslatch_oldest_hold_timestamp_seconds{kind="prepared"}"#, 1_700_000_000.5),
            (r#"crosslatch_api_requests_total{face="http",answer="pushed_back"}"#, 1.0),
            (r#"crosslatch_api_seconds_count{face="http"}"#, 1.0),
            ("crosslatch_disk_free_bytes", 1_000.0),
            ("crosslatch_decided_seq", 9.0),
            (r#"crosslatch_holds_resolved_total{how="expired"}"#, 3.0),
            ("crosslatch_parked_requests", 2.0),
            ("crosslatch_operation", 3.0),
            ("crosslatch_transaction_retries_total", 1.0),
            ("crosslatch_history_horizon_seq", 4.0),
            ("crosslatch_archived_blocks", 9.0),
            ("crosslatch_archived_bytes_total", 1_000.0),
            ("crosslatch_archive_behind_seconds", 7.0),
            ("crosslatch_archive_failures_total", 1.0),
            (r#"crosslatch_streams{kind="market_data"}"#, 1.0),
            (r#"crosslatch_streams{kind="events"}"#, 0.0),
            (r#"crosslatch_stream_messages_total{kind="market_data"}"#, 3.0),
            (r#"crosslatch_streams_dropped_total{kind="market_data"}"#, 1.0),
            (r#"crosslatch_cross_shard_total{shards="more"}"#, 1.0),
            (r#"crosslatch_mailbox_messages{actor="coordinator"}"#, 3.0),
            (r#"crosslatch_mailbox_messages{actor="shard",shard="1"}"#, 2.0),
            (r#"crosslatch_stage_seconds_bucket{stage="queue",le="0.0000125"}"#, 0.0),
            (r#"crosslatch_stage_seconds_bucket{stage="queue",le="0.000025"}"#, 8.0),
            (r#"crosslatch_stage_seconds_sum{stage="prepare"}"#, 0.0012),
            (r#"crosslatch_wait_seconds_count{kind="balance_wait"}"#, 1.0),
            (r#"crosslatch_request_seconds_count{kind="swap"}"#, 8.0),
            (r#"crosslatch_commit_group_size_bucket{le="8"}"#, 1.0),
            ("crosslatch_commit_group_bytes_sum", 2_000.0),
            ("crosslatch_fold_size_sum", 5.0),
            ("crosslatch_durable_seq", 7.0),
            ("crosslatch_supply_violations_total", 1.0),
            (r#"crosslatch_rocksdb_level0_files{column_family="versions"}"#, 1.0),
        ] {
            let shown = value(&text, series);
            assert!((shown - expected).abs() < 1e-12, "{series} is {shown}");
        }
    }

    #[test]
    fn histograms_of_embedding_programs_are_shown_as_well() {
        let (recorder, exporter) = build();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("someone_elses_seconds").record(1.0);
            metrics::histogram!("crosslatch_fsync_seconds").record_many(1.0, 5);
        });
        let text = exporter.render();
        assert_eq!(value(&text, "someone_elses_seconds_count").to_bits(), 1f64.to_bits());
        assert_eq!(value(&text, "crosslatch_fsync_seconds_count").to_bits(), 5f64.to_bits());
    }

    #[test]
    fn installing_twice_gives_the_same_exporter() {
        let first = install().expect("no other recorder in this test binary");
        let second = install().expect("installed already");
        assert!(Arc::ptr_eq(&first.histograms, &second.histograms));
    }

    /// `promtool` comes with the package `prometheus` of Debian and Ubuntu.
    #[test]
    fn promtool_finds_nothing_to_complain_about() {
        let mut command = Command::new("promtool");
        command.args(["check", "metrics"]).stdin(Stdio::piped());
        let Ok(mut promtool) = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() else {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "promtool is not installed");
            eprintln!("SKIPPED: promtool is not installed (apt-get install prometheus)");
            return;
        };
        let text = everything_shown();
        let mut input = promtool.stdin.take().expect("piped");
        input.write_all(text.as_bytes()).expect("promtool reads");
        drop(input);
        let output = promtool.wait_with_output().expect("promtool ends");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
        assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
}
