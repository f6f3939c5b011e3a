//! RocksDB's own numbers, once a second. It has no callbacks for stalls: they are polled.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::RocksStore;
use crate::actor::{Poison, spawn};
use crate::error::Error;
use crate::metrics::{FamilyProperty, RocksFamilyMetrics, RocksMetrics, RocksProperty};
use crate::store::keys;

const POLL_MS: u64 = 1_000;

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
        poll(&store, &stopped);
        Ok(())
    })?;
    Ok(Stats { stop, thread })
}

fn poll(store: &Weak<RocksStore>, stopped: &Receiver<()>) {
    let whole = RocksMetrics::new();
    let families = keys::FAMILIES.map(|name| (name, RocksFamilyMetrics::new(name)));
    while let Some(store) = store.upgrade() {
        for property in RocksProperty::ALL {
            if let Some(value) = store.number(None, property.property()) {
                whole.set(property, value);
            }
        }
        for (name, family) in &families {
            for property in FamilyProperty::ALL {
                if let Some(value) = store.number(Some(name), property.property()) {
                    family.set(property, value);
                }
            }
        }
        drop(store);
        match stopped.recv_timeout(Duration::from_millis(POLL_MS)) {
            Err(crossbeam::channel::RecvTimeoutError::Timeout) => {}
            _ => return,
        }
    }
}

impl RocksStore {
    /// Bytes of the table files of a column family, by its name in `keys`. What is still in
    /// memory and in the log is not counted.
    pub fn family_bytes(&self, family: &str) -> u64 {
        self.number(Some(family), FamilyProperty::SstBytes.property()).unwrap_or(0.0) as u64
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
