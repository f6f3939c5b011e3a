//! One connection's worker: gathers requests into batches, and sends each until its outcome is known.
//!
//! ```text
//! submit ─► queue ─► batch: all that came while the last ones were on their way ─► stream ─► answers
//!                      ▲                                                                       │
//!                      └── again, under the same id: overloaded, stopped, connection lost ─────┘
//! ```
//!
//! There is no timer: a request that comes alone goes alone, at once. What goes again goes first, after
//! a pause that doubles up to a second, each by chance between half and all of it, so that many
//! clients do not come back together.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::future::pending;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::config::{CLIENT_BACKOFF_MS, CLIENT_BATCHES_IN_FLIGHT_MAX};
use crate::proto;
use crate::proto::answer::Outcome;

use super::access::Exchange;

/// A request on its way.
pub(super) struct Item {
    /// The same whenever it is sent.
    pub(super) request: proto::Request,
    /// Who waits. It may have lost patience.
    pub(super) reply: oneshot::Sender<Outcome>,
}

/// Sends what is queued, on one connection.
pub(super) struct Worker {
    client: Exchange,
    queue: mpsc::Receiver<Item>,
    batch_requests_max: usize,
    /// What goes again, oldest first.
    again: VecDeque<Item>,
    backoff: Backoff,
    batches_sent: u64,
}

/// How a stream ended.
enum Ended {
    /// Nobody can ask for anything any more, and all is answered.
    Done,
    /// The connection or the server is gone.
    Lost,
}

impl Worker {
    /// Sends on that connection what comes through the queue.
    pub(super) fn new(
        client: Exchange,
        queue: mpsc::Receiver<Item>,
        batch_requests_max: usize,
    ) -> Self {
        let (again, backoff) = (VecDeque::new(), Backoff::default());
        Self { client, queue, batch_requests_max, again, backoff, batches_sent: 0 }
    }

    /// Until nobody can ask any more.
    pub(super) async fn run(mut self) {
        loop {
            // Without anything to send there is no need of a stream.
            if self.again.is_empty() {
                match self.queue.recv().await {
                    Some(item) => self.again.push_back(item),
                    None => return,
                }
            }
            let (batches, outgoing) = mpsc::channel(CLIENT_BATCHES_IN_FLIGHT_MAX);
            let ended = match self.client.submit(ReceiverStream::new(outgoing)).await {
                Ok(results) => self.converse(batches, results.into_inner()).await,
                Err(_) => Ended::Lost,
            };
            if let Ended::Done = ended {
                return;
            }
            self.again.retain(|item| !item.reply.is_closed());
            self.backoff.pause().await;
        }
    }

    /// Sends batches and hands out answers, until the stream ends.
    async fn converse(
        &mut self,
        batches: mpsc::Sender<proto::Batch>,
        mut results: Streaming<proto::BatchResult>,
    ) -> Ended {
        let mut in_flight: VecDeque<Vec<Item>> = VecDeque::new();
        let mut pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
        let mut is_open = true;
        loop {
            let may_send = in_flight.len() < CLIENT_BATCHES_IN_FLIGHT_MAX && pause.is_none();
            let may_send = may_send && (is_open || !self.again.is_empty());
            if !is_open && in_flight.is_empty() && self.again.is_empty() {
                return Ended::Done;
            }
            tokio::select! {
                biased;
                result = results.message() => {
                    let Ok(Some(result)) = result else {
                        self.again.extend(in_flight.into_iter().flatten());
                        return Ended::Lost;
                    };
                    // No server of ours answers what was not asked.
                    let Some(items) = in_flight.pop_front() else { return Ended::Lost };
                    match self.answered(items, result) {
                        Answered::All => self.backoff = Backoff::default(),
                        Answered::SomeAgain => pause = Some(self.backoff.pause()),
                        Answered::Stopped => {
                            self.again.extend(in_flight.into_iter().flatten());
                            return Ended::Lost;
                        }
                    }
                }
                () = async { pause.as_mut().expect("it was looked at").await },
                    if pause.is_some() => pause = None,
                items = next_batch(&mut self.again, &mut self.queue, self.batch_requests_max),
                    if may_send => {
                    if items.is_empty() {
                        is_open = false;
                        continue;
                    }
                    self.batches_sent += 1;
                    let requests = items.iter().map(|item| item.request.clone()).collect();
                    let number = self.batches_sent;
                    let batch = proto::Batch { number, detail: 0, requests };
                    in_flight.push_back(items);
                    // There is room for all that may be in flight; one that is closed ends below.
                    let _ = batches.try_send(batch);
                }
            }
        }
    }

    /// Hands out what is known now; the rest goes again.
    fn answered(&mut self, items: Vec<Item>, result: proto::BatchResult) -> Answered {
        let mut came = Answered::All;
        let mut answers = result.results.into_iter();
        for item in items {
            let outcome = answers.next().and_then(|answer| answer.outcome);
            match outcome {
                Some(Outcome::Problem(problem)) if problem.code == "overloaded" => {
                    came = came.max(Answered::SomeAgain);
                    self.again.push_back(item);
                }
                Some(Outcome::Problem(problem)) if problem.status == "failed" => {
                    came = Answered::Stopped;
                    self.again.push_back(item);
                }
                // Who asked may be gone.
                Some(known) => drop(item.reply.send(known)),
                // No server of ours leaves one out; the same id asks again.
                None => {
                    came = came.max(Answered::SomeAgain);
                    self.again.push_back(item);
                }
            }
        }
        came
    }
}

/// What the answers to a batch come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answered {
    All,
    /// Some were not taken.
    SomeAgain,
    /// The engine has stopped.
    Stopped,
}

/// What goes again, and then all that has come, up to a batch; nothing when nothing can come any more.
/// Waits if there is nothing. Loses nothing when it is dropped.
async fn next_batch(
    again: &mut VecDeque<Item>,
    queue: &mut mpsc::Receiver<Item>,
    max: usize,
) -> Vec<Item> {
    let mut items = Vec::new();
    if again.is_empty() {
        queue.recv_many(&mut items, max).await;
        return items;
    }
    let again = again.drain(..again.len().min(max));
    items.extend(again.filter(|item| !item.reply.is_closed()));
    while items.len() < max
        && let Ok(item) = queue.try_recv()
    {
        items.push(item);
    }
    if items.is_empty() {
        // All of those had lost patience.
        queue.recv_many(&mut items, max).await;
    }
    items
}

/// Pauses that grow.
pub(super) struct Backoff {
    chance: RandomState,
    tries: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { chance: RandomState::new(), tries: 0 }
    }
}

impl Backoff {
    /// The next pause.
    pub(super) fn pause(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let millis = self.millis();
        Box::pin(async move {
            // It never comes: only the time passes.
            let _ = timeout(Duration::from_millis(millis), pending::<()>()).await;
        })
    }

    /// From half to all of a time that doubles.
    fn millis(&mut self) -> u64 {
        let (first, last) = CLIENT_BACKOFF_MS;
        let longest = first.saturating_mul(1 << self.tries.min(32)).min(last);
        self.tries += 1;
        longest / 2 + self.chance.hash_one(self.tries) % (longest / 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_are_spread() {
        let mut backoff = Backoff::default();
        let mut longest = CLIENT_BACKOFF_MS.0;
        for _ in 0..40 {
            let millis = backoff.millis();
            assert!((longest / 2..=longest).contains(&millis), "{millis} of {longest}");
            longest = (longest * 2).min(CLIENT_BACKOFF_MS.1);
        }
    }
}
