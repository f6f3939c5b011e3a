//! A server whose start takes long: it lives, is not ready, says how far it is, and can be told to stop.
//! A point of failure holds the start where it is wanted, so this needs the feature `faults`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::http::Client;
use super::launch::{Launched, serve};
use super::people::{populate, swap};
use super::said::run_at;

/// A server that is held at a point of its start.
struct Held {
    child: Child,
    address: SocketAddr,
    log: BufReader<std::process::ChildStderr>,
}

impl Held {
    fn start(data: &Path, points: &str) -> Self {
        let mut command = serve(data);
        command.args(["--log-format", "json", "--log-level", "info"]).env("FAILPOINTS", points);
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.expect("it starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        log.read_line(&mut line).expect("a line");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["message"], "listening; the engine starts");
        let address = line["address"].as_str().expect("an address").parse().expect("an address");
        Self { child, address, log }
    }

    /// The answer of `/readyz`, once the start is in that phase.
    fn readyz_in(&self, phase: &str) -> Value {
        let mut client = Client::connect(self.address);
        loop {
            let body = client.get("/readyz").with(503);
            if body["phase"] == phase {
                return body;
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with blocks in its journal that are not folded: the server was killed.
fn unfolded(data: &Path) {
    let server = super::process::Server::start(data);
    let mut client = server.client();
    populate(&mut client);
    for n in 100..120 {
        client.post("/v1/swaps", &swap(n, 1, 1)).with(200);
    }
    server.kill();
}

#[test]
fn while_it_recovers_it_lives_and_says_how_far_it_is() {
    let data = tempfile::tempdir().expect("a directory");
    unfolded(data.path());
    let held = Held::start(data.path(), "recover.folded-rest=pause");
    let body = held.readyz_in("folding");
    let (done, total) = (&body["blocks_done"], &body["blocks_total"]);
    assert!(total.as_u64().is_some_and(|total| total > 0), "{body}");
    assert!(done.as_u64() <= total.as_u64(), "{body}");
    assert_eq!((&body["status"], &body["code"]), (&json!("recovering"), &json!("recovering")));
    let mut client = Client::connect(held.address);
    assert_eq!(client.get("/livez").with(200)["status"], "live");
    assert_eq!(client.get("/metrics").status, 200);
    let refused = client.post("/v1/swaps", &swap(700, 1, 1));
    refused.problem(503, "recovering", "");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let said = run_at(held.address, "status").with(3);
    assert!(said.err.contains("not ready: the server is recovering: folding"), "{said:?}");
    let said = run_at(held.address, "balance 1").with(4);
    assert!(said.err.contains("crosslatch status says how far it is"), "{said:?}");
    drop(held);
    // What was held up is done by the next start, and nothing was lost.
    let server = Launched::ready(serve(data.path()));
    assert!(server.ready.trim_end().ends_with("seq 28)"), "{}", server.ready);
    assert_eq!(server.client().get("/readyz").with(200)["status"], "ready");
}

#[test]
fn a_start_that_takes_long_says_so_in_the_log() {
    let data = tempfile::tempdir().expect("a directory");
    unfolded(data.path());
    let mut held = Held::start(data.path(), "recover.folded-rest=pause");
    let mut line = String::new();
    held.log.read_line(&mut line).expect("a line");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    let message = line["message"].as_str().expect("words");
    assert!(message.starts_with("recovering: "), "{line}");
}

#[test]
fn asked_to_stop_while_it_recovers_it_ends_at_the_next_block() {
    let data = tempfile::tempdir().expect("a directory");
    unfolded(data.path());
    // Each block takes so long that the start cannot be over before it is told.
    let mut held = Held::start(data.path(), "recover.checked=sleep(5000)");
    held.readyz_in("checking");
    kill_process(Pid::from_child(&held.child), Signal::TERM).expect("it runs");
    assert_eq!(held.child.wait().expect("it ran").code(), Some(0));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut held.log, &mut rest).expect("text");
    assert!(rest.contains("the start is given up at the next block"), "{rest}");
    assert!(rest.contains("stopped before the engine had started"), "{rest}");
}
