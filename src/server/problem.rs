//! "No" in HTTP: every refusal and every failure as one `application/problem+json` object (RFC 9457).
//!
//! `code` is stable and one of [`CODES`]; `status` says what became of the request:
//!
//! | `status` | means |
//! |---|---|
//! | `rejected` | refused: nothing changed, and nothing will under this request id unless the code is `malformed` or `overloaded` |
//! | `failed` | the engine stopped before it could say, or cannot read what it would say: ask again by request id |
//! | `unknown` | what was asked about is not known here |

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Malformed, OrderFault, Reject};
use crate::types::{
    AccountId, Amount, AssetId, BalanceKey, ChainId, CommitSeq, MarketId, RequestId, Resolution,
    Subject, Token,
};

use super::bytes;
use super::door;
use super::json::NotAnObject;
use super::openapi::schemas::{Base64, ProblemCode, ProblemStatus, Seq, Timestamp};
use super::trading::FaultBody;

/// Seconds after which a caller that met `overloaded` or `recovering` may try again.
const RETRY_AFTER_SECONDS: &str = "1";

/// One documented code.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// The stable name.
    pub name: &'static str,
    /// The HTTP status that goes with it.
    pub http: u16,
    /// The same for every occurrence.
    pub title: &'static str,
}

const fn code(name: &'static str, http: u16, title: &'static str) -> Code {
    Code { name, http, title }
}

/// Every code that a problem can carry: first those of refused requests in order of precedence
/// (of several reasons the first is given), then those of HTTP itself and of the engine.
pub const CODES: [Code; 44] = [
    code("malformed", 400, "The request breaks a rule of form"),
    code("forbidden", 403, "Not permitted to this key"),
    code("request_id_reused", 409, "The request id was used for another request"),
    code("expired", 410, "The deadline has passed"),
    code("restricted", 409, "The venue's operation is restricted"),
    code("unknown_token", 404, "No such hold"),
    code("already_resolved", 409, "The hold was resolved in another way"),
    code("unknown_asset", 404, "No such asset"),
    code("unknown_chain", 404, "No asset is on such a chain"),
    code("unknown_account", 404, "No such account"),
    code("unknown_api_key", 404, "No such API key"),
    code("already_exists", 409, "It exists with another description"),
    code("already_linked", 409, "The link would not be unique"),
    code("already_credited", 409, "The reference was credited before"),
    code("not_linked", 422, "A party has no address on the asset's chain"),
    code("conflict", 409, "Something that was read has changed"),
    code("supply_exceeded", 422, "The asset's supply is capped"),
    code("held_share_exceeded", 422, "Too much of the balance would be set aside"),
    code("insufficient_funds", 422, "A party has less than it would pay"),
    code("too_many_holds", 409, "Too many holds are open"),
    code("lock_timeout", 409, "An exclusive hold was in the way for too long"),
    code("unknown_market", 404, "No such market"),
    code("unknown_order", 404, "No such order is open"),
    code("market_halted", 409, "The market is halted"),
    code("invalid_order", 422, "The order does not fit its market"),
    code("price_out_of_band", 422, "The price is too far from the last trade's"),
    code("duplicate_client_order_id", 409, "The account has an open order of that name"),
    code("too_many_orders", 409, "Too many orders are open"),
    code("would_take", 422, "A post-only order would trade at once"),
    code("history_expired", 410, "What was asked for is not remembered any more"),
    code("archive_unavailable", 503, "The journal's archive cannot be read"),
    code("unknown_request", 404, "No such request"),
    code("unknown_link", 404, "No account is behind that address"),
    code("unauthenticated", 401, "A key is needed, and this is none"),
    code("rate_limited", 429, "Too much is asked with this key, or from this address"),
    code("not_found", 404, "There is no such path"),
    code("method_not_allowed", 405, "The path does not take that method"),
    code("timeout", 408, "The request did not arrive in time"),
    code("body_too_large", 413, "The body is too large"),
    code("unsupported_media_type", 415, "The body is not declared as JSON"),
    code("overloaded", 503, "Too much is in flight"),
    code("recovering", 503, "The server is not ready yet"),
    code("stopped", 503, "The engine has stopped"),
    code("storage", 500, "The store has failed"),
];

/// What the log is told of a response that is a problem.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// Its code.
    pub(super) code: &'static str,
    /// The request that it is about, if it says so.
    pub(super) request_id: Option<RequestId>,
}

/// A refusal or failure on its way out. Boxed, as it travels in every `Result` of the server.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Problem(Box<Members>);

/// What a problem says, member by member.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Members {
    #[schema(value_type = ProblemStatus)]
    pub(super) status: &'static str,
    #[schema(value_type = ProblemCode)]
    pub(super) code: &'static str,
    pub(super) title: &'static str,
    pub(super) detail: String,
    /// The field of the request that is at fault, as in `legs[0].amount`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) account: Option<AccountId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) asset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) chain_id: Option<ChainId>,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Base64>)]
    pub(super) key: Option<String>,
    #[serde(flatten)]
    pub(super) fault: Option<FaultBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<Token>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) how: Option<Resolution>,
    /// Of what happened before and is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Seq>)]
    pub(super) commit_seq: Option<String>,
    /// What the venue is restricted to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) operation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) short_by: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_percent: Option<u8>,
    /// The oldest seq that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Seq>)]
    pub(super) oldest: Option<String>,
    /// The state that was seen: a decimal string like every seq.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Seq>)]
    pub(super) seq: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Timestamp>)]
    pub(super) time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) column: Option<usize>,
    #[serde(skip)]
    pub(super) retry_after_seconds: Option<u64>,
    #[serde(skip)]
    pub(super) http: u16,
}

impl Problem {
    /// A problem with one of [`CODES`], and what is particular to this occurrence.
    pub(super) fn new(code: &str, detail: impl Into<String>) -> Self {
        let known = CODES.iter().find(|known| known.name == code);
        let Code { name, http, title } = *known.expect("only documented codes are used");
        let status = match name {
            "stopped" | "storage" | "archive_unavailable" => "failed",
            "unknown_request" | "unknown_link" | "not_found" => "unknown",
            _ => "rejected",
        };
        Self(Box::new(Members {
            status,
            code: name,
            title,
            detail: detail.into(),
            field: None,
            request_id: None,
            account: None,
            asset: None,
            chain_id: None,
            key: None,
            fault: None,
            token: None,
            how: None,
            commit_seq: None,
            operation: None,
            short_by: None,
            max: None,
            max_percent: None,
            oldest: None,
            seq: None,
            time: None,
            line: None,
            column: None,
            retry_after_seconds: None,
            http,
        }))
    }

    /// A rule of form that `field` breaks.
    pub(super) fn malformed(field: impl Into<String>, why: impl Into<String>) -> Self {
        Malformed::new(field, why).into()
    }

    /// A refusal, with what it says of itself. `asset` is the name of the asset that it is about.
    pub(super) fn reject(reject: &Reject, asset: Option<&str>) -> Self {
        let mut problem = Self::new(reject.code(), detail(reject, asset));
        problem.0.asset = asset.map(str::to_owned);
        problem.0.add(reject);
        problem
    }

    /// The refusal of an asset that goes by no number.
    pub(super) fn unknown_asset(name: &str) -> Self {
        let name: String = name.chars().take(64).collect();
        let mut problem = Self::new("unknown_asset", format!("asset {name} does not exist"));
        problem.0.asset = Some(name);
        problem
    }

    /// The refusal of a market that goes by no number.
    pub(super) fn unknown_market(name: &str) -> Self {
        let name: String = name.chars().take(64).collect();
        let fault = OrderFault::UnknownMarket(MarketId::default());
        let problem = Self::reject(&Reject::Order(fault.clone()), None);
        problem.in_market(&fault, Some(&name)).at("market")
    }

    /// Says in which market the order is, by its name.
    pub(super) fn in_market(mut self, fault: &OrderFault, market: Option<&str>) -> Self {
        if let Some(words) = fault_in_words(fault, market) {
            self.0.detail = words;
        }
        if let Some(shown) = &mut self.0.fault {
            shown.market = market.map(str::to_owned);
        }
        self
    }

    /// Says which field is at fault.
    pub(super) fn at(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Says of which request it is the outcome.
    pub(super) fn of(mut self, request: RequestId) -> Self {
        self.0.request_id = Some(request);
        self
    }

    /// Says which state the refusal saw, and when.
    pub(super) fn seen(mut self, seq: CommitSeq, time: String) -> Self {
        self.0.seq.get_or_insert_with(|| seq.to_string());
        self.0.time = Some(time);
        self
    }

    /// Everything that it says.
    pub(super) fn members(&self) -> &Members {
        &self.0
    }

    /// Says after how many seconds to come back.
    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }
}

impl Members {
    /// What a refusal says of itself, but for the asset, which goes by its name.
    fn add(&mut self, reject: &Reject) {
        match reject {
            Reject::Malformed(malformed) => self.field = Some(malformed.field.clone()),
            Reject::UnknownChain(chain) => self.chain_id = Some(*chain),
            Reject::UnknownAccount(account) => self.account = Some(*account),
            Reject::Forbidden { account } => self.account = *account,
            Reject::Restricted { operation } => self.operation = Some(operation.name()),
            Reject::NotLinked { account, chain } => {
                self.account = Some(*account);
                self.chain_id = Some(*chain);
            }
            Reject::InsufficientFunds { account, asset: _, short_by, seq } => {
                self.account = Some(*account);
                self.short_by = Some(*short_by);
                self.seq = Some(seq.to_string());
            }
            Reject::UnknownToken(token) | Reject::LockTimeout { token } => {
                self.token = Some(*token);
            }
            Reject::AlreadyResolved { token, how, seq } => {
                self.token = Some(*token);
                self.how = Some(*how);
                self.commit_seq = Some(seq.to_string());
            }
            Reject::AlreadyCredited { asset: _, seq } => self.commit_seq = Some(seq.to_string()),
            Reject::Conflict { subject: Subject::Key(key) } => {
                self.key = Some(bytes::shown(key.bytes()));
            }
            Reject::Conflict { subject: Subject::Balance(of) } => self.account = Some(of.account),
            Reject::HeldShareExceeded { account, asset: _, max_percent } => {
                self.account = Some(*account);
                self.max_percent = Some(*max_percent);
            }
            Reject::TooManyHolds { account, max } => {
                self.account = *account;
                self.max = Some(*max);
            }
            Reject::Order(fault) => {
                if let OrderFault::TooMany { max } = fault {
                    self.max = Some(*max);
                }
                self.fault = Some(FaultBody::new(fault));
            }
            Reject::RequestIdReused
            | Reject::Expired
            | Reject::UnknownAsset(_)
            | Reject::AlreadyExists(_)
            | Reject::AlreadyLinked(_)
            | Reject::UnknownApiKey(_)
            | Reject::SupplyExceeded(_) => {}
        }
    }
}

/// The asset that a refusal is about.
pub(super) const fn asset_of(reject: &Reject) -> Option<AssetId> {
    match reject {
        Reject::UnknownAsset(asset)
        | Reject::SupplyExceeded(asset)
        | Reject::AlreadyCredited { asset, .. }
        | Reject::HeldShareExceeded { asset, .. }
        | Reject::InsufficientFunds { asset, .. }
        | Reject::Conflict { subject: Subject::Balance(BalanceKey { asset, .. }) } => Some(*asset),
        _ => None,
    }
}

/// What a fault that is about a market says of it by name; `None` where it says nothing of it.
fn fault_in_words(fault: &OrderFault, market: Option<&str>) -> Option<String> {
    match (fault, market) {
        (OrderFault::UnknownMarket(_), Some(market)) => {
            Some(format!("market {market} does not exist"))
        }
        // Its number may be a stand-in, which means nothing to anybody.
        (OrderFault::UnknownMarket(_), None) => {
            Some("a market that the request named did not exist".into())
        }
        (OrderFault::Halted(_), Some(market)) => {
            Some(format!("market {market} is halted; orders can only be canceled"))
        }
        _ => None,
    }
}

/// The refusal in words, with the asset's name in place of its number.
fn detail(reject: &Reject, asset: Option<&str>) -> String {
    let Some(asset) = asset else {
        return match reject {
            // Its number may be a stand-in, which means nothing to anybody.
            Reject::UnknownAsset(_) => "an asset that the request named did not exist".into(),
            other => other.to_string(),
        };
    };
    match reject {
        Reject::UnknownAsset(_) => format!("asset {asset} does not exist"),
        Reject::SupplyExceeded(_) => {
            format!("the supply of asset {asset} would exceed the cap of 2^127 - 1")
        }
        Reject::AlreadyCredited { seq, .. } => {
            format!("the reference was credited already for {asset}, at seq {seq}")
        }
        Reject::HeldShareExceeded { account, max_percent, .. } => {
            format!(
                "more than {max_percent}% of the {asset} of account {account} would be set aside"
            )
        }
        Reject::InsufficientFunds { account, short_by, seq, .. } => {
            format!("account {account} is short of {asset} by {short_by} at seq {seq}")
        }
        Reject::Conflict { subject: Subject::Balance(of) } => format!(
            "the {asset} of account {} has changed since it was read, or is about to; read again \
             and try again",
            of.account
        ),
        other => other.to_string(),
    }
}

impl From<Malformed> for Problem {
    fn from(malformed: Malformed) -> Self {
        Self::new("malformed", malformed.to_string()).at(malformed.field)
    }
}

impl From<NotAnObject> for Problem {
    fn from(NotAnObject { why, line, column }: NotAnObject) -> Self {
        let mut problem = Self::malformed("body", why);
        if line > 0 {
            problem.0.line = Some(line);
            problem.0.column = Some(column);
        }
        problem
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match &error {
            Error::Overloaded { .. } => Self::new("overloaded", error.to_string()),
            Error::Stopped { .. } => Self::new("stopped", error.to_string()),
            Error::Storage(_) => Self::new("storage", error.to_string()),
            Error::Archive(_) => Self::new("archive_unavailable", error.to_string()),
            Error::Config(malformed) => malformed.clone().into(),
            Error::Read(reject) => Self::reject(reject, None),
            Error::HistoryExpired { oldest } => {
                let mut problem = Self::new("history_expired", error.to_string());
                problem.0.oldest = Some(oldest.to_string());
                problem
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = serde_json::to_vec(&self).expect("plain members always serialize");
        body.push(b'\n');
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.0.http).expect("CODES hold valid statuses");
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        if ["overloaded", "recovering"].contains(&self.code()) {
            let seconds = HeaderValue::from_static(RETRY_AFTER_SECONDS);
            headers.insert(header::RETRY_AFTER, seconds);
        }
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.code() == "unauthenticated" {
            let (name, challenge) = door::challenge();
            headers.insert(name, challenge);
        }
        let told = Told { code: self.code(), request_id: self.0.request_id };
        response.extensions_mut().insert(told);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Key;

    #[test]
    fn every_refusal_has_a_documented_code_in_order_of_precedence() {
        let readme = include_str!("../../README.md");
        for code in Reject::CODES {
            assert!(readme.contains(&format!("`{code}`")), "the README does not name {code}");
        }
        for (documented, code) in CODES.iter().zip(Reject::CODES) {
            assert_eq!(documented.name, code);
        }
        let mut names: Vec<&str> = CODES.iter().map(|code| code.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CODES.len());
    }

    #[test]
    fn assets_go_by_their_names() {
        let reject = Reject::InsufficientFunds {
            account: AccountId::new(7),
            asset: AssetId::new(3),
            short_by: Amount::new(5),
            seq: CommitSeq::new(11),
        };
        let problem = Problem::reject(&reject, Some("ETH")).at("legs[0].amount");
        assert_eq!(
            serde_json::to_value(&problem).expect("an object"),
            serde_json::json!({
                "status": "rejected",
                "code": "insufficient_funds",
                "title": "A party has less than it would pay",
                "detail": "account 7 is short of ETH by 5 at seq 11",
                "field": "legs[0].amount",
                "account": 7,
                "asset": "ETH",
                "short_by": "5",
                "seq": "11",
            })
        );
    }

    /// What a refusal shows beside status, code, title and detail.
    fn particulars(reject: &Reject, asset: Option<&str>) -> serde_json::Value {
        let mut shown = serde_json::to_value(Problem::reject(reject, asset)).expect("an object");
        let members = shown.as_object_mut().expect("an object");
        for common in ["status", "code", "title", "detail"] {
            assert!(members.remove(common).is_some_and(|it| it.is_string()), "{common}");
        }
        shown
    }

    #[test]
    fn refusals_say_what_was_in_the_way() {
        let token = Token::of(RequestId::new(5));
        let (account, asset) = (AccountId::new(7), AssetId::new(3));
        let seq = CommitSeq::new(11);
        let shown = |reject: Reject| {
            let asset = asset_of(&reject).map(|_| "ETH");
            particulars(&reject, asset)
        };
        use serde_json::json;
        let unknown = json!({"token": token});
        assert_eq!(shown(Reject::UnknownToken(token)), unknown);
        assert_eq!(shown(Reject::LockTimeout { token }), unknown);
        let how = Resolution::RolledBack;
        assert_eq!(
            shown(Reject::AlreadyResolved { token, how, seq }),
            json!({"token": token, "how": "rolled_back", "commit_seq": "11"})
        );
        assert_eq!(
            shown(Reject::AlreadyCredited { asset, seq }),
            json!({"asset": "ETH", "commit_seq": "11"})
        );
        let subject = Subject::Key(Key::new(*b"a/b"));
        assert_eq!(shown(Reject::Conflict { subject }), json!({"key": "YS9i"}));
        let subject = Subject::Balance(BalanceKey { account, asset });
        let of = json!({"account": 7, "asset": "ETH"});
        assert_eq!(shown(Reject::Conflict { subject }), of);
        assert_eq!(
            shown(Reject::HeldShareExceeded { account, asset, max_percent: 50 }),
            json!({"account": 7, "asset": "ETH", "max_percent": 50})
        );
        assert_eq!(
            shown(Reject::TooManyHolds { account: Some(account), max: 9 }),
            json!({"account": 7, "max": 9})
        );
        assert_eq!(shown(Reject::TooManyHolds { account: None, max: 9 }), json!({"max": 9}));
    }

    #[test]
    fn overload_says_when_to_come_back() {
        let error = Error::Overloaded { limit: "requests_in_flight_max", max: 9 };
        let response = Problem::from(error).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}
