//! What is found in the end: every answer that was ever given, held against all others, against what is
//! answered once more, and against a serial venue that does what settled, once, in the order of the seqs.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::runtime::Runtime;

use crosslatch::client::{Client, Options as ClientOptions};
use crosslatch::engine::{Engine, Known, Options};
use crosslatch::proto;
use crosslatch::request::{Outcome, Request};
use crosslatch::types::{Amount, CommitSeq};

use crate::face::Face;
use crate::memory::Memory;
use crate::node::Node;
use crate::oracle::{Oracle, is_repeat, reject, seq_of};
use crate::plan::{LOCK_WAIT_MS, Plan, Speaks, WORKLOAD};
use crate::support::account;
use crate::{process, worker};

/// Requests that are asked, or looked up, at once.
const CHUNK: usize = 2_000;

/// What was found, and is right.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Requests under ids of their own.
    pub requests: usize,
    /// Of these, over HTTP; all others over gRPC.
    pub over_http: usize,
    pub settled: usize,
    pub refused: usize,
    /// Of all: nobody knew an answer when the clients died for the last time.
    pub unanswered: usize,
    /// Requests that their clients sent again, what the library's client did by itself not counted.
    pub again: u64,
    /// Answers to an id beyond the first, each the same as that.
    pub repeats: u64,
    /// Ends of holds and orders that nobody asked for.
    pub expired: u64,
}

impl Figures {
    fn add(&mut self, one: Self) {
        self.requests += one.requests;
        self.over_http += one.over_http;
        self.unanswered += one.unanswered;
        self.again += one.again;
        self.repeats += one.repeats;
    }
}

/// A request, and what was told in the end.
struct Told {
    request: Request,
    answer: String,
}

/// Judges a venue whose clients are dead and whose server runs; panics with what is wrong.
pub fn judge(plans: &[Plan], mut node: Node) -> Figures {
    let runtime = worker::runtime();
    let asked: Vec<(Vec<Told>, Figures)> = std::thread::scope(|scope| {
        let ask = |plan| {
            let runtime = &runtime;
            scope.spawn(move || ask_once_more(plan, runtime))
        };
        let asked: Vec<_> = plans.iter().map(ask).collect();
        let joined = asked.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined.map(|asked| asked.unwrap_or_else(|why| std::panic::resume_unwind(why))).collect()
    });
    let (mut figures, mut told) = (Figures::default(), Vec::new());
    for (of_one, found) in asked {
        told.extend(of_one);
        figures.add(found);
    }
    let balances = runtime.block_on(balances(&node));
    node.stop();
    let errors = node.errors();
    assert!(!errors.contains("panicked"), "{errors}");
    let data = node.data.to_str().expect("a plain path");
    let audit = process::output(&["audit", "--data", data]);
    assert_eq!(audit.status.code(), Some(0), "the audit: {audit:?}");
    replay(&node, told, &balances, &mut figures);
    figures
}

/// Asks for everything that a client may ever have sent: the answer must be the one that it was told.
fn ask_once_more(plan: &Plan, runtime: &Arc<Runtime>) -> (Vec<Told>, Figures) {
    let mut figures = Figures::default();
    let memory = Memory::open(&plan.memory);
    assert_eq!(memory.differs, None, "client {}", plan.client);
    figures.again += memory.again;
    figures.repeats += memory.repeats;
    let mut face = Face::new(plan, runtime, || {});
    let numbers: Vec<u64> = memory.numbers().collect();
    let mut told = Vec::with_capacity(numbers.len());
    for numbers in numbers.chunks(CHUNK) {
        let requests: Vec<Request> =
            numbers.iter().map(|number| plan.request(&memory.rounds, *number)).collect();
        let (answers, _) = face.ask(&requests, || {});
        for ((number, request), answer) in numbers.iter().zip(requests).zip(answers) {
            match memory.told.get(number) {
                None => figures.unanswered += 1,
                Some(first) => {
                    figures.repeats += 1;
                    assert_eq!(
                        *first, answer,
                        "client {} was told otherwise of {number}, {}",
                        plan.client, request.id
                    );
                }
            }
            told.push(Told { request, answer });
        }
    }
    figures.requests = told.len();
    if plan.speaks == Speaks::Http {
        figures.over_http = told.len();
    }
    (told, figures)
}

/// What each account has, as the server tells it: the seq, and by asset what is available and held.
type Balances = BTreeMap<u64, (u64, Vec<(u32, Amount, Amount)>)>;

async fn balances(node: &Node) -> Balances {
    let url = format!("grpc://{}", node.grpc);
    let client = Client::connect_with(&url, &ClientOptions::default()).await;
    let client = client.expect("the server listens");
    let mut all = Balances::new();
    for number in 0..WORKLOAD.accounts {
        let told = client.balances(account(number)).await.expect("an account");
        let units = |amount: &Option<proto::Amount>| amount.unwrap_or_default().units();
        let each = told.balances.iter();
        let each = each.map(|it| (it.asset_number, units(&it.available), units(&it.held)));
        all.insert(number, (told.seq, each.collect()));
    }
    all
}

/// The outcome of a request as the journal has it, which must be what was told.
fn outcome(engine: &Engine, told: &Told) -> Outcome {
    let known = engine.known(told.request.id).expect("it knows");
    let Known::Outcome(outcome) = known else {
        panic!("{:?} was told {:?}, which is lost", told.request, told.answer)
    };
    let now = match reject(&outcome) {
        None => format!("settled {} ", seq_of(&outcome)),
        Some(reject) => format!("rejected {} ", reject.code()),
    };
    assert!(told.answer.starts_with(&now), "told {:?}, and has {now:?}", told.answer);
    outcome
}

/// Does everything that settled once, in the order of the seqs, in a venue that starts empty.
fn replay(node: &Node, told: Vec<Told>, balances: &Balances, figures: &mut Figures) {
    let mut options = Options::new(&node.data);
    options.limits.lock_wait_ms = LOCK_WAIT_MS;
    let mut oracle = Oracle::new(&options.limits);
    let engine = Engine::start(options).expect("it starts");
    // What is kept of each is its place; the rest is looked up again when its turn comes.
    let mut in_order: Vec<((CommitSeq, bool), Told)> = Vec::with_capacity(told.len());
    for told in told {
        let outcome = outcome(&engine, &told);
        let (seq, refused) = (seq_of(&outcome), reject(&outcome).is_some());
        let repeats = is_repeat(&told.request, &outcome);
        figures.settled += usize::from(!refused && !repeats);
        figures.refused += usize::from(refused);
        in_order.push(((seq, refused || repeats), told));
    }
    in_order.sort_by_key(|(place, _)| *place);
    let alone = in_order.windows(2).all(|two| two[0].0 != two[1].0 || two[0].0.1);
    assert!(alone, "two requests have settled under one seq");
    for some in in_order.chunks(CHUNK) {
        let pair = |(_, told): &(_, Told)| (told.request.clone(), outcome(&engine, told));
        let some: Vec<(Request, Outcome)> = some.iter().map(pair).collect();
        oracle.replay(&engine, &some);
    }
    oracle.check(&engine);
    figures.expired = oracle.seq().get() - figures.settled as u64;
    for (number, (seq, told)) in balances {
        let expected = oracle.balances_at(account(*number), CommitSeq::new(*seq)).balances;
        let expected =
            expected.iter().map(|it| (it.asset.get(), it.balance.available, it.balance.held));
        assert_eq!(*told, expected.collect::<Vec<_>>(), "of account {number} at seq {seq}");
    }
    let rare = ["expire", "commit", "withdrawal_confirm", "transaction", "conflict", "order"];
    eprintln!("{:?}", oracle.seen(&rare));
    engine.stop().expect("it stops");
}
