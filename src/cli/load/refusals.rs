//! Every refusal claims something: at that seq, the balance was short by so much. Is it true?
//!
//! Read back from the version store as of that seq, which neither the shard that refused nor the
//! journal block that recorded it had any part in.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use serde::Serialize;

use crate::clock::{Clock, SystemClock};
use crate::engine::Engine;
use crate::error::Error;
use crate::types::Amount;

use super::tally::{RefusedSwap, Sample};

/// Refusals that are checked at most.
const CHECKED_MAX: usize = 4_000_000;
/// How long that may take.
const CHECKING_MAX: Duration = Duration::from_secs(60);
/// Threads that read.
const THREADS: usize = 2;
/// Refusals between two looks at the clock.
const CHUNK: usize = 256;

/// What the check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct RefusalsChecked {
    /// Refusals for lack of funds in all.
    pub(super) refusals: u64,
    /// Those that were checked: all of them, or a random sample.
    pub(super) checked: u64,
    /// Those whose claim is not true. Must be 0.
    pub(super) wrong: u64,
    /// The first one of these.
    pub(super) first_wrong: Option<String>,
}

/// Checks the claims; the version store must have caught up.
///
/// # Errors
/// A balance that cannot be read.
pub(super) fn check(
    engine: &Engine,
    sample: Sample<RefusedSwap>,
) -> Result<RefusalsChecked, Error> {
    let refusals = sample.offered();
    let mut claims = sample.into_shuffled();
    claims.truncate(CHECKED_MAX);
    let ends_nanos = SystemClock.boot_nanos() + CHECKING_MAX.as_nanos() as u64;
    let chunks = Mutex::new(claims.chunks(CHUNK));
    let next = || chunks.lock().unwrap_or_else(PoisonError::into_inner).next();
    let check_some = || {
        let mut found = RefusalsChecked::default();
        while SystemClock.boot_nanos() < ends_nanos {
            let Some(claims) = next() else {
                break;
            };
            for claim in claims {
                found.count(claim, available(engine, claim)?);
            }
        }
        Ok(found)
    };
    let parts: Vec<Result<RefusalsChecked, Error>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..THREADS).map(|_| scope.spawn(check_some)).collect();
        let own = check_some();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.chain([own]).collect()
    });
    let mut sum = RefusalsChecked { refusals, ..RefusalsChecked::default() };
    for part in parts {
        let part = part?;
        sum.checked += part.checked;
        sum.wrong += part.wrong;
        sum.first_wrong = sum.first_wrong.or(part.first_wrong);
    }
    Ok(sum)
}

/// The same check, by a caller that reads balances itself, one by one: of a server.
pub(super) struct Checking {
    claims: std::vec::IntoIter<RefusedSwap>,
    found: RefusalsChecked,
    ends_nanos: u64,
}

impl Checking {
    /// Nothing checked yet.
    pub(super) fn new(sample: Sample<RefusedSwap>) -> Self {
        let found = RefusalsChecked { refusals: sample.offered(), ..RefusalsChecked::default() };
        let ends_nanos = SystemClock.boot_nanos() + CHECKING_MAX.as_nanos() as u64;
        Self { claims: sample.into_shuffled().into_iter(), found, ends_nanos }
    }

    /// The next claim to check, while there is time.
    pub(super) fn next(&mut self) -> Option<RefusedSwap> {
        if SystemClock.boot_nanos() < self.ends_nanos { self.claims.next() } else { None }
    }

    /// What there was at the seq of a claim.
    pub(super) fn count(&mut self, claim: &RefusedSwap, available: Amount) {
        self.found.count(claim, available);
    }

    /// What came of it.
    pub(super) fn found(self) -> RefusalsChecked {
        self.found
    }
}

impl RefusalsChecked {
    fn count(&mut self, claim: &RefusedSwap, available: Amount) {
        self.checked += 1;
        if claim.short_by > Amount::ZERO
            && available.checked_add(claim.short_by) == Some(claim.needed)
        {
            return;
        }
        self.wrong += 1;
        self.first_wrong.get_or_insert_with(|| {
            let RefusedSwap { account, asset, needed, short_by, seq } = claim;
            format!(
                "account {account} was refused {needed} of asset {asset} as short by {short_by} \
                 at seq {seq}, where it has {available}"
            )
        });
    }
}

fn available(engine: &Engine, claim: &RefusedSwap) -> Result<Amount, Error> {
    let then = engine.balances_at(claim.account, claim.seq)?;
    let of_asset = then.balances.iter().find(|it| it.asset == claim.asset);
    Ok(of_asset.map_or(Amount::ZERO, |it| it.balance.available))
}

#[cfg(test)]
mod tests {
    use crate::types::{AccountId, AssetId, CommitSeq};

    use super::*;

    #[test]
    fn a_claim_is_true_when_exactly_that_much_was_missing() {
        let claim = RefusedSwap {
            account: AccountId::new(4),
            asset: AssetId::new(1),
            needed: Amount::new(100),
            short_by: Amount::new(30),
            seq: CommitSeq::new(9),
        };
        let mut found = RefusalsChecked::default();
        found.count(&claim, Amount::new(70));
        assert_eq!((found.checked, found.wrong), (1, 0));
        for available in [69, 71, 100, 0] {
            found.count(&claim, Amount::new(available));
        }
        assert_eq!((found.checked, found.wrong), (5, 4));
        assert!(found.first_wrong.as_ref().is_some_and(|it| it.ends_with("where it has 69")));
        let nothing_missing = RefusedSwap { short_by: Amount::ZERO, ..claim };
        found.count(&nothing_missing, Amount::new(100));
        assert_eq!(found.wrong, 5);
    }
}
