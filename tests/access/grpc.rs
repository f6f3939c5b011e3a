//! Keys over gRPC: the same door, judged by each call's need and by what each command says itself.

use crosslatch::access::secret::Token;
use crosslatch::client::{ExchangeClient, endpoint, leg};
use crosslatch::proto;
use crosslatch::proto::answer::Outcome;
use crosslatch::proto::request::Command as Asks;
use crosslatch::types::RequestId;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::people;
use super::venue::{Venue, fresh};

type Exchange = ExchangeClient<Channel>;

async fn connect(venue: &Venue) -> Exchange {
    let endpoint = endpoint(&format!("grpc://{}", venue.server.grpc)).expect("an address");
    ExchangeClient::new(endpoint.connect().await.expect("the server listens"))
}

/// A message that comes with that key.
fn with<T>(token: &Token, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {}", token.reveal()).parse().expect("ASCII");
    request.metadata_mut().insert("authorization", bearer);
    request
}

fn swap(n: u64, payer: u64, payee: u64) -> proto::Swap {
    let id: RequestId = people::id(n).parse().expect("an id");
    let (there, back) = if payer == 1 { ("ETH", "SOL") } else { ("SOL", "ETH") };
    let legs = vec![leg(payer, payee, there, 1), leg(payee, payer, back, 1)];
    proto::Swap { request_id: proto::id_bytes(id), deadline_us: None, legs }
}

fn code<T>(answer: Result<T, Status>) -> Code {
    match answer {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

fn balances(account: u64) -> proto::GetBalancesRequest {
    proto::GetBalancesRequest { account, at: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_needs_a_key_with_its_scope_for_its_accounts() {
    let venue = Venue::open();
    let mut exchange = connect(&venue).await;
    assert_eq!(code(exchange.get_balances(balances(1)).await), Code::Unauthenticated);
    assert_eq!(code(exchange.swap(swap(900, 1, 2)).await), Code::Unauthenticated);
    let (alice, trader) = tokio::task::block_in_place(|| {
        let alice = venue.key("alice", json!({"scopes": ["read"], "accounts": [1]}));
        let trader = venue.key("trader", json!({"scopes": ["read", "trade"], "accounts": [1, 2]}));
        (alice.token, trader.token)
    });
    assert_eq!(code(exchange.get_balances(with(&alice, balances(1))).await), Code::Ok);
    assert_eq!(
        code(exchange.get_balances(with(&alice, balances(2))).await),
        Code::PermissionDenied
    );
    assert_eq!(code(exchange.swap(with(&alice, swap(901, 1, 2))).await), Code::PermissionDenied);
    let audit = proto::AuditRequest::default();
    assert_eq!(code(exchange.audit(with(&trader, audit)).await), Code::PermissionDenied);
    let receipt = exchange.swap(with(&trader, swap(902, 1, 2))).await.expect("both are its own");
    assert_eq!(receipt.into_inner().api_key, "trader");
    // Who was refused at the door left no trace: the same id is free.
    let receipt = exchange.swap(with(&trader, swap(901, 1, 2))).await.expect("its first time");
    assert_eq!(receipt.into_inner().api_key, "trader");
    let mut forged = trader.reveal();
    let last = forged.pop().expect("not empty");
    forged.push(if last == 'A' { 'B' } else { 'A' });
    let mut request = Request::new(balances(1));
    let bearer = format!("Bearer {forged}").parse().expect("ASCII");
    request.metadata_mut().insert("authorization", bearer);
    assert_eq!(code(exchange.get_balances(request).await), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_stream_each_request_is_judged_and_a_revoked_key_ends_it() {
    let venue = Venue::open();
    let mut exchange = connect(&venue).await;
    let own = json!({"scopes": ["trade"], "accounts": [1, 2]});
    let (trader, other) = tokio::task::block_in_place(|| {
        let other = venue.key("other", json!({"scopes": ["trade"], "accounts": [1]}));
        (venue.key("trader", own).token, other.token)
    });
    let batch = |number, ids: [u64; 2]| proto::Batch {
        number,
        detail: proto::Detail::Full.into(),
        requests: ids.map(|n| Asks::Swap(swap(n, 1, 2)).into()).into(),
    };
    let (sender, batches) = mpsc::channel(4);
    let results = exchange.submit(with(&trader, ReceiverStream::new(batches))).await;
    let mut results = results.expect("a stream").into_inner();
    sender.send(batch(1, [910, 911])).await.expect("it is read");
    let result = results.message().await.expect("a result").expect("one");
    let settled = |answer: &proto::Answer| matches!(answer.outcome, Some(Outcome::Settled(_)));
    assert!(result.results.iter().all(settled), "{result:?}");
    tokio::task::block_in_place(|| {
        let body = json!({"request_id": fresh()}).to_string();
        venue.operator().call("DELETE", "/v1/api-keys/trader", body.as_bytes()).with(200)
    });
    sender.send(batch(2, [912, 913])).await.expect("it is read");
    assert_eq!(code(results.message().await), Code::Unauthenticated);
    // Of another's account nothing settles, in its place.
    let (sender, batches) = mpsc::channel(4);
    let results = exchange.submit(with(&other, ReceiverStream::new(batches))).await;
    let mut results = results.expect("a stream").into_inner();
    sender.send(batch(3, [914, 915])).await.expect("it is read");
    let result = results.message().await.expect("a result").expect("one");
    for answer in &result.results {
        let Some(Outcome::Problem(problem)) = &answer.outcome else { panic!("{answer:?}") };
        assert_eq!((&*problem.code, problem.account), ("forbidden", Some(2)));
    }
}

fn key(name: &str, n: u64, accounts: &[u64]) -> proto::CreateApiKeyRequest {
    proto::CreateApiKeyRequest {
        request_id: proto::id_bytes(people::id(n).parse().expect("an id")),
        name: name.into(),
        scopes: vec!["read".into(), "trade".into()],
        accounts: accounts.to_vec(),
        ..Default::default()
    }
}

fn token(made: &proto::ApiKeyMade) -> Token {
    made.token.parse().expect("of its form")
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_listed_rotated_and_revoked() {
    let venue = Venue::open();
    let mut exchange = connect(&venue).await;
    let operator = venue.operator.clone();
    let bytes = |n: u64| proto::id_bytes(people::id(n).parse().expect("an id"));
    let asked = proto::CreateApiKeyRequest {
        networks: vec!["127.0.0.0/8".into()],
        limits: Some(proto::ApiKeyLimits { in_flight: 7, ..Default::default() }),
        ..key("desk", 920, &[2, 1])
    };
    let made = exchange.create_api_key(with(&operator, asked.clone())).await;
    let made = made.expect("a key").into_inner();
    let shown = made.key.clone().expect("the key");
    assert_eq!((&*shown.name, shown.generation, &*shown.state), ("desk", 1, "standing"));
    assert_eq!((&shown.accounts[..], shown.all_accounts), (&[1, 2][..], false));
    assert_eq!((&shown.networks[..], shown.scopes.len()), (&["127.0.0.0/8".to_owned()][..], 2));
    assert_eq!(shown.limits.map(|limits| limits.in_flight), Some(7));
    // The same request is told the same; another one under that name is not.
    let again = exchange.create_api_key(with(&operator, asked)).await.expect("the same");
    assert_eq!(again.into_inner(), made);
    let taken = exchange.create_api_key(with(&operator, key("desk", 921, &[1]))).await;
    assert_eq!(code(taken), Code::AlreadyExists);
    let first = token(&made);
    assert_eq!(code(exchange.get_balances(with(&first, balances(1))).await), Code::Ok);
    let mine = exchange.list_api_keys(with(&first, proto::ListApiKeysRequest {})).await;
    assert_eq!(code(mine), Code::PermissionDenied);
    let rotate = proto::RotateApiKeyRequest { request_id: bytes(922), name: "desk".into() };
    let rotated = exchange.rotate_api_key(with(&operator, rotate)).await.expect("a secret");
    let second = token(&rotated.into_inner());
    assert_eq!(code(exchange.get_balances(with(&first, balances(1))).await), Code::Unauthenticated);
    assert_eq!(code(exchange.get_balances(with(&second, balances(1))).await), Code::Ok);
    let revoke = proto::RevokeApiKeyRequest { request_id: bytes(923), name: "desk".into() };
    let receipt = exchange.revoke_api_key(with(&operator, revoke)).await.expect("a receipt");
    let ended = Some(proto::receipt::What::KeyChanged(proto::KeyChanged {
        name: "desk".into(),
        revoked: true,
    }));
    assert_eq!(receipt.into_inner().what, ended);
    let gone = exchange.get_balances(with(&second, balances(1))).await;
    assert_eq!(code(gone), Code::Unauthenticated);
    let keys = exchange.list_api_keys(with(&operator, proto::ListApiKeysRequest {})).await;
    let keys = keys.expect("keys").into_inner().keys;
    assert_eq!(keys.iter().map(|key| &*key.state).collect::<Vec<_>>(), ["standing", "revoked"]);
    let one = proto::GetApiKeyRequest { name: "desk".into() };
    let one = exchange.get_api_key(with(&operator, one)).await.expect("a key").into_inner();
    assert_eq!((one.generation, &one), (2, &keys[1]));
    let none = proto::GetApiKeyRequest { name: "none".into() };
    assert_eq!(code(exchange.get_api_key(with(&operator, none)).await), Code::NotFound);
    for (wrong, why) in [
        (proto::CreateApiKeyRequest { all_accounts: true, ..key("a", 924, &[1]) }, "both"),
        (key("a", 925, &[]), "neither"),
        (proto::CreateApiKeyRequest { scopes: vec!["all".into()], ..key("a", 926, &[1]) }, "scope"),
        (
            proto::CreateApiKeyRequest { networks: vec!["x".into()], ..key("a", 927, &[1]) },
            "network",
        ),
        (proto::CreateApiKeyRequest { request_id: Default::default(), ..key("a", 1, &[1]) }, "id"),
    ] {
        let refused = exchange.create_api_key(with(&operator, wrong)).await;
        assert_eq!(code(refused), Code::InvalidArgument, "{why}");
    }
}
