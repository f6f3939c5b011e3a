//! What callers ask for under keys, and what becomes of keys meanwhile: they are made, given other
//! accounts, revoked; and the venue is restricted now and then, and taken back into operation.

use rand::Rng;
use rand::rngs::SmallRng;

use crosslatch::access::{Accounts, ApiKey, Caller, KeyLimits, KeyNumber, Scopes};
use crosslatch::request::Command;
use crosslatch::types::{Operation, Time};

use crate::support::account;

/// Names of keys: as they are revoked, new ones come in their place.
const NAMES: u32 = 12;

/// How callers use keys. In a world without, nothing is drawn for them.
pub struct Keys {
    accounts: u64,
    /// How many of a hundred requests come under a key.
    pub percent: u32,
    /// How many of a thousand requests are about keys, or about what the venue takes.
    per_mille: u32,
}

impl Keys {
    /// One world of three has keys; the others draw nothing for them.
    pub fn new(accounts: u64, seed: u64, rng: &mut SmallRng) -> Self {
        if seed % 3 != 1 {
            return Self { accounts, percent: 0, per_mille: 0 };
        }
        let percent = [50, 95][rng.random_range(0..2)];
        Self { accounts, percent, per_mille: [20, 80, 300][rng.random_range(0..3)] }
    }

    /// The first few keys.
    pub fn opening(&self, rng: &mut SmallRng) -> Vec<Command> {
        if self.percent == 0 {
            return Vec::new();
        }
        (0..4).map(|number| Command::PutKey(Box::new(self.key(number, rng)))).collect()
    }

    /// On whose behalf a request comes; now and then of a key that is not there.
    pub fn caller(&self, rng: &mut SmallRng) -> Caller {
        if self.percent == 0 || rng.random_range(0..100) >= self.percent {
            return Caller::Trusted;
        }
        let number = if rng.random_bool(0.9) { 4 } else { NAMES + 1 };
        Caller::Key(KeyNumber(rng.random_range(0..number)))
    }

    /// Something about keys, if it is time for that.
    pub fn command(&self, rng: &mut SmallRng) -> Option<Command> {
        if self.percent == 0 || rng.random_range(0..1_000) >= self.per_mille {
            return None;
        }
        let number = if rng.random_bool(0.7) { 4 } else { NAMES };
        let number = rng.random_range(0..number);
        Some(match rng.random_range(0..10) {
            0..6 => Command::PutKey(Box::new(self.key(number, rng))),
            6 => Command::RevokeKey(name(number)),
            7..9 => Command::Operate(Operation::Normal),
            _ => Command::Operate(Operation::ALL[rng.random_range(0..4)]),
        })
    }

    /// Most have most of the accounts, so that what needs two of them is now allowed and now not.
    fn key(&self, number: u32, rng: &mut SmallRng) -> ApiKey {
        let is_all = rng.random_bool(0.2);
        let some = (0..self.accounts).filter(|_| rng.random_bool(0.85)).map(account);
        let some = Accounts::only(some).expect("few");
        let scopes = if rng.random_bool(0.7) { 0b1111 } else { rng.random_range(1..16) };
        let generation = if rng.random_bool(0.05) { 2 } else { 1 };
        ApiKey {
            name: name(number),
            generation,
            // Another secret in the same generation is refused.
            verifier: [generation as u8 + u8::from(rng.random_bool(0.1)); 32],
            scopes: Scopes::from_bits(scopes).expect("four bits"),
            accounts: if is_all { Accounts::All } else { some },
            networks: Box::default(),
            limits: KeyLimits {
                open_holds: [0, 0, 2][rng.random_range(0..3)],
                ..KeyLimits::default()
            },
            expires_at: Time::NEVER,
        }
    }
}

fn name(number: u32) -> Box<str> {
    format!("key-{number}").into()
}
