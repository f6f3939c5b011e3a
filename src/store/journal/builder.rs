//! Encodes commit groups, one after another, into the same buffers.

use super::bytes::Writer;
use super::record::write_commit;
use super::refusal::{write_refusal, write_repeat};
use super::{Block, BlockHash, BlockHeader, FORMAT_VERSION, HEADER_LEN, Records};
use crate::error::Reject;
use crate::message::Txn;
use crate::request::Command;
use crate::types::{Balance, BlockNumber, CommitSeq, Time};

/// Encodes one block after another into the same buffers: [`BlockBuilder::begin`], then commits
/// in commit_seq order and refusals as they come, then [`BlockBuilder::finish`].
#[derive(Debug, Default)]
pub struct BlockBuilder {
    number: BlockNumber,
    first_seq: CommitSeq,
    previous: BlockHash,
    /// Room for the header, then the commits.
    commits: Writer,
    commit_offsets: Vec<u32>,
    /// The refusals, apart because they stand behind all commits.
    refusals: Writer,
    refusal_offsets: Vec<u32>,
    rows: u32,
    eventful: bool,
}

impl BlockBuilder {
    /// A builder that has begun nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a block; what was begun before is forgotten.
    ///
    /// `first_seq` is the seq of the first commit or, if there will be none, the next one to be
    /// given; `previous` is the hash of block `number - 1`.
    pub fn begin(&mut self, number: BlockNumber, first_seq: CommitSeq, previous: BlockHash) {
        (self.number, self.first_seq, self.previous) = (number, first_seq, previous);
        self.commits.rewind(0);
        self.commits.slice(&[0; HEADER_LEN]);
        self.refusals.rewind(0);
        self.commit_offsets.clear();
        self.refusal_offsets.clear();
        self.rows = 0;
        self.eventful = false;
    }

    /// Adds the next commit, with the balance after it of each of `txn.row_ops()`, in that order.
    ///
    /// # Panics
    /// If there are more or fewer balances than operations, or a hold is ended that nobody attached.
    #[inline]
    pub fn commit(&mut self, txn: &Txn, after: impl IntoIterator<Item = Balance>) {
        self.commit_offsets.push(offset(self.commits.len()));
        self.eventful |= !matches!(txn.command, Command::Swap(_)) && !txn.command.is_directory();
        self.rows += write_commit(txn, after, &mut self.commits);
    }

    /// Adds a refusal: why, and the seq of the state that said so.
    ///
    /// # Panics
    /// For [`Reject::Malformed`], which is never journaled.
    pub fn refusal(&mut self, txn: &Txn, (reject, seq): (&Reject, CommitSeq)) {
        self.refusal_offsets.push(offset(self.refusals.len()));
        write_refusal(txn, reject, seq, &mut self.refusals);
    }

    /// Adds a request for what the commit `first` did already, and the seq of the state that was seen.
    /// It stands among the refusals.
    pub fn repeat(&mut self, txn: &Txn, first: CommitSeq, seq: CommitSeq) {
        self.refusal_offsets.push(offset(self.refusals.len()));
        write_repeat(txn, first, seq, &mut self.refusals);
    }

    /// Ends the block. `slots` has the global slot number of each row in the order of the rows, or is
    /// empty.
    pub fn finish(&mut self, time: Time, slots: Vec<u32>) -> Block {
        assert!(slots.is_empty() || slots.len() == self.rows as usize, "one slot for each row");
        let header = BlockHeader {
            version: FORMAT_VERSION,
            number: self.number,
            first_seq: self.first_seq,
            commits: self.commits(),
            refusals: self.refusals(),
            time,
            previous: self.previous,
        };
        let shift = offset(self.commits.len());
        let mut offsets =
            Vec::with_capacity(self.commit_offsets.len() + self.refusal_offsets.len());
        offsets.extend_from_slice(&self.commit_offsets);
        offsets.extend(self.refusal_offsets.iter().map(|at| offset((at + shift) as usize)));
        self.commits.slice(self.refusals.written());
        header.write(&mut self.commits);
        // An exact copy: blocks wait in memory for their fold, and the buffer stays warm for the next.
        let bytes = self.commits.written().to_vec();
        self.commits.rewind(shift as usize);
        Block::assemble(header, bytes, Records { offsets, eventful: self.eventful }, slots)
    }

    /// Commits so far.
    pub fn commits(&self) -> u32 {
        self.commit_offsets.len() as u32
    }

    /// Refusals so far.
    pub fn refusals(&self) -> u32 {
        self.refusal_offsets.len() as u32
    }

    /// Rows of the commits so far.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes so far, header included.
    pub fn len_bytes(&self) -> usize {
        self.commits.len() + self.refusals.len()
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("a block is far below 4 GiB")
}
