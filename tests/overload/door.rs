//! Overload at the engine's own door: threads that hand over batches of swaps and do not wait.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustix::process::getpid;

use crosslatch::config::{BATCH_REQUESTS_MAX, Limits};
use crosslatch::engine::{Brief, Engine, Known, Options, Pending};
use crosslatch::error::Error;
use crosslatch::request::Request;
use crosslatch::types::RequestId;

use crate::phases::{Board, Limited, Phase, alone, direct, now_nanos};
use crate::support::{
    ETH, SOL, audit, deposit, fresh, leg, now_millis, opening, scratch, seed, swap,
};

/// Threads that hand over, and as many that wait for the answers.
const CALLERS: usize = 2;
const ACCOUNTS: u64 = 5_000;
/// Batches that each caller has ready.
const READY: usize = 32;
/// Of the batches that a caller was refused, some whose fate is asked for in the end.
const ASKED_FOR: usize = 1_000;

/// How large everything is.
#[derive(Clone, Copy)]
struct Scale {
    limited: Limited,
    /// Requests that may be in flight.
    in_flight: usize,
    batch: usize,
}

const BY_PROCESSORS: Scale =
    Scale { limited: Limited::ByProcessors, in_flight: 32_768, batch: 256 };
const BY_DISK: Scale =
    Scale { limited: Limited::ByDisk { sync_micros: 10_000 }, in_flight: 1_024, batch: 32 };

impl Scale {
    /// Batches in flight just below saturation.
    fn peak_batches(self) -> usize {
        self.in_flight / self.batch * 3 / 4
    }

    fn limits(self) -> Limits {
        Limits {
            requests_in_flight_max: self.in_flight,
            fold_requests_max: 100_000,
            unfolded_requests_max: 300_000,
            recent_ids_window_ms: 1_000,
            recent_ids_max: 2_000_000,
            ..Limits::default()
        }
    }

    /// What a run may need more than one just below saturation has needed so far.
    fn growth_max(self) -> u64 {
        let limits = self.limits();
        // A request from its caller to its answer: the legs, what is asked of shards, rows, block,
        // receipt.
        let in_flight = limits.requests_in_flight_max * 2_048;
        // A request whose rows wait to be folded.
        let unfolded = limits.unfolded_requests_max * 512;
        let ids = limits.recent_ids_max * 28;
        // Memtables and the cache of the store fill as more is written.
        let store = (4 * 128 + 4 * 32 + 256) << 20;
        (in_flight + unfolded + ids + store) as u64
    }
}

/// Memory in use by this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it says so");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1_024
}

/// A batch on its way, and the right to send another when it is answered.
struct Sent {
    pending: Pending,
    size: usize,
    may_send: bool,
}

/// Seqs that were given, a bit each.
#[derive(Default)]
struct Seqs {
    bits: Vec<u64>,
}

impl Seqs {
    fn add(&mut self, seq: u64) {
        let (word, bit) = ((seq / 64) as usize, 1 << (seq % 64));
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        assert_eq!(self.bits[word] & bit, 0, "seq {seq} was given twice");
        self.bits[word] |= bit;
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        let is_in = |seq: &u64| self.bits[(seq / 64) as usize] & (1 << (seq % 64)) != 0;
        (0..self.bits.len() as u64 * 64).filter(is_in)
    }
}

struct Door {
    scale: Scale,
    engine: Engine,
    board: Board,
    next_id: AtomicU64,
    /// Rights to have a batch in flight just below saturation.
    rights: (Sender<()>, Receiver<()>),
    /// Batches that somebody waits for; `None` is the end.
    sent: (Sender<Option<Sent>>, Receiver<Option<Sent>>),
}

impl Door {
    /// Gives new ids to a batch that is ready.
    fn renew(&self, ready: &[Request]) -> Vec<Request> {
        let first = self.next_id.fetch_add(ready.len() as u64, Ordering::Relaxed);
        let millis = now_millis();
        let id = |number: u64| RequestId::v7(millis, 1 << 60 | u128::from(number));
        let renewed =
            |(request, number): (&Request, u64)| Request { id: id(number), ..request.clone() };
        ready.iter().zip(first..).map(renewed).collect()
    }

    /// Hands over a batch; says whether it was taken.
    fn offer(&self, ready: &[Request], may_send: bool) -> Result<(), RequestId> {
        let requests = self.renew(ready);
        let (size, first) = (requests.len(), requests[0].id);
        self.board.counts.offered.fetch_add(size as u64, Ordering::Relaxed);
        let began = now_nanos();
        match self.engine.submit(requests) {
            Ok(pending) => {
                let sent = Sent { pending, size, may_send };
                self.sent.0.send(Some(sent)).expect("somebody waits for it");
                Ok(())
            }
            Err(Error::Overloaded { limit: "requests_in_flight_max", max }) => {
                self.board.refused(size as u64, now_nanos() - began);
                assert_eq!(max, self.scale.in_flight as u64);
                if may_send {
                    self.rights.0.send(()).expect("there is room for all");
                }
                Err(first)
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Offers batches; returns the first ids of some that were refused.
    fn call(&self, seed: u64) -> Vec<RequestId> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let ready: Vec<Vec<Request>> =
            (0..READY).map(|_| some_swaps(&mut rng, self.scale.batch)).collect();
        let (mut refused, mut refusals, mut due_nanos) = (Vec::new(), 0, 0);
        for turn in 0.. {
            let ready = &ready[turn % READY];
            let offered = match self.board.phase() {
                Phase::Done => break,
                Phase::Peak => match self.rights.1.recv_timeout(Duration::from_millis(20)) {
                    Ok(()) => self.offer(ready, true),
                    Err(_) => continue,
                },
                Phase::Over => {
                    self.board.pace(&mut due_nanos, self.scale.batch, CALLERS);
                    self.offer(ready, false)
                }
            };
            let Err(id) = offered else { continue };
            refusals += 1;
            // Each has the same chance to stay.
            match rng.random_range(0..refusals) {
                _ if refused.len() < ASKED_FOR => refused.push(id),
                place @ 0..ASKED_FOR => refused[place] = id,
                _ => {}
            }
        }
        refused
    }

    /// Waits for answers until there are no more; returns the seqs.
    fn wait(&self) -> Seqs {
        let mut seqs = Seqs::default();
        while let Ok(Some(Sent { pending, size, may_send })) = self.sent.1.recv() {
            let answers = pending.wait().expect("what was accepted is answered");
            assert_eq!(answers.len(), size);
            for place in 0..size {
                match answers.brief(place) {
                    Brief::Settled(seq) => seqs.add(seq.get()),
                    Brief::Rejected(reject) => panic!("{reject}"),
                }
            }
            self.board.counts.answered.fetch_add(size as u64, Ordering::Relaxed);
            if may_send {
                self.rights.0.send(()).expect("there is room for all");
            }
        }
        seqs
    }
}

/// Opposite swaps between accounts that can afford them.
fn some_swaps(rng: &mut SmallRng, count: usize) -> Vec<Request> {
    let some = |rng: &mut SmallRng| {
        let a = rng.random_range(0..ACCOUNTS);
        let b = (a + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        swap([leg(a, b, ETH, rng.random_range(1..100)), leg(b, a, SOL, rng.random_range(1..100))])
    };
    fresh((0..count).map(|_| some(rng)))
}

/// An engine with accounts that nobody can empty.
fn open(data: &Path, limits: Limits) -> Engine {
    let chunk = BATCH_REQUESTS_MAX.min(limits.requests_in_flight_max);
    let options = Options { limits, ..Options::new(data) };
    let engine = Engine::start(options).expect("it starts");
    let funds =
        (0..ACCOUNTS).flat_map(|number| [ETH, SOL].map(|asset| deposit(number, asset, 1 << 60)));
    let requests = fresh(opening(ACCOUNTS).into_iter().chain(funds));
    for some in requests.chunks(chunk) {
        let answers = engine.submit(some.to_vec()).expect("there is room").wait();
        let answers = answers.expect("it runs");
        let settled = |place| matches!(answers.brief(place), Brief::Settled(_));
        assert!((0..answers.len()).all(settled));
    }
    engine
}

/// Every answer is of a seq of its own, and nothing else happened.
fn check_answers(door: &Door, opened: u64, seqs: &Seqs, refused: &[RequestId]) {
    let counts = &door.board.counts;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let accepted = count(&counts.offered) - count(&counts.refused);
    assert_eq!(count(&counts.answered), accepted, "accepted and dropped");
    assert_eq!(door.engine.status().in_flight, 0);
    let last = door.engine.status().durable_seq.get();
    assert!(seqs.iter().eq(opened + 1..=last), "something else happened, or was not answered");
    assert_eq!(last - opened, accepted);
    for id in refused {
        assert_eq!(door.engine.known(*id), Ok(Known::Unknown), "refused, and it happened");
    }
    assert!(!refused.is_empty(), "nothing was refused: this tests nothing");
}

fn overload(scale: Scale) {
    let _alone = alone();
    let (seed, data) = (seed(71), scratch());
    let door = Door {
        scale,
        engine: open(&data.path().join("data"), scale.limits()),
        board: Board::new(),
        next_id: AtomicU64::new(0),
        rights: bounded(scale.peak_batches()),
        sent: bounded(2 * scale.in_flight / scale.batch),
    };
    let told = data.path().join("told");
    let Some(imposed) = scale.limited.impose(getpid(), &told) else { return };
    let opened = door.engine.status().durable_seq.get();
    (0..scale.peak_batches()).for_each(|_| door.rights.0.send(()).expect("there is room for all"));
    let (measured, seqs, refused) = std::thread::scope(|scope| {
        let door = &door;
        let callers: Vec<_> =
            (0..CALLERS as u64).map(|n| scope.spawn(move || door.call(seed + n))).collect();
        let waiters: Vec<_> = (0..CALLERS).map(|_| scope.spawn(|| door.wait())).collect();
        let measured = direct(&door.board, resident);
        let joined = callers.into_iter().flat_map(|caller| caller.join().expect("it runs"));
        let refused: Vec<RequestId> = joined.collect();
        (0..CALLERS).for_each(|_| door.sent.0.send(None).expect("they listen"));
        let mut seqs = Seqs::default();
        for waiter in waiters {
            waiter.join().expect("it runs").iter().for_each(|seq| seqs.add(seq));
        }
        (measured, seqs, refused)
    });
    imposed.lift();
    check_answers(&door, opened, &seqs, &refused);
    audit(&door.engine);
    measured.check(&door.board, scale.limited, scale.growth_max());
    door.engine.stop().expect("it stops");
}

#[test]
fn ten_times_what_processors_can_do_at_the_door() {
    overload(BY_PROCESSORS);
}

#[test]
fn ten_times_what_the_disk_takes_at_the_door() {
    overload(BY_DISK);
}
