//! What the server is started with: flags over `CROSSLATCH_*` variables over a TOML file over defaults.
//!
//! ```toml
//! data = "./data"
//! listen = "127.0.0.1:7400"
//! grpc = "127.0.0.1:7401"
//! log_format = "json"
//! journal_archive_dir = "/archive/venue"
//!
//! metrics_open = true     # anybody may read /metrics; else it needs a key
//!
//! [tls]
//! cert = "server.pem"
//! key = "server.key"
//! client_ca = "clients.pem"
//!
//! [limits]                # every field of `config::Limits`
//! shards = 2
//! requests_in_flight_max = 131_072
//!
//! [edge]                  # every field of `config::EdgeLimits`
//! connections_max = 4_096
//! ```
//!
//! A limit is set from the environment by `CROSSLATCH_LIMITS_` or `CROSSLATCH_EDGE_` and its name in
//! capitals.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::config::{EdgeLimits, Limits, SLOW_REQUEST_MS};
use crate::error::{Error, Malformed};
use crate::server::tls::TlsFiles;

/// Prefixes of the variables that set limits, and the tables that these stand in.
pub(super) const LIMITS_VARIABLES: [(&str, &str); 2] =
    [("CROSSLATCH_LIMITS_", "limits"), ("CROSSLATCH_EDGE_", "edge")];

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is logged: this and all that is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What ends the server, or should.
    Error,
    /// What somebody should look at: requests that failed or took long.
    Warn,
    /// Starts, stops and how far they are.
    Info,
    /// Every refusal.
    Debug,
    /// Everything.
    Trace,
}

/// Everything that a server can be told before it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The data directory.
    pub data: PathBuf,
    /// The address of the HTTP server; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The address of the gRPC server; port 0 takes a free one.
    pub grpc: SocketAddr,
    /// Where old blocks of the journal go; without it they stay in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal_archive_dir: Option<PathBuf>,
    /// How log lines are written.
    #[serde(alias = "log")]
    pub log_format: LogFormat,
    /// How much is logged; where it is not said, `RUST_LOG` chooses, and else `info`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
    /// A request that takes as long gets a line in the log; 0 for every request.
    pub slow_request_ms: u64,
    /// Whether anybody may read `/metrics`; else it needs a key.
    pub metrics_open: bool,
    /// Certificates; without them the server speaks plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// Every limit of the engine.
    pub limits: Limits,
    /// Every limit of the server's edge.
    pub edge: EdgeLimits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data: "./data".into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7400)),
            grpc: SocketAddr::from((Ipv4Addr::LOCALHOST, 7401)),
            journal_archive_dir: None,
            log_format: LogFormat::default(),
            log_level: None,
            slow_request_ms: SLOW_REQUEST_MS,
            metrics_open: true,
            tls: None,
            limits: Limits::default(),
            edge: EdgeLimits::default(),
        }
    }
}

impl Settings {
    /// The defaults, or a file where one is given, and the limits among `variables` over it.
    ///
    /// # Errors
    /// [`Error::Config`]: the file cannot be read, or which field is wrong.
    pub fn load(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let mut table = toml::Table::new();
        if let Some(path) = file {
            let refused =
                |why: String| Error::Config(Malformed::new(path.display().to_string(), why));
            let text = std::fs::read_to_string(path)
                .map_err(|error| refused(format!("cannot be read: {error}")))?;
            // Checked on its own, so that a mistake in the file is shown with its line.
            let _: Self = toml::from_str(&text)
                .map_err(|error| refused(format!("is not a valid configuration:\n{error}")))?;
            table = toml::from_str(&text).map_err(|error| refused(error.to_string()))?;
        }
        for (name, value) in variables {
            for (prefix, limits) in LIMITS_VARIABLES {
                if let Some(limit) = name.strip_prefix(prefix) {
                    set_limit(&mut table, limits, limit, &name, &value)?;
                }
            }
        }
        table.try_into().map_err(|error: toml::de::Error| {
            let [(limits, _), _] = LIMITS_VARIABLES;
            Error::Config(Malformed::new(limits, format!("…: {}", error.message())))
        })
    }

    /// Checks what can be checked before anything is opened.
    ///
    /// # Errors
    /// [`Error::Config`] with the first field that is wrong.
    pub fn validate(&self) -> Result<(), Error> {
        self.limits.validate().map_err(Error::Config)?;
        self.edge.validate().map_err(Error::Config)
    }

    /// Checks where a venue may listen that has keys, or has none yet.
    ///
    /// # Errors
    /// [`Error::Config`]: without keys, on loopback only.
    pub fn check_listen(&self, has_keys: bool) -> Result<(), Error> {
        let faces = [("listen", self.listen), ("grpc", self.grpc)];
        let open = faces.into_iter().find(|(_, it)| !it.ip().is_loopback());
        let Some((field, address)) = open.filter(|_| !has_keys) else { return Ok(()) };
        let data = self.data.display();
        Err(Error::Config(Malformed::new(
            field,
            format!(
                "is {address}; without any key the server answers everybody who reaches it, so it only \
                 listens on loopback, as 127.0.0.1:{} is; create a key first: crosslatch key create \
                 operator --scope read,trade,transfer,operate --all-accounts --data {data}",
                address.port()
            ),
        )))
    }
}

fn set_limit(
    table: &mut toml::Table,
    limits: &str,
    limit: &str,
    variable: &str,
    value: &str,
) -> Result<(), Error> {
    let number = value.replace('_', "").parse().map_err(|_| {
        Error::Config(Malformed::new(variable, format!("is {value:?}; give a whole number")))
    })?;
    let limits = table.entry(limits).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    let limits = limits.as_table_mut().expect("the file was read as settings before");
    limits.insert(limit.to_ascii_lowercase(), toml::Value::Integer(number));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("room");
        file
    }

    fn variables<const N: usize>(
        pairs: [(&str, &str); N],
    ) -> impl Iterator<Item = (String, String)> {
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter()
    }

    #[test]
    fn variables_stand_over_the_file_over_the_defaults() {
        let text = "listen = \"127.0.0.1:1\"\njournal_archive_dir = \"/a\"\n[limits]\nshards = 3\n\
                    fold_requests_max = 7\njournal_archive_after_secs = 60\n";
        let file = file(text);
        let set = variables([
            ("CROSSLATCH_LIMITS_SHARDS", "5"),
            ("CROSSLATCH_EDGE_HEADERS_MAX", "64"),
            ("PATH", "/bin"),
        ]);
        let settings = Settings::load(Some(file.path()), set).expect("valid");
        assert_eq!(settings.limits.shards, 5);
        assert_eq!(settings.edge.headers_max, 64);
        assert_eq!(settings.limits.fold_requests_max, 7);
        assert_eq!(settings.limits.recent_ids_max, Limits::default().recent_ids_max);
        assert_eq!(settings.listen.port(), 1);
        assert_eq!(settings.journal_archive_dir, Some("/a".into()));
        assert_eq!(settings.limits.journal_archive_after_secs, 60);
        assert_eq!(settings.data, PathBuf::from("./data"));
        assert_eq!(settings.validate(), Ok(()));
    }

    #[test]
    fn without_anything_the_defaults_stand() {
        assert_eq!(Settings::load(None, variables([])), Ok(Settings::default()));
    }

    #[test]
    fn mistakes_are_named() {
        let message = |text: &str| {
            let error = Settings::load(Some(file(text).path()), variables([])).expect_err(text);
            error.to_string()
        };
        assert!(message("[limits]\nshard = 3").contains("unknown field `shard`"));
        assert!(message("listen = 7").contains("listen"));
        let error = Settings::load(None, variables([("CROSSLATCH_LIMITS_SHARDS", "many")]));
        assert!(error.expect_err("many").to_string().contains("CROSSLATCH_LIMITS_SHARDS"));
        let error = Settings::load(None, variables([("CROSSLATCH_LIMITS_SHARD", "1")]));
        assert!(error.expect_err("no such limit").to_string().contains("shard"));
        let error = Settings::load(Some(Path::new("/nowhere/it.toml")), variables([]));
        assert!(error.expect_err("no file").to_string().contains("/nowhere/it.toml"));
    }

    #[test]
    fn without_keys_only_loopback_is_listened_on() {
        let on = |listen: &str, has_keys| {
            let listen = listen.parse().expect("an address");
            Settings { listen, ..Settings::default() }.check_listen(has_keys)
        };
        assert_eq!(on("[::1]:0", false), Ok(()));
        let refused = on("0.0.0.0:7400", false).expect_err("everybody").to_string();
        assert!(refused.contains("loopback") && refused.contains("key create"), "{refused}");
        assert_eq!(on("0.0.0.0:7400", true), Ok(()));
        let grpc = "0.0.0.0:7401".parse().expect("an address");
        let settings = Settings { grpc, ..Settings::default() };
        assert!(
            settings.check_listen(false).expect_err("everybody").to_string().contains("grpc is")
        );
    }
}
