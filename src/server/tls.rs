//! TLS 1.2 and 1.3 by rustls: certificates from files, read again on SIGHUP.
//!
//! With `client_ca` nobody gets through the handshake who has no certificate of that authority; a key
//! is needed all the same. Connections that are open keep the certificates that they began with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// What can be spoken over a connection, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the certificates are: PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority of clients' certificates; without it, clients need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// The server's side of TLS. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the certificates.
    ///
    /// # Errors
    /// Which file is missing, or holds no certificate or key, or does not fit the other.
    pub fn load(files: &TlsFiles) -> io::Result<Self> {
        let config = RwLock::new(Arc::new(config_of(files)?));
        Ok(Self(Arc::new(Inner { files: files.clone(), config })))
    }

    /// Reads them again; where that fails, those that were read before stay.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn reload(&self) -> io::Result<()> {
        let config = Arc::new(config_of(&self.0.files)?);
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// What shakes hands with the next client.
    pub fn acceptor(&self) -> TlsAcceptor {
        let config = self.0.config.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }
}

fn config_of(files: &TlsFiles) -> io::Result<ServerConfig> {
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| wrong(&files.key, format!("no private key can be read: {error}")))?;
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| wrong(path, error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.build().map_err(|error| wrong(path, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&files.cert, format!("it does not fit the private key: {error}")))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let chain: Vec<_> = read.map_err(|error| wrong(path, format!("cannot be read: {error}")))?;
    if chain.is_empty() {
        return Err(wrong(path, "holds no certificate in PEM".into()));
    }
    Ok(chain)
}

fn wrong(path: &Path, why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate of its own authority for localhost.
    fn files(data: &Path) -> TlsFiles {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (data.join("cert.pem"), data.join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        TlsFiles { cert, key, client_ca: None }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_name() {
        let data = tempfile::tempdir().unwrap();
        let right = files(data.path());
        assert!(Tls::load(&right).is_ok());
        let message = |files: &TlsFiles| Tls::load(files).err().expect("wrong").to_string();
        let missing = data.path().join("none.pem");
        let said = message(&TlsFiles { cert: missing.clone(), ..right.clone() });
        assert!(said.contains("none.pem"), "{said}");
        let said = message(&TlsFiles { key: right.cert.clone(), ..right.clone() });
        assert!(said.contains("no private key"), "{said}");
        let said = message(&TlsFiles { cert: right.key.clone(), ..right.clone() });
        assert!(said.contains("no certificate"), "{said}");
        let said = message(&TlsFiles { client_ca: Some(missing), ..right.clone() });
        assert!(said.contains("none.pem"), "{said}");
        let elsewhere = tempfile::tempdir().unwrap();
        let other = files(elsewhere.path());
        let said = message(&TlsFiles { key: other.key, ..right });
        assert!(said.contains("does not fit"), "{said}");
    }

    #[test]
    fn a_reload_that_fails_keeps_what_there_was() {
        let data = tempfile::tempdir().unwrap();
        let right = files(data.path());
        let tls = Tls::load(&right).unwrap();
        let before = Arc::clone(tls.acceptor().config());
        std::fs::write(&right.cert, "nonsense").unwrap();
        assert!(tls.reload().is_err());
        assert!(Arc::ptr_eq(tls.acceptor().config(), &before));
        files(data.path());
        tls.reload().unwrap();
        assert!(!Arc::ptr_eq(tls.acceptor().config(), &before));
    }
}
