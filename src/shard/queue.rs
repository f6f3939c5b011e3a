//! Those who wait for one balance, and the sums they look at.
//!
//! Only the first in a queue is looked at: the others depend on it. It may count the undecided
//! credits of earlier requests, so the queue keeps apart those granted to later ones.
//!
//! ```text
//! credits granted:   c1   c2        c3   c4
//! who waits:                w1 (head)       w2
//! w1 may count c1 and c2; c3 and c4 are later. When w2 is first, all four are earlier.
//! ```

use std::collections::VecDeque;

use crate::message::TxnRef;
use crate::types::Amount;

/// A sum of amounts that cannot overflow: credits are granted before their payer is known to
/// have the funds, so their sum has no cap. 160 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wide {
    /// The low 128 bits in two halves: a `u128` would pad every balance to 16 bytes more.
    low: [u64; 2],
    high: u32,
}

impl Wide {
    fn low(self) -> u128 {
        u128::from(self.low[0]) | u128::from(self.low[1]) << 64
    }

    fn from_parts(low: u128, high: u32) -> Self {
        Self { low: [low as u64, (low >> 64) as u64], high }
    }

    /// `low`, below 2^96, and `high` times 2^96.
    pub(super) fn from_96_bits(low: u128, high: u64) -> Self {
        Self::from_parts(low | u128::from(high as u32) << 96, (high >> 32) as u32)
    }

    pub(super) fn plus(self, amount: Amount) -> Self {
        let (low, carry) = self.low().overflowing_add(amount.get());
        Self::from_parts(low, self.high + u32::from(carry))
    }

    pub(super) fn minus(self, other: Self) -> Self {
        let (low, borrow) = self.low().overflowing_sub(other.low());
        Self::from_parts(low, self.high - other.high - u32::from(borrow))
    }

    pub(super) fn add(&mut self, amount: Amount) {
        *self = self.plus(amount);
    }

    pub(super) fn sub(&mut self, amount: Amount) {
        *self = self.minus(Self::default().plus(amount));
    }

    /// The low 128 bits and what is above them.
    #[cfg(test)]
    pub(super) fn parts(self) -> (u128, u32) {
        (self.low(), self.high)
    }

    pub(super) fn is_below(self, amount: Amount) -> bool {
        self.high == 0 && self.low() < amount.get()
    }
}

/// Debits that wait for one balance, in the order of their requests.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiters: VecDeque<(TxnRef, Amount)>,
    /// Undecided credits granted to requests later than the head, in their order.
    later: VecDeque<(TxnRef, Amount)>,
    later_sum: Wide,
}

impl Queue {
    /// Joins at the end.
    pub(super) fn push(&mut self, at: TxnRef, amount: Amount) {
        assert!(self.waiters.back().is_none_or(|(last, _)| *last < at), "requests come in order");
        self.waiters.push_back((at, amount));
    }

    /// The first in the queue.
    pub(super) fn head(&self) -> Option<(TxnRef, Amount)> {
        self.waiters.front().copied()
    }

    /// Takes the head away.
    pub(super) fn pop(&mut self) {
        self.waiters.pop_front();
        self.forget_earlier();
    }

    /// Takes a request away wherever it stands, if it does.
    pub(super) fn leave(&mut self, at: TxnRef) {
        if let Ok(place) = self.waiters.binary_search_by_key(&at, |(waiter, _)| *waiter) {
            self.waiters.remove(place);
            self.forget_earlier();
        }
    }

    /// Credits before the head need not be told apart any more.
    fn forget_earlier(&mut self) {
        let Some((head, _)) = self.head() else {
            return;
        };
        while let Some((at, amount)) = self.later.front().copied().filter(|(at, _)| *at < head) {
            debug_assert!(at < head);
            self.later.pop_front();
            self.later_sum.sub(amount);
        }
    }

    /// A credit was granted while somebody waits here.
    pub(super) fn credit_granted(&mut self, at: TxnRef, amount: Amount) {
        self.later.push_back((at, amount));
        self.later_sum.add(amount);
    }

    /// A credit granted on this balance was decided, either way.
    pub(super) fn credit_decided(&mut self, at: TxnRef) {
        if let Ok(place) = self.later.binary_search_by_key(&at, |(credit, _)| *credit) {
            let (_, amount) = self.later.remove(place).expect("just found");
            self.later_sum.sub(amount);
        }
    }

    /// Those who wait, in order.
    #[cfg(test)]
    pub(super) fn waiters(&self) -> impl Iterator<Item = &(TxnRef, Amount)> {
        self.waiters.iter()
    }

    /// The undecided credits that the head may not count.
    pub(super) fn later_credits(&self) -> Wide {
        self.later_sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u32) -> TxnRef {
        TxnRef { batch: 0, index }
    }

    fn sum(amounts: &[u128]) -> Wide {
        amounts.iter().fold(Wide::default(), |sum, amount| sum.plus(Amount::new(*amount)))
    }

    #[test]
    fn wide_sums_pass_128_bits_and_come_back() {
        let mut wide = sum(&[u128::MAX, u128::MAX, u128::MAX]);
        assert!(!wide.is_below(Amount::new(u128::MAX)));
        wide.sub(Amount::new(u128::MAX));
        wide.sub(Amount::new(u128::MAX));
        assert_eq!(wide, sum(&[u128::MAX]));
        wide.sub(Amount::new(1));
        assert!(wide.is_below(Amount::new(u128::MAX)));
    }

    #[test]
    fn only_credits_later_than_the_head_are_kept_apart() {
        let mut queue = Queue::default();
        queue.push(at(2), Amount::new(10));
        queue.credit_granted(at(3), Amount::new(1));
        queue.credit_granted(at(4), Amount::new(2));
        queue.push(at(5), Amount::new(10));
        queue.credit_granted(at(6), Amount::new(4));
        assert_eq!(queue.later_credits(), sum(&[1, 2, 4]));
        queue.credit_decided(at(4));
        queue.credit_decided(at(1));
        assert_eq!(queue.later_credits(), sum(&[1, 4]));
        queue.pop();
        assert_eq!(queue.head(), Some((at(5), Amount::new(10))));
        assert_eq!(queue.later_credits(), sum(&[4]));
        queue.leave(at(5));
        assert_eq!(queue.head(), None);
    }
}
