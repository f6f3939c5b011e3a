//! Dropping what nobody can read any more: a compaction filter and the horizon that it obeys.
//!
//! Of each balance (and each caller's key) everything as of the horizon and later must stay
//! readable. So the newest row at or below the horizon stays, with all rows above it, and older
//! rows may go:
//!
//! ```text
//! rows of a prefix, newest first     [90 ..]  [70 ..]  [40 ..]  [9 ..]
//!                                               │
//!                                 horizon 75 ───┘  covers; [40 ..] and [9 ..] go
//! ```
//!
//! A compaction shows the filter the rows of its inputs in the order of their keys: those of a
//! prefix together, newest first. Once a row at or below the horizon was seen for a prefix, all
//! later ones of that prefix are removed, and nothing else ever is. Why that is sound:
//!
//! * *A compaction that sees only some of the runs* sees only some of a prefix's rows. It removes a
//!   row only when it has kept a newer one R of the same prefix at or below the horizon. Whoever
//!   reads as of the horizon or later finds R, or something newer, first. R itself may go in another
//!   compaction, but only for a newer row at or below the horizon which then does the same for both.
//!   So the newest at or below the horizon never goes, whichever runs meet, and in whichever order.
//! * *A compaction that begins in the middle of a prefix* (a part of a larger one) has seen nothing
//!   to cover its first rows, and keeps more than it must.
//! * *A row holds all versions of a balance in one fold, under the first of them.* Folds do not
//!   overlap, so a row's versions are all older than the first of the next newer row: if R begins at
//!   or below the horizon, no version of an older row is above it. What R holds below the horizon
//!   stays with it.
//! * *The applied mark* has a tag of its own and is never touched, nor is a key of any other form.
//! * *A removed row* becomes a tombstone of exactly that key where older runs remain. Keys are
//!   written once, so it hides nothing else.
//! * *The horizon* is durable before the filter may obey it, and only rises: after a crash, a reader
//!   is told at least as high a horizon as anything was dropped below. A reader that asks for the
//!   horizon *after* it has read, and finds it still at or below its seq, has read from files of
//!   which nothing that it needed was missing.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use rocksdb::{BottommostLevelCompaction, CompactOptions, CompactionDecision, ErrorKind, Options};

use super::{RocksStore, damaged, io, synced};
use crate::faults::point;
use crate::store::keys::{self, KeyKind};
use crate::store::{Family, StoreError};
use crate::types::CommitSeq;

/// Length of the seq at the end of a versioned key.
const SEQ_LEN: usize = 8;

/// The oldest seq as of which everything can be read. Every clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Horizon(Arc<AtomicU64>);

impl Horizon {
    /// Where it is.
    pub(super) fn get(&self) -> CommitSeq {
        CommitSeq::new(self.0.load(Ordering::Acquire))
    }

    fn raise(&self, to: CommitSeq) {
        self.0.fetch_max(to.get(), Ordering::AcqRel);
    }
}

/// Makes compactions of a family, whose keys end in an inverted seq, drop what is below the horizon.
pub(super) fn obey(options: &mut Options, horizon: &Horizon) {
    options.set_compaction_filter_factory(Filters { horizon: horizon.clone() });
}

/// Gives each compaction its filter.
struct Filters {
    horizon: Horizon,
}

impl CompactionFilterFactory for Filters {
    type Filter = Filter;

    fn create(&mut self, _: CompactionFilterContext) -> Filter {
        Filter::new(self.horizon.get())
    }

    fn name(&self) -> &CStr {
        c"crosslatch.retention"
    }
}

/// What one compaction has seen of the prefix that it is at.
struct Filter {
    horizon: CommitSeq,
    prefix: Vec<u8>,
    /// Whether a row of this prefix at or below the horizon was seen.
    covered: bool,
}

impl Filter {
    fn new(horizon: CommitSeq) -> Self {
        Self { horizon, prefix: Vec::new(), covered: false }
    }

    /// Whether the row under that key, the next in order, is of no use any more.
    fn drops(&mut self, key: &[u8]) -> bool {
        let Some((prefix, seq)) = versioned(key) else { return false };
        if *prefix != *self.prefix {
            self.prefix.clear();
            self.prefix.extend_from_slice(prefix);
            self.covered = false;
        }
        if self.covered {
            return true;
        }
        self.covered = seq <= self.horizon;
        false
    }
}

impl CompactionFilter for Filter {
    fn filter(&mut self, _level: u32, key: &[u8], _value: &[u8]) -> CompactionDecision {
        if self.drops(key) { CompactionDecision::Remove } else { CompactionDecision::Keep }
    }

    fn name(&self) -> &CStr {
        c"crosslatch.retention"
    }
}

/// Splits a key of a balance's or a caller's value into what it is about and its seq.
fn versioned(key: &[u8]) -> Option<(&[u8], CommitSeq)> {
    let (prefix, newest_first) = key.split_last_chunk::<SEQ_LEN>()?;
    let tags = [KeyKind::Version as u8, KeyKind::Record as u8];
    let seq = CommitSeq::new(!u64::from_be_bytes(*newest_first));
    prefix.first().is_some_and(|tag| tags.contains(tag)).then_some((prefix, seq))
}

impl RocksStore {
    /// Reads the horizon that was reached before: until then the filter drops nothing.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or what the disk says.
    pub(super) fn load_horizon(&self) -> Result<(), StoreError> {
        let row = self.db.get_pinned_cf(self.family(keys::META), keys::HORIZON).map_err(io)?;
        let Some(row) = row else { return Ok(()) };
        let seq = <[u8; SEQ_LEN]>::try_from(&*row)
            .map_err(|_| damaged("its horizon has the wrong length".into()))?;
        self.horizon.raise(CommitSeq::new(u64::from_be_bytes(seq)));
        Ok(())
    }

    /// See [`crate::store::VersionStore::collect_garbage`].
    ///
    /// # Errors
    /// What the disk says, or that the store was opened for reading only.
    pub(super) fn collect_garbage_impl(&self, horizon: CommitSeq) -> Result<(), StoreError> {
        if self.read_only {
            return Err(StoreError::Io("the data directory was opened to look at only".into()));
        }
        if horizon > self.horizon.get() {
            let meta = self.family(keys::META);
            let row = horizon.get().to_be_bytes();
            self.db.put_cf_opt(meta, keys::HORIZON, row, &synced()).map_err(io)?;
            // Out of the log: were its end lost, what is dropped below would still be asked for.
            match self.db.flush_cf(meta) {
                // The engine stops. Nothing was dropped: the next run goes on with it.
                Err(error) if error.kind() == ErrorKind::ShutdownInProgress => return Ok(()),
                flushed => flushed.map_err(io)?,
            }
            point!("retention.stored");
            self.horizon.raise(horizon);
        }
        let mut options = CompactOptions::default();
        // Other compactions go on beside it: folds, and so the journal, must not wait for this one.
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        for family in [Family::Versions, Family::Records] {
            let all = (None::<&[u8]>, None::<&[u8]>);
            self.db.compact_range_cf_opt(self.family(family.name()), all.0, all.1, &options);
            point!("retention.family-dropped");
        }
        Ok(())
    }

    /// Ends compactions that run, and starts no more: for a stop that must not wait for them.
    /// Reads and writes go on.
    pub fn stop_compactions(&self) {
        self.db.cancel_all_background_work(false);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::types::{AccountId, AssetId, BalanceKey};

    fn key(account: u64, seq: u64) -> [u8; keys::VERSION_LEN] {
        let key = BalanceKey { account: AccountId::new(account), asset: AssetId::new(0) };
        keys::version(key, CommitSeq::new(seq))
    }

    /// The seqs that stay of one balance, of which a compaction sees these rows.
    fn kept(filter: &mut Filter, account: u64, seqs: &[u64]) -> Vec<u64> {
        seqs.iter().copied().filter(|seq| !filter.drops(&key(account, *seq))).collect()
    }

    #[test]
    fn the_newest_at_or_below_the_horizon_stays_with_all_above() {
        let mut filter = Filter::new(CommitSeq::new(75));
        assert_eq!(kept(&mut filter, 1, &[90, 76, 70, 40, 9]), [90, 76, 70]);
        assert_eq!(kept(&mut filter, 2, &[75, 74, 9]), [75]);
        assert_eq!(kept(&mut filter, 3, &[90, 80, 76]), [90, 80, 76]);
        assert_eq!(kept(&mut filter, 4, &[9]), [9]);
        assert_eq!(kept(&mut Filter::new(CommitSeq::new(0)), 5, &[3, 2, 1]), [3, 2, 1]);
    }

    /// Runs of any few folds are merged, in any order, while the horizon rises.
    #[test]
    fn whichever_runs_meet_what_can_be_read_stays() {
        for seed in 0..200 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut horizon = 0;
            let mut runs: Vec<BTreeSet<u64>> = Vec::new();
            let all: BTreeSet<u64> = (1..60).filter(|_| rng.random_ratio(2, 3)).collect();
            for seq in &all {
                if runs.is_empty() || rng.random_ratio(1, 3) {
                    runs.push(BTreeSet::new());
                }
                runs.last_mut().unwrap().insert(*seq);
            }
            while runs.len() > 1 {
                horizon = rng.random_range(horizon..60);
                let from = rng.random_range(0..runs.len());
                let to = rng.random_range(from + 1..=runs.len());
                let merged: BTreeSet<u64> = runs.drain(from..to).flatten().collect();
                let newest_first: Vec<u64> = merged.into_iter().rev().collect();
                let mut filter = Filter::new(CommitSeq::new(horizon));
                let stays = kept(&mut filter, 1, &newest_first).into_iter().collect();
                runs.insert(from, stays);
                for at in horizon..60 {
                    let newest = runs.iter().flatten().filter(|seq| **seq <= at).max();
                    assert_eq!(newest, all.range(..=at).next_back(), "seed {seed}, as of {at}");
                }
            }
        }
    }

    #[test]
    fn other_keys_stay() {
        let mut filter = Filter::new(CommitSeq::new(u64::MAX));
        for _ in 0..2 {
            assert!(!filter.drops(&keys::APPLIED_MARK));
            assert!(!filter.drops(&[]));
            assert!(!filter.drops(&keys::account(AccountId::new(7))));
        }
        assert!(!filter.drops(&key(1, 9)));
        assert!(filter.drops(&key(1, 8)));
    }
}
