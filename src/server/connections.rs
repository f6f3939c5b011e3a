//! From a connection to requests: TLS where it is on, HTTP/1.1 or HTTP/2, each within its limits.
//!
//! ```text
//! listener ─► handshake (bounded in time) ─► heads (bounded in time, bytes, number) ─► gate
//! ```
//!
//! Any service can be served so, that of gRPC as well: each request says from where it came ([`Peer`]).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::clock::{Clock, SystemClock};
use crate::config::{
    EdgeLimits, GRPC_CONNECTION_WINDOW_BYTES, GRPC_KEEPALIVE_MS, GRPC_KEEPALIVE_WAIT_MS,
    GRPC_STREAM_WINDOW_BYTES,
};
use crate::metrics::{Answered, EdgeMetrics, Face};

use super::listener::{Connection, Listener};
use super::tls::Tls;

/// What may wait to be written on one connection of HTTP/2 before its answers wait.
const SEND_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The other end.
    pub address: SocketAddr,
    /// Whether nobody on the way can read along.
    pub is_encrypted: bool,
}

impl Peer {
    /// Whether a secret may be sent over this connection.
    pub fn is_private(&self) -> bool {
        self.is_encrypted || self.address.ip().to_canonical().is_loopback()
    }
}

/// What answers requests.
pub(super) trait Answers:
    tower_service::Service<Request, Response = Response, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Answers for S where
    S: tower_service::Service<Request, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// What every connection is served with.
struct Serving<S> {
    service: S,
    builder: Builder<TokioExecutor>,
    tls: Option<Tls>,
    handshake_wait: Duration,
    metrics: Arc<EdgeMetrics>,
    face: Face,
}

/// Answers on `listener` until `stop` is done, and then what is in flight.
///
/// # Errors
/// The operating system refuses the socket.
pub(super) async fn serve<S: Answers>(
    (face, service): (Face, S),
    listener: std::net::TcpListener,
    tls: Option<Tls>,
    limits: &EdgeLimits,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let metrics = Arc::new(EdgeMetrics::new());
    let mut listener = Listener::new(listener, limits, Arc::clone(&metrics))?;
    let serving = Arc::new(Serving {
        service,
        builder: builder(limits),
        tls,
        handshake_wait: Duration::from_millis(limits.handshake_wait_ms),
        metrics,
        face,
    });
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let (connection, address) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (serving, watcher) = (Arc::clone(&serving), graceful.watcher());
        tokio::spawn(async move { serving.connection(connection, address, watcher).await });
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

fn builder(limits: &EdgeLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.head_wait_ms))
        .max_buf_size(limits.head_bytes_max)
        .max_headers(limits.headers_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection_max)
        .max_header_list_size(limits.head_bytes_max as u32)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .initial_stream_window_size(GRPC_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(GRPC_CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(Duration::from_millis(GRPC_KEEPALIVE_MS))
        .keep_alive_timeout(Duration::from_millis(GRPC_KEEPALIVE_WAIT_MS));
    builder
}

impl<S: Answers> Serving<S> {
    async fn connection(&self, connection: Connection, address: SocketAddr, watcher: Watcher) {
        let Some(tls) = &self.tls else {
            let peer = Peer { address, is_encrypted: false };
            return self.requests(connection, peer, watcher).await;
        };
        match timeout(self.handshake_wait, tls.acceptor().accept(connection)).await {
            Ok(Ok(stream)) => {
                let peer = Peer { address, is_encrypted: true };
                self.requests(stream, peer, watcher).await;
            }
            Ok(Err(error)) => {
                self.metrics.handshake_failed();
                tracing::debug!(%error, %address, "no TLS handshake");
            }
            Err(_) => {
                self.metrics.handshake_failed();
                tracing::debug!(%address, "the TLS handshake took too long");
            }
        }
    }

    async fn requests<I>(&self, io: I, peer: Peer, watcher: Watcher)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let inner = TowerToHyperService::new(self.service.clone());
        let (face, metrics) = (self.face, Arc::clone(&self.metrics));
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let metrics = Arc::clone(&metrics);
            let began = SystemClock.boot_nanos();
            let answering = inner.call(request);
            async move {
                let answer = answering.await;
                if let Ok(response) = &answer {
                    let nanos = SystemClock.boot_nanos().saturating_sub(began);
                    metrics.answered(face, how_answered(face, response), nanos);
                }
                answer
            }
        });
        let served = self.builder.serve_connection_with_upgrades(TokioIo::new(io), service);
        if let Err(error) = watcher.watch(served.into_owned()).await {
            tracing::debug!(error, address = %peer.address, "the connection broke off");
        }
    }
}

/// What the head of an answer says. A gRPC call that fails later says so behind its body, where nobody looks.
fn how_answered(face: Face, response: &Response) -> Answered {
    let code = response.headers().get("grpc-status").filter(|_| face == Face::Grpc);
    let code = code.and_then(|code| code.to_str().ok()?.parse().ok());
    code.map_or_else(|| Answered::http(response.status().as_u16()), Answered::grpc)
}
