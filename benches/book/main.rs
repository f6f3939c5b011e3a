//! How many commands a second one book takes on one core, alone and beside a plain one.
//!
//! Workload: five flows (`flows` says what is in them; seed 1), each 500,000 commands to fill the book,
//! then 2,000,000 that are measured: made before, replayed against [`Book`] and against a
//! `BTreeMap<Price, VecDeque>` book with a hash map of ids (`plain`), in turn, five rounds each. Every
//! command's events are looked at and cleared. Time is what the thread ran, so others on the machine
//! disturb it through the caches only. Both must make as many fills, and trade as many lots.
//!
//! Memory: a process of its own lets 1,000,000 orders rest, by the distances of the normal flow, and
//! divides what its resident memory grew by: what is allocated, with what was freed given back at once.
//! Hardware: whatever it runs on. No argument.
//!
//! ```text
//! cargo bench --profile release --no-default-features --bench book
//! ```

mod flows;
mod plain;

use std::process::Command as Process;

use crosslatch::market::Book;
use crosslatch::market::order::{Event, OrderId, Price, Side};
use hashbrown::HashSet;

use flows::{Command, FLOWS, Flow, ORDERS_MAX, What, carry_out, generate};
use plain::Plain;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SEED: u64 = 1;
const WARM_UP: usize = 500_000;
const MEASURED: usize = 2_000_000;
const ROUNDS: usize = 5;
const RESTING: u64 = 1_000_000;
const PAGE_BYTES: u64 = 4_096;
/// Says to this program that it is to measure the memory of one book.
const MEMORY_OF: &str = "CROSSLATCH_BOOK_MEMORY_OF";

fn main() {
    if let Ok(name) = std::env::var(MEMORY_OF) {
        println!("{}", resting_bytes(&name));
        return;
    }
    println!("seed {SEED}, {MEASURED} commands a flow after {WARM_UP}; {ROUNDS} rounds");
    println!("million commands/s: median (least .. most)\n");
    for flow in FLOWS {
        measure(flow);
    }
    for name in ["book", "plain"] {
        println!("memory per resting order, {name}: {} bytes", memory_of(name));
    }
}

/// What a replay came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Traded {
    fills: u64,
    lots: u64,
}

impl Traded {
    #[inline]
    fn add(&mut self, events: &[Event]) {
        for event in events {
            if let Event::Filled { lots, .. } = event {
                self.fills += 1;
                self.lots += lots.0;
            }
        }
    }
}

fn measure(flow: Flow) {
    let commands = generate(flow, WARM_UP + MEASURED, SEED);
    let (mut book, mut plain, mut traded) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (rates, replayed) in
            [(&mut book, replay_book(&commands)), (&mut plain, replay_plain(&commands))]
        {
            rates.push(MEASURED as f64 * 1e3 / replayed.0 as f64);
            traded.push(replayed.1);
        }
    }
    assert!(traded.iter().all(|it| *it == traded[0]), "the books disagree: {traded:?}");
    println!("{:<9} {}", flow.name, describe(&commands, traded[0]));
    let ratio = median(&mut book) / median(&mut plain);
    println!("          book {}  plain {}  ratio {ratio:.1}\n", range(&book), range(&plain));
}

/// Nanoseconds of the measured part, and what was traded in it.
fn replay(commands: &[Command], mut give: impl FnMut(&Command, &mut Vec<Event>)) -> (u64, Traded) {
    let (warm_up, measured) = commands.split_at(WARM_UP);
    let mut events = Vec::with_capacity(1_024);
    for command in warm_up {
        events.clear();
        give(command, &mut events);
    }
    let mut traded = Traded::default();
    let began = cpu_nanos();
    for command in measured {
        events.clear();
        give(command, &mut events);
        traded.add(&events);
    }
    (cpu_nanos() - began, traded)
}

/// How long this thread has run.
fn cpu_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn replay_book(commands: &[Command]) -> (u64, Traded) {
    let mut book = Book::new(Price(1), ORDERS_MAX);
    replay(commands, |command, events| {
        // Refused amendments are part of the flow.
        let _ = carry_out(&mut book, command, events);
    })
}

fn replay_plain(commands: &[Command]) -> (u64, Traded) {
    let mut plain = Plain::default();
    replay(commands, |command, events| plain.carry_out(command, events))
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn range(sorted: &[f64]) -> String {
    let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
    format!("{:>5.1} ({least:.1} .. {most:.1})", sorted[sorted.len() / 2])
}

/// How many of which command, what becomes of the orders, and how large the book is at the end.
fn describe(commands: &[Command], traded: Traded) -> String {
    let mut book = Book::new(Price(1), ORDERS_MAX);
    let (mut events, mut amended, mut filled) = (Vec::new(), HashSet::new(), 0);
    for command in commands {
        events.clear();
        let _ = carry_out(&mut book, command, &mut events);
        if command.what == What::Amend {
            amended.insert(command.id);
        }
        filled += events.iter().filter(|it| is_whole(it)).count();
        filled += usize::from(took_all(command, &events));
    }
    let count = |what| commands.iter().filter(|it| it.what == what).count();
    let (limit, post_only, ioc) = (count(What::Limit), count(What::PostOnly), count(What::Ioc));
    let placed = limit + post_only + ioc;
    let share = |part: usize| part as f64 / placed as f64 * 100.0;
    let levels = book.levels(Side::Buy).count() + book.levels(Side::Sell).count();
    let largest = book.levels(Side::Buy).chain(book.levels(Side::Sell));
    let largest = largest.map(|(_, level)| level.orders).max().unwrap_or(0);
    format!(
        "limit {limit}, post-only {post_only}, ioc {ioc}, amend {}, cancel {}\n          \
         of the orders: {:.0}% ioc, {:.0}% amended, {:.0}% not filled; {} fills measured\n          \
         at the end {} orders at {levels} prices, at most {largest} at one",
        count(What::Amend),
        count(What::Cancel),
        share(ioc),
        share(amended.len()),
        share(placed - filled),
        traded.fills,
        book.len(),
    )
}

/// Whether a maker is gone by a fill.
fn is_whole(event: &Event) -> bool {
    matches!(event, Event::Filled { left, .. } if left.0 == 0)
}

/// Whether an order that came was filled whole.
fn took_all(command: &Command, events: &[Event]) -> bool {
    let id = OrderId(command.id);
    command.what != What::Cancel
        && matches!(events.last(), Some(Event::Filled { taker, .. }) if *taker == id)
}

// ---- Memory.

/// What a process of its own measured, in bytes.
fn memory_of(name: &str) -> String {
    let program = std::env::current_exe().expect("this program");
    let output = Process::new(program)
        .env(MEMORY_OF, name)
        .env("MIMALLOC_PURGE_DELAY", "0") // What is freed is given back at once.
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a number").trim().to_owned()
}

fn resting_bytes(name: &str) -> u64 {
    let orders = flows::resting(RESTING, SEED);
    let mut events = Vec::with_capacity(16);
    let (mut book, mut plain) = (Book::new(Price(1), ORDERS_MAX), Plain::default());
    let before = resident_bytes();
    for order in &orders {
        events.clear();
        if name == "book" {
            carry_out(&mut book, order, &mut events).expect("it rests");
        } else {
            plain.carry_out(order, &mut events);
        }
    }
    let grown = resident_bytes() - before;
    assert_eq!((book.len() + plain.len()) as u64, RESTING);
    grown / RESTING
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages = statm.split(' ').nth(1).expect("resident pages come second");
    pages.parse::<u64>().expect("a number") * PAGE_BYTES
}
