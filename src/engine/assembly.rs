//! The parts of an engine: recovered, wired to one another, and not yet on threads.
//!
//! [`super::Engine::start`] puts each on a thread of its own. Whoever wants to own the order in which
//! they move, as a simulation does, steps them one at a time, and may put channels of his own
//! between them.
//!
//! Everything is recovered before the first of them moves, so no actor ever sees half a state.

use std::sync::{Arc, Mutex};

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::actor::{Mailbox, Poison};
use crate::clock::{Clock, LogicalClock};
use crate::config::Limits;
use crate::coordinator::ids::{Ids, Resolved, SeenBefore};
use crate::coordinator::trading::StandingOrder;
use crate::coordinator::txn::{Machine, Start};
use crate::coordinator::{Coordinator, Message, payers_of};
use crate::directory::Directory;
use crate::error::Error;
use crate::faults::{Bug, planted, point};
use crate::matcher::{Books, Matcher, Message as ToMarket};
use crate::message::{MarketAnswers, ToLog, Txn, Votes};
use crate::metrics::EngineMetrics;
use crate::request::{Hold, Purpose};
use crate::shard::balances::{Accounts, Balances};
use crate::shard::{Message as ToShard, Shard};
use crate::store::commit_log::{self, LogShared};
use crate::store::durable::{Durable, InFlight, Progress};
use crate::store::materializer::{Drainer, Materializer, MaterializerShared};
use crate::store::orders::StoredOrder;
use crate::store::reader::Reader;
use crate::store::recovery::{self, Recovered};
use crate::store::retention::RetentionShared;
use crate::store::snapshots::Snapshots;
use crate::store::start_progress::StartProgress;
use crate::store::unfolded::Unfolded;
use crate::store::{CommitLog, Journal, Position, StoreError, VersionStore};
use crate::types::{AssetId, CommitSeq, RequestId, Token};

use super::{Engine, IdSource, Inner};

/// Room in the inbox beyond what may be in flight: for the message that stops the engine.
const INBOX_SPARE: usize = 1;

/// What an engine stands on.
pub struct Foundation {
    /// The reading side of the log.
    pub journal: Arc<dyn Journal>,
    /// What is derived from it.
    pub versions: Arc<dyn VersionStore>,
    /// The writing side of the log.
    pub log: Box<dyn CommitLog>,
    /// How far the journal must reach.
    pub mark: Position,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where the ids of transactions come from.
    pub ids: IdSource,
}

/// Everything of an engine that moves.
pub struct Parts {
    /// Gives requests their order. Becomes a [`crate::coordinator::Actor`].
    pub coordinator: Coordinator<StoreSeen>,
    /// Own balances.
    pub shards: Vec<Shard>,
    /// Own order books.
    pub matchers: Vec<Matcher>,
    /// Makes groups durable, and answers.
    pub log: commit_log::Actor,
    /// Folds behind.
    pub materializer: Materializer,
    /// What forgets the past works on.
    pub retention: RetentionShared,
    /// What was found at the start.
    pub recovered: Recovered,
    /// The engine's switch.
    pub poison: Poison,
}

impl Parts {
    /// Recovers what the foundation holds. The engine takes requests at once, and answers them as the
    /// parts are moved; where they are on threads, stopping it is up to those.
    ///
    /// # Errors
    /// [`Error::Config`] for a limit out of its range; [`Error::Storage`] for data that is damaged or
    /// cannot be read. Nothing is overwritten then.
    pub fn assemble(limits: Limits, foundation: Foundation) -> Result<(Engine, Self), Error> {
        Self::assemble_watched(limits, foundation, &StartProgress::default())
    }

    /// [`Parts::assemble`], which says how far it is.
    ///
    /// # Errors
    /// As [`Parts::assemble`]; also when it is asked to stop.
    pub fn assemble_watched(
        limits: Limits,
        foundation: Foundation,
        progress: &StartProgress,
    ) -> Result<(Engine, Self), Error> {
        limits.validate().map_err(Error::Config)?;
        let Foundation { journal, versions, mut log, mark, clock, ids } = foundation;
        let directory = Arc::new(Directory::new());
        let (from, to, max) = (&*journal, &*versions, limits.fold_requests_max);
        let recovered = recovery::recover_watched(from, to, mark, &directory, max, progress)?;
        let (holds, orders) = restore_open(&*versions)?;
        let open = (&holds[..], &orders[..]);
        let balances = restore_shards(&*versions, &recovered, &directory, &limits, open)?;
        point!("recover.balances");
        let time = LogicalClock::start(recovered.time, clock.wall(), clock.boot_nanos());
        let recent = restore_ids(&*versions, &time, &limits)?;
        point!("recover.ids");
        log.begin(recovered.last)?;
        let poison = Poison::new();
        let base = Base { limits, clock, poison, directory, journal, versions, recovered };
        let Logging { to_log, log, materializer, durable, applied, requests, reader, drainer } =
            base.logging(log);
        let (to_shards, votes, shards) = base.shards(balances, &to_log);
        let seen = base.seen(&reader, &durable, &applied);
        let Recovered { last, supplies, .. } = &base.recovered;
        let (books, orders) = base.restore_books(orders)?;
        let (to_markets, answers, matchers) = base.matchers(books);
        let start = Start { last_seq: last.seq, supply: supplies.clone(), holds, orders };
        let (inbox, from_door) = base.inbox();
        let coordinator = Coordinator {
            machine: Machine::new(&base.limits, base.directory.clone(), seen, recent, start),
            time,
            clock: base.clock.clone(),
            inbox: from_door,
            votes,
            answers,
            shards: to_shards,
            markets: to_markets,
            log: to_log,
            poison: base.poison.clone(),
        };
        let snapshots = Arc::new(Snapshots::new(base.versions.horizon()?));
        let Base { limits, clock, poison, directory, journal, versions, recovered } = base;
        let (pins, done) = (snapshots.clone(), applied.clone());
        let retention = RetentionShared { journal, versions, snapshots: pins, applied: done };
        let inner = Inner {
            limits,
            directory,
            clock,
            poison: poison.clone(),
            inbox,
            requests,
            reads: Arc::new(InFlight::new()),
            #[cfg(feature = "rocksdb")]
            backups: Arc::new(InFlight::new()),
            durable,
            applied,
            reader,
            #[cfg(feature = "rocksdb")]
            rocks: None,
            drainer,
            snapshots,
            ids,
            metrics: EngineMetrics::new(),
            running: Mutex::new(None),
        };
        let parts =
            Self { coordinator, shards, matchers, log, materializer, retention, recovered, poison };
        Ok((Engine { inner: Arc::new(inner) }, parts))
    }
}

/// Open holds and open orders, as the journal left them.
fn restore_open(store: &dyn VersionStore) -> Result<(Vec<Hold>, Vec<StoredOrder>), Error> {
    let mut holds = Vec::new();
    recovery::holds(store, |hold| holds.push(hold))?;
    point!("recover.holds");
    let orders = store.open_orders()?;
    point!("recover.orders");
    Ok((holds, orders))
}

/// The balances of each shard, as the journal left them.
fn restore_shards(
    store: &dyn VersionStore,
    recovered: &Recovered,
    directory: &Directory,
    limits: &Limits,
    (holds, orders): (&[Hold], &[StoredOrder]),
) -> Result<Vec<Balances>, Error> {
    let (count, last) = (limits.shards, recovered.last.seq);
    let share = limits.held_share_max_percent;
    let mut shards: Vec<Balances> =
        (0..count).map(|shard| Balances::new(shard, count, last, share)).collect();
    recovery::balances(store, recovered, (holds, orders, directory), |key, balance, version| {
        let chain = Accounts::chain_of(directory, key.asset);
        let linked = chain.is_some_and(|chain| directory.check_linked(key.account, chain).is_ok());
        shards[key.account.shard(count)].restore(key, balance, version, linked);
    })?;
    for hold in holds.iter().filter(|hold| hold.exclusive && !planted(Bug::ForgetLocks)) {
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

fn restore_ids(
    store: &dyn VersionStore,
    time: &LogicalClock,
    limits: &Limits,
) -> Result<Ids, Error> {
    let mut ids = Ids::new(time.now(), limits.recent_ids_window_ms, limits.recent_ids_max);
    let since = ids.restore_from_millis();
    if !planted(Bug::ForgetIds) {
        store.ids_since(since, &mut |id| ids.restore(id))?;
    }
    Ok(ids)
}

/// What recovery left, and what every part shares.
struct Base {
    limits: Limits,
    clock: Arc<dyn Clock>,
    poison: Poison,
    directory: Arc<Directory>,
    journal: Arc<dyn Journal>,
    versions: Arc<dyn VersionStore>,
    recovered: Recovered,
}

/// The commit log, the materializer behind it, and what they publish.
struct Logging {
    to_log: Sender<ToLog>,
    log: commit_log::Actor,
    materializer: Materializer,
    drainer: Drainer,
    durable: Arc<Durable>,
    applied: Arc<Progress>,
    requests: Arc<InFlight>,
    reader: Arc<Reader>,
}

impl Base {
    fn logging(&self, log: Box<dyn CommitLog>) -> Logging {
        let Self { limits, clock, poison, journal, versions, recovered, .. } = self;
        let durable = Arc::new(Durable::new(recovered.last));
        let applied = Arc::new(Progress::new(recovered.applied.all()));
        let unfolded = Arc::new(Unfolded::new());
        let requests = Arc::new(InFlight::new());
        let shared = MaterializerShared {
            store: versions.clone(),
            unfolded: unfolded.clone(),
            applied: applied.clone(),
            poison: poison.clone(),
            clock: clock.clone(),
        };
        let (materializer, input, drainer) = Materializer::new(shared, recovered.applied, limits);
        let shared = LogShared {
            durable: durable.clone(),
            unfolded: unfolded.clone(),
            in_flight: requests.clone(),
            poison: poison.clone(),
            clock: clock.clone(),
        };
        let (to_log, mailbox) = Mailbox::new(limits.log_mailbox_messages_max, poison);
        let from = recovered.log_start();
        let log = commit_log::Actor::new(log, from, shared, limits, mailbox, input);
        let (journal, versions) = (journal.clone(), versions.clone());
        let reader =
            Arc::new(Reader::new(journal, versions, unfolded, durable.clone(), applied.clone()));
        Logging { to_log, log, materializer, drainer, durable, applied, requests, reader }
    }

    fn shards(
        &self,
        balances: Vec<Balances>,
        to_log: &Sender<ToLog>,
    ) -> (Vec<Sender<ToShard>>, Receiver<Votes>, Vec<Shard>) {
        let Self { limits, poison, directory, .. } = self;
        // A shard answers each message at most once, and the coordinator empties this channel
        // before it sends: room for all that can be unanswered means that no shard ever waits (I9).
        let unanswered = limits.shard_mailbox_messages_max + limits.batches_voting_max + 2;
        let (to_coordinator, votes) = bounded(limits.shards * unanswered);
        let mut to_shards = Vec::new();
        let mut shards = Vec::new();
        for (number, balances) in balances.into_iter().enumerate() {
            let (to_shard, mailbox) = Mailbox::new(limits.shard_mailbox_messages_max, poison);
            to_shards.push(to_shard);
            shards.push(Shard {
                number,
                balances,
                accounts: directory.clone(),
                mailbox,
                votes: to_coordinator.clone(),
                log: to_log.clone(),
            });
        }
        (to_shards, votes, shards)
    }

    fn seen(
        &self,
        reader: &Arc<Reader>,
        durable: &Arc<Durable>,
        applied: &Arc<Progress>,
    ) -> StoreSeen {
        StoreSeen {
            reader: reader.clone(),
            journal: self.journal.clone(),
            versions: self.versions.clone(),
            durable: durable.clone(),
            applied: applied.clone(),
        }
    }

    /// The books of each market actor, and the orders that stand in them.
    fn restore_books(
        &self,
        stored: Vec<StoredOrder>,
    ) -> Result<(Vec<Books>, Vec<StandingOrder>), Error> {
        let Limits { market_actors: actors, orders_per_market_max, .. } = self.limits;
        let new = || Books::new(self.directory.clone(), orders_per_market_max);
        let mut books: Vec<Books> = std::iter::repeat_with(new).take(actors).collect();
        let mut orders = Vec::with_capacity(stored.len());
        for StoredOrder { market, open, client_order_id } in stored {
            let books = &mut books[market.get() as usize % actors];
            let id = books.restore(market, &open).map_err(|why| {
                let order = open.order;
                Error::Storage(format!("order {order} cannot stand in its book: {why}"))
            })?;
            orders.push(StandingOrder { market, id, open, client_order_id });
        }
        for (market, price) in self.versions.last_prices()? {
            books[market.get() as usize % actors].restore_price(market, price);
        }
        Ok((books, orders))
    }

    fn matchers(
        &self,
        books: Vec<Books>,
    ) -> (Vec<Sender<ToMarket>>, Receiver<MarketAnswers>, Vec<Matcher>) {
        let Self { limits, poison, .. } = self;
        // As with votes: one answer a message, and room for all that can be unanswered.
        let unanswered = limits.market_mailbox_messages_max + 2;
        let (to_coordinator, answers) = bounded(limits.market_actors * unanswered);
        let mut to_markets = Vec::new();
        let mut matchers = Vec::new();
        for (number, books) in books.into_iter().enumerate() {
            let (to_market, mailbox) = Mailbox::new(limits.market_mailbox_messages_max, poison);
            to_markets.push(to_market);
            matchers.push(Matcher { number, books, mailbox, answers: to_coordinator.clone() });
        }
        (to_markets, answers, matchers)
    }

    /// With room for all that may be in flight.
    fn inbox(&self) -> (Sender<Message>, Receiver<Message>) {
        let Limits { requests_in_flight_max, reads_in_flight_max, .. } = self.limits;
        bounded(requests_in_flight_max + reads_in_flight_max + INBOX_SPARE)
    }
}

/// The store's side of the memory of request ids.
pub struct StoreSeen {
    reader: Arc<Reader>,
    journal: Arc<dyn Journal>,
    versions: Arc<dyn VersionStore>,
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
        resolution(&*self.versions, &*self.journal, token).map_err(|error| error.to_string())
    }

    fn credited(&self, asset: AssetId, reference: u128) -> Result<Option<CommitSeq>, String> {
        self.versions.credited(asset, reference).map_err(|error| error.to_string())
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
    // The coordinator waits for no archive.
    if let Some(end) = journal.archived_end(token)? {
        return Ok(Some(end));
    }
    let block = journal.block(number)?;
    let commit = block.as_ref().and_then(|block| {
        let (seq, how) = block.find_resolution(token)?;
        Some((block.commit_at(seq)?, how))
    });
    let lost = || StoreError::block(number, format!("it lacks the end of hold {token}"));
    let (commit, how) = commit.ok_or_else(lost)?;
    let hold = commit.txn.hold().ok_or_else(lost)?;
    let is_withdrawal = matches!(hold.purpose, Purpose::Withdrawal(_));
    let payers = payers_of(hold);
    Ok(Some(Resolved { how, seq: commit.seq, is_withdrawal, payers }))
}
