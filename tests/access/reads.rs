//! What a key that is bound to accounts gets to see, and what it gets to do.

use serde_json::json;

use super::http::Reply;
use super::people::*;
use super::venue::*;

/// The key of accounts 1 and 2, and account 3's, who has nothing to do with anything.
fn venue() -> (Venue, Caller, Caller) {
    let venue = Venue::open();
    let alice = venue.key("alice", json!({"scopes": ["read", "trade", "transfer"]}));
    let scopes = json!(["read", "trade", "transfer"]);
    let carol = venue.key("carol", json!({"scopes": scopes, "accounts": [3]}));
    (venue, alice, carol)
}

#[test]
fn an_account_is_shown_to_its_own_keys() {
    let (_venue, mut alice, mut carol) = venue();
    for path in [
        "/v1/accounts/1",
        "/v1/accounts/1/balances",
        "/v1/accounts/1/balances?at=5",
        "/v1/accounts/1/history",
        "/v1/orders?account=1",
    ] {
        alice.get(path).with(200);
        let refused = carol.get(path).problem(403, "forbidden", "account");
        assert_eq!(refused["account"], 1);
        // Of one that is not there the same is said.
        let nobody = carol.get(&path.replace("s/1", "s/77").replace("account=1", "account=77"));
        assert_eq!((nobody.status, &nobody.value()["code"]), (403, &json!("forbidden")), "{path}");
    }
    let address = format!("/v1/links/1/{ALICE_EVM}");
    alice.get(&address).with(200);
    carol.get(&address).problem(404, "unknown_link", "");
    for path in ["/v1/assets", "/v1/markets", "/v1/assets/ETH"] {
        carol.get(path).with(200);
    }
}

#[test]
fn what_became_of_others_requests_is_unknown() {
    let (venue, mut alice, mut carol) = venue();
    let seen = |caller: &mut Caller, n: u64| caller.get(&format!("/v1/requests/{}", id(n)));
    let is_unknown = |reply: Reply| drop(reply.problem(404, "unknown_request", ""));
    alice.post("/v1/swaps", &swap(730, 1, 1)).with(200);
    seen(&mut alice, 730).with(200);
    is_unknown(seen(&mut carol, 730));
    // A party of a swap that somebody else asked for.
    let mut bob = venue.key("bob", json!({"accounts": [2]}));
    seen(&mut bob, 730).with(200);
    // A refusal is for who was refused.
    alice.post("/v1/swaps", &swap(731, 1_000_000, 1)).problem(
        422,
        "insufficient_funds",
        "legs[0].amount",
    );
    seen(&mut alice, 731).problem(422, "insufficient_funds", "");
    is_unknown(seen(&mut carol, 731));
    is_unknown(seen(&mut bob, 731));
    seen(&mut venue.operator(), 731).problem(422, "insufficient_funds", "");
    // Money that the operator brought.
    seen(&mut alice, 1).with(200);
    is_unknown(seen(&mut carol, 1));
}

#[test]
fn holds_and_orders_of_others_are_unknown() {
    let (venue, mut alice, mut carol) = venue();
    let prepared = alice.post("/v1/prepared", &swap(740, 1, 1)).with(200);
    let token = prepared["token"].as_str().expect("a token").to_owned();
    let hold = format!("/v1/prepared/{token}");
    alice.get(&hold).with(200);
    carol.get(&hold).problem(404, "unknown_token", "token");
    let resolve = json!({"request_id": fresh()});
    carol.post(&format!("{hold}/rollback"), &resolve).problem(404, "unknown_token", "token");
    alice.get(&hold).with(200);
    alice.post(&format!("{hold}/rollback"), &json!({"request_id": fresh()})).with(200);
    carol.get(&hold).problem(404, "unknown_token", "token");
    let withdrawal = json!({"request_id": id(741), "account": 1, "asset": "ETH", "amount": "5"});
    alice.post("/v1/withdrawals", &withdrawal).with(200);
    alice.get(&format!("/v1/withdrawals/{}", id(741))).with(200);
    carol.get(&format!("/v1/withdrawals/{}", id(741))).problem(404, "unknown_token", "id");
    let market = json!({"base": "ETH", "quote": "SOL", "tick_size": "1", "lot_size": "1",
                        "maker_fee_bps": 0, "taker_fee_bps": 0, "fee_account": 1});
    venue.operator().call("PUT", "/v1/markets/ETH-SOL", market.to_string().as_bytes()).with(200);
    let order = json!({"request_id": id(742), "account": 1, "market": "ETH-SOL", "side": "sell",
                       "type": "limit", "price": "9", "quantity": "1"});
    alice.post("/v1/orders", &order).with(200);
    let placed = format!("/v1/orders/{}", id(742));
    alice.get(&placed).with(200);
    carol.get(&placed).problem(404, "unknown_order", "id");
    carol.get("/v1/markets/ETH-SOL/book").with(200);
}

#[test]
fn nobody_spends_what_is_anothers() {
    let (venue, mut alice, mut carol) = venue();
    let before = venue.seq();
    let order = json!({"request_id": id(750), "account": 1, "market": "ETH-SOL", "side": "sell",
                       "type": "limit", "price": "9", "quantity": "1"});
    let withdrawal = json!({"request_id": id(751), "account": 1, "asset": "ETH", "amount": "5"});
    let transfer = json!({"request_id": id(752), "reads": [], "writes": [],
                          "transfers": [leg(1, 3, "ETH", 5)]});
    for (path, body) in [
        ("/v1/swaps", swap(753, 1, 1)),
        ("/v1/prepared", swap(754, 1, 1)),
        ("/v1/orders", order),
        ("/v1/withdrawals", withdrawal),
        ("/v1/transactions", transfer),
    ] {
        let refused = carol.post(path, &body);
        assert_eq!(
            (refused.status, &refused.value()["code"]),
            (403, &json!("forbidden")),
            "{path}"
        );
        let refused = carol.signed("POST", path, body.to_string().as_bytes());
        assert_eq!(
            (refused.status, &refused.value()["code"]),
            (403, &json!("forbidden")),
            "{path}"
        );
    }
    let swaps = json!({"swaps": [swap(755, 1, 1), swap(756, 1, 1)]});
    let results = carol.post("/v1/swaps:batch", &swaps).with(200);
    let codes: Vec<_> = results["results"].as_array().expect("a list").iter().collect();
    assert!(codes.iter().all(|it| it["code"] == "forbidden"), "{results}");
    let balances = alice.get("/v1/accounts/1/balances").with(200);
    assert_eq!(balances["balances"][0]["available"], "1000");
    assert_eq!(venue.seq(), before, "no seq was taken");
}
