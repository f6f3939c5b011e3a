//! The OpenAPI document (3.1): every call with what it takes and all that it may answer.
//!
//! The router and the document are two readings of one table ([`super::calls`]), so neither can have
//! a call that the other lacks:
//!
//! ```text
//! Call::put("/v1/assets/{asset}", OPERATE, assets::put, about::put_asset)
//!        │                        │         │             └─► document: a name, words, schemas, codes
//!        └────────────────────────┴─► door ─┴─► router
//! ```
//!
//! Schemas of answers are derived from the structs that are sent ([`schemas`]); those of requests stand
//! in [`requests`]. Which status goes with a code is read from [`CODES`]. The examples are one story
//! (`examples.json`), which `tests/conformance` plays to a real server. The document is at
//! `openapi.json` in the repository's root; a test keeps it equal.

mod api_keys;
mod directory;
mod machines;
mod requests;
pub(super) mod schemas;
mod security;
mod settling;
mod streams;
mod trading;

pub(super) mod about {
    //! What the document says of each call.
    pub use super::api_keys::*;
    pub use super::directory::*;
    pub use super::machines::*;
    pub use super::settling::*;
    pub use super::streams::*;
    pub use super::trading::*;
}

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Router;
use axum::handler::Handler;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::types::RequestId;

use super::door;
use super::door::rights::{Need, Right};
use super::problem::{CODES, Members};
use super::receipt::ReceiptBody;
use super::state::App;

use schemas::{Schemas, reference};

/// What the examples are, in the order in which they work.
const EXAMPLES: &str = include_str!("examples.json");
/// Of every call that the engine answers.
const ENGINE: [&str; 4] = ["overloaded", "recovering", "stopped", "storage"];
/// Of every call that may have to look into the journal, an old part of which is in the archive.
const JOURNAL: &str = "archive_unavailable";
/// Of every call with a body.
const BODY: [&str; 4] = ["malformed", "timeout", "body_too_large", "unsupported_media_type"];
/// Of a signed request whose body is read at the door, so many of these: of all but what it means.
const SIGNED_CODES: usize = 3;
/// Answers of more codes are no other call's.
const SHARED_CODES_MAX: usize = 4;
/// The tag of what does not end by itself: not for those who try every call.
const STREAMS: &str = "streams";

/// One call: where it is, who answers it, what the document says of it.
pub(super) struct Call {
    path: &'static str,
    method: &'static str,
    need: Need,
    handler: MethodRouter<App>,
    about: fn(&mut About<'_>),
}

macro_rules! methods {
    ($($name:ident)*) => {
        impl Call {
            $(
                /// A call of that method.
                pub(super) fn $name<H: Handler<T, App>, T: 'static>(
                    path: &'static str,
                    need: Need,
                    handler: H,
                    about: fn(&mut About<'_>),
                ) -> Self {
                    let (method, handler) = (stringify!($name), routing::$name(handler));
                    Self { path, method, need, handler, about }
                }
            )*
        }
    };
}

methods!(get put post patch delete);

impl Call {
    /// Method, path, and what it needs.
    pub(super) fn right(&self) -> Right {
        Right { method: self.method.to_uppercase(), path: self.path, need: self.need }
    }
}

/// The router of these calls, each behind the door with what it needs.
pub(super) fn router(calls: Vec<Call>, app: &App) -> Router<App> {
    calls.into_iter().fold(Router::new(), |router, call| {
        let door = from_fn_with_state((app.clone(), call.need), door::enter);
        router.route(call.path, call.handler.route_layer(door))
    })
}

/// The document of these calls.
pub(super) fn document(calls: Vec<Call>) -> Value {
    let examples: Vec<Value> = serde_json::from_str(EXAMPLES).expect("examples.json is JSON");
    let mut schemas = Schemas::default();
    let problem = schemas.of::<Members>();
    let mut responses = Map::new();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for call in calls {
        let mut about = About::new(&mut schemas, &examples);
        (call.about)(&mut about);
        about.needs(call.need);
        let (method, operation) = (call.method.to_owned(), about.finish(&mut responses));
        paths.entry(call.path).or_default().insert(method, operation);
    }
    let schemas = schemas.finish(&json!([paths, responses, problem]));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Crosslatch",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The server that this document came from"}],
        "tags": TAGS.map(|(name, description)| json!({"name": name, "description": description})),
        "paths": paths,
        "components": {"responses": responses, "schemas": schemas, "securitySchemes": security::schemes()},
    })
}

const DESCRIPTION: &str = "\
Atomic swaps between accounts that hold assets on different chains, and order books: both legs latch, \
or neither moves. An answer of a request that changes something comes when it is on disk.

Every changing request goes under a `request_id` (a UUID, best of version 7), in its body or in the \
`Idempotency-Key` header. The same request sent again gets the same answer, for ever; the id with \
another request is `request_id_reused`. Amounts and seqs are decimal strings or integers in requests, \
decimal strings in answers. Fields and parameters that are not named here are refused.

Whatever is refused or fails is a `Problem` (RFC 9457) with a stable `code`. After `conflict` or \
`lock_timeout`, try again under a new id. `malformed`, `overloaded` and `recovering` leave no trace. `stopped` means \
that the outcome is not known yet: ask again by request id.

From the first API key on every call but those of health needs one, with the scope that stands at its \
`security`: as a bearer's token, or as a signature of three headers. A key that is bound to accounts sees \
these alone. Without any key the server listens on loopback, and takes everything.";

const TAGS: [(&str, &str); 7] = [
    ("directory", "Assets, accounts, links"),
    ("settling", "Swaps, in one phase or two; deposits, withdrawals, transactions"),
    ("trading", "Markets, orders, books, trades"),
    ("reading", "Balances, history, outcomes, the audit"),
    ("keys", "API keys"),
    ("machines", "Health, metrics, backups, this document"),
    (STREAMS, "What does not end by itself"),
];

/// What the document says of one call, in the making.
pub(super) struct About<'a> {
    schemas: &'a mut Schemas,
    examples: &'a [Value],
    example: &'a Value,
    operation: Map<String, Value>,
    parameters: Vec<Value>,
    responses: BTreeMap<u16, Value>,
    codes: Vec<&'static str>,
}

impl<'a> About<'a> {
    fn new(schemas: &'a mut Schemas, examples: &'a [Value]) -> Self {
        Self {
            schemas,
            examples,
            example: &Value::Null,
            operation: Map::new(),
            parameters: Vec::new(),
            responses: BTreeMap::new(),
            codes: Vec::new(),
        }
    }

    /// Its name, which programs generated from the document use, and its story.
    fn named(&mut self, tag: &str, name: &str, summary: &str, description: &str) {
        self.operation.insert("operationId".into(), name.into());
        self.operation.insert("tags".into(), json!([tag]));
        self.operation.insert("summary".into(), summary.into());
        self.operation.insert("description".into(), description.into());
        let is_it = |example: &&Value| example["call"] == name && example["prepares"].is_null();
        self.example = self.examples.iter().find(is_it).unwrap_or(&Value::Null);
    }

    /// A variable part of its path.
    fn part<T: ToSchema>(&mut self, name: &str, description: &str) {
        let schema = self.schemas.of::<T>();
        self.parameter("path", name, description, schema);
        self.codes.extend(["malformed", "not_found"]);
    }

    /// A parameter after `?`. One that is not named is refused.
    fn query(&mut self, name: &str, description: &str, schema: Value) {
        self.parameter("query", name, description, schema);
        self.codes.push("malformed");
    }

    fn parameter(&mut self, place: &str, name: &str, description: &str, schema: Value) {
        let mut parameter = json!({"name": name, "in": place, "description": description,
            "required": place == "path", "schema": schema});
        if let Some(example) = self.example["parameters"].get(name) {
            parameter["example"] = example.clone();
        }
        self.parameters.push(parameter);
    }

    /// The last parameter must be there.
    fn needed(&mut self) {
        let last = self.parameters.last_mut().expect("a parameter");
        last["required"] = true.into();
    }

    /// It changes something, under an id: takes a `T`.
    fn takes<T: ToSchema>(&mut self) {
        self.body::<T>();
        self.has_key();
        self.codes.push("request_id_reused");
    }

    /// It may be told its id in a header.
    fn has_key(&mut self) {
        let schema = self.schemas.of::<RequestId>();
        let description = "The `request_id`, where the body does not say it.";
        self.parameter("header", "Idempotency-Key", description, schema);
        self.codes.extend(["malformed", "request_id_reused", "forbidden", "restricted"]);
        // What its id came to before may be that long ago.
        self.codes.push(JOURNAL);
        self.codes.extend(ENGINE);
    }

    /// It takes a `T` as JSON.
    fn body<T: ToSchema>(&mut self) {
        let schema = self.schemas.of::<T>();
        let mut content = json!({"schema": schema});
        if let Some(example) = self.example.get("body") {
            content["example"] = example.clone();
        }
        let body = json!({"required": true, "content": {"application/json": content}});
        self.operation.insert("requestBody".into(), body);
        self.codes.extend(BODY);
    }

    /// It answers with a receipt that has the members of these types as well.
    fn settles(&mut self, name: &str, parts: impl FnOnce(&mut Schemas) -> Vec<Value>) {
        let mut all = vec![self.schemas.of::<ReceiptBody>()];
        all.extend(parts(self.schemas));
        let schema = self.schemas.merged(name, all);
        self.answers(200, "The receipt: it happened, and is on disk.", schema);
    }

    /// It answers with a `T`.
    fn gives<T: ToSchema>(&mut self, description: &str) {
        let schema = self.schemas.of::<T>();
        self.answers(200, description, schema);
        self.codes.extend(ENGINE);
    }

    /// It answers with that status and JSON.
    fn answers(&mut self, status: u16, description: &str, schema: Value) {
        let mut content = json!({"schema": schema});
        if let Some(answer) = self.example.get("answer").filter(|_| status == 200) {
            content["example"] = answer.clone();
        }
        let content = json!({"application/json": content});
        self.responses.insert(status, json!({"description": description, "content": content}));
    }

    /// It answers with text of that type.
    fn writes(&mut self, content_type: &str, description: &str) {
        let content = json!({content_type: {"schema": {"type": "string"}}});
        self.responses.insert(200, json!({"description": description, "content": content}));
    }

    /// It may also answer with text of that type.
    fn writes_too(&mut self, content_type: &str) {
        let response = self.responses.get_mut(&200).expect("it writes something else");
        response["content"][content_type] = json!({"schema": {"type": "string"}});
    }

    /// It answers with a stream of that type, which ends when either side wants it to.
    fn streams(&mut self, content_type: &str, description: &str) {
        self.operation.insert("tags".into(), json!([STREAMS]));
        self.writes(content_type, description);
    }

    /// It becomes a stream of another protocol.
    fn switches(&mut self, description: &str) {
        self.operation.insert("tags".into(), json!([STREAMS]));
        self.responses.insert(101, json!({"description": description}));
    }

    /// It may be refused with these codes, too.
    fn refuses(&mut self, codes: &[&'static str]) {
        self.codes.extend(codes);
    }

    /// What it needs of a key, and how those are refused who have none, or not that.
    fn needs(&mut self, need: Need) {
        self.operation.insert("security".into(), security::of(need));
        if need == Need::Public {
            return;
        }
        self.codes.extend(["unauthenticated", "rate_limited"]);
        // Of a call that any key may make, a key that may not be used from there.
        self.codes.push("forbidden");
        // The body of a signed request is read at the door.
        self.codes.extend(BODY.iter().take(SIGNED_CODES));
    }

    /// The operation. What many calls answer alike goes to `shared`.
    fn finish(mut self, shared: &mut Map<String, Value>) -> Value {
        let mut by_status: BTreeMap<u16, Vec<(&str, &str)>> = BTreeMap::new();
        for code in CODES.iter().filter(|code| self.codes.contains(&code.name)) {
            by_status.entry(code.http).or_default().push((code.name, code.title));
        }
        for code in &self.codes {
            assert!(CODES.iter().any(|known| known.name == *code), "{code} is no code");
        }
        for (status, codes) in by_status {
            self.responses.insert(status, refused(&codes, shared));
        }
        self.operation.insert("parameters".into(), self.parameters.into());
        self.operation.insert("responses".into(), json!(self.responses));
        Value::Object(self.operation)
    }
}

/// The answer that goes with a status, where these codes have it: of few codes, a shared one.
fn refused(codes: &[(&str, &str)], shared: &mut Map<String, Value>) -> Value {
    if codes.len() > SHARED_CODES_MAX {
        return refusals(codes);
    }
    let words = codes.iter().map(|(code, _)| code.split('_').map(capitalized).collect());
    let name = words.collect::<Vec<String>>().join("Or");
    shared.entry(name.clone()).or_insert_with(|| refusals(codes));
    json!({"$ref": format!("#/components/responses/{name}")})
}

fn capitalized(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

/// The answer of these codes.
fn refusals(codes: &[(&str, &str)]) -> Value {
    let lines: Vec<String> =
        codes.iter().map(|(name, title)| format!("* `{name}`: {title}.")).collect();
    let names: Vec<&str> = codes.iter().map(|(name, _)| *name).collect();
    let schema = json!({"allOf": [
        reference("Problem"), {"type": "object", "properties": {"code": {"enum": names}}}]});
    let mut response = json!({
        "description": lines.join("\n"),
        "content": {"application/problem+json": {"schema": schema}},
    });
    if names.contains(&"unauthenticated") {
        response["headers"] = json!({"WWW-Authenticate": {
            "description": "How a key is shown.", "schema": {"type": "string"},
        }});
    }
    let waits = ["overloaded", "rate_limited"].into_iter().find(|code| names.contains(code));
    if let Some(code) = waits {
        response["headers"] = json!({"Retry-After": {
            "description": format!("With `{code}`: seconds after which to try again."),
            "schema": {"type": "string", "pattern": "^[0-9]+$"},
        }});
    }
    response
}

/// `GET /openapi.json`.
pub(super) async fn get() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| format!("{}\n", super::openapi()));
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{calls, openapi};

    /// Every operation with its path and method.
    fn operations(document: &Value) -> Vec<(String, Value)> {
        let paths = document["paths"].as_object().expect("paths");
        let methods = paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").iter();
            methods.map(move |(_, operation)| (path.clone(), operation.clone()))
        });
        methods.collect()
    }

    #[test]
    fn every_call_is_described_once() {
        let document = openapi();
        let operations = operations(&document);
        assert_eq!(operations.len(), calls().len());
        let name = |operation: &Value| operation["operationId"].as_str().map(str::to_owned);
        let mut names: Vec<_> = operations.iter().map(|(_, it)| name(it).expect("named")).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), operations.len(), "two calls go by one name");
        for (path, operation) in operations {
            let parts = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
            let parameters = operation["parameters"].as_array().expect("a list");
            let named = parameters.iter().filter(|it| it["in"] == "path").map(|it| &it["name"]);
            assert_eq!(parts.collect::<Vec<_>>(), named.collect::<Vec<_>>(), "{path}");
            let good = ["200", "101"].map(|status| &operation["responses"][status]);
            assert!(good.iter().any(|response| response.is_object()), "{path}");
        }
    }

    #[test]
    fn every_code_is_some_calls_and_every_call_has_an_example() {
        let document = openapi();
        let text = document.to_string();
        // Of paths that are none, and methods that are none, nothing is described.
        for code in CODES.iter().filter(|code| code.name != "method_not_allowed") {
            assert!(text.contains(&format!("* `{}`: {}.", code.name, code.title)), "{}", code.name);
        }
        let examples: Vec<Value> = serde_json::from_str(EXAMPLES).expect("JSON");
        for (path, operation) in operations(&document) {
            let name = &operation["operationId"];
            let has_one = examples.iter().any(|it| it["call"] == *name && it["answer"].is_object());
            let is_stream = operation["tags"][0] == STREAMS;
            let needs_none = is_stream
                || ["metrics", "openapi", "console", "consoleFile"].iter().any(|it| name == it);
            assert!(has_one || needs_none, "{path}");
        }
    }

    #[test]
    fn the_document_is_the_one_in_the_repository() {
        let place = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        let text = std::fs::read_to_string(place).expect("openapi.json");
        let kept: Value = serde_json::from_str(&text).expect("JSON");
        let stale = "openapi.json is not what the code says: crosslatch openapi > openapi.json";
        assert!(kept == openapi(), "{stale}");
    }
}
