//! What the metrics cost.
//!
//! Two engines in one process do the same swaps in turns: one that was started before anything records, so
//! that its observers are silent for good, and one that records everything and is scraped once a second.
//! 4 callers send batches of 4,096 swaps among 10,000 accounts; 12 pairs of rounds of 2 s, in the order
//! off, on, on, off; the figures are the medians of the pairs' ratios, with the middle half of them: of swaps a
//! second, and of CPU time a swap, callers included, which other programs on the machine disturb less. First
//! with answers that wait for the disk, then with answers that do not, so that nothing hides behind fsync. Seed 1.
//!
//! ```text
//! cargo bench --profile release --bench metrics
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded, tick};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use crosslatch::address::{Address, Link};
use crosslatch::clock::{Clock, SystemClock};
use crosslatch::engine::{Brief, Durability, Engine, Options};
use crosslatch::metrics::{self, Exporter};
use crosslatch::request::{AssetSpec, Command, Request, Swap, Transfer};
use crosslatch::types::{AccountId, Amount, AssetId, ChainId, ChainKind, Leg, RequestId};

const ACCOUNTS: u64 = 10_000;
const CALLERS: u64 = 4;
const BATCH: usize = 4_096;
const PAIRS: usize = 12;
const ROUND: Duration = Duration::from_millis(2_000);
const SCRAPE_EVERY: Duration = Duration::from_secs(1);

fn request(rng: &mut SmallRng, command: Command) -> Request {
    Request::new(RequestId::v7(SystemClock.wall().millis(), rng.random()), command)
}

fn settle(engine: &Engine, requests: Vec<Request>) -> u64 {
    let answers = engine.submit(requests).expect("room").wait().expect("it runs");
    for place in 0..answers.len() {
        let brief = answers.brief(place);
        assert!(matches!(brief, Brief::Settled(_)), "{brief:?}");
    }
    answers.len() as u64
}

/// An engine with its accounts and their money, and where it has its data.
fn start(durability: Durability) -> (Engine, TempDir) {
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let engine = Engine::start(Options { durability, ..Options::new(data.path()) });
    let engine = engine.expect("it starts");
    let chain = ChainId::new(1);
    let spec = |name: &str| AssetSpec {
        name: name.into(),
        chain,
        chain_kind: ChainKind::Other,
        token: "native".into(),
        decimals: 0,
    };
    let account = |number: u64| {
        let address = Address::parse(ChainKind::Other, &format!("owner-{number}"));
        let links = vec![Link { chain, address: address.expect("valid") }];
        Command::PutAccount { account: AccountId::new(number), links }
    };
    let deposit = |number: u64| {
        let (account, amount) = (AccountId::new(number), Amount::new(1 << 60));
        let to = |asset| Transfer { account, asset, amount, reference: "".into() };
        [0, 1].map(|asset| Command::Deposit(to(AssetId::new(asset))))
    };
    let assets = ["A", "B"].map(|name| Command::PutAsset(spec(name)));
    let accounts = (0..ACCOUNTS).map(account);
    let deposits = (0..ACCOUNTS).flat_map(deposit);
    let mut rng = SmallRng::seed_from_u64(0);
    let all: Vec<Request> = assets
        .into_iter()
        .chain(accounts)
        .chain(deposits)
        .map(|it| request(&mut rng, it))
        .collect();
    for chunk in all.chunks(BATCH) {
        settle(&engine, chunk.to_vec());
    }
    (engine, data)
}

fn swap(rng: &mut SmallRng) -> Command {
    let a = rng.random_range(0..ACCOUNTS);
    let b = (a + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
    let leg = |from, to, asset| Leg {
        from: AccountId::new(from),
        to: AccountId::new(to),
        asset: AssetId::new(asset),
        amount: Amount::new(1),
    };
    Command::Swap(Swap::new([leg(a, b, 0), leg(b, a, 1)]).expect("two legs"))
}

/// What a round came to.
struct Round {
    swaps_per_second: f64,
    cpu_nanos_per_swap: f64,
}

/// CPU time of this process.
fn cpu_nanos() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// One round; scraped meanwhile if there is an exporter.
fn round(engine: &Engine, seed: u64, exporter: Option<&Exporter>) -> Round {
    let stop = AtomicBool::new(false);
    let (began, cpu_before) = (SystemClock.boot_nanos(), cpu_nanos());
    let settled: u64 = std::thread::scope(|scope| {
        let call = |caller: u64| {
            let stop = &stop;
            scope.spawn(move || {
                let mut rng = SmallRng::seed_from_u64(seed * CALLERS + caller);
                let mut settled = 0;
                while !stop.load(Ordering::Relaxed) {
                    let swaps = (0..BATCH).map(|_| swap(&mut rng)).collect::<Vec<_>>();
                    let swaps = swaps.into_iter().map(|it| request(&mut rng, it)).collect();
                    settled += settle(engine, swaps);
                }
                settled
            })
        };
        let callers: Vec<_> = (0..CALLERS).map(call).collect();
        let (end, ended): (_, Receiver<()>) = bounded(0);
        scope.spawn(move || scrape(exporter, &ended));
        let (_never, time) = bounded::<()>(0);
        let _ = time.recv_timeout(ROUND);
        stop.store(true, Ordering::Relaxed);
        drop(end);
        callers.into_iter().map(|caller| caller.join().expect("it swaps")).sum()
    });
    let seconds = (SystemClock.boot_nanos() - began) as f64 / 1e9;
    Round {
        swaps_per_second: settled as f64 / seconds,
        cpu_nanos_per_swap: (cpu_nanos() - cpu_before) / settled as f64,
    }
}

fn scrape(exporter: Option<&Exporter>, ended: &Receiver<()>) {
    let every = tick(SCRAPE_EVERY);
    loop {
        crossbeam::select! {
            recv(every) -> _ => assert!(exporter.is_none_or(|it| !it.render().is_empty())),
            recv(ended) -> _ => return,
        }
    }
}

/// The quantile of values in order.
fn quantile(values: &[f64], share: f64) -> f64 {
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// The median of some ratios and the middle half of them, as percent above 1.
fn percent(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    let at = |share| 100.0 * (quantile(&ratios, share) - 1.0);
    format!("{:+.1} % (middle half {:+.1} to {:+.1} %)", at(0.5), at(0.25), at(0.75))
}

fn compare(durability: Durability, off: &Engine, on: &Engine, exporter: &Exporter) {
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS as u64 {
        let silent = || round(off, 2 * pair + 1, None);
        let recorded = || round(on, 2 * pair + 2, Some(exporter));
        let (silent, recorded) = if pair.is_multiple_of(2) {
            (silent(), recorded())
        } else {
            let recorded = recorded();
            (silent(), recorded)
        };
        println!(
            "{durability:?} pair {pair}: {:.0}/s off, {:.0}/s on; CPU {:.0} ns a swap off, {:.0} on",
            silent.swaps_per_second,
            recorded.swaps_per_second,
            silent.cpu_nanos_per_swap,
            recorded.cpu_nanos_per_swap
        );
        rates.push(recorded.swaps_per_second / silent.swaps_per_second);
        costs.push(recorded.cpu_nanos_per_swap / silent.cpu_nanos_per_swap);
    }
    println!("{durability:?}: with metrics, swaps a second {}", percent(rates));
    println!("{durability:?}: with metrics, CPU a swap {}", percent(costs));
}

fn main() {
    let all = [Durability::Sync, Durability::Off];
    // Who is started before anybody records stays silent.
    let silent = all.map(start);
    let exporter = metrics::install().expect("nobody else records");
    let before = exporter.render();
    for ((off, _data), durability) in silent.into_iter().zip(all) {
        let (on, _data) = start(durability);
        compare(durability, &off, &on, &exporter);
        off.stop().expect("it stops");
        on.stop().expect("it stops");
    }
    assert_ne!(exporter.render(), before, "nothing was recorded");
}
