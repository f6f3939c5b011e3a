//! Scripts about the transaction machine: `tests/scripts/machine`. They are the shards and the log.
//!
//! ```text
//! limits shards 3 voting 1                before anything else; else 2 shards and 4 batches
//! supply 100 ETH                          likewise
//! submit r1: REQUEST; r2 until 20: REQUEST   one submission; the same name is the same id
//! submit 9000 deposits                    many, without names
//! submit 2000 prepares                    likewise
//! next                                    forms a batch
//! shard 0: votes on batch 0               all yes, or `shard 0: r1 waits, r2 short on batch 0`
//! shard 1: r1 late yes, r2 late short     (`unlinked` is the other reason)
//! shard 0: r3 busy, r4 locked-by-r1 on batch 1
//! clock 20                                milliseconds since the start
//! durable                                 all that was decided is on disk
//! folded                                  and in the version store
//! hold r1                                 what is known of it
//! stop                                    nothing new comes
//! state
//! ```
//!
//! Ids are version-7 ids of the start's time, but for names that begin with `c`: those are *cold*,
//! so that only the store knows them once they are durable.

use std::collections::HashSet;
use std::sync::Mutex;

use super::super::ids::Resolved;
use super::super::payers_of;
use super::*;
use crate::error::Reject;
use crate::message::{Txn, Vote, Votes};
use crate::request::{Action, Command, Request, Resolve};
use crate::scripts::{ASSETS, Script, account, amount, asset, reason, request, run_folder};
use crate::types::{AssetId, BalanceKey, ChainId, RequestId, Subject};

const START: Time = Time::new(1_000_000_000_000);
const LAST_SEQ: CommitSeq = CommitSeq::new(10);

/// What the store knows.
#[derive(Default)]
struct Stored {
    ids: HashSet<RequestId>,
    decisions: u64,
    applied: CommitSeq,
    resolutions: HashMap<Token, Resolved>,
    credits: HashMap<(AssetId, u128), CommitSeq>,
}

#[derive(Clone, Default)]
struct Store(Arc<Mutex<Stored>>);

impl SeenBefore for Store {
    fn seen(&self, id: RequestId) -> Result<bool, String> {
        Ok(self.0.lock().unwrap().ids.contains(&id))
    }

    fn durable_decisions(&self) -> u64 {
        self.0.lock().unwrap().decisions
    }

    fn resolution(&self, token: Token) -> Result<Option<Resolved>, String> {
        Ok(self.0.lock().unwrap().resolutions.get(&token).cloned())
    }

    fn credited(&self, asset: AssetId, reference: u128) -> Result<Option<CommitSeq>, String> {
        Ok(self.0.lock().unwrap().credits.get(&(asset, reference)).copied())
    }

    fn applied_seq(&self) -> CommitSeq {
        self.0.lock().unwrap().applied
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
    let start = Start { last_seq: LAST_SEQ, supply, ..Start::default() };
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
            ["submit", many, what @ ("deposits" | "prepares")] => {
                let what = match what {
                    "deposits" => "deposit alice 1 ETH",
                    _ => "prepare alice pays zoe 1 ETH, zoe pays alice 1 SOL",
                };
                self.submit_many(many.parse().unwrap(), what)
            }
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
            ["durable"] => self.sync(false),
            ["folded"] => self.sync(true),
            ["hold", name] => vec![self.hold(name)],
            ["stop"] => {
                self.machine.give_up_waiting();
                vec![]
            }
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

    fn known_id(&self, name: &str) -> RequestId {
        let number = self.names.iter().position(|known| known == name).expect("was named before");
        RequestId::v7(START.millis(), number as u128)
    }

    fn hold(&mut self, name: &str) -> String {
        match self.machine.hold(Token::of(self.known_id(name))) {
            HoldStatus::Open(hold) => {
                let since = hold.since;
                match hold.expires_at.get().checked_sub(START.get()) {
                    Some(micros) if hold.expires_at < Time::NEVER => {
                        format!("open since seq {since}, until {}", micros / 1_000)
                    }
                    _ => format!("open since seq {since}"),
                }
            }
            HoldStatus::Resolved(how, seq) => format!("{how} at seq {seq}"),
            HoldStatus::NotHere => "not here".into(),
        }
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
        // The last one, as it may have been given back before.
        all.into_iter().filter(|at| self.name(*at) == name).last().expect("some shard was asked")
    }

    fn submit(&mut self, text: &str) -> Vec<String> {
        let mut txns = Vec::new();
        for named in text.split("; ") {
            let (name, what) = named.split_once(": ").expect("NAME: REQUEST");
            let (name, deadline) = name.split_once(" until ").unwrap_or((name, ""));
            let id = self.id(name);
            let mut asked = Request::new(id, self.request(what));
            if let Ok(millis) = deadline.parse::<u64>() {
                asked.deadline = Time::new(START.get() + millis * 1_000);
            }
            txns.push(Txn::new(asked, 0, self.limits.shards).unwrap());
        }
        self.enqueue(txns)
    }

    /// A request; of a resolution, whose language knows no tokens, here.
    fn request(&mut self, text: &str) -> Command {
        let words: Vec<&str> = text.split_whitespace().collect();
        let action = match words[0] {
            "commit" => Action::Commit,
            "rollback" => Action::Rollback,
            "confirm" => Action::Confirm,
            "cancel" => Action::Cancel,
            _ => return request(text),
        };
        Command::Resolve(Resolve { token: Token::of(self.id(words[1])), action })
    }

    fn submit_many(&mut self, many: u64, what: &str) -> Vec<String> {
        let first = 1 << 20;
        let ids = (first..first + many).map(|n| RequestId::v7(START.millis(), u128::from(n)));
        let requests = ids.map(|id| Request::new(id, request(what)));
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
        let tally = self.machine.on_votes(message, self.now);
        let mut said = format!("votes: {} yes, {} no, {} wait", tally.yes, tally.no, tally.wait);
        if tally.waiting > 0 {
            said += &format!(" ({} for the first time)", tally.waiting);
        }
        for (votes, what) in [(tally.busy, "busy"), (tally.locked, "locked")] {
            if votes > 0 {
                said += &format!(", {votes} {what}");
            }
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
            "busy" => {
                return Vote::Busy(Box::new(Subject::Balance(BalanceKey { account, asset })));
            }
            locked if locked.starts_with("locked-by-") => {
                return Vote::Locked(Token::of(self.known_id(&locked["locked-by-".len()..])));
            }
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
        for repeat in &decision.repeats {
            let name = self.name(repeat.txn);
            said.push(format!("{name} was done at seq {}", repeat.first));
        }
        if !decision.deferred.is_empty() {
            let back = self.names_of(decision.deferred.iter().copied());
            said.push(format!("given back: {back}"));
        }
        Some(format!("decision {}: {}", decision.number, said.join("; ")))
    }

    /// All that was decided is durable, and folded too if asked.
    fn sync(&mut self, fold: bool) -> Vec<String> {
        let mut store = self.store.0.lock().unwrap();
        for decision in &self.decisions {
            let txn = |at: &TxnRef| &self.batches[at.batch as usize].txns[at.index as usize];
            let refused = decision.refusals.iter().map(|refused| &refused.txn);
            let repeated = decision.repeats.iter().map(|repeated| &repeated.txn);
            for at in decision.commits.iter().chain(refused).chain(repeated) {
                store.ids.insert(txn(at).id);
            }
            for (seq, at) in (decision.first_seq.get()..).zip(decision.commits.iter()) {
                match &txn(at).command {
                    Command::Resolve(Resolve { token, action }) if fold => {
                        let (how, seq) = (action.resolution(), CommitSeq::new(seq));
                        let is_withdrawal = action.is_of_withdrawal();
                        let payers = payers_of(txn(at).hold().expect("what ends a hold has it"));
                        let resolved = Resolved { how, seq, is_withdrawal, payers };
                        store.resolutions.insert(*token, resolved);
                    }
                    Command::Deposit(to) if fold => {
                        let reference = to.reference_hash().unwrap_or_default();
                        store.credits.insert((to.asset, reference), CommitSeq::new(seq));
                    }
                    _ => {}
                }
            }
            if fold {
                store.applied = decision.last_seq();
            }
        }
        store.decisions = self.decisions.len() as u64;
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
        let mut said = format!(
            "seq {}, {idle}, {room}, backlog {backlog}, supply {}",
            machine.last_seq(),
            nothing_if_empty(&held.join(", "))
        );
        let (open, parked) = machine.held();
        if open + parked > 0 {
            said += &format!(", {open} open holds, {parked} parked");
        }
        said
    }
}

fn nothing_if_empty(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

#[test]
fn the_machine_follows_its_scripts() {
    run_folder::<World>("machine");
}
