//! The coordinator actor: one thread, one order of all requests.
//!
//! It moves messages around the [`txn::Machine`], which decides. Votes go first, as they free
//! grants; requests gather in the inbox meanwhile, so batches grow with the load and no timer is
//! needed.
//!
//! Every message that wakes a sleeping thread costs microseconds, so who is waited for is told
//! first: the shards hear of a decision before the commit log does, and the log hears of a batch
//! only together with the first decision that follows. What it needs to know is there by then.

mod callers;
mod credits;
mod deciding;
mod deferred;
mod forming;
mod hold_ages;
mod holds;
pub mod ids;
mod settling;
pub mod trading;
pub mod txn;

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TryRecvError, select};
use tokio::sync::oneshot;

use crate::actor::Poison;
use crate::clock::{Clock, LogicalClock};
use crate::faults::point;
use crate::matcher::Message as ToMarket;
use crate::message::{
    AccountBalances, Gate, Look, ManyBalances, MarketAnswers, Submission, ToLog, Totals, Votes,
};
use crate::metrics::{Conflict, CoordinatorMetrics};
use crate::shard::Message as ToShard;
use crate::types::{AccountId, Amount, BalanceKey, CommitSeq, MarketId, RequestId, Time, Token};

use ids::SeenBefore;

pub use holds::payers_of;
use txn::{Expiring, ExpiringHolds, HoldStatus, Machine, Sequenced, WaitReason};

/// A hold is noticed to be over at most so much after it is, should the clock have jumped meanwhile.
const DUE_POLL_MS: u64 = 50;

/// Everything the coordinator can be asked.
pub enum Message {
    /// Sequence these requests.
    Submit(Submission),
    /// Read an account's balances, after everything sequenced and decided so far.
    Read(AccountId, oneshot::Sender<AccountBalances>),
    /// Read balances of many accounts, per shard those that it owns, all as of one seq.
    ReadMany(Vec<(Vec<BalanceKey>, oneshot::Sender<ManyBalances>)>),
    /// Say what is known of a hold, and as of which seq.
    Hold(Token, oneshot::Sender<(HoldStatus, CommitSeq)>),
    /// Say which holds expire next.
    Expiring(Expiring, oneshot::Sender<ExpiringHolds>),
    /// Look at a market, after everything that was asked of it so far.
    Look(MarketId, Look),
    /// Say whether a request of that id was sequenced and may not be durable yet.
    Sequenced(RequestId, oneshot::Sender<bool>),
    /// Add everything up at one seq.
    Audit(AuditReply),
    /// Take nothing more, decide what is in flight, and end.
    Stop,
}

/// Where the parts of an audit go.
pub struct AuditReply {
    /// Deposits − withdrawals per asset number, and the seq of the snapshot.
    pub supply: oneshot::Sender<(CommitSeq, Vec<Amount>)>,
    /// One per shard: its sums, at the same seq.
    pub totals: Vec<oneshot::Sender<(CommitSeq, Totals)>>,
}

/// The coordinator and the channels it speaks through.
pub struct Coordinator<S> {
    /// What decides.
    pub machine: Machine<S>,
    /// Logical time.
    pub time: LogicalClock,
    /// The outside world's time.
    pub clock: Arc<dyn Clock>,
    /// From the engine's door.
    pub inbox: Receiver<Message>,
    /// From the shards.
    pub votes: Receiver<Votes>,
    /// From the market actors.
    pub answers: Receiver<MarketAnswers>,
    /// To the shards, by number.
    pub shards: Vec<Sender<ToShard>>,
    /// To the market actors, by number.
    pub markets: Vec<Sender<ToMarket>>,
    /// To the commit log.
    pub log: Sender<ToLog>,
    /// The engine's one-way switch.
    pub poison: Poison,
}

/// The coordinator at work, with what it needs between two rounds.
pub struct Actor<S> {
    this: Coordinator<S>,
    metrics: CoordinatorMetrics,
    /// Batches that the commit log has not heard of.
    unannounced: Vec<ToLog>,
    /// Whether no more requests are taken.
    stopping: bool,
    /// Logical time at which it began.
    started: Time,
}

/// The other end of a channel is gone, or the store failed: the engine stops.
enum End {
    Gone,
    Failed(String),
}

impl From<End> for Result<(), String> {
    fn from(end: End) -> Self {
        match end {
            End::Gone => Ok(()),
            End::Failed(cause) => Err(cause),
        }
    }
}

/// Whether there will be another round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// There may be more to do.
    Done,
    /// It was told to stop, and everything is decided.
    Last,
}

impl<S: SeenBefore> Actor<S> {
    /// Puts a coordinator to work.
    pub fn new(coordinator: Coordinator<S>) -> Self {
        let metrics = CoordinatorMetrics::new();
        Self {
            this: coordinator,
            metrics,
            unannounced: Vec::new(),
            stopping: false,
            started: Time::default(),
        }
    }

    /// The actor's life: until it is told to stop and has decided everything, or the engine is poisoned.
    ///
    /// # Errors
    /// Why the store cannot say whether an id was seen.
    pub fn run(&mut self) -> Result<(), String> {
        self.started = self.now();
        self.metrics.decided_seq(self.this.machine.last_seq().get());
        self.tell_holds();
        loop {
            match self.round().and_then(|round| self.unless_last(round)) {
                Ok(Round::Done) => {}
                Ok(Round::Last) => return Ok(()),
                Err(end) => return end.into(),
            }
        }
    }

    /// One round, without waiting: takes what has come, asks the shards, tells what is decided. For
    /// whoever schedules the actors himself, in the place of [`Actor::run`].
    ///
    /// # Errors
    /// As [`Actor::run`].
    pub fn step(&mut self) -> Result<Round, String> {
        self.round().or_else(|end| Result::from(end).map(|()| Round::Last))
    }

    /// Whether a step would find something to do now.
    pub fn has_work(&mut self) -> bool {
        let now = self.now();
        let Coordinator { machine, votes, answers, inbox, .. } = &self.this;
        let takes = !self.stopping && machine.wants_more() && !inbox.is_empty();
        !votes.is_empty()
            || !answers.is_empty()
            || takes
            || (machine.has_backlog(now) && machine.can_sequence())
    }

    /// What decides.
    pub fn machine(&self) -> &Machine<S> {
        &self.this.machine
    }

    fn round(&mut self) -> Result<Round, End> {
        if self.this.poison.is_tripped() {
            return Err(End::Gone);
        }
        // Votes free grants, so they go before new requests.
        self.take_votes()?;
        self.take_answers()?;
        self.take_requests()?;
        self.sequence()?;
        let is_last = self.stopping && self.this.machine.is_idle();
        Ok(if is_last { Round::Last } else { Round::Done })
    }

    fn unless_last(&mut self, round: Round) -> Result<Round, End> {
        if round == Round::Done {
            self.wait()?;
        }
        Ok(round)
    }

    /// Waits for the next message of either kind and takes it.
    fn wait(&mut self) -> Result<(), End> {
        if !(self.this.votes.is_empty() && self.this.answers.is_empty()) {
            return Ok(());
        }
        let votes = self.this.votes.clone();
        let answers = self.this.answers.clone();
        let inbox = self.this.inbox.clone();
        if self.stopping || !self.this.machine.can_sequence() {
            // Requests stay in the inbox, and grow into larger batches there.
            select! {
                recv(votes) -> votes => self.on_votes(votes.map_err(|_| End::Gone)?),
                recv(answers) -> answers => self.on_answers(answers.map_err(|_| End::Gone)?),
                recv(self.this.poison.listener()) -> _ => Err(End::Gone),
            }
        } else {
            select! {
                recv(votes) -> votes => self.on_votes(votes.map_err(|_| End::Gone)?),
                recv(answers) -> answers => self.on_answers(answers.map_err(|_| End::Gone)?),
                recv(inbox) -> message => match message {
                    Ok(message) => self.on_message(message),
                    Err(_) => self.on_message(Message::Stop),
                },
                recv(self.this.poison.listener()) -> _ => Err(End::Gone),
                default(self.until_due()) => Ok(()),
            }
        }
    }

    /// How long to wait if no message comes: until the next hold is over.
    fn until_due(&mut self) -> Duration {
        let Some(due) = self.this.machine.next_due() else {
            return Duration::from_secs(3_600);
        };
        let micros = due.get().saturating_sub(self.now().get());
        Duration::from_micros(micros).min(Duration::from_millis(DUE_POLL_MS))
    }

    /// Logical time.
    fn now(&mut self) -> Time {
        let this = &mut self.this;
        this.time.advance(this.clock.boot_nanos(), this.clock.wall())
    }

    fn take_votes(&mut self) -> Result<(), End> {
        let mut some = false;
        while let Ok(votes) = self.this.votes.try_recv() {
            some = true;
            self.tally(votes);
        }
        if some { self.send_decision() } else { Ok(()) }
    }

    fn take_answers(&mut self) -> Result<(), End> {
        while let Ok(answers) = self.this.answers.try_recv() {
            self.this.machine.on_answers(answers);
        }
        self.send_decision()
    }

    fn on_answers(&mut self, answers: MarketAnswers) -> Result<(), End> {
        self.this.machine.on_answers(answers);
        self.take_answers()
    }

    /// Asks the markets what there is to ask, and has shown what they have shown.
    fn ask_markets(&mut self) -> Result<(), End> {
        for (seq, show) in self.this.machine.take_shown() {
            let open = Box::new(move || show(seq));
            self.this.log.send(ToLog::Gate(Gate { seq, open })).map_err(|_| End::Gone)?;
        }
        if !self.this.machine.has_questions() {
            return Ok(());
        }
        for (actor, market) in self.this.markets.iter().enumerate() {
            let questions = self.this.machine.take_questions(actor);
            if !questions.is_empty() {
                point!("coordinator.ask-market");
                market.send(ToMarket::Ask(questions)).map_err(|_| End::Gone)?;
            }
        }
        Ok(())
    }

    fn on_votes(&mut self, votes: Votes) -> Result<(), End> {
        self.tally(votes);
        self.take_votes()?;
        self.send_decision()
    }

    fn tally(&mut self, votes: Votes) {
        let now = self.this.time.now();
        point!("coordinator.vote");
        let tally = self.this.machine.on_votes(votes, now);
        point!("coordinator.voted");
        self.metrics.votes(tally.yes, tally.no, tally.wait, tally.busy, tally.locked);
        if let Some((sequenced, requests)) = tally.voted {
            let voted = self.this.clock.boot_nanos().saturating_sub(sequenced);
            self.metrics.prepare(voted, requests);
        }
        for (conflict, requests) in [
            (Conflict::BalanceWait, tally.waiting),
            (Conflict::LockWait, tally.met_lock),
            (Conflict::LockTimeout, tally.lock_timeouts),
            (Conflict::Busy, tally.met_busy),
            (Conflict::ReadValidation, tally.conflicts),
        ] {
            if requests > 0 {
                self.metrics.conflict(conflict, requests);
            }
        }
    }

    fn send_decision(&mut self) -> Result<(), End> {
        let this = &mut self.this;
        let voted_nanos = this.clock.boot_nanos();
        let time = this.time.advance(voted_nanos, this.clock.wall());
        for waited in this.machine.take_waited() {
            let nanos = voted_nanos.saturating_sub(waited.since_nanos);
            let reason = match waited.reason {
                WaitReason::Balance => Conflict::BalanceWait,
                WaitReason::Lock => Conflict::LockWait,
                WaitReason::Busy => Conflict::Busy,
            };
            self.metrics.waited(reason, nanos, 1);
        }
        let Some(decision) = this.machine.take_decision(time, voted_nanos, this.clock.boot_nanos())
        else {
            return self.ask_markets();
        };
        point!("coordinator.decide");
        for shard in &this.shards {
            shard.send(ToShard::Decide(decision.clone())).map_err(|_| End::Gone)?;
            point!("coordinator.decide-sent");
        }
        for batch in self.unannounced.drain(..) {
            this.log.send(batch).map_err(|_| End::Gone)?;
        }
        point!("coordinator.decide-log");
        this.log.send(ToLog::Decided(decision.clone())).map_err(|_| End::Gone)?;
        point!("coordinator.decided");
        let requests = decision.commits.len() + decision.refusals.len();
        let sent = this.clock.boot_nanos();
        self.metrics.decide(sent.saturating_sub(voted_nanos), requests as u64);
        self.metrics.decided_seq(decision.last_seq().get());
        self.tell_holds();
        self.ask_markets()
    }

    fn tell_holds(&mut self) {
        let found_at = self.started;
        let [prepared, withdrawal] = self
            .this
            .machine
            .oldest_holds()
            .map(|made| made.map_or(0.0, |made| made.max(found_at).millis() as f64 / 1e3));
        self.metrics.oldest_holds(prepared, withdrawal);
        let (open, parked) = self.this.machine.held();
        self.metrics.holds(open);
        self.metrics.orders(self.this.machine.orders());
        self.metrics.parked(parked);
        self.metrics.operation(self.this.machine.operation());
    }

    /// Takes what is in the inbox, as far as a batch can be made of it.
    fn take_requests(&mut self) -> Result<(), End> {
        while !self.stopping && self.this.machine.wants_more() {
            match self.this.inbox.try_recv() {
                Ok(message) => self.on_message(message)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.on_message(Message::Stop)?,
            }
        }
        self.metrics.mailbox(self.this.inbox.len());
        Ok(())
    }

    fn on_message(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::Submit(submission) => self.on_submission(submission),
            Message::Read(account, reply) => {
                let shards = &self.this.shards;
                let shard = &shards[account.shard(shards.len())];
                return shard.send(ToShard::Read(account, reply)).map_err(|_| End::Gone);
            }
            // Who asked may be gone.
            Message::Sequenced(id, reply) => drop(reply.send(self.this.machine.remembers(id))),
            Message::Audit(reply) => return self.on_audit(reply),
            Message::ReadMany(parts) => return self.on_read_many(parts),
            Message::Hold(token, reply) => return self.on_hold(token, reply),
            Message::Expiring(asked, reply) => return self.on_expiring(&asked, reply),
            // Of a market that does not exist, nobody is answered.
            Message::Look(market, look) => drop(self.this.machine.look(market, look)),
            Message::Stop => {
                self.stopping = true;
                point!("coordinator.stop");
                self.this.machine.give_up_waiting();
            }
        }
        Ok(())
    }

    /// All shards get their part between the same two decisions, so all see the same seq.
    fn on_read_many(
        &mut self,
        parts: Vec<(Vec<BalanceKey>, oneshot::Sender<ManyBalances>)>,
    ) -> Result<(), End> {
        for (shard, (keys, reply)) in self.this.shards.iter().zip(parts) {
            if !keys.is_empty() {
                shard.send(ToShard::ReadMany(keys, reply)).map_err(|_| End::Gone)?;
            }
        }
        Ok(())
    }

    fn on_hold(
        &mut self,
        token: Token,
        reply: oneshot::Sender<(HoldStatus, CommitSeq)>,
    ) -> Result<(), End> {
        let status = self.this.machine.hold(token);
        let seq = self.this.machine.last_seq();
        let open = Box::new(move || drop(reply.send((status, seq))));
        self.this.log.send(ToLog::Gate(Gate { seq, open })).map_err(|_| End::Gone)
    }

    fn on_expiring(
        &mut self,
        asked: &Expiring,
        reply: oneshot::Sender<ExpiringHolds>,
    ) -> Result<(), End> {
        let found = self.this.machine.expiring(asked, self.this.time.now());
        let seq = found.seq;
        let open = Box::new(move || drop(reply.send(found)));
        self.this.log.send(ToLog::Gate(Gate { seq, open })).map_err(|_| End::Gone)
    }

    fn on_submission(&mut self, submission: Submission) {
        self.this.machine.enqueue(submission);
    }

    /// All shards get their part between the same two decisions, so all see the same seq.
    fn on_audit(&mut self, reply: AuditReply) -> Result<(), End> {
        self.take_votes()?;
        let this = &self.this;
        let seq = this.machine.last_seq();
        let supply = this.machine.supply();
        for (shard, totals) in this.shards.iter().zip(reply.totals) {
            shard.send(ToShard::Total(totals)).map_err(|_| End::Gone)?;
        }
        let open = Box::new(move || drop(reply.supply.send((seq, supply))));
        this.log.send(ToLog::Gate(Gate { seq, open })).map_err(|_| End::Gone)
    }

    /// Asks the shards about as many batches as may be voted on at once.
    fn sequence(&mut self) -> Result<(), End> {
        loop {
            let nanos = self.this.clock.boot_nanos();
            let now = self.this.time.advance(nanos, self.this.clock.wall());
            if !self.this.machine.has_backlog(now) || !self.this.machine.can_sequence() {
                break;
            }
            let Some(sequenced) = self.this.machine.next_batch(now, nanos).map_err(End::Failed)?
            else {
                break;
            };
            self.ask(sequenced, nanos)?;
        }
        self.ask_markets()
    }

    fn ask(&mut self, sequenced: Sequenced, nanos: u64) -> Result<(), End> {
        let Sequenced { batch, submissions, shards, duplicates } = sequenced;
        for new in &submissions {
            let queued = nanos.saturating_sub(new.accepted_nanos);
            self.metrics.queue(queued, u64::from(new.txns));
        }
        let [one, two, more] = shards;
        self.metrics.cross_shard(one, two, more);
        if duplicates > 0 {
            self.metrics.conflict(Conflict::DuplicateRequest, duplicates);
        }
        point!("coordinator.prepare");
        self.unannounced.push(ToLog::Sequenced(batch.clone(), submissions));
        for shard in &self.this.shards {
            shard.send(ToShard::Prepare(batch.clone())).map_err(|_| End::Gone)?;
            point!("coordinator.prepare-sent");
        }
        Ok(())
    }
}
