//! How a load went over time: a bounded list of samples, which grow coarser as it gets longer.

use serde::Serialize;

/// Samples that are kept; of more, neighbours are merged.
const SAMPLES_MAX: usize = 1_024;

/// What was answered in one interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Sample {
    /// When the interval ended, from when sending began.
    pub(super) seconds: f64,
    /// How long it was.
    pub(super) over_seconds: f64,
    /// Swaps that ended in it, in any way.
    pub(super) ended_per_second: f64,
    /// Of these, those that settled.
    pub(super) settled_per_second: f64,
    /// Of these, those that were refused.
    pub(super) rejected_per_second: f64,
    /// Latencies of what was answered in it. Where intervals were merged, the larger ones.
    pub(super) p50_ms: f64,
    /// As above.
    pub(super) p99_ms: f64,
    /// As above.
    pub(super) max_ms: f64,
}

impl Sample {
    /// This and the next one as one.
    fn merged(self, next: Self) -> Self {
        let over_seconds = self.over_seconds + next.over_seconds;
        let mean = |of: fn(&Self) -> f64| {
            let sum = of(&self) * self.over_seconds + of(&next) * next.over_seconds;
            if over_seconds > 0.0 { sum / over_seconds } else { 0.0 }
        };
        Self {
            seconds: next.seconds,
            over_seconds,
            ended_per_second: mean(|it| it.ended_per_second),
            settled_per_second: mean(|it| it.settled_per_second),
            rejected_per_second: mean(|it| it.rejected_per_second),
            p50_ms: self.p50_ms.max(next.p50_ms),
            p99_ms: self.p99_ms.max(next.p99_ms),
            max_ms: self.max_ms.max(next.max_ms),
        }
    }
}

/// Samples in the order of time.
#[derive(Clone, Debug)]
pub(super) struct Series {
    samples: Vec<Sample>,
    /// How many intervals make one sample by now.
    merged: usize,
    /// Intervals in the last sample.
    in_last: usize,
}

impl Series {
    /// Nothing yet.
    pub(super) const fn new() -> Self {
        Self { samples: Vec::new(), merged: 1, in_last: 0 }
    }

    /// Adds an interval.
    pub(super) fn add(&mut self, sample: Sample) {
        match self.samples.last_mut() {
            Some(last) if self.in_last < self.merged => {
                *last = last.merged(sample);
                self.in_last += 1;
            }
            _ => {
                self.samples.push(sample);
                self.in_last = 1;
            }
        }
        if self.samples.len() > SAMPLES_MAX {
            self.halve();
        }
    }

    fn halve(&mut self) {
        let pairs = self.samples.chunks(2);
        let merge = |pair: &[Sample]| pair.iter().copied().reduce(Sample::merged);
        let halved: Vec<Sample> = pairs.filter_map(merge).collect();
        if !self.samples.len().is_multiple_of(2) {
            // The last one stands alone: what it lacks is still to come.
            self.in_last = self.in_last.min(self.merged);
        } else {
            self.in_last += self.merged;
        }
        self.samples = halved;
        self.merged *= 2;
    }

    /// All samples.
    pub(super) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(number: u32) -> Sample {
        Sample {
            seconds: f64::from(number + 1),
            over_seconds: 1.0,
            ended_per_second: f64::from(number),
            settled_per_second: f64::from(number),
            rejected_per_second: 0.0,
            p50_ms: 1.0,
            p99_ms: f64::from(number),
            max_ms: 3.0,
        }
    }

    #[test]
    fn few_samples_are_kept_as_they_are() {
        let mut series = Series::new();
        (0..10).for_each(|number| series.add(sample(number)));
        assert_eq!(series.into_samples(), (0..10).map(sample).collect::<Vec<_>>());
    }

    #[test]
    fn many_samples_are_merged_and_none_is_lost() {
        for count in [1_025_u32, 2_047, 2_048, 2_049, 5_000, 100_001] {
            let mut series = Series::new();
            (0..count).for_each(|number| series.add(sample(number)));
            let samples = series.into_samples();
            assert!(samples.len() <= SAMPLES_MAX && samples.len() > SAMPLES_MAX / 2 - 1, "{count}");
            let seconds: f64 = samples.iter().map(|it| it.over_seconds).sum();
            assert!((seconds - f64::from(count)).abs() < 1e-6, "{count}: {seconds}");
            let ended: f64 = samples.iter().map(|it| it.ended_per_second * it.over_seconds).sum();
            let expected = f64::from(count) * f64::from(count - 1) / 2.0;
            assert!((ended - expected).abs() < expected * 1e-9, "{count}: {ended}");
            assert!(samples.windows(2).all(|pair| pair[0].seconds < pair[1].seconds));
            let (first, rest) = samples.split_first().expect("many");
            let same = rest
                .iter()
                .rev()
                .skip(1)
                .all(|it| (it.over_seconds - first.over_seconds).abs() < 1e-6);
            assert!(same, "all but the last are of one length");
        }
    }
}
