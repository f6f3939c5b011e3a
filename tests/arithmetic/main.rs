//! Arithmetic where it is most likely to be wrong: at both ends of 128 bits, of 64 bits, and at the
//! supply cap.
//!
//! What the engine says is compared with sums of 256 bits (`wide`), which nothing here can reach the
//! end of. `PROPTEST_CASES=100000` tries more than usual.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod amounts;
mod grants;
mod netting;
mod supply;
mod time;
mod wide;

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crosslatch::config::SUPPLY_MAX;
use crosslatch::types::{Amount, Balance};

/// How many inputs are tried where certain cases have to occur.
const CASES: u32 = 4_000;

/// How often each case occurred.
#[derive(Default)]
struct Seen(RefCell<BTreeMap<&'static str, u64>>);

impl Seen {
    fn note(&self, case: &'static str) {
        *self.0.borrow_mut().entry(case).or_default() += 1;
    }
}

/// Tries a property, and sees to it that each of these cases occurred.
#[track_caller]
fn covering<S: Strategy>(
    cases: &[&'static str],
    inputs: S,
    property: impl Fn(S::Value, &Seen) -> Result<(), TestCaseError>,
) {
    let seen = Seen::default();
    // Without a file of failures: each is shown with its input.
    let asked = std::env::var("PROPTEST_CASES").is_ok();
    let many = if asked { Config::default().cases } else { CASES };
    let config = Config { cases: many, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&inputs, |input| property(input, &seen))
        .unwrap_or_else(|failure| panic!("{failure}"));
    let seen = seen.0.into_inner();
    println!("{seen:?}");
    for case in cases {
        assert!(seen.get(case).is_some_and(|times| *times >= 5), "hardly ever: {case}");
    }
}

/// Numbers near every edge that there is, and some anywhere.
fn edge() -> impl Strategy<Value = u128> {
    let edges = [0, 1 << 32, 1 << 64, 1 << 96, 1 << 112, 1 << 120, SUPPLY_MAX, u128::MAX];
    let near = (prop::sample::select(edges.to_vec()), 0..4_u128, any::<bool>());
    let near = near.prop_map(
        |(edge, by, up)| {
            if up { edge.saturating_add(by) } else { edge.saturating_sub(by) }
        },
    );
    let shifted = (any::<u128>(), 0..128_u32).prop_map(|(number, bits)| number >> bits);
    prop_oneof![4 => near, 2 => shifted, 1 => 0..5_u128]
}

/// A balance near the edges that is one: its sum has 128 bits at most.
fn balance() -> impl Strategy<Value = Balance> {
    (edge(), edge()).prop_map(|(available, held)| {
        let held = held.min(u128::MAX - available);
        Balance { available: Amount::new(available), held: Amount::new(held) }
    })
}
