//! A book by levels: what a client keeps that follows a market, and how it knows that it is right.
//!
//! A [`LevelChange`] says what stands at a price *now*, not by how much that changed; a quantity of 0
//! says that nothing does. So changes can be merged, the last one of each price counting, and applying
//! one twice is the same as once.
//!
//! # Checksum
//!
//! CRC-32 (IEEE 802.3, as zlib's `crc32`) of an ASCII text: the best ten bids, best first, then `/`, then the
//! best ten asks, best first; a level is `price:quantity:orders` in decimal, and levels are joined
//! with `|`. A side with fewer levels has those that it has; an empty book is `/`. In Python:
//!
//! ```text
//! def checksum(bids, asks):  # each a list of (price, quantity, orders), best first
//!     side = lambda levels: "|".join(f"{p}:{q}:{n}" for p, q, n in levels[:10])
//!     return zlib.crc32((side(bids) + "/" + side(asks)).encode())
//! ```
//!
//! ```
//! use crosslatch::market::levels::{LevelChange, Levels};
//! use crosslatch::market::order::{Price, Side};
//!
//! let level = |side, price, quantity, orders| LevelChange { side, price: Price(price), quantity, orders };
//! let mut book = Levels::new();
//! book.apply(level(Side::Buy, 99, 20, 2));
//! book.apply(level(Side::Buy, 100, 5, 1));
//! book.apply(level(Side::Sell, 101, 7, 1));
//! book.apply(level(Side::Buy, 99, 0, 0));
//! assert_eq!(book.text(), "100:5:1/101:7:1");
//! assert_eq!(book.checksum(), 0x9324_520a);
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;

use super::order::{Price, Side};

/// Levels of each side that the checksum covers.
pub const CHECKSUM_LEVELS: usize = 10;

/// What stands at a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelChange {
    /// Bids or asks.
    pub side: Side,
    /// In quote's smallest units per lot.
    pub price: Price,
    /// All orders' quantities together; 0 if nothing stands there (any more). The server says it in base's
    /// smallest units.
    pub quantity: u128,
    /// How many orders that are; 0 with a quantity of 0.
    pub orders: u32,
}

/// Quantity and orders by price.
type Ladder = BTreeMap<Price, (u128, u32)>;

/// A book by levels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    bids: Ladder,
    asks: Ladder,
}

impl Levels {
    /// An empty book.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what stands at a price, or removes it.
    pub fn apply(&mut self, change: LevelChange) {
        let LevelChange { side, price, quantity, orders } = change;
        let ladder = match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        };
        if quantity == 0 {
            ladder.remove(&price);
        } else {
            ladder.insert(price, (quantity, orders));
        }
    }

    /// What stands at a price now: zeros if nothing does.
    pub fn at(&self, side: Side, price: Price) -> LevelChange {
        let (quantity, orders) = self.ladder(side).get(&price).copied().unwrap_or_default();
        LevelChange { side, price, quantity, orders }
    }

    /// The levels of a side, best first.
    pub fn side(&self, side: Side) -> impl Iterator<Item = LevelChange> + '_ {
        let level = move |(price, of): (&Price, &(u128, u32))| {
            let (quantity, orders) = *of;
            LevelChange { side, price: *price, quantity, orders }
        };
        // One of the two is empty: a side is read from its best price on, which is the highest of bids.
        let (down, up) = match side {
            Side::Buy => (Some(&self.bids), None),
            Side::Sell => (None, Some(&self.asks)),
        };
        let down = down.into_iter().flat_map(|ladder| ladder.iter().rev());
        down.chain(up.into_iter().flatten()).map(level)
    }

    /// How many levels a side has.
    pub fn len(&self, side: Side) -> usize {
        self.ladder(side).len()
    }

    /// Whether nothing stands on either side.
    pub fn is_empty(&self) -> bool {
        self.bids.is_empty() && self.asks.is_empty()
    }

    /// What the checksum is of.
    pub fn text(&self) -> String {
        text(self.side(Side::Buy), self.side(Side::Sell))
    }

    /// The checksum of the best ten levels of each side.
    pub fn checksum(&self) -> u32 {
        checksum(self.side(Side::Buy), self.side(Side::Sell))
    }

    fn ladder(&self, side: Side) -> &Ladder {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }
}

/// What the checksum of a book is of; each side best first, more than ten levels are not looked at.
pub fn text(
    bids: impl Iterator<Item = LevelChange>,
    asks: impl Iterator<Item = LevelChange>,
) -> String {
    let mut text = String::with_capacity(512);
    push_side(&mut text, bids);
    text.push('/');
    push_side(&mut text, asks);
    text
}

fn push_side(text: &mut String, levels: impl Iterator<Item = LevelChange>) {
    for (place, level) in levels.take(CHECKSUM_LEVELS).enumerate() {
        if place > 0 {
            text.push('|');
        }
        let LevelChange { price, quantity, orders, .. } = level;
        write!(text, "{}:{quantity}:{orders}", price.0).expect("a string takes everything");
    }
}

/// The checksum of a book; each side best first.
pub fn checksum(
    bids: impl Iterator<Item = LevelChange>,
    asks: impl Iterator<Item = LevelChange>,
) -> u32 {
    crc32fast::hash(text(bids, asks).as_bytes())
}

/// What has to be applied to levels of one side to make them others; both best first, as is what comes of it.
pub fn difference(before: &[LevelChange], after: &[LevelChange]) -> Vec<LevelChange> {
    let mut changes = Vec::new();
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    loop {
        // Whether the level that is next is one that goes, stays (changed or not), or comes.
        match (before.peek(), after.peek()) {
            (None, None) => return changes,
            (Some(old), Some(new)) if old.price == new.price => {
                if old != new {
                    changes.push(**new);
                }
                before.next();
                after.next();
            }
            (Some(old), new) if new.is_none_or(|new| is_better(old, new)) => {
                changes.push(LevelChange { quantity: 0, orders: 0, ..**old });
                before.next();
            }
            (_, Some(new)) => {
                changes.push(**new);
                after.next();
            }
            (Some(_), None) => unreachable!("what is left of the old goes"),
        }
    }
}

fn is_better(one: &LevelChange, other: &LevelChange) -> bool {
    match one.side {
        Side::Buy => one.price > other.price,
        Side::Sell => one.price < other.price,
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn level(side: Side, price: u64, quantity: u128, orders: u32) -> LevelChange {
        LevelChange { side, price: Price(price), quantity, orders }
    }

    fn book(levels: &[LevelChange]) -> Levels {
        let mut book = Levels::new();
        levels.iter().for_each(|level| book.apply(*level));
        book
    }

    #[test]
    fn checksums_are_of_the_text_that_is_promised() {
        // Computed with Python's zlib.crc32 of the text beside it.
        let empty = Levels::new();
        assert_eq!((empty.text().as_str(), empty.checksum()), ("/", 0x79d3_d2d4));
        let huge = level(Side::Sell, u64::MAX, u128::MAX, u32::MAX);
        let one = book(&[huge]);
        let text = "/18446744073709551615:340282366920938463463374607431768211455:4294967295";
        assert_eq!((one.text().as_str(), one.checksum()), (text, 0xef4a_53b2));
        let both: Vec<LevelChange> = (1..=12)
            .flat_map(|n| {
                [level(Side::Buy, 100 - n, 10 * u128::from(n), 1), level(Side::Sell, 100 + n, 7, 2)]
            })
            .collect();
        let both = book(&both);
        let text = "99:10:1|98:20:1|97:30:1|96:40:1|95:50:1|94:60:1|93:70:1|92:80:1|91:90:1|\
                    90:100:1/101:7:2|102:7:2|103:7:2|104:7:2|105:7:2|106:7:2|107:7:2|108:7:2|\
                    109:7:2|110:7:2";
        assert_eq!((both.text().as_str(), both.checksum()), (text, 0xc0b1_d2ef));
    }

    #[test]
    fn a_level_is_what_was_said_of_it_last() {
        let mut book = book(&[level(Side::Buy, 5, 1, 1), level(Side::Buy, 5, 9, 3)]);
        assert_eq!(book.at(Side::Buy, Price(5)), level(Side::Buy, 5, 9, 3));
        assert_eq!(book.at(Side::Sell, Price(5)), level(Side::Sell, 5, 0, 0));
        book.apply(level(Side::Buy, 5, 0, 0));
        book.apply(level(Side::Buy, 5, 0, 0));
        assert!(book.is_empty() && book.len(Side::Buy) == 0);
    }

    #[test]
    fn the_difference_of_two_sides_makes_the_one_the_other() {
        let mut rng = SmallRng::seed_from_u64(20_261_122);
        for side in [Side::Buy, Side::Sell].into_iter().cycle().take(2_000) {
            let mut some = || {
                let levels: Vec<LevelChange> = (0..rng.random_range(0..6))
                    .map(|_| level(side, rng.random_range(1..9), rng.random_range(1..3), 1))
                    .collect();
                book(&levels)
            };
            let (mut before, after) = (some(), some());
            let list = |book: &Levels| book.side(side).collect::<Vec<_>>();
            let changes = difference(&list(&before), &list(&after));
            assert!(changes.is_sorted_by(is_better), "{changes:?}");
            changes.iter().for_each(|change| before.apply(*change));
            assert_eq!(before, after);
        }
    }
}
