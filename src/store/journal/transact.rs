//! Transactions as bytes.
//!
//! | part | bytes |
//! |---|---|
//! | number of reads | varint |
//! | each read | 0 and the key (blob), or 1 and account, asset (varints); then the version: varint |
//! | number of writes | varint |
//! | each write | key: blob; then 0 for none, or 1 and the value: blob |
//! | transfers | as the legs of a swap; there may be none |

use super::bytes::{Flaw, Reader, Writer};
use super::command;
use crate::config::{KEY_BYTES_MAX, TRANSACTION_KEYS_MAX, VALUE_BYTES_MAX};
use crate::request::{Read, Transact, Write};
use crate::types::{BalanceKey, Key, Subject};

/// Codes of what is read. Persisted: never renumbered, never used again.
const KEY: u8 = 0;
const BALANCE: u8 = 1;

/// Writes a transaction.
pub(super) fn write(transact: &Transact, to: &mut Writer) {
    to.varint(transact.reads.len() as u64);
    for Read { subject, version } in &transact.reads {
        write_subject(subject, to);
        to.varint(version.get());
    }
    to.varint(transact.writes.len() as u64);
    for Write { key, value } in &transact.writes {
        to.blob(key.bytes());
        to.slice(&[u8::from(value.is_some())]);
        if let Some(value) = value {
            to.blob(value);
        }
    }
    command::write_legs(&transact.transfers, to);
}

/// What [`write`] wrote.
pub(super) fn read(from: &mut Reader<'_>) -> Result<Transact, Flaw> {
    let reads = (0..read_len(from)?).map(|_| read_read(from)).collect::<Result<_, _>>()?;
    let writes = (0..read_len(from)?).map(|_| read_write(from)).collect::<Result<_, _>>()?;
    Ok(Transact { reads, writes, transfers: command::read_legs(from)?.into_vec() })
}

fn read_len(from: &mut Reader<'_>) -> Result<usize, Flaw> {
    let length: usize = from.varint_as()?;
    if length > TRANSACTION_KEYS_MAX {
        return Err("has more keys than a transaction can have");
    }
    Ok(length)
}

fn read_read(from: &mut Reader<'_>) -> Result<Read, Flaw> {
    let subject = read_subject(from)?;
    Ok(Read { subject, version: command::read_seq(from)? })
}

fn read_write(from: &mut Reader<'_>) -> Result<Write, Flaw> {
    let key = read_key(from)?;
    let value =
        if command::read_flag(from)? { Some(from.blob(VALUE_BYTES_MAX)?.into()) } else { None };
    Ok(Write { key, value })
}

fn read_key(from: &mut Reader<'_>) -> Result<Key, Flaw> {
    from.blob(KEY_BYTES_MAX).map(Key::new)
}

/// Writes what was read.
pub(super) fn write_subject(subject: &Subject, to: &mut Writer) {
    match subject {
        Subject::Key(key) => {
            to.slice(&[KEY]);
            to.blob(key.bytes());
        }
        Subject::Balance(BalanceKey { account, asset }) => {
            to.slice(&[BALANCE]);
            to.varint(account.get());
            to.varint(asset.get());
        }
    }
}

/// What [`write_subject`] wrote.
pub(super) fn read_subject(from: &mut Reader<'_>) -> Result<Subject, Flaw> {
    match from.byte()? {
        KEY => read_key(from).map(Subject::Key),
        BALANCE => {
            let account = command::read_account(from)?;
            let asset = command::read_asset_number(from)?;
            Ok(Subject::Balance(BalanceKey { account, asset }))
        }
        _ => Err("has read something of a kind that does not exist"),
    }
}
