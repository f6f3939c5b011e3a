//! Market data: one follower of the engine's events for all who want to know of markets.
//!
//! ```text
//! Events ─► projector (one task) ─► a tape a market ─┬─ bell ─► connection
//!              ▲                                     └─ bell ─► connection
//!              └ joins: orders that stand, as of a seq
//! ```
//!
//! It starts with the first follower and stops with the last. A market that nobody follows costs nothing.
//! Followers have no queue: the tape is theirs to read whenever they have time, and a bell rings when
//! there is something on it.
//!
//! A market joins between two turns: its orders are looked at as of a seq at or after all that the
//! projector has read, so it takes in exactly the settlements after that seq.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::config::{STREAM_CHANGED_LEVELS_MAX, STREAM_TURN_BYTES_MAX, STREAM_TURN_EVENTS_MAX};
use crate::engine::{Engine, Event, Events};
use crate::error::{Error, OrderFault, Reject};
use crate::market::MarketSpec;
use crate::market::tape::{Memory, Tape};
use crate::request::Command;
use crate::types::MarketId;

/// Where markets can be followed.
pub(super) struct MarketData {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    memory: Memory,
    state: Mutex<State>,
    /// Rings when somebody joins or leaves.
    bell: Notify,
}

#[derive(Default)]
struct State {
    followers: usize,
    /// Whether there is a projector.
    running: bool,
    joining: Vec<Joining>,
}

struct Joining {
    market: MarketId,
    reply: oneshot::Sender<Result<Arc<Feed>, Error>>,
}

/// A market that is followed.
pub(super) struct Feed {
    market: MarketId,
    spec: Arc<MarketSpec>,
    tape: Mutex<Tape>,
    bells: Mutex<Vec<Arc<Notify>>>,
    /// Why nothing more comes.
    ended: OnceLock<Error>,
}

impl Feed {
    /// What the market is.
    pub(super) fn spec(&self) -> &MarketSpec {
        &self.spec
    }

    /// The same, to be kept.
    pub(super) fn shared_spec(&self) -> &Arc<MarketSpec> {
        &self.spec
    }

    /// Looks at the tape; not for long, as the projector waits meanwhile.
    ///
    /// # Errors
    /// Why nothing more comes.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Tape) -> T) -> Result<T, Error> {
        match self.ended.get() {
            Some(error) => Err(error.clone()),
            None => Ok(look(&locked(&self.tape))),
        }
    }

    fn ring(&self) {
        locked(&self.bells).iter().for_each(|bell| bell.notify_one());
    }
}

/// Somebody who follows a market, until this is dropped.
pub(super) struct Followed {
    feed: Option<Arc<Feed>>,
    bell: Arc<Notify>,
    shared: Arc<Shared>,
}

impl Followed {
    /// The market.
    pub(super) fn feed(&self) -> &Feed {
        self.feed.as_ref().expect("it is there since the market was joined")
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Some(feed) = self.feed.take() {
            let mut bells = locked(&feed.bells);
            if let Some(place) = bells.iter().position(|bell| Arc::ptr_eq(bell, &self.bell)) {
                bells.swap_remove(place);
            }
        }
        locked(&self.shared.state).followers -= 1;
        self.shared.bell.notify_one();
    }
}

impl MarketData {
    /// Nobody follows anything yet.
    pub(super) fn new(engine: Engine, trades_kept_max: usize) -> Self {
        let memory = Memory { levels: STREAM_CHANGED_LEVELS_MAX, trades: trades_kept_max };
        let (state, bell) = (Mutex::default(), Notify::new());
        Self { shared: Arc::new(Shared { engine, memory, state, bell }) }
    }

    /// Follows a market: `bell` rings whenever there may be something new on its tape. Call it in a runtime.
    ///
    /// # Errors
    /// The market does not exist, or what the engine says.
    pub(super) async fn follow(
        &self,
        market: MarketId,
        bell: Arc<Notify>,
    ) -> Result<Followed, Error> {
        let (reply, joined) = oneshot::channel();
        let mut followed = {
            let mut state = locked(&self.shared.state);
            state.followers += 1;
            state.joining.push(Joining { market, reply });
            if !state.running {
                state.running = true;
                tokio::spawn(Projector::run(Arc::clone(&self.shared)));
            }
            Followed { feed: None, bell, shared: Arc::clone(&self.shared) }
        };
        self.shared.bell.notify_one();
        let gone = || Error::Storage("the follower of events has failed".into());
        let feed = joined.await.map_err(|_| gone())??;
        locked(&feed.bells).push(Arc::clone(&followed.bell));
        followed.feed = Some(feed);
        Ok(followed)
    }
}

/// Follows the events for everybody.
struct Projector {
    shared: Arc<Shared>,
    markets: HashMap<MarketId, Arc<Feed>>,
}

/// What the projector does next.
enum Next {
    Go(Events),
    /// Nobody follows any more.
    Stop,
}

impl Projector {
    async fn run(shared: Arc<Shared>) {
        let mut projector = Self { shared, markets: HashMap::new() };
        let events = projector.shared.engine.events(projector.shared.engine.status().durable_seq);
        let mut next = events.map(Next::Go);
        loop {
            next = match next {
                Ok(Next::Go(events)) => projector.turn(events).await,
                Ok(Next::Stop) => return,
                Err(error) => return projector.fail(&error),
            };
        }
    }

    /// Lets in who joins, reads on, waits if there is nothing to read.
    async fn turn(&mut self, events: Events) -> Result<Next, Error> {
        self.markets.retain(|_, feed| Arc::strong_count(feed) > 1);
        let Some(joining) = self.joining() else { return Ok(Next::Stop) };
        for Joining { market, reply } in joining {
            // Who asked may be gone.
            let _ = reply.send(self.join(market, &events).await);
        }
        let markets = self.markets.clone();
        let read = move || read(events, &markets);
        let failed = |_| Error::Storage("the follower of events has failed".into());
        let (mut events, is_at_end) = tokio::task::spawn_blocking(read).await.map_err(failed)??;
        if is_at_end {
            tokio::select! {
                news = events.news() => news?,
                () = self.shared.bell.notified() => {}
            }
        }
        Ok(Next::Go(events))
    }

    /// Who wants to join; `None` when it is over.
    fn joining(&self) -> Option<Vec<Joining>> {
        let mut state = locked(&self.shared.state);
        if state.followers == 0 {
            // Who wanted to join is gone as well.
            state.joining.clear();
            state.running = false;
            return None;
        }
        Some(std::mem::take(&mut state.joining))
    }

    /// A market as of now.
    async fn join(&mut self, market: MarketId, events: &Events) -> Result<Arc<Feed>, Error> {
        if let Some(feed) = self.markets.get(&market) {
            return Ok(Arc::clone(feed));
        }
        let engine = &self.shared.engine;
        let unknown = || Error::Read(Reject::Order(OrderFault::UnknownMarket(market)));
        let spec = engine.directory().market(market).ok_or_else(unknown)?.spec;
        let standing = engine.standing_orders(market).await?;
        // What was asked after all that was read is not before any of it.
        assert!(standing.seq >= events.seq(), "a market was looked at as of the past");
        let memory = self.shared.memory;
        let build = move || Tape::new(standing.seq, standing.orders, memory);
        let failed = |_| Error::Storage("the follower of events has failed".into());
        let tape = tokio::task::spawn_blocking(build).await.map_err(failed)?;
        let feed = Arc::new(Feed {
            market,
            spec,
            tape: Mutex::new(tape),
            bells: Mutex::default(),
            ended: OnceLock::new(),
        });
        self.markets.insert(market, Arc::clone(&feed));
        Ok(feed)
    }

    /// Nothing more can come: everybody is told.
    fn fail(self, error: &Error) {
        let joining = {
            let mut state = locked(&self.shared.state);
            state.running = false;
            std::mem::take(&mut state.joining)
        };
        for feed in self.markets.values() {
            // Only here, once.
            let _ = feed.ended.set(error.clone());
            feed.ring();
        }
        for Joining { reply, .. } in joining {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

/// Reads a turn of events onto the tapes of those markets; says whether that was all there is.
fn read(
    mut events: Events,
    markets: &HashMap<MarketId, Arc<Feed>>,
) -> Result<(Events, bool), Error> {
    let found = events.take(STREAM_TURN_EVENTS_MAX, STREAM_TURN_BYTES_MAX)?;
    let is_at_end = found.is_empty();
    let mut touched: Vec<&Arc<Feed>> = Vec::new();
    for event in &found {
        let Some(settlement) = event.settlement() else { continue };
        let Some(feed) = markets.get(&settlement.market) else { continue };
        let mut tape = locked(&feed.tape);
        // It joined with this in it.
        if event.seq() <= tape.seq() {
            continue;
        }
        tape.take((event.seq(), event.time()), settlement, placed(event));
        if !touched.iter().any(|other| other.market == feed.market) {
            touched.push(feed);
        }
    }
    touched.into_iter().for_each(|feed| feed.ring());
    Ok((events, is_at_end))
}

/// The order that an event placed.
fn placed(event: &Event) -> Option<(crate::types::RequestId, crate::market::order::Side)> {
    match &event.receipt.command {
        Command::Order(order) => Some((event.receipt.request_id, order.side)),
        _ => None,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
