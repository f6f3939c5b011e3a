//! What is seen of a market: its book by price, and its trades.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use crate::directory::Directory;
use crate::market::MarketSpec;
use crate::market::order::{Level, Price};
use crate::store::order_reads::Trade;
use crate::types::{AccountId, Amount, CommitSeq, MarketId, RequestId};

use super::extract::State;
use super::json;
use super::problem::Problem;
use super::query::{Param, Query};
use super::receipt::{self, rfc_3339};
use super::state::{App, blocking};
use super::trading::{SIDES, units, word};

/// Levels of a side where nothing is said of them.
const DEPTH: usize = 100;
/// Most levels of a side.
const DEPTH_MAX: u64 = 10_000;
/// Commits with trades on a page where nothing is said of them.
const LIMIT: usize = 100;
/// Most of them.
const LIMIT_MAX: u64 = 1_000;

#[derive(Serialize)]
struct BookBody {
    market: Box<str>,
    seq: String,
    last_price: Option<String>,
    bids: Vec<LevelBody>,
    asks: Vec<LevelBody>,
}

#[derive(Serialize)]
struct LevelBody {
    price: String,
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

#[derive(Serialize)]
struct TradesBody {
    market: Box<str>,
    trades: Vec<TradeBody>,
    /// Where the next page begins, if there may be one: its `after`.
    next: Option<String>,
}

#[derive(Serialize)]
struct TradeBody {
    seq: String,
    time: String,
    /// Which way the order went that came.
    side: &'static str,
    price: String,
    quantity: Amount,
    notional: String,
    /// What came: an order, or the amendment of one.
    request_id: RequestId,
    maker_order_id: RequestId,
    maker_account: AccountId,
    taker_fee: String,
    maker_fee: String,
}

impl TradeBody {
    fn new(trade: &Trade, spec: &MarketSpec) -> Self {
        let fill = &trade.fill;
        Self {
            seq: trade.seq.to_string(),
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

/// `?after=&limit=` → `{market, trades: [...], next}`, oldest first. The trades of one commit stand on
/// one page; the limit counts commits.
pub(super) async fn trades(
    State(app): State<App>,
    Param(name): Param<String>,
    mut query: Query,
) -> Result<Response, Problem> {
    let after = query.seq("after")?.unwrap_or_default();
    let limit = query.optional("limit", |text| within(text, LIMIT_MAX))?.unwrap_or(LIMIT);
    query.finish()?;
    let market = market_of(&name, app.engine().directory())?;
    let reader = app.clone();
    let found = blocking(move || reader.engine().trades(market, after, limit)).await??;
    let listed = app.engine().directory().market(market).expect("markets are never removed");
    let body = TradesBody {
        market: listed.spec.name.clone(),
        trades: found.iter().map(|trade| TradeBody::new(trade, &listed.spec)).collect(),
        next: next(found.iter().map(|trade| trade.seq), limit).map(|seq| seq.to_string()),
    };
    Ok(receipt::json(StatusCode::OK, &body))
}

/// The last seq of a page of `limit` commits, if it is full.
fn next(seqs: impl Iterator<Item = CommitSeq>, limit: usize) -> Option<CommitSeq> {
    let mut seqs: Vec<CommitSeq> = seqs.collect();
    seqs.dedup();
    seqs.last().copied().filter(|_| seqs.len() == limit)
}

/// The market that a path names.
///
/// # Errors
/// There is none of that name.
fn market_of(name: &str, directory: &Directory) -> Result<MarketId, Problem> {
    directory.market_by_name(name).ok_or_else(|| Problem::unknown_market(name))
}

fn within(text: &str, max: u64) -> Result<usize, String> {
    match json::number_from(text)? {
        number if (1..=max).contains(&number) => Ok(number as usize),
        _ => Err(format!("is not 1 to {max}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_page_says_where_the_next_begins() {
        let next = |seqs: &[u64], limit| next(seqs.iter().copied().map(CommitSeq::new), limit);
        assert_eq!(next(&[3, 3, 5], 2), Some(CommitSeq::new(5)));
        assert_eq!(next(&[3, 3, 5], 3), None);
        assert_eq!(next(&[], 1), None);
    }

    #[test]
    fn pages_have_their_limits() {
        assert_eq!((within("1", 9), within("9", 9)), (Ok(1), Ok(9)));
        for text in ["0", "10", "-1", "x"] {
            assert!(within(text, 9).is_err(), "{text}");
        }
    }
}
