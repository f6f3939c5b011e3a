//! What was: outcomes of requests, and state as of a seq, from memory and disk together.
//!
//! Every lookup goes to the unfolded blocks first and to the version store then. A block leaves
//! the former only after the latter has it, so nothing falls between the two.
//!
//! What a read as of a seq needs may be dropped while it reads, once the horizon has passed that
//! seq. The horizon rises before anything is dropped, so it is looked at *after* the read: where it
//! is still at or below the seq, nothing was missing. (What a live snapshot pins is never dropped:
//! see [`super::snapshots`].) Receipts and resolutions are read from the journal, which is kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

use super::durable::{Durable, Progress};
use super::journal::{Block, CommitRecord, Verdict};
use super::snapshots::Expired;
use super::unfolded::Unfolded;
use super::{Journal, Position, RESTORE, RecordVersion, StoreError, VersionStore};
use crate::error;
use crate::message::BalanceNow;
use crate::request::{Outcome, Receipt};
use crate::types::{
    AccountId, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, Key, RequestId, Resolution,
    Time, Token,
};

/// Decoded blocks that are kept for the next lookup.
const BLOCKS_CACHED: usize = 16;

/// Why the past cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PastError {
    /// It is older than what is kept.
    #[error(transparent)]
    Expired(#[from] Expired),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Expired> for error::Error {
    fn from(expired: Expired) -> Self {
        Self::HistoryExpired { oldest: expired.oldest }
    }
}

impl From<PastError> for error::Error {
    fn from(error: PastError) -> Self {
        match error {
            PastError::Expired(expired) => expired.into(),
            PastError::Store(error) => error.into(),
        }
    }
}

/// Reads of the past. Shared by any thread; reads the disk, so not for a tokio worker.
pub struct Reader {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) versions: Arc<dyn VersionStore>,
    pub(super) unfolded: Arc<Unfolded>,
    durable: Arc<Durable>,
    applied: Arc<Progress>,
    /// Least recently used first.
    cached: Mutex<VecDeque<Arc<Block>>>,
}

/// Where things stand: outcomes, receipts, resolutions. None of these expires.
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

    /// The oldest seq as of which everything can still be read. It may rise at any time.
    ///
    /// # Errors
    /// What the disk says.
    pub fn horizon(&self) -> Result<CommitSeq, StoreError> {
        self.versions.horizon()
    }

    /// The durable outcome of a request with its digest; `None` if there is none. Of a request for
    /// what had been done before, it is the receipt of what did it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or what the disk says.
    pub fn outcome(&self, id: RequestId) -> Result<Option<(Outcome, u64)>, StoreError> {
        let Some(block) = self.block_with(id)? else { return Ok(None) };
        let time = block.header().time;
        if let Some(commit) = block.find_commit(id) {
            return Ok(Some((Outcome::Settled(commit.receipt(time)), commit.txn.digest)));
        }
        let number = block.header().number;
        let refused = block.find_refusal(id).ok_or_else(|| {
            StoreError::block(number, format!("it lacks request {id}, which the index has in it"))
        })?;
        let digest = refused.digest;
        let outcome = match refused.verdict {
            Verdict::Done(first) => {
                let (commit, time) = self.commit(first)?.ok_or_else(|| {
                    let what = format!("request {id} repeats seq {first}, which is nowhere");
                    StoreError::block(number, what)
                })?;
                Outcome::Settled(commit.receipt(time))
            }
            Verdict::Reject(_) => {
                let refusal = refused.refusal(time).expect("what is rejected has a refusal");
                Outcome::Rejected(refusal)
            }
        };
        Ok(Some((outcome, digest)))
    }

    /// Whether a request has a durable outcome. Quick when it has none: filters know that, mostly
    /// without a read from the disk.
    ///
    /// # Errors
    /// As [`Reader::outcome`].
    pub fn seen(&self, id: RequestId) -> Result<bool, StoreError> {
        Ok(self.unfolded.find_id(id).is_some() || self.versions.block_with(id)?.is_some())
    }

    /// The receipt of what settled under a seq; `None` if nothing has yet.
    ///
    /// # Errors
    /// As [`Reader::outcome`].
    pub fn receipt_at(&self, seq: CommitSeq) -> Result<Option<Receipt>, StoreError> {
        Ok(self.commit_at(seq)?.map(|(commit, time)| commit.receipt(time)))
    }

    /// The record of a seq with its logical time; `None` if there is none that is durable.
    ///
    /// # Errors
    /// As [`Reader::outcome`].
    pub fn commit_at(&self, seq: CommitSeq) -> Result<Option<(CommitRecord, Time)>, StoreError> {
        if seq > self.durable_seq() {
            return Ok(None);
        }
        self.commit(seq)
    }

    /// What became of a hold, and under which seq; `None` if it is open, or never was.
    ///
    /// # Errors
    /// As [`Reader::outcome`].
    pub fn resolution(&self, token: Token) -> Result<Option<(CommitSeq, Resolution)>, StoreError> {
        if let Some(found) = self.unfolded.resolution(token) {
            return Ok(Some(found));
        }
        let Some(number) = self.versions.block_resolving(token)? else { return Ok(None) };
        let found = self.block(number)?.find_resolution(token);
        found.map(Some).ok_or_else(|| {
            StoreError::block(number, format!("it lacks the end of hold {token}, indexed in it"))
        })
    }

    /// The seq of the deposit of an asset that has a reference of that hash (see
    /// [`crate::request::Transfer::reference_hash`]); `None` if none has.
    ///
    /// # Errors
    /// As [`Reader::outcome`].
    pub fn credited(
        &self,
        asset: AssetId,
        reference: u128,
    ) -> Result<Option<CommitSeq>, StoreError> {
        match self.unfolded.credited(asset, reference) {
            Some(seq) => Ok(Some(seq)),
            None => self.versions.credited(asset, reference),
        }
    }

    /// The last durable position whose logical time is at or before `time`.
    ///
    /// # Errors
    /// As [`Reader::outcome`].
    pub fn position_at(&self, time: Time) -> Result<Position, StoreError> {
        let seq = self.durable.seq();
        let durable = Position { block: self.durable.progress.block(), seq };
        Ok(self.journal.position_at(time)?.min(durable))
    }
}

/// State as of a seq at or before `D`. Fails with [`Expired`] below the horizon.
impl Reader {
    /// All balances of an account as of a seq, by asset; only those ever touched.
    ///
    /// # Errors
    /// [`PastError`].
    pub fn account_at(
        &self,
        account: AccountId,
        seq: CommitSeq,
    ) -> Result<Vec<BalanceNow>, PastError> {
        self.as_of(seq, || {
            let newer = self.unfolded.account_at(account, seq);
            let mut balances = self.versions.account_at(account, seq)?;
            for now in newer {
                match balances.binary_search_by_key(&now.asset, |balance| balance.asset) {
                    // The store may have folded the same block since, or even what came after it.
                    Ok(place) if balances[place].version < now.version => balances[place] = now,
                    Ok(_) => {}
                    Err(place) => balances.insert(place, now),
                }
            }
            Ok(balances)
        })
    }

    /// Each of these balances as of a seq, with the seq that made it so: zeros and 0 if it was not
    /// touched until then.
    ///
    /// # Errors
    /// [`PastError`].
    pub fn balances_at(
        &self,
        keys: &[BalanceKey],
        seq: CommitSeq,
    ) -> Result<Vec<(Balance, CommitSeq)>, PastError> {
        self.as_of(seq, || {
            let one = |key: &BalanceKey| {
                let found = match self.unfolded.balance_at(*key, seq) {
                    Some(newest) => Some(newest),
                    None => self.versions.get_at(*key, seq)?,
                };
                let (version, balance) = found.unwrap_or_default();
                Ok((balance, version))
            };
            keys.iter().map(one).collect()
        })
    }

    /// The value under a caller's key as of a seq, with the seq that wrote or deleted it; `None` if
    /// it was not written until then.
    ///
    /// # Errors
    /// [`PastError`].
    pub fn record_at(&self, key: &Key, seq: CommitSeq) -> Result<Option<RecordVersion>, PastError> {
        self.as_of(seq, || match self.unfolded.record_at(key, seq) {
            Some(newest) => Ok(Some(newest)),
            None => self.versions.record_at(key, seq),
        })
    }

    /// Reads, and then sees that nothing was missing.
    pub(super) fn as_of<T>(
        &self,
        seq: CommitSeq,
        read: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, PastError> {
        let read = read();
        let oldest = self.versions.horizon()?;
        if seq < oldest { Err(Expired { oldest }.into()) } else { Ok(read?) }
    }
}

/// Blocks, in memory or from disk.
impl Reader {
    /// The record of a seq with its logical time, also if `D` does not cover it yet.
    fn commit(&self, seq: CommitSeq) -> Result<Option<(CommitRecord, Time)>, StoreError> {
        let Some(block) = self.block_of(seq)? else { return Ok(None) };
        Ok(block.commit_at(seq).map(|commit| (commit, block.header().time)))
    }

    /// The block that has the commit of that seq; `None` if there is no such commit.
    pub(super) fn block_of(&self, seq: CommitSeq) -> Result<Option<Arc<Block>>, StoreError> {
        if let Some(block) = self.unfolded.block_of(seq) {
            return Ok(Some(block));
        }
        match self.journal.block_of(seq)? {
            Some(number) => self.block(number).map(Some),
            None => Ok(None),
        }
    }

    /// The block that holds an outcome of that request.
    fn block_with(&self, id: RequestId) -> Result<Option<Arc<Block>>, StoreError> {
        if let Some(block) = self.unfolded.find_id(id) {
            return Ok(Some(block));
        }
        match self.versions.block_with(id)? {
            Some(number) => self.block(number).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn block(&self, number: BlockNumber) -> Result<Arc<Block>, StoreError> {
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
