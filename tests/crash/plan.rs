//! What a child is to do, and every request that it may make: a function of the seed and its number.
//! So the parent knows what the dead may have asked for.

use std::fmt::Debug;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::config::VALUE_BYTES_MAX;
use crosslatch::engine::{Durability, Options};
use crosslatch::request::{Command, Request, Transact, Write};
use crosslatch::types::{CommitSeq, Key, RequestId, Subject, Token};

use crate::support::{self, deposit, opening};
use crate::trading;
use crate::workload::{Kind, Past, Workload};

/// So far back, at most, is the hold that a request resolves.
const TOKENS_BACK: u64 = 400;
/// Where there are large values, one of so many requests writes one.
const LARGE_VALUE_EVERY: u64 = 50;

pub const WORKLOAD: Workload = Workload {
    accounts: 40,
    amount_max: 400,
    directory_per_mille: 4,
    modes_percent: 45,
    exclusive_percent: 10,
};

/// The first requests of a venue make it: assets, accounts, what these have, and markets.
pub const OPENING: u64 = 3 + 4 * WORKLOAD.accounts + trading::MARKETS;

/// What one child is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub data: PathBuf,
    pub shards: usize,
    pub fold_requests_max: usize,
    pub durability: Durability,
    /// Whether some requests write values that are as large as can be.
    pub large_values: bool,
    /// After so many requests it stops its engine and ends; 0 means never.
    pub requests_max: u64,
    /// How far its wall clock is ahead of this machine's.
    pub hours_ahead: u64,
    /// How much of the past it keeps; 0 is all of it.
    pub keeps_hours: u64,
    /// Whether it archives what is more than an hour old of its journal.
    pub archives: bool,
    /// Whether it makes one backup after another.
    pub backs_up: bool,
    pub seed: u64,
    /// Of every child up to this one: the number of its first request, and when it was made, which
    /// is the time in its ids.
    pub rounds: Vec<(u64, u64)>,
}

impl Plan {
    /// The number of its first request.
    pub fn first(&self) -> u64 {
        self.rounds.last().expect("its own").0
    }

    fn rng(&self, number: u64) -> SmallRng {
        SmallRng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9E37_79B9))
    }

    fn id(&self, number: u64) -> RequestId {
        let of = self.rounds.iter().rev().find(|(first, _)| *first <= number);
        let (_, millis) = *of.expect("the first round begins with the first number");
        let hour = 3_600_000;
        // No id of the parent has that bit.
        let random = 1 << 60 | u128::from(number);
        match number % 8 {
            0 => RequestId::new(1 << 100 | u128::from(number)),
            1 => RequestId::v7(millis - hour, random),
            2 => RequestId::v7(millis + hour, random),
            _ => RequestId::v7(millis + number % 1_000, random),
        }
    }

    fn kind(&self, number: u64) -> Kind {
        let is_other = number < OPENING || trading::is_due(number);
        if is_other { Kind::Directory } else { WORKLOAD.kind(&mut self.rng(number)) }
    }

    pub fn request(&self, number: u64) -> Request {
        let command = if number < OPENING {
            opening_command(number)
        } else if self.large_values && number.is_multiple_of(LARGE_VALUE_EVERY) {
            large_value(number)
        } else if trading::is_due(number) {
            trading::command(&mut self.rng(number), number, |number| self.id(number))
        } else {
            WORKLOAD.command(&mut self.rng(number), &Before { plan: self, number })
        };
        Request::new(self.id(number), command)
    }

    pub fn requests(&self, numbers: Range<u64>) -> Vec<Request> {
        numbers.map(|number| self.request(number)).collect()
    }

    pub fn options(&self) -> Options {
        let mut options = Options::new(&self.data);
        options.durability = self.durability;
        options.limits.shards = self.shards;
        options.limits.lock_wait_ms = 10;
        options.limits.fold_requests_max = self.fold_requests_max;
        options.limits.history_retention_hours = self.keeps_hours;
        options.limits.journal_archive_after_secs = 3_600;
        let archive = self.data.with_file_name("archive");
        options.journal_archive_dir = self.archives.then_some(archive);
        options
    }

    /// Where its backup of a number goes: beside the data directory.
    pub fn backup(&self, number: usize) -> PathBuf {
        self.data.with_file_name(format!("backup-{number}"))
    }

    pub fn to_text(&self) -> String {
        let rounds: Vec<String> =
            self.rounds.iter().map(|(first, millis)| format!("{first}:{millis}")).collect();
        [
            self.shards.to_string(),
            self.fold_requests_max.to_string(),
            (self.durability == Durability::Off).to_string(),
            self.large_values.to_string(),
            self.requests_max.to_string(),
            self.hours_ahead.to_string(),
            self.keeps_hours.to_string(),
            self.archives.to_string(),
            self.backs_up.to_string(),
            self.seed.to_string(),
            rounds.join(","),
            self.data.display().to_string(),
        ]
        .join(" ")
    }

    pub fn from_text(text: &str) -> Self {
        let mut fields = text.splitn(12, ' ');
        let mut field = || fields.next().expect("a field");
        Self {
            shards: parse(field()),
            fold_requests_max: parse(field()),
            durability: if parse(field()) { Durability::Off } else { Durability::Sync },
            large_values: parse(field()),
            requests_max: parse(field()),
            hours_ahead: parse(field()),
            keeps_hours: parse(field()),
            archives: parse(field()),
            backs_up: parse(field()),
            seed: parse(field()),
            rounds: field().split(',').map(round).collect(),
            data: Path::new(field()).into(),
        }
    }
}

fn parse<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("as it was written")
}

fn round(text: &str) -> (u64, u64) {
    let (first, millis) = text.split_once(':').expect("two numbers");
    (parse(first), parse(millis))
}

fn opening_command(number: u64) -> Command {
    let directory = opening(WORKLOAD.accounts);
    match number.checked_sub(directory.len() as u64) {
        None => directory[number as usize].clone(),
        Some(nth) if nth >= 3 * WORKLOAD.accounts => trading::market(nth - 3 * WORKLOAD.accounts),
        Some(nth) => {
            let assets = [support::ETH, support::SOL, support::USDC];
            deposit(nth / 3, assets[nth as usize % 3], 1_000)
        }
    }
}

fn large_value(number: u64) -> Command {
    let key = Key::new(format!("large {}", number % 1_000).into_bytes());
    let value = Some(vec![number as u8; VALUE_BYTES_MAX].into());
    Command::Transact(Box::new(Transact {
        writes: vec![Write { key, value }],
        ..Transact::default()
    }))
}

/// What the request of a number may name: the holds of those before it.
struct Before<'a> {
    plan: &'a Plan,
    number: u64,
}

impl Past for Before<'_> {
    fn token(&self, rng: &mut SmallRng) -> Option<(Token, bool)> {
        let nearest = self.number.saturating_sub(rng.random_range(1..TOKENS_BACK));
        let oldest = self.number.saturating_sub(TOKENS_BACK);
        (oldest..=nearest).rev().find_map(|number| {
            let of_withdrawal = match self.plan.kind(number) {
                Kind::Withdraw => true,
                Kind::Prepare => false,
                _ => return None,
            };
            Some((Token::of(self.plan.id(number)), of_withdrawal))
        })
    }

    /// Nobody has told it: that it was never written is as good a guess as any.
    fn version(&self, _: &Subject, rng: &mut SmallRng) -> CommitSeq {
        CommitSeq::new(if rng.random_bool(0.9) { 0 } else { rng.random_range(0..1_000) })
    }
}

#[test]
fn a_plan_survives_the_way_to_the_child() {
    let plan = Plan {
        data: "/a place/with a blank".into(),
        shards: 3,
        fold_requests_max: 500,
        durability: Durability::Off,
        large_values: true,
        requests_max: 77,
        hours_ahead: 2,
        keeps_hours: 1,
        archives: true,
        backs_up: true,
        seed: 9,
        rounds: vec![(0, 1 << 40), (200, 1 << 41)],
    };
    assert_eq!(Plan::from_text(&plan.to_text()), plan);
    let requests = plan.requests(0..OPENING);
    assert!(requests[..43].iter().all(|it| !matches!(it.command, Command::Deposit(_))));
    let (deposits, markets) = requests[43..].split_at(120);
    assert!(deposits.iter().all(|it| matches!(it.command, Command::Deposit(_))));
    assert!(markets.iter().all(|it| matches!(it.command, Command::PutMarket(_))));
}
