//! The HTTP interface against its OpenAPI document: the real binary, and every answer held against the
//! document that it serves itself.
//!
//! | file | who asks |
//! |---|---|
//! | `story` | the document's own examples, in their order: each works |
//! | `flows` | by hand: flows and refusals that generators do not find |
//! | `generated` | schemathesis, which makes requests from the document, right and wrong |
//!
//! `document` is the judge. It is stricter than the document is for clients: no answer may have a member
//! that is not described, and nothing may be accepted that does not fit what is.

#[expect(dead_code, reason = "the judge sends everything")]
#[path = "../support/http.rs"]
mod http;
#[expect(dead_code, reason = "no server here is killed or runs on a small disk")]
#[path = "../support/process.rs"]
mod process;

mod document;
mod flows;
mod generated;
mod story;
