//! A view in words: a page for a terminal, or a line for a log.

use crate::server::stats::{Counted, Latency, Named, Requests, View};

/// The page, line by line.
pub(super) fn page(url: &str, view: &View) -> Vec<String> {
    let mut lines = vec![format!("crosslatch at {url}{}", age(view)), String::new()];
    lines.push(row(["", "settled/s", "rejected/s", "failed/s", "p50", "p99", "settled"]));
    for it in &view.requests {
        let Latency { p50_ms, p99_ms } = it.latency;
        lines.push(row([
            &it.kind,
            &rate(it.settled),
            &rate(it.rejected),
            &rate(it.failed),
            &ms(p50_ms),
            &ms(p99_ms),
            &it.settled.total.to_string(),
        ]));
    }
    let Latency { p50_ms, p99_ms } = view.fsync;
    let fsyncs = view.fsyncs.total.to_string();
    lines.push(row(["fsync", &rate(view.fsyncs), "", "", &ms(p50_ms), &ms(p99_ms), &fsyncs]));
    lines.push(String::new());
    lines.extend(named("rejects", &view.rejects));
    lines.extend(named("conflicts", &view.conflicts));
    let View { durable_seq, applied_seq, lag, .. } = view;
    lines.push(format!("durable D {durable_seq}   applied A {applied_seq}   lag {lag}"));
    let View { in_flight, holds, open_orders, parked, .. } = view;
    lines.push(format!(
        "in flight {in_flight}   holds {holds}   open orders {open_orders}   parked {parked}"
    ));
    let boxes = view.mailboxes.iter().map(|it| format!("{} {}", it.actor, it.messages));
    lines.push(format!("mailboxes  {}", boxes.collect::<Vec<_>>().join("   ")));
    lines
}

/// The same in one line, but for what is by kind.
pub(super) fn line(view: &View) -> String {
    let requests = |choose: fn(&View) -> f64| format!("{:.0}", choose(view));
    let rejected = requests(|view| sum(view, |it| it.rejected.per_second));
    let failed = requests(|view| sum(view, |it| it.failed.per_second));
    let conflicts: f64 = view.conflicts.iter().filter_map(|it| it.counted.per_second).sum();
    let slowest = view.requests.iter().filter_map(|it| it.latency.p99_ms).max_by(f64::total_cmp);
    let View { durable_seq, lag, in_flight, holds, open_orders, .. } = view;
    format!(
        "settled/s {} rejected/s {rejected} failed/s {failed} conflicts/s {conflicts:.0} p99 {} \
         fsync-p99 {} D {durable_seq} lag {lag} in-flight {in_flight} holds {holds} orders \
         {open_orders}{}",
        rate(view.settled),
        ms(slowest),
        ms(view.fsync.p99_ms),
        if view.restarted { " restarted" } else { "" },
    )
}

fn sum(view: &View, of: fn(&Requests) -> Option<f64>) -> f64 {
    view.requests.iter().filter_map(of).sum()
}

fn age(view: &View) -> String {
    let restarted = if view.restarted { ", restarted since" } else { "" };
    match view.seconds {
        Some(seconds) => format!(", the last {seconds:.1} s{restarted}   (q ends)"),
        None => "   (q ends)".into(),
    }
}

fn row(cells: [&str; 7]) -> String {
    let [name, numbers @ ..] = cells;
    let numbers = numbers.map(|cell| format!("{cell:>11}")).join(" ");
    format!("{name:<19}{numbers}").trim_end().to_owned()
}

fn rate(counted: Counted) -> String {
    match counted.per_second {
        None => "-".into(),
        Some(rate) if rate > 0.0 && rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

fn ms(ms: Option<f64>) -> String {
    ms.map_or("-".into(), |ms| format!("{ms:.2}ms"))
}

fn named(what: &str, all: &[Named]) -> Option<String> {
    let one = |it: &Named| format!("{} {}/s ({})", it.name, rate(it.counted), it.counted.total);
    let all: Vec<String> = all.iter().map(one).collect();
    (!all.is_empty()).then(|| format!("{what}  {}", all.join("   ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::stats::{Look, Page};

    fn view() -> View {
        let look = |text, at_nanos| Look { page: Page::parse(text).unwrap(), at_nanos };
        let first = look(include_str!("../../server/stats/first.txt"), 0);
        let later = look(include_str!("../../server/stats/later.txt"), 2_000_000_000);
        View::between(Some(&first), &later).unwrap()
    }

    #[test]
    fn a_page_shows_everything() {
        let page = page("http://h:1", &view());
        assert_eq!(page[0], "crosslatch at http://h:1, the last 2.0 s   (q ends)");
        for line in [
            "swap 116 84 0 2.67ms 6.27ms 333",
            "deposit 0 0 0 - - 2",
            "fsync 4.0 0.30ms 0.40ms 12",
            "rejects  insufficient_funds 84/s (168)",
            "conflicts  balance_wait 3.5/s (7)",
            "durable D 343   applied A 340   lag 3",
            "in flight 9   holds 4   open orders 2   parked 1",
            "mailboxes  coordinator 3   shard-0 1   shard-1 2",
        ] {
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(page.iter().any(|it| words(it) == words(line)), "no {line:?} in {page:#?}");
        }
    }

    #[test]
    fn a_line_shows_the_most_of_it() {
        assert_eq!(
            line(&view()),
            "settled/s 116 rejected/s 84 failed/s 0 conflicts/s 4 p99 6.27ms fsync-p99 0.40ms D 343 \
             lag 3 in-flight 9 holds 4 orders 2"
        );
    }
}
