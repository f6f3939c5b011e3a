//! One outcome per request id, however often and whenever it is sent.

use std::sync::Barrier;

use crosslatch::engine::Known;
use crosslatch::error::Reject;
use crosslatch::request::{Outcome, Request};
use crosslatch::types::{RequestId, Time};

use crate::support::{ETH, SOL, deposit, fresh, fresh_id, leg, now_millis, swap, withdraw};
use crate::venue::{Venue, outcomes, receipt, refusal};

const HOUR_MS: u64 = 3_600_000;

/// Ids of every kind: recent, old, future, without a time, and with hardly any bits.
fn ids_of_all_kinds() -> Vec<RequestId> {
    let (now, random) = (now_millis(), 0xFEED_0000);
    let mut ids = vec![RequestId::new(0), RequestId::new(1), RequestId::new(u128::MAX)];
    for (n, millis) in (random..).zip([
        now,
        now - 9_000,
        now - 11_000,
        now - HOUR_MS,
        0,
        now + 50_000,
        now + 70_000,
        now + HOUR_MS,
        (1 << 48) - 1,
    ]) {
        ids.push(RequestId::v7(millis, n));
    }
    // Version 4, as most libraries make them.
    ids.push("f47ac10b-58cc-4372-a567-0e02b2c3d479".parse().expect("a UUID"));
    ids
}

/// Sends each again: the same outcome, and nothing happens.
fn check_again(venue: &Venue, answered: &[(Request, Outcome)]) {
    let before = (venue.seq(), venue.balances());
    let requests: Vec<Request> = answered.iter().map(|(request, _)| request.clone()).collect();
    let again = venue.send(requests);
    for ((request, first), again) in answered.iter().zip(again) {
        assert_eq!(again, *first, "of {request:?}");
        assert_eq!(venue.engine().known(request.id), Ok(Known::Outcome(first.clone())));
        let mut other = request.clone();
        other.command = deposit(0, ETH, 12_345);
        assert_eq!(refusal(venue.ask(&other)), Reject::RequestIdReused);
        let mut later = request.clone();
        later.deadline = Time::new(u64::MAX - 1);
        assert_eq!(
            refusal(venue.ask(&later)),
            Reject::RequestIdReused,
            "the deadline is part of it"
        );
    }
    assert_eq!((venue.seq(), venue.balances()), before);
}

#[test]
fn an_id_of_any_kind_has_one_outcome_for_ever() {
    let mut venue = Venue::open(4);
    venue.settle_all([deposit(0, ETH, 1_000), deposit(1, SOL, 1_000)]);
    let mut answered = Vec::new();
    // Every other one is refused.
    for (n, id) in ids_of_all_kinds().into_iter().enumerate() {
        let amount = if n % 2 == 0 { 1 } else { 5_000 };
        let request = Request::new(id, swap([leg(0, 1, ETH, amount), leg(1, 0, SOL, 1)]));
        assert_eq!(venue.engine().known(id), Ok(Known::Unknown), "{id}");
        let outcome = venue.ask(&request);
        assert_eq!(matches!(outcome, Outcome::Settled(_)), n % 2 == 0, "{outcome:?}");
        answered.push((request, outcome));
    }
    check_again(&venue, &answered);
    venue.restart(|_| {});
    check_again(&venue, &answered);
    // When all of them are folded, and long after: what was future is now, what was now is old.
    venue.engine().drain().expect("it runs");
    for wait_ms in [0, 15_000, 60_000, HOUR_MS, HOUR_MS] {
        venue.clock.pass(wait_ms);
        check_again(&venue, &answered);
    }
    venue.restart(|limits| limits.shards = 3);
    check_again(&venue, &answered);
    venue.end();
}

#[test]
fn sent_twice_in_a_submission_it_happens_once() {
    let venue = Venue::open(2);
    venue.settle(deposit(0, ETH, 10));
    for id in ids_of_all_kinds() {
        // Two accounts so that the second sending would be refused if it were looked at.
        let there = Request::new(id, swap([leg(0, 1, ETH, 4), leg(0, 1, ETH, 6)]));
        let other = Request::new(id, withdraw(0, ETH, 10));
        let all = venue.send(vec![there.clone(), there.clone(), other, there]);
        assert!(matches!(all[0], Outcome::Settled(_)), "{:?}", all[0]);
        assert_eq!([&all[1], &all[3]], [&all[0], &all[0]]);
        assert_eq!(refusal(all[2].clone()), Reject::RequestIdReused);
        assert_eq!([venue.balance(0, ETH), venue.balance(1, ETH)], [0, 10]);
        venue.settle(swap([leg(1, 0, ETH, 4), leg(1, 0, ETH, 6)]));
    }
    venue.end();
}

#[test]
fn sent_again_while_it_is_pending_it_happens_once() {
    let venue = Venue::open(2);
    venue.settle(deposit(0, ETH, 100));
    for (n, id) in (1..).zip(ids_of_all_kinds()) {
        venue.clock.hold("commit-log");
        let request = Request::new(id, withdraw(0, ETH, 1));
        let refused = Request::new(fresh_id(), withdraw(0, ETH, 1_000));
        let other = Request::new(id, withdraw(0, ETH, 2));
        let first = venue.submit(vec![request.clone(), refused.clone()]);
        let second = venue.submit(vec![refused.clone(), other, request.clone()]);
        // The log has not written anything, so nobody can have been told.
        assert_eq!(venue.engine().known(id), Ok(Known::Pending));
        assert_eq!(venue.engine().known(refused.id), Ok(Known::Pending));
        venue.clock.release();
        let (first, second) = (outcomes(first), outcomes(second));
        assert_eq!([&second[2], &second[0]], [&first[0], &first[1]]);
        assert_eq!(refusal(second[1].clone()), Reject::RequestIdReused);
        assert_eq!(receipt(first[0].clone()).request_id, id);
        assert!(matches!(refusal(first[1].clone()), Reject::InsufficientFunds { .. }));
        assert_eq!(venue.parts(0, ETH), (100 - n, n));
    }
    venue.end();
}

#[test]
fn many_callers_with_the_same_requests_get_the_same_answers() {
    const CALLERS: usize = 8;
    let venue = Venue::with(20, |limits| limits.shards = 2);
    venue.settle_all((0..20).map(|number| deposit(number, ETH, 50)));
    let commands = (0..600)
        .map(|n| swap([leg(n % 20, (n + 7) % 20, ETH, 9), leg(n % 20, (n + 3) % 20, ETH, 1)]));
    let requests = fresh(commands);
    let (barrier, before) = (Barrier::new(CALLERS), venue.seq());
    let answers: Vec<Vec<Outcome>> = std::thread::scope(|scope| {
        let call = |caller: usize| {
            let (venue, barrier, requests) = (&venue, &barrier, &requests);
            scope.spawn(move || {
                barrier.wait();
                // Each in another order, in submissions of another size.
                let mut mine = requests.clone();
                mine.rotate_left(caller * 71 % 600);
                let chunks = mine.chunks(1 + caller * 13);
                let pending: Vec<_> = chunks.map(|chunk| venue.submit(chunk.to_vec())).collect();
                let mut all: Vec<Outcome> = pending.into_iter().flat_map(outcomes).collect();
                all.rotate_right(caller * 71 % 600);
                all
            })
        };
        let callers: Vec<_> = (0..CALLERS).map(call).collect();
        callers.into_iter().map(|caller| caller.join().expect("it runs")).collect()
    });
    for other in &answers[1..] {
        assert_eq!(*other, answers[0]);
    }
    let settled = answers[0].iter().filter(|outcome| matches!(outcome, Outcome::Settled(_)));
    assert_eq!(venue.seq(), before.plus(settled.count() as u64), "each happened once");
    venue.end();
}

#[test]
fn what_is_malformed_leaves_no_trace() {
    let mut venue = Venue::open(2);
    let before = venue.seq();
    let id = fresh_id();
    let bad = Request::new(id, deposit(0, ETH, 0));
    let good = Request::new(id, deposit(0, ETH, 5));
    for _ in 0..2 {
        assert!(matches!(refusal(venue.ask(&bad)), Reject::Malformed(_)));
        assert_eq!(venue.engine().known(id), Ok(Known::Unknown));
        assert_eq!(venue.seq(), before);
        venue.restart(|_| {});
    }
    // In its place among others, and beside its own id with a good body.
    let between = venue.send(vec![good.clone(), bad.clone(), good.clone(), bad.clone()]);
    assert!(matches!(between[0], Outcome::Settled(_)), "{:?}", between[0]);
    assert_eq!(between[2], between[0]);
    for place in [1, 3] {
        assert!(matches!(refusal(between[place].clone()), Reject::Malformed(_)));
    }
    assert_eq!(venue.balance(0, ETH), 5);
    assert_eq!(venue.seq(), before.next());
    venue.end();
}
