//! Legs netted per balance, and the check that nothing is created or destroyed.

use proptest::prelude::*;

use crosslatch::message::{Op, Row, Side, Txn};
use crosslatch::request::{Command, Prepare, Request, Swap, Transfer};
use crosslatch::store::journal::check_conservation;
use crosslatch::types::{AccountId, Amount, AssetId, Balance, BalanceKey, Leg, RequestId};

use crate::wide::Wide;
use crate::{covering, edge};

/// Few accounts and assets, so that legs meet; some have the same amounts, so that they cancel out.
fn legs() -> impl Strategy<Value = Vec<Leg>> {
    let amount = prop_oneof![2 => edge(), 1 => Just(7), 1 => Just(u128::MAX), 1 => Just(1 << 126)];
    let leg = (0..4_u64, 1..4_u64, 0..2_u32, amount).prop_map(|(from, to, asset, amount)| Leg {
        from: AccountId::new(from),
        to: AccountId::new((from + to) % 4),
        asset: AssetId::new(asset),
        amount: Amount::new(amount.max(1)),
    });
    (prop::collection::vec(leg, 2..=8), prop::bool::weighted(0.1)).prop_map(|(mut legs, back)| {
        if back {
            let there = legs.clone();
            legs.extend(there.into_iter().map(|leg| Leg { from: leg.to, to: leg.from, ..leg }));
        }
        legs
    })
}

fn txn(command: Command) -> Option<Txn> {
    Txn::new(Request::new(RequestId::new(1), command), 0, 3).ok()
}

/// The sums of what each balance pays and gets, in the order of their first mention.
fn sums(legs: &[Leg]) -> Vec<(BalanceKey, [Wide; 2])> {
    let mut sums: Vec<(BalanceKey, [Wide; 2])> = Vec::new();
    for Leg { from, to, asset, amount } in legs.iter().copied() {
        for (side, account) in [from, to].into_iter().enumerate() {
            let key = BalanceKey { account, asset };
            let place = sums.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
                sums.push((key, Default::default()));
                sums.len() - 1
            });
            let sum = &mut sums[place].1[side];
            *sum = sum.plus(Wide::of(amount.get()));
        }
    }
    sums
}

/// The operations that the legs come to; `None` where they come to nothing, or to more than fits.
fn expected(legs: &[Leg]) -> Option<Vec<Op>> {
    let net = |(key, [out, into]): (BalanceKey, [Wide; 2])| {
        out.get().and(into.get())?;
        let (side, amount) = match out.minus(into) {
            Some(rest) if rest > Wide::default() => (Side::Debit, rest),
            _ => (Side::Credit, into.minus(out).unwrap()),
        };
        Some(Op::new(key, side, Amount::new(amount.get()?)))
    };
    let ops: Vec<Op> = sums(legs).into_iter().map(net).collect::<Option<_>>()?;
    ops.iter().any(|op| op.amount > Amount::ZERO).then_some(ops)
}

/// Per asset what is paid equals what is got.
fn is_balanced(ops: &[Op]) -> bool {
    (0..2).map(AssetId::new).all(|asset| {
        let of = |side| {
            let ops = ops.iter().filter(move |op| op.key.asset == asset && op.side == side);
            Wide::sum(ops.map(|op| op.amount.get()))
        };
        of(Side::Debit) == of(Side::Credit)
    })
}

/// A balance that the operation can be done to, if there is one.
fn before(op: &Op, spare: u128) -> Balance {
    let (amount, max) = (op.amount.get(), u128::MAX);
    let (available, held) = match op.side {
        Side::Credit => ((max - amount).min(spare), 0),
        _ => (amount + spare.min(max - amount), 0),
    };
    Balance { available: Amount::new(available), held: Amount::new(held) }
}

fn off_by(balance: Balance, by: i128) -> Balance {
    let available = Amount::new(balance.available.get().wrapping_add_signed(by));
    Balance { available, ..balance }
}

#[test]
fn legs_are_netted_exactly_or_refused() {
    covering(&["netted", "as they are", "too much", "nothing"], legs(), |legs, seen| {
        let swap = Swap::new(legs.clone()).unwrap();
        let ops = txn(Command::Swap(swap.clone())).map(|txn| txn.ops().collect::<Vec<_>>());
        prop_assert_eq!(&ops, &expected(&legs));
        let fits = |(_, [out, into]): &(BalanceKey, [Wide; 2])| out.get().and(into.get()).is_some();
        seen.note(match &ops {
            Some(ops) if ops.len() < 2 * legs.len() => "netted",
            Some(_) => "as they are",
            None if sums(&legs).iter().all(fits) => "nothing",
            None => "too much",
        });
        prop_assert!(ops.is_none_or(|ops| is_balanced(&ops)));
        let prepare = Prepare { swap, expires_in_ms: 1, exclusive: false };
        let prepared = txn(Command::Prepare(Box::new(prepare)));
        let named = |ops: &mut dyn Iterator<Item = Op>| -> Vec<_> {
            ops.map(|op| (op.key, op.amount)).collect()
        };
        let prepared = prepared.map(|txn| named(&mut txn.ops()));
        prop_assert_eq!(prepared, expected(&legs).map(|ops| named(&mut ops.into_iter())));
        Ok(())
    });
}

proptest! {
    #[test]
    fn conservation_is_checked_to_the_unit(
        legs in legs(), spare in prop::collection::vec(edge(), 32), wrong in any::<prop::sample::Index>(),
    ) {
        let Some(txn) = txn(Command::Swap(Swap::new(legs).unwrap())) else { return Ok(()) };
        let ops: Vec<Op> = txn.ops().collect();
        let rows: Vec<Row> = ops
            .iter()
            .zip(spare)
            .map(|(op, spare)| {
                let before = before(op, spare);
                Row { before, after: op.apply(before).unwrap() }
            })
            .collect();
        prop_assert_eq!(check_conservation(&txn, &rows), Ok(()));
        let place = wrong.index(rows.len());
        for by in [-1, 1] {
            let mut after = rows.clone();
            after[place].after = off_by(after[place].after, by);
            prop_assert!(check_conservation(&txn, &after).is_err(), "a balance after is off");
            // What one has too much another one lacks: the sum is right.
            if let Some(other) = (0..ops.len()).find(|it| {
                *it != place && ops[*it].key.asset == ops[place].key.asset
            }) {
                after[other].after = off_by(after[other].after, -by);
                prop_assert!(check_conservation(&txn, &after).is_err(), "two balances are off");
            }
            let mut before = rows.clone();
            before[place].before = off_by(before[place].before, by);
            prop_assert!(check_conservation(&txn, &before).is_err(), "a balance before is off");
        }
        prop_assert!(check_conservation(&txn, &rows[1..]).is_err());
    }

    #[test]
    fn what_enters_is_checked_to_the_unit(n in edge(), available in edge(), held in edge(), by in -1..=1_i128) {
        let (account, asset, amount) = (AccountId::new(1), AssetId::new(0), Amount::new(n.max(1)));
        let deposit = Transfer { account, asset, amount, reference: "".into() };
        let txn = txn(Command::Deposit(deposit)).unwrap();
        let before = Balance { available: Amount::new(available), held: Amount::new(held) };
        let raised = Wide::of(available).plus(Wide::of(amount.get()));
        let fits = raised.plus(Wide::of(held)).get().is_some();
        let after = Amount::new(available.wrapping_add(amount.get()).wrapping_add_signed(by));
        let rows = [Row { before, after: Balance { available: after, ..before } }];
        prop_assert_eq!(check_conservation(&txn, &rows).is_ok(), fits && by == 0);
    }
}
