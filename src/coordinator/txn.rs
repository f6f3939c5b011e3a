//! The transaction machine: sequences requests, gathers votes, decides. Pure.
//!
//! Nothing here reads a clock, a channel or a disk (but for [`SeenBefore`], which says whether an
//! id that memory cannot decide about is in the store).
//!
//! Invariants
//! * A transaction is decided exactly once: committed, refused, or found a duplicate.
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
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::{HashMap, hash_map};

use crate::config::{BATCH_REQUESTS_MAX, Limits, SUPPLY_MAX};
use crate::coordinator::ids::{Ids, Seen, SeenBefore};
use crate::directory::{Change, Directory};
use crate::error::Reject;
use crate::message::{
    AnswerSlot, Batch, Decision, NewSubmission, RefusedTxn, SharedBatch, SharedDecision,
    Submission, Txn, TxnRef, Vote, Votes,
};
use crate::request::Command;
use crate::types::{Amount, AssetId, CommitSeq, RequestId, Time};

/// What is not (yet) a plain yes about a transaction.
#[derive(Clone, Debug)]
enum Exception {
    /// Refused before any shard was asked.
    Refused(Reject, CommitSeq),
    /// The id is that of a decided request.
    Duplicate,
    /// The id is that of an undecided request, and the answer comes with that one's.
    Follower,
    /// Some shard said something else than yes. `waits`: how many have yet to vote late;
    /// `waited`: whether any had to.
    Voting { no: Option<(Reject, CommitSeq)>, waits: u32, waited: bool },
    /// A follower whose request was decided before its own batch was voted on.
    Answered,
}

/// A batch with something undecided in it.
struct InFlight {
    batch: SharedBatch,
    /// Shards whose first votes are outstanding.
    missing: usize,
    exceptions: HashMap<u32, Exception>,
    /// Whether it holds deposits or withdrawals, which change an asset's supply.
    moves_supply: bool,
    /// Plain yes votes of the shards on it: of one per transaction and shard that has part in it.
    votes: u64,
}

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
    /// Transactions told to wait for the first time.
    pub waiting: u64,
    /// The batch whose last first vote this was: when it was sequenced, and how many it has.
    pub voted: Option<(u64, u64)>,
}

/// What waited, and how long: batch-wise, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// Boot-clock nanoseconds at which it was sequenced.
    pub since_nanos: u64,
}

/// A submission whose transactions are being taken into batches.
struct Partial {
    number: u64,
    txns: std::vec::IntoIter<Txn>,
    position: u32,
    /// `None` once announced.
    announce: Option<NewSubmission>,
}

/// Where the engine continues from.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The last commit_seq given.
    pub last_seq: CommitSeq,
    /// Deposits − withdrawals per asset number.
    pub supply: Vec<Amount>,
}

/// The machine.
pub struct Machine<S> {
    directory: Arc<Directory>,
    store: S,
    ids: Ids,
    shards: usize,
    voting_max: usize,
    backlog: VecDeque<Partial>,
    backlog_txns: usize,
    submissions: u64,
    /// Undecided batches from number `first` on.
    in_flight: VecDeque<InFlight>,
    first: u64,
    voting: usize,
    /// Whether the batch in flight (then the only one) changes the directory.
    alone: bool,
    /// Undecided request → requests with the same id that are answered with it.
    followers: HashMap<TxnRef, Vec<TxnRef>>,
    /// Deposits − withdrawals per asset number, of what is committed.
    supply: Vec<Amount>,
    next_seq: CommitSeq,
    decisions: u64,
    commits: Vec<TxnRef>,
    refusals: Vec<RefusedTxn>,
    duplicates: Vec<TxnRef>,
    waited: Vec<Waited>,
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
            directory,
            store,
            ids,
            shards: limits.shards,
            voting_max: limits.batches_voting_max,
            backlog: VecDeque::new(),
            backlog_txns: 0,
            submissions: 0,
            in_flight: VecDeque::new(),
            first: 0,
            voting: 0,
            alone: false,
            followers: HashMap::new(),
            supply: start.supply,
            next_seq: start.last_seq.next(),
            decisions: 0,
            commits: Vec::new(),
            refusals: Vec::new(),
            duplicates: Vec::new(),
            waited: Vec::new(),
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
        self.ids.remembers(id) || self.backlog.iter().any(waits)
    }

    /// Whether requests wait to be sequenced.
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether a batch can be formed now, of what waits or comes.
    pub fn can_sequence(&self) -> bool {
        self.voting < self.voting_max && !self.alone
    }

    /// Whether nothing is undecided and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.backlog.is_empty()
    }

    /// The number of the next batch.
    fn next_number(&self) -> u64 {
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

    /// Forms the next batch of the backlog, if one may be asked now. Comes after
    /// [`Machine::take_decision`]: what was decided must be on its way before the batch is.
    ///
    /// # Errors
    /// Why the store cannot say whether an id was seen: the engine stops.
    pub fn next_batch(&mut self, now: Time, nanos: u64) -> Result<Option<Sequenced>, String> {
        if !self.can_sequence() {
            return Ok(None);
        }
        assert!(self.nothing_to_tell(), "a shard is told what was decided before it is asked more");
        let Some(alone) = self.front_is_directory() else {
            return Ok(None);
        };
        if alone && !self.in_flight.is_empty() {
            return Ok(None);
        }
        self.ids.advance(now, self.next_number(), &self.store);
        let mut forming =
            Forming::new(self.next_number(), self.backlog_txns.min(BATCH_REQUESTS_MAX));
        while forming.txns.len() < BATCH_REQUESTS_MAX && self.front_is_directory() == Some(alone) {
            self.take_from_front(alone, now, &mut forming)?;
        }
        self.backlog_txns -= forming.txns.len();
        self.alone = alone;
        self.voting += 1;
        Ok(Some(self.send_off(forming, nanos)))
    }

    fn front_is_directory(&mut self) -> Option<bool> {
        while self.backlog.front().is_some_and(|front| front.txns.as_slice().is_empty()) {
            self.backlog.pop_front();
        }
        let next = self.backlog.front()?.txns.as_slice().first()?;
        Some(next.command.is_directory())
    }

    /// Takes transactions of one kind (directory or not) from the first submission.
    fn take_from_front(
        &mut self,
        directory: bool,
        now: Time,
        forming: &mut Forming,
    ) -> Result<(), String> {
        let Some(mut front) = self.backlog.pop_front() else {
            return Ok(());
        };
        forming.submissions.extend(front.announce.take());
        while forming.txns.len() < BATCH_REQUESTS_MAX
            && front
                .txns
                .as_slice()
                .first()
                .is_some_and(|txn| txn.command.is_directory() == directory)
        {
            let mut txn = front.txns.next().expect("looked at");
            self.screen(&mut txn, now, forming)?;
            forming.count(&txn);
            forming.txns.push(txn);
            forming.slots.push(AnswerSlot { submission: front.number, position: front.position });
            front.position += 1;
        }
        if !front.txns.as_slice().is_empty() {
            self.backlog.push_front(front);
        }
        Ok(())
    }

    /// Decides what needs no shard: ids seen before, deadlines, assets, the directory, the supply.
    fn screen(&mut self, txn: &mut Txn, now: Time, forming: &mut Forming) -> Result<(), String> {
        let index = u32::try_from(forming.txns.len()).expect("a batch is small");
        let at = TxnRef { batch: forming.number, index };
        let exception = match self.ids.see(txn.id, at, &self.store)? {
            Seen::Never => match self.refuse_early(txn, now, forming) {
                Ok(()) => return Ok(()),
                // What a directory batch changed before this is part of the state that refused it.
                Err(reject) => {
                    Exception::Refused(reject, self.last_seq().plus(forming.directory_commits))
                }
            },
            Seen::Durable => Exception::Duplicate,
            Seen::At { batch_low, index } => self.repeated(at, batch_low, index),
        };
        if !matches!(exception, Exception::Refused(..)) {
            forming.duplicates += 1;
        }
        // Nobody is asked.
        txn.shards = 0;
        forming.exceptions.insert(index, exception);
        Ok(())
    }

    fn refuse_early(&mut self, txn: &Txn, now: Time, forming: &mut Forming) -> Result<(), Reject> {
        if now >= txn.deadline {
            return Err(Reject::Expired);
        }
        match &txn.command {
            Command::Swap(swap) => {
                let assets = self.directory_assets(forming);
                let unknown = swap.legs().iter().find(|leg| leg.asset.get() as usize >= assets);
                unknown.map_or(Ok(()), |leg| Err(Reject::UnknownAsset(leg.asset)))
            }
            Command::Deposit(to) => {
                let chain = self.directory.chain(to.asset).ok_or(Reject::UnknownAsset(to.asset))?;
                self.directory.check_linked(to.account, chain)?;
                forming.moves_supply = true;
                Ok(())
            }
            Command::Withdraw(from) => {
                forming.moves_supply = true;
                let known = self.directory.chain(from.asset).is_some();
                if known { Ok(()) } else { Err(Reject::UnknownAsset(from.asset)) }
            }
            directory => {
                // The batch runs alone, so what is decided here is decided in this order; only
                // commits spend a seq, and this one's is known.
                if self.directory.check(directory)? == Change::Changed {
                    let seq = self.next_seq.plus(forming.directory_commits);
                    self.directory.apply(directory, seq);
                }
                forming.directory_commits += 1;
                Ok(())
            }
        }
    }

    /// The number of assets, looked up once a batch: they change only in batches that run alone.
    fn directory_assets(&self, forming: &mut Forming) -> usize {
        *forming.assets.get_or_insert_with(|| self.directory.assets_len())
    }

    fn supply_of(&mut self, asset: AssetId) -> &mut Amount {
        let number = asset.get() as usize;
        if number >= self.supply.len() {
            self.supply.resize(number + 1, Amount::ZERO);
        }
        &mut self.supply[number]
    }

    /// A request whose id was sequenced before, at the place given by its batch's low bits.
    fn repeated(&mut self, at: TxnRef, batch_low: u32, index: u32) -> Exception {
        let behind = (self.next_number() as u32).wrapping_sub(batch_low);
        let Some(batch) = at.batch.checked_sub(u64::from(behind)) else {
            return Exception::Duplicate;
        };
        let first = TxnRef { batch, index };
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
            Some(flight) => flight.missing > 0 || flight.exceptions.contains_key(&at.index),
        }
    }

    fn send_off(&mut self, forming: Forming, nanos: u64) -> Sequenced {
        let Forming { number, txns, slots, submissions, exceptions, shards, votes, .. } = forming;
        let batch = Arc::new(Batch { number, txns, slots, sequenced_nanos: nanos });
        self.in_flight.push_back(InFlight {
            batch: batch.clone(),
            missing: self.shards,
            exceptions,
            moves_supply: forming.moves_supply,
            votes,
        });
        Sequenced { batch, submissions, shards, duplicates: forming.duplicates }
    }

    /// Takes a shard's votes, and decides what can be decided.
    pub fn on_votes(&mut self, votes: Votes) -> Tally {
        let mut tally = Tally::default();
        if let Some(number) = votes.batch {
            self.on_first_votes(number, votes.exceptions, &mut tally);
        }
        for (at, vote) in votes.late {
            match vote {
                Vote::Yes => tally.yes += 1,
                Vote::No(..) => tally.no += 1,
                Vote::Wait => unreachable!("a late vote is final"),
            }
            self.on_late_vote(at, vote);
        }
        self.drop_decided_batches();
        tally
    }

    fn flight(&mut self, batch: u64) -> &mut InFlight {
        let place = usize::try_from(batch - self.first).expect("few batches");
        &mut self.in_flight[place]
    }

    fn on_first_votes(&mut self, number: u64, votes: Vec<(u32, Vote)>, tally: &mut Tally) {
        let flight = self.flight(number);
        flight.votes -= votes.len() as u64;
        for (index, vote) in votes {
            let exception = flight.exceptions.entry(index);
            let exception =
                exception.or_insert(Exception::Voting { no: None, waits: 0, waited: false });
            let Exception::Voting { no, waits, waited } = exception else {
                unreachable!("a shard voted on what it was not asked");
            };
            match vote {
                Vote::No(reject, seq) => {
                    tally.no += 1;
                    prefer(no, reject, seq);
                }
                Vote::Wait => {
                    tally.wait += 1;
                    tally.waiting += u64::from(!*waited);
                    *waited = true;
                    *waits += 1;
                }
                Vote::Yes => unreachable!("a yes is no exception"),
            }
        }
        if flight.missing > 1 {
            flight.missing -= 1;
            return;
        }
        tally.yes += flight.votes;
        tally.voted = Some((flight.batch.sequenced_nanos, flight.batch.txns.len() as u64));
        self.decide_batch(number);
        self.voting -= 1;
        let missing = &mut self.flight(number).missing;
        *missing = missing.checked_sub(1).expect("each shard votes once");
    }

    /// The last shard has voted: decides all of the batch that need not wait.
    fn decide_batch(&mut self, number: u64) {
        let flight = self.flight(number);
        let batch = flight.batch.clone();
        let moves_supply = flight.moves_supply;
        let plain = flight.exceptions.is_empty();
        for (index, txn) in (0..).zip(&batch.txns) {
            let at = TxnRef { batch: number, index };
            if plain {
                self.commit(at, moves_supply, txn);
                continue;
            }
            let exceptions = &mut self.flight(number).exceptions;
            let stays = |exception: &mut Exception| {
                matches!(
                    exception,
                    Exception::Voting { no: None, waits: 1.., .. } | Exception::Follower
                )
            };
            if exceptions.get_mut(&index).is_some_and(stays) {
                continue;
            }
            let exception = exceptions.remove(&index);
            if matches!(exception, Some(Exception::Voting { waited: true, .. })) {
                self.waited.push(Waited { since_nanos: batch.sequenced_nanos });
            }
            match exception {
                // Where it was told to wait, the late yes came before another shard's first votes.
                None | Some(Exception::Voting { no: None, .. }) => {
                    self.commit(at, moves_supply, txn);
                }
                Some(
                    Exception::Refused(reject, seq)
                    | Exception::Voting { no: Some((reject, seq)), .. },
                ) => self.refuse(at, reject, seq),
                Some(Exception::Duplicate) => self.duplicates.push(at),
                Some(Exception::Answered) => {}
                Some(Exception::Follower) => unreachable!("stays until its request is decided"),
            }
        }
    }

    fn commit(&mut self, at: TxnRef, moves_supply: bool, txn: &Txn) {
        if moves_supply && let Err(reject) = self.move_supply(&txn.command) {
            return self.refuse(at, reject, self.last_seq());
        }
        self.commits.push(at);
        self.next_seq = self.next_seq.next();
        self.answer_followers(at);
    }

    /// Follows the supply. Only here is it known what an earlier withdrawal came to, so only here
    /// can a deposit be refused for the cap, in the very state that it would have changed.
    fn move_supply(&mut self, command: &Command) -> Result<(), Reject> {
        match command {
            Command::Deposit(to) => {
                let supply = self.supply_of(to.asset);
                let raised = supply.checked_add(to.amount);
                *supply = raised
                    .filter(|sum| sum.get() <= SUPPLY_MAX)
                    .ok_or(Reject::SupplyExceeded(to.asset))?;
            }
            Command::Withdraw(from) => {
                let supply = self.supply_of(from.asset);
                *supply = supply.checked_sub(from.amount).expect("it was part of the supply");
            }
            _ => {}
        }
        Ok(())
    }

    fn refuse(&mut self, txn: TxnRef, reject: Reject, seq: CommitSeq) {
        self.refusals.push(RefusedTxn { txn, reject, seq });
        self.answer_followers(txn);
    }

    /// Answers those who sent the id of a request again while it was undecided.
    fn answer_followers(&mut self, first: TxnRef) {
        if self.followers.is_empty() {
            return;
        }
        for at in self.followers.remove(&first).unwrap_or_default() {
            self.duplicates.push(at);
            let flight = self.flight(at.batch);
            if flight.missing > 0 {
                // Its batch is yet to be decided, perhaps in the loop that is running.
                flight.exceptions.insert(at.index, Exception::Answered);
            } else {
                flight.exceptions.remove(&at.index);
            }
        }
    }

    fn on_late_vote(&mut self, at: TxnRef, vote: Vote) {
        if at.batch < self.first {
            // Refused by another shard's no while this one still made up its mind.
            return;
        }
        let flight = self.flight(at.batch);
        let batch = flight.batch.clone();
        let all_voted = flight.missing == 0;
        let hash_map::Entry::Occupied(mut entry) = flight.exceptions.entry(at.index) else {
            return;
        };
        let Exception::Voting { no, waits, .. } = entry.get_mut() else {
            unreachable!("a shard voted on what it was not asked");
        };
        *waits -= 1;
        if let Vote::No(reject, seq) = vote {
            prefer(no, reject, seq);
        }
        if !all_voted || (no.is_none() && *waits > 0) {
            return;
        }
        let no = no.take();
        entry.remove();
        self.waited.push(Waited { since_nanos: batch.sequenced_nanos });
        let moves_supply = self.flight(at.batch).moves_supply;
        match no {
            Some((reject, seq)) => self.refuse(at, reject, seq),
            None => self.commit(at, moves_supply, &batch.txns[at.index as usize]),
        }
    }

    fn drop_decided_batches(&mut self) {
        while let Some(flight) = self.in_flight.front() {
            if flight.missing > 0 || !flight.exceptions.is_empty() {
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
    fn nothing_to_tell(&self) -> bool {
        self.commits.is_empty() && self.refusals.is_empty() && self.duplicates.is_empty()
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
        let commits = std::mem::take(&mut self.commits);
        Some(Arc::new(Decision {
            number,
            first_seq: CommitSeq::new(self.next_seq.get() - commits.len() as u64),
            time,
            commits,
            refusals: std::mem::take(&mut self.refusals),
            duplicates: std::mem::take(&mut self.duplicates),
            voted_nanos,
            decided_nanos,
        }))
    }

    /// Those whose wait ended since the last call.
    pub fn take_waited(&mut self) -> std::vec::Drain<'_, Waited> {
        self.waited.drain(..)
    }
}

/// Keeps the no that comes first in the order of precedence.
fn prefer(no: &mut Option<(Reject, CommitSeq)>, reject: Reject, seq: CommitSeq) {
    if no.as_ref().is_none_or(|(first, _)| reject.precedence() < first.precedence()) {
        *no = Some((reject, seq));
    }
}

/// A batch that is being formed.
struct Forming {
    number: u64,
    txns: Vec<Txn>,
    slots: Vec<AnswerSlot>,
    submissions: Vec<NewSubmission>,
    exceptions: HashMap<u32, Exception>,
    shards: [u64; 3],
    votes: u64,
    duplicates: u64,
    moves_supply: bool,
    directory_commits: u64,
    assets: Option<usize>,
}

impl Forming {
    fn new(number: u64, expected: usize) -> Self {
        Self {
            number,
            txns: Vec::with_capacity(expected),
            slots: Vec::with_capacity(expected),
            submissions: Vec::new(),
            exceptions: HashMap::new(),
            shards: [0; 3],
            votes: 0,
            duplicates: 0,
            moves_supply: false,
            directory_commits: 0,
            assets: None,
        }
    }

    fn count(&mut self, txn: &Txn) {
        let shards = txn.shards.count_ones();
        self.votes += u64::from(shards);
        if shards > 0 {
            self.shards[shards.min(3) as usize - 1] += 1;
        }
    }
}

#[cfg(test)]
mod scripts;
