//! HTTP/1.1: valid calls with something wrong in the line, the headers, the length, the chunks or the body.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use crate::Tally;
use crate::calls::CALLS;
use crate::mutate::{length, one, shake, spoil};
use crate::target::Target;

/// How long an answer is waited for that may never come.
const PATIENCE: Duration = Duration::from_millis(80);
/// Of answers, so much is read, in so many pieces: a stream of events has no end.
const READ_BYTES_MAX: usize = 1 << 20;
const READS_MAX: usize = 64;

type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// One connection, with one request or a few.
pub fn attack(target: &Target, rng: &mut SmallRng, tally: &Tally) {
    let count = *one(rng, &[1, 1, 1, 2, 5]);
    let mut bytes = Vec::new();
    for nth in 0..count {
        bytes.extend(request(target, rng, nth + 1 == count));
    }
    if rng.random_bool(0.1) {
        shake(rng, &mut bytes);
    }
    let address = if rng.random_bool(0.05) { target.grpc } else { target.http };
    tally.sent(count, bytes.len());
    for status in statuses(&converse(address, rng, &bytes)) {
        tally.heard(&format!("http {status}"));
    }
}

/// Connects, writes, and reads until nothing comes any more; sometimes it does not even read.
pub fn converse(address: SocketAddr, rng: &mut SmallRng, bytes: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    let Ok(mut stream) = TcpStream::connect(address) else { return heard };
    let waits = stream.set_read_timeout(Some(PATIENCE));
    waits.and_then(|()| stream.set_write_timeout(Some(PATIENCE * 10))).expect("a socket");
    let whole = stream.write_all(bytes);
    let leaves = rng.random_bool(0.05);
    if leaves || rng.random_bool(0.05) {
        // It may have been closed from the other end.
        let _ = stream.shutdown(if leaves { Shutdown::Both } else { Shutdown::Write });
    }
    if whole.is_err() && leaves {
        return heard;
    }
    let mut buffer = vec![0; 1 << 16];
    for _ in 0..READS_MAX {
        match stream.read(&mut buffer) {
            Ok(read @ 1..) if heard.len() < READ_BYTES_MAX => heard.extend(&buffer[..read]),
            _ => break,
        }
    }
    heard
}

/// The statuses in what was answered.
pub fn statuses(heard: &[u8]) -> Vec<String> {
    const LINE: &[u8] = b"HTTP/1.1 ";
    let lines = heard.windows(LINE.len() + 3).filter(|at| at.starts_with(LINE));
    lines.map(|at| String::from_utf8_lossy(&at[LINE.len()..]).into_owned()).collect()
}

fn request(target: &Target, rng: &mut SmallRng, is_last: bool) -> Vec<u8> {
    let call = one(rng, &CALLS).clone();
    let mut body =
        if call.body.is_null() { Vec::new() } else { call.body.to_string().into_bytes() };
    if !call.body.is_null() && rng.random_bool(0.6) {
        body = spoil(rng, &call.body);
    } else if rng.random_bool(0.05) {
        body = vec![b'x'; length(rng, 25)];
    }
    let (mut method, mut path) = (call.method.into_bytes(), call.target.into_bytes());
    if rng.random_bool(0.1) {
        odd_line(rng, &mut method, &mut path);
    }
    let mut headers: Headers = vec![(b"Host".into(), b"x".into())];
    headers.push((b"Content-Type".into(), b"application/json".into()));
    if is_last && rng.random_bool(0.9) {
        headers.push((b"Connection".into(), b"close".into()));
    }
    credentials(target, rng, &mut headers);
    if rng.random_bool(0.3) {
        odd_header(rng, &mut headers);
    }
    let chunked = rng.random_bool(0.15);
    if chunked {
        headers.push((b"Transfer-Encoding".into(), b"chunked".into()));
        body = chunks(rng, &body);
    }
    if !chunked || rng.random_bool(0.05) {
        headers.push((b"Content-Length".into(), announced(rng, body.len())));
    }
    let versions: [&[u8]; 2] = [b"HTTP/1.0", b"HTTP/9.9"];
    let version = if rng.random_bool(0.98) { b"HTTP/1.1" } else { *one(rng, &versions) };
    let mut bytes = [&method[..], b" ", &path, b" ", version, b"\r\n"].concat();
    for (name, value) in headers {
        bytes.extend([&name[..], b": ", &value, b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}

fn odd_line(rng: &mut SmallRng, method: &mut Vec<u8>, path: &mut Vec<u8>) {
    let more = match rng.random_range(0..8) {
        0 => return shake(rng, method),
        1 => return shake(rng, path),
        2 => b"a".repeat(length(rng, 17)),
        3 => b"/%".repeat(length(rng, 10)),
        4 => b"?at=18446744073709551616&limit=-1&after=%zz&&==".to_vec(),
        5 => b"/%00/%ff/../..%2f%2e%2e/\xC3\x28".to_vec(),
        6 => b"?limit=99999999999999999999&depth=1e9&account=%31".to_vec(),
        _ => {
            *path = one(rng, &[&b"*"[..], b"http://x/v1/assets", b"//", b"", b"x:y"]).to_vec();
            return;
        }
    };
    path.extend(more);
}

/// Right ones, none, and many that are nearly right.
fn credentials(target: &Target, rng: &mut SmallRng, headers: &mut Headers) {
    let right = target.bearer.clone().unwrap_or_else(|| "Bearer none".into()).into_bytes();
    let name = b"Authorization".to_vec();
    match rng.random_range(0..10) {
        0..4 => headers.push((name, right)),
        4 => {
            let mut wrong = right;
            shake(rng, &mut wrong);
            wrong.retain(|byte| *byte != b'\n' && *byte != b'\r');
            headers.push((name, wrong));
        }
        5 => {
            let words: [&[u8]; 5] =
                [b"Bearer", b"Bearer ", b"Basic eDp5", b"bearer \xFF", b"Bearer a.b.c.d"];
            headers.push((name, one(rng, &words).to_vec()));
        }
        6 => headers.push((name, [&b"Bearer "[..], &b"k".repeat(length(rng, 16))].concat())),
        7 => {
            headers.push((name.clone(), right.clone()));
            headers.push((name, right));
        }
        8 => signature(rng, headers),
        _ => {}
    }
}

fn signature(rng: &mut SmallRng, headers: &mut Headers) {
    let times: [&[u8]; 6] =
        [b"0", b"-1", b"18446744073709551615", b"99999999999999999999999", b"1763861737123 ", b"x"];
    let mut signature = b"0123456789abcdef".repeat(4);
    if rng.random_bool(0.5) {
        shake(rng, &mut signature);
        signature.retain(|byte| *byte != b'\n' && *byte != b'\r');
    }
    let mut all: Headers = vec![
        (b"X-Crosslatch-Key".into(), b"desk".into()),
        (b"X-Crosslatch-Timestamp".into(), one(rng, &times).to_vec()),
        (b"X-Crosslatch-Signature".into(), signature),
        (b"Idempotency-Key".into(), b"0198f000-0000-7000-8000-000000000001".into()),
    ];
    if rng.random_bool(0.5) {
        all.remove(rng.random_range(0..all.len()));
    }
    headers.extend(all);
}

fn odd_header(rng: &mut SmallRng, headers: &mut Headers) {
    let at = rng.random_range(0..=headers.len());
    let (name, value): (&[u8], Vec<u8>) = match rng.random_range(0..13) {
        0 => (b"X-Long", b"v".repeat(length(rng, 18))),
        1 => {
            let header = (b"X-Many".to_vec(), b"v".to_vec());
            let count = length(rng, 10);
            return headers.extend(vec![header; count]);
        }
        2 => (b"X-Odd", b"\x00\x01\x7F".to_vec()),
        3 => (b"X-Folded", b"a\r\n b\r\n\tc".to_vec()),
        4 => (b"X No Colon\r\nX", b"1".to_vec()),
        5 => (b"Host ", b"y".to_vec()),
        6 => (b"Host", b"\xFF\xFE".to_vec()),
        7 => (b"Expect", b"100-continue".to_vec()),
        8 => (b"Upgrade", one(rng, &[&b"h2c"[..], b"websocket", b"\x80"]).to_vec()),
        9 => (b"Idempotency-Key", b"0".repeat(length(rng, 12))),
        10 => (
            b"Content-Type",
            one(rng, &[&b"text/plain"[..], b"application/json; charset=\xFF"]).to_vec(),
        ),
        11 => (b"Transfer-Encoding", one(rng, &[&b"gzip"[..], b"chunked, chunked", b"x"]).to_vec()),
        _ => (b"", b"nameless".to_vec()),
    };
    headers.insert(at, (name.to_vec(), value));
}

/// A length, mostly the right one.
fn announced(rng: &mut SmallRng, right: usize) -> Vec<u8> {
    let wrong: [&[u8]; 7] =
        [b"0", b"-1", b"18446744073709551616", b"9223372036854775807", b"1e3", b"0x10", b""];
    match rng.random_range(0..30) {
        0 => one(rng, &wrong).to_vec(),
        1 => (right + length(rng, 24)).to_string().into_bytes(),
        2 => right.saturating_sub(length(rng, 8)).to_string().into_bytes(),
        3 => format!("{right}\r\nContent-Length: {}", right + 1).into_bytes(),
        _ => right.to_string().into_bytes(),
    }
}

fn chunks(rng: &mut SmallRng, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Of a long body not too many, as some have long lines of their own.
    let size = length(rng, 14).max(body.len() / 256).max(1);
    for chunk in body.chunks(size) {
        let length = chunk.len();
        let line = match rng.random_range(0..60) {
            0 => "ffffffffffffffff".into(),
            1 => format!("{:x}", length + 1),
            2 => format!("{length:x};{}", "x".repeat(rng.random_range(0..40_000))),
            3 => "zz".into(),
            4 => format!("{length:x}\n"),
            5 => format!("{length:040x}"),
            _ => format!("{length:x}"),
        };
        bytes.extend([line.as_bytes(), b"\r\n", chunk, b"\r\n"].concat());
    }
    match rng.random_range(0..10) {
        0 => {}
        1 => bytes.extend(
            [&b"0\r\n"[..], &b"X-Trailer: v\r\n".repeat(length(rng, 12)), b"\r\n"].concat(),
        ),
        2 => bytes.extend(b"0\r\n\r"),
        _ => bytes.extend(b"0\r\n\r\n"),
    }
    bytes
}
