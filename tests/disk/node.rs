//! The server as a process of its own, under a tracer or not: how it began, what it said, how it
//! ended.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, bounded, select};
use rustix::process::{Pid, Signal, kill_process};

use super::http::Client;

/// What takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `crosslatch serve` on a free port; killed when dropped.
pub struct Node {
    child: Option<Child>,
    pub address: SocketAddr,
}

/// How a server ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// All that it wrote to standard error.
    pub said: String,
}

impl Ended {
    /// It gave up by itself, in order, and said why.
    #[track_caller]
    pub fn gave_up(&self, context: &str) {
        assert_eq!(self.status.code(), Some(4), "{context}: {self:?}");
        assert!(self.said.contains("crosslatch: "), "{context}: it did not say why: {self:?}");
        assert!(!self.said.contains("panicked"), "{context}: {self:?}");
    }
}

/// The binary, undisturbed by what the environment says of it, under `wrapper` if there is one.
fn command(wrapper: &[String], args: &[&str]) -> Command {
    let binary = env!("CARGO_BIN_EXE_crosslatch");
    let mut command = match wrapper {
        [] => Command::new(binary),
        [program, options @ ..] => {
            let mut command = Command::new(program);
            command.args(options).arg(binary);
            command
        }
    };
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CROSSLATCH_")) {
        command.env_remove(name);
    }
    command.args(args).env("RUST_LOG", "warn").env("CROSSLATCH_GRPC", "127.0.0.1:0");
    command
}

impl Node {
    /// Starts on `data`, which must be found right.
    #[track_caller]
    pub fn start(data: &Path) -> Self {
        Self::try_start(&[], data).unwrap_or_else(|ended| panic!("it did not start: {ended:?}"))
    }

    /// Starts on `data`; tells how it ended if it was never ready.
    pub fn try_start(wrapper: &[String], data: &Path) -> Result<Self, Ended> {
        let data = data.to_str().expect("a plain path");
        let mut command = command(wrapper, &["serve", "--data", data, "--listen", "127.0.0.1:0"]);
        Self::spawn(&mut command)
    }

    /// The same with limits of its own, by their names.
    pub fn start_with(data: &Path, limits: &[(&str, u64)]) -> Self {
        let data = data.to_str().expect("a plain path");
        let mut command = command(&[], &["serve", "--data", data, "--listen", "127.0.0.1:0"]);
        for (limit, value) in limits {
            let variable = format!("CROSSLATCH_LIMITS_{}", limit.to_uppercase());
            command.env(variable, value.to_string());
        }
        Self::spawn(&mut command).unwrap_or_else(|ended| panic!("it did not start: {ended:?}"))
    }

    fn spawn(command: &mut Command) -> Result<Self, Ended> {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (says, said) = bounded(1);
        std::thread::spawn(move || {
            let mut ready = String::new();
            stdout.read_line(&mut ready).expect("a line, or its end");
            // Who waited may have lost patience.
            let _ = says.send(ready);
        });
        // One that hangs is killed, and so has not ended as it should.
        let Ok(ready) = said.recv_timeout(PATIENCE) else {
            child.kill().expect("it runs");
            return Err(wait_for(child));
        };
        let address = ready.split_once("http://").and_then(|(_, rest)| rest.split(' ').next());
        match address {
            Some(address) => {
                Ok(Self { child: Some(child), address: address.parse().expect("an address") })
            }
            None => Err(wait_for(child)),
        }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    /// `kill -9`, and gone.
    pub fn kill(self) {
        drop(self);
    }

    /// SIGTERM; it must end in order.
    #[track_caller]
    pub fn stop(self) {
        kill_process(self.pid(), Signal::TERM).expect("it runs");
        let ended = self.wait();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    }

    /// Waits until it ends by itself.
    pub fn wait(mut self) -> Ended {
        wait_for(self.child.take().expect("it runs"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits for the end of a child, not for ever.
pub fn wait_for(mut child: Child) -> Ended {
    let pid = Pid::from_child(&child);
    let (done, waits) = bounded(1);
    let waiter = std::thread::spawn(move || {
        let status = child.wait().expect("it ran");
        // Read after its end: it says less than fits the pipe.
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut said).expect("text");
        }
        // Who waited may have lost patience.
        let _ = done.send(Ended { status, said });
    });
    select! {
        recv(waits) -> ended => {
            waiter.join().expect("it does not fail");
            ended.expect("it says how it ended")
        }
        default(2 * PATIENCE) => {
            let _ = kill_process(pid, Signal::KILL);
            panic!("it does not end");
        }
    }
}

/// The offline proof of a data directory. Killed if it hangs.
pub fn audit(data: &Path) -> Ended {
    let data = data.to_str().expect("a plain path");
    let mut command = command(&[], &["audit", "--data", data]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let child = child.expect("the binary starts");
    let pid = Pid::from_child(&child);
    let (done, over) = bounded::<()>(0);
    let watch = std::thread::spawn(move || {
        if over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            // It may be gone just now.
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let ended = wait_for(child);
    drop(done);
    watch.join().expect("it does not fail");
    ended
}

/// It must hold.
#[track_caller]
pub fn audited(data: &Path, context: &str) {
    let proof = audit(data);
    assert_eq!(proof.status.code(), Some(0), "{context}: {proof:?}");
}
