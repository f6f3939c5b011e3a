//! The past: balances as of a seq or a time, and every change with its cause.

use serde_json::{Value, json};

use crosslatch::store::{CommitLog, Durability, VersionStore, rocks};
use crosslatch::types::CommitSeq;

use super::http::Client;
use super::people::*;
use super::process::Server;

/// What happened to an account, as `seq kind asset available/held`.
fn told(client: &mut Client, path: &str) -> (Vec<String>, Value) {
    let body = client.get(path).with(200);
    let line = |change: &Value| {
        let word = |name: &str| change[name].as_str().expect("a string");
        format!(
            "{} {} {} {}/{} -> {}/{}",
            word("seq"),
            word("kind"),
            word("asset"),
            word("available_before"),
            word("held_before"),
            word("available"),
            word("held")
        )
    };
    let changes = body["changes"].as_array().expect("a list").iter().map(line).collect();
    (changes, body["next"].clone())
}

/// Deposits, a swap, a prepared swap that is committed, a withdrawal that is canceled.
fn live(client: &mut Client) {
    client.post("/v1/swaps", &swap(10, 10, 200)).with(200);
    client.post("/v1/prepared", &swap(11, 20, 1)).with(200);
    let commit = format!("/v1/prepared/{}/commit", id(11));
    client.post(&commit, &json!({"request_id": id(12)})).with(200);
    client.post("/v1/withdrawals", &deposit(13, 1, "ETH", "5")).with(200);
    let cancel = format!("/v1/withdrawals/{}/cancel", id(13));
    client.post(&cancel, &json!({"request_id": id(14)})).with(200);
}

const ALL: [&str; 8] = [
    "7 deposit ETH 0/0 -> 1000/0",
    "9 swap ETH 1000/0 -> 990/0",
    "9 swap SOL 0/0 -> 200/0",
    "10 prepare ETH 990/0 -> 970/20",
    "11 commit ETH 970/20 -> 970/0",
    "11 commit SOL 200/0 -> 201/0",
    "12 withdrawal ETH 970/0 -> 965/5",
    "13 withdrawal_cancel ETH 965/5 -> 970/0",
];

#[test]
fn every_change_is_told_with_its_cause() {
    let (data, server, mut client) = started();
    live(&mut client);
    let path = "/v1/accounts/1/history";
    assert_eq!(told(&mut client, path), (ALL.map(str::to_owned).to_vec(), Value::Null));
    let body = client.get(path).with(200);
    let swap = &body["changes"][1];
    assert_eq!((&swap["request_id"], swap.get("token")), (&json!(id(10)), None));
    let receipt = client.get(&format!("/v1/requests/{}", id(10))).with(200);
    assert_eq!(swap["time"], receipt["time"]);
    let commit = &body["changes"][4];
    assert_eq!((&commit["request_id"], &commit["token"]), (&json!(id(12)), &json!(id(11))));
    assert_eq!(body["changes"][6]["token"], json!(id(13)));
    server.kill();
    let server = Server::start(data.path());
    let mut client = server.client();
    assert_eq!(client.get(path).with(200), body);
    // Bob's begins with his deposit.
    assert_eq!(told(&mut client, "/v1/accounts/2/history").0[0], "8 deposit SOL 0/0 -> 5000/0");
    assert_eq!(told(&mut client, "/v1/accounts/3/history"), (vec![], Value::Null));
}

#[test]
fn history_comes_in_pages_and_by_asset() {
    let (_data, _server, mut client) = started();
    live(&mut client);
    let mut all = Vec::new();
    let mut after = String::new();
    let mut pages = 0;
    loop {
        let path = format!("/v1/accounts/1/history?limit=2{after}");
        let (changes, next) = told(&mut client, &path);
        assert!((1..=2).contains(&changes.len()), "{changes:?}");
        all.extend(changes);
        pages += 1;
        let Value::String(next) = next else { break };
        after = format!("&after={next}");
    }
    assert_eq!((all, pages), (ALL.map(str::to_owned).to_vec(), 5));
    let (sol, _) = told(&mut client, "/v1/accounts/1/history?asset=SOL");
    assert_eq!(sol, [ALL[2], ALL[5]]);
    let (late, _) = told(&mut client, "/v1/accounts/1/history?asset=SOL&after=9");
    assert_eq!(late, [ALL[5]]);
}

#[test]
fn balances_are_told_as_of_a_seq_or_a_time() {
    let (_data, _server, mut client) = started();
    live(&mut client);
    let at = |seq: u64| format!("/v1/accounts/1/balances?at={seq}");
    let then = client.get(&at(10)).with(200);
    let eth = json!({"asset": "ETH", "available": "970", "held": "20", "version": "10"});
    assert_eq!((&then["seq"], &then["balances"][0]), (&json!("10"), &eth));
    let receipt = client.get(&format!("/v1/requests/{}", id(11))).with(200);
    let time = receipt["time"].as_str().expect("a time");
    let as_of = client.get(&format!("/v1/accounts/1/balances?at_time={time}")).with(200);
    assert_eq!(as_of, then);
    let long_ago = "/v1/accounts/1/balances?at_time=2001-01-01T00:00:00%2B02:00";
    let nothing = json!({"account": 1, "seq": "0", "balances": []});
    assert_eq!(client.get(long_ago).with(200), nothing);
}

#[test]
fn what_cannot_be_read_is_said_to_be_so() {
    let (_data, _server, mut client) = started();
    let mut get = |path: &str, status, code, field| {
        client.get(&format!("/v1/accounts/{path}")).problem(status, code, field)
    };
    get("9/history", 404, "unknown_account", "account");
    get("x/history", 400, "malformed", "account");
    get("1/history?asset=DOGE", 404, "unknown_asset", "asset");
    get("1/history?limit=0", 400, "malformed", "limit");
    get("1/history?limit=1001", 400, "malformed", "limit");
    get("1/history?after=x", 400, "malformed", "after");
    get("1/history?before=1", 400, "malformed", "before");
    get("1/history?after=1&after=2", 400, "malformed", "after");
    get("1/balances?at_time=yesterday", 400, "malformed", "at_time");
    get("1/balances?at=1&at_time=2026-01-31T12:00:00Z", 400, "malformed", "at_time");
}

#[test]
fn what_has_expired_says_since_when_there_is_something() {
    let (data, server, mut client) = started();
    live(&mut client);
    // The version store must have it: a stop sees to that.
    server.ask_to_stop();
    assert_eq!(server.wait().code(), Some(0));
    let horizon = CommitSeq::new(10);
    let mut opened = rocks::open(data.path(), Durability::Sync).expect("nobody has it");
    opened.store.collect_garbage(horizon).expect("it forgets");
    opened.log.stop().expect("it closes");
    drop(opened);
    let server = Server::start(data.path());
    let mut client = server.client();
    for path in ["balances?at=9", "history?after=9", "balances?at_time=2001-01-01T00:00:00Z"] {
        let expired = client.get(&format!("/v1/accounts/1/{path}"));
        let expired = expired.problem(410, "history_expired", "");
        assert_eq!(expired["oldest"], "10", "{path}: {expired}");
        assert_eq!(expired["status"], "rejected");
    }
    let then = client.get("/v1/accounts/1/balances?at=10").with(200);
    assert_eq!(then["balances"][0]["held"], "20");
    for path in ["/v1/accounts/1/history", "/v1/accounts/1/history?after=10"] {
        assert_eq!(told(&mut client, path).0, ALL[4..], "what is asked for without a seq is there");
    }
    // Receipts do not expire.
    assert_eq!(client.get(&format!("/v1/requests/{}", id(1))).with(200)["status"], "settled");
}
