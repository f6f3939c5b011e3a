//! `/v1/accounts` and `/v1/links`: who there is, and where each is paid.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::address::{Address, Link};
use crate::config::LINKS_PER_REQUEST_MAX;
use crate::directory::Directory;
use crate::error::{Malformed, Reject};
use crate::request::{Command, Request};
use crate::types::{AccountId, ChainId, ChainKind, RequestId};

use super::extract::{JsonBody, Key, State};
use super::json::{self, Object, Value, within};
use super::names::Names;
use super::openapi::schemas::Seq;
use super::problem::Problem;
use super::query::{Param, number};
use super::reads::{BalanceBody, balance_bodies};
use super::receipt::{self, Answer};
use super::sight;
use super::state::{App, Asked};

#[derive(Serialize, ToSchema)]
#[schema(as = Account)]
pub(super) struct AccountBody {
    account: AccountId,
    links: Vec<Link>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LinkedAccount)]
pub(super) struct LinkBody {
    account: AccountId,
    chain_id: ChainId,
    chain_kind: ChainKind,
    address: Address,
    #[schema(value_type = Seq)]
    seq: String,
    balances: Vec<BalanceBody>,
}

/// `{links: [{chain_id, address}]}` → the receipt: creates the account or adds links to it.
pub(super) async fn put(
    State(app): State<App>,
    Param(account): Param<String>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    let asked = app.counted("account", read_account(&account, &body, key, &app))?;
    app.settle(asked).await
}

fn read_account(text: &str, body: &JsonBody, key: Key, app: &App) -> Result<Asked, Problem> {
    let account = account_id(text)?;
    let mut object = body.object()?;
    let id = key.or_body(&mut object)?.unwrap_or_else(|| app.fresh_id());
    let values = object.optional("links", json::list)?.unwrap_or_default();
    object.finish()?;
    let links = read_links(values, app.engine().directory()).map_err(|problem| problem.of(id))?;
    Ok(asked(id, Command::PutAccount { account, links }))
}

/// `{chain_id, address}` → the receipt: adds one link, to an account that exists.
pub(super) async fn link(
    State(app): State<App>,
    Param(account): Param<String>,
    key: Key,
    body: JsonBody,
) -> Result<Answer, Problem> {
    let asked = app.counted("account", read_new_link(&account, &body, key, &app))?;
    app.settle(asked).await
}

fn read_new_link(text: &str, body: &JsonBody, key: Key, app: &App) -> Result<Asked, Problem> {
    let account = account_id(text)?;
    let mut object = body.object()?;
    let id = key.or_body(&mut object)?.unwrap_or_else(|| app.fresh_id());
    let directory = app.engine().directory();
    if !directory.has_account(account) {
        return Err(unknown_account(account).of(id));
    }
    let link = read_link(object, directory).map_err(|unread| unread.problem(None).of(id))?;
    Ok(asked(id, Command::PutAccount { account, links: vec![link] }))
}

/// Removes the account's link on a chain; removing what is not there is accepted.
pub(super) async fn unlink(
    State(app): State<App>,
    Param((account, chain)): Param<(String, String)>,
    Key(key): Key,
) -> Result<Answer, Problem> {
    let asked = app.counted("link", read_removal(&account, &chain, key?, &app))?;
    app.settle(asked).await
}

fn read_removal(
    account: &str,
    chain: &str,
    key: Option<RequestId>,
    app: &App,
) -> Result<Asked, Problem> {
    let account = account_id(account)?;
    let chain = ChainId::new(number("chain_id", chain)?);
    let id = key.unwrap_or_else(|| app.fresh_id());
    Ok(asked(id, Command::RemoveLink { account, chain }))
}

fn asked(id: RequestId, command: Command) -> Asked {
    Asked::new(Request::new(id, command), Names::default())
}

/// The account with its links.
pub(super) async fn get(
    State(app): State<App>,
    Param(account): Param<String>,
) -> Result<Response, Problem> {
    let account = account_id(&account)?;
    sight::check(app.visitor(), account)?;
    let links = app.engine().directory().links(account);
    app.engine().directory_durable().await?;
    let links = links.ok_or_else(|| unknown_account(account))?;
    Ok(receipt::json(StatusCode::OK, &AccountBody { account, links }))
}

/// The account behind an address, with its balances on that chain.
pub(super) async fn by_address(
    State(app): State<App>,
    Param((chain, address)): Param<(String, String)>,
) -> Result<Response, Problem> {
    let chain = ChainId::new(number("chain_id", &chain)?);
    let (found, link, chain_kind) = look_up(chain, &address, app.engine().directory())?;
    app.engine().directory_durable().await?;
    let found = found.filter(|account| app.visitor().may_see(*account));
    let account = found.ok_or_else(|| {
        Problem::new("unknown_link", format!("no account is linked to {} there", link.address))
    })?;
    let now = app.engine().balances(account).await?;
    let directory = app.engine().directory();
    let here = |asset| directory.chain(asset) == Some(chain);
    let balances = now.balances.iter().filter(|balance| here(balance.asset));
    let body = LinkBody {
        account,
        chain_id: chain,
        chain_kind,
        address: link.address,
        seq: now.seq.to_string(),
        balances: balance_bodies(balances, directory),
    };
    Ok(receipt::json(StatusCode::OK, &body))
}

fn look_up(
    chain: ChainId,
    address: &str,
    directory: &Directory,
) -> Result<(Option<AccountId>, Link, ChainKind), Problem> {
    let kind = directory
        .chain_kind(chain)
        .ok_or_else(|| Problem::reject(&Reject::UnknownChain(chain), None).at("chain_id"))?;
    let address =
        Address::parse(kind, address).map_err(|why| Problem::malformed("address", why))?;
    let link = Link { chain, address };
    Ok((directory.account_by_link(&link), link, kind))
}

/// An account in a path.
///
/// # Errors
/// It is not a number.
pub(super) fn account_id(text: &str) -> Result<AccountId, Problem> {
    Ok(AccountId::new(number("account", text)?))
}

/// The refusal of an account in a path.
pub(super) fn unknown_account(account: AccountId) -> Problem {
    Problem::reject(&Reject::UnknownAccount(account), None).at("account")
}

/// Why a link cannot be read: its form, or a chain whose form of address nobody knows.
enum Unread {
    Malformed(Malformed),
    UnknownChain(ChainId),
}

impl From<Malformed> for Unread {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Unread {
    /// The refusal; `index` is the link's place in a list.
    fn problem(self, index: Option<usize>) -> Problem {
        match (self, index) {
            (Self::Malformed(malformed), None) => malformed.into(),
            (Self::Malformed(malformed), Some(index)) => {
                within(format_args!("links[{index}]"), malformed).into()
            }
            (Self::UnknownChain(chain), index) => {
                let field = index.map_or("chain_id".into(), |at| format!("links[{at}].chain_id"));
                Problem::reject(&Reject::UnknownChain(chain), None).at(field)
            }
        }
    }
}

fn read_links(values: Vec<Value<'_>>, directory: &Directory) -> Result<Vec<Link>, Problem> {
    let found = values.len();
    if found > LINKS_PER_REQUEST_MAX {
        let why = format!("has {found} links; one request adds at most {LINKS_PER_REQUEST_MAX}");
        return Err(Problem::malformed("links", why));
    }
    let read = |(index, value)| {
        let object =
            Object::of(value).map_err(|why| Problem::malformed(format!("links[{index}]"), why))?;
        read_link(object, directory).map_err(|unread| unread.problem(Some(index)))
    };
    values.into_iter().enumerate().map(read).collect()
}

fn read_link(mut object: Object<'_>, directory: &Directory) -> Result<Link, Unread> {
    let chain = ChainId::new(object.required("chain_id", json::number)?);
    let text = object.required("address", json::text)?;
    object.finish()?;
    let kind = directory.chain_kind(chain).ok_or(Unread::UnknownChain(chain))?;
    let address = Address::parse(kind, &text).map_err(|why| Malformed::new("address", why))?;
    Ok(Link { chain, address })
}
