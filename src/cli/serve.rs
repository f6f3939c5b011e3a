//! `crosslatch serve`: an engine on a data directory, answering over HTTP until it is told to stop.
//!
//! ```text
//! settings ─► socket ─► engine (recovers) ─► "is ready" ─► serving ─┬─ SIGTERM ─► drain ─► stop ─► 0
//!                                                                   └─ poisoned ─► drain ─► 4
//! ```
//!
//! The socket is taken first: a second server on the same port then fails before it touches the
//! data. Until the engine has recovered, connections wait to be accepted.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use crate::engine::{Engine, Options};
use crate::error::Error;
use crate::metrics;
use crate::server::door::Door;
use crate::server::tls::{Tls, TlsFiles};
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
    /// Shard actors, 1 to 64 [default: 2]
    #[arg(long, value_name = "N", env = "CROSSLATCH_SHARDS")]
    shards: Option<usize>,
    /// Certificate of the server, PEM: turns TLS on, with --tls-key
    #[arg(long, value_name = "FILE", env = "CROSSLATCH_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", env = "CROSSLATCH_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Authority of clients' certificates, PEM: clients need one then
    #[arg(long, value_name = "FILE", env = "CROSSLATCH_TLS_CLIENT_CA", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
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
        settings.log = self.log.unwrap_or(settings.log);
        settings.limits.shards = self.shards.unwrap_or(settings.limits.shards);
        if let (Some(cert), Some(key)) = (self.tls_cert, self.tls_key) {
            settings.tls = Some(TlsFiles { cert, key, client_ca: self.tls_client_ca });
        }
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
    let listener = TcpListener::bind(settings.listen)
        .with_context(|| format!("cannot listen on {}", settings.listen))?;
    if !settings.data.exists() {
        // There can be no key: nothing is touched.
        settings.check_listen(false)?;
    }
    let mut options = Options::new(&settings.data);
    options.limits = settings.limits.clone();
    let tls = settings.tls.as_ref().map(Tls::load).transpose()?;
    let engine = Engine::start(options)?;
    let has_keys = engine.directory().keys_len() > 0;
    let door = Door::new(&settings.data, &settings.edge, settings.metrics_open);
    if let Err(refused) = settings.check_listen(has_keys) {
        engine.stop()?;
        return Err(refused.into());
    }
    if has_keys {
        door.master()?;
    }
    let app = App::new(engine, exporter, &settings.limits, door);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(serve(app, listener, tls, &settings))?;
    // What is still running was given its time. Dropped with the last connection is the database:
    // the process would abort if it ended while RocksDB's threads are at work.
    runtime.shutdown_timeout(CLOSE);
    Ok(code)
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

async fn serve(
    app: App,
    listener: TcpListener,
    tls: Option<Tls>,
    settings: &Settings,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let address = listener.local_addr()?;
    let (stop, stopping) = oneshot::channel::<()>();
    let stopping = async move {
        // A sender that is dropped is as good a sign.
        let _ = stopping.await;
    };
    if let Some(tls) = tls.clone() {
        tokio::spawn(reload_on(signal(SignalKind::hangup())?, tls));
    }
    let (router, edge) = (server::router(app.clone()), settings.edge.clone());
    let mut serving =
        tokio::spawn(async move { server::serve(router, listener, tls, &edge, stopping).await });
    warn_of_openness(&app, address, settings);
    say_ready(&app, address, settings)?;
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

/// Reads the certificates again whenever somebody says that they have changed.
async fn reload_on(mut hangup: Signal, tls: Tls) {
    while hangup.recv().await.is_some() {
        match tls.reload() {
            Ok(()) => tracing::info!("SIGHUP: the certificates were read again"),
            Err(error) => tracing::error!(%error, "SIGHUP: the certificates stay as they were"),
        }
    }
}

/// Says what everybody should know who runs a server that others can reach.
fn warn_of_openness(app: &App, address: SocketAddr, settings: &Settings) {
    if app.engine().directory().keys_len() == 0 {
        tracing::warn!("there are no keys: anybody on this machine may do everything");
    } else if settings.tls.is_none() && !address.ip().is_loopback() {
        tracing::warn!(
            "without TLS others can read along: bearer tokens are taken from this machine only, \
             everybody else has to sign"
        );
    }
}

/// The one line that people and scripts wait for.
fn say_ready(app: &App, address: SocketAddr, settings: &Settings) -> std::io::Result<()> {
    let data = settings.data.display();
    let seq = app.engine().status().durable_seq;
    let shards = match settings.limits.shards {
        1 => "1 shard".into(),
        many => format!("{many} shards"),
    };
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let mut out = stdout().lock();
    writeln!(
        out,
        "crosslatch is ready on {scheme}://{address} (data {data}, {shards}, seq {seq})"
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
