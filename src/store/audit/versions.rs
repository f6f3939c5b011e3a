//! Which versions the store must hold, with history below a horizon partly gone.

use foldhash::fast::RandomState;
use std::hash::Hash;

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_128;

use crate::types::{Balance, BalanceKey, CommitSeq, Key};

/// Rows as a multiset: equal if count and sum of hashes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Multiset {
    pub(super) count: u64,
    sum: u128,
}

impl Multiset {
    pub(super) fn add(&mut self, hash: u128) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(hash);
    }
}

pub(super) fn balance_hash(key: BalanceKey, seq: CommitSeq, balance: Balance) -> u128 {
    let mut bytes = [0; 52];
    bytes[..8].copy_from_slice(&key.account.get().to_le_bytes());
    bytes[8..12].copy_from_slice(&key.asset.get().to_le_bytes());
    bytes[12..20].copy_from_slice(&seq.get().to_le_bytes());
    bytes[20..36].copy_from_slice(&balance.available.get().to_le_bytes());
    bytes[36..].copy_from_slice(&balance.held.get().to_le_bytes());
    xxh3_128(&bytes)
}

pub(super) fn record_hash(key: &Key, seq: CommitSeq, value: Option<&[u8]>) -> u128 {
    let mut bytes = [0; 41];
    bytes[..16].copy_from_slice(&key.hash128().to_le_bytes());
    bytes[16..24].copy_from_slice(&seq.get().to_le_bytes());
    if let Some(value) = value {
        bytes[24] = 1;
        bytes[25..].copy_from_slice(&xxh3_128(value).to_le_bytes());
    }
    xxh3_128(&bytes)
}

/// The versions that must be there: those above the horizon, and of each key the newest one at or
/// below it.
pub(super) struct Versions<K> {
    /// What is folded; nothing newer can be there.
    folded: CommitSeq,
    /// What is below may be gone; at most `folded`.
    horizon: CommitSeq,
    /// The newest version of each key at or below the horizon.
    kept: HashMap<K, CommitSeq, RandomState>,
    /// What must be there.
    pub(super) expected: Multiset,
}

impl<K: Eq + Hash> Versions<K> {
    pub(super) fn new(folded: CommitSeq, horizon: CommitSeq) -> Self {
        let horizon = horizon.min(folded);
        Self { folded, horizon, kept: HashMap::default(), expected: Multiset::default() }
    }

    /// The journal wrote a version.
    pub(super) fn write(&mut self, seq: CommitSeq, hash: u128) {
        if self.horizon < seq && seq <= self.folded {
            self.expected.add(hash);
        }
    }

    /// Whether the replay stands where the newest versions must be kept.
    pub(super) fn is_horizon(&self, seq: CommitSeq) -> bool {
        seq == self.horizon
    }

    /// These are the newest versions at the horizon.
    pub(super) fn keep(&mut self, newest: impl Iterator<Item = (K, CommitSeq, u128)>) {
        for (key, seq, hash) in newest {
            self.kept.insert(key, seq);
            self.expected.add(hash);
        }
    }

    /// Whether a version may be there and may be gone: a newer one, at or below the horizon, stands
    /// in for it.
    pub(super) fn may_be_gone(&self, key: &K, seq: CommitSeq) -> bool {
        seq <= self.horizon && self.kept.get(key).is_some_and(|kept| seq < *kept)
    }
}
