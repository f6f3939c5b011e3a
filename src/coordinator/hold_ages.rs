//! Since when the oldest open hold stands: what an operator asks who looks for holds that got stuck. Pure.
//!
//! Holds come in the order of their ages, so the oldest is at the front of a queue; those that are resolved
//! behind it stay until they are most of the queue.

use std::collections::VecDeque;

use crate::types::{Time, Token};

/// Resolved holds may outnumber open ones this much before they are swept.
const RESOLVED_MAX: usize = 1_024;

/// Holds of one kind, oldest first.
#[derive(Default)]
pub(super) struct HoldAges {
    holds: VecDeque<(Time, Token)>,
    open: usize,
}

impl HoldAges {
    /// A hold was made at that time, not before the one that was named last. `is_open` says of the others
    /// whether they are still open.
    pub(super) fn made(&mut self, at: Time, token: Token, is_open: impl Fn(Token) -> bool) {
        self.holds.push_back((at, token));
        self.open += 1;
        if self.holds.len() > 2 * self.open + RESOLVED_MAX {
            self.holds.retain(|(_, token)| is_open(*token));
        }
    }

    /// One of them is resolved.
    pub(super) fn resolved(&mut self) {
        self.open -= 1;
    }

    /// When the oldest of those was made that are open.
    pub(super) fn oldest(&mut self, is_open: impl Fn(Token) -> bool) -> Option<Time> {
        if self.open == 0 {
            self.holds.clear();
        }
        while self.holds.front().is_some_and(|(_, token)| !is_open(*token)) {
            self.holds.pop_front();
        }
        self.holds.front().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::types::RequestId;

    fn token(number: u128) -> Token {
        Token::of(RequestId::new(number))
    }

    #[test]
    fn the_oldest_is_the_first_that_is_open() {
        let (mut ages, mut open) = (HoldAges::default(), HashSet::new());
        for number in 1..=3 {
            ages.made(Time::new(number), token(number.into()), |_| true);
            open.insert(token(number.into()));
        }
        for (resolved, oldest) in [(2, Some(1)), (1, Some(3)), (3, None)] {
            open.remove(&token(resolved));
            ages.resolved();
            let found = ages.oldest(|token| open.contains(&token));
            assert_eq!(found, oldest.map(Time::new));
        }
        assert!(ages.holds.is_empty());
    }

    #[test]
    fn behind_one_that_is_stuck_others_do_not_pile_up() {
        let mut ages = HoldAges::default();
        let stuck = token(0);
        ages.made(Time::new(0), stuck, |_| true);
        for number in 1..100_000 {
            ages.made(Time::new(number), token(number.into()), |it| it == stuck);
            ages.resolved();
        }
        assert!(ages.holds.len() <= 2 * 2 + RESOLVED_MAX, "{}", ages.holds.len());
        assert_eq!(ages.oldest(|it| it == stuck), Some(Time::new(0)));
    }
}
