//! Folds durable blocks into the version store, behind everybody's back.
//!
//! The longer it gathers, the less a swap costs: rows of a balance are packed into one, and the
//! rows are sorted once. The shorter, the less has to be kept in memory. So it folds when it has
//! gathered a full fold, or when nothing more comes.
//!
//! Invariants
//! * Blocks are folded in their order, each family up to its own applied mark, which is part of
//!   the same atomic write: folding again after a crash begins behind the mark.
//! * `A` moves when all families have a block, and the block is dropped from memory only then.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::durable::Progress;
use super::holds::HoldFold;
use super::journal::{Block, Event, Mark};
use super::keys::IdIndex;
use super::orders::{self, OrderFold};
use super::outcomes::IdFold;
use super::records::RecordFold;
use super::references::ReferenceFold;
use super::unfolded::{Unfolded, UnfoldedBlock};
use super::versions::Fold;
use super::{Applied, Family, FamilyWriter, Position, StoreError, VersionStore};
use crate::actor::Poison;
use crate::clock::Clock;
use crate::config::Limits;
use crate::faults::{Bug, planted, point};
use crate::metrics::MaterializerMetrics;
use crate::types::{BlockNumber, CommitSeq};

/// From this many requests on, a fold is written as a sorted file of its own.
const BULK_REQUESTS_MIN: usize = 20_000;
/// From so many bytes of callers' values on, they are written as a sorted file of their own.
const BULK_RECORD_BYTES_MIN: usize = 1 << 20;
/// So many bytes of callers' values are folded however few requests brought them.
const FOLD_RECORD_BYTES_MAX: usize = 128 << 20;
/// Nothing new for so long: fold what there is.
const IDLE_MS: u64 = 50;
/// What was gathered for so long is folded even if more keeps coming.
const AGE_MAX_NANOS: u64 = 3_000_000_000;
/// So many blocks are folded however few requests they hold: readers look through each of them.
const FOLD_BLOCKS_MAX: usize = 4_096;
/// How often, and how many times at most, it looks whether the store has caught up.
const STORE_POLL_MS: u64 = 20;
const STORE_POLLS_MAX: u32 = 500;
/// How often a drain looks whether the thread is still there.
const DRAIN_POLL_MS: u64 = 50;
/// Blocks on their way from the commit log.
const QUEUE_BLOCKS_MAX: usize = 65_536;

/// What is gathered for the next fold. Pure but for the store that it is given.
pub struct Folder {
    versions: Fold,
    outcomes: OutcomesFold,
    records: RecordFold,
    /// How far each family was when gathering began.
    applied: Applied,
    /// The last block gathered.
    last: Position,
    requests: usize,
    blocks: usize,
}

impl Folder {
    /// Goes on from what each family has.
    pub fn new(applied: Applied) -> Self {
        Self {
            versions: Fold::new(),
            outcomes: OutcomesFold::new(),
            records: RecordFold::new(),
            applied,
            last: applied.all(),
            requests: 0,
            blocks: 0,
        }
    }

    /// Adds the next block; families that have it already are left alone.
    pub fn add(&mut self, block: &Block) {
        let number = block.header().number;
        assert_eq!(number, self.last.block.next(), "blocks are folded in order");
        let again = planted(Bug::FoldTwice);
        let skipped = planted(Bug::SkipBlock) && number.get().is_multiple_of(5);
        if (number > self.applied.versions.block || again) && !skipped {
            self.versions.add(block);
        }
        let outcomes = number > self.applied.outcomes.block || again;
        if outcomes {
            self.outcomes.ids.add_outcomes(block);
        }
        let records = number > self.applied.records.block;
        block.visit_marks(|seq, mark| match mark {
            Mark::Other(Event::Wrote(write)) if records => self.records.add(seq, write),
            Mark::Other(Event::Wrote(_)) => {}
            mark if outcomes => self.outcomes.add(number, seq, mark),
            _ => {}
        });
        self.last = Position::after(block);
        self.requests += block.header().commits as usize + block.header().refusals as usize;
        self.blocks += 1;
    }

    /// Requests gathered.
    pub fn requests(&self) -> usize {
        self.requests
    }

    /// Blocks gathered.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Whether it had better be finished: it has `requests_max` requests, or very many bytes.
    pub fn is_full(&self, requests_max: usize) -> bool {
        self.requests >= requests_max || self.records.bytes() >= FOLD_RECORD_BYTES_MAX
    }

    /// Writes what was gathered; returns the position that all families have now.
    ///
    /// # Errors
    /// What the store says. Nothing of a family is written then, or all of it.
    pub fn finish(&mut self, store: &dyn VersionStore) -> Result<Position, StoreError> {
        let bulk = self.requests >= BULK_REQUESTS_MIN;
        self.finish_outcomes(store, bulk)?;
        self.finish_records(store, self.records.bytes() >= BULK_RECORD_BYTES_MIN)?;
        self.finish_versions(store, bulk)?;
        (self.requests, self.blocks) = (0, 0);
        Ok(self.last)
    }

    /// Writes the versions that were gathered, as a sorted file if `bulk` and there are any.
    ///
    /// # Errors
    /// As [`Folder::finish`].
    pub fn finish_versions(
        &mut self,
        store: &dyn VersionStore,
        bulk: bool,
    ) -> Result<(), StoreError> {
        if self.last > self.applied.versions {
            let bulk = bulk && !self.versions.is_empty();
            point!("fold.versions");
            let mut writer = store.fold(Family::Versions, self.last, bulk)?;
            self.versions.finish(|key, value| writer.row(key, value))?;
            writer.commit()?;
            point!("fold.versions-written");
            self.applied.versions = self.last;
        }
        Ok(())
    }

    /// Writes the outcomes that were gathered, as [`Folder::finish_versions`] does.
    ///
    /// # Errors
    /// As [`Folder::finish`].
    pub fn finish_outcomes(
        &mut self,
        store: &dyn VersionStore,
        bulk: bool,
    ) -> Result<(), StoreError> {
        if self.last > self.applied.outcomes {
            let bulk = bulk && !self.outcomes.is_empty();
            point!("fold.outcomes");
            let mut writer = store.fold(Family::Outcomes, self.last, bulk)?;
            self.outcomes.finish(&mut *writer)?;
            writer.commit()?;
            point!("fold.outcomes-written");
            self.applied.outcomes = self.last;
        }
        Ok(())
    }

    /// Writes the records that were gathered, as [`Folder::finish_versions`] does.
    ///
    /// # Errors
    /// As [`Folder::finish`].
    pub fn finish_records(
        &mut self,
        store: &dyn VersionStore,
        bulk: bool,
    ) -> Result<(), StoreError> {
        if self.last > self.applied.records {
            let bulk = bulk && !self.records.is_empty();
            point!("fold.records");
            let mut writer = store.fold(Family::Records, self.last, bulk)?;
            self.records.finish(|key, value| writer.row(key, value))?;
            writer.commit()?;
            point!("fold.records-written");
            self.applied.records = self.last;
        }
        Ok(())
    }
}

/// What is gathered for [`Family::Outcomes`].
struct OutcomesFold {
    ids: IdFold,
    holds: HoldFold,
    resolved: IdFold,
    references: ReferenceFold,
    orders: OrderFold,
    ended: IdFold,
}

impl OutcomesFold {
    fn new() -> Self {
        Self {
            ids: IdFold::new(IdIndex::Outcomes),
            holds: HoldFold::new(),
            resolved: IdFold::new(IdIndex::Resolved),
            references: ReferenceFold::new(),
            orders: OrderFold::new(),
            ended: IdFold::new(IdIndex::Ended),
        }
    }

    fn add(&mut self, block: BlockNumber, seq: CommitSeq, mark: Mark<'_>) {
        let event = match mark {
            Mark::Made { token, record } => return self.holds.made(token, seq, record),
            Mark::Other(event) => event,
        };
        match event {
            Event::Resolved(token, _) => {
                self.holds.ended(token);
                self.resolved.add(token.request(), block);
            }
            Event::Credited(asset, reference) => self.references.add(asset, reference, seq),
            Event::Traded(traded) => {
                self.orders.add(&traded, seq);
                orders::ended(&traded).for_each(|order| self.ended.add(order, block));
            }
            Event::Held(_) | Event::Wrote(_) => {}
        }
    }

    fn is_empty(&self) -> bool {
        self.ids.is_empty()
            && self.holds.is_empty()
            && self.resolved.is_empty()
            && self.references.is_empty()
            && self.orders.is_empty()
            && self.ended.is_empty()
    }

    /// In the order of their tags, and so of the keys.
    fn finish(&mut self, writer: &mut dyn FamilyWriter) -> Result<(), StoreError> {
        self.ids.finish(|key, value| writer.row(key, value))?;
        self.holds.finish(|key, value| match value {
            Some(value) => writer.row(key, value),
            None => writer.delete(key),
        })?;
        self.resolved.finish(|key, value| writer.row(key, value))?;
        self.references.finish(|key, value| writer.row(key, value))?;
        self.orders.finish(|key, value| match value {
            Some(value) => writer.row(key, value),
            None => writer.delete(key),
        })?;
        self.ended.finish(|key, value| writer.row(key, value))?;
        self.orders.finish_indexes(|key, value| match value {
            Some(value) => writer.row(key, value),
            None => writer.delete(key),
        })
    }
}

/// What the materializer shares with others.
#[derive(Clone)]
pub struct MaterializerShared {
    /// Where the folds go.
    pub store: Arc<dyn VersionStore>,
    /// Blocks leave it when they are folded.
    pub unfolded: Arc<Unfolded>,
    /// `A`.
    pub applied: Arc<Progress>,
    /// The engine's switch.
    pub poison: Poison,
    /// Measures what a fold takes.
    pub clock: Arc<dyn Clock>,
}

/// Where the commit log sends blocks; dropping it lets the materializer finish.
pub struct MaterializerInput {
    /// In order. Waits for room.
    pub blocks: Sender<Arc<UnfoldedBlock>>,
    /// Yields when blocks were folded, and so left memory.
    pub folded: Receiver<()>,
}

/// Someone waits until `A` covers a block.
struct Drain {
    upto: BlockNumber,
    /// Dropped when it does, or when the engine stops.
    _done: Sender<()>,
}

/// Asks the materializer to catch up. Cheap to clone.
#[derive(Clone)]
pub struct Drainer {
    drains: Sender<Drain>,
    applied: Arc<Progress>,
    poison: Poison,
}

impl Drainer {
    /// Waits until `A` covers the block; says whether it does (not if the engine stopped before).
    pub fn drain(&self, upto: BlockNumber) -> bool {
        let (done, wait) = bounded(1);
        let sent = self.drains.send(Drain { upto, _done: done }).is_ok();
        // What is sent to a thread that is just ending is neither refused nor dropped: look again.
        let poll = Duration::from_millis(DRAIN_POLL_MS);
        while sent && self.applied.block() < upto && !self.poison.is_tripped() {
            if wait.recv_timeout(poll) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        self.applied.block() >= upto
    }
}

/// The materializer at work.
pub struct Materializer {
    folder: Folder,
    shared: MaterializerShared,
    fold_requests_max: usize,
    inbox: Receiver<Arc<UnfoldedBlock>>,
    drain_requests: Receiver<Drain>,
    drains: Vec<Drain>,
    /// Keeps `drain_requests` connected.
    _drains: Sender<Drain>,
    room: Sender<()>,
    /// When the first block of the fold came.
    oldest_nanos: u64,
    metrics: MaterializerMetrics,
}

/// What woke the materializer.
enum Woken {
    Block(Arc<UnfoldedBlock>),
    Drain(Drain),
    Idle,
    Ended,
    Poisoned,
}

impl Materializer {
    /// Goes on from what each family has. Also where the commit log sends blocks, and how one waits
    /// for them to be folded.
    pub fn new(
        shared: MaterializerShared,
        applied: Applied,
        limits: &Limits,
    ) -> (Self, MaterializerInput, Drainer) {
        let fold_requests_max = limits.fold_requests_max;
        // A block has a request at least, and the commit log waits before more are unfolded.
        let (blocks, inbox) = bounded(QUEUE_BLOCKS_MAX.min(limits.unfolded_requests_max + 1));
        let (room, folded) = bounded(1);
        let (drains, drain_requests) = bounded(16);
        let poison = shared.poison.clone();
        let drainer =
            Drainer { drains: drains.clone(), applied: Arc::clone(&shared.applied), poison };
        let metrics = MaterializerMetrics::new();
        metrics.applied_seq(applied.all().seq.get());
        let this = Self {
            folder: Folder::new(applied),
            shared,
            fold_requests_max,
            inbox,
            drain_requests,
            drains: Vec::new(),
            _drains: drains,
            room,
            oldest_nanos: 0,
            metrics,
        };
        (this, MaterializerInput { blocks, folded }, drainer)
    }

    /// Gathers the next block if one is there, and folds if that fills the fold; says whether one was.
    /// For whoever schedules the actors himself, in the place of the thread.
    ///
    /// # Errors
    /// What the store says.
    pub fn step(&mut self) -> Result<bool, StoreError> {
        match self.inbox.try_recv() {
            Ok(entry) => self.gather(&entry.block).map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// The actor's life: until its input is gone and everything is folded, or the engine is poisoned.
    ///
    /// # Errors
    /// What the store says.
    pub fn run(&mut self) -> Result<(), StoreError> {
        loop {
            match self.next() {
                Woken::Block(entry) => self.gather(&entry.block)?,
                Woken::Drain(drain) => {
                    self.drains.push(drain);
                    self.answer_drains();
                }
                Woken::Idle => self.fold()?,
                Woken::Ended => return self.fold(),
                Woken::Poisoned => return Ok(()),
            }
        }
    }

    fn next(&self) -> Woken {
        if self.shared.poison.is_tripped() {
            return Woken::Poisoned;
        }
        // Blocks that are there go before everything: folding is for when none is.
        if let Ok(entry) = self.inbox.try_recv() {
            return Woken::Block(entry);
        }
        let waiting = !self.drains.is_empty() && self.folder.blocks() > 0;
        let idle = match self.folder.blocks() {
            0 => Duration::from_secs(3_600),
            _ if waiting => Duration::ZERO,
            _ => Duration::from_millis(IDLE_MS),
        };
        crossbeam::channel::select! {
            recv(self.inbox) -> entry => entry.map_or(Woken::Ended, Woken::Block),
            recv(self.drain_requests) -> drain => drain.map_or(Woken::Idle, Woken::Drain),
            recv(self.shared.poison.listener()) -> _ => Woken::Poisoned,
            default(idle) => Woken::Idle,
        }
    }

    fn gather(&mut self, block: &Block) -> Result<(), StoreError> {
        self.metrics.mailbox(self.inbox.len());
        let now = self.shared.clock.boot_nanos();
        if self.folder.blocks() == 0 {
            self.oldest_nanos = now;
        }
        self.folder.add(block);
        let full = self.folder.is_full(self.fold_requests_max)
            || self.folder.blocks() >= FOLD_BLOCKS_MAX
            || now.saturating_sub(self.oldest_nanos) >= AGE_MAX_NANOS;
        if full { self.fold() } else { Ok(()) }
    }

    /// Folds what was gathered.
    ///
    /// # Errors
    /// What the store says.
    pub fn fold(&mut self) -> Result<(), StoreError> {
        if self.folder.blocks() > 0 {
            self.wait_for_store()?;
            let began = self.shared.clock.boot_nanos();
            let requests = self.folder.requests();
            let applied = self.folder.finish(&*self.shared.store)?;
            point!("fold.publish");
            self.shared.applied.publish(applied);
            point!("fold.published");
            self.shared.unfolded.remove_through(applied.block);
            point!("fold.forgotten");
            // Full means that the commit log has a wake-up waiting already.
            let _ = self.room.try_send(());
            let took = self.shared.clock.boot_nanos().saturating_sub(began);
            self.metrics.fold(took, requests as u64);
            self.metrics.applied_seq(applied.seq.get());
        }
        self.answer_drains();
        Ok(())
    }

    /// Waits, within limits, while the store merges what earlier folds left.
    fn wait_for_store(&self) -> Result<(), StoreError> {
        for _ in 0..STORE_POLLS_MAX {
            if !self.shared.store.is_behind()? {
                break;
            }
            crossbeam::channel::select! {
                recv(self.shared.poison.listener()) -> _ => break,
                default(Duration::from_millis(STORE_POLL_MS)) => {}
            }
        }
        Ok(())
    }

    fn answer_drains(&mut self) {
        let applied = self.shared.applied.block();
        // Dropping a drain tells who waits for it.
        self.drains.retain(|drain| drain.upto > applied);
    }
}
