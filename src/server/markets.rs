//! `/v1/markets`: which order books there are, in which steps they trade, and for which fees.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::directory::{Directory, Listed};
use crate::error::Malformed;
use crate::market::MarketSpec;
use crate::request::{Command, Request};
use crate::types::{AccountId, Amount};

use super::extract::{JsonBody, Key, State};
use super::json::{self, Object, Value};
use super::names::Names;
use super::openapi::schemas::Digits;
use super::problem::Problem;
use super::query::Param;
use super::receipt::{self, Answer, asset_name};
use super::state::{App, Asked};

/// A market as it is described to clients.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Market)]
pub(super) struct MarketBody {
    market: Box<str>,
    base: Box<str>,
    quote: Box<str>,
    #[schema(value_type = Digits)]
    tick_size: String,
    #[schema(value_type = Digits)]
    lot_size: String,
    maker_fee_bps: i16,
    taker_fee_bps: i16,
    fee_account: AccountId,
    #[schema(value_type = Digits)]
    min_notional: String,
    price_band_bps: u32,
    /// Whether orders can only be canceled. A receipt does not say: it is older.
    #[serde(skip_serializing_if = "Option::is_none")]
    halted: Option<bool>,
}

impl MarketBody {
    /// A market as it was set up.
    pub(super) fn new(spec: &MarketSpec, directory: &Directory) -> Self {
        Self {
            market: spec.name.clone(),
            base: asset_name(spec.base, directory),
            quote: asset_name(spec.quote, directory),
            tick_size: spec.tick_size.to_string(),
            lot_size: spec.lot_size.to_string(),
            maker_fee_bps: spec.maker_fee_bps,
            taker_fee_bps: spec.taker_fee_bps,
            fee_account: spec.fee_account,
            min_notional: spec.min_notional.to_string(),
            price_band_bps: spec.price_band_bps,
            halted: None,
        }
    }

    /// A market as it is now.
    fn now(listed: &Listed, directory: &Directory) -> Self {
        Self { halted: Some(listed.halted), ..Self::new(&listed.spec, directory) }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = Markets)]
pub(super) struct Markets {
    markets: Vec<MarketBody>,
}

/// `{base, quote, tick_size, lot_size, maker_fee_bps, taker_fee_bps, fee_account, min_notional?,
/// price_band_bps?}` → the receipt; the same again is accepted.
pub(super) async fn put(
    State(app): State<App>,
    Param(name): Param<String>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    let asked = app.counted("market", read(name, &body, key, &app))?;
    app.settle(asked).await
}

fn read(name: String, body: &JsonBody, key: Key, app: &App) -> Result<Asked, Problem> {
    let mut object = body.object()?;
    let id = key.or_body(&mut object)?.unwrap_or_else(|| app.fresh_id());
    let mut names = Names::default();
    let spec = read_spec(name, object, app.engine().directory(), &mut names)
        .map_err(|malformed| Problem::from(malformed).of(id))?;
    Ok(Asked::new(Request::new(id, Command::PutMarket(Box::new(spec))), names))
}

fn read_spec(
    name: String,
    mut object: Object<'_>,
    directory: &Directory,
    names: &mut Names,
) -> Result<MarketSpec, Malformed> {
    let spec = MarketSpec {
        name: name.into(),
        base: names.resolve(&object.required("base", json::asset)?, directory),
        quote: names.resolve(&object.required("quote", json::asset)?, directory),
        tick_size: object.required("tick_size", json::number)?,
        lot_size: object.required("lot_size", json::number)?,
        maker_fee_bps: object.required("maker_fee_bps", bps)?,
        taker_fee_bps: object.required("taker_fee_bps", bps)?,
        fee_account: AccountId::new(object.required("fee_account", json::number)?),
        min_notional: object.optional("min_notional", json::amount)?.map_or(0, Amount::get),
        price_band_bps: object.optional("price_band_bps", band)?.unwrap_or(0),
    };
    object.finish()?;
    Ok(spec)
}

/// Ten-thousandths, which may be below zero.
fn bps(value: Value<'_>) -> Result<i16, String> {
    i16::try_from(json::signed(value)?).map_err(|_| "is not within 10000 either way".into())
}

fn band(value: Value<'_>) -> Result<u32, String> {
    u32::try_from(json::number(value)?).map_err(|_| format!("is above {}", u32::MAX))
}

/// `{}` → the receipt: from now on, orders can only be canceled there.
pub(super) async fn halt(
    State(app): State<App>,
    Param(name): Param<String>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    switch(&app, &name, true, key, &body).await
}

/// `{}` → the receipt: from now on, orders are taken again.
pub(super) async fn resume(
    State(app): State<App>,
    Param(name): Param<String>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    switch(&app, &name, false, key, &body).await
}

async fn switch(
    app: &App,
    name: &str,
    halted: bool,
    key: Key,
    body: &JsonBody,
) -> Result<Answer, Problem> {
    let asked = app.counted("market_switch", read_switch(name, halted, key, body, app))?;
    app.settle(asked).await
}

fn read_switch(
    name: &str,
    halted: bool,
    key: Key,
    body: &JsonBody,
    app: &App,
) -> Result<Asked, Problem> {
    let mut object = body.object()?;
    let id = key.or_body(&mut object)?.unwrap_or_else(|| app.fresh_id());
    let told = |malformed: Malformed| Problem::from(malformed).of(id);
    object.finish().map_err(told)?;
    let mut names = Names::default();
    let name = json::name_from(name).map_err(|why| told(Malformed::new("market", why)))?;
    let market = names.resolve_market(name, app.engine().directory());
    Ok(Asked::new(Request::new(id, Command::SwitchMarket { market, halted }), names))
}

/// All markets, in the order in which they were created.
pub(super) async fn list(State(app): State<App>) -> Result<Response, Problem> {
    let directory = app.engine().directory();
    let markets = directory.markets();
    app.engine().directory_durable().await?;
    let markets = markets.iter().map(|listed| MarketBody::now(listed, directory)).collect();
    Ok(receipt::json(StatusCode::OK, &Markets { markets }))
}

/// One market.
pub(super) async fn get(
    State(app): State<App>,
    Param(name): Param<String>,
) -> Result<Response, Problem> {
    let directory = app.engine().directory();
    let found = directory.market_by_name(&name).and_then(|market| directory.market(market));
    app.engine().directory_durable().await?;
    match found {
        Some(listed) => Ok(receipt::json(StatusCode::OK, &MarketBody::now(&listed, directory))),
        None => Err(Problem::unknown_market(&name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(more: &str) -> Result<MarketSpec, Malformed> {
        let body = format!(
            r#"{{"base": "ETH", "quote": "SOL", "tick_size": "2", "lot_size": 10,
                 "maker_fee_bps": -1, "taker_fee_bps": "3", "fee_account": 9{more}}}"#
        );
        let object = Object::parse(&body).expect("json");
        read_spec("ETH-SOL".into(), object, &Directory::new(), &mut Names::default())
    }

    #[test]
    fn numbers_come_as_strings_or_integers_and_fees_may_be_negative() {
        let plain = spec("").expect("a market");
        assert_eq!((plain.tick_size, plain.lot_size), (2, 10));
        assert_eq!((plain.maker_fee_bps, plain.taker_fee_bps), (-1, 3));
        assert_eq!((plain.min_notional, plain.price_band_bps), (0, 0));
        let more = spec(r#","min_notional":"7","price_band_bps":500"#).expect("a market");
        assert_eq!((more.min_notional, more.price_band_bps), (7, 500));
    }

    #[test]
    fn the_field_at_fault_is_named() {
        for (more, field) in [
            (r#","min_notional":-1"#, "min_notional"),
            (r#","price_band_bps":4294967296"#, "price_band_bps"),
            (r#","halted":true"#, "halted"),
        ] {
            assert_eq!(spec(more).expect_err(more).field, field);
        }
        let of = |body: &str| {
            let object = Object::parse(body).expect("json");
            let read = read_spec("X".into(), object, &Directory::new(), &mut Names::default());
            read.expect_err(body).field
        };
        assert_eq!(of("{}"), "base");
        assert_eq!(of(r#"{"base": "A", "quote": 7}"#), "quote");
        assert_eq!(of(r#"{"base": "A", "quote": "B", "tick_size": 0.5}"#), "tick_size");
        let fees = |maker: &str| {
            let start = r#""base": "A", "quote": "B", "tick_size": 1, "lot_size": 1"#;
            of(&format!(r#"{{{start}, "maker_fee_bps": {maker}}}"#))
        };
        for maker in ["40000", "\"-40000\"", "1.5", "\"a lot\"", "null"] {
            assert_eq!(fees(maker), "maker_fee_bps");
        }
        assert_eq!(fees("\"-5\""), "taker_fee_bps");
    }
}
