//! Backups: a proven copy of a data directory, made while the engine runs or while it rests.
//!
//! ```text
//! take D ─► checkpoint ─► look where its journal ends (≥ D) ─► mark ─► audit ─► sync, hash ─► publish
//! ```
//!
//! A backup is a data directory of its own, with a file beside that has the hash of every other
//! ([`manifest`]). What is in it is an exact prefix of the journal, with everything that was
//! acknowledged before the backup began. Of what is archived of the journal it has the list of the
//! files and not the files: these never change, and are read where they are when it is audited.
//!
//! Invariants
//! * A directory gets its `mark`, and a backup its manifest, only when all is synced and the audit
//!   was clean: what is half made is neither a backup nor a data directory.
//! * A restore changes nothing in the backup; what it copied is audited, and opened as an engine
//!   would, before it becomes a data directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::audit::{self, Failure, Finding, RANDOM_VERSIONS, audit};
use super::mark::Mark;
use super::rocks::{self, RocksStore};
use super::{CommitLog, Durability, FORMAT, Position, StoreError, VersionStore, recovery};
use crate::directory::Directory;
use crate::faults::point;
use crate::types::BlockNumber;

mod files;
pub mod manifest;

use files::Staging;
use manifest::Manifest;

/// Where a backup is made; what failed its check is left there.
const UNFINISHED: &str = "unfinished";
/// Where a restore is made.
const RESTORING: &str = "restoring";
/// Requests that one fold of a restored version store takes in, at most.
const FOLD_REQUESTS_MAX: usize = 1_000_000;

/// Why there is no backup, or nothing was restored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BackupError {
    /// A directory that was named cannot be used; nothing was written.
    #[error("{} {why}", .path.display())]
    Refused {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it, to be read after its name.
        why: String,
    },
    /// A file of the backup is missing, or is not what was written.
    #[error("{0}; nothing was restored")]
    Damaged(String),
    /// The copy is whole, but what is in it is off.
    #[error("the copy failed its audit: {0}")]
    Audit(Finding),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Failure> for BackupError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Found(finding) => Self::Audit(finding),
            Failure::Store(error) => Self::Store(error),
        }
    }
}

/// A copy that was made, and proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// Where it is.
    pub to: PathBuf,
    /// Where its journal ends.
    pub end: Position,
    /// Bytes of its files. Those that are hard links take no more room.
    pub bytes: u64,
    /// What was checked of it.
    pub audit: audit::Report,
    /// What of its journal it has not got itself.
    pub archived: Option<Archived>,
}

/// The part of a journal that is in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The last block of it.
    pub upto: BlockNumber,
    /// Where it is.
    pub directory: PathBuf,
}

/// A copy that passed its audit.
struct Proven {
    audit: audit::Report,
    archived: Option<Archived>,
}

/// Makes a backup of a database that is in use. `reached`: what was acknowledged before, and so must
/// be in it. Takes its time: it reads the whole journal.
///
/// # Errors
/// [`BackupError::Refused`], [`BackupError::Audit`], and what the disk says. There is no backup then.
pub fn online(
    store: &RocksStore,
    reached: Position,
    to: &Path,
) -> Result<BackupReport, BackupError> {
    let staging = Staging::claim(to, store.data(), UNFINISHED)?;
    back_up(staging, to, reached, |room| store.checkpoint(room))
}

/// Makes a backup of a data directory that no engine has open.
///
/// # Errors
/// As [`online`]; [`StoreError::InUse`] while an engine runs.
pub fn offline(data: &Path, to: &Path) -> Result<BackupReport, BackupError> {
    // Open all the while, so that no engine starts in the middle.
    let opened = rocks::open_read_only(data)?;
    let staging = Staging::claim(to, data, UNFINISHED)?;
    back_up(staging, to, opened.mark, |room| rocks::copy_at_rest(data, room))
}

fn back_up(
    staging: Staging,
    to: &Path,
    reached: Position,
    copy: impl FnOnce(&Path) -> Result<(), StoreError>,
) -> Result<BackupReport, BackupError> {
    point!("backup.copy");
    let made = copy(staging.room())
        .map_err(BackupError::from)
        .and_then(|()| finish(staging.room(), reached));
    match made {
        Ok((manifest, proven)) => {
            point!("backup.publish");
            staging.publish()?;
            point!("backup.published");
            Ok(proven.report(to, &manifest))
        }
        Err(error @ BackupError::Audit(_)) => {
            staging.keep_failed(&error.to_string());
            Err(error)
        }
        Err(error) => {
            staging.discard();
            Err(error)
        }
    }
}

/// Makes a proven backup of a copied database.
fn finish(room: &Path, reached: Position) -> Result<(Manifest, Proven), BackupError> {
    point!("backup.copied");
    put_mark(Mark::create(room)?, reached)?;
    point!("backup.marked");
    let proven = audit_read_only(room, None)?;
    point!("backup.audited");
    let end = proven.audit.end;
    put_mark(Mark::open(room, false)?.0, end)?;
    rocks::remove_traces(room)?;
    files::sync_all(room)?;
    point!("backup.synced");
    let manifest = Manifest { format: FORMAT, end, files: files::describe(room)? };
    point!("backup.described");
    let path = room.join(manifest::FILE);
    let written = File::create_new(&path).and_then(|mut file| {
        file.write_all(manifest.to_text().as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| StoreError::io("write", &path, error))?;
    Ok((manifest, proven))
}

fn put_mark(mut mark: Mark, position: Position) -> Result<(), StoreError> {
    mark.write(position)?;
    mark.sync()
}

fn audit_read_only(data: &Path, archive: Option<&Path>) -> Result<Proven, Failure> {
    let opened = rocks::open_read_only(data)?;
    let store = &*opened.store;
    archive.map_or(Ok(()), |archive| store.use_archive(archive))?;
    let audit = audit(store, store, store, opened.mark, RANDOM_VERSIONS, &mut |_| {})?;
    let archived = store.last_segment().zip(store.archive_directory());
    let archived = archived.map(|(last, directory)| Archived { upto: last.end.block, directory });
    Ok(Proven { audit, archived })
}

/// Makes a data directory of a backup, and proves it: the audit, then opened as an engine would.
/// The backup stays as it is, and shares nothing with the copy. What it has not got of the journal is
/// looked for where it remembers the archive to be.
///
/// # Errors
/// [`BackupError::Refused`] for a directory that is no backup, or a target that is not empty;
/// [`BackupError::Damaged`], [`BackupError::Audit`], and what the disk says. Nothing is restored then.
pub fn restore(from: &Path, data: &Path) -> Result<BackupReport, BackupError> {
    restore_with_archive(from, data, None)
}

/// The same where the archive is in another directory by now, which the copy remembers.
///
/// # Errors
/// As [`restore`].
pub fn restore_with_archive(
    from: &Path,
    data: &Path,
    archive: Option<&Path>,
) -> Result<BackupReport, BackupError> {
    let manifest = read_manifest(from)?;
    let staging = Staging::claim(data, from, RESTORING)?;
    let restored = copy_back(from, &manifest, staging.room(), archive);
    let proven = match restored {
        Ok(proven) => proven,
        Err(error) => {
            staging.discard();
            return Err(error);
        }
    };
    staging.publish()?;
    Ok(proven.report(data, &manifest))
}

impl Proven {
    fn report(self, to: &Path, manifest: &Manifest) -> BackupReport {
        let Self { audit, archived } = self;
        let (end, bytes) = (manifest.end, manifest.bytes());
        BackupReport { to: to.into(), end, bytes, audit, archived }
    }
}

fn read_manifest(from: &Path) -> Result<Manifest, BackupError> {
    let path = from.join(manifest::FILE);
    let refused = |why: &str| BackupError::Refused { path: from.into(), why: why.into() };
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let unfinished = from.join(UNFINISHED).exists();
            return Err(refused(match unfinished {
                true => "has a backup that was not finished or failed its audit; take another",
                false => "is not a backup: it has no file `backup`",
            }));
        }
        Err(error) => return Err(StoreError::io("read", &path, error).into()),
    };
    let Some(manifest) = Manifest::parse(&text) else {
        return Err(BackupError::Damaged(format!("{} is damaged", path.display())));
    };
    match manifest.format {
        FORMAT => Ok(manifest),
        found if found > FORMAT => Err(StoreError::NewerFormat { found, known: FORMAT }.into()),
        found => Err(StoreError::OlderFormat { found }.into()),
    }
}

fn copy_back(
    from: &Path,
    manifest: &Manifest,
    room: &Path,
    archive: Option<&Path>,
) -> Result<Proven, BackupError> {
    for file in &manifest.files {
        files::copy_checked(from, file, room)?;
    }
    files::sync_all(room)?;
    let proven = audit_read_only(room, archive)?;
    rocks::remove_traces(room)?;
    let end = open_as_engine(room, archive)?;
    for found in [proven.audit.end, end] {
        if found != manifest.end {
            let what = format!("it ends at {found}, but was made at {}", manifest.end);
            return Err(BackupError::Damaged(format!("{}: {what}", from.display())));
        }
    }
    files::sync_all(room)?;
    Ok(proven)
}

/// Does what a start does before the first request; returns where the journal ends.
fn open_as_engine(data: &Path, archive: Option<&Path>) -> Result<Position, StoreError> {
    let mut opened = rocks::open(data, Durability::Sync)?;
    let store = &*opened.store;
    archive.map_or(Ok(()), |archive| store.use_archive(archive))?;
    let directory = Directory::new();
    let recovered = recovery::recover(store, store, opened.mark, &directory, FOLD_REQUESTS_MAX)?;
    let mut holds = Vec::new();
    recovery::holds(store, |hold| holds.push(hold))?;
    let orders = store.open_orders()?;
    recovery::balances(store, &recovered, (&holds, &orders, &directory), |_, _, _| {})?;
    opened.log.stop()?;
    Ok(recovered.last)
}
