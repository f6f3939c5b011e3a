//! The archive: old blocks of the journal, in files of their own, outside of the database.
//!
//! ```text
//! archive/  journal-…1-…900.segment   journal-…901-…1420.segment │ database: block 1421 …
//!           ───────────── one chain of hashes ──────────────────►│───────────────────────►
//! ```
//!
//! The database remembers of each segment what is in it ([`Head`]): so it knows where its own part
//! begins, and what the block before that was; a file that is missing, or another one under the same
//! name, is noticed when it is opened. What answers quickly stays in the database: which block has a
//! seq, an outcome, the end of a hold or an order.
//!
//! Whoever asks the journal for a block is given it from wherever it is (`rocks::archived`). What
//! cannot be read in the archive is told to who asked ([`StoreError::Archive`]), and stops nobody else.
//!
//! Invariants
//! * A block is in the database, or in a segment that was read back whole after it was synced; while
//!   it is being moved, in both.
//! * Files are never changed, and never removed, but those that a death left unfinished.

pub mod segment;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use self::segment::{Head, Segment};
use super::StoreError;
use crate::config::ARCHIVE_SEGMENTS_OPEN_MAX;

/// The reading side. Shared by any thread; reads the disk, so not for a tokio worker.
#[derive(Debug, Default)]
pub struct Archive {
    directory: RwLock<Option<PathBuf>>,
    /// Least recently used first.
    opened: Mutex<VecDeque<Arc<Segment>>>,
}

impl Archive {
    /// Where the segments are; `None` if nothing was ever archived.
    pub fn directory(&self) -> Option<PathBuf> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The segments are there from now on.
    pub fn move_to(&self, directory: &Path) {
        *self.directory.write().unwrap_or_else(PoisonError::into_inner) = Some(directory.into());
        self.opened().clear();
    }

    /// Where a segment is, or would be.
    ///
    /// # Errors
    /// [`StoreError::Archive`]: nobody said where the archive is.
    pub fn path(&self, head: &Head) -> Result<PathBuf, StoreError> {
        let directory = self.directory().ok_or_else(|| {
            let (first, last) = (head.first, head.end.block);
            StoreError::Archive(format!(
                "blocks {first} to {last} are in an archive, but nothing says where that is"
            ))
        })?;
        Ok(directory.join(head.file_name()))
    }

    /// The segment that is remembered so.
    ///
    /// # Errors
    /// [`StoreError::Archive`] with its path: missing, damaged, or another one.
    pub fn segment(&self, head: &Head) -> Result<Arc<Segment>, StoreError> {
        if let Some(segment) = self.take_opened(head) {
            return Ok(segment);
        }
        let segment = Segment::open(self.path(head)?)?;
        if segment.head() != head {
            let path = segment.path().display();
            return Err(StoreError::Archive(format!(
                "{path} of the archive is not the file that was written; put a copy of it in its place"
            )));
        }
        let segment = Arc::new(segment);
        let mut opened = self.opened();
        if opened.len() == ARCHIVE_SEGMENTS_OPEN_MAX {
            opened.pop_front();
        }
        opened.push_back(Arc::clone(&segment));
        Ok(segment)
    }

    /// Opens that segment anew when it is asked for again: it was found to be damaged.
    pub fn forget(&self, head: &Head) {
        self.opened().retain(|segment| segment.head() != head);
    }

    fn take_opened(&self, head: &Head) -> Option<Arc<Segment>> {
        let mut opened = self.opened();
        let place = opened.iter().position(|segment| segment.head() == head)?;
        let segment = opened.remove(place)?;
        opened.push_back(Arc::clone(&segment));
        Some(segment)
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Segment>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
