//! Where a server is, who asks it, and whom to trust.
//!
//! ```text
//! grpc://127.0.0.1:7401     plain: a key goes to this machine alone
//! grpcs://HOST:7401         over TLS: a key goes anywhere
//! ```

use std::net::IpAddr;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::access::secret::Token;
use crate::config::{
    GRPC_CONNECTION_WINDOW_BYTES, GRPC_KEEPALIVE_MS, GRPC_KEEPALIVE_WAIT_MS,
    GRPC_STREAM_WINDOW_BYTES,
};

use super::{ClientError, ExchangeClient};

/// The service as somebody asks it: every call shows the key, if there is one.
pub type Exchange = ExchangeClient<InterceptedService<Channel, Bearer>>;

/// Who asks, and whom to trust. The default has no key, and trusts the authorities that everybody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The key that every call shows. It is sent over TLS, and to this machine; nowhere else.
    pub token: Option<Token>,
    /// The authority of the server's certificate, PEM, in the place of those that everybody knows.
    pub ca_pem: Option<Vec<u8>>,
    /// A certificate of one's own and its private key, PEM, for servers that want one.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
}

/// Shows a key.
#[derive(Clone, Debug)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.0 {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok(request)
    }
}

impl Access {
    /// How to connect to `grpc://HOST:PORT` or `grpcs://HOST:PORT`.
    ///
    /// # Errors
    /// [`ClientError::Address`]: it is of another form, or a key must not go there.
    pub fn endpoint(&self, url: &str) -> Result<Endpoint, ClientError> {
        let wrong = |why: String| ClientError::Address(why);
        let (scheme, authority) = url.split_once("://").unwrap_or(("", url));
        let authority = authority.trim_end_matches('/');
        let is_encrypted = match scheme {
            "grpc" => false,
            "grpcs" => true,
            "http" | "https" => {
                let with = if scheme == "http" { "grpc" } else { "grpcs" };
                return Err(wrong(format!(
                    "{url} is an address of HTTP, and this client speaks gRPC: give \
                     {with}://HOST:PORT with the port of `--grpc`, which is 7401 unless said otherwise"
                )));
            }
            _ => {
                return Err(wrong(format!(
                    "{url} is no address of a gRPC server; give one as grpc://127.0.0.1:7401, or as \
                     grpcs://HOST:PORT for TLS"
                )));
            }
        };
        if self.token.is_some() && !is_encrypted && !is_loopback(authority) {
            return Err(wrong(format!(
                "a key is sent over TLS, and to this machine; give grpcs://{authority}"
            )));
        }
        let scheme = if is_encrypted { "https" } else { "http" };
        let told =
            |error: tonic::transport::Error| wrong(format!("{url}: {}", super::in_full(&error)));
        let endpoint = Endpoint::from_shared(format!("{scheme}://{authority}")).map_err(told)?;
        let endpoint =
            if is_encrypted { endpoint.tls_config(self.tls()).map_err(told)? } else { endpoint };
        Ok(endpoint
            .tcp_nodelay(true)
            .initial_stream_window_size(GRPC_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(GRPC_CONNECTION_WINDOW_BYTES)
            // Who only listens would not notice otherwise that nobody speaks any more.
            .http2_keep_alive_interval(Duration::from_millis(GRPC_KEEPALIVE_MS))
            .keep_alive_timeout(Duration::from_millis(GRPC_KEEPALIVE_WAIT_MS)))
    }

    fn tls(&self) -> ClientTlsConfig {
        let tls = match &self.ca_pem {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_webpki_roots(),
        };
        match &self.identity_pem {
            Some((certificate, key)) => tls.identity(Identity::from_pem(certificate, key)),
            None => tls,
        }
    }

    /// The service on that connection, as who asks. Answers may be larger than what was asked for.
    pub fn exchange(&self, channel: Channel) -> Exchange {
        let bearer = self.token.as_ref().map(|token| {
            let text = format!("Bearer {}", token.reveal());
            let mut bearer: MetadataValue<Ascii> = text.parse().expect("a token is ASCII");
            bearer.set_sensitive(true);
            bearer
        });
        let client = ExchangeClient::with_interceptor(channel, Bearer(bearer));
        client.max_decoding_message_size(usize::MAX)
    }
}

/// Where `grpc://HOST:PORT` is, for who needs no key.
///
/// # Errors
/// [`ClientError::Address`].
pub fn endpoint(url: &str) -> Result<Endpoint, ClientError> {
    Access::default().endpoint(url)
}

/// Whether `HOST:PORT` is on this machine.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, _)) => inside,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::secret::Master;

    #[test]
    fn addresses_are_those_of_grpc_and_others_are_told_which() {
        for url in ["grpc://127.0.0.1:7401", "grpc://localhost:7401/", "grpcs://venue.example:7401"]
        {
            assert!(endpoint(url).is_ok(), "{url}");
        }
        for (url, hint) in [
            ("http://127.0.0.1:7400", "give grpc://HOST:PORT"),
            ("https://127.0.0.1:7400", "give grpcs://HOST:PORT"),
            ("127.0.0.1:7401", "grpc://127.0.0.1:7401"),
            ("grpc://a b", "grpc://a b"),
        ] {
            let Err(ClientError::Address(why)) = endpoint(url) else { panic!("{url}") };
            assert!(why.contains(hint), "{why}");
        }
    }

    #[test]
    fn a_key_goes_where_nobody_reads_along() {
        let token = Token { name: "desk".into(), secret: Master::new([1; 32]).secret("desk", 1) };
        let access = Access { token: Some(token), ..Access::default() };
        for url in
            ["grpc://127.0.0.1:1", "grpc://[::1]:1", "grpc://localhost:1", "grpcs://10.0.0.1:1"]
        {
            assert!(access.endpoint(url).is_ok(), "{url}");
        }
        for url in ["grpc://10.0.0.1:1", "grpc://localhost.example:1", "grpc://[2001:db8::1]:1"] {
            assert!(matches!(access.endpoint(url), Err(ClientError::Address(_))), "{url}");
        }
    }
}
