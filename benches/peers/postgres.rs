//! PostgreSQL on its own data directory and Unix socket, asked by its own pgbench.
//!
//! The swap is a plpgsql function that locks its rows in the order of keys (see `postgres.sql`);
//! pgbench calls it as a prepared statement. Every commit is synced; memory and the room for
//! write-ahead log are so ample that no read and no checkpoint slows it.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::guard::{self, Killed};
use crate::host;
use crate::report::Bout;
use crate::work::{AMOUNT_MAX, ASSETS, BATCH, Callers, Class, FUNDS, Latency, Run, Workload};

/// What the report calls it.
pub const NAME: &str = "PostgreSQL";

const SCHEMA: &str = include_str!("postgres.sql");
const TOOLS: [&str; 4] = ["initdb", "postgres", "psql", "pgbench"];
const ONE_SWAP: &str = "\
\\set a random(1, :accounts)
\\set step random(1, :accounts - 1)
\\set b 1 + (:a - 1 + :step) % :accounts
\\set x random(1, 2)
\\set gives random(1, :amount_max)
\\set takes random(1, :amount_max)
SELECT swap(:a, :b, :x, :gives, 3 - :x, :takes);
";
const MANY_SWAPS: &str = "\
\\set seed random(0, 1000000)
SELECT swap_many(:accounts, :amount_max, :swaps, :seed / 1000000.0);
";

/// How many clients help its batches.
#[derive(Default)]
pub struct Postgres {
    batched: Callers,
}

impl Postgres {
    /// Measures all classes on a fresh cluster, which is stopped and removed afterwards.
    ///
    /// # Errors
    /// It is not installed, cannot be started, or a signal came.
    pub fn round(&mut self, bout: &mut Bout<'_>) -> Result<()> {
        let bin = installed().context("not installed; as root: scripts/setup.sh peers")?;
        let directory = bout.directory("postgres")?;
        let cluster = Cluster::start(&bin, directory.path())?;
        let system = format!("{NAME} {}", cluster.version()?);
        cluster.fill(bout.workload)?;
        let bench = Bench { cluster: &cluster, workload: bout.workload };
        let trial = bout.workload.trial_time();
        let clients = self.batched.best_of(&[1, 2, 8, 32], |clients| {
            Ok(bench.pgbench(MANY_SWAPS, BATCH, clients, trial)?.swaps_per_second)
        })?;
        let mut run = |class, how, script, swaps, clients| {
            bout.run(class, &system, how, || bench.run(script, swaps, clients))
        };
        run(Class::Batched, "1,000 a transaction", MANY_SWAPS, BATCH, clients)?;
        run(Class::OneAtATime, "", ONE_SWAP, 1, 1)?;
        run(Class::ManyCallers, "8 clients", ONE_SWAP, 1, 8)?;
        run(Class::ManyCallers, "32 clients", ONE_SWAP, 1, 32)
    }
}

struct Bench<'a> {
    cluster: &'a Cluster,
    workload: &'a Workload,
}

impl Bench<'_> {
    fn run(&self, script: &str, swaps: usize, clients: usize) -> Result<Run> {
        let run = self.pgbench(script, swaps, clients, self.workload.time())?;
        Ok(Run { verified: Some(self.cluster.conserved(self.workload)?), ..run })
    }

    fn pgbench(&self, script: &str, swaps: usize, clients: usize, time: Duration) -> Result<Run> {
        let Cluster { scratch, .. } = self.cluster;
        let file = scratch.join("script.sql");
        fs::write(&file, script)?;
        let logs = scratch.join("transactions");
        let mut pgbench = self.cluster.client("pgbench");
        pgbench.args(["--no-vacuum", "--protocol=prepared", "--log", "--jobs=2"]);
        pgbench.arg(format!("--random-seed={}", self.workload.seed));
        pgbench.arg(format!("--client={clients}")).arg(format!("--time={}", time.as_secs()));
        pgbench.arg(format!("--define=accounts={}", self.workload.accounts));
        pgbench.arg(format!("--define=amount_max={AMOUNT_MAX}"));
        pgbench.arg(format!("--define=swaps={swaps}"));
        pgbench.arg(prefixed("--log-prefix=", &logs)).arg(prefixed("--file=", &file));
        let report = guard::run(&mut pgbench, scratch, time + Duration::from_secs(60))?;
        let failed = number_after(&report, "number of failed transactions: ");
        ensure!(failed == Some(0.0), "pgbench counts failed transactions: {failed:?}");
        let rate = number_after(&report, "tps = ").context("pgbench names no tps")?;
        Ok(Run {
            swaps_per_second: rate * swaps as f64,
            latency: Some(latency(scratch, "transactions.")?),
            callers: clients,
            verified: None,
            note: String::new(),
        })
    }
}

/// Reads and removes pgbench's logs: one line a transaction, the third field its microseconds.
fn latency(scratch: &Path, prefix: &str) -> Result<Latency> {
    let mut nanos = Histogram::<u64>::new(3)?;
    for entry in fs::read_dir(scratch)? {
        let path = entry?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)) {
            continue;
        }
        for line in fs::read_to_string(&path)?.lines() {
            let micros = line.split(' ').nth(2).and_then(|field| field.parse::<u64>().ok());
            nanos.record(micros.context("a line of pgbench's log")? * 1_000)?;
        }
        fs::remove_file(path)?;
    }
    Ok(host::latency(&nanos))
}

fn number_after(text: &str, label: &str) -> Option<f64> {
    let (_, rest) = text.split_once(label)?;
    rest.split_whitespace().next()?.parse().ok()
}

fn prefixed(option: &str, path: &Path) -> std::ffi::OsString {
    [OsStr::new(option), path.as_os_str()].into_iter().collect()
}

/// The directory of the newest installation that has all that is needed.
fn installed() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<PathBuf> = versions.map(|version| version.path()).collect();
    let number = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_string_lossy().parse::<u32>().ok()).unwrap_or(0)
    };
    debian.sort_by_key(|path| std::cmp::Reverse(number(path)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places =
        debian.into_iter().map(|path| path.join("bin")).chain(std::env::split_paths(&path));
    places.find(|place| TOOLS.iter().all(|tool| place.join(tool).is_file()))
}

/// A server with a data directory and a socket of its own, stopped when dropped.
struct Cluster {
    bin: PathBuf,
    scratch: PathBuf,
    /// Somewhere with a short path, as a socket's has 107 bytes at most.
    socket: TempDir,
    user: Option<User>,
    server: Option<Killed>,
}

impl Cluster {
    fn start(bin: &Path, scratch: &Path) -> Result<Self> {
        let user = User::to_become(scratch)?;
        let permissions = Permissions::from_mode(0o755);
        let socket = tempfile::Builder::new().permissions(permissions).prefix("pg").tempdir()?;
        if let Some(user) = &user {
            chown(scratch, Some(user.uid), Some(user.gid))?;
            chown(socket.path(), Some(user.uid), Some(user.gid))?;
        }
        let mut cluster =
            Self { bin: bin.into(), scratch: scratch.into(), socket, user, server: None };
        let mut initdb = cluster.command("initdb", true);
        initdb.args(["--auth=trust", "--username=peers", "--encoding=UTF8", "--locale=C"]);
        initdb.arg("--pgdata").arg(cluster.data());
        guard::run(&mut initdb, scratch, Duration::from_secs(120))?;
        cluster.serve()?;
        Ok(cluster)
    }

    fn data(&self) -> PathBuf {
        self.scratch.join("data")
    }

    fn serve(&mut self) -> Result<()> {
        let log = self.scratch.join("server.log");
        let mut command = self.command("postgres", true);
        command.arg("-D").arg(self.data()).arg("-k").arg(self.socket.path());
        for setting in [
            "listen_addresses=",
            "port=5432",
            "fsync=on",
            "synchronous_commit=on",
            "full_page_writes=on",
            "shared_buffers=512MB",
            "max_wal_size=8GB",
            "checkpoint_timeout=30min",
            "jit=off",
        ] {
            command.arg("-c").arg(setting);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        self.server = Some(Killed(command.spawn().context("cannot start postgres")?));
        for _ in 0..100 {
            guard::pause(Duration::from_millis(100))?;
            if self.query("SELECT 1").is_ok() {
                return Ok(());
            }
        }
        bail!("postgres does not answer; its log ends with: {}", guard::last_words(&log));
    }

    fn version(&self) -> Result<String> {
        let version = self.query("SHOW server_version")?;
        Ok(version.split_whitespace().next().unwrap_or_default().to_owned())
    }

    fn fill(&self, workload: &Workload) -> Result<()> {
        self.query(SCHEMA)?;
        let accounts = workload.accounts;
        self.query(&format!(
            "INSERT INTO balances SELECT account, asset, {FUNDS} \
             FROM generate_series(1, {accounts}) AS account, generate_series(1, {ASSETS}) AS asset \
             ORDER BY account, asset"
        ))?;
        self.query("VACUUM ANALYZE balances")?;
        self.query("CHECKPOINT")?;
        ensure!(self.conserved(workload)?, "it does not hold what it was filled with");
        Ok(())
    }

    /// Whether each asset still adds up to what was put in, over all rows.
    fn conserved(&self, workload: &Workload) -> Result<bool> {
        let sums = self.query("SELECT sum(available) FROM balances GROUP BY asset")?;
        let expected = (u128::from(workload.accounts) * u128::from(FUNDS)).to_string();
        let sums: Vec<&str> = sums.lines().collect();
        Ok(sums.len() == ASSETS as usize && sums.iter().all(|sum| *sum == expected))
    }

    fn query(&self, sql: &str) -> Result<String> {
        let mut psql = self.client("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        guard::run(&mut psql, &self.scratch, Duration::from_secs(300))
    }

    fn client(&self, tool: &str) -> Command {
        let mut command = self.command(tool, false);
        command.arg("-h").arg(self.socket.path()).args(["-p", "5432", "-U", "peers"]);
        if tool == "psql" {
            command.args(["-d", "postgres"]);
        } else {
            command.env("PGDATABASE", "postgres");
        }
        command
    }

    /// A tool without the caller's settings; the server's own run as the user who may.
    fn command(&self, tool: &str, as_server: bool) -> Command {
        let mut command = Command::new(self.bin.join(tool));
        command.env_clear().env("LC_ALL", "C").current_dir(&self.scratch);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        if let Some(user) = self.user.as_ref().filter(|_| as_server) {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }
}

impl Drop for Cluster {
    /// SIGINT ends it at once and in order; whatever is left after that is killed.
    fn drop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let asked = kill_process(Pid::from_child(&server.0), Signal::INT);
        for _ in 0..100 {
            let ended = !matches!(server.0.try_wait(), Ok(None));
            if asked.is_err() || ended {
                return;
            }
            // Not `guard::pause`, which after a signal does not wait.
            crossbeam::channel::after(Duration::from_millis(100)).recv().ok();
        }
    }
}

/// Whom the server runs as when root starts it, which it refuses to be.
struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// `None` if this process is not root's. `scratch` must be within that user's reach.
    fn to_become(scratch: &Path) -> Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        for place in scratch.ancestors() {
            let mode = fs::metadata(place)?.permissions().mode();
            ensure!(
                mode & 0o001 != 0,
                "{} bars other users, and PostgreSQL does not run as root; \
                 set CARGO_TARGET_DIR to a directory that it can reach",
                place.display()
            );
        }
        let users = fs::read_to_string("/etc/passwd")?;
        let user = ["postgres", "nobody"].iter().find_map(|name| Self::named(&users, name));
        Ok(Some(user.context("there is neither a user postgres nor nobody to run it as")?))
    }

    fn named(users: &str, name: &str) -> Option<Self> {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(str::parse);
        Some(Self { uid: ids.next()?.ok()?, gid: ids.next()?.ok()? })
    }
}
