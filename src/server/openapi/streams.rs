//! What the document says of streams: what does not end by itself.

use serde_json::json;

use crate::request::Command;
use crate::types::AccountId;

use super::About;
use super::schemas::{Name, Seq};

pub fn events(call: &mut About<'_>) {
    let says = "Server-sent events: `id` is the seq, `event` the kind, `data` the receipt as JSON. In \
                the order of the seqs, each once, none before it is on disk. Of a filtered stream, \
                `progress` says how far it came.";
    call.named("", "streamEvents", "Everything durable, in order", says);
    let seq = call.schemas.of::<Seq>();
    let description = "Only later ones; from the beginning, if it is not given.";
    call.query("after", description, seq.clone());
    let account = call.schemas.of::<AccountId>();
    call.query("account", "Only those in which it has part.", account);
    let market = call.schemas.of::<Name>();
    call.query("market", "Only those of this market.", market);
    call.query(
        "kind",
        "Only those of this kind.",
        json!({"type": "string", "enum": Command::KINDS}),
    );
    let description = "Where a client that comes back goes on; stands over `after`.";
    call.parameter("header", "Last-Event-ID", description, seq);
    call.streams("text/event-stream", "The events.");
    call.refuses(&["unknown_market", "history_expired", "overloaded", "stopped", "storage"]);
}

pub fn stream(call: &mut About<'_>) {
    let says = "A WebSocket: the client sends `{\"subscribe\": [{\"channel\": \"book\", \"market\": ...}]}`, \
                and gets a snapshot of each book, its changes with a checksum, and trades.";
    call.named("", "streamMarketData", "Market data", says);
    call.switches("It goes on as a WebSocket.");
    call.refuses(&["malformed", "overloaded", "stopped"]);
}
