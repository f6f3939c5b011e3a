//! Bodies of signed requests are read before it is known whether anybody signed them: all of these together
//! take no more memory than they may, and keep nobody out who shows a token.

use std::io::Write;
use std::net::TcpStream;

use crosslatch::access::secret::{Master, Token};
use serde_json::json;

use super::people::*;
use super::venue::*;

/// What one of them announces, and sends of it: more than half, so that room for all of it is taken.
const ANNOUNCED_BYTES: usize = 16 * 1024 * 1024;
const SENT_BYTES: usize = 10 * 1024 * 1024;

/// Begins a request of whom nobody knows, and leaves it at that.
fn begun(venue: &Venue) -> TcpStream {
    let secret = Master::new([9; 32]).secret("nobody", 1);
    let token = Token { name: "nobody".into(), secret };
    let headers = sign_at(&token, ("POST", "/v1/swaps"), b"", "", now_ms());
    let mut stream = TcpStream::connect(venue.server.loopback()).expect("the server listens");
    let mut head =
        format!("POST /v1/swaps HTTP/1.1\r\nHost: x\r\nContent-Length: {ANNOUNCED_BYTES}\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).expect("it is read");
    stream.write_all(&vec![b' '; SENT_BYTES]).expect("it is read");
    stream
}

#[test]
fn who_signs_nothing_takes_little_memory_and_keeps_out_nobody_with_a_token() {
    let venue = Venue::open();
    let mut trader = venue.key("trader", json!({}));
    let mut other = venue.key("other", json!({}));
    let open: Vec<TcpStream> = (0..2).map(|_| begun(&venue)).collect();
    // Once both are read as far as they came, there is room for no third.
    let mut tries = 0..100_000;
    let full = tries.find_map(|n| {
        let reply =
            trader.signed("POST", "/v1/swaps", swap(1_000 + n, 1, 1).to_string().as_bytes());
        (reply.status == 503).then_some(reply)
    });
    full.expect("it is full at last").problem(503, "overloaded", "");
    other.post("/v1/swaps", &swap(900_000, 1, 1)).with(200);
    drop(open);
    let mut tries = 0..100_000;
    let body = swap(900_001, 1, 1).to_string();
    let settled = tries.any(|_| trader.signed("POST", "/v1/swaps", body.as_bytes()).status == 200);
    assert!(settled, "who has gone makes room");
}
