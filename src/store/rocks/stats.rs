//! RocksDB's own numbers, once a second. It has no callbacks for stalls, nor for flushes and
//! compactions that fail: they are polled.
//!
//! A failure in the background is final, as one in front is (I4): what RocksDB would try again, or
//! leave undone, ends the engine with RocksDB's own words for it.

use std::fs;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::{DB_DIRECTORY, RocksStore};
use crate::actor::{Poison, spawn};
use crate::error::Error;
use crate::metrics::{
    DiskMetrics, FamilyProperty, RocksFamilyMetrics, RocksMetrics, RocksProperty,
};
use crate::store::{StoreError, keys};

const POLL_MS: u64 = 200;
/// Numbers are shown every so many polls.
const POLLS_PER_SHOW: u32 = 5;
/// What RocksDB says to people; the last failure is near its end.
const TEXT_LOG: &str = "LOG";
/// How it begins to say that something in the background went wrong.
const SAID: &str = "Waiting after background ";
/// How it ends.
const COUNTED: &str = ", Accumulated background error counts";

/// The polling thread. Stop it before the store is closed.
pub struct Stats {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Stats {
    /// Ends the thread and waits for it.
    pub fn stop(self) {
        drop(self.stop);
        // Its panic was caught and has poisoned the engine.
        let _ = self.thread.join();
    }
}

/// Starts polling, until it is stopped or the store is closed.
///
/// # Errors
/// When the operating system gives no thread.
pub fn spawn_stats(store: &Arc<RocksStore>, poison: &Poison) -> Result<Stats, Error> {
    let (stop, stopped) = bounded(0);
    let store = Arc::downgrade(store);
    let thread = spawn("rocksdb-stats".into(), poison, move || {
        poll(&store, &stopped).map_err(|error| error.to_string())
    })?;
    Ok(Stats { stop, thread })
}

/// How flushes and compactions went.
enum Background {
    Well,
    /// Something failed, RocksDB has not yet said what.
    Unexplained,
}

fn poll(store: &Weak<RocksStore>, stopped: &Receiver<()>) -> Result<(), StoreError> {
    let whole = RocksMetrics::new();
    let families = keys::FAMILIES.map(|name| (name, RocksFamilyMetrics::new(name)));
    let disk = DiskMetrics::new();
    let (mut polls, mut unexplained) = (0, 0);
    while let Some(store) = store.upgrade() {
        match store.check_background(unexplained >= POLLS_PER_SHOW)? {
            Background::Well => unexplained = 0,
            Background::Unexplained => unexplained += 1,
        }
        store.note_manifest()?;
        if polls % POLLS_PER_SHOW == 0 {
            show(&store, &whole, &families);
            store.show_disk(&disk);
        }
        polls += 1;
        drop(store);
        match stopped.recv_timeout(Duration::from_millis(POLL_MS)) {
            Err(crossbeam::channel::RecvTimeoutError::Timeout) => {}
            _ => return Ok(()),
        }
    }
    Ok(())
}

fn show(store: &RocksStore, whole: &RocksMetrics, families: &[(&str, RocksFamilyMetrics)]) {
    for property in RocksProperty::ALL {
        if let Some(value) = store.number(None, property.property()) {
            whole.set(property, value);
        }
    }
    for (name, family) in families {
        for property in FamilyProperty::ALL {
            if let Some(value) = store.number(Some(name), property.property()) {
                family.set(property, value);
            }
        }
    }
}

impl RocksStore {
    /// Bytes of the table files of a column family, by its name in `keys`. What is still in
    /// memory and in the log is not counted.
    pub fn family_bytes(&self, family: &str) -> u64 {
        self.number(Some(family), FamilyProperty::SstBytes.property()).unwrap_or(0.0) as u64
    }

    /// How much room is left for the data; what a file system does not say is left as it was.
    fn show_disk(&self, disk: &DiskMetrics) {
        if let Ok(room) = rustix::fs::statvfs(self.data()) {
            disk.show(room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize);
        }
    }

    /// Whether everything in the background went well so far. RocksDB counts first and then says
    /// what it was, so words are waited for unless `at_once`.
    fn check_background(&self, at_once: bool) -> Result<Background, StoreError> {
        let errors = self.number(None, RocksProperty::BackgroundErrors.property());
        if errors.is_none_or(|errors| errors == 0.0) {
            return Ok(Background::Well);
        }
        let log = self.data().join(DB_DIRECTORY).join(TEXT_LOG);
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let said = text.lines().rev().find_map(|line| Some(line.split_once(SAID)?.1));
        let said = match said.and_then(|said| Some(said.rsplit_once(COUNTED)?.0.to_owned())) {
            None if !at_once => return Ok(Background::Unexplained),
            None => format!("see {}", log.display()),
            Some(said) => said,
        };
        Err(StoreError::Io(format!("RocksDB failed in the background: {said}")))
    }

    /// A property of a family, or of the store; `None` where RocksDB has no number.
    fn number(&self, family: Option<&str>, property: &str) -> Option<f64> {
        let found = match family {
            None => self.db.property_int_value(property),
            Some(name) => self.db.property_int_value_cf(self.family(name), property),
        };
        // Level 0's file count is text.
        match found {
            Ok(Some(number)) => Some(number as f64),
            _ => self.text(family, property)?.trim().parse().ok(),
        }
    }

    fn text(&self, family: Option<&str>, property: &str) -> Option<String> {
        match family {
            None => self.db.property_value(property).ok()?,
            Some(name) => self.db.property_value_cf(self.family(name), property).ok()?,
        }
    }
}
