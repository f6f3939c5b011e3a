//! Who is killed, and when.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam::channel::after;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crosslatch::clock::{Clock, SystemClock};

use crate::child::{self, Part};
use crate::face::Face;
use crate::judge::{Figures, judge};
use crate::memory::Memory;
use crate::node::{Life, Node};
use crate::plan::{OPENING, Plan, Round, Speaks};
use crate::support::{now_millis, scratch};
use crate::{CLIENT, worker};

/// The clients that are there, by what they speak.
const CLIENTS: [Speaks; 5] = [Speaks::Grpc, Speaks::Http, Speaks::Grpc, Speaks::Http, Speaks::Grpc];
/// The longest time between two blows.
const PEACE_US: u64 = 900_000;
/// A start that is killed is killed within this time.
const STARTING_US: u64 = 150_000;

/// How many died.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deaths {
    /// Servers, by SIGKILL; of these in their start or recovery.
    pub servers: usize,
    pub starting: usize,
    /// Servers that were asked to stop.
    pub stopped: usize,
    pub clients: usize,
}

/// A server and its clients.
pub struct Campaign {
    pub plans: Vec<Plan>,
    pub node: Node,
    parts: Vec<Option<Part>>,
    rng: SmallRng,
    deaths: Deaths,
    room: TempDir,
}

impl Campaign {
    /// A new venue with its first life, and all clients at work.
    pub fn open(seed: u64, forgets_ids: bool) -> Self {
        let room = scratch();
        let node = Node::new(room.path());
        let plan = |client: usize, speaks| Plan {
            seed,
            client: client as u64,
            speaks,
            http: node.http,
            grpc: node.grpc,
            forgets_ids,
            memory: room.path().join(format!("client-{client}")),
        };
        // The first is this process.
        let all = [Speaks::Grpc].into_iter().chain(CLIENTS).enumerate();
        let plans: Vec<Plan> = all.map(|(client, speaks)| plan(client, speaks)).collect();
        let parts = plans.iter().map(|_| None).collect();
        let (rng, deaths) = (SmallRng::seed_from_u64(seed), Deaths::default());
        let mut campaign = Self { plans, node, parts, rng, deaths, room };
        campaign.start_server();
        campaign.opening();
        (1..campaign.plans.len()).for_each(|client| campaign.start_client(client));
        campaign
    }

    /// Assets, accounts, what these have, markets.
    fn opening(&self) {
        let plan = &self.plans[0];
        let mut memory = Memory::open(&plan.memory);
        memory.plan(Round { first: 0, end: OPENING, millis: now_millis(), key: 0, version: 0 });
        let runtime = worker::runtime();
        let mut face = Face::new(plan, &runtime, || {});
        for number in 0..OPENING {
            let request = plan.request(&memory.rounds, number);
            let (answers, again) = face.ask(&[request], || {});
            memory.tell(&[(number, answers[0].clone())], again);
        }
    }

    fn life(&mut self) -> Life {
        Life {
            shards: [1, 2, 2, 5][self.rng.random_range(0..4)],
            fold_requests_max: [1_000_000, 1_000_000, 20_000, 700, 30][self.rng.random_range(0..5)],
        }
    }

    fn start_server(&mut self) {
        let life = self.life();
        self.node.start(life);
        self.node.ready();
    }

    fn start_client(&mut self, client: usize) {
        self.parts[client] = Some(Part::start(CLIENT, &self.plans[client].to_text()));
    }

    fn kill_client(&mut self, client: usize) {
        let mut part = self.parts[client].take().expect("it runs");
        // If it ended by itself, its end says so.
        let _ = part.child.kill();
        let (lines, status) = part.end();
        assert!(child::was_killed(status), "client {client}: {status}\n{}", lines.join("\n"));
        self.deaths.clients += 1;
    }

    fn kill_server(&mut self) {
        self.node.kill();
        self.deaths.servers += 1;
    }

    /// Starts it, perhaps only after it was killed in its start a few times.
    fn bring_back(&mut self) {
        while self.rng.random_bool(0.4) {
            let life = self.life();
            self.node.start(life);
            self.wait_up_to(STARTING_US);
            self.kill_server();
            self.deaths.starting += 1;
        }
        self.start_server();
    }

    /// Lets some time pass, any up to so much.
    fn wait_up_to(&mut self, micros: u64) {
        let time = Duration::from_micros(self.rng.random_range(0..micros));
        let _ = after(time).recv();
    }

    /// Blow after blow, for so long.
    pub fn rage(&mut self, time: Duration) {
        let ends = SystemClock.boot_nanos() + time.as_nanos() as u64;
        while SystemClock.boot_nanos() < ends {
            self.wait_up_to(PEACE_US);
            let victim = self.rng.random_range(1..self.plans.len());
            match self.rng.random_range(0..20) {
                0..9 => {
                    self.kill_server();
                    self.bring_back();
                }
                9..11 => {
                    self.node.stop();
                    self.deaths.stopped += 1;
                    self.bring_back();
                }
                11..16 => {
                    self.kill_client(victim);
                    self.start_client(victim);
                }
                16..18 => {
                    (1..self.plans.len()).for_each(|client| self.kill_client(client));
                    (1..self.plans.len()).for_each(|client| self.start_client(client));
                }
                _ => {
                    self.kill_client(victim);
                    self.kill_server();
                    self.start_client(victim);
                    self.bring_back();
                }
            }
        }
    }

    /// Waits until every client was told more than it knew.
    fn until_answered(&self) {
        let told = |plan: &Plan| {
            let text = fs::read_to_string(&plan.memory).unwrap_or_default();
            text.lines().filter(|line| line.starts_with("told")).count()
        };
        let before: Vec<usize> = self.plans.iter().map(told).collect();
        for (plan, before) in self.plans.iter().zip(before).skip(1) {
            while told(plan) <= before + 30 {
                let _ = after(Duration::from_millis(5)).recv();
            }
        }
    }

    /// Kills all clients when each was told something, and starts them again.
    pub fn kill_clients_once_answered(&mut self) {
        self.until_answered();
        (1..self.plans.len()).for_each(|client| self.kill_client(client));
        (1..self.plans.len()).for_each(|client| self.start_client(client));
        self.until_answered();
    }

    /// A mistake, to be found: the server goes on from what it was a while ago.
    pub fn forget_on_the_server(&mut self) {
        self.until_answered();
        self.kill_server();
        let old = self.room.path().join("old");
        copy(&self.node.data, &old);
        self.start_server();
        self.until_answered();
        self.kill_server();
        fs::remove_dir_all(&self.node.data).expect("nobody has it");
        fs::rename(&old, &self.node.data).expect("the same file system");
        self.start_server();
        self.until_answered();
    }

    /// Ends everything, and has it judged: how many had died, and what was found; or what is wrong.
    pub fn judged(mut self) -> Result<(Deaths, Figures), String> {
        (1..self.plans.len()).for_each(|client| self.kill_client(client));
        self.kill_server();
        self.start_server();
        let Self { plans, node, deaths, mut room, .. } = self;
        let judged = std::thread::spawn(move || judge(&plans, node)).join();
        judged.map(|figures| (deaths, figures)).map_err(|why| {
            // What was found can be looked at.
            room.disable_cleanup(std::env::var_os("CROSSLATCH_KEEP").is_some());
            let text = why.downcast_ref::<String>().cloned();
            text.or_else(|| why.downcast_ref::<&str>().map(|it| (*it).into())).unwrap_or_default()
        })
    }
}

fn copy(from: &Path, to: &PathBuf) {
    fs::create_dir(to).expect("a new directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a kind").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("it can be copied");
        }
    }
}
