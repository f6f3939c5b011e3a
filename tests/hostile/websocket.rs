//! The WebSocket of market data: frames without masks, in pieces, too long, with words that are none.

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::json;

use crate::Tally;
use crate::http1::{converse, statuses};
use crate::mutate::{length, one, shake, spoil};
use crate::target::Target;

const CONTINUED: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const FINAL: u8 = 0x80;

pub fn attack(target: &Target, rng: &mut SmallRng, tally: &Tally) {
    let mut bytes = head(target, rng);
    let count = length(rng, 6);
    for _ in 0..count {
        bytes.extend(some(rng));
    }
    if rng.random_bool(0.9) {
        bytes.extend(frame(rng, FINAL | CLOSE, &1_000_u16.to_be_bytes()));
    }
    tally.sent(count, bytes.len());
    let heard = converse(target.http, rng, &bytes);
    for status in statuses(&heard) {
        tally.heard(&if status == "101" { "ws open".into() } else { format!("http {status}") });
    }
    if heard.windows(2).any(|two| two[0] == FINAL | CLOSE) {
        tally.heard("ws goodbye");
    }
}

fn head(target: &Target, rng: &mut SmallRng) -> Vec<u8> {
    let bearer = target.bearer.as_deref().unwrap_or("Bearer none");
    let mut head = format!(
        "GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes();
    if rng.random_bool(0.05) {
        shake(rng, &mut head);
    }
    head
}

/// A frame as a client sends it.
fn frame(rng: &mut SmallRng, first: u8, payload: &[u8]) -> Vec<u8> {
    let mask: [u8; 4] = rng.random();
    let masked = rng.random_bool(0.97);
    let mut bytes = vec![first];
    let bit = if masked { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..126 => bytes.push(bit | length as u8),
        length @ 126..65_536 => {
            bytes.push(bit | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(bit | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend(mask);
    }
    let key = if masked { mask } else { [0; 4] };
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

fn some(rng: &mut SmallRng) -> Vec<u8> {
    let markets = json!({"channel": "book", "market": "ETH-SOL", "depth": 5});
    let ask = json!({"subscribe": [markets, {"channel": "trades", "market": "ETH-SOL"}]});
    let text = ask.to_string().into_bytes();
    match rng.random_range(0..14) {
        0..3 => frame(rng, FINAL | TEXT, &text),
        3..6 => {
            let spoilt = spoil(rng, &ask);
            frame(rng, FINAL | TEXT, &spoilt)
        }
        6 => {
            // In two pieces, with something between, and perhaps without an end.
            let (first, rest) = text.split_at(text.len() / 2);
            let between = *one(rng, &[FINAL | PING, FINAL | TEXT, TEXT]);
            let end = *one(rng, &[FINAL | CONTINUED, CONTINUED]);
            let pieces = [(TEXT, first), (between, b"x"), (end, rest)];
            pieces.into_iter().flat_map(|(kind, piece)| frame(rng, kind, piece)).collect()
        }
        7 => frame(rng, FINAL | CONTINUED, b"of nothing"),
        8 => frame(rng, FINAL | TEXT, b"\xFF\xC0\xAF"),
        9 => {
            let long = vec![b'l'; length(rng, 18)];
            let kind = *one(rng, &[FINAL | PING, FINAL | BINARY, FINAL | TEXT, TEXT]);
            frame(rng, kind, &long)
        }
        10 => frame(rng, rng.clone().random(), b"any kind"),
        // Of which nothing comes.
        11 => [&[FINAL | TEXT, 0xFF][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat(),
        12 => {
            let reason = one(rng, &[&b""[..], b"\x03", b"\xFF\xFFx", b"\x03\xE8\xFF\xFE"]).to_vec();
            frame(rng, FINAL | CLOSE, &reason)
        }
        _ => {
            let mut made = frame(rng, FINAL | TEXT, &text);
            shake(rng, &mut made);
            made
        }
    }
}
