//! Threads of this process that do one transaction after the other for a given time.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use crosslatch::clock::{Clock, SystemClock};
use hdrhistogram::Histogram;

use crate::guard;
use crate::host;
use crate::work::{Latency, Swap, Swaps, Workload};

/// One thread's own things.
pub struct Caller {
    swaps: Swaps,
    nanos: Histogram<u64>,
    settled: u64,
    /// Transactions that had to be done again.
    pub retries: u64,
    /// The swaps of the transaction that is being done.
    pub batch: Vec<Swap>,
}

/// What all threads did together.
pub struct Driven {
    /// Swaps settled a second, from the common start to the last answer.
    pub swaps_per_second: f64,
    /// Of the transactions.
    pub latency: Latency,
    /// Of all threads.
    pub retries: u64,
}

/// Lets `threads` callers do transactions of `batch` swaps for `time`. `act` does the one in
/// [`Caller::batch`], as often as that takes, and returns how many of its swaps settled.
///
/// # Errors
/// The first error of a caller, or a signal came.
pub fn drive<F>(
    workload: &Workload,
    threads: usize,
    batch: usize,
    time: Duration,
    act: F,
) -> Result<Driven>
where
    F: Fn(&mut Caller) -> Result<u64> + Sync,
{
    let start = Barrier::new(threads + 1);
    let (began, callers) = thread::scope(|scope| {
        let run = |caller: usize| {
            let caller = Caller::new(workload, caller, batch);
            start.wait();
            caller.and_then(|caller| caller.run(batch, time, &act))
        };
        let running: Vec<_> = (0..threads).map(|caller| scope.spawn(move || run(caller))).collect();
        start.wait();
        let began = SystemClock.boot_nanos();
        let ended = running.into_iter().map(|it| it.join().expect("a caller does not panic"));
        (began, ended.collect::<Result<Vec<Caller>>>())
    });
    summary(&callers?, SystemClock.boot_nanos() - began)
}

fn summary(callers: &[Caller], nanos_elapsed: u64) -> Result<Driven> {
    let mut nanos = Histogram::<u64>::new(3)?;
    for caller in callers {
        nanos.add(&caller.nanos)?;
    }
    let settled: u64 = callers.iter().map(|caller| caller.settled).sum();
    Ok(Driven {
        swaps_per_second: settled as f64 / (nanos_elapsed as f64 / 1e9),
        latency: host::latency(&nanos),
        retries: callers.iter().map(|caller| caller.retries).sum(),
    })
}

impl Caller {
    fn new(workload: &Workload, caller: usize, batch: usize) -> Result<Self> {
        Ok(Self {
            swaps: Swaps::new(workload, caller),
            nanos: Histogram::new(3)?,
            settled: 0,
            retries: 0,
            batch: Vec::with_capacity(batch),
        })
    }

    fn run(
        mut self,
        batch: usize,
        time: Duration,
        act: &impl Fn(&mut Self) -> Result<u64>,
    ) -> Result<Self> {
        let deadline = SystemClock.boot_nanos() + time.as_nanos() as u64;
        loop {
            guard::check()?;
            self.batch.clear();
            self.batch.extend((0..batch).map(|_| self.swaps.draw()));
            let before = SystemClock.boot_nanos();
            self.settled += act(&mut self)?;
            let after = SystemClock.boot_nanos();
            self.nanos.record(after - before)?;
            if after >= deadline {
                return Ok(self);
            }
        }
    }
}
