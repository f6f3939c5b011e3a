//! Running a server from the command line: settings, statuses, hints, health, logs, and what is
//! packaged for it. Everything here is the real binary.

#[path = "../support/http.rs"]
#[expect(dead_code, reason = "here the commands are the client, mostly")]
mod http;
#[path = "../support/people.rs"]
#[expect(dead_code, reason = "a few of them suffice here")]
mod people;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "no server here runs on a small disk")]
mod process;
mod said;

mod completions;
mod config;
mod hints;
mod launch;
mod logs;
mod notify;
mod packaging;
#[cfg(feature = "faults")]
mod starting;
mod statuses;
mod watch;
