//! The door, from outside: the real binary with keys, and everybody whom it must not let in.
//!
//! What must be refused is refused with the right status and code, and the engine never saw it: its seq
//! stays where it was. What may pass passes, so that a door that is shut proves nothing.

#[path = "../support/http.rs"]
#[expect(dead_code, reason = "who deletes here does it with a key")]
mod http;
#[path = "../support/people.rs"]
#[expect(dead_code, reason = "nobody looks at whole states here")]
mod people;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "no server here runs on a small disk")]
mod process;
#[path = "../streams/source.rs"]
#[expect(dead_code, reason = "streams are read here to their end, and no further")]
mod sse;

mod bodies;
mod browsers;
mod credentials;
mod grpc;
mod http2;
mod keys;
mod limits;
mod load;
mod reads;
mod routes;
mod signatures;
mod slow;
mod streams;
mod tls;
mod venue;
