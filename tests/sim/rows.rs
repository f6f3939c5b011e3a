//! The version store over plain sorted maps: the rows are those that the engine's folds write.

use std::ops::Bound;
use std::sync::Arc;

use crosslatch::market::OrderState;
use crosslatch::market::order::Price;
use crosslatch::message::BalanceNow;
use crosslatch::request::Hold;
use crosslatch::store::account_orders::{
    Asked, Folded, FoldedOrders, Placed, decode_open, decode_placed, newest_open,
};
use crosslatch::store::keys::{self, IdIndex, KeyKind};
use crosslatch::store::orders::{self, StoredOrder};
use crosslatch::store::versions::{self, PackReader};
use crosslatch::store::{
    Applied, Family, FamilyWriter, Position, RecordVersion, StoreError, VersionStore, holds,
    outcomes, records, references,
};
use crosslatch::types::{
    AccountId, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, Key, MarketId, RequestId,
    Token,
};

use crate::disk::{Disk, Fold, Rows, State};

const VERSIONS: usize = Family::Versions as usize;
const OUTCOMES: usize = Family::Outcomes as usize;
const RECORDS: usize = Family::Records as usize;

/// The rows from a key on that begin as told.
fn behind<'a>(
    rows: &'a Rows,
    from: &[u8],
    prefix: &'a [u8],
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let from: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(from), Bound::Unbounded);
    rows.range::<[u8], _>(from)
        .map(|(key, value)| (&key[..], &value[..]))
        .take_while(move |(key, _)| key.starts_with(prefix))
}

fn of_kind(rows: &Rows, kind: KeyKind) -> impl Iterator<Item = (&[u8], &[u8])> {
    rows.iter()
        .map(|(key, value)| (&key[..], &value[..]))
        .filter(move |(key, _)| key.first() == Some(&(kind as u8)))
}

impl State {
    fn balance_at(&self, key: BalanceKey, seq: CommitSeq) -> Option<(CommitSeq, Balance)> {
        let (from, prefix) = (keys::version(key, seq), keys::version_prefix(key));
        let (row, value) = behind(&self.rows[VERSIONS], &from, &prefix).next()?;
        let (_, first_seq) = keys::decode_version(row).expect("a row of this kind");
        versions::newest_at(value, first_seq, seq)
    }

    /// Every balance that was ever touched.
    fn balances(&self) -> Vec<BalanceKey> {
        let rows = of_kind(&self.rows[VERSIONS], KeyKind::Version);
        let keys = rows.map(|(row, _)| keys::decode_version(row).expect("a row of this kind").0);
        let mut keys: Vec<BalanceKey> = keys.collect();
        keys.dedup();
        keys
    }

    fn block_of_id(&self, index: IdIndex, id: RequestId) -> Option<BlockNumber> {
        let rows = &self.rows[OUTCOMES];
        let Some(millis) = id.v7_millis() else {
            let key = keys::id_other(index, id);
            let value = rows.get(&key[..])?;
            return outcomes::find(index, (&key, value), id).expect("a row of this kind");
        };
        let prefix = keys::id_v7_prefix(index, millis);
        behind(rows, &prefix, &prefix)
            .find_map(|row| outcomes::find(index, row, id).expect("a row of this kind"))
    }

    fn order_state(&self, order: RequestId) -> Option<OrderState> {
        let key = keys::order_state(order);
        let value = self.rows[OUTCOMES].get(&key[..])?;
        Some(orders::decode_state(&key, value).expect("a state").1)
    }

    fn orders_of(&self, asked: &Asked, skip: &dyn Fn(RequestId) -> bool) -> FoldedOrders {
        let rows = &self.rows[OUTCOMES];
        let (placed, more) = if asked.open {
            let rows = of_kind(rows, KeyKind::OpenOf);
            let all = rows.map(|(key, value)| decode_open(key, value).expect("a row of this kind"));
            let of_account = all.filter(|(account, _)| *account == asked.account);
            newest_open(of_account.map(|(_, placed)| placed).collect(), asked, skip)
        } else {
            let rows = of_kind(rows, KeyKind::PlacedBy);
            let all =
                rows.map(|(key, value)| decode_placed(key, value).expect("a row of this kind"));
            let of_account = all.filter(|(account, _)| *account == asked.account);
            newest_open(of_account.map(|(_, placed)| placed).collect(), asked, &|_| false)
        };
        let folded = |placed: Placed| {
            let ended = || self.block_of_id(IdIndex::Ended, placed.order).map(Folded::EndedIn);
            let open = self.order_state(placed.order).map(Folded::Open);
            (placed, open.or_else(ended).unwrap_or(Folded::AtOnce))
        };
        let orders = placed.into_iter().map(folded).collect();
        FoldedOrders { applied: self.applied.outcomes.seq, orders, more }
    }
}

impl VersionStore for Disk {
    fn get_at(
        &self,
        key: BalanceKey,
        seq: CommitSeq,
    ) -> Result<Option<(CommitSeq, Balance)>, StoreError> {
        self.read(|state| state.balance_at(key, seq))
    }

    fn account_at(
        &self,
        account: AccountId,
        seq: CommitSeq,
    ) -> Result<Vec<BalanceNow>, StoreError> {
        self.read(|state| {
            let keys = state.balances().into_iter().filter(|key| key.account == account);
            let now = |key: BalanceKey| {
                let (version, balance) = state.balance_at(key, seq)?;
                Some(BalanceNow { asset: key.asset, balance, version })
            };
            keys.filter_map(now).collect()
        })
    }

    fn versions_after(
        &self,
        key: BalanceKey,
        after: CommitSeq,
        limit: usize,
    ) -> Result<Vec<(CommitSeq, Balance)>, StoreError> {
        self.read(|state| {
            let prefix = keys::version_prefix(key);
            let mut found = Vec::new();
            for (row, value) in behind(&state.rows[VERSIONS], &prefix, &prefix) {
                let (_, first_seq) = keys::decode_version(row).expect("a row of this kind");
                found.extend(PackReader::new(value, first_seq).filter(|(seq, _)| *seq > after));
            }
            found.sort_by_key(|(seq, _)| *seq);
            found.truncate(limit);
            found
        })
    }

    fn record_at(&self, key: &Key, seq: CommitSeq) -> Result<Option<RecordVersion>, StoreError> {
        self.read(|state| {
            let mut from = Vec::new();
            keys::record(key, seq, &mut from);
            let prefix = keys::record_prefix(&from).expect("a row of this kind").to_vec();
            let (row, value) = behind(&state.rows[RECORDS], &from, &prefix).next()?;
            let (_, seq) = keys::decode_record(row).expect("a row of this kind");
            let value = records::decode(value).expect("a value").map(Arc::from);
            Some(RecordVersion { seq, value })
        })
    }

    fn latest_records(&self, record: &mut dyn FnMut(Key, CommitSeq)) -> Result<(), StoreError> {
        self.read(|state| {
            let mut last = None;
            for (row, _) in of_kind(&state.rows[RECORDS], KeyKind::Record) {
                let (key, seq) = keys::decode_record(row).expect("a row of this kind");
                if last != Some(key) {
                    record(Key::new(key), seq);
                }
                last = Some(key);
            }
        })
    }

    fn block_with(&self, id: RequestId) -> Result<Option<BlockNumber>, StoreError> {
        self.read(|state| state.block_of_id(IdIndex::Outcomes, id))
    }

    fn open_holds(&self, hold: &mut dyn FnMut(Hold)) -> Result<(), StoreError> {
        self.read(|state| {
            for (key, value) in of_kind(&state.rows[OUTCOMES], KeyKind::Hold) {
                hold(holds::decode(key, value).expect("a hold"));
            }
        })
    }

    fn open_orders(&self) -> Result<Vec<StoredOrder>, StoreError> {
        self.read(|state| {
            let rows = |kind| of_kind(&state.rows[OUTCOMES], kind);
            let placed = rows(KeyKind::Order);
            let placed = placed.map(|(key, value)| orders::decode(key, value).expect("an order"));
            let states = rows(KeyKind::OrderState);
            let states =
                states.map(|(key, value)| orders::decode_state(key, value).expect("a state"));
            orders::join(placed.collect(), states.collect()).expect("each has both")
        })
    }

    fn open_order(&self, order: RequestId) -> Result<Option<OrderState>, StoreError> {
        self.read(|state| state.order_state(order))
    }

    fn block_ending(&self, order: RequestId) -> Result<Option<BlockNumber>, StoreError> {
        self.read(|state| state.block_of_id(IdIndex::Ended, order))
    }

    fn orders_of(
        &self,
        asked: &Asked,
        skip: &dyn Fn(RequestId) -> bool,
    ) -> Result<FoldedOrders, StoreError> {
        self.read(|state| state.orders_of(asked, skip))
    }

    fn trades_after(
        &self,
        market: MarketId,
        after: CommitSeq,
        limit: usize,
    ) -> Result<Vec<CommitSeq>, StoreError> {
        self.read(|state| {
            let rows = of_kind(&state.rows[OUTCOMES], KeyKind::Trade);
            let trades = rows.map(|(key, _)| keys::decode_trade(key).expect("a row of this kind"));
            let after = trades.filter(|(of, seq)| *of == market && *seq > after);
            after.map(|(_, seq)| seq).take(limit).collect()
        })
    }

    fn last_prices(&self) -> Result<Vec<(MarketId, Price)>, StoreError> {
        self.read(|state| {
            let rows = of_kind(&state.rows[OUTCOMES], KeyKind::LastPrice);
            rows.map(|(key, value)| orders::decode_price(key, value).expect("a price")).collect()
        })
    }

    fn block_resolving(&self, token: Token) -> Result<Option<BlockNumber>, StoreError> {
        self.read(|state| state.block_of_id(IdIndex::Resolved, token.request()))
    }

    fn credited(&self, asset: AssetId, reference: u128) -> Result<Option<CommitSeq>, StoreError> {
        self.read(|state| {
            let value = state.rows[OUTCOMES].get(&keys::credited(asset, reference)[..])?;
            Some(references::decode(value).expect("a seq"))
        })
    }

    fn horizon(&self) -> Result<CommitSeq, StoreError> {
        self.read(|state| state.horizon)
    }

    fn collect_garbage(&self, horizon: CommitSeq) -> Result<(), StoreError> {
        self.drop_rows(horizon, |rows| {
            for family in [VERSIONS, RECORDS] {
                let mut covered: Option<Vec<u8>> = None;
                rows[family].retain(|key, _| {
                    let (prefix, newest_first) = key.split_at(key.len().saturating_sub(8));
                    let versioned = matches!(key.first(), Some(tag)
                        if *tag == KeyKind::Version as u8 || *tag == KeyKind::Record as u8);
                    let Ok(bytes) = <[u8; 8]>::try_from(newest_first) else { return true };
                    if !versioned {
                        return true;
                    }
                    if covered.as_deref() == Some(prefix) {
                        return false;
                    }
                    if CommitSeq::new(!u64::from_be_bytes(bytes)) <= horizon {
                        covered = Some(prefix.to_vec());
                    }
                    true
                });
            }
        })
    }

    fn latest(
        &self,
        balance: &mut dyn FnMut(BalanceKey, Balance, CommitSeq),
    ) -> Result<(), StoreError> {
        self.read(|state| {
            for key in state.balances() {
                let newest = state.balance_at(key, CommitSeq::new(u64::MAX));
                let (seq, now) = newest.expect("it was touched");
                balance(key, now, seq);
            }
        })
    }

    fn ids_since(&self, millis: u64, id: &mut dyn FnMut(RequestId)) -> Result<(), StoreError> {
        self.read(|state| {
            for row in of_kind(&state.rows[OUTCOMES], IdIndex::Outcomes.v7()) {
                let recent = |found: RequestId| found.v7_millis() >= Some(millis);
                let visit = |found, _| {
                    if recent(found) {
                        id(found);
                    }
                };
                outcomes::visit_row(IdIndex::Outcomes, row, visit).expect("a row of this kind");
            }
        })
    }

    fn applied(&self) -> Result<Applied, StoreError> {
        self.read(|state| state.applied)
    }

    fn is_behind(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn fold(
        &self,
        family: Family,
        to: Position,
        _bulk: bool,
    ) -> Result<Box<dyn FamilyWriter + '_>, StoreError> {
        Ok(Box::new(Fold::new(self, family, to)))
    }
}
