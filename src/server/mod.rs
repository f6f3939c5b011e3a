//! The HTTP face of the engine: JSON under `/v1`, health and metrics beside it.
//!
//! ```text
//! connection ─► extract (body, id, path) ─► handler ─► engine ─► receipt or problem
//! ```
//!
//! A handler reads its request field by field (`json`), hands it to the engine and shows the
//! outcome (`receipt`); everything refused or failed is one kind of object ([`problem`]).
//! Numbers that exceed 2^53 leave as decimal strings, assets go by their names. Nothing runs on a
//! worker of tokio that could block it.

mod accounts;
mod assets;
mod backups;
mod books;
mod bytes;
mod gate;
mod events;
mod extract;
mod feed;
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
mod standing;
mod state;
mod stream;
mod streams;
mod swaps;
mod trading;
mod transactions;
mod transfers;
mod withdrawals;

use std::io;
use std::net::TcpListener;

use axum::Router;
use axum::ServiceExt;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;

pub use gate::Gate;
pub use state::App;

use listener::Listener;
use openapi::{Call, about};

/// Every path that the server answers. Requests that take `slow_request_ms` are logged.
pub fn router(app: App, slow_request_ms: u64) -> Router {
    openapi::router(calls())
        .fallback(health::not_found)
        .method_not_allowed_fallback(health::method_not_allowed)
        // The extractor has a limit of its own, which it explains.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(log::Slow::from_millis(slow_request_ms), log::watch))
        .with_state(app)
}

/// Every call: the router and the document are made of this.
fn calls() -> Vec<Call> {
    vec![
        Call::get("/v1/assets", assets::list, about::list_assets),
        Call::put("/v1/assets/{asset}", assets::put, about::put_asset),
        Call::get("/v1/assets/{asset}", assets::get, about::get_asset),
        Call::put("/v1/accounts/{account}", accounts::put, about::put_account),
        Call::get("/v1/accounts/{account}", accounts::get, about::get_account),
        Call::post("/v1/accounts/{account}/links", accounts::link, about::add_link),
        Call::delete(
            "/v1/accounts/{account}/links/{chain_id}",
            accounts::unlink,
            about::remove_link,
        ),
        Call::get("/v1/accounts/{account}/balances", reads::balances, about::get_balances),
        Call::get("/v1/accounts/{account}/history", history::get, about::get_history),
        Call::get("/v1/links/{chain_id}/{address}", accounts::by_address, about::get_link),
        Call::post("/v1/deposits", transfers::deposit, about::deposit),
        Call::post("/v1/withdrawals", withdrawals::open, about::withdraw),
        Call::get("/v1/withdrawals/{id}", withdrawals::get, about::get_withdrawal),
        Call::post("/v1/withdrawals/{id}/confirm", withdrawals::confirm, about::confirm_withdrawal),
        Call::post("/v1/withdrawals/{id}/cancel", withdrawals::cancel, about::cancel_withdrawal),
        Call::post("/v1/swaps", swaps::one, about::swap),
        Call::post("/v1/swaps:batch", swaps::batch, about::swap_batch),
        Call::get("/v1/swaps/{request_id}", reads::outcome, about::get_swap),
        Call::post("/v1/prepared", prepared::prepare, about::prepare),
        Call::get("/v1/prepared/{token}", prepared::get, about::get_prepared),
        Call::post("/v1/prepared/{token}/commit", prepared::commit, about::commit),
        Call::post("/v1/prepared/{token}/rollback", prepared::rollback, about::rollback),
        Call::post("/v1/transactions", transactions::transact, about::transact),
        Call::get("/v1/keys/{key}", keys::get, about::get_key),
        Call::get("/v1/markets", markets::list, about::list_markets),
        Call::put("/v1/markets/{market}", markets::put, about::put_market),
        Call::get("/v1/markets/{market}", markets::get, about::get_market),
        Call::post("/v1/markets/{market}/halt", markets::halt, about::halt_market),
        Call::post("/v1/markets/{market}/resume", markets::resume, about::resume_market),
        Call::get("/v1/markets/{market}/book", books::book, about::get_book),
        Call::get("/v1/markets/{market}/trades", books::trades, about::get_trades),
        Call::post("/v1/orders", orders::place, about::place_order),
        Call::delete("/v1/orders", orders::cancel_all, about::cancel_orders),
        Call::get("/v1/orders", standing::list, about::list_orders),
        Call::patch("/v1/orders/{id}", orders::amend, about::amend_order),
        Call::delete("/v1/orders/{id}", orders::cancel, about::cancel_order),
        Call::get("/v1/orders/{id}", standing::get, about::get_order),
        Call::get("/v1/requests/{request_id}", reads::outcome, about::get_outcome),
        Call::post("/v1/operate", operate::post, about::operate),
        Call::get("/v1/operate", operate::get, about::get_operation),
        Call::get("/v1/events", events::get, about::get_events),
        Call::get("/v1/stream", stream::get, about::get_stream),
        Call::get("/v1/audit", reads::audit, about::audit),
        Call::post("/v1/backups", backups::post, about::back_up),
        Call::get("/livez", health::livez, about::livez),
        Call::get("/readyz", health::readyz, about::readyz),
        Call::get("/version", health::version, about::version),
        Call::get("/metrics", health::metrics, about::metrics),
        Call::get("/openapi.json", openapi::get, about::openapi),
    ]
}

/// The OpenAPI document of the server, as a JSON value.
pub fn openapi() -> serde_json::Value {
    openapi::document(calls())
}

/// Answers at the gate on `listener` until `stop` is done, and then what is in flight.
///
/// # Errors
/// The operating system refuses the socket.
pub async fn serve(
    gate: Gate,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = Listener::new(listener)?;
    let opened = gate.clone();
    let stop = async move {
        stop.await;
        // What streams would go on for ever.
        if let Some(app) = opened.app() {
            app.stop();
        }
    };
    axum::serve(listener, gate.clone().into_make_service()).with_graceful_shutdown(stop).await?;
    if let Some(app) = gate.app() {
        app.streams().closed().await;
    }
    Ok(())
}
