//! Overload of a real server: many connections that post batches of swaps over HTTP.
//!
//! At the peak a few connections keep it busy. Then all of them offer ten times that together, each
//! at its share of the rate; one that is refused does not wait as long as it is told to, but goes on
//! with the next batch when that is due.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::http::{Client, Reply};
use crate::phases::{Board, Limited, Phase, alone, direct, now_nanos};
use crate::process::Server;
use crate::support::scratch;

const ACCOUNTS: usize = 100;
/// Of each connection's refused batches, so many at most are asked for in the end.
const ASKED_FOR: usize = 3;

/// How large everything is.
#[derive(Clone, Copy)]
struct Scale {
    limited: Limited,
    /// Requests that may be in flight.
    in_flight: usize,
    batch: usize,
}

const BY_PROCESSORS: Scale =
    Scale { limited: Limited::ByProcessors, in_flight: 8_192, batch: 1_024 };
const BY_DISK: Scale =
    Scale { limited: Limited::ByDisk { sync_micros: 20_000 }, in_flight: 512, batch: 64 };

impl Scale {
    /// Connections that keep it busy.
    fn peak_connections(self) -> usize {
        self.in_flight / self.batch * 3 / 4
    }

    fn connections(self) -> usize {
        12 * self.in_flight / self.batch
    }

    fn limits(self) -> [(&'static str, u64); 5] {
        [
            ("requests_in_flight_max", self.in_flight as u64),
            ("fold_requests_max", 100_000),
            ("unfolded_requests_max", 300_000),
            ("recent_ids_window_ms", 1_000),
            ("recent_ids_max", 2_000_000),
        ]
    }

    /// What a server may need more than one just below saturation has needed so far.
    fn growth_max(self) -> u64 {
        // A request in flight, as text, as a request and as an answer.
        let in_flight = self.in_flight * 8 * 1_024;
        // A connection with what it sends and gets, and that much again on its way.
        let connections = self.connections() * 2 * self.batch * 1_024;
        let unfolded = 300_000 * 512;
        let ids = 2_000_000 * 28;
        // Memtables and the cache of the store fill as more is written.
        let store = (4 * 128 + 4 * 32 + 256) << 20;
        (in_flight + connections + unfolded + ids + store) as u64
    }
}

/// A body that is ready but for the ids.
struct Batch {
    body: Vec<u8>,
    /// Where each id's last 12 digits stand.
    places: Vec<usize>,
}

/// The 12 last digits are a number.
fn id(number: u64) -> String {
    format!("01900000-0000-4000-8000-{number:012x}")
}

fn some_swap(connection: usize, place: usize) -> Value {
    let a = (connection + 7 * place) % ACCOUNTS;
    let b = (a + 1 + (connection + place) % (ACCOUNTS - 1)) % ACCOUNTS;
    let leg = |from: usize, to: usize, asset: &str| json!({"from": from + 1, "to": to + 1, "asset": asset, "amount": place + 1});
    json!({"request_id": id(0), "legs": [leg(a, b, "ETH"), leg(b, a, "SOL")]})
}

impl Batch {
    fn new(connection: usize, size: usize) -> Self {
        let swaps: Vec<Value> = (0..size).map(|place| some_swap(connection, place)).collect();
        let body = json!({ "swaps": swaps }).to_string();
        let zero = id(0);
        let places: Vec<usize> =
            body.match_indices(&zero).map(|(place, _)| place + zero.len() - 12).collect();
        assert_eq!(places.len(), size);
        Self { body: body.into_bytes(), places }
    }

    /// Gives its swaps the ids of these numbers.
    fn renew(&mut self, first: u64) {
        for (place, mut number) in self.places.iter().zip(first..) {
            for digit in self.body[*place..*place + 12].iter_mut().rev() {
                *digit = b"0123456789abcdef"[(number % 16) as usize];
                number /= 16;
            }
        }
    }
}

struct Load {
    scale: Scale,
    server: Server,
    board: Board,
    next_id: AtomicU64,
    /// Numbers of requests that were refused.
    refused: Mutex<Vec<u64>>,
}

impl Load {
    fn connection(&self, number: usize) {
        let Scale { batch: size, .. } = self.scale;
        let (mut client, mut batch) = (self.server.client(), Batch::new(number, size));
        let (mut due_nanos, mut refused) = (0, 0);
        loop {
            match self.board.phase() {
                Phase::Done => return,
                Phase::Peak if number >= self.scale.peak_connections() => {
                    self.board.idle(Phase::Peak);
                    continue;
                }
                Phase::Peak => {}
                Phase::Over => self.board.pace(&mut due_nanos, size, self.scale.connections()),
            }
            let first = self.next_id.fetch_add(size as u64, Ordering::Relaxed);
            batch.renew(first);
            if !self.post(&mut client, &batch) && refused < ASKED_FOR {
                refused += 1;
                self.refused.lock().expect("nobody panics with it").push(first);
            }
        }
    }

    /// Posts a batch; says whether it was taken.
    fn post(&self, client: &mut Client, batch: &Batch) -> bool {
        let (counts, size) = (&self.board.counts, self.scale.batch);
        counts.offered.fetch_add(size as u64, Ordering::Relaxed);
        let json = [("Content-Type", "application/json")];
        let began = now_nanos();
        let reply = client.send("POST", "/v1/swaps:batch", &json, &batch.body);
        if reply.status == 200 {
            let settled = reply.text().matches(r#""status":"settled""#).count();
            assert_eq!(settled, size, "{}", reply.text());
            counts.answered.fetch_add(size as u64, Ordering::Relaxed);
            return true;
        }
        self.board.refused(size as u64, now_nanos() - began);
        Self::check_refusal(&reply);
        false
    }

    /// It says what is the matter, and when to come again.
    fn check_refusal(reply: &Reply) {
        let problem = reply.problem(503, "overloaded", "");
        assert_eq!(problem["status"], "rejected", "{problem}");
        assert_eq!(reply.header("retry-after"), Some("1"));
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("requests_in_flight_max"), "{problem}");
        assert!(detail.contains("nothing was taken"), "{problem}");
    }

    /// Resident memory of the server, which answers such questions all the time.
    fn resident(&self, client: &Mutex<Client>) -> u64 {
        let metrics = client.lock().expect("nobody panics with it").get("/metrics");
        assert_eq!(metrics.status, 200, "{}", metrics.text());
        let mut lines = metrics.text().lines();
        let value = lines.find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
        value.expect("it is measured").parse::<f64>().expect("a number") as u64
    }

    /// Every answer happened, and what was refused did not.
    fn check_answers(&self, opened: u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.board.counts;
        let answered = count(&counts.answered);
        assert_eq!(answered, count(&counts.offered) - count(&counts.refused));
        let mut client = self.server.client();
        let audit = client.get("/v1/audit").with(200);
        assert_eq!(audit["balanced"], true, "{audit}");
        assert_eq!(seq_of(&audit), opened + answered, "something else happened, or was forgotten");
        let refused = self.refused.lock().expect("nobody panics with it");
        assert!(!refused.is_empty(), "nothing was refused: this tests nothing");
        for number in refused.iter() {
            let path = format!("/v1/requests/{}", id(*number));
            client.get(&path).problem(404, "unknown_request", "");
        }
    }
}

fn seq_of(body: &Value) -> u64 {
    body["seq"].as_str().expect("a seq").parse().expect("a number")
}

/// Assets, accounts that are linked on both chains, and money that nobody can spend.
fn populate(client: &mut Client) -> u64 {
    let asset = |chain: u64, kind: &str| json!({"chain_id": chain, "chain_kind": kind, "token": "native", "decimals": 9});
    client.put("/v1/assets/ETH", &asset(1, "evm")).with(200);
    client.put("/v1/assets/SOL", &asset(5, "evm")).with(200);
    for account in 1..=ACCOUNTS {
        let link = |chain: u64| json!({"chain_id": chain, "address": format!("0x{account:040x}")});
        let links = json!({"links": [link(1), link(5)]});
        client.put(&format!("/v1/accounts/{account}"), &links).with(200);
        for (asset, half) in [("ETH", 0), ("SOL", 1)] {
            let deposit = json!({
                "request_id": format!("01900000-0000-4000-9000-{:012x}", account * 2 + half),
                "account": account, "asset": asset, "amount": "1000000000000000"
            });
            client.post("/v1/deposits", &deposit).with(200);
        }
    }
    seq_of(&client.get("/v1/audit").with(200))
}

fn overload(scale: Scale) {
    let _alone = alone();
    let data = scratch();
    let server = Server::start_with(&data.path().join("data"), &scale.limits());
    let opened = populate(&mut server.client());
    let pid = server.pid();
    let Some(imposed) = scale.limited.impose(pid, &data.path().join("told")) else { return };
    let (board, next_id) = (Board::new(), AtomicU64::new(1));
    let load = Load { scale, server, board, next_id, refused: Mutex::default() };
    let measured = std::thread::scope(|scope| {
        let load = &load;
        for number in 0..scale.connections() {
            scope.spawn(move || load.connection(number));
        }
        let client = Mutex::new(load.server.client());
        direct(&load.board, || load.resident(&client))
    });
    imposed.lift();
    load.check_answers(opened);
    measured.check(&load.board, scale.limited, scale.growth_max());
}

#[test]
fn ten_times_what_processors_can_do_over_http() {
    overload(BY_PROCESSORS);
}

#[test]
fn ten_times_what_the_disk_takes_over_http() {
    overload(BY_DISK);
}
