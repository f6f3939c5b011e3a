//! Start: open, recover, and put the actors to work.
//!
//! Everything is recovered before the first thread starts, so no actor ever sees half a state.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::actor::{Mailbox, Poison, spawn};
use crate::clock::{Clock, LogicalClock, SystemClock};
use crate::config::Limits;
use crate::coordinator::Coordinator;
use crate::coordinator::ids::{Ids, Resolved, SeenBefore};
use crate::coordinator::txn::{Machine, Start};
use crate::directory::Directory;
use crate::error::Error;
use crate::message::{ToLog, Txn, Votes};
use crate::metrics::EngineMetrics;
use crate::request::{Hold, Purpose};
use crate::shard::balances::{Accounts, Balances};
use crate::shard::{Message as ToShard, Shard};
use crate::store::commit_log::{self, LogShared};
use crate::store::durable::{Durable, InFlight, Progress};
use crate::store::materializer::{self, MaterializerHandle, MaterializerShared};
use crate::store::reader::Reader;
use crate::store::recovery::{self, Recovered};
use crate::store::retention::{self, RetentionHandle, RetentionShared};
use crate::store::rocks::{self, RocksLog, RocksStore};
use crate::store::snapshots::Snapshots;
use crate::store::unfolded::Unfolded;
use crate::store::{Journal, StoreError, VersionStore};
use crate::types::{AssetId, CommitSeq, RequestId, Token};

use super::ids::IdSource;
use super::{Engine, Inner, Options, Running};

/// Room in the inbox beyond what may be in flight: for the message that stops the engine.
const INBOX_SPARE: usize = 1;

impl Engine {
    /// Opens the data directory, recovers, and starts the actors.
    ///
    /// # Errors
    /// [`Error::Config`] for a limit out of its range; [`Error::Storage`] for a directory that is
    /// in use, of a newer format, damaged, or not to be read. Nothing is overwritten then.
    pub fn start(options: Options) -> Result<Self, Error> {
        Self::start_with_clock(options, Arc::new(SystemClock))
    }

    /// The same with a clock of the caller's.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn start_with_clock(options: Options, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let Options { data, limits, durability } = options;
        limits.validate().map_err(Error::Config)?;
        let opened = rocks::open(&data, durability)?;
        let directory = Arc::new(Directory::new());
        let store = opened.store;
        let recovered =
            recovery::recover(&*store, &*store, opened.mark, &directory, limits.fold_requests_max)?;
        let mut holds = Vec::new();
        recovery::holds(&*store, |hold| holds.push(hold))?;
        let shards = restore_shards(&store, &recovered, &directory, &limits, &holds)?;
        let logical = LogicalClock::start(recovered.time, clock.wall(), clock.boot_nanos());
        let ids = restore_ids(&store, &logical, &limits)?;
        let poison = Poison::new();
        let parts = Parts { limits, clock, poison, directory, store, recovered, holds };
        parts.start(opened.log, shards, logical, ids)
    }
}

/// The balances of each shard, as the journal left them.
fn restore_shards(
    store: &RocksStore,
    recovered: &Recovered,
    directory: &Directory,
    limits: &Limits,
    holds: &[Hold],
) -> Result<Vec<Balances>, Error> {
    let (count, last) = (limits.shards, recovered.last.seq);
    let share = limits.held_share_max_percent;
    let mut shards: Vec<Balances> =
        (0..count).map(|shard| Balances::new(shard, count, last, share)).collect();
    recovery::balances(store, recovered, holds, |key, balance, version| {
        let chain = Accounts::chain_of(directory, key.asset);
        let linked = chain.is_some_and(|chain| directory.check_linked(key.account, chain).is_ok());
        shards[key.account.shard(count)].restore(key, balance, version, linked);
    })?;
    for hold in holds.iter().filter(|hold| hold.exclusive) {
        // What its end would give back is what it locks.
        let end = Txn::expiry(Box::new(hold.clone()), count);
        for op in end.row_ops() {
            shards[op.key.account.shard(count)].restore_lock(op.key, hold.token);
        }
    }
    recovery::records(store, |key, version| {
        shards[key.shard(count)].restore_record(&key, version);
    })?;
    Ok(shards)
}

fn restore_ids(store: &RocksStore, time: &LogicalClock, limits: &Limits) -> Result<Ids, Error> {
    let mut ids = Ids::new(time.now(), limits.recent_ids_window_ms, limits.recent_ids_max);
    let since = ids.restore_from_millis();
    store.ids_since(since, &mut |id| ids.restore(id))?;
    Ok(ids)
}

/// What recovery left, and what every actor shares.
struct Parts {
    limits: Limits,
    clock: Arc<dyn Clock>,
    poison: Poison,
    directory: Arc<Directory>,
    store: Arc<RocksStore>,
    recovered: Recovered,
    holds: Vec<Hold>,
}

/// The commit log and the materializer behind it, at work.
struct Logging {
    to_log: Sender<ToLog>,
    log: JoinHandle<()>,
    folding: MaterializerHandle,
    durable: Arc<Durable>,
    applied: Arc<Progress>,
    requests: Arc<InFlight>,
    reader: Arc<Reader>,
}

/// The shards, at work.
struct Sharding {
    to_shards: Vec<Sender<ToShard>>,
    votes: Receiver<Votes>,
    actors: Vec<JoinHandle<()>>,
}

impl Parts {
    /// Starts the actors from the log upward, so that each finds its receivers alive.
    fn start(
        self,
        log: RocksLog,
        balances: Vec<Balances>,
        time: LogicalClock,
        ids: Ids,
    ) -> Result<Engine, Error> {
        let logging = self.start_logging(log)?;
        let Sharding { to_shards, votes, actors } = self.start_shards(balances, &logging.to_log)?;
        let Self { limits, clock, poison, directory, store, recovered, holds } = self;
        let Logging { to_log, log, folding, durable, applied, requests, reader } = logging;

        let seen = StoreSeen {
            reader: reader.clone(),
            store: store.clone(),
            durable: durable.clone(),
            applied: applied.clone(),
        };
        let start = Start { last_seq: recovered.last.seq, supply: recovered.supplies, holds };
        let in_flight_max = limits.requests_in_flight_max + limits.reads_in_flight_max;
        let (inbox, from_door) = bounded(in_flight_max + INBOX_SPARE);
        let mut coordinator = Coordinator {
            machine: Machine::new(&limits, directory.clone(), seen, ids, start),
            time,
            clock: clock.clone(),
            inbox: from_door,
            votes,
            shards: to_shards,
            log: to_log,
            poison: poison.clone(),
        };
        let coordinator = spawn("coordinator".into(), &poison, move || coordinator.run())?;
        let actors = std::iter::once(coordinator).chain(actors).chain([log]).collect();

        let drainer = folding.drainer();
        let stats = rocks::spawn_stats(&store, &poison)?;
        let snapshots = Arc::new(Snapshots::new(store.horizon()?));
        let retention = start_retention(&store, &snapshots, &applied, &limits, &poison)?;
        let forgetful = store.clone();
        let finish = Box::new(move || {
            folding.join();
            stats.stop();
            // What is being rewritten to forget would take its time; the next run goes on with it.
            forgetful.stop_compactions();
            if let Some(retention) = retention {
                retention.stop();
            }
        });
        let inner = Inner {
            limits,
            directory,
            clock,
            poison,
            inbox,
            requests,
            reads: Arc::new(InFlight::new()),
            backups: Arc::new(InFlight::new()),
            durable,
            applied,
            reader,
            store,
            drainer,
            snapshots,
            ids: IdSource::default(),
            metrics: EngineMetrics::new(),
            running: Mutex::new(Some(Running { actors, finish })),
        };
        Ok(Engine { inner: Arc::new(inner) })
    }

    fn start_logging(&self, log: RocksLog) -> Result<Logging, Error> {
        let Self { limits, clock, poison, store, recovered, .. } = self;
        let durable = Arc::new(Durable::new(recovered.last));
        let applied = Arc::new(Progress::new(recovered.applied.all()));
        let unfolded = Arc::new(Unfolded::new());
        let requests = Arc::new(InFlight::new());
        let shared = MaterializerShared {
            store: store.clone(),
            unfolded: unfolded.clone(),
            applied: applied.clone(),
            poison: poison.clone(),
            clock: clock.clone(),
        };
        let mut folding = materializer::start(shared, recovered.applied, limits.fold_requests_max)?;
        let shared = LogShared {
            durable: durable.clone(),
            unfolded: unfolded.clone(),
            in_flight: requests.clone(),
            poison: poison.clone(),
            clock: clock.clone(),
        };
        let (to_log, mailbox) = Mailbox::new(limits.log_mailbox_messages_max, poison);
        let input = folding.take_input();
        let from = recovered.log_start();
        let log = commit_log::start(Box::new(log), from, shared, limits, mailbox, input)?;
        let (journal, versions) = (store.clone(), store.clone());
        let reader =
            Arc::new(Reader::new(journal, versions, unfolded, durable.clone(), applied.clone()));
        Ok(Logging { to_log, log, folding, durable, applied, requests, reader })
    }

    fn start_shards(
        &self,
        balances: Vec<Balances>,
        to_log: &Sender<ToLog>,
    ) -> Result<Sharding, Error> {
        let Self { limits, poison, directory, .. } = self;
        // A shard answers each message at most once, and the coordinator empties this channel
        // before it sends: room for all that can be unanswered means that no shard ever waits (I9).
        let unanswered = limits.shard_mailbox_messages_max + limits.batches_voting_max + 2;
        let (to_coordinator, votes) = bounded(limits.shards * unanswered);
        let mut to_shards = Vec::new();
        let mut actors = Vec::new();
        for (number, balances) in balances.into_iter().enumerate() {
            let (to_shard, mailbox) = Mailbox::new(limits.shard_mailbox_messages_max, poison);
            let mut shard = Shard {
                number,
                balances,
                accounts: directory.clone(),
                mailbox,
                votes: to_coordinator.clone(),
                log: to_log.clone(),
            };
            to_shards.push(to_shard);
            actors.push(spawn(format!("shard-{number}"), poison, move || shard.run())?);
        }
        Ok(Sharding { to_shards, votes, actors })
    }
}

/// Forgets what is older than the limits say, in the background.
fn start_retention(
    store: &Arc<RocksStore>,
    snapshots: &Arc<Snapshots>,
    applied: &Arc<Progress>,
    limits: &Limits,
    poison: &Poison,
) -> Result<Option<RetentionHandle>, Error> {
    let shared = RetentionShared {
        journal: store.clone(),
        versions: store.clone(),
        snapshots: snapshots.clone(),
        applied: applied.clone(),
    };
    retention::start(shared, limits.history_retention_hours, poison)
}

/// The store's side of the memory of request ids.
struct StoreSeen {
    reader: Arc<Reader>,
    store: Arc<RocksStore>,
    durable: Arc<Durable>,
    applied: Arc<Progress>,
}

impl SeenBefore for StoreSeen {
    fn seen(&self, id: RequestId) -> Result<bool, String> {
        self.reader.seen(id).map_err(|error| error.to_string())
    }

    fn durable_decisions(&self) -> u64 {
        self.durable.decisions()
    }

    fn resolution(&self, token: Token) -> Result<Option<Resolved>, String> {
        resolution(&*self.store, &*self.store, token).map_err(|error| error.to_string())
    }

    fn credited(&self, asset: AssetId, reference: u128) -> Result<Option<CommitSeq>, String> {
        self.store.credited(asset, reference).map_err(|error| error.to_string())
    }

    fn applied_seq(&self) -> CommitSeq {
        self.applied.seq()
    }
}

/// How a hold was resolved, if that is folded.
fn resolution(
    store: &dyn VersionStore,
    journal: &dyn Journal,
    token: Token,
) -> Result<Option<Resolved>, StoreError> {
    let Some(number) = store.block_resolving(token)? else { return Ok(None) };
    let block = journal.block(number)?;
    let commit = block.as_ref().and_then(|block| {
        let (seq, how) = block.find_resolution(token)?;
        Some((block.commit_at(seq)?, how))
    });
    let lost = || StoreError::block(number, format!("it lacks the end of hold {token}"));
    let (commit, how) = commit.ok_or_else(lost)?;
    let hold = commit.txn.hold().ok_or_else(lost)?;
    let is_withdrawal = matches!(hold.purpose, Purpose::Withdrawal(_));
    Ok(Some(Resolved { how, seq: commit.seq, is_withdrawal }))
}
