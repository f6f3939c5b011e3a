//! Start: open the data directory, recover, and put the parts to work on threads of their own.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use crate::actor::{Poison, spawn};
use crate::clock::{Clock, SystemClock};
use crate::config::Limits;
use crate::coordinator;
use crate::error::Error;
use crate::faults::point;
use crate::store::Durability;
use crate::store::archiver::{self, Archiver, ArchiverHandle};
use crate::store::durable::Progress;
use crate::store::retention;
use crate::store::rocks::{self, RocksStore};
use crate::store::start_progress::StartProgress;

use super::assembly::{Foundation, Parts};
use super::{Engine, IdSource, Options, Running};

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
        Self::start_watched(options, clock, &StartProgress::default())
    }

    /// The same, which says how far it is, and can be asked to stop.
    ///
    /// # Errors
    /// As [`Engine::start`]; [`Error::Storage`] when it was asked to stop.
    pub fn start_watched(
        options: Options,
        clock: Arc<dyn Clock>,
        progress: &StartProgress,
    ) -> Result<Self, Error> {
        let Options { data, limits, durability, journal_archive_dir } = options;
        limits.validate().map_err(Error::Config)?;
        let (store, foundation) = found(&data, durability, clock, progress)?;
        let keeping = Keeping::new(&store, &limits, journal_archive_dir.as_deref())?;
        let (mut engine, parts) = Parts::assemble_watched(limits, foundation, progress)?;
        progress.check()?;
        let inner = Arc::get_mut(&mut engine.inner).expect("nobody else has it yet");
        inner.rocks = Some(store.clone());
        let running = parts.spawn(&store, keeping)?;
        let slot = &engine.inner.running;
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        Ok(engine)
    }
}

fn found(
    data: &Path,
    durability: Durability,
    clock: Arc<dyn Clock>,
    progress: &StartProgress,
) -> Result<(Arc<RocksStore>, Foundation), Error> {
    let opened = rocks::open_watched(data, durability, progress)?;
    let store = opened.store;
    let foundation = Foundation {
        journal: store.clone(),
        versions: store.clone(),
        log: Box::new(opened.log),
        mark: opened.mark,
        clock,
        ids: IdSource::default(),
    };
    Ok((store, foundation))
}

/// What is kept of the past, and where.
struct Keeping {
    history_hours: u64,
    /// How old what is archived is, in seconds; `None` archives nothing.
    archive_after_secs: Option<u64>,
}

impl Keeping {
    /// Finds the archive, if there is to be one.
    fn new(store: &RocksStore, limits: &Limits, archive: Option<&Path>) -> Result<Self, Error> {
        if let Some(directory) = archive {
            store.use_archive(directory)?;
        }
        let archive_after_secs = archive.map(|_| limits.journal_archive_after_secs);
        Ok(Self { history_hours: limits.history_retention_hours, archive_after_secs })
    }

    fn archive(
        &self,
        store: &Arc<RocksStore>,
        applied: &Arc<Progress>,
        poison: &Poison,
    ) -> Result<Option<ArchiverHandle>, Error> {
        let Some(after_secs) = self.archive_after_secs else { return Ok(None) };
        let archiver = Archiver::new(Arc::clone(store), Arc::clone(applied), after_secs);
        archiver::start(archiver, poison).map(Some)
    }
}

impl Parts {
    /// Starts a thread for each part, from the log upward, so that each finds its receivers alive.
    fn spawn(self, store: &Arc<RocksStore>, keeping: Keeping) -> Result<Running, Error> {
        let Self {
            coordinator,
            shards,
            matchers,
            mut log,
            mut materializer,
            retention,
            poison,
            ..
        } = self;
        let folding = spawn("materializer".into(), &poison, move || {
            materializer.run().map_err(|error| error.to_string())
        })?;
        let log = spawn("commit-log".into(), &poison, move || {
            log.run().map_err(|error| error.to_string())
        })?;
        point!("start.logging");
        let mut actors = Vec::new();
        for mut shard in shards {
            let name = format!("shard-{}", shard.number);
            actors.push(spawn(name, &poison, move || shard.run())?);
        }
        for mut matcher in matchers {
            let name = format!("market-{}", matcher.number);
            actors.push(spawn(name, &poison, move || matcher.run())?);
        }
        let mut coordinator = coordinator::Actor::new(coordinator);
        let coordinator = spawn("coordinator".into(), &poison, move || coordinator.run())?;
        point!("start.running");
        actors.insert(0, coordinator);
        actors.push(log);
        let stats = rocks::spawn_stats(store, &poison)?;
        let archiver = keeping.archive(store, &retention.applied, &poison)?;
        let retention = retention::start(retention, keeping.history_hours, &poison)?;
        let forgetful = store.clone();
        let finish = Box::new(move || {
            point!("stop.fold");
            // Its panic was caught and has poisoned the engine.
            let _ = folding.join();
            point!("stop.folded");
            stats.stop();
            // What it is just moving it finishes, flushes included.
            if let Some(archiver) = archiver {
                archiver.stop();
            }
            // What is being rewritten to forget would take its time; the next run goes on with it.
            forgetful.stop_compactions();
            if let Some(retention) = retention {
                retention.stop();
            }
        });
        Ok(Running { actors, finish })
    }
}
