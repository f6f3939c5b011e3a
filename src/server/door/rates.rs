//! How often, and how much at once: per key, and failures per address.
//!
//! A rate is one number, the time at which everything taken so far is paid for (GCRA). Who is less
//! than a second ahead of it may take more; a batch may go into debt, which the next ones wait for, so
//! that the mean holds whatever the size of batches. All times are nanoseconds of the boot clock.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use dashmap::DashMap;

use crate::access::{KeyLimits, KeyNumber};
use crate::config::{EdgeLimits, FAILED_ADDRESSES_MAX};

use super::super::listener::source;

const SECOND_NANOS: u64 = 1_000_000_000;

/// How far somebody is ahead of a rate.
#[derive(Debug, Default)]
struct Pace {
    paid_at: AtomicU64,
}

impl Pace {
    /// Takes `n` at `now`, of so many a second and in a burst.
    ///
    /// # Errors
    /// Nanoseconds until there is something to take.
    fn take(&self, now: u64, n: u64, per_second: u32, burst: u32) -> Result<(), u64> {
        let each = SECOND_NANOS / u64::from(per_second.max(1));
        let ahead_max = each.saturating_mul(u64::from(burst.max(1)) - 1);
        let taken = self.paid_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid_at| {
            let begin = paid_at.max(now);
            let fits = begin - now <= ahead_max;
            fits.then(|| begin.saturating_add(each.saturating_mul(n)))
        });
        taken.map(drop).map_err(|paid_at| paid_at.saturating_sub(now).saturating_sub(ahead_max))
    }

    fn is_paid(&self, now: u64) -> bool {
        self.paid_at.load(Ordering::Relaxed) <= now
    }
}

/// What a key uses now.
#[derive(Debug, Default)]
pub struct KeyUse {
    pace: Pace,
    in_flight: AtomicU32,
}

/// Requests of a key that are in flight, until this is dropped.
#[derive(Debug)]
pub struct InFlight {
    of: Arc<KeyUse>,
    n: u32,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.of.in_flight.fetch_sub(self.n, Ordering::Relaxed);
    }
}

/// Why a key has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMuch {
    /// It asks too often; nanoseconds until it may again.
    Rate(u64),
    /// Too much of it is in flight.
    InFlight,
}

impl KeyUse {
    /// Takes `n` requests at `now` under those limits.
    ///
    /// # Errors
    /// Which of them is reached; nothing was taken.
    pub fn take(
        this: &Arc<Self>,
        now: u64,
        n: u32,
        limits: &KeyLimits,
    ) -> Result<InFlight, TooMuch> {
        let max = if limits.in_flight == 0 { u32::MAX } else { limits.in_flight };
        let room = |flying: u32| flying.checked_add(n).filter(|flying| *flying <= max);
        let entered = this.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        entered.map_err(|_| TooMuch::InFlight)?;
        let flying = InFlight { of: Arc::clone(this), n };
        let rate = limits.requests_per_second;
        if rate != 0 {
            this.pace.take(now, n.into(), rate, rate).map_err(TooMuch::Rate)?;
        }
        Ok(flying)
    }
}

/// What all keys use.
#[derive(Debug, Default)]
pub struct KeyUses(DashMap<KeyNumber, Arc<KeyUse>>);

impl KeyUses {
    /// What that key uses.
    pub fn of(&self, key: KeyNumber) -> Arc<KeyUse> {
        if let Some(found) = self.0.get(&key) {
            return Arc::clone(&found);
        }
        Arc::clone(&self.0.entry(key).or_default())
    }
}

/// Failed authentications by address.
#[derive(Debug)]
pub struct Failures {
    paces: DashMap<IpAddr, Pace>,
    /// For all addresses for which there is no room.
    others: Pace,
    swept_at: AtomicU64,
    per_second: u32,
    burst: u32,
}

impl Failures {
    /// None yet.
    pub fn new(limits: &EdgeLimits) -> Self {
        Self {
            paces: DashMap::new(),
            others: Pace::default(),
            swept_at: AtomicU64::new(0),
            per_second: limits.failures_per_second_max,
            burst: limits.failures_burst_max,
        }
    }

    /// Somebody there failed.
    ///
    /// # Errors
    /// That was too often; nanoseconds until it is not.
    pub fn add(&self, now: u64, address: IpAddr) -> Result<(), u64> {
        let address = source(address);
        let take = |pace: &Pace| pace.take(now, 1, self.per_second, self.burst);
        if let Some(pace) = self.paces.get(&address) {
            return take(&pace);
        }
        if self.paces.len() >= FAILED_ADDRESSES_MAX {
            self.sweep(now);
        }
        if self.paces.len() >= FAILED_ADDRESSES_MAX {
            return take(&self.others);
        }
        take(&self.paces.entry(address).or_default())
    }

    /// Forgets who has not failed of late; at most once a second, as it looks at all.
    fn sweep(&self, now: u64) {
        let last = self.swept_at.swap(now, Ordering::Relaxed);
        if now.saturating_sub(last) >= SECOND_NANOS {
            self.paces.retain(|_, pace| !pace.is_paid(now));
        } else {
            self.swept_at.store(last, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 5 * SECOND_NANOS;

    #[test]
    fn a_rate_holds_in_the_mean_and_lets_a_burst_pass() {
        let pace = Pace::default();
        let take = |now| pace.take(now, 1, 10, 10);
        let taken = (0..100).filter(|_| take(START).is_ok()).count();
        assert_eq!(taken, 10, "a burst");
        assert_eq!(take(START), Err(SECOND_NANOS / 10));
        assert_eq!(take(START + SECOND_NANOS / 10), Ok(()));
        assert!(take(START + SECOND_NANOS / 10).is_err());
        let tenths = (1..=1_000).map(|n| START + SECOND_NANOS + n * SECOND_NANOS / 100);
        let taken = tenths.filter(|now| take(*now).is_ok()).count();
        assert!((109..=111).contains(&taken), "{taken} in ten seconds after a burst was saved");
    }

    #[test]
    fn a_batch_goes_into_debt() {
        let pace = Pace::default();
        assert_eq!(pace.take(START, 100, 10, 10), Ok(()));
        let wait = pace.take(START, 1, 10, 10).expect_err("ten seconds of it");
        assert!(pace.take(START + wait - 1, 1, 10, 10).is_err());
        assert_eq!(pace.take(START + wait, 1, 10, 10), Ok(()));
    }

    #[test]
    fn what_is_in_flight_is_given_back() {
        let of = Arc::new(KeyUse::default());
        let limits = KeyLimits { in_flight: 3, ..KeyLimits::default() };
        let take = |n| KeyUse::take(&of, START, n, &limits);
        let two = take(2).expect("room");
        assert_eq!(take(2).expect_err("full"), TooMuch::InFlight);
        let one = take(1).expect("room");
        assert!(take(1).is_err());
        drop(two);
        drop(one);
        assert!(take(3).is_ok());
        assert!(take(4).is_err(), "that never fits");
        assert_eq!(of.in_flight.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_is_refused_for_the_rate_flies_not() {
        let of = Arc::new(KeyUse::default());
        let limits = KeyLimits { requests_per_second: 1, ..KeyLimits::default() };
        assert!(KeyUse::take(&of, START, 1, &limits).is_ok());
        assert!(matches!(KeyUse::take(&of, START, 1, &limits), Err(TooMuch::Rate(_))));
        assert_eq!(of.in_flight.load(Ordering::Relaxed), 0);
        let free = KeyLimits::default();
        assert!((0..1_000).all(|_| KeyUse::take(&of, START, 1, &free).is_ok()), "0 is no limit");
    }

    #[test]
    fn failures_are_counted_by_address_in_bounded_memory() {
        let failures =
            Failures::new(&EdgeLimits { failures_burst_max: 2, ..EdgeLimits::default() });
        let add = |now, n: u32| failures.add(now, IpAddr::from(n.to_be_bytes()));
        assert!(add(START, 1).is_ok() && add(START, 1).is_ok() && add(START, 1).is_err());
        for n in 2..100_000 {
            let _ = add(START, n);
        }
        assert_eq!(failures.paces.len(), FAILED_ADDRESSES_MAX);
        assert!(add(START, 7_777_777).is_err(), "the others have one pace together");
        assert!(add(START + 100 * SECOND_NANOS, 7_777_777).is_ok());
        assert_eq!(failures.paces.len(), 1, "who failed long ago is forgotten");
    }
}
