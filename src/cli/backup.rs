//! `crosslatch backup`: a proven copy of a data directory, by the server that runs on it or at rest.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::client;
use crate::store::StoreError;
use crate::store::backup::{self, Archived, BackupError, BackupReport};

/// `crosslatch backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The data directory; no engine may have it open.
    #[arg(long, value_name = "DIR", required_unless_present = "url", conflicts_with = "url")]
    data: Option<PathBuf>,
    /// The server that runs on it; then the backup goes to the server's file system.
    #[arg(long, value_name = "URL", value_parser = client::backup::url)]
    url: Option<String>,
    #[command(flatten)]
    access: client::target::AccessArgs,
    /// Where to: a directory that is missing or empty.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// The exit status for a directory that cannot be used.
const BAD_USAGE: u8 = 2;
/// The exit status for a copy or a source that is not what it should be.
const CHECK_FAILED: u8 = 3;
/// The exit status for a store that cannot be read or written.
const FAILED: u8 = 4;

/// Runs the command: status 0 when the copy is proven, 3 when it failed its check.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(args: BackupArgs) -> anyhow::Result<ExitCode> {
    if let Some(url) = args.url {
        return client::backup::run(&url, &args.access, &args.to, args.json);
    }
    let data = args.data.expect("required unless --url is given");
    let made = backup::offline(&data, &args.to);
    Ok(tell("backup in", made, args.json))
}

/// Shows what came of a backup or a restore, and says with what status to exit. `what` stands before
/// the directory.
pub(super) fn tell(what: &str, made: Result<BackupReport, BackupError>, as_json: bool) -> ExitCode {
    let BackupReport { to, end, bytes, archived, .. } = match made {
        Ok(report) => report,
        Err(error) => {
            if as_json {
                println!("{}", json!({"verified": false, "why": error.to_string()}));
            }
            eprintln!("crosslatch: {error}");
            return ExitCode::from(status_of(&error));
        }
    };
    if as_json {
        let (seq, block) = (end.seq.to_string(), end.block.to_string());
        let mut report =
            json!({"to": to, "seq": seq, "block": block, "bytes": bytes, "verified": true});
        if let Some(Archived { upto, directory }) = archived {
            report["archive"] = json!({"upto_block": upto.to_string(), "directory": directory});
        }
        println!("{report}");
    } else {
        println!("{what} {}: up to {end}, {bytes} bytes, verified", to.display());
        if let Some(Archived { upto, directory }) = archived {
            let directory = directory.display();
            println!(
                "blocks 1 to {upto} of its journal are in {directory}: keep a copy of that too"
            );
        }
    }
    ExitCode::SUCCESS
}

fn status_of(error: &BackupError) -> u8 {
    match error {
        BackupError::Refused { .. } => BAD_USAGE,
        BackupError::Damaged(_)
        | BackupError::Audit(_)
        | BackupError::Store(
            StoreError::Damaged(_) | StoreError::Violation(_) | StoreError::Archive(_),
        ) => CHECK_FAILED,
        BackupError::Store(_) => FAILED,
    }
}
