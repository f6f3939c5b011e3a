//! Every interleaving of the few places where threads share memory without a channel, tried by
//! loom: how far things are, the blocks that are not yet folded, the poison, requests in flight.
//!
//! ```text
//! cargo test --release --no-default-features --features loom --test loom -- --nocapture
//! ```
//!
//! Each model says what it proves. Behind each stand its twins: the same model around a mistake that
//! was not made, which loom has to find, or the model would prove nothing. What loom cannot see into
//! is left out: that crossbeam's and tokio's channels wake whom they should.
//!
//! In one execution threads are interrupted where they need not wait at most 3 times, or as often as
//! the environment variable `LOOM_MAX_PREEMPTIONS` says: with 5 there are twenty times as many.
#![cfg(feature = "loom")]
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod in_flight;
mod poison;
mod progress;
mod unfolded;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs a model in every way there is; prints how many that were.
fn explore(what: &str, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let counted = executions.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.max_branches = 20_000;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let executions = executions.load(Ordering::Relaxed);
    println!("{what}: {executions} executions");
    assert!(executions > 1, "nothing was interleaved");
}
