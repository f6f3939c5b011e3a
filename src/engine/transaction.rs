//! Optimistic transactions: read a snapshot, write on the side, and see at the commit whether
//! anything that was read has changed (H. T. Kung and J. T. Robinson, "On Optimistic Methods for
//! Concurrency Control", 1981; validation is done by the shards, backward, by version).
//!
//! A [`Transaction`] reads everything as of one durable seq, its snapshot, so what it reads fits
//! together whatever others do meanwhile. Nothing that it writes can be seen before it commits.
//! The commit is one command: every shard checks that what was read still has the version that was
//! read, and all writes happen, or none.
//!
//! ```text
//! begin ─► get, set, delete, balance, transfer ... ─► commit ─► all of it happened at one seq
//!    snapshot: D            on this thread                 └──► conflict: nothing did
//! ```
//!
//! Invariants
//! * Committed transactions are serializable, in the order of their seqs. One that only read saw
//!   the state of its snapshot, and needs no check.
//! * An aborted or dropped transaction leaves no trace.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::{Brief, Engine, Inner};
use crate::error::{Error, Reject};
use crate::faults::{Bug, planted, point};
use crate::request::{Command, Read, Request, Transact, Write};
use crate::store::snapshots::Snapshot;
use crate::types::{
    AccountId, AssetId, Balance, BalanceKey, CommitSeq, Key, Leg, RequestId, Subject,
};

/// The first pause before a transaction is run again is at most this long; each later one twice as
/// long as the one before.
const BACKOFF_FIRST_MICROS: u64 = 100;
/// No pause is longer.
const BACKOFF_MAX_MICROS: u64 = 20_000;

/// A transaction that has not committed. Blocks when it reads or commits: not for a tokio worker.
pub struct Transaction {
    engine: Engine,
    id: RequestId,
    snapshot: Snapshot,
    reads: BTreeMap<Subject, CommitSeq>,
    writes: BTreeMap<Key, Option<Arc<[u8]>>>,
    transfers: Vec<Leg>,
}

/// A transaction that has committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The request that it was.
    pub request_id: RequestId,
    /// The seq that it happened at; of one that only read, that of its snapshot.
    pub seq: CommitSeq,
}

/// Why a transaction has not committed. Nothing of it happened, but for [`TransactError::Failed`]
/// with [`Error::Stopped`]: then ask by its request id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransactError {
    /// Something that it had read has changed, or an exclusive hold was in its way for too long:
    /// run it again.
    #[error("{0}")]
    Conflict(Reject),
    /// It was refused, and would be again.
    #[error("{0}")]
    Rejected(Reject),
    /// There is no answer.
    #[error("{0}")]
    Failed(#[from] Error),
}

impl Transaction {
    /// The seq as of which it reads.
    pub fn snapshot(&self) -> CommitSeq {
        self.snapshot.seq()
    }

    /// The id under which it will commit.
    pub fn request_id(&self) -> RequestId {
        self.id
    }

    /// A value; `None` if there is none. What this transaction has set or deleted is seen so.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn get(&mut self, key: &Key) -> Result<Option<Arc<[u8]>>, Error> {
        if let Some(written) = self.writes.get(key) {
            return Ok(written.clone());
        }
        let found = self.engine.inner.record_in(key, self.snapshot.seq())?;
        self.reads.insert(Subject::Key(key.clone()), found.seq);
        Ok(found.value)
    }

    /// Sets a value, once this commits.
    pub fn set(&mut self, key: Key, value: impl Into<Arc<[u8]>>) {
        self.writes.insert(key, Some(value.into()));
    }

    /// Deletes a value, once this commits.
    pub fn delete(&mut self, key: Key) {
        self.writes.insert(key, None);
    }

    /// A balance, as of the snapshot: without this transaction's own transfers.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn balance(&mut self, account: AccountId, asset: AssetId) -> Result<Balance, Error> {
        let key = BalanceKey { account, asset };
        let (balance, version) = self.engine.inner.balance_in(key, self.snapshot.seq())?;
        self.reads.insert(Subject::Balance(key), version);
        Ok(balance)
    }

    /// Moves value, once this commits. Whether the payer can afford it is seen then.
    pub fn transfer(&mut self, leg: Leg) {
        self.transfers.push(leg);
    }

    /// Commits. One that only read needs nobody's consent.
    ///
    /// # Errors
    /// See [`TransactError`].
    pub fn commit(self) -> Result<Committed, TransactError> {
        let (engine, request_id) = (self.engine.clone(), self.id);
        if self.writes.is_empty() && self.transfers.is_empty() {
            return Ok(Committed { request_id, seq: self.snapshot.seq() });
        }
        let answers = engine.submit(vec![self.into_request()])?.wait()?;
        match answers.brief(0) {
            Brief::Settled(seq) => Ok(Committed { request_id, seq }),
            Brief::Rejected(reject) => Err(match reject {
                Reject::Conflict { .. } | Reject::LockTimeout { .. } => {
                    TransactError::Conflict(reject.clone())
                }
                _ => TransactError::Rejected(reject.clone()),
            }),
        }
    }

    /// Forgets everything. The same as dropping it.
    pub fn abort(self) {}

    /// The request that [`Transaction::commit`] submits and waits for: for who waits in a way of his
    /// own. Its snapshot is let go of.
    pub fn into_request(self) -> Request {
        let reads = self.reads.into_iter().map(|(subject, version)| Read { subject, version });
        let writes = self.writes.into_iter().map(|(key, value)| Write { key, value });
        let transact = Transact {
            reads: reads.collect(),
            writes: writes.collect(),
            transfers: self.transfers,
        };
        Request::new(self.id, Command::Transact(Box::new(transact)))
    }
}

impl Engine {
    /// Begins a transaction that reads the state as it is now, as far as it is durable.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn begin(&self) -> Result<Transaction, Error> {
        let inner = &*self.inner;
        if inner.poison.is_stopping() || inner.poison.is_tripped() {
            return Err(inner.poison.stopped());
        }
        point!("snapshot.pin");
        Ok(Transaction {
            engine: self.clone(),
            id: inner.ids.next(&*inner.clock),
            snapshot: inner.snapshots.pin(inner.snapshot_seq())?,
            reads: BTreeMap::new(),
            writes: BTreeMap::new(),
            transfers: Vec::new(),
        })
    }

    /// Runs a transaction, and runs it again up to `retries` times while it conflicts with others,
    /// after a pause of random length that grows. Blocks: not for a tokio worker.
    ///
    /// `run` may be called several times, each time on a new transaction: it should have no effect
    /// but on that. Returns what its last run returned, and where that was committed.
    ///
    /// # Errors
    /// Of the last run: see [`TransactError`]. An error of `run` itself ends it at once.
    pub fn transact<T>(
        &self,
        retries: u32,
        mut run: impl FnMut(&mut Transaction) -> Result<T, Error>,
    ) -> Result<(T, Committed), TransactError> {
        let mut attempt = 0;
        loop {
            let mut transaction = self.begin()?;
            let value = run(&mut transaction)?;
            match transaction.commit() {
                Ok(committed) => return Ok((value, committed)),
                Err(TransactError::Conflict(_)) if attempt < retries => {
                    self.inner.metrics.transact_retried();
                    self.back_off(attempt);
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Pauses, unless the engine ends meanwhile.
    fn back_off(&self, attempt: u32) {
        let inner = &*self.inner;
        let longest = BACKOFF_FIRST_MICROS.saturating_mul(1 << attempt.min(16));
        let micros = inner.ids.jitter(longest.min(BACKOFF_MAX_MICROS)) + 1;
        // Nothing is ever sent: it ends with the time, or with the engine.
        let _ = inner.poison.listener().recv_timeout(Duration::from_micros(micros));
    }
}

impl Inner {
    /// What a transaction that begins now sees: everything that anybody was told of.
    fn snapshot_seq(&self) -> CommitSeq {
        if planted(Bug::StaleSnapshot) { self.applied.seq() } else { self.durable.seq() }
    }
}
