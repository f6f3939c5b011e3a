//! The `crosslatch` binary.

fn main() {}
