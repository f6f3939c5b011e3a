//! A machine, some shards, a log that is not one, and the channels between them.
//!
//! ```text
//! submissions ─► machine ─► asked[shard] ─► shard ─► votes[shard] ─► machine
//!                   └─► decisions ─► (shard's rows) ─► durable, a few at a time
//! ```
//!
//! Each channel keeps its order; which one moves next is chance. The driver does what the
//! coordinator's loop does and no more: it tells of decisions before it asks about another batch.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::config::{Limits, SUPPLY_MAX};
use crosslatch::coordinator::ids::{Ids, Resolved, SeenBefore};
use crosslatch::coordinator::payers_of;
use crosslatch::coordinator::txn::{Machine, Start};
use crosslatch::directory::Directory;
use crosslatch::message::{
    AccountBalances, Applied, SharedBatch, SharedDecision, Submission, Txn, TxnRef, Vote, Votes,
};
use crosslatch::request::{Command, Resolve};
use crosslatch::shard::balances::Balances;
use crosslatch::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, CommitSeq, RequestId, Subject, Time, Token,
};

use crate::Coverage;
use crate::requests::{ASSETS, CAP_ROOM, CAPPED, Requests, Shape, asset, own_link};

/// The seq at which every world starts, as after a recovery.
pub const START: CommitSeq = CommitSeq::new(10);

/// What the coordinator sends to a shard.
enum Asked {
    Prepare(SharedBatch),
    Decide(SharedDecision),
}

/// What the store knows: outcomes that are durable, and what is folded.
#[derive(Default)]
struct Stored {
    ids: HashSet<RequestId>,
    decisions: u64,
    resolutions: HashMap<Token, Resolved>,
    credits: HashMap<(AssetId, u128), CommitSeq>,
    applied: CommitSeq,
}

#[derive(Clone, Default)]
struct Store(Arc<Mutex<Stored>>);

impl SeenBefore for Store {
    fn seen(&self, id: RequestId) -> Result<bool, String> {
        Ok(self.0.lock().expect("one thread").ids.contains(&id))
    }

    fn durable_decisions(&self) -> u64 {
        self.0.lock().expect("one thread").decisions
    }

    fn resolution(&self, token: Token) -> Result<Option<Resolved>, String> {
        Ok(self.0.lock().expect("one thread").resolutions.get(&token).cloned())
    }

    fn credited(&self, asset: AssetId, reference: u128) -> Result<Option<CommitSeq>, String> {
        Ok(self.0.lock().expect("one thread").credits.get(&(asset, reference)).copied())
    }

    fn applied_seq(&self) -> CommitSeq {
        self.0.lock().expect("one thread").applied
    }
}

/// A decision with the rows that the shards sent for it.
pub struct Logged {
    /// The decision.
    pub decision: SharedDecision,
    /// By shard; `None` while it has not come.
    pub applied: Vec<Option<Applied>>,
}

/// A balance read in between, to be checked when the replay comes to its seq.
pub struct ReadBack {
    /// Whose.
    pub account: AccountId,
    /// What the shard showed.
    pub found: AccountBalances,
}

/// A balance that exists before anything is asked.
pub type Funded = (BalanceKey, Amount);

/// One seed's world.
pub struct World {
    rng: SmallRng,
    requests: Requests,
    submissions_left: u32,
    machine: Machine<Store>,
    store: Store,
    directory: Arc<Directory>,
    asked: Vec<VecDeque<Asked>>,
    votes: Vec<VecDeque<Votes>>,
    now: Time,
    /// How likely each actor moves: a slow shard is what makes late votes overtake.
    speeds: Vec<u32>,
    /// The shards.
    pub shards: Vec<Balances>,
    /// What there was at the start.
    pub funded: Vec<Funded>,
    /// Accounts at the start, and the chains on which they are linked.
    pub accounts: Vec<(AccountId, Vec<u64>)>,
    /// Every batch, by number.
    pub batches: Vec<SharedBatch>,
    /// Logical time at which each batch was sequenced.
    pub sequenced: Vec<Time>,
    /// `D` when each submission was handed over: what its caller may have heard of.
    pub known: Vec<CommitSeq>,
    /// Every request handed over.
    pub submitted: usize,
    /// The log.
    pub log: Vec<Logged>,
    durable: usize,
    folded: usize,
    /// Newest version of everything, of what is decided.
    versions: HashMap<Subject, CommitSeq>,
    /// The limits in force.
    pub limits: Limits,
    /// What was read on the way.
    pub reads: Vec<ReadBack>,
    /// What happened.
    pub coverage: Coverage,
    /// By shard, whom it told to wait and owes a late vote, or a decision.
    waiting: Vec<HashSet<TxnRef>>,
    decided: HashSet<TxnRef>,
}

/// Everything that can happen next.
#[derive(Clone, Copy)]
enum Step {
    Submit,
    Sequence,
    Shard(usize),
    Vote(usize),
    Decide,
    Persist,
    Fold,
    Read,
    Wait,
}

impl World {
    /// The world of a seed, at its start.
    pub fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let shape = Shape::random(&mut rng);
        let shards = [1, 2, 5][rng.random_range(0..3)];
        let limits = Limits {
            shards,
            batches_voting_max: rng.random_range(1..=6),
            holds_per_account_max: [10_000, 3][rng.random_range(0..2)],
            held_share_max_percent: [100, 100, 60][rng.random_range(0..3)],
            lock_wait_ms: [50, 1_000][rng.random_range(0..2)],
            parked_requests_max: [10_000, 2][rng.random_range(0..2)],
            transaction_attempts_max: rng.random_range(1..=4),
            ..Limits::default()
        };
        let directory = Arc::new(Directory::new());
        let accounts = found(&directory, &shape, &mut rng);
        let funded = fund(&accounts, &mut rng);
        let mut cores: Vec<Balances> = (0..shards)
            .map(|shard| Balances::new(shard, shards, START, limits.held_share_max_percent))
            .collect();
        let mut supply = vec![Amount::ZERO; ASSETS.len()];
        for (key, amount) in &funded {
            let linked = directory.chain(key.asset).expect("it exists");
            let linked = directory.check_linked(key.account, linked).is_ok();
            let balance = Balance { available: *amount, held: Amount::ZERO };
            cores[key.account.shard(shards)].restore(*key, balance, START, linked);
            let sum = &mut supply[key.asset.get() as usize];
            *sum = sum.checked_add(*amount).expect("below the cap");
        }
        let now = Time::new(1_000_000_000_000);
        let store = Store::default();
        let ids = Ids::new(now, 10_000, rng.random_range(1..200));
        let start = Start { last_seq: START, supply, ..Start::default() };
        let versions = funded.iter().map(|(key, _)| (Subject::Balance(*key), START)).collect();
        let speeds = (0..2 * shards + 7).map(|_| [1, 4, 20][rng.random_range(0..3)]).collect();
        Self {
            requests: Requests::new(shape),
            submissions_left: rng.random_range(5..60),
            machine: Machine::new(&limits, directory.clone(), store.clone(), ids, start),
            store,
            directory,
            asked: (0..shards).map(|_| VecDeque::new()).collect(),
            votes: (0..shards).map(|_| VecDeque::new()).collect(),
            now,
            speeds,
            shards: cores,
            funded,
            accounts,
            batches: Vec::new(),
            sequenced: Vec::new(),
            known: Vec::new(),
            submitted: 0,
            log: Vec::new(),
            durable: 0,
            folded: 0,
            versions,
            limits,
            reads: Vec::new(),
            coverage: Coverage::default(),
            waiting: vec![HashSet::new(); shards],
            decided: HashSet::new(),
            rng,
        }
    }

    /// Lets things happen until nothing more can. What is undecided then is a deadlock.
    pub fn run(&mut self) {
        loop {
            let Some(step) = self.choose() else {
                // Nothing moves: time does, until the last hold is over.
                let Some(due) = self.machine.next_due() else { break };
                self.now = self.now.max(due);
                self.coverage.idle_until_due += 1;
                if !self.machine.has_backlog(self.now) {
                    break;
                }
                continue;
            };
            match step {
                Step::Submit => self.submit(),
                Step::Sequence => self.sequence(),
                Step::Shard(shard) => self.on_shard(shard),
                Step::Vote(shard) => self.on_votes(shard),
                Step::Decide => self.decide(),
                Step::Persist => self.persist(),
                Step::Fold => self.fold(),
                Step::Read => self.read(),
                Step::Wait => self.now = Time::new(self.now.get() + self.pause()),
            }
        }
        assert!(self.machine.is_idle(), "deadlock: undecided, and no message on its way");
        let waits = self.waiting.iter().flatten().next();
        assert!(waits.is_none(), "waits for ever: {waits:?}");
        for shard in &self.shards {
            assert!(shard.is_quiet(), "all is decided, yet grants or waiters remain");
        }
    }

    fn pause(&mut self) -> u64 {
        if self.rng.random_bool(0.1) { 4_000_000 } else { self.rng.random_range(0..200_000) }
    }

    /// Everything that is not a message in its channel happens only while there are some.
    fn choose(&mut self) -> Option<Step> {
        let shards = self.shards.len();
        let mut steps = Vec::with_capacity(self.speeds.len());
        let mut add = |possible: bool, step: Step, speed: u32| {
            if possible {
                steps.push((step, speed));
            }
        };
        for shard in 0..shards {
            add(!self.asked[shard].is_empty(), Step::Shard(shard), self.speeds[shard]);
            add(!self.votes[shard].is_empty(), Step::Vote(shard), self.speeds[shards + shard]);
        }
        let others: [u32; 7] = self.speeds[2 * shards..].try_into().expect("seven more");
        let [submit, sequence, decide, persist, read, wait, fold] = others;
        add(self.submissions_left > 0, Step::Submit, submit);
        let sequences = self.machine.has_backlog(self.now) && self.machine.can_sequence();
        add(sequences, Step::Sequence, sequence);
        add(self.log.len() > self.durable, Step::Persist, persist);
        add(self.durable > self.folded, Step::Fold, fold);
        if sequences || self.submissions_left > 0 || self.asked.iter().any(|it| !it.is_empty()) {
            add(true, Step::Read, read.min(4));
            add(true, Step::Wait, wait.min(4));
        }
        add(true, Step::Decide, decide);
        let only_empty_decisions = steps.len() == 1 && !self.has_decision();
        if only_empty_decisions { None } else { Some(self.draw(&steps)) }
    }

    fn draw(&mut self, steps: &[(Step, u32)]) -> Step {
        let mut place = self.rng.random_range(0..steps.iter().map(|(_, speed)| speed).sum());
        for (step, speed) in steps {
            match place.checked_sub(*speed) {
                None => return *step,
                Some(rest) => place = rest,
            }
        }
        unreachable!("the place is below the sum")
    }

    /// Whether the machine had something to tell; tells it.
    fn has_decision(&mut self) -> bool {
        let before = self.log.len();
        self.decide();
        // A sequencing that found nothing but emptied submissions may also come now.
        let sequences = self.machine.has_backlog(self.now) && self.machine.can_sequence();
        self.log.len() > before || sequences
    }

    fn submit(&mut self) {
        self.submissions_left -= 1;
        let count = self.rng.random_range(1..=6);
        let shards = self.shards.len();
        let mut txns = Vec::new();
        let versions = |subject: &Subject| self.versions.get(subject).copied().unwrap_or_default();
        while txns.len() < count {
            let request = self.requests.next(&mut self.rng, self.now, &versions);
            // What is malformed is refused at the engine's door.
            txns.extend(Txn::new(request, 0, shards));
        }
        self.submitted += txns.len();
        self.known.push(self.durable_seq());
        let (reply, _) = tokio::sync::oneshot::channel();
        self.machine.enqueue(Submission { txns, reply, accepted_nanos: 0 });
    }

    fn durable_seq(&self) -> CommitSeq {
        self.durable.checked_sub(1).map_or(START, |last| self.log[last].decision.last_seq())
    }

    fn sequence(&mut self) {
        self.decide();
        let sequenced = self.machine.next_batch(self.now, 0).expect("the store answers");
        let Some(sequenced) = sequenced else {
            return;
        };
        assert_eq!(sequenced.batch.number, self.batches.len() as u64);
        self.coverage.duplicates += sequenced.duplicates;
        self.batches.push(sequenced.batch.clone());
        self.sequenced.push(self.now);
        for asked in &mut self.asked {
            asked.push_back(Asked::Prepare(sequenced.batch.clone()));
        }
    }

    fn on_shard(&mut self, shard: usize) {
        let core = &mut self.shards[shard];
        match self.asked[shard].pop_front().expect("chosen because there is one") {
            Asked::Prepare(batch) => {
                let mut votes = Votes { shard, batch: Some(batch.number), ..Votes::default() };
                core.prepare(&batch, &*self.directory, &mut votes);
                self.note_first_votes(&votes);
                self.votes[shard].push_back(votes);
            }
            Asked::Decide(decision) => {
                let number = decision.number;
                let mut applied =
                    Applied { decision: number, shard, rows: Vec::new(), slots: Vec::new() };
                let mut votes = Votes { shard, ..Votes::default() };
                core.decide(&decision, &*self.directory, &mut applied, &mut votes);
                for refused in &decision.refusals {
                    self.waiting[shard].remove(&refused.txn);
                }
                for deferred in &decision.deferred {
                    self.waiting[shard].remove(deferred);
                }
                self.note_late_votes(&votes);
                if !votes.late.is_empty() {
                    self.votes[shard].push_back(votes);
                }
                let place = usize::try_from(number).expect("few decisions");
                self.log[place].applied[shard] = Some(applied);
            }
        }
    }

    fn note_first_votes(&mut self, votes: &Votes) {
        let batch = votes.batch.expect("first votes");
        for (index, vote) in &votes.exceptions {
            let at = TxnRef { batch, index: *index };
            assert!(!matches!(vote, Vote::Yes), "a yes is no exception");
            match vote {
                Vote::Wait => {
                    self.coverage.waits += 1;
                    self.waiting[votes.shard].insert(at);
                }
                Vote::Busy(_) => self.coverage.busy += 1,
                Vote::Locked(_) => self.coverage.locked += 1,
                Vote::Yes | Vote::No(..) => {}
            }
        }
    }

    fn note_late_votes(&mut self, votes: &Votes) {
        for (at, vote) in &votes.late {
            match vote {
                Vote::Yes => self.coverage.late_yes += 1,
                Vote::No(..) => self.coverage.late_no += 1,
                Vote::Locked(_) => self.coverage.late_locked += 1,
                Vote::Wait | Vote::Busy(_) => panic!("a late vote is final: {vote:?}"),
            }
            assert!(self.waiting[votes.shard].remove(at), "voted twice on {at:?}");
        }
    }

    fn on_votes(&mut self, shard: usize) {
        let votes = self.votes[shard].pop_front().expect("chosen because there is one");
        let dropped = |at: &TxnRef| self.decided.contains(at);
        self.coverage.late_and_dropped +=
            votes.late.iter().filter(|(at, _)| dropped(at)).count() as u64;
        self.machine.on_votes(votes, self.now);
    }

    fn decide(&mut self) {
        let Some(decision) = self.machine.take_decision(self.now, 0, 0) else {
            return;
        };
        assert_eq!(decision.number, self.log.len() as u64, "decisions are dense");
        let refused = decision.refusals.iter().map(|refused| &refused.txn);
        let repeated = decision.repeats.iter().map(|repeated| &repeated.txn);
        let others = decision.duplicates.iter().chain(&decision.deferred).chain(repeated);
        for at in decision.commits.iter().chain(refused).chain(others) {
            assert!(self.decided.insert(*at), "decided twice: {at:?}");
        }
        for (seq, at) in (decision.first_seq.get()..).zip(&decision.commits) {
            self.note_versions(*at, CommitSeq::new(seq));
        }
        let applied = self.shards.iter().map(|_| None).collect();
        self.log.push(Logged { decision: decision.clone(), applied });
        for asked in &mut self.asked {
            asked.push_back(Asked::Decide(decision.clone()));
        }
    }

    fn note_versions(&mut self, at: TxnRef, seq: CommitSeq) {
        let txn = &self.batches[usize::try_from(at.batch).expect("few")].txns[at.index as usize];
        for op in txn.row_ops() {
            self.versions.insert(Subject::Balance(op.key), seq);
        }
        if let Command::Transact(transact) = &txn.command {
            for write in &transact.writes {
                self.versions.insert(Subject::Key(write.key.clone()), seq);
            }
        }
    }

    /// One more decision is in the version store.
    fn fold(&mut self) {
        let decision = self.log[self.folded].decision.clone();
        let mut store = self.store.0.lock().expect("one thread");
        for (seq, at) in (decision.first_seq.get()..).map(CommitSeq::new).zip(&decision.commits) {
            let batch = &self.batches[usize::try_from(at.batch).expect("few")];
            let txn = &batch.txns[at.index as usize];
            match &txn.command {
                Command::Resolve(Resolve { token, action }) => {
                    let (how, is_withdrawal) = (action.resolution(), action.is_of_withdrawal());
                    let payers = payers_of(txn.hold().expect("what ends a hold has it"));
                    let resolved = Resolved { how, seq, is_withdrawal, payers };
                    store.resolutions.insert(*token, resolved);
                }
                Command::Deposit(to) => {
                    let credit = to.reference_hash().map(|reference| ((to.asset, reference), seq));
                    store.credits.extend(credit);
                }
                _ => {}
            }
        }
        store.applied = decision.last_seq();
        self.folded += 1;
    }

    /// One more decision is on disk, if every shard's rows are there.
    fn persist(&mut self) {
        let Logged { decision, applied } = &self.log[self.durable];
        if applied.iter().any(Option::is_none) {
            return;
        }
        let mut store = self.store.0.lock().expect("one thread");
        let refused = decision.refusals.iter().map(|refused| &refused.txn);
        let repeated = decision.repeats.iter().map(|repeated| &repeated.txn);
        for at in decision.commits.iter().chain(refused).chain(repeated) {
            let batch = &self.batches[usize::try_from(at.batch).expect("few batches")];
            store.ids.insert(batch.txns[at.index as usize].id);
        }
        store.decisions += 1;
        self.durable += 1;
    }

    fn read(&mut self) {
        let (account, _) = self.accounts[self.rng.random_range(0..self.accounts.len())];
        let shard = account.shard(self.shards.len());
        let found = self.shards[shard].read(account, self.directory.assets_len());
        self.coverage.reads += 1;
        self.reads.push(ReadBack { account, found });
    }

    /// How many holds the machine has open, and how many requests it has parked.
    pub fn held(&self) -> (usize, usize) {
        self.machine.held()
    }

    /// Deposits − withdrawals, as the machine has it.
    pub fn supply(&self) -> Vec<Amount> {
        self.machine.supply()
    }
}

/// Makes the assets and most of the accounts, most of them linked everywhere.
fn found(directory: &Directory, shape: &Shape, rng: &mut SmallRng) -> Vec<(AccountId, Vec<u64>)> {
    for (name, chain) in ASSETS {
        directory.insert_asset(asset(name, chain));
    }
    let missing = rng.random_bool(0.3);
    let mut accounts = Vec::new();
    for account in (0..shape.accounts).map(AccountId::new) {
        if missing && account.get() == 3 {
            continue;
        }
        let chains: Vec<u64> =
            (1..=3).filter(|_| account.get() == 0 || rng.random_bool(0.95)).collect();
        let links: Vec<_> = chains.iter().map(|chain| own_link(account, *chain)).collect();
        directory.insert_account(account, &links);
        accounts.push((account, chains));
    }
    accounts
}

/// Gives accounts about 100 of most assets, linked or not; the first holds nearly all of the capped.
fn fund(accounts: &[(AccountId, Vec<u64>)], rng: &mut SmallRng) -> Vec<Funded> {
    let mut funded = Vec::new();
    for (account, _) in accounts {
        for asset in (0..3).map(AssetId::new) {
            if rng.random_bool(0.8) {
                let key = BalanceKey { account: *account, asset };
                funded.push((key, Amount::new(rng.random_range(0..150))));
            }
        }
    }
    let rich = BalanceKey { account: AccountId::new(0), asset: CAPPED };
    funded.push((rich, Amount::new(SUPPLY_MAX - CAP_ROOM)));
    funded
}
