//! What the document says of what machines ask.

use serde_json::json;

use crate::server::backups::{Done, Pending};
use crate::server::console;
use crate::server::health::{PROMETHEUS_TEXT, Status, Version};
use crate::server::receipt::OperationBody;
use crate::server::stats::StatsBody;

use super::About;
use super::requests::{BackupRequest, OperationRequest};

const TAG: &str = "machines";

pub fn back_up(call: &mut About<'_>) {
    call.named(
        TAG,
        "backUp",
        "Makes a proven copy of the data directory",
        "On the server's own file system. After a while without a result it answers 202: ask the \
         same again, to wait for the rest of the same backup.",
    );
    call.body::<BackupRequest>();
    call.gives::<Done>("It is made, and audited.");
    let pending = call.schemas.of::<Pending>();
    call.answers(202, "It goes on.", pending);
}

pub fn operate(call: &mut About<'_>) {
    let says = "The kill switch of the whole venue. It stands over a restart.";
    call.named(TAG, "operate", "Says what the venue takes from now on", says);
    call.takes::<OperationRequest>();
    call.settles("OperationReceipt", |schemas| vec![schemas.of::<OperationBody>()]);
}

pub fn get_operation(call: &mut About<'_>) {
    call.named(TAG, "getOperation", "What the venue takes", "");
    call.gives::<OperationBody>("The state.");
}

pub fn livez(call: &mut About<'_>) {
    call.named(TAG, "livez", "Whether the process answers", "");
    let status = call.schemas.of::<Status>();
    call.answers(200, "It does.", status);
}

pub fn readyz(call: &mut About<'_>) {
    let says = "While it recovers, `status` is `recovering`, or `stopping` if it is to stop, and `phase`, \
                `blocks_done` and `blocks_total` say how far it is.";
    call.named(TAG, "readyz", "Whether new work may be sent here", says);
    let status = call.schemas.of::<Status>();
    call.answers(200, "It may.", status);
    call.refuses(&["stopped", "recovering"]);
}

pub fn version(call: &mut About<'_>) {
    call.named(TAG, "version", "What is running", "");
    let version = call.schemas.of::<Version>();
    call.answers(200, "Its name and version.", version);
}

pub fn metrics(call: &mut About<'_>) {
    call.named(TAG, "metrics", "Everything measured so far", "In Prometheus' text format.");
    call.writes(PROMETHEUS_TEXT, "The metrics.");
    call.refuses(&["storage"]);
}

pub fn get_stats(call: &mut About<'_>) {
    let says = "Rates, quantiles and levels of the last second, and of those before it, up to five minutes, \
                as `samples`. Who asks again gives the last one's `number` as `after`.";
    call.named(TAG, "getStats", "How the server does", says);
    let after = json!({"type": "string", "pattern": "^[0-9]+$"});
    call.query("after", "Only later samples: the `number` of the last one seen.", after);
    call.gives::<StatsBody>("How it does.");
}

pub fn console(call: &mut About<'_>) {
    let says = "A page for browsers: the venue live, its markets, and what became of requests.";
    call.named(TAG, "console", "The console", says);
    call.writes("text/html; charset=utf-8", "The page.");
}

pub fn console_file(call: &mut About<'_>) {
    call.named(TAG, "consoleFile", "What the console is made of", "Styles, scripts, a picture.");
    let names: Vec<&str> = console::names().collect();
    call.parameter("path", "file", "Its name.", json!({"type": "string", "enum": names}));
    call.writes("text/javascript; charset=utf-8", "A script.");
    call.writes_too("text/css; charset=utf-8");
    call.writes_too("image/svg+xml");
    call.refuses(&["not_found"]);
}

pub fn openapi(call: &mut About<'_>) {
    call.named(TAG, "openapi", "This document", "");
    call.answers(200, "An OpenAPI document.", json!({"type": "object"}));
    call.refuses(&["recovering"]);
}
