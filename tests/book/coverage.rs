//! What happened in the worlds: a run that never met the hard cases proves nothing.

use std::fmt;

use crosslatch::market::order::{
    Ended, Event, Kind, Level, NewOrder, Refusal, SelfTrade, Slot, TimeInForce,
};

use crate::command::Command;

macro_rules! coverage {
    ($($name:ident),* $(,)?) => {
        /// How often what happened.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Coverage {
            $(pub $name: u64,)*
        }

        impl fmt::Display for Coverage {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(write!(f, "{} {}, ", self.$name, stringify!($name).replace('_', " "))?;)*
                Ok(())
            }
        }

        impl Coverage {
            /// Everything was met often enough to have been tested.
            pub fn check(&self) {
                $(assert!(
                    self.$name >= 10,
                    "{}: only {} times, so it was hardly tested", stringify!($name), self.$name
                );)*
            }
        }
    };
}

coverage! {
    // Events.
    makers_filled, makers_partly_filled, rested, reduced_by_amendment, reduced_by_self_trade, moved,
    canceled, expired, makers_canceled_by_self_trade,
    takers_reduced, takers_reduced_to_nothing, both_reduced_to_nothing,
    unfilled, out_of_funds, out_of_funds_after_fills, takers_canceled_by_self_trade, would_take,
    // Refusals.
    place_duplicate, place_price, place_no_lots, place_contradiction, place_full,
    cancel_unknown, amend_unknown, amend_price, amend_no_lots, amend_would_take,
    restore_duplicate, restore_price, restore_no_lots, restore_would_take, restore_full,
    // What took several.
    walked_levels, rested_after_fills, amendments_that_changed_nothing, amendments_that_traded,
    amendments_ended_by_self_trade, amendments_filled,
    fok_filled, fok_filled_over_canceled_makers, fok_filled_with_own, fok_unfilled_with_own_in_reach,
    market_filled, post_only_rested, canceled_all_of_several, expired_several, restored,
    books_of_100_orders, levels_of_20_orders, levels_beyond_64_bits, restarts, ids_beyond_32_bits,
}

impl Coverage {
    /// Counts what a command came to.
    pub fn count(
        &mut self,
        command: &Command,
        answer: &Result<Option<Slot>, Refusal>,
        events: &[Event],
    ) {
        if let Err(refusal) = answer {
            return self.count_refusal(command, *refusal);
        }
        for (n, event) in events.iter().enumerate() {
            let amended = matches!(command, Command::Amend { .. });
            self.count_event(event, n.checked_sub(1).map(|before| &events[before]), amended);
        }
        let several = (events.len() > 1) as u64;
        match command {
            Command::Place(order) => self.count_order(order, events),
            Command::Amend { .. } => self.count_amendment(events),
            Command::CancelAll(_) => self.canceled_all_of_several += several,
            Command::Expire(_) => self.expired_several += several,
            Command::Restore(_) => self.restored += 1,
            Command::Cancel(id) => self.ids_beyond_32_bits += u64::from(id.0 > u64::from(u32::MAX)),
        }
    }

    pub fn count_book(&mut self, orders: usize) {
        self.books_of_100_orders += u64::from(orders >= 100);
    }

    pub fn count_level(&mut self, level: &Level) {
        self.levels_of_20_orders += u64::from(level.orders >= 20);
        self.levels_beyond_64_bits += u64::from(level.lots > u64::MAX.into());
    }

    fn count_refusal(&mut self, command: &Command, refusal: Refusal) {
        let counter = match (command, refusal) {
            (Command::Place(_), Refusal::Duplicate(_)) => &mut self.place_duplicate,
            (Command::Place(_), Refusal::Price(_)) => &mut self.place_price,
            (Command::Place(_), Refusal::NoLots) => &mut self.place_no_lots,
            (Command::Place(_), Refusal::Contradiction) => &mut self.place_contradiction,
            (Command::Place(_), Refusal::Full) => &mut self.place_full,
            (Command::Cancel(_), Refusal::Unknown(_)) => &mut self.cancel_unknown,
            (Command::Amend { .. }, Refusal::Unknown(_)) => &mut self.amend_unknown,
            (Command::Amend { .. }, Refusal::Price(_)) => &mut self.amend_price,
            (Command::Amend { .. }, Refusal::NoLots) => &mut self.amend_no_lots,
            (Command::Amend { .. }, Refusal::WouldTake) => &mut self.amend_would_take,
            (Command::Restore(_), Refusal::Duplicate(_)) => &mut self.restore_duplicate,
            (Command::Restore(_), Refusal::Price(_)) => &mut self.restore_price,
            (Command::Restore(_), Refusal::NoLots) => &mut self.restore_no_lots,
            (Command::Restore(_), Refusal::WouldTake) => &mut self.restore_would_take,
            (Command::Restore(_), Refusal::Full) => &mut self.restore_full,
            (command, refusal) => panic!("{command} cannot be refused like that: {refusal}"),
        };
        *counter += 1;
    }

    fn count_event(&mut self, event: &Event, before: Option<&Event>, amended: bool) {
        let counter = match *event {
            Event::Filled { left, .. } if left.0 == 0 => &mut self.makers_filled,
            Event::Filled { .. } => &mut self.makers_partly_filled,
            Event::Rested { .. } => &mut self.rested,
            Event::Reduced { .. } if amended && before.is_none() => &mut self.reduced_by_amendment,
            Event::Reduced { .. } => &mut self.reduced_by_self_trade,
            Event::Moved { .. } => &mut self.moved,
            Event::TakerReduced { left, .. } if left.0 > 0 => &mut self.takers_reduced,
            Event::TakerReduced { .. } => match before {
                Some(Event::Removed { .. }) => &mut self.both_reduced_to_nothing,
                _ => &mut self.takers_reduced_to_nothing,
            },
            Event::Removed { why, .. } => match why {
                Ended::Canceled => &mut self.canceled,
                Ended::Expired => &mut self.expired,
                Ended::SelfTrade => &mut self.makers_canceled_by_self_trade,
                why => panic!("nothing that stands ends like that: {why:?}"),
            },
            Event::Dropped { why, .. } => match why {
                Ended::Unfilled => &mut self.unfilled,
                Ended::OutOfFunds if before.is_some() => &mut self.out_of_funds_after_fills,
                Ended::OutOfFunds => &mut self.out_of_funds,
                Ended::SelfTrade => &mut self.takers_canceled_by_self_trade,
                Ended::WouldTake => &mut self.would_take,
                why => panic!("nothing that comes ends like that: {why:?}"),
            },
        };
        *counter += 1;
    }

    fn count_order(&mut self, order: &NewOrder, events: &[Event]) {
        let prices = events.iter().filter_map(|event| match event {
            Event::Filled { price, .. } => Some(price),
            _ => None,
        });
        let levels = prices.collect::<Vec<_>>().chunk_by(PartialEq::eq).count();
        self.walked_levels += u64::from(levels > 1);
        let last = events.last().expect("an order that comes has an event");
        let rested = matches!(last, Event::Rested { .. });
        let filled = matches!(last, Event::Filled { .. });
        self.rested_after_fills += u64::from(levels > 0 && rested);
        if order.time_in_force == TimeInForce::Fok && filled {
            let canceled = events.iter().any(|event| matches!(event, Event::Removed { .. }));
            self.fok_filled += 1;
            self.fok_filled_over_canceled_makers += u64::from(canceled);
        }
        match order.kind {
            Kind::Market { .. } => self.market_filled += u64::from(filled),
            Kind::PostOnly => self.post_only_rested += u64::from(rested),
            Kind::Limit => {}
        }
    }

    /// A fill-or-kill order that came while its owner's best order opposite was in its reach.
    pub fn count_fok_with_own(&mut self, rule: SelfTrade, events: &[Event]) {
        let filled = matches!(events.last(), Some(Event::Filled { .. }));
        self.fok_filled_with_own += u64::from(filled && rule == SelfTrade::None);
        self.fok_unfilled_with_own_in_reach += u64::from(!filled);
    }

    fn count_amendment(&mut self, events: &[Event]) {
        let Some(Event::Moved { .. }) = events.first() else {
            return self.amendments_that_changed_nothing += u64::from(events.is_empty());
        };
        match events.last() {
            Some(Event::Filled { .. }) => self.amendments_filled += 1,
            Some(Event::Dropped { .. }) => self.amendments_ended_by_self_trade += 1,
            _ => {}
        }
        let traded = events.iter().any(|event| matches!(event, Event::Filled { .. }));
        self.amendments_that_traded += u64::from(traded);
    }
}
