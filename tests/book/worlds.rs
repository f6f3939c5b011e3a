//! Small worlds in which random commands are likely to matter, each hard in its own way.
//!
//! A world has an axis of prices, and a mid that wanders along it and sometimes jumps. Most orders come
//! behind the mid, some beyond it, and who cancels, amends or repeats picks an order that stands: the
//! naive book is asked for one.

use rand::Rng;
use rand::rngs::SmallRng;

use crosslatch::market::order::{
    Kind, Lots, NewOrder, OrderId, Owner, Price, Resting, SelfTrade, Side, TimeInForce,
};

use crate::command::Command;
use crate::naive::Naive;

/// Which prices there are.
#[derive(Clone, Copy, Debug)]
enum Axis {
    /// Neighbours, beginning at so many ticks.
    Dense { first: u64 },
    /// From one tick to the end of 64 bits, each an eighth or so above the one before.
    Sparse,
    /// The first few, the last few, and nothing between.
    Edges,
}

#[derive(Clone, Copy, Debug)]
enum Sizes {
    /// From 1 to that.
    UpTo(u64),
    /// All magnitudes.
    Wide,
    /// The first few and the last few of 64 bits.
    Edges,
}

#[derive(Clone, Copy, Debug)]
enum Ids {
    /// One after another.
    Counted,
    /// One after another, in the upper half of the number: equal in the lower.
    Shifted,
    /// Any number.
    Any,
    /// One of so many, so that they come again and again; the largest of all among them.
    Few(u64),
}

/// What makes one world different from another.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub name: &'static str,
    pub tick: u64,
    pub orders_max: u32,
    axis: Axis,
    /// How many prices.
    prices: u64,
    /// How far behind the mid orders come.
    spread: u64,
    sizes: Sizes,
    ids: Ids,
    owners: u64,
    /// Above that many, more is canceled than comes.
    standing: usize,
    /// Of those that may rest, how many come beyond the mid.
    crossing_percent: u32,
    /// How many must trade at once.
    taking_percent: u32,
    /// Of those that may rest, how many end by themselves.
    ending_percent: u32,
}

const NARROW: World = World {
    name: "narrow, few owners",
    tick: 1,
    orders_max: 200,
    axis: Axis::Dense { first: 1 },
    prices: 30,
    spread: 8,
    sizes: Sizes::UpTo(12),
    ids: Ids::Counted,
    owners: 3,
    standing: 60,
    crossing_percent: 15,
    taking_percent: 25,
    ending_percent: 10,
};

/// Worlds by number: a seed's is the one at its remainder.
pub const WORLDS: [World; 11] = [
    NARROW,
    World {
        name: "wandering",
        tick: 5,
        axis: Axis::Dense { first: 20_000 },
        prices: 3_000,
        spread: 60,
        sizes: Sizes::UpTo(100),
        ids: Ids::Any,
        owners: 10,
        standing: 150,
        ..NARROW
    },
    World {
        name: "sparse and wide",
        axis: Axis::Sparse,
        prices: 512,
        spread: 200,
        sizes: Sizes::Wide,
        ids: Ids::Shifted,
        owners: 8,
        standing: 120,
        ..NARROW
    },
    World {
        name: "edges of 64 bits",
        axis: Axis::Edges,
        prices: 12,
        spread: 5,
        sizes: Sizes::Edges,
        ids: Ids::Any,
        owners: 4,
        standing: 50,
        ..NARROW
    },
    World {
        name: "edges with a large tick",
        tick: (1 << 40) + 1,
        axis: Axis::Edges,
        prices: 40,
        spread: 10,
        sizes: Sizes::Wide,
        ids: Ids::Few(300),
        owners: 4,
        standing: 60,
        ..NARROW
    },
    World {
        name: "deep levels",
        tick: 25,
        axis: Axis::Dense { first: 4_000 },
        prices: 6,
        spread: 2,
        sizes: Sizes::UpTo(5),
        owners: 12,
        standing: 180,
        crossing_percent: 5,
        taking_percent: 15,
        ..NARROW
    },
    World {
        name: "room for few",
        orders_max: 4,
        prices: 9,
        spread: 4,
        ids: Ids::Few(12),
        owners: 2,
        standing: 4,
        ..NARROW
    },
    World {
        name: "time",
        tick: 3,
        axis: Axis::Dense { first: 1_000 },
        prices: 100,
        spread: 30,
        ids: Ids::Any,
        owners: 20,
        standing: 150,
        crossing_percent: 5,
        taking_percent: 10,
        ending_percent: 80,
        ..NARROW
    },
    World {
        name: "far apart",
        tick: 1,
        axis: Axis::Dense { first: 1 },
        prices: 1 << 60,
        spread: 1 << 58,
        sizes: Sizes::Wide,
        ids: Ids::Few(500),
        owners: 3,
        standing: 100,
        ..NARROW
    },
    World {
        name: "wandering far",
        tick: 1_000,
        axis: Axis::Dense { first: 1 << 33 },
        prices: 1 << 22,
        spread: 20_000,
        sizes: Sizes::UpTo(10_000),
        ids: Ids::Any,
        owners: 15,
        standing: 180,
        crossing_percent: 5,
        taking_percent: 10,
        ..NARROW
    },
    World {
        name: "each other's own",
        axis: Axis::Dense { first: 1_000_000 },
        prices: 12,
        spread: 5,
        sizes: Sizes::UpTo(6),
        ids: Ids::Shifted,
        owners: 2,
        standing: 40,
        crossing_percent: 35,
        ..NARROW
    },
];

/// More orders than the others have: tables grow, and lists are long. Slow for the naive book.
pub const CROWD: World = World {
    name: "a crowd",
    tick: 1,
    orders_max: 4_000,
    axis: Axis::Dense { first: 500_000 },
    prices: 5_000,
    spread: 1_500,
    sizes: Sizes::UpTo(1_000),
    ids: Ids::Any,
    owners: 200,
    standing: 2_500,
    crossing_percent: 4,
    taking_percent: 8,
    ending_percent: 10,
};

/// And more again.
pub const THRONG: World = World {
    name: "a throng",
    orders_max: 10_000,
    prices: 200_000,
    spread: 40_000,
    standing: 6_000,
    crossing_percent: 2,
    taking_percent: 3,
    ..CROWD
};

/// Thinks up the commands of one world.
pub struct Commands {
    world: World,
    rng: SmallRng,
    mid: u64,
    now: u64,
    count: u64,
}

impl Commands {
    pub fn new(world: World, mut rng: SmallRng) -> Self {
        let mid = rng.random_range(0..world.prices);
        Self { world, rng, mid, now: 1_000, count: 0 }
    }

    pub fn next(&mut self, book: &Naive) -> Command {
        self.count += 1;
        self.wander();
        let crowded = book.len() > self.world.standing;
        match self.rng.random_range(0..1_000) {
            0..20 => self.expire(),
            20..25 => Command::CancelAll(self.owner()),
            25..35 => self.restore(book),
            35..200 => self.amend(book),
            200..240 => Command::Cancel(self.somebody(book)),
            240..700 if crowded => Command::Cancel(self.somebody(book)),
            _ => Command::Place(self.order(book)),
        }
    }

    /// A step along the axis now and then, and a jump to anywhere rarely.
    fn wander(&mut self) {
        let (last, step) = (self.world.prices - 1, self.world.spread / 10 + 1);
        self.mid = match self.rng.random_range(0..1_000) {
            0 => self.rng.random_range(0..=last),
            1..10 => self.mid.saturating_sub(step),
            10..19 => self.mid.saturating_add(step).min(last),
            _ => self.mid,
        };
    }

    fn order(&mut self, book: &Naive) -> NewOrder {
        let (time_in_force, kind) = self.manner();
        let side = if self.rng.random() { Side::Buy } else { Side::Sell };
        let crosses = matches!(time_in_force, TimeInForce::Ioc | TimeInForce::Fok)
            || self.one_in(100, self.world.crossing_percent);
        let (price, lots) = (self.price(side, crosses), self.lots());
        let mut order = NewOrder {
            id: self.new_id(book),
            owner: self.owner(),
            side,
            price,
            lots,
            kind,
            time_in_force,
            self_trade: self.self_trade(),
        };
        if let Kind::Market { funds: Some(_) } = kind {
            order.kind = Kind::Market { funds: Some(self.funds(book, &order)) };
        }
        self.spoil(&mut order);
        order
    }

    /// How it trades and how long it stands; some do not go together.
    fn manner(&mut self) -> (TimeInForce, Kind) {
        let at_once = if self.rng.random() { TimeInForce::Ioc } else { TimeInForce::Fok };
        let stands = if self.one_in(100, self.world.ending_percent) {
            TimeInForce::Gtd { ends_at: self.time() }
        } else {
            TimeInForce::Gtc
        };
        if self.one_in(100, self.world.taking_percent) {
            return match self.rng.random_range(0..4) {
                0 | 1 => (at_once, Kind::Limit),
                2 => (at_once, Kind::Market { funds: None }),
                _ => (at_once, Kind::Market { funds: Some(0) }),
            };
        }
        match self.rng.random_range(0..100) {
            0..20 => (stands, Kind::PostOnly),
            20 => (stands, Kind::Market { funds: None }),
            21 => (at_once, Kind::PostOnly),
            _ => (stands, Kind::Limit),
        }
    }

    /// What some lots of the best maker cost, or a little more; or nothing, or everything.
    fn funds(&mut self, book: &Naive, order: &NewOrder) -> u128 {
        let opposite = match order.side {
            Side::Buy => Side::Sell,
            Side::Sell => Side::Buy,
        };
        let price = u128::from(book.best(opposite).unwrap_or(order.price).0);
        let lots = u128::from(self.rng.random_range(0..=order.lots.0));
        match self.rng.random_range(0..10) {
            0 => 0,
            1 => u128::MAX,
            2..6 => price * lots,
            _ => price * lots + self.rng.random_range(0..=price),
        }
    }

    /// Makes a few orders wrong in one way or several.
    fn spoil(&mut self, order: &mut NewOrder) {
        if self.rng.random_range(0..64) == 0 {
            order.lots = Lots(0);
        }
        if self.rng.random_range(0..64) == 0 {
            order.price = self.wrong_price(order.price);
        }
    }

    fn wrong_price(&mut self, price: Price) -> Price {
        Price(if self.rng.random() {
            0
        } else {
            price.0 - self.rng.random_range(0..self.world.tick)
        })
    }

    fn amend(&mut self, book: &Naive) -> Command {
        let id = self.somebody(book);
        let side = if self.rng.random() { Side::Buy } else { Side::Sell };
        let Some((_, old)) = book.order(id) else {
            return Command::Amend { id, price: self.price(side, false), lots: self.lots() };
        };
        let price = match self.rng.random_range(0..100) {
            0..55 => old.price,
            55 | 56 => self.wrong_price(old.price),
            _ => {
                let crosses = self.one_in(100, self.world.crossing_percent);
                self.price(old.side, crosses)
            }
        };
        let lots = match self.rng.random_range(0..100) {
            0..20 => old.lots,
            20..60 => Lots(self.rng.random_range(1..=old.lots.0)),
            60 | 61 => Lots(0),
            _ => self.lots(),
        };
        Command::Amend { id, price, lots }
    }

    fn expire(&mut self) -> Command {
        self.now += self.rng.random_range(0..60);
        Command::Expire(match self.rng.random_range(0..200) {
            0 => u64::MAX,
            1 => 0,
            _ => self.now,
        })
    }

    /// An order put back, as if it had stood; some cannot have, as they would trade.
    fn restore(&mut self, book: &Naive) -> Command {
        let order = self.order(book);
        Command::Restore(Resting {
            id: order.id,
            owner: order.owner,
            side: order.side,
            price: order.price,
            lots: order.lots,
            post_only: order.kind == Kind::PostOnly,
            ends_at: match order.time_in_force {
                TimeInForce::Gtd { ends_at } => Some(ends_at),
                TimeInForce::Gtc | TimeInForce::Ioc | TimeInForce::Fok => None,
            },
            self_trade: order.self_trade,
        })
    }

    // ---- Numbers.

    /// Nearer to the mid more often than far; beyond it if it is to cross.
    fn price(&mut self, side: Side, crosses: bool) -> Price {
        let spread = self.world.spread;
        let away = self.rng.random_range(0..=spread).min(self.rng.random_range(0..=spread));
        let place = if (side == Side::Buy) == crosses {
            self.mid.saturating_add(away).saturating_add(u64::from(!crosses))
        } else {
            self.mid.saturating_sub(away)
        };
        self.price_at(place.min(self.world.prices - 1))
    }

    fn price_at(&self, place: u64) -> Price {
        let (tick, half) = (self.world.tick, self.world.prices / 2);
        let last = u64::MAX / tick;
        let ticks = match self.world.axis {
            Axis::Dense { first } => first + place,
            Axis::Sparse => ((8 + u128::from(place % 8)) << (place / 8) >> 3) as u64,
            Axis::Edges if place < half => 1 + place,
            Axis::Edges => last - (self.world.prices - 1 - place),
        };
        Price(ticks.clamp(1, last) * tick)
    }

    fn lots(&mut self) -> Lots {
        Lots(match self.world.sizes {
            Sizes::UpTo(most) => self.rng.random_range(1..=most),
            Sizes::Wide => (self.rng.random::<u64>() >> self.rng.random_range(0..64)).max(1),
            Sizes::Edges if self.rng.random() => self.rng.random_range(1..4),
            Sizes::Edges => u64::MAX - self.rng.random_range(0..3),
        })
    }

    fn owner(&mut self) -> Owner {
        Owner(match self.rng.random_range(0..self.world.owners) {
            0 => u64::MAX,
            owner => owner - 1,
        })
    }

    fn self_trade(&mut self) -> SelfTrade {
        match self.rng.random_range(0..6) {
            0 | 1 => SelfTrade::None,
            2 => SelfTrade::CancelTaker,
            3 => SelfTrade::CancelMaker,
            4 => SelfTrade::CancelBoth,
            _ => SelfTrade::Decrement,
        }
    }

    fn time(&mut self) -> u64 {
        match self.rng.random_range(0..50) {
            0 => u64::MAX,
            1 => 0,
            // Some at the same times as others.
            2..25 => (self.now + self.rng.random_range(0..300)) / 20 * 20,
            _ => self.now + self.rng.random_range(0..300),
        }
    }

    fn new_id(&mut self, book: &Naive) -> OrderId {
        if self.rng.random_range(0..100) == 0 {
            return self.somebody(book);
        }
        OrderId(match self.world.ids {
            Ids::Counted => self.count,
            Ids::Shifted => self.count << 32,
            Ids::Any => self.rng.random(),
            Ids::Few(count) => self.rng.random_range(0..count).wrapping_sub(1),
        })
    }

    /// Somebody who stands, mostly.
    fn somebody(&mut self, book: &Naive) -> OrderId {
        if book.is_empty() || self.rng.random_range(0..50) == 0 {
            return OrderId(self.rng.random_range(0..=self.count) << self.rng.random_range(0..40));
        }
        let (mut buys, mut sells) = (book.orders(Side::Buy), book.orders(Side::Sell));
        let place = self.rng.random_range(0..book.len());
        let found = match place.checked_sub(buys.len()) {
            None => buys.nth(place),
            Some(place) => sells.nth(place),
        };
        found.expect("within its length").1.id
    }

    fn one_in(&mut self, of: u32, times: u32) -> bool {
        self.rng.random_range(0..of) < times
    }
}
