//! A transaction as one command: what it read, and what it wants to write.
//!
//! It happens if everything that it read still has the version that it read; whoever changed
//! something first wins. Keys are named by callers, in a namespace of their own.

use std::sync::Arc;

use super::{Malformed, check_legs};
use crate::config::{KEY_BYTES_MAX, TRANSACTION_KEYS_MAX, TRANSFERS_MAX, VALUE_BYTES_MAX};
use crate::types::{CommitSeq, Key, Leg, Subject};

/// A read set and a write set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transact {
    /// What was read, each once.
    pub reads: Vec<Read>,
    /// What is written, each key once.
    pub writes: Vec<Write>,
    /// What moves between balances.
    pub transfers: Vec<Leg>,
}

/// Something that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// What.
    pub subject: Subject,
    /// The commit_seq that it had last been changed by; 0 if it had never been written.
    pub version: CommitSeq,
}

/// A value to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub key: Key,
    /// What; `None` deletes.
    pub value: Option<Arc<[u8]>>,
}

impl Transact {
    /// Checks what can be known without any state.
    ///
    /// # Errors
    /// The field at fault and the rule it breaks: too many entries, a key or value too long, a key
    /// named twice, a transfer that no swap could have as a leg, or nothing at all.
    pub fn validate(&self) -> Result<(), Malformed> {
        if self.reads.is_empty() && self.writes.is_empty() && self.transfers.is_empty() {
            return Err(Malformed::new("reads", "and writes and transfers are empty; name one"));
        }
        few("reads", self.reads.len(), TRANSACTION_KEYS_MAX)?;
        few("writes", self.writes.len(), TRANSACTION_KEYS_MAX)?;
        few("transfers", self.transfers.len(), TRANSFERS_MAX)?;
        for (index, read) in self.reads.iter().enumerate() {
            if let Subject::Key(key) = &read.subject {
                check_key(&format!("reads[{index}].key"), key)?;
            }
        }
        for (index, write) in self.writes.iter().enumerate() {
            check_key(&format!("writes[{index}].key"), &write.key)?;
            let length = write.value.as_ref().map_or(0, |value| value.len());
            if length > VALUE_BYTES_MAX {
                let why = format!("has {length} bytes; a value has at most {VALUE_BYTES_MAX}");
                return Err(Malformed::new(format!("writes[{index}].value"), why));
            }
        }
        named_once("reads", self.reads.iter().map(|read| &read.subject))?;
        named_once("writes", self.writes.iter().map(|write| &write.key))?;
        check_legs("transfers", &self.transfers)
    }
}

fn few(field: &str, found: usize, max: usize) -> Result<(), Malformed> {
    if found <= max {
        return Ok(());
    }
    let why = format!("has {found} entries; a transaction has at most {max}");
    Err(Malformed::new(field, why))
}

fn check_key(field: &str, key: &Key) -> Result<(), Malformed> {
    let length = key.bytes().len();
    if (1..=KEY_BYTES_MAX).contains(&length) {
        return Ok(());
    }
    Err(Malformed::new(field, format!("has {length} bytes; a key has 1 to {KEY_BYTES_MAX}")))
}

fn named_once<T: Ord>(field: &str, names: impl Iterator<Item = T>) -> Result<(), Malformed> {
    let mut sorted: Vec<(T, usize)> = names.zip(0..).collect();
    sorted.sort();
    match sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        None => Ok(()),
        Some(pair) => {
            let why = format!("names the same as {field}[{}]; name each once", pair[0].1);
            Err(Malformed::new(format!("{field}[{}]", pair[1].1), why))
        }
    }
}
