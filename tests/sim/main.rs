//! The whole engine on one thread: coordinator, shards, commit log, materializer and recovery, moved
//! by one seed over a disk, a clock and channels that do everything they may.
//!
//! Each seed makes a world (`world`): callers that retry as real ones do (`clients`), a process whose
//! messages arrive in every legal order (`node`), a disk that fails, fills up and loses what was not
//! synced (`disk`, which has the contract), and a clock that jumps. The process ends at any point and
//! is started again. What everybody was told is remembered (`memory`) and judged against a serial
//! engine in the end (`judge`). A seed is a failure's whole story:
//!
//! ```text
//! make sim COUNT=100000          # so many seeds, on all cores
//! make sim SEED=4711             # that seed alone; a failure is made smaller, and its trace shown
//! ```

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "others use the rest")]
mod support;
#[path = "../support/oracle.rs"]
#[expect(dead_code, reason = "others use the rest")]
mod oracle;
#[path = "../support/workload.rs"]
mod workload;

mod clients;
mod clock;
mod coverage;
mod disk;
mod judge;
mod keys;
mod memory;
mod node;
mod orders;
#[cfg(feature = "faults")]
mod planted;
mod rows;
mod shrink;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crosslatch::clock::{Clock, SystemClock};

use coverage::Coverage;
use shrink::Failure;
use world::{Plan, World};

/// Seeds of an ordinary run.
const SEEDS: u64 = 1_500;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text}; give a number")))
}

/// Lets a world happen and judges it: what it covered, and the hash of everything that happened.
fn run(plan: Plan, trace: Option<&mut Vec<String>>) -> (Coverage, u64) {
    let mut rng = SmallRng::seed_from_u64(!plan.seed);
    let mut world = World::new(plan, trace.is_some());
    let Some(trace) = trace else {
        world.run();
        return judge::judge(world, &mut rng);
    };
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    trace.extend(world.memory.trace.take().unwrap_or_default());
    match ran {
        Ok(()) => judge::judge(world, &mut rng),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs seeds on all cores; the failure of the lowest seed that failed, if one did.
fn run_all(seeds: std::ops::Range<u64>) -> Result<Coverage, Failure> {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let found: Vec<Result<Coverage, Failure>> = std::thread::scope(|scope| {
        let work = || {
            let mut coverage = Coverage::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end {
                    return Ok(coverage);
                }
                match shrink::try_run(Plan::of(seed)) {
                    Ok((more, _)) => coverage += more,
                    Err(failure) => {
                        next.store(seeds.end, Ordering::Relaxed);
                        return Err(failure);
                    }
                }
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("it catches")).collect()
    });
    let mut coverage = Coverage::default();
    let mut failures = Vec::new();
    for found in found {
        match found {
            Ok(more) => coverage += more,
            Err(failure) => failures.push(failure),
        }
    }
    match failures.into_iter().min_by_key(|failure| failure.plan.seed) {
        Some(failure) => Err(failure),
        None => Ok(coverage),
    }
}

#[test]
fn whatever_fails_the_outcome_is_that_of_a_serial_engine_that_does_not() {
    shrink::hush();
    let first = number("SEED").unwrap_or(0);
    let single = number("SEED").is_some() && number("COUNT").is_none();
    let count = if single { 1 } else { number("COUNT").unwrap_or(SEEDS) };
    let began = SystemClock.boot_nanos();
    match run_all(first..first + count) {
        Ok(coverage) => {
            let seconds = (SystemClock.boot_nanos() - began) as f64 / 1e9;
            println!("{count} seeds in {seconds:.1} s: {coverage}");
            if count >= SEEDS {
                coverage.check();
            }
        }
        Err(failure) => failure.report(),
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    shrink::hush();
    for seed in 0..40 {
        let hashes = [0, 1].map(|_| match shrink::try_run(Plan::of(seed)) {
            Ok((_, hash)) => hash,
            Err(failure) => failure.report(),
        });
        assert_eq!(hashes[0], hashes[1], "seed {seed}");
    }
}
