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
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::Position;
use super::journal::Block;
use crate::types::{AccountId, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, RequestId};

/// A block that is not yet folded.
#[derive(Debug)]
pub struct UnfoldedBlock {
    /// The block.
    pub block: Arc<Block>,
    /// Its rows by balance, then seq.
    rows: OnceLock<Box<[(BalanceKey, CommitSeq, Balance)]>>,
    /// Its request ids, ascending.
    ids: OnceLock<Box<[RequestId]>>,
}

impl UnfoldedBlock {
    /// Without any index.
    pub fn new(block: Arc<Block>) -> Self {
        Self { block, rows: OnceLock::new(), ids: OnceLock::new() }
    }

    /// Commits and refusals in it.
    pub fn requests(&self) -> usize {
        let header = self.block.header();
        header.commits as usize + header.refusals as usize
    }

    fn rows_of(&self, account: AccountId) -> &[(BalanceKey, CommitSeq, Balance)] {
        let rows = self.rows.get_or_init(|| {
            let mut rows = Vec::new();
            self.block.visit_rows(|seq, key, balance| rows.push((key, seq, balance)));
            // Stable: rows come in the order of their seqs.
            rows.sort_by_key(|(key, ..)| *key);
            rows.into()
        });
        let from = rows.partition_point(|(key, ..)| key.account < account);
        let len = rows[from..].partition_point(|(key, ..)| key.account == account);
        &rows[from..from + len]
    }

    fn has_id(&self, id: RequestId) -> bool {
        let ids = self.ids.get_or_init(|| {
            let mut ids = Vec::with_capacity(self.requests());
            self.block.visit_ids(|id| ids.push(id));
            ids.sort_unstable();
            ids.into()
        });
        ids.binary_search(&id).is_ok()
    }
}

/// All of them, oldest first.
#[derive(Debug, Default)]
pub struct Unfolded {
    blocks: RwLock<VecDeque<Arc<UnfoldedBlock>>>,
    requests: AtomicUsize,
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
            let upto = entry.rows_of(account).iter().filter(|(_, version, _)| *version <= seq);
            for (key, version, balance) in upto {
                match found.last_mut() {
                    Some((asset, last, newest)) if *asset == key.asset => {
                        (*last, *newest) = (*version, *balance);
                    }
                    _ => found.push((key.asset, *version, *balance)),
                }
            }
        }
        found
    }

    /// The first block that has an outcome of that request.
    pub fn find_id(&self, id: RequestId) -> Option<Arc<Block>> {
        let found = self.snapshot_all().into_iter().find(|entry| entry.has_id(id))?;
        Some(Arc::clone(&found.block))
    }

    /// The block of that number, if it is one of these.
    pub fn block(&self, number: BlockNumber) -> Option<Arc<Block>> {
        let blocks = self.read();
        let first = blocks.front()?.block.header().number;
        let index = usize::try_from(number.get().checked_sub(first.get())?).ok()?;
        blocks.get(index).map(|entry| Arc::clone(&entry.block))
    }

    fn snapshot_all(&self) -> Vec<Arc<UnfoldedBlock>> {
        self.read().iter().cloned().collect()
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
