//! gRPC, message by message: what a client sends whose messages are not what they should be.

use std::sync::LazyLock;

use axum::http::uri::PathAndQuery;
use crosslatch::client::{deposit, endpoint, leg, swap};
use crosslatch::proto;
use crosslatch::types::RequestId;
use prost::Message;
use prost::bytes::{Buf, BufMut};
use rand::Rng;
use rand::rngs::SmallRng;
use tokio_stream::iter;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::Tally;
use crate::mutate::{length, one, shake};
use crate::target::Target;

/// Methods, each with a message that it takes. (Not those that would end the test: see `calls`.)
pub static MESSAGES: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| {
    let request_id = proto::id_bytes(RequestId::v7(1 << 40, 77));
    let token = request_id.clone();
    let legs = vec![leg(1, 2, "ETH", 1), leg(2, 1, "SOL", 1)];
    let commit = proto::Resolve { request_id: request_id.clone(), token: token.clone() };
    let read = proto::Read { key: b"k".as_slice().into(), version: 0, ..Default::default() };
    let write = proto::Write { key: b"k".as_slice().into(), value: Some(b"v".as_slice().into()) };
    let transact = proto::Transact {
        request_id: request_id.clone(),
        reads: vec![read],
        writes: vec![write],
        transfers: legs.clone(),
        ..Default::default()
    };
    let order = proto::PlaceOrder {
        request_id: request_id.clone(),
        market: "ETH-SOL".into(),
        account: 1,
        side: 1,
        r#type: 1,
        price: Some(3),
        quantity: Some(proto::Amount { low: 2, high: 0 }),
        ..Default::default()
    };
    let id = RequestId::v7(1 << 40, 78);
    let requests = vec![swap(id, legs.clone()), deposit(id, 1, "ETH", 1, "r")];
    let batch = proto::Batch { number: 1, detail: 0, requests };
    let one_swap = proto::Swap { request_id: request_id.clone(), deadline_us: None, legs };
    let account = proto::GetBalancesRequest { account: 1, at: None };
    let history = proto::GetHistoryRequest { account: 1, limit: Some(3), ..Default::default() };
    let link = proto::GetLinkRequest { chain_id: 1, address: "0x00".into() };
    let book = proto::GetBookRequest { market: "ETH-SOL".into(), depth: Some(9) };
    let trades = proto::ListTradesRequest { market: "ETH-SOL".into(), ..Default::default() };
    let orders =
        proto::ListOrdersRequest { account: 1, status: "open".into(), ..Default::default() };
    vec![
        ("Submit", batch.encode_to_vec()),
        ("Swap", one_swap.encode_to_vec()),
        ("Commit", commit.encode_to_vec()),
        ("Rollback", commit.encode_to_vec()),
        ("GetPrepared", proto::GetHoldRequest { token }.encode_to_vec()),
        ("Transact", transact.encode_to_vec()),
        ("PlaceOrder", order.encode_to_vec()),
        ("GetBalances", account.encode_to_vec()),
        ("GetHistory", history.encode_to_vec()),
        ("GetLink", link.encode_to_vec()),
        ("GetBook", book.encode_to_vec()),
        ("ListTrades", trades.encode_to_vec()),
        ("ListOrders", orders.encode_to_vec()),
        ("GetRequest", proto::GetRequestRequest { request_id }.encode_to_vec()),
        ("Audit", proto::AuditRequest {}.encode_to_vec()),
        ("NoSuchCall", b"x".to_vec()),
    ]
});

/// Bytes for messages.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = usize;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = usize;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<usize>, Status> {
        let length = message.remaining();
        message.advance(length);
        Ok(Some(length))
    }
}

/// A connection, and some calls on it.
pub fn attack(target: &Target, rng: &mut SmallRng, tally: &Tally) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let channel = connect(target).await;
        let count = length(rng, 8);
        let mut bytes = 0;
        for _ in 0..count {
            if !tally.goes_on() {
                break;
            }
            let (method, messages) = spoilt(rng);
            bytes += messages.iter().map(Vec::len).sum::<usize>();
            let bearer = target.bearer.as_deref().filter(|_| rng.random_bool(0.8));
            let told = call(&channel, method, messages, bearer).await;
            tally.heard(&format!("grpc {:?}", told.map_or_else(|told| told.code(), |()| Code::Ok)));
        }
        tally.sent(count, bytes);
    });
}

async fn connect(target: &Target) -> Channel {
    let endpoint = endpoint(&format!("grpc://{}", target.grpc)).expect("an address");
    endpoint.connect().await.expect("the server listens")
}

/// A call with these messages, to its end.
async fn call(
    channel: &Channel,
    method: &str,
    messages: Vec<Vec<u8>>,
    bearer: Option<&str>,
) -> Result<(), Status> {
    let mut request = tonic::Request::new(iter(messages));
    if let Some(bearer) = bearer {
        let value = bearer.parse().expect("it can be sent");
        request.metadata_mut().insert("authorization", value);
    }
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|lost| Status::unavailable(lost.to_string()))?;
    let path = format!("/crosslatch.v1.Exchange/{method}");
    let path = PathAndQuery::try_from(path).expect("a path");
    let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

/// It is the client's fault, and is not to be sent again: so it says `malformed`, not `INTERNAL`.
#[tokio::test]
async fn what_is_no_message_is_malformed() {
    let target = Target::open();
    let channel = connect(&target).await;
    let unread = [b"\x1A\x03\xFF\xC0\xAF".to_vec(), vec![0x0B; 300], vec![0; 17 << 20]];
    for message in unread {
        for method in ["Swap", "Submit"] {
            let told = call(&channel, method, vec![message.clone()], None).await;
            let told = told.expect_err("it is no message");
            assert_eq!(told.code(), Code::InvalidArgument, "{method}: {told:?}");
            let problem = proto::rich::problem(&told).expect("a problem in the status");
            assert_eq!((&*problem.code, &*problem.field), ("malformed", "message"), "{problem:?}");
        }
    }
    let none = call(&channel, "Swap", Vec::new(), None).await.expect_err("there is no message");
    assert_eq!(none.code(), Code::InvalidArgument, "{none:?}");
    // Elsewhere, so that this end of the connection hears of the stop.
    tokio::task::spawn_blocking(|| target.end()).await.expect("it ends in peace");
}

/// A method, and what it is sent: one message, or several where it takes several.
fn spoilt(rng: &mut SmallRng) -> (&'static str, Vec<Vec<u8>>) {
    let (method, message) = one(rng, &MESSAGES);
    let count = if *method == "Submit" { length(rng, 4) } else { 1 };
    let messages = (0..count).map(|_| {
        let mut message = message.clone();
        match rng.random_range(0..10) {
            0 => message.extend(unknown_field(rng)),
            1 => message.extend(b"\x1A\x03\xFF\xC0\xAF"),
            2 => message.extend([0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]),
            3 => message = b"\x1A\x02\x0A\x00".repeat(length(rng, 16)),
            4 => message = nested(rng),
            5 => message = vec![rng.random(); length(rng, 21)],
            6 | 7 => shake(rng, &mut message),
            _ => {}
        }
        message
    });
    (method, messages.collect())
}

fn unknown_field(rng: &mut SmallRng) -> Vec<u8> {
    let length = length(rng, 14);
    // Field 1,000, of bytes.
    let mut field = vec![0xC2, 0x3E];
    field.extend([(length % 128) as u8 | 128, (length / 128 % 128) as u8 | 128, 0]);
    field.extend(vec![b'u'; length]);
    field
}

/// Groups within groups, which nothing here has.
fn nested(rng: &mut SmallRng) -> Vec<u8> {
    vec![0x0B; length(rng, 14)]
}
