//! `crosslatch serve`: an engine on a data directory, answering over HTTP and gRPC until it is told to stop.
//!
//! ```text
//! settings ─► sockets ─► gate (health) ─► engine (recovers) ─► "is ready" ─► serving
//!                                                                             ├─ SIGTERM ─► drain ─► stop ─► 0
//!                                                                             └─ poisoned ─► drain ─► 4
//! ```
//!
//! The sockets are taken first: a second server on the same ports then fails before it touches the
//! data. Until the engine has recovered, only health is answered, and over HTTP alone. Whoever starts the process as a
//! service that notifies is told of each step.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use crate::engine::{Engine, Options};
use crate::error::Error;
use crate::metrics::{self, Exporter};
use crate::server::door::Door;
use crate::server::tls::{Tls, TlsFiles};
use crate::server::{self, App, Gate};
use crate::store::start_progress::StartProgress;

use super::notify::Notifier;
use super::settings::{LogFormat, LogLevel, Settings};
use super::starting;

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
    /// Whether anybody may read /metrics; else it needs a key [default: true]
    #[arg(long, value_name = "BOOL", env = "CROSSLATCH_METRICS_OPEN")]
    metrics_open: Option<bool>,
    /// Certificate of the server, PEM: turns TLS on, with --tls-key
    #[arg(long, value_name = "FILE", env = "CROSSLATCH_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", env = "CROSSLATCH_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Authority of clients' certificates, PEM: clients need one then
    #[arg(long, value_name = "FILE", env = "CROSSLATCH_TLS_CLIENT_CA", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Moves old blocks of the journal to this directory [default: none, everything stays]
    #[arg(long, value_name = "DIR", env = "CROSSLATCH_JOURNAL_ARCHIVE_DIR")]
    journal_archive_dir: Option<PathBuf>,
    /// How old they are then, in seconds [default: 2592000, 30 days]
    #[arg(long, value_name = "SECONDS", env = "CROSSLATCH_JOURNAL_ARCHIVE_AFTER_SECS")]
    journal_archive_after_secs: Option<u64>,
    /// TOML file with settings
    #[arg(long, value_name = "FILE", env = "CROSSLATCH_CONFIG")]
    config: Option<PathBuf>,
    /// How log lines are written [default: text]
    #[arg(long, alias = "log", value_name = "FORMAT", env = "CROSSLATCH_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// How much is logged [default: info, or what RUST_LOG says]
    #[arg(long, value_name = "LEVEL", env = "CROSSLATCH_LOG_LEVEL")]
    log_level: Option<LogLevel>,
    /// A request that takes as long gets a line in the log; 0 for every request [default: 1000]
    #[arg(long, value_name = "MS", env = "CROSSLATCH_SLOW_REQUEST_MS")]
    slow_request_ms: Option<u64>,
}

impl ServeArgs {
    /// The settings file, if there is one.
    pub(super) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Flags and their variables over file over defaults.
    ///
    /// # Errors
    /// [`Error::Config`]: what cannot be read. Whether it is allowed is [`Settings::validate`]'s to say.
    pub(super) fn load(self) -> Result<Settings, Error> {
        let mut settings = Settings::load(self.config.as_deref(), std::env::vars())?;
        settings.data = self.data.unwrap_or(settings.data);
        settings.listen = self.listen.unwrap_or(settings.listen);
        settings.log_format = self.log_format.unwrap_or(settings.log_format);
        settings.log_level = self.log_level.or(settings.log_level);
        settings.slow_request_ms = self.slow_request_ms.unwrap_or(settings.slow_request_ms);
        settings.grpc = self.grpc.unwrap_or(settings.grpc);
        settings.limits.shards = self.shards.unwrap_or(settings.limits.shards);
        if let (Some(cert), Some(key)) = (self.tls_cert, self.tls_key) {
            settings.tls = Some(TlsFiles { cert, key, client_ca: self.tls_client_ca });
        }
        settings.metrics_open = self.metrics_open.unwrap_or(settings.metrics_open);
        settings.journal_archive_dir = self.journal_archive_dir.or(settings.journal_archive_dir);
        let limits = &mut settings.limits;
        limits.journal_archive_after_secs =
            self.journal_archive_after_secs.unwrap_or(limits.journal_archive_after_secs);
        Ok(settings)
    }

    fn settings(self) -> Result<Settings, Error> {
        let settings = self.load()?;
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
    start_log(settings.log_format, settings.log_level);
    let exporter = metrics::install()?;
    let faces = Faces { http: bind(settings.listen)?, grpc: bind(settings.grpc)? };
    if !settings.data.exists() {
        // There can be no key: nothing is touched.
        settings.check_listen(false)?;
    }
    let tls = settings.tls.as_ref().map(Tls::load).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(start_and_serve(exporter, faces, tls, &settings))?;
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

/// Logs to standard error. Where no level is set, `RUST_LOG` chooses what, by default `info`.
fn start_log(format: LogFormat, level: Option<LogLevel>) {
    let named = level.and_then(|level| Some(level.to_possible_value()?.get_name().to_owned()));
    let filter = match named {
        Some(level) => EnvFilter::new(level),
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let started = match format {
        LogFormat::Text => log.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
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

/// What answers on a socket, as a task.
type Connections = JoinHandle<std::io::Result<()>>;

/// What is shared by the parts of a server's life.
struct Serving {
    signals: Signals,
    notifier: Notifier,
    /// Dropped to stop.
    stop: watch::Sender<()>,
    connections: Connections,
    log_format: LogFormat,
}

async fn start_and_serve(
    exporter: Exporter,
    faces: Faces,
    tls: Option<Tls>,
    settings: &Settings,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let notifier = Notifier::from_environment();
    let address = faces.http.local_addr()?;
    let addresses = [address, faces.grpc.local_addr()?];
    let (stop, stopping) = watch::channel(());
    let asked = || {
        let mut stopping = stopping.clone();
        // The sender is dropped, nothing is ever sent.
        async move { drop(stopping.changed().await) }
    };
    let progress = Arc::new(StartProgress::default());
    let gate = Gate::new(progress.clone(), exporter.clone(), settings.metrics_open);
    if let Some(tls) = tls.clone() {
        tokio::spawn(reload_on(signal(SignalKind::hangup())?, tls));
    }
    let http = {
        let (gate, tls, edge, asked) = (gate.clone(), tls.clone(), settings.edge.clone(), asked());
        tokio::spawn(async move { server::serve(gate, faces.http, tls, &edge, asked).await })
    };
    tracing::info!(%address, data = %settings.data.display(), "listening; the engine starts");
    notifier.status("recovering");
    keep_watch(&notifier);
    let mut options = Options::new(&settings.data);
    options.limits = settings.limits.clone();
    options.journal_archive_dir.clone_from(&settings.journal_archive_dir);
    let Some(engine) = starting::engine(options, &progress, &mut signals, &notifier).await? else {
        tracing::info!("stopped before the engine had started");
        return Ok(ExitCode::SUCCESS);
    };
    let door = door(&engine, settings).await?;
    let app = App::new(engine, exporter, &settings.limits, door);
    gate.open(app.clone(), settings.slow_request_ms);
    let grpc = {
        let (app, edge, asked) = (app.clone(), settings.edge.clone(), asked());
        tokio::spawn(async move { server::grpc::serve(app, faces.grpc, tls, &edge, asked).await })
    };
    // Both end when they are asked to, and each by itself only if it fails.
    let connections = tokio::spawn(both(http, grpc));
    warn_of_openness(&app, &addresses, settings);
    let ready = say_ready(&app, addresses, settings)?;
    notifier.ready(&ready);
    let log_format = settings.log_format;
    serve(app, Serving { signals, notifier, stop, connections, log_format }).await
}

/// Until both faces have ended, or one of them has failed.
async fn both(http: Connections, grpc: Connections) -> std::io::Result<()> {
    let ended =
        async |connections: Connections| connections.await.map_err(std::io::Error::other)?;
    tokio::try_join!(ended(http), ended(grpc)).map(|_| ())
}

/// The door of a server with that engine; where it may not listen as it does, the engine is stopped.
async fn door(engine: &Engine, settings: &Settings) -> anyhow::Result<Door> {
    let has_keys = engine.directory().keys_len() > 0;
    if let Err(refused) = settings.check_listen(has_keys) {
        stop_engine(engine.clone()).await?;
        return Err(refused.into());
    }
    let door = Door::new(&settings.data, &settings.edge, settings.metrics_open);
    let opened = tokio::task::spawn_blocking(move || match has_keys {
        true => door.master().map(drop).map(|()| door),
        false => Ok(door),
    });
    Ok(opened.await??)
}

/// Tells the watchdog, if there is one, that the network's side of the process turns. An engine that
/// fails ends the process by itself.
fn keep_watch(notifier: &Notifier) {
    let Some(every) = notifier.watch_every() else { return };
    let notifier = notifier.clone();
    let mut ticks = tokio::time::interval(every);
    tokio::spawn(async move {
        loop {
            ticks.tick().await;
            notifier.alive();
        }
    });
}

async fn serve(app: App, serving: Serving) -> anyhow::Result<ExitCode> {
    let Serving { mut signals, notifier, stop, connections: mut serving, log_format } = serving;
    let end = tokio::select! {
        name = signals.next() => End::Asked(name),
        cause = app.engine().poisoned() => End::Poisoned(cause),
        done = &mut serving => End::Broken(format!("{done:?}")),
    };
    app.stop();
    notifier.stopping();
    drop(stop);
    match end {
        End::Asked(signal) => {
            tracing::info!(signal, "stopping: what is in flight is answered first");
            drain(serving, &mut signals, DRAIN).await;
            stop_engine(app.engine().clone()).await
        }
        End::Poisoned(cause) => {
            // Said first: what comes after may hang on the same disk.
            match log_format {
                LogFormat::Text => eprintln!("crosslatch: the engine stopped: {cause}"),
                LogFormat::Json => tracing::error!(cause, "the engine stopped"),
            }
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
fn warn_of_openness(app: &App, addresses: &[SocketAddr], settings: &Settings) {
    if app.engine().directory().keys_len() == 0 {
        tracing::warn!("there are no keys: anybody on this machine may do everything");
    } else if settings.tls.is_none() && !addresses.iter().all(|it| it.ip().is_loopback()) {
        tracing::warn!(
            "without TLS others can read along: bearer tokens are taken from this machine only, \
             everybody else has to sign"
        );
    }
}

/// The one line that people and scripts wait for.
fn say_ready(
    app: &App,
    [http, grpc]: [SocketAddr; 2],
    settings: &Settings,
) -> std::io::Result<String> {
    let data = settings.data.display();
    let seq = app.engine().status().durable_seq;
    let shards = match settings.limits.shards {
        1 => "1 shard".into(),
        many => format!("{many} shards"),
    };
    let s = if settings.tls.is_some() { "s" } else { "" };
    let ready = format!(
        "ready on http{s}://{http} and grpc{s}://{grpc} (data {data}, {shards}, seq {seq})"
    );
    let mut out = stdout().lock();
    writeln!(out, "crosslatch is {ready}")?;
    out.flush()?;
    Ok(ready)
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
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on. Call it in a runtime.
    ///
    /// # Errors
    /// The operating system refuses.
    pub(super) fn new() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
