//! `crosslatch key`: creates keys, shows, rotates and revokes them.
//!
//! The first key of a venue is made with `--data` while no server runs on the directory, or by a server
//! that has none yet, which listens on loopback only. The token is printed once.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::access::secret::Master;
use crate::access::{Accounts, ApiKey, KeyLimits, Network, Scope};
use crate::engine::{Engine, Options};
use crate::error::{Error, Malformed, Reject};
use crate::request::{Command, Outcome, Request};
use crate::server::api_keys::{MadeBody, check_first};
use crate::types::{AccountId, RequestId, Time};

use super::http::{Call, Method};
use super::words::{members, segment};
use super::{IdArgs, REJECTED, ServerArgs, show};

/// `crosslatch key`.
#[derive(Debug, Args)]
pub struct ApiKeyArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Creates a key and prints its token, once.
    Create(Box<CreateArgs>),
    /// Lists all keys.
    List,
    /// Shows a key.
    Show {
        /// Its name.
        name: String,
    },
    /// Gives a key another secret, and prints its token, once; the old one ends.
    Rotate {
        #[command(flatten)]
        id: IdArgs,
        /// Its name.
        name: String,
    },
    /// Ends a key for good.
    Revoke {
        #[command(flatten)]
        id: IdArgs,
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    #[command(flatten)]
    id: IdArgs,
    /// Its name: letters, digits, '-' and '_'.
    name: String,
    /// What it may be used for: read, trade, transfer, operate.
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_delimiter = ',')]
    scopes: Vec<Scope>,
    /// An account that it is for; give several, or --all-accounts.
    #[arg(
        long = "account",
        value_name = "N",
        value_delimiter = ',',
        required_unless_present = "all_accounts"
    )]
    accounts: Vec<u64>,
    /// It is for every account.
    #[arg(long, conflicts_with = "accounts")]
    all_accounts: bool,
    /// An address or a network that it may be used from, as in 10.0.0.0/8; give none for everywhere.
    #[arg(long = "network", value_name = "IP[/BITS]", value_delimiter = ',')]
    networks: Vec<Network>,
    /// Requests a second; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    requests_per_second: u32,
    /// Requests in flight; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    in_flight: u32,
    /// Open holds of any one account; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    open_holds: u32,
    /// Open orders of any one account; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    open_orders: u32,
    /// It is refused from then on, as in 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires_at: Option<Time>,
    /// Makes it in a data directory on which no server runs.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

fn time(text: &str) -> Result<Time, String> {
    let time: jiff::Timestamp =
        text.parse().map_err(|_| "is no time as in 2027-01-31T12:00:00Z")?;
    let micros = u64::try_from(time.as_microsecond()).map_err(|_| "is before 1970")?;
    Ok(Time::new(micros))
}

/// Runs `crosslatch key`.
///
/// # Errors
/// Standard output cannot be written to; with `--data`, the directory cannot be used.
pub(super) fn run(args: ApiKeyArgs) -> anyhow::Result<ExitCode> {
    let server = args.server;
    let at = |name: &str| format!("/v1/api-keys/{}", segment(name));
    match args.what {
        What::Create(create) => match &create.data {
            Some(data) => offline(&create, data, server.json),
            None => {
                let (id, mut body) = (create.id.id(), create.body());
                body["request_id"] = json!(id.to_string());
                ask(&server, Method::Post, "/v1/api-keys", Some((id, body)))
            }
        },
        What::List => ask(&server, Method::Get, "/v1/api-keys", None),
        What::Show { name } => ask(&server, Method::Get, &at(&name), None),
        What::Rotate { id, name } => {
            let (path, id) = (format!("{}/rotate", at(&name)), id.id());
            let body = json!({"request_id": id.to_string()});
            ask(&server, Method::Post, &path, Some((id, body)))
        }
        What::Revoke { id, name } => {
            server.change(Method::Delete, &at(&name), id.id(), members(json!({})))
        }
    }
}

fn ask(
    server: &ServerArgs,
    method: Method,
    path: &str,
    change: Option<(RequestId, Value)>,
) -> anyhow::Result<ExitCode> {
    let (id, body) = change.unzip();
    server.ask(Call { method, path, body, id }, dress)
}

/// Lists and limits as words, for people.
fn dress(answer: &mut Value) {
    if let Some(keys) = answer.get_mut("keys").and_then(Value::as_array_mut) {
        keys.iter_mut().for_each(dress);
        return;
    }
    let Some(members) = answer.as_object_mut() else { return };
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for name in ["scopes", "accounts", "networks"] {
        if let Some(Value::Array(list)) = members.get(name) {
            let words: Vec<String> = list.iter().map(plain).collect();
            let none = if name == "networks" { "everywhere" } else { "none" };
            let words = if words.is_empty() { none.to_owned() } else { words.join(", ") };
            members.insert(name.into(), words.into());
        }
    }
    if let Some(Value::Object(limits)) = members.get("limits") {
        let set = limits.iter().filter(|(_, limit)| **limit != 0);
        let words: Vec<String> = set.map(|(name, limit)| format!("{name} {limit}")).collect();
        let words = if words.is_empty() { "none".to_owned() } else { words.join(", ") };
        members.insert("limits".into(), words.into());
    }
}

impl CreateArgs {
    fn body(&self) -> Value {
        let names: Vec<&str> = self.scopes.iter().map(|scope| scope.name()).collect();
        let accounts = if self.all_accounts { json!("all") } else { json!(self.accounts) };
        let networks: Vec<String> = self.networks.iter().map(Network::to_string).collect();
        let mut body = json!({
            "name": self.name,
            "scopes": names,
            "accounts": accounts,
            "networks": networks,
            "limits": {
                "requests_per_second": self.requests_per_second,
                "in_flight": self.in_flight,
                "open_holds": self.open_holds,
                "open_orders": self.open_orders,
            },
        });
        if let Some(time) = self.expires_at {
            body["expires_at"] = json!(crate::server::rfc_3339(time));
        }
        body
    }

    fn key(&self) -> Result<ApiKey, Malformed> {
        let accounts = self.accounts.iter().copied().map(AccountId::new);
        let key = ApiKey {
            name: self.name.as_str().into(),
            generation: 1,
            verifier: [0; 32],
            scopes: self.scopes.iter().copied().collect(),
            accounts: if self.all_accounts { Accounts::All } else { Accounts::only(accounts)? },
            networks: self.networks.as_slice().into(),
            limits: KeyLimits {
                requests_per_second: self.requests_per_second,
                in_flight: self.in_flight,
                open_holds: self.open_holds,
                open_orders: self.open_orders,
            },
            expires_at: self.expires_at.unwrap_or(Time::NEVER),
        };
        key.validate()?;
        Ok(key)
    }
}

/// Opens the engine on a directory, and makes the key there.
fn offline(create: &CreateArgs, data: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let key = create.key().map_err(Error::Config)?;
    let engine = Engine::start(Options::new(data))?;
    let made = make(&engine, key, create.id.id(), data);
    engine.stop()?;
    let mut out = stdout().lock();
    match made? {
        Ok(made) if as_json => writeln!(out, "{made}")?,
        Ok(mut made) => {
            dress(&mut made);
            show::answer(&made, &mut out)?;
        }
        Err(reject) => {
            eprintln!("crosslatch: rejected: {}: {reject}", reject.code());
            return Ok(ExitCode::from(REJECTED));
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn make(
    engine: &Engine,
    key: ApiKey,
    id: RequestId,
    data: &Path,
) -> anyhow::Result<Result<Value, Reject>> {
    let directory = engine.directory();
    if let Err(malformed) = check_first(&key, directory.keys_len() == 0) {
        return Ok(Err(Reject::Malformed(malformed)));
    }
    let name = &key.name;
    if directory.key_by_name(name).is_some() {
        let why = format!("API key {name} exists, or existed; names are not used twice");
        return Ok(Err(Reject::AlreadyExists(why)));
    }
    let (key, token) = Master::open(data)?.seal(key);
    let request = Request::new(id, Command::PutKey(Box::new(key.clone())));
    match engine.submit(vec![request])?.wait()?.outcome(0) {
        Outcome::Settled(receipt) => {
            Ok(Ok(serde_json::to_value(MadeBody::new(&receipt, &key, token.reveal()))?))
        }
        Outcome::Rejected(refusal) => Ok(Err(refusal.reject)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_shown_words() {
        let mut key = json!({"name": "a", "scopes": ["read", "trade"], "accounts": [1, 2],
            "networks": [], "limits": {"in_flight": 3, "open_holds": 0}});
        let dressed = json!({"name": "a", "scopes": "read, trade", "accounts": "1, 2",
            "networks": "everywhere", "limits": "in_flight 3"});
        let mut all = json!({"keys": [key.clone()]});
        dress(&mut key);
        dress(&mut all);
        assert_eq!((&key, &all["keys"][0]), (&dressed, &dressed));
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(Time::new(1_000_000)));
        assert!(time("tomorrow").is_err() && time("1969-01-01T00:00:00Z").is_err());
    }
}
