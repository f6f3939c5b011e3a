//! Moves old blocks of the journal into the archive, in the background: how long the database keeps
//! them is a setting.
//!
//! ```text
//! write under another name ─► sync ─► rename ─► sync the directory ─► read back, verify
//!      ─► one synced write: remember the segment, remove its blocks from the database ─► delete files
//! ```
//!
//! Dead anywhere before that write, the database has the blocks still, and the next run writes the
//! segment anew, or takes the one that is there if it is the same. Dead after it, the archive has them.
//!
//! A block is moved when it is older than the setting asks for, by logical time. It looks often, and
//! moves once something is older by an eighth more: so a quiet venue has no file for each minute.
//!
//! What fails in the archive stops nothing: it is said, counted, and tried again; the database keeps
//! the blocks meanwhile. What fails in the database stops the engine, as everywhere.
//!
//! Invariants
//! * Blocks are moved in order, without a gap, and only such as the version store has folded, with one
//!   more folded after them: recovery never needs the archive.
//! * Nothing is removed that was not read back from the file that it is in now.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use rustix::fs::FlockOperation;

use super::archive::segment::{self, Head, Segment, SegmentWriter};
use super::durable::Progress;
use super::journal::{Block, BlockHash};
use super::mark::create_directory;
use super::rocks::RocksStore;
use super::{Journal, StoreError};
use crate::actor::{Poison, spawn};
use crate::config::{ARCHIVE_SEGMENT_BLOCKS_MAX, ARCHIVE_SEGMENT_BYTES};
use crate::error::Error;
use crate::faults::point;
use crate::metrics::ArchiveMetrics;
use crate::types::{BlockNumber, Time};

/// How often it looks, at least.
const LOOK_MS: u64 = 60_000;
/// How long it waits after a failure, at least.
const RETRY_MS: u64 = 5_000;
/// It moves blocks once one is older than asked for by this part of that.
const AGE_PARTS: u64 = 8;
const SECOND_MICROS: u64 = 1_000_000;
/// Held while an engine archives there, so that no other does.
const LOCK: &str = "lock";

/// Decides what is old, and moves it.
pub struct Archiver {
    store: Arc<RocksStore>,
    /// `A`.
    applied: Arc<Progress>,
    after_micros: u64,
    lock: Mutex<Option<File>>,
}

/// What is due, and how late it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Due {
    /// The last block that may be moved; 0 for none.
    upto: BlockNumber,
    /// How much older than the setting the oldest block in the database is, in microseconds.
    behind_micros: u64,
}

impl Archiver {
    /// Moves what is older than so many seconds of logical time to where
    /// [`RocksStore::use_archive`] said.
    pub fn new(store: Arc<RocksStore>, applied: Arc<Progress>, after_secs: u64) -> Self {
        let after_micros = after_secs.saturating_mul(SECOND_MICROS);
        Self { store, applied, after_micros, lock: Mutex::new(None) }
    }

    /// Moves the oldest blocks into a segment, if some are old enough. Takes its time.
    ///
    /// # Errors
    /// [`StoreError::Archive`]: nothing was moved, and nothing is lost. Any other is the database's.
    pub fn step(&self) -> Result<Option<Head>, StoreError> {
        let due = self.due()?;
        if due.upto == BlockNumber::default() || due.behind_micros < self.after_micros / AGE_PARTS {
            return Ok(None);
        }
        let directory = self.store.archive_directory().ok_or_else(|| {
            StoreError::Archive("nothing says in which directory the archive is".into())
        })?;
        self.take(&directory)?;
        point!("archive.begin");
        let segment = self.segment(&directory, due.upto)?;
        let head = *segment.head();
        self.check(segment)?;
        point!("archive.verified");
        self.store.remove_archived(&head)?;
        Ok(Some(head))
    }

    /// How far behind it is, in seconds of logical time.
    ///
    /// # Errors
    /// What the store says.
    pub fn behind_secs(&self) -> Result<u64, StoreError> {
        Ok(self.due()?.behind_micros / SECOND_MICROS)
    }

    fn due(&self) -> Result<Due, StoreError> {
        let Some(last) = self.store.last()? else { return Ok(Due::default()) };
        let Some(oldest) = last.header().time.get().checked_sub(self.after_micros) else {
            return Ok(Due::default());
        };
        let aged = self.store.position_at(Time::new(oldest))?.block.get();
        // The block at which a recovery begins stays, and so does the last one.
        let folded = self.applied.block().min(last.header().number).get();
        let upto = BlockNumber::new(aged.min(folded.saturating_sub(1)));
        let first = self.first();
        if upto < first {
            return Ok(Due::default());
        }
        let Some(block) = self.store.block(first)? else {
            return Err(StoreError::block(first, "it is missing"));
        };
        Ok(Due { upto, behind_micros: oldest.saturating_sub(block.header().time.get()) })
    }

    /// The first block that is not archived.
    fn first(&self) -> BlockNumber {
        self.store.last_segment().map_or(BlockNumber::new(1), |last| last.end.block.next())
    }

    /// Sees that the directory is the archive, and takes it for itself.
    fn take(&self, directory: &Path) -> Result<(), StoreError> {
        match self.store.last_segment() {
            // Where it is missing, so is what is below: a file system that is not mounted, perhaps.
            Some(last) => {
                let path = directory.join(last.file_name());
                let found = fs::metadata(&path);
                let found = found.map_err(|error| segment::failed("find", &path, &error))?;
                if found.len() != last.bytes {
                    let path = path.display();
                    let what = format!("{path} of the archive is {} bytes long", found.len());
                    return Err(StoreError::Archive(what));
                }
            }
            None => create_directory(directory)
                .map_err(|error| StoreError::Archive(error.to_string()))?,
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_none() {
            *lock = Some(lock_directory(directory)?);
        }
        Ok(())
    }

    /// The segment that begins with the first block that is not archived: a new one, or what an
    /// earlier run has left.
    fn segment(&self, directory: &Path, upto: BlockNumber) -> Result<Arc<Segment>, StoreError> {
        let first = self.first();
        let path = match find(directory, first)? {
            Some(path) => path,
            None => {
                let head = self.write(directory, first, upto)?;
                directory.join(head.file_name())
            }
        };
        Segment::open(path).map(Arc::new)
    }

    fn write(
        &self,
        directory: &Path,
        first: BlockNumber,
        upto: BlockNumber,
    ) -> Result<Head, StoreError> {
        let mut writer = SegmentWriter::create(directory, first)?;
        for block in self.store.read_from(first) {
            let block = block?;
            if block.header().number > upto {
                break;
            }
            writer.add(&block)?;
            let is_full = writer.unpacked_bytes() >= ARCHIVE_SEGMENT_BYTES
                || writer.blocks() == ARCHIVE_SEGMENT_BLOCKS_MAX;
            if is_full {
                break;
            }
        }
        writer.finish()
    }

    /// Reads the segment back: it must continue the archive, and end as the database has it.
    fn check(&self, segment: Arc<Segment>) -> Result<(), StoreError> {
        let head = *segment.head();
        let path = segment.path().to_owned();
        let other = || {
            let path = path.display();
            StoreError::Archive(format!(
                "{path} is another journal's, or of another past of this one; move it away, or \
                 archive elsewhere"
            ))
        };
        if head.end.block >= self.applied.block() {
            return Err(other());
        }
        let in_database = |number| {
            let block = self.store.block(number)?;
            block.ok_or_else(|| StoreError::block(number, "it is missing"))
        };
        let (begins, ends) = (in_database(head.first)?, in_database(head.end.block)?);
        let before = self.store.last_segment().map_or(BlockHash::GENESIS, |last| last.hash);
        let follows = head.previous == before && begins.header().previous == before;
        if !follows || ends.hash() != head.hash {
            return Err(other());
        }
        segment.verify(|block: &Block| self.store.keep_ends(block))
    }
}

fn lock_directory(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK);
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|error| segment::failed("open", &path, &error))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        if error != rustix::io::Errno::WOULDBLOCK {
            return segment::failed("lock", &path, &error.into());
        }
        let directory = directory.display();
        StoreError::Archive(format!("another engine archives in {directory}; choose another one"))
    })?;
    Ok(file)
}

/// Removes what a death left unfinished, and finds a whole segment that begins with that block.
///
/// # Errors
/// [`StoreError::Archive`] where there are later blocks, which this journal did not put there.
fn find(directory: &Path, first: BlockNumber) -> Result<Option<std::path::PathBuf>, StoreError> {
    let failed = |error| segment::failed("read", directory, &error);
    let mut found = None;
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if segment::is_unfinished(&name) {
            let removed = fs::remove_file(&path);
            removed.map_err(|error| segment::failed("remove", &path, &error))?;
        }
        match segment::parse_name(&name) {
            Some((begins, _)) if begins == first && found.is_none() => found = Some(path),
            Some((_, ends)) if ends >= first => {
                let path = path.display();
                return Err(StoreError::Archive(format!(
                    "{path} has blocks that are not archived yet by what is remembered: it is \
                     another journal's, or of another past of this one; move it away, or archive \
                     elsewhere"
                )));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The thread that keeps looking.
pub struct ArchiverHandle {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl ArchiverHandle {
    /// Ends the thread and waits for it; the segment that it is just writing is finished first.
    pub fn stop(self) {
        drop(self.stop);
        // Its panic was caught and has poisoned the engine.
        let _ = self.thread.join();
    }
}

/// Starts the thread that archives.
///
/// # Errors
/// When the operating system gives no thread.
pub fn start(archiver: Archiver, poison: &Poison) -> Result<ArchiverHandle, Error> {
    let (stop, stopped) = bounded(0);
    let alarm = poison.clone();
    let metrics = ArchiveMetrics::new();
    let thread = spawn("archiver".into(), poison, move || {
        run(&archiver, &stopped, &alarm, &metrics).map_err(|error| error.to_string())
    })?;
    Ok(ArchiverHandle { stop, thread })
}

fn run(
    archiver: &Archiver,
    stopped: &Receiver<()>,
    poison: &Poison,
    metrics: &ArchiveMetrics,
) -> Result<(), StoreError> {
    let look = Duration::from_micros(archiver.after_micros / AGE_PARTS);
    let look = look.min(Duration::from_millis(LOOK_MS));
    let archived = archiver.store.last_segment().map_or(0, |last| last.end.block.get());
    metrics.archived(archived, 0);
    while !poison.is_tripped() {
        let wait = match archiver.step() {
            Ok(Some(head)) => {
                metrics.archived(head.end.block.get(), head.bytes);
                let (first, last) = (head.first.get(), head.end.block.get());
                tracing::info!(first, last, bytes = head.bytes, "archived blocks of the journal");
                // There may be more.
                Duration::ZERO
            }
            Ok(None) => look,
            Err(StoreError::Archive(why)) => {
                metrics.failed();
                tracing::warn!(why, "cannot archive the journal: it stays in the database");
                look.max(Duration::from_millis(RETRY_MS))
            }
            Err(error) => return Err(error),
        };
        metrics.behind_secs(archiver.behind_secs()?);
        crossbeam::channel::select! {
            recv(stopped) -> _ => return Ok(()),
            recv(poison.listener()) -> _ => return Ok(()),
            default(wait) => {}
        }
    }
    Ok(())
}
