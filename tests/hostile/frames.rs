//! HTTP/2, frame by frame: frames of chance, floods, rapid resets, heads without end, and calls of gRPC
//! whose messages are framed wrongly.

use prost::Message;
use rand::Rng;
use rand::rngs::SmallRng;

use crate::Tally;
use crate::http1::converse;
use crate::messages::MESSAGES;
use crate::mutate::{length, one, shake};
use crate::target::Target;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Frames of one flood, at most.
const FLOOD_BITS: u32 = 13;

pub fn attack(target: &Target, rng: &mut SmallRng, tally: &Tally) {
    let mut bytes = PREFACE.to_vec();
    if rng.random_bool(0.03) {
        shake(rng, &mut bytes);
    }
    bytes.extend(frame(SETTINGS, 0, 0, &settings(rng)));
    let before = bytes.len();
    let count = match rng.random_range(0..10) {
        0 | 1 => by_chance(rng, &mut bytes),
        2 => flood(rng, &mut bytes),
        3 => rapid_reset(target, rng, &mut bytes),
        4 => endless_head(target, rng, &mut bytes),
        5 => odd_heads(target, rng, &mut bytes),
        _ => calls(target, rng, &mut bytes),
    };
    if rng.random_bool(0.1) {
        let mut frames = bytes.split_off(before);
        shake(rng, &mut frames);
        bytes.extend(frames);
    }
    let address = if rng.random_bool(0.3) { target.http } else { target.grpc };
    tally.sent(count, bytes.len());
    for what in read(&converse(address, rng, &bytes)) {
        tally.heard(&what);
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Some settings, in their ranges or not.
fn settings(rng: &mut SmallRng) -> Vec<u8> {
    let mut payload = Vec::new();
    for _ in 0..*one(rng, &[0, 0, 0, 1, 3]) {
        payload.extend(rng.random_range(0..9_u16).to_be_bytes());
        payload.extend(one(rng, &[0, 1, 100, 16_384, 65_535, 1 << 31, u32::MAX]).to_be_bytes());
    }
    payload
}

fn by_chance(rng: &mut SmallRng, bytes: &mut Vec<u8>) -> usize {
    let count = length(rng, 7);
    for _ in 0..count {
        let kind = rng.random_range(0..12);
        let stream = *one(rng, &[0, 1, 1, 2, 3, 5, 1 << 31, u32::MAX, 7]);
        let mut payload = vec![0; length(rng, 10)];
        rng.fill(&mut payload[..]);
        let mut made = frame(kind, rng.random(), stream, &payload);
        if rng.random_bool(0.1) {
            made[rng.random_range(0..3)] = rng.random();
        }
        bytes.extend(made);
    }
    count
}

fn flood(rng: &mut SmallRng, bytes: &mut Vec<u8>) -> usize {
    let one_of = match rng.random_range(0..6) {
        0 => frame(SETTINGS, 0, 0, &[]),
        1 => frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xFF, 0xFF].repeat(50)),
        2 => frame(PING, 0, 0, b"are you "),
        3 => frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        4 => frame(DATA, 0, 1, &[]),
        _ => frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
    };
    let count = length(rng, FLOOD_BITS);
    bytes.extend(one_of.repeat(count));
    count
}

/// Calls that are taken back as soon as they are made.
fn rapid_reset(target: &Target, rng: &mut SmallRng, bytes: &mut Vec<u8>) -> usize {
    let count = length(rng, FLOOD_BITS);
    let head = head(&call_head(target, "GET", "/livez"));
    for nth in 0..count as u32 {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * nth + 1, &head));
        bytes.extend(frame(RST_STREAM, 0, 2 * nth + 1, &[0, 0, 0, 8]));
    }
    count
}

/// A head in pieces that does not end, or is larger than any may be.
fn endless_head(target: &Target, rng: &mut SmallRng, bytes: &mut Vec<u8>) -> usize {
    let count = length(rng, FLOOD_BITS);
    bytes.extend(frame(HEADERS, 0, 1, &head(&call_head(target, "GET", "/livez"))));
    let piece =
        if rng.random_bool(0.3) { Vec::new() } else { head(&[("x-more", "m".repeat(200))]) };
    for _ in 0..count {
        bytes.extend(frame(CONTINUATION, 0, 1, &piece));
    }
    if rng.random_bool(0.5) {
        bytes.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
    }
    count
}

/// Heads that no client makes, and references into a table that is not there.
fn odd_heads(target: &Target, rng: &mut SmallRng, bytes: &mut Vec<u8>) -> usize {
    let count = length(rng, 5) as u32;
    for nth in 0..count {
        let mut fields = call_head(target, "GET", "/v1/assets");
        match rng.random_range(0..7) {
            0 => drop(fields.remove(rng.random_range(0..4))),
            1 => fields.push((":path", "/again".into())),
            2 => fields.push(("Upper-Case", "x".into())),
            3 => fields.push(("connection", "close".into())),
            4 => fields.push(("x-long", "l".repeat(length(rng, 17)))),
            5 => fields.push(("x-odd", "a\r\nb\0c".into())),
            _ => fields.push(("content-length", "18446744073709551616".into())),
        }
        let mut block = head(&fields);
        match rng.random_range(0..4) {
            0 => block.extend([0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),
            1 => block.extend([0x3F, 0xE1, 0xFF, 0x03]),
            2 => block.extend(b"\xBE".repeat(length(rng, 10))),
            _ => {}
        }
        block.truncate(16_384);
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * nth + 1, &block));
    }
    count as usize
}

/// Calls of the service, whose messages are framed rightly or wrongly.
fn calls(target: &Target, rng: &mut SmallRng, bytes: &mut Vec<u8>) -> usize {
    let count = length(rng, 5) as u32;
    for nth in 0..count {
        let stream = 2 * nth + 1;
        let (method, message) = one(rng, &MESSAGES);
        let path = format!("/crosslatch.v1.Exchange/{method}");
        let mut fields = call_head(target, "POST", &path);
        fields.push(("content-type", "application/grpc".into()));
        fields.push(("te", "trailers".into()));
        if rng.random_bool(0.1) {
            let encoding = one(rng, &["gzip", "zstd", "identity", "\u{80}"]);
            fields.push(("grpc-encoding", (*encoding).into()));
        }
        if rng.random_bool(0.1) {
            let timeout = one(rng, &["1n", "99999999H", "-1S", "x", "0m", "184467440737095516S"]);
            fields.push(("grpc-timeout", (*timeout).into()));
        }
        bytes.extend(frame(HEADERS, END_HEADERS, stream, &head(&fields)));
        let data = framed(rng, message);
        for part in data.chunks(16_000) {
            bytes.extend(frame(DATA, 0, stream, part));
        }
        if rng.random_bool(0.9) {
            bytes.extend(frame(DATA, END_STREAM, stream, &[]));
        }
    }
    count as usize
}

/// A message behind its prefix of five bytes.
fn framed(rng: &mut SmallRng, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    if rng.random_bool(0.3) {
        shake(rng, &mut message);
    }
    let right = message.len() as u32;
    let (flag, length) = match rng.random_range(0..10) {
        0 => (1, right),
        1 => (rng.random(), right),
        2 => (0, u32::MAX),
        3 => (0, right + 1),
        4 => (0, right.saturating_sub(1)),
        5 => (0, 16 * 1024 * 1024 + 1),
        _ => (0, right),
    };
    let mut data = [&[flag][..], &length.to_be_bytes(), &message].concat();
    match rng.random_range(0..10) {
        0 => data.truncate(rng.random_range(0..=data.len())),
        1 => data = data.repeat(length_of_repeat(rng)),
        _ => {}
    }
    data
}

fn length_of_repeat(rng: &mut SmallRng) -> usize {
    length(rng, 6)
}

fn call_head(target: &Target, method: &str, path: &str) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        (":method", method.to_owned()),
        (":scheme", "http".into()),
        (":path", path.to_owned()),
        (":authority", "x".into()),
    ];
    fields.extend(target.bearer.clone().map(|bearer| ("authorization", bearer)));
    fields
}

/// Fields as HPACK has them: literally, without any table.
fn head(fields: &[(&str, String)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value.as_bytes()] {
            integer(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// An integer with a prefix of seven bits.
fn integer(block: &mut Vec<u8>, value: usize) {
    let Some(mut rest) = value.checked_sub(127) else { return block.push(value as u8) };
    block.push(127);
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// What was answered, frame by frame: statuses, resets, goodbyes.
fn read(mut heard: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let Some((head, rest)) = heard.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        let code = |at: usize| payload.get(at + 3).copied().unwrap_or(0);
        match head[3] {
            HEADERS => all.extend(payload.first().and_then(|byte| status(*byte))),
            RST_STREAM => all.push(format!("h2 reset {}", code(0))),
            GOAWAY => all.push(format!("h2 goodbye {}", code(4))),
            _ => {}
        }
        heard = rest;
    }
    all
}

/// A status of HPACK's own table; any other has no number here, and trailers begin otherwise.
fn status(first: u8) -> Option<String> {
    let of_table = ["200", "204", "206", "304", "400", "404", "500"];
    match first {
        0x88..=0x8E => Some(format!("h2 {}", of_table[usize::from(first - 0x88)])),
        0x08 | 0x48 => Some("h2 other".into()),
        _ => None,
    }
}

#[test]
fn heads_and_statuses_are_as_hpack_has_them() {
    let long = "v".repeat(300);
    let block = head(&[("a", "b".into()), ("c", long)]);
    assert_eq!(block[..8], [0, 1, b'a', 1, b'b', 0, 1, b'c']);
    // 300 = 127 + 45 + 128.
    assert_eq!(block[8..11], [127, 45 | 128, 1]);
    let answers = [frame(HEADERS, 4, 1, &[0x8E]), frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 11])];
    assert_eq!(read(&answers.concat()), ["h2 500", "h2 goodbye 11"]);
    assert!(
        MESSAGES.iter().all(|(_, message)| crosslatch::proto::Batch::decode(&**message).is_ok()
            || !message.is_empty())
    );
}
