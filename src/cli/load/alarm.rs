//! A switch that others wait for: the user's Ctrl-C, or the end of what is shown live.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// Goes off once, and stays so.
#[derive(Debug)]
pub(super) struct Alarm {
    off: AtomicBool,
    /// Nothing is ever sent: dropping the sender wakes whoever waits.
    bell: Mutex<Option<Sender<Infallible>>>,
    listener: Receiver<Infallible>,
}

impl Alarm {
    /// Has not gone off.
    pub(super) fn new() -> Self {
        let (bell, listener) = bounded(0);
        Self { off: AtomicBool::new(false), bell: Mutex::new(Some(bell)), listener }
    }

    /// Goes off.
    pub(super) fn ring(&self) {
        self.off.store(true, Ordering::Release);
        drop(self.bell.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Whether it went off.
    pub(super) fn has_rung(&self) -> bool {
        self.off.load(Ordering::Acquire)
    }

    /// Waits until it goes off, or so long; returns whether it went off.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        matches!(self.listener.recv_timeout(timeout), Err(RecvTimeoutError::Disconnected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_wakes_who_waits_and_stays_off() {
        let alarm = Alarm::new();
        assert!(!alarm.wait(Duration::from_millis(1)));
        assert!(!alarm.has_rung());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| alarm.wait(Duration::from_secs(60)));
            alarm.ring();
            assert!(waits.join().expect("no panic"));
        });
        assert!(alarm.wait(Duration::ZERO) && alarm.has_rung());
        alarm.ring();
    }
}
