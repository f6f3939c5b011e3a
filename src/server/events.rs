//! `GET /v1/events`: everything durable, in order, as server-sent events.
//!
//! A piece of the body is the text of a turn's events (`follow`): each event's `id` is its seq, so a client
//! that comes back names the last one that it has seen. With `follow=false` a stream ends with what was
//! durable when it began, and says so: one that breaks off before does not.

use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::directory::Directory;
use crate::engine::Event;
use crate::error::Malformed;
use crate::request::{Command, Hold, Purpose, Transfer, Write as Written};
use crate::types::{AccountId, Amount, CommitSeq, Leg};

use super::bytes;
use super::extract::State;
use super::follow::{Filter, Place, Wording, follow, kind_from};
use super::json;
use super::problem::Problem;
use super::query::Query;
use super::receipt::{ReceiptBody, asset_name, rfc_3339};
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

/// As server-sent events.
struct Sse;

impl Wording for Sse {
    type Piece = Bytes;

    fn events(events: Vec<Event>, directory: &Directory) -> Vec<Bytes> {
        let mut text = Vec::new();
        events.into_iter().for_each(|event| write(&mut text, event, directory));
        vec![text.into()]
    }

    fn place(place: Place, seq: CommitSeq) -> Bytes {
        let kind = match place {
            Place::Progress => "progress",
            Place::End => "end",
            Place::Quiet => return Bytes::from_static(b": nothing new\n\n"),
        };
        format!("id: {seq}\nevent: {kind}\ndata: {{\"seq\":\"{seq}\"}}\n\n").into()
    }

    fn failed(problem: &Problem) -> Bytes {
        error(problem).into()
    }

    fn stopped() -> Option<Bytes> {
        None
    }
}

/// `?after=&account=&market=&kind=&follow=`, and `Last-Event-ID`, which stands over `after`.
pub(super) async fn get(
    State(app): State<App>,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, Problem> {
    let after = query.seq("after")?;
    let account = query.optional("account", json::number_from)?.map(AccountId::new);
    let kind = query.optional("kind", kind_from)?;
    let market = query.optional("market", |name| json::name_from(name).map(str::to_owned))?;
    let filter = Filter::new(&app, account, market, kind)?;
    let follows = query.optional("follow", |text| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("is neither true nor false".into()),
    })?;
    query.finish()?;
    let after = last_event_id(&headers)?.or(after).unwrap_or_default();
    let pieces = follow::<Sse>(app, after, filter, follows.unwrap_or(true)).await?;
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
