//! Random commands to both books, which must answer the same.
//!
//! An episode is one world from an empty book on, of one seed. In its middle both books are restored
//! into fresh ones from their lists; old and new then run side by side for a while, and must do the
//! same but for the slots, and after that the new ones go on alone.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::market::Book;
use crosslatch::market::order::{
    Event, Price, Refusal, Resting, SelfTrade, Side, Slot, TimeInForce,
};

use crate::Rules;
use crate::command::{self, Command};
use crate::coverage::Coverage;
use crate::ledger::Ledger;
use crate::naive::Naive;
use crate::worlds::{CROWD, Commands, THRONG, WORLDS, World};

const OPERATIONS: u64 = 3_000_000;
/// One episode in so many is of a crowd.
const CROWD_EVERY: u64 = 101;
/// And one in so many of a throng: a second or two each, so that only long runs meet it.
const THRONG_EVERY: u64 = 1_009;
/// How often all that can be asked is compared, in commands.
const COMPARE_EVERY: u64 = 61;
/// How long restored books run beside those that they were restored from, in commands.
const BESIDE: u64 = 300;
/// How many of the last commands a failure shows.
const SHOWN: usize = 20;

const SIDES: [Side; 2] = [Side::Buy, Side::Sell];

#[test]
fn random_commands_come_to_the_same_in_both_books() {
    let number = |name, default| {
        std::env::var(name).map_or(default, |text: String| text.parse().expect("a number"))
    };
    let (first, wanted) =
        (number("CROSSLATCH_SEED", 1), number("CROSSLATCH_OPERATIONS", OPERATIONS));
    let (mut seed, mut done, mut coverage) = (first, 0, Coverage::default());
    while done < wanted {
        done += run(seed, done, &mut coverage);
        seed += 1;
    }
    println!("{done} commands, seeds {first} to {}: {coverage}", seed - 1);
    if wanted >= OPERATIONS {
        coverage.check();
    }
}

/// One episode, after so many commands in others; says how many it had.
fn run(seed: u64, before: u64, coverage: &mut Coverage) -> u64 {
    let mut episode = Episode::new(seed);
    let ran = catch_unwind(AssertUnwindSafe(|| episode.run(coverage)));
    ran.unwrap_or_else(|failure| {
        eprintln!("{}", episode.story(before));
        resume_unwind(failure)
    });
    episode.length
}

/// Both books, and what came last from each.
struct Pair {
    book: Book,
    naive: Naive,
    of_book: Vec<Event>,
    of_naive: Vec<Event>,
}

impl Pair {
    fn new(world: &World) -> Self {
        let tick = Price(world.tick);
        let (book, naive) = (Book::new(tick, world.orders_max), Naive::new(tick, world.orders_max));
        Self { book, naive, of_book: Vec::new(), of_naive: Vec::new() }
    }

    fn tell(&mut self, command: &Command) -> Result<Option<Slot>, Refusal> {
        self.of_book.clear();
        self.of_naive.clear();
        let expected = self.naive.carry_out(command, &mut self.of_naive);
        let answer = self.book.carry_out(command, &mut self.of_book);
        assert_eq!(answer, expected, "the answer to {command}; right: the naive book's");
        assert_eq!(self.of_book, self.of_naive, "the events of {command}; right: the naive book's");
        self.compare_touched(command);
        answer
    }

    /// What a command is likely to have changed.
    fn compare_touched(&self, command: &Command) {
        let (book, naive) = (&self.book, &self.naive);
        assert_eq!(book.len(), naive.len(), "how many stand");
        for side in SIDES {
            assert_eq!(book.best(side), naive.best(side), "the best {side:?}");
        }
        let touched = match *command {
            Command::Place(order) => Some((order.id, order.price)),
            Command::Restore(order) => Some((order.id, order.price)),
            Command::Amend { id, price, .. } => Some((id, price)),
            Command::Cancel(_) | Command::CancelAll(_) | Command::Expire(_) => None,
        };
        let prices = self.of_naive.iter().filter_map(price_of);
        for price in prices.chain(touched.map(|(_, price)| price)) {
            for side in SIDES {
                let level = naive.level(side, price);
                assert_eq!(book.level(side, price), level, "{side:?} at {price:?}");
            }
        }
        if let Some((id, _)) = touched {
            assert_eq!(book.order(id), naive.order(id), "{id:?}");
        }
    }

    /// All that can be asked.
    fn compare(&self, coverage: &mut Coverage) {
        let (book, naive) = (&self.book, &self.naive);
        for side in SIDES {
            if !book.orders(side).eq(naive.orders(side)) {
                let (book, naive): (Vec<_>, Vec<_>) =
                    (book.orders(side).collect(), naive.orders(side).collect());
                assert_eq!(book, naive, "the orders of {side:?}; right: the naive book's");
            }
            let (levels, expected): (Vec<_>, Vec<_>) =
                (book.levels(side).collect(), naive.levels(side).collect());
            assert_eq!(levels, expected, "the levels of {side:?}; right: the naive book's");
            for (price, level) in expected {
                assert_eq!(book.level(side, price), level, "{side:?} at {price:?}");
                coverage.count_level(&level);
            }
            for (slot, order) in naive.orders(side) {
                assert_eq!(book.order(order.id), Some((slot, order)), "{:?}", order.id);
            }
        }
        coverage.count_book(naive.len());
        assert_eq!(book.len(), naive.len(), "how many stand");
        assert_eq!(book.is_empty(), naive.is_empty(), "whether anybody stands");
        assert_eq!(book.next_expiry(), naive.next_expiry(), "the next expiry");
    }

    /// Fresh books with the same orders, the two sides mixed as chance will have it.
    fn restored(&self, world: &World, rng: &mut SmallRng) -> Self {
        let mut fresh = Self::new(world);
        let list = |side| self.book.orders(side).map(|(_, order)| order).collect();
        let [mut buys, mut sells]: [VecDeque<Resting>; 2] = SIDES.map(list);
        while buys.len() + sells.len() > 0 {
            let from = if rng.random() { &mut buys } else { &mut sells };
            if let Some(order) = from.pop_front() {
                let slot = fresh.book.restore(order);
                assert_eq!(slot, fresh.naive.restore(order), "the slot of {:?}", order.id);
            }
        }
        fresh
    }
}

struct Episode {
    seed: u64,
    length: u64,
    done: u64,
    world: World,
    rng: SmallRng,
    commands: Commands,
    pair: Pair,
    /// Restored from `pair`, and as many commands ago.
    restored: Option<(Pair, u64)>,
    ledger: Ledger,
    last: VecDeque<(Command, Vec<Event>)>,
}

impl Episode {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (world, length) = if seed.is_multiple_of(THRONG_EVERY) {
            (THRONG, 80_000)
        } else if seed.is_multiple_of(CROWD_EVERY) {
            (CROWD, 12_000)
        } else {
            let lengths = [300, 3_000, 3_000, 20_000];
            let world = WORLDS[(seed % WORLDS.len() as u64) as usize];
            (world, lengths[rng.random_range(0..lengths.len())])
        };
        Self {
            seed,
            length,
            done: 0,
            world,
            commands: Commands::new(world, SmallRng::from_rng(&mut rng)),
            rng,
            pair: Pair::new(&world),
            restored: None,
            ledger: Ledger::default(),
            last: VecDeque::with_capacity(SHOWN),
        }
    }

    fn run(&mut self, coverage: &mut Coverage) {
        let restart = self.rng.random_range(0..self.length);
        while self.done < self.length {
            self.done += 1;
            let command = self.commands.next(&self.pair.naive);
            self.step(&command, coverage);
            if self.done == restart {
                coverage.restarts += 1;
                self.restored = Some((self.pair.restored(&self.world, &mut self.rng), 0));
            }
        }
        self.compare(coverage);
    }

    fn step(&mut self, command: &Command, coverage: &mut Coverage) {
        self.remember(command);
        let own = self.own_in_reach(command);
        let answer = self.pair.tell(command);
        let events = &self.pair.of_naive;
        self.last.back_mut().expect("just remembered").1.extend(events);
        self.ledger.enter(command, &answer, events);
        coverage.count(command, &answer, events);
        if let Some(rule) = own.filter(|_| answer.is_ok()) {
            coverage.count_fok_with_own(rule, events);
        }
        self.tell_restored(command, &answer);
        if self.done.is_multiple_of(COMPARE_EVERY) {
            self.compare(coverage);
        }
    }

    fn compare(&self, coverage: &mut Coverage) {
        self.pair.compare(coverage);
        self.ledger.check_book(&self.pair.book);
        let levels = SIDES.into_iter().flat_map(|side| self.pair.book.levels(side));
        let standing: u128 = levels.map(|(_, level)| level.lots).sum();
        assert_eq!(standing, self.ledger.left(), "what the events leave, and what stands");
        if let Some((restored, _)) = &self.restored {
            restored.compare(&mut Coverage::default());
            for side in SIDES {
                let orders = restored.book.orders(side).map(|(_, order)| order);
                let expected = self.pair.book.orders(side).map(|(_, order)| order);
                assert!(orders.eq(expected), "a restored book has other orders");
            }
        }
    }

    /// The restored books do the same, but for the slots; after a while they take over.
    fn tell_restored(&mut self, command: &Command, expected: &Result<Option<Slot>, Refusal>) {
        let Some((pair, beside)) = &mut self.restored else { return };
        *beside += 1;
        let answer = pair.tell(command);
        assert_eq!(answer.map(|_| ()), expected.map(|_| ()), "a restored book answers otherwise");
        let events = pair.of_book.iter().map(without_slot);
        let same = events.eq(self.pair.of_book.iter().map(without_slot));
        assert!(same, "a restored book does otherwise: {:?}", pair.of_book);
        if *beside >= BESIDE {
            self.take_over();
        }
    }

    fn take_over(&mut self) {
        self.compare(&mut Coverage::default());
        let (pair, _) = self.restored.take().expect("restored");
        // To the ledger it is all new, and what was left is what came.
        self.ledger = Ledger::default();
        for (slot, order) in SIDES.into_iter().flat_map(|side| pair.naive.orders(side)) {
            self.ledger.enter(&Command::Restore(order), &Ok(Some(slot)), &[]);
        }
        self.pair = pair;
    }

    /// The self-trade rule of a fill-or-kill order whose owner has an order among those that it can reach.
    fn own_in_reach(&self, command: &Command) -> Option<SelfTrade> {
        let Command::Place(order) = command else { return None };
        let fok = order.time_in_force == TimeInForce::Fok;
        let reaches = |maker: &Resting| match order.side {
            Side::Buy => maker.side == Side::Sell && maker.price <= order.price,
            Side::Sell => maker.side == Side::Buy && maker.price >= order.price,
        };
        let mut all = SIDES.into_iter().flat_map(|side| self.pair.naive.orders(side));
        let owns = |(_, maker): (_, Resting)| maker.owner == order.owner && reaches(&maker);
        (fok && all.any(owns)).then_some(order.self_trade)
    }

    fn remember(&mut self, command: &Command) {
        let mut events = match self.last.len() {
            SHOWN => self.last.pop_front().expect("full").1,
            _ => Vec::new(),
        };
        events.clear();
        self.last.push_back((*command, events));
    }

    /// How to have it again, and what came last: as a script, but for what stood before.
    fn story(&self, before: u64) -> String {
        let Self { seed, done, world, .. } = self;
        let mut story = format!(
            "command {done} of seed {seed}, in the world \"{}\"; {} commands in all\n\
             again: CROSSLATCH_SEED={seed} CROSSLATCH_OPERATIONS=1\n\
             book tick {}, {} orders\n",
            world.name,
            before + done,
            world.tick,
            world.orders_max
        );
        for (command, events) in &self.last {
            story += &format!("{command}\n");
            for event in events {
                story += &format!("    # {}\n", command::event(event));
            }
        }
        story
    }
}

fn price_of(event: &Event) -> Option<Price> {
    match *event {
        Event::Filled { price, .. }
        | Event::Rested { price, .. }
        | Event::Reduced { price, .. }
        | Event::Moved { price, .. }
        | Event::Removed { price, .. } => Some(price),
        Event::TakerReduced { .. } | Event::Dropped { .. } => None,
    }
}

fn without_slot(event: &Event) -> Event {
    let mut event = *event;
    match &mut event {
        Event::Filled { slot, .. }
        | Event::Rested { slot, .. }
        | Event::Reduced { slot, .. }
        | Event::Moved { slot, .. }
        | Event::Removed { slot, .. } => *slot = Slot(0),
        Event::TakerReduced { .. } | Event::Dropped { .. } => {}
    }
    event
}
