//! What ten thousand open holds of one account cost everybody else.
//!
//! 64 callers swap among 1,000 accounts, one swap each at a time, durable: first alone, then while
//! another account has 10,000 prepared swaps open, then while all of those expire. Rounds alternate,
//! and the figure is the ratio of the p99 latencies of the same run. Seed 1; no argument.
//!
//! ```text
//! cargo bench --profile release --bench open_holds
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::address::{Address, Link};
use crosslatch::clock::{Clock, SystemClock};
use crosslatch::engine::{Brief, Engine, Options};
use crosslatch::request::{AssetSpec, Command, Prepare, Request, Swap, Transfer};
use crosslatch::types::{AccountId, Amount, AssetId, ChainId, ChainKind, Leg, RequestId};

const ACCOUNTS: u64 = 1_000;
const CALLERS: u64 = 64;
const HOLDS: u64 = 10_000;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(2_000);
/// Who holds, and with whom: nobody else swaps with these two.
const HOLDER: u64 = ACCOUNTS;
const PARTNER: u64 = ACCOUNTS + 1;

static NEXT: AtomicU64 = AtomicU64::new(1);

fn request(command: Command) -> Request {
    let random = NEXT.fetch_add(1, Ordering::Relaxed);
    Request::new(RequestId::v7(SystemClock.wall().millis(), random.into()), command)
}

fn asset(number: u32) -> AssetId {
    AssetId::new(number)
}

fn swap(a: u64, b: u64) -> Swap {
    let leg = |from, to, of| Leg {
        from: AccountId::new(from),
        to: AccountId::new(to),
        asset: asset(of),
        amount: Amount::new(1),
    };
    Swap::new([leg(a, b, 0), leg(b, a, 1)]).expect("two legs")
}

fn settle(engine: &Engine, commands: impl IntoIterator<Item = Command>) {
    let requests: Vec<Request> = commands.into_iter().map(request).collect();
    for chunk in requests.chunks(8_192) {
        let answers = engine.submit(chunk.to_vec()).expect("room").wait().expect("it runs");
        for place in 0..answers.len() {
            assert!(
                matches!(answers.brief(place), Brief::Settled(_)),
                "{:?}",
                answers.brief(place)
            );
        }
    }
}

fn open(engine: &Engine) {
    let chain = ChainId::new(1);
    let spec = |name: &str| {
        Command::PutAsset(AssetSpec {
            name: name.into(),
            chain,
            chain_kind: ChainKind::Other,
            token: "native".into(),
            decimals: 0,
        })
    };
    let account = |number: u64| {
        let address = Address::parse(ChainKind::Other, &format!("owner-{number}"));
        let links = vec![Link { chain, address: address.expect("valid") }];
        Command::PutAccount { account: AccountId::new(number), links }
    };
    let deposit = |account: u64, of: u32| {
        Command::Deposit(Transfer {
            account: AccountId::new(account),
            asset: asset(of),
            amount: Amount::new(1 << 40),
            reference: "".into(),
        })
    };
    let everybody = 0..ACCOUNTS + 2;
    settle(engine, [spec("A"), spec("B")].into_iter().chain(everybody.clone().map(account)));
    settle(engine, everybody.flat_map(|account| [deposit(account, 0), deposit(account, 1)]));
}

fn prepare(engine: &Engine, expires_in_ms: u64) {
    let one = || {
        let swap = swap(HOLDER, PARTNER);
        Command::Prepare(Box::new(Prepare { swap, expires_in_ms, exclusive: false }))
    };
    settle(engine, (0..HOLDS).map(|_| one()));
}

/// Latencies, in microseconds, of all callers in one round.
fn round(engine: &Engine, seed: u64) -> Histogram<u64> {
    let stop = AtomicBool::new(false);
    let mut all = Histogram::new(3).expect("three digits");
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (engine, stop) = (engine, &stop);
                scope.spawn(move || call(engine, seed * CALLERS + caller, stop))
            })
            .collect();
        pause(ROUND);
        stop.store(true, Ordering::Relaxed);
        for caller in callers {
            all.add(caller.join().expect("it swaps")).expect("as wide");
        }
    });
    all
}

fn call(engine: &Engine, seed: u64, stop: &AtomicBool) -> Histogram<u64> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut latencies = Histogram::new(3).expect("three digits");
    while !stop.load(Ordering::Relaxed) {
        let a = rng.random_range(0..ACCOUNTS);
        let b = (a + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        let began = SystemClock.boot_nanos();
        settle(engine, [Command::Swap(swap(a, b))]);
        latencies.record((SystemClock.boot_nanos() - began) / 1_000).expect("in range");
    }
    latencies
}

/// Lets the callers work for so long.
fn pause(time: Duration) {
    let (_sender, never): (_, Receiver<()>) = bounded(0);
    let _ = never.recv_timeout(time);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let engine = Engine::start(Options::new(data.path())).expect("it starts");
    open(&engine);
    let (mut open_ratios, mut expiring_ratios) = (Vec::new(), Vec::new());
    for number in 0..ROUNDS as u64 {
        let alone = round(&engine, 3 * number);
        // The holds stand while everybody else swaps, and end while everybody else swaps again.
        prepare(&engine, ROUND.as_millis() as u64 + 500);
        let open = round(&engine, 3 * number + 1);
        let expiring = round(&engine, 3 * number + 2);
        let p99 = |of: &Histogram<u64>| of.value_at_quantile(0.99) as f64;
        println!(
            "round {number}: p99 {} us alone, {} us beside {HOLDS} open holds, {} us while they \
             expire; {} swaps",
            p99(&alone),
            p99(&open),
            p99(&expiring),
            alone.len() + open.len() + expiring.len()
        );
        open_ratios.push(p99(&open) / p99(&alone));
        expiring_ratios.push(p99(&expiring) / p99(&alone));
    }
    println!("p99 beside {HOLDS} open holds: {:.2} times (median)", median(open_ratios));
    println!("p99 while they expire: {:.2} times (median)", median(expiring_ratios));
    engine.stop().expect("it stops");
}
