//! What a plain serial machine would have answered.
//!
//! Replays the decisions over maps, one transaction at a time in commit_seq order. At every seq it
//! asks of each request that settled there whether it could, of each refusal and read that names
//! that seq whether it is true there. Knows nothing of batches, shards, grants and queues.

use std::collections::{BTreeMap, HashMap};

use crosslatch::address::Link;
use crosslatch::config::SUPPLY_MAX;
use crosslatch::error::Reject;
use crosslatch::message::{AnswerSlot, Op, RefusedTxn, RepeatedTxn, Row, Side, Txn, TxnRef};
use crosslatch::request::{Action, AssetSpec, Command, Prepare, Resolve, Transact, Transfer};
use crosslatch::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, ChainId, ChainKind, CommitSeq, RequestId,
    Resolution, Subject, Time, Token,
};

use crate::Coverage;
use crate::requests::{ASSETS, asset, own_link};
use crate::world::{Logged, START, World};

/// The state after some seq.
struct State {
    seq: CommitSeq,
    balances: BTreeMap<(AccountId, AssetId), Balance>,
    versions: BTreeMap<Subject, CommitSeq>,
    holds: BTreeMap<Token, Held>,
    credits: BTreeMap<(AssetId, u128), CommitSeq>,
    per_account_max: usize,
    share_max_percent: u128,
    supply: BTreeMap<AssetId, u128>,
    assets: Vec<AssetSpec>,
    accounts: BTreeMap<AccountId, BTreeMap<ChainId, String>>,
}

/// A hold, open or resolved.
struct Held {
    /// Whose, of what, how much.
    amounts: Vec<(BalanceKey, Amount)>,
    withdrawal: bool,
    exclusive: bool,
    expires_at: Time,
    resolved: Option<(Resolution, CommitSeq)>,
}

impl Held {
    fn holds_of(&self, account: AccountId) -> bool {
        self.resolved.is_none() && self.amounts.iter().any(|(key, _)| key.account == account)
    }
}

impl State {
    fn start(world: &World) -> Self {
        let mut state = Self {
            seq: START,
            balances: BTreeMap::new(),
            versions: BTreeMap::new(),
            holds: BTreeMap::new(),
            credits: BTreeMap::new(),
            per_account_max: world.limits.holds_per_account_max,
            share_max_percent: world.limits.held_share_max_percent.into(),
            supply: BTreeMap::new(),
            assets: ASSETS.iter().map(|(name, chain)| asset(name, *chain)).collect(),
            accounts: BTreeMap::new(),
        };
        for (account, chains) in &world.accounts {
            let links = chains.iter().map(|chain| own_link(*account, *chain)).map(text).collect();
            state.accounts.insert(*account, links);
        }
        for (key, amount) in &world.funded {
            let balance = Balance { available: *amount, held: Amount::ZERO };
            state.balances.insert((key.account, key.asset), balance);
            state.versions.insert(Subject::Balance(*key), START);
            *state.supply.entry(key.asset).or_default() += amount.get();
        }
        state
    }

    fn balance(&self, account: AccountId, asset: AssetId) -> Balance {
        self.balances.get(&(account, asset)).copied().unwrap_or_default()
    }

    /// Every reason for which this state refuses the request.
    fn reasons(&self, txn: &Txn) -> Vec<Reject> {
        match &txn.command {
            Command::PutAsset(spec) => self.asset_reasons(spec),
            Command::PutAccount { account, links } => self.link_reasons(*account, links),
            Command::RemoveLink { account, .. } if self.accounts.contains_key(account) => vec![],
            Command::RemoveLink { account, .. } => vec![Reject::UnknownAccount(*account)],
            Command::Resolve(resolve) => self.resolve_reasons(*resolve),
            _ => {
                let mut reasons: Vec<Reject> =
                    txn.ops().flat_map(|op| self.op_reasons(&op)).collect();
                reasons.extend(self.other_reasons(txn));
                reasons
            }
        }
    }

    /// Reasons that are not about one balance.
    fn other_reasons(&self, txn: &Txn) -> Vec<Reject> {
        match &txn.command {
            Command::Deposit(to) => self.deposit_reasons(to),
            Command::Transact(transact) => self.conflicts(transact),
            Command::Prepare(_) | Command::Withdraw(_) => {
                let max = self.per_account_max;
                let full = |account: AccountId| {
                    self.holds.values().filter(|held| held.holds_of(account)).count() >= max
                };
                let payers = txn.ops().filter(|op| op.side.needs_funds());
                payers
                    .map(|op| op.key.account)
                    .filter(|account| full(*account))
                    .map(|account| Reject::TooManyHolds { account: Some(account), max: max as u64 })
                    .collect()
            }
            _ => vec![],
        }
    }

    fn deposit_reasons(&self, to: &Transfer) -> Vec<Reject> {
        let mut reasons = Vec::new();
        let supply = self.supply.get(&to.asset).copied().unwrap_or_default();
        if supply.checked_add(to.amount.get()).is_none_or(|sum| sum > SUPPLY_MAX) {
            reasons.push(Reject::SupplyExceeded(to.asset));
        }
        let credited = to.reference_hash().and_then(|hash| self.credits.get(&(to.asset, hash)));
        if let Some(seq) = credited {
            reasons.push(Reject::AlreadyCredited { asset: to.asset, seq: *seq });
        }
        reasons
    }

    fn conflicts(&self, transact: &Transact) -> Vec<Reject> {
        let version = |subject| self.versions.get(subject).copied().unwrap_or_default();
        let changed = transact.reads.iter().filter(|read| version(&read.subject) != read.version);
        let changed = changed.map(|read| Reject::Conflict { subject: read.subject.clone() });
        let unknown = transact.reads.iter().filter_map(|read| match &read.subject {
            Subject::Balance(of) if of.asset.get() as usize >= self.assets.len() => {
                Some(Reject::UnknownAsset(of.asset))
            }
            _ => None,
        });
        unknown.chain(changed).collect()
    }

    fn resolve_reasons(&self, resolve: Resolve) -> Vec<Reject> {
        let Resolve { token, action } = resolve;
        let withdrawal = matches!(action, Action::Confirm | Action::Cancel);
        match self.holds.get(&token) {
            None => vec![Reject::UnknownToken(token)],
            Some(held) if action != Action::Expire && withdrawal != held.withdrawal => {
                vec![Reject::UnknownToken(token)]
            }
            Some(held) => held
                .resolved
                .map(|(how, seq)| Reject::AlreadyResolved { token, how, seq })
                .into_iter()
                .collect(),
        }
    }

    fn op_reasons(&self, op: &Op) -> Vec<Reject> {
        match self.stranger(op.key) {
            // A hold that is resolved was checked when it was made.
            Some(reject) if op.side != Side::Deliver => vec![reject],
            _ if op.side.needs_funds() => self.shortages(op),
            _ => vec![],
        }
    }

    /// Why the account can have nothing of the asset.
    fn stranger(&self, key: BalanceKey) -> Option<Reject> {
        let BalanceKey { account, asset } = key;
        let Some(spec) = self.assets.get(asset.get() as usize) else {
            return Some(Reject::UnknownAsset(asset));
        };
        let Some(links) = self.accounts.get(&account) else {
            return Some(Reject::UnknownAccount(account));
        };
        let chain = spec.chain;
        (!links.contains_key(&chain)).then_some(Reject::NotLinked { account, chain })
    }

    fn shortages(&self, op: &Op) -> Vec<Reject> {
        let BalanceKey { account, asset } = op.key;
        let mut reasons = Vec::new();
        let balance = self.balance(account, asset);
        let available = balance.available.get();
        if available < op.amount.get() {
            let short_by = Amount::new(op.amount.get() - available);
            reasons.push(Reject::InsufficientFunds { account, asset, short_by, seq: self.seq });
        }
        let percent = self.share_max_percent;
        let held = balance.held.get().saturating_add(op.amount.get());
        let over = times(held, 100) > times(balance.total().get(), percent);
        if op.side != Side::Debit && percent < 100 && over {
            let max_percent = u8::try_from(percent).expect("at most 100");
            reasons.push(Reject::HeldShareExceeded { account, asset, max_percent });
        }
        reasons
    }

    /// Which exclusive hold keeps a balance locked.
    fn locked_by(&self, key: BalanceKey) -> Option<Token> {
        let open = self.holds.iter().filter(|(_, held)| held.resolved.is_none() && held.exclusive);
        let locks = |held: &Held| held.amounts.iter().any(|(of, _)| *of == key);
        open.filter(|(_, held)| locks(held)).map(|(token, _)| *token).next()
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
        for op in txn.row_ops() {
            let balance = self.balances.entry((op.key.account, op.key.asset)).or_default();
            *balance = op.apply(*balance).expect("settled, and so affordable");
            self.versions.insert(Subject::Balance(op.key), self.seq);
        }
        match &txn.command {
            Command::Swap(_) => {}
            Command::Deposit(to) => {
                *self.supply.entry(to.asset).or_default() += to.amount.get();
                let credit = to.reference_hash().map(|hash| ((to.asset, hash), self.seq));
                self.credits.extend(credit);
            }
            Command::Withdraw(_) => self.hold(txn, true, false),
            Command::Prepare(prepare) => self.hold(txn, false, prepare.exclusive),
            Command::Resolve(resolve) => self.resolve(*resolve),
            Command::Transact(transact) => {
                for write in &transact.writes {
                    self.versions.insert(Subject::Key(write.key.clone()), self.seq);
                }
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
            other => unreachable!("nobody here asks for {}", other.kind()),
        }
    }
}

impl State {
    fn hold(&mut self, txn: &Txn, withdrawal: bool, exclusive: bool) {
        let amounts = txn.row_ops().map(|op| (op.key, op.amount)).collect();
        let expires_at = txn.expires_at;
        let held = Held { amounts, withdrawal, exclusive, expires_at, resolved: None };
        assert!(self.holds.insert(Token::of(txn.id), held).is_none(), "one hold a token");
    }

    fn resolve(&mut self, resolve: Resolve) {
        let held = self.holds.get_mut(&resolve.token).expect("it was there");
        held.resolved = Some((resolve.action.resolution(), self.seq));
        if resolve.action == Action::Confirm {
            for (key, amount) in &held.amounts {
                *self.supply.entry(key.asset).or_default() -= amount.get();
            }
        }
    }
}

/// A product with a small number, which may exceed 128 bits: high and low part.
fn times(large: u128, small: u128) -> (u128, u128) {
    let low = (large & u128::from(u64::MAX)) * small;
    ((large >> 64) * small + (low >> 64), low & u128::from(u64::MAX))
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
        for repeated in &decision.repeats {
            assert!(repeated.seq <= decision.last_seq(), "answered before what it saw is durable");
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
        match batch.slots[at.index as usize] {
            AnswerSlot::NOBODY => START,
            slot => self.world.known[usize::try_from(slot.submission).expect("few")],
        }
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
            let mut reasons = self.state.reasons(txn);
            reasons.retain(|reject| !self.is_overtaken(*at, reject));
            assert!(reasons.is_empty(), "settled, but {reasons:?}: {txn:?}");
            let time = self.world.sequenced[usize::try_from(at.batch).expect("few")];
            assert!(time < txn.deadline, "settled after its deadline");
            assert!(self.state.seq >= self.known(*at), "before what its caller knew");
            self.check_locks(txn);
            self.check_times(txn, time);
            let before: Vec<Balance> = txn.row_ops().map(|op| self.now(&op)).collect();
            self.state.apply(txn);
            for (op, before) in txn.row_ops().zip(before) {
                let (row, _) = rows[op.key.account.shard(shards)].next().expect("a row for each");
                check_row(row, before, self.now(&op));
            }
            self.coverage.settled += 1;
            self.coverage.directory_changes += u64::from(txn.command.is_directory());
            self.check_state();
        }
        assert!(rows.iter_mut().all(|rows| rows.next().is_none()), "a row for each and no more");
        for repeated in &decision.repeats {
            self.check_repeat(repeated);
        }
    }

    /// The share that may be held is that of the balance when the amount was granted: a later debit
    /// that settled first may have made the balance smaller since.
    fn is_overtaken(&self, granted: TxnRef, reject: &Reject) -> bool {
        let Reject::HeldShareExceeded { account, asset, .. } = reject else {
            return false;
        };
        let key = BalanceKey { account: *account, asset: *asset };
        let mut settled =
            self.world.log.iter().flat_map(|logged| {
                (logged.decision.first_seq.get()..).zip(&logged.decision.commits)
            });
        settled.any(|(seq, at)| {
            let takes = |op: Op| op.key == key && op.side.needs_funds();
            seq <= self.state.seq.get() && *at > granted && self.txn(*at).ops().any(takes)
        })
    }

    /// What an exclusive hold has locked nobody else takes from, nor reads in a transaction.
    fn check_locks(&self, txn: &Txn) {
        let debits = txn.ops().filter(|op| op.side.needs_funds()).map(|op| op.key);
        let reads = match &txn.command {
            Command::Transact(transact) => &transact.reads[..],
            _ => &[],
        };
        let reads = reads.iter().filter_map(|read| match &read.subject {
            Subject::Balance(key) => Some(*key),
            Subject::Key(_) => None,
        });
        for key in debits.chain(reads) {
            assert_eq!(self.state.locked_by(key), None, "locked, and taken from: {txn:?}");
        }
    }

    /// A hold ends by itself when its time is over, and not before; by others only before.
    fn check_times(&mut self, txn: &Txn, sequenced: Time) {
        match &txn.command {
            Command::Resolve(Resolve { token, action }) => {
                let expires_at = self.state.holds[token].expires_at;
                let over = sequenced >= expires_at;
                assert_eq!(over, *action == Action::Expire, "resolved at the wrong time: {txn:?}");
                match action.resolution() {
                    Resolution::Committed => self.coverage.committed += 1,
                    Resolution::RolledBack => self.coverage.rolled_back += 1,
                    Resolution::Expired => self.coverage.expired += 1,
                }
            }
            Command::Prepare(prepare) => {
                let Prepare { expires_in_ms, exclusive, .. } = **prepare;
                let due = sequenced.get() + expires_in_ms * 1_000;
                assert_eq!(txn.expires_at, Time::new(due), "expires when it said");
                self.coverage.exclusive += u64::from(exclusive);
            }
            Command::Transact(_) => self.coverage.transactions += 1,
            _ => {}
        }
    }

    fn check_repeat(&mut self, repeated: &RepeatedTxn) {
        let Command::Resolve(resolve) = self.txn(repeated.txn).command else {
            panic!("only a resolution can ask for what was done");
        };
        let resolved = self.state.holds[&resolve.token].resolved;
        assert_eq!(resolved, Some((resolve.action.resolution(), repeated.first)), "as it was");
        assert!(repeated.seq >= self.known(repeated.txn));
        self.coverage.repeats += 1;
    }

    fn now(&self, op: &Op) -> Balance {
        self.state.balance(op.key.account, op.key.asset)
    }

    /// Checks everything that claims to have seen the state as it is now.
    fn check_state(&mut self) {
        for refused in self.refusals.remove(&self.state.seq).unwrap_or_default() {
            self.check_refusal(refused);
        }
        for read in self.world.reads.iter().filter(|read| read.found.seq == self.state.seq) {
            let mut shown: BTreeMap<AssetId, Balance> = BTreeMap::new();
            for found in &read.found.balances {
                shown.insert(found.asset, found.balance);
            }
            for asset in (0..self.state.assets.len() as u32).map(AssetId::new) {
                let expected = self.state.balance(read.account, asset);
                assert_eq!(shown.get(&asset).copied().unwrap_or_default(), expected, "read");
            }
        }
        for (asset, supply) in &self.state.supply {
            let balances = self.state.balances.iter().filter(|((_, of), _)| of == asset);
            assert_eq!(balances.map(|(_, balance)| balance.total().get()).sum::<u128>(), *supply);
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
        if self.is_about_waiting(refused, txn) {
            return;
        }
        let reasons = self.state.reasons(txn);
        // One shard's no is enough, and another may see what comes first at another seq.
        if matches!(txn.command, Command::Swap(_) | Command::Deposit(_)) {
            let first = reasons.iter().map(Reject::precedence).min();
            assert_eq!(first, Some(reject.precedence()), "{reject:?} of {reasons:?}: {txn:?}");
        }
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
            Reject::AlreadyResolved { .. } => self.coverage.already_resolved += 1,
            Reject::UnknownToken(_) => self.coverage.unknown_token += 1,
            Reject::AlreadyCredited { .. } => self.coverage.already_credited += 1,
            Reject::TooManyHolds { .. } => self.coverage.too_many_holds += 1,
            Reject::HeldShareExceeded { .. } => self.coverage.share_exceeded += 1,
            Reject::Conflict { .. } => self.coverage.conflicts += 1,
            _ => self.coverage.refused_early += 1,
        }
    }

    /// Whether a refusal says that it met something for too long, which no single state shows: then
    /// it has to have met it.
    fn is_about_waiting(&mut self, refused: &RefusedTxn, txn: &Txn) -> bool {
        match &refused.reject {
            Reject::LockTimeout { token } => {
                let held = self.state.holds.get(token).expect("it waited for a hold");
                assert!(held.exclusive, "nobody waits for a hold that is not");
                assert_eq!(held.resolved, None, "it need not wait any more");
                self.coverage.lock_timeouts += 1;
                true
            }
            Reject::Conflict { subject } => {
                if self.state.reasons(txn).contains(&refused.reject) {
                    return false;
                }
                let given_back = self.given_back(txn.id) + 1;
                let max = self.world.limits.transaction_attempts_max as usize;
                assert!(given_back >= max, "{subject:?} did not change: {txn:?}");
                self.coverage.busy_too_often += 1;
                true
            }
            _ => false,
        }
    }

    fn given_back(&self, id: RequestId) -> usize {
        let deferred = self.world.log.iter().flat_map(|logged| &logged.decision.deferred);
        deferred.filter(|at| self.txn(**at).id == id).count()
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
                        matches!(op.side, Side::Credit | Side::Deliver | Side::Release)
                            && (op.key.account, op.key.asset) == of
                    });
                    sum += credits.map(|op| op.amount.get()).sum::<u128>();
                }
            }
        }
        sum
    }

    /// Of all requests with one id one is decided, every other follows it: together with it, or
    /// later. Every request handed over is answered once.
    fn check_duplicates(&mut self) {
        let mut decided: HashMap<RequestId, (TxnRef, usize)> = HashMap::new();
        let mut answered: HashMap<(u64, u32), TxnRef> = HashMap::new();
        let mut duplicates: Vec<(TxnRef, usize)> = Vec::new();
        for (number, Logged { decision, .. }) in self.world.log.iter().enumerate() {
            let refused = decision.refusals.iter().map(|refused| refused.txn);
            let repeated = decision.repeats.iter().map(|repeated| repeated.txn);
            let decided_here = decision.commits.iter().copied().chain(refused).chain(repeated);
            for at in decided_here {
                let batch = &self.world.batches[usize::try_from(at.batch).expect("few")];
                let slot = batch.slots[at.index as usize];
                if slot == AnswerSlot::NOBODY {
                    continue;
                }
                let before = decided.insert(self.txn(at).id, (at, number));
                assert_eq!(before, None, "a second outcome of one id: {at:?}");
                let before = answered.insert((slot.submission, slot.position), at);
                assert_eq!(before, None, "answered twice: {at:?}");
            }
            duplicates.extend(decision.duplicates.iter().map(|at| (*at, number)));
            self.coverage.given_back += decision.deferred.len() as u64;
        }
        for (at, number) in duplicates {
            let batch = &self.world.batches[usize::try_from(at.batch).expect("few")];
            let slot = batch.slots[at.index as usize];
            let before = answered.insert((slot.submission, slot.position), at);
            assert_eq!(before, None, "answered twice: {at:?}");
            let of = decided.get(&self.txn(at).id);
            let (of, of_number) = of.expect("one of its id is decided");
            assert!(number >= *of_number, "{at:?} was answered before {of:?}");
            let together = number == *of_number && of.batch != at.batch;
            self.coverage.followers += u64::from(together);
        }
        assert_eq!(answered.len(), self.world.submitted, "all are answered");
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
        let open = self.state.holds.values().filter(|held| held.resolved.is_none());
        assert_eq!(self.world.held(), (open.clone().count(), 0), "holds leak, or were lost");
        assert!(open.clone().all(|held| held.expires_at == Time::NEVER), "it should have expired");
        let mut held: BTreeMap<(AccountId, AssetId), u128> = BTreeMap::new();
        for (key, amount) in open.flat_map(|held| &held.amounts) {
            *held.entry((key.account, key.asset)).or_default() += amount.get();
        }
        for (key, balance) in &self.state.balances {
            let expected = held.get(key).copied().unwrap_or_default();
            assert_eq!(balance.held.get(), expected, "held without a hold: {key:?}");
        }
        for (number, sum) in (0..).zip(sums) {
            let expected = self.state.supply.get(&AssetId::new(number)).copied();
            assert_eq!(sum, expected.unwrap_or_default(), "asset {number}");
            assert_eq!(self.world.supply()[number as usize].get(), sum, "asset {number}");
        }
    }
}

fn check_row(row: &Row, before: Balance, after: Balance) {
    assert_eq!((row.before, row.after), (before, after), "a row");
}
