//! A manifest that ends early, or seems to: RocksDB takes it for one that a crash has torn, opens an
//! earlier database, and deletes the files that this does not know. Here a cut before every record,
//! and a flipped bit in the length of every record.
//!
//! ```text
//! big values ─► a sorted file, moved in (named in the manifest only)
//! small ones ─► the log, with a newer applied mark: so what is in the file is never folded again
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use super::damage::REMEDY;
use super::http::Client;
use super::node::{Node, audit};
use super::venue::{self, Call};
use super::wounds::record_starts;
use super::{copy, scratch};

/// Large enough that they are folded as a file of their own, if they are folded together.
const BIG_VALUES: u64 = 24;
const BIG_VALUE_BYTES: usize = 60_000;
/// Where the length of a record stands in its header.
const LENGTH_AT: usize = 4;

fn put(client: &mut Client, number: u64, key: &str, value: &[u8]) {
    let writes = [json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value)})];
    let body = json!({"request_id": venue::id(150, number, 0), "writes": writes});
    let call = Call { path: "/v1/transactions".into(), body };
    assert_eq!(venue::send(client, &call).expect("an answer").status, 200);
}

/// Waits until everything is folded.
fn folded(client: &mut Client) {
    let looks = 10_000;
    let seq = |reply: &str, name: &str| {
        let line = reply.lines().find_map(|line| line.strip_prefix(name)).expect("a metric");
        line.trim().to_owned()
    };
    for _ in 0..looks {
        let reply = client.get("/metrics");
        let (durable, applied) = (
            seq(reply.text(), "crosslatch_durable_seq "),
            seq(reply.text(), "crosslatch_applied_seq "),
        );
        if durable == applied {
            return;
        }
    }
    panic!("it does not fold");
}

/// A directory of one life, killed, and its manifest.
fn one_life(data: &Path) -> PathBuf {
    let node = Node::start(data);
    let mut client = node.client();
    for round in 0..2 {
        std::thread::scope(|scope| {
            for number in 0..BIG_VALUES {
                let mut client = node.client();
                let value = [round as u8; BIG_VALUE_BYTES];
                let key = format!("big-{number}");
                scope.spawn(move || put(&mut client, round * 100 + number, &key, &value));
            }
        });
        folded(&mut client);
    }
    for number in 0..3 {
        put(&mut client, 900 + number, "small", b"value");
        folded(&mut client);
    }
    node.kill();
    let mut files = fs::read_dir(data.join("db")).expect("a directory");
    let manifest = files.find_map(|entry| {
        let path = entry.expect("an entry").path();
        path.file_name()?.to_str()?.starts_with("MANIFEST-").then_some(path)
    });
    manifest.expect("there is one")
}

/// What is stored under the big keys.
fn values(node: &Node) -> Vec<Vec<u8>> {
    let mut client = node.client();
    let key = |number| URL_SAFE_NO_PAD.encode(format!("big-{number}"));
    (0..BIG_VALUES).map(|number| client.get(&format!("/v1/keys/{}", key(number))).body).collect()
}

#[test]
fn a_manifest_that_ends_early_is_not_taken_for_a_torn_one() {
    let scratch = scratch();
    let (data, trial) = (scratch.path().join("data"), scratch.path().join("trial"));
    let manifest = one_life(&data);
    let name = manifest.file_name().expect("a name").to_str().expect("plain").to_owned();
    let whole = fs::read(&manifest).expect("it is there");
    copy(&data, &trial);
    let node = Node::start(&trial);
    let before = values(&node);
    node.kill();
    fs::remove_dir_all(&trial).expect("it is ours");
    let starts: Vec<usize> =
        record_starts(&whole).into_iter().filter(|start| *start < whole.len()).collect();
    assert!(starts.len() > 15, "few records: {starts:?}");
    for start in &starts {
        let mut longer = whole.clone();
        longer[start + LENGTH_AT + 1] ^= 0x40;
        for damaged in [&whole[..*start], &longer] {
            copy(&data, &trial);
            fs::write(trial.join("db").join(&name), damaged).expect("room");
            let context = format!("{name} of {} bytes at {start}", whole.len());
            assert_eq!(audit(&trial).status.code(), Some(3), "{context}");
            match Node::try_start(&[], &trial) {
                Err(ended) => {
                    ended.gave_up(&context);
                    let named = ended.said.contains(&name) && ended.said.contains(REMEDY);
                    assert!(named, "{context}: {ended:?}");
                }
                Ok(node) => panic!("{context}: it started; right: {}", values(&node) == before),
            }
            fs::remove_dir_all(&trial).expect("it is ours");
        }
    }
    eprintln!(
        "{} records of the manifest: each cut and each length that lies refused",
        starts.len()
    );
}
