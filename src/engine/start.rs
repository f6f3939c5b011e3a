//! Start: open the data directory, recover, and put the parts to work on threads of their own.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use crate::actor::spawn;
use crate::clock::{Clock, SystemClock};
use crate::coordinator;
use crate::error::Error;
use crate::faults::point;
use crate::store::Durability;
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
        let Options { data, limits, durability } = options;
        limits.validate().map_err(Error::Config)?;
        let (store, foundation) = found(&data, durability, clock, progress)?;
        let hours = limits.history_retention_hours;
        let (mut engine, parts) = Parts::assemble_watched(limits, foundation, progress)?;
        progress.check()?;
        let inner = Arc::get_mut(&mut engine.inner).expect("nobody else has it yet");
        inner.rocks = Some(store.clone());
        let running = parts.spawn(&store, hours)?;
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

impl Parts {
    /// Starts a thread for each part, from the log upward, so that each finds its receivers alive.
    fn spawn(self, store: &Arc<RocksStore>, retention_hours: u64) -> Result<Running, Error> {
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
        let retention = retention::start(retention, retention_hours, &poison)?;
        let forgetful = store.clone();
        let finish = Box::new(move || {
            point!("stop.fold");
            // Its panic was caught and has poisoned the engine.
            let _ = folding.join();
            point!("stop.folded");
            stats.stop();
            // What is being rewritten to forget would take its time; the next run goes on with it.
            forgetful.stop_compactions();
            if let Some(retention) = retention {
                retention.stop();
            }
        });
        Ok(Running { actors, finish })
    }
}
