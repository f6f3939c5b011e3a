//! Commands of markets as bytes.
//!
//! | command | bytes |
//! |---|---|
//! | market | name: text; base, quote, tick size, lot size, fee account, least notional, price band: varints; maker's and taker's fee: raw 2, little-endian |
//! | order | market, account: varints; what it is: raw 2, see below; milliseconds that it stands, price, quantity, funds: varints, each if there is one; client_order_id: text, if it is not empty |
//! | amend | order: raw 16; 1 for a price, 2 for a quantity, 3 for both (1); price, quantity: varints |
//! | cancel, expire | order: raw 16 |
//! | cancel all | account, market: varints |
//! | halt, resume | market: varint |
//!
//! | bits of what an order is | |
//! |---|---|
//! | 0 | 1 if it sells |
//! | 1, 2 | type: 0 limit, 1 post-only, 2 market |
//! | 3, 4 | stands: 0 gtc, 1 gtd, 2 ioc, 3 fok |
//! | 5 to 7 | self-trade: 0 none, 1 cancel taker, 2 cancel maker, 3 cancel both, 4 decrement |
//! | 8 to 11 | has a price, a quantity, funds, a client_order_id |

use super::bytes::{Flaw, Reader, Writer};
use super::command::{read_account, read_asset_number};
use super::fault::{read_id, read_market, write_id};
use crate::config::{ASSET_NAME_BYTES_MAX, CLIENT_ORDER_ID_BYTES_MAX};
use crate::market::MarketSpec;
use crate::market::order::{Price, SelfTrade, Side};
use crate::request::{AmendOrder, OrderType, PlaceOrder, Stands};
use crate::types::Amount;

const TYPES: [OrderType; 3] = [OrderType::Limit, OrderType::PostOnly, OrderType::Market];
const SELF_TRADES: [SelfTrade; 5] = [
    SelfTrade::None,
    SelfTrade::CancelTaker,
    SelfTrade::CancelMaker,
    SelfTrade::CancelBoth,
    SelfTrade::Decrement,
];
const HAS_PRICE: u16 = 1 << 8;
const HAS_QUANTITY: u16 = 1 << 9;
const HAS_FUNDS: u16 = 1 << 10;
const HAS_NAME: u16 = 1 << 11;
const AMENDS_PRICE: u8 = 1;
const AMENDS_QUANTITY: u8 = 2;

fn stands_code(stands: Stands) -> u16 {
    match stands {
        Stands::Gtc => 0,
        Stands::Gtd { .. } => 1,
        Stands::Ioc => 2,
        Stands::Fok => 3,
    }
}

/// The code of a self-trade rule.
pub(super) fn self_trade_code(rule: SelfTrade) -> u8 {
    let place = SELF_TRADES.iter().position(|known| *known == rule).expect("all are listed");
    place as u8
}

/// What [`self_trade_code`] stands for.
pub(super) fn self_trade(code: u8) -> Result<SelfTrade, Flaw> {
    SELF_TRADES.get(usize::from(code)).copied().ok_or("has a self-trade rule that does not exist")
}

/// Writes an order.
pub(super) fn write(order: &PlaceOrder, to: &mut Writer) {
    to.varint(order.market.get());
    to.varint(order.account.get());
    let order_type = TYPES.iter().position(|known| *known == order.order_type);
    let flag = |has: bool, flag: u16| if has { flag } else { 0 };
    let bits = u16::from(order.side == Side::Sell)
        | (order_type.expect("all are listed") as u16) << 1
        | stands_code(order.stands) << 3
        | u16::from(self_trade_code(order.self_trade)) << 5
        | flag(order.price.is_some(), HAS_PRICE)
        | flag(order.quantity.is_some(), HAS_QUANTITY)
        | flag(order.funds.is_some(), HAS_FUNDS)
        | flag(!order.client_order_id.is_empty(), HAS_NAME);
    to.slice(&bits.to_le_bytes());
    if let Stands::Gtd { expires_in_ms } = order.stands {
        to.varint(expires_in_ms);
    }
    let units = |amount: Option<Amount>| amount.map(Amount::get);
    let numbers =
        [order.price.map(|price| price.0.into()), units(order.quantity), units(order.funds)];
    numbers.into_iter().flatten().for_each(|number: u128| to.varint(number));
    if !order.client_order_id.is_empty() {
        to.text(&order.client_order_id);
    }
}

/// What [`write`] wrote.
pub(super) fn read(from: &mut Reader<'_>) -> Result<PlaceOrder, Flaw> {
    let (market, account) = (read_market(from)?, read_account(from)?);
    let bits = u16::from_le_bytes(from.raw()?);
    if bits >> 12 != 0 {
        return Err("has an order with marks that do not exist");
    }
    let order_type = TYPES.get(usize::from(bits >> 1 & 3)).copied();
    let stands = match bits >> 3 & 3 {
        0 => Stands::Gtc,
        1 => Stands::Gtd { expires_in_ms: from.varint_as()? },
        2 => Stands::Ioc,
        _ => Stands::Fok,
    };
    let has = |flag: u16| bits & flag != 0;
    let price = has(HAS_PRICE).then(|| from.varint_as().map(Price)).transpose()?;
    let quantity = has(HAS_QUANTITY).then(|| from.varint().map(Amount::new)).transpose()?;
    let funds = has(HAS_FUNDS).then(|| from.varint().map(Amount::new)).transpose()?;
    let client_order_id = match has(HAS_NAME) {
        true => from.text(CLIENT_ORDER_ID_BYTES_MAX)?,
        false => "",
    };
    if has(HAS_NAME) && client_order_id.is_empty() {
        return Err("has an empty client_order_id");
    }
    Ok(PlaceOrder {
        market,
        account,
        side: if bits & 1 == 0 { Side::Buy } else { Side::Sell },
        order_type: order_type.ok_or("has an order of a type that does not exist")?,
        stands,
        price,
        quantity,
        funds,
        self_trade: self_trade((bits >> 5 & 7) as u8)?,
        client_order_id: client_order_id.into(),
    })
}

/// Writes an amendment.
pub(super) fn write_amend(amend: &AmendOrder, to: &mut Writer) {
    write_id(amend.order, to);
    let price = amend.price.map_or(0, |_| AMENDS_PRICE);
    let quantity = amend.quantity.map_or(0, |_| AMENDS_QUANTITY);
    to.slice(&[price | quantity]);
    if let Some(price) = amend.price {
        to.varint(price.0);
    }
    if let Some(quantity) = amend.quantity {
        to.varint(quantity.get());
    }
}

/// What [`write_amend`] wrote.
pub(super) fn read_amend(from: &mut Reader<'_>) -> Result<AmendOrder, Flaw> {
    let order = read_id(from)?;
    let what = from.byte()?;
    if what & !(AMENDS_PRICE | AMENDS_QUANTITY) != 0 {
        return Err("amends what an order does not have");
    }
    let price = (what & AMENDS_PRICE != 0).then(|| from.varint_as().map(Price)).transpose()?;
    let quantity =
        (what & AMENDS_QUANTITY != 0).then(|| from.varint().map(Amount::new)).transpose()?;
    Ok(AmendOrder { order, price, quantity })
}

/// Writes a market.
pub(super) fn write_market(spec: &MarketSpec, to: &mut Writer) {
    to.text(&spec.name);
    to.varint(spec.base.get());
    to.varint(spec.quote.get());
    to.varint(spec.tick_size);
    to.varint(spec.lot_size);
    to.varint(spec.fee_account.get());
    to.varint(spec.min_notional);
    to.varint(spec.price_band_bps);
    to.slice(&spec.maker_fee_bps.to_le_bytes());
    to.slice(&spec.taker_fee_bps.to_le_bytes());
}

/// What [`write_market`] wrote.
pub(super) fn read_market_spec(from: &mut Reader<'_>) -> Result<MarketSpec, Flaw> {
    Ok(MarketSpec {
        name: from.text(ASSET_NAME_BYTES_MAX)?.into(),
        base: read_asset_number(from)?,
        quote: read_asset_number(from)?,
        tick_size: from.varint_as()?,
        lot_size: from.varint_as()?,
        fee_account: read_account(from)?,
        min_notional: from.varint()?,
        price_band_bps: from.varint_as()?,
        maker_fee_bps: i16::from_le_bytes(from.raw()?),
        taker_fee_bps: i16::from_le_bytes(from.raw()?),
    })
}
