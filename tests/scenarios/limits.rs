//! Limits refuse before anything is taken, and deadlines before anything is done.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crosslatch::config::BATCH_REQUESTS_MAX;
use crosslatch::engine::{Engine, Known, Options};
use crosslatch::error::{Error, Reject};
use crosslatch::request::{Outcome, Request};
use crosslatch::types::Time;

use crate::support::{ETH, account, block_on, deposit, fresh, fresh_id, scratch, withdraw};
use crate::venue::{Venue, outcomes, receipt, refusal};

#[test]
fn beyond_what_may_be_in_flight_nothing_is_taken() {
    const MAX: usize = 10;
    let venue = Venue::with(4, |limits| limits.requests_in_flight_max = MAX);
    venue.settle(deposit(0, ETH, 10_000));
    let overloaded = Error::Overloaded { limit: "requests_in_flight_max", max: MAX as u64 };
    let ones = |n: usize| fresh((0..n).map(|_| withdraw(0, ETH, 1)));
    for round in 1..=100 {
        // More at once than there is room for at all.
        assert_eq!(venue.engine().submit(ones(MAX + 1)).err(), Some(overloaded.clone()));
        venue.clock.hold("commit-log");
        let taken = [venue.submit(ones(4)), venue.submit(ones(5))];
        assert_eq!(venue.engine().status().in_flight, 9);
        let too_many = ones(2);
        assert_eq!(venue.engine().submit(too_many.clone()).err(), Some(overloaded.clone()));
        let last = venue.submit(ones(1));
        let one_more = ones(1);
        assert_eq!(venue.engine().submit(one_more.clone()).err(), Some(overloaded.clone()));
        // What was not taken is not known, and was not even looked at.
        assert_eq!(venue.engine().known(too_many[0].id), Ok(Known::Unknown));
        let malformed = fresh([withdraw(0, ETH, 0)]);
        assert_eq!(venue.engine().submit(malformed).err(), Some(overloaded.clone()));
        venue.clock.release();
        let answered = taken.into_iter().chain([last]).flat_map(outcomes);
        assert_eq!(answered.map(receipt).count(), MAX);
        assert_eq!(venue.engine().status().in_flight, 0);
        assert_eq!(venue.parts(0, ETH), (10_001 - 11 * round, 11 * round - 1));
        venue.send(one_more).into_iter().for_each(|outcome| drop(receipt(outcome)));
    }
    venue.end();
}

#[test]
fn beyond_the_reads_in_flight_none_is_taken() {
    let venue = Venue::with(4, |limits| limits.reads_in_flight_max = 2);
    let overloaded = Error::Overloaded { limit: "reads_in_flight_max", max: 2 };
    for _ in 0..100 {
        venue.clock.hold("commit-log");
        let mut context = Context::from_waker(Waker::noop());
        let mut one = pin!(venue.engine().balances(account(0)));
        let mut two = pin!(venue.engine().audit());
        let mut three = pin!(venue.engine().balances(account(1)));
        assert!(one.as_mut().poll(&mut context).is_pending());
        assert!(two.as_mut().poll(&mut context).is_pending());
        assert_eq!(three.as_mut().poll(&mut context), Poll::Ready(Err(overloaded.clone())));
        assert_eq!(venue.engine().known(fresh_id()), Err(overloaded.clone()));
        venue.clock.release();
        assert_eq!(block_on(one).expect("it runs").seq, venue.seq());
        assert!(block_on(two).expect("it runs").is_conserved());
    }
    // Those who no longer wait count no longer.
    for _ in 0..10 {
        venue.clock.hold("commit-log");
        let mut dropped = Box::pin(venue.engine().balances(account(0)));
        let polled = dropped.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        drop(dropped);
        venue.clock.release();
    }
    assert_eq!(venue.balance(0, ETH), 0);
    venue.end();
}

#[test]
fn nothing_is_shown_before_it_is_on_disk() {
    let venue = Venue::open(2);
    show_nothing_early(&venue);
    venue.end();
}

fn show_nothing_early(venue: &Venue) {
    venue.settle(deposit(0, ETH, 10));
    let before = venue.seq();
    venue.clock.hold("commit-log");
    let request = fresh([withdraw(0, ETH, 3)]).remove(0);
    let refused = fresh([withdraw(0, ETH, 30)]).remove(0);
    let mut answer = pin!(venue.submit(vec![request.clone()]).answers());
    let mut no = pin!(venue.submit(vec![refused]).answers());
    let mut read = pin!(venue.engine().balances(account(0)));
    let mut audit = pin!(venue.engine().audit());
    // Decided by now, as these come to the coordinator after it.
    assert_eq!(venue.engine().known(request.id), Ok(Known::Pending));
    let mut context = Context::from_waker(Waker::noop());
    assert!(answer.as_mut().poll(&mut context).is_pending());
    assert!(no.as_mut().poll(&mut context).is_pending());
    assert!(read.as_mut().poll(&mut context).is_pending());
    assert!(audit.as_mut().poll(&mut context).is_pending());
    assert_eq!(venue.seq(), before);
    let then = venue.engine().balances_at(account(0), before).expect("an account");
    assert_eq!(then.balances[0].balance.available.get(), 10);
    let future = venue.engine().balances_at(account(0), before.next());
    assert!(matches!(future, Err(Error::Read(Reject::Malformed(_)))), "{future:?}");
    venue.clock.release();
    assert!(matches!(block_on(answer).expect("it runs").outcome(0), Outcome::Settled(_)));
    assert!(matches!(block_on(no).expect("it runs").outcome(0), Outcome::Rejected(_)));
    block_on(read).expect("it runs");
    assert!(block_on(audit).expect("it runs").is_conserved());
    assert_eq!(venue.seq(), before.next());
}

#[test]
fn a_submission_holds_from_none_to_8192_requests() {
    let venue = Venue::open(1);
    assert!(venue.send(vec![]).is_empty());
    let too_many = fresh((0..=BATCH_REQUESTS_MAX).map(|_| deposit(0, ETH, 1)));
    let refused = venue.engine().submit(too_many.clone()).err();
    assert!(matches!(refused, Some(Error::Read(Reject::Malformed(_)))), "{refused:?}");
    assert_eq!(venue.balance(0, ETH), 0);
    let all = venue.send(too_many[1..].to_vec());
    assert_eq!(all.into_iter().map(receipt).count(), BATCH_REQUESTS_MAX);
    assert_eq!(venue.balance(0, ETH), BATCH_REQUESTS_MAX as u128);
    venue.end();
}

#[test]
fn what_comes_to_its_turn_after_its_deadline_is_refused_for_ever() {
    let mut venue = Venue::open(1);
    let at = |millis: u64| {
        let mut request = Request::new(fresh_id(), deposit(0, ETH, 1));
        request.deadline = Time::new(millis * 1_000);
        request
    };
    let now = venue.clock.now_millis();
    let past = [at(0), at(now - 1_000)];
    for request in &past {
        assert_eq!(refusal(venue.ask(request)), Reject::Expired);
    }
    let in_time = at(now + 60_000);
    let first = venue.ask(&in_time);
    receipt(first.clone());
    let late = at(now + 60_000);
    venue.clock.pass(61_000);
    let expired = venue.ask(&late);
    assert_eq!(refusal(expired.clone()), Reject::Expired);
    for _ in 0..2 {
        assert_eq!(venue.ask(&in_time), first, "what had its turn in time stays so");
        assert_eq!(venue.ask(&late), expired);
        assert_eq!(refusal(venue.ask(&past[0])), Reject::Expired);
        assert_eq!(venue.balance(0, ETH), 1);
        venue.restart(|_| {});
    }
    venue.end();
}

#[test]
fn a_limit_out_of_its_range_is_refused_before_anything_is_made() {
    let data = scratch();
    let mut options = Options::new(data.path().join("data"));
    options.limits.shards = 65;
    let Err(Error::Config(malformed)) = Engine::start(options.clone()) else { panic!("started") };
    assert_eq!(malformed.field, "shards");
    assert!(!options.data.exists());
}
