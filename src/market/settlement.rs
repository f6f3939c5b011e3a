//! What a market's command comes to: which balances move, who traded with whom, and what became of each
//! order that had part in it. All of it happens under one commit_seq, or none of it.

use super::order::{Ended, Lots, Price, Side};
use crate::types::{AccountId, AssetId, BalanceKey, MarketId, RequestId};

use smallvec::SmallVec;

/// What a command does to one balance, in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Whose balance, of what.
    pub key: BalanceKey,
    /// What is added to what is available, or taken from it.
    pub available: i128,
    /// The same of what is held.
    pub held: i128,
}

/// One trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The order that stood in the book, by the request that placed it.
    pub maker: RequestId,
    /// Whose it is.
    pub account: AccountId,
    /// The price, in quote's smallest units per lot.
    pub price: Price,
    /// How much, in lots.
    pub lots: Lots,
    /// What the taker pays beside the price, in quote's smallest units; negative for a rebate.
    pub taker_fee: i128,
    /// The same for the maker.
    pub maker_fee: i128,
}

/// What of an order changes while it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderState {
    /// Its price.
    pub price: Price,
    /// What is left of it; of one that is over, what was left when it ended.
    pub left: Lots,
    /// How much of it traded.
    pub filled: Lots,
    /// What that moved, in quote's smallest units, fees not included.
    pub notional: u128,
    /// See [`super::fees`].
    pub carry: u16,
    /// Its turn among orders at its price: lower is earlier. Ascends in a market, with gaps.
    pub place: u64,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It stands in the book.
    Open,
    /// All of it traded.
    Filled,
    /// It is over, with some of it left.
    Ended(Ended),
}

/// An order that a command placed or touched, and how it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderUpdate {
    /// The request that placed it.
    pub order: RequestId,
    /// Whose it is.
    pub account: AccountId,
    /// How it is now.
    pub state: OrderState,
    /// Whether it stands.
    pub standing: Standing,
}

/// What a market's command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Which market.
    pub market: MarketId,
    /// Each balance that changes, once, ascending. Per asset they add up to nothing.
    pub moves: Box<[Move]>,
    /// Which way the order went that traded with others; `None` where nobody trades.
    pub taker_side: Option<Side>,
    /// Trades, in their order.
    pub fills: Box<[Fill]>,
    /// Every order that was touched, once: the makers in their order, and then the one that came.
    pub orders: Box<[OrderUpdate]>,
}

impl Settlement {
    /// Checks that nothing is made or lost.
    ///
    /// # Panics
    /// If, of any asset, more comes than goes, or less.
    pub fn assert_balanced(&self) {
        let mut sums: SmallVec<[(AssetId, i128); 2]> = SmallVec::new();
        for Move { key, available, held } in &self.moves {
            let by = available + held;
            match sums.iter_mut().find(|(asset, _)| *asset == key.asset) {
                Some((_, sum)) => *sum += by,
                None => sums.push((key.asset, by)),
            }
        }
        assert!(sums.iter().all(|(_, sum)| *sum == 0), "a trade makes or loses value: {self:?}");
    }
}

/// Gathers what happens to balances.
#[derive(Debug, Default)]
pub(super) struct Moves {
    raw: Vec<Move>,
}

impl Moves {
    /// What is available grows by so much, or shrinks.
    pub(super) fn available(&mut self, key: BalanceKey, by: i128) {
        self.raw.push(Move { key, available: by, held: 0 });
    }

    /// What is held shrinks by so much, which leaves the account.
    pub(super) fn spend(&mut self, key: BalanceKey, units: u128) {
        self.raw.push(Move { key, available: 0, held: -signed(units) });
    }

    /// So much is set aside.
    pub(super) fn set_aside(&mut self, key: BalanceKey, units: u128) {
        let units = signed(units);
        self.raw.push(Move { key, available: -units, held: units });
    }

    /// So much goes back.
    pub(super) fn release(&mut self, key: BalanceKey, units: u128) {
        let units = signed(units);
        self.raw.push(Move { key, available: units, held: -units });
    }

    /// Adds up what was gathered, per balance. What comes to nothing is left out.
    pub(super) fn finish(&mut self) -> Box<[Move]> {
        self.raw.sort_unstable_by_key(|one| one.key);
        let mut sums: Vec<Move> = Vec::with_capacity(self.raw.len().min(8));
        for one in self.raw.drain(..) {
            match sums.last_mut() {
                Some(sum) if sum.key == one.key => {
                    sum.available += one.available;
                    sum.held += one.held;
                }
                _ => sums.push(one),
            }
        }
        sums.retain(|sum| (sum.available, sum.held) != (0, 0));
        sums.into_boxed_slice()
    }
}

/// Units of an asset: there are never more than 127 bits of them.
pub(super) fn signed(units: u128) -> i128 {
    i128::try_from(units).expect("the supply cap is below 2^127")
}
