//! Damage to any kind of file of a data directory: never a silent wrong start.
//!
//! ```text
//! a copy, one file wounded ─┬─ audit ─► holds, or says what is damaged
//!                           └─ serve ─┬─► refuses, says what and what to do; nothing was changed
//!                                     └─► is ready: every answer is the one it was before the
//!                                         damage (or fails, if the audit has found the damage)
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use crosslatch::store::{Durability, VersionStore, rocks};
use crosslatch::types::CommitSeq;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::Client;
use super::node::{self, Node};
use super::venue::{self, Heard, LANES, Told};
use super::wounds::{Kind, Wound};
use super::{copy, count, scratch, seed};

/// Damaged files of each kind if nobody asks for more.
const DAMAGED: u64 = 4;
/// What to do.
pub const REMEDY: &str = "restore the data directory from a backup";
/// Larger than a value may be folded in a small way, all together.
const BIG_VALUES: u64 = 18;
const BIG_VALUE_BYTES: usize = 60_000;
/// Requests sent again to a server that started on damage.
const SENT_AGAIN: usize = 30;

/// A sound data directory, and what a server on it answers.
struct Whole {
    data: PathBuf,
    /// Other files of each kind, from earlier days.
    others: BTreeMap<Kind, Vec<PathBuf>>,
    reads: Vec<(String, u16, Vec<u8>)>,
    told: Vec<Told>,
}

/// What came of a start on damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// It refused.
    Refused,
    /// Everything is right.
    Right,
    /// It started, nothing that it said was wrong, and the audit finds the damage.
    Found,
}

/// The files of a data directory.
fn files(data: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for directory in [data.to_path_buf(), data.join("db"), data.join("ingest")] {
        for entry in fs::read_dir(directory).expect("a directory") {
            let entry = entry.expect("an entry");
            if entry.file_type().expect("a type").is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}

/// Everything in it that says something about data.
fn contents(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    // What RocksDB says to people, and the lock, come into being when somebody looks.
    let said =
        files(data).into_iter().filter(|path| !matches!(Kind::of(path), Kind::Text | Kind::Lock));
    said.map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
}

fn backup(client: &mut Client, to: &Path) {
    let done = client.post("/v1/backups", &json!({"to": to})).with(200);
    assert_eq!(done["status"], "done");
}

/// Values that are folded as a sorted file of their own.
fn big_values(client: &mut Client, round: u64) -> Heard {
    let mut heard = Heard::default();
    for number in 0..BIG_VALUES {
        let key = STANDARD.encode(format!("big-{number}"));
        let value = vec![(round * 16 + number) as u8; BIG_VALUE_BYTES];
        let value = STANDARD.encode(value);
        let id = venue::id(100, round * 100 + number, 0);
        let body = json!({"request_id": id, "writes": [{"key": key, "value": value}]});
        let call = venue::Call { path: "/v1/transactions".into(), body };
        let reply = venue::send(client, &call).expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.text());
        heard.told.push(Told { call, status: reply.status, body: reply.body });
    }
    heard
}

/// Work over several lives: folds of both kinds, flushes in mid-life, kills and stops.
fn lives(scratch: &TempDir) -> (PathBuf, Heard) {
    let data = scratch.path().join("data");
    let mut heard = Heard::default();
    for round in 0..4 {
        let node = Node::start(&data);
        let mut client = node.client();
        if round == 0 {
            venue::populate(&mut client);
        }
        heard.add(venue::ask_all(&node, round * 30..round * 30 + 10));
        heard.add(big_values(&mut client, round));
        backup(&mut client, &scratch.path().join(format!("backup-{round}")));
        heard.add(venue::ask_all(&node, round * 30 + 10..round * 30 + 30));
        match round {
            0 => node.stop(),
            _ => node.kill(),
        }
        if round == 2 {
            copy(&data, &scratch.path().join("older"));
        }
    }
    (data, heard)
}

/// A directory as a kill leaves it, and one as a stop does.
fn wholes(scratch: &TempDir) -> Vec<Whole> {
    let (killed, heard) = lives(scratch);
    let stopped = scratch.path().join("stopped");
    copy(&killed, &stopped);
    let node = Node::start(&stopped);
    let mut more = venue::ask_all(&node, 200..240);
    node.stop();
    let older = files(&scratch.path().join("older"));
    more.told.extend(heard.told.iter().cloned());
    [(killed, heard), (stopped, more)]
        .map(|(data, heard)| Whole::new(data, &older, heard, scratch))
        .into()
}

impl Whole {
    fn new(data: PathBuf, older: &[PathBuf], heard: Heard, scratch: &TempDir) -> Self {
        let mut others: BTreeMap<Kind, Vec<PathBuf>> = BTreeMap::new();
        for path in older.iter().cloned().chain(files(&data)) {
            others.entry(Kind::of(&path)).or_default().push(path);
        }
        let look = scratch.path().join("look");
        copy(&data, &look);
        node::audited(&look, "a sound directory");
        let node = Node::start(&look);
        let mut client = node.client();
        let reads = paths(&mut client, &heard);
        let reads = reads.into_iter().map(|path| {
            let reply = client.get(&path);
            assert!(reply.status < 500, "{path}: {}", reply.text());
            (path, reply.status, reply.body)
        });
        let reads = reads.collect();
        node.kill();
        fs::remove_dir_all(&look).expect("it is ours");
        let told = heard.told.into_iter().filter(|told| told.body.len() < 10_000).collect();
        Self { data, others, reads, told }
    }

    /// One trial. What must not be is an error.
    fn wounded(
        &self,
        path: &Path,
        wound: &Wound,
        trial: &Path,
    ) -> Result<(Verdict, String), String> {
        copy(&self.data, trial);
        let path = trial.join(path.strip_prefix(&self.data).expect("inside"));
        wound.inflict(&path);
        let before = contents(trial);
        let proof = node::audit(trial);
        let found = proof.said.clone();
        ensure(matches!(proof.status.code(), Some(0 | 3 | 4)), || format!("audit: {proof:?}"))?;
        ensure(contents(trial) == before, || "the audit has changed something".into())?;
        match Node::try_start(&[], trial) {
            Err(ended) => {
                let said = ended.said.clone();
                ensure(ended.status.code() == Some(4), || format!("it ended: {ended:?}"))?;
                ensure(!said.contains("panicked"), || format!("it ended: {said}"))?;
                ensure(names(&said, &path, wound), || format!("not what is damaged: {said}"))?;
                ensure(said.contains(REMEDY), || format!("not what to do: {said}"))?;
                let changed = contents(trial) != before;
                let says_not = said.contains("nothing was changed");
                ensure(changed != says_not || !changed, || format!("it was changed: {said}"))?;
                if changed {
                    self.healed(&path, trial)?;
                }
                Ok((Verdict::Refused, said))
            }
            Ok(node) => {
                let failed = self.compare(&node)?;
                node.kill();
                match (proof.status.success(), failed) {
                    (true, None) => Ok((Verdict::Right, String::new())),
                    (true, Some(failed)) => Err(format!("the audit passes, but {failed}")),
                    (false, _) => Ok((Verdict::Found, found)),
                }
            }
        }
    }

    /// What a refused start has changed has lost nothing: with the file as it was, all is right.
    fn healed(&self, path: &Path, trial: &Path) -> Result<(), String> {
        let sound = self.data.join(path.strip_prefix(trial).expect("inside"));
        fs::copy(sound, path).expect("room");
        let node = Node::try_start(&[], trial).map_err(|ended| format!("healed: {ended:?}"))?;
        let failed = self.compare(&node)?;
        node.kill();
        ensure(failed.is_none(), || format!("healed: {failed:?}"))
    }

    /// Nothing that it says may be wrong. Returns what failed, if something did.
    fn compare(&self, node: &Node) -> Result<Option<String>, String> {
        // It may have met the damage, and ended, since it said that it is ready.
        let mut client = match Client::try_connect(node.address) {
            Ok(client) => client,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let mut failed = None;
        for (path, status, body) in &self.reads {
            match client.try_send("GET", path, &[], b"") {
                Ok(reply) if reply.status < 500 => {
                    let same = (reply.status, &reply.body) == (*status, body);
                    ensure(same, || format!("GET {path} is now {}", reply.text()))?;
                }
                Ok(reply) => failed = Some(reply.text().to_owned()),
                Err(error) => return Ok(Some(error.to_string())),
            }
        }
        let step = self.told.len() / SENT_AGAIN;
        for told in self.told.iter().step_by(step) {
            match venue::send(&mut client, &told.call) {
                Ok(reply) if reply.status < 500 => {
                    let same = (reply.status, &reply.body) == (told.status, &told.body);
                    ensure(same, || format!("{:?} is now {}", told.call, reply.text()))?;
                }
                Ok(reply) => failed = Some(reply.text().to_owned()),
                Err(error) => return Ok(Some(error.to_string())),
            }
        }
        Ok(failed)
    }
}

/// Whether it says which file, or which block, is damaged.
fn names(said: &str, path: &Path, wound: &Wound) -> bool {
    let name = path.file_name().expect("a file").to_string_lossy();
    let table = Kind::of(path) == Kind::Table && said.contains("or a table file");
    let no_log = matches!(wound, Wound::Missing) && said.contains("left of the log");
    let number = name.trim_start_matches('0').trim_end_matches(".log");
    let gone = said.contains(&format!("Missing WAL with log number: {number}"));
    said.contains(&*name) || said.contains("journal block") || table || no_log || gone
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Everything that can be asked about what was told.
fn paths(client: &mut Client, heard: &Heard) -> Vec<String> {
    let mut paths = vec!["/v1/assets".to_owned(), "/v1/audit".to_owned()];
    let now = client.get("/v1/accounts/1/balances").with(200);
    let now: u64 = now["seq"].as_str().expect("a seq").parse().expect("a number");
    for account in venue::accounts() {
        paths.push(format!("/v1/accounts/{account}"));
        paths.push(format!("/v1/accounts/{account}/balances"));
        paths.push(format!("/v1/accounts/{account}/history?limit=1000"));
        paths.extend(
            (1..5).map(|of| format!("/v1/accounts/{account}/balances?at={}", now * of / 5)),
        );
    }
    for lane in 0..LANES {
        let keys = (0..7).map(|number| format!("key-{lane}-{number}"));
        paths.extend(keys.map(|key| format!("/v1/keys/{}", URL_SAFE_NO_PAD.encode(key))));
    }
    paths.extend(
        (0..3)
            .map(|number| format!("/v1/keys/{}", URL_SAFE_NO_PAD.encode(format!("big-{number}")))),
    );
    for told in &heard.told {
        let id =
            |body: &Value| format!("/v1/requests/{}", body["request_id"].as_str().expect("an id"));
        match told.call.body["swaps"].as_array() {
            Some(swaps) => paths.extend(swaps.iter().map(id)),
            None => paths.push(id(&told.call.body)),
        }
        if told.call.path == "/v1/prepared" {
            let token = told.call.body["request_id"].as_str().expect("an id");
            paths.push(format!("/v1/prepared/{token}"));
        }
    }
    paths
}

#[test]
fn damage_of_any_kind_is_refused_or_found_or_harmless() {
    let (damaged, scratch) = (count("CROSSLATCH_DAMAGED", DAMAGED), scratch());
    let mut rng = SmallRng::seed_from_u64(seed(20_261_123));
    let wholes = wholes(&scratch);
    let trial = scratch.path().join("trial");
    let (mut wrong, told) = (Vec::new(), std::env::var("CROSSLATCH_TOLD").is_ok());
    let mut seen: BTreeMap<(Kind, Verdict), (u64, String)> = BTreeMap::new();
    let only = std::env::var("CROSSLATCH_KIND").ok();
    let asked = |kind: &Kind| only.as_ref().is_none_or(|only| *only == format!("{kind:?}"));
    for kind in Kind::ALL.into_iter().filter(asked) {
        for n in 0..damaged {
            let whole = &wholes[(n % 2) as usize];
            let all = files(&whole.data);
            let of_kind: Vec<_> = all.iter().filter(|path| Kind::of(path) == kind).collect();
            let path = of_kind.choose(&mut rng).expect("a file of each kind");
            let others: Vec<_> =
                whole.others[&kind].iter().filter(|other| other != path).cloned().collect();
            let wound = Wound::choose(path, &others, &mut rng);
            let came_of_it = whole.wounded(path, &wound, &trial);
            fs::remove_dir_all(&trial).expect("it is ours");
            let idle = |verdict| !kind.is_idle() || verdict == Verdict::Right;
            if told {
                eprintln!("{} {wound}: {came_of_it:?}", path.display());
            }
            match came_of_it {
                Ok((verdict, said)) if idle(verdict) => {
                    seen.entry((kind, verdict)).or_insert((0, said)).0 += 1;
                }
                other => wrong.push(format!("{} {wound}: {other:?}", path.display())),
            }
        }
    }
    for ((kind, verdict), (times, said)) in &seen {
        eprintln!("{kind:?} {verdict:?} {times}; for example: {}", said.trim_end());
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

/// Forgetting drops versions for good. So how far it went must be known even when the end of the log
/// is lost, which the mark cannot tell, as the journal is whole.
#[test]
fn how_much_was_forgotten_is_known_without_the_log() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let node = Node::start(&data);
    let last = venue::populate(&mut node.client());
    node.stop();
    let horizon = CommitSeq::new(last / 2);
    let opened = rocks::open(&data, Durability::Sync).expect("it is sound");
    opened.store.collect_garbage(horizon).expect("it forgets");
    drop(opened);
    let logs = files(&data).into_iter().filter(|path| Kind::of(path) == Kind::Wal);
    for log in logs {
        fs::write(log, "").expect("it can be written");
    }
    let opened = rocks::open_read_only(&data).expect("the journal is in tables");
    assert_eq!(opened.store.horizon(), Ok(horizon));
}
