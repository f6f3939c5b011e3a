//! Streams of who has a key: what a bound key is told, and that a stream ends with its key.

use crosslatch::access::secret::Token;
use crosslatch::client::{ExchangeClient, endpoint};
use crosslatch::proto;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use tungstenite::client::IntoClientRequest;

use super::people::*;
use super::sse::Source;
use super::venue::*;

fn bearer(token: &Token) -> String {
    format!("Authorization: Bearer {}", token.reveal())
}

fn events(venue: &Venue, token: &Token, query: &str) -> Source {
    let path = format!("/v1/events?{query}");
    Source::open_with(venue.server.loopback(), &path, &[&bearer(token)])
}

fn revoke(venue: &Venue, name: &str) {
    let body = json!({"request_id": fresh()}).to_string();
    venue.operator().call("DELETE", &format!("/v1/api-keys/{name}"), body.as_bytes()).with(200);
}

/// Alice's key (account 1), beside what happens between 2 and 3 as well.
fn busy(venue: &Venue) -> Caller {
    let alice = venue.key("alice", json!({"scopes": ["read", "transfer"], "accounts": [1]}));
    let mut operator = venue.operator();
    operator.post("/v1/swaps", &swap(800, 1, 1)).with(200);
    operator.post("/v1/deposits", &deposit(801, 3, "USDC", "70")).with(200);
    operator.post("/v1/deposits", &deposit(802, 1, "ETH", "7")).with(200);
    operator.post("/v1/deposits", &deposit(803, 2, "SOL", "7")).with(200);
    alice
}

/// What of those events account 1 had part in.
fn is_of_first(event: &Value) -> bool {
    let legs = event["legs"].as_array().cloned().unwrap_or_default();
    let paid = legs.iter().any(|leg| leg["from"] == 1 || leg["to"] == 1);
    paid || event["account"] == 1
}

#[test]
fn a_bound_key_is_told_of_its_accounts_and_how_far_it_has_come() {
    let venue = Venue::open();
    let mut alice = busy(&venue);
    let all = events(&venue, &venue.operator, "follow=false").rest();
    let told = events(&venue, &alice.token, "follow=false").rest();
    let mine: Vec<_> = all.iter().filter(|told| is_of_first(&told.data)).cloned().collect();
    assert!(mine.len() >= 4 && mine.len() < all.len() - 3, "{} of {}", mine.len(), all.len());
    let (end, told) = told.split_last().expect("an end");
    assert_eq!(told, mine);
    assert_eq!((&*end.kind, &end.id), ("end", &all.last().expect("an end").id));
    alice.get("/v1/events?account=2").problem(403, "forbidden", "account");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_grpc_it_is_told_the_same() {
    let (venue, token, seqs) = tokio::task::block_in_place(|| {
        let venue = Venue::open();
        let token = busy(&venue).token;
        let told = events(&venue, &token, "follow=false").rest();
        let seqs: Vec<u64> = told.iter().map(super::sse::Told::seq).collect();
        (venue, token, seqs)
    });
    let mut exchange = exchange(&venue).await;
    let ask = proto::EventsRequest { until_now: true, ..Default::default() };
    let mut pages = exchange.events(with(&token, ask)).await.expect("a stream").into_inner();
    let mut told = Vec::new();
    while let Some(page) = pages.message().await.expect("it goes on") {
        told.extend(page.events.iter().map(|it| it.receipt.as_ref().expect("one").commit_seq));
        if page.is_end {
            told.push(page.seq);
        }
    }
    assert_eq!(told, seqs);
    let ask = proto::EventsRequest { account: Some(2), ..Default::default() };
    let refused = exchange.events(with(&token, ask)).await.expect_err("not its own");
    assert_eq!(refused.code(), Code::PermissionDenied);
}

async fn exchange(venue: &Venue) -> ExchangeClient<tonic::transport::Channel> {
    let endpoint = endpoint(&format!("grpc://{}", venue.server.grpc)).expect("an address");
    ExchangeClient::new(endpoint.connect().await.expect("the server listens"))
}

fn with<T>(token: &Token, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {}", token.reveal()).parse().expect("ASCII");
    request.metadata_mut().insert("authorization", bearer);
    request
}

#[test]
fn server_sent_events_end_with_their_key() {
    let venue = Venue::open();
    let alice = busy(&venue);
    let mut source = events(&venue, &alice.token, "");
    assert_eq!(source.next().expect("something").kind, "account");
    revoke(&venue, "alice");
    let rest = source.rest();
    let last = rest.last().expect("a last word");
    assert_eq!((&*last.kind, &last.data["code"]), ("error", &json!("unauthenticated")));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_over_grpc_end_with_their_key() {
    let (venue, token) = tokio::task::block_in_place(|| {
        let venue = Venue::open();
        let token = busy(&venue).token;
        put_market(&venue);
        (venue, token)
    });
    let mut exchange = exchange(&venue).await;
    let ask = proto::EventsRequest::default();
    let mut pages = exchange.events(with(&token, ask)).await.expect("a stream").into_inner();
    assert!(pages.message().await.expect("it goes on").is_some());
    let (asks, asked) = mpsc::channel(1);
    let told = exchange.market_data(with(&token, ReceiverStream::new(asked))).await;
    let mut told = told.expect("a stream").into_inner();
    let channel = proto::MarketChannel::Book.into();
    let book = proto::MarketSubscription { channel, market: "ETH-SOL".into(), depth: None };
    let ask = proto::MarketDataRequest { subscribe: vec![book], ..Default::default() };
    asks.send(ask).await.expect("it is read");
    assert!(told.message().await.expect("a snapshot").is_some());
    tokio::task::block_in_place(|| {
        revoke(&venue, "alice");
        sell(&venue);
    });
    let ended = loop {
        match pages.message().await {
            Ok(page) => assert!(page.is_some(), "it ended as if nothing was wrong"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert_eq!(told.message().await.expect_err("it ends").code(), Code::Unauthenticated);
}

fn put_market(venue: &Venue) {
    let market = json!({"base": "ETH", "quote": "SOL", "tick_size": "1", "lot_size": "10",
        "maker_fee_bps": 0, "taker_fee_bps": 0, "fee_account": 1});
    venue.operator().call("PUT", "/v1/markets/ETH-SOL", market.to_string().as_bytes()).with(200);
}

fn sell(venue: &Venue) {
    let order = json!({"request_id": fresh(), "account": 1, "market": "ETH-SOL", "side": "sell",
        "type": "limit", "price": "7", "quantity": "30"});
    venue.operator().post("/v1/orders", &order).with(200);
}

#[test]
fn a_websocket_needs_a_key_and_ends_with_it() {
    let venue = Venue::open();
    let alice = busy(&venue);
    put_market(&venue);
    let url = format!("ws://{}/v1/stream", venue.server.loopback());
    let refused = tungstenite::connect(&*url).expect_err("without a key");
    let tungstenite::Error::Http(answer) = refused else { panic!("{refused}") };
    assert_eq!(answer.status(), 401);
    let mut request = url.into_client_request().expect("a request");
    let bearer = format!("Bearer {}", alice.token.reveal()).parse().expect("ASCII");
    request.headers_mut().insert("authorization", bearer);
    let mut client = venue.server.client();
    let mut connections = || {
        let text = client.get("/metrics").text().to_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("crosslatch_connections "));
        line.expect("the gauge").parse::<u64>().expect("a number")
    };
    // Hers, and this one: who has gone is noticed soon.
    while connections() != 2 {}
    let (mut socket, _) = tungstenite::connect(request).expect("with a key");
    let ask = json!({"subscribe": [{"channel": "book", "market": "ETH-SOL"}]}).to_string();
    socket.send(tungstenite::Message::text(ask)).expect("it is sent");
    assert!(socket.read().expect("a snapshot").is_text());
    assert_eq!(connections(), 3, "it is a connection after its upgrade as well");
    let metrics = venue.server.client().get("/metrics").text().to_owned();
    assert!(metrics.contains("crosslatch_streams{kind=\"market_data\"} 1\n"), "{metrics}");
    assert!(metrics.contains("crosslatch_stream_messages_total{kind=\"market_data\"} 1\n"));
    revoke(&venue, "alice");
    sell(&venue);
    let closed = loop {
        match socket.read().expect("a close frame") {
            tungstenite::Message::Close(frame) => break frame.expect("why"),
            tungstenite::Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((u16::from(closed.code), closed.reason.as_str()), (1008, "unauthenticated"));
}
