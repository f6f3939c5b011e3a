//! Keys and values of what is derived from the journal.

use crosslatch::store::holds;
use crosslatch::store::keys::{self, IdIndex};
use crosslatch::store::outcomes::visit_row;
use crosslatch::store::records;
use crosslatch::store::versions::{PackReader, PackWriter, last, newest_at};
use crosslatch::types::{BlockNumber, CommitSeq, Key, RequestId, Token};

/// A key of any row: it is of one kind at most, and written again the same.
pub fn keys(input: &[u8]) -> bool {
    let found = [
        keys::decode_version(input).map(|(key, seq)| keys::version(key, seq).to_vec()),
        keys::decode_journal(input).map(|number| keys::journal(number).to_vec()),
        keys::decode_asset(input).map(|id| keys::asset(id).to_vec()),
        keys::decode_account(input).map(|id| keys::account(id).to_vec()),
        keys::decode_supply(input).map(|id| keys::supply(id).to_vec()),
        keys::decode_hold(input).map(|token| keys::hold(token).to_vec()),
        keys::decode_credited(input).map(|(asset, hash)| keys::credited(asset, hash).to_vec()),
        keys::decode_record(input).map(|(key, seq)| record_key(key, seq)),
        keys::decode_block_of_seq(input).map(|seq| keys::block_of_seq(seq).to_vec()),
        keys::decode_position_at(input).map(|(at, block)| keys::position_at(at, block).to_vec()),
    ];
    let of_ids = IdIndex::ALL.into_iter().flat_map(|index| {
        let id_v7 = keys::decode_id_v7(index, input)
            .map(|(millis, block, part)| keys::id_v7(index, millis, block, part).to_vec());
        let other = keys::decode_id_other(index, input);
        [id_v7, other.map(|id| keys::id_other(index, id).to_vec())]
    });
    let found: Vec<_> = found.into_iter().chain(of_ids).flatten().collect();
    assert!(found.len() <= 1, "is taken for two kinds of keys");
    assert!(found.iter().all(|again| again == input), "is accepted, and not what is written");
    !found.is_empty()
}

fn record_key(key: &[u8], seq: CommitSeq) -> Vec<u8> {
    let mut row = Vec::new();
    keys::record(&Key::new(key), seq, &mut row);
    row
}

/// Packed versions of a balance, behind the 8 bytes of their first seq.
pub fn versions(input: &[u8]) -> bool {
    let Some((first_seq, value)) = input.split_first_chunk() else { return false };
    let first_seq = CommitSeq::new(u64::from_be_bytes(*first_seq));
    let mut reader = PackReader::new(value, first_seq);
    let versions: Vec<_> = reader.by_ref().collect();
    assert!(versions.len() <= value.len() / 2, "a version takes two bytes at least");
    let newest = versions.last().copied();
    assert_eq!(last(value, first_seq), newest);
    for (seq, balance) in versions.iter().copied() {
        assert_eq!(newest_at(value, first_seq, seq), Some((seq, balance)));
    }
    if reader.is_damaged() || versions.is_empty() {
        return false;
    }
    let mut writer = PackWriter::new();
    for (seq, balance) in versions {
        writer.push(seq, balance);
    }
    assert_eq!(writer.first_seq(), Some(first_seq));
    assert_eq!(writer.value(), value, "is accepted, and not what is written");
    true
}

/// The row of an open hold, behind the 16 bytes of its token.
pub fn hold(input: &[u8]) -> bool {
    let Some((token, value)) = input.split_first_chunk() else { return false };
    let token = Token::of(RequestId::new(u128::from_be_bytes(*token)));
    let Ok(hold) = holds::decode(&keys::hold(token), value) else { return false };
    assert_eq!(hold.token, token);
    assert!(!holds::set_aside(&hold).unwrap().is_empty(), "a hold sets something aside");
    let mut again = Vec::new();
    holds::encode(hold, &mut again);
    assert_eq!(again, value, "is accepted, and not what is written");
    true
}

/// A row of an index of ids: the length of its key, the key, the value.
pub fn ids(input: &[u8]) -> bool {
    let Some((length, rest)) = input.split_first() else { return false };
    let Some((key, value)) = rest.split_at_checked(usize::from(*length)) else { return false };
    let mut accepted = false;
    for index in IdIndex::ALL {
        let (mut shown, mut newest) = (0, BlockNumber::default());
        let visited = visit_row(index, (key, value), |id, block| {
            assert!(newest <= block, "blocks go back");
            (shown, newest) = (shown + 1, block);
            let millis = keys::decode_id_v7(index, key).map(|(millis, ..)| millis);
            assert!(millis.is_none_or(|millis| (id.get() >> 80) as u64 == millis));
        });
        assert!(shown <= value.len() / 8, "more ids than there is room for");
        accepted |= visited.is_ok();
    }
    accepted
}

/// A row of a caller's key: the length of the row's key, which is two bytes, the key, the value.
pub fn record(input: &[u8]) -> bool {
    let Some((length, rest)) = input.split_first_chunk() else { return false };
    let length = usize::from(u16::from_be_bytes(*length));
    let Some((row, value)) = rest.split_at_checked(length) else { return false };
    let Ok(found) = records::decode_row(row, value) else { return false };
    assert_eq!(record_key(found.key.bytes(), found.seq), row);
    let again = match found.value {
        Some(bytes) => [&[1], bytes].concat(),
        None => vec![0],
    };
    assert_eq!(again, value, "is accepted, and not what is written");
    true
}
