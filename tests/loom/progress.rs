//! How far everything is: whoever has read a seq, or was answered, sees at least the block of it.

use std::sync::Arc;

use crosslatch::store::Position;
use crosslatch::store::durable::{Durable, Progress};
use crosslatch::types::{BlockNumber, CommitSeq};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use crate::explore;

/// The n-th block ends with seq n.
pub fn at(n: u64) -> Position {
    Position { block: BlockNumber::new(n), seq: CommitSeq::new(n) }
}

trait Reached: Send + Sync + 'static {
    fn new() -> Self;
    fn publish(&self, n: u64);
    fn seq(&self) -> u64;
    fn block(&self) -> u64;
}

impl Reached for Progress {
    fn new() -> Self {
        Self::new(at(0))
    }
    fn publish(&self, n: u64) {
        self.publish(at(n));
    }
    fn seq(&self) -> u64 {
        self.seq().get()
    }
    fn block(&self) -> u64 {
        self.block().get()
    }
}

/// Two atomics, with a mistake in how they are published.
struct Wrong<const RELAXED: bool> {
    seq: AtomicU64,
    block: AtomicU64,
}

impl<const RELAXED: bool> Reached for Wrong<RELAXED> {
    fn new() -> Self {
        Self { seq: AtomicU64::new(0), block: AtomicU64::new(0) }
    }
    fn publish(&self, n: u64) {
        if RELAXED {
            self.block.store(n, Ordering::Relaxed);
            self.seq.store(n, Ordering::Relaxed);
        } else {
            self.seq.store(n, Ordering::Release);
            self.block.store(n, Ordering::Release);
        }
    }
    fn seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }
    fn block(&self) -> u64 {
        self.block.load(Ordering::Acquire)
    }
}

/// One publishes, two look, twice each.
fn publication<R: Reached>() {
    let reached = Arc::new(R::new());
    let look = |reached: Arc<R>| {
        move || {
            let mut before = 0;
            for _ in 0..2 {
                let seq = reached.seq();
                assert!(reached.block() >= seq, "a seq without its block");
                assert!(seq >= before, "a seq went back");
                before = seq;
            }
        }
    };
    let publisher = thread::spawn({
        let reached = reached.clone();
        move || (1..=2).for_each(|n| reached.publish(n))
    });
    let other = thread::spawn(look(reached.clone()));
    look(reached.clone())();
    publisher.join().unwrap();
    other.join().unwrap();
    assert_eq!((reached.seq(), reached.block()), (2, 2));
}

#[test]
fn a_seq_is_never_seen_without_its_block() {
    explore("progress", publication::<Progress>);
}

#[test]
#[should_panic(expected = "a seq without its block")]
fn publishing_the_seq_first_would_be_found() {
    explore("progress, seq first", publication::<Wrong<false>>);
}

#[test]
#[should_panic(expected = "a seq without its block")]
fn publishing_without_an_order_would_be_found() {
    explore("progress, relaxed", publication::<Wrong<true>>);
}

/// The commit log publishes and answers; whoever has an answer asks how far `D` is. An answer is a
/// message in a channel, which orders as much as this flag does.
fn acknowledgement(publish_first: bool) {
    let durable = Arc::new(Durable::new(at(0)));
    let answered = Arc::new(AtomicU64::new(0));
    let log = thread::spawn({
        let (durable, answered) = (durable.clone(), answered.clone());
        move || {
            for n in 1..=2 {
                if publish_first {
                    durable.publish(at(n), n);
                }
                answered.store(n, Ordering::Release);
                if !publish_first {
                    durable.publish(at(n), n);
                }
            }
        }
    });
    for _ in 0..2 {
        let acknowledged = answered.load(Ordering::Acquire);
        assert!(durable.seq().get() >= acknowledged, "answered, and not durable");
        assert!(durable.progress.block().get() >= acknowledged);
        assert!(durable.decisions() >= acknowledged);
    }
    log.join().unwrap();
}

#[test]
fn whoever_was_answered_sees_it_durable() {
    explore("answers", || acknowledgement(true));
}

#[test]
#[should_panic(expected = "answered, and not durable")]
fn answering_before_publishing_would_be_found() {
    explore("answers, too early", || acknowledgement(false));
}
