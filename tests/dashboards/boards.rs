//! The dashboards as files: each panel says what it shows and what good looks like, in a unit, in its place.

use std::collections::BTreeSet;

use serde_json::Value;

use super::tools::text;

/// Every dashboard, by the name of its file.
pub const NAMES: [&str; 4] = ["overview", "two-phase-commit", "storage", "markets"];
/// Columns of Grafana's grid.
const COLUMNS: u64 = 24;
/// A description that says what is shown and what good looks like is not shorter.
const DESCRIPTION_CHARS_MIN: usize = 40;

/// A dashboard.
pub struct Board {
    pub name: &'static str,
    pub json: Value,
}

/// A panel that asks Prometheus.
pub struct Panel {
    pub title: String,
    pub json: Value,
}

impl Board {
    pub fn all() -> [Self; 4] {
        NAMES.map(|name| {
            let json = serde_json::from_str(&text(&format!("dashboards/{name}.json")));
            Self { name, json: json.unwrap_or_else(|error| panic!("{name}: {error}")) }
        })
    }

    /// All panels but headings.
    pub fn panels(&self) -> impl Iterator<Item = Panel> {
        let all = self.json["panels"].as_array().expect("panels").iter();
        all.filter(|panel| panel["type"] != "row").map(|panel| Panel {
            title: format!("{}: {}", self.name, panel["title"].as_str().expect("a title")),
            json: panel.clone(),
        })
    }

    /// What it asks beside its panels: for annotations, and for the values of its variables.
    pub fn other_queries(&self) -> Vec<String> {
        let annotations = self.json["annotations"]["list"].as_array().expect("annotations").iter();
        let variables = self.json["templating"]["list"].as_array().expect("variables").iter();
        let said =
            annotations.map(|it| &it["expr"]).chain(variables.map(|it| &it["query"]["query"]));
        said.filter_map(|it| Some(it.as_str()?.to_owned())).collect()
    }
}

impl Panel {
    /// What it asks Prometheus.
    pub fn queries(&self) -> Vec<String> {
        let targets = self.json["targets"].as_array().expect("targets").iter();
        targets.map(|target| target["expr"].as_str().expect("a query").to_owned()).collect()
    }
}

/// The query as Grafana would send it when everything is chosen and it is scraped every half second.
pub fn filled(query: &str) -> String {
    let filled = query.replace("$__rate_interval", "5s");
    let filled = filled.replace("$instance", ".*").replace("$market", ".*");
    assert!(!filled.contains('$'), "{query} has a variable that nobody fills");
    filled
}

#[test]
fn every_panel_says_what_it_shows_and_what_good_looks_like() {
    for board in Board::all() {
        let mut titles = BTreeSet::new();
        for Panel { title, json } in board.panels() {
            assert!(titles.insert(title.clone()), "{title} is there twice");
            let description = json["description"].as_str().unwrap_or_default();
            assert!(description.len() >= DESCRIPTION_CHARS_MIN, "{title}: {description}");
            assert!(description.contains("Good: "), "{title} does not say what good looks like");
            let defaults = &json["fieldConfig"]["defaults"];
            assert!(defaults["unit"].is_string(), "{title} has no unit");
            let steps = &defaults["thresholds"]["steps"];
            assert!(json["type"] == "heatmap" || steps[0]["color"].is_string(), "{title}");
            let targets = json["targets"].as_array().expect("targets");
            assert!(!targets.is_empty(), "{title} asks nothing");
            for target in targets {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            }
            assert_eq!(json["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

#[test]
fn every_query_is_about_the_instances_that_are_chosen() {
    for board in Board::all() {
        for panel in board.panels() {
            for query in panel.queries() {
                let of_alerts = query.contains("ALERTS{");
                assert!(of_alerts || query.contains(r#"instance=~"$instance""#), "{}", panel.title);
            }
        }
        let variables = board.json["templating"]["list"].as_array().expect("variables");
        let named = |name: &str| variables.iter().any(|variable| variable["name"] == name);
        assert!(named("datasource") && named("instance"), "{}", board.name);
    }
}

#[test]
fn panels_stand_side_by_side_and_not_on_each_other() {
    for board in Board::all() {
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in board.json["panels"].as_array().expect("panels") {
            let title = panel["title"].as_str().expect("a title");
            assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{title}: its id");
            let of = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
            let (x, y, width, height) = (of("x"), of("y"), of("w"), of("h"));
            assert!(width > 0 && height > 0 && x + width <= COLUMNS, "{title}");
            for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{}: {title} lies on another panel", board.name);
            }
        }
        // No hole in the middle: each row that has something begins on the left.
        let rows: BTreeSet<u64> = taken.iter().map(|(_, y)| *y).collect();
        assert_eq!(rows.last(), Some(&(rows.len() as u64 - 1)), "{} has empty rows", board.name);
        assert!(rows.iter().all(|y| taken.contains(&(0, *y))), "{}", board.name);
    }
}

#[test]
fn dashboards_are_told_apart_and_provisioned() {
    let boards = Board::all();
    let uids: BTreeSet<_> = boards.iter().map(|board| board.json["uid"].as_str()).collect();
    assert_eq!(uids.len(), boards.len());
    let readme = text("dashboards/README.md");
    for Board { name, json } in &boards {
        assert!(json["uid"].as_str().is_some_and(|uid| uid.starts_with("crosslatch-")), "{name}");
        assert!(readme.contains(&format!("]({name}.json)")), "dashboards/README.md has no {name}");
        assert!(readme.contains(&format!("({name}.svg)")), "dashboards/README.md shows no {name}");
        let picture = super::tools::file(&format!("dashboards/{name}.svg"));
        assert!(picture.exists(), "{} is missing", picture.display());
    }
    let provider = text("dashboards/provisioning/dashboards/crosslatch.yml");
    assert!(provider.contains("type: file") && provider.contains("path: "));
    let source = text("dashboards/provisioning/datasources/crosslatch.yml");
    assert!(source.contains("type: prometheus"));
}
