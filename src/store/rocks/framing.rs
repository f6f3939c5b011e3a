//! Looks at the frames of RocksDB's own logs before RocksDB does.
//!
//! The write-ahead log and the manifest are records, whole or in fragments, in blocks of 32 KiB
//! (RocksDB's `db/log_format.h`):
//!
//! ```text
//! record: crc32c 4 │ length 2 │ type 1 │ payload       no record begins in the last 6 bytes of a block
//! ```
//!
//! Records of some types are written only to log files that are used again, which ours never are
//! (`recycle_log_file_num` is 0). RocksDB's reader, meeting one behind others, neither takes it nor
//! goes past it: it looks at it for ever. One flipped bit of a type is enough, and a start or an audit
//! would never end. So such a record is looked for first, and refused with the name of its file. All
//! other damage is left to RocksDB, which has the checksums.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::store::{RESTORE, StoreError};

const BLOCK_BYTES: u64 = 32 * 1024;
const HEADER_BYTES: usize = 7;

/// Looks at every log and manifest in RocksDB's directory.
///
/// # Errors
/// [`StoreError::Damaged`] with the file and the place in it; what the disk says.
pub(super) fn check(directory: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("read", directory, error);
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".log") || name.starts_with("MANIFEST-") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().try_for_each(|path| check_file(path))
}

fn check_file(path: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("read", path, error);
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    for block in (0..bytes).step_by(BLOCK_BYTES as usize) {
        let end = bytes.min(block + BLOCK_BYTES);
        if let Some(at) = recycled_record(&file, block, end).map_err(failed)? {
            return Err(StoreError::Damaged(format!(
                "{} is damaged: at byte {at} there is a record of a type that is never written; {RESTORE}",
                path.display()
            )));
        }
    }
    Ok(())
}

/// Where in a block the first record of a type is that RocksDB would not get past.
fn recycled_record(file: &File, begin: u64, end: u64) -> std::io::Result<Option<u64>> {
    let mut at = begin;
    while at + HEADER_BYTES as u64 <= end {
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, at)?;
        let [_, _, _, _, low, high, kind] = header;
        if is_recyclable(kind) {
            return Ok(Some(at));
        }
        if !is_written(kind) {
            // Nothing was written from here on, or it was torn when the power failed: then its length
            // leads nowhere, and RocksDB stops here by its checksum.
            break;
        }
        at += HEADER_BYTES as u64 + u64::from(u16::from_le_bytes([low, high]));
    }
    Ok(None)
}

/// Types of records that are written: fragments, and what else a log begins with.
fn is_written(kind: u8) -> bool {
    matches!(kind, 1..=4 | 9 | 10 | 130)
}

/// Types of records in log files that are used again.
fn is_recyclable(kind: u8) -> bool {
    matches!(kind, 5..=8 | 11 | 131)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_le_bytes();
        [&[1, 2, 3, 4, length[0], length[1], kind], payload].concat()
    }

    fn checked(bytes: &[u8]) -> Result<(), StoreError> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("000007.log"), bytes).unwrap();
        fs::write(directory.path().join("LOG"), record(5, b"text")).unwrap();
        check(directory.path())
    }

    #[test]
    fn records_that_are_never_written_are_found_wherever_they_stand() {
        let block = BLOCK_BYTES as usize;
        let full = record(1, &vec![7; block - HEADER_BYTES]);
        let mut padded = record(1, &vec![7; block - HEADER_BYTES - 3]);
        padded.extend([5; 3]);
        for whole in [&full[..], &padded[..]] {
            let sound = [whole, &record(3, b"end"), &[0; 40]].concat();
            assert_eq!(checked(&sound), Ok(()));
            // Cut anywhere it is no worse.
            (0..40).for_each(|cut| assert_eq!(checked(&sound[..sound.len() - cut]), Ok(())));
            for kind in [5, 6, 7, 8, 11, 131] {
                let text = checked(&[whole, &record(1, b"a"), &record(kind, b"b")].concat());
                let text = text.unwrap_err().to_string();
                let at = format!("000007.log is damaged: at byte {}", whole.len() + 8);
                assert!(text.contains(&at) && text.contains("restore"), "{text}");
            }
        }
    }

    #[test]
    fn a_torn_header_leads_nowhere() {
        // Of the header of the second record the power left the low byte of its length.
        let (first, second) = (record(1, b"a"), record(1, &[5; 300]));
        let torn = [&first[..], &[0; 4], &second[4..5], &[0; 2], &second[7..]].concat();
        assert_eq!(checked(&torn), Ok(()));
    }

    #[test]
    fn payloads_are_not_taken_for_records() {
        assert_eq!(checked(&record(1, &record(5, b"inside"))), Ok(()));
    }
}
