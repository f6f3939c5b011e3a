//! Calls that only look: assets, accounts, balances, holds, keys, outcomes, the server itself.

use crate::address::{Address, Link};
use crate::engine::Known;
use crate::error::{Malformed, Reject};
use crate::message::BalanceNow;
use crate::proto;
use crate::proto::request_state::Known as Shown;
use crate::request::{Command, Outcome, Purpose, Swap, Transfer};
use crate::server::accounts::unknown_account;
use crate::server::health::{NAME, VERSION};
use crate::server::holds::{self, Found};
use crate::server::names::Names;
use crate::server::problem::Problem;
use crate::server::reads::of_account;
use crate::server::receipt::asset_name;
use crate::server::state::{App, blocking};
use crate::server::{backups, history, sight};
use crate::store::history::HistoryEntry;
use crate::types::{
    AccountId, Amount, AssetId, ChainId, CommitSeq, Key, RequestId, Resolution, Time, Token,
};

use super::receipt::{asset_now, linked, settled, token_bytes};
use super::{problem, words};
use crate::config::KEY_BYTES_MAX;

type Told<T> = Result<T, Problem>;

pub(super) async fn asset(app: App, ask: proto::GetAssetRequest) -> Told<proto::Asset> {
    let directory = app.engine().directory();
    let found = directory.asset_by_name(&ask.asset);
    let found = found.and_then(|number| Some((number, directory.asset(number)?)));
    app.engine().directory_durable().await?;
    let unknown = || Problem::unknown_asset(&ask.asset).at("asset");
    found.map(|(number, spec)| asset_now(number, spec)).ok_or_else(unknown)
}

pub(super) async fn assets(app: App, _: proto::ListAssetsRequest) -> Told<proto::Assets> {
    let assets = app.engine().directory().assets();
    app.engine().directory_durable().await?;
    let shown = (0..).map(AssetId::new).zip(assets);
    let shown = shown.map(|(number, spec)| asset_now(number, spec));
    Ok(proto::Assets { assets: shown.collect() })
}

pub(super) async fn account(app: App, ask: proto::GetAccountRequest) -> Told<proto::Account> {
    let account = AccountId::new(ask.account);
    sight::check(app.visitor(), account)?;
    let links = app.engine().directory().links(account);
    app.engine().directory_durable().await?;
    Ok(linked(account, links.ok_or_else(|| unknown_account(account))?))
}

pub(super) async fn link(app: App, ask: proto::GetLinkRequest) -> Told<proto::LinkedAccount> {
    let chain = ChainId::new(ask.chain_id);
    let directory = app.engine().directory();
    let kind = directory
        .chain_kind(chain)
        .ok_or_else(|| Problem::reject(&Reject::UnknownChain(chain), None).at("chain_id"))?;
    let address =
        Address::parse(kind, &ask.address).map_err(|why| Problem::malformed("address", why))?;
    let link = Link { chain, address };
    let found = directory.account_by_link(&link);
    app.engine().directory_durable().await?;
    let address = link.address.as_str();
    let found = found.filter(|account| app.visitor().may_see(*account));
    let account = found.ok_or_else(|| {
        Problem::new("unknown_link", format!("no account is linked to {address} there"))
    })?;
    let now = app.engine().balances(account).await?;
    let here = now.balances.iter().filter(|it| directory.chain(it.asset) == Some(chain));
    Ok(proto::LinkedAccount {
        account: account.get(),
        chain_id: ask.chain_id,
        chain_kind: words::show_chain_kind(kind),
        address: address.into(),
        seq: now.seq.get(),
        balances: here.map(|now| balance(now, &app)).collect(),
    })
}

fn balance(now: &BalanceNow, app: &App) -> proto::Balance {
    proto::Balance {
        asset: asset_name(now.asset, app.engine().directory()).into(),
        available: Some(now.balance.available.into()),
        held: Some(now.balance.held.into()),
        version: now.version.get(),
        asset_number: now.asset.get(),
    }
}

pub(super) async fn balances(app: App, ask: proto::GetBalancesRequest) -> Told<proto::Balances> {
    use proto::get_balances_request::At;
    let account = AccountId::new(ask.account);
    sight::check(app.visitor(), account)?;
    let engine = app.engine().clone();
    let read = match ask.at {
        None => engine.balances(account).await,
        Some(At::AtSeq(at)) => {
            blocking(move || engine.balances_at(account, CommitSeq::new(at))).await?
        }
        Some(At::AtTimeUs(time)) => {
            let time = Time::new(time);
            let read = move || engine.seq_at(time).and_then(|at| engine.balances_at(account, at));
            blocking(read).await?
        }
    };
    let snapshot = read.map_err(of_account)?;
    Ok(proto::Balances {
        account: ask.account,
        seq: snapshot.seq.get(),
        balances: snapshot.balances.iter().map(|now| balance(now, &app)).collect(),
    })
}

pub(super) async fn changes(app: App, ask: proto::GetHistoryRequest) -> Told<proto::History> {
    let account = AccountId::new(ask.account);
    sight::check(app.visitor(), account)?;
    let limit = limited("limit", ask.limit, history::LIMIT, history::LIMIT_MAX)?;
    let directory = app.engine().directory();
    let of = |name: &str| {
        directory.asset_by_name(name).ok_or_else(|| Problem::unknown_asset(name).at("asset"))
    };
    let asset = Some(&*ask.asset).filter(|name| !name.is_empty()).map(of).transpose()?;
    let after = ask.after.map(CommitSeq::new);
    let (changes, next) = history::page(&app, account, asset, after, limit).await?;
    let shown = changes.iter().map(|it| change(it, &app)).collect();
    Ok(proto::History { account: ask.account, changes: shown, next: next.map(CommitSeq::get) })
}

fn change(entry: &HistoryEntry, app: &App) -> proto::Change {
    let amount = |amount: Amount| Some(amount.into());
    proto::Change {
        seq: entry.seq.get(),
        time_us: entry.time.get(),
        asset: asset_name(entry.asset, app.engine().directory()).into(),
        available: amount(entry.after.available),
        held: amount(entry.after.held),
        available_before: amount(entry.before.available),
        held_before: amount(entry.before.held),
        request_id: proto::id_bytes(entry.request_id),
        kind: entry.kind.into(),
        token: entry.token.map(token_bytes).unwrap_or_default(),
    }
}

/// A number from 1 to that, or what counts where none is given.
pub(super) fn limited(
    field: &str,
    asked: Option<u32>,
    default: u64,
    max: u64,
) -> Result<usize, Malformed> {
    match asked.map_or(default, u64::from) {
        number if (1..=max).contains(&number) => Ok(number as usize),
        number => Err(Malformed::new(field, format!("is {number}; give 1 to {max}"))),
    }
}

/// An id that names something.
///
/// # Errors
/// It has not 16 bytes.
pub(super) fn id(field: &str, bytes: &[u8]) -> Result<RequestId, Problem> {
    proto::id_of(bytes).map_err(|why| Problem::malformed(field, why))
}

pub(super) async fn prepared(app: App, ask: proto::GetHoldRequest) -> Told<proto::Prepared> {
    let token = Token::of(id("token", &ask.token)?);
    let (swap, shown) = match holds::find_token(&app, "token", token).await? {
        Found::Open(hold) => {
            let Purpose::Swap(swap) = hold.purpose else {
                return Err(holds::unknown(token, "token"));
            };
            let shown = proto::Prepared {
                state: "open".into(),
                exclusive: hold.exclusive,
                expires_at_us: hold.expires_at.get(),
                since: hold.since.get(),
                ..proto::Prepared::default()
            };
            (swap, shown)
        }
        Found::Ended { how, made, ended } => {
            let (Command::Prepare(prepare), Some(hold)) = (made.command, made.hold) else {
                return Err(holds::unknown(token, "token"));
            };
            let shown = proto::Prepared {
                state: how.name().into(),
                exclusive: prepare.exclusive,
                expires_at_us: hold.expires_at.get(),
                since: made.commit_seq.get(),
                commit_seq: Some(ended.commit_seq.get()),
                time_us: Some(ended.time.get()),
                ..proto::Prepared::default()
            };
            (prepare.swap, shown)
        }
    };
    Ok(proto::Prepared { token: token_bytes(token), legs: legs(&swap, &app), ..shown })
}

pub(super) fn legs(swap: &Swap, app: &App) -> Vec<proto::Leg> {
    let shown = swap.legs().iter().map(|leg| proto::Leg {
        from_account: leg.from.get(),
        to_account: leg.to.get(),
        asset: asset_name(leg.asset, app.engine().directory()).into(),
        asset_number: None,
        amount: Some(leg.amount.into()),
    });
    shown.collect()
}

pub(super) async fn withdrawal(app: App, ask: proto::GetHoldRequest) -> Told<proto::Withdrawal> {
    let token = Token::of(id("token", &ask.token)?);
    let unknown = || holds::unknown(token, "token");
    let found = holds::find_token(&app, "token", token).await?;
    let (transfer, since, state, ended): (Transfer, _, _, _) = match found {
        Found::Open(hold) => match hold.purpose {
            Purpose::Withdrawal(transfer) => (transfer, hold.since, "open", None),
            Purpose::Swap(_) => return Err(unknown()),
        },
        Found::Ended { how, made, ended } => {
            let Command::Withdraw(transfer) = made.command else { return Err(unknown()) };
            let state = if how == Resolution::Committed { "confirmed" } else { "canceled" };
            (transfer, made.commit_seq, state, Some((ended.commit_seq, ended.time)))
        }
    };
    Ok(proto::Withdrawal {
        token: token_bytes(token),
        state: state.into(),
        account: transfer.account.get(),
        asset: asset_name(transfer.asset, app.engine().directory()).into(),
        amount: Some(transfer.amount.into()),
        reference: transfer.reference.into(),
        since: since.get(),
        commit_seq: ended.map(|(seq, _)| seq.get()),
        time_us: ended.map(|(_, time)| time.get()),
    })
}

pub(super) async fn key(app: App, ask: proto::GetKeyRequest) -> Told<proto::KeyValue> {
    let length = ask.key.len();
    if !(1..=KEY_BYTES_MAX).contains(&length) {
        let why = format!("has {length} bytes; a key has 1 to {KEY_BYTES_MAX}");
        return Err(Problem::malformed("key", why));
    }
    let (key, at) = (Key::new(&*ask.key), ask.at.map(CommitSeq::new));
    let found = blocking(move || app.engine().record(&key, at)).await??;
    let (value, version) = found.map_or_else(Default::default, |it| (it.value, it.seq));
    let value = value.map(|value| prost::bytes::Bytes::copy_from_slice(&value));
    Ok(proto::KeyValue { value, version: version.get() })
}

pub(super) async fn request(app: App, ask: proto::GetRequestRequest) -> Told<proto::RequestState> {
    let id = id("request_id", &ask.request_id)?;
    let engine = app.engine().clone();
    let known = match blocking(move || engine.known(id)).await?? {
        Known::Outcome(outcome) if sight::sees_outcome(app.visitor(), &outcome) => {
            shown(outcome, &app)
        }
        Known::Pending => Shown::Pending(true),
        Known::Outcome(_) | Known::Unknown => {
            let why = "no request was seen under this id";
            return Err(Problem::new("unknown_request", why).of(id));
        }
    };
    Ok(proto::RequestState { known: Some(known) })
}

fn shown(outcome: Outcome, app: &App) -> Shown {
    match settled(outcome, &Names::default(), app.engine().directory()) {
        Ok(receipt) => Shown::Settled(receipt),
        Err(refused) => Shown::Refused(problem::shown(&refused)),
    }
}

pub(super) async fn audit(app: App, _: proto::AuditRequest) -> Told<proto::AuditReport> {
    let audit = app.engine().audit().await?;
    let directory = app.engine().directory();
    let assets = audit.assets.iter().map(|found| proto::AssetAudit {
        asset: asset_name(found.asset, directory).into(),
        supply: Some(found.supply.into()),
        balances: Some(found.balances.into()),
        balanced: found.supply == found.balances,
    });
    Ok(proto::AuditReport {
        seq: audit.seq.get(),
        balanced: audit.is_conserved(),
        balances: audit.balances,
        assets: assets.collect(),
    })
}

pub(super) async fn backup(app: App, ask: proto::BackupRequest) -> Told<proto::BackupState> {
    let to = ask.to.clone();
    Ok(match backups::make(&app, ask.to.into()).await? {
        None => proto::BackupState { status: "pending".into(), to, ..Default::default() },
        Some(report) => proto::BackupState {
            status: "done".into(),
            to,
            seq: Some(report.end.seq.get()),
            block: Some(report.end.block.get()),
            bytes: Some(report.bytes),
        },
    })
}

pub(super) async fn operation(
    app: App,
    _: proto::GetOperationRequest,
) -> Told<proto::OperationState> {
    let state = app.engine().directory().operation().name().into();
    app.engine().directory_durable().await?;
    Ok(proto::OperationState { state })
}

pub(super) async fn status(app: App, _: proto::GetStatusRequest) -> Told<proto::ServerStatus> {
    let status = app.engine().status();
    Ok(proto::ServerStatus {
        name: NAME.into(),
        version: VERSION.into(),
        ready: app.engine().stopped().is_none() && !app.is_stopping(),
        durable_seq: status.durable_seq.get(),
        applied_seq: status.applied_seq.get(),
        in_flight: status.in_flight as u64,
    })
}

pub(super) async fn metrics(app: App, _: proto::GetMetricsRequest) -> Told<proto::Metrics> {
    let exporter = app.exporter().clone();
    Ok(proto::Metrics { text: blocking(move || exporter.render()).await? })
}
