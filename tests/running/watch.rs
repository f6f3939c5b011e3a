//! `crosslatch watch` beside a server, and without one.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::launch::{Launched, serve, serve_on};
use super::people::{populate, swap};
use super::process::command;
use super::said::run_at;

#[test]
fn rates_and_totals_are_those_of_what_was_sent() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Launched::ready(serve(data.path()));
    let mut client = server.client();
    populate(&mut client);
    // Of Alice's 1,000 ETH a third swap is enough for 3 each.
    let swaps: Vec<Value> = (100..600).map(|n| swap(n, 3, 1)).collect();
    client.post("/v1/swaps:batch", &json!({"swaps": swaps})).with(200);
    let seen = run_at(server.address, "watch --once --interval 10ms --json").with(0).json();
    let kind = |name: &str| {
        let all = seen["requests"].as_array().expect("a list");
        all.iter().find(|it| it["kind"] == name).unwrap_or_else(|| panic!("no {name}: {seen}"))
    };
    assert_eq!(kind("swap")["settled"]["total"], 333);
    assert_eq!(kind("swap")["rejected"]["total"], 167);
    assert_eq!(kind("deposit")["settled"]["total"], 2);
    assert_eq!(seen["rejects"][0]["name"], "insufficient_funds");
    assert_eq!(seen["rejects"][0]["total"], 167);
    assert_eq!(seen["durable_seq"], 8 + 333);
    // Nothing came between the two looks.
    assert_eq!(kind("swap")["settled"]["per_second"], 0.0);
    assert!(seen["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    let page = run_at(server.address, "watch --once --interval 10ms").with(0).out;
    assert!(page.contains("insufficient_funds") && page.contains("durable D 341"), "{page}");
}

/// A watch that goes on, and what it says.
struct Watch {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Watch {
    fn start(address: std::net::SocketAddr) -> Self {
        let url = format!("http://{address}");
        let mut command = command(&["watch", "--json", "--interval", "20ms", "--url", &url]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    /// The first view from now on that is as wanted.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).expect("a line"), 0, "it has ended");
            let view: Value = serde_json::from_str(&line).expect("JSON");
            if wanted(&view) {
                return view;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_sees_what_comes_and_survives_a_restart_of_the_server() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Launched::ready(serve(data.path()));
    let address = server.address;
    let mut watch = Watch::start(address);
    watch.until(|view| view["seconds"].is_number());
    populate(&mut server.client());
    let view = watch.until(|view| view["durable_seq"] == 8);
    assert!(view["settled"]["total"] == 8 && view["reachable"] == true, "{view}");
    let (status, _) = server.stop();
    assert_eq!(status.code(), Some(0));
    let gone = watch.until(|view| view["reachable"] == false);
    assert!(gone["why"].as_str().is_some_and(|why| why.contains("cannot be reached")), "{gone}");
    let _server = Launched::ready(serve_on(data.path(), &address.to_string()));
    watch.until(|view| view["restarted"] == true);
    // Once it has recovered it is where it was, before anything new has come.
    let view = watch.until(|view| view["durable_seq"] == 8);
    assert_eq!((&view["applied_seq"], &view["settled"]["total"]), (&json!(8), &json!(0)));
    let pid = Pid::from_child(&watch.child);
    kill_process(pid, Signal::INT).expect("it runs");
    let ended = watch.child.wait().expect("it ran");
    assert_eq!(ended.code(), Some(0), "Ctrl-C is how it ends");
}

#[test]
fn on_a_terminal_it_draws_in_place_and_q_ends_it() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Launched::ready(serve(data.path()));
    let binary = env!("CARGO_BIN_EXE_crosslatch");
    let line = format!("{binary} watch --interval 20ms --url http://{}", server.address);
    // `script` gives it a terminal, of which this test has the other end.
    let mut terminal = std::process::Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let spawned = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        eprintln!("SKIPPED: script (util-linux) is not installed, so no terminal was drawn on");
        return;
    };
    let mut out = child.stdout.take().expect("piped");
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    let shown = |seen: &[u8], text: &str| String::from_utf8_lossy(seen).matches(text).count();
    // Twice: in place, so from the corner on.
    while shown(&seen, "\x1b[H") < 2 || shown(&seen, "durable D 0") < 2 {
        let length = out.read(&mut buffer).expect("it draws");
        assert_ne!(length, 0, "it ended: {}", String::from_utf8_lossy(&seen));
        seen.extend(&buffer[..length]);
    }
    child.stdin.as_mut().expect("piped").write_all(b"ZZZq").expect("it listens");
    out.read_to_end(&mut seen).expect("its end");
    assert!(child.wait().expect("it ran").success());
    let text = String::from_utf8_lossy(&seen);
    let (drawn, after) = text.split_once("\x1b[?1049l").expect("the screen is given back");
    assert!(drawn.contains("\x1b[?1049h") && !drawn.contains("ZZZ"), "keys are not shown: {drawn}");
    assert!(after.contains("durable D 0"), "what was seen last stays: {after}");
}
