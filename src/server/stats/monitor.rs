//! Looks at what the server measures once a second, and remembers five minutes of it.
//!
//! ```text
//! exporter ─► Page ─► View::between ─► Sample ─► the last STATS_SAMPLES_MAX
//! journal  ─► the last commits of this second ─► Sketch      (while somebody watches)
//! ```
//!
//! It has a thread of its own, and reads what is there anyway: metrics, and commits that are durable and
//! decoded already. So nothing is counted for it where requests settle, and who is hot is known of a sample: of
//! each second its last [`HOT_COMMITS_PER_LOOK_MAX`] commits, all there are below so many a second.

use std::collections::VecDeque;
use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::config::{
    HOT_ACCOUNTS_TOLD_MAX, HOT_ACCOUNTS_TRACKED, HOT_COMMITS_PER_LOOK_MAX, HOT_HALF_LIFE_MS,
    HOT_WATCHED_MS, STATS_EVERY_MS, STATS_SAMPLES_MAX, STREAM_TURN_BYTES_MAX,
};
use crate::engine::Engine;
use crate::error::Error;
use crate::metrics::Exporter;
use crate::types::{AccountId, CommitSeq, Time};

use super::prometheus::Page;
use super::sketch::{Count, Sketch};
use super::view::{Latency, Look, View};

/// Remembers how the server does.
pub(in crate::server) struct Monitor {
    engine: Engine,
    exporter: Exporter,
    started: Time,
    /// When somebody asked last, in nanoseconds since the machine booted.
    watched_nanos: AtomicU64,
    state: Mutex<State>,
}

/// What is told. Nobody who has it waits for the disk.
#[derive(Default)]
struct State {
    view: Option<View>,
    samples: VecDeque<Sample>,
    hot: HotTold,
}

/// What the thread keeps to itself.
struct Watch {
    /// How often it has looked.
    looks: u64,
    last: Option<Look>,
    hot: Hot,
}

/// How the server did in one second.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    /// Which look it was, from 1 on.
    pub(super) number: u64,
    pub(super) settled: f64,
    pub(super) rejected: f64,
    pub(super) conflicts: f64,
    pub(super) latency: Latency,
    pub(super) fsync: Latency,
    pub(super) lag: u64,
    pub(super) in_flight: u64,
    pub(super) holds: u64,
    pub(super) open_orders: u64,
    pub(super) parked: u64,
    /// In the order of the view's mailboxes.
    pub(super) mailboxes: Vec<u64>,
}

impl Sample {
    fn new(number: u64, view: &View) -> Self {
        Self {
            number,
            settled: view.settled.per_second.unwrap_or_default(),
            rejected: view.rejected.per_second.unwrap_or_default(),
            conflicts: view
                .conflicts
                .iter()
                .filter_map(|it| it.counted.per_second)
                .fold(0.0, f64::add),
            latency: view.latency,
            fsync: view.fsync,
            lag: view.lag,
            in_flight: view.in_flight,
            holds: view.holds,
            open_orders: view.open_orders,
            parked: view.parked,
            mailboxes: view.mailboxes.iter().map(|it| it.messages).collect(),
        }
    }
}

/// What is told.
pub(super) struct Told {
    pub(super) started: Time,
    /// `None` before the second look.
    pub(super) view: Option<View>,
    pub(super) samples: Vec<Sample>,
    pub(super) hot: HotTold,
}

/// Whose balances changed most often lately.
#[derive(Clone, Debug, Default)]
pub(super) struct HotTold {
    /// Of so many commits.
    pub(super) commits: u64,
    pub(super) accounts: Vec<(AccountId, Count)>,
}

impl Monitor {
    /// Looks from now on, until it is dropped.
    pub(in crate::server) fn start(engine: Engine, exporter: Exporter) -> Arc<Self> {
        let hot = Hot::after(engine.status().durable_seq);
        let watch = Watch { looks: 0, last: None, hot };
        let monitor = Arc::new(Self {
            engine,
            exporter,
            started: SystemClock.wall(),
            watched_nanos: AtomicU64::new(0),
            state: Mutex::default(),
        });
        let weak = Arc::downgrade(&monitor);
        let thread = std::thread::Builder::new().name("monitor".into());
        if let Err(error) = thread.spawn(move || run(&weak, watch)) {
            tracing::warn!(%error, "no thread for statistics: there are none");
        }
        monitor
    }

    /// What it has seen after that look.
    pub(super) fn told(&self, after: u64) -> Told {
        self.watched_nanos.store(SystemClock.boot_nanos(), Ordering::Relaxed);
        let state = self.state();
        let samples = state.samples.iter().filter(|sample| sample.number > after).cloned();
        Told {
            started: self.started,
            view: state.view.clone(),
            samples: samples.collect(),
            hot: state.hot.clone(),
        }
    }

    fn look(&self, watch: &mut Watch) {
        let at_nanos = SystemClock.boot_nanos();
        let Ok(page) = Page::parse(&self.exporter.render()) else { return };
        let now = Look { page, at_nanos };
        watch.looks += 1;
        if self.is_watched(at_nanos) {
            // What cannot be read now is passed over.
            let _ = watch.hot.look(&self.engine);
        }
        let hot = watch.hot.told();
        let view = watch.last.as_ref().and_then(|last| View::between(Some(last), &now).ok());
        watch.last = Some(now);
        let mut state = self.state();
        state.hot = hot;
        let Some(view) = view else { return };
        if state.samples.len() == STATS_SAMPLES_MAX {
            state.samples.pop_front();
        }
        state.samples.push_back(Sample::new(watch.looks, &view));
        state.view = Some(view);
    }

    fn is_watched(&self, now_nanos: u64) -> bool {
        let watched = self.watched_nanos.load(Ordering::Relaxed);
        watched > 0 && now_nanos.saturating_sub(watched) < HOT_WATCHED_MS * 1_000_000
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(monitor: &Weak<Monitor>, mut watch: Watch) {
    for _ in &crossbeam::channel::tick(Duration::from_millis(STATS_EVERY_MS)) {
        let Some(monitor) = monitor.upgrade() else { return };
        monitor.look(&mut watch);
    }
}

/// Who is counted.
struct Hot {
    sketch: Sketch<AccountId>,
    /// Commits that were counted, halved with the rest.
    commits: u64,
    /// Up to this everything was counted, or passed over.
    at: CommitSeq,
    looks: u64,
}

impl Hot {
    fn after(at: CommitSeq) -> Self {
        Self { sketch: Sketch::new(HOT_ACCOUNTS_TRACKED), commits: 0, at, looks: 0 }
    }

    /// Counts the last commits since the look before. Reads the disk if they are not in memory any more.
    fn look(&mut self, engine: &Engine) -> Result<(), Error> {
        self.looks += 1;
        if self.looks.is_multiple_of(HOT_HALF_LIFE_MS / STATS_EVERY_MS) {
            self.sketch.halve();
            self.commits /= 2;
        }
        let durable = engine.status().durable_seq;
        let first = durable.get().saturating_sub(HOT_COMMITS_PER_LOOK_MAX as u64);
        let after = self.at.max(CommitSeq::new(first));
        self.at = durable;
        if after == durable {
            return Ok(());
        }
        let events = engine.events(after)?.take(HOT_COMMITS_PER_LOOK_MAX, STREAM_TURN_BYTES_MAX)?;
        for event in &events {
            self.commits += 1;
            event.accounts().iter().for_each(|account| self.sketch.add(*account));
        }
        Ok(())
    }

    fn told(&self) -> HotTold {
        HotTold { commits: self.commits, accounts: self.sketch.top(HOT_ACCOUNTS_TOLD_MAX) }
    }
}
