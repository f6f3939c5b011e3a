//! How a server is reached: where it is, who asks it, and whom to trust.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::cli::client::target::AccessArgs;
use crate::client::Access;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Url {
    /// `grpc://HOST:PORT`, or `grpcs://` for TLS.
    Grpc(String),
    /// `http://HOST:PORT`, or `https://` for TLS: host and port.
    Http(String),
}

/// A server, and who asks it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reach {
    /// Where it is.
    pub(super) url: Url,
    /// Who asks over gRPC.
    pub(super) access: Access,
    /// Over HTTP, for TLS.
    tls: Option<TlsConnector>,
}

/// A connection, encrypted or not.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

impl Reach {
    /// Reads an address, and what goes with it.
    ///
    /// # Errors
    /// It is of no such form, a file cannot be read, or a key must not go there.
    pub(super) fn of(text: &str, args: &AccessArgs) -> Result<Self, String> {
        let access = args.access()?;
        let (scheme, authority) = text.split_once("://").unwrap_or_default();
        let authority = authority.trim_end_matches('/');
        match scheme {
            "grpc" | "grpcs" => {
                access.endpoint(text).map_err(|error| error.to_string())?;
                Ok(Self { url: Url::Grpc(text.to_owned()), access, tls: None })
            }
            "http" | "https" if !authority.is_empty() => {
                let is_encrypted = scheme == "https";
                if access.token.is_some() && !is_encrypted && !is_loopback(host_of(authority)) {
                    return Err("a key is sent over TLS, and to this machine; give https://".into());
                }
                let tls = is_encrypted.then(|| connector(&access)).transpose()?;
                Ok(Self { url: Url::Http(authority.to_owned()), access, tls })
            }
            _ => {
                Err("give grpc://HOST:PORT or http://HOST:PORT, with an s behind it for TLS".into())
            }
        }
    }

    /// Whether it is reached over HTTP.
    pub(super) fn is_http(&self) -> bool {
        matches!(self.url, Url::Http(_))
    }

    /// A header line that shows the key; empty without one.
    pub(super) fn bearer(&self) -> String {
        let shown = |token: &crate::access::secret::Token| {
            format!("Authorization: Bearer {}\r\n", token.reveal())
        };
        self.access.token.as_ref().map(shown).unwrap_or_default()
    }

    /// A connection to a server of HTTP.
    ///
    /// # Errors
    /// Nobody listens there, or somebody else.
    pub(super) async fn connect(&self, authority: &str) -> io::Result<Box<dyn Wire>> {
        let default_port = if self.tls.is_some() { 443 } else { 80 };
        let has_port =
            authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let stream = match has_port {
            true => TcpStream::connect(authority).await?,
            false => TcpStream::connect((host_of(authority), default_port)).await?,
        };
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host_of(authority).to_owned()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

/// Of `HOST:PORT`.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, _)) => inside,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

fn connector(access: &Access) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match &access.ca_pem {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in certificates(pem)? {
                roots.add(certificate).map_err(|error| format!("--ca: {error}"))?;
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|it| it.to_string())?;
    let builder = builder.with_root_certificates(roots);
    let config = match &access.identity_pem {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|_| "--client-key: holds no private key in PEM".to_owned())?;
            let config = builder.with_client_auth_cert(certificates(chain)?, key);
            config.map_err(|error| format!("--client-cert: {error}"))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err("a file of certificates holds none in PEM".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Url, String> {
        Reach::of(text, &AccessArgs::default()).map(|reach| reach.url)
    }

    #[test]
    fn addresses_say_how_to_speak() {
        assert_eq!(of("http://127.0.0.1:7400/"), Ok(Url::Http("127.0.0.1:7400".into())));
        assert_eq!(of("https://venue.example"), Ok(Url::Http("venue.example".into())));
        for grpc in ["grpc://127.0.0.1:7401", "grpcs://venue.example:7401"] {
            assert_eq!(of(grpc), Ok(Url::Grpc(grpc.into())));
        }
        for text in ["127.0.0.1:7400", "ftp://a", "grpc://", "http://"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
