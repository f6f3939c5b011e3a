//! The targets of the fuzzer: whatever is accepted can be asked everything without a panic, and
//! written again comes to the same bytes.
//!
//! What would be refused for its checksum alone gets the right one, so that what lies behind is
//! reached. That nothing asks for more memory than its input justifies is for the fuzzer to see,
//! which is told how much is too much.

mod blocks;
mod bodies;
mod rows;
mod texts;

/// Tries bytes, and says whether they were accepted.
pub type Target = fn(&[u8]) -> bool;

/// All of them, by name.
pub const TARGETS: [(&str, Target); 11] = [
    ("address", texts::address),
    ("block", blocks::block),
    ("body", bodies::body),
    ("command", blocks::command),
    ("hold", rows::hold),
    ("ids", rows::ids),
    ("keys", rows::keys),
    ("limits", texts::limits),
    ("manifest", texts::backup),
    ("record", rows::record),
    ("versions", rows::versions),
];
