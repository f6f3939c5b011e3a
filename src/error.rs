//! "No" is an outcome, failure is an error.
//!
//! [`Reject`] is an answer: the engine worked, the request did not settle, and (but for
//! [`Reject::Malformed`]) the refusal is as durable as a receipt. [`enum@Error`] means that there is
//! no answer: the request was not taken, or the engine stopped before it could say.

mod fault;

use std::fmt;

use thiserror::Error;

use crate::types::{
    AccountId, Amount, AssetId, ChainId, CommitSeq, Operation, Resolution, Subject, Token,
};

pub use fault::OrderFault;

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
    /// The key that asks may not: it is revoked or expired, lacks the scope, or is bound to other
    /// accounts. What is about a hold or an order of others is answered as if there were none.
    #[error("{}", Barred(*.account))]
    Forbidden {
        /// The first account that is not the key's; `None` where it is not about an account.
        account: Option<AccountId>,
    },
    /// The id was used before for a request with another body.
    #[error("this request id was used before with another body; send new requests under new ids")]
    RequestIdReused,
    /// The request's own deadline had passed when its turn came.
    #[error("the deadline had passed when the request's turn came")]
    Expired,
    /// The venue's operation is restricted, and this is not among what is taken.
    #[error("the venue is {operation}, and takes no such requests for now")]
    Restricted {
        /// Its state.
        operation: Operation,
    },
    /// No hold was ever made under that token.
    #[error("there is no hold {0}")]
    UnknownToken(Token),
    /// The hold is resolved already, in another way than was asked for.
    #[error("hold {token} was {how} already, at seq {seq}")]
    AlreadyResolved {
        /// Which hold.
        token: Token,
        /// What became of it.
        how: Resolution,
        /// The commit_seq of that.
        seq: CommitSeq,
    },
    /// No such asset.
    #[error("asset {0} does not exist")]
    UnknownAsset(AssetId),
    /// No asset lives on such a chain, so its kind of address is not known.
    #[error("no asset is on chain {0}; create one before linking addresses there")]
    UnknownChain(ChainId),
    /// No such account.
    #[error("account {0} does not exist")]
    UnknownAccount(AccountId),
    /// No API key has that name.
    #[error("there is no API key {0}")]
    UnknownApiKey(Box<str>),
    /// The asset (or its chain, a market, an API key) exists with another description.
    #[error("{0}")]
    AlreadyExists(String),
    /// The address is linked to another account, or the account has another address on the chain.
    #[error("{0}")]
    AlreadyLinked(String),
    /// The external reference was credited already, by another request.
    #[error("the reference was credited already for asset {asset}, at seq {seq}")]
    AlreadyCredited {
        /// Of which asset.
        asset: AssetId,
        /// The commit_seq of the deposit that has it.
        seq: CommitSeq,
    },
    /// A party has no address on the asset's chain: a real transfer would have nowhere to go.
    #[error("account {account} has no linked address on chain {chain}")]
    NotLinked {
        /// The party without a link.
        account: AccountId,
        /// Where it would need one.
        chain: ChainId,
    },
    /// Something that the transaction read has changed since, or stayed undecided too long.
    #[error("{subject} has changed since it was read, or is about to; read again and try again")]
    Conflict {
        /// What it was.
        subject: Subject,
    },
    /// The deposit would lift the asset's supply above the cap.
    #[error("the supply of asset {0} would exceed the cap of 2^127 - 1")]
    SupplyExceeded(AssetId),
    /// More of the balance would be set aside than may be.
    #[error("more than {max_percent}% of asset {asset} of account {account} would be set aside")]
    HeldShareExceeded {
        /// Whose balance.
        account: AccountId,
        /// Of what.
        asset: AssetId,
        /// The limit, in percent of available and held together.
        max_percent: u8,
    },
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
    /// There are as many open holds as may be.
    #[error("{} open holds are at their limit of {max}", Owner(*.account))]
    TooManyHolds {
        /// Whose; `None` where all accounts together have too many.
        account: Option<AccountId>,
        /// The limit.
        max: u64,
    },
    /// An exclusive hold kept the balance locked for longer than a request waits.
    #[error("hold {token} kept a balance locked for longer than a request waits; try again")]
    LockTimeout {
        /// The hold that it waited for.
        token: Token,
    },
    /// Something is wrong with an order.
    #[error(transparent)]
    Order(OrderFault),
}

/// What a key may not do: in words.
struct Barred(Option<AccountId>);

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(account) => write!(f, "not permitted to this key: account {account}"),
            None => f.write_str("not permitted to this key"),
        }
    }
}

/// Whose holds: in words.
struct Owner(Option<AccountId>);

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(account) => write!(f, "account {account}'s"),
            None => f.write_str("all accounts'"),
        }
    }
}

impl Reject {
    /// The stable code: part of the public interface, a metric label, never renamed.
    pub const fn code(&self) -> &'static str {
        Self::CODES[self.precedence() as usize]
    }

    /// The place in the order of precedence: the lowest that applies is reported.
    pub const fn precedence(&self) -> u8 {
        match self {
            Self::Malformed(_) => 0,
            Self::Forbidden { .. } => 1,
            Self::RequestIdReused => 2,
            Self::Expired => 3,
            Self::Restricted { .. } => 4,
            Self::UnknownToken(_) => 5,
            Self::AlreadyResolved { .. } => 6,
            Self::UnknownAsset(_) => 7,
            Self::UnknownChain(_) => 8,
            Self::UnknownAccount(_) => 9,
            Self::UnknownApiKey(_) => 10,
            Self::AlreadyExists(_) => 11,
            Self::AlreadyLinked(_) => 12,
            Self::AlreadyCredited { .. } => 13,
            Self::NotLinked { .. } => 14,
            Self::Conflict { .. } => 15,
            Self::SupplyExceeded(_) => 16,
            Self::HeldShareExceeded { .. } => 17,
            Self::InsufficientFunds { .. } => 18,
            Self::TooManyHolds { .. } => 19,
            Self::LockTimeout { .. } => 20,
            Self::Order(fault) => 21 + fault.precedence(),
        }
    }

    /// Every code, in order of precedence.
    pub const CODES: [&'static str; 29] = [
        "malformed",
        "forbidden",
        "request_id_reused",
        "expired",
        "restricted",
        "unknown_token",
        "already_resolved",
        "unknown_asset",
        "unknown_chain",
        "unknown_account",
        "unknown_api_key",
        "already_exists",
        "already_linked",
        "already_credited",
        "not_linked",
        "conflict",
        "supply_exceeded",
        "held_share_exceeded",
        "insufficient_funds",
        "too_many_holds",
        "lock_timeout",
        "unknown_market",
        "unknown_order",
        "market_halted",
        "invalid_order",
        "price_out_of_band",
        "duplicate_client_order_id",
        "too_many_orders",
        "would_take",
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
    /// What was asked for is in the journal's archive, of which a file is missing, damaged, or cannot
    /// be read (`archive_unavailable`). The engine goes on.
    #[error("{0}")]
    Archive(String),
    /// The configuration is not valid.
    #[error("configuration: {0}")]
    Config(Malformed),
    /// A read asks for something that cannot be: an unknown account, a seq in the future.
    #[error("{0}")]
    Read(Reject),
    /// A read asks for something older than what is kept (`history_expired`).
    #[error("the history before seq {oldest} has expired; ask for seq {oldest} or a later one")]
    HistoryExpired {
        /// The oldest seq as of which everything can be read.
        oldest: CommitSeq,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{BalanceKey, MarketId, RequestId};

    #[test]
    fn codes_stand_in_order_of_precedence() {
        let token = Token::default();
        let (account, asset) = (AccountId::new(1), AssetId::new(1));
        let seq = CommitSeq::new(1);
        let samples = [
            Reject::Malformed(Malformed::new("a", "b")),
            Reject::Forbidden { account: Some(account) },
            Reject::RequestIdReused,
            Reject::Expired,
            Reject::Restricted { operation: Operation::Halted },
            Reject::UnknownToken(token),
            Reject::AlreadyResolved { token, how: Resolution::Expired, seq },
            Reject::UnknownAsset(asset),
            Reject::UnknownChain(ChainId::new(1)),
            Reject::UnknownAccount(account),
            Reject::UnknownApiKey("desk".into()),
            Reject::AlreadyExists(String::new()),
            Reject::AlreadyLinked(String::new()),
            Reject::AlreadyCredited { asset, seq },
            Reject::NotLinked { account, chain: ChainId::new(1) },
            Reject::Conflict { subject: Subject::Balance(BalanceKey { account, asset }) },
            Reject::SupplyExceeded(asset),
            Reject::HeldShareExceeded { account, asset, max_percent: 50 },
            Reject::InsufficientFunds { account, asset, short_by: Amount::new(1), seq },
            Reject::TooManyHolds { account: Some(account), max: 1 },
            Reject::LockTimeout { token },
            Reject::Order(OrderFault::UnknownMarket(MarketId::new(1))),
            Reject::Order(OrderFault::UnknownOrder(RequestId::new(1))),
            Reject::Order(OrderFault::Halted(MarketId::new(1))),
            Reject::Order(OrderFault::TooLarge),
            Reject::Order(OrderFault::OutOfBand { low: 1, high: 2 }),
            Reject::Order(OrderFault::DuplicateClientId(RequestId::new(1))),
            Reject::Order(OrderFault::TooMany { max: 1 }),
            Reject::Order(OrderFault::WouldTake),
        ];
        let codes = [
            "malformed",
            "forbidden",
            "request_id_reused",
            "expired",
            "restricted",
            "unknown_token",
            "already_resolved",
            "unknown_asset",
            "unknown_chain",
            "unknown_account",
            "unknown_api_key",
            "already_exists",
            "already_linked",
            "already_credited",
            "not_linked",
            "conflict",
            "supply_exceeded",
            "held_share_exceeded",
            "insufficient_funds",
            "too_many_holds",
            "lock_timeout",
            "unknown_market",
            "unknown_order",
            "market_halted",
            "invalid_order",
            "price_out_of_band",
            "duplicate_client_order_id",
            "too_many_orders",
            "would_take",
        ];
        assert_eq!(samples.each_ref().map(Reject::code), codes);
        assert_eq!(samples.map(|reject| reject.precedence()), std::array::from_fn(|n| n as u8));
    }
}
