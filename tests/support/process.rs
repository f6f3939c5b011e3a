//! The server as a process of its own: started, killed, stopped and waited for.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::http::Client;

/// A running `crosslatch serve` on a free port; killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// Where gRPC is answered.
    pub grpc: SocketAddr,
    /// The line with which it said that it is ready.
    pub ready: String,
}

/// The binary with `args`, undisturbed by what the environment says of it.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crosslatch"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CROSSLATCH_")) {
        command.env_remove(name);
    }
    // Many servers run at once.
    command.args(args).env("RUST_LOG", "warn").env("CROSSLATCH_GRPC", "127.0.0.1:0");
    command
}

fn serve_args(data: &Path) -> [&str; 5] {
    let data = data.to_str().expect("a plain path");
    ["serve", "--data", data, "--listen", "127.0.0.1:0"]
}

impl Server {
    /// Starts on `data` and waits until it is ready.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same with limits of its own, by their names.
    pub fn start_with(data: &Path, limits: &[(&str, u64)]) -> Self {
        let mut command = command(&serve_args(data));
        for (limit, value) in limits {
            let variable = format!("CROSSLATCH_LIMITS_{}", limit.to_uppercase());
            command.env(variable, value.to_string());
        }
        Self::ready(command)
    }

    /// The same with an archive, to which blocks of the journal go after a second.
    pub fn start_archiving(data: &Path, archive: &Path) -> Self {
        let mut command = command(&serve_args(data));
        command.arg("--journal-archive-dir").arg(archive);
        command.args(["--journal-archive-after-secs", "1"]);
        Self::ready(command)
    }

    /// The same at addresses of its own.
    pub fn start_at(data: &Path, http: SocketAddr, grpc: SocketAddr) -> Self {
        let (http, grpc) = (http.to_string(), grpc.to_string());
        let data = data.to_str().expect("a plain path");
        let args = ["serve", "--data", data, "--listen", &http, "--grpc", &grpc];
        Self::ready(command(&args))
    }

    /// The same where no file may grow beyond `kib`: a disk that is full sooner or later.
    pub fn start_on_small_disk(data: &Path, kib: u32) -> Self {
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kib * 2);
        let mut command = Command::new("sh");
        command.env("CROSSLATCH_GRPC", "127.0.0.1:0");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_crosslatch")]).args(serve_args(data));
        Self::ready(command)
    }

    /// The same with limits of its edge, by their names.
    pub fn start_edge(data: &Path, limits: &[(&str, u64)]) -> Self {
        let mut command = command(&serve_args(data));
        for (limit, value) in limits {
            let variable = format!("CROSSLATCH_EDGE_{}", limit.to_uppercase());
            command.env(variable, value.to_string());
        }
        Self::ready(command)
    }

    /// The same on another address, with more arguments.
    pub fn start_on(data: &Path, listen: &str, more: &[&str]) -> Self {
        let data = data.to_str().expect("a plain path");
        let mut command = command(&["serve", "--data", data, "--listen", listen]);
        command.args(more);
        Self::ready(command)
    }

    /// Its address on loopback, where it listens on all.
    pub fn loopback(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.address.port()))
    }

    fn ready(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let mut ready = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut ready).expect("a line");
        let address = |schemes: [&str; 2]| {
            let behind = |scheme| ready.split_once(scheme).map(|(_, rest)| rest);
            let address = schemes.into_iter().find_map(behind);
            let address = address.and_then(|rest| rest.split(' ').next());
            let address = address.unwrap_or_else(|| panic!("it is not ready: {ready:?}"));
            address.parse().expect("an address")
        };
        let (address, grpc) = (address(["http://", "https://"]), address(["grpc://", "grpcs://"]));
        Self { child, address, grpc, ready: ready.trim_end().to_owned() }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// `kill -9`, and gone.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ran");
    }

    /// `kill -9`, by whoever shares it.
    pub fn kill_now(&self) {
        kill_process(self.pid(), Signal::KILL).expect("it runs");
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// SIGTERM, without waiting.
    pub fn ask_to_stop(&self) {
        kill_process(self.pid(), Signal::TERM).expect("it runs");
    }

    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().expect("it ran")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command that is expected to end by itself.
pub fn output(args: &[&str]) -> Output {
    command(args).output().expect("the binary starts")
}

/// Runs `program` with `input`; `None` when it is not installed.
pub fn pipe_through(program: &str, args: &[&str], input: &str) -> Option<Output> {
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.ok()?;
    let mut stdin = child.stdin.take().expect("piped");
    std::io::copy(&mut input.as_bytes().take(u64::MAX), &mut stdin).expect("it reads");
    drop(stdin);
    Some(child.wait_with_output().expect("it ends"))
}
