//! A process that runs the engine, moved one message at a time.
//!
//! The parts are the product's own. Between them are channels of the world's: what a part sends lies
//! there until it is delivered, so messages of different senders arrive in any order, and those of
//! one sender in theirs.
//!
//! ```text
//! coordinator ══► shard ══► coordinator        ══► a channel with a stop on the way
//!      ╚═══════════╩══════► commit log ──► materializer
//! ```

use std::cell::Cell;
use std::rc::Rc;

use crossbeam::channel::{Receiver, Sender, TryRecvError, unbounded};

use crosslatch::actor::Poison;
use crosslatch::config::Limits;
use crosslatch::coordinator;
use crosslatch::engine::Engine;
use crosslatch::engine::assembly::{Foundation, Parts, StoreSeen};
use crosslatch::error::Error;
use crosslatch::matcher::Matcher;
use crosslatch::message::{Vote, Votes};
use crosslatch::shard::Shard;
use crosslatch::store::commit_log::{self, Next};
use crosslatch::store::materializer::Materializer;
use crosslatch::store::recovery::Recovered;
use crosslatch::store::retention::Retention;
use crosslatch::types::MarketId;

use crate::oracle::books::{Standings, standings};

/// Sees a message pass.
type Look<T> = Box<dyn Fn(&T)>;

/// A stop on the way of messages.
struct Relay<T> {
    from: Receiver<T>,
    /// Looks at what passes.
    look: Look<T>,
    /// `None` once the sender is gone and everything was delivered.
    to: Option<Sender<T>>,
}

impl<T> Relay<T> {
    /// Puts a stop behind a sender.
    fn before(sender: &mut Sender<T>) -> Self {
        Self::looking(sender, |_| {})
    }

    /// The same, and looks at what passes.
    #[expect(
        clippy::disallowed_methods,
        reason = "what lies there is bounded by the requests in flight, and nobody else can empty it"
    )]
    fn looking(sender: &mut Sender<T>, look: impl Fn(&T) + 'static) -> Self {
        let (relayed, from) = unbounded();
        let to = std::mem::replace(sender, relayed);
        Self { from, look: Box::new(look), to: Some(to) }
    }
}

trait Deliver {
    /// Whether a message waits for which there is room.
    fn is_waiting(&self) -> bool;

    /// Delivers the next message; passes the end on when the sender is gone.
    fn deliver(&mut self);
}

impl<T> Deliver for Relay<T> {
    fn is_waiting(&self) -> bool {
        !self.from.is_empty() && self.to.as_ref().is_some_and(|to| !to.is_full())
    }

    fn deliver(&mut self) {
        match self.from.try_recv() {
            Ok(message) => {
                (self.look)(&message);
                let to = self.to.as_ref().expect("its sender lives as long as messages come");
                // A receiver that is gone ended for a cause, which shows elsewhere.
                let _ = to.send(message);
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => self.to = None,
        }
    }
}

/// Votes that are not a plain yes.
#[derive(Clone, Copy, Debug, Default)]
pub struct VoteCounts {
    pub waits: u64,
    pub late: u64,
    pub busy: u64,
    pub locked: u64,
}

impl VoteCounts {
    fn plus(mut self, votes: &Votes) -> Self {
        for (_, vote) in &votes.exceptions {
            match vote {
                Vote::Wait => self.waits += 1,
                Vote::Busy(_) => self.busy += 1,
                Vote::Locked(_) => self.locked += 1,
                Vote::Yes | Vote::No(..) => {}
            }
        }
        self.late += votes.late.len() as u64;
        self
    }
}

/// What can move next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Deliver(usize),
    Coordinator,
    Shard(usize),
    Market(usize),
    Log,
    Gather,
    Fold,
}

/// The process.
pub struct Node {
    pub engine: Engine,
    pub recovered: Recovered,
    pub retention: Retention,
    votes: Rc<Cell<VoteCounts>>,
    moving: Moving,
}

struct Moving {
    coordinator: coordinator::Actor<StoreSeen>,
    shards: Vec<Shard>,
    matchers: Vec<Matcher>,
    log: commit_log::Actor,
    materializer: Materializer,
    relays: Vec<Box<dyn Deliver>>,
    poison: Poison,
    /// Whether the commit log may find something to do.
    log_ready: bool,
    /// Whether blocks may be waiting for the materializer.
    blocks: bool,
    gathered: bool,
}

impl Node {
    /// Starts the process: recovers what the foundation has.
    pub fn start(limits: Limits, foundation: Foundation) -> Result<Self, Error> {
        let hours = limits.history_retention_hours.max(1);
        let (engine, parts) = Parts::assemble(limits, foundation)?;
        let Parts {
            mut coordinator, mut shards, mut matchers, log, materializer, retention, ..
        } = parts;
        let mut relays: Vec<Box<dyn Deliver>> = vec![Box::new(Relay::before(&mut coordinator.log))];
        let votes = Rc::new(Cell::new(VoteCounts::default()));
        for to_shard in &mut coordinator.shards {
            relays.push(Box::new(Relay::before(to_shard)));
        }
        for to_market in &mut coordinator.markets {
            relays.push(Box::new(Relay::before(to_market)));
        }
        for matcher in &mut matchers {
            relays.push(Box::new(Relay::before(&mut matcher.answers)));
        }
        for shard in &mut shards {
            let seen = votes.clone();
            let look = move |votes: &Votes| seen.set(seen.get().plus(votes));
            relays.push(Box::new(Relay::looking(&mut shard.votes, look)));
            relays.push(Box::new(Relay::before(&mut shard.log)));
        }
        let moving = Moving {
            coordinator: coordinator::Actor::new(coordinator),
            shards,
            matchers,
            log,
            materializer,
            relays,
            poison: parts.poison,
            log_ready: false,
            blocks: false,
            gathered: false,
        };
        let retention = Retention::new(retention, hours);
        Ok(Self { engine, recovered: parts.recovered, retention, votes, moving })
    }

    /// How many moves there are at most, and the place of each among them.
    pub fn places(&self) -> usize {
        let Moving { relays, shards, matchers, .. } = &self.moving;
        relays.len() + shards.len() + matchers.len() + 4
    }

    /// Everything that can move now, each with its place.
    pub fn moves(&mut self, add: impl FnMut(usize, Move)) {
        self.moving.moves(add);
    }

    /// Moves something. An error is the end of the process.
    pub fn step(&mut self, what: Move) -> Result<(), String> {
        let moved = self.moving.step(what);
        if let Err(cause) = &moved {
            // As the thread of an actor does.
            self.moving.poison.trip(cause.clone());
        }
        moved
    }

    /// What the shards have said in this run.
    pub fn votes(&self) -> VoteCounts {
        self.votes.get()
    }

    /// Holds that are open, and requests that wait for one.
    pub fn held(&self) -> (usize, usize) {
        self.moving.coordinator.machine().held()
    }

    /// Orders that are open or on their way, as far as the coordinator knows.
    pub fn orders(&self) -> usize {
        self.moving.coordinator.machine().orders()
    }

    /// What stands in the books now.
    pub fn books(&mut self) -> Standings {
        let matchers = &mut self.moving.matchers;
        let actors = matchers.len();
        let markets = self.engine.directory().markets().len() as u32;
        let one = |number: u32| {
            let books = &mut matchers[number as usize % actors].books;
            standings([&*books.market(MarketId::new(number))]).remove(0)
        };
        (0..markets).map(one).collect()
    }

    /// Where what is left over is.
    pub fn standstill(&self) -> String {
        let Moving { coordinator, shards, relays, log_ready, .. } = &self.moving;
        let machine = coordinator.machine();
        let waiting: Vec<bool> = relays.iter().map(|relay| relay.is_waiting()).collect();
        let quiet: Vec<bool> = shards.iter().map(|shard| shard.balances.is_quiet()).collect();
        format!(
            "holds and parked {:?}, machine idle {} (may sequence {}, wants more {}), \
             shards quiet {quiet:?}, messages {waiting:?}, log ready {log_ready}, idle {}",
            machine.held(),
            machine.is_idle(),
            machine.can_sequence(),
            machine.wants_more(),
            self.moving.log.is_idle(),
        )
    }

    /// Whether no shard has anything granted, waiting or locked for a moment.
    pub fn is_quiet(&self) -> bool {
        self.moving.shards.iter().all(|shard| shard.balances.is_quiet())
    }

    /// Stops as an operator would: takes nothing more, decides, answers, syncs and folds everything.
    pub fn stop(self) -> Result<(), String> {
        let Self { engine, mut moving, .. } = self;
        drop(engine);
        while moving.coordinator.step()? == coordinator::Round::Done {
            moving.settle()?;
        }
        let Moving {
            coordinator, mut shards, matchers, mut log, mut materializer, mut relays, ..
        } = moving;
        // Everything is decided: nobody asks them any more.
        drop(matchers);
        drop(coordinator);
        loop {
            relays.iter_mut().for_each(|relay| relay.deliver());
            shards.iter_mut().for_each(|shard| while shard.step() {});
            if relays.iter().all(|relay| !relay.is_waiting()) {
                shards.clear();
            }
            let next = log.step().map_err(|error| error.to_string())?;
            while materializer.step().map_err(|error| error.to_string())? {}
            materializer.fold().map_err(|error| error.to_string())?;
            if next == Next::Ended {
                return Ok(());
            }
        }
    }
}

impl Moving {
    fn moves(&mut self, mut add: impl FnMut(usize, Move)) {
        let (relays, shards) = (self.relays.len(), self.shards.len());
        let matchers = self.matchers.len();
        for (number, relay) in self.relays.iter().enumerate() {
            if relay.is_waiting() {
                add(number, Move::Deliver(number));
            }
        }
        for (number, shard) in self.shards.iter().enumerate() {
            if !shard.mailbox.is_empty() {
                add(relays + number, Move::Shard(number));
            }
        }
        for (number, matcher) in self.matchers.iter().enumerate() {
            if !matcher.mailbox.is_empty() {
                add(relays + shards + number, Move::Market(number));
            }
        }
        let others = [
            (self.coordinator.has_work(), Move::Coordinator),
            (self.log_ready, Move::Log),
            (self.blocks, Move::Gather),
            (self.gathered, Move::Fold),
        ];
        for (place, (_, other)) in others.into_iter().enumerate().filter(|(_, (can, _))| *can) {
            add(relays + shards + matchers + place, other);
        }
    }

    fn step(&mut self, what: Move) -> Result<(), String> {
        match what {
            Move::Deliver(number) => {
                self.relays[number].deliver();
                self.log_ready = true;
            }
            Move::Coordinator => drop(self.coordinator.step()?),
            Move::Shard(number) => drop(self.shards[number].step()),
            Move::Market(number) => drop(self.matchers[number].step()),
            Move::Log => {
                let next = self.log.step().map_err(|error| error.to_string())?;
                self.log_ready = next == Next::Nothing;
                self.blocks = true;
            }
            Move::Gather => {
                let some = self.materializer.step().map_err(|error| error.to_string())?;
                self.blocks = some;
                self.gathered |= some;
                // It may have folded, which makes room.
                self.log_ready |= some;
            }
            Move::Fold => {
                self.materializer.fold().map_err(|error| error.to_string())?;
                self.gathered = false;
                self.log_ready = true;
            }
        }
        Ok(())
    }

    /// Moves everything that can move, in a fixed order, until nothing can.
    fn settle(&mut self) -> Result<(), String> {
        loop {
            let mut next = None;
            self.moves(|_, what| next = next.or(Some(what)));
            match next {
                Some(what) => self.step(what)?,
                None => return Ok(()),
            }
        }
    }
}
