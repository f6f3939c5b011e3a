//! What the disk of the data directory has left.

use metrics::{Gauge, gauge};

use super::table;

/// Room on the file system that the data is on.
pub struct DiskMetrics {
    free: Gauge,
    size: Gauge,
}

impl Default for DiskMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl DiskMetrics {
    /// Looks up the handles.
    pub fn new() -> Self {
        Self { free: gauge!(table::DISK_FREE.name), size: gauge!(table::DISK_SIZE.name) }
    }

    /// So many bytes may still be written, of so many.
    pub fn show(&self, free_bytes: u64, size_bytes: u64) {
        self.free.set(free_bytes as f64);
        self.size.set(size_bytes as f64);
    }
}
