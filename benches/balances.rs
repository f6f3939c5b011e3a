//! What one swap costs in the pure cores, without any channel or thread.
//!
//! Workload: 100,000 accounts with two assets each, funds ample; swaps of two legs between two
//! accounts chosen uniformly (seed 1), in batches of 4,096. Times are per swap:
//!
//! * `shard/1`, `shard/2`: prepare and decide, on the only shard, or on one of two (which has half
//!   of the operations and sees every batch);
//! * `two_phase/1`, `two_phase/2`: the same swaps prepared, and then committed by their tokens: two
//!   requests a swap, each prepared and decided;
//! * `transaction/1`, `transaction/2`: swaps between accounts that no other of the batch has, as
//!   transactions that also read both payers' balances;
//! * `keys/1`, `keys/2`: transactions that read and write two keys of 1,000,000;
//! * `machine/N`: sequence, take N shards' votes, decide; ids are version 7, a million a second;
//! * `txn_new`: check, net and find the shards of a request, on its caller's thread.
//!
//! ```text
//! cargo bench --profile release --bench balances
//! ```

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crosslatch::address::{Address, Link};
use crosslatch::config::Limits;
use crosslatch::coordinator::ids::{Ids, Resolved, SeenBefore};
use crosslatch::coordinator::txn::{Machine, Start};
use crosslatch::directory::Directory;
use crosslatch::message::{Applied, Batch, Decision, Submission, Txn, TxnRef, Votes};
use crosslatch::request::{
    Action, AssetSpec, Command, Hold, Prepare, Purpose, Read, Request, Resolve, Swap, Transact,
    Write,
};
use crosslatch::shard::balances::Balances;
use crosslatch::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, ChainId, ChainKind, CommitSeq, Key, Leg,
    RequestId, Subject, Time, Token,
};

const ACCOUNTS: u64 = 100_000;
const BATCH: u32 = 4_096;
/// Batches of different swaps, taken in turn: together they touch most balances.
const POOL: usize = 32;
const FUNDS: Amount = Amount::new(1 << 100);
const MICROS_PER_BATCH: u64 = BATCH as u64;

fn directory() -> Directory {
    let directory = Directory::new();
    for (name, chain) in [("ETH", 1), ("SOL", 2)] {
        directory.insert_asset(AssetSpec {
            name: name.into(),
            chain: ChainId::new(chain),
            chain_kind: ChainKind::Other,
            token: "native".into(),
            decimals: 0,
        });
    }
    for account in 0..ACCOUNTS {
        let address = Address::from_canonical(&account.to_string());
        let link = |chain| Link { chain: ChainId::new(chain), address: address.clone() };
        directory.insert_account(AccountId::new(account), &[link(1), link(2)]);
    }
    directory
}

fn balances(shard: usize, shards: usize) -> Balances {
    let mut balances = Balances::new(shard, shards, CommitSeq::new(1), 100);
    for account in (0..ACCOUNTS).map(AccountId::new).filter(|it| it.shard(shards) == shard) {
        for asset in [AssetId::new(0), AssetId::new(1)] {
            let balance = Balance { available: FUNDS, held: Amount::ZERO };
            balances.restore(BalanceKey { account, asset }, balance, CommitSeq::new(1), true);
        }
    }
    balances
}

/// Swaps of 1 to 1,000 units between two accounts.
fn commands() -> Vec<Vec<Command>> {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut swap = || {
        let from = rng.random_range(0..ACCOUNTS);
        let to = (from + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        let mut leg = |from, to, asset| Leg {
            from: AccountId::new(from),
            to: AccountId::new(to),
            asset: AssetId::new(asset),
            amount: Amount::new(rng.random_range(1..=1_000)),
        };
        let legs = [leg(from, to, 0), leg(to, from, 1)];
        Command::Swap(Swap::new(legs).expect("well-formed"))
    };
    (0..POOL).map(|_| (0..BATCH).map(|_| swap()).collect()).collect()
}

/// Gives out the pool's batches in turn, under fresh ids.
struct Requests {
    pool: Vec<Vec<Command>>,
    given: u64,
    rng: SmallRng,
}

impl Requests {
    fn new() -> Self {
        Self { pool: commands(), given: 0, rng: SmallRng::seed_from_u64(2) }
    }

    /// Logical time of the next batch.
    fn now(&self) -> Time {
        Time::new(1_700_000_000_000_000 + self.given * MICROS_PER_BATCH)
    }

    fn requests(&mut self) -> Vec<Request> {
        let millis = self.now().millis();
        let commands = self.pool[self.given as usize % POOL].clone();
        self.given += 1;
        let id = |rng: &mut SmallRng| RequestId::v7(millis, rng.random());
        commands.into_iter().map(|command| Request::new(id(&mut self.rng), command)).collect()
    }

    fn txns(&mut self, shards: usize) -> Vec<Txn> {
        let requests = self.requests().into_iter();
        requests.map(|request| Txn::new(request, 0, shards).expect("well-formed")).collect()
    }
}

/// Everything in the batch happens.
fn decision(number: u64) -> Decision {
    let commits = (0..BATCH).map(|index| TxnRef { batch: number, index }).collect();
    Decision {
        number,
        first_seq: CommitSeq::new(2 + number * u64::from(BATCH)),
        time: Time::new(0),
        commits,
        refusals: Vec::new(),
        duplicates: Vec::new(),
        repeats: Vec::new(),
        deferred: Vec::new(),
        voted_nanos: 0,
        decided_nanos: 0,
    }
}

/// One batch, how it is decided, and room for the rows.
type Round = (Arc<Batch>, Decision, Applied);

fn round(number: u64, txns: Vec<Txn>) -> Round {
    let batch = Batch { number, txns, slots: Vec::new(), sequenced_nanos: 0 };
    let expected = BATCH as usize * 4;
    let (rows, slots) = (Vec::with_capacity(expected), Vec::with_capacity(expected));
    let applied = Applied { decision: number, shard: 0, rows, slots };
    (Arc::new(batch), decision(number), applied)
}

/// Prepares and decides each batch.
fn settle(balances: &mut Balances, directory: &Directory, rounds: &mut [Round]) {
    for (batch, decision, applied) in rounds {
        let mut votes = Votes::default();
        balances.prepare(batch, directory, &mut votes);
        balances.decide(decision, directory, applied, &mut votes);
        assert!(votes.exceptions.is_empty() && votes.late.is_empty());
    }
}

/// Measures shard 0 of 1 and of 2 at rounds that `make` prepares, given the first batch's number
/// and how many shards there are: a swap, or what stands for it, `BATCH` times.
fn measure(c: &mut Criterion, name: &str, mut make: impl FnMut(u64, usize) -> Vec<Round>) {
    let directory = directory();
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(u64::from(BATCH)));
    for shards in [1, 2] {
        let mut balances = balances(0, shards);
        let mut number = 0;
        let mut setup = || {
            let rounds = make(number, shards);
            number += rounds.len() as u64;
            rounds
        };
        group.bench_function(BenchmarkId::from_parameter(shards), |bencher| {
            bencher.iter_batched(
                &mut setup,
                |mut rounds| {
                    settle(&mut balances, &directory, &mut rounds);
                    rounds
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn shard(c: &mut Criterion) {
    let mut requests = Requests::new();
    measure(c, "shard", |number, shards| vec![round(number, requests.txns(shards))]);
}

fn two_phase(c: &mut Criterion) {
    let mut requests = Requests::new();
    measure(c, "two_phase", |number, shards| {
        let ready = |request| Txn::new(request, 0, shards).expect("well-formed");
        let (mut prepares, mut commits) = (Vec::new(), Vec::new());
        for Request { id, command, .. } in requests.requests() {
            let Command::Swap(swap) = command else { unreachable!("the pool is of swaps") };
            let (token, action) = (Token::of(id), Action::Commit);
            let (expires_at, since) = (Time::NEVER, CommitSeq::new(1));
            let purpose = Purpose::Swap(swap.clone());
            let hold = Hold { token, purpose, exclusive: false, expires_at, since };
            let prepare = Prepare { swap, expires_in_ms: 60_000, exclusive: false };
            prepares.push(ready(Request::new(id, Command::Prepare(Box::new(prepare)))));
            let resolve = Command::Resolve(Resolve { token, action });
            let mut commit = ready(Request::new(RequestId::new(!id.get()), resolve));
            commit.attach(Box::new(hold), shards);
            commits.push(commit);
        }
        vec![round(number, prepares), round(number + 1, commits)]
    });
}

/// The seq that a transaction of an all-committed batch gets.
fn seq_of(number: u64, index: usize) -> CommitSeq {
    CommitSeq::new(2 + number * u64::from(BATCH) + index as u64)
}

fn transaction(c: &mut Criterion) {
    let mut accounts: Vec<AccountId> = (0..ACCOUNTS).map(AccountId::new).collect();
    accounts.shuffle(&mut SmallRng::seed_from_u64(1));
    let mut versions = HashMap::new();
    measure(c, "transaction", |number, shards| {
        if number == 0 {
            versions.clear();
        }
        accounts.rotate_left(BATCH as usize * 2);
        let mut transact = |(index, pair): (usize, &[AccountId])| {
            let leg = |from, to, asset| Leg {
                from,
                to,
                asset: AssetId::new(asset),
                amount: Amount::new(7),
            };
            let transfers = vec![leg(pair[0], pair[1], 0), leg(pair[1], pair[0], 1)];
            // Both balances of both are changed at once, so an account has one version.
            let mut read = |leg: &Leg| {
                let subject = Subject::Balance(BalanceKey { account: leg.from, asset: leg.asset });
                let version = versions.insert(leg.from, seq_of(number, index));
                Read { subject, version: version.unwrap_or(CommitSeq::new(1)) }
            };
            let reads = transfers.iter().map(&mut read).collect();
            let transact = Transact { reads, writes: Vec::new(), transfers };
            let id = RequestId::new(u128::from(number) << 32 | index as u128);
            let request = Request::new(id, Command::Transact(Box::new(transact)));
            Txn::new(request, 0, shards).expect("well-formed")
        };
        let pairs = accounts.chunks(2).take(BATCH as usize).enumerate();
        vec![round(number, pairs.map(&mut transact).collect())]
    });
}

fn keys(c: &mut Criterion) {
    const KEYS: u64 = 1_000_000;
    let keys: Vec<Key> = (0..KEYS).map(|n| Key::new(format!("key-{n}").into_bytes())).collect();
    let mut versions = vec![CommitSeq::default(); keys.len()];
    measure(c, "keys", |number, shards| {
        if number == 0 {
            versions.fill(CommitSeq::default());
        }
        let mut transact = |index: usize| {
            let (mut reads, mut writes) = (Vec::new(), Vec::new());
            for n in 0..2 {
                // A step that is prime to the number of keys meets them all in turn.
                let place = (number * u64::from(BATCH) * 2 + index as u64 * 2 + n) * 7_919 % KEYS;
                let key = &keys[place as usize];
                let version =
                    std::mem::replace(&mut versions[place as usize], seq_of(number, index));
                reads.push(Read { subject: Subject::Key(key.clone()), version });
                writes.push(Write { key: key.clone(), value: None });
            }
            let transact = Transact { reads, writes, transfers: Vec::new() };
            let id = RequestId::new(u128::from(number) << 32 | index as u128);
            let request = Request::new(id, Command::Transact(Box::new(transact)));
            Txn::new(request, 0, shards).expect("well-formed")
        };
        vec![round(number, (0..BATCH as usize).map(&mut transact).collect())]
    });
}

/// A store in which no id is, and everything is durable at once.
struct Nothing;

impl SeenBefore for Nothing {
    fn seen(&self, _: RequestId) -> Result<bool, String> {
        Ok(false)
    }

    fn durable_decisions(&self) -> u64 {
        u64::MAX
    }

    fn resolution(&self, _: Token) -> Result<Option<Resolved>, String> {
        Ok(None)
    }

    fn credited(&self, _: AssetId, _: u128) -> Result<Option<CommitSeq>, String> {
        Ok(None)
    }

    fn applied_seq(&self) -> CommitSeq {
        CommitSeq::default()
    }
}

fn machine(c: &mut Criterion) {
    let directory = Arc::new(directory());
    let mut group = c.benchmark_group("machine");
    group.throughput(Throughput::Elements(u64::from(BATCH)));
    for shards in [1, 2] {
        let limits = Limits { shards, ..Limits::default() };
        let mut requests = Requests::new();
        let ids = Ids::new(requests.now(), limits.recent_ids_window_ms, limits.recent_ids_max);
        let mut machine = Machine::new(&limits, directory.clone(), Nothing, ids, Start::default());
        let mut setup = || {
            let now = requests.now();
            let (reply, _) = tokio::sync::oneshot::channel();
            (now, Submission { txns: requests.txns(shards), reply, accepted_nanos: 0 })
        };
        group.bench_function(BenchmarkId::from_parameter(shards), |bencher| {
            bencher.iter_batched(
                &mut setup,
                |(now, submission)| {
                    machine.enqueue(submission);
                    let sequenced = machine.next_batch(now, 0).expect("a store").expect("a batch");
                    let batch = Some(sequenced.batch.number);
                    for shard in 0..shards {
                        machine.on_votes(Votes { shard, batch, ..Votes::default() }, now);
                    }
                    let decision = machine.take_decision(now, 0, 0).expect("all decided");
                    assert_eq!(decision.commits.len(), BATCH as usize);
                    (sequenced, decision)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn txn_new(c: &mut Criterion) {
    let mut requests = Requests::new();
    let mut group = c.benchmark_group("txn_new");
    group.throughput(Throughput::Elements(u64::from(BATCH)));
    group.bench_function("2 legs", |bencher| {
        bencher.iter_batched(
            || (requests.requests(), Vec::with_capacity(BATCH as usize)),
            |(requests, mut txns)| {
                for request in requests {
                    txns.push(Txn::new(black_box(request), 0, 2).expect("well-formed"));
                }
                txns
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, shard, two_phase, transaction, keys, machine, txn_new);
criterion_main!(benches);
