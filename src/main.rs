//! The `crosslatch` command.

use std::process::ExitCode;

/// Answers are many small allocations on several threads, which is what this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(feature = "faults")]
    crosslatch::faults::arm();
    crosslatch::cli::run()
}
