//! Reads of the past: one balance, and all balances of an account, as of a random seq.
//!
//! Workload: two-leg swaps between uniformly chosen accounts in two assets, folded into a real
//! RocksDB as the materializer does it, until the version store holds the versions asked for; seed 7.
//! Then random (balance, seq) pairs are read, one after another on one thread, once to warm the cache
//! and once to be measured, after the database has merged what it wants to. Every answer is compared
//! with a replay that is kept in memory.
//!
//! ```text
//! cargo bench --bench as_of -- [VERSIONS=10000000] [ACCOUNTS=100000] [REQUESTS_PER_FOLD=1000000] [READS=1000000]
//! ```

use std::sync::Arc;
use std::time::Duration;

use crosslatch::clock::{Clock, SystemClock};
use crosslatch::config::Limits;
use crosslatch::message::{BalanceNow, Txn};
use crosslatch::request::{Command, Request, Swap, Transfer};
use crosslatch::store::durable::{Durable, Progress};
use crosslatch::store::journal::{BlockBuilder, BlockHash};
use crosslatch::store::materializer::Folder;
use crosslatch::store::reader::Reader;
use crosslatch::store::rocks::{self, RocksStore};
use crosslatch::store::unfolded::Unfolded;
use crosslatch::store::{CommitLog, Durability, Group, Position, VersionStore};
use crosslatch::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, CommitSeq, Leg, RequestId, Time,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 4_096;
const SEED: u64 = 7;
const ASSETS: u32 = 2;

/// Makes blocks, and remembers every version.
struct Replay {
    accounts: u64,
    /// By account and asset: each seq with the balance that it made.
    versions: Vec<Vec<(CommitSeq, Balance)>>,
    count: usize,
    last: Position,
    hash: BlockHash,
    builder: BlockBuilder,
    rng: SmallRng,
}

impl Replay {
    fn new(accounts: u64) -> Self {
        Self {
            accounts,
            versions: vec![vec![]; (accounts * u64::from(ASSETS)) as usize],
            count: 0,
            last: Position::default(),
            hash: BlockHash::GENESIS,
            builder: BlockBuilder::new(),
            rng: SmallRng::seed_from_u64(SEED),
        }
    }

    /// The next block of them all.
    fn group(&mut self, commands: impl Iterator<Item = Command>) -> Group {
        let number = self.last.block.next();
        self.builder.begin(number, self.last.seq.next(), self.hash);
        let mut slots = Vec::new();
        let mut seq = self.last.seq;
        for command in commands {
            seq = seq.next();
            let id = RequestId::v7(1_700_000_000_000 + number.get() * 4, self.rng.random());
            let txn = Txn::new(Request::new(id, command), 7, 1).expect("well-formed");
            let versions = &mut self.versions;
            let after = txn.row_ops().map(|op| {
                let index = index(op.key);
                let before = versions[index].last().map_or_else(Balance::default, |last| last.1);
                let after = op.apply(before).expect("funded");
                versions[index].push((seq, after));
                slots.push(index as u32);
                after
            });
            self.builder.commit(&txn, after);
        }
        self.count += slots.len();
        let time = Time::new(1_700_000_000_000_000 + number.get() * 4_096);
        let block = Arc::new(self.builder.finish(time, slots));
        self.hash = block.hash();
        self.last = Position::after(&block);
        Group { block, directory: vec![], supplies: vec![] }
    }

    fn swap(&mut self) -> Command {
        let from = self.rng.random_range(0..self.accounts);
        let to = (from + self.rng.random_range(1..self.accounts)) % self.accounts;
        let [from, to] = [from, to].map(AccountId::new);
        let amounts = [0, 1].map(|_| Amount::new(self.rng.random_range(1..1_000_000)));
        let leg = |from, to, asset: u32| {
            let amount = amounts[asset as usize];
            Leg { from, to, asset: AssetId::new(asset), amount }
        };
        Command::Swap(Swap::new([leg(from, to, 0), leg(to, from, 1)]).expect("well-formed"))
    }

    fn at(&self, key: BalanceKey, seq: CommitSeq) -> (Balance, CommitSeq) {
        let versions = &self.versions[index(key)];
        let behind = versions.partition_point(|(version, _)| *version <= seq);
        let newest = behind.checked_sub(1).map(|place| versions[place]);
        newest.map_or_else(Default::default, |(version, balance)| (balance, version))
    }
}

fn index(key: BalanceKey) -> usize {
    key.account.get() as usize * ASSETS as usize + key.asset.get() as usize
}

fn deposit(balance: u64) -> Command {
    Command::Deposit(Transfer {
        account: AccountId::new(balance / u64::from(ASSETS)),
        asset: AssetId::new((balance % u64::from(ASSETS)) as u32),
        amount: Amount::new(1 << 60),
        reference: "".into(),
    })
}

/// Fills the store; returns what it should say.
fn fill(data: &std::path::Path, sizes: &Sizes) -> (Replay, Arc<RocksStore>) {
    let rocks::Opened { mut log, store, .. } = rocks::open(data, Durability::Off).expect("opens");
    let mut replay = Replay::new(sizes.accounts);
    let mut folder = Folder::new(store.applied().expect("reads"));
    let mut put = |replay: &mut Replay, commands: Vec<Command>| {
        let group = replay.group(commands.into_iter());
        log.append(&group).expect("appends");
        folder.add(&group.block);
        if folder.requests() >= sizes.fold {
            folder.finish(&*store).expect("folds");
        }
        replay.count < sizes.versions
    };
    let balances = sizes.accounts * u64::from(ASSETS);
    for from in (0..balances).step_by(BATCH) {
        put(&mut replay, (from..balances.min(from + BATCH as u64)).map(deposit).collect());
    }
    loop {
        let swaps = (0..BATCH).map(|_| replay.swap()).collect();
        if !put(&mut replay, swaps) {
            break;
        }
    }
    folder.finish(&*store).expect("folds");
    (replay, store)
}

/// Waits while sorted runs are being merged: until their sizes stay as they are for a while.
fn settle(store: &RocksStore) {
    let mut bytes = u64::MAX;
    while bytes != store.family_bytes("versions") {
        bytes = store.family_bytes("versions");
        let _ = crossbeam::channel::after(Duration::from_secs(5)).recv();
    }
}

/// Asks each, and says how long each took.
fn measure<T>(
    name: &str,
    asks: &[(BalanceKey, CommitSeq)],
    read: impl Fn(BalanceKey, CommitSeq) -> T,
    check: impl Fn(BalanceKey, CommitSeq, T),
) {
    let mut nanos = Vec::with_capacity(asks.len());
    for (key, seq) in asks {
        let began = SystemClock.boot_nanos();
        let found = read(*key, *seq);
        nanos.push(SystemClock.boot_nanos() - began);
        check(*key, *seq, found);
    }
    nanos.sort_unstable();
    let micros = |part: f64| nanos[((nanos.len() - 1) as f64 * part) as usize] as f64 / 1e3;
    let mean = nanos.iter().sum::<u64>() as f64 / 1e3 / nanos.len() as f64;
    println!(
        "{name:<28} mean {mean:>7.2}  p50 {:>7.2}  p90 {:>7.2}  p99 {:>7.2}  p999 {:>7.2} us",
        micros(0.5),
        micros(0.9),
        micros(0.99),
        micros(0.999)
    );
}

struct Sizes {
    versions: usize,
    accounts: u64,
    fold: usize,
    reads: usize,
}

fn sizes() -> Sizes {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let mut number = |default: usize| {
        arguments.next().map_or(default, |text| text.parse().expect("a whole number"))
    };
    Sizes {
        versions: number(10_000_000),
        accounts: number(100_000) as u64,
        fold: number(Limits::default().fold_requests_max),
        reads: number(1_000_000),
    }
}

fn main() {
    let sizes = sizes();
    let data = tempfile::tempdir().expect("a directory to write to");
    let (replay, store) = fill(data.path(), &sizes);
    settle(&store);
    let last = replay.last;
    println!(
        "{} versions of {} balances, {} requests a fold, up to seq {}, seed {SEED}",
        replay.count,
        replay.versions.len(),
        sizes.fold,
        last.seq
    );
    let (durable, applied) = (Arc::new(Durable::new(last)), Arc::new(Progress::new(last)));
    let reader = Reader::new(store.clone(), store, Arc::new(Unfolded::new()), durable, applied);
    let mut rng = SmallRng::seed_from_u64(SEED);
    let ask = |_| {
        let account = AccountId::new(rng.random_range(0..sizes.accounts));
        let asset = AssetId::new(rng.random_range(0..ASSETS));
        (BalanceKey { account, asset }, CommitSeq::new(rng.random_range(0..=last.seq.get())))
    };
    let asks: Vec<_> = (0..sizes.reads).map(ask).collect();
    for time in ["first", "second"] {
        measure(
            &format!("one balance, {time} time"),
            &asks,
            |key, seq| reader.balances_at(&[key], seq).expect("reads"),
            |key, seq, found| assert_eq!(found, [replay.at(key, seq)]),
        );
    }
    measure(
        "all balances of an account",
        &asks,
        |key, seq| reader.account_at(key.account, seq).expect("reads"),
        |key, seq, found| {
            for BalanceNow { asset, balance, version } in found {
                let key = BalanceKey { account: key.account, asset };
                assert_eq!((balance, version), replay.at(key, seq));
            }
        },
    );
    measure(
        "a page of 20 changes",
        &asks[..asks.len().min(2_000)],
        |key, seq| reader.history(key.account, None, seq, 20).expect("reads"),
        |_, seq, found| assert!(found.iter().all(|entry| entry.seq > seq)),
    );
}
