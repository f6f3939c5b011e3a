//! One target of `tests/fuzz`, the one that has the name of the binary.
#![no_main]

#[path = "../tests/fuzz/targets/mod.rs"]
mod targets;

use crosslatch::{config, error, store, types};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let name = env!("CARGO_BIN_NAME");
    let target = targets::TARGETS.iter().find(|(other, _)| *other == name);
    let (_, target) = target.expect("each binary is a target");
    target(input);
});
