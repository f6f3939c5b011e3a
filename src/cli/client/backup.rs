//! `crosslatch backup --url`: a backup that a running server makes, on its own file system.

use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::http::{self, Call, Method};
use super::target::AccessArgs;
use super::{FAILED, REJECTED, words};

/// Reads the server's address.
///
/// # Errors
/// What is wrong with it.
pub(in crate::cli) fn url(text: &str) -> Result<String, String> {
    words::url(text)
}

/// Has the server make a backup, and waits for it: asks again for as long as it is pending.
///
/// # Errors
/// The path is none, or standard output cannot be written to.
pub(in crate::cli) fn run(
    url: &str,
    access: &AccessArgs,
    to: &Path,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let to = std::path::absolute(to)?;
    let body = json!({"to": to});
    // One that is signed needs an id; the server tells backups apart by where they go.
    let id = Some(super::fresh_id());
    let answer = loop {
        let body = Some(body.clone());
        let call = Call { method: Method::Post, path: "/v1/backups", body, id };
        match http::send(url, access, &call) {
            Ok(answer) if answer.is_done && answer.body["status"] == "pending" => {}
            Ok(answer) => break answer,
            Err(unanswered) => {
                eprintln!("crosslatch: {unanswered}");
                eprintln!("if it began, it goes on; send the same again to wait for it");
                return Ok(ExitCode::from(FAILED));
            }
        }
    };
    let word = |name: &str| answer.body[name].as_str().unwrap_or_default();
    let mut out = stdout().lock();
    if as_json {
        writeln!(out, "{}", answer.body)?;
    } else if answer.is_done {
        let (to, block, seq) = (word("to"), word("block"), word("seq"));
        let bytes = &answer.body["bytes"];
        writeln!(out, "backup in {to}: up to block {block} (seq {seq}), {bytes} bytes, verified")?;
    }
    out.flush()?;
    if answer.is_done {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("crosslatch: {}: {}: {}", word("status"), word("code"), word("detail"));
    let failed = word("status") == "failed" || word("code") == "overloaded";
    Ok(ExitCode::from(if failed { FAILED } else { REJECTED }))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_is_pending_is_asked_for_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let pending = ("202 Accepted", r#"{"status": "pending"}"#);
            let done = ("200 OK", r#"{"status": "done", "seq": "7", "verified": true}"#);
            for (status, body) in [pending, pending, done] {
                let (mut stream, _) = listener.accept().unwrap();
                http::hear(&mut stream);
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n");
                write!(stream, "{head}Connection: close\r\n\r\n{body}").unwrap();
            }
        });
        assert_eq!(
            run(&url, &AccessArgs::default(), Path::new("/to"), true).unwrap(),
            ExitCode::SUCCESS
        );
        server.join().unwrap();
    }
}
