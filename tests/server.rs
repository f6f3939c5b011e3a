//! The server through its front door: the real binary, a real directory, plain HTTP.
//!
//! Chain 1 is EVM with ETH and USDC, chain 101 is Solana with SOL. Accounts 1 and 2 are linked on
//! both, account 3 on chain 1 only.

#[path = "support/http.rs"]
mod http;
#[path = "support/process.rs"]
mod process;

use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use http::{Client, Reply};
use process::{Server, output, pipe_through};

const ALICE_EVM: &str = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359";
const BOB_EVM: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
const CAROL_EVM: &str = "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB";
const ALICE_SOL: &str = "DYw8jCTfwHNRJhhmFcbXvVDTqWMEVFBX6ZKUmG5CNSKK";
const BOB_SOL: &str = "7EcDhSYGxXyscszYEp35KHN8vvw3svAuLKTzXwCFLtV";
const USDC: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";

const USDC_SOL: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";

/// Version-7 ids, distinct by `n`.
fn id(n: u64) -> String {
    format!("01900000-0000-7000-8000-{n:012x}")
}

fn leg(from: u64, to: u64, asset: &str, amount: impl Into<Value>) -> Value {
    json!({"from": from, "to": to, "asset": asset, "amount": amount.into()})
}

/// Alice gives ETH, Bob gives SOL.
fn swap(n: u64, eth: u64, sol: u64) -> Value {
    json!({"request_id": id(n), "legs": [leg(1, 2, "ETH", eth), leg(2, 1, "SOL", sol)]})
}

fn deposit(n: u64, account: u64, asset: &str, amount: &str) -> Value {
    json!({"request_id": id(n), "account": account, "asset": asset, "amount": amount,
           "reference": format!("tx-{n}")})
}

fn asset(chain: u64, kind: &str, token: &str, decimals: u8) -> Value {
    json!({"chain_id": chain, "chain_kind": kind, "token": token, "decimals": decimals})
}

fn links(pairs: &[(u64, &str)]) -> Value {
    let one = |(chain, address): &(u64, &str)| json!({"chain_id": chain, "address": address});
    json!({"links": pairs.iter().map(one).collect::<Vec<_>>()})
}

/// Assets, accounts, links, and money: 1,000 ETH for Alice, 5,000 SOL for Bob.
fn populate(client: &mut Client) {
    client.put("/v1/assets/ETH", &asset(1, "evm", "native", 18)).with(200);
    client.put("/v1/assets/USDC", &asset(1, "evm", USDC, 6)).with(200);
    client.put("/v1/assets/SOL", &asset(101, "solana", "native", 9)).with(200);
    client.put("/v1/accounts/1", &links(&[(1, ALICE_EVM), (101, ALICE_SOL)])).with(200);
    client.put("/v1/accounts/2", &links(&[(1, BOB_EVM), (101, BOB_SOL)])).with(200);
    client.put("/v1/accounts/3", &links(&[(1, CAROL_EVM)])).with(200);
    client.post("/v1/deposits", &deposit(1, 1, "ETH", "1000")).with(200);
    client.post("/v1/deposits", &deposit(2, 2, "SOL", "5000")).with(200);
}

fn started() -> (TempDir, Server, Client) {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(data.path());
    let mut client = server.client();
    populate(&mut client);
    (data, server, client)
}

/// Everything that a client can see of the accounts, seq included.
fn state(client: &mut Client) -> Vec<Value> {
    (1..=3).map(|it| client.get(&format!("/v1/accounts/{it}/balances")).with(200)).collect()
}

fn balance(client: &mut Client, path: &str, asset: &str) -> String {
    let body = client.get(path).with(200);
    let all = body["balances"].as_array().expect("a list").clone();
    let found = all.into_iter().find(|balance| balance["asset"] == asset);
    found.map_or("0".into(), |it| it["available"].as_str().expect("a string").to_owned())
}

#[test]
fn a_swap_moves_both_legs_and_says_so() {
    let (_data, _server, mut client) = started();
    let receipt = client.post("/v1/swaps", &swap(10, 10, 200)).with(200);
    let time = receipt["time"].as_str().expect("a time");
    assert!(time.ends_with('Z') && time.len() == "2026-01-31T12:00:00.000000Z".len(), "{time}");
    assert_eq!(
        receipt,
        json!({
            "status": "settled", "request_id": id(10), "commit_seq": "9", "time": time,
            "legs": [
                {"from": 1, "to": 2, "asset": "ETH", "amount": "10", "from_before": "1000",
                 "from_after": "990", "to_before": "0", "to_after": "10"},
                {"from": 2, "to": 1, "asset": "SOL", "amount": "200", "from_before": "5000",
                 "from_after": "4800", "to_before": "0", "to_after": "200"},
            ],
        })
    );
    assert_eq!(client.post("/v1/swaps", &swap(10, 10, 200)).with(200), receipt);
    for path in ["requests", "swaps"] {
        assert_eq!(client.get(&format!("/v1/{path}/{}", id(10))).with(200), receipt);
    }
    assert_eq!(
        client.get("/v1/accounts/1/balances").with(200),
        json!({"account": 1, "seq": "9", "balances": [
            {"asset": "ETH", "available": "990", "held": "0", "version": "9"},
            {"asset": "SOL", "available": "200", "held": "0", "version": "9"},
        ]})
    );
    assert_eq!(balance(&mut client, "/v1/accounts/1/balances?at=8", "ETH"), "1000");
    assert_eq!(balance(&mut client, "/v1/accounts/1/balances?at=8", "SOL"), "0");
    let audit = client.get("/v1/audit").with(200);
    assert_eq!((&audit["balanced"], &audit["seq"]), (&json!(true), &json!("9")));
    assert_eq!(
        audit["assets"][2],
        json!({"asset": "SOL", "supply": "5000", "balances": "5000", "balanced": true})
    );
}

#[test]
fn deposits_and_withdrawals_show_the_balance_around_them() {
    let (_data, _server, mut client) = started();
    let receipt = client.post("/v1/deposits", &deposit(20, 1, "ETH", "5")).with(200);
    assert_eq!((&receipt["before"], &receipt["after"]), (&json!("1000"), &json!("1005")));
    assert_eq!((&receipt["reference"], &receipt["asset"]), (&json!("tx-20"), &json!("ETH")));
    let body = json!({"account": 1, "asset": "ETH", "amount": 1005});
    let key = [("Content-Type", "application/json"), ("Idempotency-Key", &*id(21))];
    let text = body.to_string();
    let sent = client.send("POST", "/v1/withdrawals", &key, text.as_bytes()).with(200);
    assert_eq!((&sent["request_id"], &sent["after"]), (&json!(id(21)), &json!("0")));
    let short = json!({"request_id": id(22), "account": 1, "asset": "ETH", "amount": "1"});
    let refused =
        client.post("/v1/withdrawals", &short).problem(422, "insufficient_funds", "amount");
    assert_eq!((&refused["short_by"], &refused["account"]), (&json!("1"), &json!(1)));
    assert_eq!((&refused["asset"], &refused["seq"]), (&json!("ETH"), &json!("10")));
}

#[test]
fn the_directory_keeps_assets_accounts_and_links() {
    let (_data, _server, mut client) = started();
    client.put("/v1/assets/ETH", &asset(1, "evm", "native", 18)).with(200);
    client.put("/v1/assets/ETH", &asset(1, "evm", "native", 8)).problem(
        409,
        "already_exists",
        "asset",
    );
    client.put("/v1/assets/TRX", &asset(1, "other", "native", 6)).problem(
        409,
        "already_exists",
        "asset",
    );
    let assets = client.get("/v1/assets").with(200);
    assert_eq!(assets["assets"].as_array().map(Vec::len), Some(3));
    let sol = json!({"asset": "SOL", "chain_id": 101, "chain_kind": "solana", "token": "native",
                     "decimals": 9});
    assert_eq!(assets["assets"][2], sol);
    assert_eq!(client.get("/v1/assets/SOL").with(200), sol);
    let link = json!({"chain_id": 101, "address": ALICE_SOL});
    client.post("/v1/accounts/3/links", &link).problem(409, "already_linked", "links");
    client.delete("/v1/accounts/1/links/101").with(200);
    client.delete("/v1/accounts/1/links/101").with(200);
    client.post("/v1/accounts/3/links", &link).with(200);
    let lower = ALICE_EVM.to_lowercase();
    let found = client.get(&format!("/v1/links/1/{lower}")).with(200);
    assert_eq!((&found["account"], &found["address"]), (&json!(1), &json!(ALICE_EVM)));
    assert_eq!(found["chain_kind"], "evm");
    assert_eq!(found["balances"][0]["available"], "1000");
    let account = client.get("/v1/accounts/1").with(200);
    assert_eq!(account, json!({"account": 1, "links": [{"chain_id": 1, "address": ALICE_EVM}]}));
    client.put("/v1/accounts/4", &json!({})).with(200);
    assert_eq!(client.get("/v1/accounts/4").with(200), json!({"account": 4, "links": []}));
}

#[test]
fn what_is_not_there_is_said_to_be_unknown() {
    let (_data, _server, mut client) = started();
    client.get("/v1/assets/DOGE").problem(404, "unknown_asset", "asset");
    client.get("/v1/accounts/9").problem(404, "unknown_account", "account");
    client.get("/v1/accounts/9/balances").problem(404, "unknown_account", "account");
    client.get(&format!("/v1/links/1/{USDC}")).problem(404, "unknown_link", "");
    client.get("/v1/links/7/abc").problem(404, "unknown_chain", "chain_id");
    let unknown = client.get(&format!("/v1/requests/{}", id(99)));
    assert_eq!(unknown.problem(404, "unknown_request", "")["status"], "unknown");
    client.delete("/v1/accounts/9/links/1").problem(404, "unknown_account", "account");
    let link = json!({"chain_id": 1, "address": USDC});
    client.post("/v1/accounts/9/links", &link).problem(404, "unknown_account", "account");
    client.get("/v1/nothing").problem(404, "not_found", "");
    let wrong = client.delete("/v1/swaps");
    wrong.problem(405, "method_not_allowed", "");
    assert_eq!(wrong.header("allow"), Some("POST"));
}

/// A bad request with what is expected of its refusal: status, code, field.
type Bad = (Value, u16, &'static str, &'static str);

/// `swap(n)` with one member of its second leg replaced.
fn with_leg(n: u64, member: &str, value: Value) -> Value {
    let mut body = swap(n, 1, 1);
    body["legs"][1][member] = value;
    body
}

fn with(n: u64, member: &str, value: Value) -> Value {
    let mut body = swap(n, 1, 1);
    body[member] = value;
    body
}

fn without(n: u64, member: &str) -> Value {
    let mut body = swap(n, 1, 1);
    body.as_object_mut().expect("an object").remove(member);
    body
}

fn bad_swaps() -> Vec<Bad> {
    let digits = "340282366920938463463374607431768211456";
    let bad_leg =
        |n, member, value: Value, field| (with_leg(n, member, value), 400, "malformed", field);
    let circle = json!([leg(1, 2, "ETH", 5), leg(2, 1, "ETH", 5)]);
    let many = |n: usize| json!(vec![leg(1, 2, "ETH", 1); n]);
    vec![
        (with_leg(100, "from", json!(9)), 404, "unknown_account", "legs[1].from"),
        (with_leg(101, "asset", json!("DOGE")), 404, "unknown_asset", "legs[1].asset"),
        (with_leg(102, "to", json!(3)), 422, "not_linked", "legs[1].to"),
        bad_leg(103, "amount", json!(0), "legs[1].amount"),
        bad_leg(104, "amount", json!("-5"), "legs[1].amount"),
        bad_leg(105, "amount", json!(-5), "legs[1].amount"),
        bad_leg(106, "amount", json!(1.5), "legs[1].amount"),
        bad_leg(107, "amount", json!("1.5"), "legs[1].amount"),
        bad_leg(108, "amount", json!(digits), "legs[1].amount"),
        bad_leg(109, "amount", json!("9".repeat(80)), "legs[1].amount"),
        bad_leg(110, "amount", json!(null), "legs[1].amount"),
        bad_leg(111, "to", json!(2), "legs[1].to"),
        bad_leg(112, "from", json!("bob"), "legs[1].from"),
        bad_leg(113, "asset", json!(7), "legs[1].asset"),
        bad_leg(114, "memo", json!("?"), "legs[1].memo"),
        (with(115, "legs", many(1)), 400, "malformed", "legs"),
        (with(116, "legs", many(17)), 400, "malformed", "legs"),
        (with(117, "legs", circle), 400, "malformed", "legs"),
        (with(118, "legs", json!([1, 2])), 400, "malformed", "legs[0]"),
        (with(119, "legs", json!({})), 400, "malformed", "legs"),
        (without(120, "legs"), 400, "malformed", "legs"),
        (without(121, "request_id"), 400, "malformed", "request_id"),
        (with(122, "request_id", json!("abc")), 400, "malformed", "request_id"),
        (with(123, "deadline", json!("soon")), 400, "malformed", "deadline"),
        (with(124, "dedline", json!("2030-01-01T00:00:00Z")), 400, "malformed", "dedline"),
        (with(125, "deadline", json!("2020-01-01T00:00:00Z")), 410, "expired", "deadline"),
        (with_leg(126, "amount", json!(5001)), 422, "insufficient_funds", "legs[1].amount"),
        (swap(1, 1, 1), 409, "request_id_reused", "request_id"),
    ]
}

#[test]
fn bad_swaps_are_refused_by_code_and_field_and_change_nothing() {
    let (_data, _server, mut client) = started();
    let before = state(&mut client);
    for (body, status, code, field) in bad_swaps() {
        client.post("/v1/swaps", &body).problem(status, code, field);
    }
    let sum = "226854911280625642308916404954512140971"; // two thirds of 2^128
    let legs = json!([leg(1, 2, "ETH", sum), leg(1, 2, "ETH", sum)]);
    let overflow = client.post("/v1/swaps", &with(130, "legs", legs));
    assert_eq!(overflow.with(400)["code"], "malformed");
    assert_eq!(state(&mut client), before);
    // What was malformed left nothing behind: the id is free.
    client.post("/v1/swaps", &swap(103, 1, 1)).with(200);
}

#[test]
fn a_refusal_repeats_even_when_its_reason_is_gone() {
    let (data, server, mut client) = started();
    let body = with_leg(200, "asset", json!("DOGE"));
    let first = client.post("/v1/swaps", &body).problem(404, "unknown_asset", "legs[1].asset");
    assert_eq!((&first["asset"], &first["seq"]), (&json!("DOGE"), &json!("8")));
    let short = swap(201, 1001, 1);
    let broke =
        client.post("/v1/swaps", &short).problem(422, "insufficient_funds", "legs[0].amount");
    client.put("/v1/assets/DOGE", &asset(101, "solana", "native", 8)).with(200);
    client.post("/v1/deposits", &deposit(202, 1, "ETH", "1000")).with(200);
    client.post("/v1/deposits", &deposit(203, 2, "DOGE", "1000")).with(200);
    assert_eq!(client.post("/v1/swaps", &body).with(404), first);
    assert_eq!(client.post("/v1/swaps", &short).with(422), broke);
    server.kill();
    let server = Server::start(data.path());
    let mut client = server.client();
    assert_eq!(client.post("/v1/swaps", &body).with(404), first);
    assert_eq!(client.post("/v1/swaps", &short).with(422), broke);
    let seen = client.get(&format!("/v1/requests/{}", id(201))).with(422);
    assert_eq!((&seen["short_by"], &seen["seq"]), (&broke["short_by"], &broke["seq"]));
}

#[test]
fn bad_directory_calls_are_refused_by_code_and_field() {
    let (_data, _server, mut client) = started();
    let mut put = |path: &str, body: Value, status, code, field| {
        client.put(path, &body).problem(status, code, field)
    };
    put("/v1/assets/E%20H", asset(1, "evm", "native", 18), 400, "malformed", "asset");
    put("/v1/assets/X", asset(1, "cosmos", "native", 18), 400, "malformed", "chain_kind");
    put("/v1/assets/X", asset(1, "evm", "0x12", 18), 400, "malformed", "token");
    put("/v1/assets/X", json!({"chain_id": 1}), 400, "malformed", "chain_kind");
    put("/v1/accounts/x", json!({}), 400, "malformed", "account");
    put("/v1/accounts/18446744073709551616", json!({}), 400, "malformed", "account");
    put("/v1/accounts/5", links(&[(7, "abc")]), 404, "unknown_chain", "links[0].chain_id");
    put("/v1/accounts/5", links(&[(1, ALICE_EVM)]), 409, "already_linked", "links");
    put("/v1/accounts/1", links(&[(1, USDC)]), 409, "already_linked", "links");
    put("/v1/accounts/5", json!({"link": []}), 400, "malformed", "link");
    let mistyped = ALICE_EVM.replace("0xfB", "0xfb");
    let field = "links[1].address";
    let bad =
        put("/v1/accounts/5", links(&[(101, USDC_SOL), (1, &mistyped)]), 400, "malformed", field);
    assert!(bad["detail"].as_str().expect("text").contains("EIP-55"), "{bad}");
    let bad = put("/v1/accounts/5", links(&[(101, "abc")]), 400, "malformed", "links[0].address");
    assert!(bad["detail"].as_str().expect("text").contains("32 bytes"), "{bad}");
    client.get("/v1/accounts/5").problem(404, "unknown_account", "account");
    client.get("/v1/accounts/1/balances?at=99").problem(400, "malformed", "at");
    client.get("/v1/accounts/1/balances?at=x").problem(400, "malformed", "at");
    client.get("/v1/accounts/1/balances?when=1").problem(400, "malformed", "when");
    client.get("/v1/requests/abc").problem(400, "malformed", "request_id");
    client.get("/v1/links/1/abc").problem(400, "malformed", "address");
    let huge = deposit(300, 1, "ETH", &(u128::MAX / 2).to_string());
    client.post("/v1/deposits", &huge).problem(422, "supply_exceeded", "amount");
    let long = json!({"request_id": id(301), "account": 1, "asset": "ETH", "amount": 1,
                      "reference": "x".repeat(129)});
    client.post("/v1/deposits", &long).problem(400, "malformed", "reference");
}

#[test]
fn bodies_that_are_no_json_are_refused() {
    let (_data, server, mut client) = started();
    let before = state(&mut client);
    let kind = [("Content-Type", "application/json")];
    let broken = client.send("POST", "/v1/swaps", &kind, b"{\"legs\": [\n  {\"from\" 1}\n]}");
    let broken = broken.problem(400, "malformed", "body");
    assert_eq!((&broken["line"], &broken["column"]), (&json!(2), &json!(11)));
    client.send("POST", "/v1/swaps", &kind, b"[]").problem(400, "malformed", "body");
    client.send("POST", "/v1/swaps", &kind, b"\xFF").problem(400, "malformed", "body");
    client.send("POST", "/v1/swaps", &kind, b"").problem(400, "malformed", "request_id");
    let body = swap(400, 1, 1).to_string();
    let text = [("Content-Type", "text/plain")];
    let refused = client.send("POST", "/v1/swaps", &text, body.as_bytes());
    refused.problem(415, "unsupported_media_type", "");
    let both = [("Content-Type", "application/json"), ("Idempotency-Key", &*id(401))];
    let refused = client.send("POST", "/v1/swaps", &both, body.as_bytes());
    refused.problem(400, "malformed", "request_id");
    let none = [("Content-Type", "application/json"), ("Idempotency-Key", "abc")];
    let refused = client.send("POST", "/v1/swaps", &none, body.as_bytes());
    refused.problem(400, "malformed", "Idempotency-Key");
    let large = vec![b' '; 16 * 1024 * 1024 + 1];
    let refused = server.client().send("POST", "/v1/swaps", &kind, &large);
    refused.problem(413, "body_too_large", "body");
    assert_eq!(state(&mut client), before);
    // One byte less is read, and found to hold nothing.
    let refused = server.client().send("POST", "/v1/swaps", &kind, &large[1..]);
    refused.problem(400, "malformed", "body");
}

#[test]
fn a_batch_is_answered_in_order_and_one_bad_swap_spoils_nothing() {
    let (_data, _server, mut client) = started();
    let swaps = json!({"swaps": [
        swap(500, 1, 1),
        with_leg(501, "amount", json!("1.5")),
        swap(502, 2000, 1),
        swap(500, 1, 1),
        swap(500, 2, 2),
        "no swap",
        swap(503, 1, 1),
    ]});
    let body = client.post("/v1/swaps:batch", &swaps).with(200);
    let results = body["results"].as_array().expect("a list");
    let said = |index: usize| match &results[index]["code"] {
        Value::String(code) => code.clone(),
        _ => results[index]["status"].as_str().expect("a status").to_owned(),
    };
    let all: Vec<String> = (0..results.len()).map(said).collect();
    let expected = [
        "settled",
        "malformed",
        "insufficient_funds",
        "settled",
        "request_id_reused",
        "malformed",
        "settled",
    ];
    assert_eq!(all, expected);
    assert_eq!(results[0], results[3]);
    assert_eq!(
        (&results[1]["field"], &results[1]["request_id"]),
        (&json!("legs[1].amount"), &json!(id(501)))
    );
    assert_eq!(results[6]["legs"][0]["from_after"], "998");
    assert_eq!(
        client.post("/v1/swaps:batch", &json!({"swaps": []})).with(200),
        json!({"results": []})
    );
    let many: Vec<Value> = (0..8_193).map(|n| swap(1_000 + n, 1, 1)).collect();
    client.post("/v1/swaps:batch", &json!({"swaps": many})).problem(400, "malformed", "swaps");
    let full: Vec<Value> = (0..8_192).map(|n| swap(10_000 + n, 1, 1)).collect();
    let body = client.post("/v1/swaps:batch", &json!({"swaps": full})).with(200);
    let results = body["results"].as_array().expect("a list");
    let settled = results.iter().filter(|result| result["status"] == "settled").count();
    assert_eq!((results.len(), settled), (8_192, 998));
    assert_eq!(client.get("/v1/audit").with(200)["balanced"], true);
}

#[test]
fn after_kill_9_everything_is_as_it_was_answered() {
    let (data, server, mut client) = started();
    let receipts: Vec<Value> =
        (600..620).map(|n| client.post("/v1/swaps", &swap(n, 3, 5)).with(200)).collect();
    let (accounts, assets) = (state(&mut client), client.get("/v1/assets").with(200));
    let links = client.get("/v1/accounts/1").with(200);
    let past = client.get("/v1/accounts/1/balances?at=15").with(200);
    server.kill();
    let server = Server::start(data.path());
    let mut client = server.client();
    for (n, receipt) in (600..620).zip(&receipts) {
        assert_eq!(&client.get(&format!("/v1/swaps/{}", id(n))).with(200), receipt);
        assert_eq!(&client.post("/v1/swaps", &swap(n, 3, 5)).with(200), receipt);
    }
    assert_eq!(state(&mut client), accounts);
    assert_eq!(client.get("/v1/assets").with(200), assets);
    assert_eq!(client.get("/v1/accounts/1").with(200), links);
    assert_eq!(client.get("/v1/accounts/1/balances?at=15").with(200), past);
    assert_eq!(client.get("/v1/audit").with(200)["balanced"], true);
}

#[test]
fn sigterm_answers_what_is_in_flight_and_exits_0() {
    let (data, server, client) = started();
    drop(client);
    let answered = AtomicU64::new(0);
    let callers: Vec<Caller> = std::thread::scope(|scope| {
        let call = |number| {
            let (server, answered) = (&server, &answered);
            scope.spawn(move || swap_until_gone(server, number, answered))
        };
        let busy: Vec<_> = (0..8).map(call).collect();
        while answered.load(Ordering::Acquire) < 100 {
            std::thread::yield_now();
        }
        server.ask_to_stop();
        busy.into_iter().map(|caller| caller.join().expect("no panic")).collect()
    });
    assert_eq!(exit_code(server.wait()), 0);
    let server = Server::start(data.path());
    let mut client = server.client();
    for Caller { settled, unanswered } in callers {
        for n in settled {
            let found = client.get(&format!("/v1/requests/{}", id(n))).with(200);
            assert_eq!(found["status"], "settled");
        }
        // It came too late: what had been taken would have been answered.
        let lost = client.get(&format!("/v1/requests/{}", id(unanswered)));
        lost.problem(404, "unknown_request", "");
    }
}

/// What became of one caller's swaps.
struct Caller {
    settled: Vec<u64>,
    /// The one that it sent when the server was gone.
    unanswered: u64,
}

/// Sends swaps one by one until the server hangs up.
fn swap_until_gone(server: &Server, caller: u64, answered: &AtomicU64) -> Caller {
    let mut client = server.client();
    let mut settled = Vec::new();
    for n in 1_000_000 * (caller + 1).. {
        let body = swap(n, 1, 1).to_string();
        let kind = [("Content-Type", "application/json")];
        let Ok(reply) = client.try_send("POST", "/v1/swaps", &kind, body.as_bytes()) else {
            return Caller { settled, unanswered: n };
        };
        match reply.status {
            200 => settled.push(n),
            // Alice has spent everything.
            _ => assert_eq!(reply.value()["code"], "insufficient_funds"),
        }
        answered.fetch_add(1, Ordering::Release);
    }
    unreachable!("the server stops before the numbers end")
}

#[test]
fn a_store_that_fails_stops_the_server_and_nothing_false_was_answered() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start_on_small_disk(data.path(), 512);
    let mut client = server.client();
    populate(&mut client);
    client.post("/v1/deposits", &deposit(3, 1, "ETH", "1000000")).with(200);
    client.post("/v1/deposits", &deposit(4, 2, "SOL", "1000000")).with(200);
    let mut settled = 0;
    let failed = loop {
        let swaps: Vec<Value> = (0..100).map(|n| swap(10_000 + settled + n, 1, 1)).collect();
        let reply = client.post("/v1/swaps:batch", &json!({"swaps": swaps}));
        if reply.status != 200 {
            break reply.problem(503, "stopped", "");
        }
        settled += 100;
    };
    assert_eq!(failed["status"], "failed");
    assert_eq!(exit_code(server.wait()), 4);
    let server = Server::start(data.path());
    let mut client = server.client();
    let left: u64 = balance(&mut client, "/v1/accounts/1/balances", "ETH").parse().expect("ETH");
    // The last batch may have reached the disk although nobody was told.
    assert!([0, 100].contains(&(1_001_000 - settled - left)), "{settled} settled, {left} left");
    for n in [10_000, 10_000 + settled - 1] {
        let found = client.get(&format!("/v1/requests/{}", id(n))).with(200);
        assert_eq!(found["status"], "settled");
    }
    assert_eq!(client.get("/v1/audit").with(200)["balanced"], true);
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| panic!("ended by a signal: {status:?}"))
}

#[test]
fn what_cannot_start_says_why_in_one_line() {
    let (data, server, _client) = started();
    let data = data.path().to_str().expect("a plain path");
    let address = server.address.to_string();
    let other = tempfile::tempdir().expect("a directory");
    let other = other.path().join("data");
    let other = other.to_str().expect("a plain path");
    for (args, status, said) in [
        (["serve", "--data", data, "--listen", "127.0.0.1:0"], 4, "in use"),
        (["serve", "--data", other, "--listen", &address], 4, "cannot listen on 127.0.0.1:"),
        (["serve", "--data", other, "--listen", "0.0.0.0:0"], 2, "loopback"),
        (["serve", "--data", other, "--shards", "65"], 2, "shards is 65; give 1 to 64"),
        (["serve", "--data", other, "--config", "nowhere.toml"], 2, "nowhere.toml"),
        (["serve", "--data", "/dev/null/x", "--listen", "127.0.0.1:0"], 4, "/dev/null/x"),
    ] {
        let done = output(&args);
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(exit_code(done.status), status, "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
        assert_eq!(stderr.trim_end().lines().count(), 1, "{args:?}: {stderr}");
        assert!(done.stdout.is_empty(), "{args:?} is not ready");
    }
    assert!(!Path::new(other).exists(), "nothing was touched");
    assert!(server.ready.contains("2 shards, seq 0"), "{}", server.ready);
}

#[test]
fn machines_can_ask_how_it_is() {
    let (_data, _server, mut client) = started();
    assert_eq!(client.get("/livez").with(200)["status"], "live");
    assert_eq!(client.get("/readyz").with(200)["status"], "ready");
    assert_eq!(client.get("/version").with(200)["version"], env!("CARGO_PKG_VERSION"));
    let swaps: Vec<Value> = (700..1_200).map(|n| swap(n, 3, 1)).collect();
    client.post("/v1/swaps:batch", &json!({"swaps": swaps})).with(200);
    client.post("/v1/swaps", &with_leg(1_300, "amount", json!("1.5"))).with(400);
    let reply = client.get("/metrics");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "crosslatch_requests_total{kind=\"swap\",outcome=\"settled\"} 333",
        "crosslatch_rejects_total{reason=\"insufficient_funds\"} 167",
        "crosslatch_rejects_total{reason=\"malformed\"} 1",
    ] {
        assert!(reply.text().lines().any(|it| it == line), "no {line} in\n{}", reply.text());
    }
    check_metrics(&reply);
}

/// Prometheus' own opinion, where its tool is installed; in CI it must be.
fn check_metrics(reply: &Reply) {
    match pipe_through("promtool", &["check", "metrics"], reply.text()) {
        Some(done) => {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success() && said.is_empty(), "{said}");
        }
        None if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
            panic!("promtool is not installed (Debian: prometheus)")
        }
        None => eprintln!("SKIPPED: promtool is not installed, so /metrics was not checked"),
    }
}

#[test]
fn every_metric_is_listed() {
    let done = output(&["metrics", "list", "--json"]);
    let all: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let named =
        |name: &str| all.as_array().is_some_and(|all| all.iter().any(|it| it["name"] == name));
    assert!(named("crosslatch_requests_total") && named("crosslatch_fsync_seconds"));
    assert!(String::from_utf8_lossy(&output(&["metrics", "list"]).stdout).contains("fsync"));
}
