//! Requests that were given back, and come again: what they wait for meanwhile. Pure.
//!
//! A request that meets an exclusive hold is *parked*: it holds nothing, and comes again when the
//! hold is resolved, or is refused when it waited long enough. A transaction that met something
//! undecided comes again at once. A deposit whose reference an undecided one has too waits for that
//! one. Whoever sends the id of one of these again waits behind it.
//!
//! Invariants
//! * A request given back is in one place: parked, behind another, next in line, or in a batch.
//! * Its id leads here until its outcome is durable, so it is never taken for a new one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hashbrown::HashMap;

use crate::error::Reject;
use crate::message::{AnswerSlot, Txn, TxnRef};
use crate::types::{RequestId, Time, Token};

/// A request that comes again.
#[derive(Debug)]
pub(super) struct Again {
    /// The request.
    pub(super) txn: Txn,
    /// Where its answer belongs.
    pub(super) slot: AnswerSlot,
    /// How often it was in a batch.
    pub(super) attempts: u32,
    /// When it first met an exclusive hold.
    pub(super) parked_since: Option<Time>,
    /// What it is refused for when it comes; it is asked anew if there is nothing.
    pub(super) verdict: Option<Reject>,
}

/// Where a request is that was given back once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Parked, behind another, or next in line.
    Waiting,
    /// With its market, in no batch.
    AtMarket,
    /// In that batch, for the time given, since it first met an exclusive hold if it did.
    InFlight { at: TxnRef, attempts: u32, parked_since: Option<Time> },
    /// Decided, by the decision of that number.
    Decided(u64),
}

/// A parked request.
struct Parked {
    again: Again,
    token: Token,
    until: Time,
}

/// Everything that was given back.
#[derive(Default)]
pub(super) struct Deferred {
    next: VecDeque<Again>,
    places: HashMap<RequestId, Place>,
    /// Ids that are decided, with the decision, in that order.
    decided: VecDeque<(RequestId, u64)>,
    /// By the order in which they were parked.
    parked: BTreeMap<u64, Parked>,
    parked_ever: u64,
    by_token: HashMap<Token, Vec<u64>>,
    by_time: BTreeSet<(Time, u64)>,
    /// Requests that wait until another, in a batch, is decided.
    after: HashMap<TxnRef, Vec<Again>>,
    /// Requests with the id of one that waits.
    behind: HashMap<RequestId, Vec<Again>>,
}

impl Deferred {
    /// Whether none was given back lately: no id leads here.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether none waits.
    pub(super) fn is_idle(&self) -> bool {
        self.next.is_empty() && self.parked.is_empty() && self.after.is_empty()
    }

    /// How many are parked.
    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Where the request of that id is, if it was given back.
    pub(super) fn place(&self, id: RequestId) -> Option<Place> {
        self.places.get(&id).copied()
    }

    /// Whether one is next in line.
    pub(super) fn has_next(&self) -> bool {
        !self.next.is_empty()
    }

    /// The next in line; it is in the batch at that place then.
    pub(super) fn pop_next(&mut self) -> Option<Again> {
        self.next.pop_front()
    }

    /// Puts one back at the head of the line.
    pub(super) fn unpop(&mut self, again: Again) {
        self.next.push_front(again);
    }

    /// Puts one in line.
    pub(super) fn push_next(&mut self, again: Again) {
        self.places.insert(again.txn.id, Place::Waiting);
        self.next.push_back(again);
    }

    /// One that came again is in a batch: those behind it are next.
    pub(super) fn is_placed(
        &mut self,
        id: RequestId,
        at: TxnRef,
        attempts: u32,
        parked_since: Option<Time>,
    ) {
        self.places.insert(id, Place::InFlight { at, attempts, parked_since });
        for again in self.behind.remove(&id).unwrap_or_default().into_iter().rev() {
            self.next.push_front(again);
        }
    }

    /// One that came again (or any other) was decided, by that decision.
    pub(super) fn is_decided(&mut self, id: RequestId, decision: u64) {
        if let Some(place) = self.places.get_mut(&id) {
            *place = Place::Decided(decision);
            self.decided.push_back((id, decision));
        }
    }

    /// Forgets the ids of all whose decision is durable: below that number.
    pub(super) fn forget_durable(&mut self, decisions: u64) {
        while let Some((id, _)) = self.decided.front().copied().filter(|(_, of)| *of < decisions) {
            self.decided.pop_front();
            if matches!(self.places.get(&id), Some(Place::Decided(of)) if *of < decisions) {
                self.places.remove(&id);
            }
        }
    }

    /// Parks one until the hold is resolved, or until then.
    pub(super) fn park(&mut self, again: Again, token: Token, until: Time) {
        let order = self.parked_ever;
        self.parked_ever += 1;
        self.places.insert(again.txn.id, Place::Waiting);
        self.by_token.entry(token).or_default().push(order);
        self.by_time.insert((until, order));
        self.parked.insert(order, Parked { again, token, until });
    }

    /// A hold was resolved: those that it kept waiting are next, in their order.
    pub(super) fn unpark(&mut self, token: Token) {
        for order in self.by_token.remove(&token).unwrap_or_default() {
            let parked = self.parked.remove(&order).expect("parked once");
            self.by_time.remove(&(parked.until, order));
            self.next.push_back(parked.again);
        }
    }

    /// Those that waited long enough are next, to be refused; all of them if `all`.
    pub(super) fn time_out(&mut self, now: Time, all: bool) {
        while let Some((until, order)) = self.by_time.first().copied() {
            if until > now && !all {
                break;
            }
            self.by_time.pop_first();
            let Parked { mut again, token, .. } = self.parked.remove(&order).expect("parked once");
            let others = self.by_token.get_mut(&token).expect("it is one of them");
            others.retain(|other| *other != order);
            if others.is_empty() {
                self.by_token.remove(&token);
            }
            // Its own deadline, if that is what was over, is found when it is looked at.
            again.verdict = Some(Reject::LockTimeout { token });
            self.next.push_back(again);
        }
    }

    /// When the next parked one has waited long enough.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.by_time.first().map(|(until, _)| *until)
    }

    /// One waits until another is decided.
    pub(super) fn wait_for(&mut self, first: TxnRef, again: Again) {
        self.places.insert(again.txn.id, Place::Waiting);
        self.after.entry(first).or_default().push(again);
    }

    /// One is with its market, in no batch.
    pub(super) fn is_at_market(&mut self, id: RequestId) {
        self.places.insert(id, Place::AtMarket);
    }

    /// That one is decided: those who waited for it are next.
    pub(super) fn release(&mut self, first: TxnRef) {
        if !self.after.is_empty() {
            self.next.extend(self.after.remove(&first).unwrap_or_default());
        }
    }

    /// One has the id of another that waits: it comes right after that one.
    pub(super) fn wait_behind(&mut self, again: Again) {
        self.behind.entry(again.txn.id).or_default().push(again);
    }
}
