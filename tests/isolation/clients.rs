//! Clients in a process of their own, with the engine in it: started, killed, started again, until
//! they have done enough.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, after};
use rand::Rng;
use rand::rngs::SmallRng;

use crosslatch::engine::{Engine, Options};

use crate::child::{Part, was_killed};
use crate::support::PATIENCE;

/// Threads that ask.
pub const CLIENTS: u64 = 20;
/// With this, a line belongs to a history; the test harness says things of its own.
const MARK: &str = "history ";

/// What one child is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub data: PathBuf,
    pub shards: usize,
    pub seed: u64,
    /// What it does is numbered from here.
    pub first: u64,
    /// It ends when it has done so much.
    pub enough: u64,
}

impl Plan {
    pub fn start(&self) -> Engine {
        let mut options = Options::new(&self.data);
        options.limits.shards = self.shards;
        options.limits.lock_wait_ms = 20;
        Engine::start(options).expect("it starts on whatever was left")
    }

    fn to_text(&self) -> String {
        let Self { data, shards, seed, first, enough } = self;
        format!("{shards} {seed} {first} {enough} {}", data.display())
    }

    pub fn from_text(text: &str) -> Self {
        let fields: Vec<&str> = text.splitn(5, ' ').collect();
        let number = |place: usize| fields[place].parse().expect("a number");
        Self {
            data: Path::new(fields[4]).into(),
            shards: number(0) as usize,
            seed: number(1),
            first: number(2),
            enough: number(3),
        }
    }
}

/// How many transactions a test is to see: `CROSSLATCH_TRANSACTIONS`, or a few.
pub fn transactions() -> u64 {
    let asked = std::env::var("CROSSLATCH_TRANSACTIONS");
    asked.map_or(6_000, |text| text.parse().expect("a number"))
}

/// How often an engine is killed in a test with kills: `CROSSLATCH_KILLS`, or a few times.
pub fn kills() -> u64 {
    std::env::var("CROSSLATCH_KILLS").map_or(6, |text| text.parse().expect("a number"))
}

/// Writes a line of the history. What begins is written before it does, and what is over after it is,
/// so that whoever comes later in the history, did.
pub fn write_down(line: &str) {
    crate::child::say(&format!("{MARK}{line}"));
}

/// When a child dies.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// Of itself, when it has done enough.
    Lives,
    /// Soon after it has said so much.
    Killed { said_bytes: usize, micros_later: u64 },
}

impl Fate {
    /// Death somewhere in the next so many bytes.
    pub fn some(rng: &mut SmallRng, bytes: usize) -> Self {
        let said_bytes = rng.random_range(1..bytes.max(2));
        Self::Killed { said_bytes, micros_later: rng.random_range(0..3_000) }
    }
}

/// Runs the child of a test; returns what it wrote down.
pub fn run(test: &str, plan: &Plan, fate: Fate) -> Vec<String> {
    let mut part = Part::start(test, &plan.to_text());
    let enough = match fate {
        Fate::Lives => usize::MAX,
        Fate::Killed { said_bytes, .. } => said_bytes,
    };
    while part.heard.len() < enough {
        match part.chunks.recv_timeout(PATIENCE) {
            Ok(chunk) => part.heard.extend(chunk),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("the child hangs in {plan:?}"),
        }
    }
    if let Fate::Killed { micros_later, .. } = fate {
        assert!(after(Duration::from_micros(micros_later)).recv().is_ok());
        part.child.kill().expect("it is a child of this process");
    }
    let (lines, status) = part.end();
    match fate {
        Fate::Lives => assert!(status.success(), "the child failed: {status}"),
        Fate::Killed { .. } => assert!(was_killed(status), "the child ended by itself: {status}"),
    }
    lines.iter().filter_map(|line| Some(line.strip_prefix(MARK)?.to_owned())).collect()
}
