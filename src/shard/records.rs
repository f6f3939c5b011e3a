//! Versions of the values that callers name, and which undecided transactions use them.
//!
//! The values themselves are in the journal and the version store; a shard needs to know only
//! whether what a transaction read is still current. Keys are told apart by 128 bits of hash: two
//! that collided would meet a false conflict, and nothing worse.
//!
//! Invariants
//! * A key with an undecided writer has no other writer and no reader but that writer itself.
//! * A key that was ever written keeps its version, deleted or not.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::types::{CommitSeq, Key};

/// What is known of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// The commit_seq that last wrote or deleted it; 0 for never.
    pub(super) version: CommitSeq,
    /// Undecided transactions that read it.
    pub(super) readers: u32,
    /// Whether an undecided transaction writes it.
    pub(super) has_writer: bool,
}

/// The keys of a shard.
#[derive(Debug, Default)]
pub(super) struct Records {
    table: HashMap<u128, Record>,
}

impl Records {
    /// Sets a version, as recovery found it.
    pub(super) fn restore(&mut self, key: &Key, version: CommitSeq) {
        self.table.insert(key.hash128(), Record { version, ..Record::default() });
    }

    /// What is known of a key.
    pub(super) fn get(&self, key: &Key) -> Record {
        self.table.get(&key.hash128()).copied().unwrap_or_default()
    }

    /// A transaction that reads the key was granted.
    pub(super) fn add_reader(&mut self, key: &Key) {
        self.table.entry(key.hash128()).or_default().readers += 1;
    }

    /// A transaction that reads the key was decided.
    pub(super) fn remove_reader(&mut self, key: &Key) {
        self.change(key, |record| {
            record.readers = record.readers.checked_sub(1).expect("was granted");
        });
    }

    /// A transaction that writes the key was granted.
    pub(super) fn set_writer(&mut self, key: &Key) {
        let record = self.table.entry(key.hash128()).or_default();
        assert!(!record.has_writer, "one writer at a time");
        record.has_writer = true;
    }

    /// The transaction that writes the key was decided: as of `seq` it is written.
    pub(super) fn remove_writer(&mut self, key: &Key, seq: Option<CommitSeq>) {
        self.change(key, |record| {
            assert!(record.has_writer, "was granted");
            record.has_writer = false;
            record.version = seq.unwrap_or(record.version);
        });
    }

    /// Changes what is known of a key, and forgets it if that is nothing then.
    fn change(&mut self, key: &Key, change: impl FnOnce(&mut Record)) {
        let Entry::Occupied(mut entry) = self.table.entry(key.hash128()) else {
            panic!("{key} was granted to a transaction");
        };
        change(entry.get_mut());
        if *entry.get() == Record::default() {
            entry.remove();
        }
    }

    /// Whether no undecided transaction uses any key.
    pub(super) fn are_quiet(&self) -> bool {
        self.table.values().all(|record| record.readers == 0 && !record.has_writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_written_is_forgotten() {
        let mut records = Records::default();
        let (read, written) = (Key::new(*b"read"), Key::new(*b"written"));
        records.add_reader(&read);
        records.add_reader(&read);
        records.set_writer(&written);
        assert!(!records.are_quiet() && records.get(&written).has_writer);
        records.remove_reader(&read);
        assert_eq!(records.get(&read).readers, 1);
        records.remove_reader(&read);
        records.remove_writer(&written, None);
        assert!(records.are_quiet() && records.table.is_empty());
    }

    #[test]
    fn what_was_written_keeps_its_version() {
        let mut records = Records::default();
        let key = Key::new(*b"key");
        records.set_writer(&key);
        records.add_reader(&key);
        records.remove_reader(&key);
        records.remove_writer(&key, Some(CommitSeq::new(7)));
        records.set_writer(&key);
        records.remove_writer(&key, None);
        assert_eq!(records.get(&key), Record { version: CommitSeq::new(7), ..Record::default() });
    }
}
