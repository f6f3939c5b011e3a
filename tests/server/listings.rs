//! Orders of an account and trades of a market, page by page.

use serde_json::{Value, json};

use super::http::Client;
use super::orders::{cancel, order, venue};
use super::people::*;
use super::process::Server;

/// Every page of a list, from the first to the last.
fn pages(client: &mut Client, path: &str, name: &str) -> Vec<Vec<Value>> {
    let (mut pages, mut after) = (Vec::new(), String::new());
    loop {
        let body = client.get(&format!("{path}{after}")).with(200);
        pages.push(body[name].as_array().expect("a list").clone());
        let Some(next) = body["next"].as_str() else {
            assert_eq!(body["next"], Value::Null);
            return pages;
        };
        after = format!("&after={next}");
    }
}

fn ids(orders: &[Value]) -> Vec<&str> {
    orders.iter().map(|order| order["order_id"].as_str().expect("an id")).collect()
}

/// Eight orders that sell: two stand, of which one has traded; two are filled, three canceled, one is
/// expired. What was refused is no order.
fn trade(client: &mut Client) {
    for n in 10..17 {
        let price = json!({"price": 20 + 5 * (n - 10), "quantity": 20});
        client.post("/v1/orders", &order(n, 1, "sell", price)).with(200);
    }
    let brief = json!({"price": 100, "time_in_force": "gtd", "expires_in_ms": 1});
    client.post("/v1/orders", &order(17, 1, "sell", brief)).with(200);
    let path = format!("/v1/orders/{}", id(17));
    while client.get(&path).with(200)["status"] != "expired" {}
    client.post("/v1/orders", &order(18, 1, "sell", json!({"price": 21}))).with(422);
    let take = json!({"price": 100, "quantity": 50, "time_in_force": "ioc"});
    client.post("/v1/orders", &order(20, 2, "buy", take)).with(200);
    for n in 14..17 {
        cancel(client, n, n + 20).with(200);
    }
}

fn check_orders(client: &mut Client) {
    let of = |status: &str| format!("/v1/orders?account=1&limit=2{status}");
    let all = pages(client, &of(""), "orders");
    let newest_first: Vec<String> = (10..18).rev().map(id).collect();
    assert_eq!(ids(&all.concat()), newest_first);
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2, 2]);
    for (status, expected) in [
        ("open", vec![13, 12]),
        ("new", vec![13]),
        ("partially_filled", vec![12]),
        ("filled", vec![11, 10]),
        ("canceled", vec![16, 15, 14]),
        ("expired", vec![17]),
        ("rejected", vec![]),
    ] {
        let found = pages(client, &of(&format!("&status={status}")), "orders").concat();
        let expected: Vec<String> = expected.into_iter().map(id).collect();
        assert_eq!(ids(&found), expected, "{status}");
        for one in &found {
            let path = format!("/v1/orders/{}", one["order_id"].as_str().expect("an id"));
            assert_eq!(client.get(&path).with(200), *one);
        }
    }
    let body = client.get("/v1/orders?account=2&status=filled&market=ETH-SOL").with(200);
    assert_eq!(ids(body["orders"].as_array().expect("a list")), [id(20)]);
    assert_eq!(client.get("/v1/orders?account=4").with(200)["orders"], json!([]));
}

/// Three trades of one request: each page has one, and none is left out.
fn check_trades(client: &mut Client) {
    for limit in 1..5 {
        let path = format!("/v1/markets/ETH-SOL/trades?limit={limit}");
        let all = pages(client, &path, "trades");
        assert!(all.iter().all(|page| page.len() <= limit));
        let found = all.concat();
        let makers = found.iter().map(|trade| trade["maker_order_id"].as_str().expect("an id"));
        assert_eq!(makers.collect::<Vec<_>>(), [id(10), id(11), id(12)]);
    }
}

#[test]
fn orders_and_trades_are_listed_page_by_page_also_after_a_kill() {
    let (data, server, mut client) = venue();
    trade(&mut client);
    check_orders(&mut client);
    check_trades(&mut client);
    server.kill();
    let server = Server::start(data.path());
    let mut client = server.client();
    check_orders(&mut client);
    check_trades(&mut client);
}

#[test]
fn lists_that_cannot_be_are_refused_by_field() {
    let (_data, _server, mut client) = venue();
    for (query, field) in [
        ("account=1&limit=0", "limit"),
        ("account=1&limit=1001", "limit"),
        ("account=1&after=x", "after"),
        ("account=1&status=", "status"),
        ("account=x", "account"),
        ("account=1&before=3", "before"),
    ] {
        client.get(&format!("/v1/orders?{query}")).problem(400, "malformed", field);
    }
}
