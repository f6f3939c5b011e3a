//! What the store's encodings cost, per swap: journal blocks, folds, checks.
//!
//! Workload: 1,000,000 two-leg swaps (seed 1) between uniformly drawn pairs of 100,000 accounts in
//! two assets, so 200,000 balances; blocks of 8,192; amounts below 1,000,000. One thread. The group
//! `holds` has the first 4,096 of them prepared and committed.
//! Run: `cargo bench --bench journal`. Times are per element, and one element is one swap.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use crosslatch::message::{Row, Txn};
use crosslatch::request::{Action, Command, Hold, Prepare, Purpose, Request, Resolve, Swap};
use crosslatch::store::journal::{Block, BlockBuilder, BlockHash, check_conservation, digest};
use crosslatch::store::keys::IdIndex;
use crosslatch::store::outcomes::IdFold;
use crosslatch::store::versions::Fold;
use crosslatch::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, Leg, RequestId, Time,
    Token,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const ACCOUNTS: u64 = 100_000;
const SWAPS: usize = 1_000_000;
const BLOCK_SWAPS: usize = 8_192;
const FUNDS: u128 = 1_000_000_000_000;

/// Transactions with their rows and slots.
struct Work {
    txns: Vec<Txn>,
    rows: Vec<[Row; 4]>,
    slots: Vec<[u32; 4]>,
}

fn slot(key: BalanceKey) -> u32 {
    key.account.get() as u32 * 2 + key.asset.get()
}

fn swap(random: &mut SmallRng) -> Swap {
    let a = AccountId::new(random.random_range(0..ACCOUNTS));
    let b = AccountId::new((a.get() + random.random_range(1..ACCOUNTS)) % ACCOUNTS);
    let mut leg = |from, to, asset| {
        let amount = Amount::new(random.random_range(1..1_000_000));
        Leg { from, to, asset: AssetId::new(asset), amount }
    };
    Swap::new([leg(a, b, 0), leg(b, a, 1)]).expect("two legs")
}

fn work(swaps: usize) -> Work {
    let mut random = SmallRng::seed_from_u64(1);
    let funds = Balance { available: Amount::new(FUNDS), held: Amount::ZERO };
    let mut balances = vec![funds; ACCOUNTS as usize * 2];
    let mut work = Work { txns: Vec::new(), rows: Vec::new(), slots: Vec::new() };
    let mut scratch = Vec::new();
    for number in 0..swaps {
        let id = RequestId::v7(1_700_000_000_000 + number as u64 / 1_000, random.random());
        let command = Command::Swap(swap(&mut random));
        let digest = digest(&command, Time::NEVER, &mut scratch);
        let txn = Txn::new(Request::new(id, command), digest, 2).expect("well-formed");
        let mut rows = [Row { before: funds, after: funds }; 4];
        let mut slots = [0; 4];
        for (place, op) in txn.row_ops().enumerate() {
            slots[place] = slot(op.key);
            let balance = &mut balances[slots[place] as usize];
            let before = *balance;
            *balance = op.apply(before).expect("ample funds");
            rows[place] = Row { before, after: *balance };
        }
        work.txns.push(txn);
        work.rows.push(rows);
        work.slots.push(slots);
    }
    work
}

fn encode(builder: &mut BlockBuilder, work: &Work, first: usize, swaps: usize) {
    let number = BlockNumber::new((first / BLOCK_SWAPS + 1) as u64);
    builder.begin(number, CommitSeq::new(first as u64 + 1), BlockHash::GENESIS);
    for place in first..first + swaps {
        builder.commit(&work.txns[place], work.rows[place].iter().map(|row| row.after));
    }
}

fn blocks(work: &Work) -> Vec<Block> {
    let mut builder = BlockBuilder::new();
    let block = |first| {
        let swaps = BLOCK_SWAPS.min(work.txns.len() - first);
        encode(&mut builder, work, first, swaps);
        builder.finish(Time::new(1), work.slots[first..first + swaps].concat())
    };
    (0..work.txns.len()).step_by(BLOCK_SWAPS).map(block).collect()
}

fn journal(c: &mut Criterion) {
    let work = work(BLOCK_SWAPS);
    let block = blocks(&work).remove(0);
    println!("journal: {} bytes a swap", block.bytes().len() / BLOCK_SWAPS);
    let mut group = c.benchmark_group("journal");
    group.throughput(Throughput::Elements(BLOCK_SWAPS as u64));
    let mut builder = BlockBuilder::new();
    group.bench_function("encode", |b| {
        b.iter(|| encode(&mut builder, black_box(&work), 0, BLOCK_SWAPS));
    });
    group.bench_function("encode_finish", |b| {
        b.iter(|| {
            encode(&mut builder, black_box(&work), 0, BLOCK_SWAPS);
            builder.finish(Time::new(1), Vec::new())
        });
    });
    group.bench_function("decode", |b| {
        let bytes = || block.bytes().to_vec();
        b.iter_batched(bytes, |bytes| Block::decode(bytes).expect("intact"), BatchSize::LargeInput);
    });
    group.bench_function("visit_rows", |b| {
        b.iter(|| {
            let mut sum = 0_u128;
            block.visit_rows(|_, key, after| {
                sum = sum.wrapping_add(after.available.get() ^ u128::from(key.account.get()));
            });
            sum
        });
    });
    group.bench_function("visit_events", |b| {
        b.iter(|| block.visit_events(|_, event| unreachable!("a swap has no {event:?}")));
    });
    group.bench_function("visit_ids", |b| {
        b.iter(|| {
            let mut sum = 0;
            block.visit_ids(|id| sum ^= id.get());
            sum
        });
    });
    group.bench_function("receipts", |b| {
        b.iter(|| {
            block.commits().map(|commit| commit.receipt(Time::new(1)).legs.len()).sum::<usize>()
        });
    });
    group.bench_function("check_conservation", |b| {
        b.iter(|| {
            work.txns
                .iter()
                .zip(&work.rows)
                .all(|(txn, rows)| check_conservation(txn, rows).is_ok())
        });
    });
    let mut scratch = Vec::new();
    group.bench_function("digest", |b| {
        b.iter(|| {
            let digest = |txn: &Txn| digest(&txn.command, txn.deadline, &mut scratch);
            work.txns.iter().map(digest).fold(0, |a, b| a ^ b)
        });
    });
    group.finish();
}

/// The same swaps in two phases: prepared, then committed, with the balances after each.
fn two_phase(work: &Work, swaps: usize) -> Vec<(Txn, Vec<Balance>)> {
    let funds = Balance { available: Amount::new(FUNDS), held: Amount::ZERO };
    let mut balances = vec![funds; ACCOUNTS as usize * 2];
    let mut change = |txn: &Txn| {
        let rows = txn.row_ops().map(|op| {
            let balance = &mut balances[slot(op.key) as usize];
            *balance = op.apply(*balance).expect("ample funds");
            *balance
        });
        rows.collect()
    };
    let mut done = Vec::new();
    for (place, txn) in work.txns[..swaps].iter().enumerate() {
        let swap = Swap::new(txn.legs().iter().copied()).expect("two legs");
        let prepare = Prepare { swap: swap.clone(), expires_in_ms: 60_000, exclusive: false };
        let command = Command::Prepare(Box::new(prepare));
        let mut prepare = Txn::new(Request::new(txn.id, command), 1, 2).expect("well-formed");
        prepare.expires_at = Time::new(1_700_000_060_000_000);
        let token = Token::of(txn.id);
        let command = Command::Resolve(Resolve { token, action: Action::Commit });
        let id = RequestId::new(txn.id.get() ^ 1);
        let mut commit = Txn::new(Request::new(id, command), 2, 2).expect("well-formed");
        let (purpose, expires_at) = (Purpose::Swap(swap), prepare.expires_at);
        let since = CommitSeq::new(2 * place as u64 + 1);
        commit.attach(Box::new(Hold { token, purpose, exclusive: false, expires_at, since }), 2);
        for txn in [prepare, commit] {
            let after = change(&txn);
            done.push((txn, after));
        }
    }
    done
}

fn holds(c: &mut Criterion) {
    let swaps = BLOCK_SWAPS / 2;
    let commits = two_phase(&work(swaps), swaps);
    let mut builder = BlockBuilder::new();
    let mut encode = || {
        builder.begin(BlockNumber::new(1), CommitSeq::new(1), BlockHash::GENESIS);
        commits.iter().for_each(|(txn, after)| builder.commit(txn, after.iter().copied()));
        builder.finish(Time::new(1), Vec::new())
    };
    let block = encode();
    println!("holds: {} bytes a swap", block.bytes().len() / swaps);
    let mut group = c.benchmark_group("holds");
    group.throughput(Throughput::Elements(swaps as u64));
    group.bench_function("encode_finish", |b| b.iter(&mut encode));
    group.bench_function("decode", |b| {
        let bytes = || block.bytes().to_vec();
        b.iter_batched(bytes, |bytes| Block::decode(bytes).expect("intact"), BatchSize::LargeInput);
    });
    group.bench_function("visit_rows", |b| {
        b.iter(|| {
            let mut sum = 0_u128;
            block.visit_rows(|_, _, after| sum = sum.wrapping_add(after.available.get()));
            sum
        });
    });
    group.bench_function("visit_events", |b| {
        b.iter(|| {
            let mut events = 0;
            block.visit_events(|_, _| events += 1);
            events
        });
    });
    group.finish();
}

fn folds(c: &mut Criterion) {
    let blocks = blocks(&work(SWAPS));
    let stored: Vec<Block> =
        blocks.iter().map(|block| Block::decode(block.bytes().to_vec()).expect("intact")).collect();
    let mut group = c.benchmark_group("fold");
    group.sample_size(10).throughput(Throughput::Elements(SWAPS as u64));
    for (name, blocks) in [("versions", &blocks), ("versions_without_slots", &stored)] {
        let mut fold = Fold::new();
        let mut run = || {
            let (mut rows, mut bytes) = (0, 0);
            blocks.iter().for_each(|block| fold.add(block));
            let count = |key: &[u8], value: &[u8]| {
                rows += 1;
                bytes += key.len() + value.len();
                Ok::<(), ()>(())
            };
            fold.finish(count).expect("counted");
            (rows, bytes)
        };
        let (rows, bytes) = run();
        println!("{name}: {rows} rows, {} bytes a swap", bytes / SWAPS);
        group.bench_function(name, |b| b.iter(&mut run));
    }
    let mut fold = IdFold::new(IdIndex::Outcomes);
    group.bench_function("outcomes", |b| {
        b.iter(|| {
            let mut bytes = 0;
            blocks.iter().for_each(|block| fold.add_outcomes(block));
            let count = |key: &[u8], value: &[u8]| {
                bytes += key.len() + value.len();
                Ok::<(), ()>(())
            };
            fold.finish(count).expect("counted");
            bytes
        });
    });
    group.finish();
}

criterion_group!(benches, journal, holds, folds);
criterion_main!(benches);
