//! Blocks made of anything that can be asked: what goes in comes out, and no damage goes unseen.

use proptest::prelude::*;

use super::command::{DEPOSIT, SWAP};
pub(in crate::store) use super::samples::{build, commit};
use super::samples::{refused, txn};
use super::*;
use crate::config::SUPPLY_MAX;
use crate::error::{Malformed, Reject};
use crate::message::Txn;
use crate::request::{Action, Change, Prepare, Purpose, Request, Resolve, Swap, Transfer};
use crate::types::{AccountId, Amount, ChainId, Leg};

type Commits = Vec<(Txn, Vec<Balance>)>;
type Refused = Vec<(Txn, Verdict, CommitSeq)>;

/// Asks the block everything, and compares.
fn check(block: &Block, first_seq: u64, commits: &Commits, refusals: &Refused) {
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
        assert_eq!((record.txn.hold(), record.txn.expires_at), (txn.hold(), txn.expires_at));
        check_conservation(txn, &record.rows().map(|(_, row)| row).collect::<Vec<_>>()).unwrap();
        let same = block.commit_at(seq).expect("in the block");
        assert_eq!(same.receipt(Time::new(1)), record.receipt(Time::new(1)));
        rows.extend(txn.row_ops().zip(after).map(|(op, after)| (seq, op.key, *after)));
    }
    let mut visited = Vec::new();
    block.visit_rows(|seq, key, after| visited.push((seq, key, after)));
    assert_eq!(visited, rows);
    check_events(block, first_seq, commits);
    for ((txn, verdict, seq), record) in refusals.iter().zip(block.refusals()) {
        assert_eq!((record.id, record.digest, record.seq), (txn.id, txn.digest, *seq));
        assert_eq!(record.verdict, *verdict);
    }
    assert!(block.commit_at(block.header().next_seq()).is_none());
    assert!(block.commit_at(CommitSeq::new(first_seq - 1)).is_none());
}

/// What the block should show of a commit beside its rows.
fn events(seq: CommitSeq, txn: &Txn) -> Vec<Event> {
    let token = Token::of(txn.id);
    let held = |purpose, exclusive, expires_at| {
        vec![Event::Held(Hold { token, purpose, exclusive, expires_at, since: seq })]
    };
    match &txn.command {
        Command::Prepare(prepare) => {
            let purpose = Purpose::Swap(prepare.swap.clone());
            held(purpose, prepare.exclusive, txn.expires_at)
        }
        Command::Withdraw(from) => held(Purpose::Withdrawal(from.clone()), false, Time::NEVER),
        Command::Resolve(resolve) => {
            vec![Event::Resolved(resolve.token, resolve.action.resolution())]
        }
        Command::Deposit(to) => {
            to.reference_hash().map(|hash| Event::Credited(to.asset, hash)).into_iter().collect()
        }
        Command::Transact(transact) => transact.writes.iter().cloned().map(Event::Wrote).collect(),
        of_market if of_market.is_of_market() => {
            let settlement = txn.settlement().expect("it is settled").clone();
            let placed = match of_market {
                Command::Order(order) => Some(((**order).clone(), txn.expires_at)),
                _ => None,
            };
            vec![Event::Traded(Box::new(Traded { request: txn.id, placed, settlement }))]
        }
        _ => vec![],
    }
}

fn check_events(block: &Block, first_seq: u64, commits: &Commits) {
    let mut expected = Vec::new();
    for (seq, (txn, _)) in (first_seq..).map(CommitSeq::new).zip(commits) {
        expected.extend(events(seq, txn).into_iter().map(|event| (seq, event)));
    }
    let mut visited = Vec::new();
    block.visit_events(|seq, event| visited.push((seq, event)));
    assert_eq!(visited, expected);
    for (seq, event) in expected {
        if let Event::Resolved(token, how) = event {
            assert_eq!(block.find_resolution(token), Some((seq, how)));
        }
    }
    assert_eq!(block.find_resolution(Token::of(RequestId::new(0x1234))), None);
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        commits in prop::collection::vec(commit(), 0..8),
        refusals in prop::collection::vec(refused(), 0..8),
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
        refusals in prop::collection::vec(refused(), 0..5),
    ) {
        let block = build(&mut BlockBuilder::new(), 1, 1, &commits, &refusals, vec![]);
        let reused = Verdict::Reject(Reject::RequestIdReused);
        let answered = refusals.iter().filter(|(_, verdict, _)| *verdict != reused);
        let asked = commits.iter().filter(|(txn, _)| txn.command.kind() != "expire");
        let asked: Vec<_> = asked.map(|(txn, _)| txn.id).collect();
        let committed = asked.len();
        let expected: Vec<_> =
            asked.into_iter().chain(answered.map(|(txn, ..)| txn.id)).collect();
        let mut ids = Vec::new();
        block.visit_ids(|id| ids.push(id));
        prop_assert_eq!(&ids, &expected);
        for (place, id) in ids.into_iter().enumerate() {
            let committed = place < committed;
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

    #[test]
    fn records_that_are_almost_right_are_read_without_a_panic(
        commit in commit(), refused in refused(), changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..3),
    ) {
        let (commits, refusals) = (vec![commit], vec![refused]);
        let mut builder = BlockBuilder::new();
        let mut bytes = build(&mut builder, 1, 1, &commits, &refusals, vec![]).bytes().to_vec();
        for (at, to) in changes {
            let at = HEADER_LEN + record::PREAMBLE_LEN + usize::from(at) % 120;
            if let Some(byte) = bytes.get_mut(at) {
                *byte = to;
            }
        }
        let checksum = crc32c::crc32c(&bytes[COVERED_AT..]);
        bytes[CHECKSUM_AT..COVERED_AT].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(block) = Block::decode(bytes) {
            block.visit_rows(|_, _, _| {});
            block.visit_events(|_, _| {});
            block.visit_ids(|_| {});
            block.commits().for_each(|commit| drop(commit.receipt(Time::new(1))));
            prop_assert_eq!(block.refusals().count(), 1);
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
    let refusals = [(txn.clone(), Verdict::Reject(short), CommitSeq::new(9))];
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
fn other_formats_are_told_apart_from_damage() {
    let decode = |version: u16| {
        let mut bytes = block_bytes();
        bytes[4..6].copy_from_slice(&version.to_le_bytes());
        Block::decode(bytes).expect_err("another format")
    };
    assert_eq!(decode(3), Damage::Newer(3));
    assert_eq!(decode(3).to_string(), "has format version 3; this build reads up to 2");
    assert_eq!(decode(1), Damage::Older(1));
    assert_eq!(
        decode(1).to_string(),
        "has format version 1; the oldest that this build reads is 2"
    );
    assert!(matches!(decode(0), Damage::Broken(_)));
}

#[test]
fn the_withdrawal_that_left_at_once_is_retired() {
    let error = decode_command(&[3, 1, 0, 200, 1, 0]).expect_err("code 3");
    assert_eq!(error.to_string(), "is of a kind that this build does not know");
}

#[test]
fn a_command_is_read_in_one_form_only() {
    // Account 1 pays 2, which pays back: 5 each, of asset 0.
    let swap = [SWAP, 2, 0x11, 0x10, 1, 2, 5, 0x0F, 0x10, 5];
    decode_command(&swap).expect("as it is written");
    let never = [&[SWAP | 0x80][..], &[0xFF; 8], &swap[1..]].concat();
    let long_amount = [&swap[..8], &[0x20, 5, 0]].concat();
    for (bytes, why) in [
        (&[SWAP, 2, 0x11, 0x10, 1, 2, 5, 0x11, 0x10, 2, 1, 5][..], "does not say so"),
        (&[SWAP, 2, 0x11, 0x10, 1, 2, 5, 0x1F, 0x10, 5], "too large"),
        (&[DEPOSIT, 0x81, 0, 0, 5, 0], "more bytes than it takes"),
        (&long_amount, "more bytes than it takes"),
        (&never, "a deadline that is none"),
    ] {
        let error = decode_command(bytes).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
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
fn a_balance_above_128_bits_is_refused() {
    let (account, asset) = (AccountId::new(1), AssetId::new(0));
    let to = Transfer { account, asset, amount: Amount::new(6), reference: "".into() };
    let txn = Txn::new(Request::new(RequestId::new(1), Command::Deposit(to)), 0, 1).unwrap();
    let balance = |available| Balance { available: Amount::new(available), held: Amount::new(1) };
    for (available, fits) in [(u128::MAX - 1, true), (u128::MAX, false)] {
        let commits = [(txn.clone(), vec![balance(available)])];
        let block = build(&mut BlockBuilder::new(), 1, 1, &commits, &[], vec![]);
        assert_eq!(Block::decode(block.bytes().to_vec()).is_ok(), fits);
    }
}

#[test]
fn reasons_that_are_too_long_are_cut() {
    let request = Request::new(
        RequestId::new(1),
        Command::RemoveLink { account: AccountId::new(1), chain: ChainId::new(1) },
    );
    let txn = Txn::new(request, 1, 1).unwrap();
    let long = Reject::AlreadyLinked("é".repeat(1_000));
    let refusals = [(txn, Verdict::Reject(long), CommitSeq::new(0))];
    let block = build(&mut BlockBuilder::new(), 1, 1, &[], &refusals, vec![]);
    let cut = Reject::AlreadyLinked("é".repeat(512));
    assert_eq!(block.refusal(0).verdict, Verdict::Reject(cut));
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

/// A block made by one script line a commit, from seq 10 on.
pub(in crate::store) fn block_of(lines: &[&str]) -> Block {
    let mut builder = BlockBuilder::new();
    builder.begin(BlockNumber::new(1), CommitSeq::new(10), BlockHash::GENESIS);
    lines.iter().for_each(|line| scripts::add(line, &mut builder));
    Block::decode(builder.finish(Time::new(1), vec![]).bytes().to_vec()).unwrap()
}

/// Legs as `from before>after, to before>after`; the change; token and expiry.
fn describe(receipt: &Receipt) -> String {
    let change = |it: &Change| format!("{}>{}", it.before, it.after);
    let legs = receipt.legs.iter();
    let legs = legs.map(|leg| format!("{}, {}", change(&leg.from), change(&leg.to)));
    let change = receipt.change.as_ref().map(change);
    let hold = receipt.hold.map(|hold| (hold.token.request().get(), hold.expires_at.get()));
    let parts = legs.chain(change).chain(hold.map(|(token, at)| format!("hold {token} to {at}")));
    parts.collect::<Vec<_>>().join("; ")
}

#[test]
fn receipts_show_what_moved_and_which_hold() {
    let never = format!("hold 5 to {}", u64::MAX);
    for (line, expected) in [
        ("prepare 1 - 1->2 0:5 2->1 1:7 for 60 until 99 = 95+5 0+7", "hold 1 to 99"),
        (
            "commit 3 - 1 since 10 until 99 1->2 0:5 2->1 1:7 = 95 5 1+2 7",
            "100>95, 0>5; 10>3, 0>7; hold 1 to 99",
        ),
        ("rollback 4 - 1 since 10 until 99 1->2 0:5 2->1 1:7 = 100 7", "hold 1 to 99"),
        ("expire 1 since 10 until 99 1->2 0:5 2->1 1:7 = 100 7", "hold 1 to 99"),
        ("deposit 2 - 1 0:500 = 700+7", "207>707"),
        ("withdraw 5 - 1 0:200 = 300+200", &format!("500>500; {never}")),
        ("confirm 6 - 5 since 15 until - 1 0:200 = 300", &format!("500>300; {never}")),
        ("cancel 7 - 5 since 15 until - 1 0:200 = 500", &format!("500>500; {never}")),
        ("transact 8 - a@9 set b move 1->2 0:5 2->3 0:5 = 0 9 5", "5>0, 9>9; 9>9, 0>5"),
    ] {
        let receipt = block_of(&[line]).receipt(CommitSeq::new(10)).unwrap();
        assert_eq!(describe(&receipt), expected, "{line}");
    }
}

#[test]
fn an_expiry_is_nobodys_outcome() {
    let block = block_of(&[
        "prepare 1 - 1->2 0:5 2->1 1:7 for 60 until 99 = 95+5 0+7",
        "expire 1 since 10 until 99 1->2 0:5 2->1 1:7 = 100 7",
        "repeat 2 11 9",
    ]);
    let mut ids = Vec::new();
    block.visit_ids(|id| ids.push(id.get()));
    assert_eq!(ids, [1, 2]);
    assert_eq!(block.find_commit(RequestId::new(1)).unwrap().seq, CommitSeq::new(10));
    let repeat = block.find_refusal(RequestId::new(2)).unwrap();
    assert_eq!(repeat.verdict, Verdict::Done(CommitSeq::new(9)));
    assert_eq!(repeat.refusal(Time::new(1)), None);
    let expired = (CommitSeq::new(11), Resolution::Expired);
    assert_eq!(block.find_resolution(Token::of(RequestId::new(1))), Some(expired));
}

#[test]
#[should_panic(expected = "has been told which")]
fn a_resolution_without_its_hold_is_never_journaled() {
    let (token, action) = (Token::of(RequestId::new(1)), Action::Commit);
    let command = Command::Resolve(Resolve { token, action });
    let txn = Txn::new(Request::new(RequestId::new(2), command), 1, 1).unwrap();
    let mut builder = BlockBuilder::new();
    builder.begin(BlockNumber::new(1), CommitSeq::new(1), BlockHash::GENESIS);
    builder.commit(&txn, []);
}

#[test]
fn holds_of_any_legs_show_their_rows() {
    let leg = |from, to, asset, amount| Leg {
        from: AccountId::new(from),
        to: AccountId::new(to),
        asset: AssetId::new(asset),
        amount: Amount::new(amount),
    };
    // Bytes that are no number, where one would stand in the plainest hold.
    let (first, second) = (leg(256, 2, 0, 1 << 60), leg(2, 256, 1, 7));
    let plain = vec![first, second];
    let one_asset = vec![first, leg(3, 4, 0, 9)];
    let three = vec![first, second, leg(2, 3, 0, 1)];
    for (legs, exclusive) in [(plain, false), (one_asset, true), (three, false)] {
        let swap = Swap::new(legs).unwrap();
        let id = RequestId::new(5);
        let hold = Hold {
            token: Token::of(id),
            purpose: Purpose::Swap(swap.clone()),
            exclusive,
            expires_at: Time::new(99),
            since: CommitSeq::new(3),
        };
        let prepare = Prepare { swap, expires_in_ms: 60_000, exclusive };
        let made = Request::new(id, Command::Prepare(Box::new(prepare)));
        let mut made = Txn::new(made, 1, 1).unwrap();
        made.expires_at = hold.expires_at;
        let commit = Resolve { token: hold.token, action: Action::Commit };
        let commit = Request::new(RequestId::new(6), Command::Resolve(commit));
        let mut commit = Txn::new(commit, 2, 1).unwrap();
        commit.attach(Box::new(hold.clone()), 1);
        let mut builder = BlockBuilder::new();
        builder.begin(BlockNumber::new(1), CommitSeq::new(1), BlockHash::default());
        let mut rows = Vec::new();
        let txns = [made, commit, Txn::expiry(Box::new(hold), 1)];
        for (seq, txn) in (1..).map(CommitSeq::new).zip(&txns) {
            // Enough for whatever the operation was.
            let enough = Amount::new(1 << 100);
            let after = Balance { available: enough, held: enough };
            let keys: Vec<_> = txn.row_ops().map(|op| (seq, op.key, after)).collect();
            builder.commit(txn, keys.iter().map(|_| after));
            rows.extend(keys);
        }
        let block = builder.finish(Time::new(1), vec![]);
        let mut visited = Vec::new();
        block.visit_rows(|seq, key, after| visited.push((seq, key, after)));
        assert_eq!(visited, rows);
    }
}
