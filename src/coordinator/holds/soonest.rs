//! What is next in a heap, in order, without taking it out.
//!
//! Who takes the first few out of a large heap moves most of nothing: below each place stand only later
//! ones, so those that can be next are the places below the ones already seen.
//!
//! ```text
//!        1             seen 1: next is 3 or 2
//!      3   2           seen 2: next is 3, 7 or 5
//!     4 9 7 5          seen 3: next is 4, 9, 7 or 5
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The places of a heap whose least stands first, in ascending order. Of `n` taken it costs `n log n`,
/// however large the heap is.
pub(super) struct InOrder<'a, T> {
    slots: &'a [Reverse<T>],
    /// Those of which one is next, with their places.
    open: BinaryHeap<Reverse<(&'a T, usize)>>,
}

impl<'a, T: Ord> InOrder<'a, T> {
    /// From the least on.
    pub(super) fn of(heap: &'a BinaryHeap<Reverse<T>>) -> Self {
        let mut in_order = Self { slots: heap.as_slice(), open: BinaryHeap::new() };
        in_order.open_place(0);
        in_order
    }

    fn open_place(&mut self, place: usize) {
        if let Some(Reverse(value)) = self.slots.get(place) {
            self.open.push(Reverse((value, place)));
        }
    }
}

impl<'a, T: Ord> Iterator for InOrder<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        let Reverse((value, place)) = self.open.pop()?;
        self.open_place(2 * place + 1);
        self.open_place(2 * place + 2);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_heap_is_seen_in_order_and_stays_as_it_was(
            steps in prop::collection::vec(prop::option::weighted(0.8, 0..1_000_u32), 0..300),
        ) {
            let mut heap = BinaryHeap::new();
            for step in steps {
                match step {
                    Some(value) => heap.push(Reverse(value)),
                    None => drop(heap.pop()),
                }
            }
            let seen: Vec<u32> = InOrder::of(&heap).copied().collect();
            let mut sorted: Vec<u32> = heap.iter().map(|Reverse(value)| *value).collect();
            sorted.sort_unstable();
            prop_assert_eq!(seen, sorted);
        }
    }
}
