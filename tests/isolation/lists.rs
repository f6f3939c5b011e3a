//! Lists under callers' keys, appended to and read by transactions of many clients at once.
//!
//! An append reads the list and sets it anew, so two that meet are a lost update unless one of them is
//! refused. A few lists are in use at a time, and each only for a while, so that clients meet and
//! lists stay short. In the end all of them are read once more, after a restart.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::engine::{Engine, TransactError};
use crosslatch::types::Key;

use crate::child;
use crate::clients::{CLIENTS, Fate, Plan, kills, run, transactions, write_down};
use crate::histories::{End, Event, History, Step, assert_clean, line, list_of, list_text};
use crate::support::{scratch, seed};

/// Lists in use at a time.
const LISTS: u64 = 8;
/// After so many transactions one of them is retired, and another comes in its place.
const LIST_LASTS: u64 = 30;
/// So many numbers has each transaction for its elements.
const STEPS_MAX: u64 = 4;
/// About so many bytes are written down of a transaction that commits, and of those that do not.
const BYTES_EACH: u64 = 160;
/// Reads all lists in the end.
const READER: u64 = CLIENTS;

/// What the transaction of that number does: reads and appends, only reads, or one read.
fn some_steps(rng: &mut SmallRng, number: u64) -> Vec<Step> {
    let appends = if rng.random_bool(0.25) { 0.0 } else { 0.5 };
    (0..rng.random_range(1..=STEPS_MAX))
        .map(|place| {
            let key = number / LIST_LASTS + rng.random_range(0..LISTS);
            if rng.random_bool(appends) {
                return Step::Append { key, element: number * STEPS_MAX + place };
            }
            Step::Read { key, list: None }
        })
        .collect()
}

fn key(number: u64) -> Key {
    Key::new(format!("list {number}").into_bytes())
}

fn list_in(value: Option<&[u8]>) -> Vec<u64> {
    let text = std::str::from_utf8(value.unwrap_or_default()).expect("text");
    list_of(text).expect("numbers")
}

/// Runs it as one transaction: what it did and saw, or `None` if it met with another.
fn transact(engine: &Engine, steps: &[Step]) -> Option<Vec<Step>> {
    let mut transaction = engine.begin().expect("it runs until it is killed");
    let mut done = Vec::with_capacity(steps.len());
    for step in steps {
        let key = key(step.key());
        let value = transaction.get(&key).expect("it runs until it is killed");
        let mut list = list_in(value.as_deref());
        done.push(match step {
            Step::Read { key, .. } => Step::Read { key: *key, list: Some(list) },
            Step::Append { element, .. } => {
                list.push(*element);
                transaction.set(key, list_text(&list).as_bytes());
                step.clone()
            }
        });
    }
    match transaction.commit() {
        Ok(_) => Some(done),
        Err(TransactError::Conflict(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

/// A list as it is now, without a transaction.
fn read_one(engine: &Engine, number: u64) -> Vec<Step> {
    let found = engine.record(&key(number), None).expect("it runs until it is killed");
    let value = found.and_then(|version| version.value);
    vec![Step::Read { key: number, list: Some(list_in(value.as_deref())) }]
}

// ---- The child: one engine and its clients.

fn child_main(plan: &Plan) {
    let engine = plan.start();
    let (next, committed) = (AtomicU64::new(plan.first), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (engine, next, committed) = (&engine, &next, &committed);
            scope.spawn(move || {
                let mut rng = SmallRng::seed_from_u64(plan.seed ^ (plan.first << 8) ^ client);
                while committed.load(Ordering::Relaxed) < plan.enough {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if one(engine, client, &some_steps(&mut rng, number)) {
                        committed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    engine.stop().expect("it stops");
}

/// One transaction, written down; says whether it committed.
fn one(engine: &Engine, client: u64, steps: &[Step]) -> bool {
    write_down(&line("invoke", client, steps));
    let done = match steps {
        [Step::Read { key, .. }] => Some(read_one(engine, *key)),
        _ => transact(engine, steps),
    };
    match &done {
        Some(done) => write_down(&line("ok", client, done)),
        None => write_down(&line("fail", client, &[])),
    }
    done.is_some()
}

// ---- The parent: keeps the history, and has it judged.

/// Runs clients until so many transactions have committed, and kills them so often on the way.
fn history(test: &str, kills: u64, seed: u64) -> History {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (data, wanted) = (scratch(), transactions());
    let mut plan =
        Plan { data: data.path().join("data"), shards: 2, seed, first: 0, enough: wanted };
    let mut history = History::default();
    for _ in 0..kills {
        plan.shards = rng.random_range(1..=3);
        plan.enough = u64::MAX;
        let fate = Fate::some(&mut rng, (2 * wanted / (kills + 1) * BYTES_EACH) as usize);
        let lines = run(test, &plan, fate);
        lines.iter().for_each(|line| history.add(line));
        history.add("died");
        // A number that was taken was not always written down.
        plan.first +=
            lines.iter().filter(|line| line.starts_with("invoke")).count() as u64 + CLIENTS;
    }
    plan.enough = wanted.saturating_sub(history.count(End::Ok) as u64).max(1);
    run(test, &plan, Fate::Lives).iter().for_each(|line| history.add(line));
    read_all(&plan, &mut history);
    history
}

/// What is left in the end, read after a restart.
fn read_all(plan: &Plan, history: &mut History) {
    let engine = plan.start();
    let keys = |step: &Step| step.key();
    let known: BTreeSet<u64> = [End::Ok, End::Fail, End::Info]
        .into_iter()
        .flat_map(|end| history.ended(end))
        .map(keys)
        .collect();
    for some in known.into_iter().collect::<Vec<_>>().chunks(STEPS_MAX as usize) {
        let steps: Vec<Step> =
            some.iter().map(|key| Step::Read { key: *key, list: None }).collect();
        history.add(&line("invoke", READER, &steps));
        let done = transact(&engine, &steps).expect("nobody is in its way");
        history.add(&line("ok", READER, &done));
    }
    engine.stop().expect("it stops");
}

/// Of the elements whose transactions nobody heard of: how many are there, and how many there may be.
fn silently_there(history: &History) -> (usize, usize) {
    let unknown: BTreeSet<u64> = history.ended(End::Info).filter_map(appended).collect();
    let seen: BTreeSet<u64> = history
        .ended(End::Ok)
        .flat_map(|step| match step {
            Step::Read { list: Some(list), .. } => list.as_slice(),
            Step::Read { .. } | Step::Append { .. } => &[],
        })
        .copied()
        .collect();
    (unknown.intersection(&seen).count(), unknown.len())
}

fn appended(step: &Step) -> Option<u64> {
    match step {
        Step::Append { element, .. } => Some(*element),
        Step::Read { .. } => None,
    }
}

/// The same history, but that the last who read a list of several misses an acknowledged last element.
fn tampered(history: &History) -> History {
    let acknowledged: BTreeSet<u64> = history.ended(End::Ok).filter_map(appended).collect();
    let mut history = history.clone();
    let steps = history.events.iter_mut().rev().flat_map(|event| match event {
        Event::Ends { end: End::Ok, steps, .. } => steps.as_mut_slice(),
        Event::Ends { .. } | Event::Begins { .. } => &mut [],
    });
    let mut lists = steps.filter_map(|step| match step {
        Step::Read { list, .. } => list.as_mut(),
        Step::Append { .. } => None,
    });
    let ends_so =
        |list: &&mut Vec<u64>| list.last().is_some_and(|last| acknowledged.contains(last));
    lists.find(ends_so).expect("somebody read something").pop();
    history
}

fn check(test: &str, kills: u64, seed: u64) {
    let history = history(test, kills, seed);
    let [ok, conflicts, unknown] = [End::Ok, End::Fail, End::Info].map(|end| history.count(end));
    let (there, silent) = silently_there(&history);
    eprintln!(
        "{ok} committed, {conflicts} conflicts, {kills} kills, {unknown} without an answer \
         (of their {silent} appends {there} happened)"
    );
    assert_clean(&history.judge());
    assert!(conflicts > ok / 100, "nobody met anybody: this tests nothing");
    assert_eq!(unknown > 0, kills > 0, "only a kill leaves questions unanswered, and each does");
    assert_ne!(tampered(&history).judge().anomaly_types, [""; 0], "one element is missing");
}

#[test]
fn lists_of_twenty_clients_are_strictly_serializable() {
    if let Some(part) = child::part() {
        return child_main(&Plan::from_text(&part));
    }
    check("lists::lists_of_twenty_clients_are_strictly_serializable", 0, seed(51));
}

#[test]
fn lists_of_twenty_clients_stay_so_when_the_engine_is_killed() {
    if let Some(part) = child::part() {
        return child_main(&Plan::from_text(&part));
    }
    check("lists::lists_of_twenty_clients_stay_so_when_the_engine_is_killed", kills(), seed(52));
}
