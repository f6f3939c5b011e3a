//! Amounts alone, operations on one balance, and the versions of a balance.

use proptest::prelude::*;

use crosslatch::message::{Op, Side};
use crosslatch::store::versions::{PackReader, PackWriter, newest_at};
use crosslatch::types::{AccountId, Amount, AssetId, Balance, BalanceKey, CommitSeq};

use crate::wide::Wide;
use crate::{balance, edge};

const SIDES: [Side; 10] = [
    Side::Debit,
    Side::Credit,
    Side::SetAside,
    Side::Lock,
    Side::Spend,
    Side::Release,
    Side::Deliver,
    Side::Check,
    Side::Gain,
    Side::Yield,
];

fn amount(number: Option<u128>) -> Option<Amount> {
    number.map(Amount::new)
}

/// What an operation takes from and adds to (available, held).
fn changes(side: Side, amount: u128, held: i128) -> [(u128, u128); 2] {
    let of_held = if held < 0 { (held.unsigned_abs(), 0) } else { (0, held.unsigned_abs()) };
    match side {
        Side::Gain => [(0, amount), of_held],
        Side::Yield => [(amount, 0), of_held],
        Side::Debit => [(amount, 0), (0, 0)],
        Side::Credit | Side::Deliver => [(0, amount), (0, 0)],
        Side::SetAside | Side::Lock => [(amount, 0), (0, amount)],
        Side::Spend => [(0, 0), (amount, 0)],
        Side::Release => [(0, amount), (amount, 0)],
        Side::Check => [(0, 0), (0, 0)],
    }
}

/// What only markets do changes what is held by a number of its own.
fn op(key: BalanceKey, side: Side, amount: u128, held: u128) -> Op {
    let held = if side.is_of_market() { held.cast_signed() } else { 0 };
    Op { held, ..Op::new(key, side, Amount::new(amount)) }
}

/// The balance after an operation, if there is one.
fn expected(op: &Op, before: Balance) -> Option<Balance> {
    let parts = [before.available.get(), before.held.get()].into_iter().zip(changes(
        op.side,
        op.amount.get(),
        op.held,
    ));
    let after: Vec<Wide> = parts
        .map(|(part, (less, more))| Wide::of(part).plus(Wide::of(more)).minus(Wide::of(less)))
        .collect::<Option<_>>()?;
    after[0].plus(after[1]).get()?;
    let part = |wide: Wide| Amount::new(wide.get().unwrap());
    Some(Balance { available: part(after[0]), held: part(after[1]) })
}

proptest! {
    #[test]
    fn sums_and_differences_are_exact_or_none(a in edge(), b in edge()) {
        let (x, y) = (Amount::new(a), Amount::new(b));
        prop_assert_eq!(x.checked_add(y), amount(Wide::of(a).plus(Wide::of(b)).get()));
        let rest = Wide::of(a).minus(Wide::of(b)).map(|rest| rest.get().unwrap());
        prop_assert_eq!(x.checked_sub(y), amount(rest));
    }

    #[test]
    fn text_is_the_number_or_refused(digits in "0{0,3}(340282366920938463463374607431768211[0-9]{3}|[0-9]{1,42})") {
        let read = digits.parse::<Amount>();
        prop_assert_eq!(read.clone().ok(), amount(Wide::parse(&digits).get()), "{}", digits);
        if let Ok(amount) = read {
            let significant = digits.trim_start_matches('0');
            let significant = if significant.is_empty() { "0" } else { significant };
            prop_assert_eq!(amount.to_string(), significant);
        }
    }

    #[test]
    fn operations_are_exact_or_impossible(
        side in prop::sample::select(&SIDES), n in edge(), held in edge(), before in balance(),
    ) {
        let key = BalanceKey { account: AccountId::new(1), asset: AssetId::new(0) };
        let op = op(key, side, n, held);
        let after = op.apply(before);
        prop_assert_eq!(after, expected(&op, before));
        if let Some(after) = after {
            prop_assert_eq!(op.undo(after), Some(before));
        }
    }

    #[test]
    fn only_what_an_operation_leads_to_can_be_undone(
        side in prop::sample::select(&SIDES), (n, by) in (edge(), edge()),
        (available, held) in (edge(), edge()),
    ) {
        let key = BalanceKey { account: AccountId::new(1), asset: AssetId::new(0) };
        let op = op(key, side, n, by);
        // Not every pair is a balance.
        let after = Balance { available: Amount::new(available), held: Amount::new(held) };
        if let Some(before) = op.undo(after) {
            prop_assert_eq!(expected(&op, before), Some(after));
        }
    }

    #[test]
    fn versions_come_back_whatever_the_distance(
        first in prop_oneof![0..3_u64, Just(u64::MAX / 2), u64::MAX - 40..u64::MAX - 30],
        versions in prop::collection::vec((1..4_u64, (edge(), edge())), 1..10),
    ) {
        let mut writer = PackWriter::new();
        let (mut seq, mut all) = (first, Vec::new());
        for (distance, (available, held)) in versions {
            let balance = Balance { available: Amount::new(available), held: Amount::new(held) };
            writer.push(CommitSeq::new(seq), balance);
            all.push((CommitSeq::new(seq), balance));
            seq += distance;
        }
        let first = CommitSeq::new(first);
        let mut reader = PackReader::new(writer.value(), first);
        prop_assert_eq!(reader.by_ref().collect::<Vec<_>>(), all.clone());
        prop_assert!(!reader.is_damaged());
        for (seq, balance) in all {
            prop_assert_eq!(newest_at(writer.value(), first, seq), Some((seq, balance)));
        }
    }
}
