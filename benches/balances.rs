//! What one swap costs in the pure cores, without any channel or thread.
//!
//! Workload: 100,000 accounts with two assets each, funds ample; swaps of two legs between two
//! accounts chosen uniformly (seed 1), in batches of 4,096. Times are per swap:
//!
//! * `shard/1`, `shard/2`: prepare and decide, on the only shard, or on one of two (which has half
//!   of the operations and sees every batch);
//! * `machine/N`: sequence, take N shards' votes, decide; ids are version 7, a million a second;
//! * `txn_new`: check, net and find the shards of a request, on its caller's thread.
//!
//! ```text
//! cargo bench --profile release --bench balances
//! ```

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::address::{Address, Link};
use crosslatch::config::Limits;
use crosslatch::coordinator::ids::{Ids, SeenBefore};
use crosslatch::coordinator::txn::{Machine, Start};
use crosslatch::directory::Directory;
use crosslatch::message::{Applied, Batch, Decision, Submission, Txn, TxnRef, Votes};
use crosslatch::request::{AssetSpec, Command, Request, Swap};
use crosslatch::shard::balances::Balances;
use crosslatch::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, ChainId, ChainKind, CommitSeq, Leg, RequestId,
    Time,
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
    let mut balances = Balances::new(shard, shards, CommitSeq::new(1));
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
        voted_nanos: 0,
        decided_nanos: 0,
    }
}

fn shard(c: &mut Criterion) {
    let directory = directory();
    let mut group = c.benchmark_group("shard");
    group.throughput(Throughput::Elements(u64::from(BATCH)));
    for shards in [1, 2] {
        let mut requests = Requests::new();
        let mut balances = balances(0, shards);
        let mut number = 0;
        let mut setup = || {
            let txns = requests.txns(shards);
            let batch = Batch { number, txns, slots: Vec::new(), sequenced_nanos: 0 };
            number += 1;
            let expected = BATCH as usize * 4;
            let (rows, slots) = (Vec::with_capacity(expected), Vec::with_capacity(expected));
            let applied = Applied { decision: batch.number, shard: 0, rows, slots };
            (decision(batch.number), Arc::new(batch), applied)
        };
        group.bench_function(BenchmarkId::from_parameter(shards), |bencher| {
            bencher.iter_batched(
                &mut setup,
                |(decision, batch, mut applied)| {
                    let mut votes = Votes::default();
                    balances.prepare(&batch, &directory, &mut votes);
                    balances.decide(&decision, &directory, &mut applied, &mut votes);
                    assert!(votes.exceptions.is_empty() && votes.late.is_empty());
                    (decision, batch, applied)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
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
                        machine.on_votes(Votes { shard, batch, ..Votes::default() });
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

criterion_group!(benches, shard, machine, txn_new);
criterion_main!(benches);
