//! What a key may use, what an address may have open, what a head may be.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::people::*;
use super::venue::*;

#[test]
fn a_key_asks_so_many_times_a_second() {
    let venue = Venue::open();
    let mut desk = venue.key("desk", json!({"limits": {"requests_per_second": 5}}));
    let replies: Vec<_> = (0..50).map(|_| desk.get("/v1/assets")).collect();
    let passed = replies.iter().filter(|reply| reply.status == 200).count();
    // Five at once, and a few more for the time that this took.
    assert!((5..50).contains(&passed), "{passed} of 50");
    let limited = replies.iter().find(|reply| reply.status == 429).expect("one of them");
    limited.problem(429, "rate_limited", "");
    let after: u64 = limited.header("retry-after").expect("when").parse().expect("seconds");
    assert!((1..=60).contains(&after));
    venue.operator().get("/v1/assets").with(200);
    let metrics = venue.server.client().get("/metrics");
    let count = format!("crosslatch_turned_away_total{{reason=\"rate_limited\"}} {}", 50 - passed);
    assert!(metrics.text().contains(&count), "{count}");
}

#[test]
fn each_of_a_batch_counts() {
    let venue = Venue::open();
    let mut desk = venue.key("desk", json!({"limits": {"requests_per_second": 10}}));
    let swaps: Vec<_> = (0..200).map(|n| swap(900 + n, 1, 1)).collect();
    desk.post("/v1/swaps:batch", &json!({"swaps": swaps})).with(200);
    // Twenty seconds' worth.
    let limited = desk.get("/v1/assets");
    limited.problem(429, "rate_limited", "");
    let after: u64 = limited.header("retry-after").expect("when").parse().expect("seconds");
    assert!((2..=20).contains(&after), "{after}");
    let mut few = venue.key("few", json!({"limits": {"in_flight": 3}, "accounts": [1, 2]}));
    let swaps =
        |n: u64| json!({"swaps": (0..n).map(|at| swap(1_200 + at, 1, 1)).collect::<Vec<_>>()});
    few.post("/v1/swaps:batch", &swaps(4)).problem(429, "rate_limited", "");
    few.get(&format!("/v1/requests/{}", id(1_200))).problem(404, "unknown_request", "");
    few.post("/v1/swaps:batch", &swaps(3)).with(200);
}

#[test]
fn failures_are_slowed_down_and_a_right_key_gets_in_beside_them() {
    let venue = Venue::open_with(&[("failures_burst_max", 3)]);
    let mut client = venue.server.client();
    let failed: Vec<u16> = (0..30).map(|_| client.get("/v1/audit").status).collect();
    let told = failed.iter().filter(|status| **status == 401).count();
    assert!((3..30).contains(&told) && failed[..3] == [401; 3], "{failed:?}");
    assert!(failed.iter().all(|status| [401, 429].contains(status)), "{failed:?}");
    venue.operator().get("/v1/audit").with(200);
}

#[test]
fn an_address_has_so_many_connections() {
    let venue = Venue::open_with(&[("connections_per_address_max", 3)]);
    let address = venue.server.address;
    let mut open: Vec<_> = (0..3).map(|_| super::http::Client::connect(address)).collect();
    open.iter_mut().for_each(|client| drop(client.get("/livez").with(200)));
    let mut one_more = super::http::Client::connect(address);
    assert!(one_more.try_send("GET", "/livez", &[], b"").is_err(), "it is closed");
    // Whose end the server has seen makes room.
    drop(open.pop());
    let connects =
        || super::http::Client::connect(address).try_send("GET", "/livez", &[], b"").is_ok();
    assert!((0..10_000).any(|_| connects()), "there is room again");
}

/// What the server says to bytes, until it closes.
fn said_to(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    // It may close before it was told everything.
    let _ = stream.write_all(bytes);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn heads_are_bounded_in_bytes_and_in_number() {
    let venue = Venue::open_with(&[("head_bytes_max", 8_192), ("headers_max", 16)]);
    let address = venue.server.address;
    let long = format!("GET /livez HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(20_000));
    let said = said_to(address, long.as_bytes());
    assert!(said.starts_with("HTTP/1.1 431 "), "{said:?}");
    let many = format!("GET /livez HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(20));
    let said = said_to(address, many.as_bytes());
    assert!(said.starts_with("HTTP/1.1 431 "), "{said:?}");
    let line = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(20_000));
    let said = said_to(address, line.as_bytes());
    assert!(said.starts_with("HTTP/1.1 414 ") || said.starts_with("HTTP/1.1 431 "), "{said:?}");
    let few = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(said_to(address, few.as_bytes()).starts_with("HTTP/1.1 200 "));
    // A body without an end, of which nobody wants anything.
    let chunks = format!("{:x}\r\n{}\r\n", 65_536, "a".repeat(65_536)).repeat(64);
    let endless =
        format!("POST /v1/swaps HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    let said = said_to(address, endless.as_bytes());
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 401 "), "{said:?}");
}

#[test]
fn who_does_not_finish_a_head_is_closed() {
    let venue = Venue::open_with(&[("head_wait_ms", 300)]);
    let said = said_to(venue.server.address, b"GET /livez HTTP/1.1\r\nHos");
    assert!(!said.contains("200 OK"), "{said}");
    // It ended, or this would still be waiting; and the next one is answered.
    venue.server.client().get("/livez").with(200);
}
