//! The stream `Submit`: batches come, results go, in the same order.
//!
//! ```text
//! stream ─► decode ─► room? ─► read ─► engine ─┐
//!    ▲                                         ▼
//!    └─ not read while so many batches    in flight, in their order ─► answers ─► result ─► stream
//!       are in flight
//! ```
//!
//! A client that does not read its results fills what is in flight, is not read any more, and at last
//! waits for HTTP/2's window: it slows itself down and nobody else. What the engine has no room for is
//! answered `overloaded`, before it costs anything. A stop takes no further batch, answers what is in
//! flight, and ends the stream.

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::config::{BATCH_REQUESTS_MAX, GRPC_BATCHES_IN_FLIGHT_MAX};
use crate::engine::{Answers, Brief, Pending};
use crate::error::{Error, Malformed};
use crate::proto;
use crate::proto::answer::Outcome as Shown;
use crate::proto::request::Command as Asks;
use crate::request::{Outcome, Request};
use crate::server::door::InFlight as Charged;
use crate::server::names::Names;
use crate::server::problem::Problem;
use crate::server::state::App;
use crate::types::RequestId;

use super::problem;
use super::read::{Reader, id_of};
use super::receipt::{in_message, settled};

/// Up to so many receipts are written on the spot; more, on a thread that may compute for long.
const INLINE_RECEIPTS_MAX: usize = 64;

/// The results of a stream.
pub(super) type Results = ReceiverStream<Result<proto::BatchResult, Status>>;

/// Answers the batches of a stream.
pub(super) fn answer(
    app: App,
    batches: Streaming<proto::Batch>,
    stopping: watch::Receiver<bool>,
) -> Results {
    let (taken, in_flight) = mpsc::channel(GRPC_BATCHES_IN_FLIGHT_MAX);
    let (told, results) = mpsc::channel(1);
    tokio::spawn(take(app.clone(), batches, stopping, taken));
    tokio::spawn(tell(app, in_flight, told));
    ReceiverStream::new(results)
}

/// What came of reading the stream.
enum Taken {
    Batch(Box<InFlight>),
    /// Nothing more is read.
    End(Status),
}

/// A batch that was handed to the engine, or refused as a whole.
struct InFlight {
    batch: proto::Batch,
    /// The places of those that never reached the engine, ascending.
    unread: Vec<(usize, Problem)>,
    pending: Result<Pending, Problem>,
    /// Counts as in flight of its key until it is answered.
    _charged: Option<Charged>,
}

/// Takes batches until the stream ends, the server stops, or nobody waits for results any more.
async fn take(
    app: App,
    mut batches: Streaming<proto::Batch>,
    mut stopping: watch::Receiver<bool>,
    taken: mpsc::Sender<Taken>,
) {
    loop {
        // First a place for the next one: until there is, it is not even read.
        let Ok(place) = taken.reserve().await else { return };
        let next = tokio::select! {
            biased;
            // A sender that is gone is as good a sign.
            _ = stopping.wait_for(|stopping| *stopping) => {
                let why = "the server is stopping; what was not answered was not taken";
                return place.send(Taken::End(Status::unavailable(why)));
            }
            next = batches.message() => next,
        };
        let batch = match next {
            Ok(Some(batch)) => batch,
            Ok(None) => return,
            Err(broken) => return place.send(Taken::End(problem::of_reading(broken))),
        };
        let found = batch.requests.len();
        if found > BATCH_REQUESTS_MAX {
            let why = format!("has {found} requests; a batch has at most {BATCH_REQUESTS_MAX}");
            let end = Taken::End(problem::status(&Malformed::new("requests", why).into()));
            return place.send(end);
        }
        // The key may have been revoked since the stream began.
        if let Err(refused) = app.still() {
            return place.send(Taken::End(problem::status(&refused)));
        }
        place.send(Taken::Batch(Box::new(hand_over(batch, &app))));
    }
}

/// Takes room before it looks into the requests: refusing must be cheap.
fn hand_over(batch: proto::Batch, app: &App) -> InFlight {
    let mut unread = Vec::new();
    let (charged, pending) = match app.charge(batch.requests.len()) {
        Ok(charged) => (charged, submit(&batch, &mut unread, app).map_err(Problem::from)),
        Err(refused) => (None, Err(refused)),
    };
    InFlight { batch, unread, pending, _charged: charged }
}

fn submit(
    batch: &proto::Batch,
    unread: &mut Vec<(usize, Problem)>,
    app: &App,
) -> Result<Pending, Error> {
    app.engine().reserve(batch.requests.len()).and_then(|room| {
        let mut reader = Reader::new(app);
        let mut requests: Vec<Request> = Vec::with_capacity(batch.requests.len());
        for (place, request) in batch.requests.iter().enumerate() {
            match read(request, &mut reader, &mut Names::default()) {
                Ok(request) => requests.push(request),
                Err(problem) => unread.push((place, problem)),
            }
        }
        app.engine().submit_in(room, requests)
    })
}

fn read<'a>(
    request: &'a proto::Request,
    reader: &mut Reader<'a>,
    names: &mut Names,
) -> Result<Request, Problem> {
    let nothing = || Problem::malformed("command", "is missing");
    reader.request(request.command.as_ref().ok_or_else(nothing)?, names)
}

/// Sends results in the order of the batches, until there are no more or nobody reads them.
async fn tell(
    app: App,
    mut in_flight: mpsc::Receiver<Taken>,
    told: mpsc::Sender<Result<proto::BatchResult, Status>>,
) {
    while let Some(taken) = in_flight.recv().await {
        let result = match taken {
            Taken::Batch(batch) => result(*batch, &app).await,
            Taken::End(status) => Err(status),
        };
        if told.send(result).await.is_err() {
            return;
        }
    }
}

/// Waits for the answers.
async fn result(in_flight: InFlight, app: &App) -> Result<proto::BatchResult, Status> {
    let InFlight { batch, unread, pending, _charged } = in_flight;
    let answers = match pending {
        Ok(pending) => pending.answers().await.map_err(Problem::from),
        Err(refused) => Err(refused),
    };
    let answers = match answers {
        Ok(answers) => answers,
        Err(refused) => return Ok(no_answers(&batch, &refused)),
    };
    let work = Answered { batch, unread, answers };
    let brief = work.batch.detail() == proto::Detail::Brief;
    if !work.looks_back() && (brief || work.batch.requests.len() <= INLINE_RECEIPTS_MAX) {
        return Ok(work.shown(app));
    }
    let writer = app.clone();
    app.writing(move || work.shown(&writer)).await.map_err(|failed| problem::status(&failed))
}

/// Every request of the batch ends the same way.
fn no_answers(batch: &proto::Batch, problem: &Problem) -> proto::BatchResult {
    let mut result = proto::BatchResult { number: batch.number, ..Default::default() };
    if batch.detail() == proto::Detail::Brief {
        let places = 0..batch.requests.len() as u32;
        let refusal = |place| proto::BriefRefusal { place, code: problem.code().into() };
        let commit_seqs = vec![0; batch.requests.len()];
        result.briefs =
            Some(proto::Briefs { commit_seqs, refusals: places.map(refusal).collect() });
    } else {
        let of = |request: &proto::Request| {
            let id = request.command.as_ref().and_then(|asks| proto::id_of(id_of(asks)).ok());
            let problem = problem.clone();
            refused(id.map_or(problem.clone(), |id| problem.of(id)))
        };
        result.results = batch.requests.iter().map(of).collect();
    }
    result
}

fn refused(problem: Problem) -> proto::Answer {
    proto::Answer { outcome: Some(Shown::Problem(problem::shown(&problem))) }
}

/// A batch with its answers.
struct Answered {
    batch: proto::Batch,
    unread: Vec<(usize, Problem)>,
    answers: Answers,
}

impl Answered {
    /// Whether an answer has to be looked up on disk: of an id that was used before.
    fn looks_back(&self) -> bool {
        (0..self.answers.len()).any(|index| is_reused(self.answers.brief(index)))
    }

    fn shown(self, app: &App) -> proto::BatchResult {
        let number = self.batch.number;
        if self.batch.detail() == proto::Detail::Brief {
            let briefs = Some(self.briefs(app));
            return proto::BatchResult { number, results: Vec::new(), briefs };
        }
        let answer = |(place, index): (usize, Result<usize, Problem>)| match index {
            Err(unread) => refused(unread),
            Ok(index) => self.full(place, index, app),
        };
        let results = self.places().map(answer).collect();
        proto::BatchResult { number, results, briefs: None }
    }

    /// Every place in the batch, with its place among the answers, or why it has none.
    fn places(&self) -> impl Iterator<Item = (usize, Result<usize, Problem>)> + '_ {
        let mut unread = self.unread.iter().peekable();
        let mut answered = 0..self.answers.len();
        (0..self.batch.requests.len()).map(move |place| {
            if let Some((_, problem)) = unread.next_if(|(at, _)| *at == place) {
                return (place, Err(problem.clone()));
            }
            (place, Ok(answered.next().expect("the engine answers every request")))
        })
    }

    fn full(&self, place: usize, index: usize, app: &App) -> proto::Answer {
        match self.outcome(place, index, app) {
            Ok(receipt) => proto::Answer { outcome: Some(Shown::Settled(receipt)) },
            Err(problem) => refused(problem),
        }
    }

    fn outcome(&self, place: usize, index: usize, app: &App) -> Result<proto::Receipt, Problem> {
        let directory = app.engine().directory();
        match self.answers.outcome(index) {
            settled @ Outcome::Settled(_) => self::settled(settled, &Names::default(), directory),
            rejected => self.rejected(place, rejected, app),
        }
    }

    /// A refusal in the words of its request, which is read once more: few are refused.
    fn rejected(
        &self,
        place: usize,
        rejected: Outcome,
        app: &App,
    ) -> Result<proto::Receipt, Problem> {
        let directory = app.engine().directory();
        let Some(asks) = &self.batch.requests[place].command else {
            return settled(rejected, &Names::default(), directory);
        };
        let (rejected, names) = in_words(asks, rejected, app);
        settled(rejected, &names, directory).map_err(|problem| in_message(problem, asks))
    }

    fn briefs(&self, app: &App) -> proto::Briefs {
        let mut briefs = proto::Briefs::default();
        briefs.commit_seqs.reserve(self.batch.requests.len());
        for (place, index) in self.places() {
            let code = match index {
                Err(unread) => unread.code(),
                Ok(index) => match self.answers.brief(index) {
                    Brief::Settled(seq) => {
                        briefs.commit_seqs.push(seq.get());
                        continue;
                    }
                    reused if is_reused(reused) => match self.outcome(place, index, app) {
                        Err(problem) => problem.code(),
                        Ok(_) => unreachable!("a refusal stays one"),
                    },
                    Brief::Rejected(reject) => reject.code(),
                },
            };
            briefs.commit_seqs.push(0);
            briefs.refusals.push(proto::BriefRefusal { place: place as u32, code: code.into() });
        }
        briefs
    }
}

fn is_reused(brief: Brief<'_>) -> bool {
    matches!(brief, Brief::Rejected(reject) if *reject == crate::error::Reject::RequestIdReused)
}

/// A refusal with the names that its request had for what it is about. Reads the disk if the id was
/// used before.
fn in_words(asks: &Asks, rejected: Outcome, app: &App) -> (Outcome, Names) {
    let mut names = Names::default();
    let mut id = RequestId::default();
    if let Ok(request) = Reader::new(app).request(asks, &mut names) {
        id = request.id;
        names.keep(&request.command);
    }
    match app.refused_before(id, &rejected, &names) {
        Some(first) => first,
        None => (rejected, names),
    }
}
