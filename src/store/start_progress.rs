//! How far a start has come, for whoever looks at it from another thread, and may end it.
//!
//! ```text
//! opening ─► checking (blocks) ─► folding (blocks) ─► loading (balances, holds, orders, ids) ─► done
//! ```
//!
//! Recovery counts blocks here and knows nothing of time; who looks has a clock, and makes rates of it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use serde::Serialize;

use super::StoreError;

/// What a start is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The database is opened.
    #[default]
    Opening,
    /// What will be read is read once without changing anything.
    Checking,
    /// Blocks that the version store lacks are folded into it.
    Folding,
    /// Balances, holds, orders and request ids are read into memory.
    Loading,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Opening, Self::Checking, Self::Folding, Self::Loading];

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Checking => "checking",
            Self::Folding => "folding",
            Self::Loading => "loading",
        }
    }
}

/// How far a start is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// What it is at.
    pub phase: Phase,
    /// Blocks of this phase that are done.
    pub blocks_done: u64,
    /// All of its blocks; 0 for a phase that has none.
    pub blocks_total: u64,
}

/// Shared by a start and whoever looks at it.
#[derive(Debug, Default)]
pub struct StartProgress {
    phase: AtomicU8,
    done: AtomicU64,
    total: AtomicU64,
    stop: AtomicBool,
}

impl StartProgress {
    /// A phase begins, with so many blocks to go through.
    pub(crate) fn enter(&self, phase: Phase, blocks: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(blocks, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// A block is done.
    ///
    /// # Errors
    /// The start is not wanted any more.
    pub(crate) fn block(&self) -> Result<(), StoreError> {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.check()
    }

    /// Whether the start is still wanted.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.is_stopped() {
            true => Err(StoreError::Io("the start was given up, as it was asked to".into())),
            false => Ok(()),
        }
    }

    /// How far it is. The parts may be from moments next to one another.
    pub fn reached(&self) -> Reached {
        let phase = Phase::ALL[usize::from(self.phase.load(Ordering::Acquire))];
        let blocks_total = self.total.load(Ordering::Relaxed);
        let blocks_done = self.done.load(Ordering::Relaxed).min(blocks_total);
        Reached { phase, blocks_done, blocks_total }
    }

    /// Ends the start, soon: it fails at the next block. What it did stays, as after a crash.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether [`StartProgress::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_within_their_phase() {
        let progress = StartProgress::default();
        assert_eq!(progress.reached(), Reached::default());
        progress.enter(Phase::Checking, 2);
        progress.block().unwrap();
        let reached = Reached { phase: Phase::Checking, blocks_done: 1, blocks_total: 2 };
        assert_eq!(progress.reached(), reached);
        progress.enter(Phase::Folding, 7);
        let reached = Reached { phase: Phase::Folding, blocks_done: 0, blocks_total: 7 };
        assert_eq!(progress.reached(), reached);
        assert!(Phase::ALL.iter().enumerate().all(|(place, phase)| *phase as usize == place));
    }

    #[test]
    fn who_is_asked_to_stop_does_so_at_the_next_block() {
        let progress = StartProgress::default();
        progress.enter(Phase::Folding, 9);
        assert!(progress.block().is_ok() && progress.check().is_ok());
        progress.stop();
        assert!(progress.is_stopped() && progress.block().is_err() && progress.check().is_err());
    }
}
