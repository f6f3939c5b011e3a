//! Markets: order books, and what their trades move. Pure.
//!
//! [`order`] is the rulebook, as types; [`Book`] plays by it and knows only numbers. [`Market`] is a book
//! with what stands behind its orders: accounts, funds that are set aside, fees. What one of its
//! commands comes to is a [`Settlement`], which is committed as a whole. A [`tape`] makes levels and trades of
//! settlements for those who follow a market.

mod book;
#[cfg(test)]
mod chance;
mod core;
pub mod fees;
pub mod levels;
pub mod order;
mod settlement;
mod spec;
pub mod tape;

pub use self::core::{Declined, Market, OpenOrder};
pub use book::Book;
use fees::charge;
pub use settlement::{Fill, Move, OrderState, OrderUpdate, Settlement, Standing};
pub use spec::MarketSpec;
