//! Values under callers' keys as rows of the records family: every version of each.
//!
//! One row a version, under `keys::record`: versions of a key stand together, newest first, so
//! one seek to (key, seq) lands on the newest version at or below the seq. A value's first byte
//! says whether there is one: 0 for deleted (a tombstone keeps the key's version), 1 and then the
//! bytes for one that is there.

use std::cmp::Reverse;

use crate::request::Write;
use crate::store::journal::Damage;
use crate::store::keys;
use crate::types::{CommitSeq, Key};

/// Codes of the first byte. Persisted: never renumbered, never used again.
const DELETED: u8 = 0;
const VALUE: u8 = 1;

/// What a version takes in memory beside its bytes.
const VERSION_OVERHEAD_BYTES: usize = 96;

/// Takes in writes in commit_seq order, and yields their rows in the order of the keys. Keep it for
/// the next fold: its buffers stay.
#[derive(Debug, Default)]
pub struct RecordFold {
    versions: Vec<(CommitSeq, Write)>,
    bytes: usize,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl RecordFold {
    /// A fold that has taken in nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The commit of that seq wrote something.
    pub fn add(&mut self, seq: CommitSeq, write: Write) {
        let value = write.value.as_ref().map_or(0, |value| value.len());
        self.bytes += write.key.bytes().len() + value + VERSION_OVERHEAD_BYTES;
        self.versions.push((seq, write));
    }

    /// Whether nothing was taken in since the last finish.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Shows each row (key, value), keys ascending. The fold is empty afterwards, also after an error.
    ///
    /// # Errors
    /// The first that `row` returns; no more rows are shown then.
    pub fn finish<E>(
        &mut self,
        mut row: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        // As the rows' keys compare.
        self.versions.sort_unstable_by(|(seq_a, a), (seq_b, b)| {
            let [a, b] = [a, b].map(|write| write.key.bytes());
            (a.len(), a, Reverse(seq_a)).cmp(&(b.len(), b, Reverse(seq_b)))
        });
        self.bytes = 0;
        let (key, value) = (&mut self.key, &mut self.value);
        self.versions.drain(..).try_for_each(|(seq, write)| {
            keys::record(&write.key, seq, key);
            value.clear();
            value.push(if write.value.is_some() { VALUE } else { DELETED });
            value.extend_from_slice(write.value.as_deref().unwrap_or_default());
            row(key, value)
        })
    }
}

/// The bytes in a row's value; `None` if the version deleted them.
///
/// # Errors
/// The value is none.
pub fn decode(value: &[u8]) -> Result<Option<&[u8]>, Damage> {
    match value.split_first() {
        Some((&VALUE, bytes)) => Ok(Some(bytes)),
        Some((&DELETED, [])) => Ok(None),
        _ => Err(Damage::Broken("the row of a caller's value does not begin as one does".into())),
    }
}

/// One row of the records family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The caller's key.
    pub key: Key,
    /// The commit_seq that wrote or deleted it.
    pub seq: CommitSeq,
    /// The value; `None` if it was deleted.
    pub value: Option<&'a [u8]>,
}

/// The row under that key.
///
/// # Errors
/// The row is not one of the records family, or damaged.
pub fn decode_row<'a>(row: &[u8], value: &'a [u8]) -> Result<Row<'a>, Damage> {
    let (key, seq) = keys::decode_record(row)
        .ok_or_else(|| Damage::Broken(format!("family records has the key {row:02x?}")))?;
    Ok(Row { key: Key::new(key), seq, value: decode(value)? })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// Key and value.
    type Written = (Vec<u8>, Option<Vec<u8>>);

    fn writes() -> impl Strategy<Value = Vec<Written>> {
        let key = prop::collection::vec(0..3_u8, 1..4);
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..5));
        prop::collection::vec((key, value), 0..40)
    }

    proptest! {
        #[test]
        fn rows_ascend_and_are_what_was_written(folds in prop::collection::vec(writes(), 1..4)) {
            let (mut fold, mut seq) = (RecordFold::new(), 0);
            let (mut model, mut found) = (BTreeMap::new(), BTreeMap::new());
            for writes in folds {
                for (key, value) in writes {
                    seq += 1;
                    let key = Key::new(key);
                    model.insert((key.clone(), seq), value.clone());
                    fold.add(CommitSeq::new(seq), Write { key, value: value.map(Arc::from) });
                }
                let mut last = Vec::new();
                let finished = fold.finish(|row, value| {
                    assert!(last[..] < *row, "keys ascend");
                    last = row.to_vec();
                    let Row { key, seq, value } = decode_row(row, value).expect("intact");
                    found.insert((key, seq.get()), value.map(<[u8]>::to_vec));
                    Ok::<(), ()>(())
                });
                prop_assert_eq!(finished, Ok(()));
                prop_assert!(fold.is_empty() && fold.bytes() == 0);
            }
            prop_assert_eq!(found, model);
        }
    }

    #[test]
    fn what_is_neither_deleted_nor_a_value_is_damaged() {
        assert_eq!(decode(&[1]), Ok(Some(&[][..])));
        assert_eq!(decode(&[0]), Ok(None));
        for value in [&[][..], &[0, 1], &[2]] {
            decode(value).expect_err("no value");
        }
        decode_row(&keys::APPLIED_MARK, &[1]).expect_err("no record");
    }
}
