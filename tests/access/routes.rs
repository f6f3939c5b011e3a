//! Every call, asked by everybody: the table of rights is the one that is enforced.

use crosslatch::access::{Scope, Scopes};
use crosslatch::server::door::rights::{Need, RIGHTS};
use serde_json::json;

use super::people::*;
use super::venue::*;

/// Calls that are in the table and not answered by this server.
const NOT_YET: [&str; 1] = ["/openapi.json"];

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
        "{name}" => "operator".into(),
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
    for (method, form, need) in RIGHTS {
        let path = path(form);
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

/// A method that is nobody's is answered with those that are there: so what the router answers and what
/// the table says are the same.
#[test]
fn what_the_router_answers_stands_in_the_table() {
    let venue = Venue::open();
    let mut client = venue.server.client();
    let forms: std::collections::BTreeSet<&str> = RIGHTS.iter().map(|(_, form, _)| *form).collect();
    let answered = forms.iter().filter(|form| !NOT_YET.contains(form));
    for form in answered {
        let reply = client.send("PROPFIND", &path(form), &[], b"");
        reply.problem(405, "method_not_allowed", "");
        let mut allowed: Vec<&str> = reply.header("allow").expect("methods").split(',').collect();
        allowed.retain(|method| *method != "HEAD");
        allowed.sort_unstable();
        let own = RIGHTS.iter().filter(|(_, of, _)| of == form);
        let mut named: Vec<&str> = own.map(|(method, _, _)| *method).collect();
        named.sort_unstable();
        assert_eq!(allowed, named, "{form}");
    }
}

/// The other way round: no path of the router is missing in the table.
#[test]
fn every_path_of_the_router_stands_in_the_table() {
    let router = include_str!("../../src/server/mod.rs");
    let mut paths: Vec<&str> = Vec::new();
    for (place, _) in router.match_indices(".route(\"") {
        let rest = &router[place + ".route(\"".len()..];
        paths.push(&rest[..rest.find('"').expect("the end of a path")]);
    }
    assert!(paths.len() > 30, "{} paths are found in the router", paths.len());
    for path in paths {
        assert!(RIGHTS.iter().any(|(_, form, _)| *form == path), "{path} has no right");
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
