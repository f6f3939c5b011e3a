//! A server to be attacked: where it is, who may ask it, and what it said on its way.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::http::Client;
use crate::people::populate;
use crate::process::{Server, command, output};

/// Limits of what is remembered for good reasons, low, so that it does not hide what should not be.
const LIMITS: [(&str, u64); 6] = [
    ("LIMITS_REQUESTS_IN_FLIGHT_MAX", 4_096),
    ("LIMITS_RECENT_IDS_WINDOW_MS", 1_000),
    ("LIMITS_FOLD_REQUESTS_MAX", 20_000),
    ("LIMITS_UNFOLDED_REQUESTS_MAX", 40_000),
    // Who is turned away for too many failures is not looked at any closer.
    ("EDGE_FAILURES_BURST_MAX", 1 << 20),
    ("EDGE_FAILURES_PER_SECOND_MAX", 1 << 20),
];

pub struct Target {
    pub name: &'static str,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    /// What opens it, where it has keys.
    pub bearer: Option<String>,
    child: Child,
    room: TempDir,
}

impl Target {
    /// Without keys: everything is answered to everybody.
    pub fn open() -> Self {
        let room = peopled();
        Self::start("open", room, None)
    }

    /// With a key, without which hardly anything is answered.
    pub fn with_keys() -> Self {
        let room = peopled();
        let data = room.path().join("data");
        let data = data.to_str().expect("a plain path");
        let make = |name: &str, scopes: &str| {
            let args = ["key", "create", name, "--all-accounts", "--scope", scopes, "--json"];
            let made = output(&[&args[..], &["--data", data]].concat());
            assert!(made.status.success(), "{made:?}");
            let made: Value = serde_json::from_slice(&made.stdout).expect("one object");
            made["token"].as_str().expect("a token").to_owned()
        };
        // The first one must be able to make the others.
        make("operator", "read,trade,transfer,operate");
        let token = make("desk", "read,trade,transfer");
        Self::start("with keys", room, Some(format!("Bearer {token}")))
    }

    fn start(name: &'static str, room: TempDir, bearer: Option<String>) -> Self {
        let data = room.path().join("data");
        let errors = File::create(room.path().join("errors")).expect("a new file");
        let data = data.to_str().expect("a plain path");
        let mut server = command(&["serve", "--data", data, "--listen", "127.0.0.1:0"]);
        for (limit, value) in LIMITS {
            server.env(format!("CROSSLATCH_{limit}"), value.to_string());
        }
        let child = server.stdout(Stdio::piped()).stderr(errors).spawn();
        let mut child = child.expect("the binary starts");
        let mut ready = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut ready).expect("a line");
        let address = |scheme: &str| {
            let behind = ready.split_once(scheme).map(|(_, rest)| rest);
            let address = behind.and_then(|rest| rest.split_whitespace().next());
            address.unwrap_or_else(|| panic!("it is not ready: {ready:?}")).parse()
        };
        let (http, grpc) = (address("http://"), address("grpc://"));
        let (http, grpc) = (http.expect("an address"), grpc.expect("an address"));
        Self { name, http, grpc, bearer, child, room }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(self.room.path().join("errors")).expect("it was made")
    }

    /// It must have lived until now, without a panic, stop when it is told to, and leave all in order.
    pub fn end(mut self) {
        let ended = self.child.try_wait().expect("it is a child of this process");
        assert_eq!(ended, None, "{} ended by itself: {}", self.name, self.errors());
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        let status = self.child.wait().expect("it ran");
        let errors = self.errors();
        assert!(status.success(), "{} ended with {status}: {errors}", self.name);
        assert!(!errors.contains("panicked"), "{}: {errors}", self.name);
        let data = self.room.path().join("data");
        let audit = output(&["audit", "--data", data.to_str().expect("a plain path")]);
        assert_eq!(audit.status.code(), Some(0), "{audit:?}");
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A data directory with people and money, on which nobody runs.
fn peopled() -> TempDir {
    let room = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let server = Server::start(&room.path().join("data"));
    populate(&mut server.client());
    open_market(&mut server.client());
    server.ask_to_stop();
    assert!(server.wait().success());
    assert!(Path::new(room.path()).join("data").is_dir());
    room
}

fn open_market(client: &mut Client) {
    let market = serde_json::json!({"base": "ETH", "quote": "SOL", "tick_size": "1", "lot_size": 1,
        "maker_fee_bps": 0, "taker_fee_bps": 0, "fee_account": 1});
    client.put("/v1/markets/ETH-SOL", &market).with(200);
}
