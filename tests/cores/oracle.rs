//! What a plain serial machine would have answered.
//!
//! Replays the decisions over maps, one transaction at a time in commit_seq order. At every seq it
//! asks of each request that settled there whether it could, of each refusal and read that names
//! that seq whether it is true there. Knows nothing of batches, shards, grants and queues.

use std::collections::{BTreeMap, HashMap};

use crosslatch::address::Link;
use crosslatch::config::SUPPLY_MAX;
use crosslatch::error::Reject;
use crosslatch::message::{Op, RefusedTxn, Row, Side, Txn, TxnRef};
use crosslatch::request::{AssetSpec, Command};
use crosslatch::types::{AccountId, Amount, AssetId, ChainId, ChainKind, CommitSeq, RequestId};

use crate::Coverage;
use crate::requests::{ASSETS, asset, own_link};
use crate::world::{Logged, START, World};

/// The state after some seq.
struct State {
    seq: CommitSeq,
    balances: BTreeMap<(AccountId, AssetId), u128>,
    supply: BTreeMap<AssetId, u128>,
    assets: Vec<AssetSpec>,
    accounts: BTreeMap<AccountId, BTreeMap<ChainId, String>>,
}

impl State {
    fn start(world: &World) -> Self {
        let mut state = Self {
            seq: START,
            balances: BTreeMap::new(),
            supply: BTreeMap::new(),
            assets: ASSETS.iter().map(|(name, chain)| asset(name, *chain)).collect(),
            accounts: BTreeMap::new(),
        };
        for (account, chains) in &world.accounts {
            let links = chains.iter().map(|chain| own_link(*account, *chain)).map(text).collect();
            state.accounts.insert(*account, links);
        }
        for (key, amount) in &world.funded {
            state.balances.insert((key.account, key.asset), amount.get());
            *state.supply.entry(key.asset).or_default() += amount.get();
        }
        state
    }

    fn balance(&self, account: AccountId, asset: AssetId) -> u128 {
        self.balances.get(&(account, asset)).copied().unwrap_or_default()
    }

    /// Every reason for which this state refuses the request.
    fn reasons(&self, txn: &Txn) -> Vec<Reject> {
        match &txn.command {
            Command::PutAsset(spec) => self.asset_reasons(spec),
            Command::PutAccount { account, links } => self.link_reasons(*account, links),
            Command::RemoveLink { account, .. } if self.accounts.contains_key(account) => vec![],
            Command::RemoveLink { account, .. } => vec![Reject::UnknownAccount(*account)],
            Command::Swap(_) | Command::Deposit(_) | Command::Withdraw(_) => {
                let mut reasons: Vec<Reject> =
                    txn.ops().filter_map(|op| self.op_reason(&op)).collect();
                if let Command::Deposit(to) = &txn.command {
                    let supply = self.supply.get(&to.asset).copied().unwrap_or_default();
                    if supply.checked_add(to.amount.get()).is_none_or(|sum| sum > SUPPLY_MAX) {
                        reasons.push(Reject::SupplyExceeded(to.asset));
                    }
                }
                reasons
            }
        }
    }

    fn op_reason(&self, op: &Op) -> Option<Reject> {
        let (account, asset) = (op.key.account, op.key.asset);
        let Some(spec) = self.assets.get(asset.get() as usize) else {
            return Some(Reject::UnknownAsset(asset));
        };
        let Some(links) = self.accounts.get(&account) else {
            return Some(Reject::UnknownAccount(account));
        };
        if !links.contains_key(&spec.chain) {
            return Some(Reject::NotLinked { account, chain: spec.chain });
        }
        let short = op.amount.get().checked_sub(self.balance(account, asset))?;
        (op.side == Side::Debit && short > 0).then_some(Reject::InsufficientFunds {
            account,
            asset,
            short_by: Amount::new(short),
            seq: self.seq,
        })
    }

    fn chain_kind(&self, chain: ChainId) -> Option<ChainKind> {
        self.assets.iter().find(|spec| spec.chain == chain).map(|spec| spec.chain_kind)
    }

    fn asset_reasons(&self, spec: &AssetSpec) -> Vec<Reject> {
        let same = self.assets.iter().find(|other| other.name == spec.name);
        let clashes = match same {
            Some(other) => other != spec,
            None => self.chain_kind(spec.chain).is_some_and(|kind| kind != spec.chain_kind),
        };
        if clashes { vec![Reject::AlreadyExists(String::new())] } else { vec![] }
    }

    fn link_reasons(&self, account: AccountId, links: &[Link]) -> Vec<Reject> {
        let mut mine = self.accounts.get(&account).cloned().unwrap_or_default();
        let mut reasons = Vec::new();
        for (chain, address) in links.iter().cloned().map(text) {
            if self.chain_kind(chain).is_none() {
                reasons.push(Reject::UnknownChain(chain));
            }
            let others = self.accounts.iter().filter(|(other, _)| **other != account);
            let taken = others.into_iter().any(|(_, links)| links.get(&chain) == Some(&address));
            if taken || mine.get(&chain).is_some_and(|has| *has != address) {
                reasons.push(Reject::AlreadyLinked(String::new()));
            }
            mine.insert(chain, address);
        }
        reasons
    }

    /// Carries out what nothing refuses.
    fn apply(&mut self, txn: &Txn) {
        self.seq = self.seq.next();
        for op in txn.ops() {
            let balance = self.balances.entry((op.key.account, op.key.asset)).or_default();
            let moved = match op.side {
                Side::Debit => balance.checked_sub(op.amount.get()),
                Side::Credit => balance.checked_add(op.amount.get()),
            };
            *balance = moved.expect("settled, and so affordable");
        }
        match &txn.command {
            Command::Swap(_) => {}
            Command::Deposit(to) => *self.supply.entry(to.asset).or_default() += to.amount.get(),
            Command::Withdraw(from) => {
                *self.supply.entry(from.asset).or_default() -= from.amount.get();
            }
            Command::PutAsset(spec) => {
                if self.assets.iter().all(|other| other.name != spec.name) {
                    self.assets.push(spec.clone());
                }
            }
            Command::PutAccount { account, links } => {
                let mine = self.accounts.entry(*account).or_default();
                mine.extend(links.iter().cloned().map(text));
            }
            Command::RemoveLink { account, chain } => {
                self.accounts.get_mut(account).expect("it exists").remove(chain);
            }
        }
    }
}

fn text(link: Link) -> (ChainId, String) {
    (link.chain, link.address.as_str().to_owned())
}

/// The replay of one world's log.
struct Replay<'a> {
    world: &'a World,
    state: State,
    /// Refusals by the seq that they saw.
    refusals: BTreeMap<CommitSeq, Vec<&'a RefusedTxn>>,
    coverage: Coverage,
}

/// Replays all that a world decided, and checks it.
pub fn check(world: &World) -> Coverage {
    let mut refusals: BTreeMap<CommitSeq, Vec<&RefusedTxn>> = BTreeMap::new();
    for Logged { decision, .. } in &world.log {
        for refused in &decision.refusals {
            assert!(refused.seq <= decision.last_seq(), "answered before what it saw is durable");
            refusals.entry(refused.seq).or_default().push(refused);
        }
    }
    let state = State::start(world);
    let mut replay = Replay { world, state, refusals, coverage: world.coverage };
    replay.check_state();
    for logged in &world.log {
        replay.check_decision(logged);
    }
    assert!(replay.refusals.is_empty(), "saw a state that never was: {:?}", replay.refusals);
    replay.check_duplicates();
    replay.check_end();
    replay.coverage
}

impl<'a> Replay<'a> {
    fn txn(&self, at: TxnRef) -> &'a Txn {
        &self.world.batches[usize::try_from(at.batch).expect("few")].txns[at.index as usize]
    }

    /// `D` when the request was handed over.
    fn known(&self, at: TxnRef) -> CommitSeq {
        let batch = &self.world.batches[usize::try_from(at.batch).expect("few")];
        let submission = batch.slots[at.index as usize].submission;
        self.world.known[usize::try_from(submission).expect("few")]
    }

    fn check_decision(&mut self, logged: &Logged) {
        let Logged { decision, applied } = logged;
        assert_eq!(decision.first_seq, self.state.seq.next(), "commit_seq is dense");
        let shards = self.world.shards.len();
        let mut rows: Vec<_> = applied
            .iter()
            .map(|applied| applied.as_ref().expect("every shard applied it"))
            .map(|applied| applied.rows.iter().zip(&applied.slots))
            .collect();
        for at in &decision.commits {
            let txn = self.txn(*at);
            let reasons = self.state.reasons(txn);
            assert!(reasons.is_empty(), "settled, but {reasons:?}: {txn:?}");
            let time = self.world.sequenced[usize::try_from(at.batch).expect("few")];
            assert!(time < txn.deadline, "settled after its deadline");
            assert!(self.state.seq >= self.known(*at), "before what its caller knew");
            let before: Vec<u128> = txn.ops().map(|op| self.now(&op)).collect();
            self.state.apply(txn);
            for (op, before) in txn.ops().zip(before) {
                let (row, _) = rows[op.key.account.shard(shards)].next().expect("a row for each");
                check_row(row, before, self.now(&op));
            }
            self.coverage.settled += 1;
            self.coverage.directory_changes += u64::from(txn.command.is_directory());
            self.check_state();
        }
        assert!(rows.iter_mut().all(|rows| rows.next().is_none()), "a row for each and no more");
    }

    fn now(&self, op: &Op) -> u128 {
        self.state.balance(op.key.account, op.key.asset)
    }

    /// Checks everything that claims to have seen the state as it is now.
    fn check_state(&mut self) {
        for refused in self.refusals.remove(&self.state.seq).unwrap_or_default() {
            self.check_refusal(refused);
        }
        for read in self.world.reads.iter().filter(|read| read.found.seq == self.state.seq) {
            let mut shown: BTreeMap<AssetId, u128> = BTreeMap::new();
            for found in &read.found.balances {
                shown.insert(found.asset, found.balance.total().get());
            }
            for asset in (0..self.state.assets.len() as u32).map(AssetId::new) {
                let expected = self.state.balance(read.account, asset);
                assert_eq!(shown.get(&asset).copied().unwrap_or_default(), expected, "read");
            }
        }
        for (asset, supply) in &self.state.supply {
            let balances = self.state.balances.iter().filter(|((_, of), _)| of == asset);
            assert_eq!(balances.map(|(_, balance)| balance).sum::<u128>(), *supply);
        }
    }

    fn check_refusal(&mut self, refused: &RefusedTxn) {
        let txn = self.txn(refused.txn);
        assert!(refused.seq >= self.known(refused.txn), "refused by a state that was long gone");
        let reject = &refused.reject;
        if *reject == Reject::Expired {
            let batch = usize::try_from(refused.txn.batch).expect("few");
            assert!(self.world.sequenced[batch] >= txn.deadline, "refused before its deadline");
            self.coverage.refused_early += 1;
            return;
        }
        let reasons = self.state.reasons(txn);
        let first = reasons.iter().map(Reject::precedence).min();
        assert_eq!(first, Some(reject.precedence()), "{reject:?} of {reasons:?}: {txn:?}");
        match reject {
            // Their texts are not the oracle's.
            Reject::AlreadyExists(_) | Reject::AlreadyLinked(_) => {}
            _ => assert!(reasons.contains(reject), "{reject:?} is none of {reasons:?}: {txn:?}"),
        }
        match reject {
            Reject::InsufficientFunds { account, asset, short_by, .. } => {
                let hoped_for = self.credits_to_come(refused, (*account, *asset));
                assert!(hoped_for < short_by.get(), "an earlier request brought enough: {txn:?}");
                self.coverage.short += 1;
            }
            Reject::NotLinked { .. } => self.coverage.not_linked += 1,
            Reject::SupplyExceeded(_) => self.coverage.capped += 1,
            _ => self.coverage.refused_early += 1,
        }
    }

    /// What earlier requests brought to a balance after the state that a refusal saw. It saw them
    /// undecided, so it was certain only if all of them together could not help.
    fn credits_to_come(&self, refused: &RefusedTxn, of: (AccountId, AssetId)) -> u128 {
        let mut sum = 0;
        for Logged { decision, .. } in &self.world.log {
            for (seq, at) in (decision.first_seq.get()..).zip(&decision.commits) {
                if seq > refused.seq.get() && *at < refused.txn {
                    let ops = self.txn(*at).ops();
                    let credits = ops.filter(|op| {
                        op.side == Side::Credit && (op.key.account, op.key.asset) == of
                    });
                    sum += credits.map(|op| op.amount.get()).sum::<u128>();
                }
            }
        }
        sum
    }

    /// The first request of an id is decided, every other follows it: together with it, or later.
    fn check_duplicates(&mut self) {
        let mut first: HashMap<RequestId, (TxnRef, usize)> = HashMap::new();
        let mut decided: HashMap<TxnRef, usize> = HashMap::new();
        let mut duplicates: HashMap<TxnRef, usize> = HashMap::new();
        for (number, Logged { decision, .. }) in self.world.log.iter().enumerate() {
            let refused = decision.refusals.iter().map(|refused| refused.txn);
            let decided_here = decision.commits.iter().copied().chain(refused);
            decided.extend(decided_here.map(|at| (at, number)));
            duplicates.extend(decision.duplicates.iter().map(|at| (*at, number)));
        }
        assert_eq!(decided.len() + duplicates.len(), self.world.submitted, "all are decided");
        for batch in &self.world.batches {
            for (index, txn) in (0..).zip(&batch.txns) {
                let at = TxnRef { batch: batch.number, index };
                let Some((of, of_number)) = first.get(&txn.id) else {
                    let number = *decided.get(&at).expect("the first of its id is decided");
                    first.insert(txn.id, (at, number));
                    continue;
                };
                let number = *duplicates.get(&at).expect("the others are not");
                assert!(number >= *of_number, "{at:?} was answered before {of:?}");
                let together = number == *of_number && of.batch != at.batch;
                self.coverage.followers += u64::from(together);
            }
        }
    }

    fn check_end(&self) {
        let assets = self.state.assets.len();
        let mut sums = vec![0_u128; assets];
        for shard in &self.world.shards {
            assert_eq!(shard.applied(), self.state.seq);
            for (sum, part) in sums.iter_mut().zip(shard.totals(assets).sums) {
                *sum += part.get();
            }
        }
        for (number, sum) in (0..).zip(sums) {
            let expected = self.state.supply.get(&AssetId::new(number)).copied();
            assert_eq!(sum, expected.unwrap_or_default(), "asset {number}");
            assert_eq!(self.world.supply()[number as usize].get(), sum, "asset {number}");
        }
    }
}

fn check_row(row: &Row, before: u128, after: u128) {
    assert_eq!((row.before.total().get(), row.after.total().get()), (before, after), "a row");
}
