//! What streams out of the engine: events, and market data made of them.
//!
//! * `events`: readers in the same process, beside load: everything once, in order, the same for all.
//! * `command`: the same printed by `crosslatch events`.
//! * `sse`: `GET /v1/events` of the real binary: resumed, filtered, killed, stopped, poisoned.
//! * `markets`: `GET /v1/stream` beside random orders; what clients make of it is compared, message by
//!   message, with markets of the test's own.
//! * `sessions`: what a client of that may say, and how connections end.

#[path = "../support/http.rs"]
#[expect(dead_code, reason = "shared with tests that ask for more")]
mod http;
#[path = "../support/people.rs"]
#[expect(dead_code, reason = "shared with tests that ask for more")]
mod people;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "shared with tests that ask for more")]
mod process;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "shared with tests that ask for more")]
mod support;
#[path = "../trading/venue.rs"]
#[expect(dead_code, reason = "shared with tests that ask for more")]
mod venue;

mod command;
mod events;
mod follower;
mod markets;
mod sessions;
mod source;
mod sse;
