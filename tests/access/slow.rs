//! Beside connections that do nothing, and connections that are slow on purpose, the others are served.
//!
//! In CI a few of each, and every answer is counted. `CROSSLATCH_SLOW=1` opens 1,000 idle and 100 slow
//! ones and compares the p99 of 16 other callers with them and without, in one run:
//! `CROSSLATCH_SLOW=1 cargo test --release --test access slow -- --nocapture`.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use crosslatch::clock::{Clock, SystemClock};

use super::http::Client;
use super::people::*;
use super::venue::*;

/// Callers that are to notice nothing.
const CALLERS: u64 = 16;

/// Between two bytes of a slow client.
const PACE: Duration = Duration::from_millis(10);

struct Load {
    idle: usize,
    slow: usize,
    requests: u64,
    rounds: u64,
}

fn load() -> (Load, bool) {
    if std::env::var_os("CROSSLATCH_SLOW").is_some() {
        return (Load { idle: 1_000, slow: 100, requests: 500, rounds: 5 }, true);
    }
    (Load { idle: 100, slow: 20, requests: 50, rounds: 1 }, false)
}

#[test]
fn idle_and_slow_connections_do_not_keep_the_others_waiting() {
    let (load, is_campaign) = load();
    let venue = Venue::open();
    let mut ratios = Vec::new();
    let mut ids = 1_000_000;
    for _ in 0..load.rounds {
        let alone = p99_micros(&venue, &load, &mut ids);
        let idle: Vec<TcpStream> = (0..load.idle).map(|_| connect(venue.server.address)).collect();
        let beside = beside_slow(&venue, &load, &mut ids);
        // They were open all the time.
        assert!(idle.iter().all(|stream| stream.peer_addr().is_ok()));
        ratios.push(beside as f64 / alone as f64);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    if is_campaign {
        println!("p99 beside {} idle and {} slow: {ratios:.2?} times", load.idle, load.slow);
        assert!(median <= 2.0, "p99 is {median:.2} times what it is alone");
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).expect("there is room")
}

/// While threads feed heads and bodies byte by byte, and read no answer.
fn beside_slow(venue: &Venue, load: &Load, ids: &mut u64) -> u64 {
    let (done, until_done) = mpsc::sync_channel(0);
    std::thread::scope(|scope| {
        scope.spawn(move || drip(venue, load.slow, &until_done));
        let measured = p99_micros(venue, load, ids);
        drop(done);
        measured
    })
}

/// Writes a byte to each in turn: half of them a head that never ends, half of them a long body, of
/// somebody who may send one.
fn drip(venue: &Venue, slow: usize, done: &Receiver<()>) {
    let mut streams: Vec<TcpStream> = (0..slow).map(|_| connect(venue.server.address)).collect();
    let token = venue.operator.reveal();
    let body = format!(
        "POST /v1/swaps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 16000000\r\n\r\n"
    );
    for (n, stream) in streams.iter_mut().enumerate() {
        let head = if n % 2 == 0 { "GET /livez HTTP/1.1\r\nX-Slow: " } else { &*body };
        stream.write_all(head.as_bytes()).expect("it listens");
    }
    // Faster, and it would be a flood.
    while done.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
        for stream in &mut streams {
            // Whom the server has turned away is slow no more.
            let _ = stream.write_all(b"a");
        }
    }
}

/// Sends swaps from so many callers at once; every one is answered. Microseconds.
fn p99_micros(venue: &Venue, load: &Load, ids: &mut u64) -> u64 {
    let first = *ids;
    *ids += CALLERS * load.requests;
    let mut latencies: Vec<u64> = std::thread::scope(|scope| {
        let call = |caller: u64| {
            let begin = first + caller * load.requests;
            scope.spawn(move || {
                (begin..begin + load.requests).map(asked(venue)).collect::<Vec<u64>>()
            })
        };
        let callers: Vec<_> = (0..CALLERS).map(call).collect();
        callers.into_iter().flat_map(|caller| caller.join().expect("no panic")).collect()
    });
    assert_eq!(latencies.len() as u64, CALLERS * load.requests);
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

fn asked(venue: &Venue) -> impl FnMut(u64) -> u64 {
    let mut client = Client::connect(venue.server.address);
    let bearer = format!("Bearer {}", venue.operator.reveal());
    move |n| {
        let body = deposit(n, 1, "ETH", "1").to_string();
        let headers = [("Authorization", &*bearer), ("Content-Type", "application/json")];
        let before = SystemClock.boot_nanos();
        let reply = client.send("POST", "/v1/deposits", &headers, body.as_bytes());
        reply.with(200);
        (SystemClock.boot_nanos() - before) / 1_000
    }
}
