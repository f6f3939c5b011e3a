//! The start of an engine behind a server that listens already: watched, told of, and given up when
//! somebody asks for that.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval_at};

use crate::clock::{Clock, SystemClock};
use crate::engine::{Engine, Options};
use crate::store::start_progress::{Phase, Reached, StartProgress};

use super::notify::Notifier;
use super::serve::Signals;

/// How often a start says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// Starts an engine on a thread that may block; `None` when it was told to stop before it was there.
///
/// # Errors
/// The data directory cannot be used as it is.
pub(super) async fn engine(
    options: Options,
    progress: &Arc<StartProgress>,
    signals: &mut Signals,
    notifier: &Notifier,
) -> anyhow::Result<Option<Engine>> {
    let watched = progress.clone();
    let mut start = tokio::task::spawn_blocking(move || {
        Engine::start_watched(options, Arc::new(SystemClock), &watched)
    });
    // A start that is over before that says nothing.
    let mut reports = interval_at(first_report(), REPORT_EVERY);
    let mut report = Report::new(SystemClock.boot_nanos());
    loop {
        tokio::select! {
            done = &mut start => return ended(done?, progress).await,
            _ = reports.tick() => {
                let line = report.line(progress.reached(), SystemClock.boot_nanos());
                tracing::info!("recovering: {line}");
                notifier.status(&format!("recovering: {line}"));
            }
            signal = signals.next() => {
                if progress.is_stopped() {
                    die();
                }
                tracing::info!(signal, "stopping: the start is given up at the next block");
                notifier.stopping();
                progress.stop();
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "only when to speak hangs on it")]
fn first_report() -> Instant {
    Instant::now() + REPORT_EVERY
}

async fn ended(
    started: Result<Engine, crate::error::Error>,
    progress: &StartProgress,
) -> anyhow::Result<Option<Engine>> {
    match started {
        Err(_) if progress.is_stopped() => Ok(None),
        Err(error) => Err(error.into()),
        // It was told too late to be given up.
        Ok(engine) if progress.is_stopped() => {
            tokio::task::spawn_blocking(move || engine.stop()).await??;
            Ok(None)
        }
        Ok(engine) => Ok(Some(engine)),
    }
}

/// Somebody does not want to wait: as a crash, which recovery is made for.
fn die() {
    let me = rustix::process::getpid();
    // It cannot fail for a process's own.
    let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
}

/// Makes rates of how far a start is. Pure: it is told the time.
struct Report {
    phase: Phase,
    /// When the phase was first seen, and how far it was then.
    since_nanos: u64,
    since_blocks: u64,
}

impl Report {
    fn new(now_nanos: u64) -> Self {
        Self { phase: Phase::default(), since_nanos: now_nanos, since_blocks: 0 }
    }

    /// How far it is, how quickly it goes, and how long that will take.
    fn line(&mut self, reached: Reached, now_nanos: u64) -> String {
        let Reached { phase, blocks_done, blocks_total } = reached;
        let name = phase.name();
        if phase != self.phase {
            *self = Self { phase, since_nanos: now_nanos, since_blocks: blocks_done };
        }
        if blocks_total == 0 {
            return name.into();
        }
        let far = format!("{name}, {blocks_done} of {blocks_total} blocks");
        let seconds = now_nanos.saturating_sub(self.since_nanos) as f64 / 1e9;
        let done = blocks_done.saturating_sub(self.since_blocks) as f64;
        if seconds <= 0.0 || done <= 0.0 {
            return far;
        }
        let rate = done / seconds;
        let left = (blocks_total - blocks_done) as f64 / rate;
        format!("{far}, {rate:.0} a second, {left:.0} s to go")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(phase: Phase, blocks_done: u64, blocks_total: u64) -> Reached {
        Reached { phase, blocks_done, blocks_total }
    }

    #[test]
    fn rates_are_those_of_the_phase() {
        const SECOND: u64 = 1_000_000_000;
        let mut report = Report::new(5 * SECOND);
        let mut line = |reached, seconds: u64| report.line(reached, seconds * SECOND);
        assert_eq!(line(at(Phase::Opening, 0, 0), 6), "opening");
        assert_eq!(line(at(Phase::Checking, 100, 1_000), 10), "checking, 100 of 1000 blocks");
        let expected = "checking, 500 of 1000 blocks, 200 a second, 2 s to go";
        assert_eq!(line(at(Phase::Checking, 500, 1_000), 12), expected);
        assert_eq!(line(at(Phase::Folding, 0, 400), 14), "folding, 0 of 400 blocks");
        let expected = "folding, 400 of 400 blocks, 100 a second, 0 s to go";
        assert_eq!(line(at(Phase::Folding, 400, 400), 18), expected);
        assert_eq!(line(at(Phase::Loading, 0, 0), 20), "loading");
    }
}
