//! The gate of the server: while the engine recovers it answers health, and says how far it is; from
//! then on it leads to everything.
//!
//! ```text
//! connection ─► gate ─┬─ recovering: /livez 200, /readyz 503, /version, /metrics, /console; the rest `recovering`
//!                     └─ open: the router
//! ```
//!
//! So whoever watches over the process can tell one that recovers for minutes from one that hangs.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tower_service::Service;

use crate::metrics::Exporter;
use crate::store::start_progress::{Reached, StartProgress};

use super::problem::Problem;
use super::receipt::json;
use super::state::App;
use super::{console, health};

/// Where every connection comes in. Cheap to clone; every clone is the same gate.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    /// What there is to say until it is open.
    closed: Router,
    open: OnceLock<(App, Router)>,
}

impl Gate {
    /// A gate that is closed: an engine starts behind it. While nobody knows the keys, metrics are for
    /// everybody or for nobody.
    pub fn new(progress: Arc<StartProgress>, exporter: Exporter, metrics_open: bool) -> Self {
        let metrics = move || health::metrics_of(exporter.clone());
        let mut closed = Router::new()
            .route("/livez", get(health::livez))
            .route("/readyz", get(readyz))
            .route("/version", get(health::version))
            .route("/console", get(console::page))
            .route("/console/{file}", get(console_file));
        if metrics_open {
            closed = closed.route("/metrics", get(metrics));
        }
        let closed = closed.fallback(not_yet).with_state(progress);
        Self(Arc::new(Inner { closed, open: OnceLock::new() }))
    }

    /// Opens it, for good. Requests that take `slow_request_ms` are logged.
    pub fn open(&self, app: App, slow_request_ms: u64) {
        let router = super::router(app.clone(), slow_request_ms);
        assert!(self.0.open.set((app, router)).is_ok(), "a gate is opened once");
    }

    /// What is behind it, once it is open.
    pub(super) fn app(&self) -> Option<&App> {
        self.0.open.get().map(|(app, _)| app)
    }
}

impl Service<Request> for Gate {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Inner { closed, open } = &*self.0;
        let mut router = open.get().map_or(closed, |(_, router)| router).clone();
        Box::pin(router.call(request))
    }
}

/// Like a problem, and how far it is.
#[derive(Serialize)]
struct NotReady {
    status: &'static str,
    code: &'static str,
    title: &'static str,
    detail: String,
    #[serde(flatten)]
    reached: Reached,
}

async fn readyz(State(progress): State<Arc<StartProgress>>) -> Response {
    let (status, detail) = match progress.is_stopped() {
        true => ("stopping", "the server is stopping; it had not recovered yet".into()),
        false => ("recovering", in_words(progress.reached())),
    };
    let (code, title) = ("recovering", "The server is not ready yet");
    let reached = progress.reached();
    let body = NotReady { status, code, title, detail, reached };
    json(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// How far a start is, in words.
fn in_words(reached: Reached) -> String {
    let Reached { phase, blocks_done, blocks_total } = reached;
    let phase = phase.name();
    match blocks_total {
        0 => format!("the server is recovering: {phase}"),
        _ => format!("the server is recovering: {phase}, {blocks_done} of {blocks_total} blocks"),
    }
}

async fn console_file(Path(name): Path<String>) -> Result<Response, Problem> {
    console::find(&name)
}

/// Nothing was taken: the same can be sent again.
async fn not_yet(State(progress): State<Arc<StartProgress>>) -> Response {
    let detail = format!("{}; nothing was taken, try again", in_words(progress.reached()));
    Problem::new("recovering", detail).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Method;
    use serde_json::{Value, json};

    use super::super::connections::Peer;
    use super::super::door::Door;
    use super::*;
    use crate::config::{EdgeLimits, Limits};
    use crate::engine::{Engine, Options};
    use crate::store::start_progress::Phase;

    async fn ask(gate: &Gate, method: Method, path: &str) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let address = (std::net::Ipv4Addr::LOCALHOST, 1).into();
        request.extensions_mut().insert(Peer { address, is_encrypted: false });
        let response = gate.clone().call(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    #[tokio::test]
    async fn it_says_how_far_the_start_is_until_it_is_open() {
        let progress = Arc::new(StartProgress::default());
        let exporter = crate::metrics::install().unwrap();
        let gate = Gate::new(progress.clone(), exporter.clone(), true);
        let get = |path| ask(&gate, Method::GET, path);
        assert_eq!(get("/livez").await, (200, json!({"status": "live"})));
        assert_eq!(get("/version").await.0, 200);
        assert_eq!(get("/metrics").await.0, 200);
        // Who looks at the console is told by it how far the start is.
        assert_eq!((get("/console").await.0, get("/console/app.js").await.0), (200, 200));
        progress.enter(Phase::Folding, 3);
        progress.block().unwrap();
        let (status, body) = get("/readyz").await;
        let expected = json!({"status": "recovering", "code": "recovering",
            "title": "The server is not ready yet",
            "detail": "the server is recovering: folding, 1 of 3 blocks",
            "phase": "folding", "blocks_done": 1, "blocks_total": 3});
        assert_eq!((status, body), (503, expected));
        let (status, body) = ask(&gate, Method::POST, "/v1/swaps").await;
        assert_eq!(
            (status, &body["code"], &body["status"]),
            (503, &json!("recovering"), &json!("rejected"))
        );
        let data = tempfile::tempdir().unwrap();
        let engine = Engine::start(Options::new(data.path())).unwrap();
        let door = Door::new(data.path(), &EdgeLimits::default(), true);
        let app = App::new(engine, exporter, &Limits::default(), door);
        gate.open(app.clone(), 1_000);
        assert_eq!(get("/readyz").await, (200, json!({"status": "ready"})));
        assert_eq!(get("/v1/assets").await.0, 200);
        app.stop();
        assert_eq!(get("/readyz").await.1["code"], "stopped");
        app.engine().stop().unwrap();
    }

    #[tokio::test]
    async fn a_start_that_is_given_up_says_so() {
        let progress = Arc::new(StartProgress::default());
        let gate = Gate::new(progress.clone(), crate::metrics::install().unwrap(), false);
        progress.stop();
        let (status, body) = ask(&gate, Method::GET, "/readyz").await;
        assert_eq!((status, &body["status"]), (503, &json!("stopping")));
        // Metrics that need a key wait for the keys.
        assert_eq!(ask(&gate, Method::GET, "/metrics").await.0, 503);
    }
}
