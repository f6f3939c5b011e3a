//! An order book: price-time priority, whole ticks and lots, one market.
//!
//! A pure core: no clock, channel or disk is reachable from here, and the same commands make the same
//! events. What the commands mean stands in [`super::order`].
//!
//! ```text
//!  id ──► Ids ──► slot ──► Orders: 32 bytes each, linked in the order of their coming
//!                              │ level          ▲ head, tail
//!                              ▼                │
//!  price ──► ticks ──► Ladder: the levels of a side, the best at hand
//! ```
//!
//! Invariants
//! * The best bid is below the best ask: whatever could trade has traded.
//! * A level has at least one order, and the sums of its orders' quantities and of the orders.
//! * An order is in the slab, in the list of its level and in the table of ids; if it ends by itself, in the
//!   heap of those as well.
//!
//! Nothing is allocated but to hold more orders, levels or events than ever before.
//!
//! What a command calls is marked to be inlined. The compiler works on a crate in parts, and does not inline
//! from one into another unasked; a command is so short that such calls cost it a seventh, and more where the
//! memory is what it waits for.

mod expiry;
mod ids;
mod ladder;
mod matching;
mod orders;
mod ticks;

use self::expiry::Expiry;
use self::ids::Ids;
use self::ladder::{Ladder, Rung};
use self::matching::Taker;
use self::orders::{NONE, Order, Orders, Terms};
use self::ticks::Ticks;
use super::order::{
    Ended, Event, Kind, Level, Lots, NewOrder, OrderId, Owner, Price, Refusal, Resting, Side, Slot,
    TimeInForce,
};

/// More orders than this cannot be named.
const ORDERS_MAX: u32 = (1 << 31) - 2;

/// An order book of one market.
///
/// Commands say what they changed in events, which they append to the caller's buffer; a refused
/// command changes nothing and appends nothing.
///
/// ```
/// use crosslatch::market::Book;
/// use crosslatch::market::order::*;
///
/// let mut book = Book::new(Price(5), 1_000);
/// let mut events = Vec::new();
/// let ask = NewOrder {
///     id: OrderId(1),
///     owner: Owner(7),
///     side: Side::Sell,
///     price: Price(100),
///     lots: Lots(8),
///     kind: Kind::Limit,
///     time_in_force: TimeInForce::Gtc,
///     self_trade: SelfTrade::CancelTaker,
/// };
/// let bid = NewOrder { id: OrderId(2), owner: Owner(9), side: Side::Buy, price: Price(105), ..ask };
/// book.place(ask, &mut events)?;
/// book.place(NewOrder { lots: Lots(3), ..bid }, &mut events)?;
///
/// let slot = Slot(0);
/// assert_eq!(events, [
///     Event::Rested { id: OrderId(1), slot, price: Price(100), lots: Lots(8) },
///     Event::Filled {
///         taker: OrderId(2),
///         maker: OrderId(1),
///         slot,
///         price: Price(100),
///         lots: Lots(3),
///         left: Lots(5),
///     },
/// ]);
/// assert_eq!(book.best(Side::Sell), Some(Price(100)));
/// assert_eq!(book.level(Side::Sell, Price(100)), Level { lots: 5, orders: 1 });
/// assert_eq!(book.best(Side::Buy), None);
/// # Ok::<(), Refusal>(())
/// ```
#[derive(Debug)]
pub struct Book {
    ticks: Ticks,
    orders_max: u32,
    orders: Orders,
    ids: Ids,
    /// Buys, sells.
    sides: [Ladder; 2],
    expiry: Expiry,
}

impl Book {
    /// An empty book. Prices are multiples of `tick`; at most `orders_max` orders can stand in it (and
    /// at most 2^31 - 2).
    ///
    /// # Panics
    ///
    /// If `tick` is 0.
    pub fn new(tick: Price, orders_max: u32) -> Self {
        Self {
            ticks: Ticks::new(tick),
            orders_max: orders_max.min(ORDERS_MAX),
            orders: Orders::new(),
            ids: Ids::new(),
            sides: [Ladder::new(Side::Buy), Ladder::new(Side::Sell)],
            expiry: Expiry::default(),
        }
    }

    /// An order comes: it trades with those that stand as far as it may, and what is left of it rests or is
    /// dropped.
    ///
    /// # Errors
    ///
    /// In this order: [`Refusal::Duplicate`], [`Refusal::Price`], [`Refusal::NoLots`],
    /// [`Refusal::Contradiction`], [`Refusal::Full`]. Full is a book without room for one more order
    /// before an order comes that may rest, whether it then would or not.
    #[inline]
    pub fn place(&mut self, order: NewOrder, events: &mut Vec<Event>) -> Result<(), Refusal> {
        let (ticks, stay) = self.check(&order)?;
        let taker = Taker {
            id: order.id,
            owner: order.owner,
            side: order.side,
            ticks,
            lots: order.lots.0,
            self_trade: order.self_trade,
            funds: if let Kind::Market { funds } = order.kind { funds } else { None },
        };
        if order.kind == Kind::PostOnly && self.would_take(order.side, ticks) {
            taker.drop_rest(Ended::WouldTake, events);
        } else if order.time_in_force == TimeInForce::Fok && !self.fills(&taker) {
            taker.drop_rest(Ended::Unfilled, events);
        } else {
            self.come(taker, stay, events);
        }
        Ok(())
    }

    /// Takes an order out of the book.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unknown`].
    #[inline]
    pub fn cancel(&mut self, id: OrderId, events: &mut Vec<Event>) -> Result<(), Refusal> {
        let slot = self.find(id).ok_or(Refusal::Unknown(id))?;
        self.remove(slot, Ended::Canceled, events);
        Ok(())
    }

    /// Takes all orders of an owner out of the book: the buys, then the sells, each in priority. Looks at
    /// every order.
    pub fn cancel_all(&mut self, owner: Owner, events: &mut Vec<Event>) {
        for side in [Side::Buy, Side::Sell] {
            let mut level = self.sides[side as usize].best();
            while level != NONE {
                let mut slot = self.sides[side as usize].rung(level).head;
                level = self.sides[side as usize].after(level);
                while slot != NONE {
                    let next = self.orders.get(Slot(slot)).next;
                    if self.orders.owner(Slot(slot)) == owner {
                        self.remove(Slot(slot), Ended::Canceled, events);
                    }
                    slot = next;
                }
            }
        }
    }

    /// Gives an order a price and a quantity that is left of it. It keeps its place if the price is the
    /// same and the quantity no larger; else it comes again.
    ///
    /// # Errors
    ///
    /// In this order: [`Refusal::Unknown`], [`Refusal::Price`], [`Refusal::NoLots`],
    /// [`Refusal::WouldTake`]. The order is then as it was.
    #[inline]
    pub fn amend(
        &mut self,
        id: OrderId,
        price: Price,
        lots: Lots,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let slot = self.find(id).ok_or(Refusal::Unknown(id))?;
        let ticks = self.ticks.of(price).ok_or(Refusal::Price(price))?;
        if lots.0 == 0 {
            return Err(Refusal::NoLots);
        }
        let order = *self.orders.get(slot);
        let side = order.terms.side();
        let ladder = &self.sides[side as usize];
        if ladder.key(ticks) == ladder.rung(order.level).key && lots.0 <= order.lots {
            self.reduce(slot, order.lots - lots.0, events);
            return Ok(());
        }
        let takes = self.would_take(side, ticks);
        if takes && order.terms.post_only() {
            return Err(Refusal::WouldTake);
        }
        let price_old = self.price_of(&order);
        events.push(Event::Moved { id, slot, price: price_old, lots: Lots(order.lots) });
        if takes {
            self.come_again(slot, ticks, lots, events);
        } else {
            self.move_to(slot, ticks, lots, events);
        }
        Ok(())
    }

    /// Takes out of the book what is over at `now`, in the unit of [`TimeInForce::Gtd`].
    pub fn expire(&mut self, now: u64, events: &mut Vec<Event>) {
        while let Some((_, slot)) = self.expiry.first().filter(|(ends_at, _)| *ends_at <= now) {
            self.remove(slot, Ended::Expired, events);
        }
    }

    /// When an order is over by itself next.
    pub fn next_expiry(&self) -> Option<u64> {
        self.expiry.first().map(|(ends_at, _)| ends_at)
    }

    /// Puts an order back that stood in a book: it stands last at its price, and nothing trades. Orders
    /// that are restored in the order of their priority get it again.
    ///
    /// # Errors
    ///
    /// In this order: [`Refusal::Duplicate`], [`Refusal::Price`], [`Refusal::NoLots`],
    /// [`Refusal::WouldTake`] (it cannot have stood beside the others), [`Refusal::Full`].
    pub fn restore(&mut self, order: Resting) -> Result<Slot, Refusal> {
        if self.find(order.id).is_some() {
            return Err(Refusal::Duplicate(order.id));
        }
        let ticks = self.ticks.of(order.price).ok_or(Refusal::Price(order.price))?;
        if order.lots.0 == 0 {
            return Err(Refusal::NoLots);
        }
        if self.would_take(order.side, ticks) {
            return Err(Refusal::WouldTake);
        }
        if self.is_full() {
            return Err(Refusal::Full);
        }
        let ends = order.ends_at.is_some();
        let terms = Terms::new(order.side, order.post_only, ends, order.self_trade);
        let stay = Stay { terms, ends_at: order.ends_at };
        Ok(self.stand(order.id, order.owner, ticks, order.lots.0, stay))
    }

    /// The order of an id that stands in the book, and where.
    pub fn order(&self, id: OrderId) -> Option<(Slot, Resting)> {
        self.find(id).map(|slot| (slot, self.resting(slot)))
    }

    /// The best price of a side.
    pub fn best(&self, side: Side) -> Option<Price> {
        let ladder = &self.sides[side as usize];
        let level = ladder.best();
        (level != NONE).then(|| self.price(ladder, ladder.rung(level)))
    }

    /// What stands at a price.
    pub fn level(&self, side: Side, price: Price) -> Level {
        let ladder = &self.sides[side as usize];
        let level = self.ticks.of(price).map_or(NONE, |ticks| ladder.find(ladder.key(ticks)));
        if level == NONE { Level::default() } else { ladder.rung(level).level() }
    }

    /// The levels of a side, best first.
    pub fn levels(&self, side: Side) -> impl Iterator<Item = (Price, Level)> {
        let ladder = &self.sides[side as usize];
        ladder.levels().map(|rung| (self.price(ladder, rung), rung.level()))
    }

    /// The orders of a side, in priority.
    pub fn orders(&self, side: Side) -> impl Iterator<Item = (Slot, Resting)> {
        let levels = self.sides[side as usize].levels();
        levels.flat_map(|rung| self.queue(rung)).map(|slot| (slot, self.resting(slot)))
    }

    /// How many orders stand in the book.
    pub fn len(&self) -> usize {
        self.orders.len() as usize
    }

    /// Whether no order stands in the book.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How an order stands once it rests.
#[derive(Clone, Copy)]
struct Stay {
    terms: Terms,
    ends_at: Option<u64>,
}

/// What commands have in common.
impl Book {
    /// The price of an order in ticks, and how it stands if it may rest.
    #[inline]
    fn check(&self, order: &NewOrder) -> Result<(u64, Option<Stay>), Refusal> {
        if self.find(order.id).is_some() {
            return Err(Refusal::Duplicate(order.id));
        }
        let ticks = self.ticks.of(order.price).ok_or(Refusal::Price(order.price))?;
        if order.lots.0 == 0 {
            return Err(Refusal::NoLots);
        }
        let (rests, ends_at) = match order.time_in_force {
            TimeInForce::Gtc => (true, None),
            TimeInForce::Gtd { ends_at } => (true, Some(ends_at)),
            TimeInForce::Ioc | TimeInForce::Fok => (false, None),
        };
        let post_only = order.kind == Kind::PostOnly;
        let contradiction = match order.kind {
            Kind::Limit => false,
            Kind::PostOnly => !rests,
            Kind::Market { .. } => rests,
        };
        if contradiction {
            return Err(Refusal::Contradiction);
        }
        if rests && self.is_full() {
            return Err(Refusal::Full);
        }
        let terms = Terms::new(order.side, post_only, ends_at.is_some(), order.self_trade);
        Ok((ticks, rests.then_some(Stay { terms, ends_at })))
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.orders.len() >= self.orders_max
    }

    #[inline]
    fn find(&self, id: OrderId) -> Option<Slot> {
        self.ids.find(id, |slot| self.orders.get(slot).id == id.0)
    }

    /// Whether an order of this price would trade with anybody.
    #[inline]
    fn would_take(&self, side: Side, ticks: u64) -> bool {
        let makers = self.makers(side);
        makers.best_within(makers.key(ticks)) != NONE
    }

    /// An order trades; what is left of it stays if it may.
    #[inline]
    fn come(&mut self, mut taker: Taker, stay: Option<Stay>, events: &mut Vec<Event>) {
        let ended = self.take(&mut taker, events);
        if taker.lots == 0 {
            return;
        }
        match (ended, stay) {
            (Some(why), _) => taker.drop_rest(why, events),
            (None, None) => taker.drop_rest(Ended::Unfilled, events),
            (None, Some(stay)) => {
                let slot = self.stand(taker.id, taker.owner, taker.ticks, taker.lots, stay);
                let (price, lots) = (self.ticks.price(taker.ticks), Lots(taker.lots));
                events.push(Event::Rested { id: taker.id, slot, price, lots });
            }
        }
    }

    /// An order that stands comes again at a price at which it trades.
    fn come_again(&mut self, slot: Slot, ticks: u64, lots: Lots, events: &mut Vec<Event>) {
        let owner = self.orders.owner(slot);
        let terms = self.orders.get(slot).terms;
        let ends_at = terms.ends().then(|| self.expiry.ends_at(slot));
        let order = self.leave(slot);
        let taker = Taker {
            id: OrderId(order.id),
            owner,
            side: terms.side(),
            ticks,
            lots: lots.0,
            self_trade: terms.self_trade(),
            funds: None,
        };
        self.come(taker, Some(Stay { terms, ends_at }), events);
    }

    /// An order that stands comes again at a price at which it does not trade. Its slot would be free, and
    /// then given to it again: it is kept, with what else says that the order stands.
    #[inline]
    fn move_to(&mut self, slot: Slot, ticks: u64, lots: Lots, events: &mut Vec<Event>) {
        let order = *self.orders.get(slot);
        self.unlink(&order);
        self.orders.get_mut(slot).lots = lots.0;
        self.append(slot, order.terms.side(), ticks, lots.0);
        let price = self.ticks.price(ticks);
        events.push(Event::Rested { id: OrderId(order.id), slot, price, lots });
    }

    /// Makes an order smaller where it stands; by nothing, it changes nothing.
    #[inline]
    fn reduce(&mut self, slot: Slot, by: u64, events: &mut Vec<Event>) {
        if by == 0 {
            return;
        }
        let order = self.orders.get_mut(slot);
        order.lots -= by;
        let order = *order;
        self.sides[order.terms.side() as usize].rung_mut(order.level).subtract(by);
        let (id, price) = (OrderId(order.id), self.price_of(&order));
        events.push(Event::Reduced { id, slot, price, by: Lots(by), left: Lots(order.lots) });
    }

    /// An order that stands is over.
    #[inline]
    fn remove(&mut self, slot: Slot, why: Ended, events: &mut Vec<Event>) {
        let price = self.price_of(self.orders.get(slot));
        let order = self.leave(slot);
        let (id, lots) = (OrderId(order.id), Lots(order.lots));
        events.push(Event::Removed { id, slot, price, lots, why });
    }
}

/// Where orders stand.
impl Book {
    /// Lets an order stand, last at its price.
    #[inline]
    fn stand(&mut self, id: OrderId, owner: Owner, ticks: u64, lots: u64, stay: Stay) -> Slot {
        let terms = stay.terms;
        let order = Order { id: id.0, lots, next: NONE, prev: NONE, level: NONE, terms };
        let slot = self.orders.insert(order, owner);
        self.ids.insert(id, slot);
        if let Some(ends_at) = stay.ends_at {
            self.expiry.insert(ends_at, id, slot);
        }
        self.append(slot, terms.side(), ticks, lots);
        slot
    }

    /// Links an order as the last at a price.
    #[inline]
    fn append(&mut self, slot: Slot, side: Side, ticks: u64, lots: u64) {
        let ladder = &mut self.sides[side as usize];
        let level = ladder.find_or_insert(ladder.key(ticks));
        let rung = ladder.rung_mut(level);
        rung.add(lots);
        rung.orders += 1;
        let last = rung.tail;
        rung.tail = slot.0;
        if last == NONE {
            rung.head = slot.0;
        } else {
            self.orders.get_mut(Slot(last)).next = slot.0;
        }
        let order = self.orders.get_mut(slot);
        (order.prev, order.next, order.level) = (last, NONE, level);
    }

    /// Takes an order out of its level's list, and the level away if it was the only one.
    #[inline]
    fn unlink(&mut self, order: &Order) {
        let ladder = &mut self.sides[order.terms.side() as usize];
        let rung = ladder.rung_mut(order.level);
        rung.subtract(order.lots);
        rung.orders -= 1;
        let empty = rung.orders == 0;
        if order.prev == NONE {
            rung.head = order.next;
        } else {
            self.orders.get_mut(Slot(order.prev)).next = order.next;
        }
        if order.next == NONE {
            rung.tail = order.prev;
        } else {
            self.orders.get_mut(Slot(order.next)).prev = order.prev;
        }
        if empty {
            ladder.remove(order.level);
        }
    }

    /// Takes an order out of everything, and returns it as it stood.
    #[inline]
    fn leave(&mut self, slot: Slot) -> Order {
        let order = *self.orders.get(slot);
        self.unlink(&order);
        self.ids.remove(OrderId(order.id), slot);
        if order.terms.ends() {
            self.expiry.remove(slot);
        }
        self.orders.remove(slot);
        order
    }

    /// The slots of a level's orders, in priority.
    fn queue<'a>(&'a self, rung: &Rung) -> impl Iterator<Item = Slot> + use<'a> {
        let name = |slot| (slot != NONE).then_some(Slot(slot));
        std::iter::successors(name(rung.head), move |slot| name(self.orders.get(*slot).next))
    }

    /// The side that a taker trades with.
    #[inline]
    fn makers(&self, taker: Side) -> &Ladder {
        &self.sides[1 - taker as usize]
    }

    #[inline]
    fn price(&self, ladder: &Ladder, rung: &Rung) -> Price {
        self.ticks.price(ladder.ticks(rung.key))
    }

    #[inline]
    fn price_of(&self, order: &Order) -> Price {
        let ladder = &self.sides[order.terms.side() as usize];
        self.price(ladder, ladder.rung(order.level))
    }

    fn resting(&self, slot: Slot) -> Resting {
        let order = self.orders.get(slot);
        Resting {
            id: OrderId(order.id),
            owner: self.orders.owner(slot),
            side: order.terms.side(),
            price: self.price_of(order),
            lots: Lots(order.lots),
            post_only: order.terms.post_only(),
            ends_at: order.terms.ends().then(|| self.expiry.ends_at(slot)),
            self_trade: order.terms.self_trade(),
        }
    }
}
