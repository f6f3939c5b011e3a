//! What is seen of a market: its book by price, and its trades.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::directory::Directory;
use crate::market::MarketSpec;
use crate::market::order::{Level, Price};
use crate::store::order_reads::{Trade, TradeId};
use crate::types::{AccountId, Amount, CommitSeq, MarketId, RequestId};

use super::extract::State;
use super::json;
use super::openapi::schemas::{Digits, Seq, Side, SignedDigits, Timestamp};
use super::problem::Problem;
use super::query::{Param, Query};
use super::receipt::{self, rfc_3339};
use super::state::{App, blocking};
use super::trading::{SIDES, units, word};

/// Levels of a side where nothing is said of them.
pub(super) const DEPTH: usize = 100;
/// Most levels of a side.
pub(super) const DEPTH_MAX: u64 = 10_000;
/// Trades on a page where nothing is said of them.
pub(super) const LIMIT: usize = 100;
/// Most of them.
pub(super) const LIMIT_MAX: u64 = 1_000;

#[derive(Serialize, ToSchema)]
#[schema(as = Book)]
pub(super) struct BookBody {
    market: Box<str>,
    #[schema(value_type = Seq)]
    seq: String,
    #[schema(required = true, value_type = Option<Digits>)]
    last_price: Option<String>,
    bids: Vec<LevelBody>,
    asks: Vec<LevelBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Level)]
struct LevelBody {
    #[schema(value_type = Digits)]
    price: String,
    #[schema(value_type = Digits)]
    quantity: String,
    orders: u32,
}

impl LevelBody {
    fn new((price, level): &(Price, Level), spec: &MarketSpec) -> Self {
        // More than there can ever be of an asset need not be exact.
        let quantity = level.lots.saturating_mul(spec.lot_size.into());
        let (price, quantity) = (price.0.to_string(), quantity.to_string());
        Self { price, quantity, orders: level.orders }
    }
}

/// `?depth=` → `{market, seq, last_price, bids: [{price, quantity, orders}], asks}`, best first.
pub(super) async fn book(
    State(app): State<App>,
    Param(name): Param<String>,
    mut query: Query,
) -> Result<Response, Problem> {
    let depth = query.optional("depth", |text| within(text, DEPTH_MAX))?.unwrap_or(DEPTH);
    query.finish()?;
    let market = market_of(&name, app.engine().directory())?;
    let view = app.engine().book(market, depth).await?;
    let listed = app.engine().directory().market(market).expect("markets are never removed");
    let spec = &*listed.spec;
    let levels = |levels: &[_]| levels.iter().map(|level| LevelBody::new(level, spec)).collect();
    let body = BookBody {
        market: spec.name.clone(),
        seq: view.seq.to_string(),
        last_price: view.last_price.map(|price| price.0.to_string()),
        bids: levels(&view.bids),
        asks: levels(&view.asks),
    };
    Ok(receipt::json(StatusCode::OK, &body))
}

#[derive(Serialize, ToSchema)]
#[schema(as = Trades)]
pub(super) struct TradesBody {
    market: Box<str>,
    trades: Vec<TradeBody>,
    /// Where the next page begins: its `after`. `null` if this is the last.
    #[schema(required = true)]
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Trade)]
struct TradeBody {
    trade_id: String,
    #[schema(value_type = Seq)]
    seq: String,
    #[schema(value_type = Timestamp)]
    time: String,
    /// Which way the order went that came.
    #[schema(value_type = Side)]
    side: &'static str,
    #[schema(value_type = Digits)]
    price: String,
    quantity: Amount,
    #[schema(value_type = Digits)]
    notional: String,
    /// What came: an order, or the amendment of one.
    request_id: RequestId,
    maker_order_id: RequestId,
    maker_account: AccountId,
    #[schema(value_type = SignedDigits)]
    taker_fee: String,
    #[schema(value_type = SignedDigits)]
    maker_fee: String,
}

impl TradeBody {
    fn new(trade: &Trade, spec: &MarketSpec) -> Self {
        let fill = &trade.fill;
        Self {
            trade_id: trade.id.to_string(),
            seq: trade.id.seq.to_string(),
            time: rfc_3339(trade.time),
            side: word(&SIDES, &trade.taker_side),
            price: fill.price.0.to_string(),
            quantity: units(spec, fill.lots),
            notional: MarketSpec::notional(fill.price, fill.lots).to_string(),
            request_id: trade.taker,
            maker_order_id: fill.maker,
            maker_account: fill.account,
            taker_fee: fill.taker_fee.to_string(),
            maker_fee: fill.maker_fee.to_string(),
        }
    }
}

/// `?after=&limit=` → `{market, trades: [...], next}`, oldest first. `after` is a trade, or a seq: then
/// the page begins behind all trades of that.
pub(super) async fn trades(
    State(app): State<App>,
    Param(name): Param<String>,
    mut query: Query,
) -> Result<Response, Problem> {
    let after = query.optional("after", trade_from)?.unwrap_or_default();
    let limit = query.optional("limit", |text| within(text, LIMIT_MAX))?.unwrap_or(LIMIT);
    query.finish()?;
    let market = market_of(&name, app.engine().directory())?;
    let reader = app.clone();
    // One more, to know whether there is one.
    let found = blocking(move || reader.engine().trades(market, after, limit + 1)).await??;
    let page = &found[..found.len().min(limit)];
    let listed = app.engine().directory().market(market).expect("markets are never removed");
    let body = TradesBody {
        market: listed.spec.name.clone(),
        trades: page.iter().map(|trade| TradeBody::new(trade, &listed.spec)).collect(),
        next: page.last().filter(|_| found.len() > limit).map(|last| last.id.to_string()),
    };
    Ok(receipt::json(StatusCode::OK, &body))
}

/// A trade, as in `42.0`, or a seq: the end of its trades.
fn trade_from(text: &str) -> Result<TradeId, String> {
    let seq = |text| json::number_from(text).map(CommitSeq::new);
    let Some((of, index)) = text.split_once('.') else { return seq(text).map(TradeId::end_of) };
    let index = json::number_from(index)?.try_into();
    let index = index.map_err(|_| "names no trade: there are not so many in one commit")?;
    Ok(TradeId { seq: seq(of)?, index })
}

/// The market that a path names.
///
/// # Errors
/// There is none of that name.
pub(super) fn market_of(name: &str, directory: &Directory) -> Result<MarketId, Problem> {
    directory.market_by_name(name).ok_or_else(|| Problem::unknown_market(name))
}

pub(super) fn within(text: &str, max: u64) -> Result<usize, String> {
    match json::number_from(text)? {
        number if (1..=max).contains(&number) => Ok(number as usize),
        _ => Err(format!("is not 1 to {max}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_behind_a_trade_or_behind_a_seq() {
        let seq = CommitSeq::new(7);
        assert_eq!(trade_from("7"), Ok(TradeId::end_of(seq)));
        let third = TradeId { seq, index: 2 };
        assert_eq!((trade_from("7.2"), third.to_string()), (Ok(third), "7.2".into()));
        for text in ["", ".", "7.", ".2", "7.x", "7.-1", "7.2.1", "7.4294967296"] {
            assert!(trade_from(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pages_have_their_limits() {
        assert_eq!((within("1", 9), within("9", 9)), (Ok(1), Ok(9)));
        for text in ["0", "10", "-1", "x"] {
            assert!(within(text, 9).is_err(), "{text}");
        }
    }
}
