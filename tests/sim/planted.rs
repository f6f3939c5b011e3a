//! Bugs that are planted in the engine, one at a time: the simulation must find each.
//!
//! A simulation that finds nothing may be one that cannot. So what it is there to find is put in:
//! `crosslatch::faults` has the list. The table that is printed says after how many seeds each was
//! found, and by which check.

use crosslatch::faults::{Bug, plant};

use crate::shrink::{self, Failure};
use crate::world::Plan;

/// A bug that needs more seeds is as good as not found.
const SEEDS_MAX: u64 = 1_000;

/// Folding a block again that a family has changes nothing: that is how recovery gets away with not
/// knowing what exactly a crash left. So nothing must be found there.
const HARMLESS: [Bug; 1] = [Bug::FoldTwice];
/// Seeds that a harmless one is tried on.
const SEEDS_HARMLESS: u64 = 200;

/// The first seed that shows the bug, and how.
fn first_failure(bug: Bug, seeds: u64) -> Option<(u64, Failure)> {
    plant(bug);
    let found = (0..seeds).find_map(|seed| Some((seed, shrink::try_run(Plan::of(seed)).err()?)));
    plant(Bug::None);
    found
}

fn one_line(text: &str) -> String {
    let line: String = text.lines().next().unwrap_or_default().chars().take(90).collect();
    line.replace('|', "/")
}

#[test]
fn every_planted_bug_is_found() {
    shrink::hush();
    println!("| planted | what it does | found after | by |\n|---|---|---|---|");
    let mut missed = Vec::new();
    for (bug, what) in Bug::ALL {
        let is_harmless = HARMLESS.contains(bug);
        let seeds = if is_harmless { SEEDS_HARMLESS } else { SEEDS_MAX };
        match first_failure(*bug, seeds) {
            Some((seed, failure)) => {
                let (place, message) = (&failure.place, one_line(&failure.message));
                println!("| {bug:?} | {what} | {} seeds | `{place}`: {message} |", seed + 1);
                if is_harmless {
                    missed.push(format!("{bug:?} is not harmless"));
                }
            }
            None if is_harmless => println!("| {bug:?} | {what} | harmless in {seeds} seeds | |"),
            None => {
                println!("| {bug:?} | {what} | not in {seeds} seeds | |");
                missed.push(format!("{bug:?} is not found"));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}
