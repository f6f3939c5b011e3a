//! How many series a metric has, at most: what a Prometheus that scrapes it must find room for.

use super::{Kind, Label, Metric, Values};
use crate::config::SHARDS_MAX;

/// Actors that are numbered, each of which has at most [`SHARDS_MAX`]: shards and market actors.
const NUMBERED: [&str; 2] = ["shard", "market"];

impl Metric {
    /// How many series it has, in words: `69`, or `2 per market`.
    pub fn cardinality(&self) -> String {
        let times = self.listed() * self.series_per_set();
        let open =
            || self.labels.iter().filter(|label| matches!(label.values, Values::Open { .. }));
        if let Some(unnumbered) = self.unnumbered() {
            return format!("{unnumbered}, 1 per shard and market actor");
        }
        match open().next() {
            None => times.to_string(),
            Some(Label { values: Values::Open { max: 1, .. }, .. }) => "1".into(),
            Some(label) => format!("{times} per {}", label.name.replace('_', " ")),
        }
    }

    /// Most series that a process may have of it.
    pub fn series_max(&self) -> usize {
        if let Some(unnumbered) = self.unnumbered() {
            return unnumbered + NUMBERED.len() * SHARDS_MAX;
        }
        let open = self.labels.iter().map(|label| match label.values {
            Values::Open { max, .. } => max,
            Values::Listed(_) => 1,
        });
        self.listed() * open.product::<usize>() * self.series_per_set()
    }

    /// Combinations of the values that are listed; a build has one profile.
    fn listed(&self) -> usize {
        let listed = self.labels.iter().map(|label| match label.values {
            Values::Listed(values) if label.name != "profile" => values.len(),
            _ => 1,
        });
        listed.product()
    }

    /// Of a metric of actors, those that have no number.
    fn unnumbered(&self) -> Option<usize> {
        let actors = self.labels.iter().find(|label| label.name == "actor")?;
        let Values::Listed(actors) = actors.values else { return None };
        Some(actors.iter().filter(|actor| !NUMBERED.contains(actor)).count())
    }

    /// Series for each combination of labels: a histogram has one a bucket, that of +Inf, sum and count.
    fn series_per_set(&self) -> usize {
        if self.kind == Kind::Histogram { self.buckets.len() + 3 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;

    #[test]
    fn listed_labels_multiply_and_open_ones_are_named() {
        let of = |metric: &Metric| (metric.cardinality(), metric.series_max());
        assert_eq!(of(&HOLDS), ("1".into(), 1));
        assert_eq!(of(&VOTE), ("5".into(), 5));
        assert_eq!(of(&FSYNC_SECONDS), ("24".into(), 24));
        assert_eq!(of(&API_SECONDS), ("42".into(), 42));
        assert_eq!(of(&BEST_PRICE), ("2 per market".into(), 2 * MARKETS_MAX));
        assert_eq!(of(&BUILD_INFO), ("1".into(), 1));
        let numbered = 2 * SHARDS_MAX;
        assert_eq!(of(&MAILBOX), ("3, 1 per shard and market actor".into(), 3 + numbered));
        assert_eq!(of(&THREAD_CPU), ("4, 1 per shard and market actor".into(), 4 + numbered));
    }
}
