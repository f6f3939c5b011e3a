//! Overload of a real server: many connections that post batches of swaps over HTTP.
//!
//! At the peak a few connections keep it busy. Then all of them offer ten times that together, each
//! at its share of the rate; one that is refused does not wait as long as it is told to, but goes on
//! with the next batch when that is due.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::http::{Client, Reply};
use crate::phases::{Board, Phase, alone, direct, now_nanos};
use crate::process::Server;
use crate::support::scratch;

/// Requests that may be in flight.
const IN_FLIGHT: usize = 8_192;
const BATCH: usize = 1_024;
/// Connections that keep it busy.
const PEAK_CONNECTIONS: usize = IN_FLIGHT / BATCH * 3 / 4;
const CONNECTIONS: usize = 12 * IN_FLIGHT / BATCH;
const ACCOUNTS: usize = 100;
/// What is left of the peak, at least. Callers make ten times as many requests on the same cores, so
/// much of what is missing is theirs; a collapse is far below.
const GOODPUT_MIN: f64 = 0.2;
/// Of each connection's refused batches, so many at most are asked for in the end.
const ASKED_FOR: usize = 3;

/// What a server under these limits may need more than one just below saturation has needed so far.
const GROWTH_MAX: u64 = {
    // A request in flight, as text, as a request and as an answer.
    let in_flight = IN_FLIGHT * 8 * 1_024;
    // A connection with what it sends and gets, and that much again on its way.
    let connections = CONNECTIONS * 2 * BATCH * 1_024;
    let unfolded = 300_000 * 512;
    let ids = 2_000_000 * 28;
    // Memtables and the cache of the store fill as more is written.
    let store = (4 * 128 + 4 * 32 + 256) << 20;
    (in_flight + connections + unfolded + ids + store) as u64
};

const LIMITS: [(&str, u64); 5] = [
    ("requests_in_flight_max", IN_FLIGHT as u64),
    ("fold_requests_max", 100_000),
    ("unfolded_requests_max", 300_000),
    ("recent_ids_window_ms", 1_000),
    ("recent_ids_max", 2_000_000),
];

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
    fn new(connection: usize) -> Self {
        let swaps: Vec<Value> = (0..BATCH).map(|place| some_swap(connection, place)).collect();
        let body = json!({ "swaps": swaps }).to_string();
        let zero = id(0);
        let places: Vec<usize> =
            body.match_indices(&zero).map(|(place, _)| place + zero.len() - 12).collect();
        assert_eq!(places.len(), BATCH);
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
    server: Server,
    board: Board,
    next_id: AtomicU64,
    /// Numbers of requests that were refused.
    refused: Mutex<Vec<u64>>,
}

impl Load {
    fn connection(&self, number: usize) {
        let (mut client, mut batch) = (self.server.client(), Batch::new(number));
        let (mut due_nanos, mut refused) = (0, 0);
        loop {
            match self.board.phase() {
                Phase::Done => return,
                Phase::Peak if number >= PEAK_CONNECTIONS => {
                    self.board.idle(Phase::Peak);
                    continue;
                }
                Phase::Peak => {}
                Phase::Over => self.board.pace(&mut due_nanos, BATCH, CONNECTIONS),
            }
            let first = self.next_id.fetch_add(BATCH as u64, Ordering::Relaxed);
            batch.renew(first);
            if !self.post(&mut client, &batch) && refused < ASKED_FOR {
                refused += 1;
                self.refused.lock().expect("nobody panics with it").push(first);
            }
        }
    }

    /// Posts a batch; says whether it was taken.
    fn post(&self, client: &mut Client, batch: &Batch) -> bool {
        let counts = &self.board.counts;
        counts.offered.fetch_add(BATCH as u64, Ordering::Relaxed);
        let json = [("Content-Type", "application/json")];
        let began = now_nanos();
        let reply = client.send("POST", "/v1/swaps:batch", &json, &batch.body);
        if reply.status == 200 {
            let settled = reply.text().matches(r#""status":"settled""#).count();
            assert_eq!(settled, BATCH, "{}", reply.text());
            counts.answered.fetch_add(BATCH as u64, Ordering::Relaxed);
            return true;
        }
        self.board.refused(BATCH as u64, now_nanos() - began);
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

#[test]
fn ten_times_what_fits_over_http() {
    let _alone = alone();
    let data = scratch();
    let server = Server::start_with(&data.path().join("data"), &LIMITS);
    let opened = populate(&mut server.client());
    let load =
        Load { server, board: Board::new(), next_id: AtomicU64::new(1), refused: Mutex::default() };
    let measured = std::thread::scope(|scope| {
        let load = &load;
        for number in 0..CONNECTIONS {
            scope.spawn(move || load.connection(number));
        }
        let client = Mutex::new(load.server.client());
        direct(&load.board, || load.resident(&client))
    });
    load.check_answers(opened);
    measured.check(&load.board, GOODPUT_MIN, GROWTH_MAX);
}
