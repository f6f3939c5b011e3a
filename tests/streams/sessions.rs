//! What a client of market data may say, and how its connection ends.

use serde_json::{Value, json};
use tungstenite::Message;

use crate::follower::Follower;
use crate::http::Client;
use crate::people::*;
use crate::process::Server;

fn put_market(client: &mut Client, name: &str) {
    let market = json!({"base": "ETH", "quote": "SOL", "tick_size": "1", "lot_size": "10",
        "maker_fee_bps": 0, "taker_fee_bps": 0, "fee_account": 1});
    client.put(&format!("/v1/markets/{name}"), &market).with(200);
}

fn order(client: &mut Client, n: u64, side: &str, price: &str, quantity: &str) -> Value {
    let account = if side == "sell" { 1 } else { 2 };
    let order = json!({"request_id": id(n), "account": account, "market": "ETH-SOL", "side": side,
        "type": "limit", "price": price, "quantity": quantity});
    client.post("/v1/orders", &order).with(200)
}

fn with_markets(limits: &[(&str, u64)]) -> (tempfile::TempDir, Server, Client) {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start_with(data.path(), limits);
    let mut client = server.client();
    populate(&mut client);
    put_market(&mut client, "ETH-SOL");
    put_market(&mut client, "OTHER");
    (data, server, client)
}

#[test]
fn a_book_is_told_and_told_again_when_it_changes() {
    let (_data, server, mut client) = with_markets(&[]);
    order(&mut client, 50, "sell", "7", "30");
    let mut follower = Follower::connect(server.address);
    let book = json!({"channel": "book", "market": "ETH-SOL"});
    follower.subscribe(&[book.clone(), json!({"channel": "trades", "market": "ETH-SOL"})]);
    let snapshot = follower.hear("snapshot");
    let shown = client.get("/v1/markets/ETH-SOL/book").with(200);
    assert_eq!(snapshot["asks"], json!([["7", "30", 1]]));
    assert_eq!((&snapshot["bids"], &snapshot["seq"]), (&json!([]), &shown["seq"]));
    assert_eq!(snapshot["checksum"], crc("/7:30:1"));
    assert_eq!(follower.hear("subscribed")["seq"], snapshot["seq"]);
    let taken = order(&mut client, 51, "buy", "8", "10");
    let (mut update, mut trades) = (follower.next().unwrap(), follower.next().unwrap());
    if update["type"] == "trades" {
        std::mem::swap(&mut update, &mut trades);
    }
    assert_eq!(update["asks"], json!([["7", "20", 1]]));
    assert_eq!(update["previous_seq"], snapshot["seq"]);
    assert_eq!((&update["seq"], &update["checksum"]), (&taken["commit_seq"], &crc("/7:20:1")));
    assert_eq!(trades["trades"], json!([{"price": "7", "quantity": "10"}]));
    assert_eq!((&trades["side"], &trades["seq"]), (&json!("buy"), &taken["commit_seq"]));
    assert_eq!(trades["time"], taken["time"]);
    // Without trades, and then anew: in one message.
    follower.say(&json!({"unsubscribe": [book, {"channel": "trades", "market": "ETH-SOL"}],
        "subscribe": [{"channel": "book", "market": "ETH-SOL", "depth": 1}]}));
    assert_eq!(follower.hear("unsubscribed")["channel"], "book");
    assert_eq!(follower.hear("unsubscribed")["channel"], "trades");
    assert_eq!(follower.hear("snapshot")["asks"], json!([["7", "20", 1]]));
    order(&mut client, 52, "sell", "9", "10");
    order(&mut client, 53, "sell", "6", "10");
    // What is behind the best is not told; what is pushed out of the best is gone.
    let update = follower.hear("update");
    assert_eq!(update["asks"], json!([["6", "10", 1], ["7", "0", 0]]));
    assert_eq!(update["checksum"], crc("/6:10:1"));
}

fn crc(text: &str) -> Value {
    crc32fast::hash(text.as_bytes()).into()
}

#[test]
fn what_is_wrong_is_said_and_the_connection_stays() {
    let (_data, server, mut client) = with_markets(&[("market_subscriptions_max", 2)]);
    let mut follower = Follower::connect(server.address);
    follower.send(Message::text("{"));
    follower.hear_error("malformed", "message");
    follower.send(Message::binary(vec![1, 2]));
    follower.hear_error("malformed", "message");
    follower.say(&json!({}));
    follower.hear_error("malformed", "subscribe");
    follower.say(&json!({"subscribe": [], "id": 7}));
    follower.hear_error("malformed", "id");
    let book = |market: &str| json!({"channel": "book", "market": market});
    // What is right is done, whatever stands beside it.
    follower.subscribe(&[
        json!({"channel": "book"}),
        book("NONE"),
        book("ETH-SOL"),
        book("ETH-SOL"),
    ]);
    follower.hear_error("malformed", "subscribe[0].market");
    follower.hear_error("unknown_market", "market");
    follower.hear("snapshot");
    follower.hear_error("malformed", "market");
    follower.subscribe(&[book("OTHER"), json!({"channel": "trades", "market": "OTHER"})]);
    follower.hear("snapshot");
    let full = follower.hear_error("overloaded", "");
    assert!(full["detail"].as_str().is_some_and(|it| it.contains("market_subscriptions_max")));
    follower.say(&json!({"unsubscribe": [{"channel": "trades", "market": "ETH-SOL"}]}));
    follower.hear_error("malformed", "market");
    follower.send(Message::Ping(vec![7].into()));
    order(&mut client, 50, "sell", "7", "30");
    assert_eq!(follower.hear("update")["market"], "ETH-SOL");
    client.get("/v1/stream").problem(400, "malformed", "Upgrade");
}

#[test]
fn what_is_too_long_and_who_is_too_many_are_turned_away() {
    let (_data, server, mut client) = with_markets(&[("market_streams_max", 1)]);
    let mut follower = Follower::connect(server.address);
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    client.send("GET", "/v1/stream", &upgrade, b"").problem(503, "overloaded", "");
    follower.send(Message::text("x".repeat(70_000)));
    let closed = follower.next().expect_err("it is closed");
    assert_eq!(closed.0, 1009, "{closed:?}");
    drop(follower);
    // Who has gone makes room.
    while client.send("GET", "/v1/stream", &upgrade, b"").status == 503 {}
}

#[test]
fn a_stop_says_goodbye() {
    let (_data, server, client) = with_markets(&[]);
    let mut follower = Follower::connect(server.address);
    follower.subscribe(&[json!({"channel": "book", "market": "ETH-SOL"})]);
    follower.hear("snapshot");
    let mut idle = Follower::connect(server.address);
    drop(client);
    server.ask_to_stop();
    for follower in [&mut follower, &mut idle] {
        assert_eq!(follower.next(), Err((1001, "the server stops".into())));
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn an_engine_that_fails_says_so() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start_on_small_disk(data.path(), 512);
    let mut client = server.client();
    populate(&mut client);
    put_market(&mut client, "ETH-SOL");
    let mut follower = Follower::connect(server.address);
    follower.subscribe(&[json!({"channel": "trades", "market": "ETH-SOL"})]);
    follower.hear("subscribed");
    for n in 0.. {
        let body: Vec<Value> = (0..100).map(|m| swap(10_000 + n * 100 + m, 1, 1)).collect();
        if client.post("/v1/swaps:batch", &json!({"swaps": body})).status != 200 {
            break;
        }
    }
    let (code, reason) = follower.next().expect_err("it is closed");
    assert!(code == 1011 && reason.starts_with("stopped: "), "{code} {reason}");
    assert_eq!(server.wait().code(), Some(4));
}
