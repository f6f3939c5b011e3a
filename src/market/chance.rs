//! Random commands on a market, against a plain ledger: whatever comes, nobody's balance goes below
//! nothing, nothing is made or lost, and what is held is what the open orders have set aside.

use hashbrown::HashMap;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::order::{
    Ended, Kind, Lots, NewOrder, OrderId, Owner, Price, Refusal, SelfTrade, Side, TimeInForce,
};
use super::{Declined, Market, MarketSpec, OpenOrder, Settlement, Standing};
use crate::types::{AccountId, AssetId, BalanceKey, MarketId, RequestId};

const BASE: AssetId = AssetId::new(3);
const QUOTE: AssetId = AssetId::new(1);
const ACCOUNTS: u64 = 5;
const OPERATIONS: usize = 4_000;
const SEEDS: u64 = 60;

/// Balances as a shard would keep them: available, held.
#[derive(Default)]
struct Ledger {
    balances: HashMap<BalanceKey, (u128, u128)>,
}

impl Ledger {
    fn available(&self, key: BalanceKey) -> u128 {
        self.balances.get(&key).map_or(0, |balance| balance.0)
    }

    /// Carries out a settlement; `reserved` is what its taker may be charged on a balance at most.
    fn carry_out(&mut self, settlement: &Settlement, reserved: Option<(BalanceKey, u128)>) {
        for one in &settlement.moves {
            let (available, held) = self.balances.entry(one.key).or_default();
            let is_taker = reserved.is_some_and(|(key, _)| key == one.key);
            let at_most = if is_taker { reserved.unwrap().1 } else { 0 };
            let taken = -one.available;
            assert!(
                taken <= at_most.try_into().unwrap(),
                "{one:?} takes what nobody reserved, beyond {at_most}: {settlement:?}"
            );
            *available = available.checked_add_signed(one.available).expect("it was reserved");
            *held = held.checked_add_signed(one.held).expect("it was set aside");
        }
    }

    fn sum(&self, asset: AssetId) -> u128 {
        let of = self.balances.iter().filter(|(key, _)| key.asset == asset);
        of.map(|(_, (available, held))| available + held).sum()
    }
}

struct World {
    rng: SmallRng,
    spec: MarketSpec,
    market: Market,
    ledger: Ledger,
    open: Vec<OrderId>,
    requests: u128,
    now: u64,
    trades: u64,
    amended: u64,
    asked_for_more: u64,
}

fn key(account: AccountId, asset: AssetId) -> BalanceKey {
    BalanceKey { account, asset }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let taker_fee_bps = rng.random_range(-30..300);
        let maker_fee_bps = rng.random_range(-taker_fee_bps..300);
        let spec = MarketSpec {
            name: "B-Q".into(),
            base: BASE,
            quote: QUOTE,
            tick_size: rng.random_range(1..4),
            lot_size: rng.random_range(1..1_000),
            maker_fee_bps,
            taker_fee_bps,
            // A party to trades, now and then.
            fee_account: AccountId::new(rng.random_range(0..=ACCOUNTS)),
            min_notional: rng.random_range(0..30),
            price_band_bps: if rng.random_bool(0.5) { 0 } else { 3_000 },
        };
        spec.validate().expect("it is sound");
        let market = Market::new(MarketId::new(0), spec.clone(), 60, None);
        let mut ledger = Ledger::default();
        for account in (0..ACCOUNTS).map(AccountId::new) {
            for asset in [BASE, QUOTE] {
                let funds = rng.random_range(10_000..2_000_000);
                ledger.balances.insert(key(account, asset), (funds, 0));
            }
        }
        let (open, requests, now) = (Vec::new(), 0, 0);
        let (trades, amended, asked_for_more) = (0, 0, 0);
        Self { rng, spec, market, ledger, open, requests, now, trades, amended, asked_for_more }
    }

    fn price(&mut self) -> Price {
        Price(self.rng.random_range(20..60) * self.spec.tick_size)
    }

    fn some_order(&mut self) -> NewOrder {
        let (price, rng) = (self.price(), &mut self.rng);
        let ends_at = self.now + rng.random_range(1..50);
        let kind = match rng.random_range(0..6) {
            0 => Kind::PostOnly,
            1 => Kind::Market { funds: None },
            2 => Kind::Market { funds: Some(rng.random_range(1..5_000)) },
            _ => Kind::Limit,
        };
        let standing = [TimeInForce::Gtc, TimeInForce::Gtd { ends_at }];
        let passing = [TimeInForce::Ioc, TimeInForce::Fok];
        let time_in_force = match kind {
            Kind::PostOnly => standing[rng.random_range(0..2)],
            Kind::Market { .. } => passing[rng.random_range(0..2)],
            Kind::Limit if rng.random_bool(0.2) => passing[rng.random_range(0..2)],
            Kind::Limit => standing[rng.random_range(0..2)],
        };
        let rules = [
            SelfTrade::None,
            SelfTrade::CancelTaker,
            SelfTrade::CancelMaker,
            SelfTrade::CancelBoth,
            SelfTrade::Decrement,
        ];
        NewOrder {
            id: OrderId(0),
            owner: Owner(rng.random_range(0..ACCOUNTS)),
            side: if rng.random() { Side::Buy } else { Side::Sell },
            price,
            lots: Lots(rng.random_range(1..40)),
            kind,
            time_in_force,
            self_trade: rules[rng.random_range(0..rules.len())],
        }
    }

    fn place(&mut self) {
        let new = self.some_order();
        let account = AccountId::new(new.owner.0);
        let pays = key(account, self.spec.pays(new.side));
        let reserve = self.spec.reserve(&new).expect("small numbers");
        if reserve > self.ledger.available(pays) {
            return;
        }
        self.requests += 1;
        let request = RequestId::new(self.requests);
        let before = self.standing();
        match self.market.place(request, new) {
            Ok((id, settlement)) => {
                self.trades += settlement.fills.len() as u64;
                let last = settlement.orders.last().expect("the one that came");
                assert_eq!(last.order, request);
                self.ledger.carry_out(&settlement, Some((pays, reserve)));
                if last.standing == Standing::Open {
                    self.open.push(id);
                }
            }
            Err(_) => assert_eq!(before, self.standing(), "declined, and something changed"),
        }
    }

    fn cancel(&mut self) {
        let Some(place) = self.some_open() else { return };
        match self.market.cancel(self.open[place], Ended::Canceled) {
            Ok(settlement) => self.ledger.carry_out(&settlement, None),
            Err(declined) => {
                let id = self.open[place];
                assert_eq!(declined, Declined::Book(Refusal::Unknown(id)));
            }
        }
        self.open.swap_remove(place);
    }

    fn some_open(&mut self) -> Option<usize> {
        (!self.open.is_empty()).then(|| self.rng.random_range(0..self.open.len()))
    }

    fn amend(&mut self) {
        let Some(place) = self.some_open() else { return };
        let id = self.open[place];
        let Some(before) = self.market.order(id) else { return };
        let price = self.rng.random_bool(0.7).then(|| self.price());
        let quantity = self.rng.random_bool(0.7).then(|| Lots(self.rng.random_range(1..60)));
        let pays = key(before.account, self.spec.pays(before.side));
        let settlement = match self.market.amend(id, price, quantity, 0) {
            Err(Declined::NeedsFunds { units, account, side }) => {
                assert_eq!((account, side), (before.account, before.side));
                assert_eq!(self.market.order(id), Some(before), "it is as it was");
                self.asked_for_more += 1;
                if units > self.ledger.available(pays) {
                    return;
                }
                let settlement = self.market.amend(id, price, quantity, units);
                settlement.map(|settlement| (settlement, units))
            }
            other => other.map(|settlement| (settlement, 0)),
        };
        if let Ok((settlement, reserved)) = settlement {
            self.amended += 1;
            self.ledger.carry_out(&settlement, Some((pays, reserved)));
        }
    }

    fn standing(&self) -> Vec<OpenOrder> {
        self.market.orders().collect()
    }

    /// What is held is what the open orders have set aside.
    fn check_held(&self) {
        let mut held: HashMap<BalanceKey, u128> = HashMap::new();
        for open in self.market.orders() {
            let OpenOrder { account, side, state, .. } = open;
            *held.entry(key(account, self.spec.pays(side))).or_default() +=
                self.spec.held(side, state.price, state.left, state.carry);
        }
        for (key, balance) in &self.ledger.balances {
            assert_eq!(balance.1, held.get(key).copied().unwrap_or(0), "{key:?}");
        }
    }

    /// A market that is put back together goes on as the one before.
    fn restart(&mut self) {
        let mut orders = self.standing();
        orders.sort_by_key(|open| open.state.place);
        let last_price = self.market.last_price();
        let mut again = Market::new(MarketId::new(0), self.spec.clone(), 60, last_price);
        self.open = orders.iter().map(|open| again.restore(open).expect("there is room")).collect();
        assert!(again.orders().eq(self.market.orders()), "other orders, or in another order");
        self.market = again;
    }

    fn step(&mut self) {
        match self.rng.random_range(0..20) {
            0..10 => self.place(),
            10..14 => self.cancel(),
            14..18 => self.amend(),
            18 => {
                self.now += 5;
                let settlement = self.market.expire(self.now);
                self.ledger.carry_out(&settlement, None);
            }
            _ if self.rng.random_bool(0.2) => {
                let account = AccountId::new(self.rng.random_range(0..ACCOUNTS));
                let settlement = self.market.cancel_all(account);
                assert!(settlement.orders.iter().all(|order| order.account == account));
                self.ledger.carry_out(&settlement, None);
            }
            _ => self.restart(),
        }
    }
}

#[test]
fn whatever_comes_everything_adds_up() {
    let (mut trades, mut amended, mut asked_for_more) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        let sums = [BASE, QUOTE].map(|asset| world.ledger.sum(asset));
        for _ in 0..OPERATIONS {
            world.step();
            world.check_held();
        }
        assert_eq!(sums, [BASE, QUOTE].map(|asset| world.ledger.sum(asset)), "seed {seed}");
        trades += world.trades;
        amended += world.amended;
        asked_for_more += world.asked_for_more;
    }
    eprintln!("{trades} trades, {amended} amendments, {asked_for_more} that needed funds first");
    assert!(trades > 10_000 && amended > 5_000 && asked_for_more > 1_000);
}
