//! How an order that comes trades with those that stand.

use crate::market::order::{Ended, Event, Lots, OrderId, Owner, Price, SelfTrade, Side, Slot};

use super::Book;
use super::ladder::Rung;
use super::orders::NONE;

/// An order that comes, as far as it has traded.
pub(super) struct Taker {
    pub(super) id: OrderId,
    pub(super) owner: Owner,
    pub(super) side: Side,
    /// The worst price that it accepts.
    pub(super) ticks: u64,
    /// What is left of it.
    pub(super) lots: u64,
    pub(super) self_trade: SelfTrade,
    /// What is left to spend, if that is limited.
    pub(super) funds: Option<u128>,
}

impl Taker {
    /// What is left does not stand in the book.
    #[inline]
    pub(super) fn drop_rest(&self, why: Ended, events: &mut Vec<Event>) {
        events.push(Event::Dropped { id: self.id, lots: Lots(self.lots), why });
    }
}

/// How many lots some funds pay for.
#[inline]
fn affordable(funds: u128, price: Price) -> u64 {
    u64::try_from(funds / u128::from(price.0)).unwrap_or(u64::MAX)
}

#[inline]
fn cost(lots: u64, price: Price) -> u128 {
    u128::from(lots) * u128::from(price.0)
}

impl Book {
    /// Trades until the taker is full, its price ends it (`None`), or something else does.
    #[inline]
    pub(super) fn take(&mut self, taker: &mut Taker, events: &mut Vec<Event>) -> Option<Ended> {
        let limit = self.makers(taker.side).key(taker.ticks);
        while taker.lots > 0 {
            let makers = self.makers(taker.side);
            let level = makers.best_within(limit);
            if level == NONE {
                return None;
            }
            let slot = Slot(makers.rung(level).head);
            let own = || self.orders.owner(slot) == taker.owner;
            let ended = if taker.self_trade != SelfTrade::None && own() {
                self.meet_own(taker, slot, events)
            } else {
                self.fill(taker, slot, events)
            };
            if ended.is_some() {
                return ended;
            }
        }
        None
    }

    /// Trades with the order in a slot, as much as both have and the taker can pay.
    #[inline]
    fn fill(&mut self, taker: &mut Taker, slot: Slot, events: &mut Vec<Event>) -> Option<Ended> {
        let maker = *self.orders.get(slot);
        let price = self.price_of(&maker);
        let mut lots = taker.lots.min(maker.lots);
        if let Some(funds) = &mut taker.funds {
            lots = lots.min(affordable(*funds, price));
            if lots == 0 {
                return Some(Ended::OutOfFunds);
            }
            *funds -= cost(lots, price);
        }
        taker.lots -= lots;
        let left = maker.lots - lots;
        if left == 0 {
            self.leave(slot);
        } else {
            self.orders.get_mut(slot).lots = left;
            self.sides[maker.terms.side() as usize].rung_mut(maker.level).subtract(lots);
        }
        events.push(Event::Filled {
            taker: taker.id,
            maker: OrderId(maker.id),
            slot,
            price,
            lots: Lots(lots),
            left: Lots(left),
        });
        None
    }

    /// The next in priority is of the taker's own owner, and they must not trade.
    #[inline]
    fn meet_own(
        &mut self,
        taker: &mut Taker,
        slot: Slot,
        events: &mut Vec<Event>,
    ) -> Option<Ended> {
        match taker.self_trade {
            SelfTrade::None => unreachable!("they trade"),
            SelfTrade::CancelTaker => Some(Ended::SelfTrade),
            SelfTrade::CancelMaker => {
                self.remove(slot, Ended::SelfTrade, events);
                None
            }
            SelfTrade::CancelBoth => {
                self.remove(slot, Ended::SelfTrade, events);
                Some(Ended::SelfTrade)
            }
            SelfTrade::Decrement => {
                let maker_lots = self.orders.get(slot).lots;
                let by = maker_lots.min(taker.lots);
                if by == maker_lots {
                    self.remove(slot, Ended::SelfTrade, events);
                } else {
                    self.reduce(slot, by, events);
                }
                taker.lots -= by;
                let (by, left) = (Lots(by), Lots(taker.lots));
                events.push(Event::TakerReduced { id: taker.id, by, left });
                None
            }
        }
    }

    /// Whether all of the taker would trade now. Changes nothing.
    #[inline]
    pub(super) fn fills(&self, taker: &Taker) -> bool {
        let ladder = self.makers(taker.side);
        let limit = ladder.key(taker.ticks);
        let (mut left, mut funds) = (taker.lots, taker.funds);
        for rung in ladder.levels().take_while(|rung| rung.key <= limit) {
            let (lots, stopped) = self.available(rung, taker, left);
            if let Some(funds) = &mut funds {
                let price = self.price(ladder, rung);
                if affordable(*funds, price) < lots {
                    return false;
                }
                *funds -= cost(lots, price);
            }
            left -= lots;
            if left == 0 || stopped {
                return left == 0;
            }
        }
        false
    }

    /// How many of the lots that it still needs a level has for a taker, and whether it meets one of its
    /// owner's there that stops it.
    #[inline]
    fn available(&self, rung: &Rung, taker: &Taker, needed: u64) -> (u64, bool) {
        if taker.self_trade == SelfTrade::None {
            return (u64::try_from(rung.lots()).unwrap_or(u64::MAX).min(needed), false);
        }
        let mut lots = 0;
        for slot in self.queue(rung) {
            if self.orders.owner(slot) != taker.owner {
                lots += self.orders.get(slot).lots.min(needed - lots);
            } else if taker.self_trade != SelfTrade::CancelMaker {
                return (lots, true);
            }
            if lots == needed {
                break;
            }
        }
        (lots, false)
    }
}
