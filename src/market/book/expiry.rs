//! Which orders end by themselves, the next one first.
//!
//! A binary heap by time and id. Each entry's place in it is kept by slot, so that an order that is
//! filled or canceled before its time leaves at once. Orders without a time never come here.

use crate::market::order::{OrderId, Slot};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    ends_at: u64,
    id: OrderId,
    slot: Slot,
}

/// The orders of a book that carry a time.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    heap: Vec<Due>,
    /// Where in the heap the order of each slot is; means nothing for slots that are not in it.
    places: Vec<u32>,
}

impl Expiry {
    /// The order that ends next: when, and where it stands.
    #[inline]
    pub(super) fn first(&self) -> Option<(u64, Slot)> {
        self.heap.first().map(|due| (due.ends_at, due.slot))
    }

    /// When the order in a slot ends, which must be here.
    #[inline]
    pub(super) fn ends_at(&self, slot: Slot) -> u64 {
        let due = self.heap[self.places[slot.0 as usize] as usize];
        assert_eq!(due.slot, slot);
        due.ends_at
    }

    #[inline]
    pub(super) fn insert(&mut self, ends_at: u64, id: OrderId, slot: Slot) {
        let slots = slot.0 as usize + 1;
        if self.places.len() < slots {
            self.places.resize(slots, u32::MAX);
        }
        self.heap.push(Due { ends_at, id, slot });
        self.rise(self.heap.len() - 1);
    }

    /// Removes the order in a slot, which must be here.
    #[inline]
    pub(super) fn remove(&mut self, slot: Slot) {
        let place = self.places[slot.0 as usize] as usize;
        assert_eq!(self.heap[place].slot, slot);
        let removed = self.heap.swap_remove(place);
        if let Some(moved) = self.heap.get(place) {
            if *moved < removed { self.rise(place) } else { self.sink(place) }
        }
    }

    #[inline]
    fn put(&mut self, place: usize, due: Due) {
        self.heap[place] = due;
        self.places[due.slot.0 as usize] = place as u32;
    }

    #[inline]
    fn rise(&mut self, mut place: usize) {
        let due = self.heap[place];
        while place > 0 && due < self.heap[(place - 1) / 2] {
            self.put(place, self.heap[(place - 1) / 2]);
            place = (place - 1) / 2;
        }
        self.put(place, due);
    }

    #[inline]
    fn sink(&mut self, mut place: usize) {
        let due = self.heap[place];
        loop {
            let below = 2 * place + 1;
            let Some(mut least) = self.heap.get(below).copied() else { break };
            let mut child = below;
            if let Some(other) = self.heap.get(below + 1).filter(|it| **it < least) {
                (least, child) = (*other, below + 1);
            }
            if due < least {
                break;
            }
            self.put(place, least);
            place = child;
        }
        self.put(place, due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    #[test]
    fn the_first_is_always_the_least() {
        let mut rng = SmallRng::seed_from_u64(1);
        let (mut expiry, mut model) = (Expiry::default(), BTreeSet::new());
        let mut by_slot: Vec<Option<Due>> = vec![None; 500];
        for step in 0..50_000 {
            let slot = Slot(rng.random_range(0..500));
            match by_slot[slot.0 as usize].take() {
                Some(due) => {
                    assert_eq!(expiry.ends_at(slot), due.ends_at);
                    assert!(model.remove(&due));
                    expiry.remove(slot);
                }
                None => {
                    let ends_at = rng.random_range(0..300);
                    let due = Due { ends_at, id: OrderId(50_000 - step), slot };
                    by_slot[slot.0 as usize] = Some(due);
                    model.insert(due);
                    expiry.insert(ends_at, due.id, slot);
                }
            }
            assert_eq!(expiry.first(), model.first().map(|due| (due.ends_at, due.slot)));
            assert_eq!(expiry.heap.len(), model.len());
        }
    }
}
