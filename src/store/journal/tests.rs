//! Blocks made of anything that can be asked: what goes in comes out, and no damage goes unseen.
//! The strategies here also feed the tests of the folds.

use proptest::prelude::*;

use super::*;
use crate::address::{Address, Link};
use crate::config::SUPPLY_MAX;
use crate::error::{Malformed, Reject};
use crate::message::{Side, Txn};
use crate::request::{AssetSpec, Command, Request, Swap, Transfer};
use crate::types::{AccountId, Amount, AssetId, ChainId, ChainKind, Leg};

/// Numbers of every length up to `bits`.
fn number(bits: u32) -> impl Strategy<Value = u128> {
    (any::<u128>(), 0..bits).prop_map(|(number, bits)| number & ((1 << bits) - 1))
}

/// Few accounts, so that legs meet, and now and then a large number.
fn account() -> impl Strategy<Value = AccountId> {
    prop_oneof![9 => 0..6_u64, 1 => any::<u64>()].prop_map(AccountId::new)
}

fn asset() -> impl Strategy<Value = AssetId> {
    prop_oneof![9 => 0..3_u32, 1 => any::<u32>()].prop_map(AssetId::new)
}

fn amount() -> impl Strategy<Value = Amount> {
    number(121).prop_map(|number| Amount::new(number.max(1)))
}

fn chain() -> impl Strategy<Value = ChainId> {
    any::<u64>().prop_map(ChainId::new)
}

fn swap() -> impl Strategy<Value = Command> {
    let leg = (account(), account(), asset(), amount());
    let leg = leg.prop_map(|(from, to, asset, amount)| Leg { from, to, asset, amount });
    let pair = (account(), account(), amount(), amount(), asset(), asset());
    let pair = pair.prop_map(|(a, b, m, n, x, y)| {
        vec![
            Leg { from: a, to: b, asset: x, amount: m },
            Leg { from: b, to: a, asset: y, amount: n },
        ]
    });
    let legs = prop_oneof![pair, prop::collection::vec(leg, 2..=16)];
    legs.prop_filter_map("a swap", |legs| Swap::new(legs).ok().map(Command::Swap))
}

fn transfer() -> impl Strategy<Value = Transfer> {
    (account(), asset(), amount(), "[a-zé]{0,60}").prop_map(
        |(account, asset, amount, reference)| Transfer {
            account,
            asset,
            amount,
            reference: reference.into(),
        },
    )
}

fn asset_spec() -> impl Strategy<Value = AssetSpec> {
    let kinds = [ChainKind::Evm, ChainKind::Solana, ChainKind::Bitcoin, ChainKind::Other];
    let kind = prop::sample::select(kinds.to_vec());
    let parts = ("[A-Za-z0-9._-]{1,32}", chain(), kind, "[0-9a-f]{1,64}", any::<u8>());
    parts.prop_map(|(name, chain, chain_kind, token, decimals)| AssetSpec {
        name: name.into(),
        chain,
        chain_kind,
        token: token.into(),
        decimals,
    })
}

fn link() -> impl Strategy<Value = Link> {
    (chain(), "[0-9a-zA-Z]{1,90}")
        .prop_map(|(chain, text)| Link { chain, address: Address::from_canonical(&text) })
}

pub(in crate::store) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => swap(),
        1 => transfer().prop_map(Command::Deposit),
        1 => transfer().prop_map(Command::Withdraw),
        1 => asset_spec().prop_map(Command::PutAsset),
        1 => (account(), prop::collection::vec(link(), 0..=64))
            .prop_map(|(account, links)| Command::PutAccount { account, links }),
        1 => (account(), chain()).prop_map(|(account, chain)| Command::RemoveLink { account, chain }),
    ]
}

pub(in crate::store) fn txn() -> impl Strategy<Value = Txn> {
    let deadline = prop_oneof![Just(Time::NEVER), any::<u64>().prop_map(Time::new)];
    let parts = (any::<u128>(), any::<u64>(), deadline, command());
    parts.prop_filter_map("well-formed", |(id, digest, deadline, command)| {
        let id = RequestId::new(id);
        Txn::new(Request { id, deadline, command }, digest, 1).ok()
    })
}

/// A commit: a transaction with the balances after it, anything that can follow from it.
pub(in crate::store) fn commit() -> impl Strategy<Value = (Txn, Vec<Balance>)> {
    let rest = prop::collection::vec((number(122), prop_oneof![Just(0), number(120)]), 32);
    (txn(), rest).prop_map(|(txn, rest)| {
        let after = txn.ops().zip(rest).map(|(op, (rest, held))| {
            let credited = if op.side == Side::Credit { op.amount.get() } else { 0 };
            Balance { available: Amount::new(rest + credited), held: Amount::new(held) }
        });
        let after = after.collect();
        (txn, after)
    })
}

fn reject() -> impl Strategy<Value = Reject> {
    let (seq, why) = (any::<u64>().prop_map(CommitSeq::new), "[a-zé ]{0,80}");
    prop_oneof![
        Just(Reject::RequestIdReused),
        Just(Reject::Expired),
        asset().prop_map(Reject::UnknownAsset),
        chain().prop_map(Reject::UnknownChain),
        account().prop_map(Reject::UnknownAccount),
        why.prop_map(Reject::AlreadyExists),
        why.prop_map(Reject::AlreadyLinked),
        (account(), chain()).prop_map(|(account, chain)| Reject::NotLinked { account, chain }),
        asset().prop_map(Reject::SupplyExceeded),
        (account(), asset(), amount(), seq).prop_map(|(account, asset, short_by, seq)| {
            Reject::InsufficientFunds { account, asset, short_by, seq }
        }),
    ]
}

type Commits = Vec<(Txn, Vec<Balance>)>;
type Refusals = Vec<(Txn, Reject, CommitSeq)>;

fn refusal() -> impl Strategy<Value = (Txn, Reject, CommitSeq)> {
    (txn(), reject(), any::<u64>().prop_map(CommitSeq::new))
}

pub(in crate::store) fn build(
    builder: &mut BlockBuilder,
    number: u64,
    first_seq: u64,
    commits: &[(Txn, Vec<Balance>)],
    refusals: &[(Txn, Reject, CommitSeq)],
    slots: Vec<u32>,
) -> Block {
    let previous = BlockHash::new([number as u8; 32]);
    builder.begin(BlockNumber::new(number), CommitSeq::new(first_seq), previous);
    for (txn, after) in commits {
        builder.commit(txn, after.iter().copied());
    }
    for (txn, reject, seq) in refusals {
        builder.refusal(txn, (reject, *seq));
    }
    builder.finish(Time::new(5_000), slots)
}

/// Asks the block everything, and compares.
fn check(block: &Block, first_seq: u64, commits: &Commits, refusals: &Refusals) {
    assert_eq!(block.header().commits as usize, commits.len());
    assert_eq!(block.header().refusals as usize, refusals.len());
    let mut rows = Vec::new();
    for ((seq, (txn, after)), record) in (first_seq..).zip(commits).zip(block.commits()) {
        let seq = CommitSeq::new(seq);
        assert_eq!(record.seq, seq);
        assert_eq!((record.txn.id, record.txn.digest), (txn.id, txn.digest));
        assert_eq!((&record.txn.command, record.txn.deadline), (&txn.command, txn.deadline));
        assert_eq!(record.after[..], after[..]);
        assert!(record.txn.ops().eq(txn.ops()));
        check_conservation(txn, &record.rows().map(|(_, row)| row).collect::<Vec<_>>()).unwrap();
        let same = block.commit_at(seq).expect("in the block");
        assert_eq!(same.receipt(Time::new(1)), record.receipt(Time::new(1)));
        rows.extend(txn.ops().zip(after).map(|(op, after)| (seq, op.key, *after)));
    }
    let mut visited = Vec::new();
    block.visit_rows(|seq, key, after| visited.push((seq, key, after)));
    assert_eq!(visited, rows);
    for ((txn, reject, seq), record) in refusals.iter().zip(block.refusals()) {
        assert_eq!((record.id, record.digest, record.seq), (txn.id, txn.digest, *seq));
        assert_eq!(record.reject, *reject);
    }
    assert!(block.commit_at(block.header().next_seq()).is_none());
    assert!(block.commit_at(CommitSeq::new(first_seq - 1)).is_none());
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        commits in prop::collection::vec(commit(), 0..8),
        refusals in prop::collection::vec(refusal(), 0..8),
        first_seq in 1..1_u64 << 40,
    ) {
        let mut builder = BlockBuilder::new();
        // What a builder was used for before leaves no trace.
        build(&mut builder, 1, 1, &commits, &refusals, vec![]);
        let block = build(&mut builder, 7, first_seq, &commits, &refusals, vec![]);
        check(&block, first_seq, &commits, &refusals);
        let stored = Block::decode(block.bytes().to_vec()).expect("intact");
        prop_assert_eq!(stored.header(), block.header());
        prop_assert_eq!(stored.hash(), block.hash());
        check(&stored, first_seq, &commits, &refusals);
    }

    #[test]
    fn ids_find_their_outcomes(
        commits in prop::collection::vec(commit(), 0..5),
        refusals in prop::collection::vec(refusal(), 0..5),
    ) {
        let block = build(&mut BlockBuilder::new(), 1, 1, &commits, &refusals, vec![]);
        let answered = refusals.iter().filter(|(_, reject, _)| *reject != Reject::RequestIdReused);
        let expected: Vec<_> =
            commits.iter().map(|(txn, _)| txn.id).chain(answered.map(|(txn, ..)| txn.id)).collect();
        let mut ids = Vec::new();
        block.visit_ids(|id| ids.push(id));
        prop_assert_eq!(&ids, &expected);
        for (place, id) in ids.into_iter().enumerate() {
            let committed = place < commits.len();
            prop_assert_eq!(block.find_commit(id).is_some(), committed);
            prop_assert_eq!(block.find_refusal(id).is_some(), !committed);
        }
        prop_assert!(block.find_commit(RequestId::new(0x1234)).is_none());
    }

    #[test]
    fn digests_tell_commands_and_deadlines_apart(a in txn(), b in txn()) {
        let mut scratch = Vec::new();
        let mut of = |txn: &Txn| digest(&txn.command, txn.deadline, &mut scratch);
        let same = (&a.command, a.deadline) == (&b.command, b.deadline);
        prop_assert_eq!(of(&a) == of(&b), same);
        prop_assert_eq!(of(&a), of(&a));
        let mut later = a.clone();
        later.deadline = Time::new(a.deadline.get() ^ 1);
        prop_assert_ne!(of(&a), of(&later));
    }

    #[test]
    fn stored_commands_come_back(txn in txn(), before in prop::collection::vec(any::<u8>(), 0..3)) {
        let mut bytes = before.clone();
        encode_command(&txn.command, txn.deadline, &mut bytes);
        let stored = &bytes[before.len()..];
        prop_assert_eq!(decode_command(stored), Ok((txn.command.clone(), txn.deadline)));
        decode_command(&stored[..stored.len() - 1]).expect_err("cut short");
        bytes.push(0);
        decode_command(&bytes[before.len()..]).expect_err("too long");
        prop_assert_eq!(
            xxhash_rust::xxh3::xxh3_64(&bytes[before.len()..bytes.len() - 1]),
            digest(&txn.command, txn.deadline, &mut vec![9; 3])
        );
    }

    #[test]
    fn any_bytes_are_decoded_without_a_panic(
        tail in prop::collection::vec(any::<u8>(), 0..200), commits in 0..4_u32, refusals in 0..4_u32,
    ) {
        // Behind a header that is right, so that the records are looked at.
        let mut builder = BlockBuilder::new();
        let mut bytes = build(&mut builder, 1, 1, &[], &[], vec![]).bytes().to_vec();
        bytes.extend(tail);
        bytes[26..30].copy_from_slice(&commits.to_le_bytes());
        bytes[30..34].copy_from_slice(&refusals.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[COVERED_AT..]);
        bytes[CHECKSUM_AT..COVERED_AT].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(block) = Block::decode(bytes) {
            block.visit_rows(|_, _, _| {});
            prop_assert_eq!(block.commits().count() as u32, commits);
        }
    }
}

/// A small block with one of everything that is common.
fn block_bytes() -> Vec<u8> {
    let leg = |from, to, asset, amount| Leg {
        from: AccountId::new(from),
        to: AccountId::new(to),
        asset: AssetId::new(asset),
        amount: Amount::new(amount),
    };
    let swap = Swap::new([leg(1, 2, 0, 5), leg(2, 1, 1, 700)]).unwrap();
    let request = Request::new(RequestId::new(1), Command::Swap(swap));
    let txn = Txn::new(request, 0xABCD, 1).unwrap();
    let balance = |units| Balance { available: Amount::new(units), held: Amount::ZERO };
    let after = vec![balance(5), balance(1_000), balance(0), balance(SUPPLY_MAX)];
    let short = Reject::InsufficientFunds {
        account: AccountId::new(300),
        asset: AssetId::new(1),
        short_by: Amount::new(1),
        seq: CommitSeq::new(9),
    };
    let refusals = [(txn.clone(), short, CommitSeq::new(9))];
    let mut builder = BlockBuilder::new();
    build(&mut builder, 3, 10, &[(txn, after)], &refusals, vec![4, 5, 6, 7]).bytes().to_vec()
}

#[test]
fn every_flipped_bit_and_every_missing_byte_is_found() {
    let bytes = block_bytes();
    Block::decode(bytes.clone()).expect("intact");
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            Block::decode(damaged).expect_err("a flipped bit");
        }
        let mut damaged = bytes.clone();
        damaged[at] = !damaged[at];
        Block::decode(damaged).expect_err("a flipped byte");
        Block::decode(bytes[..at].to_vec()).expect_err("cut short");
    }
    Block::decode([&bytes[..], &[0]].concat()).expect_err("too long");
}

#[test]
fn a_newer_format_is_told_apart_from_damage() {
    let mut bytes = block_bytes();
    bytes[4..6].copy_from_slice(&2_u16.to_le_bytes());
    let error = Block::decode(bytes).expect_err("newer");
    assert_eq!(error, Damage::Newer(2));
    assert_eq!(error.to_string(), "has format version 2; this build reads up to 1");
}

#[test]
fn the_largest_balances_and_amounts_fit() {
    let deposit = |amount| {
        let (account, asset) = (AccountId::new(u64::MAX), AssetId::new(u32::MAX));
        let reference = "x".repeat(128).into();
        let transfer = Transfer { account, asset, amount: Amount::new(amount), reference };
        Txn::new(Request::new(RequestId::new(u128::MAX), Command::Deposit(transfer)), 1, 1).unwrap()
    };
    let whole = Balance { available: Amount::new(u128::MAX), held: Amount::ZERO };
    let commits = vec![(deposit(u128::MAX), vec![whole]), (deposit(1 << 112), vec![whole])];
    let block = build(&mut BlockBuilder::new(), 1, 1, &commits, &[], vec![1, 2]);
    assert_eq!(block.slots(), [1, 2]);
    check(&Block::decode(block.bytes().to_vec()).unwrap(), 1, &commits, &vec![]);
}

#[test]
fn reasons_that_are_too_long_are_cut() {
    let request = Request::new(
        RequestId::new(1),
        Command::RemoveLink { account: AccountId::new(1), chain: ChainId::new(1) },
    );
    let txn = Txn::new(request, 1, 1).unwrap();
    let long = Reject::AlreadyLinked("é".repeat(1_000));
    let refusals = [(txn, long, CommitSeq::new(0))];
    let block = build(&mut BlockBuilder::new(), 1, 1, &[], &refusals, vec![]);
    assert_eq!(block.refusal(0).reject, Reject::AlreadyLinked("é".repeat(512)));
    assert_eq!(block.header().last_seq(), CommitSeq::new(0));
}

#[test]
#[should_panic(expected = "leaves no trace")]
fn what_is_malformed_is_never_journaled() {
    let account = AccountId::new(1);
    let request =
        Request::new(RequestId::new(1), Command::RemoveLink { account, chain: ChainId::new(1) });
    let txn = Txn::new(request, 1, 1).unwrap();
    let mut builder = BlockBuilder::new();
    builder.begin(BlockNumber::new(1), CommitSeq::new(1), BlockHash::GENESIS);
    builder.refusal(&txn, (&Reject::Malformed(Malformed::new("a", "b")), CommitSeq::new(0)));
}

#[test]
fn a_plain_swap_is_small() {
    let block = Block::decode(block_bytes()).unwrap();
    let commit = block.record(1).at() - block.record(0).at();
    assert!(commit <= 85, "{commit} bytes");
}
