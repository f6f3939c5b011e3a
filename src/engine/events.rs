//! Everything that happened, in order, for whoever follows: read from the journal, behind the engine.
//!
//! ```text
//! commit log ─► journal, D ─► Events (one a reader: a place in the journal) ─► take / next
//! ```
//!
//! Nothing is pushed and nothing is queued: a reader asks for what comes next when it has room for
//! it, so a slow one costs nobody anything, and one that comes back with the last seq that it has seen
//! gets exactly the rest. What is told is durable, and the same whenever it is told.
//!
//! Refusals are no events: they change nothing and have no place in the order. They are asked for by
//! request id.

use smallvec::SmallVec;
use tokio::sync::watch;

use crate::actor::Poison;
use crate::error::Error;
use crate::market::Settlement;
use crate::request::{Command, Hold, Receipt};
use crate::store::Position;
use crate::store::cursor::Cursor;
use crate::store::journal::CommitRecord;
use crate::types::{AccountId, CommitSeq, MarketId, Time};

use super::Engine;

/// Something that happened: one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What was asked for and what it came to: legs, hold, settlement.
    pub receipt: Receipt,
    /// The whole hold that was made or ended; `None` for other commands.
    pub hold: Option<Box<Hold>>,
    /// Ascending, each once.
    accounts: SmallVec<[AccountId; 4]>,
}

impl Event {
    fn new(commit: &CommitRecord, time: Time) -> Self {
        let receipt = commit.receipt(time);
        let hold = commit.made().or_else(|| commit.txn.hold().cloned()).map(Box::new);
        let mut accounts: SmallVec<[AccountId; 4]> =
            commit.txn.ops().map(|op| op.key.account).collect();
        match &receipt.command {
            Command::PutAccount { account, .. }
            | Command::RemoveLink { account, .. }
            | Command::CancelAll { account, .. } => accounts.push(*account),
            Command::Order(order) => accounts.push(order.account),
            _ => {}
        }
        let orders = receipt.settlement.iter().flat_map(|it| it.orders.iter());
        accounts.extend(orders.map(|update| update.account));
        accounts.sort_unstable();
        accounts.dedup();
        Self { receipt, hold, accounts }
    }

    /// Its place in the order of everything that happened.
    pub fn seq(&self) -> CommitSeq {
        self.receipt.commit_seq
    }

    /// Logical time of the decision.
    pub fn time(&self) -> Time {
        self.receipt.time
    }

    /// Which kind of command it was: see [`Command::kind`].
    pub fn kind(&self) -> &'static str {
        self.receipt.command.kind()
    }

    /// Every account that had part in it, ascending.
    pub fn accounts(&self) -> &[AccountId] {
        &self.accounts
    }

    /// What a market made of it; `None` for other commands.
    pub fn settlement(&self) -> Option<&Settlement> {
        self.receipt.settlement.as_deref()
    }

    /// The market that it happened in or to; `None` if it has no number for it: see
    /// [`Command::PutMarket`].
    pub fn market(&self) -> Option<MarketId> {
        match &self.receipt.command {
            Command::SwitchMarket { market, .. } => Some(*market),
            _ => self.settlement().map(|settlement| settlement.market),
        }
    }
}

/// A reader of events. Each has a place of its own.
pub struct Events {
    cursor: Cursor,
    progress: watch::Receiver<Position>,
    poison: Poison,
}

impl Engine {
    /// A reader of every event after a durable seq, 0 for all there are.
    ///
    /// # Errors
    /// [`Error::Read`] for a seq that has not happened.
    pub fn events(&self, after: CommitSeq) -> Result<Events, Error> {
        let inner = &*self.inner;
        inner.check_durable("after", after)?;
        Ok(Events {
            cursor: Cursor::new(inner.reader.clone(), after),
            progress: inner.durable.progress.subscribe(),
            poison: inner.poison.clone(),
        })
    }
}

impl Events {
    /// The last event taken, or what the reader began after: begin there again to get the rest.
    pub fn seq(&self) -> CommitSeq {
        self.cursor.at()
    }

    /// The next events that are durable by now: at most `max_events`, and none after `max_bytes` of
    /// journal are read. Empty if there is nothing new. Reads the disk: not for a tokio worker.
    ///
    /// # Errors
    /// [`Error::HistoryExpired`] if the next event is not kept any more, with the oldest seq that is;
    /// [`Error::Storage`].
    pub fn take(&mut self, max_events: usize, max_bytes: usize) -> Result<Vec<Event>, Error> {
        let read = self.cursor.read(max_events, max_bytes)?;
        Ok(read.iter().map(|(commit, time)| Event::new(commit, *time)).collect())
    }

    /// The same, waiting on this thread until there is something new. Not for a tokio worker.
    ///
    /// # Errors
    /// As [`Events::take`]; [`Error::Stopped`] when everything was taken and nothing more can come.
    pub fn next(&mut self, max_events: usize, max_bytes: usize) -> Result<Vec<Event>, Error> {
        pollster::block_on(self.news())?;
        self.take(max_events, max_bytes)
    }

    /// Waits in a task until there is something to take. Reads nothing.
    ///
    /// # Errors
    /// [`Error::Stopped`] when everything was taken and nothing more can come.
    pub async fn news(&mut self) -> Result<(), Error> {
        let at = self.cursor.at();
        let poison = &self.poison;
        tokio::select! {
            biased;
            // What is durable is told to the end. The sender lives as long as the cursor.
            _ = self.progress.wait_for(|position| position.seq > at) => Ok(()),
            () = poison.ended() => Err(poison.stopped()),
        }
    }
}
