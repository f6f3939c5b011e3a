//! What became of orders, as JSON.

use serde::Serialize;

use crate::directory::Directory;
use crate::market::order::{Ended, Lots};
use crate::market::{Fill, MarketSpec, OrderUpdate, Settlement, Standing};
use crate::types::{AccountId, Amount, MarketId, RequestId};

/// A market's settlement as it stands in a receipt.
#[derive(Debug, Serialize)]
pub(super) struct SettlementBody {
    market: Box<str>,
    /// Every order that was touched; one that was placed comes last.
    orders: Vec<OrderBody>,
    trades: Vec<TradeBody>,
}

/// How an order stands.
#[derive(Debug, Serialize)]
pub(super) struct OrderBody {
    order_id: RequestId,
    account: AccountId,
    status: &'static str,
    price: String,
    filled: Amount,
    remaining: Amount,
    /// What its trades moved, in quote's smallest units.
    notional: String,
}

#[derive(Debug, Serialize)]
struct TradeBody {
    maker_order_id: RequestId,
    maker_account: AccountId,
    price: String,
    quantity: Amount,
    taker_fee: String,
    maker_fee: String,
}

impl SettlementBody {
    pub(super) fn new(settlement: &Settlement, directory: &Directory) -> Self {
        let listed = directory.market(settlement.market).expect("markets are never removed");
        let spec = &listed.spec;
        Self {
            market: spec.name.clone(),
            orders: settlement.orders.iter().map(|update| OrderBody::new(update, spec)).collect(),
            trades: settlement.fills.iter().map(|fill| TradeBody::new(fill, spec)).collect(),
        }
    }
}

impl OrderBody {
    pub(super) fn new(update: &OrderUpdate, spec: &MarketSpec) -> Self {
        let OrderUpdate { order, account, state, standing } = update;
        Self {
            order_id: *order,
            account: *account,
            status: status(*standing, state.filled),
            price: state.price.0.to_string(),
            filled: units(spec, state.filled),
            remaining: units(spec, state.left),
            notional: state.notional.to_string(),
        }
    }
}

impl TradeBody {
    fn new(fill: &Fill, spec: &MarketSpec) -> Self {
        Self {
            maker_order_id: fill.maker,
            maker_account: fill.account,
            price: fill.price.0.to_string(),
            quantity: units(spec, fill.lots),
            taker_fee: fill.taker_fee.to_string(),
            maker_fee: fill.maker_fee.to_string(),
        }
    }
}

fn units(spec: &MarketSpec, lots: Lots) -> Amount {
    Amount::new(spec.base_units(lots))
}

/// The status of an order, as clients know it.
pub(super) const fn status(standing: Standing, filled: Lots) -> &'static str {
    match standing {
        Standing::Open if filled.0 == 0 => "new",
        Standing::Open => "partially_filled",
        Standing::Filled => "filled",
        Standing::Ended(Ended::Expired) => "expired",
        Standing::Ended(Ended::WouldTake) => "rejected",
        Standing::Ended(_) => "canceled",
    }
}

/// The name of a market that exists: markets are never removed.
pub(super) fn market_name(market: MarketId, directory: &Directory) -> Box<str> {
    directory.market(market).map_or_else(|| market.to_string().into(), |it| it.spec.name.clone())
}

/// A market as it is described to clients.
#[derive(Debug, Serialize)]
pub(super) struct MarketBody {
    market: Box<str>,
    base: Box<str>,
    quote: Box<str>,
    tick_size: String,
    lot_size: String,
    maker_fee_bps: i16,
    taker_fee_bps: i16,
    fee_account: AccountId,
    min_notional: String,
    price_band_bps: u32,
}

impl MarketBody {
    pub(super) fn new(spec: &MarketSpec, directory: &Directory) -> Self {
        let asset = |asset| super::receipt::asset_name(asset, directory);
        Self {
            market: spec.name.clone(),
            base: asset(spec.base),
            quote: asset(spec.quote),
            tick_size: spec.tick_size.to_string(),
            lot_size: spec.lot_size.to_string(),
            maker_fee_bps: spec.maker_fee_bps,
            taker_fee_bps: spec.taker_fee_bps,
            fee_account: spec.fee_account,
            min_notional: spec.min_notional.to_string(),
            price_band_bps: spec.price_band_bps,
        }
    }
}
