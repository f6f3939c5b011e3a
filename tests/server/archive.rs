//! A server that moves its journal into an archive after a second, and is killed while it does so.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::people::*;
use super::process::{Server, output};

/// Kills in a row.
const KILLS: u64 = 4;
const CALLERS: u64 = 3;
const BATCH: u64 = 20;
const SEED: u64 = 20_261_122;

fn segments(archive: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(archive) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|it| it == "segment")).collect();
    paths.sort();
    paths
}

/// Sends batches of swaps until the server is gone; returns what was answered.
fn swap_until_killed(server: &Server, first: u64, sent: &AtomicU64) -> Vec<Value> {
    let mut client = server.client();
    let mut receipts = Vec::new();
    for batch in 0.. {
        let ids = (0..BATCH).map(|n| first + batch * BATCH + n);
        let body = json!({"swaps": ids.map(|n| swap(n, 1, 1)).collect::<Vec<_>>()}).to_string();
        let kind = [("Content-Type", "application/json")];
        let path = "/v1/swaps:batch";
        let Ok(reply) = client.try_send("POST", path, &kind, body.as_bytes()) else { break };
        let results = reply.with(200)["results"].as_array().expect("a list").clone();
        receipts.extend(results);
        sent.fetch_add(1, Ordering::Relaxed);
    }
    receipts
}

/// Load, until blocks were archived and then some more; then the end of it.
fn round(data: &Path, archive: &Path, first: u64, more: u64) -> Vec<Value> {
    let server = Server::start_archiving(data, archive);
    let (sent, before) = (&AtomicU64::new(0), segments(archive).len());
    std::thread::scope(|scope| {
        let running = &server;
        let call = |caller| {
            scope.spawn(move || swap_until_killed(running, first + caller * 1_000_000, sent))
        };
        let callers: Vec<_> = (0..CALLERS).map(call).collect();
        while segments(archive).len() == before {
            std::thread::yield_now();
        }
        let until = sent.load(Ordering::Relaxed) + more;
        while sent.load(Ordering::Relaxed) < until {
            std::thread::yield_now();
        }
        server.kill_now();
        callers.into_iter().flat_map(|caller| caller.join().expect("no panic")).collect()
    })
}

fn run(args: &[&str]) -> (Option<i32>, String) {
    let done = output(args);
    let said = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn check_all(server: &Server, receipts: &[Value]) {
    let mut client = server.client();
    for receipt in receipts {
        let id = receipt["request_id"].as_str().expect("an id");
        assert_eq!(client.get(&format!("/v1/requests/{id}")).with(200), *receipt);
    }
}

#[test]
fn killed_while_it_archives_nothing_is_lost_or_doubled() {
    let room = tempfile::tempdir().expect("a directory");
    let (data, archive) = (room.path().join("data"), room.path().join("archive"));
    let server = Server::start_archiving(&data, &archive);
    let mut client = server.client();
    populate(&mut client);
    client.post("/v1/deposits", &deposit(3, 1, "ETH", "100000000")).with(200);
    client.post("/v1/deposits", &deposit(4, 2, "SOL", "100000000")).with(200);
    server.kill();
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut receipts = Vec::new();
    for kill in 0..KILLS {
        let more = rng.random_range(0..30);
        receipts.extend(round(&data, &archive, (kill + 1) * 10_000_000, more));
    }
    let server = Server::start_archiving(&data, &archive);
    check_all(&server, &receipts);
    let mut client = server.client();
    let history = client.get("/v1/accounts/1/history?limit=3").with(200);
    assert_eq!(history["changes"][0]["kind"], "deposit");
    assert_eq!(client.get("/v1/audit").with(200)["balanced"], true);
    server.ask_to_stop();
    assert_eq!(server.wait().code(), Some(0));
    assert!(segments(&archive).len() as u64 >= KILLS);
    let data_arg = data.to_str().expect("a plain path");
    let (status, said) = run(&["audit", "--data", data_arg]);
    assert_eq!(status, Some(0), "{said}");
    let settled: Vec<u64> = receipts
        .iter()
        .map(|it| it["commit_seq"].as_str().expect("settled").parse().expect("a seq"))
        .collect();
    // The version store has all of it: as of the first, and of any.
    let any = settled[rng.random_range(0..settled.len())].to_string();
    for to in ["9", &any] {
        let (status, said) = run(&["replay", "--data", data_arg, "--to", to, "--json"]);
        assert_eq!(status, Some(0), "{said}");
        let report: Value = serde_json::from_str(&said).expect("one object");
        assert_eq!(report["seq"], *to);
        assert_eq!(report["verified"], true, "the version store says the same");
    }
    without_a_segment(&data, &archive, &receipts);
}

/// A file that is gone is named; what is not in it is answered; put back, all is.
fn without_a_segment(data: &Path, archive: &Path, receipts: &[Value]) {
    let (data_arg, first) = (data.to_str().expect("a plain path"), segments(archive).remove(0));
    let away = archive.with_file_name("away.segment");
    std::fs::rename(&first, &away).expect("one file system");
    let name = first.file_name().expect("a file").to_str().expect("a plain name");
    let (status, said) = run(&["audit", "--data", data_arg]);
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains(name) && said.contains("is missing"), "{said}");
    let server = Server::start_archiving(data, archive);
    let mut client = server.client();
    let lost = client.get(&format!("/v1/requests/{}", id(1)));
    let lost = lost.problem(503, "archive_unavailable", "");
    assert!(lost["detail"].as_str().expect("words").contains(name), "{lost}");
    assert_eq!(lost["status"], "failed");
    let last = receipts.last().expect("many");
    let path = format!("/v1/requests/{}", last["request_id"].as_str().expect("an id"));
    assert_eq!(client.get(&path).with(200), *last);
    client.post("/v1/swaps", &swap(5, 1, 1)).with(200);
    std::fs::rename(&away, &first).expect("one file system");
    check_all(&server, &receipts[..100]);
    let metrics = client.get("/metrics");
    assert!(metrics.text().contains("\ncrosslatch_archived_blocks "), "{}", metrics.text());
    drop(server);
    // Moved as a whole, it is found where one is told.
    let moved = archive.with_file_name("moved");
    std::fs::rename(archive, &moved).expect("one file system");
    let moved = moved.to_str().expect("a plain path");
    let (status, said) = run(&["audit", "--data", data_arg]);
    assert_eq!(status, Some(3), "{said}");
    for command in ["audit", "replay"] {
        let (status, said) = run(&[command, "--data", data_arg, "--archive", moved]);
        assert_eq!(status, Some(0), "{said}");
    }
}
