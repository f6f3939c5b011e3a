//! A venue with a first key, and short words for asking it as somebody.

use std::net::SocketAddr;
use std::path::Path;

use crosslatch::access::secret::Token;
use crosslatch::access::signature::{
    KEY_HEADER, SIGNATURE_HEADER, Signed, TIMESTAMP_HEADER, body_hash,
};
use crosslatch::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Client, Reply};
use super::people::{id, populate};
use super::process::{Server, command};

/// A server with people, money, and the key `operator`, which may do everything.
pub struct Venue {
    pub data: TempDir,
    pub server: Server,
    pub operator: Token,
}

/// Somebody with a key, on a connection of his own.
pub struct Caller {
    pub client: Client,
    pub token: Token,
}

/// A key that may do everything, made while no server runs.
pub fn first_key(data: &Path, name: &str) -> Token {
    let data = data.to_str().expect("a plain path");
    let scopes = "read,trade,transfer,operate";
    let args =
        ["key", "create", name, "--all-accounts", "--scope", scopes, "--json", "--data", data];
    let made = command(&args).output().expect("it runs");
    assert!(made.status.success(), "{made:?}");
    let made: Value = serde_json::from_slice(&made.stdout).expect("one object");
    made["token"].as_str().expect("a token").parse().expect("of its form")
}

/// People and money, in a directory on which nobody runs.
pub fn directory() -> TempDir {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(data.path());
    populate(&mut server.client());
    server.ask_to_stop();
    assert!(server.wait().success());
    data
}

impl Venue {
    pub fn open() -> Self {
        Self::open_with(&[])
    }

    /// The same with limits of its edge, by their names.
    pub fn open_with(edge: &[(&str, u64)]) -> Self {
        let data = directory();
        let operator = first_key(data.path(), "operator");
        let server = Server::start_edge(data.path(), edge);
        Self { data, server, operator }
    }

    pub fn operator(&self) -> Caller {
        Caller::at(self.server.address, self.operator.clone())
    }

    /// A key made by the operator, of which some members are others.
    pub fn key(&self, name: &str, more: Value) -> Caller {
        let made = self.operator().post("/v1/api-keys", &key(name, more)).with(200);
        let token = made["token"].as_str().expect("a token").parse().expect("of its form");
        Caller::at(self.server.address, token)
    }

    /// How far the journal has come: the seq of what was settled last.
    pub fn seq(&self) -> u64 {
        let audit = self.operator().get("/v1/audit").with(200);
        audit["seq"].as_str().expect("a string").parse().expect("a number")
    }
}

/// The body that makes a key which may read and trade for accounts 1 and 2, so that it can swap what is theirs.
pub fn key(name: &str, more: Value) -> Value {
    let mut body = json!({"request_id": fresh(), "name": name, "scopes": ["read", "trade"],
                          "accounts": [1, 2]});
    let members = body.as_object_mut().expect("an object");
    members.extend(more.as_object().expect("an object").clone());
    body
}

/// An id that nobody used.
pub fn fresh() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1 << 40);
    id(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Milliseconds since 1970, as they are signed.
pub fn now_ms() -> u64 {
    SystemClock.wall().millis()
}

/// Headers as they are sent.
pub type Headers = Vec<(&'static str, String)>;

/// The headers that sign a request at that time.
pub fn sign_at(
    token: &Token,
    (method, target): (&str, &str),
    body: &[u8],
    request_id: &str,
    at_ms: u64,
) -> Headers {
    let timestamp = at_ms.to_string();
    let hash = body_hash(body);
    let signed = Signed { method, target, body: &hash, timestamp: &timestamp, request_id };
    let signature = signed.sign(&token.secret);
    let mut headers = vec![
        (KEY_HEADER, token.name.to_string()),
        (TIMESTAMP_HEADER, timestamp),
        (SIGNATURE_HEADER, signature),
        ("content-type", "application/json".into()),
    ];
    if !request_id.is_empty() {
        headers.push(("idempotency-key", request_id.into()));
    }
    headers
}

/// Sends with headers of one's own.
pub fn send(
    client: &mut Client,
    (method, target): (&str, &str),
    headers: &Headers,
    body: &[u8],
) -> Reply {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, it)| (*name, &**it)).collect();
    client.send(method, target, &headers, body)
}

impl Caller {
    pub fn at(address: SocketAddr, token: Token) -> Self {
        Self { client: Client::connect(address), token }
    }

    pub fn get(&mut self, path: &str) -> Reply {
        self.call("GET", path, b"")
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Reply {
        self.call("POST", path, body.to_string().as_bytes())
    }

    /// With the token as a bearer.
    pub fn call(&mut self, method: &str, path: &str, body: &[u8]) -> Reply {
        let bearer = format!("Bearer {}", self.token.reveal());
        let headers = [("Authorization", &*bearer), ("Content-Type", "application/json")];
        self.client.send(method, path, &headers, body)
    }

    /// The same, signed.
    pub fn signed(&mut self, method: &str, path: &str, body: &[u8]) -> Reply {
        let headers = sign_at(&self.token, (method, path), body, "", now_ms());
        send(&mut self.client, (method, path), &headers, body)
    }
}
