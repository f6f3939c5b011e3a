//! Whom a load is sent to: an engine in this process, or a server, over gRPC or HTTP.
//!
//! ```text
//! engine        a call
//! grpc, batch   a stream of its own a caller, on pooled connections: one batch in flight
//! grpc, single  a unary call, on pooled connections
//! http          a connection of its own a caller, kept alive: one request in flight
//! ```

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::client::{ExchangeClient, endpoint};
use crate::engine::{Answers, Brief, Engine};
use crate::error::{Error, Reject};
use crate::proto;
use crate::proto::request::Command as Asks;
use crate::request::Request;
use crate::server::problem::CODES;
use crate::types::CommitSeq;

use super::http::{self, HttpCaller};

/// Connections that callers over gRPC share.
const CONNECTIONS_MAX: usize = 4;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Url {
    /// `grpc://HOST:PORT`.
    Grpc(String),
    /// `http://HOST:PORT`: host and port.
    Http(String),
}

impl Url {
    /// Reads an address.
    ///
    /// # Errors
    /// It is of neither form.
    pub(super) fn of(text: &str) -> Result<Self, String> {
        if let Some(authority) = text.strip_prefix("http://") {
            return Ok(Self::Http(authority.trim_end_matches('/').to_owned()));
        }
        endpoint(text)
            .map(|_| Self::Grpc(text.to_owned()))
            .map_err(|_| "give grpc://HOST:PORT or http://HOST:PORT".to_owned())
    }
}

/// Whom to call.
pub(super) enum Target {
    /// An engine in this process.
    Engine(Engine),
    /// A server.
    Server(Url),
}

/// What the callers of one runtime share: it must be used in the runtime in which it was made.
pub(super) enum Pool {
    Engine(Engine),
    /// Connections.
    Grpc(Vec<Channel>),
    /// Host and port: each caller has a connection of its own.
    Http(String),
}

impl Pool {
    /// For so many callers.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(super) async fn of(target: &Target, callers: usize) -> Result<Self, Error> {
        let url = match target {
            Target::Engine(engine) => return Ok(Self::Engine(engine.clone())),
            Target::Server(Url::Http(authority)) => return Ok(Self::Http(authority.clone())),
            Target::Server(Url::Grpc(url)) => url,
        };
        let endpoint = endpoint(url).map_err(|error| gone(&error))?;
        let mut channels = Vec::new();
        for _ in 0..callers.clamp(1, CONNECTIONS_MAX) {
            channels.push(endpoint.connect().await.map_err(|error| gone(&error))?);
        }
        Ok(Self::Grpc(channels))
    }

    /// What the `number`-th caller calls with.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(super) async fn line(&self, number: usize, batch: usize) -> Result<Line, Error> {
        match self {
            Self::Engine(engine) => Ok(Line::Engine(engine.clone())),
            Self::Http(authority) => {
                let caller = HttpCaller::connect(authority).await;
                Ok(Line::Http(Box::new(caller.map_err(|error| gone(&error))?)))
            }
            Self::Grpc(channels) => {
                let client = ExchangeClient::new(channels[number % channels.len()].clone());
                if batch == 1 {
                    return Ok(Line::Unary(Box::new(client)));
                }
                Ok(Line::Stream(Box::new(GrpcStream::open(client).await?)))
            }
        }
    }

    /// The service, for what is not load.
    ///
    /// # Errors
    /// It is not reached over gRPC.
    pub(super) fn exchange(&self) -> Result<ExchangeClient<Channel>, Error> {
        match self {
            Self::Grpc(channels) => {
                let client = ExchangeClient::new(channels[0].clone());
                Ok(client.max_decoding_message_size(usize::MAX))
            }
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
    Unary(Box<ExchangeClient<Channel>>),
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

/// The seq under which it settled, or the code of its refusal.
pub(super) type RemoteReply = Result<CommitSeq, &'static str>;

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
            Self::Remote(replies) => match replies[index] {
                Ok(seq) => Reply::Settled(seq),
                Err(code) => Reply::Refused(code, None),
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
}

impl GrpcStream {
    async fn open(client: ExchangeClient<Channel>) -> Result<Self, Error> {
        let mut client = client.max_decoding_message_size(usize::MAX);
        let (batches, outgoing) = mpsc::channel(1);
        let results = client.submit(ReceiverStream::new(outgoing)).await;
        let results = results.map_err(|status| gone(&status))?.into_inner();
        Ok(Self { batches, results })
    }

    async fn submit(&mut self, requests: &[Request]) -> Result<Replies, Error> {
        let batch = proto::Batch {
            number: 0,
            detail: proto::Detail::Brief.into(),
            requests: requests.iter().map(Into::into).collect(),
        };
        // One that is closed says why below.
        let _ = self.batches.send(batch).await;
        let result = self.results.message().await.map_err(|status| gone(&status))?;
        let ended = || Error::Stopped { cause: "the server ended the stream".into() };
        let briefs = result.and_then(|result| result.briefs).ok_or_else(ended)?;
        let mut replies: Vec<RemoteReply> =
            briefs.commit_seqs.into_iter().map(|seq| Ok(CommitSeq::new(seq))).collect();
        for refusal in briefs.refusals {
            if let Some(reply) = replies.get_mut(refusal.place as usize) {
                *reply = Err(documented(&refusal.code));
            }
        }
        Ok(Replies::Remote(replies))
    }
}

/// One request, one call.
async fn call(
    client: &mut ExchangeClient<Channel>,
    request: &Request,
) -> Result<RemoteReply, Error> {
    let request = proto::Request::from(request);
    let answer = match request.command.expect("it was just made") {
        Asks::Swap(swap) => client.swap(swap).await,
        Asks::Prepare(prepare) => client.prepare(prepare).await,
        Asks::Commit(commit) => client.commit(commit).await,
        Asks::PlaceOrder(order) => client.place_order(order).await,
        Asks::AmendOrder(amend) => client.amend_order(amend).await,
        Asks::CancelOrder(cancel) => client.cancel_order(cancel).await,
        _ => Err(Status::new(Code::Unimplemented, "no load sends that")),
    };
    match answer {
        Ok(receipt) => Ok(Ok(CommitSeq::new(receipt.into_inner().commit_seq))),
        Err(status) => match proto::rich::problem(&status) {
            Some(problem) if problem.status == "rejected" => Ok(Err(documented(&problem.code))),
            _ => Err(gone(&status)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_how_to_speak() {
        assert_eq!(Url::of("http://127.0.0.1:7400/"), Ok(Url::Http("127.0.0.1:7400".into())));
        assert!(matches!(Url::of("grpc://127.0.0.1:7401"), Ok(Url::Grpc(_))));
        for text in ["127.0.0.1:7400", "https://a", "grpc://"] {
            assert!(Url::of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_documented_codes_are_counted() {
        assert_eq!(documented("insufficient_funds"), "insufficient_funds");
        assert_eq!(documented("made_up"), "storage");
    }
}
