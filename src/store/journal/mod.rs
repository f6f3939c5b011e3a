//! The journal: one block is the commit of one group, and the only truth there is on disk.
//!
//! Layout of a block; integers are little-endian, `bytes.rs` has the other forms:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic: `XLJB` |
//! | 4 | 2 | format version |
//! | 6 | 4 | crc32c of everything that follows |
//! | 10 | 8 | block number |
//! | 18 | 8 | commit_seq of the first commit, or of the next one to be given |
//! | 26 | 4 | number of commits |
//! | 30 | 4 | number of refusals, repeats included |
//! | 34 | 8 | logical time, microseconds |
//! | 42 | 32 | blake3 of the block before, zeros in the first |
//! | 74 | | commits in commit_seq order (see `record.rs`, `command.rs`, `hold.rs`), then refusals (see `refusal.rs`) |
//!
//! Invariants
//! * A block that decodes is exactly what was written: every flipped or missing byte is found.
//! * A record is complete: receipt, refusal and rows follow from it and the header alone.
//! * Blocks are immutable and shared; reading one record costs no search.

mod access;
pub(in crate::store) mod bytes;
mod builder;
mod command;
mod conservation;
mod fault;
mod hold;
mod order;
mod record;
mod refusal;
mod settlement;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod scripts;
#[cfg(test)]
pub(in crate::store) mod tests;
mod transact;

use thiserror::Error;

use super::orders::Traded;
use crate::message::Proof;
use crate::request::{Command, Hold, Receipt, Write};
use crate::types::{
    AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, RequestId, Resolution, Time, Token,
};
use bytes::{Flaw, Reader, Writer};

pub use builder::BlockBuilder;
pub use conservation::{Violation, check_conservation, supply_change};
pub use record::{CommitRecord, decode_command, digest, encode_command};
pub use refusal::{RefusalRecord, Verdict};
pub(in crate::store) use settlement::{read_state, write_state};

/// The version of the layout that this build writes, and the only one that it reads.
pub const FORMAT_VERSION: u16 = 2;

const MAGIC: [u8; 4] = *b"XLJB";
const CHECKSUM_AT: usize = 6;
/// Where what the checksum covers begins.
const COVERED_AT: usize = 10;
const HEADER_LEN: usize = 74;

/// The blake3 hash of an encoded block: a link of the journal's chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BlockHash([u8; 32]);

impl BlockHash {
    /// What the first block names as the one before it.
    pub const GENESIS: Self = Self([0; 32]);

    /// Wraps the bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What a block says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// The layout.
    pub version: u16,
    /// Dense number of the block.
    pub number: BlockNumber,
    /// The commit_seq of the first commit; if there is none, the next one to be given.
    pub first_seq: CommitSeq,
    /// How many commits.
    pub commits: u32,
    /// How many refusals.
    pub refusals: u32,
    /// Logical time of the group.
    pub time: Time,
    /// Hash of the block before.
    pub previous: BlockHash,
}

impl BlockHeader {
    /// The seq of the first commit after this block.
    pub fn next_seq(&self) -> CommitSeq {
        self.first_seq.plus(self.commits.into())
    }

    /// The seq up to which everything has happened once this block has: of its last commit, or of
    /// an earlier block's if it has none.
    pub fn last_seq(&self) -> CommitSeq {
        CommitSeq::new(self.next_seq().get().saturating_sub(1))
    }

    /// Fills in the header of the block that was written, checksum included.
    fn write(&self, block: &mut Writer) {
        block.patch(0, &MAGIC);
        block.patch(4, &self.version.to_le_bytes());
        block.patch(10, &self.number.get().to_le_bytes());
        block.patch(18, &self.first_seq.get().to_le_bytes());
        block.patch(26, &self.commits.to_le_bytes());
        block.patch(30, &self.refusals.to_le_bytes());
        block.patch(34, &self.time.get().to_le_bytes());
        block.patch(42, &self.previous.0);
        let checksum = crc32c::crc32c(&block.written()[COVERED_AT..]);
        block.patch(CHECKSUM_AT, &checksum.to_le_bytes());
    }

    /// Reads the header and checks everything that can be without the records.
    fn read(block: &[u8]) -> Result<Self, Damage> {
        let header = Self::read_fields(&mut Reader::new(block, 0));
        let (magic, checksum, header) = header.map_err(|_| broken("is shorter than a header"))?;
        if magic != MAGIC {
            return Err(broken("does not begin as a block does"));
        }
        match header.version {
            0 => return Err(broken("has format version 0, which never was")),
            FORMAT_VERSION => {}
            older if older < FORMAT_VERSION => return Err(Damage::Older(older)),
            newer => return Err(Damage::Newer(newer)),
        }
        let found = crc32c::crc32c(&block[COVERED_AT..]);
        if found != checksum {
            let why = format!("has checksum {found:08x} where {checksum:08x} was written");
            return Err(Damage::Broken(why));
        }
        if header.first_seq.get().checked_add(header.commits.into()).is_none() {
            return Err(broken("has commits beyond the last seq there is"));
        }
        Ok(header)
    }

    fn read_fields(from: &mut Reader<'_>) -> Result<([u8; 4], u32, Self), Flaw> {
        let magic = from.raw()?;
        let version = u16::from_le_bytes(from.raw()?);
        let checksum = u32::from_le_bytes(from.raw()?);
        let header = Self {
            version,
            number: BlockNumber::new(u64::from_le_bytes(from.raw()?)),
            first_seq: CommitSeq::new(u64::from_le_bytes(from.raw()?)),
            commits: u32::from_le_bytes(from.raw()?),
            refusals: u32::from_le_bytes(from.raw()?),
            time: Time::new(u64::from_le_bytes(from.raw()?)),
            previous: BlockHash(from.raw()?),
        };
        Ok((magic, checksum, header))
    }
}

/// What is wrong with stored bytes. Worded to follow what they are, as in "block 7 ...".
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    /// A newer build wrote them.
    #[error("has format version {0}; this build reads up to {FORMAT_VERSION}")]
    Newer(u16),
    /// A build from before the first release wrote them.
    #[error("has format version {0}; the oldest that this build reads is {FORMAT_VERSION}")]
    Older(u16),
    /// They are not what was written.
    #[error("{0}")]
    Broken(String),
}

fn broken(why: &str) -> Damage {
    Damage::Broken(why.into())
}

/// One commit group as it stands in the journal.
#[derive(Clone, Debug)]
pub struct Block {
    header: BlockHeader,
    hash: BlockHash,
    bytes: Vec<u8>,
    records: Records,
    slots: Vec<u32>,
}

/// What is known of a block's records without reading them.
#[derive(Clone, Debug)]
struct Records {
    /// Where each begins: commits, then refusals.
    offsets: Vec<u32>,
    /// Whether any commit does more than move balances and change the directory.
    eventful: bool,
}

/// What a commit does beside moving balances and changing the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Amounts were set aside.
    Held(Hold),
    /// A hold was ended.
    Resolved(Token, Resolution),
    /// A reference was credited: see [`crate::request::Transfer::reference_hash`].
    Credited(AssetId, u128),
    /// A value was written under a caller's key, or deleted.
    Wrote(Write),
    /// A market's request was settled.
    Traded(Box<Traded>),
}

/// An [`Event`], or where it can be read.
#[derive(Clone, Debug)]
pub enum Mark<'a> {
    /// Amounts were set aside.
    Made {
        /// By which the hold is called.
        token: Token,
        /// For [`hold_in`].
        record: &'a [u8],
    },
    /// Anything else.
    Other(Event),
}

/// The hold that a commit made.
///
/// # Panics
/// If the record is not what [`Block::visit_marks`] showed of such a commit.
pub fn hold_in(seq: CommitSeq, record: &[u8]) -> Hold {
    let commit = CommitRecord::read(seq, &mut Reader::new(record, 0));
    commit.ok().and_then(|commit| commit.made()).expect("checked when the block was made")
}

impl Block {
    fn assemble(header: BlockHeader, bytes: Vec<u8>, records: Records, slots: Vec<u32>) -> Self {
        let hash = BlockHash(*blake3::hash(&bytes).as_bytes());
        Self { header, hash, bytes, records, slots }
    }

    /// Checks the bytes of a stored block, all of them, and indexes its records.
    ///
    /// # Errors
    /// What is wrong with the bytes. Whether the block is the right one (its number, its first seq,
    /// the hash it names) is for the caller to compare.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, Damage> {
        let header = BlockHeader::read(&bytes)?;
        if u32::try_from(bytes.len()).is_err() {
            return Err(broken("is larger than a block can be"));
        }
        // A wrong count must not ask for memory: no record is shorter than its preamble.
        let fit = bytes.len() / record::PREAMBLE_LEN;
        let expected = header.commits as usize + header.refusals as usize;
        if expected > fit {
            return Err(broken("is too short for its number of records"));
        }
        let mut records = Records { offsets: Vec::with_capacity(expected), eventful: false };
        let mut reader = Reader::new(&bytes, HEADER_LEN);
        for place in 0..expected {
            records.offsets.push(reader.at() as u32);
            let read = match place.checked_sub(header.commits as usize) {
                None => {
                    CommitRecord::check(&mut reader).map(|eventful| records.eventful |= eventful)
                }
                Some(_) => RefusalRecord::read(&mut reader).map(drop),
            };
            read.map_err(|flaw| {
                Damage::Broken(format!("has a record, number {place}, that {flaw}"))
            })?;
        }
        if !reader.is_at_end() {
            return Err(broken("is longer than its records"));
        }
        Ok(Self::assemble(header, bytes, records, Vec::new()))
    }

    /// What the block says of itself.
    pub fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// The encoded block.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// blake3 of [`Block::bytes`]: what the next block names as the one before it.
    pub fn hash(&self) -> BlockHash {
        self.hash
    }

    /// The global slot number of each row's balance, in the order of [`Block::visit_rows`]; empty
    /// when the block was read from disk.
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// The `index`-th commit.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn commit(&self, index: u32) -> CommitRecord {
        assert!(index < self.header.commits, "no commit {index} in {:?}", self.header);
        let seq = self.header.first_seq.plus(index.into());
        CommitRecord::read(seq, &mut self.record(index)).expect("checked when the block was made")
    }

    /// How many bytes the `index`-th of all records takes; commits come first.
    pub fn commit_bytes(&self, index: u32) -> usize {
        let at = |index: u32| self.records.offsets.get(index as usize).map(|at| *at as usize);
        let end = at(index + 1).unwrap_or(self.bytes.len());
        end - at(index).unwrap_or(end)
    }

    fn record_bytes(&self, index: u32) -> &[u8] {
        let begin = self.records.offsets[index as usize] as usize;
        &self.bytes[begin..begin + self.commit_bytes(index)]
    }

    /// All commits in commit_seq order.
    pub fn commits(&self) -> impl Iterator<Item = CommitRecord> {
        (0..self.header.commits).map(|index| self.commit(index))
    }

    /// The commit with that seq; `None` if it is not in this block.
    pub fn commit_at(&self, seq: CommitSeq) -> Option<CommitRecord> {
        let index = seq.get().checked_sub(self.header.first_seq.get())?;
        let index = u32::try_from(index).ok().filter(|index| *index < self.header.commits)?;
        Some(self.commit(index))
    }

    /// The `index`-th refusal.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn refusal(&self, index: u32) -> RefusalRecord {
        assert!(index < self.header.refusals, "no refusal {index} in {:?}", self.header);
        let mut record = self.record(self.header.commits + index);
        RefusalRecord::read(&mut record).expect("checked when the block was made")
    }

    /// All refusals in their order, repeats included.
    pub fn refusals(&self) -> impl Iterator<Item = RefusalRecord> {
        (0..self.header.refusals).map(|index| self.refusal(index))
    }

    /// Shows every row: the seq and balance key of each commit's operations, and the balance after.
    /// Allocates nothing where a swap's legs do not share a balance.
    pub fn visit_rows(&self, mut visit: impl FnMut(CommitSeq, BalanceKey, Balance)) {
        let mut reader = Reader::new(&self.bytes, HEADER_LEN);
        let mut seq = self.header.first_seq;
        for index in 0..self.header.commits {
            let read = record::read_pair(&mut reader, |key, after| visit(seq, key, after));
            if !read.expect("checked when the block was made") {
                self.visit_rows_of(index, |key, after| visit(seq, key, after));
                reader = self.record(index + 1);
            }
            seq = seq.next();
        }
    }

    fn visit_rows_of(&self, index: u32, mut visit: impl FnMut(BalanceKey, Balance)) {
        const CHECKED: &str = "checked when the block was made";
        if record::read_held_pair(&mut self.record(index), &mut visit).expect(CHECKED) {
            return;
        }
        let mut reader = self.record(index);
        if let Some(traded) = record::read_traded(&mut reader).expect(CHECKED) {
            for moved in &traded.settlement.moves {
                visit(moved.key, record::read_balance(&mut reader).expect(CHECKED));
            }
            return;
        }
        let record = self.commit(index);
        for (op, after) in record.txn.row_ops().zip(&record.after) {
            visit(op.key, *after);
        }
    }

    /// Shows what the commits do beside moving balances and changing the directory, in commit_seq
    /// order. Costs nothing in a block of swaps.
    pub fn visit_events(&self, mut visit: impl FnMut(CommitSeq, Event)) {
        self.visit_marks(|seq, mark| {
            let event = match mark {
                Mark::Made { record, .. } => Event::Held(hold_in(seq, record)),
                Mark::Other(event) => event,
            };
            visit(seq, event);
        });
    }

    /// The same, with the holds that were made unread: most of them are ended before anybody asks.
    pub fn visit_marks(&self, mut visit: impl FnMut(CommitSeq, Mark<'_>)) {
        for (index, kind) in self.eventful_kinds() {
            let seq = self.header.first_seq.plus(index.into());
            if command::action(kind).is_some() {
                let resolved = record::resolution(self.record(index)).ok().flatten();
                let (token, how) = resolved.expect("checked when the block was made");
                visit(seq, Mark::Other(Event::Resolved(token, how)));
                continue;
            }
            if command::makes_hold(kind) {
                let record = self.record_bytes(index);
                visit(seq, Mark::Made { token: record::token(record), record });
                continue;
            }
            let traded = record::read_traded(&mut self.record(index));
            if let Some(traded) = traded.expect("checked when the block was made") {
                visit(seq, Mark::Other(Event::Traded(Box::new(traded))));
                continue;
            }
            match self.commit(index).txn.command {
                Command::Deposit(to) => {
                    if let Some(hash) = to.reference_hash() {
                        visit(seq, Mark::Other(Event::Credited(to.asset, hash)));
                    }
                }
                Command::Transact(transact) => {
                    for write in transact.writes {
                        visit(seq, Mark::Other(Event::Wrote(write)));
                    }
                }
                _ => {}
            }
        }
    }

    /// The commit that ended a hold, and how. Looks at kinds and tokens only.
    pub fn find_resolution(&self, token: Token) -> Option<(CommitSeq, Resolution)> {
        self.eventful_kinds().find_map(|(index, _)| {
            let read = record::resolution(self.record(index));
            let (other, how) = read.expect("checked when the block was made")?;
            (other == token).then(|| (self.header.first_seq.plus(index.into()), how))
        })
    }

    /// Place and kind of the commits that may have events.
    fn eventful_kinds(&self) -> impl Iterator<Item = (u32, u8)> {
        let commits = if self.records.eventful { self.header.commits } else { 0 };
        let kind =
            |index| record::kind(self.record(index)).expect("checked when the block was made");
        let kinds = (0..commits).map(move |index| (index, kind(index)));
        kinds.filter(|(_, kind)| !command::is_eventless(*kind))
    }

    /// Shows the id of every request whose outcome is in this block: commits, then refusals and
    /// repeats. A refusal for a reused id is left out, because the id's outcome is the earlier one;
    /// so is an expiry, which is nobody's request.
    pub fn visit_ids(&self, mut visit: impl FnMut(RequestId)) {
        self.visit_outcomes(|_, id| visit(id));
    }

    /// The commit of that request. Looks at ids only.
    pub fn find_commit(&self, id: RequestId) -> Option<CommitRecord> {
        let index = self.find(id)?;
        (index < self.header.commits).then(|| self.commit(index))
    }

    /// The refusal of that request, or its repeat, unless it is for a reused id. Looks at ids only.
    pub fn find_refusal(&self, id: RequestId) -> Option<RefusalRecord> {
        let index = self.find(id)?.checked_sub(self.header.commits)?;
        Some(self.refusal(index))
    }

    /// The place among all records of the one that is the outcome of `id`.
    fn find(&self, id: RequestId) -> Option<u32> {
        let mut found = None;
        self.visit_outcomes(|index, other| {
            if other == id && found.is_none() {
                found = Some(index);
            }
        });
        found
    }

    fn visit_outcomes(&self, mut visit: impl FnMut(u32, RequestId)) {
        for index in 0..self.records.offsets.len() as u32 {
            let mut record = self.record(index);
            let left_out = if index < self.header.commits {
                self.records.eventful && record::kind(record.clone()).is_ok_and(command::is_nobodys)
            } else {
                refusal::is_reuse(record.clone())
            };
            if !left_out {
                let id = record.raw().expect("checked when the block was made");
                visit(index, RequestId::new(u128::from_be_bytes(id)));
            }
        }
    }

    /// A reader at the `index`-th of all records, or at the end.
    fn record(&self, index: u32) -> Reader<'_> {
        let at =
            self.records.offsets.get(index as usize).map_or(self.bytes.len(), |at| *at as usize);
        Reader::new(&self.bytes, at)
    }
}

impl Proof for Block {
    fn receipt(&self, seq: CommitSeq) -> Option<Receipt> {
        Some(self.commit_at(seq)?.receipt(self.header.time))
    }
}
