//! Connections, bounded in number, in number from one address, and in idleness.
//!
//! A client that opens connections and says nothing, or stops reading, must not keep the others
//! out: at most `connections_max` are open, at most `connections_per_address_max` of them from one
//! address, and one on which nothing moves for `idle_ms` is closed.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Interval, interval, timeout};

use crate::config::EdgeLimits;
use crate::metrics::{EdgeMetrics, OpenConnection};

/// What passes between two attempts when the operating system gives no connection.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Accepts connections.
pub(super) struct Listener {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    idle: Duration,
    metrics: Arc<EdgeMetrics>,
}

impl Listener {
    /// Accepts from a socket that listens already. Call it in a runtime.
    ///
    /// # Errors
    /// The operating system refuses to make it non-blocking.
    pub(super) fn new(
        listener: std::net::TcpListener,
        limits: &EdgeLimits,
        metrics: Arc<EdgeMetrics>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: TcpListener::from_std(listener)?,
            slots: Arc::new(Semaphore::new(limits.connections_max)),
            addresses: Arc::new(Addresses::new(limits.connections_per_address_max)),
            idle: Duration::from_millis(limits.idle_ms),
            metrics,
        })
    }

    /// The next connection, and where it comes from.
    pub(super) async fn accept(&mut self) -> (Connection, SocketAddr) {
        let slots = Arc::clone(&self.slots);
        let slot = slots.acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let Some(place) = Addresses::enter(&self.addresses, peer.ip()) else {
                        self.metrics.connection_refused();
                        continue;
                    };
                    let open = self.metrics.connection();
                    return (Connection::new(stream, self.idle, (slot, place, open)), peer);
                }
                // The client was gone before we came: the next one may be waiting.
                Err(error) if is_of_client(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted for now");
                    let _ = timeout(ACCEPT_AGAIN, pending::<()>()).await;
                }
            }
        }
    }
}

fn is_of_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

/// Who an address stands for: of IPv6 a whole network, as everybody has one of these to himself.
pub(super) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// How many connections are open from where.
struct Addresses {
    open: DashMap<IpAddr, usize>,
    max: usize,
}

/// One of an address's connections, until it is dropped.
struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    fn new(max: usize) -> Self {
        Self { open: DashMap::new(), max }
    }

    /// `None` where as many are open as may be.
    fn enter(this: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = source(address);
        let mut open = this.open.entry(address).or_default();
        if *open >= this.max {
            return None;
        }
        *open += 1;
        drop(open);
        Some(Place { addresses: Arc::clone(this), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Who has no connection any more is forgotten.
        if let Entry::Occupied(mut open) = self.addresses.open.entry(self.address) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

/// A connection that fails when nothing has moved on it for `idle_ms`. It counts for as long as it is
/// there, whatever is spoken on it: of a WebSocket, longer than HTTP is.
pub(super) struct Connection {
    stream: TcpStream,
    idle: Interval,
    _counts: (OwnedSemaphorePermit, Place, OpenConnection),
}

impl Connection {
    fn new(
        stream: TcpStream,
        idle: Duration,
        counts: (OwnedSemaphorePermit, Place, OpenConnection),
    ) -> Self {
        // Answers are small and waited for.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let mut idle = interval(idle);
        idle.reset();
        Self { stream, idle, _counts: counts }
    }

    /// Passes on what moved; where nothing did, waits for the end of patience.
    fn moved<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.idle.reset();
            return done;
        }
        ready!(self.idle.poll_tick(cx));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.moved(cx, done)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.moved(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.moved(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_connections_and_gets_them_back() {
        let addresses = Arc::new(Addresses::new(2));
        let enter = |from: &str| Addresses::enter(&addresses, address(from));
        let (one, two) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(one.is_some() && two.is_some(), "two are there");
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some(), "others have theirs");
        drop(one);
        assert!(enter("192.0.2.1").is_some());
        drop(two);
        assert!(addresses.open.is_empty(), "who has none is forgotten");
    }

    #[test]
    fn of_ipv6_a_network_is_one_source() {
        let source = |text| source(address(text));
        assert_eq!(source("2001:db8:1:2::3"), source("2001:db8:1:2:ffff::4"));
        assert_ne!(source("2001:db8:1:2::3"), source("2001:db8:1:3::3"));
        assert_eq!(source("::ffff:10.0.0.1"), address("10.0.0.1"));
    }
}
