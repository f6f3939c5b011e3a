//! Answers on their way, and answers there: receipts are read from the journal block only when
//! somebody looks.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::access::Caller;
use crate::actor::Poison;
use crate::directory::Directory;
use crate::error::{Error, Malformed, Reject};
use crate::message::{Answer, Answered, Proof, Repeated, Shown};
use crate::request::{Outcome, Refusal};
use crate::store::reader::Reader;
use crate::types::{CommitSeq, RequestId, Time};

use super::rights::may_see;

/// A request that breaks a rule of form: answered by the door, known to nobody behind it.
#[derive(Debug)]
pub(super) struct Early {
    /// Index in the submission.
    pub(super) index: usize,
    /// The request.
    pub(super) id: RequestId,
    /// What it breaks.
    pub(super) malformed: Malformed,
}

/// Answers on their way. Wait for them with [`Pending::wait`] on a thread or [`Pending::answers`] in a task.
pub struct Pending {
    /// `None` when every request was malformed.
    pub(super) reply: Option<oneshot::Receiver<Answered>>,
    pub(super) early: Vec<Early>,
    pub(super) poison: Poison,
    pub(super) reader: Arc<Reader>,
    pub(super) directory: Arc<Directory>,
}

impl Pending {
    /// Waits on this thread. Never call it on a tokio worker.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the engine stopped first: ask again by request id after a restart.
    pub fn wait(self) -> Result<Answers, Error> {
        let Self { reply, early, poison, reader, directory } = self;
        let answered = match reply {
            Some(reply) => Some(pollster::block_on(poison.or_stopped(reply))?),
            None => None,
        };
        Answers::resolve(answered, early, (&reader, &directory))
    }

    /// The answers if they are there, without waiting; else gives itself back. Repeated requests are
    /// looked up on this thread.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    pub fn try_wait(self) -> Result<Result<Answers, Error>, Self> {
        let Self { reply, early, poison, reader, directory } = self;
        let answered = match reply {
            None => None,
            Some(mut reply) => match reply.try_recv() {
                Ok(answered) => Some(answered),
                Err(TryRecvError::Empty) if !poison.is_tripped() => {
                    return Err(Self { reply: Some(reply), early, poison, reader, directory });
                }
                Err(_) => return Ok(Err(poison.stopped())),
            },
        };
        Ok(Answers::resolve(answered, early, (&reader, &directory)))
    }

    /// Waits in a task. Repeated requests are looked up on tokio's blocking threads.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    pub async fn answers(self) -> Result<Answers, Error> {
        let Self { reply, early, poison, reader, directory } = self;
        let answered = match reply {
            Some(reply) => Some(poison.or_stopped(reply).await?),
            None => None,
        };
        let repeated = |answer: &Answer| matches!(answer, Answer::Duplicate(_) | Answer::Done(_));
        if !answered.iter().any(|answered| answered.answers.iter().any(repeated)) {
            return Answers::resolve(answered, early, (&reader, &directory));
        }
        tokio::task::spawn_blocking(move || {
            Answers::resolve(answered, early, (&reader, &directory))
        })
        .await
        .map_err(|_| poison.stopped())?
    }
}

/// Answers to one submission, in the order of its requests.
pub struct Answers {
    answers: Vec<Resolved>,
    proofs: SmallVec<[Arc<dyn Proof>; 1]>,
}

/// An answer that needs no disk any more.
enum Resolved {
    Settled(CommitSeq),
    Rejected(Box<Refusal>),
    /// A repeated request, or one for what was done already: the first outcome.
    First(Box<Outcome>),
}

/// An answer without its receipt: cheap to look at, one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brief<'a> {
    /// It settled under this seq.
    Settled(CommitSeq),
    /// It was refused.
    Rejected(&'a Reject),
}

impl Answers {
    fn resolve(
        answered: Option<Answered>,
        early: Vec<Early>,
        (reader, directory): (&Reader, &Directory),
    ) -> Result<Self, Error> {
        let (found, proofs) =
            answered.map_or_else(Default::default, |answered| (answered.answers, answered.proofs));
        let mut answers = Vec::with_capacity(found.len() + early.len());
        for answer in found {
            answers.push(match answer {
                Answer::Settled(seq) => Resolved::Settled(seq),
                Answer::Rejected(refusal) => Resolved::Rejected(refusal),
                Answer::Duplicate(repeated) => first_outcome(*repeated, reader, directory)?,
                Answer::Done(seq) => done_before(seq, reader)?,
            });
        }
        // Ascending, so each lands where it stood among all requests.
        for Early { index, id, malformed } in early {
            let reject = Reject::Malformed(malformed);
            answers.insert(index, Resolved::Rejected(Box::new(not_taken(id, reject))));
        }
        Ok(Self { answers, proofs })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// The `index`-th answer without its receipt.
    pub fn brief(&self, index: usize) -> Brief<'_> {
        match &self.answers[index] {
            Resolved::Settled(seq) => Brief::Settled(*seq),
            Resolved::Rejected(refusal) => Brief::Rejected(&refusal.reject),
            Resolved::First(first) => match &**first {
                Outcome::Settled(receipt) => Brief::Settled(receipt.commit_seq),
                Outcome::Rejected(refusal) => Brief::Rejected(&refusal.reject),
            },
        }
    }

    /// The `index`-th answer in full: the receipt is read from the journal block in memory.
    pub fn outcome(&self, index: usize) -> Outcome {
        match &self.answers[index] {
            Resolved::Settled(seq) => {
                let receipt = self.proofs.iter().find_map(|proof| proof.receipt(*seq));
                Outcome::Settled(receipt.expect("what settled is in a block that came along"))
            }
            Resolved::Rejected(refusal) => Outcome::Rejected((**refusal).clone()),
            Resolved::First(first) => (**first).clone(),
        }
    }
}

/// A refusal that is not in the journal: it says nothing about any state.
fn not_taken(request_id: RequestId, reject: Reject) -> Refusal {
    let (seq, time) = (CommitSeq::default(), Time::default());
    Refusal { request_id, seq, time, caller: Caller::Trusted, reject }
}

fn first_outcome(
    repeated: Repeated,
    reader: &Reader,
    directory: &Directory,
) -> Result<Resolved, Error> {
    let answer = |reject| Ok(Resolved::Rejected(Box::new(not_taken(repeated.id, reject))));
    let forbidden = Reject::Forbidden { account: None };
    if repeated.shown == Shown::No {
        return answer(forbidden);
    }
    let Some((first, digest)) = reader.outcome(repeated.id)? else {
        let id = repeated.id;
        return Err(Error::Storage(format!("the journal has lost the outcome of request {id}")));
    };
    if digest != repeated.digest {
        return answer(Reject::RequestIdReused);
    }
    match repeated.shown {
        Shown::IfOf(key) if !may_see(key, &first, reader, directory)? => answer(forbidden),
        _ => Ok(Resolved::First(Box::new(first))),
    }
}

fn done_before(seq: CommitSeq, reader: &Reader) -> Result<Resolved, Error> {
    match reader.receipt_at(seq)? {
        Some(receipt) => Ok(Resolved::First(Box::new(Outcome::Settled(receipt)))),
        None => Err(Error::Storage(format!("the journal has lost the commit of seq {seq}"))),
    }
}
