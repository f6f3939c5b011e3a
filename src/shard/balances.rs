//! What each account can still promise, and who waits to find out.
//!
//! Per (account, asset) a shard keeps the committed balance plus what is granted but not yet
//! decided. A debit is answered *yes* if there is enough whatever happens to the others, *no* if
//! there is not enough whatever happens, and otherwise *waits* in that balance's queue.
//! Pure: no channel, clock, disk or metric is reachable from here.
//!
//! Invariants
//! * A granted debit can be honoured whatever the undecided requests turn out to be.
//! * A request waits only for earlier ones, also when it is looked at again, so no cycle can
//!   form across shards: while one waits, later debits queue behind it, and credits of later
//!   requests are not counted for it.
//! * Balances never go negative and never wrap; all arithmetic is checked, in release too.
//!
//! ```text
//! available 100, t1 asks 80 -> yes     (undecided debits: 80)
//!                t2 asks 50 -> waits   (yes if t1 aborts, no if it commits)
//! t1 commits  -> t2 answered no; t1 aborts -> t2 answered yes
//! ```

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;

use crate::error::Reject;
use crate::message::{
    AccountBalances, Applied, BalanceNow, Decision, Op, Row, SharedBatch, Side, Totals, Txn,
    TxnRef, Vote, Votes,
};
use crate::request::Command;
use crate::shard::queue::Queue;
use crate::shard::slots::Slots;
use crate::types::{AccountId, Amount, AssetId, Balance, BalanceKey, ChainId, CommitSeq};

/// Who exists and is linked where. The coordinator changes it only while nothing is undecided.
pub trait Accounts {
    /// Whether the account may hold an asset of that chain.
    ///
    /// # Errors
    /// [`Reject::UnknownAccount`] or [`Reject::NotLinked`].
    fn check_linked(&self, account: AccountId, chain: ChainId) -> Result<(), Reject>;

    /// The chain of an asset; `None` if there is no such asset.
    fn chain_of(&self, asset: AssetId) -> Option<ChainId>;

    /// How many assets there are: every lower number is one.
    fn assets_len(&self) -> usize;
}

/// Whether the owner of a balance exists and is linked on the asset's chain.
fn check(key: BalanceKey, accounts: &impl Accounts) -> Result<(), Reject> {
    let chain = accounts.chain_of(key.asset).ok_or(Reject::UnknownAsset(key.asset))?;
    accounts.check_linked(key.account, chain)
}

/// No slot: an operation on a balance that does not exist and is not created by asking.
const NO_SLOT: u32 = u32::MAX;

/// What a batch left here, until all of it is decided.
#[derive(Debug)]
struct Grants {
    batch: SharedBatch,
    /// For every transaction the index in `slots` of its first operation here.
    starts: Vec<u32>,
    /// The slots of the operations of this shard, in order.
    slots: Vec<u32>,
    /// Transactions of the batch that are not decided yet, with part here or not.
    undecided: usize,
}

impl Grants {
    fn txn(&self, at: TxnRef) -> &Txn {
        &self.batch.txns[at.index as usize]
    }

    /// The slots from a transaction's first operation on.
    fn slots_from(&self, index: u32) -> &[u32] {
        &self.slots[self.starts[index as usize] as usize..]
    }
}

/// What a batch left here, one of whose transactions is decided now. `first`: the number of the
/// first batch in `grants`.
fn decided(grants: &mut VecDeque<Grants>, first: u64, at: TxnRef) -> &Grants {
    let place = usize::try_from(at.batch - first).expect("few batches are undecided");
    let grants = &mut grants[place];
    grants.undecided = grants.undecided.checked_sub(1).expect("each is decided once");
    grants
}

/// A transaction here that did not simply get its yes.
#[derive(Clone, Debug)]
struct Exceptional {
    /// Its answer is no; it is not voted on again.
    refused: bool,
    /// Its operations (counted among those of this shard) that were not granted.
    ungranted: SmallVec<[u8; 4]>,
}

/// The balances and grants of one shard.
pub struct Balances {
    shard: usize,
    shards: usize,
    index: HashTable<u32>,
    hasher: RandomState,
    slots: Slots,
    queues: HashMap<u32, Queue>,
    exceptional: HashMap<TxnRef, Exceptional>,
    /// Grants of batches from number `grants_first` on.
    grants: VecDeque<Grants>,
    grants_first: u64,
    /// Emptied buffers of grants, kept to be filled again.
    spare: Vec<(Vec<u32>, Vec<u32>)>,
    applied: CommitSeq,
    /// Contended slots that the decision at hand touched: to be looked at again.
    touched: Vec<u32>,
}

impl Balances {
    /// No balances: shard number `shard` of `shards`, with everything up to `applied` in it.
    pub fn new(shard: usize, shards: usize, applied: CommitSeq) -> Self {
        Self {
            shard,
            shards,
            index: HashTable::new(),
            hasher: RandomState::default(),
            slots: Slots::default(),
            queues: HashMap::new(),
            exceptional: HashMap::new(),
            grants: VecDeque::new(),
            grants_first: 0,
            spare: Vec::new(),
            applied,
            touched: Vec::new(),
        }
    }

    /// Puts back a balance that recovery found. `linked`: whether its owner has a link for it now.
    pub fn restore(&mut self, key: BalanceKey, balance: Balance, version: CommitSeq, linked: bool) {
        let number = self.insert(key, linked);
        self.slots.restore(number, balance, version);
    }

    /// Whether nothing is granted and nobody waits: so it must be once everything is decided.
    pub fn is_quiet(&self) -> bool {
        self.grants.is_empty()
            && self.exceptional.is_empty()
            && self.queues.is_empty()
            && self.slots.are_quiet()
    }

    /// The seq of the state: every decision up to this is applied.
    pub fn applied(&self) -> CommitSeq {
        self.applied
    }

    /// Answers every transaction of the batch that has part here: a yes but for `votes.exceptions`.
    pub fn prepare(&mut self, batch: &SharedBatch, accounts: &impl Accounts, votes: &mut Votes) {
        assert_eq!(batch.number, self.grants_first + self.grants.len() as u64, "batches are dense");
        let (starts, slots) = self.spare.pop().unwrap_or_default();
        let undecided = batch.txns.len();
        let mut grants = Grants { batch: batch.clone(), starts, slots, undecided };
        self.resolve(accounts, &mut grants);
        for (index, txn) in (0..).zip(&batch.txns) {
            if !self.has_part(txn) {
                continue;
            }
            let at = TxnRef { batch: batch.number, index };
            let slots = grants.slots_from(index);
            if self.grant_all(at, txn, slots) {
                continue;
            }
            let exception = self.refuse_or_queue(at, txn, slots, accounts);
            votes.exceptions.push((index, exception));
        }
        self.grants.push_back(grants);
    }

    #[inline]
    fn has_part(&self, txn: &Txn) -> bool {
        txn.shards & (1 << self.shard) != 0
    }

    /// Looks up the slots of all operations first: the lookups of a batch do not depend on one
    /// another, so their cache misses overlap.
    fn resolve(&mut self, accounts: &impl Accounts, grants: &mut Grants) {
        let Grants { batch, starts, slots, .. } = grants;
        for txn in &batch.txns {
            starts.push(u32::try_from(slots.len()).expect("a batch is small"));
            if !self.has_part(txn) {
                continue;
            }
            for op in txn.ops() {
                if op.key.account.shard(self.shards) == self.shard {
                    let slot = self.slot_for(&op, accounts);
                    slots.push(slot);
                }
            }
        }
    }

    /// The slot of an operation; a credit to a new balance makes it, if its owner may have it.
    fn slot_for(&mut self, op: &Op, accounts: &impl Accounts) -> u32 {
        if let Some(slot) = self.find(op.key) {
            return slot;
        }
        if op.side == Side::Debit || check(op.key, accounts).is_err() {
            return NO_SLOT;
        }
        self.insert(op.key, true)
    }

    #[inline]
    fn find(&self, key: BalanceKey) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |slot| self.slots.key(*slot) == key).copied()
    }

    fn insert(&mut self, key: BalanceKey, linked: bool) -> u32 {
        let number = self.slots.push(key, linked);
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash = hasher.hash_one(key);
        self.index.insert_unique(hash, number, |other| hasher.hash_one(slots.key(*other)));
        number
    }

    /// The operations of a transaction that this shard owns, each with its slot.
    fn own_ops<'a>(
        &self,
        txn: &'a Txn,
        slots: &'a [u32],
    ) -> impl Iterator<Item = (Op, u32)> + Clone + use<'a> {
        let (shard, shards) = (self.shard, self.shards);
        txn.ops().filter(move |op| op.key.account.shard(shards) == shard).zip(slots.iter().copied())
    }

    /// Grants all operations if each is certain: the usual case. Changes nothing if not.
    fn grant_all(&mut self, at: TxnRef, txn: &Txn, slots: &[u32]) -> bool {
        let ops = self.own_ops(txn, slots);
        let certain =
            ops.clone().all(|(op, number)| number != NO_SLOT && self.slots.can_grant(&op, number));
        if certain {
            ops.for_each(|(op, number)| self.grant(at, &op, number));
        }
        certain
    }

    /// The vote on a transaction that cannot be granted at once.
    fn refuse_or_queue(
        &mut self,
        at: TxnRef,
        txn: &Txn,
        slots: &[u32],
        accounts: &impl Accounts,
    ) -> Vote {
        let ops = self.own_ops(txn, slots);
        let reasons = ops.clone().filter_map(|(op, number)| self.reason(&op, number, accounts));
        // Of several equals the first.
        if let Some(reject) = reasons.min_by_key(Reject::precedence) {
            let refused =
                Exceptional { refused: true, ungranted: (0..=u8::MAX).take(ops.count()).collect() };
            self.exceptional.insert(at, refused);
            return Vote::No(reject, self.applied);
        }
        self.grant_or_queue(at, ops);
        Vote::Wait
    }

    /// Why an operation is impossible whatever becomes of the undecided requests, if it is.
    fn reason(&self, op: &Op, number: u32, accounts: &impl Accounts) -> Option<Reject> {
        if number == NO_SLOT {
            // Without a balance there is no credit to come either: one would have made it.
            return Some(check(op.key, accounts).err().unwrap_or(self.short(op.key, op.amount)));
        }
        if !self.slots.is_linked(number) {
            let reject = check(op.key, accounts).expect_err("the mark follows the directory");
            return Some(reject);
        }
        // All credits granted by now are of earlier requests, so all of them count.
        let available = self.slots.available(number);
        let impossible = op.side == Side::Debit
            && available < op.amount
            && self.slots.credits(number).plus(available).is_below(op.amount);
        impossible.then(|| self.short_of(number, op.amount))
    }

    fn short_of(&self, number: u32, amount: Amount) -> Reject {
        let short_by = amount.checked_sub(self.slots.available(number)).expect("it is short");
        self.short(self.slots.key(number), short_by)
    }

    fn short(&self, key: BalanceKey, short_by: Amount) -> Reject {
        let BalanceKey { account, asset } = key;
        Reject::InsufficientFunds { account, asset, short_by, seq: self.applied }
    }

    #[inline]
    fn grant(&mut self, at: TxnRef, op: &Op, number: u32) {
        self.slots.grant(op, number);
        if op.side == Side::Credit && self.slots.is_contended(number) {
            self.queue(number).credit_granted(at, op.amount);
        }
    }

    /// Grants what is certain and queues the rest. What is granted is kept while the rest waits:
    /// only earlier requests are waited for, so nobody waits for this one in a circle.
    fn grant_or_queue(&mut self, at: TxnRef, ops: impl Iterator<Item = (Op, u32)>) {
        let mut ungranted = SmallVec::new();
        for (place, (op, number)) in ops.enumerate() {
            if !self.slots.can_grant(&op, number) {
                self.slots.set_contended(number, true);
                self.queues.entry(number).or_default().push(at, op.amount);
                ungranted.push(u8::try_from(place).expect("a request has few operations"));
            } else {
                self.grant(at, &op, number);
            }
        }
        self.exceptional.insert(at, Exceptional { refused: false, ungranted });
    }

    fn queue(&mut self, slot: u32) -> &mut Queue {
        self.queues.get_mut(&slot).expect("a contended balance has a queue")
    }

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
        for (seq, at) in (decision.first_seq.get()..).zip(&decision.commits) {
            let grants = decided(&mut grants, first, *at);
            self.commit(*at, grants, CommitSeq::new(seq), accounts, applied);
        }
        self.applied = decision.last_seq();
        for refused in &decision.refusals {
            let grants = decided(&mut grants, first, refused.txn);
            if self.has_part(grants.txn(refused.txn)) {
                self.abort(refused.txn, grants);
            }
        }
        for at in &decision.duplicates {
            let txn = decided(&mut grants, first, *at).txn(*at);
            assert_eq!(txn.shards, 0, "a duplicate is asked of nobody");
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
            assert!(!was.refused && was.ungranted.is_empty(), "commits what was not granted");
        }
        for (op, number) in self.own_ops(txn, grants.slots_from(at.index)) {
            let before = self.slots.balance(number);
            self.slots.settle(&op, number, seq);
            let after = self.slots.balance(number);
            if self.slots.is_contended(number) {
                self.resolved(at, &op, number);
            }
            applied.rows.push(Row { before, after });
            applied.slots.push(number);
        }
    }

    fn abort(&mut self, at: TxnRef, grants: &Grants) {
        let was = self.exceptional.remove(&at);
        let ungranted = was.map(|was| was.ungranted).unwrap_or_default();
        let ops = self.own_ops(grants.txn(at), grants.slots_from(at.index));
        for (place, (op, number)) in (0..).zip(ops) {
            let was_granted = !ungranted.contains(&place);
            if number == NO_SLOT {
                assert!(!was_granted, "granted on no balance");
                continue;
            }
            if was_granted {
                self.slots.release(&op, number);
            }
            if self.slots.is_contended(number) {
                if !was_granted {
                    self.queue(number).leave(at);
                }
                self.resolved(at, &op, number);
            }
        }
    }

    /// Notes that a grant on a contended balance is no more.
    fn resolved(&mut self, at: TxnRef, op: &Op, number: u32) {
        if op.side == Side::Credit {
            self.queue(number).credit_decided(at);
        }
        self.touched.push(number);
    }

    /// Looks again at those who wait where something was decided.
    fn look_again(&mut self, votes: &mut Votes) {
        let mut touched = std::mem::take(&mut self.touched);
        for number in touched.drain(..) {
            while self.slots.is_contended(number) {
                if !self.look_at_head(number, votes) {
                    break;
                }
            }
        }
        self.touched = touched;
    }

    /// Decides about the first in a queue; false if it goes on waiting.
    fn look_at_head(&mut self, number: u32, votes: &mut Votes) -> bool {
        let queue = self.queues.get_mut(&number).expect("a contended balance has a queue");
        let Some((at, amount)) = queue.head() else {
            self.slots.set_contended(number, false);
            self.queues.remove(&number);
            return false;
        };
        if self.slots.certain(number) >= amount {
            queue.pop();
            let op = Op { key: self.slots.key(number), side: Side::Debit, amount };
            self.slots.grant(&op, number);
            self.granted_late(at, number, votes);
            return true;
        }
        let earlier_credits = self.slots.credits(number).minus(queue.later_credits());
        if earlier_credits.plus(self.slots.available(number)).is_below(amount) {
            queue.pop();
            let reject = self.short_of(number, amount);
            self.refused_late(at, reject, votes);
            return true;
        }
        false
    }

    fn granted_late(&mut self, at: TxnRef, number: u32, votes: &mut Votes) {
        let place =
            usize::try_from(at.batch - self.grants_first).expect("few batches are undecided");
        let slots = self.grants[place].slots_from(at.index);
        let was = self.exceptional.get_mut(&at).expect("whoever waits is exceptional");
        // A request has one operation a balance: the slot tells which one was granted.
        was.ungranted.retain(|own| slots[usize::from(*own)] != number);
        if was.ungranted.is_empty() && !was.refused {
            votes.late.push((at, Vote::Yes));
        }
    }

    fn refused_late(&mut self, at: TxnRef, reject: Reject, votes: &mut Votes) {
        let was = self.exceptional.get_mut(&at).expect("whoever waits is exceptional");
        if !was.refused {
            was.refused = true;
            votes.late.push((at, Vote::No(reject, self.applied)));
        }
    }

    /// Follows links that were added or removed: the flags of the account's balances.
    fn relink(&mut self, command: &Command, accounts: &impl Accounts) {
        let account = match command {
            Command::PutAccount { account, .. } | Command::RemoveLink { account, .. } => *account,
            _ => return,
        };
        if account.shard(self.shards) != self.shard {
            return;
        }
        for asset in 0..accounts.assets_len() {
            let asset = AssetId::new(u32::try_from(asset).expect("ASSETS_MAX fits"));
            let key = BalanceKey { account, asset };
            if let Some(slot) = self.find(key) {
                self.slots.set_linked(slot, check(key, accounts).is_ok());
            }
        }
    }

    fn drop_decided_batches(&mut self) {
        while self.grants.front().is_some_and(|grants| grants.undecided == 0) {
            let Grants { mut starts, mut slots, .. } = self.grants.pop_front().expect("seen");
            starts.clear();
            slots.clear();
            self.spare.push((starts, slots));
            self.grants_first += 1;
        }
    }

    /// All balances of an account, as of [`Balances::applied`].
    pub fn read(&self, account: AccountId, assets: usize) -> AccountBalances {
        let balances = (0..u32::try_from(assets).expect("ASSETS_MAX fits"))
            .filter_map(|asset| self.read_one(BalanceKey { account, asset: AssetId::new(asset) }))
            .collect();
        AccountBalances { seq: self.applied, balances }
    }

    fn read_one(&self, key: BalanceKey) -> Option<BalanceNow> {
        let number = self.find(key)?;
        let (balance, version) = (self.slots.balance(number), self.slots.version(number));
        let touched = version > CommitSeq::default();
        touched.then_some(BalanceNow { asset: key.asset, balance, version })
    }

    /// Adds up every balance anew, per asset number.
    pub fn totals(&self, assets: usize) -> Totals {
        let mut sums = vec![Amount::ZERO; assets];
        let balances = self.slots.len();
        for number in (0..balances).map(|number| number as u32) {
            let sum = &mut sums[self.slots.key(number).asset.get() as usize];
            let total = self.slots.balance(number).total();
            *sum = sum.checked_add(total).expect("the supply cap bounds the sum");
        }
        Totals { sums, balances: balances as u64 }
    }
}

#[cfg(test)]
mod scripts;
