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

use crossbeam::channel::Sender;

use super::durable::{Durable, InFlight};
use super::log_core::{Effects, KINDS, LogCore, LogStart, PendingGroup, Reply};
use super::materializer::MaterializerInput;
use super::unfolded::{Unfolded, UnfoldedBlock};
use super::{CommitLog, StoreError};
use crate::actor::{Ended, Mailbox, Poison};
use crate::clock::Clock;
use crate::config::Limits;
use crate::error::Reject;
use crate::faults::{Bug, planted, point};
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

/// The commit log at work.
pub struct Actor {
    core: LogCore,
    log: Box<dyn CommitLog>,
    shared: LogShared,
    unfolded_requests_max: usize,
    mailbox: Mailbox<ToLog>,
    materializer: MaterializerInput,
    effects: Effects,
    metrics: LogMetrics,
}

/// What the commit log needs to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it may write another group.
    Nothing,
    /// A message.
    Message,
    /// Room in memory: that the materializer folds.
    Room,
    /// It has ended: the senders are gone and all is answered, or the engine is poisoned.
    Ended,
}

/// Whether the engine still answers.
#[derive(PartialEq, Eq)]
enum State {
    Running,
    Poisoned,
}

impl Actor {
    /// Goes on from the end of the journal.
    pub fn new(
        log: Box<dyn CommitLog>,
        from: LogStart,
        shared: LogShared,
        limits: &Limits,
        mailbox: Mailbox<ToLog>,
        materializer: MaterializerInput,
    ) -> Self {
        let metrics = LogMetrics::new();
        // Until the first commit it would be 0, and the lag behind it nonsense.
        metrics.durable_seq(from.last.seq.get());
        Self {
            core: LogCore::new(from, limits.shards, limits.commit_group_requests_max),
            log,
            shared,
            unfolded_requests_max: limits.unfolded_requests_max,
            mailbox,
            materializer,
            effects: Effects::default(),
            metrics,
        }
    }

    /// The actor's life: until every sender of its mailbox is gone, or the engine is poisoned.
    ///
    /// # Errors
    /// What the disk says, or that a commit would create or destroy value.
    pub fn run(&mut self) -> Result<(), StoreError> {
        loop {
            match self.step()? {
                Next::Nothing => {}
                Next::Message => self.wait_for_message(),
                Next::Room => self.wait_for_room(),
                Next::Ended => return Ok(()),
            }
        }
    }

    /// Takes what has come and writes at most one group, without waiting for anybody but the disk.
    /// For whoever schedules the actors himself, in the place of [`Actor::run`].
    ///
    /// # Errors
    /// As [`Actor::run`].
    pub fn step(&mut self) -> Result<Next, StoreError> {
        let ended = self.receive_waiting();
        if ended == Err(Ended::Poisoned) {
            return Ok(Next::Ended);
        }
        // Also of what came while the last group was written: nothing may wait for a message that
        // need not come.
        self.perform_effects();
        if !self.has_room() {
            return Ok(Next::Room);
        }
        let next = self.core.next_group();
        if matches!(next, Err(StoreError::Violation(_))) {
            self.metrics.supply_violation();
        }
        match (next?, ended) {
            (Some(group), _) => Ok(match self.write(group)? {
                State::Running => Next::Nothing,
                State::Poisoned => Next::Ended,
            }),
            (None, Ok(())) => Ok(Next::Message),
            (None, Err(_)) => self.stop().map(|()| Next::Ended),
        }
    }

    /// Whether everything that it has heard of is answered.
    pub fn is_idle(&self) -> bool {
        self.core.is_idle()
    }

    /// The next step sees why, if none comes.
    fn wait_for_message(&mut self) {
        if let Ok(first) = self.mailbox.recv() {
            self.metrics.mailbox(self.mailbox.len());
            self.core.take(first, self.shared.clock.boot_nanos(), &mut self.effects);
        }
    }

    fn receive_waiting(&mut self) -> Result<(), Ended> {
        let now = self.shared.clock.boot_nanos();
        while let Some(message) = self.mailbox.try_recv()? {
            self.core.take(message, now, &mut self.effects);
        }
        Ok(())
    }

    /// Makes a group durable, and everybody who depends on it hear of it.
    fn write(&mut self, mut group: PendingGroup) -> Result<State, StoreError> {
        if planted(Bug::AnswerBeforeSync) {
            let write = group.write.clone();
            let state = self.publish(group);
            return write.map_or(Ok(()), |write| self.log.append(&write)).map(|()| state);
        }
        if let Some(write) = &mut group.write {
            let began = self.shared.clock.boot_nanos();
            point!("log.append");
            let appended = self.log.append(write);
            if !planted(Bug::IgnoreFailure) {
                appended?;
            }
            point!("log.appended");
            self.metrics.fsync(self.shared.clock.boot_nanos().saturating_sub(began));
            self.metrics.group(group.requests as u64, write.block.bytes().len() as u64);
        }
        Ok(self.publish(group))
    }

    /// A group is durable: everybody who depends on it hears of it.
    fn publish(&mut self, group: PendingGroup) -> State {
        if self.shared.poison.is_tripped() {
            return State::Poisoned;
        }
        let block = group.write.as_ref().map(|write| Arc::clone(&write.block));
        let entry = block.map(|block| Arc::new(UnfoldedBlock::new(block)));
        let now = self.shared.clock.boot_nanos();
        for (nanos, requests) in &group.apply {
            self.metrics.apply(*nanos, *requests);
        }
        let persist = now.saturating_sub(group.complete_nanos);
        self.metrics.persist(persist, group.requests as u64);
        if let Some(entry) = entry.as_ref().filter(|_| !planted(Bug::ForgetUnfolded)) {
            self.shared.unfolded.push(Arc::clone(entry));
        }
        self.core.durable(group, &mut self.effects);
        let position = self.core.durable_position();
        point!("log.publish");
        self.shared.durable.publish(position, self.core.decisions_built());
        point!("log.published");
        self.metrics.durable_seq(position.seq.get());
        // Before the materializer is waited for.
        self.perform_effects();
        entry.map_or(State::Running, |entry| self.hand_over(entry))
    }

    fn perform_effects(&mut self) {
        // First: who has an answer finds it counted.
        self.count_outcomes();
        let now = self.shared.clock.boot_nanos();
        for reply in self.effects.replies.drain(..) {
            let Reply { submission, answered, kinds } = reply;
            let nanos = now.saturating_sub(submission.accepted_nanos);
            for (kind, n) in KINDS.iter().zip(kinds).filter(|(_, n)| *n > 0) {
                self.metrics.request(kind, nanos, u64::from(n));
            }
            self.shared.in_flight.release(submission.txns as usize);
            point!("log.answer");
            // A caller that no longer waits asks again by request id.
            let _ = submission.reply.send(answered);
            point!("log.answered");
        }
        for gate in self.effects.gates.drain(..) {
            point!("log.gate");
            (gate.open)();
        }
    }

    fn count_outcomes(&mut self) {
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
        point!("log.hand-over");
        let blocks: &Sender<_> = &self.materializer.blocks;
        crossbeam::channel::select! {
            // The materializer ends before us only when the engine is poisoned.
            send(blocks, entry) -> sent => sent.map_or(State::Poisoned, |()| State::Running),
            recv(self.shared.poison.listener()) -> _ => State::Poisoned,
        }
    }

    /// Whether little enough is durable and not folded.
    fn has_room(&self) -> bool {
        self.shared.unfolded.requests() <= self.unfolded_requests_max
    }

    /// Waits until something was folded.
    fn wait_for_room(&self) {
        crossbeam::channel::select! {
            // A materializer that is gone leaves no room: it ended for a cause.
            recv(self.materializer.folded) -> folded => if folded.is_err() {
                let _ = self.shared.poison.listener().recv();
            },
            recv(self.shared.poison.listener()) -> _ => {}
        }
    }

    fn stop(&mut self) -> Result<(), StoreError> {
        assert!(self.core.is_idle(), "every decision had its rows when the senders left");
        point!("log.stop");
        self.log.stop()
    }
}
