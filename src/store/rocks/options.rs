//! Every setting of RocksDB, with its reason.
//!
//! The journal must not lie: what was synced is there after a crash, or the start is refused.
//! The derived families must not be in its way: compaction runs at low priority, and merges
//! ingested sorted runs lazily (universal compaction), as on few cores each byte that is
//! rewritten is paid for by the settlement of swaps.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompactionStyle, DBCompressionType,
    DBRecoveryMode, Env, LogLevel, Options, SliceTransform, UniversalCompactOptions, WriteOptions,
};

use super::retention::{self, Horizon};
use crate::store::{Durability, StoreError, keys};

/// RocksDB insists on it; unused.
const DEFAULT: &str = "default";

/// All column families, in the order of creation; each name is persisted.
pub const FAMILIES: [&str; 9] = [
    DEFAULT,
    keys::JOURNAL,
    keys::VERSIONS,
    keys::OUTCOMES,
    keys::RECORDS,
    keys::BLOCKS,
    keys::ACCOUNTS,
    keys::ASSETS,
    keys::META,
];

const MIB: usize = 1 << 20;
/// Blocks of all families read from disk.
const CACHE_BYTES: usize = 256 * MIB;
/// Bounds recovery: a family whose memtable pins older log than this is flushed.
const WAL_BYTES_MAX: u64 = 1 << 30;
/// Smooths write-back, so that a sync finds little left to do.
const WAL_BYTES_PER_SYNC: u64 = 512 << 10;
pub const JOURNAL_MEMTABLE_BYTES: usize = 128 * MIB;
/// Persisted, as the filters in the files are made with it.
const RECORD_PREFIX: &str = "crosslatch.record_prefix";
const DERIVED_MEMTABLE_BYTES: usize = 32 * MIB;
/// Sorted runs that a derived family gathers before some are merged: fewer make reads quicker,
/// more make writes cheaper.
const RUNS_BEFORE_MERGE: i32 = 8;
/// Sorted runs at which RocksDB would slow writers down, and stop them: out of reach, as that
/// would stop the journal too. The materializer waits before its next fold instead.
const RUNS_BEFORE_SLOWDOWN: i32 = 96;
const RUNS_BEFORE_STOP: i32 = 128;

/// Options of the database as a whole.
///
/// # Errors
/// When RocksDB gives no environment.
pub fn database(create: bool) -> Result<Options, StoreError> {
    let mut env = Env::new().map_err(|error| StoreError::Io(format!("RocksDB: {error}")))?;
    env.lower_thread_pool_cpu_priority();
    env.lower_thread_pool_io_priority();
    let mut options = Options::default();
    options.set_env(&env);
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    // Off, a failed write or sync of the log would not be sticky.
    options.set_paranoid_checks(true);
    // Absolute consistency refuses after a mere kill -9; this one truncates silently, which the
    // mark and the journal's chain make loud.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    // Recycling has lost data in recovery; buffered log failures have left families inconsistent.
    options.set_recycle_log_file_num(0);
    options.set_manual_wal_flush(false);
    // None of these helps one writer; the first breaks snapshots.
    options.set_unordered_write(false);
    options.set_enable_pipelined_write(false);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_wal_bytes_per_sync(WAL_BYTES_PER_SYNC);
    options.set_bytes_per_sync(MIB as u64);
    // One flushes, two merge: what retention rewrites takes long, and folds must not wait for it.
    options.set_max_background_jobs(3);
    options.set_max_open_files(-1);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(16 * MIB);
    options.set_keep_log_file_num(4);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    Ok(options)
}

/// The cache that all families share.
pub fn cache() -> Cache {
    Cache::new_lru_cache(CACHE_BYTES)
}

/// Every family with its options. What nobody can read as of `horizon` or later is dropped as it is
/// merged.
pub fn families(cache: &Cache, horizon: &Horizon) -> Vec<ColumnFamilyDescriptor> {
    FAMILIES
        .map(|name| {
            let mut options = match name {
                keys::JOURNAL => journal(cache),
                keys::VERSIONS => versions(cache),
                keys::OUTCOMES => outcomes(cache),
                keys::RECORDS => records(cache),
                _ => small(cache),
            };
            if matches!(name, keys::VERSIONS | keys::RECORDS) {
                retention::obey(&mut options, horizon);
            }
            ColumnFamilyDescriptor::new(name, options)
        })
        .into()
}

/// Blocks, appended in key order: what is flushed never overlaps, so it is moved, not rewritten.
fn journal(cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(JOURNAL_MEMTABLE_BYTES);
    options.set_max_write_buffer_number(4);
    // Blocks are packed by their own encoding already.
    options.set_compression_type(DBCompressionType::None);
    options.set_target_file_size_base(JOURNAL_MEMTABLE_BYTES as u64);
    options.set_block_based_table_factory(&table(cache));
    options
}

/// Versions of balances: as-of reads seek within one balance's rows.
pub fn versions(cache: &Cache) -> Options {
    let mut options = derived();
    options.set_prefix_extractor(SliceTransform::create_fixed_prefix(keys::VERSION_PREFIX_LEN));
    let mut table = table(cache);
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(false);
    options.set_block_based_table_factory(&table);
    options
}

/// Values under callers' keys: as-of reads seek within one key's rows.
pub fn records(cache: &Cache) -> Options {
    let mut options = derived();
    // Every lookup is a seek, so a filter of whole keys would never be asked. One of the keys
    // without their seqs leaves nearly all sorted runs alone; their lengths differ, so that needs
    // an extractor of our own.
    options.set_prefix_extractor(SliceTransform::create(
        RECORD_PREFIX,
        |row| keys::record_prefix(row).unwrap_or(row),
        Some(|row| keys::record_prefix(row).is_some()),
    ));
    let mut table = table(cache);
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(false);
    options.set_block_based_table_factory(&table);
    options
}

/// Request ids: looked up most often when they are not there.
pub fn outcomes(cache: &Cache) -> Options {
    let mut options = derived();
    // Version-7 ids are packed by their millisecond, others are keys of their own: the filter
    // knows both.
    options.set_prefix_extractor(SliceTransform::create_fixed_prefix(keys::ID_V7_PREFIX_LEN));
    let mut table = table(cache);
    table.set_bloom_filter(10.0, false);
    options.set_block_based_table_factory(&table);
    options
}

/// For files on their way in: quick to write. What lasts is packed tighter when it is merged.
pub fn incoming(mut family: Options) -> Options {
    family.set_bottommost_compression_type(DBCompressionType::Lz4);
    family
}

fn derived() -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(DERIVED_MEMTABLE_BYTES);
    options.set_max_write_buffer_number(4);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_compaction_style(DBCompactionStyle::Universal);
    let mut universal = UniversalCompactOptions::default();
    // Every row is live, so there is nothing to win by merging all runs for space.
    universal.set_max_size_amplification_percent(10_000);
    universal.set_size_ratio(20);
    universal.set_min_merge_width(4);
    options.set_universal_compaction_options(&universal);
    options.set_level_zero_file_num_compaction_trigger(RUNS_BEFORE_MERGE);
    options.set_level_zero_slowdown_writes_trigger(RUNS_BEFORE_SLOWDOWN);
    options.set_level_zero_stop_writes_trigger(RUNS_BEFORE_STOP);
    // Debt is bounded by the number of runs; bytes must not stall the journal.
    options.set_soft_pending_compaction_bytes_limit(0);
    options.set_hard_pending_compaction_bytes_limit(0);
    options
}

fn small(cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(DERIVED_MEMTABLE_BYTES);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_block_based_table_factory(&table(cache));
    options
}

fn table(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(16 << 10);
    table.set_format_version(6);
    table
}

/// How the journal is written.
pub fn journal_write(durability: Durability) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(durability == Durability::Sync);
    options
}

/// The families that exist in a database on disk.
///
/// # Errors
/// What RocksDB says.
pub fn list(path: &Path) -> Result<Vec<String>, StoreError> {
    rocksdb::DB::list_cf(&Options::default(), path)
        .map_err(|error| StoreError::Damaged(format!("{}: {error}", path.display())))
}
