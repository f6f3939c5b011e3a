//! The client commands against a running server: what they print, and how they end.

#[path = "support/http.rs"]
#[expect(dead_code, reason = "here the commands are the client")]
mod http;
#[path = "support/people.rs"]
#[expect(dead_code, reason = "nobody looks at single balances here")]
mod people;
#[path = "support/process.rs"]
#[expect(dead_code, reason = "no server here runs on a small disk, or stops by itself")]
mod process;

use std::net::TcpListener;

use serde_json::{Value, json};

use people::{ALICE_EVM, id, started};
use process::{Server, command, output};

/// What a command said, and its exit status.
#[derive(Debug)]
struct Said {
    out: String,
    err: String,
    status: i32,
}

/// Runs a command line against a server; arguments hold no spaces.
fn run(server: &Server, line: &str) -> Said {
    let url = format!("http://{}", server.address);
    let mut args: Vec<&str> = line.split(' ').collect();
    args.extend(["--url", &url]);
    said(&args)
}

fn said(args: &[&str]) -> Said {
    let done = output(args);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let status = done.status.code().expect("it ends by itself");
    Said { out: text(&done.stdout), err: text(&done.stderr), status }
}

impl Said {
    /// What a command printed that must have succeeded.
    #[track_caller]
    fn done(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.out
    }

    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.done()).expect("JSON")
    }

    /// What a command said that must have been refused.
    #[track_caller]
    fn refused(self) -> String {
        assert_eq!(self.status, 1, "{self:?}");
        self.err
    }
}

#[test]
fn a_venue_is_run_from_the_command_line() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(data.path());
    let run = |line: &str| run(&server, line);
    run("asset put ETH --chain-id 1 --chain-kind evm --decimals 18").done();
    run("asset put SOL --chain-id 101 --chain-kind solana --decimals 9").done();
    run(&format!("account put 1 --link 1={ALICE_EVM} --link 101={}", people::ALICE_SOL)).done();
    run(&format!("account put 2 --link 1={} --link 101={}", people::BOB_EVM, people::BOB_SOL))
        .done();
    let shown = run("account show 1").done();
    assert!(shown.contains("CHAIN_ID  ADDRESS") && shown.contains(ALICE_EVM), "{shown}");
    assert_eq!(run("asset show --json").json()["assets"][1]["asset"], "SOL");
    assert_eq!(run("asset show ETH --json").json()["decimals"], 18);
    run("deposit 1 ETH 1000 --reference tx-1").done();
    run("deposit 2 SOL 5000").done();
    let swap = format!("swap --leg 1:2:ETH:10 --leg 2:1:SOL:200 --request-id {}", id(7));
    let settled = run(&swap).done();
    assert!(settled.starts_with("settled at seq 7, 20"), "{settled}");
    assert!(settled.contains(&id(7)), "{settled}");
    let header = "FROM  TO  ASSET  AMOUNT  FROM_BEFORE  FROM_AFTER  TO_BEFORE  TO_AFTER\n\
                  1     2   ETH    10      1000         990         0          10\n";
    assert!(settled.contains(header), "{settled}");
    // The same again is answered as it was; so is who asks for it.
    assert_eq!(run(&swap).done(), settled);
    assert_eq!(run(&format!("receipt {}", id(7))).done(), settled);
    let balance = run("balance 1 --at 6").done();
    let expected = "seq      6\naccount  1\nASSET  AVAILABLE  HELD  VERSION\n\
                    ETH    1000       0     5\n";
    assert_eq!(balance, expected);
    let history = run("history 1 --asset ETH").done();
    let lines: Vec<&str> = history.lines().collect();
    assert!(lines[2].starts_with("SEQ  TIME"), "{history}");
    assert!(lines[4].starts_with("7    20") && lines[4].ends_with(&id(7)), "{history}");
    let page = run("history 1 --limit 1 --json").json();
    assert_eq!((&page["next"], &page["changes"][0]["kind"]), (&json!("5"), &json!("deposit")));
    assert_eq!(run("history 1 --after 5 --json").json()["changes"][0]["kind"], "swap");
}

#[test]
fn holds_are_made_and_ended_from_the_command_line() {
    let (_data, server, _client) = started();
    let run = |line: &str| run(&server, line);
    let prepare = "prepare --leg 1:2:ETH:10 --leg 2:1:SOL:200";
    let token = |line: &str| {
        let body = run(&format!("{line} --json")).json();
        body["token"].as_str().expect("a token").to_owned()
    };
    let first = token(prepare);
    let open = run(&format!("prepare show {first}")).done();
    assert!(open.contains("state       open\n"), "{open}");
    assert_eq!(run(&format!("commit {first} --json")).json()["token"], json!(first));
    let late = run(&format!("rollback {first}")).refused();
    assert!(late.contains("already_resolved: hold") && late.contains("committed"), "{late}");
    let second = token(&format!("{prepare} --exclusive --expires-in-ms 60000"));
    let shown = run(&format!("prepare show {second} --json")).json();
    assert_eq!((&shown["exclusive"], &shown["state"]), (&json!(true), &json!("open")));
    run(&format!("rollback {second}")).done();
    let out = token("withdraw 1 ETH 90 --reference 0xab");
    assert_eq!(run("balance 1 --json").json()["balances"][0]["held"], "90");
    run(&format!("withdraw confirm {out}")).done();
    assert_eq!(run(&format!("withdraw show {out} --json")).json()["state"], "confirmed");
    let back = token("withdraw 1 ETH 100");
    run(&format!("withdraw cancel {back}")).done();
    assert_eq!(run("balance 1 --json").json()["balances"][0]["available"], "900");
}

/// Whether one of the lines is that member with that value.
fn says(text: &str, member: &str, value: &str) -> bool {
    text.lines().any(|line| line.split_whitespace().eq([member, value]))
}

#[test]
fn orders_trade_from_the_command_line() {
    let (_data, server, _client) = started();
    let run = |line: &str| run(&server, line);
    run("market put ETH-SOL --base ETH --quote SOL --lot-size 10 --fee-account 2 \
         --maker-fee-bps -1 --taker-fee-bps 2")
    .done();
    assert_eq!(run("market show ETH-SOL --json").json()["maker_fee_bps"], -1);
    let (sell, buy) = (id(10), id(11));
    let line = format!("order sell 1 ETH-SOL 100 --price 20 --request-id {sell}");
    let sold = run(&line).done();
    assert!(sold.starts_with("settled at seq 10, 20"), "{sold}");
    assert!(says(&sold, "state", "new") && says(&sold, "order_id", &sell), "{sold}");
    assert_eq!(run(&line).done(), sold);
    let book = run("book ETH-SOL").done();
    let expected = "market      ETH-SOL\nseq         10\nlast_price  -\n\
                    SIDE  PRICE  QUANTITY  ORDERS\nsell  20     100       1\n";
    assert_eq!(book, expected);
    let line = format!("order buy 2 ETH-SOL --type market --funds 100 --request-id {buy} --json");
    let bought = run(&line).json();
    assert_eq!((&bought["order"]["filled"], &bought["fee"]), (&json!("40"), &json!("1")));
    assert_eq!(run(&format!("order show {buy} --json")).json()["reason"], "out_of_funds");
    let amended = run(&format!("amend {sell} --quantity 70")).done();
    assert!(says(&amended, "remaining", "30"), "{amended}");
    let list = run("order list 1").done();
    assert!(list.contains(&sell) && list.contains("partially_filled"), "{list}");
    let trades = run("trades ETH-SOL --json").json();
    assert_eq!(trades["trades"][0]["maker_order_id"], json!(sell));
    let first = trades["trades"][0]["trade_id"].as_str().expect("it has one");
    let none = run(&format!("trades ETH-SOL --after {first} --json")).json();
    assert_eq!((&none["trades"], &none["next"]), (&json!([]), &Value::Null));
    let canceled = run(&format!("cancel {sell}")).done();
    assert!(says(&canceled, "state", "canceled"), "{canceled}");
    let late = run(&format!("cancel {sell}")).refused();
    assert!(late.contains(": unknown_order: "), "{late}");
    for (n, price) in [(12, 30), (13, 31)] {
        let line = "order sell 1 ETH-SOL 10 --expires-in-ms 3600000";
        run(&format!("{line} --price {price} --request-id {}", id(n))).done();
    }
    let all = run("cancel-all 1").done();
    assert!(all.contains(&id(12)) && all.contains(&id(13)), "{all}");
    run("cancel-all 1 --market ETH-SOL").done();
    let canceled = run("orders --account 1 --status canceled --limit 2 --json").json();
    let orders = canceled["orders"].as_array().expect("a list");
    let ids: Vec<&Value> = orders.iter().map(|order| &order["order_id"]).collect();
    assert_eq!(ids, [&json!(id(13)), &json!(id(12))]);
    let next = canceled["next"].as_str().expect("there is one more");
    let rest = run(&format!("orders --account 1 --after {next}")).done();
    assert!(rest.contains(&sell) && !rest.contains(&id(12)), "{rest}");
    let filled = run("order list 2 --status filled").done();
    assert!(!filled.contains(&buy), "{filled}");
    run("market halt ETH-SOL").done();
    let halted = run("order sell 1 ETH-SOL 10 --price 20").refused();
    assert!(halted.contains(": market_halted: market ETH-SOL is halted"), "{halted}");
    run("market resume ETH-SOL").done();
    assert_eq!(run("market list --json").json()["markets"][0]["halted"], false);
    run("operate cancel_only").done();
    assert_eq!(run("operate --json").json()["state"], "cancel_only");
    let restricted = run("order sell 1 ETH-SOL 10 --price 20").refused();
    assert!(restricted.contains(": restricted: the venue is cancel_only"), "{restricted}");
    run("operate normal").done();
}

#[test]
fn transactions_and_keys_go_by_text() {
    let (_data, server, _client) = started();
    let run = |line: &str| run(&server, line);
    let line = "transaction --read a/b@0 --read-balance 1:ETH@7 --write a/b=x=y --write k=1 \
                --transfer 1:2:ETH:10";
    let receipt = run(&format!("{line} --json")).json();
    assert_eq!(
        (&receipt["commit_seq"], &receipt["legs"][0]["amount"]),
        (&json!("9"), &json!("10"))
    );
    assert_eq!(run("value a/b").done(), "version  9\nvalue    x=y\n");
    assert_eq!(run("value a/b --json").json(), json!({"value": "eD15", "version": "9"}));
    let again = run("transaction --read a/b@0 --write a/b=z").refused();
    assert!(again.contains("crosslatch: rejected: conflict: key a/b has changed"), "{again}");
    run("transaction --read a/b@9 --delete a/b").done();
    assert_eq!(run("value a/b").done(), "version  10\nvalue    -\n");
    assert_eq!(run("value a/b --at 9").done(), "version  9\nvalue    x=y\n");
}

#[test]
fn refusals_exit_1_and_name_their_code() {
    let (_data, server, _client) = started();
    let run = |line: &str| run(&server, line);
    for (line, code) in [
        ("swap --leg 1:2:ETH:1001 --leg 2:1:SOL:1", "insufficient_funds"),
        ("swap --leg 1:2:ETH:1 --leg 2:1:DOGE:1", "unknown_asset"),
        ("swap --leg 1:2:ETH:1", "malformed"),
        ("swap --leg 1:2:ETH:1 --leg 2:1:SOL:1 --deadline 2020-01-01T00:00:00Z", "expired"),
        ("deposit 1 ETH 5 --reference tx-1", "already_credited"),
        ("commit 01900000-0000-7000-8000-00000000abcd", "unknown_token"),
        ("receipt 01900000-0000-7000-8000-00000000abcd", "unknown_request"),
        ("balance 9", "unknown_account"),
        ("balance 1 --at 99", "malformed"),
        ("asset show D/OGE", "unknown_asset"),
        ("order buy 1 NO 5 --price 1", "unknown_market"),
        ("order buy 1 NO 5", "malformed"),
        ("amend 01900000-0000-7000-8000-00000000abcd --price 5", "unknown_order"),
        ("order list 9", "unknown_account"),
        ("market halt NO", "unknown_market"),
        ("asset put ETH --chain-id 1 --chain-kind evm --decimals 8", "already_exists"),
    ] {
        let said = run(line);
        assert!(said.out.is_empty(), "{line}: {said:?}");
        let err = said.refused();
        assert!(err.contains(&format!(": {code}: ")), "{line}: {err}");
    }
    let said = run("balance 9 --json");
    assert_eq!(said.status, 1);
    let problem: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!((&problem["code"], &problem["account"]), (&json!("unknown_account"), &json!(9)));
}

#[test]
fn bad_usage_exits_2_and_asks_nobody() {
    for line in [
        "swap",
        "swap --leg 1:2:ETH",
        "deposit 1 ETH",
        "deposit 1 ETH 1.5",
        "deposit 1 ETH 5 --request-id abc",
        "withdraw",
        "withdraw confirm",
        "balance x",
        "balance 1 --at 1 --at-time 2026-01-31T12:00:00Z",
        "balance 1 --url ftp://127.0.0.1:7400",
        "transaction --read a",
        "order buy 1",
        "order hold 1 ETH-SOL 5",
        "order buy 1 ETH-SOL 1.5",
        "order buy 1 ETH-SOL 5 --type stop",
        "amend 01900000-0000-7000-8000-00000000abcd",
        "cancel 7",
        "operate off",
    ] {
        let said = said(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(said.status, 2, "{line}: {said:?}");
        assert!(said.err.contains("Usage") || said.err.contains("--help"), "{line}: {said:?}");
    }
}

#[test]
fn where_nobody_answers_it_says_what_is_known_and_how_to_ask() {
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let url = format!("http://{gone}");
    let nobody = said(&["swap", "--leg", "1:2:ETH:1", "--leg", "2:1:SOL:1", "--url", &url]);
    assert_eq!(nobody.status, 4, "{nobody:?}");
    let made = nobody.err.strip_prefix("request id ").and_then(|rest| rest.get(..36));
    let made = made.unwrap_or_else(|| panic!("{nobody:?}"));
    assert!(nobody.err.contains("nothing was sent"), "{nobody:?}");
    assert!(nobody.err.contains(&format!("--request-id {made}")), "{nobody:?}");
    // One that takes the request and hangs up.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let hangs_up = std::thread::spawn(move || drop(listener.accept()));
    let cut = said(&["deposit", "1", "ETH", "5", "--request-id", &id(5), "--url", &url]);
    hangs_up.join().expect("no panic");
    assert_eq!(cut.status, 4, "{cut:?}");
    let ask = format!("the outcome is unknown; ask: crosslatch receipt {} --url {url}", id(5));
    assert!(cut.err.contains(&ask), "{cut:?}");
    let read = said(&["balance", "1", "--url", "http://127.0.0.1:1"]);
    assert_eq!(read.status, 4, "{read:?}");
    assert!(!read.err.contains("nothing was sent"), "{read:?}");
}

#[test]
fn the_server_is_named_by_the_environment_too() {
    let (_data, server, _client) = started();
    let mut command = command(&["balance", "2", "--json"]);
    command.env("CROSSLATCH_URL", format!("http://{}/", server.address));
    let done = command.output().expect("the binary starts");
    let body: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(body["balances"][0]["available"], "5000");
}
