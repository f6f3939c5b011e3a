//! The words of the engine as types: who, what, how much, and in which order.
//!
//! Every number that means something has a type of its own, so that an account cannot be
//! passed for an asset, nor an amount be added without saying what happens on overflow.
//!
//! ```
//! use crosslatch::types::{AccountId, Amount};
//!
//! let alice = AccountId::new(1);
//! assert!(alice.shard(4) < 4);
//! assert_eq!(Amount::new(u128::MAX).checked_add(Amount::new(1)), None);
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Declares a number with a meaning: ordered, hashable, printable, never mixed with another.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the number.
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The number itself.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A party that holds balances. Chosen by the venue.
    AccountId(u64)
}

number! {
    /// A token on a chain, numbered densely from 0 in the order of creation.
    AssetId(u32)
}

number! {
    /// A market, numbered densely from 0 in the order of creation.
    MarketId(u32)
}

number! {
    /// A chain, numbered by the venue; for EVM chains the EIP-155 chain id.
    ChainId(u64)
}

number! {
    /// The dense number of a committed request, from 1; the MVCC version of every row that it wrote.
    /// 0 means "before anything".
    CommitSeq(u64)
}

number! {
    /// The dense number of a journal block, from 1.
    BlockNumber(u64)
}

number! {
    /// Logical time in microseconds since the Unix epoch, stamped by the coordinator; never goes back.
    Time(u64)
}

impl AccountId {
    /// The shard, below `shards`, that owns the account with all its balances.
    ///
    /// Fibonacci hashing, then a multiply-shift reduction (Lemire 2016): cheap enough to be
    /// worked out again wherever it is needed.
    pub const fn shard(self, shards: usize) -> usize {
        let mixed = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        ((mixed * shards as u64) >> 32) as usize
    }
}

impl CommitSeq {
    /// The number after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// This number plus `n`.
    pub const fn plus(self, n: u64) -> Self {
        Self(self.0 + n)
    }
}

impl BlockNumber {
    /// The number after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Time {
    /// No deadline: later than any time that is ever stamped.
    pub const NEVER: Self = Self(u64::MAX);

    /// Milliseconds since the Unix epoch, rounded down.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000
    }
}

/// A quantity of one asset in its smallest unit (wei, lamport, satoshi). Never fractional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u128);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Wraps a count of smallest units.
    pub const fn new(units: u128) -> Self {
        Self(units)
    }

    /// The count of smallest units.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// `None` on overflow: value is refused, never wrapped.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// `None` when `other` is more than there is.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Amount {
    type Err = String;

    /// Parses decimal digits; says which rule anything else breaks.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; give a whole number of smallest units".into());
        }
        if text.starts_with('-') {
            return Err("is negative; amounts are whole numbers above zero".into());
        }
        if text.starts_with(|first: char| first.is_ascii_digit()) && text.contains(['.', 'e', 'E'])
        {
            let why = "is fractional; give a whole number of smallest units, as in 1500000000 for 1.5 \
                       of an asset with 9 decimals";
            return Err(why.into());
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("is not a decimal number; give one, as in 1500000000".into());
        }
        text.parse().map(Self).map_err(|_| format!("is above the largest amount, {}", u128::MAX))
    }
}

impl Serialize for Amount {
    /// A decimal string: amounts exceed 2^53, above which JSON readers lose digits.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The 128-bit id under which a caller sends a request: sent twice, it takes effect once.
///
/// UUIDv7 (RFC 9562) is recommended, as its leading timestamp lets the engine know from memory
/// that it never saw the id. Any unique id is correct, only slower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u128);

impl RequestId {
    /// Wraps the 128 bits, most significant first as in a UUID's text.
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// The 128 bits.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// Builds a version-7 id from milliseconds since the Unix epoch (48 bits) and 74 random bits.
    pub const fn v7(unix_millis: u64, random: u128) -> Self {
        let time = ((unix_millis & 0xFFFF_FFFF_FFFF) as u128) << 80;
        let rand_a = ((random >> 62) & 0xFFF) << 64;
        let rand_b = random & 0x3FFF_FFFF_FFFF_FFFF;
        Self(time | (7 << 76) | rand_a | (0b10 << 62) | rand_b)
    }

    /// The time inside a version-7 id, in milliseconds since the Unix epoch; `None` for any other id.
    pub const fn v7_millis(self) -> Option<u64> {
        let version = (self.0 >> 76) & 0xF;
        let variant = (self.0 >> 62) & 0b11;
        if version == 7 && variant == 0b10 { Some((self.0 >> 80) as u64) } else { None }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}

impl FromStr for RequestId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        uuid::Uuid::try_parse(text).map(|uuid| Self(uuid.as_u128())).map_err(|error| {
            format!("is not a UUID: {error}; give one, as in 018bcfe5-687b-7000-8000-000000000001")
        })
    }
}

impl Serialize for RequestId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Names a hold: the id of the request that made it. An id, not a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Token(RequestId);

impl Token {
    /// The hold that the request of that id made.
    pub const fn of(request: RequestId) -> Self {
        Self(request)
    }

    /// The request that made the hold.
    pub const fn request(self) -> RequestId {
        self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

/// What became of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Its amounts moved.
    Committed,
    /// Its amounts went back, because somebody said so.
    RolledBack,
    /// Its amounts went back, because nobody said anything in time.
    Expired,
}

impl Resolution {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Committed, Self::RolledBack, Self::Expired];

    /// The name: part of the public interface, and a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A caller's name for a value: 1 to [`crate::config::KEY_BYTES_MAX`] bytes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// Wraps the bytes; their number is checked with the transaction that they are part of.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// 128 bits that stand for the key where its bytes would take too much room.
    pub fn hash128(&self) -> u128 {
        xxhash_rust::xxh3::xxh3_128(&self.0)
    }

    /// The shard, below `shards`, that owns the key.
    pub fn shard(&self, shards: usize) -> usize {
        AccountId::new(self.hash128() as u64).shard(shards)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.escape_ascii())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

/// Something with a version that a transaction can read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A value under a caller's key.
    Key(Key),
    /// A balance.
    Balance(BalanceKey),
}

impl Subject {
    /// The shard, below `shards`, that owns it.
    pub fn shard(&self, shards: usize) -> usize {
        match self {
            Self::Key(key) => key.shard(shards),
            Self::Balance(balance) => balance.account.shard(shards),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "key {key}"),
            Self::Balance(of) => {
                write!(f, "the balance of account {}, asset {}", of.account, of.asset)
            }
        }
    }
}

/// The family of a chain: it decides how an address is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChainKind {
    /// Ethereum and its kin: 20 bytes in hex, EIP-55 when mixed case.
    Evm,
    /// Solana: base58 of 32 bytes.
    Solana,
    /// Bitcoin: bech32, bech32m or base58check.
    Bitcoin,
    /// Any other chain: opaque text of at most 64 bytes.
    Other,
}

/// What an account has of one asset, in the asset's smallest unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Free to be spent.
    pub available: Amount,
    /// Set aside by holds.
    pub held: Amount,
}

impl Balance {
    /// Available and held together. Cannot overflow: an asset's supply is capped.
    pub fn total(self) -> Amount {
        self.available.checked_add(self.held).expect("the supply cap bounds every balance")
    }
}

/// One account's balance of one asset: what a version row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BalanceKey {
    /// The owner.
    pub account: AccountId,
    /// The asset.
    pub asset: AssetId,
}

/// One movement of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Who pays.
    pub from: AccountId,
    /// Who is paid.
    pub to: AccountId,
    /// In which asset.
    pub asset: AssetId,
    /// How much, above zero.
    pub amount: Amount,
}

/// What a venue takes: its kill switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Everything.
    #[default]
    Normal = 0,
    /// What gives back (cancellations, rollbacks, cancelled withdrawals) and what was agreed
    /// already (commits, confirmations), and deposits; nothing new.
    CancelOnly = 1,
    /// The same, and withdrawals.
    WithdrawOnly = 2,
    /// Nothing of callers; holds and orders whose time is over still end.
    Halted = 3,
}

impl Operation {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Normal, Self::CancelOnly, Self::WithdrawOnly, Self::Halted];

    /// The name as it is written in requests and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::CancelOnly => "cancel_only",
            Self::WithdrawOnly => "withdraw_only",
            Self::Halted => "halted",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|state| state.name() == text);
        known.ok_or_else(|| {
            format!("is {text:?}; give normal, cancel_only, withdraw_only or halted")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_say_which_rule_is_broken() {
        let max = u128::MAX.to_string();
        assert_eq!(max.parse(), Ok(Amount::new(u128::MAX)));
        assert_eq!("007".parse(), Ok(Amount::new(7)));
        for (text, rule) in [
            ("", "empty"),
            ("-1", "negative"),
            ("1.5", "fractional"),
            ("1e18", "fractional"),
            ("ten", "decimal"),
            ("+1", "decimal"),
            ("340282366920938463463374607431768211456", "largest"),
            ("1000000000000000000000000000000000000000000", "largest"),
        ] {
            let error = text.parse::<Amount>().expect_err(text);
            assert!(error.contains(rule), "{text}: {error}");
        }
    }

    #[test]
    fn v7_ids_carry_their_time() {
        let id = RequestId::v7(1_700_000_000_123, u128::MAX);
        assert_eq!(id.v7_millis(), Some(1_700_000_000_123));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(RequestId::new(u128::MAX).v7_millis(), None);
        assert_eq!(RequestId::new(0).v7_millis(), None);
    }

    #[test]
    fn every_account_has_a_shard_below_the_count() {
        for shards in 1..=64 {
            for account in [0, 1, 2, 77, u64::MAX] {
                assert!(AccountId::new(account).shard(shards) < shards);
            }
        }
    }
}
