//! How much memory the servers take, and how much they may.
//!
//! What strangers can make a server keep is bounded, each by a limit of its own: the bodies that are being
//! read, all together; of each connection the head of HTTP/1.1, or what HTTP/2's windows let in and what
//! waits to be written. What else grows is the store's, as requests that happened to be right settle:
//! memtables and caches, up to their sizes.

use std::fmt;
use std::time::Duration;

use crossbeam::channel::after;
use crosslatch::config::{EdgeLimits, GRPC_CONNECTION_WINDOW_BYTES, GRPC_MESSAGE_BYTES_MAX};

use crate::Tally;
use crate::target::Target;

const MIB: u64 = 1 << 20;
/// All bodies that are being read: the server's `BODIES_KIB_MAX`.
const BODIES_BYTES: u64 = 256 * MIB;
/// Memtables and caches of a store with this little in it, and what the allocator keeps.
const STORE_BYTES: u64 = 256 * MIB;
const EVERY: Duration = Duration::from_millis(100);

/// One server's memory, in bytes.
#[derive(Clone, Debug)]
pub struct Memory {
    peak: u64,
    /// The first, and whenever twice as much time had passed.
    seen: Vec<u64>,
}

/// Looks every now and then until the time is over.
pub fn memory(targets: &[Target], tally: &Tally) -> Vec<Memory> {
    let first = |target: &Target| {
        let now = resident(target.pid());
        Memory { peak: now, seen: vec![now] }
    };
    let mut all: Vec<Memory> = targets.iter().map(first).collect();
    for look in 1_u64.. {
        let goes_on = tally.goes_on();
        for (memory, target) in all.iter_mut().zip(targets) {
            let now = resident(target.pid());
            memory.peak = memory.peak.max(now);
            if look.is_power_of_two() || !goes_on {
                memory.seen.push(now);
            }
        }
        if !goes_on {
            break;
        }
        let _ = after(EVERY).recv();
    }
    all
}

impl Memory {
    /// It must have stayed within what that many connections may make a server keep.
    pub fn check(&self, connections: usize) {
        let edge = EdgeLimits::default();
        // What the windows let in, a message that is being put together, a head, what waits to be written.
        let one = u64::from(GRPC_CONNECTION_WINDOW_BYTES)
            + GRPC_MESSAGE_BYTES_MAX as u64
            + edge.head_bytes_max as u64
            + MIB;
        let bound = self.seen[0] + BODIES_BYTES + STORE_BYTES + connections as u64 * one;
        assert!(self.peak <= bound, "{self}, and {} MiB are the bound", bound / MIB);
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen: Vec<u64> = self.seen.iter().map(|bytes| bytes / MIB).collect();
        write!(f, "{} MiB at most, {seen:?} from first to last", self.peak / MIB)
    }
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.unwrap_or_else(|why| panic!("the server is gone: {why}"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it says so");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1_024
}
