//! Where is the knee? The same load at rising rates, each step a process and an engine of its own.
//!
//! ```text
//! closed loop ─► peak ─► 10 % of it ─► 25 % ─► ... ─► 100 %, open loop each ─► table, knee
//! ```
//!
//! A closed loop says how much goes through and hides what waiting costs: callers wait before they
//! send. An open loop does not wait, so its latency is what a caller has who comes when he likes
//! (Schroeder, Wierman and Harchol-Balter, "Open Versus Closed: A Cautionary Tale", 2006).
//! A step is a `crosslatch load` with the same flags and a rate, so anybody can run it again alone.

use std::ffi::OsString;
use std::fmt;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::Value;

use super::report::grouped;

/// Shares of the peak at which the load runs, in percent.
const STEPS_PERCENT: [u32; 9] = [10, 25, 50, 60, 70, 80, 90, 95, 100];
/// How long a step takes unless `--duration` says so.
const STEP_DURATION_DEFAULT: &str = "5s";
/// A rate is kept up with if that share of it is settled.
const KEPT_UP: f64 = 0.98;
/// Before the knee, p99 is at most so many times that of the lightest step.
const KNEE_P99_RATIO: f64 = 3.0;

/// What the sweep found.
#[derive(Debug, Serialize)]
pub(super) struct Sweep {
    /// Settled per second in a closed loop.
    peak_per_second: f64,
    /// The rate at the knee; `null` if not even the lightest step was kept up with.
    knee_per_second: Option<f64>,
    /// The report of the closed loop, and then of every step.
    reports: Vec<Value>,
}

/// One line of the table.
struct Step {
    rate: f64,
    settled: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Step {
    fn of(report: &Value) -> Self {
        let of = |path| report.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
        Self {
            rate: of("/rate"),
            settled: of("/settled_per_second"),
            p50: of("/latency_ms/p50"),
            p99: of("/latency_ms/p99"),
            p999: of("/latency_ms/p999"),
            max: of("/latency_ms/max"),
        }
    }

    fn keeps_up(&self) -> bool {
        self.settled >= KEPT_UP * self.rate
    }
}

impl Sweep {
    /// Runs the closed loop and all steps: this program, with these arguments but for the rate.
    ///
    /// # Errors
    /// A step failed, or one of its checks did.
    pub(super) fn run(has_duration: bool) -> anyhow::Result<Self> {
        let flags: Vec<OsString> =
            std::env::args_os().skip(1).filter(|it| it != "--sweep").collect();
        let closed = run_step(&flags, None, has_duration)?;
        let peak = closed["settled_per_second"].as_f64().context("a report has a rate")?;
        eprintln!("closed loop: {}/s", grouped(peak as u64));
        let mut reports = vec![closed];
        for percent in STEPS_PERCENT {
            let rate = (peak * f64::from(percent) / 100.0).max(1.0).floor();
            let report = run_step(&flags, Some(rate), has_duration)?;
            let step = Step::of(&report);
            eprintln!("{percent:>3} %: {}/s, p99 {:.3} ms", grouped(rate as u64), step.p99);
            reports.push(report);
        }
        Ok(Self::new(peak, reports))
    }

    fn new(peak: f64, reports: Vec<Value>) -> Self {
        let steps: Vec<Step> = reports.iter().skip(1).map(Step::of).collect();
        let knee_per_second = steps.first().and_then(|lightest| {
            let before_knee =
                |step: &&Step| step.keeps_up() && step.p99 <= KNEE_P99_RATIO * lightest.p99;
            steps.iter().take_while(before_knee).last().map(|step| step.rate)
        });
        Self { peak_per_second: peak, knee_per_second, reports }
    }
}

/// Runs one load to its end and returns its report.
fn run_step(flags: &[OsString], rate: Option<f64>, has_duration: bool) -> anyhow::Result<Value> {
    let program = std::env::current_exe().context("this program has no name")?;
    let mut command = Command::new(program);
    // Of a flag that is given twice, the last one counts.
    command.args(flags).arg("--json").arg("-");
    if !has_duration {
        command.args(["--duration", STEP_DURATION_DEFAULT]);
    }
    if let Some(rate) = rate {
        command.args(["--rate", &rate.to_string()]);
    }
    let ran = command.stdin(Stdio::null()).output().context("cannot run a step")?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        bail!("a step ended with {}:\n{}", ran.status, said.trim_end());
    }
    serde_json::from_slice(&ran.stdout).context("a step printed no report")
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "closed loop  {} settled/s\n", grouped(self.peak_per_second as u64))?;
        writeln!(
            f,
            "{:>12} {:>12} {:>10} {:>10} {:>10} {:>10}",
            "rate/s", "settled/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms"
        )?;
        for step in self.reports.iter().skip(1).map(Step::of) {
            let Step { rate, settled, p50, p99, p999, max } = step;
            let [rate, settled] = [rate, settled].map(|it| grouped(it as u64));
            let mark = if step.keeps_up() { "" } else { "  falls behind" };
            writeln!(
                f,
                "{rate:>12} {settled:>12} {p50:>10.3} {p99:>10.3} {p999:>10.3} {max:>10.3}{mark}"
            )?;
        }
        match self.knee_per_second {
            Some(knee) => write!(
                f,
                "\nknee         {}/s: up to there each rate is kept up with, at a p99 of at most {} times the lightest's",
                grouped(knee as u64),
                KNEE_P99_RATIO
            ),
            None => write!(f, "\nknee         none: not even the lightest rate is kept up with"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(rate: f64, settled: f64, p99: f64) -> Value {
        json!({
            "rate": rate, "settled_per_second": settled,
            "latency_ms": {"p50": p99 / 2.0, "p99": p99, "p999": p99, "max": p99},
        })
    }

    fn knee(steps: &[(f64, f64, f64)]) -> Option<f64> {
        let steps = steps.iter().map(|&(rate, settled, p99)| report(rate, settled, p99));
        let reports = std::iter::once(Value::Null).chain(steps).collect();
        Sweep::new(100.0, reports).knee_per_second
    }

    #[test]
    fn the_knee_is_the_last_rate_before_it_gets_worse() {
        assert_eq!(knee(&[(10.0, 10.0, 2.0), (50.0, 50.0, 5.0), (90.0, 90.0, 6.5)]), Some(50.0));
        // What is kept up with again behind it was luck.
        assert_eq!(knee(&[(10.0, 10.0, 2.0), (50.0, 40.0, 2.0), (90.0, 90.0, 2.0)]), Some(10.0));
        assert_eq!(knee(&[(10.0, 9.9, 2.0), (50.0, 49.5, 6.0)]), Some(50.0));
        assert_eq!(knee(&[(10.0, 5.0, 2.0)]), None);
        assert_eq!(knee(&[]), None);
    }

    #[test]
    fn the_table_says_where_it_falls_behind() {
        let reports = vec![Value::Null, report(1e6, 1e6, 2.0), report(2e6, 1.5e6, 90.0)];
        let text = Sweep::new(2e6, reports).to_string();
        assert!(text.contains("1,500,000") && text.contains("90.000  falls behind"), "{text}");
        assert!(text.contains("knee         1,000,000/s"), "{text}");
    }
}
