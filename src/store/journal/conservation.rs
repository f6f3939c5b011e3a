//! I5: no transaction creates or destroys value. Asked of every commit before it is written.
//!
//! Two questions, so that one wrong answer is not enough: is each balance, available and held, what
//! its operation makes of the one before, and do the movements of each asset, added up from the
//! balances alone, come to what the command says: the amount for a deposit and for a withdrawal that
//! is confirmed, nothing for everything else?

use smallvec::SmallVec;
use thiserror::Error;

use crate::message::{Op, Row, Side, Txn};
use crate::request::{Action, Command, Purpose, Transfer};
use crate::types::{AssetId, Balance};

/// How a transaction would have created or destroyed value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// By how much an asset's balances moved, modulo 2^128; nearly always two assets.
type Moved = SmallVec<[(AssetId, u128); 2]>;

/// Checks that the rows of a transaction, one per `txn.row_ops()` in that order, move exactly what it
/// says, and neither more nor less of any asset than that.
///
/// # Errors
/// What is wrong, with the transaction's id.
pub fn check_conservation(txn: &Txn, rows: &[Row]) -> Result<(), Violation> {
    let mut moved = Moved::new();
    let mut ops = txn.row_ops();
    for row in rows {
        let Some(op) = ops.next() else {
            return Err(miscounted(txn, rows.len()));
        };
        let Some(before) = total(row.before).filter(|_| op.apply(row.before) == Some(row.after))
        else {
            return Err(wrong_row(txn, op, row));
        };
        // Within bounds: the operation led to it.
        let after = row.after.available.get().wrapping_add(row.after.held.get());
        add(&mut moved, op.key.asset, after.wrapping_sub(before));
    }
    if ops.next().is_some() {
        return Err(miscounted(txn, rows.len()));
    }
    let change = supply_change(txn);
    let recorded = |asset| match change {
        Some((Side::Credit, to)) if to.asset == asset => to.amount.get(),
        Some((_, from)) if from.asset == asset => from.amount.get().wrapping_neg(),
        _ => 0,
    };
    match moved.iter().find(|(asset, sum)| *sum != recorded(*asset)) {
        None => Ok(()),
        Some((asset, sum)) => Err(unbalanced(txn, *asset, *sum)),
    }
}

/// What a transaction adds to an asset's supply ([`Side::Credit`]) or takes from it
/// ([`Side::Debit`]); `None` if it leaves it as it is.
#[inline]
pub fn supply_change(txn: &Txn) -> Option<(Side, &Transfer)> {
    match &txn.command {
        Command::Deposit(to) => Some((Side::Credit, to)),
        Command::Resolve(resolve) if resolve.action == Action::Confirm => {
            match txn.hold().map(|hold| &hold.purpose) {
                Some(Purpose::Withdrawal(from)) => Some((Side::Debit, from)),
                _ => None,
            }
        }
        _ => None,
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
    let ops = txn.row_ops().count();
    Violation(format!("request {} has {ops} operations but {rows} rows", txn.id))
}

#[cold]
fn wrong_row(txn: &Txn, op: Op, row: &Row) -> Violation {
    let Op { key, side, amount, .. } = op;
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
    use crate::request::{Hold, Request, Resolve, Swap};
    use crate::types::{AccountId, Amount, CommitSeq, Leg, RequestId, Time, Token};

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
    }

    /// A withdrawal of 4, or its end.
    fn withdrawal(action: Option<Action>) -> Txn {
        let Some(action) = action else { return txn(Command::Withdraw(transfer(4))) };
        let token = Token::of(RequestId::new(9));
        let mut txn = txn(Command::Resolve(Resolve { token, action }));
        let hold = Hold {
            token,
            purpose: Purpose::Withdrawal(transfer(4)),
            exclusive: false,
            expires_at: Time::NEVER,
            since: CommitSeq::new(1),
        };
        txn.attach(Box::new(hold), 1);
        txn
    }

    #[test]
    fn what_is_held_is_checked_as_what_is_available() {
        let balance = |available, held| Balance {
            available: Amount::new(available),
            held: Amount::new(held),
        };
        let free = balance(10, 3);
        let (held, gone) = (balance(6, 7), balance(6, 3));
        for (action, before, after) in [
            (None, free, held),
            (Some(Action::Confirm), held, gone),
            (Some(Action::Cancel), held, free),
        ] {
            let txn = withdrawal(action);
            assert_eq!(check_conservation(&txn, &[Row { before, after }]), Ok(()), "{action:?}");
            for wrong in [free, held, gone].into_iter().filter(|it| *it != after) {
                let row = Row { before, after: wrong };
                check_conservation(&txn, &[row]).expect_err("another operation");
            }
            for (available, held) in [(1, 0), (0, 1), (1, -1), (-1, 1)] {
                let mut row = Row { before, after };
                let off = |amount: Amount, by| Amount::new(amount.get().wrapping_add_signed(by));
                row.after.available = off(row.after.available, available);
                row.after.held = off(row.after.held, held);
                check_conservation(&txn, &[row]).expect_err("a unit is off");
            }
        }
        let change = |action| supply_change(&withdrawal(action)).map(|(side, _)| side);
        assert_eq!(change(None), None);
        assert_eq!(change(Some(Action::Confirm)), Some(Side::Debit));
        assert_eq!(change(Some(Action::Cancel)), None);
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
