//! What the tests over HTTP share: a server with a small directory and money on it, and short words
//! for what is asked of it.
//!
//! Chain 1 is EVM with ETH and USDC, chain 101 is Solana with SOL. Accounts 1 (Alice) and 2 (Bob)
//! are linked on both, account 3 (Carol) on chain 1 only.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::Client;
use super::process::Server;

pub const ALICE_EVM: &str = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359";
pub const BOB_EVM: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
pub const CAROL_EVM: &str = "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB";
pub const ALICE_SOL: &str = "DYw8jCTfwHNRJhhmFcbXvVDTqWMEVFBX6ZKUmG5CNSKK";
pub const BOB_SOL: &str = "7EcDhSYGxXyscszYEp35KHN8vvw3svAuLKTzXwCFLtV";
pub const USDC: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";
pub const USDC_SOL: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";

/// Version-7 ids, distinct by `n`.
pub fn id(n: u64) -> String {
    format!("01900000-0000-7000-8000-{n:012x}")
}

pub fn leg(from: u64, to: u64, asset: &str, amount: impl Into<Value>) -> Value {
    json!({"from": from, "to": to, "asset": asset, "amount": amount.into()})
}

/// Alice gives ETH, Bob gives SOL.
pub fn swap(n: u64, eth: u64, sol: u64) -> Value {
    json!({"request_id": id(n), "legs": [leg(1, 2, "ETH", eth), leg(2, 1, "SOL", sol)]})
}

pub fn deposit(n: u64, account: u64, asset: &str, amount: &str) -> Value {
    json!({"request_id": id(n), "account": account, "asset": asset, "amount": amount,
           "reference": format!("tx-{n}")})
}

pub fn asset(chain: u64, kind: &str, token: &str, decimals: u8) -> Value {
    json!({"chain_id": chain, "chain_kind": kind, "token": token, "decimals": decimals})
}

pub fn links(pairs: &[(u64, &str)]) -> Value {
    let one = |(chain, address): &(u64, &str)| json!({"chain_id": chain, "address": address});
    json!({"links": pairs.iter().map(one).collect::<Vec<_>>()})
}

/// Assets, accounts, links, and money: 1,000 ETH for Alice, 5,000 SOL for Bob.
pub fn populate(client: &mut Client) {
    client.put("/v1/assets/ETH", &asset(1, "evm", "native", 18)).with(200);
    client.put("/v1/assets/USDC", &asset(1, "evm", USDC, 6)).with(200);
    client.put("/v1/assets/SOL", &asset(101, "solana", "native", 9)).with(200);
    client.put("/v1/accounts/1", &links(&[(1, ALICE_EVM), (101, ALICE_SOL)])).with(200);
    client.put("/v1/accounts/2", &links(&[(1, BOB_EVM), (101, BOB_SOL)])).with(200);
    client.put("/v1/accounts/3", &links(&[(1, CAROL_EVM)])).with(200);
    client.post("/v1/deposits", &deposit(1, 1, "ETH", "1000")).with(200);
    client.post("/v1/deposits", &deposit(2, 2, "SOL", "5000")).with(200);
}

pub fn started() -> (TempDir, Server, Client) {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(data.path());
    let mut client = server.client();
    populate(&mut client);
    (data, server, client)
}

/// Everything that a client can see of the accounts, seq included.
pub fn state(client: &mut Client) -> Vec<Value> {
    (1..=3).map(|it| client.get(&format!("/v1/accounts/{it}/balances")).with(200)).collect()
}

pub fn balance(client: &mut Client, path: &str, asset: &str) -> String {
    let body = client.get(path).with(200);
    let all = body["balances"].as_array().expect("a list").clone();
    let found = all.into_iter().find(|balance| balance["asset"] == asset);
    found.map_or("0".into(), |it| it["available"].as_str().expect("a string").to_owned())
}
