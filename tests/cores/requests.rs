//! Random requests: few accounts, tight funds, one hot account, and everything that may go wrong.

use rand::Rng;
use rand::rngs::SmallRng;

use crosslatch::address::{Address, Link};
use crosslatch::config::SUPPLY_MAX;
use crosslatch::request::{AssetSpec, Command, Request, Swap, Transfer};
use crosslatch::types::{AccountId, Amount, AssetId, ChainId, ChainKind, Leg, RequestId, Time};

/// Assets at the start. The first two share a chain; the last one's supply is near its cap.
pub const ASSETS: [(&str, u64); 4] = [("ETH", 1), ("USDC", 1), ("SOL", 2), ("CAP", 3)];
/// The asset whose supply is near its cap.
pub const CAPPED: AssetId = AssetId::new(3);
/// How far below the cap its supply starts.
pub const CAP_ROOM: u128 = 100;
/// Accounts that a request may name; some of them do not exist.
const ACCOUNTS: u64 = 9;

/// What one world's requests are like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Accounts that take part.
    pub accounts: u64,
    /// Probability that a leg is of the hot account.
    hot: f64,
    /// Largest usual amount; accounts start with about 100.
    amount_max: u128,
    legs_max: usize,
    /// Probabilities of what is not a swap.
    transfers: f64,
    directory: f64,
    repeats: f64,
    deadlines: f64,
    huge: f64,
}

impl Shape {
    /// A shape of its own for every world.
    pub fn random(rng: &mut SmallRng) -> Self {
        Self {
            accounts: rng.random_range(2..=ACCOUNTS),
            hot: [0.0, 0.3, 0.8][rng.random_range(0..3)],
            amount_max: [10, 60, 120][rng.random_range(0..3)],
            legs_max: [2, 3, 5][rng.random_range(0..3)],
            transfers: [0.0, 0.1, 0.3][rng.random_range(0..3)],
            directory: [0.0, 0.02, 0.15][rng.random_range(0..3)],
            repeats: [0.0, 0.05, 0.2][rng.random_range(0..3)],
            deadlines: [0.0, 0.1][rng.random_range(0..2)],
            huge: [0.0, 0.05][rng.random_range(0..2)],
        }
    }
}

/// Makes requests, and remembers them to send some again.
pub struct Requests {
    shape: Shape,
    sent: Vec<Request>,
}

impl Requests {
    /// None sent so far.
    pub fn new(shape: Shape) -> Self {
        Self { shape, sent: Vec::new() }
    }

    /// The next request: most often a new one.
    pub fn next(&mut self, rng: &mut SmallRng, now: Time) -> Request {
        if !self.sent.is_empty() && rng.random_bool(self.shape.repeats) {
            // Soon after, when the first is likely undecided, or any time.
            let reach = if rng.random_bool(0.7) { 8 } else { self.sent.len() };
            let back = rng.random_range(1..=reach.min(self.sent.len()));
            return self.sent[self.sent.len() - back].clone();
        }
        let mut request = Request::new(id(rng, now), self.command(rng));
        if rng.random_bool(self.shape.deadlines) {
            request.deadline = Time::new(now.get() + rng.random_range(0..500_000));
        }
        self.sent.push(request.clone());
        request
    }

    fn command(&self, rng: &mut SmallRng) -> Command {
        if rng.random_bool(self.shape.directory) {
            return self.directory_command(rng);
        }
        if rng.random_bool(self.shape.transfers) {
            let transfer = Transfer {
                account: self.account(rng),
                asset: self.asset(rng),
                amount: self.amount(rng),
                reference: "".into(),
            };
            let deposit = rng.random_bool(0.5);
            return if deposit { Command::Deposit(transfer) } else { Command::Withdraw(transfer) };
        }
        loop {
            let legs = rng.random_range(2..=self.shape.legs_max);
            let legs: Vec<Leg> = (0..legs).map(|_| self.leg(rng)).collect();
            if let Ok(swap) = Swap::new(legs) {
                return Command::Swap(swap);
            }
        }
    }

    fn leg(&self, rng: &mut SmallRng) -> Leg {
        let from = self.account(rng);
        let to = loop {
            let to = AccountId::new(rng.random_range(0..self.shape.accounts));
            if to != from {
                break to;
            }
        };
        let (from, to) = if rng.random_bool(0.5) { (from, to) } else { (to, from) };
        Leg { from, to, asset: self.asset(rng), amount: self.amount(rng) }
    }

    fn account(&self, rng: &mut SmallRng) -> AccountId {
        let hot = rng.random_bool(self.shape.hot);
        AccountId::new(if hot { 0 } else { rng.random_range(0..self.shape.accounts) })
    }

    fn asset(&self, rng: &mut SmallRng) -> AssetId {
        // Number 4 and 5 may be created on the way.
        let rare = rng.random_bool(0.03);
        AssetId::new(if rare { rng.random_range(3..6) } else { rng.random_range(0..3) })
    }

    fn amount(&self, rng: &mut SmallRng) -> Amount {
        Amount::new(if rng.random_bool(self.shape.huge) {
            [u128::MAX, u128::MAX / 3, SUPPLY_MAX - CAP_ROOM / 2][rng.random_range(0..3)]
        } else {
            rng.random_range(1..=self.shape.amount_max)
        })
    }

    fn directory_command(&self, rng: &mut SmallRng) -> Command {
        let account = self.account(rng);
        let chain = ChainId::new(rng.random_range(1..=4));
        match rng.random_range(0..10) {
            0 => Command::PutAsset(new_asset(rng)),
            1..=3 => Command::RemoveLink { account, chain },
            _ => {
                let links = (0..rng.random_range(0..=3)).map(|_| link(rng, account)).collect();
                Command::PutAccount { account, links }
            }
        }
    }
}

/// A version-7 id of about now, or far off, or no version-7 id at all.
fn id(rng: &mut SmallRng, now: Time) -> RequestId {
    let millis = now.millis();
    let millis = match rng.random_range(0..10) {
        0 => return RequestId::new(rng.random()),
        1 => millis.saturating_sub(rng.random_range(0..30_000)),
        2 => millis + rng.random_range(0..200_000),
        _ => millis,
    };
    RequestId::v7(millis, rng.random())
}

/// An asset of the given number, as it is at the start.
pub fn asset(name: &str, chain: u64) -> AssetSpec {
    AssetSpec {
        name: name.into(),
        chain: ChainId::new(chain),
        chain_kind: ChainKind::Other,
        token: "native".into(),
        decimals: 0,
    }
}

fn new_asset(rng: &mut SmallRng) -> AssetSpec {
    let (name, chain) = [("NEW", 4), ("ETH", 1), ("ETH", 2), ("TWO", 1)][rng.random_range(0..4)];
    let kind = [ChainKind::Other, ChainKind::Other, ChainKind::Evm][rng.random_range(0..3)];
    AssetSpec { chain_kind: kind, ..asset(name, chain) }
}

/// The address of an account where nothing is contested.
pub fn own_link(account: AccountId, chain: u64) -> Link {
    Link {
        chain: ChainId::new(chain),
        address: Address::from_canonical(&format!("address of {account}")),
    }
}

fn link(rng: &mut SmallRng, account: AccountId) -> Link {
    let chain = rng.random_range(1..=4);
    let account = if rng.random_bool(0.8) { account.get() } else { rng.random_range(0..ACCOUNTS) };
    own_link(AccountId::new(account), chain)
}
