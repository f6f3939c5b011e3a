//! A write or a sync that fails: on the thread that commits, while folding, flushing and compacting,
//! and while starting.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use crosslatch::clock::{Clock, SystemClock};
use crosslatch::store::{Journal, rocks};
use crosslatch::types::{BlockNumber, CommitSeq};

use super::node::{Ended, Node, audited};
use super::strace::{Trace, injected, is_there};
use super::venue::{self, Heard};
use super::{count, scratch};

/// The call that fails is the N-th, for N up to this.
const CALLS_MAX: u64 = 200;
/// So many different N if nobody asks for more.
const TRIED: u64 = 4;
/// Requests of a lane, at most: enough for 200 groups.
const REQUESTS: u64 = 2_000;

/// Every N that is tried, spread evenly up to 200.
fn places(tried: u64) -> impl Iterator<Item = u64> {
    let tried = tried.clamp(1, CALLS_MAX);
    (1..=tried).map(move |n| 1 + (n - 1) * (CALLS_MAX - 1) / (tried - 1).max(1))
}

/// What the trials came to.
#[derive(Default)]
struct Tally {
    trials: u64,
    told: usize,
    unanswered: usize,
    /// Milliseconds from the first word of the failure to the end of the process.
    ends: Vec<u64>,
    /// How it ended, without what differs from trial to trial, and how often.
    said: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, heard: &Heard, ended: &Ended, millis: u64) {
        self.trials += 1;
        self.told += heard.told.len();
        self.unanswered += heard.unanswered.len();
        self.ends.push(millis);
        let line = ended.said.lines().find(|line| line.contains("crosslatch: "));
        let line = line.unwrap_or_default();
        let plain: String = line
            .split(' ')
            .map(|word| if word.starts_with('/') { "PATH" } else { word })
            .collect::<Vec<_>>()
            .join(" ");
        *self.said.entry(plain).or_default() += 1;
    }

    fn show(&mut self, what: &str) {
        self.ends.sort_unstable();
        let at = |percent: usize| self.ends[(self.ends.len() - 1) * percent / 100];
        eprintln!(
            "{what}: {} of {} ended in order and came back; {} answers stood, {} requests had none; \
             ended after p50 {} ms, p90 {} ms, at most {} ms",
            self.ends.len(),
            self.trials,
            self.told,
            self.unanswered,
            at(50),
            at(90),
            at(100)
        );
        for (said, times) in &self.said {
            eprintln!("  {times} times: {said}");
        }
    }
}

/// The blocks of commits that were acknowledged.
fn blocks_of(data: &Path, seqs: &[u64]) -> Vec<BlockNumber> {
    let opened = rocks::open_read_only(data).expect("it can be looked at");
    let block = |seq: &u64| opened.store.block_of(CommitSeq::new(*seq)).expect("it reads");
    seqs.iter().map(|seq| block(seq).unwrap_or_else(|| panic!("{seq} is lost"))).collect()
}

/// The log's thread is the one that commits: its N-th call fails, once or from then on.
fn commit_fails(call: &str, n: u64, for_ever: bool, tally: &mut Tally) {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let context = format!("{call} {n}{}", if for_ever { "+" } else { "" });
    let node = Node::start(&data);
    let last = venue::populate(&mut node.client());
    let inject = format!("{call}:error=EIO:when={n}{}", if for_ever { "+" } else { "" });
    // Its other writes wake up those who wait for their answers.
    let logs = if call == "write" { logs(&data) } else { vec![] };
    let trace =
        Trace::attach(node.pid(), "commit-log", &inject, &logs, &scratch.path().join("told"));
    // It never sends the rest: nobody waits for that.
    let mut half = TcpStream::connect(node.address).expect("the server listens");
    half.write_all(b"POST /v1/swaps HTTP/1.1\r\nHost: test\r\n").expect("it takes it");
    let heard = venue::ask_all(&node, 0..REQUESTS);
    let began = SystemClock.boot_nanos();
    let ended = node.wait();
    let millis = (SystemClock.boot_nanos() - began) / 1_000_000;
    ended.gave_up(&context);
    let path = if call == "pwrite64" { "mark" } else { ".log" };
    assert!(ended.said.contains("Input/output error"), "{context}: {ended:?}");
    assert!(ended.said.contains(path), "{context}: it does not name the file: {ended:?}");
    assert_eq!(injected(&trace.end()), 1, "{context}: nothing comes after a failure");
    assert!(!heard.unanswered.is_empty(), "{context}: nobody felt it");
    // One call a block: what was in the block whose call failed, or in a later one, nobody was told.
    let base = blocks_of(&data, &[last])[0].get();
    let blocks = blocks_of(&data, &heard.seqs());
    let latest = blocks.iter().max().map_or(base, |block| block.get());
    assert!(latest < base + n, "{context}: told of block {latest}, {base} was the last before");
    came_back(&data, &heard, &context);
    tally.add(&heard, &ended, millis);
}

/// RocksDB's logs.
fn logs(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("db")).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|it| it == "log")).collect()
}

/// A start on a sound disk finds everything.
pub fn came_back(data: &Path, heard: &Heard, context: &str) {
    let node = Node::start(data);
    venue::stands_by(&node, heard, context);
    node.stop();
    audited(data, context);
}

fn every_commit(call: &str) {
    if !is_there() {
        return;
    }
    let (mut tally, tried) = (Tally::default(), count("CROSSLATCH_FAULTS", TRIED));
    for n in places(tried) {
        // Both where every N is tried, else in turn.
        for for_ever in [false, true] {
            if tried == CALLS_MAX || for_ever == n.is_multiple_of(2) {
                commit_fails(call, n, for_ever, &mut tally);
            }
        }
    }
    tally.show(&format!("{call} of the log"));
}

#[test]
fn a_sync_that_fails_ends_all_acknowledgement() {
    every_commit("fdatasync");
}

#[test]
fn a_write_that_fails_ends_all_acknowledgement() {
    every_commit("write");
}

#[test]
fn a_mark_that_cannot_be_written_ends_all_acknowledgement() {
    every_commit("pwrite64");
}
