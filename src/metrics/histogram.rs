//! Histograms that take one measurement for a whole batch.
//!
//! The exporter's own histograms keep every sample until they are drained, and weigh a sample by
//! storing it that many times over. Here `record_many(value, n)` is two atomic additions,
//! whatever `n` is: one on the bucket, one on the sum.
//!
//! Invariants
//! * `_count` is the sum of the buckets as they were read, so `+Inf` always equals it.
//! * Nothing is ever lost between threads; `_sum` may lead or trail `_count` by what is being
//!   recorded at the moment of reading.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{HistogramFn, Key};

use super::table::{Kind, METRICS, Metric};

/// One series: counts per bucket, and the sum of all values.
#[derive(Debug)]
pub(super) struct WeightedHistogram {
    bounds: &'static [f64],
    /// One per bound, and the last one for whatever lies above all of them. Not cumulative.
    buckets: Box<[AtomicU64]>,
    /// Bits of an `f64`.
    sum: AtomicU64,
}

impl WeightedHistogram {
    /// Nothing recorded; `bounds` ascend.
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum: AtomicU64::new(0f64.to_bits()) }
    }

    fn add(&self, value: f64, n: u64) {
        // A sum that once was NaN stays NaN.
        if n == 0 || value.is_nan() {
            return;
        }
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(n, Ordering::Relaxed);
        let more = value * n as f64;
        let mut seen = self.sum.load(Ordering::Relaxed);
        loop {
            let sum = (f64::from_bits(seen) + more).to_bits();
            match self.sum.compare_exchange_weak(seen, sum, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Writes the series as Prometheus text. `labels` is empty or like `kind="swap"`.
    fn write(&self, name: &str, labels: &str, out: &mut String) -> std::fmt::Result {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            match self.bounds.get(index) {
                Some(le) => writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{le}\"}} {count}")?,
                None => writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}")?,
            }
        }
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        writeln!(out, "{name}_sum{braced} {sum}\n{name}_count{braced} {count}")
    }
}

impl HistogramFn for WeightedHistogram {
    fn record(&self, value: f64) {
        self.add(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        self.add(value, count as u64);
    }
}

/// Every series of every histogram, by place in the table and labels.
#[derive(Debug, Default)]
pub(super) struct Histograms {
    series: Mutex<Series>,
}

/// By place in the table and labels.
type Series = BTreeMap<(usize, String), Arc<WeightedHistogram>>;

impl Histograms {
    /// The series of `key`: the same for the same name and labels. `None` if the table has no
    /// such histogram.
    pub(super) fn series(&self, key: &Key) -> Option<Arc<WeightedHistogram>> {
        let named = |metric: &Metric| metric.name == key.name() && metric.kind == Kind::Histogram;
        let place = METRICS.iter().position(named)?;
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let series = all
            .entry((place, labels_text(key)))
            .or_insert_with(|| Arc::new(WeightedHistogram::new(METRICS[place].buckets)));
        Some(Arc::clone(series))
    }

    /// Writes all of them as Prometheus text.
    pub(super) fn write(&self, out: &mut String) -> std::fmt::Result {
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = None;
        for ((place, labels), series) in &*all {
            let metric = &METRICS[*place];
            if last != Some(place) {
                metric.write_header(out);
                last = Some(place);
            }
            series.write(metric.name, labels, out)?;
        }
        Ok(())
    }
}

/// `kind="swap",outcome="settled"`, escaped as Prometheus' text format wants it.
fn labels_text(key: &Key) -> String {
    let escape =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels = key.labels().map(|label| format!("{}=\"{}\"", label.key(), escape(label.value())));
    labels.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use metrics::Label;

    use super::*;

    const BOUNDS: &[f64] = &[0.5, 1.0, 2.5];

    fn text(histogram: &WeightedHistogram) -> String {
        let mut out = String::new();
        histogram.write("m", "a=\"b\"", &mut out).expect("strings take everything");
        out
    }

    #[test]
    fn buckets_are_cumulative_and_bounds_inclusive() {
        let histogram = WeightedHistogram::new(BOUNDS);
        histogram.record_many(0.5, 3);
        histogram.record(0.75);
        histogram.record_many(2.5, 10);
        histogram.record_many(64.0, 2);
        histogram.record_many(7.0, 0);
        histogram.record(f64::NAN);
        assert_eq!(
            text(&histogram),
            "m_bucket{a=\"b\",le=\"0.5\"} 3\n\
             m_bucket{a=\"b\",le=\"1\"} 4\n\
             m_bucket{a=\"b\",le=\"2.5\"} 14\n\
             m_bucket{a=\"b\",le=\"+Inf\"} 16\n\
             m_sum{a=\"b\"} 155.25\n\
             m_count{a=\"b\"} 16\n"
        );
    }

    #[test]
    fn without_labels_there_are_no_empty_braces() {
        let mut out = String::new();
        let histogram = WeightedHistogram::new(&[1.0]);
        histogram.write("m", "", &mut out).expect("strings take everything");
        assert_eq!(out, "m_bucket{le=\"1\"} 0\nm_bucket{le=\"+Inf\"} 0\nm_sum 0\nm_count 0\n");
    }

    #[test]
    fn two_threads_lose_nothing() {
        const CALLS: u64 = 1_000_000;
        let histogram = WeightedHistogram::new(BOUNDS);
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            // Powers of two, so that the sum is exact in any order; both in one bucket.
            for value in [0.25, 0.5] {
                let (histogram, start) = (&histogram, &start);
                scope.spawn(move || {
                    start.wait();
                    (0..CALLS).for_each(|_| histogram.record_many(value, 4));
                });
            }
        });
        let (count, sum) = (8 * CALLS, 3 * CALLS);
        assert_eq!(
            text(&histogram),
            format!(
                "m_bucket{{a=\"b\",le=\"0.5\"}} {count}\n\
                 m_bucket{{a=\"b\",le=\"1\"}} {count}\n\
                 m_bucket{{a=\"b\",le=\"2.5\"}} {count}\n\
                 m_bucket{{a=\"b\",le=\"+Inf\"}} {count}\n\
                 m_sum{{a=\"b\"}} {sum}\n\
                 m_count{{a=\"b\"}} {count}\n"
            )
        );
    }

    #[test]
    fn labels_are_escaped() {
        let key = Key::from_parts("m", vec![Label::new("a", "x\"y\\z\n"), Label::new("b", "1")]);
        assert_eq!(labels_text(&key), r#"a="x\"y\\z\n",b="1""#);
    }

    #[test]
    fn only_histograms_of_the_table_have_series() {
        let all = Histograms::default();
        assert!(all.series(&Key::from_name("crosslatch_fsync_seconds")).is_some());
        assert!(all.series(&Key::from_name("crosslatch_durable_seq")).is_none());
        assert!(all.series(&Key::from_name("someone_elses_seconds")).is_none());
    }
}
