//! Requests that changed nothing, as bytes, and back: refusals, and repeats of what was done before.
//!
//! | part | bytes |
//! |---|---|
//! | request id | raw 16, most significant byte first |
//! | digest | raw 8 |
//! | code of the reason, or 128 for a repeat; plus 64 if a caller follows | 1 |
//! | caller | number of the API key: varint; absent for none |
//! | seq of the state that was seen | varint |
//! | what the reason says | varints, blobs and text |
//! | of a repeat: the seq of what did it first | varint |

use super::bytes::{Flaw, Reader, Writer};
use super::record::{PREAMBLE_LEN, read_preamble, write_preamble};
use super::{access, command, fault, transact};
use crate::access::Caller;
use crate::error::Reject;
use crate::message::Txn;
use crate::request::Refusal;
use crate::types::{AccountId, Amount, CommitSeq, RequestId, Resolution, Time};

/// Longest text that a refusal keeps; what is longer is cut.
const REASON_BYTES_MAX: usize = 1_024;

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
const UNKNOWN_TOKEN: u8 = 11;
const ALREADY_RESOLVED: u8 = 12;
const ALREADY_CREDITED: u8 = 13;
const CONFLICT: u8 = 14;
const HELD_SHARE_EXCEEDED: u8 = 15;
const TOO_MANY_HOLDS: u8 = 16;
const LOCK_TIMEOUT: u8 = 17;
const ORDER: u8 = 18;
const FORBIDDEN: u8 = 19;
const RESTRICTED: u8 = 20;
const UNKNOWN_API_KEY: u8 = 21;
/// Not a reason: the request asked for what had been done before.
const REPEAT: u8 = 128;

/// What a request that changed nothing was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No, and why.
    Reject(Reject),
    /// It asked for what had been done before: the receipt of that seq is its answer.
    Done(CommitSeq),
}

/// One request that changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalRecord {
    /// The request.
    pub id: RequestId,
    /// Hash of everything but the id.
    pub digest: u64,
    /// Who asked.
    pub caller: Caller,
    /// The state that was seen.
    pub seq: CommitSeq,
    /// What it was answered.
    pub verdict: Verdict,
}

impl RefusalRecord {
    /// As it is answered, `None` if the answer is an earlier receipt ([`Verdict::Done`]); `time` is
    /// the block's.
    pub fn refusal(self, time: Time) -> Option<Refusal> {
        match self.verdict {
            Verdict::Reject(reject) => {
                let Self { id: request_id, seq, caller, .. } = self;
                Some(Refusal { request_id, seq, time, caller, reject })
            }
            Verdict::Done(_) => None,
        }
    }

    /// Reads the record at `from`.
    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Flaw> {
        let (id, digest) = read_preamble(from)?;
        let (code, caller) = command::read_caller(from.byte()?, from)?;
        let seq = command::read_seq(from)?;
        let verdict = match code {
            REPEAT => Verdict::Done(command::read_seq(from)?),
            code => Verdict::Reject(read_reject(code, from)?),
        };
        Ok(Self { id, digest, caller, seq, verdict })
    }
}

/// Whether the refusal at `from` says that its id belongs to an earlier request.
#[inline]
pub(super) fn is_reuse(mut from: Reader<'_>) -> bool {
    from.skip(PREAMBLE_LEN);
    matches!(from.byte(), Ok(code) if command::without_caller(code) == REQUEST_ID_REUSED)
}

/// Writes a repeat of what `first` did.
pub(super) fn write_repeat(txn: &Txn, first: CommitSeq, seq: CommitSeq, to: &mut Writer) {
    write_preamble(txn, to);
    write_code(REPEAT, txn, to);
    to.varint(seq.get());
    to.varint(first.get());
}

fn write_code(code: u8, txn: &Txn, to: &mut Writer) {
    to.slice(&[code | command::caller_flag(txn.caller)]);
    command::write_caller(txn.caller, to);
}

/// Writes a refusal.
pub(super) fn write_refusal(txn: &Txn, reject: &Reject, seq: CommitSeq, to: &mut Writer) {
    write_preamble(txn, to);
    write_code(code(reject), txn, to);
    to.varint(seq.get());
    match reject {
        Reject::Malformed(_) | Reject::RequestIdReused | Reject::Expired => {}
        Reject::UnknownToken(token) | Reject::LockTimeout { token } => {
            command::write_token(*token, to);
        }
        Reject::AlreadyResolved { token, how, seq } => {
            command::write_token(*token, to);
            to.slice(&[resolution_code(*how)]);
            to.varint(seq.get());
        }
        Reject::UnknownAsset(asset) | Reject::SupplyExceeded(asset) => to.varint(asset.get()),
        Reject::UnknownChain(chain) => to.varint(chain.get()),
        Reject::UnknownAccount(account) => to.varint(account.get()),
        Reject::AlreadyExists(why) | Reject::AlreadyLinked(why) => to.text(bounded(why)),
        Reject::AlreadyCredited { asset, seq } => {
            to.varint(asset.get());
            to.varint(seq.get());
        }
        Reject::NotLinked { account, chain } => {
            to.varint(account.get());
            to.varint(chain.get());
        }
        Reject::Conflict { subject } => transact::write_subject(subject, to),
        Reject::HeldShareExceeded { account, asset, max_percent } => {
            to.varint(account.get());
            to.varint(asset.get());
            to.slice(&[*max_percent]);
        }
        Reject::InsufficientFunds { account, asset, short_by, seq } => {
            to.varint(account.get());
            to.varint(asset.get());
            to.varint(short_by.get());
            to.varint(seq.get());
        }
        Reject::TooManyHolds { account, max } => {
            write_optional(*account, to);
            to.varint(*max);
        }
        Reject::Order(wrong) => fault::write(wrong, to),
        Reject::Forbidden { account } => write_optional(*account, to),
        Reject::Restricted { operation } => access::write_operation(*operation, to),
        Reject::UnknownApiKey(name) => to.text(name),
    }
}

fn code(reject: &Reject) -> u8 {
    match reject {
        Reject::Malformed(_) => unreachable!("what is malformed leaves no trace"),
        Reject::RequestIdReused => REQUEST_ID_REUSED,
        Reject::Expired => EXPIRED,
        Reject::UnknownToken(_) => UNKNOWN_TOKEN,
        Reject::AlreadyResolved { .. } => ALREADY_RESOLVED,
        Reject::UnknownAsset(_) => UNKNOWN_ASSET,
        Reject::UnknownChain(_) => UNKNOWN_CHAIN,
        Reject::UnknownAccount(_) => UNKNOWN_ACCOUNT,
        Reject::AlreadyExists(_) => ALREADY_EXISTS,
        Reject::AlreadyLinked(_) => ALREADY_LINKED,
        Reject::AlreadyCredited { .. } => ALREADY_CREDITED,
        Reject::NotLinked { .. } => NOT_LINKED,
        Reject::Conflict { .. } => CONFLICT,
        Reject::SupplyExceeded(_) => SUPPLY_EXCEEDED,
        Reject::HeldShareExceeded { .. } => HELD_SHARE_EXCEEDED,
        Reject::InsufficientFunds { .. } => INSUFFICIENT_FUNDS,
        Reject::TooManyHolds { .. } => TOO_MANY_HOLDS,
        Reject::LockTimeout { .. } => LOCK_TIMEOUT,
        Reject::Order(_) => ORDER,
        Reject::Forbidden { .. } => FORBIDDEN,
        Reject::Restricted { .. } => RESTRICTED,
        Reject::UnknownApiKey(_) => UNKNOWN_API_KEY,
    }
}

fn read_reject(code: u8, from: &mut Reader<'_>) -> Result<Reject, Flaw> {
    Ok(match code {
        REQUEST_ID_REUSED => Reject::RequestIdReused,
        EXPIRED => Reject::Expired,
        UNKNOWN_TOKEN => Reject::UnknownToken(command::read_token(from)?),
        ALREADY_RESOLVED => Reject::AlreadyResolved {
            token: command::read_token(from)?,
            how: read_resolution(from)?,
            seq: command::read_seq(from)?,
        },
        UNKNOWN_ASSET => Reject::UnknownAsset(command::read_asset_number(from)?),
        UNKNOWN_CHAIN => Reject::UnknownChain(command::read_chain(from)?),
        UNKNOWN_ACCOUNT => Reject::UnknownAccount(command::read_account(from)?),
        ALREADY_EXISTS => Reject::AlreadyExists(from.text(REASON_BYTES_MAX)?.into()),
        ALREADY_LINKED => Reject::AlreadyLinked(from.text(REASON_BYTES_MAX)?.into()),
        ALREADY_CREDITED => Reject::AlreadyCredited {
            asset: command::read_asset_number(from)?,
            seq: command::read_seq(from)?,
        },
        NOT_LINKED => Reject::NotLinked {
            account: command::read_account(from)?,
            chain: command::read_chain(from)?,
        },
        CONFLICT => Reject::Conflict { subject: transact::read_subject(from)? },
        SUPPLY_EXCEEDED => Reject::SupplyExceeded(command::read_asset_number(from)?),
        HELD_SHARE_EXCEEDED => Reject::HeldShareExceeded {
            account: command::read_account(from)?,
            asset: command::read_asset_number(from)?,
            max_percent: from.byte()?,
        },
        INSUFFICIENT_FUNDS => Reject::InsufficientFunds {
            account: command::read_account(from)?,
            asset: command::read_asset_number(from)?,
            short_by: Amount::new(from.varint()?),
            seq: command::read_seq(from)?,
        },
        TOO_MANY_HOLDS => {
            let account = read_optional(from)?;
            Reject::TooManyHolds { account, max: from.varint_as()? }
        }
        LOCK_TIMEOUT => Reject::LockTimeout { token: command::read_token(from)? },
        ORDER => Reject::Order(fault::read(from)?),
        FORBIDDEN => Reject::Forbidden { account: read_optional(from)? },
        RESTRICTED => Reject::Restricted { operation: access::read_operation(from)? },
        UNKNOWN_API_KEY => Reject::UnknownApiKey(access::read_name(from)?),
        _ => return Err("is refused for a reason that this build does not know"),
    })
}

/// Writes an account that may be none: a flag, and the account.
fn write_optional(account: Option<AccountId>, to: &mut Writer) {
    to.slice(&[u8::from(account.is_some())]);
    if let Some(account) = account {
        to.varint(account.get());
    }
}

fn read_optional(from: &mut Reader<'_>) -> Result<Option<AccountId>, Flaw> {
    let is_some = command::read_flag(from)?;
    is_some.then(|| command::read_account(from)).transpose()
}

const fn resolution_code(how: Resolution) -> u8 {
    match how {
        Resolution::Committed => 1,
        Resolution::RolledBack => 2,
        Resolution::Expired => 3,
    }
}

fn read_resolution(from: &mut Reader<'_>) -> Result<Resolution, Flaw> {
    match from.byte()? {
        1 => Ok(Resolution::Committed),
        2 => Ok(Resolution::RolledBack),
        3 => Ok(Resolution::Expired),
        _ => Err("names a way to end a hold that does not exist"),
    }
}

/// As much of a text as a refusal keeps.
fn bounded(text: &str) -> &str {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
