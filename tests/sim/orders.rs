//! What callers ask markets for: orders of every kind at a few prices, so that they meet, also their
//! own; amendments, cancels of what stands, stood or never did; and halts.

use rand::Rng;
use rand::rngs::SmallRng;

use crosslatch::market::MarketSpec;
use crosslatch::market::order::{Price, SelfTrade, Side};
use crosslatch::request::{AmendOrder, Command, OrderType, PlaceOrder, Stands};
use crosslatch::types::{Amount, MarketId, RequestId};

use crate::memory::Memory;
use crate::support::{ETH, SOL, USDC, account};

/// Markets, and how callers use them.
#[derive(Clone, Debug)]
pub struct Orders {
    /// How many of a hundred requests are a market's.
    pub percent: u32,
    pub specs: Vec<MarketSpec>,
    accounts: u64,
    /// Largest quantity, in lots.
    lots_max: u64,
    /// How many of a hundred orders end by themselves.
    gtd_percent: u32,
    /// How many of a hundred have a name, of a few.
    named_percent: u32,
    /// How many of a thousand halt or resume a market.
    halt_per_mille: u32,
}

fn one_of<T: Copy>(of: &[T], rng: &mut SmallRng) -> T {
    of[rng.random_range(0..of.len())]
}

impl Orders {
    pub fn new(accounts: u64, rng: &mut SmallRng) -> Self {
        let pairs = [(ETH, USDC), (SOL, USDC), (SOL, ETH), (USDC, ETH), (ETH, SOL)];
        let spec = |(number, (base, quote)): (usize, _), rng: &mut SmallRng| {
            let taker_fee_bps = one_of(&[0, 30, 2_500], rng);
            MarketSpec {
                name: format!("MARKET-{number}").into(),
                base,
                quote,
                tick_size: one_of(&[1, 1, 2], rng),
                lot_size: one_of(&[1, 1, 3], rng),
                maker_fee_bps: one_of(&[0, 10, -taker_fee_bps, 1_000], rng),
                taker_fee_bps,
                fee_account: account(rng.random_range(0..accounts)),
                min_notional: one_of(&[0, 0, 6], rng),
                price_band_bps: one_of(&[0, 0, 2_500], rng),
            }
        };
        let markets = one_of(&[1, 1, 2, 3, 5], rng);
        Self {
            percent: one_of(&[0, 30, 60, 80], rng),
            specs: pairs.into_iter().enumerate().take(markets).map(|of| spec(of, rng)).collect(),
            accounts,
            lots_max: one_of(&[2, 8, 30], rng),
            gtd_percent: one_of(&[0, 20, 80], rng),
            named_percent: one_of(&[0, 20, 80], rng),
            halt_per_mille: one_of(&[0, 0, 10, 60], rng),
        }
    }

    /// What sets the markets up.
    pub fn opening(&self) -> impl Iterator<Item = Command> + '_ {
        self.specs.iter().map(|spec| Command::PutMarket(Box::new(spec.clone())))
    }

    pub fn command(&self, rng: &mut SmallRng, memory: &Memory) -> Command {
        if rng.random_range(0..1_000) < self.halt_per_mille {
            return self.rare(rng);
        }
        match rng.random_range(0..100) {
            0..55 => Command::Order(Box::new(self.order(rng))),
            55..77 => self.amend(rng, memory),
            77..98 => Command::Cancel(some_order(rng, memory).0),
            _ => {
                let account = account(rng.random_range(0..self.accounts));
                Command::CancelAll { account, market: self.market(rng) }
            }
        }
    }

    /// Halts, resumes, and set-ups: again, or another of that name.
    fn rare(&self, rng: &mut SmallRng) -> Command {
        let spec = &self.specs[rng.random_range(0..self.specs.len())];
        match rng.random_range(0..10) {
            0 => Command::PutMarket(Box::new(spec.clone())),
            1 => {
                let min_notional = spec.min_notional + 1;
                Command::PutMarket(Box::new(MarketSpec { min_notional, ..spec.clone() }))
            }
            _ => Command::SwitchMarket { market: self.market(rng), halted: rng.random_bool(0.3) },
        }
    }

    /// Now and then one that does not exist.
    fn market(&self, rng: &mut SmallRng) -> MarketId {
        let beyond = u32::from(rng.random_bool(0.02));
        MarketId::new(rng.random_range(0..self.specs.len() as u32 + beyond))
    }

    fn spec(&self, market: MarketId) -> &MarketSpec {
        self.specs.get(market.get() as usize).unwrap_or(&self.specs[0])
    }

    fn price(&self, market: MarketId, rng: &mut SmallRng) -> Price {
        let off = u64::from(rng.random_bool(0.02));
        Price(self.spec(market).tick_size * rng.random_range(3..7) + off)
    }

    fn quantity(&self, market: MarketId, rng: &mut SmallRng) -> Amount {
        let off = u128::from(rng.random_bool(0.02));
        let lots = rng.random_range(1..=self.lots_max);
        Amount::new(u128::from(self.spec(market).lot_size * lots) + off)
    }

    fn order(&self, rng: &mut SmallRng) -> PlaceOrder {
        let market = self.market(rng);
        let side = one_of(&[Side::Buy, Side::Sell], rng);
        let rules = [
            SelfTrade::None,
            SelfTrade::CancelTaker,
            SelfTrade::CancelMaker,
            SelfTrade::CancelBoth,
            SelfTrade::Decrement,
        ];
        let named = rng.random_range(0..100) < self.named_percent;
        let name = named.then(|| format!("name {}", rng.random_range(0..3)).replace(' ', "-"));
        let expires_in_ms = one_of(&[1, 300, 5_000, 10_000], rng);
        let ends = rng.random_range(0..100) < self.gtd_percent;
        let order = PlaceOrder {
            market,
            account: account(rng.random_range(0..self.accounts)),
            side,
            order_type: OrderType::Limit,
            stands: if ends { Stands::Gtd { expires_in_ms } } else { Stands::Gtc },
            price: Some(self.price(market, rng)),
            quantity: Some(self.quantity(market, rng)),
            funds: None,
            self_trade: one_of(&rules, rng),
            client_order_id: name.unwrap_or_default().into(),
        };
        match rng.random_range(0..20) {
            0..3 => PlaceOrder { order_type: OrderType::PostOnly, ..order },
            3..5 => PlaceOrder { stands: Stands::Ioc, ..order },
            5 => PlaceOrder { stands: Stands::Fok, ..order },
            6 | 7 => self.market_order(order, rng),
            _ => order,
        }
    }

    fn market_order(&self, order: PlaceOrder, rng: &mut SmallRng) -> PlaceOrder {
        let stands = one_of(&[Stands::Ioc, Stands::Fok], rng);
        let order = PlaceOrder { order_type: OrderType::Market, stands, ..order };
        if order.side == Side::Sell {
            let price = order.price.filter(|_| rng.random_bool(0.5));
            return PlaceOrder { price, ..order };
        }
        let funds = Some(Amount::new(rng.random_range(1..100)));
        match rng.random_range(0..3) {
            0 => order,
            1 => PlaceOrder { funds, price: None, ..order },
            _ => PlaceOrder { funds, price: None, quantity: None, ..order },
        }
    }

    fn amend(&self, rng: &mut SmallRng, memory: &Memory) -> Command {
        let (order, market) = some_order(rng, memory);
        let which = rng.random_range(0..3);
        let price = (which != 0).then(|| self.price(market, rng));
        let more = rng.random_range(1..=2);
        let quantity = (which != 1).then(|| self.quantity(market, rng));
        let quantity = quantity.map(|quantity| Amount::new(quantity.get() * more));
        Command::Amend(AmendOrder { order, price, quantity })
    }
}

/// One that was open when somebody was told of it, or was asked for; most often lately. Or one that
/// never was.
fn some_order(rng: &mut SmallRng, memory: &Memory) -> (RequestId, MarketId) {
    let told = rng.random_bool(0.6);
    let orders = if told { memory.open_orders() } else { memory.orders() };
    let reach = if rng.random_bool(0.7) { 8 } else { orders.len() };
    let back = rng.random_range(0..reach.min(orders.len()).max(1));
    let known = orders.iter().rev().nth(back).copied().filter(|_| rng.random_bool(0.98));
    known.unwrap_or_else(|| (RequestId::new(rng.random()), MarketId::new(0)))
}
