//! Who asks for nothing strange meanwhile, and must be answered.

use std::sync::atomic::{AtomicU64, Ordering};

use crosslatch::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::Tally;
use crate::http::Client;
use crate::people::leg;
use crate::target::Target;

/// What they were told.
#[derive(Debug, Default)]
pub struct Served {
    settled: AtomicU64,
    /// For want of funds, or of a link: others move them too.
    refused: AtomicU64,
    longest_ms: AtomicU64,
}

/// Swaps to and fro until the time is over; whatever happens beside it, each is answered.
pub fn client(target: &Target, tally: &Tally, served: &Served) {
    let mut client = Client::connect(target.http);
    let bearer = target.bearer.clone().unwrap_or_else(|| "Bearer none".into());
    let mut headers = vec![("Content-Type", "application/json")];
    if target.bearer.is_some() {
        headers.push(("Authorization", &bearer));
    }
    for n in 0.. {
        if n > 0 && !tally.goes_on() {
            break;
        }
        let began = SystemClock.boot_nanos();
        let reply = client.send("POST", "/v1/swaps", &headers, swap(n).to_string().as_bytes());
        let took = (SystemClock.boot_nanos() - began) / 1_000_000;
        served.longest_ms.fetch_max(took, Ordering::Relaxed);
        let which = match reply.status {
            200 => &served.settled,
            422 => &served.refused,
            _ => panic!("{}: {} {}", target.name, reply.status, reply.text()),
        };
        which.fetch_add(1, Ordering::Relaxed);
        assert_eq!(client.get("/livez").status, 200);
    }
}

fn swap(n: u64) -> Value {
    let (to, fro) = if n.is_multiple_of(2) { (1, 2) } else { (2, 1) };
    let id = format!("01900000-0000-7000-9000-{n:012x}");
    json!({"request_id": id, "legs": [leg(to, fro, "ETH", 1), leg(fro, to, "SOL", 1)]})
}
