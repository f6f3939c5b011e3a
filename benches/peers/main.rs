//! The same work for Crosslatch and for others, in one run on one machine.
//!
//! Workload: one swap is two transfers between two accounts in two assets, both or neither; funds
//! are checked; the answer comes after an fsync. 100,000 accounts, drawn uniformly, seed 1. Each
//! system is measured batched (1,000 swaps in a transaction; Crosslatch also 4,096 in a batch), one
//! swap at a time for one caller, and one at a time for many callers, with as many callers as help
//! it. A number counts only if no asset's total has changed. Hardware: whatever it runs on; the
//! report names it, the time of a plain append and fsync, and how busy others kept the machine.
//!
//! ```text
//! make peers                                             # 10 s each, one round, about 4 minutes
//! cargo bench --profile release --bench peers -- --seconds 5 --rounds 3 --accounts 10000 \
//!     --only crosslatch,postgres --json peers.json
//! ```
//!
//! The peers keep balances and nothing else, where Crosslatch also keeps receipts, request ids and
//! history. RocksDB is called within this process and Crosslatch within its load generator's;
//! PostgreSQL is asked over a Unix socket by pgbench, which is how it is used. All data lies below
//! cargo's target directory, on one file system, and is removed.

mod drive;
mod guard;
mod host;
mod postgres;
mod product;
mod report;
mod rocks;
mod work;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use tempfile::TempDir;

use crate::host::Host;
use crate::postgres::Postgres;
use crate::product::Product;
use crate::report::{Bout, Record, thousands};
use crate::rocks::{Locking, Optimistic, Rocks};
use crate::work::Workload;

#[derive(Parser)]
#[command(about = "Measures Crosslatch and others on the same work")]
struct Arguments {
    /// Accounts, each with funds in two assets
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(2..))]
    accounts: u64,
    /// Seed of every generator
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long each measurement lasts
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How often everything is measured, every other time in reverse order; medians are reported
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only these
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<System>,
    /// Also writes the results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum System {
    Crosslatch,
    /// RocksDB's OptimisticTransactionDB
    Optimistic,
    /// RocksDB's TransactionDB
    Locking,
    Postgres,
}

/// What each system has shown so far.
#[derive(Default)]
struct Systems {
    product: Product,
    optimistic: Rocks,
    locking: Rocks,
    postgres: Postgres,
}

impl Systems {
    fn round(&mut self, system: System, bout: &mut Bout<'_>) -> Result<()> {
        match system {
            System::Crosslatch => self.product.round(bout),
            System::Optimistic => self.optimistic.round::<Optimistic>(bout),
            System::Locking => self.locking.round::<Locking>(bout),
            System::Postgres => self.postgres.round(bout),
        }
    }
}

fn main() -> ExitCode {
    match compare(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> Result<()> {
    let workload =
        Workload { accounts: arguments.accounts, seed: arguments.seed, seconds: arguments.seconds };
    guard::watch()?;
    fs::create_dir_all(env!("CARGO_TARGET_TMPDIR"))?;
    let scratch = directory_in(Path::new(env!("CARGO_TARGET_TMPDIR")), "peers")?;
    let host = Host::describe(scratch.path());
    print_header(&workload, &host, arguments.rounds);

    let mut record = Record::default();
    measure(arguments, &workload, scratch.path(), &mut record)?;
    record.print();
    if let Some(path) = &arguments.json {
        record.save(&workload, &host, path)?;
    }
    record.check()
}

fn measure(
    arguments: &Arguments,
    workload: &Workload,
    scratch: &Path,
    record: &mut Record,
) -> Result<()> {
    let chosen = |it: &&System| arguments.only.is_empty() || arguments.only.contains(it);
    let mut order: Vec<System> = System::value_variants().iter().filter(chosen).copied().collect();
    let mut systems = Systems::default();
    for round in 1..=arguments.rounds {
        eprintln!("round {round} of {}", arguments.rounds);
        record.fsync.push(host::fsync_latency(scratch)?);
        for system in &order {
            let done = systems.round(*system, &mut Bout { workload, scratch, record });
            guard::check()?;
            if let Err(error) = done {
                record.miss(&format!("{system:?}"), &error);
            }
        }
        order.reverse();
    }
    record.fsync.push(host::fsync_latency(scratch)?);
    Ok(())
}

fn print_header(workload: &Workload, host: &Host, rounds: u32) {
    println!("One swap: two transfers between two accounts in two assets, both or neither;");
    println!("funds checked, fsync before the answer, no asset's total changed at the end.");
    println!(
        "{} accounts drawn uniformly, seed {}, {} s a measurement, median of {rounds} round(s)",
        thousands(workload.accounts as f64),
        workload.seed,
        workload.seconds,
    );
    println!("{}, {} cores, {} GiB, Linux {}", host.cpu, host.cores, host.memory_gib, host.kernel);
    println!("data on {}; load average at the start {}", host.file_system, host.load_average);
    println!("others: cores kept busy by others just before and after a measurement");
}

/// A new directory, which every user may pass through as PostgreSQL may have to run as another one.
fn directory_in(parent: &Path, name: &str) -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    let made = builder.permissions(Permissions::from_mode(0o755)).prefix(name).tempdir_in(parent);
    made.with_context(|| format!("cannot make a directory in {}", parent.display()))
}
