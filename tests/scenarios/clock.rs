//! A clock that can be moved ahead, and that can do something to the thread that reads it: have it
//! wait, panic, or die with the whole process. The actors read the clock at known places, so this
//! stops the engine at a known point, without sleeping and hoping.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};

use rustix::process::{Signal, getpid, kill_process};

use crosslatch::clock::{Clock, SystemClock};
use crosslatch::types::Time;

/// What happens to the thread that reads the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spring {
    /// Nothing.
    Pass,
    /// It waits until the trap is taken away.
    Wait,
    /// It panics.
    Panic,
    /// The process dies as of SIGKILL.
    Die,
}

type Trap = Box<dyn FnMut(&str) -> Spring + Send>;

/// The machine's clock, moved ahead, with a trap.
#[derive(Default)]
pub struct TrapClock {
    ahead_millis: AtomicU64,
    trap: Mutex<Option<Trap>>,
    taken_away: Condvar,
}

impl TrapClock {
    /// Moves the time ahead.
    pub fn pass(&self, millis: u64) {
        self.ahead_millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_millis(&self) -> u64 {
        SystemClock.wall().millis() + self.ahead_millis.load(Ordering::SeqCst)
    }

    /// Sets a trap, which is asked with the name of each thread that reads the clock.
    pub fn set(&self, trap: impl FnMut(&str) -> Spring + Send + 'static) {
        *self.trap() = Some(Box::new(trap));
    }

    /// Has one thread wait when it next reads the clock.
    pub fn hold(&self, held: &'static str) {
        self.set(move |thread| if thread == held { Spring::Wait } else { Spring::Pass });
    }

    /// Takes the trap away, and lets go who waits in it.
    pub fn release(&self) {
        *self.trap() = None;
        self.taken_away.notify_all();
    }

    fn trap(&self) -> MutexGuard<'_, Option<Trap>> {
        self.trap.lock().expect("nobody panics with the trap in hand")
    }

    fn spring(&self) {
        let mut trap = self.trap();
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        let spring = trap.as_mut().map_or(Spring::Pass, |trap| trap(&name));
        match spring {
            Spring::Pass => {}
            Spring::Wait => {
                let free = self.taken_away.wait_while(trap, |trap| trap.is_some());
                drop(free.expect("nobody panics with the trap in hand"));
            }
            Spring::Panic => {
                drop(trap);
                panic!("the trap was set");
            }
            Spring::Die => {
                kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
                std::thread::park();
            }
        }
    }
}

impl Clock for TrapClock {
    fn boot_nanos(&self) -> u64 {
        self.spring();
        SystemClock.boot_nanos() + self.ahead_millis.load(Ordering::SeqCst) * 1_000_000
    }

    fn wall(&self) -> Time {
        Time::new(SystemClock.wall().get() + self.ahead_millis.load(Ordering::SeqCst) * 1_000)
    }
}

/// A trap for the n-th reading (from 0) by a thread.
pub fn nth(held: String, n: u64, spring: Spring) -> impl FnMut(&str) -> Spring + Send {
    let mut left = n;
    move |thread| {
        if thread != held {
            return Spring::Pass;
        }
        match left.checked_sub(1) {
            Some(less) => {
                left = less;
                Spring::Pass
            }
            None => spring,
        }
    }
}
