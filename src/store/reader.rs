//! What was: outcomes of requests, and balances as of a seq, from memory and disk together.
//!
//! Every lookup goes to the unfolded blocks first and to the version store then. A block leaves
//! the former only after the latter has it, so nothing falls between the two.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::durable::{Durable, Progress};
use super::journal::Block;
use super::unfolded::Unfolded;
use super::{Journal, RESTORE, StoreError, VersionStore};
use crate::message::BalanceNow;
use crate::request::Outcome;
use crate::types::{AccountId, BlockNumber, CommitSeq, RequestId};

/// Decoded blocks that are kept for the next lookup.
const BLOCKS_CACHED: usize = 16;

/// Reads of the past. Shared by any thread; reads the disk, so not for a tokio worker.
pub struct Reader {
    journal: Arc<dyn Journal>,
    versions: Arc<dyn VersionStore>,
    unfolded: Arc<Unfolded>,
    durable: Arc<Durable>,
    applied: Arc<Progress>,
    /// Least recently used first.
    cached: Mutex<VecDeque<Arc<Block>>>,
}

impl Reader {
    /// Reads from these, which the commit log and the materializer feed.
    pub fn new(
        journal: Arc<dyn Journal>,
        versions: Arc<dyn VersionStore>,
        unfolded: Arc<Unfolded>,
        durable: Arc<Durable>,
        applied: Arc<Progress>,
    ) -> Self {
        Self { journal, versions, unfolded, durable, applied, cached: Mutex::default() }
    }

    /// `D`: everything up to this is on disk.
    pub fn durable_seq(&self) -> CommitSeq {
        self.durable.seq()
    }

    /// `A`: everything up to this is in the version store.
    pub fn applied_seq(&self) -> CommitSeq {
        self.applied.seq()
    }

    /// The durable outcome of a request with its digest; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or what the disk says.
    pub fn outcome(&self, id: RequestId) -> Result<Option<(Outcome, u64)>, StoreError> {
        let Some(block) = self.block_with(id)? else { return Ok(None) };
        let time = block.header().time;
        if let Some(commit) = block.find_commit(id) {
            return Ok(Some((Outcome::Settled(commit.receipt(time)), commit.txn.digest)));
        }
        let refused = block.find_refusal(id).ok_or_else(|| {
            let number = block.header().number;
            StoreError::block(number, format!("it lacks request {id}, which the index has in it"))
        })?;
        let digest = refused.digest;
        Ok(Some((Outcome::Rejected(refused.refusal(time)), digest)))
    }

    /// Whether a request has a durable outcome. Quick when it has none: filters know that, mostly
    /// without a read from the disk.
    ///
    /// # Errors
    /// As [`Reader::outcome`].
    pub fn seen(&self, id: RequestId) -> Result<bool, StoreError> {
        Ok(self.unfolded.find_id(id).is_some() || self.versions.block_of(id)?.is_some())
    }

    /// All balances of an account as of a seq at or before `D`, by asset.
    ///
    /// # Errors
    /// As [`Reader::outcome`].
    pub fn account_at(
        &self,
        account: AccountId,
        seq: CommitSeq,
    ) -> Result<Vec<BalanceNow>, StoreError> {
        let newer = self.unfolded.account_at(account, seq);
        let mut balances = self.versions.account_at(account, seq)?;
        for (asset, version, balance) in newer {
            let now = BalanceNow { asset, balance, version };
            match balances.binary_search_by_key(&asset, |balance| balance.asset) {
                // The store may have folded the same block since, or even what came after it.
                Ok(place) if balances[place].version < version => balances[place] = now,
                Ok(_) => {}
                Err(place) => balances.insert(place, now),
            }
        }
        Ok(balances)
    }

    /// The block that holds an outcome of that request.
    fn block_with(&self, id: RequestId) -> Result<Option<Arc<Block>>, StoreError> {
        if let Some(block) = self.unfolded.find_id(id) {
            return Ok(Some(block));
        }
        match self.versions.block_of(id)? {
            Some(number) => self.block(number).map(Some),
            None => Ok(None),
        }
    }

    fn block(&self, number: BlockNumber) -> Result<Arc<Block>, StoreError> {
        if let Some(block) = self.cached(number) {
            return Ok(block);
        }
        let found = self.journal.block(number)?.ok_or_else(|| {
            StoreError::Damaged(format!("journal block {number} is missing; {RESTORE}"))
        })?;
        let block = Arc::new(found);
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.len() == BLOCKS_CACHED {
            cached.pop_front();
        }
        cached.push_back(Arc::clone(&block));
        Ok(block)
    }

    fn cached(&self, number: BlockNumber) -> Option<Arc<Block>> {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let place = cached.iter().position(|block| block.header().number == number)?;
        let block = cached.remove(place)?;
        cached.push_back(Arc::clone(&block));
        Some(block)
    }
}
