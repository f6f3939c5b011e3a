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
//! | `outcomes` | tag of the index, millisecond in the ids, first block of the fold, part | 1 + 6 + 8 + 4 |
//! | `outcomes` | tag of the index, id that is not version 7 | 1 + 16 |
//! | `outcomes` | tag, token of an open hold | 1 + 16 |
//! | `outcomes` | tag, asset, hash of a deposit's reference | 1 + 4 + 16 |
//! | `outcomes` | tag, order (what it is; how it stands) | 1 + 16 |
//! | `outcomes` | tag, market (price of its last trade) | 1 + 4 |
//! | `outcomes` | tag, market, seq of a commit with trades | 1 + 4 + 8 |
//! | `outcomes` | tag, account, `!`seq that placed an order of it | 1 + 8 + 8 |
//! | `outcomes` | tag, account, open order of it | 1 + 8 + 16 |
//! | `records` | tag, length of the caller's key, that key, `!`seq | 1 + 2 + *n* + 8 |
//! | `blocks` | tag, first seq of a block with commits | 1 + 8 |
//! | `blocks` | tag, logical time of a block, its number | 1 + 8 + 8 |
//! | `assets` | tag, asset | 1 + 4 |
//! | `assets` | tag, market (what it is; whether it is halted) | 1 + 4 |
//! | `assets` | tag, API key (what it is; whether it is revoked) | 1 + 4 |
//! | `assets` | tag (what the venue takes) | 1 |
//! | `accounts` | tag, account | 1 + 8 |
//! | `meta` | tag: format, boot epoch, horizon | 1 |
//! | `meta` | tag, asset (its supply) | 1 + 4 |
//!
//! A tag is persisted: it is never renumbered and never used again for something else.

use crate::access::KeyNumber;
use crate::types::{
    AccountId, AssetId, BalanceKey, BlockNumber, CommitSeq, Key, MarketId, RequestId, Time, Token,
};

/// Column family of the journal blocks: the truth.
pub const JOURNAL: &str = "journal";
/// Column family of the balances' versions; derived.
pub const VERSIONS: &str = "versions";
/// Column family that finds a request's block by its id, and has the open holds; derived.
pub const OUTCOMES: &str = "outcomes";
/// Column family of the values under callers' keys; derived.
pub const RECORDS: &str = "records";
/// Column family that finds journal blocks by seq and by time.
pub const BLOCKS: &str = "blocks";
/// Column family of the assets.
pub const ASSETS: &str = "assets";
/// Column family of the accounts with their links.
pub const ACCOUNTS: &str = "accounts";
/// Column family of what there is one of: format version, boot epoch, horizon, supplies.
pub const META: &str = "meta";
/// Every column family.
pub const FAMILIES: [&str; 8] =
    [JOURNAL, VERSIONS, OUTCOMES, RECORDS, BLOCKS, ASSETS, ACCOUNTS, META];

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
    /// An open hold.
    Hold = 10,
    /// Blocks that ended the holds with version-7 tokens of one millisecond.
    ResolvedV7 = 11,
    /// The block that ended a hold with any other token.
    ResolvedOther = 12,
    /// The deposit that has a reference.
    Credited = 13,
    /// One version of a value under a caller's key.
    Record = 14,
    /// The block that begins with a seq.
    BlockOfSeq = 15,
    /// The end of a block with a time.
    PositionAt = 16,
    /// The oldest seq as of which everything can still be read.
    Horizon = 17,
    /// What an open order is.
    Order = 18,
    /// How an open order stands.
    OrderState = 19,
    /// The price of a market's last trade.
    LastPrice = 20,
    /// A market.
    Market = 21,
    /// A market that is halted.
    Halted = 22,
    /// Blocks that ended the orders with version-7 ids of one millisecond.
    EndedV7 = 23,
    /// The block that ended an order with any other id.
    EndedOther = 24,
    /// A commit with trades of a market.
    Trade = 25,
    /// An order that an account placed.
    PlacedBy = 26,
    /// An open order of an account.
    OpenOf = 27,
    /// An API key.
    ApiKey = 28,
    /// An API key that is revoked.
    Revoked = 29,
    /// What the venue takes.
    Operation = 30,
    /// What a segment of the archive has.
    Segment = 31,
    /// Where the archive is.
    ArchiveDirectory = 32,
    /// How a hold ended whose end is in the archive.
    ArchivedEnd = 33,
}

/// An index from ids to blocks. All have the same form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdIndex {
    /// From request ids to the blocks of their outcomes.
    Outcomes,
    /// From tokens to the blocks that ended their holds.
    Resolved,
    /// From orders that stood to the blocks that ended them.
    Ended,
}

impl IdIndex {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Outcomes, Self::Resolved, Self::Ended];

    /// The tag of the rows of version-7 ids.
    pub const fn v7(self) -> KeyKind {
        match self {
            Self::Outcomes => KeyKind::OutcomeV7,
            Self::Resolved => KeyKind::ResolvedV7,
            Self::Ended => KeyKind::EndedV7,
        }
    }

    /// The tag of the rows of other ids.
    pub const fn other(self) -> KeyKind {
        match self {
            Self::Outcomes => KeyKind::OutcomeOther,
            Self::Resolved => KeyKind::ResolvedOther,
            Self::Ended => KeyKind::EndedOther,
        }
    }
}

/// Length of [`version_prefix`]: what the version family's prefix extractor cuts off.
pub const VERSION_PREFIX_LEN: usize = 13;
/// Length of [`version`].
pub const VERSION_LEN: usize = VERSION_PREFIX_LEN + 8;
/// Length of [`id_v7_prefix`]: what the outcomes family's prefix extractor cuts off.
pub const ID_V7_PREFIX_LEN: usize = 7;
/// Length of [`id_v7`].
pub const ID_V7_LEN: usize = ID_V7_PREFIX_LEN + 8 + 4;
/// Length of [`id_other`].
pub const ID_OTHER_LEN: usize = 17;
/// Length of [`credited`].
pub const CREDITED_LEN: usize = 1 + 4 + 16;
/// Length of [`trade`].
pub const TRADE_LEN: usize = 1 + 4 + 8;
/// Length of [`placed_by`].
pub const PLACED_BY_LEN: usize = 1 + 8 + 8;
/// Length of [`open_of`].
pub const OPEN_OF_LEN: usize = 1 + 8 + 16;
/// Length of [`position_at`].
pub const POSITION_AT_LEN: usize = 1 + 8 + 8;
/// What stands before the caller's key in a [`record`] key.
const RECORD_HEAD_LEN: usize = 1 + 2;
/// What stands behind it.
const RECORD_SEQ_LEN: usize = 8;

/// The applied mark of a derived family. As long as a version prefix, so that it has one too.
pub const APPLIED_MARK: [u8; VERSION_PREFIX_LEN] = [KeyKind::Applied as u8; VERSION_PREFIX_LEN];
/// Where `meta` keeps the format version of the directory.
pub const FORMAT: [u8; 1] = [KeyKind::Format as u8];
/// Where `meta` keeps the boot epoch.
pub const BOOT_EPOCH: [u8; 1] = [KeyKind::BootEpoch as u8];
/// Where `meta` keeps the horizon.
pub const HORIZON: [u8; 1] = [KeyKind::Horizon as u8];

/// Where `meta` keeps the directory of the archive.
pub const ARCHIVE_DIRECTORY: [u8; 1] = [KeyKind::ArchiveDirectory as u8];

/// `tag | last block`: a seek to a block lands on the segment of the archive that has it.
pub fn segment(last: BlockNumber) -> [u8; 9] {
    joined(KeyKind::Segment, &[&last.get().to_be_bytes()])
}

/// `tag | token`: of holds whose end is in the archive.
pub fn archived_end(token: Token) -> [u8; 17] {
    joined(KeyKind::ArchivedEnd, &[&token.request().get().to_be_bytes()])
}

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
pub fn id_v7_prefix(index: IdIndex, millis: u64) -> [u8; ID_V7_PREFIX_LEN] {
    debug_assert!(millis >> 48 == 0);
    joined(index.v7(), &[&millis.to_be_bytes()[2..]])
}

/// Version-7 ids of a millisecond that one fold brought, or a part of them.
///
/// Order: millisecond, fold, part. `first_block` is the first block of the fold, `part` counts from 0.
pub fn id_v7(index: IdIndex, millis: u64, first_block: BlockNumber, part: u32) -> [u8; ID_V7_LEN] {
    let millis = id_v7_prefix(index, millis);
    let first_block = first_block.get().to_be_bytes();
    joined(index.v7(), &[&millis[1..], &first_block, &part.to_be_bytes()])
}

/// Millisecond, first block and part of an [`id_v7`] key of that index; `None` for any other key.
pub fn decode_id_v7(index: IdIndex, key: &[u8]) -> Option<(u64, BlockNumber, u32)> {
    let body: &[u8; ID_V7_LEN - 1] = body(key, index.v7())?;
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(&body[..6]);
    let first_block = BlockNumber::new(u64::from_be_bytes(part(body, 6)));
    Some((u64::from_be_bytes(millis), first_block, u32::from_be_bytes(part(body, 14))))
}

/// An id that is not version 7. Order: by id.
pub fn id_other(index: IdIndex, id: RequestId) -> [u8; ID_OTHER_LEN] {
    joined(index.other(), &[&id.get().to_be_bytes()])
}

/// The id of an [`id_other`] key of that index; `None` for any other key.
pub fn decode_id_other(index: IdIndex, key: &[u8]) -> Option<RequestId> {
    body(key, index.other()).map(|body| RequestId::new(u128::from_be_bytes(*body)))
}

/// An open hold. Order: by token.
pub fn hold(token: Token) -> [u8; 17] {
    joined(KeyKind::Hold, &[&token.request().get().to_be_bytes()])
}

/// The token of a [`hold`] key; `None` for any other key.
pub fn decode_hold(key: &[u8]) -> Option<Token> {
    let body = body(key, KeyKind::Hold)?;
    Some(Token::of(RequestId::new(u128::from_be_bytes(*body))))
}

/// What an open order is. Order: by id.
pub fn order(order: RequestId) -> [u8; 17] {
    joined(KeyKind::Order, &[&order.get().to_be_bytes()])
}

/// The order of an [`order`] key; `None` for any other key.
pub fn decode_order(key: &[u8]) -> Option<RequestId> {
    body(key, KeyKind::Order).map(|body| RequestId::new(u128::from_be_bytes(*body)))
}

/// How an open order stands. Order: by id.
pub fn order_state(order: RequestId) -> [u8; 17] {
    joined(KeyKind::OrderState, &[&order.get().to_be_bytes()])
}

/// The order of an [`order_state`] key; `None` for any other key.
pub fn decode_order_state(key: &[u8]) -> Option<RequestId> {
    body(key, KeyKind::OrderState).map(|body| RequestId::new(u128::from_be_bytes(*body)))
}

/// The price of a market's last trade. Order: by market.
pub fn last_price(market: MarketId) -> [u8; 5] {
    joined(KeyKind::LastPrice, &[&market.get().to_be_bytes()])
}

/// The market of a [`last_price`] key; `None` for any other key.
pub fn decode_last_price(key: &[u8]) -> Option<MarketId> {
    body(key, KeyKind::LastPrice).map(|body| MarketId::new(u32::from_be_bytes(*body)))
}

/// A commit with trades of a market. Order: market, seq.
pub fn trade(market: MarketId, seq: CommitSeq) -> [u8; TRADE_LEN] {
    joined(KeyKind::Trade, &[&market.get().to_be_bytes(), &seq.get().to_be_bytes()])
}

/// Market and seq of a [`trade`] key; `None` for any other key.
pub fn decode_trade(key: &[u8]) -> Option<(MarketId, CommitSeq)> {
    let body: &[u8; TRADE_LEN - 1] = body(key, KeyKind::Trade)?;
    let market = MarketId::new(u32::from_be_bytes(part(body, 0)));
    Some((market, CommitSeq::new(u64::from_be_bytes(part(body, 4)))))
}

/// The order that an account placed under a seq. Order: account, newest first.
pub fn placed_by(account: AccountId, since: CommitSeq) -> [u8; PLACED_BY_LEN] {
    let newest_first = (!since.get()).to_be_bytes();
    joined(KeyKind::PlacedBy, &[&account.get().to_be_bytes(), &newest_first])
}

/// Account and seq of a [`placed_by`] key; `None` for any other key.
pub fn decode_placed_by(key: &[u8]) -> Option<(AccountId, CommitSeq)> {
    let body: &[u8; PLACED_BY_LEN - 1] = body(key, KeyKind::PlacedBy)?;
    let account = AccountId::new(u64::from_be_bytes(part(body, 0)));
    Some((account, CommitSeq::new(!u64::from_be_bytes(part(body, 8)))))
}

/// What all [`open_of`] keys of an account begin with.
pub fn open_of_prefix(account: AccountId) -> [u8; 9] {
    joined(KeyKind::OpenOf, &[&account.get().to_be_bytes()])
}

/// An open order of an account. Order: account, order.
pub fn open_of(account: AccountId, order: RequestId) -> [u8; OPEN_OF_LEN] {
    let account = account.get().to_be_bytes();
    joined(KeyKind::OpenOf, &[&account, &order.get().to_be_bytes()])
}

/// Account and order of an [`open_of`] key; `None` for any other key.
pub fn decode_open_of(key: &[u8]) -> Option<(AccountId, RequestId)> {
    let body: &[u8; OPEN_OF_LEN - 1] = body(key, KeyKind::OpenOf)?;
    let account = AccountId::new(u64::from_be_bytes(part(body, 0)));
    Some((account, RequestId::new(u128::from_be_bytes(part(body, 8)))))
}

/// A market. Order: by number.
pub fn market(market: MarketId) -> [u8; 5] {
    joined(KeyKind::Market, &[&market.get().to_be_bytes()])
}

/// The market of a [`market`] key; `None` for any other key.
pub fn decode_market(key: &[u8]) -> Option<MarketId> {
    body(key, KeyKind::Market).map(|body| MarketId::new(u32::from_be_bytes(*body)))
}

/// A market that is halted. Order: by number.
pub fn halted(market: MarketId) -> [u8; 5] {
    joined(KeyKind::Halted, &[&market.get().to_be_bytes()])
}

/// The market of a [`halted`] key; `None` for any other key.
pub fn decode_halted(key: &[u8]) -> Option<MarketId> {
    body(key, KeyKind::Halted).map(|body| MarketId::new(u32::from_be_bytes(*body)))
}

/// `tag | API key`: what it is.
pub fn api_key(key: KeyNumber) -> [u8; 5] {
    joined(KeyKind::ApiKey, &[&key.0.to_be_bytes()])
}

/// The API key of an [`api_key`] key; `None` for any other key.
pub fn decode_api_key(key: &[u8]) -> Option<KeyNumber> {
    body(key, KeyKind::ApiKey).map(|body| KeyNumber(u32::from_be_bytes(*body)))
}

/// `tag | API key`: it is revoked.
pub fn revoked(key: KeyNumber) -> [u8; 5] {
    joined(KeyKind::Revoked, &[&key.0.to_be_bytes()])
}

/// The API key of a [`revoked`] key; `None` for any other key.
pub fn decode_revoked(key: &[u8]) -> Option<KeyNumber> {
    body(key, KeyKind::Revoked).map(|body| KeyNumber(u32::from_be_bytes(*body)))
}

/// `tag`: what the venue takes.
pub const OPERATION: [u8; 1] = [KeyKind::Operation as u8];

/// The deposit of an asset that has a reference of that hash. Order: asset, hash.
pub fn credited(asset: AssetId, reference: u128) -> [u8; CREDITED_LEN] {
    joined(KeyKind::Credited, &[&asset.get().to_be_bytes(), &reference.to_be_bytes()])
}

/// Asset and hash of a [`credited`] key; `None` for any other key.
pub fn decode_credited(key: &[u8]) -> Option<(AssetId, u128)> {
    let body: &[u8; CREDITED_LEN - 1] = body(key, KeyKind::Credited)?;
    let asset = AssetId::new(u32::from_be_bytes(part(body, 0)));
    Some((asset, u128::from_be_bytes(part(body, 4))))
}

/// Writes over `into`: a version of a caller's key.
///
/// Order: length of the key, key, newest first. All versions of a key, and nothing else, share
/// what [`record_prefix`] cuts off.
pub fn record(key: &Key, seq: CommitSeq, into: &mut Vec<u8>) {
    let length = u16::try_from(key.bytes().len()).expect("KEY_BYTES_MAX fits");
    into.clear();
    into.push(KeyKind::Record as u8);
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(key.bytes());
    into.extend_from_slice(&(!seq.get()).to_be_bytes());
}

/// What all [`record`] keys of a caller's key begin with: all but the seq; `None` if it is too short
/// for one, or another key.
pub fn record_prefix(row: &[u8]) -> Option<&[u8]> {
    let is_record = row.first() == Some(&(KeyKind::Record as u8));
    let (prefix, _) = row.split_at_checked(row.len().checked_sub(RECORD_SEQ_LEN)?)?;
    (is_record && prefix.len() >= RECORD_HEAD_LEN).then_some(prefix)
}

/// The bytes of the caller's key and the seq of a [`record`] key; `None` for any other key.
pub fn decode_record(row: &[u8]) -> Option<(&[u8], CommitSeq)> {
    let prefix = record_prefix(row)?;
    let (head, key) = prefix.split_at(RECORD_HEAD_LEN);
    let length = u16::from_be_bytes(part(head, 1));
    if usize::from(length) != key.len() {
        return None;
    }
    let seq = u64::from_be_bytes(part(row, prefix.len()));
    Some((key, CommitSeq::new(!seq)))
}

/// The block whose first commit has that seq. Order: by seq.
pub fn block_of_seq(first_seq: CommitSeq) -> [u8; 9] {
    joined(KeyKind::BlockOfSeq, &[&first_seq.get().to_be_bytes()])
}

/// The first seq of a [`block_of_seq`] key; `None` for any other key.
pub fn decode_block_of_seq(key: &[u8]) -> Option<CommitSeq> {
    body(key, KeyKind::BlockOfSeq).map(|body| CommitSeq::new(u64::from_be_bytes(*body)))
}

/// The end of the block with that time and number. Order: time, number.
pub fn position_at(time: Time, block: BlockNumber) -> [u8; POSITION_AT_LEN] {
    joined(KeyKind::PositionAt, &[&time.get().to_be_bytes(), &block.get().to_be_bytes()])
}

/// Time and number of a [`position_at`] key; `None` for any other key.
pub fn decode_position_at(key: &[u8]) -> Option<(Time, BlockNumber)> {
    let body: &[u8; POSITION_AT_LEN - 1] = body(key, KeyKind::PositionAt)?;
    let time = Time::new(u64::from_be_bytes(part(body, 0)));
    Some((time, BlockNumber::new(u64::from_be_bytes(part(body, 8)))))
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
mod tests;
