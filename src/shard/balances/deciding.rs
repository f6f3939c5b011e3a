//! What becomes of grants: they are carried out or given back, in commit_seq order, and then those
//! who waited are looked at again.

use std::collections::VecDeque;

use super::{Accounts, Balances, Exceptional, Grants};
use crate::faults::{Bug, planted};
use crate::message::{Applied, Decision, Op, Row, Side, Txn, TxnRef, Vote, Votes};
use crate::request::Command;
use crate::shard::slots::{NO_SLOT, SlotOp, adds};
use crate::types::{CommitSeq, Token};

/// Commits whose balances are brought near together.
const WINDOW: usize = 32;

fn place(first: u64, at: TxnRef) -> usize {
    usize::try_from(at.batch - first).expect("few batches are undecided")
}

/// What a batch left here, one of whose transactions is decided now. `first`: the number of the
/// first batch in `grants`.
fn decided(grants: &mut VecDeque<Grants>, first: u64, at: TxnRef) -> &Grants {
    let grants = &mut grants[place(first, at)];
    grants.undecided = grants.undecided.checked_sub(1).expect("each is decided once");
    grants
}

impl Balances {
    /// Applies a decision: rows of what it changed go to `applied`, late votes to `votes`.
    pub fn decide(
        &mut self,
        decision: &Decision,
        accounts: &impl Accounts,
        applied: &mut Applied,
        votes: &mut Votes,
    ) {
        assert_eq!(decision.first_seq, self.applied.next(), "decisions come in commit_seq order");
        // Taken out while balances change; nobody looks for a batch meanwhile.
        let mut grants = std::mem::take(&mut self.grants);
        let first = self.grants_first;
        // What an order had reserved goes first: what it came to takes from that in this decision.
        for at in decision.deferred.iter().copied() {
            let grants = decided(&mut grants, first, at);
            if self.has_part(grants.txn(at)) {
                self.abort(at, grants);
            }
        }
        let mut seq = decision.first_seq;
        for window in decision.commits.chunks(WINDOW) {
            let places = window.iter().map(|at| (place(first, *at), at.index));
            let ops = places.flat_map(|(place, index)| grants[place].ops(index));
            self.slots.touch(ops.map(|op| op.slot));
            for at in window {
                let grants = decided(&mut grants, first, *at);
                self.commit(*at, grants, seq, accounts, applied);
                seq = seq.next();
            }
        }
        self.applied = decision.last_seq();
        for refused in &decision.refusals {
            let grants = decided(&mut grants, first, refused.txn);
            if self.has_part(grants.txn(refused.txn)) {
                self.abort(refused.txn, grants);
            }
        }
        let repeats = decision.repeats.iter().map(|repeated| repeated.txn);
        for at in decision.duplicates.iter().copied().chain(repeats) {
            let txn = decided(&mut grants, first, at).txn(at);
            assert_eq!(txn.shards, 0, "what was done already is asked of nobody");
        }
        self.grants = grants;
        self.look_again(votes);
        self.drop_decided_batches();
    }

    fn commit(
        &mut self,
        at: TxnRef,
        grants: &Grants,
        seq: CommitSeq,
        accounts: &impl Accounts,
        applied: &mut Applied,
    ) {
        let txn = grants.txn(at);
        if !self.has_part(txn) {
            return self.relink(&txn.command, accounts);
        }
        if !self.exceptional.is_empty()
            && let Some(was) = self.exceptional.remove(&at)
        {
            assert!(was.is_granted(), "commits what was not granted");
        }
        let is_swap = matches!(txn.command, Command::Swap(_));
        if let Command::Transact(transact) = &txn.command {
            self.assert_current(transact);
        }
        let ops = grants.ops(at.index);
        let (shard, shards) = (self.shard, self.shards);
        let is_mine = move |op: &Op| op.key.account.shard(shards) == shard;
        let mut whole = txn.settlement().map(|_| txn.ops().filter(is_mine));
        for op in ops {
            if !op.side.has_row() {
                continue;
            }
            let before = self.slots.balance(op.slot);
            match &mut whole {
                None => self.slots.settle(op, seq),
                Some(ops) => {
                    let whole = ops.next().expect("as many as were looked up");
                    self.slots.settle_move(op, &whole, seq);
                }
            }
            let after = self.slots.balance(op.slot);
            if self.slots.is_contended(op.slot) {
                self.resolved(at, op);
            }
            applied.rows.push(Row { before, after });
            applied.slots.push(op.slot);
        }
        if !is_swap {
            self.after_commit(txn, ops, seq);
        }
    }

    /// What a commit does besides moving amounts: locks of holds and of transactions.
    fn after_commit(&mut self, txn: &Txn, ops: &[SlotOp], seq: CommitSeq) {
        match &txn.command {
            Command::Prepare(prepare) if prepare.exclusive => {
                for op in ops.iter().filter(|op| op.side == Side::Lock) {
                    self.slots.lock(op.slot, Token::of(txn.id));
                }
            }
            Command::Resolve(resolve) => {
                let keeps_lock = planted(Bug::KeepLock);
                for op in ops.iter().filter(|op| op.side != Side::Deliver && !keeps_lock) {
                    self.slots.unlock(op.slot, resolve.token);
                }
            }
            Command::Transact(transact) => self.end_transaction(transact, Some(seq)),
            _ => {}
        }
    }

    fn abort(&mut self, at: TxnRef, grants: &Grants) {
        let ungranted = match self.exceptional.remove(&at) {
            Some(Exceptional::Refused) => return,
            Some(Exceptional::Waiting { ungranted, .. }) => ungranted,
            None => Default::default(),
        };
        for (place, op) in (0..).zip(grants.ops(at.index)) {
            if op.side == Side::Check {
                continue;
            }
            assert!(op.slot != NO_SLOT, "refused at once where there is no balance");
            let was_granted = !ungranted.contains(&place);
            // What takes nothing is counted from the first look on, also while it is blocked.
            if was_granted || !op.side.needs_funds() {
                self.slots.release(op);
            }
            if self.slots.is_contended(op.slot) {
                if !was_granted {
                    self.queue(op.slot).leave(at);
                }
                self.resolved(at, op);
            }
        }
        if let Command::Transact(transact) = &grants.txn(at).command {
            self.end_transaction(transact, None);
        }
    }

    /// Notes that a grant on a contended balance is no more.
    fn resolved(&mut self, at: TxnRef, op: &SlotOp) {
        if adds(op.side) {
            self.queue(op.slot).credit_decided(at);
        }
        self.touched.push(op.slot);
    }

    /// Looks again at those who wait where something was decided.
    fn look_again(&mut self, votes: &mut Votes) {
        let mut touched = std::mem::take(&mut self.touched);
        for number in touched.drain(..) {
            if !self.slots.is_contended(number) {
                continue;
            }
            if !self.slots.is_read(number) {
                self.unblock(number, votes);
                if let Some(token) = self.slots.locked_by(number) {
                    self.turn_away(number, token, votes);
                }
                while self.look_at_head(number, votes) {}
            }
            if self.queue(number).is_empty() {
                self.slots.set_contended(number, false);
                self.queues.remove(&number);
            }
        }
        self.touched = touched;
    }

    /// The last transaction that read the balance is decided: who waited for nothing else goes on.
    fn unblock(&mut self, number: u32, votes: &mut Votes) {
        for at in self.queue(number).unblock() {
            self.granted_late(at, number, votes);
        }
    }

    /// An exclusive hold stands now: whoever is in the queue must not wait here for its end.
    fn turn_away(&mut self, number: u32, token: Token, votes: &mut Votes) {
        while let Some((at, _)) = self.queue(number).head() {
            self.queue(number).pop();
            self.refused_late(at, Vote::Locked(token), votes);
        }
    }

    /// Decides about the first in a queue; false if there is none, or it goes on waiting.
    fn look_at_head(&mut self, number: u32, votes: &mut Votes) -> bool {
        let queue = self.queues.get_mut(&number).expect("a contended balance has a queue");
        let Some((at, op)) = queue.head() else {
            return false;
        };
        if self.slots.can_grant_head(&op) {
            queue.pop();
            self.slots.grant(&op);
            self.granted_late(at, number, votes);
            return true;
        }
        let mut earlier_credits = self.slots.credits(number);
        if !planted(Bug::CountLaterCredits) {
            earlier_credits = earlier_credits.minus(queue.later_credits());
        }
        if let Some(reject) = self.impossible(&op, earlier_credits) {
            self.queue(number).pop();
            self.refused_late(at, Vote::No(reject, self.applied), votes);
            return true;
        }
        false
    }

    fn granted_late(&mut self, at: TxnRef, number: u32, votes: &mut Votes) {
        let ops = self.grants[place(self.grants_first, at)].ops(at.index);
        let Some(Exceptional::Waiting { refused, ungranted }) = self.exceptional.get_mut(&at)
        else {
            unreachable!("whoever waits is known to")
        };
        // A request has one operation a balance: the slot tells which one was granted.
        ungranted.retain(|own| ops[usize::from(*own)].slot != number);
        if ungranted.is_empty() && !*refused && !planted(Bug::ForgetWaiter) {
            votes.late.push((at, Vote::Yes));
        }
    }

    fn refused_late(&mut self, at: TxnRef, vote: Vote, votes: &mut Votes) {
        let Some(Exceptional::Waiting { refused, .. }) = self.exceptional.get_mut(&at) else {
            unreachable!("whoever waits is known to")
        };
        if !std::mem::replace(refused, true) {
            votes.late.push((at, vote));
        }
    }

    fn drop_decided_batches(&mut self) {
        while self.grants.front().is_some_and(|grants| grants.undecided == 0) {
            let Grants { mut starts, mut ops, .. } = self.grants.pop_front().expect("seen");
            starts.clear();
            ops.clear();
            self.spare.push((starts, ops));
            self.grants_first += 1;
        }
    }
}
