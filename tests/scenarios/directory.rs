//! Assets, accounts and links: who may hold what, and that it changes between swaps, never within.

use crosslatch::error::Reject;
use crosslatch::request::{Command, Outcome};
use crosslatch::types::{AssetId, ChainId, ChainKind};

use crate::support::{
    ETH, ETHEREUM, SOL, SOLANA, account, asset, deposit, fresh, leg, link, put_account, swap,
    withdraw,
};
use crate::venue::{Venue, receipt, refusal};

fn unlink(number: u64, chain: ChainId) -> Command {
    Command::RemoveLink { account: account(number), chain }
}

fn exchange() -> Command {
    swap([leg(0, 1, ETH, 1), leg(1, 0, SOL, 1)])
}

#[test]
fn without_a_link_no_swap_and_with_it_again_as_before() {
    for shards in [1, 2, 4] {
        let mut venue = Venue::with(6, |limits| limits.shards = shards);
        venue.settle_all([deposit(0, ETH, 10), deposit(1, SOL, 10)]);
        venue.settle(exchange());
        let not_linked = Reject::NotLinked { account: account(1), chain: ETHEREUM };
        venue.settle(unlink(1, ETHEREUM));
        for _ in 0..2 {
            assert_eq!(venue.refuse(exchange()), not_linked);
            assert_eq!(venue.refuse(deposit(1, ETH, 1)), not_linked);
            assert_eq!(venue.refuse(withdraw(1, ETH, 1)), not_linked);
            // Who was there before is as before, and so is the other chain.
            assert_eq!([venue.balance(1, ETH), venue.balance(1, SOL)], [1, 9]);
            venue.settle(swap([leg(1, 0, SOL, 1), leg(0, 2, ETH, 1)]));
            venue.settle_all([swap([leg(0, 1, SOL, 1), leg(2, 0, ETH, 1)])]);
            venue.restart(|_| {});
        }
        // Its address is free for others; when it is taken, another one will do.
        let links = vec![link(1, ETHEREUM)];
        venue.settle(Command::PutAccount { account: account(77), links: links.clone() });
        let taken = venue.refuse(Command::PutAccount { account: account(1), links });
        assert!(matches!(taken, Reject::AlreadyLinked(_)), "{taken:?}");
        let links = vec![link(1_000, ETHEREUM)];
        venue.settle(Command::PutAccount { account: account(1), links });
        venue.settle(exchange());
        assert_eq!(venue.balance(1, ETH), 2);
        venue.end();
    }
}

#[test]
fn one_submission_may_make_accounts_and_use_them() {
    for shards in [1, 3] {
        let venue = Venue::with(2, |limits| limits.shards = shards);
        let new_asset = asset("WIF", SOLANA, ChainKind::Solana);
        let wif = AssetId::new(3);
        let trade = || swap([leg(0, 5, wif, 1), leg(5, 0, ETH, 1)]);
        let outcomes = venue.send(fresh([
            deposit(0, wif, 10),
            trade(),
            new_asset,
            deposit(0, wif, 10),
            trade(),
            put_account(5),
            trade(),
            deposit(5, ETH, 1),
            trade(),
            unlink(5, ETHEREUM),
            trade(),
            put_account(5),
            deposit(5, ETH, 1),
            trade(),
        ]));
        let codes: Vec<&str> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Settled(_) => "settled",
                Outcome::Rejected(refusal) => refusal.reject.code(),
            })
            .collect();
        assert_eq!(
            codes,
            [
                "unknown_asset",
                "unknown_asset",
                "settled",
                "settled",
                "unknown_account",
                "settled",
                "insufficient_funds",
                "settled",
                "settled",
                "settled",
                "not_linked",
                "settled",
                "settled",
                "settled"
            ]
        );
        assert_eq!([venue.balance(0, wif), venue.balance(5, wif)], [8, 2]);
        venue.end();
    }
}

#[test]
fn the_same_again_is_accepted_and_something_else_is_not() {
    let mut venue = Venue::open(3);
    for _ in 0..2 {
        venue.settle(asset("ETH", ETHEREUM, ChainKind::Evm));
        venue.settle(put_account(1));
        let other = venue.refuse(asset("ETH", SOLANA, ChainKind::Solana));
        assert!(matches!(other, Reject::AlreadyExists(_)), "{other:?}");
        let kind = venue.refuse(asset("BONK", SOLANA, ChainKind::Evm));
        assert!(matches!(kind, Reject::AlreadyExists(_)), "{kind:?}");
        let somebody_elses = vec![link(2, SOLANA)];
        let stolen =
            venue.refuse(Command::PutAccount { account: account(1), links: somebody_elses });
        assert!(matches!(stolen, Reject::AlreadyLinked(_)), "{stolen:?}");
        let unknown = ChainId::new(5);
        let nowhere = Command::PutAccount { account: account(1), links: vec![link(9, unknown)] };
        assert_eq!(venue.refuse(nowhere), Reject::UnknownChain(unknown));
        let nobody = Reject::UnknownAccount(account(99));
        assert_eq!(venue.refuse(unlink(99, ETHEREUM)), nobody);
        assert_eq!(venue.refuse(deposit(99, ETH, 1)), nobody);
        assert_eq!(venue.refuse(deposit(99, AssetId::new(9), 1)).code(), "unknown_asset");
        venue.restart(|_| {});
    }
    let directory = venue.engine().directory();
    assert_eq!((directory.assets_len(), directory.accounts_len()), (3, 3));
    assert_eq!(directory.account_by_link(&link(2, SOLANA)), Some(account(2)));
    venue.end();
}

#[test]
fn an_account_comes_with_all_its_links_or_not_at_all() {
    let venue = Venue::open(2);
    let links = vec![link(5, ETHEREUM), link(1, SOLANA)];
    let refused = venue.refuse(Command::PutAccount { account: account(5), links });
    assert!(matches!(refused, Reject::AlreadyLinked(_)), "{refused:?}");
    let directory = venue.engine().directory();
    assert!(!directory.has_account(account(5)));
    assert_eq!(directory.account_by_link(&link(5, ETHEREUM)), None);
    // In one submission, the first of two who want an address gets it.
    let want = |number| {
        let links = vec![link(50, SOLANA)];
        Command::PutAccount { account: account(number), links }
    };
    let outcomes = venue.send(fresh([want(7), want(8), want(7)]));
    receipt(outcomes[0].clone());
    assert!(matches!(refusal(outcomes[1].clone()), Reject::AlreadyLinked(_)));
    receipt(outcomes[2].clone());
    venue.end();
}
