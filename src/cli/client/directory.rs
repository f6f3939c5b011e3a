//! `crosslatch asset` and `crosslatch account`: which tokens there are, who there is, who is paid where.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::http::Method;
use super::words::{self, members, segment};
use super::{IdArgs, ServerArgs};

/// `crosslatch asset`.
#[derive(Debug, Args)]
pub struct AssetArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    action: AssetAction,
}

#[derive(Debug, Subcommand)]
enum AssetAction {
    /// Creates an asset; the same again is accepted.
    Put {
        /// Its name, as in ETH or USDC.eth.
        asset: String,
        /// The chain that it is on.
        #[arg(long, value_name = "N")]
        chain_id: u64,
        /// That chain's kind.
        #[arg(long, value_name = "KIND")]
        chain_kind: Kind,
        /// `native`, or the token's address on the chain.
        #[arg(long, default_value = "native")]
        token: String,
        /// Decimal places of the displayed unit.
        #[arg(long, value_name = "N")]
        decimals: u8,
        #[command(flatten)]
        id: IdArgs,
    },
    /// Shows one asset, or all.
    Show {
        /// Its name.
        asset: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Evm,
    Solana,
    Bitcoin,
    Other,
}

/// `crosslatch account`.
#[derive(Debug, Args)]
pub struct AccountArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    action: AccountAction,
}

#[derive(Debug, Subcommand)]
enum AccountAction {
    /// Creates an account, or adds links to it.
    Put {
        /// Its number.
        #[arg(value_parser = words::account)]
        account: u64,
        /// An address of the account; may be given several times.
        #[arg(long, value_name = "CHAIN=ADDRESS", value_parser = words::link)]
        link: Vec<Value>,
        #[command(flatten)]
        id: IdArgs,
    },
    /// Shows an account with its links.
    Show {
        /// Its number.
        #[arg(value_parser = words::account)]
        account: u64,
    },
}

/// Runs `crosslatch asset`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn asset(args: AssetArgs) -> anyhow::Result<ExitCode> {
    match args.action {
        AssetAction::Put { asset, chain_id, chain_kind, token, decimals, id } => {
            let kind = chain_kind.to_possible_value().expect("every kind has a name");
            let body = json!({
                "chain_id": chain_id,
                "chain_kind": kind.get_name(),
                "token": token,
                "decimals": decimals,
            });
            let path = format!("/v1/assets/{}", segment(&asset));
            args.server.change(Method::Put, &path, id.id(), members(body))
        }
        AssetAction::Show { asset: None } => args.server.get("/v1/assets"),
        AssetAction::Show { asset: Some(asset) } => {
            args.server.get(&format!("/v1/assets/{}", segment(&asset)))
        }
    }
}

/// Runs `crosslatch account`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn account(args: AccountArgs) -> anyhow::Result<ExitCode> {
    match args.action {
        AccountAction::Put { account, link, id } => {
            let body = members(json!({"links": link}));
            args.server.change(Method::Put, &format!("/v1/accounts/{account}"), id.id(), body)
        }
        AccountAction::Show { account } => args.server.get(&format!("/v1/accounts/{account}")),
    }
}
