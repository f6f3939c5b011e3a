//! Reads: of what is, through the actors; of what was, from the version store and the journal.
//!
//! What is read through the actors is shown once `D` covers it. What is read as of a seq is durable
//! already, and is there as long as it is within retention.

use tokio::sync::oneshot;

use super::{Admitted, Engine, Inner};
use crate::coordinator::Message;
pub use crate::coordinator::txn::ExpiringHolds;
use crate::coordinator::txn::{Expiring, HoldStatus};
use crate::error::{Error, Malformed, Reject};
use crate::message::{AccountBalances, ManyBalances};
use crate::request::{Hold, Outcome, Receipt};
use crate::store::RecordVersion;
use crate::store::history::HistoryEntry;
use crate::types::{
    AccountId, AssetId, Balance, BalanceKey, CommitSeq, Key, RequestId, Resolution, Time, Token,
};

/// What is known of a request id.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "made one at a time, when somebody asks")]
pub enum Known {
    /// Answered: this is the answer.
    Outcome(Outcome),
    /// Accepted, not yet durable.
    Pending,
    /// Never seen.
    Unknown,
}

/// What is known of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldState {
    /// It is open.
    Open(Box<Hold>),
    /// It was resolved, so; this is the proof.
    Resolved(Resolution, Box<Receipt>),
    /// There never was one of that token.
    Unknown,
}

/// Balances asked for, and where each shard's part of the answer will be.
struct AskedMany {
    _admitted: Admitted,
    /// Of each key: its shard, and its place among that shard's.
    places: Vec<(usize, usize)>,
    parts: Vec<Option<oneshot::Receiver<ManyBalances>>>,
}

impl Engine {
    /// Latest balances of one account, all from one snapshot.
    ///
    /// # Errors
    /// [`Error::Read`] for an unknown account; [`Error::Overloaded`]; [`Error::Stopped`].
    pub async fn balances(&self, account: AccountId) -> Result<AccountBalances, Error> {
        let (_admitted, receiver) = self.inner.ask_balances(account)?;
        self.directory_durable().await?;
        self.inner.poison.or_stopped(receiver).await
    }

    /// The same, waiting on this thread. Not for a tokio worker.
    ///
    /// # Errors
    /// As [`Engine::balances`].
    pub fn balances_blocking(&self, account: AccountId) -> Result<AccountBalances, Error> {
        let (_admitted, receiver) = self.inner.ask_balances(account)?;
        pollster::block_on(self.inner.poison.or_stopped(receiver))
    }

    /// Latest balances of many accounts, all from one snapshot, in the order of `keys`: the balance
    /// and the commit_seq that last changed it, zeros where it was never touched.
    ///
    /// # Errors
    /// [`Error::Overloaded`]; [`Error::Stopped`].
    pub async fn balances_of(&self, keys: &[BalanceKey]) -> Result<ManyBalances, Error> {
        let asked = self.inner.ask_many(keys)?;
        let mut parts: Vec<Option<ManyBalances>> = Vec::with_capacity(asked.parts.len());
        for part in asked.parts {
            parts.push(match part {
                Some(receiver) => Some(self.inner.poison.or_stopped(receiver).await?),
                None => None,
            });
        }
        let mut many = ManyBalances { seq: self.status().durable_seq, balances: Vec::new() };
        if let Some(part) = parts.iter().flatten().next() {
            many.seq = part.seq;
            assert!(parts.iter().flatten().all(|part| part.seq == many.seq), "one snapshot");
        }
        many.balances.extend(asked.places.iter().map(|(shard, place)| {
            parts[*shard].as_ref().expect("its shard was asked").balances[*place]
        }));
        Ok(many)
    }

    /// Balances of one account as of a durable seq. Reads the disk: not for a tokio worker.
    ///
    /// # Errors
    /// [`Error::Read`] for an unknown account or a seq above the durable one;
    /// [`Error::HistoryExpired`] for one that is not remembered any more; [`Error::Storage`].
    pub fn balances_at(&self, account: AccountId, at: CommitSeq) -> Result<AccountBalances, Error> {
        let inner = &*self.inner;
        inner.check_account(account)?;
        inner.check_durable("at", at)?;
        Ok(AccountBalances { seq: at, balances: inner.reader.account_at(account, at)? })
    }

    /// The last seq whose logical time is at or before that time. Reads the disk: not for a tokio
    /// worker.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn seq_at(&self, time: Time) -> Result<CommitSeq, Error> {
        Ok(self.inner.reader.position_at(time)?.seq)
    }

    /// The oldest seq as of which everything can still be read. It may rise at any time. Reads the
    /// disk: not for a tokio worker.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn oldest_seq(&self) -> Result<CommitSeq, Error> {
        Ok(self.inner.reader.horizon()?)
    }

    /// At most `limit` changes of an account's balances (of one asset, or of all) after a seq, oldest
    /// first. Reads the disk: not for a tokio worker.
    ///
    /// # Errors
    /// As [`Engine::balances_at`].
    pub fn history(
        &self,
        account: AccountId,
        asset: Option<AssetId>,
        after: CommitSeq,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, Error> {
        self.inner.check_account(account)?;
        Ok(self.inner.reader.history(account, asset, after, limit)?)
    }

    /// A value under a caller's key, as of a durable seq or (`None`) now. Reads the disk: not for a
    /// tokio worker.
    ///
    /// # Errors
    /// [`Error::Read`] for a seq above the durable one; [`Error::HistoryExpired`];
    /// [`Error::Storage`].
    pub fn record(&self, key: &Key, at: Option<CommitSeq>) -> Result<Option<RecordVersion>, Error> {
        let inner = &*self.inner;
        let at = at.unwrap_or_else(|| inner.durable.seq());
        inner.check_durable("at", at)?;
        Ok(inner.reader.record_at(key, at)?)
    }

    /// What is known of a hold. Reads the disk: not for a tokio worker.
    ///
    /// # Errors
    /// [`Error::Storage`]; [`Error::Overloaded`]; [`Error::Stopped`].
    pub fn hold(&self, token: Token) -> Result<HoldState, Error> {
        let inner = &*self.inner;
        let (_admitted, status) = inner.ask(|reply| Message::Hold(token, reply))?;
        let (status, _) = pollster::block_on(inner.poison.or_stopped(status))?;
        let resolved = match status {
            HoldStatus::Open(hold) => return Ok(HoldState::Open(hold)),
            HoldStatus::Resolved(how, seq) => Some((how, seq)),
            HoldStatus::NotHere => inner.reader.resolution(token)?.map(|(seq, how)| (how, seq)),
        };
        let Some((how, seq)) = resolved else { return Ok(HoldState::Unknown) };
        let receipt = inner.reader.receipt_at(seq)?.ok_or_else(|| {
            Error::Storage(format!("the journal has lost seq {seq}, which resolved hold {token}"))
        })?;
        Ok(HoldState::Resolved(how, Box::new(receipt)))
    }

    /// The open holds that expire next and that `is_wanted`, soonest first, at most `limit`. It is asked on
    /// the coordinator's thread, so it must be quick; [`HOLDS_LOOKED_AT_MAX`] holds are looked at, no more.
    ///
    /// # Errors
    /// [`Error::Overloaded`]; [`Error::Stopped`].
    ///
    /// [`HOLDS_LOOKED_AT_MAX`]: crate::config::HOLDS_LOOKED_AT_MAX
    pub async fn expiring(
        &self,
        limit: usize,
        is_wanted: impl Fn(&Hold) -> bool + Send + 'static,
    ) -> Result<ExpiringHolds, Error> {
        let asked = Expiring { limit, is_wanted: Box::new(is_wanted) };
        let (_admitted, found) = self.inner.ask(|reply| Message::Expiring(asked, reply))?;
        self.inner.poison.or_stopped(found).await
    }

    /// The receipt of what settled under a durable seq; `None` if nothing did. Reads the disk: not
    /// for a tokio worker.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn receipt_at(&self, seq: CommitSeq) -> Result<Option<Receipt>, Error> {
        Ok(self.inner.reader.receipt_at(seq)?)
    }

    /// What is known of a request id. Reads the disk: not for a tokio worker.
    ///
    /// # Errors
    /// [`Error::Storage`]; [`Error::Overloaded`]; [`Error::Stopped`].
    pub fn known(&self, id: RequestId) -> Result<Known, Error> {
        let inner = &*self.inner;
        // Asked first: what is neither pending now nor durable afterwards was never taken.
        let (_admitted, pending) = inner.ask(|reply| Message::Sequenced(id, reply))?;
        let pending = pollster::block_on(inner.poison.or_stopped(pending))?;
        Ok(match inner.reader.outcome(id)? {
            Some((outcome, _)) => Known::Outcome(outcome),
            None if pending => Known::Pending,
            None => Known::Unknown,
        })
    }
}

impl Inner {
    fn ask_balances(
        &self,
        account: AccountId,
    ) -> Result<(Admitted, oneshot::Receiver<AccountBalances>), Error> {
        self.check_account(account)?;
        self.ask(|reply| Message::Read(account, reply))
    }

    fn ask_many(&self, keys: &[BalanceKey]) -> Result<AskedMany, Error> {
        let admitted = self.admit_read()?;
        let shards = self.limits.shards;
        let mut by_shard: Vec<Vec<BalanceKey>> = vec![Vec::new(); shards];
        let mut places = Vec::with_capacity(keys.len());
        for key in keys {
            let shard = key.account.shard(shards);
            places.push((shard, by_shard[shard].len()));
            by_shard[shard].push(*key);
        }
        let mut parts = Vec::with_capacity(shards);
        let mut asked = Vec::with_capacity(shards);
        for keys in by_shard {
            let (reply, receiver) = oneshot::channel();
            parts.push((!keys.is_empty()).then_some(receiver));
            asked.push((keys, reply));
        }
        self.send(Message::ReadMany(asked))?;
        Ok(AskedMany { _admitted: admitted, places, parts })
    }

    pub(super) fn check_account(&self, account: AccountId) -> Result<(), Error> {
        if self.directory.has_account(account) {
            return Ok(());
        }
        Err(Error::Read(Reject::UnknownAccount(account)))
    }

    pub(super) fn check_durable(&self, field: &str, at: CommitSeq) -> Result<(), Error> {
        let durable = self.durable.seq();
        if at <= durable {
            return Ok(());
        }
        let why = format!("is {at}, which has not happened; give a seq up to {durable}");
        Err(Error::Read(Reject::Malformed(Malformed::new(field, why))))
    }

    /// A value as of a snapshot, with its version.
    pub(super) fn record_in(&self, key: &Key, snapshot: CommitSeq) -> Result<RecordVersion, Error> {
        let never = RecordVersion { seq: CommitSeq::default(), value: None };
        Ok(self.reader.record_at(key, snapshot)?.unwrap_or(never))
    }

    /// A balance as of a snapshot, with its version.
    pub(super) fn balance_in(
        &self,
        key: BalanceKey,
        snapshot: CommitSeq,
    ) -> Result<(Balance, CommitSeq), Error> {
        let found = self.reader.balances_at(&[key], snapshot)?;
        Ok(found.first().copied().unwrap_or_default())
    }
}
