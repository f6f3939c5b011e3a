//! The version store in RocksDB: packed version rows, and the doors to the other derived families.

use rocksdb::{DBRawIterator, ReadOptions};

use super::{RocksStore, damaged, decode_position, io};
use crate::market::OrderState;
use crate::market::order::Price;
use crate::message::BalanceNow;
use crate::request::Hold;
use crate::store::account_orders::{Asked, FoldedOrders};
use crate::store::keys::{self, IdIndex, KeyKind};
use crate::store::orders::StoredOrder;
use crate::store::versions;
use crate::store::{
    Applied, Family, FamilyWriter, Position, RecordVersion, StoreError, VersionStore,
};
use crate::types::{
    AccountId, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, Key, MarketId, RequestId,
    Token,
};

/// Sorted runs of a family at which folds wait for compaction: well below the number at
/// which RocksDB would stop every writer, the journal's included.
const RUNS_MAX: u64 = 64;
/// Rows of one balance that a scan steps over before it seeks to the next balance: a step is
/// cheap, a seek is not.
const STEPS_BEFORE_SEEK: u32 = 8;

impl VersionStore for RocksStore {
    fn get_at(
        &self,
        key: BalanceKey,
        seq: CommitSeq,
    ) -> Result<Option<(CommitSeq, Balance)>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_prefix_same_as_start(true);
        let mut rows = self.db.raw_iterator_cf_opt(self.family(keys::VERSIONS), options);
        rows.seek(keys::version(key, seq));
        let Some((row, value)) = rows.item() else {
            return rows.status().map(|()| None).map_err(io);
        };
        match keys::decode_version(row) {
            Some((found, first_seq)) if found == key => newest_at(key, value, first_seq, seq),
            _ => Ok(None),
        }
    }

    fn account_at(
        &self,
        account: AccountId,
        seq: CommitSeq,
    ) -> Result<Vec<BalanceNow>, StoreError> {
        let mut balances = Vec::new();
        let mut rows = self.scan(keys::VERSIONS);
        rows.seek(keys::version_account_prefix(account));
        while let Some((key, first_seq)) = rows.key().and_then(keys::decode_version) {
            if key.account != account {
                break;
            }
            if first_seq > seq {
                // Newer than asked for: the row that may have it, or the next asset, is further on.
                rows.seek(keys::version(key, seq));
                continue;
            }
            let value = rows.value().expect("a row that has a key has a value");
            if let Some((version, balance)) = newest_at(key, value, first_seq, seq)? {
                balances.push(BalanceNow { asset: key.asset, balance, version });
            }
            let Some(next) = key.asset.get().checked_add(1).map(AssetId::new) else { break };
            rows.seek(keys::version_prefix(BalanceKey { account, asset: next }));
        }
        rows.status().map_err(io)?;
        Ok(balances)
    }

    fn versions_after(
        &self,
        key: BalanceKey,
        after: CommitSeq,
        limit: usize,
    ) -> Result<Vec<(CommitSeq, Balance)>, StoreError> {
        self.versions_after_impl(key, after, limit)
    }

    fn record_at(&self, key: &Key, seq: CommitSeq) -> Result<Option<RecordVersion>, StoreError> {
        self.record_as_of(key, seq)
    }

    fn latest_records(&self, record: &mut dyn FnMut(Key, CommitSeq)) -> Result<(), StoreError> {
        self.newest_records(record)
    }

    fn block_with(&self, id: RequestId) -> Result<Option<BlockNumber>, StoreError> {
        self.block_of_id(IdIndex::Outcomes, id)
    }

    fn open_holds(&self, hold: &mut dyn FnMut(Hold)) -> Result<(), StoreError> {
        self.all_open_holds(hold)
    }

    fn open_orders(&self) -> Result<Vec<StoredOrder>, StoreError> {
        self.all_open_orders()
    }

    fn open_order(&self, order: RequestId) -> Result<Option<OrderState>, StoreError> {
        self.state_of_order(order)
    }

    fn block_ending(&self, order: RequestId) -> Result<Option<BlockNumber>, StoreError> {
        self.block_of_id(IdIndex::Ended, order)
    }

    fn orders_of(
        &self,
        asked: &Asked,
        skip: &dyn Fn(RequestId) -> bool,
    ) -> Result<FoldedOrders, StoreError> {
        self.account_orders(asked, skip)
    }

    fn trades_after(
        &self,
        market: MarketId,
        after: CommitSeq,
        limit: usize,
    ) -> Result<Vec<CommitSeq>, StoreError> {
        self.seqs_with_trades(market, after, limit)
    }

    fn last_prices(&self) -> Result<Vec<(MarketId, Price)>, StoreError> {
        self.all_last_prices()
    }

    fn block_resolving(&self, token: Token) -> Result<Option<BlockNumber>, StoreError> {
        self.block_of_id(IdIndex::Resolved, token.request())
    }

    fn credited(&self, asset: AssetId, reference: u128) -> Result<Option<CommitSeq>, StoreError> {
        self.seq_of_reference(asset, reference)
    }

    fn horizon(&self) -> Result<CommitSeq, StoreError> {
        Ok(self.horizon.get())
    }

    fn collect_garbage(&self, horizon: CommitSeq) -> Result<(), StoreError> {
        self.collect_garbage_impl(horizon)
    }

    fn latest(
        &self,
        balance: &mut dyn FnMut(BalanceKey, Balance, CommitSeq),
    ) -> Result<(), StoreError> {
        let mut rows = self.scan(keys::VERSIONS);
        let mut last = None;
        let mut steps = 0;
        rows.seek([KeyKind::Version as u8]);
        while let Some((row, value)) = rows.item() {
            let (key, first_seq) = keys::decode_version(row)
                .ok_or_else(|| damaged(format!("family versions has the key {row:02x?}")))?;
            if last == Some(key) {
                steps += 1;
                match after(key).filter(|_| steps == STEPS_BEFORE_SEEK) {
                    Some(next) => rows.seek(keys::version_prefix(next)),
                    None => rows.next(),
                }
                continue;
            }
            let (seq, newest) = versions::last(value, first_seq).ok_or_else(|| bad_row(key))?;
            balance(key, newest, seq);
            (last, steps) = (Some(key), 0);
            rows.next();
        }
        rows.status().map_err(io)
    }

    fn ids_since(&self, millis: u64, id: &mut dyn FnMut(RequestId)) -> Result<(), StoreError> {
        self.ids_v7_since(IdIndex::Outcomes, millis, &mut |found, _| id(found))
    }

    fn applied(&self) -> Result<Applied, StoreError> {
        let of = |family: Family| {
            let row = self.db.get_pinned_cf(self.family(family.name()), keys::APPLIED_MARK);
            match row.map_err(io)?.as_deref() {
                None => Ok(Position::default()),
                Some(value) => decode_position(value).ok_or_else(|| {
                    damaged(format!("the applied mark of {} is cut short", family.name()))
                }),
            }
        };
        Ok(Applied {
            versions: of(Family::Versions)?,
            outcomes: of(Family::Outcomes)?,
            records: of(Family::Records)?,
        })
    }

    fn is_behind(&self) -> Result<bool, StoreError> {
        for family in Family::ALL {
            let name = rocksdb::properties::num_files_at_level(0);
            let runs = self.db.property_value_cf(self.family(family.name()), &name).map_err(io)?;
            let runs = runs.and_then(|runs| runs.trim().parse::<u64>().ok());
            if runs.is_some_and(|runs| runs >= RUNS_MAX) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn fold(
        &self,
        family: Family,
        to: Position,
        bulk: bool,
    ) -> Result<Box<dyn FamilyWriter + '_>, StoreError> {
        self.begin_fold(family, to, bulk)
    }
}

impl RocksStore {
    /// An iterator over a whole family, across prefixes.
    pub(super) fn scan(&self, family: &str) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        self.db.raw_iterator_cf_opt(self.family(family), options)
    }
}

fn newest_at(
    key: BalanceKey,
    value: &[u8],
    first_seq: CommitSeq,
    at: CommitSeq,
) -> Result<Option<(CommitSeq, Balance)>, StoreError> {
    // The row begins at or before `at`, so it has an answer.
    versions::newest_at(value, first_seq, at).map(Some).ok_or_else(|| bad_row(key))
}

fn bad_row(key: BalanceKey) -> StoreError {
    damaged(format!("the versions of asset {} of account {}", key.asset, key.account))
}

/// The balance that sorts next, if there is one.
fn after(key: BalanceKey) -> Option<BalanceKey> {
    match key.asset.get().checked_add(1) {
        Some(asset) => Some(BalanceKey { account: key.account, asset: AssetId::new(asset) }),
        None => {
            let account = AccountId::new(key.account.get().checked_add(1)?);
            Some(BalanceKey { account, asset: AssetId::new(0) })
        }
    }
}
