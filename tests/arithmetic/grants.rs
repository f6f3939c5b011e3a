//! What a shard grants on one balance, with undecided sums of more than 128 bits.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use crosslatch::address::{Address, Link};
use crosslatch::directory::Directory;
use crosslatch::error::Reject;
use crosslatch::message::{
    AnswerSlot, Applied, Batch, Decision, RefusedTxn, Txn, TxnRef, Vote, Votes,
};
use crosslatch::request::{AssetSpec, Command, Request, Transfer};
use crosslatch::shard::balances::Balances;
use crosslatch::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, ChainId, ChainKind, CommitSeq, RequestId, Time,
};

use crate::wide::Wide;
use crate::{Seen, balance, covering, edge};

const KEY: BalanceKey = BalanceKey { account: AccountId::new(1), asset: AssetId::new(0) };
const START: CommitSeq = CommitSeq::new(10);

/// One asset, and one account that may have it.
pub fn directory() -> Directory {
    let (chain, chain_kind) = (ChainId::new(1), ChainKind::Other);
    let directory = Directory::new();
    let (name, token) = ("X".into(), "native".into());
    directory.insert_asset(AssetSpec { name, chain, chain_kind, token, decimals: 0 });
    let address = Address::parse(chain_kind, "somewhere").unwrap();
    directory.insert_account(KEY.account, &[Link { chain, address }]);
    directory
}

/// A request on the one balance.
pub fn on_it(id: u128, enters: bool, amount: u128) -> Txn {
    let (account, asset, amount) = (KEY.account, KEY.asset, Amount::new(amount));
    let transfer = Transfer { account, asset, amount, reference: "".into() };
    let command = if enters { Command::Deposit(transfer) } else { Command::Withdraw(transfer) };
    Txn::new(Request::new(RequestId::new(id), command), 0, 1).unwrap()
}

/// What is known of the balance while requests are looked at in their order.
struct Oracle {
    available: Wide,
    held: Wide,
    percent: u32,
    debits: Wide,
    credits: Wide,
    somebody_waits: bool,
}

impl Oracle {
    /// Whether setting that much aside could leave more than its share set aside, if every granted
    /// debit sets aside as well.
    fn exceeds_share(&self, amount: Wide) -> bool {
        let set_aside = self.held.plus(self.debits).plus(amount);
        let left = self.held.plus(self.available).minus(self.debits).unwrap();
        self.percent < 100 && set_aside.times(100) > left.times(self.percent)
    }

    fn enters(&mut self, amount: Wide) -> Vote {
        self.credits = self.credits.plus(amount);
        Vote::Yes
    }

    fn leaves(&mut self, amount: Wide) -> Vote {
        let is_certain = self.debits.plus(amount) <= self.available;
        if is_certain && !self.somebody_waits && !self.exceeds_share(amount) {
            self.debits = self.debits.plus(amount);
            return Vote::Yes;
        }
        let BalanceKey { account, asset } = KEY;
        let nothing_before = self.debits == Wide::default() && self.credits == Wide::default();
        if nothing_before && self.exceeds_share(amount) {
            let max_percent = self.percent as u8;
            return Vote::No(Reject::HeldShareExceeded { account, asset, max_percent }, START);
        }
        if self.available.plus(self.credits) < amount {
            let short_by = Amount::new(amount.minus(self.available).unwrap().get().unwrap());
            let reject = Reject::InsufficientFunds { account, asset, short_by, seq: START };
            return Vote::No(reject, START);
        }
        self.somebody_waits = true;
        Vote::Wait
    }
}

/// Deposits and withdrawals that are asked for at once.
fn asked() -> impl Strategy<Value = Vec<(bool, u128)>> {
    prop::collection::vec((prop::bool::weighted(0.4), edge().prop_map(|n| n.max(1))), 1..12)
}

fn refused(at: TxnRef) -> RefusedTxn {
    RefusedTxn { txn: at, reject: Reject::Expired, seq: START }
}

/// Decides some, refusing or committing all of them; gives the late votes.
fn decide(
    shard: &mut Balances,
    (number, first_seq): (u64, u64),
    commits: Vec<TxnRef>,
    refusals: Vec<TxnRef>,
) -> BTreeMap<u32, Vote> {
    let decision = Decision {
        number,
        first_seq: CommitSeq::new(first_seq),
        time: Time::default(),
        commits,
        refusals: refusals.into_iter().map(refused).collect(),
        duplicates: Vec::new(),
        repeats: Vec::new(),
        deferred: Vec::new(),
        voted_nanos: 0,
        decided_nanos: 0,
    };
    let (mut applied, mut votes) =
        (Applied { decision: number, shard: 0, rows: vec![], slots: vec![] }, Votes::default());
    shard.decide(&decision, &directory(), &mut applied, &mut votes);
    votes.late.into_iter().map(|(at, vote)| (at.index, vote)).collect()
}

/// Asks all at once and compares the votes. Then refuses all credits, commits what has a yes and
/// refuses the rest, until nothing is undecided: what was granted stands whatever became of others.
fn ask(
    before: Balance,
    percent: u8,
    asked: &[(bool, u128)],
    seen: &Seen,
) -> Result<(), TestCaseError> {
    let mut shard = Balances::new(0, 1, START, percent);
    shard.restore(KEY, before, START, true);
    let txns = (1..).zip(asked).map(|(id, (enters, amount))| on_it(id, *enters, *amount)).collect();
    let slots = vec![AnswerSlot::NOBODY; asked.len()];
    let batch = Arc::new(Batch { number: 0, txns, slots, sequenced_nanos: 0 });
    let mut votes = Votes::default();
    shard.prepare(&batch, &directory(), &mut votes);
    let mut votes: BTreeMap<u32, Vote> = votes.exceptions.into_iter().collect();
    let mut oracle = Oracle {
        available: Wide::of(before.available.get()),
        held: Wide::of(before.held.get()),
        percent: percent.into(),
        debits: Wide::default(),
        credits: Wide::default(),
        somebody_waits: false,
    };
    for (index, (enters, amount)) in (0..).zip(asked) {
        let amount = Wide::of(*amount);
        let expected = if *enters { oracle.enters(amount) } else { oracle.leaves(amount) };
        let vote = votes.entry(index).or_insert(Vote::Yes);
        prop_assert_eq!(&*vote, &expected, "request {}", index);
        seen.note(name(vote));
    }
    if oracle.credits.get().is_none() {
        seen.note("credits above 128 bits");
    }
    settle(&mut shard, before, asked, (votes, seen))
}

fn name(vote: &Vote) -> &'static str {
    match vote {
        Vote::Yes => "yes",
        Vote::No(reject, _) => reject.code(),
        Vote::Wait => "wait",
        Vote::Busy(_) | Vote::Locked(_) => unreachable!("nobody reads or locks"),
    }
}

fn settle(
    shard: &mut Balances,
    before: Balance,
    asked: &[(bool, u128)],
    (mut votes, seen): (BTreeMap<u32, Vote>, &Seen),
) -> Result<(), TestCaseError> {
    let (mut gone, mut seq, mut number) = (Wide::default(), START.get(), 0);
    while !votes.is_empty() {
        let enters = |index: &u32| asked[*index as usize].0;
        let (mut commits, mut refusals) = (Vec::new(), Vec::new());
        for (index, vote) in &votes {
            let at = TxnRef { batch: 0, index: *index };
            match vote {
                Vote::Wait => {}
                Vote::Yes if !enters(index) => commits.push(at),
                _ => refusals.push(at),
            }
        }
        prop_assert!(commits.len() + refusals.len() > 0, "all wait: {:?}", votes);
        for at in commits.iter().chain(&refusals) {
            votes.remove(&at.index);
        }
        gone = gone.plus(Wide::sum(commits.iter().map(|at| asked[at.index as usize].1)));
        let committed = commits.len() as u64;
        let late = decide(shard, (number, seq + 1), commits, refusals);
        for vote in late.values() {
            seen.note(if *vote == Vote::Yes { "late yes" } else { "late no" });
        }
        votes.extend(late);
        (seq, number) = (seq + committed, number + 1);
    }
    prop_assert!(shard.is_quiet());
    let after = shard.read_many(&[KEY]).balances[0].0;
    let available = Wide::of(before.available.get()).minus(gone);
    prop_assert_eq!(Some(Wide::of(after.available.get())), available, "never below zero");
    prop_assert_eq!(Wide::of(after.held.get()), Wide::of(before.held.get()).plus(gone));
    Ok(())
}

#[test]
fn what_is_certain_is_granted_at_any_size() {
    let cases =
        ["yes", "wait", "insufficient_funds", "late yes", "late no", "credits above 128 bits"];
    covering(&cases, (balance(), asked()), |(before, asked), seen| ask(before, 100, &asked, seen));
}

#[test]
fn the_held_share_is_exact_at_any_size() {
    let cases = ["yes", "wait", "insufficient_funds", "held_share_exceeded", "late yes", "late no"];
    covering(&cases, (balance(), 1..=99_u8, asked()), |(before, percent, asked), seen| {
        ask(before, percent, &asked, seen)
    });
}

proptest! {
    /// The most that may be set aside is, and one more is not: rounded down, never up.
    #[test]
    fn the_held_share_is_never_rounded_up(before in balance(), percent in 1..=99_u8) {
        let total = Wide::of(before.total().get()).times(percent.into());
        // By halving: the largest amount with (held + amount) * 100 <= total * percent.
        let fits = |amount: u128| {
            Wide::of(before.held.get()).plus(Wide::of(amount)).times(100) <= total
        };
        let most = (0..128).rev().map(|bit| 1 << bit).fold(0_u128, |most, bit| {
            if fits(most | bit) { most | bit } else { most }
        });
        let vote = |amount: u128| {
            let mut shard = Balances::new(0, 1, START, percent);
            shard.restore(KEY, before, START, true);
            let (txns, slots) = (vec![on_it(1, false, amount)], vec![AnswerSlot::NOBODY]);
            let mut votes = Votes::default();
            let batch = Arc::new(Batch { number: 0, txns, slots, sequenced_nanos: 0 });
            shard.prepare(&batch, &directory(), &mut votes);
            votes.exceptions.is_empty()
        };
        prop_assert!(most == 0 || most > before.available.get() || vote(most));
        prop_assert!(most == u128::MAX || !vote(most + 1));
    }
}
