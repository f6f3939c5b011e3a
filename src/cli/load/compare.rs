//! Is this run worse than that one? Two kept reports side by side, and a status that a script can use.
//!
//! A file holds one report (as `--json` writes it) or an array of reports of the same load. A figure
//! has regressed when it is worse by more than its noise, and by more than [`TOLERANCE`]:
//!
//! * of three or more runs, noise is three times the standard error of their median, estimated from
//!   the median absolute deviation (Rousseeuw and Croux 1993: 1.4826 × MAD estimates σ);
//! * of fewer, the same of the quarter seconds within the run, for what is known of them. A machine
//!   that is slower today than yesterday is not noise to that: compare several runs, taken in turns.

use std::fmt;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

/// What is not worse by more than this share is not called worse, however quiet it was.
const TOLERANCE: f64 = 0.05;
/// Standard errors beyond which a difference is not chance.
const ERRORS: f64 = 3.0;
/// Fewest runs that say by themselves how far runs differ.
const RUNS_MIN: usize = 3;

/// A figure of a report.
struct Figure {
    name: &'static str,
    /// Where it is.
    path: &'static str,
    /// Where it is in a sample of the series.
    sample: Option<&'static str>,
    more_is_better: bool,
}

const FIGURES: [Figure; 5] = [
    Figure {
        name: "settled per second",
        path: "/settled_per_second",
        sample: Some("settled_per_second"),
        more_is_better: true,
    },
    Figure {
        name: "drained per second",
        path: "/drained_per_second",
        sample: Some("settled_per_second"),
        more_is_better: true,
    },
    Figure {
        name: "latency p50, ms",
        path: "/latency_ms/p50",
        sample: Some("p50_ms"),
        more_is_better: false,
    },
    Figure {
        name: "latency p99, ms",
        path: "/latency_ms/p99",
        sample: Some("p99_ms"),
        more_is_better: false,
    },
    Figure {
        name: "cpu, µs a swap",
        path: "/cpu_seconds_per_million_swaps/total",
        sample: None,
        more_is_better: false,
    },
];

/// What must be the same for a comparison to mean anything.
const SETTINGS: [&str; 11] = [
    "mode",
    "durability",
    "batch",
    "clients",
    "accounts",
    "assets",
    "skew",
    "funds",
    "rate",
    "shards",
    "retries_max",
];

/// One figure of both.
#[derive(Clone, Debug)]
struct Row {
    name: &'static str,
    before: f64,
    after: f64,
    /// The share by which it may be worse.
    allowed: f64,
    more_is_better: bool,
}

impl Row {
    /// How much worse, as a share of what it was; negative is better.
    fn worse(&self) -> f64 {
        let grown = if self.before > 0.0 { self.after / self.before - 1.0 } else { 0.0 };
        if self.more_is_better { -grown } else { grown }
    }

    fn has_regressed(&self) -> bool {
        self.worse() > self.allowed
    }
}

/// Both reports, figure by figure.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    rows: Vec<Row>,
    /// What was sound before and is not now.
    unsound: Vec<String>,
}

impl Comparison {
    /// Reads two files and compares what is in them.
    ///
    /// # Errors
    /// A file is not there or holds no reports; or the two are of different loads.
    pub(super) fn of_files(before: &Path, after: &Path) -> anyhow::Result<Self> {
        Self::of(&read(before)?, &read(after)?)
    }

    fn of(before: &[Value], after: &[Value]) -> anyhow::Result<Self> {
        for setting in SETTINGS {
            let first = &before[0][setting];
            if let Some(other) = before.iter().chain(after).find(|it| it[setting] != *first) {
                let other = &other[setting];
                bail!("these are different loads: {setting} is {first} here and {other} there");
            }
        }
        let rows = FIGURES.iter().filter_map(|figure| row(figure, before, after)).collect();
        let is_unverified = |report: &&Value| report["verified"] == false;
        let unsound = after.iter().find(is_unverified).map(|_| "a run was not verified".to_owned());
        Ok(Self { rows, unsound: unsound.into_iter().collect() })
    }

    /// Whether nothing is worse.
    pub(super) fn is_good(&self) -> bool {
        self.unsound.is_empty() && !self.rows.iter().any(Row::has_regressed)
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path:?}"))?;
    let value = serde_json::from_str(&text).with_context(|| format!("{path:?} is not JSON"))?;
    let reports = match value {
        Value::Array(reports) => reports,
        report => vec![report],
    };
    if reports.is_empty() || !reports.iter().all(|it| it["settled_per_second"].is_number()) {
        bail!("{path:?} holds no report; write one with crosslatch load --json FILE");
    }
    Ok(reports)
}

fn row(figure: &Figure, before: &[Value], after: &[Value]) -> Option<Row> {
    let of = |reports: &[Value]| -> Option<(f64, f64)> {
        let values: Option<Vec<f64>> =
            reports.iter().map(|it| it.pointer(figure.path)?.as_f64()).collect();
        let values = values?;
        let error = if values.len() >= RUNS_MIN {
            relative_error(&values)
        } else {
            reports.iter().map(|it| within(figure, it)).fold(0.0, f64::max)
        };
        Some((median(&values), error))
    };
    let ((was, error_was), (is, error_is)) = (of(before)?, of(after)?);
    let error = error_was.hypot(error_is);
    Some(Row {
        name: figure.name,
        before: was,
        after: is,
        allowed: TOLERANCE.max(ERRORS * error),
        more_is_better: figure.more_is_better,
    })
}

/// How far the intervals of one run differ.
fn within(figure: &Figure, report: &Value) -> f64 {
    let Some(field) = figure.sample else { return 0.0 };
    let samples = report["series"].as_array().map_or(&[][..], Vec::as_slice);
    // It begins and ends somewhere within the first and the last.
    let inner = samples.get(1..samples.len().saturating_sub(1)).unwrap_or_default();
    let values: Vec<f64> = inner.iter().filter_map(|it| it[field].as_f64()).collect();
    if values.len() < RUNS_MIN { 0.0 } else { relative_error(&values) }
}

/// The standard error of the median, over the median.
fn relative_error(values: &[f64]) -> f64 {
    let middle = median(values);
    let deviations: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    let sigma = 1.4826 * median(&deviations);
    // Of a normal distribution, the median has 1.2533 times the standard error of the mean.
    let error = 1.2533 * sigma / (values.len() as f64).sqrt();
    if middle > 0.0 { error / middle } else { 0.0 }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20} {:>14} {:>14} {:>8} {:>9}", "", "before", "after", "ratio", "allowed")?;
        for row in &self.rows {
            let ratio = if row.before > 0.0 { row.after / row.before } else { 1.0 };
            let limit = if row.more_is_better { 1.0 - row.allowed } else { 1.0 + row.allowed };
            let sign = if row.more_is_better { '≥' } else { '≤' };
            let verdict = if row.has_regressed() { "  WORSE" } else { "" };
            writeln!(
                f,
                "{:<20} {:>14.3} {:>14.3} {ratio:>8.3} {sign:>4} {limit:.3}{verdict}",
                row.name, row.before, row.after,
            )?;
        }
        self.unsound.iter().try_for_each(|what| writeln!(f, "WORSE: {what}"))?;
        write!(f, "{}", if self.is_good() { "no regression" } else { "REGRESSION" })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(settled: f64, p99: f64) -> Value {
        json!({
            "mode": "swap", "batch": 4096, "settled_per_second": settled,
            "drained_per_second": settled * 0.95, "latency_ms": {"p50": 3.0, "p99": p99},
            "cpu_seconds_per_million_swaps": {"total": 1.5}, "verified": true, "series": [],
        })
    }

    fn compare(before: &[Value], after: &[Value]) -> Comparison {
        Comparison::of(before, after).expect("the same load")
    }

    #[test]
    fn a_little_slower_is_no_regression_and_much_slower_is_one() {
        let before = [report(1e6, 10.0)];
        assert!(compare(&before, &[report(0.96e6, 10.4)]).is_good());
        assert!(compare(&before, &[report(2e6, 1.0)]).is_good(), "better is not worse");
        let slower = compare(&before, &[report(0.9e6, 10.0)]);
        assert!(!slower.is_good());
        assert!(slower.to_string().contains("settled per second"), "{slower}");
        assert_eq!(slower.to_string().matches("WORSE").count(), 2, "settled and drained: {slower}");
        assert!(!compare(&before, &[report(1e6, 11.0)]).is_good(), "latency counts as well");
    }

    #[test]
    fn runs_that_differ_among_themselves_allow_for_more() {
        let runs = |rates: [f64; 5]| rates.map(|rate| report(rate * 1e6, 10.0));
        let noisy = runs([0.7, 0.9, 1.0, 1.1, 1.3]);
        assert!(compare(&noisy, &runs([0.68, 0.8, 0.9, 1.0, 1.2])).is_good());
        let quiet = runs([0.99, 1.0, 1.0, 1.0, 1.01]);
        assert!(!compare(&quiet, &runs([0.89, 0.9, 0.9, 0.9, 0.91])).is_good());
    }

    #[test]
    fn a_run_that_varies_within_itself_allows_for_more() {
        let varied = |swing: f64| {
            let mut report = report(1e6, 10.0);
            let sample = |n: i32| {
                let off = if n % 2 == 0 { swing } else { -swing };
                json!({"settled_per_second": 1e6 * (1.0 + off), "p50_ms": 3.0, "p99_ms": 10.0})
            };
            report["series"] = (0..18).map(sample).collect();
            report
        };
        let slower = [report(0.85e6, 10.0)];
        assert!(compare(&[varied(0.3)], &slower).is_good());
        assert!(!compare(&[varied(0.01)], &slower).is_good());
    }

    #[test]
    fn different_loads_and_unsound_runs_are_told() {
        let mut other = report(1e6, 10.0);
        other["batch"] = json!(1);
        let why = Comparison::of(&[report(1e6, 10.0)], &[other]).expect_err("another batch");
        assert!(why.to_string().contains("batch is 4096 here and 1 there"), "{why}");
        let mut unsound = report(1e6, 10.0);
        unsound["verified"] = json!(false);
        assert!(!compare(&[report(1e6, 10.0)], &[unsound]).is_good());
    }

    #[test]
    fn the_middle_of_few_is_exact() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-12);
        assert!(median(&[]).abs() < 1e-12);
    }
}
