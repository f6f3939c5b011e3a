//! A book as simple as can be: a list of orders a side, in priority, looked through for everything.
//!
//! Written from the rulebook alone. It is slow, copies itself to try a fill-or-kill order, and keeps
//! no number that can be counted from its orders: there is as little as possible that could be wrong.

use crosslatch::market::order::{
    Ended, Event, Kind, Level, Lots, NewOrder, OrderId, Owner, Price, Refusal, Resting, SelfTrade,
    Side, Slot, TimeInForce,
};

#[derive(Clone)]
pub struct Naive {
    tick: Price,
    orders_max: u32,
    /// In priority.
    buys: Vec<(Slot, Resting)>,
    /// In priority.
    sells: Vec<(Slot, Resting)>,
    /// Slots that were given and are free again, the last freed at the end.
    freed: Vec<Slot>,
    /// How many slots were ever given.
    given: u32,
}

/// How far an order that came got.
struct Traded {
    left: Lots,
    /// What ended it, if it was not that nobody is in its reach.
    ended: Option<Ended>,
}

// ---- What anybody may ask.

impl Naive {
    pub fn new(tick: Price, orders_max: u32) -> Self {
        assert!(tick.0 > 0);
        let (buys, sells, freed) = (Vec::new(), Vec::new(), Vec::new());
        Self { tick, orders_max, buys, sells, freed, given: 0 }
    }

    pub fn orders(&self, side: Side) -> impl ExactSizeIterator<Item = (Slot, Resting)> {
        self.side(side).iter().copied()
    }

    pub fn levels(&self, side: Side) -> impl Iterator<Item = (Price, Level)> {
        let levels = self.side(side).chunk_by(|(_, one), (_, next)| one.price == next.price);
        levels.map(|orders| {
            let lots = orders.iter().map(|(_, order)| u128::from(order.lots.0)).sum();
            (orders[0].1.price, Level { lots, orders: orders.len() as u32 })
        })
    }

    pub fn level(&self, side: Side, price: Price) -> Level {
        let found = self.levels(side).find(|(at, _)| *at == price);
        found.map(|(_, level)| level).unwrap_or_default()
    }

    pub fn best(&self, side: Side) -> Option<Price> {
        self.orders(side).next().map(|(_, order)| order.price)
    }

    pub fn order(&self, id: OrderId) -> Option<(Slot, Resting)> {
        self.all().find(|(_, order)| order.id == id)
    }

    pub fn next_expiry(&self) -> Option<u64> {
        self.all().filter_map(|(_, order)| order.ends_at).min()
    }

    pub fn len(&self) -> usize {
        self.buys.len() + self.sells.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn all(&self) -> impl Iterator<Item = (Slot, Resting)> {
        self.orders(Side::Buy).chain(self.orders(Side::Sell))
    }

    fn side(&self, side: Side) -> &Vec<(Slot, Resting)> {
        match side {
            Side::Buy => &self.buys,
            Side::Sell => &self.sells,
        }
    }

    fn side_mut(&mut self, side: Side) -> &mut Vec<(Slot, Resting)> {
        match side {
            Side::Buy => &mut self.buys,
            Side::Sell => &mut self.sells,
        }
    }
}

// ---- Commands.

impl Naive {
    pub fn place(&mut self, order: NewOrder, events: &mut Vec<Event>) -> Result<(), Refusal> {
        let at_once = matches!(order.time_in_force, TimeInForce::Ioc | TimeInForce::Fok);
        self.check_new(order.id)?;
        self.check_numbers(order.price, order.lots)?;
        match order.kind {
            Kind::Market { .. } if !at_once => return Err(Refusal::Contradiction),
            Kind::PostOnly if at_once => return Err(Refusal::Contradiction),
            Kind::Limit | Kind::PostOnly | Kind::Market { .. } => {}
        }
        if !at_once {
            self.check_room()?;
        }
        self.come(&order, events);
        Ok(())
    }

    pub fn cancel(&mut self, id: OrderId, events: &mut Vec<Event>) -> Result<(), Refusal> {
        self.order(id).ok_or(Refusal::Unknown(id))?;
        self.end(id, Ended::Canceled, events);
        Ok(())
    }

    pub fn cancel_all(&mut self, owner: Owner, events: &mut Vec<Event>) {
        let theirs = self.all().filter(|(_, order)| order.owner == owner);
        let ids: Vec<OrderId> = theirs.map(|(_, order)| order.id).collect();
        for id in ids {
            self.end(id, Ended::Canceled, events);
        }
    }

    pub fn amend(
        &mut self,
        id: OrderId,
        price: Price,
        lots: Lots,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let (_, old) = self.order(id).ok_or(Refusal::Unknown(id))?;
        self.check_numbers(price, lots)?;
        if price == old.price && lots <= old.lots {
            if lots < old.lots {
                self.reduce(id, Lots(old.lots.0 - lots.0), events);
            }
            return Ok(());
        }
        if old.post_only && self.in_reach(old.side, price).is_some() {
            return Err(Refusal::WouldTake);
        }
        let (slot, Resting { price: price_before, lots: lots_before, .. }) = self.take_out(id);
        events.push(Event::Moved { id, slot, price: price_before, lots: lots_before });
        self.come(&as_it_came(&old, price, lots), events);
        Ok(())
    }

    pub fn expire(&mut self, now: u64, events: &mut Vec<Event>) {
        let mut over: Vec<(u64, OrderId)> = self
            .all()
            .filter_map(|(_, order)| Some((order.ends_at?, order.id)))
            .filter(|(ends_at, _)| *ends_at <= now)
            .collect();
        over.sort();
        for (_, id) in over {
            self.end(id, Ended::Expired, events);
        }
    }

    pub fn restore(&mut self, order: Resting) -> Result<Slot, Refusal> {
        self.check_new(order.id)?;
        self.check_numbers(order.price, order.lots)?;
        if self.in_reach(order.side, order.price).is_some() {
            return Err(Refusal::WouldTake);
        }
        self.check_room()?;
        Ok(self.stand(order))
    }

    fn check_new(&self, id: OrderId) -> Result<(), Refusal> {
        if self.order(id).is_some() { Err(Refusal::Duplicate(id)) } else { Ok(()) }
    }

    fn check_numbers(&self, price: Price, lots: Lots) -> Result<(), Refusal> {
        if price.0 == 0 || !price.0.is_multiple_of(self.tick.0) {
            return Err(Refusal::Price(price));
        }
        if lots.0 == 0 { Err(Refusal::NoLots) } else { Ok(()) }
    }

    fn check_room(&self) -> Result<(), Refusal> {
        if self.len() < self.orders_max as usize { Ok(()) } else { Err(Refusal::Full) }
    }
}

// ---- An order comes.

impl Naive {
    fn come(&mut self, order: &NewOrder, events: &mut Vec<Event>) {
        let dropped = |lots, why| Event::Dropped { id: order.id, lots, why };
        if order.kind == Kind::PostOnly && self.in_reach(order.side, order.price).is_some() {
            return events.push(dropped(order.lots, Ended::WouldTake));
        }
        if order.time_in_force == TimeInForce::Fok && !self.would_fill(order) {
            return events.push(dropped(order.lots, Ended::Unfilled));
        }
        let Traded { left, ended } = self.trade(order, events);
        let ends_at = match order.time_in_force {
            TimeInForce::Gtc => None,
            TimeInForce::Gtd { ends_at } => Some(ends_at),
            TimeInForce::Ioc | TimeInForce::Fok if left.0 > 0 => {
                return events.push(dropped(left, ended.unwrap_or(Ended::Unfilled)));
            }
            TimeInForce::Ioc | TimeInForce::Fok => return,
        };
        match ended {
            _ if left.0 == 0 => {}
            Some(why) => events.push(dropped(left, why)),
            None => {
                let slot = self.stand(rest_of(order, left, ends_at));
                events.push(Event::Rested { id: order.id, slot, price: order.price, lots: left });
            }
        }
    }

    /// Tries it in a copy. Self-trades that are not trades leave fewer lots filled than it has.
    fn would_fill(&self, order: &NewOrder) -> bool {
        let mut events = Vec::new();
        self.clone().trade(order, &mut events);
        let filled = events.iter().map(|event| match event {
            Event::Filled { lots, .. } => lots.0,
            _ => 0,
        });
        filled.sum::<u64>() == order.lots.0
    }

    fn trade(&mut self, taker: &NewOrder, events: &mut Vec<Event>) -> Traded {
        let mut left = taker.lots;
        let mut funds = match taker.kind {
            Kind::Market { funds } => funds,
            Kind::Limit | Kind::PostOnly => None,
        };
        while left.0 > 0 {
            let Some((slot, maker)) = self.in_reach(taker.side, taker.price) else {
                return Traded { left, ended: None };
            };
            if maker.owner == taker.owner && taker.self_trade != SelfTrade::None {
                left = match self.meet_own(taker, left, &maker, events) {
                    Traded { left, ended: None } => left,
                    over => return over,
                };
                continue;
            }
            let price = u128::from(maker.price.0);
            let paid_for = funds.map_or(u128::MAX, |funds| funds / price);
            let lots = paid_for.min(left.min(maker.lots).0.into()) as u64;
            if lots == 0 {
                return Traded { left, ended: Some(Ended::OutOfFunds) };
            }
            funds = funds.map(|funds| funds - price * u128::from(lots));
            left.0 -= lots;
            events.push(Event::Filled {
                taker: taker.id,
                maker: maker.id,
                slot,
                price: maker.price,
                lots: Lots(lots),
                left: self.shrink(maker.id, Lots(lots)),
            });
        }
        Traded { left, ended: None }
    }

    /// A taker with `left` lots meets an order of its owner, and they may not trade.
    fn meet_own(
        &mut self,
        taker: &NewOrder,
        left: Lots,
        maker: &Resting,
        events: &mut Vec<Event>,
    ) -> Traded {
        let over = Some(Ended::SelfTrade);
        match taker.self_trade {
            SelfTrade::None => unreachable!("they trade"),
            SelfTrade::CancelTaker => Traded { left, ended: over },
            SelfTrade::CancelMaker => {
                self.end(maker.id, Ended::SelfTrade, events);
                Traded { left, ended: None }
            }
            SelfTrade::CancelBoth => {
                self.end(maker.id, Ended::SelfTrade, events);
                Traded { left, ended: over }
            }
            SelfTrade::Decrement => {
                let by = left.min(maker.lots);
                if by == maker.lots {
                    self.end(maker.id, Ended::SelfTrade, events);
                } else {
                    self.reduce(maker.id, by, events);
                }
                let left = Lots(left.0 - by.0);
                events.push(Event::TakerReduced { id: taker.id, by, left });
                Traded { left, ended: None }
            }
        }
    }

    /// Whom an order of that side and price would meet first.
    fn in_reach(&self, side: Side, price: Price) -> Option<(Slot, Resting)> {
        let (_, maker) = self.side(opposite(side)).first()?;
        let meets = match side {
            Side::Buy => maker.price <= price,
            Side::Sell => maker.price >= price,
        };
        meets.then(|| self.side(opposite(side))[0])
    }
}

// ---- Orders that stand.

impl Naive {
    /// Last at its price.
    fn stand(&mut self, order: Resting) -> Slot {
        let slot = self.freed.pop().unwrap_or_else(|| {
            self.given += 1;
            Slot(self.given - 1)
        });
        let is_worse = |other: &Resting| match order.side {
            Side::Buy => other.price < order.price,
            Side::Sell => other.price > order.price,
        };
        let orders = self.side_mut(order.side);
        let place = orders.iter().position(|(_, other)| is_worse(other)).unwrap_or(orders.len());
        orders.insert(place, (slot, order));
        slot
    }

    fn take_out(&mut self, id: OrderId) -> (Slot, Resting) {
        let (_, order) = self.order(id).expect("it stands");
        let orders = self.side_mut(order.side);
        let place = orders.iter().position(|(_, other)| other.id == id).expect("on its side");
        let (slot, order) = orders.remove(place);
        self.freed.push(slot);
        (slot, order)
    }

    fn end(&mut self, id: OrderId, why: Ended, events: &mut Vec<Event>) {
        let (slot, Resting { price, lots, .. }) = self.take_out(id);
        events.push(Event::Removed { id, slot, price, lots, why });
    }

    fn reduce(&mut self, id: OrderId, by: Lots, events: &mut Vec<Event>) {
        let (slot, Resting { price, .. }) = self.order(id).expect("it stands");
        let left = self.shrink(id, by);
        events.push(Event::Reduced { id, slot, price, by, left });
    }

    /// Takes so many lots away from an order, and the order from the book if it has no more.
    fn shrink(&mut self, id: OrderId, by: Lots) -> Lots {
        let (_, order) = self.order(id).expect("it stands");
        let left = Lots(order.lots.0 - by.0);
        if left.0 == 0 {
            self.take_out(id);
        } else {
            let mut orders = self.side_mut(order.side).iter_mut();
            let (_, order) = orders.find(|(_, other)| other.id == id).expect("on its side");
            order.lots = left;
        }
        left
    }
}

fn opposite(side: Side) -> Side {
    match side {
        Side::Buy => Side::Sell,
        Side::Sell => Side::Buy,
    }
}

/// An order that stands, as it would come with another price and quantity.
fn as_it_came(old: &Resting, price: Price, lots: Lots) -> NewOrder {
    NewOrder {
        id: old.id,
        owner: old.owner,
        side: old.side,
        price,
        lots,
        kind: if old.post_only { Kind::PostOnly } else { Kind::Limit },
        time_in_force: old.ends_at.map_or(TimeInForce::Gtc, |ends_at| TimeInForce::Gtd { ends_at }),
        self_trade: old.self_trade,
    }
}

fn rest_of(order: &NewOrder, lots: Lots, ends_at: Option<u64>) -> Resting {
    Resting {
        id: order.id,
        owner: order.owner,
        side: order.side,
        price: order.price,
        lots,
        post_only: order.kind == Kind::PostOnly,
        ends_at,
        self_trade: order.self_trade,
    }
}
