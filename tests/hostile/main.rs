//! What strangers send: the real server, with keys and without, under input that nobody in his right mind
//! would send, over HTTP/1.1, HTTP/2, gRPC and WebSocket, while honest clients go on.
//!
//! Everything is made of something valid and of a seed: calls as the OpenAPI document shows them and
//! messages of the gRPC service, changed in their bytes, heads, JSON, protobuf, or frames. Whatever comes,
//! the process lives, nothing panics, nothing is answered `500`, honest clients get their answers, memory
//! stays within a bound that follows from the configuration ([`watch`]), and in the end the server stops
//! in peace and the audit finds nothing.
//!
//! A longer run, by hand, and others by `CROSSLATCH_SEED=n`:
//!
//! ```text
//! CROSSLATCH_HOSTILE_SECONDS=600 cargo test --release --test hostile -- --nocapture
//! ```

#[path = "../support/http.rs"]
#[expect(dead_code, reason = "of the client for HTTP, a few calls are enough here")]
mod http;
#[path = "../support/people.rs"]
#[expect(dead_code, reason = "it sets the venue up, and no more")]
mod people;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "servers are started here in a way of their own")]
mod process;

mod calls;
mod frames;
mod honest;
mod http1;
mod messages;
mod mutate;
mod target;
mod watch;
mod websocket;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use std::collections::BTreeMap;

use crosslatch::clock::{Clock, SystemClock};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use target::Target;

/// How long it goes on.
const SECONDS: u64 = 6;

/// What was sent, and what came back.
pub struct Tally {
    ends: u64,
    connections: AtomicU64,
    sent: AtomicU64,
    bytes: AtomicU64,
    answers: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    fn new(time: Duration) -> Self {
        let ends = SystemClock.boot_nanos() + time.as_nanos() as u64;
        let answers = Mutex::default();
        let (connections, sent, bytes) = Default::default();
        Self { ends, connections, sent, bytes, answers }
    }

    /// Whether the time is not over.
    pub fn goes_on(&self) -> bool {
        SystemClock.boot_nanos() < self.ends
    }

    /// A connection with so many requests, frames or messages, and so many bytes.
    pub fn sent(&self, requests: usize, bytes: usize) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.sent.fetch_add(requests as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Something that was answered, in a word.
    pub fn heard(&self, what: &str) {
        let mut answers = self.answers.lock().expect("nobody failed");
        *answers.entry(what.to_owned()).or_default() += 1;
    }

    fn count(&self, what: &str) -> u64 {
        self.answers.lock().expect("nobody failed").get(what).copied().unwrap_or(0)
    }
}

type Attack = fn(&Target, &mut SmallRng, &Tally);

/// Who attacks, and on how many threads.
const ATTACKS: [(Attack, usize); 4] =
    [(http1::attack, 5), (frames::attack, 3), (messages::attack, 2), (websocket::attack, 2)];

#[test]
fn whatever_is_sent_the_server_lives_and_serves_the_others() {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
    };
    let seed = number("CROSSLATCH_SEED", 20_261_127);
    let time = Duration::from_secs(number("CROSSLATCH_HOSTILE_SECONDS", SECONDS));
    eprintln!("CROSSLATCH_SEED={seed}");
    let targets = [Target::open(), Target::with_keys()];
    let threads: usize = ATTACKS.iter().map(|(_, threads)| threads).sum();
    let (tally, honest) = (Tally::new(time), honest::Served::default());
    let memory = std::thread::scope(|scope| {
        for target in &targets {
            scope.spawn(|| honest::client(target, &tally, &honest));
        }
        let attackers = ATTACKS.iter().flat_map(|(attack, threads)| vec![attack; *threads]);
        for (number, attack) in attackers.enumerate() {
            let (targets, tally) = (&targets, &tally);
            let mut rng = SmallRng::seed_from_u64(seed ^ (number as u64) << 40);
            scope.spawn(move || {
                for turn in 0.. {
                    if !tally.goes_on() {
                        break;
                    }
                    attack(&targets[turn % targets.len()], &mut rng, tally);
                }
            });
        }
        watch::memory(&targets, &tally)
    });
    for (target, memory) in targets.into_iter().zip(&memory) {
        eprintln!("{}: {memory}", target.name);
        memory.check(threads);
        target.end();
    }
    let (connections, sent) = (&tally.connections, &tally.sent);
    eprintln!("{connections:?} connections, {sent:?} sent, {:?} bytes", tally.bytes);
    eprintln!("{honest:?}\n{:#?}", tally.answers.lock().expect("nobody failed"));
    for hoped in ["http 200", "http 400", "http 401", "h2 200", "grpc Ok", "ws open"] {
        assert!(tally.count(hoped) > 0, "{hoped}: never, so it was not tested");
    }
    for feared in ["http 500", "h2 500", "grpc Unknown", "grpc Internal"] {
        assert_eq!(tally.count(feared), 0, "{feared}");
    }
}
