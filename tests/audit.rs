//! `crosslatch audit`: clean data passes with a count of what was checked, and a byte flipped
//! anywhere in the journal, in the write-ahead log or in a table file, is found.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output};

use crosslatch::address::{Address, Link};
use crosslatch::engine::{Brief, Engine, Options};
use crosslatch::request::{AssetSpec, Command, Request, Swap, Transfer};
use crosslatch::store::{Journal, rocks};
use crosslatch::types::{
    AccountId, Amount, AssetId, BlockNumber, ChainId, ChainKind, Leg, RequestId,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// How often a byte is flipped.
const TRIES: u32 = 100;
const SEED: u64 = 20_260;
const ACCOUNTS: u64 = 20;

fn submit(engine: &Engine, requests: Vec<Request>) {
    let answers = engine.submit(requests).unwrap().wait().unwrap();
    for index in 0..answers.len() {
        assert!(matches!(answers.brief(index), Brief::Settled(_)), "{:?}", answers.brief(index));
    }
}

fn setup(rng: &mut SmallRng) -> Vec<Request> {
    let mut commands = Vec::new();
    for chain in 1..=2 {
        commands.push(Command::PutAsset(AssetSpec {
            name: format!("A{chain}").into(),
            chain: ChainId::new(chain),
            chain_kind: ChainKind::Other,
            token: "native".into(),
            decimals: 0,
        }));
    }
    for account in (0..ACCOUNTS).map(AccountId::new) {
        let link = |chain| Link {
            chain: ChainId::new(chain),
            address: Address::parse(ChainKind::Other, &format!("owner-{account}")).unwrap(),
        };
        commands.push(Command::PutAccount { account, links: vec![link(1), link(2)] });
        for asset in (0..2).map(AssetId::new) {
            let (amount, reference) = (Amount::new(1_000_000), "".into());
            commands.push(Command::Deposit(Transfer { account, asset, amount, reference }));
        }
    }
    let request = |command| Request::new(RequestId::new(rng.random()), command);
    commands.into_iter().map(request).collect()
}

fn swap(rng: &mut SmallRng) -> Request {
    let one = rng.random_range(0..ACCOUNTS);
    let two = (one + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
    let (one, two) = (AccountId::new(one), AccountId::new(two));
    let mut leg = |from, to, asset| Leg {
        from,
        to,
        asset: AssetId::new(asset),
        amount: Amount::new(rng.random_range(1..100)),
    };
    let swap = Swap::new([leg(one, two, 0), leg(two, one, 1)]).unwrap();
    Request::new(RequestId::new(rng.random()), Command::Swap(swap))
}

/// A directory whose journal lies in table files (what was there before a restart) and in the
/// write-ahead log (what came after it).
fn directory(data: &Path) {
    let mut rng = SmallRng::seed_from_u64(SEED);
    for first in [true, false] {
        let engine = Engine::start(Options::new(data)).unwrap();
        if first {
            submit(&engine, setup(&mut rng));
        }
        for _ in 0..20 {
            submit(&engine, (0..20).map(|_| swap(&mut rng)).collect());
        }
        engine.stop().unwrap();
    }
}

fn audit(data: &Path) -> Output {
    let mut audit = Process::new(env!("CARGO_BIN_EXE_crosslatch"));
    audit.args(["audit", "--data"]).arg(data).output().unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Where a block's bytes begin, in every file that has them.
fn places(data: &Path, block: &[u8]) -> Vec<(PathBuf, usize)> {
    let mut places = Vec::new();
    for entry in fs::read_dir(data.join("db")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let head = &block[..block.len().min(48)];
        places.extend(bytes.windows(head.len()).position(|at| at == head).map(|at| (path, at)));
    }
    places
}

#[test]
fn a_byte_flipped_anywhere_in_the_journal_is_found() {
    let scratch = tempfile::tempdir().unwrap();
    let (whole, damaged) = (scratch.path().join("whole"), scratch.path().join("damaged"));
    directory(&whole);
    let clean = audit(&whole);
    let said = String::from_utf8_lossy(&clean.stdout).into_owned();
    assert!(clean.status.success() && said.contains("verified: true"), "{clean:?}");

    let blocks: Vec<Vec<u8>> = {
        let opened = rocks::open_read_only(&whole).unwrap();
        let blocks = opened.store.read_from(BlockNumber::new(1));
        blocks.map(|block| block.unwrap().bytes().to_vec()).collect()
    };
    let mut rng = SmallRng::seed_from_u64(SEED);
    let (mut in_log, mut in_table) = (0, 0);
    for attempt in 0..TRIES {
        let block = &blocks[rng.random_range(0..blocks.len())];
        let places = places(&whole, block);
        let (path, at) = &places[rng.random_range(0..places.len())];
        let offset = at + rng.random_range(0..block.len());
        let bit = 1 << rng.random_range(0..8);
        copy(&whole, &damaged);
        let path = damaged.join("db").join(path.file_name().unwrap());
        let mut bytes = fs::read(&path).unwrap();
        bytes[offset] ^= bit;
        fs::write(&path, bytes).unwrap();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("log") => in_log += 1,
            _ => in_table += 1,
        }
        let found = audit(&damaged);
        let status = found.status.code();
        let context = format!("try {attempt}: bit {bit:#04x} of byte {offset} of {path:?}");
        assert_eq!(status, Some(3), "{context}: {found:?}");
        assert!(!found.stderr.is_empty(), "{context}");
        fs::remove_dir_all(&damaged).unwrap();
    }
    assert!(in_log > 0 && in_table > 0, "{in_log} flips in the log, {in_table} in tables");
}

#[test]
fn a_directory_that_is_none_is_refused_and_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("letter"), "dear").unwrap();
    let refused = audit(scratch.path());
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
}
