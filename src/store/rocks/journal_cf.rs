//! The journal in RocksDB: one block and what it changed of the directory in one synced write.
//!
//! Rows of the directory are plain latest state, and are written with the block that changed
//! them: after a crash they are exactly as the last block left them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rocksdb::{DBRawIterator, FlushOptions, ReadOptions, WriteBatch, WriteOptions};

use super::archived::ArchivedBlocks;
use super::{RocksStore, damaged, io, options};
use crate::access::{ApiKey, KeyNumber};
use crate::address::Link;
use crate::coordinator::ids::Resolved;
use crate::faults::point;
use crate::market::MarketSpec;
use crate::request::{AssetSpec, Command};
use crate::store::journal::{Block, decode_command, encode_command};
use crate::store::keys::KeyKind;
use crate::store::mark::Mark;
use crate::store::{
    Beginning, CommitLog, DirectoryRow, Durability, Group, Journal, Position, StoreError, keys,
};
use crate::types::{
    AccountId, Amount, AssetId, BlockNumber, CommitSeq, MarketId, Operation, Time, Token,
};

/// Families that get a few rows with every block or fold: their memtables never fill, and the log
/// could not be deleted for as long as they keep rows of it.
const RARELY_FULL: [&str; 5] =
    [keys::BLOCKS, keys::RECORDS, keys::META, keys::ACCOUNTS, keys::ASSETS];

/// The writing side of the log.
pub struct RocksLog {
    store: Arc<RocksStore>,
    mark: Mark,
    write: WriteOptions,
    /// Names of the assets that have a number, in order: the next one gets the next number.
    assets: HashSet<Box<str>>,
    /// The same of the markets.
    markets: HashSet<Box<str>>,
    /// Numbers of the API keys.
    keys: HashMap<Box<str>, KeyNumber>,
    /// Bytes of the blocks since the families that are rarely full were flushed.
    unflushed_bytes: usize,
}

impl RocksLog {
    pub(super) fn new(
        store: Arc<RocksStore>,
        mark: Mark,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        let mut assets = HashSet::new();
        store.assets(&mut |_, spec| {
            assets.insert(spec.name);
        })?;
        let mut markets = HashSet::new();
        store.markets(&mut |_, spec, _| {
            markets.insert(spec.name);
        })?;
        let mut keys = HashMap::new();
        store.api_keys(&mut |number, key, _| {
            keys.insert(key.name, number);
        })?;
        let write = options::journal_write(durability);
        Ok(Self { store, mark, write, assets, markets, keys, unflushed_bytes: 0 })
    }

    /// Adds the directory rows that the commands leave behind.
    fn put_directory(
        &mut self,
        batch: &mut WriteBatch,
        commands: &[Command],
    ) -> Result<(), StoreError> {
        let mut accounts: HashMap<AccountId, Vec<Link>> = HashMap::new();
        for command in commands {
            match command {
                Command::PutAsset(spec) => self.put_asset(batch, spec),
                Command::PutAccount { account, links } => {
                    let known = self.links(&mut accounts, *account)?;
                    for link in links {
                        if !known.contains(link) {
                            known.push(link.clone());
                        }
                    }
                }
                Command::RemoveLink { account, chain } => {
                    self.links(&mut accounts, *account)?.retain(|link| link.chain != *chain);
                }
                Command::PutMarket(spec) => self.put_market(batch, spec),
                Command::SwitchMarket { market, halted } => {
                    let (family, key) = (self.store.family(keys::ASSETS), keys::halted(*market));
                    match halted {
                        true => batch.put_cf(family, key, b""),
                        false => batch.delete_cf(family, key),
                    }
                }
                Command::PutKey(_) | Command::RevokeKey(_) | Command::Operate(_) => {
                    self.put_access(batch, command);
                }
                moves => unreachable!("not a directory command: {}", moves.kind()),
            }
        }
        let family = self.store.family(keys::ACCOUNTS);
        let mut value = Vec::new();
        for (account, links) in accounts {
            value.clear();
            encode_command(&Command::PutAccount { account, links }, Time::NEVER, &mut value);
            batch.put_cf(family, keys::account(account), &value);
        }
        Ok(())
    }

    fn put_asset(&mut self, batch: &mut WriteBatch, spec: &AssetSpec) {
        // The same asset again is accepted and changes nothing.
        if self.assets.contains(&spec.name) {
            return;
        }
        let number = AssetId::new(u32::try_from(self.assets.len()).expect("ASSETS_MAX fits"));
        self.assets.insert(spec.name.clone());
        let mut value = Vec::new();
        encode_command(&Command::PutAsset(spec.clone()), Time::NEVER, &mut value);
        batch.put_cf(self.store.family(keys::ASSETS), keys::asset(number), &value);
    }

    fn put_market(&mut self, batch: &mut WriteBatch, spec: &MarketSpec) {
        // The same market again is accepted and changes nothing.
        if self.markets.contains(&spec.name) {
            return;
        }
        let number = u32::try_from(self.markets.len()).expect("MARKETS_MAX fits");
        self.markets.insert(spec.name.clone());
        let mut value = Vec::new();
        encode_command(&Command::PutMarket(Box::new(spec.clone())), Time::NEVER, &mut value);
        let key = keys::market(MarketId::new(number));
        batch.put_cf(self.store.family(keys::ASSETS), key, &value);
    }

    /// Who may do what: rows that are overwritten with each change.
    fn put_access(&mut self, batch: &mut WriteBatch, command: &Command) {
        let family = self.store.family(keys::ASSETS);
        let mut value = Vec::new();
        encode_command(command, Time::NEVER, &mut value);
        match command {
            Command::PutKey(key) => {
                let next = KeyNumber(u32::try_from(self.keys.len()).expect("KEYS_MAX fits"));
                let number = *self.keys.entry(key.name.clone()).or_insert(next);
                batch.put_cf(family, keys::api_key(number), &value);
            }
            Command::RevokeKey(name) => {
                batch.put_cf(family, keys::revoked(self.keys[name]), b"");
            }
            _ => batch.put_cf(family, keys::OPERATION, &value),
        }
    }

    /// The links of an account as this group has them so far.
    fn links<'a>(
        &self,
        accounts: &'a mut HashMap<AccountId, Vec<Link>>,
        account: AccountId,
    ) -> Result<&'a mut Vec<Link>, StoreError> {
        use std::collections::hash_map::Entry;
        match accounts.entry(account) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let family = self.store.family(keys::ACCOUNTS);
                let row =
                    self.store.db.get_pinned_cf(family, keys::account(account)).map_err(io)?;
                let links =
                    row.as_deref().map(|value| decode_account(account, value)).transpose()?;
                Ok(entry.insert(links.unwrap_or_default()))
            }
        }
    }
}

impl RocksLog {
    /// Flushes what is rarely full as often as the journal's memtable fills, in the background.
    fn flush_rarely_full(&mut self, bytes: usize) -> Result<(), StoreError> {
        self.unflushed_bytes += bytes;
        if self.unflushed_bytes < options::JOURNAL_MEMTABLE_BYTES {
            return Ok(());
        }
        self.unflushed_bytes = 0;
        let mut flush = FlushOptions::default();
        flush.set_wait(false);
        RARELY_FULL.iter().try_for_each(|name| {
            self.store.db.flush_cf_opt(self.store.family(name), &flush).map_err(io)
        })
    }
}

impl CommitLog for RocksLog {
    fn begin(&mut self, at: Position) -> Result<(), StoreError> {
        // What was recovered from the log was flushed to tables, which were synced, at the opening.
        self.mark.write(at)?;
        self.mark.sync()
    }

    fn append(&mut self, group: &Group) -> Result<(), StoreError> {
        let block = &group.block;
        let mut batch = WriteBatch::with_capacity_bytes(block.bytes().len() + 256);
        let key = keys::journal(block.header().number);
        batch.put_cf(self.store.family(keys::JOURNAL), key, block.bytes());
        self.store.index_block(&mut batch, block);
        if !group.directory.is_empty() {
            self.put_directory(&mut batch, &group.directory)?;
        }
        let meta = self.store.family(keys::META);
        for (asset, supply) in &group.supplies {
            batch.put_cf(meta, keys::supply(*asset), supply.get().to_be_bytes());
        }
        point!("journal.write");
        self.store.db.write_opt(batch, &self.write).map_err(io)?;
        point!("journal.written");
        self.mark.write(Position::after(block))?;
        point!("journal.marked");
        self.flush_rarely_full(block.bytes().len())
    }

    fn stop(&mut self) -> Result<(), StoreError> {
        point!("journal.stop");
        self.store.db.flush_wal(true).map_err(io)?;
        point!("journal.flushed");
        self.store.note_manifest()?;
        self.mark.sync()
    }
}

impl Journal for RocksStore {
    fn beginning(&self) -> Option<Beginning> {
        self.archive_ends()
    }

    fn archived_end(&self, token: Token) -> Result<Option<Resolved>, StoreError> {
        self.archived_end_of(token)
    }

    fn last(&self) -> Result<Option<Block>, StoreError> {
        let mut rows = self.db.raw_iterator_cf_opt(self.family(keys::JOURNAL), checked());
        rows.seek_to_last();
        match rows.item() {
            Some((key, value)) => decode_block(key, value).map(Some),
            None => rows.status().map(|()| None).map_err(io),
        }
    }

    fn block(&self, number: BlockNumber) -> Result<Option<Block>, StoreError> {
        let key = keys::journal(number);
        let found = self.db.get_pinned_cf_opt(self.family(keys::JOURNAL), key, &checked());
        match found.map_err(|error| StoreError::block(number, error))? {
            Some(value) => decode_block(&key, &value).map(Some),
            None => self.archived_block(number),
        }
    }

    fn read_from(
        &self,
        number: BlockNumber,
    ) -> Box<dyn Iterator<Item = Result<Block, StoreError>> + '_> {
        let mut options = checked();
        options.set_readahead_size(4 << 20);
        options.fill_cache(false);
        let mut rows = self.db.raw_iterator_cf_opt(self.family(keys::JOURNAL), options);
        rows.seek(keys::journal(number));
        // What these rows, which are as of now, do not have any more is in the archive by now.
        let archived = self.archive_ends().map_or(number, |begins| begins.after.block.next());
        let here = rows.key().and_then(keys::decode_journal).unwrap_or(archived);
        let older = self.archived_blocks(number, here.min(archived));
        Box::new(Blocks { older: Some(older), rows, expected: number, ended: false })
    }

    fn block_of(&self, seq: CommitSeq) -> Result<Option<BlockNumber>, StoreError> {
        self.indexed_block(seq)
    }

    fn position_at(&self, time: Time) -> Result<Position, StoreError> {
        self.indexed_position(time)
    }

    fn directory(&self, row: &mut dyn FnMut(DirectoryRow)) -> Result<(), StoreError> {
        self.assets(&mut |asset, spec| row(DirectoryRow::Asset(asset, spec)))?;
        let rows = self.db.raw_iterator_cf_opt(self.family(keys::ACCOUNTS), checked());
        each_row(rows, |key, value| {
            let account = keys::decode_account(key)
                .ok_or_else(|| damaged(format!("family accounts has the key {key:02x?}")))?;
            row(DirectoryRow::Account(account, decode_account(account, value)?));
            Ok(())
        })?;
        self.markets(&mut |market, spec, halted| {
            row(DirectoryRow::Market(market, Box::new(spec), halted));
        })?;
        self.api_keys(&mut |number, key, revoked| {
            row(DirectoryRow::ApiKey(number, Box::new(key), revoked));
        })?;
        self.operation()?.into_iter().for_each(|state| row(DirectoryRow::Operation(state)));
        Ok(())
    }

    fn supplies(&self) -> Result<Vec<(AssetId, Amount)>, StoreError> {
        let mut supplies = Vec::new();
        let rows = self.db.raw_iterator_cf_opt(self.family(keys::META), checked());
        each_row(rows, |key, value| {
            let Some(asset) = keys::decode_supply(key) else { return Ok(()) };
            let supply = <[u8; 16]>::try_from(value).map_err(|_| {
                damaged(format!("the supply of asset {asset} has the wrong length"))
            })?;
            supplies.push((asset, Amount::new(u128::from_be_bytes(supply))));
            Ok(())
        })?;
        Ok(supplies)
    }
}

impl RocksStore {
    fn assets(&self, asset: &mut dyn FnMut(AssetId, AssetSpec)) -> Result<(), StoreError> {
        let mut next = 0;
        let kind = KeyKind::Asset;
        self.rows_of_kind(keys::ASSETS, kind, &[kind as u8], |key, value| {
            if keys::decode_asset(key) != Some(AssetId::new(next)) {
                return Err(damaged(format!("asset {next} is missing before {key:02x?}")));
            }
            match decode_command(value) {
                Ok((Command::PutAsset(spec), _)) => asset(AssetId::new(next), spec),
                Ok(_) => {
                    return Err(damaged(format!("the row of asset {next} is of another kind")));
                }
                Err(damage) => return Err(damaged(format!("asset {next} {damage}"))),
            }
            next += 1;
            Ok(())
        })
    }
}

impl RocksStore {
    fn markets(
        &self,
        market: &mut dyn FnMut(MarketId, MarketSpec, bool),
    ) -> Result<(), StoreError> {
        let mut halted = HashSet::new();
        let kind = KeyKind::Halted;
        self.rows_of_kind(keys::ASSETS, kind, &[kind as u8], |key, _| {
            let number = keys::decode_halted(key)
                .ok_or_else(|| damaged(format!("family assets has the key {key:02x?}")))?;
            halted.insert(number);
            Ok(())
        })?;
        let (mut next, kind) = (0, KeyKind::Market);
        self.rows_of_kind(keys::ASSETS, kind, &[kind as u8], |key, value| {
            let number = MarketId::new(next);
            if keys::decode_market(key) != Some(number) {
                return Err(damaged(format!("market {next} is missing before {key:02x?}")));
            }
            match decode_command(value) {
                Ok((Command::PutMarket(spec), _)) => {
                    market(number, *spec, halted.remove(&number));
                }
                Ok(_) => {
                    return Err(damaged(format!("the row of market {next} is of another kind")));
                }
                Err(damage) => return Err(damaged(format!("market {next} {damage}"))),
            }
            next += 1;
            Ok(())
        })?;
        match halted.iter().min() {
            None => Ok(()),
            Some(number) => Err(damaged(format!("market {number} is halted and does not exist"))),
        }
    }
}

impl RocksStore {
    fn api_keys(&self, each: &mut dyn FnMut(KeyNumber, ApiKey, bool)) -> Result<(), StoreError> {
        let mut revoked = HashSet::new();
        let kind = KeyKind::Revoked;
        self.rows_of_kind(keys::ASSETS, kind, &[kind as u8], |key, _| {
            let number = keys::decode_revoked(key)
                .ok_or_else(|| damaged(format!("family assets has the key {key:02x?}")))?;
            revoked.insert(number.0);
            Ok(())
        })?;
        let (mut next, kind) = (0, KeyKind::ApiKey);
        self.rows_of_kind(keys::ASSETS, kind, &[kind as u8], |key, value| {
            if keys::decode_api_key(key) != Some(KeyNumber(next)) {
                return Err(damaged(format!("API key {next} is missing before {key:02x?}")));
            }
            match decode_command(value) {
                Ok((Command::PutKey(key), _)) => {
                    each(KeyNumber(next), *key, revoked.remove(&next));
                }
                Ok(_) => {
                    return Err(damaged(format!("the row of API key {next} is of another kind")));
                }
                Err(damage) => return Err(damaged(format!("API key {next} {damage}"))),
            }
            next += 1;
            Ok(())
        })?;
        match revoked.iter().min() {
            None => Ok(()),
            Some(number) => Err(damaged(format!("API key {number} is revoked and does not exist"))),
        }
    }

    fn operation(&self) -> Result<Option<Operation>, StoreError> {
        let family = self.family(keys::ASSETS);
        let row = self.db.get_pinned_cf_opt(family, keys::OPERATION, &checked()).map_err(io)?;
        row.map(|value| match decode_command(&value) {
            Ok((Command::Operate(state), _)) => Ok(state),
            Ok(_) => Err(damaged("the row of the state of operation is of another kind".into())),
            Err(damage) => Err(damaged(format!("the state of operation {damage}"))),
        })
        .transpose()
    }
}

/// Blocks in order, and the number that the next one should have.
struct Blocks<'a> {
    /// What comes first; `None` once it is read.
    older: Option<ArchivedBlocks<'a>>,
    rows: DBRawIterator<'a>,
    expected: BlockNumber,
    ended: bool,
}

impl Iterator for Blocks<'_> {
    type Item = Result<Block, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if let Some(block) = self.older.as_mut().and_then(Iterator::next) {
            self.ended = block.is_err();
            return Some(block);
        }
        self.older = None;
        let block = match self.rows.item() {
            Some((key, value)) => decode_block(key, value),
            None => {
                self.ended = true;
                let failed = self.rows.status().err()?;
                return Some(Err(StoreError::block(self.expected, failed)));
            }
        };
        match &block {
            Ok(block) => self.expected = block.header().number.next(),
            Err(_) => self.ended = true,
        }
        self.rows.next();
        Some(block)
    }
}

fn decode_block(key: &[u8], value: &[u8]) -> Result<Block, StoreError> {
    let number = keys::decode_journal(key)
        .ok_or_else(|| damaged(format!("family journal has the key {key:02x?}")))?;
    let block =
        Block::decode(value.to_vec()).map_err(|damage| StoreError::block(number, damage))?;
    let found = block.header().number;
    if found != number {
        return Err(StoreError::block(number, format!("it holds block {found}")));
    }
    Ok(block)
}

fn decode_account(account: AccountId, value: &[u8]) -> Result<Vec<Link>, StoreError> {
    match decode_command(value) {
        Ok((Command::PutAccount { account: found, links }, _)) if found == account => Ok(links),
        Ok(_) => Err(damaged(format!("the row of account {account} is of another kind"))),
        Err(damage) => Err(damaged(format!("account {account} {damage}"))),
    }
}

/// Shows every row of a family from the first on.
fn each_row(
    mut rows: DBRawIterator<'_>,
    mut row: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    rows.seek_to_first();
    while let Some((key, value)) = rows.item() {
        row(key, value)?;
        rows.next();
    }
    rows.status().map_err(io)
}

/// Reads check the checksum of every page.
fn checked() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options
}
