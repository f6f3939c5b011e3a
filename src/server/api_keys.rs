//! `/v1/api-keys`: who may ask for what. A secret is shown when it is made, and never again.
//!
//! A key's secret is derived from the server's master, so the request that creates or rotates a key can
//! be sent again: it is told the same token. Nobody else is.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::{Accounts, ApiKey, KeyLimits, Network, Scope, Scopes};
use crate::directory::Issued;
use crate::engine::Known;
use crate::error::{Malformed, Reject};
use crate::request::{Command, Outcome, Receipt, Request};
use crate::types::{AccountId, RequestId, Time};

use super::extract::{JsonBody, Key, State};
use super::json::{self, Object, Value, within};
use super::names::Names;
use super::openapi::schemas::{KeyAccounts, KeyScope, KeyState, Seq, Settled, Timestamp};
use super::problem::Problem;
use super::query::Param;
use super::receipt::{self, Answer, rfc_3339};
use super::state::{App, Asked, blocking};

/// A key as it is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct KeyBody {
    name: Box<str>,
    generation: u32,
    #[schema(value_type = KeyState)]
    state: &'static str,
    #[schema(value_type = Vec<KeyScope>)]
    scopes: Vec<&'static str>,
    #[schema(value_type = KeyAccounts)]
    accounts: AccountsBody,
    networks: Vec<String>,
    limits: LimitsBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Timestamp>)]
    expires_at: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AccountsBody {
    All(&'static str),
    Only(Box<[AccountId]>),
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApiKeyLimits)]
struct LimitsBody {
    requests_per_second: u32,
    in_flight: u32,
    open_holds: u32,
    open_orders: u32,
}

/// All keys.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKeys)]
pub(super) struct KeysBody {
    keys: Vec<KeyBody>,
}

/// What becomes of a key that is created or rotated.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKeyMade)]
pub struct MadeBody {
    #[schema(value_type = Settled)]
    status: &'static str,
    request_id: RequestId,
    #[schema(value_type = Seq)]
    commit_seq: String,
    #[schema(value_type = Timestamp)]
    time: String,
    #[serde(flatten)]
    key: KeyBody,
    token: String,
}

impl KeyBody {
    /// A key that stands, or does not any more.
    pub fn new(key: &ApiKey, revoked: bool) -> Self {
        let KeyLimits { requests_per_second, in_flight, open_holds, open_orders } = key.limits;
        Self {
            name: key.name.clone(),
            generation: key.generation,
            state: if revoked { "revoked" } else { "standing" },
            scopes: key.scopes.iter().map(Scope::name).collect(),
            accounts: match &key.accounts {
                Accounts::All => AccountsBody::All("all"),
                Accounts::Only(accounts) => AccountsBody::Only(accounts.clone()),
            },
            networks: key.networks.iter().map(Network::to_string).collect(),
            limits: LimitsBody { requests_per_second, in_flight, open_holds, open_orders },
            expires_at: (key.expires_at < Time::NEVER).then(|| rfc_3339(key.expires_at)),
        }
    }
}

impl MadeBody {
    /// What is told to whoever made it.
    pub fn new(receipt: &Receipt, key: &ApiKey, token: String) -> Self {
        Self {
            status: "settled",
            request_id: receipt.request_id,
            commit_seq: receipt.commit_seq.to_string(),
            time: rfc_3339(receipt.time),
            key: KeyBody::new(key, false),
            token,
        }
    }
}

/// A key that was created or rotated, and its token.
pub(super) struct Made {
    /// Of the request that did it.
    pub(super) receipt: Receipt,
    /// The key.
    pub(super) key: ApiKey,
    /// As a bearer shows it.
    pub(super) token: String,
}

impl IntoResponse for Made {
    fn into_response(self) -> Response {
        let Self { receipt, key, token } = self;
        receipt::json(StatusCode::OK, &MadeBody::new(&receipt, &key, token))
    }
}

/// `{request_id, name, scopes, accounts, networks?, limits?, expires_at?}` → the key and its token.
pub(super) async fn create(
    State(app): State<App>,
    key: Key,
    body: JsonBody,
) -> Result<Made, Problem> {
    let (id, asked) = app.counted("key", read(key, &body))?;
    create_as(app, id, asked).await
}

/// Makes that key.
///
/// # Errors
/// The first key has to be one with which the venue can be run; its name was used; or why else not.
pub(super) async fn create_as(app: App, id: RequestId, asked: ApiKey) -> Result<Made, Problem> {
    let is_first = app.engine().directory().keys_len() == 0;
    if let Err(malformed) = check_first(&asked, is_first) {
        return Err(Problem::from(malformed).of(id));
    }
    issue(app, id, move |known, app| {
        if let Some(first) = known
            && is_same_but_for_its_secret(&first, &asked)
        {
            return Ok(first);
        }
        match app.engine().directory().key_by_name(&asked.name) {
            None => Ok(asked),
            Some(_) => Err(taken(&asked.name)),
        }
    })
    .await
}

/// Says that the first key is one with which the venue can still be run: from then on everything
/// needs a key.
///
/// # Errors
/// It is not.
pub fn check_first(key: &ApiKey, is_first: bool) -> Result<(), Malformed> {
    if !is_first || key.scopes.has(Scope::Operate) && key.accounts == Accounts::All {
        return Ok(());
    }
    let why = "of the first key must have operate, and it must be for all accounts: from then on \
               everything needs a key, and somebody has to make the others";
    Err(Malformed::new("scopes", why))
}

fn is_same_but_for_its_secret(first: &ApiKey, asked: &ApiKey) -> bool {
    let (generation, verifier) = (first.generation, first.verifier);
    *first == ApiKey { generation, verifier, ..asked.clone() } && generation == asked.generation
}

fn taken(name: &str) -> Problem {
    let why = format!("API key {name} exists, or existed; names are not used twice");
    Problem::reject(&Reject::AlreadyExists(why), None).at("name")
}

/// `{request_id}` → the key with its next secret. The one before ends at once.
pub(super) async fn rotate(
    State(app): State<App>,
    Param(name): Param<String>,
    key: Key,
    body: JsonBody,
) -> Result<Made, Problem> {
    let id = app.counted("key", read_id(key, &body))?;
    rotate_as(app, id, name).await
}

/// Gives that key its next secret.
///
/// # Errors
/// `unknown_api_key`; or why else not.
pub(super) async fn rotate_as(app: App, id: RequestId, name: String) -> Result<Made, Problem> {
    issue(app, id, move |known, app| {
        if let Some(first) = known
            && *first.name == *name
            && first.generation > 1
        {
            return Ok(first);
        }
        let found = app.engine().directory().key_by_name(&name);
        let issued = found.ok_or_else(|| unknown(&name))?;
        let generation = issued.key.generation.checked_add(1);
        let worn = || Problem::malformed("name", "has had all generations that there are");
        Ok(ApiKey { generation: generation.ok_or_else(worn)?, ..(*issued.key).clone() })
    })
    .await
}

/// Makes the key that `make` says, which is told what key the request made when it came first.
async fn issue(
    app: App,
    id: RequestId,
    make: impl FnOnce(Option<ApiKey>, &App) -> Result<ApiKey, Problem> + Send + 'static,
) -> Result<Made, Problem> {
    let maker = app.clone();
    let made = blocking(move || {
        let known = match maker.engine().known(id)? {
            Known::Outcome(Outcome::Settled(Receipt { command: Command::PutKey(key), .. })) => {
                Some(*key)
            }
            Known::Outcome(_) | Known::Pending | Known::Unknown => None,
        };
        let key = make(known, &maker)?;
        Ok::<_, Problem>(maker.door().master()?.seal(key))
    });
    let of = |problem: Problem| problem.of(id);
    let (key, token) = made.await.and_then(|made| made).map_err(of)?;
    let request = Request::new(id, Command::PutKey(Box::new(key.clone())));
    let request = request.by(app.visitor().caller());
    let failed = |error| Problem::from(error).of(id);
    let pending = app.engine().submit(vec![request]).map_err(failed)?;
    match pending.answers().await.map_err(failed)?.outcome(0) {
        Outcome::Settled(receipt) => Ok(Made { receipt, key, token: token.reveal() }),
        Outcome::Rejected(refusal) => {
            Err(receipt::refused(&refusal, &Names::default(), app.engine().directory()))
        }
    }
}

/// `{request_id}` → the receipt: the key is of no use any more, from the next request on.
pub(super) async fn revoke(
    State(app): State<App>,
    Param(name): Param<String>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    let id = app.counted("key_revoke", read_id(key, &body))?;
    app.settle(revocation(id, name)).await
}

/// The request that revokes that key.
pub(super) fn revocation(id: RequestId, name: String) -> Asked {
    Asked::new(Request::new(id, Command::RevokeKey(name.into())), Names::default())
}

/// All keys, revoked ones included, in the order of their creation.
pub(super) async fn list(State(app): State<App>) -> Result<Response, Problem> {
    let keys = all(&app).await?.iter().map(shown).collect();
    Ok(receipt::json(StatusCode::OK, &KeysBody { keys }))
}

/// All keys, once all of them are durable.
///
/// # Errors
/// The engine has stopped.
pub(super) async fn all(app: &App) -> Result<Vec<Issued>, Problem> {
    let keys = app.engine().directory().keys();
    app.engine().directory_durable().await?;
    Ok(keys)
}

/// One key.
pub(super) async fn get(
    State(app): State<App>,
    Param(name): Param<String>,
) -> Result<Response, Problem> {
    Ok(receipt::json(StatusCode::OK, &shown(&one(&app, &name).await?)))
}

/// One key, once it is durable.
///
/// # Errors
/// `unknown_api_key`; the engine has stopped.
pub(super) async fn one(app: &App, name: &str) -> Result<Issued, Problem> {
    let found = app.engine().directory().key_by_name(name);
    app.engine().directory_durable().await?;
    found.ok_or_else(|| unknown(name))
}

fn shown(issued: &Issued) -> KeyBody {
    KeyBody::new(&issued.key, issued.revoked)
}

fn unknown(name: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::reject(&Reject::UnknownApiKey(name.into()), None).at("name")
}

fn read_id(key: Key, body: &JsonBody) -> Result<RequestId, Problem> {
    let mut object = body.object()?;
    let id = key.required(&mut object)?;
    object.finish().map_err(|malformed| Problem::from(malformed).of(id))?;
    Ok(id)
}

fn read(key: Key, body: &JsonBody) -> Result<(RequestId, ApiKey), Problem> {
    let mut object = body.object()?;
    let id = key.required(&mut object)?;
    let told = |malformed| Problem::from(malformed).of(id);
    let key = read_api_key(object).map_err(told)?;
    key.validate().map_err(told)?;
    Ok((id, key))
}

fn read_api_key(mut object: Object<'_>) -> Result<ApiKey, Malformed> {
    let name = object.required("name", json::text)?.into();
    let scopes = object.required("scopes", json::list)?;
    let scopes: Vec<Scope> = each("scopes", scopes, parsed)?;
    let accounts = object.required("accounts", accounts)?;
    let networks = object.optional("networks", json::list)?.unwrap_or_default();
    let networks: Vec<Network> = each("networks", networks, parsed)?;
    let limits = object.optional("limits", Object::of)?;
    let limits = limits.map(read_limits).transpose()?.unwrap_or_default();
    let expires_at = object.optional("expires_at", json::time)?.unwrap_or(Time::NEVER);
    object.finish()?;
    Ok(ApiKey {
        name,
        generation: 1,
        verifier: [0; 32],
        scopes: scopes.into_iter().collect::<Scopes>(),
        accounts: match accounts {
            None => Accounts::All,
            Some(numbers) => Accounts::only(numbers)?,
        },
        networks: networks.into(),
        limits,
        expires_at,
    })
}

/// `"all"`, which is `None`, or their numbers.
fn accounts(value: Value<'_>) -> Result<Option<Vec<AccountId>>, String> {
    if json::text(value).is_ok_and(|text| text == "all") {
        return Ok(None);
    }
    let numbers = json::list(value).map_err(|_| "is neither \"all\" nor a JSON array")?;
    let number = |value| json::number(value).map(AccountId::new);
    numbers.into_iter().map(number).collect::<Result<_, _>>().map(Some)
}

fn each<T>(
    name: &str,
    values: Vec<Value<'_>>,
    read: impl Fn(Value<'_>) -> Result<T, String>,
) -> Result<Vec<T>, Malformed> {
    let one =
        |(index, value)| read(value).map_err(|why| Malformed::new(format!("{name}[{index}]"), why));
    values.into_iter().enumerate().map(one).collect()
}

fn parsed<T: std::str::FromStr<Err = String>>(value: Value<'_>) -> Result<T, String> {
    json::text(value)?.parse()
}

fn read_limits(mut object: Object<'_>) -> Result<KeyLimits, Malformed> {
    let mut limit = |name| {
        let number = |value| {
            let number = json::number(value)?;
            u32::try_from(number).map_err(|_| format!("is above {}", u32::MAX))
        };
        let read = object.optional(name, number);
        read.map(Option::unwrap_or_default)
            .map_err(|malformed| within(format_args!("limits"), malformed))
    };
    let limits = KeyLimits {
        requests_per_second: limit("requests_per_second")?,
        in_flight: limit("in_flight")?,
        open_holds: limit("open_holds")?,
        open_orders: limit("open_orders")?,
    };
    object.finish().map_err(|malformed| within(format_args!("limits"), malformed))?;
    Ok(limits)
}
