//! The pure cores together on one thread: a machine, some shards, and channels that a seed delays.
//!
//! Each seed makes a small world (`world`) with few accounts and tight funds, sends it random
//! requests (`requests`), delivers the messages between its actors in a random order that keeps each
//! channel's own, and then replays what was decided against plain maps (`oracle`). Nothing here
//! reads a clock or starts a thread, so a seed is a failure's whole story:
//!
//! ```text
//! SEED=4711 cargo test --release --test cores     # that seed alone
//! SEEDS=100000 cargo test --release --test cores  # more than usual
//! ```

mod oracle;
mod requests;
mod world;

use std::ops::AddAssign;

use proptest::prelude::*;

use crosslatch::message::{Side, Txn};
use crosslatch::request::{Command, Request, Swap};
use crosslatch::types::{AccountId, Amount, AssetId, Leg, RequestId};

/// What happened in a world: a run that never met the hard cases proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Coverage {
    settled: u64,
    refused_early: u64,
    short: u64,
    not_linked: u64,
    capped: u64,
    duplicates: u64,
    followers: u64,
    waits: u64,
    late_yes: u64,
    late_no: u64,
    late_and_dropped: u64,
    directory_changes: u64,
    reads: u64,
    busy: u64,
    locked: u64,
    late_locked: u64,
    given_back: u64,
    committed: u64,
    rolled_back: u64,
    expired: u64,
    exclusive: u64,
    transactions: u64,
    repeats: u64,
    already_resolved: u64,
    unknown_token: u64,
    already_credited: u64,
    too_many_holds: u64,
    share_exceeded: u64,
    conflicts: u64,
    busy_too_often: u64,
    lock_timeouts: u64,
    idle_until_due: u64,
}

impl AddAssign for Coverage {
    fn add_assign(&mut self, more: Self) {
        self.settled += more.settled;
        self.refused_early += more.refused_early;
        self.short += more.short;
        self.not_linked += more.not_linked;
        self.capped += more.capped;
        self.duplicates += more.duplicates;
        self.followers += more.followers;
        self.waits += more.waits;
        self.late_yes += more.late_yes;
        self.late_no += more.late_no;
        self.late_and_dropped += more.late_and_dropped;
        self.directory_changes += more.directory_changes;
        self.reads += more.reads;
        self.busy += more.busy;
        self.locked += more.locked;
        self.late_locked += more.late_locked;
        self.given_back += more.given_back;
        self.committed += more.committed;
        self.rolled_back += more.rolled_back;
        self.expired += more.expired;
        self.exclusive += more.exclusive;
        self.transactions += more.transactions;
        self.repeats += more.repeats;
        self.already_resolved += more.already_resolved;
        self.unknown_token += more.unknown_token;
        self.already_credited += more.already_credited;
        self.too_many_holds += more.too_many_holds;
        self.share_exceeded += more.share_exceeded;
        self.conflicts += more.conflicts;
        self.busy_too_often += more.busy_too_often;
        self.lock_timeouts += more.lock_timeouts;
        self.idle_until_due += more.idle_until_due;
    }
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs one seed's world to its end and checks it; a panic names the seed.
fn run(seed: u64) -> Coverage {
    let checked = std::panic::catch_unwind(|| {
        let mut world = world::World::new(seed);
        world.run();
        oracle::check(&world)
    });
    checked.unwrap_or_else(|panic| {
        eprintln!("seed {seed} failed; replay it with SEED={seed}");
        std::panic::resume_unwind(panic)
    })
}

#[test]
fn whatever_is_delayed_the_outcome_is_that_of_a_serial_order() {
    if let Some(seed) = number("SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let mut seen = Coverage::default();
    for seed in 0..number("SEEDS").unwrap_or(6_000) {
        seen += run(seed);
    }
    println!("{seen:?}");
    let rare = [
        ("settled", seen.settled),
        ("refused before a shard was asked", seen.refused_early),
        ("short of funds", seen.short),
        ("not linked", seen.not_linked),
        ("above the supply's cap", seen.capped),
        ("duplicates", seen.duplicates),
        ("duplicates of undecided requests", seen.followers),
        ("told to wait", seen.waits),
        ("late yes", seen.late_yes),
        ("late no", seen.late_no),
        ("late votes on what was dropped", seen.late_and_dropped),
        ("directory changes", seen.directory_changes),
        ("reads", seen.reads),
        ("met something undecided", seen.busy),
        ("met an exclusive hold", seen.locked),
        ("met one after a wait", seen.late_locked),
        ("given back", seen.given_back),
        ("holds committed", seen.committed),
        ("holds rolled back", seen.rolled_back),
        ("holds expired", seen.expired),
        ("exclusive holds", seen.exclusive),
        ("transactions", seen.transactions),
        ("resolved again in the same way", seen.repeats),
        ("resolved already in another way", seen.already_resolved),
        ("unknown tokens", seen.unknown_token),
        ("references credited already", seen.already_credited),
        ("too many holds", seen.too_many_holds),
        ("too much set aside", seen.share_exceeded),
        ("conflicts", seen.conflicts),
        ("busy too often", seen.busy_too_often),
        ("waited too long for a lock", seen.lock_timeouts),
        ("nothing but time moved", seen.idle_until_due),
    ];
    for (what, times) in rare {
        assert!(times >= 100, "{what}: only {times} times, so it was hardly tested");
    }
}

fn legs() -> impl Strategy<Value = Vec<Leg>> {
    let amount = prop_oneof![1..=20_u128, Just(u128::MAX), Just(u128::MAX / 2)];
    let leg = (0..4_u64, 1..4_u64, 0..2_u32, amount).prop_map(|(from, step, asset, amount)| Leg {
        from: AccountId::new(from),
        to: AccountId::new((from + step) % 4),
        asset: AssetId::new(asset),
        amount: Amount::new(amount),
    });
    proptest::collection::vec(leg, 2..=16)
}

/// What an account gets and gives of an asset, added up leg by leg; `None` above 128 bits.
fn net(legs: &[Leg], account: AccountId, asset: AssetId) -> Option<(u128, u128)> {
    let mut mine = legs.iter().filter(|leg| leg.asset == asset);
    mine.try_fold((0_u128, 0_u128), |(out, into), leg| {
        let sum =
            |all: u128, whose| all.checked_add(if whose == account { leg.amount.get() } else { 0 });
        Some((sum(out, leg.from)?, sum(into, leg.to)?))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// However legs share balances, the operations say what the legs say, once per balance.
    #[test]
    fn operations_are_the_legs_netted(legs in legs()) {
        let swap = Swap::new(legs.iter().copied()).expect("well-formed");
        let request = Request::new(RequestId::new(1), Command::Swap(swap));
        let balances: Vec<(AccountId, AssetId)> = (0..4).flat_map(|account| {
            (0..2).map(move |asset| (AccountId::new(account), AssetId::new(asset)))
        }).collect();
        let nets: Option<Vec<_>> =
            balances.iter().map(|(account, asset)| net(&legs, *account, *asset)).collect();
        let Some(nets) = nets else {
            prop_assert!(Txn::new(request, 0, 3).is_err(), "a sum exceeds 128 bits");
            return Ok(());
        };
        if nets.iter().all(|(out, into)| out == into) {
            prop_assert!(Txn::new(request, 0, 3).is_err(), "nothing would move");
            return Ok(());
        }
        let txn = Txn::new(request, 0, 3).expect("it can be netted");
        let mut shards = 0;
        for ((account, asset), (out, into)) in balances.into_iter().zip(nets) {
            let ops: Vec<_> = txn.ops()
                .filter(|op| (op.key.account, op.key.asset) == (account, asset))
                .collect();
            let touched = legs.iter()
                .any(|leg| leg.asset == asset && (leg.from == account || leg.to == account));
            prop_assert_eq!(ops.len(), usize::from(touched));
            for op in ops {
                let expected = if out > into { Side::Debit } else { Side::Credit };
                prop_assert_eq!((op.side, op.amount.get()), (expected, out.abs_diff(into)));
                shards |= 1 << op.key.account.shard(3);
            }
        }
        prop_assert_eq!(txn.shards, shards);
    }
}
