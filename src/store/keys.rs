//! Every key that is ever stored, and the column families they live in.
//!
//! Integers are big-endian, so that RocksDB's byte order is the order of the numbers; a seq in a
//! version key is inverted, so that the newest version of a balance comes first and one seek to
//! `version(key, at)` lands on the newest version at or below `at`.
//!
//! | family | key | bytes |
//! |---|---|---|
//! | every derived one | applied mark: zeros, sorts before every row | 13 |
//! | `journal` | tag, block number | 1 + 8 |
//! | `versions` | tag, account, asset, `!`first seq in the row | 1 + 8 + 4 + 8 |
//! | `outcomes` | tag, millisecond in the ids, first block of the fold, part | 1 + 6 + 8 + 4 |
//! | `outcomes` | tag, request id that is not version 7 | 1 + 16 |
//! | `assets` | tag, asset | 1 + 4 |
//! | `accounts` | tag, account | 1 + 8 |
//! | `meta` | tag | 1 |
//! | `meta` | tag, asset (its supply) | 1 + 4 |
//!
//! A tag is persisted: it is never renumbered and never used again for something else.

use crate::types::{AccountId, AssetId, BalanceKey, BlockNumber, CommitSeq, RequestId};

/// Column family of the journal blocks: the truth.
pub const JOURNAL: &str = "journal";
/// Column family of the balances' versions; derived.
pub const VERSIONS: &str = "versions";
/// Column family that finds a request's block by its id; derived.
pub const OUTCOMES: &str = "outcomes";
/// Column family of the assets.
pub const ASSETS: &str = "assets";
/// Column family of the accounts with their links.
pub const ACCOUNTS: &str = "accounts";
/// Column family of what there is one of: format version, boot epoch, supplies.
pub const META: &str = "meta";
/// Every column family.
pub const FAMILIES: [&str; 6] = [JOURNAL, VERSIONS, OUTCOMES, ASSETS, ACCOUNTS, META];

/// The first byte of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum KeyKind {
    /// How far a derived family has come. 0, so that it sorts first.
    Applied = 0,
    /// A journal block.
    Journal = 1,
    /// Versions of a balance.
    Version = 2,
    /// Blocks of the version-7 request ids of one millisecond.
    OutcomeV7 = 3,
    /// The block of any other request id.
    OutcomeOther = 4,
    /// An asset.
    Asset = 5,
    /// An account.
    Account = 6,
    /// The format version of the whole directory.
    Format = 7,
    /// How often the directory was opened.
    BootEpoch = 8,
    /// What deposits have brought of an asset and withdrawals have left.
    Supply = 9,
}

/// Length of [`version_prefix`]: what the version family's prefix extractor cuts off.
pub const VERSION_PREFIX_LEN: usize = 13;
/// Length of [`version`].
pub const VERSION_LEN: usize = VERSION_PREFIX_LEN + 8;
/// Length of [`outcome_v7_prefix`].
pub const OUTCOME_V7_PREFIX_LEN: usize = 7;
/// Length of [`outcome_v7`].
pub const OUTCOME_V7_LEN: usize = OUTCOME_V7_PREFIX_LEN + 8 + 4;
/// Length of [`outcome_other`].
pub const OUTCOME_OTHER_LEN: usize = 17;

/// The applied mark of a derived family. As long as a version prefix, so that it has one too.
pub const APPLIED_MARK: [u8; VERSION_PREFIX_LEN] = [KeyKind::Applied as u8; VERSION_PREFIX_LEN];
/// Where `meta` keeps the format version of the directory.
pub const FORMAT: [u8; 1] = [KeyKind::Format as u8];
/// Where `meta` keeps the boot epoch.
pub const BOOT_EPOCH: [u8; 1] = [KeyKind::BootEpoch as u8];

/// A tag, then parts in order.
fn joined<const LEN: usize>(kind: KeyKind, parts: &[&[u8]]) -> [u8; LEN] {
    let mut key = [kind as u8; LEN];
    let mut at = 1;
    for part in parts {
        key[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    debug_assert_eq!(at, LEN);
    key
}

/// What follows the tag, if the key has that tag and length.
fn body<const LEN: usize>(key: &[u8], kind: KeyKind) -> Option<&[u8; LEN]> {
    let (tag, rest) = key.split_first()?;
    if *tag == kind as u8 { rest.try_into().ok() } else { None }
}

/// The `LEN` bytes from `at`.
fn part<const LEN: usize>(bytes: &[u8], at: usize) -> [u8; LEN] {
    bytes[at..at + LEN].try_into().expect("the slice has the length of the array")
}

/// A journal block. Order: by number.
pub fn journal(number: BlockNumber) -> [u8; 9] {
    joined(KeyKind::Journal, &[&number.get().to_be_bytes()])
}

/// The block of a [`journal`] key; `None` for any other key.
pub fn decode_journal(key: &[u8]) -> Option<BlockNumber> {
    body(key, KeyKind::Journal).map(|body| BlockNumber::new(u64::from_be_bytes(*body)))
}

/// What all version keys of a balance begin with.
pub fn version_prefix(key: BalanceKey) -> [u8; VERSION_PREFIX_LEN] {
    let account = key.account.get().to_be_bytes();
    joined(KeyKind::Version, &[&account, &key.asset.get().to_be_bytes()])
}

/// What all version keys of an account begin with.
pub fn version_account_prefix(account: AccountId) -> [u8; 9] {
    joined(KeyKind::Version, &[&account.get().to_be_bytes()])
}

/// Versions of a balance, of which `first_seq` is the first. Order: account, asset, newest first.
pub fn version(key: BalanceKey, first_seq: CommitSeq) -> [u8; VERSION_LEN] {
    let newest_first = (!first_seq.get()).to_be_bytes();
    joined(KeyKind::Version, &[&version_prefix(key)[1..], &newest_first])
}

/// The balance and first seq of a [`version`] key; `None` for any other key.
pub fn decode_version(key: &[u8]) -> Option<(BalanceKey, CommitSeq)> {
    let body: &[u8; VERSION_LEN - 1] = body(key, KeyKind::Version)?;
    let account = AccountId::new(u64::from_be_bytes(part(body, 0)));
    let asset = AssetId::new(u32::from_be_bytes(part(body, 8)));
    let first_seq = CommitSeq::new(!u64::from_be_bytes(part(body, 12)));
    Some((BalanceKey { account, asset }, first_seq))
}

/// What all rows of the version-7 ids of a millisecond begin with.
///
/// `millis` has 48 bits, as in [`RequestId::v7_millis`].
pub fn outcome_v7_prefix(millis: u64) -> [u8; OUTCOME_V7_PREFIX_LEN] {
    debug_assert!(millis >> 48 == 0);
    joined(KeyKind::OutcomeV7, &[&millis.to_be_bytes()[2..]])
}

/// Version-7 ids of a millisecond that one fold brought, or a part of them.
///
/// Order: millisecond, fold, part. `first_block` is the first block of the fold, `part` counts from 0.
pub fn outcome_v7(millis: u64, first_block: BlockNumber, part: u32) -> [u8; OUTCOME_V7_LEN] {
    let millis = outcome_v7_prefix(millis);
    let first_block = first_block.get().to_be_bytes();
    joined(KeyKind::OutcomeV7, &[&millis[1..], &first_block, &part.to_be_bytes()])
}

/// Millisecond, first block and part of an [`outcome_v7`] key; `None` for any other key.
pub fn decode_outcome_v7(key: &[u8]) -> Option<(u64, BlockNumber, u32)> {
    let body: &[u8; OUTCOME_V7_LEN - 1] = body(key, KeyKind::OutcomeV7)?;
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(&body[..6]);
    let first_block = BlockNumber::new(u64::from_be_bytes(part(body, 6)));
    Some((u64::from_be_bytes(millis), first_block, u32::from_be_bytes(part(body, 14))))
}

/// A request id that is not version 7. Order: by id.
pub fn outcome_other(id: RequestId) -> [u8; OUTCOME_OTHER_LEN] {
    joined(KeyKind::OutcomeOther, &[&id.get().to_be_bytes()])
}

/// The id of an [`outcome_other`] key; `None` for any other key.
pub fn decode_outcome_other(key: &[u8]) -> Option<RequestId> {
    body(key, KeyKind::OutcomeOther).map(|body| RequestId::new(u128::from_be_bytes(*body)))
}

/// An asset. Order: by number.
pub fn asset(asset: AssetId) -> [u8; 5] {
    joined(KeyKind::Asset, &[&asset.get().to_be_bytes()])
}

/// The asset of an [`asset`] key; `None` for any other key.
pub fn decode_asset(key: &[u8]) -> Option<AssetId> {
    body(key, KeyKind::Asset).map(|body| AssetId::new(u32::from_be_bytes(*body)))
}

/// An account. Order: by number.
pub fn account(account: AccountId) -> [u8; 9] {
    joined(KeyKind::Account, &[&account.get().to_be_bytes()])
}

/// The account of an [`account`] key; `None` for any other key.
pub fn decode_account(key: &[u8]) -> Option<AccountId> {
    body(key, KeyKind::Account).map(|body| AccountId::new(u64::from_be_bytes(*body)))
}

/// Where `meta` keeps an asset's supply. Order: by asset.
pub fn supply(asset: AssetId) -> [u8; 5] {
    joined(KeyKind::Supply, &[&asset.get().to_be_bytes()])
}

/// The asset of a [`supply`] key; `None` for any other key.
pub fn decode_supply(key: &[u8]) -> Option<AssetId> {
    body(key, KeyKind::Supply).map(|body| AssetId::new(u32::from_be_bytes(*body)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn balance() -> impl Strategy<Value = BalanceKey> {
        (near(), any::<u32>()).prop_map(|(account, asset)| BalanceKey {
            account: AccountId::new(account),
            asset: AssetId::new(asset),
        })
    }

    /// Numbers of every size, and many that are close together.
    fn near() -> impl Strategy<Value = u64> {
        prop_oneof![0..4_u64, 250..260_u64, 65_530..65_540_u64, any::<u64>()]
    }

    proptest! {
        #[test]
        fn keys_come_back(key in balance(), number in near(), id: u128, part: u32) {
            let seq = CommitSeq::new(number);
            let block = BlockNumber::new(number);
            prop_assert_eq!(decode_version(&version(key, seq)), Some((key, seq)));
            prop_assert_eq!(decode_journal(&journal(block)), Some(block));
            prop_assert_eq!(decode_asset(&asset(key.asset)), Some(key.asset));
            prop_assert_eq!(decode_supply(&supply(key.asset)), Some(key.asset));
            prop_assert_eq!(decode_account(&account(key.account)), Some(key.account));
            let id = RequestId::new(id);
            prop_assert_eq!(decode_outcome_other(&outcome_other(id)), Some(id));
            let millis = number >> 16;
            let row = outcome_v7(millis, block, part);
            prop_assert_eq!(decode_outcome_v7(&row), Some((millis, block, part)));
        }

        #[test]
        fn byte_order_is_the_order_of_what_is_meant(
            a in (balance(), near(), any::<u32>()), b in (balance(), near(), any::<u32>()),
        ) {
            let newest_first = |(key, seq, _): (BalanceKey, u64, u32)| (key, std::cmp::Reverse(seq));
            let row = |(key, seq, _): (BalanceKey, u64, u32)| version(key, CommitSeq::new(seq));
            prop_assert_eq!(row(a).cmp(&row(b)), newest_first(a).cmp(&newest_first(b)));
            let block = |(_, number, _): (BalanceKey, u64, u32)| BlockNumber::new(number);
            prop_assert_eq!(journal(block(a)).cmp(&journal(block(b))), a.1.cmp(&b.1));
            let ids = |a: (BalanceKey, u64, u32)| (a.0.account.get() >> 16, block(a), a.2);
            let row = |a| { let (millis, first, part) = ids(a); outcome_v7(millis, first, part) };
            prop_assert_eq!(row(a).cmp(&row(b)), ids(a).cmp(&ids(b)));
        }

        #[test]
        fn other_keys_are_not_taken_for_one(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            let again = [
                decode_version(&bytes).map(|(key, seq)| version(key, seq).to_vec()),
                decode_journal(&bytes).map(|number| journal(number).to_vec()),
                decode_outcome_v7(&bytes).map(|(ms, block, part)| outcome_v7(ms, block, part).to_vec()),
                decode_outcome_other(&bytes).map(|id| outcome_other(id).to_vec()),
                decode_asset(&bytes).map(|id| asset(id).to_vec()),
                decode_account(&bytes).map(|id| account(id).to_vec()),
                decode_supply(&bytes).map(|id| supply(id).to_vec()),
            ];
            prop_assert!(again.iter().flatten().count() <= 1);
            prop_assert!(again.iter().flatten().all(|key| *key == bytes));
        }
    }

    #[test]
    fn rows_stand_under_their_prefix_and_behind_the_mark() {
        let key = BalanceKey { account: AccountId::new(7), asset: AssetId::new(9) };
        let row = version(key, CommitSeq::new(u64::MAX));
        assert!(row.starts_with(&version_prefix(key)));
        assert!(row.starts_with(&version_account_prefix(key.account)));
        assert!(outcome_v7(5, BlockNumber::new(1), 0).starts_with(&outcome_v7_prefix(5)));
        let zero = BalanceKey { account: AccountId::new(0), asset: AssetId::new(0) };
        assert!(APPLIED_MARK[..] < version(zero, CommitSeq::new(u64::MAX))[..]);
        assert!(APPLIED_MARK[..] < outcome_v7(0, BlockNumber::new(0), 0)[..]);
    }

    #[test]
    fn tags_are_pinned() {
        let zero = BlockNumber::new(0);
        assert_eq!(journal(BlockNumber::new(0x0102))[..], [1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(outcome_v7(0, zero, 0)[0], 3);
        assert_eq!(outcome_other(RequestId::new(0))[0], 4);
        assert_eq!(asset(AssetId::new(1)), [5, 0, 0, 0, 1]);
        assert_eq!(account(AccountId::new(1))[0], 6);
        assert_eq!((FORMAT, BOOT_EPOCH), ([7], [8]));
        assert_eq!(supply(AssetId::new(1)), [9, 0, 0, 0, 1]);
    }
}
