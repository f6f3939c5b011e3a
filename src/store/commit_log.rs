//! The commit log: the only thread that writes the journal, and the one that answers.
//!
//! ```text
//! loop: take what is in the mailbox
//!       one block of all decisions that are complete     (log_core, pure)
//!       write and sync it, then the mark                 (CommitLog)
//!       add it to the unfolded blocks, publish D
//!       answer submissions, open gates
//!       hand the block to the materializer; wait if memory holds too many
//! ```
//!
//! There is no timer: while one group is on its way to the disk the next one gathers in the
//! mailbox, so groups are as large as the disk is slow.
//!
//! Invariants
//! * One owner, one order: block *k+1* is never written before block *k* is durable (I2).
//! * `D` is published, and anything answered, only after the sync, and never once the engine is
//!   poisoned (I3, I4).

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::Sender;

use super::durable::{Durable, InFlight};
use super::log_core::{Effects, KINDS, LogCore, LogStart, PendingGroup, Reply};
use super::materializer::MaterializerInput;
use super::unfolded::{Unfolded, UnfoldedBlock};
use super::{CommitLog, StoreError};
use crate::actor::{Ended, Mailbox, Poison, spawn};
use crate::clock::Clock;
use crate::config::Limits;
use crate::error::{Error, Reject};
use crate::message::ToLog;
use crate::metrics::LogMetrics;
use crate::types::Resolution;

/// What the commit log shares with others.
#[derive(Clone)]
pub struct LogShared {
    /// `D`.
    pub durable: Arc<Durable>,
    /// Blocks stay in it until they are folded.
    pub unfolded: Arc<Unfolded>,
    /// Counted down as requests are answered.
    pub in_flight: Arc<InFlight>,
    /// The engine's switch.
    pub poison: Poison,
    /// Measures the stages.
    pub clock: Arc<dyn Clock>,
}

/// Starts the commit log's thread. It ends when every sender of the mailbox is gone and what was
/// in it is answered; the materializer's input is dropped then.
///
/// # Errors
/// When the operating system gives no thread.
pub fn start(
    log: Box<dyn CommitLog>,
    from: LogStart,
    shared: LogShared,
    limits: &Limits,
    mailbox: Mailbox<ToLog>,
    materializer: MaterializerInput,
) -> Result<JoinHandle<()>, Error> {
    let poison = shared.poison.clone();
    let mut actor = Actor {
        core: LogCore::new(from, limits.shards, limits.commit_group_requests_max),
        log,
        shared,
        unfolded_requests_max: limits.unfolded_requests_max,
        mailbox,
        materializer,
        effects: Effects::default(),
        metrics: LogMetrics::new(),
    };
    spawn("commit-log".into(), &poison, move || actor.run().map_err(|error| error.to_string()))
}

struct Actor {
    core: LogCore,
    log: Box<dyn CommitLog>,
    shared: LogShared,
    unfolded_requests_max: usize,
    mailbox: Mailbox<ToLog>,
    materializer: MaterializerInput,
    effects: Effects,
    metrics: LogMetrics,
}

/// Whether the engine still answers.
#[derive(PartialEq, Eq)]
enum State {
    Running,
    Poisoned,
}

impl Actor {
    fn run(&mut self) -> Result<(), StoreError> {
        loop {
            let ended = self.receive();
            if ended == Err(Ended::Poisoned) || self.write_complete()? == State::Poisoned {
                return Ok(());
            }
            if ended == Err(Ended::Drained) {
                return self.stop();
            }
        }
    }

    /// Waits for a message, then takes all that are there.
    fn receive(&mut self) -> Result<(), Ended> {
        let first = self.mailbox.recv()?;
        self.metrics.mailbox(self.mailbox.len());
        self.core.take(first, self.shared.clock.boot_nanos(), &mut self.effects);
        self.receive_waiting()
    }

    fn receive_waiting(&mut self) -> Result<(), Ended> {
        let now = self.shared.clock.boot_nanos();
        while let Some(message) = self.mailbox.try_recv()? {
            self.core.take(message, now, &mut self.effects);
        }
        Ok(())
    }

    /// Writes one group after another while decisions are complete, taking in what came meanwhile.
    fn write_complete(&mut self) -> Result<State, StoreError> {
        loop {
            // Also of what came while the last group was written: nothing may wait for a message
            // that need not come.
            self.perform_effects();
            let next = self.core.next_group();
            if matches!(next, Err(StoreError::Violation(_))) {
                self.metrics.supply_violation();
            }
            let Some(group) = next? else { return Ok(State::Running) };
            if self.write(group)? == State::Poisoned || self.wait_for_room() == State::Poisoned {
                return Ok(State::Poisoned);
            }
            // The end is noticed by the next receive.
            if self.receive_waiting() == Err(Ended::Poisoned) {
                return Ok(State::Poisoned);
            }
        }
    }

    /// Makes a group durable, and everybody who depends on it hear of it.
    fn write(&mut self, mut group: PendingGroup) -> Result<State, StoreError> {
        let mut entry = None;
        if let Some(write) = &mut group.write {
            let began = self.shared.clock.boot_nanos();
            self.log.append(write)?;
            self.metrics.fsync(self.shared.clock.boot_nanos().saturating_sub(began));
            let block = Arc::clone(&write.block);
            self.metrics.group(group.requests as u64, block.bytes().len() as u64);
            entry = Some(Arc::new(UnfoldedBlock::new(block)));
        }
        if self.shared.poison.is_tripped() {
            return Ok(State::Poisoned);
        }
        let now = self.shared.clock.boot_nanos();
        for (nanos, requests) in &group.apply {
            self.metrics.apply(*nanos, *requests);
        }
        let persist = now.saturating_sub(group.complete_nanos);
        self.metrics.persist(persist, group.requests as u64);
        if let Some(entry) = &entry {
            self.shared.unfolded.push(Arc::clone(entry));
        }
        self.core.durable(group, &mut self.effects);
        let position = self.core.durable_position();
        self.shared.durable.publish(position, self.core.decisions_built());
        self.metrics.durable_seq(position.seq.get());
        // Before the materializer is waited for.
        self.perform_effects();
        Ok(match entry {
            Some(entry) => self.hand_over(entry),
            None => State::Running,
        })
    }

    fn perform_effects(&mut self) {
        let now = self.shared.clock.boot_nanos();
        for reply in self.effects.replies.drain(..) {
            let Reply { submission, answered, kinds } = reply;
            let nanos = now.saturating_sub(submission.accepted_nanos);
            for (kind, n) in KINDS.iter().zip(kinds).filter(|(_, n)| *n > 0) {
                self.metrics.request(kind, nanos, u64::from(n));
            }
            self.shared.in_flight.release(submission.txns as usize);
            // A caller that no longer waits asks again by request id.
            let _ = submission.reply.send(answered);
        }
        for gate in self.effects.gates.drain(..) {
            (gate.open)();
        }
        let tally = std::mem::take(&mut self.effects.tally);
        for (place, kind) in KINDS.iter().enumerate() {
            for (settled, n) in [(true, tally.settled[place]), (false, tally.rejected[place])] {
                if n > 0 {
                    self.metrics.answered(kind, settled, n);
                }
            }
        }
        for (how, n) in Resolution::ALL.into_iter().zip(tally.resolved).filter(|(_, n)| *n > 0) {
            self.metrics.resolved(how.name(), n);
        }
        for (code, n) in Reject::CODES.iter().zip(tally.reasons).filter(|(_, n)| *n > 0) {
            self.metrics.rejected(code, n);
        }
    }

    fn hand_over(&self, entry: Arc<UnfoldedBlock>) -> State {
        let blocks: &Sender<_> = &self.materializer.blocks;
        crossbeam::channel::select! {
            // The materializer ends before us only when the engine is poisoned.
            send(blocks, entry) -> sent => sent.map_or(State::Poisoned, |()| State::Running),
            recv(self.shared.poison.listener()) -> _ => State::Poisoned,
        }
    }

    /// Waits while too much is durable and not folded.
    fn wait_for_room(&self) -> State {
        while self.shared.unfolded.requests() > self.unfolded_requests_max {
            crossbeam::channel::select! {
                recv(self.materializer.folded) -> folded => if folded.is_err() {
                    return State::Poisoned;
                },
                recv(self.shared.poison.listener()) -> _ => return State::Poisoned,
            }
        }
        State::Running
    }

    fn stop(&mut self) -> Result<(), StoreError> {
        assert!(self.core.is_idle(), "every decision had its rows when the senders left");
        self.log.stop()
    }
}
