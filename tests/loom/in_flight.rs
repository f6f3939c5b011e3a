//! Requests in flight: the door counts up, the commit log down, and there are never more than the
//! limit says.

use std::sync::Arc;

use crosslatch::store::durable::InFlight;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::explore;

const MAX: usize = 3;

trait Door: Send + Sync + 'static {
    fn new() -> Self;
    fn admit(&self, n: usize) -> bool;
    fn release(&self, n: usize);
    fn get(&self) -> usize;
}

impl Door for InFlight {
    fn new() -> Self {
        Self::new()
    }
    fn admit(&self, n: usize) -> bool {
        self.admit(n, MAX)
    }
    fn release(&self, n: usize) {
        self.release(n);
    }
    fn get(&self) -> usize {
        self.get()
    }
}

/// Looks first, and counts then.
struct Looks(AtomicUsize);

impl Door for Looks {
    fn new() -> Self {
        Self(AtomicUsize::new(0))
    }
    fn admit(&self, n: usize) -> bool {
        let fits = self.get() + n <= MAX;
        if fits {
            self.0.fetch_add(n, Ordering::AcqRel);
        }
        fits
    }
    fn release(&self, n: usize) {
        self.0.fetch_sub(n, Ordering::AcqRel);
    }
    fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// Three callers, of which not all fit at once. What is admitted is counted a second time.
fn callers<D: Door>() {
    let (door, inside) = (Arc::new(D::new()), Arc::new(AtomicUsize::new(0)));
    let call = |n: usize| {
        let (door, inside) = (door.clone(), inside.clone());
        move || {
            if door.admit(n) {
                let before = inside.fetch_add(n, Ordering::SeqCst);
                assert!(before + n <= MAX, "more are inside than fit");
                inside.fetch_sub(n, Ordering::SeqCst);
                door.release(n);
            }
        }
    };
    let others = [thread::spawn(call(2)), thread::spawn(call(1))];
    call(2)();
    others.into_iter().for_each(|it| it.join().unwrap());
    assert_eq!(door.get(), 0, "all left");
    assert!(door.admit(MAX), "and there is room again");
}

#[test]
fn never_more_than_the_limit_are_admitted() {
    explore("in flight", callers::<InFlight>);
}

#[test]
#[should_panic(expected = "more are inside than fit")]
fn looking_before_counting_would_be_found() {
    explore("in flight, looks first", callers::<Looks>);
}
