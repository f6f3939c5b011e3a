//! The part of a child's requests that is for markets: a function of their numbers, as all of them are.

use rand::Rng;
use rand::rngs::SmallRng;

use crosslatch::market::MarketSpec;
use crosslatch::market::order::{Price, SelfTrade, Side};
use crosslatch::request::{AmendOrder, Command, OrderType, PlaceOrder, Stands};
use crosslatch::types::{AccountId, Amount, AssetId, MarketId, RequestId};

use crate::plan::OPENING;
use crate::support::{ETH, SOL, USDC, account};

/// How many markets there are.
pub const MARKETS: u64 = 2;
/// One of so many requests is for a market.
const EVERY: u64 = 5;
/// So far back, at most, is the order that a request is about.
const BACK: u64 = 60;
/// Few of them trade, so that they meet, and their own.
const TRADERS: u64 = 6;
const LOT: u64 = 3;

/// Whether the request of that number is for a market.
pub const fn is_due(number: u64) -> bool {
    number >= OPENING && number.is_multiple_of(EVERY)
}

/// The request that creates the `nth` market.
pub fn market(nth: u64) -> Command {
    let (base, quote): (AssetId, AssetId) = if nth == 0 { (ETH, USDC) } else { (SOL, ETH) };
    Command::PutMarket(Box::new(MarketSpec {
        name: format!("MARKET-{nth}").into(),
        base,
        quote,
        tick_size: 1 + nth,
        lot_size: LOT,
        maker_fee_bps: if nth == 0 { 10 } else { -5 },
        taker_fee_bps: 25,
        fee_account: account(0),
        min_notional: 0,
        price_band_bps: 0,
    }))
}

/// What the request of that number asks for. `id`: of the request of a number.
pub fn command(rng: &mut SmallRng, number: u64, id: impl Fn(u64) -> RequestId) -> Command {
    // The last numbers that are due, themselves perhaps no orders: then there is none to be found.
    let back = EVERY * rng.random_range(1..BACK);
    let earlier = number.checked_sub(back).filter(|earlier| is_due(*earlier));
    match (rng.random_range(0..20), earlier) {
        (0..6, Some(order)) => Command::Cancel(id(order)),
        (6..9, Some(order)) => Command::Amend(AmendOrder {
            order: id(order),
            price: rng.random::<bool>().then(|| price(rng)),
            quantity: Some(quantity(rng)),
        }),
        (9, _) => Command::CancelAll {
            account: trader(rng),
            market: MarketId::new(rng.random_range(0..MARKETS as u32)),
        },
        _ => Command::Order(Box::new(order(rng, number))),
    }
}

fn trader(rng: &mut SmallRng) -> AccountId {
    account(rng.random_range(0..TRADERS))
}

/// On the tick of both markets, mostly.
fn price(rng: &mut SmallRng) -> Price {
    Price(2 * rng.random_range(3..7) + u64::from(rng.random_bool(0.02)))
}

fn quantity(rng: &mut SmallRng) -> Amount {
    Amount::new(u128::from(LOT * rng.random_range(1..12)))
}

fn order(rng: &mut SmallRng, number: u64) -> PlaceOrder {
    let rules = [
        SelfTrade::None,
        SelfTrade::CancelTaker,
        SelfTrade::CancelMaker,
        SelfTrade::CancelBoth,
        SelfTrade::Decrement,
    ];
    let (order_type, stands) = match rng.random_range(0..10) {
        0 => (OrderType::PostOnly, Stands::Gtc),
        1 => (OrderType::Limit, Stands::Ioc),
        2 => (OrderType::Limit, Stands::Fok),
        3 => (OrderType::Limit, Stands::Gtd { expires_in_ms: rng.random_range(1..200) }),
        4 => (OrderType::Market, Stands::Ioc),
        _ => (OrderType::Limit, Stands::Gtc),
    };
    let named = rng.random_bool(0.2);
    PlaceOrder {
        market: MarketId::new(rng.random_range(0..MARKETS as u32)),
        account: trader(rng),
        side: if rng.random() { Side::Buy } else { Side::Sell },
        order_type,
        stands,
        price: Some(price(rng)),
        quantity: Some(quantity(rng)),
        funds: None,
        self_trade: rules[rng.random_range(0..rules.len())],
        client_order_id: if named { format!("{}", number % 40).into() } else { "".into() },
    }
}
