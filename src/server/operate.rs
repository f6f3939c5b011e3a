//! `/v1/operate`: what the venue takes, and the switch for it.

use axum::http::StatusCode;
use axum::response::Response;

use crate::error::Malformed;
use crate::request::{Command, Request};
use crate::types::Operation;

use super::extract::{JsonBody, Key, State};
use super::json;
use super::names::Names;
use super::problem::Problem;
use super::receipt::{self, Answer, OperationBody};
use super::state::{App, Asked};

/// Says what the venue takes from now on.
pub(super) async fn post(
    State(app): State<App>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    let asked = app.counted("operate", read(key, &body, &app))?;
    app.settle(asked).await
}

fn read(key: Key, body: &JsonBody, app: &App) -> Result<Asked, Problem> {
    let mut object = body.object()?;
    let id = key.or_body(&mut object)?.unwrap_or_else(|| app.fresh_id());
    let told = |malformed: Malformed| Problem::from(malformed).of(id);
    let state = object.required("state", json::text).map_err(told)?;
    let state: Operation = state.parse().map_err(|why| told(Malformed::new("state", why)))?;
    object.finish().map_err(told)?;
    Ok(Asked::new(Request::new(id, Command::Operate(state)), Names::default()))
}

/// What the venue takes.
pub(super) async fn get(State(app): State<App>) -> Result<Response, Problem> {
    let state = app.engine().directory().operation();
    app.engine().directory_durable().await?;
    Ok(receipt::json(StatusCode::OK, &OperationBody::new(state)))
}
