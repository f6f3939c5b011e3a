//! How every command ends: 0 done, 1 rejected, 2 bad usage, 3 a check failed, 4 no server or no store.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use super::completions::subcommands;
use super::people::{self, BOB_EVM, BOB_SOL, id};
use super::process::Server;
use super::said::{end, run};

const NOBODY: &str = "http://127.0.0.1:1";

/// Client commands that settle, in this order, on a server that is empty.
fn settling() -> Vec<String> {
    let order = |n: u64| format!("--request-id {}", id(n));
    let line = |text: &str| text.to_owned();
    vec![
        line("asset put ETH --chain-id 1 --chain-kind evm --decimals 18"),
        line("asset put SOL --chain-id 101 --chain-kind solana --decimals 9"),
        line("asset show"),
        format!("account put 1 --link 1={} --link 101={}", people::ALICE_EVM, people::ALICE_SOL),
        format!("account put 2 --link 1={BOB_EVM} --link 101={BOB_SOL}"),
        line("account show 1"),
        line("deposit 1 ETH 1000"),
        line("deposit 2 SOL 5000"),
        format!("withdraw 1 ETH 10 {}", order(1)),
        format!("withdraw confirm {}", id(1)),
        format!("withdraw 1 ETH 10 {}", order(2)),
        format!("withdraw cancel {}", id(2)),
        format!("withdraw show {}", id(2)),
        line("swap --leg 1:2:ETH:5 --leg 2:1:SOL:5"),
        format!("prepare --leg 1:2:ETH:5 --leg 2:1:SOL:5 {}", order(3)),
        format!("prepare show {}", id(3)),
        format!("commit {}", id(3)),
        format!("prepare --leg 1:2:ETH:5 --leg 2:1:SOL:5 {}", order(4)),
        format!("rollback {}", id(4)),
        line("transaction --write a=b"),
        line("market put ETH-SOL --base ETH --quote SOL --fee-account 2"),
        line("market list"),
        line("market show ETH-SOL"),
        format!("order sell 1 ETH-SOL 10 --price 20 {}", order(5)),
        line("order buy 2 ETH-SOL 1 --price 1"),
        format!("order show {}", id(5)),
        line("order list 1"),
        line("orders --account 1"),
        format!("amend {} --price 21", id(5)),
        format!("cancel {}", id(5)),
        line("cancel-all 2"),
        line("book ETH-SOL"),
        line("trades ETH-SOL"),
        line("market halt ETH-SOL"),
        line("market resume ETH-SOL"),
        format!("receipt {}", id(5)),
        line("balance 1"),
        line("history 1"),
        line("value a"),
        line("operate cancel_only"),
        line("operate"),
        line("operate normal"),
        // Of which there is one: a line each is printed.
        line("events --kind transaction"),
        line("prepared --limit 5"),
        line("stats"),
        line("status"),
        line("watch --once --interval 10ms"),
    ]
}

/// Client commands that are refused after that.
fn refused() -> Vec<String> {
    let line = |text: &str| text.to_owned();
    vec![
        line("asset put ETH --chain-id 1 --chain-kind evm --decimals 8"),
        line("asset show DOGE"),
        line("account show 9"),
        line("deposit 9 ETH 1"),
        line("withdraw 1 ETH 100000"),
        format!("withdraw confirm {}", id(99)),
        line("swap --leg 1:2:ETH:100000 --leg 2:1:SOL:5"),
        line("prepare --leg 1:2:ETH:100000 --leg 2:1:SOL:5"),
        format!("commit {}", id(4)),
        format!("rollback {}", id(3)),
        line("transaction --read a@1 --write a=b"),
        line("market show NO"),
        line("order buy 1 NO 5 --price 1"),
        format!("amend {} --price 5", id(5)),
        format!("cancel {}", id(5)),
        line("cancel-all 9"),
        line("book NO"),
        line("trades NO"),
        format!("receipt {}", id(99)),
        line("balance 9"),
        line("history 9"),
        line("value a --at 999"),
        line("orders --account 9"),
        line("events --market NO"),
    ]
}

/// Commands about keys that settle in that order, on a server with the key `first`.
fn about_keys() -> Vec<String> {
    [
        "key create desk --scope read,trade --account 1 --account 2",
        "key list",
        "key show desk",
        "key rotate desk",
        "key revoke desk",
    ]
    .map(str::to_owned)
    .into()
}

#[test]
fn commands_about_keys_end_as_they_should() {
    let data = tempfile::tempdir().expect("a directory");
    let directory = data.path().display();
    let scopes = "--scope read,trade,transfer,operate --all-accounts";
    let made = run(&format!("key create first {scopes} --json --data {directory}")).with(0);
    let made: Value = serde_json::from_str(&made.out).expect("one object");
    let token = made["token"].as_str().expect("a token");
    let server = Server::start(data.path());
    let at = format!("--key {token} --url http://{}", server.address);
    for line in about_keys() {
        let said = run(&format!("{line} --json {at}")).with(0);
        assert!(serde_json::from_str::<Value>(&said.out).is_ok(), "{line}: {said:?}");
        assert_eq!(run(&format!("{line} --key {token} --url {NOBODY}")).status, 4, "{line}");
        assert_eq!(run(&format!("{line} --no-such-flag")).status, 2, "{line}");
    }
    assert_eq!(run(&format!("key show nobody {at}")).status, 1);
    assert_eq!(
        run(&format!("balance 1 --url http://{}", server.address)).status,
        1,
        "without a key"
    );
}

#[test]
fn client_commands_end_as_they_should() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(data.path());
    let url = format!("http://{}", server.address);
    for line in settling() {
        let said = run(&format!("{line} --url {url}")).with(0);
        assert!(!said.out.is_empty(), "{line}: {said:?}");
    }
    for line in refused() {
        let said = run(&format!("{line} --url {url}"));
        assert_eq!(said.status, 1, "{line}: {said:?}");
        assert!(
            said.err.starts_with("crosslatch: ") || said.err.starts_with("request id "),
            "{said:?}"
        );
    }
    for line in settling() {
        let said = run(&format!("{line} --url {NOBODY}"));
        assert_eq!(said.status, 4, "{line}: {said:?}");
        assert!(said.out.is_empty(), "{line}: {said:?}");
        let said = run(&format!("{line} --no-such-flag"));
        assert_eq!(said.status, 2, "{line}: {said:?}");
    }
}

#[test]
fn client_commands_print_json_where_they_print_data() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(data.path());
    for line in settling() {
        let said = run(&format!("{line} --json --url http://{}", server.address)).with(0);
        assert!(said.json().is_object(), "{line}: {said:?}");
    }
}

/// What is run where the data is, and how it ends.
fn beside_the_server(dir: &Path, busy: SocketAddr) -> Vec<(String, i32)> {
    let at = |name: &str| dir.join(name).display().to_string();
    let (data, held, backup, damaged) = (at("data"), at("held"), at("backup"), at("damaged"));
    let row = |line: String, status| (line, status);
    vec![
        row(format!("serve --data {held} --listen 127.0.0.1:0"), 4),
        row(format!("serve --data {} --listen {busy}", at("new")), 4),
        row("serve --shards 65".into(), 2),
        row("serve --config nowhere.toml".into(), 2),
        row(format!("load --swaps 500 --accounts 50 --data {data}"), 0),
        row("load --swaps some".into(), 2),
        row(format!("load --swaps 10 --data {held}"), 4),
        row(format!("audit --data {data}"), 0),
        row(format!("audit --data {}", at("none")), 4),
        row(format!("audit --data {held}"), 4),
        row("audit --dta x".into(), 2),
        row(format!("replay --data {data}"), 0),
        row(format!("replay --data {data} --to 999999999"), 2),
        row(format!("replay --data {}", at("none")), 4),
        row(format!("backup --data {data} --to {backup}"), 0),
        row(format!("backup --data {data} --to {backup}"), 2),
        row(format!("backup --data {held} --to {}", at("other")), 4),
        row(format!("backup --url http://{busy} --to {}", at("online")), 0),
        row(format!("backup --url {NOBODY} --to {}", at("nobody")), 4),
        row(format!("restore --from {backup} --data {}", at("restored")), 0),
        row(format!("restore --from {backup} --data {}", at("restored")), 2),
        row(format!("restore --from {damaged} --data {}", at("again")), 3),
        row("metrics list".into(), 0),
        row("metrics lst".into(), 2),
        row("config show".into(), 0),
        row("config show --shards 65".into(), 2),
        row("config check".into(), 0),
        row("config check --shards 65".into(), 3),
        row("config example".into(), 0),
        row("config exmple".into(), 2),
        row("completions fish".into(), 0),
        row("completions fsh".into(), 2),
        row("openapi".into(), 0),
        row("openapi --no-such-flag".into(), 2),
        row("man".into(), 0),
        row("man --dir /dev/null/x".into(), 4),
        row("man --dr x".into(), 2),
    ]
}

/// Flips a byte in the middle of the largest file below `dir`.
fn damage(dir: &Path) {
    let files = |dir: &Path| -> Vec<_> {
        let entries =
            std::fs::read_dir(dir).expect("a directory").map(|it| it.expect("entry").path());
        entries.collect()
    };
    let mut all = files(dir);
    while let Some(inner) = all.iter().position(|path| path.is_dir()) {
        let inner = all.swap_remove(inner);
        all.extend(files(&inner));
    }
    let size = |path: &std::path::PathBuf| std::fs::metadata(path).expect("a file").len();
    let largest = all.into_iter().max_by_key(size).expect("a file");
    let mut bytes = std::fs::read(&largest).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&largest, bytes).expect("writable");
}

#[test]
fn commands_beside_the_server_end_as_they_should() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("held"));
    for (line, status) in beside_the_server(dir.path(), server.address) {
        if line.contains("damaged") {
            let (from, to) = (dir.path().join("backup"), dir.path().join("damaged"));
            let mut copy = std::process::Command::new("cp");
            copy.arg("-r").arg(from).arg(&to);
            end(copy).with(0);
            damage(&to);
        }
        let said = run(&line);
        assert_eq!(said.status, status, "{line}: {said:?}");
        // Only what went wrong is said there, and how a load goes on.
        let is_silent = said.err.is_empty() || line.starts_with("load") && status == 0;
        assert_eq!(is_silent, status == 0, "{line}: {said:?}");
    }
}

#[test]
fn no_command_is_left_out() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let beside = beside_the_server(Path::new("x"), nowhere);
    let lines =
        settling().into_iter().chain(about_keys()).chain(beside.into_iter().map(|(line, _)| line));
    let lines: Vec<String> = lines.collect();
    let tried = |name: &String| lines.iter().any(|line| line.starts_with(name.as_str()));
    let left: BTreeSet<String> = subcommands().into_iter().filter(|name| !tried(name)).collect();
    assert_eq!(left, BTreeSet::new());
}
