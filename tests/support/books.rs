//! The oracle's markets: one [`Market`] each that never stops, and who has which order in it.
//!
//! What a command would be refused for is found on a copy, so asking changes nothing. What settled
//! is played in the order of the seqs, and must come to the same to the unit, but for places: they
//! have gaps, and begin again after a restart. Whose turn it is the trades show.

use std::collections::BTreeMap;
use std::fmt;

use crosslatch::error::OrderFault;
use crosslatch::market::order::{
    Ended, Kind, Lots, NewOrder, OrderId, Owner, Price, Refusal, Side, TimeInForce,
};
use crosslatch::market::{Declined, Market, MarketSpec, OpenOrder, Settlement, Standing};
use crosslatch::request::{AmendOrder, Command, OrderType, PlaceOrder, Stands};
use crosslatch::types::{AccountId, Amount, BalanceKey, MarketId, RequestId};

/// An order that stood at some time.
struct Placed {
    market: MarketId,
    id: OrderId,
    account: AccountId,
    /// How it stood, in the order of that; empty if it never did.
    states: Vec<OpenOrder>,
    is_open: bool,
}

/// All markets.
#[derive(Default)]
pub struct Books {
    /// Each, and whether it is halted.
    markets: Vec<(Market, bool)>,
    orders: BTreeMap<RequestId, Placed>,
    /// Open orders by their owners' names for them.
    names: BTreeMap<(AccountId, Box<str>), RequestId>,
    orders_max: u32,
}

/// What is reserved for a command before its market sees it.
pub struct Needs {
    /// Of what.
    pub pays: BalanceKey,
    pub units: u128,
    /// What must be linked beside.
    pub receives: BalanceKey,
}

/// A market's orders in priority, and the price of its last trade: what survives a restart. Without
/// places, and without the time at which an order ends, if it does by itself.
pub type Standings = Vec<(Vec<OpenOrder>, Option<Price>)>;

/// The same of markets, whoever has them.
pub fn standings<'a>(markets: impl IntoIterator<Item = &'a Market>) -> Standings {
    let of = |market: &Market| {
        let orders = market.orders().map(|mut open| {
            open.state.place = 0;
            open.ends_at = open.ends_at.map(|_| 0);
            open
        });
        (orders.collect(), market.last_price())
    };
    markets.into_iter().map(of).collect()
}

impl fmt::Debug for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, placed) = (self.open().count(), self.placed().count());
        write!(f, "{open} open of {placed}: {:?}", self.standings())
    }
}

impl Books {
    pub fn new(orders_max: u32) -> Self {
        Self { orders_max, ..Self::default() }
    }

    /// The set-up of the market of that name.
    pub fn named(&self, name: &str) -> Option<&MarketSpec> {
        self.markets.iter().map(|(market, _)| market.spec()).find(|spec| *spec.name == *name)
    }

    /// Creates a market, if there is none of that name.
    pub fn put(&mut self, spec: &MarketSpec) {
        if self.named(&spec.name).is_none() {
            let id = MarketId::new(self.markets.len() as u32);
            self.markets.push((Market::new(id, spec.clone(), self.orders_max, None), false));
        }
    }

    pub fn exists(&self, market: MarketId) -> bool {
        (market.get() as usize) < self.markets.len()
    }

    pub fn switch(&mut self, market: MarketId, halted: bool) {
        self.markets[market.get() as usize].1 = halted;
    }

    fn market(&self, market: MarketId) -> &Market {
        &self.markets[market.get() as usize].0
    }

    /// An order that stands.
    /// Whose order of that id is open.
    pub fn owner(&self, order: RequestId) -> Option<AccountId> {
        self.open_order(order).map(|(placed, _)| placed.account)
    }

    fn open_order(&self, order: RequestId) -> Option<(&Placed, &Market)> {
        let placed = self.orders.get(&order).filter(|placed| placed.is_open)?;
        Some((placed, self.market(placed.market)))
    }

    pub fn standings(&self) -> Standings {
        standings(self.markets.iter().map(|(market, _)| market))
    }

    /// Whose orders stand where, and whether they end by themselves.
    pub fn open(&self) -> impl Iterator<Item = (AccountId, MarketId, bool)> + '_ {
        let open = self.orders.values().filter(|placed| placed.is_open);
        open.map(|placed| {
            let ends = placed.states.last().expect("it stands").ends_at.is_some();
            (placed.account, placed.market, ends)
        })
    }

    /// Every order that was placed: whose it is, and whether it stands.
    pub fn placed(&self) -> impl Iterator<Item = (AccountId, RequestId, bool)> + '_ {
        let orders = self.orders.iter();
        orders.map(|(order, placed)| (placed.account, *order, placed.is_open))
    }

    /// What orders have set aside.
    pub fn held(&self) -> impl Iterator<Item = (BalanceKey, u128)> + '_ {
        self.markets.iter().flat_map(|(market, _)| {
            market.orders().map(|open| {
                let (spec, state) = (market.spec(), open.state);
                let key = BalanceKey { account: open.account, asset: spec.pays(open.side) };
                (key, spec.held(open.side, state.price, state.left, state.carry))
            })
        })
    }

    /// What is reserved for a command in the present state; `None` for nothing.
    pub fn needs(&self, command: &Command) -> Option<Needs> {
        let (spec, account, side, units) = match command {
            Command::Order(order) if self.exists(order.market) => {
                let spec = self.market(order.market).spec();
                let units = spec.reserve(&new_order(spec, order).ok()?)?;
                (spec, order.account, order.side, units)
            }
            Command::Amend(amend) => {
                let (placed, market) = self.open_order(amend.order)?;
                let open = market.order(placed.id).expect("it stands");
                let units = cost(market.spec(), &open, amend).filter(|units| *units > 0)?;
                (market.spec(), placed.account, open.side, units)
            }
            _ => return None,
        };
        let key = |asset| BalanceKey { account, asset };
        Some(Needs { pays: key(spec.pays(side)), units, receives: key(spec.receives(side)) })
    }

    /// What an amendment would have cost at any time at which the order stood.
    pub fn costs(&self, amend: &AmendOrder) -> Vec<(BalanceKey, u128)> {
        let Some(placed) = self.orders.get(&amend.order) else { return Vec::new() };
        let spec = self.market(placed.market).spec();
        let at = |open: &OpenOrder| {
            let key = BalanceKey { account: open.account, asset: spec.pays(open.side) };
            cost(spec, open, amend).map(|units| (key, units))
        };
        placed.states.iter().filter_map(at).collect()
    }

    /// Whether a fault of an amendment is about its market, while its order does not stand: it may be
    /// on its way into the book, or out of it.
    pub fn is_about_set_up(&self, amend: &AmendOrder, fault: &OrderFault) -> bool {
        let halted = |market: &MarketId| self.markets[market.get() as usize].1;
        let now = match fault {
            OrderFault::Tick { .. } | OrderFault::Lot { .. } => true,
            OrderFault::Halted(market) => halted(market),
            _ => false,
        };
        now && self.open_order(amend.order).is_none()
    }

    /// Whether that was so, now that the order is known.
    pub fn breaks_set_up(&self, amend: &AmendOrder, fault: &OrderFault) -> bool {
        let Some(placed) = self.orders.get(&amend.order) else { return false };
        match fault {
            OrderFault::Halted(market) => *market == placed.market,
            fault => {
                amended(self.market(placed.market).spec(), amend).err().as_ref() == Some(fault)
            }
        }
    }

    /// What is wrong with a market's command in the present state; all of it.
    pub fn faults(&self, command: &Command) -> Vec<OrderFault> {
        match command {
            Command::Order(order) if !self.exists(order.market) => {
                vec![OrderFault::UnknownMarket(order.market)]
            }
            Command::Order(order) => self.faults_of_order(order),
            Command::CancelAll { market, .. } | Command::SwitchMarket { market, .. } => {
                let unknown = !self.exists(*market);
                unknown.then_some(OrderFault::UnknownMarket(*market)).into_iter().collect()
            }
            Command::Cancel(order) | Command::ExpireOrder(order) => {
                let unknown = self.open_order(*order).is_none();
                unknown.then_some(OrderFault::UnknownOrder(*order)).into_iter().collect()
            }
            Command::Amend(amend) => self.faults_of_amendment(amend),
            _ => Vec::new(),
        }
    }

    fn faults_of_order(&self, order: &PlaceOrder) -> Vec<OrderFault> {
        let mut faults = Vec::new();
        let (market, halted) = &self.markets[order.market.get() as usize];
        if *halted {
            faults.push(OrderFault::Halted(order.market));
        }
        if let Some(other) = self.names.get(&(order.account, order.client_order_id.clone())) {
            faults.push(OrderFault::DuplicateClientId(*other));
        }
        let new = match new_order(market.spec(), order) {
            Ok(new) if market.spec().reserve(&new).is_none() => Err(OrderFault::TooLarge),
            new => new,
        };
        match new {
            Err(fault) => faults.push(fault),
            Ok(new) => {
                let placed = self.copy(order.market).place(RequestId::new(0), new);
                faults.extend(placed.err().map(|why| self.fault(market.spec(), &why)));
            }
        }
        faults
    }

    fn faults_of_amendment(&self, amend: &AmendOrder) -> Vec<OrderFault> {
        let Some((placed, market)) = self.open_order(amend.order) else {
            return vec![OrderFault::UnknownOrder(amend.order)];
        };
        let mut faults = Vec::new();
        if self.markets[placed.market.get() as usize].1 {
            faults.push(OrderFault::Halted(placed.market));
        }
        match amended(market.spec(), amend) {
            Err(fault) => faults.push(fault),
            Ok((price, lots)) => {
                // In a copy, its number is its place.
                let mut copy = self.copy(placed.market);
                let id = market.order(placed.id).expect("it stands").state.place;
                let done = copy.amend(OrderId(id), price, lots, u128::MAX);
                faults.extend(done.err().map(|why| self.fault(market.spec(), &why)));
            }
        }
        faults
    }

    /// A market in the same state.
    fn copy(&self, id: MarketId) -> Market {
        let market = self.market(id);
        let mut open: Vec<OpenOrder> = market.orders().collect();
        open.sort_by_key(|open| open.state.place);
        let spec = market.spec().clone();
        let mut copy = Market::new(id, spec, self.orders_max, market.last_price());
        for open in open {
            copy.restore(&open).expect("it stands");
        }
        copy
    }

    fn fault(&self, spec: &MarketSpec, declined: &Declined) -> OrderFault {
        match declined {
            Declined::Book(Refusal::WouldTake) => OrderFault::WouldTake,
            Declined::Book(Refusal::Full) => OrderFault::TooMany { max: self.orders_max.into() },
            Declined::OutOfBand { low, high } => OrderFault::OutOfBand { low: low.0, high: high.0 },
            Declined::TooSmall => OrderFault::TooSmall { min_notional: spec.min_notional },
            Declined::FilledAlready { filled } => {
                OrderFault::FilledAlready { filled: Amount::new(spec.base_units(*filled)) }
            }
            other => unreachable!("a market does not say so: {other:?}"),
        }
    }

    /// Plays a command that settled.
    pub fn play(&mut self, request: RequestId, command: &Command) -> Settlement {
        let number = match command {
            Command::Order(order) => order.market,
            Command::CancelAll { market, .. } => *market,
            Command::Amend(AmendOrder { order, .. })
            | Command::Cancel(order)
            | Command::ExpireOrder(order) => self.orders[order].market,
            other => unreachable!("no market's: {}", other.kind()),
        };
        let market = &mut self.markets[number.get() as usize].0;
        let id_of = |order: &RequestId| self.orders[order].id;
        let settlement = match command {
            Command::Order(order) => {
                let new = new_order(market.spec(), order).expect("it settled");
                let (id, settlement) = market.place(request, new).expect("it settled");
                let (market, account) = (order.market, order.account);
                let placed = Placed { market, id, account, states: Vec::new(), is_open: false };
                assert!(self.orders.insert(request, placed).is_none(), "placed twice: {request}");
                settlement
            }
            Command::Amend(amend) => {
                let (price, lots) = amended(market.spec(), amend).expect("it settled");
                market.amend(id_of(&amend.order), price, lots, u128::MAX).expect("it settled")
            }
            Command::Cancel(order) => {
                market.cancel(id_of(order), Ended::Canceled).expect("it settled")
            }
            Command::ExpireOrder(order) => {
                market.cancel(id_of(order), Ended::Expired).expect("it settled")
            }
            Command::CancelAll { account, .. } => market.cancel_all(*account),
            other => unreachable!("no market's: {}", other.kind()),
        };
        self.follow(request, command, &settlement);
        settlement
    }

    /// Keeps what is known of orders.
    fn follow(&mut self, request: RequestId, command: &Command, settlement: &Settlement) {
        for update in &settlement.orders {
            let market = &self.markets[settlement.market.get() as usize].0;
            let placed = self.orders.get_mut(&update.order).expect("it was placed");
            let open = market.order(placed.id);
            placed.is_open = open.is_some();
            assert_eq!(placed.is_open, update.standing == Standing::Open, "{update:?}");
            placed.states.extend(open);
            match command {
                Command::Order(order)
                    if update.order == request
                        && placed.is_open
                        && !order.client_order_id.is_empty() =>
                {
                    let name = (order.account, order.client_order_id.clone());
                    assert_eq!(self.names.insert(name, request), None, "named twice");
                }
                _ if !placed.is_open => self.names.retain(|_, named| *named != update.order),
                _ => {}
            }
        }
    }
}

/// An order as a book takes it, in units of lots; its time is left to the engine.
fn new_order(spec: &MarketSpec, order: &PlaceOrder) -> Result<NewOrder, OrderFault> {
    let price = match (order.price, order.side) {
        (Some(price), _) => on_tick(spec, price)?,
        (None, Side::Buy) => Price(u64::MAX / spec.tick_size * spec.tick_size),
        (None, Side::Sell) => Price(spec.tick_size),
    };
    let lots = order.quantity.map_or(Ok(Lots(u64::MAX)), |quantity| in_lots(spec, quantity))?;
    Ok(NewOrder {
        id: OrderId(0),
        owner: Owner(order.account.get()),
        side: order.side,
        price,
        lots,
        kind: match order.order_type {
            OrderType::Limit => Kind::Limit,
            OrderType::PostOnly => Kind::PostOnly,
            OrderType::Market => Kind::Market { funds: order.funds.map(Amount::get) },
        },
        time_in_force: match order.stands {
            Stands::Gtc => TimeInForce::Gtc,
            Stands::Gtd { .. } => TimeInForce::Gtd { ends_at: u64::MAX },
            Stands::Ioc => TimeInForce::Ioc,
            Stands::Fok => TimeInForce::Fok,
        },
        self_trade: order.self_trade,
    })
}

fn amended(
    spec: &MarketSpec,
    amend: &AmendOrder,
) -> Result<(Option<Price>, Option<Lots>), OrderFault> {
    let price = amend.price.map(|price| on_tick(spec, price)).transpose()?;
    Ok((price, amend.quantity.map(|quantity| in_lots(spec, quantity)).transpose()?))
}

fn on_tick(spec: &MarketSpec, price: Price) -> Result<Price, OrderFault> {
    let tick_size = spec.tick_size;
    if price.0.is_multiple_of(tick_size) { Ok(price) } else { Err(OrderFault::Tick { tick_size }) }
}

fn in_lots(spec: &MarketSpec, quantity: Amount) -> Result<Lots, OrderFault> {
    let (lot, fault) = (u128::from(spec.lot_size), OrderFault::Lot { lot_size: spec.lot_size });
    if !quantity.get().is_multiple_of(lot) {
        return Err(fault);
    }
    u64::try_from(quantity.get() / lot).map(Lots).map_err(|_| fault)
}

/// What an amendment needs beyond what the order has set aside; `None` if it is refused before that.
fn cost(spec: &MarketSpec, open: &OpenOrder, amend: &AmendOrder) -> Option<u128> {
    let (price, lots) = amended(spec, amend).ok()?;
    let state = open.state;
    let left = match lots {
        None => state.left,
        Some(lots) => Lots(lots.0.checked_sub(state.filled.0).filter(|left| *left > 0)?),
    };
    let price = price.unwrap_or(state.price);
    let has = spec.held(open.side, state.price, state.left, state.carry);
    let needs = spec.held_at_most(open.side, price, left, state.carry);
    Some(needs.unwrap_or(u128::MAX).saturating_sub(has))
}

/// What was settled, but for places.
pub fn without_places(settlement: &Settlement) -> Settlement {
    let mut settlement = settlement.clone();
    settlement.orders.iter_mut().for_each(|update| update.state.place = 0);
    settlement
}
