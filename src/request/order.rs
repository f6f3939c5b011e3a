//! Orders: what is placed, amended and canceled in a market.
//!
//! An order is named by the id of the request that placed it. What a market makes of it is told by
//! [`crate::market`]; here is what a caller can ask for, in the units of the assets.

use crate::config::{CLIENT_ORDER_ID_BYTES_MAX, GTD_MS_MAX};
use crate::error::Malformed;
use crate::market::order::{Price, SelfTrade, Side};
use crate::types::{AccountId, Amount, MarketId, RequestId};

/// How an order may trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderType {
    /// At its price or better, now or later.
    Limit,
    /// At its price or better, later only.
    PostOnly,
    /// At the best prices there are, now only.
    Market,
}

/// How long what does not trade at once stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// Good till canceled.
    Gtc,
    /// Good till date: so many milliseconds of logical time from when its turn came.
    Gtd {
        /// At least 1.
        expires_in_ms: u64,
    },
    /// Immediate or cancel.
    Ioc,
    /// Fill or kill.
    Fok,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceOrder {
    /// Where.
    pub market: MarketId,
    /// Whose it is.
    pub account: AccountId,
    /// Which way.
    pub side: Side,
    /// How it may trade.
    pub order_type: OrderType,
    /// How long it stands.
    pub stands: Stands,
    /// The worst price that it accepts, in quote's smallest units per lot. A market order may have none.
    pub price: Option<Price>,
    /// How much, in base's smallest units, a multiple of the lot size. A market order that buys for `funds`
    /// may have none.
    pub quantity: Option<Amount>,
    /// What a market order that buys may spend, fees included, in quote's smallest units.
    pub funds: Option<Amount>,
    /// What happens when it meets another of its account.
    pub self_trade: SelfTrade,
    /// The caller's own name for it, unique among the account's open orders; may be empty.
    pub client_order_id: Box<str>,
}

/// Another price or quantity for an order that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmendOrder {
    /// The request that placed it.
    pub order: RequestId,
    /// The new price; the old one stays if there is none.
    pub price: Option<Price>,
    /// The new quantity, what has traded included, in base's smallest units; the old one stays if there is none.
    pub quantity: Option<Amount>,
}

impl PlaceOrder {
    /// Checks what can be known without any state.
    ///
    /// # Errors
    /// The field at fault and the rule it breaks.
    pub fn validate(&self) -> Result<(), Malformed> {
        let is_market = self.order_type == OrderType::Market;
        let stays = matches!(self.stands, Stands::Gtc | Stands::Gtd { .. });
        let buys = self.side == Side::Buy;
        let rules = [
            (self.quantity == Some(Amount::ZERO), "quantity", "is zero; give at least one lot"),
            (self.price == Some(Price(0)), "price", "is zero; give at least one tick"),
            (self.funds == Some(Amount::ZERO), "funds", "are zero; give at least 1"),
            (
                is_market && stays,
                "time_in_force",
                "lets a market order stand; give \"ioc\" or \"fok\"",
            ),
            (
                self.order_type == OrderType::PostOnly && !stays,
                "time_in_force",
                "does not let a post-only order stand; give \"gtc\" or \"gtd\"",
            ),
            (
                !is_market && self.price.is_none(),
                "price",
                "is missing; only a market order has none",
            ),
            (
                self.funds.is_some() && !(is_market && buys),
                "funds",
                "are for market orders that buy; leave them out",
            ),
            (
                is_market && buys && self.price.is_none() && self.funds.is_none(),
                "price",
                "and funds are missing; a market order that buys has a worst price or a limit of funds",
            ),
            (
                self.quantity.is_none() && self.funds.is_none(),
                "quantity",
                "is missing; only a market order that buys for funds has none",
            ),
        ];
        if let Some((_, field, why)) = rules.into_iter().find(|(broken, ..)| *broken) {
            return Err(Malformed::new(field, why));
        }
        if let Stands::Gtd { expires_in_ms } = self.stands
            && !(1..=GTD_MS_MAX).contains(&expires_in_ms)
        {
            return Err(Malformed::new("expires_in_ms", format!("is not 1 to {GTD_MS_MAX}")));
        }
        let name = &self.client_order_id;
        if name.len() > CLIENT_ORDER_ID_BYTES_MAX
            || !name.bytes().all(|byte| byte.is_ascii_graphic())
        {
            let why =
                format!("is not at most {CLIENT_ORDER_ID_BYTES_MAX} visible ASCII characters");
            return Err(Malformed::new("client_order_id", why));
        }
        Ok(())
    }
}

impl AmendOrder {
    /// Checks what can be known without any state.
    ///
    /// # Errors
    /// The field at fault and the rule it breaks.
    pub fn validate(&self) -> Result<(), Malformed> {
        let rules = [
            (self.quantity == Some(Amount::ZERO), "quantity", "is zero; cancel the order instead"),
            (self.price == Some(Price(0)), "price", "is zero; give at least one tick"),
            (
                self.price.is_none() && self.quantity.is_none(),
                "price",
                "and quantity are missing; give what is to change",
            ),
        ];
        match rules.into_iter().find(|(broken, ..)| *broken) {
            Some((_, field, why)) => Err(Malformed::new(field, why)),
            None => Ok(()),
        }
    }
}
