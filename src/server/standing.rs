//! How orders stand: one by its id, open or over, and all that an account has open.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use crate::engine::OpenOrders;
use crate::error::{Error, Reject};
use crate::market::{MarketSpec, OpenOrder, Standing};
use crate::store::order_reads::OrderView;
use crate::types::{AccountId, MarketId, RequestId, Time};

use super::extract::State;
use super::json;
use super::problem::Problem;
use super::query::{Param, Query};
use super::reads::of_account;
use super::receipt::{self, rfc_3339};
use super::sight;
use super::state::{App, blocking};
use super::trading::{OrderBody, status};

/// An order with where and when it was placed.
#[derive(Serialize)]
struct StandingBody {
    market: Box<str>,
    #[serde(flatten)]
    order: OrderBody,
    /// The commit_seq that placed it, and its time.
    since: String,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl StandingBody {
    fn new(view: &OrderView, spec: &MarketSpec) -> Self {
        let now = (view.state, view.standing);
        let ends = (view.ends_at < Time::NEVER).then(|| rfc_3339(view.ends_at));
        Self {
            market: spec.name.clone(),
            order: OrderBody::of(&view.placed, view.order, now, spec),
            since: view.since.to_string(),
            time: rfc_3339(view.time),
            expires_at: ends,
        }
    }
}

/// How an order stands, or how it ended.
pub(super) async fn get(
    State(app): State<App>,
    Param(id): Param<String>,
) -> Result<Response, Problem> {
    let id: RequestId = id.parse().map_err(|why: String| Problem::malformed("id", why))?;
    let reader = app.clone();
    let found = blocking(move || reader.engine().order(id)).await??;
    let found = found.filter(|view| app.visitor().may_see(view.placed.account));
    let view = found.ok_or_else(|| {
        Problem::new("unknown_order", format!("no order was placed under {id}")).of(id).at("id")
    })?;
    let listed = app.engine().directory().market(view.placed.market);
    let listed = listed.expect("markets are never removed");
    Ok(receipt::json(StatusCode::OK, &StandingBody::new(&view, &listed.spec)))
}

#[derive(Serialize)]
struct OrdersBody {
    account: AccountId,
    /// Everything up to this is in it; of some markets, what came next as well.
    seq: String,
    orders: Vec<StandingBody>,
}

/// `?account=&market=&status=` → `{account, seq, orders: [...]}`: what an account has open, by market.
pub(super) async fn list(State(app): State<App>, mut query: Query) -> Result<Response, Problem> {
    let account = query.optional("account", json::number_from)?;
    let account = account.ok_or_else(|| Problem::malformed("account", "is missing"))?;
    let account = AccountId::new(account);
    sight::check(app.visitor(), account)?;
    let status = query.optional("status", status_from)?.unwrap_or(OPEN);
    let market = query.optional("market", |name| json::name_from(name).map(str::to_owned))?;
    query.finish()?;
    let directory = app.engine().directory();
    let markets = match market {
        Some(name) => {
            let found = directory.market_by_name(&name);
            vec![found.ok_or_else(|| Problem::unknown_market(&name))?]
        }
        None => (0..).take(directory.markets().len()).map(MarketId::new).collect(),
    };
    if !directory.has_account(account) {
        return Err(of_account(Error::Read(Reject::UnknownAccount(account))));
    }
    let mut open: Vec<(MarketId, OpenOrders)> = Vec::new();
    for market in markets {
        open.push((market, app.engine().open_orders(market, account).await?));
    }
    let seq = open.iter().map(|(_, open)| open.seq).min().unwrap_or_default();
    let writer = app.clone();
    let orders = app.writing(move || shown(&open, status, &writer)).await??;
    Ok(receipt::json(StatusCode::OK, &OrdersBody { account, seq: seq.to_string(), orders }))
}

/// New or partially filled.
const OPEN: &str = "open";

fn status_from(text: &str) -> Result<&'static str, String> {
    let known = [OPEN, "new", "partially_filled"].into_iter().find(|known| *known == text);
    known.ok_or_else(|| {
        "is none of open, new, partially_filled; an order that is over is looked up by its id"
            .into()
    })
}

/// The open orders with what they asked for, which is looked up on disk.
fn shown(
    open: &[(MarketId, OpenOrders)],
    status_asked: &str,
    app: &App,
) -> Result<Vec<StandingBody>, Problem> {
    let mut bodies = Vec::new();
    for (market, OpenOrders { orders, .. }) in open {
        let listed = app.engine().directory().market(*market);
        let listed = listed.expect("markets are never removed");
        let is_asked = |open: &&OpenOrder| {
            status_asked == OPEN || status(Standing::Open, open.state.filled) == status_asked
        };
        for open in orders.iter().filter(is_asked) {
            let placed = app.engine().order(open.order)?;
            let placed = placed.ok_or_else(|| {
                let order = open.order;
                Error::Storage(format!("the journal has lost request {order}, whose order is open"))
            })?;
            // Since then it may have moved on: what was seen with the others counts.
            let view = OrderView { state: open.state, standing: Standing::Open, ..placed };
            bodies.push(StandingBody::new(&view, &listed.spec));
        }
    }
    Ok(bodies)
}
