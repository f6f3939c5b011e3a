//! Every call, asked by everybody: the table of rights is the one that is enforced.

use crosslatch::access::{Scope, Scopes};
use crosslatch::server::door::rights::{Need, Right};
use crosslatch::server::rights;
use serde_json::json;

use super::people::*;
use super::venue::*;

/// A path of that form, of things that are there where that matters.
fn path(form: &str) -> String {
    let name = |part: &str| match part {
        "{account}" => "1".into(),
        "{asset}" => "ETH".into(),
        // Where no body is read, nothing else would stop it.
        "{chain_id}" => "none".into(),
        "{address}" => ALICE_EVM.into(),
        "{market}" => "ETH-SOL".into(),
        "{key}" => "YQ==".into(),
        "{file}" => "app.js".into(),
        "{name}" => "operator".into(),
        // They would go on for ever, were they not refused.
        "events" => "events?after=none".into(),
        "{id}" | "{token}" | "{request_id}" => id(790),
        plain => plain.to_owned(),
    };
    form.split('/').map(name).collect::<Vec<String>>().join("/")
}

#[test]
fn every_call_asks_for_its_scope_and_for_no_other() {
    let venue = Venue::open_with(&[("failures_burst_max", 10_000)]);
    // One key for each set of scopes, for all accounts: this is about scopes.
    let sets = (1..16).filter_map(Scopes::from_bits);
    let mut callers: Vec<(Scopes, Caller)> = sets
        .map(|scopes| {
            let names: Vec<&str> = scopes.iter().map(Scope::name).collect();
            let more = json!({"scopes": names, "accounts": "all"});
            (scopes, venue.key(&format!("key-{}", scopes.bits()), more))
        })
        .collect();
    let seq = venue.seq();
    let (mut refused, mut passed) = (0, 0);
    for Right { method, path: form, need } in rights() {
        let (method, path) = (&*method, path(form));
        // Nothing that could be done: what passes the door is refused as what it is.
        let body = b"[]";
        for (scopes, caller) in &mut callers {
            let reply = caller.call(method, &path, body);
            if need.is_met_by(*scopes) {
                let code = reply.text();
                assert!(![401, 403, 429].contains(&reply.status), "{method} {path}: {code}");
                passed += 1;
            } else {
                reply.problem(403, "forbidden", "");
                caller.signed(method, &path, body).problem(403, "forbidden", "");
                refused += 1;
            }
        }
        let nobody = venue.server.client().send(method, &path, &[], body);
        match need {
            Need::Public | Need::Metrics => assert_ne!(nobody.status, 401, "{method} {path}"),
            Need::AnyKey | Need::OneOf(_) => drop(nobody.problem(401, "unauthenticated", "")),
        }
    }
    assert!(refused > 200 && passed > 200, "{refused} refused, {passed} passed");
    assert_eq!(venue.seq(), seq, "nothing was changed by any of it");
}

/// The document says of every call what it needs, and how those are answered who have not that.
#[test]
fn the_document_says_what_every_call_needs() {
    let venue = Venue::open();
    let document = venue.server.client().get("/openapi.json").with(200);
    let rights = rights();
    assert!(rights.len() > 50, "{} calls", rights.len());
    for Right { method, path, need } in rights {
        let call = &document["paths"][path][method.to_lowercase()];
        let ways = call["security"].as_array().expect("ways to be let in");
        let bearers = ways.iter().filter_map(|way| way["bearer"].as_array());
        let scopes: Vec<&str> = bearers.flatten().filter_map(|scope| scope.as_str()).collect();
        let needed: Vec<&str> = match need {
            Need::OneOf(scopes) => scopes.iter().map(|scope| scope.name()).collect(),
            Need::Public | Need::Metrics | Need::AnyKey => Vec::new(),
        };
        assert_eq!(scopes, needed, "{method} {path}");
        assert_eq!(ways.is_empty(), need == Need::Public, "{method} {path}");
        for status in ["401", "403", "429"] {
            let is_said = call["responses"][status].is_object();
            assert_eq!(is_said, need != Need::Public, "{method} {path} {status}");
        }
    }
}

#[test]
fn metrics_need_a_key_where_the_operator_says_so() {
    let venue = Venue::open();
    let text = venue.server.client().get("/metrics");
    assert!(text.text().contains("crosslatch_turned_away_total{reason=\"forbidden\"} 0"));
    let mut desk = venue.key("desk", json!({}));
    desk.get("/v1/audit").problem(403, "forbidden", "");
    let text = venue.server.client().get("/metrics");
    assert!(text.text().contains("crosslatch_turned_away_total{reason=\"forbidden\"} 1"));
    let Venue { data, server, operator } = venue;
    server.kill();
    let config = data.path().join("config.toml");
    std::fs::write(&config, "metrics_open = false\n").expect("room");
    let config = config.to_str().expect("a plain path");
    let server =
        super::process::Server::start_on(data.path(), "127.0.0.1:0", &["--config", config]);
    server.client().get("/metrics").problem(401, "unauthenticated", "");
    server.client().get("/livez").with(200);
    assert_eq!(Caller::at(server.address, operator).get("/metrics").status, 200);
}
