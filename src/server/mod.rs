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
mod connections;
pub mod door;
mod extract;
mod health;
mod history;
mod holds;
mod json;
mod keys;
mod legs;
mod listener;
mod markets;
mod names;
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
mod swaps;
pub mod tls;
mod trading;
mod transactions;
mod transfers;
mod withdrawals;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, patch, post, put};
use tower_http::trace::TraceLayer;

pub use connections::{Peer, serve};
pub(crate) use receipt::rfc_3339;
pub use state::App;

/// Every path that the server answers.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/v1/assets", get(assets::list))
        .route("/v1/assets/{asset}", put(assets::put).get(assets::get))
        .route("/v1/accounts/{account}", put(accounts::put).get(accounts::get))
        .route("/v1/accounts/{account}/links", post(accounts::link))
        .route("/v1/accounts/{account}/links/{chain_id}", delete(accounts::unlink))
        .route("/v1/accounts/{account}/balances", get(reads::balances))
        .route("/v1/accounts/{account}/history", get(history::get))
        .route("/v1/links/{chain_id}/{address}", get(accounts::by_address))
        .route("/v1/deposits", post(transfers::deposit))
        .route("/v1/withdrawals", post(withdrawals::open))
        .route("/v1/withdrawals/{id}", get(withdrawals::get))
        .route("/v1/withdrawals/{id}/confirm", post(withdrawals::confirm))
        .route("/v1/withdrawals/{id}/cancel", post(withdrawals::cancel))
        .route("/v1/swaps", post(swaps::one))
        .route("/v1/swaps:batch", post(swaps::batch))
        .route("/v1/swaps/{request_id}", get(reads::outcome))
        .route("/v1/prepared", post(prepared::prepare))
        .route("/v1/prepared/{token}", get(prepared::get))
        .route("/v1/prepared/{token}/commit", post(prepared::commit))
        .route("/v1/prepared/{token}/rollback", post(prepared::rollback))
        .route("/v1/transactions", post(transactions::transact))
        .route("/v1/keys/{key}", get(keys::get))
        .route("/v1/markets", get(markets::list))
        .route("/v1/markets/{market}", put(markets::put).get(markets::get))
        .route("/v1/markets/{market}/halt", post(markets::halt))
        .route("/v1/markets/{market}/resume", post(markets::resume))
        .route("/v1/markets/{market}/book", get(books::book))
        .route("/v1/markets/{market}/trades", get(books::trades))
        .route("/v1/orders", post(orders::place).delete(orders::cancel_all).get(standing::list))
        .route("/v1/orders/{id}", patch(orders::amend).delete(orders::cancel).get(standing::get))
        .route("/v1/requests/{request_id}", get(reads::outcome))
        .route("/v1/operate", post(operate::post).get(operate::get))
        .route("/v1/audit", get(reads::audit))
        .route("/v1/backups", post(backups::post))
        .route("/v1/api-keys", get(api_keys::list).post(api_keys::create))
        .route("/v1/api-keys/{name}", get(api_keys::get).delete(api_keys::revoke))
        .route("/v1/api-keys/{name}/rotate", post(api_keys::rotate))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/version", get(health::version))
        .route("/metrics", get(health::metrics))
        .fallback(health::not_found)
        .method_not_allowed_fallback(health::method_not_allowed)
        .layer(from_fn_with_state(app.clone(), door::enter))
        // The extractor has a limit of its own, which it explains.
        .layer(DefaultBodyLimit::disable())
        .layer(TraceLayer::new_for_http().on_failure(()))
        .with_state(app)
}
