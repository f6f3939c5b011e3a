//! Blocks that are durable and not yet in the version store, readable by any thread.
//!
//! A block is added before `D` covers it and removed after the version store has it. So whoever
//! asks here *first* and asks the version store *then* misses nothing, however the two race; what
//! both have is the same.
//!
//! Most blocks are folded before anybody asks for anything in them. So nothing is indexed until
//! somebody asks; then an index is kept up, block by block, while questions keep coming (see
//! `index`), and it answers with seqs: what was done under them is read from the blocks.

mod index;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use super::journal::{Block, CommitRecord};
use super::{Position, RecordVersion};
use crate::message::BalanceNow;
use crate::request::Command;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{RwLock, RwLockReadGuard};
use crate::types::{
    AccountId, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, Key, MarketId, RequestId,
    Resolution, Token,
};
use index::{Credits, Ids, Kept, Orders, Records, Resolutions, Rows};

/// Questions about balances that are answered by looking through the blocks before an index is
/// made: that costs as much as a few of them.
const SCANS_BEFORE_INDEX: usize = 3;
/// Later than every block.
const ALL: CommitSeq = CommitSeq::new(u64::MAX);

/// A block that is not yet folded.
#[derive(Debug)]
pub struct UnfoldedBlock {
    /// The block.
    pub block: Arc<Block>,
}

impl UnfoldedBlock {
    /// Wraps it.
    pub fn new(block: Arc<Block>) -> Self {
        Self { block }
    }

    /// Commits and refusals in it.
    pub fn requests(&self) -> usize {
        let header = self.block.header();
        header.commits as usize + header.refusals as usize
    }
}

/// What a commit did to an order of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TouchedOrder {
    /// The commit.
    pub seq: CommitSeq,
    /// The order.
    pub order: RequestId,
    /// Its market.
    pub market: MarketId,
    /// Whether the commit placed it.
    pub placed: bool,
    /// Whether it stood then.
    pub open: bool,
}

/// All of them, oldest first.
#[derive(Debug, Default)]
pub struct Unfolded {
    blocks: RwLock<VecDeque<Arc<UnfoldedBlock>>>,
    requests: AtomicUsize,
    ids: Kept<Ids>,
    resolutions: Kept<Resolutions>,
    credits: Kept<Credits>,
    orders: Kept<Orders>,
    rows: Kept<Rows>,
    records: Kept<Records>,
}

impl Unfolded {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next block.
    pub fn push(&self, block: Arc<UnfoldedBlock>) {
        self.requests.fetch_add(block.requests(), Ordering::AcqRel);
        self.blocks.write().unwrap_or_else(PoisonError::into_inner).push_back(block);
    }

    /// Removes all blocks up to `number`: the version store has them.
    pub fn remove_through(&self, number: BlockNumber) {
        let gone = {
            let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
            let count = blocks.partition_point(|entry| entry.block.header().number <= number);
            blocks.drain(..count).collect::<Vec<_>>()
        };
        let Some(last) = gone.last().map(|entry| Position::after(&entry.block)) else { return };
        // Freed outside the lock: readers need not wait for it.
        let requests: usize = gone.iter().map(|entry| entry.requests()).sum();
        self.requests.fetch_sub(requests, Ordering::AcqRel);
        self.ids.forget(last);
        self.resolutions.forget(last);
        self.credits.forget(last);
        self.orders.forget(last);
        self.rows.forget(last);
        self.records.forget(last);
    }

    /// Requests in all of them.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }

    /// How many blocks there are.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last position in them; `None` while there are none.
    pub fn last(&self) -> Option<Position> {
        self.read().back().map(|entry| Position::after(&entry.block))
    }

    /// The newest version at or before `seq` of a balance, if these blocks have one.
    pub fn balance_at(&self, key: BalanceKey, seq: CommitSeq) -> Option<(CommitSeq, Balance)> {
        let newest = self.with_rows(key.account, seq, |rows| rows.newest(key, seq))?;
        // A block that was folded meanwhile is gone: the version store has it.
        Some((newest, balance_after(&self.commit_at(newest)?, key)))
    }

    /// The newest version at or before `seq` of each of an account's balances that these blocks
    /// changed, by asset.
    pub fn account_at(&self, account: AccountId, seq: CommitSeq) -> Vec<BalanceNow> {
        let newest = self.with_rows(account, seq, |rows| rows.newest_of_all(account, seq));
        let now = |(asset, version)| {
            let balance = balance_after(&self.commit_at(version)?, BalanceKey { account, asset });
            Some(BalanceNow { asset, balance, version })
        };
        newest.into_iter().filter_map(now).collect()
    }

    /// The seqs after `after`, up to `upto`, of the commits that changed a balance of an account, or
    /// its balance of one asset: ascending, the oldest `limit` of each balance at least.
    pub fn seqs_after(
        &self,
        account: AccountId,
        asset: Option<AssetId>,
        (after, upto): (CommitSeq, CommitSeq),
        limit: usize,
    ) -> Vec<CommitSeq> {
        let of = |rows: &Rows| rows.after(account, asset, (after, upto), limit);
        self.with_rows(account, upto, of)
    }

    /// The newest version at or before `seq` of a caller's key, if these blocks have one.
    pub fn record_at(&self, key: &Key, seq: CommitSeq) -> Option<RecordVersion> {
        let newest = self.with(&self.records, seq, |records| records.newest(key, seq))?;
        let Command::Transact(transact) = self.commit_at(newest)?.txn.command else {
            unreachable!("only transactions write under keys")
        };
        let write = transact.writes.into_iter().find(|write| write.key == *key);
        let value = write.expect("it is indexed because it writes there").value;
        Some(RecordVersion { seq: newest, value })
    }

    /// The first block that has an outcome of that request.
    pub fn find_id(&self, id: RequestId) -> Option<Arc<Block>> {
        let number = self.with(&self.ids, ALL, |ids| ids.block(id))?;
        self.block(number)
    }

    /// How, and under which seq, these blocks ended a hold.
    pub fn resolution(&self, token: Token) -> Option<(CommitSeq, Resolution)> {
        self.with(&self.resolutions, ALL, |resolutions| resolutions.of(token))
    }

    /// The seq of the deposit in these blocks that has a reference.
    pub fn credited(&self, asset: AssetId, reference: u128) -> Option<CommitSeq> {
        self.with(&self.credits, ALL, |credits| credits.of(asset, reference))
    }

    /// The seq of the last commit in these blocks that touched an order.
    pub fn order_touched(&self, order: RequestId) -> Option<CommitSeq> {
        self.with(&self.orders, ALL, |orders| orders.touched(order))
    }

    /// What the commits in these blocks, up to `upto`, did to the orders of an account, in their order.
    pub fn orders_of(&self, account: AccountId, upto: CommitSeq) -> Vec<TouchedOrder> {
        self.with(&self.orders, upto, |orders| Some(orders.of(account, upto))).unwrap_or_default()
    }

    /// The seqs after `after`, up to `upto`, of the commits in these blocks with trades of a market.
    pub fn trades(
        &self,
        market: MarketId,
        (after, upto): (CommitSeq, CommitSeq),
    ) -> Vec<CommitSeq> {
        self.with(&self.orders, upto, |orders| Some(orders.trades(market, (after, upto))))
            .unwrap_or_default()
    }

    /// The block of that number, if it is one of these.
    pub fn block(&self, number: BlockNumber) -> Option<Arc<Block>> {
        let blocks = self.read();
        let first = blocks.front()?.block.header().number;
        let index = usize::try_from(number.get().checked_sub(first.get())?).ok()?;
        blocks.get(index).map(|entry| Arc::clone(&entry.block))
    }

    /// The block that has the commit of that seq, if it is one of these.
    pub fn block_of(&self, seq: CommitSeq) -> Option<Arc<Block>> {
        let blocks = self.read();
        let behind = blocks.partition_point(|entry| entry.block.header().first_seq <= seq);
        let block = &blocks.get(behind.checked_sub(1)?)?.block;
        (seq < block.header().next_seq()).then(|| Arc::clone(block))
    }

    fn commit_at(&self, seq: CommitSeq) -> Option<CommitRecord> {
        self.block_of(seq)?.commit_at(seq)
    }

    /// Asks an index that covers every block with something at or before `seq`.
    fn with<T: index::Index, R>(
        &self,
        kept: &Kept<T>,
        seq: CommitSeq,
        look: impl FnOnce(&T) -> Option<R>,
    ) -> Option<R> {
        let needed = self.last_begun_by(seq)?;
        kept.with(needed, |through| self.behind(through), look)
    }

    /// The same of the rows, of which only those of one account are asked for.
    fn with_rows<R: Default>(
        &self,
        account: AccountId,
        seq: CommitSeq,
        look: impl FnOnce(&Rows) -> R,
    ) -> R {
        let Some(needed) = self.last_begun_by(seq) else { return R::default() };
        if self.rows.is_cold(SCANS_BEFORE_INDEX) {
            let mut rows = Rows::default();
            let blocks = self.behind(BlockNumber::new(0));
            let blocks = blocks.iter().filter(|entry| entry.block.header().number <= needed);
            blocks.for_each(|entry| rows.add_of(&entry.block, account));
            return look(&rows);
        }
        self.rows.with(needed, |through| self.behind(through), look)
    }

    /// The last block that may have a commit at or before `seq`.
    fn last_begun_by(&self, seq: CommitSeq) -> Option<BlockNumber> {
        // Mostly there is none, and then nothing is locked. What is added while this is asked is
        // not covered by `D` yet.
        if self.requests() == 0 {
            return None;
        }
        let blocks = self.read();
        let behind = blocks.partition_point(|entry| entry.block.header().first_seq <= seq);
        Some(blocks.get(behind.checked_sub(1)?)?.block.header().number)
    }

    /// The blocks after `through`.
    fn behind(&self, through: BlockNumber) -> Vec<Arc<UnfoldedBlock>> {
        let blocks = self.read();
        let from = blocks.partition_point(|entry| entry.block.header().number <= through);
        blocks.range(from..).cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, VecDeque<Arc<UnfoldedBlock>>> {
        self.blocks.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A balance after a commit that changed it.
fn balance_after(commit: &CommitRecord, key: BalanceKey) -> Balance {
    let mut rows = commit.txn.row_ops().zip(&commit.after);
    let (_, after) = rows.find(|(op, _)| op.key == key).expect("it is indexed as changed there");
    *after
}
