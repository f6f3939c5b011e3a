//! Who reads which past, so that nothing of it is dropped meanwhile.
//!
//! A snapshot is no copy: it names a seq, and while it lives the horizon stays at or below it.
//!
//! ```text
//! pinned         o   o        oo          o    D
//! horizon  ─────►|   the horizon may come up to the oldest pin, never past it
//! ```
//!
//! Invariants
//! * The horizon never passes a live snapshot, and no snapshot begins below the horizon: both are
//!   decided under one lock, which is held for no more than that.
//! * The horizon that is known here is raised before anything is dropped below it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use crate::faults::point;
use crate::types::CommitSeq;

/// A read asks for something older than what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the history before seq {oldest} has expired")]
pub struct Expired {
    /// The oldest seq as of which everything can be read.
    pub oldest: CommitSeq,
}

/// The live snapshots. Shared by any thread.
#[derive(Debug, Default)]
pub struct Snapshots {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many snapshots there are of each seq.
    pinned: BTreeMap<CommitSeq, usize>,
    /// What is below may be gone.
    horizon: CommitSeq,
}

impl Snapshots {
    /// None; everything from `horizon` on can be read.
    pub fn new(horizon: CommitSeq) -> Self {
        Self { state: Mutex::new(State { pinned: BTreeMap::new(), horizon }) }
    }

    /// Keeps everything readable as of `seq` until the snapshot is dropped. Quick: no disk.
    ///
    /// # Errors
    /// When `seq` is below the horizon.
    pub fn pin(self: &Arc<Self>, seq: CommitSeq) -> Result<Snapshot, Expired> {
        let mut state = self.state();
        if seq < state.horizon {
            return Err(Expired { oldest: state.horizon });
        }
        *state.pinned.entry(seq).or_default() += 1;
        point!("snapshot.pinned");
        drop(state);
        Ok(Snapshot { registry: Arc::clone(self), seq })
    }

    /// The seq of the oldest live snapshot; `None` while there is none.
    pub fn oldest(&self) -> Option<CommitSeq> {
        self.state().oldest()
    }

    /// How many snapshots are live.
    pub fn len(&self) -> usize {
        self.state().pinned.values().sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.state().pinned.is_empty()
    }

    /// Raises the horizon to `seq`, or as far as the live snapshots allow; never lowers it. Returns
    /// where it is now: what is below may be dropped from here on.
    pub fn raise_horizon(&self, seq: CommitSeq) -> CommitSeq {
        let mut state = self.state();
        let allowed = state.oldest().map_or(seq, |oldest| oldest.min(seq));
        state.horizon = state.horizon.max(allowed);
        state.horizon
    }

    fn unpin(&self, seq: CommitSeq) {
        let mut state = self.state();
        let count = state.pinned.get_mut(&seq).expect("a snapshot is counted until it is dropped");
        *count -= 1;
        if *count == 0 {
            state.pinned.remove(&seq);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn oldest(&self) -> Option<CommitSeq> {
        self.pinned.first_key_value().map(|(seq, _)| *seq)
    }
}

/// Keeps one state of the past readable until it is dropped.
#[derive(Debug)]
pub struct Snapshot {
    registry: Arc<Snapshots>,
    seq: CommitSeq,
}

impl Snapshot {
    /// The state: everything up to this had happened, and nothing after.
    pub fn seq(&self) -> CommitSeq {
        self.seq
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.registry.unpin(self.seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(number: u64) -> CommitSeq {
        CommitSeq::new(number)
    }

    #[test]
    fn the_horizon_stops_at_the_oldest_snapshot() {
        let snapshots = Arc::new(Snapshots::new(seq(3)));
        assert_eq!(snapshots.pin(seq(2)).unwrap_err(), Expired { oldest: seq(3) });
        let old = snapshots.pin(seq(3)).unwrap();
        let (new, twin) = (snapshots.pin(seq(9)).unwrap(), snapshots.pin(seq(9)).unwrap());
        assert_eq!((snapshots.oldest(), snapshots.len()), (Some(seq(3)), 3));
        assert_eq!(snapshots.raise_horizon(seq(20)), seq(3));
        drop(old);
        assert_eq!(snapshots.raise_horizon(seq(5)), seq(5));
        assert_eq!(snapshots.raise_horizon(seq(20)), seq(9));
        drop(new);
        assert_eq!(snapshots.raise_horizon(seq(20)), seq(9));
        assert_eq!(twin.seq(), seq(9));
        drop(twin);
        assert!(snapshots.is_empty());
        assert_eq!(snapshots.raise_horizon(seq(20)), seq(20));
        assert_eq!(snapshots.raise_horizon(seq(4)), seq(20), "it never goes back");
        assert_eq!(snapshots.pin(seq(19)).unwrap_err(), Expired { oldest: seq(20) });
    }

    #[test]
    fn no_horizon_passes_a_snapshot_however_they_race() {
        let snapshots = Arc::new(Snapshots::default());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let snapshots = &snapshots;
                scope.spawn(move || {
                    for round in 0..2_000 {
                        let Ok(pinned) = snapshots.pin(seq(round + thread)) else { continue };
                        assert!(snapshots.raise_horizon(seq(0)) <= pinned.seq());
                    }
                });
            }
            for round in 0..2_000 {
                snapshots.raise_horizon(seq(round));
            }
        });
        assert!(snapshots.is_empty());
    }
}
