//! The report's names and figures.

use std::time::Duration;

use clap::Parser;

use crate::cli::load::tally::Tally;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    load: LoadArgs,
}

fn report(line: &str, change: impl FnOnce(&mut Tally)) -> Report {
    let words = std::iter::once("load").chain(line.split_whitespace());
    let args = Line::try_parse_from(words).unwrap().load;
    let mut tally = Tally::new(1);
    tally.settled = 900_000;
    tally.cross_shard = 500_000;
    tally.took(0, 2_000_000, 1_000_000);
    change(&mut tally);
    let generator_cpu = Duration::from_secs(1);
    let ran = Ran { tally, seconds: 2.0, generator_cpu, stopped_early: false };
    let threads = vec![("coordinator".to_owned(), Duration::from_millis(500))];
    let cpu = CpuUsed { threads, process: Duration::from_secs(3), others: Duration::ZERO };
    let probe = Probe { p50_ms: 1.0, p99_ms: 2.0 };
    Report::new(Measured {
        args: &args,
        ran: &ran,
        series: vec![],
        drained_seconds: 3.0,
        metrics: &Reading::default(),
        holds_open: 0,
        cpu: &cpu,
        disk_bytes: [45e6, 90e6],
        probes: (args.batch == 1).then_some([probe, Probe { p50_ms: 3.0, ..probe }]),
        environment: Environment::of(std::path::Path::new(".")),
    })
}

fn json(report: &Report) -> serde_json::Value {
    serde_json::to_value(report).unwrap()
}

#[test]
fn the_json_has_every_field_of_the_interface() {
    let object = json(&report("--skew zipf:1.07", |_| {}));
    for name in [
        "mode",
        "swaps_attempted",
        "swaps_settled",
        "swaps_rejected",
        "conflicts",
        "seconds",
        "settled_per_second",
        "latency_ms",
        "drained_per_second",
        "durability",
        "batch",
        "clients",
        "accounts",
        "skew",
        "seed",
        "shards",
        "verified",
        "environment",
    ] {
        assert!(object.get(name).is_some(), "{name} is missing");
    }
    for name in ["p50", "p90", "p99", "p999", "max"] {
        assert!(object["latency_ms"][name].is_f64(), "{name}");
    }
    for name in ["cpu", "cores", "kernel", "file_system", "build"] {
        assert!(object["environment"].get(name).is_some(), "{name}");
    }
    for name in ["retries", "gave_up", "requests", "conflict_kinds", "holds_open"] {
        assert!(object.get(name).is_some(), "{name} is missing");
    }
    assert_eq!(object["mode"], "swap");
    assert_eq!(object["durability"], "sync");
    assert_eq!(object["skew"], "zipf:1.07");
    assert!(object["verified"].is_null() && object["rate"].is_null());
}

#[test]
fn rates_and_shares_are_over_what_they_say() {
    let object = json(&report("--batch 1 --funds tight", |tally| {
        tally.rejected.insert("insufficient_funds", 100_000);
    }));
    for (field, expected) in [
        ("settled_per_second", 450_000.0),
        ("drained_per_second", 300_000.0),
        ("cross_shard_pct", 50.0),
        ("disk_bytes_per_swap", 45.0),
        ("disk_written_bytes_per_swap", 90.0),
    ] {
        assert_eq!(object[field], expected, "{field}");
    }
    assert_eq!(object["swaps_attempted"], 1_000_000);
    assert_eq!(object["cpu_seconds_per_million_swaps"]["coordinator"], 0.5);
    assert_eq!(object["cpu_seconds_per_million_swaps"]["total"], 3.0);
    let ratio = object["fsync_probe"]["p50_ratio"].as_f64().unwrap();
    assert!((ratio - 1.0).abs() < 0.01, "{ratio}");
}

#[test]
fn a_refusal_that_was_not_asked_for_is_a_failure() {
    let refused = |tally: &mut Tally| {
        tally.rejected.insert("insufficient_funds", 5);
    };
    assert!(report("", |_| {}).is_sound());
    assert!(!report("", refused).is_sound());
    let mut tight = report("--funds tight", refused);
    assert!(tight.is_sound());
    tight.add_refusals(RefusalsChecked { wrong: 1, ..RefusalsChecked::default() });
    assert!(!tight.is_sound());
    let expired = |tally: &mut Tally| {
        tally.rejected.insert("expired", 1);
    };
    assert_eq!(report("--funds tight", expired).false_refusals, 1);
}

#[test]
fn of_orders_only_what_a_market_says_may_be_refused() {
    let refused = |code| {
        report("--mode orders", |tally| {
            tally.orders.placed = 7;
            tally.rejected.insert(code, 3);
        })
    };
    let late = refused("unknown_order");
    assert!(late.is_sound());
    let object = json(&late);
    assert_eq!(
        (&object["orders"]["placed"], &object["orders"]["markets"]),
        (&7.into(), &16.into())
    );
    let text = late.to_string();
    assert!(text.contains("7 placed") && text.contains("unknown_order 3"), "{text}");
    assert_eq!(refused("insufficient_funds").false_refusals, 3);
    assert!(json(&report("", |_| {}))["orders"].is_null());
}

#[test]
fn conflicts_are_what_transactions_were_refused_for() {
    let report = report("--mode transaction --retries 3", |tally| {
        (tally.conflicts, tally.retries, tally.gave_up) = (1_500, 1_200, 300);
    });
    let object = json(&report);
    assert_eq!(object["mode"], "transaction");
    assert_eq!((&object["conflicts"], &object["retries"]), (&1_500.into(), &1_200.into()));
    assert_eq!((&object["gave_up"], &object["retries_max"]), (&300.into(), &3.into()));
    assert_eq!(object["swaps_attempted"], 900_300);
    assert!(report.is_sound(), "giving up is no false refusal");
    let text = report.to_string();
    assert!(text.contains("1,200 tried again, 300 swaps given up after 3 retries"), "{text}");
}

#[test]
fn a_hold_that_is_left_open_is_a_failure() {
    let mut report = report("--mode two-phase", |_| {});
    assert!(report.is_sound() && !report.to_string().contains("OPEN"));
    report.holds_open = 2;
    assert!(!report.is_sound() && report.to_string().contains("HOLDS LEFT OPEN: 2"));
}

#[test]
fn the_verdict_is_in_the_json_and_in_the_text() {
    let mut report = report("--batch 1", |_| {});
    report.add_verdict(Verdict { accounts_compared: 1_234, ..Verdict::default() });
    assert_eq!(json(&report)["verified"], true);
    let text = report.to_string();
    assert!(text.contains("verified     yes: opened again, 1,234 accounts compared"), "{text}");
    assert!(text.contains("450,000 settled/s") && text.contains("disk alone"), "{text}");
    let wrong = vec!["one unit is gone".to_owned()];
    report.add_verdict(Verdict { wrong, ..Verdict::default() });
    assert!(!report.is_sound());
    assert!(report.to_string().contains("one unit is gone"));
}

#[test]
fn a_busy_machine_is_said_beside_the_figures() {
    let mut report = report("", |_| {});
    assert!(!report.to_string().contains("others were busy"));
    report.other_cpu_pct = 40.0;
    assert!(report.to_string().contains("others were busy"), "{report}");
}

#[test]
fn digits_are_grouped_by_three() {
    let texts = [0, 999, 1_000, 1_234_567].map(grouped);
    assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
}
