//! The commit log and the materializer alone, fed as fast as they go.
//!
//! Workload: two-leg swaps between uniformly chosen accounts in two assets, in decisions of 4,096,
//! rows already computed; seed 7. Everything is generated before the clock starts, so the threads
//! measured are those of the store. Every group is synced to the disk of the directory given.
//!
//! ```text
//! cargo bench --bench commit_log -- [SWAPS=3000000] [ACCOUNTS=100000] [SHARDS=2] [DIRECTORY] [--two-phase]
//! ```
//!
//! With `--two-phase` each decision's swaps are prepared, and committed by the decision after it.
//!
//! Reports swaps settled (answered) and drained (folded too) per second, CPU per swap by thread,
//! and bytes per swap.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::Sender;
use crosslatch::actor::{Mailbox, Poison, spawn};
use crosslatch::clock::{Clock, SystemClock};
use crosslatch::config::Limits;
use crosslatch::directory::Directory;
use crosslatch::message::{
    AnswerSlot, Answered, Applied, Batch, Decision, NewSubmission, Op, Row, ToLog, Txn, TxnRef,
};
use crosslatch::request::{
    Action, Command, Hold, Prepare, Purpose, Request, Resolve, Swap, Transfer,
};
use crosslatch::store::commit_log::{self, LogShared};
use crosslatch::store::durable::{Durable, InFlight, Progress};
use crosslatch::store::materializer::{Drainer, Materializer, MaterializerShared};
use crosslatch::store::unfolded::Unfolded;
use crosslatch::store::{Durability, Journal, recovery, rocks};
use crosslatch::types::{
    AccountId, Amount, AssetId, Balance, BlockNumber, CommitSeq, Leg, RequestId, Time, Token,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 4_096;
const SEED: u64 = 7;

/// Toy coordinator and shards: keeps balances, and says what the commit log would hear.
struct Generator {
    shards: usize,
    accounts: usize,
    /// By account and asset.
    balances: Vec<Balance>,
    /// The owner's number of each, dense per shard.
    slots: Vec<u32>,
    seq: CommitSeq,
    number: u64,
    rng: SmallRng,
    /// What the last decision prepared.
    holds: Vec<Hold>,
}

/// The messages about one decision.
struct Told {
    messages: Vec<ToLog>,
    answers: oneshot::Receiver<Answered>,
}

impl Generator {
    fn new(shards: usize, accounts: usize) -> Self {
        let mut next = vec![0; shards];
        let slot = |index: usize| {
            let shard = AccountId::new(index as u64 / 2).shard(shards);
            next[shard] += 1;
            next[shard] - 1
        };
        let slots = (0..2 * accounts).map(slot).collect();
        let (seq, rng) = (CommitSeq::default(), SmallRng::seed_from_u64(SEED));
        let (balances, holds) = (vec![Balance::default(); 2 * accounts], Vec::new());
        Self { shards, accounts, balances, slots, seq, number: 0, rng, holds }
    }

    fn deposits(&mut self, accounts: std::ops::Range<usize>) -> Told {
        let each = accounts.flat_map(|account| [0, 1].map(|asset| (account, asset)));
        let deposit = |(account, asset): (usize, u32)| {
            Command::Deposit(Transfer {
                account: AccountId::new(account as u64),
                asset: AssetId::new(asset),
                amount: Amount::new(1 << 60),
                reference: "".into(),
            })
        };
        self.decide(each.map(deposit).collect())
    }

    fn swaps(&mut self) -> Told {
        let swaps = (0..BATCH).map(|_| Command::Swap(self.swap())).collect();
        self.decide(swaps)
    }

    /// As many swaps, in two decisions.
    fn swaps_in_two_phases(&mut self) -> [Told; 2] {
        let prepare = |swap| Prepare { swap, expires_in_ms: 60_000, exclusive: false };
        let swaps = (0..BATCH).map(|_| Command::Prepare(Box::new(prepare(self.swap()))));
        let swaps = swaps.collect();
        let prepared = self.decide(swaps);
        let action = Action::Commit;
        let commits = self.holds.iter().map(|hold| Resolve { token: hold.token, action });
        let commits = commits.map(Command::Resolve).collect();
        [prepared, self.decide(commits)]
    }

    fn swap(&mut self) -> Swap {
        let from = self.rng.random_range(0..self.accounts);
        let to = (from + self.rng.random_range(1..self.accounts)) % self.accounts;
        let amounts = [0, 1].map(|_| self.rng.random_range(1..1_000_000));
        let [from, to] = [from, to].map(|account| AccountId::new(account as u64));
        let leg = |from, to, asset: u32| {
            let amount = Amount::new(amounts[asset as usize]);
            Leg { from, to, asset: AssetId::new(asset), amount }
        };
        Swap::new([leg(from, to, 0), leg(to, from, 1)]).expect("well-formed")
    }

    fn decide(&mut self, commands: Vec<Command>) -> Told {
        let number = self.number;
        self.number += 1;
        // As at a million a second: a batch lasts four milliseconds.
        let time = Time::new(1_700_000_000_000_000 + number * 4_096);
        let (first_seq, len) = (self.seq.next(), commands.len() as u32);
        let mut applied: Vec<Applied> = (0..self.shards)
            .map(|shard| Applied { decision: number, shard, rows: vec![], slots: vec![] })
            .collect();
        let mut txns = Vec::with_capacity(commands.len());
        let mut ended = std::mem::take(&mut self.holds).into_iter();
        for (index, command) in commands.into_iter().enumerate() {
            let millis = time.millis() + index as u64 / 1_000;
            let id = RequestId::v7(millis, self.rng.random());
            self.seq = self.seq.next();
            let txn = self.sequence(Request::new(id, command), time, &mut ended);
            txn.row_ops().for_each(|op| self.apply(op, &mut applied));
            txns.push(txn);
        }
        let (reply, answers) = oneshot::channel();
        let now = SystemClock.boot_nanos();
        let submission = NewSubmission { number, txns: len, reply, accepted_nanos: now };
        let slot = |position| AnswerSlot { submission: number, position, again: false };
        let slots = (0..len).map(slot).collect();
        let commits = (0..len).map(|index| TxnRef { batch: number, index }).collect();
        let batch = Batch { number, txns, slots, sequenced_nanos: now };
        let decision = Decision {
            number,
            first_seq,
            time,
            commits,
            refusals: vec![],
            duplicates: vec![],
            repeats: vec![],
            deferred: vec![],
            voted_nanos: now,
            decided_nanos: now,
        };
        let mut messages = vec![
            ToLog::Sequenced(Arc::new(batch), vec![submission]),
            ToLog::Decided(Arc::new(decision)),
        ];
        messages.extend(applied.into_iter().map(ToLog::Applied));
        Told { messages, answers }
    }

    /// A request with what a coordinator adds; `ended`: the holds that are ended, in order.
    fn sequence(
        &mut self,
        request: Request,
        time: Time,
        ended: &mut impl Iterator<Item = Hold>,
    ) -> Txn {
        let mut txn = Txn::new(request, 7, self.shards).expect("well-formed");
        match &txn.command {
            Command::Prepare(prepare) => {
                txn.expires_at = Time::new(time.get() + prepare.expires_in_ms * 1_000);
                self.holds.push(Hold {
                    token: Token::of(txn.id),
                    purpose: Purpose::Swap(prepare.swap.clone()),
                    exclusive: false,
                    expires_at: txn.expires_at,
                    since: self.seq,
                });
            }
            Command::Resolve(_) => {
                let hold = ended.next().expect("as many as were prepared");
                txn.attach(Box::new(hold), self.shards);
            }
            _ => {}
        }
        txn
    }

    fn apply(&mut self, op: Op, applied: &mut [Applied]) {
        let index = op.key.account.get() as usize * 2 + op.key.asset.get() as usize;
        let before = self.balances[index];
        let after = op.apply(before).expect("well funded");
        self.balances[index] = after;
        let applied = &mut applied[op.key.account.shard(self.shards)];
        applied.rows.push(Row { before, after });
        applied.slots.push(self.slots[index]);
    }
}

/// CPU nanoseconds by thread name, of this process so far.
fn cpu_by_thread() -> BTreeMap<String, u64> {
    let mut threads = BTreeMap::new();
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return threads };
    for task in tasks.flatten() {
        let read = |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let (name, stat) = (read("comm").trim().to_owned(), read("schedstat"));
        let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok());
        *threads.entry(name).or_default() += nanos.unwrap_or_default();
    }
    threads
}

fn bytes_of(directory: &std::path::Path, extension: &str) -> u64 {
    let Ok(files) = std::fs::read_dir(directory) else { return 0 };
    files
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|found| found == extension))
        .filter_map(|file| file.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

struct Sizes {
    swaps: usize,
    accounts: usize,
    shards: usize,
    directory: PathBuf,
    two_phase: bool,
}

fn sizes() -> Sizes {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let mut number = |default: usize| {
        arguments.next().map_or(default, |text| text.parse().expect("a whole number"))
    };
    let (swaps, accounts, shards) = (number(3_000_000), number(100_000), number(2));
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let two_phase = std::env::args().any(|argument| argument == "--two-phase");
    Sizes { swaps, accounts, shards, directory, two_phase }
}

/// Everything that runs.
struct Running {
    data: tempfile::TempDir,
    store: Arc<rocks::RocksStore>,
    durable: Arc<Durable>,
    in_flight: Arc<InFlight>,
    poison: Poison,
    mailbox: Sender<ToLog>,
    log: JoinHandle<()>,
    materializer: JoinHandle<()>,
    drainer: Drainer,
}

impl Running {
    fn start(directory: PathBuf, limits: &Limits) -> Self {
        let data = tempfile::tempdir_in(directory).expect("a directory to write to");
        let opened = rocks::open(data.path(), Durability::Sync).expect("opens");
        let store = opened.store;
        let (directory, fold_max) = (Directory::new(), limits.fold_requests_max);
        let recovered = recovery::recover(&*store, &*store, opened.mark, &directory, fold_max);
        let recovered = recovered.expect("recovers");
        let (poison, clock) = (Poison::new(), Arc::new(SystemClock));
        let (unfolded, in_flight) = (Arc::new(Unfolded::new()), Arc::new(InFlight::new()));
        let durable = Arc::new(Durable::new(recovered.last));
        let shared = MaterializerShared {
            store: store.clone(),
            unfolded: unfolded.clone(),
            applied: Arc::new(Progress::new(recovered.last)),
            poison: poison.clone(),
            clock: clock.clone(),
        };
        let (mut materializer, input, drainer) =
            Materializer::new(shared, recovered.applied, limits);
        let materializer = spawn("materializer".into(), &poison, move || {
            materializer.run().map_err(|error| error.to_string())
        });
        let materializer = materializer.expect("starts");
        let (mailbox, messages) = Mailbox::new(limits.log_mailbox_messages_max, &poison);
        let shared = LogShared {
            durable: durable.clone(),
            unfolded,
            in_flight: in_flight.clone(),
            poison: poison.clone(),
            clock,
        };
        let (log, from) = (Box::new(opened.log), recovered.log_start());
        let mut log = commit_log::Actor::new(log, from, shared, limits, messages, input);
        let log = spawn("commit-log".into(), &poison, move || {
            log.run().map_err(|error| error.to_string())
        });
        let log = log.expect("starts");
        Self { data, store, durable, in_flight, poison, mailbox, log, materializer, drainer }
    }

    /// Hands everything over, and waits for the last answer.
    fn send(&self, told: Vec<Told>) {
        let mut last = None;
        for Told { messages, answers } in told {
            self.in_flight.admit(BATCH, usize::MAX);
            messages.into_iter().for_each(|message| self.mailbox.send(message).expect("runs"));
            last = Some(answers);
        }
        last.expect("something was sent").blocking_recv().expect("answered");
    }

    fn drain(&self) {
        let folded = self.drainer.drain(self.durable.progress.block());
        assert!(folded, "{:?}", self.poison.cause());
    }
}

fn main() {
    let Sizes { swaps, accounts, shards, directory, two_phase } = sizes();
    println!(
        "{swaps} swaps{}, {accounts} accounts, {shards} shards, decisions of {BATCH}, seed {SEED}",
        if two_phase { " in two phases" } else { "" }
    );
    let running = Running::start(directory, &Limits { shards, ..Limits::default() });
    let mut generator = Generator::new(shards, accounts);
    let ranges = (0..accounts).step_by(BATCH / 2).map(|at| at..accounts.min(at + BATCH / 2));
    running.send(ranges.map(|range| generator.deposits(range)).collect());
    running.drain();
    let batches = swaps.div_ceil(BATCH);
    let told: Vec<Told> = match two_phase {
        true => (0..batches).flat_map(|_| generator.swaps_in_two_phases()).collect(),
        false => (0..batches).map(|_| generator.swaps()).collect(),
    };
    let swaps = batches * BATCH;
    let first = running.durable.progress.block();

    let (began, cpu_before) = (SystemClock.boot_nanos(), cpu_by_thread());
    running.send(told);
    let settled = SystemClock.boot_nanos() - began;
    running.drain();
    let drained = SystemClock.boot_nanos() - began;

    let rate = |nanos: u64| swaps as f64 * 1e9 / nanos as f64;
    println!("settled  {:>12.0} swaps/s", rate(settled));
    println!("drained  {:>12.0} swaps/s", rate(drained));
    for (name, nanos) in cpu_by_thread() {
        let nanos = nanos.saturating_sub(cpu_before.get(&name).copied().unwrap_or_default());
        if nanos > swaps as u64 / 100 {
            println!("cpu      {:>12.3} us/swap  {name}", nanos as f64 / 1e3 / swaps as f64);
        }
    }
    report_sizes(&running, first, swaps);
    drop(running.mailbox);
    running.log.join().expect("ends");
    running.materializer.join().expect("its panic was caught");
}

fn report_sizes(running: &Running, first: BlockNumber, swaps: usize) {
    let per_swap = |bytes: u64| bytes as f64 / swaps as f64;
    let blocks = running.durable.progress.block().get() - first.get();
    println!("groups   {blocks:>12} of {:.0} swaps", swaps as f64 / blocks as f64);
    let journal = running.store.read_from(first.next());
    let journal = journal.map(|block| block.expect("intact").bytes().len() as u64).sum();
    println!("journal  {:>12.1} bytes/swap", per_swap(journal));
    for family in ["versions", "outcomes", "records", "blocks"] {
        println!("{family:<8} {:>12.1} bytes/swap", per_swap(running.store.family_bytes(family)));
    }
    let db = running.data.path().join("db");
    let total = bytes_of(&db, "sst") + bytes_of(&db, "log");
    println!("on disk  {:>12.1} bytes/swap, log not yet deleted included", per_swap(total));
}
