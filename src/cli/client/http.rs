//! One HTTP call, and the two ways in which it can stay without an answer.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::time::Duration;

use serde_json::Value;
use tokio_rustls::rustls as tls;
use ureq::config::{Config, ConfigBuilder};
use ureq::http::{Request, Response};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body, Error};

use crate::types::RequestId;

use super::target::{AccessArgs, Sent};

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

impl Method {
    const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
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

impl<'a> Call<'a> {
    /// A look at that path.
    pub(super) const fn get(path: &'a str) -> Self {
        Self { method: Method::Get, path, body: None, id: None }
    }
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

/// Asks the server at `url` for a stream, which may last for ever, as whom `access` says.
///
/// # Errors
/// No answer, or something that no server of this kind says.
pub(super) fn stream(url: &str, access: &AccessArgs, path: &str) -> Result<Streamed, Unanswered> {
    let config = config(access)?;
    let config =
        config.timeout_connect(Some(PATIENCE)).timeout_recv_response(Some(PATIENCE)).build();
    let mut response = run(config, url, access, &Call::get(path))?;
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

/// Makes a call to the server at `url`, as whom `access` says.
///
/// # Errors
/// No answer, or something that no server of this kind says.
pub(super) fn send(url: &str, access: &AccessArgs, call: &Call<'_>) -> Result<Answer, Unanswered> {
    let config = config(access)?.timeout_global(Some(PATIENCE)).build();
    let mut response = run(config, url, access, call)?;
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

/// What holds of every call.
fn config(access: &AccessArgs) -> Result<ConfigBuilder<AgentScope>, Unanswered> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // A loopback address is no business of a proxy's.
        .proxy(None)
        // Nobody but the server that was named is shown a key.
        .max_redirects(0);
    Ok(config.tls_config(access.tls().map_err(Unanswered::Unreachable)?))
}

fn run(
    config: Config,
    url: &str,
    access: &AccessArgs,
    call: &Call<'_>,
) -> Result<Response<Body>, Unanswered> {
    let agent = Agent::new_with_config(config);
    let request = request(url, access, call).map_err(Unanswered::Unreachable)?;
    agent.run(request).map_err(|error| unanswered(&error))
}

fn request(url: &str, access: &AccessArgs, call: &Call<'_>) -> Result<Request<String>, String> {
    let is_bodiless = matches!(call.method, Method::Get | Method::Delete);
    let body = call.body.as_ref().filter(|_| !is_bodiless).map(Value::to_string);
    let body = body.unwrap_or_default();
    let (method, target) = (call.method.name(), call.path);
    let request_id = call.id.map(|id| id.to_string()).unwrap_or_default();
    let sent = Sent { url, method, target, body: &body, request_id: &request_id };
    let mut request = Request::builder().method(method).uri(format!("{url}{}", call.path));
    for (name, value) in access.headers(&sent)? {
        request = request.header(name, value);
    }
    if !request_id.is_empty() {
        request = request.header("idempotency-key", request_id);
    }
    if !is_bodiless {
        request = request.header("content-type", "application/json");
    }
    request.body(body).map_err(|error| error.to_string())
}

/// Fetches a page that is text, as metrics are.
///
/// # Errors
/// No answer within `patience`, or one that is not of success.
pub(in crate::cli) fn text(
    url: &str,
    access: &AccessArgs,
    path: &str,
    patience: Duration,
) -> Result<String, Unanswered> {
    let config = config(access)?.timeout_global(Some(patience)).build();
    let mut response = run(config, url, access, &Call::get(path))?;
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
        // The handshake comes first: nothing is sent to who is somebody else.
        Error::Io(io) if is_of_certificate(io) => Unanswered::Unreachable(io.to_string()),
        other => Unanswered::Broken(other.to_string()),
    }
}

fn is_of_certificate(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<tls::Error>());
    matches!(inner, Some(tls::Error::InvalidCertificate(_)))
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
        send(url, &AccessArgs::default(), &Call::get("/livez"))
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
