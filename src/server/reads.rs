//! What only looks: balances now and as of a seq, outcomes by request id, the audit.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::directory::Directory;
use crate::engine::Known;
use crate::error::{Error, Malformed, Reject};
use crate::message::BalanceNow;
use crate::types::{AccountId, Amount, CommitSeq, RequestId, Time};

use super::accounts::{account_id, unknown_account};
use super::extract::State;
use super::json;
use super::names::Names;
use super::openapi::schemas::{Pending, Seq};
use super::problem::Problem;
use super::query::{Param, Query};
use super::receipt::{self, Answer, asset_name};
use super::sight;
use super::state::{App, blocking};

/// One balance as it is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = Balance)]
pub(super) struct BalanceBody {
    asset: Box<str>,
    available: Amount,
    held: Amount,
    /// The seq that changed it last.
    #[schema(value_type = Seq)]
    version: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Balances)]
pub(super) struct BalancesBody {
    account: AccountId,
    #[schema(value_type = Seq)]
    seq: String,
    balances: Vec<BalanceBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Undecided)]
pub(super) struct PendingBody {
    #[schema(value_type = Pending)]
    status: &'static str,
    request_id: RequestId,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Audit)]
pub(super) struct AuditBody {
    #[schema(value_type = Seq)]
    seq: String,
    balanced: bool,
    /// How many were counted.
    balances: u64,
    assets: Vec<AssetAuditBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AssetAudit)]
struct AssetAuditBody {
    asset: Box<str>,
    /// Deposits less withdrawals.
    supply: Amount,
    /// The sum of all balances.
    balances: Amount,
    balanced: bool,
}

/// Balances under their assets' names.
pub(super) fn balance_bodies<'a>(
    balances: impl Iterator<Item = &'a BalanceNow>,
    directory: &Directory,
) -> Vec<BalanceBody> {
    let shown = balances.map(|now| BalanceBody {
        asset: asset_name(now.asset, directory),
        available: now.balance.available,
        held: now.balance.held,
        version: now.version.to_string(),
    });
    shown.collect()
}

/// `?at=SEQ` or `?at_time=RFC3339` → `{account, seq, balances: [{asset, available, held, version}]}`,
/// from one snapshot.
pub(super) async fn balances(
    State(app): State<App>,
    Param(account): Param<String>,
    mut query: Query,
) -> Result<Response, Problem> {
    let account = account_id(&account)?;
    sight::check(app.visitor(), account)?;
    let at = read_at(&mut query)?;
    query.finish()?;
    let engine = app.engine().clone();
    let read = match at {
        At::Now => engine.balances(account).await,
        At::Seq(at) => blocking(move || engine.balances_at(account, at)).await?,
        At::Time(time) => {
            blocking(move || engine.seq_at(time).and_then(|at| engine.balances_at(account, at)))
                .await?
        }
    };
    let snapshot = read.map_err(of_account)?;
    let body = BalancesBody {
        account,
        seq: snapshot.seq.to_string(),
        balances: balance_bodies(snapshot.balances.iter(), app.engine().directory()),
    };
    Ok(receipt::json(StatusCode::OK, &body))
}

/// As of when.
enum At {
    Now,
    Seq(CommitSeq),
    Time(Time),
}

fn read_at(query: &mut Query) -> Result<At, Malformed> {
    match (query.seq("at")?, query.optional("at_time", json::time_from)?) {
        (None, None) => Ok(At::Now),
        (Some(seq), None) => Ok(At::Seq(seq)),
        (None, Some(time)) => Ok(At::Time(time)),
        (Some(_), Some(_)) => Err(Malformed::new("at_time", "does not go with at; give one")),
    }
}

/// What went wrong with a read of the account that the path names.
pub(super) fn of_account(error: Error) -> Problem {
    match error {
        Error::Read(Reject::UnknownAccount(account)) => unknown_account(account),
        other => other.into(),
    }
}

/// The receipt, the refusal, `pending` (202), or `unknown_request` (404).
pub(super) async fn outcome(
    State(app): State<App>,
    Param(id): Param<String>,
) -> Result<Response, Problem> {
    let id: RequestId = id.parse().map_err(|why: String| Problem::malformed("request_id", why))?;
    let engine = app.engine().clone();
    match blocking(move || engine.known(id)).await?? {
        Known::Outcome(outcome) if sight::sees_outcome(app.visitor(), &outcome) => {
            let answer = Answer::of(outcome, &Names::default(), app.engine().directory());
            Ok(answer.into_response())
        }
        Known::Pending => {
            let body = PendingBody { status: "pending", request_id: id };
            Ok(receipt::json(StatusCode::ACCEPTED, &body))
        }
        Known::Outcome(_) | Known::Unknown => {
            Err(Problem::new("unknown_request", "no request was seen under this id").of(id))
        }
    }
}

/// Per asset, deposits − withdrawals (`supply`) against the sum of all balances, at one seq.
pub(super) async fn audit(State(app): State<App>) -> Result<Response, Problem> {
    let audit = app.engine().audit().await?;
    let directory = app.engine().directory();
    let assets: Vec<AssetAuditBody> = audit
        .assets
        .iter()
        .map(|found| AssetAuditBody {
            asset: asset_name(found.asset, directory),
            supply: found.supply,
            balances: found.balances,
            balanced: found.supply == found.balances,
        })
        .collect();
    let body = AuditBody {
        seq: audit.seq.to_string(),
        balanced: assets.iter().all(|asset| asset.balanced),
        balances: audit.balances,
        assets,
    };
    Ok(receipt::json(StatusCode::OK, &body))
}
