//! `Submit`: batches in order, bad requests in their places, overload, and clients that vanish.

use crosslatch::proto;
use crosslatch::proto::answer::Outcome;
use crosslatch::proto::request::Command as Asks;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::people;
use super::process::Server;
use super::venue::*;

type Ends = (mpsc::Sender<proto::Batch>, Streaming<proto::BatchResult>);

async fn open(exchange: &mut Exchange) -> Ends {
    let (sender, batches) = mpsc::channel(64);
    let results = exchange.submit(ReceiverStream::new(batches)).await.expect("a stream");
    (sender, results.into_inner())
}

fn batch(number: u64, requests: Vec<proto::Request>, detail: proto::Detail) -> proto::Batch {
    proto::Batch { number, detail: detail.into(), requests }
}

fn swaps(ids: impl Iterator<Item = u64>) -> Vec<proto::Request> {
    ids.map(|n| asks(Asks::Swap(swap(n, 1, 1)))).collect()
}

async fn next(results: &mut Streaming<proto::BatchResult>) -> proto::BatchResult {
    results.message().await.expect("a result").expect("one more")
}

#[tokio::test]
async fn batches_are_answered_in_their_order_with_several_in_flight() {
    let (_data, _server, mut exchange) = started().await;
    let (sender, mut results) = open(&mut exchange).await;
    for number in 0..40 {
        let detail = if number % 2 == 0 { proto::Detail::Full } else { proto::Detail::Brief };
        let ids = 1_000 + number * 10..1_000 + number * 10 + number % 7;
        sender.send(batch(number, swaps(ids), detail)).await.expect("it is read");
    }
    drop(sender);
    let mut last = 8;
    for number in 0..40 {
        let result = next(&mut results).await;
        assert_eq!(result.number, number);
        let seqs: Vec<u64> = match result.briefs {
            Some(briefs) => briefs.commit_seqs,
            None => result.results.iter().map(settled_seq).collect(),
        };
        let expected: Vec<u64> = (last + 1..).take(number as usize % 7).collect();
        assert_eq!(seqs, expected, "batch {number}");
        last += number % 7;
    }
    assert_eq!(results.message().await.expect("an end"), None);
}

fn settled_seq(answer: &proto::Answer) -> u64 {
    match &answer.outcome {
        Some(Outcome::Settled(receipt)) => receipt.commit_seq,
        other => panic!("{other:?}"),
    }
}

/// One of every kind of fault among requests of many kinds.
fn mixed() -> Vec<proto::Request> {
    let mut unknown = swap(14, 1, 1);
    unknown.legs[0].asset = "DOGE".into();
    vec![
        asks(Asks::Swap(swap(10, 1, 1))),
        proto::Request { command: None },
        asks(Asks::Deposit(transfer(11, 1, "ETH", 5))),
        asks(Asks::Swap(proto::Swap { legs: vec![], ..swap(12, 1, 1) })),
        asks(Asks::Swap(swap(13, 1_000_000, 1))),
        asks(Asks::Swap(unknown)),
        asks(Asks::CancelAllOrders(proto::CancelAllOrders {
            request_id: id_bytes(15),
            ..Default::default()
        })),
        asks(Asks::Swap(swap(10, 7, 7))),
        asks(Asks::Commit(resolve(16, 99))),
        asks(Asks::Withdraw(transfer(17, 1, "ETH", 1))),
    ]
}

#[tokio::test]
async fn bad_requests_are_answered_in_their_places() {
    let (_data, _server, mut exchange) = started().await;
    let (sender, mut results) = open(&mut exchange).await;
    sender.send(batch(1, mixed(), proto::Detail::Full)).await.expect("it is read");
    let full = next(&mut results).await;
    let said: Vec<(&str, &str)> = full
        .results
        .iter()
        .map(|answer| match answer.outcome.as_ref().expect("an outcome") {
            Outcome::Settled(_) => ("", ""),
            Outcome::Problem(problem) => (&*problem.code, &*problem.field),
        })
        .collect();
    let expected = [
        ("", ""),
        ("malformed", "command"),
        ("", ""),
        ("malformed", "legs"),
        ("insufficient_funds", "legs[0].amount"),
        ("unknown_asset", "legs[0].asset"),
        ("malformed", "market"),
        ("request_id_reused", "request_id"),
        ("unknown_token", "token"),
        ("", ""),
    ];
    assert_eq!(said, expected);
    // The same again, in short: the same outcomes.
    sender.send(batch(2, mixed(), proto::Detail::Brief)).await.expect("it is read");
    let briefs = next(&mut results).await.briefs.expect("briefs");
    let refused: Vec<_> = briefs.refusals.iter().map(|it| (it.place, &*it.code)).collect();
    let places = expected.iter().enumerate().filter(|(_, (code, _))| !code.is_empty());
    let places: Vec<_> = places.map(|(place, (code, _))| (place as u32, *code)).collect();
    assert_eq!(refused, places);
    for (place, answer) in full.results.iter().enumerate() {
        if let Some(Outcome::Settled(receipt)) = &answer.outcome {
            assert_eq!(briefs.commit_seqs[place], receipt.commit_seq);
        }
    }
    assert_eq!(has(&mut exchange, 1, "ETH").await, (1_003, 1));
}

#[tokio::test]
async fn a_batch_that_is_too_large_ends_the_stream_after_the_answers_before_it() {
    let (_data, _server, exchange) = started().await;
    let mut exchange = exchange.max_encoding_message_size(usize::MAX);
    let (sender, mut results) = open(&mut exchange).await;
    sender.send(batch(1, swaps(10..12), proto::Detail::Brief)).await.expect("it is read");
    let many = (0..8_193).map(|_| proto::Request { command: None }).collect();
    sender.send(batch(2, many, proto::Detail::Brief)).await.expect("it is read");
    assert_eq!(next(&mut results).await.number, 1);
    refused(results.message().await, Code::InvalidArgument, "malformed", "requests");
}

#[tokio::test]
async fn what_does_not_fit_is_overloaded_and_the_stream_goes_on() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start_with(data.path(), &[("requests_in_flight_max", 100)]);
    people::populate(&mut server.client());
    let mut exchange = connect(&server).await;
    let (sender, mut results) = open(&mut exchange).await;
    for detail in [proto::Detail::Full, proto::Detail::Brief] {
        sender.send(batch(1, swaps(1_000..1_101), detail)).await.expect("it is read");
        let result = next(&mut results).await;
        let codes: Vec<String> = match result.briefs {
            Some(briefs) => briefs.refusals.into_iter().map(|it| it.code).collect(),
            None => result.results.iter().map(code_of).collect(),
        };
        assert_eq!(codes, vec!["overloaded"; 101]);
    }
    sender.send(batch(2, swaps(1_000..1_100), proto::Detail::Brief)).await.expect("it is read");
    let briefs = next(&mut results).await.briefs.expect("briefs");
    assert_eq!((briefs.refusals, briefs.commit_seqs[99]), (vec![], 108));
}

fn code_of(answer: &proto::Answer) -> String {
    match &answer.outcome {
        Some(Outcome::Problem(problem)) => problem.code.clone(),
        other => panic!("{other:?}"),
    }
}

/// Who vanishes with batches on their way asks again under the same ids, and each takes effect once.
#[tokio::test]
async fn who_vanishes_in_the_middle_asks_again_and_nothing_happens_twice() {
    let (_data, server, mut exchange) = started().await;
    for round in 0..5 {
        let mut other = connect(&server).await;
        let (sender, mut results) = open(&mut other).await;
        for number in 0..8 {
            let ids = 1_000 + round * 100 + number * 10..1_010 + round * 100 + number * 10;
            sender.send(batch(number, swaps(ids), proto::Detail::Full)).await.expect("it is read");
        }
        if round % 2 == 0 {
            next(&mut results).await;
        }
        // The connection is cut with whatever is on its way.
        drop((sender, results, other));
        let (sender, mut results) = open(&mut exchange).await;
        let ids = 1_000 + round * 100..1_080 + round * 100;
        sender.send(batch(9, swaps(ids), proto::Detail::Brief)).await.expect("it is read");
        let briefs = next(&mut results).await.briefs.expect("briefs");
        assert_eq!(briefs.refusals, []);
    }
    assert_eq!(has(&mut exchange, 1, "ETH").await, (600, 0));
    assert_eq!(has(&mut exchange, 2, "ETH").await, (400, 0));
}
