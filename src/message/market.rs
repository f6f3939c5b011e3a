//! What the coordinator asks of markets, and what they answer.
//!
//! ```text
//! coordinator ──Question──► market actor ──Answer──► coordinator
//! ```
//!
//! An actor answers each question, in the order in which it was asked.

use crate::market::order::{Lots, NewOrder, OrderId, Price};
use crate::market::{Declined, Settlement};
use crate::types::{AccountId, MarketId, RequestId};

/// What a market is asked to do.
#[derive(Clone, Debug)]
pub struct Question {
    /// Which market.
    pub market: MarketId,
    /// What.
    pub asked: Asked,
}

/// See [`Question`].
#[derive(Clone, Debug)]
pub enum Asked {
    /// Place an order, for which what it may come to pay is reserved.
    Place {
        /// The request that places it.
        order: RequestId,
        /// The order; the market gives it its id.
        new: NewOrder,
    },
    /// Amend an order.
    Amend {
        /// Which.
        id: OrderId,
        /// Its price from now on, if that changes.
        price: Option<Price>,
        /// Its quantity from now on, what has traded included, if that changes.
        quantity: Option<Lots>,
        /// What is reserved for that.
        reserved: u128,
    },
    /// End an order.
    Cancel(OrderId),
    /// End an order because its time is over.
    Expire(OrderId),
    /// End all orders of an account.
    CancelAll(AccountId),
}

/// What a question came to.
#[derive(Clone, Debug)]
pub enum Answer {
    /// An order was placed.
    Placed(OrderId, Settlement),
    /// What was asked was done.
    Done(Settlement),
    /// That market did not do it, and nothing has changed.
    Declined(MarketId, Declined),
}

/// Answers of one market actor, in the order of its questions.
#[derive(Debug)]
pub struct Answers {
    /// Which actor.
    pub actor: usize,
    /// One for each question.
    pub answers: Vec<Answer>,
}
