//! Those who wait for one balance, and the sums they look at.
//!
//! Who takes from the balance waits for funds. Only the first in a queue is looked at: the others
//! depend on it. It may count the undecided credits of earlier requests, so the queue keeps apart
//! those of later ones.
//!
//! Who takes nothing waits only for transactions that read the balance: it is *blocked* until the
//! last of them is decided. Its credit is counted like one that is granted.
//!
//! ```text
//! credits granted:   c1   c2        c3   c4
//! who waits:                w1 (head)       w2
//! w1 may count c1 and c2; c3 and c4 are later. When w2 is first, all four are earlier.
//! ```

use std::collections::VecDeque;

use crate::message::TxnRef;
use crate::shard::slots::SlotOp;
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

    /// Whether it is nothing.
    pub(super) fn is_zero(self) -> bool {
        self == Self::default()
    }

    pub(super) fn is_below(self, amount: Amount) -> bool {
        self.high == 0 && self.low() < amount.get()
    }
}

/// One that wants to take from the balance.
pub(super) type Waiter = (TxnRef, SlotOp);

/// Who waits for one balance, in the order of their requests.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiters: VecDeque<Waiter>,
    /// Undecided credits of requests later than the head, in their order.
    later: VecDeque<(TxnRef, Amount)>,
    later_sum: Wide,
    /// Those who need no funds.
    blocked: Vec<TxnRef>,
}

impl Queue {
    /// Joins at the end.
    pub(super) fn push(&mut self, at: TxnRef, op: SlotOp) {
        assert!(self.waiters.back().is_none_or(|(last, _)| *last < at), "requests come in order");
        self.waiters.push_back((at, op));
    }

    /// Waits for the readers alone.
    pub(super) fn block(&mut self, at: TxnRef) {
        assert!(self.blocked.last().is_none_or(|last| *last < at), "requests come in order");
        self.blocked.push(at);
    }

    /// Whether nobody waits any more.
    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty() && self.blocked.is_empty()
    }

    /// The first of those who need funds.
    pub(super) fn head(&self) -> Option<Waiter> {
        self.waiters.front().copied()
    }

    /// Takes the head away.
    pub(super) fn pop(&mut self) {
        self.waiters.pop_front();
        self.forget_earlier();
    }

    /// Takes all away who wait for the readers alone, in their order.
    pub(super) fn unblock(&mut self) -> Vec<TxnRef> {
        std::mem::take(&mut self.blocked)
    }

    /// Takes a request away wherever it stands, if it does.
    pub(super) fn leave(&mut self, at: TxnRef) {
        if let Ok(place) = self.waiters.binary_search_by_key(&at, |(waiter, _)| *waiter) {
            self.waiters.remove(place);
            self.forget_earlier();
        } else if let Ok(place) = self.blocked.binary_search(&at) {
            self.blocked.remove(place);
        }
    }

    /// Credits before the head need not be told apart any more: without a head, all of them.
    fn forget_earlier(&mut self) {
        let head = self.head().map(|(head, _)| head);
        let is_earlier = |at| head.is_none_or(|head| at < head);
        while let Some((_, amount)) = self.later.front().copied().filter(|(at, _)| is_earlier(*at))
        {
            self.later.pop_front();
            self.later_sum.sub(amount);
        }
    }

    /// A credit comes to be counted while somebody waits here.
    pub(super) fn credit_granted(&mut self, at: TxnRef, amount: Amount) {
        if self.waiters.is_empty() {
            return;
        }
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

    /// Those who need funds, in order.
    #[cfg(test)]
    pub(super) fn waiters(&self) -> impl Iterator<Item = &Waiter> {
        self.waiters.iter()
    }

    /// Those who wait for the readers alone, in order.
    #[cfg(test)]
    pub(super) fn blocked(&self) -> &[TxnRef] {
        &self.blocked
    }

    /// The undecided credits that the head may not count.
    pub(super) fn later_credits(&self) -> Wide {
        self.later_sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Side;

    fn at(index: u32) -> TxnRef {
        TxnRef { batch: 0, index }
    }

    fn op() -> SlotOp {
        SlotOp { side: Side::Debit, slot: 0, amount: Amount::new(10) }
    }

    fn first(queue: &Queue) -> Option<TxnRef> {
        queue.head().map(|(head, _)| head)
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
        queue.push(at(2), op());
        queue.credit_granted(at(3), Amount::new(1));
        queue.credit_granted(at(4), Amount::new(2));
        queue.push(at(5), op());
        queue.credit_granted(at(6), Amount::new(4));
        assert_eq!(queue.later_credits(), sum(&[1, 2, 4]));
        queue.credit_decided(at(4));
        queue.credit_decided(at(1));
        assert_eq!(queue.later_credits(), sum(&[1, 4]));
        queue.pop();
        assert_eq!(first(&queue), Some(at(5)));
        assert_eq!(queue.later_credits(), sum(&[4]));
        queue.leave(at(5));
        assert_eq!(first(&queue), None);
    }

    #[test]
    fn credits_before_there_is_a_head_are_earlier_than_the_next() {
        let mut queue = Queue::default();
        queue.block(at(1));
        queue.credit_granted(at(1), Amount::new(1));
        queue.push(at(2), op());
        queue.block(at(3));
        queue.credit_granted(at(3), Amount::new(2));
        assert_eq!(queue.later_credits(), sum(&[2]));
        queue.leave(at(2));
        queue.push(at(4), op());
        assert_eq!(queue.later_credits(), sum(&[]));
        queue.leave(at(1));
        assert_eq!(queue.unblock(), [at(3)]);
        assert!(!queue.is_empty());
        queue.pop();
        assert!(queue.is_empty());
    }
}
