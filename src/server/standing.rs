//! How orders stand, open or over: one by its id, and an account's, page by page.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::market::{MarketSpec, OrderState};
use crate::store::account_orders::{Asked, OrdersPage, Wanted};
use crate::store::order_reads::OrderView;
use crate::types::{AccountId, CommitSeq, RequestId, Time};

use super::books::within;
use super::extract::State;
use super::json;
use super::openapi::schemas::{Seq, Timestamp};
use super::problem::Problem;
use super::query::{Param, Query};
use super::reads::of_account;
use super::receipt::{self, rfc_3339};
use super::sight;
use super::state::{App, blocking};
use super::trading::{OrderBody, status};

/// An order with where and when it was placed.
#[derive(Serialize, ToSchema)]
#[schema(as = StandingOrder)]
pub(super) struct StandingBody {
    market: Box<str>,
    #[serde(flatten)]
    order: OrderBody,
    /// The commit_seq that placed it, and its time.
    #[schema(value_type = Seq)]
    since: String,
    #[schema(value_type = Timestamp)]
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Timestamp>)]
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

#[derive(Serialize, ToSchema)]
#[schema(as = Orders)]
pub(super) struct OrdersBody {
    account: AccountId,
    /// Everything up to this had happened, and nothing after.
    #[schema(value_type = Seq)]
    seq: String,
    orders: Vec<StandingBody>,
    /// Where the next page begins: its `after`. `null` if this is the last.
    #[schema(required = true, value_type = Option<Seq>)]
    next: Option<String>,
}

/// Orders on a page where nothing is said of them.
pub(super) const LIMIT: usize = 100;
/// Most of them.
pub(super) const LIMIT_MAX: u64 = 1_000;

/// `?account=&market=&status=&after=&limit=` → `{account, seq, orders: [...], next}`: an account's orders,
/// newest first.
pub(super) async fn list(State(app): State<App>, mut query: Query) -> Result<Response, Problem> {
    let account = query.optional("account", json::number_from)?;
    let account = account.ok_or_else(|| Problem::malformed("account", "is missing"))?;
    let account = AccountId::new(account);
    sight::check(app.visitor(), account)?;
    let asked = query.optional("status", status_from)?;
    let market = query.optional("market", |name| json::name_from(name).map(str::to_owned))?;
    let before = query.seq("after")?.unwrap_or(CommitSeq::new(u64::MAX));
    let limit = query.optional("limit", |text| within(text, LIMIT_MAX))?.unwrap_or(LIMIT);
    query.finish()?;
    let which = Which { account, market: market.as_deref(), status: asked, before, limit };
    let page = orders(&app, which).await?;
    let directory = app.engine().directory();
    let body = |view: &OrderView| {
        let listed = directory.market(view.placed.market).expect("markets are never removed");
        StandingBody::new(view, &listed.spec)
    };
    let body = OrdersBody {
        account,
        seq: page.seq.to_string(),
        orders: page.orders.iter().map(body).collect(),
        next: page.next.map(|seq| seq.to_string()),
    };
    Ok(receipt::json(StatusCode::OK, &body))
}

/// Which orders of an account are asked for.
pub(super) struct Which<'a> {
    /// Whose.
    pub account: AccountId,
    /// In that market alone.
    pub market: Option<&'a str>,
    /// One of [`STATUSES`].
    pub status: Option<&'static str>,
    /// Earlier ones than this.
    pub before: CommitSeq,
    /// So many.
    pub limit: usize,
}

/// A page of an account's orders, newest first.
///
/// # Errors
/// The account or the market is not known; the engine is overloaded or stopped; the disk.
pub(super) async fn orders(app: &App, which: Which<'_>) -> Result<OrdersPage, Problem> {
    let Which { account, market, status: asked, before, limit } = which;
    let directory = app.engine().directory();
    let market = market
        .map(|name| directory.market_by_name(name).ok_or_else(|| Problem::unknown_market(name)));
    let market = market.transpose()?;
    let open = asked.is_some_and(stands);
    let asked_for = Asked { account, market, before, open, limit };
    let reader = app.clone();
    let page = blocking(move || {
        let is_asked = |state: &OrderState, standing| Some(status(standing, state.filled)) == asked;
        // Whatever stands is open.
        let wanted: Option<Wanted<'_>> = match asked {
            None | Some(OPEN) => None,
            Some(_) => Some(&is_asked),
        };
        reader.engine().account_orders(asked_for, wanted)
    });
    page.await?.map_err(of_account)
}

/// New or partially filled.
const OPEN: &str = "open";
/// What may be asked for: statuses, and those that stand.
pub(super) const STATUSES: [&str; 7] =
    [OPEN, "new", "partially_filled", "filled", "canceled", "rejected", "expired"];

pub(super) fn status_from(text: &str) -> Result<&'static str, String> {
    let known = STATUSES.into_iter().find(|known| *known == text);
    known.ok_or_else(|| format!("is none of {}", STATUSES.join(", ")))
}

/// Whether orders of a status stand.
fn stands(status: &str) -> bool {
    matches!(status, OPEN | "new" | "partially_filled")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Standing;
    use crate::market::order::{Ended, Lots};

    #[test]
    fn every_status_can_be_asked_for() {
        let ends = [Ended::Canceled, Ended::Expired, Ended::Unfilled, Ended::WouldTake];
        let over = ends.map(Standing::Ended).into_iter().chain([Standing::Filled]);
        for standing in over.chain([Standing::Open]) {
            for filled in [0, 1] {
                let status = status(standing, Lots(filled));
                assert_eq!(status_from(status), Ok(status));
                assert_eq!(stands(status), standing == Standing::Open);
            }
        }
        let refused = status_from("done").expect_err("there is no such status");
        assert!(
            refused.ends_with("open, new, partially_filled, filled, canceled, rejected, expired")
        );
    }
}
