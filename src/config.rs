//! Every limit of the engine, by name, with its unit last, checked once at the start.
//!
//! Limits that are part of a format or of the public interface are constants; what an operator
//! may turn is a field of [`Limits`]. [`Limits::validate`] asserts how they relate.

use serde::{Deserialize, Serialize};

use crate::error::Malformed;

/// Fewest legs of a swap.
pub const SWAP_LEGS_MIN: usize = 2;
/// Most legs of a swap.
pub const SWAP_LEGS_MAX: usize = 16;
/// Most requests in one submission, and in one batch between the actors.
pub const BATCH_REQUESTS_MAX: usize = 8_192;
/// The supply of an asset stays at or below this, so that no sum of balances can overflow.
pub const SUPPLY_MAX: u128 = u128::MAX / 2;
/// Most shards: a request's shards are a 64-bit mask.
pub const SHARDS_MAX: usize = 64;
/// Most assets.
pub const ASSETS_MAX: usize = 65_536;
/// Longest asset name.
pub const ASSET_NAME_BYTES_MAX: usize = 32;
/// Longest address of a chain of kind `other`, and longest token name.
pub const ADDRESS_BYTES_MAX: usize = 64;
/// Longest external reference of a deposit or withdrawal.
pub const REFERENCE_BYTES_MAX: usize = 128;
/// Most links that one request may add.
pub const LINKS_PER_REQUEST_MAX: usize = 64;
/// Longest body of an HTTP request.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What an operator may turn. The defaults suit two cores and 24 GiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Shard actors, 1 to 64. Balances move freely when it changes between two starts.
    pub shards: usize,
    /// Requests accepted and not yet answered; beyond that, `overloaded`.
    pub requests_in_flight_max: usize,
    /// Reads accepted and not yet answered; beyond that, `overloaded`.
    pub reads_in_flight_max: usize,
    /// Batches whose first votes are outstanding; while that many are, requests gather into larger ones.
    pub batches_voting_max: usize,
    /// Messages that a shard's mailbox holds before the coordinator waits for it.
    pub shard_mailbox_messages_max: usize,
    /// Messages that the commit log's mailbox holds before the coordinator and the shards wait for it.
    pub log_mailbox_messages_max: usize,
    /// Requests in one journal block, at most; one decision may exceed it.
    pub commit_group_requests_max: usize,
    /// Requests that one fold of the version store takes in, at most.
    pub fold_requests_max: usize,
    /// Requests that may be durable and not yet folded; beyond that the commit log waits.
    pub unfolded_requests_max: usize,
    /// How far back a version-7 id's time may lie for the engine to know from memory that it is new.
    pub recent_ids_window_ms: u64,
    /// Request ids remembered for that, at most (about 28 bytes each).
    pub recent_ids_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            shards: 2,
            requests_in_flight_max: 131_072,
            reads_in_flight_max: 16_384,
            batches_voting_max: 4,
            shard_mailbox_messages_max: 64,
            log_mailbox_messages_max: 1_024,
            commit_group_requests_max: 32_768,
            fold_requests_max: 1_000_000,
            unfolded_requests_max: 3_000_000,
            recent_ids_window_ms: 10_000,
            recent_ids_max: 20_000_000,
        }
    }
}

impl Limits {
    /// Checks every limit and how they relate.
    ///
    /// # Errors
    /// The first field that is out of its range, with the range.
    pub fn validate(&self) -> Result<(), Malformed> {
        let between = |field: &str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Malformed::new(field, format!("is {value}; give {low} to {high}")))
        };
        between("shards", self.shards, 1, SHARDS_MAX)?;
        between("requests_in_flight_max", self.requests_in_flight_max, 1, 1 << 24)?;
        between("reads_in_flight_max", self.reads_in_flight_max, 1, 1 << 20)?;
        between("batches_voting_max", self.batches_voting_max, 1, 64)?;
        between("shard_mailbox_messages_max", self.shard_mailbox_messages_max, 1, 1 << 16)?;
        between("log_mailbox_messages_max", self.log_mailbox_messages_max, 1, 1 << 20)?;
        between("commit_group_requests_max", self.commit_group_requests_max, 1, 1 << 20)?;
        between("fold_requests_max", self.fold_requests_max, 1, 1 << 28)?;
        between(
            "unfolded_requests_max",
            self.unfolded_requests_max,
            self.fold_requests_max,
            1 << 30,
        )?;
        // Of a longer window, ids could be forgotten before they are durable (`coordinator::ids`).
        let window = usize::try_from(self.recent_ids_window_ms).unwrap_or(usize::MAX);
        between("recent_ids_window_ms", window, 1_000, 3_600_000)?;
        between("recent_ids_max", self.recent_ids_max, 1_024, 1 << 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Limits::default().validate(), Ok(()));
    }

    #[test]
    fn a_limit_out_of_range_is_named() {
        let limits = Limits { shards: 65, ..Limits::default() };
        let error = limits.validate().expect_err("65 shards");
        assert_eq!(error.to_string(), "shards is 65; give 1 to 64");
        let limits = Limits { unfolded_requests_max: 5, ..Limits::default() };
        assert_eq!(limits.validate().expect_err("too few").field, "unfolded_requests_max");
    }
}
