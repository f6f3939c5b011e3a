//! API keys and states of operation as bytes.
//!
//! | part of a key | bytes |
//! |---|---|
//! | name | text |
//! | generation | varint |
//! | verifier | raw 32 |
//! | scopes | 1: a bit each, read the lowest |
//! | accounts | 1 if it is bound to some, else 0 (1); how many: varint; each: varint, ascending |
//! | networks | how many: varint; each: 4 or 6 (1), the address: raw 4 or 16, bits that count (1) |
//! | limits | requests a second, in flight, open holds, open orders: varints |
//! | when it expires | raw 8, in microseconds |
//!
//! A state of operation is its number (1). A key that is revoked is its name: text.

use std::net::IpAddr;

use super::bytes::{Flaw, Reader, Writer};
use super::command;
use crate::access::{Accounts, ApiKey, KeyLimits, Network, Scopes};
use crate::config::{KEY_ACCOUNTS_MAX, KEY_NAME_BYTES_MAX, KEY_NETWORKS_MAX};
use crate::types::{Operation, Time};

/// Kinds of addresses. Persisted: never renumbered, never used again.
const V4: u8 = 4;
const V6: u8 = 6;

/// Writes a key.
pub(super) fn write_key(key: &ApiKey, to: &mut Writer) {
    to.text(&key.name);
    to.varint(key.generation);
    to.slice(&key.verifier);
    to.slice(&[key.scopes.bits()]);
    write_accounts(&key.accounts, to);
    to.varint(key.networks.len() as u64);
    for network in &key.networks {
        write_network(*network, to);
    }
    let KeyLimits { requests_per_second, in_flight, open_holds, open_orders } = key.limits;
    for limit in [requests_per_second, in_flight, open_holds, open_orders] {
        to.varint(limit);
    }
    to.slice(&key.expires_at.get().to_le_bytes());
}

fn write_accounts(accounts: &Accounts, to: &mut Writer) {
    let Accounts::Only(accounts) = accounts else {
        return to.slice(&[0]);
    };
    to.slice(&[1]);
    to.varint(accounts.len() as u64);
    for account in accounts {
        to.varint(account.get());
    }
}

fn write_network(network: Network, to: &mut Writer) {
    match network.address() {
        IpAddr::V4(address) => {
            to.slice(&[V4]);
            to.slice(&address.octets());
        }
        IpAddr::V6(address) => {
            to.slice(&[V6]);
            to.slice(&address.octets());
        }
    }
    to.slice(&[network.prefix()]);
}

/// What [`write_key`] wrote.
pub(super) fn read_key(from: &mut Reader<'_>) -> Result<ApiKey, Flaw> {
    let key = ApiKey {
        name: read_name(from)?,
        generation: from.varint_as()?,
        verifier: from.raw()?,
        scopes: Scopes::from_bits(from.byte()?).ok_or("has a scope that does not exist")?,
        accounts: read_accounts(from)?,
        networks: read_networks(from)?,
        limits: KeyLimits {
            requests_per_second: from.varint_as()?,
            in_flight: from.varint_as()?,
            open_holds: from.varint_as()?,
            open_orders: from.varint_as()?,
        },
        expires_at: Time::new(u64::from_le_bytes(from.raw()?)),
    };
    key.validate().map_err(|_| "has an API key that cannot be")?;
    Ok(key)
}

/// Reads the name of a key.
pub(super) fn read_name(from: &mut Reader<'_>) -> Result<Box<str>, Flaw> {
    Ok(from.text(KEY_NAME_BYTES_MAX)?.into())
}

fn read_accounts(from: &mut Reader<'_>) -> Result<Accounts, Flaw> {
    if !command::read_flag(from)? {
        return Ok(Accounts::All);
    }
    let length = read_length(KEY_ACCOUNTS_MAX, from)?;
    let accounts = (0..length).map(|_| command::read_account(from));
    let accounts = accounts.collect::<Result<Box<[_]>, Flaw>>()?;
    if !accounts.is_sorted_by(|one, other| one < other) {
        return Err("has an API key whose accounts are in disorder");
    }
    Ok(Accounts::Only(accounts))
}

fn read_networks(from: &mut Reader<'_>) -> Result<Box<[Network]>, Flaw> {
    let length = read_length(KEY_NETWORKS_MAX, from)?;
    (0..length).map(|_| read_network(from)).collect()
}

fn read_network(from: &mut Reader<'_>) -> Result<Network, Flaw> {
    let address = match from.byte()? {
        V4 => IpAddr::from(from.raw::<4>()?),
        V6 => IpAddr::from(from.raw::<16>()?),
        _ => return Err("has an address of a kind that does not exist"),
    };
    Network::new(address, from.byte()?).map_err(|_| "has a network that cannot be")
}

fn read_length(max: usize, from: &mut Reader<'_>) -> Result<usize, Flaw> {
    let length: usize = from.varint_as()?;
    if length > max {
        return Err("has an API key that names more than one can");
    }
    Ok(length)
}

/// Writes a state of operation.
pub(super) fn write_operation(state: Operation, to: &mut Writer) {
    to.slice(&[state as u8]);
}

/// What [`write_operation`] wrote.
pub(super) fn read_operation(from: &mut Reader<'_>) -> Result<Operation, Flaw> {
    let number = from.byte()?;
    let known = Operation::ALL.into_iter().find(|state| *state as u8 == number);
    known.ok_or("has a state of operation that does not exist")
}
