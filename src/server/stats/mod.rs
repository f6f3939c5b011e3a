//! `GET /v1/stats`: how the server does, as rates, quantiles and levels, now and over the last minutes.
//!
//! ```text
//! metrics ─► Page ─► View (what came between two looks) ─► Monitor (one a second) ─► answer
//! ```
//!
//! What Prometheus works out of counters for dashboards is worked out here for whoever has none: the
//! console, and a command. `crosslatch watch` makes the same of `/metrics` itself.

mod monitor;
mod prometheus;
mod sketch;
mod view;

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::{Clock, SystemClock};
use crate::config::STATS_EVERY_MS;
use crate::types::AccountId;

use super::extract::State;
use super::health::VERSION;
use super::json;
use super::openapi::schemas::{Seq, Timestamp};
use super::problem::Problem;
use super::query::Query;
use super::receipt::{self, rfc_3339};
use super::state::App;

pub(super) use monitor::Monitor;
pub(crate) use prometheus::Page;
pub(crate) use view::{Counted, Latency, Look, Named, Requests, View};

use monitor::{HotTold, Sample, Told};

/// How the server does.
#[derive(Serialize, ToSchema)]
#[schema(as = Stats)]
pub(super) struct StatsBody {
    /// The server's wall clock.
    #[schema(value_type = Timestamp)]
    pub(super) time: String,
    /// When the server started: it is another after a restart.
    #[schema(value_type = Timestamp)]
    pub(super) started_at: String,
    pub(super) version: &'static str,
    /// What the venue takes.
    pub(super) operation: &'static str,
    /// How long each sample is.
    pub(super) interval_ms: u64,
    /// Everything up to this is on disk.
    #[schema(value_type = Seq)]
    pub(super) durable_seq: String,
    /// Everything up to this is in the version store.
    #[schema(value_type = Seq)]
    pub(super) applied_seq: String,
    /// By kind, those that ever came.
    pub(super) requests: Vec<KindBody>,
    /// By code, those that ever were given.
    pub(super) rejects: Vec<CountBody>,
    /// By kind, those that ever were.
    pub(super) conflicts: Vec<CountBody>,
    /// Whose mailboxes there are, in the order of each sample's.
    pub(super) actors: Vec<String>,
    /// Oldest first.
    pub(super) samples: Vec<SampleBody>,
    /// `null` for a key that does not see all accounts.
    #[schema(required = true)]
    pub(super) hot_accounts: Option<HotBody>,
}

/// Requests of a kind, in the last second; quantiles where there were any.
#[derive(Serialize, ToSchema)]
#[schema(as = KindStats)]
pub(super) struct KindBody {
    pub(super) kind: String,
    pub(super) settled_per_second: f64,
    pub(super) rejected_per_second: f64,
    pub(super) failed_per_second: f64,
    #[schema(required = true)]
    pub(super) p50_ms: Option<f64>,
    #[schema(required = true)]
    pub(super) p99_ms: Option<f64>,
}

/// Something counted under a name.
#[derive(Serialize, ToSchema)]
#[schema(as = CountStats)]
pub(super) struct CountBody {
    pub(super) name: String,
    pub(super) per_second: f64,
    /// Since the server started.
    pub(super) total: u64,
}

/// One second.
#[derive(Serialize, ToSchema)]
#[schema(as = StatsSample)]
pub(super) struct SampleBody {
    /// One more for each second.
    pub(super) number: u64,
    pub(super) settled_per_second: f64,
    pub(super) rejected_per_second: f64,
    pub(super) conflicts_per_second: f64,
    /// From accepted to answered, durable; nothing where nothing was answered.
    #[schema(required = true)]
    pub(super) p50_ms: Option<f64>,
    #[schema(required = true)]
    pub(super) p99_ms: Option<f64>,
    #[schema(required = true)]
    pub(super) fsync_p99_ms: Option<f64>,
    /// Commits that are durable and not yet in the version store.
    pub(super) lag: u64,
    pub(super) in_flight: u64,
    pub(super) holds: u64,
    pub(super) open_orders: u64,
    /// Requests that wait for exclusive holds.
    pub(super) parked: u64,
    pub(super) mailboxes: Vec<u64>,
}

/// In how many of the last commits which accounts had part, of a sample: each second's last ones. Older
/// ones count less and less.
#[derive(Serialize, ToSchema)]
#[schema(as = HotAccounts)]
pub(super) struct HotBody {
    /// How many commits were counted.
    pub(super) commits: u64,
    pub(super) accounts: Vec<HotAccountBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = HotAccount)]
pub(super) struct HotAccountBody {
    pub(super) account: AccountId,
    /// At most in so many.
    pub(super) commits: u64,
    /// That may be too high by so many.
    pub(super) over: u64,
}

/// `?after=NUMBER` → how the server does, with the samples after that one.
pub(super) async fn get(State(app): State<App>, mut query: Query) -> Result<Response, Problem> {
    let after = query.optional("after", json::number_from)?.unwrap_or_default();
    query.finish()?;
    Ok(receipt::json(StatusCode::OK, &stats(&app, after)))
}

/// How the server does, with the samples after that one.
pub(super) fn stats(app: &App, after: u64) -> StatsBody {
    let sees_all = app.visitor().sees_all();
    let Told { started, view, samples, hot } = app.monitor().told(after);
    let status = app.engine().status();
    let view = view.as_ref();
    let counted = |all: &[Named]| all.iter().map(CountBody::new).collect();
    StatsBody {
        time: rfc_3339(SystemClock.wall()),
        started_at: rfc_3339(started),
        version: VERSION,
        operation: app.engine().directory().operation().name(),
        interval_ms: STATS_EVERY_MS,
        durable_seq: status.durable_seq.to_string(),
        applied_seq: status.applied_seq.to_string(),
        requests: view.iter().flat_map(|it| &it.requests).map(KindBody::new).collect(),
        rejects: view.map(|it| counted(&it.rejects)).unwrap_or_default(),
        conflicts: view.map(|it| counted(&it.conflicts)).unwrap_or_default(),
        actors: view.iter().flat_map(|it| &it.mailboxes).map(|it| it.actor.clone()).collect(),
        samples: samples.into_iter().map(SampleBody::new).collect(),
        hot_accounts: sees_all.then(|| HotBody::new(hot)),
    }
}

impl KindBody {
    fn new(requests: &Requests) -> Self {
        let Requests { kind, settled, rejected, failed, latency } = requests;
        Self {
            kind: kind.clone(),
            settled_per_second: settled.per_second.unwrap_or_default(),
            rejected_per_second: rejected.per_second.unwrap_or_default(),
            failed_per_second: failed.per_second.unwrap_or_default(),
            p50_ms: latency.p50_ms,
            p99_ms: latency.p99_ms,
        }
    }
}

impl CountBody {
    fn new(named: &Named) -> Self {
        let Counted { total, per_second } = named.counted;
        let per_second = per_second.unwrap_or_default();
        Self { name: named.name.clone(), per_second, total }
    }
}

impl SampleBody {
    fn new(sample: Sample) -> Self {
        Self {
            number: sample.number,
            settled_per_second: sample.settled,
            rejected_per_second: sample.rejected,
            conflicts_per_second: sample.conflicts,
            p50_ms: sample.latency.p50_ms,
            p99_ms: sample.latency.p99_ms,
            fsync_p99_ms: sample.fsync.p99_ms,
            lag: sample.lag,
            in_flight: sample.in_flight,
            holds: sample.holds,
            open_orders: sample.open_orders,
            parked: sample.parked,
            mailboxes: sample.mailboxes,
        }
    }
}

impl HotBody {
    fn new(HotTold { commits, accounts }: HotTold) -> Self {
        let accounts = accounts.into_iter().map(|(account, count)| HotAccountBody {
            account,
            commits: count.count,
            over: count.over,
        });
        Self { commits, accounts: accounts.collect() }
    }
}
