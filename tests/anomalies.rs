//! What goes wrong where transactions are not serializable, tried one by one: each classic anomaly
//! is a script of named sessions over real transactions, which says what each of them must see.
//!
//! Names and history of the anomalies: Berenson et al., "A Critique of ANSI SQL Isolation Levels",
//! 1995; the read-only one: Fekete, O'Neil and O'Neil, 2004. Phantoms cannot be, as nobody can ask for a range: every key that was
//! looked for and not found is part of what was read.

#[expect(dead_code, reason = "there are no holds here")]
mod support;
#[path = "support/sessions.rs"]
mod sessions;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crosslatch::engine::{Engine, Known, Options, TransactError, Transaction};
use crosslatch::error::{Error, Reject};
use crosslatch::request::{Command, Outcome};
use crosslatch::types::{CommitSeq, Key, RequestId};

use sessions::key;
use support::{
    ETH, SOL, account, audit, deposit, fresh, in_time, leg, opening, scratch, seed, swap,
};

/// An engine with two accounts that have a hundred of each asset.
struct Venue {
    engine: Engine,
    _data: TempDir,
}

impl Venue {
    fn open(accounts: u64) -> Self {
        let data = scratch();
        let engine = Engine::start(Options::new(data.path().join("data"))).expect("it starts");
        let venue = Self { engine, _data: data };
        let assets = [ETH, SOL];
        let funds =
            (0..accounts).flat_map(|number| assets.map(|asset| deposit(number, asset, 100)));
        venue.settle(opening(accounts).into_iter().chain(funds));
        venue
    }

    fn settle(&self, commands: impl IntoIterator<Item = Command>) {
        let answers = self.engine.submit(fresh(commands)).expect("there is room").wait();
        let answers = answers.expect("it runs");
        for place in 0..answers.len() {
            let outcome = answers.outcome(place);
            assert!(matches!(outcome, Outcome::Settled(_)), "{outcome:?}");
        }
    }

    fn seq(&self) -> CommitSeq {
        self.engine.status().durable_seq
    }

    fn end(self) {
        audit(&self.engine);
        self.engine.stop().expect("it stops");
    }
}

/// Plays a script on a venue of its own.
fn play(script: &str) {
    let venue = Venue::open(2);
    play_on(&venue, script);
    venue.end();
}

fn play_on(venue: &Venue, script: &str) {
    sessions::play(&venue.engine, script);
}

#[test]
fn dirty_write() {
    // x and y are always written together: they must not come from two transactions.
    play(
        "t1: set x 1
         t2: set x 2
         t2: set y 2
         t2: commit -> ok
         t1: set y 1
         t1: commit -> ok
         now: x -> 1
         now: y -> 1",
    );
}

#[test]
fn dirty_read() {
    play(
        "t1: set x 1
         t1: transfer alice bob ETH 40
         t2: get x -> nothing
         t2: balance bob ETH -> 100
         t1: abort
         t2: get x -> nothing
         t2: commit -> ok
         now: x -> nothing
         now: balance bob ETH -> 100",
    );
}

#[test]
fn fuzzy_read() {
    // What was read stays so, as long as the transaction lives.
    play(
        "t0: set x 1
         t0: commit -> ok
         t1: get x -> 1
         t2: set x 2
         t2: commit -> ok
         t1: get x -> 1
         now: x -> 2
         t1: set y 1
         t1: commit -> conflict key x",
    );
    play(
        "t1: balance alice ETH -> 100
         t2: transfer alice bob ETH 40
         t2: commit -> ok
         t1: balance alice ETH -> 100
         now: balance alice ETH -> 60
         t1: set y 1
         t1: commit -> conflict the balance of account 0, asset 0",
    );
}

#[test]
fn lost_update_of_a_key() {
    play(
        "t0: set x 10
         t0: commit -> ok
         t1: get x -> 10
         t2: get x -> 10
         t1: set x 11
         t2: set x 12
         t1: commit -> ok
         t2: commit -> conflict key x
         now: x -> 11",
    );
}

#[test]
fn lost_update_of_a_key_that_was_not_there() {
    play(
        "t1: get x -> nothing
         t2: get x -> nothing
         t1: set x 1
         t2: set x 2
         t2: commit -> ok
         t1: commit -> conflict key x
         now: x -> 2",
    );
}

#[test]
fn lost_update_of_a_balance() {
    // Each moves half of what it saw.
    play(
        "t1: balance alice ETH -> 100
         t2: balance alice ETH -> 100
         t1: transfer alice bob ETH 50
         t2: transfer alice bob ETH 50
         t2: commit -> ok
         t1: commit -> conflict the balance of account 0, asset 0
         now: balance alice ETH -> 50",
    );
}

#[test]
fn write_skew_of_two_keys() {
    // One of two must stay on call; each sees that the other is.
    play(
        "t0: set alice on
         t0: set bob on
         t0: commit -> ok
         t1: get alice -> on
         t1: get bob -> on
         t2: get alice -> on
         t2: get bob -> on
         t1: set alice off
         t2: set bob off
         t1: commit -> ok
         t2: commit -> conflict key alice
         now: bob -> on",
    );
}

#[test]
fn write_skew_of_a_key_and_a_balance() {
    // Whoever sees the flag down may pay; whoever sees enough may raise it.
    let script = "t0: set flag down
         t0: commit -> ok
         t1: get flag -> down
         t1: transfer alice bob ETH 80
         t2: balance alice ETH -> 100
         t2: set flag up
         ";
    let first = "t1: commit -> ok
         t2: commit -> conflict the balance of account 0, asset 0
         now: flag -> down
         now: balance alice ETH -> 20";
    let second = "t2: commit -> ok
         t1: commit -> conflict key flag
         now: flag -> up
         now: balance alice ETH -> 100";
    play(&format!("{script}{first}"));
    play(&format!("{script}{second}"));
}

#[test]
fn read_skew() {
    // x and y come to 10 at any time.
    play(
        "t0: set x 5
         t0: set y 5
         t0: commit -> ok
         t1: get x -> 5
         t2: set x 2
         t2: set y 8
         t2: transfer alice bob ETH 30
         t2: commit -> ok
         t1: get y -> 5
         t1: balance bob ETH -> 100
         t1: commit -> ok
         now: x -> 2
         now: y -> 8
         now: balance bob ETH -> 130",
    );
}

#[test]
fn read_only_anomaly() {
    // x is a savings account, y a checking account. t2 withdraws 10 from x, and a fee of 1 as both
    // together would be below zero. t1 deposits 20 to y. t3 only looks: it sees the deposit and not
    // the withdrawal, so the withdrawal must come after the deposit, and cost no fee.
    play(
        "t0: set x 0
         t0: set y 0
         t0: commit -> ok
         t2: get x -> 0
         t2: get y -> 0
         t1: get y -> 0
         t1: set y 20
         t1: commit -> ok
         t3: get x -> 0
         t3: get y -> 20
         t3: commit -> ok
         t2: set x -11
         t2: commit -> conflict key y
         t2: get x -> 0
         t2: get y -> 20
         t2: set x -10
         t2: commit -> ok",
    );
}

#[test]
fn own_writes_are_seen_and_only_by_their_own() {
    play(
        "t1: get x -> nothing
         t1: set x 1
         t1: get x -> 1
         t1: set x 2
         t1: get x -> 2
         t2: get x -> nothing
         t1: delete x
         t1: get x -> nothing
         t1: set x 3
         t1: commit -> ok
         t2: get x -> nothing
         t2: commit -> ok
         now: x -> 3",
    );
}

#[test]
fn a_deleted_key_is_not_one_that_never_was() {
    play(
        "t1: get x -> nothing
         t0: set x 1
         t0: commit -> ok
         t2: get x -> 1
         t0: delete x
         t0: commit -> ok
         t3: get x -> nothing
         t1: set y 1
         t1: commit -> conflict key x
         t2: set y 2
         t2: commit -> conflict key x
         t3: set y 3
         t3: commit -> ok
         t4: get x -> nothing
         t0: set x 1
         t0: commit -> ok
         t0: delete x
         t0: commit -> ok
         t4: set y 4
         t4: commit -> conflict key x
         now: y -> 3",
    );
}

#[test]
fn blind_writes_and_transfers_conflict_with_nobody() {
    play(
        "t1: set x 1
         t1: transfer alice bob ETH 10
         t2: set x 2
         t2: transfer alice bob ETH 10
         t1: commit -> ok
         t2: commit -> ok
         now: x -> 2
         now: balance alice ETH -> 80
         t3: transfer alice bob ETH 81
         t3: set x 3
         t3: commit -> insufficient_funds
         now: x -> 2",
    );
}

// ---- What is left behind.

#[test]
fn aborted_dropped_and_refused_leave_no_trace() {
    let venue = Venue::open(2);
    play_on(&venue, "t0: set x 1\nt0: commit -> ok");
    let before = venue.seq();
    let mut ids: Vec<RequestId> = Vec::new();
    for round in 0..4 {
        let mut session = venue.engine.begin().expect("it runs");
        ids.push(session.request_id());
        session.get(&key("x")).expect("it runs");
        session.set(key("x"), b"2".as_slice());
        session.balance(account(0), ETH).expect("it runs");
        session.transfer(leg(0, 1, ETH, 1));
        match round {
            0 => session.abort(),
            1 => drop(session),
            2 => {
                let panics = std::thread::spawn(move || {
                    let _session = session;
                    panic!("with a transaction in hand");
                });
                assert!(panics.join().is_err());
            }
            _ => {
                session.set(Key::new(vec![]), b"no such key".as_slice());
                let refused = session.commit();
                let malformed = |error: &TransactError| {
                    matches!(error, TransactError::Rejected(Reject::Malformed(_)))
                };
                assert!(refused.as_ref().is_err_and(malformed), "{refused:?}");
            }
        }
    }
    assert_eq!(venue.seq(), before, "nothing was journaled");
    for id in ids {
        assert_eq!(venue.engine.known(id), Ok(Known::Unknown));
    }
    // Nothing is locked, either.
    play_on(
        &venue,
        "t1: get x -> 1
         t1: balance alice ETH -> 100
         t1: set x 3
         t1: transfer alice bob ETH 100
         t1: commit -> ok",
    );
    assert_eq!(venue.seq(), before.next());
    venue.end();
}

#[test]
fn one_that_only_reads_leaves_no_trace_either() {
    let venue = Venue::open(2);
    let mut session = venue.engine.begin().expect("it runs");
    let (id, snapshot) = (session.request_id(), session.snapshot());
    session.get(&key("x")).expect("it runs");
    venue.settle([deposit(0, ETH, 1)]);
    assert_eq!(session.balance(account(0), ETH).expect("it runs").available.get(), 100);
    let committed = session.commit().expect("it cannot conflict");
    assert_eq!((committed.request_id, committed.seq), (id, snapshot));
    assert_eq!(venue.engine.known(id), Ok(Known::Unknown));
    venue.end();
}

#[test]
fn transact_runs_it_again_until_it_commits() {
    let venue = Venue::open(2);
    let mut runs = 0_u32;
    let done = venue.engine.transact(10, |transaction| {
        runs += 1;
        transaction.get(&key("x"))?;
        transaction.set(key("x"), b"mine".as_slice());
        if runs < 6 {
            // Somebody else is quicker.
            play_on(&venue, "t1: set x theirs\nt1: commit -> ok");
        }
        Ok(runs)
    });
    let (run, committed) = done.expect("the sixth has nobody in its way");
    assert_eq!((run, committed.seq), (6, venue.seq()));
    let Ok(Known::Outcome(Outcome::Settled(receipt))) = venue.engine.known(committed.request_id)
    else {
        panic!("it has a receipt");
    };
    assert_eq!(receipt.commit_seq, committed.seq);
    play_on(&venue, "now: x -> mine");
    // No longer than it is told to, and not where it would not help.
    let mut runs = 0;
    let given_up = venue.engine.transact(3, |transaction| {
        runs += 1;
        transaction.get(&key("x"))?;
        transaction.set(key("x"), b"mine".as_slice());
        play_on(&venue, "t1: set x theirs\nt1: commit -> ok");
        Ok(())
    });
    assert!(matches!(given_up, Err(TransactError::Conflict(_))), "{given_up:?}");
    assert_eq!(runs, 4);
    let mut runs = 0;
    let refused = venue.engine.transact(3, |transaction| {
        runs += 1;
        transaction.transfer(leg(0, 1, ETH, 1_000));
        Ok(())
    });
    assert!(matches!(refused, Err(TransactError::Rejected(_))), "{refused:?}");
    assert_eq!(runs, 1);
    venue.end();
}

// ---- Many at once.

const READERS: u64 = 64;
const WRITERS: u64 = 4;
const ROUNDS: usize = 120;

/// Two-leg swaps between accounts 0 and 1, there and back, and transactions that do the same.
fn trade(venue: &Venue, writer: u64) {
    let mut rng = SmallRng::seed_from_u64(writer);
    for _ in 0..ROUNDS {
        let n = rng.random_range(1..=2);
        let there = || [leg(0, 1, ETH, n), leg(1, 0, SOL, 2 * n)];
        let back = || [leg(1, 0, ETH, n), leg(0, 1, SOL, 2 * n)];
        venue.settle([swap(there()), swap(back()), swap(there())]);
        let done = venue.engine.transact(1_000, |transaction| {
            back().into_iter().for_each(|leg| transaction.transfer(leg));
            Ok(())
        });
        done.expect("a thousand times are enough");
    }
}

/// Reads snapshots until it is told to stop; returns how many states it saw.
fn watch(venue: &Venue, done: &AtomicBool) -> usize {
    let (mut last, mut states) = (CommitSeq::default(), 0);
    while !done.load(Ordering::SeqCst) {
        let mut snapshot = venue.engine.begin().expect("it runs");
        let mut have = |number, asset| {
            let balance = snapshot.balance(account(number), asset).expect("it runs");
            balance.available.get()
        };
        let ([a_eth, b_eth], [a_sol, b_sol]) =
            ([0, 1].map(|number| have(number, ETH)), [0, 1].map(|number| have(number, SOL)));
        assert_eq!((a_eth + b_eth, a_sol + b_sol), (200, 200), "one side of a leg");
        // Two SOL for one ETH, always.
        assert_eq!(2 * a_eth + a_sol, 300, "one leg without the other");
        let at = snapshot.snapshot();
        assert_eq!(snapshot.commit().expect("readers never conflict").seq, at);
        assert!(at >= last, "time goes back for a reader");
        states += usize::from(at > last);
        last = at;
    }
    states
}

#[test]
fn no_snapshot_ever_shows_one_leg_without_the_other() {
    in_time(|| {
        let venue = Venue::open(2);
        let done = AtomicBool::new(false);
        let states = std::thread::scope(|scope| {
            let (venue, done) = (&venue, &done);
            let readers: Vec<_> =
                (0..READERS).map(|_| scope.spawn(move || watch(venue, done))).collect();
            let writers: Vec<_> =
                (0..WRITERS).map(|n| scope.spawn(move || trade(venue, n))).collect();
            let written: Vec<_> = writers.into_iter().map(ScopedJoinHandle::join).collect();
            done.store(true, Ordering::SeqCst);
            let seen = readers.into_iter().map(|reader| reader.join().expect("it runs"));
            let states: usize = seen.sum();
            written.into_iter().for_each(|writer| writer.expect("it runs"));
            states
        });
        assert!(states > 1_000, "the readers saw {states} states: this tests nothing");
        venue.end();
    });
}

#[test]
fn counting_together_nothing_is_lost() {
    const THREADS: usize = 8;
    const EACH: usize = 150;
    in_time(|| {
        let venue = Venue::open(0);
        let runs = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        let added = venue.engine.transact(u32::MAX, |transaction| {
                            runs.fetch_add(1, Ordering::Relaxed);
                            let n = number(transaction, &key("n"))?;
                            transaction.set(key("n"), (n + 1).to_string().as_bytes());
                            Ok(())
                        });
                        added.expect("it is tried for ever");
                    }
                });
            }
        });
        play_on(&venue, &format!("now: n -> {}", THREADS * EACH));
        let runs = runs.into_inner();
        eprintln!("{} increments in {runs} runs", THREADS * EACH);
        assert!(runs > THREADS * EACH, "nobody met anybody: this tests nothing");
        venue.end();
    });
}

fn number(transaction: &mut Transaction, of: &Key) -> Result<i64, Error> {
    let value = transaction.get(of)?;
    Ok(value
        .map_or(0, |bytes| std::str::from_utf8(&bytes).expect("text").parse().expect("a number")))
}

const TELLERS: u64 = 6;
const ACCOUNTS: u64 = 8;
const PAYMENTS: usize = 120;

/// Pays half of what somebody has, on a balance and on a key, to somebody else.
fn pay(engine: &Engine, rng: &mut SmallRng) {
    let from = rng.random_range(0..ACCOUNTS);
    let to = (from + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
    let paid = engine.transact(u32::MAX, |transaction| {
        let has = transaction.balance(account(from), ETH)?.available.get();
        if has > 1 {
            transaction.transfer(leg(from, to, ETH, has / 2));
        }
        let keys = [from, to].map(|number| key(&format!("of {number}")));
        let [mine, theirs] = [number(transaction, &keys[0])?, number(transaction, &keys[1])?];
        transaction.set(keys[0].clone(), (mine - 7).to_string().as_bytes());
        transaction.set(keys[1].clone(), (theirs + 7).to_string().as_bytes());
        Ok(())
    });
    paid.expect("it is tried for ever");
}

/// All that is there, in one snapshot: on balances and on keys.
fn sums(engine: &Engine) -> (u128, i64) {
    let ((balances, keys), _) = engine
        .transact(0, |transaction| {
            let (mut balances, mut keys) = (0, 0);
            for of in 0..ACCOUNTS {
                balances += transaction.balance(account(of), ETH)?.available.get();
                keys += number(transaction, &key(&format!("of {of}")))?;
            }
            Ok((balances, keys))
        })
        .expect("it only reads");
    (balances, keys)
}

#[test]
fn what_a_bank_has_stays_the_same_at_any_time() {
    let seed = seed(11);
    in_time(move || {
        let venue = Venue::open(ACCOUNTS);
        let all = (100 * u128::from(ACCOUNTS), 0);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (engine, done) = (&venue.engine, &done);
            let teller = |n| {
                let mut rng = SmallRng::seed_from_u64(seed + n);
                scope.spawn(move || (0..PAYMENTS).for_each(|_| pay(engine, &mut rng)))
            };
            let tellers: Vec<_> = (0..TELLERS).map(teller).collect();
            let auditor = scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    assert_eq!(sums(engine), all);
                }
            });
            let worked: Vec<_> = tellers.into_iter().map(ScopedJoinHandle::join).collect();
            done.store(true, Ordering::SeqCst);
            auditor.join().expect("it runs");
            worked.into_iter().for_each(|worked| worked.expect("it runs"));
        });
        assert_eq!(sums(&venue.engine), all);
        venue.end();
    });
}
