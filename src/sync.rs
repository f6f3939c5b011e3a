//! Locks and atomics of what many threads share without a channel: those of the standard library,
//! or loom's, which try every interleaving and every value that the memory model lets a thread see.
//!
//! Only what `tests/loom.rs` checks takes them from here. With the feature `loom` they work inside
//! `loom::model` and nowhere else, so nothing but that test is run with it.

#[cfg(not(feature = "loom"))]
pub(crate) use std::sync::{Mutex, OnceLock, RwLock, RwLockReadGuard, atomic};

#[cfg(feature = "loom")]
pub(crate) use loom::sync::{Mutex, RwLock, RwLockReadGuard, atomic};
#[cfg(feature = "loom")]
pub(crate) use once::OnceLock;

#[cfg(feature = "loom")]
mod once {
    use std::sync;

    use super::atomic::{AtomicBool, Ordering};

    /// loom has none. The value is loom's business only as far as it is seen: from the store of
    /// `ready` on, by whoever loads that.
    pub(crate) struct OnceLock<T> {
        value: sync::OnceLock<T>,
        ready: AtomicBool,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self { value: sync::OnceLock::new(), ready: AtomicBool::new(false) }
        }

        /// As in the standard library, who comes second returns when the first is done.
        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            let set = self.value.set(value);
            match &set {
                Ok(()) => self.ready.store(true, Ordering::Release),
                Err(_) => {
                    while !self.ready.load(Ordering::Acquire) {
                        loom::thread::yield_now();
                    }
                }
            }
            set
        }

        pub(crate) fn get(&self) -> Option<&T> {
            self.ready.load(Ordering::Acquire).then(|| self.value.get()).flatten()
        }
    }
}
