//! Balances with what is granted on them, by slot number: a cache line each.
//!
//! A shard reads each balance of an operation twice, in no order that a processor could guess: the
//! lines that it waits for are what a swap costs. So what nearly every operation needs is in 64
//! bytes, and what few balances have (something held, a sum of credits above 96 bits) stands aside.
//!
//! Invariants
//! * Granted debits never exceed what is available.
//! * Every sum is exact: nothing wraps, nothing is rounded.

use hashbrown::HashMap;

use crate::message::{Op, Side};
use crate::shard::queue::Wide;
use crate::types::{AccountId, Amount, AssetId, Balance, BalanceKey, CommitSeq};

/// One balance.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Slot {
    account: AccountId,
    /// The commit_seq that last changed the balance.
    version: CommitSeq,
    available: Amount,
    /// Granted, undecided debits: at most `available`.
    debits: Amount,
    /// Granted, undecided credits: the low 96 bits of their sum. Whoever pays them may yet be found
    /// short, so they have no cap.
    credits_low: [u32; 3],
    /// The asset's number: below [`crate::config::ASSETS_MAX`].
    asset: u16,
    marks: u8,
}

const _: () = assert!(size_of::<Slot>() == 64);
const _: () = assert!(crate::config::ASSETS_MAX - 1 <= u16::MAX as usize);

/// The owner has an address on the asset's chain: spares a lookup per operation.
const LINKED: u8 = 1;
/// Somebody waits here.
const CONTENDED: u8 = 2;
/// `held` has an entry.
const HELD: u8 = 4;
/// `credits_high` has an entry.
const WIDE: u8 = 8;

const LOW_BITS: u32 = 96;

impl Slot {
    fn key(&self) -> BalanceKey {
        BalanceKey { account: self.account, asset: AssetId::new(self.asset.into()) }
    }

    fn low(&self) -> u128 {
        let [a, b, c] = self.credits_low.map(u128::from);
        a | b << 32 | c << 64
    }

    fn set_low(&mut self, low: u128) {
        self.credits_low = [low as u32, (low >> 32) as u32, (low >> 64) as u32];
    }

    fn is(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    fn mark(&mut self, mark: u8, on: bool) {
        self.marks = if on { self.marks | mark } else { self.marks & !mark };
    }
}

/// All balances of a shard. Numbers are given densely and never taken back.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// What is set aside by holds, where it is not zero.
    held: HashMap<u32, Amount>,
    /// What a sum of credits has above its low bits, where it is not zero.
    credits_high: HashMap<u32, u64>,
}

impl Slots {
    /// Adds an empty balance and returns its number.
    pub(super) fn push(&mut self, key: BalanceKey, linked: bool) -> u32 {
        let number = u32::try_from(self.slots.len()).expect("fewer than 2^32 balances a shard");
        assert!(number < u32::MAX, "one number is no balance's");
        self.slots.push(Slot {
            account: key.account,
            version: CommitSeq::default(),
            available: Amount::ZERO,
            debits: Amount::ZERO,
            credits_low: [0; 3],
            asset: u16::try_from(key.asset.get()).expect("ASSETS_MAX fits"),
            marks: if linked { LINKED } else { 0 },
        });
        number
    }

    /// Sets a balance, as recovery found it.
    pub(super) fn restore(&mut self, number: u32, balance: Balance, version: CommitSeq) {
        let slot = &mut self.slots[number as usize];
        slot.available = balance.available;
        slot.version = version;
        slot.mark(HELD, balance.held > Amount::ZERO);
        if balance.held > Amount::ZERO {
            self.held.insert(number, balance.held);
        }
    }

    #[inline]
    fn get(&self, number: u32) -> &Slot {
        &self.slots[number as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    pub(super) fn key(&self, number: u32) -> BalanceKey {
        self.get(number).key()
    }

    pub(super) fn version(&self, number: u32) -> CommitSeq {
        self.get(number).version
    }

    #[inline]
    pub(super) fn available(&self, number: u32) -> Amount {
        self.get(number).available
    }

    #[inline]
    pub(super) fn balance(&self, number: u32) -> Balance {
        let slot = self.get(number);
        let held = if slot.is(HELD) { self.held[&number] } else { Amount::ZERO };
        Balance { available: slot.available, held }
    }

    #[inline]
    pub(super) fn is_linked(&self, number: u32) -> bool {
        self.get(number).is(LINKED)
    }

    pub(super) fn set_linked(&mut self, number: u32, linked: bool) {
        self.slots[number as usize].mark(LINKED, linked);
    }

    /// Whether somebody waits here.
    #[inline]
    pub(super) fn is_contended(&self, number: u32) -> bool {
        self.get(number).is(CONTENDED)
    }

    pub(super) fn set_contended(&mut self, number: u32, contended: bool) {
        self.slots[number as usize].mark(CONTENDED, contended);
    }

    /// What is there whatever the undecided requests turn out to be.
    #[inline]
    pub(super) fn certain(&self, number: u32) -> Amount {
        let slot = self.get(number);
        slot.available.checked_sub(slot.debits).expect("grants never exceed what is available")
    }

    /// Whether an operation can be granted at once: enough is certain, and nobody is before it.
    #[inline]
    pub(super) fn can_grant(&self, op: &Op, number: u32) -> bool {
        let slot = self.get(number);
        slot.is(LINKED)
            && (op.side == Side::Credit || !slot.is(CONTENDED) && self.certain(number) >= op.amount)
    }

    /// Granted, undecided credits.
    pub(super) fn credits(&self, number: u32) -> Wide {
        let slot = self.get(number);
        let high = if slot.is(WIDE) { self.credits_high[&number] } else { 0 };
        Wide::from_96_bits(slot.low(), high)
    }

    /// Notes a granted operation.
    #[inline]
    pub(super) fn grant(&mut self, op: &Op, number: u32) {
        let slot = &mut self.slots[number as usize];
        match op.side {
            Side::Debit => {
                let debits = slot.debits.checked_add(op.amount);
                slot.debits = debits.expect("grants are within what is available");
                assert!(slot.debits <= slot.available, "granted more than there is");
            }
            Side::Credit => {
                // Both are below 2^96.
                let sum = slot.low() + (op.amount.get() & LOW_MASK);
                slot.set_low(sum & LOW_MASK);
                let high = (op.amount.get() >> LOW_BITS) as u64 + (sum >> LOW_BITS) as u64;
                if high != 0 {
                    self.raise_high(number, high);
                }
            }
        }
    }

    /// Gives back what was granted to an operation.
    #[inline]
    pub(super) fn release(&mut self, op: &Op, number: u32) {
        let slot = &mut self.slots[number as usize];
        match op.side {
            Side::Debit => {
                slot.debits = slot.debits.checked_sub(op.amount).expect("was granted");
            }
            Side::Credit => {
                let amount_low = op.amount.get() & LOW_MASK;
                let borrow = slot.low() < amount_low;
                let low = slot.low() + (u128::from(borrow) << LOW_BITS) - amount_low;
                slot.set_low(low);
                let high = (op.amount.get() >> LOW_BITS) as u64 + u64::from(borrow);
                if high != 0 {
                    self.lower_high(number, high);
                }
            }
        }
    }

    /// Carries out a granted operation under the seq given.
    #[inline]
    pub(super) fn settle(&mut self, op: &Op, number: u32, seq: CommitSeq) {
        self.release(op, number);
        let slot = &mut self.slots[number as usize];
        let available = match op.side {
            Side::Debit => slot.available.checked_sub(op.amount),
            Side::Credit => slot.available.checked_add(op.amount),
        };
        slot.available = available.expect("granted, and within the supply cap");
        slot.version = seq;
    }

    #[cold]
    fn raise_high(&mut self, number: u32, by: u64) {
        *self.credits_high.entry(number).or_default() += by;
        self.slots[number as usize].mark(WIDE, true);
    }

    #[cold]
    fn lower_high(&mut self, number: u32, by: u64) {
        let high = self.credits_high.get_mut(&number).expect("was granted");
        *high -= by;
        if *high == 0 {
            self.credits_high.remove(&number);
            self.slots[number as usize].mark(WIDE, false);
        }
    }

    /// Whether nothing is granted and nobody waits anywhere.
    pub(super) fn are_quiet(&self) -> bool {
        let free = |slot: &Slot| {
            slot.debits == Amount::ZERO && slot.low() == 0 && !slot.is(WIDE | CONTENDED)
        };
        self.credits_high.is_empty() && self.slots.iter().all(free)
    }

    /// Granted, undecided debits.
    #[cfg(test)]
    pub(super) fn debits(&self, number: u32) -> Amount {
        self.get(number).debits
    }
}

const LOW_MASK: u128 = (1 << LOW_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn op(side: Side, amount: u128) -> Op {
        let key = BalanceKey { account: AccountId::new(1), asset: AssetId::new(65_535) };
        Op { key, side, amount: Amount::new(amount) }
    }

    fn sum(amounts: &[u128]) -> Wide {
        amounts.iter().fold(Wide::default(), |sum, amount| sum.plus(Amount::new(*amount)))
    }

    #[test]
    fn sums_of_credits_are_exact_at_any_width() {
        let edge = 1 << LOW_BITS;
        let amounts = [1, edge - 1, edge, edge + 1, u128::MAX, u128::MAX, 3, 5 * edge];
        for first in 0..amounts.len() {
            let mut slots = Slots::default();
            let number = slots.push(op(Side::Credit, 0).key, true);
            for (place, amount) in amounts.iter().enumerate() {
                slots.grant(&op(Side::Credit, *amount), number);
                assert_eq!(slots.credits(number), sum(&amounts[..=place]));
            }
            let mut left = amounts.to_vec();
            left.rotate_left(first);
            while let Some(amount) = left.pop() {
                slots.release(&op(Side::Credit, amount), number);
                assert_eq!(slots.credits(number), sum(&left));
            }
            assert!(slots.are_quiet());
        }
    }

    #[test]
    fn marks_do_not_disturb_one_another() {
        let mut slots = Slots::default();
        let number = slots.push(op(Side::Debit, 0).key, false);
        let balance = Balance { available: Amount::new(7), held: Amount::new(3) };
        slots.restore(number, balance, CommitSeq::new(9));
        slots.set_contended(number, true);
        slots.set_linked(number, true);
        slots.set_contended(number, false);
        assert_eq!(slots.balance(number), balance);
        assert_eq!(slots.version(number), CommitSeq::new(9));
        assert!(slots.is_linked(number) && !slots.is_contended(number));
        assert!(slots.can_grant(&op(Side::Debit, 7), number));
        assert!(!slots.can_grant(&op(Side::Debit, 8), number));
    }

    #[test]
    #[should_panic(expected = "granted more than there is")]
    fn more_than_there_is_cannot_be_granted() {
        let mut slots = Slots::default();
        let number = slots.push(op(Side::Debit, 0).key, true);
        slots.grant(&op(Side::Debit, 1), number);
    }
}
