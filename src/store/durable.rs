//! How far everything is, for whoever waits or only looks: `D`, `A` and requests in flight.

use tokio::sync::watch;

use super::Position;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::types::{BlockNumber, CommitSeq};

/// A position that only grows. One thread publishes; any thread looks, any task waits.
#[derive(Debug)]
pub struct Progress {
    seq: AtomicU64,
    block: AtomicU64,
    /// The same for tasks that wait.
    watch: watch::Sender<Position>,
}

impl Progress {
    /// Starts at a position.
    pub fn new(position: Position) -> Self {
        Self {
            seq: AtomicU64::new(position.seq.get()),
            block: AtomicU64::new(position.block.get()),
            watch: watch::Sender::new(position),
        }
    }

    /// Moves on. Only its one owner calls this, with positions that never go back.
    pub fn publish(&self, position: Position) {
        self.block.store(position.block.get(), Ordering::Release);
        self.seq.store(position.seq.get(), Ordering::Release);
        self.watch.send_replace(position);
    }

    /// The seq reached.
    pub fn seq(&self) -> CommitSeq {
        CommitSeq::new(self.seq.load(Ordering::Acquire))
    }

    /// The block reached; at least that of the seq read before.
    pub fn block(&self) -> BlockNumber {
        BlockNumber::new(self.block.load(Ordering::Acquire))
    }

    /// A receiver that sees every publication, or the last of several.
    pub fn subscribe(&self) -> watch::Receiver<Position> {
        self.watch.subscribe()
    }

    /// Waits in a task until that seq is reached. Never returns if the engine stops before:
    /// wait for the poison beside it.
    pub async fn reached(&self, seq: CommitSeq) {
        if self.seq() >= seq {
            return;
        }
        let mut receiver = self.watch.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = receiver.wait_for(|position| position.seq >= seq).await;
    }
}

/// What the commit log made durable since the start.
#[derive(Debug)]
pub struct Durable {
    /// `D`.
    pub progress: Progress,
    decisions: AtomicU64,
}

impl Durable {
    /// Starts at what was recovered.
    pub fn new(position: Position) -> Self {
        Self { progress: Progress::new(position), decisions: AtomicU64::new(0) }
    }

    /// `D`: everything up to this seq is on disk.
    pub fn seq(&self) -> CommitSeq {
        self.progress.seq()
    }

    /// How many decisions of this start are durable: all whose number is below this.
    pub fn decisions(&self) -> u64 {
        self.decisions.load(Ordering::Acquire)
    }

    /// Moves on; `decisions` counts those of this start that are durable. Only the commit log calls this.
    pub fn publish(&self, position: Position, decisions: u64) {
        self.decisions.store(decisions, Ordering::Release);
        self.progress.publish(position);
    }
}

/// Requests accepted and not yet answered: what the engine's door counts up and the commit log down.
#[derive(Debug, Default)]
pub struct InFlight {
    requests: AtomicUsize,
}

impl InFlight {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `n` unless that makes more than `max`; says whether it did.
    pub fn admit(&self, n: usize, max: usize) -> bool {
        let sum = |now: usize| now.checked_add(n).filter(|sum| *sum <= max);
        self.requests.fetch_update(Ordering::AcqRel, Ordering::Acquire, sum).is_ok()
    }

    /// Takes `n` off.
    pub fn release(&self, n: usize) {
        let before = self.requests.fetch_sub(n, Ordering::AcqRel);
        assert!(before >= n, "more requests are answered than were accepted");
    }

    /// How many there are.
    pub fn get(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_not_admitted() {
        let in_flight = InFlight::new();
        assert!(in_flight.admit(7, 10));
        assert!(!in_flight.admit(4, 10));
        assert!(in_flight.admit(3, 10));
        in_flight.release(10);
        assert_eq!(in_flight.get(), 0);
    }

    #[test]
    fn tasks_wait_for_a_seq() {
        let at = |n| Position { block: BlockNumber::new(n), seq: CommitSeq::new(n * 10) };
        let progress = std::sync::Arc::new(Progress::new(at(1)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let publisher = std::sync::Arc::clone(&progress);
        let thread = std::thread::spawn(move || (2..=5).for_each(|n| publisher.publish(at(n))));
        runtime.block_on(progress.reached(CommitSeq::new(50)));
        assert_eq!(progress.block(), BlockNumber::new(5));
        thread.join().unwrap();
    }
}
