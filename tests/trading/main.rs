//! Orders through the engine's door, on a real disk: their trades are swaps of what was set aside, and
//! settle with the order that made them or not at all.
//!
//! * `stories`: what may happen to an order, one case at a time.
//! * `chance`: many callers at once. What every market did is replayed in the order of the seqs by a
//!   market of the test's own, which must come to the same; a ledger adds up what moved.
//! * `listings`: an account's orders and a market's trades, page by page, meanwhile: each page is what the
//!   receipts up to its seq say.

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "shared with tests that ask for more")]
mod support;

mod chance;
mod listings;
mod stories;
mod venue;
