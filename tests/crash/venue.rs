//! A venue whose engine dies again and again, looked at after each time.
//!
//! * What was acknowledged is there, unchanged.
//! * What is there happened wholly: a serial oracle that does the recovered requests in the order
//!   of their seqs has the same receipts and the same balances, and none is left over.
//! * What was not acknowledged and is sent again has one outcome: the first one, if there was one.
//! * Holds stand as they stood, end when they said, and in the end none is left.

use std::path::{Path, PathBuf};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crosslatch::engine::{Durability, Engine, Known};
use crosslatch::request::{Action, Command, Outcome, Purpose, Request};
use crosslatch::store::backup;

use crate::load::submit;
use crate::oracle::{Oracle, reject, seq_of};
use crate::plan::{OPENING, Plan};
use crate::support::{self, fresh, now_millis, resolve, scratch};
use crate::watch::Heard;

/// Requests of earlier rounds that are asked for again in each.
const OLD_ONES: usize = 30;

/// What became of what the dead had asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// There, and acknowledged.
    pub acknowledged: usize,
    /// There, without an acknowledgement.
    pub silent: usize,
    /// It never happened.
    pub missing: usize,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.silent += other.silent;
        self.missing += other.missing;
    }
}

/// What is known of a venue.
pub struct Venue {
    pub oracle: Oracle,
    pub rng: SmallRng,
    seed: u64,
    /// Everything that ever got an outcome.
    answered: Vec<(Request, Outcome)>,
    next_number: u64,
    rounds: Vec<(u64, u64)>,
    /// Whether children drop what is old, so that not all of it can be asked for.
    pub forgets: bool,
    /// Over all rounds.
    pub counts: Counts,
    room: TempDir,
}

impl Venue {
    /// Nothing is there yet, not even the data directory: the first child makes it.
    pub fn new(seed: u64) -> Self {
        let room = scratch();
        std::fs::create_dir(room.path().join("disk")).expect("a new directory");
        let mut venue = Self {
            oracle: Oracle::default(),
            rng: SmallRng::seed_from_u64(seed),
            seed,
            answered: Vec::new(),
            next_number: 0,
            rounds: Vec::new(),
            forgets: false,
            counts: Counts::default(),
            room,
        };
        venue.oracle = Oracle::new(&venue.plan().options().limits);
        venue
    }

    /// A directory of its own, in which `disk` is the parent of the data directory.
    pub fn room(&self) -> PathBuf {
        // The names that the kernel tells of open files are without links.
        self.room.path().canonicalize().expect("it is there")
    }

    /// What the next child does, until it is killed.
    pub fn plan(&mut self) -> Plan {
        let next = self.next_number;
        // A child that had asked for nothing yet is as good as none.
        self.rounds.retain(|(first, _)| *first < next);
        self.rounds.push((next, now_millis()));
        Plan {
            data: self.room().join("disk/data"),
            shards: [1, 2, 2, 5][self.rng.random_range(0..4)],
            fold_requests_max: [1_000_000, 1_000_000, 20_000, 700, 30][self.rng.random_range(0..5)],
            durability: Durability::Sync,
            large_values: false,
            requests_max: 0,
            hours_ahead: 0,
            keeps_hours: 0,
            archives: false,
            backs_up: false,
            seed: self.seed,
            rounds: self.rounds.clone(),
        }
    }

    fn start(&mut self) -> Engine {
        let options = self.plan().options();
        Engine::start(options).unwrap_or_else(|error| panic!("it does not recover: {error}"))
    }

    /// Whether everything that makes it was asked for.
    pub fn is_open(&self) -> bool {
        self.next_number >= OPENING
    }

    /// The numbers of that child are taken.
    pub fn remember(&mut self, heard: &Heard) {
        let end = heard.intended.iter().map(|numbers| numbers.end).max();
        self.next_number = self.next_number.max(end.unwrap_or(0));
    }

    /// Removes the backups that a child made; what it said it had made can be restored. Says how
    /// many can: perhaps one more.
    pub fn check_backups(&self, heard: &Heard) -> usize {
        let whole = (0..).find(|number| !self.can_restore(&heard.plan.backup(*number)));
        let whole = whole.expect("there is an end");
        assert!(whole >= heard.backed_up, "of {} backups {whole} are whole", heard.backed_up);
        for number in 0..=whole + 1 {
            // What there is none of needs not be removed.
            let _ = std::fs::remove_dir_all(heard.plan.backup(number));
        }
        whole
    }

    /// A restore proves what it restored.
    fn can_restore(&self, backup: &Path) -> bool {
        let to = self.room().join("restored");
        let restored = backup::restore(backup, &to);
        let _ = std::fs::remove_dir_all(&to);
        restored.is_ok()
    }

    /// Sends requests that have no outcome yet.
    fn send(&mut self, engine: &Engine, requests: Vec<Request>) {
        let mut answered = Vec::new();
        for some in requests.chunks(4_000) {
            let answers = submit(engine, some.to_vec());
            let outcomes = (0..answers.len()).map(|place| answers.outcome(place));
            answered.extend(some.iter().cloned().zip(outcomes));
        }
        self.oracle.replay(engine, &answered);
        self.answered.extend(answered);
    }

    /// Opens what the dead left and checks all of it.
    pub fn look(&mut self, dead: &[Heard]) {
        let engine = self.start();
        let (there, missing) = self.recovered(&engine, dead);
        self.oracle.replay(&engine, &there);
        // Everything that is there is explained, and nothing is there besides.
        self.oracle.check(&engine);
        self.answered.extend(there);
        self.counts.missing += missing.len();
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
                        let counts = &mut self.counts;
                        let count = match told {
                            Some(_) => &mut counts.acknowledged,
                            None => &mut counts.silent,
                        };
                        *count += 1;
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
        if len == 0 {
            return;
        }
        let recent = len.saturating_sub(OLD_ONES)..len;
        let any = (0..OLD_ONES).map(|_| self.rng.random_range(0..len)).collect::<Vec<_>>();
        let asked: Vec<&(Request, Outcome)> =
            recent.chain(any).map(|place| &self.answered[place]).collect();
        let answers = submit(engine, asked.iter().map(|(request, _)| request.clone()).collect());
        for (place, (request, outcome)) in asked.into_iter().enumerate() {
            assert_eq!(answers.outcome(place), *outcome, "of {request:?}");
        }
        // Repeats do nothing: all that happened since are ends of holds.
        let looks = if self.forgets { 0 } else { OLD_ONES };
        (0..looks).for_each(|_| self.oracle.check_some(engine, &mut self.rng));
    }

    /// Nothing is left in the end: every hold is resolved, and nothing is held.
    pub fn end(&mut self) {
        let engine = self.start();
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
        support::audit(&engine);
        engine.stop().expect("it stops");
    }
}

impl Drop for Venue {
    /// What made a test fail can be looked at.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.room.disable_cleanup(true);
            eprintln!("left as it is: {}", self.room.path().display());
        }
    }
}

/// An outcome as a child says it.
fn in_words(outcome: &Outcome) -> String {
    match reject(outcome) {
        None => format!("settled {}", seq_of(outcome)),
        Some(reject) => format!("rejected {}", reject.code()),
    }
}
