//! Versions at random: asks the version store for balances as of seqs drawn by a seed, and holds each
//! answer against the journal's.
//!
//! The multisets of [`super`] prove that the right rows are stored; this proves that they are found.
//! Only the answers expected are kept, so memory does not grow with history.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Failure, found};
use crate::store::recovery::Tail;
use crate::store::{Journal, StoreError, VersionStore};
use crate::types::{Balance, BalanceKey, BlockNumber, CommitSeq};

/// How many (balance, seq) pairs an audit asks for unless it is told otherwise.
pub const RANDOM_VERSIONS: u64 = 10_000;

/// A balance as of a seq, with the seq that made it so; `None` if it was not touched until then.
type Version = Option<(CommitSeq, Balance)>;

/// What is asked about one balance.
#[derive(Default)]
struct Questions {
    /// Seqs to ask for, ascending.
    seqs: Vec<CommitSeq>,
    /// What the journal says as of the first of them.
    expected: Vec<Version>,
    /// As of the last row that was seen.
    now: Version,
}

impl Questions {
    /// The balance changes at `seq`: whatever is asked of before has its answer.
    fn change(&mut self, seq: CommitSeq, balance: Balance) {
        self.answer_before(seq);
        self.now = Some((seq, balance));
    }

    fn answer_before(&mut self, seq: CommitSeq) {
        let next = self.expected.len();
        let answered = self.seqs[next..].iter().take_while(|asked| **asked < seq).count();
        self.expected.resize(next + answered, self.now);
    }
}

/// Compares `pairs` random (balance, seq) pairs, drawn by `seed`, with the journal; returns how many
/// were compared. Seqs are those that the store can be asked for; there may be no balances to ask of.
///
/// # Errors
/// The lowest seq of the first balance, by account and asset, that is not what the journal says; that
/// the journal is damaged; what the disk says.
pub fn check_random_versions(
    journal: &dyn Journal,
    store: &dyn VersionStore,
    pairs: u64,
    seed: u64,
) -> Result<u64, Failure> {
    let (first, last) = (store.horizon()?, store.applied()?.versions.seq);
    let mut keys: BTreeSet<BalanceKey> = BTreeSet::new();
    store.latest(&mut |key, _, _| {
        keys.insert(key);
    })?;
    if keys.is_empty() || first > last {
        return Ok(0);
    }
    let keys: Vec<BalanceKey> = keys.into_iter().collect();
    let mut random = SmallRng::seed_from_u64(seed);
    let mut asked: BTreeMap<BalanceKey, Questions> = BTreeMap::new();
    for _ in 0..pairs {
        let key = keys[random.random_range(0..keys.len())];
        let seq = CommitSeq::new(random.random_range(first.get()..=last.get()));
        asked.entry(key).or_default().seqs.push(seq);
    }
    asked.values_mut().for_each(|questions| questions.seqs.sort_unstable());
    replay(journal, &mut asked, last)?;
    for (key, questions) in &asked {
        ask(store, *key, questions)?;
    }
    Ok(pairs)
}

/// Finds out what the journal says.
fn replay(
    journal: &dyn Journal,
    asked: &mut BTreeMap<BalanceKey, Questions>,
    last: CommitSeq,
) -> Result<(), StoreError> {
    let mut tail = Tail::open(journal, BlockNumber::default())?;
    while tail.at.seq < last
        && let Some(block) = tail.read_next()?
    {
        block.visit_rows(|seq, key, after| {
            if let Some(questions) = asked.get_mut(&key) {
                questions.change(seq, after);
            }
        });
    }
    let end = last.next();
    asked.values_mut().for_each(|questions| questions.answer_before(end));
    Ok(())
}

fn ask(store: &dyn VersionStore, key: BalanceKey, questions: &Questions) -> Result<(), Failure> {
    for (seq, expected) in questions.seqs.iter().zip(&questions.expected) {
        let stored = store.get_at(key, *seq)?;
        if stored != *expected {
            let BalanceKey { account, asset } = key;
            let version = |it: Version| it.map_or("never touched".into(), said);
            let what = format!(
                "asset {asset} of account {account} is {} in the version store as of this seq, and \
                 {} by the journal",
                version(stored),
                version(*expected)
            );
            return Err(found(*seq, what));
        }
    }
    Ok(())
}

fn said((seq, balance): (CommitSeq, Balance)) -> String {
    format!("{} + {} (of seq {seq})", balance.available, balance.held)
}
