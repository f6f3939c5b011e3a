//! The orders that stand in a book: a slab.
//!
//! What every operation needs of an order is 32 bytes, two in a cache line; its owner, whom only a
//! self-trade rule asks for, is kept beside. A slot that is freed is the next that is given, while it is
//! still in the cache; the free slots are a list through the orders themselves.
//!
//! The orders at a price are a list through the slab as well. Whoever leaves it writes to both neighbours,
//! which may be far away, but reads neither, so nothing waits for them. (Queues of slots in cache lines of
//! their own, which touch no neighbour, were slower: the way from an order to its level is then longer.)

use crate::market::order::{Owner, SelfTrade, Side, Slot};

/// As a slot or an index: none.
pub(super) const NONE: u32 = u32::MAX;

/// What an order says about itself that rarely matters, in a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms(u8);

const SELL: u8 = 1;
const POST_ONLY: u8 = 1 << 1;
const ENDS: u8 = 1 << 2;
const SELF_TRADE_SHIFT: u32 = 3;

impl Terms {
    pub(super) fn new(side: Side, post_only: bool, ends: bool, self_trade: SelfTrade) -> Self {
        let side = if side == Side::Sell { SELL } else { 0 };
        let post_only = if post_only { POST_ONLY } else { 0 };
        let ends = if ends { ENDS } else { 0 };
        Self(side | post_only | ends | (self_trade as u8) << SELF_TRADE_SHIFT)
    }

    #[inline]
    pub(super) fn side(self) -> Side {
        if self.0 & SELL == 0 { Side::Buy } else { Side::Sell }
    }

    #[inline]
    pub(super) fn post_only(self) -> bool {
        self.0 & POST_ONLY != 0
    }

    /// Whether the order ends by itself.
    #[inline]
    pub(super) fn ends(self) -> bool {
        self.0 & ENDS != 0
    }

    #[inline]
    pub(super) fn self_trade(self) -> SelfTrade {
        match self.0 >> SELF_TRADE_SHIFT {
            0 => SelfTrade::None,
            1 => SelfTrade::CancelTaker,
            2 => SelfTrade::CancelMaker,
            3 => SelfTrade::CancelBoth,
            _ => SelfTrade::Decrement,
        }
    }
}

/// An order, as its level links it.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Order {
    pub(super) id: u64,
    /// What is left of it.
    pub(super) lots: u64,
    /// Who comes after it at its price; of a free slot, the next free one.
    pub(super) next: u32,
    /// Who comes before it at its price.
    pub(super) prev: u32,
    /// Its price's level, in the ladder of its side.
    pub(super) level: u32,
    pub(super) terms: Terms,
}

/// The slab.
#[derive(Debug)]
pub(super) struct Orders {
    orders: Vec<Order>,
    owners: Vec<Owner>,
    /// The slot freed last.
    free: u32,
    len: u32,
}

impl Orders {
    pub(super) fn new() -> Self {
        Self { orders: Vec::new(), owners: Vec::new(), free: NONE, len: 0 }
    }

    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, slot: Slot) -> &Order {
        &self.orders[slot.0 as usize]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Order {
        &mut self.orders[slot.0 as usize]
    }

    #[inline]
    pub(super) fn owner(&self, slot: Slot) -> Owner {
        self.owners[slot.0 as usize]
    }

    /// Keeps an order in the slot that was freed last, or in the first that nobody had.
    #[inline]
    pub(super) fn insert(&mut self, order: Order, owner: Owner) -> Slot {
        self.len += 1;
        let slot = self.free;
        if slot == NONE {
            self.orders.push(order);
            self.owners.push(owner);
            return Slot(self.orders.len() as u32 - 1);
        }
        let place = &mut self.orders[slot as usize];
        self.free = place.next;
        *place = order;
        self.owners[slot as usize] = owner;
        Slot(slot)
    }

    /// Frees a slot.
    #[inline]
    pub(super) fn remove(&mut self, slot: Slot) {
        self.orders[slot.0 as usize].next = self.free;
        self.free = slot.0;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_orders_fill_a_cache_line() {
        assert_eq!(size_of::<Order>(), 32);
    }

    #[test]
    fn terms_say_what_was_said() {
        use SelfTrade::{CancelBoth, CancelMaker, CancelTaker, Decrement};
        for self_trade in [SelfTrade::None, CancelTaker, CancelMaker, CancelBoth, Decrement] {
            for side in [Side::Buy, Side::Sell] {
                for (post_only, ends) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    let terms = Terms::new(side, post_only, ends, self_trade);
                    assert_eq!(terms.side(), side);
                    assert_eq!((terms.post_only(), terms.ends()), (post_only, ends));
                    assert_eq!(terms.self_trade(), self_trade);
                }
            }
        }
    }

    #[test]
    fn the_slot_freed_last_is_given_first() {
        let terms = Terms::new(Side::Buy, false, false, SelfTrade::None);
        let order = Order { id: 1, lots: 1, next: NONE, prev: NONE, level: 0, terms };
        let mut orders = Orders::new();
        let slots: Vec<u32> = (0..4).map(|_| orders.insert(order, Owner(1)).0).collect();
        assert_eq!(slots, [0, 1, 2, 3]);
        orders.remove(Slot(1));
        orders.remove(Slot(3));
        orders.remove(Slot(0));
        assert_eq!(orders.len(), 1);
        let slots: Vec<u32> = (0..4).map(|_| orders.insert(order, Owner(2)).0).collect();
        assert_eq!(slots, [0, 3, 1, 4]);
        assert_eq!(orders.owner(Slot(2)), Owner(1));
        assert_eq!(orders.owner(Slot(3)), Owner(2));
    }
}
