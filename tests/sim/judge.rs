//! Whether a world was right, once it is over.
//!
//! * Every caller has its answer, and gets the same when it asks again.
//! * A serial oracle that does what settled in the order of the seqs says of each the same, of each
//!   refusal that it is true where it claims to be, and of each read that it shows that state.
//! * The journal has one outcome for each request, and times that do not go back; a hold expires when
//!   its time is over, not before.
//! * No hold, grant or waiter is left over once everybody is done.
//! * What a clean start finds is the same, and folds nothing.
//! * A disk that has lost what was synced is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use rand::Rng;
use rand::rngs::SmallRng;

use crosslatch::engine::{Engine, OrderView};
use crosslatch::error::Error;
use crosslatch::market::Standing;
use crosslatch::request::{Action, Command, Outcome, Purpose, Request, Resolve};
use crosslatch::store::account_orders::Asked;
use crosslatch::types::{CommitSeq, Operation, RequestId, Time, Token};

/// Longer than any order stands by itself.
const GTD_NANOS_MAX: u64 = 11_000_000_000;

use crate::Coverage;
use crate::memory::Seen;
use crate::oracle::Oracle;
use crate::support::{account, resolve};
use crate::world::World;

/// Judges a world whose callers are done; returns what happened in it.
pub fn judge(mut world: World, rng: &mut SmallRng) -> (Coverage, u64) {
    let everything = world.memory.everything();
    for requests in everything.chunks(3) {
        // Also of what has its answer: it must be the same.
        world.ask_again(requests);
    }
    let mut oracle = Oracle::new(&world.limits);
    for (seq, books) in std::mem::take(&mut world.memory.books) {
        world.memory.coverage.restored +=
            books.iter().filter(|(open, _)| open.len() > 1).count() as u64;
        oracle.seen_books.entry(seq).or_default().push(books);
    }
    oracle.seen_books.remove(&CommitSeq::default());
    let mut replayed = BTreeSet::new();
    replay(&world, &mut oracle, &mut replayed);
    assert!(oracle.seen_books.is_empty(), "all of it was reached and compared");
    let normal = Command::Operate(Operation::Normal);
    world.ask(&[Request::new(RequestId::new(1 << 93), normal)]);
    end_holds(&mut world, &oracle);
    replay(&world, &mut oracle, &mut replayed);
    end_orders(&mut world, &mut oracle);
    replay(&world, &mut oracle, &mut replayed);
    check_now(&mut world, &mut oracle);
    check_reads(&world, &oracle);
    check_journal(&world);
    count(&mut world, &oracle);
    let hash = world.memory.hash();
    let coverage = world.memory.coverage;
    check_starts(world, rng);
    (coverage, hash)
}

/// Shows the oracle what it has not seen.
fn replay(world: &World, oracle: &mut Oracle, replayed: &mut BTreeSet<RequestId>) {
    let mut answered: Vec<(Request, Outcome)> = Vec::new();
    for story in world.memory.stories() {
        let id = story.request.id;
        match &story.outcome {
            Some(outcome) if replayed.insert(id) => {
                answered.push((story.request.clone(), outcome.clone()));
            }
            Some(_) => {}
            None => assert!(story.malformed, "{id} was never answered"),
        }
    }
    let engine = &world.node.as_ref().expect("it runs").engine;
    oracle.replay(engine, &answered);
    oracle.catch_up(engine, engine.status().durable_seq);
}

/// Ends every hold that is open, each in its way.
fn end_holds(world: &mut World, oracle: &Oracle) {
    let open = oracle.open_holds().zip(1..);
    let ends: Vec<Request> = open
        .map(|(hold, number)| {
            let rollback = matches!(hold.purpose, Purpose::Swap(_));
            let action = if rollback { Action::Rollback } else { Action::Cancel };
            Request::new(RequestId::new(1 << 91 | number), resolve(hold.token, action))
        })
        .collect();
    for ends in ends.chunks(3) {
        world.ask(ends);
    }
}

/// Orders that end by themselves do, in time; the others are canceled.
fn end_orders(world: &mut World, oracle: &mut Oracle) {
    world.settle();
    let node = world.node.as_mut().expect("it runs");
    let books = node.books();
    oracle.catch_up(&node.engine, node.engine.status().durable_seq);
    assert_eq!(books, oracle.books.standings(), "the books in the end");
    check_lists(&engine_of(world), oracle);
    world.clock.pass(GTD_NANOS_MAX);
    world.settle();
    let engine = world.node.as_ref().expect("it runs").engine.clone();
    oracle.catch_up(&engine, engine.status().durable_seq);
    let open: BTreeSet<_> = oracle.books.open().collect();
    let all = open.into_iter().zip(1..).map(|((account, market, ends), number)| {
        assert!(!ends, "an order of {account} in market {market} is over, and stands");
        Request::new(RequestId::new(1 << 92 | number), Command::CancelAll { account, market })
    });
    for all in all.collect::<Vec<_>>().chunks(3) {
        world.ask(all);
    }
}

fn engine_of(world: &World) -> Engine {
    world.node.as_ref().expect("it runs").engine.clone()
}

/// The lists of each account's orders, page by page: all of them, and those that stand.
fn check_lists(engine: &Engine, oracle: &Oracle) {
    for number in (0..6).filter(|number| engine.directory().has_account(account(*number))) {
        let account = account(number);
        for open in [false, true] {
            let of = oracle
                .books
                .placed()
                .filter(|(of, _, is_open)| *of == account && (*is_open || !open));
            let expected: BTreeMap<_, _> = of.map(|(_, order, is_open)| (order, is_open)).collect();
            let (mut listed, mut before) = (Vec::new(), Some(CommitSeq::new(u64::MAX)));
            while let Some(next) = before {
                let asked = Asked { account, market: None, before: next, open, limit: 3 };
                let page = engine.account_orders(asked, None).expect("it runs");
                listed.extend(page.orders);
                before = page.next;
            }
            assert!(listed.is_sorted_by(|a, b| a.since > b.since), "newest first, each once");
            let is_open = |view: &OrderView| (view.order, view.standing == Standing::Open);
            let listed: BTreeMap<RequestId, bool> = listed.iter().map(is_open).collect();
            assert_eq!(listed, expected, "the orders of {account}, only open {open}");
        }
    }
}

/// Moves the process until a future is done.
fn drive<T>(world: &mut World, future: impl Future<Output = Result<T, Error>>) -> T {
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => return done.expect("it runs"),
            Poll::Pending => world.settle(),
        }
    }
}

/// Everything is as the oracle has it, and nothing is held.
fn check_now(world: &mut World, oracle: &mut Oracle) {
    world.settle();
    let engine = world.node.as_ref().expect("it runs").engine.clone();
    for number in 0..6 {
        if engine.directory().has_account(account(number)) {
            let found = drive(world, engine.balances(account(number)));
            oracle.catch_up(&engine, found.seq);
            assert_eq!(found, oracle.balances_at(account(number), found.seq));
        }
    }
    let audit = drive(world, engine.audit());
    assert!(audit.is_conserved(), "value was created or destroyed: {audit:?}");
    oracle.catch_up(&engine, engine.status().durable_seq);
    assert_eq!(oracle.open_holds().count(), 0, "every hold has ended");
    assert_eq!(oracle.books.open().count(), 0, "every order has ended");
    check_lists(&engine, oracle);
    oracle.check_held();
    let node = world.node.as_ref().expect("it runs");
    assert_eq!(node.held(), (0, 0), "holds leak, or somebody waits for one");
    assert_eq!(node.orders(), 0, "orders leak");
    assert!(node.is_quiet(), "everything is decided, yet grants or waiters remain");
    assert_eq!(engine.status().in_flight, 0, "everything is answered");
}

/// Everything that was read is as the oracle has it.
fn check_reads(world: &World, oracle: &Oracle) {
    for seen in world.memory.reads() {
        match seen {
            Seen::Balances(account, found) => {
                assert_eq!(*found, oracle.balances_at(*account, found.seq), "of {account}");
            }
            Seen::Many(keys, found) => {
                for (key, (balance, version)) in keys.iter().zip(&found.balances) {
                    let then = oracle.balances_at(key.account, found.seq);
                    let then = then.balances.iter().find(|now| now.asset == key.asset);
                    let then = then.map(|now| (now.balance, now.version)).unwrap_or_default();
                    assert_eq!((*balance, *version), then, "{key:?} as of {}", found.seq);
                }
            }
            Seen::Audit(found) => assert!(found.is_conserved(), "{found:?}"),
            Seen::Value(key, at, value) => {
                let then = oracle.record_at(key, *at).and_then(|then| then.value);
                assert_eq!(value.as_deref(), then.as_deref(), "{key} as of {at}");
            }
            Seen::Balance(key, at, balance) => {
                let then = oracle.balances_at(key.account, *at);
                let then = then.balances.iter().find(|now| now.asset == key.asset);
                let then = then.map(|now| now.balance).unwrap_or_default();
                assert_eq!(*balance, then, "{key:?} as of {at}");
            }
            Seen::Receipt(found) => {
                let engine = &world.node.as_ref().expect("it runs").engine;
                let seq = found.as_ref().map_or(CommitSeq::default(), |found| found.commit_seq);
                let now = engine.receipt_at(seq).expect("it runs");
                assert_eq!(found.as_deref(), now.as_ref(), "the receipt of {seq}");
            }
        }
    }
}

/// The journal says of each request once what became of it.
fn check_journal(world: &World) {
    let mut ids = BTreeSet::new();
    let mut expiries: BTreeMap<Token, Time> = BTreeMap::new();
    let mut ends: BTreeMap<RequestId, Time> = BTreeMap::new();
    let mut last = Time::default();
    let blocks: Vec<_> = world.disk.look(|state| state.all_blocks().collect());
    for block in blocks {
        let time = block.header().time;
        assert!(time >= last, "logical time goes back");
        last = time;
        for commit in block.commits() {
            if let Some((_, at)) = commit.traded().and_then(|traded| traded.placed) {
                ends.insert(commit.txn.id, at);
            }
            if let Some(hold) = commit.made() {
                expiries.insert(hold.token, hold.expires_at);
            }
            match &commit.txn.command {
                Command::Resolve(Resolve { token, action: Action::Expire }) => {
                    assert!(time >= expires(&expiries, *token), "{token} expired early");
                }
                Command::ExpireOrder(order) => {
                    let at = ends.remove(order).expect("an order that ends by itself, once");
                    assert!(time >= at, "{order} expired early");
                }
                _ => assert!(ids.insert(commit.txn.id), "{} settled twice", commit.txn.id),
            }
        }
        for refusal in block.refusals() {
            assert!(ids.insert(refusal.id), "{} has two outcomes", refusal.id);
        }
    }
    for story in world.memory.stories().filter(|story| !story.malformed) {
        assert!(ids.remove(&story.request.id), "{} is not in the journal", story.request.id);
    }
    assert!(ids.is_empty(), "nobody asked for {ids:?}");
}

fn expires(expiries: &BTreeMap<Token, Time>, token: Token) -> Time {
    *expiries.get(&token).expect("a hold that was made")
}

fn count(world: &mut World, oracle: &Oracle) {
    let deeds = world.disk.deeds();
    let votes = world.node.as_ref().expect("it runs").votes();
    let seen = oracle.seen(&[]);
    let of = |what: &str| seen.get(what).map_or(0, |times| *times as u64);
    let requests = world.memory.stories().count() as u64;
    let coverage = &mut world.memory.coverage;
    coverage.requests += requests;
    coverage.disk(&deeds);
    coverage.votes(&votes);
    coverage.swaps += of("swap");
    coverage.prepares += of("prepare");
    coverage.commits += of("commit");
    coverage.expiries += of("expire");
    coverage.withdrawals += of("withdrawal_confirm");
    coverage.transactions += of("transaction");
    coverage.conflicts += of("conflict");
    coverage.lock_timeouts += of("lock_timeout");
    coverage.short += of("insufficient_funds");
    coverage.by_key += of("by_key");
    coverage.keys += of("key");
    coverage.revocations += of("key_revoke");
    coverage.operations += of("operate");
    coverage.forbidden += of("forbidden");
    coverage.restricted += of("restricted");
    coverage.unknown_tokens += of("unknown_token");
    coverage.orders += of("order");
    coverage.amendments += of("amend");
    coverage.cancels += of("cancel");
    coverage.cancels_of_all += of("cancel_all");
    coverage.ends_of_orders += of("order_expire");
    coverage.trades += of("trade");
    coverage.trades_of_many += of("trades");
    coverage.self_trades += of("self_trade");
    coverage.switches += of("market_switch");
    coverage.halted += of("market_halted");
    coverage.unknown_orders += of("unknown_order");
    coverage.would_take += of("would_take");
    coverage.out_of_band += of("price_out_of_band");
    coverage.named_twice += of("duplicate_client_order_id");
    coverage.full_books += of("too_many_orders");
    coverage.invalid_orders += of("invalid_order");
    coverage.too_dear += of("too_dear");
    coverage.orders_waited_too_long += of("lock_timeout_of_order");
}

/// A clean stop leaves everything folded; a disk that lost what was synced is refused.
fn check_starts(mut world: World, rng: &mut SmallRng) {
    let node = world.node.take().expect("it runs");
    let last = node.engine.status().durable_seq;
    node.stop().expect("the disk is sound");
    let again = world.try_start().expect("the disk is sound");
    // Holds end also while it stops; there is none here.
    assert_eq!(again.recovered.last.seq, last, "a clean stop loses nothing");
    assert_eq!(again.recovered.folded_blocks, 0, "a clean stop leaves nothing to fold");
    drop(again);
    let broken = match rng.random_range(0..20) {
        0 => world.disk.damage_tail() > 0,
        1 => world.disk.flip_bit(),
        _ => return,
    };
    match world.try_start() {
        Ok(_) => assert!(!broken, "it starts on a journal that is damaged"),
        Err(Error::Storage(cause)) => assert!(broken, "it does not start: {cause}"),
        Err(error) => panic!("{error}"),
    }
}
