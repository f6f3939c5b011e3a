//! How a fold is written: applied mark and rows at once, as a file of its own or in one small write.
//!
//! A bulk fold is written as one sorted file beside the database and moved in, applied mark and
//! all: no memtable, no log, no copy. A small one goes through the memtable, or a quiet engine
//! would leave thousands of tiny files.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use rocksdb::{SstFileWriter, WriteBatch};

use super::{RocksStore, encode_position, io};
use crate::faults::point;
use crate::store::{Family, FamilyWriter, Position, StoreError, keys};

impl Family {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Versions, Self::Outcomes, Self::Records];

    /// Its column family.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Versions => keys::VERSIONS,
            Self::Outcomes => keys::OUTCOMES,
            Self::Records => keys::RECORDS,
        }
    }
}

impl RocksStore {
    /// See [`crate::store::VersionStore::fold`].
    pub(super) fn begin_fold(
        &self,
        family: Family,
        to: Position,
        bulk: bool,
    ) -> Result<Box<dyn FamilyWriter + '_>, StoreError> {
        if self.read_only {
            return Err(StoreError::Io("the data directory was opened to look at only".into()));
        }
        let mut writer: Box<dyn FamilyWriter + '_> = if bulk {
            Box::new(BulkWriter::open(self, family)?)
        } else {
            Box::new(SmallWriter { store: self, family, batch: WriteBatch::default() })
        };
        // The mark sorts before every row.
        writer.row(&keys::APPLIED_MARK, &encode_position(to))?;
        Ok(writer)
    }
}

/// One sorted file, written beside the database and moved in.
struct BulkWriter<'a> {
    store: &'a RocksStore,
    family: Family,
    file: SstFileWriter<'a>,
    path: PathBuf,
}

impl<'a> BulkWriter<'a> {
    fn open(store: &'a RocksStore, family: Family) -> Result<Self, StoreError> {
        let number = store.files.fetch_add(1, Ordering::Relaxed);
        let path = store.ingest.join(format!("{}-{number}.sst", family.name()));
        let options = match family {
            Family::Versions => &store.options.versions,
            Family::Outcomes => &store.options.outcomes,
            Family::Records => &store.options.records,
        };
        point!("fold.bulk-open");
        let file = SstFileWriter::create(options);
        file.open(&path).map_err(io)?;
        Ok(Self { store, family, file, path })
    }
}

impl FamilyWriter for BulkWriter<'_> {
    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.file.put(key, value).map_err(io)
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.file.delete(key).map_err(io)
    }

    fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        point!("fold.bulk-finish");
        self.file.finish().map_err(io)?;
        point!("fold.bulk-ingest");
        let family = self.store.family(self.family.name());
        let ingest = &self.store.options.ingest;
        self.store.db.ingest_external_file_cf_opts(family, ingest, vec![&self.path]).map_err(io)?;
        // Before a later fold goes to the log: without this file it would leave a gap.
        self.store.note_manifest()
    }
}

/// One atomic write through the memtable.
struct SmallWriter<'a> {
    store: &'a RocksStore,
    family: Family,
    batch: WriteBatch,
}

impl FamilyWriter for SmallWriter<'_> {
    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.batch.put_cf(self.store.family(self.family.name()), key, value);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.batch.delete_cf(self.store.family(self.family.name()), key);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), StoreError> {
        point!("fold.small-write");
        self.store.db.write_opt(self.batch, &self.store.options.unsynced).map_err(io)
    }
}
