//! Markets and orders: a tour from deposit to trade, refusals, repeats, what is halted, what is seen.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Client, Reply};
use super::people::*;
use super::process::Server;

/// Account 4 takes the fees, which are in SOL.
fn market(more: Value) -> Value {
    let mut body = json!({"base": "ETH", "quote": "SOL", "tick_size": "5", "lot_size": 10,
                          "maker_fee_bps": 100, "taker_fee_bps": "200", "fee_account": 4});
    let members = body.as_object_mut().expect("an object");
    members.extend(more.as_object().expect("an object").clone());
    body
}

pub(super) fn open_market(client: &mut Client) {
    client.put("/v1/accounts/4", &links(&[(101, USDC_SOL)])).with(200);
    client.put("/v1/markets/ETH-SOL", &market(json!({}))).with(200);
}

pub(super) fn venue() -> (TempDir, Server, Client) {
    let (data, server, mut client) = started();
    open_market(&mut client);
    (data, server, client)
}

/// A limit order in ETH-SOL, of which some members are others.
pub(super) fn order(n: u64, account: u64, side: &str, more: Value) -> Value {
    let mut body = json!({"request_id": id(n), "account": account, "market": "ETH-SOL",
                          "side": side, "type": "limit", "price": "20", "quantity": "100"});
    let members = body.as_object_mut().expect("an object");
    for (name, value) in more.as_object().expect("an object") {
        match value {
            Value::Null => drop(members.remove(name)),
            value => drop(members.insert(name.clone(), value.clone())),
        }
    }
    body
}

fn amend(client: &mut Client, of: u64, n: u64, mut body: Value) -> Reply {
    body["request_id"] = json!(id(n));
    client.json("PATCH", &format!("/v1/orders/{}", id(of)), &body)
}

/// By the header: nobody need send a body with a DELETE.
fn delete(client: &mut Client, path: &str, n: u64) -> Reply {
    client.send("DELETE", path, &[("Idempotency-Key", &id(n))], b"")
}

pub(super) fn cancel(client: &mut Client, of: u64, n: u64) -> Reply {
    delete(client, &format!("/v1/orders/{}", id(of)), n)
}

fn both(client: &mut Client, account: u64, asset: &str) -> (String, String) {
    let body = client.get(&format!("/v1/accounts/{account}/balances")).with(200);
    let all = body["balances"].as_array().expect("a list");
    let found = all.iter().find(|balance| balance["asset"] == asset).expect("it has some");
    let text = |name: &str| found[name].as_str().expect("a string").to_owned();
    (text("available"), text("held"))
}

fn amounts(available: &str, held: &str) -> (String, String) {
    (available.into(), held.into())
}

#[test]
fn a_tour_from_deposit_to_trade() {
    let (_data, _server, mut client) = venue();
    let sell = order(10, 1, "sell", json!({"client_order_id": "mine"}));
    let sold = client.post("/v1/orders", &sell).with(200);
    let standing = json!({
        "order_id": id(10), "account": 1, "client_order_id": "mine", "status": "new",
        "side": "sell", "type": "limit", "time_in_force": "gtc", "self_trade": "none",
        "price": "20", "quantity": "100", "filled": "0", "remaining": "100", "notional": "0",
    });
    assert_eq!(
        sold,
        json!({"status": "settled", "request_id": id(10), "commit_seq": "11",
               "time": sold["time"], "market": "ETH-SOL", "order_id": id(10), "order": standing,
               "fee": "0", "trades": [], "makers": []})
    );
    assert_eq!(both(&mut client, 1, "ETH"), amounts("900", "100"));
    // Six lots at the maker's price. Fees are 2.4 and 1.2, rounded against who pays.
    let buy = order(11, 2, "buy", json!({"price": 25, "quantity": 60, "time_in_force": "ioc"}));
    let bought = client.post("/v1/orders", &buy).with(200);
    let maker = json!({"order_id": id(10), "account": 1, "status": "partially_filled",
                       "price": "20", "filled": "60", "remaining": "40", "notional": "120"});
    let trade = json!({"maker_order_id": id(10), "maker_account": 1, "price": "20",
                       "quantity": "60", "notional": "120", "taker_fee": "3", "maker_fee": "2"});
    let filled = json!({
        "order_id": id(11), "account": 2, "status": "filled", "side": "buy", "type": "limit",
        "time_in_force": "ioc", "self_trade": "none", "price": "25", "quantity": "60",
        "filled": "60", "remaining": "0", "notional": "120",
    });
    assert_eq!((&bought["order"], &bought["fee"]), (&filled, &json!("3")));
    assert_eq!((&bought["trades"], &bought["makers"]), (&json!([trade]), &json!([maker])));
    assert_eq!(both(&mut client, 1, "ETH"), amounts("900", "40"));
    assert_eq!(both(&mut client, 1, "SOL"), amounts("118", "0"));
    assert_eq!(both(&mut client, 2, "ETH"), amounts("60", "0"));
    assert_eq!(both(&mut client, 2, "SOL"), amounts("4877", "0"));
    assert_eq!(both(&mut client, 4, "SOL"), amounts("5", "0"));
    assert_eq!(client.get("/v1/audit").with(200)["balanced"], true);
    // Amended to 80 in all, of which 60 have traded, and then canceled.
    let less = amend(&mut client, 10, 12, json!({"quantity": "80"})).with(200);
    let now = (&less["order"]["remaining"], &less["order"]["status"]);
    assert_eq!(now, (&json!("20"), &json!("partially_filled")));
    let gone = cancel(&mut client, 10, 13).with(200);
    let left = json!({"order_id": id(10), "account": 1, "status": "canceled", "reason": "asked",
                      "price": "20", "filled": "60", "remaining": "20", "notional": "120"});
    assert_eq!((&gone["order"], &gone["order_id"]), (&left, &json!(id(10))));
    assert_eq!(both(&mut client, 1, "ETH"), amounts("940", "0"));
}

#[test]
fn what_is_sent_again_is_answered_as_before() {
    let (data, server, mut client) = venue();
    let place = order(10, 1, "sell", json!({}));
    let placed = client.post("/v1/orders", &place).with(200);
    let amended = amend(&mut client, 10, 11, json!({"price": 30})).with(200);
    let canceled = cancel(&mut client, 10, 12).with(200);
    let all = delete(&mut client, "/v1/orders?account=1", 13).with(200);
    let again = |client: &mut Client| {
        assert_eq!(client.post("/v1/orders", &place).with(200), placed);
        assert_eq!(amend(client, 10, 11, json!({"price": 30})).with(200), amended);
        assert_eq!(cancel(client, 10, 12).with(200), canceled);
        assert_eq!(delete(client, "/v1/orders?account=1", 13).with(200), all);
        for (n, receipt) in [(10, &placed), (11, &amended), (12, &canceled)] {
            assert_eq!(&client.get(&format!("/v1/requests/{}", id(n))).with(200), receipt);
        }
    };
    again(&mut client);
    server.kill();
    let server = Server::start(data.path());
    let mut client = server.client();
    again(&mut client);
    let other = client.post("/v1/orders", &order(10, 1, "sell", json!({"price": 25})));
    other.problem(409, "request_id_reused", "request_id");
    assert_eq!(both(&mut client, 1, "ETH"), amounts("1000", "0"));
}

#[test]
fn an_order_for_a_market_that_came_later_stays_refused() {
    let (data, server, mut client) = started();
    client.put("/v1/accounts/4", &links(&[(101, USDC_SOL)])).with(200);
    let body = order(10, 1, "sell", json!({}));
    let first = client.post("/v1/orders", &body).problem(404, "unknown_market", "market");
    assert_eq!((&first["market"], &first["request_id"]), (&json!("ETH-SOL"), &json!(id(10))));
    assert_eq!(first["detail"], "market ETH-SOL does not exist");
    let all = delete(&mut client, "/v1/orders?account=1&market=ETH-SOL", 11);
    let all = all.problem(404, "unknown_market", "market");
    client.put("/v1/markets/ETH-SOL", &market(json!({}))).with(200);
    assert_eq!(client.post("/v1/orders", &body).with(404), first);
    server.kill();
    let server = Server::start(data.path());
    let mut client = server.client();
    assert_eq!(client.post("/v1/orders", &body).with(404), first);
    assert_eq!(delete(&mut client, "/v1/orders?account=1&market=ETH-SOL", 11).with(404), all);
    let other = client.post("/v1/orders", &order(10, 1, "sell", json!({"market": "ETH-USDC"})));
    other.problem(409, "request_id_reused", "request_id");
    let known = client.get(&format!("/v1/requests/{}", id(10))).problem(404, "unknown_market", "");
    assert_eq!(known["detail"], "a market that the request named did not exist");
    client.post("/v1/orders", &order(12, 1, "sell", json!({}))).with(200);
}

/// Members of an order that are bad, with what is expected of its refusal: code and field.
type Bad = (Value, &'static str, &'static str);

fn malformed_orders() -> Vec<Bad> {
    let bad = |more: Value, field| (more, "malformed", field);
    let market = |mut more: Value| {
        for (name, value) in [("type", json!("market")), ("time_in_force", json!("ioc"))] {
            if more.get(name).is_none() {
                more[name] = value;
            }
        }
        more
    };
    vec![
        bad(json!({"request_id": "x"}), "request_id"),
        bad(json!({"request_id": null}), "request_id"),
        bad(json!({"account": null}), "account"),
        bad(json!({"account": "one"}), "account"),
        bad(json!({"market": null}), "market"),
        bad(json!({"market": 5}), "market"),
        bad(json!({"market": "x".repeat(33)}), "market"),
        bad(json!({"side": "long"}), "side"),
        bad(json!({"side": null}), "side"),
        bad(json!({"type": "stop"}), "type"),
        bad(json!({"time_in_force": "day"}), "time_in_force"),
        bad(json!({"time_in_force": "gtd"}), "expires_in_ms"),
        bad(json!({"time_in_force": "gtd", "expires_in_ms": 0}), "expires_in_ms"),
        bad(json!({"time_in_force": "gtd", "expires_in_ms": "40000000000"}), "expires_in_ms"),
        bad(json!({"expires_in_ms": 5}), "expires_in_ms"),
        bad(json!({"self_trade": "allow"}), "self_trade"),
        bad(json!({"price": 0}), "price"),
        bad(json!({"price": null}), "price"),
        bad(json!({"price": "1.5"}), "price"),
        bad(json!({"price": -5}), "price"),
        bad(json!({"price": "18446744073709551620"}), "price"),
        bad(json!({"quantity": 0}), "quantity"),
        bad(json!({"quantity": null}), "quantity"),
        bad(json!({"quantity": true}), "quantity"),
        bad(json!({"funds": 5}), "funds"),
        bad(json!({"client_order_id": "a b"}), "client_order_id"),
        bad(json!({"client_order_id": "x".repeat(65)}), "client_order_id"),
        bad(json!({"client_order_id": 5}), "client_order_id"),
        bad(json!({"qty": 5}), "qty"),
        bad(json!({"deadline": "soon"}), "deadline"),
        bad(market(json!({"time_in_force": "gtc"})), "time_in_force"),
        bad(market(json!({"price": null})), "price"),
        bad(market(json!({"funds": 0})), "funds"),
        bad(json!({"type": "post_only", "time_in_force": "fok"}), "time_in_force"),
    ]
}

#[test]
fn malformed_orders_are_refused_by_field_and_leave_nothing() {
    let (_data, _server, mut client) = venue();
    let before = state(&mut client);
    for (more, code, field) in malformed_orders() {
        client.post("/v1/orders", &order(100, 2, "buy", more)).problem(400, code, field);
    }
    let sells = json!({"type": "market", "price": null, "funds": 5});
    client.post("/v1/orders", &order(100, 1, "sell", sells)).problem(400, "malformed", "funds");
    for (body, field) in [
        (json!({}), "price"),
        (json!({"price": 0}), "price"),
        (json!({"quantity": 0}), "quantity"),
        (json!({"price": 1.5}), "price"),
        (json!({"side": "buy"}), "side"),
    ] {
        amend(&mut client, 10, 100, body).problem(400, "malformed", field);
    }
    let no_id = client.json("PATCH", "/v1/orders/x", &json!({"request_id": id(100)}));
    no_id.problem(400, "malformed", "id");
    delete(&mut client, "/v1/orders/x", 100).problem(400, "malformed", "id");
    client.delete(&format!("/v1/orders/{}", id(10))).problem(400, "malformed", "request_id");
    for (path, field) in [
        ("/v1/orders", "account"),
        ("/v1/orders?account=x", "account"),
        ("/v1/orders?account=1&side=buy", "side"),
        ("/v1/orders?account=1&account=2", "account"),
        ("/v1/orders?account=1&market=a-name-that-is-far-too-long-to-be-one", "market"),
    ] {
        delete(&mut client, path, 100).problem(400, "malformed", field);
    }
    assert_eq!(state(&mut client), before);
    client.post("/v1/orders", &order(100, 2, "buy", json!({}))).with(200);
}

/// Bad orders of Bob's, who has 5,000 SOL and, in the book, one that buys 10 lots at 20.
fn refused_orders() -> Vec<(u64, Bad)> {
    let post_only = json!({"side": "sell", "type": "post_only", "price": 15});
    vec![
        (2, (json!({"market": "BTC-SOL"}), "unknown_market", "market")),
        (9, (json!({}), "unknown_account", "account")),
        (9, (json!({"market": "BTC-SOL", "price": 21}), "unknown_account", "account")),
        (3, (json!({}), "not_linked", "account")),
        (2, (json!({"price": 21}), "invalid_order", "price")),
        (2, (json!({"quantity": 15}), "invalid_order", "quantity")),
        (2, (json!({"quantity": 10}), "invalid_order", "quantity")),
        (
            2,
            (
                json!({"price": u64::MAX, "quantity": "1844674407370955161000"}),
                "invalid_order",
                "quantity",
            ),
        ),
        (2, (json!({"price": 5_000}), "insufficient_funds", "quantity")),
        (2, (json!({"side": "sell"}), "insufficient_funds", "quantity")),
        (2, (json!({"client_order_id": "first"}), "duplicate_client_order_id", "client_order_id")),
        (1, (post_only, "would_take", "price")),
        (2, (json!({"deadline": "2020-01-01T00:00:00Z"}), "expired", "deadline")),
    ]
}

fn http_of(code: &str) -> u16 {
    match code {
        "unknown_market" | "unknown_account" | "unknown_order" => 404,
        "duplicate_client_order_id" | "too_many_orders" | "market_halted" => 409,
        "expired" => 410,
        _ => 422,
    }
}

#[test]
fn orders_that_cannot_be_are_refused_by_code_and_field() {
    let (_data, _server, mut client) = started();
    client.put("/v1/accounts/4", &links(&[(101, USDC_SOL)])).with(200);
    let strict = market(json!({"min_notional": 100, "tick_size": 5}));
    client.put("/v1/markets/ETH-SOL", &strict).with(200);
    let first = order(10, 2, "buy", json!({"client_order_id": "first"}));
    client.post("/v1/orders", &first).with(200);
    let before = state(&mut client);
    for (n, (account, (more, code, field))) in (200..).zip(refused_orders()) {
        // Whatever it is, it says so again.
        let body = order(n, account, "buy", more);
        let told = client.post("/v1/orders", &body).problem(http_of(code), code, field);
        assert_eq!(client.post("/v1/orders", &body).with(http_of(code)), told);
        let in_market = matches!(code, "invalid_order" | "would_take");
        assert!(!in_market || told["market"] == "ETH-SOL", "{told}");
    }
    let told = |client: &mut Client, more: Value, field: &str| {
        let body = order(300 + before.len() as u64 + field.len() as u64, 2, "buy", more);
        client.post("/v1/orders", &body).problem(422, "invalid_order", field)
    };
    assert_eq!(told(&mut client, json!({"price": 21}), "price")["tick_size"], "5");
    assert_eq!(told(&mut client, json!({"quantity": 15}), "quantity")["lot_size"], "10");
    let named = order(320, 2, "buy", json!({"client_order_id": "first"}));
    let named = client.post("/v1/orders", &named).with(409);
    assert_eq!(named["order_id"], json!(id(10)));
    let funds = json!({"type": "market", "price": null, "quantity": null, "funds": "5001"});
    let funds = client.post("/v1/orders", &order(321, 2, "buy", funds));
    let funds = funds.problem(422, "insufficient_funds", "funds");
    assert_eq!((&funds["asset"], &funds["account"]), (&json!("SOL"), &json!(2)));
    assert_eq!(state(&mut client), before);
}

#[test]
fn amendments_and_cancellations_that_cannot_be_are_refused() {
    let (_data, _server, mut client) = venue();
    client.post("/v1/orders", &order(10, 2, "buy", json!({}))).with(200);
    client.post("/v1/orders", &order(11, 1, "sell", json!({"price": 30}))).with(200);
    let take = json!({"quantity": 50, "time_in_force": "fok"});
    client.post("/v1/orders", &order(12, 1, "sell", take)).with(200);
    let before = state(&mut client);
    for (n, of, body, status, code, field) in [
        (20, 99, json!({"price": 5}), 404, "unknown_order", "id"),
        (21, 10, json!({"price": 21}), 422, "invalid_order", "price"),
        (22, 10, json!({"quantity": 101}), 422, "invalid_order", "quantity"),
        (23, 10, json!({"quantity": 50}), 422, "invalid_order", "quantity"),
        (24, 10, json!({"price": 10_000}), 422, "insufficient_funds", "price"),
        (25, 10, json!({"quantity": 100_000}), 422, "insufficient_funds", "quantity"),
        (26, 12, json!({"price": 5}), 404, "unknown_order", "id"),
        (
            27,
            10,
            json!({"price": 5, "deadline": "2020-01-01T00:00:00Z"}),
            410,
            "expired",
            "deadline",
        ),
    ] {
        let told = amend(&mut client, of, n, body.clone()).problem(status, code, field);
        assert_eq!(amend(&mut client, of, n, body).with(status), told);
    }
    let filled = amend(&mut client, 10, 28, json!({"quantity": 40})).with(422);
    assert_eq!((&filled["filled"], &filled["field"]), (&json!("50"), &json!("quantity")));
    let unknown = cancel(&mut client, 12, 29).problem(404, "unknown_order", "id");
    assert_eq!((&unknown["order_id"], &unknown["request_id"]), (&json!(id(12)), &json!(id(29))));
    assert_eq!(state(&mut client), before);
}

#[test]
fn limits_of_markets_are_told() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start_with(data.path(), &[("orders_per_market_max", 2)]);
    let mut client = server.client();
    populate(&mut client);
    client.put("/v1/accounts/4", &links(&[(101, USDC_SOL)])).with(200);
    let band = market(json!({"price_band_bps": 2_500}));
    client.put("/v1/markets/ETH-SOL", &band).with(200);
    let one = json!({"quantity": 10});
    client.post("/v1/orders", &order(10, 1, "sell", one.clone())).with(200);
    client.post("/v1/orders", &order(11, 2, "buy", one.clone())).with(200);
    // The last trade was at 20: prices are within a quarter of it.
    let far = client.post("/v1/orders", &order(12, 2, "buy", json!({"price": 10})));
    let far = far.problem(422, "price_out_of_band", "price");
    assert_eq!(
        (&far["low"], &far["high"], &far["market"]),
        (&json!("15"), &json!("25"), &json!("ETH-SOL"))
    );
    for n in [13, 14] {
        client.post("/v1/orders", &order(n, 2, "buy", one.clone())).with(200);
    }
    let many = client.post("/v1/orders", &order(15, 2, "buy", one));
    let many = many.problem(409, "too_many_orders", "market");
    assert_eq!((&many["max"], &many["market"]), (&json!(2), &json!("ETH-SOL")));
    let amended = amend(&mut client, 13, 16, json!({"price": 30}));
    amended.problem(422, "price_out_of_band", "price");
}

#[test]
fn markets_are_put_listed_halted_and_resumed() {
    let (_data, _server, mut client) = venue();
    let expected = json!({
        "market": "ETH-SOL", "base": "ETH", "quote": "SOL", "tick_size": "5", "lot_size": "10",
        "maker_fee_bps": 100, "taker_fee_bps": 200, "fee_account": 4, "min_notional": "0",
        "price_band_bps": 0, "halted": false,
    });
    assert_eq!(client.get("/v1/markets").with(200), json!({"markets": [expected]}));
    assert_eq!(client.get("/v1/markets/ETH-SOL").with(200), expected);
    let same = client.put("/v1/markets/ETH-SOL", &market(json!({}))).with(200);
    assert_eq!((&same["market"], &same["halted"]), (&json!("ETH-SOL"), &Value::Null));
    client.post("/v1/orders", &order(10, 1, "sell", json!({}))).with(200);
    let by = json!({"request_id": id(20)});
    let halt = client.post("/v1/markets/ETH-SOL/halt", &by).with(200);
    assert_eq!((&halt["market"], &halt["halted"]), (&json!("ETH-SOL"), &json!(true)));
    assert_eq!(client.post("/v1/markets/ETH-SOL/halt", &by).with(200), halt);
    assert_eq!(client.get("/v1/markets/ETH-SOL").with(200)["halted"], true);
    let refused = client.post("/v1/orders", &order(11, 2, "buy", json!({})));
    let refused = refused.problem(409, "market_halted", "market");
    assert_eq!(refused["market"], "ETH-SOL");
    assert_eq!(refused["detail"], "market ETH-SOL is halted; orders can only be canceled");
    amend(&mut client, 10, 12, json!({"price": 25})).problem(409, "market_halted", "market");
    cancel(&mut client, 10, 13).with(200);
    let resumed = client.post("/v1/markets/ETH-SOL/resume", &json!({})).with(200);
    assert_eq!(resumed["halted"], false);
    client.post("/v1/orders", &order(14, 2, "buy", json!({}))).with(200);
}

#[test]
fn bad_markets_are_refused_by_code_and_field() {
    let (_data, _server, mut client) = venue();
    for (more, status, code, field) in [
        (json!({"tick_size": 0}), 400, "malformed", "tick_size"),
        (json!({"lot_size": "1.5"}), 400, "malformed", "lot_size"),
        (json!({"quote": "ETH"}), 400, "malformed", "quote"),
        (json!({"maker_fee_bps": -201}), 400, "malformed", "maker_fee_bps"),
        (json!({"taker_fee_bps": 10_001}), 400, "malformed", "taker_fee_bps"),
        (json!({"taker_fee_bps": "99999"}), 400, "malformed", "taker_fee_bps"),
        (json!({"fee": 5}), 400, "malformed", "fee"),
        (json!({"base": "DOGE"}), 404, "unknown_asset", "base"),
        (json!({"quote": "DOGE"}), 404, "unknown_asset", "quote"),
        (json!({"fee_account": 9}), 404, "unknown_account", "fee_account"),
        (json!({"fee_account": 3}), 422, "not_linked", "fee_account"),
    ] {
        client.put("/v1/markets/NEW", &market(more)).problem(status, code, field);
    }
    client.put("/v1/markets/N%20W", &market(json!({}))).problem(400, "malformed", "market");
    let other = client.put("/v1/markets/ETH-SOL", &market(json!({"tick_size": 1})));
    other.problem(409, "already_exists", "market");
    for path in ["/v1/markets/NEW", "/v1/markets/NEW/book", "/v1/markets/NEW/trades"] {
        let unknown = client.get(path).problem(404, "unknown_market", "market");
        assert_eq!(unknown["market"], "NEW");
    }
    for how in ["halt", "resume"] {
        let unknown = client.post(&format!("/v1/markets/NEW/{how}"), &json!({}));
        assert_eq!(unknown.problem(404, "unknown_market", "market")["market"], "NEW");
        let more = client.post(&format!("/v1/markets/ETH-SOL/{how}"), &json!({"why": "?"}));
        more.problem(400, "malformed", "why");
    }
    assert_eq!(client.get("/v1/markets").with(200)["markets"].as_array().map(Vec::len), Some(1));
}

#[test]
fn all_orders_of_an_account_end_in_one_market_or_in_all() {
    let (_data, _server, mut client) = venue();
    let second = market(json!({"base": "USDC"}));
    client.put("/v1/markets/USDC-SOL", &second).with(200);
    for (n, account, market) in
        [(10, 2, "ETH-SOL"), (11, 2, "USDC-SOL"), (12, 1, "ETH-SOL"), (13, 2, "ETH-SOL")]
    {
        let side = if account == 1 { "sell" } else { "buy" };
        let price = if account == 1 { 50 } else { 20 };
        let more = json!({"market": market, "price": price});
        client.post("/v1/orders", &order(n, account, side, more)).with(200);
    }
    let ended = |body: &Value| -> Vec<Value> {
        let orders = body["orders"].as_array().expect("a list");
        orders.iter().map(|order| order["order_id"].clone()).collect()
    };
    let one = delete(&mut client, "/v1/orders?account=2&market=USDC-SOL", 20).with(200);
    assert_eq!((&one["market"], ended(&one)), (&json!("USDC-SOL"), vec![json!(id(11))]));
    let all = delete(&mut client, "/v1/orders?account=2", 21).with(200);
    let results = all["results"].as_array().expect("a list");
    assert_eq!(
        (&results[0]["market"], &results[1]["market"]),
        (&json!("ETH-SOL"), &json!("USDC-SOL"))
    );
    assert_eq!(
        (ended(&results[0]), ended(&results[1])),
        (vec![json!(id(10)), json!(id(13))], vec![])
    );
    // Each part is a request that can be looked up.
    let part = results[0]["request_id"].as_str().expect("an id");
    assert_eq!(client.get(&format!("/v1/requests/{part}")).with(200), results[0]);
    assert_eq!(both(&mut client, 2, "SOL"), amounts("5000", "0"));
    assert_eq!(both(&mut client, 1, "ETH"), amounts("900", "100"));
    let other = delete(&mut client, "/v1/orders?account=1", 21).with(200);
    assert_eq!(other["results"][0]["code"], "request_id_reused");
    let nobody = delete(&mut client, "/v1/orders?account=9&market=ETH-SOL", 22);
    nobody.problem(404, "unknown_account", "account");
}

#[test]
fn books_orders_and_trades_are_seen() {
    let (_data, _server, mut client) = venue();
    for (n, account, side, price) in
        [(10, 1, "sell", 30), (11, 1, "sell", 30), (12, 1, "sell", 35), (13, 2, "buy", 20)]
    {
        client.post("/v1/orders", &order(n, account, side, json!({"price": price}))).with(200);
    }
    let level = |price: &str, quantity: &str, orders| json!({"price": price, "quantity": quantity, "orders": orders});
    let book = client.get("/v1/markets/ETH-SOL/book?depth=1").with(200);
    assert_eq!(
        book,
        json!({"market": "ETH-SOL", "seq": "14", "last_price": null,
               "bids": [level("20", "100", 1)], "asks": [level("30", "200", 2)]})
    );
    let take = json!({"type": "market", "price": null, "quantity": 150, "funds": 2_000});
    let taken = client.post("/v1/orders", &order(14, 2, "buy", take)).with(200);
    assert_eq!(taken["order"]["price"], Value::Null);
    let book = client.get("/v1/markets/ETH-SOL/book").with(200);
    assert_eq!(book["asks"], json!([level("30", "50", 1), level("35", "100", 1)]));
    assert_eq!((&book["last_price"], &book["seq"]), (&json!("30"), &taken["commit_seq"]));
    let trades = client.get("/v1/markets/ETH-SOL/trades").with(200);
    assert_eq!(
        (trades["trades"].as_array().map(Vec::len), &trades["next"]),
        (Some(2), &Value::Null)
    );
    let first = json!({
        "trade_id": format!("{}.0", taken["commit_seq"].as_str().expect("a seq")),
        "seq": taken["commit_seq"], "time": taken["time"], "side": "buy", "price": "30",
        "quantity": "100", "notional": "300", "request_id": id(14), "maker_order_id": id(10),
        "maker_account": 1, "taker_fee": "6", "maker_fee": "3",
    });
    assert_eq!(trades["trades"][0], first);
    let page = client.get("/v1/markets/ETH-SOL/trades?limit=1").with(200);
    assert_eq!((&page["trades"], &page["next"]), (&json!([first]), &first["trade_id"]));
    let after = first["trade_id"].as_str().expect("a trade");
    let rest = client.get(&format!("/v1/markets/ETH-SOL/trades?limit=1&after={after}")).with(200);
    assert_eq!((&rest["trades"], &rest["next"]), (&json!([trades["trades"][1]]), &Value::Null));
    let seq = taken["commit_seq"].as_str().expect("a seq");
    let none = client.get(&format!("/v1/markets/ETH-SOL/trades?after={seq}")).with(200);
    assert_eq!(none["trades"], json!([]));
    for (query, field) in [
        ("book?depth=0", "depth"),
        ("trades?limit=1001", "limit"),
        ("trades?after=99", "after"),
        ("trades?after=99.1", "after"),
        ("trades?after=1.x", "after"),
    ] {
        let path = format!("/v1/markets/ETH-SOL/{query}");
        client.get(&path).problem(400, "malformed", field);
    }
}

#[test]
fn orders_are_looked_up_while_they_stand_and_after() {
    let (data, server, mut client) = venue();
    let until = json!({"client_order_id": "mine", "time_in_force": "gtd", "expires_in_ms": 3_600_000,
                       "price": 30});
    let placed = client.post("/v1/orders", &order(10, 1, "sell", until)).with(200);
    client.post("/v1/orders", &order(11, 1, "sell", json!({"price": 35}))).with(200);
    let take = json!({"price": 30, "quantity": 40});
    client.post("/v1/orders", &order(12, 2, "buy", take)).with(200);
    amend(&mut client, 10, 13, json!({"quantity": 90})).with(200);
    let path = format!("/v1/orders/{}", id(10));
    let open = client.get(&path).with(200);
    let mut expected = placed["order"].clone();
    for (name, value) in [
        ("market", json!("ETH-SOL")),
        ("status", json!("partially_filled")),
        ("quantity", json!("90")),
        ("filled", json!("40")),
        ("remaining", json!("50")),
        ("notional", json!("120")),
        ("since", placed["commit_seq"].clone()),
        ("time", placed["time"].clone()),
        ("expires_at", open["expires_at"].clone()),
    ] {
        expected[name] = value;
    }
    assert_eq!(open, expected);
    assert!(open["expires_at"].as_str() > open["time"].as_str(), "{open}");
    let list = |client: &mut Client, query: &str| {
        let body = client.get(&format!("/v1/orders?account=1{query}")).with(200);
        body["orders"].as_array().expect("a list").clone()
    };
    let all = list(&mut client, "");
    assert_eq!((all.len(), &all[1]), (2, &open));
    assert_eq!(list(&mut client, "&status=open&market=ETH-SOL"), all);
    assert_eq!(list(&mut client, "&status=new"), all[..1]);
    assert_eq!(list(&mut client, "&status=partially_filled"), all[1..]);
    cancel(&mut client, 10, 14).with(200);
    let over = client.get(&path).with(200);
    assert_eq!((&over["status"], &over["reason"]), (&json!("canceled"), &json!("asked")));
    server.kill();
    let server = Server::start(data.path());
    let mut client = server.client();
    assert_eq!(client.get(&path).with(200), over);
    assert_eq!(list(&mut client, "&status=open"), all[..1]);
    assert_eq!(list(&mut client, ""), [all[0].clone(), over]);
    client.get(&format!("/v1/orders/{}", id(13))).problem(404, "unknown_order", "id");
    client.get("/v1/orders/x").problem(400, "malformed", "id");
    client.get("/v1/orders?account=9").problem(404, "unknown_account", "account");
    client.get("/v1/orders?account=1&market=NO").problem(404, "unknown_market", "market");
    client.get("/v1/orders?account=1&status=done").problem(400, "malformed", "status");
    client.get("/v1/orders").problem(400, "malformed", "account");
}

/// What is announced as large and does not arrive takes up all room for bodies; what has no body
/// needs none of it.
#[test]
fn a_request_without_a_body_needs_no_room_for_one() {
    let (_data, server, mut client) = venue();
    let head = "POST /v1/swaps HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n";
    let mut large: Vec<TcpStream> = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(server.address).expect("it listens");
        write!(stream, "{head}Content-Length: {}\r\n\r\n", 16 * 1024 * 1024).expect("it hears");
        // Room is taken for what comes, and doubled: more than half of it takes all.
        stream.write_all(&vec![b' '; 9 * 1024 * 1024]).expect("it hears");
        large.push(stream);
    }
    // Until all of them are waited for.
    while client.post("/v1/swaps", &json!({})).status != 503 {}
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    let head = format!("DELETE /v1/orders/{} HTTP/1.1\r\nHost: test\r\n", id(10));
    write!(stream, "{head}Connection: close\r\nIdempotency-Key: {}\r\n\r\n", id(20))
        .expect("it hears");
    let mut told = String::new();
    stream.read_to_string(&mut told).expect("it answers");
    assert!(told.starts_with("HTTP/1.1 404"), "{told}");
    drop(large);
}
