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

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::error::{Malformed, Reject};
use crate::request::{Command, Receipt, Refusal, Request};
use crate::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, CommitSeq, Leg, RequestId, Time,
};

/// Which way an operation moves a balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Takes from the account; needs funds.
    Debit,
    /// Gives to the account; needs none.
    Credit,
}

/// One request's net effect on one balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// Whose balance, of what.
    pub key: BalanceKey,
    /// Which way.
    pub side: Side,
    /// How much. Zero (always a credit) where a request's legs cancel out on this balance:
    /// the row is still part of the receipt.
    pub amount: Amount,
}

/// A request made ready on its caller's thread: checked, netted, digested.
#[derive(Clone, Debug)]
pub struct Txn {
    /// The caller's id.
    pub id: RequestId,
    /// Hash of everything but the id: the same id with another digest is refused.
    pub digest: u64,
    /// See [`Request::deadline`].
    pub deadline: Time,
    /// What to do.
    pub command: Command,
    /// Which shards own a balance that it touches: bit *n* for shard *n*.
    pub shards: u64,
    /// The netted operations, where legs share a balance; `None` where the legs are the operations.
    netted: Option<Box<[Op]>>,
}

impl Txn {
    /// Checks and nets a request for an engine of `shards` shards.
    ///
    /// # Errors
    /// The field at fault: what [`Command::validate`] finds, legs that cancel out, or legs whose
    /// sum on one balance exceeds 128 bits.
    pub fn new(request: Request, digest: u64, shards: usize) -> Result<Self, Malformed> {
        let Request { id, deadline, command } = request;
        command.validate()?;
        let netted = match &command {
            Command::Swap(swap) if share_a_balance(swap.legs()) => Some(net(swap.legs())?),
            _ => None,
        };
        let mut txn = Self { id, digest, deadline, command, shards: 0, netted };
        txn.shards = txn.ops().fold(0, |mask, op| mask | 1 << op.key.account.shard(shards));
        Ok(txn)
    }

    /// The operations, in the order in which their rows stand everywhere: of the legs' first
    /// mention, payer before payee. No two share a balance.
    pub fn ops(&self) -> Ops<'_> {
        if let Some(netted) = &self.netted {
            return Ops::Netted(netted.iter());
        }
        match &self.command {
            Command::Swap(swap) => Ops::Legs { legs: swap.legs().iter(), payee: None },
            Command::Deposit(to) => Ops::One(Some(Op {
                key: BalanceKey { account: to.account, asset: to.asset },
                side: Side::Credit,
                amount: to.amount,
            })),
            Command::Withdraw(from) => Ops::One(Some(Op {
                key: BalanceKey { account: from.account, asset: from.asset },
                side: Side::Debit,
                amount: from.amount,
            })),
            Command::PutAsset(_) | Command::PutAccount { .. } | Command::RemoveLink { .. } => {
                Ops::One(None)
            }
        }
    }
}

/// Iterator over a transaction's operations.
#[derive(Clone, Debug)]
pub enum Ops<'a> {
    /// Straight from the legs: payer, payee, payer, payee.
    Legs {
        /// The legs not begun.
        legs: std::slice::Iter<'a, Leg>,
        /// The second half of the leg begun.
        payee: Option<Op>,
    },
    /// From what was netted.
    Netted(std::slice::Iter<'a, Op>),
    /// A deposit's or withdrawal's only one, or none.
    One(Option<Op>),
}

impl Iterator for Ops<'_> {
    type Item = Op;

    #[inline]
    fn next(&mut self) -> Option<Op> {
        match self {
            Self::Legs { legs, payee } => payee.take().or_else(|| {
                let leg = legs.next()?;
                let [payer, payed] = both_sides(leg);
                *payee = Some(payed);
                Some(payer)
            }),
            Self::Netted(ops) => ops.next().copied(),
            Self::One(op) => op.take(),
        }
    }
}

#[inline]
fn both_sides(leg: &Leg) -> [Op; 2] {
    let op = |account: AccountId, side| Op {
        key: BalanceKey { account, asset: leg.asset },
        side,
        amount: leg.amount,
    };
    [op(leg.from, Side::Debit), op(leg.to, Side::Credit)]
}

/// Whether any balance is touched by more than one leg.
fn share_a_balance(legs: &[Leg]) -> bool {
    legs.iter().enumerate().any(|(index, leg)| {
        legs[..index].iter().any(|earlier| {
            earlier.asset == leg.asset
                && (earlier.from == leg.from
                    || earlier.from == leg.to
                    || earlier.to == leg.from
                    || earlier.to == leg.to)
        })
    })
}

/// Nets legs per balance, in the order of first mention.
fn net(legs: &[Leg]) -> Result<Box<[Op]>, Malformed> {
    let mut sums: Vec<(BalanceKey, Amount, Amount)> = Vec::with_capacity(legs.len() * 2);
    for (index, op) in legs.iter().flat_map(both_sides).enumerate() {
        let place = sums.iter().position(|(key, ..)| *key == op.key).unwrap_or_else(|| {
            sums.push((op.key, Amount::ZERO, Amount::ZERO));
            sums.len() - 1
        });
        let (_, debits, credits) = &mut sums[place];
        let sum = if op.side == Side::Debit { debits } else { credits };
        *sum = sum.checked_add(op.amount).ok_or_else(|| {
            let field = format!("legs[{}].amount", index / 2);
            Malformed::new(field, "brings the sum on one balance above 128 bits")
        })?;
    }
    let ops: Box<[Op]> = sums.into_iter().map(|(key, out, into)| net_op(key, out, into)).collect();
    if ops.iter().all(|op| op.amount == Amount::ZERO) {
        return Err(Malformed::new("legs", "cancel each other out; nothing would move"));
    }
    Ok(ops)
}

fn net_op(key: BalanceKey, debits: Amount, credits: Amount) -> Op {
    match debits.checked_sub(credits) {
        Some(rest) if rest > Amount::ZERO => Op { key, side: Side::Debit, amount: rest },
        _ => {
            let rest = credits.checked_sub(debits).expect("debits are no more than credits");
            Op { key, side: Side::Credit, amount: rest }
        }
    }
}

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
}

/// A shard's answer to one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vote {
    /// Granted: it can be honoured whatever the undecided others turn out to be.
    Yes,
    /// Impossible whatever they turn out to be, as of the seq given.
    No(Reject, CommitSeq),
    /// It depends on earlier ones; a late yes or no follows.
    Wait,
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
    /// Yes or no on transactions that were told to wait.
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

/// A balance before and after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Before.
    pub before: Balance,
    /// After.
    pub after: Balance,
}

/// The rows that a decision changed on one shard: of its commits in their order, of each commit's
/// operations in their order, those that this shard owns.
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
