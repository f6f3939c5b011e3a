//! `crosslatch serve`: an engine on a data directory, answering over HTTP and gRPC until it is told to stop.
//!
//! ```text
//! settings ─► sockets ─► engine (recovers) ─► "is ready" ─► serving ─┬─ SIGTERM ─► drain ─► stop ─► 0
//!                                                                   └─ poisoned ─► drain ─► 4
//! ```
//!
//! The sockets are taken first: a second server on the same ports then fails before it touches the
//! data. Until the engine has recovered, connections wait to be accepted.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use crate::engine::{Engine, Options};
use crate::error::Error;
use crate::metrics;
use crate::server::{self, App};

use super::settings::{LogFormat, Settings};

/// How long a stop waits for connections to end by themselves.
const DRAIN: Duration = Duration::from_secs(20);
/// How long an engine that failed waits for them, and for its threads: time to say that it has
/// stopped, no more, as whoever watches over the process cannot start it anew before.
const DRAIN_FAILED: Duration = Duration::from_millis(500);
/// How long what is still open then may take to be dropped.
const CLOSE: Duration = Duration::from_secs(1);

/// `crosslatch serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Data directory; created when missing [default: ./data]
    #[arg(long, value_name = "DIR", env = "CROSSLATCH_DATA")]
    data: Option<PathBuf>,
    /// Address of the HTTP server; port 0 takes a free one [default: 127.0.0.1:7400]
    #[arg(long, value_name = "IP:PORT", env = "CROSSLATCH_LISTEN")]
    listen: Option<SocketAddr>,
    /// Address of the gRPC server; port 0 takes a free one [default: 127.0.0.1:7401]
    #[arg(long, value_name = "IP:PORT", env = "CROSSLATCH_GRPC")]
    grpc: Option<SocketAddr>,
    /// Shard actors, 1 to 64 [default: 2]
    #[arg(long, value_name = "N", env = "CROSSLATCH_SHARDS")]
    shards: Option<usize>,
    /// TOML file with settings
    #[arg(long, value_name = "FILE", env = "CROSSLATCH_CONFIG")]
    config: Option<PathBuf>,
    /// How log lines are written [default: text]
    #[arg(long, value_name = "FORMAT", env = "CROSSLATCH_LOG")]
    log: Option<LogFormat>,
}

impl ServeArgs {
    /// Flags and their variables over file over defaults.
    fn settings(self) -> Result<Settings, Error> {
        let mut settings = Settings::load(self.config.as_deref(), std::env::vars())?;
        settings.data = self.data.unwrap_or(settings.data);
        settings.listen = self.listen.unwrap_or(settings.listen);
        settings.grpc = self.grpc.unwrap_or(settings.grpc);
        settings.log = self.log.unwrap_or(settings.log);
        settings.limits.shards = self.shards.unwrap_or(settings.limits.shards);
        settings.validate()?;
        Ok(settings)
    }
}

/// Runs the server until it is told to stop, or cannot go on.
///
/// # Errors
/// It cannot start: the settings, the socket, or the data directory.
pub fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let settings = args.settings()?;
    start_log(settings.log);
    let exporter = metrics::install()?;
    let faces = Faces { http: bind(settings.listen)?, grpc: bind(settings.grpc)? };
    let mut options = Options::new(&settings.data);
    options.limits = settings.limits.clone();
    let app = App::new(Engine::start(options)?, exporter, &settings.limits);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(serve(app, faces, &settings))?;
    // What is still running was given its time. Dropped with the last connection is the database:
    // the process would abort if it ended while RocksDB's threads are at work.
    runtime.shutdown_timeout(CLOSE);
    Ok(code)
}

/// Where the server is reached.
struct Faces {
    http: TcpListener,
    grpc: TcpListener,
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
}

/// Logs to standard error; `RUST_LOG` chooses what, by default `info`.
fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let started = match format {
        LogFormat::Text => log.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    // A program that embeds this command may have a log of its own.
    drop(started);
}

/// Why the server ends.
enum End {
    Asked(&'static str),
    Poisoned(String),
    Broken(String),
}

async fn serve(app: App, faces: Faces, settings: &Settings) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let addresses = [faces.http.local_addr()?, faces.grpc.local_addr()?];
    let (stop, stopping) = watch::channel(());
    let asked = || {
        let mut stopping = stopping.clone();
        // The sender is dropped, nothing is ever sent.
        async move { drop(stopping.changed().await) }
    };
    let http = server::serve(app.clone(), faces.http, asked());
    let grpc = server::grpc::serve(app.clone(), faces.grpc, asked());
    // Both end when they are asked to, and each by itself only if it fails.
    let mut serving = tokio::spawn(async { tokio::try_join!(http, grpc).map(|_| ()) });
    say_ready(&app, addresses, settings)?;
    let end = tokio::select! {
        name = signals.next() => End::Asked(name),
        cause = app.engine().poisoned() => End::Poisoned(cause),
        done = &mut serving => End::Broken(format!("{done:?}")),
    };
    app.stop();
    drop(stop);
    match end {
        End::Asked(signal) => {
            tracing::info!(signal, "stopping: what is in flight is answered first");
            drain(serving, &mut signals, DRAIN).await;
            stop_engine(app.engine().clone()).await
        }
        End::Poisoned(cause) => {
            // Said first: what comes after may hang on the same disk.
            eprintln!("crosslatch: the engine stopped: {cause}");
            drain(serving, &mut signals, DRAIN_FAILED).await;
            let engine = app.engine().clone();
            let threads = tokio::task::spawn_blocking(move || engine.stop());
            // It says once more that it has stopped; or the disk hangs, and they with it.
            let _ = tokio::time::timeout(DRAIN_FAILED, threads).await;
            Ok(ExitCode::from(4))
        }
        End::Broken(how) => {
            tracing::error!(how, "the server ended by itself");
            let _ = stop_engine(app.engine().clone()).await?;
            Ok(ExitCode::from(4))
        }
    }
}

/// The one line that people and scripts wait for.
fn say_ready(app: &App, [http, grpc]: [SocketAddr; 2], settings: &Settings) -> std::io::Result<()> {
    let data = settings.data.display();
    let seq = app.engine().status().durable_seq;
    let shards = match settings.limits.shards {
        1 => "1 shard".into(),
        many => format!("{many} shards"),
    };
    let mut out = stdout().lock();
    writeln!(
        out,
        "crosslatch is ready on http://{http} and grpc://{grpc} (data {data}, {shards}, seq {seq})"
    )?;
    out.flush()
}

/// Waits until every connection has had its answer; not for ever, and not past a second signal.
async fn drain(
    serving: JoinHandle<std::io::Result<()>>,
    signals: &mut Signals,
    patience: Duration,
) {
    tokio::select! {
        drained = tokio::time::timeout(patience, serving) => if drained.is_err() {
            tracing::warn!("some connections did not end within {patience:?}");
        },
        signal = signals.next() => tracing::warn!(signal, "not waiting for connections any more"),
    }
}

async fn stop_engine(engine: Engine) -> anyhow::Result<ExitCode> {
    tokio::task::spawn_blocking(move || engine.stop()).await??;
    tracing::info!("stopped; everything is on disk");
    Ok(ExitCode::SUCCESS)
}

/// The signals that ask for a stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
