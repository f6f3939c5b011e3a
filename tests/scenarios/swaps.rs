//! Both legs latch, or neither moves.

use crosslatch::config::SUPPLY_MAX;
use crosslatch::error::{Malformed, Reject};
use crosslatch::request::{Action, Change, Command, Outcome, Swap};
use crosslatch::types::{Amount, AssetId, Leg};

use crate::support::{ETH, SOL, account, deposit, fresh, leg, resolve, swap, transfer, withdraw};
use crate::venue::{Venue, amount, pair, refusal};

const SHARDS: usize = 4;

fn short(number: u64, asset: AssetId, short_by: u128, venue: &Venue) -> Reject {
    let (account, short_by) = (account(number), Amount::new(short_by));
    Reject::InsufficientFunds { account, asset, short_by, seq: venue.seq() }
}

/// Alice's ETH for Bob's SOL.
fn exchange(alice: u64, bob: u64, eth: u128, sol: u128) -> Command {
    swap([leg(alice, bob, ETH, eth), leg(bob, alice, SOL, sol)])
}

#[test]
fn alice_is_short_and_nothing_changes() {
    for together in [true, false] {
        let venue = Venue::with(100, |limits| limits.shards = SHARDS);
        let (alice, bob) = pair(SHARDS, together);
        venue.settle_all([deposit(alice, ETH, 99), deposit(bob, SOL, 5)]);
        let before = (venue.seq(), venue.balances());
        assert_eq!(venue.refuse(exchange(alice, bob, 100, 5)), short(alice, ETH, 1, &venue));
        assert_eq!((venue.seq(), venue.balances()), before);
        // What the refused swap would have moved is free: Bob's five SOL, Alice's 99 ETH.
        venue.settle(exchange(alice, bob, 99, 5));
        assert_eq!([venue.balance(alice, SOL), venue.balance(bob, ETH)], [5, 99]);
        venue.end();
    }
}

#[test]
fn bob_is_short_after_alices_leg_was_granted_and_nothing_changes() {
    for together in [true, false] {
        let venue = Venue::with(100, |limits| limits.shards = SHARDS);
        let (alice, bob) = pair(SHARDS, together);
        venue.settle_all([deposit(alice, ETH, 100), deposit(bob, SOL, 4)]);
        let before = (venue.seq(), venue.balances());
        assert_eq!(venue.refuse(exchange(alice, bob, 100, 5)), short(bob, SOL, 1, &venue));
        assert_eq!((venue.seq(), venue.balances()), before);
        // In one submission: what waits for Alice's grant gets it when Bob's no gives it back.
        let requests = fresh([exchange(alice, bob, 100, 5), withdraw(alice, ETH, 100)]);
        let outcomes = venue.send(requests);
        assert!(matches!(outcomes[0], Outcome::Rejected(_)), "{:?}", outcomes[0]);
        assert!(matches!(outcomes[1], Outcome::Settled(_)), "{:?}", outcomes[1]);
        venue.end();
    }
}

#[test]
fn what_comes_in_can_go_on_in_the_same_submission() {
    let accounts = 300;
    let venue = Venue::with(accounts, |limits| limits.shards = SHARDS);
    venue.settle_all([deposit(0, ETH, 10), deposit(accounts - 1, SOL, 10)]);
    // Ten ETH pass through everybody's hands, each of whom has nothing; SOL goes the other way.
    let pass_on = |number| withdraw_and_pass(number, number + 1);
    let receipts = venue.settle_all((0..accounts - 1).map(pass_on));
    assert!(receipts.is_sorted_by_key(|receipt| receipt.commit_seq));
    assert_eq!(venue.balance(accounts - 1, ETH), 10);
    // Now nobody but the last has any, so each depends on the one before, who is refused.
    let outcomes = venue.send(fresh((0..accounts - 2).map(pass_on)));
    for (number, outcome) in (0..).zip(outcomes) {
        let Reject::InsufficientFunds { account: who, .. } = refusal(outcome) else { panic!() };
        assert_eq!(who, account(number));
    }
    venue.end();
}

/// Ten ETH go on in two legs.
fn withdraw_and_pass(from: u64, to: u64) -> Command {
    swap([leg(from, to, ETH, 4), leg(from, to, ETH, 6)])
}

#[test]
fn legs_that_share_a_balance_are_netted_and_show_it_before_and_after_the_whole_swap() {
    let venue = Venue::open(5);
    venue.settle_all([deposit(0, ETH, 10), deposit(3, ETH, 1)]);
    // A ring: 0 pays 10 and gets 9 back; 1 and 2 have nothing and need nothing.
    let ring = [leg(0, 1, ETH, 10), leg(1, 2, ETH, 10), leg(2, 0, ETH, 9), leg(3, 4, ETH, 1)];
    let legs = venue.settle(swap(ring)).legs;
    let change = |before, after| Change { before: Amount::new(before), after: Amount::new(after) };
    assert_eq!([legs[0].from, legs[0].to], [change(10, 9), change(0, 0)]);
    assert_eq!([legs[1].from, legs[1].to], [change(0, 0), change(0, 1)]);
    assert_eq!([legs[2].from, legs[2].to], [change(0, 1), change(10, 9)]);
    assert_eq!([legs[3].from, legs[3].to], [change(1, 0), change(0, 1)]);
    assert_eq!([0, 1, 2, 3, 4].map(|number| venue.balance(number, ETH)), [9, 0, 1, 0, 1]);
    // Netted, it is one short; leg by leg it would have had enough in between.
    let back = [leg(1, 2, ETH, 9), leg(2, 1, ETH, 8)];
    assert_eq!(venue.refuse(swap(back)), short(1, ETH, 1, &venue));
    venue.end();
}

fn field_of(legs: Vec<Leg>) -> String {
    Swap::new(legs).expect_err("malformed").field
}

#[test]
fn what_is_malformed_changes_nothing_and_says_which_field() {
    let venue = Venue::open(20);
    venue.settle_all((0..20).map(|number| deposit(number, ETH, 100)));
    assert_eq!(field_of(vec![]), "legs");
    assert_eq!(field_of(vec![leg(0, 1, ETH, 1)]), "legs");
    assert_eq!(field_of((0..17).map(|n| leg(n, n + 1, ETH, 1)).collect()), "legs");
    assert_eq!(field_of(vec![leg(0, 1, ETH, 1), leg(1, 0, SOL, 0)]), "legs[1].amount");
    assert_eq!(field_of(vec![leg(0, 1, ETH, 1), leg(1, 1, SOL, 1)]), "legs[1].to");
    let before = (venue.seq(), venue.balances());
    let long = Command::Deposit(crosslatch::request::Transfer {
        reference: "x".repeat(129).into(),
        ..transfer(0, ETH, 1)
    });
    for (command, field) in [
        (swap([leg(0, 1, ETH, 7), leg(1, 0, ETH, 7)]), "legs"),
        (swap([leg(0, 1, ETH, 7), leg(1, 2, ETH, 7), leg(2, 0, ETH, 7)]), "legs"),
        (swap([leg(0, 1, ETH, u128::MAX), leg(0, 2, ETH, 1)]), "legs[1].amount"),
        (swap([leg(1, 0, ETH, 1), leg(2, 0, ETH, u128::MAX)]), "legs[1].amount"),
        (deposit(0, ETH, 0), "amount"),
        (withdraw(0, ETH, 0), "amount"),
        (long, "reference"),
    ] {
        match venue.refuse(command.clone()) {
            Reject::Malformed(Malformed { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{command:?}: {other:?}"),
        }
    }
    // Sixteen legs are not too many.
    venue.settle(swap((0..16).map(|number| leg(number, number + 1, ETH, 1))));
    let moved = |number| venue.balance(number, ETH);
    assert_eq!([moved(0), moved(1), moved(16)], [99, 100, 101]);
    assert_eq!(venue.seq(), before.0.next());
    venue.end();
}

#[test]
fn amounts_reach_up_to_128_bits_and_the_supply_to_half_of_that() {
    let venue = Venue::with(100, |limits| limits.shards = SHARDS);
    let (alice, bob) = pair(SHARDS, false);
    let (max, exceeded) = (u128::MAX, Reject::SupplyExceeded(ETH));
    assert_eq!(venue.refuse(deposit(alice, ETH, max)), exceeded);
    assert_eq!(venue.refuse(deposit(alice, ETH, SUPPLY_MAX + 1)), exceeded);
    venue.settle_all([deposit(alice, ETH, SUPPLY_MAX - 7), deposit(bob, ETH, 7)]);
    assert_eq!(venue.refuse(deposit(bob, ETH, 1)), exceeded);
    assert_eq!(venue.refuse(withdraw(alice, ETH, max)), short(alice, ETH, max / 2 + 8, &venue));
    // Bob gets more than fits, from somebody who does not have it.
    let huge = swap([leg(alice, bob, ETH, max), leg(bob, alice, SOL, 1)]);
    assert!(matches!(venue.refuse(huge), Reject::InsufficientFunds { .. }));
    // Huge legs that nearly cancel are as good as what they come to.
    venue.settle(swap([leg(alice, bob, ETH, max), leg(bob, alice, ETH, max - 3)]));
    assert_eq!([venue.balance(alice, ETH), venue.balance(bob, ETH)], [SUPPLY_MAX - 10, 10]);
    // All of the supply moves at once, there and back in one submission.
    venue.settle_all([
        swap([leg(bob, alice, ETH, 10), leg(alice, bob, ETH, SUPPLY_MAX)]),
        swap([leg(bob, alice, ETH, SUPPLY_MAX - 1), leg(alice, 1, ETH, 1)]),
    ]);
    // What is about to leave is still there; room is made when it has left.
    let leaving = venue.hold(withdraw(bob, ETH, 1));
    assert_eq!(venue.refuse(deposit(bob, ETH, 1)), exceeded);
    venue.settle(resolve(leaving, Action::Confirm));
    venue.settle(deposit(bob, ETH, 1));
    assert_eq!(venue.refuse(deposit(bob, ETH, 1)), exceeded);
    venue.end();
}

#[test]
fn a_refusal_names_a_state_in_which_it_was_so() {
    let venue = Venue::with(2, |limits| limits.shards = SHARDS);
    venue.settle_all([deposit(0, ETH, 50), deposit(1, SOL, 1_000)]);
    // One submission of 100 swaps over an account that can pay 50 of them.
    let outcomes = venue.send(fresh((0..100).map(|_| exchange(0, 1, 1, 1))));
    let mut refused = 0;
    for outcome in &outcomes {
        let Outcome::Rejected(refusal) = outcome else { continue };
        refused += 1;
        let then = venue.engine().balances_at(account(0), refusal.seq).expect("an account");
        assert_eq!(amount(&then, ETH), 0, "{refusal:?}");
        assert_eq!(refusal.reject, short(0, ETH, 1, &venue));
    }
    assert_eq!(refused, 50);
    venue.end();
}
