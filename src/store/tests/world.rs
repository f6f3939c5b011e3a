//! A toy coordinator and toy shards: requests in, the messages that the commit log would get out.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::Reject;
use crate::message::{
    AnswerSlot, Answered, Applied, Batch, Decision, NewSubmission, RefusedTxn, Row, Side, ToLog,
    Txn, TxnRef,
};
use crate::request::{Command, Request, Swap, Transfer};
use crate::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, CommitSeq, Leg, RequestId, Time,
};

/// What is to become of a request.
#[derive(Clone, Debug)]
pub enum Fate {
    Settles,
    Refused(Reject),
    Repeated,
}

pub struct World {
    pub shards: usize,
    pub time: Time,
    pub seq: CommitSeq,
    batch: u64,
    decision: u64,
    submission: u64,
    ids: u128,
    balances: BTreeMap<BalanceKey, u128>,
    slots: BTreeMap<BalanceKey, u32>,
    slots_next: Vec<u32>,
    /// Every version that ever was.
    pub history: BTreeMap<BalanceKey, BTreeMap<CommitSeq, Balance>>,
}

/// The messages about one decision, and where its answers arrive.
pub struct Told {
    pub sequenced: ToLog,
    pub decided: ToLog,
    pub applied: Vec<ToLog>,
    pub answers: oneshot::Receiver<Answered>,
    pub ids: Vec<RequestId>,
}

impl Told {
    /// In the usual order.
    pub fn messages(self) -> (Vec<ToLog>, oneshot::Receiver<Answered>) {
        let mut messages = vec![self.sequenced, self.decided];
        messages.extend(self.applied);
        (messages, self.answers)
    }
}

pub fn key(account: u64, asset: u32) -> BalanceKey {
    BalanceKey { account: AccountId::new(account), asset: AssetId::new(asset) }
}

pub fn swap(from: u64, to: u64, amount: u128) -> Command {
    let leg = |from, to, asset| Leg {
        from: AccountId::new(from),
        to: AccountId::new(to),
        asset: AssetId::new(asset),
        amount: Amount::new(amount),
    };
    Command::Swap(Swap::new([leg(from, to, 0), leg(to, from, 1)]).unwrap())
}

pub fn deposit(account: u64, asset: u32, amount: u128) -> Command {
    Command::Deposit(Transfer {
        account: AccountId::new(account),
        asset: AssetId::new(asset),
        amount: Amount::new(amount),
        reference: "".into(),
    })
}

impl World {
    pub fn new(shards: usize) -> Self {
        Self {
            shards,
            time: Time::new(1_700_000_000_000_000),
            seq: CommitSeq::default(),
            batch: 0,
            decision: 0,
            submission: 0,
            ids: 0,
            balances: BTreeMap::new(),
            slots: BTreeMap::new(),
            slots_next: vec![0; shards],
            history: BTreeMap::new(),
        }
    }

    /// Numbers begin anew with each start; the state goes on.
    pub fn restarted(&mut self) {
        (self.batch, self.decision, self.submission) = (0, 0, 0);
        self.slots.clear();
        self.slots_next.fill(0);
    }

    pub fn next_id(&mut self) -> RequestId {
        self.ids += 1;
        // Every third is not version 7.
        match self.ids % 3 {
            0 => RequestId::new(self.ids << 64),
            _ => RequestId::v7(self.time.millis(), self.ids),
        }
    }

    pub fn settle(&mut self, commands: Vec<Command>) -> Told {
        let all = commands.into_iter().map(|command| (self.next_id(), command, Fate::Settles));
        let all = all.collect();
        self.decide(all)
    }

    pub fn decide(&mut self, requests: Vec<(RequestId, Command, Fate)>) -> Told {
        self.time = Time::new(self.time.get() + 1_000);
        let first_seq = self.seq.next();
        let mut decision = Decision {
            number: self.decision,
            first_seq,
            time: self.time,
            commits: Vec::new(),
            refusals: Vec::new(),
            duplicates: Vec::new(),
            voted_nanos: 0,
            decided_nanos: 0,
        };
        let mut applied: Vec<Applied> = (0..self.shards)
            .map(|shard| Applied { decision: self.decision, shard, rows: vec![], slots: vec![] })
            .collect();
        let (mut txns, mut slots, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (id, command, fate)) in requests.into_iter().enumerate() {
            let index = index as u32;
            let txn = Txn::new(Request::new(id, command), id.get() as u64, self.shards).unwrap();
            let txn_ref = TxnRef { batch: self.batch, index };
            match fate {
                Fate::Settles => {
                    self.apply(&txn, &mut applied);
                    decision.commits.push(txn_ref);
                }
                Fate::Refused(reject) => {
                    let seq = self.seq;
                    decision.refusals.push(RefusedTxn { txn: txn_ref, reject, seq });
                }
                Fate::Repeated => decision.duplicates.push(txn_ref),
            }
            txns.push(txn);
            ids.push(id);
            slots.push(AnswerSlot { submission: self.submission, position: index });
        }
        let (reply, answers) = oneshot::channel();
        let submission = NewSubmission {
            number: self.submission,
            txns: txns.len() as u32,
            reply,
            accepted_nanos: 0,
        };
        let batch = Batch { number: self.batch, txns, slots, sequenced_nanos: 0 };
        (self.batch, self.decision, self.submission) =
            (self.batch + 1, self.decision + 1, self.submission + 1);
        Told {
            sequenced: ToLog::Sequenced(Arc::new(batch), vec![submission]),
            decided: ToLog::Decided(Arc::new(decision)),
            applied: applied.into_iter().map(ToLog::Applied).collect(),
            answers,
            ids,
        }
    }

    fn apply(&mut self, txn: &Txn, applied: &mut [Applied]) {
        self.seq = self.seq.next();
        for op in txn.ops() {
            let shard = op.key.account.shard(self.shards);
            let slot = *self.slots.entry(op.key).or_insert_with(|| {
                self.slots_next[shard] += 1;
                self.slots_next[shard] - 1
            });
            let total = self.balances.entry(op.key).or_default();
            let before = balance(*total);
            *total = match op.side {
                Side::Debit => *total - op.amount.get(),
                Side::Credit => *total + op.amount.get(),
            };
            let after = balance(*total);
            applied[shard].rows.push(Row { before, after });
            applied[shard].slots.push(slot);
            self.history.entry(op.key).or_default().insert(self.seq, after);
        }
    }

    /// What the account had at a seq, by asset: seq of the version, and balance.
    pub fn at(&self, account: u64, seq: CommitSeq) -> Vec<(AssetId, CommitSeq, Balance)> {
        let keys = self.history.range(key(account, 0)..=key(account, u32::MAX));
        keys.filter_map(|(key, versions)| {
            let (version, balance) = versions.range(..=seq).next_back()?;
            Some((key.asset, *version, *balance))
        })
        .collect()
    }
}

pub fn balance(available: u128) -> Balance {
    Balance { available: Amount::new(available), held: Amount::ZERO }
}
