//! Commits and refusals as bytes, and back.
//!
//! | part of a commit | bytes |
//! |---|---|
//! | request id | raw 16, most significant byte first |
//! | digest | raw 8 |
//! | command and deadline | see [`super::command`] |
//! | each row: balance after | control byte (count of available, times 16 the count of held), available, held |
//!
//! | part of a refusal | bytes |
//! |---|---|
//! | request id, digest | as above |
//! | code of the reason | 1 |
//! | seq of the state that was seen | varint |
//! | what the reason says | varints and text |
//!
//! A commit's seq is not written: it is the block's first seq plus its place. Nor are the keys of
//! its rows and the balances before, which follow from the command.

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use super::Damage;
use super::bytes::{Flaw, Reader, Writer, count};
use super::command;
use crate::error::Reject;
use crate::message::{Op, Row, Side, Txn};
use crate::request::{Change, Command, LegReceipt, Receipt, Refusal, Request};
use crate::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, ChainId, CommitSeq, Leg, RequestId, Time,
};

/// Id and digest, with which every record begins.
pub(super) const PREAMBLE_LEN: usize = 16 + 8;
/// Longest text that a refusal keeps; what is longer is cut.
const REASON_BYTES_MAX: usize = 1_024;
/// More than a row can take: control byte, available, held.
const ROW_BYTES_MAX: usize = 1 + 16 + 16;

/// Codes of the reasons. Persisted: never renumbered, never used again.
const REQUEST_ID_REUSED: u8 = 1;
const EXPIRED: u8 = 2;
const UNKNOWN_ASSET: u8 = 3;
const UNKNOWN_CHAIN: u8 = 4;
const UNKNOWN_ACCOUNT: u8 = 5;
const ALREADY_EXISTS: u8 = 6;
const ALREADY_LINKED: u8 = 7;
const NOT_LINKED: u8 = 8;
const SUPPLY_EXCEEDED: u8 = 9;
const INSUFFICIENT_FUNDS: u8 = 10;

/// The digest of a request: xxh3_64 of the stored encoding of its command and deadline.
///
/// `scratch` is overwritten; keep it for the next call.
pub fn digest(command: &Command, deadline: Time, scratch: &mut Vec<u8>) -> u64 {
    let mut writer = Writer::overwrite(std::mem::take(scratch));
    command::write(command, deadline, &mut writer);
    let digest = xxh3_64(writer.written());
    *scratch = writer.into_buffer();
    digest
}

/// Appends the stored encoding of command and deadline.
pub fn encode_command(command: &Command, deadline: Time, into: &mut Vec<u8>) {
    let mut writer = Writer::append_to(std::mem::take(into));
    command::write(command, deadline, &mut writer);
    *into = writer.into_bytes();
}

/// The inverse of [`encode_command`]; the bytes must hold nothing else.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode_command(bytes: &[u8]) -> Result<(Command, Time), Damage> {
    let mut reader = Reader::new(bytes, 0);
    let decoded = command::read(&mut reader).map_err(|flaw| Damage::Broken(flaw.into()))?;
    if !reader.is_at_end() {
        return Err(Damage::Broken("is longer than the command in it".into()));
    }
    Ok(decoded)
}

/// One commit.
#[derive(Clone, Debug)]
pub struct CommitRecord {
    /// Its seq.
    pub seq: CommitSeq,
    /// Id, digest, deadline, command and operations. Its mask of shards is that of a single shard.
    pub txn: Txn,
    /// The balance after it of each of `txn.ops()`, in that order.
    pub after: SmallVec<[Balance; 4]>,
}

impl CommitRecord {
    /// Every operation, with its balance before and after.
    pub fn rows(&self) -> impl Iterator<Item = (Op, Row)> + '_ {
        self.txn
            .ops()
            .zip(&self.after)
            .map(|(op, &after)| (op, Row { before: undo(op, after), after }))
    }

    /// The receipt; `time` is the block's.
    pub fn receipt(&self, time: Time) -> Receipt {
        let change = |key: BalanceKey| {
            let (_, row) =
                self.rows().find(|(op, _)| op.key == key).expect("every leg has its rows");
            Change { before: row.before.total(), after: row.after.total() }
        };
        let leg_receipt = |leg: &Leg| {
            let of = |account| change(BalanceKey { account, asset: leg.asset });
            LegReceipt { leg: *leg, from: of(leg.from), to: of(leg.to) }
        };
        let command = self.txn.command.clone();
        let (legs, change) = match &command {
            Command::Swap(swap) => (swap.legs().iter().map(leg_receipt).collect(), None),
            Command::Deposit(of) | Command::Withdraw(of) => {
                let key = BalanceKey { account: of.account, asset: of.asset };
                (SmallVec::new(), Some(change(key)))
            }
            _ => (SmallVec::new(), None),
        };
        let (request_id, commit_seq) = (self.txn.id, self.seq);
        Receipt { request_id, commit_seq, time, command, legs, change }
    }

    /// Reads the record at `from`.
    pub(super) fn read(seq: CommitSeq, from: &mut Reader<'_>) -> Result<Self, Flaw> {
        let (id, digest) = read_preamble(from)?;
        let (command, deadline) = command::read(from)?;
        let txn = Txn::new(Request { id, deadline, command }, digest, 1)
            .map_err(|_| "has a command that cannot be")?;
        let mut after = SmallVec::new();
        for op in txn.ops() {
            let balance = read_balance(from)?;
            check_possible(op, balance)?;
            after.push(balance);
        }
        Ok(Self { seq, txn, after })
    }
}

/// The balance before, from the one after.
fn undo(op: Op, after: Balance) -> Balance {
    let available = match op.side {
        Side::Debit => after.available.checked_add(op.amount),
        Side::Credit => after.available.checked_sub(op.amount),
    };
    Balance { available: available.expect("checked when the record was read"), held: after.held }
}

/// That [`undo`] and totals stay within 128 bits.
fn check_possible(op: Op, after: Balance) -> Result<(), Flaw> {
    let before = match op.side {
        Side::Debit => after.available.checked_add(op.amount),
        Side::Credit => after.available.checked_sub(op.amount),
    };
    let total = |available: Amount| available.checked_add(after.held);
    match (before.and_then(total), total(after.available)) {
        (Some(_), Some(_)) => Ok(()),
        _ => Err("has a balance that its operation cannot lead to"),
    }
}

/// Writes a commit and returns how many rows it has.
#[inline]
pub(super) fn write_commit(
    txn: &Txn,
    after: impl IntoIterator<Item = Balance>,
    to: &mut Writer,
) -> u32 {
    write_preamble(txn, to);
    command::write(&txn.command, txn.deadline, to);
    let mut after = after.into_iter();
    let mut rows = 0;
    // A block with a row too few or too many could not be read back: better no block than that.
    for _ in txn.ops() {
        write_balance(after.next().expect("there is a balance for each operation"), to);
        rows += 1;
    }
    assert!(after.next().is_none(), "there is an operation for each balance");
    rows
}

#[inline]
fn write_preamble(txn: &Txn, to: &mut Writer) {
    to.reserve(PREAMBLE_LEN);
    to.raw(txn.id.get().to_be_bytes());
    to.raw(txn.digest.to_le_bytes());
}

#[inline]
fn read_preamble(from: &mut Reader<'_>) -> Result<(RequestId, u64), Flaw> {
    let id = RequestId::new(u128::from_be_bytes(from.raw()?));
    Ok((id, u64::from_le_bytes(from.raw()?)))
}

#[inline]
fn write_balance(balance: Balance, to: &mut Writer) {
    to.reserve(ROW_BYTES_MAX);
    let (available, held) = (balance.available.get(), balance.held.get());
    let (availables, helds) = (count(available), count(held));
    to.byte(availables | helds << 4);
    to.counted(available, availables);
    to.counted(held, helds);
}

/// Reads the balance of one row.
#[inline]
pub(super) fn read_balance(from: &mut Reader<'_>) -> Result<Balance, Flaw> {
    let control = from.byte()?;
    let available = Amount::new(from.counted(control & 0xF)?);
    let held = Amount::new(from.counted(control >> 4)?);
    Ok(Balance { available, held })
}

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalRecord {
    /// The request.
    pub id: RequestId,
    /// Hash of everything but the id.
    pub digest: u64,
    /// The state that was seen.
    pub seq: CommitSeq,
    /// Why.
    pub reject: Reject,
}

impl RefusalRecord {
    /// As it is answered; `time` is the block's.
    pub fn refusal(self, time: Time) -> Refusal {
        Refusal { request_id: self.id, seq: self.seq, time, reject: self.reject }
    }

    /// Reads the record at `from`.
    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Flaw> {
        let (id, digest) = read_preamble(from)?;
        let code = from.byte()?;
        let seq = CommitSeq::new(from.varint_as()?);
        Ok(Self { id, digest, seq, reject: read_reject(code, from)? })
    }
}

/// Whether the refusal at `from` says that its id belongs to an earlier request.
#[inline]
pub(super) fn is_reuse(mut from: Reader<'_>) -> bool {
    from.skip(PREAMBLE_LEN);
    from.byte() == Ok(REQUEST_ID_REUSED)
}

/// Writes a refusal.
pub(super) fn write_refusal(txn: &Txn, reject: &Reject, seq: CommitSeq, to: &mut Writer) {
    write_preamble(txn, to);
    to.slice(&[reject_code(reject)]);
    to.varint(seq.get());
    match reject {
        Reject::Malformed(_) | Reject::RequestIdReused | Reject::Expired => {}
        Reject::UnknownAsset(asset) | Reject::SupplyExceeded(asset) => to.varint(asset.get()),
        Reject::UnknownChain(chain) => to.varint(chain.get()),
        Reject::UnknownAccount(account) => to.varint(account.get()),
        Reject::AlreadyExists(why) | Reject::AlreadyLinked(why) => to.text(bounded(why)),
        Reject::NotLinked { account, chain } => {
            to.varint(account.get());
            to.varint(chain.get());
        }
        Reject::InsufficientFunds { account, asset, short_by, seq } => {
            to.varint(account.get());
            to.varint(asset.get());
            to.varint(short_by.get());
            to.varint(seq.get());
        }
    }
}

fn reject_code(reject: &Reject) -> u8 {
    match reject {
        Reject::Malformed(_) => unreachable!("what is malformed leaves no trace"),
        Reject::RequestIdReused => REQUEST_ID_REUSED,
        Reject::Expired => EXPIRED,
        Reject::UnknownAsset(_) => UNKNOWN_ASSET,
        Reject::UnknownChain(_) => UNKNOWN_CHAIN,
        Reject::UnknownAccount(_) => UNKNOWN_ACCOUNT,
        Reject::AlreadyExists(_) => ALREADY_EXISTS,
        Reject::AlreadyLinked(_) => ALREADY_LINKED,
        Reject::NotLinked { .. } => NOT_LINKED,
        Reject::SupplyExceeded(_) => SUPPLY_EXCEEDED,
        Reject::InsufficientFunds { .. } => INSUFFICIENT_FUNDS,
    }
}

fn read_reject(code: u8, from: &mut Reader<'_>) -> Result<Reject, Flaw> {
    let account = |from: &mut Reader<'_>| from.varint_as().map(AccountId::new);
    let asset = |from: &mut Reader<'_>| from.varint_as().map(AssetId::new);
    let chain = |from: &mut Reader<'_>| from.varint_as().map(ChainId::new);
    Ok(match code {
        REQUEST_ID_REUSED => Reject::RequestIdReused,
        EXPIRED => Reject::Expired,
        UNKNOWN_ASSET => Reject::UnknownAsset(asset(from)?),
        UNKNOWN_CHAIN => Reject::UnknownChain(chain(from)?),
        UNKNOWN_ACCOUNT => Reject::UnknownAccount(account(from)?),
        ALREADY_EXISTS => Reject::AlreadyExists(from.text(REASON_BYTES_MAX)?.into()),
        ALREADY_LINKED => Reject::AlreadyLinked(from.text(REASON_BYTES_MAX)?.into()),
        NOT_LINKED => Reject::NotLinked { account: account(from)?, chain: chain(from)? },
        SUPPLY_EXCEEDED => Reject::SupplyExceeded(asset(from)?),
        INSUFFICIENT_FUNDS => Reject::InsufficientFunds {
            account: account(from)?,
            asset: asset(from)?,
            short_by: Amount::new(from.varint()?),
            seq: CommitSeq::new(from.varint_as()?),
        },
        _ => return Err("is refused for a reason that does not exist"),
    })
}

/// As much of a text as a refusal keeps.
fn bounded(text: &str) -> &str {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The quick way through the plainest commit, a swap of two legs in two assets: shows its four
/// balances and ends behind it. `false`, and wherever it came to, if it is any other.
#[inline]
pub(super) fn read_pair(
    from: &mut Reader<'_>,
    mut show: impl FnMut(BalanceKey, Balance),
) -> Result<bool, Flaw> {
    from.skip(PREAMBLE_LEN);
    let (kind, _) = command::read_kind(from)?;
    if kind != command::SWAP || command::read_legs_len(from)? != 2 {
        return Ok(false);
    }
    let first = command::read_leg(None, from)?;
    let second = command::read_leg(Some(&first), from)?;
    if first.asset == second.asset {
        return Ok(false);
    }
    for leg in [first, second] {
        for account in [leg.from, leg.to] {
            show(BalanceKey { account, asset: leg.asset }, read_balance(from)?);
        }
    }
    Ok(true)
}
