//! Readers of events beside load, in one process.

use std::sync::atomic::{AtomicBool, Ordering};

use crosslatch::engine::{Brief, Engine, Event, Options};
use crosslatch::error::Error;
use crosslatch::request::{Action, Command, Request};
use crosslatch::types::{CommitSeq, Token};

use crate::support::{
    ETH, SOL, account, deposit, fresh, fresh_id, leg, opening, prepare, resolve, scratch, swap,
    withdraw,
};

const ACCOUNTS: u64 = 8;
const CALLERS: u64 = 3;
const BATCHES: u64 = 60;
const BATCH: u64 = 50;

fn open(data: &std::path::Path) -> Engine {
    let engine = Engine::start(Options::new(data)).expect("it starts");
    if engine.status().durable_seq == CommitSeq::default() {
        settle(&engine, opening(ACCOUNTS));
        settle(&engine, (0..ACCOUNTS).flat_map(|n| [ETH, SOL].map(|of| deposit(n, of, 5_000))));
    }
    engine
}

fn settle(engine: &Engine, commands: impl IntoIterator<Item = Command>) -> usize {
    let answers = engine.submit(fresh(commands)).expect("room").wait().expect("it runs");
    (0..answers.len()).filter(|n| matches!(answers.brief(*n), Brief::Settled(_))).count()
}

/// Swaps among all, some of which nobody can afford; holds that are ended in every way.
fn call(engine: &Engine, caller: u64) -> usize {
    let mut settled = 0;
    for batch in 0..BATCHES {
        let swaps = (0..BATCH).map(|n| {
            let (a, b) = ((caller + n) % ACCOUNTS, (caller + n + 1 + batch % 5) % ACCOUNTS);
            let much = if n % 10 == 0 { 1_000_000 } else { 1 + u128::from(n) };
            swap([leg(a, b, ETH, much), leg(b, a, SOL, 1)])
        });
        settled += settle(engine, swaps);
        let hold =
            Request::new(fresh_id(), prepare([leg(1, 2, ETH, 1), leg(2, 1, SOL, 1)], 3, false));
        let token = Token::of(hold.id);
        let answers = engine.submit(vec![hold]).expect("room").wait().expect("it runs");
        settled += usize::from(matches!(answers.brief(0), Brief::Settled(_)));
        let actions = [Action::Commit, Action::Rollback];
        settled +=
            settle(engine, [resolve(token, actions[(batch % 2) as usize]), withdraw(3, ETH, 1)]);
    }
    settled
}

/// Follows from the beginning until `done` and there is nothing more.
fn follow(engine: &Engine, done: &AtomicBool, (events, bytes): (usize, usize)) -> Vec<Event> {
    let mut reader = engine.events(CommitSeq::default()).expect("the beginning has happened");
    let mut all: Vec<Event> = Vec::new();
    loop {
        // Looked at first: what is durable then is told.
        let is_done = done.load(Ordering::Acquire);
        let some = reader.take(events, bytes).expect("it runs");
        assert!(some.len() <= events);
        if some.is_empty() && is_done {
            return all;
        }
        assert!(all.len() as u64 + some.len() as u64 <= engine.status().durable_seq.get());
        all.extend(some);
        assert_eq!(reader.seq(), all.last().map(Event::seq).unwrap_or_default());
    }
}

#[test]
fn beside_load_everybody_is_told_everything_once_and_in_order() {
    let data = scratch();
    let engine = open(data.path());
    let before = engine.status().durable_seq.get() as usize;
    let done = AtomicBool::new(false);
    let (followed, settled) = std::thread::scope(|scope| {
        let (engine, done) = (&engine, &done);
        let follow = |limits| scope.spawn(move || follow(engine, done, limits));
        let readers = [(1, 1), (7, usize::MAX), (1_000, 300), (10_000, usize::MAX)].map(follow);
        let callers: Vec<_> = (0..CALLERS).map(|n| scope.spawn(move || call(engine, n))).collect();
        let settled: usize = callers.into_iter().map(|it| it.join().expect("no panic")).sum();
        done.store(true, Ordering::Release);
        (readers.map(|reader| reader.join().expect("no panic")), settled)
    });
    let [first, others @ ..] = followed;
    assert!(first.len() >= before + settled, "{} of {settled}", first.len());
    for (place, event) in first.iter().enumerate() {
        assert_eq!(event.seq(), CommitSeq::new(place as u64 + 1));
        let receipt = engine.receipt_at(event.seq()).expect("it runs").expect("it is durable");
        assert_eq!((&event.receipt, event.kind()), (&receipt, receipt.command.kind()));
    }
    for other in others {
        // Some may have gone on a little longer, and seen a hold expire.
        let common = first.len().min(other.len());
        assert!(common >= before + settled && first[..common] == other[..common]);
    }
    for kind in
        ["asset", "account", "deposit", "swap", "prepare", "commit", "rollback", "withdrawal"]
    {
        assert!(first.iter().any(|event| event.kind() == kind), "no {kind}");
    }
    let ended = first.iter().find(|event| event.kind() == "rollback").expect("some are");
    assert_eq!(ended.accounts(), [account(1), account(2)], "a hold's parties have part in its end");
    engine.stop().expect("it stops");
}

#[test]
fn whoever_comes_back_gets_exactly_the_rest_also_after_a_restart() {
    let data = scratch();
    let engine = open(data.path());
    call(&engine, 0);
    let all = follow(&engine, &AtomicBool::new(true), (100, usize::MAX));
    engine.stop().expect("it stops");
    drop(engine);
    let engine = open(data.path());
    for after in (0..all.len()).step_by(97) {
        let mut reader = engine.events(CommitSeq::new(after as u64)).expect("it has happened");
        let mut rest = Vec::new();
        while rest.len() < all.len() - after {
            rest.extend(reader.next(all.len() - after - rest.len(), 10_000).expect("it runs"));
        }
        assert_eq!(rest, all[after..], "after {after}");
    }
    let future = engine.status().durable_seq.plus(1_000_000);
    assert!(matches!(engine.events(future), Err(Error::Read(_))));
    engine.stop().expect("it stops");
}

#[test]
fn a_reader_that_reads_nothing_holds_nothing_up_and_misses_nothing() {
    let data = scratch();
    let engine = open(data.path());
    let mut reader = engine.events(CommitSeq::default()).expect("the beginning has happened");
    let first = reader.next(1, usize::MAX).expect("it runs");
    assert_eq!(first.len(), 1);
    // It stands still, and everything else goes on to the end.
    let settled = call(&engine, 0);
    engine.drain().expect("what is durable is folded");
    let durable = engine.status().durable_seq.get();
    assert!(durable > settled as u64 && engine.status().applied_seq.get() >= durable);
    let mut told = 1;
    while told < durable {
        told += reader.next(64, usize::MAX).expect("it runs").len() as u64;
        assert_eq!(reader.seq(), CommitSeq::new(told));
    }
    // What is durable is told even when the engine is gone, and then nothing more comes.
    let mut late = engine.events(CommitSeq::default()).expect("the beginning has happened");
    engine.stop().expect("it stops");
    let last = engine.status().durable_seq;
    loop {
        match late.next(10_000, usize::MAX) {
            Ok(_) => {}
            Err(Error::Stopped { .. }) => break,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(late.seq(), last);
}
