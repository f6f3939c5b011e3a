//! Request ids that the engine makes itself, for transactions that it begins.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;
use crate::types::RequestId;

/// Makes version-7 ids. Two sources never make the same one, but by chance (74 random bits).
#[derive(Debug)]
pub struct IdSource {
    random: Randomness,
    made: AtomicU64,
}

#[derive(Debug)]
enum Randomness {
    /// Keyed by the operating system.
    System(RandomState),
    /// The same for the same seed.
    Seeded(u64),
}

impl Default for IdSource {
    fn default() -> Self {
        Self { random: Randomness::System(RandomState::new()), made: AtomicU64::new(0) }
    }
}

impl IdSource {
    /// One whose ids can be foretold: for a simulation, which must be able to repeat itself.
    pub fn seeded(seed: u64) -> Self {
        Self { random: Randomness::Seeded(seed), made: AtomicU64::new(0) }
    }

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
        match &self.random {
            Randomness::System(random) => random.hash_one((number, part)),
            Randomness::Seeded(seed) => {
                let mut bytes = [part; 17];
                bytes[..8].copy_from_slice(&seed.to_be_bytes());
                bytes[8..16].copy_from_slice(&number.to_be_bytes());
                xxhash_rust::xxh3::xxh3_64(&bytes)
            }
        }
    }
}
