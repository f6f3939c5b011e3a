//! What the coordinator asks of markets, and what they answer.
//!
//! ```text
//! coordinator ──Question──► market actor ──Answer──► coordinator
//! ```
//!
//! An actor answers each question, in the order in which it was asked.

use crate::market::order::{Lots, NewOrder, OrderId, Price};
use crate::market::{Declined, Market, Settlement};
use crate::types::{AccountId, CommitSeq, MarketId, RequestId};

/// What a market is asked to do.
pub struct Question {
    /// Which market.
    pub market: MarketId,
    /// What.
    pub asked: Asked,
}

/// Looks at a market, and returns what shows what was seen, once that may be shown.
pub type Look = Box<dyn FnOnce(&Market) -> Show + Send>;
/// Shows what was seen, as of that seq. Must not block.
pub type Show = Box<dyn FnOnce(CommitSeq) + Send>;

/// See [`Question`].
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
    /// Nothing: somebody wants to look.
    Look(Look),
}

/// What a question came to.
pub enum Answer {
    /// An order was placed.
    Placed(OrderId, Settlement),
    /// What was asked was done.
    Done(Settlement),
    /// That market did not do it, and nothing has changed.
    Declined(MarketId, Declined),
    /// Somebody has looked at that market.
    Looked(MarketId, Show),
}

/// Answers of one market actor, in the order of its questions.
pub struct Answers {
    /// Which actor.
    pub actor: usize,
    /// One for each question.
    pub answers: Vec<Answer>,
}
