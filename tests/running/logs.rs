//! Log lines: they parse, they carry the request's id, and they carry nothing that was sent.

use serde_json::{Value, json};

use super::launch::{Launched, serve};
use super::people::{deposit, id, populate, swap};

/// What a server logs, as JSON, while `act` does something.
fn logged(flags: &[&str], act: impl FnOnce(&Launched)) -> Vec<Value> {
    let data = tempfile::tempdir().expect("a directory");
    let mut command = serve(data.path());
    command.args(["--log-format", "json"]).args(flags).env_remove("RUST_LOG");
    let server = Launched::ready(command);
    act(&server);
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    log.lines().map(parse).collect()
}

fn about<'a>(lines: &'a [Value], request: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["request_id"] == request).collect()
}

#[test]
fn a_request_that_takes_as_long_as_the_threshold_gets_one_line_with_its_id() {
    let lines = logged(&["--slow-request-ms", "0"], |server| {
        let mut client = server.client();
        populate(&mut client);
        client.post("/v1/swaps", &swap(600, 3, 5)).with(200);
        client.post("/v1/swaps", &swap(601, 5_000, 5)).with(422);
        client.get("/v1/keys/c2VjcmV0LWtleQ").with(200);
        let key = [("Idempotency-Key", "01900000-0000-7000-8000-00000000beef")];
        client.send("DELETE", "/v1/orders/01900000-0000-7000-8000-00000000cafe", &key, b"");
    });
    let swaps = about(&lines, &id(600));
    let [swap] = swaps[..] else { panic!("{swaps:?}") };
    assert_eq!(swap["message"], "request answered");
    assert_eq!((&swap["method"], &swap["route"]), (&json!("POST"), &json!("/v1/swaps")));
    assert_eq!((&swap["status"], &swap["level"]), (&json!(200), &json!("INFO")));
    assert!(swap["millis"].as_f64().is_some_and(|millis| millis > 0.0), "{swap}");
    assert!(swap["timestamp"].is_string(), "{swap}");
    let refused = about(&lines, &id(601));
    assert_eq!((refused.len(), &refused[0]["code"]), (1, &json!("insufficient_funds")));
    assert_eq!(about(&lines, "01900000-0000-7000-8000-00000000beef").len(), 1);
    let text = lines.iter().map(Value::to_string).collect::<String>();
    // Routes, not paths; nothing of a body.
    assert!(text.contains("/v1/keys/{key}"), "{text}");
    for sent in ["c2VjcmV0LWtleQ", "cafe", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359", "tx-1"] {
        assert!(!text.contains(sent), "{sent} is in {text}");
    }
}

/// Said of a server without keys.
const OPEN: &str = "there are no keys: anybody on this machine may do everything";

#[test]
fn what_is_quick_and_right_is_not_logged() {
    let lines = logged(&["--slow-request-ms", "3600000"], |server| {
        let mut client = server.client();
        populate(&mut client);
        client.post("/v1/deposits", &deposit(9, 1, "DOGE", "1")).with(404);
    });
    let messages: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(
        messages,
        [
            "listening; the engine starts",
            OPEN,
            "stopping: what is in flight is answered first",
            "stopped; everything is on disk",
        ]
    );
}

#[test]
fn levels_choose_what_is_logged() {
    let refuse = |server: &Launched| {
        let mut client = server.client();
        client.post("/v1/deposits", &deposit(9, 1, "DOGE", "1")).with(404);
    };
    let lines = logged(&["--log-level", "warn"], refuse);
    let messages: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(messages, [OPEN]);
    let lines = logged(&["--log-level", "debug"], refuse);
    let refused = about(&lines, &id(9));
    assert_eq!((refused.len(), &refused[0]["message"]), (1, &json!("request refused")));
    assert_eq!(refused[0]["code"], "unknown_asset");
}

#[test]
fn a_request_that_fails_gets_a_line_and_so_does_the_reason() {
    let data = tempfile::tempdir().expect("a directory");
    let serve = serve(data.path());
    // No file may grow beyond half a mebibyte: a disk that is full soon.
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$0\" \"$@\""]);
    limited.arg(serve.get_program()).args(serve.get_args()).args(["--log-format", "json"]);
    limited.env("RUST_LOG", "warn");
    let server = Launched::ready(limited);
    let mut client = server.client();
    populate(&mut client);
    let mut sent = 10_000;
    loop {
        let swaps: Vec<Value> = (sent..sent + 100).map(|n| swap(n, 5_000, 1)).collect();
        sent += 100;
        if client.post("/v1/swaps:batch", &json!({"swaps": swaps})).status != 200 {
            break;
        }
    }
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(4), "{log}");
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let failed = lines.iter().find(|line| line["message"] == "request failed").expect("a line");
    assert_eq!((&failed["code"], &failed["level"]), (&json!("stopped"), &json!("WARN")));
    assert_eq!(failed["route"], "/v1/swaps:batch");
    let reason = lines.iter().find(|line| line["message"] == "the engine stopped").expect("why");
    assert_eq!(reason["level"], "ERROR");
}
