//! `crosslatch load`: in every mode the same swaps end the same way, what it reports (of orders, too) is
//! what the engine counted, and what it verifies is verified.

#[expect(dead_code, reason = "the load makes its own venue")]
mod support;

use std::path::Path;
use std::process::Command;

use crosslatch::engine::{Engine, Options};
use crosslatch::types::{Amount, AssetId};
use serde_json::Value;

use support::{account, audit, scratch};

const MODES: [&str; 3] = ["swap", "two-phase", "transaction"];
const ACCOUNTS: u64 = 300;
const SWAPS: u64 = 6_000;

/// Runs it on `data` and returns its report; it has to say that all is well.
fn load(data: &Path, mode: &str, more: &str) -> Value {
    let data = data.to_str().expect("a plain path");
    let (swaps, accounts) = (SWAPS.to_string(), ACCOUNTS.to_string());
    let mut args = vec!["load", "--mode", mode, "--data", data, "--verify", "--json"];
    args.extend(["--swaps", &swaps, "--accounts", &accounts]);
    args.extend(more.split_whitespace());
    let mut command = Command::new(env!("CARGO_BIN_EXE_crosslatch"));
    let output = command.args(&args).output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(report["mode"], mode);
    assert_eq!(report["verified"], true, "{args:?}: {said}");
    assert_eq!((number(&report["holds_open"]), number(&report["false_refusals"])), (0, 0));
    report
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Requests of that kind that the engine answered: settled, rejected.
fn counted(report: &Value, kind: &str) -> (u64, u64) {
    let of_kind = &report["requests"][kind];
    if of_kind.is_null() {
        return (0, 0);
    }
    (number(&of_kind["settled"]), number(&of_kind["rejected"]))
}

/// What the callers counted is what the engine counted, in the way of the mode.
fn check_counts(report: &Value) {
    let of = |name: &str| number(&report[name]);
    let (settled, rejected) = (of("swaps_settled"), of("swaps_rejected"));
    assert_eq!(of("swaps_attempted"), SWAPS);
    assert_eq!(settled + rejected + of("gave_up"), SWAPS, "{report}");
    assert!(settled > 0 && report["latency_ms"]["p50"].as_f64() > Some(0.0));
    let [swap, prepare, commit, transaction] =
        ["swap", "prepare", "commit", "transaction"].map(|kind| counted(report, kind));
    match report["mode"].as_str().expect("a mode") {
        "swap" => {
            assert_eq!(swap, (settled, rejected));
            assert_eq!([prepare, commit, transaction], [(0, 0); 3]);
        }
        "two-phase" => {
            assert_eq!((prepare, commit), ((settled, rejected), (settled, 0)));
            assert_eq!([swap, transaction], [(0, 0); 2]);
        }
        _ => {
            assert_eq!(transaction, (settled, of("conflicts")), "{report}");
            assert_eq!([swap, prepare, commit], [(0, 0); 3]);
            assert_eq!(of("conflicts"), of("retries") + of("gave_up"));
        }
    }
}

#[test]
fn every_mode_reports_what_the_engine_counted() {
    for mode in MODES {
        for (skew, batch) in [("uniform", 64), ("hot:1", 64), ("hot:1", 1)] {
            let data = scratch();
            let report = load(data.path(), mode, &format!("--skew {skew} --batch {batch}"));
            check_counts(&report);
            assert_eq!((&report["skew"], number(&report["swaps_rejected"])), (&skew.into(), 0));
            let conflicts = number(&report["conflicts"]);
            assert!(
                mode != "transaction" || skew == "uniform" || conflicts > SWAPS / 2,
                "{report}"
            );
        }
    }
}

/// What callers were told of orders is what the engine counted, and what stands is what was not ended.
fn check_orders(report: &Value) {
    let of = |name: &str| number(&report[name]);
    let orders = &report["orders"];
    let told = |name: &str| number(&orders[name]);
    assert_eq!(of("swaps_attempted"), SWAPS);
    assert_eq!(of("swaps_settled") + of("swaps_rejected"), SWAPS, "{report}");
    let settled = ["placed", "amended", "canceled"].map(told);
    assert_eq!(settled.iter().sum::<u64>(), of("swaps_settled"));
    let kinds = ["order", "amend", "cancel"].map(|kind| counted(report, kind));
    assert_eq!(kinds.map(|(settled, _)| settled), settled, "{report}");
    assert_eq!(kinds.map(|(_, rejected)| rejected).iter().sum::<u64>(), of("swaps_rejected"));
    assert!(settled.iter().all(|settled| *settled > 0) && told("trades") > 0, "{report}");
    let open = told("open");
    assert!(open > 0 && open <= told("placed") - told("canceled") - told("trades"), "{report}");
    assert!(number(&report["verification"]["answers_compared"]) > 0);
}

#[test]
fn orders_are_placed_amended_and_canceled_as_it_is_told() {
    for (more, markets) in [
        ("--batch 64", 16),
        ("--batch 1 --clients 8 --markets 2", 2),
        ("--batch 500 --clients 2 --markets 3 --assets 2 --shards 1 --skew zipf:1.1", 3),
        ("--batch 50 --rate 30000/s --markets 1", 1),
    ] {
        let data = scratch();
        let report = load(data.path(), "orders", more);
        check_orders(&report);
        assert_eq!(number(&report["orders"]["markets"]), markets);
    }
}

#[test]
fn with_tight_funds_every_refusal_is_true_in_every_mode() {
    for mode in MODES {
        let data = scratch();
        let report = load(data.path(), mode, "--funds tight --batch 512 --clients 3");
        check_counts(&report);
        let rejected = number(&report["swaps_rejected"]);
        let checked = &report["refusals_checked"];
        assert!(rejected > SWAPS / 20, "{report}");
        assert_eq!(number(&checked["checked"]), rejected);
        assert_eq!(number(&checked["wrong"]), 0);
    }
}

#[test]
fn nobody_is_tried_again_more_often_than_was_asked_for() {
    let data = scratch();
    let report = load(data.path(), "transaction", "--skew hot:1 --batch 100 --retries 2");
    check_counts(&report);
    let (gave_up, conflicts) = (number(&report["gave_up"]), number(&report["conflicts"]));
    assert!(gave_up > 0 && conflicts >= 3 * gave_up, "{report}");
    assert!(conflicts <= 3 * SWAPS, "{report}");
}

#[test]
fn an_open_loop_goes_on_in_every_mode() {
    for mode in MODES {
        let data = scratch();
        let report = load(data.path(), mode, "--rate 30000/s --batch 20 --clients 4");
        check_counts(&report);
    }
}

fn balances(data: &Path) -> Vec<Vec<(AssetId, Amount, Amount)>> {
    let engine = Engine::start(Options::new(data)).expect("it was stopped");
    audit(&engine);
    let of = |number| {
        let found = engine.balances_blocking(account(number)).expect("an account");
        let plain =
            found.balances.iter().map(|it| (it.asset, it.balance.available, it.balance.held));
        plain.collect()
    };
    let all = (1..=ACCOUNTS).map(of).collect();
    engine.stop().expect("nothing failed");
    all
}

#[test]
fn the_same_swaps_leave_the_same_balances_in_every_mode() {
    let ends = MODES.map(|mode| {
        let data = scratch();
        let retries = if mode == "transaction" { "--retries 1000" } else { "" };
        let report = load(data.path(), mode, &format!("--clients 1 --batch 50 {retries}"));
        assert_eq!(number(&report["swaps_settled"]), SWAPS, "{report}");
        balances(data.path())
    });
    assert!(ends[0].iter().flatten().all(|(_, _, held)| *held == Amount::ZERO));
    assert!(ends[0] == ends[1] && ends[1] == ends[2]);
}

#[test]
fn a_sweep_loads_at_rising_rates() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crosslatch"));
    command.args(["load", "--sweep", "--duration", "200ms", "--accounts", "200", "--batch", "64"]);
    let output = command.args(["--json"]).current_dir(scratch().path()).output();
    let output = output.expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("closed loop") && said.contains("knee"), "{said}");
    let sweep: Value = serde_json::from_slice(&output.stdout).expect("what was found");
    let reports = sweep["reports"].as_array().expect("a report a step");
    assert_eq!(reports.len(), 10);
    let rates: Vec<f64> = reports[1..].iter().map(|it| it["rate"].as_f64().unwrap()).collect();
    assert!(rates.is_sorted(), "{rates:?}");
    let peak = sweep["peak_per_second"].as_f64().unwrap();
    assert!((peak - rates[8]).abs() <= 1.0, "{peak}: {rates:?}");
    assert!(
        reports
            .iter()
            .all(|it| number(&it["swaps_settled"]) > 0 && number(&it["swaps_rejected"]) == 0)
    );
}
