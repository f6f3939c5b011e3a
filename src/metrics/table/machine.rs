//! The metrics of what Crosslatch runs on: RocksDB, the disk, the process and its threads.

use super::{ACTORS, FAMILY, Label, Metric, SHARD, counter, gauge, listed};

pub(in crate::metrics) const WRITE_STOPPED: Metric = gauge(
    "crosslatch_rocksdb_write_stopped",
    "boolean",
    &[],
    "1 while RocksDB has stopped all writes to let compaction catch up, else 0.",
);
pub(in crate::metrics) const DELAYED_WRITE: Metric = gauge(
    "crosslatch_rocksdb_delayed_write_bytes_per_second",
    "bytes per second",
    &[],
    "Rate to which RocksDB slows writes; 0 while it does not.",
);
pub(in crate::metrics) const BACKGROUND_ERRORS: Metric = gauge(
    "crosslatch_rocksdb_background_errors",
    "errors",
    &[],
    "Errors of RocksDB's background work since the store was opened.",
);
pub(in crate::metrics) const RUNNING_COMPACTIONS: Metric = gauge(
    "crosslatch_rocksdb_running_compactions",
    "compactions",
    &[],
    "Compactions that run now.",
);
pub(in crate::metrics) const RUNNING_FLUSHES: Metric =
    gauge("crosslatch_rocksdb_running_flushes", "flushes", &[], "Memtable flushes that run now.");
pub(in crate::metrics) const BLOCK_CACHE: Metric = gauge(
    "crosslatch_rocksdb_block_cache_bytes",
    "bytes",
    &[],
    "Memory in use by the block cache that the column families share.",
);
pub(in crate::metrics) const LIVE_SNAPSHOTS: Metric = gauge(
    "crosslatch_rocksdb_live_snapshots",
    "snapshots",
    &[],
    "RocksDB snapshots that are held open, each of which keeps old rows alive.",
);
pub(in crate::metrics) const PENDING_COMPACTION: Metric = gauge(
    "crosslatch_rocksdb_pending_compaction_bytes",
    "bytes",
    FAMILY,
    "Bytes that compaction would have to rewrite to bring every level to its target size.",
);
pub(in crate::metrics) const MEMTABLES: Metric = gauge(
    "crosslatch_rocksdb_memtable_bytes",
    "bytes",
    FAMILY,
    "Memory of the active and the unflushed memtables.",
);
pub(in crate::metrics) const IMMUTABLE_MEMTABLES: Metric = gauge(
    "crosslatch_rocksdb_immutable_memtables",
    "memtables",
    FAMILY,
    "Full memtables that wait for their flush.",
);
pub(in crate::metrics) const LEVEL0_FILES: Metric = gauge(
    "crosslatch_rocksdb_level0_files",
    "files",
    FAMILY,
    "Files at level 0, each of which a read may have to look into.",
);
pub(in crate::metrics) const SST_BYTES: Metric =
    gauge("crosslatch_rocksdb_sst_bytes", "bytes", FAMILY, "Size of all live table files.");
pub(in crate::metrics) const ESTIMATED_KEYS: Metric =
    gauge("crosslatch_rocksdb_estimated_keys", "keys", FAMILY, "Estimated number of keys.");

pub(in crate::metrics) const PROCESS_CPU: Metric = counter(
    "process_cpu_seconds_total",
    "seconds",
    &[],
    "User and system CPU time of the process.",
);
pub(in crate::metrics) const PROCESS_RESIDENT: Metric =
    gauge("process_resident_memory_bytes", "bytes", &[], "Resident memory of the process.");
pub(in crate::metrics) const PROCESS_VIRTUAL: Metric =
    gauge("process_virtual_memory_bytes", "bytes", &[], "Virtual memory of the process.");
pub(in crate::metrics) const PROCESS_OPEN_FDS: Metric =
    gauge("process_open_fds", "file descriptors", &[], "Open file descriptors.");
pub(in crate::metrics) const PROCESS_MAX_FDS: Metric = gauge(
    "process_max_fds",
    "file descriptors",
    &[],
    "Most file descriptors that the process may open.",
);
pub(in crate::metrics) const PROCESS_START: Metric = gauge(
    "process_start_time_seconds",
    "seconds",
    &[],
    "When the process started, in seconds since the Unix epoch.",
);
pub(in crate::metrics) const PROCESS_THREADS: Metric =
    gauge("process_threads", "threads", &[], "Threads of the process.");

pub(in crate::metrics) const BLOCK_CACHE_CAPACITY: Metric = gauge(
    "crosslatch_rocksdb_block_cache_capacity_bytes",
    "bytes",
    &[],
    "Memory that the block cache may use.",
);
pub(in crate::metrics) const DISK_FREE: Metric = gauge(
    "crosslatch_disk_free_bytes",
    "bytes",
    &[],
    "Bytes that the server may still use of the file system of its data directory.",
);
pub(in crate::metrics) const DISK_SIZE: Metric = gauge(
    "crosslatch_disk_size_bytes",
    "bytes",
    &[],
    "Size of the file system of the data directory.",
);
/// Whose threads are told apart: the actors' with a mailbox, and RocksDB's.
pub(in crate::metrics) const THREADS: [&str; ACTORS.len() + 1] =
    ["coordinator", "shard", "market", "commit_log", "materializer", "rocksdb"];
const THREAD: Label = listed("actor", &THREADS);
pub(in crate::metrics) const THREAD_CPU: Metric = counter(
    "crosslatch_thread_cpu_seconds_total",
    "seconds",
    &[THREAD, SHARD],
    "CPU time of an actor's thread, and of RocksDB's together: 1 a second is a thread that is never idle.",
);
