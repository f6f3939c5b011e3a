//! Whole numbers of 256 bits, added as one adds on paper: digit by digit, with a carry.

use std::cmp::Ordering;

const DIGITS: usize = 8;

/// A sum; digits of 32 bits, the lowest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wide([u32; DIGITS]);

impl Wide {
    pub fn of(number: u128) -> Self {
        let mut digits = [0; DIGITS];
        for (place, digit) in digits.iter_mut().take(4).enumerate() {
            *digit = (number >> (32 * place)) as u32;
        }
        Self(digits)
    }

    pub fn plus(self, other: Self) -> Self {
        let (mut digits, mut carry) = ([0; DIGITS], 0);
        for (place, digit) in digits.iter_mut().enumerate() {
            let sum = u64::from(self.0[place]) + u64::from(other.0[place]) + carry;
            (*digit, carry) = (sum as u32, sum >> 32);
        }
        assert_eq!(carry, 0, "far below 256 bits");
        Self(digits)
    }

    /// `None` below zero.
    pub fn minus(self, other: Self) -> Option<Self> {
        let (mut digits, mut borrow) = ([0; DIGITS], 0);
        for (place, digit) in digits.iter_mut().enumerate() {
            let rest = i64::from(self.0[place]) - i64::from(other.0[place]) - borrow;
            (*digit, borrow) = (rest.rem_euclid(1 << 32) as u32, i64::from(rest < 0));
        }
        (borrow == 0).then_some(Self(digits))
    }

    pub fn times(self, factor: u32) -> Self {
        let (mut digits, mut carry) = ([0; DIGITS], 0);
        for (place, digit) in digits.iter_mut().enumerate() {
            let product = u64::from(self.0[place]) * u64::from(factor) + carry;
            (*digit, carry) = (product as u32, product >> 32);
        }
        assert_eq!(carry, 0, "far below 256 bits");
        Self(digits)
    }

    /// `None` above 128 bits.
    pub fn get(self) -> Option<u128> {
        let high = self.0[4..].iter().all(|digit| *digit == 0);
        let low = self.0[..4].iter().rev().fold(0, |sum, digit| sum << 32 | u128::from(*digit));
        high.then_some(low)
    }

    /// What decimal digits say.
    pub fn parse(digits: &str) -> Self {
        digits.bytes().fold(Self::default(), |sum, digit| {
            sum.times(10).plus(Self::of(u128::from(digit - b'0')))
        })
    }

    pub fn sum(numbers: impl IntoIterator<Item = u128>) -> Self {
        numbers.into_iter().fold(Self::default(), |sum, number| sum.plus(Self::of(number)))
    }
}

impl Ord for Wide {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl PartialOrd for Wide {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[test]
fn it_adds_as_on_paper() {
    let max = Wide::of(u128::MAX);
    assert_eq!(max.plus(Wide::of(1)).get(), None);
    assert_eq!(max.plus(Wide::of(1)).minus(Wide::of(1)), Some(max));
    assert_eq!(max.plus(max), max.times(2));
    assert_eq!(max.minus(max.plus(Wide::of(1))), None);
    assert!(max < max.plus(Wide::of(1)) && Wide::of(1 << 32) > Wide::of(5));
    assert_eq!(Wide::parse("340282366920938463463374607431768211455"), max);
    assert_eq!(Wide::sum([u128::MAX, 1, 2]).minus(max), Some(Wide::of(3)));
}
