//! The levels of one side, best first.
//!
//! A level's *key* is its price in ticks, for buys counted down from the top: so on both sides the best
//! level is the one with the least key. The levels are the leaves of a radix tree that reads six bits of
//! the key at a node. A node is there only where keys part, which makes one tree do for both kinds of
//! book: where prices are dense, a node's bitmap holds 64 neighbours and the next best level is one bit
//! scan away; where they are sparse, a level hangs where its key first differs from all others', and the
//! empty range around it costs nothing. However wide the range, there are fewer nodes than levels, and a
//! path has at most eleven.
//!
//! ```text
//! ticks 1000, 1001, 1003 and 900000:
//!
//!     node, bits 18..24: {0, 3}
//!          0 -> node, bits 0..6: {40, 41, 43} -> levels 1000, 1001, 1003
//!          3 -> level 900000
//! ```
//!
//! Invariants
//! * A node has at least two children; every key below it agrees with its own above its six bits.
//! * `best` is the least key's level, `best_key` that key.
//! * Nodes and levels that are no more are given again before new ones are made.

use crate::market::order::{Level, Side};

use super::orders::NONE;

/// Set in the name of a child that is a level, not a node.
const IS_LEVEL: u32 = 1 << 31;
const DIGIT_BITS: u32 = 6;

/// What stands at one price.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Rung {
    pub(super) key: u64,
    /// All lots together, the lower and the upper part.
    lots: u64,
    lots_upper: u32,
    pub(super) orders: u32,
    /// The order with priority; of a level that is no more, the next such.
    pub(super) head: u32,
    /// The order that came last.
    pub(super) tail: u32,
}

impl Rung {
    #[inline]
    pub(super) fn lots(&self) -> u128 {
        u128::from(self.lots_upper) << 64 | u128::from(self.lots)
    }

    #[inline]
    pub(super) fn add(&mut self, lots: u64) {
        let (sum, carry) = self.lots.overflowing_add(lots);
        self.lots = sum;
        self.lots_upper += u32::from(carry);
    }

    #[inline]
    pub(super) fn subtract(&mut self, lots: u64) {
        let (rest, borrow) = self.lots.overflowing_sub(lots);
        self.lots = rest;
        self.lots_upper -= u32::from(borrow);
    }

    #[inline]
    pub(super) fn level(&self) -> Level {
        Level { lots: self.lots(), orders: self.orders }
    }
}

#[derive(Clone, Debug)]
struct Node {
    /// Which children there are.
    bitmap: u64,
    /// Any key below; only what is above the node's digit is looked at.
    prefix: u64,
    /// How far right the node's digit begins.
    shift: u32,
    /// Nodes and levels; means something only where `bitmap` has a bit.
    children: [u32; 64],
}

impl Node {
    #[inline]
    fn digit(&self, key: u64) -> usize {
        (key >> self.shift) as usize & 63
    }

    /// How a key differs from those below, above the node's digit.
    #[inline]
    fn beyond(&self, key: u64) -> u64 {
        (key ^ self.prefix) >> self.shift >> DIGIT_BITS
    }

    #[inline]
    fn has(&self, digit: usize) -> bool {
        self.bitmap >> digit & 1 != 0
    }

    #[inline]
    fn set(&mut self, digit: usize, child: u32) {
        self.bitmap |= 1 << digit;
        self.children[digit] = child;
    }

    #[inline]
    fn first(&self) -> u32 {
        self.children[self.bitmap.trailing_zeros() as usize]
    }
}

/// One side of a book.
#[derive(Debug)]
pub(super) struct Ladder {
    /// What turns ticks into keys, and back.
    mask: u64,
    best: u32,
    best_key: u64,
    root: u32,
    nodes: Vec<Node>,
    nodes_free: u32,
    rungs: Vec<Rung>,
    rungs_free: u32,
}

impl Ladder {
    pub(super) fn new(side: Side) -> Self {
        Self {
            mask: if side == Side::Buy { u64::MAX } else { 0 },
            best: NONE,
            best_key: 0,
            root: NONE,
            nodes: Vec::new(),
            nodes_free: NONE,
            rungs: Vec::new(),
            rungs_free: NONE,
        }
    }

    #[inline]
    pub(super) fn key(&self, ticks: u64) -> u64 {
        ticks ^ self.mask
    }

    #[inline]
    pub(super) fn ticks(&self, key: u64) -> u64 {
        key ^ self.mask
    }

    /// The best level, or `NONE`.
    #[inline]
    pub(super) fn best(&self) -> u32 {
        self.best
    }

    /// The best level if its key is at most `limit`, or `NONE`.
    #[inline]
    pub(super) fn best_within(&self, limit: u64) -> u32 {
        if self.best_key <= limit { self.best } else { NONE }
    }

    #[inline]
    pub(super) fn rung(&self, level: u32) -> &Rung {
        &self.rungs[level as usize]
    }

    #[inline]
    pub(super) fn rung_mut(&mut self, level: u32) -> &mut Rung {
        &mut self.rungs[level as usize]
    }

    /// The level of a key, or `NONE`.
    #[inline]
    pub(super) fn find(&self, key: u64) -> u32 {
        let mut at = self.root;
        while at & IS_LEVEL == 0 {
            let node = &self.nodes[at as usize];
            let digit = node.digit(key);
            if !node.has(digit) {
                return NONE;
            }
            at = node.children[digit];
        }
        let level = at & !IS_LEVEL;
        if at != NONE && self.rung(level).key == key { level } else { NONE }
    }

    /// The level of a key; a new one, without orders, if there was none.
    #[inline]
    pub(super) fn find_or_insert(&mut self, key: u64) -> u32 {
        let (mut parent, mut at) = (NONE, self.root);
        while at & IS_LEVEL == 0 {
            let node = &self.nodes[at as usize];
            if node.beyond(key) != 0 {
                let prefix = node.prefix;
                return self.part(parent, at, prefix, key);
            }
            let digit = node.digit(key);
            if !node.has(digit) {
                let level = self.make_rung(key);
                self.nodes[at as usize].set(digit, level | IS_LEVEL);
                return level;
            }
            (parent, at) = (at, node.children[digit]);
        }
        if at == NONE {
            let level = self.make_rung(key);
            self.root = level | IS_LEVEL;
            return level;
        }
        let level = at & !IS_LEVEL;
        let found = self.rung(level).key;
        if found == key { level } else { self.part(parent, at, found, key) }
    }

    /// Puts a node between `parent` and its child, where a new key and the child's part.
    #[cold]
    #[inline]
    fn part(&mut self, parent: u32, child: u32, prefix: u64, key: u64) -> u32 {
        let highest = 63 - (prefix ^ key).leading_zeros();
        let shift = highest / DIGIT_BITS * DIGIT_BITS;
        let level = self.make_rung(key);
        let between = self.make_node(prefix, shift);
        let node = &mut self.nodes[between as usize];
        node.set(node.digit(prefix), child);
        node.set(node.digit(key), level | IS_LEVEL);
        self.link(parent, key, between);
        level
    }

    /// Makes `child` what `parent` has for a key.
    #[inline]
    fn link(&mut self, parent: u32, key: u64, child: u32) {
        if parent == NONE {
            self.root = child;
        } else {
            let node = &mut self.nodes[parent as usize];
            node.set(node.digit(key), child);
        }
    }

    #[inline]
    fn make_rung(&mut self, key: u64) -> u32 {
        let rung = Rung { key, lots: 0, lots_upper: 0, orders: 0, head: NONE, tail: NONE };
        let mut level = self.rungs_free;
        if level == NONE {
            self.rungs.push(rung);
            level = self.rungs.len() as u32 - 1;
        } else {
            self.rungs_free = self.rung(level).head;
            *self.rung_mut(level) = rung;
        }
        if self.best == NONE || key < self.best_key {
            (self.best, self.best_key) = (level, key);
        }
        level
    }

    #[inline]
    fn make_node(&mut self, prefix: u64, shift: u32) -> u32 {
        let node = self.nodes_free;
        if node == NONE {
            self.nodes.push(Node { bitmap: 0, prefix, shift, children: [NONE; 64] });
            return self.nodes.len() as u32 - 1;
        }
        let place = &mut self.nodes[node as usize];
        self.nodes_free = place.children[0];
        (place.bitmap, place.prefix, place.shift) = (0, prefix, shift);
        node
    }

    /// Removes a level, which has no more orders.
    #[inline]
    pub(super) fn remove(&mut self, level: u32) {
        let key = self.rung(level).key;
        let (mut grandparent, mut parent, mut at) = (NONE, NONE, self.root);
        while at & IS_LEVEL == 0 {
            let node = &self.nodes[at as usize];
            (grandparent, parent, at) = (parent, at, node.children[node.digit(key)]);
        }
        assert_eq!(at, level | IS_LEVEL, "a level hangs where its key says");
        if parent == NONE {
            self.root = NONE;
        } else {
            let node = &mut self.nodes[parent as usize];
            node.bitmap &= !(1 << node.digit(key));
            if node.bitmap.is_power_of_two() {
                self.skip(grandparent, parent, key);
            }
        }
        self.rung_mut(level).head = self.rungs_free;
        self.rungs_free = level;
        if level == self.best {
            self.best = self.first_below(self.root);
            self.best_key = if self.best == NONE { 0 } else { self.rung(self.best).key };
        }
    }

    /// Puts the only child of a node in the node's place.
    #[inline]
    fn skip(&mut self, parent: u32, node: u32, key: u64) {
        let child = self.nodes[node as usize].first();
        self.link(parent, key, child);
        self.nodes[node as usize].children[0] = self.nodes_free;
        self.nodes_free = node;
    }

    #[inline]
    fn first_below(&self, mut at: u32) -> u32 {
        while at & IS_LEVEL == 0 {
            at = self.nodes[at as usize].first();
        }
        if at == NONE { NONE } else { at & !IS_LEVEL }
    }

    /// The level after a level, or `NONE`.
    #[inline]
    pub(super) fn after(&self, level: u32) -> u32 {
        let key = self.rung(level).key;
        let (mut at, mut next) = (self.root, NONE);
        while at & IS_LEVEL == 0 {
            let node = &self.nodes[at as usize];
            let digit = node.digit(key);
            let behind = node.bitmap & (u64::MAX << digit << 1);
            if behind != 0 {
                next = node.children[behind.trailing_zeros() as usize];
            }
            at = node.children[digit];
        }
        self.first_below(next)
    }

    /// The levels, best first.
    #[inline]
    pub(super) fn levels(&self) -> impl Iterator<Item = &Rung> {
        let name = |level| (level != NONE).then_some(level);
        std::iter::successors(name(self.best), move |level| name(self.after(*level)))
            .map(|level| self.rung(level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    impl Ladder {
        /// Checks the invariants below a child, and counts nodes and levels.
        fn check(&self, at: u32, prefix: u64, above: u32) -> (usize, usize) {
            if at & IS_LEVEL != 0 {
                return (0, 1);
            }
            let node = &self.nodes[at as usize];
            assert!(node.bitmap.count_ones() >= 2 && node.shift < above);
            assert_eq!(node.beyond(prefix), 0);
            let (mut nodes, mut levels) = (1, 0);
            for digit in (0..64).filter(|digit| node.has(*digit)) {
                let child = node.children[digit];
                let below = self.rung(self.first_below(child)).key;
                assert_eq!(node.beyond(below), 0);
                assert_eq!(node.digit(below), digit);
                let (more_nodes, more_levels) = self.check(child, below, node.shift);
                (nodes, levels) = (nodes + more_nodes, levels + more_levels);
            }
            (nodes, levels)
        }

        fn keys(&self) -> Vec<u64> {
            self.levels().map(|rung| rung.key).collect()
        }
    }

    /// Random levels come and go; `draw` makes keys.
    fn compare(draw: impl Fn(&mut SmallRng) -> u64) {
        let mut rng = SmallRng::seed_from_u64(1);
        let (mut ladder, mut model) = (Ladder::new(Side::Sell), BTreeSet::new());
        for step in 0..20_000 {
            let goal = [0, 5, 300, 50][step / 500 % 4];
            let key = draw(&mut rng);
            if model.len() < goal {
                let level = ladder.find_or_insert(key);
                assert_eq!(ladder.rung(level).key, key);
                assert_eq!(ladder.find_or_insert(key), level);
                model.insert(key);
            } else if let Some(key) = model.range(key..).next().or(model.first()).copied() {
                ladder.remove(ladder.find(key));
                model.remove(&key);
            }
            let best = ladder.levels().next().map(|rung| rung.key);
            assert_eq!(best, model.first().copied());
            assert_eq!(ladder.find(key) != NONE, model.contains(&key));
            if step % 50 == 0 && !model.is_empty() {
                assert_eq!(ladder.keys(), model.iter().copied().collect::<Vec<_>>());
                let (nodes, levels) = ladder.check(ladder.root, ladder.best_key, u32::MAX);
                assert!(levels == model.len() && nodes < levels);
                assert_eq!(ladder.best_within(ladder.best_key), ladder.best);
            }
        }
        assert!(ladder.nodes.len() < 300 && ladder.rungs.len() <= 300);
    }

    #[test]
    fn dense() {
        compare(|rng| rng.random_range(1_000_000..1_000_700));
    }

    #[test]
    fn sparse() {
        compare(Rng::random);
    }

    #[test]
    fn dense_with_far_ones() {
        compare(|rng| match rng.random_range(0..4) {
            0 => rng.random::<u64>() >> rng.random_range(0..64),
            _ => rng.random_range((1 << 36) - 100..(1 << 36) + 100),
        });
    }

    #[test]
    fn both_ends() {
        compare(|rng| match rng.random() {
            true => rng.random_range(0..200),
            false => rng.random_range(u64::MAX - 200..=u64::MAX),
        });
    }

    #[test]
    fn the_two_ends_of_the_range() {
        let mut ladder = Ladder::new(Side::Sell);
        let (last, first) = (ladder.find_or_insert(u64::MAX), ladder.find_or_insert(0));
        assert_eq!(ladder.keys(), [0, u64::MAX]);
        assert_eq!((ladder.best_within(0), ladder.after(first)), (first, last));
        ladder.remove(first);
        assert_eq!(ladder.best_within(u64::MAX - 1), NONE);
        assert_eq!(ladder.best_within(u64::MAX), last);
    }

    #[test]
    fn a_level_holds_more_lots_than_64_bits() {
        let mut ladder = Ladder::new(Side::Buy);
        let level = ladder.find_or_insert(ladder.key(7));
        let rung = ladder.rung_mut(level);
        for _ in 0..3 {
            rung.add(u64::MAX);
        }
        assert_eq!(rung.lots(), 3 * u128::from(u64::MAX));
        rung.subtract(u64::MAX);
        rung.subtract(1);
        assert_eq!(rung.lots(), 2 * u128::from(u64::MAX) - 1);
        assert_eq!(ladder.ticks(ladder.rung(level).key), 7);
    }
}
