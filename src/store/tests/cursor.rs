//! The journal read from a seq on, from memory and from disk, and where its beginning is not kept.

use std::sync::Arc;

use super::past::Past;
use crate::store::cursor::Cursor;
use crate::store::durable::{Durable, Progress};
use crate::store::journal::Block;
use crate::store::reader::{PastError, Reader};
use crate::store::rocks::RocksStore;
use crate::store::snapshots::Expired;
use crate::store::unfolded::Unfolded;
use crate::store::{DirectoryRow, Journal, Position, StoreError};
use crate::types::{Amount, AssetId, BlockNumber, CommitSeq, Time};

/// Everything from a seq on, so many commits and bytes at a time.
fn rest(past: &Past, after: CommitSeq, limits: (usize, usize)) -> Vec<CommitSeq> {
    let mut cursor = Cursor::new(past.reader.clone(), after);
    let mut all = Vec::new();
    loop {
        let read = cursor.read(limits.0, limits.1).unwrap();
        assert!(read.len() <= limits.0);
        if read.is_empty() {
            return all;
        }
        for (commit, time) in read {
            assert_eq!(past.reader.commit_at(commit.seq).unwrap().unwrap().1, time);
            all.push(commit.seq);
        }
        assert_eq!(cursor.at(), *all.last().unwrap());
    }
}

#[test]
fn every_commit_is_read_once_whether_folded_or_not() {
    let mut past = Past::new(7);
    for block in 0..60 {
        past.random_block();
        if block % 7 == 0 {
            past.fold(1);
        }
    }
    let last = past.last.seq.get();
    assert!(last > 100);
    for after in (0..=last).step_by(13) {
        let expected: Vec<CommitSeq> = (after + 1..=last).map(CommitSeq::new).collect();
        for limits in [(1, 1), (5, usize::MAX), (usize::MAX, 500), (usize::MAX, usize::MAX)] {
            assert_eq!(rest(&past, CommitSeq::new(after), limits), expected, "{after}, {limits:?}");
        }
    }
}

/// A journal of which only the blocks from one on are kept, but for one that is lost.
struct Kept {
    store: Arc<RocksStore>,
    first: BlockNumber,
    lost: BlockNumber,
}

impl Kept {
    fn has(&self, number: BlockNumber) -> bool {
        number >= self.first && number != self.lost
    }
}

impl Journal for Kept {
    fn last(&self) -> Result<Option<Block>, StoreError> {
        self.store.last()
    }

    fn block(&self, number: BlockNumber) -> Result<Option<Block>, StoreError> {
        if self.has(number) { self.store.block(number) } else { Ok(None) }
    }

    fn read_from(
        &self,
        number: BlockNumber,
    ) -> Box<dyn Iterator<Item = Result<Block, StoreError>> + '_> {
        let is_kept = |read: &Result<Block, StoreError>| {
            read.as_ref().map_or(true, |block| self.has(block.header().number))
        };
        Box::new(self.store.read_from(number).filter(is_kept))
    }

    fn block_of(&self, seq: CommitSeq) -> Result<Option<BlockNumber>, StoreError> {
        self.store.block_of(seq)
    }

    fn position_at(&self, time: Time) -> Result<Position, StoreError> {
        self.store.position_at(time)
    }

    fn directory(&self, row: &mut dyn FnMut(DirectoryRow)) -> Result<(), StoreError> {
        self.store.directory(row)
    }

    fn supplies(&self) -> Result<Vec<(AssetId, Amount)>, StoreError> {
        self.store.supplies()
    }
}

#[test]
fn what_is_below_the_oldest_block_is_refused_and_a_gap_is_damage() {
    let mut past = Past::new(8);
    (0..30).for_each(|_| past.random_block());
    past.fold(0);
    let block_of = |seq| past.reader.block_of(CommitSeq::new(seq)).unwrap().unwrap();
    let (kept, hole) = (block_of(past.last.seq.get() / 2), block_of(past.last.seq.get()));
    let (oldest, gap) = (kept.header().first_seq, hole.header().first_seq);
    assert!(oldest.get() > 2 && gap > oldest);
    let (first, lost) = (kept.header().number, hole.header().number);
    let journal = Arc::new(Kept { store: past.store.clone(), first, lost });
    let reader = Arc::new(Reader::new(
        journal,
        past.store.clone(),
        Arc::new(Unfolded::new()),
        Arc::new(Durable::new(past.last)),
        Arc::new(Progress::new(past.last)),
    ));
    let read = |after: u64| {
        Cursor::new(reader.clone(), CommitSeq::new(after)).read(1, 10_000).map(|read| read[0].0.seq)
    };
    assert_eq!(read(oldest.get() - 1), Ok(oldest));
    for after in [0, 1, oldest.get() - 2] {
        assert_eq!(read(after), Err(PastError::Expired(Expired { oldest })), "after {after}");
    }
    assert!(matches!(read(gap.get() - 1), Err(PastError::Store(StoreError::Damaged(_)))));
}
