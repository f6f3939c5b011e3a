//! The dashboards, the rules and the metrics behind them: read as files, and asked of a real Prometheus that
//! scrapes a real server under load.
//!
//! What has to be installed for that is installed by `scripts/setup.sh tests`. A test whose tool is missing
//! says so and is skipped, but not with CI set.

#[path = "../support/http.rs"]
#[expect(dead_code, reason = "JSON is asked for here, and little else")]
mod http;
#[path = "../support/people.rs"]
#[expect(dead_code, reason = "of the words for HTTP, a few are enough here")]
mod people;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "servers are started here, and stopped by being dropped")]
mod process;

#[path = "../support/strace.rs"]
#[expect(dead_code, reason = "of what it can do to a disk, slowness is wanted")]
mod strace;

mod boards;
mod drill;
mod names;
mod prometheus;
mod proof;
mod rules;
mod scenario;
mod schema;
mod scrapes;
mod tools;
