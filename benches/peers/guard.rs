//! What must be undone whatever happens: children ended, directories removed.
//!
//! Everything is owned by a value whose drop undoes it, also when a panic unwinds. A signal would
//! end the process without any drop, so [`watch`] takes it, and whoever waits here learns of it as
//! an error that unwinds in the same way.

use std::convert::Infallible;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError, bounded};
use crosslatch::clock::{Clock, SystemClock};
use tokio::signal::unix::{SignalKind, signal};

/// Nothing is ever sent: it closes on the first signal.
static STOP: OnceLock<Receiver<Infallible>> = OnceLock::new();

/// Turns SIGINT, SIGTERM and SIGHUP into errors of whoever waits.
///
/// # Errors
/// The signals cannot be taken.
pub fn watch() -> Result<()> {
    let (alive, stop) = bounded::<Infallible>(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    drop(inside);
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        drop(alive);
    })?;
    STOP.set(stop).ok().context("signals are watched twice")
}

/// Costs some nanoseconds.
///
/// # Errors
/// A signal came.
pub fn check() -> Result<()> {
    let stop = STOP.get().context("signals are not watched")?;
    ensure!(stop.try_recv() != Err(TryRecvError::Disconnected), "interrupted");
    Ok(())
}

/// Waits.
///
/// # Errors
/// A signal came.
pub fn pause(time: Duration) -> Result<()> {
    let stop = STOP.get().context("signals are not watched")?;
    match stop.recv_timeout(time) {
        Err(RecvTimeoutError::Timeout) => Ok(()),
        Ok(_) | Err(RecvTimeoutError::Disconnected) => bail!("interrupted"),
    }
}

/// A child that does not outlive this value.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Killed {
    /// Waits until the child ends, or `time` is over (`None`).
    ///
    /// # Errors
    /// A signal came.
    pub fn wait(&mut self, time: Duration) -> Result<Option<ExitStatus>> {
        let deadline = SystemClock.boot_nanos() + time.as_nanos() as u64;
        while SystemClock.boot_nanos() < deadline {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            pause(Duration::from_millis(20))?;
        }
        Ok(None)
    }
}

/// Runs a command to its end and returns its standard output, which passes through a file in
/// `scratch` as does its standard error.
///
/// # Errors
/// It cannot be started, takes longer than `limit`, or fails: then with its last words.
pub fn run(command: &mut Command, scratch: &Path, limit: Duration) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let (out, err) = (scratch.join("stdout"), scratch.join("stderr"));
    command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?);
    let mut child = Killed(command.spawn().with_context(|| format!("cannot start {name}"))?);
    let status = child.wait(limit)?;
    let Some(status) = status else { bail!("{name} did not end within {limit:?}") };
    if !status.success() {
        bail!("{name}: {status}: {}", last_words(&err));
    }
    Ok(String::from_utf8_lossy(&fs::read(&out)?).into_owned())
}

/// The last line of a log that is not blank.
pub fn last_words(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.unwrap_or("it said nothing").to_owned()
}
