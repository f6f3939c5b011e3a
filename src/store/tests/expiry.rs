//! What is dropped, what stays, and what who reads in between is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::past::{ACCOUNTS, ASSETS, BLOCK_MICROS, Past};
use super::world::{deposit, key, swap};
use crate::actor::Poison;
use crate::store::audit::Derived;
use crate::store::reader::PastError;
use crate::store::retention::{self, Retention, RetentionShared};
use crate::store::snapshots::{Expired, Snapshots};
use crate::store::{Journal, VersionStore};
use crate::types::{AccountId, CommitSeq, Key, Time};

const HOUR_BLOCKS: u64 = 3_600_000_000 / BLOCK_MICROS;

/// Versions stored, of balances and of records.
fn stored(past: &Past) -> (usize, usize) {
    let (mut versions, mut records) = (0, 0);
    past.store.all_versions(&mut |_, _, _| versions += 1).unwrap();
    past.store.all_records(&mut |_, _, _| records += 1).unwrap();
    (versions, records)
}

fn expired<T>(oldest: CommitSeq) -> Result<T, PastError> {
    Err(PastError::Expired(Expired { oldest }))
}

#[test]
fn what_is_below_the_horizon_has_expired_and_all_else_is_as_it_was() {
    for seed in 30..33 {
        let mut past = Past::new(seed);
        let mut horizon = CommitSeq::default();
        for round in 0..80 {
            past.random_block();
            if past.rng.random_ratio(1, 3) {
                let leave = past.rng.random_range(0..2);
                past.fold(leave);
            }
            if round % 20 == 19 {
                horizon = past.random_seq(horizon).min(past.applied.seq());
                past.store.collect_garbage(horizon).unwrap();
                assert_eq!(past.reader.horizon(), Ok(horizon));
            }
            for _ in 0..3 {
                let seq = past.random_seq(horizon);
                past.compare(seq);
                let account = AccountId::new(past.rng.random_range(0..ACCOUNTS));
                past.compare_history(account, seq, 7);
            }
            if let Some(below) = horizon.get().checked_sub(1).map(CommitSeq::new) {
                let one = AccountId::new(1);
                assert_eq!(past.reader.account_at(one, below), expired(horizon));
                assert_eq!(past.reader.balances_at(&[key(1, 1)], below), expired(horizon));
                assert_eq!(past.reader.record_at(&Key::new(*b"k"), below), expired(horizon));
                assert_eq!(past.reader.history(one, None, below, 5), expired(horizon));
            }
        }
        past.compare(horizon);
        past.compare_journal();
        for account in (0..ACCOUNTS).map(AccountId::new) {
            past.compare_history(account, horizon, 5);
        }
    }
}

#[test]
fn versions_are_dropped_and_the_newest_at_the_horizon_stays() {
    let mut past = Past::new(40);
    for _ in 0..100 {
        past.random_block();
        past.fold(0);
    }
    let before = stored(&past);
    let all: usize = past.model.versions.values().map(std::collections::BTreeMap::len).sum();
    assert_eq!(before.0, all);
    let horizon = past.last.seq;
    past.store.collect_garbage(horizon).unwrap();
    let after = stored(&past);
    // A fold of one block has few versions of a balance, and each balance keeps one row.
    assert!(after.0 < before.0 / 4 && after.1 < before.1 / 4, "{before:?} to {after:?}");
    assert!(after.0 >= (ACCOUNTS * u64::from(ASSETS)) as usize);
    past.compare(horizon);
    past.store.collect_garbage(CommitSeq::new(1)).unwrap();
    assert_eq!(past.reader.horizon(), Ok(horizon), "it never goes back");
    assert_eq!(stored(&past), after);
}

/// Compactions by themselves, of a few runs at a time, obey the horizon too.
#[test]
fn later_merges_of_some_runs_drop_nothing_that_is_needed() {
    let mut past = Past::new(41);
    let mut horizon = CommitSeq::default();
    for round in 0..60 {
        // Large enough for a run of its own.
        for _ in 0..5 {
            past.block((0..4_100).map(|n| deposit(n % 5, 0, 1)).collect());
            past.random_block();
        }
        past.block((0..40).map(|n| swap(n % 5, (n + 1) % 5, 1)).collect());
        past.fold(0);
        if round == 5 {
            let raised = past.random_seq(horizon);
            past.store.collect_garbage(raised).unwrap();
        }
        horizon = past.reader.horizon().unwrap();
        let seq = past.random_seq(horizon);
        past.compare(seq);
        past.compare(horizon);
    }
}

/// Reads balances at random until told to stop; counts those that were answered.
fn read_at_random(past: &Past, model: &Past, seed: u64, stop: &AtomicBool) -> (u64, u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut answered, mut too_old) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let key = key(rng.random_range(0..ACCOUNTS), rng.random_range(0..ASSETS));
        let seq = CommitSeq::new(rng.random_range(1..=model.last.seq.get()));
        match past.reader.balances_at(&[key], seq) {
            Ok(found) => {
                assert_eq!(found, [model.model.balance(key, seq)], "{key:?} at {seq}");
                answered += 1;
            }
            Err(PastError::Expired(Expired { oldest })) => {
                assert!(seq < oldest);
                too_old += 1;
            }
            Err(PastError::Store(error)) => panic!("{error}"),
        }
    }
    (answered, too_old)
}

#[test]
fn a_read_that_races_with_dropping_is_right_or_refused() {
    let mut past = Past::new(50);
    for round in 0..300 {
        past.random_block();
        if round % 10 == 0 {
            past.fold(0);
        }
    }
    past.fold(0);
    let (past, stop) = (&past, &AtomicBool::new(false));
    let (answered, too_old) = (&AtomicU64::new(0), &AtomicU64::new(0));
    std::thread::scope(|scope| {
        for seed in 0..3 {
            scope.spawn(move || {
                let (some, old) = read_at_random(past, past, seed, stop);
                answered.fetch_add(some, Ordering::Relaxed);
                too_old.fetch_add(old, Ordering::Relaxed);
            });
        }
        let last = past.last.seq.get();
        for part in 1..=12 {
            past.store.collect_garbage(CommitSeq::new(last * part / 12)).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(answered.load(Ordering::Relaxed) > 100 && too_old.load(Ordering::Relaxed) > 100);
}

fn shared(past: &Past, snapshots: &Arc<Snapshots>) -> RetentionShared {
    RetentionShared {
        journal: past.store.clone(),
        versions: past.store.clone(),
        snapshots: Arc::clone(snapshots),
        applied: past.applied.clone(),
    }
}

#[test]
fn retention_follows_logical_time_and_spares_snapshots() {
    let mut past = Past::new(60);
    let snapshots = Arc::new(Snapshots::new(past.reader.horizon().unwrap()));
    let retention = Retention::new(shared(&past, &snapshots), 1);
    for _ in 0..HOUR_BLOCKS / 2 {
        past.random_block();
    }
    past.fold(0);
    assert_eq!(retention.step(), Ok(CommitSeq::default()), "nothing is an hour old");
    for _ in 0..HOUR_BLOCKS {
        past.random_block();
    }
    past.fold(0);
    let early = CommitSeq::new(past.last.seq.get() / 6);
    let pinned = snapshots.pin(early).unwrap();
    assert_eq!(retention.step(), Ok(early));
    past.compare(pinned.seq());
    drop(pinned);
    let aged = past.reader.position_at(Time::new(past.time.get() - 3_600_000_000));
    let aged = aged.unwrap().seq;
    assert!(aged > early);
    assert_eq!(retention.step(), Ok(aged));
    assert_eq!(snapshots.pin(early).unwrap_err(), Expired { oldest: aged });
    past.compare(aged);
    // Little more has become too old: not worth it yet.
    past.block(vec![swap(1, 2, 1); 3]);
    past.fold(0);
    assert_eq!(retention.step(), Ok(aged));
    // What is not folded is not passed.
    for _ in 0..2 * HOUR_BLOCKS {
        past.block(vec![swap(1, 2, 1)]);
    }
    let raised = retention.step().unwrap();
    assert_eq!(raised, past.applied.seq());
    past.compare(raised);
}

#[test]
fn the_thread_ends_when_it_is_told_and_for_ever_has_none() {
    let mut past = Past::new(61);
    for _ in 0..2 * HOUR_BLOCKS {
        past.random_block();
    }
    past.fold(0);
    let snapshots = Arc::new(Snapshots::default());
    let poison = Poison::new();
    let none = retention::start(shared(&past, &snapshots), 0, &poison).unwrap();
    assert!(none.is_none());
    let thread = retention::start(shared(&past, &snapshots), 1, &poison).unwrap();
    let horizon = loop {
        match past.store.horizon().unwrap() {
            horizon if horizon > CommitSeq::default() => break horizon,
            _ => std::thread::yield_now(),
        }
    };
    thread.expect("started").stop();
    assert_eq!(poison.cause(), None);
    assert_eq!(past.store.horizon(), Ok(horizon));
    assert!(past.store.last().unwrap().is_some());
}

/// An engine that stops ends what runs in the background: forgetting is put off, and is no failure.
#[test]
fn what_a_stop_interrupts_is_put_off() {
    let mut past = Past::new(7);
    past.random_block();
    past.fold(0);
    let before = past.store.horizon().unwrap();
    past.store.stop_compactions();
    assert_eq!(past.store.collect_garbage(before.next()), Ok(()));
    assert_eq!(past.store.horizon(), Ok(before));
}
