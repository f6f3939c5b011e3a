//! The small file that says how far the journal had been synced.
//!
//! RocksDB's point-in-time recovery cannot tell the torn tail of a write that was never
//! acknowledged from damage to one that was: both end the log. So after each journal sync, and
//! before its answers, the last durable position is overwritten here. At the start the journal
//! must reach it, or synced data is missing and the engine refuses to run.
//!
//! The file is preallocated and never grows, so overwriting it costs no metadata; it is synced
//! only at the stop. It outlives the process without that; after a power loss it may be some
//! groups behind, and proves that much less. Two slots in sectors of their own are written in
//! turn, so that a torn write spoils only the newer one.
//!
//! The file also carries the lock of the data directory: exclusive for an engine, shared for
//! those that only look.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::{FORMAT, Position, RESTORE, StoreError};
use crate::faults::point;
use crate::types::{BlockNumber, CommitSeq};

/// Name of the file in the data directory.
pub const FILE: &str = "mark";
/// Its name until it is whole.
pub(super) const FILE_NEW: &str = "mark.new";

/// What the first bytes of a slot are.
const MAGIC: [u8; 8] = *b"XLATMARK";
/// Distance of the slots: no device tears across it.
const SLOT_BYTES: u64 = 4_096;
/// magic, format version of the data directory, block, seq, crc32c of all before it.
const ENTRY_BYTES: usize = 8 + 4 + 8 + 8 + 4;

/// The open mark. Holding it holds the lock of the data directory.
#[derive(Debug)]
pub struct Mark {
    file: File,
    path: PathBuf,
    /// Which slot the next write goes to: never the one that was written last.
    slot_next: u64,
}

impl Mark {
    /// Creates the mark of an empty journal in a new data directory, synced, and locks it.
    ///
    /// # Errors
    /// When the file cannot be written, or another process is creating it.
    pub fn create(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let new = directory.join(FILE_NEW);
        let failed = |error| StoreError::io("create", &new, error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&new)
            .map_err(failed)?;
        lock(&file, &new, FlockOperation::NonBlockingLockExclusive)?;
        file.write_all_at(&[0; 2 * SLOT_BYTES as usize], 0).map_err(failed)?;
        let mut mark = Self { file, path, slot_next: 0 };
        point!("mark.create");
        mark.write(Position::default())?;
        mark.sync()?;
        point!("mark.synced");
        // Only a whole mark ever has its name.
        std::fs::rename(&new, &mark.path).map_err(failed)?;
        point!("mark.renamed");
        sync_directory(directory)?;
        Ok(mark)
    }

    /// Opens and locks the mark, exclusively unless it is only `shared`, and reads it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has the directory, [`StoreError::NewerFormat`]
    /// or [`StoreError::OlderFormat`] when another build wrote it, [`StoreError::Damaged`] when neither slot is intact.
    pub fn open(directory: &Path, shared: bool) -> Result<(Self, Position), StoreError> {
        let path = directory.join(FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(!shared)
            .open(&path)
            .map_err(|error| StoreError::io("open", &path, error))?;
        let how = match shared {
            true => FlockOperation::NonBlockingLockShared,
            false => FlockOperation::NonBlockingLockExclusive,
        };
        lock(&file, &path, how)?;
        let newest = (0..2)
            .filter_map(|slot| Some((read_slot(&file, slot)?, slot)))
            .max_by_key(|((_, position), _)| position.block);
        let Some(((format, position), slot)) = newest else {
            return Err(StoreError::Damaged(format!(
                "{} is damaged: neither of its two slots is intact; {RESTORE}",
                path.display()
            )));
        };
        if format > FORMAT {
            return Err(StoreError::NewerFormat { found: format, known: FORMAT });
        }
        if format < FORMAT {
            return Err(StoreError::OlderFormat { found: format });
        }
        Ok((Self { file, path, slot_next: 1 - slot }, position))
    }

    /// Overwrites the older slot. Not synced.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, position: Position) -> Result<(), StoreError> {
        let entry = encode(position);
        self.file
            .write_all_at(&entry, self.slot_next * SLOT_BYTES)
            .map_err(|error| StoreError::io("write", &self.path, error))?;
        self.slot_next = 1 - self.slot_next;
        Ok(())
    }

    /// Syncs what was written.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|error| StoreError::io("sync", &self.path, error))
    }
}

impl Drop for Mark {
    /// Lets go of the lock also when a child process has the file open still, as one that this
    /// process starts on another thread does until its `exec`.
    fn drop(&mut self) {
        // Closing the file lets go of it as well, if nobody else has it.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

fn lock(file: &File, path: &Path, how: FlockOperation) -> Result<(), StoreError> {
    rustix::fs::flock(file, how).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => StoreError::InUse(path.with_file_name("")),
        other => StoreError::io("lock", path, other.into()),
    })
}

/// Creates a directory (0700) with its parents, and makes the entries durable.
#[cfg(feature = "rocksdb")]
pub(super) fn create_directory(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;

    let path = std::path::absolute(path).map_err(|error| StoreError::io("find", path, error))?;
    let missing: Vec<&Path> = path.ancestors().take_while(|part| !part.exists()).collect();
    let mut builder = std::fs::DirBuilder::new();
    // Of two that come at once, both go on.
    builder.recursive(true).mode(0o700);
    for part in missing.into_iter().rev() {
        builder.create(part).map_err(|error| StoreError::io("create", part, error))?;
        sync_directory(part.parent().unwrap_or(part))?;
    }
    Ok(())
}

/// Makes the entries of a directory durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|error| StoreError::io("sync", directory, error))
}

fn encode(position: Position) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..8].copy_from_slice(&MAGIC);
    entry[8..12].copy_from_slice(&FORMAT.to_be_bytes());
    entry[12..20].copy_from_slice(&position.block.get().to_be_bytes());
    entry[20..28].copy_from_slice(&position.seq.get().to_be_bytes());
    let crc = crc32c::crc32c(&entry[..28]);
    entry[28..].copy_from_slice(&crc.to_be_bytes());
    entry
}

/// What a slot says; `None` when it was never written or not completely.
fn read_slot(file: &File, slot: u64) -> Option<(u32, Position)> {
    let mut entry = [0; ENTRY_BYTES];
    file.read_exact_at(&mut entry, slot * SLOT_BYTES).ok()?;
    let (body, crc) = entry.split_last_chunk()?;
    if !body.starts_with(&MAGIC) || crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    let number = |at: usize| Some(u64::from_be_bytes(*body.get(at..)?.first_chunk()?));
    let format = u32::from_be_bytes(*body.get(8..)?.first_chunk()?);
    let position =
        Position { block: BlockNumber::new(number(12)?), seq: CommitSeq::new(number(20)?) };
    Some((format, position))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(block: u64, seq: u64) -> Position {
        Position { block: BlockNumber::new(block), seq: CommitSeq::new(seq) }
    }

    #[test]
    fn the_last_write_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut mark = Mark::create(directory.path()).unwrap();
        for block in 0..5 {
            mark.write(at(block, block * 10)).unwrap();
            drop(mark);
            let (again, position) = Mark::open(directory.path(), false).unwrap();
            assert_eq!(position, at(block, block * 10));
            mark = again;
        }
    }

    #[test]
    fn a_torn_write_leaves_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let mut mark = Mark::create(directory.path()).unwrap();
        mark.write(at(1, 10)).unwrap();
        mark.write(at(2, 20)).unwrap();
        // The next goes over block 1; half of it arrives.
        mark.file.write_all_at(&encode(at(3, 30))[..12], mark.slot_next * SLOT_BYTES).unwrap();
        drop(mark);
        let (mark, position) = Mark::open(directory.path(), false).unwrap();
        assert_eq!(position, at(2, 20));
        mark.file.write_all_at(&[7; 2 * SLOT_BYTES as usize], 0).unwrap();
        drop(mark);
        let error = Mark::open(directory.path(), false).unwrap_err().to_string();
        assert!(error.contains("neither of its two slots"), "{error}");
    }

    #[test]
    fn one_engine_or_many_readers() {
        let directory = tempfile::tempdir().unwrap();
        let engine = Mark::create(directory.path()).unwrap();
        let error = Mark::open(directory.path(), true).unwrap_err();
        assert!(matches!(error, StoreError::InUse(_)), "{error}");
        drop(engine);
        let _one = Mark::open(directory.path(), true).unwrap();
        let _two = Mark::open(directory.path(), true).unwrap();
        let error = Mark::open(directory.path(), false).unwrap_err().to_string();
        assert!(error.contains("in use by another process"), "{error}");
    }

    #[test]
    fn a_copy_of_the_open_file_does_not_keep_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let engine = Mark::create(directory.path()).unwrap();
        let _copy = engine.file.try_clone().unwrap();
        drop(engine);
        Mark::open(directory.path(), false).expect("nobody has it");
    }
}
