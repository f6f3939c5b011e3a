//! `crosslatch deposit` and `crosslatch withdraw`: value enters; value leaves in two phases.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::types::{Amount, RequestId};

use super::http::Method;
use super::words::{self, Members, members};
use super::{IdArgs, ServerArgs, given_or_fresh};

/// Whose, of what, how much.
#[derive(Debug, Args)]
struct TransferArgs {
    /// The account.
    #[arg(value_parser = words::account)]
    account: u64,
    /// The asset's name.
    asset: String,
    /// How much, in the asset's smallest unit.
    amount: Amount,
    /// The outside world's name for it, as a transaction hash.
    #[arg(long, value_name = "TEXT")]
    reference: Option<String>,
    // In full: clap does not see whether a group is given that has others in it.
    /// The request id, to send the same again; a fresh one where none is given.
    #[arg(long, value_name = "UUID")]
    request_id: Option<RequestId>,
}

impl TransferArgs {
    fn body(&self) -> Members {
        let Self { account, asset, amount, reference, request_id: _ } = self;
        members(json!({
            "account": account, "asset": asset, "amount": amount, "reference": reference
        }))
    }
}

/// `crosslatch deposit`.
#[derive(Debug, Args)]
pub struct DepositArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    transfer: TransferArgs,
}

/// `crosslatch withdraw`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct WithdrawArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    action: Option<WithdrawAction>,
    #[command(flatten)]
    transfer: Option<TransferArgs>,
}

#[derive(Debug, Subcommand)]
enum WithdrawAction {
    /// The chain took it: the amount is gone.
    Confirm(ResolveArgs),
    /// The chain did not: the amount is available again.
    Cancel(ResolveArgs),
    /// Shows what became of a withdrawal.
    Show {
        /// The withdrawal's id: that of the request which made it.
        withdrawal: RequestId,
    },
}

#[derive(Debug, Args)]
struct ResolveArgs {
    /// The withdrawal's id: that of the request which made it.
    withdrawal: RequestId,
    #[command(flatten)]
    id: IdArgs,
}

/// Runs `crosslatch deposit`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn deposit(args: DepositArgs) -> anyhow::Result<ExitCode> {
    let DepositArgs { server, transfer } = args;
    server.change(
        Method::Post,
        "/v1/deposits",
        given_or_fresh(transfer.request_id),
        transfer.body(),
    )
}

/// Runs `crosslatch withdraw`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn withdraw(args: WithdrawArgs) -> anyhow::Result<ExitCode> {
    let server = args.server;
    let resolve = |ResolveArgs { withdrawal, id }, how| {
        let path = format!("/v1/withdrawals/{withdrawal}/{how}");
        server.change(Method::Post, &path, id.id(), Members::new())
    };
    match args.action {
        Some(WithdrawAction::Confirm(args)) => resolve(args, "confirm"),
        Some(WithdrawAction::Cancel(args)) => resolve(args, "cancel"),
        Some(WithdrawAction::Show { withdrawal }) => {
            server.get(&format!("/v1/withdrawals/{withdrawal}"))
        }
        None => {
            let transfer = args.transfer.expect("clap asks for it where there is no subcommand");
            server.change(
                Method::Post,
                "/v1/withdrawals",
                given_or_fresh(transfer.request_id),
                transfer.body(),
            )
        }
    }
}
