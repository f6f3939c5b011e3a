//! A client of market data on a plain socket, and what it makes of what it hears.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crosslatch::market::levels::{LevelChange, Levels};
use crosslatch::market::order::{Price, Side};
use serde_json::{Value, json};
use tungstenite::{Error, Message, WebSocket};

/// How long a test waits for the next message before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a connection ended: code and reason of the close frame.
pub type Closed = (u16, String);

/// An open connection.
pub struct Follower {
    socket: WebSocket<TcpStream>,
}

impl Follower {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let url = format!("ws://{address}/v1/stream");
        let (socket, _) = tungstenite::client(url, stream).expect("it is let in");
        Self { socket }
    }

    pub fn say(&mut self, message: &Value) {
        self.send(Message::text(message.to_string()));
    }

    pub fn send(&mut self, message: Message) {
        self.socket.send(message).expect("the server reads");
    }

    /// Subscribes to these, as `{channel, market, depth?}`.
    pub fn subscribe(&mut self, entries: &[Value]) {
        self.say(&json!({"subscribe": entries}));
    }

    /// The next message, or why there is none.
    pub fn next(&mut self) -> Result<Value, Closed> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    return Ok(serde_json::from_str(text.as_str()).expect("JSON"));
                }
                Ok(Message::Close(frame)) => {
                    // Read on, so that the goodbye is answered.
                    while self.socket.read().is_ok() {}
                    let frame = frame.expect("a goodbye with a reason");
                    return Err((frame.code.into(), frame.reason.to_string()));
                }
                Ok(_) => {}
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Err((0, "".into())),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The next message, which must be of that type.
    #[track_caller]
    pub fn hear(&mut self, kind: &str) -> Value {
        let message = self.next().unwrap_or_else(|closed| panic!("closed: {closed:?}"));
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// The next message, which must be an error of that code about that field.
    #[track_caller]
    pub fn hear_error(&mut self, code: &str, field: &str) -> Value {
        let message = self.hear("error");
        assert_eq!(message["code"], code, "{message}");
        assert_eq!(message["field"].as_str().unwrap_or(""), field, "{message}");
        message
    }
}

pub fn number(value: &Value) -> u64 {
    value.as_str().expect("a string").parse().expect("a number")
}

/// A market as a client has it, by the rules that clients are told.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    pub levels: Levels,
    pub seq: u64,
}

/// What a client has heard.
#[derive(Default)]
pub struct Heard {
    /// By market.
    pub mirrors: BTreeMap<String, Mirror>,
    /// Market, seq, and the book as it was then.
    pub books: Vec<(String, u64, Levels)>,
    /// Market, seq, price, quantity, side.
    pub trades: Vec<(String, u64, u64, u64, String)>,
    /// The seq of what was heard last of trades, by market.
    pub traded: BTreeMap<String, u64>,
    /// The seqs from which on trades are told.
    pub trades_from: BTreeMap<String, u64>,
    pub snapshots: usize,
    pub updates: usize,
}

impl Heard {
    pub fn take(&mut self, message: &Value) {
        let market = message["market"].as_str().expect("a market").to_owned();
        let seq = number(&message["seq"]);
        match message["type"].as_str().expect("a type") {
            "snapshot" => {
                self.snapshots += 1;
                self.mirrors.insert(market.clone(), Mirror::default());
                self.book(market, seq, message);
            }
            "update" => {
                self.updates += 1;
                let has = self.mirrors.get(&market).expect("a snapshot comes first").seq;
                assert_eq!(number(&message["previous_seq"]), has, "a gap: {message}");
                assert!(seq > has, "{message}");
                self.book(market, seq, message);
            }
            "subscribed" => {
                self.traded.insert(market.clone(), seq);
                self.trades_from.insert(market, seq);
            }
            "trades" => {
                let last = self.traded.insert(market.clone(), seq).expect("a beginning");
                assert_eq!(number(&message["previous_seq"]), last, "a gap: {message}");
                let side = message["side"].as_str().expect("a side").to_owned();
                let trades = message["trades"].as_array().expect("a list");
                assert!(!trades.is_empty());
                for trade in trades {
                    let (price, quantity) = (number(&trade["price"]), number(&trade["quantity"]));
                    self.trades.push((market.clone(), seq, price, quantity, side.clone()));
                }
            }
            other => panic!("{other}: {message}"),
        }
    }

    fn book(&mut self, market: String, seq: u64, message: &Value) {
        let mirror = self.mirrors.get_mut(&market).expect("a snapshot comes first");
        for (name, side) in [("bids", Side::Buy), ("asks", Side::Sell)] {
            for row in message[name].as_array().expect("a list") {
                let quantity = row[1].as_str().expect("a string").parse().expect("a quantity");
                let orders = row[2].as_u64().expect("a number") as u32;
                let price = Price(number(&row[0]));
                mirror.levels.apply(LevelChange { side, price, quantity, orders });
            }
        }
        mirror.seq = seq;
        assert_eq!(message["checksum"], mirror.levels.checksum(), "{message}");
        self.books.push((market, seq, mirror.levels.clone()));
    }

    /// Whether every market was heard of up to its seq.
    pub fn has(&self, ends: &BTreeMap<String, u64>) -> bool {
        let reached = |(market, end): (&String, &u64)| {
            self.mirrors.get(market).is_none_or(|mirror| mirror.seq >= *end)
        };
        ends.iter().all(reached)
    }
}
