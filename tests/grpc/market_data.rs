//! `MarketData`: what a WebSocket tells, as messages.

use crosslatch::proto;
use crosslatch::proto::market_data_message::News;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::venue::*;

const BOOK: proto::MarketChannel = proto::MarketChannel::Book;
const TRADES: proto::MarketChannel = proto::MarketChannel::Trades;

struct Follower {
    asks: mpsc::Sender<proto::MarketDataRequest>,
    told: Streaming<proto::MarketDataMessage>,
}

impl Follower {
    async fn open(exchange: &mut Exchange) -> Self {
        let (asks, asked) = mpsc::channel(4);
        let told = exchange.market_data(ReceiverStream::new(asked)).await.expect("a stream");
        Self { asks, told: told.into_inner() }
    }

    async fn ask(
        &self,
        unsubscribe: Vec<proto::MarketSubscription>,
        subscribe: Vec<proto::MarketSubscription>,
    ) {
        let ask = proto::MarketDataRequest { unsubscribe, subscribe };
        self.asks.send(ask).await.expect("it is read");
    }

    async fn next(&mut self) -> News {
        let told = self.told.message().await.expect("it goes on").expect("it goes on");
        told.news.expect("news")
    }
}

fn sub(
    channel: proto::MarketChannel,
    market: &str,
    depth: Option<u32>,
) -> proto::MarketSubscription {
    proto::MarketSubscription { channel: channel.into(), market: market.into(), depth }
}

fn level(price: u64, quantity: u128, orders: u32) -> proto::Level {
    proto::Level { price, quantity: amount(quantity), orders }
}

async fn with_market() -> (tempfile::TempDir, super::process::Server, Exchange) {
    let (data, server, mut exchange) = started().await;
    let market = proto::PutMarket {
        market: "ETH-SOL".into(),
        base: "ETH".into(),
        quote: "SOL".into(),
        tick_size: 1,
        lot_size: 10,
        fee_account: 1,
        ..Default::default()
    };
    exchange.put_market(market).await.expect("a market");
    (data, server, exchange)
}

fn order(n: u64, account: u64, price: u64, quantity: u128) -> proto::PlaceOrder {
    let side = if account == 1 { proto::Side::Sell } else { proto::Side::Buy };
    proto::PlaceOrder {
        request_id: id_bytes(n),
        account,
        market: "ETH-SOL".into(),
        side: side.into(),
        r#type: proto::OrderType::Limit.into(),
        price: Some(price),
        quantity: amount(quantity),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_book_and_its_trades_are_told() {
    let (_data, _server, mut exchange) = with_market().await;
    exchange.place_order(order(50, 1, 7, 30)).await.expect("an order");
    let mut follower = Follower::open(&mut exchange).await;
    follower.ask(vec![], vec![sub(BOOK, "ETH-SOL", None), sub(TRADES, "ETH-SOL", None)]).await;
    let News::Snapshot(snapshot) = follower.next().await else { panic!("no snapshot") };
    assert_eq!((snapshot.bids, snapshot.asks), (vec![], vec![level(7, 30, 1)]));
    assert_eq!(snapshot.checksum, crc32fast::hash(b"/7:30:1"));
    let News::Subscribed(place) = follower.next().await else { panic!("no place") };
    assert_eq!((place.channel(), place.seq), (TRADES, Some(snapshot.seq)));
    let taken = exchange.place_order(order(51, 2, 8, 10)).await.expect("it trades").into_inner();
    let (mut update, mut trades) = (None, None);
    while update.is_none() || trades.is_none() {
        match follower.next().await {
            News::Update(it) => update = Some(it),
            News::Trades(it) => trades = Some(it),
            other => panic!("{other:?}"),
        }
    }
    let (update, trades) = (update.expect("both"), trades.expect("both"));
    assert_eq!((update.seq, update.previous_seq), (taken.commit_seq, Some(snapshot.seq)));
    assert_eq!(
        (update.asks, update.checksum),
        (vec![level(7, 20, 1)], crc32fast::hash(b"/7:20:1"))
    );
    assert_eq!((trades.seq, trades.time_us), (taken.commit_seq, taken.time_us));
    let expected = proto::MarketTrade { price: 7, quantity: amount(10) };
    assert_eq!((trades.side(), trades.trades), (proto::Side::Buy, vec![expected]));
    // Without trades, and of the book the best alone.
    let gone = vec![sub(BOOK, "ETH-SOL", None), sub(TRADES, "ETH-SOL", None)];
    follower.ask(gone, vec![sub(BOOK, "ETH-SOL", Some(1))]).await;
    for channel in [BOOK, TRADES] {
        let News::Unsubscribed(place) = follower.next().await else { panic!("it goes on") };
        assert_eq!((place.channel(), &*place.market), (channel, "ETH-SOL"));
    }
    assert!(matches!(follower.next().await, News::Snapshot(_)));
    exchange.place_order(order(52, 1, 6, 10)).await.expect("an order");
    let News::Update(update) = follower.next().await else { panic!("no update") };
    assert_eq!(update.asks, vec![level(6, 10, 1), level(7, 0, 0)]);
    // Who has nothing more to ask for may say so: what it follows goes on.
    drop(follower.asks);
    exchange.place_order(order(53, 1, 5, 10)).await.expect("an order");
    let next = follower.told.message().await.expect("it goes on").expect("it goes on");
    assert!(matches!(next.news, Some(News::Update(_))), "{next:?}");
}

#[tokio::test]
async fn what_is_wrong_is_said_in_its_place_and_the_rest_stays() {
    let (_data, server, mut exchange) = with_market().await;
    let mut follower = Follower::open(&mut exchange).await;
    let none = proto::MarketChannel::Unspecified;
    let asks = vec![
        sub(none, "ETH-SOL", None),
        sub(TRADES, "ETH-SOL", Some(3)),
        sub(BOOK, "ETH-SOL", Some(0)),
        sub(BOOK, "NONE", None),
        sub(BOOK, "ETH-SOL", None),
        sub(BOOK, "ETH-SOL", None),
    ];
    follower.ask(vec![sub(BOOK, "ETH-SOL", None)], asks).await;
    for (code, field) in [
        ("malformed", "market"),
        ("malformed", "subscribe[0].channel"),
        ("malformed", "subscribe[1].depth"),
        ("malformed", "subscribe[2].depth"),
        ("unknown_market", "market"),
    ] {
        let News::Problem(problem) = follower.next().await else { panic!("no problem") };
        assert_eq!((&*problem.code, &*problem.field), (code, field));
    }
    assert!(matches!(follower.next().await, News::Snapshot(_)));
    assert!(matches!(follower.next().await, News::Problem(it) if it.field == "market"));
    server.ask_to_stop();
    let ended = follower.told.message().await.expect_err("it says why");
    assert_eq!(ended.code(), tonic::Code::Unavailable, "{ended:?}");
}
