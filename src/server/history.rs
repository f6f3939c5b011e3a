//! `GET /v1/accounts/{account}/history`: every change of an account's balances, with its cause.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::SWAP_LEGS_MAX;
use crate::directory::Directory;
use crate::store::history::HistoryEntry;
use crate::types::{AccountId, Amount, AssetId, CommitSeq, RequestId, Token};

use super::accounts::account_id;
use super::extract::State;
use super::json;
use super::openapi::schemas::{Seq, Timestamp};
use super::problem::Problem;
use super::query::{Param, Query};
use super::reads;
use super::receipt::{self, asset_name, rfc_3339};
use super::sight;
use super::state::{App, blocking};

/// Changes on a page, if the caller does not say.
pub(super) const LIMIT: u64 = 100;
/// Changes on a page, at most.
pub(super) const LIMIT_MAX: u64 = 1_000;
/// Changes of one account's balances that have the same seq, at most: a leg has one asset.
const CHANGES_PER_SEQ_MAX: usize = SWAP_LEGS_MAX;

#[derive(Serialize, ToSchema)]
#[schema(as = History)]
pub(super) struct HistoryBody {
    account: AccountId,
    changes: Vec<ChangeBody>,
    /// What to pass as `after` for the next page; `null` when this is the last one.
    #[schema(required = true, value_type = Option<Seq>)]
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Change)]
struct ChangeBody {
    #[schema(value_type = Seq)]
    seq: String,
    #[schema(value_type = Timestamp)]
    time: String,
    asset: Box<str>,
    available: Amount,
    held: Amount,
    available_before: Amount,
    held_before: Amount,
    request_id: RequestId,
    /// The kind of request that changed it.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
}

/// `?asset=&after=&limit=` → `{account, changes: [...], next}`, oldest first.
pub(super) async fn get(
    State(app): State<App>,
    Param(account): Param<String>,
    mut query: Query,
) -> Result<Response, Problem> {
    let account = account_id(&account)?;
    sight::check(app.visitor(), account)?;
    let asset = query.optional("asset", |name| Ok(name.to_owned()))?;
    let after = query.seq("after")?;
    let limit = query.optional("limit", limit_from)?.unwrap_or(LIMIT) as usize;
    query.finish()?;
    let directory = app.engine().directory();
    let of = |name: String| {
        directory.asset_by_name(&name).ok_or_else(|| Problem::unknown_asset(&name).at("asset"))
    };
    let asset = asset.map(of).transpose()?;
    let (changes, next) = page(&app, account, asset, after, limit).await?;
    let body = HistoryBody {
        account,
        changes: changes.iter().map(|change| shown(change, directory)).collect(),
        next: next.map(|seq| seq.to_string()),
    };
    Ok(receipt::json(StatusCode::OK, &body))
}

/// One page of changes, and where the next one begins.
///
/// # Errors
/// The account is not known; what is asked for is not remembered any more; the disk.
pub(super) async fn page(
    app: &App,
    account: AccountId,
    asset: Option<AssetId>,
    after: Option<CommitSeq>,
    limit: usize,
) -> Result<(Vec<HistoryEntry>, Option<CommitSeq>), Problem> {
    let engine = app.engine().clone();
    let asked = limit + CHANGES_PER_SEQ_MAX;
    let changes = blocking(move || {
        // Without a place to begin, from the oldest that is kept.
        let after = after.map_or_else(|| engine.oldest_seq(), Ok)?;
        engine.history(account, asset, after, asked)
    })
    .await?;
    let mut changes = changes.map_err(reads::of_account)?;
    let next = cut(&mut changes, limit, |change| change.seq);
    Ok((changes, next))
}

fn limit_from(text: &str) -> Result<u64, String> {
    match json::number_from(text)? {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        other => Err(format!("is {other}; give 1 to {LIMIT_MAX}")),
    }
}

/// Cuts a page, so that all changes of one seq are on it, or none: the next one begins after a seq.
/// Where the first seq alone has more than `limit`, it is a page. Returns the last seq on it, if
/// there is a next one.
fn cut<T>(changes: &mut Vec<T>, limit: usize, seq: impl Fn(&T) -> CommitSeq) -> Option<CommitSeq> {
    if changes.len() <= limit {
        return None;
    }
    let beyond = seq(&changes[limit]);
    let mut end = changes.iter().position(|change| seq(change) == beyond)?;
    if end == 0 {
        end = changes.iter().position(|change| seq(change) != beyond)?;
    }
    changes.truncate(end);
    changes.last().map(seq)
}

fn shown(change: &HistoryEntry, directory: &Directory) -> ChangeBody {
    ChangeBody {
        seq: change.seq.to_string(),
        time: rfc_3339(change.time),
        asset: asset_name(change.asset, directory),
        available: change.after.available,
        held: change.after.held,
        available_before: change.before.available,
        held_before: change.before.held,
        request_id: change.request_id,
        kind: change.kind,
        token: change.token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(seqs: &[u64], limit: usize) -> (Vec<u64>, Option<u64>) {
        let mut seqs = seqs.to_vec();
        let next = cut(&mut seqs, limit, |seq| CommitSeq::new(*seq));
        (seqs, next.map(CommitSeq::get))
    }

    #[test]
    fn a_page_ends_with_a_whole_seq() {
        assert_eq!(page(&[], 2), (vec![], None));
        assert_eq!(page(&[3, 3], 2), (vec![3, 3], None));
        assert_eq!(page(&[3, 3, 4], 2), (vec![3, 3], Some(3)));
        assert_eq!(page(&[3, 4, 4, 5], 2), (vec![3], Some(3)));
        assert_eq!(page(&[3, 3, 3, 4], 2), (vec![3, 3, 3], Some(3)));
        // Of one seq alone, and nothing after it.
        assert_eq!(page(&[3, 3, 3], 2), (vec![3, 3, 3], None));
    }

    #[test]
    fn limits_are_limited() {
        assert_eq!((limit_from("1"), limit_from("1000")), (Ok(1), Ok(1_000)));
        for text in ["0", "1001", "-1", "x", ""] {
            assert!(limit_from(text).is_err(), "{text}");
        }
    }
}
