//! For tests alone: points at which the process can be made to die or its disk to fail, and bugs
//! that are planted to see whether the tests would find them. Without the feature `faults` all of
//! it compiles to nothing.
//!
//! ```text
//! FAILPOINTS='log.synced=37*off->return(kill)' crosslatch serve ...   # killed at the 38th sync
//! ```
//!
//! A point is named `room.what-happened`, or `room.what-happens-next` before it does.

/// What happens at the point that is passed here: nothing, unless a test asked for more. `kill` ends
/// the process as SIGKILL does; `panic`, `sleep`, `pause` are those of the crate `fail`.
macro_rules! point {
    ($name:literal) => {
        #[cfg(feature = "faults")]
        $crate::faults::pass($name);
    };
}
pub(crate) use point;

/// Has the points do what the environment variable `FAILPOINTS` asks for. Called once, first.
#[cfg(feature = "faults")]
pub fn arm() {
    // Its drop would disarm all points.
    std::mem::forget(fail::FailScenario::setup());
}

/// See [`point`].
#[cfg(feature = "faults")]
pub fn pass(name: &str) {
    let asked = fail::eval(name, |argument| argument);
    match asked.flatten().as_deref() {
        None => {}
        Some("kill") => {
            let me = rustix::process::getpid();
            let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
            // The signal is on its way.
            loop {
                std::thread::park();
            }
        }
        Some(other) => panic!("point {name}: {other:?} is not known; known are: kill"),
    }
}

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// None.
    None,
    /// The commit log answers before the block is synced.
    AnswerBeforeSync,
}

/// Whether a bug is planted in this thread.
#[cfg(feature = "faults")]
pub fn planted(bug: Bug) -> bool {
    PLANTED.get() == bug
}

/// Whether a bug is planted: never.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(feature = "faults")]
std::thread_local! {
    static PLANTED: std::cell::Cell<Bug> = const { std::cell::Cell::new(Bug::None) };
}

/// Plants a bug in what this thread does from now on; [`Bug::None`] takes it out.
#[cfg(feature = "faults")]
pub fn plant(bug: Bug) {
    PLANTED.set(bug);
}
