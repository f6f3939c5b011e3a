//! What is done before the first request: look at the journal, refuse or bring everything up.
//!
//! What is in the journal happened, what is not did not. So recovery checks that the journal is
//! whole as far as can be known, folds what the version store lacks, and reads the rest of the
//! state back: directory, supplies, balances, recent request ids.
//!
//! Invariants, each refused with what is wrong and what to do
//! * The journal reaches the mark: no synced block is missing.
//! * From the lowest applied mark to the end, blocks are dense, each names the hash of the one
//!   before, commit_seq is dense, logical time does not go back, checksums match.
//! * No applied mark is beyond the journal, and each stands at the end of a block.
//! * Per asset, the balances add up to deposits less withdrawals (I5).
//! * Per balance, what is held is what open holds and orders have set aside, no more and no less.

use std::collections::BTreeMap;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::holds::set_aside;
use super::journal::{Block, BlockHash};
use super::log_core::LogStart;
use super::materializer::Folder;
use super::orders::StoredOrder;
use super::start_progress::{Phase, StartProgress};
use super::{
    Applied, Beginning, DirectoryRow, Journal, Position, RESTORE, StoreError, VersionStore,
};
use crate::access::ApiKey;
use crate::directory::Directory;
use crate::faults::{Bug, planted, point};
use crate::market::OpenOrder;
use crate::request::Hold;
use crate::types::{
    Amount, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, Key, RequestId, Time,
};

/// What was found, once everything is brought up: `A` = `D` = `last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The end of the journal.
    pub last: Position,
    /// Hash of its last block.
    pub hash: BlockHash,
    /// Logical time of its last block; 0 while there is none.
    pub time: Time,
    /// Deposits less withdrawals, by asset number.
    pub supplies: Vec<Amount>,
    /// How far the version store is.
    pub applied: Applied,
    /// Blocks that it lacked and now has.
    pub folded_blocks: u64,
    /// Requests in those.
    pub folded_requests: u64,
}

impl Recovered {
    /// What the commit log goes on from.
    pub fn log_start(&self) -> LogStart {
        LogStart { last: self.last, hash: self.hash, supplies: self.supplies.clone() }
    }
}

/// Checks the journal, brings the version store up to it, and fills the directory. Gathers up to
/// `fold_requests_max` requests for a fold.
///
/// # Errors
/// [`StoreError::Damaged`] with what is wrong and what to do, or what the disk says.
pub fn recover(
    journal: &dyn Journal,
    store: &dyn VersionStore,
    mark: Position,
    directory: &Directory,
    fold_requests_max: usize,
) -> Result<Recovered, StoreError> {
    let progress = StartProgress::default();
    recover_watched(journal, store, mark, directory, fold_requests_max, &progress)
}

/// [`recover`], which says how far it is.
///
/// # Errors
/// As [`recover`]; also when it is asked to stop.
pub fn recover_watched(
    journal: &dyn Journal,
    store: &dyn VersionStore,
    mark: Position,
    directory: &Directory,
    fold_requests_max: usize,
    progress: &StartProgress,
) -> Result<Recovered, StoreError> {
    let last = journal.last()?;
    if !planted(Bug::IgnoreMark) {
        check_mark(last.as_ref(), mark)?;
        check_mark_block(journal, mark)?;
    }
    check_beginning(journal)?;
    let end = last.as_ref().map(Position::after).unwrap_or_default();
    let applied = store.applied()?;
    check_applied(applied, end)?;
    point!("recover.checked");
    progress.enter(Phase::Folding, end.block.get() - applied.all().block.get());
    let mut tail = Tail::open(journal, applied.all().block)?;
    check_applied_inside(applied, tail.at)?;
    let mut folder = Folder::new(applied);
    let (mut folded_blocks, mut folded_requests) = (0, 0);
    while let Some(block) = tail.read_next()? {
        check_applied_inside(applied, Position::after(&block))?;
        folder.add(&block);
        folded_blocks += 1;
        progress.block()?;
        if folder.is_full(fold_requests_max) {
            point!("recover.fold");
            folded_requests += folder.requests() as u64;
            folder.finish(store)?;
            point!("recover.folded");
        }
    }
    point!("recover.fold-rest");
    folded_requests += folder.requests() as u64;
    folder.finish(store)?;
    point!("recover.folded-rest");
    if tail.at != end {
        return Err(StoreError::block(tail.at.block.next(), "it is missing"));
    }
    progress.enter(Phase::Loading, 0);
    fill(directory, journal)?;
    point!("recover.directory");
    Ok(Recovered {
        last: end,
        hash: last.as_ref().map_or(BlockHash::GENESIS, Block::hash),
        time: last.as_ref().map_or(Time::default(), |block| block.header().time),
        supplies: supplies(journal)?,
        applied: store.applied()?,
        folded_blocks,
        folded_requests,
    })
}

/// Refuses a journal that falls short of what was synced.
///
/// # Errors
/// [`StoreError::Damaged`] saying which blocks are missing.
pub fn check_mark(last: Option<&Block>, mark: Position) -> Result<(), StoreError> {
    let end = last.map(Position::after).unwrap_or_default();
    if end.block < mark.block {
        return Err(StoreError::Damaged(format!(
            "the journal ends at {end}, but {mark} was acknowledged as durable: blocks {} to {} are \
             missing, so the log was cut or damaged; {RESTORE}",
            end.block.next(),
            mark.block
        )));
    }
    Ok(())
}

/// Where older blocks are in the archive, the first of the others must follow them.
///
/// # Errors
/// [`StoreError::Damaged`] with the block that does not, or is missing.
pub fn check_beginning(journal: &dyn Journal) -> Result<(), StoreError> {
    let Some(Beginning { after, hash }) = journal.beginning() else { return Ok(()) };
    let first = after.block.next();
    let block = journal.block(first)?.ok_or_else(|| StoreError::block(first, "it is missing"))?;
    let header = block.header();
    if header.previous != hash || header.first_seq != after.seq.next() {
        return Err(StoreError::block(first, "it does not follow the last block in the archive"));
    }
    Ok(())
}

/// The block that the mark names must be the one that was marked.
fn check_mark_block(journal: &dyn Journal, mark: Position) -> Result<(), StoreError> {
    // Of a block in the archive, what was archived after it proves more than the mark.
    let archived = journal.beginning().map_or(BlockNumber::default(), |it| it.after.block);
    if mark.block <= archived {
        return Ok(());
    }
    match journal.block(mark.block)?.as_ref().map(Position::after) {
        Some(found) if found == mark => Ok(()),
        Some(found) => {
            let what =
                format!("it ends at seq {}, but {} was durable with it", found.seq, mark.seq);
            Err(StoreError::block(mark.block, what))
        }
        None => Err(StoreError::block(mark.block, "it is missing")),
    }
}

fn families(applied: Applied) -> [(&'static str, Position); 3] {
    let Applied { versions, outcomes, records } = applied;
    [("versions", versions), ("outcomes", outcomes), ("records", records)]
}

/// Refuses derived families that are ahead of the journal, which ends at `end`.
///
/// # Errors
/// [`StoreError::Damaged`] naming the family.
pub fn check_applied(applied: Applied, end: Position) -> Result<(), StoreError> {
    for (name, at) in families(applied) {
        if at.block > end.block || at.seq > end.seq {
            return Err(StoreError::Damaged(format!(
                "family {name} is at {at}, beyond the journal's end at {end}: synced blocks are \
                 missing; {RESTORE}"
            )));
        }
    }
    Ok(())
}

/// An applied mark that names this block must name its seq.
fn check_applied_inside(applied: Applied, at: Position) -> Result<(), StoreError> {
    for (name, mark) in families(applied) {
        if mark.block == at.block && mark.seq != at.seq {
            return Err(StoreError::Damaged(format!(
                "family {name} is at {mark}, but that block ends at seq {}; {RESTORE}",
                at.seq
            )));
        }
    }
    Ok(())
}

/// The blocks behind a place, each checked against the one before it.
pub struct Tail<'a> {
    blocks: Box<dyn Iterator<Item = Result<Block, StoreError>> + 'a>,
    /// The end of the last block that was checked.
    pub at: Position,
    hash: BlockHash,
    time: Time,
}

impl<'a> Tail<'a> {
    /// Begins behind block `behind`, which is read for its hash; 0 begins with the first block.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when that block is missing or damaged.
    pub fn open(journal: &'a dyn Journal, behind: BlockNumber) -> Result<Self, StoreError> {
        let blocks = journal.read_from(behind.next());
        if behind == BlockNumber::default() {
            let (at, time) = (Position::default(), Time::default());
            return Ok(Self { blocks, at, hash: BlockHash::GENESIS, time });
        }
        let block =
            journal.block(behind)?.ok_or_else(|| StoreError::block(behind, "it is missing"))?;
        let (at, time) = (Position::after(&block), block.header().time);
        Ok(Self { blocks, at, hash: block.hash(), time })
    }

    /// The next block, checked; `None` at the journal's end.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with the number of the block and how it does not follow.
    pub fn read_next(&mut self) -> Result<Option<Block>, StoreError> {
        let Some(block) = self.blocks.next().transpose()? else { return Ok(None) };
        let header = *block.header();
        let expected = self.at.block.next();
        if header.number != expected {
            return Err(StoreError::block(expected, format!("{} follows instead", header.number)));
        }
        let wrong = |what: &str| Err(StoreError::block(expected, what));
        if header.previous != self.hash {
            return wrong("it does not name the hash of the block before it");
        }
        if header.first_seq != self.at.seq.next() {
            return wrong("its seqs do not follow those of the block before it");
        }
        if header.time < self.time {
            return wrong("its time is before that of the block before it");
        }
        (self.at, self.hash, self.time) = (Position::after(&block), block.hash(), header.time);
        Ok(Some(block))
    }
}

fn fill(directory: &Directory, journal: &dyn Journal) -> Result<(), StoreError> {
    journal.directory(&mut |row| match row {
        DirectoryRow::Asset(_, spec) => directory.insert_asset(spec),
        DirectoryRow::Account(account, links) => directory.insert_account(account, &links),
        DirectoryRow::Market(market, spec, halted) => {
            directory.insert_market(*spec);
            directory.switch_market(market, halted);
        }
        DirectoryRow::ApiKey(_, key, revoked) => put_key(directory, *key, revoked),
        DirectoryRow::Operation(state) => directory.operate(state),
    })
}

/// Adds an API key as it is stored.
pub(super) fn put_key(directory: &Directory, key: ApiKey, revoked: bool) {
    let name = key.name.clone();
    directory.put_key(key);
    if revoked {
        directory.revoke_key(&name);
    }
}

fn supplies(journal: &dyn Journal) -> Result<Vec<Amount>, StoreError> {
    let mut supplies = Vec::new();
    for (asset, supply) in journal.supplies()? {
        let index = asset.get() as usize;
        if supplies.len() <= index {
            supplies.resize(index + 1, Amount::ZERO);
        }
        supplies[index] = supply;
    }
    Ok(supplies)
}

/// What open holds and open orders have set aside, by balance.
#[derive(Default)]
struct HeldSums {
    /// `None`: more than 128 bits hold.
    sums: HashMap<BalanceKey, Option<u128>, RandomState>,
}

impl HeldSums {
    fn of(holds: &[Hold]) -> Result<Self, StoreError> {
        let mut sums = Self::default();
        for hold in holds {
            let parts = set_aside(hold).map_err(|malformed| {
                let token = hold.token;
                StoreError::Damaged(format!("hold {token} cannot be: {malformed}; {RESTORE}"))
            })?;
            parts.into_iter().for_each(|(key, amount)| sums.add(key, amount));
        }
        Ok(sums)
    }

    /// Adds what open orders have set aside.
    fn add_orders(
        &mut self,
        orders: &[StoredOrder],
        directory: &Directory,
    ) -> Result<(), StoreError> {
        for StoredOrder { market, open, .. } in orders {
            let listed = directory.market(*market).ok_or_else(|| {
                let order = open.order;
                StoreError::Damaged(format!(
                    "order {order} stands in market {market}, which does not exist; {RESTORE}"
                ))
            })?;
            let OpenOrder { account, side, state, .. } = open;
            let key = BalanceKey { account: *account, asset: listed.spec.pays(*side) };
            let units = listed.spec.held(*side, state.price, state.left, state.carry);
            self.add(key, Amount::new(units));
        }
        Ok(())
    }

    fn add(&mut self, key: BalanceKey, amount: Amount) {
        let sum = self.sums.entry(key).or_insert(Some(0));
        *sum = sum.and_then(|sum| sum.checked_add(amount.get()));
    }

    /// Checks a balance off.
    fn check(&mut self, key: BalanceKey, held: Amount) -> Result<(), StoreError> {
        // Nearly always there are few holds, or none at all.
        let expected = match self.sums.is_empty() {
            true => Some(0),
            false => self.sums.remove(&key).unwrap_or(Some(0)),
        };
        if expected == Some(held.get()) { Ok(()) } else { Err(wrong_held(key, held, expected)) }
    }

    /// What is left was set aside of balances that are not there.
    fn check_rest(&self) -> Result<(), StoreError> {
        let rest = self.sums.iter().min_by_key(|(key, _)| **key);
        rest.map_or(Ok(()), |(key, sum)| Err(wrong_held(*key, Amount::ZERO, *sum)))
    }
}

fn wrong_held(key: BalanceKey, held: Amount, expected: Option<u128>) -> StoreError {
    let BalanceKey { account, asset } = key;
    let expected = expected.map_or("more than 128 bits hold".into(), |sum| sum.to_string());
    StoreError::Damaged(format!(
        "account {account} has {held} of asset {asset} set aside, but its open holds and orders \
         add up to {expected}; {RESTORE}"
    ))
}

/// Shows every open hold, by token.
///
/// # Errors
/// [`StoreError::Damaged`] or what the disk says.
pub fn holds(store: &dyn VersionStore, mut hold: impl FnMut(Hold)) -> Result<(), StoreError> {
    store.open_holds(&mut hold)
}

/// Shows every key that was ever written, with the seq of its newest version.
///
/// # Errors
/// [`StoreError::Damaged`] or what the disk says.
pub fn records(
    store: &dyn VersionStore,
    mut record: impl FnMut(Key, CommitSeq),
) -> Result<(), StoreError> {
    store.latest_records(&mut record)
}

fn check_newest(what: &str, newest: CommitSeq, recovered: &Recovered) -> Result<(), StoreError> {
    if newest <= recovered.last.seq {
        return Ok(());
    }
    let end = recovered.last;
    Err(StoreError::Damaged(format!(
        "{what} has seq {newest}, beyond the journal's end at {end}; {RESTORE}"
    )))
}

/// Shows the latest state of every balance, by account and asset, and checks that they add up to
/// the supplies, and that what is held of each is what open holds and orders, all of them, have set aside.
///
/// # Errors
/// [`StoreError::Damaged`] when they do not, or when a version is newer than the journal.
pub fn balances(
    store: &dyn VersionStore,
    recovered: &Recovered,
    (holds, orders, directory): (&[Hold], &[StoredOrder], &Directory),
    mut balance: impl FnMut(BalanceKey, Balance, CommitSeq),
) -> Result<u64, StoreError> {
    let mut held = HeldSums::of(holds)?;
    held.add_orders(orders, directory)?;
    let mut sums: BTreeMap<AssetId, Option<u128>> = BTreeMap::new();
    let mut newest = CommitSeq::default();
    let (mut count, mut wrong) = (0, Ok(()));
    store.latest(&mut |key, now, version| {
        let sum = sums.entry(key.asset).or_insert(Some(0));
        let parts = now.available.checked_add(now.held);
        *sum = sum.zip(parts).and_then(|(sum, parts)| sum.checked_add(parts.get()));
        newest = newest.max(version);
        count += 1;
        if wrong.is_ok() {
            wrong = held.check(key, now.held);
        }
        balance(key, now, version);
    })?;
    check_newest("a balance", newest, recovered)?;
    let newest = holds.iter().map(|hold| hold.since).max().unwrap_or_default();
    check_newest("an open hold", newest, recovered)?;
    check_sums(sums, recovered)?;
    wrong?;
    held.check_rest()?;
    Ok(count)
}

fn check_sums(
    sums: BTreeMap<AssetId, Option<u128>>,
    recovered: &Recovered,
) -> Result<(), StoreError> {
    let supplies = recovered.supplies.iter().enumerate();
    let mut expected: BTreeMap<AssetId, u128> =
        supplies.map(|(index, supply)| (AssetId::new(index as u32), supply.get())).collect();
    for (asset, sum) in sums {
        let supply = expected.remove(&asset).unwrap_or(0);
        check_sum(asset, sum, supply)?;
    }
    for (asset, supply) in expected {
        check_sum(asset, Some(0), supply)?;
    }
    Ok(())
}

fn check_sum(asset: AssetId, sum: Option<u128>, supply: u128) -> Result<(), StoreError> {
    if sum == Some(supply) {
        return Ok(());
    }
    let sum = sum.map_or("more than 128 bits hold".into(), |sum| sum.to_string());
    Err(StoreError::Damaged(format!(
        "the balances of asset {asset} add up to {sum}, but deposits less withdrawals are {supply}; \
         {RESTORE}"
    )))
}

/// Shows the version-7 request ids whose time is at most `window_ms` before the last logical
/// time, and every later one.
///
/// # Errors
/// [`StoreError::Damaged`] or what the disk says.
pub fn recent_ids(
    store: &dyn VersionStore,
    recovered: &Recovered,
    window_ms: u64,
    mut id: impl FnMut(RequestId),
) -> Result<(), StoreError> {
    store.ids_since(recovered.time.millis().saturating_sub(window_ms), &mut id)
}
