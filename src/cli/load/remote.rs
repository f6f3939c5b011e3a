//! A load on a server: it is set up, loaded and audited over the face that its address names.
//!
//! ```text
//! set up ─► audit ─► clients send ─► last answer ─► drained ─► audit ─► report
//! ```
//!
//! What only the server can know of itself (stages, syncs, its CPU) is in its own metrics, which are read
//! before and after. With tight funds the claims of a sample of refusals are read back as of their seqs.

use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::clock::{Clock, SystemClock};
use crate::config::BATCH_REQUESTS_MAX;
use crate::metrics;
use crate::proto;
use crate::request::{Command, Request};
use crate::types::{Amount, RequestId};

use super::alarm::Alarm;
use super::args::{Funds, LoadArgs};
use super::cpu::CpuTimes;
use super::environment::Environment;
use super::http::HttpCaller;
use super::progress::Progress;
use super::reach::{Reach, Url};
use super::reading::Reading;
use super::refusals::{self, RefusalsChecked};
use super::report::{Measured, Report};
use super::runner::{Load, Ran};
use super::series::Series;
use super::setup;
use super::sidecar::Sidecar;
use super::tally::{RefusedSwap, Sample};
use super::target::{Line, Pool, Reply, Target};
use super::verify::Verdict;
use super::workload::Workload;

/// Connections over which accounts are set up one by one, over HTTP.
const SETUP_CALLERS: usize = 32;
/// How often a server is asked whether its version store has caught up.
const DRAIN_ASKS_MAX: usize = 100_000;

/// Runs a load on a server and reports it.
///
/// # Errors
/// The server is not reached, refuses the set-up, or is gone before the end.
pub(super) fn load(args: &LoadArgs, reach: &Reach) -> anyhow::Result<Report> {
    let exporter = metrics::install()?;
    let stop = Arc::new(Alarm::new());
    let (_sidecar, listens_on) = Sidecar::start(Arc::clone(&stop), exporter.clone(), args.metrics)?;
    if let Some(address) = listens_on {
        eprintln!("metrics at http://{address}/metrics");
    }
    let environment = Environment::of(&std::env::current_dir()?);
    let workload = Workload::new(args);
    let server = Server::new(reach.clone())?;
    eprintln!("setting up {} accounts on the server, seed {}", args.accounts, args.seed);
    server.set_up(args, &workload, &stop)?;
    let before = server.audit()?;
    let metrics_before = server.metrics()?;
    let (cpu_before, began) = (CpuTimes::now(), SystemClock.boot_nanos());
    let target = Target::Server(reach.clone());
    let nothing = Reading::default();
    let progress = Progress { engine: None, exporter: &exporter, before: &nothing };
    let load = Load { args, target: &target, workload: &workload, stop: &stop };
    let mut series = Series::new();
    let mut ran = load.run(|shared, done| progress.show(shared, done, &mut series))?;
    server.drain()?;
    let drained_seconds = (SystemClock.boot_nanos() - began) as f64 / 1e9;
    let mut cpu = CpuTimes::now().since(&cpu_before);
    cpu.add("load-clients", ran.generator_cpu);
    let metrics = server.metrics()?.since(&metrics_before);
    let mut report = Report::new(Measured {
        series: series.into_samples(),
        args,
        ran: &ran,
        drained_seconds,
        metrics: &metrics,
        holds_open: metrics.sum("crosslatch_holds", "") as i64,
        cpu: &cpu,
        disk_bytes: [0.0, 0.0],
        probes: None,
        environment,
    });
    if let Some(unexpected) = &ran.tally.unexpected {
        eprintln!("refused, and should not be: {unexpected}");
    }
    if args.funds == Funds::Tight {
        eprintln!("checking refusals");
        report.add_refusals(
            server
                .refusals(std::mem::replace(&mut ran.tally.refusals, Sample::new(0, args.seed)))?,
        );
    }
    if args.verify {
        report.add_verdict(verdict(&before, &server.audit()?, &ran));
    }
    Ok(report)
}

/// What an audit of a server said.
struct Audited {
    seq: u64,
    balances: u64,
    /// By asset: its name, its supply, and the sum of its balances.
    assets: Vec<(String, Amount, Amount)>,
}

fn verdict(before: &Audited, after: &Audited, ran: &Ran) -> Verdict {
    let mut verdict = Verdict { balances_summed: after.balances, ..Verdict::default() };
    let given = after.seq - before.seq;
    let commits = ran.tally.commits;
    if given != commits {
        verdict.wrong.push(format!(
            "{commits} requests were settled, but {given} commit seqs were given (or somebody else \
             used the server)"
        ));
    }
    for (asset, supply, balances) in &after.assets {
        if supply != balances {
            verdict
                .wrong
                .push(format!("asset {asset} has a supply of {supply} but balances of {balances}"));
        }
    }
    let supplies = |audit: &Audited| -> Vec<_> {
        audit.assets.iter().map(|(asset, supply, _)| (asset.clone(), *supply)).collect()
    };
    if supplies(before) != supplies(after) {
        verdict.wrong.push("the load changed the supply of an asset".into());
    }
    verdict
}

/// A server before and after its load.
struct Server {
    reach: Reach,
    runtime: Runtime,
}

impl Server {
    fn new(reach: Reach) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { reach, runtime })
    }

    /// Assets, accounts, markets, and what accounts start with.
    fn set_up(&self, args: &LoadArgs, workload: &Workload, stop: &Alarm) -> anyhow::Result<()> {
        let phases = setup::commands(workload, args.assets());
        self.runtime.block_on(async {
            let pool = self.pool(SETUP_CALLERS).await?;
            let mut sent = 0;
            for (phase, commands) in phases.into_iter().enumerate() {
                // Assets get their numbers in the order in which they come.
                let callers = if phase > 0 && self.reach.is_http() { SETUP_CALLERS } else { 1 };
                self.send_all(&pool, commands, (&mut sent, callers), stop).await?;
            }
            anyhow::Ok(())
        })?;
        self.check_numbers(args.assets())
    }

    async fn pool(&self, callers: usize) -> anyhow::Result<Pool> {
        Pool::of(&Target::Server(self.reach.clone()), callers).await.context("no server")
    }

    /// Over HTTP many callers send one by one; over gRPC one sends batches.
    async fn send_all(
        &self,
        pool: &Pool,
        mut commands: Box<dyn Iterator<Item = Command> + '_>,
        (sent, callers): (&mut u128, usize),
        stop: &Alarm,
    ) -> anyhow::Result<()> {
        let mut lines = Vec::new();
        for number in 0..callers {
            lines.push(pool.line(number, BATCH_REQUESTS_MAX, false).await?);
        }
        while !stop.has_rung() {
            let now = SystemClock.wall().millis();
            let request = |command| {
                *sent += 1;
                Request::new(RequestId::v7(now, *sent), command)
            };
            let requests: Vec<_> =
                commands.by_ref().take(BATCH_REQUESTS_MAX).map(request).collect();
            if requests.is_empty() {
                return Ok(());
            }
            let mut running = JoinSet::new();
            for part in requests.chunks(requests.len().div_ceil(callers)) {
                let line = lines.pop().expect("there are no more parts than lines");
                running.spawn(settle(line, part.to_vec()));
            }
            while let Some(done) = running.join_next().await {
                lines.push(done??);
            }
        }
        Ok(())
    }

    /// The load's assets go by the numbers that it gave them.
    fn check_numbers(&self, assets: u32) -> anyhow::Result<()> {
        let audited = self.audit()?;
        let names = audited.assets.iter().map(|(name, ..)| name.as_str());
        let are_ours = names.take(assets as usize).eq((0..assets).map(|n| format!("A{n}")));
        if are_ours { Ok(()) } else { bail!("the server has assets of its own; start a fresh one") }
    }

    fn audit(&self) -> anyhow::Result<Audited> {
        self.runtime.block_on(async {
            match &self.reach.url {
                Url::Grpc(_) => {
                    let mut exchange = self.pool(1).await?.exchange()?;
                    let report = exchange.audit(proto::AuditRequest {}).await?.into_inner();
                    Ok(Audited::of_message(report))
                }
                Url::Http(_) => {
                    let mut caller = HttpCaller::connect(&self.reach).await?;
                    Audited::of_json(caller.get("/v1/audit").await?)
                }
            }
        })
    }

    /// What the server says of itself.
    fn metrics(&self) -> anyhow::Result<Reading> {
        self.runtime.block_on(async {
            if self.reach.is_http() {
                let mut caller = HttpCaller::connect(&self.reach).await?;
                return Ok(Reading::parse(caller.get("/metrics").await?));
            }
            let mut exchange = self.pool(1).await?.exchange()?;
            let metrics = exchange.get_metrics(proto::GetMetricsRequest {}).await?.into_inner();
            Ok(Reading::parse(&metrics.text))
        })
    }

    /// Whether what refusals for lack of funds claimed was so, as of the seq that they named.
    fn refusals(&self, sample: Sample<RefusedSwap>) -> anyhow::Result<RefusalsChecked> {
        self.runtime.block_on(async {
            let mut line = self.pool(1).await?.line(0, 1, true).await?;
            let mut checking = refusals::Checking::new(sample);
            while let Some(claim) = checking.next() {
                let (_, then) = line.balances_at(claim.account, claim.seq).await?;
                let of_asset = then.iter().find(|(asset, ..)| *asset == claim.asset);
                checking.count(&claim, of_asset.map_or(Amount::ZERO, |it| it.1.available));
            }
            Ok(checking.found())
        })
    }

    /// Waits until everything that is durable now is in the version store; over HTTP, nobody says.
    fn drain(&self) -> anyhow::Result<()> {
        if self.reach.is_http() {
            return Ok(());
        }
        self.runtime.block_on(async {
            let mut exchange = self.pool(1).await?.exchange()?;
            let mut status = async || exchange.get_status(proto::GetStatusRequest {}).await;
            let durable = status().await?.into_inner().durable_seq;
            for _ in 0..DRAIN_ASKS_MAX {
                if status().await?.into_inner().applied_seq >= durable {
                    return Ok(());
                }
            }
            bail!("the server's version store does not catch up")
        })
    }
}

/// Sends them; all have to settle. Gives the line back.
async fn settle(mut line: Line, requests: Vec<Request>) -> anyhow::Result<Line> {
    let replies = line.submit(requests).await.context("setting up")?;
    for index in 0..replies.len() {
        if let Reply::Refused(code, _) = replies.reply(index) {
            bail!("cannot set up the load on this server: {code}; start a fresh one");
        }
    }
    Ok(line)
}

impl Audited {
    fn of_message(report: proto::AuditReport) -> Self {
        let units = |amount: Option<proto::Amount>| amount.unwrap_or_default().units();
        let asset = |it: proto::AssetAudit| (it.asset, units(it.supply), units(it.balances));
        Self {
            seq: report.seq,
            balances: report.balances,
            assets: report.assets.into_iter().map(asset).collect(),
        }
    }

    fn of_json(text: &str) -> anyhow::Result<Self> {
        let read: serde_json::Value = serde_json::from_str(text)?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let units = |value: &serde_json::Value| text(value).parse::<Amount>().unwrap_or_default();
        let assets = read["assets"].as_array().context("no audit")?.iter();
        let asset = |it: &serde_json::Value| {
            (text(&it["asset"]), units(&it["supply"]), units(&it["balances"]))
        };
        Ok(Self {
            seq: text(&read["seq"]).parse().context("no audit")?,
            balances: read["balances"].as_u64().unwrap_or(0),
            assets: assets.map(asset).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_faces_say_the_same_of_an_audit() {
        let json = r#"{"seq": "9", "balanced": true, "balances": 3,
            "assets": [{"asset": "A0", "supply": "18446744073709551621", "balances": "7"}]}"#;
        let of_json = Audited::of_json(json).expect("an audit");
        let amount = |units| Some(proto::Amount::of(Amount::new(units)));
        let of_message = Audited::of_message(proto::AuditReport {
            seq: 9,
            balanced: true,
            balances: 3,
            assets: vec![proto::AssetAudit {
                asset: "A0".into(),
                supply: amount((1 << 64) + 5),
                balances: amount(7),
                balanced: false,
            }],
        });
        assert_eq!((of_json.seq, of_json.balances), (of_message.seq, of_message.balances));
        assert_eq!(of_json.assets, of_message.assets);
        assert!(Audited::of_json("{}").is_err());
    }
}
