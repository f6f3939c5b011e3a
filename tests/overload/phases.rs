//! Phases of a load, measured in windows: just below what fits, and ten times that, in turns.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam::channel::{after, never};
use hdrhistogram::Histogram;
use rustix::process::Pid;

use crosslatch::clock::{Clock, SystemClock};

use crate::strace::{Trace, injected, is_there};

/// So many times what fits is offered.
pub const TIMES: f64 = 10.0;
const WINDOW: Duration = Duration::from_millis(250);
/// Windows of a phase that do not count, as the one before still shows.
const WINDOWS_SKIPPED: usize = 2;
/// A caller looks for another phase at least so often.
const LOOKS_EVERY: Duration = Duration::from_millis(20);

/// What sets the limit of what fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// The processors, which callers need too.
    ByProcessors,
    /// The disk: each sync takes so many microseconds.
    ByDisk { sync_micros: u64 },
}

impl Limited {
    /// What is left of the peak, at least. Where callers make many times as many requests on the same
    /// cores, much of what is missing is theirs; a collapse is far below.
    fn goodput_min(self) -> f64 {
        match self {
            Self::ByProcessors => 0.2,
            Self::ByDisk { .. } => 0.8,
        }
    }

    /// How many times what fits callers must get to offer, for anything to be said. They may not get
    /// far where they compete with what they want to overload.
    fn times_min(self) -> f64 {
        match self {
            Self::ByProcessors => 1.2,
            Self::ByDisk { .. } => 0.8 * TIMES,
        }
    }

    /// Makes the disk of a process what is said; `None` where that is not possible, which is told.
    pub fn impose(self, process: Pid, told: &Path) -> Option<Imposed> {
        let Self::ByDisk { sync_micros } = self else { return Some(Imposed(None)) };
        if !is_there() {
            return None;
        }
        let inject = format!("fdatasync:delay_enter={sync_micros}");
        Some(Imposed(Some(Trace::attach(process, "commit-log", &inject, &[], told))))
    }
}

/// What limits what fits, if that has to be seen to.
pub struct Imposed(Option<Trace>);

impl Imposed {
    /// The disk is as fast as ever.
    pub fn lift(self) {
        if let Some(trace) = self.0 {
            let told = trace.let_go();
            assert!(injected(&told) > 0, "no sync was slow: this tests nothing");
        }
    }
}

/// What callers are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// As much as fits, and no more.
    Peak,
    /// Ten times that.
    Over,
    /// Nothing any more.
    Done,
}

/// What callers did. All in requests.
#[derive(Debug, Default)]
pub struct Counts {
    pub offered: AtomicU64,
    pub refused: AtomicU64,
    /// Accepted and answered.
    pub answered: AtomicU64,
}

/// What callers are told, and where they keep count.
pub struct Board {
    pub counts: Counts,
    phase: Mutex<Phase>,
    turned: Condvar,
    /// Requests that all callers together are to offer in a second.
    rate: AtomicU64,
    /// How long refusals took, in nanoseconds.
    refusals: Mutex<Histogram<u64>>,
}

impl Board {
    pub fn new() -> Self {
        let refusals = Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("good bounds");
        Self {
            counts: Counts::default(),
            phase: Mutex::new(Phase::Peak),
            turned: Condvar::new(),
            rate: AtomicU64::new(0),
            refusals: Mutex::new(refusals),
        }
    }

    pub fn phase(&self) -> Phase {
        *self.phase.lock().expect("nobody panics with it")
    }

    fn turn(&self, phase: Phase) {
        *self.phase.lock().expect("nobody panics with it") = phase;
        self.turned.notify_all();
    }

    /// Waits for another phase, but not for long.
    pub fn idle(&self, during: Phase) {
        let phase = self.phase.lock().expect("nobody panics with it");
        let waits = |now: &mut Phase| *now == during;
        let _ = self.turned.wait_timeout_while(phase, LOOKS_EVERY, waits);
    }

    pub fn refused(&self, requests: u64, nanos: u64) {
        self.counts.refused.fetch_add(requests, Ordering::Relaxed);
        let mut refusals = self.refusals.lock().expect("nobody panics with it");
        refusals.saturating_record(nanos);
    }

    /// Makes a caller wait until its next batch is due, if it is one of so many callers. Who is late
    /// goes on at once, but does not make up for more than an instant.
    pub fn pace(&self, due_nanos: &mut u64, batch: usize, callers: usize) {
        let rate = self.rate.load(Ordering::Relaxed).max(1);
        let between = (batch * callers) as u64 * 1_000_000_000 / rate;
        let now = now_nanos();
        let forgiven = now.saturating_sub(LOOKS_EVERY.as_nanos() as u64);
        *due_nanos = (*due_nanos + between).max(forgiven);
        loop {
            let wait = Duration::from_nanos(due_nanos.saturating_sub(now_nanos()));
            if wait.is_zero() || self.phase() != Phase::Over {
                return;
            }
            let _ = never::<()>().recv_timeout(wait.min(LOOKS_EVERY));
        }
    }
}

pub fn now_nanos() -> u64 {
    SystemClock.boot_nanos()
}

/// What a window saw, in requests a second.
#[derive(Clone, Copy, Debug)]
struct Window {
    offered: f64,
    goodput: f64,
}

/// What came of it all.
#[derive(Debug, Default)]
pub struct Measured {
    peak: Vec<Window>,
    over: Vec<Window>,
    /// The most memory there was in the first peak phase, and ever, in bytes.
    pub warm_bytes: u64,
    pub most_bytes: u64,
}

impl Measured {
    pub fn peak(&self) -> f64 {
        median(self.peak.iter().map(|window| window.goodput))
    }

    pub fn goodput(&self) -> f64 {
        median(self.over.iter().map(|window| window.goodput))
    }

    /// How many times what fits was offered.
    pub fn times(&self) -> f64 {
        median(self.over.iter().map(|window| window.offered)) / self.peak()
    }

    /// Says what was measured, and checks what holds on any machine.
    pub fn check(&self, board: &Board, limited: Limited, growth_max: u64) {
        let (peak, goodput) = (self.peak(), self.goodput());
        let refusals = board.refusals.lock().expect("nobody panics with it");
        let micros = |quantile| refusals.value_at_quantile(quantile) as f64 / 1e3;
        let mib = |bytes: u64| bytes >> 20;
        let growth = self.most_bytes.saturating_sub(self.warm_bytes);
        eprintln!(
            "{limited:?}: peak {peak:.0}/s in {} windows; offered {:.1} times as much, in {} windows: \
             goodput {goodput:.0}/s, {:.1}% of peak",
            self.peak.len(),
            self.times(),
            self.over.len(),
            100.0 * goodput / peak,
        );
        eprintln!(
            "{} refusals, p50 {:.0} µs, p99 {:.0} µs; memory {} MiB after the first peak, {} MiB at \
             most: {} MiB more, of {} that may be",
            refusals.len(),
            micros(0.5),
            micros(0.99),
            mib(self.warm_bytes),
            mib(self.most_bytes),
            mib(growth),
            mib(growth_max),
        );
        assert!(self.times() > limited.times_min(), "not much was offered: this tests nothing");
        let goodput_min = limited.goodput_min();
        assert!(goodput > goodput_min * peak, "overload takes too much of what fits");
        assert!(growth <= growth_max, "memory is not bounded by the limits");
    }
}

fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = of.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// How long a test is to take: `CROSSLATCH_OVERLOAD_SECONDS`, or a little.
fn seconds() -> u64 {
    let asked = std::env::var("CROSSLATCH_OVERLOAD_SECONDS");
    asked.map_or(4, |text| text.parse().expect("a number"))
}

/// What else would load the machine waits.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // One that failed is over, too.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the callers what to do until the time is over, and measures. `bytes` says how much memory
/// is in use.
pub fn direct(board: &Board, bytes: impl Fn() -> u64) -> Measured {
    let mut measured = Measured::default();
    // At least two of both kinds, and none so long that the machine has changed meanwhile.
    let phase_seconds = (seconds() / 8).clamp(1, 10);
    let rounds = (seconds() / (2 * phase_seconds)).max(2);
    run(board, Phase::Peak, phase_seconds, &bytes);
    for round in 0..rounds {
        let (windows, most) = run(board, Phase::Peak, phase_seconds, &bytes);
        measured.peak.extend(windows);
        if round == 0 {
            measured.warm_bytes = most;
        }
        board.rate.store((TIMES * measured.peak()) as u64, Ordering::Relaxed);
        let (windows, more) = run(board, Phase::Over, phase_seconds, &bytes);
        measured.over.extend(windows);
        measured.most_bytes = measured.most_bytes.max(most).max(more);
    }
    board.turn(Phase::Done);
    measured
}

/// One phase: its windows, and the most memory that was in use.
fn run(board: &Board, phase: Phase, seconds: u64, bytes: impl Fn() -> u64) -> (Vec<Window>, u64) {
    board.turn(phase);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counts = || (now_nanos(), count(&board.counts.offered), count(&board.counts.answered));
    let (mut windows, mut most) = (Vec::new(), 0);
    let all = Duration::from_secs(seconds).div_duration_f64(WINDOW) as usize;
    for place in 0..all + WINDOWS_SKIPPED {
        let (began, offered, answered) = counts();
        assert!(after(WINDOW).recv().is_ok());
        let (ended, offered_then, answered_then) = counts();
        let seconds = (ended - began) as f64 / 1e9;
        if place >= WINDOWS_SKIPPED {
            let rate = |before: u64, then: u64| (then - before) as f64 / seconds;
            let (offered, goodput) = (rate(offered, offered_then), rate(answered, answered_then));
            windows.push(Window { offered, goodput });
        }
        most = most.max(bytes());
    }
    (windows, most)
}
