//! What is asked of the server by several callers at once, each in a lane of its own; what they
//! were told; and whether a server that starts later stands by it.
//!
//! Every request is a function of its lane and its number, so it can be sent again as it was: the
//! answer must then be the same, byte for byte, if there had been one, and the same from then on if
//! there had been none.

use std::io::ErrorKind;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::http::{Client, Reply};
use super::node::Node;

/// Callers at the same time.
pub const LANES: u64 = 4;
/// Accounts that all lanes share.
const SHARED: u64 = 8;
const FUNDS: u64 = 1_000_000_000;
const DAY_MS: u64 = 24 * 3_600_000;
/// Requests of a lane that are sent after the server said that it has stopped.
const AFTER_THE_END: usize = 20;

/// One call, to be sent any number of times.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub body: Value,
}

/// A call and what it was answered.
#[derive(Clone, Debug)]
pub struct Told {
    pub call: Call,
    pub status: u16,
    pub body: Vec<u8>,
}

/// What one or more lanes went through.
#[derive(Debug, Default)]
pub struct Heard {
    pub told: Vec<Told>,
    /// Sent, without a word about what came of it.
    pub unanswered: Vec<Call>,
    /// Of those, how many were told that the engine has stopped.
    pub stopped: usize,
}

impl Heard {
    pub fn add(&mut self, other: Self) {
        self.told.extend(other.told);
        self.unanswered.extend(other.unanswered);
        self.stopped += other.stopped;
    }

    /// Every commit_seq that was told.
    pub fn seqs(&self) -> Vec<u64> {
        let mut seqs = Vec::new();
        for told in &self.told {
            collect_seqs(&serde_json::from_slice(&told.body).expect("JSON"), &mut seqs);
        }
        seqs
    }
}

fn collect_seqs(value: &Value, seqs: &mut Vec<u64>) {
    match value {
        Value::Object(members) => {
            if members.get("status") == Some(&json!("settled"))
                && let Some(Value::String(seq)) = members.get("commit_seq")
            {
                seqs.push(seq.parse().expect("a number"));
            }
            members.values().for_each(|value| collect_seqs(value, seqs));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_seqs(value, seqs)),
        _ => {}
    }
}

/// The id of a request of a lane; a part of a batch has its place in it. Some carry a time, some not:
/// the index keeps them apart.
pub fn id(lane: u64, number: u64, place: u64) -> String {
    let version = if number.is_multiple_of(3) { 4 } else { 7 };
    format!("01900000-0000-{version}000-8000-{:012x}", lane << 40 | number << 8 | place)
}

fn leg(from: u64, to: u64, asset: &str, amount: u64) -> Value {
    json!({"from": from, "to": to, "asset": asset, "amount": amount})
}

fn swap(id: &str, one: u64, two: u64, amount: u64) -> Value {
    let legs = [leg(one, two, "ETH", amount), leg(two, one, "SOL", 2 * amount)];
    json!({"request_id": id, "legs": legs})
}

/// Two accounts that all lanes share.
fn pair(seed: u64) -> (u64, u64) {
    let one = 1 + seed % SHARED;
    (one, 1 + (one + seed / SHARED % (SHARED - 1)) % SHARED)
}

/// Two accounts that no other lane locks.
fn own_pair(lane: u64) -> (u64, u64) {
    (100 + 2 * lane, 101 + 2 * lane)
}

/// The request of that number of a lane.
pub fn call(lane: u64, number: u64) -> Call {
    let id_of = |place| id(lane, number, place);
    let mix = (lane * 31 + number).wrapping_mul(0x9E37_79B9) >> 7;
    let (one, two) = pair(mix);
    let amount = 1 + mix % 50;
    let token = id(lane, number.wrapping_sub(1), 0);
    let resolve =
        |how: &str| (format!("/v1/prepared/{token}/{how}"), json!({"request_id": id_of(0)}));
    let transfer = |account, reference: String| {
        json!({"request_id": id_of(0), "account": account, "asset": "ETH", "amount": amount,
               "reference": reference})
    };
    let (path, body) = match number % 10 {
        0 => {
            let swaps: Vec<Value> =
                (0..8).map(|place| swap(&id_of(place), one, two, amount + place)).collect();
            ("/v1/swaps:batch".into(), json!({"swaps": swaps}))
        }
        1 => {
            let (mine, other) = own_pair(lane);
            let mut body = swap(&id_of(0), mine, other, amount);
            body["exclusive"] = json!(true);
            body["expires_in_ms"] = json!(DAY_MS);
            ("/v1/prepared".into(), body)
        }
        2 => resolve("rollback"),
        3 => {
            let mut body = swap(&id_of(0), one, two, amount);
            body["expires_in_ms"] = json!(DAY_MS);
            ("/v1/prepared".into(), body)
        }
        // Of every other batch of ten the hold stays open.
        4 if (number / 10).is_multiple_of(2) => resolve("commit"),
        5 => {
            let key = STANDARD.encode(format!("key-{lane}-{}", number % 7));
            let value = STANDARD.encode(format!("{number} ").repeat(1 + (mix % 30) as usize));
            let writes = [json!({"key": key, "value": value})];
            let transfers = [leg(one, two, "SOL", amount)];
            let body = json!({"request_id": id_of(0), "writes": writes, "transfers": transfers});
            ("/v1/transactions".into(), body)
        }
        6 => ("/v1/deposits".into(), transfer(one, format!("tx-{lane}-{number}"))),
        7 => ("/v1/withdrawals".into(), transfer(two, String::new())),
        8 => ("/v1/swaps".into(), swap(&id_of(0), one, two, 4 * FUNDS)),
        _ => ("/v1/swaps".into(), swap(&id_of(0), one, two, amount)),
    };
    Call { path, body }
}

/// Assets, accounts, links and money. Returns the last commit_seq.
pub fn populate(client: &mut Client) -> u64 {
    for (name, chain) in [("ETH", 1), ("SOL", 2)] {
        let body =
            json!({"chain_id": chain, "chain_kind": "other", "token": "native", "decimals": 9});
        client.put(&format!("/v1/assets/{name}"), &body).with(200);
    }
    let mut last = 0;
    for account in accounts() {
        let links =
            [1, 2].map(|chain| json!({"chain_id": chain, "address": format!("a{account}")}));
        client.put(&format!("/v1/accounts/{account}"), &json!({"links": links})).with(200);
        for (place, asset) in ["ETH", "SOL"].iter().enumerate() {
            let request_id = id(200, account, place as u64);
            let body = json!({"request_id": request_id, "account": account, "asset": asset,
                              "amount": FUNDS, "reference": format!("start-{account}-{asset}")});
            let receipt = client.post("/v1/deposits", &body).with(200);
            last = receipt["commit_seq"].as_str().expect("a seq").parse().expect("a number");
        }
    }
    last
}

pub fn accounts() -> impl Iterator<Item = u64> {
    (1..=SHARED).chain((0..LANES).flat_map(|lane| <[u64; 2]>::from(own_pair(lane))))
}

/// Sends a call once.
pub fn send(client: &mut Client, call: &Call) -> std::io::Result<Reply> {
    let kind = [("Content-Type", "application/json")];
    client.try_send("POST", &call.path, &kind, call.body.to_string().as_bytes())
}

/// Whether a reply says what came of the request.
fn is_answer(reply: &Reply) -> bool {
    reply.status < 500
}

/// Asks from `numbers` on in one lane, until they end or the server is gone.
pub fn ask(client: &mut Client, lane: u64, numbers: std::ops::Range<u64>) -> Heard {
    let mut heard = Heard::default();
    for number in numbers {
        let call = call(lane, number);
        match send(client, &call) {
            Ok(reply) if is_answer(&reply) => {
                assert_ne!(reply.status, 400, "{call:?}: {}", reply.text());
                assert_eq!(heard.stopped, 0, "an answer after the engine had stopped: {reply:?}");
                heard.told.push(Told { call, status: reply.status, body: reply.body });
            }
            Ok(reply) => {
                let code = reply.value()["code"].clone();
                assert!(code == "stopped" || code == "storage", "{call:?}: {}", reply.text());
                heard.unanswered.push(call);
                heard.stopped += 1;
                if heard.stopped > AFTER_THE_END {
                    return heard;
                }
            }
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "no answer in time: {call:?}");
                heard.unanswered.push(call);
                return heard;
            }
        }
    }
    heard
}

/// All lanes at once.
pub fn ask_all(node: &Node, numbers: std::ops::Range<u64>) -> Heard {
    let mut heard = Heard::default();
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let (mut client, numbers) = (node.client(), numbers.clone());
                scope.spawn(move || ask(&mut client, lane, numbers))
            })
            .collect();
        for lane in lanes {
            heard.add(lane.join().expect("it does not fail"));
        }
    });
    heard
}

/// A server started later stands by all that was told, and gives what was not told one outcome.
#[track_caller]
pub fn stands_by(node: &Node, heard: &Heard, context: &str) {
    let mut client = node.client();
    for told in &heard.told {
        let again = send(&mut client, &told.call).expect("an answer");
        assert_eq!(again.status, told.status, "{context}: {told:?}: {}", again.text());
        assert_eq!(again.body, told.body, "{context}: {:?}", told.call);
    }
    for call in &heard.unanswered {
        let first = send(&mut client, call).expect("an answer");
        assert!(is_answer(&first), "{context}: {call:?}: {}", first.text());
        let again = send(&mut client, call).expect("an answer");
        assert_eq!((first.status, &first.body), (again.status, &again.body), "{context}: {call:?}");
    }
    assert_eq!(client.get("/v1/audit").with(200)["balanced"], true, "{context}");
}
