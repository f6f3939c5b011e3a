//! Whole families, row by row, for the audit: what it compares with the journal.

use super::{RocksStore, damaged, io};
use crate::store::StoreError;
use crate::store::account_orders::Placed;
use crate::store::audit::Derived;
use crate::store::keys::{self, IdIndex, KeyKind};
use crate::store::versions::PackReader;
use crate::types::{
    AccountId, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, Key, MarketId, RequestId,
    Token,
};

impl Derived for RocksStore {
    fn all_versions(
        &self,
        version: &mut dyn FnMut(BalanceKey, CommitSeq, Balance),
    ) -> Result<(), StoreError> {
        let mut rows = self.scan(keys::VERSIONS);
        rows.seek([KeyKind::Version as u8]);
        while let Some((row, value)) = rows.item() {
            let (key, first_seq) = keys::decode_version(row)
                .ok_or_else(|| damaged(format!("family versions has the key {row:02x?}")))?;
            let mut packed = PackReader::new(value, first_seq);
            for (seq, balance) in &mut packed {
                version(key, seq, balance);
            }
            if packed.is_damaged() {
                let BalanceKey { account, asset } = key;
                return Err(damaged(format!("the versions of asset {asset} of account {account}")));
            }
            rows.next();
        }
        rows.status().map_err(io)
    }

    fn all_outcomes(
        &self,
        outcome: &mut dyn FnMut(RequestId, BlockNumber),
    ) -> Result<(), StoreError> {
        self.all_ids(IdIndex::Outcomes, outcome)
    }

    fn all_records(
        &self,
        record: &mut dyn FnMut(Key, CommitSeq, Option<&[u8]>),
    ) -> Result<(), StoreError> {
        self.every_record(record)
    }

    fn all_resolved(&self, resolved: &mut dyn FnMut(Token, BlockNumber)) -> Result<(), StoreError> {
        self.all_ids(IdIndex::Resolved, &mut |id, block| resolved(Token::of(id), block))
    }

    fn all_ended(&self, ended: &mut dyn FnMut(RequestId, BlockNumber)) -> Result<(), StoreError> {
        self.all_ids(IdIndex::Ended, ended)
    }

    fn all_trades(&self, trade: &mut dyn FnMut(MarketId, CommitSeq)) -> Result<(), StoreError> {
        self.every_trade(trade)
    }

    fn all_placed(&self, placed: &mut dyn FnMut(AccountId, Placed)) -> Result<(), StoreError> {
        self.every_account_order(false, placed)
    }

    fn all_open(&self, open: &mut dyn FnMut(AccountId, Placed)) -> Result<(), StoreError> {
        self.every_account_order(true, open)
    }

    fn all_references(
        &self,
        reference: &mut dyn FnMut(AssetId, u128, CommitSeq),
    ) -> Result<(), StoreError> {
        self.every_reference(reference)
    }

    fn read_through(&self) -> Result<(), StoreError> {
        for family in keys::FAMILIES {
            let mut rows = self.scan(family);
            rows.seek_to_first();
            while rows.valid() {
                rows.next();
            }
            rows.status().map_err(io)?;
        }
        Ok(())
    }
}
