//! Which request ids were seen: the memory that makes a retry safe.
//!
//! A version-7 id carries its time. For times within a window up to now, memory holds *every* id
//! that was ever sequenced, so "never seen" costs one probe and no disk. Any other id is *cold*:
//! it is looked up in the store, and in a small set of ids that are not durable yet.
//!
//! Invariants
//! * Hot: every id whose time is at or above the floor and not in a tainted bucket, once
//!   sequenced, stays in memory until the floor rises past it. The floor never falls.
//! * A cold id, and a hot one that falls out of the window, stays in memory until its outcome can
//!   be found in the store.
//!
//! ```text
//!        floor               now       ceiling
//! ─ cold ──┼── hot: in memory ─┼─ hot ────┼── cold; its bucket is tainted: cold for ever ─►
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;

use crate::message::TxnRef;
use crate::types::{AccountId, AssetId, CommitSeq, RequestId, Resolution, Time, Token};

/// What the store knows that memory does not hold.
pub trait SeenBefore: Send {
    /// Whether a durable outcome of that id exists.
    ///
    /// # Errors
    /// Why the store cannot say: the engine stops.
    fn seen(&self, id: RequestId) -> Result<bool, String>;

    /// Number of the last decision that is durable, plus one; 0 before the first.
    fn durable_decisions(&self) -> u64;

    /// How a hold was resolved; `None` if it was not, up to [`SeenBefore::applied_seq`] at least.
    ///
    /// # Errors
    /// As [`SeenBefore::seen`].
    fn resolution(&self, token: Token) -> Result<Option<Resolved>, String>;

    /// The seq of the deposit that has that reference (see
    /// [`crate::request::Transfer::reference_hash`]); `None` if none has, up to
    /// [`SeenBefore::applied_seq`] at least.
    ///
    /// # Errors
    /// As [`SeenBefore::seen`].
    fn credited(&self, asset: AssetId, reference: u128) -> Result<Option<CommitSeq>, String>;

    /// Everything up to this is found by the two above.
    fn applied_seq(&self) -> CommitSeq;
}

/// Accounts in which a hold sets something aside, each once.
pub type Payers = SmallVec<[AccountId; 2]>;

/// What became of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// How it was resolved.
    pub how: Resolution,
    /// The commit_seq of that.
    pub seq: CommitSeq,
    /// Whether it was a withdrawal's, or else a prepared swap's.
    pub is_withdrawal: bool,
    /// Whose funds it had set aside.
    pub payers: Payers,
}

/// Ids of 128 ms of id time share a bucket: at a million a second it stays in a core's cache.
const BUCKET_SHIFT: u32 = 7;
/// How far ahead of now an id's time may lie and still be kept in memory: clocks differ.
const AHEAD_MS: u64 = 60_000;
/// Tainted buckets remembered; beyond that, everything from the lowest forgotten one on is cold.
const TAINTED_MAX: usize = 65_536;

/// An id and where it was sequenced, in 24 bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: [u8; 16],
    batch_low: u32,
    /// [`BEFORE_START`] for ids that recovery found.
    index: u16,
}

impl Entry {
    fn seen(&self) -> Seen {
        match *self {
            Self { index: BEFORE_START, .. } => Seen::Durable,
            Self { batch_low, index, .. } => Seen::At { batch_low, index: u32::from(index) },
        }
    }
}

/// The index of an id that was sequenced before the engine started. No batch is that long.
const BEFORE_START: u16 = u16::MAX;

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never; it is remembered from now on.
    Never,
    /// At that place, in this run of the engine. Only the low 32 bits of the batch's number are known.
    At {
        /// Low 32 bits of the batch's number.
        batch_low: u32,
        /// Index in the batch.
        index: u32,
    },
    /// Durably, at some time.
    Durable,
}

/// The memory of request ids.
pub struct Ids {
    window_ms: u64,
    entries_max: usize,
    entries: usize,
    hasher: RandomState,
    /// Buckets from number `floor` on.
    buckets: VecDeque<HashTable<Entry>>,
    floor: u64,
    ceiling: u64,
    tainted: BTreeSet<u64>,
    /// Every bucket from this on is cold.
    tainted_from: u64,
    /// Buckets below the floor, each with the number of the first batch that cannot be in it:
    /// kept until every batch before that is durable.
    fading: VecDeque<(u64, HashTable<Entry>, u64)>,
    cold: HashMap<RequestId, TxnRef>,
    cold_order: VecDeque<(RequestId, u64)>,
    /// Batches that were wholly decided while cold or fading ids were about, with the decisions made by then.
    retired: VecDeque<(u64, u64)>,
}

impl Ids {
    /// Remembers ids whose time is at most `window_ms` before `now`, and at most `entries_max` of them.
    pub fn new(now: Time, window_ms: u64, entries_max: usize) -> Self {
        Self {
            window_ms,
            entries_max,
            entries: 0,
            hasher: RandomState::default(),
            buckets: VecDeque::new(),
            floor: Self::floor_at(now, window_ms),
            ceiling: (now.millis() + AHEAD_MS) >> BUCKET_SHIFT,
            tainted: BTreeSet::new(),
            tainted_from: u64::MAX,
            fading: VecDeque::new(),
            cold: HashMap::new(),
            cold_order: VecDeque::new(),
            retired: VecDeque::new(),
        }
    }

    /// Rounded up: a bucket is hot only if all of it lies in the window.
    fn floor_at(now: Time, window_ms: u64) -> u64 {
        (now.millis().saturating_sub(window_ms) >> BUCKET_SHIFT) + 1
    }

    /// Milliseconds of id time from which on recovery must call [`Ids::restore`] with every version-7 id.
    pub fn restore_from_millis(&self) -> u64 {
        self.floor << BUCKET_SHIFT
    }

    /// Puts back a durable id that recovery found.
    pub fn restore(&mut self, id: RequestId) {
        match self.hot_bucket(id) {
            Some(bucket) => {
                self.insert_hot(bucket, id, 0, BEFORE_START);
            }
            None => self.taint(id),
        }
    }

    /// Follows the time: what falls out of the window is forgotten once it is durable.
    ///
    /// `next_batch`: the number of the next batch to be sequenced.
    pub fn advance(&mut self, now: Time, next_batch: u64, store: &impl SeenBefore) {
        self.ceiling = (now.millis() + AHEAD_MS) >> BUCKET_SHIFT;
        let floor = Self::floor_at(now, self.window_ms);
        while self.floor < floor || self.entries > self.entries_max {
            let Some(bucket) = self.buckets.pop_front() else {
                self.floor = self.floor.max(floor);
                break;
            };
            self.entries -= bucket.len();
            if !bucket.is_empty() {
                self.fading.push_back((self.floor, bucket, next_batch));
            }
            self.floor += 1;
        }
        while self.tainted.first().is_some_and(|bucket| *bucket < self.floor) {
            self.tainted.pop_first();
        }
        self.forget_durable(store.durable_decisions());
    }

    /// Says whether the id was seen, and remembers it at that place if not.
    ///
    /// # Errors
    /// Why the store cannot say.
    pub fn see(
        &mut self,
        id: RequestId,
        at: TxnRef,
        store: &impl SeenBefore,
    ) -> Result<Seen, String> {
        match self.hot_bucket(id) {
            Some(bucket) => {
                let index = u16::try_from(at.index).expect("a batch is shorter than 2^16");
                Ok(self.insert_hot(bucket, id, at.batch as u32, index))
            }
            None => self.see_cold(id, at, store),
        }
    }

    /// Whether memory has the id: it does if it was sequenced and is not durable.
    pub fn remembers(&self, id: RequestId) -> bool {
        let Some(bucket) = self.hot_bucket(id) else {
            return self.fading_entry(id).is_some() || self.cold.contains_key(&id);
        };
        let bytes = id.get().to_be_bytes();
        let place = usize::try_from(bucket - self.floor).expect("the window is short");
        let hash = self.hasher.hash_one(id.get());
        self.buckets
            .get(place)
            .is_some_and(|table| table.find(hash, |entry| entry.id == bytes).is_some())
    }

    /// The bucket of an id that memory alone decides about.
    fn hot_bucket(&self, id: RequestId) -> Option<u64> {
        let bucket = id.v7_millis()? >> BUCKET_SHIFT;
        let hot = bucket >= self.floor
            && bucket <= self.ceiling
            && bucket < self.tainted_from
            && (self.tainted.is_empty() || !self.tainted.contains(&bucket));
        hot.then_some(bucket)
    }

    fn insert_hot(&mut self, bucket: u64, id: RequestId, batch_low: u32, index: u16) -> Seen {
        let place = usize::try_from(bucket - self.floor).expect("the window is short");
        if place >= self.buckets.len() {
            self.buckets.resize_with(place + 1, HashTable::new);
        }
        let bytes = id.get().to_be_bytes();
        let hasher = &self.hasher;
        let table = &mut self.buckets[place];
        let entry = table.entry(
            hasher.hash_one(id.get()),
            |entry| entry.id == bytes,
            |entry| hasher.hash_one(u128::from_be_bytes(entry.id)),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(entry) => entry.get().seen(),
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                vacant.insert(Entry { id: bytes, batch_low, index });
                self.entries += 1;
                Seen::Never
            }
        }
    }

    fn see_cold(
        &mut self,
        id: RequestId,
        at: TxnRef,
        store: &impl SeenBefore,
    ) -> Result<Seen, String> {
        if let Some(entry) = self.fading_entry(id) {
            return Ok(entry.seen());
        }
        if let Some(first) = self.cold.get(&id) {
            return Ok(Seen::At { batch_low: first.batch as u32, index: first.index });
        }
        if store.seen(id)? {
            return Ok(Seen::Durable);
        }
        self.taint(id);
        self.cold.insert(id, at);
        self.cold_order.push_back((id, at.batch));
        Ok(Seen::Never)
    }

    /// An id from the future is cold now, so its bucket must still be cold when that time has come.
    fn taint(&mut self, id: RequestId) {
        let Some(bucket) = id.v7_millis().map(|millis| millis >> BUCKET_SHIFT) else {
            return;
        };
        if bucket <= self.ceiling || bucket >= self.tainted_from {
            return;
        }
        self.tainted.insert(bucket);
        if self.tainted.len() > TAINTED_MAX {
            self.tainted_from = self.tainted.pop_last().expect("more than none");
        }
    }

    fn fading_entry(&self, id: RequestId) -> Option<&Entry> {
        let bucket = id.v7_millis()? >> BUCKET_SHIFT;
        let bytes = id.get().to_be_bytes();
        let hash = self.hasher.hash_one(id.get());
        let mut tables = self.fading.iter().filter(|(number, ..)| *number == bucket);
        tables.find_map(|(_, table, _)| table.find(hash, |entry| entry.id == bytes))
    }

    /// Batch number `batch` is wholly decided, by the first `decisions` decisions.
    pub fn retire(&mut self, batch: u64, decisions: u64) {
        if !self.cold.is_empty() || !self.fading.is_empty() {
            self.retired.push_back((batch, decisions));
        }
    }

    fn forget_durable(&mut self, durable_decisions: u64) {
        while let Some((batch, _)) =
            self.retired.front().copied().filter(|(_, decisions)| *decisions <= durable_decisions)
        {
            self.retired.pop_front();
            self.forget_through(batch);
        }
    }

    /// Every batch up to that number is durable.
    fn forget_through(&mut self, batch: u64) {
        while self.cold_order.front().is_some_and(|(_, of)| *of <= batch) {
            let (id, _) = self.cold_order.pop_front().expect("seen");
            self.cold.remove(&id);
        }
        while self.fading.front().is_some_and(|(.., until)| *until <= batch + 1) {
            self.fading.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::HashSet;

    #[derive(Default)]
    struct Store {
        durable: RefCell<HashSet<RequestId>>,
        decisions: u64,
        asked: RefCell<u32>,
    }

    impl SeenBefore for Store {
        fn seen(&self, id: RequestId) -> Result<bool, String> {
            *self.asked.borrow_mut() += 1;
            Ok(self.durable.borrow().contains(&id))
        }
        fn durable_decisions(&self) -> u64 {
            self.decisions
        }
        fn resolution(&self, _: Token) -> Result<Option<Resolved>, String> {
            Ok(None)
        }
        fn credited(&self, _: AssetId, _: u128) -> Result<Option<CommitSeq>, String> {
            Ok(None)
        }
        fn applied_seq(&self) -> CommitSeq {
            CommitSeq::default()
        }
    }

    const NOW: Time = Time::new(1_000_000_000_000);

    fn at(batch: u64, index: u32) -> TxnRef {
        TxnRef { batch, index }
    }

    #[test]
    fn recent_v7_ids_cost_no_disk_read() {
        let store = Store::default();
        let mut ids = Ids::new(NOW, 10_000, 1_000_000);
        for n in 0..1_000 {
            let id = RequestId::v7(NOW.millis() - n, u128::from(n));
            assert_eq!(ids.see(id, at(7, 3), &store), Ok(Seen::Never));
            assert_eq!(ids.see(id, at(8, 1), &store), Ok(Seen::At { batch_low: 7, index: 3 }));
        }
        assert_eq!(*store.asked.borrow(), 0);
    }

    #[test]
    fn old_and_other_ids_are_looked_up() {
        let store = Store::default();
        let mut ids = Ids::new(NOW, 10_000, 1_000_000);
        let old = RequestId::v7(NOW.millis() - 20_000, 1);
        let other = RequestId::new(5);
        store.durable.borrow_mut().insert(old);
        assert_eq!(ids.see(old, at(0, 0), &store), Ok(Seen::Durable));
        assert_eq!(ids.see(other, at(0, 1), &store), Ok(Seen::Never));
        assert_eq!(ids.see(other, at(0, 2), &store), Ok(Seen::At { batch_low: 0, index: 1 }));
    }

    #[test]
    fn cold_ids_are_forgotten_only_once_durable() {
        let mut store = Store::default();
        let mut ids = Ids::new(NOW, 10_000, 1_000_000);
        ids.see(RequestId::new(1), at(0, 0), &store).expect("a store");
        ids.see(RequestId::new(2), at(1, 0), &store).expect("a store");
        ids.retire(0, 1);
        store.decisions = 1;
        store.durable.borrow_mut().insert(RequestId::new(1));
        ids.advance(NOW, 2, &store);
        assert_eq!(ids.see(RequestId::new(1), at(2, 0), &store), Ok(Seen::Durable));
        let second = ids.see(RequestId::new(2), at(2, 1), &store);
        assert_eq!(second, Ok(Seen::At { batch_low: 1, index: 0 }));
    }

    #[test]
    fn an_id_from_the_future_is_still_known_when_its_time_has_come() {
        let store = Store::default();
        let mut ids = Ids::new(NOW, 10_000, 1_000_000);
        let future = RequestId::v7(NOW.millis() + 3_600_000, 9);
        assert_eq!(ids.see(future, at(0, 0), &store), Ok(Seen::Never));
        store.durable.borrow_mut().insert(future);
        ids.retire(0, 0);
        ids.advance(Time::new(NOW.get() + 3_600_000_000), 1, &store);
        assert_eq!(ids.see(future, at(9, 0), &store), Ok(Seen::Durable));
    }

    #[test]
    fn the_floor_rises_with_time_and_with_too_many_entries() {
        let store = Store::default();
        let mut ids = Ids::new(NOW, 10_000, 10);
        for n in 0..100 {
            let id = RequestId::v7(NOW.millis() + n * 128, u128::from(n));
            assert_eq!(ids.see(id, at(0, 0), &store), Ok(Seen::Never));
        }
        ids.advance(NOW, 1, &store);
        assert!(ids.entries <= 10);
        let fading = ids.see(RequestId::v7(NOW.millis(), 0), at(1, 0), &store);
        assert_eq!(fading, Ok(Seen::At { batch_low: 0, index: 0 }));
        ids.retire(0, 0);
        ids.advance(NOW, 1, &store);
        let forgotten = RequestId::v7(NOW.millis(), 0);
        store.durable.borrow_mut().insert(forgotten);
        assert_eq!(ids.see(forgotten, at(1, 0), &store), Ok(Seen::Durable));
    }

    #[test]
    fn restored_ids_are_durable() {
        let store = Store::default();
        let mut ids = Ids::new(NOW, 10_000, 1_000);
        let id = RequestId::v7(NOW.millis(), 4);
        ids.restore(id);
        assert_eq!(ids.see(id, at(0, 0), &store), Ok(Seen::Durable));
        assert_eq!(*store.asked.borrow(), 0);
    }
}
