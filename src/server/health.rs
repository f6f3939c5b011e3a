//! What machines ask a server: whether it lives, whether it is ready, what it is, how it does.

use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::metrics::Exporter;

use super::openapi::schemas::Health;
use super::problem::Problem;
use super::receipt::json;
use super::state::{App, blocking};

/// Content type of Prometheus' text format.
pub(super) const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Serialize, ToSchema)]
#[schema(as = Status)]
pub(super) struct Status {
    #[schema(value_type = Health)]
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Version)]
pub(super) struct Version {
    name: &'static str,
    version: &'static str,
}

/// The process answers.
pub(super) async fn livez() -> Response {
    json(StatusCode::OK, &Status { status: "live" })
}

/// New work may be sent here: 503 once the server stops or the engine has stopped.
pub(super) async fn readyz(State(app): State<App>) -> Result<Response, Problem> {
    if let Some(cause) = app.engine().stopped() {
        return Err(Problem::new("stopped", format!("the engine has stopped: {cause}")));
    }
    if app.is_stopping() {
        return Err(Problem::new("stopped", "the server is stopping"));
    }
    Ok(json(StatusCode::OK, &Status { status: "ready" }))
}

/// What is running.
pub(super) async fn version() -> Response {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    json(StatusCode::OK, &Version { name, version })
}

/// Everything measured so far.
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    metrics_of(app.exporter().clone()).await
}

/// The same, where there is no engine yet.
pub(super) async fn metrics_of(exporter: Exporter) -> Result<Response, Problem> {
    let text = blocking(move || exporter.render()).await?;
    Ok(([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], text).into_response())
}

/// No such path.
pub(super) async fn not_found(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(64).collect();
    Problem::new("not_found", format!("there is nothing at {path}"))
}

/// The path is right, the method is not; the `Allow` header says which are.
pub(super) async fn method_not_allowed() -> Problem {
    Problem::new("method_not_allowed", "see the Allow header for the methods that this path takes")
}
