//! A reader of the journal from a seq on: every durable commit in order, nothing skipped.
//!
//! It reads *behind* the commit log: what is durable and not yet folded lies decoded in memory, shared
//! by everybody who reads it; what is older comes from the journal through the reader's small cache of
//! decoded blocks. So many readers at the end of the journal decode nothing, a slow one holds nothing
//! up, and none keeps a block alive by itself: it remembers weakly where it was.
//!
//! Invariants
//! * Seqs come dense and ascending, each once, and only those that `D` covers (I3).
//! * What is below the oldest block kept is refused with the oldest seq there is, never skipped.

use std::sync::{Arc, Weak};

use super::journal::{Block, CommitRecord};
use super::reader::{PastError, Reader};
use super::snapshots::Expired;
use super::{RESTORE, StoreError};
use crate::types::{BlockNumber, CommitSeq, Time};

/// A place in the journal, and the way on from there.
pub struct Cursor {
    reader: Arc<Reader>,
    at: CommitSeq,
    /// The block of the last commit read, if somebody else still has it.
    block: Weak<Block>,
}

impl Cursor {
    /// Behind that seq, which is durable.
    pub fn new(reader: Arc<Reader>, after: CommitSeq) -> Self {
        Self { reader, at: after, block: Weak::new() }
    }

    /// The last seq read, or the one that it began after.
    pub fn at(&self) -> CommitSeq {
        self.at
    }

    /// The next commits that are durable by now, each with its logical time: at most `max_events`, and
    /// none after `max_bytes` of journal are read. Empty at the end. Reads the disk.
    ///
    /// # Errors
    /// [`PastError::Expired`] if the next commit is not kept any more; what the disk says.
    pub fn read(
        &mut self,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Vec<(CommitRecord, Time)>, PastError> {
        let durable = self.reader.durable_seq();
        let (mut read, mut bytes) = (Vec::new(), 0);
        while self.at < durable && read.len() < max_events && bytes < max_bytes {
            let block = self.block_of(self.at.next())?;
            let header = block.header();
            let first = self.at.next().get() - header.first_seq.get();
            let first = u32::try_from(first).expect("the commit is one of the block's");
            for index in first..header.commits {
                if read.len() == max_events || bytes >= max_bytes {
                    break;
                }
                let commit = block.commit(index);
                assert!(commit.seq == self.at.next() && commit.seq <= durable, "in order, durable");
                self.at = commit.seq;
                bytes += block.commit_bytes(index);
                read.push((commit, header.time));
            }
        }
        Ok(read)
    }

    /// The block that has the commit of a durable seq.
    fn block_of(&mut self, seq: CommitSeq) -> Result<Arc<Block>, PastError> {
        let has = |block: &Arc<Block>| {
            let header = block.header();
            (header.first_seq..header.next_seq()).contains(&seq)
        };
        if let Some(block) = self.block.upgrade().filter(has) {
            return Ok(block);
        }
        let found = self.reader.block_of(seq);
        let block = match found {
            Ok(Some(block)) => block,
            Ok(None) => return Err(self.gone(seq, lost(seq))),
            Err(error) => return Err(self.gone(seq, error)),
        };
        self.block = Arc::downgrade(&block);
        Ok(block)
    }

    /// Why the commit of a durable seq is not there: it is older than what is kept, or else `error`.
    fn gone(&self, seq: CommitSeq, error: StoreError) -> PastError {
        let first = self.reader.journal.read_from(BlockNumber::new(0)).next();
        match first {
            Some(Ok(block)) if seq < block.header().first_seq => {
                Expired { oldest: block.header().first_seq }.into()
            }
            _ => error.into(),
        }
    }
}

fn lost(seq: CommitSeq) -> StoreError {
    StoreError::Damaged(format!("the journal has lost the commit of seq {seq}; {RESTORE}"))
}
