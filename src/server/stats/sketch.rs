//! Who is counted most, in bounded memory: the Space-Saving sketch (Metwally, Agrawal, El Abbadi 2005).
//!
//! It tracks a fixed number of names. One that comes and is not tracked takes the place of the one with
//! the least count, and inherits that count: it may have come as often before, unseen.
//!
//! Invariants, where `n` is all that was counted and `k` how many names are tracked
//! * A count is never too low, and too high by at most `over`, which is at most `n / k`.
//! * Whoever came more than `n / k` times is tracked.

use std::collections::HashMap;
use std::hash::Hash;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(super) struct Sketch<T> {
    counts: HashMap<T, Count>,
    tracked_max: usize,
}

/// How often somebody came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// At most so often.
    pub(super) count: u64,
    /// It may be too high by this.
    pub(super) over: u64,
}

impl<T: Copy + Ord + Hash> Sketch<T> {
    /// Nothing counted; at most so many names are tracked.
    pub(super) fn new(tracked_max: usize) -> Self {
        Self { counts: HashMap::with_capacity(tracked_max), tracked_max }
    }

    /// Counts one more of that name. One that is not tracked costs a look at all that are.
    pub(super) fn add(&mut self, name: T) {
        if let Some(count) = self.counts.get_mut(&name) {
            count.count += 1;
            return;
        }
        if self.counts.len() < self.tracked_max {
            self.counts.insert(name, Count { count: 1, over: 0 });
            return;
        }
        let least = self.counts.iter().min_by_key(|(name, count)| (count.count, **name));
        let Some((least, Count { count, .. })) = least.map(|(name, count)| (*name, *count)) else {
            return;
        };
        self.counts.remove(&least);
        self.counts.insert(name, Count { count: count + 1, over: count });
    }

    /// What was counted so far counts half from now on, and who came once is forgotten.
    pub(super) fn halve(&mut self) {
        self.counts.retain(|_, Count { count, over }| {
            (*count, *over) = (*count / 2, *over / 2);
            *count > 0
        });
    }

    /// Those who came most, first the most, at most `n`.
    pub(super) fn top(&self, n: usize) -> Vec<(T, Count)> {
        let mut all: Vec<(T, Count)> = self.counts.iter().map(|(name, it)| (*name, *it)).collect();
        all.sort_unstable_by_key(|(name, it)| (std::cmp::Reverse(it.count), it.over, *name));
        all.truncate(n);
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_are_never_too_low_and_no_more_too_high_than_they_say(
            names in prop::collection::vec((0..40_u64).prop_map(|n| n * n / 40), 0..600),
            tracked in 1..24_usize,
        ) {
            let (mut sketch, mut exact) = (Sketch::new(tracked), BTreeMap::<u64, u64>::new());
            for name in &names {
                sketch.add(*name);
                *exact.entry(*name).or_default() += 1;
            }
            let (n, k) = (names.len() as u64, tracked as u64);
            let top = sketch.top(usize::MAX);
            prop_assert!(top.len() <= tracked);
            prop_assert!(top.is_sorted_by_key(|(_, it)| std::cmp::Reverse(it.count)));
            for (name, it) in &top {
                let real = exact[name];
                prop_assert!(it.count >= real && it.count - it.over <= real, "{name}: {it:?}");
                prop_assert!(it.over <= n / k, "{name}: {it:?}, {n} counted");
            }
            for (name, real) in exact.into_iter().filter(|(_, real)| *real > n / k) {
                prop_assert!(top.iter().any(|(it, _)| *it == name), "{name} came {real} times");
            }
        }
    }

    #[test]
    fn what_was_hot_once_cools_down() {
        let mut sketch = Sketch::new(4);
        (0..1_000).for_each(|_| sketch.add(7));
        for _ in 0..9 {
            sketch.halve();
            (0..100).for_each(|_| sketch.add(8));
        }
        let top = sketch.top(4);
        assert_eq!(top[0].0, 8);
        assert_eq!(top[1], (7, Count { count: 1, over: 0 }));
        assert_eq!(sketch.top(1).len(), 1);
    }

    #[test]
    fn nobody_who_is_gone_stays_for_ever() {
        let mut sketch = Sketch::new(4);
        (0..5).for_each(|name| sketch.add(name));
        sketch.halve();
        assert_eq!(sketch.top(9), [(4, Count { count: 1, over: 0 })]);
        sketch.halve();
        assert_eq!(sketch.top(9), []);
    }
}
