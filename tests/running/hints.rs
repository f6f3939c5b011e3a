//! Errors that say what to try next.

use std::net::TcpListener;

use super::people::started;
use super::said::{run, run_at};

#[test]
fn slips_on_the_command_line_are_understood() {
    for (line, meant) in [
        ("balanse 1", "balance"),
        ("order sel 1 ETH-SOL 5", "sell"),
        ("balance 1 --jsn", "--json"),
        ("order buy 1 ETH-SOL 5 --type limt", "limit"),
    ] {
        let said = run(line).with(2);
        assert!(said.err.contains("similar") && said.err.contains(meant), "{line}: {said:?}");
    }
}

#[test]
fn bad_amounts_ids_and_accounts_are_explained_with_an_example() {
    for (line, example) in [
        ("deposit 1 ETH 1.5", "as in 1500000000"),
        ("deposit 1 ETH many", "as in 1500000000"),
        ("deposit alice ETH 1", "as in 1"),
        ("receipt 12", "as in 018bcfe5-687b-7000-8000-000000000001"),
        ("swap --leg 1:2:ETH", "as in 1:2:ETH:5"),
        ("balance 1 --url localhost", "as http://127.0.0.1:7400 does"),
    ] {
        let said = run(line).with(2);
        assert!(said.err.contains(example), "{line}: {said:?}");
    }
}

#[test]
fn names_that_do_not_exist_are_held_against_those_that_do() {
    let (_data, server, _client) = started();
    let run = |line: &str| run_at(server.address, line);
    run("market put ETH-SOL --base ETH --quote SOL --fee-account 1").with(0);
    for (line, hint) in [
        ("book ETH-SLO", "did you mean ETH-SOL?"),
        ("order buy 1 eth-sol 5 --price 1", "did you mean ETH-SOL?"),
        ("deposit 1 USDCC 5", "did you mean USDC?"),
        ("deposit 1 DOGE 5", "there are: ETH, USDC, SOL"),
        ("balance 9", "create it: crosslatch account put 9 --link CHAIN=ADDRESS"),
        ("swap --leg 3:1:SOL:1 --leg 1:3:ETH:1", "crosslatch account put 3 --link 101=ADDRESS"),
    ] {
        let said = run(line).with(1);
        assert!(said.err.trim_end().ends_with(hint), "{line}: {said:?}");
    }
}

#[test]
fn where_nobody_listens_it_says_how_to_start_a_server() {
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let said = run_at(gone, "balance 1").with(4);
    assert!(said.err.contains(&format!("nobody listens at http://{gone}")), "{said:?}");
    assert!(said.err.contains("crosslatch serve") && said.err.contains("--url"), "{said:?}");
}

#[test]
fn of_many_cancellations_those_that_were_refused_are_shown_too() {
    let (_data, server, _client) = started();
    let run = |line: &str| run_at(server.address, line);
    run("market put ETH-SOL --base ETH --quote SOL --fee-account 1").with(0);
    let said = run("cancel-all 9").with(1);
    assert!(said.out.contains("unknown_account"), "{said:?}");
    assert!(said.out.contains("account 9 does not exist"), "{said:?}");
    assert_eq!(run("cancel-all 9 --json").with(1).json()["results"][0]["status"], "rejected");
    run("cancel-all 1").with(0);
}
