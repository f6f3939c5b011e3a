//! The stream `MarketData`: what a WebSocket tells (`server::stream`), as messages.
//!
//! A client that has nothing more to ask for may end its side: what it follows goes on. Whether it is
//! still there, HTTP/2 asks by itself.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::config::{STREAM_DEPTH_MAX, STREAM_KEEP_ALIVE_MS, STREAM_SEND_MS_MAX};
use crate::error::{Error, Malformed};
use crate::market::MarketSpec;
use crate::market::levels::LevelChange;
use crate::market::order::{Lots, Price};
use crate::market::tape::Print;
use crate::proto;
use crate::proto::market_data_message::News;
use crate::server::json::{name_from, within};
use crate::server::problem::Problem;
use crate::server::state::App;
use crate::server::stream::{
    Book, Channel, Cut, ENTRIES_MAX, Entry, Following, Read, Said, Subscriber,
};
use crate::server::streams::Slot;
use crate::server::trading::units;
use crate::types::CommitSeq;

use super::{problem, words};

type Told = Result<proto::MarketDataMessage, Status>;

/// What a client is told.
pub(super) type Messages = ReceiverStream<Told>;

/// Follows what the client asks for.
pub(super) async fn follow(
    app: App,
    requests: Streaming<proto::MarketDataRequest>,
) -> Result<Messages, Problem> {
    let slot = app.streams().open_market_data()?;
    let (told, messages) = mpsc::channel(1);
    let following = Following::new(app.clone());
    tokio::spawn(Session { following, wire: Wire { app, told, slot } }.run(requests));
    Ok(ReceiverStream::new(messages))
}

/// One client.
struct Session {
    following: Following,
    wire: Wire,
}

/// Where it is spoken to.
struct Wire {
    app: App,
    told: mpsc::Sender<Told>,
    slot: Slot,
}

impl Session {
    /// The session's life, and its last word.
    async fn run(mut self, requests: Streaming<proto::MarketDataRequest>) {
        let Err(cut) = self.speak(requests).await;
        if cut.is_of_slow() {
            self.wire.slot.metrics.dropped();
        }
        if let Some(status) = last_word(cut) {
            // Who takes nothing hears nothing.
            let _ = self.wire.send(Err(status)).await;
        }
    }

    async fn speak(
        &mut self,
        mut requests: Streaming<proto::MarketDataRequest>,
    ) -> Result<std::convert::Infallible, Cut> {
        let mut beat = interval(Duration::from_millis(STREAM_KEEP_ALIVE_MS));
        let mut is_heard = true;
        loop {
            tokio::select! {
                heard = requests.message(), if is_heard => match heard {
                    Ok(Some(request)) => self.on_request(request).await?,
                    Ok(None) => is_heard = false,
                    Err(_) => return Err(Cut::Gone),
                },
                () = self.following.rung() => self.following.tell(&mut self.wire).await?,
                _ = beat.tick() => self.wire.app.still().map_err(Cut::Refused)?,
                () = self.wire.told.closed() => return Err(Cut::Gone),
                () = self.wire.app.stopping() => return Err(self.following.stopped()),
            }
        }
    }

    async fn on_request(&mut self, request: proto::MarketDataRequest) -> Result<(), Cut> {
        let proto::MarketDataRequest { unsubscribe, subscribe } = request;
        let lists = entries("unsubscribe", unsubscribe).and_then(|leave| {
            let join = entries("subscribe", subscribe)?;
            Ok((leave, join))
        });
        match lists {
            Ok((leave, join)) => self.following.change(leave, join, &mut self.wire).await,
            Err(problem) => self.wire.refused(problem).await,
        }
    }
}

fn last_word(cut: Cut) -> Option<Status> {
    match cut {
        Cut::Gone | Cut::Slow | Cut::Silent => None,
        Cut::Refused(refused) => Some(problem::status(&refused)),
        Cut::Broken(why) => Some(Status::invalid_argument(why)),
        Cut::MissedTrades(market) => {
            Some(Status::aborted(format!("too slow: trades of {market} were missed; come again")))
        }
        Cut::Stopping => Some(Status::unavailable("the server is stopping")),
        Cut::Failed(error) => Some(problem::status(&error.into())),
    }
}

fn entries(
    field: &str,
    subscriptions: Vec<proto::MarketSubscription>,
) -> Result<Vec<Read>, Problem> {
    if subscriptions.len() > ENTRIES_MAX {
        let why = format!("has more than {ENTRIES_MAX} entries");
        return Err(Problem::malformed(field, why));
    }
    let read = |(index, subscription)| {
        let entry = entry(subscription);
        Ok(entry.map_err(|wrong| within(format_args!("{field}[{index}]"), wrong))?)
    };
    Ok(subscriptions.into_iter().enumerate().map(read).collect())
}

fn entry(subscription: proto::MarketSubscription) -> Result<Entry, Malformed> {
    let fault = |why: String| Err(Malformed::new("depth", why));
    let channel = match (subscription.channel(), subscription.depth.map(u64::from)) {
        (proto::MarketChannel::Unspecified, _) => {
            return Err(Malformed::new("channel", "is not given"));
        }
        (proto::MarketChannel::Trades, None) => Channel::Trades,
        (proto::MarketChannel::Trades, Some(_)) => return fault("is for a book".into()),
        (proto::MarketChannel::Book, None) => Channel::Book { depth: None },
        (proto::MarketChannel::Book, Some(depth @ 1..=STREAM_DEPTH_MAX)) => {
            Channel::Book { depth: Some(depth as usize) }
        }
        (proto::MarketChannel::Book, Some(_)) => {
            return fault(format!("is not 1 to {STREAM_DEPTH_MAX}; leave it out for all of it"));
        }
    };
    name_from(&subscription.market).map_err(|why| Malformed::new("market", why))?;
    Ok(Entry { channel, market: subscription.market })
}

impl Subscriber for Wire {
    async fn said(&mut self, said: Said) -> Result<(), Cut> {
        let failed = |problem: Problem| Cut::Failed(Error::Storage(problem.code().into()));
        let news = self.app.streams().said(said, shown).await.map_err(failed)?;
        self.tell(news).await
    }

    async fn unsubscribed(&mut self, channel: Channel, market: &str) -> Result<(), Cut> {
        self.tell(News::Unsubscribed(place(channel, market, None))).await
    }

    async fn refused(&mut self, refused: Problem) -> Result<(), Cut> {
        self.tell(News::Problem(problem::shown(&refused))).await
    }
}

impl Wire {
    async fn tell(&mut self, news: News) -> Result<(), Cut> {
        self.send(Ok(proto::MarketDataMessage { news: Some(news) })).await
    }

    async fn send(&mut self, told: Told) -> Result<(), Cut> {
        match timeout(Duration::from_millis(STREAM_SEND_MS_MAX), self.told.send(told)).await {
            Ok(sent) => sent.map_err(|_| Cut::Gone)?,
            Err(_) => return Err(Cut::Slow),
        }
        self.slot.metrics.sent(1);
        Ok(())
    }
}

fn shown(said: Said) -> News {
    match said {
        Said::Book { market, book } => {
            let is_snapshot = book.previous.is_none();
            let book = shown_book(market, &book);
            if is_snapshot { News::Snapshot(book) } else { News::Update(book) }
        }
        Said::Subscribed { channel, market, seq } => {
            News::Subscribed(place(channel, &market, Some(seq)))
        }
        Said::Trades { spec, print, previous } => News::Trades(trades(&spec, &print, previous)),
    }
}

fn shown_book(market: Box<str>, book: &Book) -> proto::MarketBook {
    let level = |it: &LevelChange| proto::Level {
        price: it.price.0,
        quantity: Some(crate::types::Amount::new(it.quantity).into()),
        orders: it.orders,
    };
    let levels = |side: &[LevelChange]| side.iter().map(level).collect();
    proto::MarketBook {
        market: market.into(),
        seq: book.seq.get(),
        previous_seq: book.previous.map(CommitSeq::get),
        bids: levels(&book.sides.bids),
        asks: levels(&book.sides.asks),
        checksum: book.checksum,
    }
}

fn trades(spec: &MarketSpec, print: &Print, previous: CommitSeq) -> proto::MarketTrades {
    let trade = |(price, lots): &(Price, Lots)| proto::MarketTrade {
        price: price.0,
        quantity: Some(units(spec, *lots).into()),
    };
    proto::MarketTrades {
        market: spec.name.as_ref().into(),
        seq: print.seq.get(),
        previous_seq: previous.get(),
        time_us: print.time.get(),
        side: words::show_side(print.side),
        trades: print.fills.iter().map(trade).collect(),
    }
}

fn place(channel: Channel, market: &str, seq: Option<CommitSeq>) -> proto::MarketPlace {
    let channel = match channel {
        Channel::Book { .. } => proto::MarketChannel::Book,
        Channel::Trades => proto::MarketChannel::Trades,
    };
    let (channel, market) = (channel.into(), market.into());
    proto::MarketPlace { channel, market, seq: seq.map(CommitSeq::get) }
}
