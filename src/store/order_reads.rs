//! How orders stand and what markets traded, from memory and disk together: see [`super::reader`].

use std::fmt;
use std::sync::Arc;

use super::StoreError;
use super::journal::{Block, CommitRecord};
use super::reader::Reader;
use crate::market::order::Side;
use crate::market::{Fill, OrderState, OrderUpdate, Standing};
use crate::request::{Command, Outcome, PlaceOrder};
use crate::types::{CommitSeq, MarketId, RequestId, Time};

/// An order, as far as it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderView {
    /// The request that placed it.
    pub order: RequestId,
    /// What was asked for.
    pub placed: PlaceOrder,
    /// When that happened.
    pub time: Time,
    /// When it ends by itself; [`Time::NEVER`] if it does not.
    pub ends_at: Time,
    /// The commit_seq that placed it.
    pub since: CommitSeq,
    /// How it is now.
    pub state: OrderState,
    /// Whether it stands.
    pub standing: Standing,
}

/// Names a trade, and says where it stands among those of its market.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TradeId {
    /// The commit_seq that it is part of.
    pub seq: CommitSeq,
    /// Which of that commit's trades it is, from 0.
    pub index: u32,
}

impl TradeId {
    /// Behind all trades of a commit.
    pub const fn end_of(seq: CommitSeq) -> Self {
        Self { seq, index: u32::MAX }
    }
}

/// As in `42.0`.
impl fmt::Display for TradeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seq, self.index)
    }
}

/// A trade, as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trade {
    /// Which one it is.
    pub id: TradeId,
    /// When it happened.
    pub time: Time,
    /// The request that came: an order, or the amendment of one.
    pub taker: RequestId,
    /// What it did to the order that stood there.
    pub fill: Fill,
    /// Which way the one that came went.
    pub taker_side: Side,
}

impl Reader {
    /// An order that was placed; `None` if there is none of that id.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or what the disk says.
    pub fn order(&self, order: RequestId) -> Result<Option<OrderView>, StoreError> {
        // First how it stands now: what placed it was before that.
        let now = self.standing(order)?;
        let Some((Outcome::Settled(receipt), _)) = self.outcome(order)? else { return Ok(None) };
        let Command::Order(placed) = receipt.command else { return Ok(None) };
        let then = receipt.settlement.and_then(|it| it.orders.last().copied());
        let Some((state, standing)) = now.or(then.map(|then| (then.state, then.standing))) else {
            return Ok(None);
        };
        let placing = self.commit_at(receipt.commit_seq)?;
        let ends_at = placing.map_or(Time::NEVER, |(commit, _)| commit.txn.expires_at);
        let (time, since) = (receipt.time, receipt.commit_seq);
        Ok(Some(OrderView { order, placed: *placed, time, ends_at, since, state, standing }))
    }

    /// How an order stands that stood at some time.
    fn standing(&self, order: RequestId) -> Result<Option<(OrderState, Standing)>, StoreError> {
        if let Some(seq) = self.unfolded.order_touched(order)
            && let Some((commit, _)) = self.commit_at(seq)?
        {
            return Ok(update_of(&commit, order));
        }
        if let Some(state) = self.versions.open_order(order)? {
            return Ok(Some((state, Standing::Open)));
        }
        let Some(number) = self.versions.block_ending(order)? else { return Ok(None) };
        let block = self.block(number)?;
        let ended = last_update(&block, order).ok_or_else(|| {
            StoreError::block(number, format!("it lacks the end of order {order}, indexed in it"))
        })?;
        Ok(Some(ended))
    }

    /// The oldest trades of a market behind one, `limit` at most; fewer only if there are no more.
    ///
    /// # Errors
    /// As [`Reader::order`].
    pub fn trades(
        &self,
        market: MarketId,
        after: TradeId,
        limit: usize,
    ) -> Result<Vec<Trade>, StoreError> {
        let upto = self.durable_seq();
        // Of the commit that the last page ended in, there may be more.
        let behind = CommitSeq::new(after.seq.get().saturating_sub(1));
        let mut seqs = self.unfolded.trades(market, (behind, upto));
        // What is folded meanwhile is in both. Each commit has a trade, but that first one may have no
        // more.
        seqs.extend(self.versions.trades_after(market, behind, limit.saturating_add(1))?);
        seqs.sort_unstable();
        seqs.dedup();
        let mut trades = Vec::new();
        for seq in seqs.into_iter().filter(|seq| *seq <= upto) {
            if trades.len() >= limit {
                break;
            }
            if let Some((commit, time)) = self.commit_at(seq)? {
                let all = trades_of(&commit, time).into_iter();
                trades.extend(all.filter(|trade| trade.id > after));
            }
        }
        trades.truncate(limit);
        Ok(trades)
    }
}

fn trades_of(commit: &CommitRecord, time: Time) -> Vec<Trade> {
    let Some(settlement) = commit.txn.settlement() else { return Vec::new() };
    let (seq, taker) = (commit.seq, commit.txn.id);
    let Some(taker_side) = settlement.taker_side else { return Vec::new() };
    let trade = |(index, fill): (u32, &Fill)| Trade {
        id: TradeId { seq, index },
        time,
        taker,
        fill: *fill,
        taker_side,
    };
    (0..).zip(&settlement.fills).map(trade).collect()
}

pub(super) fn update_of(commit: &CommitRecord, order: RequestId) -> Option<(OrderState, Standing)> {
    let settlement = commit.txn.settlement()?;
    let update: &OrderUpdate = settlement.orders.iter().find(|update| update.order == order)?;
    Some((update.state, update.standing))
}

pub(super) fn last_update(block: &Arc<Block>, order: RequestId) -> Option<(OrderState, Standing)> {
    block.commits().filter_map(|commit| update_of(&commit, order)).last()
}
