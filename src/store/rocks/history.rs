//! The versions of one balance in the order in which they came to be.
//!
//! Rows of a balance stand newest first, each under the *first* seq that it holds. So the versions
//! after a seq begin in the row that a seek to that seq lands on, and go on in the rows before it:
//!
//! ```text
//! rows of a balance   [70 ..]   [40 .. 66]   [9 .. 31]      after 50:
//!                        2 ◄────────── 1                    40's row from 51 on, then 70's
//! ```

use rocksdb::{DBRawIterator, ReadOptions};

use super::{RocksStore, damaged, io};
use crate::store::versions::PackReader;
use crate::store::{StoreError, keys};
use crate::types::{Balance, BalanceKey, CommitSeq};

type Versions = Vec<(CommitSeq, Balance)>;

impl RocksStore {
    /// See [`crate::store::VersionStore::versions_after`].
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or what the disk says.
    pub(super) fn versions_after_impl(
        &self,
        key: BalanceKey,
        after: CommitSeq,
        limit: usize,
    ) -> Result<Versions, StoreError> {
        let mut versions = Versions::new();
        let Some(first) = after.get().checked_add(1).map(CommitSeq::new) else {
            return Ok(versions);
        };
        let mut rows = self.rows_of(key);
        rows.seek(keys::version(key, after));
        add_row(&mut versions, &rows, after, limit)?;
        rows.seek_for_prev(keys::version(key, first));
        while rows.valid() && versions.len() < limit {
            add_row(&mut versions, &rows, after, limit)?;
            rows.prev();
        }
        rows.status().map_err(io)?;
        Ok(versions)
    }

    /// An iterator that sees the rows of one balance and no others.
    fn rows_of(&self, key: BalanceKey) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        // Stepping back is not for prefix filters.
        options.set_total_order_seek(true);
        options.set_iterate_lower_bound(keys::version(key, CommitSeq::new(u64::MAX)));
        // Behind every row, as no commit has seq 0.
        options.set_iterate_upper_bound(keys::version(key, CommitSeq::new(0)));
        self.db.raw_iterator_cf_opt(self.family(keys::VERSIONS), options)
    }
}

/// Adds the versions after `after` of the row that the iterator is at, if it is at one.
fn add_row(
    versions: &mut Versions,
    rows: &DBRawIterator<'_>,
    after: CommitSeq,
    limit: usize,
) -> Result<(), StoreError> {
    let Some((row, value)) = rows.item() else { return Ok(()) };
    let bad_row = || damaged(format!("family versions has a bad row under {row:02x?}"));
    let (_, first_seq) = keys::decode_version(row).ok_or_else(bad_row)?;
    let mut packed = PackReader::new(value, first_seq);
    for version in packed.by_ref().filter(|(seq, _)| *seq > after) {
        if versions.len() >= limit {
            return Ok(());
        }
        versions.push(version);
    }
    if packed.is_damaged() { Err(bad_row()) } else { Ok(()) }
}
