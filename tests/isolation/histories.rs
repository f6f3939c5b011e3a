//! Histories of transactions on lists: written line by line, read back, and judged.
//!
//! ```text
//! invoke 3 a5:17 r5       process 3 wants to append 17 to list 5 and then to read it
//! ok 3 a5:17 r5:4,9,17    it has, and read that
//! fail 3                  nothing of it happened
//! died                    who had begun and heard nothing never will
//! ```
//!
//! Who never heard goes on under the number of a process that was not there before, as in Jepsen.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use adya::history::{Id, Interner, Op, OpType, ReadValue, Scalar};
use adya::{Opts, Report, Valid, Workload};

use crate::clients::CLIENTS;

/// The strictest there is: one order of all transactions that agrees with real time.
const MODEL: &str = "strict-serializable";

/// One thing that a transaction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Puts an element, which nobody else ever does, at the end of a list.
    Append { key: u64, element: u64 },
    /// Reads a list: `None` as long as it has not.
    Read { key: u64, list: Option<Vec<u64>> },
}

impl Step {
    pub fn key(&self) -> u64 {
        match self {
            Self::Append { key, .. } | Self::Read { key, .. } => *key,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append { key, element } => write!(f, "a{key}:{element}"),
            Self::Read { key, list: None } => write!(f, "r{key}"),
            Self::Read { key, list: Some(list) } => write!(f, "r{key}:{}", list_text(list)),
        }
    }
}

impl FromStr for Step {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (what, rest) = text.split_at(1);
        let (key, value) = match rest.split_once(':') {
            Some((key, value)) => (key.parse()?, Some(value)),
            None => (rest.parse()?, None),
        };
        if what == "a" {
            return Ok(Self::Append { key, element: value.unwrap_or_default().parse()? });
        }
        Ok(Self::Read { key, list: value.map(list_of).transpose()? })
    }
}

/// A list as text; the empty one is empty.
pub fn list_text(list: &[u64]) -> String {
    list.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

pub fn list_of(text: &str) -> Result<Vec<u64>, std::num::ParseIntError> {
    text.split(',').filter(|element| !element.is_empty()).map(str::parse).collect()
}

/// A line of a history.
pub fn line(word: &str, process: u64, steps: &[Step]) -> String {
    let steps: String = steps.iter().map(|step| format!(" {step}")).collect();
    format!("{word} {process}{steps}")
}

/// How one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Ok,
    Fail,
    /// Nobody knows.
    Info,
}

#[derive(Clone, Debug)]
pub enum Event {
    Begins { process: u64, steps: Vec<Step> },
    Ends { process: u64, end: End, steps: Vec<Step> },
}

#[derive(Clone, Debug, Default)]
pub struct History {
    pub events: Vec<Event>,
    /// By client: what it asked for and has heard nothing of.
    asked: BTreeMap<u64, Vec<Step>>,
    /// By client: under how many numbers it has gone before.
    renamed: BTreeMap<u64, u64>,
}

impl History {
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut history = Self::default();
        lines.into_iter().for_each(|line| history.add(line));
        history
    }

    pub fn add(&mut self, line: &str) {
        let mut words = line.split(' ');
        let word = words.next().expect("a word");
        if word == "died" {
            return self.died();
        }
        let client: u64 = words.next().expect("a process").parse().expect("a number");
        let steps: Vec<Step> = words.map(|step| step.parse().expect("a step")).collect();
        let process = self.process(client);
        if word == "invoke" {
            self.events.push(Event::Begins { process, steps: steps.clone() });
            assert_eq!(self.asked.insert(client, steps), None, "one at a time: {line}");
            return;
        }
        let asked = self.asked.remove(&client).expect("it was asked for");
        // What failed shows what would have been done.
        let (end, steps) = if word == "ok" { (End::Ok, steps) } else { (End::Fail, asked) };
        self.events.push(Event::Ends { process, end, steps });
    }

    fn process(&self, client: u64) -> u64 {
        client + (CLIENTS + 1) * self.renamed.get(&client).copied().unwrap_or(0)
    }

    fn died(&mut self) {
        for (client, steps) in std::mem::take(&mut self.asked) {
            let process = self.process(client);
            self.events.push(Event::Ends { process, end: End::Info, steps });
            *self.renamed.entry(client).or_default() += 1;
        }
    }

    /// How many ended so.
    pub fn count(&self, of: End) -> usize {
        let ended = |event: &&Event| matches!(event, Event::Ends { end, .. } if *end == of);
        self.events.iter().filter(ended).count()
    }

    /// What was asked for in all transactions that ended so.
    pub fn ended(&self, of: End) -> impl Iterator<Item = &Step> {
        self.events.iter().flat_map(move |event| match event {
            Event::Ends { end, steps, .. } if *end == of => steps.as_slice(),
            Event::Ends { .. } | Event::Begins { .. } => &[],
        })
    }

    /// What the checker has to say.
    pub fn judge(&self) -> Report {
        let mut interner = Interner::default();
        let ops = self.events.iter().zip(0..).map(|(event, index)| op(event, index, &mut interner));
        let ops = ops.collect();
        let history = adya::History::from_ops(ops, interner);
        let opts = Opts {
            models: vec![MODEL.into()],
            timeout: super::support::PATIENCE,
            ..Opts::default()
        };
        adya::check(&history, Workload::ListAppend, &opts)
    }
}

fn op(event: &Event, index: u64, interner: &mut Interner) -> Op {
    let (process, kind, steps) = match event {
        Event::Begins { process, steps } => (process, OpType::Invoke, steps),
        Event::Ends { process, end, steps } => (process, op_type(*end), steps),
    };
    let value = steps.iter().map(|step| mop(step, interner)).collect();
    Op { index, kind, process: Some(*process as i64), value, time: None }
}

fn op_type(end: End) -> OpType {
    match end {
        End::Ok => OpType::Ok,
        End::Fail => OpType::Fail,
        End::Info => OpType::Info,
    }
}

fn mop(step: &Step, interner: &mut Interner) -> adya::history::Mop {
    let mut id = |number: u64| -> Id { interner.intern(Scalar::Int(number as i64)) };
    match step {
        Step::Append { key, element } => {
            adya::history::Mop::Append { key: id(*key), value: id(*element) }
        }
        Step::Read { key, list } => {
            let key = id(*key);
            let list = list.as_ref().map(|list| list.iter().copied().map(&mut id).collect());
            let value = list.map_or(ReadValue::Nil, ReadValue::List);
            adya::history::Mop::Read { key, value }
        }
    }
}

/// Says what was found, if anything was.
#[track_caller]
pub fn assert_clean(report: &Report) {
    let found = report.anomalies.values().flatten();
    let found: Vec<&str> = found.map(|anomaly| anomaly.explanation.as_str()).take(5).collect();
    assert_eq!(report.valid, Valid::True, "{:?}\n{}", report.anomaly_types, found.join("\n"));
}

/// Judges a history that somebody made up.
fn found_in(history: &str) -> Vec<String> {
    let report =
        History::of(history.lines().map(str::trim).filter(|line| !line.is_empty())).judge();
    assert_eq!(report.valid == Valid::True, report.anomaly_types.is_empty());
    report.anomaly_types
}

#[test]
fn a_serial_history_is_found_clean() {
    let clean = "
        invoke 1 a1:1 r1
        ok 1 a1:1 r1:1
        invoke 2 r1 a1:2
        invoke 3 a1:3
        fail 3
        ok 2 r1:1 a1:2
        invoke 1 r1
        ok 1 r1:1,2";
    assert_eq!(found_in(clean), [""; 0]);
}

#[test]
fn a_lost_update_is_found() {
    let lost = "
        invoke 1 r1 a1:1
        invoke 2 r1 a1:2
        ok 1 r1: a1:1
        ok 2 r1: a1:2
        invoke 3 r1
        ok 3 r1:2";
    assert!(found_in(lost).contains(&"lost-update".to_owned()), "{:?}", found_in(lost));
}

#[test]
fn circular_information_flow_is_found() {
    let circle = "
        invoke 1 a1:1 r2
        invoke 2 a2:2 r1
        ok 1 a1:1 r2:2
        ok 2 a2:2 r1:1";
    assert_eq!(found_in(circle), ["G1c"]);
}

#[test]
fn half_a_snapshot_is_found() {
    let skewed = "
        invoke 1 r1 r2
        invoke 2 a1:1 a2:2
        ok 2 a1:1 a2:2
        ok 1 r1: r2:2";
    assert_eq!(found_in(skewed), ["G-single-item"]);
}

#[test]
fn write_skew_is_found() {
    let skewed = "
        invoke 1 r1 a2:1
        invoke 2 r2 a1:2
        ok 1 r1: a2:1
        ok 2 r2: a1:2
        invoke 3 r1 r2
        ok 3 r1:2 r2:1";
    assert_eq!(found_in(skewed), ["G2-item"]);
}

#[test]
fn an_aborted_read_is_found() {
    let aborted = "
        invoke 1 a1:1
        invoke 2 r1
        ok 2 r1:1
        fail 1";
    assert!(found_in(aborted).contains(&"G1a".to_owned()), "{:?}", found_in(aborted));
}

#[test]
fn a_read_of_what_is_over_is_found() {
    // Serializable, but for somebody who looks at a clock.
    let stale = "
        invoke 1 a1:1
        ok 1 a1:1
        invoke 2 r1
        ok 2 r1:
        invoke 3 r1
        ok 3 r1:1";
    assert_eq!(found_in(stale), ["G-single-item-realtime"]);
}

#[test]
fn of_what_nobody_knows_either_is_right_but_not_both() {
    let unknown = "
        invoke 1 a1:1
        died
        invoke 2 r1
        ok 2 r1:";
    assert_eq!(found_in(&format!("{unknown}1")), [""; 0]);
    assert_eq!(found_in(&format!("{unknown}1\ninvoke 2 r1 a1:2\nok 2 r1:1 a1:2")), [""; 0]);
    // It was there, and is not there any more.
    let forgotten = format!("{unknown}1\ninvoke 2 r1 a1:2\nok 2 r1: a1:2\ninvoke 2 r1\nok 2 r1:2");
    assert!(!found_in(&forgotten).is_empty());
}
