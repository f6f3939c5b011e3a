//! Files on their way into a directory that becomes valid at once, or not at all.
//!
//! ```text
//! target/unfinished/…     everything is written, synced and checked here
//! target/db, target/…     then moved up, the file `mark` last: only that makes a data directory of it
//! ```
//!
//! The room is inside the target, as what is beside it may be another file system.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use super::BackupError;
use super::manifest::Entry;
use crate::faults::point;
use crate::store::StoreError;
use crate::store::mark::{self, create_directory, sync_directory};

/// Read, hashed and written at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// A directory to be, and the room in it where it is made.
pub struct Staging {
    target: PathBuf,
    room: PathBuf,
}

impl Staging {
    /// Takes an empty or missing directory, which must be outside of `foreign`. `name`: what the
    /// room in it is called.
    ///
    /// # Errors
    /// [`BackupError::Refused`] when it is not empty, or inside; what the disk says.
    pub fn claim(target: &Path, foreign: &Path, name: &str) -> Result<Self, BackupError> {
        let refused = |why: String| BackupError::Refused { path: target.into(), why };
        if is_inside(target, foreign)? {
            return Err(refused(format!("is inside {}; choose another place", foreign.display())));
        }
        create_directory(target)?;
        let mut entries = read_dir(target)?;
        entries.retain(|entry| entry.file_name() != Some(OsStr::new("lost+found")));
        if let Some(entry) = entries.iter().min() {
            let found = entry.file_name().unwrap_or_default().display();
            let why = format!("is not empty: it has `{found}`; choose an empty or a new directory");
            return Err(refused(why));
        }
        let room = target.join(name);
        // Of two that come at once, one fails here.
        create(&room)?;
        Ok(Self { target: target.into(), room })
    }

    /// Where to write.
    pub fn room(&self) -> &Path {
        &self.room
    }

    /// Moves everything to its place, and so makes it valid. It must be synced already.
    ///
    /// # Errors
    /// What the disk says; the target is not valid then.
    pub fn publish(self) -> Result<(), StoreError> {
        let mut entries = read_dir(&self.room)?;
        // `false` sorts before `true`.
        entries.sort_by_key(|entry| entry.file_name() == Some(OsStr::new(mark::FILE)));
        for entry in entries {
            // What was moved before is where it belongs before the mark follows.
            sync_directory(&self.target)?;
            let place = self.target.join(entry.file_name().unwrap_or_default());
            fs::rename(&entry, &place).map_err(|error| StoreError::io("move", &entry, error))?;
            point!("backup.moved");
        }
        let failed = |error| StoreError::io("remove", &self.room, error);
        fs::remove_dir(&self.room).map_err(failed)?;
        sync_directory(&self.target)
    }

    /// Removes what was written so far.
    pub fn discard(self) {
        // What cannot be removed is not valid either.
        let _ = fs::remove_dir_all(&self.room);
    }

    /// Leaves what was written for somebody to look at, with a file that says why it is no good.
    pub fn keep_failed(self, why: &str) {
        // Without that file it is no more valid.
        let _ = fs::write(self.room.join("FAILED"), format!("{why}\n"));
    }
}

/// Whether a path, existing or not, is a directory or leads into it.
fn is_inside(path: &Path, directory: &Path) -> Result<bool, BackupError> {
    let failed = |path: &Path, error| StoreError::io("find", path, error);
    let Ok(directory) = directory.canonicalize() else { return Ok(false) };
    let path = std::path::absolute(path).map_err(|error| failed(path, error))?;
    if path.components().any(|part| part == Component::ParentDir) {
        let why = "has `..` in it; give the path without".into();
        return Err(BackupError::Refused { path, why });
    }
    let existing = path.ancestors().find(|part| part.exists()).unwrap_or(Path::new("/"));
    let existing = existing.canonicalize().map_err(|error| failed(existing, error))?;
    Ok(existing.starts_with(directory))
}

fn create(path: &Path) -> Result<(), StoreError> {
    let created = DirBuilder::new().mode(0o700).create(path);
    created.map_err(|error| StoreError::io("create", path, error))
}

/// What is in a directory, as paths.
pub fn read_dir(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
    entries.map_err(|error| StoreError::io("read", path, error))
}

/// Syncs every file below a directory and every directory.
///
/// # Errors
/// What the disk says.
pub fn sync_all(root: &Path) -> Result<(), StoreError> {
    let (files, directories) = walk(root)?;
    for path in files {
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(|error| StoreError::io("sync", &path, error))?;
    }
    directories.iter().try_for_each(|path| sync_directory(path))
}

/// Describes every file below a directory, by path.
///
/// # Errors
/// What the disk says.
pub fn describe(root: &Path) -> Result<Vec<Entry>, StoreError> {
    let (files, _) = walk(root)?;
    let describe = |path: PathBuf| {
        let piped = File::open(&path).and_then(|mut file| pipe(&mut file, &mut io::sink()));
        let (bytes, hash) = piped.map_err(|error| StoreError::io("read", &path, error))?;
        let inside = path.strip_prefix(root).expect("found below it");
        Ok(Entry { path: inside.to_string_lossy().into_owned(), bytes, hash })
    };
    files.into_iter().map(describe).collect()
}

/// The files below a directory, sorted, and the directories, itself included.
fn walk(root: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), StoreError> {
    let (mut files, mut directories) = (Vec::new(), vec![root.to_path_buf()]);
    let mut next = 0;
    while let Some(directory) = directories.get(next) {
        let (deeper, found): (Vec<_>, Vec<_>) =
            read_dir(directory)?.into_iter().partition(|path| path.is_dir());
        files.extend(found);
        directories.extend(deeper);
        next += 1;
    }
    files.sort();
    Ok((files, directories))
}

/// Copies a file to a path below `to` whose directory it creates; synced, but for the directories.
///
/// # Errors
/// [`BackupError::Damaged`] when it is missing or another than described; what the disk says.
pub fn copy_checked(from: &Path, entry: &Entry, to: &Path) -> Result<(), BackupError> {
    let (source, copy) = (from.join(&entry.path), to.join(&entry.path));
    let damaged = |how: &str| BackupError::Damaged(format!("{} {how}", source.display()));
    let mut file = match File::open(&source) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged("is missing"));
        }
        opened => opened.map_err(|error| StoreError::io("open", &source, error))?,
    };
    let failed = |error| StoreError::io("write", &copy, error);
    fs::create_dir_all(copy.parent().unwrap_or(to)).map_err(failed)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut written = options.open(&copy).map_err(failed)?;
    let (bytes, hash) = pipe(&mut file, &mut written).map_err(|error| {
        StoreError::Io(format!("cannot copy {} to {}: {error}", source.display(), copy.display()))
    })?;
    if (bytes, hash) != (entry.bytes, entry.hash) {
        return Err(damaged("is not what was backed up"));
    }
    written.sync_all().map_err(failed)?;
    Ok(())
}

/// Moves all bytes; returns how many, and their hash.
fn pipe(from: &mut impl Read, to: &mut impl Write) -> io::Result<(u64, blake3::Hash)> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok((bytes, hasher.finalize())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        hasher.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_place_outside_is_taken() {
        let scratch = tempfile::tempdir().unwrap();
        let data = scratch.path().join("data");
        fs::create_dir(&data).unwrap();
        let refused = |target: &Path| match Staging::claim(target, &data, "room") {
            Err(BackupError::Refused { why, .. }) => why,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{} was taken", target.display()),
        };
        assert!(refused(&data).contains("is inside"));
        assert!(refused(&data.join("a/b")).contains("is inside"));
        assert!(refused(&scratch.path().join("x/../data/y")).contains(".."));
        std::os::unix::fs::symlink(&data, scratch.path().join("link")).unwrap();
        assert!(refused(&scratch.path().join("link/y")).contains("is inside"));
        assert_eq!(read_dir(&data).unwrap(), Vec::<PathBuf>::new());

        let target = scratch.path().join("a/b");
        let staging = Staging::claim(&target, &data, "room").unwrap();
        assert!(refused(&target).contains("is not empty: it has `room`"));
        staging.discard();
        Staging::claim(&target, &data, "room").unwrap();
    }

    #[test]
    fn the_mark_is_moved_last() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("to");
        let staging = Staging::claim(&target, Path::new("/nowhere"), "room").unwrap();
        fs::create_dir(staging.room().join("db")).unwrap();
        for file in ["mark", "db/one", "zeta"] {
            fs::write(staging.room().join(file), file).unwrap();
        }
        sync_all(staging.room()).unwrap();
        let files = describe(staging.room()).unwrap();
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["db/one", "mark", "zeta"]);
        assert_eq!(files[1].hash, blake3::hash(b"mark"));
        staging.publish().unwrap();
        let mut found = read_dir(&target).unwrap();
        found.sort();
        assert_eq!(found, ["db", "mark", "zeta"].map(|name| target.join(name)));
    }

    #[test]
    fn a_file_that_is_not_what_it_was_is_not_copied() {
        let scratch = tempfile::tempdir().unwrap();
        let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
        fs::create_dir_all(from.join("db")).unwrap();
        fs::write(from.join("db/one"), "one").unwrap();
        let entry = describe(&from).unwrap().remove(0);
        copy_checked(&from, &entry, &to).unwrap();
        assert_eq!(fs::read(to.join("db/one")).unwrap(), b"one");
        fs::remove_dir_all(&to).unwrap();
        fs::write(from.join("db/one"), "onf").unwrap();
        let error = copy_checked(&from, &entry, &to).unwrap_err();
        assert!(error.to_string().contains("is not what was backed up"), "{error}");
        fs::remove_file(from.join("db/one")).unwrap();
        let error = copy_checked(&from, &entry, &to).unwrap_err();
        assert!(error.to_string().contains("is missing"), "{error}");
    }
}
