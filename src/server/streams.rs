//! What streams share: how many may be open, turns to read and write for them, market data.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::engine::Engine;
use crate::error::Error;
use crate::metrics::{OpenStream, StreamKind, StreamMetrics};

use super::feed::MarketData;
use super::problem::Problem;
use super::state::blocking;
use super::stream::Said;

/// See the [module](self).
pub(super) struct Streams {
    events: Gate,
    markets: Gate,
    subscriptions_max: usize,
    /// As many as there are cores: streams share what one client each would take.
    turns: Semaphore,
    market_data: MarketData,
}

/// So many may be open.
struct Gate {
    limit: &'static str,
    max: usize,
    slots: Arc<Semaphore>,
    metrics: StreamMetrics,
}

/// Room for a stream, until it is dropped.
pub(super) struct Slot {
    /// Counts what it says.
    pub(super) metrics: OpenStream,
    _room: OwnedSemaphorePermit,
}

impl Gate {
    fn new(limit: &'static str, max: usize, kind: StreamKind) -> Self {
        let slots = Arc::new(Semaphore::new(max));
        Self { limit, max, slots, metrics: StreamMetrics::new(kind) }
    }

    fn open(&self) -> Result<Slot, Error> {
        let Self { limit, max, slots, metrics } = self;
        let full = |_| Error::Overloaded { limit, max: *max as u64 };
        let room = Arc::clone(slots).try_acquire_owned().map_err(full)?;
        Ok(Slot { metrics: metrics.stream(), _room: room })
    }
}

impl Streams {
    /// None open.
    pub(super) fn new(engine: Engine, limits: &Limits) -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Self {
            events: Gate::new("event_streams_max", limits.event_streams_max, StreamKind::Events),
            markets: Gate::new(
                "market_streams_max",
                limits.market_streams_max,
                StreamKind::MarketData,
            ),
            subscriptions_max: limits.market_subscriptions_max,
            turns: Semaphore::new(cores),
            market_data: MarketData::new(engine, limits.market_trades_kept_max),
        }
    }

    /// Room for a stream of events, until it is dropped.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub(super) fn open_events(&self) -> Result<Slot, Error> {
        self.events.open()
    }

    /// Room for a connection for market data, until it is dropped.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub(super) fn open_market_data(&self) -> Result<Slot, Error> {
        self.markets.open()
    }

    /// Waits until no connection for market data is open. (Streams of events are answers, which the
    /// server waits for anyway.)
    pub(super) async fn closed(&self) {
        let all = u32::try_from(self.markets.max).expect("limits are checked");
        drop(self.markets.slots.acquire_many(all).await);
    }

    /// Whether a connection that has so many subscriptions may have another.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub(super) fn check_subscriptions(&self, now: usize) -> Result<(), Error> {
        if now < self.subscriptions_max {
            return Ok(());
        }
        let max = self.subscriptions_max as u64;
        Err(Error::Overloaded { limit: "market_subscriptions_max", max })
    }

    /// Where markets can be followed.
    pub(super) fn market_data(&self) -> &MarketData {
        &self.market_data
    }

    /// Reads or writes for a stream, when it is its turn, on a thread that may be blocked.
    ///
    /// # Errors
    /// `storage` when the work panicked.
    pub(super) async fn turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let _turn = self.turns.acquire().await.expect("it is never closed");
        blocking(work).await
    }

    /// Writes something that a stream says: a long one when it is its turn, on a thread that may be blocked.
    ///
    /// # Errors
    /// `storage` when the work panicked.
    pub(super) async fn said<T: Send + 'static>(
        &self,
        said: Said,
        write: impl FnOnce(Said) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        if said.is_short() { Ok(write(said)) } else { self.turn(|| write(said)).await }
    }
}
