//! Who calls: the one place where a caller is made of what a call brings with it.
//!
//! Every call is here first, and every stream when it is opened; each batch in a stream is its caller's.

use std::net::SocketAddr;

use tonic::transport::server::Connected;
use tonic::{Extensions, metadata::MetadataMap};

use crate::server::listener::Connection;
use crate::server::problem::Problem;

/// What is known of the connection that a call came on.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct Peer(Option<SocketAddr>);

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer(self.peer)
    }
}

/// Somebody who calls. Who reaches the server may do everything: it listens on loopback only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    /// Where the call came from.
    pub(super) peer: Option<SocketAddr>,
}

/// The caller of a call with that metadata.
///
/// # Errors
/// Why it is not let in.
pub(super) fn caller(_: &MetadataMap, extensions: &Extensions) -> Result<Caller, Problem> {
    Ok(Caller { peer: extensions.get::<Peer>().and_then(|peer| peer.0) })
}
