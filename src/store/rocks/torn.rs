//! The torn end of RocksDB's manifest, which RocksDB itself takes for damage.
//!
//! The manifest is a log of what changed of the set of files. A change is synced before anything
//! relies on it, so one that was being written when the power failed can be cut off: the database is
//! as it was before. RocksDB does so where the last record is too short or all zeros, but refuses
//! one whose length is on the disk and whose bytes are not.
//!
//! Only what can be nothing else is cut: behind the first record that is not whole there is no
//! whole one, anywhere. Should that have been synced, and be damaged since, then nothing is lost
//! silently either: it is one change at most, and before a log is deleted there is another.
//!
//! ```text
//! blocks of 32 KiB │ crc32c, masked (4) │ length (2) │ type (1) │ bytes │ ...   a record never
//!                                                                crosses the end of a block
//! ```

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use crate::store::StoreError;

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// A change is smaller than that. What is longer was not torn by one write.
const TORN_BYTES_MAX: usize = 64 << 10;

/// A manifest whose last change is torn.
pub(super) struct Torn {
    path: PathBuf,
    /// Where the change begins.
    end: u64,
}

/// Looks for one. What cannot be read is left for RocksDB to complain about.
pub(super) fn find(database: &Path) -> Option<Torn> {
    let current = fs::read_to_string(database.join("CURRENT")).ok()?;
    let path = database.join(current.trim_end());
    let end = torn_at(&fs::read(&path).ok()?)? as u64;
    Some(Torn { path, end })
}

impl Torn {
    /// Cuts the change off. Nobody may have the database open.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn cut(self) -> Result<(), StoreError> {
        let Self { path, end } = self;
        tracing::warn!(manifest = %path.display(), from = end, "cuts off a torn change");
        let cut = OpenOptions::new().write(true).open(&path).and_then(|file| {
            file.set_len(end)?;
            file.sync_all()
        });
        cut.map_err(|error| StoreError::io("cut", &path, error))
    }
}

/// Where the torn end begins, if there is one.
fn torn_at(log: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(next) = after_record(log, at) {
        at = next;
    }
    let rest = log.len() - at;
    let whole = |from: usize| after_record(log, from).is_some();
    let torn = rest > 0 && rest <= TORN_BYTES_MAX && !(at + 1..log.len()).any(whole);
    torn.then_some(at)
}

/// Where the next record begins, if there is a whole one at this place.
fn after_record(log: &[u8], at: usize) -> Option<usize> {
    let left = BLOCK_BYTES - at % BLOCK_BYTES;
    // Too short for a header, the end of a block is filled up.
    let at = if left < HEADER_BYTES { at + left } else { at };
    let left = BLOCK_BYTES - at % BLOCK_BYTES;
    let header = log.get(at..at + HEADER_BYTES)?;
    let crc = u32::from_le_bytes(*header.first_chunk()?);
    let len = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let end = at + HEADER_BYTES + len;
    if !(1..=4).contains(&header[6]) || HEADER_BYTES + len > left {
        return None;
    }
    let is_whole = masked(crc32c::crc32c(log.get(at + 6..end)?)) == crc;
    is_whole.then_some(end)
}

/// As RocksDB writes it, so that a checksum of checksums is none.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::super::manifest::ManifestNote;
    use super::super::{DB_DIRECTORY, mend_manifest};
    use super::*;

    fn record(bytes: &[u8]) -> Vec<u8> {
        let typed = [&[1], bytes].concat();
        let len = (bytes.len() as u16).to_le_bytes();
        [&masked(crc32c::crc32c(&typed)).to_le_bytes(), len.as_slice(), &typed].concat()
    }

    fn log() -> Vec<u8> {
        [record(&[1; 40]), record(&[2; 500]), record(&[3; 90])].concat()
    }

    #[test]
    fn what_is_whole_is_not_torn() {
        assert_eq!(torn_at(&log()), None);
        assert_eq!(torn_at(&[]), None);
        // Two blocks, the first filled up.
        let long = record(&vec![1; BLOCK_BYTES - HEADER_BYTES - 3]);
        assert_eq!(torn_at(&[long.as_slice(), &[0; 3], &record(&[2; 9])].concat()), None);
    }

    #[test]
    fn a_last_record_that_is_not_whole_is_torn_wherever() {
        let whole = log();
        let last = whole.len() - HEADER_BYTES - 90;
        for at in last..whole.len() {
            let mut torn = whole.clone();
            torn[at..].fill(0);
            assert_eq!(torn_at(&torn), Some(last), "zeros from {at}");
            if at > last {
                assert_eq!(torn_at(&whole[..at]), Some(last), "cut at {at}");
            }
            let mut torn = whole.clone();
            torn[last..at + 1].fill(0);
            assert_eq!(torn_at(&torn), Some(last), "zeros up to {at}");
        }
    }

    #[test]
    fn a_change_that_was_noted_half_is_cut_once_and_for_all() {
        let data = tempfile::tempdir().unwrap();
        let database = data.path().join(DB_DIRECTORY);
        let manifest = database.join("MANIFEST-000007");
        fs::create_dir(&database).unwrap();
        fs::write(database.join("CURRENT"), "MANIFEST-000007\n").unwrap();
        let half = [log(), record(&[4; 90])[..40].to_vec()].concat();
        fs::write(&manifest, &half).unwrap();
        drop(ManifestNote::open(data.path()).unwrap());
        fs::write(&manifest, [half, vec![0; 57]].concat()).unwrap();
        // The first of these starts may die behind it.
        for _ in 0..2 {
            mend_manifest(data.path()).unwrap();
            assert_eq!(fs::read(&manifest).unwrap(), log());
        }
    }

    #[test]
    fn damage_before_the_last_record_is_left() {
        let whole = log();
        for at in 0..whole.len() - HEADER_BYTES - 90 {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            assert_eq!(torn_at(&damaged), None, "byte {at}");
        }
    }
}
