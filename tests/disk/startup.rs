//! A disk that fails while the server starts, and under what works in the background: flushes, merges
//! and folds.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam::channel::after;
use serde_json::json;

use super::errors::came_back;
use super::http::Client;
use super::node::Node;
use super::strace::{Trace, injected, is_there, only};
use super::venue::{self, Call, Heard};
use super::{copy, count, scratch};

/// Different N if nobody asks for more.
const TRIED: u64 = 3;
/// Numbers that RocksDB may give to files in one life.
const NUMBERS: u64 = 120;
/// So many flushes are made: more than are needed for a merge.
const FLUSHES: u64 = 3;
/// How often it is looked whether everything is merged.
const LOOKS_MAX: u64 = 5_000;
/// Lives that leave one sorted run of each family less than are merged.
const LIVES: u64 = 7;
/// Sorted runs that a merge of so many leaves at most.
const MERGED_MAX: u64 = 4;

/// Every file there is, and every one that the next life may make.
fn paths(data: &Path) -> Vec<PathBuf> {
    let db = data.join("db");
    let mut paths = vec![data.join("mark"), data.join("manifest"), data.to_owned(), db.clone()];
    let entries = fs::read_dir(&db).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let names = names.map(|name| name.expect("plain")).filter(|name| !name.starts_with("LOG"));
    let names: Vec<String> = names.collect();
    let numbers = names.iter().filter_map(|name| {
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        digits.parse::<u64>().ok()
    });
    let last = numbers.max().expect("files have numbers");
    for number in last + 1..last + NUMBERS {
        for name in ["#.log", "#.sst", "#.dbtmp", "MANIFEST-#"] {
            paths.push(db.join(name.replace('#', &format!("{number:06}"))));
        }
    }
    paths.extend(names.iter().map(|name| db.join(name)));
    paths
}

/// A directory after several lives, killed in the last one, and what was told in them.
fn aged(data: &Path) -> Heard {
    let mut heard = Heard::default();
    for life in 0..LIVES {
        let node = Node::start(data);
        if life == 0 {
            venue::populate(&mut node.client());
        }
        heard.add(venue::ask_all(&node, life * 20..life * 20 + 20));
        node.kill();
    }
    heard
}

/// What became of a call that was to fail.
#[derive(Default)]
struct Tally {
    /// It ended the server, or kept it from starting.
    ended: u64,
    /// The server went on, and rightly.
    went_on: u64,
}

/// Starts on a copy with the N-th such call failing; `None`: there are not so many.
fn start_fails(whole: &Path, heard: &Heard, call: &str, n: u64, tally: &mut Tally) -> Option<()> {
    let scratch = scratch();
    let (data, told) = (scratch.path().join("data"), scratch.path().join("told"));
    copy(whole, &data);
    let context = format!("{call} {n} of a start");
    let mut strace: Vec<String> =
        ["strace", "-D", "-f", "--seccomp-bpf", "-o"].map(Into::into).into();
    strace.push(told.to_str().expect("a plain path").into());
    strace.extend(["-e".into(), format!("trace={call}"), "-e".into()]);
    strace.push(format!("inject={call}:error=EIO:when={n}"));
    strace.extend(only(&paths(&data)));
    let mut all = Heard::default();
    let started = Node::try_start(&strace, &data);
    let felt = injected(&fs::read_to_string(&told).unwrap_or_default()) > 0;
    match started {
        Err(ended) => {
            assert!(felt, "{context}: {ended:?}");
            ended.gave_up(&context);
            tally.ended += 1;
        }
        Ok(node) => {
            all.add(venue::ask_all(&node, 500..510));
            node.kill();
            tally.went_on += u64::from(felt);
        }
    }
    all.told.extend(heard.told.iter().cloned());
    came_back(&data, &all, &context);
    felt.then_some(())
}

#[test]
fn a_start_that_fails_harms_nothing() {
    if !is_there() {
        return;
    }
    let scratch = scratch();
    let whole = scratch.path().join("whole");
    let heard = aged(&whole);
    let tried = count("CROSSLATCH_FAULTS", TRIED);
    for call in ["write", "fdatasync", "fsync", "pwrite64", "rename", "read", "pread64", "openat"] {
        let (mut tally, mut calls) = (Tally::default(), 0);
        // Without being asked for all, a few, further and further apart.
        for n in (0..tried).map(|n| if tried < 200 { 1 + n * n * 4 } else { 1 + n }) {
            if start_fails(&whole, &heard, call, n, &mut tally).is_none() {
                break;
            }
            calls = n;
        }
        let Tally { ended, went_on } = tally;
        eprintln!(
            "{call} up to {calls} in a start: {ended} refused, {went_on} went on; all came back"
        );
    }
}

/// Waits until all that the flushes have made ready to merge is merged, or the server is gone.
fn wait_merged(mut client: Client) {
    for _ in 0..LOOKS_MAX {
        let Ok(reply) = client.try_send("GET", "/metrics", &[], b"") else { return };
        let runs = |family: &str| -> u64 {
            let name = format!("crosslatch_rocksdb_level0_files{{column_family=\"{family}\"}} ");
            let line = reply.text().lines().find_map(|line| line.strip_prefix(&name));
            line.map_or(u64::MAX, |runs| runs.parse().expect("a number"))
        };
        if ["versions", "outcomes", "records"].iter().all(|family| runs(family) <= MERGED_MAX) {
            return;
        }
        // Numbers are shown once a second.
        let pause = after(Duration::from_millis(20));
        assert!(pause.recv().is_ok());
    }
    panic!("nothing is merged");
}

/// Has the N-th call of a background thread fail in a flush and the merges after it; `None`: there are not
/// so many.
fn background_fails(
    whole: &Path,
    heard: &Heard,
    thread: &str,
    fault: (&str, u64),
) -> Option<String> {
    let (call, n) = fault;
    let scratch = scratch();
    let (data, told) = (scratch.path().join("data"), scratch.path().join("told"));
    copy(whole, &data);
    let context = format!("{call} {n} of {thread}");
    let node = Node::start(&data);
    let mut all = venue::ask_all(&node, 500..520);
    let inject = format!("{call}:error=EIO:when={n}");
    let trace = Trace::attach(node.pid(), thread, &inject, &paths(&data), &told);
    let (mut asks, looks) = (node.client(), node.client());
    for round in 0..FLUSHES {
        all.add(venue::ask(&mut asks, 0, 520 + 20 * round..540 + 20 * round));
        // A backup flushes everything. It may fail, with the server.
        let body = json!({"to": scratch.path().join(format!("backup-{round}"))});
        let call = Call { path: "/v1/backups".into(), body };
        if venue::send(&mut asks, &call).is_err() {
            break;
        }
    }
    wait_merged(looks);
    let felt = injected(&fs::read_to_string(&told).expect("it tells")) > 0;
    all.told.extend(heard.told.iter().cloned());
    let said = if felt {
        let ended = node.wait();
        ended.gave_up(&context);
        assert!(ended.said.contains("Input/output error"), "{context}: {ended:?}");
        Some(ended.said)
    } else {
        node.kill();
        None
    };
    trace.end();
    came_back(&data, &all, &context);
    said
}

#[test]
fn a_flush_or_a_merge_that_fails_ends_the_server() {
    if !is_there() {
        return;
    }
    let scratch = scratch();
    let whole = scratch.path().join("whole");
    let heard = aged(&whole);
    let tried = count("CROSSLATCH_FAULTS", TRIED);
    for thread in ["rocksdb:high", "rocksdb:low"] {
        for call in ["write", "fdatasync"] {
            let (mut ended, mut said) = (0, String::new());
            for n in (0..tried).map(|n| if tried < 200 { 1 + n * 4 } else { 1 + n }) {
                let Some(words) = background_fails(&whole, &heard, thread, (call, n)) else {
                    break;
                };
                (ended, said) = (ended + 1, words);
            }
            assert!(ended > 0, "no {call} of {thread} was made to fail");
            eprintln!("{call} of {thread}: {ended} ended the server; all came back; {said}");
        }
    }
}
