//! `crosslatch watch`: what a server does, live, from its metrics.
//!
//! ```text
//! /metrics ─► samples ─► view (rates and latencies since the look before: server::stats) ─► draw
//! ```
//!
//! On a terminal the page is drawn in place, and q ends it; elsewhere it is a line an interval. A
//! server that is gone is waited for.

mod draw;
mod terminal;

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use crossbeam::channel::{Receiver, Sender, bounded};
use serde_json::json;

use super::client::http;
use super::client::{ServerArgs, unreachable};
use super::load::parse_duration;
use super::serve::Signals;
use crate::clock::{Clock, SystemClock};
use crate::server::stats::{Look, Page, View};

use terminal::Screen;

/// The exit status where there is no server.
const FAILED: u8 = 4;
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// `crosslatch watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// How often it looks, as in 1s or 500ms.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    /// Looks twice, an interval apart, says what came between, and ends.
    #[arg(long)]
    once: bool,
}

/// Runs the command, until q, Ctrl-C or SIGTERM.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(args: WatchArgs) -> anyhow::Result<ExitCode> {
    let (end, ended) = bounded(1);
    if args.once {
        return once(&args, &ended);
    }
    wait_for_signals(end.clone())?;
    let screen = if args.server.json { None } else { Screen::enter()? };
    if screen.is_some() {
        terminal::wait_for_q(end);
    }
    let last = watch(&args, screen.as_ref(), &ended)?;
    if screen.is_some() {
        drop(screen);
        // What was seen last stays to be read.
        let mut out = stdout().lock();
        last.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn look(server: &ServerArgs) -> Result<Look, String> {
    let ServerArgs { url, access, .. } = server;
    let text = http::text(url, access, "/metrics", PATIENCE).map_err(|error| error.to_string())?;
    let at_nanos = SystemClock.boot_nanos();
    Ok(Look { page: Page::parse(&text)?, at_nanos })
}

fn once(args: &WatchArgs, never: &Receiver<()>) -> anyhow::Result<ExitCode> {
    let ServerArgs { url, json, .. } = &args.server;
    let seen = look(&args.server).and_then(|before| {
        // Nobody ends it: this is a wait.
        let _ = never.recv_timeout(args.interval);
        View::between(Some(&before), &look(&args.server)?)
    });
    let view = match seen {
        Ok(view) => view,
        Err(why) => {
            eprintln!("crosslatch: {why}\n{}", unreachable(url));
            return Ok(ExitCode::from(FAILED));
        }
    };
    let mut out = stdout().lock();
    if *json {
        writeln!(out, "{}", as_json(&view)?)?;
    } else {
        draw::page(url, &view).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn as_json(view: &View) -> serde_json::Result<serde_json::Value> {
    let mut value = serde_json::to_value(view)?;
    value["reachable"] = true.into();
    Ok(value)
}

/// Looks again and again; returns what was drawn last.
fn watch(
    args: &WatchArgs,
    screen: Option<&Screen>,
    ended: &Receiver<()>,
) -> anyhow::Result<Vec<String>> {
    let ServerArgs { url, json, .. } = &args.server;
    let mut before: Option<Look> = None;
    let mut last = Vec::new();
    loop {
        let seen = look(&args.server).and_then(|now| {
            let view = View::between(before.as_ref(), &now)?;
            // A server that was gone for a while began anew, and so do rates.
            before = Some(now);
            Ok(view)
        });
        let mut out = stdout().lock();
        match (&seen, screen) {
            (Ok(view), Some(screen)) => {
                last = draw::page(url, view);
                screen.draw(&last)?;
            }
            (Err(why), Some(screen)) => {
                let gone = format!("{url} is not reachable, trying again: {why}");
                screen.draw(
                    &[gone, String::new()].into_iter().chain(last.clone()).collect::<Vec<_>>(),
                )?;
            }
            (Ok(view), None) if *json => writeln!(out, "{}", as_json(view)?)?,
            (Ok(view), None) => writeln!(out, "{}", draw::line(view))?,
            (Err(why), None) if *json => {
                writeln!(out, "{}", json!({"reachable": false, "why": why}))?;
            }
            (Err(why), None) => writeln!(out, "{url} is not reachable, trying again: {why}")?,
        }
        out.flush()?;
        drop(out);
        if ended.recv_timeout(args.interval).is_ok() {
            return Ok(last);
        }
    }
}

/// Says when the process is asked to end.
fn wait_for_signals(end: Sender<()>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _within = runtime.enter();
        Signals::new()?
    };
    let wait = move || {
        runtime.block_on(signals.next());
        let _ = end.try_send(());
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}
