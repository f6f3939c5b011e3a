//! When an actor or the disk fails: no answer any more, `Stopped` for everybody, and a restart that
//! finds all that was answered.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::channel::bounded;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crosslatch::engine::{Brief, Engine, Known, Options, Pending};
use crosslatch::error::Error;
use crosslatch::request::{Outcome, Request};
use crosslatch::types::{CommitSeq, RequestId};

use crate::child::{self, Part, say};
use crate::clock::{Spring, nth};
use crate::deaths::log_bytes;
use crate::support::{
    ETH, PATIENCE, account, block_on, deposit, fresh, in_time, leg, swap, withdraw,
};
use crate::venue::{Venue, receipt};

const CALLERS: u64 = 6;

/// There and back, so that it never runs out.
fn some_swaps(n: usize) -> Vec<Request> {
    let there_and_back = |place| [leg(place % 2, 1 - place % 2, ETH, 1); 2];
    fresh((0..n as u64).map(|place| swap(there_and_back(place))))
}

/// Submits until the engine has stopped; what was answered until then.
fn submit_until_stopped(engine: &Engine, sizes: &[usize]) -> Vec<(RequestId, CommitSeq)> {
    let mut answered = Vec::new();
    for size in sizes.iter().cycle() {
        let requests = some_swaps(*size);
        let ids: Vec<RequestId> = requests.iter().map(|request| request.id).collect();
        match engine.submit(requests).and_then(Pending::wait) {
            Ok(answers) => answered.extend(ids.into_iter().enumerate().map(|(place, id)| {
                let Brief::Settled(seq) = answers.brief(place) else { panic!("refused") };
                (id, seq)
            })),
            Err(Error::Stopped { .. }) => return answered,
            Err(other) => panic!("{other}"),
        }
    }
    unreachable!("there is always a next size")
}

/// Has many callers submit until it stops.
fn all_until_stopped(engine: &Engine) -> Vec<(RequestId, CommitSeq)> {
    std::thread::scope(|scope| {
        let call = |caller| {
            let sizes: &[usize] = if caller == 0 { &[500, 1, 40] } else { &[1, 3, 10] };
            scope.spawn(move || submit_until_stopped(engine, sizes))
        };
        let callers: Vec<_> = (0..CALLERS).map(call).collect();
        callers.into_iter().flat_map(|caller| caller.join().expect("it hears of it")).collect()
    })
}

/// Everybody who asks is told the cause.
fn check_stopped(engine: &Engine, cause: &str) {
    let found = engine.stopped().expect("it has stopped");
    assert!(found.contains(cause), "{found}, not {cause}");
    let expected = Some(Error::Stopped { cause: found });
    assert_eq!(engine.submit(some_swaps(1)).err(), expected);
    assert_eq!(engine.balances_blocking(account(0)).err(), expected);
    assert_eq!(block_on(engine.balances(account(0))).err(), expected);
    assert_eq!(block_on(engine.audit()).err(), expected);
    assert_eq!(engine.known(RequestId::new(1)).err(), expected);
    assert_eq!(engine.stop().err(), expected);
    assert_eq!(engine.stop().err(), expected);
}

/// A venue on which two accounts can swap for ever.
fn funded(shards: usize) -> Venue {
    let venue = Venue::with(2, |limits| limits.shards = shards);
    venue.settle_all([deposit(0, ETH, 1_000_000), deposit(1, ETH, 1_000_000)]);
    venue
}

/// What was answered is there, under the seq that was given.
fn check_answered(engine: &Engine, answered: &[(RequestId, CommitSeq)]) {
    for (id, seq) in answered {
        match engine.known(*id) {
            Ok(Known::Outcome(Outcome::Settled(receipt))) => assert_eq!(receipt.commit_seq, *seq),
            other => panic!("request {id}, answered with {seq}, is {other:?}"),
        }
    }
}

#[test]
fn an_actor_that_panics_stops_everybody_and_loses_nothing() {
    for (actor, n) in [
        ("coordinator", 0),
        ("coordinator", 100),
        ("commit-log", 0),
        ("commit-log", 101),
        ("commit-log", 202),
        ("materializer", 3),
    ] {
        let (answered, mut venue) = in_time(move || {
            let venue = funded(2);
            venue.clock.set(nth(actor.into(), n, Spring::Panic));
            let answered = all_until_stopped(venue.engine());
            check_stopped(venue.engine(), &format!("{actor} panicked: the trap was set"));
            (answered, venue)
        });
        venue.clock.release();
        assert!(n < 100 || !answered.is_empty(), "stopped before it began");
        let durable = venue.seq();
        assert!(answered.iter().all(|(_, seq)| *seq <= durable), "answered before it was durable");
        venue.recover();
        check_answered(venue.engine(), &answered);
        receipt(venue.send(some_swaps(1)).remove(0));
        venue.end();
    }
}

/// Has the log wait with a group in hand; then the coordinator panics, and the log goes on.
fn poison_while_the_log_waits(venue: &mut Venue, mut waits: impl FnMut() -> bool + Send + 'static) {
    // It is the coordinator that panics with a second submission, not with the first.
    let poisons = Arc::new(AtomicBool::new(false));
    let poisoned_now = poisons.clone();
    let (arrived, arrives) = bounded(1);
    venue.clock.set(move |thread| match thread {
        "coordinator" if poisons.load(Ordering::SeqCst) => Spring::Panic,
        "commit-log" if waits() => {
            arrived.send(()).expect("it comes by once");
            Spring::Wait
        }
        _ => Spring::Pass,
    });
    let before = venue.seq();
    let requests = some_swaps(3);
    let first = venue.submit(requests);
    arrives.recv_timeout(PATIENCE).expect("the log gets there");
    let read = venue.engine().clone();
    let reader = std::thread::spawn(move || read.balances_blocking(account(0)));
    poisoned_now.store(true, Ordering::SeqCst);
    let last = venue.engine().submit(some_swaps(1));
    let cause = block_on(venue.engine().poisoned());
    assert!(cause.contains("coordinator panicked"), "{cause}");
    venue.clock.release();
    let stopped = Some(Error::Stopped { cause });
    assert_eq!(first.wait().err(), stopped);
    assert_eq!(last.and_then(Pending::wait).err(), stopped);
    assert_eq!(reader.join().expect("it hears of it").err(), stopped);
    assert_eq!(venue.engine().stop().err(), stopped);
    assert_eq!(venue.seq(), before, "D did not move");
    venue.recover();
}

#[test]
fn poisoned_nobody_hears_of_what_was_written_meanwhile() {
    let mut venue = funded(2);
    let before = venue.seq();
    // Before the log has written anything of it, as it looks at the clock first of all.
    poison_while_the_log_waits(&mut venue, || true);
    assert_eq!(venue.seq(), before);
    // And when all of it is on disk: that is what a restart finds, but nobody was told.
    let (data, written) = (venue.options.data.clone(), log_bytes(&venue.options.data));
    poison_while_the_log_waits(&mut venue, move || log_bytes(&data) > written);
    assert_eq!(venue.seq(), before.plus(3));
    venue.end();
}

// ---- The disk fails: in a process of its own, whose files may not grow beyond a limit.

/// From now on no file of this process may grow beyond that size.
pub fn limit_files(bytes: u64) {
    let now = getrlimit(Resource::Fsize);
    let limit = Rlimit { current: Some(bytes), maximum: now.maximum };
    setrlimit(Resource::Fsize, limit).expect("a process may limit itself");
}

/// The child: works until the log may not grow any more, and says what was answered.
fn run_into_the_limit(data: &Path) {
    // Caught, the signal does not kill: the write fails instead, as on a disk that is full.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let entered = runtime.enter();
    let caught = signal(SignalKind::from_raw(libc_sigxfsz())).expect("it can be caught");
    let engine = Engine::start(Options::new(data)).expect("it starts");
    // Until the log is the largest file.
    while log_bytes(data) < 600_000 {
        let requests = some_swaps(4_000);
        engine.submit(requests).expect("there is room").wait().expect("it runs");
    }
    // Room for a few groups, and for what is still folded of the swaps before.
    limit_files(log_bytes(data) + 200_000);
    let answered = all_until_stopped(&engine);
    // Folds are written there, too: whoever meets the limit first stops all.
    check_stopped(&engine, "File too large");
    for (id, seq) in answered {
        say(&format!("settled {id} {seq}"));
    }
    say("stopped");
    drop((entered, caught));
}

/// The signal of a file that grows beyond the limit, by its number on Linux.
fn libc_sigxfsz() -> i32 {
    rustix::process::Signal::XFSZ.as_raw()
}

#[test]
fn a_log_that_cannot_be_written_stops_everybody_and_loses_nothing() {
    if let Some(data) = child::part() {
        return run_into_the_limit(Path::new(&data));
    }
    let mut venue = funded(2);
    venue.stop();
    let test = "poison::a_log_that_cannot_be_written_stops_everybody_and_loses_nothing";
    let (lines, status) = Part::start(test, venue.options.data.to_str().expect("UTF-8")).end();
    assert!(status.success(), "the child failed: {status}");
    assert!(lines.iter().any(|line| line == "stopped"), "the child did nothing");
    let answered: Vec<(RequestId, CommitSeq)> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("settled "))
        .filter_map(|line| line.split_once(' '))
        .map(|(id, seq)| (id.parse().expect("an id"), CommitSeq::new(seq.parse().expect("a seq"))))
        .collect();
    assert!(!answered.is_empty(), "nothing was answered before the log was full");
    venue.recover();
    check_answered(venue.engine(), &answered);
    let all = venue.balance(0, ETH) + venue.balance(1, ETH);
    assert_eq!(all, 2_000_000);
    venue.settle(withdraw(0, ETH, 1));
    venue.end();
}
