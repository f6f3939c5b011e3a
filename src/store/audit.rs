//! The offline proof: that the journal is whole, that its balances follow from its requests, and
//! that everything derived from it says the same.
//!
//! What is checked
//! * every block: its checksum, that each record reads back, that its number, seqs, time and the
//!   hash of the block before follow;
//! * every commit, against the state that the ones before it lead to: see [`super::replay`];
//! * every request id has one outcome (I7);
//! * in total: per asset, deposits − withdrawals = the sum of all balances = the stored supply; per
//!   balance, what is held is what the open holds set aside;
//! * the version store holds exactly the versions of balances and values that the journal wrote up
//!   to its marks, the outcome index exactly the ids, the holds that ended, and the references that
//!   were credited. They are compared as multisets by a sum of 128-bit hashes, so the order of the
//!   rows does not matter; only if the sums differ is the first offending seq looked for;
//! * of history below the horizon, the version store holds at least what is needed to read as of the
//!   horizon; older versions may be there or not;
//! * the stored table of open holds is the replayed one;
//! * balances as of random seqs are found as the journal says ([`check_random_versions`]).
//!
//! Memory grows with the number of balances, request ids, open holds and keys: each is held once.

mod random;
#[cfg(test)]
mod tests;
mod versions;

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use xxhash_rust::xxh3::xxh3_128;

use self::versions::{Multiset, Versions, balance_hash, record_hash};
use super::account_orders::Placed;
use super::journal::{Block, CommitRecord, Event, RefusalRecord, Verdict};
use super::orders::{self, StoredOrder, Traded};
use super::recovery::{Tail, check_mark, put_key};
use super::replay::{State, Table, compare_holds, compare_orders, found};
use super::{Applied, DirectoryRow, Journal, Position, StoreError, VersionStore};
use crate::directory::{Change, Directory};
use crate::error::Reject;
use crate::market::Standing;
use crate::request::{Command, Hold};
use crate::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, Key, MarketId,
    RequestId, Token,
};

pub use self::random::{RANDOM_VERSIONS, check_random_versions};
pub use super::replay::{Failure, Finding};

/// Is shown a key, the commit_seq of one of its versions, and the value, or `None` where that
/// deleted it.
pub type ShowRecord<'a> = &'a mut dyn FnMut(Key, CommitSeq, Option<&[u8]>);

/// Everything that is derived from the journal, row by row.
pub trait Derived {
    /// Shows every stored version of every balance.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or what the disk says.
    fn all_versions(
        &self,
        version: &mut dyn FnMut(BalanceKey, CommitSeq, Balance),
    ) -> Result<(), StoreError>;

    /// Shows every indexed request id with the block that has its outcome.
    ///
    /// # Errors
    /// As [`Derived::all_versions`].
    fn all_outcomes(
        &self,
        outcome: &mut dyn FnMut(RequestId, BlockNumber),
    ) -> Result<(), StoreError>;

    /// Shows every stored version of every value under a caller's key.
    ///
    /// # Errors
    /// As [`Derived::all_versions`].
    fn all_records(&self, record: ShowRecord<'_>) -> Result<(), StoreError>;

    /// Shows every hold that was ended, with the block that did so.
    ///
    /// # Errors
    /// As [`Derived::all_versions`].
    fn all_resolved(&self, resolved: &mut dyn FnMut(Token, BlockNumber)) -> Result<(), StoreError>;

    /// Shows every order that stood and ended, with the block that ended it.
    ///
    /// # Errors
    /// As [`Derived::all_versions`].
    fn all_ended(&self, ended: &mut dyn FnMut(RequestId, BlockNumber)) -> Result<(), StoreError>;

    /// Shows every commit with trades, by market.
    ///
    /// # Errors
    /// As [`Derived::all_versions`].
    fn all_trades(&self, trade: &mut dyn FnMut(MarketId, CommitSeq)) -> Result<(), StoreError>;

    /// Shows every order, by whose it is.
    ///
    /// # Errors
    /// As [`Derived::all_versions`].
    fn all_placed(&self, placed: &mut dyn FnMut(AccountId, Placed)) -> Result<(), StoreError>;

    /// Shows every order that stands, by whose it is.
    ///
    /// # Errors
    /// As [`Derived::all_versions`].
    fn all_open(&self, open: &mut dyn FnMut(AccountId, Placed)) -> Result<(), StoreError>;

    /// Shows every reference that was credited ([`crate::request::Transfer::reference_hash`]), with
    /// the commit_seq of its deposit.
    ///
    /// # Errors
    /// As [`Derived::all_versions`].
    fn all_references(
        &self,
        reference: &mut dyn FnMut(AssetId, u128, CommitSeq),
    ) -> Result<(), StoreError>;

    /// Reads every row of everything that is stored, also of what nothing here is compared with.
    ///
    /// # Errors
    /// As [`Derived::all_versions`].
    fn read_through(&self) -> Result<(), StoreError>;
}

/// What was checked, and how much of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Journal blocks.
    pub blocks: u64,
    /// Commits in them.
    pub commits: u64,
    /// Refusals in them.
    pub refusals: u64,
    /// Balance changes in the commits.
    pub changes: u64,
    /// Bytes of the blocks.
    pub journal_bytes: u64,
    /// Balances at the end.
    pub balances: u64,
    /// Assets.
    pub assets: u64,
    /// Accounts.
    pub accounts: u64,
    /// Versions of balances in the version store.
    pub versions: u64,
    /// Of those, how many were asked for as of random seqs.
    pub random_versions: u64,
    /// Versions of values in the version store.
    pub records: u64,
    /// Keys that have a value at the end.
    pub keys: u64,
    /// Holds that are open at the end.
    pub holds: u64,
    /// Holds that were ended.
    pub resolved: u64,
    /// References that were credited.
    pub references: u64,
    /// Request ids in the outcome index.
    pub outcomes: u64,
    /// The oldest seq as of which everything can be read.
    pub horizon: CommitSeq,
    /// The journal's end.
    pub end: Position,
    /// How far the derived families are.
    pub applied: Applied,
}

fn outcome_hash(id: RequestId, block: BlockNumber) -> u128 {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&id.get().to_le_bytes());
    bytes[16..].copy_from_slice(&block.get().to_le_bytes());
    xxh3_128(&bytes)
}

fn trade_hash(market: MarketId, seq: CommitSeq) -> u128 {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&market.get().to_le_bytes());
    bytes[4..].copy_from_slice(&seq.get().to_le_bytes());
    xxh3_128(&bytes)
}

fn placed_hash(account: AccountId, placed: &Placed) -> u128 {
    let mut bytes = [0; 36];
    bytes[..16].copy_from_slice(&placed.order.get().to_le_bytes());
    bytes[16..24].copy_from_slice(&account.get().to_le_bytes());
    bytes[24..32].copy_from_slice(&placed.since.get().to_le_bytes());
    bytes[32..].copy_from_slice(&placed.market.get().to_le_bytes());
    xxh3_128(&bytes)
}

fn reference_hash(asset: AssetId, reference: u128, seq: CommitSeq) -> u128 {
    let mut bytes = [0; 28];
    bytes[..16].copy_from_slice(&reference.to_le_bytes());
    bytes[16..20].copy_from_slice(&asset.get().to_le_bytes());
    bytes[20..].copy_from_slice(&seq.get().to_le_bytes());
    xxh3_128(&bytes)
}

/// Audits a data directory that no engine has open.
///
/// `mark`: how far the journal must reach. `random_versions`: how many versions to ask for at random
/// ([`RANDOM_VERSIONS`] will do). `progress` is told the number of each block read.
///
/// # Errors
/// The first finding, or why the store cannot be read.
pub fn audit(
    journal: &dyn Journal,
    store: &dyn VersionStore,
    derived: &dyn Derived,
    mark: Position,
    random_versions: u64,
    progress: &mut dyn FnMut(BlockNumber),
) -> Result<Report, Failure> {
    check_mark(journal.last()?.as_ref(), mark)?;
    let applied = store.applied()?;
    let mut replay = Replay::new(applied, store.horizon()?);
    let mut tail = Tail::open(journal, BlockNumber::default())?;
    while let Some(block) = tail.read_next()? {
        progress(block.header().number);
        replay.block(&block)?;
    }
    replay.report.end = tail.at;
    if [applied.versions, applied.outcomes, applied.records].iter().any(|mark| *mark > tail.at) {
        let what = format!("the version store is ahead of the journal, which ends at {}", tail.at);
        return Err(found(tail.at.seq.next(), what));
    }
    replay.check_totals(journal)?;
    replay.check_directory(journal)?;
    replay.check_versions(journal, store, derived)?;
    replay.check_records(derived)?;
    replay.check_outcomes(store, derived)?;
    derived.read_through()?;
    replay.report.random_versions = check_random_versions(journal, store, random_versions, 0)?;
    Ok(replay.report)
}

/// The journal replayed: the state that it leads to, and what it says the store must hold.
struct Replay {
    report: Report,
    state: State,
    ids: HashSet<RequestId, RandomState>,
    directory: Directory,
    versions: Versions<BalanceKey>,
    records: Versions<Key>,
    outcomes: Multiset,
    resolved: Multiset,
    references: Multiset,
    ended: Multiset,
    trades: Multiset,
    placed: Multiset,
    /// Orders that stand as of what is folded, with whose they are.
    open: Table<RequestId, (AccountId, Placed)>,
    /// Open holds as of what is folded.
    holds: Table<Token, Hold>,
    /// Open orders as of what is folded.
    orders: Table<RequestId, StoredOrder>,
}

impl Replay {
    fn new(applied: Applied, horizon: CommitSeq) -> Self {
        Self {
            report: Report { applied, horizon, ..Report::default() },
            state: State::default(),
            ids: HashSet::default(),
            directory: Directory::new(),
            versions: Versions::new(applied.versions.seq, horizon),
            records: Versions::new(applied.records.seq, horizon),
            outcomes: Multiset::default(),
            resolved: Multiset::default(),
            references: Multiset::default(),
            ended: Multiset::default(),
            trades: Multiset::default(),
            placed: Multiset::default(),
            open: Table::default(),
            holds: Table::default(),
            orders: Table::default(),
        }
    }

    fn block(&mut self, block: &Block) -> Result<(), Failure> {
        let header = *block.header();
        let report = &mut self.report;
        report.blocks += 1;
        report.commits += u64::from(header.commits);
        report.refusals += u64::from(header.refusals);
        report.journal_bytes += block.bytes().len() as u64;
        for commit in block.commits() {
            self.state.commit(&commit, header.time)?;
            self.commit(&commit)?;
        }
        for refusal in block.refusals() {
            check_refusal(&refusal, header.last_seq())?;
        }
        let is_folded = header.number <= self.report.applied.outcomes.block;
        let mut repeated = None;
        block.visit_ids(|id| {
            if is_folded {
                self.outcomes.add(outcome_hash(id, header.number));
            }
            if !self.ids.insert(id) {
                repeated.get_or_insert(id);
            }
        });
        if let Some(id) = repeated {
            let what = format!("request {id} has a second outcome, in block {}", header.number);
            return Err(found(header.last_seq(), what));
        }
        if is_folded {
            self.folded_events(block);
        }
        if header.number == self.report.applied.outcomes.block {
            self.holds.clone_from(&self.state.holds);
            self.orders.clone_from(&self.state.orders);
        }
        Ok(())
    }

    /// What the index must hold because of a block.
    fn folded_events(&mut self, block: &Block) {
        let number = block.header().number;
        block.visit_events(|seq, event| match event {
            Event::Resolved(token, _) => {
                self.resolved.add(outcome_hash(token.request(), number));
            }
            Event::Credited(asset, hash) => {
                self.references.add(reference_hash(asset, hash, seq));
            }
            Event::Traded(traded) => {
                self.placed(&traded, seq);
                orders::ended(&traded).for_each(|order| {
                    self.open.remove(&order);
                    self.ended.add(outcome_hash(order, number));
                });
                if !traded.settlement.fills.is_empty() {
                    self.trades.add(trade_hash(traded.settlement.market, seq));
                }
            }
            Event::Held(_) | Event::Wrote(_) => {}
        });
    }

    /// What the index must hold because an order came.
    fn placed(&mut self, traded: &Traded, seq: CommitSeq) {
        let Some((order, _)) = &traded.placed else { return };
        let placed = Placed { since: seq, order: traded.request, market: order.market };
        self.placed.add(placed_hash(order.account, &placed));
        let orders = &traded.settlement.orders;
        if orders.iter().any(|it| it.order == placed.order && it.standing == Standing::Open) {
            self.open.insert(placed.order, (order.account, placed));
        }
    }

    /// What the version store must hold because of a commit.
    fn commit(&mut self, commit: &CommitRecord) -> Result<(), Failure> {
        let seq = commit.seq;
        for (op, row) in commit.rows() {
            self.report.changes += 1;
            self.versions.write(seq, balance_hash(op.key, seq, row.after));
        }
        if let Command::Transact(transact) = &commit.txn.command {
            for write in &transact.writes {
                let hash = record_hash(&write.key, seq, write.value.as_deref());
                self.records.write(seq, hash);
            }
        }
        if self.versions.is_horizon(seq) {
            let balances = self.state.balances.iter();
            self.versions.keep(
                balances
                    .map(|(key, (seq, balance))| (*key, *seq, balance_hash(*key, *seq, *balance))),
            );
        }
        if self.records.is_horizon(seq) {
            let records = self.state.records.iter();
            self.records.keep(records.map(|(key, now)| {
                (key.clone(), now.seq, record_hash(key, now.seq, now.value.as_deref()))
            }));
        }
        if commit.txn.command.is_directory() {
            self.change_directory(&commit.txn.command, seq)?;
        }
        Ok(())
    }

    fn change_directory(&mut self, command: &Command, seq: CommitSeq) -> Result<(), Failure> {
        let change = self.directory.check(command);
        if change.map_err(|reject| found(seq, reject.to_string()))? == Change::Changed {
            self.directory.apply(command, seq);
        }
        Ok(())
    }

    /// Per asset: deposits − withdrawals = the sum of all balances = what is stored. Per balance: what
    /// is held is what open holds set aside.
    fn check_totals(&mut self, journal: &dyn Journal) -> Result<(), Failure> {
        let end = self.report.end.seq;
        let mut sums: Table<AssetId, Amount> = Table::default();
        for (key, (_, balance)) in &self.state.balances {
            let sum = sums.entry(key.asset).or_default();
            *sum = sum
                .checked_add(balance.total())
                .ok_or_else(|| found(end, "balances sum to more than 128 bits"))?;
        }
        let stored: Table<AssetId, Amount> = journal.supplies()?.into_iter().collect();
        let of = |all: &Table<AssetId, Amount>, asset| all.get(&asset).copied().unwrap_or_default();
        let assets = self.directory.assets_len();
        for asset in (0..assets).map(|n| AssetId::new(u32::try_from(n).expect("ASSETS_MAX fits"))) {
            let (supply, sum, stored) =
                (of(&self.state.supplies, asset), of(&sums, asset), of(&stored, asset));
            if supply != sum || supply != stored {
                let what = format!(
                    "asset {asset}: deposits − withdrawals are {supply}, balances sum to {sum}, the \
                     stored supply is {stored}"
                );
                return Err(found(end, what));
            }
        }
        self.report.balances = self.state.balances.len() as u64;
        self.report.holds = self.state.holds.len() as u64;
        let values = self.state.records.values();
        self.report.keys = values.filter(|now| now.value.is_some()).count() as u64;
        self.state.check_held()
    }

    /// The stored directory is the one that the journal's commands lead to.
    fn check_directory(&mut self, journal: &dyn Journal) -> Result<(), Failure> {
        let stored = Directory::new();
        let mut accounts: Vec<AccountId> = Vec::new();
        journal.directory(&mut |row| match row {
            DirectoryRow::Asset(_, spec) => stored.insert_asset(spec),
            DirectoryRow::Account(account, links) => {
                stored.insert_account(account, &links);
                accounts.push(account);
            }
            DirectoryRow::Market(market, spec, halted) => {
                stored.insert_market(*spec);
                stored.switch_market(market, halted);
            }
            DirectoryRow::ApiKey(_, key, revoked) => put_key(&stored, *key, revoked),
            DirectoryRow::Operation(state) => stored.operate(state),
        })?;
        self.report.assets = stored.assets_len() as u64;
        self.report.accounts = accounts.len() as u64;
        let end = self.report.end.seq;
        if stored.assets() != self.directory.assets() {
            return Err(found(end, "the stored assets are not those of the journal"));
        }
        if stored.markets() != self.directory.markets() {
            return Err(found(end, "the stored markets are not those of the journal"));
        }
        if stored.keys() != self.directory.keys() {
            return Err(found(end, "the stored API keys are not those of the journal"));
        }
        if stored.operation() != self.directory.operation() {
            return Err(found(end, "the stored state of operation is not that of the journal"));
        }
        if accounts.len() != self.directory.accounts_len() {
            return Err(found(end, "the stored accounts are not those of the journal"));
        }
        for account in accounts {
            if stored.links(account) != self.directory.links(account) {
                let what = format!("the stored links of account {account} are not the journal's");
                return Err(found(end, what));
            }
        }
        Ok(())
    }

    fn check_versions(
        &mut self,
        journal: &dyn Journal,
        store: &dyn VersionStore,
        derived: &dyn Derived,
    ) -> Result<(), Failure> {
        let (mut stored, mut count) = (Multiset::default(), 0);
        derived.all_versions(&mut |key, seq, balance| {
            count += 1;
            if !self.versions.may_be_gone(&key, seq) {
                stored.add(balance_hash(key, seq, balance));
            }
        })?;
        self.report.versions = count;
        if stored == self.versions.expected {
            return Ok(());
        }
        self.first_missing_version(journal, store)?;
        self.first_foreign_version(journal, derived)
    }

    /// Looks for the first version that the journal wrote and the store does not show.
    fn first_missing_version(
        &self,
        journal: &dyn Journal,
        store: &dyn VersionStore,
    ) -> Result<(), Failure> {
        let mut tail = Tail::open(journal, BlockNumber::default())?;
        while let Some(block) = tail.read_next()? {
            let folded = self.report.applied.versions.seq;
            for commit in block.commits().filter(|it| it.seq <= folded) {
                for (op, row) in commit.rows() {
                    if self.versions.may_be_gone(&op.key, commit.seq) {
                        continue;
                    }
                    if store.get_at(op.key, commit.seq)? != Some((commit.seq, row.after)) {
                        let BalanceKey { account, asset } = op.key;
                        let what = format!(
                            "the version store does not show the journal's balance of asset {asset} of \
                             account {account}"
                        );
                        return Err(found(commit.seq, what));
                    }
                }
            }
        }
        Ok(())
    }

    /// The store shows all that the journal wrote, so it holds more: looks for the lowest of that.
    fn first_foreign_version(
        &self,
        journal: &dyn Journal,
        derived: &dyn Derived,
    ) -> Result<(), Failure> {
        let mut written: HashSet<u128, RandomState> = HashSet::default();
        let mut tail = Tail::open(journal, BlockNumber::default())?;
        while let Some(block) = tail.read_next()? {
            block.visit_rows(|seq, key, after| {
                written.insert(balance_hash(key, seq, after));
            });
        }
        let mut lowest = CommitSeq::new(u64::MAX);
        derived.all_versions(&mut |key, seq, balance| {
            if !written.remove(&balance_hash(key, seq, balance)) {
                lowest = lowest.min(seq);
            }
        })?;
        Err(found(lowest, "the version store holds a version that the journal has not"))
    }

    fn check_records(&mut self, derived: &dyn Derived) -> Result<(), Failure> {
        let (mut stored, mut count) = (Multiset::default(), 0);
        derived.all_records(&mut |key, seq, value| {
            count += 1;
            if !self.records.may_be_gone(&key, seq) {
                stored.add(record_hash(&key, seq, value));
            }
        })?;
        self.report.records = count;
        same("the versions of callers' values", stored, self.records.expected)
    }

    fn check_outcomes(
        &mut self,
        store: &dyn VersionStore,
        derived: &dyn Derived,
    ) -> Result<(), Failure> {
        let mut stored = Multiset::default();
        derived.all_outcomes(&mut |id, block| stored.add(outcome_hash(id, block)))?;
        self.report.outcomes = stored.count;
        same("the index of request ids", stored, self.outcomes)?;
        let mut stored = Multiset::default();
        derived.all_resolved(&mut |token, block| {
            stored.add(outcome_hash(token.request(), block));
        })?;
        self.report.resolved = stored.count;
        same("the index of ended holds", stored, self.resolved)?;
        let mut stored = Multiset::default();
        derived.all_references(&mut |asset, reference, seq| {
            stored.add(reference_hash(asset, reference, seq));
        })?;
        self.report.references = stored.count;
        same("the index of credited references", stored, self.references)?;
        let mut stored = Multiset::default();
        derived.all_ended(&mut |order, block| stored.add(outcome_hash(order, block)))?;
        same("the index of ended orders", stored, self.ended)?;
        let mut stored = Multiset::default();
        derived.all_trades(&mut |market, seq| stored.add(trade_hash(market, seq)))?;
        same("the index of trades", stored, self.trades)?;
        let mut stored = Multiset::default();
        derived.all_placed(&mut |account, placed| stored.add(placed_hash(account, &placed)))?;
        same("the index of accounts' orders", stored, self.placed)?;
        let (mut stored, mut expected) = (Multiset::default(), Multiset::default());
        derived.all_open(&mut |account, placed| stored.add(placed_hash(account, &placed)))?;
        let open = self.open.values();
        open.for_each(|(account, placed)| expected.add(placed_hash(*account, placed)));
        same("the index of accounts' open orders", stored, expected)?;
        let folded = self.report.applied.outcomes.seq;
        compare_holds(&self.holds, folded, store)?;
        compare_orders(&self.orders, folded, store)
    }
}

/// A refusal saw a state that had come about, and a repeat repeats what had happened by then.
fn check_refusal(refusal: &RefusalRecord, last: CommitSeq) -> Result<(), Failure> {
    let id = refusal.id;
    if refusal.seq > last {
        return Err(found(last, format!("the refusal of request {id} saw a later state")));
    }
    match &refusal.verdict {
        Verdict::Done(first) if *first > refusal.seq || *first == CommitSeq::default() => {
            Err(found(last, format!("request {id} repeats what had not happened, seq {first}")))
        }
        Verdict::Reject(
            Reject::AlreadyResolved { seq, .. } | Reject::AlreadyCredited { seq, .. },
        ) if *seq > refusal.seq => {
            Err(found(last, format!("request {id} is refused for what happened later, at {seq}")))
        }
        _ => Ok(()),
    }
}

fn same(what: &str, stored: Multiset, expected: Multiset) -> Result<(), Failure> {
    if stored == expected {
        return Ok(());
    }
    let (stored, expected) = (stored.count, expected.count);
    let what =
        format!("{what}: {stored} are stored, and not what the journal's {expected} lead to");
    Err(Failure::Found(Finding { seq: None, what }))
}
