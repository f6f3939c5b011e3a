//! Balances by slot number: sums, marks, locks, readers, shares.

use super::*;

const KEY: BalanceKey = BalanceKey { account: AccountId::new(1), asset: AssetId::new(65_535) };

/// On the first balance.
fn op(side: Side, amount: u128) -> SlotOp {
    SlotOp { side, slot: 0, amount: Amount::new(amount) }
}

fn sum(amounts: &[u128]) -> Wide {
    amounts.iter().fold(Wide::default(), |sum, amount| sum.plus(Amount::new(*amount)))
}

#[test]
fn sums_of_credits_are_exact_at_any_width() {
    let edge = 1 << LOW_BITS;
    let amounts = [1, edge - 1, edge, edge + 1, u128::MAX, u128::MAX, 3, 5 * edge];
    for first in 0..amounts.len() {
        let mut slots = Slots::new(100);
        let number = slots.push(KEY, true);
        for (place, amount) in amounts.iter().enumerate() {
            slots.grant(&op(Side::Credit, *amount));
            assert_eq!(slots.credits(number), sum(&amounts[..=place]));
        }
        let mut left = amounts.to_vec();
        left.rotate_left(first);
        while let Some(amount) = left.pop() {
            slots.release(&op(Side::Credit, amount));
            assert_eq!(slots.credits(number), sum(&left));
        }
        assert!(slots.are_quiet());
    }
}

#[test]
fn marks_do_not_disturb_one_another() {
    let mut slots = Slots::new(100);
    let number = slots.push(KEY, false);
    let balance = Balance { available: Amount::new(7), held: Amount::new(3) };
    slots.restore(number, balance, CommitSeq::new(9));
    slots.set_contended(number, true);
    slots.set_linked(number, true);
    slots.set_contended(number, false);
    assert_eq!(slots.balance(number), balance);
    assert_eq!(slots.version(number), CommitSeq::new(9));
    assert!(slots.is_linked(number) && !slots.is_contended(number));
    assert!(slots.can_grant(&op(Side::Debit, 7)));
    assert!(!slots.can_grant(&op(Side::Debit, 8)));
}

#[test]
#[should_panic(expected = "granted more than there is")]
fn more_than_there_is_cannot_be_granted() {
    let mut slots = Slots::new(100);
    slots.push(KEY, true);
    slots.grant(&op(Side::Debit, 1));
}

fn funded(percent: u8, available: u128, held: u128) -> (Slots, u32) {
    let mut slots = Slots::new(percent);
    let number = slots.push(KEY, true);
    let balance = Balance { available: Amount::new(available), held: Amount::new(held) };
    slots.restore(number, balance, CommitSeq::new(9));
    (slots, number)
}

#[test]
fn what_is_set_aside_moves_and_comes_back() {
    let (mut slots, number) = funded(100, 10, 2);
    let seq = CommitSeq::new(11);
    let mut settle = |side, amount, expected: (u128, u128)| {
        slots.grant(&op(side, amount));
        assert!(slots.is_undecided(number), "{side:?}");
        slots.settle(&op(side, amount), seq);
        let found = slots.balance(number);
        assert_eq!((found.available.get(), found.held.get()), expected, "{side:?}");
        assert!(slots.are_quiet(), "{side:?}");
    };
    settle(Side::SetAside, 3, (7, 5));
    settle(Side::Lock, 7, (0, 12));
    settle(Side::Spend, 5, (0, 7));
    settle(Side::Release, 7, (7, 0));
    settle(Side::Deliver, 1, (8, 0));
    settle(Side::Credit, 0, (8, 0));
    assert_eq!(slots.version(number), seq);
    assert!(slots.held.is_empty());
}

#[test]
fn a_lock_wants_the_balance_for_itself() {
    let (mut slots, number) = funded(100, 10, 0);
    let (debit, lock) = (op(Side::Debit, 1), op(Side::Lock, 1));
    slots.grant(&debit);
    assert!(!slots.can_grant(&lock));
    slots.release(&debit);
    assert!(slots.can_grant(&lock));
    slots.grant(&lock);
    assert!(!slots.can_grant(&debit));
    assert!(!slots.can_grant_head(&op(Side::Debit, 1)));
    assert!(slots.can_grant(&op(Side::Credit, 1)));
    slots.settle(&lock, CommitSeq::new(10));
    let (token, other) = (Token::default(), Token::of(crate::types::RequestId::new(7)));
    slots.lock(number, token);
    assert!(slots.are_quiet(), "a lock that stands is no grant");
    for side in [Side::Debit, Side::SetAside, Side::Lock] {
        assert!(!slots.can_grant(&op(side, 1)));
    }
    for side in [Side::Credit, Side::Deliver, Side::Spend, Side::Release, Side::Check] {
        assert!(slots.can_grant(&op(side, 1)));
    }
    slots.unlock(number, other);
    assert_eq!(slots.locked_by(number), Some(token));
    slots.unlock(number, token);
    assert!(slots.can_grant(&lock));
}

#[test]
fn readers_keep_everybody_away_until_the_last_is_gone() {
    let (mut slots, number) = funded(100, 10, 5);
    slots.add_reader(number);
    slots.add_reader(number);
    let moves = [
        Side::Debit,
        Side::Credit,
        Side::SetAside,
        Side::Lock,
        Side::Spend,
        Side::Release,
        Side::Deliver,
    ];
    for left in [1, 0] {
        assert!(!moves.iter().any(|side| slots.can_grant(&op(*side, 1))));
        assert!(slots.can_grant(&op(Side::Check, 0)));
        assert!(!slots.is_undecided(number) && !slots.are_quiet());
        slots.remove_reader(number);
        assert_eq!(slots.is_read(number), left > 0);
    }
    assert!(moves.iter().all(|side| slots.can_grant(&op(*side, 1))));
    assert!(slots.are_quiet());
}

#[test]
fn grants_of_nothing_are_seen() {
    let (mut slots, number) = funded(100, 10, 5);
    let (spend, zero) = (op(Side::Spend, 5), op(Side::Credit, 0));
    slots.grant(&spend);
    slots.grant(&zero);
    slots.release(&spend);
    assert!(slots.is_undecided(number));
    slots.release(&zero);
    assert!(slots.are_quiet());
}

#[test]
fn the_share_that_is_held_is_exact() {
    let most = u128::MAX / 2;
    for (percent, available, held, debits, amount, exceeds) in [
        (50, 100, 0, 0, 50, false),
        (50, 100, 0, 0, 51, true),
        (50, 50, 50, 0, 0, false),
        (50, 50, 50, 0, 1, true),
        (50, 100, 0, 10, 35, false),
        (50, 100, 0, 10, 36, true),
        (99, most, 0, 0, most / 100 * 99 + 26, false),
        (99, most, 0, 0, most / 100 * 99 + 27, true),
        (99, most, 0, 0, u128::MAX, true),
        (99, most - 7, 7, 0, u128::MAX, true),
        (100, 1, 0, 0, u128::MAX, false),
    ] {
        let (mut slots, _) = funded(percent, available, held);
        slots.grant(&op(Side::Debit, debits));
        for (side, checked) in [(Side::SetAside, true), (Side::Lock, true), (Side::Debit, false)] {
            assert_eq!(slots.exceeds_share(&op(side, amount)), checked && exceeds);
        }
    }
}
