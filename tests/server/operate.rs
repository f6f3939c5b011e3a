//! The kill switch: what the venue takes, until it is switched back.

use serde_json::json;

use super::people::*;
use super::process::Server;

#[test]
fn what_the_venue_does_not_take_is_restricted_until_it_is_switched_back() {
    let (data, server, mut client) = started();
    assert_eq!(client.get("/v1/operate").with(200), json!({"state": "normal"}));
    let switch = json!({"request_id": id(11), "state": "withdraw_only"});
    let receipt = client.post("/v1/operate", &switch).with(200);
    assert_eq!(
        (&receipt["status"], &receipt["state"]),
        (&json!("settled"), &json!("withdraw_only"))
    );
    let refused = client.post("/v1/swaps", &swap(12, 1, 1)).problem(409, "restricted", "");
    assert_eq!(refused["operation"], "withdraw_only");
    client.post("/v1/operate", &json!({"state": "off"})).problem(400, "malformed", "state");
    client.post("/v1/operate", &json!({})).problem(400, "malformed", "state");
    client.post("/v1/deposits", &deposit(13, 1, "ETH", "1")).with(200);
    // It outlives the server; who asks again is answered as before.
    server.kill();
    let server = Server::start(data.path());
    let mut client = server.client();
    assert_eq!(client.get("/v1/operate").with(200), json!({"state": "withdraw_only"}));
    assert_eq!(client.post("/v1/operate", &switch).with(200), receipt);
    client.post("/v1/operate", &json!({"state": "normal"})).with(200);
    client.post("/v1/swaps", &swap(12, 1, 1)).problem(409, "restricted", "");
    client.post("/v1/swaps", &swap(14, 1, 1)).with(200);
    let metrics = client.get("/metrics");
    let text = String::from_utf8(metrics.body).expect("text");
    assert!(text.lines().any(|line| line == "crosslatch_operation 0"), "{text}");
}
