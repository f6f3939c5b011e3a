//! Disks that fail, fill up, dawdle and lie, under the real binary: a write or a sync that fails
//! (`errors`), no room (`full`), syncs that take seconds (`slow`), and files that are not what was
//! written (`damage`).
//!
//! What is expected of a failure is the same everywhere: nothing is acknowledged that is not
//! durable, the process ends by itself and says why, and the next start on a sound disk finds
//! every acknowledged request with its answer. What is expected of damage: a start refuses, naming
//! what is damaged and what to do, or everything is right.
//!
//! `CROSSLATCH_FAULTS=200` tries every call up to the 200th, `CROSSLATCH_DAMAGED=500` that many
//! damaged files of each kind; by default a few are tried. `CROSSLATCH_KIND=Manifest` damages files
//! of one kind only, `CROSSLATCH_TOLD=1` tells of each.

#[path = "../support/http.rs"]
#[expect(dead_code, reason = "here answers may fail to come")]
mod http;

mod damage;
mod errors;
mod full;
mod manifest;
mod node;
mod slow;
mod startup;
#[path = "../support/strace.rs"]
#[expect(dead_code, reason = "here whatever is traced ends")]
mod strace;
mod venue;
mod wounds;

use std::fs;
use std::path::Path;

/// A number from the environment.
fn count(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A directory of its own on the disk that the build is on: `/tmp` may be memory.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory can be written")
}

/// Copies a directory with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("room");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("room")),
        }
    }
}

/// The seed of a random test; a test that fails shows it.
fn seed(default: u64) -> u64 {
    let seed = count("CROSSLATCH_SEED", default);
    eprintln!("CROSSLATCH_SEED={seed}");
    seed
}
