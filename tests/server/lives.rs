//! How a server starts, ends, and comes again.

use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::people::*;
use super::process::{Server, output};

#[test]
fn after_kill_9_everything_is_as_it_was_answered() {
    let (data, server, mut client) = started();
    let receipts: Vec<Value> =
        (600..620).map(|n| client.post("/v1/swaps", &swap(n, 3, 5)).with(200)).collect();
    let (accounts, assets) = (state(&mut client), client.get("/v1/assets").with(200));
    let links = client.get("/v1/accounts/1").with(200);
    let past = client.get("/v1/accounts/1/balances?at=15").with(200);
    server.kill();
    let server = Server::start(data.path());
    let mut client = server.client();
    for (n, receipt) in (600..620).zip(&receipts) {
        assert_eq!(&client.get(&format!("/v1/swaps/{}", id(n))).with(200), receipt);
        assert_eq!(&client.post("/v1/swaps", &swap(n, 3, 5)).with(200), receipt);
    }
    assert_eq!(state(&mut client), accounts);
    assert_eq!(client.get("/v1/assets").with(200), assets);
    assert_eq!(client.get("/v1/accounts/1").with(200), links);
    assert_eq!(client.get("/v1/accounts/1/balances?at=15").with(200), past);
    assert_eq!(client.get("/v1/audit").with(200)["balanced"], true);
}

#[test]
fn sigterm_answers_what_is_in_flight_and_exits_0() {
    let (data, server, client) = started();
    drop(client);
    let answered = AtomicU64::new(0);
    let callers: Vec<Caller> = std::thread::scope(|scope| {
        let call = |number| {
            let (server, answered) = (&server, &answered);
            scope.spawn(move || swap_until_gone(server, number, answered))
        };
        let busy: Vec<_> = (0..8).map(call).collect();
        while answered.load(Ordering::Acquire) < 100 {
            std::thread::yield_now();
        }
        server.ask_to_stop();
        busy.into_iter().map(|caller| caller.join().expect("no panic")).collect()
    });
    assert_eq!(exit_code(server.wait()), 0);
    let server = Server::start(data.path());
    let mut client = server.client();
    for Caller { settled, unanswered } in callers {
        for n in settled {
            let found = client.get(&format!("/v1/requests/{}", id(n))).with(200);
            assert_eq!(found["status"], "settled");
        }
        // It came too late: what had been taken would have been answered.
        let lost = client.get(&format!("/v1/requests/{}", id(unanswered)));
        lost.problem(404, "unknown_request", "");
    }
}

/// What became of one caller's swaps.
struct Caller {
    settled: Vec<u64>,
    /// The one that it sent when the server was gone.
    unanswered: u64,
}

/// Sends swaps one by one until the server hangs up.
fn swap_until_gone(server: &Server, caller: u64, answered: &AtomicU64) -> Caller {
    let mut client = server.client();
    let mut settled = Vec::new();
    for n in 1_000_000 * (caller + 1).. {
        let body = swap(n, 1, 1).to_string();
        let kind = [("Content-Type", "application/json")];
        let Ok(reply) = client.try_send("POST", "/v1/swaps", &kind, body.as_bytes()) else {
            return Caller { settled, unanswered: n };
        };
        match reply.status {
            200 => settled.push(n),
            // Alice has spent everything.
            _ => assert_eq!(reply.value()["code"], "insufficient_funds"),
        }
        answered.fetch_add(1, Ordering::Release);
    }
    unreachable!("the server stops before the numbers end")
}

#[test]
fn a_store_that_fails_stops_the_server_and_nothing_false_was_answered() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start_on_small_disk(data.path(), 512);
    let mut client = server.client();
    populate(&mut client);
    client.post("/v1/deposits", &deposit(3, 1, "ETH", "1000000")).with(200);
    client.post("/v1/deposits", &deposit(4, 2, "SOL", "1000000")).with(200);
    let mut settled = 0;
    let failed = loop {
        let swaps: Vec<Value> = (0..100).map(|n| swap(10_000 + settled + n, 1, 1)).collect();
        let reply = client.post("/v1/swaps:batch", &json!({"swaps": swaps}));
        if reply.status != 200 {
            break reply.problem(503, "stopped", "");
        }
        settled += 100;
    };
    assert_eq!(failed["status"], "failed");
    assert_eq!(exit_code(server.wait()), 4);
    let server = Server::start(data.path());
    let mut client = server.client();
    let left: u64 = balance(&mut client, "/v1/accounts/1/balances", "ETH").parse().expect("ETH");
    // The last batch may have reached the disk although nobody was told.
    assert!([0, 100].contains(&(1_001_000 - settled - left)), "{settled} settled, {left} left");
    for n in [10_000, 10_000 + settled - 1] {
        let found = client.get(&format!("/v1/requests/{}", id(n))).with(200);
        assert_eq!(found["status"], "settled");
    }
    assert_eq!(client.get("/v1/audit").with(200)["balanced"], true);
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| panic!("ended by a signal: {status:?}"))
}

#[test]
fn what_cannot_start_says_why_in_one_line() {
    let (data, server, _client) = started();
    let data = data.path().to_str().expect("a plain path");
    let address = server.address.to_string();
    let other = tempfile::tempdir().expect("a directory");
    let other = other.path().join("data");
    let other = other.to_str().expect("a plain path");
    for (args, status, said) in [
        (["serve", "--data", data, "--listen", "127.0.0.1:0"], 4, "in use"),
        (["serve", "--data", other, "--listen", &address], 4, "cannot listen on 127.0.0.1:"),
        (["serve", "--data", other, "--listen", "0.0.0.0:0"], 2, "loopback"),
        (["serve", "--data", other, "--shards", "65"], 2, "shards is 65; give 1 to 64"),
        (["serve", "--data", other, "--config", "nowhere.toml"], 2, "nowhere.toml"),
        (["serve", "--data", "/dev/null/x", "--listen", "127.0.0.1:0"], 4, "/dev/null/x"),
    ] {
        let done = output(&args);
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(exit_code(done.status), status, "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
        assert_eq!(stderr.trim_end().lines().count(), 1, "{args:?}: {stderr}");
        assert!(done.stdout.is_empty(), "{args:?} is not ready");
    }
    assert!(!Path::new(other).exists(), "nothing was touched");
    assert!(server.ready.contains("2 shards, seq 0"), "{}", server.ready);
}
