//! What every handler has at hand: the engine, the metrics, and the way from a request to its answer.
//!
//! Nothing here blocks a worker of tokio. Submitting never waits, answers are awaited, and what
//! may read the disk or takes long to compute runs on tokio's blocking threads ([`blocking`]).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;

use tokio::sync::{Semaphore, watch};

use crate::clock::{Clock, SystemClock};
use crate::config::{Limits, UNPROVEN_BODIES_BYTES_MAX};
use crate::engine::{Engine, Known};
use crate::error::Reject;
use crate::metrics::{EngineMetrics, Exporter};
use crate::request::{Outcome, Request};
use crate::types::RequestId;

use super::backups::Backups;
use super::door::{Door, InFlight, Visitor};
use super::extract::BODIES_KIB_MAX;
use super::log;
use super::names::Names;
use super::problem::Problem;
use super::receipt::Answer;
use super::stats::Monitor;
use super::streams::Streams;

/// The server's state. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct App(Arc<Inner>, Option<Visitor>);

struct Inner {
    engine: Engine,
    exporter: Exporter,
    metrics: EngineMetrics,
    ids: FreshIds,
    /// KiB of bodies that may still be read into memory.
    bodies: Arc<Semaphore>,
    /// Of these, KiB of bodies whose signatures are not judged yet.
    unproven: Arc<Semaphore>,
    backups: Backups,
    /// Turns to make sense of a large body, half as many as there are cores: those who are accepted
    /// need them more than those who may still be refused.
    readers: Semaphore,
    /// Turns to write an answer to many, as many as there are cores: more would not be quicker, and
    /// each needs memory.
    writers: Semaphore,
    hold_expiry_ms: u64,
    door: Door,
    streams: Streams,
    monitor: Arc<Monitor>,
    stopping: watch::Sender<bool>,
}

/// A request together with the words that its caller used.
#[derive(Debug)]
pub(super) struct Asked {
    /// For the engine.
    pub request: Request,
    /// For the answer.
    pub names: Names,
}

impl Asked {
    /// Remembers of the request what its answer will need.
    pub(super) fn new(request: Request, mut names: Names) -> Self {
        names.keep(&request.command);
        Self { request, names }
    }
}

impl App {
    /// A server's state around a running engine that was started with these limits, behind that door.
    pub fn new(engine: Engine, exporter: Exporter, limits: &Limits, door: Door) -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        let streams = Streams::new(engine.clone(), limits);
        let monitor = Monitor::start(engine.clone(), exporter.clone());
        let inner = Inner {
            engine,
            exporter,
            metrics: EngineMetrics::new(),
            ids: FreshIds::new(),
            bodies: Arc::new(Semaphore::new(BODIES_KIB_MAX as usize)),
            unproven: Arc::new(Semaphore::new(UNPROVEN_BODIES_BYTES_MAX / 1024)),
            backups: Backups::default(),
            readers: Semaphore::new(cores.div_ceil(2)),
            writers: Semaphore::new(cores),
            hold_expiry_ms: limits.hold_expiry_ms,
            door,
            streams,
            monitor,
            stopping: watch::Sender::new(false),
        };
        Self(Arc::new(inner), None)
    }

    /// The same server, as it answers that visitor.
    pub(super) fn visited_by(&self, visitor: Visitor) -> Self {
        Self(Arc::clone(&self.0), Some(visitor))
    }

    /// Who asks.
    ///
    /// # Panics
    /// Nobody does: this is not what a handler was given.
    pub(super) fn visitor(&self) -> &Visitor {
        self.1.as_ref().expect("handlers answer visitors")
    }

    /// The door.
    pub(super) fn door(&self) -> &Door {
        &self.0.door
    }

    /// Whether the visitor would still be let in, for answers that go on and on.
    ///
    /// # Errors
    /// `unauthenticated`.
    pub(super) fn still(&self) -> Result<(), Problem> {
        Ok(self.door().still(self.visitor(), self.engine().directory())?)
    }

    /// Counts the members of a batch, in flight until what is returned is dropped: the request that
    /// brings them was counted as one.
    ///
    /// # Errors
    /// `rate_limited`.
    pub(super) fn charge_batch(&self, members: usize) -> Result<Option<InFlight>, Problem> {
        self.charge(members.saturating_sub(1))
    }

    /// Counts so many requests, in flight until what is returned is dropped.
    ///
    /// # Errors
    /// `rate_limited`.
    pub(super) fn charge(&self, requests: usize) -> Result<Option<InFlight>, Problem> {
        let requests = u32::try_from(requests).unwrap_or(u32::MAX);
        Ok(self.door().charge(self.visitor(), requests)?)
    }

    /// The engine behind the server.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// From now on the server is not ready: no new work is to be sent here. Open streams end.
    pub fn stop(&self) {
        self.0.stopping.send_replace(true);
    }

    /// Whether [`App::stop`] was called.
    pub(super) fn is_stopping(&self) -> bool {
        *self.0.stopping.borrow()
    }

    /// Waits until [`App::stop`] is called: what would go on for ever ends then.
    pub(super) async fn stopping(&self) {
        // The sender lives as long as this.
        let _ = self.0.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// What streams share.
    pub(super) fn streams(&self) -> &Streams {
        &self.0.streams
    }

    /// How the server did lately.
    pub(super) fn monitor(&self) -> &Monitor {
        &self.0.monitor
    }

    /// How long a prepared swap stands if its caller does not say, in milliseconds.
    pub(super) fn hold_expiry_ms(&self) -> u64 {
        self.0.hold_expiry_ms
    }

    /// The backup that is being made, if one is.
    pub(super) fn backups(&self) -> &Backups {
        &self.0.backups
    }

    pub(super) fn exporter(&self) -> &Exporter {
        &self.0.exporter
    }

    pub(super) fn bodies(&self) -> &Arc<Semaphore> {
        &self.0.bodies
    }

    /// KiB of bodies that may be read before it is known who sends them.
    pub(super) fn unproven(&self) -> &Arc<Semaphore> {
        &self.0.unproven
    }

    /// Makes sense of a large body, when it is its turn.
    ///
    /// # Errors
    /// `storage` when the work panicked.
    pub(super) async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let _turn = self.0.readers.acquire().await.expect("it is never closed");
        blocking(work).await
    }

    /// Writes a large answer, when it is its turn.
    ///
    /// # Errors
    /// `storage` when the work panicked.
    pub(super) async fn writing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let _turn = self.0.writers.acquire().await.expect("it is never closed");
        blocking(work).await
    }

    /// An id for a request whose caller gave none.
    pub(super) fn fresh_id(&self) -> RequestId {
        let id = self.0.ids.next();
        log::of_request(id);
        id
    }

    /// Counts a request of that [`crate::request::Command::kind`] which the engine never sees
    /// because it cannot be read.
    pub(super) fn counted<T>(
        &self,
        kind: &'static str,
        read: Result<T, Problem>,
    ) -> Result<T, Problem> {
        read.inspect_err(|problem| {
            if problem.code() == "malformed" {
                self.0.metrics.malformed(kind, 1);
            }
        })
    }

    /// Takes one request to its answer.
    ///
    /// # Errors
    /// The engine is overloaded or stopped.
    pub(super) async fn settle(&self, asked: Asked) -> Result<Answer, Problem> {
        let (outcome, names) = self.outcome(asked).await?;
        Ok(Answer::of(outcome, &names, self.engine().directory()))
    }

    /// Takes one request to its outcome, with the words that go with it.
    ///
    /// # Errors
    /// The engine is overloaded or stopped.
    pub(super) async fn outcome(&self, asked: Asked) -> Result<(Outcome, Names), Problem> {
        let Asked { request, names } = asked;
        let id = request.id;
        let failed = |error| Problem::from(error).of(id);
        let request = request.by(self.visitor().caller());
        let pending = self.engine().submit(vec![request]).map_err(failed)?;
        let outcome = pending.answers().await.map_err(failed)?.outcome(0);
        if !is_reused(&outcome) {
            return Ok((outcome, names));
        }
        let app = self.clone();
        blocking(move || match app.refused_before(id, &outcome, &names) {
            Some((first, names)) => (first, names),
            None => (outcome, names),
        })
        .await
    }

    /// The answer that an outcome is, in its caller's words. Reads the disk when the id was used
    /// before for another request, as that may be this one: see [`Names`].
    pub(super) fn answer(&self, id: RequestId, outcome: Outcome, names: &Names) -> Answer {
        let directory = self.engine().directory();
        match self.refused_before(id, &outcome, names) {
            Some((first, names)) => Answer::of(first, &names, directory),
            None => Answer::of(outcome, names, directory),
        }
    }

    /// Of a request whose id was used before: the first outcome, if it was this one, refused for
    /// something that did not exist then. Reads the disk in that case.
    pub(super) fn refused_before(
        &self,
        id: RequestId,
        outcome: &Outcome,
        names: &Names,
    ) -> Option<(Outcome, Names)> {
        if !is_reused(outcome) {
            return None;
        }
        let Ok(Known::Outcome(Outcome::Rejected(first))) = self.engine().known(id) else {
            return None;
        };
        let names = names.as_refused(&first.reject, self.engine().directory())?;
        Some((Outcome::Rejected(first), names))
    }
}

fn is_reused(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Rejected(refusal) if refusal.reject == Reject::RequestIdReused)
}

/// Runs what may read the disk, or computes for long, on a thread that may be blocked.
///
/// # Errors
/// `storage` when the work panicked.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Problem::new("storage", "the server failed to work out the answer"))
}

/// Request ids for callers that give none: version 7, unique across restarts.
struct FreshIds {
    /// Keyed by the operating system's randomness.
    chance: RandomState,
    given: AtomicU64,
}

impl FreshIds {
    fn new() -> Self {
        Self { chance: RandomState::new(), given: AtomicU64::new(0) }
    }

    fn next(&self) -> RequestId {
        let n = self.given.fetch_add(1, Ordering::Relaxed);
        let half = |which: u8| u128::from(self.chance.hash_one((n, which)));
        RequestId::v7(SystemClock.wall().millis(), half(0) << 64 | half(1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn fresh_ids_differ_and_carry_the_time() {
        let ids = FreshIds::new();
        let many: HashSet<RequestId> = (0..1_000).map(|_| ids.next()).collect();
        assert_eq!(many.len(), 1_000);
        assert!(many.iter().all(|id| id.v7_millis().is_some_and(|at| at > 1_700_000_000_000)));
    }
}
