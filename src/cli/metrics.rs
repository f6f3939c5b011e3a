//! `crosslatch metrics list`: every metric of the server, and what each one tells.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::metrics::{METRICS, Metric, Values};

/// `crosslatch metrics`.
#[derive(Debug, Args)]
pub struct MetricsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists every metric with its kind, labels and meaning.
    List {
        /// Prints one JSON array.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(args: MetricsArgs) -> anyhow::Result<ExitCode> {
    let Command::List { json } = args.command;
    let mut out = stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(METRICS)?)?;
    } else {
        for metric in METRICS {
            write_text(metric, &mut out)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The name and kind, then the meaning, then each label with its values.
fn write_text(metric: &Metric, out: &mut impl Write) -> std::io::Result<()> {
    let Metric { name, kind, unit, labels, help, .. } = metric;
    writeln!(out, "{name} ({kind}, {unit})\n    {help}")?;
    for label in *labels {
        match label.values {
            Values::Listed(values) => writeln!(out, "    {}: {}", label.name, values.join(", "))?,
            Values::Open { meaning, .. } => writeln!(out, "    {}: {meaning}", label.name)?,
        }
    }
    Ok(())
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
    }
}
