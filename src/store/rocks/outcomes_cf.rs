//! The outcomes family in RocksDB: ids and tokens by block, open holds, credited references, orders.

use rocksdb::{DBRawIterator, ReadOptions};

use super::{RocksStore, damaged, decode_position, io};
use crate::market::OrderState;
use crate::market::order::Price;
use crate::request::Hold;
use crate::store::account_orders::{
    Asked, Folded, FoldedOrders, Placed, ROWS_MAX, decode_open, decode_placed, newest_open,
};
use crate::store::journal::Damage;
use crate::store::keys::{self, IdIndex, KeyKind};
use crate::store::orders::{self, StoredOrder};
use crate::store::{StoreError, holds, outcomes, references};
use crate::types::{AccountId, AssetId, BlockNumber, CommitSeq, MarketId, RequestId};

/// The largest millisecond that a version-7 id can carry.
const MILLIS_MAX: u64 = (1 << 48) - 1;

impl RocksStore {
    /// The block that an index has for an id.
    pub(super) fn block_of_id(
        &self,
        index: IdIndex,
        id: RequestId,
    ) -> Result<Option<BlockNumber>, StoreError> {
        let Some(millis) = id.v7_millis() else { return self.block_of_other(index, id) };
        let mut options = ReadOptions::default();
        options.set_prefix_same_as_start(true);
        let mut rows = self.db.raw_iterator_cf_opt(self.family(keys::OUTCOMES), options);
        let prefix = keys::id_v7_prefix(index, millis);
        rows.seek(prefix);
        while let Some((key, value)) = rows.item() {
            if !key.starts_with(&prefix) {
                break;
            }
            let found = outcomes::find(index, (key, value), id);
            if let Some(block) = found.map_err(|damage| damaged(format!("id {id}: {damage}")))? {
                return Ok(Some(block));
            }
            rows.next();
        }
        rows.status().map(|()| None).map_err(io)
    }

    fn block_of_other(
        &self,
        index: IdIndex,
        id: RequestId,
    ) -> Result<Option<BlockNumber>, StoreError> {
        let key = keys::id_other(index, id);
        let row = self.db.get_pinned_cf(self.family(keys::OUTCOMES), key).map_err(io)?;
        let mut block = None;
        if let Some(value) = row {
            outcomes::visit_row(index, (&key, &value), |_, found| block = Some(found))
                .map_err(|damage| damaged(format!("id {id}: {damage}")))?;
        }
        Ok(block)
    }

    /// Shows the version-7 ids of an index from a millisecond on.
    pub(super) fn ids_v7_since(
        &self,
        index: IdIndex,
        millis: u64,
        id: &mut dyn FnMut(RequestId, BlockNumber),
    ) -> Result<(), StoreError> {
        let from = keys::id_v7_prefix(index, millis.min(MILLIS_MAX));
        self.rows_of_kind(keys::OUTCOMES, index.v7(), &from, |key, value| {
            outcomes::visit_row(index, (key, value), &mut *id)
                .map_err(|damage| damaged(format!("ids {key:02x?}: {damage}")))
        })
    }

    /// Shows all ids of an index.
    pub(super) fn all_ids(
        &self,
        index: IdIndex,
        id: &mut dyn FnMut(RequestId, BlockNumber),
    ) -> Result<(), StoreError> {
        self.ids_v7_since(index, 0, id)?;
        let from = [index.other() as u8];
        self.rows_of_kind(keys::OUTCOMES, index.other(), &from, |key, value| {
            outcomes::visit_row(index, (key, value), &mut *id)
                .map_err(|damage| damaged(format!("ids {key:02x?}: {damage}")))
        })
    }

    /// Shows every open hold, by token.
    pub(super) fn all_open_holds(&self, hold: &mut dyn FnMut(Hold)) -> Result<(), StoreError> {
        let kind = KeyKind::Hold;
        self.rows_of_kind(keys::OUTCOMES, kind, &[kind as u8], |key, value| {
            let found = holds::decode(key, value);
            hold(found.map_err(|damage| damaged(format!("hold {key:02x?}: {damage}")))?);
            Ok(())
        })
    }

    /// Every order that stands, in the order of their places in their markets.
    pub(super) fn all_open_orders(&self) -> Result<Vec<StoredOrder>, StoreError> {
        let (mut placed, mut states) = (Vec::new(), Vec::new());
        self.decoded_rows(KeyKind::Order, orders::decode, &mut placed)?;
        self.decoded_rows(KeyKind::OrderState, orders::decode_state, &mut states)?;
        orders::join(placed, states).map_err(|damage| damaged(damage.to_string()))
    }

    /// How an order stands.
    pub(super) fn state_of_order(
        &self,
        order: RequestId,
    ) -> Result<Option<OrderState>, StoreError> {
        let key = keys::order_state(order);
        let row = self.db.get_pinned_cf(self.family(keys::OUTCOMES), key).map_err(io)?;
        row.map(|value| decode_state(order, &value)).transpose()
    }

    /// The orders of an account: see [`crate::store::VersionStore::orders_of`].
    pub(super) fn account_orders(
        &self,
        asked: &Asked,
        skip: &dyn Fn(RequestId) -> bool,
    ) -> Result<FoldedOrders, StoreError> {
        let snapshot = self.db.snapshot();
        let seen = || {
            let mut options = ReadOptions::default();
            options.set_snapshot(&snapshot);
            options
        };
        let outcomes = self.family(keys::OUTCOMES);
        let mark = self.db.get_pinned_cf_opt(outcomes, keys::APPLIED_MARK, &seen()).map_err(io)?;
        let mark = mark.map(|mark| {
            decode_position(&mark)
                .ok_or_else(|| damaged("the applied mark of outcomes is cut short".into()))
        });
        let mut options = seen();
        options.set_total_order_seek(true);
        let mut rows = self.db.raw_iterator_cf_opt(outcomes, options);
        let (placed, more) = if asked.open {
            open_rows(&mut rows, asked, skip)?
        } else {
            placed_rows(&mut rows, asked)?
        };
        let mut orders = Vec::with_capacity(placed.len());
        for placed in placed {
            let key = keys::order_state(placed.order);
            let row = self.db.get_pinned_cf_opt(outcomes, key, &seen()).map_err(io)?;
            let folded = match row {
                Some(value) => Folded::Open(decode_state(placed.order, &value)?),
                // What had ended then has ended for ever.
                None => match self.block_of_id(IdIndex::Ended, placed.order)? {
                    Some(block) => Folded::EndedIn(block),
                    None => Folded::AtOnce,
                },
            };
            orders.push((placed, folded));
        }
        let applied = mark.transpose()?.unwrap_or_default().seq;
        Ok(FoldedOrders { applied, orders, more })
    }

    /// The seqs after one of the commits with trades of a market.
    pub(super) fn seqs_with_trades(
        &self,
        market: MarketId,
        after: CommitSeq,
        limit: usize,
    ) -> Result<Vec<CommitSeq>, StoreError> {
        let mut seqs = Vec::new();
        let mut rows = self.scan(keys::OUTCOMES);
        rows.seek(keys::trade(market, after.next()));
        while seqs.len() < limit
            && let Some((key, _)) = rows.item()
            && let Some((of, seq)) = keys::decode_trade(key)
            && of == market
        {
            seqs.push(seq);
            rows.next();
        }
        rows.status().map_err(io)?;
        Ok(seqs)
    }

    /// Shows every commit with trades, by market.
    pub(super) fn every_trade(
        &self,
        trade: &mut dyn FnMut(MarketId, CommitSeq),
    ) -> Result<(), StoreError> {
        let kind = KeyKind::Trade;
        self.rows_of_kind(keys::OUTCOMES, kind, &[kind as u8], |key, _| {
            let (market, seq) = keys::decode_trade(key)
                .ok_or_else(|| damaged(format!("family outcomes has the key {key:02x?}")))?;
            trade(market, seq);
            Ok(())
        })
    }

    /// Shows every order by account, as [`crate::store::audit::Derived`] does: all that were placed, or
    /// those that are open.
    pub(super) fn every_account_order(
        &self,
        open: bool,
        order: &mut dyn FnMut(AccountId, Placed),
    ) -> Result<(), StoreError> {
        let kind = if open { KeyKind::OpenOf } else { KeyKind::PlacedBy };
        let decode = if open { decode_open } else { decode_placed };
        self.rows_of_kind(keys::OUTCOMES, kind, &[kind as u8], |key, value| {
            let (account, placed) = account_order(decode, key, value)?;
            order(account, placed);
            Ok(())
        })
    }

    /// The price of the last trade of each market.
    pub(super) fn all_last_prices(&self) -> Result<Vec<(MarketId, Price)>, StoreError> {
        let mut prices = Vec::new();
        self.decoded_rows(KeyKind::LastPrice, orders::decode_price, &mut prices)?;
        Ok(prices)
    }

    fn decoded_rows<T>(
        &self,
        kind: KeyKind,
        decode: impl Fn(&[u8], &[u8]) -> Result<T, Damage>,
        into: &mut Vec<T>,
    ) -> Result<(), StoreError> {
        self.rows_of_kind(keys::OUTCOMES, kind, &[kind as u8], |key, value| {
            let found = decode(key, value);
            into.push(found.map_err(|damage| damaged(format!("order {key:02x?}: {damage}")))?);
            Ok(())
        })
    }

    /// The seq of the deposit that has a reference.
    pub(super) fn seq_of_reference(
        &self,
        asset: AssetId,
        reference: u128,
    ) -> Result<Option<CommitSeq>, StoreError> {
        let key = keys::credited(asset, reference);
        let row = self.db.get_pinned_cf(self.family(keys::OUTCOMES), key).map_err(io)?;
        row.map(|value| decode_seq(&key, &value)).transpose()
    }

    /// Shows every reference, by asset and hash.
    pub(super) fn every_reference(
        &self,
        reference: &mut dyn FnMut(AssetId, u128, CommitSeq),
    ) -> Result<(), StoreError> {
        let kind = KeyKind::Credited;
        self.rows_of_kind(keys::OUTCOMES, kind, &[kind as u8], |key, value| {
            let (asset, hash) = keys::decode_credited(key)
                .ok_or_else(|| damaged(format!("family outcomes has the key {key:02x?}")))?;
            reference(asset, hash, decode_seq(key, value)?);
            Ok(())
        })
    }

    /// Shows the rows of one kind in a family, from a key on.
    pub(super) fn rows_of_kind(
        &self,
        family: &str,
        kind: KeyKind,
        from: &[u8],
        mut row: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut rows = self.scan(family);
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            if key.first() != Some(&(kind as u8)) {
                break;
            }
            row(key, value)?;
            rows.next();
        }
        rows.status().map_err(io)
    }
}

fn decode_seq(key: &[u8], value: &[u8]) -> Result<CommitSeq, StoreError> {
    references::decode(value).map_err(|damage| damaged(format!("reference {key:02x?}: {damage}")))
}

fn decode_state(order: RequestId, value: &[u8]) -> Result<OrderState, StoreError> {
    match orders::decode_state(&keys::order_state(order), value) {
        Ok((_, state)) => Ok(state),
        Err(damage) => Err(damaged(format!("order {order}: {damage}"))),
    }
}

type DecodeOrder = fn(&[u8], &[u8]) -> Result<(AccountId, Placed), Damage>;

fn account_order(
    decode: DecodeOrder,
    key: &[u8],
    value: &[u8],
) -> Result<(AccountId, Placed), StoreError> {
    decode(key, value).map_err(|damage| damaged(format!("order {key:02x?}: {damage}")))
}

/// Orders with the seq before which there may be more.
type Found = (Vec<Placed>, Option<CommitSeq>);

/// The newest of all that an account placed.
fn placed_rows(rows: &mut DBRawIterator<'_>, asked: &Asked) -> Result<Found, StoreError> {
    let (mut found, mut last, mut stepped) = (Vec::new(), None, 0);
    let Some(newest) = asked.before.get().checked_sub(1) else { return Ok((found, None)) };
    rows.seek(keys::placed_by(asked.account, CommitSeq::new(newest)));
    while let Some((key, value)) = rows.item()
        && key.first() == Some(&(KeyKind::PlacedBy as u8))
    {
        let (account, placed) = account_order(decode_placed, key, value)?;
        if account != asked.account {
            break;
        }
        if found.len() == asked.limit || stepped == ROWS_MAX {
            return Ok((found, last));
        }
        if asked.market.is_none_or(|market| market == placed.market) {
            found.push(placed);
        }
        (last, stepped) = (Some(placed.since), stepped + 1);
        rows.next();
    }
    rows.status().map_err(io)?;
    Ok((found, None))
}

/// The newest of those that stand: of these, an account has so many as it may.
fn open_rows(
    rows: &mut DBRawIterator<'_>,
    asked: &Asked,
    skip: &dyn Fn(RequestId) -> bool,
) -> Result<Found, StoreError> {
    let mut all = Vec::new();
    let prefix = keys::open_of_prefix(asked.account);
    rows.seek(prefix);
    while let Some((key, value)) = rows.item()
        && key.starts_with(&prefix)
    {
        all.push(account_order(decode_open, key, value)?.1);
        rows.next();
    }
    rows.status().map_err(io)?;
    Ok(newest_open(all, asked, skip))
}
