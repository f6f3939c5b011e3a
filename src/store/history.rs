//! What happened to an account: every change of its balances, with what caused it.
//!
//! ```text
//! version store ─┐ seqs at which a balance of the account changed
//! unfolded ──────┴──► ascending ──► the commit of each, from the journal ──► entries
//! ```
//!
//! The versions say *when*; the journal says what was before, what after, and why. A page is
//! decoded block by block, as changes that follow one another often share one.
//!
//! Invariants
//! * A page has every change after `after` up to its last one: what is not durable when it begins
//!   is left for the next, so no change can appear between two pages.
//! * The changes of one commit stand on one page.

use std::sync::Arc;

use super::StoreError;
use super::journal::{Block, CommitRecord};
use super::reader::{PastError, Reader};
use super::snapshots::Expired;
use crate::request::Command;
use crate::types::{AccountId, AssetId, Balance, BalanceKey, CommitSeq, RequestId, Time, Token};

/// One change of one balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The commit that made it.
    pub seq: CommitSeq,
    /// Logical time of that.
    pub time: Time,
    /// The balance's asset.
    pub asset: AssetId,
    /// Before.
    pub before: Balance,
    /// After.
    pub after: Balance,
    /// The request that caused it; of an expiry, the one that made the hold.
    pub request_id: RequestId,
    /// That request's kind, as in [`Command::kind`].
    pub kind: &'static str,
    /// The hold that was made or ended by it.
    pub token: Option<Token>,
}

impl Reader {
    /// The changes of an account's balances, or of its balance of one asset, after a seq: ascending
    /// by seq, then in the order of the request. At most `limit`, but for a single commit that has
    /// more; fewer only if there are no more (or the next commit's would not all fit). Go on after
    /// the last one's seq.
    ///
    /// # Errors
    /// [`PastError`]: `after` must be at or above the horizon.
    pub fn history(
        &self,
        account: AccountId,
        asset: Option<AssetId>,
        after: CommitSeq,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, PastError> {
        let oldest = self.horizon()?;
        if after < oldest {
            // It would be found out at the end, after much work.
            return Err(Expired { oldest }.into());
        }
        let seqs = self.as_of(after, || self.seqs_after(account, asset, after, limit))?;
        Ok(self.entries(account, asset, &seqs, limit)?)
    }

    /// The seqs of the commits that changed the balances asked for, ascending: `limit` at least, if
    /// there are so many.
    fn seqs_after(
        &self,
        account: AccountId,
        asset: Option<AssetId>,
        after: CommitSeq,
        limit: usize,
    ) -> Result<Vec<CommitSeq>, StoreError> {
        let upto = self.durable_seq();
        // Each source gives the oldest `limit` of each balance at least. So what is missing has
        // `limit` before it, and is not on this page.
        let mut seqs = self.unfolded.seqs_after(account, asset, (after, upto), limit);
        let assets = match asset {
            Some(asset) => vec![asset],
            None => {
                let balances = self.versions.account_at(account, upto)?;
                balances.iter().map(|balance| balance.asset).collect()
            }
        };
        for asset in assets {
            let key = BalanceKey { account, asset };
            let versions = self.versions.versions_after(key, after, limit)?;
            seqs.extend(versions.iter().map(|(seq, _)| *seq).filter(|seq| *seq <= upto));
        }
        seqs.sort_unstable();
        seqs.dedup();
        Ok(seqs)
    }

    fn entries(
        &self,
        account: AccountId,
        asset: Option<AssetId>,
        seqs: &[CommitSeq],
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, StoreError> {
        let mut entries = Vec::new();
        let mut block: Option<Arc<Block>> = None;
        for seq in seqs {
            let here = match block.take() {
                Some(block) if *seq < block.header().next_seq() => block,
                _ => self.block_of(*seq)?.ok_or_else(|| missing(*seq))?,
            };
            let commit = here.commit_at(*seq).ok_or_else(|| missing(*seq))?;
            let changes = changes(&commit, here.header().time, account, asset);
            if entries.len() + changes.len() > limit && (limit == 0 || !entries.is_empty()) {
                break;
            }
            entries.extend(changes);
            block = Some(here);
        }
        Ok(entries)
    }
}

/// What one commit did to the balances asked for.
fn changes(
    commit: &CommitRecord,
    time: Time,
    account: AccountId,
    asset: Option<AssetId>,
) -> Vec<HistoryEntry> {
    let asked =
        |key: BalanceKey| key.account == account && asset.is_none_or(|asset| asset == key.asset);
    let rows = commit.rows().filter(|(op, _)| asked(op.key));
    rows.map(|(op, row)| HistoryEntry {
        seq: commit.seq,
        time,
        asset: op.key.asset,
        before: row.before,
        after: row.after,
        request_id: commit.txn.id,
        kind: commit.txn.command.kind(),
        token: token(&commit.txn.command, commit.txn.id),
    })
    .collect()
}

fn token(command: &Command, id: RequestId) -> Option<Token> {
    match command {
        Command::Prepare(_) | Command::Withdraw(_) => Some(Token::of(id)),
        Command::Resolve(resolve) => Some(resolve.token),
        _ => None,
    }
}

fn missing(seq: CommitSeq) -> StoreError {
    StoreError::Damaged(format!("a balance has seq {seq}, but the journal has no such commit"))
}
