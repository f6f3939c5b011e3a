//! What a client is to do: every request that it may make, a function of the seed, the client, the number
//! of the request, and what it wrote down before it sent it for the first time ([`Round`]).

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::request::{Command, Request};
use crosslatch::types::{CommitSeq, Key, RequestId, Subject, Token};

use crate::support::{self, ETHEREUM, SOLANA, deposit, opening};
use crate::workload::{Kind, Past, Workload};
use crate::{said, trading};

/// So far back, at most, is the hold that a request resolves.
const TOKENS_BACK: u64 = 200;
/// In ids of requests that a client forgot it had made.
const FORGOTTEN: u128 = 1 << 56;

/// No request waits longer than that for an exclusive hold.
pub const LOCK_WAIT_MS: u64 = 10;

pub const WORKLOAD: Workload = Workload {
    accounts: 40,
    amount_max: 400,
    directory_per_mille: 3,
    modes_percent: 45,
    exclusive_percent: 10,
};

/// The requests below this number make the venue: assets, accounts, what these have, and markets.
pub const OPENING: u64 = 3 + 4 * WORKLOAD.accounts + trading::MARKETS;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Grpc,
    Http,
}

/// One client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    /// Which of all.
    pub client: u64,
    pub speaks: Speaks,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    /// A mistake, to be found: what it sends again after its death has another id.
    pub forgets_ids: bool,
    /// Where it writes down what it did.
    pub memory: PathBuf,
}

/// Requests that were sent together first, and what was known then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// The number of the first request, and that behind the last.
    pub first: u64,
    pub end: u64,
    /// The time in their ids.
    pub millis: u64,
    /// One of the hot keys, and the version that it had.
    pub key: u64,
    pub version: u64,
}

impl Plan {
    fn rng(&self, number: u64) -> SmallRng {
        let mixed = number.wrapping_mul(0x9E37_79B9) ^ (self.client << 48);
        SmallRng::seed_from_u64(self.seed ^ mixed)
    }

    fn id(&self, round: &Round, number: u64) -> RequestId {
        let hour = 3_600_000;
        let random = 1 << 60 | u128::from(self.client) << 40 | u128::from(number);
        match number % 8 {
            0 => RequestId::new(1 << 100 | random),
            1 => RequestId::v7(round.millis - hour, random),
            2 => RequestId::v7(round.millis + hour, random),
            _ => RequestId::v7(round.millis + number % 1_000, random),
        }
    }

    fn kind(&self, number: u64) -> Kind {
        let is_other = number < OPENING || trading::is_due(number);
        if is_other { Kind::Directory } else { WORKLOAD.kind(&mut self.rng(number)) }
    }

    /// The request of a number that one of the rounds has; what came before has one of the earlier.
    pub fn request(&self, rounds: &[Round], number: u64) -> Request {
        let id = |number| self.id(round_of(rounds, number), number);
        let command = if number < OPENING {
            opening_command(number)
        } else if trading::is_due(number) {
            // Where nothing came before, it may be about itself: an order that is not there.
            let first = rounds[0].first;
            trading::command(&mut self.rng(number), number, |of| id(of.max(first)))
        } else {
            WORKLOAD.command(&mut self.rng(number), &Before { plan: self, rounds, number })
        };
        let request = Request::new(id(number), command);
        if self.can_say(&request) {
            return request;
        }
        let instead = deposit(number % WORKLOAD.accounts, support::USDC, 1);
        Request::new(request.id, instead)
    }

    /// Whether there are words for it. An address on a chain that nobody knows has none anywhere: it is
    /// refused where it is read, and leaves nothing.
    fn can_say(&self, request: &Request) -> bool {
        match (&request.command, self.speaks) {
            (Command::PutAccount { links, .. }, Speaks::Grpc) => {
                links.iter().all(|link| [ETHEREUM, SOLANA].contains(&link.chain))
            }
            (_, Speaks::Grpc) => true,
            (_, Speaks::Http) => said::over_http(request).is_some(),
        }
    }

    /// The same as somebody makes it who has forgotten its id.
    pub fn forgotten(&self, request: Request) -> Request {
        if !self.forgets_ids {
            return request;
        }
        Request::new(RequestId::new(request.id.get() ^ FORGOTTEN), request.command)
    }

    pub fn to_text(&self) -> String {
        let Self { seed, client, http, grpc, memory, .. } = self;
        let speaks_http = self.speaks == Speaks::Http;
        let memory = memory.display();
        format!("{seed} {client} {speaks_http} {http} {grpc} {} {memory}", self.forgets_ids)
    }

    pub fn from_text(text: &str) -> Self {
        let mut fields = text.splitn(7, ' ');
        let mut field = || fields.next().expect("a field");
        Self {
            seed: parse(field()),
            client: parse(field()),
            speaks: if parse(field()) { Speaks::Http } else { Speaks::Grpc },
            http: parse(field()),
            grpc: parse(field()),
            forgets_ids: parse(field()),
            memory: field().into(),
        }
    }
}

pub fn parse<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("as it was written")
}

fn round_of(rounds: &[Round], number: u64) -> &Round {
    let after = rounds.partition_point(|round| round.first <= number);
    &rounds[after.checked_sub(1).expect("a number that was planned")]
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

/// What the request of a number may name: its own client's holds, and what was read before it.
struct Before<'a> {
    plan: &'a Plan,
    rounds: &'a [Round],
    number: u64,
}

impl Past for Before<'_> {
    fn token(&self, rng: &mut SmallRng) -> Option<(Token, bool)> {
        let first = self.rounds[0].first;
        let nearest = self.number.saturating_sub(rng.random_range(1..TOKENS_BACK)).max(first);
        let oldest = self.number.saturating_sub(TOKENS_BACK).max(first);
        (oldest..=nearest).rev().find_map(|number| {
            let of_withdrawal = match self.plan.kind(number) {
                Kind::Withdraw => true,
                Kind::Prepare => false,
                _ => return None,
            };
            let id = self.plan.id(round_of(self.rounds, number), number);
            Some((Token::of(id), of_withdrawal))
        })
    }

    /// What was read of the one key before the round; that anything else was never written is as good a
    /// guess as any.
    fn version(&self, subject: &Subject, rng: &mut SmallRng) -> CommitSeq {
        let round = round_of(self.rounds, self.number);
        let guess = if rng.random_bool(0.9) { 0 } else { rng.random_range(0..1_000) };
        let is_read = matches!(subject, Subject::Key(key) if *key == hot_key(round.key));
        CommitSeq::new(if is_read { round.version } else { guess })
    }
}

/// A key that all clients write.
pub fn hot_key(number: u64) -> Key {
    Key::new(format!("hot {number}").into_bytes())
}

#[test]
fn a_plan_survives_the_way_to_the_child_and_its_requests_do_not_change() {
    let address = "127.0.0.1:7400".parse().expect("an address");
    let plan = Plan {
        seed: 9,
        client: 3,
        speaks: Speaks::Http,
        http: address,
        grpc: address,
        forgets_ids: true,
        memory: "a place/with a blank".into(),
    };
    assert_eq!(Plan::from_text(&plan.to_text()), plan);
    let round = |first, end| Round { first, end, millis: 1 << 40, key: 1, version: first };
    let early = [round(OPENING, OPENING + 300)];
    let late = [early[0], round(OPENING + 300, OPENING + 900)];
    for number in OPENING..OPENING + 300 {
        assert_eq!(plan.request(&early, number), plan.request(&late, number));
    }
    let other = Plan { client: 4, ..plan.clone() };
    let ids = |plan: &Plan| plan.request(&late, OPENING + 500).id;
    assert_ne!(ids(&plan), ids(&other));
}
