//! Data directories that must not be started on, and what is said about them.

use std::fs;
use std::path::Path;

use super::node::{Node, limits};
use super::world::{World, deposit, prepare, swap, withdraw};
use crate::directory::Directory;
use crate::request::Purpose;
use crate::store::account_orders::{self, Placed};
use crate::store::audit::{Failure, Finding, audit};
use crate::store::mark::Mark;
use crate::store::{
    Durability, FORMAT, Journal, Position, StoreError, holds, keys, recovery, rocks,
};
use crate::types::{AccountId, BlockNumber, CommitSeq, MarketId, RequestId, Token};

fn refusal(data: &Path) -> StoreError {
    match Node::start(data, &limits(2)) {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

/// Ten blocks, the first of 40 deposits.
fn filled(data: &Path) -> World {
    let mut world = World::new(2);
    let node = Node::start_unfolded(data, &limits(2)).unwrap();
    let deposits = (0..40).map(|n| deposit(n / 2, (n % 2) as u32, 1_000)).collect();
    node.answered(world.settle(deposits));
    for n in 0..9 {
        node.answered(world.settle(vec![swap(n, n + 1, 5), swap(n + 1, n + 2, 5)]));
    }
    node.crash();
    world
}

/// The database with nobody watching.
fn raw(data: &Path, change: impl FnOnce(&rocksdb::DB)) {
    let options = rocksdb::Options::default();
    let mut families: Vec<&str> = keys::FAMILIES.into();
    families.push("default");
    let db = rocksdb::DB::open_cf(&options, data.join("db"), families).unwrap();
    change(&db);
}

fn journal_key(number: u64) -> [u8; 9] {
    keys::journal(BlockNumber::new(number))
}

#[test]
fn a_second_opener_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(data.path(), &limits(2)).unwrap();
    let error = refusal(data.path()).to_string();
    assert!(error.contains("in use by another process"), "{error}");
    assert!(matches!(rocks::open_read_only(data.path()), Err(StoreError::InUse(_))));
    node.stop();
    Node::start(data.path(), &limits(2)).expect("free again").stop();
}

#[test]
fn a_new_directory_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("a/b");
    Node::start(&data, &limits(2)).unwrap().stop();
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("thesis.tex"), "do not touch").unwrap();
    let error = refusal(data.path()).to_string();
    assert!(error.contains("`thesis.tex`") && error.contains("not a data directory"), "{error}");
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1);
    // Another program's database under a name of ours.
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    raw(data.path(), |_| {});
    let mut db = rocksdb::DB::open_cf(
        &rocksdb::Options::default(),
        data.path().join("db"),
        ["default"].into_iter().chain(keys::FAMILIES),
    )
    .unwrap();
    db.create_cf("poems", &rocksdb::Options::default()).unwrap();
    drop(db);
    let error = refusal(data.path()).to_string();
    assert!(error.contains("unknown column family `poems`"), "{error}");
}

#[test]
fn a_lost_database_or_family_is_not_made_anew() {
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    let options = rocksdb::Options::default();
    let families = ["default"].into_iter().chain(keys::FAMILIES);
    let mut db = rocksdb::DB::open_cf(&options, data.path().join("db"), families).unwrap();
    db.drop_cf(keys::VERSIONS).unwrap();
    drop(db);
    let error = refusal(data.path()).to_string();
    assert!(error.contains("lacks the column family `versions`"), "{error}");
    fs::remove_dir_all(data.path().join("db")).unwrap();
    let error = refusal(data.path()).to_string();
    assert!(error.contains("held the journal up to block 10 (seq 58)"), "{error}");
    assert!(!data.path().join("db").exists());
}

/// Makes the mark say that the directory has another format; returns the file's bytes.
fn mark_of_format(path: &Path, format: u32) -> Vec<u8> {
    let mut mark = fs::read(path).unwrap();
    for slot in [0, 4_096] {
        mark[slot + 8..slot + 12].copy_from_slice(&format.to_be_bytes());
        let crc = crc32c::crc32c(&mark[slot..slot + 28]);
        mark[slot + 28..slot + 32].copy_from_slice(&crc.to_be_bytes());
    }
    fs::write(path, &mark).unwrap();
    mark
}

#[test]
fn a_format_that_was_never_released_is_told_from_damage() {
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    let families = ["default"].into_iter().chain(keys::FAMILIES);
    let path = data.path().join("db");
    let mut db = rocksdb::DB::open_cf(&rocksdb::Options::default(), path, families).unwrap();
    // It had neither.
    db.drop_cf(keys::RECORDS).unwrap();
    db.drop_cf(keys::BLOCKS).unwrap();
    drop(db);
    let mark = mark_of_format(&data.path().join("mark"), 1);
    for _ in 0..2 {
        let error = refusal(data.path());
        assert_eq!(error, StoreError::OlderFormat { found: 1 });
        assert!(error.to_string().contains("was never released; start with a new directory"));
        assert_eq!(rocks::open_read_only(data.path()).err(), Some(error));
    }
    assert_eq!(fs::read(data.path().join("mark")).unwrap(), mark);
}

#[test]
fn holds_that_do_not_add_up_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let mut world = World::new(2);
    let node = Node::start(data.path(), &limits(2)).unwrap();
    node.answered(world.settle(vec![deposit(1, 0, 50), deposit(2, 1, 50)]));
    let told = world.settle(vec![prepare(1, 2, 20), withdraw(1, 0, 7)]);
    let ids = told.ids.clone();
    node.answered(told);
    node.stop();
    let found = |data: &Path| {
        let opened = rocks::open(data, Durability::Off).unwrap();
        let (store, directory) = (&*opened.store, Directory::new());
        let recovered = recovery::recover(store, store, opened.mark, &directory, 100).unwrap();
        let mut holds = Vec::new();
        recovery::holds(store, |hold| holds.push(hold))?;
        let open = (&holds[..], &[][..], &directory);
        recovery::balances(store, &recovered, open, |_, _, _| {}).map(|_| holds.len())
    };
    assert_eq!(found(data.path()), Ok(2));
    let rows: Vec<_> = ids.into_iter().map(|id| keys::hold(Token::of(id))).collect();
    let mut kept = Vec::new();
    raw(data.path(), |db| {
        let family = db.cf_handle(keys::OUTCOMES).unwrap();
        kept = db.get_cf(family, rows[1]).unwrap().unwrap();
        db.delete_cf(family, rows[1]).unwrap();
    });
    let error = found(data.path()).unwrap_err().to_string();
    let what = "account 1 has 27 of asset 0 set aside, but its open holds and orders add up to 20";
    assert!(error.contains(what), "{error}");
    // Back, and once more under another token, on an account that has nothing.
    raw(data.path(), |db| {
        let family = db.cf_handle(keys::OUTCOMES).unwrap();
        db.put_cf(family, rows[1], &kept).unwrap();
        let mut foreign = Vec::new();
        let mut hold = holds::decode(&rows[1], &kept).unwrap();
        let Purpose::Withdrawal(transfer) = &mut hold.purpose else { panic!("{hold:?}") };
        transfer.account = AccountId::new(77);
        holds::encode(hold, &mut foreign);
        db.put_cf(family, keys::hold(Token::of(RequestId::new(5))), foreign).unwrap();
    });
    let error = found(data.path()).unwrap_err().to_string();
    let what = "account 77 has 0 of asset 0 set aside, but its open holds and orders add up to 7";
    assert!(error.contains(what), "{error}");
}

#[test]
fn a_newer_format_is_refused_before_anything_is_touched() {
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    let meta = |format: u32| {
        raw(data.path(), |db| {
            let family = db.cf_handle(keys::META).unwrap();
            db.put_cf(family, keys::FORMAT, format.to_be_bytes()).unwrap();
        });
    };
    meta(FORMAT + 1);
    let error = refusal(data.path()).to_string();
    let expected = format!("has format {}, this build knows up to {FORMAT}", FORMAT + 1);
    assert!(error.contains(&expected), "{error}");
    meta(FORMAT - 1);
    assert_eq!(refusal(data.path()), StoreError::OlderFormat { found: FORMAT - 1 });
    meta(FORMAT);
    // The mark says it too, and is looked at first.
    let path = data.path().join("mark");
    let mark = mark_of_format(&path, 9);
    let error = refusal(data.path()).to_string();
    assert!(error.contains("has format 9"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), mark);
}

/// Which index would have it, its key, its value.
type BogusRow = (&'static str, Vec<u8>, Vec<u8>);

#[test]
fn orders_that_the_journal_does_not_have_are_found_by_the_audit() {
    let (account, order) = (AccountId::new(7), RequestId::new(9));
    let placed = Placed { since: CommitSeq::new(41), order, market: MarketId::new(0) };
    let rows: [BogusRow; 2] = [
        (
            "the index of accounts' orders",
            keys::placed_by(account, placed.since).to_vec(),
            account_orders::placed_value(&placed).to_vec(),
        ),
        (
            "the index of accounts' open orders",
            keys::open_of(account, order).to_vec(),
            account_orders::open_value(&placed).to_vec(),
        ),
    ];
    for (index, key, value) in rows {
        let data = tempfile::tempdir().unwrap();
        filled(data.path());
        raw(data.path(), |db| {
            let family = db.cf_handle(keys::OUTCOMES).unwrap();
            db.put_cf(family, key, value).unwrap();
        });
        let store = rocks::open_read_only(data.path()).unwrap().store;
        let mark = Position::after(&store.last().unwrap().unwrap());
        let found = audit(&*store, &*store, &*store, mark, 0, &mut |_| {});
        let what = format!("{index}: 1 are stored, and not what the journal's 0 lead to");
        assert_eq!(found, Err(Failure::Found(Finding { seq: None, what })));
    }
}

#[test]
fn a_journal_that_falls_short_of_the_mark_is_refused() {
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    raw(data.path(), |db| {
        let family = db.cf_handle(keys::JOURNAL).unwrap();
        db.delete_cf(family, journal_key(9)).unwrap();
        db.delete_cf(family, journal_key(10)).unwrap();
    });
    let error = refusal(data.path()).to_string();
    assert!(error.contains("ends at block 8 (seq 54)"), "{error}");
    assert!(error.contains("blocks 9 to 10 are missing"), "{error}");
}

#[test]
fn a_log_cut_short_is_refused_and_kept_as_it_is() {
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    let db = data.path().join("db");
    let logs = || {
        let mut logs: Vec<_> = fs::read_dir(&db)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        logs.sort();
        logs
    };
    let newest = logs().pop().expect("a log");
    let whole = fs::read(&newest).unwrap();
    fs::write(&newest, &whole[..whole.len() / 2]).unwrap();
    for _ in 0..2 {
        let error = refusal(data.path()).to_string();
        assert!(error.contains("are missing, so the log was cut or damaged"), "{error}");
    }
    // Nothing was changed, so with the lost half back it starts.
    assert_eq!(fs::read(&newest).unwrap(), &whole[..whole.len() / 2]);
    fs::write(&newest, &whole).unwrap();
    Node::start(data.path(), &limits(2)).expect("whole again").stop();
}

#[test]
fn a_flipped_byte_is_refused_with_its_block() {
    for number in [1, 5, 10] {
        let data = tempfile::tempdir().unwrap();
        filled(data.path());
        raw(data.path(), |db| {
            let family = db.cf_handle(keys::JOURNAL).unwrap();
            let mut block = db.get_cf(family, journal_key(number)).unwrap().unwrap();
            let middle = block.len() / 2;
            block[middle] ^= 1;
            db.put_cf(family, journal_key(number), block).unwrap();
        });
        let error = refusal(data.path()).to_string();
        assert!(error.contains(&format!("journal block {number} is damaged")), "{error}");
    }
}

#[test]
fn a_block_from_elsewhere_breaks_the_chain() {
    let other = tempfile::tempdir().unwrap();
    let mut world = filled(other.path());
    world.restarted();
    // Its block 11 is valid by itself, with the right number and seqs, after a different block 10.
    let node = Node::start_unfolded(other.path(), &limits(2)).unwrap();
    node.answered(world.settle(vec![swap(1, 2, 1)]));
    node.crash();
    let mut foreign = Vec::new();
    raw(other.path(), |db| {
        let family = db.cf_handle(keys::JOURNAL).unwrap();
        foreign = db.get_cf(family, journal_key(11)).unwrap().unwrap();
    });
    let mut world = World::new(2);
    let data = tempfile::tempdir().unwrap();
    let node = Node::start_unfolded(data.path(), &limits(2)).unwrap();
    let deposits = (0..40).map(|n| deposit(n / 2, (n % 2) as u32, 1_000)).collect();
    node.answered(world.settle(deposits));
    for n in 0..9 {
        node.answered(world.settle(vec![swap(n, n + 1, 6), swap(n + 1, n + 2, 5)]));
    }
    node.crash();
    raw(data.path(), |db| {
        let family = db.cf_handle(keys::JOURNAL).unwrap();
        db.put_cf(family, journal_key(11), foreign).unwrap();
    });
    let error = refusal(data.path()).to_string();
    assert!(error.contains("journal block 11 is damaged: it does not name the hash"), "{error}");
}

#[test]
fn a_version_store_beyond_the_journal_is_refused() {
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    Node::start(data.path(), &limits(2)).unwrap().stop();
    raw(data.path(), |db| {
        let family = db.cf_handle(keys::JOURNAL).unwrap();
        db.delete_cf(family, journal_key(10)).unwrap();
    });
    // As after a power loss: the mark is behind.
    let mut mark = Mark::open(data.path(), false).unwrap().0;
    for _ in 0..2 {
        mark.write(Default::default()).unwrap();
    }
    drop(mark);
    let error = refusal(data.path()).to_string();
    assert!(error.contains("family versions is at block 10 (seq 58), beyond"), "{error}");
}

#[test]
fn leftovers_of_a_crash_are_cleared() {
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    let leftover = data.path().join("ingest/versions-3.sst");
    fs::write(&leftover, "half a file").unwrap();
    drop(rocks::open(data.path(), Durability::Sync).unwrap());
    assert!(!leftover.exists());
}

#[test]
fn a_first_start_that_died_is_finished_by_the_next() {
    for made in [0, 1, keys::FAMILIES.len() - 1] {
        let data = tempfile::tempdir().unwrap();
        drop(Mark::create(data.path()).unwrap());
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let families = keys::FAMILIES[..made].iter().chain(["default"].iter());
        drop(rocksdb::DB::open_cf(&options, data.path().join("db"), families).unwrap());
        Node::start(data.path(), &limits(2)).expect("nothing was ever answered").stop();
    }
}
