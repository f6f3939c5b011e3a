//! What the document says of what does not end by itself.

use serde_json::json;

use crate::request::Command;

use super::About;

pub fn get_events(call: &mut About<'_>) {
    call.named(
        "streams",
        "getEvents",
        "Everything that happens, in order",
        "Server-sent events: the `id` is the commit_seq, the `event` the kind of command, the `data` the \
         receipt with that `kind`. `progress` says how far a filtered stream has come, `end` that it \
         ends as was asked for, `error` that the engine has failed.",
    );
    let seq = json!({"type": "string", "pattern": "^[0-9]+$"});
    call.query("after", "Begins behind that seq; 0 is the default.", seq.clone());
    call.parameter("header", "Last-Event-ID", "As `after`, over which it stands.", seq);
    let account = json!({"type": "integer", "format": "int64", "minimum": 0});
    call.query("account", "Only those in which that account had part.", account);
    call.query("market", "Only those of that market.", json!({"type": "string"}));
    call.query("kind", "Only those of that kind.", json!({"enum": Command::KINDS}));
    let says = "Whether it goes on with what happens from now on.";
    call.query("follow", says, json!({"enum": ["true", "false"], "default": "true"}));
    call.streams("text/event-stream", "The events.");
    call.refuses(&["unknown_market", "history_expired", "overloaded", "stopped", "storage"]);
    call.refuses(&["recovering"]);
}

pub fn get_stream(call: &mut About<'_>) {
    call.named(
        "streams",
        "getStream",
        "Market data over a WebSocket",
        "A client sends `{\"subscribe\": [{\"channel\": \"book\", \"market\": \"ETH-SOL\"}]}` and is told a \
         snapshot and then what changes; the channel `trades` tells trades. `docs/streams.md` has the \
         protocol.",
    );
    call.switches("From now on, frames of the WebSocket protocol.");
    call.refuses(&["malformed", "overloaded", "recovering"]);
}
