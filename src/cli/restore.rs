//! `crosslatch restore`: a data directory from a backup.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::backup::tell;
use crate::store::backup;

/// `crosslatch restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup; it stays as it is.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The data directory to be: missing or empty.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where the archived journal is, if that was moved [default: as the backup remembers]
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command: status 0 when an engine can start on what was restored, 3 when the backup is
/// not what it was.
///
/// # Errors
/// None; the status tells.
pub fn run(args: RestoreArgs) -> anyhow::Result<ExitCode> {
    let restored = backup::restore_with_archive(&args.from, &args.data, args.archive.as_deref());
    Ok(tell("restored to", restored, args.json))
}
