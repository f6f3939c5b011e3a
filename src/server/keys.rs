//! `GET /v1/keys/{key}`: the value under a caller's key, now or as of a seq.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::bytes;
use super::extract::State;
use super::openapi::schemas::{Base64, Seq};
use super::problem::Problem;
use super::query::{Param, Query};
use super::receipt;
use super::state::{App, blocking};

#[derive(Serialize, ToSchema)]
#[schema(as = Value)]
pub(super) struct ValueBody {
    /// Base64; `null` where there is none.
    #[schema(required = true, value_type = Option<Base64>)]
    value: Option<String>,
    /// The seq that wrote or deleted it; 0 for a key that was never written.
    #[schema(value_type = Seq)]
    version: String,
}

/// `?at=SEQ` → `{value, version}`.
pub(super) async fn get(
    State(app): State<App>,
    Param(key): Param<String>,
    mut query: Query,
) -> Result<Response, Problem> {
    let key = bytes::key_in_path(&key).map_err(|why| Problem::malformed("key", why))?;
    let at = query.seq("at")?;
    query.finish()?;
    let found = blocking(move || app.engine().record(&key, at)).await??;
    let (value, version) = found.map_or_else(Default::default, |found| (found.value, found.seq));
    let value = value.map(|value| bytes::shown(&value));
    let body = ValueBody { value, version: version.to_string() };
    Ok(receipt::json(StatusCode::OK, &body))
}
