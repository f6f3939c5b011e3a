//! The server, at one place through all its lives.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::plan::LOCK_WAIT_MS;
use crate::process::command;

/// Where it is, and perhaps a life of it.
pub struct Node {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub data: PathBuf,
    errors: PathBuf,
    running: Option<Child>,
}

/// What may differ from life to life.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub shards: usize,
    pub fold_requests_max: usize,
}

impl Node {
    pub fn new(room: &Path) -> Self {
        // Two at once, so that they differ; the system does not give them away again soon.
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [http, grpc] = ports.map(|port| port.local_addr().expect("an address"));
        let (data, errors) = (room.join("data"), room.join("errors"));
        Self { http, grpc, data, errors, running: None }
    }

    /// Starts it, without waiting for anything.
    pub fn start(&mut self, life: Life) {
        assert!(self.running.is_none(), "it runs already");
        let errors = OpenOptions::new().create(true).append(true).open(&self.errors);
        let errors: File = errors.expect("a file that can be written");
        let (http, grpc) = (self.http.to_string(), self.grpc.to_string());
        let data = self.data.to_str().expect("a plain path");
        let mut server = command(&["serve", "--data", data, "--listen", &http, "--grpc", &grpc]);
        let limits = [
            ("SHARDS", life.shards as u64),
            ("FOLD_REQUESTS_MAX", life.fold_requests_max as u64),
            ("LOCK_WAIT_MS", LOCK_WAIT_MS),
        ];
        for (limit, value) in limits {
            server.env(format!("CROSSLATCH_LIMITS_{limit}"), value.to_string());
        }
        let child = server.stdout(Stdio::piped()).stderr(errors).spawn();
        self.running = Some(child.expect("the binary starts"));
    }

    /// Waits until it says that it is ready.
    pub fn ready(&mut self) {
        let child = self.running.as_mut().expect("it was started");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("once a life"));
        stdout.read_line(&mut line).expect("a line");
        assert!(line.contains("grpc://"), "it is not ready: {line:?}\n{}", self.errors());
    }

    /// SIGKILL, and gone.
    pub fn kill(&mut self) {
        let mut child = self.running.take().expect("it runs");
        let ended = child.try_wait().expect("it is a child of this process");
        assert_eq!(ended, None, "it ended by itself\n{}", self.errors());
        child.kill().expect("it runs");
        child.wait().expect("it ran");
    }

    /// SIGTERM, and gone in peace.
    pub fn stop(&mut self) {
        let mut child = self.running.take().expect("it runs");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
        let status = child.wait().expect("it ran");
        assert!(status.success(), "it stopped with {status}\n{}", self.errors());
    }

    /// All that was ever said to its standard error.
    pub fn errors(&self) -> String {
        // Before its first life there is none.
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            // It may be gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
