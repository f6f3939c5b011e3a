//! Random requests against a plain serial oracle: whatever the engine does side by side must come
//! to what happens when one does the same thing one after another, in the order of the seqs.
//!
//! * One request at a time: every outcome, and what it says, is known beforehand.
//! * Many in a submission, and many submitters at once: the receipts, in the order of their seqs,
//!   must be what the oracle does, every refusal true of the state that it names, and every read
//!   the state as of its seq. What was submitted after an answer comes after it.
//!
//! Holds end by themselves meanwhile, some are exclusive, and transactions read what others change.
//!
//! `CROSSLATCH_SEED=n cargo test --release --test model` repeats a run (the ones with many
//! threads only as far as the threads allow).

mod support;
#[path = "support/oracle.rs"]
mod oracle;
#[path = "support/workload.rs"]
mod workload;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crosslatch::engine::{Durability, Engine, Known, Options, Pending};
use crosslatch::error::{Error, Reject};
use crosslatch::message::AccountBalances;
use crosslatch::request::{Action, Command, Hold, Outcome, Purpose, Request};
use crosslatch::types::{AccountId, BalanceKey, CommitSeq, RequestId, Subject, Time, Token};

use oracle::{Oracle, is_repeat, reject, seq_of};
use support::{
    ETH, SOL, USDC, block_on, deposit, fresh, fresh_id, in_time, opening, put_account, resolve,
    scratch, seed,
};
use workload::{Past, Workload};

const SHARDS: [usize; 3] = [1, 2, 5];
const SINGLES: usize = 6_000;
const BATCHES: usize = 400;
const THREADS: u64 = 4;
const BATCHES_PER_THREAD: usize = 250;

const WORKLOAD: Workload = Workload {
    accounts: 24,
    amount_max: 600,
    directory_per_mille: 30,
    modes_percent: 45,
    exclusive_percent: 10,
};

/// What a run must have met to have tested anything.
const RARE: [&str; 16] = [
    "commit",
    "rollback",
    "withdrawal_confirm",
    "withdrawal_cancel",
    "expire",
    "transaction",
    "repeat",
    "expired",
    "unknown_token",
    "already_resolved",
    "unknown_chain",
    "already_credited",
    "not_linked",
    "conflict",
    "insufficient_funds",
    "lock_timeout",
];

/// An engine with the oracle that knows everything that was ever asked of it.
struct World {
    engine: Option<Engine>,
    options: Options,
    oracle: Oracle,
    rng: SmallRng,
    tokens: Tokens,
    /// Everything that was answered, with its first answer.
    answered: Vec<(Request, Outcome)>,
    _data: TempDir,
}

/// Tokens of holds that were asked for, in that order, and whether by a withdrawal.
#[derive(Clone, Debug, Default)]
struct Tokens(Vec<(Token, bool)>);

impl Tokens {
    fn note(&mut self, request: &Request) {
        match request.command {
            Command::Prepare(_) => self.0.push((Token::of(request.id), false)),
            Command::Withdraw(_) => self.0.push((Token::of(request.id), true)),
            _ => {}
        }
    }

    /// Most often one of the last.
    fn some(&self, rng: &mut SmallRng) -> Option<(Token, bool)> {
        let reach = if rng.random_bool(0.8) { self.0.len().min(8) } else { self.0.len() };
        (reach > 0).then(|| self.0[self.0.len() - 1 - rng.random_range(0..reach)])
    }
}

/// What is known to who asks one thing at a time, or many without a look in between.
struct Seen<'a>(&'a Oracle, &'a Tokens);

impl Past for Seen<'_> {
    fn token(&self, rng: &mut SmallRng) -> Option<(Token, bool)> {
        self.1.some(rng)
    }

    /// Now and then it is old.
    fn version(&self, subject: &Subject, rng: &mut SmallRng) -> CommitSeq {
        let version = self.0.version(subject);
        if rng.random_bool(0.9) {
            return version;
        }
        CommitSeq::new(rng.random_range(0..=version.get()))
    }
}

impl World {
    fn open(shards: usize, durability: Durability, seed: u64) -> Self {
        let data = scratch();
        let mut options = Options { durability, ..Options::new(data.path().join("data")) };
        options.limits.shards = shards;
        options.limits.lock_wait_ms = 8;
        if shards == SHARDS[0] {
            options.limits.held_share_max_percent = 70;
            options.limits.holds_per_account_max = 30;
        }
        let engine = Some(Engine::start(options.clone()).expect("it starts"));
        let rng = SmallRng::seed_from_u64(seed + shards as u64);
        let (oracle, answered) = (Oracle::new(&options.limits), Vec::new());
        let tokens = Tokens::default();
        let mut world = Self { engine, options, oracle, rng, tokens, answered, _data: data };
        fresh(opening(WORKLOAD.accounts)).into_iter().for_each(|request| world.single(request));
        for number in 0..WORKLOAD.accounts {
            let deposits = [ETH, SOL, USDC].map(|asset| deposit(number, asset, 1_000));
            fresh(deposits).into_iter().for_each(|request| world.single(request));
        }
        world
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("running")
    }

    /// Sends one request, which must come to exactly what the oracle says.
    fn single(&mut self, request: Request) {
        let engine = self.engine.as_ref().expect("running");
        let outcome = send(engine, vec![request.clone()]).remove(0);
        self.oracle.take(engine, &request, &outcome);
        self.answered.push((request, outcome));
    }

    /// Takes what many requests came to.
    fn replay(&mut self, answered: &[(Request, Outcome)]) {
        self.oracle.replay(self.engine.as_ref().expect("running"), answered);
    }

    /// A new request under an id of any kind, sometimes with a deadline that has passed.
    fn request(&mut self) -> Request {
        let command = WORKLOAD.command(&mut self.rng, &Seen(&self.oracle, &self.tokens));
        let mut request = Request::new(some_id(&mut self.rng), command);
        if self.rng.random_bool(0.01) {
            request.deadline = Time::new(1);
        }
        self.tokens.note(&request);
        request
    }

    /// Sends a request again that was answered some time ago, perhaps with another body.
    fn repeat(&mut self) {
        let place = self.rng.random_range(0..self.answered.len());
        let (request, first) = &self.answered[place];
        let mut other = request.clone();
        other.command = put_account(77_777);
        let again = send(self.engine(), vec![request.clone(), other, request.clone()]);
        assert_eq!([&again[0], &again[2]], [first, first], "of {request:?}");
        assert_eq!(reject(&again[1]), Some(&Reject::RequestIdReused));
        assert_eq!(self.engine().known(request.id), Ok(Known::Outcome(first.clone())));
    }

    /// Looks at an account, now and at some time before.
    fn read(&mut self) {
        let engine = self.engine.as_ref().expect("running");
        self.oracle.check_some(engine, &mut self.rng);
    }

    fn check_all(&mut self) {
        self.oracle.check(self.engine.as_ref().expect("running"));
    }

    /// Nothing is left in the end: every hold is resolved, and nothing is held.
    fn end(&mut self) {
        let open: Vec<Command> = self.oracle.open_holds().map(give_back).collect();
        fresh(open).into_iter().for_each(|request| self.single(request));
        assert_eq!(self.oracle.open_holds().count(), 0);
        self.check_all();
    }

    /// Stops and starts again with another number of shards.
    fn restart(&mut self) {
        self.engine.take().expect("running").stop().expect("it stops");
        self.options.limits.shards = SHARDS[self.rng.random_range(0..SHARDS.len())];
        self.engine = Some(Engine::start(self.options.clone()).expect("it starts"));
        self.check_all();
    }
}

fn give_back(hold: &Hold) -> Command {
    let rollback = matches!(hold.purpose, Purpose::Swap(_));
    resolve(hold.token, if rollback { Action::Rollback } else { Action::Cancel })
}

fn send(engine: &Engine, requests: Vec<Request>) -> Vec<Outcome> {
    outcomes(engine.submit(requests).expect("there is room"))
}

fn outcomes(pending: Pending) -> Vec<Outcome> {
    let answers = pending.wait().expect("it runs");
    (0..answers.len()).map(|index| answers.outcome(index)).collect()
}

/// An id that the engine knows from memory to be new, or one of the kinds that it has to look up.
fn some_id(rng: &mut SmallRng) -> RequestId {
    let now = support::now_millis();
    match rng.random_range(0..8) {
        0 => RequestId::new(rng.random()),
        1 => RequestId::v7(now - rng.random_range(11_000..1_000_000), rng.random()),
        2 => RequestId::v7(now + rng.random_range(1..1_000_000), rng.random()),
        _ => fresh_id(),
    }
}

/// Nobody is refused for funds that requests before it in the submission were about to bring.
fn check_patience(oracle: &Oracle, answered: &[(Request, Outcome)]) {
    for (place, (request, outcome)) in answered.iter().enumerate() {
        let Some(Reject::InsufficientFunds { account, asset, short_by, seq }) = reject(outcome)
        else {
            continue;
        };
        let key = BalanceKey { account: *account, asset: *asset };
        let is_coming = |(earlier, outcome): &&(Request, Outcome)| {
            reject(outcome).is_none()
                && !is_repeat(earlier, outcome)
                && seq_of(outcome) > *seq
                && keeps_its_turn(oracle, &earlier.command)
        };
        let coming: u128 = answered[..place]
            .iter()
            .filter(is_coming)
            .map(|(earlier, _)| oracle.moved(&earlier.command, key))
            .map(|(out, into)| into.saturating_sub(out))
            .sum();
        assert!(coming < short_by.get(), "{coming} was coming, but {outcome:?} of {request:?}");
    }
}

/// Whether a request was asked in the order of its submission, and never came again later.
fn keeps_its_turn(oracle: &Oracle, command: &Command) -> bool {
    match command {
        Command::Transact(_) => false,
        Command::Deposit(to) => to.reference.is_empty(),
        _ => !oracle.takes(command).any(|key| oracle.was_locked(key)),
    }
}

#[test]
fn one_at_a_time_every_outcome_is_the_oracles() {
    let seed = seed(20_261_122);
    SHARDS.into_iter().for_each(|shards| in_time(move || one_at_a_time(shards, seed)));
}

fn one_at_a_time(shards: usize, seed: u64) {
    let mut world = World::open(shards, Durability::Off, seed);
    world.oracle.be_strict();
    for step in 0..SINGLES {
        let request = world.request();
        world.single(request);
        match world.rng.random_range(0..100) {
            0..8 => world.repeat(),
            8..20 => world.read(),
            _ => {}
        }
        if step % (SINGLES / 3) == SINGLES / 5 {
            world.restart();
        }
    }
    world.end();
    eprintln!("{:?}", world.oracle.seen(&RARE));
    let refused = world.answered.iter().filter(|(_, outcome)| reject(outcome).is_some());
    let share = refused.count() * 100 / world.answered.len();
    assert!((5..60).contains(&share), "{share}% were refused: the test tests little");
}

#[test]
fn a_submission_comes_to_what_the_oracle_does_in_seq_order() {
    let seed = seed(7);
    SHARDS.into_iter().for_each(|shards| in_time(move || submissions(shards, seed)));
}

fn submissions(shards: usize, seed: u64) {
    let mut world = World::open(shards, Durability::Off, seed);
    for step in 0..BATCHES {
        let before = world.oracle.seq();
        let n = 1 << world.rng.random_range(0..9);
        let requests: Vec<Request> = (0..n).map(|_| world.request()).collect();
        let outcomes = send(world.engine(), requests.clone());
        let answered: Vec<_> = requests.into_iter().zip(outcomes).collect();
        let is_past = |(request, outcome): &(Request, Outcome)| {
            seq_of(outcome) < before && !is_repeat(request, outcome)
        };
        assert!(!answered.iter().any(is_past), "saw what is past");
        world.replay(&answered);
        check_patience(&world.oracle, &answered);
        world.answered.extend(answered);
        match step % 60 {
            17 => world.restart(),
            n if n % 5 == 0 => world.repeat(),
            _ => world.read(),
        }
    }
    world.end();
    eprintln!("{:?}", world.oracle.seen(&RARE));
}

/// What the threads of a run share.
struct Crowd<'a> {
    engine: &'a Engine,
    /// The highest seq in any answer so far.
    answered_seq: AtomicU64,
    /// Requests that were submitted, for others to send again.
    submitted: Mutex<Vec<Request>>,
    tokens: Mutex<Tokens>,
    done: AtomicBool,
}

/// A caller among others sees what is durable, and by the time that it is used it may be old.
impl Past for Crowd<'_> {
    fn token(&self, rng: &mut SmallRng) -> Option<(Token, bool)> {
        self.tokens.lock().expect("no thread failed").some(rng)
    }

    fn version(&self, subject: &Subject, _: &mut SmallRng) -> CommitSeq {
        match subject {
            Subject::Key(key) => {
                let now = self.engine.record(key, None).expect("it runs");
                now.map_or_else(CommitSeq::default, |record| record.seq)
            }
            Subject::Balance(key) => {
                let now = block_on(self.engine.balances_of(&[*key])).expect("it runs");
                now.balances[0].1
            }
        }
    }
}

/// What a thread was told.
#[derive(Default)]
struct Told {
    answered: Vec<(Request, Outcome)>,
    read: Vec<(AccountId, AccountBalances)>,
}

/// A submission, the highest seq in any answer before it, and how many of its requests are new.
struct OnTheWay {
    floor: CommitSeq,
    new: usize,
    requests: Vec<Request>,
    pending: Pending,
}

impl Crowd<'_> {
    fn now(&self) -> CommitSeq {
        CommitSeq::new(self.answered_seq.load(Ordering::SeqCst))
    }

    fn heard_of(&self, seq: CommitSeq) {
        self.answered_seq.fetch_max(seq.get(), Ordering::SeqCst);
        let durable = self.engine.status().durable_seq;
        assert!(seq <= durable, "answered with seq {seq} while D was {durable}");
    }

    /// New requests, how many, and behind them some that were sent before by anybody.
    fn requests(&self, workload: &Workload, rng: &mut SmallRng) -> (usize, Vec<Request>) {
        let n = 1 << rng.random_range(0..8);
        let mut requests: Vec<Request> = (0..n)
            .map(|_| {
                let command = workload.command(rng, self);
                let request = Request::new(some_id(rng), command);
                self.tokens.lock().expect("no thread failed").note(&request);
                request
            })
            .collect();
        let submitted = self.submitted.lock().expect("no thread failed");
        for _ in 0..n / 8 {
            if !submitted.is_empty() {
                // Mostly such as are still in flight.
                let back = rng.random_range(0..submitted.len().min(200));
                requests.push(submitted[submitted.len() - 1 - back].clone());
            }
        }
        (n, requests)
    }

    fn submit(&self, requests: &[Request]) -> Pending {
        let pending = loop {
            match self.engine.submit(requests.to_vec()) {
                Err(Error::Overloaded { .. }) => std::thread::yield_now(),
                other => break other.expect("it runs"),
            }
        };
        self.submitted.lock().expect("no thread failed").extend_from_slice(requests);
        pending
    }

    /// Submits with two submissions on their way at any time.
    fn write(&self, workload: &Workload, mut rng: SmallRng) -> Told {
        let mut told = Told::default();
        let mut on_the_way: Option<OnTheWay> = None;
        for _ in 0..BATCHES_PER_THREAD {
            let floor = self.now();
            let (new, requests) = self.requests(workload, &mut rng);
            let pending = self.submit(&requests);
            let submission = OnTheWay { floor, new, requests, pending };
            if let Some(first) = on_the_way.replace(submission) {
                self.take(first, &mut told);
            }
        }
        on_the_way.into_iter().for_each(|last| self.take(last, &mut told));
        told
    }

    fn take(&self, submission: OnTheWay, told: &mut Told) {
        let OnTheWay { floor, new, requests, pending } = submission;
        for (place, (request, outcome)) in requests.into_iter().zip(outcomes(pending)).enumerate() {
            let seq = seq_of(&outcome);
            self.heard_of(seq);
            if place < new && !is_repeat(&request, &outcome) {
                let late = seq > floor || seq == floor && reject(&outcome).is_some();
                assert!(late, "submitted when {floor} was answered, and has {seq}");
            }
            told.answered.push((request, outcome));
        }
    }

    fn read(&self, workload: &Workload, mut rng: SmallRng) -> Told {
        let mut told = Told::default();
        while !self.done.load(Ordering::SeqCst) {
            let account = AccountId::new(rng.random_range(0..workload.accounts));
            let floor = self.now();
            let now = self.engine.balances_blocking(account).expect("a known account");
            assert!(now.seq >= floor, "read {} when {floor} was answered", now.seq);
            self.heard_of(now.seq);
            let at = CommitSeq::new(rng.random_range(0..=now.seq.get()));
            let then = self.engine.balances_at(account, at).expect("a known account");
            told.read.extend([(account, now), (account, then)]);
        }
        told
    }
}

/// Several submitters and readers at once.
fn run_crowd(world: &World, workload: &Workload, seed: u64) -> Vec<Told> {
    let crowd = Crowd {
        engine: world.engine(),
        answered_seq: AtomicU64::new(world.oracle.seq().get()),
        submitted: Mutex::new(Vec::new()),
        tokens: Mutex::default(),
        done: AtomicBool::new(false),
    };
    let rng = |n: u64| SmallRng::seed_from_u64(seed * 1_000 + n);
    std::thread::scope(|scope| {
        let crowd = &crowd;
        let readers: Vec<_> =
            (0..2).map(|n| scope.spawn(move || crowd.read(workload, rng(100 + n)))).collect();
        let writers: Vec<_> =
            (0..THREADS).map(|n| scope.spawn(move || crowd.write(workload, rng(n)))).collect();
        let mut told: Vec<_> = writers.into_iter().map(ScopedJoinHandle::join).collect();
        crowd.done.store(true, Ordering::SeqCst);
        told.extend(readers.into_iter().map(ScopedJoinHandle::join));
        told.into_iter().map(|told| told.expect("no thread failed")).collect()
    })
}

/// The first outcome of each request; all that one id was told must agree.
fn first_outcomes(told: &[Told]) -> Vec<(Request, Outcome)> {
    let mut first: HashMap<RequestId, &(Request, Outcome)> = HashMap::new();
    for answered in told.iter().flat_map(|told| &told.answered) {
        let known = first.entry(answered.0.id).or_insert(answered);
        assert_eq!(*known, answered, "one id, two answers");
    }
    first.into_values().cloned().collect()
}

#[test]
fn many_at_once_come_to_what_the_oracle_does_in_seq_order() {
    let seed = seed(3);
    let quiet = Workload { directory_per_mille: 0, exclusive_percent: 0, ..WORKLOAD };
    let tight = Workload { accounts: 6, amount_max: 900, directory_per_mille: 0, ..WORKLOAD };
    let relinked = Workload { directory_per_mille: 3, ..WORKLOAD };
    for shards in SHARDS {
        for (n, workload) in (0..).zip([quiet.clone(), tight.clone(), relinked.clone()]) {
            let durability = if n == 0 { Durability::Sync } else { Durability::Off };
            in_time(move || many_at_once(shards, durability, &workload, seed + 10 * n));
        }
    }
}

fn many_at_once(shards: usize, durability: Durability, workload: &Workload, seed: u64) {
    let mut world = World::open(shards, durability, seed);
    let told = run_crowd(&world, workload, seed);
    let answered = first_outcomes(&told);
    assert!(answered.iter().all(|(_, outcome)| seq_of(outcome) > CommitSeq::default()));
    world.replay(&answered);
    let engine = world.engine.as_ref().expect("running");
    world.oracle.catch_up(engine, engine.status().durable_seq);
    for (account, balances) in told.iter().flat_map(|told| &told.read) {
        let expected = world.oracle.balances_at(*account, balances.seq);
        assert_eq!(*balances, expected, "of account {account}");
    }
    world.check_all();
    world.answered = answered;
    world.restart();
    world.repeat();
    world.end();
    eprintln!("{:?}", world.oracle.seen(&[]));
}
