//! Assets, accounts and links.

use serde_json::{Value, json};

use super::people::*;

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
