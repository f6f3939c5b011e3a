//! Following markets, over as many connections as it takes.
//!
//! When a connection is lost, everything is subscribed to anew. Of a book that is a snapshot, which says all. Of
//! trades, those that happened meanwhile are fetched and told first: each is told once, in order.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::proto;
use crate::proto::MarketChannel;
use crate::proto::market_data_message::News;

use super::events::refusal;
use super::gather::Backoff;
use super::{Client, ClientError, told};

/// Trades on a page of those that were missed.
const PAGE_TRADES: u32 = 1_000;

/// News of markets, one after the other; see [`Client::market_data`].
pub struct MarketData {
    client: Client,
    subscriptions: Vec<proto::MarketSubscription>,
    stream: Option<Open>,
    ready: VecDeque<News>,
    /// By market: the seq of the last trades that were told, or after which they are.
    trades: BTreeMap<String, u64>,
    backoff: Backoff,
}

/// A connection; its sender keeps the client's side open.
struct Open {
    _asks: mpsc::Sender<proto::MarketDataRequest>,
    told: Streaming<proto::MarketDataMessage>,
}

impl Client {
    /// Follows what happens in markets. Nothing is sent before the first [`MarketData::next`].
    pub fn market_data(&self, subscriptions: Vec<proto::MarketSubscription>) -> MarketData {
        MarketData {
            client: self.clone(),
            subscriptions,
            stream: None,
            ready: VecDeque::new(),
            trades: BTreeMap::new(),
            backoff: Backoff::default(),
        }
    }
}

impl MarketData {
    /// The next news. Waits for it, also while the server is away. A snapshot says that what was known of a
    /// book is over; what is wrong with a subscription comes as [`News::Problem`].
    ///
    /// # Errors
    /// [`ClientError::Refused`]: the key is not taken (any more). [`ClientError::Unavailable`]: for as long
    /// as the client's deadline nobody could be asked; calling again goes on where it was.
    pub async fn next(&mut self) -> Result<News, ClientError> {
        loop {
            if let Some(news) = self.ready.pop_front() {
                return Ok(news);
            }
            let Some(open) = &mut self.stream else {
                self.connect().await?;
                continue;
            };
            match open.told.message().await {
                Ok(Some(message)) => {
                    self.backoff = Backoff::default();
                    if let Some(news) = message.news {
                        self.take(news).await?;
                    }
                }
                Ok(None) => self.stream = None,
                Err(status) => {
                    self.stream = None;
                    refusal(status).map_or(Ok(()), Err)?;
                }
            }
        }
    }

    async fn take(&mut self, news: News) -> Result<(), ClientError> {
        match &news {
            News::Trades(trades) => {
                self.trades.insert(trades.market.clone(), trades.seq);
            }
            News::Subscribed(place) if place.channel() == MarketChannel::Trades => {
                let begins = place.seq.unwrap_or_default();
                let Some(last) = self.trades.get(&place.market).copied() else {
                    self.trades.insert(place.market.clone(), begins);
                    self.ready.push_back(news);
                    return Ok(());
                };
                // It had begun before: what lies between is all that is told of it.
                match self.between(&place.market, last, begins).await {
                    Ok(missed) => {
                        self.trades.insert(place.market.clone(), begins.max(last));
                        self.ready.extend(missed.into_iter().map(News::Trades));
                    }
                    Err(ClientError::Unavailable(_)) => self.stream = None,
                    Err(refused) => return Err(refused),
                }
                return Ok(());
            }
            _ => {}
        }
        self.ready.push_back(news);
        Ok(())
    }

    /// A market's trades after one seq, up to another.
    async fn between(
        &self,
        market: &str,
        last: u64,
        upto: u64,
    ) -> Result<Vec<proto::MarketTrades>, ClientError> {
        let mut found: Vec<proto::MarketTrades> = Vec::new();
        let (mut after, mut after_trade) = (last, None);
        loop {
            let (market, limit) = (market.to_owned(), Some(PAGE_TRADES));
            let ask = proto::ListTradesRequest { market, after, after_trade, limit };
            let page: proto::Trades = told(self.client.exchange().list_trades(ask).await)?;
            for trade in page.trades {
                if trade.seq > upto {
                    return Ok(found);
                }
                add(&mut found, &page.market, last, trade);
            }
            let Some(next) = page.next else { return Ok(found) };
            (after, after_trade) = (next, page.next_trade);
        }
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let patience = self.client.deadline();
        let mut last = String::new();
        let connected = tokio::time::timeout(patience, self.ask(&mut last)).await;
        connected.unwrap_or(Err(ClientError::Unavailable(last)))
    }

    async fn ask(&mut self, last: &mut String) -> Result<(), ClientError> {
        loop {
            let (asks, asked) = mpsc::channel(1);
            let subscribe = self.subscriptions.clone();
            let ask = proto::MarketDataRequest { unsubscribe: Vec::new(), subscribe };
            // There is room for one.
            let _ = asks.try_send(ask);
            match self.client.exchange().market_data(ReceiverStream::new(asked)).await {
                Ok(told) => {
                    self.stream = Some(Open { _asks: asks, told: told.into_inner() });
                    return Ok(());
                }
                Err(status) => {
                    *last = status.to_string();
                    refusal(status).map_or(Ok(()), Err)?;
                }
            }
            self.backoff.pause().await;
        }
    }
}

/// Adds a trade to those of its commit.
fn add(found: &mut Vec<proto::MarketTrades>, market: &str, last: u64, trade: proto::Trade) {
    if found.last().is_none_or(|it| it.seq != trade.seq) {
        found.push(proto::MarketTrades {
            market: market.to_owned(),
            seq: trade.seq,
            previous_seq: found.last().map_or(last, |it| it.seq),
            time_us: trade.time_us,
            side: trade.side,
            trades: Vec::new(),
        });
    }
    let (Some(of_commit), Some(fill)) = (found.last_mut(), trade.fill) else { return };
    of_commit.trades.push(proto::MarketTrade { price: fill.price, quantity: fill.quantity });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trades_of_one_commit_are_one_message() {
        let mut found = Vec::new();
        for (seq, price) in [(5, 1), (5, 2), (9, 3)] {
            let fill = Some(proto::Fill { price, ..proto::Fill::default() });
            add(&mut found, "M", 2, proto::Trade { seq, fill, ..proto::Trade::default() });
        }
        let shown = found.iter().map(|it| (it.previous_seq, it.seq, it.trades.len()));
        assert_eq!(shown.collect::<Vec<_>>(), [(2, 5, 2), (5, 9, 1)]);
    }
}
