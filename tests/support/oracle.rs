//! The engine as one would write it without threads, disk or speed: maps, and one request after
//! another. What it says is what the engine must come to.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;

use crosslatch::address::Link;
use crosslatch::config::{ASSETS_MAX, SUPPLY_MAX};
use crosslatch::engine::Engine;
use crosslatch::error::Reject;
use crosslatch::message::{AccountBalances, BalanceNow};
use crosslatch::request::{
    AssetSpec, Change, Command, LegReceipt, Outcome, Receipt, Refusal, Request, Transfer,
};
use crosslatch::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, ChainId, CommitSeq, Leg, RequestId,
};

use crate::support::audit;

/// The seq under which it happened, or the one that it saw.
pub fn seq_of(outcome: &Outcome) -> CommitSeq {
    match outcome {
        Outcome::Settled(receipt) => receipt.commit_seq,
        Outcome::Rejected(refusal) => refusal.seq,
    }
}

/// Why it was refused, if it was.
pub fn reject(outcome: &Outcome) -> Option<&Reject> {
    match outcome {
        Outcome::Settled(_) => None,
        Outcome::Rejected(refusal) => Some(&refusal.reject),
    }
}

/// What a command does to balances: before and after, per balance that it mentions.
pub type Rows = BTreeMap<BalanceKey, (u128, u128)>;

/// A venue with everything that ever happened in it.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    assets: Vec<AssetSpec>,
    accounts: BTreeMap<AccountId, BTreeMap<ChainId, Link>>,
    /// Every version of every balance, ascending.
    balances: BTreeMap<BalanceKey, Vec<(CommitSeq, u128)>>,
    supply: BTreeMap<AssetId, u128>,
    seq: CommitSeq,
}

impl Oracle {
    /// The last seq.
    pub fn seq(&self) -> CommitSeq {
        self.seq
    }

    /// Deposits less withdrawals.
    fn supply(&self, asset: AssetId) -> u128 {
        self.supply.get(&asset).copied().unwrap_or(0)
    }

    /// The account's balances as of a seq, by asset, as the engine shows them.
    pub fn balances_at(&self, account: AccountId, at: CommitSeq) -> AccountBalances {
        let assets = (0..self.assets.len()).map(|asset| AssetId::new(asset as u32));
        let version = |asset| {
            let versions = self.balances.get(&BalanceKey { account, asset })?;
            let (version, amount) = versions.iter().rev().find(|(seq, _)| *seq <= at)?;
            let balance = Balance { available: Amount::new(*amount), held: Amount::ZERO };
            Some(BalanceNow { asset, balance, version: *version })
        };
        AccountBalances { seq: at, balances: assets.filter_map(version).collect() }
    }

    /// Takes everything that was answered, in the order of the seqs.
    pub fn replay(&mut self, answered: &[(Request, Outcome)]) {
        let mut in_order: Vec<&(Request, Outcome)> = answered.iter().collect();
        // A refusal saw what settled under its seq.
        in_order.sort_by_key(|(_, outcome)| (seq_of(outcome), reject(outcome).is_some()));
        for (request, outcome) in in_order {
            self.take(&request.command, request.id, outcome);
        }
    }

    /// An engine in which nothing goes on must have all of this, and nothing else.
    pub fn check(&self, engine: &Engine) {
        assert_eq!(engine.status().durable_seq, self.seq);
        for account in self.accounts.keys() {
            let now = engine.balances_blocking(*account).expect("a known account");
            assert_eq!(now, self.balances_at(*account, self.seq), "of account {account}");
        }
        let audit = audit(engine);
        assert_eq!(audit.seq, self.seq);
        for asset in audit.assets {
            assert_eq!(asset.supply.get(), self.supply(asset.asset), "of asset {}", asset.asset);
        }
    }

    /// Some account must be in it as of some seq, and as of now.
    pub fn check_some_account(&self, engine: &Engine, rng: &mut SmallRng) {
        let place = rng.random_range(0..self.accounts.len());
        let account = *self.accounts.keys().nth(place).expect("there are as many");
        let now = engine.balances_blocking(account).expect("a known account");
        assert_eq!(now, self.balances_at(account, self.seq), "of account {account}");
        let at = CommitSeq::new(rng.random_range(0..=self.seq.get()));
        let then = engine.balances_at(account, at).expect("a known account");
        assert_eq!(then, self.balances_at(account, at), "of account {account}");
    }

    /// Takes the next thing that happened: it must have been possible, and its receipt be right.
    fn settle(&mut self, command: &Command, receipt: &Receipt) {
        assert_eq!(receipt.commit_seq, self.seq.next(), "seqs are dense: {receipt:?}");
        assert_eq!(&receipt.command, command, "a receipt says what was asked for");
        let rows = self.verdict(command).unwrap_or_else(|code| {
            panic!("settled, but had to be refused as {code}: {receipt:?}");
        });
        check_receipt(receipt, &rows);
        self.seq = receipt.commit_seq;
        for (key, (_, after)) in rows {
            self.balances.entry(key).or_default().push((self.seq, after));
        }
        self.apply(command);
    }

    /// Takes a refusal: it must be what the state that it saw calls for, which is the present one.
    fn refuse(&self, command: &Command, refusal: &Refusal) {
        assert_eq!(refusal.seq, self.seq, "the state that it saw: {refusal:?}");
        let code = self.verdict(command).expect_err("refused, but had to settle");
        assert_eq!(refusal.reject.code(), code, "{refusal:?} of {command:?}");
        self.check_claim(command, &refusal.reject);
    }

    /// Takes an outcome that saw everything that happened so far, and nothing else.
    pub fn take(&mut self, command: &Command, id: RequestId, outcome: &Outcome) {
        match outcome {
            Outcome::Settled(receipt) => {
                assert_eq!(receipt.request_id, id);
                self.settle(command, receipt);
            }
            Outcome::Rejected(refusal) => {
                assert_eq!(refusal.request_id, id);
                self.refuse(command, refusal);
            }
        }
    }

    /// The rows that a command would write now, or the code of its refusal.
    fn verdict(&self, command: &Command) -> Result<Rows, &'static str> {
        match command {
            Command::Swap(swap) => self.swap(swap.legs()),
            Command::Deposit(to) => {
                self.check_key(to)?;
                let supply = self.supply(to.asset).checked_add(to.amount.get());
                supply.filter(|sum| *sum <= SUPPLY_MAX).ok_or("supply_exceeded")?;
                let before = self.balance(to.account, to.asset);
                Ok(one_row(to, before, before + to.amount.get()))
            }
            Command::Withdraw(from) => {
                self.check_key(from)?;
                let before = self.balance(from.account, from.asset);
                let after = before.checked_sub(from.amount.get()).ok_or("insufficient_funds")?;
                Ok(one_row(from, before, after))
            }
            Command::PutAsset(spec) => self.put_asset(spec),
            Command::PutAccount { account, links } => self.put_account(*account, links),
            Command::RemoveLink { account, .. } if self.accounts.contains_key(account) => {
                Ok(Rows::new())
            }
            Command::RemoveLink { .. } => Err("unknown_account"),
        }
    }

    fn balance(&self, account: AccountId, asset: AssetId) -> u128 {
        let versions = self.balances.get(&BalanceKey { account, asset });
        versions.and_then(|versions| versions.last()).map_or(0, |(_, amount)| *amount)
    }

    fn swap(&self, legs: &[Leg]) -> Result<Rows, &'static str> {
        let moves = moves(legs)?;
        for check in [Self::check_asset, Self::check_known, Self::check_linked] {
            moves.keys().try_for_each(|key| check(self, key))?;
        }
        let mut rows = Rows::new();
        for (key, (out, into)) in moves {
            let before = self.balance(key.account, key.asset);
            let after = match out.checked_sub(into) {
                Some(less) => before.checked_sub(less),
                // Whoever pays it may be short, so this may exceed what there can be.
                None => Some(before.saturating_add(into - out)),
            };
            rows.insert(key, (before, after.ok_or("insufficient_funds")?));
        }
        Ok(rows)
    }

    fn check_asset(&self, key: &BalanceKey) -> Result<(), &'static str> {
        let known = (key.asset.get() as usize) < self.assets.len();
        if known { Ok(()) } else { Err("unknown_asset") }
    }

    fn check_known(&self, key: &BalanceKey) -> Result<(), &'static str> {
        if self.accounts.contains_key(&key.account) { Ok(()) } else { Err("unknown_account") }
    }

    fn check_linked(&self, key: &BalanceKey) -> Result<(), &'static str> {
        let chain = self.assets[key.asset.get() as usize].chain;
        let linked = self.accounts[&key.account].contains_key(&chain);
        if linked { Ok(()) } else { Err("not_linked") }
    }

    fn check_key(&self, transfer: &Transfer) -> Result<(), &'static str> {
        if transfer.amount == Amount::ZERO {
            return Err("malformed");
        }
        let key = BalanceKey { account: transfer.account, asset: transfer.asset };
        self.check_asset(&key)?;
        self.check_known(&key)?;
        self.check_linked(&key)
    }

    fn put_asset(&self, spec: &AssetSpec) -> Result<Rows, &'static str> {
        let named = self.assets.iter().find(|known| known.name == spec.name);
        let on_chain = self.assets.iter().find(|known| known.chain == spec.chain);
        let clashes = named.is_some_and(|known| known != spec)
            || on_chain.is_some_and(|known| known.chain_kind != spec.chain_kind)
            || named.is_none() && self.assets.len() == ASSETS_MAX;
        if clashes { Err("already_exists") } else { Ok(Rows::new()) }
    }

    fn put_account(&self, account: AccountId, links: &[Link]) -> Result<Rows, &'static str> {
        let exists = |link: &Link| self.assets.iter().any(|known| known.chain == link.chain);
        if !links.iter().all(exists) {
            return Err("unknown_chain");
        }
        let mut after = self.accounts.get(&account).cloned().unwrap_or_default();
        for link in links {
            let taken = self
                .accounts
                .iter()
                .any(|(other, links)| *other != account && links.get(&link.chain) == Some(link));
            let known = after.entry(link.chain).or_insert_with(|| link.clone());
            if taken || known != link {
                return Err("already_linked");
            }
        }
        Ok(Rows::new())
    }

    fn apply(&mut self, command: &Command) {
        match command {
            Command::Swap(_) => {}
            Command::Deposit(to) => *self.supply.entry(to.asset).or_default() += to.amount.get(),
            Command::Withdraw(from) => {
                *self.supply.entry(from.asset).or_default() -= from.amount.get();
            }
            Command::PutAsset(spec) if self.assets.contains(spec) => {}
            Command::PutAsset(spec) => self.assets.push(spec.clone()),
            Command::PutAccount { account, links } => {
                let known = self.accounts.entry(*account).or_default();
                known.extend(links.iter().map(|link| (link.chain, link.clone())));
            }
            Command::RemoveLink { account, chain } => {
                self.accounts.entry(*account).or_default().remove(chain);
            }
        }
    }

    /// What a refusal says beyond its code must be so.
    fn check_claim(&self, command: &Command, reject: &Reject) {
        match reject {
            Reject::InsufficientFunds { account, asset, short_by, seq } => {
                assert_eq!(*seq, self.seq, "{reject:?}");
                let key = BalanceKey { account: *account, asset: *asset };
                let (out, into) = moved(command, key);
                let missing = (out - into).checked_sub(self.balance(*account, *asset));
                assert_eq!(missing, Some(short_by.get()), "{reject:?} of {command:?}");
                assert!(*short_by > Amount::ZERO, "{reject:?}");
            }
            Reject::NotLinked { account, chain } => {
                assert!(!self.accounts[account].contains_key(chain), "{reject:?}");
            }
            Reject::UnknownAccount(account) => {
                assert!(!self.accounts.contains_key(account), "{reject:?}");
            }
            Reject::UnknownAsset(asset) => {
                assert!(asset.get() as usize >= self.assets.len(), "{reject:?}");
            }
            Reject::UnknownChain(chain) => {
                assert!(self.assets.iter().all(|known| known.chain != *chain), "{reject:?}");
            }
            Reject::SupplyExceeded(_)
            | Reject::AlreadyExists(_)
            | Reject::AlreadyLinked(_)
            | Reject::Malformed(_)
            | Reject::RequestIdReused
            | Reject::Expired => {}
        }
    }
}

/// What each balance gives and gets by the legs.
pub fn moves(legs: &[Leg]) -> Result<Rows, &'static str> {
    let mut moves = Rows::new();
    for Leg { from, to, asset, amount } in legs.iter().copied() {
        let (out, _) = moves.entry(BalanceKey { account: from, asset }).or_default();
        *out = out.checked_add(amount.get()).ok_or("malformed")?;
        let (_, into) = moves.entry(BalanceKey { account: to, asset }).or_default();
        *into = into.checked_add(amount.get()).ok_or("malformed")?;
    }
    if moves.values().all(|(out, into)| out == into) { Err("malformed") } else { Ok(moves) }
}

/// What a balance gives and gets by a command.
pub fn moved(command: &Command, key: BalanceKey) -> (u128, u128) {
    let is_key = |it: &Transfer| it.account == key.account && it.asset == key.asset;
    match command {
        Command::Swap(swap) => {
            moves(swap.legs()).ok().and_then(|mut moves| moves.remove(&key)).unwrap_or_default()
        }
        Command::Withdraw(from) if is_key(from) => (from.amount.get(), 0),
        Command::Deposit(to) if is_key(to) => (0, to.amount.get()),
        _ => (0, 0),
    }
}

fn one_row(transfer: &Transfer, before: u128, after: u128) -> Rows {
    let key = BalanceKey { account: transfer.account, asset: transfer.asset };
    Rows::from([(key, (before, after))])
}

fn check_receipt(receipt: &Receipt, rows: &Rows) {
    let change = |account, asset| {
        let (before, after) = rows[&BalanceKey { account, asset }];
        Change { before: Amount::new(before), after: Amount::new(after) }
    };
    let mut legs = Vec::new();
    let mut single = None;
    match &receipt.command {
        Command::Swap(swap) => legs.extend(swap.legs().iter().map(|leg| LegReceipt {
            leg: *leg,
            from: change(leg.from, leg.asset),
            to: change(leg.to, leg.asset),
        })),
        Command::Deposit(it) | Command::Withdraw(it) => single = Some(change(it.account, it.asset)),
        Command::PutAsset(_) | Command::PutAccount { .. } | Command::RemoveLink { .. } => {}
    }
    assert_eq!(receipt.legs.as_slice(), legs, "{receipt:?}");
    assert_eq!(receipt.change, single, "{receipt:?}");
}
