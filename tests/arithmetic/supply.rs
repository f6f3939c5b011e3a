//! The supply cap: deposits, withdrawals and their ends, one after another, on a machine and a shard.

use std::sync::Arc;

use proptest::prelude::*;

use crosslatch::config::{Limits, SUPPLY_MAX};
use crosslatch::coordinator::ids::{Ids, Resolved, SeenBefore};
use crosslatch::coordinator::txn::{Machine, Start};
use crosslatch::error::Reject;
use crosslatch::message::{Applied, Submission, Txn, Votes};
use crosslatch::request::{Action, Command, Request, Resolve};
use crosslatch::shard::balances::Balances;
use crosslatch::types::{AccountId, Amount, AssetId, CommitSeq, RequestId, Time, Token};

use crate::grants::{directory, on_it};
use crate::wide::Wide;
use crate::{covering, edge};

/// Nothing happened before.
struct Nothing;

impl SeenBefore for Nothing {
    fn seen(&self, _: RequestId) -> Result<bool, String> {
        Ok(false)
    }
    fn durable_decisions(&self) -> u64 {
        0
    }
    fn resolution(&self, _: Token) -> Result<Option<Resolved>, String> {
        Ok(None)
    }
    fn credited(&self, _: AssetId, _: u128) -> Result<Option<CommitSeq>, String> {
        Ok(None)
    }
    fn applied_seq(&self) -> CommitSeq {
        CommitSeq::default()
    }
}

struct Venue {
    machine: Machine<Nothing>,
    shard: Balances,
    directory: Arc<crosslatch::directory::Directory>,
    ids: u128,
}

impl Venue {
    fn new() -> Self {
        let limits = Limits { shards: 1, ..Limits::default() };
        let directory = Arc::new(directory());
        let now = Time::new(1_000_000_000);
        let start = Start { last_seq: CommitSeq::default(), ..Start::default() };
        let ids = Ids::new(now, 10_000, 100);
        let machine = Machine::new(&limits, directory.clone(), Nothing, ids, start);
        let shard = Balances::new(0, 1, CommitSeq::default(), 100);
        Self { machine, shard, directory, ids: 0 }
    }

    /// Settles one request, or says why not.
    fn settle(&mut self, txn: Txn) -> Result<(), Reject> {
        let now = Time::new(1_000_000_000);
        let (reply, _) = tokio::sync::oneshot::channel();
        self.machine.enqueue(Submission { txns: vec![txn], reply, accepted_nanos: 0 });
        let batch = self.machine.next_batch(now, 0).unwrap().expect("one request").batch;
        let mut votes = Votes { batch: Some(batch.number), ..Votes::default() };
        self.shard.prepare(&batch, &*self.directory, &mut votes);
        self.machine.on_votes(votes, now);
        let decision = self.machine.take_decision(now, 0, 0).expect("all voted");
        let (rows, slots) = (Vec::new(), Vec::new());
        let mut applied = Applied { decision: decision.number, shard: 0, rows, slots };
        self.shard.decide(&decision, &*self.directory, &mut applied, &mut Votes::default());
        decision.refusals.first().map_or(Ok(()), |refused| Err(refused.reject.clone()))
    }

    fn transfer(&mut self, enters: bool, amount: u128) -> Result<Token, Reject> {
        self.ids += 1;
        self.settle(on_it(self.ids, enters, amount))?;
        Ok(Token::of(RequestId::new(self.ids)))
    }

    fn resolve(&mut self, token: Token, action: Action) {
        self.ids += 1;
        let command = Command::Resolve(Resolve { token, action });
        let request = Request::new(RequestId::new(self.ids), command);
        self.settle(Txn::new(request, 0, 1).unwrap()).expect("certain");
    }

    fn balance(&self) -> (Wide, Wide) {
        let balances = self.shard.read(AccountId::new(1), 1).balances;
        let of = |amount: Amount| Wide::of(amount.get());
        balances
            .first()
            .map(|now| (of(now.balance.available), of(now.balance.held)))
            .unwrap_or_default()
    }

    fn supply(&self) -> Wide {
        Wide::of(self.machine.supply()[0].get())
    }
}

/// What is known without the engine.
#[derive(Default)]
struct Oracle {
    available: Wide,
    held: Wide,
    open: Vec<(Token, Wide)>,
}

/// Asks for one thing, and says what came of it.
fn step(
    venue: &mut Venue,
    oracle: &mut Oracle,
    kind: u8,
    amount: u128,
) -> Result<&'static str, TestCaseError> {
    let wide = Wide::of(amount);
    let (account, asset) = (AccountId::new(1), AssetId::new(0));
    match kind {
        0..=3 => {
            let supply = oracle.available.plus(oracle.held).plus(wide);
            let fits = supply <= Wide::of(SUPPLY_MAX);
            let expected = if fits { Ok(()) } else { Err(Reject::SupplyExceeded(asset)) };
            prop_assert_eq!(venue.transfer(true, amount).map(drop), expected);
            if !fits {
                return Ok("capped");
            }
            oracle.available = oracle.available.plus(wide);
            Ok("deposited")
        }
        4..=6 => match (venue.transfer(false, amount), oracle.available.minus(wide)) {
            (Ok(token), Some(left)) => {
                (oracle.available, oracle.held) = (left, oracle.held.plus(wide));
                oracle.open.push((token, wide));
                Ok("set aside")
            }
            (Err(Reject::InsufficientFunds { account: of, short_by, .. }), None) => {
                prop_assert_eq!(of, account);
                prop_assert_eq!(Some(Wide::of(short_by.get())), wide.minus(oracle.available));
                Ok("short")
            }
            (said, left) => Err(TestCaseError::fail(format!("{said:?} where {left:?} is left"))),
        },
        _ => {
            let Some((token, wide)) = oracle.open.pop() else { return Ok("nothing to end") };
            let is_gone = kind == 7;
            venue.resolve(token, if is_gone { Action::Confirm } else { Action::Cancel });
            oracle.held = oracle.held.minus(wide).expect("it was held");
            if is_gone {
                return Ok("gone");
            }
            oracle.available = oracle.available.plus(wide);
            Ok("came back")
        }
    }
}

#[test]
fn the_supply_is_exact_up_to_its_cap() {
    let steps = prop::collection::vec((0..9_u8, edge().prop_map(|n| n.max(1))), 1..40);
    let cases = ["capped", "deposited", "set aside", "short", "gone", "came back", "at the cap"];
    covering(&cases, steps, |steps, seen| {
        let (mut venue, mut oracle) = (Venue::new(), Oracle::default());
        for (kind, amount) in steps {
            seen.note(step(&mut venue, &mut oracle, kind, amount)?);
            prop_assert_eq!(venue.balance(), (oracle.available, oracle.held));
            prop_assert_eq!(venue.supply(), oracle.available.plus(oracle.held));
            let totals = venue.shard.totals(1);
            prop_assert_eq!(Wide::of(totals.sums[0].get()), venue.supply());
            if venue.supply() == Wide::of(SUPPLY_MAX) {
                seen.note("at the cap");
            }
        }
        prop_assert!(venue.shard.is_quiet());
        Ok(())
    });
}
