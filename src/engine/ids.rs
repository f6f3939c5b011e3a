//! Request ids that the engine makes itself, for transactions that it begins.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;
use crate::types::RequestId;

/// Makes version-7 ids. Two sources never make the same one, but by chance (74 random bits).
#[derive(Debug, Default)]
pub(super) struct IdSource {
    /// Keyed with the operating system's randomness.
    random: RandomState,
    made: AtomicU64,
}

impl IdSource {
    /// An id that was never made before.
    pub(super) fn next(&self, clock: &dyn Clock) -> RequestId {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let (high, low) = (self.bits(number, 0), self.bits(number, 1));
        RequestId::v7(clock.wall().millis(), u128::from(high) << 64 | u128::from(low))
    }

    /// Below `max`: how far apart those who try again are spread.
    pub(super) fn jitter(&self, max: u64) -> u64 {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        self.bits(number, 2) % max.max(1)
    }

    fn bits(&self, number: u64, part: u8) -> u64 {
        self.random.hash_one((number, part))
    }
}
