//! A server with variables, flags and a log of its choosing.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::http::Client;
use super::process::command;

/// A running `crosslatch serve`; killed when dropped.
pub struct Launched {
    child: Child,
    pub address: SocketAddr,
    pub ready: String,
    log: tempfile::NamedTempFile,
}

/// `crosslatch serve` on `data` and a free port.
pub fn serve(data: &Path) -> Command {
    serve_on(data, "127.0.0.1:0")
}

/// The same on a port that was taken before.
pub fn serve_on(data: &Path, listen: &str) -> Command {
    let data = data.to_str().expect("a plain path");
    command(&["serve", "--data", data, "--listen", listen])
}

impl Launched {
    /// Starts it and waits until it is ready.
    pub fn ready(mut command: Command) -> Self {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let stderr: File = log.reopen().expect("the file");
        let spawned = command.stdout(Stdio::piped()).stderr(stderr).spawn();
        let mut child = spawned.expect("the binary starts");
        let mut ready = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut ready).expect("a line");
        let address = ready.split_once("http://").and_then(|(_, rest)| rest.split(' ').next());
        let address = address.unwrap_or_else(|| panic!("it is not ready: {ready:?}"));
        let address = address.parse().expect("an address");
        Self { child, address, ready, log }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    pub fn ask_to_stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
    }

    /// SIGTERM, the end, and everything that was logged.
    pub fn stop(self) -> (ExitStatus, String) {
        self.ask_to_stop();
        self.end()
    }

    /// The end that comes by itself, and everything that was logged.
    pub fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("it ran");
        let mut log = String::new();
        self.log.reopen().expect("the file").read_to_string(&mut log).expect("text");
        (status, log)
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
