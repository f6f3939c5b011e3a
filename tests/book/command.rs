//! What a book can be told, and what it says, in words that scripts are written in.
//!
//! ```text
//! 1: alice buys 10 at 100                     limit, good till canceled
//! 2: bob sells max at 95, ioc                 or `fok`, or `until 30`
//! 3: bob sells max-1 at 95, post-only
//! 4: bob buys 3 at 95, market, ioc            or `market with 500`, its funds
//! 5: bob buys 3 at 95, cancel taker           or `cancel maker`, `cancel both`, `decrement`
//! cancel 1
//! cancel all of alice
//! amend 1 to 5 at 90
//! expire 30
//! restore 6: alice buys 10 at 100, until 30
//! ```
//!
//! `max` is the largest number of 64 bits, `max-1` the next.

use std::fmt::{self, Display, Formatter};

use crosslatch::market::order::{
    Ended, Event, Kind, Lots, NewOrder, OrderId, Owner, Price, Resting, SelfTrade, Side,
    TimeInForce,
};

/// A command to a book. Shown, it reads as it does in a script.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    Place(NewOrder),
    Cancel(OrderId),
    CancelAll(Owner),
    Amend { id: OrderId, price: Price, lots: Lots },
    Expire(u64),
    Restore(Resting),
}

// ---- Reading.

impl Command {
    pub fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["cancel", "all", "of", owner] => Self::CancelAll(parse_owner(owner)),
            ["cancel", id] => Self::Cancel(OrderId(parse_number(id))),
            ["amend", id, "to", lots, "at", price] => Self::Amend {
                id: OrderId(parse_number(id)),
                price: Price(parse_number(price)),
                lots: Lots(parse_number(lots)),
            },
            ["expire", now] => Self::Expire(parse_number(now)),
            ["restore", ..] => Self::Restore(parse_resting(line.trim_start_matches("restore "))),
            _ => Self::Place(parse_order(line)),
        }
    }
}

fn parse_order(line: &str) -> NewOrder {
    let mut parts = line.split(", ");
    let words: Vec<&str> = parts.next().expect("a first part").split_whitespace().collect();
    let [id, owner, verb, lots, "at", price] = words[..] else {
        panic!("not a command: {line}");
    };
    let mut order = NewOrder {
        id: OrderId(parse_number(id.strip_suffix(':').expect("a number and a colon"))),
        owner: parse_owner(owner),
        side: match verb {
            "buys" => Side::Buy,
            "sells" => Side::Sell,
            _ => panic!("neither buys nor sells: {line}"),
        },
        price: Price(parse_number(price)),
        lots: Lots(parse_number(lots)),
        kind: Kind::Limit,
        time_in_force: TimeInForce::Gtc,
        self_trade: SelfTrade::None,
    };
    for part in parts {
        add_term(&mut order, part);
    }
    order
}

fn add_term(order: &mut NewOrder, term: &str) {
    let words: Vec<&str> = term.split_whitespace().collect();
    match words[..] {
        ["post-only"] => order.kind = Kind::PostOnly,
        ["market"] => order.kind = Kind::Market { funds: None },
        ["market", "with", funds] => {
            order.kind = Kind::Market { funds: Some(funds.parse().expect("funds")) };
        }
        ["until", time] => {
            order.time_in_force = TimeInForce::Gtd { ends_at: parse_number(time) };
        }
        ["ioc"] => order.time_in_force = TimeInForce::Ioc,
        ["fok"] => order.time_in_force = TimeInForce::Fok,
        ["cancel", "taker"] => order.self_trade = SelfTrade::CancelTaker,
        ["cancel", "maker"] => order.self_trade = SelfTrade::CancelMaker,
        ["cancel", "both"] => order.self_trade = SelfTrade::CancelBoth,
        ["decrement"] => order.self_trade = SelfTrade::Decrement,
        _ => panic!("no term of an order: {term}"),
    }
}

fn parse_resting(line: &str) -> Resting {
    let order = parse_order(line);
    Resting {
        id: order.id,
        owner: order.owner,
        side: order.side,
        price: order.price,
        lots: order.lots,
        post_only: order.kind == Kind::PostOnly,
        ends_at: match order.time_in_force {
            TimeInForce::Gtc => None,
            TimeInForce::Gtd { ends_at } => Some(ends_at),
            TimeInForce::Ioc | TimeInForce::Fok => panic!("cannot stand: {line}"),
        },
        self_trade: order.self_trade,
    }
}

pub fn parse_number(text: &str) -> u64 {
    match text.strip_prefix("max") {
        Some("") => u64::MAX,
        Some(below) => u64::MAX - below[1..].parse::<u64>().expect("max-1"),
        None => text.parse().unwrap_or_else(|_| panic!("no number: {text}")),
    }
}

const NAMES: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

fn parse_owner(text: &str) -> Owner {
    if let Some(number) = text.strip_prefix("owner") {
        return Owner(parse_number(number));
    }
    let known = NAMES.iter().position(|name| *name == text);
    Owner(known.unwrap_or_else(|| panic!("nobody's name: {text}")) as u64 + 1)
}

// ---- Writing.

/// Near the end of 64 bits, as the distance from it.
pub struct Number(pub u64);

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match u64::MAX - self.0 {
            0 => f.write_str("max"),
            below @ 1..10 => write!(f, "max-{below}"),
            _ => write!(f, "{}", self.0),
        }
    }
}

pub struct Name(pub Owner);

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let place = self.0.0.checked_sub(1).and_then(|it| usize::try_from(it).ok());
        match place.and_then(|place| NAMES.get(place)) {
            Some(name) => f.write_str(name),
            None => write!(f, "owner{}", Number(self.0.0)),
        }
    }
}

impl Display for Command {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(order) => write_order(f, order),
            Self::Cancel(id) => write!(f, "cancel {}", Number(id.0)),
            Self::CancelAll(owner) => write!(f, "cancel all of {}", Name(*owner)),
            Self::Amend { id, price, lots } => {
                let (id, price, lots) = (Number(id.0), Number(price.0), Number(lots.0));
                write!(f, "amend {id} to {lots} at {price}")
            }
            Self::Expire(now) => write!(f, "expire {}", Number(*now)),
            Self::Restore(order) => {
                f.write_str("restore ")?;
                write_order(f, &as_order(order))
            }
        }
    }
}

fn as_order(order: &Resting) -> NewOrder {
    NewOrder {
        id: order.id,
        owner: order.owner,
        side: order.side,
        price: order.price,
        lots: order.lots,
        kind: if order.post_only { Kind::PostOnly } else { Kind::Limit },
        time_in_force: match order.ends_at {
            Some(ends_at) => TimeInForce::Gtd { ends_at },
            None => TimeInForce::Gtc,
        },
        self_trade: order.self_trade,
    }
}

fn write_order(f: &mut Formatter<'_>, order: &NewOrder) -> fmt::Result {
    let (id, price, lots) = (Number(order.id.0), Number(order.price.0), Number(order.lots.0));
    let verb = match order.side {
        Side::Buy => "buys",
        Side::Sell => "sells",
    };
    write!(f, "{id}: {} {verb} {lots} at {price}", Name(order.owner))?;
    match order.kind {
        Kind::Limit => Ok(()),
        Kind::PostOnly => f.write_str(", post-only"),
        Kind::Market { funds: None } => f.write_str(", market"),
        Kind::Market { funds: Some(funds) } => write!(f, ", market with {funds}"),
    }?;
    match order.time_in_force {
        TimeInForce::Gtc => Ok(()),
        TimeInForce::Gtd { ends_at } => write!(f, ", until {}", Number(ends_at)),
        TimeInForce::Ioc => f.write_str(", ioc"),
        TimeInForce::Fok => f.write_str(", fok"),
    }?;
    f.write_str(match order.self_trade {
        SelfTrade::None => "",
        SelfTrade::CancelTaker => ", cancel taker",
        SelfTrade::CancelMaker => ", cancel maker",
        SelfTrade::CancelBoth => ", cancel both",
        SelfTrade::Decrement => ", decrement",
    })
}

/// An event in words; the number in brackets is the slot.
pub fn event(event: &Event) -> String {
    let n = |number: u64| Number(number);
    match *event {
        Event::Filled { taker, maker, slot, price, lots, left } => format!(
            "{} takes {} of {} at {}, {} left [{}]",
            n(taker.0),
            n(lots.0),
            n(maker.0),
            n(price.0),
            n(left.0),
            slot.0
        ),
        Event::Rested { id, slot, price, lots } => {
            format!("{} rests with {} at {} [{}]", n(id.0), n(lots.0), n(price.0), slot.0)
        }
        Event::Reduced { id, slot, price, by, left } => {
            let (id, by, price, left) = (n(id.0), n(by.0), n(price.0), n(left.0));
            format!("{id} shrinks by {by} at {price}, {left} left [{}]", slot.0)
        }
        Event::Moved { id, slot, price, lots } => {
            format!("{} moves away with {} from {} [{}]", n(id.0), n(lots.0), n(price.0), slot.0)
        }
        Event::Removed { id, slot, price, lots, why } => {
            let (id, lots, price, why) = (n(id.0), n(lots.0), n(price.0), reason(why));
            format!("{id} removed with {lots} at {price}: {why} [{}]", slot.0)
        }
        Event::TakerReduced { id, by, left } => {
            format!("{} shrinks by {} as it comes, {} left", n(id.0), n(by.0), n(left.0))
        }
        Event::Dropped { id, lots, why } => {
            format!("{} dropped with {}: {}", n(id.0), n(lots.0), reason(why))
        }
    }
}

fn reason(why: Ended) -> &'static str {
    match why {
        Ended::Canceled => "canceled",
        Ended::Expired => "expired",
        Ended::Unfilled => "unfilled",
        Ended::OutOfFunds => "out of funds",
        Ended::SelfTrade => "self-trade",
        Ended::WouldTake => "would take",
    }
}
