//! Client commands: what a running server can be asked, one call a command.
//!
//! ```text
//! crosslatch swap --leg 1:2:ETH:5 --leg 2:1:SOL:90
//!   arguments ─► call (method, path, body, request id) ─► server ─► answer ─► text or JSON, status
//! ```
//!
//! Every command that changes something goes under a request id, so that it can be sent again: the
//! one that is given, or a fresh one, which is said before the call. Where no answer comes, the
//! outcome is not known, and the command says how to ask.

mod api_key;
pub(super) mod backup;
mod directory;
mod events;
mod hints;
pub(super) mod http;
mod look;
mod market;
mod operate;
mod order;
mod settle;
mod show;
mod status;
pub(super) mod target;
mod value;
mod watching;
mod words;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use crate::clock::{Clock, SystemClock};
use crate::types::RequestId;

pub(in crate::cli) use hints::unreachable;
use http::{Call, Method, Unanswered};
use target::AccessArgs;

/// The exit status for a refusal.
const REJECTED: u8 = 1;
/// The exit status where there is no answer.
const FAILED: u8 = 4;

/// Every client command.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Creates an account, links addresses to it, or shows it.
    Account(directory::AccountArgs),
    /// Creates an asset, or shows those that there are.
    Asset(directory::AssetArgs),
    /// Credits an account: value enters.
    Deposit(value::DepositArgs),
    /// Sets an amount aside to leave; then confirms or cancels that.
    Withdraw(value::WithdrawArgs),
    /// Settles a swap: all its legs, or none.
    Swap(settle::SwapArgs),
    /// Sets a swap's amounts aside, to be committed or rolled back.
    Prepare(settle::PrepareArgs),
    /// Moves the amounts of a prepared swap.
    Commit(settle::ResolveArgs),
    /// Shows what is prepared and open, first what expires soonest.
    Prepared(watching::PreparedArgs),
    /// Gives the amounts of a prepared swap back.
    Rollback(settle::ResolveArgs),
    /// Writes and moves, if nothing that was read has changed.
    Transaction(settle::TransactionArgs),
    /// Creates a market, shows it, halts or resumes it.
    Market(market::MarketArgs),
    /// Places an order, or shows how orders stand.
    Order(order::OrderArgs),
    /// Shows an account's orders, those that are over as well.
    Orders(order::OrdersArgs),
    /// Gives an order another price or quantity.
    Amend(order::AmendArgs),
    /// Ends an order.
    Cancel(order::CancelArgs),
    /// Ends all orders of an account, in one market or in all.
    CancelAll(order::CancelAllArgs),
    /// Shows a market's book.
    Book(market::BookArgs),
    /// Shows a market's trades.
    Trades(market::TradesArgs),
    /// Says what the venue takes: its kill switch.
    Operate(operate::OperateArgs),
    /// Shows what became of a request.
    Receipt(look::ReceiptArgs),
    /// Shows an account's balances, now or as of a seq or a time.
    Balance(look::BalanceArgs),
    /// Shows every change of an account's balances, with its cause.
    History(look::HistoryArgs),
    /// Shows the value under a caller's key, now or as of a seq.
    Value(look::ValueArgs),
    /// Creates API keys, shows, rotates and revokes them.
    Key(api_key::ApiKeyArgs),
    /// Shows how the server does: rates, latencies, levels, hot accounts.
    Stats(watching::StatsArgs),
    /// Says whether the server is ready for work; for health checks.
    Status(status::StatusArgs),
    /// Prints what happens, one JSON object a line.
    Events(events::EventsArgs),
}

/// Runs a client command.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(command: ClientCommand) -> anyhow::Result<ExitCode> {
    match command {
        ClientCommand::Account(args) => directory::account(args),
        ClientCommand::Asset(args) => directory::asset(args),
        ClientCommand::Deposit(args) => value::deposit(args),
        ClientCommand::Withdraw(args) => value::withdraw(args),
        ClientCommand::Swap(args) => settle::swap(args),
        ClientCommand::Prepare(args) => settle::prepare(args),
        ClientCommand::Commit(args) => settle::commit(args),
        ClientCommand::Prepared(args) => watching::prepared(args),
        ClientCommand::Rollback(args) => settle::rollback(args),
        ClientCommand::Transaction(args) => settle::transaction(args),
        ClientCommand::Market(args) => market::market(args),
        ClientCommand::Order(args) => order::order(args),
        ClientCommand::Orders(args) => order::orders(args),
        ClientCommand::Amend(args) => order::amend(args),
        ClientCommand::Cancel(args) => order::cancel(args),
        ClientCommand::CancelAll(args) => order::cancel_all(args),
        ClientCommand::Book(args) => market::book(args),
        ClientCommand::Trades(args) => market::trades(args),
        ClientCommand::Operate(args) => operate::operate(args),
        ClientCommand::Receipt(args) => look::receipt(args),
        ClientCommand::Balance(args) => look::balance(args),
        ClientCommand::History(args) => look::history(args),
        ClientCommand::Value(args) => look::value(args),
        ClientCommand::Key(args) => api_key::run(args),
        ClientCommand::Stats(args) => watching::stats(args),
        ClientCommand::Status(args) => status::status(args),
        ClientCommand::Events(args) => events::events(args),
    }
}

/// Where the server is, and how its answer is shown.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The server.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "CROSSLATCH_URL",
        default_value = "http://127.0.0.1:7400",
        value_parser = words::url
    )]
    pub(in crate::cli) url: String,
    #[command(flatten)]
    pub(in crate::cli) access: AccessArgs,
    /// Prints the answer's JSON.
    #[arg(long, global = true)]
    pub(in crate::cli) json: bool,
}

/// Under which id a change goes.
#[derive(Debug, Args)]
struct IdArgs {
    /// The request id, to send the same again; a fresh one where none is given.
    #[arg(long, value_name = "UUID")]
    request_id: Option<RequestId>,
}

impl IdArgs {
    fn id(&self) -> RequestId {
        given_or_fresh(self.request_id)
    }
}

/// Whether one of the answers to many is a refusal.
fn is_refused(result: &Value) -> bool {
    result["status"] == "rejected"
}

/// The id that is given, or a fresh one. That is said, so that the call can be repeated whatever
/// comes of it.
fn given_or_fresh(given: Option<RequestId>) -> RequestId {
    given.unwrap_or_else(|| {
        let id = fresh_id();
        eprintln!("request id {id}");
        id
    })
}

/// A version-7 id of the wall clock and the operating system's randomness.
fn fresh_id() -> RequestId {
    let chance = RandomState::new();
    let half = |which: u8| u128::from(chance.hash_one(which));
    RequestId::v7(SystemClock.wall().millis(), half(0) << 64 | half(1))
}

impl ServerArgs {
    /// Asks for something that changes nothing.
    fn get(&self, path: &str) -> anyhow::Result<ExitCode> {
        self.ask(Call { method: Method::Get, path, body: None, id: None }, |_| {})
    }

    /// Sends a change under that id.
    fn change(
        &self,
        method: Method,
        path: &str,
        id: RequestId,
        mut body: Map<String, Value>,
    ) -> anyhow::Result<ExitCode> {
        body.insert("request_id".into(), id.to_string().into());
        let call = Call { method, path, body: Some(body.into()), id: Some(id) };
        self.ask(call, |_| {})
    }

    /// Makes a call and shows what comes of it; `dress` changes what people are shown.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    fn ask(&self, call: Call<'_>, dress: impl FnOnce(&mut Value)) -> anyhow::Result<ExitCode> {
        let id = call.id;
        let mut answer = match http::send(&self.url, &self.access, &call) {
            Ok(answer) => answer,
            Err(unanswered) => {
                eprintln!("crosslatch: {unanswered}");
                if let Unanswered::Unreachable(_) = unanswered {
                    eprintln!("{}", unreachable(&self.url));
                }
                self.say_how_to_ask(id, &unanswered);
                return Ok(ExitCode::from(FAILED));
            }
        };
        let parts = answer.body["results"].as_array();
        let is_partly_refused = parts.is_some_and(|parts| parts.iter().any(is_refused));
        let mut out = stdout().lock();
        if self.json {
            writeln!(out, "{}", answer.text.trim_end())?;
        } else if answer.is_done {
            dress(&mut answer.body);
            show::answer(&answer.body, &mut out)?;
        }
        out.flush()?;
        if answer.is_done {
            return Ok(if is_partly_refused {
                ExitCode::from(REJECTED)
            } else {
                ExitCode::SUCCESS
            });
        }
        let word = |name: &str| answer.body[name].as_str().unwrap_or_default();
        eprintln!("crosslatch: {}: {}: {}", word("status"), word("code"), word("detail"));
        if let Some(hint) = hints::of(self, &answer.body) {
            eprintln!("{hint}");
        }
        if word("code") == "recovering" {
            return Ok(ExitCode::from(FAILED));
        }
        if word("status") != "failed" {
            return Ok(ExitCode::from(REJECTED));
        }
        self.say_how_to_ask(id, &Unanswered::Broken(String::new()));
        Ok(ExitCode::from(FAILED))
    }

    /// A change without an answer may have happened.
    fn say_how_to_ask(&self, id: Option<RequestId>, why: &Unanswered) {
        let (Some(id), url) = (id, &self.url) else { return };
        match why {
            Unanswered::Unreachable(_) => {
                eprintln!("nothing was sent; send it again with --request-id {id}");
            }
            Unanswered::Broken(_) => {
                eprintln!("the outcome is unknown; ask: crosslatch receipt {id} --url {url}");
                eprintln!("or send the same again with --request-id {id}: it happens once");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_ids_differ_and_carry_the_time() {
        let (one, other) = (fresh_id(), fresh_id());
        assert_ne!(one, other);
        assert!(one.v7_millis().is_some_and(|millis| millis > 1_700_000_000_000));
    }
}
