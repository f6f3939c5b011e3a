//! `crosslatch key` and the other commands with a key, as an operator uses them.

use std::process::Output;

use serde_json::{Value, json};

use super::process::command;
use super::venue::*;

fn run(venue: &Venue, token: &str, line: &str) -> Output {
    let url = format!("http://{}", venue.server.address);
    let mut command = command(&line.split(' ').collect::<Vec<_>>());
    command.env("CROSSLATCH_URL", url).env("CROSSLATCH_KEY", token).output().expect("it runs")
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one object")
}

#[test]
fn keys_are_made_shown_rotated_and_revoked_from_the_command_line() {
    let venue = Venue::open();
    let operator = venue.operator.reveal();
    let made = "key create desk --scope read,trade --account 1,2 --network 127.0.0.1 --in-flight 9 \
                --expires-at 2040-01-01T00:00:00Z --json";
    let made = json_of(&run(&venue, &operator, made));
    let token = made["token"].as_str().expect("a token").to_owned();
    let shown = json_of(&run(&venue, &operator, "key show desk --json"));
    let expected = json!({
        "name": "desk", "generation": 1, "state": "standing", "scopes": ["read", "trade"],
        "accounts": [1, 2], "networks": ["127.0.0.1/32"], "expires_at": "2040-01-01T00:00:00.000000Z",
        "limits": {"requests_per_second": 0, "in_flight": 9, "open_holds": 0, "open_orders": 0},
    });
    assert_eq!(shown, expected, "and never its token");
    let listed = json_of(&run(&venue, &operator, "key list --json"));
    assert_eq!(listed["keys"][1], expected);
    assert!(run(&venue, &token, "balance 1").status.success());
    let refused = run(&venue, &token, "key list");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("rejected: forbidden"));
    let rotated = json_of(&run(&venue, &operator, "key rotate desk --json"));
    let next = rotated["token"].as_str().expect("a token");
    assert!(!run(&venue, &token, "balance 1").status.success());
    assert!(run(&venue, next, "balance 1").status.success());
    assert!(run(&venue, &operator, "key revoke desk").status.success());
    assert!(!run(&venue, next, "balance 1").status.success());
    let shown = json_of(&run(&venue, &operator, "key show desk --json"));
    assert_eq!((&shown["state"], &shown["generation"]), (&json!("revoked"), &json!(2)));
}

#[test]
fn who_asks_again_under_the_same_id_is_told_the_same_token() {
    let venue = Venue::open();
    let mut operator = venue.operator();
    let create = key("desk", json!({}));
    let first = operator.post("/v1/api-keys", &create).with(200);
    assert_eq!(operator.post("/v1/api-keys", &create).with(200), first);
    let rotate = json!({"request_id": fresh()});
    let second = operator.post("/v1/api-keys/desk/rotate", &rotate).with(200);
    assert_ne!(second["token"], first["token"]);
    assert_eq!(operator.post("/v1/api-keys/desk/rotate", &rotate).with(200), second);
    assert_eq!(operator.get("/v1/api-keys/desk").with(200)["generation"], 2);
    // Another key under that id, and that key under another id, are told nothing.
    let mut other = create.clone();
    other["name"] = json!("other");
    operator.post("/v1/api-keys", &other).problem(409, "request_id_reused", "request_id");
    let mut wider = create.clone();
    wider["accounts"] = json!("all");
    operator.post("/v1/api-keys", &wider).problem(409, "already_exists", "name");
    let again = key("desk", json!({}));
    operator.post("/v1/api-keys", &again).problem(409, "already_exists", "name");
}

#[test]
fn a_mistyped_token_is_told_before_anything_is_sent() {
    let venue = Venue::open();
    let right = venue.operator.reveal();
    let last = if right.ends_with('A') { "B" } else { "A" };
    let mistyped = format!("{}{last}", &right[..right.len() - 1]);
    let said = run(&venue, &mistyped, "key list");
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stderr).contains("mistyped"), "{said:?}");
    let file = venue.data.path().join("token");
    std::fs::write(&file, format!("{right}\n")).expect("room");
    let url = format!("http://{}", venue.server.address);
    let path = file.to_str().expect("a plain path");
    let said = command(&["key", "list", "--url", &url, "--key-file", path]).output();
    assert!(said.expect("it runs").status.success());
}

#[test]
fn bodies_that_make_no_key_say_why() {
    let venue = Venue::open();
    let mut operator = venue.operator();
    for (more, field) in [
        (json!({"name": "a b"}), "name"),
        (json!({"name": ""}), "name"),
        (json!({"scopes": []}), "scopes"),
        (json!({"scopes": ["read", "admin"]}), "scopes[1]"),
        (json!({"accounts": "some"}), "accounts"),
        (json!({"accounts": [-1]}), "accounts"),
        (json!({"accounts": (0..1_025).collect::<Vec<u64>>()}), "accounts"),
        (json!({"networks": ["10.0.0.0/33"]}), "networks[0]"),
        (json!({"networks": vec!["10.0.0.0/8"; 33]}), "networks"),
        (json!({"limits": {"in_flight": 4_294_967_296_u64}}), "limits.in_flight"),
        (json!({"limits": {"flights": 1}}), "limits.flights"),
        (json!({"expires_at": "tomorrow"}), "expires_at"),
        (json!({"secret": "x"}), "secret"),
    ] {
        operator.post("/v1/api-keys", &key("desk", more)).problem(400, "malformed", field);
    }
    operator.get("/v1/api-keys/desk").problem(404, "unknown_api_key", "name");
    let rotate = json!({"request_id": fresh()});
    operator.post("/v1/api-keys/desk/rotate", &rotate).problem(404, "unknown_api_key", "name");
}
