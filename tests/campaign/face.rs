//! The two ways to ask, each until the outcome is known: the client of the library over gRPC, and
//! plain connections over HTTP. Who asks sees neither deaths nor restarts of the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crossbeam::channel::after;
use prost::Message;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;

use crosslatch::client::{Client, Options, Outcome};
use crosslatch::proto;
use crosslatch::request::{Command, Request};

use crate::http;
use crate::plan::{Plan, Speaks, hot_key};
use crate::said::over_http;

/// After this the library's client is asked again, under the same ids; it tries by itself until then.
const PATIENCE: Duration = Duration::from_millis(700);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);
/// Most swaps that go together over HTTP.
const SWAPS: usize = 500;

/// One asker.
pub enum Face {
    Grpc { runtime: Arc<Runtime>, client: Client },
    Http { address: SocketAddr, connection: Option<http::Client> },
}

/// Waits a moment before the next try.
fn pause() {
    let _ = after(PAUSE).recv();
}

impl Face {
    /// Connects, sooner or later. `goes_on` says whether it is still worth it.
    pub fn new(plan: &Plan, runtime: &Arc<Runtime>, goes_on: impl Fn()) -> Self {
        if plan.speaks == Speaks::Http {
            return Self::Http { address: plan.http, connection: None };
        }
        let options = Options { connections: 1, deadline: PATIENCE, ..Options::default() };
        let url = format!("grpc://{}", plan.grpc);
        loop {
            if let Ok(client) = runtime.block_on(Client::connect_with(&url, &options)) {
                return Self::Grpc { runtime: runtime.clone(), client };
            }
            goes_on();
            pause();
        }
    }

    /// Asks for all of them; what was answered, in their order, and how often one was sent again.
    pub fn ask(&mut self, requests: &[Request], goes_on: impl Fn()) -> (Vec<String>, u64) {
        let mut answers = vec![None; requests.len()];
        let mut again = 0;
        loop {
            let open: Vec<usize> =
                (0..requests.len()).filter(|place| answers[*place].is_none()).collect();
            if open.is_empty() {
                return (answers.into_iter().flatten().collect(), again);
            }
            match self {
                Self::Grpc { runtime, client } => {
                    let tried = try_grpc(client, requests, &open);
                    for (place, answer) in runtime.block_on(tried) {
                        answers[place] = answer;
                    }
                }
                Self::Http { address, connection } => {
                    try_http(*address, connection, requests, &open, &mut answers);
                }
            }
            let left = answers.iter().filter(|answer| answer.is_none()).count();
            if left > 0 {
                again += left as u64;
                goes_on();
                pause();
            }
        }
    }

    /// The version of a hot key now; 0 if nobody says.
    pub fn version(&mut self, key: u64) -> u64 {
        let key = hot_key(key);
        match self {
            Self::Grpc { runtime, client } => {
                let key = key.bytes().to_vec().into();
                let mut exchange = client.exchange();
                let ask = exchange.get_key(proto::GetKeyRequest { key, at: None });
                let told = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask).await });
                told.ok().and_then(Result::ok).map_or(0, |told| told.into_inner().version)
            }
            Self::Http { address, connection } => {
                let path = format!("/v1/keys/{}", URL_SAFE_NO_PAD.encode(key.bytes()));
                let reply = send(*address, connection, "GET", &path, b"");
                let body = reply.filter(|reply| reply.status == 200).map(|reply| reply.value());
                let version = body.and_then(|body| body["version"].as_str()?.parse().ok());
                version.unwrap_or(0)
            }
        }
    }
}

/// Submits what is open, all at once; the client makes batches of it.
async fn try_grpc(
    client: &Client,
    requests: &[Request],
    open: &[usize],
) -> Vec<(usize, Option<String>)> {
    let mut tasks = JoinSet::new();
    for place in open.iter().copied() {
        let (client, request) = (client.clone(), proto::Request::from(&requests[place]));
        tasks.spawn(async move { (place, client.submit(request).await.ok()) });
    }
    let outcomes = tasks.join_all().await;
    outcomes.into_iter().map(|(place, outcome)| (place, outcome.map(|it| in_words(&it)))).collect()
}

/// An answer over gRPC: how it went, when, and a hash of all that was said.
fn in_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Settled(receipt) => {
            format!("settled {} {:x}", receipt.commit_seq, xxh3_64(&receipt.encode_to_vec()))
        }
        Outcome::Problem(problem) => {
            assert_eq!(problem.status, "rejected", "{problem:?}");
            format!("rejected {} {:x}", problem.code, xxh3_64(&problem.encode_to_vec()))
        }
    }
}

/// Sends what is open, swaps together; what the server had no time or no room for stays open.
fn try_http(
    address: SocketAddr,
    connection: &mut Option<http::Client>,
    requests: &[Request],
    open: &[usize],
    answers: &mut [Option<String>],
) {
    let is_swap = |place: &usize| matches!(requests[*place].command, Command::Swap(_));
    let (swaps, others): (Vec<usize>, Vec<usize>) = open.iter().copied().partition(is_swap);
    for places in swaps.chunks(SWAPS) {
        let words = |place: &usize| over_http(&requests[*place]).expect("it has words").2;
        let body = json!({"swaps": places.iter().map(words).collect::<Vec<_>>()});
        let body = body.to_string();
        let Some(reply) = send(address, connection, "POST", "/v1/swaps:batch", body.as_bytes())
        else {
            return;
        };
        if reply.status != 200 {
            assert_eq!(reply.status, 503, "{}", reply.text());
            return;
        }
        let results = reply.value();
        let results = results["results"].as_array().expect("results");
        assert_eq!(results.len(), places.len());
        for (place, result) in places.iter().zip(results) {
            answers[*place] = in_words_of(result);
        }
    }
    for place in others {
        let (method, path, body) = over_http(&requests[place]).expect("it has words");
        let Some(reply) = send(address, connection, method, &path, body.to_string().as_bytes())
        else {
            return;
        };
        answers[place] = in_words_of(&reply.value());
    }
}

/// `None` when the connection was lost, or could not be made.
fn send(
    address: SocketAddr,
    connection: &mut Option<http::Client>,
    method: &str,
    path: &str,
    body: &[u8],
) -> Option<http::Reply> {
    let mut client = match connection.take() {
        Some(client) => client,
        None => http::Client::try_connect(address).ok()?,
    };
    let headers = [("Content-Type", "application/json")];
    let reply = client.try_send(method, path, &headers, body).ok()?;
    // A server that stops says so, and answers no more on this connection.
    if reply.header("connection") != Some("close") {
        *connection = Some(client);
    }
    Some(reply)
}

/// An answer over HTTP; `None` for one that is no outcome.
fn in_words_of(body: &Value) -> Option<String> {
    let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("no {name}: {body}"));
    let hash = xxh3_64(body.to_string().as_bytes());
    match (text("status"), body["code"].as_str()) {
        ("settled", _) => Some(format!("settled {} {hash:x}", text("commit_seq"))),
        (_, Some("overloaded" | "stopped" | "recovering")) => None,
        ("rejected", Some(code)) => Some(format!("rejected {code} {hash:x}")),
        _ => panic!("this is no outcome: {body}"),
    }
}
