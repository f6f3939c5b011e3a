//! One HTTP call, and the two ways in which it can stay without an answer.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::time::Duration;

use serde_json::Value;
use ureq::{Agent, Error};

use crate::types::RequestId;

/// How long a call may take. A request waits seconds for an exclusive hold, at most.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest answer.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Put,
    Post,
    Patch,
    /// Without a body: its id goes as `Idempotency-Key`.
    Delete,
}

/// A call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// From the first `/` on, escaped.
    pub(super) path: &'a str,
    pub(super) body: Option<Value>,
    /// The request id, if it changes something.
    pub(super) id: Option<RequestId>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Whether it says what was asked for; else it is a problem.
    pub(super) is_done: bool,
    pub(super) body: Value,
    /// The body as it came.
    pub(super) text: String,
}

/// Why there is none.
#[derive(Debug)]
pub(in crate::cli) enum Unanswered {
    /// There is no server: nothing was sent.
    Unreachable(String),
    /// It was sent, or may have been.
    Broken(String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "the server cannot be reached: {why}"),
            Self::Broken(why) => write!(f, "the server gave no answer: {why}"),
        }
    }
}

/// What comes of asking for a stream.
pub(super) enum Streamed {
    /// The stream, to be read to its end.
    Body(Box<dyn Read>),
    /// Why there is none.
    Problem(Value),
}

/// Asks the server at `url` for a stream, which may last for ever.
///
/// # Errors
/// No answer, or something that no server of this kind says.
pub(super) fn stream(url: &str, path: &str) -> Result<Streamed, Unanswered> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .proxy(None)
        .build();
    let asked = Agent::new_with_config(config).get(format!("{url}{path}")).call();
    let mut response = asked.map_err(|error| unanswered(&error))?;
    if response.status().is_success() {
        return Ok(Streamed::Body(Box::new(response.into_body().into_reader())));
    }
    let status = response.status();
    let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    let problem = text.ok().and_then(|text| serde_json::from_str(&text).ok());
    let problem: Option<Value> = problem.filter(|body: &Value| body["code"].is_string());
    problem.map(Streamed::Problem).ok_or_else(|| {
        Unanswered::Broken(format!("what answered with status {status} is no server of this kind"))
    })
}

/// Makes a call to the server at `url`.
///
/// # Errors
/// No answer, or something that no server of this kind says.
pub(super) fn send(url: &str, call: &Call<'_>) -> Result<Answer, Unanswered> {
    let agent = agent(PATIENCE);
    let url = format!("{url}{}", call.path);
    let body = call.body.as_ref().map(Value::to_string).unwrap_or_default();
    let json = "application/json";
    let sent = match call.method {
        Method::Get => agent.get(url).call(),
        Method::Put => agent.put(url).content_type(json).send(body),
        Method::Post => agent.post(url).content_type(json).send(body),
        Method::Patch => agent.patch(url).content_type(json).send(body),
        Method::Delete => {
            let key = call.id.map(|id| id.to_string()).unwrap_or_default();
            agent.delete(url).header("Idempotency-Key", key).call()
        }
    };
    let mut response = sent.map_err(|error| unanswered(&error))?;
    let status = response.status();
    let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    let text = text.map_err(|error| Unanswered::Broken(error.to_string()))?;
    let foreign = || {
        Unanswered::Broken(format!("what answered with status {status} is no server of this kind"))
    };
    let body: Value = serde_json::from_str(&text).map_err(|_| foreign())?;
    let is_done = status.is_success();
    if !is_done && !body["code"].is_string() {
        return Err(foreign());
    }
    Ok(Answer { is_done, body, text })
}

fn agent(patience: Duration) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(patience))
        // A loopback address is no business of a proxy's.
        .proxy(None)
        .build();
    Agent::new_with_config(config)
}

/// Fetches a page that is text, as metrics are.
///
/// # Errors
/// No answer within `patience`, or one that is not of success.
pub(in crate::cli) fn text(
    url: &str,
    path: &str,
    patience: Duration,
) -> Result<String, Unanswered> {
    let sent = agent(patience).get(format!("{url}{path}")).call();
    let mut response = sent.map_err(|error| unanswered(&error))?;
    let status = response.status();
    let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    let text = text.map_err(|error| Unanswered::Broken(error.to_string()))?;
    match status.is_success() {
        true => Ok(text),
        false => Err(Unanswered::Broken(format!("{path} was answered with status {status}"))),
    }
}

fn unanswered(error: &Error) -> Unanswered {
    match error {
        Error::HostNotFound | Error::ConnectionFailed => Unanswered::Unreachable(error.to_string()),
        Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => {
            Unanswered::Unreachable(io.to_string())
        }
        other => Unanswered::Broken(other.to_string()),
    }
}

/// Reads one request to its end. A server that closes before it has read everything resets the
/// connection, and its answer may be lost with that.
#[cfg(test)]
pub(super) fn hear(stream: &mut std::net::TcpStream) {
    use std::io::{BufRead, BufReader, Read};

    let mut stream = BufReader::new(stream);
    let mut body_bytes = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            body_bytes = value.trim().parse().unwrap();
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    stream.read_exact(&mut vec![0; body_bytes]).unwrap();
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    /// A server that says the same to everybody, once.
    fn that_says(text: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            hear(&mut stream);
            stream.write_all(text.as_bytes()).unwrap();
        });
        url
    }

    fn get(url: &str) -> Result<Answer, Unanswered> {
        send(url, &Call { method: Method::Get, path: "/livez", body: None, id: None })
    }

    #[test]
    fn answers_problems_and_strangers_are_told_apart() {
        let url = that_says("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"a\": 1}");
        assert!(get(&url).unwrap().is_done);
        let url = that_says("HTTP/1.1 404 No\r\nContent-Length: 13\r\n\r\n{\"code\": \"x\"}");
        assert!(!get(&url).unwrap().is_done);
        for stranger in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "",
        ] {
            let heard = get(&that_says(stranger));
            assert!(matches!(heard, Err(Unanswered::Broken(_))), "{stranger:?}: {heard:?}");
        }
    }

    #[test]
    fn where_nobody_listens_nothing_was_sent() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let heard = get(&format!("http://{gone}"));
        assert!(matches!(heard, Err(Unanswered::Unreachable(_))), "{heard:?}");
    }
}
