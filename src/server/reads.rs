//! What only looks: balances now and as of a seq, outcomes by request id, the audit.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::directory::Directory;
use crate::engine::Known;
use crate::error::{Error, Reject};
use crate::message::BalanceNow;
use crate::types::{AccountId, Amount, RequestId};

use super::accounts::{account_id, unknown_account};
use super::extract::{At, Param};
use super::names::Names;
use super::problem::Problem;
use super::receipt::{self, Answer, asset_name};
use super::state::{App, blocking};

/// One balance as it is shown.
#[derive(Serialize)]
pub(super) struct BalanceBody {
    asset: Box<str>,
    available: Amount,
    held: Amount,
    version: String,
}

#[derive(Serialize)]
struct BalancesBody {
    account: AccountId,
    seq: String,
    balances: Vec<BalanceBody>,
}

#[derive(Serialize)]
struct PendingBody {
    status: &'static str,
    request_id: RequestId,
}

#[derive(Serialize)]
struct AuditBody {
    seq: String,
    balanced: bool,
    balances: u64,
    assets: Vec<AssetAuditBody>,
}

#[derive(Serialize)]
struct AssetAuditBody {
    asset: Box<str>,
    supply: Amount,
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

/// `?at=SEQ` → `{account, seq, balances: [{asset, available, held, version}]}`, from one snapshot.
pub(super) async fn balances(
    State(app): State<App>,
    Param(account): Param<String>,
    At(at): At,
) -> Result<Response, Problem> {
    let account = account_id(&account)?;
    let engine = app.engine().clone();
    let read = match at {
        None => engine.balances(account).await,
        Some(at) => blocking(move || engine.balances_at(account, at)).await?,
    };
    let snapshot = read.map_err(|error| match error {
        Error::Read(Reject::UnknownAccount(account)) => unknown_account(account),
        other => other.into(),
    })?;
    let body = BalancesBody {
        account,
        seq: snapshot.seq.to_string(),
        balances: balance_bodies(snapshot.balances.iter(), app.engine().directory()),
    };
    Ok(receipt::json(StatusCode::OK, &body))
}

/// The receipt, the refusal, `pending` (202), or `unknown_request` (404).
pub(super) async fn outcome(
    State(app): State<App>,
    Param(id): Param<String>,
) -> Result<Response, Problem> {
    let id: RequestId = id.parse().map_err(|why: String| Problem::malformed("request_id", why))?;
    let engine = app.engine().clone();
    match blocking(move || engine.known(id)).await?? {
        Known::Outcome(outcome) => {
            let answer = Answer::of(outcome, &Names::default(), app.engine().directory());
            Ok(answer.into_response())
        }
        Known::Pending => {
            let body = PendingBody { status: "pending", request_id: id };
            Ok(receipt::json(StatusCode::ACCEPTED, &body))
        }
        Known::Unknown => {
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
