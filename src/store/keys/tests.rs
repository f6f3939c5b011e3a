//! Keys are pinned byte by byte, sort as what they mean does, and are read back as they were written.

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

fn caller_key() -> impl Strategy<Value = Key> {
    // Few letters, so that keys are prefixes of one another.
    prop::collection::vec(prop_oneof![0..3_u8, 254..=255_u8], 1..6).prop_map(Key::new)
}

fn row_of(key: &Key, seq: u64) -> Vec<u8> {
    let mut row = vec![7];
    record(key, CommitSeq::new(seq), &mut row);
    row
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
        prop_assert_eq!(decode_credited(&credited(key.asset, id)), Some((key.asset, id)));
        prop_assert_eq!(decode_block_of_seq(&block_of_seq(seq)), Some(seq));
        let time = Time::new(key.account.get());
        prop_assert_eq!(decode_position_at(&position_at(time, block)), Some((time, block)));
        let id = RequestId::new(id);
        prop_assert_eq!(decode_hold(&hold(Token::of(id))), Some(Token::of(id)));
        let account = key.account;
        prop_assert_eq!(decode_placed_by(&placed_by(account, seq)), Some((account, seq)));
        prop_assert_eq!(decode_open_of(&open_of(account, id)), Some((account, id)));
        let millis = number >> 16;
        for index in IdIndex::ALL {
            prop_assert_eq!(decode_id_other(index, &id_other(index, id)), Some(id));
            let row = id_v7(index, millis, block, part);
            prop_assert_eq!(decode_id_v7(index, &row), Some((millis, block, part)));
        }
    }

    #[test]
    fn record_keys_come_back(key in caller_key(), seq in near()) {
        let row = row_of(&key, seq);
        prop_assert_eq!(decode_record(&row), Some((key.bytes(), CommitSeq::new(seq))));
        prop_assert_eq!(record_prefix(&row), Some(&row[..row.len() - 8]));
    }

    #[test]
    fn versions_of_a_record_stand_together_newest_first(
        a in (caller_key(), near()), b in (caller_key(), near()),
    ) {
        let meant = |(key, seq): &(Key, u64)| {
            (key.bytes().len(), key.clone(), std::cmp::Reverse(*seq))
        };
        let (row_a, row_b) = (row_of(&a.0, a.1), row_of(&b.0, b.1));
        prop_assert_eq!(row_a.cmp(&row_b), meant(&a).cmp(&meant(&b)));
        prop_assert_eq!(record_prefix(&row_a) == record_prefix(&row_b), a.0 == b.0);
        // Nothing of another key begins with the prefix.
        let begins = row_b.starts_with(record_prefix(&row_a).expect("a record"));
        prop_assert_eq!(begins, a.0 == b.0);
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
        let seq = |(_, seq, _): (BalanceKey, u64, u32)| block_of_seq(CommitSeq::new(seq));
        prop_assert_eq!(seq(a).cmp(&seq(b)), a.1.cmp(&b.1));
        let placed = |a: (BalanceKey, u64, u32)| placed_by(a.0.account, CommitSeq::new(a.1));
        let newest = |a: (BalanceKey, u64, u32)| (a.0.account, std::cmp::Reverse(a.1));
        prop_assert_eq!(placed(a).cmp(&placed(b)), newest(a).cmp(&newest(b)));
        let ends = |a: (BalanceKey, u64, u32)| (Time::new(a.0.account.get()), block(a));
        let row = |a| { let (time, block) = ends(a); position_at(time, block) };
        prop_assert_eq!(row(a).cmp(&row(b)), ends(a).cmp(&ends(b)));
        let ids = |a: (BalanceKey, u64, u32)| (a.0.account.get() >> 16, block(a), a.2);
        for index in IdIndex::ALL {
            let row = |a| { let (ms, first, part) = ids(a); id_v7(index, ms, first, part) };
            prop_assert_eq!(row(a).cmp(&row(b)), ids(a).cmp(&ids(b)));
        }
    }

    #[test]
    fn other_keys_are_not_taken_for_one(
        tag in 0..34_u8, bytes in prop::collection::vec(any::<u8>(), 0..24),
    ) {
        let bytes = [&[tag], &bytes[..]].concat();
        let again = [
            decode_version(&bytes).map(|(key, seq)| version(key, seq).to_vec()),
            decode_journal(&bytes).map(|number| journal(number).to_vec()),
            decode_asset(&bytes).map(|id| asset(id).to_vec()),
            decode_account(&bytes).map(|id| account(id).to_vec()),
            decode_api_key(&bytes).map(|id| api_key(id).to_vec()),
            decode_revoked(&bytes).map(|id| revoked(id).to_vec()),
            decode_supply(&bytes).map(|id| supply(id).to_vec()),
            decode_hold(&bytes).map(|token| hold(token).to_vec()),
            decode_credited(&bytes).map(|(asset, hash)| credited(asset, hash).to_vec()),
            decode_record(&bytes).map(|(key, seq)| row_of(&Key::new(key), seq.get())),
            decode_block_of_seq(&bytes).map(|seq| block_of_seq(seq).to_vec()),
            decode_position_at(&bytes).map(|(time, block)| position_at(time, block).to_vec()),
            decode_order(&bytes).map(|id| order(id).to_vec()),
            decode_order_state(&bytes).map(|id| order_state(id).to_vec()),
            decode_trade(&bytes).map(|(market, seq)| trade(market, seq).to_vec()),
            decode_placed_by(&bytes).map(|(account, seq)| placed_by(account, seq).to_vec()),
            decode_open_of(&bytes).map(|(account, id)| open_of(account, id).to_vec()),
        ];
        let ids = IdIndex::ALL.into_iter().flat_map(|index| [
            decode_id_v7(index, &bytes).map(|(ms, block, part)| id_v7(index, ms, block, part).to_vec()),
            decode_id_other(index, &bytes).map(|id| id_other(index, id).to_vec()),
        ]);
        let again: Vec<_> = again.into_iter().chain(ids).flatten().collect();
        prop_assert!(again.len() <= 1);
        prop_assert!(again.iter().all(|key| *key == bytes));
    }
}

#[test]
fn rows_stand_under_their_prefix_and_behind_the_mark() {
    let key = BalanceKey { account: AccountId::new(7), asset: AssetId::new(9) };
    let row = version(key, CommitSeq::new(u64::MAX));
    assert!(row.starts_with(&version_prefix(key)));
    assert!(row.starts_with(&version_account_prefix(key.account)));
    let zero = BalanceKey { account: AccountId::new(0), asset: AssetId::new(0) };
    assert!(APPLIED_MARK[..] < version(zero, CommitSeq::new(u64::MAX))[..]);
    for index in IdIndex::ALL {
        let row = id_v7(index, 5, BlockNumber::new(1), 0);
        assert!(row.starts_with(&id_v7_prefix(index, 5)));
        assert!(APPLIED_MARK[..] < id_v7(index, 0, BlockNumber::new(0), 0)[..]);
    }
    assert!(APPLIED_MARK[..] < row_of(&Key::new([0]), u64::MAX)[..]);
    assert_eq!(record_prefix(&APPLIED_MARK), None);
}

#[test]
fn tags_are_pinned() {
    let (zero, id) = (BlockNumber::new(0), RequestId::new(0));
    assert_eq!(journal(BlockNumber::new(0x0102))[..], [1, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(id_v7(IdIndex::Outcomes, 0, zero, 0)[0], 3);
    assert_eq!(id_other(IdIndex::Outcomes, id)[0], 4);
    assert_eq!(asset(AssetId::new(1)), [5, 0, 0, 0, 1]);
    assert_eq!(account(AccountId::new(1))[0], 6);
    assert_eq!((FORMAT, BOOT_EPOCH), ([7], [8]));
    assert_eq!(supply(AssetId::new(1)), [9, 0, 0, 0, 1]);
    assert_eq!(hold(Token::of(RequestId::new(3)))[..2], [10, 0]);
    assert_eq!(id_v7(IdIndex::Resolved, 0, zero, 0)[0], 11);
    assert_eq!(id_other(IdIndex::Resolved, id)[0], 12);
    assert_eq!(credited(AssetId::new(1), 2)[..6], [13, 0, 0, 0, 1, 0]);
    let record = row_of(&Key::new(*b"ab"), u64::MAX - 5);
    assert_eq!(record, [14, 0, 2, b'a', b'b', 0, 0, 0, 0, 0, 0, 0, 5]);
    assert_eq!(block_of_seq(CommitSeq::new(1)), [15, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(position_at(Time::new(1), zero)[..9], [16, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(HORIZON, [17]);
    let account = AccountId::new(1);
    let placed = placed_by(account, CommitSeq::new(u64::MAX - 5));
    assert_eq!(placed, [26, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5]);
    assert_eq!(open_of(account, RequestId::new(3))[..10], [27, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert!(open_of(account, RequestId::new(3)).starts_with(&open_of_prefix(account)));
    assert_eq!(api_key(KeyNumber(1)), [28, 0, 0, 0, 1]);
    assert_eq!(revoked(KeyNumber(1)), [29, 0, 0, 0, 1]);
    assert_eq!(OPERATION, [30]);
    assert_eq!(segment(BlockNumber::new(1)), [31, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(ARCHIVE_DIRECTORY, [32]);
    assert_eq!(archived_end(Token::of(RequestId::new(3)))[..2], [33, 0]);
}
