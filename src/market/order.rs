//! What an order is, and what can happen to one: the rulebook of a market, as types.
//!
//! # Numbers
//!
//! A [`Price`] is in the quote asset's smallest units per lot of base, a multiple of the market's tick
//! and never 0. A quantity is in [`Lots`] of base, never 0. A fill of `lots` at `price` moves
//! `price × lots` units of quote, which fits 128 bits.
//!
//! # Priority
//!
//! The best price first (the highest bid, the lowest ask); at one price, whoever has stood there
//! longest. A fill is always at the price of the *maker*, the order that stood in the book; the
//! *taker* is the order that comes.
//!
//! # What an order says
//!
//! * [`Kind::Limit`] trades at its price or better. What is left rests, if its [`TimeInForce`] lets it.
//! * [`Kind::PostOnly`] never takes: if it would trade at once with anybody, its own owner included,
//!   it is canceled whole ([`Ended::WouldTake`]), and nothing else happens.
//! * [`Kind::Market`] never rests. Its price is the worst that it accepts. With `funds` it takes no more
//!   lots of a maker than what is left of them pays for; where that is none, it is over
//!   ([`Ended::OutOfFunds`]). Of an order that sells, `funds` are the most that it takes in.
//!   Funds that are used up end it only when it meets another maker; with nobody in its reach it is
//!   [`Ended::Unfilled`].
//!
//! * [`TimeInForce::Gtc`], [`TimeInForce::Gtd`]: the rest stands until it is canceled, or until its time.
//! * [`TimeInForce::Ioc`]: what does not trade at once is canceled ([`Ended::Unfilled`]).
//! * [`TimeInForce::Fok`]: all of it trades at once, or nothing happens at all ([`Ended::Unfilled`]):
//!   no fill, and no maker is touched. All of it trades if, walking the book in priority, the order is full
//!   before its price, its funds or its self-trade rule end it. Of its own owner's orders it may count
//!   those with which [`SelfTrade::None`] lets it trade, and steps over those that
//!   [`SelfTrade::CancelMaker`] would remove; under the other rules, meeting one before it is full is
//!   the end. Too little funds is [`Ended::Unfilled`], too.
//!
//! # Self-trade
//!
//! When the next maker in priority belongs to the taker's owner, the taker's [`SelfTrade`] says what
//! happens, before anything of the two is compared with funds:
//!
//! * [`SelfTrade::None`]: they trade.
//! * [`SelfTrade::CancelTaker`]: what is left of the taker is canceled; the maker stands.
//! * [`SelfTrade::CancelMaker`]: the maker is canceled; the taker goes on.
//! * [`SelfTrade::CancelBoth`]: the maker is canceled, then what is left of the taker.
//! * [`SelfTrade::Decrement`]: both lose the smaller of the two quantities without a trade; who has none
//!   left is canceled, the maker first if both have none. The maker's event comes first; a maker that has
//!   none left is removed whole, with what it had before. It goes by quantity alone, whatever the funds.
//!
//! # Amendment
//!
//! A new price and a new quantity *left*. The same price and no more than before keeps the place (nothing
//! changed is allowed, and changes nothing). Anything else gives up the place: the order leaves the book and comes
//! again under its id, as it once came (a limit order or post-only, with its self-trade rule and time),
//! and may trade at once. A post-only order whose amendment would take is left as it was, and the
//! amendment fails ([`Refusal::WouldTake`]).
//!
//! # Time
//!
//! A [`TimeInForce::Gtd`] order carries the time at which it ends: it is over at that time, not after. The
//! book has no clock: who owns it says what time it is (`expire`), before each command in the same
//! instant if that must be exact. Orders that expire together do so in the order of their times, and
//! then of their ids.

/// An order's number in its book: chosen by whoever owns the book, and unique among the orders that
/// stand in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

/// Whose order it is; matters for self-trades only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u64);

/// Units of quote per lot of base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(pub u64);

/// A quantity of base in lots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lots(pub u64);

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Pays quote for base.
    Buy,
    /// Gives base for quote.
    Sell,
}

/// How an order may trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// At its price or better, now or later.
    Limit,
    /// At its price or better, later only.
    PostOnly,
    /// At its price or better, now only; with `funds`, for no more units of quote than that.
    Market {
        /// What may be spent, or `None` if only price and quantity bind.
        funds: Option<u128>,
    },
}

/// How long what does not trade at once stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeInForce {
    /// Good till canceled.
    Gtc,
    /// Good till date: until that time.
    Gtd {
        /// In the unit of whoever owns the book.
        ends_at: u64,
    },
    /// Immediate or cancel.
    Ioc,
    /// Fill or kill.
    Fok,
}

/// What happens when an order meets one of the same owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SelfTrade {
    /// They trade.
    #[default]
    None,
    /// The order that comes is canceled.
    CancelTaker,
    /// The order that stands is canceled.
    CancelMaker,
    /// Both are canceled.
    CancelBoth,
    /// Both become smaller by the smaller of the two.
    Decrement,
}

/// An order that comes to a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewOrder {
    /// Its number.
    pub id: OrderId,
    /// Whose it is.
    pub owner: Owner,
    /// Which way.
    pub side: Side,
    /// The worst price that it accepts.
    pub price: Price,
    /// How much.
    pub lots: Lots,
    /// How it may trade. A market order must be [`TimeInForce::Ioc`] or [`TimeInForce::Fok`], and a
    /// post-only one must be neither.
    pub kind: Kind,
    /// How long it stands.
    pub time_in_force: TimeInForce,
    /// What happens when it meets another of its owner.
    pub self_trade: SelfTrade,
}

/// An order that stands in a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resting {
    /// Its number.
    pub id: OrderId,
    /// Whose it is.
    pub owner: Owner,
    /// Which way.
    pub side: Side,
    /// Its price.
    pub price: Price,
    /// What is left of it.
    pub lots: Lots,
    /// Whether an amendment must not let it take.
    pub post_only: bool,
    /// When it ends, if it does by itself.
    pub ends_at: Option<u64>,
    /// What happens if an amendment lets it meet another of its owner.
    pub self_trade: SelfTrade,
}

/// What stands at a price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// All quantities together, in lots.
    pub lots: u128,
    /// How many orders.
    pub orders: u32,
}

/// Where a book keeps an order that stands in it: dense, from 0, the same for as long as it stands, and
/// then another's. Whoever owns the book may keep more about an order in a table of its own by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// Why an order, or a part of it, is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// Somebody asked.
    Canceled,
    /// Its time has come.
    Expired,
    /// It had to trade at once, and found nothing (more) to trade with.
    Unfilled,
    /// What is left of its funds pays for nothing more.
    OutOfFunds,
    /// It met another of its owner.
    SelfTrade,
    /// It would have taken, and must not.
    WouldTake,
}

/// What happened, in order. The events of one command say all that it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Two orders trade, at the maker's price.
    Filled {
        /// Who came.
        taker: OrderId,
        /// Who stood there.
        maker: OrderId,
        /// Where the maker stands, or stood until now.
        slot: Slot,
        /// The maker's price.
        price: Price,
        /// How much.
        lots: Lots,
        /// What is left of the maker; 0 if it is gone, and nothing else says so.
        left: Lots,
    },
    /// What is left of an order that came, or came again, stands in the book now, last at its price.
    Rested {
        /// Which.
        id: OrderId,
        /// Where.
        slot: Slot,
        /// Its price.
        price: Price,
        /// What is left of it.
        lots: Lots,
    },
    /// An order that stands became smaller without a trade, and keeps its place: an amendment, or
    /// [`SelfTrade::Decrement`].
    Reduced {
        /// Which.
        id: OrderId,
        /// Where it stands.
        slot: Slot,
        /// Its price.
        price: Price,
        /// By how much.
        by: Lots,
        /// What is left of it; never 0.
        left: Lots,
    },
    /// An order leaves its place, to come again at another: what follows says what comes of it. Its slot is
    /// free from then on, so an amendment is never refused as full.
    Moved {
        /// Which.
        id: OrderId,
        /// Where it stood.
        slot: Slot,
        /// Its price so far.
        price: Price,
        /// What was left of it.
        lots: Lots,
    },
    /// An order that stood in the book is gone, with what was left of it.
    Removed {
        /// Which.
        id: OrderId,
        /// Where it stood.
        slot: Slot,
        /// Its price.
        price: Price,
        /// What was left of it.
        lots: Lots,
        /// Why.
        why: Ended,
    },
    /// An order that came became smaller without a trade, by [`SelfTrade::Decrement`].
    TakerReduced {
        /// Which.
        id: OrderId,
        /// By how much.
        by: Lots,
        /// What is left of it; may be 0, and then it is gone, and nothing else says so.
        left: Lots,
    },
    /// What is left of an order that came does not stand in the book.
    Dropped {
        /// Which.
        id: OrderId,
        /// What was left of it; never 0.
        lots: Lots,
        /// Why.
        why: Ended,
    },
}

/// Why a book did not take a command. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// No such order stands in the book.
    #[error("no order {} stands in the book", .0.0)]
    Unknown(OrderId),
    /// An order of that id stands in the book.
    #[error("an order {} stands in the book already", .0.0)]
    Duplicate(OrderId),
    /// Not a multiple of the tick, or 0.
    #[error("a price of {} is not a positive multiple of the tick", .0.0)]
    Price(Price),
    /// No lots.
    #[error("an order of no lots")]
    NoLots,
    /// A market order that is to stand, or a post-only one that must trade at once.
    #[error("a market order cannot stand in the book, and a post-only order cannot trade at once")]
    Contradiction,
    /// The order would take at that price, and must not: it is post-only, or cannot have stood there.
    #[error("the order must not take, and would at that price")]
    WouldTake,
    /// The book is full.
    #[error("the book holds as many orders as it can")]
    Full,
}
