//! The book that one writes first, to compare with: a `BTreeMap` of prices a side, a `VecDeque` of orders
//! at each, and a `HashMap` from ids to where they are.
//!
//! It plays what the flows need: limit orders, post-only, immediate-or-cancel, cancel, amend, and
//! cancel-taker among an owner's own orders. It writes the same events, but knows no slots.

use std::collections::{BTreeMap, VecDeque};

use crosslatch::market::order::{
    Ended, Event, Kind, Lots, NewOrder, OrderId, Owner, Price, SelfTrade, Side, Slot, TimeInForce,
};
use hashbrown::HashMap;

use crate::flows::{Command, What};

/// It has none.
const SLOT: Slot = Slot(0);

#[derive(Clone, Copy)]
struct Order {
    id: OrderId,
    owner: Owner,
    lots: u64,
    post_only: bool,
}

type Levels = BTreeMap<Price, VecDeque<Order>>;

#[derive(Default)]
pub struct Plain {
    buys: Levels,
    sells: Levels,
    places: HashMap<OrderId, (Side, Price)>,
}

impl Plain {
    pub fn carry_out(&mut self, command: &Command, events: &mut Vec<Event>) {
        let id = OrderId(command.id);
        match command.what {
            What::Cancel => self.cancel(id, events),
            What::Amend => self.amend(id, command.price(), command.lots(), events),
            What::Limit | What::PostOnly | What::Ioc => self.place(command.order(), events),
        }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    fn place(&mut self, new: NewOrder, events: &mut Vec<Event>) {
        if self.places.contains_key(&new.id) || new.price.0 == 0 || new.lots.0 == 0 {
            return;
        }
        let post_only = new.kind == Kind::PostOnly;
        let mut order = Order { id: new.id, owner: new.owner, lots: new.lots.0, post_only };
        if post_only && self.crosses(new.side, new.price) {
            return drop_rest(&order, Ended::WouldTake, events);
        }
        assert_eq!(new.self_trade, SelfTrade::CancelTaker);
        self.take(&mut order, new.side, new.price, new.time_in_force == TimeInForce::Gtc, events);
    }

    /// Trades, and rests or drops what is left.
    fn take(
        &mut self,
        order: &mut Order,
        side: Side,
        price: Price,
        rests: bool,
        events: &mut Vec<Event>,
    ) {
        while order.lots > 0 {
            let Some(at) = self.best_against(side).filter(|at| within(side, *at, price)) else {
                break;
            };
            let levels = if side == Side::Buy { &mut self.sells } else { &mut self.buys };
            let level = levels.get_mut(&at).expect("a level stands at the best price");
            if !trade(order, level, at, &mut self.places, events) {
                return drop_rest(order, Ended::SelfTrade, events);
            }
            if level.is_empty() {
                levels.remove(&at);
            }
        }
        if order.lots > 0 && !rests {
            drop_rest(order, Ended::Unfilled, events);
        } else if order.lots > 0 {
            self.levels(side).entry(price).or_default().push_back(*order);
            self.places.insert(order.id, (side, price));
            let lots = Lots(order.lots);
            events.push(Event::Rested { id: order.id, slot: SLOT, price, lots });
        }
    }

    fn cancel(&mut self, id: OrderId, events: &mut Vec<Event>) {
        let Some((_, price, order)) = self.remove(id) else { return };
        let (lots, why) = (Lots(order.lots), Ended::Canceled);
        events.push(Event::Removed { id, slot: SLOT, price, lots, why });
    }

    fn amend(&mut self, id: OrderId, price: Price, lots: Lots, events: &mut Vec<Event>) {
        let Some((side, at)) = self.places.get(&id).copied() else { return };
        let crosses = self.crosses(side, price);
        let level = self.levels(side).get_mut(&at).expect("it stands there");
        let order = level.iter_mut().find(|it| it.id == id).expect("it stands there");
        if price == at && lots.0 <= order.lots {
            let by = Lots(order.lots - lots.0);
            order.lots = lots.0;
            events.push(Event::Reduced { id, slot: SLOT, price, by, left: lots });
        } else if !(crosses && order.post_only) {
            let (side, price_old, mut order) = self.remove(id).expect("it stands there");
            let lots_old = Lots(order.lots);
            events.push(Event::Moved { id, slot: SLOT, price: price_old, lots: lots_old });
            order.lots = lots.0;
            self.take(&mut order, side, price, true, events);
        }
    }

    fn remove(&mut self, id: OrderId) -> Option<(Side, Price, Order)> {
        let (side, price) = self.places.remove(&id)?;
        let levels = self.levels(side);
        let level = levels.get_mut(&price).expect("it stands there");
        let place = level.iter().position(|it| it.id == id).expect("it stands there");
        let order = level.remove(place).expect("it stands there");
        if level.is_empty() {
            levels.remove(&price);
        }
        Some((side, price, order))
    }

    fn levels(&mut self, side: Side) -> &mut Levels {
        if side == Side::Buy { &mut self.buys } else { &mut self.sells }
    }

    /// The best price that somebody of a side could trade at.
    fn best_against(&self, side: Side) -> Option<Price> {
        match side {
            Side::Buy => self.sells.first_key_value().map(|(price, _)| *price),
            Side::Sell => self.buys.last_key_value().map(|(price, _)| *price),
        }
    }

    fn crosses(&self, side: Side, price: Price) -> bool {
        self.best_against(side).is_some_and(|at| within(side, at, price))
    }
}

/// Whether a taker of this side and price accepts another price.
fn within(side: Side, at: Price, price: Price) -> bool {
    if side == Side::Buy { at <= price } else { at >= price }
}

/// Trades with a level; whether no order of the same owner stopped it.
fn trade(
    taker: &mut Order,
    level: &mut VecDeque<Order>,
    price: Price,
    places: &mut HashMap<OrderId, (Side, Price)>,
    events: &mut Vec<Event>,
) -> bool {
    while let Some(maker) = level.front_mut()
        && taker.lots > 0
    {
        if maker.owner == taker.owner {
            return false;
        }
        let lots = taker.lots.min(maker.lots);
        taker.lots -= lots;
        maker.lots -= lots;
        events.push(Event::Filled {
            taker: taker.id,
            maker: maker.id,
            slot: SLOT,
            price,
            lots: Lots(lots),
            left: Lots(maker.lots),
        });
        if maker.lots == 0 {
            places.remove(&maker.id);
            level.pop_front();
        }
    }
    true
}

fn drop_rest(order: &Order, why: Ended, events: &mut Vec<Event>) {
    events.push(Event::Dropped { id: order.id, lots: Lots(order.lots), why });
}
