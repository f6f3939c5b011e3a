//! A part of a test that runs in a process of its own, so that it can die there: the test binary
//! runs itself again, and the same test finds its part in the environment.
//!
//! What the child says goes through a pipe, which keeps it when the child is no more.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use crossbeam::channel::{Receiver, bounded};

/// Where a child finds its part.
const PART: &str = "CROSSLATCH_TEST_PART";

/// What this process is to do if it is a child.
pub fn part() -> Option<String> {
    std::env::var(PART).ok()
}

/// Says a line to the parent. Whole lines only: what is cut off by death was not said.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The test harness leaves its own words without a line break.
    let said = out.write_all(format!("\n{line}\n").as_bytes());
    said.and_then(|()| out.flush()).expect("the parent listens");
}

/// A running child.
pub struct Part {
    pub child: Child,
    /// What it says, piece by piece; disconnected when it has died.
    pub chunks: Receiver<Vec<u8>>,
    /// The pieces that were taken so far.
    pub heard: Vec<u8>,
}

impl Part {
    /// Runs the named test of this binary again, with that part.
    pub fn start(test: &str, part: &str) -> Self {
        Self::start_with(test, part, &[])
    }

    /// The same with these variables in its environment.
    pub fn start_with(test: &str, part: &str, environment: &[(&str, String)]) -> Self {
        let binary = std::env::current_exe().expect("this binary");
        let mut child = Command::new(binary)
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(PART, part)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a second process");
        let mut out = child.stdout.take().expect("piped");
        let (sender, chunks) = bounded(64);
        std::thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            while let Ok(n @ 1..) = out.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, chunks, heard: Vec::new() }
    }

    /// Waits for its end; returns all that it said, line by line, and how it ended.
    pub fn end(mut self) -> (Vec<String>, ExitStatus) {
        self.heard.extend(self.chunks.iter().flatten());
        let status = self.child.wait().expect("it is a child of this process");
        // What follows the last line break was cut off.
        let whole = self.heard.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        let text = String::from_utf8(self.heard[..whole].to_vec()).expect("text");
        (text.lines().map(str::to_owned).collect(), status)
    }
}

impl Drop for Part {
    /// A child does not outlive a test that failed.
    fn drop(&mut self) {
        // It has ended already, but for that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether it died of SIGKILL.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}
