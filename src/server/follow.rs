//! Following what happens, whatever it is told in: server-sent events (`events`) or messages of gRPC
//! (`grpc::events`).
//!
//! ```text
//! Events ─► turn (bounded, on a blocking thread) ─► pieces ─► one is waited for ─► client
//!   ▲                                                                               │
//!   └────────────── the next turn, when all pieces are taken ◄─────────────────────┘
//! ```
//!
//! The client sets the pace: a turn is read when there is room for what comes of it, so who reads slowly
//! has its own past read later, and nothing else happens. Who takes nothing for [`STREAM_STALL_MS_MAX`] is
//! cut, and one that comes back goes on after the last seq that it has seen.
//!
//! A key that is bound to accounts is told what touched these, and what it asked for itself; of the rest
//! it hears how far the stream has come. A key that is revoked meanwhile hears that, and no more.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::config::{
    STREAM_KEEP_ALIVE_MS, STREAM_PROGRESS_EVENTS, STREAM_STALL_MS_MAX, STREAM_TURN_BYTES_MAX,
    STREAM_TURN_EVENTS_MAX,
};
use crate::directory::Directory;
use crate::engine::{Event, Events};
use crate::error::Error;
use crate::request::Command;
use crate::types::{AccountId, CommitSeq, MarketId};

use super::problem::Problem;
use super::sight;
use super::state::App;
use super::streams::Slot;

/// How events are told.
pub(super) trait Wording: Send + 'static {
    /// What goes out in one go.
    type Piece: Send + 'static;

    /// Some events, at least one, in their order.
    fn events(events: Vec<Event>, directory: &Directory) -> Vec<Self::Piece>;

    /// How far the stream has come.
    fn place(place: Place, seq: CommitSeq) -> Self::Piece;

    /// The last that is said when something is wrong.
    fn failed(problem: &Problem) -> Self::Piece;

    /// The last that is said when the server stops, if anything is.
    fn stopped() -> Option<Self::Piece>;
}

/// Why a stream says how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It left much out.
    Progress,
    /// There has been nothing to say for a while.
    Quiet,
    /// That was all that was asked for.
    End,
}

/// Which events a client wants.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    account: Option<AccountId>,
    market: Option<(MarketId, String)>,
    kind: Option<&'static str>,
}

/// A kind of command by its name.
///
/// # Errors
/// There is none of that name; which there are.
pub(super) fn kind_from(text: &str) -> Result<&'static str, String> {
    let known = Command::KINDS.into_iter().find(|kind| *kind == text);
    known.ok_or_else(|| format!("is none of {}", Command::KINDS.join(", ")))
}

impl Filter {
    /// Only what has to do with all of these that are given, as far as the visitor may ask for it.
    ///
    /// # Errors
    /// `unknown_market`; `forbidden`.
    pub(super) fn new(
        app: &App,
        account: Option<AccountId>,
        market: Option<String>,
        kind: Option<&'static str>,
    ) -> Result<Self, Problem> {
        let directory = app.engine().directory();
        let market = market.map(|name| match directory.market_by_name(&name) {
            Some(market) => Ok((market, name)),
            None => Err(Problem::unknown_market(&name)),
        });
        let market = market.transpose()?;
        account.map_or(Ok(()), |account| sight::check(app.visitor(), account))?;
        Ok(Self { account, market, kind })
    }

    fn is_of_all(&self) -> bool {
        self.account.is_none() && self.market.is_none() && self.kind.is_none()
    }

    fn wants(&self, event: &Event) -> bool {
        let of_market = |(market, name): &(MarketId, String)| match &event.receipt.command {
            Command::PutMarket(spec) => *spec.name == **name,
            _ => event.market() == Some(*market),
        };
        self.kind.is_none_or(|kind| kind == event.kind())
            && self.account.is_none_or(|account| event.accounts().contains(&account))
            && self.market.as_ref().is_none_or(of_market)
    }
}

/// Follows what happens after a seq, or, unless it goes on, up to what is durable now. What is received
/// are its pieces.
///
/// # Errors
/// What cannot be told at all: `overloaded`, a seq that has not happened, or is not kept any more.
pub(super) async fn follow<W: Wording>(
    app: App,
    after: CommitSeq,
    filter: Filter,
    goes_on: bool,
) -> Result<mpsc::Receiver<W::Piece>, Problem> {
    let slot = app.streams().open_events()?;
    let events = Some(app.engine().events(after)?);
    let until = (!goes_on).then(|| app.engine().status().durable_seq);
    let mut follower = Follower::<W> {
        app,
        events,
        filter,
        until,
        told: after,
        ready: VecDeque::new(),
        is_at_end: false,
        is_over: false,
        slot,
        wording: PhantomData,
    };
    follower.turn().await?;
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(follower.run(sender));
    Ok(pieces)
}

/// One client's stream.
struct Follower<W: Wording> {
    app: App,
    /// Away while a turn lasts.
    events: Option<Events>,
    filter: Filter,
    /// Where it ends.
    until: Option<CommitSeq>,
    /// The last seq that the client was told, or is about to be.
    told: CommitSeq,
    /// What of the last turn is not taken yet.
    ready: VecDeque<W::Piece>,
    /// Whether the last turn reached what was durable.
    is_at_end: bool,
    /// Whether it has said that it ends.
    is_over: bool,
    slot: Slot,
    wording: PhantomData<W>,
}

/// What a stream says next.
enum Next<P> {
    Say(P),
    /// The last thing that it says.
    Last(P),
    End,
}

impl<W: Wording> Follower<W> {
    /// Speaks until the client is gone, the server stops, or nothing more can come.
    async fn run(mut self, sender: mpsc::Sender<W::Piece>) {
        let patience = Duration::from_millis(STREAM_STALL_MS_MAX);
        loop {
            let room = tokio::select! {
                room = timeout(patience, sender.reserve()) => room,
                () = self.app.stopping() => return,
            };
            let room = match room {
                Ok(Ok(room)) => room,
                Ok(Err(_gone)) => return,
                Err(_stalled) => return self.slot.metrics.dropped(),
            };
            let next = tokio::select! {
                next = self.next() => next,
                () = sender.closed() => return,
            };
            let (piece, is_last) = match next {
                Next::Say(piece) => (piece, false),
                Next::Last(piece) => (piece, true),
                Next::End => return,
            };
            self.slot.metrics.sent(1);
            room.send(piece);
            if is_last {
                return;
            }
        }
    }

    /// Waits for something to say.
    async fn next(&mut self) -> Next<W::Piece> {
        loop {
            if self.is_over {
                return Next::End;
            }
            if self.app.is_stopping() {
                return self.stop();
            }
            if let Err(problem) = self.app.still() {
                return Next::Last(W::failed(&problem));
            }
            if let Some(piece) = self.ready.pop_front() {
                return Next::Say(piece);
            }
            if self.until.is_some_and(|until| self.seq() >= until) {
                self.is_over = true;
                return Next::Say(self.place(Place::End));
            }
            if self.seq().get() - self.told.get() >= STREAM_PROGRESS_EVENTS {
                return Next::Say(self.place(Place::Progress));
            }
            if self.is_at_end
                && let Some(next) = self.wait().await
            {
                return next;
            }
            if let Err(problem) = self.turn().await {
                return Next::Last(W::failed(&problem));
            }
        }
    }

    /// Waits for news; says so itself if none come.
    async fn wait(&mut self) -> Option<Next<W::Piece>> {
        let events = self.events.as_mut().expect("no turn lasts");
        let quiet = Duration::from_millis(STREAM_KEEP_ALIVE_MS);
        let news = async {
            tokio::select! {
                biased;
                news = events.news() => news.is_ok(),
                () = self.app.stopping() => false,
            }
        };
        match timeout(quiet, news).await {
            Ok(true) => None,
            Ok(false) => Some(self.stop()),
            Err(_) if self.seq() > self.told => Some(Next::Say(self.place(Place::Progress))),
            Err(_) => Some(Next::Say(self.place(Place::Quiet))),
        }
    }

    /// Engine or server have ended: of that it tells as a failure only if they were not asked to.
    fn stop(&self) -> Next<W::Piece> {
        match self.app.engine().stopped() {
            Some(cause) => Next::Last(W::failed(&Error::Stopped { cause }.into())),
            None => W::stopped().map_or(Next::End, Next::Last),
        }
    }

    /// How far the stream has come.
    fn seq(&self) -> CommitSeq {
        let read = self.events.as_ref().map_or(self.told, Events::seq);
        // What was read beyond the end is not told.
        self.until.map_or(read, |until| until.max(self.told).min(read))
    }

    /// Says how far it has come.
    fn place(&mut self, place: Place) -> W::Piece {
        self.told = self.seq();
        W::place(place, self.told)
    }

    /// Reads on, and writes what the client wants of it.
    async fn turn(&mut self) -> Result<(), Problem> {
        let mut events = self.events.take().expect("one turn at a time");
        let (app, filter, until) = (self.app.clone(), self.filter.clone(), self.until);
        let visitor = app.clone();
        let wants = move |event: &Event| {
            until.is_none_or(|until| event.seq() <= until)
                && filter.wants(event)
                && sight::sees_event(visitor.visitor(), event)
        };
        let work = move || {
            let found = events.take(STREAM_TURN_EVENTS_MAX, STREAM_TURN_BYTES_MAX);
            let turn = found.map(|found| {
                let is_at_end = events.seq() >= app.engine().status().durable_seq;
                let wanted: Vec<Event> = found.into_iter().filter(wants).collect();
                let Some(last) = wanted.last().map(Event::seq) else {
                    return (Vec::new(), None, is_at_end);
                };
                (W::events(wanted, app.engine().directory()), Some(last), is_at_end)
            });
            (events, turn)
        };
        let (events, turn) = self.app.streams().turn(work).await?;
        self.events = Some(events);
        let (pieces, last, is_at_end) = turn?;
        (self.ready, self.is_at_end) = (pieces.into(), is_at_end);
        self.told = last.unwrap_or(self.told);
        // Without a filter everything read is told, to who sees everything.
        let is_all = self.filter.is_of_all() && self.app.visitor().sees_all();
        assert!(!is_all || self.told == self.seq(), "an event was left out");
        Ok(())
    }
}
