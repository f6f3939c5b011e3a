//! A report as one page of HTML that needs nothing else: no script, no font, no request.
//!
//! It is made of the report's JSON, so a report that was kept can be shown later, and the page
//! says nothing that the JSON does not. Charts are SVG, drawn by [`chart`].

mod chart;

use std::fmt::Write;

use serde_json::Value;

use chart::{Axis, Bar, Chart, Line, bars};

/// The page of a report.
pub(super) fn page(report: &Value) -> String {
    let mut body = String::new();
    headline(&mut body, report);
    over_time(&mut body, report);
    latencies(&mut body, report);
    section(&mut body, "Where the time goes", &stages(report));
    section(&mut body, "Processor time by thread", &processor(report));
    section(&mut body, "What was refused, and who met whom", &refusals(report));
    section(&mut body, "What was checked", &checks(report));
    section(&mut body, "Where and how it was measured", &environment(report));
    let title = format!("{} settled/s", count(report, "settled_per_second"));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Crosslatch load: {title}</title>\n<style>{STYLE}</style>\n<main>\n{body}</main>\n</html>\n"
    )
}

const STYLE: &str = include_str!("page/style.css");

fn section(body: &mut String, title: &str, content: &str) {
    if !content.is_empty() {
        let _ = write!(body, "<section><h2>{title}</h2>\n{content}</section>\n");
    }
}

fn headline(body: &mut String, report: &Value) {
    let (verdict, class) = match report["verified"].as_bool() {
        Some(true) => ("verified", "good"),
        Some(false) => ("NOT VERIFIED", "bad"),
        None => ("not verified: run it with --verify", "neutral"),
    };
    let figures = [
        ("settled per second", count(report, "settled_per_second")),
        ("drained per second", count(report, "drained_per_second")),
        ("p50", millis(&report["latency_ms"]["p50"])),
        ("p99", millis(&report["latency_ms"]["p99"])),
        ("p99.9", millis(&report["latency_ms"]["p999"])),
    ];
    let _ = write!(
        body,
        "<h1>Crosslatch load</h1>\n<p>{} swaps in mode {}, {} accounts, {}, {} shards, {} clients \
         with {} a submission, durability {}. <b class=\"{class}\">{verdict}</b></p>\n<ul class=\"figures\">",
        count(report, "swaps_attempted"),
        word(&report["mode"]),
        count(report, "accounts"),
        word(&report["skew"]),
        word(&report["shards"]),
        word(&report["clients"]),
        word(&report["batch"]),
        word(&report["durability"]),
    );
    for (name, figure) in figures {
        let _ = write!(body, "<li><b>{figure}</b> {name}</li>");
    }
    body.push_str("</ul>\n");
}

/// Throughput and latency by time.
fn over_time(body: &mut String, report: &Value) {
    let points = |field: &str| -> Vec<(f64, f64)> {
        let samples = report["series"].as_array().into_iter().flatten();
        samples.filter_map(|it| Some((it["seconds"].as_f64()?, it[field].as_f64()?))).collect()
    };
    let seconds = || Axis::linear("seconds since the first submission");
    if points("ended_per_second").is_empty() {
        return;
    }
    let throughput = Chart {
        title: "Throughput",
        x: seconds(),
        y: Axis::linear("per second"),
        lines: vec![
            Line::new("settled", points("settled_per_second")),
            Line::new("refused", points("rejected_per_second")),
        ],
    };
    let latency = Chart {
        title: "Latency",
        x: seconds(),
        y: Axis::log("milliseconds"),
        lines: vec![
            Line::new("p50", points("p50_ms")),
            Line::new("p99", points("p99_ms")),
            Line::new("max", points("max_ms")),
        ],
    };
    section(body, "Over time", &format!("{}{}", throughput.svg(), latency.svg()));
}

/// Latency by percentile, the percentiles by their nines.
fn latencies(body: &mut String, report: &Value) {
    let percentiles = report["latency_percentiles"].as_array().into_iter().flatten();
    let points: Vec<(f64, f64)> = percentiles
        .filter_map(|it| {
            let percentile = it["percentile"].as_f64()?;
            // 90% is one nine, 99% two: how rare the rest is.
            (percentile < 100.0).then_some((100.0 / (100.0 - percentile), it["ms"].as_f64()?))
        })
        .collect();
    if points.is_empty() {
        return;
    }
    let chart = Chart {
        title: "Latency by percentile",
        x: Axis::percentile("percentile"),
        y: Axis::log("milliseconds"),
        lines: vec![Line::new("all answers", points)],
    };
    section(body, "How long an answer takes", &chart.svg());
}

fn stages(report: &Value) -> String {
    let stages = ["queue", "prepare", "decide", "apply", "persist"];
    let bar = |stage: &str| {
        let seconds = report["stage_seconds"][stage].as_f64()?;
        Some(Bar {
            name: stage.to_owned(),
            value: seconds * 1e3,
            said: format!("{:.3} ms", seconds * 1e3),
        })
    };
    bars("Mean time in each stage", stages.into_iter().filter_map(bar).collect())
}

fn processor(report: &Value) -> String {
    let threads = report["cpu_seconds_per_million_swaps"].as_object().into_iter().flatten();
    let mut all: Vec<Bar> = threads
        .filter_map(|(name, seconds)| {
            let value = seconds.as_f64()?;
            // Seconds for a million are microseconds for one.
            Some(Bar { name: name.clone(), value, said: format!("{value:.2} µs") })
        })
        .filter(|bar| bar.value >= 0.005)
        .collect();
    all.sort_by(|one, other| other.value.total_cmp(&one.value));
    bars("Microseconds a swap", all)
}

fn refusals(report: &Value) -> String {
    let mut rows = Vec::new();
    for (title, field) in [("refused as", "rejects"), ("met", "conflict_kinds")] {
        for (name, number) in report[field].as_object().into_iter().flatten() {
            if number.as_u64().is_some_and(|number| number > 0) {
                rows.push((format!("{title} {name}"), grouped(number)));
            }
        }
    }
    if rows.is_empty() {
        return "<p>Nothing was refused, and nobody met anybody.</p>\n".to_owned();
    }
    table(&rows)
}

fn checks(report: &Value) -> String {
    let verification = &report["verification"];
    let rows: Vec<_> = [
        ("accounts compared", &verification["accounts_compared"]),
        ("balances that add up to the supply", &verification["balances_summed"]),
        ("commits replayed from the journal", &verification["commits_audited"]),
        ("refusals read back as of their seq", &report["refusals_checked"]["checked"]),
        ("false refusals", &report["false_refusals"]),
        ("holds left open", &report["holds_open"]),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_null())
    .map(|(name, value)| (name.to_owned(), grouped(value)))
    .collect();
    table(&rows)
}

fn environment(report: &Value) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    for (name, value) in report["environment"].as_object().into_iter().flatten() {
        rows.push((name.replace('_', " "), word(value)));
    }
    rows.push(("seed".to_owned(), word(&report["seed"])));
    if let Some(others) = report["other_cpu_pct"].as_f64() {
        rows.push(("processor time of others".to_owned(), format!("{others:.0}% of the machine")));
    }
    let command = escaped(report["command"].as_str().unwrap_or_default());
    format!("<pre><code>{command}</code></pre>\n{}", table(&rows))
}

fn table(rows: &[(String, String)]) -> String {
    let mut out = String::from("<table>\n");
    for (name, value) in rows {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
            escaped(name),
            escaped(value)
        );
    }
    out.push_str("</table>\n");
    out
}

/// A number of the report, in groups of three digits.
fn count(report: &Value, field: &str) -> String {
    grouped(&report[field])
}

fn grouped(value: &Value) -> String {
    match (value.as_u64(), value.as_f64()) {
        (Some(whole), _) => super::report::grouped(whole),
        (None, Some(number)) if number >= 0.0 => super::report::grouped(number as u64),
        _ => word(value),
    }
}

fn millis(value: &Value) -> String {
    value.as_f64().map_or_else(|| word(value), |ms| format!("{} ms", chart::said(ms)))
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Value {
        json!({
            "mode": "swap", "swaps_attempted": 3_000_000, "settled_per_second": 1_200_345.6,
            "drained_per_second": 1_100_000.2, "verified": true, "accounts": 100_000,
            "skew": "uniform", "shards": 2, "clients": 4, "batch": 4096, "durability": "sync",
            "latency_ms": {"p50": 7.12345, "p99": 12.5, "p999": 0.5},
            "series": [
                {"seconds": 0.25, "ended_per_second": 900_000.0, "settled_per_second": 900_000.0,
                 "rejected_per_second": 0.0, "p50_ms": 3.0, "p99_ms": 9.0, "max_ms": 20.0},
                {"seconds": 0.5, "ended_per_second": 1_100_000.0, "settled_per_second": 1_100_000.0,
                 "rejected_per_second": 10.0, "p50_ms": 4.0, "p99_ms": 12.0, "max_ms": 25.0},
            ],
            "latency_percentiles": [
                {"percentile": 0.0, "ms": 0.5}, {"percentile": 90.0, "ms": 4.0},
                {"percentile": 99.9, "ms": 12.0}, {"percentile": 100.0, "ms": 30.0},
            ],
            "stage_seconds": {"queue": 0.001, "prepare": 0.002, "decide": 0.0001, "apply": 0.003, "persist": 0.004},
            "cpu_seconds_per_million_swaps": {"total": 1.5, "coordinator": 0.2, "tiny": 0.0001},
            "rejects": {"insufficient_funds": 12}, "conflict_kinds": {"balance_wait": 0},
            "verification": {"accounts_compared": 100_000}, "false_refusals": 0, "holds_open": 0,
            "environment": {"cpu": "a <fast> one & only"}, "seed": 1, "other_cpu_pct": 2.4,
            "command": "crosslatch load --swaps 3000000 --skew \"uniform\"",
        })
    }

    #[test]
    fn the_page_says_what_the_report_says() {
        let page = page(&report());
        for said in [
            "1,200,345",
            "1,100,000",
            "7.12 ms",
            "12.5 ms",
            ">verified<",
            "insufficient_funds",
            "12",
            "a &lt;fast&gt; one &amp; only",
            "--skew &quot;uniform&quot;",
            "coordinator",
            "99.9",
        ] {
            assert!(page.contains(said), "{said} is not on the page");
        }
        assert!(
            !page.contains("balance_wait") && !page.contains("tiny"),
            "what is nothing is not said"
        );
    }

    #[test]
    fn the_page_needs_nothing_else_and_is_well_formed() {
        let page = page(&report());
        for foreign in ["http://", "https://", "<script", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        for element in ["section", "svg", "table", "ul", "main", "g", "text", "pre"] {
            let opened = page.matches(&format!("<{element}>")).count()
                + page.matches(&format!("<{element} ")).count();
            let closed = page.matches(&format!("</{element}>")).count();
            assert_eq!(opened, closed, "{element}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn a_report_of_little_makes_a_page_of_little() {
        let page = page(&json!({"mode": "orders", "verified": false, "series": []}));
        assert!(page.contains("NOT VERIFIED") && !page.contains("<svg"));
    }
}
