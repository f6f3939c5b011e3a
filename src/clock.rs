//! Time, injected: nothing below the engine's door reads a clock of its own.
//!
//! [`Clock`] is the outside world's time; [`LogicalClock`] turns it into the time that is
//! stamped on decisions: the last value plus the boot-clock time elapsed, slewed by at most 1%
//! toward the wall clock. A wall clock that jumps neither expires things early nor moves
//! logical time back.

use crate::faults::{Bug, planted};
use crate::types::Time;

/// Where time comes from: the machine's clocks in the product, a script in a simulation.
pub trait Clock: Send + Sync + 'static {
    /// Nanoseconds since an arbitrary start, never going back, counting also while the machine sleeps.
    fn boot_nanos(&self) -> u64;

    /// Microseconds since the Unix epoch by the wall clock, which may jump.
    fn wall(&self) -> Time;
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn boot_nanos(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }

    fn wall(&self) -> Time {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Time::new(now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000)
    }
}

/// The coordinator's logical time. Pure: it is told what the clocks say.
#[derive(Clone, Debug)]
pub struct LogicalClock {
    now: Time,
    boot_nanos_last: u64,
}

/// Elapsed time is stretched or shortened by at most one part in this many.
const SLEW_PARTS: u64 = 100;

impl LogicalClock {
    /// Starts at the later of the wall clock and the last time that was ever stamped.
    pub fn start(last: Time, wall: Time, boot_nanos: u64) -> Self {
        let last = if planted(Bug::TimeFromWall) { Time::default() } else { last };
        Self { now: last.max(wall), boot_nanos_last: boot_nanos }
    }

    /// Advances by the boot-clock time elapsed, slewed toward `wall`, and returns the time.
    pub fn advance(&mut self, boot_nanos: u64, wall: Time) -> Time {
        let elapsed = boot_nanos.saturating_sub(self.boot_nanos_last) / 1_000;
        if elapsed == 0 {
            return self.now;
        }
        // Whole microseconds only: the remainder is kept for the next call.
        self.boot_nanos_last += elapsed * 1_000;
        let steady = self.now.get().saturating_add(elapsed);
        let slew = elapsed / SLEW_PARTS;
        let slewed = wall.get().clamp(steady - slew, steady.saturating_add(slew));
        self.now = Time::new(slewed.max(self.now.get()));
        self.now
    }

    /// The time last returned.
    pub fn now(&self) -> Time {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jumping_wall_clock_moves_logical_time_by_a_hundredth_at_most() {
        let mut clock = LogicalClock::start(Time::new(0), Time::new(1_000_000), 0);
        let hour = 3_600_000_000;
        let ahead = clock.advance(1_000_000_000, Time::new(1_000_000 + hour));
        assert_eq!(ahead, Time::new(2_010_000));
        let behind = clock.advance(2_000_000_000, Time::new(0));
        assert_eq!(behind, Time::new(3_000_000));
    }

    #[test]
    fn it_starts_no_earlier_than_what_was_stamped() {
        let clock = LogicalClock::start(Time::new(9), Time::new(5), 0);
        assert_eq!(clock.now(), Time::new(9));
    }

    #[test]
    fn it_never_goes_back_and_loses_no_fraction() {
        let mut clock = LogicalClock::start(Time::new(100), Time::new(100), 0);
        for nanos in (0..10_000).step_by(300) {
            let before = clock.now();
            assert!(clock.advance(nanos, Time::new(0)) >= before);
        }
        assert_eq!(clock.now(), Time::new(109));
    }
}
