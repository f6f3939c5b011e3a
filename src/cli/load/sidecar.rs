//! What runs beside the load: Ctrl-C, and `/metrics` for whoever scrapes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::metrics::Exporter;

use super::alarm::Alarm;

/// The content type of Prometheus' text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The exit status of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// A thread of its own; it ends when this is dropped.
pub(super) struct Sidecar {
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Sidecar {
    /// Sets off `stop` at the first Ctrl-C (a second one ends the process), and serves `/metrics`.
    /// Returns the address that it listens on as well, if it is to.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub(super) fn start(
        stop: Arc<Alarm>,
        exporter: Exporter,
        metrics: Option<SocketAddr>,
    ) -> anyhow::Result<(Self, Option<SocketAddr>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = match metrics {
            Some(address) => {
                let listener = runtime.block_on(TcpListener::bind(address));
                Some(listener.with_context(|| format!("cannot listen on {address}"))?)
            }
            None => None,
        };
        let listens_on = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let (end, ended) = oneshot::channel();
        let beside = async move {
            tokio::select! {
                _ = ended => {}
                () = watch_interrupts(stop) => {}
                () = serve(listener, exporter) => {}
            }
        };
        let thread = thread::Builder::new().name("load-sidecar".into());
        let thread = thread.spawn(move || runtime.block_on(beside))?;
        Ok((Self { end: Some(end), thread: Some(thread) }, listens_on))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        drop(self.end.take());
        // It has nothing left to say; a panic in it has been printed.
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

async fn watch_interrupts(stop: Arc<Alarm>) {
    loop {
        if tokio::signal::ctrl_c().await.is_err() {
            // No signals here: then nothing stops early.
            std::future::pending::<()>().await;
        }
        if stop.has_rung() {
            std::process::exit(INTERRUPTED);
        }
        stop.ring();
    }
}

async fn serve(listener: Option<TcpListener>, exporter: Exporter) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let render = move || {
        let text = exporter.render();
        async move { ([(CONTENT_TYPE, PROMETHEUS_TEXT)], text) }
    };
    let router = Router::new().route("/metrics", get(render));
    if let Err(error) = axum::serve(listener, router).await {
        eprintln!("/metrics is not served any more: {error}");
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn metrics_are_served_while_it_lives() {
        let exporter = crate::metrics::install().unwrap();
        let stop = Arc::new(Alarm::new());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (sidecar, address) = Sidecar::start(stop, exporter, Some(any)).unwrap();
        let mut stream = std::net::TcpStream::connect(address.unwrap()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.0 200"), "{text}");
        assert!(text.contains("version=0.0.4") && text.contains("crosslatch_requests_total"));
        drop(sidecar);
        assert!(std::net::TcpStream::connect(address.unwrap()).is_err());
    }
}
