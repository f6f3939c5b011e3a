//! What the disk alone takes: one small append and its sync, over and over.
//!
//! A durable answer cannot come faster than this, so a latency means little without it, and both
//! have to be measured on the same file system in the same minute.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clock::{Clock, SystemClock};

use super::tally::empty_histogram;

/// Appends in one probe.
const APPENDS: usize = 500;
/// Bytes of one append.
const APPEND_BYTES: usize = 4_096;
/// The file that is written, beside the engine's own, and removed.
const FILE_NAME: &str = "load-fsync-probe.tmp";

/// How long one append with its `fdatasync` takes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Probe {
    /// Median in milliseconds.
    pub(super) p50_ms: f64,
    /// 99th percentile in milliseconds.
    pub(super) p99_ms: f64,
}

/// Probes the file system of that directory.
///
/// # Errors
/// What the operating system says.
pub(super) fn run(directory: &Path) -> io::Result<Probe> {
    let path = directory.join(FILE_NAME);
    let probed = OpenOptions::new().create(true).append(true).open(&path).and_then(appends);
    std::fs::remove_file(&path)?;
    let nanos = probed?;
    let millis = |quantile| nanos.value_at_quantile(quantile) as f64 / 1e6;
    Ok(Probe { p50_ms: millis(0.5), p99_ms: millis(0.99) })
}

fn appends(mut file: File) -> io::Result<Histogram<u64>> {
    let mut nanos = empty_histogram();
    let bytes = [0x5A; APPEND_BYTES];
    for _ in 0..APPENDS {
        let began = SystemClock.boot_nanos();
        file.write_all(&bytes)?;
        file.sync_data()?;
        nanos.saturating_record(SystemClock.boot_nanos() - began);
    }
    Ok(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_measures_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let probe = run(directory.path()).unwrap();
        assert!(probe.p50_ms > 0.0 && probe.p99_ms >= probe.p50_ms, "{probe:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(run(&directory.path().join("missing")).is_err());
    }
}
