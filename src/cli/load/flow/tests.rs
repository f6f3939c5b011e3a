//! What the flow makes of markets: played on books without an engine.

use clap::Parser;
use hashbrown::HashMap;

use crate::cli::load::args::LoadArgs;
use crate::market::order::{Kind, Lots, NewOrder, OrderId, Owner, TimeInForce};
use crate::market::{Declined, Market, Settlement, Standing as Now};

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    load: LoadArgs,
}

fn clients(line: &str, clients: usize, batch: usize) -> Vec<ClientFlow> {
    let words = std::iter::once("load").chain(line.split_whitespace());
    let rules = Workload::new(&Line::try_parse_from(words).unwrap().load);
    let flow =
        |number| ClientFlow::new(&ClientWorkload::new(Arc::clone(&rules), number), clients, batch);
    (0..clients).map(flow).collect()
}

/// Markets of the test's own, which take what clients send.
struct World {
    markets: Vec<Market>,
    ids: HashMap<RequestId, (usize, OrderId)>,
    placed: u64,
    immediate: u64,
    traded: u64,
    ended: u64,
    late: u64,
    amended: u64,
}

impl World {
    fn of(flow: &Flow) -> Self {
        let market = |(number, spec)| Market::new(MarketId::new(number), spec, 1 << 20, None);
        Self {
            markets: (0..).zip(flow.specs(AccountId::new(0))).map(market).collect(),
            ids: HashMap::new(),
            placed: 0,
            immediate: 0,
            traded: 0,
            ended: 0,
            late: 0,
            amended: 0,
        }
    }

    fn place(&mut self, id: RequestId, order: &PlaceOrder) -> Result<Settlement, Declined> {
        let is_ioc = order.stands == Stands::Ioc;
        let new = NewOrder {
            id: OrderId(0),
            owner: Owner(order.account.get()),
            side: order.side,
            price: order.price.unwrap(),
            lots: Lots(order.quantity.unwrap().get() as u64 / LOT_SIZE),
            kind: match order.order_type {
                OrderType::PostOnly => Kind::PostOnly,
                _ => Kind::Limit,
            },
            time_in_force: if is_ioc { TimeInForce::Ioc } else { TimeInForce::Gtc },
            self_trade: order.self_trade,
        };
        let market = order.market.get() as usize;
        let (number, settlement) = self.markets[market].place(id, new)?;
        self.placed += 1;
        self.immediate += u64::from(is_ioc);
        self.ids.insert(id, (market, number));
        Ok(settlement)
    }

    fn amend(&mut self, amend: &AmendOrder) -> Result<Settlement, Declined> {
        let (market, number) = self.ids[&amend.order];
        let lots = amend.quantity.map(|units| Lots(units.get() as u64 / LOT_SIZE));
        let settlement = self.markets[market].amend(number, amend.price, lots, u128::MAX)?;
        self.amended += 1;
        Ok(settlement)
    }

    /// Whether it settles.
    fn take(&mut self, request: &Request) -> bool {
        let done = match &request.command {
            Command::Order(order) => self.place(request.id, order),
            Command::Amend(order) => self.amend(order),
            Command::Cancel(order) => {
                let (market, number) = self.ids[order];
                self.markets[market].cancel(number, crate::market::order::Ended::Canceled)
            }
            other => unreachable!("not sent: {other:?}"),
        };
        let Ok(settlement) = done else {
            self.late += 1;
            return false;
        };
        for order in &settlement.orders {
            self.ended += u64::from(order.standing != Now::Open);
            self.traded += u64::from(order.standing == Now::Filled);
        }
        true
    }

    fn open(&self) -> usize {
        self.markets.iter().map(|market| market.book().len()).sum()
    }
}

#[test]
fn most_orders_end_without_a_trade() {
    let mut clients = clients("--mode orders --accounts 1000", 4, 256);
    let mut world = World::of(clients[0].flow());
    let mut requests = 0;
    for _ in 0..1_000 {
        for client in &mut clients {
            let sent = client.submission(256, 1);
            requests += sent.len() as u64;
            let settled: Vec<_> = sent.iter().map(|request| world.take(request)).collect();
            client.keep(|index| settled[index]);
        }
    }
    let World { placed, immediate, traded, ended, late, amended, .. } = world;
    let percent = |part: u64, of: u64| 100.0 * part as f64 / of as f64;
    let told = format!(
        "{placed} placed, {immediate} immediate, {ended} ended, {traded} traded, {late} late, {} open",
        world.open()
    );
    assert!((3.0..7.0).contains(&percent(traded, ended)), "{told}");
    assert!((13.0..17.0).contains(&percent(immediate, placed)), "{told}");
    assert!((4.0..8.0).contains(&percent(amended, requests)), "{told}");
    assert!(percent(late, requests) < 6.0, "{told}");
    assert!((OPEN_TARGET * 8 / 10..OPEN_TARGET * 11 / 10).contains(&world.open()), "{told}");
}

#[test]
fn a_client_sends_the_same_again() {
    let mut one = clients("--mode orders --seed 7", 2, 100);
    let mut other = clients("--mode orders --seed 7", 2, 100);
    let sent = |client: &mut ClientFlow| {
        let sent = client.submission(100, 1);
        client.keep(|index| index % 3 > 0);
        format!("{sent:?}")
    };
    for _ in 0..20 {
        assert_eq!(sent(&mut one[0]), sent(&mut other[0]));
    }
    assert_ne!(sent(&mut one[0]), sent(&mut other[1]));
}

#[test]
fn only_what_was_placed_is_canceled_and_once() {
    let mut client = clients("--mode orders", 1, 64).remove(0);
    let mut open = std::collections::HashSet::new();
    for round in 0..2_000 {
        let sent = client.submission(64, 1);
        let of = |index: usize| (index + round).is_multiple_of(5);
        for request in &sent {
            match &request.command {
                Command::Cancel(order) => assert!(open.remove(order)),
                Command::Amend(amend) => assert!(open.contains(&amend.order)),
                _ => {}
            }
        }
        for (index, request) in sent.iter().enumerate() {
            if let Command::Order(order) = &request.command
                && order.stands == Stands::Gtc
                && !of(index)
            {
                open.insert(request.id);
            }
        }
        client.keep(|index| !of(index));
    }
    assert!(!open.is_empty());
}

#[test]
fn distances_and_sizes_follow_their_laws() {
    for (exponent, largest) in [DISTANCES, SIZES] {
        let draws = power_law((exponent, largest));
        assert_eq!(draws.iter().min(), Some(&1));
        assert!(draws.iter().all(|draw| f64::from(*draw) <= largest));
        for above in [2, 8, 32] {
            let share = draws.iter().filter(|draw| **draw >= above).count() as f64 / DRAWS as f64;
            let law = f64::from(above).powf(-exponent);
            assert!((share - law).abs() < 0.01, "{above}: {share}, {law}");
        }
    }
}
