//! Turns the rows of many blocks into sorted rows of the version store.
//!
//! The most expensive part of the engine: every swap brings four versions of four balances that
//! lie anywhere, and what that costs is cache misses. So only the distinct keys are sorted. The
//! versions are gathered in 24 bytes each, counted per slot, and scattered once, each to its place
//! behind the earlier ones of its balance; from there on everything is read in sequence.
//!
//! ```text
//! blocks ─► entries, slots ─► counts per slot ─┐
//!             keys met first ─► sorted ────────┴► begins ─► scattered entries ─► packed rows
//! ```
//!
//! Blocks from disk name no slots. From the first of them on, a fold finds every balance's slot by
//! its key in a table, until it is finished.

use hashbrown::HashMap;

use super::pack::{PACK_BYTES_MAX, VERSION_BYTES_MAX, encode, encode_word};
use crate::store::journal::Block;
use crate::store::journal::bytes::Writer;
use crate::store::keys;
use crate::types::{AccountId, Amount, AssetId, Balance, BalanceKey, CommitSeq};

/// Rows that are counted at a time: a loop of its own, in which cache misses overlap.
const BATCH: usize = 512;
/// No place.
const NONE: u32 = u32::MAX;

/// A version: 24 bytes, and where it belongs is known from where it stands.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Available, the low half first. Halves, because a `u128` would be padded to 32 bytes.
    available: [u64; 2],
    /// Counted from the fold's first seq.
    seq: u32,
    /// The place of what is held, or [`NONE`] for nothing.
    held: u32,
}

/// A row of the balance being packed.
#[derive(Clone, Copy, Debug)]
struct Packed {
    first_seq: CommitSeq,
    /// Where its value begins.
    begin: usize,
}

/// Takes in blocks in their order, and yields their version rows in the order of the keys.
/// Keep it for the next fold: its buffers stay.
#[derive(Debug, Default)]
pub struct Fold {
    first_seq: CommitSeq,
    last_seq: Option<CommitSeq>,
    entries: Vec<Entry>,
    /// Of each entry.
    slots: Vec<u32>,
    /// What is held, where it is not nothing: that is rare.
    held: Vec<Amount>,
    /// Of the entries that are not counted yet.
    batch: Vec<BalanceKey>,
    /// By slot: how many entries there are; in the end, where the next one goes.
    counts: Vec<u32>,
    /// Every balance once, with its slot: see [`sortable`].
    order: Vec<u128>,
    /// Slots by key, once a block without slots was taken in.
    slot_by_key: Option<HashMap<BalanceKey, u32, foldhash::fast::RandomState>>,
    /// The entries, sorted.
    scattered: Vec<Entry>,
    /// Where the entries of each balance end, in the order of the keys.
    ends: Vec<u32>,
    value: Writer,
    packed: Vec<Packed>,
}

impl Fold {
    /// A fold that has taken in nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next block.
    ///
    /// # Panics
    /// If blocks come out of order, or rows beyond 2^32.
    pub fn add(&mut self, block: &Block) {
        match self.last_seq {
            None => self.first_seq = block.header().first_seq,
            Some(last) => assert!(last < block.header().first_seq, "blocks are folded in order"),
        }
        let last_seq = block.header().last_seq();
        let first_seq = self.first_seq.get();
        assert!(last_seq.get().saturating_sub(first_seq) < NONE.into(), "a fold has a limit");
        self.last_seq = Some(last_seq);
        if block.slots().is_empty() {
            self.index_keys();
        }
        let is_by_key = self.slot_by_key.is_some();
        let mut slots = block.slots().iter().copied();
        block.visit_rows(|seq, key, balance| {
            let slot = match is_by_key {
                true => self.slot_of(key),
                false => slots.next().expect("a block with slots has one for each row"),
            };
            let entry = self.entry((seq.get() - first_seq) as u32, balance);
            self.entries.push(entry);
            self.slots.push(slot);
            self.batch.push(key);
            if self.batch.len() == BATCH {
                self.count();
            }
        });
        self.count();
    }

    /// Whether no row was taken in since the last finish.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The seq that everything is folded up to once this fold is; `None` if no block was taken in
    /// since the last finish.
    pub fn last_seq(&self) -> Option<CommitSeq> {
        self.last_seq
    }

    /// Shows each row (key, value), keys ascending. The fold is empty afterwards, also after an error.
    ///
    /// # Errors
    /// The first that `row` returns; no more rows are shown then.
    pub fn finish<E>(&mut self, row: impl FnMut(&[u8], &[u8]) -> Result<(), E>) -> Result<(), E> {
        self.order.sort_unstable();
        self.scatter();
        let shown = self.show(row);
        self.clear();
        shown
    }

    #[inline]
    fn entry(&mut self, seq: u32, balance: Balance) -> Entry {
        let available = balance.available.get();
        let available = [available as u64, (available >> 64) as u64];
        let mut held = NONE;
        if balance.held != Amount::ZERO {
            held = u32::try_from(self.held.len()).expect("a fold is far below 2^32 rows");
            self.held.push(balance.held);
        }
        Entry { available, seq, held }
    }

    /// Counts the batch, and notes the balances that are met for the first time.
    fn count(&mut self) {
        let begin = self.slots.len() - self.batch.len();
        for (slot, key) in self.slots[begin..].iter().zip(&self.batch) {
            if *slot as usize >= self.counts.len() {
                self.counts.resize((*slot as usize + 1).next_power_of_two(), 0);
            }
            let count = &mut self.counts[*slot as usize];
            if *count == 0 {
                self.order.push(sortable(*key, *slot));
            }
            *count += 1;
        }
        self.batch.clear();
    }

    /// Makes the table of keys, with the slots of all balances met so far, if there is none.
    fn index_keys(&mut self) {
        if self.slot_by_key.is_none() {
            self.slot_by_key = Some(self.order.iter().map(|sorted| unsorted(*sorted)).collect());
        }
    }

    /// The slot of a balance; a new one behind all others if it has none.
    fn slot_of(&mut self, key: BalanceKey) -> u32 {
        let next = self.counts.len();
        let table = self.slot_by_key.as_mut().expect("made before the first block without slots");
        let slot = *table.entry(key).or_insert_with(|| u32::try_from(next).expect("few balances"));
        if slot as usize == next {
            self.counts.push(0);
        }
        slot
    }

    /// Brings the entries into the order of their keys, those of one key in the order they came.
    fn scatter(&mut self) {
        let mut begin = 0;
        self.ends.clear();
        for sorted in &self.order {
            let (_, slot) = unsorted(*sorted);
            begin += std::mem::replace(&mut self.counts[slot as usize], begin);
            self.ends.push(begin);
        }
        self.scattered.resize(self.entries.len(), Entry::default());
        for (slot, entry) in self.slots.iter().zip(&self.entries) {
            let next = &mut self.counts[*slot as usize];
            self.scattered[*next as usize] = *entry;
            *next += 1;
        }
    }

    fn show<E>(&mut self, mut row: impl FnMut(&[u8], &[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut begin = 0;
        for (sorted, end) in self.order.iter().zip(&self.ends) {
            let (key, _) = unsorted(*sorted);
            let entries = &self.scattered[begin..*end as usize];
            let versions = entries.iter().map(|entry| {
                let seq = self.first_seq.get() + u64::from(entry.seq);
                let [low, high] = entry.available.map(u128::from);
                let held = self.held.get(entry.held as usize).copied();
                let available = Amount::new(high << 64 | low);
                (seq, Balance { available, held: held.unwrap_or_default() })
            });
            pack(versions, &mut self.value, &mut self.packed);
            let mut end_of_value = self.value.len();
            for packed in self.packed.iter().rev() {
                let value = &self.value.written()[packed.begin..end_of_value];
                row(&keys::version(key, packed.first_seq), value)?;
                end_of_value = packed.begin;
            }
            begin = *end as usize;
        }
        Ok(())
    }

    fn clear(&mut self) {
        if self.slot_by_key.take().is_some() {
            // Its slots are not those of the next fold.
            self.counts.clear();
            self.order.clear();
        }
        if self.order.len() > self.counts.len() / 16 {
            self.counts.fill(0);
        } else {
            // Few of many balances were met: clearing all would cost more than the fold.
            for sorted in &self.order {
                self.counts[unsorted(*sorted).1 as usize] = 0;
            }
        }
        self.last_seq = None;
        self.entries.clear();
        self.slots.clear();
        self.held.clear();
        self.order.clear();
    }
}

/// Packs the versions of one balance: the values of its rows, one behind the other.
#[inline]
fn pack(
    versions: impl Iterator<Item = (u64, Balance)>,
    value: &mut Writer,
    packed: &mut Vec<Packed>,
) {
    value.rewind(0);
    packed.clear();
    let (mut before, mut full_at) = ((0, Balance::default()), 0);
    for version in versions {
        if packed.is_empty() || value.len() > full_at {
            packed.push(Packed { first_seq: CommitSeq::new(version.0), begin: value.len() });
            before = (version.0, Balance::default());
            full_at = value.len() + PACK_BYTES_MAX - VERSION_BYTES_MAX;
        }
        match encode_word(before, version) {
            Some((word, length)) => {
                value.reserve(length);
                value.word(word, length);
            }
            None => {
                let mut bytes = [0; VERSION_BYTES_MAX];
                let length = encode(before, version, &mut bytes);
                value.slice(&bytes[..length]);
            }
        }
        before = version;
    }
}

/// A key and its slot as a number that sorts by account, then asset.
#[inline]
fn sortable(key: BalanceKey, slot: u32) -> u128 {
    let (account, asset) = (key.account.get(), key.asset.get());
    u128::from(account) << 64 | u128::from(asset) << 32 | u128::from(slot)
}

/// The inverse of [`sortable`].
#[inline]
fn unsorted(sortable: u128) -> (BalanceKey, u32) {
    let account = AccountId::new((sortable >> 64) as u64);
    let asset = AssetId::new((sortable >> 32) as u32);
    (BalanceKey { account, asset }, sortable as u32)
}
