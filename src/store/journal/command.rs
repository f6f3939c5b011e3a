//! Commands as bytes: complete, so that a receipt can be made from the journal alone.
//!
//! | part | bytes |
//! |---|---|
//! | kind | 1: the code below, plus 128 if a deadline follows, plus 64 if a caller does |
//! | deadline | raw 8, in microseconds; absent for none |
//! | caller | number of the API key: varint; absent for none. No part of a digest |
//! | 1 swap | number of legs (1), then each leg |
//! | 2 deposit, 10 withdrawal | account, asset, amount: varints; reference: text |
//! | 4 asset | name: text; chain: varint; kind of chain (1); token: text; decimals (1) |
//! | 5 account | account, number of links: varints; each link: chain: varint; address: text |
//! | 6 link removed | account, chain: varints |
//! | 7 prepare | as a swap; then 1 if exclusive, else 0 (1); milliseconds that it stands: varint |
//! | 8 commit, 9 rollback, 11 confirm, 12 cancel, 13 expire | token: raw 16, most significant byte first |
//! | 14 transaction | see `transact.rs` |
//! | 15 market, 16 halt, 17 resume, 18 order, 19 amend, 20 cancel, 21 expire, 22 cancel all | see `order.rs` |
//! | 23 key, 24 key revoked, 25 operation | see `access.rs` |
//!
//! Code 3 was a withdrawal that left at once. It is retired.
//!
//! A leg is a control word of raw 2 and the numbers it counts: four bits each for payer, payee,
//! asset and amount, from the lowest. A payer's count of 15 says that the leg before is answered:
//! the parties are the same the other way round, and neither is written. See
//! [`super::bytes`] for varint, raw, counted and text.
//!
//! Equal bytes mean equal commands, which is why their hash can be a request's digest.

use super::bytes::{Flaw, Reader, Writer, count, count_word};
use super::{access, fault, order, transact};
use crate::access::{Caller, KeyNumber};
use crate::address::{Address, Link};
use crate::config::{
    ADDRESS_BYTES_MAX, ASSET_NAME_BYTES_MAX, LINKS_PER_REQUEST_MAX, REFERENCE_BYTES_MAX,
    SWAP_LEGS_MAX,
};
use crate::request::{Action, AssetSpec, Command, Legs, Prepare, Resolve, Swap, Transfer};
use crate::types::{
    AccountId, Amount, AssetId, ChainId, ChainKind, CommitSeq, Leg, RequestId, Time, Token,
};

/// Codes of the kinds. Persisted: never renumbered, never used again.
pub(super) const SWAP: u8 = 1;
pub(super) const DEPOSIT: u8 = 2;
pub(super) const PUT_ASSET: u8 = 4;
pub(super) const PUT_ACCOUNT: u8 = 5;
pub(super) const REMOVE_LINK: u8 = 6;
const PREPARE: u8 = 7;
const COMMIT: u8 = 8;
const ROLLBACK: u8 = 9;
const WITHDRAW: u8 = 10;
const CONFIRM: u8 = 11;
const CANCEL: u8 = 12;
const EXPIRE: u8 = 13;
const TRANSACT: u8 = 14;
const PUT_MARKET: u8 = 15;
const HALT_MARKET: u8 = 16;
const RESUME_MARKET: u8 = 17;
const ORDER: u8 = 18;
const AMEND: u8 = 19;
const CANCEL_ORDER: u8 = 20;
const EXPIRE_ORDER: u8 = 21;
const CANCEL_ALL: u8 = 22;
const PUT_KEY: u8 = 23;
const REVOKE_KEY: u8 = 24;
const OPERATE: u8 = 25;
/// Added to the kind when a deadline follows.
const HAS_DEADLINE: u8 = 0x80;
/// Added to the kind when the key that asked follows.
const HAS_CALLER: u8 = 0x40;
/// A payer's count, where a leg answers the one before it; the payee's is 0 then.
const ANSWERS: u8 = 15;
/// Longest bitcoin, EVM or Solana address: bech32 has 90 characters.
const LINK_BYTES_MAX: usize = if ADDRESS_BYTES_MAX > 90 { ADDRESS_BYTES_MAX } else { 90 };
/// More than a leg can take: control word, two accounts, asset, amount.
const LEG_BYTES_MAX: usize = 2 + 8 + 8 + 4 + 16;

/// Writes command, deadline and caller.
#[inline]
pub(super) fn write(command: &Command, deadline: Time, caller: Caller, to: &mut Writer) {
    to.reserve(10);
    let flag = if deadline == Time::NEVER { 0 } else { HAS_DEADLINE };
    to.byte(kind(command) | flag | caller_flag(caller));
    if deadline != Time::NEVER {
        to.raw(deadline.get().to_le_bytes());
    }
    write_caller(caller, to);
    match command {
        Command::Swap(swap) => write_legs(swap.legs(), to),
        rare => write_rare(rare, to),
    }
}

/// What is added to a code for a caller that follows it.
#[inline]
pub(super) const fn caller_flag(caller: Caller) -> u8 {
    match caller {
        Caller::Trusted => 0,
        Caller::Key(_) => HAS_CALLER,
    }
}

/// A code without the flag of a caller.
#[inline]
pub(super) const fn without_caller(code: u8) -> u8 {
    code & !HAS_CALLER
}

/// Writes a caller; nothing for one that is trusted.
#[inline]
pub(super) fn write_caller(caller: Caller, to: &mut Writer) {
    if let Caller::Key(number) = caller {
        to.varint(number.0);
    }
}

/// The code without the flag, and the caller that follows if it is there.
#[inline]
pub(super) fn read_caller(code: u8, from: &mut Reader<'_>) -> Result<(u8, Caller), Flaw> {
    if code & HAS_CALLER == 0 {
        return Ok((code, Caller::Trusted));
    }
    Ok((code & !HAS_CALLER, Caller::Key(KeyNumber(from.varint_as()?))))
}

const fn kind(command: &Command) -> u8 {
    match command {
        Command::Swap(_) => SWAP,
        Command::Deposit(_) => DEPOSIT,
        Command::Withdraw(_) => WITHDRAW,
        Command::PutAsset(_) => PUT_ASSET,
        Command::PutAccount { .. } => PUT_ACCOUNT,
        Command::RemoveLink { .. } => REMOVE_LINK,
        Command::Prepare(_) => PREPARE,
        Command::Resolve(resolve) => match resolve.action {
            Action::Commit => COMMIT,
            Action::Rollback => ROLLBACK,
            Action::Confirm => CONFIRM,
            Action::Cancel => CANCEL,
            Action::Expire => EXPIRE,
        },
        Command::Transact(_) => TRANSACT,
        Command::PutMarket(_) => PUT_MARKET,
        Command::SwitchMarket { halted: true, .. } => HALT_MARKET,
        Command::SwitchMarket { halted: false, .. } => RESUME_MARKET,
        Command::Order(_) => ORDER,
        Command::Amend(_) => AMEND,
        Command::Cancel(_) => CANCEL_ORDER,
        Command::ExpireOrder(_) => EXPIRE_ORDER,
        Command::CancelAll { .. } => CANCEL_ALL,
        Command::PutKey(_) => PUT_KEY,
        Command::RevokeKey(_) => REVOKE_KEY,
        Command::Operate(_) => OPERATE,
    }
}

/// How a kind ends a hold; `None` if it does not.
pub(super) const fn action(kind: u8) -> Option<Action> {
    match kind {
        COMMIT => Some(Action::Commit),
        ROLLBACK => Some(Action::Rollback),
        CONFIRM => Some(Action::Confirm),
        CANCEL => Some(Action::Cancel),
        EXPIRE => Some(Action::Expire),
        _ => None,
    }
}

/// Whether commits of that kind make a hold.
pub(super) const fn makes_hold(kind: u8) -> bool {
    matches!(kind, PREPARE | WITHDRAW)
}

/// Whether commits of that kind make a hold for a swap.
pub(super) const fn is_prepare(kind: u8) -> bool {
    kind == PREPARE
}

/// Whether commits of that kind are what a market made of a request.
pub(super) const fn is_of_market(kind: u8) -> bool {
    matches!(kind, ORDER | AMEND | CANCEL_ORDER | EXPIRE_ORDER | CANCEL_ALL)
}

/// Whether commits of that kind never do anything but move balances and change the directory.
pub(super) const fn is_eventless(kind: u8) -> bool {
    matches!(
        kind,
        SWAP | PUT_ASSET
            | PUT_ACCOUNT
            | REMOVE_LINK
            | PUT_MARKET
            | HALT_MARKET
            | RESUME_MARKET
            | PUT_KEY
            | REVOKE_KEY
            | OPERATE
    )
}

/// Whether commits of that kind are nobody's request, and have no outcome: the engine itself asked.
pub(super) const fn is_nobodys(kind: u8) -> bool {
    matches!(kind, EXPIRE | EXPIRE_ORDER)
}

/// Writes the number of legs, and each.
#[inline]
pub(super) fn write_legs(legs: &[Leg], to: &mut Writer) {
    to.byte(u8::try_from(legs.len()).expect("a swap has at most 16 legs"));
    let mut before: Option<&Leg> = None;
    for leg in legs {
        to.reserve(LEG_BYTES_MAX);
        let answers = before.is_some_and(|before| answers(before, (leg.from, leg.to)));
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

/// Whether a leg from one to another goes the way of the one before it back.
#[inline]
fn answers(before: &Leg, (from, to): (AccountId, AccountId)) -> bool {
    before.from == to && before.to == from
}

fn write_rare(command: &Command, to: &mut Writer) {
    match command {
        Command::Swap(swap) => write_legs(swap.legs(), to),
        Command::Deposit(transfer) | Command::Withdraw(transfer) => write_transfer(transfer, to),
        Command::Prepare(prepare) => {
            write_legs(prepare.swap.legs(), to);
            to.slice(&[u8::from(prepare.exclusive)]);
            to.varint(prepare.expires_in_ms);
        }
        Command::Resolve(resolve) => write_token(resolve.token, to),
        Command::Transact(transact) => transact::write(transact, to),
        Command::PutMarket(spec) => order::write_market(spec, to),
        Command::SwitchMarket { market, .. } => to.varint(market.get()),
        Command::Order(order) => order::write(order, to),
        Command::Amend(amend) => order::write_amend(amend, to),
        Command::Cancel(order) | Command::ExpireOrder(order) => fault::write_id(*order, to),
        Command::CancelAll { account, market } => {
            to.varint(account.get());
            to.varint(market.get());
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
        Command::PutKey(key) => access::write_key(key, to),
        Command::RevokeKey(name) => to.text(name),
        Command::Operate(state) => access::write_operation(*state, to),
    }
}

/// Writes a transfer.
pub(super) fn write_transfer(transfer: &Transfer, to: &mut Writer) {
    to.varint(transfer.account.get());
    to.varint(transfer.asset.get());
    to.varint(transfer.amount.get());
    to.text(&transfer.reference);
}

/// Reads command, deadline and caller.
pub(super) fn read(from: &mut Reader<'_>) -> Result<(Command, Time, Caller), Flaw> {
    let (kind, deadline, caller) = read_kind(from)?;
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
        PREPARE => Command::Prepare(Box::new(read_prepare(from)?)),
        TRANSACT => Command::Transact(Box::new(transact::read(from)?)),
        PUT_MARKET => Command::PutMarket(Box::new(order::read_market_spec(from)?)),
        HALT_MARKET => Command::SwitchMarket { market: fault::read_market(from)?, halted: true },
        RESUME_MARKET => Command::SwitchMarket { market: fault::read_market(from)?, halted: false },
        ORDER => Command::Order(Box::new(order::read(from)?)),
        AMEND => Command::Amend(order::read_amend(from)?),
        CANCEL_ORDER => Command::Cancel(fault::read_id(from)?),
        EXPIRE_ORDER => Command::ExpireOrder(fault::read_id(from)?),
        CANCEL_ALL => {
            Command::CancelAll { account: read_account(from)?, market: fault::read_market(from)? }
        }
        PUT_KEY => Command::PutKey(Box::new(access::read_key(from)?)),
        REVOKE_KEY => Command::RevokeKey(access::read_name(from)?),
        OPERATE => Command::Operate(access::read_operation(from)?),
        kind => {
            let action = action(kind).ok_or("is of a kind that this build does not know")?;
            Command::Resolve(Resolve { token: read_token(from)?, action })
        }
    };
    Ok((command, deadline, caller))
}

/// The code of the kind, the deadline, and the caller.
#[inline]
pub(super) fn read_kind(from: &mut Reader<'_>) -> Result<(u8, Time, Caller), Flaw> {
    let kind = from.byte()?;
    if kind & (HAS_DEADLINE | HAS_CALLER) == 0 {
        return Ok((kind, Time::NEVER, Caller::Trusted));
    }
    let mut deadline = Time::NEVER;
    if kind & HAS_DEADLINE != 0 {
        deadline = Time::new(u64::from_le_bytes(from.raw()?));
        if deadline == Time::NEVER {
            return Err("has a deadline that is none");
        }
    }
    let (kind, caller) = read_caller(kind & !HAS_DEADLINE, from)?;
    Ok((kind, deadline, caller))
}

/// The legs of the plainest swap, of two legs in two assets: what it does to a balance, one leg says.
/// `None`, and wherever it came to, if it is any other.
#[inline]
pub(super) fn read_pair(from: &mut Reader<'_>) -> Result<Option<[Leg; 2]>, Flaw> {
    if read_legs_len(from)? != 2 {
        return Ok(None);
    }
    let first = read_leg(None, from)?;
    let second = read_leg(Some(&first), from)?;
    Ok((first.asset != second.asset).then_some([first, second]))
}

/// Goes past what follows the legs of a swap that is prepared.
#[inline]
pub(super) fn skip_terms(from: &mut Reader<'_>) -> Result<(), Flaw> {
    from.skip(1);
    from.varint().map(drop)
}

/// The number of legs.
#[inline]
fn read_legs_len(from: &mut Reader<'_>) -> Result<usize, Flaw> {
    Ok(usize::from(from.byte()?))
}

/// One leg; `before` is the leg before it.
#[inline]
pub(super) fn read_leg(before: Option<&Leg>, reader: &mut Reader<'_>) -> Result<Leg, Flaw> {
    let [parties, amounts] = reader.raw()?;
    let (from, to) = if parties == ANSWERS {
        let before = before.ok_or("has a first leg that answers another")?;
        (before.to, before.from)
    } else {
        let from = AccountId::new(reader.counted_word(parties & 0xF)?);
        let to = AccountId::new(reader.counted_word(parties >> 4)?);
        if before.is_some_and(|before| answers(before, (from, to))) {
            return Err("has a leg that answers another and does not say so");
        }
        (from, to)
    };
    let asset = u32::try_from(reader.counted_word(amounts & 0xF)?);
    let asset = AssetId::new(asset.map_err(|_| "has an asset number above 32 bits")?);
    Ok(Leg { from, to, asset, amount: Amount::new(reader.counted(amounts >> 4)?) })
}

/// What [`write_legs`] wrote.
pub(super) fn read_legs(from: &mut Reader<'_>) -> Result<Legs, Flaw> {
    let length = read_legs_len(from)?;
    if length > SWAP_LEGS_MAX {
        return Err("has more legs than a swap can have");
    }
    let mut legs = Legs::new();
    for _ in 0..length {
        legs.push(read_leg(legs.last(), from)?);
    }
    Ok(legs)
}

/// The legs of a swap.
pub(super) fn read_swap(from: &mut Reader<'_>) -> Result<Swap, Flaw> {
    Swap::new(read_legs(from)?).map_err(|_| "has legs that no swap can have")
}

fn read_prepare(from: &mut Reader<'_>) -> Result<Prepare, Flaw> {
    let swap = read_swap(from)?;
    let exclusive = read_flag(from)?;
    Ok(Prepare { swap, expires_in_ms: from.varint_as()?, exclusive })
}

/// A byte that is 0 or 1.
pub(super) fn read_flag(from: &mut Reader<'_>) -> Result<bool, Flaw> {
    match from.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err("has a flag that is neither set nor not"),
    }
}

/// Writes the token of a hold.
pub(super) fn write_token(token: Token, to: &mut Writer) {
    to.slice(&token.request().get().to_be_bytes());
}

/// What [`write_token`] wrote.
#[inline]
pub(super) fn read_token(from: &mut Reader<'_>) -> Result<Token, Flaw> {
    Ok(Token::of(RequestId::new(u128::from_be_bytes(from.raw()?))))
}

pub(super) fn read_account(from: &mut Reader<'_>) -> Result<AccountId, Flaw> {
    from.varint_as().map(AccountId::new)
}

pub(super) fn read_chain(from: &mut Reader<'_>) -> Result<ChainId, Flaw> {
    from.varint_as().map(ChainId::new)
}

pub(super) fn read_asset_number(from: &mut Reader<'_>) -> Result<AssetId, Flaw> {
    from.varint_as().map(AssetId::new)
}

pub(super) fn read_seq(from: &mut Reader<'_>) -> Result<CommitSeq, Flaw> {
    from.varint_as().map(CommitSeq::new)
}

/// What [`write_transfer`] wrote.
pub(super) fn read_transfer(from: &mut Reader<'_>) -> Result<Transfer, Flaw> {
    Ok(Transfer {
        account: read_account(from)?,
        asset: read_asset_number(from)?,
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
