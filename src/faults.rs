//! For tests alone: points at which the process can be made to die or its disk to fail, and bugs
//! that are planted to see whether the tests would find them. Without the feature `faults` all of
//! it compiles to nothing.
//!
//! ```text
//! FAILPOINTS='log.synced=37*off->return(kill)' crosslatch serve ...   # killed at the 38th sync
//! ```
//!
//! A point is named `room.what-happened`, or `room.what-happens-next` before it does.

/// Every point, by room: a test that dies at each of them misses none.
pub const POINTS: [&str; 91] = [
    "coordinator.prepare",
    "coordinator.prepare-sent",
    "coordinator.ask-market",
    "coordinator.vote",
    "coordinator.voted",
    "coordinator.decide-sent",
    "coordinator.decide",
    "coordinator.decide-log",
    "coordinator.decided",
    "coordinator.stop",
    "shard.prepare",
    "shard.prepared",
    "shard.decide",
    "shard.decided",
    "shard.voted-late",
    "shard.apply",
    "log.append",
    "log.appended",
    "log.publish",
    "log.published",
    "log.answer",
    "log.answered",
    "log.gate",
    "log.hand-over",
    "log.stop",
    "journal.write",
    "journal.written",
    "journal.marked",
    "journal.stop",
    "journal.flushed",
    "fold.bulk-open",
    "fold.bulk-finish",
    "fold.bulk-ingest",
    "fold.small-write",
    "fold.versions",
    "fold.versions-written",
    "fold.outcomes",
    "fold.outcomes-written",
    "fold.records",
    "fold.records-written",
    "fold.publish",
    "fold.published",
    "fold.forgotten",
    "open.database",
    "open.opened",
    "open.cleared",
    "open.synced",
    "open.counted",
    "market.match",
    "market.matched",
    "mark.create",
    "mark.synced",
    "mark.renamed",
    "recover.checked",
    "recover.fold",
    "recover.folded",
    "recover.fold-rest",
    "recover.folded-rest",
    "recover.directory",
    "recover.holds",
    "recover.orders",
    "recover.balances",
    "recover.ids",
    "start.logging",
    "start.running",
    "stop.fold",
    "stop.folded",
    "snapshot.pin",
    "snapshot.pinned",
    "retention.raise",
    "retention.raised",
    "retention.dropped",
    "retention.stored",
    "retention.family-dropped",
    "archive.begin",
    "archive.written",
    "archive.synced",
    "archive.renamed",
    "archive.verified",
    "archive.removed",
    "archive.flushed",
    "archive.dropped",
    "backup.copy",
    "backup.copied",
    "backup.marked",
    "backup.audited",
    "backup.synced",
    "backup.described",
    "backup.publish",
    "backup.published",
    "backup.moved",
];

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

/// Bugs that can be planted, with what each does.
macro_rules! bugs {
    ($($bug:ident: $what:literal,)*) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Bug {
            /// None.
            None,
            $(#[doc = $what] $bug,)*
        }

        impl Bug {
            /// All of them, with what each does.
            pub const ALL: &[(Self, &str)] = &[$((Self::$bug, $what),)*];
        }
    };
}

bugs! {
    AnswerBeforeSync: "the commit log answers before the block is synced",
    ShowBeforeSync: "a read is shown before what it saw is durable",
    IgnoreFailure: "the commit log goes on after a write that failed",
    IgnoreMark: "recovery does not look whether the journal reaches the mark",
    ForgetUnfolded: "durable blocks that are not folded cannot be read",
    SkipBlock: "every fifth block is left out of the versions",
    DropOutcome: "every fifth outcome is left out of the index of ids",
    DropReference: "references of deposits are left out of their index",
    KeepHoldRow: "the row of a hold stays when the hold ends",
    ForgetLocks: "recovery does not lock what open exclusive holds lock",
    ForgetIds: "recovery does not remember recent ids",
    TimeFromWall: "logical time begins with the wall clock, whatever was stamped",
    StaleSnapshot: "a transaction sees what is folded, not what is durable",
    SkipValidation: "a transaction's reads are not validated",
    DecideBeforeLateVotes: "the coordinator decides without those who wait",
    OutOfOrder: "of one decision, what comes later gets the lower seq",
    ExpireUnsequenced: "a hold whose time is over is dropped, not sequenced",
    ReleaseTwice: "a hold stays open when it is resolved",
    KeepLock: "an exclusive hold's lock stays when the hold ends",
    ForgetWaiter: "who waited for funds gets them, and nobody is told",
    CountLaterCredits: "who waits for funds counts credits of later requests",
    SettleOutOfLine: "what markets said is decided as its votes come, not in their order",
    KeepReserve: "what is reserved for an order stays so when the order settles",
    ForgetOrder: "every fifth order that comes to stand leaves no rows",
    ForgetPlaced: "every fifth order is left out of its account's list",
    ForgetPlaces: "recovery puts orders back in the order of their ids",
    AnyHold: "whose a hold is is not looked at when a key asks to resolve it",
    AnyOrder: "whose an order is is not looked at when a key asks to amend or cancel it",
    KeepKey: "a key that is revoked goes on to be taken",
    FoldTwice: "a family folds blocks again that it has",
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use super::POINTS;

    /// How often each point is passed in the sources.
    fn passed(directory: &Path, found: &mut BTreeMap<String, usize>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                passed(&path, found);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for call in text.lines().filter_map(|line| line.trim().strip_prefix("point!(\"")) {
                let (name, _) = call.split_once('"').unwrap();
                *found.entry(name.into()).or_default() += 1;
            }
        }
    }

    #[test]
    fn every_point_is_listed_and_passed_in_one_place() {
        let mut found = BTreeMap::new();
        passed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        let listed = POINTS.map(|name| (name.to_owned(), 1));
        assert_eq!(found, listed.into());
    }
}
