//! `GET /v1/events` of the real binary.

use serde_json::{Value, json};

use crate::http::Client;
use crate::people::*;
use crate::process::Server;
use crate::source::{Source, Told};
use crate::support::fresh_id;

/// Sends swaps of 1 ETH against 1 SOL, so many, under ids of now.
fn swaps(client: &mut Client, count: u64) {
    let one = |_| {
        let mut swap = swap(0, 1, 1);
        swap["request_id"] = fresh_id().to_string().into();
        swap
    };
    let all: Vec<Value> = (0..count).map(one).collect();
    client.post("/v1/swaps:batch", &json!({"swaps": all})).with(200);
}

/// Money for many swaps.
fn enrich(client: &mut Client) {
    client.post("/v1/deposits", &deposit(3, 1, "ETH", "1000000")).with(200);
    client.post("/v1/deposits", &deposit(4, 2, "SOL", "1000000")).with(200);
}

fn durable(client: &mut Client) -> u64 {
    let seq = client.get("/v1/accounts/1/balances").with(200)["seq"].clone();
    seq.as_str().expect("a string").parse().expect("a seq")
}

fn all(server: &Server, upto: u64) -> Vec<Told> {
    Source::open(server.address, "/v1/events", None).up_to(upto)
}

fn assert_dense(told: &[Told], from: u64) {
    for (expected, told) in (from..).zip(told) {
        assert_eq!(told.seq(), expected);
        assert_eq!(told.data["commit_seq"], told.id.as_str());
        assert_eq!(told.data["kind"], told.kind.as_str());
    }
}

#[test]
fn whoever_comes_back_gets_exactly_the_rest_twice_the_same() {
    let (_data, server, mut client) = started();
    swaps(&mut client, 300);
    let last = durable(&mut client);
    let told = all(&server, last);
    assert_dense(&told, 1);
    assert_eq!(told, all(&server, last), "told otherwise the second time");
    for after in (0..last).step_by(23) {
        let rest = &told[after as usize..];
        let path = format!("/v1/events?after={after}");
        assert_eq!(Source::open(server.address, &path, None).up_to(last), rest);
        // As a browser comes back: the same URL, and the last id over it.
        let path = "/v1/events?after=1";
        let after = after.to_string();
        assert_eq!(Source::open(server.address, path, Some(&after)).up_to(last), rest);
    }
    // What comes next is told to those who wait for it.
    let mut waiting = Source::open(server.address, &format!("/v1/events?after={last}"), None);
    let receipt = client.post("/v1/swaps", &swap(9_000, 1, 1)).with(200);
    let next = waiting.next().expect("it goes on");
    assert_eq!((next.seq(), next.kind.as_str()), (last + 1, "swap"));
    assert_eq!(next.data["legs"], receipt["legs"]);
}

#[test]
fn after_kill_9_nothing_that_was_told_is_missing_changed_or_told_twice() {
    let (data, mut server, mut client) = started();
    enrich(&mut client);
    let mut told: Vec<Told> = Vec::new();
    for life in 0..4 {
        let last = told.last().map_or(0, Told::seq);
        let path = format!("/v1/events?after={last}");
        let mut source = Source::open(server.address, &path, None);
        let address = server.address;
        // Callers are busy when it dies.
        let callers: Vec<_> = (0..3)
            .map(|caller| std::thread::spawn(move || call_until_gone(address, life * 10 + caller)))
            .collect();
        told.extend(source.take(400));
        server.kill();
        callers.into_iter().for_each(|caller| caller.join().expect("no panic"));
        server = Server::start(data.path());
    }
    assert_dense(&told, 1);
    let last = told.last().expect("many").seq();
    assert_eq!(all(&server, last), told);
}

/// Sends batches of swaps until nobody answers.
fn call_until_gone(address: std::net::SocketAddr, caller: u64) {
    let Ok(mut client) = Client::try_connect(address) else { return };
    for batch in 0.. {
        let from = 1_000_000 * (caller + 1) + batch * 10;
        let body: Vec<Value> = (from..from + 10).map(|n| swap(n, 1, 1)).collect();
        let body = json!({"swaps": body}).to_string();
        let kind = [("Content-Type", "application/json")];
        if client.try_send("POST", "/v1/swaps:batch", &kind, body.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn a_client_that_reads_nothing_holds_nothing_up_and_misses_nothing() {
    let (_data, server, mut client) = started();
    enrich(&mut client);
    let mut slow = Source::open(server.address, "/v1/events", None);
    // Far more than all buffers between here and there hold.
    for _ in 0..5 {
        swaps(&mut client, 8_000);
    }
    let last = durable(&mut client);
    assert!(last > 40_000, "it went on: {last}");
    let told = slow.up_to(last);
    assert_dense(&told, 1);
    assert_eq!(told.len() as u64, last);
}

#[test]
fn filters_leave_out_and_say_how_far_they_have_come() {
    let (_data, server, mut client) = started();
    enrich(&mut client);
    let market = json!({"base": "ETH", "quote": "SOL", "tick_size": "1", "lot_size": "1",
        "maker_fee_bps": 0, "taker_fee_bps": 0, "fee_account": 1});
    client.put("/v1/markets/ETH-SOL", &market).with(200);
    client.put("/v1/markets/OTHER", &market).with(200);
    let order = json!({"request_id": id(50), "account": 1, "market": "ETH-SOL", "side": "sell",
        "type": "limit", "price": "5", "quantity": "3"});
    client.post("/v1/orders", &order).with(200);
    client.post("/v1/markets/OTHER/halt", &json!({"request_id": id(51)})).with(200);
    let legs = json!({"request_id": id(52), "legs": [leg(1, 2, "ETH", 1), leg(2, 1, "SOL", 1)]});
    client.post("/v1/prepared", &legs).with(200);
    let path = format!("/v1/prepared/{}/rollback", id(52));
    client.post(&path, &json!({"request_id": id(53)})).with(200);
    let last = durable(&mut client);
    let everything = all(&server, last);
    let chosen = |query: &str, keep: &dyn Fn(&Told) -> bool| {
        let expected: Vec<&Told> = everything.iter().filter(|told| keep(told)).collect();
        let path = format!("/v1/events?{query}");
        let found = Source::open(server.address, &path, None).take(expected.len());
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{query}");
        assert!(!expected.is_empty(), "{query}");
        found
    };
    chosen("kind=deposit", &|told| told.kind == "deposit");
    let in_market = |told: &Told| told.data["market"] == "ETH-SOL";
    assert_eq!(chosen("market=ETH-SOL", &in_market).len(), 2);
    assert_eq!(chosen("market=OTHER", &|told| told.data["market"] == "OTHER").len(), 2);
    let bobs = chosen("account=2", &is_bobs);
    let holds: Vec<&Told> = bobs.iter().filter(|told| !told.data["hold"].is_null()).collect();
    assert_eq!(holds.len(), 2, "its beginning, and its end");
    for told in holds {
        assert_eq!(told.data["hold"]["legs"][1]["from"], 2, "{}", told.data);
        assert_eq!(told.data["hold"]["exclusive"], false);
    }
    // Who wants no more than there is, is told where that ended, whatever was left out.
    for query in ["", "&kind=deposit", "&kind=expire"] {
        let path = format!("/v1/events?follow=false{query}");
        let told = Source::open(server.address, &path, None).rest();
        let end = told.last().expect("the end at least");
        assert_eq!((end.kind.as_str(), end.seq()), ("end", last), "{query}");
        assert!(!told[..told.len() - 1].iter().any(|told| told.kind == "end"), "{query}");
    }
    // Nothing for it in a long time: then it says where it is, which can be resumed from.
    let path = format!("/v1/events?kind=order&after={last}");
    let mut quiet = Source::open(server.address, &path, None);
    swaps(&mut client, 8_000);
    swaps(&mut client, 8_000);
    let mut reached = last;
    while reached < last + 10_000 {
        let told = quiet.next().expect("it goes on");
        assert_eq!((told.kind.as_str(), &told.data["seq"]), ("progress", &json!(told.id)));
        assert!(told.seq() > reached && told.seq() <= durable(&mut client), "{told:?}");
        reached = told.seq();
    }
}

fn is_bobs(told: &Told) -> bool {
    let data = &told.data;
    let legs = [&data["legs"], &data["hold"]["legs"]];
    let has = |legs: &&Value| {
        legs.as_array().is_some_and(|legs| legs.iter().any(|it| it["from"] == 2 || it["to"] == 2))
    };
    data["account"] == 2 || legs.iter().any(has)
}

#[test]
fn what_cannot_be_told_is_refused_at_once() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start_with(data.path(), &[("event_streams_max", 2)]);
    let mut client = server.client();
    populate(&mut client);
    client.get("/v1/events?after=99").problem(400, "malformed", "after");
    client.get("/v1/events?after=x").problem(400, "malformed", "after");
    client.get("/v1/events?kind=swop").problem(400, "malformed", "kind");
    client.get("/v1/events?market=NONE").problem(404, "unknown_market", "market");
    client.get("/v1/events?follow=maybe").problem(400, "malformed", "follow");
    client.get("/v1/events?from=1").problem(400, "malformed", "from");
    let wrong = client.send("GET", "/v1/events", &[("Last-Event-ID", "x")], b"");
    wrong.problem(400, "malformed", "Last-Event-ID");
    let open: Vec<Source> =
        (0..2).map(|_| Source::open(server.address, "/v1/events", None)).collect();
    let full = client.get("/v1/events").problem(503, "overloaded", "");
    assert!(full["detail"].as_str().is_some_and(|it| it.contains("event_streams_max")), "{full}");
    drop(open);
    // Who has gone makes room, as soon as the server notices.
    loop {
        let reply = client.send("GET", "/v1/events?after=99", &[], b"");
        if reply.status == 400 {
            break;
        }
        reply.problem(503, "overloaded", "");
    }
}

#[test]
fn a_stop_ends_streams_as_they_should_end() {
    let (_data, server, mut client) = started();
    swaps(&mut client, 50);
    let last = durable(&mut client);
    let mut reading = Source::open(server.address, "/v1/events", None);
    let told = reading.up_to(last);
    let quiet = Source::open(server.address, "/v1/events?kind=order", None);
    drop(client);
    server.ask_to_stop();
    for mut source in [reading, quiet] {
        assert_eq!(source.next(), None, "the end, and no error");
    }
    assert_eq!(told.len() as u64, last);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn an_engine_that_fails_says_so_in_every_stream() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start_on_small_disk(data.path(), 512);
    let mut client = server.client();
    populate(&mut client);
    enrich(&mut client);
    let mut source = Source::open(server.address, "/v1/events", None);
    let mut quiet = Source::open(server.address, "/v1/events?kind=order", None);
    let reader = std::thread::spawn(move || {
        let mut told = Vec::new();
        while let Some(event) = source.next() {
            told.push(event);
        }
        told
    });
    for n in 0.. {
        let body: Vec<Value> = (0..100).map(|m| swap(10_000 + n * 100 + m, 1, 1)).collect();
        let reply = client.post("/v1/swaps:batch", &json!({"swaps": body}));
        if reply.status != 200 {
            reply.problem(503, "stopped", "");
            break;
        }
    }
    let mut told = reader.join().expect("no panic");
    let error = told.pop().expect("an error at least");
    assert_eq!((error.kind.as_str(), error.id.as_str()), ("error", ""));
    assert_eq!(error.data["code"], "stopped", "{}", error.data);
    assert_dense(&told, 1);
    let mut last = quiet.next();
    while last.as_ref().is_some_and(|told| told.kind == "progress") {
        last = quiet.next();
    }
    assert_eq!(last.map(|told| told.kind), Some("error".into()));
    assert_eq!(quiet.next(), None);
    assert_eq!(server.wait().code(), Some(4));
    // All that was told is there.
    let server = Server::start(data.path());
    let last = told.last().expect("many").seq();
    assert_eq!(all(&server, last), told);
}
