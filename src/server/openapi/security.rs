//! What the document says of keys: how one is shown, and which scope a call needs.

use serde_json::{Value, json};

use crate::access::Scope;
use crate::access::signature::{KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use crate::server::door::rights::Need;

/// How a key is shown: as a token, or by a signature, which is three headers.
pub(super) fn schemes() -> Value {
    let header = |name: &str, description: &str| {
        json!({"type": "apiKey", "in": "header",
        "name": name, "description": description})
    };
    json!({
        "bearer": {"type": "http", "scheme": "bearer",
            "description": "The key's token. Taken over TLS, and from the server's own machine."},
        "key": header(KEY_HEADER, "The name of the key that a request is signed with."),
        "timestamp": header(TIMESTAMP_HEADER, "When it was signed: milliseconds since 1970. Within a \
            window around the server's time, of 5 s where the server is not set otherwise."),
        "signature": header(SIGNATURE_HEADER, "HMAC-SHA256 with the key's secret, in hexadecimal, over \
            method, path with its query, hash of the body, timestamp and Idempotency-Key. The README \
            says how."),
    })
}

/// The ways to be let in to a call, of which one is enough.
pub(super) fn of(need: Need) -> Value {
    let ways = |scope: Option<Scope>| {
        let scopes: Vec<&str> = scope.iter().map(|scope| scope.name()).collect();
        [
            json!({"bearer": scopes.clone()}),
            json!({"key": scopes, "timestamp": [], "signature": []}),
        ]
    };
    match need {
        Need::Public => json!([]),
        Need::Metrics => {
            let anybody = json!({});
            Value::Array(std::iter::once(anybody).chain(ways(None)).collect())
        }
        Need::AnyKey => Value::Array(ways(None).into()),
        Need::OneOf(scopes) => {
            Value::Array(scopes.iter().flat_map(|scope| ways(Some(*scope))).collect())
        }
    }
}
