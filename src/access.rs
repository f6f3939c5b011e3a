//! Who may do what: API keys with scopes, bound to accounts, and the states of a venue's operation.
//!
//! Plain values, checked when they are built. Where they are kept: a key is created, changed and
//! revoked by commands that are sequenced like any other, so a request is judged by the keys as
//! they are at its place in the order, and so it stays after a restart. What is kept of a key's
//! secret is a hash ([`ApiKey::verifier`]): neither the journal nor a backup lets anybody in.

pub mod secret;
pub mod signature;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::config::{KEY_ACCOUNTS_MAX, KEY_NAME_BYTES_MAX, KEY_NETWORKS_MAX};
use crate::error::Malformed;
use crate::types::{AccountId, Time};

pub use crate::types::Operation;

/// What a key may be used for. A key has any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Scope {
    /// Look at its accounts: balances, history, receipts, holds, orders, events.
    Read = 0,
    /// Swap, prepare and resolve, transact, place and cancel orders, for its accounts.
    Trade = 1,
    /// Deposit and withdraw, for its accounts.
    Transfer = 2,
    /// Create assets, accounts, links and markets, halt and resume, manage keys, make backups.
    Operate = 3,
}

impl Scope {
    /// All, in the order of their bits.
    pub const ALL: [Self; 4] = [Self::Read, Self::Trade, Self::Transfer, Self::Operate];

    /// The name as it is written in requests and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Trade => "trade",
            Self::Transfer => "transfer",
            Self::Operate => "operate",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.name() == text)
            .ok_or_else(|| format!("is {text:?}; give read, trade, transfer or operate"))
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Everything.
    pub const ALL: Self = Self(0b1111);

    /// The set as bits, [`Scope::Read`] the lowest: as it is journaled.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set of those bits; `None` where a bit means nothing.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits & !Self::ALL.0 == 0 { Some(Self(bits)) } else { None }
    }

    /// The set and that one.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | 1 << scope as u8)
    }

    /// Whether it is in the set.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & 1 << scope as u8 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::default(), Self::with)
    }
}

/// Whose balances a key may debit and look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accounts {
    /// Everybody's: the venue's own keys.
    All,
    /// These, ascending, each once.
    Only(Box<[AccountId]>),
}

impl Accounts {
    /// Those accounts, in any order.
    ///
    /// # Errors
    /// There are more than [`KEY_ACCOUNTS_MAX`].
    pub fn only(accounts: impl IntoIterator<Item = AccountId>) -> Result<Self, Malformed> {
        let mut accounts: Vec<AccountId> = accounts.into_iter().collect();
        accounts.sort_unstable();
        accounts.dedup();
        if accounts.len() > KEY_ACCOUNTS_MAX {
            let found = accounts.len();
            let why = format!("names {found} accounts; a key has at most {KEY_ACCOUNTS_MAX}");
            return Err(Malformed::new("accounts", why));
        }
        Ok(Self::Only(accounts.into()))
    }

    /// Whether the account is among them.
    pub fn has(&self, account: AccountId) -> bool {
        match self {
            Self::All => true,
            Self::Only(accounts) => accounts.binary_search(&account).is_ok(),
        }
    }
}

/// Addresses from which a key may be used: those that share the first `prefix` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network of an address and a number of bits.
    ///
    /// # Errors
    /// There are fewer bits in such an address.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, String> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix > bits {
            return Err(format!("has a prefix of {prefix} bits; such an address has {bits}"));
        }
        Ok(Self { address, prefix })
    }

    /// The address that it was built of.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// How many leading bits count.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether the address is in it. An IPv4 address mapped into IPv6 is that IPv4 address.
    pub fn has(self, address: IpAddr) -> bool {
        let (left, right, bits) = match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u128::from(own.to_bits()), u128::from(other.to_bits()), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        let dropped = bits - u32::from(self.prefix.min(bits as u8));
        left.checked_shr(dropped).unwrap_or(0) == right.checked_shr(dropped).unwrap_or(0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = String;

    /// `10.0.0.0/8`, or one address.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("is {text:?}; give an IP address, or a network as in 10.0.0.0/8");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        Self::new(address, prefix.unwrap_or(all))
    }
}

/// What one key may use of the venue; 0 is no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// Requests a second, in the mean of a second or so; each of a batch counts.
    pub requests_per_second: u32,
    /// Requests accepted and not yet answered.
    pub in_flight: u32,
    /// Open holds of any one account that the key makes a hold for.
    pub open_holds: u32,
    /// Open orders of any one account that the key places an order for.
    pub open_orders: u32,
}

/// An API key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its public name, under which requests come: letters, digits, `-` and `_`.
    pub name: Box<str>,
    /// Counts the secrets that it had, from 1: a new one ends the old one.
    pub generation: u32,
    /// SHA-256 of the secret. The secret itself is shown once, when it is made, and kept nowhere.
    pub verifier: [u8; 32],
    /// What it may be used for.
    pub scopes: Scopes,
    /// For whom.
    pub accounts: Accounts,
    /// From where; empty is from everywhere.
    pub networks: Box<[Network]>,
    /// How much.
    pub limits: KeyLimits,
    /// It is refused from that logical time on; [`Time::NEVER`] for none.
    pub expires_at: Time,
}

impl ApiKey {
    /// Checks what can be known without any state.
    ///
    /// # Errors
    /// The field at fault and the rule it breaks.
    pub fn validate(&self) -> Result<(), Malformed> {
        Self::validate_name(&self.name)?;
        if self.generation == 0 {
            return Err(Malformed::new("generation", "is zero; generations count from 1"));
        }
        if self.scopes.is_empty() {
            let why = "has no scope; give at least one of read, trade, transfer and operate";
            return Err(Malformed::new("scopes", why));
        }
        if self.networks.len() > KEY_NETWORKS_MAX {
            let found = self.networks.len();
            let why = format!("names {found} networks; a key has at most {KEY_NETWORKS_MAX}");
            return Err(Malformed::new("networks", why));
        }
        Ok(())
    }

    /// Checks the form of a key's name.
    ///
    /// # Errors
    /// It is of a length, or has letters, that no name has.
    pub fn validate_name(name: &str) -> Result<(), Malformed> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if name.is_empty() || name.len() > KEY_NAME_BYTES_MAX || !name.bytes().all(fits) {
            let why = format!("is not 1 to {KEY_NAME_BYTES_MAX} letters, digits, '_' or '-'");
            return Err(Malformed::new("name", why));
        }
        Ok(())
    }

    /// Whether it may be used from that address.
    pub fn is_allowed_from(&self, address: IpAddr) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|network| network.has(address))
    }
}

/// The number of a key, dense from 0 in the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyNumber(pub u32);

/// On whose behalf a request comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// The program that embeds the engine, or anybody while there are no keys: everything is allowed.
    #[default]
    Trusted,
    /// Whoever has the secret of that key. Its scopes were checked at the door; its accounts, and
    /// whether it still stands, are checked when the request is sequenced.
    Key(KeyNumber),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_share_its_prefix() {
        let has = |network: &str, address: &str| {
            let network: Network = network.parse().expect("a network");
            network.has(address.parse().expect("an address"))
        };
        assert!(has("10.1.0.0/16", "10.1.255.3"));
        assert!(!has("10.1.0.0/16", "10.2.0.0"));
        assert!(has("10.1.2.3", "10.1.2.3") && !has("10.1.2.3", "10.1.2.4"));
        assert!(has("0.0.0.0/0", "255.1.2.3"), "no bit counts");
        assert!(has("10.1.0.0/16", "::ffff:10.1.9.9"), "an IPv4 address in IPv6 clothes");
        assert!(has("2001:db8::/32", "2001:db8:1::5") && !has("2001:db8::/32", "2001:db9::"));
        assert!(has("::/0", "2001::1") && !has("::/0", "10.0.0.1"), "kinds are not mixed");
        assert!("10.0.0.0/33".parse::<Network>().is_err());
        assert!("ten".parse::<Network>().is_err() && "10.0.0.0/".parse::<Network>().is_err());
    }

    #[test]
    fn scopes_are_a_set() {
        let two: Scopes = [Scope::Trade, Scope::Read].into_iter().collect();
        assert_eq!(two.iter().collect::<Vec<_>>(), [Scope::Read, Scope::Trade]);
        assert!(!two.has(Scope::Operate));
        assert_eq!(Scopes::from_bits(two.bits()), Some(two));
        assert_eq!(Scopes::from_bits(0b1_0000), None);
        assert!("admin".parse::<Scope>().is_err());
        assert!(Scope::ALL.into_iter().all(|scope| scope.name().parse() == Ok(scope)));
        assert!(Operation::ALL.into_iter().all(|state| state.name().parse() == Ok(state)));
    }

    #[test]
    fn accounts_are_found_in_any_order_given() {
        let accounts = Accounts::only([9, 3, 7, 3].map(AccountId::new)).expect("few");
        assert!(accounts.has(AccountId::new(7)) && !accounts.has(AccountId::new(8)));
        assert!(Accounts::All.has(AccountId::new(8)));
        assert!(Accounts::only((0..=KEY_ACCOUNTS_MAX as u64).map(AccountId::new)).is_err());
    }

    #[test]
    fn a_key_is_checked_for_its_form() {
        let key = ApiKey {
            name: "desk-1".into(),
            generation: 1,
            verifier: [0; 32],
            scopes: Scopes::ALL,
            accounts: Accounts::All,
            networks: Box::default(),
            limits: KeyLimits::default(),
            expires_at: Time::NEVER,
        };
        assert_eq!(key.validate(), Ok(()));
        assert!(key.is_allowed_from([192, 0, 2, 1].into()));
        let field = |key: &ApiKey| key.validate().expect_err("malformed").field;
        assert_eq!(field(&ApiKey { name: "a b".into(), ..key.clone() }), "name");
        assert_eq!(field(&ApiKey { scopes: Scopes::default(), ..key.clone() }), "scopes");
        let here: Network = "127.0.0.1".parse().expect("an address");
        let local = ApiKey { networks: [here].into(), ..key.clone() };
        assert!(local.is_allowed_from([127, 0, 0, 1].into()));
        assert!(!local.is_allowed_from([127, 0, 0, 2].into()));
        let many = vec![here; KEY_NETWORKS_MAX + 1].into();
        assert_eq!(field(&ApiKey { networks: many, ..key }), "networks");
    }
}
