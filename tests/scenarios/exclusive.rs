//! Exclusive holds: nobody else takes from what they lock. Others wait a while, holding nothing, and
//! then hear that it took too long.

use std::pin::pin;
use std::task::{Context, Waker};

use crosslatch::config::Limits;
use crosslatch::engine::{HoldState, Known, Pending, TransactError};
use crosslatch::error::Reject;
use crosslatch::request::{Action, Command, Outcome, Receipt, Request};
use crosslatch::types::{Resolution, Time, Token};

use crate::support::{
    ETH, SOL, account, deposit, fresh, fresh_id, in_time, leg, prepare, resolve, swap, withdraw,
};
use crate::venue::{Venue, outcomes, receipt, refusal};

/// Everybody has a hundred ETH and a hundred SOL.
fn funded(change: impl FnOnce(&mut Limits)) -> Venue {
    let venue = Venue::with(6, change);
    venue.settle_all((0..6).flat_map(|n| [deposit(n, ETH, 100), deposit(n, SOL, 100)]));
    venue
}

/// Locks Alice's ETH and Bob's SOL.
fn lock(venue: &Venue, expires_in_ms: u64) -> Token {
    venue.hold(prepare([leg(0, 1, ETH, 10), leg(1, 0, SOL, 10)], expires_in_ms, true))
}

/// Takes one of Alice's ETH.
fn take() -> Command {
    swap([leg(0, 2, ETH, 1), leg(2, 0, SOL, 1)])
}

/// Sends one request that has to wait; it is known as such.
fn park(venue: &Venue, command: Command) -> Pending {
    let request = Request::new(fresh_id(), command);
    let pending = venue.submit(vec![request.clone()]);
    is_pending(venue, &request);
    pending
}

/// What is asked of the coordinator is answered after all that it has to do at once.
fn is_pending(venue: &Venue, request: &Request) {
    venue.settle(deposit(5, SOL, 1));
    assert_eq!(venue.engine().known(request.id), Ok(Known::Pending), "{request:?}");
}

fn one(pending: Pending) -> Outcome {
    outcomes(pending).remove(0)
}

#[test]
fn who_takes_from_what_is_locked_waits_until_it_is_resolved() {
    for how in Resolution::ALL {
        let venue = funded(|limits| limits.shards = 4);
        let token = lock(&venue, if how == Resolution::Expired { 4_000 } else { 60_000 });
        let waiting = [
            take(),
            withdraw(0, ETH, 1),
            prepare([leg(0, 3, ETH, 1), leg(3, 0, SOL, 1)], 60_000, false),
            prepare([leg(0, 3, ETH, 1), leg(3, 0, SOL, 1)], 60_000, true),
            swap([leg(4, 0, ETH, 1), leg(1, 4, SOL, 1)]),
        ];
        let waiting: Vec<Pending> =
            waiting.into_iter().map(|command| park(&venue, command)).collect();
        // They hold nothing: what else they would take is free.
        venue.settle(swap([leg(2, 4, SOL, 100), leg(4, 2, ETH, 100)]));
        venue.settle(swap([leg(4, 2, SOL, 100), leg(2, 4, ETH, 100)]));
        match how {
            Resolution::Committed => drop(venue.settle(resolve(token, Action::Commit))),
            Resolution::RolledBack => drop(venue.settle(resolve(token, Action::Rollback))),
            // Sooner than they lose patience.
            Resolution::Expired => venue.clock.pass(4_001),
        }
        let settled: Vec<Receipt> = waiting.into_iter().map(one).map(receipt).collect();
        let HoldState::Resolved(found, proof) = venue.state(token) else { panic!("it is over") };
        assert_eq!(found, how);
        assert!(settled.iter().all(|after| after.commit_seq > proof.commit_seq), "{settled:?}");
        venue.end();
    }
}

#[test]
fn nobody_waits_longer_than_the_limit() {
    let mut venue = funded(|limits| limits.lock_wait_ms = 5_000);
    let token = lock(&venue, 3_600_000);
    let first = Request::new(fresh_id(), take());
    let pending = venue.submit(vec![first.clone(), fresh([deposit(3, ETH, 1)]).remove(0)]);
    is_pending(&venue, &first);
    venue.clock.pass(4_000);
    is_pending(&venue, &first);
    let later = park(&venue, take());
    venue.clock.pass(1_001);
    let outcome = outcomes(pending);
    assert_eq!(refusal(outcome[0].clone()), Reject::LockTimeout { token });
    receipt(outcome[1].clone());
    venue.clock.pass(4_000);
    assert_eq!(refusal(one(later)), Reject::LockTimeout { token });
    // That was its answer, for ever; and who comes now waits anew.
    for _ in 0..2 {
        assert_eq!(venue.ask(&first), outcome[0]);
        let another = park(&venue, take());
        venue.clock.pass(5_001);
        assert_eq!(refusal(one(another)), Reject::LockTimeout { token });
        venue.restart(|_| {});
    }
    assert_eq!(venue.how(token), None);
    venue.end();
}

#[test]
fn what_comes_in_lands_and_what_was_set_aside_moves() {
    let venue = funded(|limits| limits.shards = 2);
    // Set aside before, by others.
    let before: Vec<Token> = (0..4)
        .map(|_| venue.hold(prepare([leg(0, 3, ETH, 5), leg(3, 0, SOL, 5)], 60_000, false)))
        .collect();
    let leaving = venue.hold(withdraw(0, ETH, 5));
    let token = lock(&venue, 60_000);
    assert_eq!(venue.parts(0, ETH), (65, 35));
    let waiting = park(&venue, take());
    venue.settle(deposit(0, ETH, 1));
    venue.settle(swap([leg(4, 0, ETH, 2), leg(0, 4, SOL, 2)]));
    venue.settle(swap([leg(0, 4, ETH, 3), leg(4, 0, ETH, 7)]));
    venue.settle(resolve(before[0], Action::Commit));
    venue.settle(resolve(before[1], Action::Rollback));
    venue.settle(resolve(leaving, Action::Confirm));
    assert_eq!(venue.parts(0, ETH), (65 + 1 + 2 + 4 + 5, 20));
    // Another asset of Alice's, and another one's ETH, are free.
    venue.settle(swap([leg(0, 1, SOL, 1), leg(1, 0, ETH, 1)]));
    venue.settle(resolve(token, Action::Commit));
    receipt(one(waiting));
    venue.settle_all([resolve(before[2], Action::Commit), resolve(before[3], Action::Rollback)]);
    assert_eq!(venue.parts(0, ETH).1, 0);
    venue.end();
}

#[test]
fn a_lock_outlives_a_restart_and_goes_with_its_hold() {
    for action in [Some(Action::Commit), Some(Action::Rollback), None] {
        let mut venue = funded(|limits| limits.lock_wait_ms = 10);
        let token = lock(&venue, 60_000);
        for shards in [1, 3] {
            venue.restart(|limits| limits.shards = shards);
            assert_eq!(venue.refuse(take()), Reject::LockTimeout { token });
            venue.settle(deposit(0, ETH, 1));
        }
        match action {
            Some(action) => drop(venue.settle(resolve(token, action))),
            None => venue.clock.pass(60_001),
        }
        venue.settle(take());
        assert_eq!(venue.parts(0, ETH).1, 0);
        venue.restart(|_| {});
        venue.settle(take());
        venue.end();
    }
}

#[test]
fn only_so_many_wait_and_the_next_is_told_at_once() {
    let venue = funded(|limits| limits.parked_requests_max = 3);
    let token = lock(&venue, 60_000);
    let waiting: Vec<Pending> = (0..3).map(|_| park(&venue, take())).collect();
    for _ in 0..3 {
        assert_eq!(venue.refuse(take()), Reject::LockTimeout { token });
    }
    venue.settle(resolve(token, Action::Rollback));
    waiting.into_iter().for_each(|pending| drop(receipt(one(pending))));
    venue.settle(take());
    venue.end();
}

#[test]
fn who_is_in_the_way_of_several_waits_for_each() {
    let venue = funded(|limits| limits.shards = 4);
    let locks = [0, 2, 4]
        .map(|n| venue.hold(prepare([leg(n, n + 1, ETH, 1), leg(n + 1, n, SOL, 1)], 60_000, true)));
    let all = || swap([leg(0, 3, ETH, 1), leg(2, 3, ETH, 1), leg(4, 3, ETH, 1)]);
    let request = Request::new(fresh_id(), all());
    let pending = venue.submit(vec![request.clone()]);
    for token in locks {
        is_pending(&venue, &request);
        venue.settle(resolve(token, Action::Commit));
    }
    let done = receipt(one(pending));
    assert_eq!(done.legs.len(), 3);
    venue.end();
}

#[test]
fn sent_again_while_it_waits_it_happens_once() {
    let venue = funded(|limits| limits.shards = 2);
    let token = lock(&venue, 60_000);
    let request = Request::new(fresh_id(), take());
    let mut other = request.clone();
    other.command = deposit(0, ETH, 1);
    let pending: Vec<Pending> = [&request, &other, &request, &request]
        .into_iter()
        .map(|request| venue.submit(vec![request.clone()]))
        .collect();
    is_pending(&venue, &request);
    let before = venue.seq();
    venue.settle(resolve(token, Action::Rollback));
    let outcomes: Vec<Outcome> = pending.into_iter().map(one).collect();
    assert_eq!(receipt(outcomes[0].clone()).request_id, request.id);
    assert_eq!([&outcomes[2], &outcomes[3]], [&outcomes[0], &outcomes[0]]);
    assert_eq!(refusal(outcomes[1].clone()), Reject::RequestIdReused);
    assert_eq!(venue.seq(), before.plus(2));
    assert_eq!(venue.ask(&request), outcomes[0]);
    venue.end();
}

#[test]
fn whose_deadline_passes_while_it_waits_is_expired() {
    let venue = funded(|_| {});
    let token = lock(&venue, 60_000);
    let mut request = Request::new(fresh_id(), take());
    request.deadline = Time::new((venue.clock.now_millis() + 2_000) * 1_000);
    let pending = venue.submit(vec![request.clone()]);
    is_pending(&venue, &request);
    venue.clock.pass(2_100);
    assert_eq!(refusal(one(pending)), Reject::Expired);
    assert_eq!(venue.how(token), None);
    venue.end();
}

#[test]
fn transactions_wait_too_and_then_see_what_has_changed() {
    let venue = funded(|limits| limits.shards = 4);
    let begin = || venue.engine().begin().expect("it runs");
    let token = lock(&venue, 60_000);
    let (mut blind, mut reader, mut elsewhere) = (begin(), begin(), begin());
    blind.transfer(leg(0, 3, ETH, 1));
    reader.balance(account(0), ETH).expect("it runs");
    reader.transfer(leg(3, 4, ETH, 1));
    elsewhere.balance(account(0), SOL).expect("it runs");
    elsewhere.transfer(leg(4, 0, ETH, 1));
    elsewhere.commit().expect("what it reads is not locked, and who is paid does not matter");
    let [blind, reader] = std::thread::scope(|scope| {
        let threads = [blind, reader].map(|waits| scope.spawn(move || waits.commit()));
        // Both have come to their turn when the log has seen them be given back; if they have not,
        // what follows must hold as well.
        venue.settle(deposit(5, SOL, 1));
        venue.settle(resolve(token, Action::Commit));
        threads.map(|thread| thread.join().expect("it runs"))
    });
    assert!(blind.is_ok(), "{blind:?}");
    let conflict =
        |error: &TransactError| matches!(error, TransactError::Conflict(Reject::Conflict { .. }));
    assert!(reader.as_ref().is_err_and(conflict), "{reader:?}");
    // One that only reads waits for nobody.
    let token = lock(&venue, 60_000);
    let mut only_reads = begin();
    assert_eq!(only_reads.balance(account(0), ETH).expect("it runs").held.get(), 10);
    only_reads.commit().expect("nothing is asked");
    venue.settle(resolve(token, Action::Rollback));
    venue.end();
}

#[test]
fn a_stop_refuses_those_who_wait() {
    for round in 0..6 {
        in_time(move || {
            let mut venue = funded(|limits| limits.shards = 1 + round % 3);
            let token = lock(&venue, 3_600_000);
            let requests = fresh((0..50).map(|_| take()));
            let pending = venue.submit(requests.clone());
            let second = fresh([take()]);
            let later = (round >= 3).then(|| {
                is_pending(&venue, &requests[0]);
                venue.submit(second.clone())
            });
            // It may come before they have had their turn, or after.
            venue.engine().stop().expect("it stops");
            let told = outcomes(pending);
            for outcome in &told {
                assert_eq!(refusal(outcome.clone()), Reject::LockTimeout { token });
            }
            if let Some(later) = later {
                assert_eq!(refusal(one(later)), Reject::LockTimeout { token });
            }
            venue.recover();
            assert_eq!(venue.send(requests), told);
            assert_eq!(venue.how(token), None);
            venue.settle(resolve(token, Action::Commit));
            venue.settle(take());
            venue.end();
        });
    }
}

#[test]
fn a_stop_while_others_wait_for_the_log_refuses_them_all_the_same() {
    in_time(|| {
        let venue = funded(|limits| limits.shards = 2);
        let token = lock(&venue, 3_600_000);
        venue.clock.hold("coordinator");
        let pending: Vec<Pending> = (0..20).map(|_| venue.submit(fresh([take()]))).collect();
        let stopping = std::thread::scope(|scope| {
            let stops = scope.spawn(|| venue.engine().stop());
            venue.clock.release();
            stops.join().expect("it ends")
        });
        stopping.expect("it stops");
        for pending in pending {
            assert_eq!(refusal(one(pending)), Reject::LockTimeout { token });
        }
    });
}

#[test]
fn dropped_answers_do_not_matter() {
    let venue = funded(|limits| limits.shards = 2);
    let token = lock(&venue, 60_000);
    let requests = fresh((0..10).map(|_| take()));
    {
        let mut answer = pin!(venue.submit(requests.clone()).answers());
        let polled = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }
    venue.settle(resolve(token, Action::Commit));
    venue.send(requests).into_iter().for_each(|outcome| drop(receipt(outcome)));
    assert_eq!(venue.balance(0, ETH), 80);
    venue.end();
}
