//! The indexes from ids to blocks: from request ids to the blocks that hold their outcomes, and from
//! tokens to the blocks that ended their holds.
//!
//! A version-7 id carries its millisecond, and ids come nearly in the order of time. So all ids of
//! one millisecond that a fold brings share a row, in parts of about [`PART_BYTES_MAX`]; whoever
//! looks for an id looks at every row under its millisecond (`keys::id_v7_prefix`), which are
//! nearly always one or two. Any other id has a row of its own.
//!
//! | part of a value of version-7 ids | form |
//! |---|---|
//! | each run of ids in one block: | |
//! | block, as the difference from the run before; the first from the block in the key | varint |
//! | number of ids in the run | varint |
//! | each id without its millisecond | raw 10 |
//!
//! The value of another id is its block: raw 8, little-endian.

use crate::faults::{Bug, planted};
use crate::store::journal::bytes::{Flaw, Reader, Writer};
use crate::store::journal::{Block, Damage};
use crate::store::keys::{self, IdIndex};
use crate::types::{BlockNumber, RequestId};

/// Where the ids of a millisecond are split into another row.
pub const PART_BYTES_MAX: usize = 16 * 1024;

/// Bytes of an id behind its millisecond.
const REST_LEN: usize = 10;
/// Milliseconds that one fold spans, at most, for its ids to be counted instead of sorted.
const COUNTED_MILLIS_MAX: u64 = 1 << 17;

/// An id of version 7 on its way into a row.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    id: u128,
    /// Its block, counted from the fold's first.
    block: u32,
}

impl Entry {
    #[inline]
    fn millis(&self) -> u64 {
        (self.id >> (8 * REST_LEN)) as u64
    }
}

/// Takes in blocks in their order, and yields their rows of one index in the order of the keys.
/// Keep it for the next fold: its buffers stay.
#[derive(Debug)]
pub struct IdFold {
    index: IdIndex,
    first_block: Option<BlockNumber>,
    /// Version-7 ids as they came.
    entries: Vec<Entry>,
    /// Whether their milliseconds never went back.
    is_unsorted: bool,
    others: Vec<(RequestId, BlockNumber)>,
    /// Where the ids are put in order, where they are not.
    sorted: Vec<Entry>,
    counts: Vec<u32>,
    value: Writer,
}

impl IdFold {
    /// A fold that has taken in nothing.
    pub fn new(index: IdIndex) -> Self {
        Self {
            index,
            first_block: None,
            entries: Vec::new(),
            is_unsorted: false,
            others: Vec::new(),
            sorted: Vec::new(),
            counts: Vec::new(),
            value: Writer::default(),
        }
    }

    /// Takes in the request ids of the next block.
    pub fn add_outcomes(&mut self, block: &Block) {
        let number = block.header().number;
        let distance = self.distance(number);
        let mut newest = self.newest();
        block.visit_ids(|id| {
            if planted(Bug::DropOutcome) && id.get().is_multiple_of(5) {
                return;
            }
            if id.v7_millis().is_none() {
                self.others.push((id, number));
                return;
            }
            let entry = Entry { id: id.get(), block: distance };
            self.is_unsorted |= entry.millis() < newest;
            newest = entry.millis();
            self.entries.push(entry);
        });
    }

    /// Takes in one id; its block is the same as that of the id before, or a later one.
    pub fn add(&mut self, id: RequestId, block: BlockNumber) {
        if id.v7_millis().is_none() {
            self.others.push((id, block));
            return;
        }
        let entry = Entry { id: id.get(), block: self.distance(block) };
        self.is_unsorted |= entry.millis() < self.newest();
        self.entries.push(entry);
    }

    /// The block counted from the fold's first, which it becomes if there is none.
    fn distance(&mut self, number: BlockNumber) -> u32 {
        let first = self.first_block.get_or_insert(number).get();
        let distance =
            number.get().checked_sub(first).and_then(|blocks| u32::try_from(blocks).ok());
        distance.expect("blocks are folded in their order, and far below 2^32 at once")
    }

    /// The millisecond of the id that was taken in last.
    fn newest(&self) -> u64 {
        self.entries.last().map_or(0, Entry::millis)
    }

    /// Whether no id was taken in since the last finish.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.others.is_empty()
    }

    /// Shows each row (key, value), keys ascending. The fold is empty afterwards, also after an error.
    ///
    /// # Errors
    /// The first that `row` returns; no more rows are shown then.
    pub fn finish<E>(
        &mut self,
        mut row: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let shown = self.show_v7(&mut row).and_then(|()| self.show_others(&mut row));
        self.first_block = None;
        self.entries.clear();
        self.others.clear();
        self.is_unsorted = false;
        shown
    }

    fn show_v7<E>(&mut self, row: &mut impl FnMut(&[u8], &[u8]) -> Result<(), E>) -> Result<(), E> {
        let Some(first_block) = self.first_block else { return Ok(()) };
        self.sort();
        for same in self.entries.chunk_by(|a, b| a.millis() == b.millis()) {
            let millis = same[0].millis();
            for (part, ids) in (0..).zip(same.chunks(PART_BYTES_MAX / REST_LEN)) {
                write_part(ids, &mut self.value);
                row(&keys::id_v7(self.index, millis, first_block, part), self.value.written())?;
            }
        }
        Ok(())
    }

    fn show_others<E>(
        &mut self,
        row: &mut impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.others.sort_unstable();
        // One outcome an id: were there two, the first one stands.
        self.others.dedup_by_key(|(id, _)| *id);
        for (id, block) in &self.others {
            row(&keys::id_other(self.index, *id), &block.get().to_le_bytes())?;
        }
        Ok(())
    }

    /// Puts the ids in the order of their milliseconds, keeping the order within each.
    fn sort(&mut self) {
        if !self.is_unsorted {
            return;
        }
        let millis = self.entries.iter().map(Entry::millis);
        let (oldest, newest) = millis.fold((u64::MAX, 0), |(a, b), ms| (a.min(ms), b.max(ms)));
        if newest - oldest < COUNTED_MILLIS_MAX {
            self.sort_by_counting(oldest, (newest - oldest) as usize + 1);
        } else {
            self.entries.sort_by_key(Entry::millis);
        }
    }

    fn sort_by_counting(&mut self, oldest: u64, millis: usize) {
        self.counts.clear();
        self.counts.resize(millis, 0);
        let place = |entry: &Entry| (entry.millis() - oldest) as usize;
        for entry in &self.entries {
            self.counts[place(entry)] += 1;
        }
        let mut begin = 0;
        for count in &mut self.counts {
            begin += std::mem::replace(count, begin);
        }
        self.sorted.clear();
        self.sorted.resize(self.entries.len(), Entry::default());
        for entry in &self.entries {
            let next = &mut self.counts[place(entry)];
            self.sorted[*next as usize] = *entry;
            *next += 1;
        }
        std::mem::swap(&mut self.entries, &mut self.sorted);
    }
}

fn write_part(ids: &[Entry], value: &mut Writer) {
    value.rewind(0);
    let mut last_block = 0;
    for run in ids.chunk_by(|a, b| a.block == b.block) {
        value.varint(run[0].block - last_block);
        value.varint(run.len() as u64);
        value.reserve(run.len() * REST_LEN);
        for entry in run {
            let id = entry.id.to_be_bytes();
            value.raw::<REST_LEN>(id[6..].try_into().expect("an id has 16 bytes"));
        }
        last_block = run[0].block;
    }
}

/// The block of an id, if the row of that index has it. For a version-7 id look at the rows under
/// `keys::id_v7_prefix` in their order: the first that has it is right.
///
/// # Errors
/// The row is not one of that index, or damaged.
pub fn find(
    index: IdIndex,
    (key, value): (&[u8], &[u8]),
    id: RequestId,
) -> Result<Option<BlockNumber>, Damage> {
    let mut found = None;
    visit_row(index, (key, value), |other, block| {
        if other == id && found.is_none() {
            found = Some(block);
        }
    })?;
    Ok(found)
}

/// Shows every id of a row of that index, of either kind, with its block.
///
/// # Errors
/// The row is not one of that index, or damaged; some ids may have been shown.
pub fn visit_row(
    index: IdIndex,
    row: (&[u8], &[u8]),
    visit: impl FnMut(RequestId, BlockNumber),
) -> Result<(), Damage> {
    visit_ids(index, row, visit)
        .map_err(|flaw| Damage::Broken(format!("a row of the index of ids {flaw}")))
}

fn visit_ids(
    index: IdIndex,
    (key, value): (&[u8], &[u8]),
    mut visit: impl FnMut(RequestId, BlockNumber),
) -> Result<(), Flaw> {
    let mut reader = Reader::new(value, 0);
    if let Some(id) = keys::decode_id_other(index, key) {
        visit(id, BlockNumber::new(u64::from_le_bytes(reader.raw()?)));
        return if reader.is_at_end() { Ok(()) } else { Err("is too long") };
    }
    let (millis, first_block, _) = keys::decode_id_v7(index, key).ok_or("has a foreign key")?;
    let mut block = first_block.get();
    while !reader.is_at_end() {
        let distance: u64 = reader.varint_as()?;
        block = block.checked_add(distance).ok_or("goes beyond the last block")?;
        let ids: u64 = reader.varint_as()?;
        for _ in 0..ids {
            let mut id = [0; 16];
            id[6..].copy_from_slice(&reader.raw::<REST_LEN>()?);
            let id = u128::from(millis) << (8 * REST_LEN) | u128::from_be_bytes(id);
            visit(RequestId::new(id), BlockNumber::new(block));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::error::Reject;
    use crate::message::Txn;
    use crate::request::{Command, Request};
    use crate::store::journal::{BlockBuilder, BlockHash};
    use crate::types::{AccountId, ChainId, CommitSeq, Time};

    fn txn(id: RequestId) -> Txn {
        let (account, chain) = (AccountId::new(1), ChainId::new(1));
        Txn::new(Request::new(id, Command::RemoveLink { account, chain }), 0, 1).unwrap()
    }

    /// A block with a commit for each id, and one refusal that must not count.
    fn block(number: u64, ids: &[RequestId], reused: Option<RequestId>) -> Block {
        let mut builder = BlockBuilder::new();
        builder.begin(BlockNumber::new(number), CommitSeq::new(1), BlockHash::GENESIS);
        for (place, id) in ids.iter().enumerate() {
            match place % 3 {
                0 => builder.refusal(&txn(*id), (&Reject::Expired, CommitSeq::new(0))),
                _ => builder.commit(&txn(*id), []),
            }
        }
        if let Some(id) = reused {
            builder.refusal(&txn(id), (&Reject::RequestIdReused, CommitSeq::new(0)));
        }
        builder.finish(Time::new(0), vec![])
    }

    const INDEX: IdIndex = IdIndex::Outcomes;

    type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

    fn finish(fold: &mut IdFold, rows: &mut Rows) {
        let mut last_key = Vec::new();
        let row = |key: &[u8], value: &[u8]| {
            assert!(last_key[..] < *key, "keys ascend");
            last_key = key.to_vec();
            assert!(rows.insert(key.to_vec(), value.to_vec()).is_none(), "rows are never replaced");
            Ok::<(), ()>(())
        };
        fold.finish(row).expect("never refused");
        assert!(fold.is_empty());
    }

    /// Finds an id as the store does.
    fn look_up(rows: &Rows, id: RequestId) -> Option<BlockNumber> {
        let Some(millis) = id.v7_millis() else {
            let key = keys::id_other(INDEX, id);
            return find(INDEX, (&key, rows.get(&key[..])?), id).expect("intact");
        };
        let prefix = keys::id_v7_prefix(INDEX, millis);
        let mut rows = rows.iter().filter(|(key, _)| key.starts_with(&prefix));
        rows.find_map(|(key, value)| find(INDEX, (key, value), id).expect("intact"))
    }

    /// Ids that are never twice the same: few milliseconds, or anything.
    fn ids() -> impl Strategy<Value = Vec<RequestId>> {
        let v7 = |millis: std::ops::Range<u64>| {
            (millis, any::<u128>()).prop_map(|(millis, random)| RequestId::v7(millis, random))
        };
        let other = any::<u128>().prop_map(RequestId::new);
        prop::collection::vec(prop_oneof![6 => v7(90..95), 1 => v7(0..1 << 48), 1 => other], 0..30)
    }

    proptest! {
        #[test]
        fn every_id_is_found_in_its_block(
            folds in prop::collection::vec(prop::collection::vec((ids(), any::<bool>()), 0..4), 1..4),
        ) {
            let (mut fold, mut rows, mut number) = (IdFold::new(INDEX), Rows::new(), 0);
            let mut model = BTreeMap::new();
            for blocks in folds {
                for (mut ids, in_order) in blocks {
                    number += 1;
                    if in_order {
                        ids.sort();
                    }
                    fold.add_outcomes(&block(number, &ids, model.keys().next().copied()));
                    model.extend(ids.into_iter().map(|id| (id, BlockNumber::new(number))));
                }
                finish(&mut fold, &mut rows);
            }
            for (id, number) in &model {
                prop_assert_eq!(look_up(&rows, *id), Some(*number));
            }
            prop_assert_eq!(look_up(&rows, RequestId::v7(92, 5)), None);
            prop_assert_eq!(look_up(&rows, RequestId::new(5)), None);
            let mut shown = BTreeMap::new();
            for (key, value) in &rows {
                visit_row(INDEX, (key, value), |id, block| shown.extend([(id, block)])).expect("intact");
            }
            prop_assert_eq!(shown, model);
        }

        #[test]
        fn damaged_rows_are_refused_without_a_panic(
            key in prop::collection::vec(any::<u8>(), 0..20), value in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let _ = visit_row(INDEX, (&key, &value), |_, _| {});
            let key = keys::id_v7(INDEX, 1, BlockNumber::new(1), 0);
            let _ = visit_row(INDEX, (&key, &value), |_, _| {});
        }
    }

    #[test]
    fn a_millisecond_with_very_many_ids_is_split() {
        let ids: Vec<_> = (0..5_000).map(|n| RequestId::v7(7, n * 31)).collect();
        let (mut fold, mut rows) = (IdFold::new(INDEX), Rows::new());
        fold.add_outcomes(&block(1, &ids[..2_500], None));
        fold.add_outcomes(&block(2, &ids[2_500..], None));
        finish(&mut fold, &mut rows);
        assert_eq!(rows.len(), 5_000_usize.div_ceil(PART_BYTES_MAX / REST_LEN));
        for (place, id) in ids.iter().enumerate() {
            assert_eq!(look_up(&rows, *id).unwrap().get(), 1 + place as u64 / 2_500);
        }
    }

    #[test]
    fn ids_of_distant_times_are_sorted_too() {
        let ids = [1 << 47, 5, 1 << 30, 6].map(|millis| RequestId::v7(millis, 1));
        let (mut fold, mut rows) = (IdFold::new(INDEX), Rows::new());
        fold.add_outcomes(&block(9, &ids, None));
        finish(&mut fold, &mut rows);
        assert_eq!(rows.len(), 4);
        assert!(ids.iter().all(|id| look_up(&rows, *id) == Some(BlockNumber::new(9))));
    }

    #[test]
    fn ids_noted_one_by_one_are_those_of_their_index() {
        let mut fold = IdFold::new(IdIndex::Resolved);
        let ids =
            [RequestId::v7(9, 1), RequestId::new(77), RequestId::v7(7, 1), RequestId::v7(9, 2)];
        for (block, id) in (5..).zip(ids) {
            fold.add(id, BlockNumber::new(block));
        }
        let mut rows = Rows::new();
        finish(&mut fold, &mut rows);
        assert_eq!(rows.len(), 3);
        let mut found = BTreeMap::new();
        for (key, value) in &rows {
            visit_row(INDEX, (key, value), |_, _| {}).expect_err("a row of the other index");
            let row = (&key[..], &value[..]);
            visit_row(IdIndex::Resolved, row, |id, block| found.extend([(id, block)])).unwrap();
        }
        assert_eq!(found, ids.into_iter().zip((5..).map(BlockNumber::new)).collect());
    }
}
