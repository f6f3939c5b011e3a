//! `crosslatch market`, `book` and `trades`: which order books there are, and what is seen of them.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::types::Amount;

use super::http::{Call, Method};
use super::look::{text, with_query};
use super::words::{Members, members, segment};
use super::{IdArgs, ServerArgs};

/// `crosslatch market`.
#[derive(Debug, Args)]
pub struct MarketArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    action: MarketAction,
}

#[derive(Debug, Subcommand)]
enum MarketAction {
    /// Creates a market; the same again is accepted.
    Put(PutArgs),
    /// Shows all markets.
    List,
    /// Shows one market.
    Show {
        /// Its name.
        market: String,
    },
    /// Halts a market: orders can only be canceled there.
    Halt(SwitchArgs),
    /// Resumes a market that is halted.
    Resume(SwitchArgs),
}

#[derive(Debug, Args)]
struct PutArgs {
    /// Its name, as in ETH-SOL.
    market: String,
    /// The asset that is bought and sold.
    #[arg(long, value_name = "ASSET")]
    base: String,
    /// The asset that it is paid with.
    #[arg(long, value_name = "ASSET")]
    quote: String,
    /// Prices, in quote's smallest unit per lot, are multiples of this.
    #[arg(long, value_name = "N", default_value_t = 1)]
    tick_size: u64,
    /// Quantities, in base's smallest unit, are multiples of this.
    #[arg(long, value_name = "N", default_value_t = 1)]
    lot_size: u64,
    /// What a maker pays, in ten-thousandths; below zero it is paid that.
    #[arg(long, value_name = "BPS", default_value_t = 0, allow_negative_numbers = true)]
    maker_fee_bps: i16,
    /// The same for a taker.
    #[arg(long, value_name = "BPS", default_value_t = 0, allow_negative_numbers = true)]
    taker_fee_bps: i16,
    /// Whom fees go to.
    #[arg(long, value_name = "ACCOUNT")]
    fee_account: u64,
    /// The least that a limit order must be worth, in quote's smallest unit.
    #[arg(long, value_name = "AMOUNT")]
    min_notional: Option<Amount>,
    /// How far from the last trade a limit may be, in ten-thousandths of its price.
    #[arg(long, value_name = "BPS")]
    price_band_bps: Option<u32>,
    #[command(flatten)]
    id: IdArgs,
}

impl PutArgs {
    fn body(&self) -> Members {
        members(json!({
            "base": self.base,
            "quote": self.quote,
            "tick_size": self.tick_size,
            "lot_size": self.lot_size,
            "maker_fee_bps": self.maker_fee_bps,
            "taker_fee_bps": self.taker_fee_bps,
            "fee_account": self.fee_account,
            "min_notional": self.min_notional,
            "price_band_bps": self.price_band_bps,
        }))
    }
}

#[derive(Debug, Args)]
struct SwitchArgs {
    /// Its name.
    market: String,
    #[command(flatten)]
    id: IdArgs,
}

/// `crosslatch book`.
#[derive(Debug, Args)]
pub struct BookArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The market.
    market: String,
    /// Levels of each side [default: 100]
    #[arg(long, value_name = "N")]
    depth: Option<u64>,
}

/// `crosslatch trades`.
#[derive(Debug, Args)]
pub struct TradesArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The market.
    market: String,
    /// What came after that trade: the `next` of the page before. Or after all trades of a seq.
    #[arg(long, value_name = "TRADE|SEQ")]
    after: Option<String>,
    /// Trades on a page, 1 to 1000 [default: 100]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

fn path(market: &str, rest: &str) -> String {
    format!("/v1/markets/{}{rest}", segment(market))
}

/// Runs `crosslatch market`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn market(args: MarketArgs) -> anyhow::Result<ExitCode> {
    let server = args.server;
    let switch = |args: SwitchArgs, how| {
        server.change(Method::Post, &path(&args.market, how), args.id.id(), Members::new())
    };
    match args.action {
        MarketAction::Put(put) => {
            server.change(Method::Put, &path(&put.market, ""), put.id.id(), put.body())
        }
        MarketAction::List => server.get("/v1/markets"),
        MarketAction::Show { market } => server.get(&path(&market, "")),
        MarketAction::Halt(args) => switch(args, "/halt"),
        MarketAction::Resume(args) => switch(args, "/resume"),
    }
}

/// Runs `crosslatch book`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn book(args: BookArgs) -> anyhow::Result<ExitCode> {
    let BookArgs { server, market, depth } = args;
    let path = with_query(path(&market, "/book"), [("depth", text(depth))]);
    server.ask(Call { method: Method::Get, path: &path, body: None, id: None }, as_ladder)
}

/// The way that people look at a book: one table, the best of both sides in the middle.
fn as_ladder(book: &mut Value) {
    let Value::Object(members) = book else { return };
    let mut side = |name: &str, side: &str| -> Vec<Value> {
        let levels = members.remove(name).and_then(|levels| levels.as_array().cloned());
        let with = |mut level: Value| {
            level["side"] = side.into();
            level
        };
        levels.unwrap_or_default().into_iter().map(with).collect()
    };
    let (asks, bids) = (side("asks", "sell"), side("bids", "buy"));
    let levels: Vec<Value> = asks.into_iter().rev().chain(bids).collect();
    members.insert("levels".into(), levels.into());
}

/// Runs `crosslatch trades`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn trades(args: TradesArgs) -> anyhow::Result<ExitCode> {
    let TradesArgs { server, market, after, limit } = args;
    let parameters = [("after", after), ("limit", text(limit))];
    server.get(&with_query(path(&market, "/trades"), parameters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_both_sides_stand_in_the_middle() {
        let level = |price: u64| json!({"price": price});
        let mut book = json!({"asks": [level(5), level(6)], "bids": [level(4), level(3)]});
        as_ladder(&mut book);
        let row = |side: &str, price: u64| json!({"side": side, "price": price});
        let rows = [row("sell", 6), row("sell", 5), row("buy", 4), row("buy", 3)];
        assert_eq!(book, json!({"levels": rows}));
    }
}
