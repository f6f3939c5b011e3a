//! Whole families, row by row, for the audit: what it compares with the journal.

use super::{RocksStore, damaged, io};
use crate::store::audit::Derived;
use crate::store::keys::{self, KeyKind};
use crate::store::versions::PackReader;
use crate::store::{StoreError, outcomes};
use crate::types::{Balance, BalanceKey, BlockNumber, CommitSeq, RequestId};

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
        let mut rows = self.scan(keys::OUTCOMES);
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            if key != keys::APPLIED_MARK {
                outcomes::visit_row(key, value, &mut *outcome)
                    .map_err(|damage| damaged(format!("request ids {key:02x?}: {damage}")))?;
            }
            rows.next();
        }
        rows.status().map_err(io)
    }
}
