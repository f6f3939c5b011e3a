//! Prices as whole ticks, without a division.
//!
//! A tick is an odd number times a power of two. Modulo 2^64 an odd number has an inverse, so one
//! multiplication and one rotation divide an exact multiple; of anything else they make a number that is
//! larger than any price has ticks (Hacker's Delight, 10-17), so they test it too.

use crate::market::order::Price;

/// A market's tick, prepared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    tick: u64,
    /// Of the odd part of the tick, modulo 2^64.
    inverse: u64,
    /// How often 2 divides the tick.
    twos: u32,
    /// How many ticks the highest price has.
    max: u64,
}

impl Ticks {
    /// `tick` must not be 0.
    pub(super) fn new(tick: Price) -> Self {
        let tick = tick.0;
        assert!(tick > 0, "a market's tick is not 0");
        let twos = tick.trailing_zeros();
        let odd = tick >> twos;
        let mut inverse = odd; // Right to three bits; each step doubles them (Newton).
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        }
        Self { tick, inverse, twos, max: u64::MAX / tick }
    }

    /// How many ticks a price is, or `None` if it is 0 or not a multiple.
    #[inline]
    pub(super) fn of(&self, price: Price) -> Option<u64> {
        let ticks = price.0.wrapping_mul(self.inverse).rotate_right(self.twos);
        (ticks <= self.max && ticks > 0).then_some(ticks)
    }

    /// The price of so many ticks, which must be a price.
    #[inline]
    pub(super) fn price(&self, ticks: u64) -> Price {
        Price(ticks * self.tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_ones_all() {
        for tick in 1..100 {
            let ticks = Ticks::new(Price(tick));
            for price in (0..1_000).chain(u64::MAX - 1_000..=u64::MAX) {
                let exact = price > 0 && price % tick == 0;
                assert_eq!(
                    ticks.of(Price(price)),
                    exact.then(|| price / tick),
                    "{price} by {tick}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn any(tick in 1u64.., shift in 0u32..64, price: u64) {
            let tick = (tick >> shift).max(1);
            let ticks = Ticks::new(Price(tick));
            let exact = price > 0 && price % tick == 0;
            prop_assert_eq!(ticks.of(Price(price)), exact.then(|| price / tick));
            let multiple = price / tick * tick;
            if multiple > 0 {
                prop_assert_eq!(ticks.of(Price(multiple)), Some(price / tick));
                prop_assert_eq!(ticks.price(price / tick), Price(multiple));
            }
        }
    }
}
