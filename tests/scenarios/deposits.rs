//! What the outside world has a name for is credited once.

use crosslatch::config::SUPPLY_MAX;
use crosslatch::error::Reject;
use crosslatch::request::{Command, Outcome, Request, Transfer};
use crosslatch::types::{AssetId, CommitSeq};

use crate::support::{ETH, ETHEREUM, SOL, USDC, account, deposit, fresh, put_account, transfer};
use crate::venue::{Venue, outcomes, receipt, refusal};

/// A deposit that the outside world knows by that name.
fn named(number: u64, asset: AssetId, amount: u128, reference: &str) -> Command {
    Command::Deposit(Transfer { reference: reference.into(), ..transfer(number, asset, amount) })
}

fn already(asset: AssetId, seq: CommitSeq) -> Reject {
    Reject::AlreadyCredited { asset, seq }
}

#[test]
fn a_reference_is_credited_once_an_asset_for_ever() {
    let mut venue = Venue::with(4, |limits| limits.shards = 3);
    let first = fresh([named(0, ETH, 5, "0xaa")]).remove(0);
    let seq = receipt(venue.ask(&first)).commit_seq;
    // At once, folded, after a restart that folds, and after another.
    for round in 0..4 {
        assert_eq!(venue.refuse(named(0, ETH, 5, "0xaa")), already(ETH, seq));
        assert_eq!(venue.refuse(named(1, ETH, 9, "0xaa")), already(ETH, seq), "whoever gets it");
        // The same request is the same request.
        assert_eq!(receipt(venue.ask(&first)).commit_seq, seq);
        // Another asset has other names, and nothing has none.
        let other = format!("0xaa{round}");
        venue.settle_all([named(0, ETH, 1, &other), named(0, SOL, 1, &other)]);
        venue.settle_all([deposit(0, USDC, 1), deposit(0, USDC, 1)]);
        match round {
            0 => venue.engine().drain().expect("it runs"),
            _ => venue.restart(|limits| limits.shards = round),
        }
    }
    let on_solana = venue.settle(named(0, SOL, 1, "0xaa")).commit_seq;
    assert_eq!(venue.refuse(named(0, SOL, 1, "0xaa")), already(SOL, on_solana));
    // A withdrawal's name is its own.
    let out = Transfer { reference: "0xbb".into(), ..transfer(0, ETH, 1) };
    venue.settle_all([Command::Withdraw(out.clone()), Command::Withdraw(out)]);
    venue.settle(named(0, ETH, 1, "0xbb"));
    assert_eq!(venue.balance(0, ETH), 5 + 4 + 1);
    venue.end();
}

#[test]
fn in_one_submission_the_first_has_it() {
    let venue = Venue::with(4, |limits| limits.shards = 3);
    let twice =
        |name: &str| [named(0, ETH, 5, name), named(1, ETH, 7, name), named(2, SOL, 1, name)];
    for name in ["a", "b", "c"] {
        let outcomes = venue.send(fresh(twice(name)));
        let seq = receipt(outcomes[0].clone()).commit_seq;
        assert_eq!(refusal(outcomes[1].clone()), already(ETH, seq));
        receipt(outcomes[2].clone());
    }
    // In two that are on their way together; sent again, each has its answer.
    venue.clock.hold("commit-log");
    let [one, two] = [fresh(twice("d")), fresh(twice("d"))];
    let pending = [venue.submit(one.clone()), venue.submit(two.clone()), venue.submit(one.clone())];
    venue.clock.release();
    let [first, second, again] = pending.map(outcomes);
    let seq = receipt(first[0].clone()).commit_seq;
    assert_eq!(
        [&first[1], &second[0], &second[1]].map(|no| refusal(no.clone())),
        [already(ETH, seq), already(ETH, seq), already(ETH, seq)]
    );
    assert_eq!(again, first);
    venue.end();
}

#[test]
fn refused_the_first_leaves_it_to_the_next() {
    let mut venue = Venue::with(4, |limits| limits.shards = 3);
    venue.settle(deposit(3, ETH, 10));
    let too_much = SUPPLY_MAX - 9;
    let outcomes = venue.send(fresh([
        // Above the cap: known only when it is decided, with the others on their way.
        named(0, ETH, too_much, "0xcc"),
        named(0, ETH, 2, "0xcc"),
        named(0, ETH, 3, "0xcc"),
        named(1, ETH, too_much, "0xdd"),
        named(1, ETH, too_much, "0xdd"),
    ]));
    let codes: Vec<&str> = outcomes.iter().map(code).collect();
    let exceeded = "supply_exceeded";
    assert_eq!(codes, [exceeded, "settled", "already_credited", exceeded, exceeded]);
    let seq = receipt(outcomes[1].clone()).commit_seq;
    assert_eq!(refusal(outcomes[2].clone()), already(ETH, seq));
    venue.restart(|_| {});
    assert_eq!(venue.refuse(named(0, ETH, 2, "0xcc")), already(ETH, seq));
    venue.settle(named(1, ETH, 4, "0xdd"));
    // Who cannot have it does not take the name, but hears that it is taken.
    venue.settle(Command::RemoveLink { account: account(2), chain: ETHEREUM });
    let not_linked = Reject::NotLinked { account: account(2), chain: ETHEREUM };
    assert_eq!(venue.refuse(named(2, ETH, 1, "0xee")), not_linked);
    assert_eq!(venue.refuse(named(2, ETH, 1, "0xcc")), already(ETH, seq));
    venue.settle(put_account(2));
    venue.settle(named(2, ETH, 1, "0xee"));
    assert_eq!([0, 1, 2].map(|number| venue.balance(number, ETH)), [2, 4, 1]);
    venue.end();
}

fn code(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Settled(_) => "settled",
        Outcome::Rejected(refusal) => refusal.reject.code(),
    }
}

#[test]
fn many_who_credit_the_same_credit_it_once() {
    const CALLERS: u64 = 6;
    const NAMES: u64 = 200;
    let venue = Venue::with(CALLERS, |limits| limits.shards = 2);
    let all: Vec<Vec<Outcome>> = std::thread::scope(|scope| {
        let call = |caller: u64| {
            let venue = &venue;
            scope.spawn(move || {
                let mut requests: Vec<Request> = fresh(
                    (0..NAMES).map(|name| named(caller, ETH, 1, &format!("transfer {name}"))),
                );
                requests.rotate_left(caller as usize * 31);
                let chunks = requests.chunks(1 + caller as usize * 9);
                let pending: Vec<_> = chunks.map(|chunk| venue.submit(chunk.to_vec())).collect();
                pending.into_iter().flat_map(outcomes).collect()
            })
        };
        let callers: Vec<_> = (0..CALLERS).map(call).collect();
        callers.into_iter().map(|caller| caller.join().expect("it runs")).collect()
    });
    let settled = all.iter().flatten().filter(|outcome| code(outcome) == "settled").count();
    assert_eq!(settled as u64, NAMES);
    assert!(all.iter().flatten().all(|outcome| code(outcome) != "not_linked"));
    let credited: u128 = (0..CALLERS).map(|number| venue.balance(number, ETH)).sum();
    assert_eq!(credited, u128::from(NAMES));
    venue.end();
}
