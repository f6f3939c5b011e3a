//! Rows of the version store: what every balance was after every commit that touched it.
//!
//! A fold takes in many blocks and writes one row per balance with all of its versions in those
//! blocks, under the *first* seq among them: `seek(version(key, at))` finds the row that holds
//! the newest version at or below `at`, whichever it is in the row. A hot balance thus costs one
//! row a fold instead of thousands.
//!
//! * [`PackWriter`], [`PackReader`]: the value of one row.
//! * [`Fold`]: blocks in, rows out, sorted by key.

mod fold;
mod pack;
#[cfg(test)]
mod tests;

pub use fold::Fold;
pub use pack::{PACK_BYTES_MAX, PackReader, PackWriter, last, newest_at};
