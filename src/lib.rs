//! Crosslatch settles atomic swaps between accounts that hold assets on different chains.
//! *Both legs latch, or neither moves.*
//!
//! One actor per account shard owns balances and grants; a coordinator runs two-phase commit
//! across the shards over channels; a commit log makes whole groups durable with one `fsync`; a
//! version store keeps every balance as of every commit. [`engine::Engine`] is the door.
//!
//! ```
//! use crosslatch::address::{Address, Link};
//! use crosslatch::engine::{Brief, Engine, Options};
//! use crosslatch::request::{AssetSpec, Command, Request, Swap, Transfer};
//! use crosslatch::types::{AccountId, Amount, AssetId, ChainId, ChainKind, Leg, RequestId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let data = tempfile::tempdir()?;
//! # let data = data.path();
//! let engine = Engine::start(Options::new(data))?;
//! // In a program the ids are UUIDs: RequestId::v7(now in milliseconds, random bits).
//! let mut next = 0;
//! let mut request = |command| {
//!     next += 1;
//!     Request::new(RequestId::new(next), command)
//! };
//!
//! // Two assets on two chains, and two accounts with an address on each.
//! let (one, two) = (ChainId::new(1), ChainId::new(2));
//! let asset = |name: &str, chain| {
//!     let (chain_kind, token) = (ChainKind::Other, "native".into());
//!     Command::PutAsset(AssetSpec { name: name.into(), chain, chain_kind, token, decimals: 0 })
//! };
//! let account = |account: AccountId| {
//!     let link = |chain| Link {
//!         chain,
//!         address: Address::parse(ChainKind::Other, &format!("owner-{account}")).expect("valid"),
//!     };
//!     Command::PutAccount { account, links: vec![link(one), link(two)] }
//! };
//! let deposit = |account, asset, amount| {
//!     let (amount, reference) = (Amount::new(amount), "".into());
//!     Command::Deposit(Transfer { account, asset, amount, reference })
//! };
//! let (alice, bob) = (AccountId::new(1), AccountId::new(2));
//! let (eth, sol) = (AssetId::new(0), AssetId::new(1));
//! let setup = [
//!     asset("ETH", one),
//!     asset("SOL", two),
//!     account(alice),
//!     account(bob),
//!     deposit(alice, eth, 5),
//!     deposit(bob, sol, 90),
//! ];
//! engine.submit(setup.into_iter().map(&mut request).collect())?.wait()?;
//!
//! // Alice sells 5 ETH to Bob for 90 SOL.
//! let swap = Swap::new([
//!     Leg { from: alice, to: bob, asset: eth, amount: Amount::new(5) },
//!     Leg { from: bob, to: alice, asset: sol, amount: Amount::new(90) },
//! ]);
//! let swap = request(Command::Swap(swap.map_err(|malformed| malformed.to_string())?));
//! let answers = engine.submit(vec![swap])?.wait()?;
//! assert!(matches!(answers.brief(0), Brief::Settled(_)));
//!
//! let bobs = engine.balances_blocking(bob)?;
//! assert_eq!(bobs.balances[0].balance.available, Amount::new(5));
//! engine.stop()?;
//! # Ok(())
//! # }
//! ```
//!
//! The rooms are declared bottom-up; a file uses only rooms above its own line.

mod sync;
pub mod types;
pub mod faults;
pub mod error;
pub mod config;
pub mod address;
pub mod access;
pub mod market;
pub mod request;
pub mod message;
pub mod clock;
pub mod metrics;
pub mod actor;
pub mod directory;
#[cfg(test)]
mod scripts;
pub mod shard;
pub mod matcher;
pub mod coordinator;
pub mod store;
pub mod engine;
pub mod proto;
pub mod client;
#[cfg(feature = "rocksdb")]
pub mod server;
#[cfg(feature = "rocksdb")]
pub mod cli;
