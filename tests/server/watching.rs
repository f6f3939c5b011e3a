//! What is watched: how the server does, and what is about to expire.

use serde_json::{Value, json};

use super::http::Client;
use super::people::*;

fn number(value: &Value) -> u64 {
    value["number"].as_u64().expect("a number")
}

/// What the server says once `is_enough` of it; it looks once a second.
fn stats(client: &mut Client, path: &str, is_enough: impl Fn(&Value) -> bool) -> Value {
    loop {
        let told = client.get(path).with(200);
        if is_enough(&told) {
            return told;
        }
        std::thread::yield_now();
    }
}

#[test]
fn what_settles_is_seen_in_the_second_after_it() {
    let (_data, _server, mut client) = started();
    // It has looked before anything of what follows.
    let before = stats(&mut client, "/v1/stats", |told| !told["samples"][0].is_null());
    let last = number(before["samples"].as_array().expect("a list").last().expect("one"));
    for n in 10..40 {
        client.post("/v1/swaps", &swap(n, 1, 2)).with(200);
    }
    client.post("/v1/swaps", &swap(50, 1_000_000, 2)).problem(
        422,
        "insufficient_funds",
        "legs[0].amount",
    );
    let hold = json!({"request_id": id(60), "legs": [leg(1, 2, "ETH", 5), leg(2, 1, "SOL", 5)]});
    client.post("/v1/prepared", &hold).with(200);
    let path = format!("/v1/stats?after={last}");
    let settled = |told: &Value| {
        let samples = told["samples"].as_array().expect("a list").iter();
        samples.filter_map(|it| it["settled_per_second"].as_f64()).sum::<f64>()
    };
    let is_seen = |told: &Value| {
        let now = told["samples"].as_array().and_then(|samples| samples.last());
        let hot = told["hot_accounts"]["accounts"][0]["commits"].as_u64();
        settled(told) > 0.0 && now.is_some_and(|now| now["holds"] == 1) && hot >= Some(20)
    };
    let told = stats(&mut client, &path, is_seen);
    let samples = told["samples"].as_array().expect("a list");
    assert!(samples.iter().all(|it| number(it) > last), "only what came after");
    assert!(samples.is_sorted_by_key(number));
    let answered = samples.iter().find(|it| !it["p50_ms"].is_null()).expect("a busy second");
    let ms = |name: &str| answered[name].as_f64().expect("a quantile");
    assert!(ms("p50_ms") > 0.0 && ms("p50_ms") <= ms("p99_ms"), "{answered}");
    let actors = told["actors"].as_array().expect("a list");
    assert!(actors.contains(&json!("shard-0")) && actors.contains(&json!("shard-1")), "{actors:?}");
    assert!(
        samples.iter().all(|it| it["mailboxes"].as_array().map(Vec::len) == Some(actors.len()))
    );
    let swaps = told["requests"].as_array().expect("a list").iter().find(|it| it["kind"] == "swap");
    assert!(swaps.is_some(), "{told}");
    let short = told["rejects"].as_array().expect("a list");
    assert!(short.iter().any(|it| it["name"] == "insufficient_funds" && it["total"] == 1));
    // Accounts 1 and 2 had part in all of it.
    let hot = told["hot_accounts"]["accounts"].as_array().expect("a list");
    let accounts: Vec<u64> = hot.iter().filter_map(|it| it["account"].as_u64()).collect();
    assert_eq!(accounts[..2], [1, 2], "{hot:?}");
    client.get("/v1/stats?after=x").problem(400, "malformed", "after");
    client.get("/v1/stats?since=1").problem(400, "malformed", "since");
}

#[test]
fn what_expires_soonest_comes_first() {
    let (_data, _server, mut client) = started();
    let all = |client: &mut Client, query: &str| {
        let told = client.get(&format!("/v1/prepared{query}")).with(200);
        let tokens = told["prepared"].as_array().expect("a list").iter();
        let tokens: Vec<String> =
            tokens.map(|it| it["token"].as_str().expect("a token").to_owned()).collect();
        (tokens, told["complete"] == true)
    };
    assert_eq!(all(&mut client, ""), (vec![], true));
    for (n, minutes) in [(10, 30), (11, 10), (12, 20), (13, 40)] {
        let legs = [leg(1, 2, "ETH", 5), leg(2, 1, "SOL", 5)];
        let body = json!({"request_id": id(n), "legs": legs, "expires_in_ms": minutes * 60_000});
        client.post("/v1/prepared", &body).with(200);
    }
    // What expires by nobody is not among them, nor what has ended.
    let out = json!({"request_id": id(20), "account": 1, "asset": "ETH", "amount": "1",
        "reference": "out"});
    client.post("/v1/withdrawals", &out).with(200);
    client
        .post(&format!("/v1/prepared/{}/commit", id(12)), &json!({"request_id": id(21)}))
        .with(200);
    assert_eq!(all(&mut client, ""), (vec![id(11), id(10), id(13)], true));
    assert_eq!(all(&mut client, "?limit=3"), (vec![id(11), id(10), id(13)], true));
    assert_eq!(all(&mut client, "?limit=2"), (vec![id(11), id(10)], false));
    assert_eq!(all(&mut client, "?account=2").0.len(), 3);
    assert_eq!(all(&mut client, "?account=3"), (vec![], true));
    let told = client.get("/v1/prepared?limit=1").with(200);
    let one = client.get(&format!("/v1/prepared/{}", id(11))).with(200);
    assert_eq!(told["prepared"][0], one, "as it is told alone");
    client.get("/v1/prepared?limit=0").problem(400, "malformed", "limit");
}

#[test]
fn the_console_is_for_anybody_and_may_do_little() {
    let (_data, _server, mut client) = started();
    let page = client.get("/console");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").expect("a policy");
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let script = client.get("/console/app.js");
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(script.header("x-content-type-options"), Some("nosniff"));
    client.get("/console/../app.js").problem(404, "not_found", "");
    client.get("/console/none.js").problem(404, "not_found", "file");
}
