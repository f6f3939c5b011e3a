//! Swaps, one by one and in batches: receipts, refusals, repeats.

use serde_json::{Value, json};

use super::people::*;
use super::process::Server;

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

/// A bad request with what is expected of its refusal: status, code, field.
type Bad = (Value, u16, &'static str, &'static str);

/// `swap(n)` with one member of its second leg replaced.
pub fn with_leg(n: u64, member: &str, value: Value) -> Value {
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
    assert_eq!(results[5]["field"], "swaps[5]");
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
