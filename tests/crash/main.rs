//! Death at any moment: an engine in a process of its own dies again and again, under load, while
//! it starts and while it recovers, and is looked at after each time ([`venue`]).
//!
//! * [`kills`]: SIGKILL at random moments.
//! * [`power`]: SIGKILL, and then the disk loses what was never synced.
//! * `points`: death at every named point of the engine, one by one. (Feature `faults`.)
//!
//! Every request is a function of the seed and its number, so the parent knows what the child may
//! have asked for. Longer runs, by hand, and others by `CROSSLATCH_SEED=n`:
//!
//! ```text
//! CROSSLATCH_KILLS=1000        cargo test --release --test crash kills::
//! CROSSLATCH_POWER_LOSSES=500  cargo test --release --test crash power::
//! CROSSLATCH_POINT_ROUNDS=20   cargo test --release --features faults --test crash points::
//! ```

#[path = "../support/child.rs"]
#[expect(dead_code, reason = "every child here is told what its environment is")]
mod child;
#[path = "../support/oracle.rs"]
#[expect(dead_code, reason = "nobody here asks one thing at a time")]
mod oracle;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/workload.rs"]
mod workload;

mod disk;
mod kills;
mod load;
mod loss;
mod plan;
#[cfg(feature = "faults")]
mod points;
mod power;
mod shim;
mod trading;
mod venue;
mod watch;

/// A count from the environment.
fn number_from(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}
