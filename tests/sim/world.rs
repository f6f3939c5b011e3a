//! One world: a disk, a clock, callers, and a process that ends and is started again, all moved by
//! one seed on one thread.
//!
//! ```text
//! each step: one message is delivered, or one part moves, or a caller does something, or time
//!            passes, or the process ends (or the power does), and is started again
//! in the end: the disk is sound, every caller gets its answer, every hold ends, and all is judged
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::config::Limits;
use crosslatch::engine::IdSource;
use crosslatch::engine::assembly::Foundation;
use crosslatch::error::Error;
use crosslatch::request::Request;
use crosslatch::types::{CommitSeq, RequestId};

use crate::clients::{Client, Habits};
use crate::clock::SimClock;
use crate::disk::{Disk, Mischief, is_crash};
use crate::keys::Keys;
use crate::memory::Memory;
use crate::node::{Move, Node};
use crate::orders::Orders;
use crate::support::{ETH, SOL, USDC, deposit, opening};
use crate::workload::Workload;

/// More steps than any world needs.
const STEPS_MAX: u64 = 10_000_000;
/// Callers ask, and time passes, but nothing moves for so many steps: it hangs.
const STILL_STEPS_MAX: u64 = 20_000;

/// A process that was started so often is killed no more: what takes long would never be done.
const KILLED_STARTS_MAX: u64 = 300;

/// What a world is made of. Smaller ones of a seed are tried when it has failed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub clients: usize,
    /// Numbers of the things that callers do, dealt out to them in turn.
    pub wants: Vec<u64>,
    pub crashes: bool,
    pub power: bool,
    pub failures: bool,
    pub jumps: bool,
    /// Whether many want the same at once, and have little.
    pub crowded: bool,
}

impl Plan {
    /// What a seed stands for.
    pub fn of(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed.wrapping_mul(0xA076_1D64_78BD_642F));
        let most = [20, 60, 120][rng.random_range(0..3)];
        let wants = rng.random_range(4..=most);
        let crowded = rng.random_bool(0.25);
        Self {
            seed,
            clients: if crowded { 12 } else { rng.random_range(1..=6) },
            wants: (1..=wants).collect(),
            crashes: rng.random_bool(if crowded { 0.2 } else { 0.8 }),
            power: rng.random_bool(0.5),
            failures: rng.random_bool(0.4),
            jumps: rng.random_bool(0.3),
            crowded,
        }
    }
}

/// What the world may do next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Move(Move),
    Client(usize),
    Pass,
    Idle,
    Jump,
    Forget,
    Crash,
    Power,
}

pub struct World {
    plan: Plan,
    pub limits: Limits,
    rng: SmallRng,
    pub clock: SimClock,
    pub disk: Disk,
    pub memory: Memory,
    habits: Habits,
    clients: Vec<Client>,
    /// `None` while the process is down.
    pub node: Option<Node>,
    /// What the processes so far were seen to have made durable.
    durable: CommitSeq,
    starts: u64,
    steps: u64,
    /// Steps since a part moved.
    still: u64,
    /// How often what moves: a slow channel, a busy part, an idle caller.
    speeds: Vec<u32>,
    rates: Rates,
}

/// Of ten thousand steps, how many are what.
#[derive(Clone, Copy, Debug)]
struct Rates {
    crash: u32,
    power: u32,
    jump: u32,
    forget: u32,
    pass: u32,
    mischief: Mischief,
}

impl Rates {
    fn random(plan: &Plan, rng: &mut SmallRng) -> Self {
        let some = |wanted: bool, rates: [u32; 3], rng: &mut SmallRng| {
            let rate = rates[rng.random_range(0..3)];
            if wanted { rate } else { 0 }
        };
        let full = plan.failures && rng.random_bool(0.3);
        let mischief = Mischief {
            crashes: some(plan.crashes, [0, 100, 600], rng),
            failures: some(plan.failures, [0, 100, 400], rng),
            read_failures: some(plan.failures, [0, 0, 5], rng),
            slow: some(true, [0, 0, 500], rng),
            full_after: full.then(|| rng.random_range(0..60)),
        };
        Self {
            crash: some(plan.crashes, [0, 5, 30], rng),
            power: some(plan.power, [0, 5, 20], rng),
            jump: some(plan.jumps, [5, 20, 50], rng),
            forget: some(true, [0, 5, 30], rng),
            pass: some(true, [20, 100, 400], rng),
            mischief,
        }
    }
}

fn limits(rng: &mut SmallRng) -> Limits {
    let fold_requests_max = [1, 5, 40][rng.random_range(0..3)];
    Limits {
        shards: rng.random_range(1..=3),
        requests_in_flight_max: [8, 30, 200][rng.random_range(0..3)],
        reads_in_flight_max: [1, 8][rng.random_range(0..2)],
        batches_voting_max: rng.random_range(1..=4),
        shard_mailbox_messages_max: [1, 8][rng.random_range(0..2)],
        log_mailbox_messages_max: [1, 16][rng.random_range(0..2)],
        commit_group_requests_max: [1, 6, 100][rng.random_range(0..3)],
        fold_requests_max,
        unfolded_requests_max: fold_requests_max + [0, 10, 200][rng.random_range(0..3)],
        recent_ids_window_ms: [1_000, 10_000][rng.random_range(0..2)],
        recent_ids_max: 1_024,
        hold_expiry_max_ms: 60_000,
        holds_max: [3, 1_000][rng.random_range(0..2)],
        holds_per_account_max: [2, 1_000][rng.random_range(0..2)],
        held_share_max_percent: [50, 100][rng.random_range(0..2)],
        lock_wait_ms: [1, 50, 5_000][rng.random_range(0..3)],
        parked_requests_max: [1, 50][rng.random_range(0..2)],
        transaction_attempts_max: rng.random_range(1..=4),
        market_actors: rng.random_range(1..=3),
        market_mailbox_messages_max: [1, 8][rng.random_range(0..2)],
        orders_per_market_max: [3, 1_000][rng.random_range(0..2)],
        history_retention_hours: [0, 1][rng.random_range(0..2)],
        ..Limits::default()
    }
}

impl World {
    pub fn new(plan: Plan, traced: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(plan.seed);
        let clock = SimClock::new();
        let mut limits = limits(&mut rng);
        if plan.crowded {
            limits.requests_in_flight_max = 200;
        }
        let mut workload = Workload {
            accounts: if plan.crowded { 3 } else { rng.random_range(2..=6) },
            amount_max: if plan.crowded { 30 } else { [30, 60, 700][rng.random_range(0..3)] },
            directory_per_mille: [0, 10, 100][rng.random_range(0..3)],
            modes_percent: [0, 40, 80][rng.random_range(0..3)],
            exclusive_percent: [0, 10, 50][rng.random_range(0..3)],
        };
        let orders = Orders::new(workload.accounts, &mut rng);
        if orders.percent > 0 && rng.random_bool(0.3) {
            // Orders and amendments meet exclusive holds.
            (workload.modes_percent, workload.exclusive_percent) = (80, 80);
        }
        let keys = Keys::new(workload.accounts, plan.seed, &mut rng);
        if keys.percent > 0 && rng.random_bool(0.5) {
            // Keys change while what was asked under them waits for exclusive holds.
            (workload.modes_percent, workload.exclusive_percent) = (80, 80);
            limits.lock_wait_ms = 5_000;
        }
        let mut clients: Vec<Vec<u64>> = vec![Vec::new(); plan.clients];
        for (place, number) in plan.wants.iter().enumerate() {
            clients[place % plan.clients].push(*number);
        }
        let mut memory = Memory::new(plan.seed, clock.clone());
        memory.trace = traced.then(Vec::new);
        Self {
            rates: Rates::random(&plan, &mut rng),
            disk: Disk::new(rng.random(), clock.clone()),
            habits: Habits {
                seed: plan.seed,
                workload,
                orders,
                keys,
                batch_max: rng.random_range(1..=8),
            },
            clients: clients.into_iter().map(Client::new).collect(),
            speeds: (0..64).map(|_| [1, 4, 20][rng.random_range(0..3)]).collect(),
            node: None,
            durable: CommitSeq::default(),
            starts: 0,
            steps: 0,
            still: 0,
            memory,
            limits,
            clock,
            plan,
            rng,
        }
    }

    /// Lets everything happen until every caller is done. The process runs in the end, on a sound disk.
    pub fn run(&mut self) {
        self.open();
        self.disk.set_mischief(self.rates.mischief);
        while !self.clients.iter().all(Client::is_done) {
            self.step();
        }
        self.repair();
    }

    /// Assets, accounts, markets, and something for each.
    fn open(&mut self) {
        self.start();
        let accounts = self.habits.workload.accounts;
        // Where funds are tight, requests wait for one another.
        let funds = if self.plan.crowded { 40 } else { [40, 500][self.rng.random_range(0..2)] };
        let deposits = (0..accounts)
            .flat_map(|number| [ETH, SOL, USDC].map(|asset| deposit(number, asset, funds)));
        let markets = self.habits.orders.opening();
        let keys = self.habits.keys.opening(&mut self.rng);
        let markets = markets.chain(keys);
        let commands: Vec<_> =
            opening(accounts).into_iter().chain(markets).chain(deposits).collect();
        let commands = commands.into_iter().zip(1..);
        let requests: Vec<Request> = commands
            .map(|(command, number)| Request::new(RequestId::new(1 << 90 | number), command))
            .collect();
        for requests in requests.chunks(6) {
            self.ask(requests);
        }
    }

    /// Asks for this, and waits until it is answered.
    pub fn ask(&mut self, requests: &[Request]) {
        for request in requests {
            self.memory.will_ask(request);
        }
        self.ask_again(requests);
    }

    /// The same of what was asked for before.
    pub fn ask_again(&mut self, requests: &[Request]) {
        let mut client = Client::asking(requests.to_vec());
        while !client.is_done() {
            let node = self.node.as_ref().expect("it runs");
            client.step(&node.engine, &self.habits, &mut self.memory);
            self.settle();
        }
    }

    /// Nothing goes wrong any more.
    fn repair(&mut self) {
        self.disk.set_mischief(Mischief::default());
        if self.node.is_none() {
            self.start();
        }
    }

    /// Moves the process until nothing moves; time passes where it has to.
    pub fn settle(&mut self) {
        let mut moved = false;
        loop {
            self.count_step();
            let node = self.node.as_mut().expect("it runs");
            let mut next = None;
            node.moves(|_, what| next = next.or(Some(what)));
            match next {
                Some(what) => {
                    self.memory.note(|| format!("{what:?}"), step_number(Step::Move(what)));
                    node.step(what).expect("the disk is sound");
                    self.still = 0;
                }
                None if moved => return,
                None => {
                    self.clock.pass(1_000_000);
                    moved = true;
                }
            }
            moved |= next.is_some();
        }
    }

    fn count_step(&mut self) {
        self.steps += 1;
        self.still += 1;
        let goes_on = self.steps < STEPS_MAX && self.still < STILL_STEPS_MAX;
        assert!(goes_on, "it hangs: {}", self.standstill());
    }

    /// Who waits for what.
    fn standstill(&self) -> String {
        let waiting: Vec<String> =
            self.clients.iter().map(|client| format!("{client:?}")).collect();
        let node = self.node.as_ref().map(|node| (node.engine.status(), node.standstill()));
        format!("{waiting:#?}, {node:?}")
    }

    fn step(&mut self) {
        self.count_step();
        if self.node.is_none() {
            self.start_again();
            return;
        }
        let step = self.choose();
        self.memory.note(|| told(step), step_number(step));
        let stepped = catch_unwind(AssertUnwindSafe(|| self.perform(step)));
        match stepped {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => self.end_process(&cause),
            Err(panic) if is_crash(&*panic) => self.end_process("killed in a write"),
            Err(panic) => resume_unwind(panic),
        }
    }

    fn choose(&mut self) -> Step {
        let Rates { mut crash, mut power, jump, forget, pass, .. } = self.rates;
        if self.starts > KILLED_STARTS_MAX {
            (crash, power) = (0, 0);
        }
        let rare = self.rng.random_range(0..10_000);
        let mut upto = 0;
        for (rate, step) in [
            (crash, Step::Crash),
            (power, Step::Power),
            (jump, Step::Jump),
            (forget, Step::Forget),
            (pass, Step::Pass),
        ] {
            upto += rate;
            if rare < upto {
                return step;
            }
        }
        let node = self.node.as_mut().expect("it runs");
        let mut steps: Vec<(Step, u32)> = Vec::new();
        let speeds = &self.speeds;
        node.moves(|place, what| steps.push((Step::Move(what), speeds[place])));
        if steps.is_empty() && self.rng.random_bool(0.2) {
            // What is waited for now is time.
            return Step::Idle;
        }
        let places = node.places();
        for (number, client) in self.clients.iter().enumerate() {
            if !client.is_done() {
                // However idle the parts are, callers do not look for answers all the time.
                steps.push((Step::Client(number), speeds[places + number].min(4)));
            }
        }
        let mut place = self.rng.random_range(0..steps.iter().map(|(_, speed)| speed).sum());
        for (step, speed) in steps {
            match place.checked_sub(speed) {
                None => return step,
                Some(rest) => place = rest,
            }
        }
        unreachable!("the place is below the sum")
    }

    fn perform(&mut self, step: Step) -> Result<(), String> {
        let node = self.node.as_mut().expect("it runs");
        match step {
            Step::Move(what) => {
                self.still = 0;
                return node.step(what);
            }
            Step::Client(number) => {
                self.clients[number].step(&node.engine, &self.habits, &mut self.memory);
                // Callers wait a little before they look again.
                self.clock.pass(5_000);
            }
            Step::Pass => {
                let pause = self.pause();
                self.clock.pass(pause);
            }
            Step::Idle => self.clock.pass(self.rng.random_range(0..60_000_000)),
            Step::Jump => {
                let hour = 3_600_000_000;
                self.clock.jump(self.rng.random_range(-hour..hour));
                self.memory.coverage.jumps += 1;
            }
            Step::Forget => {
                // What it cannot do now it does later.
                let _ = node.retention.step();
            }
            Step::Crash => return Err("killed".into()),
            Step::Power => return Err("no power".into()),
        }
        Ok(())
    }

    fn pause(&mut self) -> u64 {
        match self.rng.random_range(0..20) {
            0 if self.rng.random_bool(0.1) => self.rng.random_range(0..7_200_000_000_000),
            0..2 => self.rng.random_range(0..10_000_000_000),
            _ => self.rng.random_range(0..50_000_000),
        }
    }

    /// The process has ended, and with it all that it had in memory.
    fn end_process(&mut self, cause: &str) {
        let node = self.node.take().expect("it ran");
        self.durable = self.durable.max(node.engine.status().durable_seq);
        self.memory.coverage.votes(&node.votes());
        self.clients.iter_mut().for_each(Client::disconnect);
        drop(node);
        let power = cause == "no power" || self.plan.power && self.rng.random_bool(0.5);
        if power {
            self.disk.lose_power();
            self.clock.reboot();
            self.memory.coverage.powers += 1;
        } else {
            self.disk.end_process();
            self.memory.coverage.crashes += 1;
        }
        self.memory.note(|| format!("it ended: {cause} (power lost: {power})"), u64::from(power));
    }

    /// Starts the process if the disk lets it; the disk may be full or failing, for a while.
    fn start_again(&mut self) {
        let most = if self.rng.random_bool(0.1) { 3_000_000_000 } else { 5_000_000 };
        self.clock.pass(self.rng.random_range(0..most));
        if self.rng.random_bool(0.5) {
            let full_after = self.rates.mischief.full_after.map(|_| self.rng.random_range(0..60));
            self.rates.mischief.full_after = full_after.filter(|_| self.rng.random_bool(0.5));
            self.disk.set_mischief(self.rates.mischief);
        }
        match catch_unwind(AssertUnwindSafe(|| self.try_start())) {
            Ok(Ok(node)) => self.started(node),
            // Whatever else is wrong with the disk, it is not damaged.
            Ok(Err(Error::Storage(cause))) if cause.contains("(simulated)") => {
                self.memory.coverage.failed_starts += 1;
                self.memory.note(|| format!("it does not start: {cause}"), 1);
                self.disk.end_process();
            }
            Ok(Err(error)) => panic!("it does not start on a sound disk: {error}"),
            Err(panic) if is_crash(&*panic) => {
                self.memory.coverage.failed_starts += 1;
                self.memory.note(|| "killed while it starts".into(), 2);
                self.disk.end_process();
            }
            Err(panic) => resume_unwind(panic),
        }
    }

    fn start(&mut self) {
        let node = self.try_start().expect("the disk is sound");
        self.started(node);
    }

    /// Starts a process on the disk as it is.
    pub fn try_start(&mut self) -> Result<Node, Error> {
        self.starts += 1;
        let foundation = Foundation {
            journal: Arc::new(self.disk.clone()),
            versions: Arc::new(self.disk.clone()),
            log: Box::new(self.disk.clone()),
            mark: self.disk.mark(),
            clock: Arc::new(self.clock.clone()),
            ids: IdSource::seeded(self.plan.seed ^ self.starts << 32),
        };
        Node::start(self.limits.clone(), foundation)
    }

    /// What was durable is there.
    fn started(&mut self, mut node: Node) {
        let last = node.recovered.last.seq;
        let books = node.books();
        let open: usize = books.iter().map(|(orders, _)| orders.len()).sum();
        assert_eq!(node.orders(), open, "whoever decides knows the orders that stand");
        self.memory.books.push((last, books));
        self.memory.note(|| format!("it starts at seq {last}"), last.get());
        assert!(last >= self.durable, "seq {} was durable and is lost: {last}", self.durable);
        assert!(last >= self.memory.known(), "what was answered is lost");
        assert_eq!(last, node.recovered.applied.all().seq, "everything is folded at the start");
        self.durable = last;
        self.node = Some(node);
    }
}

/// A step in the trace; callers say themselves what they do, if it is anything.
fn told(step: Step) -> String {
    match step {
        Step::Client(_) | Step::Pass | Step::Idle => String::new(),
        step => format!("{step:?}"),
    }
}

fn step_number(step: Step) -> u64 {
    match step {
        Step::Move(Move::Deliver(number)) => 100 + number as u64,
        Step::Move(Move::Shard(number)) => 200 + number as u64,
        Step::Move(Move::Market(number)) => 400 + number as u64,
        Step::Move(Move::Coordinator) => 1,
        Step::Move(Move::Log) => 2,
        Step::Move(Move::Gather) => 3,
        Step::Move(Move::Fold) => 4,
        Step::Client(number) => 300 + number as u64,
        Step::Pass => 5,
        Step::Jump => 6,
        Step::Forget => 7,
        Step::Crash => 8,
        Step::Power => 9,
        Step::Idle => 10,
    }
}
