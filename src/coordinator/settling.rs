//! Takes requests to their markets and what those say back into batches, and decides it in line. Pure.
//!
//! What is kept meanwhile stands in [`super::trading`], with the way that an order goes.

use super::deciding::Exception;
use super::deferred::{Again, Place};
use super::forming::{Forming, Screened};
use super::ids::SeenBefore;
use super::trading::{Asking, Known, Named, Settled, Settling, amendment, fault, new_order};
use super::txn::Machine;
use crate::error::{OrderFault, Reject};
use crate::faults::{Bug, planted};
use crate::market::order::{OrderId, Side};
use crate::market::{Declined, Settlement, Standing};
use crate::message::{
    AnswerSlot, Asked, Look, MarketAnswer as Answer, MarketAnswers as Answers, Question, Reserve,
    Show, Txn, TxnRef,
};
use crate::request::{AmendOrder, Command, Stands};
use crate::types::{AccountId, Amount, BalanceKey, CommitSeq, MarketId, RequestId, Time};

/// Orders whose time is over that are asked about for one batch, at most.
const EXPIRIES_PER_BATCH_MAX: usize = 1_024;

impl<S: SeenBefore> Machine<S> {
    /// What that market actor is to be asked.
    pub fn take_questions(&mut self, actor: usize) -> Vec<Question> {
        self.trading.take_questions(actor)
    }

    /// Whether a market actor is to be asked something.
    pub fn has_questions(&self) -> bool {
        self.trading.has_questions()
    }

    /// Looks at a market: after all that it was asked so far. False if there is none of that number.
    pub fn look(&mut self, market: MarketId, look: Look) -> bool {
        let is_there = self.trading.market(market).is_ok();
        if is_there {
            self.trading.ask(market, Asked::Look(look), Asking::Looker);
        }
        is_there
    }

    /// What may be shown, each once that seq is durable.
    pub fn take_shown(&mut self) -> Vec<(CommitSeq, Show)> {
        self.trading.take_shown()
    }

    /// How many orders are open or on their way.
    pub fn orders(&self) -> usize {
        self.trading.orders()
    }

    /// What can be said of a market's request before anybody is asked: an order's funds are
    /// reserved first, everything else is for the market to say.
    pub(super) fn check_market_request(
        &mut self,
        txn: &mut Txn,
        forming: &Forming,
    ) -> Result<Screened, Reject> {
        match &txn.command {
            Command::Order(order) => {
                let account = order.account;
                let checked = self.check_order(txn, forming);
                // Its shard looks for the account, but only if it is asked.
                checked.map_err(|reject| self.trading.or_unknown(account, reject))
            }
            Command::CancelAll { account, market } => {
                let (account, market) = (*account, *market);
                self.trading.check_account(account)?;
                self.trading.market(market)?;
                Ok(Screened::AsksMarket(market, Asked::CancelAll(account)))
            }
            Command::Cancel(order) | Command::Amend(AmendOrder { order, .. })
                if !self.may_touch(txn, *order) =>
            {
                Err(Reject::Order(OrderFault::UnknownOrder(*order)))
            }
            Command::Cancel(order) => {
                let order = *order;
                self.whereabouts(order, |_, market, id| {
                    Ok(Screened::AsksMarket(market, Asked::Cancel(id)))
                })
            }
            // What it needs is reserved: it came back for that.
            Command::Amend(_) if txn.reserved().is_some() => Ok(Screened::Ask),
            Command::Amend(amend) => {
                let amend = *amend;
                self.whereabouts(amend.order, |this, market, id| {
                    let listed = this.trading.market(market)?;
                    if listed.halted {
                        return Err(Reject::Order(OrderFault::Halted(market)));
                    }
                    let asked = amendment(&listed.spec, &amend, id, 0).map_err(Reject::Order)?;
                    Ok(Screened::AsksMarket(market, asked))
                })
            }
            other => unreachable!("no market's: {}", other.kind()),
        }
    }

    /// Sends a request to where its order is.
    fn whereabouts(
        &mut self,
        order: RequestId,
        open: impl FnOnce(&mut Self, MarketId, OrderId) -> Result<Screened, Reject>,
    ) -> Result<Screened, Reject> {
        match self.trading.known(order) {
            Some(Known::Open(market, id)) => open(self, market, id),
            Some(Known::Coming(at)) => Ok(Screened::After(at)),
            None => Err(Reject::Order(OrderFault::UnknownOrder(order))),
        }
    }

    fn check_order(&mut self, txn: &mut Txn, forming: &Forming) -> Result<Screened, Reject> {
        let Command::Order(order) = &txn.command else { unreachable!("it is an order") };
        let listed = self.trading.market(order.market)?;
        if listed.halted {
            return Err(Reject::Order(OrderFault::Halted(order.market)));
        }
        let spec = listed.spec.clone();
        if let Stands::Gtd { expires_in_ms } = order.stands {
            let after = expires_in_ms.saturating_mul(1_000);
            txn.expires_at = Time::new(forming.now.get().saturating_add(after));
        }
        let new = new_order(&spec, order, txn.expires_at).map_err(Reject::Order)?;
        let units = spec.reserve(&new).ok_or(Reject::Order(OrderFault::TooLarge))?;
        match self.trading.named(order.account, &order.client_order_id) {
            Some(Named::Open(other)) => {
                return Err(Reject::Order(OrderFault::DuplicateClientId(other)));
            }
            Some(Named::Undecided(at)) => return Ok(Screened::After(at)),
            None => {}
        }
        let [_, open_orders] = self.open_max(txn);
        if let Some(max) = open_orders
            && self.trading.open_of(order.account) >= max
        {
            return Err(Reject::Order(OrderFault::TooMany { max: max.into() }));
        }
        self.trading.is_coming(txn, order, forming.next_at());
        let key = |asset| BalanceKey { account: order.account, asset };
        let (pays, receives) = (key(spec.pays(new.side)), key(spec.receives(new.side)));
        txn.reserve(Reserve { pays, units: Amount::new(units), receives }, self.shards);
        Ok(Screened::Ask)
    }

    /// A request that is in no batch goes to its market.
    pub(super) fn send_to_market(&mut self, market: MarketId, asked: Asked, again: Again) {
        self.deferred.is_at_market(again.txn.id);
        self.trading.ask(market, asked, Asking::Outside(Box::new(again)));
    }

    /// What a request needs is reserved: its market is asked.
    pub(super) fn enter_market(&mut self, at: TxnRef, txn: &Txn) {
        let reserve = txn.reserved().expect("it has just been granted");
        let asked = match &txn.command {
            Command::Order(order) => {
                let listed = self.trading.market(order.market).expect("seen before it reserved");
                let new = new_order(&listed.spec, order, txn.expires_at);
                let new = new.expect("checked before it reserved");
                Some((order.market, Asked::Place { order: txn.id, new }))
            }
            Command::Amend(amend) => match self.trading.known(amend.order) {
                Some(Known::Open(market, id)) => {
                    let listed = self.trading.market(market).expect("it has an order");
                    let asked = amendment(&listed.spec, amend, id, reserve.units.get());
                    Some((market, asked.expect("checked before it reserved")))
                }
                // It ended while the funds were reserved.
                _ => None,
            },
            other => unreachable!("reserves nothing: {}", other.kind()),
        };
        let Some((market, asked)) = asked else {
            let order = asked_about(txn);
            let reject = Reject::Order(OrderFault::UnknownOrder(order));
            return self.refuse(at, txn, reject, self.last_seq());
        };
        self.flight(at.batch).at_market.insert(at.index);
        self.trading.ask(market, asked, Asking::InBatch(at));
    }

    /// Takes what a market actor answered.
    pub fn on_answers(&mut self, answers: Answers) {
        let Answers { actor, answers } = answers;
        for answer in answers {
            match self.trading.next_asking(actor) {
                Asking::InBatch(at) => {
                    let (batch, index) = (&self.flight(at.batch).batch, at.index as usize);
                    let (txn, mut slot) = (batch.txns[index].as_it_came(), batch.slots[index]);
                    slot.again = true;
                    let since = match self.deferred.place(txn.id) {
                        Some(Place::InFlight { parked_since, .. }) => parked_since,
                        _ => None,
                    };
                    self.on_answer(txn, slot, (Some(at), since), answer);
                }
                Asking::Outside(again) => {
                    let Again { txn, slot, parked_since, .. } = *again;
                    self.on_answer(txn, slot, (None, parked_since), answer);
                }
                Asking::Looker => match answer {
                    Answer::Looked(market, show) => self.trading.has_looked(market, show),
                    _ => unreachable!("it was only looked at"),
                },
            }
        }
    }

    fn on_answer(
        &mut self,
        mut txn: Txn,
        slot: AnswerSlot,
        (reserved_at, parked_since): (Option<TxnRef>, Option<Time>),
        answer: Answer,
    ) {
        match answer {
            Answer::Placed(id, settlement) => {
                if settlement.orders.last().is_some_and(|last| last.standing == Standing::Open) {
                    self.trading.is_placed(txn.id, settlement.market, id);
                }
                self.has_settled(txn, slot, reserved_at, settlement);
            }
            Answer::Looked(..) => unreachable!("who looks asks for nothing"),
            Answer::Done(settlement) => self.has_settled(txn, slot, reserved_at, settlement),
            Answer::Declined(market, Declined::NeedsFunds { account, side, units }) => {
                self.reserve_for(&mut txn, (market, account, side, units));
                self.ask_again(txn, slot, reserved_at, parked_since);
            }
            // Nobody asked for it: the order ended before its time.
            Answer::Declined(..) if slot == AnswerSlot::NOBODY => {}
            Answer::Declined(market, declined) => {
                let max = self.orders_per_market_max;
                let listed = self.trading.market(market).expect("it has answered");
                let wrong = fault(&listed.spec, max, asked_about(&txn), &declined);
                let verdict = Some(Reject::Order(wrong));
                self.trading.has_said(Settled { txn, slot, market, reserved_at, verdict });
            }
        }
    }

    fn has_settled(
        &mut self,
        mut txn: Txn,
        slot: AnswerSlot,
        reserved_at: Option<TxnRef>,
        settlement: Settlement,
    ) {
        let market = settlement.market;
        txn.settle(settlement, self.shards);
        self.trading.has_said(Settled { txn, slot, market, reserved_at, verdict: None });
    }

    /// An amendment costs more than its order has set aside, or than was reserved for it so far.
    fn reserve_for(
        &mut self,
        txn: &mut Txn,
        (market, account, side, units): (MarketId, AccountId, Side, u128),
    ) {
        let spec = &self.trading.market(market).expect("it has answered").spec;
        let key = |asset| BalanceKey { account, asset };
        let (pays, receives) = (key(spec.pays(side)), key(spec.receives(side)));
        txn.reserve(Reserve { pays, units: Amount::new(units), receives }, self.shards);
    }

    /// Puts a request in line that has more to reserve now.
    fn ask_again(
        &mut self,
        txn: Txn,
        slot: AnswerSlot,
        reserved_at: Option<TxnRef>,
        parked_since: Option<Time>,
    ) {
        if let Some(at) = reserved_at {
            self.flight(at.batch).at_market.remove(at.index);
            self.given_back.push(at);
            self.take_followers_back(at);
        }
        let again = Again { txn, slot, attempts: 1, parked_since, verdict: None };
        self.deferred.push_next(again);
    }

    /// What markets said goes before all else.
    pub(super) fn take_settled(&mut self, forming: &mut Forming) {
        while !forming.is_full() {
            let at = forming.next_at();
            let last = self.last_seq();
            let Some(settled) = self.trading.pop_settled(at, last) else { return };
            let Settled { mut txn, slot, market, reserved_at, verdict } = settled;
            if slot != AnswerSlot::NOBODY && self.deferred.place(txn.id).is_some() {
                self.deferred.is_placed(txn.id, at, 1, None);
            }
            if let Some(reject) = verdict {
                txn.shards = 0;
                forming.exceptions.insert(at.index, Exception::InLine(Some(reject)));
            }
            forming.settling.push(Settling { market, reserved_at });
            forming.push(txn, slot);
        }
    }

    /// The engine's own requests: orders whose time is over.
    pub(super) fn ask_about_due_orders(&mut self, now: Time) {
        for _ in 0..EXPIRIES_PER_BATCH_MAX {
            let Some((order, market, id)) = self.trading.pop_due(now) else { return };
            let (txn, slot) = (Txn::order_expiry(order), AnswerSlot::NOBODY);
            let again = Again { txn, slot, attempts: 0, parked_since: None, verdict: None };
            self.trading.ask(market, Asked::Expire(id), Asking::Outside(Box::new(again)));
        }
    }

    /// Decides what a market said, if its turn has come; else it stays in line.
    pub(super) fn settle_in_line(&mut self, at: TxnRef, verdict: Option<Reject>) {
        let Settling { market, .. } = self.settling(at);
        if planted(Bug::SettleOutOfLine) {
            self.trading.jump_line(market, at);
        }
        if self.trading.first_in_line(market) != Some(at) {
            self.flight(at.batch).exceptions.insert(at.index, Exception::InLine(verdict));
            return;
        }
        self.settle(at, verdict);
        // Those behind it that have all their votes.
        while let Some(next) = self.trading.first_in_line(market) {
            let flight = self.flight(next.batch);
            // Its batch is yet to be decided, perhaps in the loop that is running.
            if flight.missing > 0 {
                return;
            }
            let Some(Exception::InLine(_)) = flight.exceptions.get(&next.index) else { return };
            let Some(Exception::InLine(verdict)) = flight.exceptions.remove(&next.index) else {
                unreachable!("just seen")
            };
            self.settle(next, verdict);
        }
    }

    fn settling(&mut self, at: TxnRef) -> Settling {
        self.flight(at.batch).settling[at.index as usize]
    }

    fn settle(&mut self, at: TxnRef, verdict: Option<Reject>) {
        let Settling { market, reserved_at } = self.settling(at);
        self.trading.leave_line(market, at);
        if let Some(reserved) = reserved_at {
            // Shards give back what was reserved before they settle.
            self.flight(reserved.batch).at_market.remove(reserved.index);
            if !planted(Bug::KeepReserve) {
                self.given_back.push(reserved);
            }
        }
        let batch = self.flight(at.batch).batch.clone();
        let txn = &batch.txns[at.index as usize];
        match verdict {
            Some(reject) => self.refuse(at, txn, reject, self.last_seq()),
            None => {
                let settlement = txn.settlement().expect("its market has said what it comes to");
                self.trading.is_decided(txn, settlement);
                self.commits.push(at);
                self.next_seq = self.next_seq.next();
                self.is_decided(at, txn);
            }
        }
        if let Some(reserved) = reserved_at {
            self.lets_go(reserved);
        }
        self.trading.show_in_line(market, self.last_seq());
    }
}

/// The order that a market's request is about.
fn asked_about(txn: &Txn) -> RequestId {
    match &txn.command {
        Command::Cancel(order) | Command::ExpireOrder(order) => *order,
        Command::Amend(amend) => amend.order,
        _ => txn.id,
    }
}
