//! The three ways to settle: `crosslatch swap`, `prepare` with `commit` and `rollback`, `transaction`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::types::RequestId;

use super::http::Method;
use super::words::{self, Members, members};
use super::{IdArgs, ServerArgs, given_or_fresh};

/// What moves, and by when.
#[derive(Debug, Args)]
struct LegsArgs {
    /// A movement, as 1:2:ETH:5 (in the asset's smallest unit); give 2 to 16.
    #[arg(long, required = true, value_name = "FROM:TO:ASSET:AMOUNT", value_parser = words::leg)]
    leg: Vec<Value>,
    /// Refused as `expired` after this time, as in 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    // In full: clap does not see whether a group is given that has others in it.
    /// The request id, to send the same again; a fresh one where none is given.
    #[arg(long, value_name = "UUID")]
    request_id: Option<RequestId>,
}

impl LegsArgs {
    fn body(&self) -> Members {
        members(json!({"legs": self.leg, "deadline": self.deadline}))
    }
}

/// `crosslatch swap`.
#[derive(Debug, Args)]
pub struct SwapArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    legs: LegsArgs,
}

/// `crosslatch prepare`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct PrepareArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    action: Option<PrepareAction>,
    #[command(flatten)]
    legs: Option<LegsArgs>,
    /// How long it stands [default: the server's]
    #[arg(long, value_name = "MS")]
    expires_in_ms: Option<u64>,
    /// Nobody else may take from the balances that it debits meanwhile.
    #[arg(long)]
    exclusive: bool,
}

#[derive(Debug, Subcommand)]
enum PrepareAction {
    /// Shows what became of a prepared swap.
    Show {
        /// Its token.
        token: RequestId,
    },
}

/// `crosslatch commit` and `crosslatch rollback`.
#[derive(Debug, Args)]
pub struct ResolveArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The token of the prepared swap.
    token: RequestId,
    #[command(flatten)]
    id: IdArgs,
}

/// `crosslatch transaction`.
#[derive(Debug, Args)]
pub struct TransactionArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// A key that was read, with the version that it had.
    #[arg(long, value_name = "KEY@VERSION", value_parser = words::read)]
    read: Vec<Value>,
    /// A balance that was read, with the version that it had.
    #[arg(long, value_name = "ACCOUNT:ASSET@VERSION", value_parser = words::read_balance)]
    read_balance: Vec<Value>,
    /// A value to be.
    #[arg(long, value_name = "KEY=VALUE", value_parser = words::write)]
    write: Vec<Value>,
    /// A key whose value is to go.
    #[arg(long, value_name = "KEY", value_parser = words::delete)]
    delete: Vec<Value>,
    /// A movement, as 1:2:ETH:5.
    #[arg(long, value_name = "FROM:TO:ASSET:AMOUNT", value_parser = words::leg)]
    transfer: Vec<Value>,
    /// Refused as `expired` after this time, as in 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    #[command(flatten)]
    id: IdArgs,
}

/// Runs `crosslatch swap`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn swap(args: SwapArgs) -> anyhow::Result<ExitCode> {
    let SwapArgs { server, legs } = args;
    server.change(Method::Post, "/v1/swaps", given_or_fresh(legs.request_id), legs.body())
}

/// Runs `crosslatch prepare`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn prepare(args: PrepareArgs) -> anyhow::Result<ExitCode> {
    let PrepareArgs { server, action, legs, expires_in_ms, exclusive } = args;
    if let Some(PrepareAction::Show { token }) = action {
        return server.get(&format!("/v1/prepared/{token}"));
    }
    let legs = legs.expect("clap asks for them where there is no subcommand");
    let mut body = legs.body();
    body.insert("expires_in_ms".into(), expires_in_ms.into());
    body.insert("exclusive".into(), exclusive.into());
    server.change(Method::Post, "/v1/prepared", given_or_fresh(legs.request_id), body)
}

/// Runs `crosslatch commit`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn commit(args: ResolveArgs) -> anyhow::Result<ExitCode> {
    resolve(args, "commit")
}

/// Runs `crosslatch rollback`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn rollback(args: ResolveArgs) -> anyhow::Result<ExitCode> {
    resolve(args, "rollback")
}

fn resolve(args: ResolveArgs, how: &str) -> anyhow::Result<ExitCode> {
    let ResolveArgs { server, token, id } = args;
    let path = format!("/v1/prepared/{token}/{how}");
    server.change(Method::Post, &path, id.id(), Members::new())
}

/// Runs `crosslatch transaction`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn transaction(args: TransactionArgs) -> anyhow::Result<ExitCode> {
    let TransactionArgs { server, read, read_balance, write, delete, transfer, deadline, id } =
        args;
    let (reads, writes) = ([read, read_balance].concat(), [write, delete].concat());
    let body = json!({
        "reads": reads, "writes": writes, "transfers": transfer, "deadline": deadline
    });
    server.change(Method::Post, "/v1/transactions", id.id(), members(body))
}
