//! `crosslatch events` against a running server.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::people::*;
use crate::process::{Server, command, output};
use crate::source::Source;

/// What the command prints, line by line.
fn printed(server: &Server, more: &[&str]) -> Vec<Value> {
    let url = format!("http://{}", server.address);
    let args = [&["events", "--url", &url], more].concat();
    let done = output(&args);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let text = String::from_utf8(done.stdout).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn events_are_printed_one_a_line() {
    let (_data, server, mut client) = started();
    for n in 100..110 {
        client.post("/v1/swaps", &swap(n, 1, 1)).with(200);
    }
    let all: Vec<Value> = Source::open(server.address, "/v1/events?follow=false", None)
        .rest()
        .into_iter()
        .map(|told| told.data)
        .collect();
    assert_eq!(printed(&server, &[]), all[..all.len() - 1], "all but the end");
    assert_eq!(printed(&server, &["--after", "8", "--kind", "swap"]).len(), 10);
    assert_eq!(printed(&server, &["--account", "3"]).len(), 1);
    assert_eq!(printed(&server, &["--after", "18"]), [] as [Value; 0]);
    let url = format!("http://{}", server.address);
    for wrong in [["--after", "99"], ["--market", "NONE"], ["--kind", "swop"]] {
        let done = output(&[&["events", "--url", &url], &wrong[..]].concat());
        assert_eq!(done.status.code(), Some(1), "{done:?}");
    }
    let mut following = command(&["events", "--url", &url, "--after", "18", "--follow"]);
    let mut following = following.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(following.stdout.take().expect("piped")).lines();
    let receipt = client.post("/v1/swaps", &swap(500, 1, 1)).with(200);
    let line = lines.next().expect("it goes on").expect("text");
    let event: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&event["commit_seq"], &event["legs"]), (&receipt["commit_seq"], &receipt["legs"]));
    following.kill().expect("it runs");
    following.wait().expect("it ran");
}
