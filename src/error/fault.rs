//! What can be wrong with an order, as the state of its market has it.

use thiserror::Error;

use crate::types::{Amount, MarketId, RequestId};

/// Why a market's request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OrderFault {
    /// No such market.
    #[error("market {0} does not exist")]
    UnknownMarket(MarketId),
    /// No order of that request stands in a book.
    #[error("no order {0} is open; look it up to see what became of it")]
    UnknownOrder(RequestId),
    /// The market takes no orders and no amendments; cancel what is open, or wait.
    #[error("market {0} is halted; orders can only be canceled")]
    Halted(MarketId),
    /// The price is not a multiple of the market's tick.
    #[error("the price is not a multiple of the tick size, {tick_size}")]
    Tick {
        /// Of the market.
        tick_size: u64,
    },
    /// The quantity is not a multiple of the market's lot, or of more lots than there can be.
    #[error(
        "the quantity is not a multiple of the lot size, {lot_size}, or of more than 2^64 lots"
    )]
    Lot {
        /// Of the market.
        lot_size: u64,
    },
    /// The order is worth less than the market's least.
    #[error("the order is worth less than {min_notional} of the quote asset's smallest units")]
    TooSmall {
        /// Of the market.
        min_notional: u128,
    },
    /// The order could come to pay more than there can be of an asset.
    #[error("the order is worth more than there can be of an asset")]
    TooLarge,
    /// As much has traded as the amended order is to have in all.
    #[error("{filled} of the order has traded already; cancel it instead")]
    FilledAlready {
        /// So much has, in base's smallest units.
        filled: Amount,
    },
    /// The price is too far from the last trade's.
    #[error("the price is not between {low} and {high}, the market's band around its last trade")]
    OutOfBand {
        /// The lowest that is allowed now.
        low: u64,
        /// The highest.
        high: u64,
    },
    /// The account has an open order with that client_order_id.
    #[error("the account's open order {0} has that client_order_id")]
    DuplicateClientId(RequestId),
    /// As many orders stand in the market as may.
    #[error("the market's open orders are at their limit of {max}")]
    TooMany {
        /// The limit.
        max: u64,
    },
    /// The order is post-only and would trade at once.
    #[error("the order is post-only and would trade at once")]
    WouldTake,
}

impl OrderFault {
    /// The place of its code among those of faults; see [`super::Reject::CODES`].
    pub(super) const fn precedence(&self) -> u8 {
        match self {
            Self::UnknownMarket(_) => 0,
            Self::UnknownOrder(_) => 1,
            Self::Halted(_) => 2,
            Self::Tick { .. }
            | Self::Lot { .. }
            | Self::TooSmall { .. }
            | Self::TooLarge
            | Self::FilledAlready { .. } => 3,
            Self::OutOfBand { .. } => 4,
            Self::DuplicateClientId(_) => 5,
            Self::TooMany { .. } => 6,
            Self::WouldTake => 7,
        }
    }
}
