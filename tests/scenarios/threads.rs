//! Many at once: opposite swaps over the same accounts, and readers beside writers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::error::Reject;
use crosslatch::message::AccountBalances;
use crosslatch::request::{Outcome, Refusal, Request};
use crosslatch::types::CommitSeq;

use crate::support::{ETH, SOL, account, deposit, fresh, in_time, leg, seed, swap};
use crate::venue::{Venue, amount, outcomes, pair};

const SHARDS: usize = 4;
const CALLERS: u64 = 8;
const SUBMISSIONS: u64 = 60;

/// Swaps among a few accounts in both directions; returns every refusal, with what was asked.
fn swap_both_ways(
    venue: &Venue,
    accounts: u64,
    amount_max: u128,
    seed: u64,
) -> Vec<(Request, Refusal)> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut refused = Vec::new();
    for _ in 0..SUBMISSIONS {
        let requests = fresh((0..rng.random_range(1..40)).map(|_| {
            let a = rng.random_range(0..accounts);
            let b = (a + rng.random_range(1..accounts)) % accounts;
            let (eth, sol) = (rng.random_range(1..=amount_max), rng.random_range(1..=amount_max));
            swap([leg(a, b, ETH, eth), leg(b, a, SOL, sol)])
        }));
        // Two submissions at a time, the second of which meets the first.
        let (one, two) = requests.split_at(requests.len() / 2);
        let pending = [one, two].map(|some| venue.submit(some.to_vec()));
        let answers = pending.into_iter().flat_map(outcomes);
        for (request, outcome) in requests.iter().zip(answers) {
            if let Outcome::Rejected(refusal) = outcome {
                refused.push((request.clone(), refusal));
            }
        }
    }
    refused
}

fn all_at_once(accounts: u64, funds: u128, amount_max: u128) -> (Venue, Vec<(Request, Refusal)>) {
    let seed = seed(5);
    in_time(move || {
        let venue = Venue::with(accounts, |limits| limits.shards = SHARDS);
        venue.settle_all(
            (0..accounts).flat_map(|n| [deposit(n, ETH, funds), deposit(n, SOL, funds)]),
        );
        let refused = std::thread::scope(|scope| {
            let venue = &venue;
            let call = |caller| {
                scope.spawn(move || swap_both_ways(venue, accounts, amount_max, seed + caller))
            };
            let callers: Vec<_> = (0..CALLERS).map(call).collect();
            callers.into_iter().flat_map(|caller| caller.join().expect("it runs")).collect()
        });
        (venue, refused)
    })
}

#[test]
fn opposite_swaps_never_deadlock_and_none_is_refused_when_all_can_pay() {
    // Nobody could run out if all swaps took from the same account.
    let funds = u128::from(CALLERS * SUBMISSIONS * 40) * 9;
    let (venue, refused) = all_at_once(5, funds, 9);
    assert_eq!(refused, []);
    assert!(venue.seq() > CommitSeq::new(CALLERS * SUBMISSIONS));
    venue.end();
}

#[test]
fn whoever_is_refused_was_short_at_that_time() {
    let (venue, refused) = all_at_once(5, 30, 20);
    assert!(refused.len() > 100, "only {} were refused: this tests nothing", refused.len());
    for (request, refusal) in refused {
        let Reject::InsufficientFunds { account, asset, short_by, seq } = refusal.reject else {
            panic!("refused for something else: {refusal:?}");
        };
        assert_eq!(seq, refusal.seq);
        let crosslatch::request::Command::Swap(swap) = &request.command else { unreachable!() };
        let pays = swap.legs().iter().find(|leg| leg.from == account && leg.asset == asset);
        let then = amount(&venue.engine().balances_at(account, seq).expect("an account"), asset);
        assert_eq!(pays.map(|leg| leg.amount.get()), Some(then + short_by.get()), "{request:?}");
    }
    venue.end();
}

/// What Alice and Bob have together, and what of it Alice has, in ETH and SOL.
fn check_pair(alice: &AccountBalances, bob: &AccountBalances) {
    let both = |asset| amount(alice, asset) + amount(bob, asset);
    assert_eq!((both(ETH), both(SOL)), (10_000, 20_000), "{alice:?} {bob:?}");
}

/// Alice pays one ETH for two SOL, always: so whoever sees both legs or none sees this.
fn check_alice(alice: &AccountBalances) {
    assert_eq!(amount(alice, ETH) * 2 + amount(alice, SOL), 20_000, "{alice:?}");
}

/// Reads for as long as it is told to; says how often, and how many states it saw.
fn keep_reading(venue: &Venue, alice: u64, bob: u64, done: &AtomicBool, seed: u64) -> usize {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut last, mut states) = (CommitSeq::default(), 0);
    while !done.load(Ordering::SeqCst) {
        let now = venue.engine().balances_blocking(account(alice)).expect("an account");
        check_alice(&now);
        assert!(now.seq >= last, "time goes back for a reader");
        assert!(now.seq <= venue.seq(), "it saw what is not on disk");
        states += usize::from(now.seq > last);
        last = now.seq;
        let at =
            [now.seq, CommitSeq::new(rng.random_range(0..=now.seq.get()))][rng.random_range(0..2)];
        let [a, b] = [alice, bob].map(|number| venue.engine().balances_at(account(number), at));
        let (a, b) = (a.expect("an account"), b.expect("an account"));
        if amount(&b, SOL) > 0 {
            check_pair(&a, &b);
            check_alice(&a);
        }
        if at == now.seq {
            assert_eq!(a, now, "as of now is now");
        }
    }
    states
}

#[test]
fn no_reader_ever_sees_one_leg_without_the_other() {
    let states = in_time(|| {
        let venue = Venue::with(100, |limits| limits.shards = SHARDS);
        let (alice, bob) = pair(SHARDS, false);
        venue.settle_all([deposit(alice, ETH, 10_000), deposit(bob, SOL, 20_000)]);
        let done = AtomicBool::new(false);
        let states = std::thread::scope(|scope| {
            let (venue, done) = (&venue, &done);
            let read = |n| scope.spawn(move || keep_reading(venue, alice, bob, done, n));
            let readers: Vec<_> = (0..8).map(read).collect();
            let write = || {
                // Ten there, ten back, so that it never runs out.
                for _ in 0..100 {
                    let there = |n| swap([leg(alice, bob, ETH, n), leg(bob, alice, SOL, 2 * n)]);
                    let back = |n| swap([leg(bob, alice, ETH, n), leg(alice, bob, SOL, 2 * n)]);
                    venue.settle_all((1..=10).map(there).chain((1..=10).map(back)));
                }
            };
            let writers = [scope.spawn(write), scope.spawn(write)];
            let written = writers.map(ScopedJoinHandle::join);
            done.store(true, Ordering::SeqCst);
            let read: Vec<_> = readers.into_iter().map(ScopedJoinHandle::join).collect();
            written.into_iter().for_each(|written| written.expect("it runs"));
            read.into_iter().map(|states| states.expect("it runs")).sum::<usize>()
        });
        venue.end();
        states
    });
    assert!(states > 100, "the readers saw {states} states: this tests nothing");
}
