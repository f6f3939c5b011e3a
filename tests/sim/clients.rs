//! Callers as they are: they ask, lose patience, lose the connection, ask again under the same id,
//! and look at balances meanwhile. Each remembers what it was told.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::config::BATCH_REQUESTS_MAX;
use crosslatch::engine::{Audit, Engine, Pending, Transaction};
use crosslatch::error::Error;
use crosslatch::message::{AccountBalances, ManyBalances};
use crosslatch::request::{Command, Request};
use crosslatch::types::{
    AccountId, AssetId, Balance, BalanceKey, CommitSeq, Key, RequestId, Subject, Token,
};

use crate::keys::Keys;
use crate::memory::{Memory, Seen};
use crate::orders::Orders;
use crate::support::{account, leg};
use crate::workload::{Past, Workload};

type Asked<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

/// What a caller waits for.
enum Waiting {
    Nothing,
    /// Requests that have no answer, whether or not they were taken.
    Again(Vec<Request>),
    Answers(Vec<Request>, Pending),
    /// A transaction that has read, and goes on later.
    Decided(Box<Transaction>, Reads),
    Balances(CommitSeq, AccountId, Asked<AccountBalances>),
    Many(CommitSeq, Vec<BalanceKey>, Asked<ManyBalances>),
    Audit(CommitSeq, Asked<Audit>),
}

/// What a transaction has read.
#[derive(Default)]
struct Reads {
    keys: Vec<(Key, Option<Vec<u8>>)>,
    balances: Vec<(BalanceKey, Balance)>,
}

pub struct Client {
    waiting: Waiting,
    /// Numbers of the things that it still wants to do.
    wants: Vec<u64>,
}

/// What all callers share: how they draw what to do.
pub struct Habits {
    pub seed: u64,
    pub workload: Workload,
    pub orders: Orders,
    pub keys: Keys,
    pub batch_max: u64,
}

/// A past that looks at the engine for what a caller may have read.
struct Remembered<'a> {
    engine: &'a Engine,
    memory: &'a Memory,
}

impl Past for Remembered<'_> {
    fn token(&self, rng: &mut SmallRng) -> Option<(Token, bool)> {
        let tokens = self.memory.tokens();
        let reach = if rng.random_bool(0.8) { 4 } else { tokens.len() };
        let back = rng.random_range(0..reach.max(1).min(tokens.len().max(1)));
        tokens.iter().rev().nth(back).copied()
    }

    fn version(&self, subject: &Subject, rng: &mut SmallRng) -> CommitSeq {
        if rng.random_bool(0.1) {
            return CommitSeq::new(rng.random_range(0..50));
        }
        let Ok(mut transaction) = self.engine.begin() else { return CommitSeq::default() };
        let read = match subject {
            Subject::Key(key) => transaction.get(key).map(drop),
            Subject::Balance(key) => transaction.balance(key.account, key.asset).map(drop),
        };
        let Command::Transact(transact) = transaction.into_request().command else {
            unreachable!("a transaction is one")
        };
        // The disk may have failed.
        read.map_or(CommitSeq::default(), |()| transact.reads[0].version)
    }
}

impl Habits {
    fn rng(&self, number: u64) -> SmallRng {
        SmallRng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn id(&self, rng: &mut SmallRng, millis: u64, number: u64, place: u64) -> RequestId {
        let random = u128::from(number) << 16 | u128::from(place);
        match rng.random_range(0..10) {
            0 => RequestId::new(1 << 100 | random),
            1 => RequestId::v7(millis.saturating_sub(rng.random_range(0..5_000)), random),
            2 => RequestId::v7(millis + rng.random_range(0..200_000), random),
            _ => RequestId::v7(millis, random),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.waiting {
            Waiting::Nothing => write!(f, "wants {} things", self.wants.len()),
            Waiting::Again(requests) => write!(f, "is not taken: {requests:?}"),
            Waiting::Answers(requests, _) => write!(f, "waits for {requests:?}"),
            Waiting::Decided(..) => write!(f, "is in a transaction"),
            Waiting::Balances(..) | Waiting::Many(..) | Waiting::Audit(..) => write!(f, "reads"),
        }
    }
}

impl Client {
    pub fn new(wants: Vec<u64>) -> Self {
        Self { waiting: Waiting::Nothing, wants }
    }

    /// One that has asked for this, and may have to ask again.
    pub fn asking(requests: Vec<Request>) -> Self {
        Self { waiting: Waiting::Again(requests), wants: Vec::new() }
    }

    /// Whether it has done all that it wanted.
    pub fn is_done(&self) -> bool {
        self.wants.is_empty() && matches!(self.waiting, Waiting::Nothing)
    }

    /// The process is gone, and every connection with it.
    pub fn disconnect(&mut self) {
        self.waiting = match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Answers(requests, _) | Waiting::Again(requests) => Waiting::Again(requests),
            _ => Waiting::Nothing,
        };
    }

    /// Does the next thing, or looks whether an answer has come.
    pub fn step(&mut self, engine: &Engine, habits: &Habits, memory: &mut Memory) {
        let waiting = std::mem::replace(&mut self.waiting, Waiting::Nothing);
        self.waiting = match waiting {
            Waiting::Nothing => match self.wants.pop() {
                Some(number) => begin(engine, habits, memory, number),
                None => Waiting::Nothing,
            },
            Waiting::Again(requests) => ask(engine, memory, requests),
            Waiting::Answers(requests, pending) => match pending.try_wait() {
                Err(pending) => impatient(memory, requests, pending),
                Ok(Ok(answers)) => match memory.answered(engine, &requests, &answers) {
                    hidden if hidden.is_empty() => Waiting::Nothing,
                    hidden => Waiting::Again(hidden),
                },
                Ok(Err(_)) => Waiting::Again(requests),
            },
            Waiting::Decided(transaction, reads) => decide(engine, memory, *transaction, reads),
            Waiting::Balances(floor, account, mut asked) => match poll(&mut asked) {
                Poll::Pending => Waiting::Balances(floor, account, asked),
                Poll::Ready(found) => {
                    memory.saw(engine, floor, found.map(|found| Seen::Balances(account, found)))
                }
            },
            Waiting::Many(floor, keys, mut asked) => match poll(&mut asked) {
                Poll::Pending => Waiting::Many(floor, keys, asked),
                Poll::Ready(found) => {
                    memory.saw(engine, floor, found.map(|found| Seen::Many(keys, found)))
                }
            },
            Waiting::Audit(floor, mut asked) => match poll(&mut asked) {
                Poll::Pending => Waiting::Audit(floor, asked),
                Poll::Ready(found) => memory.saw(engine, floor, found.map(Seen::Audit)),
            },
        };
    }
}

impl Memory {
    fn saw(&mut self, engine: &Engine, floor: CommitSeq, seen: Result<Seen, Error>) -> Waiting {
        // A read that failed is not sent again: another one will come.
        if let Ok(seen) = seen {
            self.note_read(engine, floor, seen);
        }
        Waiting::Nothing
    }
}

fn poll<T>(asked: &mut Asked<T>) -> Poll<Result<T, Error>> {
    asked.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Begins something new.
fn begin(engine: &Engine, habits: &Habits, memory: &mut Memory, number: u64) -> Waiting {
    let mut rng = habits.rng(number);
    let floor = memory.known();
    match rng.random_range(0..100) {
        0..50 => {
            let requests = new_requests(engine, habits, memory, (&mut rng, number));
            ask(engine, memory, requests)
        }
        50..62 => begin_transaction(engine, habits, &mut rng, floor),
        62..72 => match memory.some_request(&mut rng) {
            Some(request) => ask(engine, memory, vec![request]),
            None => Waiting::Nothing,
        },
        72..82 => {
            let account = account(rng.random_range(0..habits.workload.accounts));
            let asked = engine.clone();
            let asked = Box::pin(async move { asked.balances(account).await });
            Waiting::Balances(floor, account, asked)
        }
        82..88 => {
            let keys = some_balances(habits, &mut rng);
            let (asked, of) = (engine.clone(), keys.clone());
            Waiting::Many(floor, keys, Box::pin(async move { asked.balances_of(&of).await }))
        }
        88..90 => {
            let asked = engine.clone();
            Waiting::Audit(floor, Box::pin(async move { asked.audit().await }))
        }
        _ => look_back(engine, habits, memory, &mut rng),
    }
}

fn some_balances(habits: &Habits, rng: &mut SmallRng) -> Vec<BalanceKey> {
    let count = rng.random_range(1..=4);
    let key = |rng: &mut SmallRng| BalanceKey {
        account: account(rng.random_range(0..habits.workload.accounts)),
        asset: AssetId::new(rng.random_range(0..3)),
    };
    (0..count).map(|_| key(rng)).collect()
}

fn new_requests(
    engine: &Engine,
    habits: &Habits,
    memory: &mut Memory,
    (rng, number): (&mut SmallRng, u64),
) -> Vec<Request> {
    let millis = memory.millis();
    let count = rng.random_range(1..=habits.batch_max);
    let mut requests = Vec::new();
    for place in 0..count {
        let past = Remembered { engine, memory };
        let command = if let Some(command) = habits.keys.command(rng) {
            command
        } else if rng.random_range(0..100) < habits.orders.percent {
            habits.orders.command(rng, memory)
        } else {
            habits.workload.command(rng, &past)
        };
        let mut request = Request::new(habits.id(rng, millis, number, place), command);
        if !request.command.is_directory() {
            request.caller = habits.keys.caller(rng);
        }
        if rng.random_bool(0.05) {
            let soon = memory.now().get() + rng.random_range(0..500_000);
            request.deadline = crosslatch::types::Time::new(soon);
        }
        memory.will_ask(&request);
        requests.push(request);
    }
    assert!(requests.len() <= BATCH_REQUESTS_MAX);
    requests
}

fn ask(engine: &Engine, memory: &mut Memory, requests: Vec<Request>) -> Waiting {
    match engine.submit(requests.clone()) {
        Ok(pending) => Waiting::Answers(requests, pending),
        Err(Error::Overloaded { .. }) => {
            memory.coverage.overloaded += 1;
            Waiting::Again(requests)
        }
        Err(_) => Waiting::Again(requests),
    }
}

/// Most go on waiting; some give up and ask again.
fn impatient(memory: &mut Memory, requests: Vec<Request>, pending: Pending) -> Waiting {
    if !memory.rng.random_bool(0.0005) {
        return Waiting::Answers(requests, pending);
    }
    memory.coverage.impatient += 1;
    Waiting::Again(requests)
}

fn begin_transaction(
    engine: &Engine,
    habits: &Habits,
    rng: &mut SmallRng,
    floor: CommitSeq,
) -> Waiting {
    let Ok(mut transaction) = engine.begin() else { return Waiting::Nothing };
    assert!(transaction.snapshot() >= floor, "its snapshot is older than what was answered");
    let mut reads = Reads::default();
    for _ in 0..rng.random_range(1..=3) {
        let key = hot_key(rng);
        let Ok(value) = transaction.get(&key) else { return Waiting::Nothing };
        reads.keys.push((key, value.map(|value| value.to_vec())));
    }
    for key in some_balances(habits, rng) {
        let Ok(found) = transaction.balance(key.account, key.asset) else {
            return Waiting::Nothing;
        };
        reads.balances.push((key, found));
    }
    for _ in 0..rng.random_range(0..=2) {
        match rng.random_bool(0.8) {
            true => transaction.set(hot_key(rng), [rng.random::<u8>(); 2].as_slice()),
            false => transaction.delete(hot_key(rng)),
        }
    }
    if rng.random_bool(0.4) {
        let accounts = habits.workload.accounts;
        let (from, step) = (rng.random_range(0..accounts), rng.random_range(1..accounts));
        let asset = AssetId::new(rng.random_range(0..3));
        let amount = rng.random_range(1..=habits.workload.amount_max);
        transaction.transfer(leg(from, (from + step) % accounts, asset, amount));
    }
    Waiting::Decided(Box::new(transaction), reads)
}

fn hot_key(rng: &mut SmallRng) -> Key {
    Key::new(format!("hot {}", rng.random_range(0..3)).into_bytes())
}

fn decide(engine: &Engine, memory: &mut Memory, transaction: Transaction, reads: Reads) -> Waiting {
    let snapshot = transaction.snapshot();
    for (key, value) in reads.keys {
        memory.note_past(Seen::Value(key, snapshot, value));
    }
    for (key, balance) in reads.balances {
        memory.note_past(Seen::Balance(key, snapshot, balance));
    }
    let request = transaction.into_request();
    let Command::Transact(transact) = &request.command else {
        unreachable!("a transaction is one")
    };
    // One that only read is done.
    if transact.validate().is_err() || transact.writes.is_empty() && transact.transfers.is_empty() {
        return Waiting::Nothing;
    }
    memory.will_ask(&request);
    ask(engine, memory, vec![request])
}

/// Reads what is durable, without asking an actor.
fn look_back(engine: &Engine, habits: &Habits, memory: &mut Memory, rng: &mut SmallRng) -> Waiting {
    let durable = engine.status().durable_seq;
    let at = CommitSeq::new(rng.random_range(0..=durable.get()));
    let account = account(rng.random_range(0..habits.workload.accounts));
    match rng.random_range(0..3) {
        0 => {
            if let Ok(found) = engine.balances_at(account, at) {
                memory.note_past(Seen::Balances(account, found));
            }
        }
        1 => {
            let key = hot_key(rng);
            if let Ok(found) = engine.record(&key, Some(at)) {
                let value = found.and_then(|found| found.value).map(|value| value.to_vec());
                memory.note_past(Seen::Value(key, at, value));
            }
        }
        _ => {
            if let Ok(found) = engine.receipt_at(at) {
                assert_eq!(found.is_some(), at.get() > 0, "seqs are dense up to the durable one");
                memory.note_past(Seen::Receipt(found.map(Box::new)));
            }
        }
    }
    Waiting::Nothing
}
