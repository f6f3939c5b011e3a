//! Where the database's part of the journal begins, and how what is before it is found.
//!
//! | family | key | value |
//! |---|---|---|
//! | `meta` | last block of a segment | what the segment has ([`Head`]) |
//! | `meta` | | the archive's directory, absolute |
//! | `blocks` | token of a hold whose end is archived | seq, way (1 to 3), whether a withdrawal's |
//!
//! A segment's row and the removal of its blocks are one synced write: a block is looked for in the
//! database first, and who misses it there finds the row.
//!
//! The ends of holds are kept as the coordinator asks for them: it must wait for no archive, and fail
//! with none.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rocksdb::{DBRawIterator, ErrorKind, WriteBatch};

use super::{RocksStore, damaged, io, synced};
use crate::coordinator::ids::Resolved;
use crate::coordinator::payers_of;
use crate::faults::point;
use crate::request::Purpose;
use crate::store::archive::Archive;
use crate::store::archive::segment::{Head, SegmentBlocks};
use crate::store::journal::{Block, Event};
use crate::store::keys::{self, KeyKind};
use crate::store::{Beginning, StoreError};
use crate::types::{AccountId, BlockNumber, CommitSeq, Resolution, Token};

/// The archive as the database knows it.
#[derive(Default)]
pub(super) struct Archived {
    files: Archive,
    /// The last segment. Raised before its blocks are removed.
    last: RwLock<Option<Head>>,
}

impl Archived {
    fn last(&self) -> Option<Head> {
        *self.last.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn raise(&self, head: Head) {
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(head);
    }
}

/// What is archived, and where.
impl RocksStore {
    /// The last segment of the archive; `None` while nothing was archived.
    pub fn last_segment(&self) -> Option<Head> {
        self.archived.last()
    }

    /// Where the archive is; `None` if there never was one.
    pub fn archive_directory(&self) -> Option<PathBuf> {
        self.archived.files.directory()
    }

    /// Finds the archive in that directory from now on, and remembers so, unless the database was
    /// opened to look at only. What was archived must be there.
    ///
    /// # Errors
    /// [`StoreError::Archive`] when the last segment is not there, though it is another directory
    /// than the one that is remembered; what the disk says.
    pub fn use_archive(&self, directory: &Path) -> Result<(), StoreError> {
        use std::os::unix::ffi::OsStrExt;

        let directory = std::path::absolute(directory)
            .map_err(|error| StoreError::io("find", directory, error))?;
        let before = self.archive_directory();
        if before.as_ref() == Some(&directory) {
            return Ok(());
        }
        self.archived.files.move_to(&directory);
        if let Some(last) = self.last_segment() {
            self.archived.files.segment(&last).map_err(|error| {
                if let Some(before) = &before {
                    self.archived.files.move_to(before);
                }
                let (last, was) = (last.end.block, before.clone().unwrap_or_default());
                let (to, was) = (directory.display(), was.display());
                StoreError::Archive(format!(
                    "{to} is not the archive, which has the journal up to block {last} and was in \
                     {was}: {error}"
                ))
            })?;
        }
        if self.read_only {
            return Ok(());
        }
        let (meta, path) = (self.family(keys::META), directory.as_os_str().as_bytes());
        self.db.put_cf_opt(meta, keys::ARCHIVE_DIRECTORY, path, &synced()).map_err(io)
    }

    /// Reads what was archived before.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or what the disk says.
    pub(super) fn load_archived(&self) -> Result<(), StoreError> {
        use std::os::unix::ffi::OsStrExt;

        let meta = self.family(keys::META);
        if let Some(path) = self.db.get_pinned_cf(meta, keys::ARCHIVE_DIRECTORY).map_err(io)? {
            self.archived.files.move_to(Path::new(std::ffi::OsStr::from_bytes(&path)));
        }
        let mut rows = self.scan(keys::META);
        rows.seek_for_prev(keys::segment(BlockNumber::new(u64::MAX)));
        if let Some(head) = head_of(&rows)? {
            self.archived.raise(head);
        }
        Ok(())
    }

    /// The segment that has a block; `None` if none has.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or what the disk says.
    pub fn segment_of(&self, number: BlockNumber) -> Result<Option<Head>, StoreError> {
        let mut rows = self.scan(keys::META);
        rows.seek(keys::segment(number));
        Ok(head_of(&rows)?.filter(|head| head.first <= number))
    }

    /// Where the part begins that is not in the archive; `None` while nothing was archived.
    pub(super) fn archive_ends(&self) -> Option<Beginning> {
        self.last_segment().map(|last| Beginning { after: last.end, hash: last.hash })
    }
}

/// Reading what is archived.
impl RocksStore {
    /// A block that the database has not: from the archive; `None` if that has not got it either.
    ///
    /// # Errors
    /// [`StoreError::Archive`] with the file; [`StoreError::Damaged`] or what the disk says.
    pub(super) fn archived_block(&self, number: BlockNumber) -> Result<Option<Block>, StoreError> {
        if self.last_segment().is_none_or(|last| number > last.end.block) {
            return Ok(None);
        }
        let Some(head) = self.segment_of(number)? else { return Ok(None) };
        let block = self.archived.files.segment(&head)?.block(number);
        if block.is_err() {
            self.archived.files.forget(&head);
        }
        block.map(Some)
    }

    /// The archived blocks from a number up to the last before `end`.
    pub(super) fn archived_blocks(
        &self,
        from: BlockNumber,
        end: BlockNumber,
    ) -> ArchivedBlocks<'_> {
        ArchivedBlocks { store: self, next: from, end, segment: None }
    }

    /// See [`crate::store::Journal::archived_end`].
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or what the disk says.
    pub(super) fn archived_end_of(&self, token: Token) -> Result<Option<Resolved>, StoreError> {
        let row = self.db.get_pinned_cf(self.family(keys::BLOCKS), keys::archived_end(token));
        let Some(row) = row.map_err(io)? else { return Ok(None) };
        decode_end(&row)
            .map(Some)
            .ok_or_else(|| damaged(format!("the end of hold {token} cannot be read")))
    }
}

/// Blocks of the archive in order, one segment open at a time.
pub(super) struct ArchivedBlocks<'a> {
    store: &'a RocksStore,
    next: BlockNumber,
    end: BlockNumber,
    segment: Option<SegmentBlocks>,
}

impl ArchivedBlocks<'_> {
    fn read_next(&mut self) -> Result<Option<Block>, StoreError> {
        while self.next < self.end {
            if let Some(block) = self.segment.as_mut().and_then(Iterator::next) {
                let block = block?;
                self.next = block.header().number.next();
                return Ok(Some(block));
            }
            let Some(head) = self.store.segment_of(self.next)? else { return Ok(None) };
            let segment: Arc<_> = self.store.archived.files.segment(&head)?;
            self.segment = Some(segment.blocks_from(self.next));
        }
        Ok(None)
    }
}

impl Iterator for ArchivedBlocks<'_> {
    type Item = Result<Block, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let block = self.read_next().transpose();
        if matches!(block, Some(Err(_))) {
            self.end = self.next;
        }
        block
    }
}

/// Moving blocks out.
impl RocksStore {
    /// Keeps how holds ended whose end is in that block. Durable with the next synced write.
    ///
    /// # Errors
    /// What the disk says.
    pub(in crate::store) fn keep_ends(&self, block: &Block) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        let family = self.family(keys::BLOCKS);
        block.visit_events(|seq, event| {
            let Event::Resolved(token, how) = event else { return };
            let hold = block.commit_at(seq);
            let hold = hold.as_ref().and_then(|commit| commit.txn.hold());
            let hold = hold.expect("what ends a hold has it");
            let is_withdrawal = matches!(hold.purpose, Purpose::Withdrawal(_));
            let end = Resolved { how, seq, is_withdrawal, payers: payers_of(hold) };
            batch.put_cf(family, keys::archived_end(token), encode_end(&end));
        });
        if batch.is_empty() {
            return Ok(());
        }
        self.db.write_opt(batch, &self.options.unsynced).map_err(io)
    }

    /// Removes the blocks of a segment, which is whole in the archive, and remembers it.
    ///
    /// # Errors
    /// What the disk says.
    pub(in crate::store) fn remove_archived(&self, head: &Head) -> Result<(), StoreError> {
        let (meta, journal) = (self.family(keys::META), self.family(keys::JOURNAL));
        // Who does not find a block is told at once where to look.
        self.archived.raise(*head);
        let behind = keys::journal(head.end.block.next());
        let mut batch = WriteBatch::default();
        batch.put_cf(meta, keys::segment(head.end.block), head.encode());
        batch.delete_range_cf(journal, keys::journal(head.first), behind);
        self.db.write_opt(batch, &synced()).map_err(io)?;
        point!("archive.removed");
        // Out of the log: were its end lost, the files that are deleted next would be asked for.
        for family in [meta, journal] {
            match self.db.flush_cf(family) {
                // The engine stops. The next run deletes them.
                Err(error) if error.kind() == ErrorKind::ShutdownInProgress => return Ok(()),
                flushed => flushed.map_err(io)?,
            }
        }
        point!("archive.flushed");
        // Whole files are deleted at once, the last block included; what shares a file with later
        // blocks goes as it is merged.
        let (first, last) = (keys::journal(BlockNumber::default()), keys::journal(head.end.block));
        self.db.delete_file_in_range_cf(journal, &first[..], &last[..]).map_err(io)?;
        self.note_manifest()?;
        point!("archive.dropped");
        Ok(())
    }
}

fn head_of(rows: &DBRawIterator<'_>) -> Result<Option<Head>, StoreError> {
    let Some((key, value)) = rows.item() else {
        return rows.status().map(|()| None).map_err(io);
    };
    if key.first() != Some(&(KeyKind::Segment as u8)) {
        return Ok(None);
    }
    let head = Head::decode(value).filter(|head| *key == keys::segment(head.end.block));
    head.map(Some).ok_or_else(|| damaged(format!("the segment under {key:02x?} cannot be")))
}

const fn code(how: Resolution) -> u8 {
    match how {
        Resolution::Committed => 1,
        Resolution::RolledBack => 2,
        Resolution::Expired => 3,
    }
}

/// The seq, how, whose kind of hold, and its payers, 8 bytes each.
fn encode_end(end: &Resolved) -> Vec<u8> {
    let mut row = Vec::with_capacity(10 + 8 * end.payers.len());
    row.extend(end.seq.get().to_be_bytes());
    row.extend([code(end.how), end.is_withdrawal.into()]);
    row.extend(end.payers.iter().flat_map(|payer| payer.get().to_be_bytes()));
    row
}

fn decode_end(row: &[u8]) -> Option<Resolved> {
    let (seq, rest) = row.split_first_chunk::<8>()?;
    let (&[how, is_withdrawal @ 0..=1], rest) = rest.split_first_chunk::<2>()? else { return None };
    let how = Resolution::ALL.into_iter().find(|known| code(*known) == how)?;
    let seq = CommitSeq::new(u64::from_be_bytes(*seq));
    let (payers, []) = rest.as_chunks::<8>() else { return None };
    let payers = payers.iter().map(|payer| AccountId::new(u64::from_be_bytes(*payer))).collect();
    Some(Resolved { how, seq, is_withdrawal: is_withdrawal == 1, payers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_hold_ended_comes_back() {
        for (how, payers) in Resolution::ALL.into_iter().zip([&[][..], &[7], &[u64::MAX, 0]]) {
            let payers = payers.iter().copied().map(AccountId::new).collect();
            let end = Resolved { how, seq: CommitSeq::new(9), is_withdrawal: true, payers };
            let row = encode_end(&end);
            assert_eq!(decode_end(&row).as_ref(), Some(&end));
            assert_eq!(decode_end(&row[..9]), None);
            assert_eq!(decode_end(&[&row[..], &[1]].concat()), None, "half a payer");
        }
    }
}
