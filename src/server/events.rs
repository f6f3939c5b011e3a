//! `GET /v1/events`: everything durable, in order, as server-sent events.
//!
//! ```text
//! Events ─► turn (bounded, on a blocking thread) ─► one piece of text ─► socket
//!   ▲                                                                      │
//!   └────────────── the next turn, when the piece before is taken ◄────────┘
//! ```
//!
//! The socket sets the pace: a piece is made when there is room for it, so a client that reads slowly has
//! its own past read later, and nothing else happens. One that reads nothing is cut by the listener,
//! and one that comes back goes on after the last `id` that it has seen. With `follow=false` a stream ends
//! with what was durable when it began, and says so: one that breaks off before does not.
//!
//! A key that is bound to accounts is told what touched these, and what it asked for itself; of the rest
//! it hears how far the stream has come. A key that is revoked meanwhile hears that, and no more.

use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use crate::config::{
    STREAM_KEEP_ALIVE_MS, STREAM_PROGRESS_EVENTS, STREAM_TURN_BYTES_MAX, STREAM_TURN_EVENTS_MAX,
};
use crate::directory::Directory;
use crate::engine::{Event, Events};
use crate::error::{Error, Malformed};
use crate::request::{Command, Hold, Purpose, Transfer, Write as Written};
use crate::types::{AccountId, Amount, CommitSeq, Leg, MarketId};

use super::bytes;
use super::extract::State;
use super::json;
use super::problem::Problem;
use super::query::Query;
use super::receipt::{ReceiptBody, asset_name, rfc_3339};
use super::sight;
use super::state::App;

/// An event as it is shown: the receipt, its kind, and what a receipt leaves to whoever has the request.
#[derive(Serialize)]
struct EventBody {
    kind: &'static str,
    #[serde(flatten)]
    receipt: ReceiptBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<HoldBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writes: Option<Vec<WriteBody>>,
}

/// The hold that was made or ended, whole.
#[derive(Serialize)]
struct HoldBody {
    /// The commit_seq that made it.
    since: String,
    /// A withdrawal's has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(flatten)]
    what: HeldBody,
}

#[derive(Serialize)]
#[serde(untagged)]
enum HeldBody {
    Swap { exclusive: bool, legs: Vec<LegBody> },
    Withdrawal { account: AccountId, asset: Box<str>, amount: Amount },
}

#[derive(Serialize)]
struct LegBody {
    from: AccountId,
    to: AccountId,
    asset: Box<str>,
    amount: Amount,
}

/// What a transaction wrote; both are base64, and no value deletes.
#[derive(Serialize)]
struct WriteBody {
    key: String,
    value: Option<String>,
}

impl EventBody {
    fn new(event: Event, directory: &Directory) -> Self {
        let kind = event.kind();
        let writes = match &event.receipt.command {
            Command::Transact(transact) => Some(transact.writes.iter().map(WriteBody::new)),
            _ => None,
        };
        Self {
            kind,
            writes: writes.map(Iterator::collect),
            hold: event.hold.as_deref().map(|hold| HoldBody::new(hold, directory)),
            receipt: ReceiptBody::new(event.receipt, directory),
        }
    }
}

impl HoldBody {
    fn new(hold: &Hold, directory: &Directory) -> Self {
        let is_of_swap = matches!(hold.purpose, Purpose::Swap(_));
        let what = match &hold.purpose {
            Purpose::Swap(swap) => {
                let leg = |leg: &Leg| LegBody {
                    from: leg.from,
                    to: leg.to,
                    asset: asset_name(leg.asset, directory),
                    amount: leg.amount,
                };
                let legs = swap.legs().iter().map(leg).collect();
                HeldBody::Swap { exclusive: hold.exclusive, legs }
            }
            Purpose::Withdrawal(Transfer { account, asset, amount, .. }) => HeldBody::Withdrawal {
                account: *account,
                asset: asset_name(*asset, directory),
                amount: *amount,
            },
        };
        let expires_at = is_of_swap.then(|| rfc_3339(hold.expires_at));
        Self { since: hold.since.to_string(), expires_at, what }
    }
}

impl WriteBody {
    fn new(write: &Written) -> Self {
        let value = write.value.as_deref().map(bytes::shown);
        Self { key: bytes::shown(write.key.bytes()), value }
    }
}

/// Which events a client wants.
#[derive(Clone, Debug, Default)]
struct Filter {
    account: Option<AccountId>,
    market: Option<(MarketId, String)>,
    kind: Option<&'static str>,
}

impl Filter {
    fn read(query: &mut Query, directory: &Directory) -> Result<Self, Problem> {
        let account = query.optional("account", json::number_from)?.map(AccountId::new);
        let kind = query.optional("kind", |text| {
            let known = Command::KINDS.into_iter().find(|kind| *kind == text);
            known.ok_or_else(|| format!("is none of {}", Command::KINDS.join(", ")))
        })?;
        let name = query.optional("market", |name| json::name_from(name).map(str::to_owned))?;
        let market = name.map(|name| match directory.market_by_name(&name) {
            Some(market) => Ok((market, name)),
            None => Err(Problem::unknown_market(&name)),
        });
        Ok(Self { account, market: market.transpose()?, kind })
    }

    fn is_of_all(&self) -> bool {
        self.account.is_none() && self.market.is_none() && self.kind.is_none()
    }

    fn wants(&self, event: &Event) -> bool {
        let of_market = |(market, name): &(MarketId, String)| match &event.receipt.command {
            Command::PutMarket(spec) => *spec.name == **name,
            _ => event.market() == Some(*market),
        };
        self.kind.is_none_or(|kind| kind == event.kind())
            && self.account.is_none_or(|account| event.accounts().contains(&account))
            && self.market.as_ref().is_none_or(of_market)
    }
}

/// `?after=&account=&market=&kind=&follow=`, and `Last-Event-ID`, which stands over `after`.
pub(super) async fn get(
    State(app): State<App>,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, Problem> {
    let after = query.seq("after")?;
    let filter = Filter::read(&mut query, app.engine().directory())?;
    if let Some(account) = filter.account {
        sight::check(app.visitor(), account)?;
    }
    let follows = query.optional("follow", |text| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("is neither true nor false".into()),
    })?;
    query.finish()?;
    let after = last_event_id(&headers)?.or(after).unwrap_or_default();
    let slot = app.streams().open_events()?;
    let events = app.engine().events(after)?;
    let until = (follows == Some(false)).then(|| app.engine().status().durable_seq);
    let (events, told) = (Some(events), after);
    let mut stream = EventStream { app, events, filter, until, told, is_over: false, _slot: slot };
    // What cannot be told at all is a plain refusal.
    let first = stream.turn().await?;
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(stream.run(first, sender));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        // Proxies that gather what passes through them would keep it from the client.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(Pieces(pieces))).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<CommitSeq>, Malformed> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let seq = value.to_str().map_err(|_| "is no text".into()).and_then(json::number_from);
    let seq = seq.map_err(|why| Malformed::new("Last-Event-ID", why))?;
    Ok(Some(CommitSeq::new(seq)))
}

/// The pieces of a body, as they are made.
struct Pieces(mpsc::Receiver<Bytes>);

impl Stream for Pieces {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|piece| piece.map(Ok))
    }
}

/// One client's stream.
struct EventStream {
    app: App,
    /// Away while a turn lasts.
    events: Option<Events>,
    filter: Filter,
    /// Where it ends.
    until: Option<CommitSeq>,
    /// The last seq that the client was told.
    told: CommitSeq,
    /// Whether it has said that it ends.
    is_over: bool,
    _slot: OwnedSemaphorePermit,
}

/// What a turn came to.
struct Turn {
    text: Vec<u8>,
    /// Whether it reached what was durable.
    is_at_end: bool,
}

/// What a stream says next.
enum Next {
    Say(Vec<u8>),
    /// The last thing that it says.
    Fail(Vec<u8>),
    End,
}

impl EventStream {
    /// Speaks until the client is gone, the server stops, or nothing more can come.
    async fn run(mut self, first: Turn, sender: mpsc::Sender<Bytes>) {
        let mut turn = Some(first);
        loop {
            let room = tokio::select! {
                room = sender.reserve() => room,
                () = self.app.stopping() => return,
            };
            let Ok(room) = room else { return };
            let next = tokio::select! {
                next = self.next(turn.take()) => next,
                () = sender.closed() => return,
            };
            match next {
                Next::Say(text) => room.send(text.into()),
                Next::Fail(text) => return room.send(text.into()),
                Next::End => return,
            }
        }
    }

    /// Waits for something to say.
    async fn next(&mut self, mut first: Option<Turn>) -> Next {
        loop {
            if self.is_over {
                return Next::End;
            }
            if self.app.is_stopping() {
                return self.stop();
            }
            if let Err(problem) = self.app.still() {
                return Next::Fail(error(&problem));
            }
            let turn = match first.take() {
                Some(turn) => turn,
                None => match self.turn().await {
                    Ok(turn) => turn,
                    Err(problem) => return Next::Fail(error(&problem)),
                },
            };
            if !turn.text.is_empty() {
                return Next::Say(turn.text);
            }
            if self.until.is_some_and(|until| self.seq() >= until) {
                self.is_over = true;
                return Next::Say(self.place("end"));
            }
            let untold = self.seq().get() - self.told.get();
            if untold >= STREAM_PROGRESS_EVENTS {
                return Next::Say(self.place("progress"));
            }
            if turn.is_at_end
                && let Some(next) = self.wait().await
            {
                return next;
            }
        }
    }

    /// Waits for news; says so itself if none come.
    async fn wait(&mut self) -> Option<Next> {
        let events = self.events.as_mut().expect("no turn lasts");
        let quiet = Duration::from_millis(STREAM_KEEP_ALIVE_MS);
        let news = async {
            tokio::select! {
                biased;
                news = events.news() => news.is_ok(),
                () = self.app.stopping() => false,
            }
        };
        match timeout(quiet, news).await {
            Ok(true) => None,
            Ok(false) => Some(self.stop()),
            Err(_) => Some(Next::Say(match self.seq() > self.told {
                true => self.place("progress"),
                false => b": nothing new\n\n".to_vec(),
            })),
        }
    }

    /// Engine or server have ended: of that it tells only if they were not asked to.
    fn stop(&self) -> Next {
        match self.app.engine().stopped() {
            Some(cause) => Next::Fail(error(&Error::Stopped { cause }.into())),
            None => Next::End,
        }
    }

    /// How far the stream has come.
    fn seq(&self) -> CommitSeq {
        let read = self.events.as_ref().map_or(self.told, Events::seq);
        // What was read beyond the end is not told.
        self.until.map_or(read, |until| until.max(self.told).min(read))
    }

    /// Says how far it has come.
    fn place(&mut self, kind: &str) -> Vec<u8> {
        self.told = self.seq();
        let seq = self.told;
        format!("id: {seq}\nevent: {kind}\ndata: {{\"seq\":\"{seq}\"}}\n\n").into_bytes()
    }

    /// Reads on, and writes what the client wants of it.
    async fn turn(&mut self) -> Result<Turn, Problem> {
        let mut events = self.events.take().expect("one turn at a time");
        let (app, filter, until) = (self.app.clone(), self.filter.clone(), self.until);
        let visitor = app.clone();
        let wants = move |event: &Event| {
            until.is_none_or(|until| event.seq() <= until)
                && filter.wants(event)
                && sight::sees_event(visitor.visitor(), event)
        };
        let work = move || {
            let found = events.take(STREAM_TURN_EVENTS_MAX, STREAM_TURN_BYTES_MAX);
            let turn = found.map(|found| {
                let is_at_end = events.seq() >= app.engine().status().durable_seq;
                let mut text = Vec::new();
                let mut last = None;
                for event in found.into_iter().filter(wants) {
                    last = Some(event.seq());
                    write(&mut text, event, app.engine().directory());
                }
                (Turn { text, is_at_end }, last)
            });
            (events, turn)
        };
        let (events, turn) = self.app.streams().turn(work).await?;
        self.events = Some(events);
        let (turn, last) = turn?;
        self.told = last.unwrap_or(self.told);
        // Without a filter everything read is told, to who sees everything.
        let is_all = self.filter.is_of_all() && self.app.visitor().sees_all();
        assert!(!is_all || self.told == self.seq(), "an event was left out");
        Ok(turn)
    }
}

fn write(text: &mut Vec<u8>, event: Event, directory: &Directory) {
    let (seq, kind) = (event.seq(), event.kind());
    let body = EventBody::new(event, directory);
    write!(text, "id: {seq}\nevent: {kind}\ndata: ").expect("memory takes everything");
    serde_json::to_writer(&mut *text, &body).expect("plain members always serialize");
    text.extend_from_slice(b"\n\n");
}

fn error(problem: &Problem) -> Vec<u8> {
    let body = serde_json::to_string(problem).expect("plain members always serialize");
    format!("event: error\ndata: {body}\n\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", value.parse().expect("a header's value"));
        headers
    }

    #[test]
    fn the_last_event_is_a_seq() {
        assert_eq!(last_event_id(&HeaderMap::new()), Ok(None));
        assert_eq!(last_event_id(&headers("17")), Ok(Some(CommitSeq::new(17))));
        for wrong in ["", "-1", "x", "1 2"] {
            let refused = last_event_id(&headers(wrong)).expect_err(wrong);
            assert_eq!(refused.field, "Last-Event-ID");
        }
    }

    #[test]
    fn a_failure_is_one_event() {
        let text = error(&Problem::new("stopped", "because"));
        let text = String::from_utf8(text).expect("text");
        assert!(
            text.starts_with("event: error\ndata: {\"status\":\"failed\",\"code\":\"stopped\"")
        );
        assert!(text.ends_with("}\n\n") && text.lines().count() == 3, "{text}");
    }
}
