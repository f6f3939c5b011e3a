//! What machines ask: health, version, metrics.

use serde_json::{Value, json};

use super::http::Reply;
use super::people::*;
use super::process::{output, pipe_through};
use super::swaps::with_leg;

#[test]
fn machines_can_ask_how_it_is() {
    let (_data, _server, mut client) = started();
    assert_eq!(client.get("/livez").with(200)["status"], "live");
    assert_eq!(client.get("/readyz").with(200)["status"], "ready");
    assert_eq!(client.get("/version").with(200)["version"], env!("CARGO_PKG_VERSION"));
    let swaps: Vec<Value> = (700..1_200).map(|n| swap(n, 3, 1)).collect();
    client.post("/v1/swaps:batch", &json!({"swaps": swaps})).with(200);
    client.post("/v1/swaps", &with_leg(1_300, "amount", json!("1.5"))).with(400);
    let reply = client.get("/metrics");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "crosslatch_requests_total{kind=\"swap\",outcome=\"settled\"} 333",
        "crosslatch_rejects_total{reason=\"insufficient_funds\"} 167",
        "crosslatch_rejects_total{reason=\"malformed\"} 1",
    ] {
        assert!(reply.text().lines().any(|it| it == line), "no {line} in\n{}", reply.text());
    }
    check_metrics(&reply);
}

/// Prometheus' own opinion, where its tool is installed; in CI it must be.
fn check_metrics(reply: &Reply) {
    match pipe_through("promtool", &["check", "metrics"], reply.text()) {
        Some(done) => {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success() && said.is_empty(), "{said}");
        }
        None if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
            panic!("promtool is not installed (Debian: prometheus)")
        }
        None => eprintln!("SKIPPED: promtool is not installed, so /metrics was not checked"),
    }
}

#[test]
fn every_metric_is_listed() {
    let done = output(&["metrics", "list", "--json"]);
    let all: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let named =
        |name: &str| all.as_array().is_some_and(|all| all.iter().any(|it| it["name"] == name));
    assert!(named("crosslatch_requests_total") && named("crosslatch_fsync_seconds"));
    assert!(String::from_utf8_lossy(&output(&["metrics", "list"]).stdout).contains("fsync"));
}
