//! What the log says of requests: a line for one that failed, and for one that took long.
//!
//! A line names the route and not the path, the request's id and nothing that was sent: what callers
//! name and hold is theirs. Refusals are answers; they are logged at `debug`.

use std::cell::Cell;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use crate::clock::{Clock, SystemClock};
use crate::types::RequestId;

use super::problem::Told;

tokio::task_local! {
    /// The id under which the request that this task answers goes, once it is read.
    static ID: Cell<Option<RequestId>>;
}

/// How long a request takes that is logged for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slow {
    nanos: u64,
}

impl Slow {
    /// 0 for every request.
    pub(super) fn from_millis(millis: u64) -> Self {
        Self { nanos: millis.saturating_mul(1_000_000) }
    }
}

/// Says under which id the request goes that is being answered.
pub(super) fn of_request(id: RequestId) {
    // What is read on a thread of its own is not said: then it is a batch.
    let _ = ID.try_with(|cell| cell.set(Some(id)));
}

/// Sees a request to its answer, and logs it if there is reason to.
pub(super) async fn watch(State(slow): State<Slow>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let began = SystemClock.boot_nanos();
    let answered = async move {
        let response = next.run(request).await;
        (response, ID.with(Cell::get))
    };
    let (response, id) = ID.scope(Cell::new(None), answered).await;
    let nanos = SystemClock.boot_nanos().saturating_sub(began);
    let told = response.extensions().get::<Told>().copied();
    let line = Line {
        method: &method,
        route: route.as_ref().map_or("", MatchedPath::as_str),
        status: response.status(),
        id: id.or(told.and_then(|told| told.request_id)),
        code: told.map(|told| told.code),
        millis: nanos as f64 / 1e6,
    };
    match reason(line.status, line.code, nanos, slow) {
        Reason::Failed => line.failed(),
        Reason::Slow => line.slow(),
        Reason::Every => line.answered(),
        Reason::Refused => line.refused(),
        Reason::None => {}
    }
    response
}

/// Why a request is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Failed,
    Slow,
    /// Every one is.
    Every,
    Refused,
    None,
}

fn reason(status: StatusCode, code: Option<&str>, nanos: u64, slow: Slow) -> Reason {
    // Of these there may be more than anybody reads, and the metrics count them.
    let is_pushed_back = matches!(code, Some("overloaded" | "recovering"));
    if status.is_server_error() && !is_pushed_back {
        return Reason::Failed;
    }
    match slow.nanos {
        0 => Reason::Every,
        slow if nanos >= slow => Reason::Slow,
        _ if code.is_some() => Reason::Refused,
        _ => Reason::None,
    }
}

struct Line<'a> {
    method: &'a Method,
    route: &'a str,
    status: StatusCode,
    id: Option<RequestId>,
    code: Option<&'static str>,
    millis: f64,
}

/// Writes a line at a level that must be known when it is compiled.
macro_rules! write_line {
    ($level:ident, $line:expr, $what:literal) => {{
        let Line { method, route, status, id, code, millis } = $line;
        let request_id = id.map(tracing::field::display);
        let status = status.as_u16();
        tracing::$level!(request_id, %method, route, status, code, millis, $what);
    }};
}

impl Line<'_> {
    fn failed(&self) {
        write_line!(warn, self, "request failed");
    }

    fn slow(&self) {
        write_line!(warn, self, "request took long");
    }

    fn answered(&self) {
        write_line!(info, self, "request answered");
    }

    fn refused(&self) {
        write_line!(debug, self, "request refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_slowness_are_reasons_and_refusals_are_not() {
        let second = Slow::from_millis(1_000);
        let of = |status: u16, code, nanos, slow| {
            reason(StatusCode::from_u16(status).unwrap(), code, nanos, slow)
        };
        assert_eq!(of(200, None, 999_999_999, second), Reason::None);
        assert_eq!(of(200, None, 1_000_000_000, second), Reason::Slow);
        assert_eq!(of(422, Some("insufficient_funds"), 5, second), Reason::Refused);
        assert_eq!(of(503, Some("stopped"), 5, second), Reason::Failed);
        assert_eq!(of(500, Some("storage"), 5, second), Reason::Failed);
        assert_eq!(of(503, Some("overloaded"), 5, second), Reason::Refused);
        assert_eq!(of(200, None, 0, Slow::from_millis(0)), Reason::Every);
        assert_eq!(of(200, None, u64::MAX - 1, Slow::from_millis(u64::MAX)), Reason::None);
    }
}
