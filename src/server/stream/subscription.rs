//! What one client follows of one market, and what it is told of it.

use std::sync::Arc;

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
pub(in crate::server) enum Channel {
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
    pub(in crate::server) const fn name(self) -> &'static str {
        match self {
            Self::Book { .. } => "book",
            Self::Trades => "trades",
        }
    }
}

/// Why a connection ends.
#[derive(Debug)]
pub(in crate::server) enum Cut {
    /// The client has gone.
    Gone,
    /// It takes nothing.
    Slow,
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
pub(in crate::server) struct Sides {
    pub(in crate::server) bids: Vec<LevelChange>,
    pub(in crate::server) asks: Vec<LevelChange>,
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

/// Something that a client is told; in which words is its face's business.
pub(in crate::server) enum Said {
    /// A whole book, its best levels, or what changed.
    Book {
        /// The market's name.
        market: Box<str>,
        /// What is in it.
        book: Book,
    },
    /// From where on something is told.
    Subscribed {
        /// What of the market.
        channel: Channel,
        /// The market's name.
        market: Box<str>,
        /// After that seq.
        seq: CommitSeq,
    },
    /// Trades of one commit.
    Trades {
        /// What the market is.
        spec: Arc<MarketSpec>,
        /// What was traded.
        print: Print,
        /// The seq of the trades before.
        previous: CommitSeq,
    },
}

/// Levels, and what makes them a message.
pub(in crate::server) struct Book {
    /// As of which.
    pub(in crate::server) seq: CommitSeq,
    /// What it follows on, of what changed; none of a snapshot.
    pub(in crate::server) previous: Option<CommitSeq>,
    /// The levels.
    pub(in crate::server) sides: Sides,
    /// Of the best levels afterwards.
    pub(in crate::server) checksum: u32,
}

impl Said {
    /// As a message in JSON; a long one is written on a thread that may be blocked.
    ///
    /// # Errors
    /// `storage` when that panicked.
    pub(super) async fn json(self, app: &App) -> Result<String, Problem> {
        app.streams()
            .said(self, |said| match said {
                Self::Book { market, book } => book.json(&market),
                Self::Subscribed { channel, market, seq } => {
                    let (channel, seq) = (channel.name(), seq.to_string());
                    let body = SubscribedBody { kind: "subscribed", channel, market: &market, seq };
                    serde_json::to_string(&body).expect("plain members always serialize")
                }
                Self::Trades { spec, print, previous } => {
                    let body = TradesBody::new(&print, previous, &spec);
                    serde_json::to_string(&body).expect("plain members always serialize")
                }
            })
            .await
    }

    /// Whether it can be written on the spot.
    pub(in crate::server) fn is_short(&self) -> bool {
        match self {
            Self::Book { book, .. } => book.sides.len() <= LEVELS_INLINE,
            Self::Subscribed { .. } | Self::Trades { .. } => true,
        }
    }
}

impl Book {
    fn json(self, market: &str) -> String {
        let Self { seq, previous, sides, checksum } = self;
        let body = BookBody {
            kind: if previous.is_some() { "update" } else { "snapshot" },
            market,
            seq: seq.to_string(),
            previous_seq: previous.map(|seq| seq.to_string()),
            bids: rows(&sides.bids),
            asks: rows(&sides.asks),
            checksum,
        };
        serde_json::to_string(&body).expect("plain members always serialize")
    }
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
    pub(super) fn begin(channel: Channel, followed: Followed) -> Result<(Self, Said), Problem> {
        let at = followed.feed().look(Tape::seq)?;
        let mut this = Self { channel, followed, at, has: Sides::default() };
        let said = match channel {
            Channel::Book { depth } => {
                let book = this.snapshot(depth)?;
                this.said(book)
            }
            Channel::Trades => Said::Subscribed { channel, market: this.market(), seq: at },
        };
        Ok((this, said))
    }

    fn market(&self) -> Box<str> {
        self.followed.feed().spec().name.clone()
    }

    fn said(&self, book: Book) -> Said {
        Said::Book { market: self.market(), book }
    }

    /// Whether it is that channel of that market, however deep.
    pub(super) fn is(&self, channel: Channel, market: &str) -> bool {
        self.channel.name() == channel.name() && *self.followed.feed().spec().name == *market
    }

    /// What is to be said of what is new, and whether that is all.
    ///
    /// # Errors
    /// Why the connection ends.
    pub(super) fn news(&mut self) -> Result<(Vec<Said>, bool), Cut> {
        let book = match self.channel {
            Channel::Trades => return self.trades(),
            Channel::Book { depth: None } => self.changes()?,
            Channel::Book { depth: Some(depth) } => self.best(depth)?,
        };
        Ok((book.map(|book| self.said(book)).into_iter().collect(), true))
    }

    fn snapshot(&mut self, depth: Option<usize>) -> Result<Book, Error> {
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
        Ok(Book { seq, previous: None, sides, checksum })
    }

    /// All levels that changed.
    fn changes(&mut self) -> Result<Option<Book>, Cut> {
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
                Ok(Some(Book { seq, previous: Some(after), sides, checksum }))
            }
            // Too much has changed meanwhile: it begins anew.
            Err(Missed) => Ok(Some(self.snapshot(None)?)),
        }
    }

    /// What changed among the best levels.
    fn best(&mut self, depth: usize) -> Result<Option<Book>, Cut> {
        let (feed, after) = (self.followed.feed(), self.at);
        let (seq, now) = feed.look(|tape| (tape.seq(), Sides::best(tape, depth, feed.spec())))?;
        let sides = self.has.difference(&now);
        if sides.len() == 0 {
            return Ok(None);
        }
        let checksum = now.checksum();
        (self.at, self.has) = (seq, now);
        Ok(Some(Book { seq, previous: Some(after), sides, checksum }))
    }

    fn trades(&mut self) -> Result<(Vec<Said>, bool), Cut> {
        let feed = self.followed.feed();
        let prints = feed.look(|tape| tape.prints(self.at, PRINTS_AT_ONCE))?;
        let prints = prints.map_err(|Missed| Cut::MissedTrades(self.market()))?;
        let is_all = prints.len() < PRINTS_AT_ONCE;
        let (mut at, spec) = (self.at, Arc::clone(feed.shared_spec()));
        let said = prints.into_iter().map(|print| {
            let previous = std::mem::replace(&mut at, print.seq);
            Said::Trades { spec: Arc::clone(&spec), print, previous }
        });
        let said: Vec<Said> = said.collect();
        self.at = at;
        Ok((said, is_all))
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
