//! What a caller can ask for, and what it is told: requests, receipts and refusals.
//!
//! A [`Request`] is a [`Command`] under a [`RequestId`]. Its [`Outcome`] is decided once, is in
//! the journal before anybody hears of it, and is the same however often the request is sent.

mod hold;
mod order;
mod rights;
mod transact;

use smallvec::SmallVec;

use crate::access::{ApiKey, Caller, Operation, Scope};
use crate::address::Link;
use crate::config::{
    ADDRESS_BYTES_MAX, ASSET_NAME_BYTES_MAX, LINKS_PER_REQUEST_MAX, REFERENCE_BYTES_MAX,
    SWAP_LEGS_MAX, SWAP_LEGS_MIN,
};
use crate::error::{Malformed, Reject};
use crate::market::{MarketSpec, Settlement};
use crate::types::{
    AccountId, Amount, AssetId, ChainId, ChainKind, CommitSeq, Leg, MarketId, RequestId, Time,
    Token,
};

pub use hold::{Action, Hold, Prepare, Purpose, Resolve};
pub use order::{AmendOrder, OrderType, PlaceOrder, Stands};
pub use transact::{Read, Transact, Write};

/// A command under the id that makes it safe to send again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Unique per request, the same in every retry.
    pub id: RequestId,
    /// Refused as [`Reject::Expired`] when its turn comes at or after this; [`Time::NEVER`] for none.
    pub deadline: Time,
    /// Who asks. No part of what is asked: the same request by another key is a retry.
    pub caller: Caller,
    /// What to do.
    pub command: Command,
}

impl Request {
    /// A request without a deadline, of the program that embeds the engine.
    pub fn new(id: RequestId, command: Command) -> Self {
        Self { id, deadline: Time::NEVER, caller: Caller::Trusted, command }
    }

    /// The same request, asked by that caller.
    #[must_use]
    pub fn by(self, caller: Caller) -> Self {
        Self { caller, ..self }
    }
}

/// Everything that changes state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Both legs settle, or neither.
    Swap(Swap),
    /// Value enters: an account is credited.
    Deposit(Transfer),
    /// Value is about to leave: it is set aside until the withdrawal is confirmed or cancelled.
    Withdraw(Transfer),
    /// A swap's amounts are set aside until it is committed or rolled back, or expires.
    Prepare(Box<Prepare>),
    /// Ends a hold.
    Resolve(Resolve),
    /// Happens if nothing that was read has changed since.
    Transact(Box<Transact>),
    /// Places an order.
    Order(Box<PlaceOrder>),
    /// Changes an order that stands.
    Amend(AmendOrder),
    /// Ends an order that stands.
    Cancel(RequestId),
    /// Ends an order because its time is over. Only the engine itself asks for that.
    ExpireOrder(RequestId),
    /// Ends all orders of an account that stand in a market.
    CancelAll {
        /// Whose.
        account: AccountId,
        /// Where.
        market: MarketId,
    },
    /// Creates a market; the same again is accepted and changes nothing.
    PutMarket(Box<MarketSpec>),
    /// Halts a market, in which orders can only be canceled then, or resumes it.
    SwitchMarket {
        /// Which.
        market: MarketId,
        /// Whether it is halted from now on.
        halted: bool,
    },
    /// Creates an asset; the same again is accepted and changes nothing.
    PutAsset(AssetSpec),
    /// Creates an account, or adds the links it names; never removes.
    PutAccount {
        /// Which account.
        account: AccountId,
        /// Links to add.
        links: Vec<Link>,
    },
    /// Removes an account's link on a chain; removing what is not there is accepted.
    RemoveLink {
        /// Which account.
        account: AccountId,
        /// The chain whose link goes.
        chain: ChainId,
    },
    /// Creates an API key, or changes one; the same again is accepted and changes nothing.
    PutKey(Box<ApiKey>),
    /// Ends an API key for good, by its name; a key that is revoked already is accepted.
    RevokeKey(Box<str>),
    /// Says what the venue takes from now on.
    Operate(Operation),
}

/// The legs of one swap; nearly always two, which are kept inline.
pub type Legs = SmallVec<[Leg; 2]>;

/// Movements that happen together or not at all: 2 to 16 legs among any number of parties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    legs: Legs,
}

impl Swap {
    /// Checks what can be known without any state.
    ///
    /// # Errors
    /// The field at fault: a number of legs outside 2..=16, a zero amount, an account that pays
    /// itself, or legs that cancel each other out. (Sums are checked where they are netted.)
    pub fn new(legs: impl IntoIterator<Item = Leg>) -> Result<Self, Malformed> {
        let legs: Legs = legs.into_iter().collect();
        if !(SWAP_LEGS_MIN..=SWAP_LEGS_MAX).contains(&legs.len()) {
            let found = legs.len();
            return Err(Malformed::new(
                "legs",
                format!("has {found} legs; a swap has {SWAP_LEGS_MIN} to {SWAP_LEGS_MAX}"),
            ));
        }
        check_legs("legs", &legs)?;
        Ok(Self { legs })
    }

    /// The legs in the order given.
    pub fn legs(&self) -> &[Leg] {
        &self.legs
    }
}

/// Checks each leg by itself.
fn check_legs(field: &str, legs: &[Leg]) -> Result<(), Malformed> {
    for (index, leg) in legs.iter().enumerate() {
        if leg.amount == Amount::ZERO {
            return Err(Malformed::new(
                format!("{field}[{index}].amount"),
                "is zero; amounts are whole numbers above zero",
            ));
        }
        if leg.from == leg.to {
            return Err(Malformed::new(
                format!("{field}[{index}].to"),
                format!("pays account {} to itself; name two accounts", leg.from),
            ));
        }
    }
    Ok(())
}

/// Value that enters or leaves an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Whose balance.
    pub account: AccountId,
    /// In which asset.
    pub asset: AssetId,
    /// How much, above zero.
    pub amount: Amount,
    /// The outside world's name for it (a transaction hash), at most 128 bytes; may be empty.
    pub reference: Box<str>,
}

/// A token on a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetSpec {
    /// The venue's short name, as in `ETH` or `USDC.eth`: letters, digits, `.`, `_`, `-`.
    pub name: Box<str>,
    /// Which chain it is on.
    pub chain: ChainId,
    /// That chain's kind; the same for all assets of a chain.
    pub chain_kind: ChainKind,
    /// `native`, or the token's address on the chain.
    pub token: Box<str>,
    /// Decimal places of the displayed unit; informative.
    pub decimals: u8,
}

impl Command {
    /// Every kind that [`Command::kind`] names.
    pub const KINDS: [&'static str; 23] = [
        "swap",
        "deposit",
        "withdrawal",
        "asset",
        "account",
        "link",
        "prepare",
        "commit",
        "rollback",
        "withdrawal_confirm",
        "withdrawal_cancel",
        "expire",
        "transaction",
        "order",
        "amend",
        "cancel",
        "order_expire",
        "cancel_all",
        "market",
        "market_switch",
        "key",
        "key_revoke",
        "operate",
    ];

    /// The kind, as a metric label.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Swap(_) => "swap",
            Self::Deposit(_) => "deposit",
            Self::Withdraw(_) => "withdrawal",
            Self::Prepare(_) => "prepare",
            Self::Resolve(resolve) => match resolve.action {
                Action::Commit => "commit",
                Action::Rollback => "rollback",
                Action::Confirm => "withdrawal_confirm",
                Action::Cancel => "withdrawal_cancel",
                Action::Expire => "expire",
            },
            Self::Transact(_) => "transaction",
            Self::Order(_) => "order",
            Self::Amend(_) => "amend",
            Self::Cancel(_) => "cancel",
            Self::ExpireOrder(_) => "order_expire",
            Self::CancelAll { .. } => "cancel_all",
            Self::PutMarket(_) => "market",
            Self::SwitchMarket { .. } => "market_switch",
            Self::PutAsset(_) => "asset",
            Self::PutAccount { .. } => "account",
            Self::RemoveLink { .. } => "link",
            Self::PutKey(_) => "key",
            Self::RevokeKey(_) => "key_revoke",
            Self::Operate(_) => "operate",
        }
    }

    /// The scope that a key needs to ask for it.
    pub const fn scope(&self) -> Scope {
        match self {
            Self::Swap(_)
            | Self::Prepare(_)
            | Self::Transact(_)
            | Self::Order(_)
            | Self::Amend(_)
            | Self::Cancel(_)
            | Self::ExpireOrder(_)
            | Self::CancelAll { .. } => Scope::Trade,
            Self::Deposit(_) | Self::Withdraw(_) => Scope::Transfer,
            Self::Resolve(resolve) if resolve.action.is_of_withdrawal() => Scope::Transfer,
            Self::Resolve(_) => Scope::Trade,
            Self::PutAsset(_)
            | Self::PutAccount { .. }
            | Self::RemoveLink { .. }
            | Self::PutMarket(_)
            | Self::SwitchMarket { .. }
            | Self::PutKey(_)
            | Self::RevokeKey(_)
            | Self::Operate(_) => Scope::Operate,
        }
    }

    /// Whether it changes the directory (assets, accounts, links, markets, keys, the state of the
    /// venue's operation) rather than balances.
    pub const fn is_directory(&self) -> bool {
        matches!(
            self,
            Self::PutAsset(_)
                | Self::PutAccount { .. }
                | Self::RemoveLink { .. }
                | Self::PutMarket(_)
                | Self::SwitchMarket { .. }
                | Self::PutKey(_)
                | Self::RevokeKey(_)
                | Self::Operate(_)
        )
    }

    /// Whether it is for a market to say what it comes to.
    pub const fn is_of_market(&self) -> bool {
        matches!(
            self,
            Self::Order(_)
                | Self::Amend(_)
                | Self::Cancel(_)
                | Self::ExpireOrder(_)
                | Self::CancelAll { .. }
        )
    }

    /// Checks what can be known without any state.
    ///
    /// # Errors
    /// The field at fault and the rule it breaks.
    pub fn validate(&self) -> Result<(), Malformed> {
        match self {
            // Checked when it was built; netting checks the rest.
            Self::Swap(_)
            | Self::RemoveLink { .. }
            | Self::Resolve(_)
            | Self::Cancel(_)
            | Self::ExpireOrder(_)
            | Self::CancelAll { .. }
            | Self::SwitchMarket { .. }
            | Self::Operate(_) => Ok(()),
            Self::PutKey(key) => key.validate(),
            Self::RevokeKey(name) => ApiKey::validate_name(name),
            Self::Order(order) => order.validate(),
            Self::Amend(amend) => amend.validate(),
            Self::PutMarket(spec) => spec.validate(),
            Self::Prepare(prepare) if prepare.expires_in_ms == 0 => {
                Err(Malformed::new("expires_in_ms", "is zero; give at least 1"))
            }
            Self::Prepare(_) => Ok(()),
            Self::Transact(transact) => transact.validate(),
            Self::Deposit(transfer) | Self::Withdraw(transfer) => transfer.validate(),
            Self::PutAsset(spec) => spec.validate(),
            Self::PutAccount { links, .. } => {
                let found = links.len();
                if found > LINKS_PER_REQUEST_MAX {
                    return Err(Malformed::new(
                        "links",
                        format!(
                            "has {found} links; one request adds at most {LINKS_PER_REQUEST_MAX}"
                        ),
                    ));
                }
                Ok(())
            }
        }
    }
}

impl Transfer {
    /// 128 bits that stand for the reference: equal ones are credited once an asset. `None` for an
    /// empty reference, which names nothing.
    pub fn reference_hash(&self) -> Option<u128> {
        if self.reference.is_empty() {
            return None;
        }
        // Strong enough that nobody can make two references that collide.
        let hash = blake3::hash(self.reference.as_bytes());
        let (first, _) = hash.as_bytes().split_first_chunk().expect("32 bytes hold 16");
        Some(u128::from_be_bytes(*first))
    }

    fn validate(&self) -> Result<(), Malformed> {
        if self.amount == Amount::ZERO {
            return Err(Malformed::new("amount", "is zero; amounts are whole numbers above zero"));
        }
        if self.reference.len() > REFERENCE_BYTES_MAX {
            return Err(Malformed::new(
                "reference",
                format!("is longer than {REFERENCE_BYTES_MAX} bytes"),
            ));
        }
        Ok(())
    }
}

impl AssetSpec {
    fn validate(&self) -> Result<(), Malformed> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if self.name.is_empty()
            || self.name.len() > ASSET_NAME_BYTES_MAX
            || !self.name.bytes().all(fits)
        {
            return Err(Malformed::new(
                "asset",
                format!("is not 1 to {ASSET_NAME_BYTES_MAX} letters, digits, '.', '_' or '-'"),
            ));
        }
        if self.token.is_empty() || self.token.len() > ADDRESS_BYTES_MAX {
            return Err(Malformed::new(
                "token",
                format!("is not \"native\" or an address of at most {ADDRESS_BYTES_MAX} bytes"),
            ));
        }
        Ok(())
    }
}

/// The one answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "made one at a time, when somebody looks at it")]
pub enum Outcome {
    /// It happened, durably.
    Settled(Receipt),
    /// It did not, and that is as durable (but for [`Reject::Malformed`]).
    Rejected(Refusal),
}

/// Proof of a settled request, as it stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The request.
    pub request_id: RequestId,
    /// Its place in the order of everything that settled.
    pub commit_seq: CommitSeq,
    /// Logical time of the decision.
    pub time: Time,
    /// Who asked.
    pub caller: Caller,
    /// What was asked for.
    pub command: Command,
    /// The legs in their order that moved (of a swap, a committed hold, a transaction), with the
    /// balances around the whole request; empty for other commands.
    pub legs: SmallVec<[LegReceipt; 2]>,
    /// The balance of a deposit, or of a withdrawal at any of its stages, before and after; `None`
    /// for other commands.
    pub change: Option<Change>,
    /// The hold that was made or ended; `None` for other commands.
    pub hold: Option<HoldReceipt>,
    /// What a market made of it; `None` for other commands.
    pub settlement: Option<Box<Settlement>>,
}

/// A hold that a request made or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldReceipt {
    /// Its name.
    pub token: Token,
    /// When it ends, or would have ended, by itself; [`Time::NEVER`] for a withdrawal's.
    pub expires_at: Time,
}

/// One leg, and both parties' available + held of its asset before and after the whole swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegReceipt {
    /// The movement.
    pub leg: Leg,
    /// The payer's balance.
    pub from: Change,
    /// The payee's balance.
    pub to: Change,
}

/// A balance (available + held) before and after a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Before the whole request.
    pub before: Amount,
    /// After the whole request.
    pub after: Amount,
}

/// A durable no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The request.
    pub request_id: RequestId,
    /// The state that was seen: everything up to this had happened, and nothing after.
    pub seq: CommitSeq,
    /// Logical time of the decision.
    pub time: Time,
    /// Who asked.
    pub caller: Caller,
    /// Why.
    pub reject: Reject,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swaps_are_checked_for_shape() {
        let leg = |from, to, amount| Leg {
            from: AccountId::new(from),
            to: AccountId::new(to),
            asset: AssetId::new(0),
            amount: Amount::new(amount),
        };
        let field = |legs: Vec<Leg>| Swap::new(legs).expect_err("malformed").field;
        assert_eq!(field(vec![leg(1, 2, 5)]), "legs");
        assert_eq!(field(vec![leg(1, 2, 5); 17]), "legs");
        assert_eq!(field(vec![leg(1, 2, 5), leg(2, 1, 0)]), "legs[1].amount");
        assert_eq!(field(vec![leg(3, 3, 5), leg(2, 1, 1)]), "legs[0].to");
        assert!(Swap::new(vec![leg(1, 2, 5); 16]).is_ok());
    }
}
