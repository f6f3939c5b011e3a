//! Bodies and headers that are not what they should be.

use serde_json::json;

use super::people::*;

#[test]
fn bodies_that_are_no_json_are_refused() {
    let (_data, server, mut client) = started();
    let before = state(&mut client);
    let kind = [("Content-Type", "application/json")];
    let broken = client.send("POST", "/v1/swaps", &kind, b"{\"legs\": [\n  {\"from\" 1}\n]}");
    let broken = broken.problem(400, "malformed", "body");
    assert_eq!((&broken["line"], &broken["column"]), (&json!(2), &json!(11)));
    client.send("POST", "/v1/swaps", &kind, b"[]").problem(400, "malformed", "body");
    client.send("POST", "/v1/swaps", &kind, b"\xFF").problem(400, "malformed", "body");
    client.send("POST", "/v1/swaps", &kind, b"").problem(400, "malformed", "request_id");
    let body = swap(400, 1, 1).to_string();
    let text = [("Content-Type", "text/plain")];
    let refused = client.send("POST", "/v1/swaps", &text, body.as_bytes());
    refused.problem(415, "unsupported_media_type", "");
    let both = [("Content-Type", "application/json"), ("Idempotency-Key", &*id(401))];
    let refused = client.send("POST", "/v1/swaps", &both, body.as_bytes());
    refused.problem(400, "malformed", "request_id");
    let none = [("Content-Type", "application/json"), ("Idempotency-Key", "abc")];
    let refused = client.send("POST", "/v1/swaps", &none, body.as_bytes());
    refused.problem(400, "malformed", "Idempotency-Key");
    let large = vec![b' '; 16 * 1024 * 1024 + 1];
    let refused = server.client().send("POST", "/v1/swaps", &kind, &large);
    refused.problem(413, "body_too_large", "body");
    assert_eq!(state(&mut client), before);
    // One byte less is read, and found to hold nothing.
    let refused = server.client().send("POST", "/v1/swaps", &kind, &large[1..]);
    refused.problem(400, "malformed", "body");
}
