//! Calls that watch: what expires next, how the server does.

use crate::engine::ExpiringHolds;
use crate::proto;
use crate::request::{Hold, Purpose};
use crate::server::prepared::{LIMIT, LIMIT_MAX, expiring};
use crate::server::problem::Problem;
use crate::server::state::App;
use crate::server::stats::{self, CountBody, HotBody, KindBody, SampleBody};
use crate::types::AccountId;

use super::reads::{legs, limited};
use super::receipt::token_bytes;

type Told<T> = Result<T, Problem>;

pub(super) async fn prepared(
    app: App,
    ask: proto::ListPreparedRequest,
) -> Told<proto::PreparedList> {
    let limit = limited("limit", ask.limit, LIMIT as u64, LIMIT_MAX)?;
    let account = ask.account.map(AccountId::new);
    let ExpiringHolds { seq, now, holds, is_all } = expiring(&app, account, limit).await?;
    Ok(proto::PreparedList {
        seq: seq.get(),
        time_us: now.get(),
        complete: is_all,
        prepared: holds.iter().filter_map(|hold| open(hold, &app)).collect(),
    })
}

fn open(hold: &Hold, app: &App) -> Option<proto::Prepared> {
    let Purpose::Swap(swap) = &hold.purpose else { return None };
    Some(proto::Prepared {
        token: token_bytes(hold.token),
        state: "open".into(),
        legs: legs(swap, app),
        exclusive: hold.exclusive,
        expires_at_us: hold.expires_at.get(),
        since: hold.since.get(),
        ..proto::Prepared::default()
    })
}

pub(super) async fn stats(app: App, ask: proto::GetStatsRequest) -> Told<proto::Stats> {
    let told = stats::stats(&app, ask.after);
    let status = app.engine().status();
    Ok(proto::Stats {
        time: told.time,
        started_at: told.started_at,
        version: told.version.into(),
        operation: told.operation.into(),
        interval_ms: told.interval_ms,
        durable_seq: status.durable_seq.get(),
        applied_seq: status.applied_seq.get(),
        requests: told.requests.into_iter().map(kind).collect(),
        rejects: told.rejects.into_iter().map(counted).collect(),
        conflicts: told.conflicts.into_iter().map(counted).collect(),
        actors: told.actors,
        samples: told.samples.into_iter().map(sample).collect(),
        hot_accounts: told.hot_accounts.map(hot),
    })
}

fn kind(it: KindBody) -> proto::KindStats {
    proto::KindStats {
        kind: it.kind,
        settled_per_second: it.settled_per_second,
        rejected_per_second: it.rejected_per_second,
        failed_per_second: it.failed_per_second,
        p50_ms: it.p50_ms,
        p99_ms: it.p99_ms,
    }
}

fn counted(it: CountBody) -> proto::CountStats {
    proto::CountStats { name: it.name, per_second: it.per_second, total: it.total }
}

fn sample(it: SampleBody) -> proto::StatsSample {
    proto::StatsSample {
        number: it.number,
        settled_per_second: it.settled_per_second,
        rejected_per_second: it.rejected_per_second,
        conflicts_per_second: it.conflicts_per_second,
        p50_ms: it.p50_ms,
        p99_ms: it.p99_ms,
        fsync_p99_ms: it.fsync_p99_ms,
        lag: it.lag,
        in_flight: it.in_flight,
        holds: it.holds,
        open_orders: it.open_orders,
        parked: it.parked,
        mailboxes: it.mailboxes,
    }
}

fn hot(it: HotBody) -> proto::HotAccounts {
    let accounts = it.accounts.into_iter().map(|one| proto::HotAccount {
        account: one.account.get(),
        commits: one.commits,
        over: one.over,
    });
    proto::HotAccounts { commits: it.commits, accounts: accounts.collect() }
}
