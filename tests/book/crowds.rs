//! A book of so many orders that whatever tells their ids apart by 32 bits takes some for others.
//!
//! Of 300,000 random ids about ten pairs agree in any 32 bits made of them. The naive book would be too
//! slow here; a map of who stands where is enough, as nobody trades.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use hashbrown::HashMap;

use crosslatch::market::Book;
use crosslatch::market::order::{
    Ended, Event, Kind, Lots, NewOrder, OrderId, Owner, Price, Refusal, SelfTrade, Side, Slot,
    TimeInForce,
};

const ORDERS: u32 = 300_000;

#[test]
fn all_of_a_crowd_are_told_apart() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut book = Book::new(Price(1), ORDERS);
    let mut stands = HashMap::new();
    fill(&mut book, &mut stands, &mut rng);
    check(&book, &stands);

    // Half of them go, in the order of their ids, which is no other order here.
    let mut gone: Vec<OrderId> = stands.keys().copied().filter(|id| id.0 % 2 == 1).collect();
    gone.sort();
    for id in &gone {
        let (slot, order) = stands.remove(id).expect("it stands");
        let NewOrder { price, lots, .. } = order;
        let mut events = Vec::new();
        assert_eq!(book.cancel(*id, &mut events), Ok(()));
        assert_eq!(events, [Event::Removed { id: *id, slot, price, lots, why: Ended::Canceled }]);
    }
    check(&book, &stands);
    for id in gone {
        assert_eq!(book.order(id), None);
        assert_eq!(book.cancel(id, &mut Vec::new()), Err(Refusal::Unknown(id)));
    }

    fill(&mut book, &mut stands, &mut rng);
    check(&book, &stands);
    let one_more = order(&mut rng);
    assert_eq!(book.place(one_more, &mut Vec::new()), Err(Refusal::Full));
}

fn fill(book: &mut Book, stands: &mut HashMap<OrderId, (Slot, NewOrder)>, rng: &mut SmallRng) {
    let mut events = Vec::new();
    while stands.len() < ORDERS as usize {
        let order = order(rng);
        if stands.contains_key(&order.id) {
            continue;
        }
        events.clear();
        assert_eq!(book.place(order, &mut events), Ok(()), "{order:?}");
        let [Event::Rested { id, slot, .. }] = events[..] else {
            panic!("nobody is in its reach: {events:?}");
        };
        assert_eq!(id, order.id);
        stands.insert(id, (slot, order));
    }
}

/// A buy below 500, or a sell above.
fn order(rng: &mut SmallRng) -> NewOrder {
    let side = if rng.random() { Side::Buy } else { Side::Sell };
    let place = rng.random_range(1..500);
    NewOrder {
        id: OrderId(rng.random()),
        owner: Owner(rng.random_range(0..1_000)),
        side,
        price: Price(if side == Side::Buy { place } else { 500 + place }),
        lots: Lots(rng.random_range(1..1_000)),
        kind: Kind::Limit,
        time_in_force: TimeInForce::Gtc,
        self_trade: SelfTrade::None,
    }
}

fn check(book: &Book, stands: &HashMap<OrderId, (Slot, NewOrder)>) {
    assert_eq!(book.len(), stands.len());
    for (id, (slot, order)) in stands {
        let (at, found) = book.order(*id).expect("it stands");
        assert_eq!(at, *slot, "{id:?}");
        assert_eq!(
            (found.id, found.owner, found.side, found.price, found.lots),
            (*id, order.owner, order.side, order.price, order.lots)
        );
    }
    let listed = [Side::Buy, Side::Sell].map(|side| book.orders(side).count());
    assert_eq!(listed[0] + listed[1], stands.len());
}
