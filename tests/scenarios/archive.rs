//! The old part of the journal is in the archive: what it says is answered from there; where that
//! cannot be read, who asks is told so, and the engine goes on.

use std::path::{Path, PathBuf};

use crosslatch::cli::audit::audit_directory;
use crosslatch::error::{Error, Reject};
use crosslatch::request::{Action, Command, Outcome, Request};
use crosslatch::store::audit::Failure;
use crosslatch::types::{BlockNumber, CommitSeq, Resolution, Token};

use crate::support::{ETH, SOL, account, deposit, fresh, leg, prepare, resolve, scratch, swap};
use crate::venue::{Venue, refusal};

const HOUR_MS: u64 = 3_600_000;

fn segments(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    paths.filter(|path| path.extension().is_some_and(|it| it == "segment")).collect()
}

/// A venue with everything that can be asked for later, and what came of it.
struct Old {
    venue: Venue,
    asked: Vec<(Request, Outcome)>,
    token: Token,
}

impl Old {
    fn new() -> Self {
        let venue = Venue::with(2, |limits| limits.journal_archive_after_secs = 3_600);
        let mut old = Self { venue, asked: Vec::new(), token: Token::default() };
        old.ask([deposit(0, ETH, 1_000), deposit(1, SOL, 1_000)]);
        old.ask([swap([leg(0, 1, ETH, 5), leg(1, 0, SOL, 5)])]);
        // One that is refused, and a hold that is committed.
        old.ask([swap([leg(0, 1, ETH, 5_000), leg(1, 0, SOL, 5)])]);
        old.ask([prepare([leg(0, 1, ETH, 7), leg(1, 0, SOL, 7)], HOUR_MS, false)]);
        old.token = Token::of(old.asked.last().expect("just now").0.id);
        old.ask([resolve(old.token, Action::Commit)]);
        (0..20).for_each(|_| old.ask([swap([leg(0, 1, ETH, 1), leg(1, 0, SOL, 1)])]));
        old.venue.engine().drain().expect("it runs");
        old
    }

    fn ask(&mut self, commands: impl IntoIterator<Item = Command>) {
        let requests = fresh(commands);
        let outcomes = self.venue.send(requests.clone());
        self.asked.extend(requests.into_iter().zip(outcomes));
    }

    /// Two hours later the journal so far is in the archive.
    fn archive(&mut self, directory: &Path) {
        self.venue.clock.pass(2 * HOUR_MS);
        self.venue.settle(swap([leg(0, 1, ETH, 1), leg(1, 0, SOL, 1)]));
        self.venue.settle(deposit(0, ETH, 1));
        self.venue.engine().drain().expect("it runs");
        self.venue.options.journal_archive_dir = Some(directory.to_owned());
        // It looks when it starts.
        self.venue.restart(|_| {});
        self.venue.until(|| !segments(directory).is_empty());
        // What it is just moving is finished first.
        self.venue.restart(|_| {});
    }

    /// Everything is answered as it was.
    fn check(&self) {
        let engine = self.venue.engine();
        for (request, outcome) in &self.asked {
            assert_eq!(self.venue.ask(request), *outcome, "again");
            let known = engine.known(request.id).expect("it is kept");
            assert_eq!(known, crosslatch::engine::Known::Outcome(outcome.clone()));
            if let Outcome::Settled(receipt) = outcome {
                let at = engine.receipt_at(receipt.commit_seq).expect("it is kept");
                assert_eq!(at.as_ref(), Some(receipt));
            }
        }
        let history = engine.history(account(0), Some(ETH), CommitSeq::default(), 100);
        let history = history.expect("it is kept");
        let kinds: Vec<&str> = history[..4].iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, ["deposit", "swap", "prepare", "commit"]);
        assert_eq!(self.venue.how(self.token), Some(Resolution::Committed));
    }

    /// The coordinator knows without the archive how the hold ended.
    fn resolve_again(&self) -> (Reject, Vec<Request>) {
        let rolled_back = self.venue.refuse(resolve(self.token, Action::Rollback));
        (rolled_back, fresh([resolve(self.token, Action::Commit)]))
    }
}

#[test]
fn what_is_archived_is_answered_as_before() {
    let room = scratch();
    let mut old = Old::new();
    old.check();
    old.archive(&room.path().join("archive"));
    old.check();
    let (reject, again) = old.resolve_again();
    assert!(matches!(reject, Reject::AlreadyResolved { how: Resolution::Committed, .. }));
    let committed = old.asked[5].1.clone();
    assert_eq!(old.venue.send(again), [committed]);
    // A backup refers to it, and can be restored.
    let (backup, restored) = (room.path().join("backup"), room.path().join("restored"));
    old.venue.engine().backup(&backup).expect("it is audited");
    let report = crosslatch::store::backup::restore(&backup, &restored).expect("it is audited");
    assert_eq!(report.end.seq, old.venue.seq());
    let archived = report.archived.expect("part of it is elsewhere");
    assert_eq!(archived.directory, room.path().join("archive"));
    assert!(archived.upto > BlockNumber::default() && archived.upto < report.end.block);
    // To where it was moved, too; nothing of it is in the backup.
    let moved = room.path().join("moved");
    std::fs::rename(room.path().join("archive"), &moved).expect("one file system");
    let restore = crosslatch::store::backup::restore;
    let error = restore(&backup, &room.path().join("other")).expect_err("it is not there");
    assert!(error.to_string().contains(".segment of the archive is missing"), "{error}");
    let restore = crosslatch::store::backup::restore_with_archive;
    restore(&backup, &room.path().join("other"), Some(&moved)).expect("it is there");
    audit_directory(&room.path().join("other")).expect("it remembers where");
    // So does the engine.
    old.venue.options.journal_archive_dir = Some(moved);
    old.venue.restart(|_| {});
    old.check();
    // Without the setting nothing more is archived, and what is stays readable.
    old.venue.options.journal_archive_dir = None;
    old.venue.restart(|_| {});
    old.check();
    let data = old.venue.options.data.clone();
    old.venue.stop();
    audit_directory(&data).expect("all of it is whole");
    old.venue.recover();
    old.venue.end();
}

#[test]
fn without_its_archive_the_engine_says_so_and_goes_on() {
    let room = scratch();
    let (here, away) = (room.path().join("archive"), room.path().join("away"));
    let mut old = Old::new();
    old.archive(&here);
    std::fs::rename(&here, &away).expect("one file system");
    old.venue.restart(|_| {});
    let engine = old.venue.engine().clone();
    let (first, _) = &old.asked[2];
    let gone = |error: Error| {
        let Error::Archive(why) = &error else { panic!("{error:?}") };
        assert!(why.contains(".segment"), "{why}");
    };
    gone(engine.known(first.id).expect_err("it is archived"));
    gone(engine.receipt_at(CommitSeq::new(1)).expect_err("it is archived"));
    let history = engine.history(account(0), None, CommitSeq::default(), 10);
    gone(history.expect_err("its causes are archived"));
    let again = engine.submit(vec![first.clone()]).expect("there is room");
    gone(again.wait().err().expect("what it was answered is archived"));
    // What needs the archive alone is missing.
    let (reject, _) = old.resolve_again();
    assert!(matches!(reject, Reject::AlreadyResolved { how: Resolution::Committed, .. }));
    old.venue.settle(swap([leg(0, 1, ETH, 1), leg(1, 0, SOL, 1)]));
    refusal(old.venue.send(fresh([swap([leg(0, 1, ETH, 1 << 40), leg(1, 0, SOL, 1)])])).remove(0));
    assert!(engine.balances_at(account(0), CommitSeq::new(9)).is_ok(), "versions are not archived");
    assert_eq!(engine.stopped(), None);
    drop(engine);
    // Nor does an audit take the rest for the whole.
    let data = old.venue.options.data.clone();
    old.venue.stop();
    let Err(Failure::Found(finding)) = audit_directory(&data) else { panic!("it is not there") };
    assert!(finding.what.contains(".segment of the archive is missing"), "{finding}");
    // Another directory is not taken for it.
    let mut elsewhere = old.venue.options.clone();
    elsewhere.journal_archive_dir = Some(room.path().join("new"));
    let Err(error) = crosslatch::engine::Engine::start(elsewhere) else { panic!("it started") };
    assert!(error.to_string().contains("is not the archive"), "{error}");
    std::fs::rename(&away, &here).expect("one file system");
    old.venue.recover();
    old.check();
    old.venue.end();
}
