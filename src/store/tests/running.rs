//! The whole store while it runs: answers, reads of the past, outcomes, failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::node::{Node, limits};
use super::world::{Fate, World, deposit, prepare, resolve, swap, withdraw, write};
use crate::error::Reject;
use crate::message::{Answer, ToLog};
use crate::request::{Action, Outcome};
use crate::store::audit::audit;
use crate::store::replay::{compare, replay_to};
use crate::store::rocks::{self, Opened};
use crate::store::{CommitLog, Durability, Group, Position, StoreError, VersionStore};
use crate::types::{Amount, CommitSeq, RequestId};

const ACCOUNTS: u64 = 20;

/// Every account gets some of both assets.
fn fund(world: &mut World) -> super::world::Told {
    let accounts = (0..ACCOUNTS).flat_map(|account| [0, 1].map(|asset| (account, asset)));
    world.settle(accounts.map(|(account, asset)| deposit(account, asset, 1 << 40)).collect())
}

fn random_swaps(world: &mut World, rng: &mut SmallRng, n: usize) -> super::world::Told {
    let swaps = (0..n).map(|_| {
        let from = rng.random_range(0..ACCOUNTS);
        let to = (from + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        swap(from, to, rng.random_range(1..1_000))
    });
    let swaps = swaps.collect();
    world.settle(swaps)
}

#[test]
fn reads_of_the_past_equal_the_model_while_folds_race_them() {
    let data = tempfile::tempdir().unwrap();
    let (mut world, mut rng) = (World::new(2), SmallRng::seed_from_u64(7));
    let node = Node::start(data.path(), &limits(2)).unwrap();
    node.answered(fund(&mut world));
    for round in 0..60 {
        let told = random_swaps(&mut world, &mut rng, 40);
        node.answered(told);
        let seqs: Vec<u64> = (0..4).map(|_| rng.random_range(0..=world.seq.get())).collect();
        node.compare(&world, ACCOUNTS, seqs);
        node.compare(&world, ACCOUNTS, [world.seq.get()]);
        if round % 20 == 19 {
            node.drain();
        }
    }
    node.compare(&world, ACCOUNTS, 0..=world.seq.get());
    node.stop();
}

#[test]
fn readers_on_other_threads_never_see_a_gap() {
    let data = tempfile::tempdir().unwrap();
    let (mut world, mut rng) = (World::new(1), SmallRng::seed_from_u64(8));
    let node = Node::start(data.path(), &limits(1)).unwrap();
    node.answered(fund(&mut world));
    let done = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));
    let watcher = {
        let (reader, done, reads) =
            (Arc::clone(&node.reader), Arc::clone(&done), Arc::clone(&reads));
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let seq = reader.durable_seq();
                // Value moves between accounts, so the sum of one asset is the same at any seq.
                let accounts = (0..ACCOUNTS).map(crate::types::AccountId::new);
                let sum: u128 = accounts
                    .map(|account| reader.account_at(account, seq).unwrap()[0])
                    .map(|now| now.balance.total().get())
                    .sum();
                assert_eq!(sum, u128::from(ACCOUNTS) << 40, "at seq {seq}");
                reads.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    for _ in 0..200 {
        let told = random_swaps(&mut world, &mut rng, 50);
        node.answered(told);
    }
    done.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
    assert!(reads.load(Ordering::Relaxed) > 10);
    node.stop();
}

#[test]
fn outcomes_are_found_in_memory_and_on_disk() {
    let data = tempfile::tempdir().unwrap();
    let mut world = World::new(2);
    let node = Node::start(data.path(), &limits(2)).unwrap();
    let told = fund(&mut world);
    let ids = told.ids.clone();
    node.answered(told);
    let refused = world.next_id();
    let reject = Reject::InsufficientFunds {
        account: crate::types::AccountId::new(1),
        asset: crate::types::AssetId::new(0),
        short_by: Amount::new(3),
        seq: world.seq,
    };
    let fate = Fate::Refused(reject.clone());
    node.answered(world.decide(vec![(refused, swap(1, 2, 1 << 50), fate)]));
    for drained in [false, true] {
        for (place, id) in ids.iter().enumerate() {
            let (outcome, digest) = node.reader.outcome(*id).unwrap().expect("settled");
            let Outcome::Settled(receipt) = outcome else { panic!("{outcome:?}") };
            assert_eq!(receipt.commit_seq, CommitSeq::new(place as u64 + 1));
            assert_eq!((receipt.request_id, digest), (*id, id.get() as u64));
            assert!(node.reader.seen(*id).unwrap());
        }
        let (outcome, _) = node.reader.outcome(refused).unwrap().expect("refused");
        let Outcome::Rejected(refusal) = outcome else { panic!("{outcome:?}") };
        assert_eq!(refusal.reject, reject);
        for never in [RequestId::v7(world.time.millis(), 1 << 70), RequestId::new(99)] {
            assert_eq!(node.reader.outcome(never).unwrap(), None);
            assert!(!node.reader.seen(never).unwrap());
        }
        if !drained {
            node.drain();
        }
    }
    let mut recent = Vec::new();
    node.store.ids_since(0, &mut |id| recent.push(id)).unwrap();
    recent.sort();
    let mut expected: Vec<RequestId> = ids.into_iter().chain([refused]).collect();
    expected.retain(|id| id.v7_millis().is_some());
    expected.sort();
    assert_eq!(recent, expected);
    node.stop();
}

/// Fails at the append of one block.
struct Failing {
    log: Box<dyn CommitLog>,
    at: u64,
}

impl CommitLog for Failing {
    fn begin(&mut self, at: Position) -> Result<(), StoreError> {
        self.log.begin(at)
    }

    fn append(&mut self, group: &Group) -> Result<(), StoreError> {
        if group.block.header().number.get() == self.at {
            return Err(StoreError::Io("the disk is gone".into()));
        }
        self.log.append(group)
    }

    fn stop(&mut self) -> Result<(), StoreError> {
        self.log.stop()
    }
}

#[test]
fn the_first_storage_error_stops_everything() {
    let data = tempfile::tempdir().unwrap();
    let mut world = World::new(2);
    let node =
        Node::start_with(data.path(), &limits(2), true, |log| Box::new(Failing { log, at: 3 }))
            .unwrap();
    node.answered(fund(&mut world));
    node.answered(world.settle(vec![swap(1, 2, 5)]));
    let durable = node.durable.seq();
    let cause = node.unanswered(world.settle(vec![swap(1, 2, 5)]));
    node.unanswered(world.settle(vec![swap(1, 2, 5)]));
    assert!(cause.contains("the disk is gone"), "{cause}");
    assert_eq!(node.durable.seq(), durable);
    node.crash();
}

#[test]
fn a_commit_that_creates_value_is_never_written() {
    let data = tempfile::tempdir().unwrap();
    let mut world = World::new(1);
    let node = Node::start(data.path(), &limits(1)).unwrap();
    node.answered(fund(&mut world));
    let mut told = world.settle(vec![swap(1, 2, 5)]);
    let Some(ToLog::Applied(applied)) = told.applied.first_mut() else { panic!() };
    applied.rows[1].after.available = Amount::new(u128::from(u64::MAX));
    assert!(node.unanswered(told).contains("supply violation"));
    node.crash();
    let node = Node::start(data.path(), &limits(1)).unwrap();
    assert_eq!(node.recovered.last.seq, CommitSeq::new(2 * ACCOUNTS));
    node.stop();
}

#[test]
fn ids_are_found_however_folds_race_the_question() {
    let data = tempfile::tempdir().unwrap();
    let (mut world, mut rng) = (World::new(1), SmallRng::seed_from_u64(9));
    let node = Node::start(data.path(), &limits(1)).unwrap();
    let told = fund(&mut world);
    let mut ids = told.ids.clone();
    node.answered(told);
    for _ in 0..100 {
        let told = random_swaps(&mut world, &mut rng, 30);
        ids.extend(&told.ids);
        node.answered(told);
        for _ in 0..20 {
            let id = ids[rng.random_range(0..ids.len())];
            assert!(node.reader.seen(id).unwrap(), "request {id}");
            assert!(!node.reader.seen(RequestId::new(id.get() ^ 1 << 60)).unwrap());
        }
    }
    node.drain();
    assert!(ids.iter().all(|id| node.reader.seen(*id).unwrap()));
    node.stop();
}

#[test]
fn duplicates_are_answered_after_what_they_repeat() {
    let data = tempfile::tempdir().unwrap();
    let mut world = World::new(1);
    let node = Node::start(data.path(), &limits(1)).unwrap();
    let first = fund(&mut world);
    let id = first.ids[0];
    let repeat = world.decide(vec![(id, deposit(0, 0, 1 << 40), Fate::Repeated)]);
    let (first, repeat) = (node.send(first), node.send(repeat));
    let answered = repeat.blocking_recv().unwrap();
    assert!(matches!(&answered.answers[0], Answer::Duplicate(it) if it.id == id));
    assert!(node.reader.outcome(id).unwrap().is_some(), "what it repeats is durable");
    first.blocking_recv().unwrap();
    assert_eq!(node.durable.decisions(), 2);
    node.stop();
}

/// Holds of each end, withdrawals, values written and deleted; some are left open.
fn use_everything(world: &mut World, node: &Node) {
    let told = world.settle(vec![
        deposit(1, 0, 500),
        prepare(1, 2, 10),
        prepare(2, 3, 20),
        prepare(3, 4, 30),
        withdraw(4, 0, 40),
        withdraw(5, 0, 50),
        write(&[("a", "one"), ("b", "two")]),
    ]);
    let [_, moved, back, late, out, kept, _] = told.ids[..] else { unreachable!("seven requests") };
    node.answered(told);
    world.time = crate::types::Time::new(world.time.get() + 60_000_000);
    let id = world.next_id();
    node.answered(world.decide(vec![
        (id, resolve(moved, Action::Commit), Fate::Settles),
        (late, resolve(late, Action::Expire), Fate::Settles),
    ]));
    let done = world.seq;
    let id = world.next_id();
    node.answered(world.decide(vec![(id, resolve(moved, Action::Commit), Fate::Done(done))]));
    node.answered(world.settle(vec![
        resolve(back, Action::Rollback),
        resolve(out, Action::Confirm),
        resolve(kept, Action::Cancel),
        write(&[("a", ""), ("b", "three")]),
        prepare(1, 2, 60),
    ]));
}

#[test]
fn what_was_stored_stands_up_to_the_audit_and_the_replay() {
    let data = tempfile::tempdir().unwrap();
    let (mut world, mut rng) = (World::new(2), SmallRng::seed_from_u64(10));
    let node = Node::start(data.path(), &limits(2)).unwrap();
    node.answered(fund(&mut world));
    for round in 0..6 {
        node.answered(random_swaps(&mut world, &mut rng, 100));
        if round % 2 == 1 {
            use_everything(&mut world, &node);
        }
    }
    node.stop();
    let seqs: Vec<u64> = (0..=world.seq.get()).step_by(37).chain([world.seq.get()]).collect();
    for horizon in [0, 200, 400] {
        let Opened { store, mark, .. } = rocks::open(data.path(), Durability::Off).unwrap();
        let horizon = CommitSeq::new(horizon);
        store.collect_garbage(horizon).unwrap();
        let report = audit(&*store, &*store, &*store, mark, 5_000, &mut |_| {}).unwrap();
        assert_eq!((report.end.seq, report.horizon), (world.seq, horizon));
        assert_eq!((report.holds, report.resolved, report.random_versions), (3, 15, 5_000));
        for seq in seqs.iter().map(|seq| CommitSeq::new(*seq)) {
            let state = replay_to(&*store, seq).unwrap();
            assert_eq!(compare(&state, &*store).is_ok(), seq >= horizon, "as of seq {seq}");
        }
    }
}
