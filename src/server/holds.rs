//! What prepared swaps and withdrawals have in common: both are holds that are resolved by token.

use crate::engine::{HoldState, Known};
use crate::error::{Error, Reject};
use crate::request::{Action, Command, Hold, Outcome, Receipt, Request, Resolve};
use crate::types::{RequestId, Resolution, Token};

use super::extract::{JsonBody, Key};
use super::names::Names;
use super::problem::Problem;
use super::receipt::Answer;
use super::sight;
use super::state::{App, Asked, blocking};

/// What is known of a hold, whether open or not.
pub(super) enum Found {
    /// It is open.
    Open(Box<Hold>),
    /// It is not open any more.
    Ended {
        /// What became of it.
        how: Resolution,
        /// The request that made it.
        made: Box<Receipt>,
        /// What ended it.
        ended: Box<Receipt>,
    },
}

/// Ends the hold that `token` names in a path; the body is `{request_id}`.
///
/// # Errors
/// The field at fault; the engine is overloaded or stopped.
pub(super) async fn resolve(
    app: &App,
    token: &str,
    action: Action,
    key: Key,
    body: &JsonBody,
) -> Result<Answer, Problem> {
    let kind = Command::Resolve(Resolve { token: Token::default(), action }).kind();
    let asked = app.counted(kind, read(token, action, key, body))?;
    app.settle(asked).await
}

fn read(token: &str, action: Action, key: Key, body: &JsonBody) -> Result<Asked, Problem> {
    let mut object = body.object()?;
    let id = key.required(&mut object)?;
    let told = |problem: Problem| problem.of(id);
    object.finish().map_err(|malformed| told(malformed.into()))?;
    let token = token_of(token, action).map_err(told)?;
    let command = Command::Resolve(Resolve { token, action });
    Ok(Asked::new(Request::new(id, command), Names::default()))
}

fn token_of(text: &str, action: Action) -> Result<Token, Problem> {
    text.parse().map_err(|why: String| Problem::malformed(field_of(action), why))
}

/// What the part of the path is called that names the hold.
pub(super) const fn field_of(action: Action) -> &'static str {
    match action {
        Action::Confirm | Action::Cancel => "id",
        Action::Commit | Action::Rollback | Action::Expire => "token",
    }
}

/// Looks up the hold that the part `field` of a path names.
///
/// # Errors
/// It is no token; there is no such hold; the engine is overloaded or stopped.
pub(super) async fn find(app: &App, field: &'static str, text: &str) -> Result<Found, Problem> {
    let token: Token = text.parse().map_err(|why: String| Problem::malformed(field, why))?;
    find_token(app, field, token).await
}

/// The same of a token that was read already.
///
/// # Errors
/// There is no such hold; the engine is overloaded or stopped.
pub(super) async fn find_token(
    app: &App,
    field: &'static str,
    token: Token,
) -> Result<Found, Problem> {
    let reader = app.clone();
    let found = blocking(move || look_up(&reader, token)).await??;
    let found = found.filter(|found| sight::sees_hold(app.visitor(), found));
    found.ok_or_else(|| unknown(token, field))
}

/// The refusal of a token in a path.
pub(super) fn unknown(token: Token, field: &'static str) -> Problem {
    Problem::reject(&Reject::UnknownToken(token), None).at(field)
}

/// Reads the disk when the hold is not open.
fn look_up(app: &App, token: Token) -> Result<Option<Found>, Error> {
    Ok(match app.engine().hold(token)? {
        HoldState::Open(hold) => Some(Found::Open(hold)),
        HoldState::Resolved(how, ended) => {
            let made = Box::new(made_by(app, token.request())?);
            Some(Found::Ended { how, made, ended })
        }
        HoldState::Unknown => None,
    })
}

fn made_by(app: &App, id: RequestId) -> Result<Receipt, Error> {
    match app.engine().known(id)? {
        Known::Outcome(Outcome::Settled(receipt)) => Ok(receipt),
        Known::Outcome(Outcome::Rejected(_)) | Known::Pending | Known::Unknown => {
            Err(Error::Storage(format!("the journal has lost request {id}, which made a hold")))
        }
    }
}
