//! Five flows of commands, each made from a seed before anything is measured.
//!
//! Of 100 orders, 15 are immediate-or-cancel, aimed at or just short of the other side's best prices; the others rest at
//! a distance from the mid that follows a power law, a third of them post-only. Quantities follow a power
//! law too. A resting order lives for a while (a power law again) and is then canceled; one in
//! three is due to be amended on the way, by half to a smaller quantity, by half to a new price. When the mid
//! passes an order, its owner is mostly quick enough to cancel it; else it is picked off. Ids ascend.
//!
//! Which orders still stand is known from a book that takes the commands as they are made.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crosslatch::market::Book;
use crosslatch::market::order::{
    Event, Kind, Lots, NewOrder, OrderId, Owner, Price, SelfTrade, Side, TimeInForce,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const OWNERS: u16 = 1_000;
const START: u64 = 1_000_000;
pub const ORDERS_MAX: u32 = 1 << 22;

/// A command, smaller than the book's types so that reading it costs next to nothing.
#[derive(Clone, Copy)]
pub struct Command {
    pub id: u64,
    price: u64,
    lots: u32,
    owner: u16,
    pub what: What,
    side: Side,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum What {
    Limit,
    PostOnly,
    Ioc,
    Amend,
    Cancel,
}

impl Command {
    pub fn price(&self) -> Price {
        Price(self.price)
    }

    pub fn lots(&self) -> Lots {
        Lots(self.lots.into())
    }

    /// What a command that places an order places.
    pub fn order(&self) -> NewOrder {
        NewOrder {
            id: OrderId(self.id),
            owner: Owner(self.owner.into()),
            side: self.side,
            price: self.price(),
            lots: self.lots(),
            kind: if self.what == What::PostOnly { Kind::PostOnly } else { Kind::Limit },
            time_in_force: if self.what == What::Ioc { TimeInForce::Ioc } else { TimeInForce::Gtc },
            self_trade: SelfTrade::CancelTaker,
        }
    }
}

/// What makes a flow.
#[derive(Clone, Copy)]
pub struct Flow {
    pub name: &'static str,
    mid: Mid,
    /// How many commands the shortest life lasts. Half last less than twice as long, and the average eight
    /// times.
    life: f64,
    /// How far from the mid orders are.
    distance_max: f64,
}

/// How the mid moves.
#[derive(Clone, Copy)]
enum Mid {
    Still,
    Walk,
    Swing(f64),
    Crash,
}

/// A swing up and down again, in commands.
const SWING: f64 = 20_000.0;
/// From one crash to the next, of which a part is the fall and five such parts the recovery.
const CRASH: usize = 400_000;
const CRASH_FALL: usize = 20_000;
const CRASH_TICKS: usize = 4_000;

pub const FLOWS: [Flow; 5] = [
    Flow { name: "static", mid: Mid::Still, life: 24_000.0, distance_max: 10.0 },
    Flow { name: "normal", mid: Mid::Walk, life: 2_000.0, distance_max: 1_000.0 },
    Flow { name: "swing 25", mid: Mid::Swing(25.0), life: 2_000.0, distance_max: 1_000.0 },
    Flow { name: "swing 40", mid: Mid::Swing(40.0), life: 2_000.0, distance_max: 1_000.0 },
    Flow { name: "crash", mid: Mid::Crash, life: 2_000.0, distance_max: 1_000.0 },
];

/// What is due to happen to an order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Amend,
    Cancel,
}

struct Generator {
    rng: SmallRng,
    flow: Flow,
    mid: u64,
    walked: i64,
    book: Book,
    events: Vec<Event>,
    due: BinaryHeap<Reverse<(usize, Due, u64)>>,
    commands: Vec<Command>,
    next_id: u64,
}

/// `count` commands of a flow.
pub fn generate(flow: Flow, count: usize, seed: u64) -> Vec<Command> {
    let mut generator = Generator::new(flow, seed);
    while generator.commands.len() < count {
        generator.move_mid();
        generator.carry_out_due();
        generator.place();
    }
    generator.commands.truncate(count);
    generator.commands
}

impl Generator {
    fn new(flow: Flow, seed: u64) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            flow,
            mid: START,
            walked: 0,
            book: Book::new(Price(1), ORDERS_MAX),
            events: Vec::new(),
            due: BinaryHeap::new(),
            commands: Vec::new(),
            next_id: 1,
        }
    }

    fn now(&self) -> usize {
        self.commands.len()
    }

    /// A number of at least 1 whose logarithm falls off evenly.
    fn power_law(&mut self, exponent: f64, max: f64) -> f64 {
        let uniform: f64 = self.rng.random_range(f64::EPSILON..1.0);
        uniform.powf(-1.0 / exponent).min(max)
    }

    fn move_mid(&mut self) {
        let mid = match self.flow.mid {
            Mid::Still => 0,
            Mid::Walk => self.walk(),
            Mid::Swing(by) => {
                (by * (self.now() as f64 / SWING * std::f64::consts::TAU).sin()) as i64
            }
            Mid::Crash => self.walk() - fallen(self.now()),
        };
        let before = self.mid;
        self.mid = START.checked_add_signed(mid).expect("small");
        if self.mid != before {
            self.flee();
        }
    }

    fn walk(&mut self) -> i64 {
        if self.rng.random_ratio(1, 200) {
            self.walked += if self.rng.random() { 1 } else { -1 };
        }
        self.walked
    }

    /// Most of those that the mid has passed cancel.
    fn flee(&mut self) {
        let mid = Price(self.mid);
        let buys = self.book.orders(Side::Buy).take_while(|(_, it)| it.price >= mid);
        let sells = self.book.orders(Side::Sell).take_while(|(_, it)| it.price <= mid);
        let passed: Vec<OrderId> = buys.chain(sells).map(|(_, it)| it.id).collect();
        for id in passed {
            if self.rng.random_bool(0.9) {
                self.cancel(id.0);
            }
        }
    }

    fn carry_out_due(&mut self) {
        while let Some(Reverse((at, what, id))) = self.due.peek().copied()
            && at <= self.now()
        {
            self.due.pop();
            match what {
                Due::Amend => self.amend(id),
                Due::Cancel => self.cancel(id),
            }
        }
    }

    fn place(&mut self) {
        let ioc = self.rng.random_bool(0.15);
        let side = if self.rng.random() { Side::Buy } else { Side::Sell };
        let away = if ioc { -self.rng.random_range(-9..=2) } else { self.distance() };
        let what = match ioc {
            true => What::Ioc,
            false if self.rng.random_ratio(1, 3) => What::PostOnly,
            false => What::Limit,
        };
        let lots_max = if ioc { 20.0 } else { 1_000.0 };
        let command = Command {
            id: self.next_id,
            price: self.price(side, away),
            lots: self.power_law(1.2, lots_max) as u32,
            owner: self.rng.random_range(0..OWNERS),
            what,
            side,
        };
        self.next_id += 1;
        self.give(command);
        if self.stands(command.id) {
            let life = self.flow.life * self.power_law(1.0, 1_000.0);
            let ends = self.now() + life as usize;
            self.due.push(Reverse((ends, Due::Cancel, command.id)));
            if self.rng.random_ratio(1, 3) {
                let at = self.now() + self.rng.random_range(0..life as usize);
                self.due.push(Reverse((at, Due::Amend, command.id)));
            }
        }
    }

    fn distance(&mut self) -> i64 {
        let max = self.flow.distance_max;
        // Near where the market is narrow, as in the static flow; with a long tail elsewhere.
        self.power_law(if max < 100.0 { 0.3 } else { 0.6 }, max) as i64
    }

    fn price(&self, side: Side, away: i64) -> u64 {
        let by = if side == Side::Buy { -away } else { away };
        self.mid.checked_add_signed(by).expect("far from both ends")
    }

    fn stands(&self, id: u64) -> bool {
        self.book.order(OrderId(id)).is_some()
    }

    fn amend(&mut self, id: u64) {
        let Some((_, order)) = self.book.order(OrderId(id)) else { return };
        let (mut price, mut lots) = (order.price.0, order.lots.0 as u32);
        if lots > 1 && self.rng.random() {
            lots = self.rng.random_range(1..lots);
        } else {
            let away = self.distance();
            price = self.price(order.side, away);
        }
        let (side, owner) = (order.side, order.owner.0 as u16);
        self.give(Command { id, price, lots, owner, what: What::Amend, side });
    }

    fn cancel(&mut self, id: u64) {
        if self.stands(id) {
            let (side, what) = (Side::Buy, What::Cancel);
            self.give(Command { id, price: 0, lots: 0, owner: 0, what, side });
        }
    }

    fn give(&mut self, command: Command) {
        self.events.clear();
        // An amendment of a post-only order that would take is refused: part of the flow.
        let _ = carry_out(&mut self.book, &command, &mut self.events);
        self.commands.push(command);
    }
}

/// How far a crash has gone.
fn fallen(now: usize) -> i64 {
    let since = now % CRASH;
    let parts = match since / CRASH_FALL {
        0 => since * 5,
        1..=5 => 6 * CRASH_FALL - since,
        _ => 0,
    };
    (parts * CRASH_TICKS / CRASH_FALL / 5) as i64
}

/// Gives a book a command.
#[inline]
pub fn carry_out(
    book: &mut Book,
    command: &Command,
    events: &mut Vec<Event>,
) -> Result<(), crosslatch::market::order::Refusal> {
    let id = OrderId(command.id);
    match command.what {
        What::Cancel => book.cancel(id, events),
        What::Amend => book.amend(id, command.price(), command.lots(), events),
        What::Limit | What::PostOnly | What::Ioc => book.place(command.order(), events),
    }
}

/// Orders around the mid that all rest, at the distances of the normal flow.
pub fn resting(count: u64, seed: u64) -> Vec<Command> {
    let mut generator = Generator::new(FLOWS[1], seed);
    let mut draw = |id| {
        let side = if generator.rng.random() { Side::Buy } else { Side::Sell };
        let away = generator.distance();
        let price = generator.price(side, away);
        let owner = generator.rng.random_range(0..OWNERS);
        Command { id, price, lots: 1, owner, what: What::PostOnly, side }
    };
    (1..=count).map(&mut draw).collect()
}
