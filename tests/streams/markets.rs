//! Random orders through the engine, and what clients of its market data make of what they are told:
//! at every message, the book of a market of the test's own at that seq, and every trade once.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Barrier, OnceLock};
use std::thread::JoinHandle;

use crosslatch::config::{EdgeLimits, Limits};
use crosslatch::engine::{Engine, Event};
use crosslatch::market::levels::{LevelChange, Levels};
use crosslatch::market::order::{
    Ended, Kind, Lots, NewOrder, OrderId, Owner, Price, SelfTrade, Side, TimeInForce,
};
use crosslatch::market::{Market, MarketSpec, Settlement};
use crosslatch::metrics::{self, Exporter};
use crosslatch::request::{Command, OrderType, PlaceOrder, Request, Stands};
use crosslatch::server::door::Door;
use crosslatch::server::{self, App, Gate};
use crosslatch::store::start_progress::StartProgress;
use crosslatch::types::{CommitSeq, MarketId, RequestId};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::follower::{Closed, Follower, Heard};
use crate::support::{account, block_on, fresh_id, scratch, seed};
use crate::venue::{MARKETS, Venue, amend, limit, place, specs};

const ACCOUNTS: u64 = 6;
const FUNDS: u128 = 2_000_000;
const LIVES: u64 = 2;
/// Batches of requests in each life, if nobody asks for more.
const BATCHES: u64 = 80;
const DEPTH: usize = 3;

fn batches() -> u64 {
    std::env::var("CROSSLATCH_BATCHES").map_or(BATCHES, |text| text.parse().expect("a number"))
}

/// A server around an engine of this process.
pub struct Served {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Served {
    pub fn start(engine: &Engine, limits: &Limits) -> Self {
        // One recorder a process.
        static EXPORTER: OnceLock<Exporter> = OnceLock::new();
        let exporter = EXPORTER.get_or_init(|| metrics::install().expect("the first")).clone();
        let gate = Gate::new(Arc::new(StartProgress::default()), exporter.clone(), true);
        let door = Door::new(Path::new("no-keys-here"), &EdgeLimits::default(), true);
        gate.open(App::new(engine.clone(), exporter, limits, door), 60_000);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopping) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(2).enable_all().build().expect("threads");
            let stopping = async move { drop(stopping.await) };
            runtime
                .block_on(server::serve(gate, listener, None, &EdgeLimits::default(), stopping))
                .expect("it serves");
        });
        Self { address, stop, thread }
    }

    /// Ends when nobody is connected any more.
    pub fn stop(self) {
        self.stop.send(()).expect("it runs");
        self.thread.join().expect("no panic");
    }
}

/// A market of the test's own, with how it was at every seq.
struct Judge {
    market: Market,
    ids: BTreeMap<RequestId, OrderId>,
    books: BTreeMap<u64, Levels>,
    trades: Vec<(u64, u64, u64, String)>,
}

impl Judge {
    fn new((number, spec): (u32, MarketSpec)) -> Self {
        let market = Market::new(MarketId::new(number), spec, 1_000_000, None);
        let books = BTreeMap::from([(0, Levels::new())]);
        Self { market, ids: BTreeMap::new(), books, trades: Vec::new() }
    }

    fn take(&mut self, event: &Event) {
        let request = event.receipt.request_id;
        let (done, side) = self.replay(request, &event.receipt.command);
        let lot = self.market.spec().lot_size;
        for fill in &done.fills {
            let trade = (event.seq().get(), fill.price.0, fill.lots.0 * lot, side.clone());
            self.trades.push(trade);
        }
        let mut levels = Levels::new();
        for side in [Side::Buy, Side::Sell] {
            for (price, level) in self.market.book().levels(side) {
                let (quantity, orders) = (level.lots * u128::from(lot), level.orders);
                levels.apply(LevelChange { side, price, quantity, orders });
            }
        }
        self.books.insert(event.seq().get(), levels);
    }

    fn replay(&mut self, request: RequestId, command: &Command) -> (Settlement, String) {
        let market = &mut self.market;
        let settled = match command {
            Command::Order(order) => {
                let new = new_order(market.spec(), order);
                market.place(request, new).map(|(id, settlement)| {
                    self.ids.insert(request, id);
                    settlement
                })
            }
            Command::Amend(amend) => {
                let lot = u128::from(market.spec().lot_size);
                let lots = amend.quantity.map(|quantity| Lots((quantity.get() / lot) as u64));
                market.amend(self.ids[&amend.order], amend.price, lots, u128::MAX)
            }
            Command::Cancel(order) => market.cancel(self.ids[order], Ended::Canceled),
            Command::ExpireOrder(order) => market.cancel(self.ids[order], Ended::Expired),
            Command::CancelAll { account, .. } => Ok(market.cancel_all(*account)),
            other => unreachable!("no market's: {}", other.kind()),
        };
        let settlement = settled.expect("it settled");
        let side = match settlement.taker_side {
            Some(Side::Buy) => "buy",
            Some(Side::Sell) => "sell",
            None => "",
        };
        (settlement, side.into())
    }

    /// The book at a seq.
    fn at(&self, seq: u64) -> &Levels {
        self.books.range(..=seq).next_back().expect("it was empty at first").1
    }
}

fn new_order(spec: &MarketSpec, order: &PlaceOrder) -> NewOrder {
    let lots = order.quantity.expect("they all have one").get() / u128::from(spec.lot_size);
    let (kind, time_in_force) = match (order.order_type, order.stands) {
        (OrderType::Market, _) => (Kind::Market { funds: None }, TimeInForce::Ioc),
        (OrderType::PostOnly, _) => (Kind::PostOnly, TimeInForce::Gtc),
        (OrderType::Limit, Stands::Ioc) => (Kind::Limit, TimeInForce::Ioc),
        (OrderType::Limit, Stands::Fok) => (Kind::Limit, TimeInForce::Fok),
        // The engine ends those whose time is over, so here they stand.
        (OrderType::Limit, _) => (Kind::Limit, TimeInForce::Gtc),
    };
    NewOrder {
        id: OrderId(0),
        owner: Owner(order.account.get()),
        side: order.side,
        price: order.price.unwrap_or(Price(1)),
        lots: Lots(lots as u64),
        kind,
        time_in_force,
        self_trade: order.self_trade,
    }
}

fn some_order(rng: &mut SmallRng) -> PlaceOrder {
    let market = rng.random_range(0..MARKETS.len());
    let (_, _, tick, lot, ..) = MARKETS[market];
    let side = if rng.random() { Side::Buy } else { Side::Sell };
    let price = tick * rng.random_range(8..20);
    let quantity = u128::from(lot * rng.random_range(1..60));
    let rules = [
        SelfTrade::None,
        SelfTrade::CancelTaker,
        SelfTrade::CancelMaker,
        SelfTrade::CancelBoth,
        SelfTrade::Decrement,
    ];
    let order = PlaceOrder {
        self_trade: rules[rng.random_range(0..rules.len())],
        ..limit(market as u32, rng.random_range(1..ACCOUNTS), side, price, quantity)
    };
    match rng.random_range(0..8) {
        0 => PlaceOrder { order_type: OrderType::PostOnly, ..order },
        1 => PlaceOrder { stands: Stands::Ioc, ..order },
        2 => PlaceOrder { stands: Stands::Fok, ..order },
        3 => PlaceOrder { stands: Stands::Gtd { expires_in_ms: rng.random_range(1..30) }, ..order },
        4 => PlaceOrder { order_type: OrderType::Market, stands: Stands::Ioc, ..order },
        _ => order,
    }
}

fn some_request(rng: &mut SmallRng, placed: &[(RequestId, u32)]) -> Request {
    let known = placed.iter().rev().nth(rng.random_range(0..60)).copied();
    let command = match (rng.random_range(0..20), known) {
        (0..3, Some((order, _))) => Command::Cancel(order),
        (3..7, Some((order, market))) => {
            let (_, _, tick, lot, ..) = MARKETS[market as usize];
            let price = rng.random::<bool>().then(|| tick * rng.random_range(8..20));
            amend(order, price, Some(u128::from(lot * rng.random_range(1..60))))
        }
        (7, _) => {
            cancel_all(rng.random_range(0..MARKETS.len() as u32), rng.random_range(1..ACCOUNTS))
        }
        _ => place(some_order(rng)),
    };
    Request::new(fresh_id(), command)
}

fn cancel_all(market: u32, number: u64) -> Command {
    Command::CancelAll { account: account(number), market: MarketId::new(market) }
}

/// Batches of requests at random; `between` is called before each.
fn trade(venue: &Venue, seed: u64, mut between: impl FnMut(u64)) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut placed: Vec<(RequestId, u32)> = Vec::new();
    for batch in 0..batches() {
        between(batch);
        let requests: Vec<Request> =
            (0..rng.random_range(1..60)).map(|_| some_request(&mut rng, &placed)).collect();
        placed.extend(requests.iter().filter_map(|request| match &request.command {
            Command::Order(order) => Some((request.id, order.market.get())),
            _ => None,
        }));
        venue.ask(requests);
    }
}

/// Empties every market but for one order, so that every follower hears of it; the seqs of those.
fn end(venue: &Venue) -> BTreeMap<String, u64> {
    let market = |number: u32| {
        let (_, _, tick, lot, ..) = MARKETS[number as usize];
        venue.settled(place(limit(number, 1, Side::Buy, tick, lot.into())));
        (1..ACCOUNTS).for_each(|of| drop(venue.settled(cancel_all(number, of))));
        let last = Request::new(fresh_id(), place(limit(number, 1, Side::Buy, tick, lot.into())));
        let outcome = venue.one(last);
        let crosslatch::request::Outcome::Settled(receipt) = outcome else { panic!("{outcome:?}") };
        (format!("MARKET-{number}"), receipt.commit_seq.get())
    };
    (0..MARKETS.len() as u32).map(market).collect()
}

fn entries(channel: &str, depth: Option<usize>) -> Vec<Value> {
    let entry = |number| {
        let mut entry = json!({"channel": channel, "market": format!("MARKET-{number}")});
        if let Some(depth) = depth {
            entry["depth"] = depth.into();
        }
        entry
    };
    (0..MARKETS.len()).map(entry).collect()
}

/// Subscribes, and takes in the first that is said of each.
fn begin(address: SocketAddr, subscriptions: &[Value]) -> (Follower, Heard) {
    let (mut follower, mut heard) = (Follower::connect(address), Heard::default());
    follower.subscribe(subscriptions);
    for _ in subscriptions {
        heard.take(&follower.next().expect("it goes on"));
    }
    (follower, heard)
}

fn hear_all(follower: &mut Follower, heard: &mut Heard, ends: &BTreeMap<String, u64>) {
    while !heard.has(ends) {
        heard.take(&follower.next().expect("it goes on"));
    }
}

/// One life of a venue with its followers; what each heard.
fn live(venue: &Venue, seed: u64, address: SocketAddr) -> [Heard; 3] {
    let both = [entries("trades", None), entries("book", None)].concat();
    let begun = Barrier::new(3);
    let (ends, all_ends) = (OnceLock::new(), Barrier::new(3));
    std::thread::scope(|scope| {
        let (begun, ends, all_ends) = (&begun, &ends, &all_ends);
        let eager = |subscriptions: Vec<Value>| {
            scope.spawn(move || {
                let (mut follower, mut heard) = begin(address, &subscriptions);
                begun.wait();
                // Reads what there is as it comes; the end is known when all is done.
                while ends.get().is_none_or(|ends| !heard.has(ends)) {
                    heard.take(&follower.next().expect("it goes on"));
                    if ends.get().is_none() && heard.is_at_mark() {
                        break;
                    }
                }
                all_ends.wait();
                hear_all(&mut follower, &mut heard, ends.get().expect("it is set"));
                heard
            })
        };
        let (full, best) = (eager(both), eager(entries("book", Some(DEPTH))));
        let (mut lazy, mut lazily) = begin(address, &entries("book", None));
        begun.wait();
        trade(venue, seed, |batch| {
            // Now and then it reads one message, and is further behind each time.
            if batch % 8 == 0 && batch > 0 {
                lazily.take(&lazy.next().expect("it goes on"));
            }
        });
        assert!(ends.set(end(venue)).is_ok());
        all_ends.wait();
        hear_all(&mut lazy, &mut lazily, ends.get().expect("it is set"));
        [full.join().expect("no panic"), best.join().expect("no panic"), lazily]
    })
}

impl Heard {
    /// Whether every market has come to what [`end`] leaves: it may be the end.
    fn is_at_mark(&self) -> bool {
        self.mirrors
            .values()
            .all(|it| it.levels.len(Side::Buy) == 1 && it.levels.len(Side::Sell) == 0)
    }
}

fn judged(engine: &Engine) -> BTreeMap<String, Judge> {
    let name = |spec: &MarketSpec| spec.name.to_string();
    let judge = |(number, spec): (u32, MarketSpec)| (name(&spec), Judge::new((number, spec)));
    let mut judges: BTreeMap<String, Judge> = (0..).zip(specs()).map(judge).collect();
    let mut events = engine.events(CommitSeq::default()).expect("it has happened");
    loop {
        let some = events.take(10_000, usize::MAX).expect("it runs");
        if some.is_empty() {
            return judges;
        }
        for event in some.iter().filter(|event| event.settlement().is_some()) {
            let market = event.market().expect("it is settled in one").get();
            judges.get_mut(&format!("MARKET-{market}")).expect("it is known").take(event);
        }
    }
}

fn best_of(levels: &Levels, depth: usize) -> Levels {
    let mut best = Levels::new();
    for side in [Side::Buy, Side::Sell] {
        levels.side(side).take(depth).for_each(|level| best.apply(level));
    }
    best
}

fn judge(heard: &Heard, depth: usize, judges: &BTreeMap<String, Judge>) {
    for (market, seq, levels) in &heard.books {
        let expected = best_of(judges[market].at(*seq), depth);
        assert_eq!(*levels, expected, "{market} at seq {seq}");
    }
    for (market, from) in &heard.trades_from {
        let found = heard.trades.iter().filter(|(of, ..)| of == market);
        let found: Vec<_> =
            found.map(|(_, seq, price, lots, side)| (*seq, *price, *lots, side.clone())).collect();
        let last = found.last().map_or(*from, |trade| trade.0);
        let all = judges[market].trades.iter().filter(|trade| trade.0 > *from && trade.0 <= last);
        assert_eq!(found, all.cloned().collect::<Vec<_>>(), "trades of {market}");
    }
}

/// The engine's own book against that of the judge.
fn compare_books(engine: &Engine, judges: &BTreeMap<String, Judge>) {
    for (number, judge) in (0..).zip(judges.values()) {
        let view = block_on(engine.book(MarketId::new(number), usize::MAX)).expect("it runs");
        let lot = u128::from(MARKETS[number as usize].3);
        let mut levels = Levels::new();
        for (side, shown) in [(Side::Buy, &view.bids), (Side::Sell, &view.asks)] {
            for (price, level) in shown {
                let (quantity, orders) = (level.lots * lot, level.orders);
                levels.apply(LevelChange { side, price: *price, quantity, orders });
            }
        }
        assert_eq!(levels, *judge.at(view.seq.get()), "market {number}");
    }
}

#[test]
fn at_every_message_a_client_has_the_book_as_it_was_and_every_trade() {
    let (data, seed) = (scratch(), seed(20_261_123));
    let mut venue = Venue::open(data.path(), ACCOUNTS, FUNDS);
    let mut merged = 0;
    for life in 0..LIVES {
        let served = Served::start(&venue.engine, &Limits::default());
        let heard = live(&venue, seed + life, served.address);
        let judges = judged(&venue.engine);
        compare_books(&venue.engine, &judges);
        for (heard, depth) in heard.iter().zip([usize::MAX, DEPTH, usize::MAX]) {
            judge(heard, depth, &judges);
            assert!(heard.snapshots == MARKETS.len() && heard.updates > 20, "{}", heard.updates);
        }
        assert!(heard[0].trades.len() > 50, "{} trades", heard[0].trades.len());
        let commits: usize = judges.values().map(|judge| judge.books.len()).sum();
        eprintln!(
            "{commits} commits, {} trades told; updates {:?}",
            heard[0].trades.len(),
            heard.each_ref().map(|heard| heard.updates)
        );
        merged += commits.saturating_sub(heard[2].updates);
        served.stop();
        // What stands now is what a tape begins with after a restart.
        trade(&venue, seed + 100 + life, |_| {});
        venue = venue.restart(data.path());
    }
    assert!(merged > 0, "nothing was ever merged");
    venue.engine.stop().expect("it stops");
}

#[test]
fn who_is_too_slow_for_the_trades_is_cut_and_told_why() {
    let data = scratch();
    let venue = Venue::open(data.path(), 3, 1 << 100);
    let limits = Limits { market_trades_kept_max: 2_000, ..Limits::default() };
    let served = Served::start(&venue.engine, &limits);
    let (mut follower, mut heard) = begin(served.address, &entries("trades", None));
    // It reads nothing, and so much happens that no buffer on the way holds it.
    let pair = || {
        [Side::Sell, Side::Buy]
            .into_iter()
            .zip([1, 2])
            .map(|(side, number)| Request::new(fresh_id(), place(limit(0, number, side, 10, 10))))
    };
    for _ in 0..30 {
        venue.ask((0..4_000).flat_map(|_| pair()).collect());
    }
    let closed: Closed = loop {
        match follower.next() {
            Ok(message) => heard.take(&message),
            Err(closed) => break closed,
        }
    };
    assert_eq!(closed, (1008, "too slow: trades of MARKET-0 were missed".into()));
    let told = heard.trades.len();
    assert!(told > 0 && told < 120_000, "{told}");
    judge(&heard, usize::MAX, &judged(&venue.engine));
    served.stop();
    venue.engine.stop().expect("it stops");
}
