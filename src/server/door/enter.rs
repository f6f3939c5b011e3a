//! The door in HTTP: which credentials a request shows, and what is answered to who does not get in.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::access::signature::{
    BodyHash, KEY_HEADER, SIGNATURE_HEADER, Signed, TIMESTAMP_HEADER, body_hash,
};
use crate::directory::Issued;

use super::super::connections::Peer;
use super::super::extract::{self, INLINE_BYTES_MAX, Taken};
use super::super::problem::Problem;
use super::super::state::{App, blocking};
use super::rights::Need;
use super::{Refused, Visitor};

/// What a WebSocket's client may offer as a protocol: that which is spoken, and beside it its token, as a
/// browser can send no header.
pub(in crate::server) const SOCKET_PROTOCOL: &str = "crosslatch.v1";
const SOCKET_BEARER: &str = "crosslatch.bearer.";
/// What a caller without credentials is told to show.
const CHALLENGE: &str = "Bearer realm=\"crosslatch\"";

/// A body that was read at the door, as its signature had to be checked; for the handler to take.
#[derive(Clone)]
pub(in crate::server) struct Read(Arc<Mutex<Option<Taken>>>);

impl Read {
    /// The body, once.
    pub(in crate::server) fn take(&self) -> Option<Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Lets a request in to its handler, which needs that, or answers it.
pub(in crate::server) async fn enter(
    State((app, need)): State<(App, Need)>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = *request.extensions().get::<Peer>().expect("every connection says where it is from");
    match admit(&app, &mut request, need, &peer).await {
        Ok((visitor, _in_flight)) => {
            request.extensions_mut().insert(visitor);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

type Admitted = (Visitor, Option<super::InFlight>);

async fn admit(
    app: &App,
    request: &mut Request,
    need: Need,
    peer: &Peer,
) -> Result<Admitted, Problem> {
    let door = app.door();
    if door.is_open_to_all(need) {
        return Ok((Visitor::ANYBODY, None));
    }
    let told = |refused: Refused| {
        door.count(&refused);
        Problem::from(refused)
    };
    let directory = app.engine().directory();
    if directory.keys_len() == 0 {
        // The server listens on loopback only then.
        if peer.address.ip().to_canonical().is_loopback() {
            return Ok((Visitor::TRUSTED, None));
        }
        return Err(told(Refused::Unauthenticated("there are no keys yet".into())));
    }
    let (issued, may_be_replayed) = match shown(request.headers()) {
        Shown::Bearer(token) => (door.bearer(&token, peer, directory).map_err(told)?, false),
        Shown::Signature(shown) => signed(app, request, &shown, peer, told).await?,
        Shown::Nothing => {
            let why = "give a key: a header `Authorization: Bearer TOKEN`, or a signature";
            return Err(told(door.failed(peer, why.into())));
        }
        Shown::Unclear(why) => return Err(told(door.failed(peer, why.into()))),
    };
    let (visitor, in_flight) = door.admit(issued, need, peer).map_err(told)?;
    if may_be_replayed {
        let why = "is missing; a signed request that changes something needs one, here or as \
                   Idempotency-Key, so that a replay changes nothing";
        return Err(Problem::malformed("request_id", why));
    }
    Ok((visitor, Some(in_flight)))
}

/// The credentials of a request.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    Nothing,
    Bearer(String),
    Signature(Signature),
    /// Why it is not clear which they are.
    Unclear(&'static str),
}

/// What a signed request says beside its signature.
#[derive(Debug, PartialEq, Eq)]
struct Signature {
    key: String,
    timestamp: String,
    signature: String,
    request_id: String,
}

fn shown(headers: &HeaderMap) -> Shown {
    let is_twice = |name: &str| headers.get_all(name).iter().nth(1).is_some();
    let offered = offered_token(headers);
    let names = ["authorization", KEY_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER, extract::KEY];
    if names.into_iter().any(is_twice) {
        return Shown::Unclear("a header that says who asks is given twice");
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?").to_owned());
    let (key, timestamp) = (text(KEY_HEADER), text(TIMESTAMP_HEADER));
    if let Some(token) = offered {
        let is_alone = !names.into_iter().any(|name| headers.contains_key(name));
        return match (is_alone, token) {
            (true, Ok(token)) => Shown::Bearer(token),
            (true, Err(why)) => Shown::Unclear(why),
            (false, _) => {
                Shown::Unclear("a token among the protocols goes with no other; give one")
            }
        };
    }
    match (text("authorization"), key, timestamp, text(SIGNATURE_HEADER)) {
        (None, None, None, None) => Shown::Nothing,
        (Some(authorization), None, None, None) => match authorization.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Shown::Bearer(token.trim().to_owned())
            }
            _ => Shown::Unclear("the header Authorization is not `Bearer TOKEN`"),
        },
        (None, Some(key), Some(timestamp), Some(signature)) => {
            let request_id = text(extract::KEY).unwrap_or_default();
            Shown::Signature(Signature { key, timestamp, signature, request_id })
        }
        (Some(_), ..) => Shown::Unclear("a bearer token does not go with a signature; give one"),
        _ => Shown::Unclear(
            "a signature is three headers: X-Crosslatch-Key, X-Crosslatch-Timestamp and \
             X-Crosslatch-Signature",
        ),
    }
}

/// The token that a WebSocket's client offers among its protocols, if it does.
fn offered_token(headers: &HeaderMap) -> Option<Result<String, &'static str>> {
    let is_socket = headers
        .get(header::UPGRADE)
        .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let offers = offers.filter(|_| is_socket).filter_map(|value| value.to_str().ok());
    let tokens = offers.flat_map(|value| value.split(','));
    let mut tokens = tokens.filter_map(|offer| offer.trim().strip_prefix(SOCKET_BEARER));
    let first = tokens.next()?;
    Some(match tokens.next() {
        None => Ok(first.to_owned()),
        Some(_) => Err("there are two tokens among the protocols"),
    })
}

/// The key that a request is signed with, and whether it changes something under no id. Its body is read
/// here, once: no handler sees what was not checked.
async fn signed(
    app: &App,
    request: &mut Request,
    shown: &Signature,
    peer: &Peer,
    told: impl Fn(Refused) -> Problem,
) -> Result<(Issued, bool), Problem> {
    let (door, directory) = (app.door(), app.engine().directory());
    door.timely(&shown.timestamp, peer).map_err(&told)?;
    let body = std::mem::take(request.body_mut());
    let taken = Taken::read_unproven(body, app).await?;
    let (mut taken, hash) = hashed(taken).await?;
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let signed = Signed {
        method: request.method().as_str(),
        target,
        body: &hash,
        timestamp: &shown.timestamp,
        request_id: &shown.request_id,
    };
    let issued =
        door.signed(&shown.key, &shown.signature, &signed, peer, directory).map_err(told)?;
    taken.prove();
    let is_change = request.method() != Method::GET && request.method() != Method::HEAD;
    let is_named = !shown.request_id.is_empty() || has_request_id(taken.bytes());
    request.extensions_mut().insert(Read(Arc::new(Mutex::new(Some(taken)))));
    Ok((issued, is_change && !is_named))
}

/// A long body is hashed where that blocks nobody.
async fn hashed(taken: Taken) -> Result<(Taken, BodyHash), Problem> {
    if taken.bytes().len() <= INLINE_BYTES_MAX {
        let hash = body_hash(taken.bytes());
        return Ok((taken, hash));
    }
    blocking(move || {
        let hash = body_hash(taken.bytes());
        (taken, hash)
    })
    .await
}

/// Whether a body names the request, or is a batch, whose members do.
fn has_request_id(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Named {
        request_id: Option<IgnoredAny>,
        swaps: Option<IgnoredAny>,
    }
    let named = serde_json::from_slice::<Named>(body);
    named.is_ok_and(|named| named.request_id.is_some() || named.swaps.is_some())
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unauthenticated(why) => Self::new("unauthenticated", why),
            Refused::Forbidden(why) => Self::new("forbidden", why),
            Refused::RateLimited { why, after_seconds } => {
                Self::new("rate_limited", why).retry_after(after_seconds)
            }
        }
    }
}

/// What an answer of 401 carries.
pub(in crate::server) fn challenge() -> (header::HeaderName, HeaderValue) {
    (header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &'static str)]) -> Shown {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        shown(&map)
    }

    #[test]
    fn credentials_are_of_one_kind_or_unclear() {
        const SIGNED: [(&str, &str); 3] =
            [(KEY_HEADER, "a"), (TIMESTAMP_HEADER, "1"), (SIGNATURE_HEADER, "00")];
        assert_eq!(of(&[]), Shown::Nothing);
        assert_eq!(of(&[("authorization", "bearer  xl_a ")]), Shown::Bearer("xl_a".into()));
        assert!(matches!(of(&SIGNED), Shown::Signature(_)));
        let unclear = |headers: &[(&'static str, &'static str)]| {
            assert!(matches!(of(headers), Shown::Unclear(_)), "{headers:?}");
        };
        unclear(&[("authorization", "Basic YTpi")]);
        unclear(&[("authorization", "Bearer")]);
        unclear(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
        unclear(&[("authorization", "Bearer a"), SIGNED[0]]);
        unclear(&[SIGNED[0], SIGNED[1], SIGNED[2], ("authorization", "Bearer a")]);
        unclear(&[SIGNED[0], SIGNED[1], SIGNED[2], SIGNED[2]]);
        for missing in 0..3 {
            let two: Vec<_> = (0..3).filter(|n| *n != missing).map(|n| SIGNED[n]).collect();
            unclear(&two);
        }
    }

    #[test]
    fn a_browsers_socket_has_its_token_among_the_protocols() {
        const SOCKET: (&str, &str) = ("upgrade", "WebSocket");
        const OFFER: (&str, &str) =
            ("sec-websocket-protocol", "crosslatch.v1, crosslatch.bearer.xl_a");
        assert_eq!(of(&[SOCKET, OFFER]), Shown::Bearer("xl_a".into()));
        let split = [
            SOCKET,
            ("sec-websocket-protocol", "crosslatch.v1"),
            ("sec-websocket-protocol", "crosslatch.bearer.xl_b"),
        ];
        assert_eq!(of(&split), Shown::Bearer("xl_b".into()));
        // Of other requests it is no header of ours.
        assert_eq!(of(&[OFFER]), Shown::Nothing);
        assert_eq!(of(&[SOCKET, ("sec-websocket-protocol", "crosslatch.v1")]), Shown::Nothing);
        for wrong in [&[SOCKET, OFFER, OFFER][..], &[SOCKET, OFFER, ("authorization", "Bearer b")]]
        {
            assert!(matches!(of(wrong), Shown::Unclear(_)), "{wrong:?}");
        }
    }

    #[test]
    fn a_batch_has_ids_in_its_members() {
        for named in [r#"{"request_id": "x"}"#, r#"{"swaps": []}"#] {
            assert!(has_request_id(named.as_bytes()), "{named}");
        }
        for unnamed in ["", "{}", "[]", r#"{"request_id": null}"#, r#"{"a": {"request_id": 1}}"#] {
            assert!(!has_request_id(unnamed.as_bytes()), "{unnamed}");
        }
    }
}
