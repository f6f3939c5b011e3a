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
use crate::shard::queue::{Queue, Wide};
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

/// What can be said of one operation.
enum Judged {
    /// Enough whatever happens to the others.
    Enough,
    /// Not enough whatever happens, or never allowed.
    No(Reject),
    /// It depends on earlier, undecided requests.
    Depends,
}

/// One balance with what is granted on it. Its number in the table is its slot.
///
/// 96 bytes: a shard holds millions of them, and reads one or two cache lines an operation.
#[derive(Clone, Debug)]
struct Slot {
    account: AccountId,
    asset: AssetId,
    /// Whether the owner has an address on the asset's chain: spares a lookup per operation.
    linked: bool,
    /// Whether somebody waits here: then `queues` has an entry.
    contended: bool,
    available: Amount,
    held: Amount,
    /// Granted, undecided debits: at most `available`.
    debits: Amount,
    /// Granted, undecided credits. Wider than an amount: whoever pays may yet be found short.
    credits: Wide,
    /// The commit_seq that last changed the balance.
    version: CommitSeq,
}

const _: () = assert!(size_of::<Slot>() == 96);

impl Slot {
    fn key(&self) -> BalanceKey {
        BalanceKey { account: self.account, asset: self.asset }
    }

    fn balance(&self) -> Balance {
        Balance { available: self.available, held: self.held }
    }

    /// What is there whatever the undecided requests turn out to be.
    fn certain(&self) -> Amount {
        self.available.checked_sub(self.debits).expect("grants never exceed what is available")
    }

    /// Carries out a granted operation under the seq given.
    fn settle(&mut self, op: &Op, seq: CommitSeq) {
        self.release(op);
        let available = match op.side {
            Side::Debit => self.available.checked_sub(op.amount),
            Side::Credit => self.available.checked_add(op.amount),
        };
        self.available = available.expect("granted, and within the supply cap");
        self.version = seq;
    }

    /// Gives back what was granted to an operation.
    fn release(&mut self, op: &Op) {
        match op.side {
            Side::Debit => {
                self.debits = self.debits.checked_sub(op.amount).expect("was granted");
            }
            Side::Credit => self.credits.sub(op.amount),
        }
    }
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
    slots: Vec<Slot>,
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
            slots: Vec::new(),
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
        let slot = self.insert(key, linked);
        let slot = &mut self.slots[slot as usize];
        slot.available = balance.available;
        slot.held = balance.held;
        slot.version = version;
    }

    /// Whether nothing is granted and nobody waits: so it must be once everything is decided.
    pub fn is_quiet(&self) -> bool {
        let free = |slot: &Slot| slot.debits == Amount::ZERO && slot.credits == Wide::default();
        self.grants.is_empty()
            && self.exceptional.is_empty()
            && self.queues.is_empty()
            && self.slots.iter().all(|slot| free(slot) && !slot.contended)
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
            match self.vote(at, txn, grants.slots_from(index), accounts) {
                Vote::Yes => {}
                vote => votes.exceptions.push((index, vote)),
            }
        }
        self.grants.push_back(grants);
    }

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

    fn find(&self, key: BalanceKey) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |slot| self.slots[*slot as usize].key() == key).copied()
    }

    fn insert(&mut self, key: BalanceKey, linked: bool) -> u32 {
        let number = u32::try_from(self.slots.len()).expect("fewer than 2^32 balances a shard");
        self.slots.push(Slot {
            account: key.account,
            asset: key.asset,
            linked,
            contended: false,
            available: Amount::ZERO,
            held: Amount::ZERO,
            debits: Amount::ZERO,
            credits: Wide::default(),
            version: CommitSeq::default(),
        });
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash = hasher.hash_one(key);
        self.index.insert_unique(hash, number, |n| hasher.hash_one(slots[*n as usize].key()));
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

    fn vote(&mut self, at: TxnRef, txn: &Txn, slots: &[u32], accounts: &impl Accounts) -> Vote {
        let ops = self.own_ops(txn, slots);
        let mut waits = false;
        let mut refusal: Option<Reject> = None;
        for (op, slot) in ops.clone() {
            match self.judge(&op, slot, accounts) {
                Judged::Enough => {}
                Judged::Depends => waits = true,
                Judged::No(reject) => {
                    if refusal.as_ref().is_none_or(|first| reject.precedence() < first.precedence())
                    {
                        refusal = Some(reject);
                    }
                }
            }
        }
        if let Some(reject) = refusal {
            let refused =
                Exceptional { refused: true, ungranted: (0..=u8::MAX).take(ops.count()).collect() };
            self.exceptional.insert(at, refused);
            return Vote::No(reject, self.applied);
        }
        if waits {
            self.grant_or_queue(at, ops);
            return Vote::Wait;
        }
        for (op, slot) in ops {
            self.grant(at, &op, slot);
        }
        Vote::Yes
    }

    fn judge(&self, op: &Op, slot: u32, accounts: &impl Accounts) -> Judged {
        if slot == NO_SLOT {
            return match check(op.key, accounts) {
                Err(reject) => Judged::No(reject),
                // The account may have it and has none of it: certain, as a credit would have made the slot.
                Ok(()) => Judged::No(self.short(op.key, op.amount)),
            };
        }
        let slot = &self.slots[slot as usize];
        if !slot.linked {
            let reject = check(slot.key(), accounts).expect_err("the flag follows the directory");
            return Judged::No(reject);
        }
        if op.side == Side::Credit {
            return Judged::Enough;
        }
        if slot.contended {
            // Certain no is certain also behind others: all credits here are of earlier requests.
            return if slot.credits.plus(slot.available).is_below(op.amount) {
                Judged::No(self.short_slot(slot, op.amount))
            } else {
                Judged::Depends
            };
        }
        if slot.certain() >= op.amount {
            Judged::Enough
        } else if slot.credits.plus(slot.available).is_below(op.amount) {
            Judged::No(self.short_slot(slot, op.amount))
        } else {
            Judged::Depends
        }
    }

    fn short_slot(&self, slot: &Slot, amount: Amount) -> Reject {
        let short_by = amount.checked_sub(slot.available).expect("it is short");
        self.short(slot.key(), short_by)
    }

    fn short(&self, key: BalanceKey, short_by: Amount) -> Reject {
        let BalanceKey { account, asset } = key;
        Reject::InsufficientFunds { account, asset, short_by, seq: self.applied }
    }

    fn grant(&mut self, at: TxnRef, op: &Op, slot: u32) {
        let number = slot;
        let slot = &mut self.slots[slot as usize];
        match op.side {
            Side::Debit => {
                slot.debits = slot
                    .debits
                    .checked_add(op.amount)
                    .expect("grants are within what is available");
                assert!(slot.debits <= slot.available, "granted more than there is");
            }
            Side::Credit => {
                slot.credits.add(op.amount);
                if slot.contended {
                    self.queue(number).credit_granted(at, op.amount);
                }
            }
        }
    }

    /// Grants what is certain and queues the rest. What is granted is kept while the rest waits:
    /// only earlier requests are waited for, so nobody waits for this one in a circle.
    fn grant_or_queue(&mut self, at: TxnRef, ops: impl Iterator<Item = (Op, u32)>) {
        let mut ungranted = SmallVec::new();
        for (place, (op, number)) in ops.enumerate() {
            let slot = &mut self.slots[number as usize];
            let waits = op.side == Side::Debit && (slot.contended || slot.certain() < op.amount);
            if waits {
                slot.contended = true;
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
            let slot = &mut self.slots[number as usize];
            let before = slot.balance();
            slot.settle(&op, seq);
            let after = slot.balance();
            if slot.contended {
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
            let slot = &mut self.slots[number as usize];
            if was_granted {
                slot.release(&op);
            }
            if slot.contended {
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
            while self.slots[number as usize].contended {
                if !self.look_at_head(number, votes) {
                    break;
                }
            }
        }
        self.touched = touched;
    }

    /// Decides about the first in a queue; false if it goes on waiting.
    fn look_at_head(&mut self, number: u32, votes: &mut Votes) -> bool {
        let slot = &mut self.slots[number as usize];
        let queue = self.queues.get_mut(&number).expect("a contended balance has a queue");
        let Some((at, amount)) = queue.head() else {
            slot.contended = false;
            self.queues.remove(&number);
            return false;
        };
        let earlier_credits = slot.credits.minus(queue.later_credits());
        if slot.certain() >= amount {
            slot.debits = slot.debits.checked_add(amount).expect("within what is available");
            queue.pop();
            self.granted_late(at, number, votes);
            true
        } else if earlier_credits.plus(slot.available).is_below(amount) {
            queue.pop();
            let reject = self.short_slot(&self.slots[number as usize], amount);
            self.refused_late(at, reject, votes);
            true
        } else {
            false
        }
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
                self.slots[slot as usize].linked = check(key, accounts).is_ok();
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
        let slot = &self.slots[self.find(key)? as usize];
        let touched = slot.version > CommitSeq::default();
        touched.then(|| BalanceNow {
            asset: key.asset,
            balance: slot.balance(),
            version: slot.version,
        })
    }

    /// Adds up every balance anew, per asset number.
    pub fn totals(&self, assets: usize) -> Totals {
        let mut sums = vec![Amount::ZERO; assets];
        for slot in &self.slots {
            let sum = &mut sums[slot.asset.get() as usize];
            *sum = sum.checked_add(slot.balance().total()).expect("the supply cap bounds the sum");
        }
        Totals { sums, balances: self.slots.len() as u64 }
    }
}

#[cfg(test)]
mod scripts;
