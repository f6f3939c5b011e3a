//! Settling in two phases: what sets amounts aside, and what becomes of them then.
//!
//! ```text
//! Prepare ──► open hold ──Commit──► the amounts have moved
//! Withdraw ─►     │     ──Confirm─► the amount is gone (the chain took it)
//!                 ├──Rollback, Cancel──► back where they were
//!                 └──Expire: the engine itself, once the time is over
//! ```
//!
//! A hold is named by its [`Token`], which is the id of the request that made it, and is resolved as
//! a whole, once.

use super::{Swap, Transfer};
use crate::types::{CommitSeq, Resolution, Time, Token};

/// A swap whose amounts are set aside until it is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepare {
    /// What is to happen.
    pub swap: Swap,
    /// How long it stands, in milliseconds of logical time from when its turn came.
    pub expires_in_ms: u64,
    /// Whether nobody else may take from the balances that it debits meanwhile.
    pub exclusive: bool,
}

/// Ends a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// Which hold.
    pub token: Token,
    /// How.
    pub action: Action,
}

/// How a hold is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Moves a prepared swap's amounts.
    Commit,
    /// Gives a prepared swap's amounts back.
    Rollback,
    /// A withdrawal's amount has left.
    Confirm,
    /// Gives a withdrawal's amount back.
    Cancel,
    /// Gives the amounts back, because the time is over. Only the engine itself asks for that.
    Expire,
}

impl Action {
    /// What it makes of the hold.
    pub const fn resolution(self) -> Resolution {
        match self {
            Self::Commit | Self::Confirm => Resolution::Committed,
            Self::Rollback | Self::Cancel => Resolution::RolledBack,
            Self::Expire => Resolution::Expired,
        }
    }

    /// Whether it is what is asked for of a withdrawal.
    pub const fn is_of_withdrawal(self) -> bool {
        matches!(self, Self::Confirm | Self::Cancel)
    }

    /// Whether it can end a hold of that purpose.
    pub const fn fits(self, purpose: &Purpose) -> bool {
        match self {
            Self::Commit | Self::Rollback => matches!(purpose, Purpose::Swap(_)),
            Self::Confirm | Self::Cancel => matches!(purpose, Purpose::Withdrawal(_)),
            Self::Expire => true,
        }
    }
}

/// What amounts are set aside for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A prepared swap.
    Swap(Swap),
    /// A withdrawal.
    Withdrawal(Transfer),
}

/// An open hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its name.
    pub token: Token,
    /// What for.
    pub purpose: Purpose,
    /// Whether nobody else may take from the balances that it debits.
    pub exclusive: bool,
    /// When it ends by itself; [`Time::NEVER`] for a withdrawal's.
    pub expires_at: Time,
    /// The commit_seq that made it.
    pub since: CommitSeq,
}
