//! What two looks at a server's metrics come to: rates, latencies, and how things stand.
//!
//! Pure. A counter that went back is one that began anew: the server was restarted in between.

use std::collections::BTreeMap;

use serde::Serialize;

use super::prometheus::{Labels, Page};

/// Metrics, and when they were fetched.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// What was said.
    pub(crate) page: Page,
    /// When, in nanoseconds of a clock that does not go back.
    pub(crate) at_nanos: u64,
}

/// A counter: all of it, and how quickly it grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Counted {
    /// Since the server started.
    pub(crate) total: u64,
    /// Since the look before; nothing where there was none.
    pub(crate) per_second: Option<f64>,
}

/// Latencies of what happened since the look before; nothing where nothing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// Half took no longer, in milliseconds.
    pub(crate) p50_ms: Option<f64>,
    /// Of a hundred, 99 took no longer.
    pub(crate) p99_ms: Option<f64>,
}

/// Requests of a kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Requests {
    /// The kind, as in `swap`.
    pub(crate) kind: String,
    /// Done.
    pub(crate) settled: Counted,
    /// Refused.
    pub(crate) rejected: Counted,
    /// Without an answer.
    pub(crate) failed: Counted,
    /// From accepted to answered.
    #[serde(flatten)]
    pub(crate) latency: Latency,
}

/// Something counted under a name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Named {
    /// Its name.
    pub(crate) name: String,
    /// How often.
    #[serde(flatten)]
    pub(crate) counted: Counted,
}

/// How full a mailbox is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Mailbox {
    /// Whose.
    pub(crate) actor: String,
    /// Messages that wait.
    pub(crate) messages: u64,
}

/// Everything that is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct View {
    /// Between the two looks; nothing where there was one only.
    pub(crate) seconds: Option<f64>,
    /// Whether the server was started anew in between.
    pub(crate) restarted: bool,
    /// All kinds together.
    pub(crate) settled: Counted,
    /// The same of what was refused.
    pub(crate) rejected: Counted,
    /// Of all kinds together, from accepted to answered.
    pub(crate) latency: Latency,
    /// By kind, those that ever came.
    pub(crate) requests: Vec<Requests>,
    /// By code, those that ever were given.
    pub(crate) rejects: Vec<Named>,
    /// By kind, those that ever were.
    pub(crate) conflicts: Vec<Named>,
    /// `D`: everything up to this is on disk.
    pub(crate) durable_seq: u64,
    /// `A`: everything up to this is in the version store.
    pub(crate) applied_seq: u64,
    /// `D` less `A`.
    pub(crate) lag: u64,
    /// Requests accepted and not yet answered.
    pub(crate) in_flight: u64,
    /// Open holds.
    pub(crate) holds: u64,
    /// Open orders.
    pub(crate) open_orders: u64,
    /// Requests that wait for exclusive holds.
    pub(crate) parked: u64,
    /// Every actor's.
    pub(crate) mailboxes: Vec<Mailbox>,
    /// Synced writes of the journal.
    pub(crate) fsyncs: Counted,
    /// What one takes.
    pub(crate) fsync: Latency,
}

const REQUESTS: &str = "crosslatch_requests_total";
const START: &str = "process_start_time_seconds";

/// Two looks.
struct Pair<'a> {
    before: Option<&'a Look>,
    now: &'a Look,
    seconds: Option<f64>,
}

impl View {
    /// What has come since `before`, where there was a look before.
    ///
    /// # Errors
    /// Who answered is no server of this kind.
    pub(crate) fn between(before: Option<&Look>, now: &Look) -> Result<Self, String> {
        if now.page.series(REQUESTS).is_empty() {
            return Err(format!("what answers has no metric {REQUESTS}"));
        }
        let elapsed = before.map(|before| now.at_nanos.saturating_sub(before.at_nanos));
        let seconds = elapsed.filter(|nanos| *nanos > 0).map(|nanos| nanos as f64 / 1e9);
        let started = |look: &Look| look.page.value(START);
        let restarted = before.is_some_and(|before| started(before) != started(now));
        let pair = Pair { before, now, seconds };
        let gauge = |name: &str| now.page.value(name).map_or(0, |value| value as u64);
        let (durable_seq, applied_seq) =
            (gauge("crosslatch_durable_seq"), gauge("crosslatch_applied_seq"));
        Ok(Self {
            seconds,
            restarted,
            settled: pair.counted(REQUESTS, |labels| is(labels, "outcome", "settled")),
            rejected: pair.counted(REQUESTS, |labels| is(labels, "outcome", "rejected")),
            latency: pair.latency("crosslatch_request_seconds", |_| true),
            requests: pair.requests(),
            rejects: pair.by("crosslatch_rejects_total", "reason"),
            conflicts: pair.by("crosslatch_conflicts_total", "kind"),
            durable_seq,
            applied_seq,
            lag: durable_seq.saturating_sub(applied_seq),
            in_flight: gauge("crosslatch_inflight_requests"),
            holds: gauge("crosslatch_holds"),
            open_orders: gauge("crosslatch_open_orders"),
            parked: gauge("crosslatch_parked_requests"),
            mailboxes: mailboxes(&now.page),
            fsyncs: pair.counted("crosslatch_fsync_seconds_count", |_| true),
            fsync: pair.latency("crosslatch_fsync_seconds", |_| true),
        })
    }
}

fn is(labels: &Labels, name: &str, value: &str) -> bool {
    labels.get(name).is_some_and(|it| it == value)
}

/// The values that a label has, in order.
fn values(page: &Page, name: &str, label: &str) -> Vec<String> {
    let series = page.series(name).iter();
    let mut values: Vec<String> =
        series.filter_map(|(labels, _)| labels.get(label).cloned()).collect();
    values.sort();
    values.dedup();
    values
}

fn mailboxes(page: &Page) -> Vec<Mailbox> {
    let mut all: Vec<&(Labels, f64)> = page.series("crosslatch_mailbox_messages").iter().collect();
    // They come in another order each time; the second shard is before the tenth.
    let number = |labels: &Labels| labels.get("shard").and_then(|shard| shard.parse::<u64>().ok());
    all.sort_by(|(one, _), (other, _)| {
        (one.get("actor"), number(one)).cmp(&(other.get("actor"), number(other)))
    });
    let one = |(labels, value): &(Labels, f64)| {
        let actor = labels.get("actor")?;
        let number = labels.get("shard").map(|shard| format!("-{shard}")).unwrap_or_default();
        Some(Mailbox { actor: format!("{actor}{number}"), messages: *value as u64 })
    };
    all.into_iter().filter_map(one).collect()
}

impl Pair<'_> {
    /// A counter's series that `counts` chooses, added up.
    fn counted(&self, name: &str, counts: impl Fn(&Labels) -> bool) -> Counted {
        let all = self.now.page.series(name).iter().enumerate();
        let (mut total, mut grown) = (0.0, 0.0);
        for (place, (labels, value)) in all.filter(|(_, (labels, _))| counts(labels)) {
            total += value;
            grown += self.grown(name, place, labels, *value);
        }
        let per_second = self.seconds.map(|seconds| grown / seconds);
        Counted { total: total as u64, per_second }
    }

    /// By how much a series has grown that is at that place among those of its name.
    fn grown(&self, name: &str, place: usize, labels: &Labels, now: f64) -> f64 {
        if now == 0.0 {
            // Most buckets: there are thousands.
            return 0.0;
        }
        let before = self.before.map(|look| look.page.series(name)).unwrap_or_default();
        let is_it = |(others, _): &&(Labels, f64)| others == labels;
        // Histograms come in one order, so it nearly always was where it is.
        let before = before.get(place).filter(is_it).or_else(|| before.iter().find(is_it));
        match before {
            Some((_, before)) if *before <= now => now - before,
            // It was not there, or it began anew.
            _ => now,
        }
    }

    fn by(&self, name: &str, label: &str) -> Vec<Named> {
        let all = values(&self.now.page, name, label).into_iter().map(|value| {
            let counted = self.counted(name, |labels| is(labels, label, &value));
            Named { name: value, counted }
        });
        all.filter(|named| named.counted.total > 0).collect()
    }

    fn requests(&self) -> Vec<Requests> {
        let all = values(&self.now.page, REQUESTS, "kind").into_iter().map(|kind| {
            let counted = |outcome: &str| {
                self.counted(REQUESTS, |it| is(it, "kind", &kind) && is(it, "outcome", outcome))
            };
            let (settled, rejected, failed) =
                (counted("settled"), counted("rejected"), counted("failed"));
            let came = settled.total + rejected.total + failed.total > 0;
            let of_kind = |labels: &Labels| came && is(labels, "kind", &kind);
            let latency = self.latency("crosslatch_request_seconds", of_kind);
            Requests { kind, settled, rejected, failed, latency }
        });
        let came = |it: &Requests| it.settled.total + it.rejected.total + it.failed.total > 0;
        all.filter(came).collect()
    }

    fn latency(&self, name: &str, counts: impl Fn(&Labels) -> bool) -> Latency {
        // Nobody asks how quick it was before anybody looked.
        if self.before.is_none() {
            return Latency::default();
        }
        let name = format!("{name}_bucket");
        let mut buckets: BTreeMap<u64, f64> = BTreeMap::new();
        let all = self.now.page.series(&name).iter().enumerate();
        for (place, (labels, value)) in all.filter(|(_, (labels, _))| counts(labels)) {
            let bound = labels.get("le").and_then(|le| le.parse::<f64>().ok());
            let Some(bound) = bound.filter(|bound| *bound >= 0.0) else { continue };
            // The bits of numbers that are not negative are in the order of the numbers.
            *buckets.entry(bound.to_bits()).or_default() +=
                self.grown(&name, place, labels, *value);
        }
        let buckets: Vec<(f64, f64)> =
            buckets.into_iter().map(|(bound, count)| (f64::from_bits(bound), count)).collect();
        let ms = |share: f64| quantile(&buckets, share).map(|seconds| seconds * 1e3);
        Latency { p50_ms: ms(0.5), p99_ms: ms(0.99) }
    }
}

/// What a share of all is not above, of cumulated counts by upper bound. Within a bucket the values
/// are taken to lie evenly; above the last bound nothing is known but that.
fn quantile(buckets: &[(f64, f64)], share: f64) -> Option<f64> {
    let (_, all) = *buckets.last()?;
    if all <= 0.0 {
        return None;
    }
    let rank = share * all;
    let place = buckets.iter().position(|(_, count)| *count >= rank)?;
    let (bound, count) = buckets[place];
    let (low, below) = if place == 0 { (0.0, 0.0) } else { buckets[place - 1] };
    if bound.is_infinite() {
        return Some(low);
    }
    if count <= below {
        return Some(bound);
    }
    Some(low + (bound - low) * (rank - below) / (count - below))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a server says it in its first second, but for what does not matter here.
    const FIRST: &str = include_str!("first.txt");
    /// The same server two seconds later.
    const LATER: &str = include_str!("later.txt");

    fn look(text: &str, seconds: u64) -> Look {
        Look { page: Page::parse(text).unwrap(), at_nanos: seconds * 1_000_000_000 }
    }

    #[test]
    fn rates_are_what_came_between_two_looks() {
        let (first, later) = (look(FIRST, 5), look(LATER, 7));
        let view = View::between(Some(&first), &later).unwrap();
        assert_eq!((view.seconds, view.restarted), (Some(2.0), false));
        let kinds: Vec<&str> = view.requests.iter().map(|it| it.kind.as_str()).collect();
        assert_eq!(kinds, ["deposit", "swap"]);
        let swaps = &view.requests[1];
        assert_eq!(swaps.settled, Counted { total: 333, per_second: Some(116.5) });
        assert_eq!(swaps.rejected, Counted { total: 168, per_second: Some(84.0) });
        assert_eq!(view.settled, Counted { total: 335, per_second: Some(116.5) });
        assert_eq!(view.rejects.len(), 1);
        assert_eq!(view.rejects[0].name, "insufficient_funds");
        assert_eq!(view.rejects[0].counted, swaps.rejected);
        assert_eq!(view.conflicts[0].name, "balance_wait");
        assert_eq!(view.conflicts[0].counted, Counted { total: 7, per_second: Some(3.5) });
        assert_eq!((view.durable_seq, view.applied_seq, view.lag), (343, 340, 3));
        assert_eq!((view.holds, view.open_orders, view.parked, view.in_flight), (4, 2, 1, 9));
        let boxes: Vec<(&str, u64)> =
            view.mailboxes.iter().map(|it| (it.actor.as_str(), it.messages)).collect();
        assert_eq!(boxes, [("coordinator", 3), ("shard-0", 1), ("shard-1", 2)]);
        assert_eq!(view.fsyncs, Counted { total: 12, per_second: Some(4.0) });
    }

    #[test]
    fn latencies_are_those_of_what_came_between() {
        let view = View::between(Some(&look(FIRST, 5)), &look(LATER, 7)).unwrap();
        // Of 401 swaps since, 301 are in (1.6, 3.2] ms and 100 in (3.2, 6.4].
        let near = |ms: Option<f64>, expected: f64| {
            assert!((ms.unwrap() - expected).abs() < 1e-9, "{ms:?}, not {expected}");
        };
        let swaps = view.requests[1].latency;
        near(swaps.p50_ms, 1.6 + 1.6 * (0.5 * 401.0) / 301.0);
        near(swaps.p99_ms, 3.2 + 3.2 * (0.99 * 401.0 - 301.0) / 100.0);
        // No deposit came, so all are swaps.
        assert_eq!(view.latency, swaps);
        assert_eq!(view.rejected, view.requests[1].rejected);
        assert_eq!(view.requests[0].latency, Latency::default());
        near(view.fsync.p50_ms, 0.2 + 0.2 * 0.5);
        let once = View::between(None, &look(LATER, 7)).unwrap();
        assert_eq!((once.seconds, once.fsync), (None, Latency::default()));
        assert_eq!(once.settled, Counted { total: 335, per_second: None });
    }

    #[test]
    fn mailboxes_are_in_one_order() {
        let shards = [10, 2, 0, 1].map(|shard| {
            format!("crosslatch_mailbox_messages{{actor=\"shard\",shard=\"{shard}\"}} {shard}\n")
        });
        let text =
            format!("{}crosslatch_mailbox_messages{{actor=\"commit_log\"}} 7\n", shards.concat());
        let boxes = mailboxes(&Page::parse(&text).unwrap());
        let names: Vec<&str> = boxes.iter().map(|it| it.actor.as_str()).collect();
        assert_eq!(names, ["commit_log", "shard-0", "shard-1", "shard-2", "shard-10"]);
        assert_eq!(boxes[4].messages, 10);
    }

    #[test]
    fn after_a_restart_counters_begin_anew() {
        let restarted =
            FIRST.replace("process_start_time_seconds 1", "process_start_time_seconds 9");
        let view = View::between(Some(&look(LATER, 7)), &look(&restarted, 9)).unwrap();
        assert!(view.restarted);
        assert_eq!(view.requests[1].settled, Counted { total: 100, per_second: Some(50.0) });
    }

    #[test]
    fn quantiles_lie_within_their_buckets() {
        let inf = f64::INFINITY;
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[(1.0, 0.0), (inf, 0.0)], 0.5), None);
        assert_eq!(quantile(&[(1.0, 10.0), (inf, 10.0)], 0.5), Some(0.5));
        assert_eq!(quantile(&[(1.0, 0.0), (2.0, 4.0), (inf, 4.0)], 1.0), Some(2.0));
        assert_eq!(quantile(&[(1.0, 1.0), (2.0, 1.0), (inf, 9.0)], 0.99), Some(2.0));
    }

    #[test]
    fn strangers_are_told_from_servers() {
        assert!(View::between(None, &look("up 1\n", 1)).unwrap_err().contains(REQUESTS));
    }
}
