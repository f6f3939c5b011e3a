//! Prepared swaps: what is set aside, and what becomes of it. (How they fare over restarts and with
//! locks: `tests/holds.rs`.)

use serde_json::{Value, json};

use super::http::{Client, Reply};
use super::people::*;
use super::process::Server;

fn resolve(client: &mut Client, token: u64, how: &str, n: u64) -> Reply {
    let path = format!("/v1/prepared/{}/{how}", id(token));
    client.post(&path, &json!({"request_id": id(n)}))
}

fn state_of(client: &mut Client, token: u64) -> Value {
    client.get(&format!("/v1/prepared/{}", id(token))).with(200)
}

#[test]
fn a_prepared_swap_is_held_and_then_moves() {
    let (_data, _server, mut client) = started();
    let receipt = client.post("/v1/prepared", &swap(10, 10, 200)).with(200);
    let (time, expires_at) = (receipt["time"].clone(), receipt["expires_at"].clone());
    assert_eq!(
        receipt,
        json!({"status": "settled", "request_id": id(10), "commit_seq": "9", "time": time,
               "token": id(10), "expires_at": expires_at})
    );
    assert!(seconds(&expires_at) - seconds(&time) == 60, "{time} {expires_at}");
    assert_eq!(client.post("/v1/prepared", &swap(10, 10, 200)).with(200), receipt);
    let held = client.get("/v1/accounts/1/balances").with(200);
    let eth = json!({"asset": "ETH", "available": "990", "held": "10", "version": "9"});
    assert_eq!(held["balances"], json!([eth]));
    let legs = json!([
        {"from": 1, "to": 2, "asset": "ETH", "amount": "10"},
        {"from": 2, "to": 1, "asset": "SOL", "amount": "200"},
    ]);
    let open = json!({"token": id(10), "state": "open", "legs": legs, "exclusive": false,
                      "expires_at": expires_at, "since": "9"});
    assert_eq!(state_of(&mut client, 10), open);
    let done = resolve(&mut client, 10, "commit", 11).with(200);
    assert_eq!((&done["commit_seq"], &done["token"]), (&json!("10"), &json!(id(10))));
    assert_eq!(done["request_id"], json!(id(11)));
    assert_eq!(
        done["legs"][0],
        json!({"from": 1, "to": 2, "asset": "ETH", "amount": "10", "from_before": "1000",
               "from_after": "990", "to_before": "0", "to_after": "10"})
    );
    let mut committed = open;
    committed["state"] = json!("committed");
    committed["commit_seq"] = json!("10");
    committed["time"] = done["time"].clone();
    assert_eq!(state_of(&mut client, 10), committed);
    assert_eq!(client.get(&format!("/v1/requests/{}", id(10))).with(200), receipt);
    assert_eq!(client.get(&format!("/v1/requests/{}", id(11))).with(200), done);
}

/// Whole seconds of a time of today or tomorrow: differences are what counts.
fn seconds(time: &Value) -> i64 {
    let time: jiff::Timestamp = time.as_str().expect("text").parse().expect("RFC 3339");
    time.as_second()
}

#[test]
fn whoever_comes_second_hears_of_the_first() {
    let (_data, _server, mut client) = started();
    client.post("/v1/prepared", &swap(10, 10, 200)).with(200);
    let back = resolve(&mut client, 10, "rollback", 11).with(200);
    let time = back["time"].clone();
    assert_eq!(
        back,
        json!({"status": "settled", "request_id": id(11), "commit_seq": "10", "time": time,
               "token": id(10)})
    );
    assert_eq!(balance(&mut client, "/v1/accounts/1/balances", "ETH"), "1000");
    // The same request, and another one for the same.
    assert_eq!(resolve(&mut client, 10, "rollback", 11).with(200), back);
    assert_eq!(resolve(&mut client, 10, "rollback", 12).with(200), back);
    let late = resolve(&mut client, 10, "commit", 13).problem(409, "already_resolved", "token");
    assert_eq!((&late["how"], &late["commit_seq"]), (&json!("rolled_back"), &json!("10")));
    assert_eq!(late["token"], json!(id(10)));
    // Refused once, refused for ever.
    assert_eq!(resolve(&mut client, 10, "commit", 13).with(409), late);
    let known = client.get(&format!("/v1/requests/{}", id(13))).with(409);
    assert_eq!((&known["code"], &known["how"]), (&late["code"], &late["how"]));
    for n in [11, 12] {
        assert_eq!(client.get(&format!("/v1/requests/{}", id(n))).with(200), back);
    }
}

#[test]
fn bad_prepares_and_resolutions_are_refused_by_code_and_field() {
    let (_data, _server, mut client) = started();
    client.post("/v1/withdrawals", &deposit(30, 1, "ETH", "1")).with(200);
    let before = state(&mut client);
    let with = |n, member: &str, value: Value| {
        let mut body = swap(n, 1, 1);
        body[member] = value;
        body
    };
    let day = 24 * 3_600_000;
    for (body, status, code, field) in [
        (with(31, "expires_in_ms", json!(0)), 400, "malformed", "expires_in_ms"),
        (with(32, "expires_in_ms", json!(day + 1)), 400, "malformed", "expires_in_ms"),
        (with(33, "expires_in_ms", json!("soon")), 400, "malformed", "expires_in_ms"),
        (with(34, "exclusive", json!("yes")), 400, "malformed", "exclusive"),
        (with(35, "legs", json!([])), 400, "malformed", "legs"),
        (with(36, "expires_at", json!(1)), 400, "malformed", "expires_at"),
        (with(37, "deadline", json!("2020-01-01T00:00:00Z")), 410, "expired", "deadline"),
        (swap(38, 1_000, 1), 422, "insufficient_funds", "legs[0].amount"),
        (
            with(39, "legs", json!([leg(1, 2, "ETH", 1), leg(2, 3, "SOL", 1)])),
            422,
            "not_linked",
            "legs[1].to",
        ),
        (
            with(40, "legs", json!([leg(1, 2, "ETH", 1), leg(2, 1, "DOGE", 1)])),
            404,
            "unknown_asset",
            "legs[1].asset",
        ),
        (
            with(41, "legs", json!([leg(9, 2, "ETH", 1), leg(2, 1, "SOL", 1)])),
            404,
            "unknown_account",
            "legs[0].from",
        ),
        (swap(1, 1, 1), 409, "request_id_reused", "request_id"),
    ] {
        client.post("/v1/prepared", &body).problem(status, code, field);
    }
    resolve(&mut client, 99, "commit", 50).problem(404, "unknown_token", "token");
    // A withdrawal is no prepared swap; nor is a refused one.
    resolve(&mut client, 30, "commit", 51).problem(404, "unknown_token", "token");
    resolve(&mut client, 38, "rollback", 52).problem(404, "unknown_token", "token");
    let path = format!("/v1/prepared/{}/commit", id(99));
    client.post(&path, &json!({})).problem(400, "malformed", "request_id");
    let more = json!({"request_id": id(53), "legs": []});
    client.post(&path, &more).problem(400, "malformed", "legs");
    let no_token = json!({"request_id": id(54)});
    client.post("/v1/prepared/x/rollback", &no_token).problem(400, "malformed", "token");
    client.get("/v1/prepared/x").problem(400, "malformed", "token");
    for n in [30, 38, 99] {
        let unknown = client.get(&format!("/v1/prepared/{}", id(n)));
        unknown.problem(404, "unknown_token", "token");
    }
    let wrong = client.delete(&format!("/v1/prepared/{}", id(1)));
    wrong.problem(405, "method_not_allowed", "");
    assert_eq!(state(&mut client), before);
}

#[test]
fn limits_of_holds_are_told() {
    let data = tempfile::tempdir().expect("a directory");
    let limits =
        [("holds_per_account_max", 1), ("held_share_max_percent", 50), ("lock_wait_ms", 50)];
    let server = Server::start_with(data.path(), &limits);
    let mut client = server.client();
    populate(&mut client);
    let much = client.post("/v1/prepared", &swap(10, 501, 1));
    let much = much.problem(422, "held_share_exceeded", "legs[0].amount");
    assert_eq!((&much["account"], &much["asset"]), (&json!(1), &json!("ETH")));
    assert_eq!(much["max_percent"], 50);
    let mut body = swap(11, 500, 1);
    body["exclusive"] = json!(true);
    client.post("/v1/prepared", &body).with(200);
    let locked = client.post("/v1/swaps", &swap(12, 1, 1)).problem(409, "lock_timeout", "");
    assert_eq!(locked["token"], json!(id(11)));
    resolve(&mut client, 11, "rollback", 14).with(200);
    client.post("/v1/prepared", &swap(15, 1, 1)).with(200);
    let many = client.post("/v1/prepared", &swap(16, 1, 1));
    let many = many.problem(409, "too_many_holds", "legs[0].from");
    assert_eq!((&many["account"], &many["max"]), (&json!(1), &json!(1)));
}
