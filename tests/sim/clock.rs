//! Time that passes when the world says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crosslatch::clock::Clock;
use crosslatch::types::Time;

/// When the world begins, in microseconds since the Unix epoch.
const BEGIN_MICROS: u64 = 1_800_000_000_000_000;

/// Both clocks of a machine. Every clone is the same.
#[derive(Clone)]
pub struct SimClock(Arc<Clocks>);

struct Clocks {
    boot_nanos: AtomicU64,
    wall_micros: AtomicU64,
}

impl SimClock {
    pub fn new() -> Self {
        let (boot_nanos, wall_micros) = (AtomicU64::new(1), AtomicU64::new(BEGIN_MICROS));
        Self(Arc::new(Clocks { boot_nanos, wall_micros }))
    }

    /// So much time passes.
    pub fn pass(&self, nanos: u64) {
        self.0.boot_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.0.wall_micros.fetch_add(nanos / 1_000, Ordering::Relaxed);
    }

    /// The wall clock is set to something else.
    pub fn jump(&self, micros: i64) {
        let now = self.0.wall_micros.load(Ordering::Relaxed);
        let then = now.saturating_add_signed(micros).max(BEGIN_MICROS / 2);
        self.0.wall_micros.store(then, Ordering::Relaxed);
    }

    /// The machine starts anew: the boot clock does, too.
    pub fn reboot(&self) {
        self.0.boot_nanos.store(1, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn boot_nanos(&self) -> u64 {
        self.0.boot_nanos.load(Ordering::Relaxed)
    }

    fn wall(&self) -> Time {
        Time::new(self.0.wall_micros.load(Ordering::Relaxed))
    }
}
