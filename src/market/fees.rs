//! Fees, to the unit: what a fill costs beside its price, and what an order must have set aside.
//!
//! A fee is a rate in basis points (1/10,000) of what moves in the quote asset. An order is charged the
//! sum of its fills' fees rounded up once, not each fill rounded up: what earlier fills were charged too
//! much by rounding counts for later ones. That part is the order's *carry*, in ten-thousandths
//! of a unit, always below one unit. So charges are never in the payer's favour, and what an order may
//! ever be charged is known when it comes, however many fills it takes.
//!
//! With `up(x)` for rounding up and an order that pays at most `rate` for `notional`:
//! `charge(n1) + charge(n2) = up((n1 + n2) × rate)`. What it needs at most is therefore that of all it
//! may spend at the worst of the rates that may apply, and what a resting order needs shrinks by
//! exactly what its fills cost.
//!
//! A rebate is a negative rate. It is rounded down, fill by fill, and is never more than the other party is
//! charged for the same fill if the two rates add up to no less than zero: a charge is above
//! `notional × rate − 1`, and whole.

/// Basis points in one.
pub const BPS: u128 = 10_000;

/// What is charged for moving `notional` units at `rate_bps`, and the carry afterwards.
///
/// `carry`: what was charged too much so far, in ten-thousandths of a unit, below 10,000.
///
/// # Panics
/// If the rate is above 10,000, or the carry too large.
pub fn charge(notional: u128, rate_bps: u16, carry: u16) -> (u128, u16) {
    let (rate, before) = (u128::from(rate_bps), u128::from(carry));
    assert!(rate <= BPS && before < BPS);
    // In two parts, so that nothing exceeds 128 bits.
    let rest = notional % BPS * rate;
    let (whole, part) = (notional / BPS * rate + rest / BPS, rest % BPS);
    let (charged, carry) =
        if part > before { (whole + 1, before + BPS - part) } else { (whole, before - part) };
    (charged, carry as u16)
}

/// What is given for moving `notional` units at a rebate of `rate_bps`.
///
/// # Panics
/// If the rate is above 10,000.
pub fn rebate(notional: u128, rate_bps: u16) -> u128 {
    let rate = u128::from(rate_bps);
    assert!(rate <= BPS);
    notional / BPS * rate + notional % BPS * rate / BPS
}

/// What `notional` units and the fee on them come to; `None` above 128 bits.
pub fn with_fee(notional: u128, rate_bps: u16, carry: u16) -> Option<u128> {
    notional.checked_add(charge(notional, rate_bps, carry).0)
}

/// The most that can be moved if it and the fee on it must not exceed `funds`.
pub fn without_fee(funds: u128, rate_bps: u16) -> u128 {
    let whole = BPS + u128::from(rate_bps);
    funds / whole * BPS + funds % whole * BPS / whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fills_are_charged_what_the_whole_is(
            fills in prop::collection::vec((0..1u128 << 100, 0..=10_000u16), 1..20),
        ) {
            let (mut carry, mut charged, mut owed) = (0, 0u128, 0u128);
            for (notional, rate) in fills {
                let (amount, next) = charge(notional, rate, carry);
                charged += amount;
                owed += notional * u128::from(rate);
                carry = next;
                prop_assert_eq!(charged, owed.div_ceil(BPS));
                prop_assert_eq!(u128::from(carry), charged * BPS - owed);
            }
        }

        #[test]
        fn what_rests_shrinks_by_what_fills_cost(
            first in 0..1u128 << 120, second in 0..1u128 << 120, rate in 0..=10_000u16,
            carry in 0..10_000u16,
        ) {
            let whole = with_fee(first + second, rate, carry).unwrap();
            let (fee, carry) = charge(first, rate, carry);
            prop_assert_eq!(whole - first - fee, with_fee(second, rate, carry).unwrap());
        }

        #[test]
        fn a_rebate_is_no_more_than_the_charge(
            notional in 0..u128::MAX, rate in 0..=10_000u16, less in 0..=10_000u16,
            carry in 0..10_000u16,
        ) {
            let (charged, _) = charge(notional, rate, carry);
            prop_assert!(rebate(notional, rate.saturating_sub(less)) <= charged);
        }

        #[test]
        fn funds_pay_for_just_so_much(funds in 0..u128::MAX >> 1, rate in 0..=10_000u16) {
            let notional = without_fee(funds, rate);
            prop_assert!(with_fee(notional, rate, 0).unwrap() <= funds);
            prop_assert!(with_fee(notional + 1, rate, 0).unwrap() > funds);
        }
    }

    #[test]
    fn nothing_overflows_at_the_edge() {
        assert_eq!(charge(u128::MAX, 10_000, 0), (u128::MAX, 0));
        assert_eq!(charge(u128::MAX, 0, 9_999), (0, 9_999));
        assert_eq!(with_fee(u128::MAX, 1, 0), None);
        assert_eq!(rebate(u128::MAX, 10_000), u128::MAX);
    }
}
