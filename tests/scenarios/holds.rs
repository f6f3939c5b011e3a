//! Swaps in two phases: what is set aside moves, or goes back, whole and once.

use crosslatch::engine::{HoldState, Known};
use crosslatch::error::{Malformed, Reject};
use crosslatch::request::{Action, Change, Command, Outcome, Purpose, Request, Resolve};
use crosslatch::types::{Amount, Resolution, Time, Token};

use crate::support::{
    ETH, ETHEREUM, SOL, SOLANA, USDC, account, deposit, fresh, fresh_id, leg, link, prepare,
    put_account, resolve, swap, withdraw,
};
use crate::venue::{Venue, outcomes, receipt, refusal};

/// Alice has 100 ETH, Bob 100 SOL.
fn alice_and_bob(shards: usize) -> Venue {
    let venue = Venue::with(4, |limits| limits.shards = shards);
    venue.settle_all([deposit(0, ETH, 100), deposit(1, SOL, 100)]);
    venue
}

/// Ten ETH of Alice's for thirty SOL of Bob's.
fn offer(expires_in_ms: u64, exclusive: bool) -> Command {
    prepare([leg(0, 1, ETH, 10), leg(1, 0, SOL, 30)], expires_in_ms, exclusive)
}

/// Available and held: of Alice in ETH and SOL, of Bob in ETH and SOL.
fn parts(venue: &Venue) -> [(u128, u128); 4] {
    [(0, ETH), (0, SOL), (1, ETH), (1, SOL)].map(|(number, asset)| venue.parts(number, asset))
}

const BEFORE: [(u128, u128); 4] = [(100, 0), (0, 0), (0, 0), (100, 0)];
const HELD: [(u128, u128); 4] = [(90, 10), (0, 0), (0, 0), (70, 30)];
const MOVED: [(u128, u128); 4] = [(90, 0), (30, 0), (10, 0), (70, 0)];

/// Ends a hold in that way, by a request or by the time; returns the answer, if somebody asked.
fn end(venue: &Venue, token: Token, how: Resolution) -> Option<(Request, Outcome)> {
    let action = match how {
        Resolution::Committed => Action::Commit,
        Resolution::RolledBack => Action::Rollback,
        Resolution::Expired => {
            venue.clock.pass(60_001);
            venue.until(|| venue.how(token).is_some());
            return None;
        }
    };
    let request = fresh([resolve(token, action)]).remove(0);
    let outcome = venue.ask(&request);
    Some((request, outcome))
}

/// What is asked of a hold that is resolved is answered as it was resolved, whoever asks.
fn check_resolved(venue: &Venue, token: Token, how: Resolution, first: Option<&Outcome>) {
    let HoldState::Resolved(found, proof) = venue.state(token) else { panic!("not resolved") };
    assert_eq!(found, how);
    for action in [Action::Commit, Action::Rollback] {
        let outcome = venue.send(fresh([resolve(token, action)])).remove(0);
        if action.resolution() == how {
            assert_eq!(Some(&outcome), first, "it is answered as the first one");
            assert_eq!(receipt(outcome), *proof);
        } else {
            let seq = proof.commit_seq;
            assert_eq!(refusal(outcome), Reject::AlreadyResolved { token, how, seq });
        }
    }
    assert_eq!(parts(venue), if how == Resolution::Committed { MOVED } else { BEFORE });
}

#[test]
fn a_hold_has_one_end_before_and_after_a_restart() {
    for how in Resolution::ALL {
        for (exclusive, shards) in [(false, 1), (true, 4)] {
            for restarts in [false, true] {
                let mut venue = alice_and_bob(shards);
                let request = fresh([offer(60_000, exclusive)]).remove(0);
                let prepared = receipt(venue.ask(&request));
                let hold = prepared.hold.expect("it makes a hold");
                let token = hold.token;
                assert_eq!(token, Token::of(request.id));
                assert_eq!(parts(&venue), HELD);
                if restarts {
                    venue.restart(|limits| limits.shards = 3);
                    assert_eq!(parts(&venue), HELD);
                }
                let HoldState::Open(open) = venue.state(token) else { panic!("it is open") };
                assert_eq!((open.exclusive, open.expires_at), (exclusive, hold.expires_at));
                assert_eq!(open.since, prepared.commit_seq);
                let asked = end(&venue, token, how);
                let first = asked.as_ref().map(|(_, outcome)| outcome);
                check_resolved(&venue, token, how, first);
                if restarts {
                    venue.restart(|_| {});
                    check_resolved(&venue, token, how, first);
                }
                // The requests have their own answers, however it ended.
                assert_eq!(venue.ask(&request), Outcome::Settled(prepared));
                if let Some((request, outcome)) = &asked {
                    assert_eq!(venue.ask(request), *outcome);
                }
                // Nothing is held or locked.
                venue.settle(swap([leg(0, 2, ETH, 1), leg(0, 2, ETH, 1)]));
                venue.end();
            }
        }
    }
}

#[test]
fn when_its_time_is_over_a_hold_ends_and_nobody_has_to_ask() {
    let mut venue = alice_and_bob(2);
    let request = fresh([offer(5_000, false)]).remove(0);
    let prepared = receipt(venue.ask(&request));
    let (token, expires_at) = (Token::of(request.id), prepared.hold.expect("a hold").expires_at);
    venue.clock.pass(4_000);
    venue.settle(deposit(2, ETH, 1));
    assert_eq!((parts(&venue), venue.how(token)), (HELD, None));
    let before = venue.seq();
    venue.clock.pass(1_010);
    venue.until(|| venue.seq() > before);
    assert_eq!(parts(&venue), BEFORE);
    let HoldState::Resolved(Resolution::Expired, proof) = venue.state(token) else {
        panic!("{:?}", venue.state(token));
    };
    assert_eq!(proof.command, Command::Resolve(Resolve { token, action: Action::Expire }));
    assert_eq!((proof.request_id, proof.commit_seq), (request.id, before.next()));
    assert_eq!(proof.hold, prepared.hold);
    assert!(proof.time >= expires_at && proof.legs.is_empty(), "{proof:?}");
    assert_eq!(venue.engine().receipt_at(before.next()), Ok(Some((*proof).clone())));
    // That was no request: the one of that id is the one that made the hold.
    let own = Known::Outcome(Outcome::Settled(prepared));
    assert_eq!(venue.engine().known(request.id), Ok(own));
    // While it was stopped is no different.
    let token = venue.hold(offer(5_000, true));
    venue.stop();
    venue.clock.pass(6_000);
    venue.recover();
    venue.until(|| venue.how(token) == Some(Resolution::Expired));
    assert_eq!(parts(&venue), BEFORE);
    venue.end();
}

#[test]
fn many_whose_time_is_over_at_once_all_end() {
    const HOLDS: usize = 3_000;
    let venue = alice_and_bob(4);
    venue.settle_all([deposit(0, ETH, 10 * HOLDS as u128), deposit(1, SOL, 30 * HOLDS as u128)]);
    let before = parts(&venue);
    let tokens: Vec<Token> = venue
        .settle_all((0..HOLDS).map(|n| offer(1_000 + n as u64 % 7, false)))
        .into_iter()
        .map(|receipt| receipt.hold.expect("a hold").token)
        .collect();
    let seq = venue.seq();
    venue.clock.pass(2_000);
    venue.until(|| venue.seq() == seq.plus(HOLDS as u64));
    assert_eq!(parts(&venue), before);
    assert!(tokens.iter().step_by(100).all(|token| venue.how(*token).is_some()));
    venue.end();
}

#[test]
fn a_commit_whose_turn_comes_too_late_finds_the_hold_expired() {
    let venue = alice_and_bob(2);
    for round in 0..20 {
        let token = venue.hold(offer(1_000, round % 2 == 0));
        // The coordinator sees the time that has passed, and the commit, at the same moment.
        venue.clock.hold("coordinator");
        let (commit, rollback) = (Action::Commit, Action::Rollback);
        let pending =
            venue.submit(fresh([commit, rollback, commit].map(|action| resolve(token, action))));
        venue.clock.pass(1_001);
        venue.clock.release();
        let told = outcomes(pending);
        let HoldState::Resolved(how, proof) = venue.state(token) else { panic!("it is over") };
        let seq = proof.commit_seq;
        assert_eq!(how, Resolution::Expired);
        for outcome in told {
            assert_eq!(refusal(outcome), Reject::AlreadyResolved { token, how, seq });
        }
        assert_eq!(parts(&venue), BEFORE);
    }
    venue.end();
}

#[test]
fn of_those_who_end_a_hold_together_the_first_wins() {
    let venue = alice_and_bob(4);
    let (commit, rollback) = (Action::Commit, Action::Rollback);
    for actions in [[commit, rollback, commit, rollback], [rollback, commit, rollback, commit]] {
        let before = parts(&venue);
        // Prepared in the same submission, it is not there yet: nobody could have known the token.
        let prepared = Request::new(fresh_id(), offer(60_000, false));
        let token = Token::of(prepared.id);
        let early = venue.send(vec![prepared, fresh([resolve(token, commit)]).remove(0)]);
        assert!(matches!(early[0], Outcome::Settled(_)), "{:?}", early[0]);
        if let Outcome::Rejected(refusal) = &early[1] {
            assert_eq!(refusal.reject, Reject::UnknownToken(token));
            let all = venue.send(fresh(actions.map(|action| resolve(token, action))));
            let first = receipt(all[0].clone());
            assert_eq!(receipt(all[2].clone()), first);
            let (how, seq) = (actions[0].resolution(), first.commit_seq);
            for place in [1, 3] {
                let lost = refusal_of(&all[place]);
                assert_eq!(*lost, Reject::AlreadyResolved { token, how, seq });
            }
            let rolled_back = parts(&venue) == before;
            assert_eq!(rolled_back, how == Resolution::RolledBack);
        }
    }
    venue.end();
}

fn refusal_of(outcome: &Outcome) -> &Reject {
    match outcome {
        Outcome::Settled(receipt) => panic!("settled: {receipt:?}"),
        Outcome::Rejected(refusal) => &refusal.reject,
    }
}

#[test]
fn one_token_stands_for_all_legs() {
    let mut venue = Venue::with(6, |limits| limits.shards = 4);
    venue.settle_all([deposit(0, ETH, 50), deposit(3, SOL, 7), deposit(4, USDC, 5)]);
    // A ring in ETH, in which 0 gives two on balance, and two others who give something.
    let legs = [
        leg(0, 1, ETH, 10),
        leg(1, 2, ETH, 10),
        leg(2, 0, ETH, 8),
        leg(3, 0, SOL, 7),
        leg(4, 3, USDC, 5),
    ];
    for action in [Action::Rollback, Action::Commit] {
        let token = venue.hold(prepare(legs, 60_000, false));
        assert_eq!([venue.parts(0, ETH), venue.parts(1, ETH)], [(48, 2), (0, 0)]);
        assert_eq!([venue.parts(3, SOL), venue.parts(4, USDC)], [(0, 7), (0, 5)]);
        venue.restart(|_| {});
        let done = venue.settle(resolve(token, action));
        let moved = action == Action::Commit;
        assert_eq!(done.legs.len(), if moved { 5 } else { 0 });
        let change =
            |before, after| Change { before: Amount::new(before), after: Amount::new(after) };
        if moved {
            assert_eq!(done.legs[0].from, change(50, 48));
            assert_eq!(done.legs[1].to, change(0, 2));
            assert_eq!(done.legs[4].to, change(0, 5));
        }
        let eth = [0, 1, 2].map(|number| venue.parts(number, ETH));
        assert_eq!(eth, if moved { [(48, 0), (0, 0), (2, 0)] } else { [(50, 0), (0, 0), (0, 0)] });
        let sol = [3, 0].map(|number| venue.parts(number, SOL));
        assert_eq!(sol, if moved { [(0, 0), (7, 0)] } else { [(7, 0), (0, 0)] });
    }
    venue.end();
}

#[test]
fn what_is_held_cannot_be_spent_twice_and_both_sides_must_have_it() {
    let venue = alice_and_bob(4);
    let short = |number, asset, short_by| {
        let (account, short_by) = (account(number), Amount::new(short_by));
        Reject::InsufficientFunds { account, asset, short_by, seq: venue.seq() }
    };
    let token = venue.hold(prepare([leg(0, 1, ETH, 95), leg(1, 0, SOL, 95)], 60_000, false));
    let again = prepare([leg(0, 1, ETH, 10), leg(1, 0, SOL, 1)], 60_000, false);
    assert_eq!(venue.refuse(again), short(0, ETH, 5));
    assert_eq!(venue.refuse(swap([leg(0, 2, ETH, 5), leg(0, 3, ETH, 5)])), short(0, ETH, 5));
    assert_eq!(venue.refuse(withdraw(1, SOL, 6)), short(1, SOL, 1));
    // What is left can go, and what comes in can.
    venue.settle(swap([leg(0, 2, ETH, 5), leg(1, 2, SOL, 5)]));
    venue.settle(deposit(0, ETH, 3));
    venue.settle(swap([leg(0, 2, ETH, 1), leg(0, 3, ETH, 2)]));
    // What the hold will bring cannot be spent before it is committed.
    assert_eq!(venue.refuse(swap([leg(0, 2, SOL, 1), leg(0, 3, SOL, 1)])), short(0, SOL, 2));
    venue.settle(resolve(token, Action::Commit));
    venue.settle(swap([leg(0, 2, SOL, 94), leg(0, 3, SOL, 1)]));
    assert_eq!([venue.parts(0, ETH), venue.parts(0, SOL)], [(0, 0), (0, 0)]);
    venue.end();
}

#[test]
fn a_hold_stands_whatever_becomes_of_links() {
    let mut venue = alice_and_bob(2);
    let unlink = |number, chain| Command::RemoveLink { account: account(number), chain };
    venue.settle(unlink(1, ETHEREUM));
    let not_linked = Reject::NotLinked { account: account(1), chain: ETHEREUM };
    assert_eq!(venue.refuse(offer(60_000, false)), not_linked, "who is to get it must be linked");
    venue.settle(put_account(1));
    let (kept, given_back) = (venue.hold(offer(60_000, false)), venue.hold(offer(60_000, true)));
    venue.settle_all([unlink(1, ETHEREUM), unlink(1, SOLANA), unlink(0, SOLANA)]);
    venue.restart(|_| {});
    venue.settle(resolve(kept, Action::Commit));
    venue.settle(resolve(given_back, Action::Rollback));
    assert_eq!(parts(&venue), MOVED);
    // It is there, and can be used once they are linked again.
    assert!(matches!(venue.refuse(withdraw(1, ETH, 1)), Reject::NotLinked { .. }));
    let links = vec![link(1, ETHEREUM)];
    venue.settle(Command::PutAccount { account: account(1), links });
    venue.hold(withdraw(1, ETH, 10));
    venue.end();
}

#[test]
fn a_counterparty_that_vanishes_costs_no_more_than_the_time_agreed() {
    let venue = alice_and_bob(2);
    // All that Alice has is set aside for Bob, who is never heard of again.
    let token = venue.hold(prepare([leg(0, 1, ETH, 100), leg(1, 0, SOL, 1)], 30_000, false));
    let elsewhere = || swap([leg(0, 2, ETH, 60), leg(0, 3, ETH, 40)]);
    for _ in 0..3 {
        venue.clock.pass(9_900);
        assert!(matches!(venue.refuse(elsewhere()), Reject::InsufficientFunds { .. }));
        assert_eq!(venue.how(token), None);
    }
    venue.clock.pass(300);
    // The very next request finds it over.
    venue.settle(elsewhere());
    assert_eq!(venue.how(token), Some(Resolution::Expired));
    venue.end();
}

#[test]
fn what_nobody_made_cannot_be_resolved() {
    let mut venue = alice_and_bob(2);
    let before = (venue.seq(), parts(&venue));
    // Requests that made no hold have no token.
    let refused = fresh([prepare([leg(0, 1, ETH, 101), leg(1, 0, SOL, 1)], 60_000, false)]);
    let deposited = fresh([deposit(2, ETH, 1)]);
    venue.send([&refused[..], &deposited].concat());
    let tokens = [refused[0].id, deposited[0].id, fresh_id()].map(Token::of);
    for _ in 0..2 {
        for token in tokens {
            for action in [Action::Commit, Action::Rollback, Action::Confirm, Action::Cancel] {
                assert_eq!(venue.refuse(resolve(token, action)), Reject::UnknownToken(token));
            }
            assert_eq!(venue.state(token), HoldState::Unknown);
            // Only the engine itself ends what is over.
            let expire = venue.refuse(resolve(token, Action::Expire));
            assert!(matches!(expire, Reject::Malformed(_)), "{expire:?}");
        }
        venue.restart(|_| {});
    }
    // A withdrawal is not a swap, nor the other way round.
    let (swap, withdrawal) = (venue.hold(offer(60_000, false)), venue.hold(withdraw(0, ETH, 1)));
    let misfits = |venue: &Venue| {
        for (token, action) in [
            (swap, Action::Confirm),
            (swap, Action::Cancel),
            (withdrawal, Action::Commit),
            (withdrawal, Action::Rollback),
        ] {
            assert_eq!(venue.refuse(resolve(token, action)), Reject::UnknownToken(token));
        }
    };
    misfits(&venue);
    assert_eq!([venue.how(swap), venue.how(withdrawal)], [None, None]);
    venue.settle_all([resolve(swap, Action::Rollback), resolve(withdrawal, Action::Cancel)]);
    misfits(&venue);
    venue.restart(|_| {});
    misfits(&venue);
    assert_eq!((venue.seq(), parts(&venue)), (before.0.plus(5), before.1));
    venue.end();
}

#[test]
fn limits_of_holds_are_kept_and_counted_anew_after_a_restart() {
    let mut venue = Venue::with(4, |limits| {
        limits.holds_per_account_max = 3;
        limits.holds_max = 5;
        limits.hold_expiry_max_ms = 90_000;
    });
    venue.settle_all([deposit(0, ETH, 100), deposit(1, SOL, 100), deposit(2, ETH, 9)]);
    match venue.refuse(offer(90_001, false)) {
        Reject::Malformed(Malformed { field, .. }) => assert_eq!(field, "expires_in_ms"),
        other => panic!("{other:?}"),
    }
    let mut open = vec![venue.hold(offer(90_000, false)), venue.hold(offer(1, false))];
    venue.clock.pass(2);
    // What is over does not count.
    open[1] = venue.hold(withdraw(0, ETH, 1));
    open.push(venue.hold(offer(90_000, true)));
    let too_many = Reject::TooManyHolds { account: Some(account(0)), max: 3 };
    for _ in 0..2 {
        assert_eq!(
            venue.refuse(withdraw(0, SOL, 1)),
            Reject::InsufficientFunds {
                account: account(0),
                asset: SOL,
                short_by: Amount::new(1),
                seq: venue.seq(),
            }
        );
        venue.settle(deposit(0, USDC, 1));
        assert_eq!(venue.refuse(withdraw(0, USDC, 1)), too_many);
        venue.restart(|_| {});
    }
    open.push(venue.hold(withdraw(2, ETH, 1)));
    open.push(venue.hold(withdraw(2, ETH, 1)));
    let everybodys = Reject::TooManyHolds { account: None, max: 5 };
    assert_eq!(venue.refuse(withdraw(2, ETH, 1)), everybodys);
    venue.settle(resolve(open[0], Action::Commit));
    venue.hold(withdraw(0, USDC, 1));
    assert_eq!(venue.refuse(withdraw(0, USDC, 1)), everybodys);
    venue.end();
}

#[test]
fn no_more_than_its_share_of_a_balance_can_be_set_aside() {
    let mut venue = Venue::with(4, |limits| limits.held_share_max_percent = 50);
    venue.settle_all([deposit(0, ETH, 100), deposit(1, SOL, 100)]);
    let exceeded = Reject::HeldShareExceeded { account: account(0), asset: ETH, max_percent: 50 };
    let part = |eth| prepare([leg(0, 1, ETH, eth), leg(1, 0, SOL, 1)], 60_000, false);
    assert_eq!(venue.refuse(part(51)), exceeded);
    let token = venue.hold(part(49));
    venue.restart(|_| {});
    assert_eq!(venue.refuse(part(2)), exceeded);
    venue.hold(withdraw(0, ETH, 1));
    assert_eq!(venue.refuse(withdraw(0, ETH, 1)), exceeded);
    // What is not set aside may go at once, and with it the share grows.
    venue.settle(swap([leg(0, 2, ETH, 50), leg(1, 0, SOL, 1)]));
    assert_eq!(venue.parts(0, ETH), (0, 50));
    assert_eq!(venue.refuse(part(1)), exceeded);
    venue.settle(resolve(token, Action::Rollback));
    assert_eq!(venue.refuse(part(25)), exceeded);
    venue.hold(part(24));
    venue.end();
}

#[test]
fn a_hold_says_until_when_and_for_what() {
    let venue = alice_and_bob(2);
    let prepared = venue.settle(offer(12_345, true));
    let hold = prepared.hold.expect("a hold");
    // Counted from when its turn came, which was just before it was decided.
    let since_micros = hold.expires_at.get() - 12_345_000;
    assert!((since_micros..since_micros + 10_000_000).contains(&prepared.time.get()));
    assert!(prepared.legs.is_empty() && prepared.change.is_none(), "nothing moved: {prepared:?}");
    let HoldState::Open(open) = venue.state(hold.token) else { panic!("it is open") };
    let Command::Prepare(asked) = &prepared.command else { panic!("{prepared:?}") };
    assert_eq!(open.purpose, Purpose::Swap(asked.swap.clone()));
    assert!(open.expires_at < Time::NEVER);
    // Its deadline is another thing: it is about the prepare alone.
    let mut late = Request::new(fresh_id(), offer(60_000, false));
    late.deadline = Time::new(1);
    assert_eq!(refusal(venue.ask(&late)), Reject::Expired);
    assert_eq!(venue.state(Token::of(late.id)), HoldState::Unknown);
    venue.end();
}
