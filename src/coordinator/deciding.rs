//! Decides: what the votes on a transaction come to, and what follows from that. Pure.
//!
//! ```text
//! votes of one transaction, in order of weight
//!   a no            ─► refused
//!   locked          ─► given back, parked until that hold is resolved
//!   busy            ─► given back, next in line; refused as a conflict if that was often enough
//!   a wait          ─► stays until a late vote
//!   yes from all    ─► committed, unless the decided state itself says no (supply, number of holds)
//! ```
//!
//! Invariants
//! * Whoever follows another is decided with it, and after it.
//! * A resolution always commits: nothing here or in a shard refuses it.

use hashbrown::{HashMap, hash_map};

use super::deferred::{Again, Place};
use super::holds::hold_of;
use super::ids::SeenBefore;
use super::trading::Settling;
use super::txn::{Machine, Tally, WaitReason, Waited};
use crate::config::{BATCH_REQUESTS_MAX, SUPPLY_MAX};
use crate::error::Reject;
use crate::faults::{Bug, planted};
use crate::message::{RefusedTxn, RepeatedTxn, SharedBatch, Txn, TxnRef, Vote, Votes};
use crate::request::{Action, Command, Purpose, Transfer};
use crate::types::{Amount, AssetId, CommitSeq, Resolution, Subject, Time, Token};

/// What is not (yet) a plain yes about a transaction.
#[derive(Clone, Debug)]
pub(super) enum Exception {
    /// Refused before any shard was asked.
    Refused(Reject, CommitSeq),
    /// What it asks for was done already, under that seq.
    Done(CommitSeq),
    /// The id is that of a decided request.
    Duplicate,
    /// The id is that of an undecided request, and the answer comes with that one's.
    Follower,
    /// It resolves a hold that another resolution has, and is decided with that one.
    Joined,
    /// Some shard said something else than yes.
    Voting(Voting),
    /// A follower whose request was decided before its own batch was voted on.
    Answered,
    /// It has all its votes, or is refused, and waits until others of its market are decided.
    InLine(Option<Reject>),
}

/// What shards said that is not a plain yes.
#[derive(Clone, Debug, Default)]
pub(super) struct Voting {
    no: Option<(Reject, CommitSeq)>,
    back: Option<GiveBack>,
    /// How many have yet to vote late.
    waits: u32,
    /// Whether any had to.
    waited: bool,
}

/// Why a transaction is given back.
#[derive(Clone, Debug)]
enum GiveBack {
    /// It met an exclusive hold.
    Locked(Token),
    /// It met something undecided, and does not wait.
    Busy(Box<Subject>),
}

impl Voting {
    /// Takes a vote in. What is final for the transaction goes before what may still change.
    fn take(&mut self, vote: Vote) {
        match vote {
            Vote::Yes => {}
            Vote::No(reject, seq) => prefer(&mut self.no, reject, seq),
            Vote::Wait => {
                self.waits += 1;
                self.waited = true;
            }
            Vote::Busy(subject) => {
                self.back.get_or_insert(GiveBack::Busy(subject));
            }
            Vote::Locked(token) => self.back = Some(GiveBack::Locked(token)),
        }
    }

    /// Whether it has to wait for a late vote.
    fn stays(&self) -> bool {
        let decides_alone = planted(Bug::DecideBeforeLateVotes);
        self.no.is_none() && self.back.is_none() && self.waits > 0 && !decides_alone
    }
}

/// Some of a batch's transactions, by index. Nearly all orders of a batch are among them for a while, so it
/// costs a bit each.
#[derive(Debug, Default)]
pub(super) struct Marks {
    words: Vec<u64>,
    /// How many there are.
    marked: usize,
}

impl Marks {
    /// Whether none is marked.
    pub(super) fn is_empty(&self) -> bool {
        self.marked == 0
    }

    /// Whether that one is marked.
    pub(super) fn contains(&self, index: u32) -> bool {
        let word = self.words.get(index as usize / 64).copied().unwrap_or(0);
        word & (1 << (index % 64)) != 0
    }

    /// Marks one that is not.
    pub(super) fn insert(&mut self, index: u32) {
        assert!(!self.contains(index), "it is marked once");
        let place = index as usize / 64;
        if self.words.len() <= place {
            self.words.resize(BATCH_REQUESTS_MAX.div_ceil(64).max(place + 1), 0);
        }
        self.words[place] |= 1 << (index % 64);
        self.marked += 1;
    }

    /// Takes the mark from one that has it.
    pub(super) fn remove(&mut self, index: u32) {
        assert!(self.contains(index), "it is marked");
        self.words[index as usize / 64] &= !(1 << (index % 64));
        self.marked -= 1;
    }
}

/// A batch with something undecided in it.
pub(super) struct InFlight {
    pub(super) batch: SharedBatch,
    /// Shards whose first votes are outstanding.
    pub(super) missing: usize,
    pub(super) exceptions: HashMap<u32, Exception>,
    /// Those for which what they need is reserved, while their markets have yet to say what they come to;
    /// that is decided in another batch, and these with it.
    pub(super) at_market: Marks,
    /// Of what markets said, which stands first.
    pub(super) settling: Vec<Settling>,
    /// Whether more than swaps and directory changes are in it: what changes more than balances.
    pub(super) is_mixed: bool,
    /// Plain yes votes of the shards on it: of one per transaction and shard that has part in it.
    pub(super) votes: u64,
}

impl<S: SeenBefore> Machine<S> {
    /// Takes a shard's votes, and decides what can be decided.
    pub fn on_votes(&mut self, votes: Votes, now: Time) -> Tally {
        self.now = now;
        self.tally = Tally::default();
        if let Some(number) = votes.batch {
            self.on_first_votes(number, votes.exceptions);
        }
        for (at, vote) in votes.late {
            assert!(vote != Vote::Wait, "a late vote is final");
            self.count(&vote);
            self.on_late_vote(at, vote);
        }
        self.drop_decided_batches();
        self.tally
    }

    fn count(&mut self, vote: &Vote) {
        let tally = &mut self.tally;
        *match vote {
            Vote::Yes => &mut tally.yes,
            Vote::No(..) => &mut tally.no,
            Vote::Wait => &mut tally.wait,
            Vote::Busy(_) => &mut tally.busy,
            Vote::Locked(_) => &mut tally.locked,
        } += 1;
    }

    pub(super) fn flight(&mut self, batch: u64) -> &mut InFlight {
        let place = usize::try_from(batch - self.first).expect("few batches");
        &mut self.in_flight[place]
    }

    fn on_first_votes(&mut self, number: u64, votes: Vec<(u32, Vote)>) {
        self.flight(number).votes -= votes.len() as u64;
        for (index, vote) in votes {
            assert!(vote != Vote::Yes, "a yes is no exception");
            self.count(&vote);
            let exception = self.flight(number).exceptions.entry(index);
            let exception = exception.or_insert_with(|| Exception::Voting(Voting::default()));
            let Exception::Voting(voting) = exception else {
                unreachable!("a shard voted on what it was not asked");
            };
            let waits_first = vote == Vote::Wait && !voting.waited;
            voting.take(vote);
            self.tally.waiting += u64::from(waits_first);
        }
        let flight = self.flight(number);
        if flight.missing > 1 {
            flight.missing -= 1;
            return;
        }
        let (yes, sequenced) = (flight.votes, flight.batch.sequenced_nanos);
        let requests = flight.batch.txns.len() as u64;
        self.tally.yes += yes;
        self.tally.voted = Some((sequenced, requests));
        self.decide_batch(number);
        self.voting -= 1;
        let missing = &mut self.flight(number).missing;
        *missing = missing.checked_sub(1).expect("each shard votes once");
    }

    /// The last shard has voted: decides all of the batch that need not wait.
    fn decide_batch(&mut self, number: u64) {
        let flight = self.flight(number);
        let batch = flight.batch.clone();
        let is_mixed = flight.is_mixed;
        let plain = flight.exceptions.is_empty();
        for (index, txn) in (0..).zip(&batch.txns) {
            let at = TxnRef { batch: number, index };
            if plain {
                self.commit(at, is_mixed, txn);
                continue;
            }
            let exceptions = &mut self.flight(number).exceptions;
            let stays = |exception: &mut Exception| match exception {
                Exception::Voting(voting) => voting.stays(),
                Exception::Follower | Exception::Joined => true,
                _ => false,
            };
            if exceptions.get_mut(&index).is_some_and(stays) {
                continue;
            }
            match exceptions.remove(&index) {
                None => self.commit(at, is_mixed, txn),
                Some(Exception::Voting(voting)) => self.voted(at, is_mixed, &batch, voting),
                Some(Exception::Refused(reject, seq)) => self.refuse(at, txn, reject, seq),
                Some(Exception::Done(first)) => self.repeat(at, txn, first, self.last_seq()),
                Some(Exception::Duplicate) => self.duplicates.push(at),
                Some(Exception::Answered) => {}
                Some(Exception::InLine(verdict)) => self.settle_in_line(at, verdict),
                Some(Exception::Follower | Exception::Joined) => {
                    unreachable!("stays until what it follows is decided")
                }
            }
        }
    }

    /// All votes that it needs are there: decides one transaction.
    fn voted(&mut self, at: TxnRef, is_mixed: bool, batch: &SharedBatch, voting: Voting) {
        let txn = &batch.txns[at.index as usize];
        let Voting { no, back, waited, .. } = voting;
        if waited {
            let since_nanos = batch.sequenced_nanos;
            self.waited.push(Waited { reason: WaitReason::Balance, since_nanos });
        }
        match (no, back) {
            (Some((reject, seq)), _) => self.refuse(at, txn, reject, seq),
            (None, Some(back)) => self.give_back(at, batch, back),
            // Where it was told to wait, the late yes came before another shard's first votes.
            (None, None) => self.commit(at, is_mixed, txn),
        }
    }

    fn commit(&mut self, at: TxnRef, is_mixed: bool, txn: &Txn) {
        if is_mixed {
            if txn.reserved().is_some() {
                return self.enter_market(at, txn);
            }
            if txn.settlement().is_some() {
                return self.settle_in_line(at, None);
            }
            if let Err(reject) = self.check_decided(&txn.command, txn) {
                return self.refuse(at, txn, reject, self.last_seq());
            }
            self.follow_commit(at, txn, self.next_seq);
        }
        self.commits.push(at);
        self.next_seq = self.next_seq.next();
        self.is_decided(at, txn);
    }

    /// What only the decided state can say no to: the supply's cap, the number of holds.
    fn check_decided(&mut self, command: &Command, txn: &Txn) -> Result<(), Reject> {
        match command {
            Command::Deposit(to) => self.raise_supply(to),
            Command::Prepare(_) | Command::Withdraw(_) => {
                let [open_holds, _] = self.open_max(txn);
                self.holds.check_room(txn, open_holds)
            }
            _ => Ok(()),
        }
    }

    /// Only here is it known what an earlier withdrawal came to, so only here can a deposit be
    /// refused for the cap, in the very state that it would have changed.
    fn raise_supply(&mut self, to: &Transfer) -> Result<(), Reject> {
        let supply = self.supply_of(to.asset);
        let raised = supply.checked_add(to.amount);
        *supply =
            raised.filter(|sum| sum.get() <= SUPPLY_MAX).ok_or(Reject::SupplyExceeded(to.asset))?;
        Ok(())
    }

    fn supply_of(&mut self, asset: AssetId) -> &mut Amount {
        let number = asset.get() as usize;
        if number >= self.supply.len() {
            self.supply.resize(number + 1, Amount::ZERO);
        }
        &mut self.supply[number]
    }

    /// What a commit changes beside balances.
    fn follow_commit(&mut self, at: TxnRef, txn: &Txn, seq: CommitSeq) {
        match &txn.command {
            Command::Deposit(to) => self.credits.settled(to, seq),
            Command::Prepare(_) | Command::Withdraw(_) => {
                let hold = hold_of(txn, seq).expect("it makes a hold");
                self.holds.open(hold, txn, self.now);
            }
            Command::Resolve(resolve) => {
                if let (Action::Confirm, Some(hold)) = (resolve.action, txn.hold())
                    && let Purpose::Withdrawal(from) = &hold.purpose
                {
                    let supply = self.supply_of(from.asset);
                    *supply = supply.checked_sub(from.amount).expect("it was part of the supply");
                }
                self.resolved(at, txn, resolve.action.resolution(), seq);
            }
            _ => {}
        }
    }

    /// A hold is resolved: who came meanwhile is told how, who waited for it comes again.
    fn resolved(&mut self, at: TxnRef, txn: &Txn, how: Resolution, seq: CommitSeq) {
        let hold = txn.hold().expect("a resolution has its hold");
        let token = hold.token;
        if hold.exclusive {
            self.deferred.unpark(token);
        }
        for follower in self.holds.resolved(txn, how, seq) {
            assert!(follower > at, "only later ones follow");
            let flight = self.flight(follower.batch);
            let batch = flight.batch.clone();
            let txn = &batch.txns[follower.index as usize];
            let Command::Resolve(resolve) = &txn.command else {
                unreachable!("only resolutions join one")
            };
            let asked = resolve.action.resolution();
            let exception = if asked == how {
                Exception::Done(seq)
            } else {
                Exception::Refused(Reject::AlreadyResolved { token, how, seq }, seq)
            };
            if flight.missing > 0 {
                // Its batch is yet to be decided, perhaps in the loop that is running.
                flight.exceptions.insert(follower.index, exception);
                continue;
            }
            flight.exceptions.remove(&follower.index);
            match exception {
                Exception::Refused(reject, seq) => self.refuse(follower, txn, reject, seq),
                _ => self.repeat(follower, txn, seq, seq),
            }
        }
    }

    pub(super) fn refuse(&mut self, at: TxnRef, txn: &Txn, reject: Reject, seq: CommitSeq) {
        match &reject {
            Reject::LockTimeout { .. } => self.tally.lock_timeouts += 1,
            Reject::Conflict { .. } => self.tally.conflicts += 1,
            _ => {}
        }
        match &txn.command {
            Command::Deposit(to) => self.credits.refused(to, at),
            Command::Order(_) => self.trading.forget(txn.id),
            _ => {}
        }
        self.refusals.push(RefusedTxn { txn: at, reject, seq });
        self.is_decided(at, txn);
    }

    fn repeat(&mut self, at: TxnRef, txn: &Txn, first: CommitSeq, seq: CommitSeq) {
        self.repeats.push(RepeatedTxn { txn: at, first, seq });
        self.is_decided(at, txn);
    }

    /// A request has its outcome: those who depend on it go on.
    pub(super) fn is_decided(&mut self, at: TxnRef, txn: &Txn) {
        if !self.deferred.is_empty() {
            self.deferred.is_decided(txn.id, self.decisions);
        }
        self.lets_go(at);
    }

    /// Who waits for what stands at that place, or has its id, goes on.
    pub(super) fn lets_go(&mut self, at: TxnRef) {
        self.deferred.release(at);
        if self.followers.is_empty() {
            return;
        }
        for follower in self.followers.remove(&at).unwrap_or_default() {
            self.duplicates.push(follower);
            self.leave_batch(follower);
        }
    }

    /// A follower's place in its batch is settled.
    fn leave_batch(&mut self, follower: TxnRef) {
        let flight = self.flight(follower.batch);
        if flight.missing > 0 {
            // Its batch is yet to be decided, perhaps in the loop that is running.
            flight.exceptions.insert(follower.index, Exception::Answered);
        } else {
            flight.exceptions.remove(&follower.index);
        }
    }

    /// Gives a transaction back, to come again; or refuses it if it came often or waited long enough.
    fn give_back(&mut self, at: TxnRef, batch: &SharedBatch, back: GiveBack) {
        let txn = &batch.txns[at.index as usize];
        let (attempts, parked_since) = match self.deferred.place(txn.id) {
            Some(Place::InFlight { at: place, attempts, parked_since }) if place == at => {
                (attempts + 1, parked_since)
            }
            _ => (1, None),
        };
        let since_nanos = batch.sequenced_nanos;
        match back {
            GiveBack::Busy(subject) => {
                self.tally.met_busy += u64::from(attempts == 1);
                self.waited.push(Waited { reason: WaitReason::Busy, since_nanos });
                if attempts >= self.attempts_max {
                    let reject = Reject::Conflict { subject: *subject };
                    return self.refuse(at, txn, reject, self.last_seq());
                }
                let again = self.take_back(at, batch, attempts, parked_since);
                self.deferred.push_next(again);
            }
            GiveBack::Locked(token) => {
                self.tally.met_lock += u64::from(parked_since.is_none());
                self.waited.push(Waited { reason: WaitReason::Lock, since_nanos });
                let is_open = self.holds.is_open(token);
                let has_room = self.deferred.parked() < self.parked_max && !self.gives_up;
                if is_open && !has_room {
                    return self.refuse(at, txn, Reject::LockTimeout { token }, self.last_seq());
                }
                let since = parked_since.unwrap_or(self.now);
                let mut again = self.take_back(at, batch, attempts, Some(since));
                if matches!(again.txn.command, Command::Amend(_)) {
                    // Until it comes again, its order may trade or end, and its market be halted.
                    again.txn.reserve_nothing();
                }
                if is_open {
                    let until = Time::new(since.get().saturating_add(self.lock_wait_micros));
                    let until = until.min(again.txn.deadline);
                    self.deferred.park(again, token, until);
                } else {
                    // It was resolved while the votes were on their way.
                    self.deferred.push_next(again);
                }
            }
        }
        if matches!(batch.txns[at.index as usize].command, Command::Order(_)) {
            // It is as if it had not come yet, for those who asked about it.
            self.trading.forget(batch.txns[at.index as usize].id);
            self.deferred.release(at);
        }
        self.take_followers_back(at);
    }

    fn take_back(
        &mut self,
        at: TxnRef,
        batch: &SharedBatch,
        attempts: u32,
        parked_since: Option<Time>,
    ) -> Again {
        self.given_back.push(at);
        let index = at.index as usize;
        let (txn, mut slot) = (batch.txns[index].clone(), batch.slots[index]);
        slot.again = true;
        Again { txn, slot, attempts, parked_since, verdict: None }
    }

    /// Requests with the id of one that is given back wait behind it: a batch does not stay
    /// undecided for so long.
    pub(super) fn take_followers_back(&mut self, first: TxnRef) {
        for follower in self.followers.remove(&first).unwrap_or_default() {
            let batch = self.flight(follower.batch).batch.clone();
            let again = self.take_back(follower, &batch, 1, None);
            self.deferred.wait_behind(again);
            self.leave_batch(follower);
        }
    }

    fn on_late_vote(&mut self, at: TxnRef, vote: Vote) {
        if at.batch < self.first {
            // Decided by another shard's vote while this one still made up its mind.
            return;
        }
        let flight = self.flight(at.batch);
        let batch = flight.batch.clone();
        let (all_voted, is_mixed) = (flight.missing == 0, flight.is_mixed);
        let hash_map::Entry::Occupied(mut entry) = flight.exceptions.entry(at.index) else {
            return;
        };
        let Exception::Voting(voting) = entry.get_mut() else {
            unreachable!("a shard voted on what it was not asked");
        };
        voting.waits -= 1;
        voting.take(vote);
        if !all_voted || voting.stays() {
            return;
        }
        let voting = std::mem::take(voting);
        entry.remove();
        self.voted(at, is_mixed, &batch, voting);
    }
}

/// Keeps the no that comes first in the order of precedence.
fn prefer(no: &mut Option<(Reject, CommitSeq)>, reject: Reject, seq: CommitSeq) {
    if no.as_ref().is_none_or(|(first, _)| reject.precedence() < first.precedence()) {
        *no = Some((reject, seq));
    }
}
