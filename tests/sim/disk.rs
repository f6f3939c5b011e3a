//! A disk that does whatever a disk may do, behind the seam of the store.
//!
//! # The contract
//!
//! What the engine relies on, here and of RocksDB alike (which the crash tests hold to it):
//!
//! * *Append* is atomic: a group is there wholly or not at all. Once it returned, the group survives
//!   the end of the process and the loss of power. If it failed, or the process ended meanwhile,
//!   either may be the case until the next start, and then stays so.
//! * What was appended is there in its order: a group survives only if all before it do.
//! * *A fold* of a family is atomic, together with its applied mark. It is not synced: the loss of
//!   power may undo the last ones, of each family in their order, but none from before the last
//!   append that returned.
//! * *The mark* is written after the append and not synced: the process's end does not touch it;
//!   after a loss of power it may be an older one, but never one that was not written.
//! * *The horizon* is synced before anything below it is dropped.
//! * Every operation may fail, and then every later one may succeed.
//!
//! Whatever else it may do to a file (bits that flip, synced data that is gone) is damage: the start
//! must refuse it.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::access::{ApiKey, KeyNumber};
use crosslatch::address::Link;
use crosslatch::market::MarketSpec;
use crosslatch::request::{AssetSpec, Command};
use crosslatch::store::journal::Block;
use crosslatch::store::{
    Applied, CommitLog, DirectoryRow, Family, FamilyWriter, Group, Journal, Position, StoreError,
};
use crosslatch::types::{
    AccountId, Amount, AssetId, BlockNumber, CommitSeq, MarketId, Operation, Time,
};

use crate::clock::SimClock;

/// Thrown through the engine where the process is to end in the middle of something.
pub struct Crash;

/// Whether a panic is the end of the process that the world asked for.
pub fn is_crash(panic: &(dyn Any + Send)) -> bool {
    panic.is::<Crash>()
}

/// Rows of one derived family.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// What is on the disk.
#[derive(Clone, Default)]
pub struct State {
    /// The journal: block 1 comes first.
    pub blocks: Vec<Arc<[u8]>>,
    assets: Vec<AssetSpec>,
    accounts: BTreeMap<AccountId, Vec<Link>>,
    /// Each, and whether it is halted.
    markets: Vec<(MarketSpec, bool)>,
    keys: Vec<(ApiKey, bool)>,
    operation: Operation,
    supplies: BTreeMap<AssetId, Amount>,
    pub rows: [Rows; 3],
    pub applied: Applied,
    pub horizon: CommitSeq,
}

/// A row and its value, or `None` where it is deleted.
type Change = (Vec<u8>, Option<Vec<u8>>);

/// A fold that is not synced.
#[derive(Clone)]
struct Folded {
    family: Family,
    to: Position,
    rows: Vec<Change>,
}

/// How often what goes wrong, per ten thousand operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mischief {
    /// The process ends in an append or a fold.
    pub crashes: u32,
    /// A write fails.
    pub failures: u32,
    /// A read fails.
    pub read_failures: u32,
    /// An append takes seconds.
    pub slow: u32,
    /// The disk is full after so many more writes.
    pub full_after: Option<u32>,
}

/// What it has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deeds {
    pub appends: u64,
    pub folds: u64,
    pub failures: u64,
    pub crashes: u64,
    pub slow: u64,
    pub full: u64,
    pub lost_folds: u64,
    pub lost_groups: u64,
    pub old_marks: u64,
}

struct Inner {
    /// What the process sees.
    now: State,
    /// What no loss of power takes.
    synced: State,
    /// What `now` has and `synced` has not: folds in their order, and at most one group.
    unsynced: Vec<Folded>,
    unsynced_group: Option<Group>,
    /// Marks written since the last that is surely on the disk, which is the first.
    marks: VecDeque<Position>,
    rng: SmallRng,
    mischief: Mischief,
    deeds: Deeds,
    clock: SimClock,
}

/// The disk. Every clone is the same one.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<Inner>>);

/// Where a write is interrupted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Before,
    Written,
    Synced,
    Marked,
}

impl Disk {
    pub fn new(seed: u64, clock: SimClock) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now: State::default(),
            synced: State::default(),
            unsynced: Vec::new(),
            unsynced_group: None,
            marks: VecDeque::from([Position::default()]),
            rng: SmallRng::seed_from_u64(seed),
            mischief: Mischief::default(),
            deeds: Deeds::default(),
            clock,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A crash leaves through a panic, and what it leaves is what is looked at next.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// From now on this goes wrong.
    pub fn set_mischief(&self, mischief: Mischief) {
        self.lock().mischief = mischief;
    }

    pub fn deeds(&self) -> Deeds {
        self.lock().deeds
    }

    /// How far the journal is known to have been synced.
    pub fn mark(&self) -> Position {
        *self.lock().marks.back().expect("there always is one")
    }

    /// Shows what the process sees; a read may fail.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T, StoreError> {
        let mut inner = self.lock();
        let failures = inner.mischief.read_failures;
        if inner.happens(failures) {
            inner.deeds.failures += 1;
            return Err(StoreError::Io("reading failed: input/output error (simulated)".into()));
        }
        Ok(look(&inner.now))
    }

    /// Shows what is there, without mischief.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock().now)
    }

    /// The power goes, and comes back.
    pub fn lose_power(&self) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut left = inner.synced.clone();
        if let Some(group) = inner.unsynced_group.take() {
            match inner.rng.random_bool(0.5) {
                true => left.append(&group),
                false => inner.deeds.lost_groups += 1,
            }
        }
        let mut lost = [false; 3];
        for folded in inner.unsynced.drain(..) {
            let lost = &mut lost[folded.family as usize];
            *lost |= inner.rng.random_bool(0.4);
            match *lost {
                true => inner.deeds.lost_folds += 1,
                false => left.fold(&folded),
            }
        }
        let survives = inner.rng.random_range(0..inner.marks.len());
        inner.deeds.old_marks += u64::from(survives + 1 < inner.marks.len());
        inner.marks = VecDeque::from([inner.marks[survives]]);
        inner.synced = left.clone();
        inner.now = left;
    }

    /// The process has ended, and the kernel has what it wrote.
    pub fn end_process(&self) {
        let mut inner = self.lock();
        inner.sync();
    }

    /// Takes the last blocks away although they were synced, as no sound disk does: returns how
    /// many. What was folded is gone, too, so that only the mark tells.
    pub fn damage_tail(&self) -> usize {
        let mut inner = self.lock();
        inner.sync();
        let blocks = inner.now.blocks.len();
        let take = inner.rng.random_range(0..=blocks.min(3));
        inner.now.blocks.truncate(blocks - take);
        if take > 0 {
            // Without what was folded of them nothing but the mark tells.
            inner.now.rows = Default::default();
            inner.now.applied = Applied::default();
        }
        inner.synced = inner.now.clone();
        take
    }

    /// Flips a bit of one of the last blocks; says whether there was one.
    pub fn flip_bit(&self) -> bool {
        let mut inner = self.lock();
        inner.sync();
        let inner = &mut *inner;
        let Some(last) = inner.now.blocks.last_mut() else { return false };
        let mut bytes = last.to_vec();
        let at = inner.rng.random_range(0..bytes.len());
        bytes[at] ^= 1 << inner.rng.random_range(0..8);
        *last = bytes.into();
        inner.synced = inner.now.clone();
        true
    }

    fn fold(&self, folded: Folded) -> Result<(), StoreError> {
        let mut inner = self.lock();
        inner.deeds.folds += 1;
        inner.check_room()?;
        let cut = inner.cut([Cut::Before, Cut::Written]);
        if cut != Some(Cut::Before) {
            inner.now.fold(&folded);
            inner.unsynced.push(folded);
        }
        match cut {
            Some(_) => inner.interrupt(),
            None => Ok(()),
        }
    }

    fn raise_horizon(&self, horizon: CommitSeq) -> Result<(), StoreError> {
        let mut inner = self.lock();
        inner.check_room()?;
        inner.now.horizon = inner.now.horizon.max(horizon);
        inner.sync();
        Ok(())
    }

    /// Drops rows that nobody can read any more.
    pub fn drop_rows(
        &self,
        horizon: CommitSeq,
        drop: impl FnOnce(&mut [Rows; 3]),
    ) -> Result<(), StoreError> {
        self.raise_horizon(horizon)?;
        let mut inner = self.lock();
        drop(&mut inner.now.rows);
        inner.synced = inner.now.clone();
        Ok(())
    }
}

impl Inner {
    fn happens(&mut self, per_ten_thousand: u32) -> bool {
        per_ten_thousand > 0 && self.rng.random_range(0..10_000) < per_ten_thousand
    }

    /// Where the operation that begins is interrupted, if it is.
    fn cut<const N: usize>(&mut self, cuts: [Cut; N]) -> Option<Cut> {
        let Mischief { crashes, failures, .. } = self.mischief;
        let cut = self.happens(crashes + failures);
        cut.then(|| cuts[self.rng.random_range(0..N)])
    }

    /// Ends the process, or fails the operation.
    fn interrupt(&mut self) -> Result<(), StoreError> {
        let Mischief { crashes, failures, .. } = self.mischief;
        if self.rng.random_range(0..crashes + failures) < crashes {
            self.deeds.crashes += 1;
            resume_unwind(Box::new(Crash));
        }
        self.deeds.failures += 1;
        Err(StoreError::Io("writing failed: input/output error (simulated)".into()))
    }

    fn check_room(&mut self) -> Result<(), StoreError> {
        match &mut self.mischief.full_after {
            Some(0) => {
                self.deeds.full += 1;
                Err(StoreError::Io("writing failed: no space left on device (simulated)".into()))
            }
            Some(writes) => {
                *writes -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Everything that was written is there for good, but for the marks.
    fn sync(&mut self) {
        for folded in self.unsynced.drain(..) {
            self.synced.fold(&folded);
        }
        if let Some(group) = self.unsynced_group.take() {
            self.synced.append(&group);
        }
        self.synced.horizon = self.now.horizon;
    }

    fn append(&mut self, group: &Group) -> Result<(), StoreError> {
        self.deeds.appends += 1;
        self.check_room()?;
        let slow = self.mischief.slow;
        if self.happens(slow) {
            self.deeds.slow += 1;
            self.clock.pass(self.rng.random_range(1..8_000_000_000));
        }
        let cut = self.cut([Cut::Before, Cut::Written, Cut::Synced, Cut::Marked]);
        if cut == Some(Cut::Before) {
            return self.interrupt();
        }
        self.now.append(group);
        self.unsynced_group = Some(group.clone());
        if cut == Some(Cut::Written) {
            return self.interrupt();
        }
        self.sync();
        if cut == Some(Cut::Synced) {
            return self.interrupt();
        }
        self.marks.push_back(Position::after(&group.block));
        if self.marks.len() > 8 {
            self.marks.pop_front();
        }
        if cut == Some(Cut::Marked) { self.interrupt() } else { Ok(()) }
    }
}

impl State {
    fn append(&mut self, group: &Group) {
        let header = group.block.header();
        assert_eq!(header.number.get(), self.blocks.len() as u64 + 1, "blocks are dense");
        self.blocks.push(group.block.bytes().into());
        for command in &group.directory {
            self.change_directory(command);
        }
        self.supplies.extend(group.supplies.iter().copied());
    }

    fn change_directory(&mut self, command: &Command) {
        match command {
            Command::PutAsset(spec) => {
                if !self.assets.iter().any(|known| known.name == spec.name) {
                    self.assets.push(spec.clone());
                }
            }
            Command::PutAccount { account, links } => {
                let known = self.accounts.entry(*account).or_default();
                for link in links {
                    if !known.contains(link) {
                        known.push(link.clone());
                    }
                }
            }
            Command::RemoveLink { account, chain } => {
                let known = self.accounts.entry(*account).or_default();
                known.retain(|link| link.chain != *chain);
            }
            Command::PutMarket(spec) => {
                if !self.markets.iter().any(|(known, _)| known.name == spec.name) {
                    self.markets.push(((**spec).clone(), false));
                }
            }
            Command::SwitchMarket { market, halted } => {
                self.markets[market.get() as usize].1 = *halted;
            }
            Command::PutKey(key) => {
                match self.keys.iter_mut().find(|(known, _)| known.name == key.name) {
                    Some((known, _)) => *known = (**key).clone(),
                    None => self.keys.push(((**key).clone(), false)),
                }
            }
            Command::RevokeKey(name) => {
                let known = self.keys.iter_mut().find(|(known, _)| known.name == *name);
                known.expect("it was checked").1 = true;
            }
            Command::Operate(state) => self.operation = *state,
            other => panic!("not about the directory: {other:?}"),
        }
    }

    fn fold(&mut self, folded: &Folded) {
        let rows = &mut self.rows[folded.family as usize];
        for (key, value) in &folded.rows {
            match value {
                Some(value) => drop(rows.insert(key.clone(), value.clone())),
                None => drop(rows.remove(key)),
            }
        }
        match folded.family {
            Family::Versions => self.applied.versions = folded.to,
            Family::Outcomes => self.applied.outcomes = folded.to,
            Family::Records => self.applied.records = folded.to,
        }
    }

    /// A block, decoded as from a disk.
    pub fn block(&self, number: BlockNumber) -> Result<Option<Block>, StoreError> {
        let index = number.get().checked_sub(1).and_then(|index| usize::try_from(index).ok());
        let Some(bytes) = index.and_then(|index| self.blocks.get(index)) else { return Ok(None) };
        let block = Block::decode(bytes.to_vec())
            .map_err(|damage| StoreError::Damaged(format!("block {number}: {damage}")))?;
        if block.header().number != number {
            return Err(StoreError::Damaged(format!("block {number} is another one")));
        }
        Ok(Some(block))
    }

    /// All blocks, which must be whole.
    pub fn all_blocks(&self) -> impl Iterator<Item = Block> {
        (1..=self.blocks.len() as u64).map(|number| {
            let found = self.block(BlockNumber::new(number)).expect("it is whole");
            found.expect("it is there")
        })
    }
}

impl CommitLog for Disk {
    fn begin(&mut self, at: Position) -> Result<(), StoreError> {
        let mut inner = self.lock();
        inner.check_room()?;
        inner.sync();
        inner.marks = VecDeque::from([at]);
        Ok(())
    }

    fn append(&mut self, group: &Group) -> Result<(), StoreError> {
        self.lock().append(group)
    }

    fn stop(&mut self) -> Result<(), StoreError> {
        let mut inner = self.lock();
        inner.sync();
        let last = *inner.marks.back().expect("there always is one");
        inner.marks = VecDeque::from([last]);
        Ok(())
    }
}

impl Journal for Disk {
    fn last(&self) -> Result<Option<Block>, StoreError> {
        self.read(|state| state.block(BlockNumber::new(state.blocks.len() as u64)))?
    }

    fn block(&self, number: BlockNumber) -> Result<Option<Block>, StoreError> {
        self.read(|state| state.block(number))?
    }

    fn read_from(
        &self,
        number: BlockNumber,
    ) -> Box<dyn Iterator<Item = Result<Block, StoreError>> + '_> {
        let mut next = Some(number);
        Box::new(std::iter::from_fn(move || {
            let read = Journal::block(self, next?).transpose()?;
            next = read.is_ok().then(|| next.map(BlockNumber::next)).flatten();
            Some(read)
        }))
    }

    fn block_of(&self, seq: CommitSeq) -> Result<Option<BlockNumber>, StoreError> {
        self.read(|state| {
            let has = |block: &Block| {
                (block.header().first_seq..block.header().next_seq()).contains(&seq)
            };
            state.all_blocks().find(has).map(|block| block.header().number)
        })
    }

    fn position_at(&self, time: Time) -> Result<Position, StoreError> {
        self.read(|state| {
            let upto = state.all_blocks().filter(|block| block.header().time <= time);
            upto.last().map(|block| Position::after(&block)).unwrap_or_default()
        })
    }

    fn directory(&self, row: &mut dyn FnMut(DirectoryRow)) -> Result<(), StoreError> {
        self.read(|state| {
            for (number, spec) in (0..).zip(&state.assets) {
                row(DirectoryRow::Asset(AssetId::new(number), spec.clone()));
            }
            for (account, links) in &state.accounts {
                row(DirectoryRow::Account(*account, links.clone()));
            }
            for (number, (spec, halted)) in (0..).zip(&state.markets) {
                let (number, spec) = (MarketId::new(number), Box::new(spec.clone()));
                row(DirectoryRow::Market(number, spec, *halted));
            }
            for (number, (key, revoked)) in (0..).zip(&state.keys) {
                row(DirectoryRow::ApiKey(KeyNumber(number), Box::new(key.clone()), *revoked));
            }
            row(DirectoryRow::Operation(state.operation));
        })
    }

    fn supplies(&self) -> Result<Vec<(AssetId, Amount)>, StoreError> {
        self.read(|state| state.supplies.iter().map(|(asset, sum)| (*asset, *sum)).collect())
    }
}

/// A fold in the making.
pub struct Fold<'a> {
    disk: &'a Disk,
    folded: Folded,
}

impl<'a> Fold<'a> {
    pub fn new(disk: &'a Disk, family: Family, to: Position) -> Self {
        Self { disk, folded: Folded { family, to, rows: Vec::new() } }
    }

    fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        if let Some((last, _)) = self.folded.rows.last() {
            assert!(**last < *key, "keys ascend");
        }
        self.folded.rows.push((key.to_vec(), value.map(<[u8]>::to_vec)));
    }
}

impl FamilyWriter for Fold<'_> {
    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.add(key, Some(value));
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.add(key, None);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), StoreError> {
        self.disk.fold(self.folded)
    }
}
