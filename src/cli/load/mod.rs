//! `crosslatch load`: swaps from many callers to an engine in this process, or to a server, and a report.
//!
//! ```text
//! set up ─► look ─► clients send ─► last answer ─► drain ─► look ─► check ─► report
//!           │         the clock runs     │ settled/s   │ drained/s
//!           └─ metrics, CPU by thread, disk ───────────┘
//! ```
//!
//! The same swaps can be settled in three ways, to compare: as swaps, in two phases, or by optimistic
//! transactions. Or orders are sent, amended and canceled in some markets.
//! The generator takes its share of the same cores, so the figures are those of the whole.
//! What is claimed is checked: with `--funds tight` every refusal is read back as of its seq,
//! with ample funds there may be none; no hold may be left open, and `--verify` opens the data
//! again and compares.

mod alarm;
mod args;
mod callers;
mod compare;
mod cpu;
mod environment;
mod flow;
mod http;
mod page;
mod probe;
mod progress;
mod reach;
mod reading;
mod refusals;
mod remote;
mod report;
mod runner;
mod series;
mod setup;
mod sidecar;
mod sweep;
mod tally;
mod target;
mod turns;
mod verify;
mod workload;

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;

pub(in crate::cli) use args::parse_duration;
pub use args::{Funds, LoadArgs, Mode, Skew};

use crate::clock::{Clock, SystemClock};
use crate::engine::{Engine, Options};
use crate::metrics::{self, Exporter};
use crate::types::RequestId;

use alarm::Alarm;
use compare::Comparison;
use cpu::CpuTimes;
use environment::{Environment, disk_bytes, written_bytes};
use progress::Progress;
use reach::Reach;
use reading::Reading;
use report::{Measured, Report, grouped};
use runner::{Load, Ran};
use series::Series;
use sidecar::Sidecar;
use sweep::Sweep;
use target::Target;
use verify::{BeforeLoad, WasTold};
use workload::Workload;

/// Exit status of bad usage.
const USAGE: u8 = 2;
/// Exit status of a check that failed.
const CHECK_FAILED: u8 = 3;

/// Runs a load and reports it. The status is 0, 2 for flags that do not go together, or 3 when a
/// check failed.
///
/// # Errors
/// The engine or the disk failed: there is nothing to report.
pub fn run(args: LoadArgs) -> anyhow::Result<ExitCode> {
    if let Some([before, after]) = args.compare.as_deref() {
        let comparison = Comparison::of_files(before, after)?;
        println!("{comparison}");
        return Ok(ExitCode::from(if comparison.is_good() { 0 } else { CHECK_FAILED }));
    }
    if let Err(why) = args.check() {
        eprintln!("error: {why}");
        return Ok(ExitCode::from(USAGE));
    }
    if args.sweep {
        let sweep = Sweep::run(args.duration.is_some())?;
        return print(&sweep, args.json.as_deref()).map(|()| ExitCode::SUCCESS);
    }
    let report = match args.url.as_deref().map(|url| Reach::of(url, &args.access)).transpose() {
        Ok(None) => load(&args, &Data::of(&args)?)?,
        Ok(Some(reach)) => remote::load(&args, &reach)?,
        Err(why) => {
            eprintln!("error: --url: {why}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    print(&report, args.json.as_deref())?;
    if let Some(path) = &args.report {
        let page = page::page(&serde_json::to_value(&report)?);
        std::fs::write(path, page).with_context(|| format!("cannot write {path:?}"))?;
        eprintln!("the page is {}", path.display());
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) })
}

/// Prints what was found for people, and as JSON where it was asked for: to a file, or for `-` to
/// standard output.
fn print(found: &(impl Display + Serialize), json: Option<&Path>) -> anyhow::Result<()> {
    match json {
        Some(path) if path.as_os_str() == "-" => {
            eprintln!("\n{found}");
            println!("{}", serde_json::to_string_pretty(found)?);
        }
        Some(path) => {
            println!("\n{found}");
            let json = serde_json::to_string_pretty(found)?;
            std::fs::write(path, json + "\n").with_context(|| format!("cannot write {path:?}"))?;
        }
        None => println!("\n{found}"),
    }
    std::io::stdout().flush().map_err(Into::into)
}

/// Where the engine keeps its data; a temporary directory is removed when this is dropped.
struct Data {
    path: PathBuf,
    temporary: bool,
}

impl Data {
    fn of(args: &LoadArgs) -> anyhow::Result<Self> {
        if let Some(path) = &args.data {
            return Ok(Self { path: path.clone(), temporary: false });
        }
        // Here and not in /tmp, which may be memory: a sync there costs nothing.
        let name = format!("crosslatch-load.{}", std::process::id());
        let path = std::env::current_dir().context("no current directory")?.join(name);
        Ok(Self { path, temporary: true })
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        if self.temporary {
            // What cannot be removed is in nobody's way, and its name says where it is from.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn load(args: &LoadArgs, data: &Data) -> anyhow::Result<Report> {
    let exporter = metrics::install()?;
    let options =
        Options { limits: args.limits(), durability: args.durability, ..Options::new(&data.path) };
    let engine = Engine::start(options.clone())?;
    let environment = Environment::of(&data.path);
    let stop = Arc::new(Alarm::new());
    let (_sidecar, listens_on) = Sidecar::start(Arc::clone(&stop), exporter.clone(), args.metrics)?;
    if let Some(address) = listens_on {
        eprintln!("metrics at http://{address}/metrics");
    }
    let workload = Workload::new(args);
    set_up(args, &engine, &workload, &stop)?;
    let before_load = BeforeLoad::look(&engine)?;
    let run = Run { args, engine: &engine, exporter: &exporter, stop: &stop, data: &data.path };
    let (mut report, ran) = run.measure(&workload, environment)?;
    if let Some(unexpected) = &ran.tally.unexpected {
        eprintln!("refused, and should not be: {unexpected}");
    }
    let told = WasTold { commits: ran.tally.commits, answers: ran.tally.told };
    if args.funds == Funds::Tight {
        eprintln!("checking refusals");
        report.add_refusals(refusals::check(&engine, ran.tally.refusals)?);
    }
    if args.verify {
        eprintln!("verifying: stop, open again, compare");
        report.add_verdict(verify::verify(engine, &options, &workload, &before_load, told)?);
    } else {
        engine.stop()?;
    }
    Ok(report)
}

fn set_up(
    args: &LoadArgs,
    engine: &Engine,
    workload: &Workload,
    stop: &Alarm,
) -> anyhow::Result<()> {
    let began = SystemClock.boot_nanos();
    let accounts = grouped(args.accounts);
    eprintln!("setting up {accounts} accounts with {} assets, seed {}", args.assets(), args.seed);
    setup::run(engine, workload, args.assets(), stop)?;
    // The load does not have to pay for what the set-up left to fold.
    engine.drain()?;
    eprintln!("set up in {:.1} s", (SystemClock.boot_nanos() - began) as f64 / 1e9);
    Ok(())
}

/// One load on an engine that is set up.
struct Run<'a> {
    args: &'a LoadArgs,
    engine: &'a Engine,
    exporter: &'a Exporter,
    stop: &'a Arc<Alarm>,
    data: &'a Path,
}

impl Run<'_> {
    fn measure(
        &self,
        workload: &Arc<Workload>,
        environment: Environment,
    ) -> anyhow::Result<(Report, Ran)> {
        let Self { args, engine, exporter, stop, data } = *self;
        // What one caller waits for is the disk, so the disk is measured beside it.
        let probe = || if args.batch == 1 { probe::run(data).map(Some) } else { Ok(None) };
        let probe_before = probe()?;
        let disk_before = [disk_bytes(data), written_bytes()];
        let metrics_before = Reading::take(exporter);
        let cpu_before = CpuTimes::now();
        let began = SystemClock.boot_nanos();
        let progress = Progress { engine: Some(engine), exporter, before: &metrics_before };
        let target = Target::Engine(engine.clone());
        let load = Load { args, target: &target, workload, stop };
        let mut series = Series::new();
        let ran = load.run(|shared, done| progress.show(shared, done, &mut series))?;
        engine.drain()?;
        let drained_seconds = (SystemClock.boot_nanos() - began) as f64 / 1e9;
        let mut cpu = CpuTimes::now().since(&cpu_before);
        cpu.add("load-clients", ran.generator_cpu);
        let holds_open = self.holds_open(&metrics_before)?;
        let metrics = Reading::take(exporter).since(&metrics_before);
        let disk_after = [disk_bytes(data), written_bytes()];
        let probes = probe_before.zip(probe()?).map(|(before, after)| [before, after]);
        let measured = Measured {
            args,
            ran: &ran,
            series: series.into_samples(),
            drained_seconds,
            metrics: &metrics,
            holds_open,
            cpu: &cpu,
            disk_bytes: [0, 1].map(|it| disk_after[it] as f64 - disk_before[it] as f64),
            probes,
            environment,
        };
        Ok((Report::new(measured), ran))
    }

    /// Holds that are open now, more than there were before.
    fn holds_open(&self, before: &Reading) -> anyhow::Result<i64> {
        // The coordinator counts holds right after it sends a decision. Once it has answered
        // something else, it has counted.
        self.engine.known(RequestId::default())?;
        Ok(Reading::take(self.exporter).since(before).sum("crosslatch_holds", "") as i64)
    }
}
