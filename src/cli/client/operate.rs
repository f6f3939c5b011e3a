//! `crosslatch operate`: what the venue takes, and the switch for it.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::types::Operation;

use super::http::Method;
use super::words::members;
use super::{IdArgs, ServerArgs};

/// `crosslatch operate`.
#[derive(Debug, Args)]
pub struct OperateArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// What it takes from now on: normal, cancel_only, withdraw_only or halted; shows it where none is
    /// given.
    state: Option<Operation>,
    #[command(flatten)]
    id: IdArgs,
}

/// Runs `crosslatch operate`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn operate(args: OperateArgs) -> anyhow::Result<ExitCode> {
    const PATH: &str = "/v1/operate";
    let OperateArgs { server, state, id } = args;
    match state {
        None => server.get(PATH),
        Some(state) => {
            let body = members(json!({"state": state.name()}));
            server.change(Method::Post, PATH, id.id(), body)
        }
    }
}
