//! What the numbers depend on besides the systems: the machine, its disk, and who else is busy.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use crosslatch::clock::{Clock, SystemClock};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::guard;
use crate::work::Latency;

/// The machine, as the report names it.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    pub cpu: String,
    pub cores: usize,
    pub memory_gib: u64,
    pub kernel: String,
    pub file_system: String,
    /// Over the last minute, before anything was measured.
    pub load_average: String,
}

impl Host {
    /// Asks the machine; `scratch` is where all data will lie.
    pub fn describe(scratch: &Path) -> Self {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: cores(),
            memory_gib: kib(&field("/proc/meminfo", "MemTotal")) >> 20,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            file_system: file_system(scratch),
            load_average: load.split(' ').next().unwrap_or("unknown").to_owned(),
        }
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// What follows `name ... :` in a file of such lines.
fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or("unknown", |(_, value)| value.trim()).to_owned()
}

fn kib(text: &str) -> u64 {
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The kind and device of the mount that `path` is on: the one with the longest matching path.
fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let over = fields.filter(|mount| mount.len() > 3 && path.starts_with(mount[1]));
    // Of two mounts on one path the later one is seen; max_by_key returns the last of equals.
    let nearest = over.max_by_key(|mount| mount[1].len());
    nearest.map_or("unknown".into(), |mount| format!("{} on {}", mount[2], mount[0]))
}

/// How long a plain append of 4 KiB and its `fdatasync` take: what any answer must wait for.
///
/// # Errors
/// The file cannot be written, or a signal came.
pub fn fsync_latency(scratch: &Path) -> Result<Latency> {
    const APPENDS_MAX: usize = 1_000;
    const TIME_MAX: Duration = Duration::from_secs(2);
    let path = scratch.join("fsync");
    let mut file = File::create(&path).context("cannot write where the data shall lie")?;
    let mut histogram = Histogram::<u64>::new(3)?;
    let start = SystemClock.boot_nanos();
    for _ in 0..APPENDS_MAX {
        let before = SystemClock.boot_nanos();
        if before - start > TIME_MAX.as_nanos() as u64 {
            break;
        }
        guard::check()?;
        file.write_all(&[7; 4_096])?;
        file.sync_data()?;
        histogram.record(SystemClock.boot_nanos() - before)?;
    }
    fs::remove_file(path)?;
    Ok(latency(&histogram))
}

/// The report's two figures of a histogram of nanoseconds.
pub fn latency(nanos: &Histogram<u64>) -> Latency {
    let millis = |quantile| nanos.value_at_quantile(quantile) as f64 / 1e6;
    Latency { p50: millis(0.5), p99: millis(0.99) }
}

/// How many cores are busy while none of the systems is at work: with other processes, or taken
/// by the machine's other guests. Takes a quarter of a second.
///
/// # Errors
/// A signal came.
pub fn others_busy_cores() -> Result<f64> {
    let before = ticks();
    guard::pause(Duration::from_millis(250))?;
    let after = ticks();
    let all = after.all.saturating_sub(before.all).max(1);
    let own = after.own.saturating_sub(before.own);
    let busy = after.busy.saturating_sub(before.busy).saturating_sub(own);
    Ok(busy as f64 / all as f64 * cores() as f64)
}

/// CPU time since boot, in the kernel's ticks.
struct Ticks {
    all: u64,
    /// Neither idle nor waiting for a disk.
    busy: u64,
    /// This process alone: RocksDB may have something to tidy up.
    own: u64,
}

fn ticks() -> Ticks {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let total = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal; what follows is counted in these already.
    let total: Vec<u64> = total.split_whitespace().skip(1).take(8).map(number).collect();
    let idle: u64 = total.iter().skip(3).take(2).sum();
    let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name may hold anything, so count from its closing parenthesis: utime and stime.
    let own = own.rsplit_once(')').map_or("", |(_, rest)| rest);
    let own = own.split_whitespace().skip(11).take(2).map(number).sum();
    let all = total.iter().sum();
    Ticks { all, busy: all - idle, own }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}
