//! Calls that look at markets: their set-ups, books, trades and orders.

use crate::market::order::{Level, Lots, Price};
use crate::market::{MarketSpec, OrderUpdate};
use crate::proto;
use crate::request::Stands;
use crate::server::books::{DEPTH, DEPTH_MAX, LIMIT, LIMIT_MAX, market_of};
use crate::server::problem::Problem;
use crate::server::sight;
use crate::server::standing::{self, Which};
use crate::server::state::{App, blocking};
use crate::store::order_reads::{OrderView, TradeId};
use crate::types::{AccountId, Amount, CommitSeq, MarketId, Time};

use super::reads::{id, limited};
use super::receipt;
use super::words;

type Told<T> = Result<T, Problem>;

/// A market as it is now.
fn now(number: MarketId, app: &App) -> Option<proto::Market> {
    let directory = app.engine().directory();
    let listed = directory.market(number)?;
    Some(proto::Market {
        halted: Some(listed.halted),
        market_number: Some(number.get()),
        ..receipt::market(&listed.spec, directory)
    })
}

pub(super) async fn market(app: App, ask: proto::GetMarketRequest) -> Told<proto::Market> {
    let found = market_of(&ask.market, app.engine().directory());
    let found = found.map(|number| now(number, &app));
    app.engine().directory_durable().await?;
    Ok(found?.expect("it has just been found"))
}

pub(super) async fn markets(app: App, _: proto::ListMarketsRequest) -> Told<proto::Markets> {
    let count = app.engine().directory().markets().len();
    let markets = (0..).take(count).filter_map(|number| now(MarketId::new(number), &app)).collect();
    app.engine().directory_durable().await?;
    Ok(proto::Markets { markets })
}

pub(super) async fn book(app: App, ask: proto::GetBookRequest) -> Told<proto::Book> {
    let depth = limited("depth", ask.depth, DEPTH as u64, DEPTH_MAX)?;
    let market = market_of(&ask.market, app.engine().directory())?;
    let view = app.engine().book(market, depth).await?;
    let listed = app.engine().directory().market(market).expect("markets are never removed");
    let side = |levels: &[_]| levels.iter().map(|it| level(it, &listed.spec)).collect();
    Ok(proto::Book {
        market: ask.market,
        seq: view.seq.get(),
        last_price: view.last_price.map(|price| price.0),
        bids: side(&view.bids),
        asks: side(&view.asks),
    })
}

fn level((price, level): &(Price, Level), spec: &MarketSpec) -> proto::Level {
    // More than there can ever be of an asset need not be exact.
    let quantity = Amount::new(level.lots.saturating_mul(spec.lot_size.into()));
    proto::Level { price: price.0, quantity: Some(quantity.into()), orders: level.orders }
}

pub(super) async fn trades(app: App, ask: proto::ListTradesRequest) -> Told<proto::Trades> {
    let limit = limited("limit", ask.limit, LIMIT as u64, LIMIT_MAX)?;
    let market = market_of(&ask.market, app.engine().directory())?;
    let after = match ask.after_trade {
        Some(index) => TradeId { seq: CommitSeq::new(ask.after), index },
        None => TradeId::end_of(CommitSeq::new(ask.after)),
    };
    let reader = app.clone();
    // One more, to know whether there is one.
    let found = blocking(move || reader.engine().trades(market, after, limit + 1)).await??;
    let page = &found[..found.len().min(limit)];
    let listed = app.engine().directory().market(market).expect("markets are never removed");
    let last = page.last().filter(|_| found.len() > limit).map(|last| last.id);
    let trades = page.iter().map(|trade| proto::Trade {
        seq: trade.id.seq.get(),
        index: trade.id.index,
        time_us: trade.time.get(),
        side: words::show_side(trade.taker_side),
        request_id: proto::id_bytes(trade.taker),
        fill: Some(receipt::fill(&trade.fill, &listed.spec)),
    });
    let trades = trades.collect();
    Ok(proto::Trades {
        market: ask.market,
        trades,
        next: last.map(|last| last.seq.get()),
        next_trade: last.map(|last| last.index),
    })
}

pub(super) async fn order(app: App, ask: proto::GetOrderRequest) -> Told<proto::Order> {
    let id = id("order_id", &ask.order_id)?;
    let reader = app.clone();
    let found = blocking(move || reader.engine().order(id)).await??;
    let found = found.filter(|view| app.visitor().may_see(view.placed.account));
    let view = found.ok_or_else(|| {
        let why = format!("no order was placed under {id}");
        Problem::new("unknown_order", why).of(id).at("order_id")
    })?;
    let listed = app.engine().directory().market(view.placed.market);
    Ok(shown(&view, &listed.expect("markets are never removed").spec))
}

fn shown(view: &OrderView, spec: &MarketSpec) -> proto::Order {
    let OrderView { order, placed, state, standing, .. } = view;
    let (order, account, standing) = (*order, placed.account, *standing);
    let now = receipt::order_state(&OrderUpdate { order, account, state: *state, standing }, spec);
    let remaining = now.remaining.filter(|_| placed.quantity.is_some());
    // Amendments and self-trades have changed it since.
    let lots = Lots(state.filled.0.saturating_add(state.left.0));
    let quantity = placed.quantity.map(|_| Amount::new(spec.base_units(lots)).into());
    proto::Order {
        market: spec.name.as_ref().into(),
        state: Some(proto::OrderState {
            price: placed.price.map(|_| state.price.0),
            remaining,
            ..now
        }),
        side: words::show_side(placed.side),
        r#type: words::show_order_type(placed.order_type),
        time_in_force: words::show_time_in_force(placed.stands),
        expires_in_ms: match placed.stands {
            Stands::Gtd { expires_in_ms } => Some(expires_in_ms),
            Stands::Gtc | Stands::Ioc | Stands::Fok => None,
        },
        self_trade: words::show_self_trade(placed.self_trade),
        quantity,
        funds: placed.funds.map(Into::into),
        client_order_id: placed.client_order_id.as_ref().into(),
        since: view.since.get(),
        time_us: view.time.get(),
        expires_at_us: (view.ends_at < Time::NEVER).then_some(view.ends_at.get()),
    }
}

pub(super) async fn orders(app: App, ask: proto::ListOrdersRequest) -> Told<proto::Orders> {
    let status = Some(&*ask.status).filter(|status| !status.is_empty());
    let status = status.map(standing::status_from).transpose();
    let which = Which {
        account: AccountId::new(ask.account),
        market: Some(&*ask.market).filter(|name| !name.is_empty()),
        status: status.map_err(|why| Problem::malformed("status", why))?,
        before: CommitSeq::new(if ask.after == 0 { u64::MAX } else { ask.after }),
        limit: limited("limit", ask.limit, standing::LIMIT as u64, standing::LIMIT_MAX)?,
    };
    sight::check(app.visitor(), which.account)?;
    let page = standing::orders(&app, which).await?;
    let directory = app.engine().directory();
    let orders = page.orders.iter().filter_map(|view| {
        let listed = directory.market(view.placed.market)?;
        Some(shown(view, &listed.spec))
    });
    let orders = orders.collect();
    let next = page.next.map(CommitSeq::get);
    Ok(proto::Orders { account: ask.account, seq: page.seq.get(), orders, next })
}
