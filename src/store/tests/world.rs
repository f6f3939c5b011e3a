//! A toy coordinator and toy shards: requests in, the messages that the commit log would get out.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::Reject;
use crate::message::{
    AnswerSlot, Answered, Applied, Batch, Decision, NewSubmission, RefusedTxn, RepeatedTxn, Row,
    ToLog, Txn, TxnRef,
};
use crate::request::{
    Action, Command, Hold, Prepare, Purpose, Request, Resolve, Swap, Transact, Transfer, Write,
};
use crate::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, CommitSeq, Key, Leg, RequestId, Resolution,
    Time, Token,
};

/// What is to become of a request.
#[derive(Clone, Debug)]
pub enum Fate {
    Settles,
    Refused(Reject),
    /// Its id was seen before.
    Repeated,
    /// It asks for what the commit of that seq did.
    Done(CommitSeq),
    /// It is given back.
    Deferred,
}

/// A value under a key, or that it was deleted.
pub type Value = Option<Arc<[u8]>>;

pub struct World {
    pub shards: usize,
    pub time: Time,
    pub seq: CommitSeq,
    batch: u64,
    decision: u64,
    submission: u64,
    ids: u128,
    balances: BTreeMap<BalanceKey, Balance>,
    slots: BTreeMap<BalanceKey, u32>,
    slots_next: Vec<u32>,
    /// Every version that ever was.
    pub history: BTreeMap<BalanceKey, BTreeMap<CommitSeq, Balance>>,
    /// Open holds.
    pub holds: BTreeMap<Token, Hold>,
    /// Holds that were ended.
    pub resolved: BTreeMap<Token, (CommitSeq, Resolution)>,
    /// Deposits by asset and reference.
    pub credited: BTreeMap<(AssetId, u128), CommitSeq>,
    /// Every value that ever was.
    pub records: BTreeMap<Key, BTreeMap<CommitSeq, Value>>,
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

fn legs(from: u64, to: u64, amount: u128) -> Swap {
    let leg = |from, to, asset| Leg {
        from: AccountId::new(from),
        to: AccountId::new(to),
        asset: AssetId::new(asset),
        amount: Amount::new(amount),
    };
    Swap::new([leg(from, to, 0), leg(to, from, 1)]).unwrap()
}

pub fn swap(from: u64, to: u64, amount: u128) -> Command {
    Command::Swap(legs(from, to, amount))
}

/// The same in two phases, for a minute.
pub fn prepare(from: u64, to: u64, amount: u128) -> Command {
    let swap = legs(from, to, amount);
    Command::Prepare(Box::new(Prepare { swap, expires_in_ms: 60_000, exclusive: false }))
}

fn transfer(account: u64, asset: u32, amount: u128, reference: &str) -> Transfer {
    Transfer {
        account: AccountId::new(account),
        asset: AssetId::new(asset),
        amount: Amount::new(amount),
        reference: reference.into(),
    }
}

pub fn deposit(account: u64, asset: u32, amount: u128) -> Command {
    deposit_as(account, asset, amount, "")
}

/// With the outside world's name for it.
pub fn deposit_as(account: u64, asset: u32, amount: u128, reference: &str) -> Command {
    Command::Deposit(transfer(account, asset, amount, reference))
}

pub fn withdraw(account: u64, asset: u32, amount: u128) -> Command {
    Command::Withdraw(transfer(account, asset, amount, "out"))
}

/// Ends the hold that the request made.
pub fn resolve(request: RequestId, action: Action) -> Command {
    Command::Resolve(Resolve { token: Token::of(request), action })
}

/// Writes values; an empty one deletes.
pub fn write(values: &[(&str, &str)]) -> Command {
    let write = |(key, value): &(&str, &str)| Write {
        key: Key::new(key.as_bytes()),
        value: (!value.is_empty()).then(|| value.as_bytes().into()),
    };
    let writes = values.iter().map(write).collect();
    Command::Transact(Box::new(Transact { writes, ..Transact::default() }))
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
            holds: BTreeMap::new(),
            resolved: BTreeMap::new(),
            credited: BTreeMap::new(),
            records: BTreeMap::new(),
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

    /// Decides requests, in one batch and one decision. An expiry is decided as the engine's own: it
    /// is in no submission, and its id is not among those told.
    pub fn decide(&mut self, requests: Vec<(RequestId, Command, Fate)>) -> Told {
        self.time = Time::new(self.time.get() + 1_000);
        let mut decision = Decision {
            number: self.decision,
            first_seq: self.seq.next(),
            time: self.time,
            commits: Vec::new(),
            refusals: Vec::new(),
            duplicates: Vec::new(),
            repeats: Vec::new(),
            deferred: Vec::new(),
            voted_nanos: 0,
            decided_nanos: 0,
        };
        let mut applied: Vec<Applied> = (0..self.shards)
            .map(|shard| Applied { decision: self.decision, shard, rows: vec![], slots: vec![] })
            .collect();
        let (mut txns, mut slots, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (id, command, fate)) in requests.into_iter().enumerate() {
            let txn_ref = TxnRef { batch: self.batch, index: index as u32 };
            let txn = self.sequence(id, command, &fate);
            let seq = self.seq;
            match fate {
                Fate::Settles => {
                    self.apply(&txn, &mut applied);
                    decision.commits.push(txn_ref);
                }
                Fate::Refused(reject) => {
                    decision.refusals.push(RefusedTxn { txn: txn_ref, reject, seq });
                }
                Fate::Repeated => decision.duplicates.push(txn_ref),
                Fate::Done(first) => {
                    decision.repeats.push(RepeatedTxn { txn: txn_ref, first, seq });
                }
                Fate::Deferred => decision.deferred.push(txn_ref),
            }
            let (submission, position) = (self.submission, ids.len() as u32);
            slots.push(match txn.command.kind() {
                "expire" => AnswerSlot::NOBODY,
                _ => {
                    ids.push(id);
                    AnswerSlot { submission, position, again: false }
                }
            });
            txns.push(txn);
        }
        let (submission, answers) = self.submission(ids.len());
        let batch = Batch { number: self.batch, txns, slots, sequenced_nanos: 0 };
        (self.batch, self.decision) = (self.batch + 1, self.decision + 1);
        Told {
            sequenced: ToLog::Sequenced(Arc::new(batch), vec![submission]),
            decided: ToLog::Decided(Arc::new(decision)),
            applied: applied.into_iter().map(ToLog::Applied).collect(),
            answers,
            ids,
        }
    }

    fn submission(&mut self, txns: usize) -> (NewSubmission, oneshot::Receiver<Answered>) {
        let (reply, answers) = oneshot::channel();
        let (number, txns) = (self.submission, txns as u32);
        self.submission += 1;
        (NewSubmission { number, txns, reply, accepted_nanos: 0 }, answers)
    }

    /// A request with what the coordinator adds.
    fn sequence(&self, id: RequestId, command: Command, fate: &Fate) -> Txn {
        let hold = |token| Box::new(self.holds[&token].clone());
        if let Command::Resolve(Resolve { token, action: Action::Expire }) = command {
            return Txn::expiry(hold(token), self.shards);
        }
        let mut txn = Txn::new(Request::new(id, command), id.get() as u64, self.shards).unwrap();
        match &txn.command {
            Command::Prepare(prepare) => {
                txn.expires_at = Time::new(self.time.get() + prepare.expires_in_ms * 1_000);
            }
            Command::Resolve(Resolve { token, .. }) if matches!(fate, Fate::Settles) => {
                txn.attach(hold(*token), self.shards);
            }
            _ => {}
        }
        txn
    }

    fn apply(&mut self, txn: &Txn, applied: &mut [Applied]) {
        self.seq = self.seq.next();
        for op in txn.row_ops() {
            let shard = op.key.account.shard(self.shards);
            let slot = *self.slots.entry(op.key).or_insert_with(|| {
                self.slots_next[shard] += 1;
                self.slots_next[shard] - 1
            });
            let now = self.balances.entry(op.key).or_default();
            let before = *now;
            let after = op.apply(before).expect("the test is well funded");
            *now = after;
            applied[shard].rows.push(Row { before, after });
            applied[shard].slots.push(slot);
            self.history.entry(op.key).or_default().insert(self.seq, after);
        }
        self.remember(txn);
    }

    /// What comes of a commit beside its rows.
    fn remember(&mut self, txn: &Txn) {
        let (seq, token) = (self.seq, Token::of(txn.id));
        let expires_at = txn.expires_at;
        let hold = |purpose, exclusive| Hold { token, purpose, exclusive, expires_at, since: seq };
        match &txn.command {
            Command::Prepare(prepare) => {
                let purpose = Purpose::Swap(prepare.swap.clone());
                self.holds.insert(token, hold(purpose, prepare.exclusive));
            }
            Command::Withdraw(from) => {
                let purpose = Purpose::Withdrawal(from.clone());
                self.holds.insert(token, hold(purpose, false));
            }
            Command::Resolve(Resolve { token, action }) => {
                self.holds.remove(token);
                self.resolved.insert(*token, (seq, action.resolution()));
            }
            Command::Deposit(to) => {
                let hash = to.reference_hash().map(|hash| (to.asset, hash));
                self.credited.extend(hash.map(|hash| (hash, seq)));
            }
            Command::Transact(transact) => {
                for Write { key, value } in &transact.writes {
                    self.records.entry(key.clone()).or_default().insert(seq, value.clone());
                }
            }
            _ => {}
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
