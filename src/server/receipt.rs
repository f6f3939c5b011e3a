//! Outcomes as JSON: a receipt, or the problem that says why there is none.
//!
//! A receipt holds what the journal holds, so it is the same however often and however late it is
//! asked for: right after the request, by request id, after a restart.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::Caller;
use crate::address::Link;
use crate::directory::Directory;
use crate::error::Reject;
use crate::request::{Action, AssetSpec, Change, Command, LegReceipt, Outcome, Receipt, Refusal};
use crate::types::{
    AccountId, Amount, AssetId, ChainId, ChainKind, Operation, RequestId, Time, Token,
};

use super::markets::MarketBody;
use super::names::Names;
use super::openapi::schemas::{OperationState, Seq, Settled, Timestamp};
use super::problem::{Problem, asset_of};
use super::trading::{SettlementBody, market_name};

/// An answer as it stands in a response, alone or in a batch.
#[derive(Debug, Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "nearly all are receipts")]
pub(super) enum Answer {
    /// It happened.
    Settled(ReceiptBody),
    /// It did not.
    Refused(Problem),
}

impl Answer {
    /// The outcome of a request whose asset names are still known.
    pub(super) fn of(outcome: Outcome, names: &Names, directory: &Directory) -> Self {
        match outcome {
            Outcome::Settled(receipt) => Self::Settled(ReceiptBody::new(receipt, directory)),
            Outcome::Rejected(refusal) => Self::Refused(refused(&refusal, names, directory)),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Self::Settled(body) => json(StatusCode::OK, &body),
            Self::Refused(problem) => problem.into_response(),
        }
    }
}

/// A JSON response; it ends its line, for those who read it on a terminal.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let mut body = serde_json::to_vec(body).expect("plain members always serialize");
    body.push(b'\n');
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The refusal with the names and the field that its request had for what it is about.
pub(super) fn refused(refusal: &Refusal, names: &Names, directory: &Directory) -> Problem {
    let reject = &refusal.reject;
    let asset = asset_of(reject).and_then(|asset| names.asset(asset, directory));
    let mut problem = Problem::reject(reject, asset.as_deref()).of(refusal.request_id);
    if let Reject::Order(fault) = reject {
        problem = problem.in_market(fault, names.market_of(fault, directory).as_deref());
    }
    if let Some(field) = names.field(reject, directory) {
        problem = problem.at(field);
    }
    // Without a time it is not journaled and speaks of no state.
    if refusal.time == Time::default() {
        return problem;
    }
    problem.seen(refusal.seq, rfc_3339(refusal.time))
}

/// A settled request: what every receipt has, and what its kind adds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Receipt)]
pub(super) struct ReceiptBody {
    #[schema(value_type = Settled)]
    status: &'static str,
    request_id: RequestId,
    #[schema(value_type = Seq)]
    commit_seq: String,
    #[schema(value_type = Timestamp)]
    time: String,
    /// Name of the API key that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<Box<str>>,
    #[serde(flatten)]
    #[schema(ignore)]
    what: What,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum What {
    Moved(MovedBody),
    SetAside(SetAsideBody),
    Resolved(ResolvedBody),
    Transfer(TransferBody),
    /// What an order, an amendment or a cancellation came to.
    Traded(Box<SettlementBody>),
    Market(Box<MarketBody>),
    Switched(SwitchedBody),
    Asset(AssetBody),
    Account(PutAccountBody),
    NoLink(NoLinkBody),
    Key(KeyChangedBody),
    Operation(OperationBody),
}

/// A swap, a transaction.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MovedBody {
    legs: Vec<LegBody>,
}

/// A prepared swap.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SetAsideBody {
    token: Token,
    #[schema(value_type = Timestamp)]
    expires_at: String,
}

/// The end of a hold: with the legs that moved, or a withdrawal's balance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ResolvedBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
    #[serde(skip_serializing_if = "Option::is_none")]
    legs: Option<Vec<LegBody>>,
    #[serde(flatten)]
    around: Option<AroundBody>,
}

/// A deposit; a withdrawal, with its token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TransferBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
    account: AccountId,
    asset: Box<str>,
    amount: Amount,
    reference: Box<str>,
    #[serde(flatten)]
    around: AroundBody,
}

impl OperationBody {
    /// That state.
    pub(super) const fn new(state: Operation) -> Self {
        Self { state: state.name() }
    }
}

/// A market that was halted or resumed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SwitchedBody {
    market: Box<str>,
    halted: bool,
}

/// An account, and the links that were added to it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PutAccountBody {
    account: AccountId,
    links: Vec<Link>,
}

/// A link that is gone.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NoLinkBody {
    account: AccountId,
    chain_id: ChainId,
}

/// An API key that was put or revoked.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyChangedBody {
    name: Box<str>,
    revoked: bool,
}

/// What the venue takes from now on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OperationBody {
    #[schema(value_type = OperationState)]
    state: &'static str,
}

/// A balance (available + held) around a request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Around)]
struct AroundBody {
    before: Amount,
    after: Amount,
}

impl From<Change> for AroundBody {
    fn from(Change { before, after }: Change) -> Self {
        Self { before, after }
    }
}

/// A leg with what it left: available and held, before and after the whole request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MovedLeg)]
struct LegBody {
    from: AccountId,
    to: AccountId,
    asset: Box<str>,
    amount: Amount,
    from_before: Amount,
    from_after: Amount,
    to_before: Amount,
    to_after: Amount,
}

/// An asset as it is described to clients.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Asset)]
pub(super) struct AssetBody {
    asset: Box<str>,
    chain_id: ChainId,
    chain_kind: ChainKind,
    token: Box<str>,
    decimals: u8,
}

impl From<AssetSpec> for AssetBody {
    fn from(spec: AssetSpec) -> Self {
        let AssetSpec { name, chain, chain_kind, token, decimals } = spec;
        Self { asset: name, chain_id: chain, chain_kind, token, decimals }
    }
}

/// The name of the API key that asked; `None` for who needs none.
pub(super) fn key_name(caller: Caller, directory: &Directory) -> Option<Box<str>> {
    match caller {
        Caller::Trusted => None,
        Caller::Key(number) => directory.key(number).map(|issued| issued.key.name.clone()),
    }
}

impl ReceiptBody {
    pub(super) fn new(receipt: Receipt, directory: &Directory) -> Self {
        let Receipt { request_id, commit_seq, time, command, legs, change, .. } = receipt;
        let Receipt { caller, hold, settlement, .. } = receipt;
        let legs = || legs.iter().map(|leg| LegBody::new(leg, directory)).collect();
        let token = hold.map(|hold| hold.token);
        let what = match command {
            Command::Swap(_) | Command::Transact(_) => What::Moved(MovedBody { legs: legs() }),
            Command::Prepare(_) => {
                let hold = hold.expect("what is prepared is held");
                let expires_at = rfc_3339(hold.expires_at);
                What::SetAside(SetAsideBody { token: hold.token, expires_at })
            }
            Command::Resolve(resolve) => What::Resolved(ResolvedBody {
                token,
                legs: (resolve.action == Action::Commit).then(legs),
                around: change.map(AroundBody::from),
            }),
            Command::Deposit(transfer) | Command::Withdraw(transfer) => {
                What::Transfer(TransferBody {
                    token,
                    account: transfer.account,
                    asset: asset_name(transfer.asset, directory),
                    amount: transfer.amount,
                    reference: transfer.reference,
                    around: change.unwrap_or_default().into(),
                })
            }
            of_market @ (Command::Order(_)
            | Command::Amend(_)
            | Command::Cancel(_)
            | Command::ExpireOrder(_)
            | Command::CancelAll { .. }) => {
                let settlement = settlement.expect("a market has said what it came to");
                let body = SettlementBody::new(request_id, &of_market, &settlement, directory);
                What::Traded(Box::new(body))
            }
            Command::PutMarket(spec) => What::Market(Box::new(MarketBody::new(&spec, directory))),
            Command::SwitchMarket { market, halted } => {
                let market = market_name(market, directory);
                What::Switched(SwitchedBody { market, halted })
            }
            Command::PutAsset(spec) => What::Asset(spec.into()),
            Command::PutAccount { account, links } => {
                What::Account(PutAccountBody { account, links })
            }
            Command::RemoveLink { account, chain } => {
                What::NoLink(NoLinkBody { account, chain_id: chain })
            }
            Command::PutKey(key) => What::Key(KeyChangedBody { name: key.name, revoked: false }),
            Command::RevokeKey(name) => What::Key(KeyChangedBody { name, revoked: true }),
            Command::Operate(state) => What::Operation(OperationBody::new(state)),
        };
        let commit_seq = commit_seq.to_string();
        let (time, api_key) = (rfc_3339(time), key_name(caller, directory));
        Self { status: "settled", request_id, commit_seq, time, api_key, what }
    }
}

impl LegBody {
    fn new(receipt: &LegReceipt, directory: &Directory) -> Self {
        let LegReceipt { leg, from, to } = receipt;
        Self {
            from: leg.from,
            to: leg.to,
            asset: asset_name(leg.asset, directory),
            amount: leg.amount,
            from_before: from.before,
            from_after: from.after,
            to_before: to.before,
            to_after: to.after,
        }
    }
}

/// The name of an asset that exists: assets are never removed.
pub(super) fn asset_name(asset: AssetId, directory: &Directory) -> Box<str> {
    directory.asset(asset).map_or_else(|| asset.to_string().into(), |spec| spec.name)
}

/// A time in UTC, always with six decimals.
pub(crate) fn rfc_3339(time: Time) -> String {
    let micros = i64::try_from(time.get()).unwrap_or(i64::MAX);
    let stamp = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX);
    format!("{stamp:.6}")
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::request::{HoldReceipt, Prepare, Resolve, Swap, Transfer};
    use crate::types::{CommitSeq, Leg};

    fn directory() -> Directory {
        let directory = Directory::new();
        for (name, chain) in [("ETH", 1), ("SOL", 101)] {
            directory.insert_asset(AssetSpec {
                name: name.into(),
                chain: ChainId::new(chain),
                chain_kind: ChainKind::Other,
                token: "native".into(),
                decimals: 9,
            });
        }
        directory
    }

    fn receipt(command: Command) -> Receipt {
        Receipt {
            caller: Caller::Trusted,
            request_id: RequestId::v7(1_700_000_000_123, 5),
            commit_seq: CommitSeq::new(9),
            time: Time::new(1_700_000_000_123_000),
            command,
            legs: smallvec![],
            change: None,
            hold: None,
            settlement: None,
        }
    }

    fn shown(receipt: Receipt) -> serde_json::Value {
        serde_json::to_value(ReceiptBody::new(receipt, &directory())).expect("an object")
    }

    fn change(before: u128, after: u128) -> Change {
        Change { before: Amount::new(before), after: Amount::new(after) }
    }

    fn two_legs() -> [Leg; 2] {
        let leg = |from, to, asset, amount| Leg {
            from: AccountId::new(from),
            to: AccountId::new(to),
            asset: AssetId::new(asset),
            amount: Amount::new(amount),
        };
        [leg(1, 2, 0, 5), leg(2, 1, 1, 7)]
    }

    fn transfer() -> Transfer {
        Transfer {
            account: AccountId::new(1),
            asset: AssetId::new(1),
            amount: Amount::new(3),
            reference: "tx".into(),
        }
    }

    #[test]
    fn a_swap_shows_its_legs_and_the_balances_around_them() {
        let legs = two_legs();
        let mut receipt = receipt(Command::Swap(Swap::new(legs).expect("a swap")));
        receipt.legs = smallvec![
            LegReceipt { leg: legs[0], from: change(5, 0), to: change(0, 5) },
            LegReceipt { leg: legs[1], from: change(u128::MAX, 8), to: change(1, 8) },
        ];
        assert_eq!(
            shown(receipt),
            serde_json::json!({
                "status": "settled",
                "request_id": "018bcfe5-687b-7000-8000-000000000005",
                "commit_seq": "9",
                "time": "2023-11-14T22:13:20.123000Z",
                "legs": [
                    {"from": 1, "to": 2, "asset": "ETH", "amount": "5",
                     "from_before": "5", "from_after": "0", "to_before": "0", "to_after": "5"},
                    {"from": 2, "to": 1, "asset": "SOL", "amount": "7",
                     "from_before": u128::MAX.to_string(), "from_after": "8",
                     "to_before": "1", "to_after": "8"},
                ],
            })
        );
    }

    #[test]
    fn a_deposit_shows_the_balance_around_it() {
        let mut receipt = receipt(Command::Deposit(transfer()));
        receipt.change = Some(change(4, 7));
        let shown = shown(receipt);
        assert_eq!(shown["asset"], "SOL");
        assert_eq!((&shown["before"], &shown["after"]), (&"4".into(), &"7".into()));
        assert_eq!(shown["reference"], "tx");
        assert!(shown.get("legs").is_none());
    }

    /// What a receipt shows beside status, request id, seq and time.
    fn particulars(receipt: Receipt) -> serde_json::Value {
        let mut shown = shown(receipt);
        let members = shown.as_object_mut().expect("an object");
        for common in ["status", "request_id", "commit_seq", "time"] {
            assert!(members.remove(common).is_some(), "{common}");
        }
        shown
    }

    #[test]
    fn holds_show_their_token_and_what_became_of_them() {
        let token = Token::of(RequestId::new(5));
        let swap = Swap::new(two_legs()).expect("a swap");
        let prepare = Prepare { swap, expires_in_ms: 1, exclusive: false };
        let hold = Some(HoldReceipt { token, expires_at: Time::new(1_000_000) });
        let with = |command| Receipt { hold, ..receipt(command) };
        assert_eq!(
            particulars(with(Command::Prepare(Box::new(prepare)))),
            serde_json::json!({"token": token, "expires_at": "1970-01-01T00:00:01.000000Z"})
        );
        let end = |action| with(Command::Resolve(Resolve { token, action }));
        let legs = particulars(end(Action::Commit))["legs"].clone();
        assert_eq!(legs, serde_json::json!([]));
        assert_eq!(particulars(end(Action::Rollback)), serde_json::json!({"token": token}));
        let mut gone = end(Action::Confirm);
        gone.change = Some(change(9, 6));
        let expected = serde_json::json!({"token": token, "before": "9", "after": "6"});
        assert_eq!(particulars(gone), expected);
        let mut open = with(Command::Withdraw(transfer()));
        open.change = Some(change(9, 9));
        let shown = particulars(open);
        assert_eq!((&shown["token"], &shown["before"]), (&expected["token"], &"9".into()));
        assert_eq!(shown["amount"], "3");
    }

    #[test]
    fn a_transaction_shows_its_legs_even_if_there_are_none() {
        let shown = particulars(receipt(Command::Transact(Box::default())));
        assert_eq!(shown, serde_json::json!({"legs": []}));
    }
}
