//! Calls about API keys: who may ask for what.

use crate::access::{Accounts, ApiKey, KeyLimits, Scope, Scopes};
use crate::directory::Issued;
use crate::error::Malformed;
use crate::proto;
use crate::server::api_keys::{self, Made};
use crate::server::problem::Problem;
use crate::server::state::App;
use crate::types::{AccountId, RequestId, Time};

use super::reads::id;
use super::receipt::settled;

type Told<T> = Result<T, Problem>;

pub(super) async fn create(app: App, ask: proto::CreateApiKeyRequest) -> Told<proto::ApiKeyMade> {
    let (id, key) = app.counted("key", read(ask))?;
    api_keys::create_as(app, id, key).await.map(made)
}

pub(super) async fn rotate(app: App, ask: proto::RotateApiKeyRequest) -> Told<proto::ApiKeyMade> {
    let id = app.counted("key", id("request_id", &ask.request_id))?;
    api_keys::rotate_as(app, id, ask.name).await.map(made)
}

pub(super) async fn revoke(app: App, ask: proto::RevokeApiKeyRequest) -> Told<proto::Receipt> {
    let id = app.counted("key_revoke", id("request_id", &ask.request_id))?;
    let (outcome, names) = app.outcome(api_keys::revocation(id, ask.name)).await?;
    settled(outcome, &names, app.engine().directory())
}

pub(super) async fn list(app: App, _: proto::ListApiKeysRequest) -> Told<proto::ApiKeys> {
    let keys = api_keys::all(&app).await?;
    Ok(proto::ApiKeys { keys: keys.iter().map(standing).collect() })
}

pub(super) async fn get(app: App, ask: proto::GetApiKeyRequest) -> Told<proto::ApiKey> {
    api_keys::one(&app, &ask.name).await.map(|issued| standing(&issued))
}

fn read(ask: proto::CreateApiKeyRequest) -> Told<(RequestId, ApiKey)> {
    let id = id("request_id", &ask.request_id)?;
    let told = |malformed| Problem::from(malformed).of(id);
    let key = read_key(ask).map_err(told)?;
    key.validate().map_err(told)?;
    Ok((id, key))
}

fn read_key(ask: proto::CreateApiKeyRequest) -> Result<ApiKey, Malformed> {
    let scopes: Vec<Scope> = each("scopes", &ask.scopes)?;
    let accounts = match (ask.all_accounts, ask.accounts.is_empty()) {
        (true, true) => Accounts::All,
        (true, false) => {
            return Err(Malformed::new(
                "accounts",
                "do not go with all_accounts; give one of them",
            ));
        }
        (false, true) => {
            return Err(Malformed::new("accounts", "are missing; give some, or all_accounts"));
        }
        (false, false) => {
            Accounts::only(ask.accounts.into_iter().map(AccountId::new).collect::<Vec<_>>())?
        }
    };
    let limits = ask.limits.unwrap_or_default();
    Ok(ApiKey {
        name: ask.name.into(),
        generation: 1,
        verifier: [0; 32],
        scopes: scopes.into_iter().collect::<Scopes>(),
        accounts,
        networks: each("networks", &ask.networks)?.into(),
        limits: KeyLimits {
            requests_per_second: limits.requests_per_second,
            in_flight: limits.in_flight,
            open_holds: limits.open_holds,
            open_orders: limits.open_orders,
        },
        expires_at: ask.expires_at_us.map_or(Time::NEVER, Time::new),
    })
}

fn each<T: std::str::FromStr<Err = String>>(
    field: &str,
    texts: &[String],
) -> Result<Vec<T>, Malformed> {
    let one = |(index, text): (usize, &String)| {
        text.parse().map_err(|why: String| Malformed::new(format!("{field}[{index}]"), why))
    };
    texts.iter().enumerate().map(one).collect()
}

fn made(made: Made) -> proto::ApiKeyMade {
    let Made { receipt, key, token } = made;
    proto::ApiKeyMade {
        request_id: proto::id_bytes(receipt.request_id),
        commit_seq: receipt.commit_seq.get(),
        time_us: receipt.time.get(),
        key: Some(shown(&key, false)),
        token,
    }
}

fn standing(issued: &Issued) -> proto::ApiKey {
    shown(&issued.key, issued.revoked)
}

fn shown(key: &ApiKey, revoked: bool) -> proto::ApiKey {
    let KeyLimits { requests_per_second, in_flight, open_holds, open_orders } = key.limits;
    let (accounts, all_accounts) = match &key.accounts {
        Accounts::All => (Vec::new(), true),
        Accounts::Only(accounts) => (accounts.iter().map(|it| it.get()).collect(), false),
    };
    proto::ApiKey {
        name: key.name.as_ref().into(),
        generation: key.generation,
        state: if revoked { "revoked" } else { "standing" }.into(),
        scopes: key.scopes.iter().map(|scope| scope.name().into()).collect(),
        accounts,
        all_accounts,
        networks: key.networks.iter().map(ToString::to_string).collect(),
        limits: Some(proto::ApiKeyLimits {
            requests_per_second,
            in_flight,
            open_holds,
            open_orders,
        }),
        expires_at_us: (key.expires_at < Time::NEVER).then_some(key.expires_at.get()),
    }
}
