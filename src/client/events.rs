//! Following what happens, over as many connections as it takes.
//!
//! Each event is handed out once, in order, and none is skipped: a connection that is lost is made again
//! behind the last page that came. Only what cannot be mended ends it: a key that is revoked, a seq that is
//! not kept any more.

use std::collections::VecDeque;

use tonic::{Status, Streaming};

use crate::proto;

use super::gather::Backoff;
use super::{Client, ClientError};

/// Events, one after the other; see [`Client::events`].
pub struct Events {
    client: Client,
    /// What is asked for when the connection is made anew: `after` is the last page's place.
    ask: proto::EventsRequest,
    stream: Option<Streaming<proto::EventPage>>,
    /// What of the last page is not handed out yet.
    ready: VecDeque<proto::Event>,
    /// The last that was handed out, or what it began after.
    seq: u64,
    is_over: bool,
    backoff: Backoff,
}

impl Client {
    /// Follows what happens after `ask.after`: everything that `ask` does not filter out, or, with
    /// `until_now`, what is durable now. Nothing is sent before the first [`Events::next`].
    pub fn events(&self, ask: proto::EventsRequest) -> Events {
        Events {
            client: self.clone(),
            seq: ask.after,
            ask,
            stream: None,
            ready: VecDeque::new(),
            is_over: false,
            backoff: Backoff::default(),
        }
    }
}

impl Events {
    /// The next event; `None` after the last one, with `until_now`. Waits for it, also while the server is
    /// away. Nothing is lost when this is dropped before it is done.
    ///
    /// # Errors
    /// [`ClientError::Refused`]: what cannot be told. [`ClientError::Unavailable`]: for as long as the client's
    /// deadline nobody could be asked; calling again goes on where it was.
    pub async fn next(&mut self) -> Result<Option<proto::Event>, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.seq = seq_of(&event);
                return Ok(Some(event));
            }
            self.seq = self.seq.max(self.ask.after);
            if self.is_over {
                return Ok(None);
            }
            if self.stream.is_none() {
                self.connect().await?;
            }
            let Some(stream) = &mut self.stream else { continue };
            match stream.message().await {
                Ok(Some(page)) => self.take(page),
                // Without its last page it broke off, or the server stops.
                Ok(None) => self.stream = None,
                Err(status) => {
                    self.stream = None;
                    refusal(status).map_or(Ok(()), Err)?;
                }
            }
        }
    }

    /// The seq to come back with, to [`Client::events`], for what was not handed out yet.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    fn take(&mut self, page: proto::EventPage) {
        let after = self.ask.after;
        self.backoff = Backoff::default();
        self.ready.extend(page.events.into_iter().filter(|event| seq_of(event) > after));
        self.ask.after = after.max(page.seq);
        self.is_over = page.is_end;
    }

    /// Asks again and again, for as long as the client's deadline.
    async fn connect(&mut self) -> Result<(), ClientError> {
        let patience = self.client.deadline();
        let mut last = String::new();
        let connected = tokio::time::timeout(patience, self.ask(&mut last)).await;
        connected.unwrap_or(Err(ClientError::Unavailable(last)))
    }

    async fn ask(&mut self, last: &mut String) -> Result<(), ClientError> {
        loop {
            match self.client.exchange().events(self.ask.clone()).await {
                Ok(stream) => {
                    self.stream = Some(stream.into_inner());
                    return Ok(());
                }
                Err(status) => {
                    *last = status.to_string();
                    refusal(status).map_or(Ok(()), Err)?;
                }
            }
            self.backoff.pause().await;
        }
    }
}

fn seq_of(event: &proto::Event) -> u64 {
    event.receipt.as_ref().map_or(0, |receipt| receipt.commit_seq)
}

/// What will not be otherwise when it is tried again.
pub(super) fn refusal(status: Status) -> Option<ClientError> {
    match ClientError::from(status) {
        ClientError::Refused(problem)
            if ["overloaded", "stopped", "recovering", "rate_limited"]
                .contains(&&*problem.code) =>
        {
            None
        }
        refused @ ClientError::Refused(_) => Some(refused),
        _ => None,
    }
}
