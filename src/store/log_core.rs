//! What the commit log decides: which block comes next, and who is answered when it is durable.
//!
//! Pure: no thread, channel, clock, disk or metric is reachable from here. The actor around it
//! ([`super::commit_log`]) hands in messages, writes the blocks and carries out the effects; a
//! simulation can do the same with another disk.
//!
//! ```text
//! take(Sequenced, Decided, Applied, Gate) ...
//! next_group()  -> one block of all decisions that are complete; written and synced by the actor
//! durable(group) -> the answers and gates that it opens
//! ```
//!
//! Invariants
//! * Decisions are journaled in their order, without gaps, each with the rows of every shard.
//! * No commit that creates or destroys value reaches a block (I5).
//! * What a decision gives back is forgotten, and comes again in a later batch; what nobody asked
//!   for (an expiry) is journaled and answered to nobody.
//! * Nothing is answered before the block that it depends on is durable (I3).
//! * Work per swap is a few array lookups: batches, submissions and decisions have dense numbers.

mod window;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use self::window::Window;
use super::journal::{Block, BlockBuilder, BlockHash, check_conservation, supply_change};

use super::{Group, Position, StoreError};
use crate::config::SUPPLY_MAX;
use crate::error::Reject;
use crate::faults::{Bug, planted};
use crate::message::{
    Answer, AnswerSlot, Answered, Applied, Decision, Gate, NewSubmission, Repeated, Row,
    SharedBatch, SharedDecision, Side, ToLog, Txn, TxnRef,
};
use crate::request::{Action, Command, Refusal, Transfer};
use crate::types::{Amount, AssetId, CommitSeq, Resolution, Time};

/// Kinds of commands, as [`Command::kind`] names them.
pub const KINDS: [&str; Command::KINDS.len()] = Command::KINDS;

const fn kind_index(command: &Command) -> usize {
    match command {
        Command::Swap(_) => 0,
        Command::Deposit(_) => 1,
        Command::Withdraw(_) => 2,
        Command::PutAsset(_) => 3,
        Command::PutAccount { .. } => 4,
        Command::RemoveLink { .. } => 5,
        Command::Prepare(_) => 6,
        Command::Resolve(resolve) => match resolve.action {
            Action::Commit => 7,
            Action::Rollback => 8,
            Action::Confirm => 9,
            Action::Cancel => 10,
            Action::Expire => 11,
        },
        Command::Transact(_) => 12,
        Command::Order(_) => 13,
        Command::Amend(_) => 14,
        Command::Cancel(_) => 15,
        Command::ExpireOrder(_) => 16,
        Command::CancelAll { .. } => 17,
        Command::PutMarket(_) => 18,
        Command::SwitchMarket { .. } => 19,
        Command::PutKey(_) => 20,
        Command::RevokeKey(_) => 21,
        Command::Operate(_) => 22,
    }
}

/// What each of [`KINDS`] makes of a hold.
const RESOLVES: [Option<Resolution>; KINDS.len()] = {
    let mut resolves = [None; KINDS.len()];
    resolves[7] = Some(Action::Commit.resolution());
    resolves[8] = Some(Action::Rollback.resolution());
    resolves[9] = Some(Action::Confirm.resolution());
    resolves[10] = Some(Action::Cancel.resolution());
    resolves[11] = Some(Action::Expire.resolution());
    resolves
};

/// What the log goes on from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStart {
    /// The end of the journal.
    pub last: Position,
    /// Hash of its last block.
    pub hash: BlockHash,
    /// Deposits less withdrawals, by asset number.
    pub supplies: Vec<Amount>,
}

/// The commit log's state.
pub struct LogCore {
    shards: usize,
    group_requests_max: usize,
    batches: Window<OpenBatch>,
    submissions: Window<OpenSubmission>,
    /// Decisions that are not yet in a block, whole or in part.
    decisions: VecDeque<OpenDecision>,
    /// The number of `decisions[0]`.
    decisions_base: u64,
    gates: BinaryHeap<WaitingGate>,
    gates_taken: u64,
    /// The end of the last block that was built.
    built: Position,
    hash: BlockHash,
    /// The end of the last block that is durable.
    durable: Position,
    supplies: Vec<Amount>,
    supplies_changed: BTreeSet<AssetId>,
    builder: BlockBuilder,
    /// Rows of one commit, gathered from the shards.
    rows: Vec<Row>,
}

struct OpenBatch {
    batch: SharedBatch,
    /// Transactions in it that are neither answered nor given back.
    left: usize,
}

struct OpenSubmission {
    submission: NewSubmission,
    answered: Answered,
    left: usize,
    /// The block that was added to the proofs last.
    proof_last: u64,
    kinds: [u32; KINDS.len()],
}

/// A decision and the rows that came for it, in whichever order they came.
#[derive(Default)]
struct OpenDecision {
    decision: Option<SharedDecision>,
    /// By shard.
    applied: Vec<Option<Applied>>,
    /// Shards whose rows are there.
    shards: usize,
    /// When the last of it came.
    complete_nanos: u64,
}

/// Decisions that are on their way to the disk together.
pub struct PendingGroup {
    /// What is to be written; `None` when the decisions hold nothing that is new.
    pub write: Option<Group>,
    /// When the first of it was complete.
    pub complete_nanos: u64,
    /// How many requests it answers.
    pub requests: usize,
    /// Nanoseconds from decided to complete, and number of requests, per decision.
    pub apply: SmallVec<[(u64, u64); 4]>,
    decisions: Vec<SharedDecision>,
}

/// What is to be done once a group is durable.
#[derive(Default)]
pub struct Effects {
    /// Submissions that have all their answers.
    pub replies: Vec<Reply>,
    /// What may be shown now.
    pub gates: Vec<Gate>,
    /// What there is to count.
    pub tally: Tally,
}

/// A submission with all its answers.
pub struct Reply {
    /// Who asked.
    pub submission: NewSubmission,
    /// The answers.
    pub answered: Answered,
    /// How many requests of each of [`KINDS`].
    pub kinds: [u32; KINDS.len()],
}

/// What was answered, counted per group, expiries included, which nobody hears of. Duplicates are in
/// no count: they have their answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// By kind; repeats of what was done before are among them.
    pub settled: [u64; KINDS.len()],
    /// By kind.
    pub rejected: [u64; KINDS.len()],
    /// By [`Reject::precedence`].
    pub reasons: [u64; Reject::CODES.len()],
    /// Holds that were ended, in the order of [`Resolution::ALL`].
    pub resolved: [u64; Resolution::ALL.len()],
}

impl LogCore {
    /// Goes on from `start`, for that many shards, with at most `group_requests_max` requests in a
    /// block (one decision may exceed it).
    pub fn new(start: LogStart, shards: usize, group_requests_max: usize) -> Self {
        Self {
            shards,
            group_requests_max,
            batches: Window::new(),
            submissions: Window::new(),
            decisions: VecDeque::new(),
            decisions_base: 0,
            gates: BinaryHeap::new(),
            gates_taken: 0,
            built: start.last,
            hash: start.hash,
            durable: start.last,
            supplies: start.supplies,
            supplies_changed: BTreeSet::new(),
            builder: BlockBuilder::new(),
            rows: Vec::new(),
        }
    }

    /// The end of what is durable.
    pub fn durable_position(&self) -> Position {
        self.durable
    }

    /// How many decisions are in a block that was built.
    pub fn decisions_built(&self) -> u64 {
        self.decisions_base
    }

    /// Whether nothing is left to write or to answer.
    pub fn is_idle(&self) -> bool {
        self.decisions.is_empty() && self.submissions.is_empty()
    }

    /// Takes a message in; effects that need not wait are added to `effects`.
    pub fn take(&mut self, message: ToLog, now_nanos: u64, effects: &mut Effects) {
        match message {
            ToLog::Sequenced(batch, submissions) => self.take_batch(batch, submissions, effects),
            ToLog::Decided(decision) => {
                let open = self.open_decision(decision.number);
                assert!(open.decision.is_none(), "decision {} came twice", decision.number);
                open.decision = Some(decision);
                open.complete_nanos = now_nanos;
            }
            ToLog::Applied(applied) => {
                let open = self.open_decision(applied.decision);
                let shard = applied.shard;
                assert!(open.applied[shard].is_none(), "rows of shard {shard} came twice");
                open.applied[shard] = Some(applied);
                open.shards += 1;
                open.complete_nanos = now_nanos;
            }
            ToLog::Gate(gate) if gate.seq <= self.durable.seq || planted(Bug::ShowBeforeSync) => {
                effects.gates.push(gate);
            }
            ToLog::Gate(gate) => {
                self.gates.push(WaitingGate { order: Reverse((gate.seq, self.gates_taken)), gate });
                self.gates_taken += 1;
            }
        }
    }

    fn take_batch(
        &mut self,
        batch: SharedBatch,
        submissions: Vec<NewSubmission>,
        effects: &mut Effects,
    ) {
        for submission in submissions {
            let txns = submission.txns as usize;
            let open = OpenSubmission {
                // Every place is overwritten before the answers leave.
                answered: Answered {
                    answers: vec![Answer::Settled(CommitSeq::default()); txns],
                    proofs: SmallVec::new(),
                },
                left: txns,
                proof_last: 0,
                kinds: [0; KINDS.len()],
                submission,
            };
            let number = open.submission.number;
            self.submissions.push(number, open);
            if txns == 0 {
                effects.reply(self.submissions.take(number));
            }
        }
        let (number, left) = (batch.number, batch.txns.len());
        let asked = batch.txns.iter().zip(&batch.slots);
        for (txn, slot) in asked.filter(|(_, slot)| !slot.again && !is_nobody(**slot)) {
            self.submissions.get_mut(slot.submission).kinds[kind_index(&txn.command)] += 1;
        }
        self.batches.push(number, OpenBatch { batch, left });
        if left == 0 {
            self.batches.take(number);
        }
    }

    fn open_decision(&mut self, number: u64) -> &mut OpenDecision {
        let index = number.checked_sub(self.decisions_base).expect("a decision is journaled once");
        let index = usize::try_from(index).expect("fits memory");
        while self.decisions.len() <= index {
            let applied = std::iter::repeat_with(|| None).take(self.shards).collect();
            self.decisions.push_back(OpenDecision { applied, ..OpenDecision::default() });
        }
        &mut self.decisions[index]
    }

    /// Builds one block out of all complete decisions, in their order, up to the limit. `None` when
    /// the next decision is not complete.
    ///
    /// # Errors
    /// [`StoreError::Violation`] when a commit would create or destroy value; the core is of no
    /// use afterwards.
    pub fn next_group(&mut self) -> Result<Option<PendingGroup>, StoreError> {
        if !self.decisions.front().is_some_and(|open| open.is_complete(self.shards)) {
            return Ok(None);
        }
        let first_seq = self.built.seq.next();
        self.builder.begin(self.built.block.next(), first_seq, self.hash);
        let mut group = PendingGroup {
            write: None,
            complete_nanos: u64::MAX,
            requests: 0,
            apply: SmallVec::new(),
            decisions: Vec::new(),
        };
        let mut directory = Vec::new();
        let mut slots = Vec::new();
        let mut time = Time::default();
        while let Some(open) = self.pop_complete(group.requests) {
            let decision = open.decision.as_ref().expect("a complete decision is here");
            assert_eq!(decision.first_seq, self.built.seq.next(), "commit_seq is dense");
            self.encode(&open, &mut slots, &mut directory)?;
            self.built.seq = decision.last_seq();
            time = time.max(decision.time);
            group.add(&open);
        }
        if self.builder.commits() > 0 || self.builder.refusals() > 0 {
            let block = Arc::new(self.builder.finish(time, slots));
            self.built = Position::after(&block);
            self.hash = block.hash();
            group.write = Some(Group { block, directory, supplies: self.changed_supplies() });
        }
        Ok(Some(group))
    }

    /// The next decision if it is complete and fits beside `requests` others.
    fn pop_complete(&mut self, requests: usize) -> Option<OpenDecision> {
        let open = self.decisions.front()?;
        let fits = requests == 0 || requests + open.requests() <= self.group_requests_max;
        if !fits || !open.is_complete(self.shards) {
            return None;
        }
        self.decisions_base += 1;
        self.decisions.pop_front()
    }

    /// Adds a decision to the block.
    fn encode(
        &mut self,
        open: &OpenDecision,
        slots: &mut Vec<u32>,
        directory: &mut Vec<Command>,
    ) -> Result<(), StoreError> {
        let decision = open.decision.as_ref().expect("a complete decision is here");
        let mut sources: SmallVec<[Source<'_>; 4]> =
            open.applied.iter().flatten().map(Source::new).collect();
        slots.reserve(sources.iter().map(|source| source.rows.len()).sum());
        for (place, txn_ref) in decision.commits.iter().enumerate() {
            let txn = txn_of(&self.batches, *txn_ref);
            self.rows.clear();
            for op in txn.row_ops() {
                let shard = op.key.account.shard(self.shards);
                let (row, slot) = sources[shard].next();
                self.rows.push(row);
                slots.push(slot * self.shards as u32 + shard as u32);
            }
            check_conservation(txn, &self.rows).map_err(|violation| {
                let seq = decision.first_seq.plus(place as u64);
                StoreError::Violation(format!("request {} at seq {seq}: {violation}", txn.id))
            })?;
            match &txn.command {
                Command::Swap(_) => {}
                command if command.is_directory() => directory.push(command.clone()),
                _ => {
                    if let Some(change) = supply_change(txn) {
                        move_supply(&mut self.supplies, &mut self.supplies_changed, txn, change)?;
                    }
                }
            }
            self.builder.commit(txn, self.rows.iter().map(|row| row.after));
        }
        for (shard, source) in sources.iter().enumerate() {
            assert!(source.is_at_end(), "shard {shard} sent rows that no commit has");
        }
        for refused in &decision.refusals {
            let txn = txn_of(&self.batches, refused.txn);
            self.builder.refusal(txn, (&refused.reject, refused.seq));
        }
        for repeated in &decision.repeats {
            let txn = txn_of(&self.batches, repeated.txn);
            self.builder.repeat(txn, repeated.first, repeated.seq);
        }
        Ok(())
    }

    fn changed_supplies(&mut self) -> Vec<(AssetId, Amount)> {
        let changed = std::mem::take(&mut self.supplies_changed);
        changed.into_iter().map(|asset| (asset, self.supplies[asset.get() as usize])).collect()
    }

    /// Says what becomes of a group that is durable now.
    pub fn durable(&mut self, group: PendingGroup, effects: &mut Effects) {
        let block = group.write.map(|write| write.block);
        if let Some(block) = &block {
            self.durable = Position::after(block);
        }
        for decision in &group.decisions {
            for (place, txn) in decision.commits.iter().enumerate() {
                let seq = decision.first_seq.plus(place as u64);
                let kind = self.answer(*txn, Answer::Settled(seq), block.as_ref(), effects);
                effects.tally.settled[kind] += 1;
                if let Some(how) = RESOLVES[kind] {
                    effects.tally.resolved[how as usize] += 1;
                }
            }
            self.answer_others(decision, block.as_ref(), effects);
        }
        while let Some(waiting) = self.gates.peek()
            && waiting.order.0.0 <= self.durable.seq
        {
            effects.gates.extend(self.gates.pop().map(|waiting| waiting.gate));
        }
    }

    /// Answers what did not commit in a decision, and forgets what was given back.
    fn answer_others(
        &mut self,
        decision: &Decision,
        block: Option<&Arc<Block>>,
        effects: &mut Effects,
    ) {
        for refused in &decision.refusals {
            let refusal = Refusal {
                request_id: txn_of(&self.batches, refused.txn).id,
                seq: refused.seq,
                time: block.expect("refusals are journaled").header().time,
                caller: txn_of(&self.batches, refused.txn).caller,
                reject: refused.reject.clone(),
            };
            effects.tally.reasons[usize::from(refused.reject.precedence())] += 1;
            let answer = Answer::Rejected(Box::new(refusal));
            let kind = self.answer(refused.txn, answer, None, effects);
            effects.tally.rejected[kind] += 1;
        }
        for repeated in &decision.repeats {
            let kind = self.answer(repeated.txn, Answer::Done(repeated.first), None, effects);
            effects.tally.settled[kind] += 1;
        }
        for txn in &decision.duplicates {
            let repeated = Repeated::of(txn_of(&self.batches, *txn));
            let answer = Answer::Duplicate(Box::new(repeated));
            self.answer(*txn, answer, None, effects);
        }
        for txn in &decision.deferred {
            self.forget(*txn);
        }
    }

    /// A transaction will not be asked for again under that name; returns where its answer belongs
    /// and its kind.
    #[inline]
    fn forget(&mut self, txn: TxnRef) -> (AnswerSlot, usize) {
        let open_batch = self.batches.get_mut(txn.batch);
        let slot = open_batch.batch.slots[txn.index as usize];
        let kind = kind_index(&open_batch.batch.txns[txn.index as usize].command);
        open_batch.left -= 1;
        if open_batch.left == 0 {
            self.batches.take(txn.batch);
        }
        (slot, kind)
    }

    /// Puts an answer where it belongs; returns the request's kind.
    #[inline]
    fn answer(
        &mut self,
        txn: TxnRef,
        answer: Answer,
        proof: Option<&Arc<Block>>,
        effects: &mut Effects,
    ) -> usize {
        let (slot, kind) = self.forget(txn);
        if is_nobody(slot) {
            return kind;
        }
        let open = self.submissions.get_mut(slot.submission);
        open.answered.answers[slot.position as usize] = answer;
        if let Some(block) = proof
            && open.proof_last != block.header().number.get()
        {
            open.proof_last = block.header().number.get();
            open.answered.proofs.push(Arc::clone(block) as _);
        }
        open.left -= 1;
        if open.left == 0 {
            effects.reply(self.submissions.take(slot.submission));
        }
        kind
    }
}

#[inline]
fn txn_of(batches: &Window<OpenBatch>, txn: TxnRef) -> &Txn {
    &batches.get(txn.batch).batch.txns[txn.index as usize]
}

/// Whether nobody waits for the answer.
#[inline]
fn is_nobody(slot: AnswerSlot) -> bool {
    slot.submission == AnswerSlot::NOBODY.submission
}

fn move_supply(
    supplies: &mut Vec<Amount>,
    changed: &mut BTreeSet<AssetId>,
    txn: &Txn,
    (side, transfer): (Side, &Transfer),
) -> Result<(), StoreError> {
    let index = transfer.asset.get() as usize;
    if supplies.len() <= index {
        supplies.resize(index + 1, Amount::ZERO);
    }
    let supply = &mut supplies[index];
    let after = match side {
        Side::Credit => supply.checked_add(transfer.amount),
        _ => supply.checked_sub(transfer.amount),
    };
    *supply = after.filter(|after| after.get() <= SUPPLY_MAX).ok_or_else(|| {
        let (id, asset) = (txn.id, transfer.asset);
        StoreError::Violation(format!(
            "request {id} takes the supply of asset {asset} out of range"
        ))
    })?;
    changed.insert(transfer.asset);
    Ok(())
}

impl OpenDecision {
    fn is_complete(&self, shards: usize) -> bool {
        self.decision.is_some() && self.shards == shards
    }

    fn requests(&self) -> usize {
        self.decision.as_ref().map_or(0, |decision| {
            let answered = decision.commits.len() + decision.refusals.len();
            answered + decision.repeats.len() + decision.duplicates.len()
        })
    }
}

impl PendingGroup {
    fn add(&mut self, open: &OpenDecision) {
        let decision = open.decision.as_ref().expect("a complete decision is here");
        let requests = open.requests();
        let applied = open.complete_nanos.saturating_sub(decision.decided_nanos);
        self.apply.push((applied, requests as u64));
        self.complete_nanos = self.complete_nanos.min(open.complete_nanos);
        self.requests += requests;
        self.decisions.push(Arc::clone(decision));
    }
}

impl Effects {
    fn reply(&mut self, open: OpenSubmission) {
        let OpenSubmission { submission, answered, kinds, .. } = open;
        self.replies.push(Reply { submission, answered, kinds });
    }
}

/// The rows of one shard, taken one after another.
struct Source<'a> {
    rows: &'a [Row],
    slots: &'a [u32],
    next: usize,
}

impl<'a> Source<'a> {
    fn new(applied: &'a Applied) -> Self {
        assert_eq!(applied.rows.len(), applied.slots.len(), "every row has a slot");
        Self { rows: &applied.rows, slots: &applied.slots, next: 0 }
    }

    #[inline]
    fn next(&mut self) -> (Row, u32) {
        let taken = (self.rows[self.next], self.slots[self.next]);
        self.next += 1;
        taken
    }

    fn is_at_end(&self) -> bool {
        self.next == self.rows.len()
    }
}

/// A gate in the heap: the lowest seq is on top, and of equal ones the first that came.
struct WaitingGate {
    order: Reverse<(CommitSeq, u64)>,
    gate: Gate,
}

impl PartialEq for WaitingGate {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for WaitingGate {}

impl PartialOrd for WaitingGate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for WaitingGate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}
