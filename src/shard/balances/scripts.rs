//! Scripts about one shard's balances: `tests/scripts/balances`.
//!
//! The shard is number 0 of 2 and starts at seq 10. Every line of requests is a batch:
//!
//! ```text
//! funds alice 100 ETH              a balance that recovery found
//! t1: withdraw alice 80 ETH        asks; `t1: ...; t2: ...` asks two in one batch
//! commit t1 t2, abort t3           one decision, in that order of commits
//! settle link alice addr on 2      a directory change, asked and committed
//! show alice ETH                   what is there, granted and waited for
//! read alice                       what a client is shown
//! totals
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use super::*;
use crate::directory::Directory;
use crate::message::{Batch, RefusedTxn};
use crate::request::Request;
use crate::scripts::{ASSETS, Script, account, amount, asset, reason, request, run_folder};
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
            balances: Balances::new(0, 2, START),
            directory: crate::scripts::directory(),
            names: HashMap::new(),
            batches: Vec::new(),
            decisions: 0,
        }
    }

    fn command(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["funds", whose, units, of] => self.fund(whose, units, of),
            ["commit" | "abort", ..] => self.decide(line),
            ["settle", ..] => self.settle(line.trim_start_matches("settle ")),
            ["show", whose, of] => vec![self.show(whose, of)],
            ["read", whose] => vec![self.read(whose)],
            ["totals"] => vec![self.totals()],
            ["quiet"] => vec![if self.balances.is_quiet() { "quiet" } else { "busy" }.into()],
            _ => self.ask(line),
        }
    }
}

impl Shard {
    fn fund(&mut self, whose: &str, units: &str, of: &str) -> Vec<String> {
        let key = BalanceKey { account: account(whose), asset: asset(of) };
        let balance = Balance { available: amount(units), held: Amount::ZERO };
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
            let asked = Request::new(RequestId::new(1), request(what));
            txns.push(Txn::new(asked, 0, 2).expect("well-formed"));
        }
        self.send(txns)
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
                format!("{name}: {}", say(vote_on(index)))
            })
            .collect()
    }

    fn name(&self, of: TxnRef) -> &str {
        let found = self.names.iter().find(|(_, at)| **at == of);
        found.map_or("?", |(name, _)| name)
    }

    fn decide(&mut self, line: &str) -> Vec<String> {
        let (mut commits, mut refusals) = (Vec::new(), Vec::new());
        for part in line.split(", ") {
            let (verb, names) = part.split_once(' ').expect("a verb and names");
            for name in names.split_whitespace() {
                let txn = *self.names.get(name).expect("was asked");
                if verb == "commit" {
                    commits.push(txn);
                } else {
                    assert_eq!(verb, "abort");
                    let seq = self.balances.applied();
                    refusals.push(RefusedTxn { txn, reject: Reject::Expired, seq });
                }
            }
        }
        self.apply(commits, refusals)
    }

    fn apply(&mut self, commits: Vec<TxnRef>, refusals: Vec<RefusedTxn>) -> Vec<String> {
        let first = self.balances.applied().next();
        let decision = Decision {
            number: self.decisions,
            first_seq: first,
            time: Time::default(),
            commits,
            refusals,
            duplicates: Vec::new(),
            voted_nanos: 0,
            decided_nanos: 0,
        };
        self.decisions += 1;
        let (number, rows, slots) = (decision.number, Vec::new(), Vec::new());
        let mut applied = Applied { decision: number, shard: 0, rows, slots };
        let mut votes = Votes::default();
        self.balances.decide(&decision, &self.directory, &mut applied, &mut votes);
        let mut said = self.say_rows(&decision, &applied);
        for (at, vote) in &votes.late {
            said.push(format!("{}: late {}", self.name(*at), say(vote)));
        }
        said
    }

    fn say_rows(&self, decision: &Decision, applied: &Applied) -> Vec<String> {
        let mut rows = applied.rows.iter().zip(&applied.slots);
        let mut said = Vec::new();
        for (seq, at) in (decision.first_seq.get()..).zip(&decision.commits) {
            let batch = &self.batches[usize::try_from(at.batch).expect("few")];
            let own = batch.txns[at.index as usize].ops().filter(|op| op.key.account.shard(2) == 0);
            let moves: Vec<String> = own
                .map(|_| {
                    let (row, slot) = rows.next().expect("a row for each operation");
                    let key = self.balances.slots.key(*slot);
                    let (before, after) = (row.before.available, row.after.available);
                    format!("{} {before} -> {after}", say_key(key))
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
        let asked = Request::new(RequestId::new(1), command);
        self.send(vec![Txn::new(asked, 0, 2).expect("well-formed")]);
        self.apply(vec![at], Vec::new())
    }

    fn show(&self, whose: &str, of: &str) -> String {
        let key = BalanceKey { account: account(whose), asset: asset(of) };
        let Some(number) = self.balances.find(key) else {
            return format!("{whose} {of}: nothing");
        };
        let slots = &self.balances.slots;
        let (available, debits) = (slots.available(number), slots.debits(number));
        let credits = say_wide(slots.credits(number));
        let mut said =
            format!("{whose} {of}: {available} available, {debits} going out, {credits} coming in");
        if let Some(queue) = self.balances.queues.get(&number) {
            let waiting: Vec<String> = queue
                .waiters()
                .map(|(at, amount)| format!("{} for {amount}", self.name(*at)))
                .collect();
            let later = say_wide(queue.later_credits());
            said += &format!(", {later} of it too late; waiting: {}", waiting.join(", "));
        }
        assert_eq!(slots.is_contended(number), self.balances.queues.contains_key(&number));
        said
    }

    fn read(&self, whose: &str) -> String {
        let found = self.balances.read(account(whose), self.directory.assets_len());
        let balances: Vec<String> = found
            .balances
            .iter()
            .map(|it| {
                let (name, _) = ASSETS[it.asset.get() as usize];
                format!("{} {name} since {}", it.balance.available, it.version)
            })
            .collect();
        let balances = if balances.is_empty() { "nothing".into() } else { balances.join(", ") };
        format!("{whose} at seq {}: {balances}", found.seq)
    }

    fn totals(&self) -> String {
        let totals = self.balances.totals(self.directory.assets_len());
        let sums = totals.sums.iter().zip(ASSETS);
        let sums: Vec<String> = sums.map(|(sum, (name, _))| format!("{sum} {name}")).collect();
        format!("{} in {} balances", sums.join(", "), totals.balances)
    }
}

fn say(vote: &Vote) -> String {
    match vote {
        Vote::Yes => "yes".into(),
        Vote::Wait => "waits".into(),
        Vote::No(reject, seq) => {
            if let Reject::InsufficientFunds { seq: saw, .. } = reject {
                assert_eq!(saw, seq, "one vote, one state");
            }
            format!("no, {}", reason(reject))
        }
    }
}

fn say_key(key: BalanceKey) -> String {
    let names = ["alice", "bob", "carol", "dave", "erin"];
    let whose = names.into_iter().find(|name| account(name) == key.account).expect("of the cast");
    format!("{whose} {}", ASSETS[key.asset.get() as usize].0)
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
