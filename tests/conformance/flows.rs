//! What generators are too blunt for: what comes second, what is in the way, what is over. At the end
//! every call was answered with success, and with a problem where the document has one.

use serde_json::{Value, json};

use super::document::Judge;
use super::http::Reply;
use super::story::told;

/// Ids that the examples do not use.
fn id(n: u64) -> String {
    format!("01990000-0000-7000-8000-{n:012x}")
}

fn plain(n: u64) -> Value {
    json!({"request_id": id(n)})
}

/// Account 1 gives ETH, account 2 nothing but one SOL of its smallest unit.
fn legs(eth: &str) -> Value {
    json!([{"from": 1, "to": 2, "asset": "ETH", "amount": eth},
           {"from": 2, "to": 1, "asset": "SOL", "amount": 1}])
}

fn order(n: u64, account: u64, side: &str, price: u64, more: &Value) -> Value {
    let mut order = json!({"request_id": id(n), "account": account, "market": "ETH-SOL",
        "side": side, "type": "limit", "price": price, "quantity": "10000000000000000"});
    let more = more.as_object().expect("an object").clone();
    order.as_object_mut().expect("an object").extend(more);
    order
}

#[test]
fn flows_are_answered_as_the_document_says() {
    let (_data, _server, mut judge) = told();
    let link = json!({"request_id": id(1), "chain_id": 101,
        "address": "7EcDhSYGxXyscszYEp35KHN8vvw3svAuLKTzXwCFLtV"});
    judge.post("/v1/accounts/2/links", &link).with(200);
    let judge = &mut judge;
    the_directory_stays_as_it_is(judge);
    value_moves_once(judge);
    holds_end_once(judge);
    transactions_conflict(judge);
    orders_stand_and_end(judge);
    the_venue_is_restricted(judge);
    what_is_not_there(judge);
    what_cannot_be_read(judge);
    every_call_was_answered(judge);
}

fn the_directory_stays_as_it_is(judge: &mut Judge) {
    let other = json!({"chain_id": 1, "chain_kind": "evm", "token": "native", "decimals": 8});
    judge.call("PUT", "/v1/assets/ETH", Some(&other)).problem(409, "already_exists", "asset");
    let stolen = json!({"links": [{"chain_id": 101,
        "address": "DYw8jCTfwHNRJhhmFcbXvVDTqWMEVFBX6ZKUmG5CNSKK"}]});
    judge.call("PUT", "/v1/accounts/9", Some(&stolen)).problem(409, "already_linked", "links");
    let nowhere = json!({"links": [{"chain_id": 77, "address": "x"}]});
    let refused = judge.call("PUT", "/v1/accounts/9", Some(&nowhere));
    refused.problem(404, "unknown_chain", "links[0].chain_id");
    judge.call("PUT", "/v1/accounts/3", Some(&json!({}))).with(200);
    judge.call("PUT", "/v1/accounts/3", Some(&json!({"links": null}))).with(200);
}

fn value_moves_once(judge: &mut Judge) {
    let deposit = |n, account: u64, reference: &str| {
        json!({"request_id": id(n), "account": account, "asset": "ETH", "amount": 5,
               "reference": reference})
    };
    let first = judge.post("/v1/deposits", &deposit(10, 1, "seen")).with(200);
    assert_eq!(judge.post("/v1/deposits", &deposit(10, 1, "seen")).with(200), first);
    let again = judge.post("/v1/deposits", &deposit(11, 1, "seen"));
    again.problem(409, "already_credited", "reference");
    judge.post("/v1/deposits", &deposit(10, 1, "other")).problem(
        409,
        "request_id_reused",
        "request_id",
    );
    judge.post("/v1/deposits", &deposit(12, 3, "")).problem(422, "not_linked", "account");
    judge.post("/v1/deposits", &deposit(13, 9, "")).problem(404, "unknown_account", "account");
    let all = json!({"request_id": id(14), "account": 1, "asset": "ETH",
        "amount": u128::MAX.to_string()});
    judge.post("/v1/deposits", &all).problem(422, "supply_exceeded", "amount");
    let swap = |n, legs: Value| json!({"request_id": id(n), "legs": legs});
    let short = judge.post("/v1/swaps", &swap(15, legs("900000000000000000000")));
    short.problem(422, "insufficient_funds", "legs[0].amount");
    let mut late = swap(16, legs("1"));
    late["deadline"] = "2001-01-01T00:00:00Z".into();
    judge.post("/v1/swaps", &late).problem(410, "expired", "deadline");
    judge.get(&format!("/v1/requests/{}", id(15))).problem(422, "insufficient_funds", "");
    judge.get(&format!("/v1/swaps/{}", id(16))).problem(410, "expired", "deadline");
    let batch = json!({"swaps": [swap(17, legs("1")), swap(15, legs("1")), {"legs": 7}, late]});
    let results = judge.post("/v1/swaps:batch", &batch).with(200);
    let codes = results["results"].as_array().expect("a list").iter().map(|it| &it["code"]);
    let expected =
        [&Value::Null, &"request_id_reused".into(), &"malformed".into(), &"expired".into()];
    assert_eq!(codes.collect::<Vec<_>>(), expected);
    judge.post("/v1/swaps:batch", &json!({"swaps": 7})).problem(400, "malformed", "swaps");
}

fn holds_end_once(judge: &mut Judge) {
    let prepare = |n| json!({"request_id": id(n), "legs": legs("1")});
    for (n, first, second) in [(20, "commit", "rollback"), (30, "rollback", "commit")] {
        judge.post("/v1/prepared", &prepare(n)).with(200);
        let ends = |how: &str| format!("/v1/prepared/{}/{how}", id(n));
        judge.post(&ends(first), &plain(n + 1)).with(200);
        judge.post(&ends(first), &plain(n + 2)).with(200);
        let refused = judge.post(&ends(second), &plain(n + 3));
        refused.problem(409, "already_resolved", "token");
        judge.get(&format!("/v1/prepared/{}", id(n))).with(200);
    }
    let withdraw = |n, amount: &str| json!({"request_id": id(n), "account": 1, "asset": "SOL", "amount": amount});
    for (n, first, second) in [(40, "confirm", "cancel"), (50, "cancel", "confirm")] {
        judge.post("/v1/withdrawals", &withdraw(n, "1")).with(200);
        let ends = |how: &str| format!("/v1/withdrawals/{}/{how}", id(n));
        judge.post(&ends(first), &plain(n + 1)).with(200);
        judge.post(&ends(first), &plain(n + 2)).with(200);
        judge.post(&ends(second), &plain(n + 3)).problem(409, "already_resolved", "id");
        judge.get(&format!("/v1/withdrawals/{}", id(n))).with(200);
    }
    let all = judge.post("/v1/withdrawals", &withdraw(60, "900000000000000"));
    all.problem(422, "insufficient_funds", "amount");
    let mut much = prepare(61);
    much["legs"] = legs("900000000000000000000");
    judge.post("/v1/prepared", &much).problem(422, "insufficient_funds", "legs[0].amount");
}

fn transactions_conflict(judge: &mut Judge) {
    let transact = |n, version: &str| {
        json!({"request_id": id(n), "reads": [{"key": "bm93", "version": version}],
               "writes": [{"key": "bm93", "value": "MQ=="}, {"key": "b2xk", "value": null}]})
    };
    let first = judge.post("/v1/transactions", &transact(70, "0")).with(200);
    judge.post("/v1/transactions", &transact(71, "0")).problem(409, "conflict", "reads[0]");
    let seq = first["commit_seq"].as_str().expect("a seq").to_owned();
    judge.post("/v1/transactions", &transact(72, &seq)).with(200);
    let mut stale = transact(73, "1");
    stale["reads"] = json!([{"account": 1, "asset": "ETH", "version": 1}]);
    judge.post("/v1/transactions", &stale).problem(409, "conflict", "reads[0]");
    judge.get(&format!("/v1/keys/bm93?at={seq}")).with(200);
    assert_eq!(judge.get("/v1/keys/b2xk").with(200)["value"], Value::Null);
}

fn orders_stand_and_end(judge: &mut Judge) {
    let none = json!({});
    judge.post("/v1/orders", &order(80, 1, "sell", 20_000_000, &none)).with(200);
    let named = json!({"client_order_id": "one", "time_in_force": "gtd", "expires_in_ms": 60_000});
    judge.post("/v1/orders", &order(81, 1, "sell", 20_100_000, &named)).with(200);
    let same = judge.post("/v1/orders", &order(82, 1, "sell", 20_100_000, &named));
    same.problem(409, "duplicate_client_order_id", "client_order_id");
    judge.post("/v1/orders", &order(83, 2, "buy", 20_000_000, &none)).with(200);
    let takes =
        judge.post("/v1/orders", &order(84, 2, "buy", 20_100_000, &json!({"type": "post_only"})));
    takes.problem(422, "would_take", "price");
    let uneven = judge.post("/v1/orders", &order(85, 2, "buy", 1, &none));
    uneven.problem(422, "invalid_order", "price");
    let far = judge.post("/v1/orders", &order(86, 2, "buy", 90_000_000, &none));
    far.problem(422, "price_out_of_band", "price");
    let amend = |n, price: u64| json!({"request_id": id(n), "price": price});
    let path = |n| format!("/v1/orders/{}", id(n));
    judge.call("PATCH", &path(81), Some(&amend(87, 20_200_000))).with(200);
    let uneven = judge.call("PATCH", &path(81), Some(&amend(88, 7)));
    uneven.problem(422, "invalid_order", "price");
    judge.get("/v1/orders?account=1").with(200);
    judge.get(&path(83)).with(200);
    judge.post("/v1/markets/ETH-SOL/halt", &plain(89)).with(200);
    let halted = judge.post("/v1/orders", &order(90, 2, "buy", 20_000_000, &none));
    halted.problem(409, "market_halted", "market");
    judge.call("DELETE", &path(81), Some(&plain(91))).with(200);
    let over = judge.call("DELETE", &path(81), Some(&plain(92)));
    over.problem(404, "unknown_order", "id");
    let over = judge.call("PATCH", &path(81), Some(&amend(93, 20_000_000)));
    over.problem(404, "unknown_order", "id");
    judge.post("/v1/markets/ETH-SOL/resume", &plain(94)).with(200);
    judge.call("DELETE", "/v1/orders?account=1", Some(&plain(95))).with(200);
    judge.call("DELETE", "/v1/orders?account=9", Some(&plain(96))).with(200);
    judge.call("DELETE", "/v1/orders?account=9&market=ETH-SOL", Some(&plain(97))).problem(
        404,
        "unknown_account",
        "account",
    );
    judge.get("/v1/markets/ETH-SOL/trades?limit=1").with(200);
}

fn what_is_not_there(judge: &mut Judge) {
    for (path, code) in [
        ("/v1/assets/DOGE", "unknown_asset"),
        ("/v1/accounts/9", "unknown_account"),
        ("/v1/accounts/9/balances", "unknown_account"),
        ("/v1/accounts/9/history", "unknown_account"),
        ("/v1/accounts/1/history?asset=DOGE", "unknown_asset"),
        ("/v1/links/77/x", "unknown_chain"),
        ("/v1/links/1/0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48", "unknown_link"),
        ("/v1/markets/DOGE", "unknown_market"),
        ("/v1/markets/DOGE/book", "unknown_market"),
        ("/v1/markets/DOGE/trades", "unknown_market"),
        ("/v1/orders?account=9", "unknown_account"),
        ("/v1/orders?account=1&market=DOGE", "unknown_market"),
        (&format!("/v1/orders/{}", id(999)), "unknown_order"),
        (&format!("/v1/prepared/{}", id(999)), "unknown_token"),
        (&format!("/v1/withdrawals/{}", id(999)), "unknown_token"),
        (&format!("/v1/requests/{}", id(999)), "unknown_request"),
        ("/v1/assets/", "not_found"),
    ] {
        assert_eq!(judge.get(path).with(404)["code"], code, "{path}");
    }
    let nobody = judge.call("DELETE", "/v1/accounts/9/links/1", None);
    nobody.problem(404, "unknown_account", "account");
    let link = json!({"chain_id": 1, "address": "x"});
    judge.post("/v1/accounts/9/links", &link).problem(404, "unknown_account", "account");
    for how in ["halt", "resume"] {
        let unknown = judge.post(&format!("/v1/markets/DOGE/{how}"), &json!({}));
        unknown.problem(404, "unknown_market", "market");
    }
}

fn the_venue_is_restricted(judge: &mut Judge) {
    for (n, state, prepared) in
        [(500, "halted", 409), (510, "cancel_only", 409), (520, "normal", 200)]
    {
        let switch = json!({"request_id": id(n), "state": state});
        judge.post("/v1/operate", &switch).with(200);
        assert_eq!(judge.get("/v1/operate").with(200)["state"], state);
        let prepare = json!({"request_id": id(n + 1), "legs": legs("1")});
        assert_eq!(judge.post("/v1/prepared", &prepare).status, prepared, "{state}");
    }
    judge.get(&format!("/v1/requests/{}", id(501))).problem(409, "restricted", "");
}

/// Of each call with a body, one that breaks a rule of form; and of what is read from a URL.
fn what_cannot_be_read(judge: &mut Judge) {
    for (path, method, operation) in judge.operations() {
        if operation["requestBody"].is_null() {
            continue;
        }
        let path = path.split('{').next().map_or_else(String::new, |start| {
            let rest = path[start.len()..].split('/').skip(1).collect::<Vec<_>>();
            let part = if path.contains('{') { id(998) } else { String::new() };
            [vec![format!("{start}{part}")], rest.iter().map(|it| (*it).to_owned()).collect()]
                .concat()
                .join("/")
        });
        let unknown = judge.call(&method, &path, Some(&json!({"unheard_of": 1})));
        malformed(&unknown);
        malformed(&judge.call(&method, &path, Some(&json!([]))));
    }
    for path in [
        "/v1/accounts/x",
        "/v1/accounts/1/balances?at=1&at_time=2026-01-31T12:00:00Z",
        "/v1/accounts/1/balances?at=99999999",
        "/v1/accounts/1/history?limit=0",
        "/v1/keys/!",
        "/v1/keys/YQ==?at=-1",
        "/v1/links/x/y",
        "/v1/markets/ETH-SOL/book?depth=0",
        "/v1/markets/ETH-SOL/trades?after=99999999",
        "/v1/orders",
        "/v1/orders?account=1&status=done",
        "/v1/orders/x",
        "/v1/prepared/x",
        "/v1/withdrawals/x",
        "/v1/requests/x",
    ] {
        malformed(&judge.get(path));
    }
}

#[track_caller]
fn malformed(reply: &Reply) {
    assert_eq!(reply.with(400)["code"], "malformed");
}

fn every_call_was_answered(judge: &mut Judge) {
    assert!(judge.get("/metrics").text().contains("crosslatch_requests_total"));
    judge.get("/openapi.json").with(200);
    for page in ["/console", "/console/app.js", "/console/console.css", "/console/icon.svg"] {
        assert_eq!(judge.get(page).status, 200, "{page}");
    }
    judge.get("/console/none.js").problem(404, "not_found", "file");
    judge.get("/v1/events?market=DOGE").problem(404, "unknown_market", "market");
    malformed(&judge.get("/v1/stream"));
    let token = judge.token.take();
    for (path, method, operation) in judge.operations() {
        // Metrics are open here.
        if operation["responses"]["401"].is_object() && path != "/metrics" {
            let reply = judge.call(&method, &path.replace(['{', '}'], ""), None);
            // Who fails too often does not hear why any more.
            assert!([401, 429].contains(&reply.status), "{method} {path}: {}", reply.text());
        }
    }
    judge.token = token;
    judge.refused.insert("metrics".into());
    let events = judge.get("/v1/events?follow=false");
    assert!(events.text().contains("event: end\n"), "{}", events.text());
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    // The last call: the connection is HTTP's no more.
    assert_eq!(judge.call_with("GET", "/v1/stream", &upgrade, None).status, 101);
    for (path, method, operation) in judge.operations() {
        let name = operation["operationId"].as_str().expect("a name");
        let done = judge.succeeded.contains(name);
        assert!(done, "{method} {path} was never answered with success");
        let statuses = operation["responses"].as_object().expect("responses").keys();
        let has_problem = statuses.into_iter().any(|status| status.starts_with('4'));
        let refused = judge.refused.contains(name);
        assert!(refused || !has_problem, "{method} {path} was never answered with a problem");
    }
}
