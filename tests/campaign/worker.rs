//! A client's process: it asks for what its plan says until it is killed, and goes on from a little before
//! where it was when it is started again.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam::channel::after;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustix::process::getppid;
use tokio::runtime::{Builder, Runtime};

use crosslatch::request::Request;

use crate::face::Face;
use crate::memory::Memory;
use crate::plan::{Plan, Round, Speaks};
use crate::support::now_millis;

/// Threads of a client.
const THREADS: u64 = 3;
/// So far before the last answer that it knows of it begins again, at most.
const BACK: u64 = 60;
/// So many requests of its past it asks for again when it is started.
const LONG_PAST: usize = 40;
/// The longest that a thread does nothing between two rounds.
const PAUSE_US: u64 = 300_000;
/// So many requests in a round, each about as likely.
const OVER_GRPC: [u64; 6] = [1, 1, 3, 20, 60, 200];
const OVER_HTTP: [u64; 5] = [1, 1, 3, 8, 20];

/// What the threads share.
struct Client<'a> {
    plan: &'a Plan,
    memory: Mutex<Memory>,
    runtime: Arc<Runtime>,
}

pub fn runtime() -> Arc<Runtime> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    Arc::new(runtime.expect("a runtime"))
}

/// Runs until it is killed, or whoever started it is gone.
pub fn main(plan: &Plan) {
    let memory = Mutex::new(Memory::open(&plan.memory));
    let client = Client { plan, memory, runtime: runtime() };
    let mut rng = SmallRng::seed_from_u64(now_millis() ^ plan.seed ^ plan.client << 50);
    let begin_again = client.begin_again(&mut rng);
    std::thread::scope(|scope| {
        for thread in 0..THREADS as usize {
            let mine = begin_again.iter().skip(thread).step_by(THREADS as usize);
            let (mine, seed) = (mine.copied().collect::<Vec<u64>>(), rng.random());
            let client = &client;
            scope.spawn(move || client.work(&mine, SmallRng::seed_from_u64(seed)));
        }
    });
}

/// Ends the process when nobody will any more.
fn goes_on() {
    if getppid().is_none_or(|parent| parent.as_raw_nonzero().get() == 1) {
        std::process::exit(1);
    }
}

impl Client<'_> {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no thread failed")
    }

    /// What a client that was started again asks for first: everything from a little before the last answer
    /// on, whatever else it has no answer to, and some of long ago.
    fn begin_again(&self, rng: &mut SmallRng) -> Vec<u64> {
        let memory = self.memory();
        let Some(last) = memory.told.keys().next_back().copied() else {
            return memory.numbers().collect();
        };
        let from = last.saturating_sub(rng.random_range(0..BACK));
        let is_open = |number: &u64| *number >= from || !memory.told.contains_key(number);
        let mut numbers: Vec<u64> = memory.numbers().filter(is_open).collect();
        let told: Vec<u64> = memory.told.keys().copied().collect();
        numbers.extend((0..LONG_PAST).map(|_| told[rng.random_range(0..told.len())]));
        numbers
    }

    fn work(&self, begin_again: &[u64], mut rng: SmallRng) {
        let mut face = Face::new(self.plan, &self.runtime, goes_on);
        for numbers in begin_again.chunks(100) {
            let requests = self.requests(numbers);
            let requests = requests.into_iter().map(|it| self.plan.forgotten(it)).collect();
            self.ask(&mut face, numbers, requests, true);
        }
        loop {
            goes_on();
            let round = self.next_round(&mut face, &mut rng);
            let numbers: Vec<u64> = (round.first..round.end).collect();
            match rng.random_range(0..20) {
                // Twice at once, on connections of their own.
                0 => {
                    let twin = || {
                        let mut face = Face::new(self.plan, &self.runtime, goes_on);
                        self.ask(&mut face, &numbers, self.requests(&numbers), true);
                    };
                    std::thread::scope(|scope| {
                        scope.spawn(twin);
                        self.ask(&mut face, &numbers, self.requests(&numbers), false);
                    });
                }
                // Twice, one after the other.
                1 => {
                    self.ask(&mut face, &numbers, self.requests(&numbers), false);
                    self.ask(&mut face, &numbers, self.requests(&numbers), true);
                }
                _ => self.ask(&mut face, &numbers, self.requests(&numbers), false),
            }
            let _ = after(Duration::from_micros(rng.random_range(0..PAUSE_US))).recv();
        }
    }

    fn requests(&self, numbers: &[u64]) -> Vec<Request> {
        let memory = self.memory();
        numbers.iter().map(|number| self.plan.request(&memory.rounds, *number)).collect()
    }

    /// Plans the next requests, and writes that down.
    fn next_round(&self, face: &mut Face, rng: &mut SmallRng) -> Round {
        let size = match self.plan.speaks {
            Speaks::Grpc => OVER_GRPC[rng.random_range(0..OVER_GRPC.len())],
            Speaks::Http => OVER_HTTP[rng.random_range(0..OVER_HTTP.len())],
        };
        let key = rng.random_range(0..8);
        let version = face.version(key);
        let mut memory = self.memory();
        let first = memory.end();
        let round = Round { first, end: first + size, millis: now_millis(), key, version };
        memory.plan(round);
        round
    }

    fn ask(&self, face: &mut Face, numbers: &[u64], requests: Vec<Request>, repeats: bool) {
        let (answers, again) = face.ask(&requests, goes_on);
        let again = again + if repeats { numbers.len() as u64 } else { 0 };
        let told: Vec<(u64, String)> = numbers.iter().copied().zip(answers).collect();
        self.memory().tell(&told, again);
    }
}
