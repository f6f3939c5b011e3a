//! What one client follows of all markets, whatever face it came to: a list that it changes, and a bell.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::error::Error;

use super::super::problem::Problem;
use super::super::state::App;
use super::subscription::Subscription;
use super::{Channel, Cut, Said};

/// Most entries of a list of subscriptions.
pub(in crate::server) const ENTRIES_MAX: usize = 1_024;

/// What a client asks for.
pub(in crate::server) struct Entry {
    /// What of the market.
    pub(in crate::server) channel: Channel,
    /// The market's name.
    pub(in crate::server) market: String,
}

/// An entry, or what is wrong with it.
pub(in crate::server) type Read = Result<Entry, Problem>;

/// Who is told. Each of these waits until the client has taken it.
pub(in crate::server) trait Subscriber: Send {
    /// Something new.
    async fn said(&mut self, said: Said) -> Result<(), Cut>;

    /// That nothing more comes of that.
    async fn unsubscribed(&mut self, channel: Channel, market: &str) -> Result<(), Cut>;

    /// What is wrong with a part of what was asked for.
    async fn refused(&mut self, problem: Problem) -> Result<(), Cut>;
}

/// The markets that a client follows.
pub(in crate::server) struct Following {
    app: App,
    bell: Arc<Notify>,
    subscriptions: Vec<Subscription>,
}

impl Following {
    /// None yet.
    pub(in crate::server) fn new(app: App) -> Self {
        Self { app, bell: Arc::new(Notify::new()), subscriptions: Vec::new() }
    }

    /// Waits until there may be something to tell.
    pub(in crate::server) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Why nothing more comes once the server stops.
    pub(in crate::server) fn stopped(&self) -> Cut {
        match self.app.engine().stopped() {
            Some(cause) => Cut::Failed(Error::Stopped { cause }),
            None => Cut::Stopping,
        }
    }

    /// Does what a message asks for, part by part: what is wrong with one does not touch the others.
    ///
    /// # Errors
    /// Why the stream ends.
    pub(in crate::server) async fn change(
        &mut self,
        leave: Vec<Read>,
        join: Vec<Read>,
        client: &mut impl Subscriber,
    ) -> Result<(), Cut> {
        for entry in leave {
            match entry.and_then(|entry| self.remove(entry)) {
                Ok(Entry { channel, market }) => client.unsubscribed(channel, &market).await?,
                Err(problem) => client.refused(problem).await?,
            }
        }
        for entry in join {
            let begun = match entry {
                Ok(entry) => self.add(entry).await,
                Err(problem) => Err(problem),
            };
            match begun {
                Ok(said) => client.said(said).await?,
                Err(problem) => client.refused(problem).await?,
            }
        }
        // What happened meanwhile has rung already, or will.
        Ok(())
    }

    fn place(&self, entry: &Entry) -> Option<usize> {
        self.subscriptions.iter().position(|it| it.is(entry.channel, &entry.market))
    }

    fn remove(&mut self, entry: Entry) -> Read {
        let place = self.place(&entry).ok_or_else(|| {
            let why = format!("is not subscribed to in channel {}", entry.channel.name());
            Problem::malformed("market", format!("{} {why}", entry.market))
        })?;
        self.subscriptions.swap_remove(place);
        Ok(entry)
    }

    /// Begins a subscription; returns the first that is said of it.
    async fn add(&mut self, entry: Entry) -> Result<Said, Problem> {
        if self.place(&entry).is_some() {
            let channel = entry.channel.name();
            let why = format!("{} is subscribed to in channel {channel} already", entry.market);
            return Err(Problem::malformed("market", why));
        }
        self.app.streams().check_subscriptions(self.subscriptions.len())?;
        let directory = self.app.engine().directory();
        let market = directory.market_by_name(&entry.market);
        let market = market.ok_or_else(|| Problem::unknown_market(&entry.market))?;
        let data = self.app.streams().market_data();
        let followed = data.follow(market, Arc::clone(&self.bell)).await?;
        let (subscription, said) = Subscription::begin(entry.channel, followed)?;
        self.subscriptions.push(subscription);
        Ok(said)
    }

    /// Tells what is new.
    ///
    /// # Errors
    /// Why the stream ends.
    pub(in crate::server) async fn tell(
        &mut self,
        client: &mut impl Subscriber,
    ) -> Result<(), Cut> {
        self.app.still().map_err(Cut::Refused)?;
        for subscription in &mut self.subscriptions {
            let (news, is_all) = subscription.news()?;
            for said in news {
                client.said(said).await?;
            }
            if !is_all {
                // The others, and what the client says, have their turn first.
                self.bell.notify_one();
            }
        }
        Ok(())
    }
}
