//! Batches and submissions on their way: announced in the order of their numbers, gone in any.

use std::collections::VecDeque;

/// Things with dense numbers that come in order and go in any: a lookup is one index.
pub(super) struct Window<T> {
    items: VecDeque<Option<T>>,
    /// The number of `items[0]`.
    base: u64,
}

impl<T> Window<T> {
    /// Empty; the first number is 0.
    pub(super) fn new() -> Self {
        Self { items: VecDeque::new(), base: 0 }
    }

    /// Whether everything has gone.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds what has the next number.
    pub(super) fn push(&mut self, number: u64, item: T) {
        assert_eq!(number, self.base + self.items.len() as u64, "numbers are dense");
        self.items.push_back(Some(item));
    }

    /// What has come and not gone.
    #[inline]
    pub(super) fn get(&self, number: u64) -> &T {
        let item = self.items.get((number - self.base) as usize);
        item.and_then(Option::as_ref).expect("it was announced and not yet answered")
    }

    /// The same, to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, number: u64) -> &mut T {
        let item = self.items.get_mut((number - self.base) as usize);
        item.and_then(Option::as_mut).expect("it was announced and not yet answered")
    }

    /// Lets it go.
    pub(super) fn take(&mut self, number: u64) -> T {
        let item = self.items.get_mut((number - self.base) as usize);
        let item = item.and_then(Option::take).expect("it was announced and not yet answered");
        while matches!(self.items.front(), Some(None)) {
            self.items.pop_front();
            self.base += 1;
        }
        item
    }
}
