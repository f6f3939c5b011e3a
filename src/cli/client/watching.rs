//! What watches a venue: `crosslatch prepared`, `stats`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::ServerArgs;
use super::http::Call;
use super::look::{text, with_query};

/// `crosslatch prepared`.
#[derive(Debug, Args)]
pub struct PreparedArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Those alone in which this account has part.
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<u64>,
    /// How many, 1 to 1000 [default: 100]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// `crosslatch stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Only samples after that number, with --json.
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
}

/// Runs `crosslatch prepared`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn prepared(args: PreparedArgs) -> anyhow::Result<ExitCode> {
    let parameters = [("account", text(args.account)), ("limit", text(args.limit))];
    let path = with_query("/v1/prepared".into(), parameters);
    args.server.ask(Call::get(&path), |answer| {
        let all = answer["prepared"].as_array_mut().into_iter().flatten();
        for hold in all {
            hold["legs"] = legs(&hold["legs"]).into();
        }
    })
}

/// `1 to 2: 5 ETH, 2 to 1: 90 SOL`
fn legs(legs: &Value) -> String {
    let words = |leg: &Value| {
        let text = |name: &str| leg[name].as_str().unwrap_or_default().to_owned();
        format!("{} to {}: {} {}", leg["from"], leg["to"], text("amount"), text("asset"))
    };
    let words: Vec<String> = legs.as_array().into_iter().flatten().map(words).collect();
    words.join(", ")
}

/// Runs `crosslatch stats`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn stats(args: StatsArgs) -> anyhow::Result<ExitCode> {
    let path = with_query("/v1/stats".into(), [("after", text(args.after))]);
    args.server.ask(Call::get(&path), in_short)
}

/// The last second for people: its numbers a line each, and the lists.
fn in_short(answer: &mut Value) {
    let now = answer["samples"].as_array().and_then(|samples| samples.last()).cloned();
    let boxes = now.as_ref().and_then(|now| now["mailboxes"].as_array().cloned());
    let actors = answer["actors"].as_array().cloned().unwrap_or_default();
    let boxes = actors.into_iter().zip(boxes.unwrap_or_default());
    let boxes: Vec<Value> =
        boxes.map(|(actor, messages)| json!({"actor": actor, "messages": messages})).collect();
    let hot = answer["hot_accounts"]["accounts"].clone();
    let Some(members) = answer.as_object_mut() else { return };
    for gone in ["samples", "actors", "hot_accounts"] {
        members.remove(gone);
    }
    if let Some(Value::Object(now)) = now {
        let shown = now.into_iter().filter(|(name, _)| name != "mailboxes" && name != "number");
        members.extend(shown);
    }
    members.insert("mailboxes".into(), boxes.into());
    if hot.is_array() {
        members.insert("hot_accounts".into(), hot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_second_is_shown_in_short() {
        let mut answer = json!({"version": "1", "actors": ["log", "shard-0"],
            "samples": [{"number": 1, "lag": 5, "mailboxes": [0, 0]}, {"number": 2, "lag": 7, "mailboxes": [3, 4]}],
            "hot_accounts": {"commits": 9, "accounts": [{"account": 1, "commits": 3, "over": 0}]}});
        in_short(&mut answer);
        let expected = json!({"version": "1", "lag": 7,
            "mailboxes": [{"actor": "log", "messages": 3}, {"actor": "shard-0", "messages": 4}],
            "hot_accounts": [{"account": 1, "commits": 3, "over": 0}]});
        assert_eq!(answer, expected);
        // A server that has just started has none.
        let mut empty = json!({"actors": [], "samples": [], "hot_accounts": null});
        in_short(&mut empty);
        assert_eq!(empty, json!({"mailboxes": []}));
    }

    #[test]
    fn legs_are_one_line() {
        let both = json!([{"from": 1, "to": 2, "asset": "ETH", "amount": "5"},
            {"from": 2, "to": 1, "asset": "SOL", "amount": "90"}]);
        assert_eq!(legs(&both), "1 to 2: 5 ETH, 2 to 1: 90 SOL");
    }
}
