//! A market: its book, and what stands behind the orders in it.
//!
//! ```text
//! place ─► Book ─► events ─► who pays whom, fees, what is set aside, what goes back ─► Settlement
//! ```
//!
//! Whoever calls has seen to it that what an order may come to pay ([`MarketSpec::reserve`]) is there and
//! stays there until the settlement is carried out; what the settlement takes is never more. Everything
//! else that it moves has been set aside by orders that stand in the book. So a settlement needs no
//! funds and cannot be refused.
//!
//! Invariants, asserted
//! * What an account has set aside for an order is [`MarketSpec::held`] of it, to the unit.
//! * Per asset, a settlement's moves add up to nothing.
//! * A trade takes from both parties and gives to both, fees included, in one settlement.

use super::fees::{charge, rebate};
use super::order::{
    Ended, Event, Kind, Lots, NewOrder, OrderId, Owner, Price, Refusal, Resting, SelfTrade, Side,
    Slot,
};
use super::settlement::{Moves, signed};
use super::{Book, Fill, MarketSpec, OrderState, OrderUpdate, Settlement, Standing};
use crate::types::{AccountId, AssetId, BalanceKey, MarketId, RequestId};

/// An order that stands in a market, in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOrder {
    /// The request that placed it.
    pub order: RequestId,
    /// Whose it is.
    pub account: AccountId,
    /// Which way.
    pub side: Side,
    /// Whether an amendment must not let it take.
    pub post_only: bool,
    /// When it ends, if it does by itself, in microseconds of logical time.
    pub ends_at: Option<u64>,
    /// What happens if an amendment lets it meet another of its owner.
    pub self_trade: SelfTrade,
    /// What changes while it stands.
    pub state: OrderState,
}

/// Why a market did not do what it was asked. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declined {
    /// The book says no.
    Book(Refusal),
    /// The price is too far from the last trade's.
    OutOfBand {
        /// The lowest that is allowed now.
        low: Price,
        /// The highest.
        high: Price,
    },
    /// The order is worth less than the market's least.
    TooSmall,
    /// As much of the order has traded already as it is to have in all.
    FilledAlready {
        /// So much has.
        filled: Lots,
    },
    /// More must be reserved for the amendment.
    NeedsFunds {
        /// Whose order it is.
        account: AccountId,
        /// Which way it goes.
        side: Side,
        /// How much, in the smallest units of what it pays with.
        units: u128,
    },
}

impl From<Refusal> for Declined {
    fn from(refusal: Refusal) -> Self {
        Self::Book(refusal)
    }
}

/// What is kept about an order, beside what the book knows while it stands there.
#[derive(Clone, Copy, Debug)]
struct Info {
    order: RequestId,
    account: AccountId,
    side: Side,
    filled: Lots,
    notional: u128,
    carry: u16,
    place: u64,
}

/// A book with what stands behind its orders.
pub struct Market {
    id: MarketId,
    spec: MarketSpec,
    book: Book,
    /// By the slot that the book gave an order; of one that is gone until the next gets its slot.
    infos: Vec<Option<Info>>,
    events: Vec<Event>,
    moves: Moves,
    last_price: Option<Price>,
    /// The next order's number and place.
    next: u64,
}

/// An order on its way through the book.
#[derive(Clone, Copy, Debug)]
struct Coming {
    info: Info,
    /// The worst price that it accepts.
    price: Price,
    left: Lots,
    standing: Standing,
}

impl Market {
    /// An empty market, in which at most `orders_max` orders stand. `last_price`: of the last trade.
    pub fn new(id: MarketId, spec: MarketSpec, orders_max: u32, last_price: Option<Price>) -> Self {
        let book = Book::new(Price(spec.tick_size), orders_max);
        let (infos, events, moves) = (Vec::new(), Vec::new(), Moves::default());
        Self { id, spec, book, infos, events, moves, last_price, next: 0 }
    }

    /// Puts back an order that stood here. Orders come in the order of their places.
    ///
    /// # Errors
    /// What the book says.
    ///
    /// # Panics
    /// If an earlier place comes after a later one.
    pub fn restore(&mut self, open: &OpenOrder) -> Result<OrderId, Refusal> {
        let OrderState { price, left, filled, notional, carry, place } = open.state;
        assert!(place >= self.next, "orders come back in the order of their places");
        let id = OrderId(place);
        let slot = self.book.restore(Resting {
            id,
            owner: Owner(open.account.get()),
            side: open.side,
            price,
            lots: left,
            post_only: open.post_only,
            ends_at: open.ends_at,
            self_trade: open.self_trade,
        })?;
        let OpenOrder { order, account, side, .. } = *open;
        self.keep(slot, Info { order, account, side, filled, notional, carry, place });
        self.next = place + 1;
        Ok(id)
    }

    /// Sets the price of the last trade, as it was when the market ended.
    pub fn restore_price(&mut self, price: Price) {
        self.last_price = Some(price);
    }

    /// What it trades, and how.
    pub fn spec(&self) -> &MarketSpec {
        &self.spec
    }

    /// The book, to look at.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// The price of the last trade; `None` before the first.
    pub fn last_price(&self) -> Option<Price> {
        self.last_price
    }

    /// The lowest and the highest price that a limit may have now.
    pub fn band(&self) -> (Price, Price) {
        let (tick, bps) = (self.spec.tick_size, u128::from(self.spec.price_band_bps));
        let highest = u64::MAX / tick * tick;
        let Some(last) = self.last_price.filter(|_| bps > 0) else {
            return (Price(tick), Price(highest));
        };
        let away = u128::from(last.0) * bps / super::fees::BPS;
        let low = u128::from(last.0).saturating_sub(away).max(u128::from(tick));
        let high = (u128::from(last.0) + away).min(u128::from(highest));
        let low = (low as u64).div_ceil(tick) * tick;
        (Price(low), Price(high as u64 / tick * tick))
    }

    /// An order's state while it stands here.
    pub fn order(&self, id: OrderId) -> Option<OpenOrder> {
        let (slot, resting) = self.book.order(id)?;
        Some(self.open_order(slot, &resting))
    }

    /// All orders that stand here: bids and then asks, each in priority.
    pub fn orders(&self) -> impl Iterator<Item = OpenOrder> + '_ {
        let both = self.book.orders(Side::Buy).chain(self.book.orders(Side::Sell));
        both.map(|(slot, resting)| self.open_order(slot, &resting))
    }

    fn open_order(&self, slot: Slot, resting: &Resting) -> OpenOrder {
        let Info { order, account, side, .. } = *self.info(slot);
        let Resting { price, lots, post_only, ends_at, self_trade, .. } = *resting;
        let state = self.info(slot).state(price, lots);
        OpenOrder { order, account, side, post_only, ends_at, self_trade, state }
    }

    /// Places an order, for which what it may come to pay is reserved. Its `id` is given here; it is the
    /// settlement's last update's place. `funds` of a market order are what may be spent, fees included.
    ///
    /// # Errors
    /// Why it is declined. A post-only order that would take is ([`Refusal::WouldTake`]).
    pub fn place(
        &mut self,
        order: RequestId,
        mut new: NewOrder,
    ) -> Result<(OrderId, Settlement), Declined> {
        let (low, high) = self.band();
        match &mut new.kind {
            // It says how far it goes, and the market how far it may.
            Kind::Market { funds } => {
                *funds = funds.map(|funds| self.spec.spendable(funds));
                new.price = match new.side {
                    Side::Buy => new.price.min(high),
                    Side::Sell => new.price.max(low),
                };
            }
            Kind::Limit | Kind::PostOnly if !(low..=high).contains(&new.price) => {
                return Err(Declined::OutOfBand { low, high });
            }
            Kind::Limit | Kind::PostOnly => self.check_worth(new.price, new.lots)?,
        }
        new.id = OrderId(self.next);
        self.events.clear();
        self.book.place(new, &mut self.events)?;
        if matches!(self.events[..], [Event::Dropped { why: Ended::WouldTake, .. }]) {
            return Err(Refusal::WouldTake.into());
        }
        self.next += 1;
        let info = Info {
            order,
            account: AccountId::new(new.owner.0),
            side: new.side,
            filled: Lots(0),
            notional: 0,
            carry: 0,
            place: new.id.0,
        };
        Ok((new.id, self.settle(Some((info, new.price, new.lots)))))
    }

    fn check_worth(&self, price: Price, lots: Lots) -> Result<(), Declined> {
        let worth = MarketSpec::notional(price, lots);
        if worth < self.spec.min_notional { Err(Declined::TooSmall) } else { Ok(()) }
    }

    /// Ends an order that stands here: because somebody asked ([`Ended::Canceled`]), or because its time
    /// is over ([`Ended::Expired`]).
    ///
    /// # Errors
    /// [`Refusal::Unknown`].
    pub fn cancel(&mut self, id: OrderId, why: Ended) -> Result<Settlement, Declined> {
        self.events.clear();
        self.book.cancel(id, &mut self.events)?;
        if let Some(Event::Removed { why: told, .. }) = self.events.first_mut() {
            *told = why;
        }
        Ok(self.settle(None))
    }

    /// Ends all orders of an account that stand here.
    pub fn cancel_all(&mut self, account: AccountId) -> Settlement {
        self.events.clear();
        self.book.cancel_all(Owner(account.get()), &mut self.events);
        self.settle(None)
    }

    /// Ends the orders whose time is over.
    pub fn expire(&mut self, now: u64) -> Settlement {
        self.events.clear();
        self.book.expire(now, &mut self.events);
        self.settle(None)
    }

    /// Amends an order that stands here: a new price, a new quantity that counts what has traded
    /// already, or both. `reserved`: what is reserved for it beyond what the order has set aside.
    ///
    /// # Errors
    /// Why it is declined. [`Declined::NeedsFunds`] says what must be reserved before it is asked again.
    pub fn amend(
        &mut self,
        id: OrderId,
        price: Option<Price>,
        quantity: Option<Lots>,
        reserved: u128,
    ) -> Result<Settlement, Declined> {
        let (slot, resting) = self.book.order(id).ok_or(Refusal::Unknown(id))?;
        let info = *self.info(slot);
        let price = price.unwrap_or(resting.price);
        let left = match quantity {
            None => resting.lots,
            Some(quantity) if quantity > info.filled => Lots(quantity.0 - info.filled.0),
            Some(_) => return Err(Declined::FilledAlready { filled: info.filled }),
        };
        let (low, high) = self.band();
        if price != resting.price && !(low..=high).contains(&price) {
            return Err(Declined::OutOfBand { low, high });
        }
        self.check_worth(price, left)?;
        let has = self.spec.held(resting.side, resting.price, resting.lots, info.carry);
        let needs = self.spec.held_at_most(resting.side, price, left, info.carry);
        let more = needs.unwrap_or(u128::MAX).saturating_sub(has);
        if more > reserved {
            let OpenOrder { account, side, .. } = self.open_order(slot, &resting);
            return Err(Declined::NeedsFunds { account, side, units: more });
        }
        self.events.clear();
        self.book.amend(id, price, left, &mut self.events)?;
        let is_moved = matches!(self.events.first(), Some(Event::Moved { .. }));
        if is_moved {
            // It gives up its place.
            let info = Info { place: self.next, ..info };
            self.next += 1;
            return Ok(self.settle(Some((info, price, left))));
        }
        Ok(self.settle(None))
    }

    fn info(&self, slot: Slot) -> &Info {
        self.infos[slot.0 as usize].as_ref().expect("an order stands there, or did until now")
    }

    fn keep(&mut self, slot: Slot, info: Info) {
        let place = slot.0 as usize;
        if self.infos.len() <= place {
            self.infos.resize(place + 1, None);
        }
        self.infos[place] = Some(info);
    }

    /// What the book's events come to. `coming`: who came, with its price and quantity.
    fn settle(&mut self, coming: Option<(Info, Price, Lots)>) -> Settlement {
        let mut coming = coming.map(|(info, price, left)| Coming {
            info,
            price,
            left,
            standing: Standing::Filled,
        });
        let events = std::mem::take(&mut self.events);
        let (mut fills, mut orders) = (Vec::new(), Vec::new());
        for event in &events {
            match (*event, &mut coming) {
                (Event::Filled { slot, price, lots, left, .. }, Some(taker)) => {
                    let (fill, maker) = self.fill(taker, slot, price, lots, left);
                    fills.push(fill);
                    orders.push(maker);
                }
                (Event::Reduced { slot, price, by, left, .. }, _) => {
                    orders.push(self.reduce(slot, price, by, left));
                }
                (Event::Removed { slot, price, lots, why, .. }, _) => {
                    orders.push(self.remove(slot, price, lots, why));
                }
                (Event::Moved { slot, price, lots, .. }, _) => self.release(slot, price, lots),
                (Event::Rested { slot, price, lots, .. }, Some(taker)) => {
                    self.rest(taker, slot, price, lots);
                }
                (Event::TakerReduced { left, .. }, Some(taker)) => {
                    taker.left = left;
                    taker.standing = Standing::Ended(Ended::SelfTrade);
                }
                (Event::Dropped { why, .. }, Some(taker)) => taker.standing = Standing::Ended(why),
                (event, None) => unreachable!("nobody came: {event:?}"),
            }
        }
        self.events = events;
        let taker_side = coming.as_ref().map(|taker| taker.info.side);
        orders.extend(coming.map(|taker| {
            let (order, account) = (taker.info.order, taker.info.account);
            let state = taker.info.state(taker.price, taker.left);
            OrderUpdate { order, account, state, standing: taker.standing }
        }));
        let settlement = Settlement {
            market: self.id,
            moves: self.moves.finish(),
            taker_side: taker_side.filter(|_| !fills.is_empty()),
            fills: fills.into(),
            orders: orders.into(),
        };
        settlement.assert_balanced();
        settlement
    }

    fn key(&self, account: AccountId, asset: AssetId) -> BalanceKey {
        BalanceKey { account, asset }
    }

    fn pays(&self, info: &Info) -> BalanceKey {
        self.key(info.account, self.spec.pays(info.side))
    }

    /// Two orders trade: base goes one way, quote the other, and fees to the fee account.
    fn fill(
        &mut self,
        taker: &mut Coming,
        slot: Slot,
        price: Price,
        lots: Lots,
        left: Lots,
    ) -> (Fill, OrderUpdate) {
        let notional = MarketSpec::notional(price, lots);
        let mut maker = *self.info(slot);
        let taker_fee = taker.info.trade(lots, notional, self.spec.taker_fee_bps);
        let maker_fee = maker.trade(lots, notional, self.spec.maker_fee_bps);
        self.keep(slot, maker);
        taker.left.0 -= lots.0;
        self.last_price = Some(price);
        let (base, quote) = (self.spec.base_units(lots), signed(notional));
        let of_taker = |asset| BalanceKey { account: taker.info.account, asset };
        let of_maker = |asset| BalanceKey { account: maker.account, asset };
        let MarketSpec { base: base_asset, quote: quote_asset, fee_account, .. } = self.spec;
        let moves = &mut self.moves;
        match taker.info.side {
            Side::Buy => {
                moves.available(of_taker(quote_asset), -(quote + taker_fee));
                moves.available(of_taker(base_asset), signed(base));
                moves.spend(of_maker(base_asset), base);
                moves.available(of_maker(quote_asset), quote - maker_fee);
            }
            Side::Sell => {
                moves.available(of_taker(base_asset), -signed(base));
                moves.available(of_taker(quote_asset), quote - taker_fee);
                // A charge was set aside with the price; a rebate comes on top.
                moves.spend(of_maker(quote_asset), (quote + maker_fee.max(0)).unsigned_abs());
                moves.available(of_maker(quote_asset), -maker_fee.min(0));
                moves.available(of_maker(base_asset), signed(base));
            }
        }
        let fees = BalanceKey { account: fee_account, asset: quote_asset };
        assert!(taker_fee + maker_fee >= 0, "a rebate is paid out of the same trade's fee");
        moves.available(fees, taker_fee + maker_fee);
        let standing = if left == Lots(0) { Standing::Filled } else { Standing::Open };
        let (order, account) = (maker.order, maker.account);
        let fill = Fill { maker: order, account, price, lots, taker_fee, maker_fee };
        (fill, OrderUpdate { order, account, state: maker.state(price, left), standing })
    }

    /// What is left of an order that came stands in the book now.
    fn rest(&mut self, taker: &mut Coming, slot: Slot, price: Price, lots: Lots) {
        let held = self.spec.held(taker.info.side, price, lots, taker.info.carry);
        self.moves.set_aside(self.pays(&taker.info), held);
        self.keep(slot, taker.info);
        taker.standing = Standing::Open;
    }

    fn reduce(&mut self, slot: Slot, price: Price, by: Lots, left: Lots) -> OrderUpdate {
        let info = *self.info(slot);
        let held = |lots| self.spec.held(info.side, price, lots, info.carry);
        let units = held(Lots(left.0 + by.0)) - held(left);
        self.moves.release(self.pays(&info), units);
        let (order, account) = (info.order, info.account);
        OrderUpdate { order, account, state: info.state(price, left), standing: Standing::Open }
    }

    fn remove(&mut self, slot: Slot, price: Price, lots: Lots, why: Ended) -> OrderUpdate {
        self.release(slot, price, lots);
        let info = self.info(slot);
        let (order, account, state) = (info.order, info.account, info.state(price, lots));
        OrderUpdate { order, account, state, standing: Standing::Ended(why) }
    }

    /// All that an order has set aside goes back.
    fn release(&mut self, slot: Slot, price: Price, lots: Lots) {
        let info = *self.info(slot);
        let held = self.spec.held(info.side, price, lots, info.carry);
        self.moves.release(self.pays(&info), held);
    }
}

impl Info {
    fn state(&self, price: Price, left: Lots) -> OrderState {
        let Self { filled, notional, carry, place, .. } = *self;
        OrderState { price, left, filled, notional, carry, place }
    }

    /// Takes in a trade; returns the fee, which is negative for a rebate.
    fn trade(&mut self, lots: Lots, notional: u128, rate_bps: i16) -> i128 {
        self.filled.0 += lots.0;
        self.notional += notional;
        if rate_bps < 0 {
            return -signed(rebate(notional, rate_bps.unsigned_abs()));
        }
        let (fee, carry) = charge(notional, rate_bps.unsigned_abs(), self.carry);
        self.carry = carry;
        signed(fee)
    }
}
