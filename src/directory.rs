//! Assets, accounts, links, markets, API keys: what many threads look up and few change.
//!
//! Changes are commands like any other: the coordinator decides them alone (nothing else is
//! undecided while it does), they are journaled, and their rows ride in the same atomic write.
//! Lookups cost one `DashMap` probe and no hop.
//!
//! Invariants
//! * Only the coordinator writes, and recovery before it.
//! * A link is unique both ways: an account has at most one address on a chain, an address at
//!   most one account.
//! * All assets of a chain agree on its kind.
//! * What is found here may not be durable yet: whoever shows it to the outside waits until `D`
//!   covers [`Directory::changed_seq`], read after the lookup.

mod keys;
mod markets;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use dashmap::DashMap;
use smallvec::SmallVec;

use crate::access::{ApiKey, KeyNumber};
use crate::address::Link;
use crate::config::ASSETS_MAX;
use crate::error::Reject;
use crate::market::MarketSpec;
use crate::request::{AssetSpec, Command};
use crate::types::{AccountId, AssetId, ChainId, ChainKind, CommitSeq, MarketId, Operation};

use keys::{Keys, Switch};
use markets::Markets;

pub use keys::Issued;
pub use markets::Listed;

/// An account's addresses, one a chain; nearly always few.
type Links = SmallVec<[Link; 2]>;

/// The directory. Shared by every thread.
#[derive(Debug, Default)]
pub struct Directory {
    /// Assets by number. Few, append-only, read by every request: a lock around a dense list.
    assets: RwLock<Vec<AssetSpec>>,
    names: DashMap<Box<str>, AssetId>,
    chains: DashMap<ChainId, ChainKind>,
    accounts: DashMap<AccountId, Links, foldhash::fast::RandomState>,
    addresses: DashMap<Link, AccountId, foldhash::fast::RandomState>,
    markets: Markets,
    keys: Keys,
    operation: Switch,
    changed: AtomicU64,
}

/// What a directory command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It changes something.
    Changed,
    /// All of it was so already.
    Unchanged,
}

impl Directory {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// The asset of that name.
    pub fn asset_by_name(&self, name: &str) -> Option<AssetId> {
        self.names.get(name).map(|entry| *entry)
    }

    /// The asset of that number.
    pub fn asset(&self, asset: AssetId) -> Option<AssetSpec> {
        self.read_assets().get(asset.get() as usize).cloned()
    }

    /// The chain of an asset.
    pub fn chain(&self, asset: AssetId) -> Option<ChainId> {
        self.read_assets().get(asset.get() as usize).map(|spec| spec.chain)
    }

    /// All assets, by number.
    pub fn assets(&self) -> Vec<AssetSpec> {
        self.read_assets().clone()
    }

    /// How many assets there are: every lower number is one.
    pub fn assets_len(&self) -> usize {
        self.read_assets().len()
    }

    /// The market of that name.
    pub fn market_by_name(&self, name: &str) -> Option<MarketId> {
        self.markets.by_name(name)
    }

    /// The market of that number.
    pub fn market(&self, market: MarketId) -> Option<Listed> {
        self.markets.get(market)
    }

    /// All markets, by number.
    pub fn markets(&self) -> Vec<Listed> {
        self.markets.all()
    }

    /// The API key of that name, revoked or not.
    pub fn key_by_name(&self, name: &str) -> Option<Issued> {
        self.keys.by_name(name)
    }

    /// The API key of that number, revoked or not.
    pub fn key(&self, number: KeyNumber) -> Option<Issued> {
        self.keys.get(number)
    }

    /// All API keys, by number, revoked ones included.
    pub fn keys(&self) -> Vec<Issued> {
        self.keys.all()
    }

    /// How many API keys there are, revoked ones included.
    pub fn keys_len(&self) -> usize {
        self.keys.len()
    }

    /// What the venue takes.
    pub fn operation(&self) -> Operation {
        self.operation.get()
    }

    /// The kind of a chain; `None` while no asset is on it.
    pub fn chain_kind(&self, chain: ChainId) -> Option<ChainKind> {
        self.chains.get(&chain).map(|entry| *entry)
    }

    /// Whether the account exists.
    pub fn has_account(&self, account: AccountId) -> bool {
        self.accounts.contains_key(&account)
    }

    /// The account's links, by chain; `None` if there is no such account.
    pub fn links(&self, account: AccountId) -> Option<Vec<Link>> {
        self.accounts.get(&account).map(|entry| entry.to_vec())
    }

    /// The account behind an address.
    pub fn account_by_link(&self, link: &Link) -> Option<AccountId> {
        self.addresses.get(link).map(|entry| *entry)
    }

    /// How many accounts there are.
    pub fn accounts_len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether the account may hold an asset of that chain.
    ///
    /// # Errors
    /// [`Reject::UnknownAccount`] or [`Reject::NotLinked`].
    pub fn check_linked(&self, account: AccountId, chain: ChainId) -> Result<(), Reject> {
        let links = self.accounts.get(&account).ok_or(Reject::UnknownAccount(account))?;
        if links.iter().any(|link| link.chain == chain) {
            Ok(())
        } else {
            Err(Reject::NotLinked { account, chain })
        }
    }

    /// The commit_seq of the last change: a lookup may be shown once `D` covers this.
    pub fn changed_seq(&self) -> CommitSeq {
        CommitSeq::new(self.changed.load(Ordering::Acquire))
    }

    /// Says what a directory command would come to, changing nothing.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check(&self, command: &Command) -> Result<Change, Reject> {
        match command {
            Command::PutAsset(spec) => self.check_asset(spec),
            Command::PutAccount { account, links } => self.check_account(*account, links),
            Command::RemoveLink { account, chain } => self.check_removal(*account, *chain),
            Command::PutMarket(spec) => self.check_market(spec),
            Command::SwitchMarket { market, halted } => self.markets.check_switch(*market, *halted),
            Command::PutKey(key) => self.keys.check(key),
            Command::RevokeKey(name) => self.keys.check_revocation(name),
            Command::Operate(state) => Ok(self.operation.check(*state)),
            moves => unreachable!("not a directory command: {}", moves.kind()),
        }
    }

    fn check_asset(&self, spec: &AssetSpec) -> Result<Change, Reject> {
        let assets = self.read_assets();
        if let Some(id) = self.asset_by_name(&spec.name) {
            if assets[id.get() as usize] == *spec {
                return Ok(Change::Unchanged);
            }
            let name = &spec.name;
            return Err(Reject::AlreadyExists(format!(
                "asset {name} exists with another description; choose another name"
            )));
        }
        if let Some(kind) = self.chain_kind(spec.chain).filter(|kind| *kind != spec.chain_kind) {
            let chain = spec.chain;
            return Err(Reject::AlreadyExists(format!("chain {chain} exists as of kind {kind:?}")));
        }
        if assets.len() >= ASSETS_MAX {
            return Err(Reject::AlreadyExists(format!("there are {ASSETS_MAX} assets, the most")));
        }
        Ok(Change::Changed)
    }

    fn check_account(&self, account: AccountId, links: &[Link]) -> Result<Change, Reject> {
        let known = self.links(account);
        let mut change = if known.is_some() { Change::Unchanged } else { Change::Changed };
        // Before anything about addresses, as it comes first in the order of precedence.
        if let Some(unknown) = links.iter().find(|link| self.chain_kind(link.chain).is_none()) {
            return Err(Reject::UnknownChain(unknown.chain));
        }
        for (index, link) in links.iter().enumerate() {
            let Link { chain, address } = link;
            if self.account_by_link(link).is_some_and(|owner| owner != account) {
                return Err(Reject::AlreadyLinked(format!(
                    "{address} on chain {chain} is linked to another account"
                )));
            }
            let mut same_chain =
                known.iter().flatten().chain(&links[..index]).filter(|other| other.chain == *chain);
            match same_chain.next() {
                Some(other) if other.address == *address => {}
                Some(other) => {
                    let other = &other.address;
                    return Err(Reject::AlreadyLinked(format!(
                        "account {account} has the address {other} on chain {chain}; remove it first"
                    )));
                }
                None => change = Change::Changed,
            }
        }
        Ok(change)
    }

    /// Its assets exist, and fees have somebody to go to.
    fn check_market(&self, spec: &MarketSpec) -> Result<Change, Reject> {
        for asset in [spec.base, spec.quote] {
            self.chain(asset).ok_or(Reject::UnknownAsset(asset))?;
        }
        let change = self.markets.check(spec)?;
        let chain = self.chain(spec.quote).expect("just seen");
        match change {
            Change::Unchanged => Ok(change),
            Change::Changed => self.check_linked(spec.fee_account, chain).map(|()| change),
        }
    }

    fn check_removal(&self, account: AccountId, chain: ChainId) -> Result<Change, Reject> {
        let links = self.links(account).ok_or(Reject::UnknownAccount(account))?;
        if links.iter().any(|link| link.chain == chain) {
            Ok(Change::Changed)
        } else {
            Ok(Change::Unchanged)
        }
    }

    /// Carries out a directory command that [`Directory::check`] found to change something.
    pub fn apply(&self, command: &Command, seq: CommitSeq) {
        match command {
            Command::PutAsset(spec) => self.insert_asset(spec.clone()),
            Command::PutAccount { account, links } => self.insert_account(*account, links),
            Command::RemoveLink { account, chain } => self.remove_link(*account, *chain),
            Command::PutMarket(spec) => self.insert_market((**spec).clone()),
            Command::SwitchMarket { market, halted } => self.switch_market(*market, *halted),
            Command::PutKey(key) => self.put_key((**key).clone()),
            Command::RevokeKey(name) => self.revoke_key(name),
            Command::Operate(state) => self.operate(*state),
            moves => unreachable!("not a directory command: {}", moves.kind()),
        }
        self.changed.store(seq.get(), Ordering::Release);
    }

    /// Adds an asset under the next number. Used by [`Directory::apply`] and by recovery, in order.
    pub fn insert_asset(&self, spec: AssetSpec) {
        let mut assets = self.assets.write().unwrap_or_else(PoisonError::into_inner);
        let id = AssetId::new(u32::try_from(assets.len()).expect("ASSETS_MAX fits"));
        self.names.insert(spec.name.clone(), id);
        self.chains.insert(spec.chain, spec.chain_kind);
        assets.push(spec);
    }

    /// Adds a market under the next number. Used by [`Directory::apply`] and by recovery, in order.
    pub fn insert_market(&self, spec: MarketSpec) {
        self.markets.insert(spec);
    }

    /// Halts a market or resumes it. Used by [`Directory::apply`] and by recovery.
    pub fn switch_market(&self, market: MarketId, halted: bool) {
        self.markets.switch(market, halted);
    }

    /// Adds an API key under the next number, or changes the one of its name. Used by
    /// [`Directory::apply`] and by recovery, in order.
    pub fn put_key(&self, key: ApiKey) {
        self.keys.put(key);
    }

    /// Ends an API key for good. Used by [`Directory::apply`] and by recovery.
    ///
    /// # Panics
    /// There is no such key.
    pub fn revoke_key(&self, name: &str) {
        self.keys.revoke(name);
    }

    /// Says what the venue takes. Used by [`Directory::apply`] and by recovery.
    pub fn operate(&self, state: Operation) {
        self.operation.set(state);
    }

    /// Adds an account, or links to it. Used by [`Directory::apply`] and by recovery.
    pub fn insert_account(&self, account: AccountId, links: &[Link]) {
        for link in links {
            self.addresses.insert(link.clone(), account);
        }
        let mut entry = self.accounts.entry(account).or_default();
        for link in links {
            if !entry.contains(link) {
                entry.push(link.clone());
            }
        }
        entry.sort_by_key(|link| link.chain);
    }

    fn remove_link(&self, account: AccountId, chain: ChainId) {
        let mut removed = None;
        if let Some(mut entry) = self.accounts.get_mut(&account)
            && let Some(place) = entry.iter().position(|link| link.chain == chain)
        {
            removed = Some(entry.remove(place));
        }
        // The other map is touched with no guard held: two at once could deadlock.
        if let Some(link) = removed {
            self.addresses.remove(&link);
        }
    }

    fn read_assets(&self) -> std::sync::RwLockReadGuard<'_, Vec<AssetSpec>> {
        self.assets.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    fn asset(name: &str, chain: u64, kind: ChainKind, decimals: u8) -> Command {
        Command::PutAsset(AssetSpec {
            name: name.into(),
            chain: ChainId::new(chain),
            chain_kind: kind,
            token: "native".into(),
            decimals,
        })
    }

    fn link(chain: u64, address: &str) -> Link {
        let address = Address::parse(ChainKind::Other, address).expect("an address");
        Link { chain: ChainId::new(chain), address }
    }

    fn account(account: u64, links: &[(u64, &str)]) -> Command {
        let links = links.iter().map(|(chain, address)| link(*chain, address)).collect();
        Command::PutAccount { account: AccountId::new(account), links }
    }

    /// Carries out a command that changes something, and says what it came to.
    fn put(directory: &Directory, command: &Command) -> Result<Change, Reject> {
        let change = directory.check(command)?;
        if change == Change::Changed {
            directory.apply(command, directory.changed_seq().next());
        }
        Ok(change)
    }

    fn with_two_chains() -> Directory {
        let directory = Directory::new();
        for command in [asset("A", 1, ChainKind::Other, 0), asset("B", 2, ChainKind::Other, 0)] {
            assert_eq!(put(&directory, &command), Ok(Change::Changed));
        }
        directory
    }

    #[test]
    fn the_same_asset_again_changes_nothing_and_another_is_refused() {
        let directory = with_two_chains();
        let again = put(&directory, &asset("A", 1, ChainKind::Other, 0));
        assert_eq!(again, Ok(Change::Unchanged));
        let other_decimals = put(&directory, &asset("A", 1, ChainKind::Other, 8));
        assert!(matches!(other_decimals, Err(Reject::AlreadyExists(_))));
        let other_kind = put(&directory, &asset("C", 1, ChainKind::Evm, 0));
        assert!(matches!(other_kind, Err(Reject::AlreadyExists(_))));
        assert_eq!(directory.assets_len(), 2);
    }

    #[test]
    fn links_are_unique_both_ways() {
        let directory = with_two_chains();
        assert_eq!(put(&directory, &account(1, &[(1, "a1"), (2, "a2")])), Ok(Change::Changed));
        assert_eq!(put(&directory, &account(1, &[(1, "a1")])), Ok(Change::Unchanged));
        let stolen = put(&directory, &account(2, &[(1, "a1")]));
        assert!(matches!(stolen, Err(Reject::AlreadyLinked(_))));
        let second = put(&directory, &account(1, &[(1, "b1")]));
        assert!(matches!(second, Err(Reject::AlreadyLinked(_))));
        let twice = put(&directory, &account(3, &[(1, "c1"), (1, "d1")]));
        assert!(matches!(twice, Err(Reject::AlreadyLinked(_))));
        assert!(!directory.has_account(AccountId::new(3)), "nothing of a refused command is done");
        let unknown = put(&directory, &account(3, &[(9, "c9")]));
        assert_eq!(unknown, Err(Reject::UnknownChain(ChainId::new(9))));
        // The same text on another chain is another address.
        assert_eq!(put(&directory, &account(4, &[(2, "a1")])), Ok(Change::Changed));
    }

    #[test]
    fn a_removed_link_is_free_again() {
        let directory = with_two_chains();
        put(&directory, &account(1, &[(1, "a1")])).expect("new");
        let (one, chain) = (AccountId::new(1), ChainId::new(1));
        assert_eq!(directory.check_linked(one, chain), Ok(()));
        let removal = Command::RemoveLink { account: one, chain };
        assert_eq!(put(&directory, &removal), Ok(Change::Changed));
        assert_eq!(put(&directory, &removal), Ok(Change::Unchanged));
        let missing = Reject::NotLinked { account: one, chain };
        assert_eq!(directory.check_linked(one, chain), Err(missing));
        assert_eq!(put(&directory, &account(2, &[(1, "a1")])), Ok(Change::Changed));
        assert_eq!(directory.account_by_link(&link(1, "a1")), Some(AccountId::new(2)));
        let nobody = Command::RemoveLink { account: AccountId::new(9), chain };
        assert_eq!(put(&directory, &nobody), Err(Reject::UnknownAccount(AccountId::new(9))));
    }
}
