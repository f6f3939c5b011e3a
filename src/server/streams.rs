//! What streams share: how many may be open, turns to read and write for them, market data.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::engine::Engine;
use crate::error::Error;

use super::feed::MarketData;
use super::problem::Problem;
use super::state::blocking;

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
}

impl Gate {
    fn new(limit: &'static str, max: usize) -> Self {
        Self { limit, max, slots: Arc::new(Semaphore::new(max)) }
    }

    fn open(&self) -> Result<OwnedSemaphorePermit, Error> {
        let Self { limit, max, slots } = self;
        let full = |_| Error::Overloaded { limit, max: *max as u64 };
        Arc::clone(slots).try_acquire_owned().map_err(full)
    }
}

impl Streams {
    /// None open.
    pub(super) fn new(engine: Engine, limits: &Limits) -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Self {
            events: Gate::new("event_streams_max", limits.event_streams_max),
            markets: Gate::new("market_streams_max", limits.market_streams_max),
            subscriptions_max: limits.market_subscriptions_max,
            turns: Semaphore::new(cores),
            market_data: MarketData::new(engine, limits.market_trades_kept_max),
        }
    }

    /// Room for a stream of events, until it is dropped.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub(super) fn open_events(&self) -> Result<OwnedSemaphorePermit, Error> {
        self.events.open()
    }

    /// Room for a connection for market data, until it is dropped.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub(super) fn open_market_data(&self) -> Result<OwnedSemaphorePermit, Error> {
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
}
