//! Whom a load is sent to: an engine in this process, or a server, over gRPC or HTTP.
//!
//! ```text
//! engine        a call
//! grpc, batch   a stream of its own a caller, on pooled connections: one batch in flight
//! grpc, single  a unary call, on pooled connections
//! http          a connection of its own a caller, kept alive: one request in flight
//! ```

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::client::Exchange;
use crate::engine::{Answers, Brief, Engine};
use crate::error::{Error, Reject};
use crate::proto;
use crate::proto::answer::Outcome;
use crate::proto::request::Command as Asks;
use crate::request::Request;
use crate::server::problem::CODES;
use crate::types::{AccountId, AssetId, Balance, BalanceKey, CommitSeq};

use super::http::{self, HttpCaller};
use super::reach::{Reach, Url};

/// Connections that callers over gRPC share.
const CONNECTIONS_MAX: usize = 4;

/// Whom to call.
pub(super) enum Target {
    /// An engine in this process.
    Engine(Engine),
    /// A server.
    Server(Reach),
}

/// What the callers of one runtime share: it must be used in the runtime in which it was made.
pub(super) enum Pool {
    Engine(Engine),
    /// Connections, as who asks.
    Grpc(Vec<Exchange>),
    /// Each caller has a connection of its own; in which detail answers are wanted.
    Http(Reach),
}

impl Pool {
    /// For so many callers.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(super) async fn of(target: &Target, callers: usize) -> Result<Self, Error> {
        let reach = match target {
            Target::Engine(engine) => return Ok(Self::Engine(engine.clone())),
            Target::Server(reach) => reach,
        };
        let Url::Grpc(url) = &reach.url else { return Ok(Self::Http(reach.clone())) };
        let endpoint = reach.access.endpoint(url).map_err(|error| gone(&error))?;
        let mut channels = Vec::new();
        for _ in 0..callers.clamp(1, CONNECTIONS_MAX) {
            let channel = endpoint.connect().await.map_err(|error| gone(&error))?;
            channels.push(reach.access.exchange(channel));
        }
        Ok(Self::Grpc(channels))
    }

    /// What the `number`-th caller calls with; `is_full` to be told what refusals claim.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(super) async fn line(
        &self,
        number: usize,
        batch: usize,
        is_full: bool,
    ) -> Result<Line, Error> {
        match self {
            Self::Engine(engine) => Ok(Line::Engine(engine.clone())),
            Self::Http(reach) => {
                let caller = HttpCaller::connect(reach).await;
                Ok(Line::Http(Box::new(caller.map_err(|error| gone(&error))?)))
            }
            Self::Grpc(channels) => {
                let client = channels[number % channels.len()].clone();
                if batch == 1 {
                    return Ok(Line::Unary(Box::new(client)));
                }
                Ok(Line::Stream(Box::new(GrpcStream::open(client, is_full).await?)))
            }
        }
    }

    /// The service, for what is not load.
    ///
    /// # Errors
    /// It is not reached over gRPC.
    pub(super) fn exchange(&self) -> Result<Exchange, Error> {
        match self {
            Self::Grpc(channels) => Ok(channels[0].clone()),
            Self::Engine(_) | Self::Http(_) => {
                Err(Error::Stopped { cause: "there is no gRPC".into() })
            }
        }
    }
}

/// One caller's way to whom it calls. One submission is in flight at a time.
pub(super) enum Line {
    Engine(Engine),
    Stream(Box<GrpcStream>),
    Unary(Box<Exchange>),
    Http(Box<HttpCaller>),
}

impl Line {
    /// Sends requests and waits for all answers.
    ///
    /// # Errors
    /// Whatever ended the engine or the connection first.
    pub(super) async fn submit(&mut self, requests: Vec<Request>) -> Result<Replies, Error> {
        match self {
            Self::Engine(engine) => Ok(Replies::Engine(engine.submit(requests)?.answers().await?)),
            Self::Stream(stream) => stream.submit(&requests).await,
            Self::Unary(client) => {
                let mut replies = Vec::with_capacity(requests.len());
                for request in &requests {
                    replies.push(call(client, request).await?);
                }
                Ok(Replies::Remote(replies))
            }
            Self::Http(caller) => http::submit(caller, &requests).await.map(Replies::Remote),
        }
    }
}

/// A balance as it was read: what it is, its version, and the seq of the snapshot.
pub(super) type Seen = (Balance, CommitSeq, CommitSeq);

impl Line {
    /// Balances, in the order of their keys: in this process all of one snapshot, of a server all of an
    /// account's. For what transactions read that makes no difference: each names the versions that it saw.
    ///
    /// # Errors
    /// Whatever ended the engine or the connection first.
    pub(super) async fn balances_of(&mut self, keys: &[BalanceKey]) -> Result<Vec<Seen>, Error> {
        if let Self::Engine(engine) = self {
            let seen = engine.balances_of(keys).await?;
            let with_seq = |(balance, version)| (balance, version, seen.seq);
            return Ok(seen.balances.into_iter().map(with_seq).collect());
        }
        let accounts: BTreeSet<AccountId> = keys.iter().map(|key| key.account).collect();
        let mut found = BTreeMap::new();
        for account in accounts {
            let of_account = match self {
                Self::Http(caller) => http::balances(caller, account, None).await?,
                Self::Unary(client) => balances(client, account, None).await?,
                Self::Stream(stream) => balances(&mut stream.client, account, None).await?,
                Self::Engine(_) => unreachable!("it is asked above"),
            };
            found.insert(account, of_account);
        }
        let of = |key: &BalanceKey| {
            let (seq, balances) = &found[&key.account];
            let it = balances.iter().find(|(asset, ..)| *asset == key.asset);
            let (balance, version) = it.map_or_else(Default::default, |it| (it.1, it.2));
            (balance, version, *seq)
        };
        Ok(keys.iter().map(of).collect())
    }
}

impl Line {
    /// An account's balances as of a seq, of a server.
    ///
    /// # Errors
    /// The connection is lost, or there is none.
    pub(super) async fn balances_at(
        &mut self,
        account: AccountId,
        at: CommitSeq,
    ) -> Result<OfAccount, Error> {
        match self {
            Self::Http(caller) => http::balances(caller, account, Some(at)).await,
            Self::Unary(client) => balances(client, account, Some(at)).await,
            Self::Stream(stream) => balances(&mut stream.client, account, Some(at)).await,
            Self::Engine(_) => Err(Error::Stopped { cause: "there is no server".into() }),
        }
    }
}

/// An account's balances as of a seq.
pub(super) type OfAccount = (CommitSeq, Vec<(AssetId, Balance, CommitSeq)>);

/// An account's balances over gRPC, the latest or as of a seq.
///
/// # Errors
/// The connection is lost.
pub(super) async fn balances(
    client: &mut Exchange,
    account: AccountId,
    at: Option<CommitSeq>,
) -> Result<OfAccount, Error> {
    let at = at.map(|at| proto::get_balances_request::At::AtSeq(at.get()));
    let ask = proto::GetBalancesRequest { account: account.get(), at };
    let answer = client.get_balances(ask).await.map_err(|status| gone(&status))?.into_inner();
    let units = |amount: Option<proto::Amount>| amount.unwrap_or_default().units();
    let balances = answer.balances.into_iter().map(|it| {
        let balance = Balance { available: units(it.available), held: units(it.held) };
        (AssetId::new(it.asset_number), balance, CommitSeq::new(it.version))
    });
    Ok((CommitSeq::new(answer.seq), balances.collect()))
}

/// The seq under which it settled, or its refusal.
pub(super) type RemoteReply = Result<CommitSeq, RemoteRefusal>;

/// A refusal as a server tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteRefusal {
    /// The code.
    pub(super) code: &'static str,
    /// What it claims, of a lack of funds that was told in full.
    pub(super) claim: Option<Reject>,
}

impl RemoteRefusal {
    /// Of which only the code is known.
    pub(super) fn of(code: &str) -> Self {
        Self { code: documented(code), claim: None }
    }

    fn of_problem(problem: &proto::Problem) -> Self {
        let claim = asset_of(&problem.asset).and_then(|asset| {
            Some(Reject::InsufficientFunds {
                account: AccountId::new(problem.account?),
                asset,
                short_by: problem.short_by.as_ref()?.units(),
                seq: CommitSeq::new(problem.seq?),
            })
        });
        Self { code: documented(&problem.code), claim }
    }
}

/// The number of an asset of the load by its name.
pub(super) fn asset_of(name: &str) -> Option<AssetId> {
    name.strip_prefix('A')?.parse().ok().map(AssetId::new)
}

/// Answers to one submission, in the order of its requests.
pub(super) enum Replies {
    /// Of an engine in this process.
    Engine(Answers),
    /// Of a server.
    Remote(Vec<RemoteReply>),
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply<'a> {
    /// It settled under this seq.
    Settled(CommitSeq),
    /// It was refused: the code, and what an engine in this process says of it.
    Refused(&'static str, Option<&'a Reject>),
}

impl Replies {
    /// How many.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Engine(answers) => answers.len(),
            Self::Remote(replies) => replies.len(),
        }
    }

    /// The `index`-th.
    pub(super) fn reply(&self, index: usize) -> Reply<'_> {
        match self {
            Self::Engine(answers) => match answers.brief(index) {
                Brief::Settled(seq) => Reply::Settled(seq),
                Brief::Rejected(reject) => Reply::Refused(reject.code(), Some(reject)),
            },
            Self::Remote(replies) => match &replies[index] {
                Ok(seq) => Reply::Settled(*seq),
                Err(refusal) => Reply::Refused(refusal.code, refusal.claim.as_ref()),
            },
        }
    }
}

/// The code as it is documented; `storage` for any that is not.
pub(super) fn documented(code: &str) -> &'static str {
    CODES.iter().find(|known| known.name == code).map_or("storage", |known| known.name)
}

/// What ended the connection.
pub(super) fn gone(error: &dyn std::error::Error) -> Error {
    let mut cause = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        cause = format!("{cause}: {error}");
        source = error.source();
    }
    Error::Stopped { cause }
}

/// A stream of batches with one in flight.
pub(super) struct GrpcStream {
    batches: mpsc::Sender<proto::Batch>,
    results: Streaming<proto::BatchResult>,
    /// The same connection, for what is read between.
    client: Exchange,
    /// Whether receipts and problems are told, and not only seqs and codes.
    is_full: bool,
}

impl GrpcStream {
    async fn open(mut client: Exchange, is_full: bool) -> Result<Self, Error> {
        let (batches, outgoing) = mpsc::channel(1);
        let results = client.submit(ReceiverStream::new(outgoing)).await;
        let results = results.map_err(|status| gone(&status))?.into_inner();
        Ok(Self { batches, results, client, is_full })
    }

    async fn submit(&mut self, requests: &[Request]) -> Result<Replies, Error> {
        let detail = if self.is_full { proto::Detail::Full } else { proto::Detail::Brief };
        let batch = proto::Batch {
            number: 0,
            detail: detail.into(),
            requests: requests.iter().map(Into::into).collect(),
        };
        // One that is closed says why below.
        let _ = self.batches.send(batch).await;
        let result = self.results.message().await.map_err(|status| gone(&status))?;
        let ended = || Error::Stopped { cause: "the server ended the stream".into() };
        let result = result.ok_or_else(ended)?;
        if self.is_full {
            return result
                .results
                .into_iter()
                .map(told)
                .collect::<Result<_, _>>()
                .map(Replies::Remote);
        }
        let briefs = result.briefs.ok_or_else(ended)?;
        let mut replies: Vec<RemoteReply> =
            briefs.commit_seqs.into_iter().map(|seq| Ok(CommitSeq::new(seq))).collect();
        for refusal in briefs.refusals {
            if let Some(reply) = replies.get_mut(refusal.place as usize) {
                *reply = Err(RemoteRefusal::of(&refusal.code));
            }
        }
        Ok(Replies::Remote(replies))
    }
}

/// An answer that was told in full.
fn told(answer: proto::Answer) -> Result<RemoteReply, Error> {
    match answer.outcome {
        Some(Outcome::Settled(receipt)) => Ok(Ok(CommitSeq::new(receipt.commit_seq))),
        Some(Outcome::Problem(problem)) => Ok(Err(RemoteRefusal::of_problem(&problem))),
        None => Err(Error::Stopped { cause: "an answer cannot be read".into() }),
    }
}

/// One request, one call.
async fn call(client: &mut Exchange, request: &Request) -> Result<RemoteReply, Error> {
    let request = proto::Request::from(request);
    let answer = match request.command.expect("it was just made") {
        Asks::Swap(swap) => client.swap(swap).await,
        Asks::Prepare(prepare) => client.prepare(prepare).await,
        Asks::Commit(commit) => client.commit(commit).await,
        Asks::Transact(transact) => client.transact(transact).await,
        Asks::PlaceOrder(order) => client.place_order(order).await,
        Asks::AmendOrder(amend) => client.amend_order(amend).await,
        Asks::CancelOrder(cancel) => client.cancel_order(cancel).await,
        _ => Err(Status::new(Code::Unimplemented, "no load sends that")),
    };
    match answer {
        Ok(receipt) => Ok(Ok(CommitSeq::new(receipt.into_inner().commit_seq))),
        Err(status) => match proto::rich::problem(&status) {
            Some(problem) if problem.status == "rejected" => {
                Ok(Err(RemoteRefusal::of_problem(&problem)))
            }
            _ => Err(gone(&status)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documented_codes_are_counted() {
        assert_eq!(documented("insufficient_funds"), "insufficient_funds");
        assert_eq!(documented("made_up"), "storage");
    }
}
