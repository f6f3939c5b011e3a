//! The parent's side of one child: when it is killed, and what it had said by then.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use crossbeam::channel::{after, select};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::child::{self, Part};
use crate::plan::Plan;
use crate::support::PATIENCE;

/// When the child is killed.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// So long after it was started: in its start or its recovery, or soon after.
    Starting(Duration),
    /// When it has said so much.
    Said(usize),
    /// So long after it was ready.
    Ready(Duration),
    /// Not at all: it dies by itself, or is done.
    Never,
}

impl Moment {
    pub fn some(rng: &mut SmallRng) -> Self {
        match rng.random_range(0..10) {
            0..2 => Self::Starting(Duration::from_micros(rng.random_range(0..120_000))),
            2..7 => Self::Said(rng.random_range(0..30_000)),
            _ => Self::Ready(Duration::from_micros(rng.random_range(0..60_000))),
        }
    }
}

/// What a child had said when it died.
pub struct Heard {
    pub plan: Plan,
    /// Requests that it may have submitted.
    pub intended: Vec<Range<u64>>,
    /// By number: what it was told.
    pub told: BTreeMap<u64, String>,
    /// How many backups it said it had made.
    pub backed_up: usize,
    /// Whether it died by SIGKILL before its moment had come.
    #[cfg_attr(not(feature = "faults"), expect(dead_code, reason = "only points are waited for"))]
    pub fell: bool,
}

impl Heard {
    fn parse(plan: Plan, lines: &[String], fell: bool) -> Self {
        let (mut intended, mut told, mut backed_up) = (Vec::new(), BTreeMap::new(), 0);
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["intends", from, to] => {
                    intended.push(from.parse().expect("a number")..to.parse().expect("a number"));
                }
                [how @ ("settled" | "rejected"), number, what] => {
                    told.insert(number.parse().expect("a number"), format!("{how} {what}"));
                }
                ["backed-up", _] => backed_up += 1,
                // Words of the test harness.
                _ => {}
            }
        }
        Self { plan, intended, told, backed_up, fell }
    }

    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.intended.iter().cloned().flatten()
    }
}

/// Runs a child until the moment has come, and kills it. `test` is the one that has its part.
pub fn run_and_kill(
    test: &str,
    plan: Plan,
    moment: Moment,
    environment: &[(&str, String)],
) -> Heard {
    let mut part = Part::start_with(test, &plan.to_text(), environment);
    let came = wait_for(moment, &mut part);
    part.child.kill().expect("it is a child of this process");
    let (lines, status) = part.end();
    let done = matches!(moment, Moment::Never) && status.success();
    assert!(done || child::was_killed(status), "the child ended by itself: {status}");
    Heard::parse(plan, &lines, !came && !done)
}

/// Listens until the moment has come; says whether it has, or the child was gone before.
fn wait_for(moment: Moment, part: &mut Part) -> bool {
    let mut timer = match moment {
        Moment::Starting(time) => after(time),
        Moment::Said(_) | Moment::Ready(_) | Moment::Never => after(PATIENCE),
    };
    let mut armed = matches!(moment, Moment::Starting(_));
    loop {
        let chunk = select! {
            recv(part.chunks) -> chunk => match chunk {
                Ok(chunk) => chunk,
                Err(_) => return false,
            },
            recv(timer) -> _ => {
                assert!(armed, "the child hangs; it said {} bytes", part.heard.len());
                return true;
            }
        };
        part.heard.extend(chunk);
        match moment {
            Moment::Said(bytes) if part.heard.len() >= bytes => return true,
            Moment::Ready(time) if !armed && is_ready(&part.heard) => {
                (armed, timer) = (true, after(time));
            }
            _ => {}
        }
    }
}

fn is_ready(heard: &[u8]) -> bool {
    heard.windows(6).any(|word| word == b"ready\n")
}
