//! Market actors: each owns the books of its markets, and is their only writer.
//!
//! Markets are dealt to the actors by number. An actor is asked in batches and answers in batches, each
//! question in its turn; what an answer comes to is decided elsewhere, in the same order. So books run ahead of
//! what is decided, and further ahead of what is durable: what they show goes the same way.
//!
//! The way back to the coordinator always has room: its channel of answers is as long as the messages
//! that can be unanswered, so an actor never waits for whom it answers (I9).

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam::channel::Sender;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::actor::{Ended, Mailbox};
use crate::directory::Directory;
use crate::faults::point;
use crate::market::order::{Ended as OrderEnded, OrderId, Price, Side};
use crate::market::{Market, OpenOrder};
use crate::message::{Asked, MarketAnswer, MarketAnswers, Question};
use crate::metrics::{BookNow, MatcherMetrics};
use crate::types::MarketId;

/// The books of some markets. Pure.
pub struct Books {
    markets: HashMap<MarketId, Market, RandomState>,
    directory: Arc<Directory>,
    orders_per_market_max: u32,
}

impl Books {
    /// No books. Each comes into being when its market is first asked about.
    pub fn new(directory: Arc<Directory>, orders_per_market_max: u32) -> Self {
        Self { markets: HashMap::default(), directory, orders_per_market_max }
    }

    /// Puts back an order that recovery found; a market's come in the order of their places.
    ///
    /// # Errors
    /// Why the book does not take it.
    pub fn restore(&mut self, market: MarketId, open: &OpenOrder) -> Result<OrderId, String> {
        if self.directory.market(market).is_none() {
            return Err(format!("market {market} does not exist"));
        }
        self.market(market).restore(open).map_err(|refusal| refusal.to_string())
    }

    /// Sets the price of a market's last trade, as recovery found it.
    pub fn restore_price(&mut self, market: MarketId, price: Price) {
        self.market(market).restore_price(price);
    }

    /// The market of that number, which must exist.
    pub fn market(&mut self, market: MarketId) -> &mut Market {
        self.markets.entry(market).or_insert_with(|| {
            let listed = self.directory.market(market).expect("nobody asks about no market");
            Market::new(market, (*listed.spec).clone(), self.orders_per_market_max, None)
        })
    }

    /// Tells what these answers came to.
    fn tell(&mut self, answers: &[MarketAnswer], metrics: &mut MatcherMetrics) {
        let mut trades: BTreeMap<MarketId, u64> = BTreeMap::new();
        for answer in answers {
            if let MarketAnswer::Placed(_, settlement) | MarketAnswer::Done(settlement) = answer {
                *trades.entry(settlement.market).or_default() += settlement.fills.len() as u64;
            }
        }
        for (number, trades) in trades {
            let market = self.market(number);
            let book = market.book();
            let best = [Side::Buy, Side::Sell].map(|side| book.best(side).map(|price| price.0));
            let now = BookNow { standing: book.len(), best };
            metrics.market((number.get(), &market.spec().name), trades, now);
        }
    }

    /// Does what a question asks for.
    pub fn answer(&mut self, question: Question) -> MarketAnswer {
        let Question { market: number, asked } = question;
        let market = self.market(number);
        let done = match asked {
            Asked::Place { order, new } => {
                return match market.place(order, new) {
                    Ok((id, settlement)) => MarketAnswer::Placed(id, settlement),
                    Err(declined) => MarketAnswer::Declined(number, declined),
                };
            }
            Asked::Amend { id, price, quantity, reserved } => {
                market.amend(id, price, quantity, reserved)
            }
            Asked::Cancel(id) => market.cancel(id, OrderEnded::Canceled),
            Asked::Expire(id) => market.cancel(id, OrderEnded::Expired),
            Asked::CancelAll(account) => Ok(market.cancel_all(account)),
            Asked::Look(look) => return MarketAnswer::Looked(number, look(market)),
        };
        match done {
            Ok(settlement) => MarketAnswer::Done(settlement),
            Err(declined) => MarketAnswer::Declined(number, declined),
        }
    }
}

/// Everything a market actor can be asked. One mailbox, so the order is kept.
pub enum Message {
    /// Answer each of these.
    Ask(Vec<Question>),
}

/// A market actor and the channels it speaks through.
pub struct Matcher {
    /// Its number.
    pub number: usize,
    /// Its books, as recovered.
    pub books: Books,
    /// What it is asked.
    pub mailbox: Mailbox<Message>,
    /// To the coordinator.
    pub answers: Sender<MarketAnswers>,
}

impl Matcher {
    /// The actor's life: until its mailbox is drained or the engine is poisoned.
    ///
    /// # Errors
    /// None of its own; broken invariants panic, which poisons the engine.
    pub fn run(&mut self) -> Result<(), String> {
        let mut metrics = MatcherMetrics::new(self.number);
        loop {
            match self.mailbox.recv() {
                Ok(message) => {
                    metrics.mailbox(self.mailbox.len());
                    if !self.on_message(message, Some(&mut metrics)) {
                        return Ok(());
                    }
                }
                Err(Ended::Drained | Ended::Poisoned) => return Ok(()),
            }
        }
    }

    /// Does what the next message asks for, if one is there; says whether there was one. For whoever
    /// schedules the actors himself, in the place of [`Matcher::run`].
    pub fn step(&mut self) -> bool {
        match self.mailbox.try_recv() {
            Ok(Some(message)) => self.on_message(message, None),
            Ok(None) | Err(Ended::Drained | Ended::Poisoned) => false,
        }
    }

    /// False when nobody hears the answers any more: the engine stops, and says why itself.
    fn on_message(&mut self, message: Message, metrics: Option<&mut MatcherMetrics>) -> bool {
        let Message::Ask(questions) = message;
        point!("market.match");
        let books = &mut self.books;
        let answers: Vec<MarketAnswer> =
            questions.into_iter().map(|question| books.answer(question)).collect();
        point!("market.matched");
        if let Some(metrics) = metrics {
            books.tell(&answers, metrics);
        }
        self.answers.send(MarketAnswers { actor: self.number, answers }).is_ok()
    }
}
