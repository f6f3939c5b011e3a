//! `crosslatch metrics list`: every metric of the server, and what each one tells.

use std::io::{self, Write, stdout};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::metrics::{Label, METRICS, Metric, Values};

/// `crosslatch metrics`.
#[derive(Debug, Args)]
pub struct MetricsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists every metric with its kind, unit, labels, number of series and meaning.
    List {
        /// Prints one JSON array.
        #[arg(long)]
        json: bool,
        /// Prints a table in Markdown, as the README has it.
        #[arg(long, conflicts_with = "json")]
        markdown: bool,
    },
}

/// A metric with what follows from it.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    metric: Metric,
    /// How many series it has, in words.
    cardinality: String,
    /// Most series that a server may have of it.
    series_max: usize,
}

/// Runs the command.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(args: MetricsArgs) -> anyhow::Result<ExitCode> {
    let Command::List { json, markdown } = args.command;
    let mut out = stdout().lock();
    if json {
        let listed = |metric: &Metric| Listed {
            metric: *metric,
            cardinality: metric.cardinality(),
            series_max: metric.series_max(),
        };
        let all: Vec<Listed> = METRICS.iter().map(listed).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else if markdown {
        write_table(&mut out)?;
    } else {
        for metric in METRICS {
            write_text(metric, &mut out)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The name, kind and number of series, then the meaning, then each label with its values.
fn write_text(metric: &Metric, out: &mut impl Write) -> io::Result<()> {
    let Metric { name, kind, unit, labels, help, .. } = metric;
    writeln!(out, "{name} ({kind}, {unit}; series: {})\n    {help}", metric.cardinality())?;
    for label in *labels {
        writeln!(out, "    {}: {}", label.name, values(label))?;
    }
    Ok(())
}

/// A row a metric.
fn write_table(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "| metric | kind | labels | series | meaning |\n|---|---|---|---|---|")?;
    for metric in METRICS {
        let Metric { name, kind, labels, help, .. } = metric;
        let labels = labels.iter().map(|label| format!("`{}`", label.name));
        let labels = labels.collect::<Vec<_>>().join(", ");
        writeln!(out, "| `{name}` | {kind} | {labels} | {} | {help} |", metric.cardinality())?;
    }
    Ok(())
}

/// What a label's values are.
fn values(label: &Label) -> String {
    match label.values {
        Values::Listed(values) => values.join(", "),
        Values::Open { meaning, max: 1 } => meaning.to_owned(),
        Values::Open { meaning, max } => format!("{meaning} (at most {max})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_listed_with_its_meaning() {
        let mut out = Vec::new();
        for metric in METRICS {
            write_text(metric, &mut out).expect("memory takes everything");
        }
        let text = String::from_utf8(out).expect("text");
        assert!(
            METRICS.iter().all(|metric| text.contains(metric.name) && text.contains(metric.help))
        );
        assert!(text.contains("outcome: settled, rejected, failed"), "{text}");
        assert!(text.contains("market: the name of a market (at most 4096)"), "{text}");
        assert!(text.contains("(histogram, seconds; series: 24)"), "{text}");
    }
}
