//! One line that says how it goes: rewritten in place on a terminal, else a line a second.
//!
//! It goes to standard error, as the report may be asked for on standard output.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::engine::Engine;
use crate::metrics::Exporter;

use super::alarm::Alarm;
use super::reading::Reading;
use super::report::grouped;
use super::runner::Shared;
use super::series::{Sample, Series};
use super::tally::empty_histogram;

const CONFLICTS: &str = "crosslatch_conflicts_total";
/// Between two samples.
const EVERY: Duration = Duration::from_millis(250);
const EVERY_ON_TERMINAL: Duration = EVERY;
const EVERY_ELSEWHERE: Duration = Duration::from_secs(1);

/// What the line is made of.
pub(super) struct Progress<'a> {
    /// Says how far the version store lags behind.
    pub(super) engine: &'a Engine,
    /// Says what conflicted.
    pub(super) exporter: &'a Exporter,
    /// What conflicted before.
    pub(super) before: &'a Reading,
}

impl Progress<'_> {
    /// Shows the line until `done` goes off, and keeps what it showed.
    pub(super) fn show(&self, shared: &Shared, done: &Alarm, series: &mut Series) {
        let terminal = std::io::stderr().is_terminal();
        let every = if terminal { EVERY_ON_TERMINAL } else { EVERY_ELSEWHERE };
        let mut before = Sums::none();
        let mut since_shown = Duration::ZERO;
        loop {
            let is_done = done.wait(EVERY);
            let sums = Sums::of(shared);
            let sample = sums.sample(&before);
            series.add(sample);
            before = sums;
            if is_done {
                break;
            }
            since_shown += EVERY;
            if since_shown >= every {
                self.print(&before, &sample, terminal);
                since_shown = Duration::ZERO;
            }
        }
        if terminal {
            // The cursor stands behind the last line.
            eprintln!();
        }
    }

    fn print(&self, sums: &Sums, sample: &Sample, terminal: bool) {
        let conflicts = Reading::take(self.exporter).since(self.before).sum(CONFLICTS, "");
        let status = self.engine.status();
        let lag = status.durable_seq.get().saturating_sub(status.applied_seq.get());
        let line = format!(
            "{:6.1}s  {:>9}/s  p50 {:.2} ms  p99 {:.2} ms  settled {}  rejected {}  conflicts {}  D-A {}",
            sample.seconds,
            grouped(sample.ended_per_second as u64),
            sample.p50_ms,
            sample.p99_ms,
            grouped(sums.settled),
            grouped(sums.rejected),
            grouped(conflicts as u64),
            grouped(lag),
        );
        let mut stderr = std::io::stderr().lock();
        // Who closed standard error does not want to see it.
        let _ = if terminal {
            write!(stderr, "\r{line}\x1b[K").and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{line}")
        };
    }
}

/// All tallies at one moment.
struct Sums {
    /// From when sending began.
    seconds: f64,
    settled: u64,
    rejected: u64,
    ended: u64,
    /// Latencies of what was answered since the last moment.
    recent: hdrhistogram::Histogram<u64>,
}

impl Sums {
    fn none() -> Self {
        Self { seconds: 0.0, settled: 0, rejected: 0, ended: 0, recent: empty_histogram() }
    }

    fn of(shared: &Shared) -> Self {
        let nanos = SystemClock.boot_nanos() - shared.started_nanos;
        let mut sums = Self { seconds: nanos as f64 / 1e9, ..Self::none() };
        for mut tally in shared.tallies() {
            sums.settled += tally.settled;
            sums.rejected += tally.rejected_sum();
            sums.ended += tally.ended();
            let recent = &mut tally.latency_recent;
            sums.recent.add(&*recent).expect("all histograms have the same bounds");
            recent.reset();
        }
        sums
    }

    /// What came since an earlier moment.
    fn sample(&self, before: &Self) -> Sample {
        let over_seconds = self.seconds - before.seconds;
        let rate = |now: u64, before: u64| (now - before) as f64 / over_seconds.max(1e-9);
        let millis = |nanos: u64| nanos as f64 / 1e6;
        Sample {
            seconds: self.seconds,
            over_seconds,
            ended_per_second: rate(self.ended, before.ended),
            settled_per_second: rate(self.settled, before.settled),
            rejected_per_second: rate(self.rejected, before.rejected),
            p50_ms: millis(self.recent.value_at_quantile(0.5)),
            p99_ms: millis(self.recent.value_at_quantile(0.99)),
            max_ms: millis(self.recent.max()),
        }
    }
}
