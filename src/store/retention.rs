//! Forgets old versions, in the background: how much of the past stays readable is a setting.
//!
//! ```text
//!        horizon now      target        oldest snapshot         A            D
//! ───────────┼──────────────┼───────────────┼───────────────────┼────────────┼──►
//!   dropped  │  may be dropped now          │   read by somebody
//! ```
//!
//! Dropping rewrites what is kept, so it is done when that is worth it: once an eighth of what is
//! kept is older than the setting asks for. Each version is thus rewritten a few times in its life,
//! however often this looks.
//!
//! Only the version store forgets. The journal keeps everything: outcomes, receipts and holds are
//! answered from it for ever.
//!
//! Invariants
//! * The horizon never passes a live snapshot (see [`super::snapshots`]), nor `A`.
//! * It is raised where snapshots are pinned first, then durably in the store, and only then is
//!   anything dropped.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::durable::Progress;
use super::snapshots::Snapshots;
use super::{Journal, StoreError, VersionStore};
use crate::actor::{Poison, spawn};
use crate::error::Error;
use crate::faults::point;
use crate::metrics::RetentionMetrics;
use crate::types::{CommitSeq, Time};

/// How often it looks.
const LOOK_MS: u64 = 60_000;
/// What is dropped at once is at least this part of what is kept.
const KEPT_PARTS: u64 = 8;
const HOUR_MICROS: u64 = 3_600_000_000;

/// What retention works on.
#[derive(Clone)]
pub struct RetentionShared {
    /// Says which seq was when.
    pub journal: Arc<dyn Journal>,
    /// Forgets.
    pub versions: Arc<dyn VersionStore>,
    /// Whom it must not disturb.
    pub snapshots: Arc<Snapshots>,
    /// `A`.
    pub applied: Arc<Progress>,
}

/// Decides what is too old.
pub struct Retention {
    shared: RetentionShared,
    /// How far back everything stays readable, in microseconds of logical time.
    keep_micros: u64,
}

impl Retention {
    /// Keeps everything of the last `hours` of logical time readable.
    pub fn new(shared: RetentionShared, hours: u64) -> Self {
        Self { shared, keep_micros: hours.saturating_mul(HOUR_MICROS) }
    }

    /// Raises the horizon and drops what is below it, if enough has become too old. Returns the
    /// horizon. Takes its time when it drops something.
    ///
    /// # Errors
    /// What the store says.
    pub fn step(&self) -> Result<CommitSeq, StoreError> {
        let horizon = self.shared.versions.horizon()?;
        let target = self.target()?;
        let kept = self.shared.applied.seq().get().saturating_sub(horizon.get());
        let older = target.get().saturating_sub(horizon.get());
        if older == 0 || older < kept / KEPT_PARTS {
            return Ok(horizon);
        }
        point!("retention.raise");
        let raised = self.shared.snapshots.raise_horizon(target);
        if raised > horizon {
            tracing::info!(from = horizon.get(), to = raised.get(), "drops old versions");
            point!("retention.raised");
            self.shared.versions.collect_garbage(raised)?;
            point!("retention.dropped");
        }
        Ok(raised)
    }

    /// How far the horizon may come now.
    fn target(&self) -> Result<CommitSeq, StoreError> {
        let Some(last) = self.shared.journal.last()? else { return Ok(CommitSeq::default()) };
        let Some(oldest) = last.header().time.get().checked_sub(self.keep_micros) else {
            return Ok(CommitSeq::default());
        };
        let aged = self.shared.journal.position_at(Time::new(oldest))?.seq;
        let unused = self.shared.snapshots.oldest().map_or(aged, |pinned| pinned.min(aged));
        Ok(unused.min(self.shared.applied.seq()))
    }
}

/// The thread that keeps looking.
pub struct RetentionHandle {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl RetentionHandle {
    /// Ends the thread and waits for it; what it is just dropping is finished first.
    pub fn stop(self) {
        drop(self.stop);
        // Its panic was caught and has poisoned the engine.
        let _ = self.thread.join();
    }
}

/// Starts the thread that forgets what is older than `hours`; none for 0, which is for ever.
///
/// # Errors
/// When the operating system gives no thread, or the store fails.
pub fn start(
    shared: RetentionShared,
    hours: u64,
    poison: &Poison,
) -> Result<Option<RetentionHandle>, Error> {
    let metrics = RetentionMetrics::new();
    metrics.horizon_seq(shared.versions.horizon()?.get());
    if hours == 0 {
        return Ok(None);
    }
    let retention = Retention::new(shared, hours);
    let (stop, stopped) = bounded(0);
    let alarm = poison.clone();
    let thread = spawn("retention".into(), poison, move || {
        run(&retention, &stopped, &alarm, &metrics).map_err(|error| error.to_string())
    })?;
    Ok(Some(RetentionHandle { stop, thread }))
}

fn run(
    retention: &Retention,
    stopped: &Receiver<()>,
    poison: &Poison,
    metrics: &RetentionMetrics,
) -> Result<(), StoreError> {
    while !poison.is_tripped() {
        metrics.horizon_seq(retention.step()?.get());
        crossbeam::channel::select! {
            recv(stopped) -> _ => return Ok(()),
            recv(poison.listener()) -> _ => return Ok(()),
            default(Duration::from_millis(LOOK_MS)) => {}
        }
    }
    Ok(())
}
