//! HTTP/2 on the port of HTTP: with prior knowledge, and where TLS agrees on it; and a WebSocket over TLS.
//!
//! Frames are written by hand, so that what is agreed on is what is spoken, and no client's own ideas.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use tokio_rustls::rustls::version::TLS13;
use tungstenite::client::IntoClientRequest;

use super::tls::{Authority, connect, path, serve};
use super::venue::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// `:status: 200`, as HPACK has it in its table.
const STATUS_200: u8 = 0x88;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Looks at a path; returns the first byte of the answer's head, and its body.
fn get(stream: &mut (impl Read + Write), path: &str, scheme: u8) -> (u8, Vec<u8>) {
    // `:method: GET`, the scheme, and `:path` and `:authority` as they are.
    let mut head = vec![0x82, scheme, 0x04, u8::try_from(path.len()).expect("short")];
    head.extend(path.as_bytes());
    head.extend([0x01, 1, b'x']);
    let end_of_all = 0x1 | 0x4;
    let said = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, end_of_all, 1, &head)];
    stream.write_all(&said.concat()).expect("it is read");
    let (mut first, mut body) = (0, Vec::new());
    loop {
        let mut begin = [0; 9];
        stream.read_exact(&mut begin).expect("a frame");
        let length = u32::from_be_bytes([0, begin[0], begin[1], begin[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).expect("a whole frame");
        let is_last = begin[4] & 0x1 != 0;
        match begin[3] {
            HEADERS => first = payload[0],
            DATA => body.extend(payload),
            GOAWAY => panic!("it does not speak: {payload:?}"),
            _ => continue,
        }
        if is_last {
            return (first, body);
        }
    }
}

#[test]
fn with_prior_knowledge_it_is_spoken_on_a_plain_connection() {
    let venue = Venue::open();
    let mut stream = TcpStream::connect(venue.server.loopback()).expect("it listens");
    let (head, body) = get(&mut stream, "/livez", 0x86);
    assert_eq!((head, &*body), (STATUS_200, &b"{\"status\":\"live\"}\n"[..]));
}

#[test]
fn over_tls_it_is_spoken_where_both_want_it_and_websockets_are_too() {
    let data = directory();
    let files = tempfile::tempdir().expect("a directory");
    Authority::new(files.path(), "ca").make(files.path(), "server");
    let operator = first_key(data.path(), "operator");
    let server = serve(data.path(), files.path(), &[]);
    let ca = path(files.path(), "ca.pem");
    let mut stream = connect(&server, &ca, &TLS13, &[b"h2", b"http/1.1"]).expect("it listens");
    let (head, _) = get(&mut stream, "/readyz", 0x87);
    assert_eq!(head, STATUS_200);
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]), "what is spoken was agreed on");
    // Who wants HTTP/1.1 gets that, and from there a WebSocket; with a key.
    for (token, status) in [(Some(&operator), 101), (None, 401)] {
        let stream = connect(&server, &ca, &TLS13, &[b"http/1.1"]).expect("it listens");
        let url = format!("wss://localhost:{}/v1/stream", server.address.port());
        let mut request = url.into_client_request().expect("a request");
        if let Some(token) = token {
            let bearer = format!("Bearer {}", token.reveal()).parse().expect("ASCII");
            request.headers_mut().insert("authorization", bearer);
        }
        match tungstenite::client(request, stream) {
            Ok((mut socket, answer)) => {
                assert_eq!(answer.status(), status);
                let ask = json!({"subscribe": [{"channel": "book", "market": "NONE"}]});
                let ask = tungstenite::Message::text(ask.to_string());
                socket.send(ask).expect("it is sent");
                let said = socket.read().expect("an answer");
                assert!(said.to_text().expect("text").contains("unknown_market"), "{said}");
            }
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                assert_eq!(answer.status(), status);
            }
            Err(other) => panic!("{other}"),
        }
    }
}
