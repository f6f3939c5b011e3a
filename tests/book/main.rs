//! The order book against its rulebook, which is `src/market/order.rs`.
//!
//! * `naive` is a second book, written from the rulebook alone: a sorted list a side, and no more.
//! * `rules/` says of every rule, case by case, what must happen (`rulebook` runs it): to both books.
//! * `model` gives both the same random commands in many small worlds (`worlds`). After each, the
//!   answers and events must be the same, and the events must add up (`ledger`); every so often all
//!   that can be asked must be the same too.
//! * `crowds` has so many orders that the naive book would be too slow, and asks for each.
//!
//! Both speak one language (`command`), so what the model found is a script when it is pasted.
//!
//! ```text
//! cargo test --release --test book                                    # a few seconds
//! CROSSLATCH_OPERATIONS=100000000 cargo test --release --test book random -- --nocapture
//! CROSSLATCH_SEED=4711 CROSSLATCH_OPERATIONS=1 cargo test --release --test book random
//! ```

mod command;
mod coverage;
mod crowds;
mod ledger;
mod model;
mod naive;
mod rulebook;
mod worlds;

use crosslatch::market::Book;
use crosslatch::market::order::{
    Event, Level, Lots, NewOrder, OrderId, Owner, Price, Refusal, Resting, Side, Slot,
};

use command::Command;
use naive::Naive;

/// A book that plays by the rulebook. All orders and levels are in priority, best first.
trait Rules: Sized {
    fn new(tick: Price, orders_max: u32) -> Self;
    fn place(&mut self, order: NewOrder, events: &mut Vec<Event>) -> Result<(), Refusal>;
    fn cancel(&mut self, id: OrderId, events: &mut Vec<Event>) -> Result<(), Refusal>;
    fn cancel_all(&mut self, owner: Owner, events: &mut Vec<Event>);
    fn amend(
        &mut self,
        id: OrderId,
        price: Price,
        lots: Lots,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal>;
    fn expire(&mut self, now: u64, events: &mut Vec<Event>);
    fn next_expiry(&self) -> Option<u64>;
    fn restore(&mut self, order: Resting) -> Result<Slot, Refusal>;
    fn order(&self, id: OrderId) -> Option<(Slot, Resting)>;
    fn best(&self, side: Side) -> Option<Price>;
    fn level(&self, side: Side, price: Price) -> Level;
    fn levels(&self, side: Side) -> impl Iterator<Item = (Price, Level)>;
    fn orders(&self, side: Side) -> impl Iterator<Item = (Slot, Resting)>;
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool;

    /// Carries out any command; the slot is what a restored order got.
    fn carry_out(
        &mut self,
        command: &Command,
        events: &mut Vec<Event>,
    ) -> Result<Option<Slot>, Refusal> {
        match *command {
            Command::Place(order) => self.place(order, events)?,
            Command::Cancel(id) => self.cancel(id, events)?,
            Command::CancelAll(owner) => self.cancel_all(owner, events),
            Command::Amend { id, price, lots } => self.amend(id, price, lots, events)?,
            Command::Expire(now) => self.expire(now, events),
            Command::Restore(order) => return self.restore(order).map(Some),
        }
        Ok(None)
    }
}

/// Both books have these calls as their own, under the same names.
macro_rules! plays_by_the_rules {
    ($book:ty) => {
        impl Rules for $book {
            fn new(tick: Price, orders_max: u32) -> Self {
                <$book>::new(tick, orders_max)
            }
            fn place(&mut self, order: NewOrder, events: &mut Vec<Event>) -> Result<(), Refusal> {
                <$book>::place(self, order, events)
            }
            fn cancel(&mut self, id: OrderId, events: &mut Vec<Event>) -> Result<(), Refusal> {
                <$book>::cancel(self, id, events)
            }
            fn cancel_all(&mut self, owner: Owner, events: &mut Vec<Event>) {
                <$book>::cancel_all(self, owner, events);
            }
            fn amend(
                &mut self,
                id: OrderId,
                price: Price,
                lots: Lots,
                events: &mut Vec<Event>,
            ) -> Result<(), Refusal> {
                <$book>::amend(self, id, price, lots, events)
            }
            fn expire(&mut self, now: u64, events: &mut Vec<Event>) {
                <$book>::expire(self, now, events);
            }
            fn next_expiry(&self) -> Option<u64> {
                <$book>::next_expiry(self)
            }
            fn restore(&mut self, order: Resting) -> Result<Slot, Refusal> {
                <$book>::restore(self, order)
            }
            fn order(&self, id: OrderId) -> Option<(Slot, Resting)> {
                <$book>::order(self, id)
            }
            fn best(&self, side: Side) -> Option<Price> {
                <$book>::best(self, side)
            }
            fn level(&self, side: Side, price: Price) -> Level {
                <$book>::level(self, side, price)
            }
            fn levels(&self, side: Side) -> impl Iterator<Item = (Price, Level)> {
                <$book>::levels(self, side)
            }
            fn orders(&self, side: Side) -> impl Iterator<Item = (Slot, Resting)> {
                <$book>::orders(self, side)
            }
            fn len(&self) -> usize {
                <$book>::len(self)
            }
            fn is_empty(&self) -> bool {
                <$book>::is_empty(self)
            }
        }
    };
}

plays_by_the_rules!(Book);
plays_by_the_rules!(Naive);
