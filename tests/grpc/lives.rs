//! How the gRPC server lives: it is healthy, it describes itself, and it stops with grace.

use crosslatch::proto;
use crosslatch::proto::request::Command as Asks;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::venue::*;

const SERVICE: &str = "crosslatch.v1.Exchange";

/// A stop is told to who watches, answers what is in flight, and does not wait for open streams.
#[tokio::test]
async fn a_stop_is_told_and_hangs_on_no_open_stream() {
    let (_data, server, mut exchange) = started().await;
    let mut health = HealthClient::new(channel(&server).await);
    let check = HealthCheckRequest { service: SERVICE.into() };
    let mut watched = health.watch(check.clone()).await.expect("a watch").into_inner();
    let mut status = async || {
        let told = watched.message().await.expect("a status");
        told.map(|told| told.status())
    };
    assert_eq!(status().await, Some(ServingStatus::Serving));
    let whole = HealthCheckRequest { service: String::new() };
    let now = health.check(whole).await.expect("a status").into_inner();
    assert_eq!(now.status(), ServingStatus::Serving);

    let (sender, batches) = mpsc::channel(4);
    let results = exchange.submit(ReceiverStream::new(batches)).await.expect("a stream");
    let mut results = results.into_inner();
    let requests = vec![asks(Asks::Swap(swap(10, 1, 1)))];
    sender.send(proto::Batch { number: 1, detail: 0, requests }).await.expect("it is read");
    assert_eq!(results.message().await.expect("a result").expect("one").number, 1);

    server.ask_to_stop();
    assert_eq!(status().await, Some(ServingStatus::NotServing));
    let ended = results.message().await.expect_err("it does not go on");
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
    let ended = tokio::task::spawn_blocking(move || server.wait()).await.expect("it ends");
    assert!(ended.success(), "{ended:?}");
    drop(sender);
}

#[tokio::test]
async fn it_describes_itself() {
    let (_data, server, _exchange) = started().await;
    let mut reflection = ServerReflectionClient::new(channel(&server).await);
    let ask =
        |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let asked = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(SERVICE.into())),
    ];
    let answers = reflection.server_reflection_info(tokio_stream::iter(asked)).await;
    let mut answers = answers.expect("answers").into_inner();
    let mut next =
        async || answers.message().await.expect("an answer").expect("one more").message_response;
    let Some(MessageResponse::ListServicesResponse(services)) = next().await else { panic!() };
    let names: Vec<_> = services.service.iter().map(|it| it.name.as_str()).collect();
    for service in [SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(names.contains(&service), "{names:?}");
    }
    let Some(MessageResponse::FileDescriptorResponse(file)) = next().await else { panic!() };
    assert!(!file.file_descriptor_proto[0].is_empty());
}
