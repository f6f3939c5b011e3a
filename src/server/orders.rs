//! `/v1/orders`: orders are placed, amended and canceled. An order's id is the id of the request that
//! placed it.
//!
//! To cancel all orders of an account without naming a market is one request a market, each under an
//! id made of the caller's and the market's number: sent again, it is the same requests.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::directory::Directory;
use crate::engine::Answers;
use crate::error::{Malformed, OrderFault, Reject};
use crate::market::order::Price;
use crate::request::{AmendOrder, Command, OrderType, PlaceOrder, Request, Stands};
use crate::types::{AccountId, MarketId, RequestId, Time};

use super::extract::{JsonBody, Key, State};
use super::json::{self, Object};
use super::names::Names;
use super::problem::Problem;
use super::query::{Param, Query};
use super::receipt::{self, Answer};
use super::state::{App, Asked};
use super::trading::{SELF_TRADES, SIDES, TYPES, meant};

/// `{request_id, account, market, side, type, time_in_force?, price?, quantity?, funds?,
/// expires_in_ms?, self_trade?, client_order_id?, deadline?}` → the receipt.
pub(super) async fn place(
    State(app): State<App>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    let asked = app.counted("order", read(&body, key, app.engine().directory()))?;
    app.settle(asked).await
}

fn read(body: &JsonBody, key: Key, directory: &Directory) -> Result<Asked, Problem> {
    let mut object = body.object()?;
    let id = key.required(&mut object)?;
    let mut names = Names::default();
    let (order, deadline) = read_order(object, directory, &mut names)
        .map_err(|malformed| Problem::from(malformed).of(id))?;
    let command = Command::Order(Box::new(order));
    Ok(Asked::new(Request { deadline, ..Request::new(id, command) }, names))
}

fn read_order(
    mut object: Object<'_>,
    directory: &Directory,
    names: &mut Names,
) -> Result<(PlaceOrder, Time), Malformed> {
    let deadline = object.optional("deadline", json::time)?.unwrap_or(Time::NEVER);
    let name = object.optional("client_order_id", json::text)?.unwrap_or_default();
    let order_type = object.required("type", |value| meant(&TYPES, value))?;
    let order = PlaceOrder {
        market: names.resolve_market(&object.required("market", json::asset)?, directory),
        account: AccountId::new(object.required("account", json::number)?),
        side: object.required("side", |value| meant(&SIDES, value))?,
        order_type,
        stands: read_stands(&mut object, order_type)?,
        price: object.optional("price", json::number)?.map(Price),
        quantity: object.optional("quantity", json::amount)?,
        funds: object.optional("funds", json::amount)?,
        self_trade: object
            .optional("self_trade", |value| meant(&SELF_TRADES, value))?
            .unwrap_or_default(),
        client_order_id: name.into(),
    };
    object.finish()?;
    Ok((order, deadline))
}

/// How long an order stands. Where nothing is said of it, a market order does not, and others do.
fn read_stands(object: &mut Object<'_>, order_type: OrderType) -> Result<Stands, Malformed> {
    let expires_in_ms = object.optional("expires_in_ms", json::number)?;
    let unsaid = if order_type == OrderType::Market { Stands::Ioc } else { Stands::Gtc };
    let until = Stands::Gtd { expires_in_ms: expires_in_ms.unwrap_or_default() };
    let words = [("gtc", Stands::Gtc), ("ioc", Stands::Ioc), ("fok", Stands::Fok), ("gtd", until)];
    let said = object.optional("time_in_force", |value| meant(&words, value))?;
    let stands = said.unwrap_or(unsaid);
    let fault = |why| Err(Malformed::new("expires_in_ms", why));
    match (stands, expires_in_ms) {
        (Stands::Gtd { .. }, None) => fault("is missing; time_in_force \"gtd\" needs it"),
        (Stands::Gtc | Stands::Ioc | Stands::Fok, Some(_)) => {
            fault("goes with time_in_force \"gtd\" only")
        }
        _ => Ok(stands),
    }
}

/// `{request_id, price?, quantity?, deadline?}` → the receipt.
pub(super) async fn amend(
    State(app): State<App>,
    Param(order): Param<String>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    let asked = app.counted("amend", read_amend(&order, key, &body))?;
    app.settle(asked).await
}

fn read_amend(order: &str, key: Key, body: &JsonBody) -> Result<Asked, Problem> {
    let mut object = body.object()?;
    let id = key.required(&mut object)?;
    let (command, deadline) =
        read_change(order, object).map_err(|malformed| Problem::from(malformed).of(id))?;
    Ok(Asked::new(Request { deadline, ..Request::new(id, command) }, Names::default()))
}

fn read_change(order: &str, mut object: Object<'_>) -> Result<(Command, Time), Malformed> {
    let deadline = object.optional("deadline", json::time)?.unwrap_or(Time::NEVER);
    let amend = AmendOrder {
        order: order_id(order)?,
        price: object.optional("price", json::number)?.map(Price),
        quantity: object.optional("quantity", json::amount)?,
    };
    object.finish()?;
    Ok((Command::Amend(amend), deadline))
}

/// `{request_id}` → the receipt.
pub(super) async fn cancel(
    State(app): State<App>,
    Param(order): Param<String>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    let asked = app.counted("cancel", read_cancel(&order, key, &body))?;
    app.settle(asked).await
}

fn read_cancel(order: &str, key: Key, body: &JsonBody) -> Result<Asked, Problem> {
    let mut object = body.object()?;
    let id = key.required(&mut object)?;
    let told = |malformed: Malformed| Problem::from(malformed).of(id);
    object.finish().map_err(told)?;
    let order = order_id(order).map_err(told)?;
    Ok(Asked::new(Request::new(id, Command::Cancel(order)), Names::default()))
}

/// An order in a path.
fn order_id(text: &str) -> Result<RequestId, Malformed> {
    text.parse().map_err(|why: String| Malformed::new("id", why))
}

#[derive(Serialize)]
struct Results {
    results: Vec<Answer>,
}

/// `?account=&market=`, `{request_id}` → the receipt; without a market `{results: [...]}`, one of
/// each market, in the order in which those were created.
pub(super) async fn cancel_all(
    State(app): State<App>,
    mut query: Query,
    key: Key,
    body: JsonBody,
) -> Result<Response, Problem> {
    let read = read_cancel_all(&mut query, key, &body, app.engine().directory());
    let read = read.and_then(|read| query.finish().map(|()| read).map_err(Problem::from));
    match app.counted("cancel_all", read)? {
        AllOf::Market(asked) => Ok(app.settle(*asked).await?.into_response()),
        AllOf::Account(id, account) => {
            let (asked, answers) = everywhere(&app, id, account).await?;
            let writer = app.clone();
            app.writing(move || {
                let answer = |(place, request): (usize, Request)| {
                    let Asked { request, names } = Asked::new(request, Names::default());
                    writer.answer(request.id, answers.outcome(place), &names)
                };
                let results = asked.into_iter().enumerate().map(answer).collect();
                receipt::json(StatusCode::OK, &Results { results })
            })
            .await
        }
    }
}

/// Which orders are to be canceled.
enum AllOf {
    /// The account's in one market.
    Market(Box<Asked>),
    /// The account's in every market.
    Account(RequestId, AccountId),
}

fn read_cancel_all(
    query: &mut Query,
    key: Key,
    body: &JsonBody,
    directory: &Directory,
) -> Result<AllOf, Problem> {
    let mut object = body.object()?;
    let id = key.required(&mut object)?;
    let told = |malformed: Malformed| Problem::from(malformed).of(id);
    object.finish().map_err(told)?;
    let account = query.optional("account", json::number_from).map_err(told)?;
    let account = account.ok_or_else(|| told(Malformed::new("account", "is missing")))?;
    let account = AccountId::new(account);
    let mut names = Names::default();
    let market = query.optional("market", |name| {
        json::name_from(name).map(|name| names.resolve_market(name, directory))
    });
    Ok(match market.map_err(told)? {
        None => AllOf::Account(id, account),
        Some(market) => {
            let command = Command::CancelAll { account, market };
            AllOf::Market(Box::new(Asked::new(Request::new(id, command), names)))
        }
    })
}

/// Cancels an account's orders in every market, in the order in which those were created: what was
/// asked for, and the answers.
///
/// # Errors
/// The engine is overloaded or stopped.
pub(super) async fn everywhere(
    app: &App,
    id: RequestId,
    account: AccountId,
) -> Result<(Vec<Request>, Answers), Problem> {
    let count = u32::try_from(app.engine().directory().markets().len());
    let markets = (0..count.expect("MARKETS_MAX fits")).map(MarketId::new);
    let caller = app.visitor().caller();
    let in_market = |market| {
        let command = Command::CancelAll { account, market };
        Request::new(of_market(id, market), command).by(caller)
    };
    let requests: Vec<Request> = markets.map(in_market).collect();
    let _in_flight = app.charge_batch(requests.len())?;
    let asked = requests.clone();
    let failed = |error| Problem::from(error).of(id);
    let answers = app.engine().submit(requests).map_err(failed)?.answers().await.map_err(failed)?;
    Ok((asked, answers))
}

/// The id of that request's part in a market: as old as the request, if that says how old it is.
fn of_market(id: RequestId, market: MarketId) -> RequestId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"cancel all");
    hasher.update(&id.get().to_be_bytes());
    hasher.update(&market.get().to_be_bytes());
    let hash = hasher.finalize();
    let (bits, _) = hash.as_bytes().split_first_chunk().expect("32 bytes hold 16");
    let bits = u128::from_be_bytes(*bits);
    match id.v7_millis() {
        Some(millis) => RequestId::v7(millis, bits),
        // Version 8: of no form but its maker's.
        None => RequestId::new(bits & !(0xF << 76) & !(0b11 << 62) | 8 << 76 | 0b10 << 62),
    }
}

/// The field of a market's request that a refusal is about; of one that places an order, `order` is that.
pub(super) fn field_of(reject: &Reject, command: &Command) -> Option<&'static str> {
    match (reject, command) {
        (Reject::UnknownAccount(_) | Reject::NotLinked { .. }, _) => Some("account"),
        (Reject::InsufficientFunds { .. } | Reject::HeldShareExceeded { .. }, command) => {
            Some(size_of(command))
        }
        (Reject::Order(fault), command) => Some(field_of_fault(fault, command)),
        _ => None,
    }
}

fn field_of_fault(fault: &OrderFault, command: &Command) -> &'static str {
    match fault {
        OrderFault::UnknownMarket(_) | OrderFault::Halted(_) | OrderFault::TooMany { .. } => {
            "market"
        }
        OrderFault::UnknownOrder(_) => "id",
        OrderFault::Tick { .. } | OrderFault::OutOfBand { .. } | OrderFault::WouldTake => "price",
        OrderFault::Lot { .. } | OrderFault::FilledAlready { .. } => "quantity",
        OrderFault::TooSmall { .. } | OrderFault::TooLarge => size_of(command),
        OrderFault::DuplicateClientId(_) => "client_order_id",
    }
}

/// The field that says how much an order is worth.
fn size_of(command: &Command) -> &'static str {
    match command {
        Command::Order(order) if order.funds.is_some() => "funds",
        Command::Amend(amend) if amend.quantity.is_none() => "price",
        _ => "quantity",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::order::{SelfTrade, Side};
    use crate::types::Amount;

    fn order(more: &str) -> Result<(PlaceOrder, Time), Malformed> {
        let body = format!(r#"{{"account": 1, "market": "A-B", "side": "sell"{more}}}"#);
        let object = Object::parse(&body).expect("json");
        read_order(object, &Directory::new(), &mut Names::default())
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let (plain, deadline) = order(r#","type":"limit","price":5,"quantity":"7""#).expect("one");
        assert_eq!((plain.side, plain.stands), (Side::Sell, Stands::Gtc));
        assert_eq!((plain.price, plain.quantity), (Some(Price(5)), Some(Amount::new(7))));
        assert_eq!((plain.self_trade, &*plain.client_order_id), (SelfTrade::None, ""));
        assert_eq!(deadline, Time::NEVER);
        let (market, _) = order(r#","type":"market""#).expect("an order");
        assert_eq!((market.stands, market.price, market.quantity), (Stands::Ioc, None, None));
        let gtd = r#","type":"post_only","time_in_force":"gtd","expires_in_ms":"9""#;
        let (gtd, _) = order(&format!(r#"{gtd},"self_trade":"decrement""#)).expect("an order");
        assert_eq!(gtd.stands, Stands::Gtd { expires_in_ms: 9 });
        assert_eq!(gtd.self_trade, SelfTrade::Decrement);
    }

    #[test]
    fn the_field_at_fault_is_named() {
        for (more, field) in [
            ("", "type"),
            (r#","type":"stop""#, "type"),
            (r#","type":"limit","time_in_force":"day""#, "time_in_force"),
            (r#","type":"limit","time_in_force":"gtd""#, "expires_in_ms"),
            (r#","type":"limit","expires_in_ms":5"#, "expires_in_ms"),
            (r#","type":"limit","time_in_force":"fok","expires_in_ms":5"#, "expires_in_ms"),
            (r#","type":"limit","price":1.5"#, "price"),
            (r#","type":"limit","price":"18446744073709551616""#, "price"),
            (r#","type":"limit","quantity":-1"#, "quantity"),
            (r#","type":"market","funds":true"#, "funds"),
            (r#","type":"limit","self_trade":"allow""#, "self_trade"),
            (r#","type":"limit","client_order_id":7"#, "client_order_id"),
            (r#","type":"limit","deadline":7"#, "deadline"),
            (r#","type":"limit","qty":7"#, "qty"),
        ] {
            assert_eq!(order(more).expect_err(more).field, field);
        }
    }

    #[test]
    fn parts_of_a_request_have_ids_of_their_own_and_keep_its_time() {
        let (one, other) = (RequestId::v7(1_700_000_000_123, 5), RequestId::new(5));
        let markets = [MarketId::new(0), MarketId::new(1)];
        for id in [one, other] {
            let [first, second] = markets.map(|market| of_market(id, market));
            assert_ne!(first, second);
            assert!(first != id && second != id);
            assert_eq!((first.v7_millis(), second.v7_millis()), (id.v7_millis(), id.v7_millis()));
            assert_eq!(of_market(id, markets[0]), first);
        }
    }
}
