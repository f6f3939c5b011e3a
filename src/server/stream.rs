//! `GET /v1/stream`: market data over a WebSocket.
//!
//! ```text
//! client ─► {"subscribe": [...], "unsubscribe": [...]} ─► session ─► snapshot, update, trades, error
//!                                                           ▲
//!                                            a bell: there is news on a tape
//! ```
//!
//! A session has no queue. When the bell rings, or the client has taken what came before, it tells what
//! has changed since it last did: of books merged, of trades each. Who takes nothing for
//! [`STREAM_SEND_MS_MAX`], answers no ping, or is too far behind to be told of every trade is cut.

mod following;
mod subscription;

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::{interval, timeout};

use crate::config::{
    STREAM_CLOSE_MS_MAX, STREAM_DEPTH_MAX, STREAM_KEEP_ALIVE_MS, STREAM_MESSAGE_BYTES_MAX,
    STREAM_SEND_MS_MAX,
};
use crate::error::{Error, Malformed};

use super::door::SOCKET_PROTOCOL;
use super::extract::State;
use super::json::{self, Object, Value, within};
use super::problem::Problem;
use super::query::Query;
use super::state::App;
use super::streams::Slot;

pub(super) use following::{ENTRIES_MAX, Entry, Following, Read, Subscriber};
pub(super) use subscription::{Book, Channel, Cut, Said};

/// Pings that may go unanswered before a client is taken for gone.
const PINGS_UNANSWERED_MAX: u32 = 3;

/// Switches to the WebSocket protocol.
pub(super) async fn get(
    State(app): State<App>,
    query: Query,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    query.finish()?;
    if app.visitor().key().is_none() && is_of_another_page(&headers) {
        let why = "pages of other origins need a key: crosslatch.bearer.TOKEN among the protocols";
        return Err(Problem::new("forbidden", why));
    }
    let upgrade = upgrade.map_err(|rejection| {
        let response = rejection.into_response();
        let why = match response.status() {
            StatusCode::UPGRADE_REQUIRED => "is not offered: the connection cannot be upgraded",
            _ => "is missing or wrong: this path speaks the WebSocket protocol, version 13",
        };
        Problem::malformed("Upgrade", why)
    })?;
    let slot = app.streams().open_market_data()?;
    let upgrade = upgrade.protocols([SOCKET_PROTOCOL]);
    let upgrade = upgrade.max_message_size(STREAM_MESSAGE_BYTES_MAX);
    let upgrade = upgrade.max_frame_size(STREAM_MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| Session::new(app, socket, slot).run()))
}

/// Whether a browser opens it for a page that is not this server's: any page that somebody on this machine
/// looks at could, and unlike with other requests no browser stops it.
fn is_of_another_page(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let page = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    page.map(|(_, page)| page) != host || host.is_none()
}

/// One connection.
struct Session {
    following: Following,
    wire: Wire,
    /// Pings since the client was last heard.
    unanswered: u32,
}

/// Where a client is spoken to.
struct Wire {
    app: App,
    socket: WebSocket,
    slot: Slot,
}

/// What is wrong with a part of what a client said; the connection stays.
#[derive(Serialize)]
struct ErrorBody {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    problem: Problem,
}

#[derive(Serialize)]
struct UnsubscribedBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    channel: &'static str,
    market: &'a str,
}

impl Session {
    fn new(app: App, socket: WebSocket, slot: Slot) -> Self {
        let following = Following::new(app.clone());
        Self { following, wire: Wire { app, socket, slot }, unanswered: 0 }
    }

    /// The session's life, and its last word.
    async fn run(mut self) {
        let Err(cut) = self.speak().await;
        if cut.is_of_slow() {
            self.wire.slot.metrics.dropped();
        }
        let Some((code, reason)) = cut.word() else { return };
        let frame = CloseFrame { code, reason: reason.into() };
        // Who is cut may not read any more. Who does answers, and is then gone: a connection that is
        // dropped before would take the last word with it.
        let socket = &mut self.wire.socket;
        let part = async {
            let _ = socket.send(Message::Close(Some(frame))).await;
            while let Some(Ok(_)) = socket.recv().await {}
        };
        let _ = timeout(Duration::from_millis(STREAM_CLOSE_MS_MAX), part).await;
    }

    async fn speak(&mut self) -> Result<std::convert::Infallible, Cut> {
        let mut beat = interval(Duration::from_millis(STREAM_KEEP_ALIVE_MS));
        beat.tick().await;
        loop {
            tokio::select! {
                heard = self.wire.socket.recv() => self.on_heard(heard).await?,
                () = self.following.rung() => self.following.tell(&mut self.wire).await?,
                _ = beat.tick() => self.ping().await?,
                () = self.wire.app.stopping() => return Err(self.following.stopped()),
            }
        }
    }

    async fn on_heard(&mut self, heard: Option<Result<Message, axum::Error>>) -> Result<(), Cut> {
        self.unanswered = 0;
        match heard {
            None | Some(Ok(Message::Close(_))) => Err(Cut::Gone),
            Some(Err(error)) => Err(Cut::Broken(error.to_string())),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Binary(_))) => {
                let problem = Problem::malformed("message", "is binary; send JSON as text");
                self.wire.refused(problem).await
            }
            Some(Ok(Message::Text(text))) => match request(text.as_str()) {
                Ok((leave, join)) => self.following.change(leave, join, &mut self.wire).await,
                Err(problem) => self.wire.refused(problem).await,
            },
        }
    }

    async fn ping(&mut self) -> Result<(), Cut> {
        self.wire.app.still().map_err(Cut::Refused)?;
        if self.unanswered >= PINGS_UNANSWERED_MAX {
            return Err(Cut::Silent);
        }
        self.unanswered += 1;
        self.wire.send(Message::Ping(axum::body::Bytes::new())).await
    }
}

impl Subscriber for Wire {
    async fn said(&mut self, said: Said) -> Result<(), Cut> {
        let failed = |problem: Problem| Cut::Failed(Error::Storage(problem.code().into()));
        let text = said.json(&self.app).await.map_err(failed)?;
        self.send(Message::text(text)).await
    }

    async fn unsubscribed(&mut self, channel: Channel, market: &str) -> Result<(), Cut> {
        let channel = channel.name();
        self.say(&UnsubscribedBody { kind: "unsubscribed", channel, market }).await
    }

    async fn refused(&mut self, problem: Problem) -> Result<(), Cut> {
        self.say(&ErrorBody { kind: "error", problem }).await
    }
}

impl Wire {
    async fn say(&mut self, body: &impl Serialize) -> Result<(), Cut> {
        let text = serde_json::to_string(body).expect("plain members always serialize");
        self.send(Message::text(text)).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Cut> {
        match timeout(Duration::from_millis(STREAM_SEND_MS_MAX), self.socket.send(message)).await {
            Ok(sent) => sent.map_err(|error| Cut::Broken(error.to_string()))?,
            Err(_) => return Err(Cut::Slow),
        }
        self.slot.metrics.sent(1);
        Ok(())
    }
}

impl Cut {
    /// Whether the client could have followed, had it been quicker.
    pub(super) const fn is_of_slow(&self) -> bool {
        matches!(self, Self::Slow | Self::MissedTrades(_))
    }

    /// Code and reason of the close frame; `None` where nobody would hear it.
    fn word(self) -> Option<(u16, String)> {
        match self {
            Self::Gone | Self::Slow => None,
            Self::Stopping => Some((close_code::AWAY, "the server stops".into())),
            Self::Refused(problem) => Some((close_code::POLICY, shortened(problem.code().into()))),
            Self::Silent => Some((close_code::POLICY, "no ping was answered".into())),
            Self::Broken(why) => {
                let size = why.contains("too long") || why.contains("too big");
                let code = if size { close_code::SIZE } else { close_code::PROTOCOL };
                Some((code, shortened(why)))
            }
            Self::MissedTrades(market) => Some((
                close_code::POLICY,
                shortened(format!("too slow: trades of {market} were missed")),
            )),
            Self::Failed(error) => Some((close_code::ERROR, shortened(error.to_string()))),
        }
    }
}

/// A close frame has room for 123 bytes.
fn shortened(mut text: String) -> String {
    let end = (0..=120).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    if end < text.len() {
        text.truncate(end);
    }
    text
}

/// `{"unsubscribe": [{channel, market}], "subscribe": [{channel, market, depth?}]}`.
fn request(text: &str) -> Result<(Vec<Read>, Vec<Read>), Problem> {
    if text.is_empty() {
        return Err(Problem::malformed("message", "is empty"));
    }
    let object = Object::parse(text);
    let mut object = object.map_err(|not| Problem::malformed("message", not.why))?;
    let mut entries = |field: &str| -> Result<Vec<Read>, Problem> {
        let values = object.optional(field, json::list)?.unwrap_or_default();
        if values.len() > ENTRIES_MAX {
            let why = format!("has more than {ENTRIES_MAX} entries");
            return Err(Problem::malformed(field, why));
        }
        let read = |(index, value): (usize, Value<'_>)| {
            let entry = entry(value);
            Ok(entry.map_err(|wrong| within(format_args!("{field}[{index}]"), wrong))?)
        };
        Ok(values.into_iter().enumerate().map(read).collect())
    };
    let lists = (entries("unsubscribe")?, entries("subscribe")?);
    object.finish()?;
    if lists.0.is_empty() && lists.1.is_empty() {
        return Err(Problem::malformed("subscribe", "and unsubscribe are missing or empty"));
    }
    Ok(lists)
}

fn entry(value: Value<'_>) -> Result<Entry, Malformed> {
    let mut object = Object::of(value).map_err(|why| Malformed::new("", why))?;
    let channel = object.required("channel", |value| match &*json::text(value)? {
        "book" => Ok(Channel::Book { depth: None }),
        "trades" => Ok(Channel::Trades),
        _ => Err("is neither \"book\" nor \"trades\"".into()),
    })?;
    let market = object.required("market", |value| {
        let name = json::text(value)?;
        json::name_from(&name).map(str::to_owned)
    })?;
    let depth = object.optional("depth", |value| match (channel, json::number(value)?) {
        (Channel::Trades, _) => Err("is for channel book".into()),
        (Channel::Book { .. }, depth @ 1..=STREAM_DEPTH_MAX) => Ok(depth as usize),
        _ => Err(format!("is not 1 to {STREAM_DEPTH_MAX}; leave it out for the whole book")),
    })?;
    object.finish()?;
    let channel = match channel {
        Channel::Book { .. } => Channel::Book { depth },
        Channel::Trades => Channel::Trades,
    };
    Ok(Entry { channel, market })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_part_by_part() {
        let text = r#"{"subscribe": [{"channel": "book", "market": "A-B", "depth": 5},
            {"channel": "trades", "market": "A-B", "depth": 5}, {"channel": "x", "market": "A"},
            {"market": "A"}, {"channel": "book", "market": "A-B", "depth": 1001}, 7]}"#;
        let (unsubscribe, subscribe) = request(text).expect("an object");
        assert!(unsubscribe.is_empty());
        let read = subscribe.iter().map(|read| match read {
            Ok(Entry { channel, market }) => format!("{channel:?} {market}"),
            Err(problem) => {
                let body = serde_json::to_value(problem).expect("plain members");
                body["field"].as_str().expect("a field").to_owned()
            }
        });
        let read: Vec<String> = read.collect();
        assert_eq!(
            read,
            [
                "Book { depth: Some(5) } A-B",
                "subscribe[1].depth",
                "subscribe[2].channel",
                "subscribe[3].channel",
                "subscribe[4].depth",
                "subscribe[5]"
            ]
        );
        for wrong in
            ["", "[]", "{", "{}", "{\"subscribe\": []}", "{\"subscribe\": 1}", "{\"x\": 1}"]
        {
            assert!(request(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pages_of_others_are_told_from_our_own() {
        let of = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, axum::http::HeaderValue::from_static(value));
            }
            is_of_another_page(&map)
        };
        const HOST: (&str, &str) = ("host", "localhost:7400");
        assert!(!of(&[HOST]), "no browser");
        assert!(!of(&[HOST, ("origin", "http://localhost:7400")]));
        for other in ["http://evil.example", "http://localhost:7401", "null", "localhost:7400"] {
            assert!(of(&[HOST, ("origin", other)]), "{other}");
        }
        assert!(of(&[("origin", "http://localhost:7400")]), "which host is not known");
    }

    #[test]
    fn a_reason_fits_its_frame() {
        let long = Cut::Failed(Error::Storage("ü".repeat(200))).word().expect("it is said");
        assert!(long.1.len() <= 123 && !long.1.is_empty());
    }
}
