//! Journal blocks, and the commands in them.

use crosslatch::message::Txn;
use crosslatch::request::{Command, Request};
use crosslatch::store::journal::{
    Block, BlockBuilder, FORMAT_VERSION, RefusalRecord, Verdict, check_conservation,
    decode_command, digest, encode_command,
};
use crosslatch::types::{AccountId, ChainId, RequestId, Time};

/// Where what the checksum covers begins.
const COVERED_AT: usize = 10;

/// A journal block, whose beginning is made right.
pub fn block(input: &[u8]) -> bool {
    let Some(bytes) = sealed(input) else {
        assert!(Block::decode(input.to_vec()).is_err(), "too short for a block");
        return false;
    };
    let Ok(block) = Block::decode(bytes.clone()) else { return false };
    assert_eq!(block.bytes(), bytes);
    ask_everything(&block);
    let again = again(&block);
    assert_eq!(again.bytes(), bytes, "is accepted, and not what is written");
    assert_eq!(again.hash(), block.hash());
    true
}

/// With the magic number, the version and the checksum that a writer would give it.
fn sealed(input: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = input.to_vec();
    let checksum = crc32c::crc32c(bytes.get(COVERED_AT..)?);
    bytes[..4].copy_from_slice(b"XLJB");
    bytes[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[6..COVERED_AT].copy_from_slice(&checksum.to_le_bytes());
    Some(bytes)
}

fn ask_everything(block: &Block) {
    let header = block.header();
    let mut rows = Vec::new();
    for (record, place) in block.commits().zip(0..) {
        assert_eq!(record.seq, header.first_seq.plus(place));
        assert_eq!(block.commit_at(record.seq).map(|it| it.txn.id), Some(record.txn.id));
        let found: Vec<_> = record.rows().collect();
        for ((op, row), after) in found.iter().zip(&record.after) {
            assert_eq!(op.apply(row.before), Some(*after), "an operation does not lead there");
            rows.push((record.seq, op.key, *after));
        }
        let only_rows: Vec<_> = found.iter().map(|(_, row)| *row).collect();
        check_conservation(&record.txn, &only_rows).expect("each row is what its operation does");
        let _ = (record.receipt(header.time), record.made());
    }
    let mut visited = Vec::new();
    block.visit_rows(|seq, key, after| visited.push((seq, key, after)));
    assert_eq!(visited, rows, "rows are found in two ways");
    block.visit_events(|seq, _| assert!(seq >= header.first_seq && seq < header.next_seq()));
    block.visit_ids(|id| {
        assert!(block.find_commit(id).is_some() || block.find_refusal(id).is_some());
    });
    for record in block.refusals() {
        let is_refused = matches!(record.verdict, Verdict::Reject(_));
        assert_eq!(record.refusal(header.time).is_some(), is_refused);
    }
    assert!(block.commit_at(header.next_seq()).is_none());
}

/// What is in a block, written once more.
fn again(block: &Block) -> Block {
    let header = block.header();
    let mut builder = BlockBuilder::new();
    builder.begin(header.number, header.first_seq, header.previous);
    for record in block.commits() {
        builder.commit(&record.txn, record.after);
    }
    for RefusalRecord { id, digest, caller, seq, verdict } in block.refusals() {
        // Of what was refused, only the id, the digest and who asked are kept.
        let (account, chain) = (AccountId::new(0), ChainId::new(0));
        let request = Request::new(id, Command::RemoveLink { account, chain });
        let txn = Txn::new(request.by(caller), digest, 1).unwrap();
        match verdict {
            Verdict::Done(first) => builder.repeat(&txn, first, seq),
            Verdict::Reject(reject) => builder.refusal(&txn, (&reject, seq)),
        }
    }
    builder.finish(header.time, Vec::new())
}

/// A command with its deadline.
pub fn command(input: &[u8]) -> bool {
    let Ok((command, deadline)) = decode_command(input) else { return false };
    let mut again = Vec::new();
    encode_command(&command, deadline, &mut again);
    assert_eq!(again, input, "is accepted, and not what is written");
    let of_it = digest(&command, deadline, &mut vec![7; 3]);
    assert_eq!(of_it, xxhash_rust::xxh3::xxh3_64(input), "the digest is of what is stored");
    let request = Request { deadline, ..Request::new(RequestId::new(1), command) };
    let is_valid = request.command.validate().is_ok();
    if let Ok(txn) = Txn::new(request, of_it, 64) {
        assert!(is_valid && txn.ops().count() <= 32);
        assert!(txn.deadline <= Time::NEVER && txn.row_ops().count() <= txn.ops().count());
    }
    true
}
