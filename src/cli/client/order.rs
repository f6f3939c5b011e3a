//! `crosslatch order`, `orders`, `amend`, `cancel` and `cancel-all`.
//!
//! ```text
//! crosslatch order sell 1 ETH-SOL 10 --price 200     account 1 sells 10, at 200 a lot or better
//! crosslatch order buy 2 ETH-SOL --type market --funds 5000
//! ```

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::types::{Amount, RequestId};

use super::http::{Call, Method};
use super::look::{text, with_query};
use super::words::{self, Members, members};
use super::{IdArgs, ServerArgs, is_refused};

/// `crosslatch order`.
#[derive(Debug, Args)]
pub struct OrderArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    action: OrderAction,
}

#[derive(Debug, Subcommand)]
enum OrderAction {
    /// Places an order that buys.
    Buy(PlaceArgs),
    /// Places an order that sells.
    Sell(PlaceArgs),
    /// Shows how an order stands, or how it ended.
    Show {
        /// Its id: that of the request which placed it.
        order: RequestId,
    },
    /// Shows an account's orders, newest first.
    List {
        /// The account.
        #[arg(value_parser = words::account)]
        account: u64,
        #[command(flatten)]
        which: WhichArgs,
    },
}

/// Which of an account's orders.
#[derive(Debug, Args)]
struct WhichArgs {
    /// In one market only.
    #[arg(long, value_name = "NAME")]
    market: Option<String>,
    /// Only those that are new, partially_filled, filled, canceled, rejected or expired; or open: the
    /// first two.
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Placed before that seq: the `next` of the page before.
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// Orders on a page, 1 to 1000 [default: 100]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

impl WhichArgs {
    fn path(self, account: u64) -> String {
        let Self { market, status, after, limit } = self;
        let parameters = [
            ("account", Some(account.to_string())),
            ("market", market),
            ("status", status),
            ("after", text(after)),
            ("limit", text(limit)),
        ];
        with_query("/v1/orders".into(), parameters)
    }
}

/// `crosslatch orders`.
#[derive(Debug, Args)]
pub struct OrdersArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The account.
    #[arg(long)]
    account: u64,
    #[command(flatten)]
    which: WhichArgs,
}

#[derive(Debug, Args)]
struct PlaceArgs {
    /// The account.
    #[arg(value_parser = words::account)]
    account: u64,
    /// The market.
    market: String,
    /// How much, in base's smallest unit.
    quantity: Option<Amount>,
    /// The worst price that it accepts, in quote's smallest unit per lot.
    #[arg(long, value_name = "PRICE")]
    price: Option<u64>,
    /// What a market order that buys may spend, fees included, in quote's smallest unit.
    #[arg(long, value_name = "AMOUNT")]
    funds: Option<Amount>,
    /// How it may trade.
    #[arg(long = "type", value_name = "TYPE", default_value = "limit")]
    order_type: Kind,
    /// How long it stands [default: ioc for a market order, gtd with --expires-in-ms, else gtc]
    #[arg(long, value_name = "HOW")]
    time_in_force: Option<TimeInForce>,
    /// When it ends by itself.
    #[arg(long, value_name = "MS")]
    expires_in_ms: Option<u64>,
    /// What happens when it meets another order of the account [default: none]
    #[arg(long, value_name = "RULE")]
    self_trade: Option<SelfTrade>,
    /// A name for it, unique among the account's open orders.
    #[arg(long, value_name = "TEXT")]
    client_order_id: Option<String>,
    /// Refused as `expired` after this time, as in 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    #[command(flatten)]
    id: IdArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Kind {
    Limit,
    Market,
    PostOnly,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum TimeInForce {
    Gtc,
    Gtd,
    Ioc,
    Fok,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum SelfTrade {
    None,
    CancelTaker,
    CancelMaker,
    CancelBoth,
    Decrement,
}

/// The word for a value, as the server knows it, too.
fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().expect("every one has a name").get_name().to_owned()
}

impl PlaceArgs {
    fn body(&self, side: &str) -> Members {
        // Who says when it ends need not say that it does.
        let until = self.expires_in_ms.map(|_| TimeInForce::Gtd);
        members(json!({
            "account": self.account,
            "market": self.market,
            "side": side,
            "type": word(self.order_type),
            "time_in_force": self.time_in_force.or(until).map(word),
            "price": self.price,
            "quantity": self.quantity,
            "funds": self.funds,
            "expires_in_ms": self.expires_in_ms,
            "self_trade": self.self_trade.map(word),
            "client_order_id": self.client_order_id,
            "deadline": self.deadline,
        }))
    }
}

/// `crosslatch amend`.
#[derive(Debug, Args)]
pub struct AmendArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The order: the id of the request that placed it.
    order: RequestId,
    /// Its price from now on.
    #[arg(long, value_name = "PRICE")]
    price: Option<u64>,
    /// Its quantity from now on, what has traded included.
    #[arg(long, value_name = "AMOUNT", required_unless_present = "price")]
    quantity: Option<Amount>,
    #[command(flatten)]
    id: IdArgs,
}

/// `crosslatch cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The order: the id of the request that placed it.
    order: RequestId,
    #[command(flatten)]
    id: IdArgs,
}

/// `crosslatch cancel-all`.
#[derive(Debug, Args)]
pub struct CancelAllArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The account.
    #[arg(value_parser = words::account)]
    account: u64,
    /// In one market only.
    #[arg(long, value_name = "NAME")]
    market: Option<String>,
    #[command(flatten)]
    id: IdArgs,
}

/// Runs `crosslatch order`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn order(args: OrderArgs) -> anyhow::Result<ExitCode> {
    let server = args.server;
    let place = |args: PlaceArgs, side| {
        change(&server, Method::Post, "/v1/orders", args.id.id(), args.body(side))
    };
    match args.action {
        OrderAction::Buy(args) => place(args, "buy"),
        OrderAction::Sell(args) => place(args, "sell"),
        OrderAction::Show { order } => {
            let path = format!("/v1/orders/{order}");
            let call = Call { method: Method::Get, path: &path, body: None, id: None };
            server.ask(call, rename_status)
        }
        OrderAction::List { account, which } => server.get(&which.path(account)),
    }
}

/// Runs `crosslatch orders`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn orders(args: OrdersArgs) -> anyhow::Result<ExitCode> {
    args.server.get(&args.which.path(args.account))
}

/// Runs `crosslatch amend`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn amend(args: AmendArgs) -> anyhow::Result<ExitCode> {
    let AmendArgs { server, order, price, quantity, id } = args;
    let body = members(json!({"price": price, "quantity": quantity}));
    change(&server, Method::Patch, &format!("/v1/orders/{order}"), id.id(), body)
}

/// Runs `crosslatch cancel`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn cancel(args: CancelArgs) -> anyhow::Result<ExitCode> {
    let CancelArgs { server, order, id } = args;
    change(&server, Method::Delete, &format!("/v1/orders/{order}"), id.id(), Members::new())
}

/// Runs `crosslatch cancel-all`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn cancel_all(args: CancelAllArgs) -> anyhow::Result<ExitCode> {
    let CancelAllArgs { server, account, market, id } = args;
    let parameters = [("account", Some(account.to_string())), ("market", market)];
    let path = with_query("/v1/orders".into(), parameters);
    change(&server, Method::Delete, &path, id.id(), Members::new())
}

/// Sends a change; the receipt of an order is shown as one list of members.
fn change(
    server: &ServerArgs,
    method: Method,
    path: &str,
    id: RequestId,
    mut body: Members,
) -> anyhow::Result<ExitCode> {
    body.insert("request_id".into(), id.to_string().into());
    let body = (method != Method::Delete).then(|| body.into());
    server.ask(Call { method, path, body, id: Some(id) }, dress)
}

/// What people are shown of a receipt: the order's members beside the request's, and of many
/// markets one row for each order that ended, and one for each part that was refused.
fn dress(answer: &mut Value) {
    let Value::Object(receipt) = answer else { return };
    if let Some(mut order) = receipt.remove("order") {
        rename_status(&mut order);
        if let Value::Object(order) = order {
            receipt.extend(order);
        }
    }
    if let Some(Value::Array(results)) = receipt.remove("results") {
        let of = |result: &Value| {
            let market = &result["market"];
            let orders = result["orders"].as_array().cloned().unwrap_or_default();
            let with = |mut order: Value| {
                order["market"] = market.clone();
                order
            };
            orders.into_iter().map(with).collect::<Vec<Value>>()
        };
        receipt.insert("orders".into(), results.iter().flat_map(of).collect());
        let refused: Value =
            results.iter().filter(|result| is_refused(result)).map(refusal).collect();
        if refused != json!([]) {
            receipt.insert("refused".into(), refused);
        }
    }
}

/// What people are shown of the refusal of one part.
fn refusal(problem: &Value) -> Value {
    let told = ["market", "account", "code", "detail", "request_id"];
    let member = |name: &str| Some((name.to_owned(), problem.get(name)?.clone()));
    Value::Object(told.into_iter().filter_map(member).collect())
}

/// `status` is what became of the request; an order's own is its `state`.
fn rename_status(order: &mut Value) {
    if let Value::Object(order) = order
        && let Some(status) = order.remove("status")
    {
        order.insert("state".into(), status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_shown_beside_its_request() {
        let mut receipt = json!({"status": "settled", "market": "A-B", "order_id": "o",
                                 "order": {"order_id": "o", "status": "new", "side": "buy"}});
        dress(&mut receipt);
        let expected = json!({"status": "settled", "market": "A-B", "order_id": "o",
                              "state": "new", "side": "buy"});
        assert_eq!(receipt, expected);
    }

    #[test]
    fn many_markets_are_shown_as_one_table() {
        let mut receipt = json!({"results": [
            {"market": "A-B", "orders": [{"order_id": "o"}]},
            {"market": "C-D", "orders": []},
            {"market": "E-F", "orders": [{"order_id": "p"}]},
            {"status": "rejected", "code": "c", "title": "t", "detail": "d", "request_id": "r"},
        ]});
        dress(&mut receipt);
        assert_eq!(
            receipt,
            json!({"orders": [{"order_id": "o", "market": "A-B"},
                              {"order_id": "p", "market": "E-F"}],
                   "refused": [{"code": "c", "detail": "d", "request_id": "r"}]})
        );
    }
}
