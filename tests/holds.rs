//! Every state of a hold, over HTTP: open, committed, rolled back, expired; before and after the
//! server is killed and started again; as escrow and exclusive; with what the metrics say of each.
//!
//! Each file in `tests/scripts/holds` is a server's life: commands, `---`, what is to be said, an
//! empty line. `UPDATE_SCRIPTS=1` writes what is said now into the files; look at the difference
//! before you keep it. Alice has 1,000 ETH and Bob 5,000 SOL; the commands are
//!
//! ```text
//! prepare p1 [exclusive] [for 50 ms]   alice is to give bob 10 ETH for 200 SOL
//! commit p1, rollback p1
//! await p1 expired                     asks until that is its state
//! show p1, balances, metrics
//! spend                                alice gives bob 1 ETH for 1 SOL, at once
//! receive                              alice gets a deposit of 1 ETH
//! restart                              kill -9, and start again
//! ```

#[path = "support/http.rs"]
#[expect(dead_code, reason = "nothing is deleted here")]
mod http;
#[path = "support/people.rs"]
#[expect(dead_code, reason = "nobody looks at single balances here")]
mod people;
#[path = "support/process.rs"]
#[expect(dead_code, reason = "no server here runs on a small disk, or stops by itself")]
mod process;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use http::{Client, Reply};
use people::{deposit, id, populate, swap};
use process::Server;

/// Who meets a lock is refused soon; a hold that says nothing else stands.
const LIMITS: [(&str, u64); 2] = [("lock_wait_ms", 100), ("hold_expiry_ms", 3_600_000)];
/// How often it is asked before what is awaited is said not to come.
const ATTEMPTS: usize = 20_000;

/// A server and what it was asked.
struct Life {
    data: TempDir,
    server: Option<Server>,
    client: Client,
    /// Of each name, the request that prepared.
    tokens: HashMap<String, u64>,
    requests: u64,
}

#[test]
fn holds_fare_as_the_scripts_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/holds");
    let files = std::fs::read_dir(&folder).expect("a folder of scripts");
    let mut files: Vec<PathBuf> = files.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let named = |file: &PathBuf| file.file_stem().and_then(|stem| stem.to_str()).map(String::from);
    let names: Vec<String> = files.iter().filter_map(named).collect();
    for mode in ["escrow", "exclusive"] {
        for state in ["open", "committed", "rolled_back", "expired"] {
            assert!(names.contains(&format!("{mode}_{state}")), "no script of {mode} {state}");
        }
    }
    std::thread::scope(|scope| {
        for file in &files {
            scope.spawn(move || run_file(file));
        }
    });
}

fn run_file(file: &Path) {
    let text = std::fs::read_to_string(file).expect("a script");
    let said = run_text(&text);
    if std::env::var_os("UPDATE_SCRIPTS").is_some() {
        return std::fs::write(file, said).expect("written");
    }
    let line = text.lines().zip(said.lines()).take_while(|(old, new)| old == new).count();
    let place = format!("{}:{}", file.display(), line + 1);
    assert!(text == said, "{place}: expected\n\n{text}\n\nbut it says\n\n{said}");
}

/// The script with what is said now in place of what is expected.
fn run_text(text: &str) -> String {
    let mut life = Life::start();
    let mut sections = Vec::new();
    for section in text.trim_end().split("\n\n") {
        let (commands, expected) = section.split_once("\n---").unwrap_or((section, ""));
        let mut said = format!("{commands}\n---\n");
        for command in commands.lines().filter(|line| !line.starts_with('#')) {
            for line in life.command(command, expected) {
                said += &format!("{line}\n");
            }
        }
        sections.push(said);
    }
    sections.join("\n")
}

impl Life {
    fn start() -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let server = Server::start_with(data.path(), &LIMITS);
        let mut client = server.client();
        populate(&mut client);
        Self { data, server: Some(server), client, tokens: HashMap::new(), requests: 100 }
    }

    /// Carries out one command and says what came of it.
    fn command(&mut self, line: &str, expected: &str) -> Vec<String> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["prepare", name, ref how @ ..] => vec![self.prepare(name, how)],
            ["commit" | "rollback", name] => vec![self.resolve(words[0], name)],
            ["await", name, state] => vec![self.wait_for(name, state)],
            ["show", name] => vec![self.show(name)],
            ["balances"] => vec![self.balances("alice", 1), self.balances("bob", 2)],
            ["metrics"] => self.metrics(expected),
            ["spend"] => {
                let n = self.next();
                let reply = self.client.post("/v1/swaps", &swap(n, 1, 1));
                vec![format!("spend: {}", self.outcome(&reply))]
            }
            ["receive"] => {
                let n = self.next();
                let reply = self.client.post("/v1/deposits", &deposit(n, 1, "ETH", "1"));
                vec![format!("receive: {}", self.outcome(&reply))]
            }
            ["restart"] => self.restart(),
            _ => panic!("no such command: {line}"),
        }
    }

    fn next(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    fn prepare(&mut self, name: &str, how: &[&str]) -> String {
        let n = self.next();
        self.tokens.insert(name.into(), n);
        let mut body = swap(n, 10, 200);
        let (exclusive, time) = match how {
            ["exclusive", time @ ..] => (true, time),
            time => (false, time),
        };
        body["exclusive"] = exclusive.into();
        if let ["for", ms, "ms"] = time {
            body["expires_in_ms"] = json!(ms);
        }
        let reply = self.client.post("/v1/prepared", &body);
        format!("{name}: {}", self.outcome(&reply))
    }

    fn token(&self, name: &str) -> String {
        id(self.tokens[name])
    }

    fn resolve(&mut self, how: &str, name: &str) -> String {
        let path = format!("/v1/prepared/{}/{how}", self.token(name));
        let body = json!({"request_id": id(self.next())});
        let reply = self.client.post(&path, &body);
        format!("{how} {name}: {}", self.outcome(&reply))
    }

    /// What came of a request, with the name in place of a token.
    fn outcome(&self, reply: &Reply) -> String {
        let body = reply.value();
        let word = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let name = || {
            let named = self.tokens.iter().find(|(_, n)| id(**n) == body["token"]);
            named.map_or_else(String::new, |(name, _)| format!(" ({name})"))
        };
        match (reply.status, &*word("code")) {
            (200, _) => format!("settled at {}", word("commit_seq")),
            (_, "already_resolved") => {
                format!("already_resolved{}: {} at {}", name(), word("how"), word("commit_seq"))
            }
            (_, "lock_timeout") => format!("lock_timeout{}", name()),
            (status, code) => format!("{status} {code}"),
        }
    }

    fn hold(&mut self, name: &str) -> Value {
        let path = format!("/v1/prepared/{}", self.token(name));
        self.client.get(&path).with(200)
    }

    fn show(&mut self, name: &str) -> String {
        let hold = self.hold(name);
        let word = |name: &str| hold[name].as_str().unwrap_or_default();
        let mode = if hold["exclusive"] == true { "exclusive" } else { "escrow" };
        let ended = match hold.get("commit_seq") {
            Some(_) => format!(" at {}", word("commit_seq")),
            None => String::new(),
        };
        format!("{name}: {mode} since {}, {}{ended}", word("since"), word("state"))
    }

    fn wait_for(&mut self, name: &str, state: &str) -> String {
        for _ in 0..ATTEMPTS {
            if self.hold(name)["state"] == state {
                return format!("{name}: {state}");
            }
            std::thread::yield_now();
        }
        panic!("{name} does not come to be {state}")
    }

    /// Available + held of each asset.
    fn balances(&mut self, name: &str, account: u64) -> String {
        let body = self.client.get(&format!("/v1/accounts/{account}/balances")).with(200);
        let all = body["balances"].as_array().expect("a list");
        let one = |it: &Value| {
            let word = |name: &str| it[name].as_str().expect("a string");
            format!("{} {}+{}", word("asset"), word("available"), word("held"))
        };
        format!("{name}: {}", all.iter().map(one).collect::<Vec<_>>().join(", "))
    }

    /// What the metrics say of holds. They are told a moment later than those who ask, so it is
    /// asked again while it is not what is expected.
    fn metrics(&mut self, expected: &str) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..ATTEMPTS / 10 {
            let reply = self.client.get("/metrics");
            said = metrics_of(reply.text());
            if said.iter().all(|line| expected.lines().any(|it| it == line)) {
                break;
            }
            std::thread::yield_now();
        }
        said
    }

    fn restart(&mut self) -> Vec<String> {
        self.server.take().expect("it runs").kill();
        let server = Server::start_with(self.data.path(), &LIMITS);
        self.client = server.client();
        self.server = Some(server);
        vec![]
    }
}

/// How many are open, how many were resolved how, and the requests of each kind so far.
fn metrics_of(text: &str) -> Vec<String> {
    let value = |series: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}"))
    };
    let resolved = |how: &str| {
        let series = format!("crosslatch_holds_resolved_total{{how=\"{how}\"}}");
        format!("{how} {}", value(&series))
    };
    let settled = |kind: &str| {
        let series = format!("crosslatch_requests_total{{kind=\"{kind}\",outcome=\"settled\"}}");
        format!("{kind} {}", value(&series))
    };
    let each = |of: &dyn Fn(&str) -> String, names: &[&str]| {
        names.iter().map(|name| of(name)).collect::<Vec<_>>().join(", ")
    };
    vec![
        format!("holds {}", value("crosslatch_holds")),
        format!("resolved: {}", each(&resolved, &["committed", "rolled_back", "expired"])),
        format!("settled: {}", each(&settled, &["prepare", "commit", "rollback"])),
    ]
}
