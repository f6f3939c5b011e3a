//! What was wrong with an order, as bytes.
//!
//! | part | bytes |
//! |---|---|
//! | code of the fault | 1 |
//! | what it says | varints; a request id is raw 16, most significant byte first |

use super::bytes::{Flaw, Reader, Writer};
use crate::error::OrderFault;
use crate::types::{Amount, MarketId, RequestId};

/// Codes of the faults. Persisted: never renumbered, never used again.
const UNKNOWN_MARKET: u8 = 1;
const UNKNOWN_ORDER: u8 = 2;
const HALTED: u8 = 3;
const TICK: u8 = 4;
const LOT: u8 = 5;
const TOO_SMALL: u8 = 6;
const TOO_LARGE: u8 = 7;
const FILLED_ALREADY: u8 = 8;
const OUT_OF_BAND: u8 = 9;
const DUPLICATE_CLIENT_ID: u8 = 10;
const TOO_MANY: u8 = 11;
const WOULD_TAKE: u8 = 12;

/// Writes a fault.
pub(super) fn write(fault: &OrderFault, to: &mut Writer) {
    match fault {
        OrderFault::UnknownMarket(market) => coded(UNKNOWN_MARKET, market.get(), to),
        OrderFault::UnknownOrder(order) => with_id(UNKNOWN_ORDER, *order, to),
        OrderFault::Halted(market) => coded(HALTED, market.get(), to),
        OrderFault::Tick { tick_size } => coded(TICK, *tick_size, to),
        OrderFault::Lot { lot_size } => coded(LOT, *lot_size, to),
        OrderFault::TooSmall { min_notional } => coded(TOO_SMALL, *min_notional, to),
        OrderFault::TooLarge => to.slice(&[TOO_LARGE]),
        OrderFault::FilledAlready { filled } => coded(FILLED_ALREADY, filled.get(), to),
        OrderFault::OutOfBand { low, high } => {
            coded(OUT_OF_BAND, *low, to);
            to.varint(*high);
        }
        OrderFault::DuplicateClientId(order) => with_id(DUPLICATE_CLIENT_ID, *order, to),
        OrderFault::TooMany { max } => coded(TOO_MANY, *max, to),
        OrderFault::WouldTake => to.slice(&[WOULD_TAKE]),
    }
}

fn coded(code: u8, number: impl Into<u128>, to: &mut Writer) {
    to.slice(&[code]);
    to.varint(number);
}

fn with_id(code: u8, id: RequestId, to: &mut Writer) {
    to.slice(&[code]);
    write_id(id, to);
}

/// Writes the id of the request that placed an order.
pub(super) fn write_id(id: RequestId, to: &mut Writer) {
    to.slice(&id.get().to_be_bytes());
}

/// What [`write_id`] wrote.
pub(super) fn read_id(from: &mut Reader<'_>) -> Result<RequestId, Flaw> {
    Ok(RequestId::new(u128::from_be_bytes(from.raw()?)))
}

/// Reads the number of a market.
pub(super) fn read_market(from: &mut Reader<'_>) -> Result<MarketId, Flaw> {
    from.varint_as().map(MarketId::new)
}

/// What [`write`] wrote.
pub(super) fn read(from: &mut Reader<'_>) -> Result<OrderFault, Flaw> {
    Ok(match from.byte()? {
        UNKNOWN_MARKET => OrderFault::UnknownMarket(read_market(from)?),
        UNKNOWN_ORDER => OrderFault::UnknownOrder(read_id(from)?),
        HALTED => OrderFault::Halted(read_market(from)?),
        TICK => OrderFault::Tick { tick_size: from.varint_as()? },
        LOT => OrderFault::Lot { lot_size: from.varint_as()? },
        TOO_SMALL => OrderFault::TooSmall { min_notional: from.varint()? },
        TOO_LARGE => OrderFault::TooLarge,
        FILLED_ALREADY => OrderFault::FilledAlready { filled: Amount::new(from.varint()?) },
        OUT_OF_BAND => OrderFault::OutOfBand { low: from.varint_as()?, high: from.varint_as()? },
        DUPLICATE_CLIENT_ID => OrderFault::DuplicateClientId(read_id(from)?),
        TOO_MANY => OrderFault::TooMany { max: from.varint_as()? },
        WOULD_TAKE => OrderFault::WouldTake,
        _ => return Err("has a fault of an order that this build does not know"),
    })
}
