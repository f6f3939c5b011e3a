//! A venue with markets, and short words for what is asked of it.

use std::path::Path;

use crosslatch::config::Limits;
use crosslatch::engine::{Engine, Options};
use crosslatch::market::order::{Price, SelfTrade, Side};
use crosslatch::market::{MarketSpec, OrderUpdate, Settlement, Standing};
use crosslatch::request::{
    AmendOrder, Command, OrderType, Outcome, PlaceOrder, Receipt, Request, Stands,
};
use crosslatch::types::{AccountId, Amount, AssetId, Balance, MarketId, RequestId};

use crate::support::{ETH, SOL, USDC, account, audit, block_on, deposit, fresh, fresh_id, opening};

/// Whom fees go to.
pub const FEES: u64 = 0;

/// Base, quote, tick, lot, maker's and taker's fee.
type Terms = (AssetId, AssetId, u64, u64, i16, i16);

/// The markets of [`Venue::open`], by number.
pub const MARKETS: [Terms; 3] =
    [(ETH, USDC, 1, 10, 10, 20), (SOL, USDC, 5, 1, -5, 25), (ETH, SOL, 1, 3, 0, 0)];

pub fn specs() -> Vec<MarketSpec> {
    let spec = |(number, of): (usize, &Terms)| MarketSpec {
        name: format!("MARKET-{number}").into(),
        base: of.0,
        quote: of.1,
        tick_size: of.2,
        lot_size: of.3,
        maker_fee_bps: of.4,
        taker_fee_bps: of.5,
        fee_account: account(FEES),
        min_notional: 0,
        price_band_bps: 0,
    };
    MARKETS.iter().enumerate().map(spec).collect()
}

pub struct Venue {
    pub engine: Engine,
}

impl Venue {
    /// Opens what is there.
    pub fn reopen(data: &Path) -> Self {
        let limits = Limits { market_actors: 2, ..Limits::default() };
        let options = Options { limits, ..Options::new(data) };
        Self { engine: Engine::start(options).expect("it starts") }
    }

    /// Markets, and so many accounts with so much of each asset; account 0 has nothing.
    pub fn open(data: &Path, accounts: u64, funds: u128) -> Self {
        let venue = Self::reopen(data);
        venue.settle_all(opening(accounts));
        venue.settle_all(specs().into_iter().map(|spec| Command::PutMarket(Box::new(spec))));
        let funded = (1..accounts)
            .flat_map(|number| [ETH, SOL, USDC].map(|asset| deposit(number, asset, funds)));
        venue.settle_all(funded);
        venue
    }

    fn settle_all(&self, commands: impl IntoIterator<Item = Command>) {
        for outcome in self.ask(fresh(commands)) {
            assert!(matches!(outcome, Outcome::Settled(_)), "{outcome:?}");
        }
    }

    /// The outcome of each, in order.
    pub fn ask(&self, requests: Vec<Request>) -> Vec<Outcome> {
        let answers = self.engine.submit(requests).expect("there is room").wait();
        let answers = answers.expect("it runs");
        (0..answers.len()).map(|place| answers.outcome(place)).collect()
    }

    pub fn one(&self, request: Request) -> Outcome {
        self.ask(vec![request]).pop().expect("one answer")
    }

    /// What a request that is expected to settle came to.
    #[track_caller]
    pub fn settled(&self, command: Command) -> (RequestId, Settlement) {
        let request = Request::new(fresh_id(), command);
        let id = request.id;
        match self.one(request) {
            Outcome::Settled(receipt) => (id, settlement(&receipt).clone()),
            Outcome::Rejected(refusal) => panic!("{refusal:?}"),
        }
    }

    /// The code of the refusal of a request that is expected to be refused.
    #[track_caller]
    pub fn refused(&self, command: Command) -> &'static str {
        match self.one(Request::new(fresh_id(), command)) {
            Outcome::Settled(receipt) => panic!("{receipt:?}"),
            Outcome::Rejected(refusal) => refusal.reject.code(),
        }
    }

    pub fn balance(&self, number: u64, asset: AssetId) -> (u128, u128) {
        let read = block_on(self.engine.balances(account(number))).expect("it runs");
        let found = read.balances.iter().find(|now| now.asset == asset);
        let Balance { available, held } = found.map_or_else(Balance::default, |now| now.balance);
        (available.get(), held.get())
    }

    /// Stops, and starts again on what is there.
    pub fn restart(self, data: &Path) -> Self {
        audit(&self.engine);
        self.engine.stop().expect("it stops");
        drop(self);
        Self::reopen(data)
    }
}

pub fn settlement(receipt: &Receipt) -> &Settlement {
    receipt.settlement.as_deref().expect("a market has said what it came to")
}

/// How the order that came, or the only one, is now.
pub fn last(settlement: &Settlement) -> &OrderUpdate {
    settlement.orders.last().expect("one was touched")
}

pub fn is_open(settlement: &Settlement) -> bool {
    last(settlement).standing == Standing::Open
}

/// A limit order, good till canceled.
pub fn limit(market: u32, number: u64, side: Side, price: u64, quantity: u128) -> PlaceOrder {
    PlaceOrder {
        market: MarketId::new(market),
        account: AccountId::new(number),
        side,
        order_type: OrderType::Limit,
        stands: Stands::Gtc,
        price: Some(Price(price)),
        quantity: Some(Amount::new(quantity)),
        funds: None,
        self_trade: SelfTrade::None,
        client_order_id: "".into(),
    }
}

pub fn place(order: PlaceOrder) -> Command {
    Command::Order(Box::new(order))
}

pub fn amend(order: RequestId, price: Option<u64>, quantity: Option<u128>) -> Command {
    let (price, quantity) = (price.map(Price), quantity.map(Amount::new));
    Command::Amend(AmendOrder { order, price, quantity })
}
