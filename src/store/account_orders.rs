//! The orders of an account, newest first: those that stand and those that are over.
//!
//! ```text
//! index rows ─┐ which orders, and how they stand as of what is folded
//! unfolded ───┴──► as of one seq ──► what was asked for, from the journal ──► a page
//! ```
//!
//! | row | value |
//! |---|---|
//! | an order that an account placed | order: raw 16; market: raw 4 |
//! | an open order of an account | seq that placed it: raw 8; market: raw 4 |
//!
//! Numbers are little-endian. The first kind is written once for each order that was placed, also where
//! it was over at once, and stays, as the journal does. The second goes when its order ends: so who asks
//! for what stands does not look through everything that ever was.
//!
//! Invariants
//! * A page is as of one seq. What blocks that are not folded did to the account's orders is looked at
//!   first, and the rows then, all in one state of the store. That state may be ahead of the blocks, never
//!   behind the first of them: what happened after it comes from the blocks, the rest from the rows.
//! * An order is placed once, under a seq of its own. So a page that begins behind a seq neither repeats
//!   an order of the page before nor leaves one out.

use std::cmp::Reverse;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::StoreError;
use super::journal::{CommitRecord, Damage};
use super::keys;
use super::order_reads::{OrderView, last_update, update_of};
use super::reader::Reader;
use super::unfolded::TouchedOrder;
use crate::market::{OrderState, Standing};
use crate::request::Command;
use crate::types::{AccountId, BlockNumber, CommitSeq, MarketId, RequestId};

/// Orders that are looked at for one page, at most, where not all of them are wanted.
const LOOKED_AT_MAX: usize = 1_000;
/// Index rows that are stepped over for one page, at most.
pub const ROWS_MAX: usize = 20_000;

/// Which of an account's orders are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whose orders.
    pub account: AccountId,
    /// In this market only.
    pub market: Option<MarketId>,
    /// Placed before this seq.
    pub before: CommitSeq,
    /// Only those that stand.
    pub open: bool,
    /// So many, at most.
    pub limit: usize,
}

/// An order that an index has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// The seq that placed it.
    pub since: CommitSeq,
    /// The order.
    pub order: RequestId,
    /// Its market.
    pub market: MarketId,
}

/// What the version store knows of how an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folded {
    /// It stands.
    Open(OrderState),
    /// It stood, and was ended in that block.
    EndedIn(BlockNumber),
    /// It was over with the request that placed it.
    AtOnce,
}

/// What the version store has of an account's orders, all in one state of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoldedOrders {
    /// That state: everything up to this seq is in it.
    pub applied: CommitSeq,
    /// The orders, newest first.
    pub orders: Vec<(Placed, Folded)>,
    /// There may be more, placed before this seq; `None` if there are not.
    pub more: Option<CommitSeq>,
}

/// A page of an account's orders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrdersPage {
    /// Everything up to this had happened, and nothing after.
    pub seq: CommitSeq,
    /// The orders, newest first.
    pub orders: Vec<OrderView>,
    /// Where the next page begins: behind what was placed under this seq. `None` if this is the last.
    pub next: Option<CommitSeq>,
}

/// The row of an order that an account placed: its value.
pub(super) fn placed_value(placed: &Placed) -> [u8; 20] {
    let mut value = [0; 20];
    value[..16].copy_from_slice(&placed.order.get().to_le_bytes());
    value[16..].copy_from_slice(&placed.market.get().to_le_bytes());
    value
}

/// The row of an open order of an account: its value.
pub(super) fn open_value(placed: &Placed) -> [u8; 12] {
    let mut value = [0; 12];
    value[..8].copy_from_slice(&placed.since.get().to_le_bytes());
    value[8..].copy_from_slice(&placed.market.get().to_le_bytes());
    value
}

fn market_of(bytes: [u8; 4]) -> MarketId {
    MarketId::new(u32::from_le_bytes(bytes))
}

fn broken() -> Damage {
    Damage::Broken("the row of an account's order is not one".into())
}

/// The account and the order of a row of one that was placed.
///
/// # Errors
/// The row is not such a one, or damaged.
pub fn decode_placed(key: &[u8], value: &[u8]) -> Result<(AccountId, Placed), Damage> {
    let (account, since) = keys::decode_placed_by(key).ok_or_else(broken)?;
    let (order, market) = value.split_first_chunk().ok_or_else(broken)?;
    let order = RequestId::new(u128::from_le_bytes(*order));
    let market = market_of(market.try_into().map_err(|_| broken())?);
    Ok((account, Placed { since, order, market }))
}

/// The account and the order of a row of one that is open.
///
/// # Errors
/// The row is not such a one, or damaged.
pub fn decode_open(key: &[u8], value: &[u8]) -> Result<(AccountId, Placed), Damage> {
    let (account, order) = keys::decode_open_of(key).ok_or_else(broken)?;
    let (since, market) = value.split_first_chunk().ok_or_else(broken)?;
    let since = CommitSeq::new(u64::from_le_bytes(*since));
    let market = market_of(market.try_into().map_err(|_| broken())?);
    Ok((account, Placed { since, order, market }))
}

/// Of all open orders of an account the newest that are asked for, and not skipped; with the seq before
/// which there are more.
pub fn newest_open(
    mut all: Vec<Placed>,
    asked: &Asked,
    skip: &dyn Fn(RequestId) -> bool,
) -> (Vec<Placed>, Option<CommitSeq>) {
    all.retain(|it| {
        it.since < asked.before && asked.market.is_none_or(|of| of == it.market) && !skip(it.order)
    });
    all.sort_unstable_by_key(|placed| Reverse(placed.since));
    let is_all = all.len() <= asked.limit;
    all.truncate(asked.limit);
    let more = all.last().filter(|_| !is_all).map(|last| last.since);
    (all, more)
}

/// What happened to an account's orders in blocks that are not folded, up to some seq.
struct Fresh {
    /// Those that were placed there.
    placed: Vec<Placed>,
    /// The last that happened to each.
    last: HashMap<RequestId, TouchedOrder, RandomState>,
}

impl Fresh {
    /// `touched`: in the order of their seqs.
    fn new(touched: &[TouchedOrder], asked: &Asked) -> Self {
        let is_asked = |it: &&TouchedOrder| {
            it.placed && it.seq < asked.before && asked.market.is_none_or(|of| of == it.market)
        };
        let of = |it: &TouchedOrder| Placed { since: it.seq, order: it.order, market: it.market };
        let placed = touched.iter().filter(is_asked).map(of).collect();
        let last = touched.iter().map(|it| (it.order, *it)).collect();
        Self { placed, last }
    }

    fn has_ended(&self, order: RequestId) -> bool {
        self.last.get(&order).is_some_and(|last| !last.open)
    }
}

/// An order that may be on a page.
struct Candidate {
    placed: Placed,
    now: Now,
}

/// Where it says how an order stands.
enum Now {
    /// In the commit of that seq, not folded.
    At(CommitSeq),
    Folded(Folded),
}

/// Says which orders are wanted, by how they stand.
pub type Wanted<'a> = &'a dyn Fn(&OrderState, Standing) -> bool;

impl Reader {
    /// A page of an account's orders, newest first, as of one seq: all that are asked for, or those that
    /// are wanted.
    ///
    /// Fewer than `asked.limit` are on it where there are no more, or where very many were looked at for
    /// them: [`OrdersPage::next`] tells which.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or what the disk says.
    pub fn account_orders(
        &self,
        asked: Asked,
        wanted: Option<Wanted<'_>>,
    ) -> Result<OrdersPage, StoreError> {
        let upto = self.durable_seq();
        let fresh = Fresh::new(&self.unfolded.orders_of(asked.account, upto), &asked);
        let looked_at_max = wanted.map_or(asked.limit, |_| asked.limit.max(LOOKED_AT_MAX));
        // One more, to know whether there is one.
        let limit = looked_at_max + 1;
        let skip = |order| asked.open && fresh.has_ended(order);
        let folded = self.versions.orders_of(&Asked { limit, ..asked }, &skip)?;
        let seq = upto.max(folded.applied);
        let (candidates, more) = merged(&asked, &fresh, folded);
        let mut page = OrdersPage { seq, orders: Vec::new(), next: more };
        let mut looked_at = asked.before;
        for (number, candidate) in candidates.iter().enumerate() {
            if page.orders.len() == asked.limit || number == looked_at_max {
                page.next = Some(looked_at);
                break;
            }
            looked_at = candidate.placed.since;
            let view = self.view(candidate)?;
            if wanted.is_none_or(|wanted| wanted(&view.state, view.standing)) {
                page.orders.push(view);
            }
        }
        Ok(page)
    }

    fn view(&self, candidate: &Candidate) -> Result<OrderView, StoreError> {
        let Placed { since, order, .. } = candidate.placed;
        let lost = |seq| {
            StoreError::Damaged(format!("order {order} has seq {seq}, and no commit there has it"))
        };
        let (placing, time) = self.commit_at(since)?.ok_or_else(|| lost(since))?;
        let (state, standing) = match candidate.now {
            Now::At(seq) => {
                let commit = self.commit_at(seq)?.ok_or_else(|| lost(seq))?.0;
                update_of(&commit, order).ok_or_else(|| lost(seq))?
            }
            Now::Folded(Folded::Open(state)) => (state, Standing::Open),
            Now::Folded(Folded::EndedIn(number)) => {
                let block = self.block(number)?;
                last_update(&block, order).ok_or_else(|| lost(block.header().last_seq()))?
            }
            Now::Folded(Folded::AtOnce) => update_of(&placing, order).ok_or_else(|| lost(since))?,
        };
        let ends_at = placing.txn.expires_at;
        let CommitRecord { txn, .. } = placing;
        let Command::Order(placed) = txn.command else { return Err(lost(since)) };
        Ok(OrderView { order, placed: *placed, time, ends_at, since, state, standing })
    }
}

/// What the blocks and the rows have together, newest first, and where there may be more.
fn merged(
    asked: &Asked,
    fresh: &Fresh,
    folded: FoldedOrders,
) -> (Vec<Candidate>, Option<CommitSeq>) {
    let FoldedOrders { applied, orders, more } = folded;
    let at = |order| fresh.last.get(&order).filter(|last| last.seq > applied);
    let of_blocks = fresh.placed.iter().filter(|placed| placed.since > applied);
    let of_blocks = of_blocks.filter(|placed| !asked.open || !fresh.has_ended(placed.order));
    let of_blocks = of_blocks.map(|placed| Candidate {
        placed: *placed,
        now: Now::At(at(placed.order).map_or(placed.since, |last| last.seq)),
    });
    let of_rows = orders.into_iter().map(|(placed, folded)| Candidate {
        placed,
        now: at(placed.order).map_or(Now::Folded(folded), |last| Now::At(last.seq)),
    });
    let mut all: Vec<Candidate> = of_blocks.chain(of_rows).collect();
    all.sort_unstable_by_key(|candidate| Reverse(candidate.placed.since));
    (all, more)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::market::order::{Ended, Lots, Price, SelfTrade, Side};
    use crate::market::{OrderUpdate, Settlement};
    use crate::request::{OrderType, PlaceOrder, Stands};
    use crate::store::orders::{OrderFold, Traded};
    use crate::types::{Amount, Time};

    const MARKET: MarketId = MarketId::new(3);

    fn account_of(order: u128) -> AccountId {
        AccountId::new(order as u64 / 10)
    }

    fn update(order: u128, standing: Standing) -> OrderUpdate {
        let account = account_of(order);
        let state = OrderState { left: Lots(1), ..OrderState::default() };
        OrderUpdate { order: RequestId::new(order), account, state, standing }
    }

    /// What a request did; it placed an order if it is itself one of those that it touched.
    fn traded(request: u128, touched: &[(u128, Standing)]) -> Traded {
        let place = PlaceOrder {
            market: MARKET,
            account: account_of(request),
            side: Side::Buy,
            order_type: OrderType::Limit,
            stands: Stands::Gtc,
            price: Some(Price(1)),
            quantity: Some(Amount::new(1)),
            funds: None,
            self_trade: SelfTrade::None,
            client_order_id: "".into(),
        };
        let placed = touched.iter().any(|(order, _)| *order == request);
        let orders = touched.iter().map(|(order, standing)| update(*order, *standing)).collect();
        let settlement = Settlement {
            market: MARKET,
            moves: [].into(),
            taker_side: None,
            fills: [].into(),
            orders,
        };
        let placed = placed.then_some((place, Time::NEVER));
        Traded { request: RequestId::new(request), placed, settlement }
    }

    type Decode = fn(&[u8], &[u8]) -> Result<(AccountId, Placed), Damage>;
    type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

    /// Folds what happened into the rows of the indexes.
    fn fold(rows: &mut Rows, first_seq: u64, all: &[Traded]) {
        let mut fold = OrderFold::new();
        for (seq, traded) in (first_seq..).map(CommitSeq::new).zip(all) {
            fold.add(traded, seq);
        }
        assert!(!fold.is_empty());
        fold.finish(|_, _| Ok::<(), ()>(())).unwrap();
        let mut last = Vec::new();
        let shown = fold.finish_indexes(|key, value| {
            assert!(*last < *key, "keys ascend");
            last = key.to_vec();
            match value {
                Some(value) => drop(rows.insert(key.to_vec(), value.to_vec())),
                None => drop(rows.remove(key).expect("only what is there goes")),
            }
            Ok::<(), ()>(())
        });
        assert_eq!(shown, Ok(()));
        assert!(fold.is_empty());
    }

    /// Account, seq and order of each row: of those that were placed, and of those that stand.
    fn listed(rows: &Rows) -> [Vec<(u64, u64, u128)>; 2] {
        let decoded = |decode: Decode| {
            let found = rows.iter().filter_map(move |(key, value)| decode(key, value).ok());
            let row = |(account, it): (AccountId, Placed)| {
                assert_eq!(it.market, MARKET);
                (account.get(), it.since.get(), it.order.get())
            };
            found.map(row).collect()
        };
        [decoded(decode_placed), decoded(decode_open)]
    }

    #[test]
    fn every_order_has_a_row_and_every_open_one_another() {
        use Standing::{Filled, Open};
        let gone = Standing::Ended(Ended::Canceled);
        let mut rows = Rows::new();
        // 11 and 21 stand; 12 is over at once, 13 later in the same fold.
        let first = [
            traded(11, &[(11, Open)]),
            traded(12, &[(12, gone)]),
            traded(21, &[(21, Open)]),
            traded(13, &[(21, Open), (13, Open)]),
            traded(99, &[(13, gone)]),
        ];
        fold(&mut rows, 5, &first);
        let placed = vec![(1, 8, 13), (1, 6, 12), (1, 5, 11), (2, 7, 21)];
        assert_eq!(listed(&rows), [placed, vec![(1, 5, 11), (2, 7, 21)]]);
        // 14 takes 11 and stands; 21 is touched, and then gone.
        let second =
            [traded(14, &[(11, Filled), (21, Open), (14, Open)]), traded(98, &[(21, gone)])];
        fold(&mut rows, 10, &second);
        let placed = vec![(1, 10, 14), (1, 8, 13), (1, 6, 12), (1, 5, 11), (2, 7, 21)];
        assert_eq!(listed(&rows), [placed, vec![(1, 10, 14)]]);
    }

    #[test]
    fn a_fold_of_orders_that_are_over_at_once_is_not_empty() {
        let mut rows = Rows::new();
        fold(&mut rows, 1, &[traded(11, &[(11, Standing::Ended(Ended::Unfilled))])]);
        assert_eq!(listed(&rows), [vec![(1, 1, 11)], vec![]]);
    }

    #[test]
    fn of_open_orders_the_newest_come_first_and_the_rest_later() {
        let placed = |since, order, market| Placed {
            since: CommitSeq::new(since),
            order: RequestId::new(order),
            market: MarketId::new(market),
        };
        let all = vec![placed(4, 1, 0), placed(9, 2, 0), placed(7, 3, 1), placed(5, 4, 0)];
        let newest = |before, market: Option<u32>, limit| {
            let (account, market) = (AccountId::new(1), market.map(MarketId::new));
            let before = CommitSeq::new(before);
            let asked = Asked { account, market, before, open: true, limit };
            let (found, more) = newest_open(all.clone(), &asked, &|order| order.get() == 4);
            let found: Vec<u128> = found.iter().map(|placed| placed.order.get()).collect();
            (found, more.map(CommitSeq::get))
        };
        assert_eq!(newest(u64::MAX, None, 9), (vec![2, 3, 1], None));
        assert_eq!(newest(u64::MAX, None, 3), (vec![2, 3, 1], None));
        assert_eq!(newest(u64::MAX, None, 2), (vec![2, 3], Some(7)));
        assert_eq!(newest(7, None, 2), (vec![1], None));
        assert_eq!(newest(u64::MAX, Some(0), 1), (vec![2], Some(9)));
        assert_eq!(newest(4, None, 9), (vec![], None));
    }

    #[test]
    fn rows_of_another_form_are_damaged() {
        let (account, order) = (AccountId::new(1), RequestId::new(2));
        let placed = Placed { since: CommitSeq::new(3), order, market: MARKET };
        let (key, value) = (keys::placed_by(account, placed.since), placed_value(&placed));
        assert_eq!(decode_placed(&key, &value), Ok((account, placed)));
        decode_placed(&key, &value[..19]).unwrap_err();
        decode_placed(&key, &value[..3]).unwrap_err();
        decode_open(&key, &value).unwrap_err();
        let (key, value) = (keys::open_of(account, order), open_value(&placed));
        assert_eq!(decode_open(&key, &value), Ok((account, placed)));
        decode_open(&key, &[&value[..], &[0]].concat()).unwrap_err();
        decode_placed(&key, &value).unwrap_err();
    }
}
