//! The server through its front door: the real binary, a real directory, plain HTTP.

#[path = "../support/http.rs"]
mod http;
#[path = "../support/people.rs"]
mod people;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "gRPC and the edge have tests of their own")]
mod process;

mod archive;
mod bodies;
mod directory;
mod history;
mod listings;
mod lives;
mod machines;
mod operate;
mod orders;
mod prepared;
mod swaps;
mod transactions;
mod values;
mod watching;
