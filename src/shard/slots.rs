//! Balances with what is granted on them, by slot number: a cache line each.
//!
//! A shard reads each balance of an operation twice, in no order that a processor could guess: the
//! lines that it waits for are what a swap costs. So what nearly every operation needs is in 64
//! bytes, and what few balances have (something held, a lock, a reader, a sum of credits above 96
//! bits) stands aside, behind a mark.
//!
//! Invariants
//! * Granted debits never exceed what is available.
//! * Every sum is exact: nothing wraps, nothing is rounded.
//! * What is granted and undecided can be told from nothing, also where it amounts to zero.

use hashbrown::HashMap;

use crate::message::{Op, Side};
use crate::shard::queue::Wide;
use crate::types::{AccountId, Amount, AssetId, Balance, BalanceKey, CommitSeq, Token};

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
/// `silent` has an entry.
const SILENT: u8 = 16;
/// A [`Side::Lock`] is granted and undecided: it is all of `debits`.
const LOCKING: u8 = 32;
/// `locks` has an entry: an exclusive hold stands.
const LOCKED: u8 = 64;
/// `readers` has an entry.
const READ: u8 = 128;

/// Each of these keeps others from taking what is available.
const NO_DEBITS: u8 = CONTENDED | LOCKING | LOCKED | READ;

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
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// What is set aside by holds, where it is not zero.
    held: HashMap<u32, Amount>,
    /// What a sum of credits has above its low bits, where it is not zero.
    credits_high: HashMap<u32, u64>,
    /// How many operations are granted that no sum shows: spends, and credits of nothing.
    silent: HashMap<u32, u32>,
    /// The exclusive holds that stand.
    locks: HashMap<u32, Token>,
    /// How many undecided transactions read the balance, and so keep everybody else from it.
    readers: HashMap<u32, u32>,
    /// How much of a balance may be set aside: percent of available and held together.
    held_share_max_percent: u8,
}

/// One request's net effect on one balance of this shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotOp {
    /// What it does.
    pub(super) side: Side,
    /// The number of the balance, or [`NO_SLOT`].
    pub(super) slot: u32,
    /// How much.
    pub(super) amount: Amount,
}

/// No number: of a balance that does not exist and is not created by asking.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// Whether the operation adds to what is available.
#[inline]
pub(super) const fn adds(side: Side) -> bool {
    matches!(side, Side::Credit | Side::Deliver | Side::Release | Side::Gain)
}

impl Slots {
    /// No balances. See [`crate::config::Limits::held_share_max_percent`].
    pub(super) fn new(held_share_max_percent: u8) -> Self {
        Self {
            slots: Vec::new(),
            held: HashMap::new(),
            credits_high: HashMap::new(),
            silent: HashMap::new(),
            locks: HashMap::new(),
            readers: HashMap::new(),
            held_share_max_percent,
        }
    }

    /// Adds an empty balance and returns its number.
    pub(super) fn push(&mut self, key: BalanceKey, linked: bool) -> u32 {
        let number = u32::try_from(self.slots.len()).expect("fewer than 2^32 balances a shard");
        assert!(number != NO_SLOT, "one number is no balance's");
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
        self.set_held(number, balance.held);
    }

    fn set_held(&mut self, number: u32, held: Amount) {
        let any = held > Amount::ZERO;
        self.slots[number as usize].mark(HELD, any);
        if any {
            self.held.insert(number, held);
        } else {
            self.held.remove(&number);
        }
    }

    #[inline]
    fn get(&self, number: u32) -> &Slot {
        &self.slots[number as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Brings these balances near, all at once: that of one does not wait for that of another, as it
    /// would if something were decided on between. Numbers that are none are passed over.
    #[inline]
    pub(super) fn touch(&self, numbers: impl Iterator<Item = u32>) {
        let mut sum = 0_u8;
        for number in numbers {
            sum ^= self.slots.get(number as usize).map_or(0, |slot| slot.marks);
        }
        std::hint::black_box(sum);
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
    fn held(&self, number: u32) -> Amount {
        if self.get(number).is(HELD) { self.held[&number] } else { Amount::ZERO }
    }

    #[inline]
    pub(super) fn balance(&self, number: u32) -> Balance {
        Balance { available: self.get(number).available, held: self.held(number) }
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

    /// Whether an undecided transaction reads the balance.
    #[inline]
    pub(super) fn is_read(&self, number: u32) -> bool {
        self.get(number).is(READ)
    }

    /// A transaction that reads the balance was granted.
    pub(super) fn add_reader(&mut self, number: u32) {
        *self.readers.entry(number).or_default() += 1;
        self.slots[number as usize].mark(READ, true);
    }

    /// A transaction that reads the balance was decided.
    pub(super) fn remove_reader(&mut self, number: u32) {
        self.slots[number as usize].mark(READ, take_one(&mut self.readers, number));
    }

    /// The exclusive hold that stands on the balance.
    #[inline]
    pub(super) fn locked_by(&self, number: u32) -> Option<Token> {
        self.get(number).is(LOCKED).then(|| self.locks[&number])
    }

    /// The exclusive hold stands from now on.
    pub(super) fn lock(&mut self, number: u32, token: Token) {
        self.slots[number as usize].mark(LOCKED, true);
        let other = self.locks.insert(number, token);
        assert_eq!(other, None, "nobody sets aside from a locked balance");
    }

    /// A hold is no more: neither is its lock, if it is the one that has it.
    pub(super) fn unlock(&mut self, number: u32, token: Token) {
        if self.locked_by(number) == Some(token) {
            self.locks.remove(&number);
            self.slots[number as usize].mark(LOCKED, false);
        }
    }

    /// Whether anything is granted or waited for, so that the balance may be about to change.
    /// Readers change nothing.
    pub(super) fn is_undecided(&self, number: u32) -> bool {
        let slot = self.get(number);
        slot.debits > Amount::ZERO || slot.low() > 0 || slot.is(WIDE | SILENT | CONTENDED | LOCKING)
    }

    /// Granted, undecided debits.
    pub(super) fn debits(&self, number: u32) -> Amount {
        self.get(number).debits
    }

    /// What is there whatever the undecided requests turn out to be.
    #[inline]
    fn certain(slot: &Slot) -> Amount {
        slot.available.checked_sub(slot.debits).expect("grants never exceed what is available")
    }

    /// Whether an operation can be granted at once: enough is certain, and nobody is before it.
    #[inline]
    pub(super) fn can_grant(&self, op: &SlotOp) -> bool {
        let slot = self.get(op.slot);
        match op.side {
            Side::Debit => {
                slot.marks & (LINKED | NO_DEBITS) == LINKED && Self::certain(slot) >= op.amount
            }
            Side::Credit => slot.marks & (LINKED | READ) == LINKED,
            _ => self.can_grant_rare(op),
        }
    }

    /// The same, of holds.
    #[cold]
    fn can_grant_rare(&self, op: &SlotOp) -> bool {
        let slot = self.get(op.slot);
        match op.side {
            Side::Debit | Side::Credit => unreachable!("no hold's"),
            Side::SetAside | Side::Lock => {
                slot.marks & (LINKED | NO_DEBITS) == LINKED && self.can_set_aside(op)
            }
            Side::Spend | Side::Release | Side::Deliver | Side::Gain | Side::Yield => {
                !slot.is(READ)
            }
            Side::Check => slot.is(LINKED),
        }
    }

    /// Whether the first in a queue can be granted: enough is certain.
    pub(super) fn can_grant_head(&self, op: &SlotOp) -> bool {
        let slot = self.get(op.slot);
        if slot.is(LOCKING | LOCKED | READ) {
            return false;
        }
        match op.side {
            Side::Debit => Self::certain(slot) >= op.amount,
            _ => self.can_set_aside(op),
        }
    }

    fn can_set_aside(&self, op: &SlotOp) -> bool {
        let slot = self.get(op.slot);
        Self::certain(slot) >= op.amount
            && (op.side != Side::Lock || slot.debits == Amount::ZERO)
            && !self.exceeds_share(op)
    }

    /// Whether more than may be could be set aside if the operation happened, whatever else does:
    /// at worst every granted debit sets aside as well, and takes away.
    pub(super) fn exceeds_share(&self, op: &SlotOp) -> bool {
        let percent = self.held_share_max_percent;
        if percent >= 100 || !matches!(op.side, Side::SetAside | Side::Lock) {
            return false;
        }
        let (slot, held) = (self.get(op.slot), self.held(op.slot));
        let set_aside = held.checked_add(slot.debits).expect("both are part of the supply");
        let left = held.checked_add(Self::certain(slot)).expect("both are part of the supply");
        let all = set_aside.checked_add(op.amount);
        all.is_none_or(|all| times(all, 100) > times(left, percent))
    }

    /// See [`crate::config::Limits::held_share_max_percent`].
    pub(super) fn held_share_max_percent(&self) -> u8 {
        self.held_share_max_percent
    }

    /// Granted, undecided credits.
    pub(super) fn credits(&self, number: u32) -> Wide {
        let slot = self.get(number);
        let high = if slot.is(WIDE) { self.credits_high[&number] } else { 0 };
        Wide::from_96_bits(slot.low(), high)
    }

    /// Notes a granted operation.
    #[inline]
    pub(super) fn grant(&mut self, op: &SlotOp) {
        match op.side {
            Side::Debit => self.add_debit(op.amount, op.slot),
            Side::Credit if op.amount > Amount::ZERO => self.add_credit(op.amount, op.slot),
            _ => self.grant_rare(op),
        }
    }

    /// The same, of holds and of nothing.
    #[cold]
    fn grant_rare(&mut self, op: &SlotOp) {
        match op.side {
            Side::Debit | Side::SetAside => self.add_debit(op.amount, op.slot),
            Side::Lock => {
                self.add_debit(op.amount, op.slot);
                self.slots[op.slot as usize].mark(LOCKING, true);
            }
            side if adds(side) && op.amount > Amount::ZERO => {
                self.add_credit(op.amount, op.slot);
            }
            // What a yield takes is reserved by another.
            Side::Credit
            | Side::Deliver
            | Side::Release
            | Side::Spend
            | Side::Gain
            | Side::Yield => self.add_silent(op.slot),
            Side::Check => unreachable!("nothing is granted to a check"),
        }
    }

    #[inline]
    fn add_debit(&mut self, amount: Amount, number: u32) {
        let slot = &mut self.slots[number as usize];
        let debits = slot.debits.checked_add(amount);
        slot.debits = debits.expect("grants are within what is available");
        assert!(slot.debits <= slot.available, "granted more than there is");
    }

    #[inline]
    fn add_credit(&mut self, amount: Amount, number: u32) {
        let slot = &mut self.slots[number as usize];
        // Both are below 2^96.
        let sum = slot.low() + (amount.get() & LOW_MASK);
        slot.set_low(sum & LOW_MASK);
        let high = (amount.get() >> LOW_BITS) as u64 + (sum >> LOW_BITS) as u64;
        if high != 0 {
            self.raise_high(number, high);
        }
    }

    /// Gives back what was granted to an operation.
    #[inline]
    pub(super) fn release(&mut self, op: &SlotOp) {
        match op.side {
            Side::Debit => self.sub_debit(op.amount, op.slot),
            Side::Credit if op.amount > Amount::ZERO => self.sub_credit(op.amount, op.slot),
            _ => self.release_rare(op),
        }
    }

    /// The same, of holds and of nothing.
    #[cold]
    fn release_rare(&mut self, op: &SlotOp) {
        match op.side {
            Side::Debit | Side::SetAside => self.sub_debit(op.amount, op.slot),
            Side::Lock => {
                self.sub_debit(op.amount, op.slot);
                self.slots[op.slot as usize].mark(LOCKING, false);
            }
            side if adds(side) && op.amount > Amount::ZERO => {
                self.sub_credit(op.amount, op.slot);
            }
            Side::Credit
            | Side::Deliver
            | Side::Release
            | Side::Spend
            | Side::Gain
            | Side::Yield => self.remove_silent(op.slot),
            Side::Check => unreachable!("nothing is granted to a check"),
        }
    }

    #[inline]
    fn sub_debit(&mut self, amount: Amount, number: u32) {
        let slot = &mut self.slots[number as usize];
        slot.debits = slot.debits.checked_sub(amount).expect("was granted");
    }

    #[inline]
    fn sub_credit(&mut self, amount: Amount, number: u32) {
        let slot = &mut self.slots[number as usize];
        let amount_low = amount.get() & LOW_MASK;
        let borrow = slot.low() < amount_low;
        let low = slot.low() + (u128::from(borrow) << LOW_BITS) - amount_low;
        slot.set_low(low);
        let high = (amount.get() >> LOW_BITS) as u64 + u64::from(borrow);
        if high != 0 {
            self.lower_high(number, high);
        }
    }

    /// Carries out a granted operation under the seq given.
    #[inline]
    pub(super) fn settle(&mut self, op: &SlotOp, seq: CommitSeq) {
        self.release(op);
        let slot = &mut self.slots[op.slot as usize];
        let available = match op.side {
            Side::Debit => slot.available.checked_sub(op.amount),
            Side::Credit => slot.available.checked_add(op.amount),
            _ => return self.settle_rare(op, seq),
        };
        slot.available = available.expect("granted, and within the supply cap");
        slot.version = seq;
    }

    /// The same, of holds.
    #[cold]
    fn settle_rare(&mut self, op: &SlotOp, seq: CommitSeq) {
        let SlotOp { side, slot, amount } = *op;
        assert!(!side.is_of_market(), "a slot's operation does not say all of it");
        self.change(slot, &Op::new(self.key(slot), side, amount), seq);
    }

    /// Carries out what a market's command does to a balance; `op` is what was granted to it.
    pub(super) fn settle_move(&mut self, op: &SlotOp, whole: &Op, seq: CommitSeq) {
        self.release(op);
        assert!(whole.side == op.side && whole.key == self.key(op.slot));
        self.change(op.slot, whole, seq);
    }

    fn change(&mut self, number: u32, op: &Op, seq: CommitSeq) {
        let before = self.balance(number);
        let after = op.apply(before).expect("granted, and within the supply cap");
        let slot = &mut self.slots[number as usize];
        slot.available = after.available;
        slot.version = seq;
        assert!(slot.debits <= slot.available, "took what is granted to another");
        if after.held != before.held {
            self.set_held(number, after.held);
        }
    }

    #[cold]
    fn add_silent(&mut self, number: u32) {
        *self.silent.entry(number).or_default() += 1;
        self.slots[number as usize].mark(SILENT, true);
    }

    #[cold]
    fn remove_silent(&mut self, number: u32) {
        self.slots[number as usize].mark(SILENT, take_one(&mut self.silent, number));
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

    /// Whether nothing is granted and nobody waits anywhere. Exclusive holds may stand.
    pub(super) fn are_quiet(&self) -> bool {
        let free = |number| !self.is_undecided(number) && !self.is_read(number);
        self.credits_high.is_empty()
            && self.silent.is_empty()
            && self.readers.is_empty()
            && (0..self.slots.len()).all(|number| free(number as u32))
    }
}

/// Lowers a count; whether anything is left of it.
fn take_one(counts: &mut HashMap<u32, u32>, number: u32) -> bool {
    let count = counts.get_mut(&number).expect("was counted");
    *count -= 1;
    let left = *count > 0;
    if !left {
        counts.remove(&number);
    }
    left
}

/// The product, exactly: what is above 64 bits, and the 64 bits.
fn times(amount: Amount, factor: u8) -> (u128, u64) {
    let (high, low) = (amount.get() >> 64, amount.get() as u64);
    let low = u128::from(low) * u128::from(factor);
    (high * u128::from(factor) + (low >> 64), low as u64)
}

const LOW_MASK: u128 = (1 << LOW_BITS) - 1;

#[cfg(test)]
mod tests;
