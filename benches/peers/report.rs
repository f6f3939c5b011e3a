//! What was measured, as it comes in and as the table and JSON that it ends in.
//!
//! Of several rounds the median stands for all: the whole run, so that its latencies belong to its
//! rate. A number whose sums were not found unchanged does not count, and says so.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::host::{Host, others_busy_cores};
use crate::product;
use crate::work::{Class, Latency, Run, Workload};

/// Beyond this many cores that others keep busy, numbers are not to be quoted.
const OTHERS_CORES_MAX: f64 = 0.2;

/// One measurement.
pub struct Entry {
    class: Class,
    system: String,
    /// What tells it from others of its system and class.
    how: String,
    run: Run,
    /// Cores that others kept busy just before and after: the mean.
    others: f64,
}

impl Entry {
    fn is_same_row(&self, other: &Self) -> bool {
        self.class == other.class && self.system == other.system && self.how == other.how
    }

    fn is_product(&self) -> bool {
        self.system == product::NAME
    }

    fn name(&self) -> String {
        if self.how.is_empty() {
            return self.system.clone();
        }
        format!("{}, {}", self.system, self.how)
    }
}

/// Everything known by now.
#[derive(Default)]
pub struct Record {
    entries: Vec<Entry>,
    /// What could not be measured, and why.
    missing: Vec<String>,
    /// Before each round, and at the end.
    pub fsync: Vec<Latency>,
}

/// What a system needs for its turn.
pub struct Bout<'a> {
    pub workload: &'a Workload,
    pub scratch: &'a Path,
    pub record: &'a mut Record,
}

impl Bout<'_> {
    /// A directory that is gone when the value is dropped; all of them are on one file system.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self, name: &str) -> Result<TempDir> {
        crate::directory_in(self.scratch, name)
    }

    /// Measures once. What fails is noted and does not keep the next from being measured.
    ///
    /// # Errors
    /// A signal came.
    pub fn run(
        &mut self,
        class: Class,
        system: &str,
        how: &str,
        run: impl FnOnce() -> Result<Run>,
    ) -> Result<()> {
        let before = others_busy_cores()?;
        let run = run();
        let others = f64::midpoint(before, others_busy_cores()?);
        let (system, how) = (system.to_owned(), how.to_owned());
        match run {
            Ok(run) => {
                let entry = Entry { class, system, how, run, others };
                let rate = thousands(entry.run.swaps_per_second);
                eprintln!("  {}: {}: {rate} swaps/s", class.title(), entry.name());
                self.record.entries.push(entry);
            }
            Err(error) => self.record.miss(&format!("{system}, {}", class.title()), &error),
        }
        Ok(())
    }
}

impl Record {
    /// Notes that something could not be measured, and says so at once.
    pub fn miss(&mut self, what: &str, error: &anyhow::Error) {
        let line = format!("{what}: {error:#}");
        eprintln!("  LEFT OUT {line}");
        if !self.missing.contains(&line) {
            self.missing.push(line);
        }
    }

    /// The median run of each row, in the order in which the rows first came.
    fn rows(&self) -> Vec<&Entry> {
        let mut rows: Vec<&Entry> = Vec::new();
        for entry in &self.entries {
            if rows.iter().any(|row| row.is_same_row(entry)) {
                continue;
            }
            let mut same: Vec<_> = self.entries.iter().filter(|it| it.is_same_row(entry)).collect();
            same.sort_by(|a, b| a.run.swaps_per_second.total_cmp(&b.run.swaps_per_second));
            rows.push(same[same.len() / 2]);
        }
        rows
    }

    /// # Errors
    /// A sum had changed in any run.
    pub fn check(&self) -> Result<()> {
        let wrong = self.entries.iter().find(|entry| entry.run.verified == Some(false));
        match wrong {
            Some(entry) => bail!("{}: value was created or lost", entry.name()),
            None => Ok(()),
        }
    }

    /// Prints the table, class by class.
    pub fn print(&self) {
        let rows = self.rows();
        let width = rows.iter().map(|row| row.name().len()).max().unwrap_or(0).max(34) + 2;
        for class in Class::ALL {
            if !rows.iter().any(|row| row.class == class) {
                continue;
            }
            println!();
            println!(
                "{:width$} {:>9} {:>9} {:>9} {:>7} {:>8} {:>6}  {:13}",
                class.title(),
                "swaps/s",
                "p50 ms",
                "p99 ms",
                "callers",
                "verified",
                "others",
                "Crosslatch is"
            );
            for row in rows.iter().filter(|row| row.class == class) {
                println!("{}", line(row, &rows, width));
            }
        }
        println!();
        if rows.iter().any(|row| row.others > OTHERS_CORES_MAX) {
            println!("OTHERS WERE BUSY during some measurements: take these numbers as too low");
        }
        for line in &self.missing {
            println!("LEFT OUT {line}");
        }
        for fsync in &self.fsync {
            let Latency { p50, p99 } = fsync;
            println!("4 KiB append + fdatasync: p50 {p50:.3} ms, p99 {p99:.3} ms");
        }
    }

    /// Everything, for programs.
    pub fn json(&self, workload: &Workload, host: &Host) -> Value {
        let rows = self.rows();
        let each = rows.iter().map(|row| {
            let ratios = ratios(row, &rows).into_iter().map(|(how, ratio)| (how, json!(ratio)));
            json!({
                "class": row.class, "system": row.system, "how": row.how,
                "swaps_per_second": row.run.swaps_per_second, "latency_ms": row.run.latency,
                "callers": row.run.callers, "verified": row.run.verified, "note": row.run.note,
                "others_busy_cores": row.others,
                "rounds": self.entries.iter().filter(|it| it.is_same_row(row))
                    .map(|it| it.run.swaps_per_second).collect::<Vec<_>>(),
                "crosslatch_ratio": ratios.collect::<serde_json::Map<_, _>>(),
            })
        });
        json!({
            "workload": workload, "environment": host, "fsync_ms": self.fsync,
            "rows": each.collect::<Vec<_>>(), "missing": self.missing,
        })
    }

    /// Writes [`Record::json`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, workload: &Workload, host: &Host, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.json(workload, host))?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())
    }
}

/// One line of the table.
fn line(row: &Entry, rows: &[&Entry], width: usize) -> String {
    let run = &row.run;
    let millis = |pick: fn(Latency) -> f64| {
        run.latency.map_or("-".into(), |latency| format!("{:.2}", pick(latency)))
    };
    let ratios = ratios(row, rows);
    let ratios: Vec<String> = ratios
        .iter()
        .map(|(how, ratio)| match how.as_str() {
            "" => format!("{ratio:.1}x"),
            _ => format!("{ratio:.1}x ({how})"),
        })
        .collect();
    let line = format!(
        "  {:below$} {:>9} {:>9} {:>9} {:>7} {:>8} {:>6.2}  {}",
        row.name(),
        thousands(run.swaps_per_second),
        millis(|it| it.p50),
        millis(|it| it.p99),
        run.callers,
        match run.verified {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        },
        row.others,
        [ratios.join(", "), run.note.clone()].join("  ").trim(),
        below = width - 2,
    );
    line.trim_end().to_owned()
}

/// How many times a row's rate Crosslatch reached in its class, by how it was asked.
fn ratios(row: &Entry, rows: &[&Entry]) -> Vec<(String, f64)> {
    let counts = |entry: &Entry| entry.run.verified == Some(true);
    if row.is_product() || !counts(row) || row.run.swaps_per_second <= 0.0 {
        return vec![];
    }
    let own = rows.iter().filter(|own| own.is_product() && own.class == row.class && counts(own));
    own.map(|own| {
        let ratio = own.run.swaps_per_second / row.run.swaps_per_second;
        (own.how.clone(), (ratio * 100.0).round() / 100.0)
    })
    .collect()
}

/// `1234567.8` as `1,234,568`.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
