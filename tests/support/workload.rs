//! Random requests over a small venue, so that they meet: a few hot accounts, balances that run
//! out, legs that share balances, links that come and go, and now and then nonsense.

use rand::Rng;
use rand::rngs::SmallRng;

use crosslatch::config::SUPPLY_MAX;
use crosslatch::request::Command;
use crosslatch::types::{AssetId, ChainKind, Leg};

use crate::oracle::moves;
use crate::support::{
    ETH, ETHEREUM, SOL, SOLANA, USDC, account, asset, deposit, leg, link, put_account, swap,
    withdraw,
};

const ASSETS: [AssetId; 3] = [ETH, SOL, USDC];

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Accounts of the opening; a tenth of them are in half of all movements.
    pub accounts: u64,
    /// Largest amount of what is not huge on purpose.
    pub amount_max: u128,
    /// How many of a thousand requests are about accounts, links and assets.
    pub directory_per_mille: u32,
}

impl Workload {
    /// A well-formed command, which may nevertheless be refused for any other reason.
    pub fn command(&self, rng: &mut SmallRng) -> Command {
        if rng.random_range(0..1_000) < self.directory_per_mille {
            return self.directory(rng);
        }
        match rng.random_range(0..100) {
            0..74 => self.exchange(rng),
            74..84 => self.many_legs(rng),
            84..92 => deposit(self.account(rng), some_asset(rng), self.amount(rng)),
            92..97 => withdraw(self.account(rng), some_asset(rng), self.amount(rng)),
            97 => {
                let (a, b) = self.two_accounts(rng);
                swap([leg(a, b, ETH, 1), leg(b, a, AssetId::new(rng.random_range(3..9)), 1)])
            }
            98 => {
                let a = self.account(rng);
                let nobody = self.accounts + 1_000 + rng.random_range(0..3);
                swap([leg(a, nobody, ETH, self.amount(rng)), leg(nobody, a, SOL, 1)])
            }
            _ => {
                let (a, b) = self.two_accounts(rng);
                let huge = [u128::MAX, SUPPLY_MAX, 1 << 64][rng.random_range(0..3)];
                swap([leg(a, b, ETH, huge), leg(b, a, SOL, 1)])
            }
        }
    }

    fn exchange(&self, rng: &mut SmallRng) -> Command {
        let (a, b) = self.two_accounts(rng);
        let give = rng.random_range(0..3);
        let take = (give + rng.random_range(1..3)) % 3;
        swap([leg(a, b, ASSETS[give], self.amount(rng)), leg(b, a, ASSETS[take], self.amount(rng))])
    }

    /// Up to 16 legs among a few accounts, in one asset or several: rings, and shared balances.
    fn many_legs(&self, rng: &mut SmallRng) -> Command {
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
        if legs.len() < 2 || moves(&legs).is_err() { self.exchange(rng) } else { swap(legs) }
    }

    fn directory(&self, rng: &mut SmallRng) -> Command {
        let number = self.account(rng);
        match rng.random_range(0..20) {
            0..9 => put_account(number),
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
