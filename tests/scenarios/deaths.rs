//! The process dies at a chosen point. (At random ones: `tests/crash`.)

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, setrlimit};

use crosslatch::config::BATCH_REQUESTS_MAX;
use crosslatch::engine::{Engine, Known, Options};
use crosslatch::request::{Outcome, Request};
use crosslatch::types::RequestId;

use crate::child::{self, Part, say, was_killed};
use crate::clock::{Spring, TrapClock, nth};
use crate::poison::limit_files;
use crate::support::{ETH, SOL, deposit, leg, swap};
use crate::venue::{Venue, receipt};

/// What the log of the store has grown to, in bytes.
pub fn log_bytes(data: &Path) -> u64 {
    let files = std::fs::read_dir(data.join("db")).expect("the store's directory");
    let logs = files.map(|file| file.expect("a file").path());
    let logs = logs.filter(|path| path.extension().is_some_and(|it| it == "log"));
    // A log may be deleted meanwhile.
    logs.filter_map(|path| path.metadata().ok()).map(|meta| meta.len()).max().unwrap_or(0)
}

/// One ETH of Alice's for one SOL of Bob's.
fn numbered_swap(number: u64) -> Request {
    let command = swap([leg(0, 1, ETH, 1), leg(1, 0, SOL, 1)]);
    Request::new(RequestId::new(1 << 90 | u128::from(number)), command)
}

/// When the child dies: `number` of the swap that it submits, and where.
fn die_on_the_way(part: &str) {
    let fields: Vec<&str> = part.splitn(4, ' ').collect();
    let [number, thread, n, data] = fields[..] else { panic!("{part}") };
    let (number, data) = (number.parse().expect("a number"), PathBuf::from(data));
    let clock = Arc::new(TrapClock::default());
    let engine = Engine::start_with_clock(Options::new(&data), clock.clone()).expect("it starts");
    let before = log_bytes(&data);
    match n {
        "written" => clock.set(move |name| {
            let there = name == "commit-log" && log_bytes(&data) > before;
            if there { Spring::Die } else { Spring::Pass }
        }),
        n => clock.set(nth(thread.to_owned(), n.parse().expect("a number"), Spring::Die)),
    }
    let pending = engine.submit(vec![numbered_swap(number)]).expect("there is room");
    let answers = pending.wait().expect("it runs until it dies");
    receipt(answers.outcome(0));
    say("answered");
    engine.stop().expect("it stops");
    say("stopped");
}

/// What was left of a swap.
#[derive(Debug, PartialEq)]
struct Left {
    answered: bool,
    happened: bool,
    survived: bool,
}

/// Runs a child that dies with a swap under way; looks at what is left, and does the swap again.
fn die_and_look(venue: &mut Venue, test: &str, number: u64, thread: &str, n: &str) -> Left {
    let before = [0, 1].map(|who| [ETH, SOL].map(|asset| venue.balance(who, asset)));
    venue.stop();
    let part = format!("{number} {thread} {n} {}", venue.options.data.display());
    let (lines, status) = Part::start(test, &part).end();
    let said = |word: &str| lines.iter().any(|line| line == word);
    assert!(status.success() || was_killed(status), "the child failed: {status}");
    venue.recover();
    let now = || [0, 1].map(|who| [ETH, SOL].map(|asset| venue.balance(who, asset)));
    let [[a_eth, a_sol], [b_eth, b_sol]] = before;
    let after = [[a_eth - 1, a_sol + 1], [b_eth + 1, b_sol - 1]];
    let request = numbered_swap(number);
    let happened = match venue.engine().known(request.id).expect("it runs") {
        Known::Outcome(Outcome::Settled(_)) => true,
        Known::Unknown => false,
        other => panic!("{other:?}"),
    };
    assert_eq!(now(), if happened { after } else { before }, "{thread} {n}");
    let first = venue.ask(&request);
    assert_eq!(venue.ask(&request), first);
    assert_eq!(now(), after, "sent again it has happened once");
    Left { answered: said("answered"), happened, survived: status.success() }
}

fn alice_and_bob() -> Venue {
    let venue = Venue::open(2);
    venue.settle_all([deposit(0, ETH, 1_000), deposit(1, SOL, 1_000)]);
    venue
}

#[test]
fn dead_before_the_commit_is_written_nothing_happened_and_dead_after_it_all_of_it() {
    if let Some(part) = child::part() {
        return die_on_the_way(&part);
    }
    let test =
        "deaths::dead_before_the_commit_is_written_nothing_happened_and_dead_after_it_all_of_it";
    let mut venue = alice_and_bob();
    // The log's first look at the clock is when it hears of the swap.
    let heard = die_and_look(&mut venue, test, 0, "commit-log", "0");
    assert_eq!(heard, Left { answered: false, happened: false, survived: false });
    // The first one after the disk has it is before anybody else knows.
    let written = die_and_look(&mut venue, test, 1, "commit-log", "written");
    assert_eq!(written, Left { answered: false, happened: true, survived: false });
    venue.end();
}

#[test]
fn dead_wherever_an_actor_looks_at_the_clock_it_is_all_or_nothing() {
    if let Some(part) = child::part() {
        return die_on_the_way(&part);
    }
    let test = "deaths::dead_wherever_an_actor_looks_at_the_clock_it_is_all_or_nothing";
    let mut venue = alice_and_bob();
    let mut numbers = 0..;
    for thread in ["coordinator", "commit-log", "materializer"] {
        for n in 0..100 {
            let number = numbers.next().expect("endless");
            let left = die_and_look(&mut venue, test, number, thread, &n.to_string());
            assert!(left.happened || !left.answered, "{thread} {n}: {left:?}");
            if left.survived {
                assert!(n > 0 && left.answered, "{thread} {n}: {left:?}");
                break;
            }
        }
    }
    venue.end();
}

/// A submission that becomes one large block of the journal.
fn large(round: u64) -> Vec<Request> {
    let first = (round + 1) << 32;
    (0..BATCH_REQUESTS_MAX as u64).map(|n| numbered_swap(first + n)).collect()
}

/// The child: writes a large block, and then another while the log may only grow by a part of it.
fn die_in_the_write(part: &str) {
    let fields: Vec<&str> = part.splitn(3, ' ').collect();
    let [round, percent, data] = fields[..] else { panic!("{part}") };
    let (round, percent): (u64, u64) =
        (round.parse().expect("a number"), percent.parse().expect("a number"));
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, no_core).expect("a process may limit itself");
    let data = Path::new(data);
    let engine = Engine::start(Options::new(data)).expect("it starts");
    let before = log_bytes(data);
    engine.submit(large(round)).expect("there is room").wait().expect("it runs");
    say("first");
    let block = log_bytes(data) - before;
    assert!(block > 200_000, "a block of {block} bytes is not larger than the store's other files");
    limit_files(log_bytes(data) + block * percent / 100);
    let second = engine.submit(large(round + 1)).expect("there is room").wait();
    // Where the signal is ignored, the write fails instead.
    if second.is_ok() {
        say("second");
    }
}

#[test]
fn dead_in_the_middle_of_the_write_none_of_the_group_happened() {
    if let Some(part) = child::part() {
        return die_in_the_write(&part);
    }
    let test = "deaths::dead_in_the_middle_of_the_write_none_of_the_group_happened";
    let venue = Venue::open(2);
    let plenty = 1_000_000;
    venue.settle_all([deposit(0, ETH, plenty), deposit(1, SOL, plenty)]);
    let mut venue = venue;
    let (mut round, mut settled) = (0, 0);
    for percent in [0, 1, 17, 50, 83, 99, 200] {
        venue.stop();
        let part = format!("{round} {percent} {}", venue.options.data.display());
        let (lines, _) = Part::start(test, &part).end();
        let said = |word: &str| lines.iter().any(|line| line == word);
        assert!(said("first"), "the child failed before it was to");
        let whole = percent >= 100;
        assert_eq!(said("second"), whole, "{percent}%");
        venue.recover();
        settled += BATCH_REQUESTS_MAX as u128 * if whole { 2 } else { 1 };
        assert_eq!([venue.balance(1, ETH), venue.balance(0, SOL)], [settled; 2], "{percent}%");
        for request in large(round + 1).iter().step_by(1_111) {
            let known = venue.engine().known(request.id).expect("it runs");
            assert_eq!(known != Known::Unknown, whole, "{percent}%: {known:?}");
        }
        if !whole {
            venue.send(large(round + 1)).into_iter().for_each(|outcome| drop(receipt(outcome)));
            settled += BATCH_REQUESTS_MAX as u128;
        }
        round += 2;
    }
    venue.end();
}
