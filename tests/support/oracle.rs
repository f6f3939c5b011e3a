//! The engine as one would write it without threads, disk or speed: maps, and one request after
//! another. What it says is what the engine must come to.
//!
//! Everything that settled is replayed in the order of the seqs. A seq that no request has is the
//! end of a hold or an order whose time was over, which nobody asked for: it is looked up in the
//! engine, and nothing else may be found there. What a state says to a command is in `rules`, and
//! what markets say to it in `books`.
//!
//! Two refusals cannot be judged by any single state: that an exclusive hold was in the way for too
//! long, and that something was undecided too often. They are believed where it can have been so.

#[path = "books.rs"]
pub mod books;
#[path = "callers.rs"]
mod callers;
#[path = "rules.rs"]
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::Rng;
use rand::rngs::SmallRng;

use crosslatch::access::Caller;
use crosslatch::address::Link;
use crosslatch::config::Limits;
use crosslatch::engine::{Engine, HoldState};
use crosslatch::error::{OrderFault, Reject};
use crosslatch::message::{AccountBalances, BalanceNow};
use crosslatch::request::{
    Action, AmendOrder, AssetSpec, Command, Hold, Outcome, Receipt, Refusal, Request, Resolve,
};
use crosslatch::store::RecordVersion;
use crosslatch::types::{
    AccountId, AssetId, Balance, BalanceKey, ChainId, CommitSeq, Key, Leg, RequestId, Resolution,
    Subject, Token,
};

use crate::support::audit;
use books::{Books, Standings};
use callers::Callers;

/// The seq under which it happened, or the one that it saw.
pub fn seq_of(outcome: &Outcome) -> CommitSeq {
    match outcome {
        Outcome::Settled(receipt) => receipt.commit_seq,
        Outcome::Rejected(refusal) => refusal.seq,
    }
}

/// Why it was refused, if it was.
pub fn reject(outcome: &Outcome) -> Option<&Reject> {
    match outcome {
        Outcome::Settled(_) => None,
        Outcome::Rejected(refusal) => Some(&refusal.reject),
    }
}

/// Whether it is the answer to another request, which had done the same before.
pub fn is_repeat(request: &Request, outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Settled(receipt) if receipt.request_id != request.id)
}

/// A hold, open or resolved.
#[derive(Clone, Debug)]
struct Held {
    hold: Hold,
    /// What is set aside, and of whom.
    amounts: Vec<(BalanceKey, u128)>,
    /// How it was resolved, under which seq, by which request.
    resolved: Option<(Resolution, CommitSeq, RequestId)>,
}

impl Held {
    fn is_open(&self) -> bool {
        self.resolved.is_none()
    }

    fn is_of(&self, account: AccountId) -> bool {
        self.amounts.iter().any(|(key, _)| key.account == account)
    }
}

/// A value, or that it was deleted.
type Value = Option<Arc<[u8]>>;

/// A venue with everything that ever happened in it.
#[derive(Debug, Default)]
pub struct Oracle {
    limits: Limits,
    /// Whether one request comes after another, so that each sees one state.
    strict: bool,
    assets: Vec<AssetSpec>,
    accounts: BTreeMap<AccountId, BTreeMap<ChainId, Link>>,
    /// Every version of every balance, ascending.
    balances: BTreeMap<BalanceKey, Vec<(CommitSeq, Balance)>>,
    /// Every version of every value, ascending.
    records: BTreeMap<Key, Vec<(CommitSeq, Value)>>,
    holds: BTreeMap<Token, Held>,
    /// Of the holds those that are open.
    open: BTreeSet<Token>,
    /// Balances that an open exclusive hold locks.
    locks: BTreeMap<BalanceKey, Token>,
    ever_locked: BTreeSet<BalanceKey>,
    /// The deposit that has the reference.
    credited: BTreeMap<(AssetId, Box<str>), CommitSeq>,
    supply: BTreeMap<AssetId, u128>,
    /// The markets.
    pub books: Books,
    /// Keys, and what the venue takes.
    callers: Callers,
    /// Repeats that were barred where what they repeat was, so that their key must have got its rights
    /// later: an answer that repeats another does not say where it was given.
    barred: Vec<(Caller, Command)>,
    /// Amendments that were refused because the balance has less than that: [`Books::costs`].
    too_dear: Vec<(AmendOrder, BalanceKey, u128)>,
    /// Amendments that were refused by the set-up of their market, of orders that do not stand.
    too_early: Vec<(AmendOrder, OrderFault)>,
    /// What markets were seen to have as of a seq: each is compared when the seq is reached.
    pub seen_books: BTreeMap<CommitSeq, Vec<Standings>>,
    seq: CommitSeq,
    /// How often what was seen: kinds of commands that settled, codes of refusals.
    seen: BTreeMap<&'static str, usize>,
}

impl Oracle {
    /// An empty venue.
    pub fn new(limits: &Limits) -> Self {
        let books = Books::new(limits.orders_per_market_max);
        Self { limits: limits.clone(), books, ..Self::default() }
    }

    /// From now on one request comes after another: of several reasons the first must be given, and
    /// what share of a balance is held is looked at where it is decided.
    pub fn be_strict(&mut self) {
        self.strict = true;
    }

    /// The last seq.
    pub fn seq(&self) -> CommitSeq {
        self.seq
    }

    /// How often a kind of command settled, a code was the answer, or: `repeat`, the answer was an
    /// earlier one's; `busy`, a transaction met something undecided too often. All of `rare` must be
    /// among it.
    pub fn seen(&self, rare: &[&str]) -> &BTreeMap<&'static str, usize> {
        for what in rare {
            assert!(self.seen.contains_key(what), "{what}: never, so it was not tested");
        }
        &self.seen
    }

    /// Whether an exclusive hold ever locked the balance.
    pub fn was_locked(&self, key: BalanceKey) -> bool {
        self.ever_locked.contains(&key)
    }

    /// Holds that are open.
    pub fn open_holds(&self) -> impl Iterator<Item = &Hold> {
        self.open.iter().map(|token| &self.holds[token].hold)
    }

    /// The account's balances as of a seq, by asset, as the engine shows them.
    pub fn balances_at(&self, account: AccountId, at: CommitSeq) -> AccountBalances {
        let assets = (0..self.assets.len()).map(|asset| AssetId::new(asset as u32));
        let version = |asset| {
            let versions = self.balances.get(&BalanceKey { account, asset })?;
            let (version, balance) = versions.iter().rev().find(|(seq, _)| *seq <= at)?;
            Some(BalanceNow { asset, balance: *balance, version: *version })
        };
        AccountBalances { seq: at, balances: assets.filter_map(version).collect() }
    }

    /// The value as of a seq, as the engine shows it.
    pub fn record_at(&self, key: &Key, at: CommitSeq) -> Option<RecordVersion> {
        let versions = self.records.get(key)?;
        let (seq, value) = versions.iter().rev().find(|(seq, _)| *seq <= at)?;
        Some(RecordVersion { seq: *seq, value: value.clone() })
    }

    /// The seq that something was last changed by.
    pub fn version(&self, subject: &Subject) -> CommitSeq {
        let last = match subject {
            Subject::Key(key) => {
                self.records.get(key).and_then(|all| all.last()).map(|(seq, _)| *seq)
            }
            Subject::Balance(key) => {
                self.balances.get(key).and_then(|all| all.last()).map(|(seq, _)| *seq)
            }
        };
        last.unwrap_or_default()
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Takes everything that was answered, in the order of the seqs.
    pub fn replay(&mut self, engine: &Engine, answered: &[(Request, Outcome)]) {
        let mut in_order: Vec<&(Request, Outcome)> = answered.iter().collect();
        // A refusal saw what settled under its seq, and a repeat is one of that.
        in_order.sort_by_key(|(request, outcome)| {
            (seq_of(outcome), reject(outcome).is_some() || is_repeat(request, outcome))
        });
        for (request, outcome) in in_order {
            self.take(engine, request, outcome);
        }
        assert!(self.barred.is_empty(), "answered, and never allowed to: {:?}", self.barred);
    }

    /// Takes an outcome that saw everything that happened so far, and nothing else but ends of
    /// holds and orders.
    pub fn take(&mut self, engine: &Engine, request: &Request, outcome: &Outcome) {
        match outcome {
            Outcome::Settled(receipt) if is_repeat(request, outcome) => {
                self.repeat(request, receipt);
            }
            Outcome::Settled(receipt) => {
                assert_eq!(receipt.caller, request.caller, "who asked: {receipt:?}");
                self.catch_up(engine, CommitSeq::new(receipt.commit_seq.get() - 1));
                self.settle(&request.command, receipt);
            }
            Outcome::Rejected(refusal) => {
                assert_eq!((refusal.request_id, refusal.caller), (request.id, request.caller));
                self.catch_up(engine, refusal.seq);
                self.refuse(request, refusal);
            }
        }
    }

    /// Takes what happened up to a seq without anybody asking for it: ends of holds and orders.
    pub fn catch_up(&mut self, engine: &Engine, to: CommitSeq) {
        while self.seq < to {
            let next = self.seq.next();
            let found = engine.receipt_at(next).expect("it runs");
            let receipt = found.unwrap_or_else(|| panic!("nobody has seq {next}"));
            let is_expiry = matches!(
                receipt.command,
                Command::Resolve(Resolve { action: Action::Expire, .. }) | Command::ExpireOrder(_)
            );
            assert!(is_expiry, "nobody asked for {receipt:?}");
            self.settle(&receipt.command.clone(), &receipt);
        }
    }

    /// Takes the next thing that happened: it must have been possible, and its receipt be right.
    fn settle(&mut self, command: &Command, receipt: &Receipt) {
        assert_eq!(receipt.commit_seq, self.seq.next(), "seqs are dense: {receipt:?}");
        assert_eq!(&receipt.command, command, "a receipt says what was asked for");
        let mut reasons = self.reasons(receipt.caller, command);
        if !self.strict {
            // It was granted when less was about to leave.
            reasons.retain(|code| *code != "held_share_exceeded");
        }
        assert!(reasons.is_empty(), "settled, but had to be refused as {reasons:?}: {receipt:?}");
        if let Some(token) = self.lock_in_the_way(command) {
            panic!("hold {token} has locked what this needs: {receipt:?}");
        }
        let rows = match &receipt.settlement {
            Some(told) => self.play(receipt, told),
            None => self.rows(command),
        };
        assert_eq!(receipt.settlement.is_some(), command.is_of_market(), "{receipt:?}");
        self.check_receipt(receipt, &rows);
        self.seq = receipt.commit_seq;
        for (key, (_, after)) in rows {
            self.balances.entry(key).or_default().push((self.seq, after));
        }
        self.apply(command, receipt);
        self.saw(command.kind());
        if receipt.caller != Caller::Trusted {
            self.saw("by_key");
        }
        for found in self.seen_books.remove(&self.seq).unwrap_or_default() {
            assert_eq!(found, self.books.standings(), "the books as of {}", self.seq);
        }
    }

    /// Takes a refusal: it must be what the state that it saw calls for, which is the present one.
    fn refuse(&mut self, request: &Request, refusal: &Refusal) {
        let Refusal { reject, seq, time, .. } = refusal;
        assert_eq!(*seq, self.seq, "the state that it saw: {refusal:?}");
        let command = &request.command;
        if *reject == Reject::Expired {
            assert!(*time >= request.deadline, "{refusal:?} of {request:?}");
            return self.saw("expired");
        }
        if self.is_about_waiting(command, reject) || self.is_about_amending(request, reject) {
            return;
        }
        let reasons = self.reasons(request.caller, command);
        let code = reject.code();
        let first = reasons.iter().min_by_key(|code| precedence(code)).copied();
        // Of what sets aside or reads, one shard may say no to one state and another to another.
        let many =
            matches!(command, Command::Prepare(_) | Command::Withdraw(_) | Command::Transact(_));
        // What is plainly wrong with an order is said before its account is asked for funds.
        let any = many && !self.strict || command.is_of_market();
        let right = if any { reasons.contains(&code) } else { first == Some(code) };
        assert!(right, "{refusal:?}, and the reasons are {reasons:?}: {command:?}");
        self.check_claim(request, reject);
        self.saw(code);
    }

    /// Takes an answer that repeats that of an earlier request: it asked for what that one did.
    fn repeat(&mut self, request: &Request, first: &Receipt) {
        let Command::Resolve(Resolve { token, action }) = request.command else {
            panic!("answered as another request was: {request:?}, {first:?}");
        };
        if self.barred(request.caller, &request.command).is_some() {
            self.barred.push((request.caller, request.command.clone()));
        }
        let held = &self.holds[&token];
        assert!(action.fits(&held.hold.purpose), "{request:?}, {first:?}");
        let done = held.resolved.expect("it was resolved");
        assert_eq!(done, (action.resolution(), first.commit_seq, first.request_id), "{request:?}");
        self.saw("repeat");
    }

    /// Carries out what nothing refuses, but for the balances.
    fn apply(&mut self, command: &Command, receipt: &Receipt) {
        let seq = self.seq;
        match command {
            Command::Swap(_) => {}
            Command::Deposit(to) => {
                *self.supply.entry(to.asset).or_default() += to.amount.get();
                if !to.reference.is_empty() {
                    self.credited.insert((to.asset, to.reference.clone()), seq);
                }
            }
            Command::Withdraw(_) | Command::Prepare(_) => self.open(command, receipt),
            Command::Resolve(resolve) => self.resolve(*resolve, receipt),
            Command::Transact(transact) => {
                for write in &transact.writes {
                    let versions = self.records.entry(write.key.clone()).or_default();
                    versions.push((seq, write.value.clone()));
                }
            }
            Command::PutAsset(spec) if self.assets.contains(spec) => {}
            Command::PutAsset(spec) => self.assets.push(spec.clone()),
            Command::PutAccount { account, links } => {
                let known = self.accounts.entry(*account).or_default();
                known.extend(links.iter().map(|link| (link.chain, link.clone())));
            }
            Command::RemoveLink { account, chain } => {
                self.accounts.entry(*account).or_default().remove(chain);
            }
            Command::PutMarket(spec) => self.books.put(spec),
            Command::SwitchMarket { market, halted } => self.books.switch(*market, *halted),
            Command::PutKey(_) | Command::RevokeKey(_) | Command::Operate(_) => {
                self.callers.apply(command);
                let mut barred = std::mem::take(&mut self.barred);
                barred.retain(|(caller, command)| self.barred(*caller, command).is_some());
                self.barred = barred;
            }
            // Done when its rows were made.
            Command::Order(_)
            | Command::Amend(_)
            | Command::Cancel(_)
            | Command::ExpireOrder(_)
            | Command::CancelAll { .. } => {}
        }
    }

    fn open(&mut self, command: &Command, receipt: &Receipt) {
        let hold = rules::hold_of(command, receipt);
        let (token, exclusive) = (hold.token, hold.exclusive);
        let amounts = rules::set_aside(command);
        if exclusive {
            for (key, _) in &amounts {
                assert_eq!(self.locks.insert(*key, token), None, "locked twice: {receipt:?}");
                self.ever_locked.insert(*key);
            }
        }
        let held = Held { hold, amounts, resolved: None };
        assert!(self.holds.insert(token, held).is_none(), "two holds of one token: {receipt:?}");
        self.open.insert(token);
    }

    fn resolve(&mut self, resolve: Resolve, receipt: &Receipt) {
        let Resolve { token, action } = resolve;
        self.open.remove(&token);
        let held = self.holds.get_mut(&token).expect("it was there");
        held.resolved = Some((action.resolution(), self.seq, receipt.request_id));
        for (key, amount) in &held.amounts {
            if held.hold.exclusive {
                assert_eq!(self.locks.remove(key), Some(token));
            }
            if action == Action::Confirm {
                *self.supply.entry(key.asset).or_default() -= amount;
            }
        }
    }

    /// An engine in which nothing goes on, but that holds may end, must have all of this, and
    /// nothing else.
    pub fn check(&mut self, engine: &Engine) {
        self.catch_up(engine, engine.status().durable_seq);
        for account in self.accounts.keys().copied().collect::<Vec<_>>() {
            self.check_now(engine, account);
        }
        let audit = audit(engine);
        for asset in audit.assets {
            let supply = self.supply.get(&asset.asset).copied().unwrap_or(0);
            assert_eq!(asset.supply.get(), supply, "of asset {}", asset.asset);
        }
        for key in self.records.keys() {
            let now = engine.record(key, None).expect("it runs");
            assert_eq!(now, self.record_at(key, self.seq), "of key {key}");
        }
        for token in self.open.clone() {
            self.check_hold(engine, token);
        }
        self.check_held();
    }

    fn check_now(&mut self, engine: &Engine, account: AccountId) {
        let now = engine.balances_blocking(account).expect("a known account");
        self.catch_up(engine, now.seq);
        assert_eq!(now, self.balances_at(account, now.seq), "of account {account}");
    }

    /// The engine says of a hold what became of it.
    fn check_hold(&mut self, engine: &Engine, token: Token) {
        let before = self.seq;
        let state = engine.hold(token).expect("it runs");
        self.catch_up(engine, engine.status().durable_seq);
        let Some(Held { hold, resolved, .. }) = self.holds.get(&token) else {
            assert_eq!(state, HoldState::Unknown, "of {token}");
            return;
        };
        match state {
            HoldState::Open(found) => {
                assert_eq!(*found, *hold);
                assert!(resolved.is_none_or(|(_, seq, _)| seq > before), "{token} is resolved");
            }
            HoldState::Resolved(how, receipt) => {
                let by = Some((how, receipt.commit_seq, receipt.request_id));
                assert_eq!(by, *resolved, "of {token}");
            }
            HoldState::Unknown => panic!("hold {token} is lost"),
        }
    }

    /// What is held is what the open holds and orders hold; and who was told that an amendment is
    /// too dear was told what it cost.
    pub fn check_held(&self) {
        let mut held: BTreeMap<BalanceKey, u128> = BTreeMap::new();
        let by_holds = self.open.iter().flat_map(|token| &self.holds[token].amounts).copied();
        for (key, amount) in by_holds.chain(self.books.held()) {
            *held.entry(key).or_default() += amount;
        }
        for (amend, key, units) in &self.too_dear {
            let costs = self.books.costs(amend);
            assert!(costs.contains(&(*key, *units)), "{amend:?} cost {costs:?}, not {units}");
        }
        for (amend, fault) in &self.too_early {
            assert!(self.books.breaks_set_up(amend, fault), "{amend:?}: {fault:?}");
        }
        for (key, versions) in &self.balances {
            let (_, balance) = versions.last().expect("a version");
            let expected = held.get(key).copied().unwrap_or(0);
            assert_eq!(balance.held.get(), expected, "of {key:?}");
        }
    }

    /// Some account, value and hold must be in it as of some seq, and as of now.
    pub fn check_some(&mut self, engine: &Engine, rng: &mut SmallRng) {
        self.catch_up(engine, engine.status().durable_seq);
        let at = CommitSeq::new(rng.random_range(0..=self.seq.get()));
        let account = *some(self.accounts.keys(), rng).expect("there are accounts");
        self.check_now(engine, account);
        let then = engine.balances_at(account, at).expect("a known account");
        assert_eq!(then, self.balances_at(account, at), "of account {account}");
        if let Some(key) = some(self.records.keys(), rng) {
            let then = engine.record(key, Some(at)).expect("it runs");
            assert_eq!(then, self.record_at(key, at), "of key {key}");
        }
        if let Some(token) = some(self.holds.keys(), rng).copied() {
            self.check_hold(engine, token);
        }
    }
}

/// What each balance gives and gets by the legs.
pub fn moves(legs: &[Leg]) -> Result<BTreeMap<BalanceKey, (u128, u128)>, &'static str> {
    let mut moves: BTreeMap<BalanceKey, (u128, u128)> = BTreeMap::new();
    for Leg { from, to, asset, amount } in legs.iter().copied() {
        let (out, _) = moves.entry(BalanceKey { account: from, asset }).or_default();
        *out = out.checked_add(amount.get()).ok_or("malformed")?;
        let (_, into) = moves.entry(BalanceKey { account: to, asset }).or_default();
        *into = into.checked_add(amount.get()).ok_or("malformed")?;
    }
    if moves.values().all(|(out, into)| out == into) { Err("malformed") } else { Ok(moves) }
}

fn some<T>(mut all: impl ExactSizeIterator<Item = T>, rng: &mut SmallRng) -> Option<T> {
    if all.len() == 0 { None } else { all.nth(rng.random_range(0..all.len())) }
}

/// The place of a code in the order of precedence.
fn precedence(code: &str) -> usize {
    Reject::CODES.iter().position(|other| *other == code).expect("a code")
}
