//! A client for programs: asynchronous, pooled, and sure of what became of each request.
//!
//! [`Client::submit`] takes one request to its one outcome. Requests of many tasks are gathered into
//! batches by themselves; a connection that is lost, a server that is restarted, an engine that is
//! overloaded are waited out. Whatever is sent again is sent under the same id, so nothing takes
//! effect twice. Patience ends with [`Options::deadline`]: then the outcome is not known, and the same
//! request may be submitted again at any time, from anywhere.
//!
//! ```no_run
//! use crosslatch::client::{Client, Outcome, leg, swap};
//! use crosslatch::types::AccountId;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("grpc://127.0.0.1:7401").await?;
//! let legs = [leg(1, 2, "ETH", 5), leg(2, 1, "SOL", 90)];
//! let id = client.fresh_id(); // to be kept until the outcome is known
//! match client.submit(swap(id, legs)).await? {
//!     Outcome::Settled(receipt) => println!("both legs latched: seq {}", receipt.commit_seq),
//!     Outcome::Problem(problem) => println!("neither moved: {}", problem.detail),
//! }
//! let balances = client.balances(AccountId::new(2)).await?;
//! println!("{} balances as of seq {}", balances.balances.len(), balances.seq);
//! # Ok(())
//! # }
//! ```
//!
//! [`Client::events`] follows everything that happens, [`Client::market_data`] books and trades; both go on over
//! lost connections and restarts, with nothing skipped and nothing twice. Everything else that the service
//! offers is at [`Client::exchange`].

pub mod access;
mod events;
mod gather;
mod market_data;
mod request;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::clock::{Clock, SystemClock};
use crate::config::BATCH_REQUESTS_MAX;
use crate::proto;
use crate::types::{AccountId, RequestId};

pub use crate::proto::answer::Outcome;
pub use crate::proto::exchange_client::ExchangeClient;
pub use access::{Access, Exchange, endpoint};
pub use events::Events;
pub use market_data::MarketData;
pub use request::{deposit, leg, swap};

use gather::{Item, Worker};

/// How a client behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Connections, at least 1. Requests take turns on them.
    pub connections: usize,
    /// Requests that may wait for each connection; whoever comes next waits for room.
    pub queue_requests_max: usize,
    /// Requests in one batch, 1 to 8,192.
    pub batch_requests_max: usize,
    /// How long [`Client::submit`] tries before it says that the outcome is not known.
    /// It is also how long [`Events`] and [`MarketData`] try to reach somebody.
    pub deadline: Duration,
    /// Who asks, and whom to trust.
    pub access: Access,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: 2,
            queue_requests_max: BATCH_REQUESTS_MAX,
            batch_requests_max: 1_024,
            deadline: Duration::from_secs(60),
            access: Access::default(),
        }
    }
}

/// Why a client has no answer.
#[derive(Clone, Debug, Error)]
pub enum ClientError {
    /// The address cannot be used.
    #[error("{0}")]
    Address(String),
    /// Nobody answers there, or not as a server of this kind does.
    #[error("the server cannot be reached: {0}")]
    Unavailable(String),
    /// The outcome of a request is not known. It may have happened or may still happen: submit the same
    /// request again, under the same id, or look the id up.
    #[error("the outcome is not known yet; submit the same request again, or look up its id")]
    OutcomeUnknown,
    /// A look-up was refused.
    #[error("{}", .0.detail)]
    Refused(Box<proto::Problem>),
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        match proto::rich::problem(&status) {
            Some(problem) => Self::Refused(Box::new(problem)),
            None => Self::Unavailable(status.to_string()),
        }
    }
}

/// A client of one server. Cheap to clone; every clone is the same. What was submitted is sent to its
/// end even if all of them are dropped, as long as the runtime lives.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    queues: Vec<mpsc::Sender<Item>>,
    channels: Vec<Channel>,
    next: AtomicUsize,
    deadline: Duration,
    access: Access,
    chance: RandomState,
    ids_made: AtomicU64,
}

impl Client {
    /// Connects to `grpc://HOST:PORT`, or over TLS to `grpcs://HOST:PORT`, with the default [`Options`]. Call it in a runtime.
    ///
    /// # Errors
    /// [`ClientError::Address`]; [`ClientError::Unavailable`] when nobody listens there.
    pub async fn connect(url: &str) -> Result<Self, ClientError> {
        Self::connect_with(url, &Options::default()).await
    }

    /// The same with options of one's own.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_with(url: &str, options: &Options) -> Result<Self, ClientError> {
        let endpoint = options.access.endpoint(url)?;
        let batch = options.batch_requests_max.clamp(1, BATCH_REQUESTS_MAX);
        let (mut queues, mut channels) = (Vec::new(), Vec::new());
        for _ in 0..options.connections.max(1) {
            let channel = endpoint.connect().await;
            let channel = channel.map_err(|error| ClientError::Unavailable(in_full(&error)))?;
            let (sender, queue) = mpsc::channel(options.queue_requests_max.max(1));
            tokio::spawn(Worker::new(options.access.exchange(channel.clone()), queue, batch).run());
            queues.push(sender);
            channels.push(channel);
        }
        Ok(Self(Arc::new(Inner {
            queues,
            channels,
            next: AtomicUsize::new(0),
            deadline: options.deadline,
            access: options.access.clone(),
            chance: RandomState::new(),
            ids_made: AtomicU64::new(0),
        })))
    }

    /// An id for a new request: of version 7, never made before.
    pub fn fresh_id(&self) -> RequestId {
        let number = self.0.ids_made.fetch_add(1, Ordering::Relaxed);
        let half = |which: u8| u128::from(self.0.chance.hash_one((number, which)));
        RequestId::v7(SystemClock.wall().millis(), half(0) << 64 | half(1))
    }

    /// Takes a request to its outcome: made by hand with assets by name, or of a [`crate::request::Request`].
    ///
    /// It needs an id of its own. The outcome is the same however often it is submitted.
    ///
    /// # Errors
    /// [`ClientError::OutcomeUnknown`] when the deadline passed first.
    pub async fn submit(&self, request: impl Into<proto::Request>) -> Result<Outcome, ClientError> {
        let (reply, outcome) = oneshot::channel();
        let item = Item { request: request.into(), reply };
        let inner = &*self.0;
        let turn = inner.next.fetch_add(1, Ordering::Relaxed) % inner.queues.len();
        let submit = async {
            inner.queues[turn].send(item).await.ok()?;
            outcome.await.ok()
        };
        let outcome = tokio::time::timeout(inner.deadline, submit).await;
        outcome.ok().flatten().ok_or(ClientError::OutcomeUnknown)
    }

    /// What is known of a request id.
    ///
    /// # Errors
    /// [`ClientError::Refused`] as `unknown_request`; [`ClientError::Unavailable`].
    pub async fn request(&self, id: RequestId) -> Result<proto::RequestState, ClientError> {
        let ask = proto::GetRequestRequest { request_id: proto::id_bytes(id) };
        told(self.exchange().get_request(ask).await)
    }

    /// The latest balances of an account, all from one snapshot.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for an unknown account; [`ClientError::Unavailable`].
    pub async fn balances(&self, account: AccountId) -> Result<proto::Balances, ClientError> {
        let ask = proto::GetBalancesRequest { account: account.get(), at: None };
        told(self.exchange().get_balances(ask).await)
    }

    /// A market's book, at most `depth` levels a side.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for an unknown market; [`ClientError::Unavailable`].
    pub async fn book(&self, market: &str, depth: u32) -> Result<proto::Book, ClientError> {
        let ask = proto::GetBookRequest { market: market.into(), depth: Some(depth) };
        told(self.exchange().get_book(ask).await)
    }

    /// The service itself, on one of the connections: every call there is, tried once.
    pub fn exchange(&self) -> Exchange {
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed) % self.0.channels.len();
        self.0.access.exchange(self.0.channels[turn].clone())
    }

    /// How long it tries before it says that it does not know.
    fn deadline(&self) -> Duration {
        self.0.deadline
    }
}

fn told<T>(answer: Result<Response<T>, Status>) -> Result<T, ClientError> {
    Ok(answer?.into_inner())
}

/// An error with its causes.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
