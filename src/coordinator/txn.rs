//! The transaction machine: sequences requests, gathers votes, decides. Pure.
//!
//! What it holds, and what it tells. How batches are formed is in `forming`, how they are decided in
//! `deciding`.
//!
//! Nothing here reads a clock, a channel or a disk (but for [`SeenBefore`], which says whether an
//! id that memory cannot decide about is in the store).
//!
//! Invariants
//! * A request is decided exactly once: committed, refused, or found to be a repetition. Before
//!   that it may be given back any number of times, to come again in a later batch.
//! * commit_seq is dense, and a transaction that depends on another gets a higher one: shards
//!   grant only what holds whatever earlier ones come to, and vote late on what had to wait (I1).
//! * A batch that changes the directory runs alone: everything sequenced before it is decided,
//!   nothing after it is asked.
//!
//! ```text
//! enqueue ─► backlog ─► next_batch ─► Prepare to every shard
//!                                        │ votes: a yes but for exceptions, or "wait" and a late one
//!                                        ▼
//!           all shards have voted: yes from all ─► commit    a no ─► refuse    a wait ─► stays
//!                                  busy, locked ─► given back, comes again
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::credits::Credits;
use super::deciding::InFlight;
use super::deferred::Deferred;
use super::forming::Partial;
use super::holds::Holds;
use super::ids::{Ids, SeenBefore};
use super::trading::{StandingOrder, Trading};
use crate::config::{BATCH_REQUESTS_MAX, Limits};
use crate::directory::Directory;
use crate::faults::{Bug, planted};
use crate::message::{
    Decision, NewSubmission, RefusedTxn, RepeatedTxn, SharedBatch, SharedDecision, Submission,
    TxnRef,
};
use crate::request::Hold;
use crate::types::{Amount, CommitSeq, RequestId, Resolution, Time, Token};

/// A batch on its way to the shards, with the submissions that begin in it.
pub struct Sequenced {
    /// For the shards and the commit log.
    pub batch: SharedBatch,
    /// For the commit log.
    pub submissions: Vec<NewSubmission>,
    /// How many of its transactions one, two, and more shards have part in.
    pub shards: [u64; 3],
    /// How many of its transactions were seen before.
    pub duplicates: u64,
}

/// What the votes came to, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Votes cast.
    pub yes: u64,
    /// Votes cast.
    pub no: u64,
    /// Votes cast.
    pub wait: u64,
    /// Votes cast.
    pub busy: u64,
    /// Votes cast.
    pub locked: u64,
    /// Transactions told to wait for the first time.
    pub waiting: u64,
    /// Requests that met something undecided for the first time.
    pub met_busy: u64,
    /// Requests that met an exclusive hold for the first time.
    pub met_lock: u64,
    /// Requests refused because they waited too long for an exclusive hold.
    pub lock_timeouts: u64,
    /// Transactions refused because something that they had read changed.
    pub conflicts: u64,
    /// The batch whose last first vote this was: when it was sequenced, and how many it has.
    pub voted: Option<(u64, u64)>,
}

/// What waited, and how long: batch-wise, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// What for.
    pub reason: WaitReason,
    /// Boot-clock nanoseconds at which it was sequenced.
    pub since_nanos: u64,
}

/// What a request waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// Others on the same balance.
    Balance,
    /// An exclusive hold.
    Lock,
    /// Something undecided, without waiting for it.
    Busy,
}

/// What is known of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldStatus {
    /// It is open.
    Open(Box<Hold>),
    /// It was resolved, so, under that seq.
    Resolved(Resolution, CommitSeq),
    /// The coordinator does not know it: the store may.
    NotHere,
}

/// Chooses holds.
pub type Chooses = Box<dyn Fn(&Hold) -> bool + Send>;

/// Which of the holds that expire next are asked for.
pub struct Expiring {
    /// At most so many.
    pub limit: usize,
    /// Those alone. It is asked on the coordinator's thread.
    pub is_wanted: Chooses,
}

/// Open holds that expire by themselves, soonest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiringHolds {
    /// They were open as of this seq.
    pub seq: CommitSeq,
    /// The logical time then.
    pub now: Time,
    /// The holds.
    pub holds: Vec<Hold>,
    /// Whether those are all that were wanted.
    pub is_all: bool,
}

/// Where the engine continues from.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The last commit_seq given.
    pub last_seq: CommitSeq,
    /// Deposits − withdrawals per asset number.
    pub supply: Vec<Amount>,
    /// Open holds.
    pub holds: Vec<Hold>,
    /// Open orders.
    pub orders: Vec<StandingOrder>,
}

/// The machine.
pub struct Machine<S> {
    pub(super) directory: Arc<Directory>,
    pub(super) store: S,
    pub(super) ids: Ids,
    pub(super) shards: usize,
    voting_max: usize,
    pub(super) lock_wait_micros: u64,
    /// Whether nobody may wait for an exclusive hold any more.
    pub(super) gives_up: bool,
    pub(super) parked_max: usize,
    pub(super) attempts_max: u32,
    pub(super) backlog: VecDeque<Partial>,
    pub(super) backlog_txns: usize,
    /// Submissions that began without a transaction in a batch yet: the log hears of them with the next.
    pub(super) unannounced: Vec<NewSubmission>,
    submissions: u64,
    /// Undecided batches from number `first` on.
    pub(super) in_flight: VecDeque<InFlight>,
    pub(super) first: u64,
    pub(super) voting: usize,
    /// Whether the batch in flight (then the only one) changes the directory.
    pub(super) alone: bool,
    /// Undecided request → requests with the same id that are answered with it.
    pub(super) followers: HashMap<TxnRef, Vec<TxnRef>>,
    pub(super) holds: Holds,
    pub(super) deferred: Deferred,
    pub(super) credits: Credits,
    pub(super) trading: Trading,
    pub(super) orders_per_market_max: u32,
    /// Deposits − withdrawals per asset number, of what is committed.
    pub(super) supply: Vec<Amount>,
    pub(super) next_seq: CommitSeq,
    /// Logical time at which votes came last.
    pub(super) now: Time,
    pub(super) decisions: u64,
    pub(super) commits: Vec<TxnRef>,
    pub(super) refusals: Vec<RefusedTxn>,
    pub(super) duplicates: Vec<TxnRef>,
    pub(super) repeats: Vec<RepeatedTxn>,
    pub(super) given_back: Vec<TxnRef>,
    pub(super) waited: Vec<Waited>,
    pub(super) tally: Tally,
}

impl<S: SeenBefore> Machine<S> {
    /// A machine that continues where recovery ended.
    pub fn new(
        limits: &Limits,
        directory: Arc<Directory>,
        store: S,
        ids: Ids,
        start: Start,
    ) -> Self {
        Self {
            directory: directory.clone(),
            store,
            ids,
            shards: limits.shards,
            voting_max: limits.batches_voting_max,
            lock_wait_micros: limits.lock_wait_ms * 1_000,
            gives_up: false,
            parked_max: limits.parked_requests_max,
            attempts_max: limits.transaction_attempts_max,
            backlog: VecDeque::new(),
            backlog_txns: 0,
            unannounced: Vec::new(),
            submissions: 0,
            in_flight: VecDeque::new(),
            first: 0,
            voting: 0,
            alone: false,
            followers: HashMap::new(),
            holds: Holds::new(limits, start.holds),
            deferred: Deferred::default(),
            credits: Credits::default(),
            trading: Trading::new(directory.clone(), limits.market_actors, start.orders),
            orders_per_market_max: limits.orders_per_market_max,
            supply: start.supply,
            next_seq: start.last_seq.next(),
            now: Time::default(),
            decisions: 0,
            commits: Vec::new(),
            refusals: Vec::new(),
            duplicates: Vec::new(),
            repeats: Vec::new(),
            given_back: Vec::new(),
            waited: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Takes a submission; its requests are sequenced in the order in which they come here.
    pub fn enqueue(&mut self, submission: Submission) {
        let Submission { txns, reply, accepted_nanos } = submission;
        let number = self.submissions;
        self.submissions += 1;
        let count = u32::try_from(txns.len()).expect("a submission is small");
        self.backlog_txns += txns.len();
        let announce = Some(NewSubmission { number, txns: count, reply, accepted_nanos });
        self.backlog.push_back(Partial { number, txns: txns.into_iter(), position: 0, announce });
    }

    /// Whether more requests can be used now: a batch may be formed, and what waits does not fill it.
    pub fn wants_more(&self) -> bool {
        self.can_sequence() && self.backlog_txns < BATCH_REQUESTS_MAX
    }

    /// Whether a request of that id was taken in this run, as far as memory goes: always if it is not durable.
    pub fn remembers(&self, id: RequestId) -> bool {
        let waits = |partial: &Partial| partial.txns.as_slice().iter().any(|txn| txn.id == id);
        self.deferred.place(id).is_some()
            || self.ids.remembers(id)
            || self.backlog.iter().any(waits)
    }

    /// Whether something waits to be sequenced at that time: requests, or the end of a hold.
    pub fn has_backlog(&self, now: Time) -> bool {
        !self.backlog.is_empty()
            || self.deferred.has_next()
            || self.trading.has_said_something()
            || self.next_due().is_some_and(|due| due <= now)
    }

    /// When, if nothing comes before, there will be something to sequence: a hold's time is over,
    /// or a request has waited long enough for one. `None` for never.
    pub fn next_due(&self) -> Option<Time> {
        let due = [self.holds.next_due(), self.deferred.next_due(), self.trading.next_due()];
        due.into_iter().flatten().min()
    }

    /// What is known of a hold, as of [`Machine::last_seq`].
    pub fn hold(&mut self, token: Token) -> HoldStatus {
        match self.holds.get(token) {
            Ok(hold) => HoldStatus::Open(Box::new(hold.clone())),
            Err(Some(by)) => {
                let txn = &self.flight(by.batch).batch.txns[by.index as usize];
                HoldStatus::Open(Box::new(txn.hold().expect("it resolves it").clone()))
            }
            Err(None) => match self.holds.recently(token) {
                Some(resolved) => HoldStatus::Resolved(resolved.how, resolved.seq),
                None => HoldStatus::NotHere,
            },
        }
    }

    /// The open holds that expire next, as of [`Machine::last_seq`]: see [`Expiring`].
    pub fn expiring(&self, asked: &Expiring, now: Time) -> ExpiringHolds {
        let (holds, is_all) = self.holds.soonest(asked.limit, &*asked.is_wanted);
        ExpiringHolds { seq: self.last_seq(), now, holds, is_all }
    }

    /// How many holds are open, and how many requests wait for exclusive ones.
    pub fn held(&self) -> (usize, usize) {
        (self.holds.len(), self.deferred.parked())
    }

    /// When the oldest open hold of a swap was made, and that of a withdrawal: logical time, 0 where
    /// recovery found it.
    pub fn oldest_holds(&mut self) -> [Option<Time>; 2] {
        self.holds.oldest()
    }

    /// Nothing new comes: who waits for an exclusive hold is refused, and waits no longer.
    pub fn give_up_waiting(&mut self) {
        self.gives_up = true;
        self.deferred.time_out(Time::NEVER, true);
    }

    /// Whether a batch can be formed now, of what waits or comes.
    pub fn can_sequence(&self) -> bool {
        self.voting < self.voting_max && !self.alone
    }

    /// Whether nothing is undecided and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
            && self.backlog.is_empty()
            && self.deferred.is_idle()
            && self.trading.is_idle()
    }

    /// The number of the next batch.
    pub(super) fn next_number(&self) -> u64 {
        self.first + self.in_flight.len() as u64
    }

    /// The last commit_seq given.
    pub fn last_seq(&self) -> CommitSeq {
        CommitSeq::new(self.next_seq.get() - 1)
    }

    /// Deposits − withdrawals per asset number, of what is decided.
    pub fn supply(&self) -> Vec<Amount> {
        let mut supply = self.supply.clone();
        supply.resize(self.directory.assets_len(), Amount::ZERO);
        supply
    }

    pub(super) fn drop_decided_batches(&mut self) {
        while let Some(flight) = self.in_flight.front() {
            let some = !flight.exceptions.is_empty() || !flight.at_market.is_empty();
            if flight.missing > 0 || some {
                break;
            }
            self.in_flight.pop_front();
            // What was decided just now goes out as decision number `decisions`.
            self.ids.retire(self.first, self.decisions + 1);
            self.first += 1;
        }
        self.alone = self.alone && !self.in_flight.is_empty();
    }

    /// Whether nothing was decided since the last [`Machine::take_decision`].
    pub(super) fn nothing_to_tell(&self) -> bool {
        self.commits.is_empty()
            && self.refusals.is_empty()
            && self.duplicates.is_empty()
            && self.repeats.is_empty()
            && self.given_back.is_empty()
    }

    /// What was decided since the last call; `None` if nothing.
    ///
    /// `voted_nanos`, `decided_nanos`: boot-clock nanoseconds at which the last votes came, and now.
    pub fn take_decision(
        &mut self,
        time: Time,
        voted_nanos: u64,
        decided_nanos: u64,
    ) -> Option<SharedDecision> {
        if self.nothing_to_tell() {
            return None;
        }
        let number = self.decisions;
        self.decisions += 1;
        let mut commits = std::mem::take(&mut self.commits);
        if planted(Bug::OutOfOrder) {
            commits.reverse();
        }
        Some(Arc::new(Decision {
            number,
            first_seq: CommitSeq::new(self.next_seq.get() - commits.len() as u64),
            time,
            commits,
            refusals: std::mem::take(&mut self.refusals),
            duplicates: std::mem::take(&mut self.duplicates),
            repeats: std::mem::take(&mut self.repeats),
            deferred: std::mem::take(&mut self.given_back),
            voted_nanos,
            decided_nanos,
        }))
    }

    /// Those whose wait ended since the last call.
    pub fn take_waited(&mut self) -> std::vec::Drain<'_, Waited> {
        self.waited.drain(..)
    }
}

#[cfg(test)]
mod scripts;
