//! The gRPC face: the real binary, a real directory, the generated client.

#[path = "../support/http.rs"]
#[expect(dead_code, reason = "it sets the venue up, and no more")]
mod http;
#[path = "../support/people.rs"]
#[expect(dead_code, reason = "of the words for HTTP, a few are enough here")]
mod people;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "servers are started and stopped here, and nothing else")]
mod process;

mod calls;
mod client;
mod events;
mod lives;
mod market_data;
mod python;
mod refusals;
mod rust;
mod stream;
mod table;
mod venue;
