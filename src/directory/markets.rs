//! The markets of a venue, by number and by name.

use std::sync::{Arc, PoisonError, RwLock};

use dashmap::DashMap;

use super::Change;
use crate::config::MARKETS_MAX;
use crate::error::{OrderFault, Reject};
use crate::market::MarketSpec;
use crate::types::MarketId;

/// A market as the directory has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its set-up.
    pub spec: Arc<MarketSpec>,
    /// Whether orders can only be canceled.
    pub halted: bool,
}

/// All markets. Few, append-only but for a flag: a lock around a dense list.
#[derive(Debug, Default)]
pub(super) struct Markets {
    listed: RwLock<Vec<Listed>>,
    names: DashMap<Box<str>, MarketId>,
}

impl Markets {
    pub(super) fn by_name(&self, name: &str) -> Option<MarketId> {
        self.names.get(name).map(|entry| *entry)
    }

    pub(super) fn get(&self, market: MarketId) -> Option<Listed> {
        self.read().get(market.get() as usize).cloned()
    }

    pub(super) fn all(&self) -> Vec<Listed> {
        self.read().clone()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<Listed>> {
        self.listed.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a market that is to be created comes to, but for its assets and accounts.
    pub(super) fn check(&self, spec: &MarketSpec) -> Result<Change, Reject> {
        let name = &spec.name;
        if let Some(listed) = self.by_name(name).and_then(|market| self.get(market)) {
            if *listed.spec == *spec {
                return Ok(Change::Unchanged);
            }
            let why = format!(
                "market {name} exists with another description; choose another name, or halt it"
            );
            return Err(Reject::AlreadyExists(why));
        }
        if self.read().len() >= MARKETS_MAX {
            let why = format!("there are {MARKETS_MAX} markets, the most");
            return Err(Reject::AlreadyExists(why));
        }
        Ok(Change::Changed)
    }

    pub(super) fn check_switch(&self, market: MarketId, halted: bool) -> Result<Change, Reject> {
        let listed = self.get(market).ok_or(Reject::Order(OrderFault::UnknownMarket(market)))?;
        Ok(if listed.halted == halted { Change::Unchanged } else { Change::Changed })
    }

    pub(super) fn insert(&self, spec: MarketSpec) {
        let mut listed = self.listed.write().unwrap_or_else(PoisonError::into_inner);
        let market = MarketId::new(u32::try_from(listed.len()).expect("MARKETS_MAX fits"));
        self.names.insert(spec.name.clone(), market);
        listed.push(Listed { spec: Arc::new(spec), halted: false });
    }

    pub(super) fn switch(&self, market: MarketId, halted: bool) {
        let mut listed = self.listed.write().unwrap_or_else(PoisonError::into_inner);
        listed[market.get() as usize].halted = halted;
    }
}
