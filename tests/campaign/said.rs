//! Requests in the words of HTTP.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use crosslatch::market::order::{SelfTrade, Side};
use crosslatch::request::{
    Action, Command, OrderType, PlaceOrder, Request, Resolve, Stands, Transact, Transfer,
};
use crosslatch::types::{AssetId, Leg, MarketId, Subject};

const ASSETS: [&str; 3] = ["ETH", "SOL", "USDC.eth"];

/// Method, path and body; `None` for what has no words here, such as an asset that is only a number.
pub fn over_http(request: &Request) -> Option<(&'static str, String, Value)> {
    let post = |path: &str, body| Some(("POST", path.to_owned(), body));
    let (method, path, mut body) = match &request.command {
        Command::Swap(swap) => post("/v1/swaps", json!({"legs": legs(swap.legs())?})),
        Command::Deposit(it) => post("/v1/deposits", transfer(it)?),
        Command::Withdraw(it) => post("/v1/withdrawals", transfer(it)?),
        Command::Prepare(it) => {
            let legs = legs(it.swap.legs())?;
            let (ms, exclusive) = (it.expires_in_ms, it.exclusive);
            let body = json!({"legs": legs, "expires_in_ms": ms, "exclusive": exclusive});
            post("/v1/prepared", body)
        }
        Command::Resolve(resolve) => post(&resolution(*resolve)?, json!({})),
        Command::Transact(it) => post("/v1/transactions", transact(it)?),
        Command::Order(it) => post("/v1/orders", order(it)),
        Command::Amend(it) => {
            let mut body = Map::new();
            body.extend(it.price.map(|price| ("price".into(), json!(price.0))));
            let quantity = it.quantity.map(|it| ("quantity".into(), json!(it.to_string())));
            body.extend(quantity);
            Some(("PATCH", format!("/v1/orders/{}", it.order), Value::Object(body)))
        }
        Command::Cancel(order) => Some(("DELETE", format!("/v1/orders/{order}"), json!({}))),
        _ => None,
    }?;
    body["request_id"] = json!(request.id.to_string());
    Some((method, path, body))
}

fn asset(asset: AssetId) -> Option<&'static str> {
    ASSETS.get(asset.get() as usize).copied()
}

fn market(market: MarketId) -> String {
    format!("MARKET-{}", market.get())
}

fn legs(legs: &[Leg]) -> Option<Vec<Value>> {
    let words = legs.iter().map(|leg| {
        let amount = leg.amount.to_string();
        let (from, to) = (leg.from.get(), leg.to.get());
        Some(json!({"from": from, "to": to, "asset": asset(leg.asset)?, "amount": amount}))
    });
    words.collect()
}

fn transfer(it: &Transfer) -> Option<Value> {
    let (account, amount) = (it.account.get(), it.amount.to_string());
    let mut body = json!({"account": account, "asset": asset(it.asset)?, "amount": amount});
    if !it.reference.is_empty() {
        body["reference"] = json!(it.reference);
    }
    Some(body)
}

fn resolution(resolve: Resolve) -> Option<String> {
    let token = resolve.token;
    Some(match resolve.action {
        Action::Commit => format!("/v1/prepared/{token}/commit"),
        Action::Rollback => format!("/v1/prepared/{token}/rollback"),
        Action::Confirm => format!("/v1/withdrawals/{token}/confirm"),
        Action::Cancel => format!("/v1/withdrawals/{token}/cancel"),
        Action::Expire => return None,
    })
}

fn transact(it: &Transact) -> Option<Value> {
    let reads = it.reads.iter().map(|read| {
        let version = read.version.get();
        Some(match &read.subject {
            Subject::Key(key) => json!({"key": BASE64.encode(key.bytes()), "version": version}),
            Subject::Balance(of) => {
                let account = of.account.get();
                json!({"account": account, "asset": asset(of.asset)?, "version": version})
            }
        })
    });
    let writes = it.writes.iter().map(|write| {
        let value = write.value.as_ref().map(|value| BASE64.encode(value));
        json!({"key": BASE64.encode(write.key.bytes()), "value": value})
    });
    let (reads, writes) = (reads.collect::<Option<Vec<_>>>()?, writes.collect::<Vec<_>>());
    Some(json!({"reads": reads, "writes": writes, "transfers": legs(&it.transfers)?}))
}

fn order(it: &PlaceOrder) -> Value {
    let side = if it.side == Side::Buy { "buy" } else { "sell" };
    let order_type = match it.order_type {
        OrderType::Limit => "limit",
        OrderType::Market => "market",
        OrderType::PostOnly => "post_only",
    };
    let self_trade = match it.self_trade {
        SelfTrade::None => "none",
        SelfTrade::CancelTaker => "cancel_taker",
        SelfTrade::CancelMaker => "cancel_maker",
        SelfTrade::CancelBoth => "cancel_both",
        SelfTrade::Decrement => "decrement",
    };
    let stands = match it.stands {
        Stands::Gtc => "gtc",
        Stands::Gtd { .. } => "gtd",
        Stands::Ioc => "ioc",
        Stands::Fok => "fok",
    };
    let mut body = json!({
        "market": market(it.market), "account": it.account.get(), "side": side,
        "type": order_type, "time_in_force": stands, "self_trade": self_trade,
    });
    let members = body.as_object_mut().expect("an object");
    if let Stands::Gtd { expires_in_ms } = it.stands {
        members.insert("expires_in_ms".into(), json!(expires_in_ms));
    }
    if !it.client_order_id.is_empty() {
        members.insert("client_order_id".into(), json!(it.client_order_id));
    }
    members.extend(it.price.map(|price| ("price".into(), json!(price.0))));
    members.extend(it.quantity.map(|it| ("quantity".into(), json!(it.to_string()))));
    members.extend(it.funds.map(|it| ("funds".into(), json!(it.to_string()))));
    body
}
