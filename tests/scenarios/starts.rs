//! Stopping and starting: nothing moves.

use crosslatch::engine::{Engine, Options};
use crosslatch::error::Error;
use crosslatch::store::Position;
use crosslatch::store::mark::Mark;
use crosslatch::types::CommitSeq;

use crate::support::{
    ETH, SOL, USDC, account, deposit, fresh, in_time, leg, opening, put_account, scratch, swap,
};
use crate::venue::{Venue, outcomes, receipt};

const ACCOUNTS: u64 = 50;

/// Everybody has a thousand of everything.
fn fund(venue: &Venue) {
    let assets = [ETH, SOL, USDC];
    venue.settle_all((0..ACCOUNTS).flat_map(|n| assets.map(|asset| deposit(n, asset, 1_000))));
}

/// Everybody swaps with a neighbour.
fn trade(venue: &Venue, price: u128) {
    venue.settle_all((0..ACCOUNTS).map(|n| {
        let other = (n + 1) % ACCOUNTS;
        swap([leg(n, other, ETH, 1 + u128::from(n)), leg(other, n, USDC, price)])
    }));
}

#[test]
fn another_number_of_shards_keeps_every_balance_and_its_past() {
    let mut venue = Venue::with(ACCOUNTS, |limits| limits.shards = 2);
    fund(&venue);
    let mut past = vec![(venue.seq(), venue.balances_at(venue.seq()))];
    for shards in [1, 5, 64, 2, 3] {
        trade(&venue, shards as u128);
        past.push((venue.seq(), venue.balances_at(venue.seq())));
        venue.restart(|limits| limits.shards = shards);
        for (seq, balances) in &past {
            assert_eq!(venue.balances_at(*seq), *balances, "as of {seq}");
        }
    }
    venue.end();
}

/// After a loss of power the mark may be an old one, and prove less. Once the journal was read to its
/// end, it says so: what is lost from then on is noticed, also if nothing was committed since.
#[test]
fn a_start_brings_the_mark_up_to_the_end_of_the_journal() {
    let data = scratch();
    let start = || Engine::start(Options::new(data.path())).expect("it starts");
    let engine = start();
    engine.submit(fresh(opening(3))).expect("room").wait().expect("it runs");
    engine.stop().expect("it stops");
    drop(engine);
    let (mut mark, last) = Mark::open(data.path(), false).expect("it is there");
    let early = Position::default();
    assert_ne!(last, early);
    // Both slots.
    mark.write(early).expect("written");
    mark.write(early).expect("written");
    drop(mark);
    assert_eq!(Mark::open(data.path(), true).expect("it is there").1, early);
    drop(start());
    assert_eq!(Mark::open(data.path(), true).expect("it is there").1, last);
}

#[test]
fn starting_again_without_a_request_changes_nothing() {
    let mut venue = Venue::open(0);
    let nothing = venue.seq();
    for _ in 0..3 {
        venue.restart(|_| {});
    }
    // An account without a balance is one, and has none.
    venue.settle(put_account(7));
    venue.restart(|_| {});
    venue.restart(|_| {});
    assert_eq!(venue.seq(), nothing.next());
    assert_eq!(venue.balance(7, ETH), 0);
    venue.end();
}

#[test]
fn a_directory_that_never_saw_a_request_starts_again() {
    let data = scratch();
    let options = Options::new(data.path().join("data"));
    for _ in 0..3 {
        let engine = Engine::start(options.clone()).expect("it starts");
        assert_eq!(engine.status().durable_seq, CommitSeq::default());
        engine.stop().expect("it stops");
    }
}

#[test]
fn a_directory_has_one_engine_at_a_time() {
    let mut venue = Venue::open(2);
    venue.settle(deposit(0, ETH, 5));
    for _ in 0..2 {
        let Err(Error::Storage(why)) = Engine::start(venue.options.clone()) else {
            panic!("two engines on one directory");
        };
        assert!(why.contains("in use"), "{why}");
        // The first one does not mind.
        venue.settle(swap([leg(0, 1, ETH, 1), leg(0, 1, ETH, 1)]));
    }
    venue.restart(|_| {});
    venue.end();
}

#[test]
fn a_stop_answers_what_is_in_flight_and_then_nobody() {
    in_time(|| {
        let mut venue = Venue::with(ACCOUNTS, |limits| limits.shards = 3);
        fund(&venue);
        let requests = fresh((0..2_000).map(|n| {
            let (a, b) = (n % ACCOUNTS, (n * 7 + 1) % ACCOUNTS);
            let b = if a == b { (b + 1) % ACCOUNTS } else { b };
            swap([leg(a, b, SOL, 1), leg(b, a, SOL, 2)])
        }));
        let pending: Vec<_> =
            requests.chunks(100).map(|some| venue.submit(some.to_vec())).collect();
        venue.engine().stop().expect("it stops");
        let answered: usize =
            pending.into_iter().flat_map(outcomes).map(|outcome| receipt(outcome).legs.len()).sum();
        assert_eq!(answered, 4_000);
        let stopped = |error: Option<Error>| matches!(error, Some(Error::Stopped { .. }));
        assert!(stopped(venue.engine().submit(requests[..1].to_vec()).err()));
        assert!(stopped(venue.engine().balances_blocking(account(0)).err()));
        assert!(stopped(venue.engine().known(requests[0].id).err()));
        venue.engine().stop().expect("twice is once");
        venue.recover();
        venue.end();
    });
}

#[test]
fn dropping_the_last_handle_stops_it_and_frees_the_directory() {
    let data = scratch();
    let options = Options::new(data.path().join("data"));
    let engine = Engine::start(options.clone()).expect("it starts");
    let answers = engine.submit(fresh(opening(3))).expect("there is room").wait();
    let settled = answers.expect("it runs").len() as u64;
    let other = engine.clone();
    drop(engine);
    assert_eq!(other.status().durable_seq, CommitSeq::new(settled));
    assert!(Engine::start(options.clone()).is_err(), "a handle is left");
    drop(other);
    let engine = Engine::start(options).expect("nobody has it");
    assert_eq!(engine.status().durable_seq, CommitSeq::new(settled));
    engine.stop().expect("it stops");
}
