//! `/v1/prepared`: a swap in two phases. Its amounts are set aside, and its token then moves them or
//! gives them back.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::directory::Directory;
use crate::engine::ExpiringHolds;
use crate::error::Malformed;
use crate::request::{Action, Command, Hold, Prepare, Purpose, Request, Swap};
use crate::types::{AccountId, Amount, Time, Token};

use super::books::within;
use super::extract::{JsonBody, Key, State};
use super::holds::{self, Found};
use super::json::{self, Object};
use super::legs;
use super::names::Names;
use super::openapi::schemas::{PreparedState, Seq, Timestamp};
use super::problem::Problem;
use super::query::{Param, Query};
use super::receipt::{self, Answer, asset_name, rfc_3339};
use super::sight;
use super::state::{App, Asked};

/// `{request_id, legs, deadline?, expires_in_ms?, exclusive?}` → the receipt, with the token.
pub(super) async fn prepare(
    State(app): State<App>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    let asked = app.counted("prepare", read(&body, key, &app))?;
    app.settle(asked).await
}

fn read(body: &JsonBody, key: Key, app: &App) -> Result<Asked, Problem> {
    let mut object = body.object()?;
    let id = key.required(&mut object)?;
    let mut names = Names::default();
    let (directory, expiry) = (app.engine().directory(), app.hold_expiry_ms());
    let (prepare, deadline) = read_rest(object, directory, expiry, &mut names)
        .map_err(|malformed| Problem::from(malformed).of(id))?;
    let command = Command::Prepare(Box::new(prepare));
    Ok(Asked::new(Request { deadline, ..Request::new(id, command) }, names))
}

fn read_rest(
    mut object: Object<'_>,
    directory: &Directory,
    hold_expiry_ms: u64,
    names: &mut Names,
) -> Result<(Prepare, Time), Malformed> {
    let deadline = object.optional("deadline", json::time)?.unwrap_or(Time::NEVER);
    let expires_in_ms = object.optional("expires_in_ms", json::number)?.unwrap_or(hold_expiry_ms);
    let exclusive = object.optional("exclusive", json::flag)?.unwrap_or(false);
    let values = object.required("legs", json::list)?;
    object.finish()?;
    let swap = Swap::new(legs::read("legs", values, directory, names)?)?;
    Ok((Prepare { swap, expires_in_ms, exclusive }, deadline))
}

/// `{request_id}` → the receipt with its legs: the amounts have moved.
pub(super) async fn commit(
    State(app): State<App>,
    Param(token): Param<String>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    holds::resolve(&app, &token, Action::Commit, key, &body).await
}

/// `{request_id}` → the receipt: the amounts are back where they were.
pub(super) async fn rollback(
    State(app): State<App>,
    Param(token): Param<String>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    holds::resolve(&app, &token, Action::Rollback, key, &body).await
}

#[derive(Serialize, ToSchema)]
#[schema(as = Prepared)]
pub(super) struct PreparedBody {
    token: Token,
    #[schema(value_type = PreparedState)]
    state: &'static str,
    legs: Vec<LegBody>,
    exclusive: bool,
    #[schema(value_type = Timestamp)]
    expires_at: String,
    /// The commit_seq that set the amounts aside.
    #[schema(value_type = Seq)]
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Seq>)]
    commit_seq: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Timestamp>)]
    time: Option<String>,
}

/// A leg as it was asked for.
#[derive(Serialize, ToSchema)]
#[schema(as = Leg)]
struct LegBody {
    from: AccountId,
    to: AccountId,
    asset: Box<str>,
    amount: Amount,
}

/// What became of a prepared swap: `open`, `committed`, `rolled_back` or `expired`.
pub(super) async fn get(
    State(app): State<App>,
    Param(token): Param<String>,
) -> Result<Response, Problem> {
    let found = holds::find(&app, "token", &token).await?;
    let body = shown(found, app.engine().directory())?;
    Ok(receipt::json(StatusCode::OK, &body))
}

fn shown(found: Found, directory: &Directory) -> Result<PreparedBody, Problem> {
    match found {
        Found::Open(hold) => {
            let Purpose::Swap(swap) = &hold.purpose else {
                return Err(holds::unknown(hold.token, "token"));
            };
            Ok(PreparedBody {
                token: hold.token,
                state: "open",
                legs: leg_bodies(swap, directory),
                exclusive: hold.exclusive,
                expires_at: rfc_3339(hold.expires_at),
                since: hold.since.to_string(),
                commit_seq: None,
                time: None,
            })
        }
        Found::Ended { how, made, ended } => {
            let token = Token::of(made.request_id);
            let (Command::Prepare(prepare), Some(hold)) = (&made.command, made.hold) else {
                return Err(holds::unknown(token, "token"));
            };
            Ok(PreparedBody {
                token,
                state: how.name(),
                legs: leg_bodies(&prepare.swap, directory),
                exclusive: prepare.exclusive,
                expires_at: rfc_3339(hold.expires_at),
                since: made.commit_seq.to_string(),
                commit_seq: Some(ended.commit_seq.to_string()),
                time: Some(rfc_3339(ended.time)),
            })
        }
    }
}

/// Holds on a page where nothing is said of them.
pub(super) const LIMIT: usize = 100;
/// Most of them.
pub(super) const LIMIT_MAX: u64 = 1_000;

/// Open holds that expire by themselves.
#[derive(Serialize, ToSchema)]
#[schema(as = PreparedList)]
pub(super) struct ListBody {
    /// They were open as of this seq.
    #[schema(value_type = Seq)]
    seq: String,
    /// The venue's time then, which is what they expire by.
    #[schema(value_type = Timestamp)]
    time: String,
    /// Whether those are all.
    complete: bool,
    prepared: Vec<PreparedBody>,
}

/// `?account=&limit=` → `{seq, time, complete, prepared: [...]}`: what is prepared and open, first what
/// expires soonest.
pub(super) async fn list(State(app): State<App>, mut query: Query) -> Result<Response, Problem> {
    let account = query.optional("account", json::number_from)?.map(AccountId::new);
    let limit = query.optional("limit", |text| within(text, LIMIT_MAX))?.unwrap_or(LIMIT);
    query.finish()?;
    let ExpiringHolds { seq, now, holds, is_all } = expiring(&app, account, limit).await?;
    let directory = app.engine().directory();
    let prepared = holds.into_iter().map(|hold| shown(Found::Open(Box::new(hold)), directory));
    let body = ListBody {
        seq: seq.to_string(),
        time: rfc_3339(now),
        complete: is_all,
        prepared: prepared.collect::<Result<_, _>>()?,
    };
    Ok(receipt::json(StatusCode::OK, &body))
}

/// The prepared swaps that expire next, of an account or of all that the visitor sees.
///
/// # Errors
/// The account is not the visitor's; the engine is overloaded or stopped.
pub(super) async fn expiring(
    app: &App,
    account: Option<AccountId>,
    limit: usize,
) -> Result<ExpiringHolds, Problem> {
    account.map_or(Ok(()), |account| sight::check(app.visitor(), account))?;
    let visitor = app.visitor().clone();
    let is_wanted = move |hold: &Hold| {
        let Purpose::Swap(swap) = &hold.purpose else { return false };
        let has = |of: AccountId| account.map_or_else(|| visitor.may_see(of), |only| only == of);
        swap.legs().iter().any(|leg| has(leg.from) || has(leg.to))
    };
    Ok(app.engine().expiring(limit, is_wanted).await?)
}

fn leg_bodies(swap: &Swap, directory: &Directory) -> Vec<LegBody> {
    let shown = swap.legs().iter().map(|leg| LegBody {
        from: leg.from,
        to: leg.to,
        asset: asset_name(leg.asset, directory),
        amount: leg.amount,
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(more: &str) -> Result<(Prepare, Time), Malformed> {
        let leg =
            |from, to| format!(r#"{{"from":{from},"to":{to},"asset":"ETH","amount":{from}}}"#);
        let body = format!(r#"{{"legs": [{}, {}]{more}}}"#, leg(1, 2), leg(2, 1));
        let object = Object::parse(&body).expect("json");
        read_rest(object, &Directory::new(), 60_000, &mut Names::default())
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let (plain, deadline) = prepare("").expect("a prepare");
        assert_eq!((plain.expires_in_ms, plain.exclusive), (60_000, false));
        assert_eq!(deadline, Time::NEVER);
        let (said, _) = prepare(r#","expires_in_ms":"5","exclusive":true"#).expect("a prepare");
        assert_eq!((said.expires_in_ms, said.exclusive), (5, true));
    }

    #[test]
    fn the_field_at_fault_is_named() {
        for (more, field) in [
            (r#","expires_in_ms":1.5"#, "expires_in_ms"),
            (r#","exclusive":1"#, "exclusive"),
            (r#","deadline":7"#, "deadline"),
            (r#","expires_in":7"#, "expires_in"),
        ] {
            assert_eq!(prepare(more).expect_err(more).field, field);
        }
    }
}
