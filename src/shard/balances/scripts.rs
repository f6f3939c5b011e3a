//! Scripts about one shard's balances: `tests/scripts/balances`.
//!
//! The shard is number 0 of 2 and starts at seq 10. Every line of requests is a batch:
//!
//! ```text
//! held share 50                    percent of a balance that may be set aside; before all else
//! funds alice 100 ETH              a balance that recovery found; `... and 20 held`
//! lock alice ETH                   an exclusive hold that recovery found, made by `before`
//! record k at 5                    a key that recovery found
//! t1: pay alice 80 ETH             asks; `t1: ...; t2: ...` asks two in one batch
//! r1: commits p1                   resolves a hold; also `rolls back`, `confirms`, `cancels`, `expires`
//! commit t1 t2, abort t3, defer t4 one decision, in that order of commits
//! settle link alice addr on 2      a directory change, asked and committed
//! show alice ETH                   what is there, granted and waited for
//! key k                            its version, and who uses it
//! read alice                       what a client is shown; `read alice ETH, bob SOL` reads two
//! totals
//! quiet
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use super::*;
use crate::directory::Directory;
use crate::message::{Applied, Batch, Decision, RefusedTxn, RepeatedTxn, Vote, Votes};
use crate::request::{Action, Hold, Purpose, Request, Resolve};
use crate::scripts::{
    ASSETS, Script, account, amount, asset, balance_name, key, reason, request, run_folder,
    subject_name,
};
use crate::shard::queue::Wide;
use crate::types::{RequestId, Time};

const START: CommitSeq = CommitSeq::new(10);

struct Shard {
    balances: Balances,
    directory: Directory,
    names: HashMap<String, TxnRef>,
    batches: Vec<SharedBatch>,
    decisions: u64,
}

impl Script for Shard {
    fn start() -> Self {
        Self {
            balances: Balances::new(0, 2, START, 100),
            directory: crate::scripts::directory(),
            names: HashMap::new(),
            batches: Vec::new(),
            decisions: 0,
        }
    }

    fn command(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["held", "share", percent] => {
                self.balances = Balances::new(0, 2, START, percent.parse().expect("a number"));
                Vec::new()
            }
            ["funds", whose, units, of] => self.fund(whose, units, of, "0"),
            ["funds", whose, units, of, "and", held, "held"] => self.fund(whose, units, of, held),
            ["lock", whose, of] => {
                self.balances.restore_lock(balance(whose, of), Token::default());
                Vec::new()
            }
            ["record", name, "at", seq] => {
                let version = CommitSeq::new(seq.parse().expect("a seq"));
                self.balances.restore_record(&key(name), version);
                Vec::new()
            }
            ["commit" | "abort" | "defer" | "repeat", ..] => self.decide(line),
            ["settle", ..] => self.settle(line.trim_start_matches("settle ")),
            ["show", whose, of] => vec![self.show(whose, of)],
            ["key", name] => vec![self.show_key(name)],
            ["read", whose] => vec![self.read(whose)],
            ["read", ..] => vec![self.read_many(line.trim_start_matches("read "))],
            ["totals"] => vec![self.totals()],
            ["quiet"] => vec![if self.balances.is_quiet() { "quiet" } else { "busy" }.into()],
            _ => self.ask(line),
        }
    }
}

fn balance(whose: &str, of: &str) -> BalanceKey {
    BalanceKey { account: account(whose), asset: asset(of) }
}

/// A name of its own for each request; 0 is nobody's.
fn id(of: TxnRef) -> RequestId {
    RequestId::new(u128::from(of.batch) << 32 | u128::from(of.index + 1))
}

impl Shard {
    fn fund(&mut self, whose: &str, units: &str, of: &str, held: &str) -> Vec<String> {
        let key = balance(whose, of);
        let balance = Balance { available: amount(units), held: amount(held) };
        let linked = check(key, &self.directory).is_ok();
        self.balances.restore(key, balance, START, linked);
        Vec::new()
    }

    fn ask(&mut self, line: &str) -> Vec<String> {
        let number = self.batches.len() as u64;
        let mut txns = Vec::new();
        for (index, named) in (0..).zip(line.split("; ")) {
            let (name, what) = named.split_once(": ").expect("a command, or NAME: REQUEST");
            let at = TxnRef { batch: number, index };
            assert!(self.names.insert(name.into(), at).is_none(), "{name} was asked before");
            txns.push(self.txn(at, what));
        }
        self.send(txns)
    }

    fn txn(&self, at: TxnRef, what: &str) -> Txn {
        let ready = |command| Txn::new(Request::new(id(at), command), 0, 2).expect("well-formed");
        let (name, action) = match what.split_whitespace().collect::<Vec<_>>()[..] {
            ["commits", name] => (name, Action::Commit),
            ["rolls", "back", name] => (name, Action::Rollback),
            ["confirms", name] => (name, Action::Confirm),
            ["cancels", name] => (name, Action::Cancel),
            ["expires", name] => return Txn::expiry(self.hold(name), 2),
            // Nothing is attached: an earlier one did the same already.
            ["repeats", name] => {
                let (token, action) = (Token::of(id(self.names[name])), Action::Commit);
                return ready(Command::Resolve(Resolve { token, action }));
            }
            _ => return ready(request(what)),
        };
        let hold = self.hold(name);
        let mut txn = ready(Command::Resolve(Resolve { token: hold.token, action }));
        txn.attach(hold, 2);
        txn
    }

    /// The hold that a request made.
    fn hold(&self, name: &str) -> Box<Hold> {
        let at = self.names[name];
        let (purpose, exclusive) = match &self.asked(at).command {
            Command::Prepare(prepare) => (Purpose::Swap(prepare.swap.clone()), prepare.exclusive),
            Command::Withdraw(transfer) => (Purpose::Withdrawal(transfer.clone()), false),
            other => panic!("{name} makes no hold: {other:?}"),
        };
        let (token, since) = (Token::of(id(at)), START);
        Box::new(Hold { token, purpose, exclusive, expires_at: Time::NEVER, since })
    }

    fn asked(&self, at: TxnRef) -> &Txn {
        let batch = &self.batches[usize::try_from(at.batch).expect("few")];
        &batch.txns[at.index as usize]
    }

    fn send(&mut self, txns: Vec<Txn>) -> Vec<String> {
        let number = self.batches.len() as u64;
        let slots = Vec::new();
        let batch = Arc::new(Batch { number, txns, slots, sequenced_nanos: 0 });
        self.batches.push(batch.clone());
        let mut votes = Votes { batch: Some(number), ..Votes::default() };
        self.balances.prepare(&batch, &self.directory, &mut votes);
        assert!(votes.late.is_empty());
        let asked = (0..).zip(&batch.txns).filter(|(_, txn)| txn.shards & 1 != 0);
        let vote_on = |index: u32| {
            let exception = votes.exceptions.iter().find(|(of, _)| *of == index);
            exception.map_or(&Vote::Yes, |(_, vote)| vote)
        };
        asked
            .map(|(index, _)| {
                let name = self.name(TxnRef { batch: number, index });
                format!("{name}: {}", self.say(vote_on(index)))
            })
            .collect()
    }

    fn name(&self, of: TxnRef) -> &str {
        let found = self.names.iter().find(|(_, at)| **at == of);
        found.map_or("?", |(name, _)| name)
    }

    fn token_name(&self, token: Token) -> &str {
        let found = self.names.iter().find(|(_, at)| id(**at) == token.request());
        found.map_or("before", |(name, _)| name)
    }

    fn say(&self, vote: &Vote) -> String {
        match vote {
            Vote::Yes => "yes".into(),
            Vote::Wait => "waits".into(),
            Vote::Busy(subject) => format!("busy, {}", subject_name(subject)),
            Vote::Locked(token) => format!("locked by {}", self.token_name(*token)),
            Vote::No(reject, seq) => {
                if let Reject::InsufficientFunds { seq: saw, .. } = reject {
                    assert_eq!(saw, seq, "one vote, one state");
                }
                format!("no, {}", reason(reject))
            }
        }
    }

    fn decide(&mut self, line: &str) -> Vec<String> {
        let mut decision = self.decision();
        let seq = self.balances.applied();
        for part in line.split(", ") {
            let (verb, names) = part.split_once(' ').expect("a verb and names");
            for name in names.split_whitespace() {
                let txn = *self.names.get(name).expect("was asked");
                let reject = Reject::Expired;
                match verb {
                    "commit" => decision.commits.push(txn),
                    "abort" => decision.refusals.push(RefusedTxn { txn, reject, seq }),
                    "defer" => decision.deferred.push(txn),
                    "repeat" => decision.repeats.push(RepeatedTxn { txn, first: seq, seq }),
                    _ => panic!("no verb: {verb}"),
                }
            }
        }
        self.apply(decision)
    }

    fn decision(&mut self) -> Decision {
        self.decisions += 1;
        Decision {
            number: self.decisions - 1,
            first_seq: self.balances.applied().next(),
            time: Time::default(),
            commits: Vec::new(),
            refusals: Vec::new(),
            duplicates: Vec::new(),
            repeats: Vec::new(),
            deferred: Vec::new(),
            voted_nanos: 0,
            decided_nanos: 0,
        }
    }

    fn apply(&mut self, decision: Decision) -> Vec<String> {
        let (number, rows, slots) = (decision.number, Vec::new(), Vec::new());
        let mut applied = Applied { decision: number, shard: 0, rows, slots };
        let mut votes = Votes::default();
        self.balances.decide(&decision, &self.directory, &mut applied, &mut votes);
        let mut said = self.say_rows(&decision, &applied);
        for (at, vote) in &votes.late {
            said.push(format!("{}: late {}", self.name(*at), self.say(vote)));
        }
        said
    }

    fn say_rows(&self, decision: &Decision, applied: &Applied) -> Vec<String> {
        let mut rows = applied.rows.iter().zip(&applied.slots);
        let mut said = Vec::new();
        for (seq, at) in (decision.first_seq.get()..).zip(&decision.commits) {
            let own = self.asked(*at).row_ops().filter(|op| op.key.account.shard(2) == 0);
            let moves: Vec<String> = own
                .map(|op| {
                    let (row, slot) = rows.next().expect("a row for each operation");
                    let key = self.balances.slots.key(*slot);
                    assert_eq!(key, op.key, "rows stand in the order of operations");
                    let (before, after) = (say_balance(row.before), say_balance(row.after));
                    format!("{} {before} -> {after}", balance_name(key))
                })
                .collect();
            said.push(format!("seq {seq}: {}", moves.join(", ")).trim_end().into());
        }
        assert_eq!(rows.next(), None, "a row for each operation and no more");
        said
    }

    fn settle(&mut self, what: &str) -> Vec<String> {
        let command = request(what);
        assert!(self.directory.check(&command).is_ok(), "the coordinator would refuse it");
        // As the coordinator does it: before any shard is asked.
        self.directory.apply(&command, self.balances.applied().next());
        let at = TxnRef { batch: self.batches.len() as u64, index: 0 };
        self.send(vec![Txn::new(Request::new(id(at), command), 0, 2).expect("well-formed")]);
        let mut decision = self.decision();
        decision.commits.push(at);
        self.apply(decision)
    }

    fn show(&self, whose: &str, of: &str) -> String {
        let Some(number) = self.balances.find(balance(whose, of)) else {
            return format!("{whose} {of}: nothing");
        };
        let slots = &self.balances.slots;
        let (available, debits) = (slots.available(number), slots.debits(number));
        let credits = say_wide(slots.credits(number));
        let mut said =
            format!("{whose} {of}: {available} available, {debits} going out, {credits} coming in");
        let held = slots.balance(number).held;
        if held > Amount::ZERO {
            said += &format!(", {held} held");
        }
        if let Some(token) = slots.locked_by(number) {
            said += &format!(", locked by {}", self.token_name(token));
        }
        if slots.is_read(number) {
            said += ", being read";
        }
        if let Some(queue) = self.balances.queues.get(&number) {
            said += &self.say_queue(queue);
        }
        assert_eq!(slots.is_contended(number), self.balances.queues.contains_key(&number));
        said
    }

    fn say_queue(&self, queue: &Queue) -> String {
        let waiters = queue.waiters();
        let waiting: Vec<String> =
            waiters.map(|(at, op)| format!("{} for {}", self.name(*at), op.amount)).collect();
        let mut said = String::new();
        if !waiting.is_empty() {
            let later = say_wide(queue.later_credits());
            said += &format!(", {later} of it too late; waiting: {}", waiting.join(", "));
        }
        let blocked: Vec<&str> = queue.blocked().iter().map(|at| self.name(*at)).collect();
        if !blocked.is_empty() {
            said += &format!("; blocked: {}", blocked.join(", "));
        }
        said
    }

    fn show_key(&self, name: &str) -> String {
        let record = self.balances.records.get(&key(name));
        let mut said = format!("{name}: version {}", record.version);
        if record.readers > 0 {
            said += &format!(", read by {}", record.readers);
        }
        if record.has_writer {
            said += ", being written";
        }
        said
    }

    fn read(&self, whose: &str) -> String {
        let found = self.balances.read(account(whose), self.directory.assets_len());
        let balances: Vec<String> = found
            .balances
            .iter()
            .map(|it| {
                let (name, _) = ASSETS[it.asset.get() as usize];
                format!("{} {name} since {}", say_balance(it.balance), it.version)
            })
            .collect();
        let balances = if balances.is_empty() { "nothing".into() } else { balances.join(", ") };
        format!("{whose} at seq {}: {balances}", found.seq)
    }

    fn read_many(&self, names: &str) -> String {
        let keys: Vec<BalanceKey> = names
            .split(", ")
            .map(|name| {
                let (whose, of) = name.split_once(' ').expect("WHOSE ASSET");
                balance(whose, of)
            })
            .collect();
        let found = self.balances.read_many(&keys);
        assert_eq!(found.balances.len(), keys.len());
        let said: Vec<String> = keys
            .iter()
            .zip(&found.balances)
            .map(|(key, (balance, version))| {
                format!("{} {} since {version}", balance_name(*key), say_balance(*balance))
            })
            .collect();
        format!("at seq {}: {}", found.seq, said.join(", "))
    }

    fn totals(&self) -> String {
        let totals = self.balances.totals(self.directory.assets_len());
        let sums = totals.sums.iter().zip(ASSETS);
        let sums: Vec<String> = sums.map(|(sum, (name, _))| format!("{sum} {name}")).collect();
        format!("{} in {} balances", sums.join(", "), totals.balances)
    }
}

/// What is available, and what is held if anything is.
fn say_balance(of: Balance) -> String {
    let Balance { available, held } = of;
    if held > Amount::ZERO { format!("{available}+{held}") } else { available.to_string() }
}

/// A sum that may exceed 128 bits.
fn say_wide(wide: Wide) -> String {
    let (low, high) = wide.parts();
    if high == 0 { low.to_string() } else { format!("{high} x 2^128 + {low}") }
}

#[test]
fn balances_follow_their_scripts() {
    run_folder::<Shard>("balances");
}
