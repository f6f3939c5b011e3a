//! What runs in the child: an engine, and threads that submit until they are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::clock::{Clock, SystemClock};
use crosslatch::engine::{Answers, Brief, Engine};
use crosslatch::request::Request;
use crosslatch::types::{Key, Time};

use crate::child::say;
use crate::plan::{OPENING, Plan};
use crate::support::account;

/// Threads that submit.
const THREADS: u64 = 4;
/// So many requests at once, each about as likely.
const BATCH_SIZES: [u64; 7] = [1, 1, 3, 20, 100, 300, 700];

pub fn child_main(plan: &Plan) {
    let clock = Arc::new(Ahead { hours: plan.hours_ahead });
    let engine = Engine::start_with_clock(plan.options(), clock);
    let engine = engine.expect("it starts on whatever was left");
    say("ready");
    let first = plan.first();
    if first < OPENING {
        assert_eq!(first, 0, "the opening is asked for at once");
        ask(&engine, plan, 0, OPENING);
    }
    let next = AtomicU64::new(first.max(OPENING));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, next) = (&engine, &next);
            scope.spawn(move || submit_on_and_on(engine, plan, next, thread));
        }
        if plan.backs_up {
            back_up(&engine, plan);
        }
    });
    engine.stop().expect("it stops");
}

/// Makes one backup after another, until it is killed, and says of each that it is made.
fn back_up(engine: &Engine, plan: &Plan) {
    for number in 0.. {
        engine.backup(&plan.backup(number)).expect("it makes a backup");
        say(&format!("backed-up {number}"));
    }
}

/// The machine's clocks; the wall clock is ahead.
struct Ahead {
    hours: u64,
}

impl Clock for Ahead {
    fn boot_nanos(&self) -> u64 {
        SystemClock.boot_nanos()
    }

    fn wall(&self) -> Time {
        Time::new(SystemClock.wall().get() + self.hours * 3_600_000_000)
    }
}

fn submit_on_and_on(engine: &Engine, plan: &Plan, next: &AtomicU64, thread: u64) {
    let mut rng = SmallRng::seed_from_u64(plan.seed + plan.first() + thread);
    let last = if plan.requests_max == 0 { u64::MAX } else { plan.first() + plan.requests_max };
    for turn in 0.. {
        let n = BATCH_SIZES[rng.random_range(0..BATCH_SIZES.len())];
        let first = next.fetch_add(n, Ordering::Relaxed);
        if first >= last {
            return;
        }
        let answers = ask(engine, plan, first, first + n);
        // At least once, however few batches there are.
        if turn == 0 || rng.random_bool(0.1) {
            let mut past = engine.begin().expect("it runs until it is killed");
            past.get(&Key::new(*b"hot 1")).expect("it can be read");
            engine.balances_blocking(account(0)).expect("it was opened");
        }
        if rng.random_bool(0.1) {
            let again = submit(engine, plan.requests(first..first + n));
            let same = (0..again.len()).all(|place| again.brief(place) == answers.brief(place));
            assert!(same, "sent again, {first}.. was answered otherwise");
        }
    }
}

/// Says what it asks for, asks, and says what was answered.
fn ask(engine: &Engine, plan: &Plan, first: u64, end: u64) -> Answers {
    say(&format!("intends {first} {end}"));
    let answers = submit(engine, plan.requests(first..end));
    let told: Vec<String> = (0..answers.len()).map(|place| word(&answers, place, first)).collect();
    say(&told.join("\n"));
    answers
}

pub fn submit(engine: &Engine, requests: Vec<Request>) -> Answers {
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
