//! TLS: with the right authority, without, with certificates of clients' own, and exchanged while it runs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use super::process::{Server, command};
use super::venue::*;

/// Writes an authority, and a certificate and key of that name that it made.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        std::fs::write(directory.join(format!("{name}.pem")), issuer.pem()).expect("room");
        Self { issuer }
    }

    pub fn make(&self, directory: &Path, name: &str) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("names");
        let key = KeyPair::generate().expect("a key");
        let made = params.signed_by(&key, &self.issuer).expect("a certificate");
        std::fs::write(directory.join(format!("{name}.pem")), made.pem()).expect("room");
        std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).expect("room");
    }
}

pub fn path(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().expect("a plain path").to_owned()
}

pub fn serve(data: &Path, files: &Path, more: &[&str]) -> Server {
    let (cert, key) = (path(files, "server.pem"), path(files, "server.key"));
    let args = [&["--tls-cert", &cert, "--tls-key", &key], more].concat();
    Server::start_on(data, "127.0.0.1:0", &args)
}

/// `crosslatch key list` over TLS, with more arguments.
fn list(server: &Server, token: &str, more: &[&str]) -> Output {
    let url = format!("https://localhost:{}", server.address.port());
    let args = [&["key", "list", "--json", "--url", &url, "--key", token], more].concat();
    command(&args).output().expect("it runs")
}

/// A connection over a version of TLS, on which those protocols are offered.
pub fn connect(
    server: &Server,
    ca: &str,
    version: &'static SupportedProtocolVersion,
    protocols: &[&[u8]],
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("an authority");
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("a name");
    let client = ClientConnection::new(Arc::new(config), name).expect("a client");
    Ok(StreamOwned::new(client, TcpStream::connect(server.loopback())?))
}

/// The first line of an answer over a version of TLS, and the certificate that was shown.
fn ask(
    server: &Server,
    ca: &str,
    version: &'static SupportedProtocolVersion,
) -> std::io::Result<(String, CertificateDer<'static>)> {
    let mut stream = connect(server, ca, version, &[])?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    let shown = stream.conn.peer_certificates().expect("it shows one")[0].clone().into_owned();
    Ok((said.lines().next().unwrap_or_default().to_owned(), shown))
}

#[test]
fn https_is_spoken_to_who_trusts_the_authority() {
    let data = directory();
    let files = tempfile::tempdir().expect("a directory");
    Authority::new(files.path(), "ca").make(files.path(), "server");
    Authority::new(files.path(), "stranger");
    let token = first_key(data.path(), "operator").reveal();
    let server = serve(data.path(), files.path(), &[]);
    assert!(server.ready.contains("https://"), "{}", server.ready);
    let (ca, stranger) = (path(files.path(), "ca.pem"), path(files.path(), "stranger.pem"));
    let listed = list(&server, &token, &["--ca", &ca]);
    assert!(listed.status.success(), "{listed:?}");
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("an object");
    assert_eq!(listed["keys"][0]["name"], "operator");
    for more in [&["--ca", &*stranger][..], &[]] {
        let refused = list(&server, &token, more);
        assert_eq!(refused.status.code(), Some(4), "{refused:?}");
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("cannot be reached"),
            "{refused:?}"
        );
    }
    for version in [&TLS12, &TLS13] {
        let (first, _) = ask(&server, &ca, version).expect("an answer");
        assert_eq!(first, "HTTP/1.1 200 OK", "{version:?}");
    }
    // Who speaks plainly hears nothing that could be taken for an answer.
    let mut plain = TcpStream::connect(server.loopback()).expect("it listens");
    plain.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").expect("room");
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("HTTP"), "{said:?}");
}

#[test]
fn with_mutual_tls_a_client_needs_a_certificate_and_a_key() {
    let data = directory();
    let files = tempfile::tempdir().expect("a directory");
    let at = |name: &str| path(files.path(), name);
    Authority::new(files.path(), "ca").make(files.path(), "server");
    Authority::new(files.path(), "clients").make(files.path(), "desk");
    Authority::new(files.path(), "others").make(files.path(), "other");
    let operator = first_key(data.path(), "operator");
    let server = serve(data.path(), files.path(), &["--tls-client-ca", &at("clients.pem")]);
    let (ca, token) = (at("ca.pem"), operator.reveal());
    let ask = |name: &str, token: &str| {
        let (cert, key) = (at(&format!("{name}.pem")), at(&format!("{name}.key")));
        list(&server, token, &["--ca", &ca, "--client-cert", &cert, "--client-key", &key])
    };
    let listed = ask("desk", &token);
    assert!(listed.status.success(), "{listed:?}");
    assert!(!ask("other", &token).status.success(), "of another authority");
    assert!(!list(&server, &token, &["--ca", &ca]).status.success(), "without one");
    // The certificate is no key.
    let stranger = crosslatch::access::secret::Master::new([3; 32]).secret("operator", 1);
    let wrong = crosslatch::access::secret::Token { name: operator.name, secret: stranger };
    let refused = ask("desk", &wrong.reveal());
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}

#[test]
fn certificates_are_read_again_on_sighup() {
    let data = directory();
    let files = tempfile::tempdir().expect("a directory");
    let authority = Authority::new(files.path(), "ca");
    authority.make(files.path(), "server");
    let server = serve(data.path(), files.path(), &[]);
    let ca = path(files.path(), "ca.pem");
    let (_, first) = ask(&server, &ca, &TLS13).expect("an answer");
    assert_eq!(ask(&server, &ca, &TLS13).expect("an answer").1, first);
    authority.make(files.path(), "server");
    kill_process(server.pid(), Signal::HUP).expect("it runs");
    // It takes a moment to be read; until then the first is shown, and nobody is turned away.
    let shown = (0..100_000).map(|_| ask(&server, &ca, &TLS13).expect("an answer").1);
    assert!(shown.into_iter().any(|it| it != first), "the new one is never shown");
    // What cannot be read changes nothing.
    let (_, second) = ask(&server, &ca, &TLS13).expect("an answer");
    std::fs::write(files.path().join("server.pem"), "nonsense").expect("room");
    kill_process(server.pid(), Signal::HUP).expect("it runs");
    for _ in 0..50 {
        assert_eq!(ask(&server, &ca, &TLS13).expect("an answer").1, second);
    }
}

#[test]
fn a_server_with_wrong_files_does_not_start() {
    let data = directory();
    let files = tempfile::tempdir().expect("a directory");
    std::fs::write(files.path().join("server.pem"), "nonsense").expect("room");
    let cert = path(files.path(), "server.pem");
    let at = path(data.path(), "");
    let args = ["serve", "--data", &at, "--listen", "127.0.0.1:0", "--tls-cert", &cert];
    let refused = command(&args).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(2), "one of two");
    let refused = command(&[&args[..], &["--tls-key", &cert]].concat()).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("server.pem"), "{refused:?}");
}
