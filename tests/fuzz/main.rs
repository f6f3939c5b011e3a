//! What comes from outside or from disk, as bytes that nobody wrote: the targets of the fuzzer, run
//! without it.
//!
//! Each target (`targets`) takes any bytes, says whether they were accepted, and panics if something
//! is wrong with that. This test gives each the inputs that the fuzzer found worth keeping, in
//! `fuzz/corpus`, and some thousand mutations of them. The fuzzer itself goes on from there:
//!
//! ```text
//! cargo test --release --no-default-features --test fuzz
//! CROSSLATCH_MUTATIONS=10000000 CROSSLATCH_SEED=7 cargo test --release --no-default-features --test fuzz
//! cargo +nightly fuzz run block -- -max_total_time=600     # the fuzzer, one target
//! ```
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod mutations;
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crosslatch::{config, error, store, types};
use mutations::Mutator;
use targets::{TARGETS, Target};

/// Of each target.
const MUTATIONS: u64 = 200_000;
/// What the corpus of one target may take: it is for a start, not for a stock.
const FILES_MAX: usize = 30;
const CORPORA_BYTES_MAX: usize = 200_000;

fn from_environment(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(otherwise, |text| text.parse().unwrap_or_else(|why| panic!("{name}: {why}")))
}

/// The committed inputs of a target, in the order of their names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let entries = fs::read_dir(&directory).unwrap_or_else(|why| panic!("{directory:?}: {why}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn what_the_fuzzer_kept_holds() {
    let mut bytes = 0;
    for (name, target) in TARGETS {
        let (mut accepted, inputs) = (0, corpus(name));
        assert!((1..=FILES_MAX).contains(&inputs.len()), "{name} has {} inputs", inputs.len());
        for (path, input) in &inputs {
            let took = catch_unwind(AssertUnwindSafe(|| target(input)));
            accepted += usize::from(took.unwrap_or_else(|_| panic!("{}", path.display())));
            bytes += input.len();
        }
        println!("{name}: {accepted} of {} accepted", inputs.len());
        assert!(accepted > 0, "{name}: nothing is accepted");
    }
    assert!(bytes < CORPORA_BYTES_MAX, "the corpora have {bytes} bytes");
}

#[test]
fn mutations_hold() {
    let (count, seed) = (
        from_environment("CROSSLATCH_MUTATIONS", MUTATIONS),
        from_environment("CROSSLATCH_SEED", 1),
    );
    for (name, target) in TARGETS {
        let inputs: Vec<_> = corpus(name).into_iter().map(|(_, input)| input).collect();
        let accepted = mutate(name, target, &inputs, (seed, count));
        println!("{name}: {accepted} of {count} mutations accepted, seed {seed}");
        assert!(accepted > 0 && accepted < count, "{name}: all are answered the same");
    }
}

/// How many of the mutations were accepted.
fn mutate(name: &str, target: Target, inputs: &[Vec<u8>], (seed, count): (u64, u64)) -> u64 {
    let mut mutator = Mutator::new(seed, inputs);
    let mut accepted = 0;
    for number in 0..count {
        let input = mutator.next();
        let took = catch_unwind(AssertUnwindSafe(|| target(&input)));
        let took = took.unwrap_or_else(|_| {
            panic!("{name}, seed {seed}, mutation {number}: {}", input.escape_ascii())
        });
        accepted += u64::from(took);
    }
    accepted
}
