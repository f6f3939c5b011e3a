//! Where everything is kept: the journal that is the truth, and the version store derived from it.
//!
//! ```text
//! coordinator ─Decision─┐                            ┌─► answers, gates
//!                       ▼        one block, one sync │
//! shards ──Applied──► commit log ──────► journal ────┴─► D
//!                                          │ unfolded blocks stay readable in memory
//!                                          ▼
//!                     materializer ──────► version store ─► A
//! ```
//!
//! A swap has happened when its block is synced. The version store only makes old states and old
//! answers quick to find; it is folded behind, and rebuilt from the journal when a crash left it
//! behind.
//!
//! The seam for another engine runs here: [`CommitLog`] and [`Journal`] are the log's two sides,
//! [`VersionStore`] is what is derived. RocksDB implements all three in `rocks`; nothing else
//! knows of it.
//!
//! Invariants
//! * The durable blocks are a prefix: dense, each naming the hash of the one before (I2).
//! * `A` never exceeds `D`; each derived family carries its own applied mark in the same atomic
//!   write as the rows that it covers, so folding again what was folded changes nothing.
//! * A block is in [`unfolded::Unfolded`] before `D` covers it, and leaves only after the version
//!   store has it: whoever looks there first and then in the store misses nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::access::{ApiKey, KeyNumber};
use crate::address::Link;
use crate::coordinator::ids::Resolved;
use crate::error;
use crate::market::order::Price;
use crate::market::{MarketSpec, OrderState};
use crate::message::BalanceNow;
use crate::request::{AssetSpec, Command, Hold};
use crate::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, Key, MarketId,
    Operation, RequestId, Time, Token,
};

pub mod account_orders;
#[cfg(feature = "rocksdb")]
pub mod archive;
#[cfg(feature = "rocksdb")]
pub mod archiver;
pub mod audit;
#[cfg(feature = "rocksdb")]
pub mod backup;
pub mod commit_log;
pub mod cursor;
pub mod durable;
pub mod history;
pub mod holds;
pub mod journal;
pub mod keys;
pub mod log_core;
pub mod mark;
pub mod materializer;
pub mod order_reads;
pub mod orders;
pub mod outcomes;
pub mod reader;
pub mod records;
pub mod recovery;
pub mod references;
pub mod replay;
pub mod retention;
#[cfg(feature = "rocksdb")]
pub mod rocks;
pub mod snapshots;
pub mod start_progress;
pub mod unfolded;
pub mod versions;

use account_orders::{Asked, FoldedOrders};
use journal::{Block, BlockHash};
use orders::StoredOrder;

/// The format version of a data directory; any other one is refused.
pub const FORMAT: u32 = 3;

/// What to do about data that is missing or damaged.
pub(crate) const RESTORE: &str = "restore the data directory from a backup; nothing was changed";

/// Whether an answer waits for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Every answer follows an fsync.
    #[default]
    Sync,
    /// Answers follow the write to the operating system: for measuring what the disk costs, nothing else.
    Off,
}

/// A place in the journal: a block and the last seq up to its end. Zeros: before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Number of the block.
    pub block: BlockNumber,
    /// The last seq given in it or before it.
    pub seq: CommitSeq,
}

impl Position {
    /// The position at the end of a block.
    pub fn after(block: &Block) -> Self {
        Self { block: block.header().number, seq: block.header().last_seq() }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} (seq {})", self.block, self.seq)
    }
}

/// Why the store cannot go on. Every one of them but [`StoreError::Archive`] stops the engine, or
/// keeps it from starting.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// Another process (or another engine of this one) has the data directory.
    #[error("{} is in use by another process; stop it first, or choose another directory", .0.display())]
    InUse(PathBuf),
    /// A newer build wrote the data directory.
    #[error(
        "the data directory has format {found}, this build knows up to {known}; run a newer build, nothing was changed"
    )]
    NewerFormat {
        /// Its format.
        found: u32,
        /// The newest format that this build knows.
        known: u32,
    },
    /// A build from before the first release wrote the data directory.
    #[error(
        "the data directory has format {found}, which was written by a development build that was never released; start with a new directory, nothing was changed"
    )]
    OlderFormat {
        /// Its format.
        found: u32,
    },
    /// The directory holds something else.
    #[error("{} is not a data directory of crosslatch: {why}; choose an empty or a new one, nothing was changed", .path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// How that was noticed.
        why: String,
    },
    /// Data is missing or is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// A commit would have created or destroyed value (I5); nothing of its group was written.
    #[error("supply violation: {0}")]
    Violation(String),
    /// The disk or the operating system failed.
    #[error("{0}")]
    Io(String),
    /// A file of the archive is missing, is not what was written, or cannot be read or written. Who
    /// asked for what is in it has no answer; the engine goes on.
    #[error("{0}")]
    Archive(String),
}

impl StoreError {
    /// A failed file operation.
    pub(crate) fn io(doing: &str, path: &Path, error: std::io::Error) -> Self {
        Self::Io(format!("cannot {doing} {}: {error}", path.display()))
    }

    /// A block that is not what was written.
    pub(crate) fn block(number: BlockNumber, what: impl fmt::Display) -> Self {
        Self::Damaged(format!("journal block {number} is damaged: {what}; {RESTORE}"))
    }
}

impl From<StoreError> for error::Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Archive(what) => Self::Archive(what),
            error => Self::Storage(error.to_string()),
        }
    }
}

/// What becomes durable in one atomic write.
#[derive(Clone, Debug)]
pub struct Group {
    /// The block, numbered one after the last.
    pub block: Arc<Block>,
    /// Directory commands committed in it, in their order.
    pub directory: Vec<Command>,
    /// New supply of each asset whose supply it changed.
    pub supplies: Vec<(AssetId, Amount)>,
}

/// The writing side of the log. One owner, one thread.
pub trait CommitLog: Send {
    /// Recovery has read the journal up to there, whole. Called once, before the first append: from
    /// now on the proof says that it reaches so far. A loss of power may have left an older one.
    ///
    /// # Errors
    /// When the disk fails.
    fn begin(&mut self, at: Position) -> Result<(), StoreError>;

    /// Appends a group atomically. When it returns, the group survives a crash, and the proof that
    /// the journal reaches so far is written.
    ///
    /// # Errors
    /// Any error is final: whether the group is there is not known until a restart.
    fn append(&mut self, group: &Group) -> Result<(), StoreError>;

    /// Syncs what needs no sync while the process lives. Called once, after the last append.
    ///
    /// # Errors
    /// When the disk fails.
    fn stop(&mut self) -> Result<(), StoreError>;
}

/// A row of the directory as it is stored: its latest state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryRow {
    /// An asset; they come in the order of their numbers, without gaps.
    Asset(AssetId, AssetSpec),
    /// An account with its links.
    Account(AccountId, Vec<Link>),
    /// A market, and whether it is halted; they come in the order of their numbers, without gaps.
    Market(MarketId, Box<MarketSpec>, bool),
    /// An API key, and whether it is revoked; they come in the order of their numbers, without gaps.
    ApiKey(KeyNumber, Box<ApiKey>, bool),
    /// What the venue takes; none for everything.
    Operation(Operation),
}

/// Where the database's part of the journal begins, when older blocks are in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The end of the last block that is in the archive.
    pub after: Position,
    /// Hash of that block.
    pub hash: BlockHash,
}

/// The reading side of the log. Shared by any thread.
pub trait Journal: Send + Sync {
    /// Where the part begins that is not in the archive; `None` while nothing was archived.
    fn beginning(&self) -> Option<Beginning> {
        None
    }

    /// How a hold ended, where the archive has the block that ended it; the archive is not asked.
    ///
    /// # Errors
    /// As [`Journal::last`].
    fn archived_end(&self, _: Token) -> Result<Option<Resolved>, StoreError> {
        Ok(None)
    }

    /// The last block, checked; `None` while there is none.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with the block's number, or what the disk says.
    fn last(&self) -> Result<Option<Block>, StoreError>;

    /// A block, checked; `None` if there is no such block.
    ///
    /// # Errors
    /// As [`Journal::last`].
    fn block(&self, number: BlockNumber) -> Result<Option<Block>, StoreError>;

    /// The blocks from a number on, in order, each checked by itself. That they are dense and
    /// chained is for the caller to check. Ends after the first error.
    fn read_from(
        &self,
        number: BlockNumber,
    ) -> Box<dyn Iterator<Item = Result<Block, StoreError>> + '_>;

    /// The block that holds the commit of that seq; `None` if there is no such commit.
    ///
    /// # Errors
    /// As [`Journal::last`].
    fn block_of(&self, seq: CommitSeq) -> Result<Option<BlockNumber>, StoreError>;

    /// The end of the last block whose logical time is at or before `time`.
    ///
    /// # Errors
    /// As [`Journal::last`].
    fn position_at(&self, time: Time) -> Result<Position, StoreError>;

    /// The directory after the last block: all assets, then all accounts, then all markets.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with the row at fault, or what the disk says.
    fn directory(&self, row: &mut dyn FnMut(DirectoryRow)) -> Result<(), StoreError>;

    /// Deposits less withdrawals per asset after the last block; assets without any are left out.
    ///
    /// # Errors
    /// As [`Journal::directory`].
    fn supplies(&self) -> Result<Vec<(AssetId, Amount)>, StoreError>;
}

/// The derived families of the version store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Every version of every balance.
    Versions,
    /// Which block has the outcome of a request; open holds; which block resolved a hold; which
    /// references were credited; orders, and whose they are.
    Outcomes,
    /// Every version of every value under a caller's key.
    Records,
}

/// How far each derived family has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Of [`Family::Versions`].
    pub versions: Position,
    /// Of [`Family::Outcomes`].
    pub outcomes: Position,
    /// Of [`Family::Records`].
    pub records: Position,
}

impl Applied {
    /// What all have: `A`.
    pub fn all(&self) -> Position {
        self.versions.min(self.outcomes).min(self.records)
    }
}

/// A value under a caller's key as of some seq.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordVersion {
    /// The commit_seq that wrote or deleted it.
    pub seq: CommitSeq,
    /// The value; `None` if it was deleted.
    pub value: Option<Arc<[u8]>>,
}

/// Takes the rows of one fold of one family.
pub trait FamilyWriter {
    /// Adds a row. Keys ascend.
    ///
    /// # Errors
    /// What the disk says; the writer is of no use afterwards.
    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Removes a row, if there is one. Keys ascend, together with those of [`FamilyWriter::row`].
    ///
    /// # Errors
    /// As [`FamilyWriter::row`].
    fn delete(&mut self, key: &[u8]) -> Result<(), StoreError>;

    /// Makes all rows and the applied mark visible, at once and together.
    ///
    /// # Errors
    /// What the disk says; then nothing of it is visible.
    fn commit(self: Box<Self>) -> Result<(), StoreError>;
}

/// What is derived from the journal.
pub trait VersionStore: Send + Sync {
    /// A balance as of a seq, with the seq that made it so; `None` if it was not touched until then.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or what the disk says.
    fn get_at(
        &self,
        key: BalanceKey,
        seq: CommitSeq,
    ) -> Result<Option<(CommitSeq, Balance)>, StoreError>;

    /// All balances of an account as of a seq, by asset.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn account_at(&self, account: AccountId, seq: CommitSeq)
    -> Result<Vec<BalanceNow>, StoreError>;

    /// At most `limit` versions of a balance that are newer than `after`, oldest first.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn versions_after(
        &self,
        key: BalanceKey,
        after: CommitSeq,
        limit: usize,
    ) -> Result<Vec<(CommitSeq, Balance)>, StoreError>;

    /// A value as of a seq (`None` if it was deleted), with the seq that made it so; `None` if the
    /// key was not written until then.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn record_at(&self, key: &Key, seq: CommitSeq) -> Result<Option<RecordVersion>, StoreError>;

    /// Shows every key that was ever written, with its newest version.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn latest_records(&self, record: &mut dyn FnMut(Key, CommitSeq)) -> Result<(), StoreError>;

    /// The block that has the outcome of a request; `None` if none does that was folded.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn block_with(&self, id: RequestId) -> Result<Option<BlockNumber>, StoreError>;

    /// Shows every open hold.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn open_holds(&self, hold: &mut dyn FnMut(Hold)) -> Result<(), StoreError>;

    /// Every order that stands, in the order of their places in their markets.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn open_orders(&self) -> Result<Vec<StoredOrder>, StoreError>;

    /// How an order stands; `None` if it does not.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn open_order(&self, order: RequestId) -> Result<Option<OrderState>, StoreError>;

    /// The block that ended an order that stood; `None` if none did that was folded.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn block_ending(&self, order: RequestId) -> Result<Option<BlockNumber>, StoreError>;

    /// The orders of an account that are asked for and not skipped, newest first, with how they stand,
    /// all in one state of the store.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn orders_of(
        &self,
        asked: &Asked,
        skip: &dyn Fn(RequestId) -> bool,
    ) -> Result<FoldedOrders, StoreError>;

    /// The seqs after `after` of the commits with trades of a market, ascending, `limit` at most.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn trades_after(
        &self,
        market: MarketId,
        after: CommitSeq,
        limit: usize,
    ) -> Result<Vec<CommitSeq>, StoreError>;

    /// The price of the last trade of each market that had one.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn last_prices(&self) -> Result<Vec<(MarketId, Price)>, StoreError>;

    /// The block that ended a hold; `None` if none did that was folded.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn block_resolving(&self, token: Token) -> Result<Option<BlockNumber>, StoreError>;

    /// The commit_seq of the deposit that has a reference ([`crate::request::Transfer::reference_hash`]); `None` if
    /// none has that was folded.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn credited(&self, asset: AssetId, reference: u128) -> Result<Option<CommitSeq>, StoreError>;

    /// The oldest seq as of which everything can still be read.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn horizon(&self) -> Result<CommitSeq, StoreError>;

    /// Raises the horizon, durably, and drops what nobody can read any more: of each balance and
    /// key all versions but the newest at or below the horizon and those above. Takes its time.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn collect_garbage(&self, horizon: CommitSeq) -> Result<(), StoreError>;

    /// Shows the newest version of every balance, by account and asset.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn latest(
        &self,
        balance: &mut dyn FnMut(BalanceKey, Balance, CommitSeq),
    ) -> Result<(), StoreError>;

    /// Shows every version-7 request id whose time is at or after `millis` since the Unix epoch.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn ids_since(&self, millis: u64, id: &mut dyn FnMut(RequestId)) -> Result<(), StoreError>;

    /// How far each family has come.
    ///
    /// # Errors
    /// As [`VersionStore::get_at`].
    fn applied(&self) -> Result<Applied, StoreError>;

    /// Whether the store has so much to tidy up that the next fold had better wait.
    ///
    /// # Errors
    /// What the disk says.
    fn is_behind(&self) -> Result<bool, StoreError>;

    /// Begins a fold of one family that brings its applied mark to `to`. A `bulk` fold has many
    /// rows and is written as one sorted run.
    ///
    /// # Errors
    /// What the disk says, or that the store was opened for reading only.
    fn fold(
        &self,
        family: Family,
        to: Position,
        bulk: bool,
    ) -> Result<Box<dyn FamilyWriter + '_>, StoreError>;
}

#[cfg(test)]
mod tests;
