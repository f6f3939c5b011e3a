//! What a call can need of a key. Which needs what stands in the table of calls.

use crate::access::{Scope, Scopes};

/// What a key must have for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: anybody may ask.
    Public,
    /// Nothing, or any key: as the setting `metrics_open` says.
    Metrics,
    /// Any key: what everybody in the venue sees.
    AnyKey,
    /// One of those scopes.
    OneOf(&'static [Scope]),
}

pub(in crate::server) const PUBLIC: Need = Need::Public;
pub(in crate::server) const METRICS: Need = Need::Metrics;
pub(in crate::server) const ANY_KEY: Need = Need::AnyKey;
pub(in crate::server) const READ: Need = Need::OneOf(&[Scope::Read]);
pub(in crate::server) const TRADE: Need = Need::OneOf(&[Scope::Trade]);
pub(in crate::server) const TRANSFER: Need = Need::OneOf(&[Scope::Transfer]);
pub(in crate::server) const OPERATE: Need = Need::OneOf(&[Scope::Operate]);
/// What became of a request is for whoever could make one.
pub(in crate::server) const OUTCOME: Need = Need::OneOf(&Scope::ALL);
pub(in crate::server) const HOLD: Need = Need::OneOf(&[Scope::Read, Scope::Trade]);
pub(in crate::server) const WITHDRAWAL: Need = Need::OneOf(&[Scope::Read, Scope::Transfer]);

/// What one call needs.
#[derive(Clone, Debug)]
pub struct Right {
    /// `GET` and so on.
    pub method: String,
    /// Its path as the router has it, as in `/v1/assets/{asset}`.
    pub path: &'static str,
    /// What it needs.
    pub need: Need,
}

impl Need {
    /// Whether those scopes are enough.
    pub fn is_met_by(self, scopes: Scopes) -> bool {
        match self {
            Self::Public | Self::Metrics | Self::AnyKey => true,
            Self::OneOf(any) => any.iter().any(|scope| scopes.has(*scope)),
        }
    }

    /// The scopes of which one is enough, in words.
    pub fn in_words(self) -> String {
        let Self::OneOf(any) = self else { return "any key".into() };
        let names: Vec<&str> = any.iter().map(|scope| scope.name()).collect();
        names.join(" or ")
    }
}
