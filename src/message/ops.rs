//! What a request does to balances, one operation each.
//!
//! A swap's legs are movements; netted per balance they are debits and credits. Settled in one go
//! these are the operations; settled in two, the same debits and credits become others:
//!
//! | | debit | credit |
//! |---|---|---|
//! | at once | debit | credit |
//! | prepared | set aside (exclusively: lock) | check |
//! | committed | spend | deliver |
//! | rolled back, expired | release | nothing |
//!
//! What a market's command comes to is netted there, per balance: a gain or a yield of what is
//! available, together with what changes of what is held.

use crate::error::Malformed;
use crate::market::Move;
use crate::types::{AccountId, Amount, Balance, BalanceKey, Leg};

/// What an operation does to a balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Takes from what is available; needs funds.
    Debit,
    /// Adds to what is available; needs an owner who is linked.
    Credit,
    /// Moves from available to held; needs funds.
    SetAside,
    /// The same, and nobody else may take from the balance until the hold is resolved.
    Lock,
    /// Takes from what is held.
    Spend,
    /// Moves from held back to available.
    Release,
    /// Adds to what is available, whoever the owner is: it was checked when the hold was made.
    Deliver,
    /// Needs an owner who is linked; changes nothing, and has no row.
    Check,
    /// Adds to what is available, and changes what is held; needs nothing, as it is all reserved.
    Gain,
    /// Takes from what is available, and changes what is held; needs nothing, as it is all reserved.
    Yield,
}

impl Side {
    /// Whether it changes the balance, and so has a row.
    #[inline]
    pub const fn has_row(self) -> bool {
        !matches!(self, Self::Check)
    }

    /// Whether it takes from what is available, and so needs funds.
    #[inline]
    pub const fn needs_funds(self) -> bool {
        matches!(self, Self::Debit | Self::SetAside | Self::Lock)
    }

    /// Whether it is what a market's command comes to.
    #[inline]
    pub const fn is_of_market(self) -> bool {
        matches!(self, Self::Gain | Self::Yield)
    }
}

/// One request's net effect on one balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// Whose balance, of what.
    pub key: BalanceKey,
    /// What it does.
    pub side: Side,
    /// How much. Zero (always a credit) where a request's legs cancel out on this balance:
    /// the row is still part of the receipt.
    pub amount: Amount,
    /// What a gain or a yield adds to what is held, or takes from it. Zero of all others.
    pub held: i128,
}

impl Op {
    /// An operation that is no market's.
    #[inline]
    pub const fn new(key: BalanceKey, side: Side, amount: Amount) -> Self {
        Self { key, side, amount, held: 0 }
    }

    /// What a market's command does to a balance.
    pub fn of_move(of: &Move) -> Self {
        let side = if of.available < 0 { Side::Yield } else { Side::Gain };
        let amount = Amount::new(of.available.unsigned_abs());
        Self { key: of.key, side, amount, held: of.held }
    }

    /// The balance after it; `None` if a part of it would be negative, or the sum exceed 128 bits.
    #[inline]
    pub fn apply(&self, before: Balance) -> Option<Balance> {
        let Balance { available, held } = before;
        let (available, held) = match self.side {
            Side::Debit => (available.checked_sub(self.amount)?, held),
            Side::Credit | Side::Deliver => (available.checked_add(self.amount)?, held),
            Side::SetAside | Side::Lock => {
                (available.checked_sub(self.amount)?, held.checked_add(self.amount)?)
            }
            Side::Spend => (available, held.checked_sub(self.amount)?),
            Side::Release => (available.checked_add(self.amount)?, held.checked_sub(self.amount)?),
            Side::Check => (available, held),
            Side::Gain => (available.checked_add(self.amount)?, plus(held, self.held)?),
            Side::Yield => (available.checked_sub(self.amount)?, plus(held, self.held)?),
        };
        available.checked_add(held)?;
        Some(Balance { available, held })
    }

    /// The balance before it, from the one after; `None` if it leads there from no balance.
    #[inline]
    pub fn undo(&self, after: Balance) -> Option<Balance> {
        after.available.checked_add(after.held)?;
        let inverse = match self.side {
            Side::Debit => Side::Credit,
            Side::Credit | Side::Deliver => Side::Debit,
            Side::SetAside | Side::Lock => Side::Release,
            Side::Release => Side::SetAside,
            Side::Check => Side::Check,
            Side::Gain | Side::Yield => {
                let available = match self.side {
                    Side::Gain => after.available.checked_sub(self.amount)?,
                    _ => after.available.checked_add(self.amount)?,
                };
                let held = after.held.get();
                let held = match self.held {
                    less @ ..0 => held.checked_add(less.unsigned_abs())?,
                    more => held.checked_sub(more.unsigned_abs())?,
                };
                let held = Amount::new(held);
                available.checked_add(held)?;
                return Some(Balance { available, held });
            }
            Side::Spend => {
                let held = after.held.checked_add(self.amount)?;
                after.available.checked_add(held)?;
                return Some(Balance { available: after.available, held });
            }
        };
        Self { side: inverse, ..*self }.apply(after)
    }
}

fn plus(held: Amount, by: i128) -> Option<Amount> {
    held.get().checked_add_signed(by).map(Amount::new)
}

/// How debits and credits are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// At once.
    Whole,
    /// They are set aside.
    Prepare { exclusive: bool },
    /// What was set aside moves on.
    Commit,
    /// What was set aside goes back.
    Undo,
}

impl Phase {
    /// What a debit or credit comes to; `None` for nothing.
    #[inline]
    const fn side(self, side: Side) -> Option<Side> {
        match (self, side) {
            (Self::Whole, side) => Some(side),
            (Self::Prepare { exclusive: false }, Side::Debit) => Some(Side::SetAside),
            (Self::Prepare { exclusive: true }, Side::Debit) => Some(Side::Lock),
            (Self::Prepare { .. }, _) => Some(Side::Check),
            (Self::Commit, Side::Debit) => Some(Side::Spend),
            (Self::Commit, _) => Some(Side::Deliver),
            (Self::Undo, Side::Debit) => Some(Side::Release),
            (Self::Undo, _) => None,
        }
    }
}

/// Iterator over a transaction's operations.
#[derive(Clone, Debug)]
pub struct Ops<'a> {
    moves: Moves<'a>,
    phase: Phase,
}

impl<'a> Ops<'a> {
    pub(super) fn new(moves: Moves<'a>, phase: Phase) -> Self {
        Self { moves, phase }
    }
}

impl Iterator for Ops<'_> {
    type Item = Op;

    #[inline]
    fn next(&mut self) -> Option<Op> {
        // Nearly always.
        if matches!(self.phase, Phase::Whole) {
            return self.moves.next();
        }
        loop {
            let op = self.moves.next()?;
            if let Some(side) = self.phase.side(op.side) {
                return Some(Op { side, ..op });
            }
        }
    }
}

/// Iterator over debits and credits.
#[derive(Clone, Debug)]
pub(super) enum Moves<'a> {
    /// Straight from the legs: payer, payee, payer, payee.
    Legs {
        /// The legs not begun.
        legs: std::slice::Iter<'a, Leg>,
        /// The second half of the leg begun.
        payee: Option<Op>,
    },
    /// From what was netted.
    Netted(std::slice::Iter<'a, Op>),
    /// Of one balance, or none.
    One(Option<Op>),
    /// What is reserved for an order, and what it checks.
    Two(std::array::IntoIter<Op, 2>),
    /// What a market's command comes to.
    Settled(std::slice::Iter<'a, Move>),
}

impl<'a> Moves<'a> {
    pub(super) fn legs(legs: &'a [Leg]) -> Self {
        Self::Legs { legs: legs.iter(), payee: None }
    }

    #[inline]
    fn next(&mut self) -> Option<Op> {
        match self {
            Self::Legs { legs, payee } => payee.take().or_else(|| {
                let leg = legs.next()?;
                let [payer, payed] = both_sides(leg);
                *payee = Some(payed);
                Some(payer)
            }),
            Self::Netted(ops) => ops.next().copied(),
            Self::One(op) => op.take(),
            Self::Two(ops) => ops.next(),
            Self::Settled(moves) => moves.next().map(Op::of_move),
        }
    }
}

#[inline]
fn both_sides(leg: &Leg) -> [Op; 2] {
    let op = |account: AccountId, side| {
        Op::new(BalanceKey { account, asset: leg.asset }, side, leg.amount)
    };
    [op(leg.from, Side::Debit), op(leg.to, Side::Credit)]
}

/// The netted debits and credits of legs, in the order of their first mention; `None` where no
/// balance is touched twice, and so the legs themselves are what comes of them.
///
/// `field`: the legs' name in the request.
pub(super) fn netted(field: &str, legs: &[Leg]) -> Result<Option<Box<[Op]>>, Malformed> {
    if share_a_balance(legs) { net(field, legs).map(Some) } else { Ok(None) }
}

/// Whether any balance is touched by more than one leg.
fn share_a_balance(legs: &[Leg]) -> bool {
    legs.iter().enumerate().any(|(index, leg)| {
        legs[..index].iter().any(|earlier| {
            earlier.asset == leg.asset
                && (earlier.from == leg.from
                    || earlier.from == leg.to
                    || earlier.to == leg.from
                    || earlier.to == leg.to)
        })
    })
}

/// Nets legs per balance, in the order of first mention.
fn net(field: &str, legs: &[Leg]) -> Result<Box<[Op]>, Malformed> {
    let mut sums: Vec<(BalanceKey, Amount, Amount)> = Vec::with_capacity(legs.len() * 2);
    for (index, op) in legs.iter().flat_map(both_sides).enumerate() {
        let place = sums.iter().position(|(key, ..)| *key == op.key).unwrap_or_else(|| {
            sums.push((op.key, Amount::ZERO, Amount::ZERO));
            sums.len() - 1
        });
        let (_, debits, credits) = &mut sums[place];
        let sum = if op.side == Side::Debit { debits } else { credits };
        *sum = sum.checked_add(op.amount).ok_or_else(|| {
            let field = format!("{field}[{}].amount", index / 2);
            Malformed::new(field, "brings the sum on one balance above 128 bits")
        })?;
    }
    let ops: Box<[Op]> = sums.into_iter().map(|(key, out, into)| net_op(key, out, into)).collect();
    if ops.iter().all(|op| op.amount == Amount::ZERO) {
        return Err(Malformed::new(field, "cancel each other out; nothing would move"));
    }
    Ok(ops)
}

fn net_op(key: BalanceKey, debits: Amount, credits: Amount) -> Op {
    match debits.checked_sub(credits) {
        Some(rest) if rest > Amount::ZERO => Op::new(key, Side::Debit, rest),
        _ => {
            let rest = credits.checked_sub(debits).expect("debits are no more than credits");
            Op::new(key, Side::Credit, rest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::AssetId;

    const SIDES: [Side; 8] = [
        Side::Debit,
        Side::Credit,
        Side::SetAside,
        Side::Lock,
        Side::Spend,
        Side::Release,
        Side::Deliver,
        Side::Check,
    ];

    fn balance(available: u128, held: u128) -> Balance {
        Balance { available: Amount::new(available), held: Amount::new(held) }
    }

    #[test]
    fn what_is_done_can_be_undone() {
        let key = BalanceKey { account: AccountId::new(1), asset: AssetId::new(0) };
        let before = balance(10, 7);
        for side in SIDES {
            let op = Op::new(key, side, Amount::new(5));
            let after = op.apply(before).unwrap();
            assert_eq!(op.undo(after), Some(before), "{side:?}");
            assert_eq!(after != before, side.has_row(), "{side:?}");
        }
    }

    #[test]
    fn nothing_goes_below_zero_or_above_128_bits() {
        let key = BalanceKey { account: AccountId::new(1), asset: AssetId::new(0) };
        let (poor, rich) = (balance(4, 4), balance(u128::MAX - 8, 4));
        for side in SIDES {
            let op = Op::new(key, side, Amount::new(5));
            let adds = matches!(side, Side::Credit | Side::Deliver | Side::Check);
            assert_eq!(op.apply(poor).is_some(), adds, "{side:?}");
            let grows = matches!(side, Side::Credit | Side::Deliver);
            let takes_held = matches!(side, Side::Spend | Side::Release);
            assert_eq!(op.apply(rich).is_none(), grows || takes_held, "{side:?}");
        }
    }

    #[test]
    fn nothing_leads_above_128_bits() {
        let key = BalanceKey { account: AccountId::new(1), asset: AssetId::new(0) };
        for side in SIDES {
            let op = Op::new(key, side, Amount::new(5));
            assert_eq!(op.undo(balance(u128::MAX, 1)), None, "{side:?}");
        }
    }
}
