//! One transaction a swap: read both sides' balances, see whether they are enough, move the legs;
//! and all of that again if a balance has changed before the commit.
//!
//! ```text
//! round   what met a conflict in the last one, then new swaps, up to a batch
//!   └► a look at all their balances ─► enough? no: refused, as its caller sees it
//!                                            └ yes: a transaction ─► settled
//!                                                                └─► conflict: the next round
//! ```
//!
//! Two swaps of one round that share a balance read the same version of it, and so only one of
//! them can commit: that is what optimism costs, and it is counted, not avoided. There is no pause
//! before a retry: the rest of the round takes long enough. What was tried longest goes first.

use std::collections::VecDeque;

use crate::cli::load::target::{Replies, Reply, Seen};
use crate::cli::load::turns::Turn;
use crate::cli::load::workload::PlannedSwap;
use crate::error::{Error, Reject};
use crate::request::{Command, Read, Request, Transact};
use crate::types::{Amount, BalanceKey, Subject};

use super::{Caller, now_nanos, unix_millis};

/// Balances that a swap touches: see [`PlannedSwap::balances`].
const BALANCES: usize = 4;
/// Among these, the payer's of each leg.
const PAYERS: [usize; 2] = [0, 2];

/// A caller that settles swaps by optimistic transactions.
///
/// # Errors
/// Whatever ended the engine first.
pub(super) async fn run(caller: Caller) -> Result<(), Error> {
    let mut optimist = Optimist { caller, round: Vec::new(), fresh: VecDeque::new() };
    while optimist.fill().await {
        let keys = optimist.keys();
        let seen = optimist.caller.line.balances_of(&keys).await?;
        let requests = optimist.decide(&seen);
        if requests.is_empty() {
            continue;
        }
        let replies = optimist.caller.line.submit(requests).await?;
        optimist.answered(&replies);
    }
    Ok(())
}

/// A swap that has not settled.
#[derive(Clone, Copy)]
struct Open {
    swap: PlannedSwap,
    /// Boot-clock nanoseconds from which its latency counts; `None` before it is first tried, in a
    /// closed loop.
    due_nanos: Option<u64>,
    conflicts: u32,
}

struct Optimist {
    caller: Caller,
    /// Between two rounds, those that are tried again.
    round: Vec<Open>,
    /// New ones that no round had room for.
    fresh: VecDeque<Open>,
}

impl Optimist {
    /// Fills the round up; false when nothing is left to do.
    async fn fill(&mut self) -> bool {
        let batch = self.caller.batch;
        while self.round.len() + self.fresh.len() < batch {
            let busy = !self.round.is_empty() || !self.fresh.is_empty();
            let turns = &self.caller.turns;
            let turn = if busy { turns.now() } else { turns.next().await };
            let Some(Turn { swaps, due_nanos }) = turn else {
                break;
            };
            let planned = self.caller.workload.plan_batch(swaps);
            self.fresh.extend(planned.map(|swap| Open { swap, due_nanos, conflicts: 0 }));
        }
        let room = batch.saturating_sub(self.round.len()).min(self.fresh.len());
        self.round.extend(self.fresh.drain(..room));
        !self.round.is_empty()
    }

    /// What the round has to read.
    fn keys(&mut self) -> Vec<BalanceKey> {
        let now_nanos = now_nanos();
        let mut keys = Vec::with_capacity(self.round.len() * BALANCES);
        for open in &mut self.round {
            open.due_nanos.get_or_insert(now_nanos);
            keys.extend(open.swap.balances());
        }
        keys
    }

    /// What a caller's own logic does with what it read.
    fn decide(&mut self, seen: &[Seen]) -> Vec<Request> {
        let (now_nanos, unix_millis) = (now_nanos(), unix_millis());
        let Caller { tally, workload, .. } = &mut self.caller;
        let mut tally = super::lock(tally);
        let mut requests = Vec::with_capacity(self.round.len());
        let mut seen_by_swap = seen.chunks_exact(BALANCES);
        self.round.retain(|open| {
            let balances = seen_by_swap.next().expect("each swap's balances were asked for");
            if let Some(reject) = cannot_pay(&open.swap, balances) {
                let planned = workload.is_tight().then_some(&open.swap);
                tally.refused(reject.code(), Some(&reject), planned);
                tally.took(open.due_nanos.unwrap_or(now_nanos), now_nanos, 1);
                return false;
            }
            let command = Command::Transact(Box::new(transact(&open.swap, balances)));
            requests.push(Request::new(workload.other_id(unix_millis), command));
            true
        });
        tally.cross_shard += workload.take_cross_shard();
        requests
    }

    /// Counts what ended; what met a conflict stays, unless it has done so too often.
    fn answered(&mut self, replies: &Replies) {
        let now_nanos = now_nanos();
        let Caller { tally, workload, retries, .. } = &mut self.caller;
        let mut tally = super::lock(tally);
        let mut index = 0..replies.len();
        self.round.retain_mut(|open| {
            match replies.reply(index.next().expect("each transaction was answered")) {
                Reply::Settled(_) => {
                    tally.commits += 1;
                    tally.settled += 1;
                }
                Reply::Refused("conflict", _) => {
                    open.conflicts += 1;
                    if tally.met_conflict(open.conflicts, *retries) {
                        return true;
                    }
                }
                Reply::Refused(code, reject) => {
                    let planned = workload.is_tight().then_some(&open.swap);
                    tally.refused(code, reject, planned);
                }
            }
            tally.took(open.due_nanos.unwrap_or(now_nanos), now_nanos, 1);
            false
        });
    }
}

/// Who has too little, by what was read.
fn cannot_pay(swap: &PlannedSwap, balances: &[Seen]) -> Option<Reject> {
    let keys = swap.balances();
    PAYERS.iter().find_map(|&place| {
        let BalanceKey { account, asset } = keys[place];
        let needed = Amount::new(u128::from(swap.pays(account, asset)));
        let short_by = needed.checked_sub(balances[place].0.available)?;
        let seq = balances[place].2;
        let enough = short_by == Amount::ZERO;
        (!enough).then_some(Reject::InsufficientFunds { account, asset, short_by, seq })
    })
}

fn transact(swap: &PlannedSwap, balances: &[Seen]) -> Transact {
    let keys = swap.balances().into_iter();
    let read = |(key, (_, version, _)): (BalanceKey, &Seen)| Read {
        subject: Subject::Balance(key),
        version: *version,
    };
    Transact {
        reads: keys.zip(balances).map(read).collect(),
        writes: Vec::new(),
        transfers: swap.legs().into(),
    }
}

#[cfg(test)]
mod tests {
    use crate::types::{AccountId, AssetId, Balance, CommitSeq};

    use super::*;

    fn swap() -> PlannedSwap {
        PlannedSwap {
            payer: AccountId::new(1),
            payee: AccountId::new(2),
            asset_out: AssetId::new(0),
            asset_back: AssetId::new(1),
            amount_out: 70,
            amount_back: 90,
        }
    }

    fn seen(available: [u128; BALANCES]) -> [Seen; BALANCES] {
        let balance = |units| Balance { available: Amount::new(units), held: Amount::new(500) };
        let mut version = 10;
        available.map(|units| {
            version += 1;
            (balance(units), CommitSeq::new(version), CommitSeq::new(20))
        })
    }

    #[test]
    fn who_pays_must_have_it_and_who_is_paid_need_not() {
        let seq = CommitSeq::new(20);
        assert_eq!(cannot_pay(&swap(), &seen([70, 0, 90, 0])), None);
        let (account, asset) = (AccountId::new(2), AssetId::new(1));
        let short = Reject::InsufficientFunds { account, asset, short_by: Amount::new(1), seq };
        assert_eq!(cannot_pay(&swap(), &seen([70, 0, 89, 0])), Some(short));
        let (account, asset) = (AccountId::new(1), AssetId::new(0));
        let short = Reject::InsufficientFunds { account, asset, short_by: Amount::new(70), seq };
        assert_eq!(cannot_pay(&swap(), &seen([0, 0, 0, 0])), Some(short));
    }

    #[test]
    fn a_transaction_names_every_balance_with_the_version_that_was_seen() {
        let transact = transact(&swap(), &seen([70, 0, 90, 0]));
        let reads: Vec<_> = transact.reads.iter().map(|it| it.version.get()).collect();
        assert_eq!(reads, [11, 12, 13, 14]);
        let subjects = transact.reads.iter().map(|it| it.subject.clone());
        assert!(subjects.eq(swap().balances().map(Subject::Balance)));
        assert_eq!(transact.transfers, swap().legs());
        assert_eq!(transact.validate(), Ok(()));
    }
}
