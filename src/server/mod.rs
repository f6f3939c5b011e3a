//! The HTTP face of the engine: JSON under `/v1`, health and metrics beside it.
//!
//! ```text
//! connection ─► door (who, whether, how much) ─► extract (body, id, path) ─► handler ─► engine ─► receipt or problem
//! ```
//!
//! A handler reads its request field by field (`json`), hands it to the engine and shows the
//! outcome (`receipt`); everything refused or failed is one kind of object ([`problem`]).
//! Numbers that exceed 2^53 leave as decimal strings, assets go by their names. Nothing runs on a
//! worker of tokio that could block it.

mod accounts;
pub mod api_keys;
mod assets;
mod backups;
mod books;
mod bytes;
mod calls;
mod connections;
mod console;
pub mod door;
mod events;
mod extract;
mod feed;
mod follow;
mod gate;
pub mod grpc;
mod health;
mod history;
mod holds;
mod json;
mod keys;
mod legs;
mod listener;
mod log;
mod markets;
mod names;
mod openapi;
mod operate;
mod orders;
mod prepared;
pub mod problem;
mod query;
mod reads;
mod receipt;
mod sight;
mod standing;
mod state;
pub(crate) mod stats;
mod stream;
mod streams;
mod swaps;
pub mod tls;
mod trading;
mod transactions;
mod transfers;
mod withdrawals;

use std::io;
use std::net::TcpListener;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;

pub use connections::Peer;
pub use gate::Gate;
pub(crate) use receipt::rfc_3339;
pub use state::App;

use crate::config::EdgeLimits;
use crate::metrics::Face;

use calls::calls;
use door::rights::Right;
use tls::Tls;

/// Every path that the server answers. Requests that take `slow_request_ms` are logged.
pub fn router(app: App, slow_request_ms: u64) -> Router {
    openapi::router(calls(), &app)
        .fallback(health::not_found)
        .method_not_allowed_fallback(health::method_not_allowed)
        // The extractor has a limit of its own, which it explains.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(log::Slow::from_millis(slow_request_ms), log::watch))
        .with_state(app)
}

/// The OpenAPI document of the server, as a JSON value.
pub fn openapi() -> serde_json::Value {
    openapi::document(calls())
}

/// What every call needs of a key.
pub fn rights() -> Vec<Right> {
    calls().iter().map(openapi::Call::right).collect()
}

/// Answers at the gate on `listener`, over TLS where there is one, until `stop` is done, and then what
/// is in flight.
///
/// # Errors
/// The operating system refuses the socket.
pub async fn serve(
    gate: Gate,
    listener: TcpListener,
    tls: Option<Tls>,
    limits: &EdgeLimits,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let opened = gate.clone();
    let stop = async move {
        stop.await;
        // What streams would go on for ever.
        if let Some(app) = opened.app() {
            app.stop();
        }
    };
    connections::serve((Face::Http, gate.clone()), listener, tls, limits, stop).await?;
    if let Some(app) = gate.app() {
        app.streams().closed().await;
    }
    Ok(())
}
