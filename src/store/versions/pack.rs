//! The value of one version row: versions of one balance, ascending, each as its difference
//! from the one before.
//!
//! | part of a version | form |
//! |---|---|
//! | seq: difference × 2, plus 1 if held changed | varint |
//! | available: difference | zigzag varint |
//! | held: difference; absent if it did not change | zigzag varint |
//!
//! The first one differs from the first seq in the row's key (so by 0) and from an empty balance.
//! Differences of balances are modulo 2^128, so every pair of balances has one; zigzag puts the
//! sign into the lowest bit, so that a small loss is as short as a small gain.

use crate::store::journal::bytes::{Flaw, Reader};
use crate::types::{Amount, Balance, CommitSeq};

/// Where a balance's versions are split into another row.
pub const PACK_BYTES_MAX: usize = 4_096;

/// More than one version can take: three varints.
pub(super) const VERSION_BYTES_MAX: usize = 10 + 19 + 19;

/// One version on its way into bytes.
pub(super) type Scratch = [u8; VERSION_BYTES_MAX];

/// What nearly every version comes to, in a register: its bytes from the lowest, zeros behind
/// them, and how many they are. The same bytes as from [`encode`]; `None` if they might be more
/// than 16.
#[inline]
pub(super) fn encode_word(before: (u64, Balance), after: (u64, Balance)) -> Option<(u128, usize)> {
    let seqs = after.0 - before.0;
    let available = zigzag(before.1.available, after.1.available);
    if before.1.held != after.1.held || seqs >> 55 != 0 {
        return None;
    }
    let (seqs, seqs_len) = spread(seqs << 1);
    let (available, available_len) = spread_wide(available)?;
    let length = seqs_len + available_len;
    (length <= 16).then(|| (u128::from(seqs) | available << (8 * seqs_len), length))
}

/// A number of at most 112 bits as a varint; `None` for more.
#[inline]
fn spread_wide(number: u128) -> Option<(u128, usize)> {
    let (low, high) = (number as u64 & (u64::MAX >> 8), (number >> 56) as u64);
    if high == 0 {
        let (low, length) = spread(low);
        return Some((low.into(), length));
    }
    if number >> 112 != 0 {
        return None;
    }
    // Something follows the eighth byte, so all eight carry the mark.
    let (low, (high, length)) = (spread(low).0 | MORE, spread(high));
    Some((u128::from(high) << 64 | u128::from(low), 8 + length))
}

/// In each byte of a varint but the last: another follows.
const MORE: u64 = u64::from_le_bytes([0x80; 8]);

/// A number of at most 56 bits as a varint, without a branch per byte: seven bits move into each
/// byte by halves, and all bytes but the last get the mark that another follows.
#[inline]
fn spread(number: u64) -> (u64, usize) {
    let bits = 64 - (number | 1).leading_zeros() as usize;
    let length = bits.div_ceil(7);
    let halves = (number & 0x00FF_FFFF_F000_0000) << 4 | number & 0x0FFF_FFFF;
    let quarters = (halves & 0x0FFF_C000_0FFF_C000) << 2 | halves & 0x0000_3FFF_0000_3FFF;
    let bytes = (quarters & 0x3F80_3F80_3F80_3F80) << 1 | quarters & 0x007F_007F_007F_007F;
    let more = MORE & ((1 << (8 * (length - 1))) - 1);
    (bytes | more, length)
}

/// Writes what `seq` and `balance` change of `before`; returns how many bytes that takes.
#[inline]
pub(super) fn encode(before: (u64, Balance), after: (u64, Balance), into: &mut Scratch) -> usize {
    let seqs = after.0 - before.0;
    let held_changed = before.1.held != after.1.held;
    let mut at = 0;
    if seqs < 1 << 62 {
        put(seqs << 1 | u64::from(held_changed), into, &mut at);
    } else {
        put_wide(u128::from(seqs) << 1 | u128::from(held_changed), into, &mut at);
    }
    put_wide(zigzag(before.1.available, after.1.available), into, &mut at);
    if held_changed {
        put_wide(zigzag(before.1.held, after.1.held), into, &mut at);
    }
    at
}

#[inline]
fn put(number: u64, into: &mut Scratch, at: &mut usize) {
    let mut rest = number;
    while rest >= 0x80 {
        into[*at] = rest as u8 | 0x80;
        *at += 1;
        rest >>= 7;
    }
    into[*at] = rest as u8;
    *at += 1;
}

#[inline]
fn put_wide(number: u128, into: &mut Scratch, at: &mut usize) {
    let mut rest = number;
    while rest > u128::from(u64::MAX) {
        into[*at] = rest as u8 | 0x80;
        *at += 1;
        rest >>= 7;
    }
    put(rest as u64, into, at);
}

/// The difference modulo 2^128, its sign in the lowest bit.
#[inline]
fn zigzag(before: Amount, after: Amount) -> u128 {
    let difference = after.get().wrapping_sub(before.get());
    let sign = difference.cast_signed() >> 127;
    (difference << 1) ^ sign.cast_unsigned()
}

/// The inverse of [`zigzag`].
#[inline]
fn undo_zigzag(before: Amount, zigzag: u128) -> Amount {
    let difference = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
    Amount::new(before.get().wrapping_add(difference))
}

/// Writes the value of one version row, in the same buffer each time.
#[derive(Debug, Default)]
pub struct PackWriter {
    value: Vec<u8>,
    first_seq: CommitSeq,
    last: (u64, Balance),
}

impl PackWriter {
    /// A writer of an empty value.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what was written.
    pub fn clear(&mut self) {
        self.value.clear();
    }

    /// Adds a version.
    ///
    /// # Panics
    /// If `seq` is not above the one before.
    pub fn push(&mut self, seq: CommitSeq, balance: Balance) {
        if self.value.is_empty() {
            self.first_seq = seq;
            self.last = (seq.get(), Balance::default());
        } else {
            assert!(self.last.0 < seq.get(), "versions are added in order");
        }
        let mut scratch = [0; VERSION_BYTES_MAX];
        let length = encode(self.last, (seq.get(), balance), &mut scratch);
        self.value.extend_from_slice(&scratch[..length]);
        self.last = (seq.get(), balance);
    }

    /// Whether another version might not fit into [`PACK_BYTES_MAX`].
    pub fn is_full(&self) -> bool {
        self.value.len() + VERSION_BYTES_MAX > PACK_BYTES_MAX
    }

    /// The value so far.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The seq for the row's key; `None` while there is no version.
    pub fn first_seq(&self) -> Option<CommitSeq> {
        (!self.value.is_empty()).then_some(self.first_seq)
    }
}

/// The versions of a row, ascending. Ends early on bytes that no writer wrote, and then says so.
#[derive(Clone, Debug)]
pub struct PackReader<'a> {
    reader: Reader<'a>,
    last: (u64, Balance),
    damaged: bool,
}

impl<'a> PackReader<'a> {
    /// Reads the value of the row under a key with that first seq.
    pub fn new(value: &'a [u8], first_seq: CommitSeq) -> Self {
        let last = (first_seq.get(), Balance::default());
        Self { reader: Reader::new(value, 0), last, damaged: false }
    }

    /// Whether it ended early.
    pub fn is_damaged(&self) -> bool {
        self.damaged
    }

    fn read(&mut self) -> Result<(u64, Balance), Flaw> {
        let (last_seq, last) = self.last;
        let is_first = self.reader.at() == 0;
        let head = self.reader.varint()?;
        let seqs = u64::try_from(head >> 1).map_err(|_| "goes beyond the last seq")?;
        if is_first != (seqs == 0) {
            return Err("has two versions of one seq, or begins elsewhere than it says");
        }
        let seq = last_seq.checked_add(seqs).ok_or("goes beyond the last seq")?;
        let available = undo_zigzag(last.available, self.reader.varint()?);
        let held = match head & 1 {
            0 => last.held,
            _ => match self.reader.varint()? {
                0 => return Err("says that held changed where it did not"),
                zigzag => undo_zigzag(last.held, zigzag),
            },
        };
        Ok((seq, Balance { available, held }))
    }
}

impl Iterator for PackReader<'_> {
    type Item = (CommitSeq, Balance);

    fn next(&mut self) -> Option<Self::Item> {
        if self.damaged || self.reader.is_at_end() {
            return None;
        }
        match self.read() {
            Ok(version) => {
                self.last = version;
                Some((CommitSeq::new(version.0), version.1))
            }
            Err(_) => {
                self.damaged = true;
                None
            }
        }
    }
}

/// The newest version at or below `at` in the row under a key with `first_seq`; `None` if all are
/// newer.
pub fn newest_at(
    value: &[u8],
    first_seq: CommitSeq,
    at: CommitSeq,
) -> Option<(CommitSeq, Balance)> {
    PackReader::new(value, first_seq).take_while(|(seq, _)| *seq <= at).last()
}

/// The newest version in the row under a key with `first_seq`.
pub fn last(value: &[u8], first_seq: CommitSeq) -> Option<(CommitSeq, Balance)> {
    PackReader::new(value, first_seq).last()
}
