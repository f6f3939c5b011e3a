//! The server that a command speaks to: where it is, who it is, and who asks.
//!
//! A token goes as it is over TLS and to this machine; over a plain connection to another one the request
//! is signed with it instead, and it never leaves.

use std::path::{Path, PathBuf};

use clap::Args;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::access::secret::Token;
use crate::access::signature::{KEY_HEADER, SIGNATURE_HEADER, Signed, TIMESTAMP_HEADER, body_hash};
use crate::client::Access;
use crate::clock::{Clock, SystemClock};

/// Who asks, and whom to trust.
#[derive(Clone, Debug, Default, Args)]
pub struct AccessArgs {
    /// The key's token.
    #[arg(
        id = "api_key_token",
        long = "key",
        global = true,
        value_name = "TOKEN",
        env = "CROSSLATCH_KEY",
        hide_env_values = true
    )]
    token: Option<Token>,
    /// A file with the token, which then is in nobody's list of processes.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "CROSSLATCH_KEY_FILE",
        conflicts_with = "api_key_token"
    )]
    key_file: Option<PathBuf>,
    /// The authority of the server's certificate, PEM, in the place of those that everybody knows.
    #[arg(long, global = true, value_name = "FILE", env = "CROSSLATCH_CA")]
    ca: Option<PathBuf>,
    /// A certificate of one's own, PEM, for servers that want one.
    #[arg(long, global = true, value_name = "FILE", env = "CROSSLATCH_CLIENT_CERT")]
    client_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, global = true, value_name = "FILE", env = "CROSSLATCH_CLIENT_KEY")]
    client_key: Option<PathBuf>,
}

/// What is known of a request when its headers are made.
pub(super) struct Sent<'a> {
    pub(super) url: &'a str,
    pub(super) method: &'static str,
    /// From the first `/` on.
    pub(super) target: &'a str,
    pub(super) body: &'a str,
    /// The Idempotency-Key that goes with it; empty for none.
    pub(super) request_id: &'a str,
}

impl AccessArgs {
    /// The headers that say who asks.
    ///
    /// # Errors
    /// The token cannot be read.
    pub(super) fn headers(&self, sent: &Sent<'_>) -> Result<Vec<(&'static str, String)>, String> {
        let Some(token) = self.token()? else { return Ok(Vec::new()) };
        if is_private(sent.url) {
            return Ok(vec![("authorization", format!("Bearer {}", token.reveal()))]);
        }
        let timestamp = SystemClock.wall().millis().to_string();
        let signed = Signed {
            method: sent.method,
            target: sent.target,
            body: &body_hash(sent.body.as_bytes()),
            timestamp: &timestamp,
            request_id: sent.request_id,
        };
        let signature = signed.sign(&token.secret);
        Ok(vec![
            (KEY_HEADER, token.name.into()),
            (TIMESTAMP_HEADER, timestamp),
            (SIGNATURE_HEADER, signature),
        ])
    }

    /// The same for the client over gRPC, and for loads.
    ///
    /// # Errors
    /// Which file cannot be read, or what is missing.
    pub(in crate::cli) fn access(&self) -> Result<Access, String> {
        let identity = match (&self.client_cert, &self.client_key) {
            (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
            (None, None) => None,
            _ => return Err("--client-cert and --client-key go together".into()),
        };
        let ca_pem = self.ca.as_deref().map(read).transpose()?;
        Ok(Access { token: self.token()?, ca_pem, identity_pem: identity })
    }

    fn token(&self) -> Result<Option<Token>, String> {
        let Some(path) = &self.key_file else { return Ok(self.token.clone()) };
        let text = read(path)?;
        let text = String::from_utf8_lossy(&text);
        let token = text.parse().map_err(|why: String| format!("{}: it {why}", path.display()))?;
        Ok(Some(token))
    }

    /// Whom to trust, and the certificate to show.
    ///
    /// # Errors
    /// Which file cannot be read, or holds something else.
    pub(super) fn tls(&self) -> Result<TlsConfig, String> {
        let mut tls = TlsConfig::builder();
        if let Some(path) = &self.ca {
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates(path)?));
        }
        match (&self.client_cert, &self.client_key) {
            (Some(cert), Some(key)) => {
                let own = PrivateKey::from_pem(&read(key)?)
                    .map_err(|_| format!("{}: holds no private key in PEM", key.display()))?;
                let chain = certificates(cert)?;
                tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, own)));
            }
            (None, None) => {}
            _ => return Err("--client-cert and --client-key go together".into()),
        }
        Ok(tls.build())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let pem = read(path)?;
    let certificates = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        return Err(format!("{}: holds no certificate in PEM", path.display()));
    }
    Ok(certificates)
}

/// Whether nobody on the way can read along.
fn is_private(url: &str) -> bool {
    let Some(host) = url.strip_prefix("http://") else { return true };
    let host = host
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map_or_else(|| host.rsplit_once(':').map_or(host, |(host, _)| host), |(inside, _)| inside);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::secret::{Master, Secret};

    #[test]
    fn a_token_goes_where_nobody_reads_along() {
        for private in [
            "https://venue.example:7400",
            "http://127.0.0.1:7400",
            "http://127.0.0.1",
            "http://[::1]:7400",
            "http://localhost:80",
        ] {
            assert!(is_private(private), "{private}");
        }
        for open in
            ["http://10.0.0.1:7400", "http://localhost.example:80", "http://[2001:db8::1]:1"]
        {
            assert!(!is_private(open), "{open}");
        }
    }

    #[test]
    fn elsewhere_it_signs_and_the_token_stays() {
        let secret = Master::new([1; 32]).secret("desk", 1);
        let token = Token { name: "desk".into(), secret };
        let access = AccessArgs { token: Some(token.clone()), ..AccessArgs::default() };
        let sent = Sent {
            url: "http://10.0.0.1:7400",
            method: "POST",
            target: "/v1/swaps",
            body: "{}",
            request_id: "x",
        };
        let headers = access.headers(&sent).unwrap();
        let [(_, name), (_, timestamp), (_, signature)] = &headers[..] else { unreachable!() };
        assert_eq!(name, "desk");
        let signed = Signed {
            method: "POST",
            target: "/v1/swaps",
            body: &body_hash(b"{}"),
            timestamp,
            request_id: "x",
        };
        assert!(signed.is_signed(signature, &token.secret));
        assert!(!signed.is_signed(signature, &Secret::new([0; 32])));
        let there = Sent { url: "https://10.0.0.1:7400", ..sent };
        assert_eq!(access.headers(&there).unwrap()[0].1, format!("Bearer {}", token.reveal()));
        assert_eq!(AccessArgs::default().headers(&there).unwrap(), []);
    }
}
