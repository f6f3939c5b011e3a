//! How much of RocksDB's manifest there must be, and what its bytes add up to.
//!
//! The manifest says which files the database is made of. It is read like a log: at a record that
//! is longer than the file it ends, as a crash may have torn the last one. So where a length is
//! damaged or the end is cut off, RocksDB opens an earlier database without a word, takes the files
//! that this does not know for leftovers, and deletes them. Hence a second opinion, beside it:
//!
//! ```text
//! data/manifest   magic, number, bytes, crc32c of so many bytes, crc32c of all before
//! db/CURRENT      which manifest is in use
//! db/MANIFEST-n   what is in there
//! ```
//!
//! * It is looked at before RocksDB sees anything: what was noted must still be there. More may be.
//! * It is noted when the database was opened, before a fold is built on a file that was moved in,
//!   a few times a second, and at the stop; each time after the manifest was synced so far, so that
//!   even after a power loss no more is asked for than there can be.
//! * Without it, or when it cannot be read, nothing is refused: the database is as good as it was.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::DB_DIRECTORY;
use crate::store::mark::sync_directory;
use crate::store::{RESTORE, StoreError};

/// Name of the note in the data directory.
pub(super) const FILE: &str = "manifest";
const CURRENT: &str = "CURRENT";
const PREFIX: &str = "MANIFEST-";
const MAGIC: [u8; 8] = *b"XLATMANI";
/// magic, number, bytes, crc32c of the manifest, crc32c of all before.
const ENTRY_BYTES: usize = 8 + 8 + 8 + 4 + 4;

/// What is known of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Noted {
    number: u64,
    bytes: u64,
    crc: u32,
}

/// The note of an open database.
pub(super) struct ManifestNote {
    note: File,
    path: PathBuf,
    db: PathBuf,
    following: Mutex<Following>,
}

/// The manifest in use, as far as it was read.
struct Following {
    manifest: File,
    noted: Noted,
}

/// Refuses a manifest that is not what was noted of it.
///
/// # Errors
/// [`StoreError::Damaged`] naming the file.
pub(super) fn check(data: &Path) -> Result<(), StoreError> {
    let db = data.join(DB_DIRECTORY);
    let number = current(&db)?;
    let path = manifest(&db, number);
    let bytes = fs::read(&path).map_err(|error| {
        damaged(&db.join(CURRENT), format!("it names {}, of which: {error}", path.display()))
    })?;
    let Some(noted) = read(&data.join(FILE)) else { return Ok(()) };
    if number < noted.number {
        let newer = format!("it names {PREFIX}{number:06}, but {:06} was in use", noted.number);
        return Err(damaged(&db.join(CURRENT), newer));
    }
    // A later one begins with all that the one before came to.
    if number > noted.number {
        return Ok(());
    }
    let length = usize::try_from(noted.bytes).unwrap_or(usize::MAX);
    match bytes.get(..length) {
        None => {
            let cut = format!("it has {} bytes, but had {}", bytes.len(), noted.bytes);
            Err(damaged(&path, cut))
        }
        Some(before) if crc32c::crc32c(before) != noted.crc => {
            Err(damaged(&path, format!("its first {} bytes are not what was written", noted.bytes)))
        }
        Some(_) => Ok(()),
    }
}

/// Forgets what was noted.
///
/// # Errors
/// What the disk says.
pub(super) fn forget(data: &Path) -> Result<(), StoreError> {
    let path = data.join(FILE);
    match fs::remove_file(&path) {
        Ok(()) => sync_directory(data),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StoreError::io("remove", &path, error)),
    }
}

impl ManifestNote {
    /// Begins to follow the manifest of a database that was just opened, and notes it.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn open(data: &Path) -> Result<Self, StoreError> {
        let (path, db) = (data.join(FILE), data.join(DB_DIRECTORY));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let note = options.open(&path).map_err(|error| StoreError::io("open", &path, error))?;
        let following = Mutex::new(Following::begin(&db)?);
        let note = Self { note, path, db, following };
        note.update()?;
        Ok(note)
    }

    /// Notes what the manifest has become. Takes a microsecond where it has not changed.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn update(&self) -> Result<(), StoreError> {
        let mut following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        let before = following.noted;
        if following.is_gone(&self.db)? {
            *following = Following::begin(&self.db)?;
        }
        following.read_on(&self.db)?;
        if following.noted == before && before.bytes > 0 {
            return Ok(());
        }
        self.note
            .write_all_at(&encode(following.noted), 0)
            .map_err(|error| StoreError::io("write", &self.path, error))
    }
}

impl Following {
    fn begin(db: &Path) -> Result<Self, StoreError> {
        let number = current(db)?;
        let path = manifest(db, number);
        let manifest = File::open(&path).map_err(|error| StoreError::io("open", &path, error))?;
        Ok(Self { manifest, noted: Noted { number, bytes: 0, crc: 0 } })
    }

    /// Whether RocksDB has begun a new manifest and deleted this one.
    fn is_gone(&self, db: &Path) -> Result<bool, StoreError> {
        Ok(self.metadata(db)?.nlink() == 0)
    }

    fn metadata(&self, db: &Path) -> Result<fs::Metadata, StoreError> {
        let path = || manifest(db, self.noted.number);
        self.manifest.metadata().map_err(|error| StoreError::io("look at", &path(), error))
    }

    /// Reads and syncs what was added.
    fn read_on(&mut self, db: &Path) -> Result<(), StoreError> {
        let length = self.metadata(db)?.len();
        if length <= self.noted.bytes {
            return Ok(());
        }
        let path = manifest(db, self.noted.number);
        let added = usize::try_from(length - self.noted.bytes).expect("a manifest fits memory");
        let mut bytes = vec![0; added];
        self.manifest
            .read_exact_at(&mut bytes, self.noted.bytes)
            .map_err(|error| StoreError::io("read", &path, error))?;
        self.manifest.sync_data().map_err(|error| StoreError::io("sync", &path, error))?;
        self.noted.crc = crc32c::crc32c_append(self.noted.crc, &bytes);
        self.noted.bytes = length;
        Ok(())
    }
}

/// The number of the manifest that is in use.
fn current(db: &Path) -> Result<u64, StoreError> {
    let path = db.join(CURRENT);
    let text = fs::read(&path).map_err(|error| damaged(&path, error))?;
    let named = std::str::from_utf8(&text).ok().and_then(|text| {
        text.strip_suffix('\n')?
            .strip_prefix(PREFIX)
            .filter(|number| number.len() >= 6)?
            .parse()
            .ok()
    });
    named.ok_or_else(|| damaged(&path, "it names no manifest"))
}

fn manifest(db: &Path, number: u64) -> PathBuf {
    db.join(format!("{PREFIX}{number:06}"))
}

fn damaged(path: &Path, what: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("{} is damaged: {what}; {RESTORE}", path.display()))
}

fn encode(noted: Noted) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..8].copy_from_slice(&MAGIC);
    entry[8..16].copy_from_slice(&noted.number.to_be_bytes());
    entry[16..24].copy_from_slice(&noted.bytes.to_be_bytes());
    entry[24..28].copy_from_slice(&noted.crc.to_be_bytes());
    let crc = crc32c::crc32c(&entry[..28]);
    entry[28..].copy_from_slice(&crc.to_be_bytes());
    entry
}

/// What was noted; `None` where that cannot be told.
fn read(path: &Path) -> Option<Noted> {
    let mut entry = [0; ENTRY_BYTES];
    File::open(path).ok()?.read_exact_at(&mut entry, 0).ok()?;
    let (body, crc) = entry.split_last_chunk()?;
    if !body.starts_with(&MAGIC) || crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    let number = |at: usize| Some(u64::from_be_bytes(*body.get(at..)?.first_chunk()?));
    let crc = u32::from_be_bytes(*body.get(24..)?.first_chunk()?);
    Some(Noted { number: number(8)?, bytes: number(16)?, crc })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data directory with a manifest of that number and content.
    fn with_manifest(number: u64, content: &[u8]) -> tempfile::TempDir {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join(DB_DIRECTORY)).unwrap();
        put(data.path(), number, content);
        data
    }

    fn put(data: &Path, number: u64, content: &[u8]) {
        let db = data.join(DB_DIRECTORY);
        fs::write(manifest(&db, number), content).unwrap();
        fs::write(db.join(CURRENT), format!("MANIFEST-{number:06}\n")).unwrap();
    }

    fn refused(data: &Path) -> String {
        let refused = check(data).unwrap_err().to_string();
        assert!(refused.contains(RESTORE), "{refused}");
        refused
    }

    #[test]
    fn what_was_noted_must_be_there_and_more_may_be() {
        let data = with_manifest(7, b"first");
        let path = manifest(&data.path().join(DB_DIRECTORY), 7);
        assert_eq!(check(data.path()), Ok(()), "nothing is noted yet");
        let note = ManifestNote::open(data.path()).unwrap();
        assert_eq!(check(data.path()), Ok(()));
        fs::write(&path, b"firs").unwrap();
        assert!(refused(data.path()).contains("MANIFEST-000007 is damaged: it has 4 bytes"));
        fs::write(&path, b"fOrst and more").unwrap();
        assert!(refused(data.path()).contains("its first 5 bytes"));
        fs::write(&path, b"first and more").unwrap();
        assert_eq!(check(data.path()), Ok(()));
        note.update().unwrap();
        fs::write(&path, b"first and").unwrap();
        assert!(refused(data.path()).contains("it has 9 bytes, but had 14"));
    }

    #[test]
    fn the_next_manifest_is_followed_and_none_before_it_is_taken() {
        let data = with_manifest(7, b"first");
        let note = ManifestNote::open(data.path()).unwrap();
        put(data.path(), 12, b"second");
        assert_eq!(check(data.path()), Ok(()), "begun, not yet noted");
        fs::remove_file(manifest(&data.path().join(DB_DIRECTORY), 7)).unwrap();
        note.update().unwrap();
        put(data.path(), 12, b"secOnd");
        assert!(refused(data.path()).contains("MANIFEST-000012"));
        put(data.path(), 7, b"first");
        assert!(refused(data.path()).contains("it names MANIFEST-000007, but 000012 was in use"));
        fs::write(data.path().join("db/CURRENT"), "MANIFEST-00000\n").unwrap();
        assert!(refused(data.path()).contains("CURRENT is damaged: it names no manifest"));
    }

    #[test]
    fn a_damaged_note_refuses_nothing() {
        let data = with_manifest(7, b"first");
        drop(ManifestNote::open(data.path()).unwrap());
        put(data.path(), 7, b"other");
        assert!(check(data.path()).is_err());
        let mut note = fs::read(data.path().join(FILE)).unwrap();
        note[20] ^= 1;
        fs::write(data.path().join(FILE), note).unwrap();
        assert_eq!(check(data.path()), Ok(()));
    }
}
