//! What the actors say to one another.
//!
//! The messages stand in a file of their own because no actor owns the conversation: the
//! coordinator sequences [`Batch`]es and sends each to every shard; shards answer with
//! [`Votes`]; the coordinator's [`Decision`] goes to the shards and to the commit log together;
//! the shards send the rows it changed to the log as [`Applied`].
//!
//! ```text
//! coordinator ──Batch──► shards ──Votes──► coordinator ──Decision──► shards ──Applied──► log
//!      └────────────────────── Sequenced, Decision ─────────────────────────────────────►┘
//! ```
//!
//! Messages carry batches, as the hop between two threads costs as much as a hundred swaps.
//! A batch is shared, not copied: every actor reads the same [`Txn`]s.

mod market;
mod ops;
mod txn;

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::access::{Caller, KeyNumber};
use crate::error::Reject;
use crate::request::{Receipt, Refusal};
use crate::types::{Amount, AssetId, Balance, CommitSeq, RequestId, Subject, Time, Token};

pub use market::{Answer as MarketAnswer, Answers as MarketAnswers, Asked, Look, Question, Show};
pub use ops::{Op, Ops, Side};
pub use txn::{Reserve, Txn};

/// A transaction's place in the coordinator's order of requests. Earlier compares as less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnRef {
    /// Number of the batch, from 0 at each start.
    pub batch: u64,
    /// Index in it.
    pub index: u32,
}

/// Requests sequenced together: the order in `txns` is the order in which they are asked.
#[derive(Debug)]
pub struct Batch {
    /// Dense number, from 0 at each start.
    pub number: u64,
    /// The transactions.
    pub txns: Vec<Txn>,
    /// Where each transaction's answer belongs, in the same order.
    pub slots: Vec<AnswerSlot>,
    /// Boot-clock nanoseconds at which the batch was sequenced.
    pub sequenced_nanos: u64,
}

/// Where an answer belongs: which submission, and which of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerSlot {
    /// Number of the submission, dense from 0 at each start.
    pub submission: u64,
    /// Index in the submission.
    pub position: u32,
    /// Whether the transaction was in an earlier batch, and was given back there.
    pub again: bool,
}

impl AnswerSlot {
    /// Where nobody waits: the engine itself asked.
    pub const NOBODY: Self = Self { submission: u64::MAX, position: 0, again: false };
}

/// A shard's answer to one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vote {
    /// Granted: it can be honoured whatever the undecided others turn out to be.
    Yes,
    /// Impossible whatever they turn out to be, as of the seq given.
    No(Reject, CommitSeq),
    /// It depends on earlier ones; a late vote, which is not a wait, follows.
    Wait,
    /// A transaction met something undecided, which it does not wait for.
    Busy(Box<Subject>),
    /// A balance is locked by that exclusive hold.
    Locked(Token),
}

/// A shard's votes: the first ones on a batch, late ones, or both.
#[derive(Debug, Default)]
pub struct Votes {
    /// Which shard.
    pub shard: usize,
    /// The batch that is voted on, if any: every transaction in it that this shard has part in
    /// gets a yes but for those in `exceptions`.
    pub batch: Option<u64>,
    /// Index in the batch and vote, where it is not a plain yes.
    pub exceptions: Vec<(u32, Vote)>,
    /// Anything but another wait, on transactions that were told to wait.
    pub late: Vec<(TxnRef, Vote)>,
}

/// What the coordinator decided, in one order. Shards and commit log see all of them, in the same order.
#[derive(Debug)]
pub struct Decision {
    /// Dense number, from 0 at each start.
    pub number: u64,
    /// The commit_seq of `commits[0]`; the others follow densely. If there are none, the next one to be given.
    pub first_seq: CommitSeq,
    /// Logical time of the decision.
    pub time: Time,
    /// Transactions that happen, in commit_seq order.
    pub commits: Vec<TxnRef>,
    /// Transactions that do not.
    pub refusals: Vec<RefusedTxn>,
    /// Requests whose id was seen before: their outcome is (or is about to be) in the journal.
    pub duplicates: Vec<TxnRef>,
    /// Requests for what an earlier request did already.
    pub repeats: Vec<RepeatedTxn>,
    /// Transactions that are given back: their grants are, and they come again in a later batch.
    pub deferred: Vec<TxnRef>,
    /// Boot-clock nanoseconds at which the last vote it needed had arrived.
    pub voted_nanos: u64,
    /// Boot-clock nanoseconds at which it was sent.
    pub decided_nanos: u64,
}

impl Decision {
    /// The seq up to which everything is decided once this is.
    pub fn last_seq(&self) -> CommitSeq {
        CommitSeq::new(self.first_seq.get() + self.commits.len() as u64 - 1)
    }
}

/// A transaction that was refused, why, and which state said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedTxn {
    /// Which one.
    pub txn: TxnRef,
    /// Why.
    pub reject: Reject,
    /// The state that was seen.
    pub seq: CommitSeq,
}

/// A transaction that asks for what was done already: it is answered as what did it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatedTxn {
    /// Which one.
    pub txn: TxnRef,
    /// The commit_seq of what did it.
    pub first: CommitSeq,
    /// The state that was seen.
    pub seq: CommitSeq,
}

/// A balance before and after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Before.
    pub before: Balance,
    /// After.
    pub after: Balance,
}

/// The rows that a decision changed on one shard: of its commits in their order, of each commit's
/// rows in their order, those that this shard owns.
#[derive(Debug)]
pub struct Applied {
    /// Number of the decision.
    pub decision: u64,
    /// Which shard.
    pub shard: usize,
    /// Before and after of each.
    pub rows: Vec<Row>,
    /// The owner's dense number of each row's balance; unique per shard, stable until the stop.
    pub slots: Vec<u32>,
}

/// The answer to one request, before its receipt is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It happened.
    Settled(CommitSeq),
    /// It did not.
    Rejected(Box<Refusal>),
    /// It asked for what had been done already: the receipt of that seq, which is durable, is the answer.
    Done(CommitSeq),
    /// The id was seen before: the journal has the outcome, in a block that is durable.
    Duplicate(Box<Repeated>),
}

/// A request whose id was seen before: the first outcome is the answer if the digests agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// The id.
    pub id: RequestId,
    /// See [`Txn::digest`].
    pub digest: u64,
    /// To whom the outcome may be shown.
    pub shown: Shown,
}

/// To whom the outcome of an earlier request may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// To whoever asked.
    Anyway,
    /// To nobody: the key may not ask for it.
    No,
    /// To that key if it is about its accounts, which only the outcome says.
    IfOf(KeyNumber),
}

impl Repeated {
    /// Of a request whose id was seen before.
    pub fn of(txn: &Txn) -> Self {
        let shown = match txn.caller {
            _ if txn.barred => Shown::No,
            Caller::Key(key) if txn.command.is_by_reference() => Shown::IfOf(key),
            _ => Shown::Anyway,
        };
        Self { id: txn.id, digest: txn.digest, shown }
    }
}

/// Where receipts are read from: a journal block that is still in memory.
pub trait Proof: Send + Sync {
    /// The receipt of that seq; `None` if the block does not hold it.
    fn receipt(&self, seq: CommitSeq) -> Option<Receipt>;
}

/// The answers to one submission: one per transaction, in its order, with what proves them.
pub struct Answered {
    /// The answers.
    pub answers: Vec<Answer>,
    /// The blocks that hold the receipts of what settled.
    pub proofs: SmallVec<[Arc<dyn Proof>; 1]>,
}

/// Requests that one caller submitted together, on their way to the coordinator.
pub struct Submission {
    /// The requests, ready; at most [`crate::config::BATCH_REQUESTS_MAX`].
    pub txns: Vec<Txn>,
    /// Where the answers go. Dropped unanswered, it tells the caller that the engine stopped.
    pub reply: oneshot::Sender<Answered>,
    /// Boot-clock nanoseconds at which the submission was accepted.
    pub accepted_nanos: u64,
}

/// A submission as the commit log knows it: it answers once every transaction has its answer.
pub struct NewSubmission {
    /// Dense number, from 0 at each start.
    pub number: u64,
    /// How many transactions it has.
    pub txns: u32,
    /// See [`Submission::reply`].
    pub reply: oneshot::Sender<Answered>,
    /// See [`Submission::accepted_nanos`].
    pub accepted_nanos: u64,
}

/// Everything the commit log can be told. One mailbox, so each sender's order is kept.
pub enum ToLog {
    /// A batch was sequenced, with the submissions that begin in it. Comes before any decision on it.
    Sequenced(SharedBatch, Vec<NewSubmission>),
    /// A decision was made; it becomes durable once every shard's [`Applied`] for it is here.
    Decided(SharedDecision),
    /// One shard's rows of a decision.
    Applied(Applied),
    /// Something that may only be shown once `D` covers a seq.
    Gate(Gate),
}

/// Something that may only be shown once `D` covers a seq. Dropped unopened when the engine stops.
pub struct Gate {
    /// The state that was seen.
    pub seq: CommitSeq,
    /// Shows it. Must not block: it runs on the commit log's thread.
    pub open: Box<dyn FnOnce() + Send>,
}

/// A balance as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceNow {
    /// Of which asset.
    pub asset: AssetId,
    /// How much.
    pub balance: Balance,
    /// The commit_seq that last changed it.
    pub version: CommitSeq,
}

/// All balances of one account, from one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountBalances {
    /// The snapshot: everything up to this had happened, and nothing after.
    pub seq: CommitSeq,
    /// By asset, ascending; only balances that were ever touched.
    pub balances: Vec<BalanceNow>,
}

/// Balances that were asked for by name, from one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManyBalances {
    /// The snapshot: everything up to this had happened, and nothing after.
    pub seq: CommitSeq,
    /// In the order asked for: how much, and the commit_seq that last changed it (0 for never).
    pub balances: Vec<(Balance, CommitSeq)>,
}

/// One shard's part of an audit: per asset (by number) the sum of all its balances, at one seq.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sum of available + held per asset number.
    pub sums: Vec<Amount>,
    /// Balances added up.
    pub balances: u64,
}

/// A shared batch.
pub type SharedBatch = Arc<Batch>;
/// A shared decision.
pub type SharedDecision = Arc<Decision>;
