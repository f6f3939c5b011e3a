//! Runs the callers: on how few threads, for how long, and what came of it all.
//!
//! A client is a task with one submission in flight. Tasks share few threads, as a thread of its
//! own for each of many callers would cost two context switches a swap, which no remote caller
//! costs the engine.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::clock::{Clock, SystemClock};
use crate::error::Error;

use super::alarm::Alarm;
use super::args::{Funds, LoadArgs};
use super::callers::Caller;
use super::cpu;
use super::tally::Tally;
use super::target::{Pool, Target};
use super::turns::{Budget, Pacer, Turns};
use super::workload::{ClientWorkload, Workload};

/// Threads that the clients share. More would only compete with the engine for the cores.
const GENERATOR_THREADS_MAX: usize = 1;

/// What all clients and the live display share.
#[derive(Debug)]
pub(super) struct Shared {
    /// One per generator thread.
    tallies: Vec<Arc<Mutex<Tally>>>,
    /// Boot-clock nanoseconds at which sending began.
    pub(super) started_nanos: u64,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Ran {
    /// Everything that the clients saw.
    pub(super) tally: Tally,
    /// From the first submission to the last answer.
    pub(super) seconds: f64,
    /// CPU time of the generator threads.
    pub(super) generator_cpu: Duration,
    /// Whether it was stopped before its end.
    pub(super) stopped_early: bool,
}

impl Shared {
    /// Nothing sent yet; sending begins now.
    fn new(args: &LoadArgs) -> Self {
        let threads = args.clients().min(GENERATOR_THREADS_MAX) as u64;
        let tally = |thread| Arc::new(Mutex::new(Tally::new(args.seed ^ thread)));
        Self { tallies: (0..threads).map(tally).collect(), started_nanos: SystemClock.boot_nanos() }
    }

    /// The tallies, locked one at a time.
    pub(super) fn tallies(&self) -> impl Iterator<Item = MutexGuard<'_, Tally>> {
        self.tallies.iter().map(|tally| lock(tally))
    }

    /// All tallies added up.
    fn into_tally(self) -> Tally {
        let mut sum = Tally::new(0);
        self.tallies().for_each(|mut tally| sum.add(std::mem::replace(&mut tally, Tally::new(0))));
        sum
    }
}

/// A tally is counts: it is as good after a panic as before.
pub(super) fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is sent, and to whom.
#[derive(Clone, Copy)]
pub(super) struct Load<'a> {
    /// How many clients, swaps, at which rate.
    pub(super) args: &'a LoadArgs,
    /// Who settles them.
    pub(super) target: &'a Target,
    /// Which swaps.
    pub(super) workload: &'a Arc<Workload>,
    /// Set off to send nothing more.
    pub(super) stop: &'a Arc<Alarm>,
}

impl<'env> Load<'env> {
    /// Sends everything, and returns when the last answer is in. `watch` runs beside it, on a
    /// thread of its own, until its alarm goes off.
    ///
    /// # Errors
    /// Whatever ended the engine first.
    pub(super) fn run(self, watch: impl FnOnce(&Shared, &Alarm) + Send) -> Result<Ran, Error> {
        let shared = Shared::new(self.args);
        let done = Alarm::new();
        let generator_cpu = std::thread::scope(|scope| {
            let (shared, done) = (&shared, &done);
            spawn(scope, "load-display", move || watch(shared, done))?;
            let sent = self.send(scope, shared);
            done.ring();
            sent
        })?;
        let stopped_early = self.stop.has_rung();
        let started_nanos = shared.started_nanos;
        let tally = shared.into_tally();
        let nanos = tally.answered_last_nanos.saturating_sub(started_nanos);
        let seconds = Duration::from_nanos(nanos).as_secs_f64();
        Ok(Ran { tally, seconds, generator_cpu, stopped_early })
    }

    /// Starts the generator threads and waits for them; returns their CPU time.
    fn send<'scope>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        shared: &'scope Shared,
    ) -> Result<Duration, Error> {
        let turns = Arc::new(self.turns(scope, shared.started_nanos)?);
        let mut threads = Vec::new();
        for (number, tally) in shared.tallies.iter().enumerate() {
            let (turns, tally) = (Arc::clone(&turns), Arc::clone(tally));
            let generate = move || {
                let generated = self.generate(number, turns, tally);
                if generated.is_err() {
                    self.stop.ring();
                }
                generated.map(|()| cpu::of_this_thread())
            };
            threads.push(spawn(scope, "load-clients", generate)?);
        }
        // While it lives, the pacer thinks that somebody takes turns.
        drop(turns);
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|it| resume_unwind(it))).sum()
    }

    fn turns<'scope>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        started_nanos: u64,
    ) -> Result<Turns, Error> {
        let budget = Budget::new(self.args, started_nanos, Arc::clone(self.stop));
        let Some(rate) = self.args.rate else {
            return Ok(Turns::Closed(budget));
        };
        let (sender, turns) = Turns::open();
        let pacer = Pacer::new(rate, self.args.batch, started_nanos);
        spawn(scope, "load-pacer", move || pacer.run(&budget, &sender))?;
        Ok(turns)
    }

    /// Runs every n-th client to its end, on this thread.
    fn generate(
        self,
        number: usize,
        turns: Arc<Turns>,
        tally: Arc<Mutex<Tally>>,
    ) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(no_thread)?;
        let threads = self.args.clients().min(GENERATOR_THREADS_MAX);
        let pool = runtime.block_on(Pool::of(self.target, self.args.clients()))?;
        let is_full = self.args.funds == Funds::Tight;
        let mut clients = JoinSet::new();
        for number in (number..self.args.clients()).step_by(threads) {
            let caller = Caller {
                line: runtime.block_on(pool.line(number, self.args.batch, is_full))?,
                turns: Arc::clone(&turns),
                tally: Arc::clone(&tally),
                workload: ClientWorkload::new(Arc::clone(self.workload), number),
                mode: self.args.mode,
                clients: self.args.clients(),
                batch: self.args.batch,
                retries: self.args.retries(),
            };
            clients.spawn_on(caller.run(), runtime.handle());
        }
        runtime.block_on(async {
            while let Some(client) = clients.join_next().await {
                client.unwrap_or_else(|error| resume_unwind(error.into_panic()))?;
            }
            Ok(())
        })
    }
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    run: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, Error> {
    Builder::new().name(name.to_owned()).spawn_scoped(scope, run).map_err(no_thread)
}

fn no_thread(error: std::io::Error) -> Error {
    Error::Storage(format!("cannot start a thread: {error}"))
}
