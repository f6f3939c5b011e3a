//! The only door: start, submit, read, audit, stop.
//!
//! [`Engine`] is a handle; the work is done by actors on threads of their own. A request goes
//! in one direction through the rooms:
//!
//! ```text
//! submit ─► coordinator ─► shards ─► coordinator ─► shards and commit log ─► answer
//! ```
//!
//! The door is bounded: what cannot be accepted is refused with [`Error::Overloaded`] before it
//! takes a grant, and nothing here ever waits for room (I9).
//!
//! ```no_run
//! use crosslatch::engine::{Brief, Engine, Options};
//! use crosslatch::request::{Command, Request, Swap};
//! # fn legs() -> Vec<crosslatch::types::Leg> { vec![] }
//! # fn id() -> crosslatch::types::RequestId { crosslatch::types::RequestId::new(7) }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::start(Options::new("./data"))?;
//! let swap = Command::Swap(Swap::new(legs()).map_err(|malformed| malformed.to_string())?);
//! let answers = engine.submit(vec![Request::new(id(), swap)])?.wait()?;
//! match answers.brief(0) {
//!     Brief::Settled(seq) => println!("both legs latched under seq {seq}"),
//!     Brief::Rejected(reject) => println!("neither moved: {reject}"),
//! }
//! engine.stop()?;
//! # Ok(())
//! # }
//! ```

mod answers;
pub mod assembly;
#[cfg(feature = "rocksdb")]
mod backup;
mod events;
mod ids;
mod market_reads;
mod reads;
mod rights;
#[cfg(feature = "rocksdb")]
mod start;
mod transaction;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam::channel::{Sender, TrySendError};
use tokio::sync::oneshot;

use crate::actor::Poison;
use crate::clock::Clock;
use crate::config::{BATCH_REQUESTS_MAX, Limits};
use crate::coordinator::{AuditReply, Message};
use crate::directory::Directory;
use crate::error::{Error, Malformed, Reject};
use crate::message::{Submission, Totals, Txn};
use crate::metrics::EngineMetrics;
use crate::request::{Action, Command, Request};
use crate::store::durable::{Durable, InFlight, Progress};
use crate::store::journal;
use crate::store::materializer::Drainer;
use crate::store::reader::Reader;
use crate::store::snapshots::Snapshots;
use crate::types::{Amount, AssetId, CommitSeq};

pub use crate::store::Durability;
pub use crate::store::order_reads::{OrderView, Trade};
pub use answers::{Answers, Brief, Pending};
pub use events::{Event, Events};
pub use ids::IdSource;
pub use market_reads::{BookView, OpenOrders, StandingOrders};
pub use reads::{ExpiringHolds, HoldState, Known};
pub use transaction::{Committed, TransactError, Transaction};

use answers::Early;

/// How an engine is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory; created (0700) when missing, locked while the engine runs.
    pub data: PathBuf,
    /// Every limit.
    pub limits: Limits,
    /// Whether an answer waits for the disk.
    pub durability: Durability,
    /// Where blocks of the journal go that are older than
    /// [`Limits::journal_archive_after_secs`]; created (0700) when missing. `None`: no more go there;
    /// what is there is read from where it was put.
    pub journal_archive_dir: Option<PathBuf>,
}

impl Options {
    /// Defaults on that directory.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            limits: Limits::default(),
            durability: Durability::Sync,
            journal_archive_dir: None,
        }
    }
}

/// A running engine. Cheap to clone; every clone is the same engine. It stops when
/// [`Engine::stop`] is called, or the last clone is dropped.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    limits: Limits,
    directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
    poison: Poison,
    inbox: Sender<Message>,
    requests: Arc<InFlight>,
    reads: Arc<InFlight>,
    #[cfg(feature = "rocksdb")]
    backups: Arc<InFlight>,
    durable: Arc<Durable>,
    applied: Arc<Progress>,
    reader: Arc<Reader>,
    /// What can be backed up: `None` for an engine that stands on something else.
    #[cfg(feature = "rocksdb")]
    rocks: Option<Arc<crate::store::rocks::RocksStore>>,
    drainer: Drainer,
    snapshots: Arc<Snapshots>,
    ids: IdSource,
    metrics: EngineMetrics,
    /// What is to be joined, in the order in which the actors end; taken by the first stop.
    running: Mutex<Option<Running>>,
}

/// The threads of an engine.
struct Running {
    actors: Vec<JoinHandle<()>>,
    finish: Box<dyn FnOnce() + Send>,
}

/// Where the engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// `D`: everything up to this is on disk.
    pub durable_seq: CommitSeq,
    /// `A`: everything up to this is in the version store.
    pub applied_seq: CommitSeq,
    /// Requests accepted and not yet answered.
    pub in_flight: usize,
}

/// One asset in an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetAudit {
    /// Which asset.
    pub asset: AssetId,
    /// Deposits − withdrawals, as committed.
    pub supply: Amount,
    /// Sum of all balances, counted anew.
    pub balances: Amount,
}

/// An audit of the running engine, at one seq.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The snapshot.
    pub seq: CommitSeq,
    /// Per asset.
    pub assets: Vec<AssetAudit>,
    /// How many balances were added up.
    pub balances: u64,
}

impl Engine {
    /// Hands over up to 8,192 requests. Never blocks, never reads the disk.
    ///
    /// Malformed requests are answered in their place and leave no trace. The order in which two
    /// submissions of different callers are sequenced is the order of the calls.
    ///
    /// # Errors
    /// Nothing was taken: [`Error::Overloaded`]; [`Error::Stopped`]; or [`Error::Read`] for more
    /// requests than a submission may have.
    pub fn submit(&self, requests: Vec<Request>) -> Result<Pending, Error> {
        let asked = requests.len();
        if asked > BATCH_REQUESTS_MAX {
            let why =
                format!("has {asked} requests; one submission has at most {BATCH_REQUESTS_MAX}");
            return Err(Error::Read(Reject::Malformed(Malformed::new("requests", why))));
        }
        self.submit_in(self.reserve(asked)?, requests)
    }

    /// Takes room for so many requests before they are read and checked: who is refused for want of
    /// room should cost nothing more.
    ///
    /// # Errors
    /// [`Error::Overloaded`]; [`Error::Stopped`].
    pub fn reserve(&self, n: usize) -> Result<Room, Error> {
        let inner = &*self.inner;
        let max = inner.limits.requests_in_flight_max;
        inner.admit(&inner.requests, n, max, "requests_in_flight_max")?;
        Ok(Room { requests: inner.requests.clone(), n })
    }

    /// [`Engine::submit`] for requests that room was taken for, at most as many.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    ///
    /// # Panics
    /// There are more requests than room.
    pub fn submit_in(&self, mut room: Room, requests: Vec<Request>) -> Result<Pending, Error> {
        let inner = &*self.inner;
        assert!(requests.len() <= room.n, "there is room for all that is handed over");
        let accepted_nanos = inner.clock.boot_nanos();
        let (txns, early) = inner.prepare(requests);
        let pending = |reply| Pending {
            reply,
            early,
            poison: inner.poison.clone(),
            reader: inner.reader.clone(),
            directory: inner.directory.clone(),
        };
        if txns.is_empty() {
            return Ok(pending(None));
        }
        let taken = txns.len();
        let (reply, receiver) = oneshot::channel();
        inner.send(Message::Submit(Submission { txns, reply, accepted_nanos }))?;
        // These are released with their answers.
        room.n -= taken;
        inner.metrics.in_flight(inner.requests.get());
        Ok(pending(Some(receiver)))
    }

    /// Per asset, deposits − withdrawals against the sum of all balances, at one durable seq.
    ///
    /// Every shard adds up all of its balances anew, and settles nothing meanwhile.
    ///
    /// # Errors
    /// [`Error::Overloaded`]; [`Error::Stopped`].
    pub async fn audit(&self) -> Result<Audit, Error> {
        let inner = &*self.inner;
        let (supply_reply, supply) = oneshot::channel();
        let (totals_replies, totals): (Vec<_>, Vec<_>) =
            (0..inner.limits.shards).map(|_| oneshot::channel()).unzip();
        let reply = AuditReply { supply: supply_reply, totals: totals_replies };
        let _admitted = inner.admit_read()?;
        inner.send(Message::Audit(reply))?;
        let (seq, supply) = inner.poison.or_stopped(supply).await?;
        let mut audit = Audit::of_supply(seq, &supply);
        for totals in totals {
            let (of, totals) = inner.poison.or_stopped(totals).await?;
            assert_eq!(of, seq, "all parts of an audit are of one seq");
            audit.add(&totals);
        }
        Ok(audit)
    }

    /// Assets, accounts and links. What is found may be shown once [`Engine::directory_durable`] returns.
    pub fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    /// Waits until every directory change made so far is durable (call it after the lookup).
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn directory_durable(&self) -> Result<(), Error> {
        let inner = &*self.inner;
        let seq = inner.directory.changed_seq();
        tokio::select! {
            () = inner.durable.progress.reached(seq) => Ok(()),
            _ = inner.poison.tripped() => Err(inner.poison.stopped()),
        }
    }

    /// Where the engine is.
    pub fn status(&self) -> Status {
        // `A` first: it never passes `D`.
        let applied_seq = self.inner.applied.seq();
        let durable_seq = self.inner.durable.seq();
        Status { durable_seq, applied_seq, in_flight: self.inner.requests.get() }
    }

    /// What poisoned the engine, if something did.
    pub fn stopped(&self) -> Option<String> {
        self.inner.poison.cause()
    }

    /// Waits (in a task) until the engine is poisoned; returns the cause.
    pub async fn poisoned(&self) -> String {
        self.inner.poison.tripped().await
    }

    /// Waits until the version store has caught up with what is durable now (`A` = `D`). Blocks.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn drain(&self) -> Result<(), Error> {
        let inner = &*self.inner;
        let block = inner.durable.progress.block();
        if inner.drainer.drain(block) { Ok(()) } else { Err(inner.poison.stopped()) }
    }

    /// Stops accepting, answers what is in flight, syncs, folds, closes. Idempotent. Blocks.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the engine was poisoned before or meanwhile.
    pub fn stop(&self) -> Result<(), Error> {
        self.inner.stop();
        match self.stopped() {
            Some(_) => Err(self.inner.poison.stopped()),
            None => Ok(()),
        }
    }
}

impl Audit {
    fn of_supply(seq: CommitSeq, supply: &[Amount]) -> Self {
        let assets = (0..)
            .zip(supply)
            .map(|(asset, supply)| AssetAudit {
                asset: AssetId::new(asset),
                supply: *supply,
                balances: Amount::ZERO,
            })
            .collect();
        Self { seq, assets, balances: 0 }
    }

    fn add(&mut self, totals: &Totals) {
        self.balances += totals.balances;
        for (asset, sum) in self.assets.iter_mut().zip(&totals.sums) {
            let raised = asset.balances.checked_add(*sum);
            asset.balances = raised.expect("the supply cap bounds the sum of all balances");
        }
    }

    /// Whether every asset's balances add up to its supply.
    pub fn is_conserved(&self) -> bool {
        self.assets.iter().all(|asset| asset.supply == asset.balances)
    }
}

/// Room for requests that are still to come. It counts as in flight until they are handed over, or
/// this is dropped.
pub struct Room {
    requests: Arc<InFlight>,
    n: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.requests.release(self.n);
    }
}

/// A read that counts as in flight until it is dropped.
struct Admitted {
    reads: Arc<InFlight>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.reads.release(1);
    }
}

impl Inner {
    /// Checks, nets and digests requests on their caller's thread.
    fn prepare(&self, requests: Vec<Request>) -> (Vec<Txn>, Vec<Early>) {
        let mut txns = Vec::with_capacity(requests.len());
        let mut early = Vec::new();
        let mut scratch = Vec::new();
        for (index, request) in requests.into_iter().enumerate() {
            let id = request.id;
            let kind = request.command.kind();
            let digest = journal::digest(&request.command, request.deadline, &mut scratch);
            match self.check(&request).and_then(|()| Txn::new(request, digest, self.limits.shards))
            {
                Ok(txn) => txns.push(txn),
                Err(malformed) => {
                    self.metrics.malformed(kind, 1);
                    early.push(Early { index, id, malformed });
                }
            }
        }
        (txns, early)
    }

    /// Checks what depends on the engine's limits.
    fn check(&self, request: &Request) -> Result<(), Malformed> {
        match &request.command {
            Command::Prepare(prepare) => {
                let (asked, max) = (prepare.expires_in_ms, self.limits.hold_expiry_max_ms);
                if asked <= max {
                    return Ok(());
                }
                Err(Malformed::new("expires_in_ms", format!("is {asked}; give 1 to {max}")))
            }
            Command::ExpireOrder(_) => Err(Malformed::new(
                "command",
                "is an expiry, which only the engine itself asks for",
            )),
            Command::Resolve(resolve) if resolve.action == Action::Expire => {
                Err(Malformed::new("action", "is expire, which only the engine itself asks for"))
            }
            _ => Ok(()),
        }
    }

    fn admit(
        &self,
        in_flight: &InFlight,
        n: usize,
        max: usize,
        limit: &'static str,
    ) -> Result<(), Error> {
        if self.poison.is_stopping() || self.poison.is_tripped() {
            return Err(self.poison.stopped());
        }
        if in_flight.admit(n, max) {
            return Ok(());
        }
        self.metrics.overloaded(n as u64);
        Err(Error::Overloaded { limit, max: max as u64 })
    }

    fn admit_read(&self) -> Result<Admitted, Error> {
        let max = self.limits.reads_in_flight_max;
        self.admit(&self.reads, 1, max, "reads_in_flight_max")?;
        Ok(Admitted { reads: self.reads.clone() })
    }

    fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<(Admitted, oneshot::Receiver<T>), Error> {
        let admitted = self.admit_read()?;
        let (reply, receiver) = oneshot::channel();
        self.send(message(reply))?;
        Ok((admitted, receiver))
    }

    /// The inbox has room for all that may be in flight, so this does not wait.
    fn send(&self, message: Message) -> Result<(), Error> {
        self.inbox.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => {
                Error::Overloaded { limit: "inbox", max: self.inbox.capacity().unwrap_or(0) as u64 }
            }
            TrySendError::Disconnected(_) => self.poison.stopped(),
        })
    }

    fn stop(&self) {
        self.poison.set_stopping();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { actors, finish }) = running else {
            return;
        };
        // A coordinator that is gone has stopped already.
        let _ = self.inbox.send(Message::Stop);
        for actor in actors {
            // A panic has poisoned the engine, which says so itself.
            let _ = actor.join();
        }
        finish();
        // What came to the inbox after the end lies there unanswered.
        self.poison.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}
