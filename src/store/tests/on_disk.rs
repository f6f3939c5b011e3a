//! What a start finds after a stop, a crash, or half a fold.

use super::node::{Node, limits};
use super::world::{Fate, World, deposit, deposit_as, prepare, resolve, swap, withdraw, write};
use crate::address::{Address, Link};
use crate::config::Limits;
use crate::directory::Directory;
use crate::error::Reject;
use crate::request::{Action, AssetSpec, Command, Purpose};
use crate::store::materializer::Folder;
use crate::store::{Applied, Durability, Journal, Position, VersionStore, recovery, rocks};
use crate::types::{
    AccountId, Amount, AssetId, BalanceKey, BlockNumber, ChainId, ChainKind, CommitSeq, Key, Time,
};

const ACCOUNTS: u64 = 10;

/// Room for everything unfolded.
fn lazy() -> Limits {
    Limits { unfolded_requests_max: 10_000, ..limits(1) }
}

fn some_work(node: &Node, world: &mut World) {
    let accounts = (0..ACCOUNTS).flat_map(|account| [0, 1].map(|asset| (account, asset)));
    let deposits = accounts.map(|(account, asset)| deposit(account, asset, 1 << 30)).collect();
    node.answered(world.settle(deposits));
    for round in 0..30 {
        let swaps = (0..25).map(|n| swap((n + round) % ACCOUNTS, (n + 3 + round) % ACCOUNTS, 7));
        let swaps = swaps.collect();
        node.answered(world.settle(swaps));
        if round % 5 == 0 {
            in_two_phases(node, world, round);
        }
    }
}

/// Holds that end in every way and at once, in the next block, or not at all; a reference; values.
fn in_two_phases(node: &Node, world: &mut World, round: u64) {
    let mut commands: Vec<_> = (0..6).map(|n| prepare(n, n + 1, 3)).collect();
    commands.extend([withdraw(round % ACCOUNTS, 0, 5), withdraw(round % ACCOUNTS, 1, 5)]);
    commands.push(deposit_as(1, 0, 1, &format!("tx {}", world.seq)));
    let (a, b) = (format!("a{round}"), world.seq.to_string());
    commands.push(write(&[(&a, &b), ("shared", &b), ("gone", if round == 0 { "x" } else { "" })]));
    // One that an earlier fold, or an earlier run, has left open.
    if let Some(hold) = world.holds.values().next() {
        let action = match hold.purpose {
            Purpose::Swap(_) => Action::Rollback,
            Purpose::Withdrawal(_) => Action::Cancel,
        };
        commands.push(resolve(hold.token.request(), action));
    }
    let told = world.settle(commands);
    let ids = told.ids.clone();
    node.answered(told);
    let ends = [Action::Commit, Action::Rollback, Action::Expire].into_iter().zip(&ids);
    let ends = ends.chain([(Action::Confirm, &ids[6])]);
    node.answered(world.settle(ends.map(|(action, id)| resolve(*id, action)).collect()));
    // Made and ended in one block.
    let id = world.next_id();
    let both = [(id, prepare(2, 3, 1)), (world.next_id(), resolve(id, Action::Commit))];
    for (id, command) in both {
        node.answered(world.decide(vec![(id, command, Fate::Settles)]));
    }
}

/// Balances, supplies and every seq of the past are as the model has them.
fn check(node: &Node, world: &World) {
    assert_eq!(node.recovered.last.seq, world.seq);
    assert_eq!(node.reader.applied_seq(), world.seq);
    let mut holds = Vec::new();
    recovery::holds(&*node.store, |hold| holds.push(hold)).unwrap();
    assert!(holds.iter().eq(world.holds.values()), "{holds:?}");
    let mut found = Vec::new();
    let open = (&holds[..], &[][..], &node.directory);
    let count = recovery::balances(&*node.store, &node.recovered, open, |key, now, version| {
        found.push((key, version, now));
    });
    let latest: Vec<_> = world
        .history
        .iter()
        .map(|(key, versions)| {
            let (version, balance) = versions.last_key_value().expect("not empty");
            (*key, *version, *balance)
        })
        .collect();
    assert_eq!(found, latest);
    assert_eq!(count, Ok(latest.len() as u64));
    node.compare(world, ACCOUNTS, (0..=world.seq.get()).step_by(13));
    check_families(node, world);
}

/// Resolutions, references and values are in the store as the model has them.
fn check_families(node: &Node, world: &World) {
    let store = &*node.store;
    for (token, (seq, _)) in &world.resolved {
        let block = store.block_resolving(*token).unwrap();
        assert_eq!(block, store.block_of(*seq).unwrap(), "hold {token}");
    }
    for token in world.holds.keys() {
        assert_eq!(store.block_resolving(*token).unwrap(), None, "hold {token}");
    }
    for ((asset, reference), seq) in &world.credited {
        assert_eq!(store.credited(*asset, *reference).unwrap(), Some(*seq));
        assert_eq!(store.credited(AssetId::new(9), *reference).unwrap(), None);
    }
    let mut newest = Vec::new();
    recovery::records(store, |key, seq| newest.push((key, seq))).unwrap();
    newest.sort();
    let expected = world
        .records
        .iter()
        .map(|(key, versions)| (key.clone(), *versions.last_key_value().expect("not empty").0));
    assert!(newest.into_iter().eq(expected));
    for (key, versions) in &world.records {
        for seq in (0..=world.seq.get()).map(CommitSeq::new) {
            let found = store.record_at(key, seq).unwrap().map(|found| (found.seq, found.value));
            let expected = versions.range(..=seq).next_back();
            assert_eq!(found, expected.map(|(seq, value)| (*seq, value.clone())), "{key} at {seq}");
        }
    }
    assert_eq!(store.record_at(&Key::new(*b"share"), world.seq).unwrap(), None);
}

#[test]
fn a_restart_finds_everything_and_so_does_the_next() {
    let data = tempfile::tempdir().unwrap();
    let mut world = World::new(2);
    for crash in [false, true, true, false, false] {
        let node = Node::start(data.path(), &limits(2)).unwrap();
        check(&node, &world);
        some_work(&node, &mut world);
        if crash {
            node.crash();
        } else {
            node.stop();
        }
        world.restarted();
    }
    // Started and stopped without any work, twice.
    for _ in 0..2 {
        let node = Node::start(data.path(), &limits(2)).unwrap();
        check(&node, &world);
        node.stop();
    }
    // With another number of shards.
    let mut moved = World::new(3);
    (moved.time, moved.seq) = (world.time, world.seq);
    moved.history = world.history.clone();
    (moved.holds, moved.resolved) = (world.holds.clone(), world.resolved.clone());
    (moved.credited, moved.records) = (world.credited.clone(), world.records.clone());
    let node = Node::start(data.path(), &limits(3)).unwrap();
    check(&node, &moved);
    node.stop();
}

#[test]
fn half_a_fold_is_folded_again_without_a_trace() {
    let data = tempfile::tempdir().unwrap();
    let mut world = World::new(1);
    let lazy = lazy();
    for family in ["outcomes", "versions", "records"] {
        for bulk in [false, true] {
            let node = Node::start_unfolded(data.path(), &lazy).unwrap();
            check(&node, &world);
            some_work(&node, &mut world);
            node.crash();
            world.restarted();
            // One family gets its fold, then the process dies.
            let opened = rocks::open(data.path(), Durability::Off).unwrap();
            let mut folder = Folder::new(opened.store.applied().unwrap());
            let behind = opened.store.applied().unwrap().all().block;
            for block in opened.store.read_from(behind.next()) {
                folder.add(&block.unwrap());
            }
            match family {
                "outcomes" => folder.finish_outcomes(&*opened.store, bulk).unwrap(),
                "versions" => folder.finish_versions(&*opened.store, bulk).unwrap(),
                _ => folder.finish_records(&*opened.store, bulk).unwrap(),
            }
            let Applied { versions, outcomes, records } = opened.store.applied().unwrap();
            assert_eq!(
                [versions, outcomes, records].iter().filter(|at| at.block > behind).count(),
                1
            );
        }
    }
    let node = Node::start(data.path(), &lazy).unwrap();
    check(&node, &world);
    let mut ids = Vec::new();
    recovery::recent_ids(&*node.store, &node.recovered, 1 << 40, |id| ids.push(id)).unwrap();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "no id is indexed twice");
    node.stop();
}

#[test]
fn point_reads_in_the_store_equal_account_reads() {
    let data = tempfile::tempdir().unwrap();
    let mut world = World::new(1);
    let node = Node::start(data.path(), &limits(1)).unwrap();
    some_work(&node, &mut world);
    node.drain();
    for seq in (0..=world.seq.get()).step_by(7).map(CommitSeq::new) {
        for account in (0..ACCOUNTS + 1).map(AccountId::new) {
            let now = node.store.account_at(account, seq).unwrap();
            for asset in [0, 1, 2].map(AssetId::new) {
                let one = node.store.get_at(BalanceKey { account, asset }, seq).unwrap();
                let of_all = now.iter().find(|now| now.asset == asset);
                assert_eq!(one, of_all.map(|now| (now.version, now.balance)));
            }
        }
    }
    node.stop();
}

fn link(chain: u64, text: &str) -> Link {
    Link { chain: ChainId::new(chain), address: Address::parse(ChainKind::Other, text).unwrap() }
}

#[test]
fn directory_and_supply_come_back() {
    let data = tempfile::tempdir().unwrap();
    let mut world = World::new(2);
    let asset = |name: &str, chain| {
        Command::PutAsset(AssetSpec {
            name: name.into(),
            chain: ChainId::new(chain),
            chain_kind: ChainKind::Other,
            token: "native".into(),
            decimals: 8,
        })
    };
    let account = AccountId::new(7);
    let put = |links: &[Link]| Command::PutAccount { account, links: links.into() };
    let node = Node::start(data.path(), &limits(2)).unwrap();
    node.answered(world.settle(vec![asset("AAA", 1), put(&[]), asset("BBB", 2)]));
    node.answered(world.settle(vec![put(&[link(1, "x")]), put(&[link(2, "y")]), asset("AAA", 1)]));
    node.answered(world.settle(vec![asset("CCC", 1), deposit(7, 2, 5)]));
    let chain = ChainId::new(1);
    node.answered(world.settle(vec![Command::RemoveLink { account, chain }]));
    node.answered(world.settle(vec![put(&[link(1, "z")])]));
    node.crash();
    world.restarted();
    for _ in 0..2 {
        let node = Node::start(data.path(), &limits(2)).unwrap();
        let names: Vec<_> = node.directory.assets().iter().map(|spec| spec.name.clone()).collect();
        assert_eq!(names, ["AAA".into(), "BBB".into(), "CCC".into()]);
        assert_eq!(node.directory.links(account), Some(vec![link(1, "z"), link(2, "y")]));
        assert_eq!(node.directory.accounts_len(), 1);
        assert_eq!(node.recovered.supplies, [0, 0, 5].map(Amount::new));
        node.stop();
    }
}

#[test]
fn looking_changes_nothing_and_reads_every_block() {
    let data = tempfile::tempdir().unwrap();
    let mut world = World::new(2);
    let node = Node::start_unfolded(data.path(), &Limits { shards: 2, ..lazy() }).unwrap();
    some_work(&node, &mut world);
    node.crash();
    let list = |path: &std::path::Path| {
        let mut files: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap())
            // RocksDB writes its own text log.
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with("LOG"))
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().len()))
            .collect();
        files.sort();
        files
    };
    let before = (list(data.path()), list(&data.path().join("db")));
    let opened = rocks::open_read_only(data.path()).unwrap();
    let again = rocks::open_read_only(data.path()).expect("two may look");
    let mut tail = recovery::Tail::open(&*opened.store, BlockNumber::default()).unwrap();
    let mut commits = 0;
    while let Some(block) = tail.read_next().unwrap() {
        commits += u64::from(block.header().commits);
    }
    assert_eq!(commits, world.seq.get());
    let recovered =
        recovery::recover(&*again.store, &*again.store, again.mark, &Directory::new(), 1_000_000);
    let error = recovered.expect_err("it would have to fold").to_string();
    assert!(error.contains("to look at only"), "{error}");
    drop(tail);
    drop((opened, again));
    assert_eq!(before, (list(data.path()), list(&data.path().join("db"))));
}

#[test]
fn blocks_are_found_by_seq_and_by_time() {
    let data = tempfile::tempdir().unwrap();
    let mut world = World::new(2);
    let node = Node::start(data.path(), &limits(2)).unwrap();
    assert_eq!(node.store.block_of(CommitSeq::new(1)).unwrap(), None);
    assert_eq!(node.store.position_at(Time::NEVER).unwrap(), Position::default());
    some_work(&node, &mut world);
    // A block without commits.
    let refused = (world.next_id(), swap(1, 2, 1), Fate::Refused(Reject::Expired));
    node.answered(world.decide(vec![refused]));
    node.crash();
    for _ in 0..2 {
        let opened = rocks::open(data.path(), Durability::Off).unwrap();
        let store = opened.store;
        let (mut before, mut blocks) = (Position::default(), 0);
        for block in store.read_from(BlockNumber::new(1)) {
            let (header, end) =
                (*block.as_ref().unwrap().header(), Position::after(&block.unwrap()));
            for seq in (before.seq.get() + 1..=end.seq.get()).map(CommitSeq::new) {
                assert_eq!(store.block_of(seq).unwrap(), Some(header.number));
            }
            let just_before = Time::new(header.time.get() - 1);
            assert_eq!(store.position_at(just_before).unwrap(), before);
            assert_eq!(store.position_at(header.time).unwrap(), end);
            (before, blocks) = (end, blocks + 1);
        }
        assert!(blocks > 30);
        assert_eq!(before.seq, world.seq);
        assert_eq!(store.position_at(Time::NEVER).unwrap(), before);
        for never in [0, world.seq.get() + 1, u64::MAX] {
            assert_eq!(store.block_of(CommitSeq::new(never)).unwrap(), None);
        }
    }
}

#[test]
fn a_torn_change_of_the_manifest_is_none() {
    let data = tempfile::tempdir().unwrap();
    let mut world = World::new(2);
    let node = Node::start(data.path(), &limits(2)).unwrap();
    some_work(&node, &mut world);
    node.stop();
    let database = data.path().join("db");
    let current = std::fs::read_to_string(database.join("CURRENT")).unwrap();
    let manifest = database.join(current.trim_end());
    // The header of 108 bytes, of which the power left 40.
    let torn = [&[9, 9, 9, 9, 108, 0, 1], [7; 40].as_slice(), &[0; 68]].concat();
    let whole = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, [whole, torn].concat()).unwrap();
    let node = Node::start(data.path(), &limits(2)).expect("it was never relied on");
    node.compare(&world, ACCOUNTS, [7, 50, 300]);
    node.stop();
}
