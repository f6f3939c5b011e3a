//! `/v1/assets`: which tokens there are, and on which chains.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::address::Address;
use crate::error::Malformed;
use crate::request::{AssetSpec, Command, Request};
use crate::types::{ChainId, ChainKind};

use super::extract::{JsonBody, Key, State};
use super::json::{self, Object, Value};
use super::names::Names;
use super::problem::Problem;
use super::query::Param;
use super::receipt::{self, Answer, AssetBody};
use super::state::{App, Asked};

/// What `token` says of a chain's own coin.
const NATIVE: &str = "native";

#[derive(Serialize, ToSchema)]
#[schema(as = Assets)]
pub(super) struct Assets {
    assets: Vec<AssetBody>,
}

/// `{chain_id, chain_kind, token, decimals}` → the receipt; the same again is accepted.
pub(super) async fn put(
    State(app): State<App>,
    Param(name): Param<String>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    let asked = app.counted("asset", read(name, &body, key, &app))?;
    app.settle(asked).await
}

fn read(name: String, body: &JsonBody, key: Key, app: &App) -> Result<Asked, Problem> {
    let mut object = body.object()?;
    let id = key.or_body(&mut object)?.unwrap_or_else(|| app.fresh_id());
    let spec = read_spec(name, object).map_err(|malformed| Problem::from(malformed).of(id))?;
    Ok(Asked::new(Request::new(id, Command::PutAsset(spec)), Names::default()))
}

fn read_spec(name: String, mut object: Object<'_>) -> Result<AssetSpec, Malformed> {
    let chain = ChainId::new(object.required("chain_id", json::number)?);
    let chain_kind = object.required("chain_kind", chain_kind)?;
    let token = object.required("token", |value| token(value, chain_kind))?;
    let decimals = object.required("decimals", |value| {
        u8::try_from(json::number(value)?).map_err(|_| "is above 255".into())
    })?;
    object.finish()?;
    Ok(AssetSpec { name: name.into(), chain, chain_kind, token, decimals })
}

fn chain_kind(value: Value<'_>) -> Result<ChainKind, String> {
    serde_json::from_str(value.get())
        .map_err(|_| r#"is none of "evm", "solana", "bitcoin", "other""#.into())
}

/// `native`, or the address of the token's contract or mint in the chain's one spelling, so that
/// the same token is the same asset however it is written.
fn token(value: Value<'_>, kind: ChainKind) -> Result<Box<str>, String> {
    token_of(&json::text(value)?, kind)
}

/// The same of plain text.
pub(super) fn token_of(text: &str, kind: ChainKind) -> Result<Box<str>, String> {
    match kind {
        ChainKind::Evm | ChainKind::Solana if text != NATIVE => {
            let address = Address::parse(kind, text)?;
            Ok(address.as_str().into())
        }
        // There tokens go by names of other forms: a rune's id, a denomination.
        _ => Ok(text.into()),
    }
}

/// All assets, in the order in which they were created.
pub(super) async fn list(State(app): State<App>) -> Result<Response, Problem> {
    let assets = app.engine().directory().assets();
    app.engine().directory_durable().await?;
    let assets = assets.into_iter().map(AssetBody::from).collect();
    Ok(receipt::json(StatusCode::OK, &Assets { assets }))
}

/// One asset.
pub(super) async fn get(
    State(app): State<App>,
    Param(name): Param<String>,
) -> Result<Response, Problem> {
    let directory = app.engine().directory();
    let found = directory.asset_by_name(&name).and_then(|asset| directory.asset(asset));
    app.engine().directory_durable().await?;
    match found {
        Some(spec) => Ok(receipt::json(StatusCode::OK, &AssetBody::from(spec))),
        None => Err(Problem::unknown_asset(&name).at("asset")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(body: &str) -> Result<AssetSpec, Malformed> {
        read_spec("USDC".into(), Object::parse(body).expect("json"))
    }

    #[test]
    fn tokens_have_one_spelling() {
        let with = |token: &str| {
            spec(&format!(
                r#"{{"chain_id": 1, "chain_kind": "evm", "token": "{token}", "decimals": 6}}"#
            ))
        };
        let lower = with("0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48").expect("an asset");
        let mixed = with("0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48").expect("an asset");
        assert_eq!(lower, mixed);
        assert_eq!(with("0xa0b8").expect_err("short").field, "token");
        assert_eq!(&*with("native").expect("an asset").token, "native");
    }

    #[test]
    fn the_field_at_fault_is_named() {
        for (body, field) in [
            ("{}", "chain_id"),
            (r#"{"chain_id": 1}"#, "chain_kind"),
            (r#"{"chain_id": 1, "chain_kind": "cosmos"}"#, "chain_kind"),
            (r#"{"chain_id": 1, "chain_kind": "evm", "token": 5}"#, "token"),
            (
                r#"{"chain_id": 1, "chain_kind": "evm", "token": "native", "decimals": 256}"#,
                "decimals",
            ),
            (r#"{"chain_id":1,"chain_kind":"evm","token":"native","decimals":1,"x":2}"#, "x"),
        ] {
            assert_eq!(spec(body).expect_err(body).field, field);
        }
    }
}
