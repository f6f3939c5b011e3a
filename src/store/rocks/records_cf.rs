//! The records family in RocksDB: values under callers' keys, as of any seq.

use rocksdb::ReadOptions;

use super::{RocksStore, damaged, io};
use crate::store::keys::{self, KeyKind};
use crate::store::records::{self, Row};
use crate::store::{RecordVersion, StoreError};
use crate::types::{CommitSeq, Key};

/// Versions of one key that a scan steps over before it seeks to the next key: a step is cheap, a
/// seek is not.
const STEPS_BEFORE_SEEK: u32 = 8;

impl RocksStore {
    /// The newest version of a key at or below a seq.
    pub(super) fn record_as_of(
        &self,
        key: &Key,
        seq: CommitSeq,
    ) -> Result<Option<RecordVersion>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_prefix_same_as_start(true);
        let mut rows = self.db.raw_iterator_cf_opt(self.family(keys::RECORDS), options);
        let mut from = Vec::new();
        keys::record(key, seq, &mut from);
        rows.seek(&from);
        let Some((row, value)) = rows.item() else {
            return rows.status().map(|()| None).map_err(io);
        };
        match keys::decode_record(row) {
            Some((found, seq)) if found == key.bytes() => {
                let value = records::decode(value)
                    .map_err(|damage| damaged(format!("key {key}, seq {seq}: {damage}")))?;
                Ok(Some(RecordVersion { seq, value: value.map(Into::into) }))
            }
            _ => Ok(None),
        }
    }

    /// Shows every key with its newest version.
    pub(super) fn newest_records(
        &self,
        record: &mut dyn FnMut(Key, CommitSeq),
    ) -> Result<(), StoreError> {
        let mut rows = self.scan(keys::RECORDS);
        let mut last = Vec::new();
        let mut steps = 0;
        rows.seek([KeyKind::Record as u8]);
        while let Some(row) = rows.key() {
            let (key, seq) = keys::decode_record(row)
                .ok_or_else(|| damaged(format!("family records has the key {row:02x?}")))?;
            let prefix = &row[..row.len() - size_of::<u64>()];
            if last != prefix {
                record(Key::new(key), seq);
                last.clear();
                last.extend_from_slice(prefix);
                steps = 0;
            }
            steps += 1;
            if steps == STEPS_BEFORE_SEEK {
                // Seq 0 never wrote anything, so this is behind all versions of the key.
                let mut behind = Vec::new();
                keys::record(&Key::new(key), CommitSeq::default(), &mut behind);
                rows.seek(behind);
            } else {
                rows.next();
            }
        }
        rows.status().map_err(io)
    }

    /// Shows every version of every key.
    pub(super) fn every_record(
        &self,
        mut record: impl FnMut(Key, CommitSeq, Option<&[u8]>),
    ) -> Result<(), StoreError> {
        let kind = KeyKind::Record;
        self.rows_of_kind(keys::RECORDS, kind, &[kind as u8], |row, value| {
            let Row { key, seq, value } = records::decode_row(row, value)
                .map_err(|damage| damaged(format!("family records: {damage}")))?;
            record(key, seq, value);
            Ok(())
        })
    }
}
