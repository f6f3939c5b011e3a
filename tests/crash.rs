//! Death at any moment: an engine in a process of its own is killed with SIGKILL, again and again,
//! under load, while it starts and while it recovers, and is looked at after each time.
//!
//! * What was acknowledged is there, unchanged.
//! * What is there happened wholly: a serial oracle that does the recovered requests in the order
//!   of their seqs has the same receipts and the same balances, and none is left over.
//! * What was not acknowledged and is sent again has one outcome: the first one, if there was one.
//! * Holds stand as they stood, end when they said, and in the end none is left.
//!
//! Every request is a function of the seed and its number, so the parent knows what the child may
//! have asked for. `CROSSLATCH_KILLS=500 CROSSLATCH_SEED=n cargo test --release --test crash` kills
//! more often, and otherwise.

mod support;
#[path = "support/child.rs"]
mod child;
#[path = "support/oracle.rs"]
#[expect(dead_code, reason = "nobody here asks one thing at a time")]
mod oracle;
#[path = "support/workload.rs"]
mod workload;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{after, select};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crosslatch::engine::{Answers, Brief, Engine, Known, Options};
use crosslatch::request::{Action, Command, Outcome, Purpose, Request};
use crosslatch::types::{CommitSeq, RequestId, Subject, Token};

use child::{Part, say};
use oracle::{Oracle, reject, seq_of};
use support::{PATIENCE, deposit, fresh, in_time, now_millis, opening, resolve, scratch, seed};
use workload::{Kind, Past, Workload};

const TEST: &str = "killed_at_any_moment_nothing_is_lost_halved_or_doubled";
const KILLS: u64 = 50;
/// Threads that submit in the child.
const THREADS: u64 = 4;
/// So many requests at once, each about as likely.
const BATCH_SIZES: [u64; 7] = [1, 1, 3, 20, 100, 300, 700];
/// Requests of earlier rounds that are asked for again in each.
const OLD_ONES: usize = 30;

/// So far back, at most, is the hold that a request resolves.
const TOKENS_BACK: u64 = 400;

const WORKLOAD: Workload = Workload {
    accounts: 40,
    amount_max: 400,
    directory_per_mille: 4,
    modes_percent: 45,
    exclusive_percent: 10,
};

/// The requests of one child: number to request, always the same.
#[derive(Clone, Debug, PartialEq)]
struct Plan {
    data: PathBuf,
    shards: usize,
    seed: u64,
    /// Of every child up to this one: the number of its first request, and when it was made, which
    /// is the time in its ids.
    rounds: Vec<(u64, u64)>,
}

impl Plan {
    /// The number of its first request.
    fn first(&self) -> u64 {
        self.rounds.last().expect("its own").0
    }

    fn rng(&self, number: u64) -> SmallRng {
        SmallRng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9E37_79B9))
    }

    fn id(&self, number: u64) -> RequestId {
        let of = self.rounds.iter().rev().find(|(first, _)| *first <= number);
        let (_, millis) = *of.expect("the first round begins with the first number");
        let hour = 3_600_000;
        // No id of the parent has that bit.
        let random = 1 << 60 | u128::from(number);
        match number % 8 {
            0 => RequestId::new(1 << 100 | u128::from(number)),
            1 => RequestId::v7(millis - hour, random),
            2 => RequestId::v7(millis + hour, random),
            _ => RequestId::v7(millis + number % 1_000, random),
        }
    }

    fn kind(&self, number: u64) -> Kind {
        WORKLOAD.kind(&mut self.rng(number))
    }

    fn request(&self, number: u64) -> Request {
        let command = WORKLOAD.command(&mut self.rng(number), &Before { plan: self, number });
        Request::new(self.id(number), command)
    }

    fn requests(&self, numbers: Range<u64>) -> Vec<Request> {
        numbers.map(|number| self.request(number)).collect()
    }

    fn options(&self) -> Options {
        options(&self.data, self.shards)
    }

    fn to_text(&self) -> String {
        let Self { data, shards, seed, rounds } = self;
        let rounds: Vec<String> =
            rounds.iter().map(|(first, millis)| format!("{first}:{millis}")).collect();
        format!("{shards} {seed} {} {}", rounds.join(","), data.display())
    }

    fn from_text(text: &str) -> Self {
        let fields: Vec<&str> = text.splitn(4, ' ').collect();
        let number = |text: &str| text.parse().expect("a number");
        let round = |text: &str| {
            let (first, millis) = text.split_once(':').expect("two numbers");
            (number(first), number(millis))
        };
        Self {
            data: Path::new(fields[3]).into(),
            shards: number(fields[0]) as usize,
            seed: number(fields[1]),
            rounds: fields[2].split(',').map(round).collect(),
        }
    }
}

fn options(data: &Path, shards: usize) -> Options {
    let mut options = Options::new(data);
    options.limits.shards = shards;
    options.limits.lock_wait_ms = 10;
    options
}

/// What the request of a number may name: the holds of those before it.
struct Before<'a> {
    plan: &'a Plan,
    number: u64,
}

impl Past for Before<'_> {
    fn token(&self, rng: &mut SmallRng) -> Option<(Token, bool)> {
        let nearest = self.number.saturating_sub(rng.random_range(1..TOKENS_BACK));
        let oldest = self.number.saturating_sub(TOKENS_BACK);
        (oldest..=nearest).rev().find_map(|number| {
            let of_withdrawal = match self.plan.kind(number) {
                Kind::Withdraw => true,
                Kind::Prepare => false,
                _ => return None,
            };
            Some((Token::of(self.plan.id(number)), of_withdrawal))
        })
    }

    /// Nobody has told it: that it was never written is as good a guess as any.
    fn version(&self, _: &Subject, rng: &mut SmallRng) -> CommitSeq {
        CommitSeq::new(if rng.random_bool(0.9) { 0 } else { rng.random_range(0..1_000) })
    }
}

// ---- The child: submits for ever.

fn child_main(plan: &Plan) {
    let engine = Engine::start(plan.options()).expect("it starts on whatever was left");
    say("ready");
    let next = AtomicU64::new(plan.first());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, next) = (&engine, &next);
            scope.spawn(move || submit_for_ever(engine, plan, next, thread));
        }
    });
}

fn submit_for_ever(engine: &Engine, plan: &Plan, next: &AtomicU64, thread: u64) {
    let mut rng = SmallRng::seed_from_u64(plan.seed + plan.first() + thread);
    loop {
        let n = BATCH_SIZES[rng.random_range(0..BATCH_SIZES.len())];
        let first = next.fetch_add(n, Ordering::Relaxed);
        say(&format!("intends {first} {}", first + n));
        let answers = submit(engine, plan.requests(first..first + n));
        let told: Vec<String> =
            (0..answers.len()).map(|place| word(&answers, place, first)).collect();
        say(&told.join("\n"));
        if rng.random_bool(0.1) {
            let again = submit(engine, plan.requests(first..first + n));
            let same = (0..again.len()).all(|place| again.brief(place) == answers.brief(place));
            assert!(same, "sent again, {first}.. was answered otherwise");
        }
    }
}

fn submit(engine: &Engine, requests: Vec<Request>) -> Answers {
    engine.submit(requests).expect("there is room").wait().expect("it runs until it is killed")
}

/// An acknowledgement, as the parent reads it.
fn word(answers: &Answers, place: usize, first: u64) -> String {
    let number = first + place as u64;
    match answers.brief(place) {
        Brief::Settled(seq) => format!("settled {number} {seq}"),
        Brief::Rejected(reject) => format!("rejected {number} {}", reject.code()),
    }
}

// ---- The parent: kills, looks, and asks again.

/// When the child is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after it was started: in its start or its recovery, or soon after.
    Starting(Duration),
    /// When it has said so much.
    Said(usize),
    /// So long after it was ready.
    Ready(Duration),
}

impl Moment {
    fn some(rng: &mut SmallRng) -> Self {
        match rng.random_range(0..10) {
            0..2 => Self::Starting(Duration::from_micros(rng.random_range(0..120_000))),
            2..7 => Self::Said(rng.random_range(0..30_000)),
            _ => Self::Ready(Duration::from_micros(rng.random_range(0..60_000))),
        }
    }
}

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
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["intends", from, to] => {
                    intended.push(from.parse().expect("a number")..to.parse().expect("a number"));
                }
                [how @ ("settled" | "rejected"), number, what] => {
                    told.insert(number.parse().expect("a number"), format!("{how} {what}"));
                }
                // Words of the test harness.
                _ => {}
            }
        }
        Self { plan, intended, told }
    }

    fn numbers(&self) -> impl Iterator<Item = u64> {
        self.intended.iter().cloned().flatten()
    }
}

/// Runs a child until the moment has come, and kills it.
fn run_and_kill(plan: Plan, moment: Moment) -> Heard {
    let mut part = Part::start(TEST, &plan.to_text());
    let mut timer = match moment {
        Moment::Starting(time) => after(time),
        Moment::Said(_) | Moment::Ready(_) => after(PATIENCE),
    };
    let mut armed = matches!(moment, Moment::Starting(_));
    loop {
        let chunk = select! {
            recv(part.chunks) -> chunk => chunk.expect("it runs until it is killed"),
            recv(timer) -> _ => {
                assert!(armed, "the child hangs; it said {} bytes", part.heard.len());
                break;
            }
        };
        part.heard.extend(chunk);
        match moment {
            Moment::Said(bytes) if part.heard.len() >= bytes => break,
            Moment::Ready(time) if !armed && is_ready(&part.heard) => {
                (armed, timer) = (true, after(time));
            }
            _ => {}
        }
    }
    part.child.kill().expect("it is a child of this process");
    let (lines, status) = part.end();
    assert!(child::was_killed(status), "the child ended by itself: {status}");
    Heard::parse(plan, &lines)
}

fn is_ready(heard: &[u8]) -> bool {
    heard.windows(6).any(|word| word == b"ready\n")
}

/// What is known of a venue that is killed again and again.
struct Venue {
    oracle: Oracle,
    rng: SmallRng,
    seed: u64,
    /// Everything that ever got an outcome.
    answered: Vec<(Request, Outcome)>,
    next_number: u64,
    rounds: Vec<(u64, u64)>,
    /// Over all rounds: acknowledged; not acknowledged, but there; not there.
    counts: [usize; 3],
    data: TempDir,
}

impl Venue {
    fn open(seed: u64) -> Self {
        let mut venue = Self {
            oracle: Oracle::new(&options(Path::new(""), 1).limits),
            rng: SmallRng::seed_from_u64(seed),
            seed,
            answered: Vec::new(),
            next_number: 0,
            rounds: Vec::new(),
            counts: [0; 3],
            data: scratch(),
        };
        let engine = Engine::start(venue.options()).expect("it starts");
        let assets = [support::ETH, support::SOL, support::USDC];
        let deposits = (0..WORKLOAD.accounts)
            .flat_map(|number| assets.map(|asset| deposit(number, asset, 1_000)));
        venue.send(&engine, fresh(opening(WORKLOAD.accounts).into_iter().chain(deposits)));
        engine.stop().expect("it stops");
        venue
    }

    fn plan(&mut self) -> Plan {
        let next = self.next_number;
        // A child that had asked for nothing yet is as good as none.
        self.rounds.retain(|(first, _)| *first < next);
        self.rounds.push((next, now_millis()));
        let Options { data, limits, .. } = self.options();
        Plan { data, shards: limits.shards, seed: self.seed, rounds: self.rounds.clone() }
    }

    fn options(&mut self) -> Options {
        options(&self.data.path().join("data"), [1, 2, 2, 5][self.rng.random_range(0..4)])
    }

    /// Sends requests that have no outcome yet.
    fn send(&mut self, engine: &Engine, requests: Vec<Request>) {
        let answers = submit(engine, requests.clone());
        let outcomes = (0..answers.len()).map(|place| answers.outcome(place));
        let answered: Vec<_> = requests.into_iter().zip(outcomes).collect();
        self.oracle.replay(engine, &answered);
        self.answered.extend(answered);
    }

    /// Runs one child, or several without a look in between, and kills each.
    fn kill(&mut self) -> Vec<Heard> {
        let children = if self.rng.random_bool(0.2) { 2 } else { 1 };
        (0..children)
            .map(|_| {
                let heard = run_and_kill(self.plan(), Moment::some(&mut self.rng));
                let end = heard.intended.iter().map(|numbers| numbers.end).max();
                self.next_number = self.next_number.max(end.unwrap_or(0));
                heard
            })
            .collect()
    }

    /// Opens what the dead left and checks all of it.
    fn look(&mut self, dead: &[Heard]) {
        let engine = Engine::start(self.options()).expect("it recovers");
        let (there, missing) = self.recovered(&engine, dead);
        self.oracle.replay(&engine, &there);
        // Everything that is there is explained, and nothing is there besides.
        self.oracle.check(&engine);
        self.answered.extend(there);
        self.counts[2] += missing.len();
        self.send(&engine, missing);
        self.oracle.check(&engine);
        self.ask_again(&engine);
        engine.stop().expect("it stops");
    }

    /// What the dead intended: what became of it, and what did not happen.
    fn recovered(
        &mut self,
        engine: &Engine,
        dead: &[Heard],
    ) -> (Vec<(Request, Outcome)>, Vec<Request>) {
        let (mut there, mut missing) = (Vec::new(), Vec::new());
        for heard in dead {
            for number in heard.numbers() {
                let request = heard.plan.request(number);
                let told = heard.told.get(&number);
                match engine.known(request.id).expect("it knows") {
                    Known::Outcome(outcome) => {
                        let now = in_words(&outcome);
                        assert!(told.is_none_or(|told| *told == now), "{number}: {told:?}, {now}");
                        self.counts[usize::from(told.is_none())] += 1;
                        there.push((request, outcome));
                    }
                    Known::Unknown => {
                        assert_eq!(told, None, "{number} was acknowledged and is lost");
                        missing.push(request);
                    }
                    Known::Pending => {
                        panic!("{number} is pending in an engine that was just started")
                    }
                }
            }
        }
        (there, missing)
    }

    /// Sends some of what has an outcome again: the last ones, and some of all rounds. Looks at the past.
    fn ask_again(&mut self, engine: &Engine) {
        let len = self.answered.len();
        let recent = len.saturating_sub(OLD_ONES)..len;
        let any = (0..OLD_ONES).map(|_| self.rng.random_range(0..len)).collect::<Vec<_>>();
        let asked: Vec<&(Request, Outcome)> =
            recent.chain(any).map(|place| &self.answered[place]).collect();
        let answers = submit(engine, asked.iter().map(|(request, _)| request.clone()).collect());
        for (place, (request, outcome)) in asked.into_iter().enumerate() {
            assert_eq!(answers.outcome(place), *outcome, "of {request:?}");
        }
        // Repeats do nothing: all that happened since are ends of holds.
        (0..OLD_ONES).for_each(|_| self.oracle.check_some(engine, &mut self.rng));
    }

    /// Nothing is left in the end: every hold is resolved, and nothing is held.
    fn end(&mut self) {
        let engine = Engine::start(self.options()).expect("it starts");
        let open: Vec<Command> = self
            .oracle
            .open_holds()
            .map(|hold| {
                let rollback = matches!(hold.purpose, Purpose::Swap(_));
                resolve(hold.token, if rollback { Action::Rollback } else { Action::Cancel })
            })
            .collect();
        self.send(&engine, fresh(open));
        assert_eq!(self.oracle.open_holds().count(), 0);
        self.oracle.check(&engine);
        engine.stop().expect("it stops");
    }
}

/// An outcome as a child says it.
fn in_words(outcome: &Outcome) -> String {
    match reject(outcome) {
        None => format!("settled {}", seq_of(outcome)),
        Some(reject) => format!("rejected {}", reject.code()),
    }
}

#[test]
fn killed_at_any_moment_nothing_is_lost_halved_or_doubled() {
    if let Some(part) = child::part() {
        return child_main(&Plan::from_text(&part));
    }
    let kills = std::env::var("CROSSLATCH_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let mut venue = Venue::open(seed(20_261_122));
    let mut killed = 0;
    while killed < kills {
        let dead = venue.kill();
        killed += dead.len() as u64;
        venue = in_time(move || {
            venue.look(&dead);
            venue
        });
    }
    let venue = in_time(move || {
        venue.end();
        venue
    });
    let rare = ["expire", "commit", "withdrawal_confirm", "transaction", "lock_timeout"];
    eprintln!("{:?}", venue.oracle.seen(&rare));
    let [acknowledged, silent, missing] = venue.counts;
    eprintln!(
        "{killed} kills; acknowledged: {acknowledged}, there without: {silent}, never: {missing}"
    );
    assert!(acknowledged > 0, "nobody was answered: the test tested nothing");
    assert!(silent + missing > 0, "nothing was in flight at any kill: the test tested little");
}
