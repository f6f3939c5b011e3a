//! Whose turn it is to send a submission, and when.
//!
//! ```text
//! closed loop   a caller's next turn begins when its last one is answered
//! open loop     pacer thread ── turns, when they are due ──► any caller that is idle
//! ```
//!
//! In an open loop a submission of n swaps is due every n / rate seconds whether the engine keeps
//! up or not, and its latency counts from then: while all callers wait, what is due waits too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::{Clock, SystemClock};

use super::alarm::Alarm;
use super::args::{End, LoadArgs};

/// Turns that are due and that no caller has taken yet; then the pacer waits, and they keep their time.
const TURNS_DUE_MAX: usize = 1_024;

/// One submission to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// How many swaps.
    pub(super) swaps: usize,
    /// Boot-clock nanoseconds from which its latency counts; `None` for when it is sent.
    pub(super) due_nanos: Option<u64>,
}

/// How many swaps are left to send, and until when.
#[derive(Debug)]
pub(super) struct Budget {
    swaps: AtomicU64,
    ends_nanos: u64,
    batch: usize,
    stop: Arc<Alarm>,
}

impl Budget {
    /// What the flags ask for, from then on (by the boot clock), unless `stop` goes off.
    pub(super) fn new(args: &LoadArgs, started_nanos: u64, stop: Arc<Alarm>) -> Self {
        let (swaps, ends_nanos) = match args.end() {
            End::Swaps(swaps) => (swaps, u64::MAX),
            End::After(duration) => (u64::MAX, started_nanos + duration.as_nanos() as u64),
        };
        Self { swaps: AtomicU64::new(swaps), ends_nanos, batch: args.batch, stop }
    }

    /// Swaps of the next submission; `None` when nothing more is to be sent.
    fn take(&self, due_nanos: u64) -> Option<usize> {
        if self.stop.has_rung() || due_nanos >= self.ends_nanos {
            return None;
        }
        let take = |left: u64| (left > 0).then(|| left.saturating_sub(self.batch as u64));
        let left = self.swaps.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(left.min(self.batch as u64) as usize)
    }
}

/// Where a caller's turns come from.
#[derive(Debug)]
pub(super) enum Turns {
    /// The next one begins when the last one is answered.
    Closed(Budget),
    /// Each begins when it is due.
    Open(tokio::sync::Mutex<mpsc::Receiver<Turn>>),
}

impl Turns {
    /// Turns that come when they are due, and where the pacer puts them.
    pub(super) fn open() -> (mpsc::Sender<Turn>, Self) {
        let (sender, receiver) = mpsc::channel(TURNS_DUE_MAX);
        (sender, Self::Open(tokio::sync::Mutex::new(receiver)))
    }

    /// Waits for the next turn; `None` when nothing more is to be sent.
    pub(super) async fn next(&self) -> Option<Turn> {
        match self {
            Self::Closed(_) => self.now(),
            Self::Open(due) => due.lock().await.recv().await,
        }
    }

    /// A turn that has come already, for a caller that has something else to do.
    pub(super) fn now(&self) -> Option<Turn> {
        match self {
            Self::Closed(budget) => {
                let swaps = budget.take(SystemClock.boot_nanos())?;
                Some(Turn { swaps, due_nanos: None })
            }
            // Who has the lock waits for the next turn: none has come.
            Self::Open(due) => due.try_lock().ok()?.try_recv().ok(),
        }
    }
}

/// Says when submissions are due, in an open loop.
pub(super) struct Pacer {
    nanos_per_turn: f64,
    started_nanos: u64,
}

impl Pacer {
    /// For so many swaps a second in submissions of so many, from then on.
    pub(super) fn new(rate: f64, batch: usize, started_nanos: u64) -> Self {
        Self { nanos_per_turn: batch as f64 / rate * 1e9, started_nanos }
    }

    /// Until the budget is spent, or nobody takes turns any more.
    pub(super) fn run(&self, budget: &Budget, turns: &mpsc::Sender<Turn>) {
        for number in 0_u64.. {
            let due_nanos = self.started_nanos + (number as f64 * self.nanos_per_turn) as u64;
            let Some(swaps) = budget.take(due_nanos) else {
                return;
            };
            let early = due_nanos.saturating_sub(SystemClock.boot_nanos());
            if early > 0 && budget.stop.wait(Duration::from_nanos(early)) {
                return;
            }
            if turns.blocking_send(Turn { swaps, due_nanos: Some(due_nanos) }).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(swaps: u64, ends_nanos: u64) -> Budget {
        let stop = Arc::new(Alarm::new());
        Budget { swaps: AtomicU64::new(swaps), ends_nanos, batch: 100, stop }
    }

    #[test]
    fn the_last_submission_is_what_is_left() {
        let budget = budget(250, u64::MAX);
        let taken: Vec<_> = std::iter::from_fn(|| budget.take(0)).collect();
        assert_eq!(taken, [100, 100, 50]);
    }

    #[test]
    fn nothing_is_due_after_the_end_or_the_stop() {
        let budget = budget(u64::MAX, 1_000);
        assert_eq!(budget.take(999), Some(100));
        assert_eq!(budget.take(1_000), None);
        budget.stop.ring();
        assert_eq!(budget.take(0), None);
    }

    #[test]
    fn who_is_busy_takes_what_is_due_and_does_not_wait() {
        let (sender, turns) = Turns::open();
        assert_eq!(turns.now(), None);
        let turn = Turn { swaps: 5, due_nanos: Some(1) };
        sender.try_send(turn).unwrap();
        assert_eq!(turns.now(), Some(turn));
        let closed = Turns::Closed(budget(100, u64::MAX));
        assert_eq!(closed.now(), Some(Turn { swaps: 100, due_nanos: None }));
        assert_eq!(closed.now(), None);
    }

    #[test]
    fn turns_keep_their_time_while_nobody_takes_them() {
        let (sender, mut receiver) = mpsc::channel(1);
        let started_nanos = SystemClock.boot_nanos();
        let pacer = Pacer::new(100_000.0, 100, started_nanos);
        let budget = budget(500, u64::MAX);
        let late = std::thread::scope(|scope| {
            scope.spawn(|| {
                pacer.run(&budget, &sender);
                drop(sender);
            });
            Alarm::new().wait(Duration::from_millis(20));
            let mut taken = Vec::new();
            while let Some(turn) = receiver.blocking_recv() {
                let due = turn.due_nanos.expect("an open loop says when") - started_nanos;
                taken.push((turn.swaps, due, SystemClock.boot_nanos() - started_nanos));
            }
            taken
        });
        let due: Vec<_> = late.iter().map(|(swaps, due, _)| (*swaps, *due)).collect();
        assert_eq!(due, (0..5).map(|turn| (100, turn * 1_000_000)).collect::<Vec<_>>());
        assert!(late[0].2 >= 20_000_000, "the first one was taken late, and counts from 0");
    }
}
