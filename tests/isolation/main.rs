//! What concurrent clients of the real engine see, written down as it happens and judged by somebody
//! who knows nothing of the engine.
//!
//! ```text
//! 20 clients ─► engine (a process of its own, which may be killed)
//!     └─ what was asked for, and what came of it, line by line ─► the parent ─► a verdict
//! ```
//!
//! * `lists`: transactions append to lists and read them. A checker of isolation (`adya`, which does
//!   what Elle does) infers from the lists alone which transaction must have come before which, adds
//!   which was over before which began, and looks for circles: at strict serializability there are none.
//! * `bank`: swaps, holds and transactions move money while others look. A plain checker (`ledger`)
//!   replays the receipts in the order of their seqs, and wants every answer, the refusals
//!   too, to be the truth at one seq that was neither over before the question nor in its future.
//!
//! Both run undisturbed, and with an engine that is killed with SIGKILL and starts again; what was not
//! answered may then have happened or not, but not halfway. That the checkers find what they look
//! for is shown on histories that were made, or tampered with, by hand (`histories`, `lists`, `ledger`).
//!
//! `CROSSLATCH_TRANSACTIONS=100000 CROSSLATCH_KILLS=50 CROSSLATCH_SEED=n cargo test --release --test
//! isolation -- --nocapture --test-threads=1` runs longer, kills more often, and does otherwise.

#[path = "../support/child.rs"]
mod child;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "there are no withdrawals here, and no third asset")]
mod support;

mod bank;
mod clients;
mod histories;
mod ledger;
mod lists;
