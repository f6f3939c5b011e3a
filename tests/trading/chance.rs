//! Many callers at once, at random. What they are told is put in the order of the seqs, and every
//! market's part of it is replayed by a market of the test's own.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;

use crosslatch::cli::audit::audit_directory;
use crosslatch::market::order::{
    Ended, Kind, Lots, NewOrder, OrderId, Owner, Price, SelfTrade, Side, TimeInForce,
};
use crosslatch::market::{Market, MarketSpec, Settlement};
use crosslatch::request::{Command, OrderType, Outcome, PlaceOrder, Receipt, Request, Stands};
use crosslatch::types::{Balance, BalanceKey, CommitSeq, MarketId, RequestId};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::support::{ETH, SOL, USDC, account, fresh_id, leg, scratch, seed, swap};
use crate::venue::{MARKETS, Venue, amend, is_open, limit, place, settlement, specs};

const CALLERS: u64 = 3;
pub const ACCOUNTS: u64 = 6;
pub const FUNDS: u128 = 20_000;
const LIVES: u64 = 3;

/// Requests of each caller in each life, if nobody asks for more.
const REQUESTS: u64 = 4_000;

fn requests() -> u64 {
    std::env::var("CROSSLATCH_REQUESTS").map_or(REQUESTS, |text| text.parse().expect("a number"))
}

/// Orders that were open when somebody was told of them.
type Open = Mutex<Vec<(RequestId, u32)>>;

fn some_order(rng: &mut SmallRng) -> PlaceOrder {
    let market = rng.random_range(0..MARKETS.len());
    let (_, _, tick, lot, ..) = MARKETS[market];
    let side = if rng.random() { Side::Buy } else { Side::Sell };
    let price = tick * rng.random_range(8..13);
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
    match rng.random_range(0..10) {
        0 => PlaceOrder { order_type: OrderType::PostOnly, ..order },
        1 => PlaceOrder { stands: Stands::Ioc, ..order },
        2 => PlaceOrder { stands: Stands::Fok, ..order },
        3 => PlaceOrder { stands: Stands::Gtd { expires_in_ms: rng.random_range(1..30) }, ..order },
        4 => PlaceOrder { order_type: OrderType::Market, stands: Stands::Ioc, ..order },
        5 => PlaceOrder { client_order_id: format!("{}", rng.random_range(0..50)).into(), ..order },
        _ => order,
    }
}

fn some_request(rng: &mut SmallRng, open: &Open) -> Request {
    let known = {
        let open = open.lock().expect("nobody fails with it");
        (!open.is_empty()).then(|| open[rng.random_range(0..open.len())])
    };
    let command = match (rng.random_range(0..20), known) {
        (0..4, Some((order, _))) => Command::Cancel(order),
        (4..8, Some((order, market))) => {
            let (_, _, tick, lot, ..) = MARKETS[market as usize];
            let price = rng.random::<bool>().then(|| tick * rng.random_range(8..13));
            amend(order, price, Some(u128::from(lot * rng.random_range(1..60))))
        }
        (8, _) => Command::CancelAll {
            account: account(rng.random_range(1..ACCOUNTS)),
            market: MarketId::new(rng.random_range(0..MARKETS.len() as u32)),
        },
        (9..11, _) => {
            let a = rng.random_range(1..ACCOUNTS);
            let b = 1 + a % (ACCOUNTS - 1);
            let amount = rng.random_range(1..3_000);
            swap([leg(a, b, ETH, amount), leg(b, a, USDC, amount)])
        }
        _ => place(some_order(rng)),
    };
    Request::new(fresh_id(), command)
}

/// What everybody was told.
#[derive(Default)]
pub struct Told {
    receipts: BTreeMap<CommitSeq, Receipt>,
    refused: BTreeMap<&'static str, u64>,
}

fn call(venue: &Venue, seed: u64, open: &Open) -> Told {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut told, mut left) = (Told::default(), requests());
    while left > 0 {
        let batch: Vec<Request> =
            (0..rng.random_range(1..40).min(left)).map(|_| some_request(&mut rng, open)).collect();
        left -= batch.len() as u64;
        for (request, outcome) in batch.iter().zip(venue.ask(batch.clone())) {
            match outcome {
                Outcome::Settled(receipt) => {
                    if let Command::Order(order) = &request.command
                        && is_open(settlement(&receipt))
                    {
                        let mut open = open.lock().expect("nobody fails with it");
                        open.push((request.id, order.market.get()));
                        // Those of long ago are mostly gone.
                        if open.len() > 30 {
                            open.remove(0);
                        }
                    }
                    told.receipts.insert(receipt.commit_seq, receipt);
                }
                Outcome::Rejected(refusal) => {
                    *told.refused.entry(refusal.reject.code()).or_default() += 1;
                }
            }
        }
    }
    told
}

/// Markets of the test's own, and what everybody has.
struct Model {
    markets: Vec<Market>,
    ids: BTreeMap<RequestId, (usize, OrderId)>,
    balances: BTreeMap<BalanceKey, (i128, i128)>,
    trades: u64,
    amended: u64,
    expired: u64,
}

impl Model {
    fn new() -> Self {
        let market = |(number, spec)| Market::new(MarketId::new(number), spec, 1_000_000, None);
        Self {
            markets: (0..).zip(specs()).map(market).collect(),
            ids: BTreeMap::new(),
            balances: BTreeMap::new(),
            trades: 0,
            amended: 0,
            expired: 0,
        }
    }

    /// What a market makes of a command that was settled.
    fn replay(&mut self, receipt: &Receipt) -> Settlement {
        match &receipt.command {
            Command::Order(order) => {
                let number = order.market.get() as usize;
                let market = &mut self.markets[number];
                let new = new_order(market.spec(), order);
                let (id, settlement) = market.place(receipt.request_id, new).expect("it settled");
                self.ids.insert(receipt.request_id, (number, id));
                settlement
            }
            Command::Amend(amend) => {
                self.amended += 1;
                let (number, id) = self.ids[&amend.order];
                let lot = u128::from(self.markets[number].spec().lot_size);
                let lots = amend.quantity.map(|quantity| Lots((quantity.get() / lot) as u64));
                let settled = self.markets[number].amend(id, amend.price, lots, u128::MAX);
                settled.expect("it settled")
            }
            Command::Cancel(order) => {
                let (number, id) = self.ids[order];
                self.markets[number].cancel(id, Ended::Canceled).expect("it settled")
            }
            Command::ExpireOrder(order) => {
                self.expired += 1;
                let (number, id) = self.ids[order];
                self.markets[number].cancel(id, Ended::Expired).expect("it settled")
            }
            Command::CancelAll { account, market } => {
                self.markets[market.get() as usize].cancel_all(*account)
            }
            other => unreachable!("no market's: {}", other.kind()),
        }
    }

    fn take(&mut self, receipt: &Receipt) {
        if let Command::Swap(swap) = &receipt.command {
            for leg in swap.legs() {
                let amount = leg.amount.get().cast_signed();
                let key = |account| BalanceKey { account, asset: leg.asset };
                self.balances.entry(key(leg.from)).or_default().0 -= amount;
                self.balances.entry(key(leg.to)).or_default().0 += amount;
            }
            return;
        }
        let told = settlement(receipt);
        let mine = self.replay(receipt);
        assert_eq!(without_places(told), without_places(&mine), "at seq {}", receipt.commit_seq);
        self.trades += told.fills.len() as u64;
        for one in &told.moves {
            let balance = self.balances.entry(one.key).or_default();
            balance.0 += one.available;
            balance.1 += one.held;
            assert!(balance.1 >= 0, "{one:?} at seq {}", receipt.commit_seq);
        }
    }

    /// The engine starts again: so do the markets, with the orders that stand in them.
    fn restart(&mut self) {
        for (number, market) in self.markets.iter_mut().enumerate() {
            let mut open: Vec<_> = market.orders().collect();
            open.sort_by_key(|open| open.state.place);
            let id = MarketId::new(number as u32);
            let (spec, last_price) = (market.spec().clone(), market.last_price());
            *market = Market::new(id, spec, 1_000_000, last_price);
            for open in open {
                let id = market.restore(&open).expect("it stood there");
                self.ids.insert(open.order, (number, id));
            }
        }
    }

    /// What the engine says everybody had at that seq: since then, orders may have expired.
    fn check(&self, venue: &Venue, at: CommitSeq) {
        for number in 0..ACCOUNTS {
            let read = venue.engine.balances_at(account(number), at).expect("it is kept");
            for asset in [ETH, SOL, USDC] {
                let key = BalanceKey { account: account(number), asset };
                let (available, held) = self.balances.get(&key).copied().unwrap_or_default();
                let funds = if number == 0 { 0 } else { FUNDS.cast_signed() };
                let expected = ((funds + available).unsigned_abs(), held.unsigned_abs());
                let found = read.balances.iter().find(|now| now.asset == asset);
                let found = found.map_or_else(Balance::default, |now| now.balance);
                let found = (found.available.get(), found.held.get());
                assert_eq!(found, expected, "{key:?} at seq {at}");
            }
        }
    }
}

/// Places have gaps, and after a restart may begin again behind the last that is in use: what counts is
/// whose turn it is, which the trades show.
fn without_places(settlement: &Settlement) -> Settlement {
    let mut settlement = settlement.clone();
    settlement.orders.iter_mut().for_each(|update| update.state.place = 0);
    settlement
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

/// Everything that is durable, the engine's own requests included.
pub fn receipts(venue: &Venue, from: CommitSeq, told: &Told) -> Vec<Receipt> {
    let last = venue.engine.status().durable_seq;
    let mut all = Vec::new();
    for seq in from.get() + 1..=last.get() {
        let seq = CommitSeq::new(seq);
        let receipt = venue.engine.receipt_at(seq).expect("it runs").expect("it is durable");
        if let Some(told) = told.receipts.get(&seq) {
            assert_eq!(*told, receipt, "told otherwise than it is kept");
        } else {
            assert!(matches!(receipt.command, Command::ExpireOrder(_)), "{receipt:?}");
        }
        all.push(receipt);
    }
    all
}

fn live(venue: &Venue, seed: u64) -> Told {
    live_beside(venue, seed, &AtomicBool::new(false), || ()).0
}

/// The same, and something else meanwhile, which is told when the callers are done.
pub fn live_beside<T: Send>(
    venue: &Venue,
    seed: u64,
    over: &AtomicBool,
    beside: impl FnOnce() -> T + Send,
) -> (Told, T) {
    let open = Open::default();
    let mut told = Told::default();
    let beside = std::thread::scope(|scope| {
        let open = &open;
        let beside = scope.spawn(beside);
        let callers: Vec<_> =
            (0..CALLERS).map(|n| scope.spawn(move || call(venue, seed + n, open))).collect();
        let told_each: Vec<_> = callers.into_iter().map(ScopedJoinHandle::join).collect();
        // Also when one of them failed: what goes on beside waits for it.
        over.store(true, Ordering::Release);
        for one in told_each {
            let one = one.expect("it does not fail");
            told.receipts.extend(one.receipts);
            for (code, times) in one.refused {
                *told.refused.entry(code).or_default() += times;
            }
        }
        beside.join().expect("it does not fail")
    });
    (told, beside)
}

#[test]
fn what_markets_did_is_what_one_market_does_in_that_order() {
    let (data, seed) = (scratch(), seed(20_261_122));
    let mut venue = Venue::open(data.path(), ACCOUNTS, FUNDS);
    let (mut model, mut refused) = (Model::new(), BTreeMap::new());
    let mut from = venue.engine.status().durable_seq;
    for life in 0..LIVES {
        let told = live(&venue, seed + 100 * life);
        let all = receipts(&venue, from, &told);
        from = all.last().map_or(from, |last| last.commit_seq);
        all.iter().for_each(|receipt| model.take(receipt));
        model.check(&venue, from);
        for (code, times) in told.refused {
            *refused.entry(code).or_insert(0) += times;
        }
        venue = venue.restart(data.path());
        model.restart();
        model.check(&venue, from);
    }
    venue.engine.stop().expect("it stops");
    drop(venue);
    let Model { trades, amended, expired, .. } = model;
    eprintln!("{trades} trades, {amended} amendments, {expired} expired, refused {refused:?}");
    assert!(trades > 100 && amended > 50 && expired > 0, "it tested little");
    for code in ["insufficient_funds", "unknown_order", "would_take", "duplicate_client_order_id"] {
        assert!(refused.contains_key(code), "{code} did not occur: {refused:?}");
    }
    audit_directory(data.path()).expect("everything agrees");
}
