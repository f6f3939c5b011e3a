//! Samples of keys, callers and states of operation.

use proptest::prelude::*;

use super::{account, time};
use crate::access::{Accounts, ApiKey, Caller, KeyLimits, KeyNumber, Network, Scopes};
use crate::request::Command;
use crate::types::Operation;

/// Who asks; mostly somebody trusted.
pub(super) fn caller() -> impl Strategy<Value = Caller> {
    prop_oneof![
        3 => Just(Caller::Trusted),
        1 => any::<u32>().prop_map(|number| Caller::Key(KeyNumber(number))),
    ]
}

fn network() -> impl Strategy<Value = Network> {
    let v4 = (any::<[u8; 4]>(), 0..=32u8).prop_map(|(address, bits)| (address.into(), bits));
    let v6 = (any::<[u8; 16]>(), 0..=128u8).prop_map(|(address, bits)| (address.into(), bits));
    prop_oneof![v4, v6].prop_map(|(address, bits)| Network::new(address, bits).expect("so many"))
}

fn name() -> impl Strategy<Value = Box<str>> {
    "[A-Za-z0-9_-]{1,64}".prop_map(Into::into)
}

fn key() -> impl Strategy<Value = ApiKey> {
    let accounts = prop::option::of(prop::collection::vec(account(), 0..20));
    let networks = prop::collection::vec(network(), 0..5);
    let scopes = (1..16u8).prop_map(|bits| Scopes::from_bits(bits).expect("four bits"));
    let secret = (1..u32::MAX, any::<[u8; 32]>());
    (name(), secret, scopes, accounts, networks, any::<[u32; 4]>(), time()).prop_map(
        |(name, (generation, verifier), scopes, accounts, networks, limits, expires_at)| ApiKey {
            name,
            generation,
            verifier,
            scopes,
            accounts: accounts
                .map_or(Accounts::All, |accounts| Accounts::only(accounts).expect("few")),
            networks: networks.into(),
            limits: KeyLimits {
                requests_per_second: limits[0],
                in_flight: limits[1],
                open_holds: limits[2],
                open_orders: limits[3],
            },
            expires_at,
        },
    )
}

pub(super) fn operation() -> impl Strategy<Value = Operation> {
    prop::sample::select(Operation::ALL.to_vec())
}

/// What is asked about keys and the state of operation.
pub(super) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        2 => key().prop_map(|key| Command::PutKey(Box::new(key))),
        1 => name().prop_map(Command::RevokeKey),
        1 => operation().prop_map(Command::Operate),
    ]
}
