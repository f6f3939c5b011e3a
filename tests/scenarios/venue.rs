//! A running engine with a few accounts, and what the stories do with it.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::after;
use tempfile::TempDir;

use crosslatch::config::Limits;
use crosslatch::engine::{Engine, HoldState, Options, Pending};
use crosslatch::error::Reject;
use crosslatch::message::AccountBalances;
use crosslatch::request::{Command, Outcome, Receipt, Request};
use crosslatch::types::{AccountId, AssetId, CommitSeq, Resolution, Token};

use crate::clock::TrapClock;
use crate::support::{PATIENCE, account, audit, fresh, opening, scratch};

/// An engine, its data and its clock.
pub struct Venue {
    /// `None` while it is stopped: a handle holds the directory.
    running: Option<Engine>,
    pub options: Options,
    pub clock: Arc<TrapClock>,
    accounts: u64,
    _data: TempDir,
}

impl Venue {
    /// A new venue with that many accounts, which have nothing.
    pub fn open(accounts: u64) -> Self {
        Self::with(accounts, |_| {})
    }

    /// The same with other limits.
    pub fn with(accounts: u64, change: impl FnOnce(&mut Limits)) -> Self {
        let data = scratch();
        let mut options = Options::new(data.path().join("data"));
        change(&mut options.limits);
        let clock = Arc::new(TrapClock::default());
        let running = Some(start(&options, &clock));
        let venue = Self { running, options, clock, accounts, _data: data };
        venue.settle_all(opening(accounts));
        venue
    }

    /// The running engine.
    pub fn engine(&self) -> &Engine {
        self.running.as_ref().expect("it was not stopped")
    }

    /// Sends requests; their outcomes, in order.
    pub fn send(&self, requests: Vec<Request>) -> Vec<Outcome> {
        outcomes(self.submit(requests))
    }

    /// Sends requests, and does not wait.
    pub fn submit(&self, requests: Vec<Request>) -> Pending {
        self.engine().submit(requests).expect("there is room")
    }

    /// Sends one request.
    pub fn ask(&self, request: &Request) -> Outcome {
        self.send(vec![request.clone()]).remove(0)
    }

    /// Does all of it, which must go.
    pub fn settle_all(&self, commands: impl IntoIterator<Item = Command>) -> Vec<Receipt> {
        self.send(fresh(commands)).into_iter().map(receipt).collect()
    }

    /// Does it, which must go.
    pub fn settle(&self, command: Command) -> Receipt {
        self.settle_all([command]).remove(0)
    }

    /// Tries it, which must be refused.
    pub fn refuse(&self, command: Command) -> Reject {
        refusal(self.send(fresh([command])).remove(0))
    }

    /// What an account has now.
    pub fn balance(&self, number: u64, asset: AssetId) -> u128 {
        let balances = self.engine().balances_blocking(account(number)).expect("an account");
        amount(&balances, asset)
    }

    /// What of it can be spent, and what is held.
    pub fn parts(&self, number: u64, asset: AssetId) -> (u128, u128) {
        let balances = self.engine().balances_blocking(account(number)).expect("an account");
        let of = balances.balances.iter().find(|balance| balance.asset == asset);
        of.map_or((0, 0), |of| (of.balance.available.get(), of.balance.held.get()))
    }

    /// Makes a hold, which must go; its token.
    pub fn hold(&self, command: Command) -> Token {
        self.settle(command).hold.expect("it makes a hold").token
    }

    /// What is known of a hold.
    pub fn state(&self, token: Token) -> HoldState {
        self.engine().hold(token).expect("it runs")
    }

    /// How a hold was resolved; `None` while it is open.
    pub fn how(&self, token: Token) -> Option<Resolution> {
        match self.state(token) {
            HoldState::Open(_) => None,
            HoldState::Resolved(how, _) => Some(how),
            HoldState::Unknown => panic!("there is no hold {token}"),
        }
    }

    /// Waits until something is so that other threads bring about.
    pub fn until(&self, is_so: impl Fn() -> bool) {
        let hangs = after(PATIENCE);
        while !is_so() {
            assert!(hangs.try_recv().is_err(), "it hangs");
            // Nothing comes but the time.
            let _ = after(Duration::from_millis(1)).recv();
        }
    }

    /// Latest balances of all accounts of the opening.
    pub fn balances(&self) -> Vec<AccountBalances> {
        let now = |number| self.engine().balances_blocking(account(number)).expect("an account");
        (0..self.accounts).map(now).collect()
    }

    /// Balances of all accounts of the opening as of a seq.
    pub fn balances_at(&self, at: CommitSeq) -> Vec<AccountBalances> {
        let then = |number| self.engine().balances_at(account(number), at).expect("an account");
        (0..self.accounts).map(then).collect()
    }

    /// The last seq.
    pub fn seq(&self) -> CommitSeq {
        self.engine().status().durable_seq
    }

    /// Stops, and lets go of the directory.
    pub fn stop(&mut self) {
        let engine = self.running.take().expect("it was not stopped");
        engine.stop().expect("it stops");
    }

    /// Stops, and starts again with other limits: everything must be as it was.
    pub fn restart(&mut self, change: impl FnOnce(&mut Limits)) {
        let before = (self.seq(), self.balances(), audit(self.engine()).assets);
        self.stop();
        change(&mut self.options.limits);
        self.recover();
        assert_eq!((self.seq(), self.balances(), audit(self.engine()).assets), before);
        assert_eq!(self.balances_at(self.seq()), before.1, "the version store has the same");
    }

    /// Starts on what was left by an engine that stopped, was poisoned or died.
    pub fn recover(&mut self) {
        self.running = None;
        self.running = Some(start(&self.options, &self.clock));
        audit(self.engine());
    }

    /// The end of every story.
    pub fn end(mut self) {
        assert_eq!(self.engine().status().in_flight, 0, "nothing is left in flight");
        self.restart(|_| {});
        self.stop();
    }
}

impl Drop for Venue {
    /// A test that fails ends, also with an actor in the trap.
    fn drop(&mut self) {
        self.clock.release();
    }
}

pub fn start(options: &Options, clock: &Arc<TrapClock>) -> Engine {
    Engine::start_with_clock(options.clone(), clock.clone()).expect("it starts")
}

pub fn outcomes(pending: Pending) -> Vec<Outcome> {
    let answers = pending.wait().expect("it runs");
    (0..answers.len()).map(|index| answers.outcome(index)).collect()
}

/// The receipt of what must have settled.
pub fn receipt(outcome: Outcome) -> Receipt {
    match outcome {
        Outcome::Settled(receipt) => receipt,
        Outcome::Rejected(refusal) => panic!("refused: {refusal:?}"),
    }
}

/// Why it was refused, as it must have been.
pub fn refusal(outcome: Outcome) -> Reject {
    match outcome {
        Outcome::Settled(receipt) => panic!("settled: {receipt:?}"),
        Outcome::Rejected(refusal) => refusal.reject,
    }
}

/// What of an asset is among the balances.
pub fn amount(balances: &AccountBalances, asset: AssetId) -> u128 {
    let of = balances.balances.iter().find(|balance| balance.asset == asset);
    of.map_or(0, |balance| balance.balance.total().get())
}

/// Two accounts of the first hundred, on one shard or on two.
pub fn pair(shards: usize, together: bool) -> (u64, u64) {
    let shard = |number| AccountId::new(number).shard(shards);
    let other = (1..100).find(|other| (shard(0) == shard(*other)) == together);
    (0, other.expect("a hundred accounts are on all shards"))
}
