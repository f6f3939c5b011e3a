//! The words of messages and those of the engine, both ways.

use crate::market::order::{SelfTrade, Side};
use crate::proto;
use crate::request::{OrderType, Stands};
use crate::types::ChainKind;

/// `None` if it was not given.
pub(super) const fn chain_kind(kind: proto::ChainKind) -> Option<ChainKind> {
    match kind {
        proto::ChainKind::Unspecified => None,
        proto::ChainKind::Evm => Some(ChainKind::Evm),
        proto::ChainKind::Solana => Some(ChainKind::Solana),
        proto::ChainKind::Bitcoin => Some(ChainKind::Bitcoin),
        proto::ChainKind::Other => Some(ChainKind::Other),
    }
}

/// As it is shown.
pub(super) fn show_chain_kind(kind: ChainKind) -> i32 {
    match kind {
        ChainKind::Evm => proto::ChainKind::Evm,
        ChainKind::Solana => proto::ChainKind::Solana,
        ChainKind::Bitcoin => proto::ChainKind::Bitcoin,
        ChainKind::Other => proto::ChainKind::Other,
    }
    .into()
}

/// `None` if it was not given.
pub(super) const fn side(side: proto::Side) -> Option<Side> {
    match side {
        proto::Side::Unspecified => None,
        proto::Side::Buy => Some(Side::Buy),
        proto::Side::Sell => Some(Side::Sell),
    }
}

/// As it is shown.
pub(super) fn show_side(side: Side) -> i32 {
    match side {
        Side::Buy => proto::Side::Buy,
        Side::Sell => proto::Side::Sell,
    }
    .into()
}

/// `None` if it was not given.
pub(super) const fn order_type(order_type: proto::OrderType) -> Option<OrderType> {
    match order_type {
        proto::OrderType::Unspecified => None,
        proto::OrderType::Limit => Some(OrderType::Limit),
        proto::OrderType::Market => Some(OrderType::Market),
        proto::OrderType::PostOnly => Some(OrderType::PostOnly),
    }
}

/// As it is shown.
pub(super) fn show_order_type(order_type: OrderType) -> i32 {
    match order_type {
        OrderType::Limit => proto::OrderType::Limit,
        OrderType::Market => proto::OrderType::Market,
        OrderType::PostOnly => proto::OrderType::PostOnly,
    }
    .into()
}

/// As it is shown.
pub(super) fn show_time_in_force(stands: Stands) -> i32 {
    match stands {
        Stands::Gtc => proto::TimeInForce::Gtc,
        Stands::Gtd { .. } => proto::TimeInForce::Gtd,
        Stands::Ioc => proto::TimeInForce::Ioc,
        Stands::Fok => proto::TimeInForce::Fok,
    }
    .into()
}

/// None is the default.
pub(super) const fn self_trade(self_trade: proto::SelfTrade) -> SelfTrade {
    match self_trade {
        proto::SelfTrade::None => SelfTrade::None,
        proto::SelfTrade::CancelTaker => SelfTrade::CancelTaker,
        proto::SelfTrade::CancelMaker => SelfTrade::CancelMaker,
        proto::SelfTrade::CancelBoth => SelfTrade::CancelBoth,
        proto::SelfTrade::Decrement => SelfTrade::Decrement,
    }
}

/// As it is shown.
pub(super) fn show_self_trade(self_trade: SelfTrade) -> i32 {
    match self_trade {
        SelfTrade::None => proto::SelfTrade::None,
        SelfTrade::CancelTaker => proto::SelfTrade::CancelTaker,
        SelfTrade::CancelMaker => proto::SelfTrade::CancelMaker,
        SelfTrade::CancelBoth => proto::SelfTrade::CancelBoth,
        SelfTrade::Decrement => proto::SelfTrade::Decrement,
    }
    .into()
}
