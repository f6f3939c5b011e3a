//! The work that every system is given, and what is noted of how it did.
//!
//! One swap is two transfers between two accounts in two assets: `a` gives `gives` of one asset to
//! `b`, and `b` gives `takes` of the other to `a`. Accounts are drawn uniformly, the direction by a
//! coin; amounts are 1 to 100 and funds so ample that nothing is refused, although each system
//! checks them.

use std::time::Duration;

use anyhow::Result;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use crate::guard;

/// Each account holds both; they are numbered from 1.
pub const ASSETS: u32 = 2;
/// What each account holds of each asset at the start.
pub const FUNDS: u64 = 1_000_000_000_000;
/// Largest amount of a transfer.
pub const AMOUNT_MAX: u64 = 100;
/// Swaps in one transaction of the batched class.
pub const BATCH: usize = 1_000;

/// How much of it, and for how long.
#[derive(Clone, Debug, Serialize)]
pub struct Workload {
    /// Accounts, numbered from 1.
    pub accounts: u64,
    /// What every generator is seeded with, besides the number of its caller.
    pub seed: u64,
    /// How long each measurement lasts.
    pub seconds: u64,
}

impl Workload {
    /// How long a measurement lasts.
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// How long each trial lasts that finds out how many callers help.
    pub fn trial_time(&self) -> Duration {
        (self.time() / 5).max(Duration::from_secs(1)).min(self.time())
    }
}

/// Both transfers happen or neither: `a` gives `gives` of `asset` and gets `takes` of the other.
#[derive(Clone, Copy, Debug)]
pub struct Swap {
    pub a: u64,
    pub b: u64,
    pub asset: u32,
    pub gives: u64,
    pub takes: u64,
}

/// An endless stream of swaps, the same for the same seed and caller.
pub struct Swaps {
    random: SmallRng,
    accounts: u64,
}

impl Swaps {
    /// The stream of one caller.
    pub fn new(workload: &Workload, caller: usize) -> Self {
        let seed = workload.seed.wrapping_add((caller as u64) << 32);
        Self { random: SmallRng::seed_from_u64(seed), accounts: workload.accounts }
    }

    /// The next swap; its accounts differ.
    pub fn draw(&mut self) -> Swap {
        let a = self.random.random_range(1..=self.accounts);
        let step = self.random.random_range(1..self.accounts);
        Swap {
            a,
            b: 1 + (a - 1 + step) % self.accounts,
            asset: self.random.random_range(1..=ASSETS),
            gives: self.random.random_range(1..=AMOUNT_MAX),
            takes: self.random.random_range(1..=AMOUNT_MAX),
        }
    }
}

/// Numbers are compared within a class only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Many swaps in one request or transaction.
    Batched,
    /// One swap a request, one caller that waits for each answer.
    OneAtATime,
    /// One swap a request, many such callers.
    ManyCallers,
}

impl Class {
    /// In the order of the report.
    pub const ALL: [Self; 3] = [Self::Batched, Self::OneAtATime, Self::ManyCallers];

    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Batched => "batched",
            Self::OneAtATime => "one swap at a time, one caller",
            Self::ManyCallers => "one swap at a time, many callers",
        }
    }
}

/// What was measured of one system in one class.
#[derive(Clone, Debug)]
pub struct Run {
    /// Swaps settled a second, up to the last answer.
    pub swaps_per_second: f64,
    /// From a request or transaction asked for to its answer, retries included.
    pub latency: Option<Latency>,
    /// Threads or clients, each with one request or transaction in flight.
    pub callers: usize,
    /// That no asset's total changed; `None` if nobody looked.
    pub verified: Option<bool>,
    /// What else there is to say.
    pub note: String,
}

/// Milliseconds within which half and 99 of 100 were answered.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
}

/// How many callers help a system most: tried until that is known, then kept for later rounds.
#[derive(Default)]
pub struct Callers(Option<usize>);

impl Callers {
    /// The candidate with the highest rate. One that fails cannot be it; if all do, the first is.
    ///
    /// # Errors
    /// A signal came.
    pub fn best_of(
        &mut self,
        candidates: &[usize],
        mut rate: impl FnMut(usize) -> Result<f64>,
    ) -> Result<usize> {
        if let Some(known) = self.0 {
            return Ok(known);
        }
        let (mut best, mut best_rate) = (candidates[0], 0.0);
        for callers in candidates {
            let rate = rate(*callers).unwrap_or(0.0);
            guard::check()?;
            if rate > best_rate {
                (best, best_rate) = (*callers, rate);
                self.0 = Some(best);
            }
        }
        Ok(best)
    }
}
