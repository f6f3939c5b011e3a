//! `crosslatch config`: what it says is what `serve` does.

use std::io::Write;

use serde_json::{Value, json};

use super::launch::{Launched, serve};
use super::process::command;
use super::said::{end, run};

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("room");
    file
}

/// One row of `config show --json`.
fn setting(shown: &Value, key: &str) -> Value {
    let all = shown["settings"].as_array().expect("a list");
    let found = all.iter().find(|setting| setting["key"] == key);
    found.unwrap_or_else(|| panic!("no {key} in {shown}")).clone()
}

#[test]
fn every_setting_says_where_it_comes_from() {
    let file =
        file("listen = \"127.0.0.1:7\"\n# more\n[limits]\nfold_requests_max = 7\nshards = 9\n");
    let path = file.path().to_str().expect("a plain path");
    let mut command = command(&["config", "show", "--json", "--config", path, "--shards", "4"]);
    command.env("CROSSLATCH_LIMITS_HOLDS_MAX", "12").env("CROSSLATCH_DATA", "/somewhere");
    command.env("CROSSLATCH_LIMITS_SHARDS", "8").env_remove("RUST_LOG");
    let shown = end(command).with(0).json();
    for (key, value, origin) in [
        (
            "data",
            json!("/somewhere"),
            json!({"from": "environment", "variable": "CROSSLATCH_DATA"}),
        ),
        ("listen", json!("127.0.0.1:7"), json!({"from": "file", "path": path, "line": 1})),
        ("limits.fold_requests_max", json!(7), json!({"from": "file", "path": path, "line": 4})),
        ("limits.shards", json!(4), json!({"from": "flag", "flag": "--shards"})),
        (
            "limits.holds_max",
            json!(12),
            json!({"from": "environment", "variable": "CROSSLATCH_LIMITS_HOLDS_MAX"}),
        ),
        ("log_level", json!("info"), json!({"from": "default"})),
    ] {
        let row = setting(&shown, key);
        assert_eq!((&row["value"], &row["origin"]), (&value, &origin), "{key}");
    }
    assert_eq!(setting(&shown, "limits.holds_max")["unit"], "holds");
    let text = run(&format!("config show --config {path}")).with(0).out;
    let line = text.lines().find(|line| line.starts_with("limits.shards ")).expect("a line");
    let said: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(said, ["limits.shards", "9", "actors", "file", &format!("{path}:5")]);
}

#[test]
fn a_file_is_checked_to_its_end() {
    let wrong = file("lisen = \"127.0.0.1:7\"\n[limits]\nshards = 65\nholds = 1\n");
    let path = wrong.path().to_str().expect("a plain path");
    let said = run(&format!("config check --config {path}")).with(3);
    for line in [
        format!("crosslatch: {path}:1: lisen is no setting; did you mean listen?"),
        format!("crosslatch: {path}:3: limits.shards is 65; give 1 to 64"),
        format!("crosslatch: {path}:4: limits.holds is no setting; did you mean limits.holds_max?"),
    ] {
        assert!(said.err.lines().any(|it| it == line), "no {line} in {said:?}");
    }
    let said = run(&format!("config check --json --config {path}")).with(3).json();
    assert_eq!(said["valid"], false);
    assert_eq!(said["findings"].as_array().map(Vec::len), Some(3));
    assert_eq!(said["findings"][0]["did_you_mean"], "listen");
    // What only a whole can break.
    let apart = file("[limits]\nunfolded_requests_max = 5\n");
    let path = apart.path().to_str().expect("a plain path");
    let said = run(&format!("config check --config {path}")).with(3);
    assert!(said.err.contains("unfolded_requests_max is 5; give 1000000 to "), "{said:?}");
    run("config check").with(0);
    assert!(run("config check --config nowhere.toml").with(3).err.contains("cannot be read"));
}

#[test]
fn a_server_starts_with_the_example_as_it_is() {
    let data = tempfile::tempdir().expect("a directory");
    let path = data.path().join("crosslatch.toml");
    std::fs::write(&path, run("config example").with(0).out).expect("room");
    let path = path.to_str().expect("a plain path");
    run(&format!("config check --config {path}")).with(0);
    let mut command = serve(&data.path().join("data"));
    command.args(["--config", path]);
    let server = Launched::ready(command);
    assert!(server.ready.contains("2 shards, seq 0"), "{}", server.ready);
}
