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
//! * An optimistic transaction waits for nobody. So whoever waits for the balances that one reads
//!   waits for an earlier request, and not for long.
//! * Balances never go negative and never wrap; all arithmetic is checked, in release too.
//!
//! ```text
//! available 100, t1 asks 80 -> yes     (undecided debits: 80)
//!                t2 asks 50 -> waits   (yes if t1 aborts, no if it commits)
//! t1 commits  -> t2 answered no; t1 aborts -> t2 answered yes
//! ```
//!
//! What is asked when: `voting` (a request's first look), `deciding` (grants are carried out or
//! given back, and who waits is looked at again), `transact` (what optimistic transactions add).

mod deciding;
mod transact;
mod voting;

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;

use crate::error::Reject;
use crate::message::{AccountBalances, BalanceNow, ManyBalances, SharedBatch, Totals, Txn, TxnRef};
use crate::request::Command;
use crate::shard::queue::Queue;
use crate::shard::records::Records;
use crate::shard::slots::{SlotOp, Slots};
use crate::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, ChainId, CommitSeq, Key, Token,
};

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

/// What a batch left here, until all of it is decided.
#[derive(Debug)]
struct Grants {
    batch: SharedBatch,
    /// For every transaction the index in `ops` of its first operation here; and the end.
    starts: Vec<u32>,
    /// The operations of this shard, in order.
    ops: Vec<SlotOp>,
    /// Transactions of the batch that are not decided yet, with part here or not.
    undecided: usize,
}

impl Grants {
    #[inline]
    fn txn(&self, at: TxnRef) -> &Txn {
        &self.batch.txns[at.index as usize]
    }

    /// A transaction's operations on this shard.
    #[inline]
    fn ops(&self, index: u32) -> &[SlotOp] {
        let index = index as usize;
        &self.ops[self.starts[index] as usize..self.starts[index + 1] as usize]
    }
}

/// A transaction here that did not simply get its yes.
#[derive(Clone, Debug)]
enum Exceptional {
    /// It was answered at once, and not with a yes: nothing of it is granted, and it waits nowhere.
    Refused,
    /// It was told to wait.
    Waiting {
        /// Its late vote was given, and was not a yes; it is not voted on again.
        refused: bool,
        /// Its operations (counted among those of this shard) that were not granted.
        ungranted: SmallVec<[u8; 4]>,
    },
}

impl Exceptional {
    /// Whether it got its yes in the end.
    fn is_granted(&self) -> bool {
        matches!(self, Self::Waiting { refused: false, ungranted } if ungranted.is_empty())
    }
}

/// The balances and grants of one shard.
pub struct Balances {
    shard: usize,
    shards: usize,
    index: HashTable<u32>,
    hasher: RandomState,
    slots: Slots,
    records: Records,
    queues: HashMap<u32, Queue>,
    exceptional: HashMap<TxnRef, Exceptional>,
    /// Grants of batches from number `grants_first` on.
    grants: VecDeque<Grants>,
    grants_first: u64,
    /// Emptied buffers of grants, kept to be filled again.
    spare: Vec<(Vec<u32>, Vec<SlotOp>)>,
    applied: CommitSeq,
    /// Contended slots that the decision at hand touched: to be looked at again.
    touched: Vec<u32>,
    /// Operations to be looked up next; empty in between.
    wanted: Vec<voting::Wanted>,
}

impl Balances {
    /// No balances: shard number `shard` of `shards`, with everything up to `applied` in it, that
    /// lets at most `held_share_max_percent` of a balance be set aside (100 for no such limit).
    pub fn new(
        shard: usize,
        shards: usize,
        applied: CommitSeq,
        held_share_max_percent: u8,
    ) -> Self {
        Self {
            shard,
            shards,
            index: HashTable::new(),
            hasher: RandomState::default(),
            slots: Slots::new(held_share_max_percent),
            records: Records::default(),
            queues: HashMap::new(),
            exceptional: HashMap::new(),
            grants: VecDeque::new(),
            grants_first: 0,
            spare: Vec::new(),
            applied,
            touched: Vec::new(),
            wanted: Vec::new(),
        }
    }

    /// Puts back a balance that recovery found. `linked`: whether its owner has a link for it now.
    pub fn restore(&mut self, key: BalanceKey, balance: Balance, version: CommitSeq, linked: bool) {
        let number = self.insert(key, linked);
        self.slots.restore(number, balance, version);
    }

    /// Puts back the lock of an exclusive hold that recovery found open, after its balance.
    ///
    /// # Panics
    /// If there is no such balance, or it is locked already.
    pub fn restore_lock(&mut self, key: BalanceKey, token: Token) {
        let number = self.find(key).expect("a hold's balance comes before its lock");
        self.slots.lock(number, token);
    }

    /// Puts back the version of a value that recovery found, deleted or not.
    pub fn restore_record(&mut self, key: &Key, version: CommitSeq) {
        self.records.restore(key, version);
    }

    /// Whether nothing is granted and nobody waits: so it must be once everything is decided.
    /// Exclusive holds may stand.
    pub fn is_quiet(&self) -> bool {
        self.grants.is_empty()
            && self.exceptional.is_empty()
            && self.queues.is_empty()
            && self.slots.are_quiet()
            && self.records.are_quiet()
    }

    /// The seq of the state: every decision up to this is applied.
    pub fn applied(&self) -> CommitSeq {
        self.applied
    }

    #[inline]
    fn has_part(&self, txn: &Txn) -> bool {
        txn.shards & (1 << self.shard) != 0
    }

    #[inline]
    fn find(&self, key: BalanceKey) -> Option<u32> {
        self.find_hashed(key, self.hasher.hash_one(key))
    }

    #[inline]
    fn find_hashed(&self, key: BalanceKey, hash: u64) -> Option<u32> {
        self.index.find(hash, |slot| self.slots.key(*slot) == key).copied()
    }

    fn insert(&mut self, key: BalanceKey, linked: bool) -> u32 {
        let number = self.slots.push(key, linked);
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash = hasher.hash_one(key);
        self.index.insert_unique(hash, number, |other| hasher.hash_one(slots.key(*other)));
        number
    }

    fn queue(&mut self, slot: u32) -> &mut Queue {
        self.queues.get_mut(&slot).expect("a contended balance has a queue")
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

    /// All balances of an account, as of [`Balances::applied`].
    pub fn read(&self, account: AccountId, assets: usize) -> AccountBalances {
        let balances = (0..u32::try_from(assets).expect("ASSETS_MAX fits"))
            .filter_map(|asset| self.read_one(BalanceKey { account, asset: AssetId::new(asset) }))
            .collect();
        AccountBalances { seq: self.applied, balances }
    }

    /// Each of these balances of this shard, as of [`Balances::applied`]: zeros of version 0 for one
    /// that was never touched.
    pub fn read_many(&self, keys: &[BalanceKey]) -> ManyBalances {
        let read = |key: &BalanceKey| {
            let number = self.find(*key)?;
            Some((self.slots.balance(number), self.slots.version(number)))
        };
        let balances = keys.iter().map(|key| read(key).unwrap_or_default()).collect();
        ManyBalances { seq: self.applied, balances }
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
mod chance;
#[cfg(test)]
mod scripts;
