//! What the engine's own metrics say, read as a scraper would, as difference of two readings.
//!
//! The report takes its waits, stages, fsyncs and group sizes from here, so it cannot disagree
//! with what `/metrics` shows.

use std::collections::HashMap;

use crate::metrics::Exporter;

/// Every series with its value, as of one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    /// By name with labels, as it stands in the text.
    series: HashMap<String, f64>,
}

/// Mean and quantiles of a histogram, in its own unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Distribution {
    /// Observations.
    pub(super) count: u64,
    /// Their mean; 0 of none.
    pub(super) mean: f64,
    /// Half are at or below this, by interpolation in its bucket.
    pub(super) p50: f64,
    /// 99 of 100 are at or below this.
    pub(super) p99: f64,
}

impl Reading {
    /// Reads everything now.
    pub(super) fn take(exporter: &Exporter) -> Self {
        Self::parse(&exporter.render())
    }

    /// Reads it in Prometheus' text.
    pub(super) fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Self { series: samples.collect() }
    }

    /// The growth of every series since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let grown = |(series, now): (&String, &f64)| {
            (series.clone(), now - before.series.get(series).copied().unwrap_or(0.0))
        };
        Self { series: self.series.iter().map(grown).collect() }
    }

    /// The sum of the series of a metric whose labels contain `label`; all of them for `""`.
    pub(super) fn sum(&self, metric: &str, label: &str) -> f64 {
        self.of(metric, label).map(|(_, value)| value).sum()
    }

    /// What a histogram's series with this label (or the only one, for `""`) came to.
    pub(super) fn distribution(&self, metric: &str, label: &str) -> Distribution {
        let count = self.sum(&format!("{metric}_count"), label);
        if count < 0.5 {
            return Distribution::default();
        }
        let mut buckets: Vec<(f64, f64)> = self
            .of(&format!("{metric}_bucket"), label)
            .filter_map(|(labels, value)| Some((upper_bound(labels)?, value)))
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Distribution {
            count: count as u64,
            mean: self.sum(&format!("{metric}_sum"), label) / count,
            p50: quantile(&buckets, count * 0.5),
            p99: quantile(&buckets, count * 0.99),
        }
    }

    fn of<'a>(
        &'a self,
        metric: &'a str,
        label: &'a str,
    ) -> impl Iterator<Item = (&'a str, f64)> + 'a {
        self.series.iter().filter_map(move |(series, value)| {
            let labels = series.strip_prefix(metric)?;
            let same = labels.is_empty() || labels.starts_with('{');
            (same && labels.contains(label)).then_some((labels, *value))
        })
    }
}

/// The `le` of a bucket.
fn upper_bound(labels: &str) -> Option<f64> {
    let (_, bound) = labels.split_once("le=\"")?;
    match bound.split_once('"')?.0 {
        "+Inf" => Some(f64::INFINITY),
        bound => bound.parse().ok(),
    }
}

/// Where the `rank`-th observation lies, as Prometheus works it out: evenly spread in its bucket.
fn quantile(buckets: &[(f64, f64)], rank: f64) -> f64 {
    let (mut low, mut below) = (0.0, 0.0);
    for &(high, count) in buckets {
        if count >= rank && count > below {
            let bounded = high.is_finite();
            return if bounded {
                low + (high - low) * (rank - below) / (count - below)
            } else {
                low
            };
        }
        (low, below) = (high, count);
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "# HELP w waits\n# TYPE w counter\n\
        w{kind=\"balance_wait\"} 5\nw{kind=\"busy\"} 1\nw_others 100\n\
        h_bucket{stage=\"queue\",le=\"1\"} 0\nh_bucket{stage=\"queue\",le=\"2\"} 10\n\
        h_bucket{stage=\"queue\",le=\"+Inf\"} 10\nh_sum{stage=\"queue\"} 15\nh_count{stage=\"queue\"} 10\n";
    const AFTER: &str = "w{kind=\"balance_wait\"} 25\nw{kind=\"busy\"} 2\nw_others 900\n\
        h_bucket{stage=\"queue\",le=\"1\"} 50\nh_bucket{stage=\"queue\",le=\"2\"} 110\n\
        h_bucket{stage=\"queue\",le=\"+Inf\"} 110\nh_sum{stage=\"queue\"} 165\nh_count{stage=\"queue\"} 110\n\
        other_count 3\n";

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn growth_is_summed_over_the_series_of_one_metric() {
        let grown = Reading::parse(AFTER).since(&Reading::parse(BEFORE));
        assert!(close(grown.sum("w", "kind=\"balance_wait\""), 20.0));
        assert!(close(grown.sum("w", ""), 21.0));
        assert!(close(grown.sum("other_count", ""), 3.0));
        assert!(close(grown.sum("nothing", ""), 0.0));
    }

    #[test]
    fn quantiles_lie_inside_their_bucket() {
        let grown = Reading::parse(AFTER).since(&Reading::parse(BEFORE));
        let queue = grown.distribution("h", "stage=\"queue\"");
        assert_eq!(queue.count, 100);
        assert!(close(queue.mean, 1.5) && close(queue.p50, 1.0) && close(queue.p99, 1.98));
        assert_eq!(grown.distribution("h", "stage=\"none\""), Distribution::default());
        assert!(close(quantile(&[(1.0, 2.0), (f64::INFINITY, 5.0)], 4.0), 1.0));
        assert!(close(quantile(&[(1.0, 0.0), (4.0, 3.0)], 1.0), 2.0));
    }
}
