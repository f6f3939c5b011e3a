//! The gRPC face of the engine: `crosslatch.v1.Exchange`, with health and reflection beside it.
//!
//! ```text
//! connection ─► caller ─┬─ unary call ─► read ─► engine ─► receipt, or a status with its problem
//!                       ├─ Submit ─► batches ─► engine ─► results, in order (batch)
//!                       └─ Events, MarketData ◄─ what happens (events, market_data)
//! ```
//!
//! What can be asked and what is answered is the same as over HTTP, and so are most of the functions:
//! a message is read into what the engine takes (`read`), and what comes of it is written as a message
//! (`receipt`, `problem`). The proto file says what the messages mean.

mod api_keys;
mod batch;
mod caller;
mod events;
mod market_data;
mod markets;
mod monitor;
mod problem;
mod read;
mod reads;
mod receipt;
mod service;
mod words;

use std::io;
use std::net::TcpListener;

use axum::middleware::map_response;
use tokio::sync::watch;
use tonic::service::Routes;

use crate::config::{EdgeLimits, GRPC_MESSAGE_BYTES_MAX};
use crate::metrics::Face;
use crate::proto;
use crate::proto::exchange_server::ExchangeServer;

use super::connections;
use super::door::rights::Need;
use super::state::App;
use super::tls::Tls;
use service::Service;

/// The service, without name for the whole server, and with it.
const SERVICES: [&str; 2] = ["", "crosslatch.v1.Exchange"];

/// Answers on `listener` until `stop` is done, and then what is in flight.
///
/// # Errors
/// The operating system refuses the socket, or HTTP/2 cannot be spoken on it.
pub async fn serve(
    app: App,
    listener: TcpListener,
    tls: Option<Tls>,
    limits: &EdgeLimits,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (begin_stop, stopping) = watch::channel(false);
    let (mut health, health_service) = tonic_health::server::health_reporter();
    for service in SERVICES {
        health.set_service_status(service, tonic_health::ServingStatus::Serving).await;
    }
    let services = services(app, stopping).add_service(health_service);
    let stop = async move {
        stop.await;
        for service in SERVICES {
            health.set_service_status(service, tonic_health::ServingStatus::NotServing).await;
        }
        // Streams end by themselves: those of batches hear of it, those that watch the health lose
        // what they watch. Connections without a stream are closed.
        begin_stop.send_replace(true);
        for service in SERVICES {
            health.clear_service_status(service).await;
        }
    };
    let router = services.into_axum_router().layer(map_response(problem::of_answer));
    connections::serve((Face::Grpc, router), listener, tls, limits, stop).await
}

/// What each call that is no single command needs of a key, by its name as in `get_asset`.
pub fn needs() -> Vec<(&'static str, Need)> {
    service::needs()
}

fn services(app: App, stopping: watch::Receiver<bool>) -> Routes {
    let exchange = ExchangeServer::new(Service::new(app, stopping))
        .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(usize::MAX);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let valid = "the descriptors are those that the code was made of";
    Routes::new(exchange)
        .add_service(reflection().build_v1().expect(valid))
        .add_service(reflection().build_v1alpha().expect(valid))
}
