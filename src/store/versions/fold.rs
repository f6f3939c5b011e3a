//! Turns the rows of many blocks into sorted rows of the version store.
//!
//! The most expensive part of the engine: every swap brings four versions of four balances that
//! lie anywhere. So nothing is gathered and sorted; each version is encoded at once behind the
//! versions of its balance, in a chain of small chunks, and only the balances are sorted. What
//! that costs is memory latency, which is why rows are taken in [`BATCH`] by batch: a first pass
//! over a batch loads what the second needs, many cache misses at a time instead of one by one.
//!
//! ```text
//! block.slots ─► place_of ─► tails ─► chunks          finish: sort the keys, and for each
//!   (dense)       (u32)    (64 bytes)  (64 bytes) ◄──── balance gather its chunks, newest row first
//! ```
//!
//! Blocks from disk name no slots: their balances are found by key in a table.

use std::hint::black_box;

use hashbrown::HashMap;

use super::pack::{PACK_BYTES_MAX, VERSION_BYTES_MAX, encode, encode_word};
use crate::store::journal::Block;
use crate::store::keys;
use crate::types::{Balance, BalanceKey, CommitSeq};

/// Rows that are taken in at a time: what they need fits the nearest caches.
const BATCH: usize = 512;
/// Bytes of a chunk: one cache line.
const CHUNK: usize = 64;
/// At the head of a chunk: the number of the next one.
const LINK: usize = 4;
/// Bytes that are stored at once.
const WORD: usize = 16;
/// No chunk, place or row.
const NONE: u32 = u32::MAX;

/// A piece of a row's value; full unless it is the row's last.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Chunk([u8; CHUNK]);

/// The open row of one balance: where its next version goes. Fills a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Tail {
    last: Balance,
    last_seq: u64,
    row: RowSpan,
    /// The chunk that is written to.
    chunk: u32,
    /// The latest row of this balance that was closed, or [`NONE`].
    closed: u32,
}

const _: () = assert!(size_of::<Tail>() == 64);

/// Where the value of a row is.
#[derive(Clone, Copy, Debug)]
struct RowSpan {
    first_seq: u64,
    head: u32,
    bytes: u16,
    /// Bytes used of the last chunk.
    used: u16,
}

/// A row that had no more room.
#[derive(Clone, Copy, Debug)]
struct Closed {
    row: RowSpan,
    /// The row of the same balance that was closed before, or [`NONE`].
    before: u32,
}

/// A version, and the place of its balance.
#[derive(Clone, Copy, Debug)]
struct Pending {
    balance: Balance,
    seq: u64,
    place: u32,
}

/// Takes in blocks in their order, and yields their version rows in the order of the keys.
/// Keep it for the next fold: its buffers stay.
#[derive(Debug, Default)]
pub struct Fold {
    /// By slot: the place of its balance in this fold, or [`NONE`].
    place_of: Vec<u32>,
    /// The slots that have a place.
    slots: Vec<u32>,
    /// The same by key, once a block without slots was taken in.
    place_by_key: Option<HashMap<BalanceKey, u32, foldhash::fast::RandomState>>,
    /// By place.
    keys: Vec<BalanceKey>,
    /// By place.
    tails: Vec<Tail>,
    chunks: Vec<Chunk>,
    closed: Vec<Closed>,
    batch: Vec<Pending>,
    order: Vec<(BalanceKey, u32)>,
    value: Vec<u8>,
    last_seq: Option<CommitSeq>,
}

impl Fold {
    /// A fold that has taken in nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next block.
    pub fn add(&mut self, block: &Block) {
        self.last_seq = Some(block.header().last_seq());
        if block.slots().is_empty() {
            self.index_keys();
            block.visit_rows(|seq, key, after| {
                let place = self.place_of_key(key);
                self.push(place, seq, after);
            });
        } else {
            let mut slots = block.slots().iter();
            block.visit_rows(|seq, key, after| {
                let slot = *slots.next().expect("a block with slots has one for each row");
                let place = self.place_of_slot(slot, key);
                self.push(place, seq, after);
            });
        }
        self.settle();
    }

    /// Whether no row was taken in since the last finish.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
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
        let shown = self.show(row);
        self.clear();
        shown
    }

    fn show<E>(&mut self, mut row: impl FnMut(&[u8], &[u8]) -> Result<(), E>) -> Result<(), E> {
        self.order.clear();
        self.order.extend(self.keys.iter().zip(0..).map(|(key, place)| (*key, place)));
        self.order.sort_unstable();
        for &(key, place) in &self.order {
            let tail = &self.tails[place as usize];
            let (mut span, mut closed) = (tail.row, tail.closed);
            loop {
                gather(&self.chunks, span, &mut self.value);
                row(&keys::version(key, CommitSeq::new(span.first_seq)), &self.value)?;
                let Some(older) = self.closed.get(closed as usize) else { break };
                (span, closed) = (older.row, older.before);
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        for slot in self.slots.drain(..) {
            self.place_of[slot as usize] = NONE;
        }
        self.place_by_key = None;
        self.keys.clear();
        self.tails.clear();
        self.chunks.clear();
        self.closed.clear();
        self.last_seq = None;
    }

    #[inline]
    fn place_of_slot(&mut self, slot: u32, key: BalanceKey) -> u32 {
        match self.place_of.get(slot as usize) {
            Some(&place) if place != NONE => place,
            _ => self.learn(slot, key),
        }
    }

    /// Gives the balance of a slot its place, when the slot is met for the first time in this fold.
    #[cold]
    fn learn(&mut self, slot: u32, key: BalanceKey) -> u32 {
        let place = match &self.place_by_key {
            Some(_) => self.place_of_key(key),
            None => self.new_place(key),
        };
        if self.place_of.len() <= slot as usize {
            self.place_of.resize(slot as usize + 1, NONE);
        }
        self.place_of[slot as usize] = place;
        self.slots.push(slot);
        place
    }

    fn place_of_key(&mut self, key: BalanceKey) -> u32 {
        let table = self.place_by_key.as_ref().expect("made before the first block without slots");
        if let Some(place) = table.get(&key) {
            return *place;
        }
        let place = self.new_place(key);
        self.place_by_key.as_mut().expect("as above").insert(key, place);
        place
    }

    /// Makes the table of keys, with all balances that have a place, if there is none.
    fn index_keys(&mut self) {
        if self.place_by_key.is_none() {
            self.place_by_key = Some(self.keys.iter().copied().zip(0..).collect());
        }
    }

    fn new_place(&mut self, key: BalanceKey) -> u32 {
        let place = u32::try_from(self.keys.len()).expect("a fold is far below 2^32 rows");
        self.keys.push(key);
        self.tails.push(Tail {
            last: Balance::default(),
            last_seq: 0,
            row: RowSpan { first_seq: 0, head: NONE, bytes: 0, used: 0 },
            chunk: NONE,
            closed: NONE,
        });
        place
    }

    #[inline]
    fn push(&mut self, place: u32, seq: CommitSeq, balance: Balance) {
        self.batch.push(Pending { balance, seq: seq.get(), place });
        if self.batch.len() == BATCH {
            self.settle();
        }
    }

    /// Encodes the batch, after loading everything that it needs.
    fn settle(&mut self) {
        let mut loaded = 0_u32;
        for pending in &self.batch {
            loaded ^= self.tails[pending.place as usize].chunk;
        }
        let mut bytes = 0_u8;
        for pending in &self.batch {
            let chunk = self.tails[pending.place as usize].chunk;
            bytes ^= self.chunks.get(chunk as usize).map_or(0, |chunk| chunk.0[0]);
        }
        // Kept from being optimized away: loading is all that they are for.
        black_box((loaded, bytes));
        for pending in &self.batch {
            let tail = &mut self.tails[pending.place as usize];
            append(tail, pending, &mut self.chunks, &mut self.closed);
        }
        self.batch.clear();
    }
}

/// Encodes a version behind those of its balance.
#[inline]
fn append(tail: &mut Tail, new: &Pending, chunks: &mut Vec<Chunk>, closed: &mut Vec<Closed>) {
    if usize::from(tail.row.bytes) + VERSION_BYTES_MAX > PACK_BYTES_MAX {
        closed.push(Closed { row: tail.row, before: tail.closed });
        tail.closed = (closed.len() - 1) as u32;
        tail.row.bytes = 0;
    }
    if tail.row.bytes == 0 {
        open_row(tail, new.seq, chunks);
    }
    assert!(new.seq >= tail.last_seq, "blocks are folded in their order");
    let (before, after) = ((tail.last_seq, tail.last), (new.seq, new.balance));
    match encode_word(before, after) {
        Some((version, length)) => store_word(tail, version, length, chunks),
        None => {
            let mut version = [0; VERSION_BYTES_MAX];
            let length = encode(before, after, &mut version);
            for part in version[..length].chunks(WORD) {
                let mut word = [0; WORD];
                word[..part.len()].copy_from_slice(part);
                store_word(tail, u128::from_le_bytes(word), part.len(), chunks);
            }
        }
    }
    (tail.last_seq, tail.last) = after;
}

fn open_row(tail: &mut Tail, first_seq: u64, chunks: &mut Vec<Chunk>) {
    let chunk = new_chunk(chunks);
    tail.row = RowSpan { first_seq, head: chunk, bytes: 0, used: LINK as u16 };
    tail.chunk = chunk;
    (tail.last_seq, tail.last) = (first_seq, Balance::default());
}

fn new_chunk(chunks: &mut Vec<Chunk>) -> u32 {
    let number = u32::try_from(chunks.len()).expect("a fold is far below 2^32 chunks");
    chunks.push(Chunk([0; CHUNK]));
    number
}

/// Adds `length` bytes, the lowest of `word`, to the chain. Behind what is used of a chunk there
/// are only zeros, as there are in the word.
#[inline]
fn store_word(tail: &mut Tail, word: u128, length: usize, chunks: &mut Vec<Chunk>) {
    tail.row.bytes += length as u16;
    let used = usize::from(tail.row.used);
    let chunk = &mut chunks[tail.chunk as usize].0;
    if used + WORD <= CHUNK {
        chunk[used..used + WORD].copy_from_slice(&word.to_le_bytes());
        tail.row.used += length as u16;
        return;
    }
    let fits = CHUNK - used;
    if fits > 0 {
        let end = &mut chunk[CHUNK - WORD..];
        let before = u128::from_le_bytes((&*end).try_into().expect("a word"));
        end.copy_from_slice(&(before | word << (8 * (WORD - fits))).to_le_bytes());
    }
    if length <= fits {
        tail.row.used += length as u16;
        return;
    }
    let next = new_chunk(chunks);
    chunks[tail.chunk as usize].0[..LINK].copy_from_slice(&next.to_le_bytes());
    let rest = (word >> (8 * fits)).to_le_bytes();
    chunks[next as usize].0[LINK..LINK + WORD].copy_from_slice(&rest);
    tail.chunk = next;
    tail.row.used = (LINK + length - fits) as u16;
}

/// Puts the value of a row together.
fn gather(chunks: &[Chunk], row: RowSpan, value: &mut Vec<u8>) {
    value.clear();
    let mut rest = usize::from(row.bytes);
    let mut number = row.head;
    while rest > 0 {
        let chunk = &chunks[number as usize].0;
        let fits = rest.min(CHUNK - LINK);
        value.extend_from_slice(&chunk[LINK..LINK + fits]);
        number = u32::from_le_bytes(chunk[..LINK].try_into().expect("a link is four bytes"));
        rest -= fits;
    }
}
