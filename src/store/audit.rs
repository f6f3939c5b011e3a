//! The offline proof: that the journal is whole, that its balances follow from its requests, and
//! that everything derived from it says the same.
//!
//! What is checked
//! * every block: its checksum, that each record reads back, that its number, seqs, time and the
//!   hash of the block before follow;
//! * every commit: the balance before each operation is the one that the last commit left there,
//!   the one after follows from the request, none is negative, and per asset the movements sum to
//!   zero (I5, I6);
//! * every request id has one outcome (I7);
//! * in total: per asset, deposits − withdrawals = the sum of all balances = the stored supply;
//! * the version store holds exactly the versions that the journal wrote up to its mark, and the
//!   outcome index exactly the ids. Both are compared as multisets by a sum of 128-bit hashes, so
//!   the order of the rows does not matter; only if the sums differ is the first offending seq
//!   looked for.
//!
//! Memory grows with the number of balances and of request ids: each is held once.

use std::fmt;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_128;

use super::journal::{Block, CommitRecord, check_conservation};
use super::recovery::{Tail, check_mark};
use super::{Applied, DirectoryRow, Journal, Position, StoreError, VersionStore};
use crate::directory::{Change, Directory};
use crate::message::{Op, Row, Side};
use crate::request::Command;
use crate::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, RequestId,
};

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
    /// Versions in the version store.
    pub versions: u64,
    /// Request ids in the outcome index.
    pub outcomes: u64,
    /// The journal's end.
    pub end: Position,
    /// How far the derived families are.
    pub applied: Applied,
}

/// The first thing that is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The first offending seq, where there is one.
    pub seq: Option<CommitSeq>,
    /// What is off.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => write!(f, "seq {seq}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// Why there is no clean report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Something is off.
    Found(Finding),
    /// The store cannot be read.
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(what) | StoreError::Violation(what) => {
                Self::Found(Finding { seq: None, what })
            }
            error => Self::Store(error),
        }
    }
}

fn found(seq: CommitSeq, what: impl Into<String>) -> Failure {
    Failure::Found(Finding { seq: Some(seq), what: what.into() })
}

/// Rows as a multiset: equal if count and sum of hashes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Multiset {
    count: u64,
    sum: u128,
}

impl Multiset {
    fn add(&mut self, hash: u128) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(hash);
    }
}

fn version_hash(key: BalanceKey, seq: CommitSeq, balance: Balance) -> u128 {
    let mut bytes = [0; 52];
    bytes[..8].copy_from_slice(&key.account.get().to_le_bytes());
    bytes[8..12].copy_from_slice(&key.asset.get().to_le_bytes());
    bytes[12..20].copy_from_slice(&seq.get().to_le_bytes());
    bytes[20..36].copy_from_slice(&balance.available.get().to_le_bytes());
    bytes[36..].copy_from_slice(&balance.held.get().to_le_bytes());
    xxh3_128(&bytes)
}

fn outcome_hash(id: RequestId, block: BlockNumber) -> u128 {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&id.get().to_le_bytes());
    bytes[16..].copy_from_slice(&block.get().to_le_bytes());
    xxh3_128(&bytes)
}

/// Audits a data directory that no engine has open.
///
/// `mark`: how far the journal must reach. `progress` is told the number of each block read.
///
/// # Errors
/// The first finding, or why the store cannot be read.
pub fn audit(
    journal: &dyn Journal,
    store: &dyn VersionStore,
    derived: &dyn Derived,
    mark: Position,
    progress: &mut dyn FnMut(BlockNumber),
) -> Result<Report, Failure> {
    check_mark(journal.last()?.as_ref(), mark)?;
    let applied = store.applied()?;
    let mut replay = Replay { applied, ..Replay::default() };
    let mut tail = Tail::open(journal, BlockNumber::default())?;
    while let Some(block) = tail.read_next()? {
        progress(block.header().number);
        replay.block(&block)?;
    }
    replay.report.end = tail.at;
    replay.report.applied = applied;
    if applied.versions > tail.at || applied.outcomes > tail.at {
        let what = format!("the version store is ahead of the journal, which ends at {}", tail.at);
        return Err(Failure::Found(Finding { seq: Some(tail.at.seq.next()), what }));
    }
    replay.check_totals(journal)?;
    replay.check_directory(journal)?;
    replay.check_versions(journal, store, derived)?;
    replay.check_outcomes(derived)?;
    Ok(replay.report)
}

/// The journal replayed: the state that it leads to, and what it says the store must hold.
#[derive(Default)]
struct Replay {
    report: Report,
    applied: Applied,
    balances: HashMap<BalanceKey, Balance, RandomState>,
    ids: HashSet<RequestId, RandomState>,
    directory: Directory,
    supplies: HashMap<AssetId, Amount>,
    versions: Multiset,
    outcomes: Multiset,
}

impl Replay {
    fn block(&mut self, block: &Block) -> Result<(), Failure> {
        let header = *block.header();
        let report = &mut self.report;
        report.blocks += 1;
        report.commits += u64::from(header.commits);
        report.refusals += u64::from(header.refusals);
        report.journal_bytes += block.bytes().len() as u64;
        for commit in block.commits() {
            self.id(commit.txn.id, header.number, commit.seq)?;
            self.commit(&commit)?;
        }
        for refusal in block.refusals() {
            self.id(refusal.id, header.number, header.last_seq())?;
            if refusal.seq > header.last_seq() {
                let what = format!("the refusal of request {} saw a later state", refusal.id);
                return Err(found(header.last_seq(), what));
            }
        }
        Ok(())
    }

    fn id(&mut self, id: RequestId, block: BlockNumber, seq: CommitSeq) -> Result<(), Failure> {
        if block <= self.applied.outcomes.block {
            self.outcomes.add(outcome_hash(id, block));
        }
        if self.ids.insert(id) {
            return Ok(());
        }
        Err(found(seq, format!("request {id} has a second outcome, in block {block}")))
    }

    fn commit(&mut self, commit: &CommitRecord) -> Result<(), Failure> {
        let (seq, txn) = (commit.seq, &commit.txn);
        let rows: Vec<(Op, Row)> = commit.rows().collect();
        let mut checked = Vec::with_capacity(rows.len());
        for (op, row) in rows {
            self.report.changes += 1;
            let was = self.balances.get(&op.key).copied().unwrap_or_default();
            let becomes = apply(&op, was).ok_or_else(|| {
                let BalanceKey { account, asset } = op.key;
                found(seq, format!("account {account} cannot pay {} of asset {asset}", op.amount))
            })?;
            if becomes != row.after {
                let BalanceKey { account, asset } = op.key;
                let (now, stored) = (becomes.total(), row.after.total());
                let what = format!(
                    "the balance of asset {asset} of account {account} is {now} by replay and {stored} \
                     in the journal"
                );
                return Err(found(seq, what));
            }
            self.balances.insert(op.key, becomes);
            if seq <= self.applied.versions.seq {
                self.versions.add(version_hash(op.key, seq, becomes));
            }
            checked.push(Row { before: was, after: becomes });
        }
        check_conservation(txn, &checked).map_err(|violation| found(seq, violation.0))?;
        self.command(&txn.command, seq)
    }

    fn command(&mut self, command: &Command, seq: CommitSeq) -> Result<(), Failure> {
        match command {
            Command::Swap(_) => {}
            Command::Deposit(to) => {
                let supply = self.supplies.entry(to.asset).or_default();
                *supply = supply
                    .checked_add(to.amount)
                    .ok_or_else(|| found(seq, "the supply exceeds 128 bits"))?;
            }
            Command::Withdraw(from) => {
                let supply = self.supplies.entry(from.asset).or_default();
                *supply = supply
                    .checked_sub(from.amount)
                    .ok_or_else(|| found(seq, "more is withdrawn than was deposited"))?;
            }
            directory => {
                let change = self.directory.check(directory);
                let change = change.map_err(|reject| found(seq, reject.to_string()))?;
                if change == Change::Changed {
                    self.directory.apply(directory, seq);
                }
            }
        }
        Ok(())
    }

    /// Per asset: deposits − withdrawals = the sum of all balances = what is stored.
    fn check_totals(&mut self, journal: &dyn Journal) -> Result<(), Failure> {
        let end = self.report.end.seq;
        let mut sums: HashMap<AssetId, Amount> = HashMap::new();
        for (key, balance) in &self.balances {
            let sum = sums.entry(key.asset).or_default();
            *sum = sum
                .checked_add(balance.total())
                .ok_or_else(|| found(end, "balances sum to more than 128 bits"))?;
        }
        let stored: HashMap<AssetId, Amount> = journal.supplies()?.into_iter().collect();
        let of =
            |all: &HashMap<AssetId, Amount>, asset| all.get(&asset).copied().unwrap_or_default();
        let assets = self.directory.assets_len();
        for asset in (0..assets).map(|n| AssetId::new(u32::try_from(n).expect("ASSETS_MAX fits"))) {
            let (supply, sum, stored) =
                (of(&self.supplies, asset), of(&sums, asset), of(&stored, asset));
            if supply != sum || supply != stored {
                let what = format!(
                    "asset {asset}: deposits − withdrawals are {supply}, balances sum to {sum}, the \
                     stored supply is {stored}"
                );
                return Err(found(end, what));
            }
        }
        self.report.balances = self.balances.len() as u64;
        Ok(())
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
        })?;
        self.report.assets = stored.assets_len() as u64;
        self.report.accounts = accounts.len() as u64;
        let end = self.report.end.seq;
        if stored.assets() != self.directory.assets() {
            return Err(found(end, "the stored assets are not those of the journal"));
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
        let mut stored = Multiset::default();
        derived
            .all_versions(&mut |key, seq, balance| stored.add(version_hash(key, seq, balance)))?;
        self.report.versions = stored.count;
        if stored == self.versions {
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
            for commit in block.commits().filter(|it| it.seq <= self.applied.versions.seq) {
                for (op, row) in commit.rows() {
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
                written.insert(version_hash(key, seq, after));
            });
        }
        let mut lowest = CommitSeq::new(u64::MAX);
        derived.all_versions(&mut |key, seq, balance| {
            if !written.remove(&version_hash(key, seq, balance)) {
                lowest = lowest.min(seq);
            }
        })?;
        Err(found(lowest, "the version store holds a version that the journal has not"))
    }

    fn check_outcomes(&mut self, derived: &dyn Derived) -> Result<(), Failure> {
        let mut stored = Multiset::default();
        derived.all_outcomes(&mut |id, block| stored.add(outcome_hash(id, block)))?;
        self.report.outcomes = stored.count;
        if stored == self.outcomes {
            return Ok(());
        }
        let (stored, expected) = (stored.count, self.outcomes.count);
        let what = format!(
            "the index of request ids holds {stored} and is not what the journal's {expected} lead to"
        );
        Err(Failure::Found(Finding { seq: None, what }))
    }
}

/// The balance after an operation; `None` if it would be negative or wrap.
fn apply(op: &Op, was: Balance) -> Option<Balance> {
    let available = match op.side {
        Side::Debit => was.available.checked_sub(op.amount)?,
        Side::Credit => was.available.checked_add(op.amount)?,
    };
    available.checked_add(was.held)?;
    Some(Balance { available, held: was.held })
}
