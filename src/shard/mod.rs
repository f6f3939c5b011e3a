//! Shard actors: each owns its accounts' balances, grants and queues, and the versions of
//! callers' keys, and is their only writer.
//!
//! An account lives on one shard with all its assets, so a swap of two parties touches one or
//! two shards. Every shard sees every batch and every decision, in the coordinator's order, and
//! takes from them what is its own.
//!
//! The way back to the coordinator always has room: its channel of votes is as long as the
//! messages that can be unanswered, so a shard never waits for whom it answers (I9).

pub mod balances;
mod queue;
mod records;
mod slots;

use crossbeam::channel::Sender;
use tokio::sync::oneshot;

use crate::actor::{Ended, Mailbox};
use crate::directory::Directory;
use crate::error::Reject;
use crate::faults::point;
use crate::message::{
    AccountBalances, Applied, Gate, ManyBalances, SharedBatch, SharedDecision, ToLog, Totals, Votes,
};
use crate::metrics::ShardMetrics;
use crate::types::{AccountId, AssetId, BalanceKey, ChainId, CommitSeq};

use balances::{Accounts, Balances};

/// Everything a shard can be asked. One mailbox, so each sender's order is kept.
pub enum Message {
    /// Check funds and grant, refuse or queue. Each transaction is voted on exactly once.
    Prepare(SharedBatch),
    /// Apply or discard what was granted, in commit_seq order. Cannot fail.
    Decide(SharedDecision),
    /// Show an account's balances, once `D` covers them.
    Read(AccountId, oneshot::Sender<AccountBalances>),
    /// Show these balances, all of this shard, once `D` covers them.
    ReadMany(Vec<BalanceKey>, oneshot::Sender<ManyBalances>),
    /// Add up all balances, and show the sums once `D` covers them.
    Total(oneshot::Sender<(CommitSeq, Totals)>),
}

/// A shard and the channels it speaks through.
pub struct Shard {
    /// Its number.
    pub number: usize,
    /// Its balances, as recovered.
    pub balances: Balances,
    /// Who exists and is linked where.
    pub accounts: std::sync::Arc<Directory>,
    /// What it is asked.
    pub mailbox: Mailbox<Message>,
    /// To the coordinator.
    pub votes: Sender<Votes>,
    /// To the commit log.
    pub log: Sender<ToLog>,
}

/// The other end of a channel is gone: the engine stops, and says why itself.
struct Gone;

impl Shard {
    /// The actor's life: until its mailbox is drained or the engine is poisoned.
    ///
    /// # Errors
    /// None of its own; broken invariants panic, which poisons the engine.
    pub fn run(&mut self) -> Result<(), String> {
        let metrics = ShardMetrics::new(self.number);
        loop {
            match self.mailbox.recv() {
                Ok(message) => {
                    metrics.mailbox(self.mailbox.len());
                    if self.on_message(message).is_err() {
                        return Ok(());
                    }
                }
                Err(Ended::Drained | Ended::Poisoned) => return Ok(()),
            }
        }
    }

    /// Does what the next message asks for, if one is there; says whether there was one. For whoever
    /// schedules the actors himself, in the place of [`Shard::run`].
    pub fn step(&mut self) -> bool {
        match self.mailbox.try_recv() {
            Ok(Some(message)) => self.on_message(message).is_ok(),
            Ok(None) | Err(Ended::Drained | Ended::Poisoned) => false,
        }
    }

    fn on_message(&mut self, message: Message) -> Result<(), Gone> {
        match message {
            Message::Prepare(batch) => self.on_prepare(&batch),
            Message::Decide(decision) => self.on_decide(&decision),
            Message::Read(account, reply) => {
                let found = self.balances.read(account, self.accounts.assets_len());
                self.show(found.seq, move || drop(reply.send(found)))
            }
            Message::ReadMany(keys, reply) => {
                let found = self.balances.read_many(&keys);
                self.show(found.seq, move || drop(reply.send(found)))
            }
            Message::Total(reply) => {
                let seq = self.balances.applied();
                let totals = self.balances.totals(self.accounts.assets_len());
                self.show(seq, move || drop(reply.send((seq, totals))))
            }
        }
    }

    fn on_prepare(&mut self, batch: &SharedBatch) -> Result<(), Gone> {
        let mut votes = Votes { shard: self.number, batch: Some(batch.number), ..Votes::default() };
        point!("shard.prepare");
        self.balances.prepare(batch, &*self.accounts, &mut votes);
        point!("shard.prepared");
        self.votes.send(votes).map_err(|_| Gone)
    }

    fn on_decide(&mut self, decision: &SharedDecision) -> Result<(), Gone> {
        let expected = decision.commits.len() * 4;
        let mut applied = Applied {
            decision: decision.number,
            shard: self.number,
            rows: Vec::with_capacity(expected),
            slots: Vec::with_capacity(expected),
        };
        let mut votes = Votes { shard: self.number, ..Votes::default() };
        point!("shard.decide");
        self.balances.decide(decision, &*self.accounts, &mut applied, &mut votes);
        point!("shard.decided");
        // Late votes first: others depend on them.
        if !votes.late.is_empty() {
            self.votes.send(votes).map_err(|_| Gone)?;
            point!("shard.voted-late");
        }
        point!("shard.apply");
        self.log.send(ToLog::Applied(applied)).map_err(|_| Gone)
    }

    fn show(&self, seq: CommitSeq, open: impl FnOnce() + Send + 'static) -> Result<(), Gone> {
        self.log.send(ToLog::Gate(Gate { seq, open: Box::new(open) })).map_err(|_| Gone)
    }
}

impl Accounts for Directory {
    fn check_linked(&self, account: AccountId, chain: ChainId) -> Result<(), Reject> {
        Directory::check_linked(self, account, chain)
    }

    fn chain_of(&self, asset: AssetId) -> Option<ChainId> {
        self.chain(asset)
    }

    fn assets_len(&self) -> usize {
        Directory::assets_len(self)
    }
}
