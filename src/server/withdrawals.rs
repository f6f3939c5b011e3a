//! `/v1/withdrawals`: value leaves in two phases. It is set aside; then it is gone, because the
//! chain took it, or it is back.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::directory::Directory;
use crate::request::{Action, Command, Purpose, Transfer};
use crate::types::{AccountId, Amount, CommitSeq, Resolution, Token};

use super::extract::{JsonBody, Key, State};
use super::holds::{self, Found};
use super::openapi::schemas::{Seq, Timestamp, WithdrawalState};
use super::problem::Problem;
use super::query::Param;
use super::receipt::{self, Answer, asset_name, rfc_3339};
use super::state::App;
use super::transfers;

/// `{request_id, account, asset, amount, reference?}` → the receipt: the amount is set aside. The
/// withdrawal's id is the request's.
pub(super) async fn open(
    State(app): State<App>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    let asked = transfers::read(&body, key, app.engine().directory(), Command::Withdraw);
    app.settle(app.counted("withdrawal", asked)?).await
}

/// `{request_id}` → the receipt: the amount is gone.
pub(super) async fn confirm(
    State(app): State<App>,
    Param(id): Param<String>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    holds::resolve(&app, &id, Action::Confirm, key, &body).await
}

/// `{request_id}` → the receipt: the amount is available again.
pub(super) async fn cancel(
    State(app): State<App>,
    Param(id): Param<String>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    holds::resolve(&app, &id, Action::Cancel, key, &body).await
}

#[derive(Serialize, ToSchema)]
#[schema(as = Withdrawal)]
pub(super) struct WithdrawalBody {
    id: Token,
    #[schema(value_type = WithdrawalState)]
    state: &'static str,
    account: AccountId,
    asset: Box<str>,
    amount: Amount,
    reference: Box<str>,
    /// The commit_seq that set it aside.
    #[schema(value_type = Seq)]
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Seq>)]
    commit_seq: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Timestamp>)]
    time: Option<String>,
}

/// What became of a withdrawal: `open`, `confirmed` or `canceled`.
pub(super) async fn get(
    State(app): State<App>,
    Param(id): Param<String>,
) -> Result<Response, Problem> {
    let found = holds::find(&app, "id", &id).await?;
    let body = shown(&found, app.engine().directory())?;
    Ok(receipt::json(StatusCode::OK, &body))
}

fn shown(found: &Found, directory: &Directory) -> Result<WithdrawalBody, Problem> {
    match found {
        Found::Open(hold) => match &hold.purpose {
            Purpose::Withdrawal(transfer) => {
                Ok(body(hold.token, "open", transfer, hold.since, directory))
            }
            Purpose::Swap(_) => Err(holds::unknown(hold.token, "id")),
        },
        Found::Ended { how, made, ended } => {
            let id = Token::of(made.request_id);
            let Command::Withdraw(transfer) = &made.command else {
                return Err(holds::unknown(id, "id"));
            };
            Ok(WithdrawalBody {
                commit_seq: Some(ended.commit_seq.to_string()),
                time: Some(rfc_3339(ended.time)),
                ..body(id, state(*how), transfer, made.commit_seq, directory)
            })
        }
    }
}

const fn state(how: Resolution) -> &'static str {
    match how {
        Resolution::Committed => "confirmed",
        // A withdrawal never expires by itself.
        Resolution::RolledBack | Resolution::Expired => "canceled",
    }
}

fn body(
    id: Token,
    state: &'static str,
    transfer: &Transfer,
    since: CommitSeq,
    directory: &Directory,
) -> WithdrawalBody {
    WithdrawalBody {
        id,
        state,
        account: transfer.account,
        asset: asset_name(transfer.asset, directory),
        amount: transfer.amount,
        reference: transfer.reference.clone(),
        since: since.to_string(),
        commit_seq: None,
        time: None,
    }
}
