//! A request's first look: what is certain is granted, what is impossible is refused, and the rest
//! waits for earlier requests.

use super::{Accounts, Balances, Exceptional, Grants, check};
use crate::error::Reject;
use crate::message::{Op, SharedBatch, Side, Txn, TxnRef, Vote, Votes};
use crate::request::Command;
use crate::shard::queue::Wide;
use crate::shard::slots::{NO_SLOT, SlotOp, adds};
use crate::types::{Amount, BalanceKey};

use smallvec::SmallVec;

use std::hash::BuildHasher;

/// Balances that are looked up together: enough to wait for them once, few enough that the first is
/// still near when the last has come.
const WINDOW: usize = 64;

/// An operation whose balance is to be looked up.
#[derive(Debug)]
pub(super) struct Wanted {
    key: BalanceKey,
    hash: u64,
    side: Side,
    amount: Amount,
}

impl Balances {
    /// Answers every transaction of the batch that has part here: a yes but for `votes.exceptions`.
    pub fn prepare(&mut self, batch: &SharedBatch, accounts: &impl Accounts, votes: &mut Votes) {
        assert_eq!(batch.number, self.grants_first + self.grants.len() as u64, "batches are dense");
        let (starts, ops) = self.spare.pop().unwrap_or_default();
        let undecided = batch.txns.len();
        let mut grants = Grants { batch: batch.clone(), starts, ops, undecided };
        self.look_up(accounts, &mut grants);
        for (index, txn) in (0..).zip(&batch.txns) {
            if !self.has_part(txn) {
                continue;
            }
            let at = TxnRef { batch: batch.number, index };
            let ops = grants.ops(index);
            let exception = if let Command::Transact(transact) = &txn.command {
                self.vote_on_transaction(at, txn, transact, ops, accounts)
            } else if self.grant_all(at, ops) {
                continue;
            } else {
                self.refuse_or_queue(at, txn, ops, accounts)
            };
            votes.exceptions.extend(exception.map(|vote| (index, vote)));
        }
        self.grants.push_back(grants);
    }

    /// Looks up the balances of all operations first, a window of them at a time: the lookups of a
    /// batch do not depend on one another, so what they wait for comes together.
    fn look_up(&mut self, accounts: &impl Accounts, grants: &mut Grants) {
        let mut wanted = std::mem::take(&mut self.wanted);
        let Grants { batch, starts, ops, .. } = grants;
        for txn in &batch.txns {
            starts.push(u32::try_from(ops.len() + wanted.len()).expect("a batch is small"));
            if !self.has_part(txn) {
                continue;
            }
            for op in txn.ops() {
                if self.owns(&op) {
                    // What a yield takes is granted to the request that reserved it.
                    let amount = if op.side == Side::Yield { Amount::ZERO } else { op.amount };
                    let hash = self.hasher.hash_one(op.key);
                    wanted.push(Wanted { key: op.key, hash, side: op.side, amount });
                }
            }
            if wanted.len() >= WINDOW {
                self.look_up_window(&mut wanted, ops, accounts);
            }
        }
        self.look_up_window(&mut wanted, ops, accounts);
        starts.push(u32::try_from(ops.len()).expect("a batch is small"));
        self.wanted = wanted;
    }

    fn look_up_window(
        &mut self,
        wanted: &mut Vec<Wanted>,
        ops: &mut Vec<SlotOp>,
        accounts: &impl Accounts,
    ) {
        // The first with an equal hash is nearly always the one.
        let likely = wanted.iter().filter_map(|of| self.index.find(of.hash, |_| true).copied());
        self.slots.touch(likely);
        for Wanted { key, hash, side, amount } in wanted.drain(..) {
            let slot = self.slot_for(key, hash, side, accounts);
            ops.push(SlotOp { side, slot, amount });
        }
    }

    #[inline]
    fn owns(&self, op: &Op) -> bool {
        op.key.account.shard(self.shards) == self.shard
    }

    /// The slot of an operation; a credit to a new balance makes it, if its owner may have it.
    #[inline]
    fn slot_for(
        &mut self,
        key: BalanceKey,
        hash: u64,
        side: Side,
        accounts: &impl Accounts,
    ) -> u32 {
        match self.find_hashed(key, hash) {
            Some(slot) => slot,
            None => self.new_slot_for(key, side, accounts),
        }
    }

    #[cold]
    fn new_slot_for(&mut self, key: BalanceKey, side: Side, accounts: &impl Accounts) -> u32 {
        match side {
            Side::Credit if check(key, accounts).is_ok() => self.insert(key, true),
            // Its owner was linked when the hold was made.
            Side::Deliver | Side::Gain | Side::Yield => {
                self.insert(key, check(key, accounts).is_ok())
            }
            _ => NO_SLOT,
        }
    }

    /// Grants all operations if each is certain: the usual case. Changes nothing if not.
    #[inline]
    fn grant_all(&mut self, at: TxnRef, ops: &[SlotOp]) -> bool {
        let certain = ops.iter().all(|op| op.slot != NO_SLOT && self.slots.can_grant(op));
        if certain {
            for op in ops {
                self.grant(at, op);
            }
        }
        certain
    }

    /// The vote on a request whose operations cannot simply be granted; `None` for a yes.
    fn refuse_or_queue(
        &mut self,
        at: TxnRef,
        txn: &Txn,
        ops: &[SlotOp],
        accounts: &impl Accounts,
    ) -> Option<Vote> {
        let keyed = self.with_keys(txn, ops);
        let reasons = keyed.filter_map(|(key, op)| self.reason(key, op, accounts));
        // Of several equals the first.
        if let Some(reject) = reasons.min_by_key(Reject::precedence) {
            self.exceptional.insert(at, Exceptional::Refused);
            return Some(Vote::No(reject, self.applied));
        }
        let mut takes = ops.iter().filter(|op| op.side.needs_funds());
        if let Some(token) = takes.find_map(|op| self.slots.locked_by(op.slot)) {
            self.exceptional.insert(at, Exceptional::Refused);
            return Some(Vote::Locked(token));
        }
        let waits = self.grant_or_queue(at, ops);
        waits.then_some(Vote::Wait)
    }

    /// A transaction's operations on this shard, each with its balance's key.
    pub(super) fn with_keys<'a>(
        &self,
        txn: &'a Txn,
        ops: &'a [SlotOp],
    ) -> impl Iterator<Item = (BalanceKey, &'a SlotOp)> {
        txn.ops().filter(|op| self.owns(op)).map(|op| op.key).zip(ops)
    }

    /// Why an operation is impossible whatever becomes of the undecided requests, if it is.
    pub(super) fn reason(
        &self,
        key: BalanceKey,
        op: &SlotOp,
        accounts: &impl Accounts,
    ) -> Option<Reject> {
        if matches!(op.side, Side::Spend | Side::Release | Side::Deliver) || op.side.is_of_market()
        {
            assert!(op.slot != NO_SLOT, "what a hold set aside is there");
            return None;
        }
        if op.slot == NO_SLOT {
            // Without a balance there is no credit to come either: one would have made it.
            let nothing = || op.side.needs_funds().then(|| self.short_of_all(key, op));
            return check(key, accounts).err().or_else(nothing);
        }
        if !self.slots.is_linked(op.slot) {
            return Some(check(key, accounts).expect_err("the mark follows the directory"));
        }
        if !op.side.needs_funds() {
            return None;
        }
        // All credits granted or blocked by now are of earlier requests, so all of them count.
        self.impossible(op, self.slots.credits(op.slot))
    }

    /// Why that much can never be taken, given all undecided credits that may be counted.
    pub(super) fn impossible(&self, op: &SlotOp, credits: Wide) -> Option<Reject> {
        let nothing_before = self.slots.debits(op.slot) == Amount::ZERO && credits.is_zero();
        if nothing_before && self.slots.exceeds_share(op) {
            return Some(self.above_share(self.slots.key(op.slot)));
        }
        let available = self.slots.available(op.slot);
        let is_short = available < op.amount && credits.plus(available).is_below(op.amount);
        is_short.then(|| {
            let short_by = op.amount.checked_sub(available).expect("it is short");
            self.short(self.slots.key(op.slot), short_by)
        })
    }

    /// Nothing can be taken from a balance that does not exist.
    fn short_of_all(&self, key: BalanceKey, op: &SlotOp) -> Reject {
        if op.side != Side::Debit && self.slots.held_share_max_percent() < 100 {
            return self.above_share(key);
        }
        self.short(key, op.amount)
    }

    fn above_share(&self, key: BalanceKey) -> Reject {
        let BalanceKey { account, asset } = key;
        let max_percent = self.slots.held_share_max_percent();
        Reject::HeldShareExceeded { account, asset, max_percent }
    }

    fn short(&self, key: BalanceKey, short_by: Amount) -> Reject {
        let BalanceKey { account, asset } = key;
        Reject::InsufficientFunds { account, asset, short_by, seq: self.applied }
    }

    #[inline]
    pub(super) fn grant(&mut self, at: TxnRef, op: &SlotOp) {
        if op.side == Side::Check {
            return;
        }
        self.slots.grant(op);
        if adds(op.side) && self.slots.is_contended(op.slot) {
            self.queue(op.slot).credit_granted(at, op.amount);
        }
    }

    /// Grants what is certain and queues the rest; false if nothing has to wait. What is granted is
    /// kept while the rest waits: only earlier requests are waited for, so nobody waits for this one
    /// in a circle.
    fn grant_or_queue(&mut self, at: TxnRef, ops: &[SlotOp]) -> bool {
        let mut ungranted = SmallVec::new();
        for (place, op) in ops.iter().enumerate() {
            // Without a reason for a no, a check has nothing to wait for.
            if op.side == Side::Check || self.slots.can_grant(op) {
                self.grant(at, op);
                continue;
            }
            ungranted.push(u8::try_from(place).expect("a request has few operations"));
            self.slots.set_contended(op.slot, true);
            let queue = self.queues.entry(op.slot).or_default();
            if op.side.needs_funds() {
                queue.push(at, *op);
            } else {
                queue.block(at);
                // Who comes later may count on it, as it is earlier: only the yes has to wait.
                self.grant(at, op);
            }
        }
        let waits = !ungranted.is_empty();
        if waits {
            self.exceptional.insert(at, Exceptional::Waiting { refused: false, ungranted });
        }
        waits
    }
}
