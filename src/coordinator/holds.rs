//! Open holds: who set what aside, until when, and what became of it. Pure.
//!
//! A hold is resolved once. The first resolution that is sequenced takes the hold out of the table
//! and into its own transaction, which is certain to commit; whoever comes between that and its
//! decision follows it, and learns the answer from it.
//!
//! ```text
//!            open ──take──► Resolving(by) ──resolved──► recent ──(folded)──► the store
//! commit, rollback, expiry ┘   └ later ones follow       └ later ones are told how it was resolved
//! ```
//!
//! Invariants
//! * Every open hold is due at most once, and no sooner than its time.
//! * Counts per account are those of the holds that are decided and not resolved.
//! * What was resolved is found here until the store can find it.

mod soonest;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use foldhash::fast::RandomState;
use hashbrown::{HashMap, hash_map};

use super::hold_ages::HoldAges;
use super::ids::{Payers, Resolved};
use crate::config::{HOLDS_LOOKED_AT_MAX, Limits};
use crate::error::Reject;
use crate::faults::{Bug, planted};
use crate::message::{Side, Txn, TxnRef};
use crate::request::{Action, Hold, Purpose};
use crate::types::{AccountId, CommitSeq, Resolution, Time, Token};

use soonest::InOrder;

/// Times of holds that are gone may outnumber those of open ones this much before they are swept.
const STALE_TIMES_MAX: usize = 1_024;

/// What a resolution finds.
#[derive(Debug)]
pub(super) enum Found {
    /// The hold: it is this resolution's now.
    Taken(Box<Hold>),
    /// Its time is over: it has to expire first.
    Due,
    /// An earlier resolution has it, and is not decided yet.
    Taking,
    /// It was resolved, so.
    Resolved(Resolved),
    /// It is not here: the store may know it.
    NotHere,
    /// It is not a hold of the kind that is asked for.
    Unfit,
}

/// A hold in the table.
enum Entry {
    Open(Box<Hold>),
    Resolving { by: TxnRef, is_withdrawal: bool, followers: Vec<TxnRef> },
}

/// The table of holds.
pub(super) struct Holds {
    entries: HashMap<Token, Entry, RandomState>,
    per_account: HashMap<AccountId, usize, RandomState>,
    /// When each ends by itself; some may be resolved already.
    times: BinaryHeap<Reverse<(Time, Token)>>,
    /// Open holds that end by themselves.
    timed: usize,
    /// Of swaps and of withdrawals.
    ages: [HoldAges; 2],
    recent: Recent,
    max: usize,
    per_account_max: usize,
}

impl Holds {
    /// The holds that recovery found.
    pub(super) fn new(limits: &Limits, open: Vec<Hold>) -> Self {
        let mut holds = Self {
            entries: HashMap::default(),
            per_account: HashMap::default(),
            times: BinaryHeap::new(),
            timed: 0,
            ages: Default::default(),
            recent: Recent::default(),
            max: limits.holds_max,
            per_account_max: limits.holds_per_account_max,
        };
        for hold in open {
            let payers = payers_of(&hold);
            holds.insert(Box::new(hold), payers, Time::default());
        }
        holds
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the hold is there and not resolved.
    pub(super) fn is_open(&self, token: Token) -> bool {
        self.entries.contains_key(&token)
    }

    /// Whether the hold's time is over, and nothing resolves it yet.
    pub(super) fn is_due(&self, token: Token, now: Time) -> bool {
        matches!(self.entries.get(&token), Some(Entry::Open(hold)) if hold.expires_at <= now)
    }

    /// The hold, if it is open and nobody is about to resolve it.
    pub(super) fn get(&self, token: Token) -> Result<&Hold, Option<TxnRef>> {
        match self.entries.get(&token) {
            Some(Entry::Open(hold)) => Ok(hold),
            Some(Entry::Resolving { by, .. }) => Err(Some(*by)),
            None => Err(None),
        }
    }

    /// Whether there is room for the hold that this transaction would make; `key_max`: how many may be
    /// open of any one account for whoever asks, if that is limited.
    ///
    /// # Errors
    /// [`Reject::TooManyHolds`].
    pub(super) fn check_room(&self, txn: &Txn, key_max: Option<u32>) -> Result<(), Reject> {
        if self.entries.len() >= self.max {
            return Err(Reject::TooManyHolds { account: None, max: self.max as u64 });
        }
        let max = key_max.map_or(usize::MAX, |max| max as usize).min(self.per_account_max);
        for account in payers(txn) {
            if self.per_account.get(&account).is_some_and(|open| *open >= max) {
                let (account, max) = (Some(account), max as u64);
                return Err(Reject::TooManyHolds { account, max });
            }
        }
        Ok(())
    }

    /// When the oldest hold of a swap was made, and that of a withdrawal, if there is one; 0 for those that
    /// recovery found.
    pub(super) fn oldest(&mut self) -> [Option<Time>; 2] {
        let entries = &self.entries;
        self.ages.each_mut().map(|ages| ages.oldest(|token| entries.contains_key(&token)))
    }

    /// Adds the hold that a transaction made at that time.
    pub(super) fn open(&mut self, hold: Hold, txn: &Txn, at: Time) {
        self.insert(Box::new(hold), payers(txn), at);
    }

    fn insert(&mut self, hold: Box<Hold>, payers: Payers, at: Time) {
        let (kind, token) = (usize::from(is_withdrawal(&hold)), hold.token);
        for account in payers {
            *self.per_account.entry(account).or_default() += 1;
        }
        if hold.expires_at < Time::NEVER {
            self.times.push(Reverse((hold.expires_at, hold.token)));
            self.timed += 1;
        }
        let before = self.entries.insert(hold.token, Entry::Open(hold));
        assert!(before.is_none(), "a token names one hold");
        let entries = &self.entries;
        self.ages[kind].made(at, token, |token| entries.contains_key(&token));
    }

    /// What a resolution at that place finds; the hold is its own then.
    pub(super) fn take(&mut self, token: Token, action: Action, at: TxnRef, now: Time) -> Found {
        let Some(entry) = self.entries.get_mut(&token) else {
            return self.recent.get(token).map_or(Found::NotHere, Found::Resolved);
        };
        let hold = match entry {
            Entry::Resolving { is_withdrawal, .. }
                if action != Action::Expire && *is_withdrawal != action.is_of_withdrawal() =>
            {
                return Found::Unfit;
            }
            Entry::Resolving { .. } => return Found::Taking,
            Entry::Open(hold) => hold,
        };
        if !action.fits(&hold.purpose) {
            return Found::Unfit;
        }
        if hold.expires_at <= now && action != Action::Expire {
            return Found::Due;
        }
        let is_withdrawal = is_withdrawal(hold);
        let taken = Entry::Resolving { by: at, is_withdrawal, followers: Vec::new() };
        match std::mem::replace(entry, taken) {
            Entry::Open(hold) => Found::Taken(hold),
            Entry::Resolving { .. } => unreachable!("just seen open"),
        }
    }

    /// A resolution waits for what an earlier one comes to.
    pub(super) fn follow(&mut self, token: Token, follower: TxnRef) {
        match self.entries.get_mut(&token) {
            Some(Entry::Resolving { followers, .. }) => followers.push(follower),
            _ => unreachable!("follows what is being resolved"),
        }
    }

    /// A resolution was decided, under that seq; returns who follows it.
    pub(super) fn resolved(&mut self, txn: &Txn, how: Resolution, seq: CommitSeq) -> Vec<TxnRef> {
        let hold = txn.hold().expect("a resolution has its hold");
        let payers = payers(txn);
        for account in payers.iter().copied() {
            let hash_map::Entry::Occupied(mut open) = self.per_account.entry(account) else {
                unreachable!("counted when it was made")
            };
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
        self.timed -= usize::from(hold.expires_at < Time::NEVER);
        let is_withdrawal = is_withdrawal(hold);
        self.ages[usize::from(is_withdrawal)].resolved();
        self.recent.push(hold.token, Resolved { how, seq, is_withdrawal, payers });
        let entry = self.entries.remove(&hold.token);
        if planted(Bug::ReleaseTwice) {
            self.insert(Box::new(hold.clone()), payers_of(hold), Time::default());
        }
        match entry {
            Some(Entry::Resolving { followers, .. }) => followers,
            _ => unreachable!("it was being resolved"),
        }
    }

    /// The next hold whose time is over.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<Token> {
        self.sweep();
        while let Some(Reverse((time, token))) = self.times.peek().copied() {
            if time > now {
                return None;
            }
            self.times.pop();
            if matches!(self.entries.get(&token), Some(Entry::Open(_))) {
                if planted(Bug::ExpireUnsequenced) {
                    self.entries.remove(&token);
                    continue;
                }
                return Some(token);
            }
        }
        None
    }

    /// The open holds that expire next and that `is_wanted`, soonest first, at most `limit`; and whether
    /// those are all. No more than [`HOLDS_LOOKED_AT_MAX`] are looked at, however many there are.
    pub(super) fn soonest(
        &self,
        limit: usize,
        is_wanted: &dyn Fn(&Hold) -> bool,
    ) -> (Vec<Hold>, bool) {
        let mut found = Vec::new();
        for (looked_at, (_, token)) in InOrder::of(&self.times).enumerate() {
            if looked_at == HOLDS_LOOKED_AT_MAX {
                return (found, false);
            }
            // Of those that are gone, times may be left over.
            let Some(Entry::Open(hold)) = self.entries.get(token) else { continue };
            if !is_wanted(hold) {
                continue;
            }
            if found.len() == limit {
                return (found, false);
            }
            found.push(hold.as_ref().clone());
        }
        (found, true)
    }

    /// When the next hold's time is over, or one's that is gone by now.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.times.peek().map(|Reverse((time, _))| *time)
    }

    /// Forgets the times of holds that are gone, once they are most of them.
    fn sweep(&mut self) {
        if self.times.len() > 2 * self.timed + STALE_TIMES_MAX {
            let entries = &self.entries;
            self.times
                .retain(|Reverse((_, token))| matches!(entries.get(token), Some(Entry::Open(_))));
        }
    }

    /// Forgets what the store can find: everything up to that seq.
    pub(super) fn forget_through(&mut self, applied: CommitSeq) {
        self.recent.forget_through(applied);
    }

    /// How a hold was resolved, if that was not long ago.
    pub(super) fn recently(&mut self, token: Token) -> Option<Resolved> {
        self.recent.get(token)
    }
}

fn is_withdrawal(hold: &Hold) -> bool {
    matches!(hold.purpose, Purpose::Withdrawal(_))
}

/// Whose funds a transaction that makes or ends a hold sets aside or had set aside.
fn payers(txn: &Txn) -> Payers {
    let pays =
        |side: Side| matches!(side, Side::SetAside | Side::Lock | Side::Spend | Side::Release);
    distinct(txn.ops().filter(|op| pays(op.side)).map(|op| op.key.account))
}

/// Whose funds a hold sets aside, each account once.
pub fn payers_of(hold: &Hold) -> Payers {
    // Any number of shards does: only the operations are looked at.
    payers(&Txn::expiry(Box::new(hold.clone()), 1))
}

fn distinct(accounts: impl Iterator<Item = AccountId>) -> Payers {
    let mut distinct = Payers::new();
    for account in accounts {
        if !distinct.contains(&account) {
            distinct.push(account);
        }
    }
    distinct
}

/// What was resolved and is not yet in the store, in the order of the seqs. Most is never asked for,
/// so it is put into a table only when somebody asks.
#[derive(Default)]
struct Recent {
    resolved: VecDeque<(Token, Resolved)>,
    /// Of the first `indexed` of them.
    index: HashMap<Token, Resolved, RandomState>,
    indexed: usize,
}

impl Recent {
    fn push(&mut self, token: Token, resolved: Resolved) {
        self.resolved.push_back((token, resolved));
    }

    fn get(&mut self, token: Token) -> Option<Resolved> {
        self.index.extend(self.resolved.range(self.indexed..).cloned());
        self.indexed = self.resolved.len();
        self.index.get(&token).cloned()
    }

    fn forget_through(&mut self, applied: CommitSeq) {
        while self.resolved.front().is_some_and(|(_, resolved)| resolved.seq <= applied) {
            let (token, _) = self.resolved.pop_front().expect("just seen");
            if self.indexed > 0 {
                self.indexed -= 1;
                self.index.remove(&token);
            }
        }
    }
}

/// The hold that a transaction makes once it is committed under that seq; `None` if it makes none.
pub(super) fn hold_of(txn: &Txn, since: CommitSeq) -> Option<Hold> {
    use crate::request::Command;
    let (purpose, exclusive) = match &txn.command {
        Command::Prepare(prepare) => (Purpose::Swap(prepare.swap.clone()), prepare.exclusive),
        Command::Withdraw(from) => (Purpose::Withdrawal(from.clone()), false),
        _ => return None,
    };
    let (token, expires_at) = (Token::of(txn.id), txn.expires_at);
    Some(Hold { token, purpose, exclusive, expires_at, since })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Transfer;
    use crate::types::{Amount, AssetId, RequestId};

    /// A hold that ends at that time, and is named by it.
    fn hold(n: u64) -> Hold {
        let purpose = Purpose::Withdrawal(Transfer {
            account: AccountId::new(1),
            asset: AssetId::new(0),
            amount: Amount::new(1),
            reference: "out".into(),
        });
        let token = Token::of(RequestId::new(n.into()));
        let (expires_at, since) = (Time::new(n), CommitSeq::new(1));
        Hold { token, purpose, exclusive: false, expires_at, since }
    }

    fn times((found, is_all): (Vec<Hold>, bool)) -> (Vec<u64>, bool) {
        (found.iter().map(|hold| hold.expires_at.get()).collect(), is_all)
    }

    #[test]
    fn who_asks_what_ends_next_costs_little_however_many_there_are() {
        let many = HOLDS_LOOKED_AT_MAX as u64 + 10;
        let holds = Holds::new(&Limits::default(), (1..=many).rev().map(hold).collect());
        assert_eq!(times(holds.soonest(3, &|_| true)), (vec![1, 2, 3], false));
        let looked_at = std::cell::Cell::new(0);
        let nobody = |_: &Hold| {
            looked_at.set(looked_at.get() + 1);
            false
        };
        assert_eq!(times(holds.soonest(3, &nobody)), (vec![], false));
        assert_eq!(looked_at.get(), HOLDS_LOOKED_AT_MAX);
        let last = |hold: &Hold| hold.expires_at.get() == many;
        assert_eq!(times(holds.soonest(3, &last)), (vec![], false), "it may be there");
    }

    #[test]
    fn whether_those_are_all_is_known() {
        let mut holds = Holds::new(&Limits::default(), (1..=9).map(hold).collect());
        let even = |hold: &Hold| hold.expires_at.get().is_multiple_of(2);
        assert_eq!(times(holds.soonest(4, &even)), (vec![2, 4, 6, 8], true));
        assert_eq!(times(holds.soonest(3, &even)), (vec![2, 4, 6], false));
        // What ends already, and what never does by itself, is not among them.
        let at = TxnRef { batch: 1, index: 0 };
        let taken = holds.take(Token::of(RequestId::new(4)), Action::Cancel, at, Time::new(0));
        assert!(matches!(taken, Found::Taken(_)));
        let never = Hold { expires_at: Time::NEVER, ..hold(10) };
        holds.insert(Box::new(never), Payers::new(), Time::default());
        assert_eq!(times(holds.soonest(9, &even)), (vec![2, 6, 8], true));
    }
}
