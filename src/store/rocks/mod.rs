//! RocksDB behind the seam: the data directory, opened with the settings that a journal needs.
//!
//! ```text
//! data/            0700, created when missing
//!   mark           last durable position, format version, and the lock (see `mark`)
//!   manifest       how much there must be of the database's own table of contents (see `manifest`)
//!   db/            RocksDB: journal and blocks (its index); versions, outcomes, records (derived);
//!                  accounts, assets, meta
//!                  (old blocks of the journal may be elsewhere: see `archive`)
//!   ingest/        sorted files on their way into db/; leftovers of a crash are deleted
//! ```
//!
//! Everything that can be refused is refused before RocksDB writes a byte: a directory of
//! something else, one in use, one of another format, one whose database is gone, one with damage
//! where a start reads. So a start reads it all twice, the first time without changing anything.
//! What RocksDB never reads (`OPTIONS-*`, `LOG`, `LOCK`, `IDENTITY`) may be anything, or missing:
//! it is written anew.

mod archived;
mod blocks_cf;
mod checkpoint;
mod framing;
mod history;
mod journal_cf;
mod manifest;
mod options;
mod outcomes_cf;
mod records_cf;
mod retention;
mod scan;
mod stats;
mod torn;
mod versions_cf;
mod writers;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rocksdb::{
    Cache, ColumnFamily, DB, IngestExternalFileOptions, Options, WriteBatch, WriteOptions,
};

pub use checkpoint::{copy_at_rest, remove_traces};
pub use journal_cf::RocksLog;
pub use stats::{Stats, spawn_stats};

use archived::Archived;
use manifest::ManifestNote;
use retention::Horizon;

use super::mark::{self, Mark};
use super::recovery::{Tail, check_applied, check_beginning, check_mark};
use super::start_progress::{Phase, StartProgress};
use super::{Durability, FORMAT, Journal, Position, RESTORE, StoreError, VersionStore, keys};
use crate::faults::point;

/// Where RocksDB lives in the data directory.
const DB_DIRECTORY: &str = "db";
/// What RocksDB reads first.
const CURRENT: &str = "CURRENT";
/// What to do about damage that is met when the database is open already.
const REMEDY: &str = "restore the data directory from a backup";
/// How RocksDB's log files are called.
const LOG_EXTENSION: &str = "log";
/// So far back request ids are looked at before the start: as far as it reads them by default.
const IDS_WINDOW_MS: u64 = 10_000;
/// Where sorted files are written before they are moved in.
const INGEST_DIRECTORY: &str = "ingest";

/// The open database: the reading side of the journal, and the version store.
pub struct RocksStore {
    db: DB,
    ingest: PathBuf,
    /// Numbers the files in `ingest`.
    files: AtomicU64,
    read_only: bool,
    options: FamilyOptions,
    /// What compactions obey.
    horizon: Horizon,
    /// What of the journal is not in here any more.
    archived: Archived,
    /// `None` where it was opened to look at only.
    manifest: Option<ManifestNote>,
    /// Held so that nobody else opens the directory; an engine's is in its [`RocksLog`].
    _shared_lock: Option<Mark>,
}

/// Options that are needed again after opening.
struct FamilyOptions {
    versions: Options,
    outcomes: Options,
    records: Options,
    ingest: IngestExternalFileOptions,
    /// Derived rows are not synced: what a crash takes is folded again.
    unsynced: WriteOptions,
}

/// A data directory opened for an engine.
pub struct Opened {
    /// The writing side of the log.
    pub log: RocksLog,
    /// The reading side, and the version store.
    pub store: Arc<RocksStore>,
    /// How far the journal must reach.
    pub mark: Position,
    /// How often the directory was opened for an engine, this time included.
    pub boot_epoch: u64,
}

/// A data directory opened to look at.
pub struct OpenedReadOnly {
    /// The reading side, and the version store.
    pub store: Arc<RocksStore>,
    /// How far the journal must reach.
    pub mark: Position,
}

/// Opens a data directory for an engine; creates it when it is missing or empty.
///
/// # Errors
/// Every [`StoreError`] but `Violation`; nothing was changed then.
pub fn open(data: &Path, durability: Durability) -> Result<Opened, StoreError> {
    open_watched(data, durability, &StartProgress::default())
}

/// [`open`], which says how far it is.
///
/// # Errors
/// As [`open`]; also when it is asked to stop.
pub fn open_watched(
    data: &Path,
    durability: Durability,
    progress: &StartProgress,
) -> Result<Opened, StoreError> {
    let cache = options::cache();
    let (mark, position) = match state_of(data)? {
        State::Ours => {
            let (mark, position) = Mark::open(data, false)?;
            mend_manifest(data)?;
            check_database(data, position)?;
            check_readable(data, position, &cache, progress)?;
            (mark, position)
        }
        State::Empty => (Mark::create(data)?, Position::default()),
    };
    point!("open.database");
    let store = Arc::new(RocksStore::open(data, &cache)?);
    point!("open.opened");
    store.check_format(position)?;
    store.clear_ingest()?;
    point!("open.cleared");
    // RocksDB syncs what is in its directory, and not that the directory is there.
    mark::sync_directory(data)?;
    point!("open.synced");
    let boot_epoch = store.next_epoch()?;
    point!("open.counted");
    let log = RocksLog::new(Arc::clone(&store), mark, durability)?;
    Ok(Opened { log, store, mark: position, boot_epoch })
}

/// Opens a data directory to look at, changing nothing. Others may look at the same time; an
/// engine may not run.
///
/// # Errors
/// As [`open`]; a directory that does not exist is refused.
pub fn open_read_only(data: &Path) -> Result<OpenedReadOnly, StoreError> {
    let missing = || StoreError::Foreign { path: data.into(), why: "it has no file `mark`".into() };
    if !data.join(mark::FILE).exists() {
        return Err(lost_mark(data).unwrap_or_else(missing));
    }
    let (mark, position) = Mark::open(data, true)?;
    check_database(data, position)?;
    let store = RocksStore::open_read_only(data, &options::cache(), Some(mark))?;
    store.check_format(position)?;
    Ok(OpenedReadOnly { store: Arc::new(store), mark: position })
}

enum State {
    Empty,
    Ours,
}

/// Tells a new directory from one of ours; creates it when it is missing.
fn state_of(data: &Path) -> Result<State, StoreError> {
    if !data.exists() {
        mark::create_directory(data)?;
    }
    let entries = fs::read_dir(data).map_err(|error| StoreError::io("read", data, error))?;
    let mut others = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| StoreError::io("read", data, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == mark::FILE {
            return Ok(State::Ours);
        }
        if name != mark::FILE_NEW && name != "lost+found" {
            others.push(name);
        }
    }
    if others.is_empty() {
        return Ok(State::Empty);
    }
    if let Some(lost) = lost_mark(data) {
        return Err(lost);
    }
    others.sort();
    let why = format!("it has no file `mark`, but `{}`", others.join("`, `"));
    Err(StoreError::Foreign { path: data.into(), why })
}

/// A directory without a mark that is ours nevertheless: only with a mark is a database made.
fn lost_mark(data: &Path) -> Option<StoreError> {
    let database = data.join(DB_DIRECTORY);
    database.join(CURRENT).exists().then(|| {
        let (mark, database) = (data.join(mark::FILE), database.display());
        StoreError::Damaged(format!(
            "{} is missing, but {database} is there; {RESTORE}",
            mark.display()
        ))
    })
}

/// Cuts a change of the manifest off that was torn when the power failed, once it is certain that what
/// was noted of the manifest is there.
fn mend_manifest(data: &Path) -> Result<(), StoreError> {
    let database = data.join(DB_DIRECTORY);
    if !database.join(CURRENT).exists() {
        return Ok(());
    }
    manifest::check(data)?;
    let Some(torn) = torn::find(&database) else { return Ok(()) };
    // It may have been noted half: a start that dies before it notes anew would leave too little.
    manifest::forget(data)?;
    torn.cut()
}

/// Before RocksDB touches its directory: is it there, and are its families those of this build?
fn check_database(data: &Path, mark: Position) -> Result<(), StoreError> {
    let path = data.join(DB_DIRECTORY);
    let empty = mark == Position::default();
    if !path.join(CURRENT).exists() {
        // Without a database yet, the process died between creating the two.
        let current = path.join(CURRENT);
        let gone = format!("{} is missing, but held the journal up to {mark}", current.display());
        return if empty { Ok(()) } else { Err(StoreError::Damaged(format!("{gone}; {RESTORE}"))) };
    }
    framing::check(&path)?;
    manifest::check(data)?;
    let found = options::list(&path).map_err(|error| match error {
        StoreError::Damaged(what) => StoreError::Damaged(format!("{what}; {RESTORE}")),
        other => other,
    })?;
    if let Some(unknown) = found.iter().find(|name| !options::FAMILIES.contains(&name.as_str())) {
        let why = format!("its database has an unknown column family `{unknown}`");
        return Err(StoreError::Foreign { path: data.into(), why });
    }
    let missing = options::FAMILIES.iter().find(|name| !found.iter().any(|found| found == *name));
    match missing {
        Some(missing) if !empty => Err(StoreError::Damaged(format!(
            "{} lacks the column family `{missing}`; {RESTORE}",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Opening for writing settles the log's torn tail for good, and deletes what no longer counts. So
/// all that a start will read is read before, without changing anything.
fn check_readable(
    data: &Path,
    mark: Position,
    cache: &Cache,
    progress: &StartProgress,
) -> Result<(), StoreError> {
    // Whose start died while it made the database left no row, and perhaps not every family.
    if mark == Position::default() || !data.join(DB_DIRECTORY).join(CURRENT).exists() {
        return Ok(());
    }
    read_all(data, mark, cache, progress).map_err(|error| match error {
        StoreError::Damaged(what) => unchanged(data, &what),
        other => other,
    })
}

fn read_all(
    data: &Path,
    mark: Position,
    cache: &Cache,
    progress: &StartProgress,
) -> Result<(), StoreError> {
    let store = RocksStore::open_read_only(data, cache, None)?;
    store.check_format(mark)?;
    check_mark(store.last()?.as_ref(), mark)?;
    check_beginning(&store)?;
    let applied = store.applied()?;
    let end = store.last()?.as_ref().map(Position::after).unwrap_or_default();
    check_applied(applied, end)?;
    progress.enter(Phase::Checking, end.block.get() - applied.all().block.get());
    let mut tail = Tail::open(&store, applied.all().block)?;
    while tail.read_next()?.is_some() {
        progress.block()?;
    }
    store.directory(&mut |_| {})?;
    store.supplies()?;
    store.open_holds(&mut |_| {})?;
    store.open_orders()?;
    store.last_prices()?;
    store.latest(&mut |_, _, _| {})?;
    store.latest_records(&mut |_, _| {})?;
    let time = store.last()?.map_or(0, |block| block.header().time.millis());
    store.ids_since(time.saturating_sub(IDS_WINDOW_MS), &mut |_| {})
}

/// Damage that was found before anything was changed. Says which files hold the end of the journal
/// where no file is named: then it is RocksDB's log that ends too early.
fn unchanged(data: &Path, what: &str) -> StoreError {
    let database = data.join(DB_DIRECTORY);
    let what = what.strip_suffix(RESTORE).or_else(|| what.strip_suffix(REMEDY)).unwrap_or(what);
    let what = what.trim_end_matches("; ");
    if what.contains(&*database.to_string_lossy()) {
        return StoreError::Damaged(format!("{what}; {RESTORE}"));
    }
    let entries = fs::read_dir(&database).into_iter().flatten().flatten();
    let is_log = |path: &PathBuf| path.extension().is_some_and(|it| it == LOG_EXTENSION);
    let mut logs: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_log).collect();
    logs.sort();
    let logs: Vec<String> = logs.iter().map(|path| path.display().to_string()).collect();
    let logs = match logs.is_empty() {
        true => format!("nothing is left of the log in {}", database.display()),
        false => format!("what is left of the log is {}", logs.join(", ")),
    };
    StoreError::Damaged(format!("{what}; {logs}; {RESTORE}"))
}

impl RocksStore {
    fn open(data: &Path, cache: &Cache) -> Result<Self, StoreError> {
        let path = data.join(DB_DIRECTORY);
        let horizon = Horizon::default();
        let families = options::families(cache, &horizon);
        let db = DB::open_cf_descriptors(&options::database(true)?, &path, families)
            .map_err(|error| open_error(data, &error))?;
        let store = Self::new(db, data, cache, horizon, None)?;
        Ok(Self { manifest: Some(ManifestNote::open(data)?), ..store })
    }

    fn open_read_only(data: &Path, cache: &Cache, lock: Option<Mark>) -> Result<Self, StoreError> {
        let path = data.join(DB_DIRECTORY);
        let horizon = Horizon::default();
        let families = options::families(cache, &horizon);
        let options = options::database(false)?;
        let db = DB::open_cf_descriptors_read_only(&options, &path, families, false)
            .map_err(|error| open_error(data, &error))?;
        let store = Self::new(db, data, cache, horizon, lock)?;
        Ok(Self { read_only: true, ..store })
    }

    /// Notes how far the manifest has come.
    ///
    /// # Errors
    /// What the disk says.
    fn note_manifest(&self) -> Result<(), StoreError> {
        self.manifest.as_ref().map_or(Ok(()), ManifestNote::update)
    }

    fn new(
        db: DB,
        data: &Path,
        cache: &Cache,
        horizon: Horizon,
        lock: Option<Mark>,
    ) -> Result<Self, StoreError> {
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        let options = FamilyOptions {
            versions: options::incoming(options::versions(cache)),
            outcomes: options::incoming(options::outcomes(cache)),
            records: options::incoming(options::records(cache)),
            ingest,
            unsynced: WriteOptions::default(),
        };
        let store = Self {
            db,
            ingest: data.join(INGEST_DIRECTORY),
            files: AtomicU64::new(0),
            read_only: false,
            options,
            horizon,
            archived: Archived::default(),
            manifest: None,
            _shared_lock: lock,
        };
        store.load_horizon()?;
        store.load_archived()?;
        Ok(store)
    }

    /// A column family; every one is there from the opening on.
    fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("opened with every family")
    }

    /// Checks the format row of `meta`; writes it into a new database.
    fn check_format(&self, mark: Position) -> Result<(), StoreError> {
        let meta = self.family(keys::META);
        let row = self.db.get_pinned_cf(meta, keys::FORMAT).map_err(io)?;
        match row.as_deref().map(<[u8; 4]>::try_from) {
            Some(Ok(bytes)) => match u32::from_be_bytes(bytes) {
                FORMAT => Ok(()),
                found if found > FORMAT => Err(StoreError::NewerFormat { found, known: FORMAT }),
                found => Err(StoreError::OlderFormat { found }),
            },
            Some(Err(_)) => Err(damaged("its format row has the wrong length".into())),
            None if mark != Position::default() => Err(damaged("its format row is missing".into())),
            None if self.read_only => Ok(()),
            None => {
                self.db.put_cf_opt(meta, keys::FORMAT, FORMAT.to_be_bytes(), &synced()).map_err(io)
            }
        }
    }

    /// Counts this opening.
    fn next_epoch(&self) -> Result<u64, StoreError> {
        let meta = self.family(keys::META);
        let row = self.db.get_pinned_cf(meta, keys::BOOT_EPOCH).map_err(io)?;
        let last = match row.as_deref().map(<[u8; 8]>::try_from) {
            None => 0,
            Some(Ok(bytes)) => u64::from_be_bytes(bytes),
            Some(Err(_)) => return Err(damaged("its boot epoch has the wrong length".into())),
        };
        let mut batch = WriteBatch::default();
        batch.put_cf(meta, keys::BOOT_EPOCH, (last + 1).to_be_bytes());
        self.db.write_opt(batch, &synced()).map_err(io)?;
        Ok(last + 1)
    }

    /// Deletes what a crash left half-written; nothing in there was part of the database.
    fn clear_ingest(&self) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("clear", &self.ingest, error);
        fs::create_dir_all(&self.ingest).map_err(failed)?;
        for entry in fs::read_dir(&self.ingest).map_err(failed)? {
            fs::remove_file(entry.map_err(failed)?.path()).map_err(failed)?;
        }
        Ok(())
    }
}

/// A position as the value of an applied mark.
fn encode_position(position: Position) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&position.block.get().to_be_bytes());
    value[8..].copy_from_slice(&position.seq.get().to_be_bytes());
    value
}

/// The inverse of [`encode_position`].
fn decode_position(value: &[u8]) -> Option<Position> {
    let (block, seq) = value.split_first_chunk::<8>()?;
    let seq: [u8; 8] = seq.try_into().ok()?;
    Some(Position {
        block: crate::types::BlockNumber::new(u64::from_be_bytes(*block)),
        seq: crate::types::CommitSeq::new(u64::from_be_bytes(seq)),
    })
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

fn damaged(what: String) -> StoreError {
    StoreError::Damaged(format!("the database is damaged: {what}; {REMEDY}"))
}

/// What RocksDB says when an operation fails: corruption is damage, all else is the disk's.
fn io(error: rocksdb::Error) -> StoreError {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => damaged(error.to_string()),
        _ => StoreError::Io(format!("RocksDB: {error}")),
    }
}

fn open_error(data: &Path, error: &rocksdb::Error) -> StoreError {
    let text = error.to_string();
    // The lock is held by somebody; that its file cannot be opened says nothing of the kind.
    if text.contains("While lock file") || text.contains("lock hold by current process") {
        return StoreError::InUse(data.into());
    }
    match error.kind() {
        // It takes a table file that cannot be opened for damage to the manifest.
        rocksdb::ErrorKind::Corruption => {
            damaged(text.replace("may be corrupted.", "or a table file may be corrupted"))
        }
        _ => StoreError::Io(format!("cannot open {}: {text}", data.display())),
    }
}
