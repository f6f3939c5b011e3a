//! What only looks: `crosslatch receipt`, `balance`, `history`, `value`.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::types::RequestId;

use super::ServerArgs;
use super::http::{Call, Method};
use super::words::{self, decoded, key_segment, segment};

/// `crosslatch receipt`.
#[derive(Debug, Args)]
pub struct ReceiptArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The request.
    request_id: RequestId,
}

/// `crosslatch balance`.
#[derive(Debug, Args)]
pub struct BalanceArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The account.
    #[arg(value_parser = words::account)]
    account: u64,
    /// As of that seq.
    #[arg(long, value_name = "SEQ", conflicts_with = "at_time")]
    at: Option<u64>,
    /// As of that time, as in 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    at_time: Option<String>,
}

/// `crosslatch history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The account.
    #[arg(value_parser = words::account)]
    account: u64,
    /// Of one asset only.
    #[arg(long, value_name = "NAME")]
    asset: Option<String>,
    /// What came after that seq: the `next` of the page before.
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// Changes on a page, 1 to 1000 [default: 100]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// `crosslatch value`.
#[derive(Debug, Args)]
pub struct ValueArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The key, as text.
    key: String,
    /// As of that seq.
    #[arg(long, value_name = "SEQ")]
    at: Option<u64>,
}

/// `path?name=value&...` of the parameters that are given.
pub(super) fn with_query<const N: usize>(
    path: String,
    parameters: [(&str, Option<String>); N],
) -> String {
    let given = parameters
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| format!("{name}={}", segment(&value))));
    let given: Vec<String> = given.collect();
    if given.is_empty() { path } else { format!("{path}?{}", given.join("&")) }
}

/// A number as it stands in a query.
pub(super) fn text(number: Option<u64>) -> Option<String> {
    number.map(|number| number.to_string())
}

/// Runs `crosslatch receipt`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn receipt(args: ReceiptArgs) -> anyhow::Result<ExitCode> {
    args.server.get(&format!("/v1/requests/{}", args.request_id))
}

/// Runs `crosslatch balance`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn balance(args: BalanceArgs) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/accounts/{}/balances", args.account);
    args.server.get(&with_query(path, [("at", text(args.at)), ("at_time", args.at_time)]))
}

/// Runs `crosslatch history`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn history(args: HistoryArgs) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/accounts/{}/history", args.account);
    let parameters =
        [("asset", args.asset), ("after", text(args.after)), ("limit", text(args.limit))];
    args.server.get(&with_query(path, parameters))
}

/// Runs `crosslatch value`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn value(args: ValueArgs) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/keys/{}", key_segment(&args.key));
    let path = with_query(path, [("at", text(args.at))]);
    let call = Call { method: Method::Get, path: &path, body: None, id: None };
    args.server.ask(call, |answer| {
        let readable = answer["value"].as_str().and_then(decoded);
        if let Some(readable) = readable {
            answer["value"] = Value::String(readable);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_is_asked() {
        let at_time = Some("2026-01-31T12:00:00+02:00".to_owned());
        assert_eq!(with_query("/a".into(), [("at", None)]), "/a");
        assert_eq!(
            with_query("/a".into(), [("at", text(Some(7))), ("at_time", at_time)]),
            "/a?at=7&at_time=2026-01-31T12%3A00%3A00%2B02%3A00"
        );
    }
}
