//! What the clients saw: answers counted, latencies, and the refusals that are to be checked.
//!
//! Each generator thread has a [`Tally`] of its own; whoever shows or reports them adds them up.
//! A latency is recorded once a submission and counts for each of its swaps: to its caller, a
//! swap takes as long as its submission.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use serde::Serialize;

use crate::error::Reject;
use crate::types::{AccountId, Amount, AssetId, CommitSeq, RequestId};

use super::flow::{EXPECTED, Sent};
use super::target::{Replies, Reply};
use super::workload::{ClientWorkload, PlannedSwap};

/// Refusals that one generator thread keeps; of more, a random sample of so many.
const REFUSALS_KEPT_MAX: usize = 4_000_000;
/// Answers about orders that one generator thread keeps; of more, a random sample of so many.
const TOLD_KEPT_MAX: usize = 50_000;
/// Answers of one submission that are offered for that.
const TOLD_PER_SUBMISSION: usize = 8;
/// Latencies are exact to a microsecond, or to three digits; longer ones count as this long.
const LATENCY_NANOS: (u64, u64) = (1_000, 3_600_000_000_000);

/// Counts of one generator thread.
#[derive(Debug)]
pub(super) struct Tally {
    /// Latency in nanoseconds, of every answered swap.
    pub(super) latency: Histogram<u64>,
    /// The same since it was last shown.
    pub(super) latency_recent: Histogram<u64>,
    /// Swaps that settled.
    pub(super) settled: u64,
    /// Requests that took a commit_seq; a swap may need several.
    pub(super) commits: u64,
    /// Transactions that were refused as conflicts.
    pub(super) conflicts: u64,
    /// Of these, those that were tried again.
    pub(super) retries: u64,
    /// Swaps that met conflicts more often than they may be tried again.
    pub(super) gave_up: u64,
    /// Swaps that were refused, by code.
    pub(super) rejected: BTreeMap<&'static str, u64>,
    /// Answered swaps that span two shards.
    pub(super) cross_shard: u64,
    /// What settled of the requests about orders.
    pub(super) orders: OrderCounts,
    /// What callers were told about orders, to be checked.
    pub(super) told: Sample<Told>,
    /// Refusals for lack of funds, to be checked.
    pub(super) refusals: Sample<RefusedSwap>,
    /// The first refusal that the workload does not ask for.
    pub(super) unexpected: Option<String>,
    /// Boot-clock nanoseconds of the last answer.
    pub(super) answered_last_nanos: u64,
}

/// Requests about orders that settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct OrderCounts {
    /// Orders that came into their markets.
    pub(super) placed: u64,
    /// Of these, those that had to trade at once.
    pub(super) immediate: u64,
    /// Amendments.
    pub(super) amended: u64,
    /// Cancellations that somebody asked for.
    pub(super) canceled: u64,
}

/// What a caller was told about one of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Which request.
    pub(super) id: RequestId,
    /// The seq under which it settled, or the code of its refusal.
    pub(super) answer: Result<CommitSeq, &'static str>,
}

/// Of a submission's answers, the places of those that are kept to be checked.
pub(super) fn told_places(answers: usize) -> impl Iterator<Item = usize> {
    (0..answers).step_by(answers.div_ceil(TOLD_PER_SUBMISSION).max(1))
}

/// A refusal for lack of funds, with what it claims: at `seq`, `short_by` was missing to `needed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RefusedSwap {
    /// Who was short.
    pub(super) account: AccountId,
    /// Of what.
    pub(super) asset: AssetId,
    /// How much it was to pay.
    pub(super) needed: Amount,
    /// How much was missing.
    pub(super) short_by: Amount,
    /// The state that was seen.
    pub(super) seq: CommitSeq,
}

impl Tally {
    /// Nothing yet.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            latency: empty_histogram(),
            latency_recent: empty_histogram(),
            settled: 0,
            commits: 0,
            conflicts: 0,
            retries: 0,
            gave_up: 0,
            rejected: BTreeMap::new(),
            cross_shard: 0,
            orders: OrderCounts::default(),
            told: Sample::new(TOLD_KEPT_MAX, seed),
            refusals: Sample::new(REFUSALS_KEPT_MAX, seed),
            unexpected: None,
            answered_last_nanos: 0,
        }
    }

    /// Counts the answers to the last submission of a workload, one request a swap.
    pub(super) fn answered(&mut self, answers: &Replies, sent: &mut ClientWorkload) {
        let settled_before = self.settled;
        for index in 0..answers.len() {
            match answers.reply(index) {
                Reply::Settled(_) => self.settled += 1,
                Reply::Refused(code, reject) => self.refused(code, reject, sent.planned(index)),
            }
        }
        self.commits += self.settled - settled_before;
        self.cross_shard += sent.take_cross_shard();
    }

    /// Counts the answers to requests about orders.
    pub(super) fn traded(&mut self, answers: &Replies, sent: &[Sent]) {
        for (index, sent) in sent.iter().enumerate() {
            match answers.reply(index) {
                Reply::Settled(_) => {
                    self.settled += 1;
                    self.commits += 1;
                    self.orders.count(*sent);
                }
                Reply::Refused(code, _) if EXPECTED.contains(&code) => {
                    *self.rejected.entry(code).or_insert(0) += 1;
                }
                Reply::Refused(code, reject) => self.refused(code, reject, None),
            }
        }
    }

    /// Keeps what was answered to some requests, or not.
    pub(super) fn was_told(&mut self, answers: &Replies, noted: &[(usize, RequestId)]) {
        for (place, id) in noted {
            let answer = match answers.reply(*place) {
                Reply::Settled(seq) => Ok(seq),
                Reply::Refused(code, _) => Err(code),
            };
            self.told.offer(Told { id: *id, answer });
        }
    }

    /// Counts a swap's `conflicts`-th conflict; says whether it is to be tried again.
    pub(super) fn met_conflict(&mut self, conflicts: u32, retries_max: u32) -> bool {
        self.conflicts += 1;
        let again = conflicts <= retries_max;
        *if again { &mut self.retries } else { &mut self.gave_up } += 1;
        again
    }

    /// Counts a refused swap. It is to be checked if there is a plan; else nothing was to be refused.
    pub(super) fn refused(
        &mut self,
        code: &'static str,
        reject: Option<&Reject>,
        planned: Option<&PlannedSwap>,
    ) {
        *self.rejected.entry(code).or_insert(0) += 1;
        match (reject, planned) {
            (Some(Reject::InsufficientFunds { account, asset, short_by, seq }), Some(planned)) => {
                let needed = Amount::new(u128::from(planned.pays(*account, *asset)));
                let (account, asset) = (*account, *asset);
                let (short_by, seq) = (*short_by, *seq);
                self.refusals.offer(RefusedSwap { account, asset, needed, short_by, seq });
            }
            _ if self.unexpected.is_none() => {
                self.unexpected = Some(reject.map_or_else(|| code.to_owned(), Reject::to_string));
            }
            _ => {}
        }
    }

    /// Records when the last submission was answered: of `swaps` swaps, due at `due_nanos`, both
    /// by the boot clock.
    pub(super) fn took(&mut self, due_nanos: u64, now_nanos: u64, swaps: u64) {
        let nanos = now_nanos.saturating_sub(due_nanos);
        self.latency.saturating_record_n(nanos, swaps);
        self.latency_recent.saturating_record_n(nanos, swaps);
        self.answered_last_nanos = self.answered_last_nanos.max(now_nanos);
    }

    /// How many swaps have ended, in any way.
    pub(super) fn ended(&self) -> u64 {
        self.settled + self.rejected_sum() + self.gave_up
    }

    /// How many swaps were refused.
    pub(super) fn rejected_sum(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Adds what another thread saw.
    pub(super) fn add(&mut self, other: Self) {
        self.latency.add(other.latency).expect("all histograms have the same bounds");
        self.latency_recent.add(other.latency_recent).expect("as above");
        self.settled += other.settled;
        self.commits += other.commits;
        self.conflicts += other.conflicts;
        self.retries += other.retries;
        self.gave_up += other.gave_up;
        for (code, count) in other.rejected {
            *self.rejected.entry(code).or_insert(0) += count;
        }
        self.cross_shard += other.cross_shard;
        self.orders.add(other.orders);
        self.told.add(other.told);
        self.refusals.add(other.refusals);
        self.unexpected = self.unexpected.take().or(other.unexpected);
        self.answered_last_nanos = self.answered_last_nanos.max(other.answered_last_nanos);
    }
}

impl OrderCounts {
    fn count(&mut self, sent: Sent) {
        self.placed += u64::from(matches!(sent, Sent::Passing | Sent::Staying));
        self.immediate += u64::from(sent == Sent::Passing);
        self.amended += u64::from(sent == Sent::Amend);
        self.canceled += u64::from(sent == Sent::Cancel);
    }

    fn add(&mut self, other: Self) {
        let Self { placed, immediate, amended, canceled } = other;
        self.placed += placed;
        self.immediate += immediate;
        self.amended += amended;
        self.canceled += canceled;
    }
}

/// A histogram of latencies in nanoseconds.
pub(super) fn empty_histogram() -> Histogram<u64> {
    let (low, high) = LATENCY_NANOS;
    Histogram::new_with_bounds(low, high, 3).expect("bounds in order")
}

/// A uniform sample of everything offered (Vitter's algorithm R), and how much that was.
#[derive(Debug)]
pub(super) struct Sample<T> {
    kept: Vec<T>,
    kept_max: usize,
    offered: u64,
    rng: SmallRng,
}

impl<T> Sample<T> {
    /// Keeps at most `kept_max`.
    pub(super) fn new(kept_max: usize, seed: u64) -> Self {
        Self { kept: Vec::new(), kept_max, offered: 0, rng: SmallRng::seed_from_u64(seed) }
    }

    /// Keeps it, instead of an earlier one, or not.
    pub(super) fn offer(&mut self, item: T) {
        self.offered += 1;
        if self.kept.len() < self.kept_max {
            self.kept.push(item);
            return;
        }
        let place = self.below(self.offered);
        if let Some(kept) = self.kept.get_mut(place) {
            *kept = item;
        }
    }

    /// How much was offered.
    pub(super) fn offered(&self) -> u64 {
        self.offered
    }

    /// What was kept, in random order, so that any beginning of it is a sample as well.
    pub(super) fn into_shuffled(mut self) -> Vec<T> {
        for end in (1..self.kept.len()).rev() {
            let place = self.below(end as u64 + 1);
            self.kept.swap(place, end);
        }
        self.kept
    }

    /// Threads send about as much as each other, so their samples simply join.
    fn add(&mut self, other: Self) {
        self.kept.extend(other.kept);
        self.offered += other.offered;
    }

    fn below(&mut self, n: u64) -> usize {
        ((u128::from(self.rng.next_u64()) * u128::from(n)) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_when_it_was_due() {
        let mut tally = Tally::new(1);
        // Due at 1 ms and every ms after, all sent late and answered at 10 ms: an open loop.
        for due in 1..=9 {
            tally.took(due * 1_000_000, 10_000_000, 100);
        }
        assert_eq!(tally.latency.len(), 900);
        assert!(tally.latency.value_at_quantile(0.5).abs_diff(5_000_000) < 10_000);
        assert!(tally.latency.max().abs_diff(9_000_000) < 10_000);
        assert_eq!(tally.answered_last_nanos, 10_000_000);
    }

    #[test]
    fn a_latency_out_of_range_is_clamped() {
        let mut tally = Tally::new(1);
        tally.took(5, 4, 1);
        tally.took(0, u64::MAX, 1);
        assert_eq!(tally.latency.len(), 2);
        assert!(tally.latency.max() >= LATENCY_NANOS.1);
    }

    #[test]
    fn refusals_are_kept_with_what_they_claim() {
        let planned = PlannedSwap {
            payer: AccountId::new(1),
            payee: AccountId::new(2),
            asset_out: AssetId::new(0),
            asset_back: AssetId::new(1),
            amount_out: 70,
            amount_back: 90,
        };
        let refused = RefusedSwap {
            account: AccountId::new(2),
            asset: AssetId::new(1),
            needed: Amount::new(90),
            short_by: Amount::new(4),
            seq: CommitSeq::new(12),
        };
        let RefusedSwap { account, asset, short_by, seq, .. } = refused;
        let reject = Reject::InsufficientFunds { account, asset, short_by, seq };
        let mut tally = Tally::new(1);
        tally.refused(reject.code(), Some(&reject), Some(&planned));
        assert_eq!(tally.unexpected, None);
        // Nobody should be short where funds are ample, nor refused for another reason ever.
        tally.refused(reject.code(), Some(&reject), None);
        tally.refused("expired", Some(&Reject::Expired), Some(&planned));
        assert_eq!(tally.unexpected, Some(reject.to_string()));
        assert_eq!(tally.rejected_sum(), 3);
        assert_eq!(tally.rejected[reject.code()], 2);
        assert_eq!(tally.refusals.into_shuffled(), [refused]);
    }

    #[test]
    fn a_swap_is_tried_again_as_often_as_it_may_be() {
        let mut tally = Tally::new(1);
        let again: Vec<_> = (1..=4).map(|nth| tally.met_conflict(nth, 3)).collect();
        assert_eq!(again, [true, true, true, false]);
        assert_eq!((tally.conflicts, tally.retries, tally.gave_up), (4, 3, 1));
        tally.settled += 1;
        assert_eq!(tally.ended(), 2);
        let mut sum = Tally::new(2);
        sum.add(tally);
        assert_eq!((sum.conflicts, sum.retries, sum.gave_up, sum.ended()), (4, 3, 1, 2));
    }

    #[test]
    fn a_sample_is_even_and_as_large_as_it_may_be() {
        let mut sample = Sample::new(1_000, 1);
        (0..100_000).for_each(|item| sample.offer(item));
        assert_eq!(sample.offered(), 100_000);
        let mut other = Sample::new(1_000, 2);
        (100_000..100_500).for_each(|item| other.offer(item));
        sample.add(other);
        let shuffled = sample.into_shuffled();
        assert_eq!(shuffled.len(), 1_500);
        let early = shuffled.iter().filter(|item| **item < 50_000).count();
        assert!((400..600).contains(&early), "{early}");
        let first = shuffled[..300].iter().filter(|item| **item >= 100_000).count();
        assert!((60..140).contains(&first), "{first}");
    }
}
