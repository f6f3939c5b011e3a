//! Syncs that take seconds: nothing is answered before its own is over, and everything that needs no
//! sync goes on.

use std::sync::atomic::{AtomicBool, Ordering};

use super::node::Node;
use super::strace::{Trace, injected, is_there};
use super::{http::Reply, scratch, venue};

/// How long a sync takes, in microseconds.
const SYNC_MICROS: u64 = 3_000_000;
/// Requests that may be in flight.
const ROOM: u64 = 16;
/// Callers at once: more than there is room for.
const CALLERS: u64 = 40;
/// Reads that must come through while one sync goes on.
const READS_MIN: u64 = 20;

/// A server whose syncs are slow from now on, populated before.
fn slow(scratch: &tempfile::TempDir, limits: &[(&str, u64)]) -> (Node, Trace) {
    let node = Node::start_with(&scratch.path().join("data"), limits);
    venue::populate(&mut node.client());
    let inject = format!("fdatasync:delay_enter={SYNC_MICROS}");
    let told = scratch.path().join("told");
    let trace = Trace::attach(node.pid(), "commit-log", &inject, &[], &told);
    (node, trace)
}

/// The seq up to which everything is durable.
fn durable(client: &mut super::http::Client) -> u64 {
    let body = client.get("/v1/accounts/1/balances").with(200);
    body["seq"].as_str().expect("a seq").parse().expect("a number")
}

#[test]
fn nothing_is_answered_before_its_sync_and_reads_go_on() {
    if !is_there() {
        return;
    }
    let scratch = scratch();
    let (node, trace) = slow(&scratch, &[]);
    let mut client = node.client();
    let before = durable(&mut client);
    let (answered, mut reads) = (AtomicBool::new(false), 0);
    let receipt = std::thread::scope(|scope| {
        let (node, answered, told) = (&node, &answered, scratch.path().join("told"));
        let caller = scope.spawn(move || {
            let reply = venue::send(&mut node.client(), &venue::call(0, 9)).expect("an answer");
            let syncs = injected(&std::fs::read_to_string(told).expect("it tells"));
            answered.store(true, Ordering::Release);
            assert!(syncs > 0, "it was answered before any sync was over");
            reply.with(200)
        });
        while !answered.load(Ordering::Acquire) {
            client.get("/livez").with(200);
            client.get("/readyz").with(200);
            let then = client.get(&format!("/v1/accounts/1/balances?at={before}")).with(200);
            assert_eq!(then["seq"], before.to_string());
            client.get(&format!("/v1/requests/{}", venue::id(200, 1, 0))).with(200);
            reads += 1;
        }
        caller.join().expect("it does not fail")
    });
    assert!(reads >= READS_MIN, "only {reads} reads came through meanwhile");
    assert_eq!(receipt["commit_seq"], (before + 1).to_string());
    assert_eq!(durable(&mut client), before + 1);
    eprintln!("{reads} rounds of reads while one sync took {SYNC_MICROS} us");
    node.kill();
    trace.end();
}

#[test]
fn what_is_too_much_is_overloaded_and_the_rest_is_answered() {
    if !is_there() {
        return;
    }
    let scratch = scratch();
    let (node, trace) = slow(&scratch, &[("requests_in_flight_max", ROOM)]);
    let swap = |caller: u64| venue::call(0, 9 + 10 * caller);
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let call = |caller| {
            let node = &node;
            scope.spawn(move || venue::send(&mut node.client(), &swap(caller)).expect("an answer"))
        };
        let callers: Vec<_> = (0..CALLERS).map(call).collect();
        callers.into_iter().map(|caller| caller.join().expect("it does not fail")).collect()
    });
    let mut settled = 0;
    for reply in &replies {
        match reply.status {
            200 => settled += 1,
            _ => {
                reply.problem(503, "overloaded", "");
                assert!(reply.header("retry-after").is_some(), "{reply:?}");
            }
        }
    }
    assert!(settled >= ROOM, "there was room for {ROOM}, but {settled} settled");
    assert!(settled < CALLERS, "nobody was refused: the test tested nothing");
    eprintln!("of {CALLERS} callers {settled} settled, with room for {ROOM}");
    node.kill();
    trace.end();
}
