//! `Events`: what server-sent events tell, in the same order, resumed, filtered, backpressured, ended.

use crosslatch::proto;
use crosslatch::proto::receipt::What;
use tonic::{Code, Streaming};

use super::http::Client;
use super::people;
use super::process::Server;
use super::venue::*;

type Pages = Streaming<proto::EventPage>;

fn after(seq: u64) -> proto::EventsRequest {
    proto::EventsRequest { after: seq, ..Default::default() }
}

async fn open(exchange: &mut Exchange, ask: proto::EventsRequest) -> Pages {
    exchange.events(ask).await.expect("a stream").into_inner()
}

fn seq(event: &proto::Event) -> u64 {
    event.receipt.as_ref().expect("a receipt").commit_seq
}

async fn page(pages: &mut Pages) -> proto::EventPage {
    pages.message().await.expect("it goes on").expect("it goes on")
}

/// Events up to that seq.
async fn up_to(pages: &mut Pages, last: u64) -> Vec<proto::Event> {
    let mut all = Vec::new();
    loop {
        let page = page(pages).await;
        if let Some(event) = page.events.last() {
            assert_eq!(seq(event), page.seq, "a page says how far it has come");
        }
        all.extend(page.events);
        if page.seq >= last {
            return all;
        }
    }
}

/// All that is durable now.
async fn now(exchange: &mut Exchange, ask: proto::EventsRequest) -> Vec<proto::Event> {
    let mut pages = open(exchange, proto::EventsRequest { until_now: true, ..ask }).await;
    let mut all = Vec::new();
    loop {
        let page = page(&mut pages).await;
        all.extend(page.events);
        if page.is_end {
            assert_eq!(pages.message().await.expect("a proper end"), None);
            return all;
        }
    }
}

/// Swaps of 1 ETH against 1 SOL over HTTP, in one batch; returns the last seq.
fn swaps(client: &mut Client, from: u64, count: u64) -> u64 {
    let swaps: Vec<_> = (from..from + count).map(|n| people::swap(n, 1, 1)).collect();
    let done = client.post("/v1/swaps:batch", &serde_json::json!({"swaps": swaps})).with(200);
    let last = done["results"].as_array().expect("results").last().expect("some").clone();
    last["commit_seq"].as_str().expect("it settled").parse().expect("a seq")
}

fn enrich(client: &mut Client) {
    client.post("/v1/deposits", &people::deposit(3, 1, "ETH", "1000000")).with(200);
    client.post("/v1/deposits", &people::deposit(4, 2, "SOL", "1000000")).with(200);
}

#[tokio::test]
async fn whoever_comes_back_gets_exactly_the_rest() {
    let (_data, server, mut exchange) = started().await;
    let last = swaps(&mut server.client(), 1_000, 300);
    let told = up_to(&mut open(&mut exchange, after(0)).await, last).await;
    assert_eq!(told.iter().map(seq).collect::<Vec<_>>(), (1..=last).collect::<Vec<_>>());
    for event in &told {
        // Each is what is known of its request.
        let receipt = event.receipt.clone().expect("a receipt");
        let ask = proto::GetRequestRequest { request_id: receipt.request_id.clone() };
        let known = exchange.get_request(ask).await.expect("it is known").into_inner().known;
        assert_eq!(known, Some(proto::request_state::Known::Settled(receipt)));
    }
    for from in (0..last).step_by(29) {
        assert_eq!(now(&mut exchange, after(from)).await, told[from as usize..]);
    }
    // Who waits is told what comes next.
    let mut waiting = open(&mut exchange, after(last)).await;
    let receipt = exchange.swap(swap(2_000, 1, 1)).await.expect("a swap").into_inner();
    let next = page(&mut waiting).await;
    assert_eq!((&*next.events[0].kind, next.seq), ("swap", last + 1));
    assert_eq!(next.events[0].receipt, Some(receipt));
}

#[tokio::test]
async fn filters_are_those_of_http() {
    let (_data, _server, mut exchange) = started().await;
    exchange.swap(swap(10, 1, 1)).await.expect("a swap");
    exchange.deposit(transfer(11, 3, "USDC", 7)).await.expect("a deposit");
    let prepare = proto::Prepare {
        request_id: id_bytes(12),
        deadline_us: None,
        legs: swap(12, 10, 20).legs,
        expires_in_ms: Some(600_000),
        exclusive: true,
    };
    exchange.prepare(prepare).await.expect("a hold");
    exchange.rollback(resolve(13, 12)).await.expect("a rollback");
    exchange.withdraw(transfer(14, 1, "ETH", 5)).await.expect("a withdrawal");
    let write = proto::Write { key: "k".into(), value: Some("v".into()) };
    let transact = proto::Transact {
        request_id: id_bytes(15),
        writes: vec![write.clone()],
        ..Default::default()
    };
    exchange.transact(transact).await.expect("a transaction");
    let all = now(&mut exchange, after(0)).await;
    let of = |kind: &str| proto::EventsRequest { kind: kind.into(), ..Default::default() };
    for kind in ["swap", "deposit", "prepare", "rollback", "withdrawal", "transaction"] {
        let found = now(&mut exchange, of(kind)).await;
        let expected: Vec<_> = all.iter().filter(|event| event.kind == kind).cloned().collect();
        assert!(!expected.is_empty() && found == expected, "{kind}");
    }
    for kind in ["prepare", "rollback"] {
        let hold = now(&mut exchange, of(kind)).await[0].hold.clone().expect("the hold, whole");
        assert_eq!((hold.legs.len(), hold.exclusive, hold.account), (2, true, None));
        assert!(hold.expires_at_us.is_some());
    }
    let hold = now(&mut exchange, of("withdrawal")).await[0].hold.clone().expect("the hold");
    assert_eq!((hold.account, &*hold.asset, hold.amount), (Some(1), "ETH", amount(5)));
    assert_eq!(now(&mut exchange, of("transaction")).await[0].writes, [write]);
    let ask = proto::EventsRequest { account: Some(3), ..Default::default() };
    let third = now(&mut exchange, ask).await;
    let last = third.last().expect("its deposit").receipt.clone().expect("a receipt").what;
    assert!(matches!(last, Some(What::Transferred(it)) if it.account == 3), "of account 3");
    assert!(third.len() < all.len());
    refused(exchange.events(of("swop")).await, Code::InvalidArgument, "malformed", "kind");
    refused(exchange.events(after(9_999)).await, Code::InvalidArgument, "malformed", "after");
    let ask = proto::EventsRequest { market: "NONE".into(), ..Default::default() };
    refused(exchange.events(ask).await, Code::NotFound, "unknown_market", "market");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_holds_nothing_up_and_misses_nothing() {
    let (_data, server, mut exchange) = started().await;
    let mut client = server.client();
    enrich(&mut client);
    let mut slow = open(&mut exchange, after(0)).await;
    // Far more than what fits between here and there, on a connection that others share.
    let last = tokio::task::block_in_place(|| {
        swaps(&mut client, 10_000, 8_000);
        swaps(&mut client, 20_000, 8_000)
    });
    assert!(last > 16_000, "it went on: {last}");
    assert_eq!(
        has(&mut exchange, 2, "ETH").await.0,
        16_000,
        "others on its connection do not wait"
    );
    let told = up_to(&mut slow, last).await;
    assert_eq!(told.iter().map(seq).collect::<Vec<_>>(), (1..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn too_many_are_refused_and_who_has_gone_makes_room() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start_with(data.path(), &[("event_streams_max", 2)]);
    let mut exchange = connect(&server).await;
    let first = open(&mut exchange, after(0)).await;
    let second = open(&mut exchange, after(0)).await;
    refused(exchange.events(after(0)).await, Code::Unavailable, "overloaded", "");
    let open = "crosslatch_streams{kind=\"events\"} 2\n";
    let metrics = proto::GetMetricsRequest::default();
    assert!(exchange.get_metrics(metrics).await.expect("text").into_inner().text.contains(open));
    drop((first, second));
    while exchange.events(after(0)).await.is_err() {}
}

#[tokio::test]
async fn a_stop_ends_a_stream_and_says_to_come_back() {
    let (_data, server, mut exchange) = started().await;
    let last = swaps(&mut server.client(), 1_000, 10);
    let mut pages = open(&mut exchange, after(0)).await;
    up_to(&mut pages, last).await;
    server.ask_to_stop();
    match pages.message().await {
        Ok(end) => assert_eq!(end, None),
        Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
    }
    let ended = tokio::task::spawn_blocking(move || server.wait()).await.expect("it ends");
    assert!(ended.success(), "{ended:?}");
}
