//! Blocks that are durable and not yet in the version store, readable by any thread.
//!
//! A block is added before `D` covers it and removed after the version store has it. So whoever
//! takes a snapshot here *first* and asks the version store *then* misses nothing, however the
//! two race; what both have is the same.
//!
//! An index of a block is built when somebody asks for it, once: most blocks are folded before
//! anybody does.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::Position;
use super::journal::Block;
use crate::types::{AccountId, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, RequestId};

/// A block that is not yet folded.
#[derive(Debug)]
pub struct UnfoldedBlock {
    /// The block.
    pub block: Arc<Block>,
    /// Its rows by balance, then seq.
    rows: OnceLock<Box<[Version]>>,
}

/// A balance as of a seq.
#[derive(Debug)]
struct Version {
    key: BalanceKey,
    seq: CommitSeq,
    balance: Balance,
}

impl UnfoldedBlock {
    /// Without any index.
    pub fn new(block: Arc<Block>) -> Self {
        Self { block, rows: OnceLock::new() }
    }

    /// Commits and refusals in it.
    pub fn requests(&self) -> usize {
        let header = self.block.header();
        header.commits as usize + header.refusals as usize
    }

    fn rows_of(&self, account: AccountId) -> &[Version] {
        let rows = self.rows.get_or_init(|| {
            let mut rows = Vec::new();
            self.block.visit_rows(|seq, key, balance| rows.push(Version { key, seq, balance }));
            // Stable: rows come in the order of their seqs.
            rows.sort_by_key(|row| row.key);
            rows.into()
        });
        let from = rows.partition_point(|row| row.key.account < account);
        let len = rows[from..].partition_point(|row| row.key.account == account);
        &rows[from..from + len]
    }
}

/// All of them, oldest first.
#[derive(Debug, Default)]
pub struct Unfolded {
    blocks: RwLock<VecDeque<Arc<UnfoldedBlock>>>,
    requests: AtomicUsize,
    ids: Mutex<Ids>,
}

/// Which of the blocks has a request. Kept up only while somebody asks.
#[derive(Debug, Default)]
struct Ids {
    blocks: HashMap<RequestId, BlockNumber, RandomState>,
    /// All blocks up to this one are in it.
    through: BlockNumber,
    /// Whether somebody asked since blocks were last removed.
    asked: bool,
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
        // Freed outside the lock: readers need not wait for it.
        let requests: usize = gone.iter().map(|entry| entry.requests()).sum();
        self.requests.fetch_sub(requests, Ordering::AcqRel);
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut ids.asked) {
            ids.blocks.retain(|_, block| *block > number);
        } else {
            *ids = Ids::default();
        }
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

    /// The newest version at or before `seq` of each of an account's balances that these blocks
    /// changed, oldest block first: later entries of an asset replace earlier ones.
    pub fn account_at(
        &self,
        account: AccountId,
        seq: CommitSeq,
    ) -> Vec<(AssetId, CommitSeq, Balance)> {
        let mut found = Vec::new();
        for entry in self.snapshot(seq) {
            for row in entry.rows_of(account).iter().filter(|row| row.seq <= seq) {
                match found.last_mut() {
                    Some((asset, version, newest)) if *asset == row.key.asset => {
                        (*version, *newest) = (row.seq, row.balance);
                    }
                    _ => found.push((row.key.asset, row.seq, row.balance)),
                }
            }
        }
        found
    }

    /// The first block that has an outcome of that request. The first question after a while looks
    /// through all blocks; while questions keep coming, each block is looked through once.
    pub fn find_id(&self, id: RequestId) -> Option<Arc<Block>> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.asked = true;
        for entry in self.behind(ids.through) {
            let number = entry.block.header().number;
            entry.block.visit_ids(|id| {
                ids.blocks.entry(id).or_insert(number);
            });
            ids.through = number;
        }
        let number = *ids.blocks.get(&id)?;
        // A block that was folded meanwhile is gone: the version store has it.
        self.block(number)
    }

    /// The block of that number, if it is one of these.
    pub fn block(&self, number: BlockNumber) -> Option<Arc<Block>> {
        let blocks = self.read();
        let first = blocks.front()?.block.header().number;
        let index = usize::try_from(number.get().checked_sub(first.get())?).ok()?;
        blocks.get(index).map(|entry| Arc::clone(&entry.block))
    }

    /// The blocks after `through`.
    fn behind(&self, through: BlockNumber) -> Vec<Arc<UnfoldedBlock>> {
        let blocks = self.read();
        let from = blocks.partition_point(|entry| entry.block.header().number <= through);
        blocks.range(from..).cloned().collect()
    }

    /// The blocks that may have a version at or before `seq`.
    fn snapshot(&self, seq: CommitSeq) -> Vec<Arc<UnfoldedBlock>> {
        let blocks = self.read();
        blocks.iter().take_while(|entry| entry.block.header().first_seq <= seq).cloned().collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, VecDeque<Arc<UnfoldedBlock>>> {
        self.blocks.read().unwrap_or_else(PoisonError::into_inner)
    }
}
