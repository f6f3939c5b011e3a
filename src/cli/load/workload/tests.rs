//! What the generated swaps look like: the same from the same seed, and shaped as asked.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    load: LoadArgs,
}

fn client(line: &str, number: usize) -> ClientWorkload {
    let words = std::iter::once("load").chain(line.split_whitespace());
    let load = Line::try_parse_from(words).unwrap().load;
    load.check().unwrap();
    ClientWorkload::new(Workload::new(&load), number)
}

fn legs(request: &Request) -> [Leg; 2] {
    match &request.command {
        Command::Swap(swap) => swap.legs().try_into().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn payers(line: &str, swaps: usize) -> Vec<[u64; 2]> {
    let submission = client(line, 0).submission(swaps, 0);
    submission.iter().map(|request| legs(request).map(|leg| leg.from.get())).collect()
}

#[test]
fn the_seed_and_the_number_of_the_client_decide_everything() {
    let first = client("--seed 7", 3).submission(500, 1_000);
    let mut again = client("--seed 7", 3);
    assert_eq!(again.submission(200, 1_000), first[..200]);
    assert_eq!(again.submission(300, 1_000), first[200..]);
    assert_ne!(client("--seed 8", 3).submission(500, 1_000), first);
    assert_ne!(client("--seed 7", 4).submission(500, 1_000), first);
}

#[test]
fn the_swaps_are_the_same_in_every_mode() {
    for line in ["", "--funds tight", "--skew hot:1"] {
        let sent: Vec<_> = client(line, 2).submission(500, 0).iter().map(legs).collect();
        let mut other = client(line, 2);
        let mut planned: Vec<_> = other.plan_batch(500).map(PlannedSwap::legs).collect();
        assert_eq!(planned, sent, "{line}");
        // However many ids it needs on the way.
        let mut interrupted = client(line, 2);
        planned = interrupted.plan_batch(500).map(PlannedSwap::legs).collect();
        (0..77).for_each(|_| _ = interrupted.other_id(0));
        planned.extend(interrupted.plan_batch(100).map(PlannedSwap::legs));
        let more: Vec<_> = other.plan_batch(100).map(PlannedSwap::legs).collect();
        assert_eq!(planned[500..], more, "{line}");
    }
}

#[test]
fn ids_are_not_drawn_twice() {
    let mut client = client("", 1);
    let mut ids: HashSet<_> = client.submission(5_000, 9).iter().map(|it| it.id).collect();
    (0..5_000).for_each(|_| assert!(ids.insert(client.other_id(9))));
}

#[test]
fn a_swap_touches_the_balances_of_both_sides_of_both_legs() {
    let swap = client("", 0).plan_batch(1).next().unwrap();
    let of = |account, asset| BalanceKey { account, asset };
    let [out, back] = swap.legs();
    let expected = [
        of(out.from, out.asset),
        of(out.to, out.asset),
        of(back.from, back.asset),
        of(back.to, back.asset),
    ];
    assert_eq!(swap.balances(), expected);
}

#[test]
fn every_swap_has_two_parties_two_assets_and_amounts_in_range() {
    for line in [
        "",
        "--accounts 2",
        "--assets 17",
        "--skew zipf:1.07",
        "--skew zipf:9 --accounts 3",
        "--skew hot:1",
        "--skew hot:3 --accounts 3",
        "--cross-shard 50 --shards 5",
        "--cross-shard 0 --accounts 2",
        "--funds tight --accounts 2",
        "--funds tight --accounts 50 --assets 5",
    ] {
        let mut client = client(line, 0);
        let (accounts, assets) = (client.rules.accounts, client.rules.assets);
        let amounts = 1..=u128::from(client.rules.amount_max());
        let mut ids = HashSet::new();
        for request in client.submission(5_000, 1_700_000_000_000) {
            let [out, back] = legs(&request);
            assert_eq!((out.from, out.to), (back.to, back.from), "{line}");
            assert_ne!(out.from, out.to, "{line}");
            assert_ne!(out.asset, back.asset, "{line}");
            for leg in [out, back] {
                assert!((1..=accounts).contains(&leg.from.get()), "{line}: {leg:?}");
                assert!(u64::from(leg.asset.get()) < assets, "{line}: {leg:?}");
                assert!(amounts.contains(&leg.amount.get()), "{line}: {leg:?}");
            }
            assert_eq!(request.id.v7_millis(), Some(1_700_000_000_000));
            assert!(ids.insert(request.id), "{line}: an id twice");
        }
    }
}

#[test]
fn uniform_is_even_over_accounts_and_assets() {
    let mut counts = BTreeMap::new();
    payers("--accounts 100", 50_000).into_iter().flatten().for_each(|account| {
        *counts.entry(account).or_insert(0_u64) += 1;
    });
    assert_eq!(counts.len(), 100);
    assert!(counts.values().all(|count| (800..1_200).contains(count)), "{counts:?}");
    let assets = client("--assets 3", 0).submission(3_000, 0);
    let pairs: Vec<_> = assets.iter().map(|request| legs(request).map(|leg| leg.asset)).collect();
    let distinct: BTreeSet<_> = pairs.iter().copied().collect();
    assert_eq!(distinct.len(), 6);
    assert!(distinct.iter().all(|pair| pairs.iter().filter(|it| *it == pair).count() > 400));
}

#[test]
fn zipf_prefers_few_accounts_that_lie_apart() {
    let mut counts = HashMap::new();
    payers("--accounts 10000 --skew zipf:1.07", 50_000).into_iter().flatten().for_each(|account| {
        *counts.entry(account).or_insert(0_u64) += 1;
    });
    let mut ranked: Vec<_> = counts.into_iter().map(|(account, count)| (count, account)).collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    // The harmonic sum of 10,000 ranks with this exponent is about 7.8.
    assert!((10_000..15_000).contains(&ranked[0].0), "{:?}", &ranked[..5]);
    assert!(ranked[0].0 > 9 * ranked[9].0, "{:?}", &ranked[..10]);
    assert!(ranked[0].1.abs_diff(ranked[1].1) > 1_000, "{:?}", &ranked[..2]);
}

#[test]
fn ranks_and_accounts_are_one_to_one() {
    for n in [2, 3, 10, 97, 100, 4_096] {
        let multiplier = coprime(n);
        let accounts: BTreeSet<_> = (0..n).map(|rank| rank * multiplier % n).collect();
        assert_eq!(accounts.len() as u64, n);
    }
}

#[test]
fn a_hot_account_is_in_every_swap_on_both_sides() {
    let one = payers("--skew hot:1", 2_000);
    assert!(one.iter().all(|pair| pair.contains(&1)));
    assert!((800..1_200).contains(&one.iter().filter(|pair| pair[0] == 1).count()));
    let three = payers("--skew hot:3", 2_000);
    assert!(three.iter().all(|pair| pair.iter().filter(|account| **account <= 3).count() == 1));
}

#[test]
fn the_cross_shard_share_is_what_was_asked_or_what_chance_gives() {
    for (line, expected) in [
        ("--shards 2", 5_000),
        ("--shards 1", 0),
        ("--shards 4 --cross-shard 10", 1_000),
        ("--shards 4 --cross-shard 100", 10_000),
        ("--shards 4 --cross-shard 0", 0),
        ("--shards 2 --cross-shard 70 --skew hot:1", 7_000),
    ] {
        let mut client = client(line, 0);
        let spans = |request: &Request| client.rules.spans(legs(request).map(|leg| leg.from));
        let mut other = ClientWorkload::new(Arc::clone(&client.rules), 0);
        let counted = other.submission(10_000, 0).iter().filter(|it| spans(it)).count() as u64;
        client.submission(10_000, 0);
        let said = client.take_cross_shard();
        assert_eq!(said, counted, "{line}");
        assert!(said.abs_diff(expected) < 300, "{line}: {said}");
        assert_eq!(client.take_cross_shard(), 0);
    }
}

#[test]
fn planned_swaps_say_who_pays_what() {
    let mut tight = client("--funds tight", 0);
    let requests = tight.submission(100, 0);
    for (index, request) in requests.iter().enumerate() {
        let planned = tight.planned(index).unwrap();
        assert_eq!(planned.legs(), legs(request));
        for leg in legs(request) {
            assert_eq!(u128::from(planned.pays(leg.from, leg.asset)), leg.amount.get());
            assert_eq!(planned.pays(leg.to, leg.asset), 0);
        }
    }
    let mut ample = client("", 0);
    ample.submission(10, 0);
    assert_eq!(ample.planned(0), None);
}

/// A plain model: a submission is undecided as a whole, then decided in order.
#[derive(Default)]
struct Model {
    spent: HashMap<(AccountId, AssetId), i128>,
    waits: usize,
    refusals: usize,
}

impl Model {
    const START: i128 = TIGHT_BALANCE as i128;

    fn available(&self, leg: &Leg) -> i128 {
        Self::START - self.spent.get(&(leg.from, leg.asset)).copied().unwrap_or(0)
    }

    fn submit(&mut self, requests: &[Request]) {
        let mut granted: HashMap<_, (i128, i128)> = HashMap::new();
        for request in requests {
            let mut waits = false;
            for leg in legs(request) {
                let amount = leg.amount.get() as i128;
                let (debits, credits) = granted.entry((leg.from, leg.asset)).or_default();
                let certain = self.available(&leg) - *debits;
                waits |= certain < amount && self.available(&leg) + *credits >= amount;
                *debits += amount.min(certain.max(0));
                granted.entry((leg.to, leg.asset)).or_default().1 += amount;
            }
            self.waits += usize::from(waits);
        }
        requests.iter().for_each(|request| self.decide(&legs(request)));
    }

    fn decide(&mut self, legs: &[Leg; 2]) {
        if legs.iter().any(|leg| self.available(leg) < leg.amount.get() as i128) {
            self.refusals += 1;
            return;
        }
        for leg in legs {
            *self.spent.entry((leg.from, leg.asset)).or_default() += leg.amount.get() as i128;
            *self.spent.entry((leg.to, leg.asset)).or_default() -= leg.amount.get() as i128;
        }
    }
}

#[test]
fn tight_funds_make_a_tenth_wait_and_a_tenth_be_refused() {
    let mut client = client("--funds tight --accounts 100000", 0);
    for rounds in [3, 150] {
        let mut model = Model::default();
        let swaps = rounds * 4_096;
        (0..rounds).for_each(|_| model.submit(&client.submission(4_096, 0)));
        assert!(model.waits * 10 > swaps, "{} of {swaps} wait", model.waits);
        assert!(model.refusals * 10 > swaps, "{} of {swaps} refused", model.refusals);
        assert!(model.refusals * 2 < swaps, "{} of {swaps} refused", model.refusals);
    }
}
