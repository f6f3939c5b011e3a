//! A client of server-sent events on a plain socket, so that tests see what really crosses the wire.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long a test waits for the next piece before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub id: String,
    pub kind: String,
    pub data: Value,
}

/// An open stream.
pub struct Source {
    connection: BufReader<TcpStream>,
    /// What came of the body, and how much of it is read.
    text: String,
    read: usize,
}

impl Source {
    /// Opens a stream that the server must not refuse.
    pub fn open(address: SocketAddr, path: &str, last: Option<&str>) -> Self {
        let last = last.map(|last| format!("Last-Event-ID: {last}"));
        Self::open_with(address, path, &last.iter().map(|it| &**it).collect::<Vec<_>>())
    }

    /// The same with those headers.
    pub fn open_with(address: SocketAddr, path: &str, headers: &[&str]) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut connection = BufReader::new(stream);
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let head = format!("GET {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        connection.get_mut().write_all(head.as_bytes()).expect("it is sent");
        let mut this = Self { connection, text: String::new(), read: 0 };
        let status = this.line();
        assert!(status.contains(" 200 "), "{status}");
        let mut headers = Vec::new();
        loop {
            match this.line() {
                line if line.is_empty() => break,
                line => headers.push(line.to_ascii_lowercase()),
            }
        }
        assert!(headers.contains(&"content-type: text/event-stream".into()), "{headers:?}");
        this
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.connection.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Takes the next chunk of the body; false at its proper end.
    fn chunk(&mut self) -> bool {
        let size = self.line();
        let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("cut: {size:?}"));
        let mut bytes = vec![0; size + 2];
        self.connection.read_exact(&mut bytes).expect("a whole chunk");
        bytes.truncate(size);
        self.text += std::str::from_utf8(&bytes).expect("text");
        size > 0
    }

    /// The next event; `None` when the stream has ended as it should. Comments are left out.
    pub fn next(&mut self) -> Option<Told> {
        loop {
            while let Some((block, _)) = self.text[self.read..].split_once("\n\n") {
                self.read += block.len() + 2;
                if !block.starts_with(':') {
                    return Some(told(block));
                }
            }
            self.text.drain(..self.read);
            self.read = 0;
            if !self.chunk() {
                assert_eq!(self.text, "", "an event was cut short");
                return None;
            }
        }
    }

    /// The next events, so many.
    pub fn take(&mut self, count: usize) -> Vec<Told> {
        (0..count).map(|_| self.next().expect("the stream goes on")).collect()
    }

    /// All events up to the end of the stream.
    pub fn rest(&mut self) -> Vec<Told> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// All events up to that seq.
    pub fn up_to(&mut self, seq: u64) -> Vec<Told> {
        let mut all: Vec<Told> = Vec::new();
        while all.last().is_none_or(|last| last.seq() < seq) {
            all.push(self.next().expect("the stream goes on"));
        }
        all
    }
}

impl Told {
    pub fn seq(&self) -> u64 {
        self.id.parse().expect("a seq")
    }
}

fn told(block: &str) -> Told {
    let field = |name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_default().to_owned()
    };
    let data = serde_json::from_str(&field("data")).unwrap_or_else(|why| panic!("{why}: {block}"));
    Told { id: field("id"), kind: field("event"), data }
}
