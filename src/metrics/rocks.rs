//! RocksDB's properties as gauges.
//!
//! The store asks RocksDB every second or so (there are no callbacks for stalls) and passes the
//! numbers on; which property feeds which gauge is said here and nowhere else.

use metrics::{Gauge, gauge};

use super::table::{self, Metric};

/// A property of the whole store. Ask for it on any column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RocksProperty {
    /// 1 while all writes are stopped.
    WriteStopped,
    /// Bytes per second to which writes are slowed; 0 while they are not.
    DelayedWriteRate,
    /// Errors of background work; RocksDB counts them on the default column family.
    BackgroundErrors,
    /// Compactions that run now.
    RunningCompactions,
    /// Flushes that run now.
    RunningFlushes,
    /// Bytes in the block cache, if all column families share one.
    BlockCacheBytes,
    /// Bytes that the block cache may use.
    BlockCacheCapacity,
    /// Snapshots held open.
    LiveSnapshots,
}

impl RocksProperty {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::WriteStopped,
        Self::DelayedWriteRate,
        Self::BackgroundErrors,
        Self::RunningCompactions,
        Self::RunningFlushes,
        Self::BlockCacheBytes,
        Self::BlockCacheCapacity,
        Self::LiveSnapshots,
    ];

    /// RocksDB's name for it.
    pub const fn property(self) -> &'static str {
        match self {
            Self::WriteStopped => "rocksdb.is-write-stopped",
            Self::DelayedWriteRate => "rocksdb.actual-delayed-write-rate",
            Self::BackgroundErrors => "rocksdb.background-errors",
            Self::RunningCompactions => "rocksdb.num-running-compactions",
            Self::RunningFlushes => "rocksdb.num-running-flushes",
            Self::BlockCacheBytes => "rocksdb.block-cache-usage",
            Self::BlockCacheCapacity => "rocksdb.block-cache-capacity",
            Self::LiveSnapshots => "rocksdb.num-snapshots",
        }
    }

    const fn metric(self) -> Metric {
        match self {
            Self::WriteStopped => table::WRITE_STOPPED,
            Self::DelayedWriteRate => table::DELAYED_WRITE,
            Self::BackgroundErrors => table::BACKGROUND_ERRORS,
            Self::RunningCompactions => table::RUNNING_COMPACTIONS,
            Self::RunningFlushes => table::RUNNING_FLUSHES,
            Self::BlockCacheBytes => table::BLOCK_CACHE,
            Self::BlockCacheCapacity => table::BLOCK_CACHE_CAPACITY,
            Self::LiveSnapshots => table::LIVE_SNAPSHOTS,
        }
    }
}

/// A property of one column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyProperty {
    /// Bytes that compaction is behind.
    PendingCompactionBytes,
    /// Bytes of memtables, active and not yet flushed.
    MemtableBytes,
    /// Full memtables that wait for their flush.
    ImmutableMemtables,
    /// Files at level 0.
    Level0Files,
    /// Bytes of live table files.
    SstBytes,
    /// Keys, estimated.
    EstimatedKeys,
}

impl FamilyProperty {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::PendingCompactionBytes,
        Self::MemtableBytes,
        Self::ImmutableMemtables,
        Self::Level0Files,
        Self::SstBytes,
        Self::EstimatedKeys,
    ];

    /// RocksDB's name for it.
    pub const fn property(self) -> &'static str {
        match self {
            Self::PendingCompactionBytes => "rocksdb.estimate-pending-compaction-bytes",
            Self::MemtableBytes => "rocksdb.cur-size-all-mem-tables",
            Self::ImmutableMemtables => "rocksdb.num-immutable-mem-table",
            Self::Level0Files => "rocksdb.num-files-at-level0",
            Self::SstBytes => "rocksdb.live-sst-files-size",
            Self::EstimatedKeys => "rocksdb.estimate-num-keys",
        }
    }

    const fn metric(self) -> Metric {
        match self {
            Self::PendingCompactionBytes => table::PENDING_COMPACTION,
            Self::MemtableBytes => table::MEMTABLES,
            Self::ImmutableMemtables => table::IMMUTABLE_MEMTABLES,
            Self::Level0Files => table::LEVEL0_FILES,
            Self::SstBytes => table::SST_BYTES,
            Self::EstimatedKeys => table::ESTIMATED_KEYS,
        }
    }
}

/// Gauges of the whole store.
pub struct RocksMetrics {
    gauges: [Gauge; RocksProperty::ALL.len()],
}

impl Default for RocksMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl RocksMetrics {
    /// Looks up the handles.
    pub fn new() -> Self {
        Self { gauges: RocksProperty::ALL.map(|property| gauge!(property.metric().name)) }
    }

    /// The property has this value now.
    pub fn set(&self, property: RocksProperty, value: f64) {
        self.gauges[property as usize].set(value);
    }
}

/// Gauges of one column family.
pub struct RocksFamilyMetrics {
    gauges: [Gauge; FamilyProperty::ALL.len()],
}

impl RocksFamilyMetrics {
    /// Looks up the handles of the column family of that name.
    pub fn new(family: &str) -> Self {
        let gauge = |property: FamilyProperty| gauge!(property.metric().name, "column_family" => family.to_owned());
        Self { gauges: FamilyProperty::ALL.map(gauge) }
    }

    /// The property has this value now.
    pub fn set(&self, property: FamilyProperty, value: f64) {
        self.gauges[property as usize].set(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_stand_in_the_order_of_their_variants() {
        assert!(RocksProperty::ALL.iter().enumerate().all(|(place, it)| *it as usize == place));
        assert!(FamilyProperty::ALL.iter().enumerate().all(|(place, it)| *it as usize == place));
    }
}
