//! Withdrawals: set aside until the chain took it, or did not.

use crosslatch::engine::HoldState;
use crosslatch::error::Reject;
use crosslatch::request::{Action, Change, Command, Purpose, Transfer};
use crosslatch::types::{Amount, AssetId, Resolution, Time};

use crate::support::{ETH, audit, deposit, fresh, leg, resolve, swap, transfer, withdraw};
use crate::venue::{Venue, refusal};

const YEAR_MS: u64 = 366 * 24 * 3_600_000;

fn supply(venue: &Venue, asset: AssetId) -> u128 {
    audit(venue.engine()).assets[asset.get() as usize].supply.get()
}

fn change(before: u128, after: u128) -> Option<Change> {
    Some(Change { before: Amount::new(before), after: Amount::new(after) })
}

#[test]
fn it_is_gone_when_the_chain_took_it_and_not_before() {
    let mut venue = Venue::with(4, |limits| limits.shards = 3);
    venue.settle(deposit(0, ETH, 100));
    let out = Transfer { reference: "0xfeed".into(), ..transfer(0, ETH, 30) };
    let withdrawn = venue.settle(Command::Withdraw(out.clone()));
    let hold = withdrawn.hold.expect("a hold");
    assert_eq!((withdrawn.change, hold.expires_at), (change(100, 100), Time::NEVER));
    for _ in 0..2 {
        assert_eq!((venue.parts(0, ETH), supply(&venue, ETH)), ((70, 30), 100));
        let HoldState::Open(open) = venue.state(hold.token) else { panic!("it is open") };
        assert_eq!(open.purpose, Purpose::Withdrawal(out.clone()));
        assert_eq!((open.expires_at, open.since), (Time::NEVER, withdrawn.commit_seq));
        assert!(matches!(
            venue.refuse(swap([leg(0, 1, ETH, 70), leg(0, 1, ETH, 1)])),
            Reject::InsufficientFunds { .. }
        ));
        // It does not end by itself.
        venue.clock.pass(YEAR_MS);
        venue.settle(deposit(1, ETH, 1));
        venue.settle(resolve(venue.hold(withdraw(1, ETH, 1)), Action::Confirm));
        venue.restart(|_| {});
    }
    let confirmed = venue.settle(resolve(hold.token, Action::Confirm));
    assert_eq!((confirmed.change, confirmed.hold), (change(100, 70), withdrawn.hold));
    assert_eq!((venue.parts(0, ETH), supply(&venue, ETH)), ((70, 0), 70));
    assert_eq!(venue.settle(resolve(hold.token, Action::Confirm)), confirmed, "again");
    let (token, how, seq) = (hold.token, Resolution::Committed, confirmed.commit_seq);
    let late = venue.refuse(resolve(token, Action::Cancel));
    assert_eq!(late, Reject::AlreadyResolved { token, how, seq });
    venue.restart(|_| {});
    assert_eq!(venue.settle(resolve(hold.token, Action::Confirm)), confirmed, "again");
    assert_eq!((venue.parts(0, ETH), supply(&venue, ETH)), ((70, 0), 70));
    venue.end();
}

#[test]
fn cancelled_it_is_back_and_was_never_gone() {
    let mut venue = Venue::with(2, |limits| limits.shards = 2);
    venue.settle(deposit(0, ETH, 100));
    let token = venue.hold(withdraw(0, ETH, 100));
    assert!(matches!(venue.refuse(withdraw(0, ETH, 1)), Reject::InsufficientFunds { .. }));
    let cancelled = venue.settle(resolve(token, Action::Cancel));
    assert_eq!(cancelled.change, change(100, 100));
    for _ in 0..2 {
        assert_eq!((venue.parts(0, ETH), supply(&venue, ETH)), ((100, 0), 100));
        assert_eq!(venue.settle(resolve(token, Action::Cancel)), cancelled);
        let (how, seq) = (Resolution::RolledBack, cancelled.commit_seq);
        let late = venue.refuse(resolve(token, Action::Confirm));
        assert_eq!(late, Reject::AlreadyResolved { token, how, seq });
        venue.restart(|_| {});
    }
    venue.end();
}

#[test]
fn of_confirm_and_cancel_together_the_first_wins() {
    let venue = Venue::with(2, |limits| limits.shards = 2);
    venue.settle(deposit(0, ETH, 100));
    for (n, actions) in (0..20)
        .zip([[Action::Confirm, Action::Cancel], [Action::Cancel, Action::Confirm]].iter().cycle())
    {
        let before = supply(&venue, ETH);
        let token = venue.hold(withdraw(0, ETH, 1));
        let outcomes = venue.send(fresh(actions.map(|action| resolve(token, action))));
        let gone = u128::from(actions[0] == Action::Confirm);
        assert_eq!(supply(&venue, ETH), before - gone, "{n}");
        let lost = refusal(outcomes[1].clone());
        assert!(matches!(lost, Reject::AlreadyResolved { .. }), "{lost:?}");
    }
    assert_eq!(venue.parts(0, ETH), (90, 0));
    venue.end();
}
