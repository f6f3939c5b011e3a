//! Random requests of every kind over a few balances of some shards, whose messages chance delays.
//!
//! What the shards say is held against plain maps: each commit's rows, each reason for a no, and that
//! whoever waits waits for an earlier request. `SEED=4711` replays one world, `SEEDS=100000` runs
//! more of them than usual.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::directory::Directory;
use crate::message::{
    Applied, Batch, Decision, Op, RefusedTxn, Row, SharedDecision, Side, Vote, Votes,
};
use crate::request::{
    Action, Hold, Prepare, Purpose, Read, Request, Resolve, Swap, Transact, Transfer, Write,
};
use crate::scripts::{account, key};
use crate::types::{Leg, RequestId, Subject, Time};

const START: CommitSeq = CommitSeq::new(10);
const ACCOUNTS: [&str; 5] = ["alice", "bob", "carol", "xena", "yuri"];
const KEYS: [&str; 3] = ["k", "j", "far"];

enum Asked {
    Prepare(SharedBatch),
    Decide(SharedDecision),
}

/// A request as the coordinator knows it.
struct Undecided {
    at: TxnRef,
    /// Of each shard that was asked the last vote, if it gave one.
    votes: HashMap<usize, Option<Vote>>,
}

impl Undecided {
    fn is_granted(&self) -> bool {
        self.votes.values().all(|vote| *vote == Some(Vote::Yes))
    }

    /// What another shard said against it.
    fn against(&self) -> Option<&Vote> {
        let mut votes = self.votes.values().flatten();
        votes.find(|vote| !matches!(vote, Vote::Yes | Vote::Wait))
    }
}

/// What is true, in commit_seq order.
#[derive(Default)]
struct Truth {
    balances: BTreeMap<BalanceKey, Vec<(CommitSeq, Balance)>>,
    keys: HashMap<Key, Vec<CommitSeq>>,
    locks: HashMap<BalanceKey, Token>,
    rows: HashMap<(CommitSeq, BalanceKey), Row>,
}

impl Truth {
    /// A balance as of a seq, and its version.
    fn at(&self, key: BalanceKey, seq: CommitSeq) -> (CommitSeq, Balance) {
        let history = self.balances.get(&key).map(Vec::as_slice).unwrap_or_default();
        history.iter().rev().find(|(at, _)| *at <= seq).copied().unwrap_or_default()
    }

    fn version(&self, of: &Subject, seq: CommitSeq) -> CommitSeq {
        match of {
            Subject::Balance(key) => self.at(*key, seq).0,
            Subject::Key(key) => {
                let history = self.keys.get(key).map(Vec::as_slice).unwrap_or_default();
                history.iter().rev().find(|at| **at <= seq).copied().unwrap_or_default()
            }
        }
    }

    fn commit(&mut self, txn: &Txn, seq: CommitSeq) {
        if let Command::Transact(transact) = &txn.command {
            for Read { subject, version } in &transact.reads {
                assert_eq!(self.version(subject, seq), *version, "{subject} was read");
            }
            for write in &transact.writes {
                self.keys.entry(write.key.clone()).or_default().push(seq);
            }
        }
        for op in txn.row_ops() {
            assert!(!(op.side.needs_funds() && self.locks.contains_key(&op.key)), "{op:?}: locked");
            let (_, before) = self.at(op.key, seq);
            let after = op.apply(before).expect("granted");
            self.balances.entry(op.key).or_default().push((seq, after));
            self.rows.insert((seq, op.key), Row { before, after });
            if op.side == Side::Lock {
                self.locks.insert(op.key, Token::of(txn.id));
            }
            if let Some(hold) = txn.hold()
                && self.locks.get(&op.key) == Some(&hold.token)
                && matches!(op.side, Side::Spend | Side::Release)
            {
                self.locks.remove(&op.key);
            }
        }
    }

    /// Whether a reason was one at that seq.
    fn check(&self, txn: &Txn, reject: &Reject, seq: CommitSeq) {
        let op_on = |account, asset| {
            let key = BalanceKey { account, asset };
            let op = txn.ops().find(|op| op.key == key && op.side.needs_funds());
            let op = op.expect("it takes from there");
            (op.amount.get(), self.at(key, seq).1)
        };
        match reject {
            Reject::InsufficientFunds { account, asset, short_by, seq: saw } => {
                let (amount, found) = op_on(*account, *asset);
                assert_eq!((found.available.get() + short_by.get(), *saw), (amount, seq));
            }
            Reject::HeldShareExceeded { account, asset, max_percent } => {
                let (amount, found) = op_on(*account, *asset);
                let (held, all) = (found.held.get() + amount, found.total().get());
                assert!(held * 100 > u128::from(*max_percent) * all);
            }
            Reject::Conflict { subject } => {
                let Command::Transact(transact) = &txn.command else { panic!("it reads nothing") };
                let read = transact.reads.iter().find(|read| read.subject == *subject);
                assert_ne!(read.expect("it was read").version, self.version(subject, seq));
            }
            other => panic!("nobody is unlinked: {other}"),
        }
    }
}

struct World {
    rng: SmallRng,
    directory: Directory,
    shards: Vec<Balances>,
    asked: Vec<VecDeque<Asked>>,
    batches: Vec<SharedBatch>,
    undecided: Vec<Undecided>,
    decisions: u64,
    last_seq: CommitSeq,
    truth: Truth,
    holds: Vec<Hold>,
    asks_left: u32,
    /// How often each kind of vote was given.
    seen: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let shards = rng.random_range(1..=3);
        let percent = *[100, 100, 50].choose(&mut rng).expect("some");
        let new = |shard| Balances::new(shard, shards, START, percent);
        let mut world = Self {
            directory: crate::scripts::directory(),
            shards: (0..shards).map(new).collect(),
            asked: (0..shards).map(|_| VecDeque::new()).collect(),
            batches: Vec::new(),
            undecided: Vec::new(),
            decisions: 0,
            last_seq: START,
            truth: Truth::default(),
            holds: Vec::new(),
            asks_left: rng.random_range(5..40),
            seen: BTreeMap::new(),
            rng,
        };
        for name in ACCOUNTS {
            for asset in [0, 2].map(AssetId::new) {
                let key = BalanceKey { account: account(name), asset };
                let available = Amount::new(world.rng.random_range(0..100));
                let balance = Balance { available, held: Amount::ZERO };
                world.shards[key.account.shard(shards)].restore(key, balance, START, true);
                world.truth.balances.insert(key, vec![(START, balance)]);
            }
        }
        world
    }

    fn run(mut self) -> BTreeMap<&'static str, u64> {
        while self.asks_left > 0 || !self.undecided.is_empty() || !self.is_still() {
            match self.rng.random_range(0..4) {
                0 if self.asks_left > 0 => self.ask(),
                1 => self.decide(),
                _ => self.advance(),
            }
            if self.is_still() {
                self.check_the_first();
            }
        }
        self.check_the_end();
        self.seen
    }

    fn is_still(&self) -> bool {
        self.asked.iter().all(VecDeque::is_empty)
    }

    /// Whoever has nobody undecided before it waits for nobody.
    fn check_the_first(&self) {
        if let Some(first) = self.undecided.first() {
            let decided = first.is_granted() || first.against().is_some();
            assert!(decided, "{:?} waits for a later one: {:?}", first.at, first.votes);
        }
    }

    fn check_the_end(&self) {
        for (number, shard) in self.shards.iter().enumerate() {
            assert!(shard.is_quiet(), "shard {number} has grants or waiters left");
        }
        for (key, history) in &self.truth.balances {
            let shard = &self.shards[key.account.shard(self.shards.len())];
            let (version, balance) = history.last().expect("made with one");
            let found = shard.read_many(&[*key]);
            assert_eq!(found.balances, [(*balance, *version)]);
            let number = shard.find(*key).expect("it is there");
            assert_eq!(shard.slots.locked_by(number), self.truth.locks.get(key).copied());
        }
        for (key, versions) in &self.truth.keys {
            let record = self.shards[key.shard(self.shards.len())].records.get(key);
            assert_eq!(Some(&record.version), versions.last());
        }
    }

    fn ask(&mut self) {
        self.asks_left -= 1;
        let number = self.batches.len() as u64;
        let many = self.rng.random_range(1..=4);
        let txns: Vec<Txn> = (0..many).filter_map(|index| self.txn(number, index)).collect();
        if txns.is_empty() {
            return;
        }
        for (index, txn) in (0..).zip(&txns) {
            let shards = (0..self.shards.len()).filter(|shard| txn.shards & (1 << shard) != 0);
            let at = TxnRef { batch: number, index };
            let votes = shards.map(|shard| (shard, None)).collect();
            self.undecided.push(Undecided { at, votes });
        }
        let batch = Arc::new(Batch { number, txns, slots: Vec::new(), sequenced_nanos: 0 });
        self.batches.push(batch.clone());
        for asked in &mut self.asked {
            asked.push_back(Asked::Prepare(batch.clone()));
        }
    }

    /// A request; `None` if chance made one whose legs cancel out.
    fn txn(&mut self, batch: u64, index: u32) -> Option<Txn> {
        let shards = self.shards.len();
        let id = RequestId::new((u128::from(batch) << 32) | u128::from(index + 1));
        let legs = self.rng.random_range(2..=3);
        let command = match self.rng.random_range(0..12) {
            0..3 => Command::Swap(self.swap(legs)),
            3 => {
                let Leg { from, asset, amount, .. } = self.leg();
                let reference = "".into();
                let transfer = Transfer { account: from, asset, amount, reference };
                let deposits = self.rng.random_bool(0.5);
                if deposits { Command::Deposit(transfer) } else { Command::Withdraw(transfer) }
            }
            4..6 => {
                let (swap, exclusive) = (self.swap(legs), self.rng.random_bool(0.5));
                Command::Prepare(Box::new(Prepare { swap, expires_in_ms: 1, exclusive }))
            }
            6..9 if !self.holds.is_empty() => {
                let place = self.rng.random_range(0..self.holds.len());
                return Some(self.resolution(id, place));
            }
            _ => Command::Transact(Box::new(self.transact())),
        };
        Txn::new(Request::new(id, command), 0, shards).ok()
    }

    fn resolution(&mut self, id: RequestId, place: usize) -> Txn {
        let hold = Box::new(self.holds.swap_remove(place));
        let shards = self.shards.len();
        let action = match (&hold.purpose, self.rng.random_range(0..3)) {
            (_, 0) => return Txn::expiry(hold, shards),
            (Purpose::Swap(_), 1) => Action::Commit,
            (Purpose::Swap(_), _) => Action::Rollback,
            (Purpose::Withdrawal(_), 1) => Action::Confirm,
            (Purpose::Withdrawal(_), _) => Action::Cancel,
        };
        let command = Command::Resolve(Resolve { token: hold.token, action });
        let mut txn = Txn::new(Request::new(id, command), 0, shards).expect("well-formed");
        txn.attach(hold, shards);
        txn
    }

    fn leg(&mut self) -> Leg {
        let from = self.rng.random_range(0..ACCOUNTS.len());
        let to = (from + self.rng.random_range(1..ACCOUNTS.len())) % ACCOUNTS.len();
        let asset = AssetId::new(*[0, 2].choose(&mut self.rng).expect("some"));
        let amount = Amount::new(*[1, 5, 20, 50].choose(&mut self.rng).expect("some"));
        Leg { from: account(ACCOUNTS[from]), to: account(ACCOUNTS[to]), asset, amount }
    }

    fn swap(&mut self, legs: usize) -> Swap {
        Swap::new((0..legs).map(|_| self.leg()).collect::<Vec<_>>()).expect("well-formed")
    }

    fn transact(&mut self) -> Transact {
        let mut transact = Transact::default();
        for name in KEYS {
            if self.rng.random_bool(0.2) {
                transact.reads.push(self.read(Subject::Key(key(name))));
            }
            if self.rng.random_bool(0.2) {
                transact.writes.push(Write { key: key(name), value: None });
            }
        }
        if self.rng.random_bool(0.5) {
            let leg = self.leg();
            let from = BalanceKey { account: leg.from, asset: leg.asset };
            transact.reads.push(self.read(Subject::Balance(from)));
            if self.rng.random_bool(0.5) {
                transact.transfers.push(leg);
            }
        }
        if self.rng.random_bool(0.3) {
            transact.transfers.push(self.leg());
        }
        transact
    }

    fn read(&mut self, subject: Subject) -> Read {
        let current = self.truth.version(&subject, self.last_seq);
        let stale = self.rng.random_bool(0.1);
        Read { subject, version: if stale { CommitSeq::new(1) } else { current } }
    }

    fn advance(&mut self) {
        let shard = self.rng.random_range(0..self.shards.len());
        let (core, mut votes) = (&mut self.shards[shard], Votes::default());
        match self.asked[shard].pop_front() {
            Some(Asked::Prepare(batch)) => {
                core.prepare(&batch, &self.directory, &mut votes);
                self.first_votes(shard, &batch, &votes);
            }
            Some(Asked::Decide(decision)) => {
                let (rows, slots) = (Vec::new(), Vec::new());
                let mut applied = Applied { decision: decision.number, shard, rows, slots };
                core.decide(&decision, &self.directory, &mut applied, &mut votes);
                self.check_rows(shard, &decision, &applied);
                for (at, vote) in votes.late {
                    assert!(vote != Vote::Wait && !matches!(vote, Vote::Busy(_)));
                    self.vote(shard, at, vote, true);
                }
            }
            None => {}
        }
    }

    fn first_votes(&mut self, shard: usize, batch: &SharedBatch, votes: &Votes) {
        for (index, txn) in (0..).zip(&batch.txns).filter(|(_, it)| it.shards & (1 << shard) != 0) {
            let exception = votes.exceptions.iter().find(|(of, _)| *of == index);
            let vote = exception.map_or(Vote::Yes, |(_, vote)| vote.clone());
            match &txn.command {
                Command::Transact(_) => assert_ne!(vote, Vote::Wait, "a transaction never waits"),
                Command::Resolve(_) => assert!(matches!(vote, Vote::Yes | Vote::Wait)),
                _ => assert!(!matches!(vote, Vote::Busy(_))),
            }
            self.vote(shard, TxnRef { batch: batch.number, index }, vote, false);
        }
    }

    fn vote(&mut self, shard: usize, at: TxnRef, vote: Vote, late: bool) {
        let txn = &self.batches[at.batch as usize].txns[at.index as usize];
        if let Vote::No(reject, seq) = &vote {
            self.truth.check(txn, reject, *seq);
        }
        let resolves = matches!(txn.command, Command::Resolve(_));
        let kind = match (&vote, late) {
            (Vote::Wait, _) if resolves => "a resolution blocked",
            (Vote::Wait, _) => "waits",
            (Vote::Yes, false) => "yes",
            (Vote::Yes, true) => "late yes",
            (Vote::No(..), true) => "late no",
            (Vote::No(reject, _), false) => reject.code(),
            (Vote::Locked(_), false) => "locked",
            (Vote::Locked(_), true) => "late locked",
            (Vote::Busy(_), _) => "busy",
        };
        *self.seen.entry(kind).or_default() += 1;
        if let Some(of) = self.undecided.iter_mut().find(|of| of.at == at) {
            let was = of.votes.insert(shard, Some(vote)).expect("it was asked");
            assert_eq!(was, late.then_some(Vote::Wait), "one vote, or one after a wait");
        }
    }

    fn check_rows(&self, shard: usize, decision: &Decision, applied: &Applied) {
        let mut rows = applied.rows.iter();
        for (seq, at) in (decision.first_seq.get()..).zip(&decision.commits) {
            let txn = &self.batches[at.batch as usize].txns[at.index as usize];
            let own = |op: &Op| op.key.account.shard(self.shards.len()) == shard;
            for op in txn.row_ops().filter(own) {
                assert_eq!(rows.next(), self.truth.rows.get(&(CommitSeq::new(seq), op.key)));
            }
        }
        assert_eq!(rows.next(), None);
    }

    fn decide(&mut self) {
        let mut decision = Decision {
            number: self.decisions,
            first_seq: self.last_seq.next(),
            time: Time::default(),
            commits: Vec::new(),
            refusals: Vec::new(),
            duplicates: Vec::new(),
            repeats: Vec::new(),
            deferred: Vec::new(),
            voted_nanos: 0,
            decided_nanos: 0,
        };
        for of in std::mem::take(&mut self.undecided) {
            // Some are decided later than they could be.
            if self.rng.random_bool(0.3) {
                self.undecided.push(of);
                continue;
            }
            match of.against() {
                Some(Vote::No(reject, seq)) => {
                    let (reject, seq) = (reject.clone(), *seq);
                    decision.refusals.push(RefusedTxn { txn: of.at, reject, seq });
                }
                Some(_) => decision.deferred.push(of.at),
                None if of.is_granted() => decision.commits.push(of.at),
                None => self.undecided.push(of),
            }
        }
        if decision.commits.len() + decision.refusals.len() + decision.deferred.len() == 0 {
            return;
        }
        for at in &decision.commits {
            self.commit(*at);
        }
        self.decisions += 1;
        let decision = Arc::new(decision);
        for asked in &mut self.asked {
            asked.push_back(Asked::Decide(decision.clone()));
        }
    }

    fn commit(&mut self, at: TxnRef) {
        let txn = &self.batches[at.batch as usize].txns[at.index as usize];
        self.last_seq = self.last_seq.next();
        self.truth.commit(txn, self.last_seq);
        let (purpose, exclusive) = match &txn.command {
            Command::Prepare(prepare) => (Purpose::Swap(prepare.swap.clone()), prepare.exclusive),
            Command::Withdraw(transfer) => (Purpose::Withdrawal(transfer.clone()), false),
            _ => return,
        };
        let (token, expires_at, since) = (Token::of(txn.id), Time::NEVER, self.last_seq);
        self.holds.push(Hold { token, purpose, exclusive, expires_at, since });
    }
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn whoever_waits_waits_for_an_earlier_one() {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(3_000),
    };
    let (mut seen, many) = (BTreeMap::new(), seeds.end - seeds.start > 1);
    for seed in seeds {
        let run = std::panic::catch_unwind(|| World::new(seed).run());
        let found = run.unwrap_or_else(|panic| {
            eprintln!("seed {seed} failed; replay it with SEED={seed}");
            std::panic::resume_unwind(panic)
        });
        for (kind, times) in found {
            *seen.entry(kind).or_insert(0) += times;
        }
    }
    println!("{seen:?}");
    let kinds = [
        "yes",
        "waits",
        "late yes",
        "late no",
        "insufficient_funds",
        "held_share_exceeded",
        "conflict",
        "busy",
        "locked",
        "late locked",
        "a resolution blocked",
    ];
    for kind in kinds.into_iter().filter(|_| many) {
        let times = seen.get(kind).copied().unwrap_or_default();
        assert!(times >= 100, "{kind}: only {times} times, so it was hardly tested");
    }
}
