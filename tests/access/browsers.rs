//! What browsers do otherwise: a socket without headers, pages of strangers. And who watches what.

use serde_json::json;

use super::people::*;
use super::process::Server;
use super::venue::*;

const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn opened(server: &Server, more: &[(&str, &str)]) -> super::http::Reply {
    server.client().send("GET", "/v1/stream", &[&UPGRADE[..], more].concat(), b"")
}

#[test]
fn a_browsers_socket_shows_its_key_among_the_protocols() {
    let venue = Venue::open();
    let token = venue.operator.reveal();
    let offer = |token: &str| format!("crosslatch.v1, crosslatch.bearer.{token}");
    let right = offer(&token);
    let reply = opened(&venue.server, &[("Sec-WebSocket-Protocol", &right)]);
    assert_eq!(reply.status, 101, "{}", reply.text());
    // Which is spoken, and not the secret.
    assert_eq!(reply.header("sec-websocket-protocol"), Some("crosslatch.v1"));
    let wrong = offer(&first_wrong(&token));
    opened(&venue.server, &[("Sec-WebSocket-Protocol", &wrong)]).problem(
        401,
        "unauthenticated",
        "",
    );
    let none = [("Sec-WebSocket-Protocol", "crosslatch.v1")];
    opened(&venue.server, &none).problem(401, "unauthenticated", "");
    let bearer = format!("Bearer {token}");
    let both = [("Sec-WebSocket-Protocol", &*right), ("Authorization", &*bearer)];
    opened(&venue.server, &both).problem(401, "unauthenticated", "");
    // With a key, a page may be anybody's: who has the key has given it the page.
    let page = [("Sec-WebSocket-Protocol", &*right), ("Origin", "https://desk.example")];
    assert_eq!(opened(&venue.server, &page).status, 101);
    // It is no way in to anything else.
    let reply =
        venue.server.client().send("GET", "/v1/assets", &[("Sec-WebSocket-Protocol", &right)], b"");
    reply.problem(401, "unauthenticated", "");
}

/// Of the same form, of another secret.
fn first_wrong(token: &str) -> String {
    let last = if token.ends_with('A') { 'B' } else { 'A' };
    token[..token.len() - 1].to_owned() + &last.to_string()
}

#[test]
fn pages_of_strangers_get_no_market_data() {
    let (_data, server, _client) = started();
    assert_eq!(opened(&server, &[]).status, 101);
    assert_eq!(opened(&server, &[("Origin", "http://test")]).status, 101);
    for stranger in ["http://evil.example", "http://test:81", "null"] {
        opened(&server, &[("Origin", stranger)]).problem(403, "forbidden", "");
    }
}

#[test]
fn a_key_watches_what_is_its_own() {
    let venue = Venue::open();
    let mut alice = venue.key("alice", json!({"scopes": ["read", "trade"]}));
    let mut carol = venue.key("carol", json!({"scopes": ["read"], "accounts": [3]}));
    let hold = json!({"request_id": id(60), "legs": [leg(1, 2, "ETH", 5), leg(2, 1, "SOL", 5)]});
    alice.post("/v1/prepared", &hold).with(200);
    let tokens = |caller: &mut Caller, path: &str| {
        caller.get(path).with(200)["prepared"].as_array().expect("a list").len()
    };
    assert_eq!(tokens(&mut alice, "/v1/prepared"), 1);
    assert_eq!(tokens(&mut alice, "/v1/prepared?account=2"), 1);
    assert_eq!(tokens(&mut carol, "/v1/prepared"), 0);
    carol.get("/v1/prepared?account=1").problem(403, "forbidden", "account");
    assert!(carol.get("/v1/stats").with(200)["hot_accounts"].is_null());
    assert!(venue.operator().get("/v1/stats").with(200)["hot_accounts"].is_object());
}
