//! The rules, judged by promtool: well-formed, and each alert fires where it should and is silent elsewhere.

use std::collections::BTreeSet;
use std::process::Command;

use super::tools::{file, have, run, text};

/// The files of cases.
const CASES: [&str; 2] = ["alerts.test.yml", "alerts.days.test.yml"];

/// Every alert.
fn alerts() -> Vec<String> {
    let rules = text("dashboards/alerts.rules.yml");
    let named = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    named.map(str::to_owned).collect()
}

#[test]
fn promtool_accepts_the_configuration_and_the_rules() {
    if !have(&["promtool"]) {
        return;
    }
    let promtool = |what: &str, name: &str| {
        let path = file(&format!("dashboards/{name}"));
        run(Command::new("promtool").args(["check", what]).arg(path))
    };
    assert!(promtool("config", "prometheus.yml").contains("2 rule files found"));
    for rules in ["recording.rules.yml", "alerts.rules.yml"] {
        assert!(promtool("rules", rules).contains("SUCCESS"));
    }
}

#[test]
fn every_alert_fires_and_stays_silent_where_it_should() {
    let cases = CASES.map(|name| text(&format!("dashboards/{name}"))).concat();
    let alerts = alerts();
    assert!(alerts.len() > 20, "{alerts:?}");
    for alert in &alerts {
        for kind in ["fires", "is silent"] {
            assert!(
                cases.contains(&format!("- name: {alert} {kind} - ")),
                "{alert}: no case {kind}"
            );
        }
    }
    if have(&["promtool"]) {
        let dashboards = file("dashboards");
        run(Command::new("promtool").current_dir(dashboards).args([
            "test",
            "rules",
            "alerts.test.yml",
        ]));
    }
}

/// Cases that cannot fail prove nothing.
#[test]
fn promtool_notices_an_alert_that_is_wrong() {
    if !have(&["promtool"]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["recording.rules.yml", "alerts.test.yml"] {
        std::fs::copy(file(&format!("dashboards/{name}")), directory.path().join(name))
            .expect("a copy");
    }
    let (rules, path) =
        (text("dashboards/alerts.rules.yml"), directory.path().join("alerts.rules.yml"));
    // An alert that never fires, one that fires too early, and one that fires too late.
    let wrong = [
        ("crosslatch_supply_violations_total > 0", "crosslatch_supply_violations_total > 9"),
        ("disk_free:ratio < 0.1", "disk_free:ratio < 0.2"),
        (
            "crosslatch_operation > 0\n        for: 30m",
            "crosslatch_operation > 0\n        for: 90m",
        ),
    ];
    for (right, wrong) in wrong {
        assert!(rules.contains(right), "{right}");
        std::fs::write(&path, rules.replace(right, wrong)).expect("it is written");
        let mut command = Command::new("promtool");
        command.current_dir(directory.path()).args(["test", "rules", "alerts.test.yml"]);
        let output = command.output().expect("it runs");
        assert!(!output.status.success(), "nobody notices {wrong}");
    }
}

#[test]
fn every_alert_has_a_runbook() {
    let (rules, readme) = (text("dashboards/alerts.rules.yml"), text("dashboards/README.md"));
    let alerts = alerts();
    assert_eq!(alerts.iter().collect::<BTreeSet<_>>().len(), alerts.len(), "names are unique");
    let blocks: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    for (alert, block) in alerts.iter().zip(blocks) {
        let anchor = format!("runbook: dashboards/README.md#{}", alert.to_lowercase());
        assert!(block.contains(&anchor), "{alert} does not say where its runbook is");
        let severe = block.contains("{severity: page}") || block.contains("{severity: ticket}");
        assert!(
            severe && block.contains("summary: ") && block.contains("description: "),
            "{alert}"
        );
        let runbook = readme.split_once(&format!("### {alert}\n"));
        let runbook = runbook.map(|(_, rest)| rest.split("\n#").next().unwrap_or(rest).trim());
        assert!(runbook.is_some_and(|text| text.len() > 80), "{alert} has no runbook");
    }
}
