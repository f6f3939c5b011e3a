//! Every call: where it is, what it needs of a key, who answers it, what is said of it.
//!
//! The router, its door, and the document are all made of this one table, so none of them can know of a
//! call that another does not.

use super::door::rights::{
    ANY_KEY, HOLD, METRICS, OPERATE, OUTCOME, PUBLIC, READ, TRADE, TRANSFER, WITHDRAWAL,
};
use super::openapi::{self, Call, about};
use super::{
    accounts, api_keys, assets, backups, books, console, events, health, history, keys, markets,
    operate, orders, prepared, reads, standing, stats, stream, swaps, transactions, transfers,
    withdrawals,
};

/// The table.
pub(super) fn calls() -> Vec<Call> {
    let parts = [directory(), settling(), trading(), api_keys(), machines()];
    parts.into_iter().flatten().collect()
}

/// Assets, accounts, links.
fn directory() -> Vec<Call> {
    vec![
        Call::get("/v1/assets", ANY_KEY, assets::list, about::list_assets),
        Call::put("/v1/assets/{asset}", OPERATE, assets::put, about::put_asset),
        Call::get("/v1/assets/{asset}", ANY_KEY, assets::get, about::get_asset),
        Call::put("/v1/accounts/{account}", OPERATE, accounts::put, about::put_account),
        Call::get("/v1/accounts/{account}", READ, accounts::get, about::get_account),
        Call::post("/v1/accounts/{account}/links", OPERATE, accounts::link, about::add_link),
        Call::delete(
            "/v1/accounts/{account}/links/{chain_id}",
            OPERATE,
            accounts::unlink,
            about::remove_link,
        ),
        Call::get("/v1/accounts/{account}/balances", READ, reads::balances, about::get_balances),
        Call::get("/v1/accounts/{account}/history", READ, history::get, about::get_history),
        Call::get("/v1/links/{chain_id}/{address}", READ, accounts::by_address, about::get_link),
    ]
}

/// What moves, and what became of it.
fn settling() -> Vec<Call> {
    vec![
        Call::post("/v1/deposits", TRANSFER, transfers::deposit, about::deposit),
        Call::post("/v1/withdrawals", TRANSFER, withdrawals::open, about::withdraw),
        Call::get("/v1/withdrawals/{id}", WITHDRAWAL, withdrawals::get, about::get_withdrawal),
        Call::post(
            "/v1/withdrawals/{id}/confirm",
            TRANSFER,
            withdrawals::confirm,
            about::confirm_withdrawal,
        ),
        Call::post(
            "/v1/withdrawals/{id}/cancel",
            TRANSFER,
            withdrawals::cancel,
            about::cancel_withdrawal,
        ),
        Call::post("/v1/swaps", TRADE, swaps::one, about::swap),
        Call::post("/v1/swaps:batch", TRADE, swaps::batch, about::swap_batch),
        Call::get("/v1/swaps/{request_id}", OUTCOME, reads::outcome, about::get_swap),
        Call::post("/v1/prepared", TRADE, prepared::prepare, about::prepare),
        Call::get("/v1/prepared", HOLD, prepared::list, about::list_prepared),
        Call::get("/v1/prepared/{token}", HOLD, prepared::get, about::get_prepared),
        Call::post("/v1/prepared/{token}/commit", TRADE, prepared::commit, about::commit),
        Call::post("/v1/prepared/{token}/rollback", TRADE, prepared::rollback, about::rollback),
        Call::post("/v1/transactions", TRADE, transactions::transact, about::transact),
        Call::get("/v1/keys/{key}", READ, keys::get, about::get_key),
        Call::get("/v1/requests/{request_id}", OUTCOME, reads::outcome, about::get_outcome),
    ]
}

/// Markets and orders.
fn trading() -> Vec<Call> {
    vec![
        Call::get("/v1/markets", ANY_KEY, markets::list, about::list_markets),
        Call::put("/v1/markets/{market}", OPERATE, markets::put, about::put_market),
        Call::get("/v1/markets/{market}", ANY_KEY, markets::get, about::get_market),
        Call::post("/v1/markets/{market}/halt", OPERATE, markets::halt, about::halt_market),
        Call::post("/v1/markets/{market}/resume", OPERATE, markets::resume, about::resume_market),
        Call::get("/v1/markets/{market}/book", ANY_KEY, books::book, about::get_book),
        Call::get("/v1/markets/{market}/trades", ANY_KEY, books::trades, about::get_trades),
        Call::post("/v1/orders", TRADE, orders::place, about::place_order),
        Call::delete("/v1/orders", TRADE, orders::cancel_all, about::cancel_orders),
        Call::get("/v1/orders", HOLD, standing::list, about::list_orders),
        Call::patch("/v1/orders/{id}", TRADE, orders::amend, about::amend_order),
        Call::delete("/v1/orders/{id}", TRADE, orders::cancel, about::cancel_order),
        Call::get("/v1/orders/{id}", HOLD, standing::get, about::get_order),
    ]
}

/// Who may ask for what.
fn api_keys() -> Vec<Call> {
    vec![
        Call::get("/v1/api-keys", OPERATE, api_keys::list, about::list_api_keys),
        Call::post("/v1/api-keys", OPERATE, api_keys::create, about::create_api_key),
        Call::get("/v1/api-keys/{name}", OPERATE, api_keys::get, about::get_api_key),
        Call::delete("/v1/api-keys/{name}", OPERATE, api_keys::revoke, about::revoke_api_key),
        Call::post("/v1/api-keys/{name}/rotate", OPERATE, api_keys::rotate, about::rotate_api_key),
    ]
}

/// What a venue is run with, and what it tells of itself.
fn machines() -> Vec<Call> {
    vec![
        Call::post("/v1/operate", OPERATE, operate::post, about::operate),
        Call::get("/v1/operate", ANY_KEY, operate::get, about::get_operation),
        Call::get("/v1/events", READ, events::get, about::get_events),
        Call::get("/v1/stream", ANY_KEY, stream::get, about::get_stream),
        Call::get("/v1/stats", READ, stats::get, about::get_stats),
        Call::get("/v1/audit", OPERATE, reads::audit, about::audit),
        Call::post("/v1/backups", OPERATE, backups::post, about::back_up),
        Call::get("/livez", PUBLIC, health::livez, about::livez),
        Call::get("/readyz", PUBLIC, health::readyz, about::readyz),
        Call::get("/version", PUBLIC, health::version, about::version),
        Call::get("/metrics", METRICS, health::metrics, about::metrics),
        Call::get("/console", PUBLIC, console::page, about::console),
        Call::get("/console/{file}", PUBLIC, console::file, about::console_file),
        Call::get("/openapi.json", PUBLIC, openapi::get, about::openapi),
    ]
}
