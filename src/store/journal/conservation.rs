//! I5: no transaction creates or destroys value. Asked of every commit before it is written.
//!
//! Two questions, so that one wrong answer is not enough: does each balance move by what its
//! operation says, and do the movements of each asset, added up from the balances alone, come to
//! what the command says: nothing for a swap, the amount for a deposit or withdrawal? No command
//! sets anything aside, so what is held must stay; a record could not tell it otherwise.

use smallvec::SmallVec;
use thiserror::Error;

use crate::message::{Op, Row, Side, Txn};
use crate::request::Command;
use crate::types::{AssetId, Balance};

/// How a transaction would have created or destroyed value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// By how much an asset's balances moved, modulo 2^128; nearly always two assets.
type Moved = SmallVec<[(AssetId, u128); 2]>;

/// Checks that the rows of a transaction, one per `txn.ops()` in that order, move exactly what it
/// says, and neither more nor less of any asset than that.
///
/// # Errors
/// What is wrong, with the transaction's id.
pub fn check_conservation(txn: &Txn, rows: &[Row]) -> Result<(), Violation> {
    let mut moved = Moved::new();
    let mut ops = txn.ops();
    for row in rows {
        let Some(op) = ops.next() else {
            return Err(miscounted(txn, rows.len()));
        };
        let (before, after) = (total(row.before), total(row.after));
        let expected = match op.side {
            Side::Debit => before.and_then(|before| before.checked_sub(op.amount.get())),
            Side::Credit => before.and_then(|before| before.checked_add(op.amount.get())),
        };
        match (before, after) {
            (Some(before), Some(after))
                if expected == Some(after) && row.before.held == row.after.held =>
            {
                add(&mut moved, op.key.asset, after.wrapping_sub(before));
            }
            _ => return Err(wrong_row(txn, op, row)),
        }
    }
    if ops.next().is_some() {
        return Err(miscounted(txn, rows.len()));
    }
    let recorded = |asset| match &txn.command {
        Command::Deposit(to) if to.asset == asset => to.amount.get(),
        Command::Withdraw(from) if from.asset == asset => from.amount.get().wrapping_neg(),
        _ => 0,
    };
    match moved.iter().find(|(asset, sum)| *sum != recorded(*asset)) {
        None => Ok(()),
        Some((asset, sum)) => Err(unbalanced(txn, *asset, *sum)),
    }
}

#[inline]
fn total(balance: Balance) -> Option<u128> {
    balance.available.get().checked_add(balance.held.get())
}

#[inline]
fn add(moved: &mut Moved, asset: AssetId, delta: u128) {
    match moved.iter_mut().find(|(known, _)| *known == asset) {
        Some((_, sum)) => *sum = sum.wrapping_add(delta),
        None => moved.push((asset, delta)),
    }
}

#[cold]
fn miscounted(txn: &Txn, rows: usize) -> Violation {
    let ops = txn.ops().count();
    Violation(format!("request {} has {ops} operations but {rows} rows", txn.id))
}

#[cold]
fn wrong_row(txn: &Txn, op: Op, row: &Row) -> Violation {
    let Op { key, side, amount } = op;
    let Row { before, after } = row;
    Violation(format!(
        "request {}: a {side:?} of {amount} leaves account {}, asset {} with {} + {} after {} + {}",
        txn.id, key.account, key.asset, after.available, after.held, before.available, before.held,
    ))
}

#[cold]
fn unbalanced(txn: &Txn, asset: AssetId, sum: u128) -> Violation {
    let sum = sum.cast_signed();
    let kind = txn.command.kind();
    Violation(format!("request {} ({kind}) changes the sum of asset {asset} by {sum}", txn.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Request, Swap, Transfer};
    use crate::types::{AccountId, Amount, Leg, RequestId};

    fn txn(command: Command) -> Txn {
        Txn::new(Request::new(RequestId::new(1), command), 0, 1).unwrap()
    }

    fn swap(legs: &[(u64, u64, u32, u128)]) -> Txn {
        let legs = legs.iter().map(|&(from, to, asset, amount)| Leg {
            from: AccountId::new(from),
            to: AccountId::new(to),
            asset: AssetId::new(asset),
            amount: Amount::new(amount),
        });
        txn(Command::Swap(Swap::new(legs).unwrap()))
    }

    fn transfer(amount: u128) -> Transfer {
        Transfer {
            account: AccountId::new(1),
            asset: AssetId::new(0),
            amount: Amount::new(amount),
            reference: "".into(),
        }
    }

    fn row(before: u128, after: u128) -> Row {
        let balance = |units| Balance { available: Amount::new(units), held: Amount::ZERO };
        Row { before: balance(before), after: balance(after) }
    }

    #[test]
    fn what_moves_exactly_is_accepted() {
        let rows = [row(10, 5), row(0, 5), row(7, 0), row(1, 8)];
        assert_eq!(check_conservation(&swap(&[(1, 2, 0, 5), (2, 1, 1, 7)]), &rows), Ok(()));
        let netted = swap(&[(1, 2, 0, 5), (2, 3, 0, 5)]);
        assert_eq!(check_conservation(&netted, &[row(5, 0), row(3, 3), row(0, 5)]), Ok(()));
        assert_eq!(check_conservation(&txn(Command::Deposit(transfer(4))), &[row(1, 5)]), Ok(()));
        assert_eq!(check_conservation(&txn(Command::Withdraw(transfer(4))), &[row(5, 1)]), Ok(()));
    }

    #[test]
    fn what_is_held_must_stay() {
        let withdraw = txn(Command::Withdraw(transfer(4)));
        let mut row = row(10, 6);
        (row.before.held, row.after.held) = (Amount::new(3), Amount::new(3));
        assert_eq!(check_conservation(&withdraw, &[row]), Ok(()));
        row.after = Balance { available: Amount::new(2), held: Amount::new(7) };
        check_conservation(&withdraw, &[row]).expect_err("set aside");
    }

    #[test]
    fn every_single_wrong_unit_is_found() {
        let txn = swap(&[(1, 2, 0, 5), (2, 1, 1, 7)]);
        let rows = [row(10, 5), row(1, 6), row(7, 0), row(1, 8)];
        for place in 0..rows.len() {
            for by in [-1, 1] {
                let mut wrong = rows;
                let after = wrong[place].after.available.get().wrapping_add_signed(by);
                wrong[place].after.available = Amount::new(after);
                check_conservation(&txn, &wrong).expect_err("a wrong balance after");
                let mut wrong = rows;
                let before = wrong[place].before.available.get().wrapping_add_signed(by);
                wrong[place].before.available = Amount::new(before);
                check_conservation(&txn, &wrong).expect_err("a wrong balance before");
            }
        }
    }

    #[test]
    fn miscounted_and_overflowing_rows_are_found() {
        let txn = swap(&[(1, 2, 0, 5), (2, 1, 1, 7)]);
        let rows = [row(10, 5), row(1, 6), row(7, 0), row(1, 8), row(1, 1)];
        let error = check_conservation(&txn, &rows).expect_err("five rows");
        assert!(error.0.ends_with("has 4 operations but 5 rows"), "{error}");
        check_conservation(&txn, &rows[..3]).expect_err("three rows");
        let wraps = [row(10, 5), row(u128::MAX, 4), row(7, 0), row(1, 8)];
        check_conservation(&txn, &wraps).expect_err("wraps");
    }
}
