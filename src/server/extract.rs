//! What a handler takes out of an HTTP request: its body, and the id that it goes under.
//!
//! Axum's own extractors answer in plain text; these answer with a [`Problem`]. Bodies are bounded
//! one by one ([`BODY_BYTES_MAX`]), together ([`BODIES_KIB_MAX`]) and in time.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::BODY_BYTES_MAX;
use crate::error::Malformed;
use crate::types::RequestId;

use super::door::{Read, Visitor};
use super::json::{self, Object};
use super::log;
use super::problem::Problem;
use super::state::App;

/// Bodies in memory at once, all together, in KiB; beyond that, `overloaded`.
pub(super) const BODIES_KIB_MAX: u32 = 256 * 1024;
/// Longer bodies are not even read while there is no room for what may be in them, and are made sense
/// of off tokio's workers.
pub(super) const INLINE_BYTES_MAX: usize = 32 * 1024;
/// What is taken for a body before any of it has come.
const STEP_BYTES: usize = 64 * 1024;
/// How long a body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// Of a body that is too large, this much is read and dropped before it is refused: a client
/// that writes all of it before it reads would otherwise meet a reset and never see why.
const DISCARDED_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// The server as a handler has it: with the visitor whom the door let in. Where it let in nobody,
/// as the call is missing among those that have rights (`door::rights`), nobody is answered.
pub(super) struct State<T>(pub(super) T);

impl FromRequestParts<App> for State<App> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let visitor = parts.extensions.get::<Visitor>().cloned();
        let missing = || Problem::new("forbidden", "nobody has a right to this call");
        Ok(Self(app.visited_by(visitor.ok_or_else(missing)?)))
    }
}

/// A body, in memory.
pub(super) struct Taken {
    bytes: Vec<u8>,
    /// Gives the memory back to the other bodies.
    room: OwnedSemaphorePermit,
    /// The same, to those of whom it is not known either whether they have a key.
    unproven: Option<OwnedSemaphorePermit>,
}

impl Taken {
    /// Reads a body, within its limits.
    ///
    /// # Errors
    /// It is too large, too slow, or breaks off; there is no room for it.
    pub(super) async fn read(body: Body, app: &App) -> Result<Self, Problem> {
        Self::read_of(body, app, false).await
    }

    /// The same of who has not proved to have a key: all of these together have little room, so that they
    /// can keep nobody out who has.
    ///
    /// # Errors
    /// As [`Taken::read`].
    pub(super) async fn read_unproven(body: Body, app: &App) -> Result<Self, Problem> {
        Self::read_of(body, app, true).await
    }

    /// It is known now who sends it.
    pub(super) fn prove(&mut self) {
        self.unproven = None;
    }

    async fn read_of(body: Body, app: &App, is_unproven: bool) -> Result<Self, Problem> {
        // Without a length and without chunks there is no body.
        let announced = body.size_hint().exact();
        let announced = announced.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let first = announced.unwrap_or(BODY_BYTES_MAX).min(STEP_BYTES);
        let room = room_for(first, app.bodies())?;
        let unproven = is_unproven.then(|| room_for(first, app.unproven())).transpose()?;
        let is_large = announced.is_none_or(|bytes| bytes > INLINE_BYTES_MAX);
        if is_large && let Err(full) = app.engine().reserve(1).map(drop) {
            let _ = tokio::time::timeout(BODY_WAIT, discard(body)).await;
            return Err(full.into());
        }
        let mut taken = Self { bytes: Vec::new(), room, unproven };
        let reading = taken.fill(body, announced.unwrap_or(BODY_BYTES_MAX), app);
        tokio::time::timeout(BODY_WAIT, reading).await.map_err(|_| {
            let seconds = BODY_WAIT.as_secs();
            Problem::new("timeout", format!("the body did not arrive within {seconds} seconds"))
        })??;
        Ok(taken)
    }

    /// Reads a body of at most `announced` bytes.
    async fn fill(&mut self, mut body: Body, announced: usize, app: &App) -> Result<(), Problem> {
        let mut total = 0;
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let broken = |_| Problem::malformed("body", "broke off before its end");
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            total += data.len();
            if total > DISCARDED_BYTES_MAX {
                break;
            }
            if total <= BODY_BYTES_MAX {
                self.grow(total, announced, app)?;
                self.bytes.extend_from_slice(&data);
            } else {
                self.bytes = Vec::new();
            }
        }
        if total > BODY_BYTES_MAX {
            let detail =
                format!("the body is larger than {BODY_BYTES_MAX} bytes; send less at a time");
            return Err(Problem::new("body_too_large", detail).at("body"));
        }
        Ok(())
    }

    /// Makes room for what has come: who announces much and sends nothing keeps nobody else out.
    fn grow(&mut self, total: usize, announced: usize, app: &App) -> Result<(), Problem> {
        if total <= self.bytes.capacity() {
            return Ok(());
        }
        let most = announced.min(BODY_BYTES_MAX);
        let capacity = (self.bytes.capacity() * 2).max(STEP_BYTES).min(most).max(total);
        let missing = (capacity.div_ceil(1024)).saturating_sub(self.room.num_permits());
        if let Some(unproven) = &mut self.unproven {
            unproven.merge(room_for(missing * 1024, app.unproven())?);
        }
        self.room.merge(room_for(missing * 1024, app.bodies())?);
        self.bytes.reserve_exact(capacity - self.bytes.len());
        Ok(())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A JSON body, in memory.
pub(super) struct JsonBody {
    text: String,
    /// Gives the memory back to the other bodies.
    _room: OwnedSemaphorePermit,
}

impl JsonBody {
    /// The body as an object; an empty body has no fields.
    ///
    /// # Errors
    /// Where it is not JSON, or what it is instead of an object.
    pub(super) fn object(&self) -> Result<Object<'_>, Problem> {
        Ok(Object::parse(&self.text)?)
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }
}

impl FromRequest<App> for JsonBody {
    type Rejection = Problem;

    async fn from_request(mut request: Request, app: &App) -> Result<Self, Problem> {
        let declared = is_json(request.headers());
        // Of a signed request the door has read it.
        let read = request.extensions_mut().remove::<Read>().and_then(|read| read.take());
        let Taken { bytes, room, .. } = match read {
            Some(taken) => taken,
            None => Taken::read(request.into_body(), app).await?,
        };
        if !declared && !bytes.is_empty() {
            let detail = "send the body with the header `Content-Type: application/json`";
            return Err(Problem::new("unsupported_media_type", detail));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| Problem::malformed("body", "is not valid JSON: it is not UTF-8"))?;
        Ok(Self { text, _room: room })
    }
}

/// A page of another site can send forms and plain text here from a visitor's browser, but not
/// JSON declared as such, unless we allow it.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

fn room_for(bytes: usize, of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    let kib = bytes.min(BODY_BYTES_MAX).div_ceil(1024);
    let kib = u32::try_from(kib).expect("a body's limit is small");
    Arc::clone(of).try_acquire_many_owned(kib).map_err(|_| {
        let detail =
            "overloaded: too many bytes of bodies are in memory; nothing was taken, try again";
        Problem::new("overloaded", detail)
    })
}

/// Reads a body for nobody: a client that writes all of it before it reads would otherwise meet a
/// reset.
async fn discard(mut body: Body) {
    let mut total = 0;
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        total += frame.data_ref().map_or(0, Bytes::len);
        if total > DISCARDED_BYTES_MAX {
            break;
        }
    }
}

/// The `Idempotency-Key` header, if there is one: a request id, in quotes or not. What is wrong
/// with it is said only after the body was read: who is answered before that, and still writes,
/// loses the connection.
pub(super) struct Key(pub(super) Result<Option<RequestId>, Malformed>);

pub(super) const KEY: &str = "idempotency-key";

impl FromRequestParts<App> for Key {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(Self(read_key(&parts.headers)))
    }
}

fn read_key(headers: &HeaderMap) -> Result<Option<RequestId>, Malformed> {
    let mut keys = headers.get_all(KEY).iter();
    let Some(first) = keys.next() else { return Ok(None) };
    if keys.next().is_some() {
        return Err(Malformed::new("Idempotency-Key", "is given twice"));
    }
    let text = first.to_str().unwrap_or_default().trim();
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    bare.parse().map(Some).map_err(|why: String| Malformed::new("Idempotency-Key", why))
}

impl Key {
    /// The id under which a request is sent: in the body or the header; if in both, the same.
    ///
    /// # Errors
    /// The two differ, or one of them is no id.
    pub(super) fn or_body(self, body: &mut Object<'_>) -> Result<Option<RequestId>, Malformed> {
        let id = match (self.0?, body.optional("request_id", json::request_id)?) {
            (Some(header), Some(body)) if header != body => {
                let why = "differs from the Idempotency-Key header; give one of them";
                return Err(Malformed::new("request_id", why));
            }
            (header, body) => body.or(header),
        };
        id.into_iter().for_each(log::of_request);
        Ok(id)
    }

    /// The same, where an id must be given.
    ///
    /// # Errors
    /// Also when there is none.
    pub(super) fn required(self, body: &mut Object<'_>) -> Result<RequestId, Malformed> {
        self.or_body(body)?.ok_or_else(|| {
            let why = "is missing; give a UUID, best of version 7, here or as Idempotency-Key";
            Malformed::new("request_id", why)
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_json_is_json() {
        for (kind, json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("application/jsonp", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(is_json(&headers), json, "{kind}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn an_id_comes_from_the_body_or_the_header_but_not_from_both() {
        let one = "018bcfe5-687b-7000-8000-000000000001";
        let body = format!(r#"{{"request_id": "{one}"}}"#);
        let id: RequestId = one.parse().expect("an id");
        let other = RequestId::new(2);
        let read = |key, body: &str| Key(Ok(key)).required(&mut Object::parse(body).expect("json"));
        assert_eq!(read(None, &body), Ok(id));
        assert_eq!(read(Some(id), &body), Ok(id));
        assert_eq!(read(Some(other), "{}"), Ok(other));
        assert!(read(Some(other), &body).expect_err("two ids").why.contains("differs"));
        assert!(read(None, "{}").expect_err("no id").why.contains("missing"));
        assert!(read(None, r#"{"request_id": "abc"}"#).is_err());
    }
}
