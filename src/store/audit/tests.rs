//! A small world audited with everything that is derived from it in plain maps, whole and then spoilt
//! in every way.

use std::collections::BTreeMap;

use super::*;
use crate::error::Reject;
use crate::market::OrderState;
use crate::market::order::Price;
use crate::message::BalanceNow;
use crate::request::{Action, AssetSpec, Hold};
use crate::store::account_orders::{Asked, FoldedOrders};
use crate::store::log_core::{Effects, LogCore, LogStart};
use crate::store::replay::{compare, replay_to};
use crate::store::tests::world::{
    Fate, Told, Value, World, deposit_as, prepare, resolve, swap, withdraw, write,
};
use crate::store::{Family, FamilyWriter, RecordVersion};
use crate::types::{ChainId, ChainKind, MarketId, Time};

/// What RocksDB would hold.
#[derive(Clone, Default)]
struct Toy {
    blocks: Vec<Block>,
    specs: Vec<AssetSpec>,
    supplies: BTreeMap<AssetId, Amount>,
    versions: BTreeMap<BalanceKey, BTreeMap<CommitSeq, Balance>>,
    records: BTreeMap<Key, BTreeMap<CommitSeq, Value>>,
    outcomes: BTreeMap<RequestId, BlockNumber>,
    holds: BTreeMap<Token, Hold>,
    resolved: BTreeMap<Token, BlockNumber>,
    references: BTreeMap<(AssetId, u128), CommitSeq>,
    applied: Applied,
    horizon: CommitSeq,
}

/// Changes something.
type Spoil<'a> = &'a dyn Fn(&mut Toy);

type Stored<T> = Result<T, StoreError>;

impl Journal for Toy {
    fn last(&self) -> Stored<Option<Block>> {
        Ok(self.blocks.last().cloned())
    }

    fn block(&self, number: BlockNumber) -> Stored<Option<Block>> {
        Ok(self.blocks.iter().find(|block| block.header().number == number).cloned())
    }

    fn read_from(&self, number: BlockNumber) -> Box<dyn Iterator<Item = Stored<Block>> + '_> {
        let blocks = self.blocks.iter().filter(move |block| block.header().number >= number);
        Box::new(blocks.cloned().map(Ok))
    }

    fn block_of(&self, seq: CommitSeq) -> Stored<Option<BlockNumber>> {
        let block = self.blocks.iter().find(|block| block.commit_at(seq).is_some());
        Ok(block.map(|block| block.header().number))
    }

    fn position_at(&self, _: Time) -> Stored<Position> {
        unreachable!("the audit does not ask")
    }

    fn directory(&self, row: &mut dyn FnMut(DirectoryRow)) -> Stored<()> {
        for (number, spec) in self.specs.iter().enumerate() {
            row(DirectoryRow::Asset(AssetId::new(number as u32), spec.clone()));
        }
        Ok(())
    }

    fn supplies(&self) -> Stored<Vec<(AssetId, Amount)>> {
        Ok(self.supplies.iter().map(|(asset, supply)| (*asset, *supply)).collect())
    }
}

impl VersionStore for Toy {
    fn get_at(&self, key: BalanceKey, seq: CommitSeq) -> Stored<Option<(CommitSeq, Balance)>> {
        let newest = |it: &BTreeMap<CommitSeq, Balance>| {
            it.range(..=seq).next_back().map(|(seq, balance)| (*seq, *balance))
        };
        Ok(self.versions.get(&key).and_then(newest))
    }

    fn account_at(&self, _: AccountId, _: CommitSeq) -> Stored<Vec<BalanceNow>> {
        unreachable!("the audit does not ask")
    }

    fn versions_after(
        &self,
        _: BalanceKey,
        _: CommitSeq,
        _: usize,
    ) -> Stored<Vec<(CommitSeq, Balance)>> {
        unreachable!("the audit does not ask")
    }

    fn record_at(&self, key: &Key, seq: CommitSeq) -> Stored<Option<RecordVersion>> {
        let newest = |it: &BTreeMap<CommitSeq, Value>| {
            let (seq, value) = it.range(..=seq).next_back()?;
            Some(RecordVersion { seq: *seq, value: value.clone() })
        };
        Ok(self.records.get(key).and_then(newest))
    }

    fn latest_records(&self, record: &mut dyn FnMut(Key, CommitSeq)) -> Stored<()> {
        for (key, versions) in &self.records {
            let newest = versions.keys().next_back();
            newest.into_iter().for_each(|seq| record(key.clone(), *seq));
        }
        Ok(())
    }

    fn block_with(&self, id: RequestId) -> Stored<Option<BlockNumber>> {
        Ok(self.outcomes.get(&id).copied())
    }

    fn open_holds(&self, hold: &mut dyn FnMut(Hold)) -> Stored<()> {
        self.holds.values().cloned().for_each(hold);
        Ok(())
    }

    fn open_orders(&self) -> Stored<Vec<StoredOrder>> {
        Ok(Vec::new())
    }

    fn open_order(&self, _: RequestId) -> Stored<Option<OrderState>> {
        Ok(None)
    }

    fn block_ending(&self, _: RequestId) -> Stored<Option<BlockNumber>> {
        Ok(None)
    }

    fn orders_of(&self, _: &Asked, _: &dyn Fn(RequestId) -> bool) -> Stored<FoldedOrders> {
        unreachable!("the audit does not ask")
    }

    fn trades_after(&self, _: MarketId, _: CommitSeq, _: usize) -> Stored<Vec<CommitSeq>> {
        Ok(Vec::new())
    }

    fn last_prices(&self) -> Stored<Vec<(MarketId, Price)>> {
        Ok(Vec::new())
    }

    fn block_resolving(&self, token: Token) -> Stored<Option<BlockNumber>> {
        Ok(self.resolved.get(&token).copied())
    }

    fn credited(&self, asset: AssetId, reference: u128) -> Stored<Option<CommitSeq>> {
        Ok(self.references.get(&(asset, reference)).copied())
    }

    fn horizon(&self) -> Stored<CommitSeq> {
        Ok(self.horizon)
    }

    fn collect_garbage(&self, _: CommitSeq) -> Stored<()> {
        unreachable!("the audit changes nothing")
    }

    fn latest(&self, balance: &mut dyn FnMut(BalanceKey, Balance, CommitSeq)) -> Stored<()> {
        for (key, versions) in &self.versions {
            let newest = versions.iter().next_back();
            newest.into_iter().for_each(|(seq, now)| balance(*key, *now, *seq));
        }
        Ok(())
    }

    fn ids_since(&self, _: u64, _: &mut dyn FnMut(RequestId)) -> Stored<()> {
        unreachable!("the audit does not ask")
    }

    fn applied(&self) -> Stored<Applied> {
        Ok(self.applied)
    }

    fn is_behind(&self) -> Stored<bool> {
        Ok(false)
    }

    fn fold(&self, _: Family, _: Position, _: bool) -> Stored<Box<dyn FamilyWriter + '_>> {
        unreachable!("the audit changes nothing")
    }
}

impl Derived for Toy {
    fn read_through(&self) -> Stored<()> {
        Ok(())
    }

    fn all_versions(&self, version: &mut dyn FnMut(BalanceKey, CommitSeq, Balance)) -> Stored<()> {
        for (key, versions) in &self.versions {
            versions.iter().for_each(|(seq, balance)| version(*key, *seq, *balance));
        }
        Ok(())
    }

    fn all_outcomes(&self, outcome: &mut dyn FnMut(RequestId, BlockNumber)) -> Stored<()> {
        self.outcomes.iter().for_each(|(id, block)| outcome(*id, *block));
        Ok(())
    }

    fn all_records(&self, record: &mut dyn FnMut(Key, CommitSeq, Option<&[u8]>)) -> Stored<()> {
        for (key, versions) in &self.records {
            for (seq, value) in versions {
                record(key.clone(), *seq, value.as_deref());
            }
        }
        Ok(())
    }

    fn all_ended(&self, _: &mut dyn FnMut(RequestId, BlockNumber)) -> Stored<()> {
        Ok(())
    }

    fn all_trades(&self, _: &mut dyn FnMut(MarketId, CommitSeq)) -> Stored<()> {
        Ok(())
    }

    fn all_placed(&self, _: &mut dyn FnMut(AccountId, Placed)) -> Stored<()> {
        Ok(())
    }

    fn all_open(&self, _: &mut dyn FnMut(AccountId, Placed)) -> Stored<()> {
        Ok(())
    }

    fn all_resolved(&self, resolved: &mut dyn FnMut(Token, BlockNumber)) -> Stored<()> {
        self.resolved.iter().for_each(|(token, block)| resolved(*token, *block));
        Ok(())
    }

    fn all_references(&self, reference: &mut dyn FnMut(AssetId, u128, CommitSeq)) -> Stored<()> {
        self.references.iter().for_each(|((asset, hash), seq)| reference(*asset, *hash, *seq));
        Ok(())
    }
}

impl Toy {
    fn audit(&self) -> Result<Report, Failure> {
        audit(self, self, self, self.applied.versions, 2_000, &mut |_| {})
    }

    /// What the audit finds, in words.
    fn finding(&self) -> String {
        match self.audit() {
            Err(Failure::Found(finding)) => finding.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// Drops what may go below a horizon, and the horizon is raised to it.
    fn collect(&mut self, horizon: CommitSeq) {
        fn drop_below<V>(versions: &mut BTreeMap<CommitSeq, V>, horizon: CommitSeq) {
            let kept = versions.range(..=horizon).next_back().map(|(seq, _)| *seq);
            versions.retain(|seq, _| kept.is_none_or(|kept| *seq >= kept));
        }
        self.horizon = horizon;
        self.versions.values_mut().for_each(|versions| drop_below(versions, horizon));
        self.records.values_mut().for_each(|versions| drop_below(versions, horizon));
    }
}

fn spec(name: &str, chain: u64) -> AssetSpec {
    AssetSpec {
        name: name.into(),
        chain: ChainId::new(chain),
        chain_kind: ChainKind::Other,
        token: "native".into(),
        decimals: 0,
    }
}

/// Puts a decision into a block of its own.
fn journal(core: &mut LogCore, told: Told, toy: &mut Toy) {
    for message in told.messages().0 {
        core.take(message, 1, &mut Effects::default());
    }
    let group = core.next_group().unwrap().unwrap();
    let block = &group.write.as_ref().unwrap().block;
    toy.blocks.push(Block::decode(block.bytes().to_vec()).unwrap());
    core.durable(group, &mut Effects::default());
}

/// Something of everything, a block a decision.
fn world() -> (World, Toy) {
    let (mut world, mut toy) = (World::new(2), Toy::default());
    let mut core = LogCore::new(LogStart::default(), 2, 1_000);
    toy.specs = vec![spec("ETH", 1), spec("SOL", 2)];
    let assets = toy.specs.iter().cloned().map(Command::PutAsset).collect();
    let fund = (0..4_u64).flat_map(|n| [0, 1].map(|asset| (n, asset)));
    let fund = fund.map(|(n, asset)| deposit_as(n, asset, 1_000, &format!("in {n}")));
    let fund = fund.collect();
    let holds = vec![prepare(0, 1, 10), prepare(1, 2, 20), prepare(2, 3, 30), withdraw(3, 0, 7)];
    let outcomes = vec![withdraw(3, 1, 9), write(&[("a", "one"), ("b", "two")]), prepare(0, 3, 4)];
    let mut told = vec![world.settle(assets), world.settle(fund), world.settle(holds)];
    told.push(world.settle(outcomes));
    let [first, second, third, out] = told[2].ids[..] else { unreachable!("four were settled") };
    let back = told[3].ids[0];
    told.push(world.settle(vec![
        resolve(first, Action::Commit),
        resolve(second, Action::Rollback),
        resolve(out, Action::Confirm),
        resolve(back, Action::Cancel),
        swap(0, 1, 3),
        write(&[("a", "three"), ("b", "")]),
    ]));
    world.time = Time::new(world.time.get() + 60_000_000);
    told.push(world.decide(vec![(third, resolve(third, Action::Expire), Fate::Settles)]));
    let (again, late) = (world.next_id(), world.next_id());
    let done = Fate::Done(world.resolved[&Token::of(first)].0);
    told.push(world.decide(vec![
        (again, resolve(first, Action::Commit), done),
        (late, swap(0, 1, 9_999), Fate::Refused(Reject::Expired)),
    ]));
    told.push(world.settle(vec![swap(0, 1, 3), swap(1, 2, 3), write(&[("c", "four")])]));
    for (told, number) in told.into_iter().zip(1..) {
        toy.outcomes.extend(told.ids.iter().map(|id| (*id, BlockNumber::new(number))));
        journal(&mut core, told, &mut toy);
    }
    let supply = |less: u128| Amount::new(4_000 - less);
    toy.supplies = [(AssetId::new(0), supply(7)), (AssetId::new(1), supply(0))].into();
    toy.versions = world.history.clone();
    toy.records = world.records.clone();
    toy.holds = world.holds.clone();
    let block_of = |seq| toy.block_of(seq).unwrap().unwrap();
    let resolved = world.resolved.iter().map(|(token, (seq, _))| (*token, block_of(*seq)));
    toy.resolved = resolved.collect();
    toy.references = world.credited.clone();
    let end = Position::after(toy.blocks.last().unwrap());
    toy.applied = Applied { versions: end, outcomes: end, records: end };
    (world, toy)
}

#[test]
fn what_is_whole_is_found_whole() {
    let (world, toy) = world();
    let report = toy.audit().unwrap();
    assert_eq!((report.blocks, report.commits, report.refusals), (8, 27, 2));
    assert_eq!((report.holds, report.resolved, report.references), (1, 5, 8));
    assert_eq!((report.keys, report.records, report.assets), (2, 5, 2));
    assert_eq!((report.random_versions, report.end.seq), (2_000, world.seq));
    assert_eq!(report.outcomes, 28, "all but the expiry");
}

#[test]
fn a_replay_to_any_seq_is_what_the_store_shows() {
    let (world, mut toy) = world();
    for seq in (0..=world.seq.get()).map(CommitSeq::new) {
        let state = replay_to(&toy, seq).unwrap();
        assert_eq!(state.seq, seq);
        compare(&state, &toy).unwrap();
    }
    let end = replay_to(&toy, CommitSeq::new(u64::MAX)).unwrap();
    assert_eq!(end.seq, world.seq, "the journal ends there");
    assert_eq!(end.holds.len(), 1);
    // Any version that is missing shows at its seq.
    for (key, versions) in &world.history {
        for seq in versions.keys() {
            let mut spoilt = toy.clone();
            spoilt.versions.get_mut(key).unwrap().remove(seq);
            compare(&replay_to(&toy, *seq).unwrap(), &spoilt).expect_err("missing");
        }
    }
    toy.holds.clear();
    compare(&end, &toy).expect_err("a hold is missing");
    toy.horizon = CommitSeq::new(5);
    compare(&replay_to(&toy, CommitSeq::new(4)).unwrap(), &toy).expect_err("history is gone");
}

#[test]
fn whatever_is_spoilt_is_found() {
    let (world, whole) = world();
    let token = *whole.resolved.keys().next().unwrap();
    let open = *whole.holds.keys().next().unwrap();
    let key = Key::new(&b"a"[..]);
    let first = whole.records[&key].keys().next().copied().unwrap();
    let spoils: [(&str, Spoil<'_>); 12] = [
        ("stored supply", &|toy| {
            toy.supplies.insert(AssetId::new(1), Amount::new(1));
        }),
        ("stored supply", &|toy| {
            toy.supplies.remove(&AssetId::new(0));
        }),
        ("callers' values", &|toy| {
            toy.records.remove(&key);
        }),
        ("callers' values", &|toy| {
            toy.records.get_mut(&key).unwrap().insert(first, None);
        }),
        ("request ids", &|toy| {
            toy.outcomes.pop_first();
        }),
        ("request ids", &|toy| {
            toy.outcomes.insert(RequestId::new(5), BlockNumber::new(1));
        }),
        ("ended holds", &|toy| {
            toy.resolved.insert(token, BlockNumber::new(1));
        }),
        ("credited references", &|toy| {
            toy.references.pop_last();
        }),
        ("not open in the version store", &|toy| {
            toy.holds.remove(&open);
        }),
        ("as it was made", &|toy| toy.holds.get_mut(&open).unwrap().exclusive = true),
        ("not open by replay", &|toy| {
            let hold = Hold { token, ..toy.holds[&open].clone() };
            toy.holds.insert(token, hold);
        }),
        ("ahead of the journal", &|toy| {
            toy.blocks.pop();
        }),
    ];
    for (expected, spoil) in spoils {
        let mut toy = whole.clone();
        spoil(&mut toy);
        let mark = toy.blocks.last().map(Position::after).unwrap();
        let found = match audit(&toy, &toy, &toy, mark, 10, &mut |_| {}) {
            Err(Failure::Found(finding)) => finding.to_string(),
            other => panic!("{expected}: {other:?}"),
        };
        assert!(found.contains(expected), "{expected}: {found}");
    }
    for (key, versions) in &world.history {
        for (seq, balance) in versions {
            let mut toy = whole.clone();
            let mut other = *balance;
            other.held = Amount::new(other.held.get() + 1);
            toy.versions.get_mut(key).unwrap().insert(*seq, other);
            assert!(toy.finding().starts_with(&format!("seq {seq}: ")), "{}", toy.finding());
        }
    }
}

#[test]
fn below_the_horizon_only_the_newest_must_be_there() {
    let (world, whole) = world();
    for horizon in (1..=world.seq.get()).map(CommitSeq::new) {
        let mut toy = whole.clone();
        toy.horizon = horizon;
        toy.audit().expect("nothing was dropped yet");
        toy.collect(horizon);
        toy.audit().expect("only what may go was dropped");
        compare(&replay_to(&toy, horizon).unwrap(), &toy).unwrap();
        let mut spoilt = toy.clone();
        let (_, versions) = spoilt.versions.iter_mut().next().unwrap();
        let oldest = versions.pop_first().unwrap().0;
        assert!(spoilt.finding().starts_with(&format!("seq {oldest}: ")), "{}", spoilt.finding());
        if let Some((_, versions)) = toy.records.iter_mut().next() {
            versions.pop_first();
            toy.finding();
        }
    }
}

#[test]
fn families_may_stand_at_different_places() {
    let (_, whole) = world();
    for (place, block) in whole.blocks.iter().enumerate() {
        let at = Position::after(block);
        let mut toy = whole.clone();
        toy.applied.versions = at;
        toy.versions.values_mut().for_each(|it| it.retain(|seq, _| *seq <= at.seq));
        toy.audit().unwrap_or_else(|failure| panic!("versions at {at}: {failure:?}"));
        let mut toy = whole.clone();
        toy.applied.records = at;
        toy.records.values_mut().for_each(|it| it.retain(|seq, _| *seq <= at.seq));
        toy.audit().unwrap_or_else(|failure| panic!("records at {at}: {failure:?}"));
        let mut toy = whole.clone();
        toy.applied.outcomes = at;
        toy.outcomes.retain(|_, block| *block <= at.block);
        toy.resolved.retain(|_, block| *block <= at.block);
        toy.references.retain(|_, seq| *seq <= at.seq);
        let state = replay_to(&whole, at.seq).unwrap();
        toy.holds = state.holds.into_iter().collect();
        toy.audit().unwrap_or_else(|failure| panic!("block {place} of outcomes: {failure:?}"));
    }
}

#[test]
fn versions_that_are_there_and_not_found_are_found_at_random() {
    let (_, mut toy) = world();
    assert_eq!(check_random_versions(&toy, &toy, 3_000, 7), Ok(3_000));
    let (_, versions) = toy.versions.iter_mut().next_back().unwrap();
    let newest = versions.last_entry().unwrap();
    *newest.into_mut() = Balance::default();
    check_random_versions(&toy, &toy, 3_000, 7).expect_err("one balance is off");
    assert_eq!(check_random_versions(&Toy::default(), &Toy::default(), 10, 7), Ok(0));
}
