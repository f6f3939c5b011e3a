//! What the tests over gRPC share: a server with a small directory and money on it, and short words for
//! what is asked of it.

use crosslatch::client::ExchangeClient;
use crosslatch::client::endpoint;
use crosslatch::proto;
use crosslatch::proto::request::Command as Asks;
use crosslatch::types::{Amount, RequestId};
use prost::bytes::Bytes;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::people;
use super::process::Server;

pub type Exchange = ExchangeClient<Channel>;

/// A server with the people of `people`: 1,000 ETH are Alice's (1), 5,000 SOL Bob's (2).
pub async fn started() -> (TempDir, Server, Exchange) {
    let (data, server, _client) = people::started();
    let exchange = connect(&server).await;
    (data, server, exchange)
}

pub async fn connect(server: &Server) -> Exchange {
    ExchangeClient::new(channel(server).await)
}

pub async fn channel(server: &Server) -> Channel {
    let endpoint = endpoint(&url(server)).expect("an address");
    endpoint.connect().await.expect("the server listens")
}

pub fn url(server: &Server) -> String {
    format!("grpc://{}", server.grpc)
}

/// Version-7 ids, distinct by `n`.
pub fn id(n: u64) -> RequestId {
    people::id(n).parse().expect("an id")
}

pub fn id_bytes(n: u64) -> Bytes {
    proto::id_bytes(id(n))
}

pub fn amount(units: u128) -> Option<proto::Amount> {
    Some(Amount::new(units).into())
}

/// Alice gives ETH, Bob gives SOL.
pub fn swap(n: u64, eth: u128, sol: u128) -> proto::Swap {
    let legs = vec![leg(1, 2, "ETH", eth), leg(2, 1, "SOL", sol)];
    proto::Swap { request_id: id_bytes(n), deadline_us: None, legs }
}

pub fn leg(from: u64, to: u64, asset: &str, units: u128) -> proto::Leg {
    crosslatch::client::leg(from, to, asset, units)
}

pub fn transfer(n: u64, account: u64, asset: &str, units: u128) -> proto::Transfer {
    proto::Transfer {
        request_id: id_bytes(n),
        account,
        asset: asset.into(),
        asset_number: None,
        amount: amount(units),
        reference: format!("tx-{n}"),
    }
}

pub fn resolve(n: u64, token: u64) -> proto::Resolve {
    proto::Resolve { request_id: id_bytes(n), token: id_bytes(token) }
}

pub fn asks(asks: Asks) -> proto::Request {
    asks.into()
}

/// The problem of a call that must end with that status, code and field ("" for none).
#[track_caller]
pub fn refused<T: std::fmt::Debug>(
    answer: Result<T, Status>,
    status: Code,
    code: &str,
    field: &str,
) -> proto::Problem {
    let ended = answer.expect_err("a refusal");
    assert_eq!(ended.code(), status, "{ended:?}");
    let problem = proto::rich::problem(&ended).expect("a problem in the status");
    assert_eq!((&*problem.code, &*problem.field), (code, field), "{problem:?}");
    assert_eq!(ended.message(), problem.detail);
    problem
}

/// What an account has of an asset: available, held.
pub async fn has(exchange: &mut Exchange, account: u64, asset: &str) -> (u128, u128) {
    let ask = proto::GetBalancesRequest { account, at: None };
    let balances = exchange.get_balances(ask).await.expect("an account").into_inner();
    let found = balances.balances.into_iter().find(|it| it.asset == asset).unwrap_or_default();
    let units = |amount: Option<proto::Amount>| amount.unwrap_or_default().units().get();
    (units(found.available), units(found.held))
}
