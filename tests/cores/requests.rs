//! Random requests: few accounts, tight funds, one hot account, and everything that may go wrong.

use rand::Rng;
use rand::rngs::SmallRng;

use crosslatch::address::{Address, Link};
use crosslatch::config::SUPPLY_MAX;
use crosslatch::request::{
    Action, AssetSpec, Command, Prepare, Read, Request, Resolve, Swap, Transact, Transfer, Write,
};
use crosslatch::types::{
    AccountId, Amount, AssetId, BalanceKey, ChainId, ChainKind, CommitSeq, Key, Leg, RequestId,
    Subject, Time, Token,
};

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
    prepares: f64,
    resolves: f64,
    exclusive: f64,
    transactions: f64,
    references: f64,
    /// Longest expiry, in milliseconds; the clock moves by up to 200 ms at a time, or by 4 s.
    expiry_max_ms: u64,
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
            prepares: [0.0, 0.1, 0.4][rng.random_range(0..3)],
            resolves: [0.1, 0.3, 0.5][rng.random_range(0..3)],
            exclusive: [0.0, 0.2, 0.8][rng.random_range(0..3)],
            transactions: [0.0, 0.1, 0.4][rng.random_range(0..3)],
            references: [0.0, 0.8][rng.random_range(0..2)],
            expiry_max_ms: [20, 400, 6_000][rng.random_range(0..3)],
        }
    }
}

/// Makes requests, and remembers them to send some again.
pub struct Requests {
    shape: Shape,
    sent: Vec<Request>,
    /// Of every request that may make a hold, the latest last.
    tokens: Vec<(Token, bool)>,
}

/// Tells which version something has, as far as a caller can know.
pub type Versions<'a> = dyn Fn(&Subject) -> CommitSeq + 'a;

impl Requests {
    /// None sent so far.
    pub fn new(shape: Shape) -> Self {
        Self { shape, sent: Vec::new(), tokens: Vec::new() }
    }

    /// The next request: most often a new one.
    pub fn next(&mut self, rng: &mut SmallRng, now: Time, versions: &Versions<'_>) -> Request {
        if !self.sent.is_empty() && rng.random_bool(self.shape.repeats) {
            // Soon after, when the first is likely undecided, or any time.
            let reach = if rng.random_bool(0.7) { 8 } else { self.sent.len() };
            let back = rng.random_range(1..=reach.min(self.sent.len()));
            return self.sent[self.sent.len() - back].clone();
        }
        let mut request = Request::new(id(rng, now), self.command(rng, versions));
        match request.command {
            Command::Prepare(_) => self.tokens.push((Token::of(request.id), false)),
            Command::Withdraw(_) => self.tokens.push((Token::of(request.id), true)),
            _ => {}
        }
        if rng.random_bool(self.shape.deadlines) {
            request.deadline = Time::new(now.get() + rng.random_range(0..500_000));
        }
        self.sent.push(request.clone());
        request
    }

    fn command(&self, rng: &mut SmallRng, versions: &Versions<'_>) -> Command {
        if !self.tokens.is_empty() && rng.random_bool(self.shape.resolves) {
            return self.resolve(rng);
        }
        if rng.random_bool(self.shape.transactions) {
            return self.transact(rng, versions);
        }
        if rng.random_bool(self.shape.directory) {
            return self.directory_command(rng);
        }
        if rng.random_bool(self.shape.transfers) {
            let transfer = Transfer {
                account: self.account(rng),
                asset: self.asset(rng),
                amount: self.amount(rng),
                reference: self.reference(rng),
            };
            let deposit = rng.random_bool(0.5);
            return if deposit { Command::Deposit(transfer) } else { Command::Withdraw(transfer) };
        }
        let swap = loop {
            let legs = rng.random_range(2..=self.shape.legs_max);
            let legs: Vec<Leg> = (0..legs).map(|_| self.leg(rng)).collect();
            if let Ok(swap) = Swap::new(legs) {
                break swap;
            }
        };
        if !rng.random_bool(self.shape.prepares) {
            return Command::Swap(swap);
        }
        let expires_in_ms = rng.random_range(1..=self.shape.expiry_max_ms);
        let exclusive = rng.random_bool(self.shape.exclusive);
        Command::Prepare(Box::new(Prepare { swap, expires_in_ms, exclusive }))
    }

    /// Ends a hold: most often one that was made lately, and in a way that fits.
    fn resolve(&self, rng: &mut SmallRng) -> Command {
        let reach = if rng.random_bool(0.8) { 3 } else { self.tokens.len() };
        let back = rng.random_range(1..=reach.min(self.tokens.len()));
        let (mut token, mut withdrawal) = self.tokens[self.tokens.len() - back];
        if rng.random_bool(0.02) {
            token = Token::of(RequestId::new(rng.random()));
        }
        withdrawal ^= rng.random_bool(0.02);
        let gives_back = rng.random_bool(0.4);
        let action = match (withdrawal, gives_back) {
            (false, false) => Action::Commit,
            (false, true) => Action::Rollback,
            (true, false) => Action::Confirm,
            (true, true) => Action::Cancel,
        };
        Command::Resolve(Resolve { token, action })
    }

    /// Reads and writes a few of few keys, reads a few balances, and moves something.
    fn transact(&self, rng: &mut SmallRng, versions: &Versions<'_>) -> Command {
        loop {
            let mut transact = Transact::default();
            for _ in 0..rng.random_range(0..=3) {
                let subject = if rng.random_bool(0.5) {
                    Subject::Key(key(rng))
                } else {
                    let (account, asset) = (self.account(rng), self.asset(rng));
                    Subject::Balance(BalanceKey { account, asset })
                };
                let mut version = versions(&subject);
                if rng.random_bool(0.05) {
                    version = CommitSeq::new(rng.random_range(0..=version.get()));
                }
                transact.reads.push(Read { subject, version });
            }
            for _ in 0..rng.random_range(0..=2) {
                let value = rng.random_bool(0.8).then(|| [rng.random::<u8>()].as_slice().into());
                transact.writes.push(Write { key: key(rng), value });
            }
            let transfers = rng.random_range(0..=2);
            transact.transfers = (0..transfers).map(|_| self.leg(rng)).collect();
            if transact.validate().is_ok() {
                return Command::Transact(Box::new(transact));
            }
        }
    }

    fn reference(&self, rng: &mut SmallRng) -> Box<str> {
        if rng.random_bool(self.shape.references) {
            format!("0x{}", rng.random_range(0..6)).into()
        } else {
            "".into()
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

/// One of few, so that transactions meet.
fn key(rng: &mut SmallRng) -> Key {
    Key::new(vec![b'k', rng.random_range(0..4)])
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
