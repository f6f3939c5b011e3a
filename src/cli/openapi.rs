//! `crosslatch openapi`: the OpenAPI document that the server answers at `/openapi.json`.

use std::io::{Write, stdout};
use std::process::ExitCode;

use crate::server;

/// Writes the document to standard output.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run() -> anyhow::Result<ExitCode> {
    let mut out = stdout().lock();
    writeln!(out, "{}", serde_json::to_string_pretty(&server::openapi())?)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
