//! Copies of the database: of one in use, by RocksDB itself; of one at rest, file by file.
//!
//! A checkpoint flushes what is in memory, then takes the files as of one moment: sorted files and
//! closed logs, which nobody writes to any more, by hard links (copies, where the target is on
//! another file system); the manifest and the open log, which grow, as copies up to their length at
//! that moment. Writers are not stopped. So whatever becomes of the database later, or of the copy
//! when it is opened, neither sees anything of the other.
//!
//! *Why that is a prefix*: the journal is written to the log only, and what is folded is written
//! after the journal, into the log or as sorted files. The set of sorted files is taken first, the
//! length of the log then: so the journal in the copy reaches at least as far as anything folded in
//! it, and as far as it did when the checkpoint began. The log may end in half a record, as after a
//! crash.

use std::fs;
use std::path::Path;

use rocksdb::checkpoint::Checkpoint;

use super::{DB_DIRECTORY, RocksStore, io};
use crate::store::StoreError;

/// What RocksDB says to people, by the beginning of its name; and its lock.
const NOT_DATA: [&str; 2] = ["LOG", "LOCK"];

impl RocksStore {
    /// Writes a copy of the database, as of a moment during the call, into a data directory to be.
    /// Takes its time; reads and writes go on.
    ///
    /// # Errors
    /// What the disk says.
    pub fn checkpoint(&self, to: &Path) -> Result<(), StoreError> {
        let checkpoint = Checkpoint::new(&self.db).map_err(io)?;
        checkpoint.create_checkpoint(to.join(DB_DIRECTORY)).map_err(io)
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        self.ingest.parent().expect("it is in the data directory")
    }
}

/// Copies the database of a data directory, in which nobody may write meanwhile, into another to be.
///
/// # Errors
/// What the disk says.
pub fn copy_at_rest(data: &Path, to: &Path) -> Result<(), StoreError> {
    let (from, to) = (data.join(DB_DIRECTORY), to.join(DB_DIRECTORY));
    fs::create_dir(&to).map_err(|error| StoreError::io("create", &to, error))?;
    for_each_file(&from, |name, path| {
        if NOT_DATA.iter().any(|other| name.starts_with(other)) {
            return Ok(());
        }
        let copied = fs::copy(path, to.join(name));
        copied.map(drop).map_err(|error| StoreError::io("copy", path, error))
    })
}

/// Removes what RocksDB leaves where it only looked.
///
/// # Errors
/// What the disk says.
pub fn remove_traces(data: &Path) -> Result<(), StoreError> {
    for_each_file(&data.join(DB_DIRECTORY), |name, path| {
        if !NOT_DATA.iter().any(|other| name.starts_with(other)) {
            return Ok(());
        }
        fs::remove_file(path).map_err(|error| StoreError::io("remove", path, error))
    })
}

fn for_each_file(
    directory: &Path,
    mut file: impl FnMut(&str, &Path) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("read", directory, error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            file(&entry.file_name().to_string_lossy(), &entry.path())?;
        }
    }
    Ok(())
}
