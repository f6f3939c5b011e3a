//! Transactions: what was read must still be so.

use serde_json::{Value, json};

use super::http::Client;
use super::people::*;
use super::process::Server;

/// `a`, `b` and `a/b?` in base64.
const A: &str = "YQ==";
const B: &str = "Yg==";
const ODD: &str = "YS9iPw==";

fn transact(n: u64, reads: Value, writes: Value, transfers: Value) -> Value {
    json!({"request_id": id(n), "reads": reads, "writes": writes, "transfers": transfers})
}

fn write(key: &str, value: &str) -> Value {
    json!({"key": key, "value": value})
}

fn read(key: &str, version: impl Into<Value>) -> Value {
    json!({"key": key, "version": version.into()})
}

/// Value and version under a key.
fn value(client: &mut Client, path: &str) -> (Value, String) {
    let body = client.get(&format!("/v1/keys/{path}")).with(200);
    (body["value"].clone(), body["version"].as_str().expect("a string").to_owned())
}

#[test]
fn keys_and_balances_change_together() {
    let (data, server, mut client) = started();
    assert_eq!(value(&mut client, A), (Value::Null, "0".into()));
    let eth = json!({"account": 1, "asset": "ETH", "version": "7"});
    let body = transact(
        10,
        json!([read(A, 0), eth]),
        json!([write(A, "MQ=="), write(ODD, "")]),
        json!([leg(1, 2, "ETH", 10)]),
    );
    let receipt = client.post("/v1/transactions", &body).with(200);
    let time = receipt["time"].clone();
    assert_eq!(
        receipt,
        json!({"status": "settled", "request_id": id(10), "commit_seq": "9", "time": time,
               "legs": [{"from": 1, "to": 2, "asset": "ETH", "amount": "10",
                         "from_before": "1000", "from_after": "990",
                         "to_before": "0", "to_after": "10"}]})
    );
    assert_eq!(client.post("/v1/transactions", &body).with(200), receipt);
    assert_eq!(value(&mut client, A), (json!("MQ=="), "9".into()));
    for spelling in ["YS9iPw", "YS9iPw%3D%3D", "YS9iPw=="] {
        assert_eq!(value(&mut client, spelling), (json!(""), "9".into()));
    }
    let delete = json!([{"key": A, "value": null}]);
    let gone = transact(11, json!([read(A, "9")]), delete, json!([]));
    let gone = client.post("/v1/transactions", &gone).with(200);
    assert_eq!((&gone["commit_seq"], &gone["legs"]), (&json!("10"), &json!([])));
    server.kill();
    let server = Server::start(data.path());
    let mut client = server.client();
    assert_eq!(value(&mut client, A), (Value::Null, "10".into()));
    assert_eq!(value(&mut client, &format!("{A}?at=9")), (json!("MQ=="), "9".into()));
    assert_eq!(value(&mut client, &format!("{A}?at=8")), (Value::Null, "0".into()));
    assert_eq!(client.get(&format!("/v1/requests/{}", id(10))).with(200), receipt);
    let again = transact(12, json!([read(A, 10)]), json!([write(A, "Mg==")]), json!([]));
    client.post("/v1/transactions", &again).with(200);
    assert_eq!(value(&mut client, A), (json!("Mg=="), "11".into()));
}

#[test]
fn what_has_changed_since_is_a_conflict() {
    let (_data, _server, mut client) = started();
    let first = transact(10, json!([read(A, 0)]), json!([write(A, "MQ==")]), json!([]));
    client.post("/v1/transactions", &first).with(200);
    // Both read the same version; the other came first.
    let second = transact(11, json!([read(B, 0), read(A, 0)]), json!([write(B, "")]), json!([]));
    let conflict = client.post("/v1/transactions", &second).problem(409, "conflict", "reads[1]");
    assert_eq!(conflict["key"], A);
    assert_eq!(client.post("/v1/transactions", &second).with(409), conflict);
    assert_eq!(value(&mut client, B), (Value::Null, "0".into()));
    let sol = json!([{"account": 2, "asset": "SOL", "version": "7"}]);
    let third = transact(12, sol, json!([]), json!([leg(2, 1, "SOL", 1)]));
    let conflict = client.post("/v1/transactions", &third).problem(409, "conflict", "reads[0]");
    assert_eq!((&conflict["account"], &conflict["asset"]), (&json!(2), &json!("SOL")));
    // Blind writes conflict with nothing.
    let blind = transact(13, json!([]), json!([write(A, "Mw==")]), json!([]));
    client.post("/v1/transactions", &blind).with(200);
    assert_eq!(value(&mut client, A), (json!("Mw=="), "10".into()));
    let metrics = client.get("/metrics");
    for line in [
        "crosslatch_requests_total{kind=\"transaction\",outcome=\"settled\"} 2",
        "crosslatch_requests_total{kind=\"transaction\",outcome=\"rejected\"} 2",
        "crosslatch_rejects_total{reason=\"conflict\"} 2",
        "crosslatch_conflicts_total{kind=\"read_validation\"} 2",
    ] {
        let text = metrics.text();
        assert!(text.lines().any(|it| it == line), "no {line} in\n{text}");
    }
}

#[test]
fn bad_transactions_are_refused_by_code_and_field() {
    let (_data, _server, mut client) = started();
    let before = state(&mut client);
    let none = || json!([]);
    let bad_leg = |n, leg: Value| transact(n, none(), none(), json!([leg]));
    let of =
        |asset: &str, version: u64| json!([{"account": 1, "asset": asset, "version": version}]);
    let key = |length: usize| format!("{}==", "AAAA".repeat(length / 3) + "AA");
    for (body, status, code, field) in [
        (json!({"request_id": id(30)}), 400, "malformed", "reads"),
        (transact(31, json!({}), none(), none()), 400, "malformed", "reads"),
        (transact(32, json!([read("a", 0)]), none(), none()), 400, "malformed", "reads[0].key"),
        (transact(33, json!([read(A, -1)]), none(), none()), 400, "malformed", "reads[0].version"),
        (
            transact(34, json!([read(A, 0), read(A, 1)]), none(), none()),
            400,
            "malformed",
            "reads[1]",
        ),
        (transact(35, none(), json!([{"key": A}]), none()), 400, "malformed", "writes[0].value"),
        (
            transact(36, none(), json!([write(&key(1_026), "")]), none()),
            400,
            "malformed",
            "writes[0].key",
        ),
        (
            transact(37, none(), json!([write(A, &key(65_538))]), none()),
            400,
            "malformed",
            "writes[0].value",
        ),
        (bad_leg(38, leg(1, 1, "ETH", 1)), 400, "malformed", "transfers[0].to"),
        (bad_leg(39, leg(1, 2, "ETH", 1_001)), 422, "insufficient_funds", "transfers[0].amount"),
        (bad_leg(40, leg(9, 2, "ETH", 1)), 404, "unknown_account", "transfers[0].from"),
        (bad_leg(41, leg(1, 2, "DOGE", 1)), 404, "unknown_asset", "transfers[0].asset"),
        (
            transact(42, of("DOGE", 0), json!([write(A, "")]), none()),
            404,
            "unknown_asset",
            "reads[0].asset",
        ),
        (bad_leg(43, leg(2, 3, "SOL", 1)), 422, "not_linked", "transfers[0].to"),
    ] {
        client.post("/v1/transactions", &body).problem(status, code, field);
    }
    let mut late = transact(50, none(), json!([write(A, "")]), none());
    late["deadline"] = json!("2020-01-01T00:00:00Z");
    client.post("/v1/transactions", &late).problem(410, "expired", "deadline");
    client.get("/v1/keys/a!").problem(400, "malformed", "key");
    client.get(&format!("/v1/keys/{}", key(1_026))).problem(400, "malformed", "key");
    client.get(&format!("/v1/keys/{A}?at=99")).problem(400, "malformed", "at");
    client.get(&format!("/v1/keys/{A}?version=1")).problem(400, "malformed", "version");
    assert_eq!(value(&mut client, A), (Value::Null, "0".into()));
    assert_eq!(state(&mut client), before);
}
