//! The callers: each sends a submission, waits for its answers, and sends the next.
//!
//! ```text
//! closed loop   client ── next turn: now ──────────────────► build, submit, wait, record
//! open loop     pacer thread ── turns, when they are due ──► any client that is idle
//! ```
//!
//! A client is a task with one submission in flight. Tasks share few threads, as a thread of its
//! own for each of many callers would cost two context switches a swap, which no remote caller
//! costs the engine. In an open loop a submission of n swaps is due every n / rate seconds
//! whether the engine keeps up or not, and its latency counts from then: while all clients wait,
//! what is due waits too.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::clock::{Clock, SystemClock};
use crate::engine::Engine;
use crate::error::Error;

use super::alarm::Alarm;
use super::args::{End, LoadArgs};
use super::cpu;
use super::tally::Tally;
use super::workload::{ClientWorkload, Workload};

/// Threads that the clients share. More would only compete with the engine for the cores.
const GENERATOR_THREADS_MAX: usize = 1;
/// Turns that are due and that no client has taken yet; then the pacer waits, and they keep their time.
const TURNS_DUE_MAX: usize = 1_024;

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

/// One submission to be sent.
#[derive(Clone, Copy, Debug)]
struct Turn {
    swaps: usize,
    /// Boot-clock nanoseconds from which its latency counts; `None` for when it is sent.
    due_nanos: Option<u64>,
}

/// How many swaps are left to send, and until when.
#[derive(Debug)]
struct Budget {
    swaps: AtomicU64,
    ends_nanos: u64,
    batch: usize,
    stop: Arc<Alarm>,
}

impl Budget {
    fn new(args: &LoadArgs, started_nanos: u64, stop: Arc<Alarm>) -> Self {
        let (swaps, ends_nanos) = match args.end() {
            End::Swaps(swaps) => (swaps, u64::MAX),
            End::After(duration) => (u64::MAX, started_nanos + duration.as_nanos() as u64),
        };
        Self { swaps: AtomicU64::new(swaps), ends_nanos, batch: args.batch, stop }
    }

    /// Swaps of the next submission; `None` when nothing more is to be sent.
    fn take(&self, due_nanos: u64) -> Option<usize> {
        if self.stop.has_rung() || due_nanos >= self.ends_nanos {
            return None;
        }
        let take = |left: u64| (left > 0).then(|| left.saturating_sub(self.batch as u64));
        let left = self.swaps.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(left.min(self.batch as u64) as usize)
    }
}

/// Where a client's turns come from.
#[derive(Debug)]
enum Turns {
    /// The next one begins when the last one is answered.
    Closed(Budget),
    /// Each begins when it is due.
    Open(tokio::sync::Mutex<mpsc::Receiver<Turn>>),
}

impl Turns {
    async fn next(&self) -> Option<Turn> {
        match self {
            Self::Closed(budget) => {
                let swaps = budget.take(SystemClock.boot_nanos())?;
                Some(Turn { swaps, due_nanos: None })
            }
            Self::Open(due) => due.lock().await.recv().await,
        }
    }
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

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is sent, and to whom.
#[derive(Clone, Copy)]
pub(super) struct Load<'a> {
    /// How many clients, swaps, at which rate.
    pub(super) args: &'a LoadArgs,
    /// Who settles them.
    pub(super) engine: &'a Engine,
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
        let (sender, receiver) = mpsc::channel(TURNS_DUE_MAX);
        let pacer = Pacer { nanos_per_turn: self.args.batch as f64 / rate * 1e9, started_nanos };
        spawn(scope, "load-pacer", move || pacer.run(&budget, &sender))?;
        Ok(Turns::Open(tokio::sync::Mutex::new(receiver)))
    }

    /// Runs every n-th client to its end, on this thread.
    fn generate(
        self,
        number: usize,
        turns: Arc<Turns>,
        tally: Arc<Mutex<Tally>>,
    ) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(no_thread)?;
        let threads = self.args.clients().min(GENERATOR_THREADS_MAX);
        let mut clients = JoinSet::new();
        for number in (number..self.args.clients()).step_by(threads) {
            let client = Client {
                engine: self.engine.clone(),
                turns: Arc::clone(&turns),
                tally: Arc::clone(&tally),
                workload: ClientWorkload::new(Arc::clone(self.workload), number),
            };
            clients.spawn_on(client.run(), runtime.handle());
        }
        runtime.block_on(async {
            while let Some(client) = clients.join_next().await {
                client.unwrap_or_else(|error| resume_unwind(error.into_panic()))?;
            }
            Ok(())
        })
    }
}

/// An independent caller.
struct Client {
    engine: Engine,
    turns: Arc<Turns>,
    tally: Arc<Mutex<Tally>>,
    workload: ClientWorkload,
}

impl Client {
    async fn run(mut self) -> Result<(), Error> {
        while let Some(Turn { swaps, due_nanos }) = self.turns.next().await {
            let requests = self.workload.submission(swaps, SystemClock.wall().millis());
            let due_nanos = due_nanos.unwrap_or_else(|| SystemClock.boot_nanos());
            let answers = self.engine.submit(requests)?.answers().await?;
            let now_nanos = SystemClock.boot_nanos();
            let mut tally = lock(&self.tally);
            tally.took(due_nanos, now_nanos, answers.len() as u64);
            tally.answered(&answers, &mut self.workload);
        }
        Ok(())
    }
}

/// Says when submissions are due, in an open loop.
struct Pacer {
    nanos_per_turn: f64,
    started_nanos: u64,
}

impl Pacer {
    fn run(&self, budget: &Budget, turns: &mpsc::Sender<Turn>) {
        for number in 0_u64.. {
            let due_nanos = self.started_nanos + (number as f64 * self.nanos_per_turn) as u64;
            let Some(swaps) = budget.take(due_nanos) else {
                return;
            };
            let early = due_nanos.saturating_sub(SystemClock.boot_nanos());
            if early > 0 && budget.stop.wait(Duration::from_nanos(early)) {
                return;
            }
            if turns.blocking_send(Turn { swaps, due_nanos: Some(due_nanos) }).is_err() {
                return;
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(swaps: u64, ends_nanos: u64) -> Budget {
        let stop = Arc::new(Alarm::new());
        Budget { swaps: AtomicU64::new(swaps), ends_nanos, batch: 100, stop }
    }

    #[test]
    fn the_last_submission_is_what_is_left() {
        let budget = budget(250, u64::MAX);
        let taken: Vec<_> = std::iter::from_fn(|| budget.take(0)).collect();
        assert_eq!(taken, [100, 100, 50]);
    }

    #[test]
    fn nothing_is_due_after_the_end_or_the_stop() {
        let budget = budget(u64::MAX, 1_000);
        assert_eq!(budget.take(999), Some(100));
        assert_eq!(budget.take(1_000), None);
        budget.stop.ring();
        assert_eq!(budget.take(0), None);
    }

    #[test]
    fn turns_keep_their_time_while_nobody_takes_them() {
        let (sender, mut receiver) = mpsc::channel(1);
        let started_nanos = SystemClock.boot_nanos();
        let pacer = Pacer { nanos_per_turn: 1_000_000.0, started_nanos };
        let budget = budget(500, u64::MAX);
        let late = std::thread::scope(|scope| {
            scope.spawn(|| {
                pacer.run(&budget, &sender);
                drop(sender);
            });
            Alarm::new().wait(Duration::from_millis(20));
            let mut taken = Vec::new();
            while let Some(turn) = receiver.blocking_recv() {
                let due = turn.due_nanos.expect("an open loop says when") - started_nanos;
                taken.push((turn.swaps, due, SystemClock.boot_nanos() - started_nanos));
            }
            taken
        });
        let due: Vec<_> = late.iter().map(|(swaps, due, _)| (*swaps, *due)).collect();
        assert_eq!(due, (0..5).map(|turn| (100, turn * 1_000_000)).collect::<Vec<_>>());
        assert!(late[0].2 >= 20_000_000, "the first one was taken late, and counts from 0");
    }
}
