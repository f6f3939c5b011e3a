//! What all callers together were told, and when: the history that is judged.
//!
//! Every answer names the seq that it happened at, or that it saw. So the order in which everything
//! must have happened is known, and a history is right if that order agrees with real time and a
//! serial engine that does the same things in it says the same. The former is checked here, at once;
//! the latter in the end (`judge`).

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::access::Caller;
use crosslatch::clock::Clock;
use crosslatch::engine::{Answers, Audit, Engine};
use crosslatch::error::Reject;
use crosslatch::market::Standing;
use crosslatch::message::{AccountBalances, ManyBalances};
use crosslatch::request::{Command, Outcome, Receipt, Refusal, Request};
use crosslatch::types::{
    AccountId, Balance, BalanceKey, CommitSeq, Key, MarketId, RequestId, Time, Token,
};

use crate::Coverage;
use crate::clock::SimClock;
use crate::oracle::books::Standings;
use crate::oracle::{is_repeat, seq_of};

/// What a read showed.
pub enum Seen {
    Balances(AccountId, AccountBalances),
    Many(Vec<BalanceKey>, ManyBalances),
    Audit(Audit),
    Value(Key, CommitSeq, Option<Vec<u8>>),
    Balance(BalanceKey, CommitSeq, Balance),
    Receipt(Option<Box<Receipt>>),
}

/// A request and what became of it.
pub struct Story {
    pub request: Request,
    /// What its first caller knew when he asked first.
    floor: CommitSeq,
    pub outcome: Option<Outcome>,
    /// Whether the door refused it: then nobody behind it has heard of it.
    pub malformed: bool,
}

pub struct Memory {
    clock: SimClock,
    stories: BTreeMap<RequestId, Story>,
    /// Ids in the order in which they were first used.
    asked: Vec<RequestId>,
    tokens: Vec<(Token, bool)>,
    /// Orders that were asked for, with their markets.
    orders: Vec<(RequestId, MarketId)>,
    /// Of these the ones that came to stand.
    open_orders: Vec<(RequestId, MarketId)>,
    /// What the books were when a process started, as of its last seq.
    pub books: Vec<(CommitSeq, Standings)>,
    reads: Vec<Seen>,
    /// The highest seq that anybody was told of.
    known: CommitSeq,
    pub rng: SmallRng,
    pub coverage: Coverage,
    /// Of everything that was told, in order.
    hash: u64,
    /// What happened, if somebody wants to read it.
    pub trace: Option<Vec<String>>,
}

impl Memory {
    pub fn new(seed: u64, clock: SimClock) -> Self {
        Self {
            clock,
            stories: BTreeMap::new(),
            asked: Vec::new(),
            tokens: Vec::new(),
            orders: Vec::new(),
            open_orders: Vec::new(),
            books: Vec::new(),
            reads: Vec::new(),
            known: CommitSeq::default(),
            rng: SmallRng::seed_from_u64(seed ^ 0x1234_5678),
            coverage: Coverage::default(),
            hash: 0,
            trace: None,
        }
    }

    /// Adds to the hash of everything that happened, and to the trace.
    pub fn note(&mut self, what: impl FnOnce() -> String, number: u64) {
        let mixed = (self.hash ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.hash = mixed ^ (mixed >> 29);
        if let Some(trace) = &mut self.trace {
            let line = what();
            if !line.is_empty() {
                trace.push(line);
            }
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn now(&self) -> Time {
        self.clock.wall()
    }

    pub fn millis(&self) -> u64 {
        self.now().millis()
    }

    /// What was answered last, as far as seqs go.
    pub fn known(&self) -> CommitSeq {
        self.known
    }

    pub fn tokens(&self) -> &[(Token, bool)] {
        &self.tokens
    }

    pub fn orders(&self) -> &[(RequestId, MarketId)] {
        &self.orders
    }

    pub fn open_orders(&self) -> &[(RequestId, MarketId)] {
        &self.open_orders
    }

    pub fn stories(&self) -> impl Iterator<Item = &Story> {
        self.stories.values()
    }

    pub fn reads(&self) -> &[Seen] {
        &self.reads
    }

    /// Somebody is about to ask for something new.
    pub fn will_ask(&mut self, request: &Request) {
        match &request.command {
            Command::Order(order) => self.orders.push((request.id, order.market)),
            Command::Prepare(_) => self.tokens.push((Token::of(request.id), false)),
            Command::Withdraw(_) => self.tokens.push((Token::of(request.id), true)),
            _ => {}
        }
        let floor = self.known;
        let story = Story { request: request.clone(), floor, outcome: None, malformed: false };
        let before = self.stories.insert(request.id, story);
        assert!(before.is_none(), "the simulation uses an id twice: {}", request.id);
        self.asked.push(request.id);
        self.note(|| format!("asks {request:?}"), request.id.get() as u64);
    }

    /// Something that was asked for before, by anybody.
    pub fn some_request(&mut self, rng: &mut SmallRng) -> Option<Request> {
        let reach = if rng.random_bool(0.7) { 6 } else { self.asked.len() };
        let back = rng.random_range(0..reach.min(self.asked.len()).max(1));
        let id = *self.asked.iter().rev().nth(back)?;
        Some(self.stories[&id].request.clone())
    }

    /// Everything that was ever asked for.
    pub fn everything(&self) -> Vec<Request> {
        self.asked.iter().map(|id| self.stories[id].request.clone()).collect()
    }

    /// Answers have come.
    ///
    /// Returns what was answered with nothing, because whoever asked may not know what became of it any
    /// more: that can be asked for again by somebody who is trusted.
    pub fn answered(
        &mut self,
        engine: &Engine,
        requests: &[Request],
        answers: &Answers,
    ) -> Vec<Request> {
        let mut hidden = Vec::new();
        assert_eq!(answers.len(), requests.len());
        let durable = engine.status().durable_seq;
        for (place, request) in requests.iter().enumerate() {
            let outcome = answers.outcome(place);
            let seq = seq_of(&outcome);
            self.note(|| format!("is told of {}: {outcome:?}", request.id), seq.get());
            assert!(seq <= durable, "answered before it was durable: {outcome:?}");
            if is_malformed(&outcome) {
                self.stories.get_mut(&request.id).expect("it was asked for").malformed = true;
                continue;
            }
            if is_hidden(&outcome) {
                assert_ne!(request.caller, Caller::Trusted, "{request:?}");
                self.coverage.hidden += 1;
                hidden.push(request.clone().by(Caller::Trusted));
                continue;
            }
            self.check_real_time(request, &outcome);
            self.known = self.known.max(seq);
            self.coverage.answers += 1;
            let story = self.stories.get_mut(&request.id).expect("it was asked for");
            match &story.outcome {
                None => {
                    self.open_orders.extend(placed(&outcome));
                    story.outcome = Some(outcome);
                }
                Some(first) => {
                    assert_eq!(*first, outcome, "a second outcome of {request:?}");
                    self.coverage.repeated += 1;
                }
            }
        }
        hidden
    }

    /// What was asked for after something was answered happens after it.
    fn check_real_time(&self, request: &Request, outcome: &Outcome) {
        let floor = self.stories[&request.id].floor;
        let seq = seq_of(outcome);
        let after = match outcome {
            Outcome::Settled(_) if is_repeat(request, outcome) => true,
            Outcome::Settled(_) => seq > floor,
            Outcome::Rejected(_) => seq >= floor,
        };
        assert!(after, "it knew {floor}, and happened at {seq}: {request:?}");
    }

    /// A read through the actors has come back.
    pub fn note_read(&mut self, engine: &Engine, floor: CommitSeq, seen: Seen) {
        let seq = match &seen {
            Seen::Balances(_, found) => found.seq,
            Seen::Many(_, found) => found.seq,
            Seen::Audit(found) => found.seq,
            _ => unreachable!("not read through the actors"),
        };
        self.note(|| format!("reads as of {seq}"), seq.get());
        assert!(seq >= floor, "a read as of {seq}, after {floor} was answered");
        let durable = engine.status().durable_seq;
        assert!(seq <= durable, "a read as of {seq}, of which only {durable} is durable");
        self.known = self.known.max(seq);
        self.note_past(seen);
    }

    /// What was read as of a seq.
    pub fn note_past(&mut self, seen: Seen) {
        self.coverage.reads += 1;
        self.reads.push(seen);
    }
}

/// The order that it placed, if that stands.
fn placed(outcome: &Outcome) -> Option<(RequestId, MarketId)> {
    let Outcome::Settled(receipt) = outcome else { return None };
    let settlement = receipt.settlement.as_deref()?;
    let last = settlement.orders.last()?;
    let stands = last.order == receipt.request_id && last.standing == Standing::Open;
    stands.then_some((last.order, settlement.market))
}

/// Whether it says nothing but that whoever asks may not: it is not in the journal.
fn is_hidden(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Rejected(Refusal { reject: Reject::Forbidden { .. }, time, .. })
            if *time == Time::default()
    )
}

fn is_malformed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Rejected(refusal) if matches!(refusal.reject, Reject::Malformed(_)))
}
