//! Names: what dashboards and rules ask for exists, what exists is documented, and as it is.

use std::collections::BTreeSet;
use std::process::Command;

use crosslatch::metrics::{Kind, METRICS, Metric};

use super::boards::Board;
use super::tools::{file, run, text};

/// Between these the README has what `crosslatch metrics list --markdown` prints.
const TABLE: [&str; 2] = ["<!-- crosslatch metrics list --markdown -->\n", "<!-- end -->\n"];

/// Words that may be names of metrics: a letter, then letters, digits, `_` and `:`.
fn words(text: &str) -> BTreeSet<&str> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(|c: char| !part(c)).map(|word| word.trim_matches(':')).collect()
}

/// The metric to which a sample of that name belongs.
pub fn metric_of(sample: &str) -> Option<&'static Metric> {
    let belongs = |metric: &&Metric| match metric.kind {
        Kind::Histogram => sample
            .strip_prefix(metric.name)
            .is_some_and(|suffix| ["_bucket", "_sum", "_count"].contains(&suffix)),
        Kind::Counter | Kind::Gauge => sample == metric.name,
    };
    METRICS.iter().find(belongs)
}

/// What recording rules make.
pub fn recorded() -> BTreeSet<String> {
    let rules = text("dashboards/recording.rules.yml");
    let named = rules.lines().filter_map(|line| line.trim().strip_prefix("- record: "));
    named.map(str::to_owned).collect()
}

/// Everything that asks Prometheus, by where it stands.
fn asked() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for board in Board::all() {
        let queries = board.panels().flat_map(|panel| panel.queries());
        let queries = queries.chain(board.other_queries());
        all.extend(queries.map(|query| (board.name.to_owned(), query)));
    }
    for rules in
        ["recording.rules.yml", "alerts.rules.yml", "alerts.test.yml", "alerts.days.test.yml"]
    {
        let text = text(&format!("dashboards/{rules}"));
        let lines = text.lines().filter(|line| !line.trim().starts_with('#'));
        all.extend(lines.map(|line| (rules.to_owned(), line.to_owned())));
    }
    all
}

#[test]
fn dashboards_and_rules_name_only_metrics_that_exist() {
    let recorded = recorded();
    let mut seen = BTreeSet::new();
    for (place, query) in asked() {
        for word in words(&query) {
            let is_ours = word.starts_with("crosslatch_") || word.starts_with("process_");
            if is_ours {
                assert!(metric_of(word).is_some(), "{place}: there is no metric {word}: {query}");
            }
            if word.contains(":crosslatch_") {
                assert!(recorded.contains(word), "{place}: no rule records {word}");
            }
            seen.extend(metric_of(word).map(|metric| metric.name));
        }
    }
    // That something is looked at by nobody is worth knowing; that nothing is found means a broken test.
    assert!(seen.len() > METRICS.len() * 9 / 10, "only {} metrics are looked at", seen.len());
}

#[test]
fn every_metric_is_on_a_dashboard() {
    let boards = Board::all();
    let queries = boards.iter().flat_map(|board| board.panels().flat_map(|panel| panel.queries()));
    let shown: BTreeSet<String> = queries
        .flat_map(|query| words(&query).into_iter().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let shown: BTreeSet<&str> =
        shown.iter().filter_map(|word| Some(metric_of(word)?.name)).collect();
    let hidden: Vec<_> = METRICS.iter().filter(|metric| !shown.contains(metric.name)).collect();
    assert!(
        hidden.is_empty(),
        "no dashboard shows {:?}",
        hidden.iter().map(|it| it.name).collect::<Vec<_>>()
    );
}

#[test]
fn every_recording_is_used() {
    let rules = text("dashboards/alerts.rules.yml") + &text("dashboards/recording.rules.yml");
    let readme = text("dashboards/README.md");
    for name in recorded() {
        let used = words(&rules).contains(name.as_str()) && rules.matches(&name).count() > 1;
        assert!(used || readme.contains(&name), "nobody uses {name}");
    }
}

#[test]
fn the_readme_has_the_table_of_metrics() {
    let list =
        run(Command::new(env!("CARGO_BIN_EXE_crosslatch")).args(["metrics", "list", "--markdown"]));
    let readme = text("README.md");
    let [begin, end] = TABLE;
    let (before, rest) = readme.split_once(begin).expect("the table begins");
    let (table, after) = rest.split_once(end).expect("the table ends");
    if table != list && std::env::var_os("CROSSLATCH_WRITE").is_some() {
        let mended = [before, begin, &list, end, after].concat();
        std::fs::write(file("README.md"), mended).expect("it is written");
        return;
    }
    assert_eq!(table, list, "run this test with CROSSLATCH_WRITE=1");
    for metric in METRICS {
        assert!(table.contains(&format!("| `{}` |", metric.name)), "{} is missing", metric.name);
    }
}

#[test]
fn the_list_says_in_json_what_it_says_in_words() {
    let list = |how: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crosslatch"));
        run(command.args(["metrics", "list"]).args(how.split_whitespace()))
    };
    let json: serde_json::Value = serde_json::from_str(&list("--json")).expect("JSON");
    let words = list("");
    let metrics = json.as_array().expect("an array");
    assert_eq!(metrics.len(), METRICS.len());
    for metric in metrics {
        let of =
            |name: &str| metric[name].as_str().unwrap_or_else(|| panic!("no {name}: {metric}"));
        let head = format!(
            "{} ({}, {}; series: {})",
            of("name"),
            of("kind"),
            of("unit"),
            of("cardinality")
        );
        assert!(words.contains(&format!("{head}\n    {}\n", of("help"))), "{head}");
        assert!(metric["series_max"].as_u64().is_some_and(|max| max > 0));
    }
}
