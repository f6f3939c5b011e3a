//! The index of the journal in RocksDB: which block has a seq, and where a time was.
//!
//! Its rows are written with their block in one synced write, so that it is never behind.
//!
//! | key | value |
//! |---|---|
//! | first seq of a block with commits | block, number of commits: big-endian, 8 + 4 |
//! | time and number of a block | the last seq up to its end: big-endian, 8 |

use rocksdb::WriteBatch;

use super::{RocksStore, damaged, io};
use crate::store::journal::Block;
use crate::store::{Position, StoreError, keys};
use crate::types::{BlockNumber, CommitSeq, Time};

impl RocksStore {
    /// Adds the rows of a block.
    pub(super) fn index_block(&self, batch: &mut WriteBatch, block: &Block) {
        let header = block.header();
        let family = self.family(keys::BLOCKS);
        if header.commits > 0 {
            let mut value = [0; 12];
            value[..8].copy_from_slice(&header.number.get().to_be_bytes());
            value[8..].copy_from_slice(&header.commits.to_be_bytes());
            batch.put_cf(family, keys::block_of_seq(header.first_seq), value);
        }
        let end = header.last_seq().get().to_be_bytes();
        batch.put_cf(family, keys::position_at(header.time, header.number), end);
    }

    /// See [`crate::store::Journal::block_of`].
    pub(super) fn indexed_block(&self, seq: CommitSeq) -> Result<Option<BlockNumber>, StoreError> {
        let mut rows = self.scan(keys::BLOCKS);
        rows.seek_for_prev(keys::block_of_seq(seq));
        let Some((key, value)) = rows.item() else {
            return rows.status().map(|()| None).map_err(io);
        };
        let Some(first_seq) = keys::decode_block_of_seq(key) else { return Ok(None) };
        let parts = value.split_first_chunk::<8>().map(|(block, rest)| (*block, rest.try_into()));
        let Some((block, Ok(commits))) = parts else {
            return Err(damaged(format!("the block of seq {first_seq} is cut short")));
        };
        let behind = first_seq.plus(u32::from_be_bytes(commits).into());
        Ok((seq < behind).then(|| BlockNumber::new(u64::from_be_bytes(block))))
    }

    /// See [`crate::store::Journal::position_at`].
    pub(super) fn indexed_position(&self, time: Time) -> Result<Position, StoreError> {
        let mut rows = self.scan(keys::BLOCKS);
        rows.seek_for_prev(keys::position_at(time, BlockNumber::new(u64::MAX)));
        let Some((key, value)) = rows.item() else {
            return rows.status().map(|()| Position::default()).map_err(io);
        };
        let Some((_, block)) = keys::decode_position_at(key) else {
            return Ok(Position::default());
        };
        let seq = value
            .try_into()
            .map_err(|_| damaged(format!("the end of block {block} is cut short")))?;
        Ok(Position { block, seq: CommitSeq::new(u64::from_be_bytes(seq)) })
    }
}
