//! The API keys of a venue, by number and by name, and what the venue takes.
//!
//! Invariants
//! * A number and a name stay a key's for ever: one that is revoked is known as revoked.
//! * Generations only grow, and a secret never changes within one.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use dashmap::DashMap;

use super::Change;
use crate::access::{ApiKey, KeyNumber};
use crate::config::KEYS_MAX;
use crate::error::Reject;
use crate::types::{Operation, Time};

/// An API key as the directory has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Under which requests of its callers come.
    pub number: KeyNumber,
    /// The key.
    pub key: Arc<ApiKey>,
    /// Whether it was ended for good.
    pub revoked: bool,
}

impl Issued {
    /// Whether it may be used at that logical time: it is not revoked, and not expired.
    pub fn stands_at(&self, now: Time) -> bool {
        !self.revoked && now < self.key.expires_at
    }
}

/// All keys. Few change and many look: a lock around a dense list.
#[derive(Debug, Default)]
pub(super) struct Keys {
    issued: RwLock<Vec<Issued>>,
    names: DashMap<Box<str>, KeyNumber>,
}

impl Keys {
    pub(super) fn by_name(&self, name: &str) -> Option<Issued> {
        let number = *self.names.get(name)?;
        self.get(number)
    }

    pub(super) fn get(&self, number: KeyNumber) -> Option<Issued> {
        self.read().get(number.0 as usize).cloned()
    }

    pub(super) fn all(&self) -> Vec<Issued> {
        self.read().clone()
    }

    pub(super) fn len(&self) -> usize {
        self.read().len()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<Issued>> {
        self.issued.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a key that is to be created or changed comes to.
    pub(super) fn check(&self, key: &ApiKey) -> Result<Change, Reject> {
        let refused = |why: String| Err(Reject::AlreadyExists(why));
        let name = &key.name;
        let Some(Issued { key: before, revoked, .. }) = self.by_name(name) else {
            if self.len() >= KEYS_MAX {
                return refused(format!("there are {KEYS_MAX} API keys, the most"));
            }
            return Ok(Change::Changed);
        };
        if revoked {
            return refused(format!("API key {name} was revoked; choose another name"));
        }
        let generation = before.generation;
        if key.generation < generation {
            return refused(format!("API key {name} is of generation {generation} already"));
        }
        if key.generation == generation && key.verifier != before.verifier {
            return refused(format!(
                "API key {name} has another secret in generation {generation}; a new secret needs a \
                 new generation"
            ));
        }
        Ok(if *before == *key { Change::Unchanged } else { Change::Changed })
    }

    pub(super) fn check_revocation(&self, name: &str) -> Result<Change, Reject> {
        let issued = self.by_name(name).ok_or_else(|| Reject::UnknownApiKey(name.into()))?;
        Ok(if issued.revoked { Change::Unchanged } else { Change::Changed })
    }

    /// Adds a key under the next number, or replaces the one of its name.
    pub(super) fn put(&self, key: ApiKey) {
        let mut issued = self.issued.write().unwrap_or_else(PoisonError::into_inner);
        let known = self.names.get(&key.name).map(|number| *number);
        if let Some(number) = known {
            issued[number.0 as usize].key = Arc::new(key);
            return;
        }
        let number = KeyNumber(u32::try_from(issued.len()).expect("KEYS_MAX fits"));
        let name = key.name.clone();
        issued.push(Issued { number, key: Arc::new(key), revoked: false });
        // Last: who finds the name finds the key.
        drop(issued);
        self.names.insert(name, number);
    }

    pub(super) fn revoke(&self, name: &str) {
        let number = *self.names.get(name).expect("checked before");
        let mut issued = self.issued.write().unwrap_or_else(PoisonError::into_inner);
        issued[number.0 as usize].revoked = true;
    }
}

/// What the venue takes.
#[derive(Debug, Default)]
pub(super) struct Switch(AtomicU8);

impl Switch {
    pub(super) fn get(&self) -> Operation {
        Operation::ALL[usize::from(self.0.load(Ordering::Acquire))]
    }

    pub(super) fn set(&self, state: Operation) {
        self.0.store(state as u8, Ordering::Release);
    }

    pub(super) fn check(&self, state: Operation) -> Change {
        if self.get() == state { Change::Unchanged } else { Change::Changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Accounts, KeyLimits, Scope, Scopes};

    fn key(name: &str, generation: u32, verifier: u8) -> ApiKey {
        ApiKey {
            name: name.into(),
            generation,
            verifier: [verifier; 32],
            scopes: Scopes::ALL,
            accounts: Accounts::All,
            networks: Box::default(),
            limits: KeyLimits::default(),
            expires_at: Time::NEVER,
        }
    }

    fn put(keys: &Keys, key: &ApiKey) -> Result<Change, Reject> {
        let change = keys.check(key)?;
        if change == Change::Changed {
            keys.put(key.clone());
        }
        Ok(change)
    }

    #[test]
    fn a_key_changes_and_keeps_its_number() {
        let keys = Keys::default();
        assert_eq!(put(&keys, &key("a", 1, 1)), Ok(Change::Changed));
        assert_eq!(put(&keys, &key("b", 1, 2)), Ok(Change::Changed));
        assert_eq!(put(&keys, &key("a", 1, 1)), Ok(Change::Unchanged));
        let reads = ApiKey { scopes: Scopes::default().with(Scope::Read), ..key("a", 1, 1) };
        assert_eq!(put(&keys, &reads), Ok(Change::Changed));
        assert_eq!(put(&keys, &key("a", 2, 7)), Ok(Change::Changed));
        let found = keys.by_name("a").expect("it is there");
        assert_eq!((found.number, found.key.verifier[0]), (KeyNumber(0), 7));
        assert_eq!(keys.get(KeyNumber(1)).expect("b").key.name, "b".into());
        assert_eq!((keys.len(), keys.get(KeyNumber(2))), (2, None));
    }

    #[test]
    fn secrets_only_change_with_a_generation_and_never_back() {
        let keys = Keys::default();
        put(&keys, &key("a", 2, 1)).expect("new");
        for refused in [key("a", 1, 1), key("a", 2, 9)] {
            assert!(matches!(put(&keys, &refused), Err(Reject::AlreadyExists(_))));
        }
        assert_eq!(keys.by_name("a").expect("it").key.verifier[0], 1);
    }

    #[test]
    fn a_revoked_name_is_never_free_again() {
        let keys = Keys::default();
        let unknown = Reject::UnknownApiKey("a".into());
        assert_eq!(keys.check_revocation("a"), Err(unknown));
        put(&keys, &key("a", 1, 1)).expect("new");
        assert_eq!(keys.check_revocation("a"), Ok(Change::Changed));
        keys.revoke("a");
        assert_eq!(keys.check_revocation("a"), Ok(Change::Unchanged));
        for again in [key("a", 1, 1), key("a", 2, 2)] {
            assert!(matches!(put(&keys, &again), Err(Reject::AlreadyExists(_))));
        }
        let issued = keys.by_name("a").expect("still known");
        assert!(issued.revoked && !issued.stands_at(Time::new(0)));
    }

    #[test]
    fn there_are_at_most_so_many_revoked_ones_included() {
        let keys = Keys::default();
        for number in 0..KEYS_MAX {
            keys.put(key(&number.to_string(), 1, 1));
        }
        keys.revoke("7");
        assert!(matches!(keys.check(&key("one-more", 1, 1)), Err(Reject::AlreadyExists(_))));
        assert_eq!(keys.check(&key("8", 2, 2)), Ok(Change::Changed), "changes are no additions");
    }

    #[test]
    fn a_key_stands_until_its_time() {
        let key = Arc::new(ApiKey { expires_at: Time::new(5), ..key("a", 1, 1) });
        let issued = Issued { number: KeyNumber(0), key, revoked: false };
        assert!(issued.stands_at(Time::new(4)) && !issued.stands_at(Time::new(5)));
    }
}
