//! The whole of it: a server under load, Prometheus scraping it, and everything that the dashboards and the
//! rules ask is asked of Prometheus.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use crosslatch::metrics::{METRICS, Metric};
use serde_json::Value;

use super::boards::{Board, filled};
use super::names::{metric_of, recorded};
use super::process::Server;
use super::prometheus::{Prometheus, Series, until};
use super::scenario::Scenario;
use super::tools::{have, text};

/// Panels that show nothing while all is well, and why.
const EMPTY: [(&str, &str); 1] = [("overview: Firing alerts", "no alert should fire")];
/// Markets that the load makes.
const MARKETS: usize = 3;
/// Swaps of the load whose rate is compared, and how quickly they are due: half a minute.
const MEASURED_SWAPS: u64 = 6_000;
const MEASURED_RATE: u64 = 200;
/// How far Prometheus' rate may be from the load's. It sees the beginning and the end half a second late.
const RATE_DIFFERS_MAX: f64 = 0.05;
/// Seconds before the load, of which there are scrapes.
const BEFORE_SECONDS: f64 = 3.0;
/// Series that Prometheus adds to each target.
const OF_THE_TARGET: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// A `crosslatch load` on a server; killed when dropped.
struct Load(Option<Child>);

impl Load {
    fn start(url: &str, args: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crosslatch"));
        command.args(["load", "--url", url, "--accounts", "300", "--json"]);
        command.args(args.split_whitespace()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        Self(Some(command.spawn().expect("it starts")))
    }

    fn is_over(&mut self) -> bool {
        let child = self.0.as_mut().expect("it is not waited for yet");
        child.try_wait().expect("it is a child").is_some()
    }

    /// Its report.
    fn report(mut self) -> Value {
        let child = self.0.take().expect("it is not waited for yet");
        let output = child.wait_with_output().expect("it is a child");
        assert!(output.status.success(), "a load failed: {output:?}");
        serde_json::from_slice(&output.stdout).expect("a report")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Puts load of every kind on the server, so that every panel has something to show.
fn load_everything(server: &Server) {
    let (grpc, http) = (format!("grpc://{}", server.grpc), format!("http://{}", server.address));
    let orders = format!("--mode orders --markets {MARKETS} --swaps 6000 --rate 500 --batch 20");
    Load::start(&grpc, &orders).report();
    // The accounts are there now.
    let mut scenario = Scenario::new(server.address);
    let mut load =
        Load::start(&http, "--mode two-phase --swaps 2000 --rate 250 --batch 10 --skew hot:2");
    until("the load is over", || {
        scenario.round();
        load.is_over().then_some(())
    });
    load.report();
    scenario.leave_holds();
}

#[test]
fn prometheus_has_data_for_every_panel_and_every_rule() {
    if !have(&["prometheus"]) {
        return;
    }
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(data.path());
    let prometheus = Prometheus::start(server.address);
    until("the first scrape", || prometheus.scraped_at());
    let began = prometheus.number("time()").expect("a time");
    load_everything(&server);
    rates_agree(&prometheus, &server);
    prometheus.catch_up();
    let span = (began, prometheus.number("time()").expect("a time"));
    panels_have_data(&prometheus, span);
    rules_work(&prometheus, span);
    series_are_few(&prometheus);
    assert!(!prometheus.log().contains("level=error"), "{}", prometheus.log());
}

/// A load alone on the server: what Prometheus counted is what the load did, and at its rate.
fn rates_agree(prometheus: &Prometheus, server: &Server) {
    prometheus.catch_up();
    let counter = r#"sum(crosslatch_requests_total{kind="swap", outcome="settled"})"#;
    let before = prometheus.number(counter).expect("a counter");
    let began = prometheus.number("time()").expect("a time");
    let args = format!("--mode swap --swaps {MEASURED_SWAPS} --rate {MEASURED_RATE} --batch 10");
    let report = Load::start(&format!("grpc://{}", server.grpc), &args).report();
    prometheus.catch_up();
    let ended = prometheus.number("time()").expect("a time");
    let counted = prometheus.number(counter).expect("a counter") - before;
    assert_eq!(counted as u64, report["swaps_settled"].as_u64().expect("a number"), "{report}");
    // As it stood at every scrape, with the times of those: nothing is extrapolated.
    let window = format!(
        r#"crosslatch_requests_total{{kind="swap", outcome="settled"}}[{}s]"#,
        (ended - began).ceil() + BEFORE_SECONDS
    );
    let samples = &prometheus.ask(&window)[0].samples;
    let last_before = samples.iter().rev().find(|(_, value)| *value <= before);
    let first_after = samples.iter().find(|(_, value)| *value >= before + counted);
    let (begin, end) = (last_before.expect("a sample").0, first_after.expect("a sample").0);
    let rate = counted / (end - begin);
    let said = report["settled_per_second"].as_f64().expect("a number");
    let differs = (rate / said - 1.0).abs();
    assert!(differs < RATE_DIFFERS_MAX, "Prometheus has {rate} a second, the load {said}");
}

/// Whether a number was seen at any time.
fn has_data(series: &[Series]) -> bool {
    series.iter().any(|series| series.samples.iter().any(|(_, value)| value.is_finite()))
}

fn panels_have_data(prometheus: &Prometheus, span: (f64, f64)) {
    let mut without = Vec::new();
    let mut asked = 0;
    for board in Board::all() {
        for panel in board.panels() {
            let excused = EMPTY.iter().any(|(title, _)| *title == panel.title);
            for query in panel.queries() {
                let found = has_data(&prometheus.range(&filled(&query), span));
                asked += 1;
                if !found && !excused {
                    without.push(format!("{}: {query}", panel.title));
                }
            }
        }
        // Annotations show when something happens: that they can be asked is enough.
        for query in board.other_queries().iter().filter(|query| !query.starts_with("label_values"))
        {
            prometheus.range(&filled(query), span);
        }
    }
    assert!(without.is_empty(), "no data for\n{}", without.join("\n"));
    assert!(asked > 100, "only {asked} queries were asked");
}

fn rules_work(prometheus: &Prometheus, span: (f64, f64)) {
    let groups = prometheus.api("rules", &[]);
    let groups = groups["groups"].as_array().expect("groups");
    let rules: Vec<&Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().expect("rules")).collect();
    let records = recorded();
    let named = |rule: &&&Value, kind: &str| rule["type"] == kind;
    assert_eq!(rules.iter().filter(|rule| named(rule, "recording")).count(), records.len());
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    for record in &records {
        assert!(has_data(&prometheus.range(record, span)), "{record} has no data");
    }
    // An alert gives nothing while all is well, but all that it looks at is there.
    for rule in rules.iter().filter(|rule| named(rule, "alerting")) {
        let query = rule["query"].as_str().expect("a query");
        let selectors = selectors(query);
        assert!(!selectors.is_empty(), "{query} looks at nothing");
        for selector in selectors {
            assert!(
                has_data(&prometheus.range(&selector, span)),
                "{}: no {selector}",
                rule["name"]
            );
        }
    }
    for alert in ["CrosslatchSupplyViolation", "CrosslatchStopped", "CrosslatchBackgroundErrors"] {
        let fired = prometheus.range(&format!(r#"ALERTS{{alertname="{alert}"}}"#), span);
        assert!(fired.is_empty(), "{alert} fired");
    }
}

/// What a query selects: names of series, with what is asked of their labels.
fn selectors(query: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find(is_name) {
        let length = rest[start..].find(|c| !is_name(c)).unwrap_or(rest.len() - start);
        let (name, behind) = (&rest[start..start + length], &rest[start + length..]);
        rest = behind;
        let known = name == "up" || metric_of(name).is_some() || name.contains(":crosslatch_");
        if known {
            let labels = behind.strip_prefix('{').and_then(|labels| labels.split_once('}'));
            let labels = labels.map(|(labels, _)| format!("{{{labels}}}")).unwrap_or_default();
            found.push(format!("{name}{labels}"));
        }
        // What is asked of labels is not a name.
        if let Some((_, after)) = rest.strip_prefix('{').and_then(|labels| labels.split_once('}')) {
            rest = after;
        }
    }
    found
}

/// No metric has more series than the table says, and all together no more than the documents do.
fn series_are_few(prometheus: &Prometheus) {
    let counts = prometheus.ask(r#"count by (__name__) ({job="crosslatch"})"#);
    let mut of_metrics: BTreeMap<&str, u64> = BTreeMap::new();
    for Series { labels, samples } in &counts {
        let name = labels["__name__"].as_str().expect("a name");
        if name.contains(':') || name.starts_with("ALERTS") || OF_THE_TARGET.contains(&name) {
            continue;
        }
        let metric = metric_of(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        *of_metrics.entry(metric.name).or_default() += samples[0].1 as u64;
    }
    assert_eq!(of_metrics.len(), METRICS.len(), "every metric has a series: {of_metrics:?}");
    let of_markets =
        METRICS.iter().filter(|it| it.labels.iter().any(|label| label.name == "market"));
    let per_market: usize =
        of_markets.clone().map(|it| it.series_max() / crosslatch::config::MARKETS_MAX).sum();
    let all: usize = METRICS.iter().map(Metric::series_max).sum();
    let fixed = all - of_markets.map(Metric::series_max).sum::<usize>();
    for metric in METRICS {
        let series = of_metrics[metric.name];
        assert!(series <= metric.series_max() as u64, "{} has {series} series", metric.name);
    }
    let total: u64 = of_metrics.values().sum();
    assert!(total <= (fixed + per_market * MARKETS) as u64, "{total} series");
    let said = format!("at most {fixed} series, and {per_market} for each market");
    assert!(text("dashboards/README.md").contains(&said), "the README does not say: {said}");
    eprintln!("{total} series with {MARKETS} markets; {said}");
}

#[test]
fn selectors_are_found_in_queries() {
    let query = r#"sum by (instance, le) (rate(crosslatch_fsync_seconds_bucket[1m])) > 0 and on (instance) up{job="a_b"} == 0
        or instance:crosslatch_requests:rate1m offset 5m"#;
    let expected = [
        "crosslatch_fsync_seconds_bucket",
        r#"up{job="a_b"}"#,
        "instance:crosslatch_requests:rate1m",
    ];
    assert_eq!(selectors(query), expected);
}
