//! Crosslatch itself: the built binary's own load generator, as anybody would run it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::guard;
use crate::report::Bout;
use crate::work::{ASSETS, Callers, Class, Latency, Run, Workload};

/// What the report calls it.
pub const NAME: &str = "Crosslatch";

/// Its check of the result may take this long beyond the time measured.
const VERIFY_TIME_MAX: Duration = Duration::from_secs(300);

/// How many clients help its batches.
#[derive(Default)]
pub struct Product {
    batched: Callers,
}

impl Product {
    /// Measures all classes, each on a fresh data directory.
    ///
    /// # Errors
    /// A directory cannot be made, or a signal came.
    pub fn round(&mut self, bout: &mut Bout<'_>) -> Result<()> {
        let directory = bout.directory("crosslatch")?;
        let bench = Bench { scratch: directory.path(), workload: bout.workload };
        let trial = bout.workload.trial_time();
        let clients = self.batched.best_of(&[1, 2, 4, 8], |clients| {
            Ok(bench.load(4_096, clients, trial, false)?.swaps_per_second)
        })?;
        let mut run = |class, how, batch, clients| {
            let time = bout.workload.time();
            bout.run(class, NAME, how, || bench.load(batch, clients, time, true))
        };
        run(Class::Batched, "1,000 a batch", 1_000, clients)?;
        run(Class::Batched, "4,096 a batch", 4_096, clients)?;
        run(Class::OneAtATime, "", 1, 1)?;
        run(Class::ManyCallers, "", 1, 64)
    }
}

struct Bench<'a> {
    scratch: &'a Path,
    workload: &'a Workload,
}

impl Bench<'_> {
    fn load(&self, batch: usize, clients: usize, time: Duration, verify: bool) -> Result<Run> {
        let data = self.scratch.join("data");
        let report = self.scratch.join("report.json");
        let mut load = Command::new(env!("CARGO_BIN_EXE_crosslatch"));
        load.args(["load", "--mode", "swap", "--skew", "uniform", "--funds", "ample"]);
        load.args(["--shards", "2", "--durability", "sync"]);
        let options = [
            ("--accounts", self.workload.accounts.to_string()),
            ("--assets", ASSETS.to_string()),
            ("--seed", self.workload.seed.to_string()),
            ("--duration", format!("{}s", time.as_secs())),
            ("--batch", batch.to_string()),
            ("--clients", clients.to_string()),
        ];
        load.args(options.iter().flat_map(|(name, value)| [*name, value.as_str()]));
        load.arg("--data").arg(&data).arg("--json").arg(&report);
        if verify {
            load.arg("--verify");
        }
        let ended = guard::run(&mut load, self.scratch, time + VERIFY_TIME_MAX);
        let text =
            ended.and_then(|_| fs::read(&report).context("`crosslatch load` left no report"));
        fs::remove_dir_all(&data).ok();
        fs::remove_file(&report).ok();
        read_report(&text?, clients)
    }
}

fn read_report(json: &[u8], clients: usize) -> Result<Run> {
    let report: Value = serde_json::from_slice(json).context("the report of `crosslatch load`")?;
    let number = |path: &str| {
        let value = report.pointer(path).and_then(Value::as_f64);
        value.with_context(|| format!("the report of `crosslatch load` has no number {path}"))
    };
    Ok(Run {
        swaps_per_second: number("/settled_per_second")?,
        latency: Some(Latency { p50: number("/latency_ms/p50")?, p99: number("/latency_ms/p99")? }),
        callers: clients,
        verified: report.get("verified").and_then(Value::as_bool),
        note: String::new(),
    })
}
