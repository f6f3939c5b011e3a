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
