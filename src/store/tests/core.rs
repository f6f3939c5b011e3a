//! The commit log's core, without any disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::world::{Fate, World, deposit, prepare, resolve, swap, withdraw, write};
use crate::error::Reject;
use crate::message::{Answer, AnswerSlot, Gate, ToLog};
use crate::request::Action;
use crate::store::StoreError;
use crate::store::journal::Verdict;
use crate::store::log_core::{Effects, KINDS, LogCore, LogStart};
use crate::types::{Amount, AssetId, BlockNumber, CommitSeq, Resolution};

fn core(shards: usize, group_requests_max: usize) -> LogCore {
    LogCore::new(LogStart::default(), shards, group_requests_max)
}

fn take_all(core: &mut LogCore, messages: impl IntoIterator<Item = ToLog>) -> Effects {
    let mut effects = Effects::default();
    messages.into_iter().for_each(|message| core.take(message, 7, &mut effects));
    effects
}

/// The kinds that were counted, and how often.
fn counted<N: Copy + Into<u64>>(kinds: &[N; KINDS.len()]) -> Vec<(&'static str, u64)> {
    let counts = kinds.iter().map(|n| (*n).into());
    KINDS.into_iter().zip(counts).filter(|(_, n)| *n > 0).collect()
}

#[test]
fn a_decision_waits_for_the_rows_of_every_shard_in_any_order() {
    let (mut core, mut world) = (core(3, 100), World::new(3));
    let first = world.settle((0..9).map(|account| deposit(account, 0, 50)).collect());
    let second = world.settle(vec![deposit(1, 1, 50)]);
    take_all(&mut core, [first.sequenced, second.sequenced, second.decided]);
    take_all(&mut core, second.applied);
    // The second is complete, but the first is not.
    let mut applied = first.applied.into_iter();
    take_all(&mut core, applied.by_ref().take(2));
    take_all(&mut core, [first.decided]);
    assert!(core.next_group().unwrap().is_none());
    take_all(&mut core, applied);
    let group = core.next_group().unwrap().expect("both");
    assert_eq!(group.requests, 10);
    let write = group.write.as_ref().unwrap();
    assert_eq!(write.block.header().commits, 10);
    assert_eq!(
        write.supplies,
        [(AssetId::new(0), Amount::new(450)), (AssetId::new(1), Amount::new(50))]
    );
    assert!(core.next_group().unwrap().is_none());
    let mut effects = Effects::default();
    core.durable(group, &mut effects);
    assert_eq!(effects.replies.len(), 2);
    assert_eq!(counted(&effects.tally.settled), [("deposit", 10)]);
    let proofs = &effects.replies[0].answered.proofs;
    assert_eq!(proofs.len(), 1, "one block proves them all");
    for (place, answer) in effects.replies[0].answered.answers.iter().enumerate() {
        let seq = CommitSeq::new(place as u64 + 1);
        assert_eq!(*answer, Answer::Settled(seq));
        assert_eq!(proofs[0].receipt(seq).unwrap().commit_seq, seq);
    }
    assert!(core.is_idle());
}

#[test]
fn groups_keep_to_their_limit_but_never_split_a_decision() {
    let (mut core, mut world) = (core(1, 5), World::new(1));
    for requests in [2, 2, 2, 9, 1] {
        let told = world.settle((0..requests).map(|n| deposit(n, 0, 1)).collect());
        take_all(&mut core, told.messages().0);
    }
    let mut sizes = Vec::new();
    let mut numbers = Vec::new();
    while let Some(group) = core.next_group().unwrap() {
        sizes.push(group.requests);
        numbers.push(group.write.as_ref().unwrap().block.header().number);
        core.durable(group, &mut Effects::default());
    }
    assert_eq!(sizes, [4, 2, 9, 1]);
    assert_eq!(numbers, [1, 2, 3, 4].map(BlockNumber::new));
    assert_eq!(core.durable_position().seq, CommitSeq::new(16));
}

#[test]
fn refusals_are_journaled_and_duplicates_are_not() {
    let (mut core, mut world) = (core(1, 100), World::new(1));
    let id = world.next_id();
    let refused = world.decide(vec![(id, swap(1, 2, 5), Fate::Refused(Reject::Expired))]);
    let repeated = world.decide(vec![(id, swap(1, 2, 5), Fate::Repeated)]);
    take_all(&mut core, refused.messages().0);
    let group = core.next_group().unwrap().unwrap();
    let block = Arc::clone(&group.write.as_ref().unwrap().block);
    assert_eq!((block.header().commits, block.header().refusals), (0, 1));
    assert_eq!(block.refusal(0).id, id);
    let mut effects = Effects::default();
    core.durable(group, &mut effects);
    let Answer::Rejected(refusal) = &effects.replies[0].answered.answers[0] else { panic!() };
    assert_eq!((refusal.request_id, &refusal.reject), (id, &Reject::Expired));
    assert_eq!(effects.tally.reasons[usize::from(Reject::Expired.precedence())], 1);

    take_all(&mut core, repeated.messages().0);
    let group = core.next_group().unwrap().unwrap();
    assert!(group.write.is_none(), "nothing new to write");
    let mut effects = Effects::default();
    core.durable(group, &mut effects);
    let Answer::Duplicate(repeated) = &effects.replies[0].answered.answers[0] else { panic!() };
    assert_eq!(repeated.id, id);
    assert_eq!(effects.tally, Default::default());
}

#[test]
fn gates_open_in_order_when_their_seq_is_durable() {
    let (mut core, mut world) = (core(1, 100), World::new(1));
    let opened = Arc::new(AtomicU64::new(0));
    let gate = |seq: u64| {
        let opened = Arc::clone(&opened);
        let open = Box::new(move || opened.store(seq, Ordering::Relaxed));
        ToLog::Gate(Gate { seq: CommitSeq::new(seq), open })
    };
    let effects = take_all(&mut core, [gate(3), gate(0), gate(1), gate(2)]);
    assert_eq!(effects.gates.len(), 1, "seq 0 was always durable");
    take_all(&mut core, world.settle(vec![deposit(1, 0, 5), deposit(1, 0, 5)]).messages().0);
    let group = core.next_group().unwrap().unwrap();
    let mut effects = Effects::default();
    core.durable(group, &mut effects);
    let seqs: Vec<u64> = effects.gates.iter().map(|gate| gate.seq.get()).collect();
    assert_eq!(seqs, [1, 2]);
    effects.gates.into_iter().for_each(|gate| (gate.open)());
    assert_eq!(opened.load(Ordering::Relaxed), 2);
}

#[test]
fn rows_that_create_value_stop_the_log() {
    let (mut core, mut world) = (core(1, 100), World::new(1));
    let mut told = world.settle(vec![deposit(1, 0, 50), deposit(2, 1, 50), swap(1, 2, 20)]);
    let Some(ToLog::Applied(applied)) = told.applied.first_mut() else { panic!() };
    applied.rows[3].after.available = Amount::new(21);
    take_all(&mut core, told.messages().0);
    let Err(StoreError::Violation(what)) = core.next_group() else { panic!("not noticed") };
    assert!(what.contains("at seq 3"), "{what}");
}

#[test]
fn a_submission_may_end_in_another_group_than_it_began() {
    let (mut core, mut world) = (core(1, 2), World::new(1));
    let first = world.settle(vec![deposit(1, 0, 5), deposit(1, 0, 5)]);
    let ToLog::Sequenced(batch, mut submissions) = first.sequenced else { panic!() };
    // One submission over two batches and decisions.
    submissions[0].txns = 3;
    let second = world.settle(vec![deposit(1, 0, 5)]);
    let ToLog::Sequenced(other, _) = second.sequenced else { panic!() };
    let mut other = Arc::into_inner(other).unwrap();
    other.slots[0].submission = 0;
    other.slots[0].position = 2;
    take_all(&mut core, [ToLog::Sequenced(batch, submissions), first.decided]);
    take_all(&mut core, first.applied);
    take_all(&mut core, [ToLog::Sequenced(Arc::new(other), vec![]), second.decided]);
    take_all(&mut core, second.applied);
    let mut effects = Effects::default();
    let group = core.next_group().unwrap().unwrap();
    core.durable(group, &mut effects);
    assert!(effects.replies.is_empty());
    let group = core.next_group().unwrap().unwrap();
    core.durable(group, &mut effects);
    let answered = &effects.replies[0].answered;
    assert_eq!(answered.answers.last(), Some(&Answer::Settled(CommitSeq::new(3))));
    assert_eq!(answered.proofs.len(), 2);
}

#[test]
fn holds_are_made_and_ended_and_only_confirmed_withdrawals_leave() {
    let (mut core, mut world) = (core(2, 100), World::new(2));
    let fund = world.settle(vec![deposit(1, 0, 50), deposit(2, 1, 50)]);
    let made = world.settle(vec![prepare(1, 2, 10), withdraw(1, 0, 7), withdraw(1, 0, 8)]);
    let (swap, out, back) = (made.ids[0], made.ids[1], made.ids[2]);
    let ended = world.settle(vec![
        resolve(swap, Action::Commit),
        resolve(out, Action::Confirm),
        resolve(back, Action::Cancel),
    ]);
    for told in [fund, made, ended] {
        take_all(&mut core, told.messages().0);
    }
    let group = core.next_group().unwrap().unwrap();
    let write = group.write.as_ref().unwrap();
    let supplies = [(AssetId::new(0), Amount::new(43)), (AssetId::new(1), Amount::new(50))];
    assert_eq!(write.supplies, supplies);
    let receipt = write.block.find_commit(swap).unwrap();
    assert_eq!((receipt.after.len(), receipt.after[0].held), (2, Amount::new(10)));
    let mut effects = Effects::default();
    core.durable(group, &mut effects);
    assert_eq!(effects.tally.resolved, [2, 1, 0]);
    let kinds = ["deposit", "withdrawal", "prepare", "commit", "withdrawal_confirm"];
    let settled = counted(&effects.tally.settled);
    let expected: Vec<_> = kinds.into_iter().zip([2, 2, 1, 1, 1]).collect();
    assert_eq!(settled[..5], expected[..]);
    assert!(core.is_idle());
}

#[test]
fn an_expiry_is_counted_and_answered_to_nobody() {
    let (mut core, mut world) = (core(1, 100), World::new(1));
    let told = world.settle(vec![deposit(1, 0, 5), deposit(2, 1, 5), prepare(1, 2, 5)]);
    let hold = told.ids[2];
    take_all(&mut core, told.messages().0);
    let group = core.next_group().unwrap().unwrap();
    core.durable(group, &mut Effects::default());
    let expire = world.decide(vec![(hold, resolve(hold, Action::Expire), Fate::Settles)]);
    let ToLog::Sequenced(batch, _) = expire.sequenced else { panic!() };
    take_all(&mut core, [ToLog::Sequenced(batch, vec![]), expire.decided]);
    take_all(&mut core, expire.applied);
    let group = core.next_group().unwrap().unwrap();
    let block = Arc::clone(&group.write.as_ref().unwrap().block);
    let mut effects = Effects::default();
    core.durable(group, &mut effects);
    assert!(effects.replies.is_empty());
    assert_eq!(counted(&effects.tally.settled), [("expire", 1)]);
    assert_eq!(effects.tally.resolved[Resolution::Expired as usize], 1);
    block.visit_ids(|id| panic!("the expiry is an outcome of {id}"));
    assert!(core.is_idle());
}

#[test]
fn repeats_are_journaled_and_answered_as_what_did_it() {
    let (mut core, mut world) = (core(1, 100), World::new(1));
    let told = world.settle(vec![deposit(1, 0, 9), deposit(2, 1, 9), prepare(1, 2, 5)]);
    let hold = told.ids[2];
    let commit = || resolve(hold, Action::Commit);
    let first = world.settle(vec![commit()]);
    let (id, seq) = (world.next_id(), world.seq);
    let again = world.decide(vec![(id, commit(), Fate::Done(seq))]);
    for told in [told, first, again] {
        take_all(&mut core, told.messages().0);
    }
    let group = core.next_group().unwrap().unwrap();
    let block = Arc::clone(&group.write.as_ref().unwrap().block);
    assert_eq!((block.header().commits, block.header().refusals), (4, 1));
    assert_eq!(block.find_refusal(id).unwrap().verdict, Verdict::Done(seq));
    let mut effects = Effects::default();
    core.durable(group, &mut effects);
    let answered = &effects.replies.last().unwrap().answered;
    assert_eq!(answered.answers, [Answer::Done(seq)]);
    let settled = counted(&effects.tally.settled);
    assert_eq!(settled, [("deposit", 2), ("prepare", 1), ("commit", 2)]);
    assert_eq!(effects.tally.resolved, [1, 0, 0], "one hold was ended");
}

#[test]
fn what_is_given_back_is_answered_when_it_comes_again() {
    let (mut core, mut world) = (core(1, 100), World::new(1));
    let id = world.next_id();
    let command = || write(&[("key", "value")]);
    let deferred = world.decide(vec![(id, command(), Fate::Deferred)]);
    let ToLog::Sequenced(batch, submissions) = deferred.sequenced else { panic!() };
    let slot = batch.slots[0];
    take_all(&mut core, [ToLog::Sequenced(batch, submissions), deferred.decided]);
    take_all(&mut core, deferred.applied);
    let group = core.next_group().unwrap().unwrap();
    assert!(group.write.is_none(), "nothing is journaled");
    let mut effects = Effects::default();
    core.durable(group, &mut effects);
    assert!(effects.replies.is_empty());
    assert_eq!((core.decisions_built(), core.is_idle()), (1, false));

    let again = world.decide(vec![(id, command(), Fate::Settles)]);
    let ToLog::Sequenced(batch, _) = again.sequenced else { panic!() };
    let mut batch = Arc::into_inner(batch).unwrap();
    batch.slots[0] = AnswerSlot { again: true, ..slot };
    take_all(&mut core, [ToLog::Sequenced(Arc::new(batch), vec![]), again.decided]);
    take_all(&mut core, again.applied);
    let group = core.next_group().unwrap().unwrap();
    core.durable(group, &mut effects);
    let reply = &effects.replies[0];
    assert_eq!(reply.answered.answers, [Answer::Settled(CommitSeq::new(1))]);
    assert_eq!(counted(&reply.kinds), [("transaction", 1)], "counted once");
    assert!(core.is_idle());
}
