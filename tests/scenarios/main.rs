//! What may go wrong, one story at a time, through the engine's door and on a real disk.
//!
//! Each story ends as every story must: nothing was created or destroyed, and a restart finds
//! everything as it was answered ([`venue::Venue::end`]).

#[path = "../support/child.rs"]
mod child;
#[path = "../support/mod.rs"]
mod support;

mod archive;
mod clock;
mod deaths;
mod deposits;
mod directory;
mod exclusive;
mod history;
mod holds;
mod ids;
mod keys;
mod limits;
mod poison;
mod starts;
mod swaps;
mod threads;
mod venue;
mod withdrawals;
