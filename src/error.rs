//! "No" is an outcome, failure is an error.
//!
//! [`Reject`] is an answer: the engine worked, the request did not settle, and (but for
//! [`Reject::Malformed`]) the refusal is as durable as a receipt. [`enum@Error`] means that there is
//! no answer: the request was not taken, or the engine stopped before it could say.

use std::fmt;

use thiserror::Error;

use crate::types::{AccountId, Amount, AssetId, ChainId, CommitSeq};

/// A request that breaks a rule of form: which field, and which rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Path of the field at fault, as in `legs[1].amount`.
    pub field: String,
    /// What is wrong and what would be right, to be read after the field's name.
    pub why: String,
}

impl Malformed {
    /// Names the field and the rule.
    pub fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.why)
    }
}

/// Why a request was refused. The engine worked.
///
/// Ordered by precedence: when several reasons apply, the first one here is reported.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Reject {
    /// A rule of form is broken. Not journaled: the id is free to be used again.
    #[error("{0}")]
    Malformed(Malformed),
    /// The id was used before for a request with another body.
    #[error("this request id was used before with another body; send new requests under new ids")]
    RequestIdReused,
    /// The request's own deadline had passed when its turn came.
    #[error("the deadline had passed when the request's turn came")]
    Expired,
    /// No such asset.
    #[error("asset {0} does not exist")]
    UnknownAsset(AssetId),
    /// No asset lives on such a chain, so its kind of address is not known.
    #[error("no asset is on chain {0}; create one before linking addresses there")]
    UnknownChain(ChainId),
    /// No such account.
    #[error("account {0} does not exist")]
    UnknownAccount(AccountId),
    /// The asset (or its chain) exists with another description.
    #[error("{0}")]
    AlreadyExists(String),
    /// The address is linked to another account, or the account has another address on the chain.
    #[error("{0}")]
    AlreadyLinked(String),
    /// A party has no address on the asset's chain: a real transfer would have nowhere to go.
    #[error("account {account} has no linked address on chain {chain}")]
    NotLinked {
        /// The party without a link.
        account: AccountId,
        /// Where it would need one.
        chain: ChainId,
    },
    /// The deposit would lift the asset's supply above the cap.
    #[error("the supply of asset {0} would exceed the cap of 2^127 - 1")]
    SupplyExceeded(AssetId),
    /// A party has less than it would pay. At `seq` the balance was indeed short by `short_by`.
    #[error("account {account} is short of asset {asset} by {short_by} at seq {seq}")]
    InsufficientFunds {
        /// Who is short.
        account: AccountId,
        /// Of what.
        asset: AssetId,
        /// By how much of the smallest unit.
        short_by: Amount,
        /// The state that was seen.
        seq: CommitSeq,
    },
}

impl Reject {
    /// The stable code: part of the public interface, a metric label, never renamed.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::RequestIdReused => "request_id_reused",
            Self::Expired => "expired",
            Self::UnknownAsset(_) => "unknown_asset",
            Self::UnknownChain(_) => "unknown_chain",
            Self::UnknownAccount(_) => "unknown_account",
            Self::AlreadyExists(_) => "already_exists",
            Self::AlreadyLinked(_) => "already_linked",
            Self::NotLinked { .. } => "not_linked",
            Self::SupplyExceeded(_) => "supply_exceeded",
            Self::InsufficientFunds { .. } => "insufficient_funds",
        }
    }

    /// The place in the order of precedence: the lowest that applies is reported.
    pub const fn precedence(&self) -> u8 {
        match self {
            Self::Malformed(_) => 0,
            Self::RequestIdReused => 1,
            Self::Expired => 2,
            Self::UnknownAsset(_) => 3,
            Self::UnknownChain(_) => 4,
            Self::UnknownAccount(_) => 5,
            Self::AlreadyExists(_) => 6,
            Self::AlreadyLinked(_) => 7,
            Self::NotLinked { .. } => 8,
            Self::SupplyExceeded(_) => 9,
            Self::InsufficientFunds { .. } => 10,
        }
    }

    /// Every code, in order of precedence.
    pub const CODES: [&'static str; 11] = [
        "malformed",
        "request_id_reused",
        "expired",
        "unknown_asset",
        "unknown_chain",
        "unknown_account",
        "already_exists",
        "already_linked",
        "not_linked",
        "supply_exceeded",
        "insufficient_funds",
    ];
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Too much is in flight; nothing of this was taken. Try again later.
    #[error("overloaded: {limit} is at its limit of {max}; nothing was taken, try again")]
    Overloaded {
        /// Which limit, by its name in `config.rs`.
        limit: &'static str,
        /// Its value.
        max: u64,
    },
    /// The engine stopped. The outcome is unknown until it is asked again by request id.
    #[error("stopped: {cause}; ask again by request id after a restart")]
    Stopped {
        /// What stopped it.
        cause: String,
    },
    /// The data directory cannot be used as it is.
    #[error("{0}")]
    Storage(String),
    /// The configuration is not valid.
    #[error("configuration: {0}")]
    Config(Malformed),
    /// A read asks for something that cannot be: an unknown account, a seq in the future.
    #[error("{0}")]
    Read(Reject),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stand_in_order_of_precedence() {
        let samples = [
            Reject::Malformed(Malformed::new("a", "b")),
            Reject::RequestIdReused,
            Reject::Expired,
            Reject::UnknownAsset(AssetId::new(1)),
            Reject::UnknownChain(ChainId::new(1)),
            Reject::UnknownAccount(AccountId::new(1)),
            Reject::AlreadyExists(String::new()),
            Reject::AlreadyLinked(String::new()),
            Reject::NotLinked { account: AccountId::new(1), chain: ChainId::new(1) },
            Reject::SupplyExceeded(AssetId::new(1)),
            Reject::InsufficientFunds {
                account: AccountId::new(1),
                asset: AssetId::new(1),
                short_by: Amount::new(1),
                seq: CommitSeq::new(1),
            },
        ];
        for (place, (reject, code)) in samples.iter().zip(Reject::CODES).enumerate() {
            assert_eq!(reject.code(), code);
            assert_eq!(usize::from(reject.precedence()), place);
        }
    }
}
