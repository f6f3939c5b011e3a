//! A command that is run to its end, and what it said.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use super::process::command;

/// What a command said, and its exit status.
#[derive(Debug)]
pub struct Said {
    pub out: String,
    pub err: String,
    pub status: i32,
}

/// Runs a command line; arguments hold no spaces.
pub fn run(line: &str) -> Said {
    end(command(&line.split(' ').collect::<Vec<_>>()))
}

/// The same against a server.
pub fn run_at(address: SocketAddr, line: &str) -> Said {
    run(&format!("{line} --url http://{address}"))
}

/// Runs a command that ends by itself.
pub fn end(mut command: Command) -> Said {
    let done = command.output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let status = done.status.code().expect("it ends by itself");
    Said { out: text(&done.stdout), err: text(&done.stderr), status }
}

impl Said {
    /// What it printed, with that status.
    #[track_caller]
    pub fn with(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
