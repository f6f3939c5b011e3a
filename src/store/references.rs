//! References of deposits as rows of the outcomes family: which one was credited, and when.
//!
//! The value of a row is the deposit's commit_seq: raw 8, little-endian. Rows are never replaced,
//! as a reference is credited once an asset.

use crate::faults::{Bug, planted};
use crate::store::journal::Damage;
use crate::store::keys;
use crate::types::{AssetId, CommitSeq};

/// Takes in references in commit_seq order, and yields their rows in the order of the keys. Keep
/// it for the next fold: its buffer stays.
#[derive(Debug, Default)]
pub struct ReferenceFold {
    credited: Vec<(AssetId, u128, CommitSeq)>,
}

impl ReferenceFold {
    /// A fold that has taken in nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The deposit of that seq has a reference of that hash.
    pub fn add(&mut self, asset: AssetId, reference: u128, seq: CommitSeq) {
        if planted(Bug::DropReference) {
            return;
        }
        self.credited.push((asset, reference, seq));
    }

    /// Whether none was taken in since the last finish.
    pub fn is_empty(&self) -> bool {
        self.credited.is_empty()
    }

    /// Shows each row (key, value), keys ascending. The fold is empty afterwards, also after an error.
    ///
    /// # Errors
    /// The first that `row` returns; no more rows are shown then.
    pub fn finish<E>(
        &mut self,
        mut row: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.credited.sort_unstable();
        // Were there two, the first one stands.
        self.credited.dedup_by_key(|(asset, reference, _)| (*asset, *reference));
        self.credited.drain(..).try_for_each(|(asset, reference, seq)| {
            row(&keys::credited(asset, reference), &seq.get().to_le_bytes())
        })
    }
}

/// The seq in a row's value.
///
/// # Errors
/// The value is none.
pub fn decode(value: &[u8]) -> Result<CommitSeq, Damage> {
    match value.try_into() {
        Ok(bytes) => Ok(CommitSeq::new(u64::from_le_bytes(bytes))),
        Err(_) => Err(Damage::Broken("the row of a reference has the wrong length".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_ascend_and_the_first_of_two_stands() {
        let mut fold = ReferenceFold::new();
        let asset = AssetId::new;
        for (seq, (number, hash)) in (1..).zip([(2, 5), (1, 9), (1, 3), (2, 5), (2, 1)]) {
            fold.add(asset(number), hash, CommitSeq::new(seq));
        }
        let mut rows = Vec::new();
        let finished = fold.finish(|key, value| {
            rows.push((keys::decode_credited(key).unwrap(), decode(value).unwrap().get()));
            Ok::<(), ()>(())
        });
        assert_eq!(finished, Ok(()));
        assert!(fold.is_empty());
        let expected = [(1, 3, 3), (1, 9, 2), (2, 1, 5), (2, 5, 1)];
        assert_eq!(rows, expected.map(|(number, hash, seq)| ((asset(number), hash), seq)));
        decode(&[1, 2]).expect_err("too short");
    }
}
