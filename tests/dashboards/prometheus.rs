//! Debian's Prometheus as a process of its own: with this repository's configuration and rules, on a free port,
//! scraping a server that is on one too.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::tools::text;

/// How often it scrapes and evaluates here; the configuration's own pace would take too long.
const EVERY: &str = "500ms";
/// How long alerts wait at most for whoever has no patience.
const IMPATIENT: &str = "        for: 3s";
/// How often is asked whether something has come about, and how many times at most.
const ASK_EVERY: Duration = Duration::from_millis(100);
const ASKS_MAX: usize = 1_200;

/// A running Prometheus; killed when dropped.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

/// One series of an answer: its labels, and its samples as (Unix seconds, value).
pub struct Series {
    pub labels: Value,
    pub samples: Vec<(f64, f64)>,
}

/// Asks until there is an answer.
///
/// # Panics
/// When there is none for two minutes.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let asks = crossbeam::channel::tick(ASK_EVERY);
    let found = asks.iter().take(ASKS_MAX).find_map(|_| ask());
    found.unwrap_or_else(|| panic!("waited in vain: {what}"))
}

impl Prometheus {
    /// Starts one that scrapes `server`.
    pub fn start(server: SocketAddr) -> Self {
        Self::start_with(server, &text("dashboards/alerts.rules.yml"))
    }

    /// The same with alerts that wait no longer than a few seconds before they fire.
    pub fn start_impatient(server: SocketAddr) -> Self {
        let rules = text("dashboards/alerts.rules.yml");
        let waits = |line: &str| line.trim().starts_with("for: ");
        let lines = rules.lines().map(|line| if waits(line) { IMPATIENT } else { line });
        Self::start_with(server, &lines.collect::<Vec<_>>().join("\n"))
    }

    fn start_with(server: SocketAddr, alerts: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = text("dashboards/prometheus.yml");
        for (name, text) in [
            ("prometheus.yml", paced(&config, server)),
            ("recording.rules.yml", text("dashboards/recording.rules.yml")),
            ("alerts.rules.yml", alerts.to_owned()),
        ] {
            std::fs::write(directory.path().join(name), text).expect("a file");
        }
        // It does not say which port it got of its own choice. Another may take this one first: then again.
        let started = (0..5).find_map(|_| Self::try_start(&directory));
        let (child, address) = started.expect("Prometheus starts");
        Self { child, address, directory }
    }

    fn try_start(directory: &TempDir) -> Option<(Child, SocketAddr)> {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let log = std::fs::File::create(directory.path().join("log")).expect("a file");
        let mut command = Command::new("prometheus");
        command.arg("--config.file").arg(directory.path().join("prometheus.yml"));
        command.arg("--storage.tsdb.path").arg(directory.path().join("data"));
        command.arg("--web.listen-address").arg(address.to_string());
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().expect("it starts");
        let ready = format!("http://{address}/-/ready");
        let is_up = until("Prometheus is ready", || {
            let ended = child.try_wait().expect("it is a child").is_some();
            ended.then_some(false).or_else(|| ureq::get(&ready).call().ok().map(|_| true))
        });
        is_up.then_some((child, address))
    }

    /// What it said, for when something is wrong.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The `data` of an answer of its API.
    #[track_caller]
    pub fn api(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let answer = agent.get(&url).query_pairs(query.iter().copied()).call();
        let mut answer = answer.unwrap_or_else(|error| panic!("{path} {query:?}: {error}"));
        let text = answer.body_mut().read_to_string().expect("text");
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(value["status"], "success", "{path} {query:?}: {value}");
        value["data"].clone()
    }

    /// What a query gives now.
    #[track_caller]
    pub fn ask(&self, query: &str) -> Vec<Series> {
        series(&self.api("query", &[("query", query)]))
    }

    /// The same as one number; `None` where there is no series.
    #[track_caller]
    pub fn number(&self, query: &str) -> Option<f64> {
        let all = self.ask(query);
        assert!(all.len() <= 1, "{query} gives {} series", all.len());
        all.first().map(|series| series.samples[0].1)
    }

    /// What a query gave between two times, a second apart.
    #[track_caller]
    pub fn range(&self, query: &str, (from, to): (f64, f64)) -> Vec<Series> {
        let (from, to) = (from.to_string(), to.to_string());
        let parameters = [("query", query), ("start", &from), ("end", &to), ("step", "1")];
        series(&self.api("query_range", &parameters))
    }

    /// The time of the newest scrape.
    pub fn scraped_at(&self) -> Option<f64> {
        self.number("max(timestamp(crosslatch_durable_seq))")
    }

    /// Waits for a scrape that began after everything that has happened until now, and for the rules
    /// that were evaluated after that.
    pub fn catch_up(&self) {
        let now = || self.number("time()").expect("a number");
        let happened = now();
        until("a newer scrape", || self.scraped_at().filter(|at| *at > happened));
        let scraped = now();
        let record = "max(timestamp(instance:crosslatch_durability_lag:commits))";
        until("newer rules", || self.number(record).filter(|at| *at > scraped));
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The configuration with its target and its pace changed, and nothing else.
fn paced(config: &str, server: SocketAddr) -> String {
    let mut paced = config.to_owned();
    for (right, here) in [
        ("127.0.0.1:7400", server.to_string().as_str()),
        ("scrape_interval: 5s", &format!("scrape_interval: {EVERY}")),
        ("scrape_timeout: 4s", &format!("scrape_timeout: {EVERY}")),
        ("evaluation_interval: 5s", &format!("evaluation_interval: {EVERY}")),
    ] {
        assert!(paced.contains(right), "the configuration has no {right}");
        paced = paced.replace(right, here);
    }
    paced
}

/// The series of an answer, of whatever kind.
fn series(data: &Value) -> Vec<Series> {
    let sample = |pair: &Value| {
        let value = pair[1].as_str().expect("a value").parse().expect("a number");
        (pair[0].as_f64().expect("a time"), value)
    };
    let result = match data["resultType"].as_str() {
        Some("scalar") => {
            return vec![Series { labels: Value::Null, samples: vec![sample(&data["result"])] }];
        }
        _ => data["result"].as_array().expect("series"),
    };
    let one = |it: &Value| {
        let several = it["values"].as_array().map(|values| values.iter().map(sample).collect());
        let samples = several.unwrap_or_else(|| vec![sample(&it["value"])]);
        Series { labels: it["metric"].clone(), samples }
    };
    result.iter().map(one).collect()
}
