//! Orders on their way through the engine: what is reserved, what their market says, and when that is
//! decided. Pure.
//!
//! ```text
//! order ──► a batch: reserve ──yes from its shard──► asked of its market ─┐
//! cancel, expiry, cancel all ──────────────────────► asked of its market ─┤ answer: a settlement
//! amendment ─► asked ─"needs so much"─► a batch: reserve ─► asked again ──┘
//!                                                                         ▼
//!            commit, in the market's line ◄── yes from its shards ── a batch: settle
//! ```
//!
//! The request that reserved keeps its grant, undecided, until the settlement is decided; both are told
//! in the same decision, the one as given back, the other as committed.
//!
//! Invariants
//! * Settlements and refusals of one market are decided in the order in which it matched. Who has all its
//!   votes waits in line until those before it are decided.
//! * A settlement always commits: nothing here or in a shard refuses it.
//! * An order is known here from when it is asked about until its end is decided, so whoever wants to
//!   cancel or amend it meanwhile is sent to its market.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, hash_map};

use super::deferred::Again;
use crate::directory::{Directory, Listed};
use crate::error::{OrderFault, Reject};
use crate::market::order::{
    Kind, Lots, NewOrder, OrderId, Owner, Price, Refusal, Side, TimeInForce,
};
use crate::market::{Declined, MarketSpec, OpenOrder, Settlement, Standing};
use crate::message::{AnswerSlot, Asked, Question, Show, Txn, TxnRef};
use crate::request::{AmendOrder, Command, OrderType, PlaceOrder, Stands};
use crate::types::{AccountId, Amount, CommitSeq, MarketId, RequestId, Time};

/// Times of orders that are gone may outnumber those of open ones this much before they are swept.
const STALE_TIMES_MAX: usize = 1_024;

/// Who waits for a market's answer.
pub(super) enum Asking {
    /// A transaction in a batch, which has reserved something.
    InBatch(TxnRef),
    /// A request that is in no batch.
    Outside(Box<Again>),
    /// Somebody who looks.
    Looker,
}

/// What a market said of a request, on its way into a batch.
pub(super) struct Settled {
    pub(super) txn: Txn,
    pub(super) slot: AnswerSlot,
    pub(super) market: MarketId,
    /// Where what it takes is reserved.
    pub(super) reserved_at: Option<TxnRef>,
    /// What it is refused for, if it is.
    pub(super) verdict: Option<Reject>,
}

/// What a market said, on its way to be decided or shown.
enum Said {
    Settled(Box<Settled>),
    Looked(MarketId, Show),
}

/// What waits for its turn in a market.
enum InLine {
    /// In a batch.
    Txn(TxnRef),
    /// It saw what those before it came to.
    Show(Show),
}

/// A settlement in a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settling {
    pub(super) market: MarketId,
    /// Where what it takes is reserved.
    pub(super) reserved_at: Option<TxnRef>,
}

/// Where an order is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known {
    /// In that batch: its market has not answered yet.
    Coming(TxnRef),
    /// In that market, under that id.
    Open(MarketId, OrderId),
}

/// What is known of an account's order of some name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named {
    /// It is open.
    Open(RequestId),
    /// It is coming, and may yet be refused: that is decided there.
    Undecided(TxnRef),
}

/// An order that stood when the engine ended, as the markets have it now.
#[derive(Clone, Debug)]
pub struct StandingOrder {
    /// Its market.
    pub market: MarketId,
    /// Its id there.
    pub id: OrderId,
    /// Itself.
    pub open: OpenOrder,
    /// Its owner's own name for it; may be empty.
    pub client_order_id: Box<str>,
}

/// Everything that is on its way to a market, there, or back.
pub(super) struct Trading {
    directory: Arc<Directory>,
    /// The markets as of a change of the directory.
    listed: (CommitSeq, Vec<Listed>),
    /// By market actor: who waits for its answers, in the order of the questions.
    asking: Vec<VecDeque<Asking>>,
    /// By market actor: questions that it has not been told.
    questions: Vec<Vec<Question>>,
    said: VecDeque<Said>,
    /// Settlements and refusals that are in a batch, by market, in match order.
    lines: HashMap<MarketId, VecDeque<InLine>, RandomState>,
    /// What may be shown now.
    shown: Vec<(CommitSeq, Show)>,
    /// Whose it is, and where.
    orders: HashMap<RequestId, (AccountId, Known), RandomState>,
    /// How many of them each account has, once somebody has asked.
    per_account: Option<HashMap<AccountId, u32, RandomState>>,
    /// Open orders by their owners' names for them, and back.
    names: HashMap<(AccountId, Box<str>), RequestId, RandomState>,
    named: HashMap<RequestId, (AccountId, Box<str>), RandomState>,
    /// Of those with a name, the ones of which it is not decided that they are open, and where that is.
    undecided: HashMap<RequestId, TxnRef, RandomState>,
    /// When orders end by themselves; some are gone already.
    times: BinaryHeap<Reverse<(Time, RequestId)>>,
}

impl Trading {
    /// Goes on from the orders that recovery found.
    pub(super) fn new(directory: Arc<Directory>, actors: usize, open: Vec<StandingOrder>) -> Self {
        let mut trading = Self {
            directory,
            listed: (CommitSeq::default(), Vec::new()),
            asking: (0..actors).map(|_| VecDeque::new()).collect(),
            questions: (0..actors).map(|_| Vec::new()).collect(),
            said: VecDeque::new(),
            lines: HashMap::default(),
            shown: Vec::new(),
            orders: HashMap::default(),
            per_account: None,
            names: HashMap::default(),
            named: HashMap::default(),
            undecided: HashMap::default(),
            times: BinaryHeap::new(),
        };
        for StandingOrder { market, id, open, client_order_id } in open {
            trading.insert(open.order, open.account, Known::Open(market, id));
            trading.name(open.order, open.account, &client_order_id);
            if let Some(ends_at) = open.ends_at {
                trading.times.push(Reverse((Time::new(ends_at), open.order)));
            }
        }
        trading
    }

    /// How many orders are open or coming.
    pub(super) fn orders(&self) -> usize {
        self.orders.len()
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.said.is_empty() && self.asking.iter().all(VecDeque::is_empty)
    }

    /// How much can be put into batches.
    pub(super) fn settled(&self) -> usize {
        self.said.len()
    }

    /// Whether something can be put into a batch.
    pub(super) fn has_said_something(&self) -> bool {
        !self.said.is_empty()
    }

    /// The market as it is now: changes of the directory run alone, so it stays so for a batch.
    pub(super) fn market(&mut self, market: MarketId) -> Result<&Listed, Reject> {
        let changed = self.directory.changed_seq();
        let (seen, listed) = &mut self.listed;
        if *seen != changed || listed.is_empty() {
            (*seen, *listed) = (changed, self.directory.markets());
        }
        let fault = OrderFault::UnknownMarket(market);
        listed.get(market.get() as usize).ok_or(Reject::Order(fault))
    }

    /// Whether there is such an account: changes of the directory run alone, so it stays so.
    pub(super) fn check_account(&self, account: AccountId) -> Result<(), Reject> {
        let is_there = self.directory.has_account(account);
        if is_there { Ok(()) } else { Err(Reject::UnknownAccount(account)) }
    }

    /// Why an account's order is refused: that there is no such account comes before what markets find.
    pub(super) fn or_unknown(&self, account: AccountId, reject: Reject) -> Reject {
        self.check_account(account).err().unwrap_or(reject)
    }

    /// Who has an order of that id.
    pub(super) fn known(&self, order: RequestId) -> Option<Known> {
        self.orders.get(&order).map(|(_, known)| *known)
    }

    /// Whose order of that id is open or coming.
    pub(super) fn owner(&self, order: RequestId) -> Option<AccountId> {
        self.orders.get(&order).map(|(account, _)| *account)
    }

    /// How many orders of an account are open or coming. Counted from when somebody asks first.
    pub(super) fn open_of(&mut self, account: AccountId) -> u32 {
        let counts = self.per_account.get_or_insert_with(|| {
            let mut counts = HashMap::default();
            for (account, _) in self.orders.values() {
                *counts.entry(*account).or_default() += 1;
            }
            counts
        });
        counts.get(&account).copied().unwrap_or(0)
    }

    fn insert(&mut self, order: RequestId, account: AccountId, known: Known) {
        let before = self.orders.insert(order, (account, known));
        if let (None, Some(counts)) = (before, &mut self.per_account) {
            *counts.entry(account).or_default() += 1;
        }
    }

    /// Notes an order that is about to be asked about, at that place.
    pub(super) fn is_coming(&mut self, txn: &Txn, order: &PlaceOrder, at: TxnRef) {
        self.insert(txn.id, order.account, Known::Coming(at));
        self.name(txn.id, order.account, &order.client_order_id);
        if !order.client_order_id.is_empty() {
            self.undecided.insert(txn.id, at);
        }
    }

    fn name(&mut self, order: RequestId, account: AccountId, name: &str) {
        if !name.is_empty() {
            self.names.insert((account, name.into()), order);
            self.named.insert(order, (account, name.into()));
        }
    }

    /// The account's order of that name, if one is open or coming.
    pub(super) fn named(&self, account: AccountId, name: &str) -> Option<Named> {
        if name.is_empty() || self.names.is_empty() {
            return None;
        }
        let order = *self.names.get(&(account, name.into()))?;
        Some(match self.undecided.get(&order) {
            Some(at) => Named::Undecided(*at),
            None => Named::Open(order),
        })
    }

    /// An order is over, or is not to be.
    pub(super) fn forget(&mut self, order: RequestId) {
        if let (Some((account, _)), Some(counts)) =
            (self.orders.remove(&order), &mut self.per_account)
        {
            let hash_map::Entry::Occupied(mut open) = counts.entry(account) else {
                unreachable!("counted when it came")
            };
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
        if !self.named.is_empty()
            && let Some(name) = self.named.remove(&order)
        {
            self.names.remove(&name);
            self.undecided.remove(&order);
        }
    }

    /// Asks a market.
    pub(super) fn ask(&mut self, market: MarketId, asked: Asked, asking: Asking) {
        let actor = market.get() as usize % self.asking.len();
        self.questions[actor].push(Question { market, asked });
        self.asking[actor].push_back(asking);
    }

    /// What a market actor has not been told.
    pub(super) fn take_questions(&mut self, actor: usize) -> Vec<Question> {
        // About as many come next.
        let room = Vec::with_capacity(self.questions[actor].len());
        std::mem::replace(&mut self.questions[actor], room)
    }

    /// Whether a market actor is to be told something.
    pub(super) fn has_questions(&self) -> bool {
        self.questions.iter().any(|questions| !questions.is_empty())
    }

    /// Who waits for an actor's next answer.
    ///
    /// # Panics
    /// If nobody does.
    pub(super) fn next_asking(&mut self, actor: usize) -> Asking {
        self.asking[actor].pop_front().expect("answers what was asked")
    }

    /// A market has said what a request comes to.
    pub(super) fn has_said(&mut self, settled: Settled) {
        self.said.push_back(Said::Settled(Box::new(settled)));
    }

    /// Somebody has looked at a market.
    pub(super) fn has_looked(&mut self, market: MarketId, show: Show) {
        self.said.push_back(Said::Looked(market, show));
    }

    /// What may be shown once that seq is durable.
    pub(super) fn take_shown(&mut self) -> Vec<(CommitSeq, Show)> {
        std::mem::take(&mut self.shown)
    }

    /// An order stands in its market, though that is not decided yet.
    ///
    /// # Panics
    /// If it was not coming.
    pub(super) fn is_placed(&mut self, order: RequestId, market: MarketId, id: OrderId) {
        let (_, known) = self.orders.get_mut(&order).expect("it was coming");
        *known = Known::Open(market, id);
    }

    /// The next of what markets said, to be put into a batch at that place. `last`: everything up to it
    /// is decided.
    pub(super) fn pop_settled(&mut self, at: TxnRef, last: CommitSeq) -> Option<Settled> {
        loop {
            match self.said.pop_front()? {
                Said::Settled(settled) => {
                    let line = self.lines.entry(settled.market).or_default();
                    line.push_back(InLine::Txn(at));
                    return Some(*settled);
                }
                Said::Looked(market, show) => {
                    let line = self.lines.entry(market).or_default();
                    match line.is_empty() {
                        true => self.shown.push((last, show)),
                        false => line.push_back(InLine::Show(show)),
                    }
                }
            }
        }
    }

    /// Who is next to be decided in a market.
    pub(super) fn first_in_line(&self, market: MarketId) -> Option<TxnRef> {
        match self.lines.get(&market)?.front()? {
            InLine::Txn(at) => Some(*at),
            InLine::Show(_) => unreachable!("shown as soon as nobody is before it"),
        }
    }

    /// A bug that can be planted: one goes before all others.
    pub(super) fn jump_line(&mut self, market: MarketId, at: TxnRef) {
        let line = self.lines.get_mut(&market).expect("it stands there");
        line.retain(|other| !matches!(other, InLine::Txn(other) if *other == at));
        line.push_front(InLine::Txn(at));
    }

    /// The first in line is decided.
    pub(super) fn leave_line(&mut self, market: MarketId, at: TxnRef) {
        let line = self.lines.get_mut(&market).expect("it stood there");
        let first = line.pop_front();
        let is_first = matches!(first, Some(InLine::Txn(first)) if first == at);
        assert!(is_first, "one market's requests are decided in their order");
    }

    /// Those who looked after the one that was decided last, under that seq, may show what they saw.
    pub(super) fn show_in_line(&mut self, market: MarketId, last: CommitSeq) {
        let line = self.lines.get_mut(&market).expect("one has just left it");
        while let Some(InLine::Show(_)) = line.front() {
            let Some(InLine::Show(show)) = line.pop_front() else { unreachable!("just seen") };
            self.shown.push((last, show));
        }
    }

    /// A settlement was decided.
    pub(super) fn is_decided(&mut self, txn: &Txn, settlement: &Settlement) {
        for update in &settlement.orders {
            if update.standing != Standing::Open {
                self.forget(update.order);
            }
        }
        if !self.undecided.is_empty() {
            self.undecided.remove(&txn.id);
        }
        let places = matches!(txn.command, Command::Order(_));
        if places && txn.expires_at < Time::NEVER && self.orders.contains_key(&txn.id) {
            self.times.push(Reverse((txn.expires_at, txn.id)));
        }
    }

    /// When the next order ends by itself, or one that is gone would have.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.times.peek().map(|Reverse((time, _))| *time)
    }

    /// The next order whose time is over, with its place.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<(RequestId, MarketId, OrderId)> {
        if self.times.len() > 2 * self.orders.len() + STALE_TIMES_MAX {
            let orders = &self.orders;
            self.times.retain(|Reverse((_, order))| orders.contains_key(order));
        }
        while let Some(Reverse((time, order))) = self.times.peek().copied() {
            if time > now {
                return None;
            }
            self.times.pop();
            if let Some(Known::Open(market, id)) = self.known(order) {
                return Some((order, market, id));
            }
        }
        None
    }
}

/// An order as its market's book takes it.
///
/// # Errors
/// What is wrong with it in that market.
pub(super) fn new_order(
    spec: &MarketSpec,
    order: &PlaceOrder,
    ends_at: Time,
) -> Result<NewOrder, OrderFault> {
    let tick_size = spec.tick_size;
    let price = match (order.price, order.side) {
        (Some(price), _) => on_tick(spec, price)?,
        (None, Side::Buy) => Price(u64::MAX / tick_size * tick_size),
        (None, Side::Sell) => Price(tick_size),
    };
    let lots = order.quantity.map_or(Ok(Lots(u64::MAX)), |quantity| whole_lots(spec, quantity))?;
    let funds = order.funds.map(Amount::get);
    let kind = match order.order_type {
        OrderType::Limit => Kind::Limit,
        OrderType::PostOnly => Kind::PostOnly,
        OrderType::Market => Kind::Market { funds },
    };
    let time_in_force = match order.stands {
        Stands::Gtc => TimeInForce::Gtc,
        Stands::Gtd { .. } => TimeInForce::Gtd { ends_at: ends_at.get() },
        Stands::Ioc => TimeInForce::Ioc,
        Stands::Fok => TimeInForce::Fok,
    };
    Ok(NewOrder {
        id: OrderId(0),
        owner: Owner(order.account.get()),
        side: order.side,
        price,
        lots,
        kind,
        time_in_force,
        self_trade: order.self_trade,
    })
}

fn on_tick(spec: &MarketSpec, price: Price) -> Result<Price, OrderFault> {
    let tick_size = spec.tick_size;
    if price.0.is_multiple_of(tick_size) { Ok(price) } else { Err(OrderFault::Tick { tick_size }) }
}

fn whole_lots(spec: &MarketSpec, quantity: Amount) -> Result<Lots, OrderFault> {
    let lot_size = u128::from(spec.lot_size);
    let lots = u64::try_from(quantity.get() / lot_size).ok();
    let lots = lots.filter(|_| quantity.get().is_multiple_of(lot_size));
    lots.map(Lots).ok_or(OrderFault::Lot { lot_size: spec.lot_size })
}

/// An amendment as its market takes it.
///
/// # Errors
/// What is wrong with it in that market.
pub(super) fn amendment(
    spec: &MarketSpec,
    amend: &AmendOrder,
    id: OrderId,
    reserved: u128,
) -> Result<Asked, OrderFault> {
    let price = amend.price.map(|price| on_tick(spec, price)).transpose()?;
    let quantity = amend.quantity.map(|quantity| whole_lots(spec, quantity)).transpose()?;
    Ok(Asked::Amend { id, price, quantity, reserved })
}

/// Why a market declined, as it is answered. `asked`: the order that the request is about.
pub(super) fn fault(
    spec: &MarketSpec,
    max: u32,
    asked: RequestId,
    declined: &Declined,
) -> OrderFault {
    match declined {
        Declined::Book(Refusal::WouldTake) => OrderFault::WouldTake,
        Declined::Book(Refusal::Full) => OrderFault::TooMany { max: max.into() },
        Declined::Book(Refusal::Unknown(_)) => OrderFault::UnknownOrder(asked),
        Declined::Book(refusal) => unreachable!("checked before: {refusal}"),
        Declined::OutOfBand { low, high } => OrderFault::OutOfBand { low: low.0, high: high.0 },
        Declined::TooSmall => OrderFault::TooSmall { min_notional: spec.min_notional },
        Declined::FilledAlready { filled } => {
            OrderFault::FilledAlready { filled: Amount::new(spec.base_units(*filled)) }
        }
        Declined::NeedsFunds { .. } => unreachable!("they are reserved, and it is asked again"),
    }
}
