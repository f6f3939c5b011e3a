//! The journal moves out in the background, and is read where it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use super::past::{ACCOUNTS, Past};
use super::world::swap;
use crate::actor::Poison;
use crate::store::archive::segment::{Head, Segment, SegmentWriter, parse_name};
use crate::store::archiver::{self, Archiver};
use crate::store::recovery::{Tail, check_beginning};
use crate::store::{Journal, StoreError};
use crate::types::{AccountId, BlockNumber, CommitSeq};

const HOUR_SECS: u64 = 3_600;
const HOUR_BLOCKS: u64 = 60;
/// Blocks that are read in a row, at most, while others move.
const RUN: usize = 100;

/// A past whose journal is archived after an hour: a block is a minute.
struct Venue {
    past: Past,
    archiver: Archiver,
    room: TempDir,
}

impl Venue {
    fn new(seed: u64) -> Self {
        let (past, room) = (Past::new(seed), tempfile::tempdir().unwrap());
        past.store.use_archive(&room.path().join("archive")).unwrap();
        let archiver = archiver_of(&past);
        Self { past, archiver, room }
    }

    fn directory(&self) -> PathBuf {
        self.room.path().join("archive")
    }

    fn pass(&mut self, blocks: u64) {
        (0..blocks).for_each(|_| self.past.random_block());
        self.past.fold(0);
    }

    /// Archives what is due, in as many segments as that takes.
    fn archive(&self) -> Vec<Head> {
        std::iter::from_fn(|| self.archiver.step().unwrap()).collect()
    }

    fn block(&self, number: u64) -> Result<Option<u64>, StoreError> {
        let block = self.past.store.block(BlockNumber::new(number))?;
        Ok(block.map(|block| block.header().number.get()))
    }

    /// Everything is read as it was written, wherever it is.
    fn compare(&mut self) {
        let past = &mut self.past;
        past.compare_journal();
        for account in (0..ACCOUNTS).map(AccountId::new) {
            past.compare_history(account, CommitSeq::default(), 7);
        }
        let mut tail = Tail::open(&*past.store, BlockNumber::default()).unwrap();
        while tail.read_next().unwrap().is_some() {}
        assert_eq!(tail.at, past.last);
        let from = BlockNumber::new(past.rng.random_range(1..=past.last.block.get()));
        let numbers = past.store.read_from(from).map(|block| block.unwrap().header().number.get());
        assert!(numbers.eq(from.get()..=past.last.block.get()), "from {from}");
    }
}

fn archiver_of(past: &Past) -> Archiver {
    Archiver::new(past.store.clone(), past.applied.clone(), HOUR_SECS)
}

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "lock");
    names.sort();
    names
}

fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Archive(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_old_moves_out_and_all_is_read_as_before() {
    for seed in 0..2 {
        let mut venue = Venue::new(seed);
        let mut moved: Vec<Head> = Vec::new();
        for round in 0..40 {
            let blocks = venue.past.rng.random_range(0..30);
            (0..blocks).for_each(|_| venue.past.random_block());
            if venue.past.rng.random_ratio(2, 3) {
                let leave = venue.past.rng.random_range(0..2).min(blocks);
                venue.past.fold(leave);
            }
            let before = moved.len();
            moved.extend(venue.archive());
            if let Some(last) = moved.get(before..).and_then(<[Head]>::last) {
                assert!(last.end.block < venue.past.applied.block(), "recovery needs the last one");
                assert!(last.last_time.get() <= venue.past.time.get() - HOUR_SECS * 1_000_000);
                check_beginning(&*venue.past.store).unwrap();
            }
            if round % 10 == 9 {
                venue.compare();
            }
        }
        assert!(moved.len() > 3, "{}", moved.len());
        assert_eq!(moved[0].first, BlockNumber::new(1));
        assert!(moved.windows(2).all(|pair| pair[0].end.block.next() == pair[1].first));
        assert!(moved.windows(2).all(|pair| pair[0].hash == pair[1].previous));
        assert!(moved.iter().map(Head::file_name).eq(files(&venue.directory())));
        // They are nowhere else: without the archive they cannot be read, and the others can.
        let last = moved.last().unwrap().end.block.get();
        std::fs::rename(venue.directory(), venue.room.path().join("away")).unwrap();
        venue.past.store.use_archive(&venue.room.path().join("nowhere")).unwrap_err();
        assert!(refused(venue.block(1)).contains("is missing"));
        assert!(refused(venue.block(last)).contains(&moved.last().unwrap().file_name()));
        assert_eq!(venue.block(last + 1), Ok(Some(last + 1)));
        venue.past.store.use_archive(&venue.room.path().join("away")).unwrap();
        venue.compare();
    }
}

#[test]
fn it_waits_until_an_eighth_more_is_due_and_for_what_is_folded() {
    let mut venue = Venue::new(5);
    // The first block was there already.
    venue.pass(HOUR_BLOCKS + HOUR_BLOCKS / 8);
    assert_eq!(venue.archiver.step(), Ok(None));
    venue.past.random_block();
    let head = venue.archiver.step().unwrap().expect("an eighth is due");
    assert_eq!(head.end.block.get(), HOUR_BLOCKS / 8 + 2, "all that is an hour old");
    assert_eq!(venue.archiver.step(), Ok(None));
    // However old: what is not folded stays, and the block at which folding goes on.
    let folded = venue.past.applied.block();
    (0..3 * HOUR_BLOCKS).for_each(|_| venue.past.block(vec![swap(1, 2, 1)]));
    let head = venue.archiver.step().unwrap().expect("it is old");
    assert_eq!(head.end.block.next(), folded);
    assert_eq!(venue.archiver.step(), Ok(None));
    assert!(venue.archiver.behind_secs().unwrap() == 0, "nothing that may be moved is behind");
    venue.compare();
}

#[test]
fn how_holds_ended_is_known_without_the_archive() {
    let mut venue = Venue::new(6);
    venue.pass(6 * HOUR_BLOCKS);
    let last = venue.archive().pop().expect("it is old").end;
    std::fs::remove_dir_all(venue.directory()).unwrap();
    let (mut archived, mut here) = (0, 0);
    for (token, (seq, how)) in &venue.past.model.resolved {
        let end = venue.past.store.archived_end(*token).unwrap();
        if *seq <= last.seq {
            let end = end.expect("its end is archived");
            assert_eq!((end.seq, end.how), (*seq, *how));
            archived += 1;
        } else {
            assert_eq!(end, None);
            here += 1;
        }
    }
    assert!(archived > 10 && here > 0, "{archived} {here}");
}

#[test]
fn every_flipped_byte_and_every_cut_is_found_and_named() {
    let mut venue = Venue::new(7);
    // Enough for many pages.
    venue.pass(16 * HOUR_BLOCKS);
    let head = venue.archive().pop().expect("it is old");
    let path = venue.directory().join(head.file_name());
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(whole.len() as u64, head.bytes);
    let expected: Vec<_> = venue
        .past
        .store
        .read_from(BlockNumber::new(1))
        .map(|block| block.unwrap().hash())
        .collect();
    let mut rng = SmallRng::seed_from_u64(7);
    let mut read = 0;
    for round in 0..400 {
        let mut bytes = whole.clone();
        if round % 8 == 0 {
            bytes.truncate(rng.random_range(0..whole.len()));
        } else {
            bytes[rng.random_range(0..whole.len())] ^= 1 << rng.random_range(0..8);
        }
        std::fs::write(&path, &bytes).unwrap();
        let opened = Segment::open(path.clone()).map(Arc::new);
        let why = refused(opened.and_then(|segment| segment.verify(|_| Ok(()))));
        assert!(why.contains(&head.file_name()), "{why}");
        // What can be read all the same is right.
        let number = rng.random_range(head.first.get()..=head.end.block.get());
        match venue.past.store.block(BlockNumber::new(number)) {
            Ok(block) => {
                assert_eq!(block.unwrap().hash(), expected[number as usize - 1]);
                read += 1;
            }
            Err(StoreError::Archive(why)) => assert!(why.contains(&head.file_name()), "{why}"),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(read > 0, "a page that is not damaged can be read");
    std::fs::write(&path, &whole).unwrap();
    venue.compare();
}

#[test]
fn what_a_death_left_is_removed_or_taken_over() {
    let mut venue = Venue::new(8);
    venue.pass(3 * HOUR_BLOCKS);
    let directory = venue.directory();
    std::fs::create_dir(&directory).unwrap();
    let unfinished = "journal-00000000000000000001.unfinished";
    std::fs::write(directory.join(unfinished), "half a segment").unwrap();
    // A whole one of which the database does not know.
    let mut writer = SegmentWriter::create(&directory, BlockNumber::new(1)).unwrap();
    for block in venue.past.store.read_from(BlockNumber::new(1)).take(9) {
        writer.add(&block.unwrap()).unwrap();
    }
    let left = writer.finish().unwrap();
    std::fs::write(directory.join(unfinished), "half a segment").unwrap();
    std::fs::write(directory.join("README"), "not ours").unwrap();
    assert_eq!(venue.archiver.step(), Ok(Some(left)));
    assert_eq!(files(&directory), ["README".into(), left.file_name()]);
    let next = venue.archiver.step().unwrap().expect("there is more");
    assert_eq!((next.first, next.previous), (left.end.block.next(), left.hash));
    venue.compare();
}

#[test]
fn another_journals_segment_is_left_alone_and_nothing_is_lost() {
    let (mut venue, mut other) = (Venue::new(9), Venue::new(10));
    venue.pass(3 * HOUR_BLOCKS);
    other.pass(3 * HOUR_BLOCKS);
    let theirs = other.archive().pop().expect("it is old");
    std::fs::create_dir(venue.directory()).unwrap();
    let from = other.directory().join(theirs.file_name());
    let to = venue.directory().join(theirs.file_name());
    std::fs::copy(&from, &to).unwrap();
    assert!(refused(venue.archiver.step()).contains("another journal's"));
    // Neither one that begins later, nor a damaged one.
    let later = venue.directory().join(Head { first: BlockNumber::new(2), ..theirs }.file_name());
    std::fs::rename(&to, &later).unwrap();
    assert!(refused(venue.archiver.step()).contains("another journal's"));
    std::fs::write(&later, "nothing").unwrap();
    std::fs::rename(&later, &to).unwrap();
    assert!(refused(venue.archiver.step()).contains(&theirs.file_name()));
    assert_eq!(venue.past.store.last_segment(), None);
    venue.compare();
    std::fs::remove_file(&to).unwrap();
    assert!(!venue.archive().is_empty());
    // One archive, one engine.
    let third = Venue::new(11);
    third.past.store.use_archive(&venue.directory()).unwrap();
    let mut third = Venue { archiver: archiver_of(&third.past), ..third };
    third.pass(3 * HOUR_BLOCKS);
    assert!(refused(third.archiver.step()).contains("another engine archives"));
    venue.compare();
}

#[test]
fn where_nothing_can_be_written_the_database_keeps_it() {
    let mut venue = Venue::new(12);
    venue.pass(3 * HOUR_BLOCKS);
    std::fs::write(venue.directory(), "a file").unwrap();
    refused(venue.archiver.step());
    venue.compare();
    std::fs::remove_file(venue.directory()).unwrap();
    let last = venue.archive().pop().expect("now it can").end.block;
    // It is not there any more, as if it were not mounted: no new one is begun.
    std::fs::rename(venue.directory(), venue.room.path().join("away")).unwrap();
    venue.pass(3 * HOUR_BLOCKS);
    assert!(refused(venue.archiver.step()).contains("cannot find"));
    assert!(!venue.directory().exists());
    std::fs::rename(venue.room.path().join("away"), venue.directory()).unwrap();
    assert_eq!(venue.archive()[0].first, last.next());
    venue.compare();
}

/// Reads blocks and runs of blocks at random until told to stop; counts those that are archived.
fn read_at_random(past: &Past, seed: u64, archived: &AtomicU64, stop: &AtomicBool) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let end = past.last.block.get();
    while !stop.load(Ordering::Relaxed) {
        let number = rng.random_range(1..=end);
        let block = past.store.block(BlockNumber::new(number)).unwrap().expect("it is somewhere");
        assert_eq!(block.header().number.get(), number);
        let last = past.store.last_segment().map_or(0, |last| last.end.block.get());
        archived.fetch_add(u64::from(number <= last), Ordering::Relaxed);
        let run = past.store.read_from(BlockNumber::new(number)).take(RUN);
        let numbers: Vec<u64> = run.map(|block| block.unwrap().header().number.get()).collect();
        assert!(numbers.into_iter().eq((number..=end).take(RUN)), "from {number}");
    }
}

#[test]
fn who_reads_while_blocks_move_misses_none() {
    let mut venue = Venue::new(13);
    venue.pass(7 * HOUR_BLOCKS);
    let last = venue.past.last.block;
    let (stop, archived) = (&AtomicBool::new(false), &AtomicU64::new(0));
    let past = &venue.past;
    std::thread::scope(|scope| {
        for seed in 0..3 {
            scope.spawn(move || read_at_random(past, seed, archived, stop));
        }
        // Older and older ones, a few at a time.
        for hours in (1..7).rev() {
            let (store, applied) = (past.store.clone(), past.applied.clone());
            let archiver = Archiver::new(store, applied, hours * HOUR_SECS);
            while archiver.step().unwrap().is_some() {}
        }
        while archived.load(Ordering::Relaxed) < 100 {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let moved = past.store.last_segment().expect("most of it").end.block;
    assert!(moved.get() > last.get() - 2 * HOUR_BLOCKS - HOUR_BLOCKS / 4, "{moved} of {last}");
    venue.compare();
}

#[test]
fn the_thread_archives_and_ends_when_it_is_told() {
    let mut venue = Venue::new(14);
    venue.pass(3 * HOUR_BLOCKS);
    let poison = Poison::new();
    let thread = archiver::start(archiver_of(&venue.past), &poison).unwrap();
    while venue.past.store.last_segment().is_none() {
        std::thread::yield_now();
    }
    thread.stop();
    assert_eq!(poison.cause(), None);
    venue.compare();
    // A failure of the archive is not one of the engine.
    std::fs::remove_dir_all(venue.directory()).unwrap();
    venue.pass(3 * HOUR_BLOCKS);
    let thread = archiver::start(archiver_of(&venue.past), &poison).unwrap();
    thread.stop();
    assert_eq!(poison.cause(), None);
}

#[test]
fn names_tell_what_is_in_a_file() {
    let mut venue = Venue::new(15);
    venue.pass(2 * HOUR_BLOCKS);
    let head = venue.archive().pop().expect("it is old");
    assert_eq!(parse_name(&head.file_name()), Some((head.first, head.end.block)));
    for other in ["journal-1.unfinished", "journal-1-2.sst", "lock", "journal--.segment"] {
        assert_eq!(parse_name(other), None, "{other}");
    }
    assert_eq!(Head::decode(&head.encode()), Some(head));
    assert_eq!(Head::decode(&head.encode()[1..]), None);
}
