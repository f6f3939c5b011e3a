//! Signed requests: replayed, late, early, and changed on the way.

use serde_json::json;

use super::http::Reply;
use super::people::*;
use super::venue::*;

const SWAPS: (&str, &str) = ("POST", "/v1/swaps");

#[test]
fn a_replay_is_told_the_first_outcome_and_nothing_happens_twice() {
    let venue = Venue::open();
    let mut desk = venue.key("desk", json!({}));
    let body = swap(710, 3, 5).to_string();
    let headers = sign_at(&desk.token, SWAPS, body.as_bytes(), &id(710), now_ms());
    let first = send(&mut desk.client, SWAPS, &headers, body.as_bytes());
    let receipt = first.with(200);
    let seq = venue.seq();
    for _ in 0..5 {
        let again = send(&mut desk.client, SWAPS, &headers, body.as_bytes());
        assert_eq!(again.with(200), receipt);
    }
    assert_eq!(venue.seq(), seq);
    // The same headers with another body, or to another place, are signed by nobody.
    let other = swap(711, 3, 5).to_string();
    refused(&send(&mut desk.client, SWAPS, &headers, other.as_bytes()));
    refused(&send(&mut desk.client, ("POST", "/v1/prepared"), &headers, body.as_bytes()));
    assert_eq!(venue.seq(), seq);
}

fn refused(reply: &Reply) {
    reply.problem(401, "unauthenticated", "");
}

#[test]
fn late_and_early_are_refused() {
    let venue = Venue::open_with(&[("failures_burst_max", 1_000)]);
    let mut desk = venue.key("desk", json!({}));
    let seq = venue.seq();
    let now = now_ms();
    // Far beyond what this test could take.
    for at_ms in [0, now - 3_600_000, now - 65_000, now + 65_000, now + 3_600_000, u64::MAX] {
        let body = swap(712, 1, 1).to_string();
        let headers = sign_at(&desk.token, SWAPS, body.as_bytes(), &id(712), at_ms);
        let reply = send(&mut desk.client, SWAPS, &headers, body.as_bytes());
        refused(&reply);
        assert!(reply.text().contains("within 5000 ms"), "{}", reply.text());
    }
    let unknown = desk.get(&format!("/v1/requests/{}", id(712)));
    unknown.problem(404, "unknown_request", "");
    assert_eq!(venue.seq(), seq);
}

#[test]
fn whatever_is_changed_on_the_way_is_refused() {
    let venue = Venue::open_with(&[("failures_burst_max", 1_000)]);
    let mut desk = venue.key("desk", json!({}));
    let seq = venue.seq();
    let body = swap(713, 1, 1).to_string();
    let right = sign_at(&desk.token, SWAPS, body.as_bytes(), &id(713), now_ms());
    let with = |name: &str, value: &str| {
        let mut headers = right.clone();
        headers.iter_mut().filter(|(is, _)| *is == name).for_each(|(_, it)| *it = value.into());
        headers
    };
    let without = |name: &str| {
        let mut headers = right.clone();
        headers.retain(|(is, _)| *is != name);
        headers
    };
    let later = (now_ms() + 1).to_string();
    for headers in [
        with("x-crosslatch-key", "operator"),
        with("x-crosslatch-key", "nobody"),
        with("x-crosslatch-timestamp", &later),
        with("x-crosslatch-signature", &"0".repeat(64)),
        with("x-crosslatch-signature", ""),
        with("idempotency-key", &id(714)),
        without("idempotency-key"),
        without("x-crosslatch-key"),
        without("x-crosslatch-timestamp"),
        without("x-crosslatch-signature"),
        [right.clone(), vec![("x-crosslatch-key", "desk".into())]].concat(),
        [right.clone(), vec![("authorization", "Bearer x".into())]].concat(),
    ] {
        refused(&send(&mut desk.client, SWAPS, &headers, body.as_bytes()));
    }
    for changed in [body.replace("\"ETH\"", "\"SOL\""), format!("{body} "), String::new()] {
        refused(&send(&mut desk.client, SWAPS, &right, changed.as_bytes()));
    }
    for target in ["/v1/swaps?", "/v1/swaps?a=1", "/v1/swaps:batch"] {
        refused(&send(&mut desk.client, ("POST", target), &right, body.as_bytes()));
    }
    assert_eq!(venue.seq(), seq);
    send(&mut desk.client, SWAPS, &right, body.as_bytes()).with(200);
}

#[test]
fn a_body_that_no_handler_reads_is_signed_as_well() {
    let venue = Venue::open();
    let mut desk = venue.key("desk", json!({}));
    let path = "/v1/accounts/1/balances";
    let headers = sign_at(&desk.token, ("GET", path), b"", "", now_ms());
    refused(&send(&mut desk.client, ("GET", path), &headers, b"{}"));
    send(&mut desk.client, ("GET", path), &headers, b"").with(200);
    // The query is part of it.
    refused(&send(&mut desk.client, ("GET", &format!("{path}?at=1")), &headers, b""));
}

#[test]
fn a_signed_change_needs_an_id() {
    let venue = Venue::open();
    let mut operator = venue.operator();
    let seq = venue.seq();
    let account = ("PUT", "/v1/accounts/9");
    let put = |client: &mut _, body: &[u8], id: &str| {
        let headers = sign_at(&venue.operator, account, body, id, now_ms());
        send(client, account, &headers, body)
    };
    put(&mut operator.client, b"{}", "").problem(400, "malformed", "request_id");
    put(&mut operator.client, b"", "").problem(400, "malformed", "request_id");
    assert_eq!(venue.seq(), seq);
    put(&mut operator.client, b"{}", &fresh()).with(200);
    let named = json!({"request_id": fresh()}).to_string();
    put(&mut operator.client, named.as_bytes(), "").with(200);
    let batch = json!({"swaps": [swap(720, 1, 1)]}).to_string();
    operator.signed("POST", "/v1/swaps:batch", batch.as_bytes()).with(200);
    // A bearer cannot be replayed by who reads along, as nobody does.
    operator.call("PUT", "/v1/accounts/9", b"{}").with(200);
}

#[test]
fn long_bodies_are_signed_too() {
    let venue = Venue::open();
    let mut desk = venue.key("desk", json!({"accounts": [1, 2]}));
    let swaps: Vec<_> = (800..1_600).map(|n| swap(n, 1, 1)).collect();
    let body = json!({"swaps": swaps}).to_string();
    let results = desk.signed("POST", "/v1/swaps:batch", body.as_bytes()).with(200);
    let results = results["results"].as_array().expect("a list").clone();
    assert_eq!(results.len(), 800);
    assert!(results.iter().all(|it| it["status"] == "settled"), "{}", results[0]);
}
