//! Backups: taken while everything is going on, restored elsewhere, and held against the original.
//!
//! * What is restored is an exact prefix of the original's journal, byte for byte, with everything
//!   that was acknowledged before the backup began; it audits clean, is what the journal's replay to
//!   that seq is, and an engine goes on from there.
//! * What is damaged, however little, is not restored, and what was not finished is no backup.
//!
//! `CROSSLATCH_BACKUPS=200 CROSSLATCH_SEED=n cargo test --release --test backup` takes more of them.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "support/http.rs"]
#[expect(dead_code, reason = "shared with tests that ask for more")]
mod http;
#[path = "support/process.rs"]
#[expect(dead_code, reason = "shared with tests that need more of it")]
mod process;
#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::after;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crosslatch::cli::audit::audit_directory;
use crosslatch::engine::{Brief, Engine, Options};
use crosslatch::error::{Error, Reject};
use crosslatch::request::{Action, Command, Request, Transact, Transfer, Write};
use crosslatch::store::backup::{self, BackupError, BackupReport};
use crosslatch::store::replay::{State, compare, replay_to};
use crosslatch::store::{Journal, StoreError, VersionStore, rocks};
use crosslatch::types::{BlockNumber, CommitSeq, Key, Leg, RequestId, Token};

use process::{Server, output};
use support::{
    ETH, SOL, USDC, audit, deposit, fresh, fresh_id, leg, opening, prepare, resolve, scratch, seed,
    swap, transfer,
};

const ACCOUNTS: u64 = 50;
/// Callers at once, by how many requests each has in flight.
const CALLERS: [usize; 4] = [1, 16, 256, 2_048];
/// Backups taken of one engine.
const ROUNDS: u32 = 4;

/// How many backups are taken under load.
fn backups() -> u32 {
    std::env::var("CROSSLATCH_BACKUPS").map_or(20, |text| text.parse().unwrap())
}

/// A venue with money, and the engine on it.
fn venue(data: &Path) -> Engine {
    let mut options = Options::new(data);
    // Who meets an exclusive hold gives up soon, so that nobody idles.
    options.limits.lock_wait_ms = 5;
    let engine = Engine::start(options).unwrap();
    let mut commands = opening(ACCOUNTS);
    for number in 0..ACCOUNTS {
        commands.extend([ETH, SOL, USDC].map(|asset| deposit(number, asset, 1_000_000)));
    }
    engine.submit(fresh(commands)).unwrap().wait().unwrap();
    engine
}

/// What was acknowledged so far.
#[derive(Default)]
struct Acknowledged {
    seq: AtomicU64,
    ids: Mutex<Vec<RequestId>>,
}

/// One caller, who asks for everything that there is.
struct Caller {
    rng: SmallRng,
    /// Holds of its own that may be open.
    holds: VecDeque<(Token, bool)>,
}

impl Caller {
    fn command(&mut self, id: RequestId) -> Command {
        let (from, to) = self.two();
        let amount = self.rng.random_range(1..50);
        let legs = [leg(from, to, ETH, amount), leg(to, from, SOL, amount)];
        match self.rng.random_range(0..100) {
            0..50 => swap(legs),
            50..65 => self.prepare(id, legs),
            65..80 => self.resolve().unwrap_or_else(|| swap(legs)),
            80..90 => self.transact(legs[0]),
            90..96 => Command::Deposit(self.named_transfer(from, amount)),
            _ => {
                self.holds.push_back((Token::of(id), false));
                Command::Withdraw(self.named_transfer(from, amount))
            }
        }
    }

    fn two(&mut self) -> (u64, u64) {
        let from = self.rng.random_range(0..ACCOUNTS);
        (from, (from + self.rng.random_range(1..ACCOUNTS)) % ACCOUNTS)
    }

    fn prepare(&mut self, id: RequestId, legs: [Leg; 2]) -> Command {
        self.holds.push_back((Token::of(id), true));
        let exclusive = self.rng.random_ratio(1, 200);
        // Some expire by themselves.
        let is_short = exclusive || self.rng.random_ratio(1, 20);
        let expires_in_ms = if is_short { 20 } else { 3_600_000 };
        prepare(legs, expires_in_ms, exclusive)
    }

    fn resolve(&mut self) -> Option<Command> {
        let (token, is_swap) = self.holds.pop_front()?;
        let action = match (is_swap, self.rng.random_ratio(2, 3)) {
            (true, true) => Action::Commit,
            (true, false) => Action::Rollback,
            (false, true) => Action::Confirm,
            (false, false) => Action::Cancel,
        };
        Some(resolve(token, action))
    }

    fn transact(&mut self, leg: Leg) -> Command {
        let key = Key::new(format!("key-{}", self.rng.random_range(0..200)).into_bytes());
        let value = self.rng.random_ratio(9, 10).then(|| b"a value".as_slice().into());
        let (writes, transfers) = (vec![Write { key, value }], vec![leg]);
        Command::Transact(Box::new(Transact { reads: Vec::new(), writes, transfers }))
    }

    fn named_transfer(&mut self, account: u64, amount: u128) -> Transfer {
        let reference = format!("{:x}", self.rng.random::<u64>()).into();
        Transfer { reference, ..transfer(account, ETH, amount) }
    }

    fn run(mut self, engine: &Engine, at_once: usize, told: &Acknowledged, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let ids: Vec<RequestId> = (0..at_once).map(|_| fresh_id()).collect();
            let requests = ids.iter().map(|id| Request::new(*id, self.command(*id))).collect();
            let answers = engine.submit(requests).unwrap().wait().unwrap();
            let settled = (0..answers.len()).filter_map(|index| match answers.brief(index) {
                Brief::Settled(seq) => Some(seq.get()),
                Brief::Rejected(_) => None,
            });
            // One id stands for all that were answered with it.
            told.ids.lock().unwrap().push(ids[0]);
            told.seq.fetch_max(settled.max().unwrap_or(0), Ordering::SeqCst);
        }
    }
}

/// What was acknowledged before a backup, and the backup.
struct Taken {
    seq: u64,
    ids: Vec<RequestId>,
    report: BackupReport,
}

/// Takes a backup in the middle of everything.
fn back_up_under_load(engine: &Engine, to: &Path, rng: &mut SmallRng) -> Taken {
    let (told, stop) = (Acknowledged::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for at_once in CALLERS {
            let caller =
                Caller { rng: SmallRng::seed_from_u64(rng.random()), holds: VecDeque::new() };
            let (told, stop) = (&told, &stop);
            scope.spawn(move || caller.run(engine, at_once, told, stop));
        }
        after(Duration::from_millis(rng.random_range(50..400))).recv().unwrap();
        let (seq, ids) = (told.seq.load(Ordering::SeqCst), told.ids.lock().unwrap().clone());
        let report = engine.backup(to);
        stop.store(true, Ordering::Relaxed);
        Taken { seq, ids, report: report.unwrap() }
    })
}

fn restore(from: &Path, data: &Path) -> BackupReport {
    let before = contents(from);
    let report = backup::restore(from, data).unwrap();
    assert!(contents(from) == before, "the backup has changed");
    report
}

/// Every file below a directory.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.append(&mut contents(&path)),
            false => drop(found.insert(path.clone(), fs::read(path).unwrap())),
        }
    }
    found
}

/// What was restored, by itself: it is whole, and has what was acknowledged.
fn check_restored(data: &Path, taken: &Taken) {
    let end = taken.report.end;
    assert!(end.seq.get() >= taken.seq, "{end} was acknowledged up to seq {}", taken.seq);
    let audit = audit_directory(data).unwrap();
    assert_eq!((audit.end, audit.applied.all()), (end, end));
    let opened = rocks::open_read_only(data).unwrap();
    assert_eq!(opened.mark, end);
    for id in &taken.ids {
        assert!(opened.store.block_with(*id).unwrap().is_some(), "{id} was answered");
    }
}

/// Against the original: the same blocks up to the end, and the state that they lead to.
fn check_prefix(restored: &Path, original: &rocks::OpenedReadOnly, report: &BackupReport) {
    let opened = rocks::open_read_only(restored).unwrap();
    let end = report.end;
    let block = |of: &rocks::OpenedReadOnly, number| of.store.block(number).unwrap();
    for number in (1..=end.block.get()).map(BlockNumber::new) {
        let (copy, first) = (block(&opened, number).unwrap(), block(original, number).unwrap());
        assert!(copy.bytes() == first.bytes(), "block {number} differs");
    }
    assert!(block(&opened, end.block.next()).is_none());
    let copy = replay_to(&*opened.store, CommitSeq::new(u64::MAX)).unwrap();
    let first = replay_to(&*original.store, end.seq).unwrap();
    assert_eq!(copy.seq, end.seq);
    assert!(is_same(&copy, &first));
    compare(&first, &*opened.store).unwrap();
}

fn is_same(one: &State, other: &State) -> bool {
    one.seq == other.seq
        && one.balances == other.balances
        && one.holds == other.holds
        && one.records == other.records
        && one.supplies == other.supplies
}

/// An engine goes on where the backup ends.
fn check_runs(data: &Path, report: &BackupReport) {
    let engine = Engine::start(Options::new(data)).unwrap();
    assert!(engine.status().durable_seq >= report.end.seq);
    let answers = engine.submit(fresh([deposit(1, ETH, 5)])).unwrap().wait().unwrap();
    assert!(matches!(answers.brief(0), Brief::Settled(seq) if seq > report.end.seq));
    audit(&engine);
    engine.stop().unwrap();
    drop(engine);
    audit_directory(data).unwrap();
}

#[test]
fn backups_under_full_load_are_exact_prefixes() {
    let mut rng = SmallRng::seed_from_u64(seed(20));
    let mut left = backups();
    while left > 0 {
        let rounds = ROUNDS.min(left);
        left -= rounds;
        let scratch = scratch();
        let (data, at) = (scratch.path().join("data"), |name| scratch.path().join(name));
        let engine = venue(&data);
        let mut restored = Vec::new();
        for round in 0..rounds {
            let (to, copy) = (at(format!("backup-{round}")), at(format!("restored-{round}")));
            let taken = back_up_under_load(&engine, &to, &mut rng);
            let (before, end) = (taken.seq, taken.report.end);
            println!("acknowledged seq {before}, backup at {end}, now {:?}", engine.status());
            let report = restore(&to, &copy);
            assert_eq!((report.end, report.bytes), (taken.report.end, taken.report.bytes));
            check_restored(&copy, &taken);
            restored.push((copy, report));
        }
        engine.stop().unwrap();
        drop(engine);
        audit_directory(&data).unwrap();
        let original = rocks::open_read_only(&data).unwrap();
        for (copy, report) in &restored {
            check_prefix(copy, &original, report);
        }
        let (copy, report) = restored.last().unwrap();
        check_runs(copy, report);
    }
}

/// A stopped engine's directory, and a backup of it.
fn small_backup(scratch: &Path) -> (PathBuf, PathBuf) {
    let (data, to) = (scratch.join("data"), scratch.join("backup"));
    let engine = venue(&data);
    let mut caller = Caller { rng: SmallRng::seed_from_u64(seed(21)), holds: VecDeque::new() };
    for _ in 0..20 {
        let ids: Vec<RequestId> = (0..50).map(|_| fresh_id()).collect();
        let requests = ids.iter().map(|id| Request::new(*id, caller.command(*id))).collect();
        engine.submit(requests).unwrap().wait().unwrap();
    }
    engine.stop().unwrap();
    drop(engine);
    backup::offline(&data, &to).unwrap();
    (data, to)
}

#[test]
fn what_is_damaged_is_not_restored() {
    let scratch = scratch();
    let (_, from) = small_backup(scratch.path());
    let mut rng = SmallRng::seed_from_u64(seed(22));
    let data = scratch.path().join("restored");
    let refused = |how: &str, path: &Path| {
        let error = backup::restore(&from, &data).expect_err(how);
        let path = path.display();
        assert!(matches!(error, BackupError::Damaged(_)), "{path} {how}: {error}");
        // Another try finds nothing in its way.
        assert_eq!(fs::read_dir(&data).map_or(0, Iterator::count), 0, "{path} {how}");
    };
    for (path, bytes) in contents(&from) {
        for _ in 0..5 {
            let mut flipped = bytes.clone();
            // Letters in a hash may change their case, which changes nothing.
            let (at, bit) = (rng.random_range(0..bytes.len()), [0, 1, 2, 3, 4, 6, 7]);
            flipped[at] ^= 1 << bit[rng.random_range(0..bit.len())];
            fs::write(&path, flipped).unwrap();
            refused("has a bit flipped", &path);
        }
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        refused("is cut short", &path);
        fs::remove_file(&path).unwrap();
        if path.file_name().unwrap() == "backup" {
            let error = backup::restore(&from, &data).expect_err("no backup");
            assert!(matches!(error, BackupError::Refused { .. }), "{error}");
        } else {
            refused("is missing", &path);
        }
        fs::write(&path, &bytes).unwrap();
    }
    restore(&from, &data);
    audit_directory(&data).unwrap();
}

#[test]
fn a_copy_that_fails_its_audit_is_no_backup() {
    let scratch = scratch();
    let (data, _) = small_backup(scratch.path());
    let logs = contents(&data.join("db")).into_iter();
    let (log, mut bytes) = logs
        .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "log"))
        .max_by_key(|(_, bytes)| bytes.len())
        .unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(log, bytes).unwrap();
    let to = scratch.path().join("second");
    let error = backup::offline(&data, &to).expect_err("damaged");
    assert!(matches!(error, BackupError::Audit(_)), "{error}");
    let why = fs::read_to_string(to.join("unfinished/FAILED")).unwrap();
    assert_eq!(why.trim_end(), error.to_string());
    let error = backup::restore(&to, &scratch.path().join("restored")).expect_err("failed");
    assert!(error.to_string().contains("failed its audit"), "{error}");
    let error = rocks::open_read_only(&to).map(drop).expect_err("no data directory");
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
}

#[test]
fn only_a_place_of_its_own_is_taken() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let engine = venue(&data);
    let error = backup::offline(&data, &scratch.path().join("to")).expect_err("it runs");
    assert!(matches!(error, BackupError::Store(StoreError::InUse(_))), "{error}");
    assert!(!scratch.path().join("to").exists());
    for (to, why) in [(&data, "inside"), (&data.join("deep/er"), "inside")] {
        let Err(Error::Read(Reject::Malformed(malformed))) = engine.backup(to) else {
            panic!("{} was taken", to.display())
        };
        assert!(malformed.field == "to" && malformed.why.contains(why), "{malformed}");
    }
    let to = scratch.path().join("to");
    engine.backup(&to).unwrap();
    let again = engine.backup(&to).expect_err("not empty");
    assert!(again.to_string().contains("is not empty"), "{again}");
    let error = backup::restore(&to, &data).expect_err("not empty");
    assert!(matches!(error, BackupError::Refused { .. }), "{error}");
    let error = backup::restore(&to, &to.join("inside")).expect_err("inside");
    assert!(matches!(error, BackupError::Refused { .. }), "{error}");
    audit(&engine);
}

/// Runs the binary, which must end with that status; what it printed as JSON.
#[track_caller]
fn run(args: &[&str], status: i32) -> Value {
    let output = output(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[test]
fn the_commands_back_up_restore_and_replay() {
    let scratch = scratch();
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (data, online, offline) = (at("data"), at("online"), at("offline"));
    let server = Server::start(Path::new(&data));
    let mut client = server.client();
    let asset = json!({"chain_id": 1, "chain_kind": "other", "token": "native", "decimals": 0});
    client.put("/v1/assets/ETH", &asset).with(200);
    let link = json!({"links": [{"chain_id": 1, "address": "alice"}]});
    client.put("/v1/accounts/1", &link).with(200);
    let deposit = |n: u64| json!({"request_id": fresh_id(), "account": 1, "asset": "ETH", "amount": n, "reference": ""});
    client.post("/v1/deposits", &deposit(70)).with(200);
    let out = json!({"request_id": fresh_id(), "account": 1, "asset": "ETH", "amount": 9, "reference": "out"});
    let token = client.post("/v1/withdrawals", &out).with(200)["request_id"].clone();

    client.post("/v1/backups", &json!({"to": "relative"})).problem(400, "malformed", "to");
    client.post("/v1/backups", &json!({"to": data})).problem(400, "malformed", "to");
    let url = format!("http://{}", server.address);
    let made = run(&["backup", "--url", &url, "--to", &online, "--json"], 0);
    assert_eq!((&made["seq"], &made["verified"]), (&json!("4"), &json!(true)), "{made}");
    run(&["backup", "--url", &url, "--to", &online], 1);
    run(&["backup", "--data", &data, "--to", &offline], 4);
    client.post("/v1/deposits", &deposit(1)).with(200);
    server.kill();

    run(&["backup", "--data", &data, "--url", &url, "--to", &offline], 2);
    run(&["backup", "--data", &data, "--to", &online], 2);
    let made = run(&["backup", "--data", &data, "--to", &offline, "--json"], 0);
    assert_eq!((&made["seq"], &made["to"]), (&json!("5"), &json!(offline)), "{made}");

    for (from, copy, seq, available) in
        [(&online, at("one"), "4", "61"), (&offline, at("two"), "5", "62")]
    {
        let restored = run(&["restore", "--from", from, "--data", &copy, "--json"], 0);
        assert_eq!(restored["seq"], json!(seq));
        run(&["restore", "--from", from, "--data", &copy], 2);
        run(&["audit", "--data", &copy], 0);
        let replayed = run(&["replay", "--data", &copy, "--json"], 0);
        let balance = json!({"asset": "ETH", "available": available, "held": "9", "version": seq});
        assert_eq!(replayed["accounts"], json!([{"account": 1, "balances": [balance]}]));
        let hold = &replayed["holds"][0];
        assert_eq!((&hold["token"], &hold["since"]), (&token, &json!("4")), "{hold}");
        assert_eq!(hold["withdrawal"]["amount"], json!("9"), "{hold}");
        assert_eq!((&replayed["seq"], &replayed["verified"]), (&json!(seq), &json!(true)));
    }
    let earlier = run(&["replay", "--data", &at("two"), "--to", "4", "--json"], 0);
    assert_eq!(earlier, run(&["replay", "--data", &at("one"), "--to", "4", "--json"], 0));
    run(&["replay", "--data", &at("one"), "--to", "5"], 2);
    fs::write(Path::new(&online).join("backup"), "no more").unwrap();
    run(&["restore", "--from", &online, "--data", &at("three")], 3);
}
