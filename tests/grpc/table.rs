//! Whatever can be done over HTTP can be done over gRPC, with the same rights: the two tables are compared,
//! so that no call can come to one face alone.

use std::collections::{BTreeMap, BTreeSet};

use crosslatch::server::door::rights::{Need, Right};
use crosslatch::server::{grpc, rights};

/// The calls of HTTP, with the method that does the same.
const SAME: &[(&str, &str)] = &[
    ("GET /v1/assets", "ListAssets"),
    ("PUT /v1/assets/{asset}", "PutAsset"),
    ("GET /v1/assets/{asset}", "GetAsset"),
    ("PUT /v1/accounts/{account}", "PutAccount"),
    ("GET /v1/accounts/{account}", "GetAccount"),
    ("POST /v1/accounts/{account}/links", "PutAccount"),
    ("DELETE /v1/accounts/{account}/links/{chain_id}", "RemoveLink"),
    ("GET /v1/accounts/{account}/balances", "GetBalances"),
    ("GET /v1/accounts/{account}/history", "GetHistory"),
    ("GET /v1/links/{chain_id}/{address}", "GetLink"),
    ("POST /v1/deposits", "Deposit"),
    ("POST /v1/withdrawals", "Withdraw"),
    ("GET /v1/withdrawals/{id}", "GetWithdrawal"),
    ("POST /v1/withdrawals/{id}/confirm", "ConfirmWithdrawal"),
    ("POST /v1/withdrawals/{id}/cancel", "CancelWithdrawal"),
    ("POST /v1/swaps", "Swap"),
    ("POST /v1/swaps:batch", "Submit"),
    ("GET /v1/swaps/{request_id}", "GetRequest"),
    ("POST /v1/prepared", "Prepare"),
    ("GET /v1/prepared", "ListPrepared"),
    ("GET /v1/prepared/{token}", "GetPrepared"),
    ("POST /v1/prepared/{token}/commit", "Commit"),
    ("POST /v1/prepared/{token}/rollback", "Rollback"),
    ("POST /v1/transactions", "Transact"),
    ("GET /v1/keys/{key}", "GetKey"),
    ("GET /v1/requests/{request_id}", "GetRequest"),
    ("GET /v1/markets", "ListMarkets"),
    ("PUT /v1/markets/{market}", "PutMarket"),
    ("GET /v1/markets/{market}", "GetMarket"),
    ("POST /v1/markets/{market}/halt", "HaltMarket"),
    ("POST /v1/markets/{market}/resume", "ResumeMarket"),
    ("GET /v1/markets/{market}/book", "GetBook"),
    ("GET /v1/markets/{market}/trades", "ListTrades"),
    ("POST /v1/orders", "PlaceOrder"),
    ("DELETE /v1/orders", "CancelAllOrders"),
    ("GET /v1/orders", "ListOrders"),
    ("PATCH /v1/orders/{id}", "AmendOrder"),
    ("DELETE /v1/orders/{id}", "CancelOrder"),
    ("GET /v1/orders/{id}", "GetOrder"),
    ("GET /v1/api-keys", "ListApiKeys"),
    ("POST /v1/api-keys", "CreateApiKey"),
    ("GET /v1/api-keys/{name}", "GetApiKey"),
    ("DELETE /v1/api-keys/{name}", "RevokeApiKey"),
    ("POST /v1/api-keys/{name}/rotate", "RotateApiKey"),
    ("POST /v1/operate", "Operate"),
    ("GET /v1/operate", "GetOperation"),
    ("GET /v1/events", "Events"),
    ("GET /v1/stream", "MarketData"),
    ("GET /v1/audit", "Audit"),
    ("POST /v1/backups", "Backup"),
    ("GET /version", "GetStatus"),
    ("GET /metrics", "GetMetrics"),
    ("GET /v1/stats", "GetStats"),
];

/// What other services of gRPC are there for, or nobody needs.
const ELSEWHERE: &[(&str, &str)] = &[
    ("GET /livez", "grpc.health.v1.Health"),
    ("GET /readyz", "grpc.health.v1.Health"),
    ("GET /openapi.json", "grpc.reflection.v1.ServerReflection"),
    ("GET /console", "a page, for people"),
    ("GET /console/{file}", "what it is made of"),
];

/// Where the faces need different things of a key, and why that is right.
const NEEDS_DIFFER: &[(&str, &str)] = &[("GetStatus", "it says more than a version")];

fn methods() -> BTreeSet<String> {
    let text = include_str!("../../proto/crosslatch/v1/exchange.proto");
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
    lines.map(|line| line.split('(').next().expect("a name").to_owned()).collect()
}

#[test]
fn every_call_of_http_has_a_method_and_every_method_a_call() {
    let called: BTreeMap<String, Need> = rights()
        .into_iter()
        .map(|Right { method, path, need }| (format!("{method} {path}"), need))
        .collect();
    let known: BTreeSet<String> =
        SAME.iter().chain(ELSEWHERE).map(|(call, _)| (*call).to_owned()).collect();
    assert_eq!(called.keys().cloned().collect::<BTreeSet<_>>(), known);
    let same: BTreeSet<String> = SAME.iter().map(|(_, method)| (*method).to_owned()).collect();
    assert_eq!(methods(), same);
}

/// `GetAsset` of `get_asset`.
fn method_of(name: &str) -> String {
    let part = |part: &str| part[..1].to_uppercase() + &part[1..];
    name.split('_').map(part).collect()
}

#[test]
fn both_faces_need_the_same_of_a_key() {
    let http = rights();
    let needs = grpc::needs();
    assert!(needs.len() > 20, "{} calls", needs.len());
    for (name, need) in needs {
        let method = method_of(name);
        if NEEDS_DIFFER.iter().any(|(it, _)| *it == method) {
            continue;
        }
        let calls = SAME.iter().filter(|(_, same)| *same == method).map(|(call, _)| *call);
        for call in calls {
            let right = http.iter().find(|it| format!("{} {}", it.method, it.path) == call);
            assert_eq!(right.map(|it| it.need), Some(need), "{call} and {method}");
        }
    }
}
