//! Optimistic transactions: everything that they read must still be as they read it, and stay so
//! until they are decided.
//!
//! A transaction that is granted locks what it reads and writes from its vote to its decision. It
//! waits for nobody: where anything is undecided on what it wants, it is *busy*, holds nothing,
//! and comes again.
//!
//! | on | it reads | it writes or moves |
//! |---|---|---|
//! | a version that is no longer the one it read | `conflict` | |
//! | what an exclusive hold locks | `locked` | `locked`, if it takes from it |
//! | what another transaction reads | fine | `busy` |
//! | anything else that is undecided | `busy` | `busy`, unless it is certain all the same |

use super::{Accounts, Balances, Exceptional, check};
use crate::error::Reject;
use crate::faults::{Bug, planted};
use crate::message::{Txn, TxnRef, Vote};
use crate::request::{Read, Transact, Write};
use crate::shard::slots::{NO_SLOT, SlotOp};
use crate::types::{BalanceKey, CommitSeq, Subject, Token};

/// What speaks against a transaction.
#[derive(Default)]
struct Verdict {
    /// The first of those with the lowest precedence.
    no: Option<Reject>,
    /// The first lock.
    locked: Option<Token>,
    /// The first that is undecided.
    busy: Option<Subject>,
}

impl Verdict {
    fn no(&mut self, reject: Reject) {
        let goes_before = |known: &Reject| reject.precedence() < known.precedence();
        if self.no.as_ref().is_none_or(goes_before) {
            self.no = Some(reject);
        }
    }

    fn locked(&mut self, token: Token) {
        self.locked.get_or_insert(token);
    }

    fn busy(&mut self, subject: Subject) {
        self.busy.get_or_insert(subject);
    }

    /// The vote, if it is not a yes: no before locked before busy.
    fn vote(self, seq: CommitSeq) -> Option<Vote> {
        let no = self.no.map(|reject| Vote::No(reject, seq));
        let locked = self.locked.map(Vote::Locked);
        let busy = self.busy.map(|subject| Vote::Busy(Box::new(subject)));
        no.or(locked).or(busy)
    }
}

impl Balances {
    /// Grants all of a transaction that is this shard's, or says what speaks against it.
    pub(super) fn vote_on_transaction(
        &mut self,
        at: TxnRef,
        txn: &Txn,
        transact: &Transact,
        ops: &[SlotOp],
        accounts: &impl Accounts,
    ) -> Option<Vote> {
        let mut verdict = Verdict::default();
        for read in self.own_reads(transact) {
            self.check_read(read, &mut verdict);
        }
        for write in self.own_writes(transact) {
            let record = self.records.get(&write.key);
            if record.has_writer || record.readers > 0 {
                verdict.busy(Subject::Key(write.key.clone()));
            }
        }
        for (key, op) in self.with_keys(txn, ops) {
            self.check_transfer(key, op, accounts, &mut verdict);
        }
        let refused = verdict.vote(self.applied);
        if refused.is_some() {
            self.exceptional.insert(at, Exceptional::Refused);
            return refused;
        }
        self.grant_transaction(at, transact, ops, accounts);
        None
    }

    fn grant_transaction(
        &mut self,
        at: TxnRef,
        transact: &Transact,
        ops: &[SlotOp],
        accounts: &impl Accounts,
    ) {
        for op in ops {
            self.grant(at, op);
        }
        for read in self.own_reads(transact) {
            match &read.subject {
                Subject::Key(key) => self.records.add_reader(key),
                Subject::Balance(key) => {
                    if let Some(number) = self.find_or_make(*key, accounts) {
                        self.slots.add_reader(number);
                    }
                }
            }
        }
        for write in self.own_writes(transact) {
            self.records.set_writer(&write.key);
        }
    }

    /// A balance to be read. One that is not there yet, but could come to be before the reader is
    /// decided, is made, so that its reader can be noted.
    fn find_or_make(&mut self, key: BalanceKey, accounts: &impl Accounts) -> Option<u32> {
        if let Some(number) = self.find(key) {
            return Some(number);
        }
        match check(key, accounts) {
            Ok(()) => Some(self.insert(key, true)),
            // A hold made while it was linked may still deliver.
            Err(Reject::NotLinked { .. }) => Some(self.insert(key, false)),
            // No account or asset comes to be while anything is undecided.
            Err(_) => None,
        }
    }

    fn check_read(&self, read: &Read, verdict: &mut Verdict) {
        let (version, is_undecided) = match &read.subject {
            Subject::Key(key) => {
                let record = self.records.get(key);
                (record.version, record.has_writer)
            }
            Subject::Balance(key) => match self.find(*key) {
                None => (CommitSeq::default(), false),
                Some(number) => {
                    if let Some(token) = self.slots.locked_by(number) {
                        verdict.locked(token);
                    }
                    (self.slots.version(number), self.slots.is_undecided(number))
                }
            },
        };
        if version != read.version && !planted(Bug::SkipValidation) {
            verdict.no(Reject::Conflict { subject: read.subject.clone() });
        }
        if is_undecided {
            verdict.busy(read.subject.clone());
        }
    }

    fn check_transfer(
        &self,
        key: BalanceKey,
        op: &SlotOp,
        accounts: &impl Accounts,
        verdict: &mut Verdict,
    ) {
        if op.slot != NO_SLOT && self.slots.can_grant(op) {
            return;
        }
        if let Some(reject) = self.reason(key, op, accounts) {
            return verdict.no(reject);
        }
        match self.slots.locked_by(op.slot).filter(|_| op.side.needs_funds()) {
            Some(token) => verdict.locked(token),
            None => verdict.busy(Subject::Balance(key)),
        }
    }

    /// Lets go of what a transaction read and wrote; as of `seq` it is written.
    pub(super) fn end_transaction(&mut self, transact: &Transact, seq: Option<CommitSeq>) {
        for read in self.own_reads(transact) {
            match &read.subject {
                Subject::Key(key) => self.records.remove_reader(key),
                Subject::Balance(key) => {
                    if let Some(number) = self.find(*key) {
                        self.end_reading(number);
                    }
                }
            }
        }
        for write in self.own_writes(transact) {
            self.records.remove_writer(&write.key, seq);
        }
    }

    fn end_reading(&mut self, number: u32) {
        self.slots.remove_reader(number);
        if self.slots.is_contended(number) {
            self.touched.push(number);
        }
    }

    /// Pairs with the check at the vote: nothing that was read has changed since.
    pub(super) fn assert_current(&self, transact: &Transact) {
        for read in self.own_reads(transact) {
            let version = match &read.subject {
                Subject::Key(key) => self.records.get(key).version,
                Subject::Balance(key) => self
                    .find(*key)
                    .map_or(CommitSeq::default(), |number| self.slots.version(number)),
            };
            let was_read = if planted(Bug::SkipValidation) { version } else { read.version };
            assert_eq!(version, was_read, "{} changed under its lock", read.subject);
        }
    }

    /// What a transaction reads of this shard.
    fn own_reads<'a>(&self, transact: &'a Transact) -> impl Iterator<Item = &'a Read> + use<'a> {
        let (shard, shards) = (self.shard, self.shards);
        transact.reads.iter().filter(move |read| read.subject.shard(shards) == shard)
    }

    /// What a transaction writes of this shard.
    fn own_writes<'a>(&self, transact: &'a Transact) -> impl Iterator<Item = &'a Write> + use<'a> {
        let (shard, shards) = (self.shard, self.shards);
        transact.writes.iter().filter(move |write| write.key.shard(shards) == shard)
    }
}
