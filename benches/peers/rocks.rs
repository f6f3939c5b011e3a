//! RocksDB's own transactions, in this process: optimistic ones, which are done again when another
//! commit came between, and ones that lock each row that they read.
//!
//! A balance is a row: account and asset lead to 16 bytes. Rows are read for update and written
//! through the transaction; where transactions lock, in the order of keys. The settings are those
//! of Crosslatch's own store where they matter (synced, paranoid), and memory is so ample that no
//! read waits for a disk. What is *not* done here and is by Crosslatch: receipts, request ids,
//! history, a check of each commit's sums.
//!
//! Batches are done in two ways. *Row by row*, each swap reads and writes its four rows through
//! the transaction, where it sees what the batch's earlier swaps wrote. *Netted*, the program reads
//! the batch's rows once, reckons in memory, and writes each row once: cleverer than most are, and
//! so the harder comparison.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, Error, ErrorKind, IteratorMode,
    OptimisticTransactionDB, OptimisticTransactionOptions, Options, ReadOptions, Transaction,
    TransactionDB, TransactionDBOptions, TransactionOptions, WriteOptions,
};

use crate::drive::{Driven, drive};
use crate::guard;
use crate::report::Bout;
use crate::work::{ASSETS, BATCH, Callers, Class, FUNDS, Run, Swap, Workload};

/// How many threads are tried.
const THREADS: [usize; 5] = [1, 2, 4, 16, 64];
/// A wait for a lock longer than this ends in a retry.
const LOCK_TIMEOUT_MS: i64 = 1_000;
const KEY_BYTES: usize = 12;

type Key = [u8; KEY_BYTES];

/// One of the two kinds of transactional database.
pub trait Store: Sync + Sized {
    /// The type that transactions are of.
    type Db;
    /// What the report calls it.
    const NAME: &'static str;
    /// Whether transactions wait for each other's rows.
    const LOCKS: bool;

    /// Creates one in an empty directory.
    ///
    /// # Errors
    /// RocksDB's.
    fn open(directory: &Path) -> Result<Self, Error>;

    /// Begins a transaction whose commit is synced.
    fn begin(&self) -> Transaction<'_, Self::Db>;
}

/// Conflicts are found at commit.
pub struct Optimistic {
    db: OptimisticTransactionDB,
    write: WriteOptions,
    transaction: OptimisticTransactionOptions,
}

impl Store for Optimistic {
    type Db = OptimisticTransactionDB;
    const NAME: &'static str = "RocksDB OptimisticTransactionDB";
    const LOCKS: bool = false;

    fn open(directory: &Path) -> Result<Self, Error> {
        let db = OptimisticTransactionDB::open(&options(), directory)?;
        Ok(Self { db, write: synced(), transaction: OptimisticTransactionOptions::default() })
    }

    fn begin(&self) -> Transaction<'_, Self::Db> {
        self.db.transaction_opt(&self.write, &self.transaction)
    }
}

/// Rows are locked as they are read.
pub struct Locking {
    db: TransactionDB,
    write: WriteOptions,
    transaction: TransactionOptions,
}

impl Store for Locking {
    type Db = TransactionDB;
    const NAME: &'static str = "RocksDB TransactionDB";
    const LOCKS: bool = true;

    fn open(directory: &Path) -> Result<Self, Error> {
        let db = TransactionDB::open(&options(), &TransactionDBOptions::default(), directory)?;
        let mut transaction = TransactionOptions::default();
        transaction.set_lock_timeout(LOCK_TIMEOUT_MS);
        Ok(Self { db, write: synced(), transaction })
    }

    fn begin(&self) -> Transaction<'_, Self::Db> {
        self.db.transaction_opt(&self.write, &self.transaction)
    }
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_bloom_filter(10.0, false);
    table.set_block_cache(&Cache::new_lru_cache(1 << 30));
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_paranoid_checks(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(256 << 20);
    options.set_max_write_buffer_number(4);
    options.set_max_background_jobs(2);
    options.set_max_total_wal_size(1 << 30);
    options.set_wal_bytes_per_sync(512 << 10);
    options
}

/// How the swaps of a batch are carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    RowByRow,
    /// The same after all rows were locked in the order of keys, or two batches might wait for
    /// each other.
    LockedFirst,
    Netted,
}

/// How many threads help, by what they do.
#[derive(Default)]
pub struct Rocks {
    row_by_row: Callers,
    netted: Callers,
    many: Callers,
}

impl Rocks {
    /// Measures one kind of database in all classes, in a directory of its own.
    ///
    /// # Errors
    /// The store cannot be made or filled, or a signal came.
    pub fn round<S: Store>(&mut self, bout: &mut Bout<'_>) -> Result<()> {
        let directory = bout.directory("rocksdb")?;
        let store = S::open(directory.path())?;
        fill(&store, bout.workload)?;
        let bench = Bench { store: &store, workload: bout.workload };
        let best = |known: &mut Callers, batch, way| {
            let time = bout.workload.trial_time();
            known.best_of(&THREADS, |threads| {
                Ok(bench.go(threads, batch, way, time)?.swaps_per_second)
            })
        };
        let row_by_row = best(&mut self.row_by_row, BATCH, Way::RowByRow)?;
        let netted = best(&mut self.netted, BATCH, Way::Netted)?;
        let many = best(&mut self.many, 1, Way::RowByRow)?;
        let mut run = |class, how, threads, batch, way| {
            bout.run(class, S::NAME, how, || bench.run(threads, batch, way))
        };
        run(Class::Batched, "1,000 a transaction", row_by_row, BATCH, Way::RowByRow)?;
        run(Class::Batched, "1,000 a transaction, netted", netted, BATCH, Way::Netted)?;
        run(Class::OneAtATime, "", 1, 1, Way::RowByRow)?;
        run(Class::ManyCallers, "", many, 1, Way::RowByRow)
    }
}

struct Bench<'a, S> {
    store: &'a S,
    workload: &'a Workload,
}

impl<S: Store> Bench<'_, S> {
    fn run(&self, threads: usize, batch: usize, way: Way) -> Result<Run> {
        let driven = self.go(threads, batch, way, self.workload.time())?;
        Ok(Run {
            swaps_per_second: driven.swaps_per_second,
            latency: Some(driven.latency),
            callers: threads,
            verified: Some(conserved(self.store, self.workload)?),
            note: if driven.retries > 0 {
                format!("{} retries", driven.retries)
            } else {
                String::new()
            },
        })
    }

    fn go(&self, threads: usize, batch: usize, way: Way, time: Duration) -> Result<Driven> {
        let may_deadlock = S::LOCKS && threads > 1 && batch > 1;
        let way = if may_deadlock && way == Way::RowByRow { Way::LockedFirst } else { way };
        let read = ReadOptions::default();
        drive(self.workload, threads, batch, time, |caller| {
            loop {
                match attempt(self.store, &read, &caller.batch, way) {
                    Ok(settled) => return Ok(settled),
                    Err(error) if is_conflict(&error) => caller.retries += 1,
                    Err(error) => return Err(error.into()),
                }
                guard::check()?;
            }
        })
    }
}

/// Another transaction was faster, or holds a lock for too long: to be done again.
fn is_conflict(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Busy | ErrorKind::TimedOut | ErrorKind::TryAgain)
}

/// One transaction; dropped without a commit, it leaves nothing behind.
fn attempt<S: Store>(
    store: &S,
    read: &ReadOptions,
    swaps: &[Swap],
    way: Way,
) -> Result<u64, Error> {
    let transaction = store.begin();
    let settled = match way {
        Way::Netted => settle_netted(&transaction, read, swaps)?,
        Way::RowByRow => settle_each(&transaction, read, swaps)?,
        Way::LockedFirst => {
            for key in keys_in_order(swaps) {
                balance(&transaction, read, &key)?;
            }
            settle_each(&transaction, read, swaps)?
        }
    };
    transaction.commit()?;
    Ok(settled)
}

/// Returns how many had the funds.
fn settle_each<D>(
    transaction: &Transaction<'_, D>,
    read: &ReadOptions,
    swaps: &[Swap],
) -> Result<u64, Error> {
    let mut settled = 0;
    for swap in swaps {
        settled += u64::from(settle(transaction, read, swap)?);
    }
    Ok(settled)
}

/// Both transfers or neither; `false` if funds are short. Reads in the order of keys.
fn settle<D>(
    transaction: &Transaction<'_, D>,
    read: &ReadOptions,
    swap: &Swap,
) -> Result<bool, Error> {
    let mut rows = changes(swap);
    rows.sort_unstable_by_key(|(key, _)| *key);
    let mut after = [0; 4];
    for ((key, delta), after) in rows.iter().zip(&mut after) {
        let Some(sum) = balance(transaction, read, key)?.checked_add_signed(*delta) else {
            return Ok(false);
        };
        *after = sum;
    }
    for ((key, _), after) in rows.iter().zip(after) {
        transaction.put(key, after.to_le_bytes())?;
    }
    Ok(true)
}

/// Reads each row of the batch once, settles one swap after the other in memory, writes each row
/// once.
fn settle_netted<D>(
    transaction: &Transaction<'_, D>,
    read: &ReadOptions,
    swaps: &[Swap],
) -> Result<u64, Error> {
    let keys = keys_in_order(swaps);
    let mut rows = HashMap::with_capacity(keys.len());
    for key in &keys {
        rows.insert(*key, balance(transaction, read, key)?);
    }
    let mut settled = 0;
    for swap in swaps {
        let changes = changes(swap);
        let sums = changes.map(|(key, delta)| rows[&key].checked_add_signed(delta));
        if sums.contains(&None) {
            continue;
        }
        for ((key, _), sum) in changes.iter().zip(sums.into_iter().flatten()) {
            rows.insert(*key, sum);
        }
        settled += 1;
    }
    for key in &keys {
        transaction.put(key, rows[key].to_le_bytes())?;
    }
    Ok(settled)
}

fn balance<D>(
    transaction: &Transaction<'_, D>,
    read: &ReadOptions,
    key: &Key,
) -> Result<u128, Error> {
    let row = transaction.get_pinned_for_update_opt(key, true, read)?;
    let row = row.expect("every account was filled with every asset");
    Ok(u128::from_le_bytes((*row).try_into().expect("a balance has 16 bytes")))
}

/// The four rows of a swap, with what it adds to each.
fn changes(swap: &Swap) -> [(Key, i128); 4] {
    let other = ASSETS + 1 - swap.asset;
    let (gives, takes) = (i128::from(swap.gives), i128::from(swap.takes));
    [
        (key(swap.a, swap.asset), -gives),
        (key(swap.b, swap.asset), gives),
        (key(swap.b, other), -takes),
        (key(swap.a, other), takes),
    ]
}

/// Every row of a batch, each once.
fn keys_in_order(swaps: &[Swap]) -> Vec<Key> {
    let mut keys: Vec<Key> =
        swaps.iter().flat_map(|swap| changes(swap).map(|(key, _)| key)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn key(account: u64, asset: u32) -> Key {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&account.to_be_bytes());
    key[8..].copy_from_slice(&asset.to_be_bytes());
    key
}

fn fill<S: Store>(store: &S, workload: &Workload) -> Result<()> {
    const ACCOUNTS_AT_ONCE: u64 = 10_000;
    let mut next = 1;
    while next <= workload.accounts {
        let end = (next + ACCOUNTS_AT_ONCE).min(workload.accounts + 1);
        let transaction = store.begin();
        for account in next..end {
            for asset in 1..=ASSETS {
                transaction.put(key(account, asset), u128::from(FUNDS).to_le_bytes())?;
            }
        }
        transaction.commit()?;
        next = end;
    }
    ensure!(conserved(store, workload)?, "{} does not hold what it was filled with", S::NAME);
    Ok(())
}

/// Whether each asset still adds up to what was put in, over all rows.
fn conserved<S: Store>(store: &S, workload: &Workload) -> Result<bool> {
    let mut sums = [0_u128; ASSETS as usize];
    let transaction = store.begin();
    for row in transaction.iterator(IteratorMode::Start) {
        let (key, value) = row?;
        let asset = key[8..].try_into().map(u32::from_be_bytes).context("a key of 12 bytes")?;
        let value = (*value).try_into().map(u128::from_le_bytes).context("a value of 16 bytes")?;
        sums[asset as usize - 1] += value;
    }
    Ok(sums.iter().all(|sum| *sum == u128::from(workload.accounts) * u128::from(FUNDS)))
}
