//! Death between the two phases: an engine in a process of its own sets amounts aside, for prepared
//! swaps (some exclusively) and for withdrawals, says what was acknowledged, and is killed with
//! SIGKILL before anything is resolved, again and again. After each restart
//!
//! * every token that was acknowledged is there, with its amounts held and its expiry as it was told;
//! * what an exclusive hold has locked is locked, and free as soon as it is resolved;
//! * about half of all holds are resolved, by chance in either way, the others after another death;
//! * balances are what a serial oracle has, and in the end nothing is held.
//!
//! Every request is a function of the seed and its number, so the parent knows what the child asked
//! for. `CROSSLATCH_KILLS=500 CROSSLATCH_SEED=n cargo test --release --test prepared` kills more
//! often, and otherwise.

mod support;
#[path = "support/child.rs"]
mod child;
#[path = "support/oracle.rs"]
#[expect(dead_code, reason = "there are no random requests here")]
mod oracle;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{after, select};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crosslatch::engine::{Engine, HoldState, Known, Options};
use crosslatch::error::Reject;
use crosslatch::request::{Action, Command, Hold, Outcome, Purpose, Request};
use crosslatch::types::{AssetId, RequestId, Resolution, Token};

use child::{Part, say};
use oracle::{Oracle, reject};
use support::{
    ETH, PATIENCE, SOL, USDC, account, deposit, fresh, in_time, leg, now_millis, opening, prepare,
    resolve, scratch, seed, swap, withdraw,
};

const TEST: &str = "killed_between_the_phases_every_token_is_there_and_resolves";
const KILLS: u64 = 100;
/// Threads that submit in the child.
const THREADS: u64 = 3;
const BATCH_SIZES: [u64; 4] = [1, 1, 4, 25];
/// Accounts in which anybody sets something aside.
const SHARED: u64 = 40;
/// Pairs of accounts behind them, in each of which there is one exclusive hold at a time.
const PAIRS: u64 = 60;
const FUNDS: u128 = 10_000_000;
const HOUR_MS: u64 = 3_600_000;
const ASSETS: [AssetId; 3] = [ETH, SOL, USDC];

/// The requests of one child: number to request, always the same.
#[derive(Clone, Debug)]
struct Plan {
    data: PathBuf,
    shards: usize,
    seed: u64,
    /// When it was made: the time in its ids.
    millis: u64,
    /// The number of its first request.
    first: u64,
}

impl Plan {
    fn id(&self, number: u64) -> RequestId {
        // No id of the parent has that bit.
        let random = 1 << 60 | u128::from(number);
        match number % 5 {
            0 => RequestId::new(1 << 101 | u128::from(number)),
            1 => RequestId::v7(self.millis - HOUR_MS, random),
            _ => RequestId::v7(self.millis + number % 1_000, random),
        }
    }

    /// What sets something aside for longer than the test runs.
    fn request(&self, number: u64) -> Request {
        let mut rng = SmallRng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9E37_79B9));
        let amount = rng.random_range(1..500);
        let expires_in_ms = HOUR_MS + number;
        let command = match rng.random_range(0..10) {
            0..2 => withdraw(rng.random_range(0..SHARED), ASSETS[rng.random_range(0..3)], amount),
            2..5 => {
                let (a, b) = pair(number);
                let legs = [leg(a, b, ETH, amount), leg(b, a, SOL, 2 * amount)];
                prepare(legs, expires_in_ms, true)
            }
            _ => {
                let first = rng.random_range(0..SHARED);
                let legs = (0..rng.random_range(2..6)).map(|n| {
                    let to = (first + n + 1) % SHARED;
                    leg(
                        (first + n) % SHARED,
                        to,
                        ASSETS[rng.random_range(0..3)],
                        amount + u128::from(n),
                    )
                });
                prepare(legs.collect::<Vec<_>>(), expires_in_ms, false)
            }
        };
        Request::new(self.id(number), command)
    }

    fn requests(&self, numbers: Range<u64>) -> Vec<Request> {
        numbers.map(|number| self.request(number)).collect()
    }

    fn options(&self) -> Options {
        let mut options = Options::new(&self.data);
        options.limits.shards = self.shards;
        options.limits.lock_wait_ms = 2;
        options
    }

    fn to_text(&self) -> String {
        let Self { data, shards, seed, millis, first } = self;
        format!("{shards} {seed} {millis} {first} {}", data.display())
    }

    fn from_text(text: &str) -> Self {
        let fields: Vec<&str> = text.splitn(5, ' ').collect();
        let number = |place: usize| fields[place].parse().expect("a number");
        Self {
            data: Path::new(fields[4]).into(),
            shards: number(0) as usize,
            seed: number(1),
            millis: number(2),
            first: number(3),
        }
    }
}

/// The accounts between which an exclusive request moves something.
fn pair(number: u64) -> (u64, u64) {
    let first = SHARED + number % PAIRS * 2;
    (first, first + 1)
}

fn submit(engine: &Engine, requests: Vec<Request>) -> Vec<Outcome> {
    let pending = engine.submit(requests).expect("there is room");
    let answers = pending.wait().expect("it runs until it is killed");
    (0..answers.len()).map(|place| answers.outcome(place)).collect()
}

// ---- The child: sets aside for ever.

fn child_main(plan: &Plan) {
    let engine = Engine::start(plan.options()).expect("it starts on whatever was left");
    let next = AtomicU64::new(plan.first);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, next) = (&engine, &next);
            scope.spawn(move || prepare_for_ever(engine, plan, next, thread));
        }
    });
}

fn prepare_for_ever(engine: &Engine, plan: &Plan, next: &AtomicU64, thread: u64) {
    let mut rng = SmallRng::seed_from_u64(plan.seed + plan.first + thread);
    loop {
        let n = BATCH_SIZES[rng.random_range(0..BATCH_SIZES.len())];
        let first = next.fetch_add(n, Ordering::Relaxed);
        say(&format!("intends {first} {}", first + n));
        let outcomes = submit(engine, plan.requests(first..first + n));
        let told: Vec<String> = (first..)
            .zip(&outcomes)
            .map(|(number, outcome)| format!("told {number} {}", in_words(outcome)))
            .collect();
        say(&told.join("\n"));
    }
}

/// An outcome as a child says it: of a hold, where it stands in the order and until when.
fn in_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Settled(receipt) => {
            let hold = receipt.hold.expect("it made one");
            format!("held {} {} {}", hold.token, receipt.commit_seq, hold.expires_at)
        }
        Outcome::Rejected(refusal) => format!("refused {}", refusal.reject.code()),
    }
}

// ---- The parent: kills, looks, resolves.

/// What a child had said when it died.
struct Heard {
    plan: Plan,
    /// Requests that it may have submitted.
    intended: Vec<Range<u64>>,
    /// By number: what it was told.
    told: BTreeMap<u64, String>,
}

impl Heard {
    fn parse(plan: Plan, lines: &[String]) -> Self {
        let (mut intended, mut told) = (Vec::new(), BTreeMap::new());
        let number = |text: &str| text.parse().expect("a number");
        for line in lines {
            if let Some(range) = line.strip_prefix("intends ") {
                let (from, to) = range.split_once(' ').expect("two numbers");
                intended.push(number(from)..number(to));
            } else if let Some(words) = line.strip_prefix("told ") {
                let (of, what) = words.split_once(' ').expect("a number, and what");
                told.insert(number(of), what.to_owned());
            }
        }
        Self { plan, intended, told }
    }
}

/// Runs a child until it has said so much, and some time passed, and kills it.
fn run_and_kill(plan: Plan, rng: &mut SmallRng) -> Heard {
    let enough = rng.random_range(1..12_000);
    let mut part = Part::start(TEST, &plan.to_text());
    let hangs = after(PATIENCE);
    while part.heard.len() < enough {
        select! {
            recv(part.chunks) -> chunk => {
                part.heard.extend(chunk.expect("it runs until it is killed"));
            }
            recv(hangs) -> _ => panic!("the child hangs; it said {} bytes", part.heard.len()),
        }
    }
    let moment = after(Duration::from_micros(rng.random_range(0..3_000)));
    assert!(moment.recv().is_ok());
    part.child.kill().expect("it is a child of this process");
    let (lines, status) = part.end();
    assert!(child::was_killed(status), "the child ended by itself: {status}");
    Heard::parse(plan, &lines)
}

struct Venue {
    oracle: Oracle,
    rng: SmallRng,
    seed: u64,
    next_number: u64,
    /// Over all rounds: tokens acknowledged, there without, and not there; resolutions.
    counts: [usize; 4],
    data: TempDir,
}

impl Venue {
    fn open(seed: u64) -> Self {
        let (rng, data) = (SmallRng::seed_from_u64(seed), scratch());
        let oracle = Oracle::default();
        let mut venue = Self { oracle, rng, seed, next_number: 0, counts: [0; 4], data };
        let engine = Engine::start(venue.plan().options()).expect("it starts");
        let accounts = SHARED + 2 * PAIRS;
        let deposits =
            (0..accounts).flat_map(|number| ASSETS.map(|asset| deposit(number, asset, FUNDS)));
        venue.send(&engine, opening(accounts).into_iter().chain(deposits).collect());
        engine.stop().expect("it stops");
        venue
    }

    fn plan(&mut self) -> Plan {
        Plan {
            data: self.data.path().join("data"),
            shards: [1, 2, 3][self.rng.random_range(0..3)],
            seed: self.seed,
            millis: now_millis(),
            first: self.next_number,
        }
    }

    /// Sends new requests; what they come to must be what the oracle says.
    fn send(&mut self, engine: &Engine, commands: Vec<Command>) -> Vec<Outcome> {
        let requests = fresh(commands);
        let outcomes = submit(engine, requests.clone());
        let answered: Vec<_> = requests.into_iter().zip(outcomes.iter().cloned()).collect();
        self.oracle.replay(engine, &answered);
        outcomes
    }

    fn kill(&mut self) -> Heard {
        let plan = self.plan();
        let heard = run_and_kill(plan, &mut self.rng);
        let end = heard.intended.iter().map(|numbers| numbers.end).max();
        self.next_number = self.next_number.max(end.unwrap_or(0));
        heard
    }

    /// Opens what the dead left, checks all of it, and resolves about half.
    fn look(&mut self, dead: &Heard) {
        let engine = Engine::start(self.plan().options()).expect("it recovers");
        self.recovered(&engine, dead);
        // Every open hold is there as it was made, and what is held is what they hold.
        self.oracle.check(&engine);
        self.check_locks(&engine);
        self.resolve_some(&engine, 0.5);
        self.oracle.check(&engine);
        engine.stop().expect("it stops");
    }

    /// What became of all that the dead intended.
    fn recovered(&mut self, engine: &Engine, dead: &Heard) {
        let mut there = Vec::new();
        for number in dead.intended.iter().cloned().flatten() {
            let request = dead.plan.request(number);
            let told = dead.told.get(&number);
            match engine.known(request.id).expect("it knows") {
                Known::Outcome(outcome) => {
                    let now = in_words(&outcome);
                    assert!(told.is_none_or(|told| *told == now), "{number}: {told:?}, {now}");
                    self.counts[usize::from(told.is_none())] += 1;
                    there.push((request, outcome));
                }
                Known::Unknown => {
                    assert_eq!(told, None, "{number} was acknowledged and is lost");
                    let state = engine.hold(Token::of(request.id));
                    assert_eq!(state, Ok(HoldState::Unknown), "{number} never happened");
                    self.counts[2] += 1;
                }
                Known::Pending => panic!("{number} is pending in an engine just started"),
            }
        }
        self.oracle.replay(engine, &there);
    }

    /// What exclusive holds have locked nobody takes from, but anybody adds to.
    fn check_locks(&mut self, engine: &Engine) {
        let exclusive: Vec<Hold> =
            self.oracle.open_holds().filter(|hold| hold.exclusive).cloned().collect();
        let takes = exclusive.iter().map(|hold| {
            let (a, _) = parties(hold);
            swap([leg(a, 0, ETH, 1), leg(0, a, USDC, 1)])
        });
        let outcomes = self.send(engine, takes.collect());
        for (hold, outcome) in exclusive.iter().zip(outcomes) {
            let locked = Reject::LockTimeout { token: hold.token };
            assert_eq!(reject(&outcome), Some(&locked), "of {hold:?}");
        }
        let adds = exclusive.iter().map(|hold| deposit(parties(hold).0, ETH, 1));
        let outcomes = self.send(engine, adds.collect());
        assert!(outcomes.iter().all(|outcome| reject(outcome).is_none()), "{outcomes:?}");
    }

    /// Resolves each open hold with that probability, in either way.
    fn resolve_some(&mut self, engine: &Engine, probability: f64) {
        let rng = &mut self.rng;
        let holds = self.oracle.open_holds().filter(|_| rng.random_bool(probability));
        let holds: Vec<Hold> = holds.cloned().collect();
        let actions: Vec<Action> = holds
            .iter()
            .map(|hold| match (&hold.purpose, self.rng.random_bool(0.5)) {
                (Purpose::Swap(_), true) => Action::Commit,
                (Purpose::Swap(_), false) => Action::Rollback,
                (Purpose::Withdrawal(_), true) => Action::Confirm,
                (Purpose::Withdrawal(_), false) => Action::Cancel,
            })
            .collect();
        let all = || holds.iter().zip(actions.iter().copied());
        let commands = || all().map(|(hold, action)| resolve(hold.token, action)).collect();
        let first = self.send(engine, commands());
        assert!(first.iter().all(|outcome| reject(outcome).is_none()), "{first:?}");
        assert_eq!(self.send(engine, commands()), first, "again, it is as it was");
        let contrary = all().map(|(hold, action)| resolve(hold.token, other_way(action)));
        for outcome in self.send(engine, contrary.collect()) {
            assert!(
                matches!(reject(&outcome), Some(Reject::AlreadyResolved { .. })),
                "{outcome:?}"
            );
        }
        for ((hold, action), outcome) in all().zip(&first) {
            self.check_resolved(engine, hold, action, outcome);
        }
        let unlocked = holds.iter().filter(|hold| hold.exclusive).map(parties);
        let takes = unlocked.map(|(a, b)| swap([leg(a, b, ETH, 1), leg(b, a, SOL, 1)]));
        let outcomes = self.send(engine, takes.collect());
        assert!(outcomes.iter().all(|outcome| reject(outcome).is_none()), "{outcomes:?}");
        self.counts[3] += holds.len();
    }

    fn check_resolved(&self, engine: &Engine, hold: &Hold, action: Action, outcome: &Outcome) {
        let Outcome::Settled(receipt) = outcome else { panic!("{outcome:?}") };
        let how = action.resolution();
        assert!(how != Resolution::Expired);
        let state = HoldState::Resolved(how, Box::new(receipt.clone()));
        assert_eq!(engine.hold(hold.token), Ok(state), "of {hold:?}");
    }

    /// Everything is resolved in the end, and nothing is held.
    fn end(&mut self) {
        let engine = Engine::start(self.plan().options()).expect("it starts");
        self.resolve_some(&engine, 1.0);
        assert_eq!(self.oracle.open_holds().count(), 0);
        self.oracle.check(&engine);
        for number in 0..SHARED + 2 * PAIRS {
            let balances = engine.balances_blocking(account(number)).expect("an account");
            assert!(balances.balances.iter().all(|of| of.balance.held.get() == 0), "{balances:?}");
        }
        engine.stop().expect("it stops");
    }
}

/// The accounts of an exclusive hold.
fn parties(hold: &Hold) -> (u64, u64) {
    let Purpose::Swap(swap) = &hold.purpose else { unreachable!("exclusive holds are of swaps") };
    let first = swap.legs()[0];
    (first.from.get(), first.to.get())
}

fn other_way(action: Action) -> Action {
    match action {
        Action::Commit => Action::Rollback,
        Action::Rollback => Action::Commit,
        Action::Confirm => Action::Cancel,
        Action::Cancel => Action::Confirm,
        Action::Expire => unreachable!("nobody asks for that"),
    }
}

#[test]
fn killed_between_the_phases_every_token_is_there_and_resolves() {
    if let Some(part) = child::part() {
        return child_main(&Plan::from_text(&part));
    }
    let kills = std::env::var("CROSSLATCH_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let mut venue = Venue::open(seed(20_261_122));
    for _ in 0..kills {
        let dead = venue.kill();
        venue = in_time(move || {
            venue.look(&dead);
            venue
        });
    }
    let venue = in_time(move || {
        venue.end();
        venue
    });
    let [acknowledged, silent, missing, resolved] = venue.counts;
    eprintln!(
        "{kills} kills; acknowledged: {acknowledged}, there without: {silent}, never: {missing}; \
         resolved: {resolved}"
    );
    assert!(acknowledged > 0, "nobody was answered: the test tested nothing");
    assert!(silent + missing > 0, "nothing was in flight at any kill: the test tested little");
}
