//! Reads of markets: books, orders, trades.

use crate::coordinator::Message;
use crate::error::{Error, Malformed, OrderFault, Reject};
use crate::market::order::{Level, Lots, Price, Side};
use crate::market::{Market, OpenOrder};
use crate::message::{Look, Show};
use crate::store::account_orders::{Asked, OrdersPage, Wanted};
use crate::store::order_reads::{OrderView, Trade, TradeId};
use crate::types::{AccountId, CommitSeq, MarketId, RequestId};

use tokio::sync::oneshot;

use super::{Engine, Inner};

/// A book as of a seq, by price.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BookView {
    /// Everything up to this had happened, and nothing after.
    pub seq: CommitSeq,
    /// What is bid, best first.
    pub bids: Vec<(Price, Level)>,
    /// What is asked, best first.
    pub asks: Vec<(Price, Level)>,
    /// The price of the last trade; `None` before the first.
    pub last_price: Option<Price>,
}

/// Open orders of one account in one market, as of a seq.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenOrders {
    /// Everything up to this had happened, and nothing after.
    pub seq: CommitSeq,
    /// Bids and then asks, each in priority.
    pub orders: Vec<OpenOrder>,
}

/// Every order that stands in a market, as of a seq: what a follower of its events begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StandingOrders {
    /// Everything up to this had happened, and nothing after.
    pub seq: CommitSeq,
    /// The orders with what the book keeps of them: side, price, what is left.
    pub orders: Vec<(RequestId, Side, Price, Lots)>,
    /// The price of the last trade; `None` before the first.
    pub last_price: Option<Price>,
}

impl Engine {
    /// A market's book, durable, at most `depth` levels a side.
    ///
    /// # Errors
    /// [`Error::Read`] for an unknown market; [`Error::Overloaded`]; [`Error::Stopped`].
    pub async fn book(&self, market: MarketId, depth: usize) -> Result<BookView, Error> {
        let levels = move |it: &Market, side| it.book().levels(side).take(depth).collect();
        let see =
            move |it: &Market| (levels(it, Side::Buy), levels(it, Side::Sell), it.last_price());
        let (seq, (bids, asks, last_price)) = self.look(market, see).await?;
        Ok(BookView { seq, bids, asks, last_price })
    }

    /// The open orders of an account in a market, durable. Looks at every order that stands there.
    ///
    /// # Errors
    /// [`Error::Read`] for an unknown market or account; [`Error::Overloaded`]; [`Error::Stopped`].
    pub async fn open_orders(
        &self,
        market: MarketId,
        account: AccountId,
    ) -> Result<OpenOrders, Error> {
        self.inner.check_account(account)?;
        let of = move |it: &Market| it.orders().filter(|open| open.account == account).collect();
        let (seq, orders) = self.look(market, of).await?;
        Ok(OpenOrders { seq, orders })
    }

    /// Every order that stands in a market, durable. Looks at all of them, while the market waits.
    ///
    /// # Errors
    /// [`Error::Read`] for an unknown market; [`Error::Overloaded`]; [`Error::Stopped`].
    pub async fn standing_orders(&self, market: MarketId) -> Result<StandingOrders, Error> {
        let see = |it: &Market| {
            let orders = it.orders().map(|it| (it.order, it.side, it.state.price, it.state.left));
            (orders.collect(), it.last_price())
        };
        let (seq, (orders, last_price)) = self.look(market, see).await?;
        Ok(StandingOrders { seq, orders, last_price })
    }

    /// Has a market looked at, and hears of it once what was seen is durable.
    async fn look<T: Send + 'static>(
        &self,
        market: MarketId,
        see: impl FnOnce(&Market) -> T + Send + 'static,
    ) -> Result<(CommitSeq, T), Error> {
        let inner = &*self.inner;
        inner.check_market(market)?;
        let (_admitted, seen) = inner.ask(|reply: oneshot::Sender<(CommitSeq, T)>| {
            let look: Look = Box::new(move |market: &Market| -> Show {
                let seen = see(market);
                // Who asked may be gone.
                Box::new(move |seq| drop(reply.send((seq, seen))))
            });
            Message::Look(market, look)
        })?;
        inner.poison.or_stopped(seen).await
    }

    /// An order, as far as it is durable; `None` if none was placed under that id. Reads the disk: not
    /// for a tokio worker.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn order(&self, order: RequestId) -> Result<Option<OrderView>, Error> {
        Ok(self.inner.reader.order(order)?)
    }

    /// A page of an account's orders, newest first, durable: all that are asked for, or those that are
    /// `wanted`. Orders that were refused are not among them: they were never placed. Reads the disk: not
    /// for a tokio worker.
    ///
    /// # Errors
    /// [`Error::Read`] for an unknown market or account; [`Error::Storage`].
    pub fn account_orders(
        &self,
        asked: Asked,
        wanted: Option<Wanted<'_>>,
    ) -> Result<OrdersPage, Error> {
        let inner = &*self.inner;
        if let Some(market) = asked.market {
            inner.check_market(market)?;
        }
        inner.check_account(asked.account)?;
        Ok(inner.reader.account_orders(asked, wanted)?)
    }

    /// The oldest trades of a market behind one, `limit` at most, durable. Reads the disk: not for a tokio
    /// worker.
    ///
    /// # Errors
    /// [`Error::Read`] for an unknown market or a seq above the durable one; [`Error::Storage`].
    pub fn trades(
        &self,
        market: MarketId,
        after: TradeId,
        limit: usize,
    ) -> Result<Vec<Trade>, Error> {
        let inner = &*self.inner;
        inner.check_market(market)?;
        let (durable, seq) = (inner.durable.seq(), after.seq);
        if seq > durable {
            let why = format!("is {seq}, which has not happened; give a seq up to {durable}");
            return Err(Error::Read(Reject::Malformed(Malformed::new("after", why))));
        }
        Ok(inner.reader.trades(market, after, limit)?)
    }
}

impl Inner {
    fn check_market(&self, market: MarketId) -> Result<(), Error> {
        if self.directory.market(market).is_some() {
            return Ok(());
        }
        Err(Error::Read(Reject::Order(OrderFault::UnknownMarket(market))))
    }
}
