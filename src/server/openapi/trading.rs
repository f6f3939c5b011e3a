//! What the document says of markets and orders.

use serde_json::json;

use crate::server::books::{self, BookBody, TradesBody};
use crate::server::markets::{MarketBody, Markets};
use crate::server::receipt::SwitchedBody;
use crate::server::standing::{self, OrdersBody, StandingBody};
use crate::server::trading::{AllEndedBody, CameBody, EndedBody, SettlementBody};
use crate::types::{AccountId, RequestId};

use super::About;
use super::requests::{AmendRequest, MarketRequest, OrderRequest, PlainRequest};
use super::schemas::{Name, Seq, reference};
use super::settling::results;

const TAG: &str = "trading";
/// Of what needs funds in a market.
const TRADING: [&str; 10] = [
    "expired",
    "unknown_account",
    "not_linked",
    "held_share_exceeded",
    "insufficient_funds",
    "lock_timeout",
    "market_halted",
    "invalid_order",
    "price_out_of_band",
    "would_take",
];

pub fn put_market(call: &mut About<'_>) {
    call.named(
        TAG,
        "putMarket",
        "Creates a market",
        "The same again is accepted; another description under the name is `already_exists`. Prices \
         are in quote's smallest units per lot of base.",
    );
    call.part::<Name>("market", "Its name.");
    call.takes::<MarketRequest>();
    call.settles("MarketReceipt", |all| vec![all.of::<MarketBody>()]);
    call.refuses(&["unknown_asset", "unknown_account", "already_exists", "not_linked"]);
}

pub fn list_markets(call: &mut About<'_>) {
    call.named(TAG, "listMarkets", "All markets", "In the order in which they were created.");
    call.gives::<Markets>("The markets.");
}

pub fn get_market(call: &mut About<'_>) {
    call.named(TAG, "getMarket", "A market", "");
    call.part::<Name>("market", "Its name.");
    call.gives::<MarketBody>("The market.");
    call.refuses(&["unknown_market"]);
}

fn switches(call: &mut About<'_>) {
    call.part::<Name>("market", "Its name.");
    call.takes::<PlainRequest>();
    call.settles("SwitchReceipt", |all| vec![all.of::<SwitchedBody>()]);
    call.refuses(&["unknown_market"]);
}

pub fn halt_market(call: &mut About<'_>) {
    let says = "From now on, orders can only be canceled there.";
    call.named(TAG, "haltMarket", "Halts a market", says);
    switches(call);
}

pub fn resume_market(call: &mut About<'_>) {
    call.named(TAG, "resumeMarket", "Resumes a market", "From now on, orders are taken again.");
    switches(call);
}

pub fn get_book(call: &mut About<'_>) {
    call.named(TAG, "getBook", "A market's book by price", "Best first, and durable.");
    call.part::<Name>("market", "Its name.");
    let depth = json!({"type": "integer", "minimum": 1, "maximum": books::DEPTH_MAX,
        "default": books::DEPTH});
    call.query("depth", "How many prices of each side.", depth);
    call.gives::<BookBody>("The book.");
    call.refuses(&["unknown_market"]);
}

pub fn get_trades(call: &mut About<'_>) {
    let says = "Oldest first.";
    call.named(TAG, "getTrades", "A market's trades", says);
    call.part::<Name>("market", "Its name.");
    let after = json!({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$"});
    call.query("after", "Only later ones: the last page's `next`, or a seq.", after);
    let limit = json!({"type": "integer", "minimum": 1, "maximum": books::LIMIT_MAX,
        "default": books::LIMIT});
    call.query("limit", "How many trades.", limit);
    call.gives::<TradesBody>("A page.");
    call.refuses(&["unknown_market", super::JOURNAL]);
}

pub fn place_order(call: &mut About<'_>) {
    call.named(
        TAG,
        "placeOrder",
        "Places an order",
        "The receipt has its trades, which are committed with it. Its id is the request's.",
    );
    call.takes::<OrderRequest>();
    came(call);
    call.refuses(&TRADING);
    call.refuses(&["unknown_market", "duplicate_client_order_id", "too_many_orders"]);
}

fn came(call: &mut About<'_>) {
    call.settles("OrderReceipt", |all| vec![all.of::<SettlementBody>(), all.of::<CameBody>()]);
}

pub fn amend_order(call: &mut About<'_>) {
    call.named(
        TAG,
        "amendOrder",
        "Changes an order that stands",
        "To less at the same price it keeps its place; otherwise it comes again, and may trade.",
    );
    call.part::<RequestId>("id", "The order's id.");
    call.takes::<AmendRequest>();
    came(call);
    call.refuses(&TRADING);
    call.refuses(&["unknown_order"]);
}

pub fn cancel_order(call: &mut About<'_>) {
    call.named(TAG, "cancelOrder", "Cancels an order", "What it had set aside is available again.");
    call.part::<RequestId>("id", "The order's id.");
    call.takes::<PlainRequest>();
    call.settles("CancelReceipt", |all| vec![all.of::<SettlementBody>(), all.of::<EndedBody>()]);
    call.refuses(&["unknown_order"]);
}

pub fn cancel_orders(call: &mut About<'_>) {
    call.named(
        TAG,
        "cancelOrders",
        "Cancels all orders of an account",
        "In one market: a receipt. In all of them: one answer a market, in the order in which those \
         were created.",
    );
    whose(call);
    call.takes::<PlainRequest>();
    call.settles("CancelAllReceipt", |all| {
        vec![all.of::<SettlementBody>(), all.of::<AllEndedBody>()]
    });
    let each = json!({"anyOf": [reference("CancelAllReceipt"), reference("Problem")]});
    let either = json!({"anyOf": [reference("CancelAllReceipt"), results(each)]});
    call.answers(200, "The receipt, or one answer a market.", either);
    call.refuses(&["unknown_account", "unknown_market"]);
}

/// Whose orders, and where.
fn whose(call: &mut About<'_>) {
    let (account, market) = (call.schemas.of::<AccountId>(), call.schemas.of::<Name>());
    call.query("account", "Whose.", account);
    call.needed();
    call.query("market", "In this market alone.", market);
}

pub fn list_orders(call: &mut About<'_>) {
    let says = "Newest first, all that were ever placed, as of the `seq` that is named.";
    call.named(TAG, "listOrders", "An account's orders", says);
    whose(call);
    let status = json!({"type": "string", "enum": standing::STATUSES});
    call.query("status", "Only those; `open` are those that stand.", status);
    let seq = call.schemas.of::<Seq>();
    call.query("after", "Only earlier ones: the last page's `next`.", seq);
    let limit = json!({"type": "integer", "minimum": 1, "maximum": standing::LIMIT_MAX,
        "default": standing::LIMIT});
    call.query("limit", "How many orders.", limit);
    call.gives::<OrdersBody>("The orders.");
    call.refuses(&["unknown_account", "unknown_market", super::JOURNAL]);
}

pub fn get_order(call: &mut About<'_>) {
    call.named(TAG, "getOrder", "How an order stands, or how it ended", "");
    call.part::<RequestId>("id", "The order's id.");
    call.gives::<StandingBody>("The order.");
    call.refuses(&["unknown_order", super::JOURNAL]);
}
