//! Exactly once, whoever dies: the real server on a real directory, clients in processes of their own,
//! over gRPC and over HTTP, and all of them killed with SIGKILL at random moments and started again.
//!
//! Every client has a plan: which requests it makes, under which ids ([`plan`]). What it is about to ask
//! and what it was told is in a file ([`memory`]), so that it goes on after its death from a little
//! before the last thing it knows, under the same ids. In the end everything that was ever asked is asked
//! once more, and judged ([`judge`]): every answer to an id was the same one; the accounts have what
//! everything that settled comes to, done once, in the order of the seqs; nothing else is there.
//!
//! A longer run, by hand, and others by `CROSSLATCH_SEED=n`:
//!
//! ```text
//! CROSSLATCH_CAMPAIGN_SECONDS=600 cargo test --release --test campaign whoever_dies -- --nocapture
//! ```

#[path = "../support/child.rs"]
#[expect(dead_code, reason = "no child here says anything that matters: it writes it down")]
mod child;
#[path = "../support/http.rs"]
#[expect(dead_code, reason = "of the client for HTTP, a few calls are enough here")]
mod http;
#[path = "../support/oracle.rs"]
#[expect(dead_code, reason = "nobody here asks one thing at a time")]
mod oracle;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "of the ways to start a server, one is enough here")]
mod process;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "holds are resolved by their clients or by time")]
mod support;
#[path = "../crash/trading.rs"]
mod trading;
#[path = "../support/workload.rs"]
mod workload;

mod chaos;
mod face;
mod judge;
mod memory;
mod node;
mod plan;
mod said;
mod worker;

use std::time::Duration;

use chaos::Campaign;
use plan::Plan;

/// The test that a client's process runs, which finds its part there.
const CLIENT: &str = "whoever_dies_each_request_takes_effect_once";
/// How long the killing goes on.
const SECONDS: u64 = 5;

#[test]
fn whoever_dies_each_request_takes_effect_once() {
    if let Some(plan) = child::part() {
        return worker::main(&Plan::from_text(&plan));
    }
    let seconds = std::env::var("CROSSLATCH_CAMPAIGN_SECONDS");
    let seconds = seconds.map_or(SECONDS, |text| text.parse().expect("a number"));
    let mut campaign = Campaign::open(support::seed(20_261_126), false);
    campaign.rage(Duration::from_secs(seconds));
    let (deaths, figures) = campaign.judged().expect("each request took effect once");
    eprintln!("{deaths:?}\n{figures:?}");
    assert!(deaths.servers > 0 && deaths.clients > 0, "nobody died: {deaths:?}");
    assert!(figures.repeats > 0, "nothing was asked twice: {figures:?}");
    assert!(figures.settled > 0 && figures.refused > 0, "too little happened: {figures:?}");
}

/// The judge must see it if a client sends what it had sent under another id.
#[test]
fn a_client_that_makes_new_ids_is_found() {
    let mut campaign = Campaign::open(7, true);
    campaign.kill_clients_once_answered();
    campaign.kill_clients_once_answered();
    let found = campaign.judged().expect_err("requests took effect twice");
    eprintln!("found: {found}");
    assert!(found.contains("told"), "found, and called something else: {found}");
}

/// The judge must see it if the server is back at what it was a while ago.
#[test]
fn a_server_that_forgets_what_it_answered_is_found() {
    let mut campaign = Campaign::open(8, false);
    campaign.forget_on_the_server();
    let found = campaign.judged().expect_err("answers are lost");
    eprintln!("found: {found}");
    assert!(found.contains("told"), "found, and called something else: {found}");
}
