//! `crosslatch status`: whether a server can be given work. Made for health checks.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Args;

use super::http::{self, Call};
use super::{FAILED, ServerArgs, show, unreachable};

/// The exit status of a server that answers and is not ready.
const CHECK_FAILED: u8 = 3;

/// `crosslatch status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command: status 0 when the server is ready, 3 while it recovers or stops, 4 when it is not
/// there.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn status(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let ServerArgs { url, access, json } = args.server;
    let answer = match http::send(&url, &access, &Call::get("/readyz")) {
        Ok(answer) => answer,
        Err(unanswered) => {
            eprintln!("crosslatch: {unanswered}\n{}", unreachable(&url));
            return Ok(ExitCode::from(FAILED));
        }
    };
    let mut out = stdout().lock();
    if json {
        writeln!(out, "{}", answer.text.trim_end())?;
    } else if answer.is_done {
        show::answer(&answer.body, &mut out)?;
    }
    out.flush()?;
    if answer.is_done {
        return Ok(ExitCode::SUCCESS);
    }
    let detail = answer.body["detail"].as_str().unwrap_or_default();
    eprintln!("crosslatch: not ready: {detail}");
    Ok(ExitCode::from(CHECK_FAILED))
}
