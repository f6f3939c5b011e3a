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
use super::tally::empty_histogram;

const CONFLICTS: &str = "crosslatch_conflicts_total";
const EVERY_ON_TERMINAL: Duration = Duration::from_millis(250);
const EVERY_ELSEWHERE: Duration = Duration::from_secs(1);

/// What the line is made of.
pub(super) struct Progress<'a> {
    /// Says how far the version store lags behind, if it is in this process.
    pub(super) engine: Option<&'a Engine>,
    /// Says what conflicted.
    pub(super) exporter: &'a Exporter,
    /// What conflicted before.
    pub(super) before: &'a Reading,
}

impl Progress<'_> {
    /// Shows the line until `done` goes off.
    pub(super) fn show(&self, shared: &Shared, done: &Alarm) {
        let terminal = std::io::stderr().is_terminal();
        let every = if terminal { EVERY_ON_TERMINAL } else { EVERY_ELSEWHERE };
        let (mut ended_before, mut nanos_before) = (0, shared.started_nanos);
        while !done.wait(every) {
            let now_nanos = SystemClock.boot_nanos();
            let mut sums = Sums::of(shared);
            let new = sums.ended - ended_before;
            let seconds = (now_nanos - nanos_before) as f64 / 1e9;
            sums.rate = new as f64 / seconds.max(1e-9);
            sums.seconds = (now_nanos - shared.started_nanos) as f64 / 1e9;
            (ended_before, nanos_before) = (sums.ended, now_nanos);
            self.print(&sums, terminal);
        }
        if terminal {
            // The cursor stands behind the last line.
            eprintln!();
        }
    }

    fn print(&self, sums: &Sums, terminal: bool) {
        let conflicts = Reading::take(self.exporter).since(self.before).sum(CONFLICTS, "");
        let lag = self.engine.map(Engine::status).map_or_else(
            || "?".to_owned(),
            |it| grouped(it.durable_seq.get().saturating_sub(it.applied_seq.get())),
        );
        let millis = |quantile| sums.recent.value_at_quantile(quantile) as f64 / 1e6;
        let line = format!(
            "{:6.1}s  {:>9}/s  p50 {:.2} ms  p99 {:.2} ms  settled {}  rejected {}  conflicts {}  D-A {}",
            sums.seconds,
            grouped(sums.rate as u64),
            millis(0.5),
            millis(0.99),
            grouped(sums.settled),
            grouped(sums.rejected),
            grouped(conflicts as u64),
            lag,
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
    seconds: f64,
    rate: f64,
    settled: u64,
    rejected: u64,
    ended: u64,
    recent: hdrhistogram::Histogram<u64>,
}

impl Sums {
    fn of(shared: &Shared) -> Self {
        let recent = empty_histogram();
        let mut sums = Self { seconds: 0.0, rate: 0.0, settled: 0, rejected: 0, ended: 0, recent };
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
}
