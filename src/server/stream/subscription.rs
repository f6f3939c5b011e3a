//! What one client follows of one market, and what it is told of it.

use serde::Serialize;

use crate::config::STREAM_SNAPSHOT_LEVELS_MAX;
use crate::error::Error;
use crate::market::MarketSpec;
use crate::market::levels::{self, LevelChange};
use crate::market::order::{Lots, Price, Side};
use crate::market::tape::{Missed, Print, Tape};
use crate::types::{Amount, CommitSeq};

use super::super::feed::Followed;
use super::super::problem::Problem;
use super::super::receipt::rfc_3339;
use super::super::state::App;
use super::super::trading::{SIDES, units, word};

/// Commits with trades that are told in one go.
const PRINTS_AT_ONCE: usize = 256;
/// Levels that are written on the spot; more are written on a thread that may be blocked.
const LEVELS_INLINE: usize = 1_024;

/// What of a market is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// Its levels; all of them, or the best so many of each side.
    Book {
        /// How many.
        depth: Option<usize>,
    },
    /// Its trades.
    Trades,
}

impl Channel {
    /// As clients say it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Book { .. } => "book",
            Self::Trades => "trades",
        }
    }
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum Cut {
    /// The client has gone, or takes nothing.
    Gone,
    /// It answers no ping.
    Silent,
    /// The key that it came with does not stand any more.
    Refused(Problem),
    /// It speaks something else.
    Broken(String),
    /// It is too far behind; the market whose trades it has missed.
    MissedTrades(Box<str>),
    /// The server stops.
    Stopping,
    /// The engine has stopped, or cannot be read.
    Failed(Error),
}

impl From<Error> for Cut {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The levels of both sides that a client has, or that change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sides {
    bids: Vec<LevelChange>,
    asks: Vec<LevelChange>,
}

impl Sides {
    /// The best of a tape, in base's smallest units.
    fn best(tape: &Tape, depth: usize, spec: &MarketSpec) -> Self {
        let side = |side| tape.levels().side(side).take(depth).map(|level| in_units(level, spec));
        Self { bids: side(Side::Buy).collect(), asks: side(Side::Sell).collect() }
    }

    fn split(changes: Vec<LevelChange>, spec: &MarketSpec) -> Self {
        let changes = changes.into_iter().map(|change| in_units(change, spec));
        let (bids, asks) = changes.partition(|change| change.side == Side::Buy);
        Self { bids, asks }
    }

    /// What makes these levels the others.
    fn difference(&self, now: &Self) -> Self {
        let bids = levels::difference(&self.bids, &now.bids);
        Self { bids, asks: levels::difference(&self.asks, &now.asks) }
    }

    fn len(&self) -> usize {
        self.bids.len() + self.asks.len()
    }

    fn checksum(&self) -> u32 {
        levels::checksum(self.bids.iter().copied(), self.asks.iter().copied())
    }
}

fn in_units(level: LevelChange, spec: &MarketSpec) -> LevelChange {
    // More than there can ever be of an asset need not be exact.
    LevelChange { quantity: level.quantity.saturating_mul(spec.lot_size.into()), ..level }
}

/// A side as it is written: `[price, quantity, orders]` each.
type Rows = Vec<(String, String, u32)>;

fn rows(levels: &[LevelChange]) -> Rows {
    let row = |it: &LevelChange| (it.price.0.to_string(), it.quantity.to_string(), it.orders);
    levels.iter().map(row).collect()
}

#[derive(Serialize)]
struct BookBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    market: &'a str,
    seq: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_seq: Option<String>,
    bids: Rows,
    asks: Rows,
    checksum: u32,
}

#[derive(Serialize)]
struct SubscribedBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    channel: &'static str,
    market: &'a str,
    seq: String,
}

#[derive(Serialize)]
struct TradesBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    market: &'a str,
    seq: String,
    previous_seq: String,
    time: String,
    /// Which way the order went that came.
    side: &'static str,
    trades: Vec<TradeBody>,
}

#[derive(Serialize)]
struct TradeBody {
    price: String,
    quantity: Amount,
}

/// Levels that are to be told, and what makes them a message.
struct Told {
    kind: &'static str,
    seq: CommitSeq,
    previous: Option<CommitSeq>,
    sides: Sides,
    checksum: u32,
}

/// What one client follows of one market.
pub(super) struct Subscription {
    channel: Channel,
    followed: Followed,
    /// The seq of what it was told last.
    at: CommitSeq,
    /// The levels that it has, if only some are followed.
    has: Sides,
}

impl Subscription {
    /// Begins, with the first that is to be said: a snapshot, or from where on trades are told.
    ///
    /// # Errors
    /// The book has more levels than a snapshot; the engine has stopped.
    pub(super) async fn begin(
        app: &App,
        channel: Channel,
        followed: Followed,
    ) -> Result<(Self, String), Problem> {
        let at = followed.feed().look(Tape::seq)?;
        let mut this = Self { channel, followed, at, has: Sides::default() };
        let text = match channel {
            Channel::Book { depth } => {
                let told = this.snapshot(depth)?;
                this.written(told, app).await?
            }
            Channel::Trades => {
                let market = &*this.followed.feed().spec().name;
                let body = SubscribedBody {
                    kind: "subscribed",
                    channel: channel.name(),
                    market,
                    seq: at.to_string(),
                };
                serde_json::to_string(&body).expect("plain members always serialize")
            }
        };
        Ok((this, text))
    }

    /// Whether it is that channel of that market, however deep.
    pub(super) fn is(&self, channel: Channel, market: &str) -> bool {
        self.channel.name() == channel.name() && *self.followed.feed().spec().name == *market
    }

    /// What is to be said of what is new, and whether that is all.
    ///
    /// # Errors
    /// Why the connection ends.
    pub(super) async fn news(&mut self, app: &App) -> Result<(Vec<String>, bool), Cut> {
        let told = match self.channel {
            Channel::Trades => return self.trades(),
            Channel::Book { depth: None } => self.changes()?,
            Channel::Book { depth: Some(depth) } => self.best(depth)?,
        };
        let Some(told) = told else { return Ok((Vec::new(), true)) };
        let failed = |problem: Problem| Cut::Failed(Error::Storage(problem.code().into()));
        let text = self.written(told, app).await.map_err(failed)?;
        Ok((vec![text], true))
    }

    fn snapshot(&mut self, depth: Option<usize>) -> Result<Told, Error> {
        let feed = self.followed.feed();
        let max = STREAM_SNAPSHOT_LEVELS_MAX;
        let (seq, sides) = feed.look(|tape| {
            let levels = tape.levels().len(Side::Buy) + tape.levels().len(Side::Sell);
            if depth.is_none() && levels > max {
                let limit = "STREAM_SNAPSHOT_LEVELS_MAX (give a depth)";
                return Err(Error::Overloaded { limit, max: max as u64 });
            }
            let sides = Sides::best(tape, depth.unwrap_or(usize::MAX), feed.spec());
            Ok((tape.seq(), sides))
        })??;
        self.at = seq;
        if depth.is_some() {
            self.has = sides.clone();
        }
        let checksum = sides.checksum();
        Ok(Told { kind: "snapshot", seq, previous: None, sides, checksum })
    }

    /// All levels that changed.
    fn changes(&mut self) -> Result<Option<Told>, Cut> {
        let (feed, after) = (self.followed.feed(), self.at);
        let (seq, changes, checksum) = feed.look(|tape| {
            let best = Sides::best(tape, levels::CHECKSUM_LEVELS, feed.spec());
            (tape.seq(), tape.changes(after), best.checksum())
        })?;
        match changes {
            Ok(changes) if changes.is_empty() => Ok(None),
            Ok(changes) => {
                self.at = seq;
                let sides = Sides::split(changes, self.followed.feed().spec());
                Ok(Some(Told { kind: "update", seq, previous: Some(after), sides, checksum }))
            }
            // Too much has changed meanwhile: it begins anew.
            Err(Missed) => Ok(Some(self.snapshot(None)?)),
        }
    }

    /// What changed among the best levels.
    fn best(&mut self, depth: usize) -> Result<Option<Told>, Cut> {
        let (feed, after) = (self.followed.feed(), self.at);
        let (seq, now) = feed.look(|tape| (tape.seq(), Sides::best(tape, depth, feed.spec())))?;
        let sides = self.has.difference(&now);
        if sides.len() == 0 {
            return Ok(None);
        }
        let checksum = now.checksum();
        (self.at, self.has) = (seq, now);
        Ok(Some(Told { kind: "update", seq, previous: Some(after), sides, checksum }))
    }

    fn trades(&mut self) -> Result<(Vec<String>, bool), Cut> {
        let feed = self.followed.feed();
        let spec = feed.spec();
        let prints = feed.look(|tape| tape.prints(self.at, PRINTS_AT_ONCE))?;
        let prints = prints.map_err(|Missed| Cut::MissedTrades(spec.name.clone()))?;
        let mut at = self.at;
        let texts = prints.iter().map(|print| {
            let body = TradesBody::new(print, at, spec);
            at = print.seq;
            serde_json::to_string(&body).expect("plain members always serialize")
        });
        let texts: Vec<String> = texts.collect();
        let is_all = prints.len() < PRINTS_AT_ONCE;
        self.at = at;
        Ok((texts, is_all))
    }

    /// As a message.
    async fn written(&self, told: Told, app: &App) -> Result<String, Problem> {
        let market = self.followed.feed().spec().name.clone();
        let is_small = told.sides.len() <= LEVELS_INLINE;
        let write = move || {
            let Told { kind, seq, previous, sides, checksum } = told;
            let body = BookBody {
                kind,
                market: &market,
                seq: seq.to_string(),
                previous_seq: previous.map(|seq| seq.to_string()),
                bids: rows(&sides.bids),
                asks: rows(&sides.asks),
                checksum,
            };
            serde_json::to_string(&body).expect("plain members always serialize")
        };
        if is_small { Ok(write()) } else { app.streams().turn(write).await }
    }
}

impl<'a> TradesBody<'a> {
    fn new(print: &Print, previous: CommitSeq, spec: &'a MarketSpec) -> Self {
        let trade = |(price, lots): &(Price, Lots)| TradeBody {
            price: price.0.to_string(),
            quantity: units(spec, *lots),
        };
        Self {
            kind: "trades",
            market: &spec.name,
            seq: print.seq.to_string(),
            previous_seq: previous.to_string(),
            time: rfc_3339(print.time),
            side: word(&SIDES, &print.side),
            trades: print.fills.iter().map(trade).collect(),
        }
    }
}
