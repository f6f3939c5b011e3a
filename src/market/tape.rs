//! A market as its followers see it: levels and trades, kept up from settlements alone. Pure.
//!
//! ```text
//! orders that stand, as of a seq ─► Tape ◄─ settlement, settlement, ...
//!                                    │
//!      levels that changed after a seq, trades after a seq ─► any number of followers
//! ```
//!
//! A settlement says how each order is that was touched, and the tape knows how it was; the difference
//! of the two is what a level gains or loses. That goes for all there is alike: trades, amendments,
//! cancellations, expiries, self-trades.
//!
//! A follower remembers one seq. What it is told next is every level that has changed after that, each
//! once and as it stands now, however many commits that merges; so nobody's slowness makes a queue
//! grow. A level is remembered as changed until many others have changed since; who comes later
//! than that starts anew from all levels. Trades cannot be merged: who comes when they are gone
//! has missed some.

use std::collections::{BTreeSet, HashMap, VecDeque};

use smallvec::SmallVec;

use super::levels::{LevelChange, Levels};
use super::order::{Lots, Price, Side};
use super::{OrderState, Settlement, Standing};
use crate::types::{CommitSeq, RequestId, Time};

/// How much is remembered for those who are behind.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Levels that changed.
    pub levels: usize,
    /// Trades.
    pub trades: usize,
}

/// The trades of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Print {
    /// The commit.
    pub seq: CommitSeq,
    /// Logical time of it.
    pub time: Time,
    /// Which way the order went that came.
    pub side: Side,
    /// The trades in their order.
    pub fills: Box<[(Price, Lots)]>,
}

/// What a follower has missed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed;

/// What is known of an order that stands.
#[derive(Clone, Copy, Debug)]
struct Stands {
    side: Side,
    price: Price,
    left: Lots,
}

/// See the [module](self). Quantities of its levels are in lots.
pub struct Tape {
    memory: Memory,
    seq: CommitSeq,
    levels: Levels,
    orders: HashMap<RequestId, Stands>,
    /// Of each level that changed lately: when.
    changed: HashMap<(Side, Price), CommitSeq>,
    /// The same by when.
    lately: BTreeSet<(CommitSeq, Side, Price)>,
    /// Every level that changed after this is among those.
    levels_since: CommitSeq,
    prints: VecDeque<Print>,
    trades: usize,
    /// Every trade after this is among those.
    prints_since: CommitSeq,
}

impl Tape {
    /// A market as of a seq, with the orders that stand in it.
    pub fn new(
        seq: CommitSeq,
        orders: impl IntoIterator<Item = (RequestId, Side, Price, Lots)>,
        memory: Memory,
    ) -> Self {
        let mut tape = Self {
            memory,
            seq,
            levels: Levels::new(),
            orders: HashMap::new(),
            changed: HashMap::new(),
            lately: BTreeSet::new(),
            levels_since: seq,
            prints: VecDeque::new(),
            trades: 0,
            prints_since: seq,
        };
        for (order, side, price, left) in orders {
            let stands = Stands { side, price, left };
            tape.orders.insert(order, stands);
            tape.add(stands);
        }
        tape
    }

    /// The seq that the levels are of: of the last settlement, or of the beginning.
    pub fn seq(&self) -> CommitSeq {
        self.seq
    }

    /// All levels as they stand now.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// Takes in the next settlement of the market. `placed`: the order that came with it, and which way.
    ///
    /// # Panics
    /// If it is not after all others, or an order stands that never came.
    pub fn take(
        &mut self,
        (seq, time): (CommitSeq, Time),
        settlement: &Settlement,
        placed: Option<(RequestId, Side)>,
    ) {
        assert!(seq > self.seq, "settlements come in their order");
        self.seq = seq;
        let mut touched: SmallVec<[(Side, Price); 4]> = SmallVec::new();
        for update in &settlement.orders {
            let before = self.orders.remove(&update.order);
            let came = placed.filter(|(order, _)| *order == update.order).map(|(_, side)| side);
            if let Some(before) = before {
                self.subtract(before);
                touched.push((before.side, before.price));
            }
            if update.standing != Standing::Open {
                continue;
            }
            let side = before.map(|before| before.side).or(came);
            let side = side.expect("an order stands only if it came");
            let OrderState { price, left, .. } = update.state;
            let now = Stands { side, price, left };
            self.orders.insert(update.order, now);
            self.add(now);
            touched.push((side, price));
        }
        touched.sort_unstable();
        touched.dedup();
        touched.into_iter().for_each(|level| self.note_change(level));
        if let Some(side) = settlement.taker_side {
            let fills = settlement.fills.iter().map(|fill| (fill.price, fill.lots)).collect();
            self.print(Print { seq, time, side, fills });
        }
        self.forget();
    }

    /// Every level that has changed after a seq, as it stands now; best first, bids before asks.
    ///
    /// # Errors
    /// [`Missed`] if that is too long ago: all levels have to be looked at.
    pub fn changes(&self, after: CommitSeq) -> Result<Vec<LevelChange>, Missed> {
        if after < self.levels_since {
            return Err(Missed);
        }
        let from = (after.next(), Side::Buy, Price(0));
        let changed = self.lately.range(from..);
        let mut changes: Vec<LevelChange> =
            changed.map(|(_, side, price)| self.levels.at(*side, *price)).collect();
        changes.sort_unstable_by_key(|change| match change.side {
            Side::Buy => (Side::Buy, u64::MAX - change.price.0),
            Side::Sell => (Side::Sell, change.price.0),
        });
        Ok(changes)
    }

    /// The trades after a seq, commit by commit, those of the oldest `limit` commits at most.
    ///
    /// # Errors
    /// [`Missed`] if some of them are gone.
    pub fn prints(&self, after: CommitSeq, limit: usize) -> Result<Vec<Print>, Missed> {
        if after < self.prints_since {
            return Err(Missed);
        }
        let from = self.prints.partition_point(|print| print.seq <= after);
        Ok(self.prints.range(from..).take(limit).cloned().collect())
    }

    fn add(&mut self, order: Stands) {
        let level = self.levels.at(order.side, order.price);
        let (quantity, orders) = (level.quantity + u128::from(order.left.0), level.orders + 1);
        self.levels.apply(LevelChange { quantity, orders, ..level });
    }

    fn subtract(&mut self, order: Stands) {
        let level = self.levels.at(order.side, order.price);
        let (quantity, orders) = (level.quantity - u128::from(order.left.0), level.orders - 1);
        assert_eq!(quantity == 0, orders == 0, "a level is what its orders are");
        self.levels.apply(LevelChange { quantity, orders, ..level });
    }

    /// A level that was touched may be as it was; that it is told again does no harm.
    fn note_change(&mut self, (side, price): (Side, Price)) {
        if let Some(before) = self.changed.insert((side, price), self.seq) {
            self.lately.remove(&(before, side, price));
        }
        self.lately.insert((self.seq, side, price));
    }

    fn print(&mut self, print: Print) {
        self.trades += print.fills.len();
        self.prints.push_back(print);
    }

    /// Forgets what is too long ago. The last commit's trades are kept, however many.
    fn forget(&mut self) {
        while self.lately.len() > self.memory.levels {
            let Some((seq, side, price)) = self.lately.pop_first() else { break };
            self.changed.remove(&(side, price));
            self.levels_since = seq;
        }
        while self.trades > self.memory.trades && self.prints.len() > 1 {
            let Some(print) = self.prints.pop_front() else { break };
            self.trades -= print.fills.len();
            self.prints_since = print.seq;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::market::order::{Ended, Kind, NewOrder, OrderId, Owner, SelfTrade, TimeInForce};
    use crate::market::{Market, MarketSpec};
    use crate::types::{AccountId, AssetId, MarketId};

    const MEMORY: Memory = Memory { levels: 8, trades: 3 };

    fn market() -> Market {
        let spec = MarketSpec {
            name: "M".into(),
            base: AssetId::new(0),
            quote: AssetId::new(1),
            tick_size: 1,
            lot_size: 1,
            maker_fee_bps: 0,
            taker_fee_bps: 0,
            fee_account: AccountId::new(0),
            min_notional: 0,
            price_band_bps: 0,
        };
        Market::new(MarketId::new(0), spec, 1_000, None)
    }

    /// A market under random commands, with the tape of it and followers of that.
    struct World {
        rng: SmallRng,
        market: Market,
        tape: Tape,
        seq: u64,
        ids: HashMap<RequestId, OrderId>,
        fills: Vec<(u64, Price, Lots)>,
    }

    impl World {
        fn new(seed: u64) -> Self {
            let tape = Tape::new(CommitSeq::default(), [], MEMORY);
            let (ids, fills, rng) = (HashMap::new(), Vec::new(), SmallRng::seed_from_u64(seed));
            Self { rng, market: market(), tape, seq: 0, ids, fills }
        }

        fn order(&mut self) -> NewOrder {
            let rng = &mut self.rng;
            let rules = [
                SelfTrade::None,
                SelfTrade::CancelTaker,
                SelfTrade::CancelMaker,
                SelfTrade::CancelBoth,
                SelfTrade::Decrement,
            ];
            let forces = [TimeInForce::Gtc, TimeInForce::Gtc, TimeInForce::Ioc, TimeInForce::Fok];
            NewOrder {
                id: OrderId(0),
                owner: Owner(rng.random_range(1..4)),
                side: if rng.random() { Side::Buy } else { Side::Sell },
                price: Price(rng.random_range(90..110)),
                lots: Lots(rng.random_range(1..9)),
                kind: Kind::Limit,
                time_in_force: forces[rng.random_range(0..forces.len())],
                self_trade: rules[rng.random_range(0..rules.len())],
            }
        }

        /// One command at random; nothing if the market declines it.
        fn step(&mut self) {
            let known: Vec<RequestId> = self.ids.keys().copied().collect();
            let some = (!known.is_empty()).then(|| known[self.rng.random_range(0..known.len())]);
            let request = RequestId::new(u128::from(self.seq) + 1);
            let mut placed = None;
            let settled = match (self.rng.random_range(0..10), some) {
                (0, _) => Ok(self.market.cancel_all(AccountId::new(self.rng.random_range(1..4)))),
                (1, Some(id)) => self.market.cancel(self.ids[&id], Ended::Canceled),
                (2, Some(id)) => self.market.cancel(self.ids[&id], Ended::Expired),
                (3..6, Some(id)) => {
                    let price = self.rng.random::<bool>().then(|| self.rng.random_range(90..110));
                    let lots = Some(Lots(self.rng.random_range(1..12)));
                    self.market.amend(self.ids[&id], price.map(Price), lots, u128::MAX)
                }
                _ => {
                    let new = self.order();
                    placed = Some((request, new.side));
                    self.market.place(request, new).map(|(id, settlement)| {
                        self.ids.insert(request, id);
                        settlement
                    })
                }
            };
            let Ok(settlement) = settled else { return };
            self.seq += 1;
            for fill in &settlement.fills {
                self.fills.push((self.seq, fill.price, fill.lots));
            }
            let at = (CommitSeq::new(self.seq), Time::default());
            self.tape.take(at, &settlement, placed);
            self.ids.retain(|_, id| self.market.order(*id).is_some());
        }

        fn levels(&self) -> Levels {
            let mut levels = Levels::new();
            for side in [Side::Buy, Side::Sell] {
                for (price, level) in self.market.book().levels(side) {
                    let (quantity, orders) = (level.lots, level.orders);
                    levels.apply(LevelChange { side, price, quantity, orders });
                }
            }
            levels
        }
    }

    /// Somebody who looks now and then.
    struct Follower {
        every: u64,
        at: CommitSeq,
        levels: Levels,
        traded_at: CommitSeq,
        fills: Vec<(u64, Price, Lots)>,
        anew: u64,
        missed: bool,
    }

    impl Follower {
        fn new(every: u64) -> Self {
            let (at, levels) = (CommitSeq::default(), Levels::new());
            Self { every, at, levels, traded_at: at, fills: vec![], anew: 0, missed: false }
        }

        fn look(&mut self, tape: &Tape) {
            match tape.changes(self.at) {
                Ok(changes) => changes.into_iter().for_each(|change| self.levels.apply(change)),
                Err(Missed) => {
                    self.levels = tape.levels().clone();
                    self.anew += 1;
                }
            }
            self.at = tape.seq();
            match tape.prints(self.traded_at, usize::MAX) {
                Ok(prints) => {
                    for print in prints {
                        self.traded_at = print.seq;
                        let fill = |(price, lots): &(Price, Lots)| (print.seq.get(), *price, *lots);
                        self.fills.extend(print.fills.iter().map(fill));
                    }
                }
                Err(Missed) => self.missed = true,
            }
        }
    }

    #[test]
    fn whoever_looks_however_seldom_sees_the_book_and_every_trade() {
        let (mut anew, mut missed, mut merged) = (0, 0, 0);
        for seed in 0..60 {
            let mut world = World::new(seed);
            let mut followers = [1, 3, 7, 40].map(Follower::new);
            for _ in 0..400 {
                world.step();
                assert_eq!(*world.tape.levels(), world.levels(), "seed {seed}, seq {}", world.seq);
                for it in followers.iter_mut().filter(|it| world.seq.is_multiple_of(it.every)) {
                    merged += u64::from(world.tape.seq().get() - it.at.get() > 1);
                    it.look(&world.tape);
                    assert_eq!(it.levels, world.levels(), "seed {seed}, seq {}", world.seq);
                    assert_eq!(it.levels.checksum(), world.levels().checksum());
                    assert!(it.missed || it.fills == world.fills, "seed {seed}, seq {}", world.seq);
                }
            }
            assert!(!followers[0].missed, "who always looks misses no trade");
            anew += followers.iter().map(|it| it.anew).sum::<u64>();
            missed += followers.iter().filter(|it| it.missed).count();
        }
        assert!(
            anew > 50 && missed > 50 && merged > 500,
            "tested little: {anew} {missed} {merged}"
        );
    }
}
