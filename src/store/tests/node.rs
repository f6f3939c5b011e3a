//! Commit log, materializer and reader over a real database, as the engine starts them.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

use super::world::{Told, World};
use crate::actor::{Mailbox, Poison, spawn};
use crate::clock::SystemClock;
use crate::config::Limits;
use crate::directory::Directory;
use crate::message::{Answered, ToLog};
use crate::store::commit_log::{self, LogShared};
use crate::store::durable::{Durable, InFlight, Progress};
use crate::store::materializer::{Drainer, Materializer, MaterializerInput, MaterializerShared};
use crate::store::reader::Reader;
use crate::store::recovery::{self, Recovered};
use crate::store::rocks::{self, Opened, RocksStore, Stats};
use crate::store::unfolded::{Unfolded, UnfoldedBlock};
use crate::store::{CommitLog, Durability, StoreError};

pub struct Node {
    pub mailbox: Sender<ToLog>,
    pub reader: Arc<Reader>,
    pub store: Arc<RocksStore>,
    pub recovered: Recovered,
    pub directory: Directory,
    pub poison: Poison,
    pub durable: Arc<Durable>,
    pub in_flight: Arc<InFlight>,
    pub unfolded: Arc<Unfolded>,
    drainer: Option<Drainer>,
    log: JoinHandle<()>,
    /// `None`: nothing is folded, blocks pile up here.
    materializer: Result<JoinHandle<()>, Receiver<Arc<UnfoldedBlock>>>,
    stats: Stats,
}

pub fn limits(shards: usize) -> Limits {
    Limits { shards, fold_requests_max: 300, unfolded_requests_max: 600, ..Limits::default() }
}

impl Node {
    pub fn start(data: &Path, limits: &Limits) -> Result<Self, StoreError> {
        Self::start_with(data, limits, true, |log| log)
    }

    /// Without a materializer: what becomes durable stays unfolded.
    pub fn start_unfolded(data: &Path, limits: &Limits) -> Result<Self, StoreError> {
        Self::start_with(data, limits, false, |log| log)
    }

    /// `wrap` may put something between the commit log and the disk.
    pub fn start_with(
        data: &Path,
        limits: &Limits,
        folds: bool,
        wrap: impl FnOnce(Box<dyn CommitLog>) -> Box<dyn CommitLog>,
    ) -> Result<Self, StoreError> {
        let Opened { log, store, mark, .. } = rocks::open(data, Durability::Off)?;
        let directory = Directory::new();
        let fold_max = limits.fold_requests_max;
        let recovered = recovery::recover(&*store, &*store, mark, &directory, fold_max)?;
        let (poison, clock) = (Poison::new(), Arc::new(SystemClock));
        let durable = Arc::new(Durable::new(recovered.last));
        let applied = Arc::new(Progress::new(recovered.applied.all()));
        let (unfolded, in_flight) = (Arc::new(Unfolded::new()), Arc::new(InFlight::new()));
        let reader = Reader::new(
            store.clone(),
            store.clone(),
            unfolded.clone(),
            durable.clone(),
            applied.clone(),
        );
        let shared = MaterializerShared {
            store: store.clone(),
            unfolded: unfolded.clone(),
            applied: applied.clone(),
            poison: poison.clone(),
            clock: clock.clone(),
        };
        let (input, drainer, materializer) = if folds {
            let (mut materializer, input, drainer) =
                Materializer::new(shared, recovered.applied, limits);
            let thread = spawn("materializer".into(), &poison, move || {
                materializer.run().map_err(|error| error.to_string())
            });
            (input, Some(drainer), Ok(thread.expect("thread")))
        } else {
            let (blocks, pile) = bounded(1_000);
            (MaterializerInput { blocks, folded: bounded(1).1 }, None, Err(pile))
        };
        let (mailbox, messages) = Mailbox::new(limits.log_mailbox_messages_max, &poison);
        let shared = LogShared {
            durable: durable.clone(),
            unfolded: unfolded.clone(),
            in_flight: in_flight.clone(),
            poison: poison.clone(),
            clock,
        };
        let (log, from) = (wrap(Box::new(log)), recovered.log_start());
        let mut log = commit_log::Actor::new(log, from, shared, limits, messages, input);
        let log = spawn("commit-log".into(), &poison, move || {
            log.run().map_err(|error| error.to_string())
        });
        let stats = rocks::spawn_stats(&store, &poison).expect("thread");
        Ok(Self {
            mailbox,
            reader: Arc::new(reader),
            store,
            recovered,
            directory,
            durable,
            in_flight,
            unfolded,
            drainer,
            log: log.expect("thread"),
            materializer,
            stats,
            poison,
        })
    }

    /// Hands over what was told; returns where the answers will be.
    pub fn send(&self, told: Told) -> oneshot::Receiver<Answered> {
        self.in_flight.admit(told.ids.len(), usize::MAX);
        let (messages, answers) = told.messages();
        for message in messages {
            // A log that was poisoned takes nothing.
            let _ = self.mailbox.send(message);
        }
        answers
    }

    /// The same, and waits for the answers.
    pub fn answered(&self, told: Told) -> Answered {
        self.send(told).blocking_recv().expect("answered")
    }

    /// Hands over what was told, waits until the engine stops, and sees that no answer came.
    pub fn unanswered(&self, told: Told) -> String {
        let mut answers = self.send(told);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let cause = runtime.block_on(self.poison.tripped());
        assert!(answers.try_recv().is_err(), "answered after {cause}");
        cause
    }

    /// A graceful stop: everything is answered, synced and folded.
    pub fn stop(self) {
        drop(self.mailbox);
        self.log.join().expect("its panic was caught");
        self.materializer.expect("it folds").join().expect("its panic was caught");
        self.stats.stop();
        assert_eq!(self.poison.cause(), None);
        assert_eq!(self.reader.applied_seq(), self.reader.durable_seq());
        assert_eq!(self.in_flight.get(), 0);
    }

    /// Everything ends where it is: nothing more is folded, answered or synced.
    pub fn crash(self) {
        self.poison.trip("a crash on purpose".into());
        drop(self.mailbox);
        self.log.join().expect("its panic was caught");
        if let Ok(materializer) = self.materializer {
            materializer.join().expect("its panic was caught");
        }
        self.stats.stop();
    }

    /// Waits until everything durable is folded.
    pub fn drain(&self) {
        let upto = self.durable.progress.block();
        assert!(self.drainer.as_ref().expect("it folds").drain(upto));
        assert!(self.unfolded.is_empty());
    }

    /// What the reader says equals the model, for every account, at every seq given.
    pub fn compare(&self, world: &World, accounts: u64, seqs: impl IntoIterator<Item = u64>) {
        for seq in seqs.into_iter().map(crate::types::CommitSeq::new) {
            for account in 0..accounts {
                let expected = world.at(account, seq);
                let account = crate::types::AccountId::new(account);
                let found = self.reader.account_at(account, seq).expect("read");
                let found: Vec<_> =
                    found.iter().map(|now| (now.asset, now.version, now.balance)).collect();
                assert_eq!(found, expected, "account {account} at seq {seq}");
            }
        }
    }
}
