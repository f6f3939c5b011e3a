//! Commands as bytes: complete, so that a receipt can be made from the journal alone.
//!
//! | part | bytes |
//! |---|---|
//! | kind | 1: the code below, plus 128 if a deadline follows |
//! | deadline | raw 8, in microseconds; absent for none |
//! | 1 swap | number of legs (1), then each leg |
//! | 2 deposit, 3 withdrawal | account, asset, amount: varints; reference: text |
//! | 4 asset | name: text; chain: varint; kind of chain (1); token: text; decimals (1) |
//! | 5 account | account, number of links: varints; each link: chain: varint; address: text |
//! | 6 link removed | account, chain: varints |
//!
//! A leg is a control word of raw 2 and the numbers it counts: four bits each for payer, payee,
//! asset and amount, from the lowest. A payer's count of 15 says that the leg before is answered:
//! the parties are the same the other way round, and neither is written. See
//! [`super::bytes`] for varint, raw, counted and text.
//!
//! Equal bytes mean equal commands, which is why their hash can be a request's digest.

use smallvec::SmallVec;

use super::bytes::{Flaw, Reader, Writer, count, count_word};
use crate::address::{Address, Link};
use crate::config::{
    ADDRESS_BYTES_MAX, ASSET_NAME_BYTES_MAX, LINKS_PER_REQUEST_MAX, REFERENCE_BYTES_MAX,
    SWAP_LEGS_MAX,
};
use crate::request::{AssetSpec, Command, Swap, Transfer};
use crate::types::{AccountId, Amount, AssetId, ChainId, ChainKind, Leg, Time};

/// Codes of the kinds. Persisted: never renumbered, never used again.
pub(super) const SWAP: u8 = 1;
const DEPOSIT: u8 = 2;
const WITHDRAW: u8 = 3;
const PUT_ASSET: u8 = 4;
const PUT_ACCOUNT: u8 = 5;
const REMOVE_LINK: u8 = 6;
/// Added to the kind when a deadline follows.
const HAS_DEADLINE: u8 = 0x80;
/// A payer's count, where a leg answers the one before it.
const ANSWERS: u8 = 15;
/// Longest bitcoin, EVM or Solana address: bech32 has 90 characters.
const LINK_BYTES_MAX: usize = if ADDRESS_BYTES_MAX > 90 { ADDRESS_BYTES_MAX } else { 90 };
/// More than a leg can take: control word, two accounts, asset, amount.
const LEG_BYTES_MAX: usize = 2 + 8 + 8 + 4 + 16;

/// Writes command and deadline.
#[inline]
pub(super) fn write(command: &Command, deadline: Time, to: &mut Writer) {
    to.reserve(10);
    let flag = if deadline == Time::NEVER { 0 } else { HAS_DEADLINE };
    to.byte(kind(command) | flag);
    if deadline != Time::NEVER {
        to.raw(deadline.get().to_le_bytes());
    }
    match command {
        Command::Swap(swap) => write_legs(swap.legs(), to),
        rare => write_rare(rare, to),
    }
}

const fn kind(command: &Command) -> u8 {
    match command {
        Command::Swap(_) => SWAP,
        Command::Deposit(_) => DEPOSIT,
        Command::Withdraw(_) => WITHDRAW,
        Command::PutAsset(_) => PUT_ASSET,
        Command::PutAccount { .. } => PUT_ACCOUNT,
        Command::RemoveLink { .. } => REMOVE_LINK,
    }
}

#[inline]
fn write_legs(legs: &[Leg], to: &mut Writer) {
    to.byte(u8::try_from(legs.len()).expect("a swap has at most 16 legs"));
    let mut before: Option<&Leg> = None;
    for leg in legs {
        to.reserve(LEG_BYTES_MAX);
        let answers = before.is_some_and(|before| before.from == leg.to && before.to == leg.from);
        let (asset, amount) = (u64::from(leg.asset.get()), leg.amount.get());
        let (assets, amounts) = (count_word(asset), count(amount));
        if answers {
            to.raw([ANSWERS, assets | amounts << 4]);
        } else {
            let (from, into) = (leg.from.get(), leg.to.get());
            let (froms, intos) = (count_word(from), count_word(into));
            to.raw([froms | intos << 4, assets | amounts << 4]);
            to.counted_word(from, froms);
            to.counted_word(into, intos);
        }
        to.counted_word(asset, assets);
        to.counted(amount, amounts);
        before = Some(leg);
    }
}

fn write_rare(command: &Command, to: &mut Writer) {
    match command {
        Command::Swap(swap) => write_legs(swap.legs(), to),
        Command::Deposit(transfer) | Command::Withdraw(transfer) => {
            to.varint(transfer.account.get());
            to.varint(transfer.asset.get());
            to.varint(transfer.amount.get());
            to.text(&transfer.reference);
        }
        Command::PutAsset(spec) => {
            to.text(&spec.name);
            to.varint(spec.chain.get());
            to.slice(&[chain_kind_code(spec.chain_kind)]);
            to.text(&spec.token);
            to.slice(&[spec.decimals]);
        }
        Command::PutAccount { account, links } => {
            to.varint(account.get());
            to.varint(links.len() as u64);
            for link in links {
                to.varint(link.chain.get());
                to.text(link.address.as_str());
            }
        }
        Command::RemoveLink { account, chain } => {
            to.varint(account.get());
            to.varint(chain.get());
        }
    }
}

/// Reads command and deadline.
pub(super) fn read(from: &mut Reader<'_>) -> Result<(Command, Time), Flaw> {
    let (kind, deadline) = read_kind(from)?;
    let command = match kind {
        SWAP => Command::Swap(read_swap(from)?),
        DEPOSIT => Command::Deposit(read_transfer(from)?),
        WITHDRAW => Command::Withdraw(read_transfer(from)?),
        PUT_ASSET => Command::PutAsset(read_asset(from)?),
        PUT_ACCOUNT => {
            Command::PutAccount { account: read_account(from)?, links: read_links(from)? }
        }
        REMOVE_LINK => {
            Command::RemoveLink { account: read_account(from)?, chain: read_chain(from)? }
        }
        _ => return Err("is of a kind that does not exist"),
    };
    Ok((command, deadline))
}

/// The code of the kind, and the deadline.
#[inline]
pub(super) fn read_kind(from: &mut Reader<'_>) -> Result<(u8, Time), Flaw> {
    let kind = from.byte()?;
    if kind & HAS_DEADLINE == 0 {
        return Ok((kind, Time::NEVER));
    }
    Ok((kind & !HAS_DEADLINE, Time::new(u64::from_le_bytes(from.raw()?))))
}

/// The number of legs.
#[inline]
pub(super) fn read_legs_len(from: &mut Reader<'_>) -> Result<usize, Flaw> {
    Ok(usize::from(from.byte()?))
}

/// One leg; `before` is the leg before it.
#[inline]
pub(super) fn read_leg(before: Option<&Leg>, reader: &mut Reader<'_>) -> Result<Leg, Flaw> {
    let [parties, amounts] = reader.raw()?;
    let (from, to) = if parties & 0xF == ANSWERS {
        let before = before.ok_or("has a first leg that answers another")?;
        (before.to, before.from)
    } else {
        let from = reader.counted_word(parties & 0xF)?;
        (AccountId::new(from), AccountId::new(reader.counted_word(parties >> 4)?))
    };
    let asset = u32::try_from(reader.counted_word(amounts & 0xF)?);
    let asset = AssetId::new(asset.map_err(|_| "has an asset number above 32 bits")?);
    Ok(Leg { from, to, asset, amount: Amount::new(reader.counted(amounts >> 4)?) })
}

fn read_swap(from: &mut Reader<'_>) -> Result<Swap, Flaw> {
    let length = read_legs_len(from)?;
    if length > SWAP_LEGS_MAX {
        return Err("has more legs than a swap can have");
    }
    let mut legs: SmallVec<[Leg; 2]> = SmallVec::new();
    for _ in 0..length {
        legs.push(read_leg(legs.last(), from)?);
    }
    Swap::new(legs).map_err(|_| "has legs that no swap can have")
}

fn read_account(from: &mut Reader<'_>) -> Result<AccountId, Flaw> {
    from.varint_as().map(AccountId::new)
}

fn read_chain(from: &mut Reader<'_>) -> Result<ChainId, Flaw> {
    from.varint_as().map(ChainId::new)
}

fn read_transfer(from: &mut Reader<'_>) -> Result<Transfer, Flaw> {
    Ok(Transfer {
        account: read_account(from)?,
        asset: AssetId::new(from.varint_as()?),
        amount: Amount::new(from.varint()?),
        reference: from.text(REFERENCE_BYTES_MAX)?.into(),
    })
}

fn read_asset(from: &mut Reader<'_>) -> Result<AssetSpec, Flaw> {
    Ok(AssetSpec {
        name: from.text(ASSET_NAME_BYTES_MAX)?.into(),
        chain: read_chain(from)?,
        chain_kind: read_chain_kind(from)?,
        token: from.text(LINK_BYTES_MAX)?.into(),
        decimals: from.byte()?,
    })
}

fn read_links(from: &mut Reader<'_>) -> Result<Vec<Link>, Flaw> {
    let length: usize = from.varint_as()?;
    if length > LINKS_PER_REQUEST_MAX {
        return Err("has more links than a request can have");
    }
    let link = |from: &mut Reader<'_>| {
        let chain = read_chain(from)?;
        Ok(Link { chain, address: Address::from_canonical(from.text(LINK_BYTES_MAX)?) })
    };
    (0..length).map(|_| link(from)).collect()
}

const fn chain_kind_code(kind: ChainKind) -> u8 {
    match kind {
        ChainKind::Evm => 1,
        ChainKind::Solana => 2,
        ChainKind::Bitcoin => 3,
        ChainKind::Other => 4,
    }
}

fn read_chain_kind(from: &mut Reader<'_>) -> Result<ChainKind, Flaw> {
    match from.byte()? {
        1 => Ok(ChainKind::Evm),
        2 => Ok(ChainKind::Solana),
        3 => Ok(ChainKind::Bitcoin),
        4 => Ok(ChainKind::Other),
        _ => Err("has a kind of chain that does not exist"),
    }
}
