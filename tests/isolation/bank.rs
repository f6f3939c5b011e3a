//! A bank: a few accounts between which money moves in every way that there is, while others look.
//!
//! Swaps alone and several at a time, amounts set aside and moved, given back, or left to expire, some
//! exclusively, and transactions that first look at what there is. Balances are read by one question
//! for all of them, by transactions that only read, and account by account.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::engine::{Engine, Known, TransactError};
use crosslatch::error::Reject;
use crosslatch::request::{Action, Command, Outcome, Request};
use crosslatch::types::{Balance, BalanceKey, CommitSeq, Leg, Token};

use crate::child;
use crate::clients::{CLIENTS, Fate, Plan, kills, run, transactions, write_down};
use crate::ledger::{Auditor, Ledger, Places, in_words};
use crate::support::{
    ETH, SOL, account, audit, block_on, deposit, fresh, leg, opening, prepare, resolve, scratch,
    seed, swap,
};

const ACCOUNTS: u64 = 8;
/// The assets that move, of the three that there are.
const PLACES: Places = Places { accounts: ACCOUNTS, assets: 2 };
const FUNDS: u128 = 1_000;
/// About so many bytes are written down of each question.
const BYTES_EACH: u64 = 100;

// ---- The child: one engine and its clients.

struct Client<'a> {
    engine: &'a Engine,
    number: u64,
    rng: SmallRng,
    /// Holds that it has made and not resolved.
    tokens: Vec<Token>,
}

fn child_main(plan: &Plan) {
    let engine = plan.start();
    let asked = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (engine, asked) = (&engine, &asked);
            scope.spawn(move || {
                let rng = SmallRng::seed_from_u64(plan.seed ^ (plan.first << 8) ^ number);
                let mut client = Client { engine, number, rng, tokens: Vec::new() };
                while asked.fetch_add(1, Ordering::Relaxed) < plan.enough {
                    client.ask();
                }
            });
        }
    });
    engine.stop().expect("it stops");
}

impl Client<'_> {
    fn ask(&mut self) {
        write_down(&format!("asks {}", self.number));
        match self.rng.random_range(0..100) {
            0..25 => {
                let swaps = self.rng.random_range(1..=3);
                let swaps = (0..swaps).map(|_| swap(self.exchange())).collect();
                self.submit(swaps);
            }
            25..42 => self.prepare(),
            42..58 => self.resolve(),
            58..75 => self.transact(),
            75..88 => self.look_at_all(),
            88..95 => self.look_in_a_transaction(),
            _ => self.look_at_one(),
        }
    }

    /// Writes down an answer: of which seq it is, and how far the engine is now.
    fn told(&self, what: &str, seq: CommitSeq, rest: &str) {
        let durable = self.engine.status().durable_seq;
        write_down(&format!("{what} {} {seq} {durable} {rest}", self.number));
    }

    fn two_accounts(&mut self) -> (u64, u64) {
        let a = self.rng.random_range(0..ACCOUNTS);
        (a, (a + self.rng.random_range(1..ACCOUNTS)) % ACCOUNTS)
    }

    fn exchange(&mut self) -> [Leg; 2] {
        let (a, b) = self.two_accounts();
        let [give, take] = [0; 2].map(|_: u8| self.rng.random_range(1..400));
        [leg(a, b, ETH, give), leg(b, a, SOL, take)]
    }

    fn submit(&mut self, commands: Vec<Command>) -> Vec<Outcome> {
        let requests = fresh(commands);
        let pending = self.engine.submit(requests.clone()).expect("there is room");
        let answers = pending.wait().expect("it runs until it is killed");
        let outcomes: Vec<_> = (0..answers.len()).map(|place| answers.outcome(place)).collect();
        for (request, outcome) in requests.iter().zip(&outcomes) {
            self.outcome(request, outcome);
        }
        outcomes
    }

    fn outcome(&self, request: &Request, outcome: &Outcome) {
        let refusal = match outcome {
            Outcome::Settled(receipt) => {
                let id = receipt.request_id.to_string();
                return self.told("settled", receipt.commit_seq, &id);
            }
            Outcome::Rejected(refusal) => refusal,
        };
        match &refusal.reject {
            Reject::InsufficientFunds { account, asset, short_by, seq } => {
                let place = PLACES.of(*account, *asset);
                let pays = -PLACES.net(legs_of(&request.command))[&place];
                self.told("short", refusal.seq, &format!("{place} {short_by} {seq} {pays}"));
            }
            Reject::AlreadyResolved { token, how, seq } => {
                self.told("resolved", refusal.seq, &format!("{token} {how} {seq}"));
            }
            Reject::Conflict { .. } | Reject::LockTimeout { .. } => {
                self.told("refused", refusal.seq, refusal.reject.code());
            }
            other => panic!("{other} of {request:?}"),
        }
    }

    /// Sets amounts aside, for long or for an instant, and some of them exclusively.
    fn prepare(&mut self) {
        let legs = self.exchange();
        let exclusive = self.rng.random_bool(0.15);
        let expires_in_ms = if exclusive { [1, 5] } else { [3, 2_000] };
        let expires_in_ms = expires_in_ms[self.rng.random_range(0..2)];
        for outcome in self.submit(vec![prepare(legs, expires_in_ms, exclusive)]) {
            if let Outcome::Settled(receipt) = outcome {
                self.tokens.push(receipt.hold.expect("it made one").token);
            }
        }
    }

    fn resolve(&mut self) {
        if self.tokens.is_empty() {
            return self.look_at_all();
        }
        let token = self.tokens.swap_remove(self.rng.random_range(0..self.tokens.len()));
        let commit = self.rng.random_bool(0.6);
        let action = if commit { Action::Commit } else { Action::Rollback };
        self.submit(vec![resolve(token, action)]);
    }

    /// Looks at two accounts, and moves half of what is there.
    fn transact(&mut self) {
        let (a, b) = self.two_accounts();
        let mut transaction = self.engine.begin().expect("it runs until it is killed");
        let mut seen = Vec::new();
        let mut legs = Vec::new();
        for (from, to, asset) in [(a, b, ETH), (b, a, SOL)] {
            let balance = transaction.balance(account(from), asset);
            let balance = balance.expect("it runs until it is killed");
            seen.push(in_words(PLACES.of(account(from), asset), balance));
            let half = balance.available.get() / 2;
            if half > 0 {
                legs.push(leg(from, to, asset, half));
            }
        }
        legs.iter().for_each(|leg| transaction.transfer(*leg));
        let (id, snapshot) = (transaction.request_id(), transaction.snapshot());
        match transaction.commit() {
            Ok(committed) if legs.is_empty() => self.told("saw", committed.seq, &seen.join(" ")),
            Ok(committed) => {
                assert!(committed.seq > snapshot, "it committed before it read");
                self.told("transacted", committed.seq, &format!("{id} {}", seen.join(" ")));
            }
            Err(TransactError::Conflict(_)) => match self.engine.known(id) {
                Ok(Known::Outcome(Outcome::Rejected(refusal))) => {
                    self.told("refused", refusal.seq, refusal.reject.code());
                }
                other => panic!("it was refused, and is {other:?}"),
            },
            // What it saw, and moved half of, is there or has changed.
            Err(error) => panic!("{error}"),
        }
    }

    fn look_at_all(&mut self) {
        let keys: Vec<BalanceKey> = all_keys().collect();
        let many = block_on(self.engine.balances_of(&keys)).expect("it runs until it is killed");
        let balances = keys.iter().zip(many.balances.iter().map(|(balance, _)| *balance));
        self.saw(many.seq, balances.map(|(key, balance)| (*key, balance)).collect());
    }

    fn look_in_a_transaction(&mut self) {
        let mut transaction = self.engine.begin().expect("it runs until it is killed");
        let balances = all_keys().map(|key| {
            let balance = transaction.balance(key.account, key.asset);
            (key, balance.expect("it runs until it is killed"))
        });
        let balances = balances.collect();
        let committed = transaction.commit().expect("it only reads");
        self.saw(committed.seq, balances);
    }

    fn look_at_one(&mut self) {
        let account = account(self.rng.random_range(0..ACCOUNTS));
        let found = self.engine.balances_blocking(account).expect("it runs until it is killed");
        let balances = found.balances.iter();
        let key = |asset| BalanceKey { account, asset };
        self.saw(found.seq, balances.map(|now| (key(now.asset), now.balance)).collect());
    }

    fn saw(&self, seq: CommitSeq, balances: Vec<(BalanceKey, Balance)>) {
        let words = balances
            .into_iter()
            .map(|(key, balance)| in_words(PLACES.of(key.account, key.asset), balance));
        self.told("saw", seq, &words.collect::<Vec<_>>().join(" "));
    }
}

fn all_keys() -> impl Iterator<Item = BalanceKey> {
    let of = |number| [ETH, SOL].map(|asset| BalanceKey { account: account(number), asset });
    (0..ACCOUNTS).flat_map(of)
}

fn legs_of(command: &Command) -> &[Leg] {
    match command {
        Command::Swap(swap) => swap.legs(),
        Command::Prepare(prepare) => prepare.swap.legs(),
        other => panic!("{} pays nothing", other.kind()),
    }
}

// ---- The parent: keeps the history, and holds it against the receipts.

/// Runs clients until they have asked so much, and kills them so often on the way.
fn history(test: &str, plan: &mut Plan, kills: u64, wanted: u64) -> Vec<String> {
    let mut rng = SmallRng::seed_from_u64(plan.seed);
    let mut history: Vec<String> = Vec::new();
    let asked =
        |history: &[String]| history.iter().filter(|line| line.starts_with("asks")).count() as u64;
    for round in 0..=kills {
        let left = wanted.saturating_sub(asked(&history)).max(1);
        let dies = round < kills;
        plan.shards = rng.random_range(1..=3);
        plan.first = round;
        plan.enough = if dies { u64::MAX } else { left };
        let bytes = (2 * wanted / (kills + 1) * BYTES_EACH) as usize;
        let fate = if dies { Fate::some(&mut rng, bytes) } else { Fate::Lives };
        history.extend(run(test, plan, fate));
    }
    history
}

fn open(plan: &Plan) {
    let engine = plan.start();
    let funds =
        (0..ACCOUNTS).flat_map(|number| [ETH, SOL].map(|asset| deposit(number, asset, FUNDS)));
    let requests = fresh(opening(ACCOUNTS).into_iter().chain(funds));
    let answers = engine.submit(requests).expect("there is room").wait().expect("it runs");
    let settled = |place| matches!(answers.outcome(place), Outcome::Settled(_));
    assert!((0..answers.len()).all(settled));
    engine.stop().expect("it stops");
}

/// All receipts that there are, after a restart.
fn ledger(plan: &Plan) -> Ledger {
    let engine = plan.start();
    let mut ledger = Ledger::new(PLACES);
    // Holds may still expire meanwhile.
    let last = engine.status().durable_seq;
    for seq in 1..=last.get() {
        let receipt = engine.receipt_at(CommitSeq::new(seq)).expect("it is readable");
        let receipt = receipt.unwrap_or_else(|| panic!("seq {seq} is missing"));
        ledger.add(receipt).expect("value is neither made nor lost");
    }
    audit(&engine);
    engine.stop().expect("it stops");
    ledger
}

fn check(test: &str, kills: u64, seed: u64) {
    let (data, wanted) = (scratch(), transactions());
    let data_dir = data.path().join("data");
    let mut plan = Plan { data: data_dir, shards: 2, seed, first: 0, enough: 0 };
    open(&plan);
    let history = history(test, &mut plan, kills, wanted);
    let ledger = ledger(&plan);
    let opened = opening(ACCOUNTS).len() + PLACES.count();
    for seq in opened..=ledger.len() {
        assert_eq!(ledger.totals(seq), [FUNDS * u128::from(ACCOUNTS); 2], "at seq {seq}");
    }
    let mut auditor = Auditor::new(&ledger);
    for line in &history {
        auditor.check(line).unwrap_or_else(|why| panic!("{why}"));
    }
    let (answers, overtaken) = (&auditor.answers, auditor.overtaken);
    eprintln!("{} receipts, {kills} kills, {answers:?}, {overtaken} overtaken", ledger.len());
    for kind in ["settled", "transacted", "saw", "short", "resolved", "refused"] {
        let some = answers.get(kind).is_some_and(|some| *some > 5);
        assert!(some, "hardly anybody {kind}: this tests nothing");
    }
    assert!(overtaken > history.len() / 100, "nobody met anybody: this tests nothing");
}

#[test]
fn a_bank_of_twenty_clients_always_tells_the_truth() {
    if let Some(part) = child::part() {
        return child_main(&Plan::from_text(&part));
    }
    check("bank::a_bank_of_twenty_clients_always_tells_the_truth", 0, seed(61));
}

#[test]
fn a_bank_of_twenty_clients_does_so_when_the_engine_is_killed() {
    if let Some(part) = child::part() {
        return child_main(&Plan::from_text(&part));
    }
    check("bank::a_bank_of_twenty_clients_does_so_when_the_engine_is_killed", kills(), seed(62));
}
