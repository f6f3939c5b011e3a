//! The past: every state within retention can be read, and what is older says so.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use crosslatch::config::Limits;
use crosslatch::coordinator;
use crosslatch::engine::assembly::{Foundation, Parts};
use crosslatch::engine::{Brief, Durability, Engine, IdSource};
use crosslatch::error::Error;
use crosslatch::message::AccountBalances;
use crosslatch::request::{Action, Command, Outcome, Request, Transact, Write};
use crosslatch::store::retention::Retention;
use crosslatch::store::rocks;
use crosslatch::types::{CommitSeq, Key, Time, Token};

use crate::clock::TrapClock;
use crate::support::{
    ETH, SOL, account, deposit, fresh, fresh_id, leg, opening, prepare, resolve, scratch, swap,
};
use crate::venue::{Venue, receipt};

const HOUR_MS: u64 = 3_600_000;

/// Swaps there and back, with a value written at each.
fn some_work(venue: &Venue, key: &Key, n: u8) {
    for number in 0..n {
        let write = Write { key: key.clone(), value: Some([number].as_slice().into()) };
        let transact = Transact {
            writes: vec![write],
            transfers: vec![leg(0, 1, ETH, 1)],
            ..Transact::default()
        };
        let back = swap([leg(1, 0, ETH, 1), leg(1, 0, SOL, 1)]);
        venue.settle_all([Command::Transact(Box::new(transact)), back]);
    }
}

fn is_expired<T>(read: Result<T, Error>) -> bool {
    matches!(read, Err(Error::HistoryExpired { .. }))
}

#[test]
fn what_is_older_than_retention_is_gone_and_says_so() {
    let mut venue = Venue::with(2, |limits| limits.history_retention_hours = 1);
    venue.settle_all([deposit(0, ETH, 1_000), deposit(1, SOL, 1_000)]);
    let key = Key::new(b"key".to_vec());
    let held = fresh([prepare([leg(0, 1, ETH, 5), leg(1, 0, SOL, 5)], 24 * HOUR_MS, false)]);
    let first = venue.ask(&held[0]);
    some_work(&venue, &key, 40);
    let (old, then) = (venue.seq(), venue.balances());
    let record = venue.engine().record(&key, None).expect("it runs");
    venue.engine().drain().expect("it runs");
    // It looks when it starts. So far nothing is too old.
    venue.restart(|_| {});
    let early = CommitSeq::new(10);
    assert!(venue.engine().balances_at(account(0), early).is_ok());
    venue.clock.pass(2 * HOUR_MS);
    some_work(&venue, &key, 5);
    venue.restart(|_| {});
    venue.until(|| is_expired(venue.engine().balances_at(account(0), early)));
    let Err(Error::HistoryExpired { oldest }) = venue.engine().balances_at(account(0), early)
    else {
        panic!("it is expired");
    };
    // From the oldest on everything is as it was; before that nothing.
    assert_eq!(oldest, old);
    assert_eq!(venue.balances_at(oldest), with_seq(&then, oldest));
    assert_eq!(venue.engine().record(&key, Some(oldest)), Ok(record));
    let before = CommitSeq::new(oldest.get() - 1);
    assert!(is_expired(venue.engine().balances_at(account(1), before)));
    assert!(is_expired(venue.engine().record(&key, Some(before))));
    assert!(is_expired(venue.engine().history(account(0), None, before, 10)));
    let since = venue.engine().history(account(0), Some(ETH), oldest, 100).expect("it is kept");
    assert_eq!(since.len(), 10, "five there, five back");
    // Receipts, outcomes and holds are not history.
    assert_eq!(venue.ask(&held[0]), first);
    assert!(venue.engine().receipt_at(early).expect("it runs").is_some());
    assert_eq!(venue.how(Token::of(held[0].id)), None);
    let commit = resolve(Token::of(held[0].id), Action::Commit);
    let committed = venue.ask(&Request::new(fresh_id(), commit.clone()));
    assert_eq!(venue.ask(&Request::new(fresh_id(), commit)), committed);
    assert!(matches!(committed, Outcome::Settled(_)), "{committed:?}");
    venue.end();
}

fn with_seq(balances: &[AccountBalances], seq: CommitSeq) -> Vec<AccountBalances> {
    let mut balances = balances.to_vec();
    balances.iter_mut().for_each(|of| of.seq = seq);
    balances
}

#[test]
fn the_past_can_be_asked_for_by_seq_and_by_time_and_says_why() {
    let mut venue = Venue::with(3, |limits| limits.shards = 2);
    venue.settle_all([deposit(0, ETH, 100), deposit(1, SOL, 100)]);
    let mut states = vec![(venue.seq(), venue.balances())];
    let token = venue.hold(prepare([leg(0, 1, ETH, 5), leg(1, 0, SOL, 7)], 60_000, false));
    states.push((venue.seq(), venue.balances()));
    venue.clock.pass(1_000);
    let committed = venue.settle(resolve(token, Action::Commit));
    states.push((venue.seq(), venue.balances()));
    venue.clock.pass(1_000);
    let late = venue.settle(swap([leg(0, 2, ETH, 1), leg(0, 2, ETH, 1)]));
    states.push((venue.seq(), venue.balances()));
    for _ in 0..2 {
        for (seq, balances) in &states {
            assert_eq!(venue.balances_at(*seq), with_seq(balances, *seq));
        }
        let at = |micros: u64| venue.engine().seq_at(Time::new(micros)).expect("it runs");
        assert_eq!(at(committed.time.get()), committed.commit_seq);
        assert_eq!(at(committed.time.get() + 500_000), committed.commit_seq);
        assert_eq!(at(late.time.get() - 500_000), committed.commit_seq);
        assert_eq!(at(late.time.get()), late.commit_seq);
        assert_eq!(at(1), CommitSeq::default());
        // Every change of Alice's ETH, each with what caused it.
        let history = venue.engine().history(account(0), Some(ETH), CommitSeq::default(), 10);
        let history = history.expect("it runs");
        let kinds: Vec<&str> = history.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, ["deposit", "prepare", "commit", "swap"]);
        let tokens: Vec<_> = history.iter().map(|entry| entry.token).collect();
        assert_eq!(tokens, [None, Some(token), Some(token), None]);
        let after: Vec<_> = history
            .iter()
            .map(|entry| (entry.after.available.get(), entry.after.held.get()))
            .collect();
        assert_eq!(after, [(100, 0), (95, 5), (95, 0), (93, 0)]);
        assert_eq!(history[2].request_id, committed.request_id);
        let page = venue.engine().history(account(0), None, history[1].seq, 2).expect("it runs");
        assert_eq!(page.len(), 2, "both assets of the commit");
        assert!(page.iter().all(|entry| entry.seq == committed.commit_seq));
        venue.restart(|_| {});
    }
    let outcome = venue.send(fresh([deposit(0, ETH, 1)])).remove(0);
    receipt(outcome);
    venue.end();
}

/// An engine whose past is dropped when this test says so.
fn engine_by_hand(data: &Path, clock: Arc<TrapClock>) -> (Engine, Retention, Vec<JoinHandle<()>>) {
    let opened = rocks::open(data, Durability::Sync).expect("it opens");
    let foundation = Foundation {
        journal: opened.store.clone(),
        versions: opened.store,
        log: Box::new(opened.log),
        mark: opened.mark,
        clock,
        ids: IdSource::default(),
    };
    let limits = Limits { shards: 1, ..Limits::default() };
    let (engine, parts) = Parts::assemble(limits, foundation).expect("it recovers");
    let Parts { coordinator, shards, matchers, mut log, mut materializer, retention, .. } = parts;
    let mut threads = vec![
        std::thread::spawn(move || materializer.run().expect("it folds")),
        std::thread::spawn(move || log.run().expect("it writes")),
    ];
    for mut shard in shards {
        threads.push(std::thread::spawn(move || shard.run().expect("it votes")));
    }
    for mut matcher in matchers {
        threads.push(std::thread::spawn(move || matcher.run().expect("it matches")));
    }
    let mut coordinator = coordinator::Actor::new(coordinator);
    threads.push(std::thread::spawn(move || coordinator.run().expect("it decides")));
    (engine, Retention::new(retention, 1), threads)
}

#[test]
fn a_live_snapshot_is_not_dropped_from_under_who_reads_it() {
    let (room, clock) = (scratch(), Arc::new(TrapClock::default()));
    let (engine, retention, threads) = engine_by_hand(&room.path().join("data"), clock.clone());
    let settle = |commands: Vec<Command>| {
        let answers = engine.submit(fresh(commands)).expect("there is room").wait();
        let answers = answers.expect("it runs");
        assert!((0..answers.len()).all(|at| matches!(answers.brief(at), Brief::Settled(_))));
    };
    let work = || {
        for _ in 0..30 {
            settle(vec![swap([leg(0, 1, ETH, 1), leg(1, 0, SOL, 1)])]);
        }
        engine.drain().expect("it runs");
    };
    settle(opening(2));
    settle(vec![deposit(0, ETH, 1_000), deposit(1, SOL, 1_000)]);
    work();
    let mut reading = engine.begin().expect("it runs");
    let pinned = reading.snapshot();
    let then = engine.balances_at(account(0), pinned).expect("it is now");
    work();
    let late = engine.status().durable_seq;
    clock.pass(2 * HOUR_MS);
    settle(vec![deposit(1, ETH, 1)]);
    work();
    // All up to `late` is more than an hour old; it may be dropped up to the snapshot.
    assert_eq!(retention.step(), Ok(pinned));
    assert_eq!(engine.balances_at(account(0), pinned), Ok(then.clone()));
    let seen = reading.balance(account(0), ETH).expect("its snapshot is there");
    let eth = then.balances.iter().find(|balance| balance.asset == ETH).expect("it has some");
    assert_eq!(seen, eth.balance);
    let below = CommitSeq::new(pinned.get() - 1);
    assert!(is_expired(engine.balances_at(account(0), below)));
    drop(reading);
    assert_eq!(retention.step(), Ok(late));
    assert!(is_expired(engine.balances_at(account(0), pinned)));
    assert!(engine.balances_at(account(0), late).is_ok());
    // Nobody holds the engine any more: its threads end.
    drop(engine);
    threads.into_iter().for_each(|thread| thread.join().expect("it ends well"));
}
