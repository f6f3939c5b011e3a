//! Open orders as rows of the outcomes family, and the price of each market's last trade.
//!
//! An order has two rows: what it is, written when it is placed, and how it stands, written whenever that
//! changes. Both are deleted when it ends. Most orders live for less than a fold: one that was placed
//! and ended within a fold leaves no row and no deletion. Whose orders they are is in rows of their own:
//! see [`super::account_orders`].
//!
//! | row | value |
//! |---|---|
//! | what an order is | the order, with when it ends as its deadline, as a command in the journal |
//! | how it stands | price, left, filled, notional, carry, place: varints |
//! | price of a market's last trade | varint |

use std::cmp::Reverse;
use std::collections::BTreeMap;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::faults::{Bug, planted};
use crate::market::order::{Price, Side};
use crate::market::{OpenOrder, OrderState, OrderUpdate, Settlement, Standing};
use crate::request::{Command, OrderType, PlaceOrder};
use crate::store::account_orders::{self, Placed};
use crate::store::journal::bytes::{Flaw, Reader, Writer};
use crate::store::journal::{Damage, decode_command, encode_command, read_state, write_state};
use crate::store::keys;
use crate::types::{AccountId, CommitSeq, MarketId, RequestId, Time};

/// An order that stands, as its rows have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOrder {
    /// Its market.
    pub market: MarketId,
    /// Itself.
    pub open: OpenOrder,
    /// Its owner's own name for it; may be empty.
    pub client_order_id: Box<str>,
}

/// What a request of a market did to orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traded {
    /// The request.
    pub request: RequestId,
    /// The order that it placed, and when that ends by itself.
    pub placed: Option<(PlaceOrder, Time)>,
    /// What the market made of it.
    pub settlement: Settlement,
}

impl StoredOrder {
    /// The order that a request placed, as it stands.
    pub fn new(order: RequestId, placed: &PlaceOrder, ends_at: Time, state: OrderState) -> Self {
        let open = OpenOrder {
            order,
            account: placed.account,
            side: placed.side,
            post_only: placed.order_type == OrderType::PostOnly,
            ends_at: (ends_at < Time::NEVER).then(|| ends_at.get()),
            self_trade: placed.self_trade,
            state,
        };
        Self { market: placed.market, open, client_order_id: placed.client_order_id.clone() }
    }

    /// Which way it goes.
    pub fn side(&self) -> Side {
        self.open.side
    }
}

/// What became of an order within a fold.
#[derive(Clone, Debug, Default)]
struct Touched {
    /// Whose it is.
    account: AccountId,
    /// When and where it was placed, and the row of what it is, if that was within the fold.
    placed: Option<(Placed, Box<[u8]>)>,
    /// How it stands; `None` once it ended.
    state: Option<OrderState>,
}

/// Takes in what became of orders, in commit_seq order, and yields what that changes of their rows,
/// in the order of the keys. Keep it for the next fold: its buffers stay.
#[derive(Debug, Default)]
pub struct OrderFold {
    touched: HashMap<RequestId, Touched, RandomState>,
    prices: BTreeMap<MarketId, Price>,
    /// Commits with trades.
    trades: Vec<(MarketId, CommitSeq)>,
    /// Every order that was placed.
    placed: Vec<(AccountId, Placed)>,
    /// Open orders of accounts that came, or went where there is nothing with them.
    open: Vec<(AccountId, RequestId, Option<Placed>)>,
    value: Vec<u8>,
}

impl OrderFold {
    /// A fold that has taken in nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what a request did under a seq.
    pub fn add(&mut self, traded: &Traded, seq: CommitSeq) {
        let Traded { request, placed, settlement } = traded;
        for update in &settlement.orders {
            match (placed, update.order == *request) {
                (Some((order, ends_at)), true) => {
                    let market = settlement.market;
                    let placed = Placed { since: seq, order: *request, market };
                    if !(planted(Bug::ForgetPlaced) && request.get().is_multiple_of(5)) {
                        self.placed.push((update.account, placed));
                    }
                    self.place(placed, order, *ends_at, update);
                }
                _ => self.touch(update),
            }
        }
        if let Some(fill) = settlement.fills.last() {
            self.prices.insert(settlement.market, fill.price);
            self.trades.push((settlement.market, seq));
        }
    }

    fn place(&mut self, it: Placed, order: &PlaceOrder, ends_at: Time, update: &OrderUpdate) {
        if update.standing != Standing::Open
            || planted(Bug::ForgetOrder) && it.order.get().is_multiple_of(5)
        {
            return;
        }
        self.value.clear();
        encode_command(&Command::Order(Box::new(order.clone())), ends_at, &mut self.value);
        let placed = Some((it, self.value[..].into()));
        let (account, state) = (update.account, Some(update.state));
        self.touched.insert(it.order, Touched { account, placed, state });
    }

    fn touch(&mut self, update: &OrderUpdate) {
        let OrderUpdate { order, account, state, standing } = update;
        if *standing == Standing::Open {
            let touched = self.touched.entry(*order).or_default();
            (touched.account, touched.state) = (*account, Some(*state));
        } else if self.touched.get(order).is_some_and(|touched| touched.placed.is_some()) {
            self.touched.remove(order);
        } else {
            self.touched.insert(*order, Touched { account: *account, ..Touched::default() });
        }
    }

    /// Whether no row changes by what was taken in since the last finish.
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.prices.is_empty() && self.placed.is_empty()
    }

    /// Shows each row that changes: its key, and its value or `None` where it goes; keys ascending.
    /// The fold is empty afterwards, also after an error.
    ///
    /// # Errors
    /// The first that `row` returns; no more rows are shown then.
    pub fn finish<E>(
        &mut self,
        mut row: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut sorted: Vec<_> = self.touched.drain().collect();
        sorted.sort_unstable_by_key(|(order, _)| *order);
        let prices = std::mem::take(&mut self.prices);
        for (order, touched) in &sorted {
            match (&touched.placed, touched.state) {
                (Some((placed, value)), _) => {
                    row(&keys::order(*order), Some(value))?;
                    self.open.push((touched.account, *order, Some(*placed)));
                }
                (None, None) => {
                    row(&keys::order(*order), None)?;
                    self.open.push((touched.account, *order, None));
                }
                (None, Some(_)) => {}
            }
        }
        let mut writer = Writer::default();
        for (order, touched) in &sorted {
            writer.rewind(0);
            if let Some(state) = &touched.state {
                write_state(state, &mut writer);
            }
            row(&keys::order_state(*order), touched.state.is_some().then(|| writer.written()))?;
        }
        for (market, price) in prices {
            writer.rewind(0);
            writer.varint(price.0);
            row(&keys::last_price(market), Some(writer.written()))?;
        }
        Ok(())
    }

    /// Shows the rows of the indexes, as [`OrderFold::finish`] does, after which it comes: commits with
    /// trades, orders by account, open orders by account.
    ///
    /// # Errors
    /// The first that `row` returns; no more rows are shown then.
    pub fn finish_indexes<E>(
        &mut self,
        mut row: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut trades = std::mem::take(&mut self.trades);
        let mut placed = std::mem::take(&mut self.placed);
        let mut open = std::mem::take(&mut self.open);
        trades.sort_unstable();
        for (market, seq) in trades {
            row(&keys::trade(market, seq), Some(&[]))?;
        }
        placed.sort_unstable_by_key(|(account, placed)| (*account, Reverse(placed.since)));
        for (account, placed) in placed {
            let value = account_orders::placed_value(&placed);
            row(&keys::placed_by(account, placed.since), Some(&value))?;
        }
        open.sort_unstable_by_key(|(account, order, _)| (*account, *order));
        for (account, order, placed) in open {
            let value = placed.as_ref().map(account_orders::open_value);
            row(&keys::open_of(account, order), value.as_ref().map(|value| &value[..]))?;
        }
        Ok(())
    }
}

/// Orders that stood and ended by what a request did.
pub fn ended(traded: &Traded) -> impl Iterator<Item = RequestId> + '_ {
    let placed = traded.placed.as_ref().map(|_| traded.request);
    let over = |update: &&OrderUpdate| update.standing != Standing::Open;
    let updates = traded.settlement.orders.iter().filter(over);
    updates.map(|update| update.order).filter(move |order| Some(*order) != placed)
}

fn broken(flaw: Flaw) -> Damage {
    Damage::Broken(format!("the row of an open order {flaw}"))
}

/// What an order is, from its row: the request that placed it, the order, and when it ends.
///
/// # Errors
/// The row is not an order's, or damaged.
pub fn decode(key: &[u8], value: &[u8]) -> Result<(RequestId, PlaceOrder, Time), Damage> {
    let id = keys::decode_order(key).ok_or_else(|| broken("has a foreign key"))?;
    match decode_command(value)? {
        (Command::Order(order), ends_at) => Ok((id, *order, ends_at)),
        _ => Err(broken("is of another kind")),
    }
}

/// How an order stands, from its row.
///
/// # Errors
/// The row is not an order's, or damaged.
pub fn decode_state(key: &[u8], value: &[u8]) -> Result<(RequestId, OrderState), Damage> {
    let id = keys::decode_order_state(key).ok_or_else(|| broken("has a foreign key"))?;
    let mut from = Reader::new(value, 0);
    let state = read_state(&mut from).map_err(broken)?;
    if !from.is_at_end() {
        return Err(broken("is longer than what it says"));
    }
    Ok((id, state))
}

/// The price of a market's last trade, from its row.
///
/// # Errors
/// The row is not one, or damaged.
pub fn decode_price(key: &[u8], value: &[u8]) -> Result<(MarketId, Price), Damage> {
    let market = keys::decode_last_price(key).ok_or_else(|| broken("has a foreign key"))?;
    let mut from = Reader::new(value, 0);
    let price = from.varint_as().map_err(broken)?;
    if from.is_at_end() { Ok((market, Price(price))) } else { Err(broken("is too long")) }
}

/// Puts the two rows of each order together, in the order of their places in their markets.
///
/// # Errors
/// An order that has only one of them.
pub fn join(
    orders: Vec<(RequestId, PlaceOrder, Time)>,
    states: Vec<(RequestId, OrderState)>,
) -> Result<Vec<StoredOrder>, Damage> {
    if orders.len() != states.len() {
        return Err(broken("is one of two, and the other is missing"));
    }
    let mut joined = Vec::with_capacity(orders.len());
    // Both come in the order of the ids.
    for ((id, order, ends_at), (other, state)) in orders.into_iter().zip(states) {
        if id != other {
            return Err(broken("is one of two, and the other is missing"));
        }
        joined.push(StoredOrder::new(id, &order, ends_at, state));
    }
    joined.sort_unstable_by_key(|stored| (stored.market, stored.open.state.place));
    if planted(Bug::ForgetPlaces) {
        joined.sort_unstable_by_key(|stored| (stored.market, stored.open.order));
        (0..).zip(&mut joined).for_each(|(place, stored)| stored.open.state.place = place);
    }
    Ok(joined)
}
