//! Random requests over a small venue, so that they meet: a few hot accounts, balances that run
//! out, legs that share balances, holds that are resolved in time, late, twice or never, transactions
//! over a few keys, links that come and go, and now and then nonsense.

use rand::Rng;
use rand::rngs::SmallRng;

use crosslatch::config::SUPPLY_MAX;
use crosslatch::request::{Action, Command, Read, Transact, Transfer, Write};
use crosslatch::types::{
    AssetId, BalanceKey, ChainId, ChainKind, CommitSeq, Key, Leg, RequestId, Subject, Token,
};

use crate::oracle::moves;
use crate::support::{
    ETH, ETHEREUM, SOL, SOLANA, USDC, account, asset, deposit, leg, link, prepare, put_account,
    resolve, swap, transfer, withdraw,
};

const ASSETS: [AssetId; 3] = [ETH, SOL, USDC];
/// Keys that many transactions share.
const HOT_KEYS: u32 = 8;
/// References of deposits.
const REFERENCES: u32 = 60;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Accounts of the opening; a tenth of them are in half of all movements.
    pub accounts: u64,
    /// Largest amount of what is not huge on purpose.
    pub amount_max: u128,
    /// How many of a thousand requests are about accounts, links and assets.
    pub directory_per_mille: u32,
    /// How many of a hundred others are about holds, or are transactions.
    pub modes_percent: u32,
    /// How many of a hundred prepared swaps are exclusive.
    pub exclusive_percent: u32,
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    Exchange,
    ManyLegs,
    Deposit,
    Withdraw,
    Prepare,
    Resolve,
    Transact,
    Nonsense,
}

/// What a caller remembers, and may name in a request.
pub trait Past {
    /// The token of a hold that was asked for before, and whether by a withdrawal.
    fn token(&self, rng: &mut SmallRng) -> Option<(Token, bool)>;

    /// The version that something has, as far as can be known.
    fn version(&self, subject: &Subject, rng: &mut SmallRng) -> CommitSeq;
}

impl Workload {
    /// What a request is about: the first draw that its command takes.
    pub fn kind(&self, rng: &mut SmallRng) -> Kind {
        if rng.random_range(0..1_000) < self.directory_per_mille {
            return Kind::Directory;
        }
        if rng.random_range(0..100) < self.modes_percent {
            return match rng.random_range(0..100) {
                0..30 => Kind::Prepare,
                30..36 => Kind::Withdraw,
                36..75 => Kind::Resolve,
                _ => Kind::Transact,
            };
        }
        match rng.random_range(0..100) {
            0..75 => Kind::Exchange,
            75..86 => Kind::ManyLegs,
            86..97 => Kind::Deposit,
            _ => Kind::Nonsense,
        }
    }

    /// A well-formed command, which may nevertheless be refused for any other reason.
    pub fn command(&self, rng: &mut SmallRng, past: &impl Past) -> Command {
        match self.kind(rng) {
            Kind::Directory => self.directory(rng),
            Kind::Exchange => self.exchange(rng),
            Kind::ManyLegs => swap(self.some_legs(rng)),
            Kind::Deposit => self.deposit(rng),
            Kind::Withdraw => withdraw(self.account(rng), some_asset(rng), self.amount(rng)),
            Kind::Prepare => self.prepare(rng),
            Kind::Resolve => some_resolution(rng, past),
            Kind::Transact => self.transact(rng, past),
            Kind::Nonsense => self.nonsense(rng),
        }
    }

    fn nonsense(&self, rng: &mut SmallRng) -> Command {
        let (a, b) = self.two_accounts(rng);
        match rng.random_range(0..3) {
            0 => swap([leg(a, b, ETH, 1), leg(b, a, AssetId::new(rng.random_range(3..9)), 1)]),
            1 => {
                let nobody = self.accounts + 1_000 + rng.random_range(0..3);
                swap([leg(a, nobody, ETH, self.amount(rng)), leg(nobody, a, SOL, 1)])
            }
            _ => {
                let huge = [u128::MAX, SUPPLY_MAX, 1 << 64][rng.random_range(0..3)];
                swap([leg(a, b, ETH, huge), leg(b, a, SOL, 1)])
            }
        }
    }

    fn exchange(&self, rng: &mut SmallRng) -> Command {
        swap(self.two_legs(rng))
    }

    fn two_legs(&self, rng: &mut SmallRng) -> Vec<Leg> {
        let (a, b) = self.two_accounts(rng);
        let give = rng.random_range(0..3);
        let take = (give + rng.random_range(1..3)) % 3;
        vec![leg(a, b, ASSETS[give], self.amount(rng)), leg(b, a, ASSETS[take], self.amount(rng))]
    }

    /// Up to 16 legs among a few accounts, in one asset or several: rings, and shared balances.
    fn some_legs(&self, rng: &mut SmallRng) -> Vec<Leg> {
        let parties: Vec<u64> = (0..rng.random_range(2..6)).map(|_| self.account(rng)).collect();
        let one_asset = rng.random_bool(0.5).then(|| some_asset(rng));
        let mut legs: Vec<Leg> = Vec::new();
        for _ in 0..rng.random_range(2..=16) {
            let from = parties[rng.random_range(0..parties.len())];
            let to = parties[rng.random_range(0..parties.len())];
            if from != to {
                let asset = one_asset.unwrap_or_else(|| some_asset(rng));
                legs.push(leg(from, to, asset, self.amount(rng)));
            }
        }
        if legs.len() < 2 || moves(&legs).is_err() { self.two_legs(rng) } else { legs }
    }

    /// Many have a reference, which others have too.
    fn deposit(&self, rng: &mut SmallRng) -> Command {
        let (number, asset, amount) = (self.account(rng), some_asset(rng), self.amount(rng));
        if rng.random_bool(0.6) {
            return deposit(number, asset, amount);
        }
        let reference = format!("0x{:02x}", rng.random_range(0..REFERENCES)).into();
        Command::Deposit(Transfer { reference, ..transfer(number, asset, amount) })
    }

    /// Set aside for an instant or for long; exclusively for no longer than others can wait.
    fn prepare(&self, rng: &mut SmallRng) -> Command {
        let legs = if rng.random_bool(0.8) { self.two_legs(rng) } else { self.some_legs(rng) };
        let exclusive = rng.random_range(0..100) < self.exclusive_percent;
        let expiries = if exclusive { [1, 4, 15, 30] } else { [1, 20, 300, 10_000] };
        prepare(legs, expiries[rng.random_range(0..4)], exclusive)
    }

    /// Reads and writes a few keys, reads balances, and moves something: any of it, but not nothing.
    fn transact(&self, rng: &mut SmallRng, past: &impl Past) -> Command {
        loop {
            let mut transact = Transact::default();
            for _ in 0..[0, 1, 1, 2, 3][rng.random_range(0..5)] {
                let subject = self.subject(rng);
                let version = past.version(&subject, rng);
                transact.reads.push(Read { subject, version });
            }
            for _ in 0..rng.random_range(0..=2) {
                let value = rng.random_bool(0.8).then(|| [rng.random::<u8>(); 3].as_slice().into());
                transact.writes.push(Write { key: some_key(rng), value });
            }
            for _ in 0..rng.random_range(0..=2) {
                let (a, b) = self.two_accounts(rng);
                transact.transfers.push(leg(a, b, some_asset(rng), self.amount(rng)));
            }
            let nets = transact.transfers.is_empty() || moves(&transact.transfers).is_ok();
            if nets && transact.validate().is_ok() {
                return Command::Transact(Box::new(transact));
            }
        }
    }

    fn subject(&self, rng: &mut SmallRng) -> Subject {
        if rng.random_bool(0.6) {
            return Subject::Key(some_key(rng));
        }
        // Accounts that come to be on the way have nothing for a while.
        let number = if rng.random_bool(0.2) {
            self.accounts + rng.random_range(0..20)
        } else {
            self.account(rng)
        };
        Subject::Balance(BalanceKey { account: account(number), asset: some_asset(rng) })
    }

    fn directory(&self, rng: &mut SmallRng) -> Command {
        let number = self.account(rng);
        match rng.random_range(0..20) {
            0..8 => put_account(number),
            // A chain that no asset is on.
            8 => {
                let unknown = ChainId::new(rng.random_range(5_000..5_003));
                let mut links = vec![link(number, unknown)];
                links.extend(rng.random_bool(0.5).then(|| link(number, ETHEREUM)));
                Command::PutAccount { account: account(number), links }
            }
            9..13 => {
                let chain = if rng.random_bool(0.5) { ETHEREUM } else { SOLANA };
                Command::RemoveLink { account: account(number), chain }
            }
            13..15 => put_account(self.accounts + rng.random_range(0..20)),
            // Somebody else's address.
            15..17 => {
                let links = vec![link(self.account(rng), SOLANA)];
                Command::PutAccount { account: account(number), links }
            }
            17 => {
                let chain = ETHEREUM;
                Command::RemoveLink { account: account(self.accounts + 1_000), chain }
            }
            18 => asset("ETH", ETHEREUM, ChainKind::Evm),
            _ => asset("SOL", SOLANA, ChainKind::Other),
        }
    }

    fn account(&self, rng: &mut SmallRng) -> u64 {
        let hot = rng.random_bool(0.5);
        let range = if hot { (self.accounts / 10).max(1) } else { self.accounts };
        rng.random_range(0..range)
    }

    fn two_accounts(&self, rng: &mut SmallRng) -> (u64, u64) {
        let (a, b) = (self.account(rng), rng.random_range(0..self.accounts - 1));
        (a, if b >= a { b + 1 } else { b })
    }

    /// Small amounts as likely as large ones.
    fn amount(&self, rng: &mut SmallRng) -> u128 {
        let bits = 128 - self.amount_max.leading_zeros();
        let below = 1 << rng.random_range(0..bits);
        (below + rng.random_range(0..below)).min(self.amount_max)
    }
}

fn some_asset(rng: &mut SmallRng) -> AssetId {
    ASSETS[rng.random_range(0..ASSETS.len())]
}

/// One of a few, or one that hardly anybody else has.
fn some_key(rng: &mut SmallRng) -> Key {
    if rng.random_bool(0.7) {
        return Key::new(format!("hot {}", rng.random_range(0..HOT_KEYS)).into_bytes());
    }
    Key::new(format!("cold {}", rng.random_range(0..5_000)).into_bytes())
}

/// Ends a hold, most often in a way that fits what it is for.
fn some_resolution(rng: &mut SmallRng, past: &impl Past) -> Command {
    let unknown = rng.random_bool(0.03);
    let known = if unknown { None } else { past.token(rng) };
    let (token, of_withdrawal) =
        known.unwrap_or_else(|| (Token::of(RequestId::new(rng.random())), rng.random()));
    let fits = rng.random_bool(0.97);
    let action = match (of_withdrawal == fits, rng.random_bool(0.6)) {
        (false, true) => Action::Commit,
        (false, false) => Action::Rollback,
        (true, true) => Action::Confirm,
        (true, false) => Action::Cancel,
    };
    resolve(token, action)
}
