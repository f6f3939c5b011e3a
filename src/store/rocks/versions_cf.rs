//! The version store in RocksDB: packed version rows, and where each request's outcome is.
//!
//! A bulk fold is written as one sorted file beside the database and moved in, applied mark and
//! all: no memtable, no log, no copy. A small one goes through the memtable, or a quiet engine
//! would leave thousands of tiny files.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use rocksdb::{DBRawIterator, ReadOptions, SstFileWriter, WriteBatch};

use super::{RocksStore, damaged, decode_position, encode_position, io};
use crate::message::BalanceNow;
use crate::store::keys::{self, KeyKind};
use crate::store::{Applied, Family, FamilyWriter, Position, StoreError, VersionStore};
use crate::store::{outcomes, versions};
use crate::types::{AccountId, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, RequestId};

/// Sorted runs of a family at which folds wait for compaction: well below the number at
/// which RocksDB would stop every writer, the journal's included.
const RUNS_MAX: u64 = 64;
/// Rows of one balance that a scan steps over before it seeks to the next balance: a step is
/// cheap, a seek is not.
const STEPS_BEFORE_SEEK: u32 = 8;

impl Family {
    const fn name(self) -> &'static str {
        match self {
            Self::Versions => keys::VERSIONS,
            Self::Outcomes => keys::OUTCOMES,
        }
    }
}

impl VersionStore for RocksStore {
    fn get_at(
        &self,
        key: BalanceKey,
        seq: CommitSeq,
    ) -> Result<Option<(CommitSeq, Balance)>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_prefix_same_as_start(true);
        let mut rows = self.db.raw_iterator_cf_opt(self.family(keys::VERSIONS), options);
        rows.seek(keys::version(key, seq));
        let Some((row, value)) = rows.item() else {
            return rows.status().map(|()| None).map_err(io);
        };
        match keys::decode_version(row) {
            Some((found, first_seq)) if found == key => newest_at(key, value, first_seq, seq),
            _ => Ok(None),
        }
    }

    fn account_at(
        &self,
        account: AccountId,
        seq: CommitSeq,
    ) -> Result<Vec<BalanceNow>, StoreError> {
        let mut balances = Vec::new();
        let mut rows = self.scan(keys::VERSIONS);
        rows.seek(keys::version_account_prefix(account));
        while let Some((key, first_seq)) = rows.key().and_then(keys::decode_version) {
            if key.account != account {
                break;
            }
            if first_seq > seq {
                // Newer than asked for: the row that may have it, or the next asset, is further on.
                rows.seek(keys::version(key, seq));
                continue;
            }
            let value = rows.value().expect("a row that has a key has a value");
            if let Some((version, balance)) = newest_at(key, value, first_seq, seq)? {
                balances.push(BalanceNow { asset: key.asset, balance, version });
            }
            let Some(next) = key.asset.get().checked_add(1).map(AssetId::new) else { break };
            rows.seek(keys::version_prefix(BalanceKey { account, asset: next }));
        }
        rows.status().map_err(io)?;
        Ok(balances)
    }

    fn block_of(&self, id: RequestId) -> Result<Option<BlockNumber>, StoreError> {
        let Some(millis) = id.v7_millis() else { return self.block_of_other(id) };
        let mut options = ReadOptions::default();
        options.set_prefix_same_as_start(true);
        let mut rows = self.db.raw_iterator_cf_opt(self.family(keys::OUTCOMES), options);
        let prefix = keys::outcome_v7_prefix(millis);
        rows.seek(prefix);
        while let Some((key, value)) = rows.item() {
            if !key.starts_with(&prefix) {
                break;
            }
            let found = outcomes::find(key, value, id);
            if let Some(block) = found.map_err(|damage| damaged(format!("id {id}: {damage}")))? {
                return Ok(Some(block));
            }
            rows.next();
        }
        rows.status().map(|()| None).map_err(io)
    }

    fn latest(
        &self,
        balance: &mut dyn FnMut(BalanceKey, Balance, CommitSeq),
    ) -> Result<(), StoreError> {
        let mut rows = self.scan(keys::VERSIONS);
        let mut last = None;
        let mut steps = 0;
        rows.seek([KeyKind::Version as u8]);
        while let Some((row, value)) = rows.item() {
            let (key, first_seq) = keys::decode_version(row)
                .ok_or_else(|| damaged(format!("family versions has the key {row:02x?}")))?;
            if last == Some(key) {
                steps += 1;
                match after(key).filter(|_| steps == STEPS_BEFORE_SEEK) {
                    Some(next) => rows.seek(keys::version_prefix(next)),
                    None => rows.next(),
                }
                continue;
            }
            let (seq, newest) = versions::last(value, first_seq).ok_or_else(|| bad_row(key))?;
            balance(key, newest, seq);
            (last, steps) = (Some(key), 0);
            rows.next();
        }
        rows.status().map_err(io)
    }

    fn ids_since(&self, millis: u64, id: &mut dyn FnMut(RequestId)) -> Result<(), StoreError> {
        let mut rows = self.scan(keys::OUTCOMES);
        rows.seek(keys::outcome_v7_prefix(millis.min((1 << 48) - 1)));
        while let Some((key, value)) = rows.item() {
            if key.first() != Some(&(KeyKind::OutcomeV7 as u8)) {
                break;
            }
            outcomes::visit_row(key, value, |found, _| id(found))
                .map_err(|damage| damaged(format!("request ids {key:02x?}: {damage}")))?;
            rows.next();
        }
        rows.status().map_err(io)
    }

    fn applied(&self) -> Result<Applied, StoreError> {
        let of = |family: Family| {
            let row = self.db.get_pinned_cf(self.family(family.name()), keys::APPLIED_MARK);
            match row.map_err(io)?.as_deref() {
                None => Ok(Position::default()),
                Some(value) => decode_position(value).ok_or_else(|| {
                    damaged(format!("the applied mark of {} is cut short", family.name()))
                }),
            }
        };
        Ok(Applied { versions: of(Family::Versions)?, outcomes: of(Family::Outcomes)? })
    }

    fn is_behind(&self) -> Result<bool, StoreError> {
        for family in [keys::VERSIONS, keys::OUTCOMES] {
            let name = rocksdb::properties::num_files_at_level(0);
            let runs = self.db.property_value_cf(self.family(family), &name).map_err(io)?;
            let runs = runs.and_then(|runs| runs.trim().parse::<u64>().ok());
            if runs.is_some_and(|runs| runs >= RUNS_MAX) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn fold(
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

impl RocksStore {
    /// An iterator over a whole family, across prefixes.
    pub(super) fn scan(&self, family: &str) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        self.db.raw_iterator_cf_opt(self.family(family), options)
    }

    fn block_of_other(&self, id: RequestId) -> Result<Option<BlockNumber>, StoreError> {
        let key = keys::outcome_other(id);
        let row = self.db.get_pinned_cf(self.family(keys::OUTCOMES), key).map_err(io)?;
        let mut block = None;
        if let Some(value) = row {
            outcomes::visit_row(&key, &value, |_, found| block = Some(found))
                .map_err(|damage| damaged(format!("id {id}: {damage}")))?;
        }
        Ok(block)
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
        };
        let file = SstFileWriter::create(options);
        file.open(&path).map_err(io)?;
        Ok(Self { store, family, file, path })
    }
}

impl FamilyWriter for BulkWriter<'_> {
    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.file.put(key, value).map_err(io)
    }

    fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        self.file.finish().map_err(io)?;
        let family = self.store.family(self.family.name());
        let ingest = &self.store.options.ingest;
        self.store.db.ingest_external_file_cf_opts(family, ingest, vec![&self.path]).map_err(io)
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

    fn commit(self: Box<Self>) -> Result<(), StoreError> {
        self.store.db.write_opt(self.batch, &self.store.options.unsynced).map_err(io)
    }
}

fn newest_at(
    key: BalanceKey,
    value: &[u8],
    first_seq: CommitSeq,
    at: CommitSeq,
) -> Result<Option<(CommitSeq, Balance)>, StoreError> {
    // The row begins at or before `at`, so it has an answer.
    versions::newest_at(value, first_seq, at).map(Some).ok_or_else(|| bad_row(key))
}

fn bad_row(key: BalanceKey) -> StoreError {
    damaged(format!("the versions of asset {} of account {}", key.asset, key.account))
}

/// The balance that sorts next, if there is one.
fn after(key: BalanceKey) -> Option<BalanceKey> {
    match key.asset.get().checked_add(1) {
        Some(asset) => Some(BalanceKey { account: key.account, asset: AssetId::new(asset) }),
        None => {
            let account = AccountId::new(key.account.get().checked_add(1)?);
            Some(BalanceKey { account, asset: AssetId::new(0) })
        }
    }
}
