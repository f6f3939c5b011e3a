//! A caller over HTTP: one connection, kept alive, one request in flight, as little work as that takes.
//!
//! The generator shares its cores with the server that it measures. So requests are written by hand, and of
//! an answer only what a load counts is read: the seq, or the code.

use std::fmt::Write as _;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::{Error, Reject};
use crate::request::{Action, Command, Request, Transact};
use crate::types::{AccountId, Amount, Balance, CommitSeq, Leg, Subject};

use super::reach::{Reach, Url, Wire};
use super::target::{OfAccount, RemoteRefusal, RemoteReply, asset_of, documented, gone};

/// Answers are read in pieces of this size at least.
const READ_BYTES: usize = 16 * 1024;

/// A connection.
pub(super) struct HttpCaller {
    stream: Box<dyn Wire>,
    authority: String,
    /// A header that shows the key, if there is one.
    bearer: String,
    request: String,
    body: String,
    answer: Vec<u8>,
}

impl HttpCaller {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(super) async fn connect(reach: &Reach) -> io::Result<Self> {
        let Url::Http(authority) = &reach.url else {
            return Err(io::Error::other("it is not reached over HTTP"));
        };
        let (stream, bearer) = (reach.connect(authority).await?, reach.bearer());
        let (request, body, answer) = (String::new(), String::new(), Vec::new());
        Ok(Self { stream, authority: authority.clone(), bearer, request, body, answer })
    }

    /// What is at a path.
    ///
    /// # Errors
    /// As [`HttpCaller::send`].
    pub(super) async fn get(&mut self, path: &str) -> io::Result<&str> {
        self.body.clear();
        self.send("GET", path).await
    }

    /// Sends what is in `body`; the answer's body.
    ///
    /// # Errors
    /// The connection is lost, or this is not HTTP as our server speaks it.
    pub(super) async fn send(&mut self, method: &str, path: &str) -> io::Result<&str> {
        let Self { stream, authority, bearer, request, body, answer } = self;
        request.clear();
        let length = body.len();
        let written = write!(
            request,
            "{method} {path} HTTP/1.1\r\nHost: {authority}\r\n{bearer}Content-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        written.map_err(io::Error::other)?;
        stream.write_all(request.as_bytes()).await?;
        answer.clear();
        let (head, length) = loop {
            answer.reserve(READ_BYTES);
            if stream.read_buf(answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(found) = head_of(answer)? {
                break found;
            }
        };
        while answer.len() < head + length {
            answer.reserve(READ_BYTES);
            if stream.read_buf(answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        std::str::from_utf8(&answer[head..head + length]).map_err(io::Error::other)
    }
}

/// Where the body begins, and how long it is; `None` while the head is not all there.
fn head_of(answer: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(end) = answer.windows(4).position(|it| it == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end]).map_err(io::Error::other)?;
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = lengths.next().and_then(|(_, value)| value.trim().parse().ok());
    let length = length.ok_or_else(|| io::Error::other("an answer without a length"))?;
    Ok(Some((end + 4, length)))
}

/// Sends requests, swaps as one batch and anything else one by one.
///
/// # Errors
/// The connection is lost.
pub(super) async fn submit(
    caller: &mut HttpCaller,
    requests: &[Request],
) -> Result<Vec<RemoteReply>, Error> {
    let are_swaps = requests.iter().all(|it| matches!(it.command, Command::Swap(_)));
    let mut replies = Vec::with_capacity(requests.len());
    if are_swaps && requests.len() > 1 {
        write_batch(&mut caller.body, requests);
        let answer = caller.send("POST", "/v1/swaps:batch").await;
        read_replies(answer.map_err(|error| gone(&error))?, &mut replies);
    } else {
        for request in requests {
            let (method, path) = write_one(&mut caller.body, request);
            let answer = caller.send(method, &path).await;
            read_replies(answer.map_err(|error| gone(&error))?, &mut replies);
        }
    }
    if replies.len() == requests.len() {
        return Ok(replies);
    }
    Err(Error::Stopped { cause: "an answer cannot be read".into() })
}

fn write_batch(body: &mut String, requests: &[Request]) {
    body.clear();
    body.push_str("{\"swaps\":[");
    for (index, request) in requests.iter().enumerate() {
        if let Command::Swap(swap) = &request.command {
            if index > 0 {
                body.push(',');
            }
            write_legs(body, request, swap.legs());
            body.push('}');
        }
    }
    body.push_str("]}");
}

/// The body of a request, and where it goes. Assets go by the names that the set-up gives them.
fn write_one(body: &mut String, request: &Request) -> (&'static str, String) {
    body.clear();
    let id = request.id;
    // Writing to a string cannot fail.
    let (method, path, written) = match &request.command {
        Command::Swap(swap) => {
            write_legs(body, request, swap.legs());
            ("POST", "/v1/swaps".into(), write!(body, "}}"))
        }
        Command::Prepare(prepare) => {
            write_legs(body, request, prepare.swap.legs());
            let expires_in_ms = prepare.expires_in_ms;
            ("POST", "/v1/prepared".into(), write!(body, ",\"expires_in_ms\":{expires_in_ms}}}"))
        }
        Command::Resolve(resolve) => {
            let end = if resolve.action == Action::Commit { "commit" } else { "rollback" };
            let path = format!("/v1/prepared/{}/{end}", resolve.token);
            ("POST", path, write!(body, "{{\"request_id\":\"{id}\"}}"))
        }
        Command::Deposit(it) => {
            let (account, asset, amount) = (it.account, it.asset, it.amount);
            let written = write!(
                body,
                "{{\"request_id\":\"{id}\",\"account\":{account},\"asset\":\"A{asset}\",\
                 \"amount\":\"{amount}\"}}"
            );
            ("POST", "/v1/deposits".into(), written)
        }
        Command::Transact(transact) => {
            write_transaction(body, request, transact);
            ("POST", "/v1/transactions".into(), Ok(()))
        }
        Command::PutAsset(spec) => {
            let (chain, kind) = (spec.chain, format!("{:?}", spec.chain_kind).to_lowercase());
            let (token, decimals) = (&spec.token, spec.decimals);
            let written = write!(
                body,
                "{{\"request_id\":\"{id}\",\"chain_id\":{chain},\"chain_kind\":\"{kind}\",\
                 \"token\":\"{token}\",\"decimals\":{decimals}}}"
            );
            ("PUT", format!("/v1/assets/{}", spec.name), written)
        }
        Command::PutAccount { account, links } => {
            let links = serde_json::json!({"request_id": id, "links": links});
            ("PUT", format!("/v1/accounts/{account}"), write!(body, "{links}"))
        }
        other => unreachable!("no load over HTTP sends {}", other.kind()),
    };
    written.expect("writing to a string cannot fail");
    (method, path)
}

fn write_transaction(body: &mut String, request: &Request, transact: &Transact) {
    let reads = transact.reads.iter().map(|read| {
        let Subject::Balance(of) = &read.subject else {
            unreachable!("a load's transactions read balances");
        };
        let (asset, version) = (format!("A{}", of.asset), read.version.to_string());
        serde_json::json!({"account": of.account, "asset": asset, "version": version})
    });
    let transfers = transact.transfers.iter().map(|leg| {
        let asset = format!("A{}", leg.asset);
        serde_json::json!({"from": leg.from, "to": leg.to, "asset": asset, "amount": leg.amount})
    });
    let (reads, transfers): (Vec<_>, Vec<_>) = (reads.collect(), transfers.collect());
    let whole = serde_json::json!({"request_id": request.id, "reads": reads, "writes": [], "transfers": transfers});
    *body = whole.to_string();
}

/// All but the last brace.
fn write_legs(body: &mut String, request: &Request, legs: &[Leg]) {
    let mut comma = "";
    let mut write = || -> std::fmt::Result {
        write!(body, "{{\"request_id\":\"{}\",\"legs\":[", request.id)?;
        for Leg { from, to, asset, amount } in legs {
            write!(
                body,
                "{comma}{{\"from\":{from},\"to\":{to},\"asset\":\"A{asset}\",\"amount\":{amount}}}"
            )?;
            comma = ",";
        }
        body.push(']');
        Ok(())
    };
    write().expect("writing to a string cannot fail");
}

/// Every answer begins with its status; a receipt's seq comes before anything that looks like one, and
/// a problem's code does.
fn read_replies(answer: &str, replies: &mut Vec<RemoteReply>) {
    for part in answer.split("{\"status\":\"").skip(1) {
        let after = |name: &str| part.split_once(name).and_then(|(_, rest)| rest.split('"').next());
        let seq = after("\"commit_seq\":\"").and_then(|seq| seq.parse().ok());
        replies.push(match seq {
            Some(seq) if part.starts_with("settled") => Ok(CommitSeq::new(seq)),
            _ => Err(refusal(after)),
        });
    }
}

/// A refusal by its members' texts, each of which follows its name.
fn refusal<'a>(after: impl Fn(&str) -> Option<&'a str>) -> RemoteRefusal {
    let code = documented(after("\"code\":\"").unwrap_or_default());
    let claim = || {
        // A number stands without quotes: it ends where the next member begins.
        let account = after("\"account\":")?.trim_end_matches([',', '}']).parse().ok()?;
        Some(Reject::InsufficientFunds {
            account: AccountId::new(account),
            asset: asset_of(after("\"asset\":\"")?)?,
            short_by: after("\"short_by\":\"")?.parse().ok()?,
            seq: CommitSeq::new(after("\"seq\":\"")?.parse().ok()?),
        })
    };
    RemoteRefusal { code, claim: if code == "insufficient_funds" { claim() } else { None } }
}

/// An account's balances, the latest or as of a seq.
///
/// # Errors
/// The connection is lost, or the answer is none.
pub(super) async fn balances(
    caller: &mut HttpCaller,
    account: AccountId,
    at: Option<CommitSeq>,
) -> Result<OfAccount, Error> {
    let at = at.map(|at| format!("?at={at}")).unwrap_or_default();
    let answer = caller.get(&format!("/v1/accounts/{account}/balances{at}")).await;
    let answer = answer.map_err(|error| gone(&error))?;
    let unread = || Error::Stopped { cause: format!("no balances: {answer:.200}") };
    let read: serde_json::Value = serde_json::from_str(answer).map_err(|_| unread())?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let seq = |value: &serde_json::Value| text(value).parse().map(CommitSeq::new);
    let units = |value: &serde_json::Value| text(value).parse::<Amount>().unwrap_or_default();
    let of = |it: &serde_json::Value| {
        let balance = Balance { available: units(&it["available"]), held: units(&it["held"]) };
        Some((asset_of(it["asset"].as_str()?)?, balance, seq(&it["version"]).ok()?))
    };
    let balances = read["balances"].as_array().ok_or_else(unread)?.iter().map(of);
    let balances = balances.collect::<Option<Vec<_>>>().ok_or_else(unread)?;
    Ok((seq(&read["seq"]).map_err(|_| unread())?, balances))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Prepare, Swap};
    use crate::types::{AccountId, Amount, AssetId, RequestId};

    fn swap(n: u128) -> Request {
        let leg = |from, to, asset| Leg {
            from: AccountId::new(from),
            to: AccountId::new(to),
            asset: AssetId::new(asset),
            amount: Amount::new(u128::MAX),
        };
        let swap = Swap::new([leg(1, 2, 0), leg(2, 1, 1)]).expect("a swap");
        Request::new(RequestId::new(n), Command::Swap(swap))
    }

    #[test]
    fn what_is_written_is_json_with_every_digit() {
        let mut body = String::new();
        write_batch(&mut body, &[swap(1), swap(2)]);
        let read: serde_json::Value = serde_json::from_str(&body).expect("json");
        assert_eq!(read["swaps"][1]["request_id"], RequestId::new(2).to_string());
        assert_eq!(read["swaps"][0]["legs"][1]["asset"], "A1");
        assert!(body.contains(&u128::MAX.to_string()));
        let Command::Swap(legs) = swap(3).command else { unreachable!() };
        let prepare = Prepare { swap: legs, expires_in_ms: 7, exclusive: false };
        let request = Request::new(RequestId::new(3), Command::Prepare(Box::new(prepare)));
        assert_eq!(write_one(&mut body, &request), ("POST", "/v1/prepared".to_owned()));
        let read: serde_json::Value = serde_json::from_str(&body).expect("json");
        assert_eq!(read["expires_in_ms"], 7);
    }

    #[test]
    fn answers_are_read_one_by_one() {
        let mut replies = Vec::new();
        read_replies(
            r#"{"results":[{"status":"settled","request_id":"x","commit_seq":"9","legs":[]},
               {"status":"rejected","code":"already_resolved","commit_seq":"7"}]}"#,
            &mut replies,
        );
        assert_eq!(replies, [Ok(CommitSeq::new(9)), Err(RemoteRefusal::of("already_resolved"))]);
    }

    #[test]
    fn a_head_says_how_long_the_body_is() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(head_of(head).expect("a head"), Some((38, 5)));
        assert_eq!(head_of(&head[..20]).expect("a part of one"), None);
        assert!(head_of(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
