//! What an operator is told when something goes wrong: four things are made to go wrong on a real server, and each
//! has to raise its alert, and be seen on the overview. `make drill` runs them; they are too long for every day.
//!
//! The rules are the repository's, but that alerts fire after seconds and not minutes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use super::boards::{Board, filled};
use super::http::Client;
use super::people::{id, leg, populate};
use super::process::Server;
use super::prometheus::{Prometheus, until};
use super::strace::{self, Trace};
use super::tools::have;

/// What the drills make fire: each drill its own, and none of the others.
const ALERTS: [&str; 4] = [
    "CrosslatchConflictStorm",
    "CrosslatchFsyncSlow",
    "CrosslatchHoldStuck",
    "CrosslatchOverloaded",
];
/// Callers who do what goes wrong, all at once.
const CALLERS: usize = 12;
/// How long a sync takes on the slow disk.
const SYNC_MICROS: u32 = 250_000;

static NEXT: AtomicU64 = AtomicU64::new(1_000);

fn next_id() -> String {
    id(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A swap of next to nothing; every other one goes back, so that nobody runs out of anything.
fn swap() -> Value {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let (eth, sol) = if number.is_multiple_of(2) { ((1, 2), (2, 1)) } else { ((2, 1), (1, 2)) };
    let legs = json!([leg(eth.0, eth.1, "ETH", 1), leg(sol.0, sol.1, "SOL", 1)]);
    json!({"request_id": id(number), "legs": legs})
}

struct Drill {
    server: Server,
    prometheus: Prometheus,
    _data: tempfile::TempDir,
}

impl Drill {
    /// A populated server with limits of its own, and who watches it.
    fn start(limits: &[(&str, u64)]) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let server = Server::start_with(data.path(), limits);
        populate(&mut server.client());
        // Of what the other one has, each needs something to give back.
        let back = json!({"request_id": next_id(), "legs": [leg(1, 2, "ETH", 500), leg(2, 1, "SOL", 500)]});
        server.client().post("/v1/swaps", &back).with(200);
        let prometheus = Prometheus::start_impatient(server.address);
        until("the first scrape", || prometheus.scraped_at());
        Self { server, prometheus, _data: data }
    }

    /// Has callers do that again and again until the alert fires, and then shows that of the drills' alerts it is
    /// the only one, and that the panel of the overview shows something that is as wanted.
    fn until_told(
        &self,
        alert: &str,
        panel: &str,
        is_seen: impl Fn(f64) -> bool,
        call: impl Fn(&mut Client) + Sync,
    ) {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| {
                    let mut client = self.server.client();
                    while !stop.load(Ordering::Relaxed) {
                        call(&mut client);
                    }
                });
            }
            // A panic here must not leave the callers at it.
            let stopped = Stopped(&stop);
            let firing = || {
                let firing = r#"ALERTS{alertname=~"Crosslatch.*", alertstate="firing"}"#;
                let all = self.prometheus.ask(firing);
                all.iter()
                    .map(|it| it.labels["alertname"].as_str().unwrap_or("").to_owned())
                    .collect()
            };
            let all: Vec<String> = until(alert, || {
                Some(firing()).filter(|all: &Vec<String>| all.iter().any(|it| it == alert))
            });
            let shown = self.shown(panel);
            eprintln!("{alert} fires (with {all:?}); {panel}: {shown:?}");
            assert!(shown.iter().any(|value| is_seen(*value)), "{panel} shows {shown:?}");
            let others = ALERTS.iter().filter(|other| **other != alert);
            let wrong: Vec<_> = others.filter(|other| all.iter().any(|it| it == *other)).collect();
            assert!(wrong.is_empty(), "{wrong:?} fire as well");
            drop(stopped);
        });
    }

    /// What a panel of the overview shows now.
    fn shown(&self, title: &str) -> Vec<f64> {
        let [overview, ..] = Board::all();
        let title = format!("overview: {title}");
        let panel = overview.panels().find(|panel| panel.title == title);
        let panel = panel.unwrap_or_else(|| panic!("no {title}"));
        let series =
            panel.queries().into_iter().flat_map(|query| self.prometheus.ask(&filled(&query)));
        series.map(|series| series.samples[0].1).collect()
    }
}

/// Stops the callers when it is dropped.
struct Stopped<'a>(&'a AtomicBool);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
#[ignore = "a minute long: make drill"]
fn drill_a_conflict_storm() {
    if !have(&["prometheus"]) {
        return;
    }
    let drill = Drill::start(&[]);
    // All read the same value, and all want to change it.
    drill.until_told("CrosslatchConflictStorm", "Conflict rate", |rate| rate > 0.5, |client| {
        let version = client.get("/v1/keys/aG90").with(200)["version"].clone();
        let body = json!({"request_id": next_id(), "reads": [{"key": "aG90", "version": version}],
                          "writes": [{"key": "aG90", "value": "MTAw"}], "transfers": []});
        let status = client.post("/v1/transactions", &body).status;
        assert!([200, 409].contains(&status), "{status}");
    });
}

#[test]
#[ignore = "a minute long: make drill"]
fn drill_a_slow_disk() {
    if !have(&["prometheus"]) || !strace::is_there() {
        return;
    }
    let drill = Drill::start(&[]);
    let told: PathBuf = drill._data.path().with_extension("strace");
    let inject = format!("fdatasync:delay_exit={SYNC_MICROS}");
    let _trace = Trace::attach(drill.server.pid(), "commit-log", &inject, &[], &told);
    drill.until_told(
        "CrosslatchFsyncSlow",
        "Disk: fsync",
        |seconds| seconds > 0.1,
        |client| {
            client.post("/v1/swaps", &swap()).with(200);
        },
    );
    // strace made it; it may not have.
    let _ = std::fs::remove_file(told);
}

#[test]
#[ignore = "a minute long: make drill"]
fn drill_a_stuck_hold() {
    if !have(&["prometheus"]) {
        return;
    }
    let drill = Drill::start(&[]);
    let mut prepare = swap();
    prepare["exclusive"] = true.into();
    prepare["expires_in_ms"] = 600_000.into();
    drill.server.client().post("/v1/prepared", &prepare).with(200);
    // Nobody resolves it, and everybody wants what it locks.
    drill.until_told(
        "CrosslatchHoldStuck",
        "Waiting",
        |waiting| waiting >= 1.0,
        |client| {
            let body = json!({"request_id": next_id(), "legs": prepare["legs"]});
            let reply = client.post("/v1/swaps", &body);
            assert_eq!(reply.value()["code"], "lock_timeout", "{}", reply.text());
        },
    );
}

#[test]
#[ignore = "a minute long: make drill"]
fn drill_an_overload() {
    if !have(&["prometheus"]) {
        return;
    }
    const BATCH: usize = 100;
    let drill = Drill::start(&[("requests_in_flight_max", 2 * BATCH as u64)]);
    let pushed_back = AtomicU64::new(0);
    drill.until_told(
        "CrosslatchOverloaded",
        "Refused by reason",
        |refused| refused > 1.0,
        |client| {
            let swaps: Vec<Value> = (0..BATCH).map(|_| swap()).collect();
            let reply = client.post("/v1/swaps:batch", &json!({"swaps": swaps}));
            assert!([200, 503].contains(&reply.status), "{}", reply.text());
            pushed_back.fetch_add(u64::from(reply.status == 503), Ordering::Relaxed);
        },
    );
    assert!(pushed_back.load(Ordering::Relaxed) > 0, "nobody was pushed back");
}
