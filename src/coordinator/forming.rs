//! Forms batches: in which order requests are sequenced, and what is decided before any shard is
//! asked.
//!
//! ```text
//! given back, waits no more ─┐
//! holds whose time is over ──┼─► next batch: screened one by one ─► the shards
//! submissions ───────────────┘      id seen before? deadline? asset? hold? reference?
//! ```
//!
//! Invariants
//! * A batch changes the directory or moves balances, never both.
//! * Once screened, a request is remembered by its id until its outcome is durable.

use std::sync::Arc;

use hashbrown::HashMap;

use super::callers::check_operation;
use super::credits::Credited;
use super::deciding::{Exception, InFlight, Marks};
use super::deferred::{Again, Place};
use super::holds::Found;
use super::ids::{Resolved, Seen, SeenBefore};
use super::trading::Settling;
use super::txn::{Machine, Sequenced};
use crate::access::Caller;
use crate::config::BATCH_REQUESTS_MAX;
use crate::directory::Change;
use crate::error::Reject;
use crate::message::{AnswerSlot, Asked, Batch, NewSubmission, Txn, TxnRef};
use crate::request::{Action, Command, Resolve, Transfer};
use crate::types::{MarketId, Operation, Subject, Time, Token};

/// Expiries in one batch, at most: many at once must not keep others waiting.
const EXPIRIES_PER_BATCH_MAX: usize = 1_024;

/// A submission whose transactions are being taken into batches.
pub(super) struct Partial {
    pub(super) number: u64,
    pub(super) txns: std::vec::IntoIter<Txn>,
    pub(super) position: u32,
    /// `None` once announced.
    pub(super) announce: Option<NewSubmission>,
}

/// A batch that is being formed.
pub(super) struct Forming {
    number: u64,
    pub(super) now: Time,
    txns: Vec<Txn>,
    slots: Vec<AnswerSlot>,
    submissions: Vec<NewSubmission>,
    pub(super) exceptions: HashMap<u32, Exception>,
    /// Of what markets said, which stands first.
    pub(super) settling: Vec<Settling>,
    shards: [u64; 3],
    votes: u64,
    duplicates: u64,
    /// Whether more than swaps and directory changes are in it.
    is_mixed: bool,
    pub(super) directory_commits: u64,
    assets: Option<usize>,
    /// What the venue takes: it changes only in batches that run alone.
    pub(super) operation: Operation,
}

/// What screening says of a request.
pub(super) enum Screened {
    /// The shards are asked.
    Ask,
    /// It is decided, or will be with another. Boxed, as nearly all are asked: what says so is small.
    Known(Box<Exception>),
    /// It does not come into this batch: it waits until that one is decided.
    After(TxnRef),
    /// The same, behind an earlier one with its id.
    Behind,
    /// It is decided with the resolution of that hold which is on its way.
    Joins(Token),
    /// It does not come into this batch: that market is asked first.
    AsksMarket(MarketId, Asked),
}

pub(super) fn known(exception: Exception) -> Screened {
    Screened::Known(Box::new(exception))
}

fn comes_again(txn: Txn, mut slot: AnswerSlot, history: History) -> Again {
    // Whoever counts its submission's requests counts it when it is in a batch.
    slot.again |= history.attempts > 0;
    let History { attempts, parked_since } = history;
    Again { txn, slot, attempts, parked_since, verdict: None }
}

/// How often a request came, before it is in a batch.
#[derive(Clone, Copy, Default)]
struct History {
    attempts: u32,
    parked_since: Option<Time>,
}

impl Forming {
    fn new(number: u64, now: Time, expected: usize, operation: Operation) -> Self {
        Self {
            number,
            now,
            txns: Vec::with_capacity(expected),
            slots: Vec::with_capacity(expected),
            submissions: Vec::new(),
            exceptions: HashMap::new(),
            settling: Vec::new(),
            shards: [0; 3],
            votes: 0,
            duplicates: 0,
            is_mixed: false,
            directory_commits: 0,
            assets: None,
            operation,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.txns.len() >= BATCH_REQUESTS_MAX
    }

    /// Where the next transaction will stand.
    pub(super) fn next_at(&self) -> TxnRef {
        let index = u32::try_from(self.txns.len()).expect("a batch is small");
        TxnRef { batch: self.number, index }
    }

    /// What is at that place, if it is in this batch.
    pub(super) fn txn(&self, at: TxnRef) -> Option<&Txn> {
        if at.batch == self.number { self.txns.get(at.index as usize) } else { None }
    }

    #[inline]
    pub(super) fn push(&mut self, txn: Txn, slot: AnswerSlot) {
        let shards = txn.shards.count_ones();
        self.votes += u64::from(shards);
        if shards > 0 {
            self.shards[shards.min(3) as usize - 1] += 1;
        }
        let command = &txn.command;
        self.is_mixed |= !matches!(command, Command::Swap(_)) && !command.is_directory();
        self.txns.push(txn);
        self.slots.push(slot);
    }
}

impl<S: SeenBefore> Machine<S> {
    /// Forms the next batch of what waits, if one may be asked now. Comes after
    /// [`Machine::take_decision`]: what was decided must be on its way before the batch is.
    ///
    /// # Errors
    /// Why the store cannot say whether an id was seen: the engine stops.
    pub fn next_batch(&mut self, now: Time, nanos: u64) -> Result<Option<Sequenced>, String> {
        if !self.can_sequence() {
            return Ok(None);
        }
        assert!(self.nothing_to_tell(), "a shard is told what was decided before it is asked more");
        self.deferred.time_out(now, false);
        self.ask_about_due_orders(now);
        let internal = self.deferred.has_next()
            || self.trading.has_said_something()
            || self.holds.next_due().is_some_and(|at| at <= now);
        let front = self.front_is_directory();
        if !internal && front.is_none() {
            return Ok(None);
        }
        let alone = !internal && front == Some(true);
        if alone && !(self.in_flight.is_empty() && self.trading.is_idle()) {
            return Ok(None);
        }
        self.forget(now);
        let expected = (self.backlog_txns + self.trading.settled()).min(BATCH_REQUESTS_MAX);
        let mut forming =
            Forming::new(self.next_number(), now, expected, self.directory.operation());
        forming.submissions = std::mem::take(&mut self.unannounced);
        self.take_settled(&mut forming);
        self.take_deferred(&mut forming)?;
        self.take_due(&mut forming);
        while self.front_is_directory() == Some(alone)
            && self.take_from_front(alone, &mut forming)?
        {}
        if forming.txns.is_empty() {
            // All of it waits for others, or only times of holds that are gone were over.
            self.unannounced = forming.submissions;
            return Ok(None);
        }
        self.alone = alone;
        self.voting += 1;
        Ok(Some(self.send_off(forming, nanos)))
    }

    /// Forgets what can be found in the store by now.
    fn forget(&mut self, now: Time) {
        self.ids.advance(now, self.next_number(), &self.store);
        if !self.deferred.is_empty() {
            self.deferred.forget_durable(self.store.durable_decisions());
        }
        let applied = self.store.applied_seq();
        self.holds.forget_through(applied);
        self.credits.forget_through(applied);
    }

    fn front_is_directory(&mut self) -> Option<bool> {
        while self.backlog.front().is_some_and(|front| front.txns.as_slice().is_empty()) {
            self.backlog.pop_front();
        }
        let next = self.backlog.front()?.txns.as_slice().first()?;
        Some(next.command.is_directory())
    }

    /// Those that were given back and need not wait any more go before all others.
    fn take_deferred(&mut self, forming: &mut Forming) -> Result<(), String> {
        while !forming.is_full()
            && let Some(again) = self.deferred.pop_next()
        {
            if !self.expire_before(&again.txn, forming) {
                self.deferred.unpop(again);
                break;
            }
            let Again { mut txn, slot, attempts, parked_since, verdict } = again;
            let at = forming.next_at();
            let screened = match self.deferred.place(txn.id) {
                // It waits no more: this is its place now.
                Some(Place::Waiting) => {
                    self.deferred.is_placed(txn.id, at, attempts, parked_since);
                    match self.judge_again(&mut txn, forming)? {
                        asks @ (Screened::Ask | Screened::AsksMarket(..)) => match verdict {
                            Some(reject) => known(Exception::Refused(reject, self.last_seq())),
                            None => asks,
                        },
                        other => other,
                    }
                }
                // Another one with its id was before it.
                _ => self.screen(&mut txn, forming)?,
            };
            self.admit(txn, slot, History { attempts, parked_since }, screened, forming);
        }
        Ok(())
    }

    /// The engine's own requests: holds whose time is over.
    fn take_due(&mut self, forming: &mut Forming) {
        for _ in 0..EXPIRIES_PER_BATCH_MAX {
            if forming.is_full() {
                return;
            }
            let Some(token) = self.holds.pop_due(forming.now) else {
                return;
            };
            self.expire(token, forming);
        }
    }

    /// Sequences the end of a hold whose time is over.
    fn expire(&mut self, token: Token, forming: &mut Forming) {
        match self.holds.take(token, Action::Expire, forming.next_at(), forming.now) {
            Found::Taken(hold) => {
                forming.push(Txn::expiry(hold, self.shards), AnswerSlot::NOBODY);
            }
            found => unreachable!("due, and open: {found:?}"),
        }
    }

    /// Takes transactions of one kind (directory or not) from the first submission. False if the
    /// batch has no more room.
    fn take_from_front(&mut self, directory: bool, forming: &mut Forming) -> Result<bool, String> {
        let Some(mut front) = self.backlog.pop_front() else {
            return Ok(true);
        };
        let mut has_room = true;
        forming.submissions.extend(front.announce.take());
        while let Some(next) = front.txns.as_slice().first()
            && next.command.is_directory() == directory
        {
            has_room = !forming.is_full() && self.expire_before(next, forming);
            if !has_room {
                break;
            }
            let mut txn = front.txns.next().expect("looked at");
            self.backlog_txns -= 1;
            let slot =
                AnswerSlot { submission: front.number, position: front.position, again: false };
            front.position += 1;
            match self.screen(&mut txn, forming)? {
                // Nearly always: a transaction is large, so it is moved once.
                Screened::Ask => forming.push(txn, slot),
                screened => self.admit(txn, slot, History::default(), screened, forming),
            }
        }
        if !front.txns.as_slice().is_empty() {
            self.backlog.push_front(front);
        }
        Ok(has_room)
    }

    /// Puts a transaction where its screening says.
    fn admit(
        &mut self,
        mut txn: Txn,
        slot: AnswerSlot,
        history: History,
        screened: Screened,
        forming: &mut Forming,
    ) {
        let exception = match screened {
            Screened::Ask => return forming.push(txn, slot),
            Screened::Known(exception) => *exception,
            Screened::Joins(token) => {
                self.holds.follow(token, forming.next_at());
                Exception::Joined
            }
            Screened::After(first) => {
                return self.deferred.wait_for(first, comes_again(txn, slot, history));
            }
            Screened::Behind => {
                return self.deferred.wait_behind(comes_again(txn, slot, history));
            }
            Screened::AsksMarket(market, asked) => {
                return self.send_to_market(market, asked, comes_again(txn, slot, history));
            }
        };
        if matches!(exception, Exception::Duplicate | Exception::Follower) {
            forming.duplicates += 1;
        }
        // Nobody is asked.
        txn.shards = 0;
        forming.exceptions.insert(forming.next_at().index, exception);
        forming.push(txn, slot);
    }

    /// Ends the hold that a transaction resolves if its time is over, so that its expiry comes
    /// first. False if the batch has no room for both.
    fn expire_before(&mut self, txn: &Txn, forming: &mut Forming) -> bool {
        if let Command::Resolve(resolve) = &txn.command
            && self.holds.is_due(resolve.token, forming.now)
        {
            if forming.txns.len() + 1 >= BATCH_REQUESTS_MAX {
                return false;
            }
            self.expire(resolve.token, forming);
        }
        true
    }

    /// [`Machine::refuse_early`] of a request that comes again, perhaps long after its key was looked at.
    fn judge_again(&mut self, txn: &mut Txn, forming: &mut Forming) -> Result<Screened, String> {
        match self.check_caller(txn, forming.now) {
            Err(reject) => Ok(self.refused(reject, forming)),
            Ok(()) => self.refuse_early(txn, forming),
        }
    }

    /// Decides what needs no shard: keys that may not ask, ids seen before, and what [`Machine::refuse_early`] does.
    #[inline]
    fn screen(&mut self, txn: &mut Txn, forming: &mut Forming) -> Result<Screened, String> {
        let at = forming.next_at();
        let mut barred = None;
        if txn.caller != Caller::Trusted {
            barred = self.check_caller(txn, forming.now).err();
            txn.barred = barred.is_some();
        }
        if !self.deferred.is_empty()
            && let Some(place) = self.deferred.place(txn.id)
        {
            return Ok(match place {
                Place::Waiting | Place::AtMarket => Screened::Behind,
                Place::InFlight { at: first, .. } => known(self.repeated(at, first)),
                Place::Decided(_) => known(Exception::Duplicate),
            });
        }
        match self.ids.see(txn.id, at, &self.store)? {
            Seen::Never => match barred {
                None => self.refuse_early(txn, forming),
                Some(reject) => Ok(self.refused(reject, forming)),
            },
            Seen::Durable => Ok(known(Exception::Duplicate)),
            Seen::At { batch_low, index } => {
                let behind = (self.next_number() as u32).wrapping_sub(batch_low);
                let batch = at.batch.checked_sub(u64::from(behind));
                Ok(known(match batch {
                    Some(batch) => self.repeated(at, TxnRef { batch, index }),
                    None => Exception::Duplicate,
                }))
            }
        }
    }

    /// Decides what the state says no to before any shard is asked.
    #[inline]
    fn refuse_early(&mut self, txn: &mut Txn, forming: &mut Forming) -> Result<Screened, String> {
        if forming.now >= txn.deadline {
            return Ok(self.refused(Reject::Expired, forming));
        }
        if forming.operation != Operation::Normal
            && let Err(reject) = check_operation(&txn.command, forming)
        {
            return Ok(self.refused(reject, forming));
        }
        let checked = match &txn.command {
            Command::Swap(_) | Command::Transact(_) => self.check_assets(txn, forming),
            Command::Prepare(prepare) => {
                let after = prepare.expires_in_ms.saturating_mul(1_000);
                txn.expires_at = Time::new(forming.now.get().saturating_add(after));
                self.check_assets(txn, forming)
            }
            Command::Withdraw(from) => {
                let known = self.directory.chain(from.asset).is_some();
                if known { Ok(()) } else { Err(Reject::UnknownAsset(from.asset).into()) }
            }
            Command::Resolve(resolve) => {
                let resolve = *resolve;
                return self.check_resolve(txn, resolve, forming);
            }
            Command::Deposit(to) => return self.check_deposit(to, forming),
            of_market if of_market.is_of_market() => {
                return Ok(match self.check_market_request(txn, forming) {
                    Ok(screened) => screened,
                    Err(reject) => self.refused(reject, forming),
                });
            }
            directory => self.change_directory(directory, forming).map_err(Box::new),
        };
        Ok(match checked {
            Ok(()) => Screened::Ask,
            Err(reject) => self.refused(*reject, forming),
        })
    }

    fn refused(&self, reject: Reject, forming: &Forming) -> Screened {
        // What a directory batch changed before this is part of the state that refused it.
        let seq = self.last_seq().plus(forming.directory_commits);
        known(Exception::Refused(reject, seq))
    }

    /// The batch runs alone, so what is decided here is decided in this order; only commits spend
    /// a seq, and this one's is known.
    fn change_directory(&self, command: &Command, forming: &mut Forming) -> Result<(), Reject> {
        if self.directory.check(command)? == Change::Changed {
            let seq = self.next_seq.plus(forming.directory_commits);
            self.directory.apply(command, seq);
            forming.operation = self.directory.operation();
        }
        forming.directory_commits += 1;
        Ok(())
    }

    fn check_assets(&self, txn: &Txn, forming: &mut Forming) -> Result<(), Box<Reject>> {
        // Looked up once a batch: they change only in batches that run alone.
        let assets = *forming.assets.get_or_insert_with(|| self.directory.assets_len());
        if let Command::Swap(swap) = &txn.command {
            let unknown = swap.legs().iter().find(|leg| leg.asset.get() as usize >= assets);
            return unknown.map_or(Ok(()), |leg| Err(Reject::UnknownAsset(leg.asset).into()));
        }
        let reads = match &txn.command {
            Command::Transact(transact) => &transact.reads[..],
            _ => &[],
        };
        let read = reads.iter().filter_map(|read| match &read.subject {
            Subject::Balance(of) => Some(of.asset),
            Subject::Key(_) => None,
        });
        let unknown = read
            .chain(txn.legs().iter().map(|leg| leg.asset))
            .find(|asset| asset.get() as usize >= assets);
        unknown.map_or(Ok(()), |asset| Err(Reject::UnknownAsset(asset).into()))
    }

    fn check_deposit(&mut self, to: &Transfer, forming: &Forming) -> Result<Screened, String> {
        let asset = to.asset;
        let Some(chain) = self.directory.chain(asset) else {
            return Ok(self.refused(Reject::UnknownAsset(asset), forming));
        };
        let linked = self.directory.check_linked(to.account, chain);
        if let Err(reject @ Reject::UnknownAccount(_)) = linked {
            return Ok(self.refused(reject, forming));
        }
        Ok(match (self.credits.find(to, &self.store)?, linked) {
            (Some(Credited::At(seq)), _) => {
                self.refused(Reject::AlreadyCredited { asset, seq }, forming)
            }
            (Some(Credited::Undecided(first)), _) => Screened::After(first),
            (None, Err(reject)) => self.refused(reject, forming),
            (None, Ok(())) => {
                self.credits.begin(to, forming.next_at());
                Screened::Ask
            }
        })
    }

    fn check_resolve(
        &mut self,
        txn: &mut Txn,
        resolve: Resolve,
        forming: &Forming,
    ) -> Result<Screened, String> {
        let Resolve { token, action } = resolve;
        if txn.caller != Caller::Trusted && !self.may_resolve(txn, token, forming)? {
            return Ok(self.refused(Reject::UnknownToken(token), forming));
        }
        let resolved = match self.holds.take(token, action, forming.next_at(), forming.now) {
            Found::Taken(hold) => {
                txn.attach(hold, self.shards);
                return Ok(Screened::Ask);
            }
            Found::Taking => return Ok(Screened::Joins(token)),
            Found::Resolved(resolved) => Some(resolved),
            Found::NotHere => self.store.resolution(token)?,
            Found::Unfit => None,
            Found::Due => unreachable!("what is due was expired before"),
        };
        Ok(match resolved {
            Some(Resolved { how, seq, is_withdrawal, .. })
                if is_withdrawal == action.is_of_withdrawal() =>
            {
                if how == action.resolution() {
                    known(Exception::Done(seq))
                } else {
                    self.refused(Reject::AlreadyResolved { token, how, seq }, forming)
                }
            }
            _ => self.refused(Reject::UnknownToken(token), forming),
        })
    }

    /// A request whose id was sequenced before, at that place.
    fn repeated(&mut self, at: TxnRef, first: TxnRef) -> Exception {
        if self.is_undecided(first) {
            self.followers.entry(first).or_default().push(at);
            Exception::Follower
        } else {
            Exception::Duplicate
        }
    }

    fn is_undecided(&self, at: TxnRef) -> bool {
        let Some(place) = at.batch.checked_sub(self.first) else {
            return false;
        };
        match self.in_flight.get(usize::try_from(place).expect("few batches")) {
            // In the batch that is being formed.
            None => true,
            Some(flight) => {
                flight.missing > 0
                    || flight.exceptions.contains_key(&at.index)
                    || flight.at_market.contains(at.index)
            }
        }
    }

    fn send_off(&mut self, forming: Forming, nanos: u64) -> Sequenced {
        let Forming { number, txns, slots, submissions, exceptions, shards, votes, .. } = forming;
        let settling = forming.settling;
        let batch = Arc::new(Batch { number, txns, slots, sequenced_nanos: nanos });
        self.in_flight.push_back(InFlight {
            batch: batch.clone(),
            missing: self.shards,
            exceptions,
            at_market: Marks::default(),
            settling,
            is_mixed: forming.is_mixed,
            votes,
        });
        Sequenced { batch, submissions, shards, duplicates: forming.duplicates }
    }
}
