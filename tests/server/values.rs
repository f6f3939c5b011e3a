//! Value enters by deposits and leaves by withdrawals, in two phases.

use serde_json::{Value, json};

use super::http::Client;
use super::people::*;
use super::process::Server;

fn withdrawal(n: u64, account: u64, asset: &str, amount: u64) -> Value {
    json!({"request_id": id(n), "account": account, "asset": asset, "amount": amount,
           "reference": format!("out-{n}")})
}

fn end(client: &mut Client, withdrawal: u64, how: &str, n: u64) -> super::http::Reply {
    let path = format!("/v1/withdrawals/{}/{how}", id(withdrawal));
    client.post(&path, &json!({"request_id": id(n)}))
}

/// Available and held of Alice's ETH.
fn alice(client: &mut Client) -> (String, String) {
    let body = client.get("/v1/accounts/1/balances").with(200);
    let word = |name: &str| body["balances"][0][name].as_str().expect("a string").to_owned();
    (word("available"), word("held"))
}

fn pair(available: &str, held: &str) -> (String, String) {
    (available.into(), held.into())
}

#[test]
fn deposits_show_the_balance_around_them() {
    let (_data, _server, mut client) = started();
    let receipt = client.post("/v1/deposits", &deposit(20, 1, "ETH", "5")).with(200);
    assert_eq!((&receipt["before"], &receipt["after"]), (&json!("1000"), &json!("1005")));
    assert_eq!((&receipt["reference"], &receipt["asset"]), (&json!("tx-20"), &json!("ETH")));
    assert!(receipt.get("token").is_none(), "{receipt}");
}

#[test]
fn a_reference_is_credited_once_per_asset() {
    let (data, server, mut client) = started();
    let mut body = deposit(30, 1, "ETH", "5");
    body["reference"] = json!("tx-1");
    let refused = client.post("/v1/deposits", &body).problem(409, "already_credited", "reference");
    assert_eq!((&refused["asset"], &refused["commit_seq"]), (&json!("ETH"), &json!("7")));
    body["asset"] = json!("USDC");
    client.post("/v1/deposits", &body).problem(409, "request_id_reused", "request_id");
    body["request_id"] = json!(id(31));
    client.post("/v1/deposits", &body).with(200);
    for n in [32, 33] {
        let none = json!({"request_id": id(n), "account": 1, "asset": "ETH", "amount": 1});
        client.post("/v1/deposits", &none).with(200);
    }
    server.kill();
    let server = Server::start(data.path());
    let mut client = server.client();
    let mut again = deposit(34, 1, "ETH", "5");
    again["reference"] = json!("tx-1");
    client.post("/v1/deposits", &again).problem(409, "already_credited", "reference");
    assert_eq!(alice(&mut client), pair("1002", "0"));
}

#[test]
fn a_withdrawal_is_set_aside_and_then_confirmed() {
    let (_data, _server, mut client) = started();
    let receipt = client.post("/v1/withdrawals", &withdrawal(20, 1, "ETH", 300)).with(200);
    let time = receipt["time"].clone();
    assert_eq!(
        receipt,
        json!({"status": "settled", "request_id": id(20), "commit_seq": "9", "time": time,
               "token": id(20), "account": 1, "asset": "ETH", "amount": "300",
               "reference": "out-20", "before": "1000", "after": "1000"})
    );
    assert_eq!(alice(&mut client), pair("700", "300"));
    let path = format!("/v1/withdrawals/{}", id(20));
    let open = json!({"id": id(20), "state": "open", "account": 1, "asset": "ETH",
                      "amount": "300", "reference": "out-20", "since": "9"});
    assert_eq!(client.get(&path).with(200), open);
    let gone = end(&mut client, 20, "confirm", 21).with(200);
    assert_eq!(
        gone,
        json!({"status": "settled", "request_id": id(21), "commit_seq": "10",
               "time": gone["time"], "token": id(20), "before": "1000", "after": "700"})
    );
    assert_eq!(alice(&mut client), pair("700", "0"));
    let confirmed = client.get(&path).with(200);
    assert_eq!((&confirmed["state"], &confirmed["since"]), (&json!("confirmed"), &json!("9")));
    assert_eq!((&confirmed["commit_seq"], &confirmed["time"]), (&json!("10"), &gone["time"]));
    assert_eq!((&confirmed["amount"], &confirmed["account"]), (&json!("300"), &json!(1)));
    // Another who confirms hears of the first; who cancels comes too late.
    assert_eq!(end(&mut client, 20, "confirm", 22).with(200), gone);
    let late = end(&mut client, 20, "cancel", 23).problem(409, "already_resolved", "id");
    assert_eq!((&late["how"], &late["commit_seq"]), (&json!("committed"), &json!("10")));
    assert_eq!(late["token"], json!(id(20)));
    let audit = client.get("/v1/audit").with(200);
    assert_eq!(audit["assets"][0]["supply"], "700");
    for n in [20, 21] {
        let known = client.get(&format!("/v1/requests/{}", id(n))).with(200);
        assert_eq!(known, if n == 20 { receipt.clone() } else { gone.clone() });
    }
}

#[test]
fn a_canceled_withdrawal_is_back_also_after_a_restart() {
    let (data, server, mut client) = started();
    client.post("/v1/withdrawals", &withdrawal(20, 1, "ETH", 1_000)).with(200);
    let short = client.post("/v1/withdrawals", &withdrawal(21, 1, "ETH", 1));
    let short = short.problem(422, "insufficient_funds", "amount");
    assert_eq!((&short["short_by"], &short["account"]), (&json!("1"), &json!(1)));
    server.kill();
    let server = Server::start(data.path());
    let mut client = server.client();
    assert_eq!(alice(&mut client), pair("0", "1000"));
    let back = end(&mut client, 20, "cancel", 22).with(200);
    assert_eq!((&back["before"], &back["after"]), (&json!("1000"), &json!("1000")));
    assert_eq!(alice(&mut client), pair("1000", "0"));
    let state = client.get(&format!("/v1/withdrawals/{}", id(20))).with(200);
    assert_eq!(state["state"], "canceled");
    end(&mut client, 20, "confirm", 23).problem(409, "already_resolved", "id");
}

#[test]
fn an_id_may_come_as_a_header() {
    let (_data, _server, mut client) = started();
    let body = json!({"account": 1, "asset": "ETH", "amount": 1000}).to_string();
    let key = [("Content-Type", "application/json"), ("Idempotency-Key", &*id(21))];
    let sent = client.send("POST", "/v1/withdrawals", &key, body.as_bytes()).with(200);
    assert_eq!((&sent["request_id"], &sent["token"]), (&json!(id(21)), &json!(id(21))));
    let path = format!("/v1/withdrawals/{}/confirm", id(21));
    let key = [("Idempotency-Key", &*id(22))];
    let gone = client.send("POST", &path, &key, b"").with(200);
    assert_eq!((&gone["request_id"], &gone["after"]), (&json!(id(22)), &json!("0")));
}

#[test]
fn bad_withdrawals_are_refused_by_code_and_field() {
    let (_data, _server, mut client) = started();
    client.post("/v1/prepared", &swap(40, 1, 1)).with(200);
    let before = state(&mut client);
    let mut post = |path: &str, body: Value, status, code, field| {
        client.post(path, &body).problem(status, code, field)
    };
    let call = "/v1/withdrawals";
    post(call, withdrawal(41, 9, "ETH", 1), 404, "unknown_account", "account");
    post(call, withdrawal(42, 1, "DOGE", 1), 404, "unknown_asset", "asset");
    post(call, withdrawal(43, 3, "SOL", 1), 422, "not_linked", "account");
    post(call, withdrawal(44, 1, "ETH", 0), 400, "malformed", "amount");
    post(call, json!({"request_id": id(45), "asset": "ETH"}), 400, "malformed", "account");
    let ask = |n: u64| json!({"request_id": id(n)});
    let confirm = format!("{call}/{}/confirm", id(99));
    post(&confirm, ask(46), 404, "unknown_token", "id");
    post(&confirm, json!({}), 400, "malformed", "request_id");
    post(&confirm, json!({"request_id": id(47), "by": 1}), 400, "malformed", "by");
    post("/v1/withdrawals/abc/cancel", ask(48), 400, "malformed", "id");
    // A prepared swap is no withdrawal.
    let other = format!("{call}/{}/cancel", id(40));
    post(&other, ask(49), 404, "unknown_token", "id");
    client.get(&format!("{call}/{}", id(40))).problem(404, "unknown_token", "id");
    client.get(&format!("{call}/{}", id(1))).problem(404, "unknown_token", "id");
    client.get(&format!("{call}/abc")).problem(400, "malformed", "id");
    assert_eq!(state(&mut client), before);
}
