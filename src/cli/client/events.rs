//! `crosslatch events`: what happens, one JSON object a line.
//!
//! ```text
//! crosslatch events --after 1200 --follow | jq -c 'select(.kind == "order")'
//! ```
//!
//! Without `--follow` it ends with what was durable when it began. With it, it goes on for ever: a
//! connection that breaks is made again after the last event that was printed, so each is printed once.

use std::io::{BufRead, BufReader, ErrorKind, Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use crossbeam::channel::never;
use serde_json::Value;

use super::http::{self, Streamed};
use super::look::{text, with_query};
use super::{FAILED, REJECTED, ServerArgs};

/// What passes between two attempts to go on.
const AGAIN: Duration = Duration::from_secs(1);

/// `crosslatch events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// What came after that seq; all that there is where none is given.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
    /// Only those in which that account had part.
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<u64>,
    /// Only those of that market.
    #[arg(long, value_name = "MARKET")]
    market: Option<String>,
    /// Only those of that kind, as in `swap`.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Goes on with what happens from now on.
    #[arg(long)]
    follow: bool,
}

/// How a connection ended.
enum End {
    /// With all that was asked for.
    Done,
    /// The server has ended it, or it broke.
    Over(String),
    /// The engine behind it has failed.
    Failed(String),
}

/// Runs `crosslatch events`.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn events(args: EventsArgs) -> anyhow::Result<ExitCode> {
    let mut after = args.after;
    let mut begun = false;
    loop {
        let end = match http::stream(&args.server.url, &args.server.access, &path(&args, after)) {
            Ok(Streamed::Body(body)) => {
                begun = true;
                print(BufReader::new(body), &mut after)?
            }
            Ok(Streamed::Problem(problem)) => {
                let word = |name: &str| problem[name].as_str().unwrap_or_default();
                eprintln!("crosslatch: {}: {}: {}", word("status"), word("code"), word("detail"));
                return Ok(ExitCode::from(REJECTED));
            }
            Err(unanswered) if !begun => {
                eprintln!("crosslatch: {unanswered}");
                return Ok(ExitCode::from(FAILED));
            }
            Err(unanswered) => End::Over(unanswered.to_string()),
        };
        match end {
            End::Done => return Ok(ExitCode::SUCCESS),
            End::Failed(why) | End::Over(why) if !args.follow => {
                eprintln!("crosslatch: {why}; go on with --after {after}");
                return Ok(ExitCode::from(FAILED));
            }
            End::Failed(why) | End::Over(why) => {
                eprintln!("crosslatch: {why}; going on after seq {after}");
                // Nothing comes: it is a wait.
                let _ = never::<()>().recv_timeout(AGAIN);
            }
        }
    }
}

fn path(args: &EventsArgs, after: u64) -> String {
    let parameters = [
        ("after", text(Some(after))),
        ("account", text(args.account)),
        ("market", args.market.clone()),
        ("kind", args.kind.clone()),
        ("follow", (!args.follow).then(|| "false".into())),
    ];
    with_query("/v1/events".into(), parameters)
}

/// Prints the events of a stream; `after` is the last that it told of.
fn print(body: impl BufRead, after: &mut u64) -> anyhow::Result<End> {
    let mut out = stdout().lock();
    let mut event = Event::default();
    for line in body.lines() {
        let line = match line {
            Ok(line) => line,
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Ok(End::Failed("what answers is no server of this kind".into()));
            }
            Err(error) => return Ok(End::Over(format!("the stream broke: {error}"))),
        };
        if !event.take(&line) {
            continue;
        }
        let told = std::mem::take(&mut event);
        if told.kind == "error" {
            let problem: Value = serde_json::from_str(&told.data).unwrap_or_default();
            return Ok(End::Failed(problem["detail"].as_str().unwrap_or_default().to_owned()));
        }
        let Some(seq) = told.id else { continue };
        *after = seq;
        match &*told.kind {
            "end" => return Ok(End::Done),
            // What a filter leaves out.
            "progress" => {}
            _ => {
                writeln!(out, "{}", told.data)?;
                out.flush()?;
            }
        }
    }
    Ok(End::Over("the server has ended the stream".into()))
}

/// A server-sent event, as its lines come.
#[derive(Debug, Default)]
struct Event {
    id: Option<u64>,
    kind: String,
    data: String,
}

impl Event {
    /// Takes the next line; says whether the event is whole.
    fn take(&mut self, line: &str) -> bool {
        match line.split_once(": ") {
            Some(("id", id)) => self.id = id.parse().ok(),
            Some(("event", kind)) => self.kind = kind.to_owned(),
            Some(("data", data)) => self.data = data.to_owned(),
            // Comments, and what is not known here.
            _ => {}
        }
        line.is_empty() && !self.data.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = ": nothing new\n\nid: 4\nevent: swap\ndata: {\"a\":\"b: c\"}\n\n\
        id: 9\nevent: progress\ndata: {\"seq\":\"9\"}\n\n";

    #[test]
    fn lines_become_events() {
        let mut event = Event::default();
        let mut lines = BODY.lines();
        while !event.take(lines.next().unwrap()) {}
        assert_eq!((event.id, &*event.kind, &*event.data), (Some(4), "swap", "{\"a\":\"b: c\"}"));
    }

    #[test]
    fn a_stream_is_done_when_it_says_so_and_over_when_it_just_ends() {
        let mut after = 0;
        assert!(matches!(print(BODY.as_bytes(), &mut after).unwrap(), End::Over(_)));
        assert_eq!(after, 9);
        let whole = format!("{BODY}id: 11\nevent: end\ndata: {{}}\n\n");
        assert!(matches!(print(whole.as_bytes(), &mut after).unwrap(), End::Done));
        assert_eq!(after, 11);
        let error = "event: error\ndata: {\"detail\": \"why\"}\n\n";
        let end = print(error.as_bytes(), &mut after).unwrap();
        assert!(matches!(end, End::Failed(why) if why == "why"));
    }
}
