//! The callers: each settles a batch of swaps in the way of its mode, and then the next.
//!
//! ```text
//! swap         one submission: the swaps
//! two-phase    a submission of prepares, and when they are answered one of commits
//! transaction  one read of all balances, then a submission of transactions that depend on it
//! orders       one submission: orders, and what amends and cancels those of earlier ones
//! ```
//!
//! In every mode but the last the swaps are the same; in all, a caller is an independent one with one submission in
//! flight, and a latency runs from handing over the first of a swap's requests to the last answer.

mod orders;
mod swap;
mod transaction;
mod two_phase;

use std::sync::{Arc, Mutex, MutexGuard};

use crate::clock::{Clock, SystemClock};
use crate::error::Error;

use super::args::Mode;
use super::runner::lock;
use super::tally::Tally;
use super::target::Line;
use super::turns::Turns;
use super::workload::ClientWorkload;

/// An independent caller.
pub(super) struct Caller {
    /// Whom it calls.
    pub(super) line: Line,
    /// When it may.
    pub(super) turns: Arc<Turns>,
    /// Where it keeps count.
    pub(super) tally: Arc<Mutex<Tally>>,
    /// Which swaps it wants settled.
    pub(super) workload: ClientWorkload,
    /// How.
    pub(super) mode: Mode,
    /// How many callers there are.
    pub(super) clients: usize,
    /// Requests in one submission, at most.
    pub(super) batch: usize,
    /// How often it tries again what met a conflict.
    pub(super) retries: u32,
}

impl Caller {
    /// Until it gets no more turns.
    ///
    /// # Errors
    /// Whatever ended the engine first.
    pub(super) async fn run(self) -> Result<(), Error> {
        match self.mode {
            Mode::Swap => swap::run(self).await,
            Mode::TwoPhase => two_phase::run(self).await,
            Mode::Transaction => transaction::run(self).await,
            Mode::Orders => orders::run(self).await,
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }
}

/// Boot-clock nanoseconds.
fn now_nanos() -> u64 {
    SystemClock.boot_nanos()
}

/// Milliseconds since the Unix epoch, for request ids.
fn unix_millis() -> u64 {
    SystemClock.wall().millis()
}
