//! What every call needs: one table, beside which no call is answered.
//!
//! A call that is not in it goes to its handler without a visitor, and there is none that answers one.

use axum::http::Method;

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

const READ: Need = Need::OneOf(&[Scope::Read]);
const TRADE: Need = Need::OneOf(&[Scope::Trade]);
const TRANSFER: Need = Need::OneOf(&[Scope::Transfer]);
const OPERATE: Need = Need::OneOf(&[Scope::Operate]);
/// What became of a request is for whoever could make one.
const OUTCOME: Need = Need::OneOf(&Scope::ALL);
const HOLD: Need = Need::OneOf(&[Scope::Read, Scope::Trade]);
const WITHDRAWAL: Need = Need::OneOf(&[Scope::Read, Scope::Transfer]);

/// One call: a method, a path as the router has it, and what it needs.
pub type Right = (&'static str, &'static str, Need);

/// Every call.
pub const RIGHTS: &[Right] = &[
    ("GET", "/livez", Need::Public),
    ("GET", "/readyz", Need::Public),
    ("GET", "/version", Need::Public),
    ("GET", "/openapi.json", Need::Public),
    ("GET", "/metrics", Need::Metrics),
    ("GET", "/v1/assets", Need::AnyKey),
    ("GET", "/v1/assets/{asset}", Need::AnyKey),
    ("PUT", "/v1/assets/{asset}", OPERATE),
    ("GET", "/v1/accounts/{account}", READ),
    ("PUT", "/v1/accounts/{account}", OPERATE),
    ("POST", "/v1/accounts/{account}/links", OPERATE),
    ("DELETE", "/v1/accounts/{account}/links/{chain_id}", OPERATE),
    ("GET", "/v1/accounts/{account}/balances", READ),
    ("GET", "/v1/accounts/{account}/history", READ),
    ("GET", "/v1/links/{chain_id}/{address}", READ),
    ("POST", "/v1/deposits", TRANSFER),
    ("POST", "/v1/withdrawals", TRANSFER),
    ("GET", "/v1/withdrawals/{id}", WITHDRAWAL),
    ("POST", "/v1/withdrawals/{id}/confirm", TRANSFER),
    ("POST", "/v1/withdrawals/{id}/cancel", TRANSFER),
    ("POST", "/v1/swaps", TRADE),
    ("POST", "/v1/swaps:batch", TRADE),
    ("GET", "/v1/swaps/{request_id}", OUTCOME),
    ("GET", "/v1/requests/{request_id}", OUTCOME),
    ("POST", "/v1/prepared", TRADE),
    ("GET", "/v1/prepared/{token}", HOLD),
    ("POST", "/v1/prepared/{token}/commit", TRADE),
    ("POST", "/v1/prepared/{token}/rollback", TRADE),
    ("POST", "/v1/transactions", TRADE),
    ("GET", "/v1/keys/{key}", READ),
    ("GET", "/v1/markets", Need::AnyKey),
    ("GET", "/v1/markets/{market}", Need::AnyKey),
    ("PUT", "/v1/markets/{market}", OPERATE),
    ("POST", "/v1/markets/{market}/halt", OPERATE),
    ("POST", "/v1/markets/{market}/resume", OPERATE),
    ("GET", "/v1/markets/{market}/book", Need::AnyKey),
    ("GET", "/v1/markets/{market}/trades", Need::AnyKey),
    ("POST", "/v1/orders", TRADE),
    ("GET", "/v1/orders", HOLD),
    ("DELETE", "/v1/orders", TRADE),
    ("GET", "/v1/orders/{id}", HOLD),
    ("PATCH", "/v1/orders/{id}", TRADE),
    ("DELETE", "/v1/orders/{id}", TRADE),
    ("GET", "/v1/audit", OPERATE),
    ("POST", "/v1/backups", OPERATE),
    ("GET", "/v1/operate", Need::AnyKey),
    ("POST", "/v1/operate", OPERATE),
    ("GET", "/v1/api-keys", OPERATE),
    ("POST", "/v1/api-keys", OPERATE),
    ("GET", "/v1/api-keys/{name}", OPERATE),
    ("DELETE", "/v1/api-keys/{name}", OPERATE),
    ("POST", "/v1/api-keys/{name}/rotate", OPERATE),
];

/// What a call needs; `None` for one that is not there.
pub fn of(method: &Method, path: &str) -> Option<Need> {
    // What answers GET answers HEAD.
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let found = RIGHTS.iter().find(|(of, at, _)| *at == path && *of == method);
    found.map(|(_, _, need)| *need)
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
