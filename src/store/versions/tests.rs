//! Folds against a plain model, and packs against what they were given.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::pack::{VERSION_BYTES_MAX, encode, encode_word};
use super::*;
use crate::message::Txn;
use crate::store::journal::tests::{build, commit};
use crate::store::journal::{Block, BlockBuilder};
use crate::store::keys;
use crate::types::{Amount, Balance, BalanceKey, CommitSeq};

type Versions = Vec<(CommitSeq, Balance)>;

fn balance() -> impl Strategy<Value = Balance> {
    let number = || {
        let any_length =
            (any::<u128>(), 0..=128_u32).prop_map(|(n, bits)| n.checked_shr(bits).unwrap_or(0));
        prop_oneof![0..300_u128, any_length, Just(u128::MAX)]
    };
    (number(), prop_oneof![3 => Just(0), 1 => number()]).prop_map(|(available, held)| Balance {
        available: Amount::new(available),
        held: Amount::new(held),
    })
}

fn versions() -> impl Strategy<Value = Versions> {
    let distance = prop_oneof![9 => 1..5_u64, 3 => 1..1_u64 << 30, 1 => 1..1_u64 << 58];
    prop::collection::vec((distance, balance()), 1..60).prop_map(|versions| {
        let mut seq = 0;
        let mut next = |distance| {
            seq += distance;
            CommitSeq::new(seq)
        };
        versions.into_iter().map(|(distance, balance)| (next(distance), balance)).collect()
    })
}

proptest! {
    #[test]
    fn packs_hold_what_they_were_given(versions in versions(), at: prop::sample::Index, off in -1..2_i64) {
        let mut writer = PackWriter::new();
        writer.push(CommitSeq::new(77), Balance::default());
        writer.clear();
        for (seq, balance) in &versions {
            writer.push(*seq, *balance);
        }
        let first = writer.first_seq().expect("not empty");
        let read: Versions = PackReader::new(writer.value(), first).collect();
        prop_assert_eq!(&read, &versions);
        prop_assert_eq!(last(writer.value(), first), versions.last().copied());
        let at = CommitSeq::new(versions[at.index(versions.len())].0.get().wrapping_add_signed(off));
        let newest = versions.iter().rfind(|(seq, _)| *seq <= at).copied();
        prop_assert_eq!(newest_at(writer.value(), first, at), newest);
    }

    #[test]
    fn the_quick_way_writes_the_same_bytes(
        a in balance(), b in balance(), seq in 0..1_u64 << 60, distance in 0..1_u64 << 60,
        shift in 0..60_u32,
    ) {
        let (before, after) = ((seq, a), (seq + (distance >> shift), b));
        let mut bytes = [0; VERSION_BYTES_MAX];
        let length = encode(before, after, &mut bytes);
        if let Some((word, word_length)) = encode_word(before, after) {
            prop_assert_eq!(word_length, length);
            prop_assert_eq!(&word.to_le_bytes()[..], &bytes[..16]);
        } else {
            prop_assert!(length > 16 || a.held != b.held || after.0 - before.0 >= 1 << 55);
        }
    }

    #[test]
    fn damaged_packs_end_early_and_say_so(bytes in prop::collection::vec(any::<u8>(), 0..60), first: u64) {
        let mut reader = PackReader::new(&bytes, CommitSeq::new(first));
        let read = reader.by_ref().count();
        prop_assert!(read <= bytes.len());
        let mut cut = PackWriter::new();
        cut.push(CommitSeq::new(1), Balance { available: Amount::new(1 << 40), held: Amount::ZERO });
        let mut reader = PackReader::new(&cut.value()[..3], CommitSeq::new(1));
        prop_assert!(reader.next().is_none());
        prop_assert!(reader.is_damaged());
    }
}

#[test]
fn versions_are_read_in_one_form_only() {
    let damaged = |value: &[u8]| {
        let mut reader = PackReader::new(value, CommitSeq::new(7));
        reader.by_ref().for_each(drop);
        reader.is_damaged()
    };
    // Seq 7 has 1, seq 8 has 0 and holds 1.
    assert!(!damaged(&[0, 2, 3, 1, 2]));
    for (value, why) in [
        (&[2, 2][..], "the first one is of the seq in the key"),
        (&[0, 2, 1, 1, 2], "two of one seq"),
        (&[0, 2, 3, 1, 0], "held did not change"),
        (&[0, 0x82, 0], "a number too long"),
    ] {
        assert!(damaged(value), "{why}");
    }
}

/// What a fold should come to, the plain way.
#[derive(Default)]
struct Model {
    versions: BTreeMap<BalanceKey, Versions>,
}

impl Model {
    fn add(&mut self, block: &Block) {
        for commit in block.commits() {
            for (op, row) in commit.rows() {
                self.versions.entry(op.key).or_default().push((commit.seq, row.after));
            }
        }
    }

    /// Finishes the fold and compares its rows.
    fn check(self, fold: &mut Fold) {
        let mut read: BTreeMap<BalanceKey, Versions> = BTreeMap::new();
        let mut last_key = Vec::new();
        let row = |key: &[u8], value: &[u8]| {
            assert!(last_key[..] < *key, "keys ascend");
            assert!(value.len() <= PACK_BYTES_MAX);
            last_key = key.to_vec();
            let (balance, first) = keys::decode_version(key).expect("a version key");
            let mut row: Versions = PackReader::new(value, first).collect();
            assert_eq!(row[0].0, first);
            // Rows of one balance come newest first.
            let versions = read.entry(balance).or_default();
            row.append(versions);
            *versions = row;
            Ok::<(), ()>(())
        };
        fold.finish(row).expect("never refused");
        assert_eq!(read, self.versions);
        assert!(fold.is_empty() && fold.last_seq().is_none());
    }
}

type Commits = Vec<(Txn, Vec<Balance>)>;

/// The slots that a running engine would name: dense, one a balance.
fn slots(known: &mut HashMap<BalanceKey, u32>, commits: &Commits) -> Vec<u32> {
    let keys = commits.iter().flat_map(|(txn, _)| txn.row_ops().map(|op| op.key));
    let slot = |key| {
        let next = known.len() as u32;
        *known.entry(key).or_insert(next)
    };
    keys.map(slot).collect()
}

proptest! {
    #[test]
    fn folds_agree_with_the_model(
        folds in prop::collection::vec(
            prop::collection::vec((prop::collection::vec(commit(), 0..8), any::<bool>()), 0..5), 1..4,
        ),
    ) {
        let (mut fold, mut builder) = (Fold::new(), BlockBuilder::new());
        let (mut known, mut seq, mut number) = (HashMap::new(), 1, 1);
        for blocks in folds {
            let mut model = Model::default();
            for (commits, live) in blocks {
                let slots = if live { slots(&mut known, &commits) } else { vec![] };
                let block = build(&mut builder, number, seq, &commits, &[], slots);
                fold.add(&block);
                model.add(&block);
                prop_assert_eq!(fold.last_seq(), Some(block.header().last_seq()));
                seq += commits.len() as u64;
                number += 1;
            }
            model.check(&mut fold);
        }
    }

    #[test]
    fn hot_balances_are_split(commits in prop::collection::vec(commit(), 1..6), live: bool) {
        let (mut fold, mut builder) = (Fold::new(), BlockBuilder::new());
        let mut known = HashMap::new();
        let mut model = Model::default();
        for number in 0..800 {
            let slots = if live { slots(&mut known, &commits) } else { vec![] };
            let seq = number * commits.len() as u64 + 1;
            let block = build(&mut builder, number + 1, seq, &commits, &[], slots);
            fold.add(&block);
            model.add(&block);
        }
        model.check(&mut fold);
    }
}

/// Some commit with rows.
fn one() -> (Txn, Vec<Balance>) {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut any = || commit().new_tree(&mut runner).unwrap().current();
    std::iter::repeat_with(&mut any).find(|(_, after)| !after.is_empty()).unwrap()
}

#[test]
fn slots_may_be_far_apart() {
    let (mut fold, mut builder, one) = (Fold::new(), BlockBuilder::new(), one());
    for number in 1..4 {
        let slots = (0..one.1.len() as u32).map(|slot| 1_000_000 - slot * 1_000).collect();
        let block = build(&mut builder, number, number, std::slice::from_ref(&one), &[], slots);
        let mut model = Model::default();
        fold.add(&block);
        model.add(&block);
        model.check(&mut fold);
    }
}

#[test]
fn a_fold_is_empty_after_an_error() {
    let (mut fold, one) = (Fold::new(), one());
    fold.add(&build(&mut BlockBuilder::new(), 1, 1, &[one], &[], vec![]));
    assert!(!fold.is_empty());
    assert_eq!(fold.finish(|_, _| Err("full")), Err("full"));
    Model::default().check(&mut fold);
}
