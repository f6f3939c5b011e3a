//! The client of the library: whatever happens to the server, each request takes effect exactly once.

use std::net::SocketAddr;
use std::time::Duration;

use crosslatch::client::{Client, ClientError, Options, Outcome, deposit};
use crosslatch::proto;
use crosslatch::proto::market_data_message::News;
use crosslatch::proto::request_state::Known;
use crosslatch::types::AccountId;
use serde_json::json;
use tokio::task::JoinSet;

use super::people;
use super::process::Server;
use super::venue::*;

async fn client(server: &Server) -> Client {
    Client::connect(&url(server)).await.expect("the server listens")
}

fn one_swap(client: &Client) -> proto::Request {
    let legs = [leg(1, 2, "ETH", 1), leg(2, 1, "SOL", 1)];
    crosslatch::client::swap(client.fresh_id(), legs)
}

#[tokio::test]
async fn many_tasks_share_it_and_each_is_told_its_own_outcome() {
    let (_data, server, mut exchange) = started().await;
    let client = client(&server).await;
    let mut tasks = JoinSet::new();
    for n in 0..300_u64 {
        let client = client.clone();
        tasks.spawn(async move {
            let outcome = client.submit(deposit(id(1_000 + n), 3, "USDC", u128::from(n), "")).await;
            match outcome.expect("an outcome") {
                Outcome::Settled(receipt) => assert_eq!(receipt.request_id, id_bytes(1_000 + n)),
                Outcome::Problem(problem) => {
                    assert_eq!((n, &*problem.code), (0, "malformed"));
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no task fails");
    }
    assert_eq!(has(&mut exchange, 3, "USDC").await, (299 * 300 / 2, 0));
    let balances = client.balances(AccountId::new(3)).await.expect("an account");
    assert_eq!(balances.balances.len(), 1);
    let known = client.request(id(1_001)).await.expect("it is known").known;
    assert!(matches!(known, Some(Known::Settled(_))), "{known:?}");
    let unknown = client.request(id(9)).await;
    assert!(matches!(unknown, Err(ClientError::Refused(it)) if it.code == "unknown_request"));
}

/// The server is killed and started again, several times, under callers who never notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back_settles_everything_once() {
    let data = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(data.path());
    people::populate(&mut server.client());
    let (http, grpc) = (server.address, server.grpc);
    let client = client(&server).await;
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let client = client.clone();
        callers.spawn(async move {
            let mut seqs = Vec::new();
            for _ in 0..60 {
                let request = one_swap(&client);
                match client.submit(request).await.expect("an outcome, in the end") {
                    Outcome::Settled(receipt) => seqs.push(receipt.commit_seq),
                    Outcome::Problem(problem) => panic!("{problem:?}"),
                }
            }
            seqs
        });
    }
    for settled in [40, 120, 200] {
        // Wait until so many have settled, kill, and start at the same place.
        let mut probe = connect(&server).await;
        while has(&mut probe, 2, "ETH").await.0 < settled {}
        server.kill();
        server = restart(data.path(), http, grpc);
    }
    let mut seqs = Vec::new();
    while let Some(told) = callers.join_next().await {
        seqs.extend(told.expect("no caller fails"));
    }
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs.len(), 480, "each has a seq of its own");
    let mut exchange = connect(&server).await;
    assert_eq!(has(&mut exchange, 1, "ETH").await, (1_000 - 480, 0));
    assert_eq!(has(&mut exchange, 2, "ETH").await, (480, 0));
    assert_eq!(has(&mut exchange, 1, "SOL").await, (480, 0));
}

fn restart(data: &std::path::Path, http: SocketAddr, grpc: SocketAddr) -> Server {
    Server::start_at(data, http, grpc)
}

#[tokio::test]
async fn overload_is_waited_out() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start_with(data.path(), &[("requests_in_flight_max", 8)]);
    people::populate(&mut server.client());
    let options = Options { batch_requests_max: 5, connections: 3, ..Options::default() };
    let client = Client::connect_with(&url(&server), &options).await.expect("it listens");
    let mut tasks = JoinSet::new();
    for _ in 0..200 {
        let (client, request) = (client.clone(), one_swap(&client));
        tasks.spawn(async move { client.submit(request).await });
    }
    while let Some(done) = tasks.join_next().await {
        let outcome = done.expect("no task fails").expect("an outcome");
        assert!(matches!(outcome, Outcome::Settled(_)), "{outcome:?}");
    }
    let mut exchange = connect(&server).await;
    assert_eq!(has(&mut exchange, 2, "ETH").await, (200, 0));
}

#[tokio::test]
async fn who_waits_too_long_is_told_that_the_outcome_is_not_known() {
    let (_data, server, _exchange) = started().await;
    let options = Options { deadline: Duration::from_millis(50), ..Options::default() };
    let client = Client::connect_with(&url(&server), &options).await.expect("it listens");
    server.kill();
    let request = one_swap(&client);
    let lost = client.submit(request).await;
    assert!(matches!(lost, Err(ClientError::OutcomeUnknown)), "{lost:?}");
    let gone = client.balances(AccountId::new(1)).await;
    assert!(matches!(gone, Err(ClientError::Unavailable(_))), "{gone:?}");
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_told() {
    for url in ["grpc://127.0.0.1:1", "http://127.0.0.1:7400"] {
        assert!(Client::connect(url).await.is_err(), "{url}");
    }
}

/// The server is killed and started again under a follower, who is told everything once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_is_told_everything_once_whatever_happens_to_the_server() {
    let data = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(data.path());
    people::populate(&mut server.client());
    let (http, grpc) = (server.address, server.grpc);
    let client = client(&server).await;
    let mut events = client.events(proto::EventsRequest::default());
    let caller = {
        let client = client.clone();
        tokio::spawn(async move {
            let mut last = 0;
            for _ in 0..150 {
                let outcome = client.submit(one_swap(&client)).await;
                let Ok(Outcome::Settled(receipt)) = outcome else { panic!("{outcome:?}") };
                last = receipt.commit_seq;
            }
            last
        })
    };
    let mut told = Vec::new();
    for upto in [20, 60, 100] {
        while told.len() < upto {
            told.push(seq(events.next().await.expect("it goes on")));
            assert_eq!(Some(&events.seq()), told.last());
        }
        server.kill();
        server = restart(data.path(), http, grpc);
    }
    let last = caller.await.expect("it does not fail");
    while told.last() != Some(&last) {
        told.push(seq(events.next().await.expect("it goes on")));
    }
    assert_eq!(told, (1..=last).collect::<Vec<_>>());
    // With an end it ends, and who comes back with its seq is told the rest.
    let ask = proto::EventsRequest { after: last - 5, until_now: true, ..Default::default() };
    let mut rest = client.events(ask);
    for expected in last - 4..=last {
        assert_eq!(seq(rest.next().await.expect("it goes on")), expected);
    }
    assert_eq!(rest.next().await.expect("an end"), None);
    let ask = proto::EventsRequest { after: last + 1_000, ..Default::default() };
    let refused = client.events(ask).next().await;
    assert!(matches!(refused, Err(ClientError::Refused(it)) if it.code == "malformed"));
}

fn seq(event: Option<proto::Event>) -> u64 {
    event.expect("it goes on").receipt.expect("a receipt").commit_seq
}

/// Of trades none is missed, and of the book what is told in the end is what stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_a_market_misses_no_trade_while_the_server_is_away() {
    let data = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(data.path());
    people::populate(&mut server.client());
    let (http, grpc) = (server.address, server.grpc);
    let client = client(&server).await;
    let market = json!({"base": "ETH", "quote": "SOL", "tick_size": "1", "lot_size": "1",
        "maker_fee_bps": 0, "taker_fee_bps": 0, "fee_account": 1});
    tokio::task::block_in_place(|| server.client().put("/v1/markets/ETH-SOL", &market).with(200));
    let channel = proto::MarketChannel::Trades.into();
    let subscription = proto::MarketSubscription { channel, market: "ETH-SOL".into(), depth: None };
    let mut data_of = client.market_data(vec![subscription]);
    assert!(matches!(data_of.next().await.expect("it goes on"), News::Subscribed(_)));
    let mut expected = Vec::new();
    let mut told = Vec::new();
    for round in 0..3_u64 {
        for n in 0..4_u64 {
            let (sell, buy) = (50 + round * 100 + n * 2, 51 + round * 100 + n * 2);
            let order = |id: u64, account: u64, side: &str| {
                json!({"request_id": people::id(id), "account": account, "market": "ETH-SOL",
                    "side": side, "type": "limit", "price": (3 + n).to_string(), "quantity": "1"})
            };
            tokio::task::block_in_place(|| {
                let mut http = server.client();
                http.post("/v1/orders", &order(sell, 1, "sell")).with(200);
                http.post("/v1/orders", &order(buy, 2, "buy")).with(200);
            });
            expected.push(3 + n);
        }
        // Of the first rounds nothing was read yet when it dies.
        if round < 2 {
            server.kill();
            server = restart(data.path(), http, grpc);
        }
    }
    let mut last = 0;
    while told.len() < expected.len() {
        match data_of.next().await.expect("it goes on") {
            News::Trades(trades) => {
                assert!(trades.seq > last, "in order, each once");
                last = trades.seq;
                told.extend(trades.trades.iter().map(|trade| trade.price));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, expected);
}
