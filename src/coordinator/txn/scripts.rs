//! Scripts about the transaction machine: `tests/scripts/machine`. They are the shards and the log.
//!
//! ```text
//! limits shards 3 voting 1                before anything else; else 2 shards and 4 batches
//! supply 100 ETH                          likewise
//! submit r1: REQUEST; r2 until 20: REQUEST   one submission; the same name is the same id
//! submit 9000 deposits                    many, without names
//! next                                    forms a batch
//! shard 0: votes on batch 0               all yes, or `shard 0: r1 waits, r2 short on batch 0`
//! shard 1: r1 late yes, r2 late short     (`unlinked` is the other reason)
//! clock 20                                milliseconds since the start
//! durable                                 all that was decided is on disk
//! state
//! ```
//!
//! Ids are version-7 ids of the start's time, but for names that begin with `c`: those are *cold*,
//! so that only the store knows them once they are durable.

use std::collections::HashSet;
use std::sync::Mutex;

use super::*;
use crate::request::{Request, Transfer};
use crate::scripts::{ASSETS, Script, account, amount, asset, reason, request, run_folder};
use crate::types::{ChainId, RequestId};

const START: Time = Time::new(1_000_000_000_000);
const LAST_SEQ: CommitSeq = CommitSeq::new(10);

/// What is durable: ids, and how many decisions.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<(HashSet<RequestId>, u64)>>);

impl SeenBefore for Store {
    fn seen(&self, id: RequestId) -> Result<bool, String> {
        Ok(self.0.lock().unwrap().0.contains(&id))
    }

    fn durable_decisions(&self) -> u64 {
        self.0.lock().unwrap().1
    }
}

struct World {
    limits: Limits,
    supply: Vec<Amount>,
    machine: Machine<Store>,
    store: Store,
    now: Time,
    /// Names by the number in their id.
    names: Vec<String>,
    batches: Vec<SharedBatch>,
    decisions: Vec<SharedDecision>,
}

fn machine(limits: &Limits, supply: Vec<Amount>, store: &Store) -> Machine<Store> {
    let ids = Ids::new(START, 10_000, 1_000_000);
    let start = Start { last_seq: LAST_SEQ, supply };
    Machine::new(limits, Arc::new(crate::scripts::directory()), store.clone(), ids, start)
}

impl Script for World {
    fn start() -> Self {
        let (limits, store) = (Limits::default(), Store::default());
        Self {
            machine: machine(&limits, Vec::new(), &store),
            limits,
            supply: vec![Amount::ZERO; ASSETS.len()],
            store,
            now: START,
            names: Vec::new(),
            batches: Vec::new(),
            decisions: Vec::new(),
        }
    }

    fn command(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["limits", "shards", shards, "voting", voting] => {
                self.limits.shards = shards.parse().unwrap();
                self.limits.batches_voting_max = voting.parse().unwrap();
                self.machine = machine(&self.limits, self.supply.clone(), &self.store);
                vec![]
            }
            ["supply", units, of] => {
                self.supply[asset(of).get() as usize] = amount(units);
                self.machine = machine(&self.limits, self.supply.clone(), &self.store);
                vec![]
            }
            ["submit", many, "deposits"] => self.submit_many(many.parse().unwrap()),
            ["submit", ..] => self.submit(line.trim_start_matches("submit ")),
            ["next"] => vec![self.next()],
            ["shard", number, ..] => {
                let shard = number.trim_end_matches(':').parse().unwrap();
                self.vote(shard, line.split_once(": ").expect("votes").1)
            }
            ["clock", millis] => {
                self.now = Time::new(START.get() + millis.parse::<u64>().unwrap() * 1_000);
                vec![]
            }
            ["durable"] => self.sync(),
            ["state"] => vec![self.state()],
            _ => panic!("no command: {line}"),
        }
    }
}

impl World {
    fn id(&mut self, name: &str) -> RequestId {
        let number = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.into());
            self.names.len() - 1
        });
        let cold = name.starts_with('c');
        let number = number as u128;
        if cold { RequestId::new(number) } else { RequestId::v7(START.millis(), number) }
    }

    fn name(&self, at: TxnRef) -> &str {
        let id = self.batches[at.batch as usize].txns[at.index as usize].id;
        // Below the random bits of a version-7 id stands its number, as in a cold one.
        let number = (id.get() & 0xFFFF_FFFF) as usize;
        self.names.get(number).map_or("?", String::as_str)
    }

    fn names_of(&self, txns: impl IntoIterator<Item = TxnRef>) -> String {
        let txns: Vec<TxnRef> = txns.into_iter().collect();
        if txns.len() > 12 {
            return format!("{} requests", txns.len());
        }
        txns.into_iter().map(|at| self.name(at)).collect::<Vec<_>>().join(" ")
    }

    /// The transaction that shards were asked about under that name.
    fn asked(&self, name: &str) -> TxnRef {
        let all = self.batches.iter().flat_map(|batch| {
            let at = |index| TxnRef { batch: batch.number, index };
            (0..).zip(&batch.txns).filter(|(_, txn)| txn.shards != 0).map(move |(i, _)| at(i))
        });
        all.into_iter().find(|at| self.name(*at) == name).expect("some shard was asked")
    }

    fn submit(&mut self, text: &str) -> Vec<String> {
        let mut txns = Vec::new();
        for named in text.split("; ") {
            let (name, what) = named.split_once(": ").expect("NAME: REQUEST");
            let (name, deadline) = name.split_once(" until ").unwrap_or((name, ""));
            let mut asked = Request::new(self.id(name), request(what));
            if let Ok(millis) = deadline.parse::<u64>() {
                asked.deadline = Time::new(START.get() + millis * 1_000);
            }
            txns.push(Txn::new(asked, 0, self.limits.shards).unwrap());
        }
        self.enqueue(txns)
    }

    fn submit_many(&mut self, many: u64) -> Vec<String> {
        let deposit = || {
            let (account, asset, amount) = (account("alice"), asset("ETH"), Amount::new(1));
            Command::Deposit(Transfer { account, asset, amount, reference: "".into() })
        };
        let first = 1 << 20;
        let ids = (first..first + many).map(|n| RequestId::v7(START.millis(), u128::from(n)));
        let requests = ids.map(|id| Request::new(id, deposit()));
        let txns = requests.map(|asked| Txn::new(asked, 0, self.limits.shards).unwrap()).collect();
        self.enqueue(txns)
    }

    fn enqueue(&mut self, txns: Vec<Txn>) -> Vec<String> {
        let (reply, _) = tokio::sync::oneshot::channel();
        self.machine.enqueue(Submission { txns, reply, accepted_nanos: 0 });
        vec![]
    }

    fn next(&mut self) -> String {
        let Some(formed) = self.machine.next_batch(self.now, 0).unwrap() else {
            return "no batch".into();
        };
        let batch = formed.batch;
        assert_eq!(batch.number, self.batches.len() as u64);
        self.batches.push(batch.clone());
        let txns = || (0..).map(|index| TxnRef { batch: batch.number, index }).zip(&batch.txns);
        let mut said = vec![format!("batch {}", batch.number)];
        for shard in 0..self.limits.shards {
            let asked = txns().filter(|(_, txn)| txn.shards & (1 << shard) != 0).map(|(at, _)| at);
            let asked = self.names_of(asked);
            said.push(format!("asks shard {shard} about {}", nothing_if_empty(&asked)));
        }
        let nobody = self.names_of(txns().filter(|(_, txn)| txn.shards == 0).map(|(at, _)| at));
        if !nobody.is_empty() {
            said.push(format!("nobody about {nobody}"));
        }
        let submissions: Vec<String> = formed
            .submissions
            .iter()
            .map(|new| format!("{} of {}", new.number, new.txns))
            .collect();
        if !submissions.is_empty() {
            said.push(format!("begins submission {}", submissions.join(", ")));
        }
        said.join("; ")
    }

    fn vote(&mut self, shard: usize, text: &str) -> Vec<String> {
        let (votes, batch) = match text.split_once("on batch ") {
            Some((votes, batch)) => (votes.trim(), Some(batch.parse().unwrap())),
            None => (text, None),
        };
        let mut message = Votes { shard, batch, ..Votes::default() };
        for vote in votes.split(", ").filter(|vote| *vote != "votes") {
            let words: Vec<&str> = vote.split_whitespace().collect();
            let at = self.asked(words[0]);
            let asked = self.batches[at.batch as usize].txns[at.index as usize].shards;
            assert!(asked & (1 << shard) != 0, "shard {shard} was not asked about {vote}");
            match words[1..] {
                ["late", vote] => message.late.push((at, self.parse_vote(vote))),
                [vote] => {
                    assert_eq!(Some(at.batch), batch);
                    message.exceptions.push((at.index, self.parse_vote(vote)));
                }
                _ => panic!("no vote: {vote}"),
            }
        }
        let tally = self.machine.on_votes(message);
        let mut said = format!("votes: {} yes, {} no, {} wait", tally.yes, tally.no, tally.wait);
        if tally.waiting > 0 {
            said += &format!(" ({} for the first time)", tally.waiting);
        }
        let waited = self.machine.take_waited().count();
        if waited > 0 {
            said += &format!("; {waited} waited");
        }
        let mut said = vec![said];
        said.extend(self.decision());
        said
    }

    fn parse_vote(&self, text: &str) -> Vote {
        let seq = self.machine.last_seq();
        let (account, asset) = (account("alice"), asset("ETH"));
        let reject = match text {
            "yes" => return Vote::Yes,
            "waits" => return Vote::Wait,
            "unlinked" => Reject::NotLinked { account, chain: ChainId::new(1) },
            "short" => Reject::InsufficientFunds { account, asset, short_by: Amount::new(1), seq },
            _ => panic!("no vote: {text}"),
        };
        Vote::No(reject, seq)
    }

    fn decision(&mut self) -> Option<String> {
        let decision = self.machine.take_decision(self.now, 0, 0)?;
        assert_eq!(decision.number, self.decisions.len() as u64);
        self.decisions.push(decision.clone());
        let mut said = Vec::new();
        let first = decision.first_seq;
        if !decision.commits.is_empty() {
            let commits = self.names_of(decision.commits.iter().copied());
            said.push(format!("settled from seq {first}: {commits}"));
        }
        for refused in &decision.refusals {
            let (name, why) = (self.name(refused.txn), reason(&refused.reject));
            said.push(format!("refused {name} as of seq {}: {why}", refused.seq));
        }
        if !decision.duplicates.is_empty() {
            let again = self.names_of(decision.duplicates.iter().copied());
            said.push(format!("seen before: {again}"));
        }
        Some(format!("decision {}: {}", decision.number, said.join("; ")))
    }

    fn sync(&mut self) -> Vec<String> {
        let mut store = self.store.0.lock().unwrap();
        for decision in &self.decisions {
            let refused = decision.refusals.iter().map(|refused| &refused.txn);
            for at in decision.commits.iter().chain(refused) {
                store.0.insert(self.batches[at.batch as usize].txns[at.index as usize].id);
            }
        }
        store.1 = self.decisions.len() as u64;
        vec![]
    }

    fn state(&self) -> String {
        let machine = &self.machine;
        let supply = machine.supply();
        let held = supply.iter().zip(ASSETS).filter(|(sum, _)| **sum > Amount::ZERO);
        let held: Vec<String> = held.map(|(sum, (name, _))| format!("{sum} {name}")).collect();
        let idle = if machine.is_idle() { "idle" } else { "busy" };
        let room = if machine.can_sequence() { "may sequence" } else { "may not sequence" };
        let backlog = machine.backlog_txns;
        format!(
            "seq {}, {idle}, {room}, backlog {backlog}, supply {}",
            machine.last_seq(),
            nothing_if_empty(&held.join(", "))
        )
    }
}

fn nothing_if_empty(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

#[test]
fn the_machine_follows_its_scripts() {
    run_folder::<World>("machine");
}
