//! Commits as bytes, and back.
//!
//! | part of a commit | bytes |
//! |---|---|
//! | request id | raw 16, most significant byte first |
//! | digest | raw 8 |
//! | command and deadline | see [`super::command`] |
//! | what the coordinator added | see [`super::hold`] |
//! | each row: balance after | control byte (count of available, times 16 the count of held), available, held |
//!
//! A commit's seq is not written: it is the block's first seq plus its place. Nor are the keys of
//! its rows and the balances before, which follow from the command.

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use super::Damage;
use super::bytes::{Flaw, Reader, Writer, count};
use super::{command, hold};
use crate::access::Caller;
use crate::market::Settlement;
use crate::message::{Op, Row, Side, Txn};
use crate::request::{
    Action, Change, Command, Hold, HoldReceipt, LegReceipt, Purpose, Receipt, Request, Transfer,
};
use crate::store::orders::Traded;
use crate::types::{
    Amount, Balance, BalanceKey, CommitSeq, Leg, RequestId, Resolution, Time, Token,
};

/// Id and digest, with which every record begins.
pub(super) const PREAMBLE_LEN: usize = 16 + 8;
/// More than a row can take: control byte, available, held.
const ROW_BYTES_MAX: usize = 1 + 16 + 16;

/// The digest of a request: xxh3_64 of the stored encoding of its command and deadline.
///
/// `scratch` is overwritten; keep it for the next call.
pub fn digest(command: &Command, deadline: Time, scratch: &mut Vec<u8>) -> u64 {
    let mut writer = Writer::overwrite(std::mem::take(scratch));
    command::write(command, deadline, Caller::Trusted, &mut writer);
    let digest = xxh3_64(writer.written());
    *scratch = writer.into_buffer();
    digest
}

/// Appends the stored encoding of command and deadline.
pub fn encode_command(command: &Command, deadline: Time, into: &mut Vec<u8>) {
    let mut writer = Writer::append_to(std::mem::take(into));
    command::write(command, deadline, Caller::Trusted, &mut writer);
    *into = writer.into_bytes();
}

/// The inverse of [`encode_command`]; the bytes must hold nothing else.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode_command(bytes: &[u8]) -> Result<(Command, Time), Damage> {
    let mut reader = Reader::new(bytes, 0);
    let (command, deadline, caller) =
        command::read(&mut reader).map_err(|flaw| Damage::Broken(flaw.into()))?;
    if caller != Caller::Trusted {
        return Err(Damage::Broken("says who asked, where nobody did".into()));
    }
    if !reader.is_at_end() {
        return Err(Damage::Broken("is longer than the command in it".into()));
    }
    Ok((command, deadline))
}

/// One commit.
#[derive(Clone, Debug)]
pub struct CommitRecord {
    /// Its seq.
    pub seq: CommitSeq,
    /// Id, digest, deadline, command, what the coordinator added, and operations. Its mask of shards
    /// is that of a single shard.
    pub txn: Txn,
    /// The balance after it of each of `txn.row_ops()`, in that order.
    pub after: SmallVec<[Balance; 4]>,
}

impl CommitRecord {
    /// Every operation that changes a balance, with the balance before and after.
    pub fn rows(&self) -> impl Iterator<Item = (Op, Row)> + '_ {
        self.txn.row_ops().zip(&self.after).map(|(op, &after)| {
            let before = op.undo(after).expect("checked when the record was read");
            (op, Row { before, after })
        })
    }

    /// The hold that it made; `None` if it made none.
    pub fn made(&self) -> Option<Hold> {
        let (purpose, exclusive) = match &self.txn.command {
            Command::Prepare(prepare) => (Purpose::Swap(prepare.swap.clone()), prepare.exclusive),
            Command::Withdraw(transfer) => (Purpose::Withdrawal(transfer.clone()), false),
            _ => return None,
        };
        let (token, expires_at) = (Token::of(self.txn.id), self.txn.expires_at);
        Some(Hold { token, purpose, exclusive, expires_at, since: self.seq })
    }

    /// What it did to orders; `None` if it is no market's.
    pub fn traded(&self) -> Option<Traded> {
        let settlement = self.txn.settlement()?.clone();
        Some(traded(self.txn.id, self.txn.command.clone(), self.txn.expires_at, settlement))
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
        Receipt {
            request_id: self.txn.id,
            commit_seq: self.seq,
            time,
            caller: self.txn.caller,
            command: self.txn.command.clone(),
            legs: self.legs_moved().iter().map(leg_receipt).collect(),
            change: self
                .transfer()
                .map(|of| change(BalanceKey { account: of.account, asset: of.asset })),
            hold: self.hold_receipt(),
            settlement: self.txn.settlement().cloned().map(Box::new),
        }
    }

    /// The legs that moved, rather than being set aside or going back.
    fn legs_moved(&self) -> &[Leg] {
        match &self.txn.command {
            Command::Swap(_) | Command::Transact(_) => self.txn.legs(),
            Command::Resolve(resolve) if resolve.action == Action::Commit => self.txn.legs(),
            _ => &[],
        }
    }

    /// The deposit, or the withdrawal that this is a stage of.
    fn transfer(&self) -> Option<&Transfer> {
        match (&self.txn.command, self.txn.hold().map(|hold| &hold.purpose)) {
            (Command::Deposit(of) | Command::Withdraw(of), _) => Some(of),
            (_, Some(Purpose::Withdrawal(of))) => Some(of),
            _ => None,
        }
    }

    fn hold_receipt(&self) -> Option<HoldReceipt> {
        let expires_at = self.txn.expires_at;
        match &self.txn.command {
            Command::Prepare(_) | Command::Withdraw(_) => {
                Some(HoldReceipt { token: Token::of(self.txn.id), expires_at })
            }
            Command::Resolve(resolve) => Some(HoldReceipt { token: resolve.token, expires_at }),
            _ => None,
        }
    }

    /// Checks the record at `from`, and ends behind it; says whether it has events.
    pub(super) fn check(from: &mut Reader<'_>) -> Result<bool, Flaw> {
        let mut quick = from.clone();
        if is_sound_pair(&mut quick) == Ok(true) {
            *from = quick;
            return Ok(false);
        }
        let kind = kind(from.clone())?;
        Self::read(CommitSeq::default(), from)?;
        Ok(!command::is_eventless(kind))
    }

    /// Reads the record at `from`.
    pub(super) fn read(seq: CommitSeq, from: &mut Reader<'_>) -> Result<Self, Flaw> {
        let (id, digest) = read_preamble(from)?;
        let (command, deadline, caller) = command::read(from)?;
        let txn = hold::read_txn(Request { id, deadline, caller, command }, digest, from)?;
        let mut after = SmallVec::new();
        for op in txn.row_ops() {
            let balance = read_balance(from)?;
            if op.undo(balance).is_none() {
                return Err("has a balance that its operation cannot lead to");
            }
            after.push(balance);
        }
        Ok(Self { seq, txn, after })
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
    command::write(&txn.command, txn.deadline, txn.caller, to);
    if !matches!(txn.command, Command::Swap(_)) {
        hold::write_added(txn, to);
    }
    let mut after = after.into_iter();
    let mut rows = 0;
    // A block with a row too few or too many could not be read back: better no block than that.
    for _ in txn.row_ops() {
        write_balance(after.next().expect("there is a balance for each operation"), to);
        rows += 1;
    }
    assert!(after.next().is_none(), "there is an operation for each balance");
    rows
}

#[inline]
pub(super) fn write_preamble(txn: &Txn, to: &mut Writer) {
    to.reserve(PREAMBLE_LEN);
    to.raw(txn.id.get().to_be_bytes());
    to.raw(txn.digest.to_le_bytes());
}

#[inline]
pub(super) fn read_preamble(from: &mut Reader<'_>) -> Result<(RequestId, u64), Flaw> {
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

fn traded(request: RequestId, command: Command, ends_at: Time, settlement: Settlement) -> Traded {
    let placed = match command {
        Command::Order(order) => Some((*order, ends_at)),
        _ => None,
    };
    Traded { request, placed, settlement }
}

/// The quick way to what a commit did to orders, without what only its receipt needs; `None` if it is no
/// market's. Ends before its balances: one for each of the settlement's moves.
pub(super) fn read_traded(from: &mut Reader<'_>) -> Result<Option<Traded>, Flaw> {
    if !command::is_of_market(kind(from.clone())?) {
        return Ok(None);
    }
    let (id, _) = read_preamble(from)?;
    let (command, ..) = command::read(from)?;
    let (ends_at, settlement) = hold::read_settled(&command, from)?;
    Ok(Some(traded(id, command, ends_at, settlement)))
}

/// The name of the hold that a commit made: the request's id, with which its record begins.
pub(super) fn token(record: &[u8]) -> Token {
    let id = record.first_chunk().expect("a record is longer than an id");
    Token::of(RequestId::new(u128::from_be_bytes(*id)))
}

/// The kind of the commit at `from`.
#[inline]
pub(super) fn kind(mut from: Reader<'_>) -> Result<u8, Flaw> {
    from.skip(PREAMBLE_LEN);
    Ok(command::read_kind(&mut from)?.0)
}

/// The hold that the commit at `from` ends, and how; `None` if it ends none. Looks no further.
#[inline]
pub(super) fn resolution(mut from: Reader<'_>) -> Result<Option<(Token, Resolution)>, Flaw> {
    from.skip(PREAMBLE_LEN);
    let (kind, ..) = command::read_kind(&mut from)?;
    match command::action(kind) {
        Some(action) => Ok(Some((command::read_token(&mut from)?, action.resolution()))),
        None => Ok(None),
    }
}

/// The quick way through the plainest commit, a swap of two legs in two assets: shows its four
/// balances and ends behind it. `false`, and wherever it came to, if it is any other.
#[inline]
pub(super) fn read_pair(
    from: &mut Reader<'_>,
    mut show: impl FnMut(BalanceKey, Balance),
) -> Result<bool, Flaw> {
    from.skip(PREAMBLE_LEN);
    let (kind, ..) = command::read_kind(from)?;
    if kind != command::SWAP {
        return Ok(false);
    }
    let Some(legs) = command::read_pair(from)? else {
        return Ok(false);
    };
    for leg in legs {
        for account in [leg.from, leg.to] {
            show(BalanceKey { account, asset: leg.asset }, read_balance(from)?);
        }
    }
    Ok(true)
}

/// The same of the plainest hold, when it is made and when it is ended. Only a commit pays the payees.
#[inline]
pub(super) fn read_held_pair(
    from: &mut Reader<'_>,
    mut show: impl FnMut(BalanceKey, Balance),
) -> Result<bool, Flaw> {
    from.skip(PREAMBLE_LEN);
    let (kind, ..) = command::read_kind(from)?;
    let pair = if command::is_prepare(kind) {
        command::read_pair(from)?
    } else if command::action(kind).is_some() {
        command::read_token(from)?;
        hold::read_pair(from)?
    } else {
        None
    };
    // Of any other the reader is wherever it came to: nothing may be read from there on.
    let Some(legs) = pair else { return Ok(false) };
    if command::is_prepare(kind) {
        command::skip_terms(from)?;
        hold::skip_time(from);
    }
    let is_paid = command::action(kind) == Some(Action::Commit);
    for leg in legs {
        show(BalanceKey { account: leg.from, asset: leg.asset }, read_balance(from)?);
        if is_paid {
            show(BalanceKey { account: leg.to, asset: leg.asset }, read_balance(from)?);
        }
    }
    Ok(true)
}

/// The quick way to check the same commit: ends behind it if it is the plainest one, and sound.
/// Otherwise [`CommitRecord::read`] has to say what it is, or what is wrong with it.
#[inline]
fn is_sound_pair(from: &mut Reader<'_>) -> Result<bool, Flaw> {
    from.skip(PREAMBLE_LEN);
    let (kind, ..) = command::read_kind(from)?;
    if kind != command::SWAP {
        return Ok(false);
    }
    let Some(legs) = command::read_pair(from)? else {
        return Ok(false);
    };
    for Leg { from: payer, to: payee, asset, amount } in legs {
        if amount == Amount::ZERO || payer == payee {
            return Ok(false);
        }
        for (account, side) in [(payer, Side::Debit), (payee, Side::Credit)] {
            let op = Op::new(BalanceKey { account, asset }, side, amount);
            if op.undo(read_balance(from)?).is_none() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
