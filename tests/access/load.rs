//! `crosslatch load --url` against a server that wants a key: every mode over both faces, and over TLS.

use serde_json::Value;

use super::process::{Server, command};
use super::tls::{Authority, path, serve};
use super::venue::*;

const SWAPS: u64 = 600;

/// Runs it with the key from the environment; it has to say that all is well.
fn load(url: &str, token: &str, more: &[&str]) -> Value {
    let swaps = SWAPS.to_string();
    let args = ["load", "--url", url, "--accounts", "60", "--swaps", &swaps, "--verify", "--json"];
    let mut command = command(&[&args[..], more].concat());
    let output = command.env("CROSSLATCH_KEY", token).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{url} {more:?}: {said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(
        (&report["verified"], &report["false_refusals"]),
        (&true.into(), &0.into()),
        "{said}"
    );
    assert_eq!(report["swaps_attempted"], SWAPS);
    report
}

/// A fresh venue whose only key is the operator's.
fn fresh_venue() -> (tempfile::TempDir, Server, String) {
    let data = tempfile::tempdir().expect("a directory");
    let token = first_key(data.path(), "operator").reveal();
    let server = Server::start(data.path());
    (data, server, token)
}

#[test]
fn every_mode_goes_over_both_faces_with_a_key() {
    for mode in ["swap", "two-phase", "transaction", "orders"] {
        for (face, batch) in [("grpc", "50"), ("grpc", "1"), ("http", "50"), ("http", "1")] {
            if (mode, face) == ("orders", "http") {
                continue;
            }
            let (_data, server, token) = fresh_venue();
            let at = if face == "grpc" { server.grpc } else { server.address };
            let more = ["--mode", mode, "--batch", batch, "--clients", "4"];
            let report = load(&format!("{face}://{at}"), &token, &more);
            let settled = report["swaps_settled"].as_u64().expect("a number");
            assert!(settled > SWAPS / 2, "{mode} over {face}: {report}");
            // What the server counted is read over either face.
            assert!(report["fsyncs"].as_u64() != Some(0), "{report}");
        }
    }
}

#[test]
fn with_tight_funds_what_a_server_refuses_is_checked() {
    for (face, mode) in [("grpc", "swap"), ("grpc", "transaction"), ("http", "swap")] {
        let (_data, server, token) = fresh_venue();
        let at = if face == "grpc" { server.grpc } else { server.address };
        let more = ["--mode", mode, "--funds", "tight", "--batch", "50", "--clients", "2"];
        let report = load(&format!("{face}://{at}"), &token, &more);
        let rejected = report["swaps_rejected"].as_u64().expect("a number");
        assert!(rejected > SWAPS / 20, "{report}");
        assert_eq!(report["refusals_checked"]["checked"], rejected, "{report}");
        assert_eq!(report["refusals_checked"]["wrong"], 0, "{report}");
    }
}

#[test]
fn over_tls_it_trusts_the_authority_that_it_is_given() {
    let data = tempfile::tempdir().expect("a directory");
    let files = tempfile::tempdir().expect("a directory");
    Authority::new(files.path(), "ca").make(files.path(), "server");
    Authority::new(files.path(), "stranger");
    let token = first_key(data.path(), "operator").reveal();
    let server = serve(data.path(), files.path(), &[]);
    let (ca, stranger) = (path(files.path(), "ca.pem"), path(files.path(), "stranger.pem"));
    let grpcs = format!("grpcs://localhost:{}", server.grpc.port());
    let more = ["--batch", "20", "--clients", "2", "--ca", &ca];
    load(&grpcs, &token, &more);
    let https = format!("https://localhost:{}", server.address.port());
    for (url, ca) in [(&grpcs, &stranger), (&https, &stranger)] {
        assert_eq!(status(url, &["--key", &token, "--ca", ca]), Some(4), "{url}");
    }
    // Who shows no key is refused, and a key does not go where others read along.
    assert_eq!(status(&https, &["--ca", &ca]), Some(4));
    assert_eq!(status("http://192.0.2.1:7400", &["--key", &token]), Some(2));
    server.kill();
    let data = tempfile::tempdir().expect("a directory");
    let token = first_key(data.path(), "operator").reveal();
    let server = serve(data.path(), files.path(), &[]);
    let https = format!("https://localhost:{}", server.address.port());
    load(&https, &token, &more);
}

fn status(url: &str, more: &[&str]) -> Option<i32> {
    let args = ["load", "--url", url, "--accounts", "10", "--swaps", "10"];
    command(&[&args[..], more].concat()).output().expect("it runs").status.code()
}
