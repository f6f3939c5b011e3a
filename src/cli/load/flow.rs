//! Which orders are sent: everything random, from one seed, and cheap.
//!
//! Markets look like this: many orders far from what anybody pays, few that trade, most canceled soon.
//!
//! * Every market has a middle that walks, the same for all clients. Orders stand around it at distances
//!   in ticks that follow a power law, and their sizes follow another.
//! * A client keeps about so many orders open. It cancels and amends its own, of those that it was told
//!   stand, the latest most often. What traded meanwhile it does not know: then it comes too late.
//! * About one order of seven is immediate-or-cancel, and most of these find nothing in reach.
//!
//! So of the orders that end, about one of twenty has traded. What a client sends depends on the seed, its
//! number, and which of its orders were refused.

use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use crate::market::MarketSpec;
use crate::market::order::{Price, SelfTrade, Side};
use crate::request::{AmendOrder, Command, OrderType, PlaceOrder, Request, Stands};
use crate::types::{AccountId, Amount, AssetId, MarketId, RequestId};

use super::target::{Replies, Reply};
use super::workload::{ClientWorkload, Workload, below, mix};

/// Price steps, in the quote asset's smallest units.
const TICK_SIZE: u64 = 5;
/// The base asset's smallest units in a lot.
const LOT_SIZE: u64 = 10;
/// Where the middle of every market begins, in ticks.
const MIDDLE_TICKS: u64 = 20_000;
/// A market's middle takes a step after so many requests to that market.
const REQUESTS_PER_STEP: u64 = 4_096;
/// Steps out; it goes back the same way, and begins again.
const STEPS: usize = 4_096;
/// Entries of the tables of distances and sizes: even draws of them follow the power laws.
const DRAWS: usize = 4_096;
/// Exponents of the laws, and the largest distance in ticks and size in lots.
const DISTANCES: (f64, f64) = (0.9, 2_000.0);
const SIZES: (f64, f64) = (1.3, 1_000.0);
/// Orders that all clients together keep open, unless that is too few for their submissions.
const OPEN_TARGET: usize = 65_536;
/// How many submissions of orders a client keeps open at least.
const OPEN_SUBMISSIONS: usize = 2;

/// Of 256 requests, amendments.
const AMENDS_OF_256: u64 = 16;
/// Of 256 requests, cancellations: of a client with fewer open orders than it keeps, and with more.
const CANCELS_OF_256: [u64; 2] = [80, 132];
/// Of 256 orders, those that are immediate-or-cancel.
const IOC_OF_256: u64 = 38;
/// Of 256 of these, those that reach across the middle.
const REACHES_OF_256: u64 = 26;
/// Of 256 orders, those that are post-only.
const POST_ONLY_OF_256: u64 = 26;
/// How far from the middle, in ticks, the nearest orders stand on either side, and how far beyond it an
/// order that is to trade reaches.
const NEAREST_TICKS: u32 = 3;
const REACH_TICKS: u64 = 6;

/// Refusals that such a flow asks for: too late, or no longer possible where the market stands by now.
pub(super) const EXPECTED: [&str; 3] = ["unknown_order", "would_take", "invalid_order"];

/// What all clients share: the markets, and the laws.
#[derive(Debug)]
pub(super) struct Flow {
    markets: u64,
    assets: u64,
    /// By market: its middle, step by step.
    middles: Vec<Vec<u32>>,
    distances: Vec<u32>,
    sizes: Vec<u32>,
}

impl Flow {
    /// So many markets over so many assets.
    pub(super) fn new(markets: u32, assets: u32, seed: u64) -> Self {
        let middle = |market| walk(mix(seed ^ 0x0B00C, u64::from(market)));
        Self {
            markets: markets.into(),
            assets: assets.into(),
            middles: (0..markets).map(middle).collect(),
            distances: power_law(DISTANCES).iter().map(|draw| NEAREST_TICKS - 1 + draw).collect(),
            sizes: power_law(SIZES),
        }
    }

    /// The markets: every asset but the first is sold for the first, in turn.
    pub(super) fn specs(&self, fee_account: AccountId) -> impl Iterator<Item = MarketSpec> + '_ {
        (0..self.markets).map(move |number| MarketSpec {
            name: format!("M{number}").into(),
            base: AssetId::new(1 + (number % (self.assets - 1)) as u32),
            quote: AssetId::new(0),
            tick_size: TICK_SIZE,
            lot_size: LOT_SIZE,
            maker_fee_bps: 2,
            taker_fee_bps: 5,
            fee_account,
            min_notional: 0,
            price_band_bps: 0,
        })
    }

    /// A market's middle, in ticks, when so many requests have been sent in all.
    fn middle(&self, market: u64, sent: u64) -> u64 {
        let middles = &self.middles[market as usize];
        let step = sent / (REQUESTS_PER_STEP * self.markets);
        middles[step as usize % middles.len()].into()
    }
}

/// Out and back, a tick a step.
fn walk(seed: u64) -> Vec<u32> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut at = MIDDLE_TICKS as u32;
    let mut walked: Vec<u32> = Vec::with_capacity(2 * STEPS);
    for _ in 0..STEPS {
        walked.push(at);
        at = if rng.next_u64() & 1 == 0 { at + 1 } else { at - 1 };
    }
    walked.extend_from_within(..);
    walked[STEPS..].reverse();
    walked
}

/// From 1 to the largest, more than x in a share of x to the power of minus the exponent.
fn power_law((exponent, largest): (f64, f64)) -> Vec<u32> {
    let at = |draw: usize| {
        let above = (draw as f64 + 0.5) / DRAWS as f64;
        above.powf(-1.0 / exponent).min(largest) as u32
    };
    (0..DRAWS).map(at).collect()
}

/// An order that stands, as far as its client knows.
#[derive(Clone, Copy, Debug)]
struct Standing {
    id: RequestId,
    market: u16,
    side: Side,
    lots: u32,
}

/// What a request of the last submission was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// An order that goes at once if it does not trade.
    Passing,
    /// An order that may stand.
    Staying,
    /// An amendment.
    Amend,
    /// A cancellation.
    Cancel,
}

/// Random bits, handed out a few at a time.
struct Bits(u64);

impl Bits {
    fn take(&mut self, bits: u32) -> u64 {
        let taken = self.0 & ((1 << bits) - 1);
        self.0 >>= bits;
        taken
    }

    fn of(&mut self, table: &[u32]) -> u64 {
        table[self.take(DRAWS.ilog2()) as usize].into()
    }

    fn side(&mut self) -> Side {
        if self.take(1) == 0 { Side::Buy } else { Side::Sell }
    }
}

/// What one client sends.
#[derive(Debug)]
pub(super) struct ClientFlow {
    rules: Arc<Workload>,
    rng: SmallRng,
    id_prefix: u128,
    clients: u64,
    /// Requests sent so far.
    sent: u64,
    /// Its orders that stand.
    open: Vec<Standing>,
    /// How many it keeps.
    open_target: usize,
    /// The last submission.
    last: Vec<Sent>,
    /// Those of its orders that may stand.
    staying: Vec<Standing>,
}

impl ClientFlow {
    /// The flow of one of so many clients, with so many requests in a submission.
    pub(super) fn new(workload: &ClientWorkload, clients: usize, batch: usize) -> Self {
        let (rules, number) = (Arc::clone(workload.rules()), workload.number());
        let rng = SmallRng::seed_from_u64(mix(rules.seed(), number as u64));
        let open_target = (OPEN_TARGET / clients).max(OPEN_SUBMISSIONS * batch);
        Self {
            rules,
            rng,
            id_prefix: (number as u128 & 0x3FF) << 64,
            clients: clients as u64,
            sent: 0,
            open: Vec::with_capacity(open_target + batch),
            open_target,
            last: Vec::with_capacity(batch),
            staying: Vec::with_capacity(batch),
        }
    }

    /// The next requests under new ids; `unix_millis` is the time inside the ids.
    pub(super) fn submission(&mut self, requests: usize, unix_millis: u64) -> Vec<Request> {
        self.last.clear();
        self.staying.clear();
        (0..requests).map(|_| self.request(unix_millis)).collect()
    }

    /// What the requests of the last submission were.
    pub(super) fn last(&self) -> &[Sent] {
        &self.last
    }

    /// Takes what became of the last submission: what was placed stands, as far as is known.
    pub(super) fn answered(&mut self, answers: &Replies) {
        let settled = |index| matches!(answers.reply(index), Reply::Settled(_));
        self.keep(settled);
    }

    fn keep(&mut self, settled: impl Fn(usize) -> bool) {
        let stays = self.last.iter().enumerate().filter(|(_, sent)| **sent == Sent::Staying);
        let stays = stays.zip(&self.staying).filter(|((index, _), _)| settled(*index));
        self.open.extend(stays.map(|(_, order)| *order));
    }

    fn request(&mut self, unix_millis: u64) -> Request {
        let mut bits = Bits(self.rng.next_u64());
        let random = self.rng.next_u64();
        let id = RequestId::v7(unix_millis, self.id_prefix | u128::from(random));
        let cancels = CANCELS_OF_256[usize::from(self.open.len() >= self.open_target)];
        let kind = bits.take(8);
        let (sent, command) = if self.open.is_empty() || kind >= AMENDS_OF_256 + cancels {
            self.order(id, &mut bits)
        } else if kind < AMENDS_OF_256 {
            (Sent::Amend, self.amend(&mut bits))
        } else {
            let latest = self.latest();
            (Sent::Cancel, Command::Cancel(self.open.swap_remove(latest).id))
        };
        self.sent += 1;
        self.last.push(sent);
        Request::new(id, command)
    }

    /// One of its orders that stand, the later ones more often.
    fn latest(&mut self) -> usize {
        let back = below(&mut self.rng, self.open.len() as u64);
        let back = below(&mut self.rng, back + 1) as usize;
        self.open.len() - 1 - back
    }

    fn flow(&self) -> &Flow {
        self.rules.flow().expect("markets were asked for")
    }

    /// A price at which an order of that side stands, or reaches across the middle.
    fn price(&self, market: u64, side: Side, distance: u64, reaches: bool) -> Price {
        let middle = self.flow().middle(market, self.sent * self.clients);
        let above = (side == Side::Sell) != reaches;
        Price(TICK_SIZE * if above { middle + distance } else { middle - distance })
    }

    fn order(&mut self, id: RequestId, bits: &mut Bits) -> (Sent, Command) {
        let account = self.rules.account(&mut self.rng);
        let markets = self.flow().markets;
        let market = below(&mut self.rng, markets);
        let (side, kind, reach) = (bits.side(), bits.take(8), bits.take(8));
        let (distance, lots) = (bits.of(&self.flow().distances), bits.of(&self.flow().sizes));
        let is_ioc = kind < IOC_OF_256;
        let reaches = is_ioc && reach < REACHES_OF_256;
        let distance = match (is_ioc, reaches) {
            (true, true) => REACH_TICKS,
            (true, false) => 0,
            _ => distance,
        };
        let price = self.price(market, side, distance, reaches);
        let is_post_only = !is_ioc && kind < IOC_OF_256 + POST_ONLY_OF_256;
        let order = PlaceOrder {
            market: MarketId::new(market as u32),
            account,
            side,
            order_type: if is_post_only { OrderType::PostOnly } else { OrderType::Limit },
            stands: if is_ioc { Stands::Ioc } else { Stands::Gtc },
            price: Some(price),
            quantity: Some(Amount::new(u128::from(lots * LOT_SIZE))),
            funds: None,
            self_trade: SelfTrade::CancelTaker,
            client_order_id: "".into(),
        };
        let sent = if is_ioc { Sent::Passing } else { Sent::Staying };
        if sent == Sent::Staying {
            self.staying.push(Standing { id, market: market as u16, side, lots: lots as u32 });
        }
        (sent, Command::Order(Box::new(order)))
    }

    /// Half of them make an order smaller where it stands, the others move it.
    fn amend(&mut self, bits: &mut Bits) -> Command {
        let which = self.latest();
        let Standing { id, market, side, lots } = self.open[which];
        let amount = |lots: u32| Amount::new(u128::from(u64::from(lots) * LOT_SIZE));
        let (price, quantity) = if bits.take(1) == 0 {
            let lots = lots.div_ceil(2);
            self.open[which].lots = lots;
            (None, Some(amount(lots)))
        } else {
            let distance = bits.of(&self.flow().distances);
            (Some(self.price(market.into(), side, distance, false)), None)
        };
        Command::Amend(AmendOrder { order: id, price, quantity })
    }
}

#[cfg(test)]
mod tests;
