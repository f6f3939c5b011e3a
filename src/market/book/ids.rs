//! Which order has an id: an open-addressing table from ids to slots.
//!
//! An entry is eight bytes: 32 bits made of the id, and the slot. Two ids that make the same 32 bits are
//! told apart by the orders themselves, which whoever looks one up reads next anyway.
//!
//! * **Near ids stand near.** Ids mostly ascend, and who is canceled is mostly young. So eight ids in a
//!   row share a cache line, and only the lines are scattered (by the golden ratio, which spreads
//!   numbers that follow one another evenly).
//! * **Nothing decays.** Removing an entry moves those behind it up, so there are no tombstones, and the
//!   table never has to be cleaned.
//! * At most a quarter of the table is used while it fits a core's cache, where room is cheaper than a
//!   second look; at most half of a larger one. Beyond that it doubles, and it never shrinks.

use crate::market::order::{OrderId, Slot};

/// As the slot of an entry: there is none. No order has this slot.
const EMPTY: u32 = u32::MAX;
const ENTRIES_MIN: usize = 64;
/// Smaller tables are kept three quarters empty; this one has a mebibyte.
const ROOMY_ENTRIES_MAX: usize = 1 << 17;
/// Entries in a cache line, as a power of two.
const LINE_BITS: u32 = 3;
/// 2^32 by the golden ratio.
const GOLDEN: u32 = 0x9E37_79B1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    key: u32,
    slot: u32,
}

/// From ids to slots.
#[derive(Debug)]
pub(super) struct Ids {
    /// As many as a power of two.
    entries: Vec<Entry>,
    /// How far to shift a scattered 32-bit number so that it counts lines.
    shift: u32,
    len: usize,
}

/// The id itself while ids are below 2^32; above, the upper half is mixed in.
#[inline]
fn key_of(id: OrderId) -> u32 {
    let (upper, lower) = ((id.0 >> 32) as u32, id.0 as u32);
    lower ^ upper.wrapping_mul(GOLDEN).rotate_left(16)
}

impl Ids {
    pub(super) fn new() -> Self {
        Self::with_entries(ENTRIES_MIN)
    }

    fn with_entries(count: usize) -> Self {
        let entries = vec![Entry { key: 0, slot: EMPTY }; count];
        Self { entries, shift: 32 - (count.trailing_zeros() - LINE_BITS), len: 0 }
    }

    /// Where an entry belongs if nobody else stands there.
    #[inline]
    fn home(&self, key: u32) -> usize {
        let line = (key >> LINE_BITS).wrapping_mul(GOLDEN) >> self.shift;
        (line as usize) << LINE_BITS | (key as usize & ((1 << LINE_BITS) - 1))
    }

    #[inline]
    fn next(&self, place: usize) -> usize {
        (place + 1) & (self.entries.len() - 1)
    }

    /// The slot of an id. `is` says whether the order of a slot has the id.
    #[inline]
    pub(super) fn find(&self, id: OrderId, is: impl Fn(Slot) -> bool) -> Option<Slot> {
        let key = key_of(id);
        let mut place = self.home(key);
        loop {
            let entry = self.entries[place];
            if entry.slot == EMPTY {
                return None;
            }
            if entry.key == key && is(Slot(entry.slot)) {
                return Some(Slot(entry.slot));
            }
            place = self.next(place);
        }
    }

    /// Adds an id, which must not be there.
    #[inline]
    pub(super) fn insert(&mut self, id: OrderId, slot: Slot) {
        let share = if self.entries.len() < ROOMY_ENTRIES_MAX { 4 } else { 2 };
        if (self.len + 1) * share > self.entries.len() {
            self.grow();
        }
        self.put(Entry { key: key_of(id), slot: slot.0 });
        self.len += 1;
    }

    #[inline]
    fn put(&mut self, entry: Entry) {
        let mut place = self.home(entry.key);
        while self.entries[place].slot != EMPTY {
            place = self.next(place);
        }
        self.entries[place] = entry;
    }

    fn grow(&mut self) {
        let mut larger = Self::with_entries(self.entries.len() * 2);
        for entry in self.entries.iter().filter(|it| it.slot != EMPTY) {
            larger.put(*entry);
        }
        larger.len = self.len;
        *self = larger;
    }

    /// Removes an id, which must be there with this slot.
    #[inline]
    pub(super) fn remove(&mut self, id: OrderId, slot: Slot) {
        let entry = Entry { key: key_of(id), slot: slot.0 };
        let mut place = self.home(entry.key);
        while self.entries[place] != entry {
            assert!(self.entries[place].slot != EMPTY, "{id:?} is not in the table");
            place = self.next(place);
        }
        self.close(place);
        self.len -= 1;
    }

    /// Fills a gap with an entry from behind it that may stand there, then that one's, until there is
    /// none: so whoever looks for an entry never meets a gap on the way.
    #[inline]
    fn close(&mut self, mut gap: usize) {
        let mask = self.entries.len() - 1;
        let mut place = self.next(gap);
        while self.entries[place].slot != EMPTY {
            let home = self.home(self.entries[place].key);
            let displaced_by = place.wrapping_sub(home) & mask;
            if displaced_by >= place.wrapping_sub(gap) & mask {
                self.entries[gap] = self.entries[place];
                gap = place;
            }
            place = self.next(place);
        }
        self.entries[gap].slot = EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    /// Random insertions and removals against a map; `draw` makes ids.
    fn compare(draw: impl Fn(u64) -> u64) {
        let mut rng = SmallRng::seed_from_u64(1);
        let (mut ids, mut model) = (Ids::new(), BTreeMap::new());
        let mut by_slot: Vec<Option<OrderId>> = vec![None; 3_000];
        for step in 0..100_000 {
            let goal = if step / 10_000 % 2 == 0 { 2_900 } else { 100 };
            let slot = rng.random_range(0..by_slot.len());
            let id = OrderId(draw(step));
            match by_slot[slot] {
                None if model.len() < goal && !model.contains_key(&id) => {
                    by_slot[slot] = Some(id);
                    model.insert(id, Slot(slot as u32));
                    ids.insert(id, Slot(slot as u32));
                }
                Some(id) if model.len() > goal || rng.random_bool(0.5) => {
                    by_slot[slot] = None;
                    model.remove(&id);
                    ids.remove(id, Slot(slot as u32));
                }
                _ => {}
            }
            for id in [id, OrderId(draw(rng.random_range(0..=step)))] {
                let found = ids.find(id, |slot| by_slot[slot.0 as usize] == Some(id));
                assert_eq!(found, model.get(&id).copied());
            }
        }
        assert_eq!(ids.len, model.len());
        let used = ids.entries.iter().filter(|it| it.slot != EMPTY).count();
        assert_eq!(used, model.len());
    }

    #[test]
    fn ascending_ids() {
        compare(|step| step);
    }

    #[test]
    fn ids_that_differ_in_their_upper_half_only() {
        compare(|step| step << 32);
    }

    #[test]
    fn ids_that_all_make_the_same_key() {
        let upper = |id: u64| (id as u32).wrapping_mul(GOLDEN).rotate_left(16);
        compare(|step| {
            let step = step % 50;
            step << 32 | u64::from(upper(step))
        });
        assert_eq!(key_of(OrderId(7 << 32 | u64::from(upper(7)))), 0);
    }

    #[test]
    fn ids_in_strides_and_at_the_upper_end() {
        compare(|step| step * 4_096);
        compare(|step| u64::MAX - step);
    }

    #[test]
    fn near_ids_share_a_line_and_strides_spread() {
        let ids = Ids::with_entries(1 << 16);
        assert!((0..8).all(|id| ids.home(id) == ids.home(0) + id as usize));
        for stride in [8, 64, 1_000, 4_096, 1 << 16] {
            let mut lines: Vec<usize> = (0..1_024).map(|i| ids.home(i * stride) >> 3).collect();
            lines.sort_unstable();
            lines.dedup();
            assert!(lines.len() > 900, "ids in strides of {stride} share {} lines", lines.len());
        }
    }
}
