//! What a market's command came to, as bytes.
//!
//! | part | bytes |
//! |---|---|
//! | market | varint |
//! | number of moves | varint |
//! | each move, ascending by account and asset | account, asset: varints; available, held: signed |
//! | number of trades | varint; if there are any, then 0 if the one that came buys, 1 if it sells (1) |
//! | each trade | maker's order: raw 16; its account, price, lots: varints; taker's and maker's fee: signed |
//! | number of orders | varint |
//! | each order | raw 16; account: varint; how it stands (1); price, left, filled, notional, carry, place: varints |
//!
//! A signed number is a varint of twice its size, less one if it is negative.

use super::bytes::{Flaw, Reader, Writer};
use super::command::{read_account, read_asset_number, read_flag};
use super::fault::{read_id, read_market, write_id};
use crate::market::order::{Ended, Lots, Price, Side};
use crate::market::{Fill, Move, OrderState, OrderUpdate, Settlement, Standing};
use crate::types::BalanceKey;

/// How an order stands. Codes are the places. Persisted: never renumbered.
const STANDINGS: [Standing; 8] = [
    Standing::Open,
    Standing::Filled,
    Standing::Ended(Ended::Canceled),
    Standing::Ended(Ended::Expired),
    Standing::Ended(Ended::Unfilled),
    Standing::Ended(Ended::OutOfFunds),
    Standing::Ended(Ended::SelfTrade),
    Standing::Ended(Ended::WouldTake),
];

fn write_signed(number: i128, to: &mut Writer) {
    // The supply cap keeps all of them below 2^127.
    to.varint((number << 1 ^ number >> 127).cast_unsigned());
}

fn read_signed(from: &mut Reader<'_>) -> Result<i128, Flaw> {
    let number = from.varint()?;
    Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
}

/// Writes a settlement.
pub(super) fn write(settlement: &Settlement, to: &mut Writer) {
    to.varint(settlement.market.get());
    to.varint(settlement.moves.len() as u64);
    for Move { key, available, held } in &settlement.moves {
        to.varint(key.account.get());
        to.varint(key.asset.get());
        write_signed(*available, to);
        write_signed(*held, to);
    }
    to.varint(settlement.fills.len() as u64);
    if !settlement.fills.is_empty() {
        to.slice(&[u8::from(settlement.taker_side == Some(Side::Sell))]);
    }
    for fill in &settlement.fills {
        write_id(fill.maker, to);
        to.varint(fill.account.get());
        to.varint(fill.price.0);
        to.varint(fill.lots.0);
        write_signed(fill.taker_fee, to);
        write_signed(fill.maker_fee, to);
    }
    to.varint(settlement.orders.len() as u64);
    for update in &settlement.orders {
        write_id(update.order, to);
        to.varint(update.account.get());
        let code = STANDINGS.iter().position(|known| *known == update.standing);
        to.slice(&[code.expect("all are listed") as u8]);
        write_state(&update.state, to);
    }
}

/// Writes what of an order changes while it stands.
pub(in crate::store) fn write_state(state: &OrderState, to: &mut Writer) {
    to.varint(state.price.0);
    to.varint(state.left.0);
    to.varint(state.filled.0);
    to.varint(state.notional);
    to.varint(state.carry);
    to.varint(state.place);
}

/// What [`write_state`] wrote.
pub(in crate::store) fn read_state(from: &mut Reader<'_>) -> Result<OrderState, Flaw> {
    Ok(OrderState {
        price: Price(from.varint_as()?),
        left: Lots(from.varint_as()?),
        filled: Lots(from.varint_as()?),
        notional: from.varint()?,
        carry: from.varint_as()?,
        place: from.varint_as()?,
    })
}

/// What [`write`] wrote.
pub(super) fn read(from: &mut Reader<'_>) -> Result<Settlement, Flaw> {
    let market = read_market(from)?;
    let moves = read_all(from, read_move)?;
    let ascends = moves.is_sorted_by(|a, b| a.key < b.key);
    if !ascends || moves.iter().any(|one| (one.available, one.held) == (0, 0)) {
        return Err("moves balances out of order, or by nothing");
    }
    let length: u32 = from.varint_as()?;
    let taker_side = match length {
        0 => None,
        _ if read_flag(from)? => Some(Side::Sell),
        _ => Some(Side::Buy),
    };
    let fills = read_so_many(length, from, read_fill)?;
    let orders = read_all(from, read_update)?;
    Ok(Settlement { market, moves, taker_side, fills, orders })
}

fn read_all<T>(
    from: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Flaw>,
) -> Result<Box<[T]>, Flaw> {
    let length = from.varint_as()?;
    read_so_many(length, from, read)
}

fn read_so_many<T>(
    length: u32,
    from: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Flaw>,
) -> Result<Box<[T]>, Flaw> {
    // Grows as it is read: a length that is not true costs no memory.
    let mut all = Vec::new();
    for _ in 0..length {
        all.push(read(from)?);
    }
    Ok(all.into())
}

fn read_move(from: &mut Reader<'_>) -> Result<Move, Flaw> {
    let key = BalanceKey { account: read_account(from)?, asset: read_asset_number(from)? };
    Ok(Move { key, available: read_signed(from)?, held: read_signed(from)? })
}

fn read_fill(from: &mut Reader<'_>) -> Result<Fill, Flaw> {
    Ok(Fill {
        maker: read_id(from)?,
        account: read_account(from)?,
        price: Price(from.varint_as()?),
        lots: Lots(from.varint_as()?),
        taker_fee: read_signed(from)?,
        maker_fee: read_signed(from)?,
    })
}

fn read_update(from: &mut Reader<'_>) -> Result<OrderUpdate, Flaw> {
    let (order, account) = (read_id(from)?, read_account(from)?);
    let standing = STANDINGS.get(usize::from(from.byte()?)).copied();
    let standing = standing.ok_or("has an order that stands as none can")?;
    Ok(OrderUpdate { order, account, state: read_state(from)?, standing })
}
